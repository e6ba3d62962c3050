/* SPDX-License-Identifier: Apache-2.0 */
/* check_priv.h - between check.c, which walks the trees, and check_refs.c, which compares and repairs counts. */
#ifndef BLK_QCOW2_CHECK_PRIV_H
#define BLK_QCOW2_CHECK_PRIV_H

#include "blk/qcow2/qcow2_priv.h"

enum { CHUNK_BITS = 16 };

struct chk {
	struct q2 *s;
	struct blk_check *out;
	unsigned fix, n_reports;
	uint32_t **chunks;              /* counts of 1 << CHUNK_BITS clusters each; NULL: all 0 */
	uint64_t n_clusters;            /* of the file */
	uint64_t next_data;             /* where the next cluster would not be a fragment */
	bool needs_rebuild;
};

/* A finding, in words. */
void chk_report(struct chk *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Count an error, a leak. True: FIX says to repair it. */
bool chk_error(struct chk *c);
bool chk_leak(struct chk *c);
/* References to CLUSTER that were found; one more to each cluster that [OFF, OFF+LEN) touches (1: it is
 * not in the file); to a table that cannot be repaired if it is not there. */
uint32_t chk_get(const struct chk *c, uint64_t cluster);
int chk_count(struct chk *c, uint64_t off, uint64_t len);
int chk_table(struct chk *c, const char *what, uint64_t off, uint64_t len);
/* Walk all that the header leads to, but for refcount blocks. */
int chk_count_all(struct chk *c);
void chk_forget_counts(struct chk *c);
/* check_refs.c: the refcount blocks themselves; compare; new ones. */
int chk_blocks(struct chk *c);
int chk_compare(struct chk *c);
int chk_rebuild(struct chk *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* ova_priv.h - between tar.c, ovf.c, read.c, write.c and node.c. */
#ifndef BLK_OVA_OVA_PRIV_H
#define BLK_OVA_OVA_PRIV_H

#include "blk/ova/ova.h"
#include "blk/ova/tar.h"
#include "util/checked.h"
#include "util/err.h"

enum { OVA_MEMBERS_MAX = 256, OVA_TEXT_MAX = 4 << 20 /* of descriptor and manifest */ };

/* --- ovf.c: the descriptor ------------------------------------------------------------------------------ */

/* Disks get what the descriptor says; where they are in the archive is looked for by the caller. */
int ovf_parse(const char *text, size_t len, const char *name, struct blk_ova_info *out, struct err *err);
/* The descriptor of M; the caller frees it. SIZES: of the files of its disks. NULL: no memory. */
char *ovf_make(const struct blk_ova_make *m, const uint64_t *sizes);

/* --- read.c ----------------------------------------------------------------------------------------------- */

struct ova_archive {
	struct tar_member members[OVA_MEMBERS_MAX];
	unsigned n_members;
	int ovf, mf;                    /* their places; MF -1: none */
	struct blk_ova_info info;
};
/* Into *A, which is large: on the heap. */
int ova_open(const struct ova_source *s, struct ova_archive *a, struct err *err);
/* Check all of the archive against its manifest. */
int ova_check(const struct ova_source *s, const struct ova_archive *a, struct err *err);

#endif

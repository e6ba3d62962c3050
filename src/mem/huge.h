/* SPDX-License-Identifier: Apache-2.0 */
/* huge.h - large pages of the host behind guest RAM: one entry of the processor's TLB for 2 MiB instead of 4 KiB.
 *
 * A host rarely gives large pages to a memfd by itself (/sys/kernel/mm/transparent_hugepage/shmem_enabled), and giving
 * them at the first touch would make a guest larger that touches little. So memory begins with small pages, and what
 * the guest has filled is collapsed later (madvise(2), MADV_COLLAPSE, Linux 6.1): a part of HUGE_SIZE of which nearly
 * all is there, each part once, a few at a time. Addresses and contents stay as they are, so nobody needs to know;
 * who touches such a page meanwhile waits for the host's kernel. The host's `deny` there turns it off. */
#ifndef MEM_HUGE_H
#define MEM_HUGE_H

#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;
struct gmem;
struct huge;

enum {
	HUGE_SIZE = 2 << 20,
	HUGE_MAX_HOLES = 16,            /* pages of 4 KiB that may be missing: how much a part can grow by */
};

/* Look after M, which outlives this. Nothing happens before huge_step() or huge_start(). 0 or -ENOMEM. */
int huge_new(struct huge **out, struct gmem *m, struct err *err);
/* Ends the thread. NULL is fine. */
void huge_free(struct huge *h);
DEFINE_AUTO(struct huge *, huge_free)

/* Look at some parts of memory, go on behind those next time, and collapse what is ripe. Returns for how many
 * milliseconds there is nothing to do then; 0: never again, for it cannot be done here. One thread. */
unsigned huge_step(struct huge *h);
/* How many parts have been collapsed. The same thread. */
uint64_t huge_count(const struct huge *h);

/* Hold: nothing is collapsed any more, nor being collapsed, when this returns; until it is let go again. Any thread. */
void huge_hold(struct huge *h, bool on);

/* Do that in a thread of its own. 0 or -errno. */
int huge_start(struct huge *h, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* lazy.h - guest RAM some of which comes while the guest runs.
 *
 * What is owed is not there: whoever touches it, by whatever instruction or system call, waits in the host's kernel until it has
 * been put in its place (userfaultfd(2)), and nobody else does. What is neither owed nor there is zero, and is made when it is touched.
 * The memory must be a memfd, and nothing but the mapping of gmem.h may be used to reach it. */
#ifndef MEM_LAZY_H
#define MEM_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;
struct gmem;
struct huge;
struct lazy;

/* A descriptor for lazy_new(); needs a right that the jail takes away. -EPERM and what to do about it, -ENOSYS. */
int lazy_open(struct err *err);
/* FD is taken, also on failure. H (or NULL) makes no large pages while the lazy is there. -ENOTSUP: not with such memory. */
int lazy_new(struct lazy **out, struct gmem *m, struct huge *h, int fd, struct err *err);
/* The last owed page is in its place, or nobody runs in M any more: what is touched is zero again. */
void lazy_free(struct lazy *l);
DEFINE_AUTO(struct lazy *, lazy_free)

/* Before lazy_start(): the pages whose bits are set in N words at WORDS, for the pages from FIRST * 64 on, are owed. -ERANGE. */
int lazy_owe(struct lazy *l, uint64_t first, const uint64_t *words, uint64_t n);
/* Nobody else touches memory yet: what is owed goes, and from now on it is waited for. */
int lazy_start(struct lazy *l, struct err *err);

/* What somebody waits for: 1, and *PAGE has not been told before; 0: nothing now. Waits for at most MS. One thread. What is
 * not owed is given here. */
int lazy_next(struct lazy *l, unsigned ms, uint64_t *page);
/* Pages from FROM on that were told and have not come; UINT64_MAX: no more. The same thread, or none. */
uint64_t lazy_waited(const struct lazy *l, uint64_t from);
/* LEN bytes at P are what belongs to OFF, multiples of 4 KiB within M; what is not owed there stays as it is. Any thread. */
int lazy_place(struct lazy *l, uint64_t off, const uint8_t *p, size_t len, struct err *err);
/* What is owed never comes, and nobody is to run with that memory: who waits for it waits no more and finds zeroes. Any thread. */
void lazy_give_up(struct lazy *l);
/* Pages that are owed. Any thread. */
uint64_t lazy_left(const struct lazy *l);
/* Word N (of 64 pages) of what is owed; while nobody calls lazy_place(). */
uint64_t lazy_word(const struct lazy *l, uint64_t n);

#endif

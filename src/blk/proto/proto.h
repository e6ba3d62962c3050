/* SPDX-License-Identifier: Apache-2.0 */
/* proto.h - protocols of disks elsewhere: for those who write one.
 *
 * A protocol is a struct blk_driver with BLK_DRIVER_PROTOCOL, in a plug-in of its own ("viv-blk-nbd.so") that is
 * loaded when an address of its kind is opened: the programs do not depend on its library. Its members:
 *  - co_open: blk_options.path is the address without its options, which are OPTS (of open_opts). Sets b->size,
 *    and if it needs to b->io_align, b->io_max, b->can_discard, b->block_size.
 *  - submit: blk_proto_submit, which makes of any request calls of the next ones, in a coroutine each:
 *  - co_preadv, co_pwritev get one piece of memory (v.iov[0], no skip) of at most b->io_max bytes, aligned to b->io_align
 *    and inside the size; -EIO and the like. co_pwritev NULL: only for reading.
 *  - co_flush, co_discard, co_zeroes (-ENOTSUP: zeroes are written), co_map as of formats. co_truncate: it can grow.
 * Whatever blocks (resolving names, connecting) runs through blk_co_call(), or it stops all disks. A library's events
 * come by blk_watch_add(); what its callbacks finish is collected (proto_done()) and woken when the library is left
 * (proto_wake()): code that runs in a callback could call back into it. */
#ifndef BLK_PROTO_PROTO_H
#define BLK_PROTO_PROTO_H

#include "blk/blk_ops.h"
#include "blk/url.h"

enum { BLK_PROTO_ABI = 1 };

/* What a plug-in exports under the name VIV_BLK_PLUGIN: of this tree and no other. */
struct blk_plugin {
	unsigned abi;                   /* BLK_PROTO_ABI */
	const char *version;            /* VIV_VERSION */
	const struct blk_driver *drv;
};
#define BLK_PLUGIN(driver_)                                                                             \
	extern const struct blk_plugin viv_blk_plugin;                                                  \
	const struct blk_plugin viv_blk_plugin = { BLK_PROTO_ABI, VIV_VERSION, &(driver_) }

void blk_proto_submit(struct blk *b, struct blk_req *r);

/* Open the address O->path (core: graph.c). */
int blk_proto_co_open(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err);
/* The protocols and whether their plug-ins are installed, in order; NULL ends. */
const char *blk_proto_scheme(unsigned i);
bool blk_proto_is_installed(unsigned i);

/* --- waiting for a library --------------------------------------------------------------------------- */

struct proto_wait {
	struct co *co;
	bool is_over;
	int64_t result;
	struct proto_wait *next;        /* among those that are over and not woken */
};

struct proto_ready { struct proto_wait *first; };

static inline struct proto_wait proto_wait_init(void)
{
	return (struct proto_wait){ .co = co_self() };
}

/* From a callback. */
static inline void proto_done(struct proto_ready *q, struct proto_wait *w, int64_t result)
{
	w->result = result;
	w->is_over = true;
	w->next = q->first;
	q->first = w;
}

/* Outside of the library and of coroutines. */
static inline void proto_wake(struct proto_ready *q)
{
	while (q->first) {
		struct proto_wait *w = q->first;

		q->first = w->next;
		co_wake(w->co);
	}
}

/* Yield until it is over. A call that ends at once leaves it in Q. */
static inline int64_t proto_wait(struct proto_ready *q, struct proto_wait *w)
{
	for (struct proto_wait **at = &q->first; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			return w->result;
		}
	}
	while (!w->is_over)
		co_yield();
	return w->result;
}

#endif

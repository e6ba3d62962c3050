/* SPDX-License-Identifier: Apache-2.0 */
/* blk.c - requests: check, find the way down, finish; and the ranges that keep them apart. */
#include "blk/core_priv.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/log.h"

uint64_t blk_size(const struct blk *b) { return b->size; }
bool blk_is_readonly(const struct blk *b) { return b->is_readonly && !blk_top(b)->is_inactive; }
unsigned blk_block_size(const struct blk *b) { return b->block_size; }
unsigned blk_cluster_size(const struct blk *b) { return b->cluster_size; }
bool blk_can_discard(const struct blk *b) { return b->can_discard; }
bool blk_is_zero_when_new(const struct blk *b) { return !(blk_top(b)->drv->flags & BLK_DRIVER_NOISE); }
bool blk_is_encrypted(const struct blk *b) { return blk_top(b)->luks; }
unsigned blk_in_flight(const struct blk *b) { return b->is_front ? blk_front_in_flight(b) : b->in_flight; }
const char *blk_format(const struct blk *b) { return blk_top(b)->drv->name; }
const char *blk_name(const struct blk *b) { return blk_top(b)->name; }
struct blk *blk_backing(const struct blk *b) { return blk_top(b)->backing; }

/* --- ranges --------------------------------------------------------------------------------- */

bool blk_range_is_blocked(const struct blk *b, uint64_t off, uint64_t len)
{
	for (const struct blk_range *r = b->ranges; r; r = r->next)
		if (r->is_exclusive && off < r->end && r->off < off + len)
			return true;
	return false;
}

static void range_append(struct blk *b, struct blk_range *r)
{
	struct blk_range **at = &b->ranges;

	while (*at)
		at = &(*at)->next;
	r->next = NULL;
	r->prev = at;
	*at = r;
}

/* An older range that R has to wait for, NULL: none. */
static struct blk_range *range_conflict(struct blk *b, struct blk_range *r)
{
	for (struct blk_range *o = b->ranges; o != r; o = o->next)
		if ((o->is_exclusive || r->is_exclusive) && o->off < r->end && r->off < o->end)
			return o;
	return NULL;
}

static struct blk_req *range_active(struct blk *b, const struct blk_range *r)
{
	for (struct blk_req *q = b->active; q; q = q->next)
		if (q->off < r->end && r->off < q->off + q->len)
			return q;
	return NULL;
}

void blk_range_lock(struct blk *b, struct blk_range *r, uint64_t off, uint64_t len, bool is_exclusive)
{
	struct blk_range *o;

	*r = (struct blk_range){ .off = off, .end = off + len < off ? UINT64_MAX : off + len,
				 .is_exclusive = is_exclusive };
	/* In the list from now on, so that what comes later waits for us: nobody starves. */
	range_append(b, r);
	while ((o = range_conflict(b, r)))
		co_queue_wait(&o->waiting);
	while (is_exclusive && range_active(b, r))
		co_queue_wait(&b->active_ends);
}

void blk_range_unlock(struct blk *b, struct blk_range *r)
{
	*r->prev = r->next;
	if (r->next)
		r->next->prev = r->prev;
	co_queue_wake_all(&r->waiting);
}

void blk_drain_begin(struct blk *b, struct blk_range *r)
{
	blk_range_lock(b, r, 0, UINT64_MAX, true);
}

void blk_drain_end(struct blk *b, struct blk_range *r)
{
	blk_range_unlock(b, r);
}

/* --- requests ------------------------------------------------------------------------------- */

static bool req_vector_fits(const struct blk_req *r)
{
	uint64_t sum = 0;

	for (int i = 0; i < r->n_iov; i++)
		if (!u64_add(sum, r->iov[i].iov_len, &sum))
			return false;
	return sum == r->len;
}

int blk_req_check(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_FLUSH)
		return 0;
	if (b->is_inactive)
		return -EBUSY;
	if (!range_fits(r->off, r->len, b->size) || (r->off | r->len) % BLK_SECTOR)
		return -EINVAL;
	if (r->op != BLK_READ && b->is_readonly)
		return -EROFS;
	if ((r->op == BLK_READ || r->op == BLK_WRITE) && !req_vector_fits(r))
		return -EINVAL;
	return 0;
}

static void req_track(struct blk *b, struct blk_req *r)
{
	r->is_tracked = true;
	r->prev = NULL;
	r->next = b->active;
	if (r->next)
		r->next->prev = r;
	b->active = r;
}

static void req_untrack(struct blk *b, struct blk_req *r)
{
	*(r->prev ? &r->prev->next : &b->active) = r->next;
	if (r->next)
		r->next->prev = r->prev;
	r->is_tracked = false;
	if (!co_queue_is_empty(&b->active_ends))
		co_queue_wake_all(&b->active_ends);
}

/* The node that can do R at once, for which R is set up; or NULL. Only the top node keeps books
 * of what passes, so nodes that can change under way end the walk. */
static struct blk *req_route(struct blk *b, struct blk_req *r)
{
	uint64_t off = r->off;
	struct blk *n = b;

	while (!n->drv->submit) {
		if (!n->drv->try_map || (n != b && !n->is_readonly && n->cluster_size) ||
		    (n->ranges && blk_range_is_blocked(n, off, r->len)) ||
		    (n != b && !range_fits(off, r->len, n->size)))
			return NULL;
		n = n->drv->try_map(n, r->op, off, r->len, &off);
		if (!n)
			return NULL;
	}
	r->at = n;
	r->at_off = off;
	return n;
}

/* The rest of R: from a coroutine. */
static void req_run(void *arg)
{
	struct blk_req *r = arg;
	struct blk *b = r->blk;
	struct blk_vec v = { .iov = r->iov, .n = r->n_iov };
	int result = blk_co_do(b, r->op, r->off, r->len, v, r->may_unmap);

	if (r->is_starting)
		blk_finish_later(b, r, result);
	else
		blk_finish(b, r, result);
}

void blk_submit(struct blk *b, struct blk_req *r)
{
	if (b->is_front) {
		blk_front_submit(b, r);
		return;
	}
	int bad = blk_req_check(b, r);
	bool is_nothing = r->op == BLK_FLUSH ? b->is_readonly :
			  !r->len || (r->op == BLK_DISCARD && !b->can_discard);

	r->blk = b;
	r->skip = 0;
	r->is_tracked = false;
	r->iov_is_exact = true;
	b->in_flight++;
	if (bad || is_nothing) {
		blk_finish_later(b, r, bad);
		return;
	}
	struct blk *fast = req_route(b, r);

	if (fast) {
		int now = fast->drv->now ? fast->drv->now(fast, r) : -EAGAIN;

		if (now != -EAGAIN) {
			blk_finish_later(b, r, now);
			return;
		}
		req_track(b, r);
		fast->drv->submit(fast, r);
		return;
	}
	r->is_starting = true;
	/* R may be over, and gone, when a coroutine has come back without waiting; that it is over is
	 * told later then. */
	int e = co_start(req_run, r);

	if (e < 0)
		blk_finish_later(b, r, e);
	r->is_starting = false;
}

/* What the guest sees as an I/O error, and where a person has to look; once, as the guest can
 * try for ever. */
static void req_complain(struct blk *b, const struct blk_req *r, int result)
{
	static const char *const ops[] = {
		[BLK_READ] = "reading", [BLK_WRITE] = "writing", [BLK_FLUSH] = "flushing",
		[BLK_DISCARD] = "discarding", [BLK_ZEROES] = "writing zeroes to",
	};

	if (b->has_complained)
		return;
	b->has_complained = true;
	if (result == -EPERM)
		log_error("%s disk '%s' at byte %" PRIu64 " refused: it would look like another format than raw; "
			  "open it with format=raw to allow that", ops[r->op], b->name, r->off);
	else
		log_error("%s disk '%s' at byte %" PRIu64 " failed: %s; the guest gets I/O errors", ops[r->op],
			  b->name, r->off, strerror(-result));
}

void blk_finish(struct blk *at, struct blk_req *r, int result)
{
	struct blk *b = r->blk;
	bool is_idle = false;

	if (b) {
		if (r->is_tracked)
			req_untrack(b, r);
		if (result < 0)
			req_complain(b, r, result);
		is_idle = !--b->in_flight && !co_queue_is_empty(&b->idle);
	}
	r->done(r, result);
	if (is_idle)                    /* who waits keeps B from being closed in DONE */
		co_queue_wake_all(&b->idle);
}

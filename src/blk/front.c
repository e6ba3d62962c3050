/* SPDX-License-Identifier: Apache-2.0 */
/* front.c - see front.h: the way of a request past drains, limits and guards. */
#include "blk/front.h"

#include <errno.h>
#include <stdlib.h>
#include "blk/core_priv.h"
#include "blk/job_priv.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

struct front_queue { struct blk_req *first, **tail; };

struct front {
	struct blk *b;
	unsigned n_drains;
	unsigned n_waiting;             /* requests in the queues */
	struct front_queue held;        /* until the drains end */
	struct front_queue limited[2];  /* reads, changes: until it is their turn */
	struct blk_limiter limiter;
	bool is_limited;
	unsigned turn;                  /* which of LIMITED is asked first */
	struct loop_timer timer;        /* when the next of LIMITED may go */
	struct blk_guard *guards;
	struct blk_job *job;            /* the one that works on the disk; NULL: none */
};

static struct front *front_of(const struct blk *b)
{
	return b->priv;
}

/* --- queues --------------------------------------------------------------------------------------- */

static void queue_init(struct front_queue *q)
{
	q->first = NULL;
	q->tail = &q->first;
}

static void queue_put(struct front *f, struct front_queue *q, struct blk_req *r)
{
	r->later = NULL;
	*q->tail = r;
	q->tail = &r->later;
	f->n_waiting++;
}

static struct blk_req *queue_take(struct front *f, struct front_queue *q)
{
	struct blk_req *r = q->first;

	if (!r)
		return NULL;
	q->first = r->later;
	if (!q->first)
		q->tail = &q->first;
	f->n_waiting--;
	return r;
}

/* --- changes under guard -------------------------------------------------------------------------- */

static int front_co_change(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, struct blk_vec v, bool may_unmap)
{
	struct front *f = front_of(b);
	struct blk_range range;

	/* Guards come and go only when no change is under way. */
	for (struct blk_guard *g = f->guards; g; g = g->next)
		if (g->before)
			g->before(g, off, len);
	blk_range_lock(b, &range, off, len, false);
	int r = blk_co_do(b->file, op, off, len, v, may_unmap);

	for (struct blk_guard *g = f->guards; g; g = g->next)
		if (g->after)
			g->after(g, op, off, len, v, r);
	blk_range_unlock(b, &range);
	return r;
}

static void front_run(void *arg)
{
	struct blk_req *r = arg;
	struct blk *b = r->blk;
	struct blk_vec v = { .iov = r->iov, .n = r->n_iov };
	int result = front_co_change(b, r->op, r->off, r->len, v, r->may_unmap);

	if (r->is_starting)
		blk_finish_later(b, r, result);
	else
		blk_finish(b, r, result);
}

/* R is a change, checked by nobody yet. */
static void front_submit_guarded(struct blk *b, struct blk_req *r)
{
	int bad = blk_req_check(b, r);

	r->blk = b;
	r->skip = 0;
	r->is_tracked = false;
	b->in_flight++;
	if (bad || !r->len || (r->op == BLK_DISCARD && !b->can_discard)) {
		blk_finish_later(b, r, bad);
		return;
	}
	r->is_starting = true;
	int e = co_start(front_run, r);

	if (e < 0)
		blk_finish_later(b, r, e);
	r->is_starting = false;
}

/* Nothing keeps R any more. */
static void front_go(struct blk *b, struct blk_req *r)
{
	if (front_of(b)->guards && r->op != BLK_READ && r->op != BLK_FLUSH)
		front_submit_guarded(b, r);
	else
		blk_submit(b->file, r);
}

/* --- limits --------------------------------------------------------------------------------------- */

static bool req_is_change(const struct blk_req *r)
{
	return r->op != BLK_READ;
}

static uint64_t req_bytes(const struct blk_req *r)
{
	return r->op == BLK_READ || r->op == BLK_WRITE ? r->len : 0;
}

/* Let go who may; reads and changes take turns. */
static void front_dispatch(struct front *f)
{
	uint64_t now = loop_now_ns(), wait[2] = { 0, 0 };
	struct blk_req *r;

	while (f->limited[0].first || f->limited[1].first) {
		bool is_other = false;

		for (unsigned i = 0; i < 2; i++)
			wait[i] = f->limited[i].first ? blk_limiter_wait_ns(&f->limiter, i, now) : UINT64_MAX;
		if (wait[f->turn])
			is_other = true;
		unsigned dir = f->turn ^ is_other;

		if (wait[dir])
			break;
		r = queue_take(f, &f->limited[dir]);
		f->turn = !dir;
		blk_limiter_take(&f->limiter, dir, req_bytes(r), now);
		front_go(f->b, r);
	}
	if (f->limited[0].first || f->limited[1].first)
		loop_timer_set(&f->timer, now + (wait[0] < wait[1] ? wait[0] : wait[1]));
}

static void front_turn(struct loop_timer *t)
{
	front_dispatch(container_of(t, struct front, timer));
}

static void front_submit_limited(struct blk *b, struct blk_req *r)
{
	struct front *f = front_of(b);
	bool waits = f->limited[0].first || f->limited[1].first;
	uint64_t now = loop_now_ns();

	if (!waits && !blk_limiter_wait_ns(&f->limiter, req_is_change(r), now)) {
		blk_limiter_take(&f->limiter, req_is_change(r), req_bytes(r), now);
		front_go(b, r);
		return;
	}
	/* The other direction may be free; this one's timer is set when the first of it comes. */
	bool was_empty = !f->limited[req_is_change(r)].first;

	queue_put(f, &f->limited[req_is_change(r)], r);
	if (was_empty)
		front_dispatch(f);
}

void blk_front_lift(struct blk *b)
{
	struct front *f = b->is_front ? front_of(b) : NULL;
	uint64_t now = loop_now_ns();
	struct blk_req *r;

	for (unsigned i = 0; f && i < 2; i++) {
		while ((r = queue_take(f, &f->limited[i]))) {
			blk_limiter_take(&f->limiter, i, req_bytes(r), now);
			front_go(b, r);
		}
	}
	if (f && b->ctx->loop)
		loop_timer_cancel(&f->timer);
}

int blk_front_set_limits(struct blk *b, const struct blk_limits *limits, struct err *err)
{
	struct front *f = front_of(b);
	int r = blk_limits_check(limits, err);

	if (r < 0)
		return r;
	if (!b->ctx->loop)
		return err_set(err, -ENOTSUP, "'%s' cannot be limited: nobody runs a loop for it", blk_name(b));
	blk_limiter_set(&f->limiter, limits, loop_now_ns());
	f->is_limited = blk_limits_is_any(limits);
	loop_timer_cancel(&f->timer);
	front_dispatch(f);
	return 0;
}

void blk_front_get_limits(const struct blk *b, struct blk_limits *out)
{
	*out = front_of(b)->limiter.limits;
}

/* --- requests ------------------------------------------------------------------------------------- */

void blk_front_submit(struct blk *b, struct blk_req *r)
{
	struct front *f = front_of(b);

	if (f->n_drains)
		queue_put(f, &f->held, r);
	else if (f->is_limited && r->op != BLK_FLUSH)
		front_submit_limited(b, r);
	else
		front_go(b, r);
}

unsigned blk_front_in_flight(const struct blk *b)
{
	return b->in_flight + b->file->in_flight + front_of(b)->n_waiting;
}

void blk_front_drain_begin(struct blk *b)
{
	front_of(b)->n_drains++;
	blk_front_lift(b);
	while (b->in_flight || b->file->in_flight)
		co_queue_wait(b->in_flight ? &b->idle : &b->file->idle);
}

void blk_front_drain_end(struct blk *b)
{
	struct front *f = front_of(b);
	struct blk_req *r = f->held.first, *next;

	if (--f->n_drains)
		return;
	/* What comes back is held by nobody; what is submitted meanwhile may be held again. */
	queue_init(&f->held);
	for (; r; r = next) {
		next = r->later;
		f->n_waiting--;
		blk_front_submit(b, r);
	}
}

/* --- the node ------------------------------------------------------------------------------------- */

void blk_front_resized(struct blk *b)
{
	const struct blk *top = b->file;

	b->size = top->size;
	b->block_size = top->block_size;
	b->cluster_size = top->cluster_size;
	b->can_discard = top->can_discard;
	b->is_readonly = top->is_readonly;
}

void blk_front_set_top(struct blk *b, struct blk *top)
{
	b->file = top;
	blk_front_resized(b);
}

void blk_front_guard(struct blk *b, struct blk_guard *g)
{
	g->next = front_of(b)->guards;
	front_of(b)->guards = g;
}

void blk_front_unguard(struct blk *b, struct blk_guard *g)
{
	for (struct blk_guard **at = &front_of(b)->guards; *at; at = &(*at)->next) {
		if (*at == g) {
			*at = g->next;
			return;
		}
	}
}

void blk_front_set_job(struct blk *b, struct blk_job *j)
{
	front_of(b)->job = j;
}

struct blk_job *blk_front_get_job(const struct blk *b)
{
	return front_of(b)->job;
}

bool blk_is_front(const struct blk *b)
{
	return b->is_front;
}

struct blk *blk_front_top(struct blk *b)
{
	return blk_top(b);
}

static int front_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return blk_co_preadv(b->file, off, len, v);
}

static int front_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return front_co_change(b, BLK_WRITE, off, len, v, false);
}

static int front_co_discard(struct blk *b, uint64_t off, uint64_t len)
{
	return front_co_change(b, BLK_DISCARD, off, len, (struct blk_vec){ .n = 0 }, false);
}

static int front_co_zeroes(struct blk *b, uint64_t off, uint64_t len, bool may_unmap)
{
	return front_co_change(b, BLK_ZEROES, off, len, (struct blk_vec){ .n = 0 }, may_unmap);
}

static void front_co_close(struct blk *b)
{
	if (b->ctx->loop)
		loop_timer_cancel(&front_of(b)->timer);
}

static const struct blk_driver blk_front = {
	.name = "front",
	.title = "what stands before a disk",
	.priv_size = sizeof(struct front),
	.co_preadv = front_co_preadv,
	.co_pwritev = front_co_pwritev,
	.co_discard = front_co_discard,
	.co_zeroes = front_co_zeroes,
	.co_close = front_co_close,
};

int blk_front_new(struct blk **out, struct blk *top, struct err *err)
{
	struct blk_options o = { .is_readonly = top->is_readonly };
	struct blk *b = NULL;
	int r = blk_node_new(&b, top->ctx, &blk_front, top->name, &o, err);

	if (r < 0)
		return r;
	struct front *f = front_of(b);

	f->b = b;
	b->is_front = true;
	b->is_open = true;
	queue_init(&f->held);
	queue_init(&f->limited[0]);
	queue_init(&f->limited[1]);
	if (b->ctx->loop)
		loop_timer_init(b->ctx->loop, &f->timer, front_turn);
	blk_front_set_top(b, top);
	*out = b;
	return 0;
}

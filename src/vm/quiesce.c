/* SPDX-License-Identifier: Apache-2.0 */
/* The steps: hold, then now and then, at last each millisecond: at rest? Flush all disks. What a guest believes to be on its disks must be
 * there when it continues elsewhere. */
#include "vm/quiesce.h"

#include <errno.h>
#include "util/checked.h"
#include "vm/machine_priv.h"

#define POLL_FIRST_NS 50000u            /* each time twice as long, to POLL_NS: most requests are short */
#define POLL_NS 1000000u
#define REST_NS (30 * 1000000000ull)    /* requests in flight longer than this: the host's disk is stuck */

static void quiesce_fail(struct quiesce *q, int code, const char *why)
{
	(void)quiesce_end(q);
	q->done(q, code, why);
}

static void quiesce_rested(struct quiesce *q)
{
	if (q->is_ahead) {
		q->is_ahead = false;
		q->done(q, 0, NULL);
		return;
	}
	if (q->flush_error) {
		quiesce_fail(q, q->flush_error, "a disk cannot be flushed");
		return;
	}
	machine_freeze(q->m);
	q->done(q, 0, NULL);
}

static void quiesce_flushed(struct blk_req *req, int result)
{
	struct quiesce *q = req->arg;

	if (result < 0)
		q->flush_error = result;
	if (--q->n_flushing)
		return;
	if (q->is_abandoned)
		q->abandoned(q);
	else
		quiesce_rested(q);
}

static void quiesce_flush(struct quiesce *q)
{
	struct machine *m = q->m;

	q->n_flushing = 1;      /* ours, so that the last answer cannot come before the last question */
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		if (blk_is_readonly(m->blk[i]))
			continue;
		q->flush[i] = (struct blk_req){ .op = BLK_FLUSH, .done = quiesce_flushed, .arg = q };
		q->n_flushing++;
		blk_submit(m->blk[i], &q->flush[i]);
	}
	if (!--q->n_flushing)
		quiesce_rested(q);
}

static void quiesce_look_again(struct quiesce *q)
{
	loop_timer_set(&q->poll, loop_now_ns() + q->poll_ns);
	q->poll_ns = 2 * q->poll_ns < POLL_NS ? 2 * q->poll_ns : POLL_NS;
}

static void quiesce_poll(struct loop_timer *t)
{
	struct quiesce *q = container_of(t, struct quiesce, poll);

	if (q->m->state == MACHINE_ENDED || q->m->state == MACHINE_STOPPED)
		quiesce_fail(q, -ECANCELED, "it has ended");
	else if (machine_is_at_rest(q->m))
		quiesce_flush(q);
	else if (loop_now_ns() - q->start_ns > REST_NS)
		quiesce_fail(q, -ETIMEDOUT, "disk requests in flight do not end");
	else
		quiesce_look_again(q);
}

void quiesce_prepare(struct quiesce *q, struct machine *m)
{
	q->m = m;
	q->is_ahead = true;
	loop_timer_init(m->loop, &q->poll, quiesce_poll);
	quiesce_flush(q);
}

void quiesce_start(struct quiesce *q, struct machine *m, enum machine_hold why)
{
	q->m = m;
	q->why = why;
	q->start_ns = loop_now_ns();
	q->flush_error = 0;
	q->is_held = true;
	q->poll_ns = POLL_FIRST_NS;
	loop_timer_init(m->loop, &q->poll, quiesce_poll);
	machine_hold(m, why);
	if (q->is_prompt)
		quiesce_poll(&q->poll);
	else
		loop_timer_set(&q->poll, loop_now_ns());
}

uint64_t quiesce_end(struct quiesce *q)
{
	if (!q->is_held)
		return 0;
	uint64_t still = loop_now_ns() - q->start_ns;

	q->is_held = false;
	loop_timer_cancel(&q->poll);
	machine_thaw(q->m);
	machine_release(q->m, q->why);
	return still;
}

void quiesce_abandon(struct quiesce *q, void (*gone)(struct quiesce *q))
{
	if (q->m)
		loop_timer_cancel(&q->poll);
	q->is_held = false;
	q->is_abandoned = true;
	q->abandoned = gone;
	if (!q->n_flushing)
		gone(q);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a save, each started by the one before:
 *
 *	hold, then each millisecond: at rest?      loop thread
 *	flush disks, collect sections, freeze      loop thread
 *	write memory and sections                  own thread
 *	thaw, release: the guest goes on           loop thread
 *	fsync                                      own thread
 *	tell, or end the machine                   loop thread */
#include "vm/save.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "blk/blk.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"

#define POLL_NS 1000000u
#define REST_NS (30 * 1000000000ull)    /* requests in flight longer than this: the host's disk is stuck */
#define COARSE_NS 10000000u             /* more than a tick of the clock that stamps files */

struct save {
	struct machine *m;
	struct save_options o;
	uint64_t start_ns;              /* of the pause, CLOCK_MONOTONIC */
	struct loop_timer poll;
	struct blk_req flush[CONFIG_DISKS_MAX];
	unsigned n_flushing;
	int flush_error;
	struct state_sections sections;
	pthread_t thread;
	bool has_thread;
	bool is_held;                   /* the guest stands still because of us */
	bool is_abandoned;              /* waits for the last answer of a disk, to be freed */
	struct state_progress progress;
	struct save_result result;
	struct err err;                 /* code 0: no error so far */
};

static void save_free(struct save *s)
{
	state_sections_fini(&s->sections);
	close(s->o.fd);
	free(s);
}

static void save_let_go(struct save *s)
{
	if (!s->is_held)
		return;
	s->is_held = false;
	s->result.pause_ns = loop_now_ns() - s->start_ns;
	machine_thaw(s->m);
	machine_release(s->m, MACHINE_HOLD_SAVE);
}

/* The end, good or bad. */
static void save_finish(struct save *s)
{
	struct machine *m = s->m;
	bool ends = s->o.ends_machine && !s->err.code;

	m->save = NULL;
	loop_timer_cancel(&s->poll);
	if (!ends)
		save_let_go(s);
	else
		s->result.pause_ns = loop_now_ns() - s->start_ns;
	s->o.done(s->o.arg, &s->result, s->err.code ? &s->err : NULL);
	if (ends)
		machine_quit(m, "saved");
	save_free(s);
}

static void save_fail(struct save *s, int code, const char *why)
{
	err_set(&s->err, code, "the machine is not saved: %s", why);
	save_finish(s);
}

/* --- the writing thread --- */

static void save_written(void *arg)
{
	struct save *s = arg;

	if (!s->o.ends_machine)
		save_let_go(s);
}

static void save_thread_done(void *arg)
{
	struct save *s = arg;

	pthread_join(s->thread, NULL);
	s->has_thread = false;
	s->result.memory = s->progress.memory;
	s->result.file = s->progress.file;
	save_finish(s);
}

/* Files get the time of the last tick: what a disk was when it was saved and a write right after would bear
 * the same one. */
static void save_wait_for_tick(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = COARSE_NS }, NULL);
}

static void *save_thread(void *arg)
{
	struct save *s = arg;
	struct loop *loop = s->m->loop;

	pthread_setname_np(pthread_self(), "save");
	uint64_t begin = loop_now_ns();
	int r = state_write(s->o.fd, s->m->mem, s->o.packing, &s->sections, &s->progress, &s->err);
	if (!r && s->m->cfg->n_disks && loop_now_ns() - begin < COARSE_NS)
		save_wait_for_tick();
	if (loop_call(loop, save_written, s) < 0 && !s->err.code)
		err_set(&s->err, -ENOMEM, "out of memory");
	if (!r && fsync(s->o.fd) < 0)
		err_set(&s->err, -errno, "cannot make saved state durable: %s", strerror(errno));
	while (loop_call(loop, save_thread_done, s) < 0)
		save_wait_for_tick();
	return NULL;
}

/* --- steps on the loop --- */

static void save_collect(struct save *s)
{
	struct machine *m = s->m;
	int r = machine_save_state(m, &s->sections, &s->err);

	if (r < 0) {
		save_finish(s);
		return;
	}
	machine_freeze(m);
	r = pthread_create(&s->thread, NULL, save_thread, s);
	s->has_thread = !r;
	if (r)
		save_fail(s, -r, "cannot start a thread");
}

static void save_flushed(struct blk_req *req, int result)
{
	struct save *s = req->arg;

	if (result < 0)
		s->flush_error = result;
	if (--s->n_flushing)
		return;
	if (s->is_abandoned)
		save_free(s);
	else if (s->flush_error)
		save_fail(s, s->flush_error, "a disk cannot be flushed");
	else
		save_collect(s);
}

/* What the saved guest believes to be on its disks must be there when it comes back. */
static void save_flush(struct save *s)
{
	struct machine *m = s->m;

	s->n_flushing = 1;      /* ours, so that the last answer cannot come before the last question */
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		if (blk_is_readonly(m->blk[i]))
			continue;
		s->flush[i] = (struct blk_req){ .op = BLK_FLUSH, .done = save_flushed, .arg = s };
		s->n_flushing++;
		blk_submit(m->blk[i], &s->flush[i]);
	}
	if (!--s->n_flushing)
		save_collect(s);
}

static void save_poll(struct loop_timer *t)
{
	struct save *s = container_of(t, struct save, poll);

	if (s->m->state == MACHINE_ENDED || s->m->state == MACHINE_STOPPED)
		save_fail(s, -ECANCELED, "it has ended");
	else if (machine_is_at_rest(s->m))
		save_flush(s);
	else if (loop_now_ns() - s->start_ns > REST_NS)
		save_fail(s, -ETIMEDOUT, "disk requests in flight do not end");
	else
		loop_timer_set(t, loop_now_ns() + POLL_NS);
}

/* --- entry --- */

static int save_check(const struct machine *m, const struct save_options *o, struct err *err)
{
	struct stat st;

	if (m->save)
		return err_set(err, -EBUSY, "the machine is being saved already");
	if (fstat(o->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size)
		return err_set(err, -EINVAL, "saved state needs an empty regular file");
	/* A job goes on writing to images while the guest stands still. */
	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		if (blk_job_check_idle(m->blk[i], err) < 0)
			return -EBUSY;
	return machine_can_save(m, err);
}

int save_start(struct machine *m, const struct save_options *o, struct err *err)
{
	int r = save_check(m, o, err);
	struct save *s = r < 0 ? NULL : calloc(1, sizeof(*s));

	if (r < 0)
		return r;
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->m = m;
	s->o = *o;
	s->start_ns = loop_now_ns();
	s->is_held = true;
	m->save = s;
	loop_timer_init(m->loop, &s->poll, save_poll);
	machine_hold(m, MACHINE_HOLD_SAVE);
	loop_timer_set(&s->poll, loop_now_ns());
	return 0;
}

void save_abandon(struct save *s)
{
	if (!s)
		return;
	atomic_store_explicit(&s->progress.is_cancelled, true, memory_order_relaxed);
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	loop_timer_cancel(&s->poll);
	s->m->save = NULL;
	s->is_abandoned = true;
	if (!s->n_flushing)
		save_free(s);
}

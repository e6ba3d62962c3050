/* SPDX-License-Identifier: Apache-2.0 */
/* job.c - the life of block jobs: starting several at once, pausing, slowing, telling, ending. */
#include "blk/job.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "blk/job_priv.h"
#include "util/checked.h"
#include "util/loop.h"

#define TELL_NS (500 * 1000000ull)      /* progress is told at most this often */
#define BREATH_NS (5 * 1000000ull)      /* the loop serves others at least this often */
enum { END_POLL_MS = 2 };               /* when several jobs are ended, each disk is looked at this long */

static const struct blk_job_ops *const kinds[] = {
	&blk_job_stream, &blk_job_commit, &blk_job_mirror, &blk_job_backup, &blk_job_overlay, &blk_job_resize,
	&blk_job_bitmap_add, &blk_job_bitmap_remove, &blk_job_bitmap_clear, &blk_job_snapshot_create,
	&blk_job_snapshot_delete,
};

/* --- telling -------------------------------------------------------------------------------------- */

void blk_job_get_info(const struct blk_job *j, struct blk_job_info *out)
{
	*out = (struct blk_job_info){
		.id = j->id, .kind = j->ops->kind, .front = j->front, .done = j->done, .total = j->total,
		.speed = j->speed.limits.v[BLK_LIMIT_BPS].rate, .is_paused = j->is_paused, .is_ready = j->is_ready,
		.is_blocking = j->is_blocking,
	};
}

static void job_tell(struct blk_job *j, enum blk_job_event ev, const struct err *why)
{
	struct blk_job_info info;

	blk_job_get_info(j, &info);
	if (j->jobs->tell && !j->jobs->is_ending)
		j->jobs->tell(j->jobs->arg, &info, ev, why);
}

void blk_job_progress(struct blk_job *j)
{
	uint64_t now = loop_now_ns();

	if (now - j->told_ns < TELL_NS)
		return;
	j->told_ns = now;
	job_tell(j, BLK_JOB_PROGRESS, NULL);
}

void blk_job_ready(struct blk_job *j)
{
	if (j->is_ready)
		return;
	j->is_ready = true;
	job_tell(j, BLK_JOB_READY, NULL);
	if (!j->args.stays_ready)
		j->must_complete = true;
}

/* --- waiting -------------------------------------------------------------------------------------- */

static void job_timer(struct loop_timer *t)
{
	struct blk_job *j = container_of(t, struct blk_job, timer);

	co_queue_wake_all(&j->changed);
}

void blk_job_wait(struct blk_job *j)
{
	co_queue_wait(&j->changed);
}

void blk_job_wake(struct blk_job *j)
{
	co_queue_wake_all(&j->changed);
}

static void job_sleep(struct blk_job *j, uint64_t until_ns)
{
	if (!j->timer.deadline_ns || until_ns < j->timer.deadline_ns)
		loop_timer_set(&j->timer, until_ns);
	blk_job_wait(j);
}

int blk_job_checkpoint(struct blk_job *j, uint64_t bytes)
{
	for (;;) {
		uint64_t now = loop_now_ns(), wait;

		if (j->must_cancel)
			return -ECANCELED;
		if (j->is_paused) {
			blk_job_wait(j);
			continue;
		}
		if (now - j->breath_ns > BREATH_NS) {
			j->breath_ns = now;
			job_sleep(j, now);
			continue;
		}
		wait = blk_limiter_wait_ns(&j->speed, true, now);
		if (!wait) {
			blk_limiter_take(&j->speed, true, bytes, now);
			return 0;
		}
		job_sleep(j, now + wait);
	}
}

void blk_job_pace(struct blk_job *j, uint64_t bytes)
{
	uint64_t now = loop_now_ns(), wait;

	while ((wait = blk_limiter_wait_ns(&j->speed, true, now)) && !j->must_cancel && !j->must_complete) {
		job_sleep(j, now + wait);
		now = loop_now_ns();
	}
	blk_limiter_take(&j->speed, true, bytes, now);
	j->done += bytes;
	j->total += bytes;
	blk_job_progress(j);
}

/* --- what a person asks --------------------------------------------------------------------------- */

struct blk_job *blk_job_find(const struct blk_jobs *jobs, const char *id, struct err *err)
{
	for (struct blk_job *j = jobs->first; j; j = j->next)
		if (!strcmp(j->id, id))
			return j;
	err_set(err, -ENOENT, "there is no job '%.64s'", id);
	return NULL;
}

struct blk_job *blk_job_next(const struct blk_job *j)
{
	return j->next;
}

void blk_job_pause(struct blk_job *j, bool is_paused)
{
	if (j->is_paused == is_paused)
		return;
	j->is_paused = is_paused;
	job_tell(j, is_paused ? BLK_JOB_PAUSED : BLK_JOB_RESUMED, NULL);
	blk_job_wake(j);
}

void blk_job_set_speed(struct blk_job *j, uint64_t speed)
{
	struct blk_limits l = { .v[BLK_LIMIT_BPS] = { .rate = speed } };

	blk_limiter_set(&j->speed, &l, loop_now_ns());
	blk_job_wake(j);
}

int blk_job_set_mode(struct blk_job *j, enum blk_job_mode mode, struct err *err)
{
	if (!j->follows)
		return err_set(err, -ENOTSUP, "job '%s' does not follow what is written", j->id);
	j->args.mode = mode;
	j->is_blocking = mode == BLK_MODE_BLOCKING;
	return 0;
}

void blk_job_cancel(struct blk_job *j)
{
	j->must_cancel = true;
	blk_job_wake(j);
}

int blk_job_complete(struct blk_job *j, bool keeps_source, struct err *err)
{
	if (!j->follows)
		return err_set(err, -ENOTSUP, "job '%s' ends by itself", j->id);
	if (!j->is_ready)
		return err_set(err, -EAGAIN, "job '%s' is not ready: the target has not all of the disk yet", j->id);
	j->keeps_source |= keeps_source;
	j->must_complete = true;
	j->is_paused = false;
	blk_job_wake(j);
	return 0;
}

int blk_job_check_idle(const struct blk *front, struct err *err)
{
	const struct blk_job *j = blk_front_get_job(front);

	const char *id = j && *j->id ? j->id : "being started";

	return j ? err_set(err, -EBUSY, "disk '%s' has a job, '%s'", blk_name(front), id) : 0;
}

/* --- life ----------------------------------------------------------------------------------------- */

/* What A points to may be gone soon. */
static const char *args_copy(struct blk_job *j, const char *text)
{
	if (!text)
		return NULL;
	char *copy = j->n_strings < ARRAY_LEN(j->strings) ? strdup(text) : NULL;

	j->lacks_memory |= !copy;
	if (copy)
		j->strings[j->n_strings++] = copy;
	return copy;
}

static int image_copy(struct blk_job *j, struct blk_job_image *i, struct err *err)
{
	i->path = args_copy(j, i->path);
	i->format = args_copy(j, i->format);
	i->backing = args_copy(j, i->backing);
	i->backing_format = args_copy(j, i->backing_format);
	if (i->fd < 0)
		return 0;
	i->fd = fcntl(i->fd, F_DUPFD_CLOEXEC, 0);
	return i->fd < 0 ? err_set(err, -errno, "cannot keep the descriptor of '%s': %s", i->path, strerror(errno)) : 0;
}

static void job_free(struct blk_job *j)
{
	loop_timer_cancel(&j->timer);
	if (blk_front_get_job(j->front) == j)
		blk_front_set_job(j->front, NULL);
	for (unsigned i = 0; i < j->n_strings; i++)
		free(j->strings[i]);
	if (j->args.target.fd >= 0)
		close(j->args.target.fd);
	if (j->args.overlay.fd >= 0)
		close(j->args.overlay.fd);
	free(j);
}

static bool id_is_fine(const char *id)
{
	size_t n = strlen(id);

	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)id[i]) || (unsigned char)id[i] > 0x7e)
			return false;
	return n && n <= BLK_JOB_ID_MAX;
}

static int job_check(const struct blk_jobs *jobs, const struct blk_job_ops *ops, const struct blk_job_args *a,
		     struct err *err)
{
	if (!ops)
		return err_set(err, -EINVAL, "there is no kind of job '%s'", a->kind);
	if (!ops->is_moment && !id_is_fine(a->id))
		return err_set(err, -EINVAL, "the id of a job has 1 to %d printable ASCII characters and no space",
			       BLK_JOB_ID_MAX);
	if (!ops->is_moment && blk_job_find(jobs, a->id, NULL))
		return err_set(err, -EEXIST, "there is a job '%s' already", a->id);
	if (!a->front->ctx->loop)
		return err_set(err, -ENOTSUP, "nobody runs a loop for disk '%s'", blk_name(a->front));
	return blk_job_check_idle(a->front, err);
}

static int job_new(struct blk_job **out, struct blk_jobs *jobs, const struct blk_job_args *a, struct err *err)
{
	const struct blk_job_ops *ops = NULL;

	for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
		if (!strcmp(kinds[i]->kind, a->kind))
			ops = kinds[i];
	int r = job_check(jobs, ops, a, err);

	if (r < 0)
		return r;
	struct blk_job *j = calloc(1, ops->size);

	if (!j)
		return err_set(err, -ENOMEM, "out of memory");
	j->ops = ops;
	j->jobs = jobs;
	j->front = a->front;
	j->args = *a;
	j->is_blocking = a->mode == BLK_MODE_BLOCKING;
	j->keeps_source = a->keeps_source;
	if (!ops->is_moment)
		strcpy(j->id, a->id);
	loop_timer_init(a->front->ctx->loop, &j->timer, job_timer);
	blk_job_set_speed(j, a->speed);
	j->args.base = args_copy(j, a->base);
	j->args.top = args_copy(j, a->top);
	j->args.backing = args_copy(j, a->backing);
	j->args.bitmap = args_copy(j, a->bitmap);
	j->args.snapshot = args_copy(j, a->snapshot);
	r = image_copy(j, &j->args.target, err);
	if (r < 0)
		j->args.overlay.fd = -1;
	else
		r = image_copy(j, &j->args.overlay, err);
	if (!r && j->lacks_memory)
		r = err_set(err, -ENOMEM, "out of memory");
	blk_front_set_job(j->front, j);
	if (r < 0)
		job_free(j);
	else
		*out = j;
	return r;
}

static void job_forget(struct blk_job *j)
{
	struct blk_job **at = &j->jobs->first;

	while (*at && *at != j)
		at = &(*at)->next;
	if (*at)
		*at = j->next;
}

/* Coroutine: from the instant on. */
static void job_main(void *arg)
{
	struct blk_job *j = arg;
	struct blk *front = j->front;
	struct err err = ERR_INIT;

	job_tell(j, BLK_JOB_STARTED, NULL);
	int r = j->ops->run(j, &err);

	blk_front_drain_begin(front);
	if (!r && j->ops->finish)
		r = j->ops->finish(j, &err);
	j->ops->release(j, r);
	job_forget(j);
	blk_front_set_job(front, NULL);
	if (r < 0 && r != -ECANCELED && !err.code)
		err_set(&err, r, "%s", strerror(-r));
	/* Told before the guest goes on: what it writes now may be in another image than before, and whoever keeps the
	 * books must know that whenever this process dies. */
	job_tell(j, !r ? BLK_JOB_COMPLETED : r == -ECANCELED ? BLK_JOB_CANCELLED : BLK_JOB_FAILED,
		 r < 0 && err.code ? &err : NULL);
	blk_front_drain_end(front);
	job_free(j);
}

/* --- starting several ----------------------------------------------------------------------------- */

struct jobs_start {
	struct blk_job *job[BLK_JOBS_AT_ONCE];
	unsigned n;
	void (*started)(void *arg, const struct err *err);
	void *arg;
};

static int start_co_begin(struct jobs_start *s, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; i < s->n; i++)
		blk_front_drain_begin(s->job[i]->front);
	for (unsigned i = 0; !r && i < s->n; i++) {
		s->job[i]->has_begun = true;
		if (s->job[i]->ops->begin)
			r = s->job[i]->ops->begin(s->job[i], err);
	}
	for (unsigned i = 0; !r && i < s->n; i++)
		if (s->job[i]->ops->begun)
			s->job[i]->ops->begun(s->job[i]);
	for (unsigned i = 0; i < s->n; i++)
		if (r || s->job[i]->ops->is_moment)
			s->job[i]->ops->release(s->job[i], r);
	for (unsigned i = 0; i < s->n; i++)
		blk_front_drain_end(s->job[i]->front);
	return r;
}

static void start_drop(struct jobs_start *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		job_forget(s->job[i]);
		job_free(s->job[i]);
	}
	s->n = 0;
}

static void start_main(void *arg)
{
	struct jobs_start *s = arg;
	struct err err = ERR_INIT;
	unsigned n_prepared = 0;
	int r = 0;

	while (!r && n_prepared < s->n) {
		struct blk_job *j = s->job[n_prepared++];

		r = j->must_cancel ? err_set(&err, -ECANCELED, "job '%s' was cancelled", j->id) : 0;
		if (!r)
			r = j->ops->prepare(j, &err);
	}
	for (unsigned i = 0; r && i < n_prepared; i++)
		s->job[i]->ops->release(s->job[i], r);
	if (!r)
		r = start_co_begin(s, &err);
	const struct blk_jobs *jobs = s->job[0]->jobs;

	if (r || s->job[0]->ops->is_moment)
		start_drop(s);
	if (r && !err.code)
		err_set(&err, r, "%s", strerror(-r));
	if (!jobs->is_ending)
		s->started(s->arg, r ? &err : NULL);
	for (unsigned i = 0; !r && i < s->n; i++) {
		struct blk_job *j = s->job[i];

		if (co_start(job_main, j) < 0)
			job_main(j);    /* no stack to be had: one after the other, on ours */
	}
	free(s);
}

int blk_jobs_start(struct blk_jobs *jobs, const struct blk_job_args *a, unsigned n,
		   void (*started)(void *arg, const struct err *err), void *arg, struct err *err)
{
	struct jobs_start *s = calloc(1, sizeof(*s));
	int r = s ? 0 : err_set(err, -ENOMEM, "out of memory");

	if (!r && (!n || n > BLK_JOBS_AT_ONCE))
		r = err_set(err, -E2BIG, "1 to %d jobs can begin at once", BLK_JOBS_AT_ONCE);
	for (unsigned i = 0; !r && i < n; i++) {
		r = job_new(&s->job[i], jobs, &a[i], err);
		if (r < 0)
			break;
		s->n++;
		s->job[i]->next = jobs->first;
		jobs->first = s->job[i];
	}
	if (!r) {
		s->started = started;
		s->arg = arg;
		r = co_start(start_main, s);
		if (!r)
			return 0;
		err_set(err, r, "out of memory");
	}
	if (s)
		start_drop(s);
	free(s);
	return r;
}

static bool job_is_there(const struct blk_jobs *jobs, const struct blk_job *j)
{
	const struct blk_job *at = jobs->first;

	while (at && at != j)
		at = at->next;
	return at;
}

void blk_jobs_end(struct blk_jobs *jobs)
{
	jobs->is_ending = true;
	for (struct blk_job *j = jobs->first; j; j = j->next) {
		j->must_cancel = true;
		/* A server that says nothing is not waited for: nobody looks after timers any more. */
		if (j->args.target.is_socket)
			shutdown(j->args.target.fd, SHUT_RDWR);
	}
	/* Each waits for its own disk, or for another that begins with it. */
	for (struct blk_job *j = jobs->first, *next; jobs->first; j = next) {
		bool is_only = !jobs->first->next;

		next = j->next ? j->next : jobs->first;
		if (!co_queue_is_empty(&j->changed))
			blk_job_wake(j);
		else
			blk_ctx_poll(j->front->ctx, is_only ? -1 : END_POLL_MS);
		/* Any of them may be gone now. */
		if (!job_is_there(jobs, next))
			next = jobs->first;
	}
}

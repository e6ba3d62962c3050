/* SPDX-License-Identifier: Apache-2.0 */
/* The steps of a save, each started by the one before:
 *
 *	make a key, if there is a passphrase       own thread
 *	stand still (quiesce.c), collect sections  loop thread
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
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/quiesce.h"
#include "vm/state_seal.h"

#define COARSE_NS 10000000u             /* more than a tick of the clock that stamps files */

struct save {
	struct machine *m;
	struct save_options o;
	struct quiesce quiesce;
	struct state_sections sections;
	struct state_seal *seal;        /* NULL: not encrypted */
	pthread_t thread;
	bool has_thread;
	struct state_progress progress;
	struct save_result result;
	struct err err;                 /* code 0: no error so far */
};

static void save_free(struct save *s)
{
	state_sections_fini(&s->sections);
	state_seal_free(s->seal);
	blk_secret_wipe(&s->o.secret);
	close(s->o.fd);
	free(s);
}

static void save_let_go(struct save *s)
{
	uint64_t still = quiesce_end(&s->quiesce);

	if (still)
		s->result.pause_ns = still;
}

/* The end, good or bad. */
static void save_finish(struct save *s)
{
	struct machine *m = s->m;
	bool ends = s->o.ends_machine && !s->err.code;

	m->save = NULL;
	/* While nothing of the guest is under way. */
	if (s->err.code)
		machine_drop_snapshots(m);
	machine_forget_snapshots(m);
	if (!ends)
		save_let_go(s);
	else
		s->result.pause_ns = loop_now_ns() - s->quiesce.start_ns;
	s->o.done(s->o.arg, &s->result, s->err.code ? &s->err : NULL);
	if (ends)
		machine_quit(m, "saved");
	else
		machine_tell_ready(m);
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
	int r = state_write(s->o.fd, s->m->mem, s->o.packing, s->seal, &s->sections, &s->progress, &s->err);
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
	int r = s->o.snapshot ? machine_snapshot_disks(m, s->o.snapshot, &s->err) : 0;

	if (!r)
		r = machine_save_state(m, &s->sections, &s->err);

	if (r < 0) {
		save_finish(s);
		return;
	}
	r = pthread_create(&s->thread, NULL, save_thread, s);
	s->has_thread = !r;
	if (r)
		save_fail(s, -r, "cannot start a thread");
}

static void save_quiesced(struct quiesce *q, int code, const char *why)
{
	struct save *s = container_of(q, struct save, quiesce);

	if (code)
		save_fail(s, code, why);
	else
		save_collect(s);
}

static void save_begin(struct save *s)
{
	gmem_read_ahead(s->m->mem);     /* all of it is about to be read */
	quiesce_start(&s->quiesce, s->m, MACHINE_HOLD_SAVE);
}

/* --- the key --- */

static void save_key_done(void *arg)
{
	struct save *s = arg;

	pthread_join(s->thread, NULL);
	s->has_thread = false;
	blk_secret_wipe(&s->o.secret);
	if (s->seal)
		save_begin(s);
	else
		save_finish(s);
}

static void *save_key_thread(void *arg)
{
	struct save *s = arg;

	pthread_setname_np(pthread_self(), "save-key");
	state_seal_new(&s->seal, &s->o.secret, NULL, &s->err);
	while (loop_call(s->m->loop, save_key_done, s) < 0)
		save_wait_for_tick();
	return NULL;
}

static int save_start_key(struct save *s, struct err *err)
{
	int r = pthread_create(&s->thread, NULL, save_key_thread, s);

	s->has_thread = !r;
	return r ? err_set(err, -r, "the machine is not saved: cannot start a thread") : 0;
}

/* --- entry --- */

static int save_check(const struct machine *m, const struct save_options *o, struct err *err)
{
	struct stat st;

	if (m->save || m->migration)
		return err_set(err, -EBUSY, "the machine is being %s already", m->save ? "saved" : "migrated");
	if (fstat(o->fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size)
		return err_set(err, -EINVAL, "saved state needs an empty regular file");
	/* A job goes on writing to images while the guest stands still. */
	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		if (blk_job_check_idle(m->blk[i], err) < 0)
			return -EBUSY;
	if (o->snapshot && machine_check_snapshot(m, o->snapshot, err) < 0)
		return err->code;
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
	s->quiesce.done = save_quiesced;
	if (o->secret.len && save_start_key(s, err) < 0) {
		free(s);                /* what was not taken is the caller's */
		return err->code;
	}
	m->save = s;
	if (!s->has_thread)
		save_begin(s);
	return 0;
}

static void save_gone(struct quiesce *q)
{
	save_free(container_of(q, struct save, quiesce));
}

void save_abandon(struct save *s)
{
	if (!s)
		return;
	atomic_store_explicit(&s->progress.is_cancelled, true, memory_order_relaxed);
	if (s->has_thread)
		pthread_join(s->thread, NULL);
	s->m->save = NULL;
	machine_drop_snapshots(s->m);
	quiesce_abandon(&s->quiesce, save_gone);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The source of a migration. The thread follows the protocol from top to bottom (migration_talk()); what touches the
 * machine is a step on the loop thread. How it ends is decided on the loop thread, by migrate_end.c. */
#include <errno.h>
#include <string.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/log.h"
#include "util/prompt.h"
#include "vm/handover.h"
#include "vm/migrate_post.h"
#include "vm/migrate_priv.h"

bool migration_decide(struct migration *g, enum migration_fate to)
{
	enum migration_fate was = MIGRATION_OPEN;

	return atomic_compare_exchange_strong(&g->fate, &was, to) || was == to;
}

bool migration_is_committed(const struct migration *g)
{
	return atomic_load(&g->fate) == MIGRATION_COMMITTED;
}

static void migration_mark(struct migration *g, enum migration_moment now)
{
	g->moment_ns[now] = loop_now_ns();
}

/* --- steps on the loop thread --- */

static void step_log_start(void *arg)
{
	struct migration *g = arg;
	struct err err = ERR_INIT;

	g->is_logging = machine_log_start(g->m, &err) == 0;
	atomic_store(&g->phase, MIGRATION_MEMORY);
	migrate_report(g);
	migrate_step_done(&g->steps, err.code ? &err : NULL);
}

static void disks_begun(void *arg, const struct err *err)
{
	struct migration *g = arg;

	migrate_step_done(&g->steps, err);
}

static void step_copy_disks(void *arg)
{
	struct migration *g = arg;

	atomic_store(&g->phase, MIGRATION_DISKS);
	migrate_report(g);
	migrate_disks_start(&g->disks, atomic_load(&g->bandwidth), disks_begun, g);
}

static void step_follow_disks(void *arg)
{
	struct migration *g = arg;

	migrate_disks_follow(&g->disks);
	migrate_step_done(&g->steps, NULL);
}

static void step_stop_disks(void *arg)
{
	struct migration *g = arg;

	migrate_disks_stop(&g->disks);
	migrate_step_done(&g->steps, NULL);
}

/* A job stands on images that are about to change hands. */
static int check_jobs(const struct machine *m, struct err *err)
{
	return m->jobs.first ? err_set(err, -EBUSY, "a job works on the machine's disks; wait for its end or cancel it ('jobs')") : 0;
}

/* Those that go along stay ours: the other side has its own. */
static int deactivate_disks(struct migration *g, struct err *err)
{
	struct machine *m = g->m;
	int r = check_jobs(m, err);

	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++)
		r = migrate_disks_has(&g->disks, i) ? 0 : blk_deactivate(m->blk[i], err);
	return r;
}

/* It stands still, and disks that go along are at the other side. */
static void step_save(void *arg)
{
	struct migration *g = arg;
	struct migrate_saved told = { .is_paused = (g->m->holds & MACHINE_HOLD_USER) != 0 };
	struct err err = ERR_INIT;

	migration_mark(g, MOMENT_STOPPED);
	(void)deactivate_disks(g, &err);
	if (!err.code)
		(void)machine_save_state(g->m, &g->sections, &err);
	if (!err.code)
		state_sections_add_fields(&g->sections, MIGRATE_TAG, &migrate_saved_desc, &told);
	if (!err.code && g->sections.is_broken)
		err_set(&err, -ENOMEM, "out of memory for saved state");
	migrate_note_disks(g);
	g->has_locks = migrate_has_locks(g);
	migration_mark(g, MOMENT_SAVED);
	migrate_step_done(&g->steps, err.code ? &err : NULL);
}

/* Disks that go along are to be there before the state is saved, and that takes the thread. */
static void quiesced(struct quiesce *q, int code, const char *why)
{
	struct migration *g = container_of(q, struct migration, quiesce);
	struct err err = ERR_INIT;

	if (code)
		err_set(&err, code, "%s", why);
	if (!err.code && !g->disks.n) {
		step_save(g);
		return;
	}
	if (!err.code)
		(void)migrate_disks_complete(&g->disks, &err);
	migrate_step_done(&g->steps, err.code ? &err : NULL);
}

static void step_stand_still(void *arg)
{
	struct migration *g = arg;

	thread_be_prompt(true);
	throttle_set(&g->throttle, 0);
	atomic_store(&g->phase, MIGRATION_HANDOVER);
	migrate_report(g);
	g->quiesce.done = quiesced;
	g->quiesce.is_prompt = true;
	quiesce_start(&g->quiesce, g->m, MACHINE_HOLD_MIGRATION);
}

static int migration_commit(struct migration *g, struct err *err)
{
	return migration_decide(g, MIGRATION_COMMITTED) ? 0 : err_set(err, -ECANCELED, "the migration was cancelled");
}

/* The last moment to think better of it. */
static void step_commit(void *arg)
{
	struct migration *g = arg;
	struct err err = ERR_INIT;

	(void)migration_commit(g, &err);
	for (unsigned i = 0; !err.code && i < g->m->cfg->n_disks; i++)
		blk_release(g->m->blk[i]);      /* but those that are active */
	migrate_step_done(&g->steps, err.code ? &err : NULL);
}

/* It runs there. */
void migrate_step_post(void *arg)
{
	struct migration *g = arg;

	atomic_store(&g->phase, MIGRATION_POSTCOPY);
	migrate_report(g);
	migrate_step_done(&g->steps, NULL);
}

static int migration_step(struct migration *g, void (*fn)(void *arg), struct err *err)
{
	return migrate_step(&g->steps, fn, g, err);
}

/* --- the protocol --- */

/* Both processes have it mapped. */
static bool migration_shares_memory(const struct migration *g)
{
	return g->o.hands && g->o.hands->memory >= 0;
}

static int migration_announce(struct migration *g, struct err *err)
{
	struct migrate_record rec;
	struct migrate_hello theirs;
	int r = migrate_hello(&g->link, true, g->m->mem->size, 0, &g->life, &theirs, err);

	if (r < 0)
		return r;
	if (!migrate_peer_is_own(&g->link, g->m->user)) {
		auto_fd(&g->life);
		g->life = -1;
	}
	r = migrate_lanes_join(&g->lanes, (g->o.may_postcopy ? MIGRATE_PLAN_POSTCOPY : 0) | (g->disks.n ? MIGRATE_PLAN_DISKS : 0), err);
	if (!r && g->disks.n)
		r = migrate_disks_announce(&g->disks, &g->lanes, &g->link, err);
	if (!r)
		r = migrate_send(&g->link, MIGRATE_MACHINE, g->identity.buf, g->identity.len, NULL, 0, err);
	if (!r && g->o.hands)
		r = handover_send(&g->link, g->o.hands, err);
	return r ? r : migrate_recv(&g->link, MIGRATE_BIT(MIGRATE_BUILT), &rec, err);
}

/* The guest stands still: send the rest of its memory, or say what will come later. */
static int migration_last_round(struct migration *g, bool is_post, struct err *err)
{
	int r = 0;

	migrate_sender_set_bandwidth(&g->lanes.sender, 0);
	atomic_store(&g->lanes.sender.is_cut, false);
	if (!migration_shares_memory(g)) {              /* besides what was fetched before and not sent */
		(void)migrate_sender_take_more(&g->lanes.sender);
		r = is_post ? migrate_post_take(g, err) : migrate_lanes_round(&g->lanes, false, err);
	}
	if (!r)
		r = migrate_lanes_end(&g->lanes, err);
	if (!r && is_post)
		r = migrate_post_announce(g, err);
	return r || !is_post ? r : migrate_post_serve(g, err);
}

static int migration_send_rest(struct migration *g, bool is_post, struct err *err)
{
	uint64_t before = atomic_load(&g->lanes.sender.pages_sent);
	int r = migration_last_round(g, is_post, err);

	g->pages_in_pause = atomic_load(&g->lanes.sender.pages_sent) - before;
	if (!r)
		r = migrate_send(&g->link, MIGRATE_STATE, g->sections.buf, g->sections.len, NULL, 0, err);
	if (!r)
		migration_mark(g, MOMENT_SENT);
	return r;
}

/* Until the other side has what there is of disks; from then on what is written goes to both. */
static int migration_copy_disks(struct migration *g, struct err *err)
{
	int r = migration_step(g, step_copy_disks, err);

	if (!r)
		r = migrate_disks_wait_ready(&g->disks, &g->link, err);
	return r ? r : migration_step(g, step_follow_disks, err);
}

/* The copies end before anybody goes on; a machine that runs elsewhere has none. */
static void migration_stop_disks(struct migration *g)
{
	struct err err = ERR_INIT;

	if (g->disks.n && !migration_step(g, step_stop_disks, &err))
		migrate_disks_wait_gone(&g->disks);
}

static int migration_hand_over(struct migration *g, bool is_post, struct err *err)
{
	struct migrate_record rec;
	int r = migration_step(g, step_stand_still, err);

	if (!r && g->disks.n) {
		r = migrate_disks_wait_complete(&g->disks, &g->link, err);
		if (!r)
			r = migration_step(g, step_save, err);
	}
	if (!r)
		r = migration_send_rest(g, is_post, err);
	if (!r)
		r = migrate_recv(&g->link, MIGRATE_BIT(MIGRATE_READY), &rec, err);
	if (!r)
		migration_mark(g, MOMENT_READY);
	if (!r)
		r = g->has_locks ? migration_step(g, step_commit, err) : migration_commit(g, err);
	if (!r)
		r = migrate_send(&g->link, MIGRATE_COMMIT, NULL, 0, NULL, 0, err);
	if (!r)
		r = migrate_recv(&g->link, MIGRATE_BIT(MIGRATE_DONE), &rec, err);
	if (!r)
		atomic_store(&g->done_ns, loop_now_ns());
	return r;
}

static int migration_talk(struct migration *g, struct err *err)
{
	int r = migration_announce(g, err);

	if (!r && g->disks.n)
		r = migration_copy_disks(g, err);
	if (!r && !migration_shares_memory(g))
		r = migration_step(g, step_log_start, err);
	if (!r && !migration_shares_memory(g))
		r = migrate_rounds(g, err);
	bool is_post = r > 0;
	if (r >= 0)
		r = migration_hand_over(g, is_post, err);
	if (!r && is_post)
		r = migration_step(g, migrate_step_post, err);
	return r || !is_post ? r : migrate_post_push(g, err);
}

/* Everything else broke because the copy of a disk did: that is the reason. */
static void migration_disk_failed(struct migration *g)
{
	struct err why = migrate_disks_why(&g->disks);

	if (g->err.code == -ECANCELED && !migration_is_committed(g) && why.code)
		g->err = why;
}

static void *migration_thread(void *arg)
{
	struct migration *g = arg;

	pthread_setname_np(pthread_self(), "migrate");
	thread_be_prompt(true);
	int r = migration_talk(g, &g->err);

	migrate_post_end(g);
	/* Whatever broke when the connections were cut, as that of a job which was just being started. */
	if (r < 0 && atomic_load(&g->fate) == MIGRATION_CANCELLED)
		err_set(&g->err, -ECANCELED, "the migration was cancelled");
	migration_disk_failed(g);
	if (r < 0 && !migration_is_committed(g))
		migrate_recv_why(&g->link, &g->err);
	if (r < 0 && !migration_is_committed(g) && g->err.code != -EREMOTEIO)
		migrate_send_fail(&g->link, &g->err);
	migration_stop_disks(g);
	while (loop_call(g->m->loop, migrate_ended, g) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return NULL;
}

/* --- entry --- */

static int migration_check(const struct machine *m, struct err *err)
{
	if (m->save || m->migration)
		return err_set(err, -EBUSY, "the machine is being %s already", m->save ? "saved" : "migrated");
	if (atomic_load(&m->mem->is_logging))
		return err_set(err, -ENOTSUP, "engine '%s' needs the log of written memory for itself", m->ops->name);
	int r = check_jobs(m, err);
	return r ? r : machine_can_save(m, err);
}

int migration_start(struct machine *m, const struct migrate_options *o, struct err *err)
{
	int r = migration_check(m, err);
	AUTO(migration_free) struct migration *g = r < 0 ? NULL : calloc(1, sizeof(*g));
	unsigned n_lanes = o->n_fds - migrate_disks_count(o->disks);

	if (r < 0)
		return r;
	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	g->m = m;
	g->o = *o;
	g->start_ns = loop_now_ns();
	g->life = -1;
	migrate_steps_init(&g->steps, m->loop);
	throttle_init(&g->throttle, m);
	migrate_link_init(&g->link, -1);
	atomic_store(&g->bandwidth, o->bandwidth);
	atomic_store(&g->pause_ns, o->pause_ns);
	atomic_store(&g->throttle_max, o->throttle_max);
	atomic_store(&g->may_throttle, o->may_throttle);
	r = migrate_lanes_init(&g->lanes, &(struct migrate_lanes_config){
		.mem = m->mem, .first = &g->link, .packing = o->packing, .bandwidth = o->bandwidth, .n = n_lanes,
	}, err);
	if (!r)
		r = migrate_disks_init(&g->disks, m, o->disks, err);
	if (!r)
		r = machine_save_identity(m, &g->identity, err);
	if (!r && g->identity.is_broken)
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		g->o.hands = NULL;
		return r;
	}
	gmem_read_ahead(m->mem);        /* all of it is about to be read */
	g->link.fd = o->fd[0];
	migrate_lanes_take(&g->lanes, o->fd + 1);
	migrate_disks_take(&g->disks, o->fd + n_lanes);
	if (o->hands && o->hands->memory < 0)
		g->o.hands->memory = m->mem->fd;
	r = pthread_create(&g->thread, NULL, migration_thread, g);
	if (r) {
		int none[MIGRATE_SOCKETS_MAX];

		memset(none, -1, sizeof(none));
		g->link.fd = -1;
		migrate_lanes_take(&g->lanes, none);
		migrate_disks_take(&g->disks, none);
		g->o.hands = NULL;
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	}
	g->has_thread = true;
	m->migration = take_ptr(&g);
	return 0;
}

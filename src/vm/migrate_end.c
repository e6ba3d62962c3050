/* SPDX-License-Identifier: Apache-2.0 */
/* How a migration ends at its source, and who runs the machine then. docs/formats/migration.md has the argument:
 * before COMMIT the source does, whatever happens. After COMMIT the destination does, unless it is certain that it
 * does not: because it said so, because its process has ended, or because the locks of the disks say it. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/log.h"
#include "util/prompt.h"
#include "vm/handover.h"
#include "vm/migrate_priv.h"

enum { LIFE_MS = 500 };         /* a busy host takes its time over a process that ends */

static const struct field migrate_saved_fields[] = {
	FIELD(struct migrate_saved, is_paused, 1),
};
const struct state_desc migrate_saved_desc = {
	.name = "migration", .version = 1, .size = sizeof(struct migrate_saved),
	.n_fields = ARRAY_LEN(migrate_saved_fields), .fields = migrate_saved_fields,
};

void migration_free(struct migration *g)
{
	migrate_steps_fini(&g->steps);
	migrate_link_fini(&g->link);
	auto_fd(&g->life);
	migrate_lanes_fini(&g->lanes);
	migrate_disks_fini(&g->disks);
	free((void *)g->owed);
	state_sections_fini(&g->identity);
	state_sections_fini(&g->sections);
	if (g->o.hands)
		handed_fini(g->o.hands);
	free(g->o.hands);
	free(g);
}

/* --- disks --- */

static struct migrate_disk disk_now(const struct machine *m, unsigned i)
{
	struct stat st = { 0 };

	(void)blk_fstat(m->blk[i], &st);     /* what has no file has no time */
	return (struct migrate_disk){ st.st_size, st.st_mtim.tv_sec, st.st_mtim.tv_nsec };
}

void migrate_note_disks(struct migration *g)
{
	for (unsigned i = 0; i < g->m->cfg->n_disks; i++)
		g->disk[i] = disk_now(g->m, i);
}

static bool migrate_disks_changed(const struct migration *g)
{
	for (unsigned i = 0; i < g->m->cfg->n_disks; i++) {
		struct migrate_disk now = disk_now(g->m, i);

		if (!blk_is_readonly(g->m->blk[i]) && !migrate_disks_has(&g->disks, i) && memcmp(&now, &g->disk[i], sizeof(now)))
			return true;
	}
	return false;
}

bool migrate_has_locks(const struct migration *g)
{
	for (unsigned i = 0; i < g->m->cfg->n_disks; i++) {
		if (!blk_is_readonly(g->m->blk[i]) && !migrate_disks_has(&g->disks, i))
			return true;
	}
	return false;
}

/* In the order in which the other side takes them: who gets the first gets all. */
static int migrate_take_disks(struct migration *g, bool must_be_same, struct err *err)
{
	bool have_changed = must_be_same && migrate_disks_changed(g);
	unsigned n = 0;
	int r = 0;

	while (!r && n < g->m->cfg->n_disks) {
		r = blk_activate(g->m->blk[n], err);
		n += !r;
	}
	if (!r && have_changed)
		r = err_set(err, -ESTALE, "a disk has been written since it was handed over");
	while (r < 0 && n-- > 0) {
		(void)blk_deactivate(g->m->blk[n], NULL);
		blk_release(g->m->blk[n]);
	}
	return r;
}

/* --- the three ends --- */

void migrate_report(struct migration *g)
{
	if (g->o.progress && g->o.done)
		g->o.progress(g->o.arg);
}

/* From one moment to the next; 0: it did not come to that. */
static uint64_t part_ns(uint64_t from, uint64_t to)
{
	return from && to > from ? to - from : 0;
}

static struct migrate_pause migrate_pause_of(const struct migration *g)
{
	const uint64_t *at = g->moment_ns;

	return (struct migrate_pause){
		.stop_ns = part_ns(g->quiesce.start_ns, at[MOMENT_STOPPED]), .state_ns = part_ns(at[MOMENT_STOPPED], at[MOMENT_SAVED]),
		.memory_ns = part_ns(at[MOMENT_SAVED], at[MOMENT_SENT]), .load_ns = part_ns(at[MOMENT_SENT], at[MOMENT_READY]),
		.start_ns = part_ns(at[MOMENT_READY], atomic_load(&g->done_ns)),
		.memory = g->pages_in_pause << GMEM_PAGE_SHIFT,
	};
}

static void migrate_tell(struct migration *g, const struct err *err)
{
	struct migrate_progress p;
	uint64_t until = atomic_load(&g->done_ns) ? atomic_load(&g->done_ns) : loop_now_ns();
	uint64_t still = g->quiesce.start_ns ? until - g->quiesce.start_ns : 0;

	migration_get_progress(g->m, &p);
	p.so_far.pause_ns = still;
	p.so_far.pause = migrate_pause_of(g);
	if (g->o.done)
		g->o.done(g->o.arg, &p.so_far, err);
	g->o.done = NULL;
}

static void migrate_gone(struct migration *g, const char *why)
{
	struct machine *m = g->m;

	if (why)
		log_warn("%s", why);
	migrate_tell(g, NULL);
	m->migration = NULL;
	m->is_handed_over = g->o.hands != NULL;
	machine_quit(m, "migrated");
	migration_free(g);
}

/* The disks are ours. */
static void migrate_go_on(struct migration *g, const struct err *err)
{
	struct machine *m = g->m;

	thread_be_prompt(false);
	vcpus_be_prompt(m->vcpus, false);
	throttle_set(&g->throttle, 0);
	if (g->is_logging)
		machine_log_stop(m);
	migrate_tell(g, err);
	m->migration = NULL;
	(void)quiesce_end(&g->quiesce);
	migration_free(g);
	machine_tell_ready(m);
}

static void migrate_doubt(struct migration *g, const struct err *why)
{
	struct err err = ERR_INIT;

	atomic_store(&g->phase, MIGRATION_IN_DOUBT);
	err_set(&err, -EINPROGRESS, "the machine was handed over, but the other side did not confirm it: %s. It stands still here; "
		"look whether it runs there: then 'quit' this one, else 'resume' it", why->msg);
	log_error("%s", err.msg);
	migrate_tell(g, &err);
}

/* It runs at the other side, and needs memory that is here. */
static void migrate_cut_off(struct migration *g, const struct err *why)
{
	struct err err = ERR_INIT;

	atomic_store(&g->phase, MIGRATION_CUT);
	err_set(&err, -EINPROGRESS, "the machine runs at the other side, and the connection broke before it had all of its memory: %s. It waits for "
		"the rest: 'migrate-recover ADDRESS' goes on. Who ends this process, or that one, loses the machine", why->msg);
	log_error("%s", err.msg);
	migrate_report(g);
	migrate_tell(g, &err);
}

/* --- which one --- */

/* The connection is closed. A process that ends may close the pipe a moment after. */
static bool migrate_has_ended(const struct migration *g)
{
	struct pollfd p = { .fd = g->life };

	return g->life >= 0 && (g->err.code == -EPIPE || g->err.code == -ECONNRESET) && poll(&p, 1, LIFE_MS) > 0 && p.revents & POLLHUP;
}

/* After COMMIT, without DONE. */
static void migrate_decide(struct migration *g)
{
	bool has_ended = g->err.code == -EREMOTEIO || migrate_has_ended(g);
	struct err why = ERR_INIT;

	if (!has_ended && !migrate_has_locks(g)) {
		migrate_doubt(g, &g->err);
		return;
	}
	/* One that says itself that it did not start has not written what a guest wrote. */
	int r = migrate_take_disks(g, g->err.code != -EREMOTEIO, &why);
	if (!r)
		migrate_go_on(g, &g->err);
	else if (r == -EBUSY && !has_ended && g->owed)
		migrate_cut_off(g, &g->err);
	else if (r == -EBUSY && !has_ended)
		migrate_gone(g, "the other side has taken the disks without saying so: it runs there");
	else
		migrate_doubt(g, &why);
}

void migrate_ended(void *arg)
{
	struct migration *g = arg;
	struct err why = ERR_INIT;

	pthread_join(g->thread, NULL);
	g->has_thread = false;
	if (!g->err.code)
		migrate_gone(g, NULL);
	else if (atomic_load(&g->done_ns) || atomic_load(&g->phase) == MIGRATION_CUT)
		migrate_cut_off(g, &g->err);
	else if (atomic_load(&g->phase) == MIGRATION_IN_DOUBT)
		migrate_doubt(g, &g->err);
	else if (migration_is_committed(g))
		migrate_decide(g);
	else if (migrate_take_disks(g, false, &why) < 0)
		migrate_doubt(g, &why);
	else
		migrate_go_on(g, &g->err);
}

int migration_resume(struct machine *m, struct err *err)
{
	struct migration *g = m->migration;

	if (g && (g->phase == MIGRATION_POSTCOPY || g->phase == MIGRATION_CUT))
		return err_set(err, -EBUSY, "the machine runs at the other side");
	if (!g || g->phase != MIGRATION_IN_DOUBT || g->has_thread)
		return 0;
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		int r = blk_activate(m->blk[i], err);

		if (r < 0)
			return err_wrap(err, r, "the machine runs elsewhere");
	}
	migrate_go_on(g, NULL);
	return 0;
}

void migrate_cut(struct migration *g)
{
	migrate_disks_cancel(&g->disks);
	migrate_link_cancel(&g->link);
	migrate_lanes_cancel(&g->lanes);
}

bool migration_job_told(struct machine *m, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why)
{
	struct migration *g = m->migration;
	uint64_t more = 0;

	if (!g || !migrate_disks_told(&g->disks, info, ev, why, &more))
		return false;
	if (atomic_load(&g->phase) == MIGRATION_MEMORY)
		migrate_sender_spend(&g->lanes.sender, more);
	if (ev == BLK_JOB_READY)
		migrate_disks_set_bandwidth(&g->disks, atomic_load(&g->bandwidth));
	if (ev == BLK_JOB_PROGRESS)
		migrate_report(g);
	if (migrate_disks_why(&g->disks).code && migration_decide(g, MIGRATION_CANCELLED))
		migrate_cut(g);
	return true;
}

int migration_cancel(struct machine *m, struct err *err)
{
	struct migration *g = m->migration;

	if (!g)
		return err_set(err, -ENOENT, "the machine is not being migrated");
	if (!migration_decide(g, MIGRATION_CANCELLED))
		return err_set(err, -EALREADY, "the machine has been handed over already");
	migrate_cut(g);
	return 0;
}

int migration_start_postcopy(struct machine *m, struct err *err)
{
	struct migration *g = m->migration;

	if (!g)
		return err_set(err, -ENOENT, "the machine is not being migrated");
	if (!g->o.may_postcopy)
		return err_set(err, -ENOTSUP, "this migration began without 'postcopy=on'");
	if (atomic_load(&g->phase) >= MIGRATION_HANDOVER)
		return err_set(err, -EALREADY, "the machine is being handed over already");
	atomic_store(&g->wants_post, true);
	atomic_store(&g->lanes.sender.is_cut, true);
	return 0;
}

int migration_change(struct machine *m, const struct migrate_changes *c, struct err *err)
{
	struct migration *g = m->migration;

	if (!g)
		return err_set(err, -ENOENT, "the machine is not being migrated");
	enum migration_phase phase = atomic_load(&g->phase);

	if (migration_is_committed(g) && phase != MIGRATION_POSTCOPY && phase != MIGRATION_CUT)
		return err_set(err, -EALREADY, "the machine has been handed over already");
	if (c->has_bandwidth)
		atomic_store(&g->bandwidth, c->bandwidth);
	if (c->has_bandwidth && phase != MIGRATION_HANDOVER)    /* the pause has no limit */
		migrate_sender_set_bandwidth(&g->lanes.sender, c->bandwidth);
	if (c->has_bandwidth && phase < MIGRATION_HANDOVER)
		migrate_disks_set_bandwidth(&g->disks, c->bandwidth);
	if (c->has_pause)
		atomic_store(&g->pause_ns, c->pause_ns);
	if (c->has_throttle)
		atomic_store(&g->may_throttle, c->may_throttle);
	if (c->has_throttle_max)
		atomic_store(&g->throttle_max, c->throttle_max);
	return 0;
}

bool migration_will_end(const struct machine *m)
{
	return m->migration && atomic_load(&m->migration->phase) < MIGRATION_IN_DOUBT;
}

static void migration_gone(struct quiesce *q)
{
	migration_free(container_of(q, struct migration, quiesce));
}

void migration_abandon(struct machine *m)
{
	struct migration *g = m->migration;

	if (!g)
		return;
	m->migration = NULL;
	throttle_set(&g->throttle, 0);
	(void)migration_decide(g, MIGRATION_CANCELLED);
	migrate_cut(g);
	migrate_disks_abandon(&g->disks);
	migrate_steps_end(&g->steps);
	if (g->has_thread)
		pthread_join(g->thread, NULL);
	quiesce_abandon(&g->quiesce, migration_gone);
}

void migration_get_progress(const struct machine *m, struct migrate_progress *out)
{
	static const char *const names[MIGRATION_N_PHASES] = { "connecting", "disks", "memory", "handover", "in doubt", "post-copy", "cut off" };
	const struct migration *g = m->migration;

	*out = (struct migrate_progress){ .phase = "none" };
	if (!g && m->lazy) {
		out->phase = atomic_load(&m->is_cut_off) ? "cut off" : "post-copy";
		out->left = lazy_left(m->lazy) << GMEM_PAGE_SHIFT;
	}
	if (!g)
		return;
	out->phase = names[atomic_load(&g->phase)];
	out->left = (g->owed ? atomic_load(&g->n_owed) : atomic_load(&g->lanes.sender.pages_left)) << GMEM_PAGE_SHIFT;
	out->bandwidth = atomic_load(&g->bandwidth);
	out->pause_ns = atomic_load(&g->pause_ns);
	out->streams = g->lanes.n;
	out->throttle = g->throttle.percent;
	out->n_disks = g->disks.n;
	out->disks_done = atomic_load(&g->disks.done);
	out->disks_total = atomic_load(&g->disks.total);
	out->so_far = (struct migrate_result){
		.total_ns = loop_now_ns() - g->start_ns, .sent = g->sent_before + migrate_lanes_sent(&g->lanes),
		.pages = atomic_load(&g->lanes.sender.pages_sent), .zero_pages = atomic_load(&g->lanes.sender.pages_zero),
		.rounds = atomic_load(&g->rounds),
	};
}

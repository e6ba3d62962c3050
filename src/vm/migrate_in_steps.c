/* SPDX-License-Identifier: Apache-2.0 */
/* What the destination of a migration does to its machine, on the loop thread. From incoming_step_load() on the guest stands
 * still: what can be said to the source here is not left to the other thread, as each change of thread makes the guest wait. */
#include <errno.h>
#include "util/log.h"
#include "util/prompt.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/migrate_disks.h"
#include "vm/migrate_in_priv.h"
#include "vm/migrate_priv.h"

enum { COMMIT_MS = 5 };         /* so long the loop waits for COMMIT itself */

void incoming_step_serve(void *arg)
{
	struct incoming *in = arg;
	struct err err = ERR_INIT;
	struct migrate_sides *s = &in->sides;

	(void)migrate_disks_serve(in->disk, in->m, s->disk, s->n_disks, s->disk_fd, &err);
	migrate_step_done(&in->steps, err.code ? &err : NULL);
}

/* All disks or none. */
static int take_disks(struct machine *m, struct err *err)
{
	unsigned n = 0;
	int r = 0;

	while (!r && n < m->cfg->n_disks) {
		r = blk_activate(m->blk[n], err);
		n += !r;
	}
	while (r < 0 && n-- > 0) {
		(void)blk_deactivate(m->blk[n], NULL);
		blk_release(m->blk[n]);
	}
	return r;
}

/* After COMMIT. DONE is said before anything runs, so that whoever hears nothing of it, as this process was killed, can go on. */
static int incoming_run(struct incoming *in, struct err *err)
{
	struct machine *m = in->m;
	struct err why = ERR_INIT;
	int r = m->state == MACHINE_STOPPED ? take_disks(m, err) : err_set(err, -ECANCELED, "it was told to quit");

	if (r < 0)
		return r;
	/* It is ours, whether the source hears of it or not. */
	if (migrate_send(&in->link, MIGRATE_DONE, NULL, 0, NULL, 0, &why) < 0)
		log_warn("the machine runs here, which its source may not know: %s", why.msg);
	in->runs = true;
	m->lazy = in->fill.lazy;
	thread_be_prompt(false);
	if (m->cfg->handed)
		handed_take(m->cfg->handed);
	machine_start(m);
	return 0;
}

void incoming_step_run(void *arg)
{
	struct incoming *in = arg;
	struct err err = ERR_INIT;

	(void)incoming_run(in, &err);
	migrate_step_done(&in->steps, err.code ? &err : NULL);
}

static int incoming_take_state(struct incoming *in, struct err *err)
{
	struct migrate_saved told = { 0 };
	int r = migrate_disks_settle(in->disk, in->m, err);

	if (!r)
		r = state_file_load(in->state, MIGRATE_TAG, &migrate_saved_desc, &told, err);
	if (!r)
		r = machine_load_late(in->m, in->state, err);
	if (!r && told.is_paused)
		machine_hold(in->m, MACHINE_HOLD_USER);
	return r;
}

void incoming_step_load(void *arg)
{
	struct incoming *in = arg;
	struct migrate_record rec;
	struct err err = ERR_INIT;
	int r = incoming_take_state(in, &err);

	if (!r && !in->fill.lazy) {
		r = migrate_send(&in->link, MIGRATE_READY, NULL, 0, NULL, 0, &err);
		if (!r && migrate_link_has(&in->link, MIGRATE_COMMIT, COMMIT_MS)) {
			r = migrate_recv(&in->link, MIGRATE_BIT(MIGRATE_COMMIT), &rec, &err);
			if (!r)
				r = incoming_run(in, &err);
		}
	}
	migrate_step_done(&in->steps, r < 0 ? &err : NULL);
}

/* Nobody talks any more. */
static void incoming_let_go(struct incoming *in)
{
	migrate_fill_fini(&in->fill);
	migrate_link_fini(&in->link);
	migrate_sides_fini(&in->sides);
	auto_fd(&in->listener);
	in->listener = -1;
}

/* It runs, and all of its memory is here, or it is about to end. */
static void incoming_settled(struct incoming *in)
{
	bool was_owed = in->fill.lazy;

	if (in->err.code)
		return;
	in->m->lazy = NULL;
	incoming_let_go(in);
	if (!was_owed)
		return;
	machine_tell_ready(in->m);
	log_info("all of the machine's memory has come");
}

void incoming_step_end(void *arg)
{
	struct incoming *in = arg;

	pthread_join(in->thread, NULL);
	in->has_thread = false;
	if (in->runs) {
		incoming_settled(in);
		return;
	}
	if (in->m->state != MACHINE_STOPPED)
		return;         /* it was told to quit */
	log_error("the machine does not come: %s", in->err.msg);
	machine_give_up(in->m, "error");
}

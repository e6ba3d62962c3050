/* SPDX-License-Identifier: Apache-2.0 */
/* The destination of a migration. Before COMMIT it does not run, whatever happens; afterwards it does, unless it
 * cannot have the disks, and then it says so. docs/formats/migration.md. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "util/log.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"
#include "vm/migrate_link.h"
#include "vm/migrate_mem.h"
#include "vm/migrate_priv.h"
#include "vm/migrate_sides.h"
#include "vm/migrate_step.h"
#include "vm/migrate_tls.h"

enum { HELLO_MS = 5000 };

struct incoming {
	struct migrate_link link;       /* the thread's, once there is one */
	struct migrate_sides sides;     /* the same */
	uint64_t ram;                   /* as announced */
	struct machine *m;
	struct migrate_steps steps;
	struct migrate_receiver receiver;
	struct state_file *state;       /* has come; NULL: not yet */
	pthread_t thread;
	bool has_steps, has_thread;
	struct err err;                 /* how it ended; code 0: well */
};

/* --- before there is a machine --- */

/* LISTENER -1: there is no way but this connection. */
static int incoming_take_plan(struct incoming *in, int listener, const struct migrate_record *rec, struct err *err)
{
	int r = migrate_sides_plan(&in->sides, rec, err);

	if (!r && listener < 0)
		r = err_set(err, -ENOTSUP, "over a descriptor there is one connection only; give 'streams=1'");
	return r ? r : migrate_sides_accept(&in->sides, listener, err);
}

static int incoming_learn(struct incoming *in, int listener, struct state_file **machine, struct err *err)
{
	unsigned wanted = MIGRATE_BIT(MIGRATE_MACHINE);
	struct migrate_record rec;
	struct migrate_hello theirs;
	int r;

	in->link.timeout_ms = HELLO_MS;
	r = migrate_hello(&in->link, false, 0, (uint32_t)getpid(), &theirs, err);
	if (r < 0)
		return r;
	in->link.timeout_ms = MIGRATE_TIMEOUT_MS;
	in->ram = le64_get(theirs.ram);
	r = migrate_recv(&in->link, wanted | MIGRATE_BIT(MIGRATE_PLAN), &rec, err);
	if (!r && rec.type == MIGRATE_PLAN) {
		r = incoming_take_plan(in, listener, &rec, err);
		if (!r)
			r = migrate_recv(&in->link, wanted, &rec, err);
	}
	return r ? r : state_file_of_sections(machine, rec.p, rec.len, in->ram, "the machine that comes", err);
}

/* Whoever connects and does not speak of a machine is no reason to stop waiting. */
static int incoming_wait(struct incoming *in, int listener, struct state_file **machine, struct err *err)
{
	for (;;) {
		struct err why = ERR_INIT;
		int fd = migrate_accept(listener, err);

		if (fd < 0)
			return fd;
		migrate_link_init(&in->link, fd);
		if (!incoming_learn(in, listener, machine, &why))
			return 0;
		log_warn("somebody who has connected is turned away: %s", why.msg);
		incoming_refuse(in, &why);
		migrate_link_fini(&in->link);
		migrate_sides_fini(&in->sides);
		migrate_sides_init(&in->sides);
	}
}

int incoming_open(struct incoming **out, const char *address, const struct migrate_tls *tls, struct state_file **machine,
		  bool *is_own, struct err *err)
{
	AUTO(incoming_close) struct incoming *in = calloc(1, sizeof(*in));
	bool is_connected = false;
	uint32_t pid;
	int r;

	if (!in)
		return err_set(err, -ENOMEM, "out of memory");
	in->link.fd = -1;
	migrate_sides_init(&in->sides);
	int fd = migrate_listen(address, &is_connected, err);
	if (fd < 0)
		return fd;
	if (tls && is_connected) {
		close(fd);
		return err_set(err, -ENOTSUP, "'%s' is connected already; TLS is for what listens", address);
	}
	if (is_connected) {
		migrate_link_init(&in->link, fd);
		r = incoming_learn(in, -1, machine, err);
		if (r < 0)
			incoming_refuse(in, err);
	} else {
		r = tls ? migrate_tls_listen(&fd, tls, err) : 0;
		if (!r)
			r = incoming_wait(in, fd, machine, err);
		migrate_unlisten(address);
		close(fd);
	}
	if (r < 0)
		return err_wrap(err, r, "no machine comes");
	*is_own = !tls && migrate_peer_is_own(&in->link, &pid);
	*out = take_ptr(&in);
	return 0;
}

int incoming_take_hands(struct incoming *in, struct handed *h, struct err *err)
{
	return handover_receive(&in->link, h, err);
}

void incoming_refuse(struct incoming *in, const struct err *err)
{
	if (in && in->link.fd >= 0)
		migrate_send_fail(&in->link, err);
}

void incoming_cancel(struct incoming *in)
{
	if (!in || !in->has_thread)
		return;
	migrate_link_cancel(&in->link);
	migrate_sides_cancel(&in->sides);
	migrate_steps_end(&in->steps);
	pthread_join(in->thread, NULL);
	in->has_thread = false;
}

void incoming_close(struct incoming *in)
{
	if (!in)
		return;
	incoming_cancel(in);
	if (in->has_steps)
		migrate_steps_fini(&in->steps);
	migrate_receiver_fini(&in->receiver);
	migrate_sides_fini(&in->sides);
	migrate_link_fini(&in->link);
	state_file_close(in->state);
	free(in);
}

/* --- steps on the loop thread --- */

static void step_load(void *arg)
{
	struct incoming *in = arg;
	struct migrate_saved told = { 0 };
	struct err err = ERR_INIT;
	int r = state_file_load(in->state, MIGRATE_TAG, &migrate_saved_desc, &told, &err);

	if (!r)
		r = machine_load_late(in->m, in->state, &err);
	if (!r && told.is_paused)
		machine_hold(in->m, MACHINE_HOLD_USER);
	migrate_step_done(&in->steps, r < 0 ? &err : NULL);
}

/* All disks or none. */
static void step_take_disks(void *arg)
{
	struct incoming *in = arg;
	struct machine *m = in->m;
	struct err err = ERR_INIT;
	unsigned n = 0;
	int r = 0;

	while (!r && n < m->cfg->n_disks) {
		r = blk_activate(m->blk[n], &err);
		n += !r;
	}
	while (r < 0 && n-- > 0) {
		(void)blk_deactivate(m->blk[n], NULL);
		blk_release(m->blk[n]);
	}
	migrate_step_done(&in->steps, r < 0 ? &err : NULL);
}

static void step_end(void *arg)
{
	struct incoming *in = arg;

	pthread_join(in->thread, NULL);
	in->has_thread = false;
	if (in->m->state != MACHINE_STOPPED)
		return;         /* it was told to quit */
	if (in->err.code) {
		log_error("the machine does not come: %s", in->err.msg);
		machine_give_up(in->m, "error");
		return;
	}
	migrate_link_fini(&in->link);
	migrate_sides_fini(&in->sides);
	if (in->m->cfg->handed)
		in->m->cfg->handed->is_ours = true;
	machine_start(in->m);
}

/* --- the thread --- */

static int incoming_memory(struct incoming *in, struct err *err)
{
	unsigned wanted = MIGRATE_BIT(MIGRATE_PAGES) | MIGRATE_BIT(MIGRATE_STATE) | MIGRATE_BIT(MIGRATE_ALIVE);
	struct migrate_record rec;
	struct err own = ERR_INIT, side = ERR_INIT;
	int r = migrate_sides_start(&in->sides, in->m->mem, &in->link, err);

	if (r < 0)
		return r;
	do {
		r = migrate_recv(&in->link, wanted, &rec, &own);
		if (!r && rec.type == MIGRATE_PAGES)
			r = migrate_receive_pages(&in->receiver, &rec, &own);
	} while (!r && rec.type != MIGRATE_STATE);
	if (r < 0)
		migrate_sides_cancel(&in->sides);
	/* One of the others may be why nothing comes over this one. */
	if (migrate_sides_wait(&in->sides, &side) < 0 && (!r || (r == -EPIPE && side.code != -ECANCELED)))
		return err_set(err, side.code, "%s", side.msg);
	if (r < 0)
		return err_set(err, r, "%s", own.msg);
	return state_file_of_sections(&in->state, rec.p, rec.len, in->ram, "the machine that comes", err);
}

static int incoming_talk(struct incoming *in, struct err *err)
{
	struct migrate_record rec;
	int r = migrate_send(&in->link, MIGRATE_BUILT, NULL, 0, NULL, 0, err);

	if (!r)
		r = incoming_memory(in, err);
	if (!r)
		r = migrate_step(&in->steps, step_load, in, err);
	if (!r)
		r = migrate_send(&in->link, MIGRATE_READY, NULL, 0, NULL, 0, err);
	if (!r)
		r = migrate_recv(&in->link, MIGRATE_BIT(MIGRATE_COMMIT), &rec, err);
	if (!r)
		r = migrate_step(&in->steps, step_take_disks, in, err);
	if (!r) {
		struct err why = ERR_INIT;

		/* It is ours, whether the source hears of it or not. */
		if (migrate_send(&in->link, MIGRATE_DONE, NULL, 0, NULL, 0, &why) < 0)
			log_warn("the machine runs here, which its source may not know: %s", why.msg);
	}
	return r;
}

static void *incoming_thread(void *arg)
{
	struct incoming *in = arg;

	pthread_setname_np(pthread_self(), "incoming");
	if (incoming_talk(in, &in->err) < 0 && in->err.code != -EREMOTEIO)
		migrate_send_fail(&in->link, &in->err);
	while (loop_call(in->steps.loop, step_end, in) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return NULL;
}

int incoming_start(struct incoming *in, struct machine *m, struct loop *loop, struct err *err)
{
	in->m = m;
	in->receiver.mem = m->mem;
	migrate_steps_init(&in->steps, loop);
	in->has_steps = true;
	int r = pthread_create(&in->thread, NULL, incoming_thread, in);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	in->has_thread = true;
	return 0;
}

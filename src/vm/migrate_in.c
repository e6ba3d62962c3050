/* SPDX-License-Identifier: Apache-2.0 */
/* The destination of a migration. Before COMMIT it does not run, whatever happens; afterwards it does, unless it
 * cannot have the disks, and then it says so. docs/formats/migration.md. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/log.h"
#include "util/prompt.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/migrate_disks.h"
#include "vm/migrate_in_priv.h"
#include "vm/migrate_tls.h"
#include "vm/state_file.h"

/* --- before there is a machine --- */

/* LISTENER -1: there is no way but this connection. */
static int incoming_take_plan(struct incoming *in, int listener, const struct migrate_record *rec, struct err *err)
{
	int r = migrate_sides_plan(&in->sides, rec, err);

	if (!r && le32_get(in->sides.plan.flags) & MIGRATE_PLAN_POSTCOPY) {
		in->uffd = lazy_open(err);
		r = in->uffd < 0 ? in->uffd : 0;
	}
	if (!r && listener < 0)
		r = err_set(err, -ENOTSUP, "over a descriptor there is one connection only; give 'streams=1' and no disks");
	if (!r && le32_get(in->sides.plan.flags) & MIGRATE_PLAN_DISKS) {
		struct migrate_record disks;

		r = migrate_recv(&in->link, MIGRATE_BIT(MIGRATE_DISKS), &disks, err);
		if (!r)
			r = migrate_sides_disks(&in->sides, &disks, err);
	}
	return r ? r : migrate_sides_accept(&in->sides, listener, err);
}

/* The source gets a pipe that closes when this process ends: by that it knows, even in another PID namespace. */
static int incoming_hello(struct incoming *in, struct migrate_hello *theirs, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_set(err, -errno, "cannot make a pipe: %s", strerror(errno));
	auto_fd(&in->life);
	in->life = ends[1];
	int r = migrate_hello(&in->link, false, 0, (uint32_t)getpid(), &ends[0], theirs, err);
	close(ends[0]);
	return r;
}

static int incoming_learn(struct incoming *in, int listener, struct state_file **machine, struct err *err)
{
	unsigned wanted = MIGRATE_BIT(MIGRATE_MACHINE);
	struct migrate_record rec;
	struct migrate_hello theirs;
	int r;

	in->link.timeout_ms = INCOMING_HELLO_MS;
	r = incoming_hello(in, &theirs, err);
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
		auto_fd(&in->uffd);
		in->uffd = -1;
	}
}

int incoming_open(struct incoming **out, const char *address, const struct migrate_tls *tls, struct state_file **machine,
		  bool *is_own, struct err *err)
{
	AUTO(incoming_close) struct incoming *in = calloc(1, sizeof(*in));
	bool is_connected = false;
	int r;

	if (!in)
		return err_set(err, -ENOMEM, "out of memory");
	in->link.fd = in->listener = in->uffd = in->life = -1;
	pthread_mutex_init(&in->swap_lock, NULL);
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
		r = tls ? migrate_tls_listen(&fd, tls, &in->helper, err) : 0;
		if (!r)
			r = incoming_wait(in, fd, machine, err);
		if (!r && in->uffd >= 0)
			in->listener = take_fd(&fd);    /* what it is called goes with the machine: see janitor.c */
		else
			migrate_unlisten(address);
		auto_fd(&fd);
	}
	if (r < 0)
		return err_wrap(err, r, "no machine comes");
	*is_own = !tls && migrate_peer_is_own(&in->link, geteuid());
	*out = take_ptr(&in);
	return 0;
}

int incoming_settle(struct incoming *in, struct err *err)
{
	if (in->uffd < 0)
		return 0;
	close(in->uffd);
	in->uffd = lazy_open(err);
	return in->uffd < 0 ? in->uffd : 0;
}

pid_t incoming_helper(const struct incoming *in)
{
	return in->helper;
}

int incoming_take_hands(struct incoming *in, struct handed *h, struct err *err)
{
	return handover_receive(&in->link, h, err);
}

int incoming_take_disks(const struct incoming *in, struct config *c, struct err *err)
{
	return migrate_disks_match(c, in->sides.disk, in->sides.n_disks, err);
}

bool incoming_listens(const struct incoming *in)
{
	return in->listener >= 0;
}

void incoming_refuse(struct incoming *in, const struct err *err)
{
	if (in && in->link.fd >= 0)
		migrate_send_fail(&in->link, err);
}

void incoming_cancel(struct incoming *in)
{
	if (!in)
		return;
	migrate_disks_drop(in->disk);
	if (!in->has_thread)
		return;
	pthread_mutex_lock(&in->swap_lock);
	in->is_cancelled = true;
	migrate_link_cancel(&in->link);
	if (in->runs && in->fill.lazy)  /* the further connections may be changing */
		migrate_fill_cancel(&in->fill);
	else
		migrate_sides_cancel(&in->sides);
	pthread_mutex_unlock(&in->swap_lock);
	migrate_steps_end(&in->steps);
	pthread_join(in->thread, NULL);
	in->has_thread = false;
}

bool incoming_is_owed(const struct incoming *in)
{
	return in && in->runs && in->fill.lazy && lazy_left(in->fill.lazy);
}

void incoming_close(struct incoming *in)
{
	if (!in)
		return;
	incoming_cancel(in);
	if (in->has_steps)
		migrate_steps_fini(&in->steps);
	migrate_fill_fini(&in->fill);
	auto_fd(&in->listener);
	auto_fd(&in->uffd);
	auto_fd(&in->life);
	pthread_mutex_destroy(&in->swap_lock);
	migrate_receiver_fini(&in->receiver);
	migrate_sides_fini(&in->sides);
	migrate_link_fini(&in->link);
	state_file_close(in->state);
	free(in);
}

/* --- the thread --- */

/* Some memory comes later. */
static int incoming_owe(struct incoming *in, const struct migrate_record *rec, struct err *err)
{
	int r = in->fill.lazy ? 0 : migrate_fill_init(&in->fill, in->m->mem, in->m->huge, take_fd(&in->uffd), err);

	return r ? r : migrate_fill_owe(&in->fill, rec, err);
}

static int incoming_start_fill(struct incoming *in, struct err *err)
{
	int r = migrate_fill_start(&in->fill, err);

	return r ? r : migrate_fill_connect(&in->fill, &in->link, &in->sides.side[0].link, err);
}

static int incoming_memory(struct incoming *in, struct err *err)
{
	unsigned wanted = MIGRATE_BIT(MIGRATE_PAGES) | MIGRATE_BIT(MIGRATE_STATE) | MIGRATE_BIT(MIGRATE_ALIVE) |
			  (in->uffd >= 0 ? MIGRATE_BIT(MIGRATE_OWED) : 0);
	struct migrate_record rec;
	struct err own = ERR_INIT, side = ERR_INIT;
	int r = migrate_sides_start(&in->sides, in->m->mem, &in->link, err);

	if (r < 0)
		return r;
	do {
		r = migrate_recv(&in->link, wanted, &rec, &own);
		if (!r && rec.type == MIGRATE_PAGES)
			r = migrate_receive_pages(&in->receiver, &rec, &own);
		else if (!r && rec.type == MIGRATE_OWED)
			r = incoming_owe(in, &rec, &own);
	} while (!r && rec.type != MIGRATE_STATE);
	if (r < 0)
		migrate_sides_cancel(&in->sides);
	/* One of the others may be why nothing comes over this one. */
	if (migrate_sides_wait(&in->sides, &side) < 0 && (!r || (r == -EPIPE && side.code != -ECANCELED)))
		return err_set(err, side.code, "%s", side.msg);
	if (r < 0)
		return err_set(err, r, "%s", own.msg);
	if (in->fill.lazy)
		r = incoming_start_fill(in, err);
	return r ? r : state_file_of_sections(&in->state, rec.p, rec.len, in->ram, "the machine that comes", err);
}

/* Take the state, and say so. Some of the memory that this touches may be owed. */
static int incoming_load(struct incoming *in, struct err *err)
{
	struct err why = ERR_INIT;

	if (!in->fill.lazy)
		return migrate_step(&in->steps, incoming_step_load, in, err);
	migrate_fill_load(&in->fill);
	int r = migrate_step(&in->steps, incoming_step_load, in, &why);

	if (migrate_fill_loaded(&in->fill, err) < 0)
		return -EPIPE;
	return r ? err_set(err, r, "%s", why.msg) : migrate_send(&in->link, MIGRATE_READY, NULL, 0, NULL, 0, err);
}

/* It does not run here: whoever ends it is not to wait for what is owed. */
static void incoming_give_up(struct incoming *in)
{
	if (in->fill.lazy && !in->runs)
		lazy_give_up(in->fill.lazy);
}

static int incoming_talk(struct incoming *in, struct err *err)
{
	struct migrate_record rec;
	int r = in->sides.n_disks ? migrate_step(&in->steps, incoming_step_serve, in, err) : 0;

	if (!r)
		r = migrate_send(&in->link, MIGRATE_BUILT, NULL, 0, NULL, 0, err);
	if (!r)
		r = incoming_memory(in, err);
	if (!r)
		r = incoming_load(in, err);
	if (!r && !in->runs) {
		r = migrate_recv(&in->link, MIGRATE_BIT(MIGRATE_COMMIT), &rec, err);
		if (!r)
			r = migrate_step(&in->steps, incoming_step_run, in, err);
	}
	return r || !in->fill.lazy ? r : incoming_fill(in, err);
}

static void *incoming_thread(void *arg)
{
	struct incoming *in = arg;

	pthread_setname_np(pthread_self(), "incoming");
	if (incoming_talk(in, &in->err) < 0 && in->err.code != -EREMOTEIO)
		migrate_send_fail(&in->link, &in->err);
	if (in->err.code)
		incoming_give_up(in);
	while (loop_call(in->steps.loop, incoming_step_end, in) < 0)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return NULL;
}

int incoming_start(struct incoming *in, struct machine *m, struct loop *loop, struct err *err)
{
	in->m = m;
	in->receiver.mem = m->mem;
	vcpus_get_ready(m->vcpus);
	thread_be_prompt(true);         /* and the thread, too */
	migrate_steps_init(&in->steps, loop);
	in->has_steps = true;
	int r = pthread_create(&in->thread, NULL, incoming_thread, in);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	in->has_thread = true;
	return 0;
}

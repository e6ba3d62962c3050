/* SPDX-License-Identifier: Apache-2.0 */
/* instance.c - the controller: from what is wanted and what is seen, the next step. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/cgroup.h"
#include "node/instance_limits.h"
#include "node/instance_order.h"
#include "node/instance_priv.h"
#include "node/network.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/profile.h"
#include "node/volume_move.h"
#include "util/checked.h"
#include "util/log.h"

enum {
	LIVED_MS = 30000,       /* a machine that ran that long has not failed at once */
	AGAIN_MS = 20,
	HOLD_MS = 100,
	WAIT_MS = 1000,
	PRESS_MS = 5000,        /* a guest that is still booting does not see the power button: press it again */
};

static struct instance *instance_of(struct controlled *c)
{
	return container_of(c, struct instance, c);
}

static bool has_lived(const struct instance *i)
{
	return loop_now_ns() - i->started_ns > (uint64_t)LIVED_MS * 1000000u;
}

/* --- starting ---------------------------------------------------- */

static void step_disk(struct instance *i, const json_t *doc)
{
	struct err err = ERR_INIT;

	controlled_set(&i->c, "starting", "its disk is being made");
	i->phase = PHASE_DISK;
	int r = instance_make_disk(i, doc, &err);
	if (r < 0)
		instance_disk_done(i, r, &err);
}

static void step_process(struct instance *i, const json_t *doc)
{
	struct err err = ERR_INIT;
	int r = instance_start(i, doc, &err);

	if (r == -EBUSY) { /* a process has just ended, and is not quite gone */
		controlled_later(&i->c, AGAIN_MS);
		return;
	}
	if (r == -EAGAIN) { /* what it needs is being made, and will tell, or is looked at again */
		controlled_set(&i->c, "starting", "%s", err.msg);
		controlled_later(&i->c, WAIT_MS);
		return;
	}
	if (r < 0) {
		controlled_failed(&i->c, &err);
		return;
	}
	limits_take(i, json_object_get(doc, "spec"));
	i->wants_restart = false;
	i->tell_until_ns = 0;
	i->phase = PHASE_STARTING;
	i->started_ns = loop_now_ns();
	controlled_set(&i->c, "starting", "its process runs");
	instance_connect(i);
}

/* The machine is off and shall run. */
static void step_start(struct instance *i, const json_t *doc, int64_t revision)
{
	struct err err = ERR_INIT;

	if (i->n_holds)
		return; /* instance_release() calls again */
	if (i->ended_revision == instance_said_at(doc, revision) && !i->wants_restart)
		return; /* it ended by itself, and nobody has said anything since */
	if (!instance_order_may_start(i)) {
		if (!i->c.node->order.drained)
			controlled_set(&i->c, "starting", "machines with a lower 'start_order' come first");
		controlled_later(&i->c, HOLD_MS);
		return;
	}
	i->ended_revision = 0;
	/* An empty mount point is not its disk's place. */
	if (pool_find(i->c.node, i->pool, NULL, &err) < 0) {
		controlled_set(&i->c, "starting", "%s", err.msg);
		controlled_later(&i->c, WAIT_MS);
		return;
	}
	if (limits_admit(i, json_object_get(doc, "spec"), &err) < 0) {
		controlled_failed(&i->c, &err);
		return;
	}
	AUTO(free) char *root = instance_root_path(i);
	bool has_disk = root && (instance_has_disk_here(i, root) ? !access(root, F_OK) : i->has_disk);
	i->is_fork = instance_is_marked(i);
	if (has_disk && i->is_fork && instance_next_memory(i) == MEMORY_NONE)
		instance_fork_discard(i);
	else if (!has_disk && json_object_get(json_object_get(doc, "spec"), "image"))
		step_disk(i, doc);
	else if (!i->is_prepared)
		instance_prepare(i);
	else
		step_process(i, doc);
}

/* No process any more: it stays off, or is begun again, as its policy says. Returns whether it is begun again. */
static bool settle_end(struct instance *i, bool was_asked, char *why, size_t cap)
{
	bool is_well = instance_ended_well(i, why, cap);
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(i->c.node->store, i->c.key, &revision);
	const char *policy = json_string_value(json_object_get(json_object_get(doc, "spec"), "restart"));
	bool goes_on = !was_asked && policy && (!strcmp(policy, "always") || (!is_well && !strcmp(policy, "on-failure")));

	if (!is_well && !i->is_fork && instance_next_memory(i) != MEMORY_NONE)
		snprintf(why + strlen(why), cap - strlen(why), "; 'viv stop' gives its saved memory up, so that it boots");
	if (!goes_on) {
		i->ended_revision = was_asked || !doc ? 0 : instance_said_at(doc, revision);
		controlled_set(&i->c, is_well || was_asked ? "stopped" : "failed", "%s", why);
	}
	return goes_on;
}

/* Its process from before. False: there is none, it is off, and the same step goes on from there. */
static bool step_adopt(struct instance *i, const json_t *doc)
{
	struct err err = ERR_INIT;
	int r = instance_adopt(i, doc, &err);

	if (r == -EAGAIN) {
		controlled_later(&i->c, AGAIN_MS);
		return true;
	}
	if (r < 0)
		log_warn("'%s': %s", i->c.key, err.msg);
	i->phase = r > 0 ? PHASE_STARTING : PHASE_DOWN;
	i->started_ns = loop_now_ns();
	if (!r && instance_has_ended_unseen(i, doc)) {
		i->proc.status = -1;    /* nobody's child: nobody knows */
		(void)settle_end(i, false, err.msg, sizeof(err.msg));
	}
	if (r <= 0)
		return false;
	limits_take(i, json_object_get(doc, "spec"));
	instance_connect(i);
	controlled_kick(&i->c);
	return true;
}

/* --- running ---------------------------------------------------- */

static void asked(void *arg, int r, const json_t *result, const struct err *err)
{
	struct instance *i = arg;

	(void)result;
	i->has_asked = false;
	if (r < 0 && r != -ECONNRESET && r != -ECANCELED)
		log_warn("'%s': %s", i->c.key, err->msg);
}

static void ask(struct instance *i, const char *request)
{
	if (i->has_asked)
		return;
	i->has_asked = true;
	vmm_request(i->vmm, request, NULL, asked, i);
}

/* Not while a disk of it changes over. That is looked at when everybody can see that it is being asked: who changes over says so and then
 * waits for the answer, so one of the two sees the other. */
static void step_resume(struct instance *i, const json_t *doc)
{
	if (i->has_asked)
		return;
	i->has_asked = true;
	if (!volume_move_holds(i->c.node, i->c.project, json_object_get(doc, "spec"))) {
		vmm_request(i->vmm, "resume", NULL, asked, i);
		return;
	}
	i->has_asked = false;
	controlled_later(&i->c, HOLD_MS);
}

static void cut_off(struct instance *i, const char *why)
{
	controlled_set(&i->c, "stopping", "%s", why);
	snprintf(i->stop_reason, sizeof(i->stop_reason), "cut off");
	process_kill(&i->proc, SIGKILL);
}

/* The power button, and when that does not help, the plug. */
static void step_stop(struct instance *i, const json_t *doc)
{
	json_int_t s = json_integer_value(json_object_get(json_object_get(doc, "spec"), "shutdown_seconds"));
	uint64_t now = loop_now_ns();

	if (!i->is_stopping) {
		i->is_stopping = true;
		i->cut_off_ns = now + (uint64_t)s * 1000000000u;
		controlled_set(&i->c, "stopping", "the power button has been pressed; the power goes in %lld s",
			       (long long)s);
		i->press_ns = now;
	}
	if (i->is_paused)
		step_resume(i, doc);
	if (now >= i->cut_off_ns) {
		cut_off(i, "the guest took too long; the power is being cut");
		return;
	}
	if (now >= i->press_ns) {
		vmm_request(i->vmm, "powerdown", NULL, NULL, NULL);
		i->press_ns = now + (uint64_t)PRESS_MS * 1000000u;
	}
	uint64_t next = i->press_ns < i->cut_off_ns ? i->press_ns : i->cut_off_ns;
	controlled_later(&i->c, (unsigned)((next - now) / 1000000u) + 1);
}

/* A process that does not answer: not yet, or not any more, which is how one ends. */
static void step_starting(struct instance *i, bool is_off)
{
	if (is_off && !i->has_answered) {
		/* Asked for: who wants it to run again before its process has gone gets that. */
		i->is_stopping = true;
		i->cut_off_ns = loop_now_ns();
		cut_off(i, "it has not begun to run yet");
	} else if (i->is_stopping && loop_now_ns() >= i->cut_off_ns) {
		cut_off(i, "its process does not end; it is being killed");
	} else {
		instance_connect(i);
	}
}

static void step_up(struct instance *i, const json_t *doc, int64_t revision, const char *wanted)
{
	if (i->limits_revision != revision)
		instance_set_limits(i, doc, revision);
	/* The guest goes on when that is known to the disk: what it writes then is not what the memory in the file knows. */
	if (i->is_forgetting || i->n_freezes)
		return;
	if (instance_next_memory(i) != MEMORY_NONE)
		instance_forget_memory(i);
	else if (!strcmp(wanted, "stopped") || i->wants_restart || i->is_stopping || i->c.node->order.drained)
		step_stop(i, doc);
	else if (i->is_fork && !i->is_paused)
		instance_fork_tell(i);
	else if (i->is_fork)
		ask(i, "resume");
	else if (!strcmp(wanted, "paused") && !i->is_paused)
		ask(i, "pause");
	else if (!strcmp(wanted, "running") && i->is_paused)
		step_resume(i, doc);
}

/* Its disks are needed now. That is nothing that it has done itself. */
static void step_cut(struct instance *i)
{
	i->wants_restart = true;
	cut_off(i, "its disks are needed; the power is being cut");
}

/* The machine is off, and shall be: its memory goes, as that of any machine. */
static void step_off(struct instance *i)
{
	if (strcmp(i->c.state, "stopped") != 0)
		controlled_set(&i->c, "stopped", "%s", i->stop_reason);
	if (!i->n_holds && instance_next_memory(i) != MEMORY_NONE)
		instance_forget_memory(i);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct instance *i = instance_of(c);
	const char *wanted = json_string_value(json_object_get(json_object_get(doc, "spec"), "state"));
	bool ends = c->node->order.drained != NULL, is_off = ends || (wanted && !strcmp(wanted, "stopped"));

	instance_order_note(i, doc);
	if (ends && (i->phase == PHASE_DOWN || (i->phase == PHASE_UP && !instance_order_may_stop(i))))
		return; /* the node begins it again, or it is not its turn */
	if (i->proc.pid && json_integer_value(json_object_get(doc, "restart_of")) == i->proc.pid)
		i->wants_restart = true;
	if (!wanted)
		controlled_set(c, "failed", "its document has no 'spec.state'");
	else if (i->phase == PHASE_UNKNOWN && step_adopt(i, doc))
		return;
	else if (i->is_cut && i->proc.pid)
		step_cut(i);
	else if (i->phase == PHASE_STARTING)
		step_starting(i, is_off);
	else if (i->phase == PHASE_UP)
		step_up(i, doc, revision, wanted);
	else if (i->phase == PHASE_DOWN && !is_off)
		step_start(i, doc, revision);
	else if (i->phase == PHASE_DOWN)
		step_off(i);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct instance *i = instance_of(c);
	struct err err = ERR_INIT;

	if (i->phase == PHASE_UNKNOWN && step_adopt(i, doc))
		return;
	if (i->proc.pid) {
		cut_off(i, "it is being deleted");
	} else if (i->n_holds) {
		controlled_later(c, HOLD_MS);
	} else if (i->is_removed) {
		controlled_removed(c);
	} else if (i->phase == PHASE_DOWN && !pool_is_unborn(c->node, i->pool) && pool_find(c->node, i->pool, NULL, &err) < 0) {
		controlled_blocked(c, &err);
	} else if (i->phase == PHASE_DOWN) {
		controlled_set(c, "deleting", "its files are being removed");
		i->phase = PHASE_REMOVING;
		int r = instance_remove_files(i, &err);
		if (r < 0)
			instance_removed(i, r, &err);
	}
}

/* --- what workers and processes tell ---------------------------------------------------- */

void instance_disk_done(struct instance *i, int r, const struct err *err)
{
	i->phase = PHASE_DOWN;
	if (r < 0)
		controlled_failed(&i->c, err);
	else
		controlled_kick(&i->c);
}

/* They were in its disks. What is known of them goes in the same commit: later ones of the same names would be taken for them. */
static void forget_snapshots(struct instance *i)
{
	struct store *s = i->c.node->store;
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "", status_key[STORE_KEY_MAX + 1];
	const struct store_doc *d;

	snprintf(prefix, sizeof(prefix), "snapshot/%s/%s/", i->c.project, i->c.name);
	while ((d = store_next(s, prefix, key[0] ? key : NULL)) != NULL) {
		struct store_op ops[] = { { .kind = STORE_DELETE, .key = key, .if_modified = STORE_ANY },
					  { .kind = STORE_DELETE, .key = status_key, .if_modified = STORE_ANY } };

		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const char *of = json_string_value(json_object_get(doc, "instance_uid"));

		snprintf(key, sizeof(key), "%s", d->key);
		doc_status_key(status_key, key);
		if (of && !strcmp(of, i->c.uid))
			store_commit(s, ops, store_get(s, status_key) ? 2 : 1, NULL, NULL);
	}
}

void instance_removed(struct instance *i, int r, const struct err *err)
{
	if (r < 0) {
		i->phase = PHASE_DOWN;
		controlled_failed(&i->c, err);
		return;
	}
	/* It stays in this phase, in which nobody holds it: it is freed as soon as its document has gone. */
	i->is_removed = true;
	forget_snapshots(i);
	controlled_removed(&i->c);
}

static void ended(struct process *p)
{
	struct instance *i = container_of(p, struct instance, proc);
	struct err why = ERR_INIT;
	bool goes_on = settle_end(i, i->is_stopping || i->wants_restart, why.msg, sizeof(why.msg));

	instance_disconnect(i);
	instance_forget_start(i);
	limits_give_back(i);
	(void)cgroup_end(i->c.node->cgroups, i->c.uid);
	i->phase = PHASE_DOWN;
	i->has_disk = false;
	networks_kick(i->c.node, i->c.project);
	i->is_paused = i->is_stopping = false;
	if (has_lived(i) || !goes_on)
		i->c.failures = 0;
	if (goes_on && !has_lived(i)) {
		controlled_failed(&i->c, &why);
		return;
	}
	controlled_write(&i->c);
	controlled_kick(&i->c);
}

/* --- as a kind of document ---------------------------------------------------- */

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct instance *i = instance_of(c);
	AUTO(free) char *all = node_path(c->node->data_dir, "instances");
	AUTO(free) char *runs = node_path(c->node->run_dir, "i");

	i->proc.ended = ended;
	snprintf(i->pool, sizeof(i->pool), "%s", pool_of(json_object_get(doc, "spec")));
	i->ended_revision = instance_ended_revision(c, status);
	const char *state = json_string_value(json_object_get(status, "state"));
	i->was_up = state && (!strcmp(state, "running") || !strcmp(state, "paused"));
	i->dir = all ? node_path(all, c->uid) : NULL;
	i->run_dir = runs ? node_path(runs, c->uid) : NULL;
	instance_fork_known(i, status);
	AUTO(free) char *log = i->dir ? node_path(i->dir, "console.log") : NULL;
	return log && i->run_dir ? console_hub_new(&i->console, c->node->loop, c->node->writer, log) : -ENOMEM;
}

static void fini(struct controlled *c)
{
	struct instance *i = instance_of(c);

	instance_disconnect(i);
	instance_forget_start(i);
	limits_give_back(i);
	process_forget(&i->proc);
	console_hub_free(i->console);
	free(i->dir);
	free(i->run_dir);
}

static void add_time(json_t *status, const char *name, time_t when)
{
	char text[DOC_TIME_LEN + 1];

	doc_time(text, when);
	json_object_set_new(status, name, json_string(text));
}

/* What waits for the next start. */
static void add_pending(const struct instance *i, json_t *status)
{
	AUTO(json_decref) json_t *doc = i->started ? doc_get(i->c.node->store, i->c.key, NULL) : NULL;
	AUTO(json_decref) json_t *list = instance_pending(i, json_object_get(doc, "spec"));

	if (doc && json_array_size(list))
		json_object_set(status, "pending", list);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct instance *i = container_of(c, struct instance, c);

	if (i->ended_revision)
		json_object_set_new(status, "ended_revision", json_integer(i->ended_revision));
	if (i->start_note[0])
		json_object_set_new(status, "start", json_string(i->start_note));
	if (i->proc.pid)
		json_object_set_new(status, "pid", json_integer(i->proc.pid));
	json_t *addresses = json_array();
	network_add_addresses(c->node, c->project, c->uid, addresses);
	if (json_array_size(addresses))
		json_object_set(status, "networks", addresses);
	json_decref(addresses);
	if (i->engine[0])
		json_object_set_new(status, "engine", json_string(i->engine));
	if (i->limits_reason[0])
		json_object_set_new(status, "limits", json_pack("{s:s}", "reason", i->limits_reason));
	add_pending(i, status);
	if (i->meter.idle_since)
		add_time(status, "idle_since", i->meter.idle_since);
}

const struct controller_kind instance_kind = {
	.kind = "instance", .size = sizeof(struct instance), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .renamed = instance_renamed, .fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot.c - snapshots of instances: the controller, which makes and removes them. */
#include "node/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "blk/blk.h"
#include "node/controller.h"
#include "node/disk_files.h"
#include "node/instance_hold.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/snapshot_disks.h"
#include "node/snapshot_memory.h"
#include "node/snapshot_still.h"
#include "node/vmm.h"
#include "node/volume_move.h"
#include "node/work.h"
#include "util/checked.h"

enum { AGAIN_MS = 100 };

/* --- the controller ---------------------------------------------------- */

struct snapshot {
	struct controlled c;            /* first */
	struct instance *held;          /* while a worker has its disks */
	struct works *works;            /* of a pool that they are in; NULL: the node's */
	bool is_busy;                   /* somebody works on it */
	bool is_gone;                   /* from the disks */
	bool is_removing;
	bool has_no_memory;             /* with IS_REMOVING: its file has gone */
	bool is_clearing;               /* some disks have it from an attempt before, perhaps not all: away with it, then once more */
	bool is_still;                  /* HELD stands still, if it runs, for a worker who copies raw disks */
	unsigned n_cleared;             /* disks that a machine has removed it from */
	struct instance_disks disks;
	struct snapshot_memory memory;  /* PATH is NULL: of one without, and while nobody works on it */
	struct snapshot_still still;
};

static struct snapshot *snapshot_of(struct controlled *c)
{
	return container_of(c, struct snapshot, c);
}

static void let_go(struct snapshot *s)
{
	instance_disks_clear(&s->disks);
	snapshot_memory_fini(&s->memory);
	if (s->held && s->is_still)
		instance_let_go(s->held);
	else if (s->held)
		instance_give_disks(s->held, true);
	if (s->held)
		instance_release(s->held);
	s->held = NULL;
	s->is_still = false;
	s->is_busy = false;
}

/* It is made, or removed. */
static void happened(struct snapshot *s, int r, const struct err *err)
{
	let_go(s);
	if (r == -ECONNRESET || r == -ECANCELED) {      /* the machine has ended in between: look again */
		controlled_later(&s->c, AGAIN_MS);
	} else if (r < 0) {
		controlled_failed(&s->c, err);
	} else if (s->is_removing) {
		s->is_gone = true;
		controlled_removed(&s->c);
	} else if (s->is_clearing) {
		s->is_clearing = false;
		s->n_cleared = 0;
		controlled_kick(&s->c);
	} else {
		s->c.failures = 0;
		controlled_set(&s->c, "ready", "%s", "");
	}
}

static void begin(struct snapshot *s, int (*run)(void *arg, struct err *err), void (*done)(void *arg, int r, const struct err *err))
{
	struct err err = ERR_INIT;

	s->is_busy = true;
	if (work_start(s->works ? s->works : s->c.node->works, run, done, s) < 0)
		happened(s, err_set(&err, -ENOMEM, "out of memory"), &err);
}

static void worked(void *arg, int r, const struct err *err)
{
	happened(arg, r, err);
}

static void created(void *arg, int r, const json_t *result, const struct err *err)
{
	struct snapshot *s = arg;

	(void)result;
	/* Begun by a daemon that did not live to hear of it, or by a machine that did not live to take it of all disks: whether they are
	 * of one instant nobody knows. */
	s->is_clearing = r == -EEXIST;
	happened(s, s->is_clearing ? -ECANCELED : r, err);
}

static void cleared(void *arg, int r, const json_t *result, const struct err *err)
{
	struct snapshot *s = arg;

	(void)result;
	if (r == -ENOENT)
		r = 0;
	if (!r && ++s->n_cleared < s->disks.n)
		r = -ECANCELED; /* the next one, of a machine that is looked for anew */
	happened(s, r, err);
}

static int make(void *arg, struct err *err)
{
	struct snapshot *s = arg;

	return snapshot_make(&s->disks, s->c.uid, err);
}

/* --- with memory --- */

static int take_memory(void *arg, struct err *err)
{
	return snapshot_memory_take(&((struct snapshot *)arg)->memory, err);
}

static void memory_taken(void *arg, int r, const struct err *err)
{
	struct snapshot *s = arg;

	/* As with created(). */
	s->is_clearing = r == -EEXIST;
	if (r == -EBUSY)
		controlled_set(&s->c, "creating", "%s", err->msg);
	happened(s, s->is_clearing || r == -EBUSY || r == -EAGAIN ? -ECANCELED : r, err);
}

/* The machine is off. If it was not so before all was done, there is nothing to be had, and nothing is left. */
static int find_memory(void *arg, struct err *err)
{
	struct snapshot *s = arg;

	if (snapshot_memory_is_there(&s->memory))
		return 0;
	int r = snapshot_memory_drop(&s->memory, err);
	if (!r)
		r = snapshot_unmake(&s->disks, s->c.uid, err);
	return r < 0 ? r : err_set(err, -ENOTCONN, "the machine is off, and has no memory; the snapshot is taken when it runs again");
}

static int drop_memory(void *arg, struct err *err)
{
	return snapshot_memory_drop(&((struct snapshot *)arg)->memory, err);
}

static void memory_dropped(void *arg, int r, const struct err *err)
{
	struct snapshot *s = arg;

	s->has_no_memory = !r;
	happened(s, r ? r : -ECANCELED, err);
}

/* With raw disks the memory is saved first, and the disks follow. */
static int init_memory(struct snapshot *s, const struct instance *i, bool has_raw, struct err *err)
{
	char control[STORE_KEY_MAX];

	instance_control_path(i, control, sizeof(control));
	return snapshot_memory_init(&s->memory, s->c.node, instance_saved_path(i, s->c.uid), control, s->disks.n && !has_raw ? s->c.uid : "", err);
}

/* --- with raw disks, of a machine that runs --- */

static int take_still(void *arg, struct err *err)
{
	struct snapshot *s = arg;

	return snapshot_still_take(&s->still, err);
}

/* Nobody lets the machine go on meanwhile, and none of its disks moves away from its copy. */
static void begin_still(struct snapshot *s, struct instance *i, const json_t *instance, bool has_memory)
{
	const json_t *disk;
	size_t at;

	json_array_foreach(json_object_get(json_object_get(instance, "spec"), "disks"), at, disk) {
		if (!volume_move_is_begun(s->c.node, s->c.project, json_string_value(json_object_get(disk, "volume"))))
			continue;
		let_go(s);
		controlled_later(&s->c, AGAIN_MS);
		return;
	}
	s->still = (struct snapshot_still){ .node = s->c.node, .disks = &s->disks, .memory = has_memory ? &s->memory : NULL, .name = s->c.uid };
	instance_control_path(i, s->still.control, sizeof(s->still.control));
	instance_hold(i, false);
	instance_stand_still(i);
	s->held = i;
	s->is_still = true;
	begin(s, take_still, memory_taken);
}

/* One raw disk of a machine that runs, which does not know of the copy, has it no more. */
static int drop_copy(void *arg, struct err *err)
{
	struct snapshot *s = arg;

	return disk_copy_remove(s->disks.path[s->n_cleared], s->c.uid, err);
}

static void copy_dropped(void *arg, int r, const struct err *err)
{
	cleared(arg, r, NULL, err);
}

/* --- of disks --- */

static int unmake(void *arg, struct err *err)
{
	struct snapshot *s = arg;

	return snapshot_unmake(&s->disks, s->c.uid, err);
}

/* Ask the machine that runs: to make it in all disks at once, or to remove it from one. */
static void ask(struct snapshot *s, struct vmm *v)
{
	char names[INSTANCE_DISKS_MAX * sizeof(s->disks.name[0])] = "";
	bool removes = s->is_removing || s->is_clearing;
	unsigned at = s->n_cleared < s->disks.n ? s->n_cleared : 0;
	const char *one = s->disks.name[at];

	s->n_cleared = at;
	if (removes && disk_files_is_raw(s->disks.path[at])) {
		begin(s, drop_copy, copy_dropped);
		return;
	}
	for (unsigned i = 0; i < s->disks.n; i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? "," : "", s->disks.name[i]);
	s->is_busy = true;
	vmm_request(v, removes ? "snapshot-delete" : "snapshot-create",
		    json_pack("{s:s, s:s}", "disks", removes ? one : names, "name", s->c.uid), removes ? cleared : created, s);
}

/* The machine is off. */
static void work_off(struct snapshot *s, struct instance *i)
{
	if (!instance_take_disks(i, true)) {
		let_go(s);
		controlled_later(&s->c, AGAIN_MS);
		return;
	}
	instance_hold(i, false);
	s->held = i;
	if (s->is_removing || s->is_clearing)
		begin(s, unmake, worked);
	else
		begin(s, s->memory.path ? find_memory : make, worked);
}

/* What is to be done, by the machine or, while it is off, by a worker. */
static void work_on(struct snapshot *s, struct instance *i, const json_t *doc, const json_t *instance)
{
	struct err err = ERR_INIT;
	struct vmm *v = instance_vmm(i);
	bool has_memory = json_is_true(json_object_get(json_object_get(doc, "spec"), "memory"));

	if (!v && !instance_is_off(i)) {
		controlled_later(&s->c, AGAIN_MS);
		return;
	}
	int r = instance_disks(&s->disks, i, instance, s->is_removing, &err);
	s->works = r < 0 ? NULL : instance_disks_works(i, instance);
	bool has_raw = !r && snapshot_has_raw(&s->disks);
	if (!r && has_memory)
		r = init_memory(s, i, has_raw, &err);
	if (r < 0) {
		let_go(s);
		controlled_failed(&s->c, &err);
	} else if (s->is_removing && has_memory && !s->has_no_memory) {
		begin(s, drop_memory, memory_dropped);
	} else if (s->is_removing && !s->disks.n) {
		happened(s, 0, NULL);
	} else if (!v) {
		work_off(s, i);
	} else if (has_raw && !s->is_removing && !s->is_clearing) {
		begin_still(s, i, instance, has_memory);
	} else if (has_memory && !s->is_removing && !s->is_clearing) {
		begin(s, take_memory, memory_taken);
	} else {
		ask(s, v);
	}
}

/* The instance of DOC; *INSTANCE gets its document. */
static struct instance *find_instance(struct snapshot *s, const json_t *doc, json_t **instance)
{
	const char *name = json_string_value(json_object_get(doc, "instance"));
	const char *uid = json_string_value(json_object_get(doc, "instance_uid"));
	char key[STORE_KEY_MAX + 1];
	struct instance *i = name && uid ? instance_find(s->c.node, s->c.project, name, uid) : NULL;

	if (i) {
		doc_key(key, "instance", s->c.project, name);
		*instance = doc_get(s->c.node->store, key, NULL);
	}
	return i;
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct snapshot *s = snapshot_of(c);
	AUTO(json_decref) json_t *instance = NULL;
	struct instance *i = find_instance(s, doc, &instance);

	(void)revision;
	if (s->is_busy || !strcmp(c->state, "ready"))
		return;
	if (!i) {
		controlled_set(c, "failed", "its instance is not there");
		return;
	}
	if (strcmp(c->state, "failed") != 0)
		controlled_set(c, "creating", "%s", "");
	work_on(s, i, doc, instance);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct snapshot *s = snapshot_of(c);
	AUTO(json_decref) json_t *instance = NULL;
	struct instance *i = doc ? find_instance(s, doc, &instance) : NULL;

	if (s->is_busy) {
		controlled_later(c, AGAIN_MS);
	} else if (s->is_gone || !i) {
		controlled_removed(c);
	} else {
		s->is_removing = true;
		controlled_set(c, "deleting", "%s", "");
		work_on(s, i, doc, instance);
	}
}

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	(void)doc;
	snapshot_of(c)->memory.size = (uint64_t)json_integer_value(json_object_get(status, "memory_size"));
	return 0;
}

static void fini(struct controlled *c)
{
	instance_disks_clear(&snapshot_of(c)->disks);
	snapshot_memory_fini(&snapshot_of(c)->memory);
}

static void add_status(const struct controlled *c, json_t *status)
{
	uint64_t size = container_of(c, struct snapshot, c)->memory.size;

	if (size)
		json_object_set_new(status, "memory_size", json_integer((json_int_t)size));
}

const struct controller_kind snapshot_kind = {
	.kind = "snapshot", .size = sizeof(struct snapshot), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move.c - the request, the task, and the change of the document.
 *
 *	copy (machine off) or mirror (it runs) --> the document names the new pool and format, durably --> the old file goes
 *
 * A daemon that is killed begins again where it finds itself: with the old pool in the document the copy is made anew, unless the
 * machine has changed over already; with the new one the old file goes. */
#include "node/volume_move.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/bases.h"
#include "node/disk_files.h"
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/pool_dir.h"
#include "node/resource.h"
#include "node/volume.h"
#include "node/volume_move_priv.h"
#include "node/work.h"
#include "util/checked.h"

enum { AGAIN_NS = 1000000000 };

const struct schema volume_move_schema = {
	.name = "VolumeMove", .help = "Where it shall go.",
	.fields = (const struct schema_field[]){
		{ .name = "pool", .type = SCHEMA_NAME, .is_required = true, .help = "the pool; for another format alone the one that it is in" },
		{ .name = "format", .type = SCHEMA_STRING, .choices = "qcow2|raw", .help = "of its file from then on; else it stays what it is" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* --- who is on its way ---------------------------------------------------- */

/* The parameters of T, if it is a move in PROJECT that has not ended: new reference. */
static json_t *params_of(struct node *n, const struct task *t, const char *project)
{
	if (t->is_ended || strcmp(t->c.project, project) != 0 || (t->op && t->op != &volume_move_op))
		return NULL;
	AUTO(json_decref) json_t *doc = doc_get(n->store, t->c.key, NULL);
	return strcmp(text(doc, "operation"), volume_move_op.operation) ? NULL : json_incref(json_object_get(doc, "params"));
}

bool volume_move_is_begun(struct node *n, const char *project, const char *name)
{
	bool is_begun = false;

	for (struct controlled *c = controller_next(n->tasks, NULL); c && !is_begun; c = controller_next(n->tasks, c)) {
		AUTO(json_decref) json_t *params = params_of(n, container_of(c, struct task, c), project);

		is_begun = params && !strcmp(text(params, "volume"), name);
	}
	return is_begun;
}

static bool has_volume(const json_t *spec, const char *name)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, disk)
		if (!strcmp(text(disk, "volume"), name))
			return true;
	return false;
}

bool volume_move_holds(struct node *n, const char *project, const json_t *spec)
{
	bool holds = false;

	for (struct controlled *c = controller_next(n->tasks, NULL); c && !holds; c = controller_next(n->tasks, c)) {
		const struct task *t = container_of(c, struct task, c);
		AUTO(json_decref) json_t *params = params_of(n, t, project);
		const struct move *m = t->data;
		enum move_phase phase = m && params ? atomic_load(&m->phase) : MOVE_UNKNOWN;

		holds = params && has_volume(spec, text(params, "volume")) && (phase == MOVE_UNKNOWN || phase == MOVE_CHANGING);
	}
	return holds;
}

/* --- the request ---------------------------------------------------- */

void volume_move(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], task[DOC_NAME_MAX + 1];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *to = text(c->body, "pool"), *from = pool_of(json_object_get(doc, "spec"));
	const char *format = volume_format(json_object_get(doc, "spec")), *wanted = text(c->body, "format");

	wanted = wanted[0] ? wanted : format;
	if (!doc)
		return;
	int r = json_is_true(json_object_get(doc, "deleting")) ? err_set(&err, -EBUSY, "it is being deleted") : 0;
	if (!r && !strcmp(from, to) && !strcmp(format, wanted))
		r = err_set(&err, -EINVAL, "it is in the pool '%s' already, and %s", to, format);
	if (!r)
		r = pool_check_new(n, to, &err);
	if (!r && task_is_there(n, resource_project(c), "volume_uid", text(doc, "uid"), task))
		r = err_set(&err, -EBUSY, "the task '%s' is at work on it; wait for that, or cancel it", task);
	if (r < 0) {
		api_fail(c, r == -ENOENT ? -EINVAL : r, r == -EBUSY ? NULL : "pool", &err);
		return;
	}
	task_begin(c, json_pack("{s:O, s:O, s:s, s:s, s:s, s:s}", "volume", json_object_get(doc, "name"), "volume_uid",
				json_object_get(doc, "uid"), "from", from, "to", to, "from_format", format, "to_format", wanted));
}

/* --- beginning ---------------------------------------------------- */

static void let_go(struct move *m)
{
	if (m->held) {
		instance_end_move(m->held);
		instance_release(m->held);
	}
	m->held = NULL;
}

/* Tasks of earlier versions do not say, as there was only that. */
static const char *format_of(const json_t *params, const char *name)
{
	return !strcmp(text(params, name), "raw") ? "raw" : "qcow2";
}

static int find_place(struct node *n, const char *pool, const char *uid, const char *format, struct move_place *out, struct err *err)
{
	struct pool_ref ref;
	int r = pool_find(n, pool, &ref, err);

	if (r < 0)
		return r;
	snprintf(out->pool, sizeof(out->pool), "%s", ref.path);
	snprintf(out->uid, sizeof(out->uid), "%s", ref.uid);
	snprintf(out->volume, sizeof(out->volume), "%s", uid);
	snprintf(out->format, sizeof(out->format), "%s", format);
	disk_files_path(ref.path, ref.driver, uid, format, out->path, sizeof(out->path));
	return 0;
}

/* The instance that has it, if one has. 1: it can begin; 0: not yet. */
static int find_user(struct node *n, struct move *m, const char *volume, struct err *err)
{
	const char *project = m->task->c.project;
	char who[DOC_NAME_MAX + 1], key[STORE_KEY_MAX + 1];

	m->is_live = false;
	if (!volume_is_used(n, project, volume, who, sizeof(who)))
		return 1;
	doc_key(key, "instance", project, who);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	struct instance *i = instance_find_to_hold(n, project, who, text(doc, "uid"));
	if (!i || instance_is_between(i)) {
		err_set(err, -EAGAIN, "it waits for '%s', which is just starting or stopping", who);
		return 0;
	}
	if (instance_is_still(i)) {
		err_set(err, -EAGAIN, "it waits for '%s', of whose disks there is a snapshot being taken", who);
		return 0;
	}
	if (!instance_begin_move(i)) {
		err_set(err, -EAGAIN, "it waits for others who work on the disks of '%s'", who);
		return 0;
	}
	/* It does not start anew from what its document still says when its machine ends now. */
	m->held = i;
	instance_hold(i, false);
	m->is_live = !instance_is_off(i);
	instance_control_path(i, m->control, sizeof(m->control));
	return 1;
}

static void change_again(struct loop_timer *t);

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	struct move *m = t->data ? t->data : calloc(1, sizeof(*m));
	char key[STORE_KEY_MAX + 1];

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	if (!t->data)
		loop_timer_init(n->loop, &m->again, change_again);
	t->data = m;
	m->task = t;
	let_go(m);
	doc_key(key, "volume", t->c.project, text(params, "volume"));
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	if (strcmp(text(doc, "uid"), text(params, "volume_uid")) != 0)
		return err_set(err, -ENOENT, "the volume '%s' has gone", text(params, "volume"));
	m->is_changed = !strcmp(pool_of(json_object_get(doc, "spec")), text(params, "to")) &&
			!strcmp(volume_format(json_object_get(doc, "spec")), format_of(params, "to_format"));
	int r = find_place(n, text(params, "from"), text(params, "volume_uid"), format_of(params, "from_format"), &m->from, err);
	if (!r)
		r = find_place(n, text(params, "to"), text(params, "volume_uid"), format_of(params, "to_format"), &m->to, err);
	if (r < 0)
		return r == -EAGAIN ? 0 : r;
	t->works = pool_works(n, strcmp(text(params, "from"), POOL_DEFAULT) ? text(params, "from") : text(params, "to"));
	if (m->is_changed)
		return 1;
	if (!volume_is_made(n, t->c.project, text(params, "volume"))) {
		if (atomic_load_explicit(&t->stop, memory_order_relaxed))
			return err_set(err, -ECANCELED, "it was cancelled");
		err_set(err, -EAGAIN, "it waits until '%s' is made", text(params, "volume"));
		return 0;
	}
	if (volume_is_taken(n, t->c.project, text(params, "volume"))) {
		err_set(err, -EAGAIN, "it waits for others who work on '%s'", text(params, "volume"));
		return 0;
	}
	return find_user(n, m, text(params, "volume"), err);
}

static int run(struct task *t, struct err *err)
{
	struct move *m = t->data;

	if (m->is_changed)
		return 0;
	if (m->is_live)
		return move_mirror(m, err);
	atomic_store(&m->phase, MOVE_COPYING);
	return move_copy(m, err);
}

/* --- the end ---------------------------------------------------- */

static int remove_old(void *arg, struct err *err)
{
	struct move *m = arg;
	AUTO_FD int pool = pool_dir_open(m->from.pool, m->from.uid, err);

	int r = pool < 0 ? pool : disk_files_remove_one(m->from.path, err);

	return r < 0 ? r : bases_release(m->from.pool, m->from.volume, err);
}

static void old_removed(void *arg, int r, const struct err *err)
{
	struct move *m = arg;

	if (r < 0)
		task_say(m->task, "the old file stays behind: %s", err->msg);
	task_over(m->task, 0, err);
}

/* The document says so: the guest may go on. */
static void is_changed(struct move *m)
{
	struct node *n = m->task->c.node;
	struct err err = ERR_INIT;

	atomic_store(&m->phase, MOVE_DONE);
	let_go(m);
	if (atomic_load(&n->is_closing))
		return;                 /* the next daemon removes the old file */
	if (work_start(m->task->works, remove_old, old_removed, m) < 0)
		old_removed(m, err_set(&err, -ENOMEM, "out of memory"), &err);
}

static void changed(void *arg, const struct store_result *res)
{
	struct move *m = arg;

	if (!res->code)
		is_changed(m);
	else if (!atomic_load(&m->task->c.node->is_closing))
		loop_timer_set(&m->again, res->code == -ESTALE ? 1 : loop_now_ns() + AGAIN_NS);
}

/* A machine that has changed over cannot go back: tried until it works, and the machine waits. */
static void change(struct move *m)
{
	struct node *n = m->task->c.node;
	char key[STORE_KEY_MAX + 1];
	int64_t revision = 0;
	AUTO(json_decref) json_t *task = doc_get(n->store, m->task->c.key, NULL);
	const json_t *params = json_object_get(task, "params");

	doc_key(key, "volume", m->task->c.project, text(params, "volume"));
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, &revision);
	json_object_set(json_object_get(doc, "spec"), "pool", json_object_get(params, "to"));
	json_object_set_new(json_object_get(doc, "spec"), "format", json_string(format_of(params, "to_format")));
	if (!doc || !params || doc_put(n->store, key, doc, revision, changed, m) < 0)
		loop_timer_set(&m->again, loop_now_ns() + AGAIN_NS);
}

static void change_again(struct loop_timer *t)
{
	change(container_of(t, struct move, again));
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	struct move *m = t->data;

	(void)err;
	*result = json_pack("{s:s, s:s, s:s}", "volume", text(params, "volume"), "pool", text(params, "to"), "format",
			    format_of(params, "to_format"));
	if (m->is_changed)
		is_changed(m);
	else
		change(m);
	return 1;
}

static void release(struct task *t)
{
	struct move *m = t->data;

	if (!m)
		return;
	loop_timer_cancel(&m->again);
	let_go(m);
	blk_close(m->lock);
	free(m);
	t->data = NULL;
}

const struct task_op volume_move_op = {
	.operation = "moveVolume", .prepare = prepare, .run = run, .finish = finish, .release = release, .is_careful = true,
};

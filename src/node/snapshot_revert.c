/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_revert.c - an instance goes back to a snapshot: the power goes, its disks become what they were, and it is
 * started again if that is wanted. With memory the machine goes on from that, and is wanted again: the file of it gets another name,
 * by which the next start finds it (instance_memory.c). */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/files.h"
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/profile.h"
#include "node/resource.h"
#include "node/snapshot.h"
#include "node/snapshot_disks.h"
#include "node/snapshot_memory.h"
#include "node/task.h"
#include "util/err.h"

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* Has the instance what the memory of a snapshot needs? OF is the document of that, or the params of a task. REVISION (NULL: not
 * wanted) gets that of the instance. */
static int check_machine(struct node *n, const char *project, const json_t *of, int64_t *revision, struct err *err)
{
	const json_t *was = json_object_get(of, "machine");
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", project, text(of, "instance"));
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, revision);
	if (revision)
		*revision = instance_said_at(doc, *revision);
	int r = !was ? 0 : snapshot_check_machine(was, json_object_get(doc, "spec"), err);
	return r < 0 ? err_wrap(err, r, "'%s'", text(of, "instance")) : 0;
}

void snapshot_revert(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	int64_t revision = 0;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (!doc)
		return;
	doc_status_key(status_key, key);
	AUTO(json_decref) json_t *status = doc_get(n->store, status_key, NULL);
	const char *state = json_string_value(json_object_get(status, "state"));

	if (!state || strcmp(state, "ready") != 0) {
		api_fail(c, err_set(&err, -EBUSY, "the snapshot '%s' is not ready", api_param(c, "name")), NULL, &err);
		return;
	}
	struct instance *i = instance_find(n, resource_project(c), text(doc, "instance"), text(doc, "instance_uid"));
	if ((i && instance_check_named(i, &err) < 0) || check_machine(n, resource_project(c), doc, &revision, &err) < 0) {
		api_fail(c, err.code, NULL, &err);
		return;
	}
	task_begin(c, json_pack("{s:O, s:O, s:O, s:O, s:I, s:O*}", "instance", json_object_get(doc, "instance"), "instance_uid",
				json_object_get(doc, "instance_uid"), "snapshot", json_object_get(doc, "name"), "snapshot_uid",
				json_object_get(doc, "uid"), "revision", (json_int_t)revision, "machine", json_object_get(doc, "machine")));
}

struct revert {
	struct instance *instance;
	bool has_disks;                 /* of the instance, for writing */
	struct instance_disks disks;
	char snapshot[DOC_UID_LEN + 1];
	char *memory;                   /* the file of its memory; NULL: it has none */
	char *next[MEMORY_COPY + 1];    /* what the next start would go on from */
};

static int prepare_memory(struct revert *v, bool has_memory, struct err *err)
{
	for (enum instance_memory kind = MEMORY_OWN; kind <= MEMORY_COPY; kind++)
		if (!v->next[kind])
			v->next[kind] = instance_memory_path(v->instance, kind);
	if (has_memory && !v->memory)
		v->memory = instance_saved_path(v->instance, v->snapshot);
	return v->next[MEMORY_OWN] && v->next[MEMORY_COPY] && (!has_memory || v->memory) ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* What has never run has no disk, and will not get one by waiting. */
static bool has_root(const struct instance *i, const json_t *doc)
{
	AUTO(free) char *path = instance_root_path(i);

	return !json_object_get(json_object_get(doc, "spec"), "image") || (path && !access(path, F_OK));
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct revert *v = t->data ? t->data : calloc(1, sizeof(*v));
	char key[STORE_KEY_MAX + 1];

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = v;
	if (!v->instance) {
		v->instance = instance_find_to_hold(t->c.node, t->c.project, text(params, "instance"), text(params, "instance_uid"));
		if (!v->instance)
			return err_set(err, -ENOENT, "the instance '%s' has gone", text(params, "instance"));
		int r = check_machine(t->c.node, t->c.project, params, NULL, err);
		if (r < 0) {
			v->instance = NULL;
			return r;
		}
		instance_hold(v->instance, true);
		task_say(t, "the power of '%s' is cut", text(params, "instance"));
	}
	if (!v->has_disks && !instance_take_disks(v->instance, true)) {
		err_set(err, -EAGAIN, "it waits for '%s' to be off", text(params, "instance"));
		return 0;
	}
	v->has_disks = true;
	snprintf(v->snapshot, sizeof(v->snapshot), "%s", text(params, "snapshot_uid"));
	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *doc = doc_get(t->c.node->store, key, NULL);
	int r = instance_disks(&v->disks, v->instance, doc, false, err);
	/* A pool that a daemon has not looked at yet, a volume that another task works on. */
	if (r == -EAGAIN && has_root(v->instance, doc)) {
		instance_give_disks(v->instance, true);
		v->has_disks = false;
		return 0;
	}
	t->works = instance_disks_works(v->instance, doc);
	if (!r)
		r = prepare_memory(v, json_object_get(params, "machine") != NULL, err);
	return r < 0 ? r : 1;
}

/* Whatever it would have gone on from does not fit any more. */
static int forget_next(const struct revert *v, struct err *err)
{
	int r = files_remove(v->next[MEMORY_OWN], err);

	return r < 0 ? r : files_remove(v->next[MEMORY_COPY], err);
}

static int run(struct task *t, struct err *err)
{
	struct revert *v = t->data;

	if (atomic_load_explicit(&t->stop, memory_order_relaxed))
		return -ECANCELED;
	if (v->memory && access(v->memory, F_OK) < 0)
		return err_set(err, -ENOENT, "the memory of the snapshot is not there any more");
	int r = forget_next(v, err);
	if (!r)
		r = snapshot_apply(&v->disks, v->snapshot, err);
	if (!r && v->memory && link(v->memory, v->next[MEMORY_OWN]) < 0)
		r = err_set(err, -errno, "cannot make '%s': %s", v->next[MEMORY_OWN], strerror(errno));
	return !r && v->memory ? files_sync_above(v->memory, err) : r;
}

static void wanted_again(void *arg, const struct store_result *res)
{
	struct err err = ERR_INIT;

	/* What somebody has said in between stays. */
	task_over(arg, res->code && res->code != -ESTALE ? err_set(&err, res->code, "%s", res->message) : 0, &err);
}

/* That it runs is wanted again, and its document is a new one: it goes on although it may have ended by itself before. Not when the document has
 * changed since the request, which says what is wanted. 1: that is under way. */
static int want_again(struct task *t, const json_t *params, struct err *err)
{
	char key[STORE_KEY_MAX + 1];
	int64_t revision;

	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *doc = doc_get(t->c.node->store, key, &revision);
	json_t *spec = json_object_get(doc, "spec");
	if (!doc || instance_said_at(doc, revision) != json_integer_value(json_object_get(params, "revision")))
		return 0;
	if (!strcmp(text(spec, "state"), "stopped"))
		json_object_set_new(spec, "state", json_string("running"));
	json_object_del(doc, "unchanged_since");
	return doc_put(t->c.node->store, key, doc, revision, wanted_again, t) < 0 ? err_set(err, -ENOMEM, "out of memory") : 1;
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	const struct revert *v = t->data;

	(void)result;
	task_say(t, "the disks are those of '%s'", text(params, "snapshot"));
	return v->memory ? want_again(t, params, err) : 0;
}

static void release(struct task *t)
{
	struct revert *v = t->data;

	if (!v)
		return;
	if (v->has_disks)
		instance_give_disks(v->instance, true);
	if (v->instance)
		instance_release(v->instance);
	instance_disks_clear(&v->disks);
	free(v->memory);
	free(v->next[MEMORY_OWN]);
	free(v->next[MEMORY_COPY]);
	free(v);
	t->data = NULL;
}

const struct task_op snapshot_revert_op = {
	.operation = "revertSnapshot", .prepare = prepare, .run = run, .finish = finish, .release = release,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_revert.c - an instance goes back to a snapshot: the power goes, its disks become what they were, and it is
 * started again if that is wanted. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/snapshot.h"
#include "node/snapshot_disks.h"
#include "node/task.h"
#include "util/err.h"

void snapshot_revert(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], status_key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;

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
	task_begin(c, json_pack("{s:O, s:O, s:O, s:O}", "instance", json_object_get(doc, "instance"), "instance_uid",
				json_object_get(doc, "instance_uid"), "snapshot", json_object_get(doc, "name"), "snapshot_uid",
				json_object_get(doc, "uid")));
}

struct revert {
	struct instance *instance;
	bool has_disks;                 /* of the instance, for writing */
	struct instance_disks disks;
	char snapshot[DOC_UID_LEN + 1];
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct revert *v = t->data ? t->data : calloc(1, sizeof(*v));
	char key[STORE_KEY_MAX + 1];

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = v;
	if (!v->instance) {
		v->instance = instance_find(t->c.node, t->c.project, text(params, "instance"), text(params, "instance_uid"));
		if (!v->instance)
			return err_set(err, -ENOENT, "the instance '%s' has gone", text(params, "instance"));
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
	return r < 0 ? r : 1;
}

static int run(struct task *t, struct err *err)
{
	struct revert *v = t->data;

	return atomic_load_explicit(&t->stop, memory_order_relaxed) ? -ECANCELED :
								       snapshot_apply(&v->disks, v->snapshot, err);
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	(void)result;
	(void)err;
	task_say(t, "the disks are those of '%s'", text(params, "snapshot"));
	return 0;
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
	free(v);
	t->data = NULL;
}

const struct task_op snapshot_revert_op = {
	.operation = "revertSnapshot", .prepare = prepare, .run = run, .finish = finish, .release = release,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* instance_api.c - what can be asked of an instance beyond its document. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/idempotency.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/resource.h"

/* The instance that C names; answers and returns NULL when there is none. */
static struct instance *find(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct node *n = c->arg;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	struct controlled *found = doc ? controller_find(n->instances, key) : NULL;

	if (doc && !found)
		api_fail(c, err_set(&err, -EAGAIN, "'%s' is only just being looked at; try again", c->param[0]), NULL,
			 &err);
	return (struct instance *)found;
}

static bool is_up(struct api_call *c, const struct instance *i)
{
	struct err err = ERR_INIT;

	if (i->phase == PHASE_UP && !i->is_fork)
		return true;
	api_fail(c,
		 err_set(&err, -EBUSY, "'%s' is not running: it is %s", c->param[0],
			 i->c.state[0] ? i->c.state : "new"),
		 NULL, &err);
	return false;
}

struct instance *instance_running(struct api_call *c)
{
	struct instance *i = find(c);

	return i && is_up(c, i) ? i : NULL;
}

static void answered(void *arg, int r, const json_t *result, const struct err *err)
{
	struct api_call *c = arg;

	if (r < 0)
		api_fail(c, r, NULL, err);
	else
		api_reply(c, 200, json_deep_copy(result));
}

static void restart_noted(void *arg, const struct store_result *r)
{
	struct api_call *c = arg;
	struct err err = ERR_INIT;

	if (r->code == -ESTALE)
		api_fail(c, err_set(&err, -EAGAIN, "'%s' has just been changed; try again", c->param[0]), NULL, &err);
	else if (r->code)
		api_fail(c, err_set(&err, r->code, "%s", r->message), NULL, &err);
	else
		api_reply(c, 202, NULL);
}

/* What shall end stands in the document, so a restart that was acknowledged happens, and happens once, whatever becomes of this
 * daemon. One that has powered itself off is started by the document's new revision alone. */
static void restart(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	int64_t revision;
	struct node *n = c->arg;
	struct instance *i = find(c);
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = i ? resource_find(c, key, &revision) : NULL;
	struct idempotency_record record;
	struct store_op ops[2];

	if (!doc)
		return;
	if (i->phase == PHASE_UNKNOWN) {
		api_fail(c, err_set(&err, -EAGAIN, "'%s' is only just being looked at; try again", c->param[0]), NULL, &err);
		return;
	}
	json_object_set_new(doc, "restart_of", json_integer(i->proc.pid));
	json_object_del(doc, "unchanged_since");
	if (c->is_dry_run) {
		api_reply(c, 200, json_incref(doc));
		return;
	}
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	ops[0] = (struct store_op){ .kind = STORE_PUT, .key = key, .value = text, .len = text ? strlen(text) : 0, .if_modified = revision };
	if (text)
		store_commit(n->store, ops, idempotency_op(c, key, 202, &ops[1], &record) ? 2 : 1, restart_noted, c);
	else
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

void instance_action(struct api_call *c)
{
	const char *action = strrchr(c->route->path, '/') + 1;
	struct instance *i = strcmp(action, "restart") ? find(c) : NULL;

	if (!strcmp(action, "restart") && idempotency_answered(c))
		return;
	if (!strcmp(action, "restart"))
		restart(c);
	else if (i && is_up(c, i))
		vmm_request(i->vmm, action, NULL, answered, c);
}

void instance_stats(struct api_call *c)
{
	struct instance *i = find(c);

	if (i && is_up(c, i))
		vmm_request(i->vmm, "stats", NULL, answered, c);
}

void instance_log(struct api_call *c)
{
	struct instance *i = find(c);

	if (i)
		console_hub_answer(i->console, c);
}

void instance_console(struct api_call *c)
{
	struct instance *i = find(c);

	if (i)
		console_hub_open(i->console, c);
}

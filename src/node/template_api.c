/* SPDX-License-Identifier: Apache-2.0 */
/* template_api.c - asking for templates: requests, and instances that would have begun as one. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/idempotency.h"
#include "node/image.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/task.h"
#include "node/template.h"
#include "util/err.h"
#include "util/json.h"

enum { BESIDES = 64 << 20 };            /* bytes for the disk of one */

const struct schema warm_schema = {
	.name = "Warm", .help = "The shape of the instances that a template is for.",
	.fields = (const struct schema_field[]){
		{ .name = "cpus", .type = SCHEMA_INT, .min = 1, .max = 64, .dflt = "1", .help = "processors" },
		{ .name = "memory", .type = SCHEMA_SIZE, .min = 4 << 20, .max = (int64_t)1 << 42, .dflt = "536870912", .help = "of the guest" },
		{ .name = "engine", .type = SCHEMA_STRING, .choices = "auto|kvm|bt|interp", .dflt = "\"auto\"", .help = "what executes it" },
		{ .name = "cpu", .type = SCHEMA_STRING, .min = 1, .max = 200, .dflt = "\"host\"", .help = "model of the processors" },
		{ .name = "disk_size", .type = SCHEMA_SIZE, .min = 1 << 20, .max = (int64_t)1 << 46,
		  .help = "of the first disk; without it that of the image" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name)) ?: "";
}

/* What of SPEC a template has as well. */
static json_t *make_shape(const json_t *spec, const char *image)
{
	return json_pack("{s:s, s:O, s:O, s:O, s:O, s:O*, s:b, s:s, s:s, s:[], s:[], s:[{s:s, s:[]}]}", "image", image, "cpus",
			 json_object_get(spec, "cpus"), "memory", json_object_get(spec, "memory"), "engine", json_object_get(spec, "engine"),
			 "cpu", json_object_get(spec, "cpu"), "disk_size", json_object_get(spec, "disk_size"), "agent", 1, "state",
			 "running", "template", "auto", "disks", "ssh_keys", "networks", "kind", "user", "forwards");
}

/* What the task is to know; NULL: out of memory, or there is no such image. */
static json_t *make_params(struct node *n, const char *project, const json_t *spec, const char *image, const char *after)
{
	char uid[DOC_UID_LEN + 1], key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *shape = make_shape(spec, image);
	AUTO(free) char *fits = shape ? template_key(n, project, shape) : NULL;

	doc_new_uid(uid);
	doc_key(key, "image", project, image);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	return fits ? json_pack("{s:s, s:O, s:s, s:s, s:O, s:s*}", "image", image, "image_uid", json_object_get(doc, "uid"), "template", uid, "key",
				fits, "spec", shape, "after", after) : NULL;
}

void image_warm(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], task[DOC_NAME_MAX + 1];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	if (!doc)
		return;
	const char *name = text(doc, "name"), *project = resource_project(c);
	AUTO(json_decref) json_t *params = make_params(n, project, c->body, name, NULL);
	struct image_files files = { .disk = NULL };
	int r = params ? image_find(n, project, name, &files, &err) : err_set(&err, -ENOMEM, "out of memory");

	image_files_free(&files);
	if (!r && !templates_max(n->templates))
		r = err_set(&err, -ENOTSUP, "this daemon keeps no templates: it was started with '--templates 0'");
	if (!r && template_is_there(n, text(params, "key")))
		r = err_set(&err, -EEXIST, "there is a template of that shape already");
	if (!r && task_is_there(n, project, "key", text(params, "key"), task))
		r = err_set(&err, -EBUSY, "the task '%s' makes it already", task);
	if (r < 0)
		api_fail(c, r, NULL, &err);
	else
		task_begin(c, json_incref(params));
}

void image_cool(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (!doc)
		return;
	if (!c->is_dry_run)
		templates_drop(c->arg, text(doc, "uid"));
	api_reply(c, 200, json_incref(doc));
}

int template_check_room(struct node *n, const json_t *spec, struct err *err)
{
	return pool_check_room(n, POOL_DEFAULT, (uint64_t)json_integer_value(json_object_get(spec, "memory")) + BESIDES, err);
}

void template_want(struct node *n, const json_t *doc, char why[TEMPLATE_WHY_LEN])
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *project = text(doc, "project");
	char task[DOC_NAME_MAX + 1];
	struct err err = ERR_INIT;
	size_t len = strlen(why);

	AUTO(json_decref) json_t *params = make_params(n, project, spec, text(spec, "image"), text(doc, "uid"));
	if (!params || task_is_there(n, project, "key", text(params, "key"), task))
		return;
	if (template_check_room(n, spec, &err) < 0)
		snprintf(why + len, TEMPLATE_WHY_LEN - len, ", and none is made: %.150s", err.msg);
	else if (!task_begin_own(n, template_make_op.operation, project, json_incref(params)))
		snprintf(why + len, TEMPLATE_WHY_LEN - len, "; one is made for the next");
}

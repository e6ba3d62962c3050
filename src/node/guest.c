/* SPDX-License-Identifier: Apache-2.0 */
#include "node/guest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "api/http.h"
#include "api/route.h"
#include "node/instance_priv.h"

/* The longest request of the control socket has room for that much base64. */
enum { DATA_MAX = 40000, TIMEOUT_MAX_S = 3600 };

const struct schema guest_exec_schema = {
	.name = "GuestExec", .help = "A program to be run inside.",
	.fields = (const struct schema_field[]){
		{ .name = "program", .type = SCHEMA_STRING, .is_required = true, .min = 1, .max = 4096,
		  .help = "its path, or its name to be searched for in the agent's PATH" },
		{ .name = "args", .type = SCHEMA_LIST, .max = 1000, .help = "its arguments" },
		{ .name = "input", .type = SCHEMA_STRING, .max = DATA_MAX, .help = "its standard input, as base64" },
		{ .name = "timeout", .type = SCHEMA_INT, .min = 1, .max = TIMEOUT_MAX_S, .dflt = "60",
		  .help = "seconds to wait for its end" },
		{ .name = NULL },
	},
};

const struct schema guest_write_schema = {
	.name = "GuestWrite", .help = "A piece of a file inside.",
	.fields = (const struct schema_field[]){
		{ .name = "path", .type = SCHEMA_STRING, .is_required = true, .min = 1, .max = 4096,
		  .help = "of the file, which is made unless it is there" },
		{ .name = "data", .type = SCHEMA_STRING, .is_required = true, .max = DATA_MAX, .help = "what to write, as base64" },
		{ .name = "append", .type = SCHEMA_BOOL, .dflt = "false", .help = "write at its end; else it is emptied first" },
		{ .name = NULL },
	},
};

static void refuse(struct api_call *c, int r, const struct err *err)
{
	struct err why = *err;

	if (r == -ENOTSUP)
		err_set(&why, r, "the instance has no port for a guest agent; set 'spec.agent' to true, then restart it");
	if (r == -ECONNRESET || r == -ECANCELED || r == -EPIPE)
		r = err_set(&why, -EBUSY, "the machine has ended, or been reset, before its guest agent answered");
	/* What the guest does wrong is no failure of the daemon's. */
	api_fail(c, r == -EPROTO || r == -EMSGSIZE ? -EREMOTEIO : r, NULL, &why);
}

static void answered(void *arg, int r, const json_t *result, const struct err *err)
{
	struct api_call *c = arg;

	if (r < 0)
		refuse(c, r, err);
	else
		api_reply(c, 200, json_deep_copy(result));
}

/* Ask the machine that C names; PARAMS is taken. */
static void ask(struct api_call *c, const char *request, json_t *params)
{
	struct instance *i = instance_running(c);

	if (i)
		vmm_request(i->vmm, request, params, answered, c);
	else
		json_decref(params);
}

void guest_exec(struct api_call *c)
{
	ask(c, "agent-exec", json_incref(c->body));
}

void guest_write(struct api_call *c)
{
	c->file = json_string_value(json_object_get(c->body, "path"));
	c->is_further = json_is_true(json_object_get(c->body, "append"));
	ask(c, "agent-write", json_incref(c->body));
}

void guest_read(struct api_call *c)
{
	struct err err = ERR_INIT;
	const char *path = http_query(c->rq, "path"), *offset = http_query(c->rq, "offset");
	char *end = NULL;
	unsigned long long at = offset ? strtoull(offset, &end, 10) : 0;

	if (!path || !*path)
		api_fail(c, err_set(&err, -EINVAL, "which file? say '?path=...'"), "path", &err);
	else if (end && (end == offset || *end || at > INT64_MAX))
		api_fail(c, err_set(&err, -EINVAL, "'%s' is no place in a file", offset), "offset", &err);
	else
		ask(c, "agent-read", json_pack("{s:s, s:I}", "path", path, "offset", (json_int_t)at));
}

/* --- two questions, one answer ---------------------------------------------------- */

struct show {
	struct api_call *call;
	json_t *info;
};

static void show_addresses(void *arg, int r, const json_t *result, const struct err *err)
{
	struct show *s = arg;

	if (r < 0)
		refuse(s->call, r, err);
	else
		api_reply(s->call, 200, json_pack("{s:O, s:O}", "system", s->info, "interfaces",
						  json_object_get(result, "interfaces")));
	json_decref(s->info);
	free(s);
}

static void show_info(void *arg, int r, const json_t *result, const struct err *err)
{
	struct show *s = arg;
	struct instance *i;

	if (r < 0) {
		refuse(s->call, r, err);
		free(s);
		return;
	}
	s->info = json_deep_copy(result);
	json_object_del(s->info, "commands");
	i = instance_running(s->call);
	if (i) {
		vmm_request(i->vmm, "agent-addresses", NULL, show_addresses, s);
	} else { /* it has ended meanwhile, and that has been answered */
		json_decref(s->info);
		free(s);
	}
}

void guest_show(struct api_call *c)
{
	struct instance *i = instance_running(c);
	struct show *s = i ? calloc(1, sizeof(*s)) : NULL;
	struct err err = ERR_INIT;

	if (!i)
		return;
	if (!s) {
		api_fail(c, err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
		return;
	}
	s->call = c;
	vmm_request(i->vmm, "agent-info", NULL, show_info, s);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that are one command of the guest agent, and snapshots between freeze and thaw. */
#include "vm/control_agent.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "vm/agent.h"
#include "vm/machine_priv.h"

enum {
	SHUTDOWN_MS = 2000,             /* an agent that refuses says so within that */
	FREEZE_MS = 60000,              /* all that was written goes to the disks first */
	THAW_TRIES = 3,
	ADDRESSES_MAX = 256,            /* that are told */
};

static struct agent *call_agent(const struct control_call *call)
{
	const struct machine *m = control_machine(call->control);

	return m->cfg->has_agent ? m->agent : NULL;     /* what has been unplugged may come back */
}

static int ask(struct control_call *call, const struct agent_call *c, struct err *err)
{
	int r = agent_call(call_agent(call), c, err);

	return r < 0 ? r : 1;
}

/* Done; nothing is to be told. */
static void answer_empty(void *arg, json_t *result, const struct err *err)
{
	control_finish(arg, NULL, err);
}

int control_agent_ping(struct control_call *call, struct err *err)
{
	return ask(call, &(struct agent_call){ .command = "guest-ping", .done = answer_empty, .arg = call }, err);
}

const struct control_param control_agent_shutdown_params[] = {
	{ "mode", CONTROL_CHOICE, false, "powerdown|reboot|halt", "what the guest is to do; powerdown unless given", "powerdown reboot halt" },
	{ .name = NULL },
};

/* An agent that has gone, with or without its machine, has done what it was asked. */
static void answer_shutdown(void *arg, json_t *result, const struct err *err)
{
	control_finish(arg, NULL, err && (err->code == -ECANCELED || err->code == -ENOTCONN) ? NULL : err);
}

int control_agent_shutdown(struct control_call *call, struct err *err)
{
	struct agent_call c = {
		.command = "guest-shutdown", .timeout_ms = SHUTDOWN_MS, .has_no_answer = true, .done = answer_shutdown, .arg = call,
		.arguments = json_pack("{s:s}", "mode", control_get_string(call->params, "mode", "powerdown")),
	};
	return ask(call, &c, err);
}

int control_agent_set_time(struct control_call *call, struct err *err)
{
	struct machine *m = control_machine(call->control);
	struct agent_call c = {
		.command = "guest-set-time", .done = answer_empty, .arg = call,
		.arguments = json_pack("{s:I}", "time", (json_int_t)source_wall_ns(&m->source.s)),
	};
	return ask(call, &c, err);
}

/* --- addresses --- */

/* "192.168.1.2/24" of each address of interface I. */
static json_t *addresses_of(json_t *i)
{
	json_t *list = json_array(), *a;
	size_t n;

	json_array_foreach(json_object_get(i, "ip-addresses"), n, a) {
		const char *text = json_string_value(json_object_get(a, "ip-address"));
		json_int_t prefix = json_integer_value(json_object_get(a, "prefix"));

		if (text && n < ADDRESSES_MAX)
			json_array_append_new(list, json_sprintf("%.64s/%d", text, (int)(prefix & 0xff)));
	}
	return list;
}

static void answer_addresses(void *arg, json_t *result, const struct err *err)
{
	json_t *list = json_array(), *i;
	size_t n;

	json_array_foreach(result, n, i) {
		const char *name = json_string_value(json_object_get(i, "name"));
		const char *mac = json_string_value(json_object_get(i, "hardware-address"));

		if (name && n < ADDRESSES_MAX)
			json_array_append_new(list, json_pack("{s:s, s:s*, s:o}", "name", name, "mac", mac, "addresses", addresses_of(i)));
	}
	control_finish(arg, json_pack("{s:o}", "interfaces", list), err);
}

int control_agent_addresses(struct control_call *call, struct err *err)
{
	struct agent_call c = { .command = "guest-network-get-interfaces", .done = answer_addresses, .arg = call };

	return ask(call, &c, err);
}

/* --- info: of three commands, the last two of which an agent may lack --- */

static void info_named(void *arg, json_t *result, const struct err *err)
{
	struct control_call *call = arg;
	json_t *name = json_object_get(result, "host-name");

	if (json_is_string(name))
		json_object_set(call->result, "host_name", name);
	control_finish(call, take_ptr(&call->result), NULL);
}

static void info_next(struct control_call *call, const char *command, void (*done)(void *, json_t *, const struct err *))
{
	struct err why = ERR_INIT;
	struct agent_call c = { .command = command, .done = done, .arg = call };

	if (agent_call(call_agent(call), &c, &why) < 0)
		control_finish(call, take_ptr(&call->result), NULL);
}

static void info_os(void *arg, json_t *result, const struct err *err)
{
	static const char *const keys[] = { "id", "pretty-name", "version-id", "kernel-release", "machine" };
	struct control_call *call = arg;
	json_t *os = json_object();

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *v = json_object_get(result, keys[i]);

		if (json_is_string(v))
			json_object_set(os, keys[i], v);
	}
	json_object_set_new(call->result, "os", os);
	info_next(call, "guest-get-host-name", info_named);
}

static void info_agent(void *arg, json_t *result, const struct err *err)
{
	struct control_call *call = arg;
	json_t *commands = json_array(), *c;
	size_t i;

	if (err) {
		json_decref(commands);
		control_finish(call, NULL, err);
		return;
	}
	json_array_foreach(json_object_get(result, "supported_commands"), i, c) {
		json_t *name = json_object_get(c, "name");

		if (json_is_true(json_object_get(c, "enabled")) && json_is_string(name) && i < ADDRESSES_MAX)
			json_array_append(commands, name);
	}
	const char *version = json_string_value(json_object_get(result, "version"));
	call->result = json_pack("{s:s, s:o}", "version", version ? version : "", "commands", commands);
	info_next(call, "guest-get-osinfo", info_os);
}

int control_agent_info(struct control_call *call, struct err *err)
{
	return ask(call, &(struct agent_call){ .command = "guest-info", .done = info_agent, .arg = call }, err);
}

/* --- freeze and thaw --- */

static void answer_count(void *arg, json_t *result, const struct err *err)
{
	control_finish(arg, err ? NULL : json_pack("{s:I}", "file_systems", json_integer_value(result)), err);
}

int control_agent_freeze(struct control_call *call, struct err *err)
{
	struct agent_call c = { .command = "guest-fsfreeze-freeze", .timeout_ms = FREEZE_MS, .done = answer_count, .arg = call };

	return ask(call, &c, err);
}

int control_agent_thaw(struct control_call *call, struct err *err)
{
	struct agent_call c = { .command = "guest-fsfreeze-thaw", .timeout_ms = FREEZE_MS, .done = answer_count, .arg = call };

	return ask(call, &c, err);
}

/* A call between freeze and thaw. */
struct quiesced {
	struct control_call *call;
	int (*run)(struct control_call *call, struct err *err);
	json_t *result;
	struct err err;                 /* code 0: well so far */
	unsigned tries;
};

static void quiesced_end(struct quiesced *q)
{
	control_finish(q->call, q->err.code ? NULL : take_ptr(&q->result), q->err.code ? &q->err : NULL);
	json_decref(q->result);
	free(q);
}

static void quiesced_thawed(void *arg, json_t *result, const struct err *err);

static void quiesced_thaw(struct quiesced *q)
{
	struct agent_call c = { .command = "guest-fsfreeze-thaw", .done = quiesced_thawed, .arg = q };
	struct err why = ERR_INIT;

	q->tries++;
	if (agent_call(call_agent(q->call), &c, &why) < 0)
		quiesced_thawed(q, NULL, &why);
}

static void quiesced_thawed(void *arg, json_t *result, const struct err *err)
{
	struct quiesced *q = arg;
	struct err first = q->err;

	if (err && err->code == -ETIMEDOUT && q->tries < THAW_TRIES) {
		quiesced_thaw(q);
		return;
	}
	q->err = (struct err)ERR_INIT;
	if (err)
		err_set(&q->err, err->code, "the guest's file systems may be frozen still, use agent-thaw: %s; %s", err->msg,
			first.code ? first.msg : "what was asked for is done");
	else if (first.code)
		q->err = first;
	quiesced_end(q);
}

/* The request itself is done. */
static void quiesced_ran(struct control_call *call, json_t *result, const struct err *err)
{
	struct quiesced *q = call->hook_arg;

	q->result = result;
	if (err)
		q->err = *err;
	quiesced_thaw(q);
}

static void quiesced_frozen(void *arg, json_t *result, const struct err *err)
{
	struct quiesced *q = arg;

	if (err) {
		q->err = *err;
		/* It may come to it yet. */
		if (err->code == -ETIMEDOUT || err->code == -EPROTO)
			quiesced_thaw(q);
		else
			quiesced_end(q);
		return;
	}
	q->call->hook = quiesced_ran;
	q->call->hook_arg = q;
	struct err why = ERR_INIT;
	int r = q->run(q->call, &why);
	if (r <= 0)
		control_finish(q->call, r ? NULL : take_ptr(&q->call->result), r ? &why : NULL);
}

int control_quiesced(struct control_call *call, int (*run)(struct control_call *call, struct err *err), struct err *err)
{
	struct quiesced *q = calloc(1, sizeof(*q));
	struct agent_call c = { .command = "guest-fsfreeze-freeze", .timeout_ms = FREEZE_MS, .done = quiesced_frozen, .arg = q };

	if (!q)
		return err_set(err, -ENOMEM, "out of memory");
	if (machine_get_state(control_machine(call->control)) != MACHINE_RUNNING) {
		free(q);
		return err_set(err, -EBUSY, "the guest agent of a machine that is not running cannot freeze its file systems");
	}
	q->call = call;
	q->run = run;
	int r = agent_call(call_agent(call), &c, err);
	if (r < 0)
		free(q);
	return r < 0 ? r : 1;
}

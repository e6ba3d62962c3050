/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the guest agent that take several commands: a program that is waited for, a piece of a file. */
#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "vm/agent.h"
#include "vm/control_agent.h"
#include "vm/machine_priv.h"

enum {
	EXEC_POLL_MS = 20, EXEC_POLL_MAX_MS = 500,
	EXEC_TIMEOUT_S = 60, EXEC_TIMEOUT_MAX_S = 86400,
	FILE_CHUNK = 256 << 10,         /* bytes of one request, before base64 */
};

struct agent_op {
	struct control_call *call;
	struct agent *agent;
	uint64_t deadline_ns;           /* exec */
	unsigned poll_ms;               /* exec: until it is asked again */
	json_int_t handle;              /* process or file, as the agent calls it */
	json_t *result;
	struct err err;                 /* code 0: well so far */
};

static void op_end(struct agent_op *op)
{
	control_finish(op->call, op->err.code ? NULL : take_ptr(&op->result), op->err.code ? &op->err : NULL);
	json_decref(op->result);
	free(op);
}

typedef void (*op_fn)(void *arg, json_t *result, const struct err *err);

/* The next command, AFTER_MS from now; NEXT is told how it went, also when it could not begin. ARGUMENTS is taken. */
static void op_after(struct agent_op *op, unsigned after_ms, const char *command, json_t *arguments, op_fn next)
{
	struct agent_call c = { .command = command, .arguments = arguments, .after_ms = after_ms, .done = next, .arg = op };
	struct err why = ERR_INIT;

	if (agent_call(op->agent, &c, &why) < 0)
		next(op, NULL, &why);
}

static void op_next(struct agent_op *op, const char *command, json_t *arguments, op_fn next)
{
	op_after(op, 0, command, arguments, next);
}

static int op_start(struct control_call *call, const char *command, json_t *arguments, op_fn next, struct err *err)
{
	struct machine *m = control_machine(call->control);
	struct agent_op *op = calloc(1, sizeof(*op));
	struct agent_call c = { .command = command, .arguments = arguments, .done = next, .arg = op };

	if (!op) {
		json_decref(arguments);
		return err_set(err, -ENOMEM, "out of memory");
	}
	op->call = call;
	op->agent = m->cfg->has_agent ? m->agent : NULL;
	op->poll_ms = EXEC_POLL_MS;
	op->deadline_ns = loop_now_ns() + control_get_uint(call->params, "timeout", EXEC_TIMEOUT_S) * 1000000000u;
	int r = agent_call(op->agent, &c, err);
	if (r < 0)
		free(op);
	return r < 0 ? r : 1;
}

/* What was expected did not come: the reason. */
static bool op_failed(struct agent_op *op, const struct err *err, bool is_well_formed)
{
	if (err)
		op->err = *err;
	else if (!is_well_formed)
		err_set(&op->err, -EPROTO, "the guest agent's answer is not understood");
	return op->err.code;
}

/* --- exec --- */

const struct control_param control_agent_exec_params[] = {
	{ "program", CONTROL_STRING, true, "PROGRAM", "its path, or its name to be searched in the agent's PATH", NULL },
	{ "args", CONTROL_STRINGS, false, "ARG", "its arguments: an array of strings", NULL },
	{ "input", CONTROL_STRING, false, "input=BASE64", "its standard input", NULL },
	{ "timeout", CONTROL_UINT, false, "timeout=SECONDS", "how long to wait for its end; 60 unless given", NULL },
	{ .name = NULL },
};

static json_t *exec_result(const json_t *r)
{
	const char *out = json_string_value(json_object_get(r, "out-data")), *e = json_string_value(json_object_get(r, "err-data"));
	json_t *exit = json_object_get(r, "exitcode"), *sig = json_object_get(r, "signal");

	return json_pack("{s:O*, s:O*, s:s, s:s, s:b}", "exit", json_is_integer(exit) ? exit : NULL, "signal",
			 json_is_integer(sig) ? sig : NULL, "out", out ? out : "", "err", e ? e : "", "truncated",
			 json_is_true(json_object_get(r, "out-truncated")) || json_is_true(json_object_get(r, "err-truncated")));
}

static void exec_ask(struct agent_op *op);

static void exec_status(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;
	json_t *exited = json_object_get(result, "exited");

	if (op_failed(op, err, json_is_boolean(exited))) {
		op_end(op);
	} else if (json_is_true(exited)) {
		op->result = exec_result(result);
		op_end(op);
	} else if (loop_now_ns() > op->deadline_ns) {
		err_set(&op->err, -ETIMEDOUT, "the program still runs, as process %lld of the guest", (long long)op->handle);
		op_end(op);
	} else {
		exec_ask(op);
		op->poll_ms = 2 * op->poll_ms < EXEC_POLL_MAX_MS ? 2 * op->poll_ms : EXEC_POLL_MAX_MS;
	}
}

static void exec_ask(struct agent_op *op)
{
	op_after(op, op->poll_ms, "guest-exec-status", json_pack("{s:I}", "pid", op->handle), exec_status);
}

static void exec_began(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;
	json_t *pid = json_object_get(result, "pid");

	if (op_failed(op, err, json_is_integer(pid))) {
		op_end(op);
		return;
	}
	op->handle = json_integer_value(pid);
	exec_ask(op);
}

int control_agent_exec(struct control_call *call, struct err *err)
{
	if (control_get_uint(call->params, "timeout", 0) > EXEC_TIMEOUT_MAX_S)
		return err_set(err, -EINVAL, "timeout: at most %d seconds", EXEC_TIMEOUT_MAX_S);
	return op_start(call, "guest-exec",
			json_pack("{s:s, s:O*, s:s*, s:b}", "path", control_get_string(call->params, "program", ""), "arg",
				  json_object_get(call->params, "args"), "input-data", control_get_string(call->params, "input", NULL),
				  "capture-output", 1), exec_began, err);
}

/* --- a piece of a file --- */

const struct control_param control_agent_read_params[] = {
	{ "path", CONTROL_STRING, true, "PATH", "of a file in the guest", NULL },
	{ "offset", CONTROL_UINT, false, "offset=N", "where to begin; 0 unless given", NULL },
	{ "count", CONTROL_UINT, false, "count=N", "bytes, at most 262144, which is the default", NULL },
	{ .name = NULL },
};

const struct control_param control_agent_write_params[] = {
	{ "path", CONTROL_STRING, true, "PATH", "of a file in the guest; it is made unless it is there", NULL },
	{ "data", CONTROL_STRING, true, "BASE64", "what to write", NULL },
	{ "append", CONTROL_BOOL, false, "append=on|off", "write at its end; else it is emptied first", NULL },
	{ .name = NULL },
};

static void file_closed(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;

	if (err && !op->err.code)
		op->err = *err;         /* what was written may be lost */
	op_end(op);
}

static void file_close(struct agent_op *op)
{
	op_next(op, "guest-file-close", json_pack("{s:I}", "handle", op->handle), file_closed);
}

static void file_read(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;
	const char *data = json_string_value(json_object_get(result, "buf-b64"));
	json_t *count = json_object_get(result, "count"), *eof = json_object_get(result, "eof");

	if (!op_failed(op, err, data && json_is_integer(count) && json_is_boolean(eof)))
		op->result = json_pack("{s:s, s:O, s:O}", "data", data, "count", count, "eof", eof);
	file_close(op);
}

static void file_sought(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;

	if (op_failed(op, err, true))
		file_close(op);
	else
		op_next(op, "guest-file-read", json_pack("{s:I, s:I}", "handle", op->handle, "count",
							 (json_int_t)control_get_uint(op->call->params, "count", FILE_CHUNK)), file_read);
}

static void file_opened_to_read(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;

	if (op_failed(op, err, json_is_integer(result))) {
		op_end(op);
		return;
	}
	op->handle = json_integer_value(result);
	op_next(op, "guest-file-seek", json_pack("{s:I, s:I, s:i}", "handle", op->handle, "offset",
						 (json_int_t)control_get_uint(op->call->params, "offset", 0), "whence", 0), file_sought);
}

int control_agent_read(struct control_call *call, struct err *err)
{
	if (control_get_uint(call->params, "count", 0) > FILE_CHUNK)
		return err_set(err, -EINVAL, "count: at most %d bytes", FILE_CHUNK);
	return op_start(call, "guest-file-open",
			json_pack("{s:s, s:s}", "path", control_get_string(call->params, "path", ""), "mode", "r"), file_opened_to_read, err);
}

static void file_written(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;
	json_t *count = json_object_get(result, "count");

	if (!op_failed(op, err, json_is_integer(count)))
		op->result = json_pack("{s:O}", "count", count);
	file_close(op);
}

static void file_opened_to_write(void *arg, json_t *result, const struct err *err)
{
	struct agent_op *op = arg;

	if (op_failed(op, err, json_is_integer(result))) {
		op_end(op);
		return;
	}
	op->handle = json_integer_value(result);
	op_next(op, "guest-file-write", json_pack("{s:I, s:s}", "handle", op->handle, "buf-b64",
						  control_get_string(op->call->params, "data", "")), file_written);
}

int control_agent_write(struct control_call *call, struct err *err)
{
	const char *mode = control_get_bool(call->params, "append", false) ? "a" : "w";

	return op_start(call, "guest-file-open",
			json_pack("{s:s, s:s}", "path", control_get_string(call->params, "path", ""), "mode", mode), file_opened_to_write, err);
}

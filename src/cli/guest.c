/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guest.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/guest_priv.h"
#include "cli/output.h"
#include "util/base64.h"

enum { CHUNK = GUEST_CHUNK, WAIT_STEP_MS = 300 };

/* --- exec ---------------------------------------------------- */

int guest_put(FILE *to, const json_t *result, const char *key, struct err *err)
{
	const char *text = json_string_value(json_object_get(result, key)) ?: "";
	size_t len = strlen(text);
	AUTO(free) uint8_t *buf = malloc(len + 1);
	ssize_t n = buf ? base64_decode(buf, text, len) : -ENOMEM;

	if (n < 0)
		return err_set(err, (int)n, "the daemon's answer is not understood");
	fwrite(buf, 1, (size_t)n, to);
	return fflush(to) ? err_set(err, -errno, "cannot write: %s", strerror(errno)) : 0;
}

/* What is piped in, as base64 from malloc(). */
static char *read_input(struct err *err)
{
	uint8_t buf[CHUNK + 1];
	size_t n = fread(buf, 1, sizeof(buf), stdin);
	char *text = malloc(BASE64_LEN(CHUNK) + 1);

	if (text && n <= CHUNK) {
		base64_encode(text, buf, n);
		return text;
	}
	err_set(err, text ? -E2BIG : -ENOMEM, "more than %d bytes of input; copy it with 'viv cp' first", CHUNK);
	free(text);
	return NULL;
}

static json_t *exec_body(const struct cli *c, struct err *err)
{
	AUTO(free) char *input = cli_flag(c, "--input") ? read_input(err) : NULL;
	json_t *args = json_array(), *body;

	for (unsigned i = 2; i < c->n_args; i++)
		json_array_append_new(args, json_string(c->args[i]));
	if (err->code || json_array_size(args) != c->n_args - 2) {
		json_decref(args);
		if (!err->code)
			err_set(err, -EINVAL, "arguments must be text in UTF-8");
		return NULL;
	}
	body = json_pack("{s:s, s:o, s:I, s:s*}", "program", cli_arg(c, 1), "args", args, "timeout",
			 (json_int_t)cli_num(c, "--timeout"), "input", input);
	if (!body)
		err_set(err, -EINVAL, "the program's name must be text in UTF-8");
	return body;
}

/* What the program has said, and its exit status as ours. */
static int exec_tell(const struct cli *c, const json_t *result, struct err *err)
{
	const json_t *status = json_object_get(result, "exit");

	if (c->is_json)
		return output_json(json_incref((json_t *)result), err);
	int r = guest_put(stdout, result, "out", err);
	if (!r)
		r = guest_put(stderr, result, "err", err);
	if (r < 0)
		return r;
	if (json_is_true(json_object_get(result, "truncated")))
		fprintf(stderr, "viv: the program wrote more than the guest agent keeps\n");
	if (!status)
		return err_set(err, -EIO, "the program was ended by signal %d",
			       (int)json_integer_value(json_object_get(result, "signal")));
	return (int)json_integer_value(status) & 0xff;
}

int guest_wait_agent(struct client *cl, const struct cli *c, const char *machine, struct err *err)
{
	struct timespec now, end;
	int r = 0;

	if (!cli_num(c, "--wait"))
		return 0;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += (time_t)cli_num(c, "--wait");
	for (;;) {
		AUTO(json_decref) json_t *answer = NULL;
		struct err why = ERR_INIT;

		r = client_call(cl, "GET", NULL, &answer, &why, "/v1/instances/%s/guest", machine);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (r != -ENOTCONN || now.tv_sec >= end.tv_sec)
			return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
		usleep(WAIT_STEP_MS * 1000);
	}
}

static int exec(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *body = exec_body(c, err);
	AUTO(json_decref) json_t *result = NULL;
	int r = body ? client_open(&cl, c, err) : err->code;

	if (!r)
		r = guest_wait_agent(cl, c, cli_arg(c, 0), err);
	if (!r)
		r = client_call(cl, "POST", body, &result, err, "/v1/instances/%s/exec", cli_arg(c, 0));
	return r < 0 ? r : exec_tell(c, result, err);
}

const struct cli_command guest_exec = {
	.path = "exec",
	.summary = "run a program inside a machine",
	.about = "By the guest agent (the package qemu-guest-agent) in it, as root and without a terminal: for that there is 'viv console'. What "
		 "the program writes is shown when it has ended, and its exit status is that of this command. Options of the program follow '--'.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" },
					  { "PROGRAM", .help = "its path, or its name in the guest's PATH" },
					  { "ARG", .help = "for the program", .is_optional = true, .is_repeated = true },
					  { .name = NULL } },
	.options = (const struct cli_option[]){ { "--input", 'i', CLI_FLAG, .help = "pass standard input on, up to 30000 bytes" },
						{ "--timeout", 't', CLI_UINT, .metavar = "SECONDS", .def = "60",
						  .help = "how long to wait for its end" },
						WAIT_OPTION,
						CLIENT_OPTIONS,
						{ .name = NULL } },
	.examples = (const struct cli_example[]){ { "exec web -- uname -a", "which kernel it has" },
						  { "exec -i web -- sh -s <script.sh", "a script of this host's" },
						  { "exec --wait 60 web -- apt-get update", "as soon as it has started" },
						  { .line = NULL } },
	.run = exec,
};

/* --- guest ---------------------------------------------------- */

static const char *text_at(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key)) ?: "-";
}

static int info(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *answer = NULL;
	const json_t *system, *face, *address;
	size_t i, k;
	int r = client_open(&cl, c, err);

	if (!r)
		r = client_call(cl, "GET", NULL, &answer, err, "/v1/instances/%s/guest", cli_arg(c, 0));
	if (r < 0)
		return r;
	if (c->is_json)
		return output_json(json_incref(answer), err);
	system = json_object_get(answer, "system");
	output_text(stdout, text_at(system, "host_name"));
	printf(": ");
	output_text(stdout, text_at(json_object_get(system, "os"), "pretty-name"));
	printf(", ");
	output_text(stdout, text_at(json_object_get(system, "os"), "kernel-release"));
	putchar('\n');
	json_array_foreach(json_object_get(answer, "interfaces"), i, face) {
		json_array_foreach(json_object_get(face, "addresses"), k, address) {
			output_text(stdout, text_at(face, "name"));
			putchar(' ');
			output_text(stdout, json_string_value(address) ?: "-");
			putchar('\n');
		}
	}
	return 0;
}

const struct cli_command guest_info = {
	.path = "guest",
	.summary = "tell what runs inside a machine",
	.about = "Its name, its system and its addresses, as the guest agent in it says.",
	.args = (const struct cli_arg[]){ { "NAME", .help = "the machine" }, { .name = NULL } },
	.options = (const struct cli_option[]){ CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "guest web", "who is in there, and where" }, { .line = NULL } },
	.run = info,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/guest.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/output.h"
#include "util/base64.h"
#include "util/io.h"

enum {
	CHUNK = 30000,                  /* bytes of one request */
	NAME_LEN = 64, PATH_LEN = 4096,
	WAIT_STEP_MS = 300,
};

#define WAIT_OPTION                                                                                                                             \
	{ "--wait", 'w', CLI_UINT, .metavar = "SECONDS", .help = "how long to wait for the guest agent to answer, as while the guest starts" }

/* --- exec ---------------------------------------------------- */

/* The bytes of member KEY to TO. */
static int put(FILE *to, const json_t *result, const char *key, struct err *err)
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
	int r = put(stdout, result, "out", err);
	if (!r)
		r = put(stderr, result, "err", err);
	if (r < 0)
		return r;
	if (json_is_true(json_object_get(result, "truncated")))
		fprintf(stderr, "viv: the program wrote more than the guest agent keeps\n");
	if (!status)
		return err_set(err, -EIO, "the program was ended by signal %d",
			       (int)json_integer_value(json_object_get(result, "signal")));
	return (int)json_integer_value(status) & 0xff;
}

/* As long as --wait says, the guest may be on its way to where its agent answers. */
static int wait_agent(struct client *cl, const struct cli *c, const char *machine, struct err *err)
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
		r = wait_agent(cl, c, cli_arg(c, 0), err);
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

/* --- cp ---------------------------------------------------- */

/* One end of a copy. */
struct end {
	char machine[NAME_LEN];         /* "": this host */
	const char *path;
};

static int end_parse(struct end *e, const char *text, struct err *err)
{
	const char *colon = strchr(text, ':'), *slash = strchr(text, '/');

	*e = (struct end){ .path = text };
	if (!colon || (slash && slash < colon))
		return 0;
	if (colon - text >= NAME_LEN || colon == text)
		return err_set(err, -EINVAL, "'%s' is neither a file nor MACHINE:PATH", text);
	memcpy(e->machine, text, (size_t)(colon - text));
	e->path = colon + 1;
	return e->path[0] == '/' ? 0 : err_set(err, -EINVAL, "'%s': paths in machines begin with '/'", text);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* PATH, or what FROM is called in it when PATH is a directory by its looks. */
static void target_path(char out[PATH_LEN], const char *path, const char *from, bool is_dir)
{
	size_t n = strlen(path);

	if (is_dir || (n && path[n - 1] == '/'))
		snprintf(out, PATH_LEN, "%s%s%s", path, n && path[n - 1] == '/' ? "" : "/", base_name(from));
	else
		snprintf(out, PATH_LEN, "%s", path);
}

/* Run a program inside; its end must be good. */
static int run_inside(struct client *cl, const char *machine, struct err *err, const char *script, const char *a, const char *b,
		      const char *d)
{
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:[s,s,s,s,s,s]}", "program", "/bin/sh", "args", "-c", script, "sh", a, b, d);
	AUTO(json_decref) json_t *result = NULL;
	int r = client_call(cl, "POST", body, &result, err, "/v1/instances/%s/exec", machine);

	if (r < 0)
		return r;
	if (json_integer_value(json_object_get(result, "exit")) != 0 || !json_object_get(result, "exit"))
		return err_set(err, -EIO, "'%s' in '%s' cannot be written", d, machine);
	return 0;
}

static int send_chunks(struct client *cl, int fd, const struct end *to, const char *part, struct err *err)
{
	uint8_t buf[CHUNK];
	char text[BASE64_LEN(CHUNK) + 1];
	bool appends = false;
	ssize_t n;

	do {
		AUTO(json_decref) json_t *body = NULL;
		AUTO(json_decref) json_t *result = NULL;

		n = io_read_full(fd, buf, sizeof(buf));
		if (n < 0)
			return err_set(err, (int)n, "cannot read: %s", strerror((int)-n));
		base64_encode(text, buf, (size_t)n);
		body = json_pack("{s:s, s:s, s:b}", "path", part, "data", text, "append", (int)appends);
		int r = client_call(cl, "POST", body, &result, err, "/v1/instances/%s/file", to->machine);
		if (r < 0)
			return r;
		if (json_integer_value(json_object_get(result, "count")) != n)
			return err_set(err, -ENOSPC, "the guest has written less than it was given; is its disk full?");
		appends = true;
	} while (n == CHUNK);
	return 0;
}

/* Into a file beside it, which then takes its place: whoever reads it sees the old one or the new. */
static int copy_in(struct client *cl, const struct end *from, const struct end *to, struct err *err)
{
	char path[PATH_LEN], part[PATH_LEN + 16], mode[8];
	struct stat st;
	AUTO_FD int fd = open(from->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", from->path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "'%s' is a directory; pack it into one file, with tar", from->path);
	target_path(path, to->path, from->path, false);
	snprintf(part, sizeof(part), "%s.viv-part", path);
	snprintf(mode, sizeof(mode), "%o", (unsigned)st.st_mode & 0777);
	int r = send_chunks(cl, fd, to, part, err);
	if (!r)
		r = run_inside(cl, to->machine, err, "chmod \"$1\" \"$2\" && mv -fT \"$2\" \"$3\" || mv -f \"$2\" \"$3\"", mode, part, path);
	if (r < 0)
		(void)run_inside(cl, to->machine, &(struct err)ERR_INIT, "rm -f \"$2\"", "", part, "");
	return r;
}

/* TEXT as a value in a URL (RFC 3986, 2.1). */
static void quote(char out[3 * PATH_LEN], const char *text)
{
	for (size_t n = 0; *text && n < 3 * PATH_LEN - 4; text++) {
		unsigned char b = (unsigned char)*text;

		n += (size_t)sprintf(out + n, isalnum(b) || strchr("-._~/", b) ? "%c" : "%%%02X", b);
	}
}

static int receive_chunks(struct client *cl, FILE *to, const struct end *from, struct err *err)
{
	char quoted[3 * PATH_LEN] = "";
	long long offset = 0;

	quote(quoted, from->path);
	for (;;) {
		AUTO(json_decref) json_t *result = NULL;
		int r = client_call(cl, "GET", NULL, &result, err, "/v1/instances/%s/file?path=%s&offset=%lld", from->machine, quoted,
				    offset);
		json_int_t count = json_integer_value(json_object_get(result, "count"));

		if (!r)
			r = put(to, result, "data", err);
		if (r < 0)
			return r;
		offset += count;
		if (count <= 0 || json_is_true(json_object_get(result, "eof")))
			return 0;
	}
}

static int copy_out(struct client *cl, const struct end *from, const struct end *to, struct err *err)
{
	char path[PATH_LEN], part[PATH_LEN + 16];
	struct stat st;

	target_path(path, to->path, from->path, !stat(to->path, &st) && S_ISDIR(st.st_mode));
	snprintf(part, sizeof(part), "%s.viv-part", path);
	FILE *f = fopen(part, "we");
	if (!f)
		return err_set(err, -errno, "cannot make '%s': %s", part, strerror(errno));
	int r = receive_chunks(cl, f, from, err);
	if (fclose(f) != 0 && !r)
		r = err_set(err, -errno, "cannot write '%s': %s", part, strerror(errno));
	if (!r && rename(part, path) < 0)
		r = err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	if (r < 0)
		unlink(part);
	return r;
}

static int cp(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct end from, to;
	int r = end_parse(&from, cli_arg(c, 0), err);

	if (!r)
		r = end_parse(&to, cli_arg(c, 1), err);
	if (!r && !from.machine[0] == !to.machine[0])
		r = err_set(err, -EINVAL, "one of the two is in a machine, as MACHINE:PATH");
	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = wait_agent(cl, c, to.machine[0] ? to.machine : from.machine, err);
	if (r < 0)
		return r;
	r = to.machine[0] ? copy_in(cl, &from, &to, err) : copy_out(cl, &from, &to, err);
	return r < 0 || !c->is_json ? r : output_json(json_object(), err);
}

const struct cli_command guest_cp = {
	.path = "cp",
	.summary = "copy a file into a machine, or out of it",
	.about = "By the guest agent in it. The target is the old file or the whole new one, never a part; a path that ends with '/', and a "
		 "directory of this host, gets a file of the same name. Permissions go along into the machine.",
	.args = (const struct cli_arg[]){ { "FROM", .help = "a file, or MACHINE:PATH" }, { "TO", .help = "the other one" }, { .name = NULL } },
	.options = (const struct cli_option[]){ WAIT_OPTION, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "cp site.conf web:/etc/nginx/conf.d/", "into it" },
						  { "cp web:/var/log/syslog .", "out of it" },
						  { .line = NULL } },
	.run = cp,
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

/* SPDX-License-Identifier: Apache-2.0 */
/* `viv-vmm ctl SOCKET agent exec|read|write`: what a single request to the guest agent does not do for people. Others are
 * the requests agent-VERB. What comes from the guest is a stranger's: it goes to files and pipes as it is, never to a
 * terminal's control characters by our own words. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/base64.h"
#include "util/checked.h"
#include "util/io.h"
#include "vm/ctl_priv.h"

enum { WRITE_CHUNK = 30000 };           /* bytes of one request, in base64 well below CONTROL_REQUEST_MAX; also what a program gets to read */

static int agent_usage(struct err *err)
{
	err_set(err, -EINVAL, "usage: viv-vmm ctl SOCKET agent exec [--input FILE] [--timeout SECONDS] [--] "
		"PROGRAM [ARG...] | read PATH | write PATH | VERB, for a request agent-VERB");
	return CTL_USAGE;
}

/* The bytes of member KEY to FD. How many, or -errno. */
static ssize_t agent_put(int fd, const json_t *result, const char *key, struct err *err)
{
	const char *text = json_string_value(json_object_get(result, key));
	size_t len = text ? strlen(text) : 0, done = 0;
	AUTO(free) uint8_t *buf = malloc(len + 1);
	ssize_t n = buf ? base64_decode(buf, text ? text : "", len) : -ENOMEM;

	if (n < 0)
		return err_set(err, (int)n, "the guest agent's answer is not understood");
	while (done < (size_t)n) {
		ssize_t w = write(fd, buf + done, (size_t)n - done);

		if (w < 0 && errno != EINTR)
			return err_set(err, -errno, "cannot write: %s", strerror(errno));
		done += w > 0 ? (size_t)w : 0;
	}
	return n;
}

/* --- exec --- */

/* What is in FILE, or comes from standard input, becomes the parameter `input`. */
static int exec_read_input(json_t *params, const char *file, struct err *err)
{
	uint8_t buf[WRITE_CHUNK + 1];
	char text[BASE64_LEN(WRITE_CHUNK) + 1];
	AUTO_FD int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY) : dup(STDIN_FILENO);

	if (fd < 0)
		return err_set(err, -errno, "--input: cannot open '%s': %s", file, strerror(errno));
	ssize_t n = io_read_full(fd, buf, sizeof(buf));
	if (n < 0)
		return err_set(err, (int)n, "--input: cannot read '%s': %s", file, strerror((int)-n));
	if (n > WRITE_CHUNK)
		return err_set(err, -EFBIG, "--input: '%s' has more than %d bytes; bring it there with 'agent write PATH' and let the program read that",
			       file, WRITE_CHUNK);
	base64_encode(text, buf, (size_t)n);
	return json_object_set_new(params, "input", json_string(text)) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

/* Is ARG "NAME=..." or "--NAME=..."? */
static bool exec_is_value(const char *arg, const char *name)
{
	const char *a = strncmp(arg, "--", 2) ? arg : arg + 2;
	size_t n = strlen(name);

	return !strncmp(a, name, n) && a[n] == '=';
}

/* Words of the time when values could stand anywhere: nobody can tell whether they are the program's. */
static int exec_check_old(const char *arg, struct err *err)
{
	static const struct {
		const char *name, *now;
	} old[] = {
		{ "program", "PROGRAM stands by itself" }, { "args", "arguments stand behind PROGRAM, each by itself" },
		{ "input", "--input FILE stands before PROGRAM" }, { "timeout", "--timeout SECONDS stands before PROGRAM" },
	};

	for (size_t i = 0; i < ARRAY_LEN(old); i++) {
		if (exec_is_value(arg, old[i].name))
			return err_set(err, -EINVAL, "agent-exec: '%s' may be meant for the program or not; for it, write '--' before PROGRAM; else %s",
				       arg, old[i].now);
	}
	return strcmp(arg, "--json") ? 0 : err_set(err, -EINVAL, "agent-exec: '--json' stands before PROGRAM, or is the program's when '--' does");
}

/* ARGV[0], which is not PROGRAM. How many words it takes, 0 for "--help", or -errno. */
static int exec_parse_option(json_t *params, int argc, char **argv, bool *is_json, struct err *err)
{
	bool is_input = !strcmp(argv[0], "--input"), is_timeout = !strcmp(argv[0], "--timeout");

	if (!strcmp(argv[0], "--help"))
		return 0;
	if (is_json && !strcmp(argv[0], "--json")) {
		*is_json = true;
		return 1;
	}
	if (!is_input && !is_timeout)
		return err_set(err, -EINVAL, "'exec' does not take '%s'; a program that is called so stands behind '--'", argv[0]);
	if (argc < 2)
		return err_set(err, -EINVAL, "'%s' needs a value", argv[0]);
	if (json_object_get(params, argv[0] + 2))
		return err_set(err, -EINVAL, "'%s' is given twice", argv[0]);
	int r = is_input ? exec_read_input(params, argv[1], err) : ctl_set_param(params, "agent-exec", "timeout", argv[1], err);

	return r < 0 ? r : 2;
}

int ctl_agent_exec_parse(json_t *params, int argc, char **argv, bool *is_json, struct err *err)
{
	int i = 0;

	while (i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0) {
		int r = exec_parse_option(params, argc - i, argv + i, is_json, err);

		if (r <= 0)
			return r < 0 ? r : 1;
		i += r;
	}
	bool is_marked = i < argc && !strcmp(argv[i], "--");

	i += is_marked;
	if (i == argc)
		return err_set(err, -EINVAL, "exec: the program is missing");
	for (int k = i; is_json && !is_marked && k < argc; k++)
		if (exec_check_old(argv[k], err) < 0)
			return err->code;
	json_t *args = json_array();

	for (int k = i + 1; k < argc; k++)
		json_array_append_new(args, json_string(argv[k]));
	bool is_text = (int)json_array_size(args) == argc - i - 1;

	if (json_object_set_new(params, "args", args) < 0 || json_object_set_new(params, "program", json_string(argv[i])) < 0 || !is_text)
		return err_set(err, -EINVAL, "program and arguments must be text in UTF-8");
	return 0;
}

static int agent_exec(const char *socket, int argc, char **argv, struct err *err)
{
	AUTO(json_decref) json_t *params = json_object(), *result = NULL;
	int r = ctl_agent_exec_parse(params, argc, argv, NULL, err);

	if (r > 0)
		control_print_help(stdout, "agent");
	if (r)
		return r < 0 ? CTL_USAGE : CTL_DONE;
	r = ctl_ask(socket, "agent-exec", json_incref(params), -1, &result, err);
	if (r < 0 || agent_put(STDOUT_FILENO, result, "out", err) < 0 || agent_put(STDERR_FILENO, result, "err", err) < 0)
		return CTL_REFUSED;
	if (json_is_true(json_object_get(result, "truncated")))
		fprintf(stderr, "viv-vmm ctl: the program wrote more than the guest agent keeps\n");
	json_t *exit = json_object_get(result, "exit");
	if (exit)
		return (int)json_integer_value(exit) & 0xff;
	err_set(err, -EIO, "the program was ended by signal %d", (int)json_integer_value(json_object_get(result, "signal")));
	return CTL_REFUSED;
}

/* --- files --- */

static int agent_read(const char *socket, const char *path, struct err *err)
{
	json_int_t offset = 0;
	bool is_end = false;

	while (!is_end) {
		AUTO(json_decref) json_t *result = NULL;
		int r = ctl_ask(socket, "agent-read", json_pack("{s:s, s:I}", "path", path, "offset", offset), -1, &result, err);
		ssize_t n = r < 0 ? r : agent_put(STDOUT_FILENO, result, "data", err);

		if (n < 0)
			return CTL_REFUSED;
		offset += n;
		is_end = !n || json_is_true(json_object_get(result, "eof"));
	}
	return CTL_DONE;
}

static int agent_write(const char *socket, const char *path, struct err *err)
{
	static const char *const said = "cannot read what is to be written: %s";
	uint8_t buf[WRITE_CHUNK];
	char text[BASE64_LEN(WRITE_CHUNK) + 1];
	ssize_t n;
	bool appends = false;

	do {
		AUTO(json_decref) json_t *result = NULL;

		n = io_read_full(STDIN_FILENO, buf, sizeof(buf));
		if (n < 0) {
			err_set(err, (int)n, said, strerror((int)-n));
			return CTL_REFUSED;
		}
		base64_encode(text, buf, (size_t)n);
		int r = ctl_ask(socket, "agent-write", json_pack("{s:s, s:s, s:b}", "path", path, "data", text, "append", (int)appends), -1,
				&result, err);
		if (r < 0)
			return CTL_REFUSED;
		if (json_integer_value(json_object_get(result, "count")) != n) {
			err_set(err, -EIO, "the guest has written less than it was given; is its disk full?");
			return CTL_REFUSED;
		}
		appends = true;
	} while (n == sizeof(buf));
	return CTL_DONE;
}

int ctl_agent(const char *socket, int argc, char **argv, struct err *err)
{
	if (argc >= 2 && !strcmp(argv[0], "exec"))
		return agent_exec(socket, argc - 1, argv + 1, err);
	if (argc == 2 && !strcmp(argv[0], "read"))
		return agent_read(socket, argv[1], err);
	if (argc == 2 && !strcmp(argv[0], "write"))
		return agent_write(socket, argv[1], err);
	return agent_usage(err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* `viv-vmm ctl SOCKET agent exec|read|write`: what a single request to the guest agent does not do for people. Others are
 * the requests agent-VERB. What comes from the guest is a stranger's: it goes to files and pipes as it is, never to a
 * terminal's control characters by our own words. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "util/base64.h"
#include "util/io.h"
#include "vm/ctl_priv.h"

enum { WRITE_CHUNK = 30000 };           /* bytes of one request, in base64 well below CONTROL_REQUEST_MAX */

static int agent_usage(struct err *err)
{
	err_set(err, -EINVAL, "usage: viv-vmm ctl SOCKET agent exec PROGRAM [ARG...] | read PATH | write PATH | VERB, for a request agent-VERB");
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

static int agent_exec(const char *socket, int argc, char **argv, struct err *err)
{
	AUTO(json_decref) json_t *result = NULL;
	json_t *args = json_array();

	for (int i = 1; i < argc; i++)
		json_array_append_new(args, json_string(argv[i]));
	if ((int)json_array_size(args) != argc - 1) {
		json_decref(args);
		err_set(err, -EINVAL, "arguments must be text in UTF-8");
		return CTL_USAGE;
	}
	int r = ctl_ask(socket, "agent-exec", json_pack("{s:s, s:o}", "program", argv[0], "args", args), -1, &result, err);
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

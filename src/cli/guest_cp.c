/* SPDX-License-Identifier: Apache-2.0 */
/* guest_cp.c - `viv cp`. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/guest.h"
#include "cli/guest_priv.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "util/base64.h"
#include "util/cleanup.h"
#include "util/io.h"

enum { NAME_LEN = 64, PATH_LEN = 4096, PART_LEN = PATH_LEN + 32 };

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

static int interrupted(struct err *err)
{
	return progress_is_interrupted() ? err_set(err, -EINTR, "interrupted") : 0;
}

/* A name beside PATH that nobody else writes: several may copy to the same. */
static int part_name(char out[PART_LEN], const char *path, struct err *err)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return err_set(err, -EIO, "there are no random numbers");
	snprintf(out, PART_LEN, "%s.viv-part-%016" PRIx64, path, number);
	return 0;
}

/* Run SCRIPT inside, with A, B and D; its exit status, and up to PATH_LEN bytes of what it says in OUT. */
static int run_inside(struct client *cl, const char *machine, const char *script, const char *const arg[3], char out[PATH_LEN], struct err *err)
{
	AUTO(json_decref) json_t *body = json_pack("{s:s, s:[s,s,s,s,s,s]}", "program", "/bin/sh", "args", "-c", script, "sh", arg[0], arg[1], arg[2]);
	AUTO(json_decref) json_t *result = NULL;
	uint8_t said[PATH_LEN + 3];

	if (!body)
		return err_set(err, -EINVAL, "paths must be text in UTF-8");
	int r = client_call(cl, "POST", body, &result, err, "/v1/instances/%s/exec", machine);
	const char *text = json_string_value(json_object_get(result, "out")) ?: "";

	if (r < 0)
		return r;
	ssize_t n = strlen(text) / 4 * 3 < sizeof(said) ? base64_decode(said, text, strlen(text)) : -E2BIG;
	if (n < 0 || n >= PATH_LEN || !json_object_get(result, "exit"))
		return err_set(err, -EIO, "the shell in '%s' has not done what it was told", machine);
	memcpy(out, said, (size_t)n);
	out[n] = 0;
	return (int)json_integer_value(json_object_get(result, "exit")) & 0xff;
}

static int send_chunks(struct client *cl, int fd, const struct end *to, const char *part, struct err *err)
{
	uint8_t buf[GUEST_CHUNK];
	char text[BASE64_LEN(GUEST_CHUNK) + 1];
	bool appends = false;
	ssize_t n;

	do {
		AUTO(json_decref) json_t *body = NULL;
		AUTO(json_decref) json_t *result = NULL;

		if (interrupted(err) < 0)
			return err->code;
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
	} while (n == GUEST_CHUNK);
	return 0;
}

enum { INSIDE_OTHER = 3 };      /* what is there is neither a file nor a directory */

/* Where what is called NAME here goes, for PATH inside: into a directory, and to what a symbolic link names. */
static int find_inside(struct client *cl, const struct end *to, const char *name, char path[PATH_LEN], struct err *err)
{
	static const char script[] = "t=$1; case $t in */) t=$t$2;; *) [ -d \"$t\" ] && t=$t/$2;; esac; [ -L \"$t\" ] && t=$(readlink -f \"$t\"); "
				     "[ -f \"$t\" ] || ! [ -e \"$t\" ] || exit 3; printf %s \"$t\"";
	int r = run_inside(cl, to->machine, script, (const char *const[]){ to->path, name, "" }, path, err);

	if (r < 0)
		return r;
	if (r == INSIDE_OTHER)
		return err_set(err, -EEXIST, "'%s' in '%s' is there, and is not a file", to->path, to->machine);
	return r || path[0] != '/' ? err_set(err, -EIO, "'%s' in '%s' cannot be written", to->path, to->machine) : 0;
}

/* Into a file beside it, which then takes its place: whoever reads it sees the old one or the new. */
static int copy_in(struct client *cl, const struct end *from, const struct end *to, struct err *err)
{
	char path[PATH_LEN] = "", said[PATH_LEN], part[PART_LEN], mode[8];
	struct stat st;
	AUTO_FD int fd = open(from->path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", from->path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "'%s' is a directory; pack it into one file, with tar", from->path);
	int r = find_inside(cl, to, base_name(from->path), path, err);
	if (!r)
		r = part_name(part, path, err);
	if (r < 0)
		return r;
	snprintf(mode, sizeof(mode), "%o", (unsigned)st.st_mode & 0777);
	r = send_chunks(cl, fd, to, part, err);
	if (!r)
		r = run_inside(cl, to->machine, "chmod \"$1\" \"$2\" && mv -f \"$2\" \"$3\"", (const char *const[]){ mode, part, path }, said, err);
	if (r > 0)
		r = err_set(err, -EIO, "'%s' in '%s' cannot be written", path, to->machine);
	if (r < 0)
		(void)run_inside(cl, to->machine, "rm -f \"$1\"", (const char *const[]){ part, "", "" }, said, &(struct err)ERR_INIT);
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

		if (interrupted(err) < 0)
			return err->code;
		int r = client_call(cl, "GET", NULL, &result, err, "/v1/instances/%s/file?path=%s&offset=%lld", from->machine, quoted,
				    offset);
		json_int_t count = json_integer_value(json_object_get(result, "count"));

		if (!r)
			r = guest_put(to, result, "data", err);
		if (r < 0)
			return r;
		offset += count;
		if (count <= 0 || json_is_true(json_object_get(result, "eof")))
			return 0;
	}
}

/* Straight to PATH, which is no file: a device, a pipe. */
static int copy_out_to(struct client *cl, const struct end *from, const char *path, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	int r = receive_chunks(cl, f, from, err);
	return fclose(f) != 0 && !r ? err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno)) : r;
}

/* Into a new file beside PATH, which then takes its place. */
static int copy_out_beside(struct client *cl, const struct end *from, const char *path, struct err *err)
{
	char part[PART_LEN];
	int r = part_name(part, path, err);
	FILE *f = r < 0 ? NULL : fopen(part, "wxe");

	if (!f)
		return r < 0 ? r : err_set(err, -errno, "cannot make '%s': %s", part, strerror(errno));
	r = receive_chunks(cl, f, from, err);
	if (fclose(f) != 0 && !r)
		r = err_set(err, -errno, "cannot write '%s': %s", part, strerror(errno));
	if (!r && rename(part, path) < 0)
		r = err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	if (r < 0)
		unlink(part);
	return r;
}

static int copy_out(struct client *cl, const struct end *from, const struct end *to, struct err *err)
{
	size_t n = strlen(to->path);
	bool is_folder = n && to->path[n - 1] == '/';
	char path[PATH_LEN];
	struct stat st;

	if (is_folder || (!stat(to->path, &st) && S_ISDIR(st.st_mode)))
		snprintf(path, sizeof(path), "%s%s%s", to->path, is_folder ? "" : "/", base_name(from->path));
	else
		snprintf(path, sizeof(path), "%s", to->path);
	if (stat(path, &st) < 0)
		return copy_out_beside(cl, from, path, err);
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "'%s' is a directory", path);
	if (!S_ISREG(st.st_mode))
		return copy_out_to(cl, from, path, err);
	AUTO(free) char *real = realpath(path, NULL);   /* what a symbolic link names */

	return real ? copy_out_beside(cl, from, real, err) : err_set(err, -errno, "cannot find '%s': %s", path, strerror(errno));
}

static int cp(struct cli *c, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct end from = { .path = "" }, to = from;
	struct progress p;
	int r = end_parse(&from, cli_arg(c, 0), err);

	if (!r)
		r = end_parse(&to, cli_arg(c, 1), err);
	if (!r && !from.machine[0] == !to.machine[0])
		r = err_set(err, -EINVAL, "one of the two is in a machine, as MACHINE:PATH");
	if (!r)
		r = client_open(&cl, c, err);
	if (!r)
		r = guest_wait_agent(cl, c, to.machine[0] ? to.machine : from.machine, err);
	if (r < 0)
		return r;
	progress_start(&p, c, "copying");       /* what is interrupted leaves nothing */
	r = to.machine[0] ? copy_in(cl, &from, &to, err) : copy_out(cl, &from, &to, err);
	return r < 0 || !c->is_json ? r : output_json(json_object(), err);
}

const struct cli_command guest_cp = {
	.path = "cp",
	.summary = "copy a file into a machine, or out of it",
	.about = "By the guest agent in it. The target is the old file or the whole new one, never a part; a directory, and what a path that "
		 "ends with '/' names, gets a file of the same name. Permissions go along into the machine. What is no file - a device, a pipe - is "
		 "written to on this host, and refused inside.",
	.args = (const struct cli_arg[]){ { "FROM", .help = "a file, or MACHINE:PATH" }, { "TO", .help = "the other one" }, { .name = NULL } },
	.options = (const struct cli_option[]){ WAIT_OPTION, CLIENT_OPTIONS, { .name = NULL } },
	.examples = (const struct cli_example[]){ { "cp site.conf web:/etc/nginx/conf.d/", "into it" },
						  { "cp web:/var/log/syslog .", "out of it" },
						  { .line = NULL } },
	.run = cp,
};

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/ui.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "api/http.h"
#include "util/checked.h"
#include "util/dirs.h"
#include "util/err.h"

/* Scripts come from here and nowhere else, and no other site shows this one in a frame. The terminal makes <style>
 * elements of its own, so style may be inline; what it could do is bounded by the rest, which lets nothing out. */
static const char policy[] =
	"default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

struct ui {
	int dir_fd;
};

static const char *type_of(const char *path)
{
	static const struct {
		const char *tail, *type;
	} table[] = {
		{ ".html", "text/html; charset=utf-8" },
		{ ".js", "text/javascript; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },
		{ ".svg", "image/svg+xml" },
		{ ".png", "image/png" },
		{ ".woff2", "font/woff2" },
		{ ".json", "application/json" },
	};
	const char *tail = strrchr(path, '.');

	for (unsigned i = 0; tail && i < ARRAY_LEN(table); i++) {
		if (!strcmp(tail, table[i].tail))
			return table[i].type;
	}
	return "application/octet-stream";
}

/* A regular file below the folder, reached without links. Its size goes to *LEN; negative: there is none. */
static int open_below(const struct ui *ui, const char *path, uint64_t *len)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK,
				.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
	AUTO_FD int fd = (int)syscall(SYS_openat2, ui->dir_fd, path, &how, sizeof(how));
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	*len = (uint64_t)st.st_size;
	return take_fd(&fd);
}

/* The packed form beside PATH, for a client that takes it. */
static int open_packed(const struct ui *ui, struct http_request *rq, const char *path, uint64_t *len)
{
	const char *accepted = http_get_header(rq, HTTP_ACCEPT_ENCODING);
	char packed[PATH_MAX];

	if (!accepted || !strstr(accepted, "gzip") ||
	    (size_t)snprintf(packed, sizeof(packed), "%s.gz", path) >= sizeof(packed))
		return -ENOENT;
	int fd = open_below(ui, packed, len);
	if (fd >= 0)
		http_set_header(rq, "content-encoding", "gzip");
	return fd;
}

static void send_file(struct ui *ui, struct http_request *rq, const char *path, int plain_fd, uint64_t plain_len)
{
	/* Names of assets have a hash of their content in them. */
	bool is_fixed = !strncmp(path, "assets/", 7);
	uint64_t len = plain_len;
	int fd = open_packed(ui, rq, path, &len);

	if (fd < 0)
		fd = plain_fd;
	else
		close(plain_fd);
	http_set_header(rq, "content-security-policy", policy);
	http_set_header(rq, "x-content-type-options", "nosniff");
	http_set_header(rq, "referrer-policy", "no-referrer");
	http_set_header(rq, "vary", "accept-encoding");
	http_set_header(rq, "cache-control", is_fixed ? "public, max-age=31536000, immutable" : "no-cache");
	http_reply_file(rq, 200, type_of(path), fd, 0, len);
}

bool ui_answer(struct ui *ui, struct http_request *rq)
{
	const char *path = http_path(rq) + 1, *malformed;
	enum http_method m = http_method(rq);
	uint64_t len;

	if (!ui || http_malformed(rq, &malformed) < 0 || (m != HTTP_GET && m != HTTP_HEAD) || http_wants_socket(rq) || !strncmp(path, "v1/", 3) ||
	    !strcmp(path, "v1"))
		return false;
	int fd = path[0] ? open_below(ui, path, &len) : -ENOENT;
	if (fd < 0 && !strchr(path, '.')) {
		/* A page of the console: its script reads the address. */
		path = "index.html";
		fd = open_below(ui, path, &len);
	}
	if (fd < 0)
		return false;
	send_file(ui, rq, path, fd, len);
	return true;
}

/* The folder that belongs to this program: installed, or in the build tree. From malloc(); NULL: none. */
static char *own_dir(void)
{
	char exe[PATH_MAX];
	static const char *const places[] = { "../share/vivarium/ui", "ui" };
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n <= 0)
		return NULL;
	exe[n] = 0;
	*strrchr(exe, '/') = 0;
	for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
		AUTO(free) char *dir = NULL, *index = NULL;

		if (asprintf(&dir, "%s/%s", exe, places[i]) < 0 || asprintf(&index, "%s/index.html", dir) < 0)
			return NULL;
		if (!access(index, R_OK))
			return take_ptr(&dir);
	}
	return NULL;
}

int ui_open(struct ui **out, const char *dir, struct err *err)
{
	AUTO(free) char *own = dir ? NULL : own_dir();
	const char *where = dir ? dir : own;

	*out = NULL;
	if (!where)
		return 0;
	AUTO(ui_close) struct ui *ui = calloc(1, sizeof(*ui));
	if (!ui)
		return err_set(err, -ENOMEM, "out of memory");
	ui->dir_fd = open(where, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (ui->dir_fd < 0)
		return err_set(err, -errno, "cannot open '%s' with the web console: %s", where, strerror(errno));
	*out = take_ptr(&ui);
	return 0;
}

void ui_close(struct ui *ui)
{
	if (!ui)
		return;
	if (ui->dir_fd >= 0)
		close(ui->dir_fd);
	free(ui);
}

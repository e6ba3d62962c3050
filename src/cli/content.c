/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/digest.h"
#include "cli/disk.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "util/cleanup.h"
#include "util/loop.h"

enum { POLL_US = 100000, PATIENCE_S = 60, PATH_CAP = 256, SHA256_TEXT = 65 };

/* Something that is being made by the daemon. */
struct making {
	struct client *cl;
	struct progress p;
	char path[PATH_CAP];            /* "/v1/images/NAME" */
	char what[32];                  /* that the daemon does */
	/* an upload: */
	int fd;                         /* -1: none */
	uint64_t size;
	uint64_t best;                  /* most of it that was there so far */
	uint64_t moved_ns;              /* when that was */
	bool has_sent;                  /* a part */
};

/* Show what DOC's status says of how far it is. */
static int show(struct making *m, const json_t *doc)
{
	const json_t *progress = json_object_get(json_object_get(doc, "status"), "progress");
	const char *what = json_string_value(json_object_get(progress, "what"));

	if (!what)
		return progress_is_interrupted() ? -EINTR : 0;
	snprintf(m->what, sizeof(m->what), "%s", what);
	m->p.what = m->what;
	return progress_update(&m->p, (uint64_t)json_integer_value(json_object_get(progress, "done")),
			       (uint64_t)json_integer_value(json_object_get(progress, "total")));
}

/* May what has failed with R go well soon? Not when nothing has moved for a while. */
static bool is_worth_trying(const struct making *m, int r)
{
	return (r == -ECONNRESET || r == -EAGAIN || r == -EBUSY || r == -ESPIPE || r == -ESTALE) &&
	       loop_now_ns() - m->moved_ns < (uint64_t)PATIENCE_S * 1000000000u;
}

/* The rest of an upload, as far as it gets. 0 also when it is to be tried again. */
static int send_rest(struct making *m, const json_t *upload, struct err *err)
{
	uint64_t received = (uint64_t)json_integer_value(json_object_get(upload, "received"));
	char path[PATH_CAP + 16];

	if (received > m->best || !m->moved_ns) {
		m->best = received;
		m->moved_ns = loop_now_ns();
	}
	snprintf(path, sizeof(path), "%s/content", m->path);
	m->p.what = "uploading";
	int r = client_upload(m->cl, path, m->fd, received, m->size, &m->p, err);
	m->has_sent = m->has_sent || !r;
	if (!is_worth_trying(m, r))
		return r;
	err->msg[0] = 0;
	err->code = 0;
	usleep(POLL_US);
	return 0;
}

/* Until it is ready: what is there of it to OUT. */
static int follow(struct making *m, json_t **out, struct err *err)
{
	for (;;) {
		AUTO(json_decref) json_t *doc = NULL;
		int r = client_call(m->cl, "GET", NULL, &doc, err, "%s", m->path);

		if (r < 0 && m->fd >= 0 && is_worth_trying(m, r)) {
			*err = (struct err)ERR_INIT;
			usleep(POLL_US);
			continue;
		}
		if (r < 0)
			return r;
		const json_t *status = json_object_get(doc, "status"), *upload = json_object_get(status, "upload");
		const char *state = json_string_value(json_object_get(status, "state"));
		bool is_failed = state && !strcmp(state, "failed");

		if (state && !strcmp(state, "ready")) {
			*out = json_incref(doc);
			return 0;
		}
		if (is_failed && (m->fd < 0 || m->has_sent))
			return err_set(err, -EIO, "%s", json_string_value(json_object_get(status, "reason")));
		if (m->fd >= 0 && upload && (uint64_t)json_integer_value(json_object_get(upload, "received")) < m->size)
			r = send_rest(m, upload, err);
		else if (!(r = show(m, doc)))
			usleep(POLL_US);
		else
			err_set(err, r, "interrupted; what was begun goes on");
		if (r < 0)
			return r;
	}
}

static int report(const struct cli *c, int r, json_t *made, struct err *err)
{
	if (!r && c->is_json)
		return output_json(made, err);
	json_decref(made);
	return r;
}

int content_make(struct cli *c, const char *plural, const char *name, json_t *doc, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct making m = { .fd = -1 };
	json_t *made = NULL;
	int r = client_open(&cl, c, err);

	m.cl = cl;
	progress_start(&m.p, c, "making");
	if (!r)
		r = client_call(cl, "POST", doc, NULL, err, "/v1/%s", plural);
	json_decref(doc);
	snprintf(m.path, sizeof(m.path), "/v1/%s/%s", plural, name);
	if (!r)
		r = follow(&m, &made, err);
	progress_end(&m.p);
	return report(c, r, made, err);
}

int content_download(struct cli *c, const char *plural, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct progress p;
	char path[PATH_CAP];
	int r = client_open(&cl, c, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/v1/%s/%s/content", plural, cli_arg(c, 0));
	progress_start(&p, c, "downloading");
	r = client_download(cl, path, cli_arg(c, 1), &p, err);
	progress_end(&p);
	return !r && c->is_json ? output_json(json_pack("{s:s}", "file", cli_arg(c, 1)), err) : r;
}

/* --- uploading ---------------------------------------------------- */

/* The document, unless an earlier attempt has made it for the same file. */
static int post(struct making *m, const char *plural, const char *name, json_t *spec, const char *sum, const char *format, struct err *err)
{
	AUTO(json_decref) json_t *there = NULL;
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:O}", "name", name, "spec", spec);
	struct err why = ERR_INIT;

	json_object_set_new(spec, "source", json_pack("{s:{s:I, s:s, s:s*}}", "upload", "size", (json_int_t)m->size, "sha256", sum, "format",
						      format));
	int r = client_call(m->cl, "POST", doc, NULL, err, "/v1/%s", plural);
	if (r != -EEXIST || client_call(m->cl, "GET", NULL, &there, &why, "%s", m->path) < 0)
		return r;
	const json_t *upload = json_object_get(json_object_get(json_object_get(there, "spec"), "source"), "upload");
	const char *its = json_string_value(json_object_get(upload, "sha256"));
	if (!its || strcmp(its, sum) != 0 || !json_object_get(json_object_get(there, "status"), "upload"))
		return r;
	*err = (struct err)ERR_INIT;
	return 0;
}

int content_upload(struct cli *c, const char *plural, json_t *spec, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *own = spec;
	AUTO_FD int fd = open(cli_arg(c, 1), O_RDONLY | O_CLOEXEC);
	struct making m = { .fd = fd, .moved_ns = loop_now_ns() };
	char sum[DIGEST_TEXT_MAX];
	json_t *made = NULL;
	struct stat st;
	struct blk_progress tell = disk_progress(&m.p);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", cli_arg(c, 1), strerror(errno));
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return err_set(err, -EINVAL, "'%s' is no file, or has nothing in it", cli_arg(c, 1));
	int r = client_open(&cl, c, err);
	m.cl = cl;
	m.size = (uint64_t)st.st_size;
	snprintf(m.path, sizeof(m.path), "/v1/%s/%s", plural, cli_arg(c, 0));
	progress_start(&m.p, c, "reading");
	if (!r)
		r = digest_file(cli_arg(c, 1), "sha256", sum, &tell, err);
	if (!r)
		r = post(&m, plural, cli_arg(c, 0), own, sum, cli_str(c, "--format"), err);
	if (!r)
		r = follow(&m, &made, err);
	progress_end(&m.p);
	return report(c, r, made, err);
}

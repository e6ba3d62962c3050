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
	struct progress *p;
	char path[PATH_CAP];            /* "/v1/images/NAME" */
	char what[32];                  /* that the daemon does */
	/* an upload: */
	int fd;                         /* -1: none */
	uint64_t base, size;            /* what of the file is sent */
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
	m->p->what = m->what;
	return progress_update(m->p, (uint64_t)json_integer_value(json_object_get(progress, "done")),
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
	m->p->what = "uploading";
	int r = client_upload(m->cl, path, m->fd, m->base, received, m->size, m->p, err);
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

int content_wait(struct client *cl, struct progress *p, const char *plural, const char *name, json_t **out, struct err *err)
{
	struct making m = { .cl = cl, .p = p, .fd = -1 };

	snprintf(m.path, sizeof(m.path), "/v1/%s/%s", plural, name);
	return follow(&m, out, err);
}

int content_make(struct cli *c, const char *plural, const char *name, json_t *doc, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	struct progress p;
	json_t *made = NULL;
	int r = client_open(&cl, c, err);

	progress_start(&p, c, "making");
	if (!r)
		r = client_call(cl, "POST", doc, NULL, err, "/v1/%s", plural);
	json_decref(doc);
	if (!r)
		r = content_wait(cl, &p, plural, name, &made, err);
	progress_end(&p);
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

/* Is what is there already U's, from an earlier attempt? */
static bool is_ours(const json_t *there, const struct content_upload *u)
{
	const json_t *status = json_object_get(there, "status");
	const json_t *upload = json_object_get(json_object_get(json_object_get(there, "spec"), "source"), "upload");
	const char *its = json_string_value(json_object_get(upload, "sha256"));
	const json_t *labels = json_object_get(there, "labels");
	const char *key;
	json_t *value;

	if (!its || strcmp(its, u->sum) != 0 || json_is_true(json_object_get(there, "deleting")))
		return false;
	json_object_foreach(u->labels, key, value)
		if (!json_equal(json_object_get(labels, key), value))
			return false;
	return u->takes_ready || json_object_get(status, "upload");
}

int content_post(struct client *cl, const struct content_upload *u, struct err *err)
{
	AUTO(json_decref) json_t *there = NULL;
	AUTO(json_decref) json_t *spec = json_copy(u->spec);
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:O, s:O*}", "name", u->name, "spec", spec, "labels", u->labels);
	AUTO(json_decref) json_t *upload = json_pack("{s:I, s:s, s:s*}", "size", (json_int_t)u->size, "sha256", u->sum, "format", u->format);
	struct err why = ERR_INIT;

	if (u->kernel_at)
		json_object_set_new(upload, "kernel_at", json_integer((json_int_t)u->kernel_at));
	if (u->keep_seconds)
		json_object_set_new(upload, "keep_seconds", json_integer((json_int_t)u->keep_seconds));
	json_object_set_new(spec, "source", json_pack("{s:O}", "upload", upload));
	int r = client_call(cl, "POST", doc, NULL, err, "/v1/%s", u->plural);
	if (r != -EEXIST || client_call(cl, "GET", NULL, &there, &why, "/v1/%s/%s", u->plural, u->name) < 0 || !is_ours(there, u))
		return r;
	*err = (struct err)ERR_INIT;
	return 0;
}

int content_send(struct client *cl, struct progress *p, const struct content_upload *u, json_t **out, struct err *err)
{
	struct making m = { .cl = cl, .p = p, .fd = u->fd, .base = u->off, .size = u->size, .moved_ns = loop_now_ns() };

	snprintf(m.path, sizeof(m.path), "/v1/%s/%s", u->plural, u->name);
	return follow(&m, out, err);
}

void content_remove(struct client *cl, const char *plural, const char *name)
{
	uint64_t since = loop_now_ns();
	struct err ignored = ERR_INIT;
	int r = client_call(cl, "DELETE", NULL, NULL, &ignored, "/v1/%s/%s", plural, name);

	while (!r && loop_now_ns() - since < (uint64_t)PATIENCE_S * 1000000000u) {
		usleep(POLL_US);
		r = client_call(cl, "GET", NULL, NULL, &ignored, "/v1/%s/%s", plural, name);
	}
}

int content_upload(struct cli *c, const char *plural, json_t *spec, struct err *err)
{
	AUTO(client_close) struct client *cl = NULL;
	AUTO(json_decref) json_t *own = spec;
	AUTO_FD int fd = open(cli_arg(c, 1), O_RDONLY | O_CLOEXEC);
	char sum[DIGEST_TEXT_MAX];
	struct content_upload u = { .plural = plural, .name = cli_arg(c, 0), .fd = fd, .sum = sum, .format = cli_str(c, "--format"), .spec = own };
	json_t *made = NULL;
	struct stat st;
	struct progress p;
	struct blk_progress tell = disk_progress(&p);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", cli_arg(c, 1), strerror(errno));
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return err_set(err, -EINVAL, "'%s' is no file, or has nothing in it", cli_arg(c, 1));
	int r = client_open(&cl, c, err);
	u.size = (uint64_t)st.st_size;
	progress_start(&p, c, "reading");
	if (!r)
		r = digest_file(cli_arg(c, 1), "sha256", sum, &tell, err);
	if (!r)
		r = content_post(cl, &u, err);
	if (!r)
		r = content_send(cl, &p, &u, &made, err);
	progress_end(&p);
	return report(c, r, made, err);
}

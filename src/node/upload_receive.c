/* SPDX-License-Identifier: Apache-2.0 */
/* upload_receive.c - one request with a part of what is uploaded: from its header Content-Range to the file. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api/range.h"
#include "api/route.h"
#include "node/controller.h"
#include "node/files.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/pool_dir.h"
#include "node/upload.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { SYNC_BYTES = 16 << 20 };         /* of them at most are written once more after a crash */

struct upload_stream {
	struct upload *u;
	struct node *node;
	struct api_call *call;
	struct upload_place place;
	uint64_t len;                   /* of the body */
	unsigned limit;                 /* percent of the pool */
	atomic_ullong sent, safe;       /* offsets in the file */
	/* the sink's thread: */
	int pool_fd, fd;
	uint64_t synced;
	struct err err;                 /* handed to the loop with its result */
	/* loop thread: */
	bool is_over;
	int result;
};

/* --- the sink's thread ---------------------------------------------------- */

static int check_room(struct upload_stream *s)
{
	struct pool_space space;
	int r = pool_dir_space(s->pool_fd, &space, &s->err);

	if (!r && pool_dir_level(&space, s->limit, s->limit, POOL_ROOMY) == POOL_FULL)
		r = err_set(&s->err, -ENOSPC, "the pool '%s' is full: make room, and go on from here", s->place.pool);
	return r;
}

/* Ready to write at the offset where it goes on; what lies behind that was never safe. */
static int open_file(struct upload_stream *s)
{
	char path[sizeof(s->place.dir) + 16];
	uint64_t at = atomic_load(&s->sent);

	s->pool_fd = pool_dir_open(s->place.pool_path, s->place.pool_uid, &s->err);
	if (s->pool_fd < 0)
		return s->pool_fd;
	int r = files_make_dir(s->place.dir, &s->err);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/" UPLOAD_FILE, s->place.dir);
	s->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->fd < 0 || ftruncate(s->fd, (off_t)at) < 0)
		return err_set(&s->err, -errno, "cannot write '%s': %s", path, strerror(errno));
	r = at ? 0 : files_sync_above(path, &s->err);
	return r < 0 ? r : check_room(s);
}

/* What is written is safe from now on. */
static int make_safe(struct upload_stream *s)
{
	uint64_t sent = atomic_load(&s->sent);

	if (sent == s->synced)
		return 0;
	if (fdatasync(s->fd) < 0)
		return err_set(&s->err, -errno, "what was sent cannot be written: %s", strerror(errno));
	s->synced = sent;
	atomic_store(&s->safe, sent);
	return 0;
}

static int on_data(void *arg, const void *data, size_t len)
{
	struct upload_stream *s = arg;
	const char *at = data;
	int r = s->fd >= 0 ? 0 : open_file(s);

	while (!r && len) {
		uint64_t sent = atomic_load(&s->sent);
		ssize_t n = pwrite(s->fd, at, len, (off_t)sent);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(&s->err, n < 0 ? -errno : -EIO, "what was sent cannot be written: %s", strerror(n < 0 ? errno : EIO));
		at += n;
		len -= (size_t)n;
		atomic_store(&s->sent, sent + (uint64_t)n);
	}
	if (!r && atomic_load(&s->sent) - s->synced >= SYNC_BYTES) {
		r = make_safe(s);
		r = r < 0 ? r : check_room(s);
	}
	return r;
}

/* Also what came before the client went away, or the disk was full, is kept. */
static int on_end(void *arg)
{
	struct upload_stream *s = arg;

	int r = s->fd >= 0 ? make_safe(s) : 0;

	auto_fd(&s->fd);
	auto_fd(&s->pool_fd);
	return r;
}

/* --- loop thread ---------------------------------------------------- */

static void on_done(void *arg, struct http_request *rq, int64_t result)
{
	struct upload_stream *s = arg;

	(void)rq;
	s->is_over = true;
	s->result = result < 0 ? (int)result : 0;
	controlled_kick(s->u->c);
}

uint64_t upload_stream_sent(const struct upload_stream *s) { return atomic_load(&s->sent); }
uint64_t upload_stream_safe(const struct upload_stream *s) { return atomic_load(&s->safe); }
bool upload_stream_is_over(const struct upload_stream *s) { return s->is_over; }
void upload_stream_stop(struct upload_stream *s) { http_receive_stop(s->call->rq); }

static void set_offset(struct api_call *c, uint64_t offset)
{
	char value[32];

	snprintf(value, sizeof(value), "%" PRIu64, offset);
	http_set_header(c->rq, "upload-offset", value);
}

void upload_stream_answer(struct upload_stream *s)
{
	uint64_t safe = atomic_load(&s->safe);
	struct err err = s->err;

	set_offset(s->call, safe);
	if (s->result == -ECANCELED)
		err_set(&err, s->result = -EBUSY, "it is being deleted");
	else if (s->result < 0 && !err.msg[0])
		err_set(&err, s->result == -ECONNRESET ? -EINVAL : s->result, "it has broken off: %s", strerror(-s->result));
	if (s->result < 0)
		api_fail(s->call, err.code, NULL, &err);
	else
		api_reply(s->call, 200, json_pack("{s:I, s:I}", "received", (json_int_t)safe, "size", (json_int_t)s->u->size));
	s->node->n_uploads--;
	free(s);
}

/* Does the body, which begins at *OFF, go on where U is? */
static int check_range(struct api_call *c, const struct upload *u, uint64_t *off, char *where, size_t cap, struct err *err)
{
	const char *text = http_get_header(c->rq, HTTP_CONTENT_RANGE);
	uint64_t body = http_content_length(c->rq), len = body, total = u->size;

	snprintf(where, cap, "content-range");
	*off = 0;
	if (!body)
		return err_set(err, -EINVAL, "there is no content: send bytes, and their number as Content-Length");
	if (text && http_content_range(text, off, &len, &total) < 0)
		return err_set(err, -EINVAL, "'%.80s' is no Content-Range like 'bytes 0-99/1000'", text);
	if (total != u->size)
		return err_set(err, -EINVAL, "it was said to have %" PRIu64 " bytes, and not %" PRIu64, u->size, total);
	if (len != body)
		return err_set(err, -EINVAL, "the Content-Range is one of %" PRIu64 " bytes, and the content has %" PRIu64, len, body);
	if (!range_fits(*off, len, u->size))
		return err_set(err, -EFBIG, "it was said to have %" PRIu64 " bytes: these would be more", u->size);
	if (!text && len != u->size)
		return err_set(err, -EINVAL, "that are %" PRIu64 " bytes of %" PRIu64 ": say by Content-Range which", len, u->size);
	if (*off != (u->is_refused ? 0 : u->received))
		return err_set(err, -ESPIPE, "%" PRIu64 " bytes of it are there: go on from there", u->is_refused ? 0 : u->received);
	return 0;
}

static int check_request(struct api_call *c, const struct upload_place *p, uint64_t *off, char *where, size_t cap, struct err *err)
{
	struct node *n = c->arg;
	const struct upload *u = p->upload;

	where[0] = 0;
	if (!u->size)
		return err_set(err, -EBUSY, "'%s' was not made for an upload: its source is another", u->c->name);
	if (u->is_over || (u->received == u->size && !u->is_refused))
		return err_set(err, -EBUSY, "all of '%s' is there", u->c->name);
	if (u->stream)
		return err_set(err, -EBUSY, "somebody else is sending '%s'", u->c->name);
	int r = check_range(c, u, off, where, cap, err);
	if (r < 0)
		return r;
	where[0] = 0;
	if (n->n_uploads >= UPLOAD_STREAMS_MAX)
		return err_set(err, -EUSERS, "%d uploads are under way; try again later", UPLOAD_STREAMS_MAX);
	return pool_check_room(n, p->pool, u->is_refused ? u->size : u->size - u->received, err);
}

void upload_receive(struct api_call *c, const struct upload_place *p)
{
	static const struct http_sink sink = { .write = on_data, .end = on_end, .done = on_done };
	char where[32];
	uint64_t off = 0;
	struct err err = ERR_INIT;
	int r = check_request(c, p, &off, where, sizeof(where), &err);
	struct upload_stream *s = r < 0 ? NULL : calloc(1, sizeof(*s));

	if (s) {
		*s = (struct upload_stream){ .u = p->upload, .node = c->arg, .call = c, .place = *p, .limit = pool_limit(c->arg, p->pool), .sent = off,
					     .safe = off, .synced = off, .fd = -1, .pool_fd = -1 };
		if (!http_receive(c->rq, &sink, s)) {
			p->upload->stream = s;
			p->upload->received = off;
			p->upload->is_refused = false;
			s->node->n_uploads++;
			controlled_kick(p->upload->c);
			return;
		}
		free(s);
	}
	if (!r)
		r = err_set(&err, -EAGAIN, "there is no memory for one more upload; try again later");
	if (r == -ESPIPE)
		set_offset(c, p->upload->is_refused ? 0 : p->upload->received);
	api_fail(c, r, where, &err);
}

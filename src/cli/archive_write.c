/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "blk/ova/tar.h"
#include "cli/archive.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/json.h"

enum { CHUNK = 1 << 20 };

static int put(struct archive_writer *w, const void *data, size_t len, struct err *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pwrite(w->fd, (const char *)data + done, len - done, (off_t)w->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, n < 0 ? -errno : -EIO, "cannot write: %s", strerror(n < 0 ? errno : EIO));
		done += (size_t)n;
		w->at += (uint64_t)n;
	}
	return 0;
}

static int pad(struct archive_writer *w, struct err *err)
{
	static const char zero[TAR_BLOCK];

	return put(w, zero, (TAR_BLOCK - w->at % TAR_BLOCK) % TAR_BLOCK, err);
}

static int head(struct archive_writer *w, const char *name, uint64_t len, struct err *err)
{
	uint8_t block[TAR_BLOCK];
	int r = tar_header(block, name, len, (uint64_t)time(NULL));

	return r < 0 ? err_set(err, r, "'%s' is too long a name for an archive", name) : put(w, block, sizeof(block), err);
}

/* What has been written from OFF on is the file NAME. */
static int note(struct archive_writer *w, const char *name, uint64_t off, const struct blk_progress *p, struct err *err)
{
	char sum[DIGEST_TEXT_MAX];
	uint64_t len = w->at - off;
	int r = digest_part(w->fd, off, len, sum, p);

	if (r < 0)
		return err_set(err, r, "cannot read what was written: %s", strerror(-r));
	if (json_array_append_new(w->files, json_pack("{s:s, s:I, s:s}", "name", name, "size", (json_int_t)len, "sha256", sum)) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return pad(w, err);
}

int archive_begin(struct archive_writer *w, int fd, struct err *err)
{
	*w = (struct archive_writer){ .fd = fd, .files = json_array() };
	return w->files ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int archive_add_file(struct archive_writer *w, const char *name, const char *path, const struct blk_progress *p, struct err *err)
{
	AUTO_FD int from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO(free) char *buf = malloc(CHUNK);
	struct stat st;

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	if (from < 0 || fstat(from, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	int r = head(w, name, (uint64_t)st.st_size, err);
	uint64_t off = w->at, end = off + (uint64_t)st.st_size;

	while (!r && w->at < end) {
		size_t want = end - w->at < CHUNK ? (size_t)(end - w->at) : CHUNK;
		ssize_t n = read(from, buf, want);

		if (n < 0 && errno == EINTR)
			continue;
		r = n <= 0 ? err_set(err, n < 0 ? -errno : -EIO, "cannot read '%s': %s", path, n < 0 ? strerror(errno) : "it has become shorter")
			   : put(w, buf, (size_t)n, err);
		if (!r && blk_progress(p, w->at - off, end - off) < 0)
			r = err_set(err, -EINTR, "interrupted");
	}
	w->has_kernel |= !strcmp(name, ARCHIVE_KERNEL);
	return r < 0 ? r : note(w, name, off, p, err);
}

/* DOC as a member; *OFF: where it begins. */
static int put_json(struct archive_writer *w, const char *name, const json_t *doc, uint64_t *off, struct err *err)
{
	AUTO(free) char *text = json_dumps(doc, JSON_INDENT(2));
	int r = text ? head(w, name, strlen(text), err) : err_set(err, -ENOMEM, "out of memory");

	*off = w->at;
	return r < 0 ? r : put(w, text, strlen(text), err);
}

int archive_add_json(struct archive_writer *w, const char *name, const json_t *doc, struct err *err)
{
	uint64_t off;
	int r = put_json(w, name, doc, &off, err);

	return r < 0 ? r : note(w, name, off, NULL, err);
}

int archive_finish(struct archive_writer *w, struct err *err)
{
	static const char end[2 * TAR_BLOCK];
	AUTO(json_decref) json_t *manifest = json_pack("{s:s, s:i, s:O}", "format", ARCHIVE_FORMAT, "version", w->has_kernel ? ARCHIVE_VERSION : 1,
						       "files", w->files);
	uint64_t off;
	int r = put_json(w, ARCHIVE_MANIFEST, manifest, &off, err);

	if (!r)
		r = pad(w, err);
	if (!r)
		r = put(w, end, sizeof(end), err);
	return !r && fsync(w->fd) < 0 ? err_set(err, -errno, "cannot write: %s", strerror(errno)) : r;
}

void archive_done(struct archive_writer *w)
{
	json_decref(w->files);
	w->files = NULL;
}

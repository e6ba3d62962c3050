/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fetch_part.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/err.h"
#include "util/weburl.h"

/* Bytes that are lost at most when the host ends; and what PATH.from has. */
enum { SYNC_EVERY = 16 << 20, SAFE_DIGITS = 20, NOTE_MAX = SAFE_DIGITS + FETCH_TAG_MAX + WEBURL_MAX + 8 };

static int failed(const char *name, struct err *err)
{
	int e = errno;

	return err_set(err, -e, "cannot write '%s': %s", name, strerror(e));
}

/* Digits of a fixed width, the tag, and the address: a line each. */
static int write_note(const struct fetch_part *p, struct err *err)
{
	char text[NOTE_MAX];
	int len = snprintf(text, sizeof(text), "%0*" PRIu64 "\n%s\n%s\n", SAFE_DIGITS, p->safe, p->tag, p->url);

	if (ftruncate(p->note, 0) < 0 || pwrite(p->note, text, (size_t)len, 0) != len || fdatasync(p->note) < 0)
		return failed(p->from, err);
	return 0;
}

/* What is safe of P's address, as PATH.from has it. 0: nothing, or it is of another. */
static uint64_t read_note(struct fetch_part *p)
{
	char text[NOTE_MAX];
	ssize_t len = pread(p->note, text, sizeof(text) - 1, 0);
	uint64_t safe;

	text[len > 0 ? len : 0] = 0;
	char *tag = strchr(text, '\n'), *url = tag ? strchr(tag + 1, '\n') : NULL, *end = url ? strchr(url + 1, '\n') : NULL;
	if (!end || sscanf(text, "%" SCNu64, &safe) != 1)
		return 0;
	*url++ = *end = 0;
	if (strcmp(url, p->url) != 0 || !tag[1])
		return 0;
	snprintf(p->tag, sizeof(p->tag), "%s", tag + 1);
	return safe;
}

int fetch_part_open(struct fetch_part *p, const char *path, const char *url, struct err *err)
{
	struct stat st;

	*p = (struct fetch_part){ .path = path, .url = url, .fd = -1, .note = -1 };
	if (asprintf(&p->part, "%s.part", path) < 0)
		p->part = NULL;
	if (asprintf(&p->from, "%s.from", path) < 0)
		p->from = NULL;
	if (!p->part || !p->from)
		return err_set(err, -ENOMEM, "out of memory");
	p->fd = open(p->part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->fd < 0)
		return failed(p->part, err);
	if (flock(p->fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "another process fetches '%s'", path);
	p->note = open(p->from, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (p->note < 0 || fstat(p->fd, &st) < 0)
		return failed(p->from, err);
	uint64_t safe = read_note(p);
	p->safe = p->at = safe < (uint64_t)st.st_size ? safe : (uint64_t)st.st_size;
	return ftruncate(p->fd, (off_t)p->at) < 0 ? failed(p->part, err) : 0;
}

int fetch_part_restart(struct fetch_part *p, const char *tag, struct err *err)
{
	p->at = p->safe = 0;
	snprintf(p->tag, sizeof(p->tag), "%s", tag);
	return ftruncate(p->fd, 0) < 0 ? failed(p->part, err) : write_note(p, err);
}

int fetch_part_write(struct fetch_part *p, const char *data, size_t n, struct err *err)
{
	for (size_t done = 0; done < n;) {
		ssize_t w = pwrite(p->fd, data + done, n - done, (off_t)p->at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return failed(p->part, err);
		done += (size_t)w;
		p->at += (uint64_t)w;
	}
	return p->at - p->safe >= SYNC_EVERY ? fetch_part_sync(p, err) : 0;
}

int fetch_part_sync(struct fetch_part *p, struct err *err)
{
	if (p->at == p->safe)
		return 0;
	if (fdatasync(p->fd) < 0)
		return failed(p->part, err);
	p->safe = p->at;
	return write_note(p, err);
}

int fetch_part_finish(struct fetch_part *p, struct err *err)
{
	int r = fsync(p->fd) < 0 ? failed(p->part, err) : 0;

	if (!r && renameat2(AT_FDCWD, p->part, AT_FDCWD, p->path, RENAME_NOREPLACE) < 0)
		r = errno == EEXIST ? err_set(err, -EEXIST, "'%s' is there already; choose another name", p->path) : failed(p->path, err);
	if (!r && unlink(p->from) < 0)
		r = failed(p->from, err);
	return r;
}

void fetch_part_discard(struct fetch_part *p)
{
	(void)unlink(p->part);
	(void)unlink(p->from);
}

void fetch_part_close(struct fetch_part *p)
{
	if (p->note >= 0)
		close(p->note);
	if (p->fd >= 0)
		close(p->fd);
	free(p->part);
	free(p->from);
	*p = (struct fetch_part){ .fd = -1, .note = -1 };
}

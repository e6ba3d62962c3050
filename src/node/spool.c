/* SPDX-License-Identifier: Apache-2.0 */
#include "node/spool.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/work.h"
#include "util/cleanup.h"

enum { PATH_CAP = 512, FIRST_CAP = 4 << 10, NOTE_MAX = 96 };

struct text {
	char *data;
	size_t len, cap;
};

struct spool {
	struct works *writer;
	char path[PATH_CAP];
	struct text waiting;
	unsigned long long lost;        /* bytes behind WAITING */
	bool is_writing, is_resting, is_freed;
	/* The thread's, while IS_WRITING: */
	struct text text;
	unsigned long long lost_then;
	int fd;
	off_t size;
};

/* --- the thread ---------------------------------------------------- */

static void spool_open(struct spool *s)
{
	struct stat st;

	s->fd = open(s->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	s->size = s->fd >= 0 && !fstat(s->fd, &st) ? st.st_size : 0;
}

static void spool_append(struct spool *s, const char *data, size_t len)
{
	char old[PATH_CAP + 2];

	if (s->fd < 0)
		spool_open(s);
	/* A full disk loses lines of the log, nothing else. */
	if (!len || s->fd < 0 || write(s->fd, data, len) < 0)
		return;
	s->size += (off_t)len;
	if (s->size < SPOOL_FILE_MAX)
		return;
	snprintf(old, sizeof(old), "%s.1", s->path);
	(void)rename(s->path, old);
	close(s->fd);
	s->fd = -1;
}

static int spool_write(void *arg, struct err *err)
{
	struct spool *s = arg;
	char note[NOTE_MAX];

	(void)err;
	spool_append(s, s->text.data, s->text.len);
	if (s->lost_then) {
		int n = snprintf(note, sizeof(note), "\n[%llu bytes are missing: the disk was too slow]\n", s->lost_then);

		spool_append(s, note, (size_t)n);
	}
	return 0;
}

/* --- the loop ---------------------------------------------------- */

static void spool_begin(struct spool *s);

static void spool_close(struct spool *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void spool_written(void *arg, int r, const struct err *err)
{
	struct spool *s = arg;

	(void)r;
	(void)err;
	s->is_writing = false;
	free(s->text.data);
	s->text = (struct text){ .data = NULL };
	if (s->waiting.len || s->lost)
		spool_begin(s);
	if (s->is_writing)
		return;
	if (s->is_resting)
		spool_close(s);
	if (s->is_freed) {
		s->is_freed = false;
		spool_free(s);
	}
}

static void spool_begin(struct spool *s)
{
	s->text = s->waiting;
	s->lost_then = s->lost;
	s->waiting = (struct text){ .data = NULL };
	s->lost = 0;
	s->is_writing = true;
	if (work_start(s->writer, spool_write, spool_written, s) == 0)
		return;
	s->is_writing = false;
	free(s->text.data);
	s->text = (struct text){ .data = NULL };
}

static bool text_grow(struct text *t, size_t len)
{
	size_t cap = t->cap ? t->cap : FIRST_CAP;

	while (cap < t->len + len)
		cap *= 2;
	char *data = cap > SPOOL_WAITING_MAX ? NULL : cap == t->cap ? t->data : realloc(t->data, cap);
	if (!data)
		return false;
	t->data = data;
	t->cap = cap;
	return true;
}

void spool_put(struct spool *s, const char *data, size_t len)
{
	s->is_resting = false;
	/* What comes behind a gap waits until the gap has been told. */
	if (s->lost || !text_grow(&s->waiting, len)) {
		s->lost += len;
	} else {
		memcpy(s->waiting.data + s->waiting.len, data, len);
		s->waiting.len += len;
	}
	if (!s->is_writing)
		spool_begin(s);
}

void spool_rest(struct spool *s)
{
	s->is_resting = true;
	if (!s->is_writing)
		spool_close(s);
}

struct spool *spool_new(struct works *writer, const char *path)
{
	struct spool *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->writer = writer;
	s->fd = -1;
	snprintf(s->path, sizeof(s->path), "%s", path);
	return s;
}

void spool_free(struct spool *s)
{
	if (!s)
		return;
	if (s->is_writing) {
		s->is_resting = s->is_freed = true;
		return;
	}
	spool_close(s);
	free(s->waiting.data);
	free(s);
}

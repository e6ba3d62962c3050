/* SPDX-License-Identifier: Apache-2.0 */
#include "node/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/audit_files.h"
#include "node/files.h"
#include "util/err.h"
#include "util/log.h"

struct audit {
	char *dir;
	int fd;
	off_t size;
	/* The thread that waits for the disk. */
	pthread_t thread;
	bool has_thread;
	pthread_mutex_t lock;           /* guards the rest */
	pthread_cond_t more;
	struct audit_head head;
	int to_sync;                    /* a copy of the descriptor; -1: nothing to do */
	bool is_closing;
};

/* --- the disk ---------------------------------------------------- */

static void *sync_thread(void *arg)
{
	struct audit *a = arg;

	pthread_mutex_lock(&a->lock);
	while (!a->is_closing || a->to_sync >= 0) {
		int fd = a->to_sync;

		a->to_sync = -1;
		if (fd < 0) {
			pthread_cond_wait(&a->more, &a->lock);
			continue;
		}
		pthread_mutex_unlock(&a->lock);
		if (fdatasync(fd) < 0)
			log_error("the audit log does not reach the disk: %s", strerror(errno));
		close(fd);
		pthread_mutex_lock(&a->lock);
	}
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static void sync_soon(struct audit *a)
{
	pthread_mutex_lock(&a->lock);
	if (a->to_sync < 0)
		a->to_sync = fcntl(a->fd, F_DUPFD_CLOEXEC, 0);
	pthread_cond_signal(&a->more);
	pthread_mutex_unlock(&a->lock);
}

static int start_thread(struct audit *a, struct err *err)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&a->thread, NULL, sync_thread, a);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	a->has_thread = !r;
	return r ? err_set(err, -r, "cannot start a thread: %s", strerror(r)) : 0;
}

/* --- the log ---------------------------------------------------- */

static int open_file(struct audit *a, int64_t first, struct err *err)
{
	char path[AUDIT_PATH_MAX];
	struct stat st;

	audit_path(path, a->dir, first);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));

		if (fd >= 0)
			close(fd);
		return r;
	}
	if (a->fd >= 0)
		close(a->fd);
	a->fd = fd;
	a->size = st.st_size;
	return 0;
}

/* The last record's number and hash, from the end of the newest file; a part of a line behind it goes. */
static int find_head(struct audit *a, int64_t first, struct err *err)
{
	char path[AUDIT_PATH_MAX];
	off_t good = 0;

	audit_path(path, a->dir, first);
	a->head = (struct audit_head){ .seq = first - 1 };
	memset(a->head.hash, '0', SECRET_HASH_LEN);
	/* A record that cannot be read stays, for audit_verify() to tell of; the chain goes on from the last that can. */
	int r = audit_last(path, &a->head, &good, err);
	if (r < 0)
		return r;
	if (good < a->size) {
		log_warn("the last %lld bytes of '%s' are no whole record; they are taken off", (long long)(a->size - good),
			 path);
		if (ftruncate(a->fd, good) < 0)
			return err_set(err, -errno, "cannot mend '%s': %s", path, strerror(errno));
		a->size = good;
	}
	return 0;
}

int audit_open(struct audit **out, const char *dir, struct err *err)
{
	struct audit *fresh = calloc(1, sizeof(*fresh));
	int64_t first = 1;

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	fresh->fd = fresh->to_sync = -1;
	pthread_mutex_init(&fresh->lock, NULL);
	pthread_cond_init(&fresh->more, NULL);
	AUTO(audit_close) struct audit *a = fresh;

	a->dir = strdup(dir);
	if (!a->dir)
		return err_set(err, -ENOMEM, "out of memory");
	int r = files_make_dir(dir, err);
	if (!r)
		r = audit_newest(dir, &first, err);
	if (!r)
		r = open_file(a, first, err);
	if (!r)
		r = find_head(a, first, err);
	/* An empty file's records go on from the one before it. */
	if (!r && !a->size && first > 1)
		r = audit_last_of_older(dir, first, &a->head, err);
	if (!r)
		r = start_thread(a, err);
	if (r < 0)
		return r;
	*out = take_ptr(&a);
	return 0;
}

void audit_close(struct audit *a)
{
	if (!a)
		return;
	if (a->has_thread) {
		pthread_mutex_lock(&a->lock);
		a->is_closing = true;
		pthread_cond_signal(&a->more);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
	}
	if (a->fd >= 0)
		close(a->fd);
	pthread_cond_destroy(&a->more);
	pthread_mutex_destroy(&a->lock);
	free(a->dir);
	free(a);
}

struct audit_head audit_head(struct audit *a)
{
	pthread_mutex_lock(&a->lock);
	struct audit_head h = a->head;

	pthread_mutex_unlock(&a->lock);
	return h;
}

/* The whole line, or nothing of it. */
static int put_line(struct audit *a, const char *line, size_t len, struct err *err)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(a->fd, line + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			int r = n < 0 ? -errno : -EIO;

			if (ftruncate(a->fd, a->size) < 0)
				log_error("the audit log has half a record at its end: %s", strerror(errno));
			return err_set(err, r, "cannot write the audit log in '%s': %s", a->dir, strerror(-r));
		}
		done += (size_t)n;
	}
	a->size += (off_t)len;
	return 0;
}

int audit_write(struct audit *a, json_t *record, struct err *err)
{
	AUTO(json_decref) json_t *doc = record;
	struct audit_head last = audit_head(a), next = { .seq = last.seq + 1 };
	AUTO(free) char *line = NULL;

	if (a->size >= AUDIT_FILE_MAX) {
		int r = open_file(a, next.seq, err);

		if (r < 0)
			return r;
	}
	json_object_set_new(doc, "seq", json_integer((json_int_t)next.seq));
	json_object_set_new(doc, "prev", json_string(last.hash));
	AUTO(free) char *text = json_dumps(doc, JSON_COMPACT);
	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	secret_hash(next.hash, text, strlen(text));
	int len = asprintf(&line, "%.*s,\"hash\":\"%s\"}\n", (int)strlen(text) - 1, text, next.hash);
	if (len < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = put_line(a, line, (size_t)len, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&a->lock);
	a->head = next;
	pthread_mutex_unlock(&a->lock);
	sync_soon(a);
	return 0;
}

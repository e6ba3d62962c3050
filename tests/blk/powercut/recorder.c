/* SPDX-License-Identifier: Apache-2.0 */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/err.h"

struct recorder recorder;

static uint64_t recorder_random(uint64_t below)
{
	recorder.rng ^= recorder.rng >> 12;
	recorder.rng ^= recorder.rng << 25;
	recorder.rng ^= recorder.rng >> 27;
	return (recorder.rng * 2685821657736338717ull >> 11) % below;
}

static size_t record(enum event_kind kind, unsigned file, uint64_t off, uint64_t len)
{
	if (recorder.n == recorder.cap) {
		recorder.cap = recorder.cap ? recorder.cap * 2 : 1024;
		recorder.v = realloc(recorder.v, recorder.cap * sizeof(*recorder.v));
	}
	recorder.v[recorder.n] = (struct event){ .kind = kind, .file = file, .off = off, .len = len, .start = ++recorder.now,
						 .done = UINT64_MAX };
	return recorder.n++;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The number of the file behind FD; one that is not known has just been made. */
unsigned recorder_file(int fd)
{
	char link[32], path[300] = "";
	struct stat st;

	if (fstat(fd, &st) < 0)
		abort();
	if (S_ISDIR(st.st_mode))
		return FOLDER;
	for (unsigned i = 0; i < recorder.n_files; i++)
		if (recorder.file[i].ino == st.st_ino && recorder.file[i].dev == st.st_dev)
			return i;
	if (recorder.n_files == FILES)
		abort();
	struct rec_file *f = &recorder.file[recorder.n_files];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	if (readlink(link, path, sizeof(path) - 1) < 0)
		abort();
	*f = (struct rec_file){ .dev = st.st_dev, .ino = st.st_ino };
	snprintf(f->name, sizeof(f->name), "%.63s", base_name(path));
	if (recorder.is_on) {
		size_t e = record(EV_MADE, FOLDER, 0, recorder.n_files);

		memcpy(recorder.v[e].to, f->name, sizeof(f->name));
		recorder.v[e].done = recorder.now;
	}
	return recorder.n_files++;
}

/* The library changes the length of a file with this; ours goes before the C library's. */
int ftruncate(int fd, off_t len)
{
	int r = (int)syscall(SYS_ftruncate, fd, len);

	if (!r && recorder.is_on) {
		size_t e = record(EV_LENGTH, recorder_file(fd), (uint64_t)len, 0);

		recorder.v[e].done = recorder.now;
	}
	return r;
}

/* And names with these. */
int rename(const char *from, const char *to)
{
	int r = (int)syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to);

	if (!r && recorder.is_on) {
		size_t e = record(EV_RENAMED, FOLDER, 0, 0);

		snprintf(recorder.v[e].from, sizeof(recorder.v[e].from), "%.63s", base_name(from));
		snprintf(recorder.v[e].to, sizeof(recorder.v[e].to), "%.63s", base_name(to));
		recorder.v[e].done = recorder.now;
	}
	return r;
}

int fsync(int fd)
{
	if (recorder.is_on) {
		size_t e = record(EV_FLUSH, recorder_file(fd), 0, 0);

		recorder.v[e].done = ++recorder.now;
	}
	return 0;
}

struct rec_job { struct aio_job *j; int64_t result; size_t event; };
struct aio { int event_fd; struct rec_job job[4096]; unsigned n; };

static int rec_open(struct aio **out, int event_fd, struct err *err)
{
	*out = calloc(1, sizeof(**out));
	(*out)->event_fd = event_fd;
	return 0;
}

static size_t rec_write(const struct aio_job *j)
{
	size_t e = record(EV_WRITE, recorder_file(j->fd), j->off, j->len), at = 0;

	recorder.v[e].data = malloc(j->len);
	for (int i = 0; i < j->n_iov; i++) {
		memcpy(recorder.v[e].data + at, j->iov[i].iov_base, j->iov[i].iov_len);
		at += j->iov[i].iov_len;
	}
	return e;
}

static void rec_submit(struct aio *a, struct aio_job *j)
{
	uint64_t one = 1;
	size_t e = SIZE_MAX;

	if (j->op == AIO_WRITEV)
		e = rec_write(j);
	else if (j->op == AIO_FDATASYNC)
		e = record(EV_FLUSH, recorder_file(j->fd), 0, 0);
	else if (j->op == AIO_FALLOCATE)
		e = record(EV_ZERO, recorder_file(j->fd), j->off, j->len);
	a->job[a->n++] = (struct rec_job){ .j = j, .result = j->op == AIO_FDATASYNC ? 0 : aio_do(j), .event = e };
	if (write(a->event_fd, &one, sizeof(one)) < 0)
		abort();
}

/* One of those that wait, not the oldest. */
static void rec_reap(struct aio *a)
{
	while (a->n) {
		unsigned i = (unsigned)recorder_random(a->n);
		struct rec_job job = a->job[i];

		a->job[i] = a->job[--a->n];
		if (job.event != SIZE_MAX)
			recorder.v[job.event].done = ++recorder.now;
		job.j->done(job.j, job.result);
	}
}

static void rec_close(struct aio *a)
{
	free(a);
}

const struct aio_ops recorder_aio = {
	.name = "recorder", .open = rec_open, .submit = rec_submit, .reap = rec_reap, .close = rec_close,
	.has_threads = true,
};

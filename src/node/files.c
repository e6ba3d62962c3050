/* SPDX-License-Identifier: Apache-2.0 */
#include "node/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"

enum { OPEN_DIRS = 16, CHUNK = 1 << 20 };

int files_make_dir(const char *path, struct err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int files_remove(const char *path, struct err *err)
{
	int r = nftw(path, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

	if (r == -1)
		r = -errno;
	return r < 0 && r != -ENOENT ? err_set(err, r, "cannot remove '%s': %s", path, strerror(-r)) : 0;
}

/* --- copies ---------------------------------------------------- */

struct copying {
	int from, to;
	uint64_t size;
	bool (*tell)(void *arg, uint64_t done, uint64_t total);
	void *arg;
	char *buf;                      /* CHUNK bytes, when the kernel does not copy between the two; else NULL */
};

/* At most LEN bytes at AT; what was copied, 0: there is nothing. */
static ssize_t copy_some(struct copying *c, off_t at, size_t len)
{
	off_t in = at, out = at;
	ssize_t n = c->buf ? -1 : copy_file_range(c->from, &in, c->to, &out, len, 0);

	if (n >= 0 || (!c->buf && errno != EXDEV && errno != EINVAL && errno != EOPNOTSUPP && errno != ENOSYS))
		return n;
	if (!c->buf && !(c->buf = malloc(CHUNK)))
		return -1;
	n = pread(c->from, c->buf, len, at);
	return n > 0 ? pwrite(c->to, c->buf, (size_t)n, at) : n;
}

/* The data from AT to END. */
static int copy_part(struct copying *c, off_t at, off_t end, struct err *err)
{
	while (at < end) {
		ssize_t n = copy_some(c, at, end - at < CHUNK ? (size_t)(end - at) : CHUNK);

		if (!n || (n < 0 && errno != EINTR))
			return err_set(err, n < 0 ? -errno : -EIO, "cannot copy: %s", n < 0 ? strerror(errno) : "the file has become shorter");
		at += n > 0 ? n : 0;
		if (c->tell && !c->tell(c->arg, (uint64_t)at, c->size))
			return err_set(err, -ECANCELED, "it was cancelled");
	}
	return 0;
}

static int copy_parts(struct copying *c, struct err *err)
{
	off_t at = 0;

	while (at < (off_t)c->size && (at = lseek(c->from, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(c->from, at, SEEK_HOLE);
		int r = end < 0 ? err_set(err, -errno, "cannot read: %s", strerror(errno)) : copy_part(c, at, end, err);

		if (r < 0)
			return r;
		at = end;
	}
	return at < 0 && errno != ENXIO ? err_set(err, -errno, "cannot read: %s", strerror(errno)) : 0;
}

int files_copy(int from, int to, bool (*tell)(void *arg, uint64_t done, uint64_t total), void *arg, struct err *err)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return err_set(err, -errno, "cannot read: %s", strerror(errno));
	struct copying c = { .from = from, .to = to, .size = (uint64_t)st.st_size, .tell = tell, .arg = arg };
	if (tell && !tell(arg, 0, c.size))
		return err_set(err, -ECANCELED, "it was cancelled");
	if (ioctl(to, FICLONE, from) < 0) {
		int r = ftruncate(to, st.st_size) < 0 ? err_set(err, -errno, "cannot make the file long enough: %s", strerror(errno)) :
			copy_parts(&c, err);

		free(c.buf);
		if (r < 0)
			return r;
	}
	return fsync(to) < 0 ? err_set(err, -errno, "cannot write: %s", strerror(errno)) : 0;
}

int files_sync_above(const char *path, struct err *err)
{
	AUTO(free) char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!slash)
		return err_set(err, -ENOMEM, "out of memory");
	*slash = 0;
	AUTO_FD int fd = open(dir[0] ? dir : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 || fsync(fd) < 0 ? err_set(err, -errno, "cannot write the directory '%s': %s", dir, strerror(errno)) : 0;
}

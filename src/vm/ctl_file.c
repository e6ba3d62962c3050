/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_file.c - files that `viv-vmm ctl` opens for a machine, which has no right to: one that it writes, and one with a passphrase. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/secret.h"
#include "vm/ctl_priv.h"

enum { FILE_MODE = 0600 };

/* --- a new file --- */

/* Open TMP and lock it: another one like us may be writing it, or have been cut short. What it was when
 * it was opened may be called otherwise by now; then -EAGAIN. */
static int file_lock(const char *tmp, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_FD int fd = open(tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	struct stat ours, named;

	if (fd < 0 || fstat(fd, &ours) < 0)
		return err_set(err, -errno, "cannot make '%s': %s", tmp, strerror(errno));
	if (!S_ISREG(ours.st_mode))
		return err_set(err, -EINVAL, "'%s' is there and is not a regular file", tmp);
	if (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		return err_set(err, -EBUSY, "'%s' is being written by somebody else", tmp);
	if (stat(tmp, &named) < 0 || named.st_ino != ours.st_ino || named.st_dev != ours.st_dev)
		return err_set(err, -EAGAIN, "'%s' is being written by somebody else", tmp);
	if (ftruncate(fd, 0) < 0)
		return err_set(err, -errno, "cannot empty '%s': %s", tmp, strerror(errno));
	return take_fd(&fd);
}

int ctl_file_make(char **tmp, const char *path, struct err *err)
{
	enum { TRIES = 3 };
	struct stat st;
	int fd = -EAGAIN;

	if (!*path)
		return err_set(err, -EINVAL, "the file that is to be written has no name");
	/* The new file takes the place of an old one, but not of a device or a folder. */
	if (!stat(path, &st) && !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is there and is not a regular file", path);
	AUTO(free) char *name = NULL;
	if (asprintf(&name, "%s.tmp", path) < 0) {
		name = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	for (int i = 0; i < TRIES && fd == -EAGAIN; i++)
		fd = file_lock(name, err);
	if (fd >= 0)
		*tmp = take_ptr(&name);
	return fd;
}

int ctl_file_keep(const char *tmp, const char *path, struct err *err)
{
	if (rename(tmp, path) < 0)
		return err_set(err, -errno, "cannot rename '%s' to '%s': %s", tmp, path, strerror(errno));
	AUTO(free) char *copy = strdup(path);
	AUTO_FD int dir = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (dir < 0 || fsync(dir) < 0)
		return err_set(err, -errno, "'%s' is there, but may not outlive a power failure: %s", path, strerror(errno));
	return 0;
}

/* --- a passphrase --- */

int ctl_secret_open(const char *path, struct err *err)
{
	AUTO(blk_secret_wipe) struct blk_secret s = { 0 };
	int r = blk_secret_read_file(&s, path, err);
	AUTO_FD int fd = r < 0 ? -1 : memfd_create("passphrase", MFD_CLOEXEC);

	if (r < 0)
		return r;
	if (fd < 0 || write(fd, s.data, s.len) != (ssize_t)s.len || lseek(fd, 0, SEEK_SET) < 0)
		return err_set(err, -EIO, "cannot hand the passphrase over: %s", strerror(errno));
	return take_fd(&fd);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - one writer or many readers of an image, across processes. */
#include "blk/core_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/pid.h"

/* Whoever holds the lock and cannot be seen is waited for so long: 200 ms. */
enum { LOCK_TRIES = 40, LOCK_WAIT_US = 5000 };

/* Does descriptor FD of process PID hold a lock on the file of ST? */
static bool blk_fd_holds_lock(const char *pid, const char *fd, const struct stat *st)
{
	char path[64], line[256];
	bool has = false;
	struct stat other;

	snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", pid, fd);
	if (stat(path, &other) < 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	FILE *f = fopen(path, "re");

	while (f && !has && fgets(line, sizeof(line), f))
		has = !strncmp(line, "lock:", 5);
	if (f)
		fclose(f);
	return has;
}

/* The process that holds a lock on ST's file, 0 when it cannot be seen. The kernel does not
 * name the owner of an OFD lock, so look through the descriptors that we may see. */
static int blk_lock_owner(const struct stat *st)
{
	DIR *proc = opendir("/proc");
	int owner = 0;

	for (struct dirent *p; proc && !owner && (p = readdir(proc));) {
		char path[64];

		if (p->d_name[0] < '1' || p->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/fd", p->d_name);
		DIR *fds = opendir(path);

		for (struct dirent *d; fds && !owner && (d = readdir(fds));)
			if (d->d_name[0] != '.' && blk_fd_holds_lock(p->d_name, d->d_name, st))
				owner = (int)strtol(p->d_name, NULL, 10);
		if (fds)
			closedir(fds);
	}
	if (proc)
		closedir(proc);
	return owner;
}

void blk_unlock(int fd)
{
	struct flock fl = { .l_type = F_UNLCK, .l_whence = SEEK_SET };

	(void)fcntl(fd, F_OFD_SETLK, &fl);
}

/* 0; -EAGAIN: somebody has a lock that is in the way; another negative errno. */
static int blk_try_lock(int fd, bool is_readonly)
{
	struct flock fl = { .l_type = is_readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_OFD_SETLK, &fl))
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

/* A file, and with it its lock, may outlive the last descriptor for a moment: workers of io_uring let go of it after they have told what
 * they did, and the kernel after it has told of the end of a process that was killed. */
static int blk_wait_for_kernel(int fd, bool is_readonly)
{
	int r = -EAGAIN;

	for (unsigned i = 0; r == -EAGAIN && i < LOCK_TRIES; i++) {
		usleep(LOCK_WAIT_US);
		r = blk_try_lock(fd, is_readonly);
	}
	return r;
}

int blk_lock(int fd, const char *name, bool is_readonly, struct err *err)
{
	struct stat st;
	char who[32] = "";
	int owner = 0, r = blk_try_lock(fd, is_readonly);

	if (r == -EAGAIN) {
		owner = fstat(fd, &st) < 0 ? 0 : blk_lock_owner(&st);
		r = owner ? r : blk_wait_for_kernel(fd, is_readonly);
	}
	if (!r)
		return 0;
	if (r != -EAGAIN)
		return err_set(err, r, "cannot lock '%s': %s", name, strerror(-r));
	if (owner == pid_of_self())
		return err_set(err, -EBUSY, "'%s' is open twice in this virtual machine; give each disk "
			       "its own image", name);
	if (owner)
		snprintf(who, sizeof(who), " (pid %d)", owner);
	return err_set(err, -EBUSY, "'%s' is in use by another process%s; stop it, or use a copy", name, who);
}

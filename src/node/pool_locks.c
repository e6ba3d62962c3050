/* SPDX-License-Identifier: Apache-2.0 */
/* pool_locks.c - do locks hold on the file system of a pool? A disk that two machines write is lost. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "node/pool_dir.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

#define LOCK_NAME ".viv-pool.lock"

static int refuse(const char *kind, int error, struct err *err)
{
	if (error)
		return err_set(err, -ENOLCK, "the file system has no locks (%s: %s); without them two machines could write one disk; mount it "
			       "with locking", kind, strerror(error));
	return err_set(err, -ENOLCK, "locks do not hold on the file system (%s: two had one); without them two machines could write one "
		       "disk; mount it with locking", kind);
}

/* A lock that is A's is none for B. */
static int try_record(int a, int b, int set, const char *kind, struct err *err)
{
	struct flock mine = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 }, theirs = mine;

	if (fcntl(a, F_OFD_SETLK, &mine) < 0)
		return refuse(kind, errno, err);
	if (fcntl(b, set, &theirs) == 0)
		return refuse(kind, 0, err);
	if (errno != EAGAIN && errno != EACCES)
		return refuse(kind, errno, err);
	mine.l_type = F_UNLCK;
	return fcntl(a, F_OFD_SETLK, &mine) < 0 ? refuse(kind, errno, err) : 0;
}

static int try_whole(int a, int b, struct err *err)
{
	if (flock(a, LOCK_EX | LOCK_NB) < 0)
		return refuse("flock", errno, err);
	if (flock(b, LOCK_EX | LOCK_NB) == 0)
		return refuse("flock", 0, err);
	return errno == EWOULDBLOCK ? 0 : refuse("flock", errno, err);
}

void pool_dir_lock_option(FILE *mountinfo, unsigned major, unsigned minor, char *option, size_t cap)
{
	static const char *const bad[] = { "nolock", "local_lock=all", "local_lock=flock", "local_lock=posix", "nobrl" };
	char line[4096];

	option[0] = 0;
	while (fgets(line, sizeof(line), mountinfo)) {
		unsigned ma, mi;
		char *rest = strstr(line, " - "), *save = NULL;

		if (sscanf(line, "%*d %*d %u:%u", &ma, &mi) != 2 || ma != major || mi != minor || !rest)
			continue;
		rest[strcspn(rest, "\n")] = 0;
		/* The options of the file system are the last word. */
		rest = strrchr(rest, ' ');
		for (char *o = strtok_r(rest, " ,", &save); o; o = strtok_r(NULL, " ,", &save))
			for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
				if (!strcmp(o, bad[i]))
					snprintf(option, cap, "%s", o);
	}
}

static int check_mount(int dir, struct err *err)
{
	struct stat st;
	char option[32] = "";
	FILE *f = fopen("/proc/self/mountinfo", "re");

	if (f && !fstat(dir, &st))
		pool_dir_lock_option(f, major(st.st_dev), minor(st.st_dev), option, sizeof(option));
	if (f)
		fclose(f);
	if (!option[0])
		return 0;
	return err_set(err, -ENOLCK, "it is mounted with '%s': locks are not told to other hosts, so two machines could write one disk; mount "
		       "it without that", option);
}

int pool_dir_try_locks(int dir, struct err *err)
{
	int r = check_mount(dir, err);

	if (r < 0)
		return r;
	AUTO_FD int a = openat(dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	AUTO_FD int b = openat(dir, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (a < 0 || b < 0)
		return err_set(err, -errno, "cannot make a file in it: %s", strerror(errno));
	r = try_record(a, b, F_OFD_SETLK, "locks of open files", err);
	if (!r)
		r = try_record(a, b, F_SETLK, "record locks", err);
	if (!r)
		r = try_whole(a, b, err);
	(void)unlinkat(dir, LOCK_NAME, 0);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* faults.c - a host that is not well, for a program that it is loaded into (LD_PRELOAD): a disk that holds changes up or refuses them, a
 * clock that jumps, processes and descriptors that are not to be had.
 *
 * $VIV_FAULTS is a file of struct faults, which the test changes while the program runs; only the program called vivd looks at it, not
 * what it starts. The disk is what lies below $VIV_FAULTS_UNDER. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* unwell.py knows this layout. */
struct faults {
	int64_t clock_s;                /* added to the time of day */
	uint32_t holds_syncs;           /* fsync and fdatasync of the disk wait while this is not 0 */
	uint32_t holds_writes;          /* and so does all that changes it */
	int32_t sync_error, write_error, fork_error;    /* errno; 0: none */
	uint32_t waiting;               /* calls that wait */
	uint32_t is_watching;           /* what the main thread does to the disk is noted: */
	uint32_t seen;                  /* how often, */
	char what[256];                 /* and what it did first */
	uint32_t kills_at;              /* before the so many-th change of the disk from now on the program is killed; 0: it is not */
};

static struct faults *faults;
static char under[256];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("VIV_FAULTS"), *disk = getenv("VIV_FAULTS_UNDER");

	if (!path || !disk || strcmp(program_invocation_short_name, "vivd") != 0)
		return;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC);
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*faults), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (fd >= 0)
		syscall(SYS_close, fd);
	snprintf(under, sizeof(under), "%s/", disk);
	faults = at == MAP_FAILED ? NULL : at;
}

static int path_is_on_disk(const char *path)
{
	return faults && path && !strncmp(path, under, strlen(under));
}

static int fd_is_on_disk(int fd, char path[256])
{
	char link[64];

	if (!faults)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, 255);
	path[n > 0 ? n : 0] = 0;
	return path_is_on_disk(path);
}

/* What is done to the disk now: WHAT, to PATH. 0, or -1 with errno. */
static int change(const char *what, const char *path, const uint32_t *held, const int32_t *error)
{
	int is_main = getpid() == (int)syscall(SYS_gettid);

	if (__atomic_load_n(&faults->kills_at, __ATOMIC_SEQ_CST) && !__atomic_sub_fetch(&faults->kills_at, 1, __ATOMIC_SEQ_CST))
		kill(getpid(), SIGKILL);
	if (faults->is_watching && is_main && !__atomic_fetch_add(&faults->seen, 1, __ATOMIC_SEQ_CST))
		snprintf(faults->what, sizeof(faults->what), "%s(%s)", what, path);
	if (__atomic_load_n(held, __ATOMIC_SEQ_CST)) {
		__atomic_fetch_add(&faults->waiting, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(held, __ATOMIC_SEQ_CST))
			usleep(2000);
		__atomic_fetch_sub(&faults->waiting, 1, __ATOMIC_SEQ_CST);
	}
	if (*error)
		errno = *error;
	return *error ? -1 : 0;
}

static int change_path(const char *what, const char *path)
{
	return path_is_on_disk(path) ? change(what, path, &faults->holds_writes, &faults->write_error) : 0;
}

static int change_fd(const char *what, int fd)
{
	char path[256];

	return fd_is_on_disk(fd, path) ? change(what, path, &faults->holds_writes, &faults->write_error) : 0;
}

static int sync_fd(const char *what, int fd)
{
	char path[256];

	return fd_is_on_disk(fd, path) ? change(what, path, &faults->holds_syncs, &faults->sync_error) : 0;
}

/* --- the disk ---------------------------------------------------- */

int fsync(int fd) { return sync_fd("fsync", fd) < 0 ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return sync_fd("fdatasync", fd) < 0 ? -1 : REAL(fdatasync)(fd); }

#define OPEN(name)                                                                              \
	int name(const char *path, int flags, ...)                                              \
	{                                                                                       \
		va_list ap;                                                                     \
		va_start(ap, flags);                                                            \
		mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;         \
		va_end(ap);                                                                     \
		int changes = (flags & O_TRUNC) || ((flags & O_CREAT) && access(path, F_OK) < 0); \
		return changes && change_path(#name, path) < 0 ? -1 : REAL(name)(path, flags, mode); \
	}
OPEN(open)
OPEN(open64)

int mkdir(const char *path, mode_t mode) { return change_path("mkdir", path) < 0 ? -1 : REAL(mkdir)(path, mode); }
int remove(const char *path) { return change_path("remove", path) < 0 ? -1 : REAL(remove)(path); }
int rmdir(const char *path) { return change_path("rmdir", path) < 0 ? -1 : REAL(rmdir)(path); }
int unlink(const char *path) { return change_path("unlink", path) < 0 ? -1 : REAL(unlink)(path); }
int rename(const char *from, const char *to) { return change_path("rename", to) < 0 ? -1 : REAL(rename)(from, to); }
int link(const char *from, const char *to) { return change_path("link", to) < 0 ? -1 : REAL(link)(from, to); }
int chmod(const char *path, mode_t mode) { return change_path("chmod", path) < 0 ? -1 : REAL(chmod)(path, mode); }
int ftruncate64(int fd, off64_t len) { return change_fd("ftruncate", fd) < 0 ? -1 : REAL(ftruncate64)(fd, len); }
ssize_t write(int fd, const void *data, size_t len) { return change_fd("write", fd) < 0 ? -1 : REAL(write)(fd, data, len); }
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
	return change_fd("pwrite", fd) < 0 ? -1 : REAL(pwrite64)(fd, data, len, at);
}

/* --- the clock ---------------------------------------------------- */

int clock_gettime(clockid_t clock, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, clock, t);

	if (!r && faults && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += faults->clock_s;
	return r;
}

time_t time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*out = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}

/* --- processes ---------------------------------------------------- */

pid_t fork(void)
{
	if (faults && faults->fork_error) {
		errno = faults->fork_error;
		return -1;
	}
	return REAL(fork)();
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock (Linux Documentation/userspace-api/landlock.rst), namespaces, the user; jail_filter.c has the filter. */
#include "vm/jail.h"

#include <errno.h>
#include <grp.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"

enum { UID_NOBODY = 65534, GID_NOBODY = 65534 };

/* Newer than the headers of Debian 12; the kernel is asked for its version before they are used. */
struct jail_ruleset {
	uint64_t fs;
	uint64_t net;                   /* version 4 */
	uint64_t scoped;                /* version 6 */
};
enum {
	NET_BIND_TCP = 1 << 0, NET_CONNECT_TCP = 1 << 1,
	SCOPE_ABSTRACT_UNIX = 1 << 0, SCOPE_SIGNAL = 1 << 1,
};

/* Rights of the file system that each version of Landlock can take away, as the number of bits. */
static const uint8_t fs_bits[] = { 0, 13, 14, 15, 15, 16 };

/* Take away all that this kernel's Landlock knows, and allow nothing again. */
static int jail_landlock(struct err *err)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t known = sizeof(fs_bits) - 1, size = version >= 6 ? 24 : version >= 4 ? 16 : 8;

	if (version < 1) {
		log_info("jail: this kernel has no Landlock; the system-call filter is there all the same");
		return 0;
	}
	struct jail_ruleset set = {
		.fs = (1ull << fs_bits[(size_t)version < known ? (size_t)version : known]) - 1,
		.net = version >= 4 ? NET_BIND_TCP | NET_CONNECT_TCP : 0,
		.scoped = version >= 6 ? SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL : 0,
	};
	AUTO_FD int fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return err_set(err, -errno, "jail: Landlock fails: %s; '--jail off' does without a jail", strerror(errno));
	return 0;
}

/* A namespace that cannot be had (inside a container, for one) is one wall less; the others stand. */
static void jail_unshare(int flag, const char *what)
{
	if (unshare(flag) < 0)
		log_info("jail: no %s of its own: %s", what, strerror(errno));
}

static int jail_drop_root(struct err *err)
{
	jail_unshare(CLONE_NEWNET, "network");
	jail_unshare(CLONE_NEWIPC, "IPC namespace");
	jail_unshare(CLONE_NEWNS, "mounts");
	jail_unshare(CLONE_NEWUTS, "host name");
	jail_unshare(CLONE_NEWCGROUP, "view of control groups");
	if (setgroups(0, NULL) < 0 || setresgid(GID_NOBODY, GID_NOBODY, GID_NOBODY) < 0 ||
	    setresuid(UID_NOBODY, UID_NOBODY, UID_NOBODY) < 0)
		return err_set(err, -errno, "jail: cannot become the user 'nobody': %s; '--jail off' does without a jail",
			       strerror(errno));
	return 0;
}

int jail_enter(struct err *err)
{
	int r = geteuid() ? 0 : jail_drop_root(err);

	if (r < 0)
		return r;
	/* Nothing here is to be kept from being swapped; what io_uring has of it was counted when it was made. */
	if (setrlimit(RLIMIT_MEMLOCK, &(struct rlimit){ 0, 0 }) < 0)
		return err_set(err, -errno, "jail: cannot give up locked memory: %s", strerror(errno));
	/* No core of guest memory, and no debugger of the same user. */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, -errno, "jail: cannot give up privileges: %s", strerror(errno));
	return jail_landlock(err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock (Linux Documentation/userspace-api/landlock.rst), namespaces, the user; jail_filter.c has the filter. */
#include "vm/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"
#include "util/log.h"
#include "util/pid.h"

enum { UID_NOBODY = 65534, GID_NOBODY = 65534, THREAD_TRIES = 50, THREAD_WAIT_US = 100 };

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

/* What may be done all the same: removing files, or folders, in the folders FD; sending signals. */
struct jail_allowed {
	struct jail_place {
		int fd;
		uint64_t access;
	} at[JAIL_REMOVABLE_MAX];
	unsigned n;
	bool may_signal;
};

static int jail_allow_removing(int ruleset, const struct jail_allowed *in)
{
	for (unsigned i = 0; i < in->n; i++) {
		struct landlock_path_beneath_attr rule = { .allowed_access = in->at[i].access, .parent_fd = in->at[i].fd };

		if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
			return -errno;
	}
	return 0;
}

/* Take away all that this kernel's Landlock knows, but what is ALLOWED. */
static int jail_landlock(const struct jail_allowed *allowed, struct err *err)
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
		.scoped = version >= 6 ? SCOPE_ABSTRACT_UNIX | (allowed->may_signal ? 0 : SCOPE_SIGNAL) : 0,
	};
	AUTO_FD int fd = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
	int r = fd < 0 ? -errno : jail_allow_removing(fd, allowed);

	if (!r && syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		r = -errno;
	return r < 0 ? err_set(err, r, "jail: Landlock fails: %s; '--jail off' does without a jail", strerror(-r)) : 0;
}

/* A namespace that cannot be had (inside a container, for one) is one wall less; the others stand. */
static bool jail_unshare(int flag, const char *what)
{
	if (!unshare(flag))
		return true;
	log_info("jail: no %s of its own: %s", what, strerror(errno));
	return false;
}

/* Who is who in the user namespace: root, so that its clients are known as such, and nobody. All others are nobody there. */
static const char id_map[] = "0 0 1\n65534 65534 1\n";

/* PID: as /proc has it. */
static int jail_open_of(pid_t pid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return open(path, flags | O_CLOEXEC);
}

/* Only from outside can a map name others than oneself. */
static int jail_write_map(pid_t whose, const char *name)
{
	AUTO_FD int fd = jail_open_of(whose, name, O_WRONLY);

	return fd < 0 || write(fd, id_map, strlen(id_map)) < 0 ? -errno : 0;
}

/* The user namespace of the process WHOSE, with maps: without any, nobody there would be anybody. */
static int jail_map_users(pid_t whose)
{
	int r = jail_write_map(whose, "gid_map");

	if (!r)
		r = jail_write_map(whose, "uid_map");
	if (r < 0)
		return r;
	int fd = jail_open_of(whose, "ns/user", O_RDONLY);
	return fd < 0 ? -errno : fd;
}

/* The process that makes the namespace: it says when (its number) and why not (-errno), and goes when the other end of SOCK does. */
__attribute__((noreturn)) static void jail_make_users(int sock)
{
	int r = unshare(CLONE_NEWUSER) < 0 ? -errno : (int)pid_of_self();

	if (send(sock, &r, sizeof(r), MSG_NOSIGNAL) == sizeof(r))
		(void)recv(sock, &r, sizeof(r), 0);
	_exit(0);
}

/* A user namespace, as a descriptor; -1 (and said): it cannot be had. */
static int jail_new_users(void)
{
	int sv[2], r = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0) {
		log_info("jail: no users of its own: %s", strerror(errno));
		return -1;
	}
	pid_t maker = fork();
	if (!maker) {
		close(sv[0]);
		jail_make_users(sv[1]);
	}
	close(sv[1]);
	if (maker < 0)
		r = -errno;
	else if (recv(sv[0], &r, sizeof(r), MSG_WAITALL) != sizeof(r))
		r = -EIO;
	else
		r = r < 0 ? r : jail_map_users((pid_t)r);
	close(sv[0]);
	while (maker > 0 && waitpid(maker, NULL, 0) < 0 && errno == EINTR)
		continue;
	if (r < 0)
		log_info("jail: no users of its own: %s", strerror(-r));
	return r < 0 ? -1 : r;
}

/* In mounts of its own: nothing is at any path from now on, but what is open stays open. So what looks a path up without opening it,
 * which Landlock does not judge, finds nothing. */
static void jail_leave_paths(void)
{
	static const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

	/* MS_SLAVE: what is done here must not get to the host. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
	    mount("viv-jail", "/proc", "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0 || chdir("/proc") < 0 ||
	    syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		log_info("jail: no root folder of its own: %s", strerror(errno));
}

/* Only a process with one thread may; one that has been joined may still be on its way out of the kernel. */
static int jail_join_users(int users)
{
	int r = setns(users, CLONE_NEWUSER);

	for (unsigned i = 0; r < 0 && errno == EINVAL && i < THREAD_TRIES; i++) {
		usleep(THREAD_WAIT_US);
		r = setns(users, CLONE_NEWUSER);
	}
	return r;
}

static int jail_drop_root(struct err *err)
{
	jail_unshare(CLONE_NEWNET, "network");
	jail_unshare(CLONE_NEWIPC, "IPC namespace");
	AUTO_FD int users = jail_new_users();           /* by way of /proc */
	if (jail_unshare(CLONE_NEWNS, "mounts"))
		jail_leave_paths();
	jail_unshare(CLONE_NEWUTS, "host name");
	jail_unshare(CLONE_NEWCGROUP, "view of control groups");
	/* The last: the others belong to the host's users, so that nobody in here can ever be root of them. */
	if (users >= 0 && jail_join_users(users) < 0)
		log_info("jail: no users of its own: %s", strerror(errno));
	if (setgroups(0, NULL) < 0 || setresgid(GID_NOBODY, GID_NOBODY, GID_NOBODY) < 0 ||
	    setresuid(UID_NOBODY, UID_NOBODY, UID_NOBODY) < 0)
		return err_set(err, -errno, "jail: cannot become the user 'nobody': %s; '--jail off' does without a jail",
			       strerror(errno));
	return 0;
}

/* No core of guest memory, and no debugger of the same user. */
static int jail_give_up_privileges(struct err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return err_set(err, -errno, "jail: cannot give up privileges: %s", strerror(errno));
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
	r = jail_give_up_privileges(err);
	return r ? r : jail_landlock(&(struct jail_allowed){ .n = 0 }, err);
}

/* --- who only removes --- */

/* The folder of PATH; -1: there is none. */
static int jail_open_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	AUTO(free) char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

	return folder ? open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* Root stays the host's root, in namespaces of its own and with the capabilities KEEP. */
static int jail_keep_root(uint32_t keep, struct err *err)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2] = { { .effective = keep, .permitted = keep } };

	if (geteuid())
		return 0;
	jail_unshare(CLONE_NEWNET, "network");
	jail_unshare(CLONE_NEWIPC, "IPC namespace");
	jail_unshare(CLONE_NEWUTS, "host name");
	return syscall(SYS_capset, &h, d) < 0 ? err_set(err, -errno, "jail: cannot give up capabilities: %s", strerror(errno)) : 0;
}

static void jail_allow(struct jail_allowed *a, const char *const *path, unsigned n, uint64_t access)
{
	for (unsigned i = 0; i < n && a->n < JAIL_REMOVABLE_MAX; i++) {
		a->at[a->n] = (struct jail_place){ jail_open_folder(path[i]), access };
		a->n += a->at[a->n].fd >= 0;
	}
}

int jail_enter_remover(const struct jail_removable *what, struct err *err)
{
	struct jail_allowed in = { .n = 0 };

	jail_allow(&in, what->file, what->n_files, LANDLOCK_ACCESS_FS_REMOVE_FILE);
	jail_allow(&in, what->folder, what->n_folders, LANDLOCK_ACCESS_FS_REMOVE_DIR);
	/* What removing takes in folders of other users. */
	int r = jail_keep_root(1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER, err);
	if (!r)
		r = jail_give_up_privileges(err);
	if (!r)
		r = jail_landlock(&in, err);
	while (in.n)
		close(in.at[--in.n].fd);
	return r ? r : jail_filter_remover(err);
}

/* --- who waits in front --- */

int jail_enter_front(int fd, struct err *err)
{
	int r = jail_keep_root(1u << CAP_KILL, err);

	if (!r)
		r = jail_give_up_privileges(err);
	if (!r)
		r = jail_landlock(&(struct jail_allowed){ .may_signal = true }, err);
	return r ? r : jail_filter_front(fd, err);
}

/* --- who starts passt --- */

void jail_enter_keeper(void)
{
	struct err err = ERR_INIT;

	if (!geteuid()) {
		jail_unshare(CLONE_NEWIPC, "IPC namespace");
		jail_unshare(CLONE_NEWUTS, "host name");
	}
	int r = jail_give_up_privileges(&err);
	if (!r)
		r = jail_filter_keeper(&err);
	if (r < 0)
		log_warn("%s", err.msg);
}

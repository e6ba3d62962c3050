/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that has taken over the process: what it tries from a processor's thread and from the loop's, inside
 * the jail of a whole machine, is refused; and the machine works all the same. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "util/err.h"
#include "util/loop.h"
#include "vm/jail.h"
#include "vm/machine_priv.h"
#include "vm/migrate_link.h"

/* Each gives 0 when it was refused, or what it got. */

static long try_open_read(void) { return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY) + 1; }
static long try_open_old(void) { return syscall(SYS_open, "/etc/passwd", O_RDONLY) + 1; }
static long try_create(void) { return syscall(SYS_openat, AT_FDCWD, "/tmp/viv-jail-broken", O_CREAT | O_RDWR, 0600) + 1; }
static long try_open_parent(void) { return syscall(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR) + 1; }
static long try_socket(void) { return socket(AF_INET, SOCK_STREAM, 0) + 1; }
static long try_unix(void) { return socket(AF_UNIX, SOCK_STREAM, 0) + 1; }
static long try_pair(void) { int sv[2]; return socketpair(AF_UNIX, SOCK_STREAM, 0, sv) + 1; }
static long try_kill_parent(void) { return kill(getppid(), 0) + 1; }
static long try_kill_all(void) { return kill(-1, 0) + 1; }
static long try_tgkill(void) { return syscall(SYS_tgkill, getppid(), getppid(), 0) + 1; }
static long try_exec(void) { return syscall(SYS_execve, "/bin/true", (char *[]){ NULL }, (char *[]){ NULL }) + 1; }
static long try_ptrace(void) { return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) + 1; }
static long try_vm_read(void) { return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) + 1; }
static long try_unlink(void) { return unlink("/tmp/viv-jail-nothing") + 1 || errno != EPERM; }
static long try_chmod(void) { return chmod("/tmp", 0777) + 1; }
static long try_mount(void) { return syscall(SYS_mount, "none", "/tmp", "tmpfs", 0, NULL) + 1; }
static long try_setuid(void) { return syscall(SYS_setuid, 0) + 1; }
static long try_unshare(void) { return unshare(CLONE_NEWUSER) + 1; }
static long try_memfd(void) { return memfd_create("code", 0) + 1; }
static long try_keyctl(void) { return syscall(SYS_keyctl, 0, 0, 0, 0, 0) + 1; }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0) + 1; }
static long try_own_signals(void) { return fcntl(0, F_SETOWN, getppid()) + 1 || errno != EPERM; }
static long try_choose_signal(void) { return fcntl(0, F_SETSIG, SIGKILL) + 1 || errno != EPERM; }

static long try_own_signals_ex(void)
{
	return fcntl(0, F_SETOWN_EX, &(struct f_owner_ex){ F_OWNER_PID, getppid() }) + 1 || errno != EPERM;
}

static long try_fork(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (!pid)
		_exit(0);
	return pid + 1;
}

static long try_fork3(void)
{
	uint64_t args[11] = { 0, 0, 0, 0, SIGCHLD };
	long pid = syscall(SYS_clone3, args, sizeof(args));

	if (!pid)
		_exit(0);
	return pid + 1;
}

static long try_uring(void)
{
	struct io_uring_params p = { .flags = 0 };

	return syscall(SYS_io_uring_setup, 4, &p) + 1;
}

static long try_exec_memory(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static long try_make_executable(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p != MAP_FAILED && mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
}

static long try_new_privileges(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) + 1;
}

static const struct {
	const char *name;
	long (*try)(void);
} attacks[] = {
	{ "open a file", try_open_read }, { "open a file, the old way", try_open_old }, { "make a file", try_create },
	{ "open its own memory", try_open_parent }, { "make an internet socket", try_socket },
	{ "make a Unix socket", try_unix }, { "make a pair of sockets", try_pair }, { "signal its parent", try_kill_parent },
	{ "signal everybody", try_kill_all }, { "signal a thread of another process", try_tgkill }, { "start a program", try_exec },
	{ "trace its parent", try_ptrace }, { "read another process", try_vm_read }, { "remove a file", try_unlink },
	{ "change a folder", try_chmod }, { "mount", try_mount }, { "become root", try_setuid },
	{ "make a user namespace", try_unshare }, { "make a memory file", try_memfd }, { "look at keys", try_keyctl },
	{ "load a program into the kernel", try_bpf }, { "have a descriptor's signals sent to its parent", try_own_signals },
	{ "the same, the new way", try_own_signals_ex }, { "choose that signal", try_choose_signal },
	{ "fork", try_fork }, { "fork, the new way", try_fork3 }, { "make an io_uring", try_uring }, { "map executable memory", try_exec_memory },
	{ "make memory executable", try_make_executable }, { "become dumpable", try_new_privileges },
};
enum { N_ATTACKS = sizeof(attacks) / sizeof(attacks[0]) };

/* The names of those that succeeded. */
static void attack(char *got, size_t cap)
{
	for (size_t i = 0; i < N_ATTACKS; i++) {
		if (attacks[i].try())
			snprintf(got + strlen(got), cap - strlen(got), "'%s' ", attacks[i].name);
	}
}

static struct {
	char by_vcpu[1024], by_loop[1024];
	_Atomic bool is_done;
	bool may_read_disk;             /* what only the loop may do */
} seen;

/* A leak checker cannot look around in a jail: the case has passed. */
static void leave(void)
{
	fflush(NULL);
	_exit(0);
}

/* In the place of a device's bug: the guest's write to the debug port runs this on its processor's thread. */
static void hijacked(void *arg, const uint8_t *buf, size_t len)
{
	char byte;

	(void)arg, (void)buf, (void)len;
	if (atomic_load(&seen.is_done))
		return;
	attack(seen.by_vcpu, sizeof(seen.by_vcpu));
	seen.may_read_disk = pread(0, &byte, 1, 0) >= 0 || errno != EPERM;
	atomic_store(&seen.is_done, true);
}

static bool is_seen(void *arg)
{
	(void)arg;
	return atomic_load(&seen.is_done);
}

static void run_jailed(struct hlt_machine *h)
{
	struct err e = ERR_INIT;

	hlt_machine_init(h);
	h->cfg.has_jail = true;
	hlt_machine_build(h);
	h->m->debugport.write = hijacked;
	if (jail_filter(&e) < 0)
		FAIL("%s", e.msg);
	machine_start(h->m);
	hlt_machine_run_until(h, is_seen, NULL);
}

TEST(without_a_jail_what_an_ordinary_process_may_do_succeeds)
{
	CHECK(try_open_read() > 0 && try_create() > 0 && try_unix() > 0 && try_pair() > 0 && try_kill_parent() > 0);
	CHECK(try_memfd() > 0 && try_exec_memory() && try_make_executable() && try_fork() > 0);
	unlink("/tmp/viv-jail-broken");
}

TEST(a_guest_that_has_taken_over_a_processors_thread_gets_nowhere)
{
	struct hlt_machine h;

	run_jailed(&h);
	CHECK_STR(seen.by_vcpu, "");
	CHECK(!seen.may_read_disk);     /* disks are the loop's business */
	CHECK_EQ(machine_get_state(h.m), MACHINE_RUNNING);
	leave();
}

TEST(a_guest_that_has_taken_over_the_loops_thread_gets_nowhere)
{
	struct hlt_machine h;

	run_jailed(&h);
	attack(seen.by_loop, sizeof(seen.by_loop));
	CHECK_STR(seen.by_loop, "");
	leave();
}

TEST(a_peer_of_the_same_user_is_known_in_the_jail)
{
	struct migrate_link link = { .fd = -1 };
	struct hlt_machine h;
	uid_t user = geteuid();
	int sv[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	run_jailed(&h);
	link.fd = sv[0];
	CHECK_EQ(h.m->user, user);
	CHECK(migrate_peer_is_own(&link, h.m->user));
	CHECK_EQ(migrate_peer_is_own(&link, h.m->user + 1), user == 0);
	leave();
}

TEST(an_image_that_is_looked_at_in_the_jail_keeps_its_time)
{
	struct timespec then[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 12345 } };
	char path[] = "/tmp/viv-jail-XXXXXX";
	int fd = mkstemp(path);
	struct hlt_machine h;
	struct stat st;

	CHECK(fd >= 0 && unlink(path) == 0);
	CHECK(geteuid() || fchown(fd, 65534, 65534) == 0);      /* only its owner may set a file's time */
	run_jailed(&h);
	CHECK_EQ(futimens(fd, then), 0);
	CHECK(fstat(fd, &st) == 0 && st.st_mtime == 12345);
	CHECK(utimensat(AT_FDCWD, "/tmp", then, 0) < 0 && errno == EPERM);
	leave();
}

static void *other_thread(void *arg)
{
	attack(seen.by_loop, sizeof(seen.by_loop));
	return arg;
}

TEST(threads_that_were_there_before_or_come_later_are_in_the_jail_too)
{
	struct hlt_machine h;
	pthread_t t;

	run_jailed(&h);
	CHECK_EQ(pthread_create(&t, NULL, other_thread, NULL), 0);
	pthread_join(t, NULL);
	CHECK_STR(seen.by_loop, "");
	leave();
}

/* Without the filter: what Landlock alone holds, which io_uring cannot go around either. */
TEST(landlock_alone_keeps_files_shut)
{
	struct err e = ERR_INIT;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 1)
		SKIP("this kernel has no Landlock");
	/* From folders that are open: run by root it finds nothing by other paths. */
	int etc = open("/etc", O_PATH), tmp = open("/tmp", O_PATH), bin = open("/bin", O_PATH);
	char *argv[] = { "true", NULL };

	CHECK(etc >= 0 && tmp >= 0 && bin >= 0);
	CHECK_EQ(jail_enter(&e), 0);
	CHECK(openat(etc, "passwd", O_RDONLY) < 0 && errno == EACCES);
	CHECK(openat(tmp, "viv-jail-broken", O_CREAT | O_RDWR, 0600) < 0 && errno == EACCES);
	CHECK(execveat(bin, "true", argv, argv, 0) < 0 && errno == EACCES);
	leave();
}

/* The number of this process's namespace of kind NAME, as "net:[4026531840]". */
static void namespace_of(const char *name, char text[64])
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	ssize_t n = readlink(path, text, 63);
	CHECK(n > 0);
	text[n] = '\0';
}

TEST(root_leaves_the_namespaces_of_its_host_and_may_lock_no_memory)
{
	static const char *const names[] = { "net", "ipc", "mnt", "uts", "cgroup", "user" };
	enum { N = 6 };
	char before[N][64], after[64];
	struct err e = ERR_INIT;
	struct rlimit l;
	int status;

	if (geteuid())
		SKIP("only root can make namespaces");
	for (int i = 0; i < N; i++)
		namespace_of(names[i], before[i]);
	/* Landlock shuts /proc after that: a child that has only unshared is looked at from here. */
	int done[2], go[2];
	CHECK_EQ(pipe(done) | pipe(go), 0);
	pid_t pid = fork();
	if (!pid) {
		char byte = jail_enter(&e) == 0 && !getrlimit(RLIMIT_MEMLOCK, &l) && !l.rlim_cur && !l.rlim_max;

		_exit(write(done[1], &byte, 1) != 1 || read(go[0], &byte, 1) < 0);
	}
	char byte = 0;
	CHECK(read(done[0], &byte, 1) == 1 && byte);
	for (int i = 0; i < N; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, names[i]);
		ssize_t n = readlink(path, after, sizeof(after) - 1);
		CHECK(n > 0);
		after[n] = '\0';
		CHECK(strcmp(before[i], after));
	}
	CHECK_EQ(write(go[1], "", 1), 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status));
}

static uid_t user_of_peer(int fd)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	CHECK_EQ(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len), 0);
	return peer.uid;
}

/* A connection of user UID, who has gone. */
static int connection_of(uid_t uid, struct sockaddr_un *sa)
{
	int listener = socket(AF_UNIX, SOCK_STREAM, 0), status;
	socklen_t len = sizeof(sa->sun_family);

	CHECK_EQ(bind(listener, (struct sockaddr *)sa, len) | listen(listener, 1), 0);   /* the kernel finds an abstract name */
	len = sizeof(*sa);
	CHECK_EQ(getsockname(listener, (struct sockaddr *)sa, &len), 0);
	pid_t pid = fork();
	if (!pid) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);

		_exit(setresuid(uid, uid, uid) < 0 || connect(fd, (struct sockaddr *)sa, len) < 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && !status);
	int fd = accept(listener, NULL, NULL);
	close(listener);
	return fd;
}

TEST(in_the_jail_of_root_clients_of_root_are_known_and_others_are_nobody)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX }, b = a;
	struct err e = ERR_INIT;

	if (geteuid())
		SKIP("only root can make namespaces");
	int root = connection_of(0, &a), other = connection_of(1234, &b);
	CHECK_EQ(user_of_peer(other), 1234);
	CHECK_EQ(jail_enter(&e), 0);
	CHECK_EQ(user_of_peer(root), 0);
	CHECK_EQ(user_of_peer(other), 65534);
	CHECK(setresuid(1234, 1234, 1234) < 0);
	leave();
}

TEST(nothing_is_at_any_path_in_the_jail_of_root_and_what_is_open_stays_open)
{
	char path[] = "/tmp/viv-jail-XXXXXX", byte = 'x';
	int fd = mkstemp(path);
	struct err e = ERR_INIT;
	struct stat st;

	if (geteuid())
		SKIP("only root can make namespaces");
	CHECK(fd >= 0 && unlink(path) == 0 && stat("/etc/passwd", &st) == 0);
	CHECK_EQ(jail_enter(&e), 0);
	CHECK(stat("/etc/passwd", &st) < 0 && errno == ENOENT);
	CHECK(stat("/proc/self", &st) < 0 && errno == ENOENT);
	CHECK(stat("../../tmp", &st) < 0 && errno == ENOENT);
	CHECK_EQ(stat("/..", &st), 0);
	CHECK_EQ(st.st_nlink, 2);               /* an empty folder */
	CHECK(pwrite(fd, &byte, 1, 0) == 1 && fstat(fd, &st) == 0 && st.st_size == 1);
	leave();
}

TEST(who_only_removes_files_removes_those_in_its_folders_and_nothing_else)
{
	char ours[] = "/tmp/viv-jail-XXXXXX", theirs[] = "/tmp/viv-jail-XXXXXX", file[64], other[64], group[64], inner[80], got[1024] = "";
	const char *const paths[] = { file, "/nowhere/at/all", "/also-nowhere/x" }, *const folders[] = { inner };
	const struct jail_removable what = { .file = paths, .n_files = 2, .folder = folders, .n_folders = 1 };
	struct err e = ERR_INIT;
	struct stat st;

	CHECK(mkdtemp(ours) && mkdtemp(theirs));
	snprintf(file, sizeof(file), "%s/socket", ours);
	snprintf(other, sizeof(other), "%s/socket", theirs);
	snprintf(group, sizeof(group), "%s/groups", ours);
	snprintf(inner, sizeof(inner), "%s/inner", group);
	CHECK(close(creat(file, 0600)) == 0 && close(creat(other, 0600)) == 0);
	CHECK(mkdir(group, 0700) == 0 && mkdir(inner, 0700) == 0);
	pid_t pid = fork();
	if (!pid) {
		int spare = dup(STDERR_FILENO);
		bool is_fine = jail_enter_remover(&what, &e) == 0;

		is_fine &= lstat(file, &st) == 0 && unlink(file) == 0 && lstat(file, &st) < 0 && errno == ENOENT;
		is_fine &= unlink(other) < 0 && errno == EACCES;
		is_fine &= rmdir(theirs) < 0 && errno == EACCES && rmdir(group) < 0 && errno == EACCES;
		is_fine &= rmdir(inner) == 0;
		is_fine &= write(spare, "", 1) < 0 && errno == EPERM;
		attack(got, sizeof(got));
		_exit(!is_fine || strcmp(got, "'remove a file' ") != 0);        /* which is not there: not refused */
	}
	int status = -1;
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(status, 0);
	CHECK(lstat(file, &st) < 0 && lstat(other, &st) == 0);
	CHECK(unlink(other) == 0 && rmdir(group) == 0 && rmdir(ours) == 0 && rmdir(theirs) == 0);
}

TEST(root_becomes_nobody_in_a_network_of_its_own)
{
	struct err e = ERR_INIT;
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = 0x1600 };

	if (geteuid())
		SKIP("only root has something to drop");
	int listener = socket(AF_INET, SOCK_STREAM, 0), client = -1;
	socklen_t len = sizeof(sa);

	sa = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CHECK_EQ(bind(listener, (struct sockaddr *)&sa, sizeof(sa)) | listen(listener, 1), 0);
	CHECK_EQ(getsockname(listener, (struct sockaddr *)&sa, &len), 0);
	CHECK_EQ(jail_enter(&e), 0);
	CHECK_EQ(geteuid(), 65534);
	CHECK_EQ(getegid(), 65534);
	client = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(client < 0 || connect(client, (struct sockaddr *)&sa, sizeof(sa)) < 0);
	CHECK(setuid(0) < 0);
	leave();
}

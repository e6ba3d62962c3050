/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of pools: paths, markers, locks that do not hold, levels. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/files.h"
#include "node/pool_dir.h"
#include "util/cleanup.h"
#include "util/err.h"

#define UID_A "aaaaaaaaaaaaaaaa"
#define UID_B "bbbbbbbbbbbbbbbb"

static char dir[64], path[128];
static struct err err;

static const char *in_dir(const char *name)
{
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void begin(void)
{
	snprintf(dir, sizeof(dir), "/tmp/viv-pool-XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	err = (struct err)ERR_INIT;
}

static void end(void)
{
	CHECK_EQ(files_remove(dir, NULL), 0);
}

TEST(paths_are_plain)
{
	static const char *const bad[] = { "", "/", "a/b", "/a/", "/a//b", "/a/./b", "/a/..", "/.." };
	char longer[500];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(pool_dir_check_path(bad[i], NULL), -EINVAL);
	memset(longer, 'a', sizeof(longer) - 1);
	longer[0] = '/';
	longer[sizeof(longer) - 1] = 0;
	CHECK_EQ(pool_dir_check_path(longer, NULL), -EINVAL);
	CHECK_EQ(pool_dir_check_path("/a", NULL), 0);
	CHECK_EQ(pool_dir_check_path("/srv/..b/.c/d..", NULL), 0);
}

TEST(one_directory_is_in_another_by_whole_names)
{
	CHECK(pool_dir_overlap("/a/b", "/a"));
	CHECK(pool_dir_overlap("/a", "/a/b"));
	CHECK(pool_dir_overlap("/a", "/a"));
	CHECK(!pool_dir_overlap("/a/bc", "/a/b"));
	CHECK(!pool_dir_overlap("/a/b", "/c"));
}

TEST(a_directory_becomes_a_pool_and_none_again)
{
	struct pool_space space;

	begin();
	CHECK_EQ(pool_dir_open(dir, UID_A, &err), -ESTALE);
	CHECK(strstr(err.msg, "is it mounted?") != NULL);
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	CHECK_EQ(access(in_dir(".viv-pool.lock"), F_OK), -1);
	CHECK_EQ(pool_dir_make(dir, UID_B, "auto", &err), -EEXIST);
	CHECK_EQ(pool_dir_open(dir, UID_B, &err), -ESTALE);
	CHECK(strstr(err.msg, UID_A) != NULL);
	AUTO_FD int fd = pool_dir_open(dir, UID_A, &err);
	CHECK(fd >= 0);
	CHECK_EQ(pool_dir_space(fd, &space, &err), 0);
	CHECK(space.size >= space.used && space.free > 0);
	CHECK_EQ(mkdir(in_dir("volumes/x"), 0700), 0);
	CHECK_EQ(pool_dir_unmake(dir, UID_A, &err), -ENOTEMPTY);
	CHECK_EQ(rmdir(in_dir("volumes/x")), 0);
	CHECK_EQ(pool_dir_unmake(dir, UID_B, &err), 0);
	CHECK_EQ(access(in_dir(POOL_MARKER), F_OK), 0);
	CHECK_EQ(pool_dir_unmake(dir, UID_A, &err), 0);
	CHECK_EQ(access(in_dir(POOL_MARKER), F_OK), -1);
	CHECK_EQ(access(in_dir("volumes"), F_OK), -1);
	end();
}

TEST(what_was_cut_off_anywhere_is_made_whole)
{
	begin();
	CHECK_EQ(mkdir(in_dir("volumes"), 0700), 0);
	CHECK(open(in_dir(".viv-pool.new"), O_CREAT | O_CLOEXEC | O_WRONLY, 0600) >= 0);
	CHECK(open(in_dir(".viv-pool.lock"), O_CREAT | O_CLOEXEC | O_WRONLY, 0600) >= 0);
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	CHECK_EQ(unlink(in_dir(POOL_MARKER)), 0);
	CHECK_EQ(pool_dir_open(dir, UID_A, NULL), -ESTALE);
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	end();
}

TEST(what_leads_elsewhere_or_belongs_to_others_is_refused)
{
	char link[128];

	begin();
	snprintf(link, sizeof(link), "%s/link", dir);
	CHECK_EQ(mkdir(in_dir("real"), 0700), 0);
	CHECK_EQ(symlink("real", link), 0);
	CHECK_EQ(pool_dir_make(link, UID_A, "auto", &err), -EINVAL);
	CHECK(strstr(err.msg, "symbolic link") != NULL);
	CHECK_EQ(chmod(in_dir("real"), 0777), 0);
	CHECK_EQ(pool_dir_make(path, UID_A, "auto", &err), -EPERM);
	CHECK_EQ(chmod(path, 0700), 0);
	/* A directory in it that leads out. */
	snprintf(link, sizeof(link), "%s/real/volumes", dir);
	CHECK_EQ(symlink("..", link), 0);
	CHECK_EQ(pool_dir_make(in_dir("real"), UID_A, "auto", &err), -ELOOP);
	CHECK_EQ(unlink(link), 0);
	CHECK_EQ(mkdir(link, 0700), 0);
	CHECK_EQ(chmod(link, 0777), 0);
	CHECK_EQ(pool_dir_make(in_dir("real"), UID_A, "auto", &err), -EPERM);
	CHECK_EQ(pool_dir_make(in_dir("nothing"), UID_A, "auto", &err), -ENOENT);
	CHECK_EQ(access(in_dir("real/" POOL_MARKER), F_OK), -1);
	end();
}

TEST(a_marker_of_something_else_is_no_marker)
{
	begin();
	AUTO_FD int fd = open(in_dir(POOL_MARKER), O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
	CHECK_EQ(write(fd, "nonsense", 8), 8);
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), -EBADMSG);
	CHECK_EQ(pool_dir_open(dir, UID_A, &err), -ESTALE);
	end();
}

/* From now on the system call NR with the second argument ARG ends with ERROR (0: it says that it has worked). */
static void forbid(unsigned nr, unsigned arg, unsigned error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arg, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		_exit(2);
}

/* Where that call is like that: is the directory refused as one without locks, and left without a marker? */
static bool is_refused(unsigned nr, unsigned arg, unsigned error)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		forbid(nr, arg, error);
		_exit(pool_dir_make(dir, UID_A, "auto", NULL) == -ENOLCK && access(in_dir(POOL_MARKER), F_OK) < 0 ? 0 : 1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

TEST(file_systems_without_locks_are_refused)
{
	begin();
	CHECK(is_refused(SYS_fcntl, F_OFD_SETLK, ENOLCK));
	CHECK(is_refused(SYS_fcntl, F_OFD_SETLK, 0));
	CHECK(is_refused(SYS_fcntl, F_SETLK, EOPNOTSUPP));
	CHECK(is_refused(SYS_fcntl, F_SETLK, 0));
	CHECK(is_refused(SYS_flock, LOCK_EX | LOCK_NB, ENOLCK));
	CHECK(is_refused(SYS_flock, LOCK_EX | LOCK_NB, 0));
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	end();
}

static const char *option_of(const char *mountinfo, unsigned minor)
{
	static char option[32];
	FILE *f = fmemopen((char *)mountinfo, strlen(mountinfo), "r");

	pool_dir_lock_option(f, 0, minor, option, sizeof(option));
	fclose(f);
	return option;
}

TEST(mounts_that_keep_locks_from_other_hosts_are_known)
{
	static const char text[] =
		"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
		"40 22 0:41 / /mnt/a rw shared:2 - nfs4 s:/a rw,vers=4.2,local_lock=none,addr=10.0.0.1\n"
		"41 22 0:42 / /mnt/b rw - nfs s:/b rw,vers=3,nolock,local_lock=all,addr=10.0.0.1\n"
		"42 22 0:43 / /mnt/c rw - cifs //s/c rw,vers=3.1.1,nobrl\n"
		"43 22 0:44 / /mnt/nolock rw - nfs4 s:/nolock rw,vers=4.2\n";

	CHECK_STR(option_of(text, 41), "");
	CHECK_STR(option_of(text, 42), "local_lock=all");
	CHECK_STR(option_of(text, 43), "nobrl");
	CHECK_STR(option_of(text, 44), "");
	CHECK_STR(option_of(text, 45), "");
}

TEST(levels_are_left_a_little_below_where_they_begin)
{
	struct pool_space s = { .size = 1000, .used = 900, .free = 100 };

	CHECK_EQ(pool_dir_percent(&s), 90);
	CHECK_EQ(pool_dir_level(&s, 90, 98, POOL_ROOMY), POOL_TIGHT);
	s = (struct pool_space){ .size = 1000, .used = 889, .free = 111 };
	CHECK_EQ(pool_dir_percent(&s), 89);
	CHECK_EQ(pool_dir_level(&s, 90, 98, POOL_ROOMY), POOL_ROOMY);
	CHECK_EQ(pool_dir_level(&s, 90, 98, POOL_TIGHT), POOL_TIGHT);
	CHECK_EQ(pool_dir_level(&s, 91, 98, POOL_TIGHT), POOL_ROOMY);
	s = (struct pool_space){ .size = 1000, .used = 975, .free = 25 };
	CHECK_EQ(pool_dir_level(&s, 90, 98, POOL_TIGHT), POOL_FULL);
	s = (struct pool_space){ .size = 1000, .used = 960, .free = 40 };
	CHECK_EQ(pool_dir_level(&s, 90, 98, POOL_FULL), POOL_TIGHT);
	/* What is kept for root is not room. */
	s = (struct pool_space){ .size = 1000, .used = 500, .free = 0 };
	CHECK_EQ(pool_dir_percent(&s), 100);
	s = (struct pool_space){ .size = 0 };
	CHECK_EQ(pool_dir_percent(&s), 0);
}

TEST(the_type_of_a_mount_is_found_by_its_number)
{
	char text[] = "21 1 0:20 / /proc rw - proc proc rw\n"
		      "30 1 0:31 /sub /mnt/a rw shared:1 - btrfs /dev/sda rw,subvolid=256\n"
		      "31 1 0:40 / /mnt/b rw - fuse.sshfs host:/x rw,user_id=0,group_id=0\n"
		      "32 1 0:41 / /mnt/c rw - fuse.sshfs host:/x rw,user_id=0,group_id=0,allow_other\n";
	static const struct { uint64_t id; const char *type; bool is_for_others; } wanted[] = {
		{ 21, "proc", true }, { 30, "btrfs", true }, { 31, "fuse.sshfs", false }, { 32, "fuse.sshfs", true }, { 3, "", true },
	};
	char type[POOL_TYPE_MAX];

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		FILE *f = fmemopen(text, strlen(text), "r");
		bool is_for_others = !wanted[i].is_for_others;

		pool_dir_mount_type(f, wanted[i].id, type, &is_for_others);
		fclose(f);
		CHECK_STR(type, wanted[i].type);
		CHECK_EQ(is_for_others, wanted[i].is_for_others);
	}
}

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

TEST(a_marker_says_how_disks_lie_and_an_old_one_that_they_are_files)
{
	struct pool_facts facts;

	begin();
	CHECK_EQ(pool_dir_make(dir, UID_A, "dir", &err), 0);
	int fd = pool_dir_open(dir, UID_A, &err);
	CHECK(fd >= 0);
	CHECK_EQ(pool_dir_facts(fd, &facts, &err), 0);
	CHECK_EQ(facts.driver, POOL_DRIVER_DIR);
	write_text(POOL_MARKER, "vivarium pool " UID_A "\n");
	CHECK_EQ(pool_dir_facts(fd, &facts, &err), 0);
	CHECK_EQ(facts.driver, POOL_DRIVER_DIR);
	write_text(POOL_MARKER, "vivarium pool " UID_A "\ndriver btrfs\n");
	CHECK_EQ(pool_dir_facts(fd, &facts, &err), 0);
	CHECK_EQ(facts.driver, POOL_DRIVER_BTRFS);
	write_text(POOL_MARKER, "vivarium pool " UID_A "\ndriver btrfs2\n");
	CHECK_EQ(pool_dir_facts(fd, &facts, &err), -ENOTSUP);
	close(fd);
	end();
}

TEST(a_pool_is_used_by_one_daemon_until_somebody_gives_it_away)
{
	begin();
	CHECK_EQ(pool_dir_make(dir, UID_A, "auto", &err), 0);
	int fd = pool_dir_open(dir, UID_A, &err);
	CHECK(fd >= 0);
	CHECK_EQ(pool_host_claim(fd, "0123 here /var/lib/a b", &err), 0);
	CHECK_EQ(pool_host_claim(fd, "0123 here /var/lib/a b", &err), 0);
	/* The host may be called otherwise; another host, or another directory, is another daemon. */
	CHECK_EQ(pool_host_claim(fd, "0123 there /var/lib/a b", &err), 0);
	CHECK_EQ(pool_host_claim(fd, "0124 here /var/lib/a b", &err), -EBUSY);
	CHECK(strstr(err.msg, "'here' (0123)") && strstr(err.msg, "'/var/lib/a b'"));
	err = (struct err)ERR_INIT;
	CHECK_EQ(pool_host_claim(fd, "0123 here /var/lib/a", &err), -EBUSY);
	CHECK_EQ(unlinkat(fd, POOL_HOST, 0), 0);
	/* Of two who would have it at once, one waits. */
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	AUTO_FD int other = openat(fd, POOL_MARKER, O_RDWR);
	CHECK_EQ(fcntl(other, F_OFD_SETLK, &lock), 0);
	CHECK_EQ(pool_host_claim(fd, "0124 here /var/lib/a b", &err), -EAGAIN);
	lock.l_type = F_UNLCK;
	CHECK_EQ(fcntl(other, F_OFD_SETLK, &lock), 0);
	CHECK_EQ(pool_host_claim(fd, "0124 here /var/lib/a b", &err), 0);
	CHECK_EQ(pool_host_claim(fd, "0123 here /var/lib/a b", &err), -EBUSY);
	close(fd);
	CHECK_EQ(pool_dir_unmake(dir, UID_A, NULL), 0);
	CHECK(access(in_dir(POOL_HOST), F_OK) < 0);
	end();
}

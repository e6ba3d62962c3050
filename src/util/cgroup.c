/* SPDX-License-Identifier: Apache-2.0 */
#include "util/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/io.h"

enum {
	PROCESSES_TEXT = 64 << 10,      /* of what is left of a machine, which can start nothing */
	SELF_TEXT = 1 << 20,            /* hosts of many containers have thousands of mounts */
};

static int open_file(const char *folder, const char *name, int flags)
{
	char path[CGROUP_PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int cgroup_write(const char *folder, const char *name, const char *text)
{
	AUTO_FD int fd = open_file(folder, name, O_WRONLY);

	if (fd < 0)
		return fd;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

void cgroup_read(const char *folder, const char *name, char *text, size_t cap)
{
	AUTO_FD int fd = open_file(folder, name, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : io_read_full(fd, text, cap - 1);

	text[n > 0 ? n : 0] = 0;
}

/* Is PID one of the lines of TEXT? */
static bool has_process(const char *text, pid_t pid)
{
	char *end;

	for (; *text; text = end + (*end == '\n')) {
		if (strtol(text, &end, 10) == pid)
			return true;
		if (end == text)
			return false;
	}
	return false;
}

/* One by one. A number may be another process's by the time that it is signalled, so it is held, looked for again, and then signalled. */
static void kill_each(const char *folder)
{
	AUTO(free) char *before = malloc(PROCESSES_TEXT), *now = malloc(PROCESSES_TEXT);
	char *end;

	if (!before || !now)
		return;
	cgroup_read(folder, "cgroup.procs", before, PROCESSES_TEXT);
	for (const char *at = before; *at; at = end + (*end == '\n')) {
		pid_t pid = (pid_t)strtol(at, &end, 10);
		/* 0: one of another namespace of processes, which nobody here can name. */
		AUTO_FD int fd = end != at && pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

		if (end == at)
			return;
		cgroup_read(folder, "cgroup.procs", now, PROCESSES_TEXT);
		if (fd >= 0 && has_process(now, pid))
			(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	}
}

void cgroup_kill(const char *folder)
{
	/* Version 2 has it since Linux 5.14. */
	if (cgroup_write(folder, "cgroup.kill", "1") < 0)
		kill_each(folder);
}

bool cgroup_is_writable(const char *folder)
{
	char procs[CGROUP_PATH_MAX + 16];

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", folder);
	return !access(folder, W_OK) && !access(procs, W_OK);
}

int cgroup_self_read(struct cgroup_self *s)
{
	s->cgroup = malloc(SELF_TEXT);
	s->mountinfo = malloc(SELF_TEXT);
	if (!s->cgroup || !s->mountinfo) {
		cgroup_self_free(s);
		return -ENOMEM;
	}
	cgroup_read("/proc/self", "cgroup", s->cgroup, SELF_TEXT);
	cgroup_read("/proc/self", "mountinfo", s->mountinfo, SELF_TEXT);
	return 0;
}

void cgroup_self_free(struct cgroup_self *s)
{
	free(s->cgroup);
	free(s->mountinfo);
	*s = (struct cgroup_self){ NULL, NULL };
}

/* SPDX-License-Identifier: Apache-2.0 */
/* system - the kernels whose work is mostly done by the guest's kernel. */
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels.h"

uint64_t kernel_getppid(void)
{
	enum { TIMES = 200000 };
	uint64_t sum = 0;
	long parent = syscall(SYS_getppid);

	for (unsigned i = 0; i < TIMES; i++)
		sum += syscall(SYS_getppid) == parent;
	return sum;
}

uint64_t kernel_fault(void)
{
	enum { LEN = 64 << 20, TIMES = 4 };
	uint64_t sum = 0;

	for (unsigned t = 0; t < TIMES; t++) {
		volatile uint8_t *p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		kernel_check(p != MAP_FAILED, "mmap");
		/* Pages of 4 KiB, whatever the kernel's policy for larger ones is. */
		kernel_check(madvise((void *)p, LEN, MADV_NOHUGEPAGE) == 0, "madvise");
		for (size_t i = 0; i < LEN; i += 4096) {
			sum += p[i] + 1u;
			p[i] = 1;
		}
		munmap((void *)p, LEN);
	}
	return sum;
}

uint64_t kernel_fork(void)
{
	enum { TIMES = 1000 };
	uint64_t sum = 0;

	for (unsigned i = 0; i < TIMES; i++) {
		int status = 0;
		pid_t child = fork();

		if (child == 0)
			_exit((int)(i & 63));
		kernel_check(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status), "fork");
		sum += (unsigned)WEXITSTATUS(status);
	}
	return sum;
}

/* Both processes on one processor: what is timed is the switch, not the waking of another one. */
static void pipe_bind(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((unsigned)sched_getcpu(), &set);
	kernel_check(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

uint64_t kernel_pipe(void)
{
	enum { TIMES = 20000 };
	int there[2], back[2], status;
	uint32_t v = 1;
	cpu_set_t before;

	kernel_check(sched_getaffinity(0, sizeof(before), &before) == 0, "sched_getaffinity");
	pipe_bind();
	kernel_check(pipe(there) == 0 && pipe(back) == 0, "pipe");
	pid_t child = fork();

	kernel_check(child >= 0, "fork");
	if (child == 0) {
		close(there[1]);
		while (read(there[0], &v, sizeof(v)) == sizeof(v)) {
			v = v * 1664525 + 1013904223;
			kernel_check(write(back[1], &v, sizeof(v)) == sizeof(v), "write");
		}
		_exit(0);
	}
	for (unsigned i = 0; i < TIMES; i++) {
		kernel_check(write(there[1], &v, sizeof(v)) == sizeof(v), "write");
		kernel_check(read(back[0], &v, sizeof(v)) == sizeof(v), "read");
	}
	for (unsigned i = 0; i < 2; i++) {
		close(there[i]);
		close(back[i]);
	}
	kernel_check(waitpid(child, &status, 0) == child && status == 0, "waitpid");
	kernel_check(sched_setaffinity(0, sizeof(before), &before) == 0, "sched_setaffinity");
	return v;
}

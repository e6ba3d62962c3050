/* SPDX-License-Identifier: Apache-2.0 */
/* vivbench - what bench/run starts in its guests and natively; static, so that any root will do.
 *
 *     vivbench kernel [NAME...]        run kernels, all by default, each in a process of its own
 *     vivbench time NAME COMMAND...    run a command
 *     vivbench clock                   for each line read, print the clock
 *     vivbench disk ROUNDS DEVICE...   requests per second of block devices, written to: "DISK DEVICE KIND DEPTH N"
 *
 * What was timed is told as "BENCH NAME begin", then "BENCH NAME NS CHECKSUM CPU_NS"; a command has no
 * checksum of its own, its exit status stands there. CPU_NS is user and system time of the process and
 * of the children it waited for. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

static const struct kernel kernels[] = {
	{ "sha", kernel_sha }, { "sort", kernel_sort }, { "fp", kernel_fp }, { "matmul", kernel_matmul },
	{ "chase", kernel_chase }, { "memcpy", kernel_memcpy }, { "getppid", kernel_getppid },
	{ "fault", kernel_fault }, { "fork", kernel_fork }, { "pipe", kernel_pipe },
};

void kernel_check(int ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "vivbench: %s: %s\n", what, strerror(errno));
	_exit(1);
}

void *kernel_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	kernel_check(p != MAP_FAILED, "mmap");
	return p;
}

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t cpu_time(int who)
{
	struct rusage r;

	kernel_check(getrusage(who, &r) == 0, "getrusage");
	return 1000 * ((uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000u +
		       (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec));
}

struct stamp {
	uint64_t wall, cpu;             /* ns */
};

static struct stamp stamp(void)
{
	return (struct stamp){ now(CLOCK_MONOTONIC), cpu_time(RUSAGE_SELF) + cpu_time(RUSAGE_CHILDREN) };
}

/* The console is drained before the clock starts: output of a serial port is slow. */
static struct stamp begin(const char *name)
{
	printf("BENCH %s begin\n", name);
	fflush(stdout);
	return stamp();
}

static void end(const char *name, struct stamp start, uint64_t sum)
{
	struct stamp s = stamp();

	printf("BENCH %s %" PRIu64 " %016" PRIx64 " %" PRIu64 "\n", name, s.wall - start.wall, sum, s.cpu - start.cpu);
	fflush(stdout);
}

static int wait_for(pid_t child)
{
	int status = 0;

	kernel_check(child > 0 && waitpid(child, &status, 0) == child, "fork");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A process of its own: none inherits another's heap, page tables or faults. */
static int run_kernel(const struct kernel *k)
{
	pid_t child = fork();

	if (child == 0) {
		struct stamp start = begin(k->name);

		end(k->name, start, k->run());
		_exit(0);
	}
	return wait_for(child);
}

static int run_kernels(char **names)
{
	int status = 0;

	for (size_t i = 0; i < sizeof(kernels) / sizeof(*kernels); i++) {
		char **n = names;

		while (*n && strcmp(*n, kernels[i].name) != 0)
			n++;
		if (!*names || *n)
			status |= run_kernel(&kernels[i]);
	}
	return status;
}

static int run_command(const char *name, char **argv)
{
	struct stamp start = begin(name);
	pid_t child = fork();

	if (child == 0) {
		execvp(*argv, argv);
		kernel_check(0, *argv);
	}
	int status = wait_for(child);

	end(name, start, (uint64_t)status);
	return status;
}

static int tell_clock(void)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		printf("BENCH clock %" PRIu64 " %016" PRIx64 "\n", now(CLOCK_MONOTONIC), now(CLOCK_REALTIME));
		fflush(stdout);
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc >= 2 && strcmp(argv[1], "kernel") == 0)
		return run_kernels(argv + 2);
	if (argc >= 4 && strcmp(argv[1], "time") == 0)
		return run_command(argv[2], argv + 3);
	if (argc == 2 && strcmp(argv[1], "clock") == 0)
		return tell_clock();
	if (argc >= 4 && strcmp(argv[1], "disk") == 0)
		return disk_main((unsigned)atoi(argv[2]), argv + 3);
	fprintf(stderr, "usage: vivbench kernel [NAME...] | time NAME COMMAND... | clock | disk ROUNDS DEVICE...\n");
	return 2;
}

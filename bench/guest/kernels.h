/* SPDX-License-Identifier: Apache-2.0 */
/* kernels.h - the small programs that are timed in a guest and, the same binary, natively.
 * Each does a fixed amount of work, the same on every machine, and returns a checksum of its
 * results: a subject whose checksum differs has computed wrongly, however fast. */
#ifndef BENCH_GUEST_KERNELS_H
#define BENCH_GUEST_KERNELS_H
#include <stddef.h>
#include <stdint.h>

struct kernel {
	const char *name;
	uint64_t (*run)(void);          /* the timed work; ends the process when a system call fails */
};

/* User-mode computation (compute.c). */
uint64_t kernel_sha(void);              /* SHA-256 (FIPS 180-4) of 24 MiB */
uint64_t kernel_sort(void);             /* quicksort of 1.5 M integers, three times */
uint64_t kernel_fp(void);               /* libm: exp, log, sin, cos, pow, atan2, sqrt; 4 M of each */
uint64_t kernel_matmul(void);           /* 384 x 384 doubles, six times */
uint64_t kernel_chase(void);            /* 2 M dependent loads over 16 MB */
uint64_t kernel_memcpy(void);           /* 2 GB: blocks of 8 MB, and of 1 to 4096 bytes */

/* What mostly runs in the guest's kernel (system.c). */
uint64_t kernel_getppid(void);          /* 200 k system calls */
uint64_t kernel_fault(void);            /* first touches of 64 MB, four times */
uint64_t kernel_fork(void);             /* 1000 times fork(), _exit(), waitpid() */
uint64_t kernel_pipe(void);             /* 20 k round trips between two processes on one processor */

/* Random reads and writes of 4 KiB, one and 32 under way, of /dev/NAME for each of NAMES (disk.c). What is there is lost. */
int disk_main(unsigned rounds, char **names);

void *kernel_alloc(size_t len);         /* zeroed, page-aligned; ends the process when there is none */
void kernel_check(int ok, const char *what);    /* ends the process with errno's message unless OK */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - requests of 4 KiB to block devices, past the page cache, through the kernel's AIO. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

enum { REQUEST = 4096, DEPTH_MAX = 32 };
static const uint64_t run_ns = 500000000;

struct run {
	int fd;
	aio_context_t ctx;
	uint64_t n_blocks, seed;
	bool is_write;
	unsigned depth;
	struct iocb cb[DEPTH_MAX];
	uint8_t *buf;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void submit(struct run *r, unsigned i)
{
	struct iocb *cb = &r->cb[i];

	r->seed = r->seed * 6364136223846793005u + 1442695040888963407u;
	*cb = (struct iocb){ .aio_data = i, .aio_lio_opcode = r->is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			     .aio_fildes = (uint32_t)r->fd, .aio_buf = (uintptr_t)(r->buf + (size_t)i * REQUEST),
			     .aio_nbytes = REQUEST, .aio_offset = (int64_t)((r->seed >> 20) % r->n_blocks * REQUEST) };
	kernel_check(syscall(SYS_io_submit, r->ctx, 1L, &cb) == 1, "io_submit");
}

/* Requests per second. */
static double run_one(struct run *r)
{
	struct io_event ev[DEPTH_MAX];
	uint64_t start = now_ns(), end = start + run_ns, n = 0, t = start;

	for (unsigned i = 0; i < r->depth; i++)
		submit(r, i);
	for (unsigned under_way = r->depth; under_way;) {
		long got = syscall(SYS_io_getevents, r->ctx, 1L, (long)DEPTH_MAX, ev, NULL);

		kernel_check(got > 0, "io_getevents");
		t = now_ns();
		for (long k = 0; k < got; k++) {
			if (ev[k].res != REQUEST) {
				errno = ev[k].res < 0 ? (int)-ev[k].res : EIO;
				kernel_check(0, "request");
			}
			n++;
			if (t < end)
				submit(r, (unsigned)ev[k].data);
			else
				under_way--;
		}
	}
	return (double)n * 1e9 / (double)(t - start);
}

static void run_device(const char *name, unsigned round, bool is_write, unsigned depth)
{
	struct run r = { .is_write = is_write, .depth = depth, .seed = round * 2 + is_write };
	uint64_t size = 0;
	char path[64];

	snprintf(path, sizeof(path), "/dev/%s", name);
	r.fd = open(path, O_RDWR | O_DIRECT);
	kernel_check(r.fd >= 0 && ioctl(r.fd, BLKGETSIZE64, &size) == 0, path);
	kernel_check(syscall(SYS_io_setup, (long)DEPTH_MAX, &r.ctx) == 0, "io_setup");
	r.n_blocks = size / REQUEST;
	r.buf = kernel_alloc((size_t)DEPTH_MAX * REQUEST);
	memset(r.buf, 0x5a, (size_t)DEPTH_MAX * REQUEST);
	printf("DISK %s %s %u %.0f\n", name, is_write ? "randwrite" : "randread", depth, run_one(&r));
	fflush(stdout);
	syscall(SYS_io_destroy, r.ctx);
	close(r.fd);
}

int disk_main(unsigned rounds, char **names)
{
	static const unsigned depths[] = { 1, DEPTH_MAX };

	for (unsigned i = 0; i < rounds; i++)
		for (unsigned k = 0; k < 4; k++)
			for (char **n = names; *n; n++)
				run_device(*n, i, k >= 2, depths[k % 2]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* aio_now.c - small transfers from and to the page cache, done at once in the thread that asks.
 *
 * They are copies, and cost less than telling anybody else about them. What could wait is not done here:
 * a read takes what is in memory (RWF_NOWAIT). A write cannot be asked to do so on every file system, but
 * waits only when the host has more dirty pages than it wants and holds writers back; then one write was
 * slow, and for a while all go the long way, where waiting stands in nobody's way: longer the slower it was, as on a
 * busy host it may only have lost the processor. */
#include "blk/aio.h"

#include <errno.h>
#include <sys/uio.h>
#include <time.h>

enum { NOW_SLOW_NS = 2000000, NOW_PAUSES = 4, NOW_PAUSE_MAX_NS = 50000000 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int64_t now_read(struct aio_now *n, const struct aio_job *j)
{
	if (n->has_no_nowait)
		return -EAGAIN;
	ssize_t r = preadv2(j->fd, j->iov, j->n_iov, (off_t)j->off, RWF_NOWAIT);

	if (r >= 0)
		return r;
	n->has_no_nowait = errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM;
	return -EAGAIN;
}

static int64_t now_write(struct aio_now *n, const struct aio_job *j)
{
	uint64_t start = now_ns();

	if (start < n->paused_until_ns)
		return -EAGAIN;
	ssize_t r = pwritev(j->fd, j->iov, j->n_iov, (off_t)j->off);
	int error = errno;
	uint64_t end = now_ns();

	if (end - start > NOW_SLOW_NS) {
		uint64_t pause = NOW_PAUSES * (end - start);

		n->paused_until_ns = end + (pause < NOW_PAUSE_MAX_NS ? pause : NOW_PAUSE_MAX_NS);
	}
	return r < 0 ? -error : r;
}

int64_t aio_now(struct aio_now *n, const struct aio_job *j)
{
	return j->op == AIO_READV ? now_read(n, j) : j->op == AIO_WRITEV ? now_write(n, j) : -EAGAIN;
}

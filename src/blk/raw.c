/* SPDX-License-Identifier: Apache-2.0 */
/* raw.c - the image is the disk: a plain file or a block device.
 *
 * A request becomes one job at a time: short transfers are continued, zeroes go down a ladder
 * from the cheapest operation that the file system has to writing real ones. With O_DIRECT, a
 * piece whose offset, length or addresses are not aligned goes through the page cache of the
 * other descriptor: the kernel keeps both views of one file coherent. Loop thread. */
#include "blk/blk_ops.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "util/checked.h"
#include "util/err.h"

enum { RAW_IOV = 64, RAW_ZERO_LEN = 64 << 10 };

/* The ways to make zeroes, cheapest first. */
enum raw_zeroes { RAW_PUNCH, RAW_ZERO_RANGE, RAW_WRITE_ZEROES };

static const uint8_t raw_zero[RAW_ZERO_LEN] __attribute__((aligned(4096)));

struct raw_job {
	struct aio_job j;
	struct blk *b;
	struct blk_req *r;
	uint64_t done;                  /* bytes of the request */
	int iov_at;                     /* where the next byte comes from: iov[iov_at] + iov_off */
	size_t iov_off;
	enum raw_zeroes zeroes;
	struct iovec iov[RAW_IOV];      /* the piece in flight */
};

static void raw_done(struct aio_job *j, int64_t result);

static int raw_open(struct blk *b, struct err *err)
{
	struct stat st;

	if (fstat(b->fd, &st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", b->name, strerror(errno));
	b->is_device = S_ISBLK(st.st_mode);
	b->block_size = st.st_blksize >= BLK_SECTOR && is_pow2((uint64_t)st.st_blksize) &&
			st.st_blksize <= 1 << 20 ? (unsigned)st.st_blksize : 4096;
	if (b->is_device) {
		unsigned physical = 0;

		if (ioctl(b->fd, BLKGETSIZE64, &b->size) < 0)
			return err_set(err, -errno, "cannot read the size of '%s': %s", b->name, strerror(errno));
		if (!ioctl(b->fd, BLKPBSZGET, &physical) && physical >= BLK_SECTOR && is_pow2(physical))
			b->block_size = physical;
		b->can_discard = !b->is_readonly;
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", b->name);
	b->size = (uint64_t)st.st_size;
	/* A hole behind the end changes nothing, but tells whether the file system makes holes. */
	b->can_discard = !b->is_readonly &&
			 !fallocate(b->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, st.st_size, BLK_SECTOR);
	return 0;
}

/* The next piece of a transfer: as much of the request's vector as fits RAW_IOV entries. */
static uint64_t raw_fill_iov(struct raw_job *rj)
{
	const struct blk_req *r = rj->r;
	size_t skip = rj->iov_off;
	uint64_t len = 0;
	int n = 0;

	for (int i = rj->iov_at; i < r->n_iov && n < RAW_IOV; i++) {
		if (r->iov[i].iov_len > skip) {
			rj->iov[n].iov_base = (char *)r->iov[i].iov_base + skip;
			rj->iov[n].iov_len = r->iov[i].iov_len - skip;
			len += rj->iov[n++].iov_len;
		}
		skip = 0;
	}
	rj->j.n_iov = n;
	return len;
}

static uint64_t raw_fill_zeroes(struct raw_job *rj)
{
	uint64_t left = rj->r->len - rj->done, len = 0;
	int n = 0;

	for (; n < RAW_IOV && len < left; n++) {
		uint64_t piece = left - len < RAW_ZERO_LEN ? left - len : RAW_ZERO_LEN;

		rj->iov[n] = (struct iovec){ .iov_base = (void *)(uintptr_t)raw_zero, .iov_len = piece };
		len += piece;
	}
	rj->j.n_iov = n;
	return len;
}

static void raw_advance(struct raw_job *rj, uint64_t n)
{
	rj->done += n;
	if (rj->r->op == BLK_ZEROES)
		return;
	n += rj->iov_off;
	while (rj->iov_at < rj->r->n_iov && n >= rj->r->iov[rj->iov_at].iov_len)
		n -= rj->r->iov[rj->iov_at++].iov_len;
	rj->iov_off = n;
}

/* Which descriptor can take the piece that was filled in. */
static int raw_fd(const struct raw_job *rj)
{
	uint64_t bits = rj->j.off | rj->j.len;

	if (rj->b->direct_fd < 0)
		return rj->b->fd;
	for (int i = 0; i < rj->j.n_iov; i++)
		bits |= (uintptr_t)rj->iov[i].iov_base | rj->iov[i].iov_len;
	return bits & (rj->b->direct_align - 1) ? rj->b->fd : rj->b->direct_fd;
}

static void raw_next(struct raw_job *rj)
{
	static const int modes[] = {
		[RAW_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[RAW_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct aio_job *j = &rj->j;
	struct blk *b = rj->b;

	j->done = raw_done;
	j->iov = rj->iov;
	j->off = rj->r->off + rj->done;
	j->len = rj->r->len - rj->done;
	j->fd = b->fd;
	switch (rj->r->op) {
	case BLK_READ:
	case BLK_WRITE:
		j->op = rj->r->op == BLK_READ ? AIO_READV : AIO_WRITEV;
		j->len = raw_fill_iov(rj);
		j->fd = raw_fd(rj);
		break;
	case BLK_FLUSH:
		j->op = AIO_FDATASYNC;
		break;
	case BLK_DISCARD:
		j->op = b->is_device ? AIO_BLKDISCARD : AIO_FALLOCATE;
		j->mode = modes[RAW_PUNCH];
		break;
	case BLK_ZEROES:
		if (rj->zeroes == RAW_WRITE_ZEROES) {
			j->op = AIO_WRITEV;
			j->len = raw_fill_zeroes(rj);
			j->fd = raw_fd(rj);
		} else {
			j->op = AIO_FALLOCATE;
			j->mode = modes[rj->zeroes];
		}
		break;
	}
	blk_submit_job(b, j);
}

static void raw_end(struct raw_job *rj, int result)
{
	struct blk *b = rj->b;
	struct blk_req *r = rj->r;

	free(rj);
	blk_finish(b, r, result);
}

/* After a failed fdatasync the kernel may have dropped the dirty pages, and the next one would
 * report success for data that is lost. So the first failure stays. */
static void raw_flushed(struct raw_job *rj, int result)
{
	if (result < 0)
		rj->b->flush_error = result;
	raw_end(rj, rj->b->flush_error);
}

static void raw_done(struct aio_job *j, int64_t result)
{
	struct raw_job *rj = container_of(j, struct raw_job, j);
	bool is_missing = result == -EOPNOTSUPP || result == -ENOTTY || result == -EINVAL || result == -ENOSYS;

	if (result == -EINTR || result == -EAGAIN) {
		raw_next(rj);
	} else if (j->op == AIO_FDATASYNC) {
		raw_flushed(rj, (int)result);
	} else if (rj->r->op == BLK_DISCARD) {
		/* Advice: a host that cannot take it is no error. */
		raw_end(rj, is_missing ? 0 : (int)result);
	} else if (j->op == AIO_FALLOCATE && is_missing) {
		rj->zeroes++;
		raw_next(rj);
	} else if (result < 0 || j->op == AIO_FALLOCATE) {
		raw_end(rj, (int)result);
	} else if (result == 0) {
		raw_end(rj, -EIO);              /* the file was cut short under us */
	} else {
		raw_advance(rj, (uint64_t)result);
		if (rj->done == rj->r->len)
			raw_end(rj, 0);
		else
			raw_next(rj);
	}
}

static void raw_submit(struct blk *b, struct blk_req *r)
{
	struct raw_job *rj = calloc(1, sizeof(*rj));

	if (!rj) {
		blk_finish_later(b, r, -ENOMEM);
		return;
	}
	rj->b = b;
	rj->r = r;
	rj->zeroes = r->may_unmap ? RAW_PUNCH : RAW_ZERO_RANGE;
	raw_next(rj);
}

const struct blk_ops blk_raw = {
	.name = "raw",
	.open = raw_open,
	.submit = raw_submit,
};

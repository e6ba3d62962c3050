/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - the protocol of files and block devices of this host.
 *
 * A request becomes one job at a time: short transfers are continued, zeroes go down a ladder
 * from the cheapest operation that the file system has to writing real ones. With O_DIRECT, a
 * piece whose offset, length or addresses are not aligned goes through the page cache of the
 * other descriptor: the kernel keeps both views of one file coherent. Loop thread. */
#include "blk/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/checked.h"

enum { FILE_IOV = 64, FILE_ZERO_LEN = 64 << 10, FILE_JOBS_KEPT = 64, FILE_NOW_MAX = 64 << 10, FILE_PAGE = 4096,
       FILE_FILL_STEP = 16 << 20 };

/* The ways to make zeroes, cheapest first. */
enum file_zeroes { FILE_PUNCH, FILE_ZERO_RANGE, FILE_WRITE_ZEROES };

static const uint8_t file_zero[FILE_ZERO_LEN] __attribute__((aligned(4096)));

struct file_job {
	struct aio_job j;
	struct blk *b;
	struct blk_req *r;
	uint64_t done;                  /* bytes of the request */
	struct blk_vec at;              /* where the next byte of memory is */
	enum file_zeroes zeroes;
	struct file_job *next;          /* when it is free */
	struct iovec iov[FILE_IOV];     /* the piece in flight, unless it is the request's own vector */
};

static void file_done(struct aio_job *j, int64_t result);

/* --- requests ------------------------------------------------------------------------------- */

/* The next piece of a transfer: as much of the request's vector as fits FILE_IOV entries. */
static uint64_t file_fill_iov(struct file_job *fj)
{
	uint64_t left = fj->r->len - fj->done, len = 0;
	struct blk_vec v = fj->at;
	int n = 0;

	if (!fj->done && !v.skip && v.n <= IOV_MAX && fj->r->iov_is_exact) {
		fj->j.iov = v.iov;
		fj->j.n_iov = v.n;
		return left;
	}
	for (; v.n > 0 && n < FILE_IOV && len < left; v.n--, v.iov++) {
		if (v.iov->iov_len > v.skip) {
			uint64_t piece = v.iov->iov_len - v.skip;

			piece = piece < left - len ? piece : left - len;
			fj->iov[n].iov_base = (char *)v.iov->iov_base + v.skip;
			fj->iov[n++].iov_len = piece;
			len += piece;
			v.skip = 0;
		} else {
			v.skip -= v.iov->iov_len;
		}
	}
	fj->j.n_iov = n;
	return len;
}

static uint64_t file_fill_zeroes(struct file_job *fj)
{
	uint64_t left = fj->r->len - fj->done, len = 0;
	int n = 0;

	for (; n < FILE_IOV && len < left; n++) {
		uint64_t piece = left - len < FILE_ZERO_LEN ? left - len : FILE_ZERO_LEN;

		fj->iov[n] = (struct iovec){ .iov_base = (void *)(uintptr_t)file_zero, .iov_len = piece };
		len += piece;
	}
	fj->j.n_iov = n;
	return len;
}

/* Which descriptor can take the piece that was filled in. */
static int file_fd(const struct file *f, const struct file_job *fj)
{
	uint64_t bits = fj->j.off | fj->j.len;

	if (f->direct_fd < 0)
		return f->fd;
	for (int i = 0; i < fj->j.n_iov; i++)
		bits |= (uintptr_t)fj->j.iov[i].iov_base | fj->j.iov[i].iov_len;
	return bits & (f->direct_align - 1) ? f->fd : f->direct_fd;
}

static void file_next(struct file_job *fj)
{
	static const int modes[] = {
		[FILE_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		[FILE_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
	};
	struct file *f = fj->b->priv;
	struct aio_job *j = &fj->j;

	j->done = file_done;
	j->iov = fj->iov;
	j->off = fj->r->at_off + fj->done;
	j->len = fj->r->len - fj->done;
	j->fd = f->fd;
	switch (fj->r->op) {
	case BLK_READ:
	case BLK_WRITE:
		j->op = fj->r->op == BLK_READ ? AIO_READV : AIO_WRITEV;
		j->len = file_fill_iov(fj);
		j->fd = file_fd(f, fj);
		break;
	case BLK_FLUSH:
		j->op = AIO_FDATASYNC;
		break;
	case BLK_DISCARD:
		j->op = f->is_device ? AIO_BLKDISCARD : AIO_FALLOCATE;
		j->mode = modes[FILE_PUNCH];
		break;
	case BLK_ZEROES:
		if (fj->zeroes == FILE_WRITE_ZEROES) {
			j->op = AIO_WRITEV;
			j->len = file_fill_zeroes(fj);
			j->fd = file_fd(f, fj);
		} else {
			j->op = AIO_FALLOCATE;
			j->mode = modes[fj->zeroes];
		}
		break;
	}
	blk_submit_job(fj->b, j);
}

/* A write that failed may have made the file longer, too. */
static void file_grown(struct blk *b, const struct blk_req *r, int result)
{
	struct file *f = b->priv;
	struct stat st;

	if (!result)
		b->size = r->at_off + r->len;
	else if (!f->grow_step && !fstat(f->fd, &st) && (uint64_t)st.st_size > b->size)
		b->size = (uint64_t)st.st_size;
}

static void file_end(struct file_job *fj, int result)
{
	struct blk *b = fj->b;
	struct file *f = b->priv;
	struct blk_req *r = fj->r;

	if (f->n_kept < FILE_JOBS_KEPT) {
		fj->next = f->kept;
		f->kept = fj;
		f->n_kept++;
	} else {
		free(fj);
	}
	if (r->op == BLK_WRITE && r->at_off + r->len > b->size)
		file_grown(b, r, result);
	blk_finish(b, r, result);
}

/* After a failed fdatasync the kernel may have dropped the dirty pages, and the next one would
 * report success for data that is lost. So the first failure stays. */
static void file_flushed(struct file_job *fj, int result)
{
	struct file *f = fj->b->priv;

	if (result < 0)
		f->flush_error = result;
	file_end(fj, f->flush_error);
}

/* The end of the file: nothing of a format lies behind it, but a disk must not become shorter. */
static void file_at_end(struct file_job *fj)
{
	if (fj->r->op == BLK_READ && fj->b->may_grow) {
		blk_vec_zero(fj->at, fj->r->len - fj->done);
		file_end(fj, 0);
	} else {
		file_end(fj, -EIO);
	}
}

static void file_done(struct aio_job *j, int64_t result)
{
	struct file_job *fj = container_of(j, struct file_job, j);
	bool is_missing = result == -EOPNOTSUPP || result == -ENOTTY || result == -EINVAL || result == -ENOSYS;

	if (result == -EINTR || result == -EAGAIN) {
		file_next(fj);
	} else if (j->op == AIO_FDATASYNC) {
		file_flushed(fj, (int)result);
	} else if (fj->r->op == BLK_DISCARD) {
		/* Advice: a host that cannot take it is no error. */
		file_end(fj, is_missing ? 0 : (int)result);
	} else if (j->op == AIO_FALLOCATE && is_missing) {
		fj->zeroes++;
		file_next(fj);
	} else if (result < 0 || j->op == AIO_FALLOCATE) {
		file_end(fj, (int)result);
	} else if (result == 0) {
		file_at_end(fj);
	} else {
		fj->done += (uint64_t)result;
		if (fj->r->op != BLK_ZEROES)
			fj->at = blk_vec_at(fj->at, (uint64_t)result);
		if (fj->done == fj->r->len)
			file_end(fj, 0);
		else
			file_next(fj);
	}
}

/* Zeroes behind the end need only length. True: nothing is left to do. Writes under way may have made the file
 * longer than B knows: it must not be cut. */
static bool file_grow(struct blk *b, struct blk_req *r, int *result)
{
	struct file *f = b->priv;
	uint64_t size = b->size, end = r->at_off + r->len;

	*result = 0;
	if (!b->may_grow || r->op != BLK_ZEROES || end <= size || f->is_device)
		return false;
	end = end > f->reach ? end : f->reach;
	if (end > f->host_size && ftruncate(f->fd, (off_t)end) < 0) {
		*result = -errno;
		return true;
	}
	b->size = end;
	return r->at_off >= size;
}

/* Behind the end the kernel writes directly one after the other: have the end far away. */
static void file_grow_ahead(struct file *f, uint64_t end)
{
	uint64_t size = (end + f->grow_step - 1) / f->grow_step * f->grow_step;

	if (end > f->host_size && !ftruncate(f->fd, (off_t)size))
		f->host_size = size;
}

int blk_file_grow_in_steps(struct blk *b, uint64_t step)
{
	struct file *f = b->priv;

	if (b->drv != &blk_file || f->is_device || f->grow_step == step)
		return 0;
	f->grow_step = step;
	f->host_size = b->size;
	return !step && ftruncate(f->fd, (off_t)b->size) < 0 ? -errno : 0;
}

static int64_t file_write_back(void *arg)
{
	const struct file *f = arg;

	return sync_file_range(f->fd, 0, 0, SYNC_FILE_RANGE_WRITE) < 0 ? -errno : 0;
}

void blk_file_co_write_back(struct blk *b)
{
	struct file *f = b->priv;

	if (b->drv == &blk_file && f->direct_fd < 0 && !f->is_device)
		(void)blk_co_call(b, file_write_back, f);
}

static void file_submit(struct blk *b, struct blk_req *r)
{
	struct file *f = b->priv;
	struct file_job *fj = f->kept;
	int result;

	if (r->op == BLK_WRITE && r->at_off + r->len > f->reach)
		f->reach = r->at_off + r->len;
	if (f->flush_error && r->op == BLK_FLUSH) {
		blk_finish_later(b, r, f->flush_error);
		return;
	}
	if (file_grow(b, r, &result)) {
		blk_finish_later(b, r, result);
		return;
	}
	if (f->grow_step && r->op == BLK_WRITE)
		file_grow_ahead(f, r->at_off + r->len);
	if (fj) {
		f->kept = fj->next;
		f->n_kept--;
	} else {
		fj = malloc(sizeof(*fj));
	}
	if (!fj) {
		blk_finish_later(b, r, -ENOMEM);
		return;
	}
	fj->j = (struct aio_job){ 0 };
	fj->b = b;
	fj->r = r;
	fj->done = 0;
	fj->at = (struct blk_vec){ .iov = r->iov, .n = r->n_iov, .skip = r->skip };
	fj->zeroes = r->may_unmap ? FILE_PUNCH : FILE_ZERO_RANGE;
	file_next(fj);
}

/* Small transfers of whole pages to or from the page cache; and what is appended, for which nothing has to be
 * read. Anything out of the ordinary is for submit(). */
static int file_now(struct blk *b, const struct blk_req *r)
{
	struct file *f = b->priv;
	struct iovec one;
	struct aio_job j = { .op = r->op == BLK_READ ? AIO_READV : AIO_WRITEV, .fd = f->fd, .off = r->at_off, .len = r->len };

	if ((r->op != BLK_READ && r->op != BLK_WRITE) || f->direct_fd >= 0 || r->len > FILE_NOW_MAX ||
	    (r->op == BLK_WRITE && (r->at_off | r->len) & (FILE_PAGE - 1) && r->at_off < b->size))
		return -EAGAIN;
	if (!r->skip && r->n_iov <= IOV_MAX && r->iov_is_exact) {
		j.iov = r->iov;
		j.n_iov = r->n_iov;
	} else if (r->n_iov > 0 && r->iov->iov_len > r->skip && r->iov->iov_len - r->skip >= r->len) {
		one = (struct iovec){ (char *)r->iov->iov_base + r->skip, r->len };
		j.iov = &one;
		j.n_iov = 1;
	} else {
		return -EAGAIN;
	}
	if (blk_job_now(b, &j) != (int64_t)r->len)
		return -EAGAIN;
	if (r->op == BLK_WRITE && r->at_off + r->len > b->size)
		file_grown(b, r, 0);
	return 0;
}

/* --- the whole file -------------------------------------------------------------------------- */

static int file_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	struct file *f = b->priv;
	off_t data = lseek(f->fd, (off_t)off, SEEK_DATA), end;

	out->host = b;
	out->host_off = off;
	out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | BLK_EXT_HOST;
	out->len = len;
	if (f->is_device || (data < 0 && errno != ENXIO))
		return 0;
	if (data < 0 || (uint64_t)data > off) {
		out->flags = BLK_EXT_ZERO | BLK_EXT_ALLOCATED | BLK_EXT_HOST;
		end = data;
	} else {
		end = lseek(f->fd, (off_t)off, SEEK_HOLE);
	}
	/* What is smaller than a sector is data. */
	if (end >= 0)
		end = out->flags & BLK_EXT_DATA ? (off_t)align_up((uint64_t)end, BLK_SECTOR) :
		      end & ~(off_t)(BLK_SECTOR - 1);
	if (end >= 0 && (uint64_t)end <= off)
		out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | BLK_EXT_HOST, out->len = BLK_SECTOR;
	else if (end >= 0 && (uint64_t)end - off < len)
		out->len = (uint64_t)end - off;
	return 0;
}

struct file_fill { int fd; uint64_t from, to; };

static int64_t file_fill(void *arg)
{
	struct file_fill *w = arg;

	while (w->from < w->to) {
		uint64_t n = w->to - w->from < FILE_ZERO_LEN ? w->to - w->from : FILE_ZERO_LEN;
		ssize_t done = pwrite(w->fd, file_zero, n, (off_t)w->from);

		if (done < 0 && errno != EINTR)
			return -errno;
		w->from += done > 0 ? (uint64_t)done : 0;
	}
	return 0;
}

static int file_preallocate(struct blk *b, uint64_t from, uint64_t to, enum blk_prealloc prealloc, struct err *err)
{
	struct file *f = b->priv;
	struct file_fill fill = { f->fd, from, from };
	int r = 0;

	if (to <= from)
		return 0;
	if (prealloc == BLK_PREALLOC_FALLOC)
		r = -posix_fallocate(f->fd, (off_t)from, (off_t)(to - from));
	while (prealloc == BLK_PREALLOC_FULL && !r && fill.to < to) {
		fill.to = to - fill.from < FILE_FILL_STEP ? to : fill.from + FILE_FILL_STEP;
		r = (int)blk_co_call(b, file_fill, &fill);
		if (!r)
			r = blk_co_reserved(b, fill.to - from, to - from);
	}
	if (r == -EINTR)
		return err_set(err, r, "interrupted");
	return r < 0 ? err_set(err, r, "cannot allocate %" PRIu64 " bytes of '%s': %s", to - from, b->name,
			       strerror(-r)) : 0;
}

int blk_file_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct file *f = b->priv;
	uint64_t before = b->size;

	if (f->is_device)
		return size <= b->size ? 0 :
		       err_set(err, -ENOSPC, "block device '%s' has %" PRIu64 " bytes, %" PRIu64 " are needed",
			       b->name, b->size, size);
	if (size >= b->size && size < f->reach)
		size = f->reach;        /* as above */
	if (size > INT64_MAX || ftruncate(f->fd, (off_t)size) < 0) {
		int r = size > INT64_MAX ? -EFBIG : -errno;

		return err_set(err, r, "cannot make '%s' %" PRIu64 " bytes long: %s", b->name, size, strerror(-r));
	}
	b->size = f->reach = f->host_size = size;
	int r = file_preallocate(b, before, size, prealloc, err);

	/* What could not be reserved in full is given back, unless somebody may have written there. */
	if (r < 0 && size > before && !b->may_grow && !ftruncate(f->fd, (off_t)before))
		b->size = f->reach = f->host_size = before;
	return r;
}

static int file_co_info(struct blk *b, json_t *out, struct err *err)
{
	struct file *f = b->priv;
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", b->name, strerror(errno));
	json_object_set_new(out, "actual-size", json_integer((json_int_t)st.st_blocks * 512));
	json_object_set_new(out, "is-device", json_boolean(f->is_device));
	return 0;
}

bool blk_file_is_same(const struct blk *a, const struct blk *b)
{
	struct stat sa, sb;

	if (a->drv != &blk_file || b->drv != &blk_file)
		return false;
	return !fstat(((struct file *)a->priv)->fd, &sa) && !fstat(((struct file *)b->priv)->fd, &sb) &&
	       sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino && !S_ISBLK(sa.st_mode);
}

int blk_file_fd(const struct blk *b)
{
	return b->drv == &blk_file ? ((const struct file *)b->priv)->fd : -1;
}

int blk_fstat(const struct blk *b, struct stat *out)
{
	const struct blk *top = blk_top(b), *file = top->file ? top->file : top;
	int fd = blk_file_fd(file);

	return fd < 0 ? -ENOTSUP : fstat(fd, out) < 0 ? -errno : 0;
}

bool blk_file_is_device(const struct blk *b)
{
	return b->drv == &blk_file && ((const struct file *)b->priv)->is_device;
}

bool blk_fd_is_same(int a, int b)
{
	struct stat sa, sb;

	return a == b || (!fstat(a, &sa) && !fstat(b, &sb) && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino &&
			  sa.st_rdev == sb.st_rdev);
}

/* --- life ----------------------------------------------------------------------------------- */

static void file_co_close(struct blk *b)
{
	struct file *f = b->priv;

	for (struct file_job *fj = f->kept, *next; fj; fj = next) {
		next = fj->next;
		free(fj);
	}
	if (f->direct_fd >= 0)
		close(f->direct_fd);
	if (f->fd >= 0)
		close(f->fd);
}

const struct blk_driver blk_file = {
	.name = "file",
	.title = "a file or block device of this host",
	.flags = BLK_DRIVER_PROTOCOL,
	.priv_size = sizeof(struct file),
	.co_close = file_co_close,
	.co_map = file_co_map,
	.co_truncate = blk_file_co_truncate,
	.co_info = file_co_info,
	.submit = file_submit,
	.now = file_now,
};

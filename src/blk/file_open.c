/* SPDX-License-Identifier: Apache-2.0 */
/* file_open.c - files and block devices: opening, locking, and what they are. */
#include "blk/file_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/checked.h"

#define FILE_FAR (1ll << 36)   /* longer than an image grows while it is opened */

static int file_open_path(struct blk *b, const struct blk_file_options *o, struct err *err)
{
	int flags = (o->is_readonly && !o->is_inactive ? O_RDONLY : O_RDWR) | O_CLOEXEC;
	struct file *f = b->priv;

	if (o->is_emptied)
		flags |= O_CREAT | (o->is_new ? O_EXCL : 0);
	f->fd = open(o->path, flags, 0666);
	if (f->fd >= 0)
		return 0;
	if (o->is_emptied)
		return err_set(err, -errno, "cannot create disk image '%s': %s%s", o->path, strerror(errno),
			       errno == EEXIST ? "; remove it, or choose another name" : "");
	const char *remedy = (errno == EACCES || errno == EROFS) && !o->is_readonly ?
			     "; open it with readonly=on or change its mode" : "";

	return err_set(err, -errno, "cannot open disk image '%s': %s%s", o->path, strerror(errno), remedy);
}

static int file_take_fd(struct blk *b, const struct blk_file_options *o, struct err *err)
{
	struct file *f = b->priv;
	int mode = fcntl(o->fd, F_GETFL);

	if (mode < 0)
		return err_set(err, -EBADF, "%s is not open", b->name);
	if ((mode & O_ACCMODE) == O_WRONLY || (!o->is_readonly && (mode & O_ACCMODE) != O_RDWR))
		return err_set(err, -EACCES, "%s is not open for %s", b->name,
			       o->is_readonly ? "reading" : "reading and writing");
	/* Of our own, so that nothing is taken when opening fails later on. */
	f->fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
	return f->fd < 0 ? err_set(err, -errno, "cannot duplicate %s: %s", b->name, strerror(errno)) : 0;
}

/* A second descriptor of the same file with O_DIRECT. */
static int file_open_direct(struct blk *b, const struct blk_file_options *o, struct err *err)
{
	struct file *f = b->priv;
	struct statx sx;
	char path[32];
	int sector;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	f->direct_fd = o->direct_fd ? fcntl(*o->direct_fd, F_DUPFD_CLOEXEC, 0) :
		       open(path, (fcntl(f->fd, F_GETFL) & O_ACCMODE) | O_DIRECT | O_CLOEXEC);
	if (f->direct_fd >= 0 && o->direct_fd && !blk_fd_is_same(f->fd, f->direct_fd))
		return err_set(err, -EINVAL, "what was handed over for direct I/O is not '%s'", b->name);
	if (f->direct_fd < 0)
		return err_set(err, -errno, "'%s' cannot bypass the page cache: %s; open it without "
			       "direct I/O", b->name, strerror(errno));
	f->direct_align = 4096;
	if (f->is_device && !ioctl(f->fd, BLKSSZGET, &sector) && is_pow2((uint64_t)sector))
		f->direct_align = (unsigned)sector;
#ifdef STATX_DIOALIGN
	if (!statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN)) {
		unsigned align = sx.stx_dio_offset_align > sx.stx_dio_mem_align ?
				 sx.stx_dio_offset_align : sx.stx_dio_mem_align;

		if (is_pow2(align))
			f->direct_align = align;
	}
#else
	(void)sx;
#endif
	return 0;
}

static int file_examine(struct blk *b, bool may_write, struct err *err)
{
	struct file *f = b->priv;
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_set(err, -errno, "cannot examine '%s': %s", b->name, strerror(errno));
	f->is_device = S_ISBLK(st.st_mode);
	b->block_size = st.st_blksize >= BLK_SECTOR && is_pow2((uint64_t)st.st_blksize) &&
			st.st_blksize <= 1 << 20 ? (unsigned)st.st_blksize : 4096;
	if (f->is_device) {
		unsigned physical = 0;

		if (ioctl(f->fd, BLKGETSIZE64, &b->size) < 0)
			return err_set(err, -errno, "cannot read the size of '%s': %s", b->name, strerror(errno));
		if (!ioctl(f->fd, BLKPBSZGET, &physical) && physical >= BLK_SECTOR && is_pow2(physical))
			b->block_size = physical;
		b->can_discard = may_write;
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", b->name);
	b->size = (uint64_t)st.st_size;
	/* A hole far behind the end changes nothing, also when somebody else makes the file longer meanwhile,
	 * but tells whether the file system makes holes. */
	b->can_discard = may_write && !fallocate(f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
						 st.st_size + (b->is_readonly ? FILE_FAR : 0), BLK_SECTOR);
	/* A saved machine knows its disk by the time of the last write, which this was none. */
	if (b->can_discard && !b->is_readonly)
		(void)futimens(f->fd, (struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, st.st_mtim });
	return 0;
}

int blk_file_open(struct blk *b, const struct blk_file_options *o, struct err *err)
{
	struct file *f = b->priv;

	f->fd = f->direct_fd = -1;
	b->is_open = true;
	int r = o->fd >= 0 ? file_take_fd(b, o, err) : file_open_path(b, o, err);

	if (!r && !o->is_unlocked && !o->is_inactive)
		r = blk_lock(f->fd, b->name, b->is_readonly, err);
	if (!r)
		r = file_examine(b, !b->is_readonly || o->is_inactive, err);
	if (!r && o->is_emptied)
		r = blk_file_co_truncate(b, 0, BLK_PREALLOC_OFF, err);
	if (!r && o->is_direct)
		r = file_open_direct(b, o, err);
	return r;
}

int blk_file_activate(struct blk *b, struct err *err)
{
	struct file *f = b->priv;
	int r = blk_lock(f->fd, b->name, false, err);

	if (!r)
		r = file_examine(b, true, err);
	b->is_readonly = r < 0;
	return r;
}

void blk_file_release(struct blk *b)
{
	struct file *f = b->priv;

	b->is_readonly = true;
	blk_unlock(f->fd);
}

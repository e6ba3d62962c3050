/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/blk_ops.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <linux/stat.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

static const struct blk_ops *const blk_formats[] = { &blk_raw };
/* In order of preference. */
static const struct aio_ops *const blk_aios[] = { &aio_uring, &aio_threads };

/* --- locking ---------------------------------------------------------------------------- */

/* Does descriptor FD of process PID hold a lock on the file of ST? */
static bool blk_fd_holds_lock(const char *pid, const char *fd, const struct stat *st)
{
	char path[64], line[256];
	bool has = false;
	struct stat other;

	snprintf(path, sizeof(path), "/proc/%.16s/fd/%.16s", pid, fd);
	if (stat(path, &other) < 0 || other.st_dev != st->st_dev || other.st_ino != st->st_ino)
		return false;
	snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, fd);
	FILE *f = fopen(path, "re");

	while (f && !has && fgets(line, sizeof(line), f))
		has = !strncmp(line, "lock:", 5);
	if (f)
		fclose(f);
	return has;
}

/* The process that holds a lock on ST's file, 0 when it cannot be seen. The kernel does not
 * name the owner of an OFD lock, so look through the descriptors that we may see. */
static int blk_lock_owner(const struct stat *st)
{
	DIR *proc = opendir("/proc");
	int owner = 0;

	for (struct dirent *p; proc && !owner && (p = readdir(proc));) {
		char path[64];

		if (p->d_name[0] < '1' || p->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%.16s/fd", p->d_name);
		DIR *fds = opendir(path);

		for (struct dirent *d; fds && !owner && (d = readdir(fds));)
			if (d->d_name[0] != '.' && blk_fd_holds_lock(p->d_name, d->d_name, st))
				owner = (int)strtol(p->d_name, NULL, 10);
		if (fds)
			closedir(fds);
	}
	if (proc)
		closedir(proc);
	return owner;
}

static int blk_lock(struct blk *b, struct err *err)
{
	struct flock fl = { .l_type = b->is_readonly ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
	struct stat st;
	char who[32] = "";

	if (!fcntl(b->fd, F_OFD_SETLK, &fl))
		return 0;
	if (errno != EAGAIN && errno != EACCES)
		return err_set(err, -errno, "cannot lock '%s': %s", b->name, strerror(errno));
	int owner = fstat(b->fd, &st) < 0 ? 0 : blk_lock_owner(&st);

	if (owner == getpid())
		return err_set(err, -EBUSY, "'%s' is open twice in this virtual machine; give each disk "
			       "its own image", b->name);
	if (owner)
		snprintf(who, sizeof(who), " (pid %d)", owner);
	return err_set(err, -EBUSY, "'%s' is in use by another process%s; stop it, or use a copy",
		       b->name, who);
}

/* --- opening ---------------------------------------------------------------------------- */

static int blk_open_file(struct blk *b, const struct blk_options *o, struct err *err)
{
	char fd_name[32];
	int mode;

	snprintf(fd_name, sizeof(fd_name), "file descriptor %d", o->fd);
	b->name = strdup(o->path ? o->path : fd_name);
	if (!b->name)
		return err_set(err, -ENOMEM, "out of memory");
	if (!o->path) {
		mode = fcntl(o->fd, F_GETFL);
		if (mode < 0)
			return err_set(err, -EBADF, "%s is not open", b->name);
		if ((mode & O_ACCMODE) == O_WRONLY || (!o->is_readonly && (mode & O_ACCMODE) != O_RDWR))
			return err_set(err, -EACCES, "%s is not open for %s", b->name,
				       o->is_readonly ? "reading" : "reading and writing");
		b->fd = o->fd;
		return 0;
	}
	b->fd = open(o->path, (o->is_readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (b->fd >= 0)
		return 0;
	const char *remedy = errno == EACCES || errno == EROFS ? "; open it with readonly=on or change its mode" : "";

	return err_set(err, -errno, "cannot open disk image '%s': %s%s", o->path, strerror(errno), remedy);
}

/* A second descriptor of the same file with O_DIRECT. */
static int blk_open_direct(struct blk *b, struct err *err)
{
	struct statx sx;
	char path[32];
	int sector;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->fd);
	b->direct_fd = open(path, (b->is_readonly ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
	if (b->direct_fd < 0)
		return err_set(err, -errno, "'%s' cannot bypass the page cache: %s; open it without "
			       "direct I/O", b->name, strerror(errno));
	b->direct_align = 4096;
	if (b->is_device && !ioctl(b->fd, BLKSSZGET, &sector) && is_pow2((uint64_t)sector))
		b->direct_align = (unsigned)sector;
#ifdef STATX_DIOALIGN
	if (!statx(b->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN)) {
		unsigned align = sx.stx_dio_offset_align > sx.stx_dio_mem_align ?
				 sx.stx_dio_offset_align : sx.stx_dio_mem_align;

		if (is_pow2(align))
			b->direct_align = align;
	}
#else
	(void)sx;
#endif
	return 0;
}

static int blk_check_size(const struct blk *b, struct err *err)
{
	if (b->size % BLK_SECTOR == 0 && b->size <= INT64_MAX)
		return 0;
	return err_set(err, -EINVAL, "'%s' is %" PRIu64 " bytes long, which is not a multiple of 512; "
		       "if it is a raw image, extend it with: truncate -s %" PRIu64 " '%s'",
		       b->name, b->size, align_up(b->size, BLK_SECTOR), b->name);
}

static void blk_run_deferred(struct blk *b)
{
	struct blk_req *r = b->deferred;

	b->deferred = NULL;
	while (r) {
		struct blk_req *next = (struct blk_req *)(uintptr_t)r->priv[0];

		blk_finish(b, r, (int)(int64_t)r->priv[1]);
		r = next;
	}
}

static void blk_event(struct loop_fd *h, unsigned events)
{
	struct blk *b = container_of(h, struct blk, event);
	uint64_t count;

	if (read(h->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("disk '%s': cannot read its event: %s", b->name, strerror(errno));
	b->aio_ops->reap(b->aio);
	if (b->blocking)
		aio_threads.reap(b->blocking);
	blk_run_deferred(b);
}

static int blk_setup(struct blk *b, const struct blk_options *o, const struct aio_ops *aio,
		     struct err *err)
{
	int r = blk_open_file(b, o, err);

	if (!r)
		r = blk_lock(b, err);
	if (!r)
		r = b->ops->open(b, err);
	if (!r)
		r = blk_check_size(b, err);
	if (!r && o->is_direct)
		r = blk_open_direct(b, err);
	if (r < 0)
		return r;
	int event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (event_fd < 0)
		return err_set(err, -errno, "cannot create an event: %s", strerror(errno));
	r = loop_fd_add(b->loop, &b->event, event_fd, LOOP_IN, blk_event);
	if (r < 0) {
		close(event_fd);
		b->event.fd = -1;
		return err_set(err, r, "cannot watch an event: %s", strerror(-r));
	}
	b->aio_ops = aio;
	return aio->open(&b->aio, event_fd, err);
}

static const struct blk_ops *blk_find_format(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(blk_formats); i++)
		if (!strcmp(blk_formats[i]->name, name))
			return blk_formats[i];
	return NULL;
}

int blk_open_with(struct blk **out, struct loop *loop, const struct blk_options *o,
		  const struct aio_ops *aio, struct err *err)
{
	AUTO(blk_close) struct blk *b = calloc(1, sizeof(*b));
	const char *format = o->format ? o->format : "raw";

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	b->fd = b->direct_fd = b->event.fd = -1;
	b->loop = loop;
	b->is_readonly = o->is_readonly;
	b->ops = blk_find_format(format);
	if (!b->ops)
		return err_set(err, -EINVAL, "unknown disk image format '%s'; use raw", format);
	int r = blk_setup(b, o, aio, err);

	if (r < 0) {
		if (!o->path)
			b->fd = -1;     /* taken on success only */
		return r;
	}
	*out = take_ptr(&b);
	return 0;
}

int blk_open(struct blk **out, struct loop *loop, const struct blk_options *o, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(blk_aios); i++) {
		bool is_last = i == ARRAY_LEN(blk_aios) - 1;
		struct err why = ERR_INIT;
		struct aio *probe;

		if (o->aio) {
			if (!strcmp(o->aio, blk_aios[i]->name))
				return blk_open_with(out, loop, o, blk_aios[i], err);
			continue;
		}
		/* Whether the host has it shows only in trying. */
		AUTO_FD int fd = eventfd(0, EFD_CLOEXEC);

		if (is_last || !blk_aios[i]->open(&probe, fd, &why)) {
			if (!is_last)
				blk_aios[i]->close(probe);
			return blk_open_with(out, loop, o, blk_aios[i], err);
		}
		log_debug("%s", why.msg);
	}
	return err_set(err, -EINVAL, "unknown kind of asynchronous I/O '%s'; use io_uring or threads", o->aio);
}

void blk_close(struct blk *b)
{
	if (!b)
		return;
	while (b->in_flight) {
		struct pollfd p = { .fd = b->event.fd, .events = POLLIN };

		poll(&p, 1, -1);
		blk_event(&b->event, LOOP_IN);
	}
	if (b->aio)
		b->aio_ops->close(b->aio);
	aio_threads.close(b->blocking);
	if (b->ops && b->ops->close)
		b->ops->close(b);
	if (b->event.fd >= 0) {
		loop_fd_del(&b->event);
		close(b->event.fd);
	}
	if (b->direct_fd >= 0)
		close(b->direct_fd);
	if (b->fd >= 0)
		close(b->fd);
	free(b->name);
	free(b);
}

uint64_t blk_size(const struct blk *b) { return b->size; }
bool blk_is_readonly(const struct blk *b) { return b->is_readonly; }
unsigned blk_block_size(const struct blk *b) { return b->block_size; }
bool blk_can_discard(const struct blk *b) { return b->can_discard; }
unsigned blk_in_flight(const struct blk *b) { return b->in_flight; }

/* --- requests --------------------------------------------------------------------------- */

static bool blk_vector_fits(const struct blk_req *r)
{
	uint64_t sum = 0;

	for (int i = 0; i < r->n_iov; i++)
		if (!u64_add(sum, r->iov[i].iov_len, &sum))
			return false;
	return sum == r->len;
}

static int blk_check(const struct blk *b, const struct blk_req *r)
{
	if (r->op == BLK_FLUSH)
		return b->flush_error;
	if (!range_fits(r->off, r->len, b->size))
		return -EINVAL;
	if (r->op != BLK_READ && b->is_readonly)
		return -EROFS;
	if ((r->op == BLK_READ || r->op == BLK_WRITE) && !blk_vector_fits(r))
		return -EINVAL;
	return 0;
}

void blk_submit(struct blk *b, struct blk_req *r)
{
	int bad = blk_check(b, r);
	bool is_nothing = r->op == BLK_FLUSH ? b->is_readonly :
			  !r->len || (r->op == BLK_DISCARD && !b->can_discard);

	r->blk = b;
	b->in_flight++;
	if (bad || is_nothing)
		blk_finish_later(b, r, bad);
	else
		b->ops->submit(b, r);
}

void blk_submit_job(struct blk *b, struct aio_job *j)
{
	if (j->op == AIO_BLKDISCARD && !b->aio_ops->can_ioctl) {
		/* No thread to be had: punching a hole asks the device for much the same. */
		if (!b->blocking && aio_threads.open(&b->blocking, b->event.fd, NULL) < 0) {
			j->op = AIO_FALLOCATE;
			b->aio_ops->submit(b->aio, j);
			return;
		}
		aio_threads.submit(b->blocking, j);
		return;
	}
	b->aio_ops->submit(b->aio, j);
}

/* What the guest sees as an I/O error, and where a person has to look; once, as the guest can
 * try for ever. */
static void blk_complain(struct blk *b, const struct blk_req *r, int result)
{
	static const char *const ops[] = {
		[BLK_READ] = "reading", [BLK_WRITE] = "writing", [BLK_FLUSH] = "flushing",
		[BLK_DISCARD] = "discarding", [BLK_ZEROES] = "writing zeroes to",
	};

	if (b->has_complained)
		return;
	b->has_complained = true;
	log_error("%s disk '%s' at byte %" PRIu64 " failed: %s; the guest gets I/O errors", ops[r->op], b->name,
		  r->off, strerror(-result));
}

void blk_finish(struct blk *b, struct blk_req *r, int result)
{
	if (result < 0)
		blk_complain(b, r, result);
	b->in_flight--;
	r->done(r, result);
}

void blk_finish_later(struct blk *b, struct blk_req *r, int result)
{
	uint64_t one = 1;

	r->priv[0] = (uintptr_t)b->deferred;
	r->priv[1] = (uint64_t)(int64_t)result;
	b->deferred = r;
	if (write(b->event.fd, &one, sizeof(one)) < 0)
		log_error("disk '%s': cannot write its event: %s", b->name, strerror(errno));
}

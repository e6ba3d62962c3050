/* SPDX-License-Identifier: Apache-2.0 */
/* convert.c - the engine that copies a disk.
 *
 * Some coroutines take one piece of the source each: they find out what is there, read it, look for
 * zeroes in it, and write what is left. While one piece is on its way to the disk, others are read by
 * other threads: bytes that lie in a file as they are go from there to the buffer and through the search
 * for zeroes on one core, in portions that fit its cache. The target bypasses the page cache where it can,
 * so its writes cost no copy and are nearly durable when they are over. */
#include "blk/convert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "blk/compare.h"
#include "blk/file_priv.h"
#include "util/checked.h"

enum {
	CONVERT_PIECE = 1 << 20,        /* bytes per request; at least a cluster of the target */
	CONVERT_PACKED = 256 << 10,     /* the same when they are compressed, which is slower than any disk */
	CONVERT_PIECES = 16,            /* in flight */
	CONVERT_HOT = 128 << 10,        /* read and searched in one go */
	CONVERT_GRANULE = 4096,         /* of zeroes in a target without clusters */
	CONVERT_WRITE_BACK = 32 << 20,  /* bytes of the disk, after which what is in the page cache goes to the target */
	CONVERT_GRANULES_MAX = CONVERT_PIECE / BLK_SECTOR,
};

struct convert {
	struct blk *src, *dst;
	struct loop *loop;
	struct blk_convert *how;
	uint64_t size, granule;
	size_t piece;
	/* What is given out next; what the source has there, as far as that is known. */
	struct co_mutex lock;
	uint64_t next;
	struct blk_extent extent;
	uint64_t done;
	uint64_t n_cached;              /* bytes of the disk since the page cache was last written back */
	unsigned n_running;
	int result;
	const char *what;               /* failed */
	uint64_t where;
};

struct piece {
	struct convert *c;
	uint8_t *buf;
	uint64_t off;                   /* of the disk, multiple of the granule */
	size_t len;
	int fd;                         /* >= 0: its bytes are at HOST_OFF of that */
	uint64_t host_off;
	uint8_t *packed;                /* as large as BUF, and what is packed of each granule; NULL: nothing is */
	struct blk_packed *granules;
	bool is_zero[CONVERT_GRANULES_MAX];
};

/* --- reading ---------------------------------------------------------------------------------- */

static void piece_search(struct piece *p, size_t from, size_t to)
{
	uint64_t granule = p->c->granule;

	for (size_t at = from; at < to; at += granule)
		p->is_zero[at / granule] = blk_is_zero(p->buf + at, p->len - at < granule ? p->len - at : granule);
}

/* Granules that are not zero, while they are in the cache. One that does not become smaller stays as it is. */
static int piece_pack(struct piece *p, size_t from, size_t to)
{
	struct blk *dst = p->c->dst;
	size_t granule = (size_t)p->c->granule;

	if (p->len % granule && to == p->len)
		memset(p->buf + p->len, 0, granule - p->len % granule);
	for (size_t at = from; at < to; at += granule) {
		struct blk_packed *g = &p->granules[at / granule];

		*g = (struct blk_packed){ .raw = p->buf + at, .packed = p->packed + at };
		if (p->is_zero[at / granule])
			continue;
		int64_t n = dst->drv->pack(dst, g->raw, p->packed + at);

		if (n < 0 && n != -ENOSPC)
			return (int)n;
		g->len = n > 0 ? (uint32_t)n : 0;
	}
	return 0;
}

/* On another thread: read, search and pack. */
static int64_t piece_load(void *arg)
{
	struct piece *p = arg;
	size_t hot = CONVERT_HOT > p->c->granule ? CONVERT_HOT : p->c->granule;

	for (size_t at = 0; at < p->len; at += hot) {
		size_t n = p->len - at < hot ? p->len - at : hot;

		for (size_t got = 0; got < n && p->fd >= 0;) {
			ssize_t r = pread(p->fd, p->buf + at + got, n - got, (off_t)(p->host_off + at + got));

			if (r < 0 && errno == EINTR)
				continue;
			if (r <= 0)
				return r < 0 ? -errno : -EIO;   /* the file has become shorter */
			got += (size_t)r;
		}
		piece_search(p, at, at + n);
		int r = p->packed ? piece_pack(p, at, at + n) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}

static int piece_co_read(struct piece *p)
{
	struct blk *src = p->c->src;

	if (p->fd < 0) {
		int r = blk_co_pread(src, p->off, p->buf, p->len);

		if (r < 0)
			return r;
	}
	return (int)blk_co_call(src, piece_load, p);
}

/* --- what comes next --------------------------------------------------------------------------- */

static int convert_fail(struct convert *c, int r, const char *what, uint64_t where)
{
	if (r < 0 && !c->result) {
		c->result = r;
		c->what = what;
		c->where = where;
	}
	return r;
}

static int convert_tell(struct convert *c, uint64_t len)
{
	c->done += len;
	return c->result ? 0 : convert_fail(c, blk_progress(&c->how->progress, c->done, c->size), NULL, 0);
}

/* N bytes from c->next on read as zeroes. */
static int convert_co_skip(struct convert *c, uint64_t n)
{
	uint64_t off = c->next;

	c->next += n;
	if (!c->how->is_target_zero) {
		int r = convert_fail(c, blk_co_zeroes(c->dst, off, n, true), "writing", off);

		if (r < 0)
			return r;
	}
	return convert_tell(c, n);
}

/* The piece at c->next, up to where the extent ends or a little more, so that it is granules. */
static void convert_cut(struct convert *c, struct piece *p)
{
	const struct blk_extent *e = &c->extent;
	uint64_t end = e->off + e->len, at_most = c->next + c->piece - c->next % c->piece;

	end = align_up(end, c->granule);
	end = end < at_most ? end : at_most;
	end = end < c->size ? end : c->size;
	p->off = c->next;
	p->len = (size_t)(end - c->next);
	p->fd = -1;
	if (e->flags & BLK_EXT_HOST && e->host->drv == &blk_file && end <= e->off + e->len) {
		p->fd = ((struct file *)e->host->priv)->fd;
		p->host_off = e->host_off + (p->off - e->off);
	}
	c->next = end;
}

/* 1: P is a piece to read; 0: nothing is left. */
static int convert_co_next(struct convert *c, struct piece *p)
{
	while (!c->result && c->next < c->size) {
		struct blk_extent *e = &c->extent;

		if (c->next >= e->off + e->len) {
			int r = blk_co_map(c->src, c->next, c->size - c->next, true, e);

			if (convert_fail(c, r, "examining", c->next) < 0)
				return r;
		}
		uint64_t end = e->off + e->len, whole = end == c->size ? end : end / c->granule * c->granule;

		if (e->flags & BLK_EXT_DATA || whole <= c->next) {
			convert_cut(c, p);
			return 1;
		}
		int r = convert_co_skip(c, whole - c->next);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- writing ------------------------------------------------------------------------------------- */

static int piece_co_store(struct piece *p, size_t at, size_t len, bool is_zero)
{
	struct convert *c = p->c;
	struct iovec iov;
	int r = 0;

	if (is_zero)
		return c->how->is_target_zero ? 0 : blk_co_zeroes(c->dst, p->off + at, len, true);
	if (!c->how->is_compressed) {
		r = blk_co_pwrite(c->dst, p->off + at, p->buf + at, len);
	} else if (p->packed) {
		r = c->dst->drv->co_write_packed(c->dst, p->off + at, &p->granules[at / c->granule],
						 (unsigned)((len + c->granule - 1) / c->granule));
	} else {
		for (size_t n; !r && len; at += n, len -= n) {
			n = len < c->granule ? len : (size_t)c->granule;
			r = c->dst->drv->co_pwritev_compressed(c->dst, p->off + at, n,
							       blk_vec_of(&iov, p->buf + at, n));
			c->how->n_data += n;
		}
		return r;
	}
	c->how->n_data += len;
	return r;
}

/* Runs of what is zero and of what is not. */
static int piece_co_write(struct piece *p)
{
	size_t granule = p->c->granule;
	int r = 0;

	for (size_t at = 0, n; !r && at < p->len; at += n) {
		bool is_zero = p->is_zero[at / granule];

		for (n = granule; at + n < p->len && p->is_zero[(at + n) / granule] == is_zero; n += granule)
			;
		n = at + n < p->len ? n : p->len - at;
		r = piece_co_store(p, at, n, is_zero);
	}
	return r;
}

/* What is compressed goes through the page cache. It is on its way to the target while more is being packed. */
static void piece_co_write_back(const struct piece *p)
{
	struct convert *c = p->c;

	c->n_cached += p->len;
	if (!c->how->is_compressed || c->n_cached < CONVERT_WRITE_BACK)
		return;
	c->n_cached = 0;
	blk_file_co_write_back(c->dst->file);
}

static void piece_main(void *arg)
{
	struct piece *p = arg;
	struct convert *c = p->c;
	int r = 1;

	while (r > 0) {
		co_mutex_lock(&c->lock);
		r = convert_co_next(c, p);
		co_mutex_unlock(&c->lock);
		if (r <= 0)
			break;
		if (convert_fail(c, piece_co_read(p), "reading", p->off) < 0 ||
		    convert_fail(c, piece_co_write(p), "writing", p->off) < 0)
			break;
		convert_tell(c, p->len);
		piece_co_write_back(p);
	}
	c->n_running--;
}

/* --- all of it ------------------------------------------------------------------------------------- */

static int convert_check(const struct convert *c, struct err *err)
{
	if (c->size > c->dst->size)
		return err_set(err, -ENOSPC, "'%s' has %" PRIu64 " bytes, and the disk to be copied %" PRIu64,
			       c->dst->name,
			       c->dst->size, c->size);
	if (c->how->is_compressed && !c->dst->drv->co_pwritev_compressed)
		return err_set(err, -ENOTSUP, "images of format '%s' cannot be compressed", c->dst->drv->name);
	return 0;
}

static int convert_sentence(const struct convert *c, struct err *err)
{
	const char *name = c->what && strcmp(c->what, "writing") ? c->src->name : c->dst->name;

	if (!c->what)
		return err_set(err, c->result, "interrupted");
	return err_set(err, c->result, "%s '%s' at byte %" PRIu64 " of the disk failed: %s%s", c->what, name, c->where,
		       strerror(-c->result), c->result == -ENOSPC ? "; make room or choose another place" : "");
}

/* One coroutine per piece, until there are no more; each with a part of MEM and of GRANULES, if it is to pack. */
static void convert_run(struct convert *c, struct piece *pieces, uint8_t *mem, struct blk_packed *granules)
{
	for (unsigned i = 0; i < CONVERT_PIECES; i++) {
		pieces[i].c = c;
		pieces[i].buf = mem + i * c->piece;
		if (granules) {
			pieces[i].packed = mem + (CONVERT_PIECES + i) * c->piece;
			pieces[i].granules = granules + i * (c->piece / c->granule);
		}
		c->n_running++;
		int r = co_start(piece_main, &pieces[i]);

		if (r < 0) {
			c->n_running--;
			if (!i)
				convert_fail(c, r, "examining", 0);
			break;          /* fewer do */
		}
	}
	while (c->n_running) {
		int r = loop_run_once(c->loop, -1);

		/* It cannot be left: they use what is on our stack. */
		if (r < 0 && r != -EINTR)
			convert_fail(c, r, "waiting for", 0);
	}
}

int blk_convert(struct blk *src, struct blk *dst, struct loop *loop, struct blk_convert *how, struct err *err)
{
	struct convert c = { .src = src, .dst = dst, .loop = loop, .how = how, .size = src->size };
	int r = convert_check(&c, err);

	if (r < 0)
		return r;
	how->n_data = 0;
	c.granule = how->is_compressed || dst->cluster_size > CONVERT_GRANULE ? dst->cluster_size : CONVERT_GRANULE;
	c.piece = how->is_compressed ? CONVERT_PACKED : CONVERT_PIECE;
	c.piece = c.granule > c.piece ? (size_t)c.granule : c.piece;
	bool packs = how->is_compressed && dst->drv->pack;
	size_t bytes = c.piece * CONVERT_PIECES * (packs ? 2 : 1), n_granules = c.piece / c.granule * CONVERT_PIECES;
	AUTO(free) struct piece *pieces = calloc(CONVERT_PIECES, sizeof(*pieces));
	AUTO(free) struct blk_packed *granules = packs ? calloc(n_granules, sizeof(*granules)) : NULL;
	uint8_t *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (!pieces || (packs && !granules) || mem == MAP_FAILED) {
		r = err_set(err, -ENOMEM, "out of memory");
	} else {
		(void)madvise(mem, bytes, MADV_HUGEPAGE);
		convert_run(&c, pieces, mem, granules);
		r = c.result < 0 ? convert_sentence(&c, err) : 0;
	}
	if (mem != MAP_FAILED)
		munmap(mem, bytes);
	if (r < 0)
		return r;
	r = blk_flush(dst);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", dst->name, strerror(-r)) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/state_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_format.h"

enum {
	CHUNK = 64 << 10,       /* what is all zero in units of this is not written */
	ZSTD_LEVEL = 1,
	LANES = 4,              /* threads; with as many writes under way a disk is as fast as it can be */
	RUN_ROWS = 4,           /* rows that are written at once */
	ALLOCATE = 64 << 20,    /* packed: space on the disk is taken in pieces of this */
};

struct memory_writer {
	int fd;
	const struct gmem *mem;
	enum state_packing packing;
	struct state_progress *progress;
	struct state_sections *table;   /* a row is its lane's from when it is taken; OFF and LEN never change */
	size_t n_rows;
	int flags;                      /* of the file, when it came */
	_Atomic bool is_direct;         /* writes bypass the page cache */
	pthread_mutex_t lock;           /* of all below */
	pthread_cond_t turn;            /* PLACED or RESULT has changed */
	size_t taken;                   /* rows */
	size_t placed;                  /* packed: rows whose place in the file is known */
	uint64_t at;                    /* packed: where the next one goes */
	uint64_t allocated;             /* packed: up to here there is space on the disk */
	int result;
	struct err err;                 /* the first one */
};

/* What a thread has for itself. */
struct lane {
	struct memory_writer *w;
	ZSTD_CCtx *zstd;                /* NULL: raw */
	uint8_t *packed;
	size_t cap;
};

/* Rows [FIRST, FIRST + N): raw, neighbours in RAM. */
struct run {
	size_t first, n;
};

static struct state_extent row_get(const struct memory_writer *w, size_t i)
{
	struct state_extent e;

	memcpy(&e, w->table->buf + i * sizeof(e), sizeof(e));
	return e;
}

static void row_put(const struct memory_writer *w, size_t i, const struct state_extent *e)
{
	memcpy(w->table->buf + i * sizeof(*e), e, sizeof(*e));
}

/* --- what is not zero --- */

static bool is_zero(const uint8_t *p, size_t len)
{
	uint64_t first;

	memcpy(&first, p, sizeof(first));
	return !first && !memcmp(p, p + sizeof(first), len - sizeof(first));
}

static int rows_add(struct memory_writer *w, uint64_t off, uint64_t len, struct err *err)
{
	uint8_t *row = state_sections_grow(w->table, sizeof(struct state_extent));
	struct state_extent e = {
		.off = le64_of(off), .at = le64_of(STATE_MEMORY_OFF + off), .len = le32_of((uint32_t)len),
		.stored = le32_of((uint32_t)len),
	};

	if (!row)
		return err_set(err, -ENOMEM, "out of memory for the table of guest memory");
	memcpy(row, &e, sizeof(e));
	w->n_rows++;
	return 0;
}

/* What is not zero of [OFF, END), in pieces. */
static int rows_of_range(struct memory_writer *w, uint64_t off, uint64_t end, struct err *err)
{
	int r = 0;

	while (!r && off < end) {
		uint64_t start = off, limit = end - off < STATE_EXTENT_MAX ? end : off + STATE_EXTENT_MAX;

		while (off < limit && !is_zero(w->mem->host + off, limit - off < CHUNK ? limit - off : CHUNK))
			off += limit - off < CHUNK ? limit - off : CHUNK;
		if (off > start)
			r = rows_add(w, start, off - start, err);
		if (off < limit)
			off += limit - off < CHUNK ? limit - off : CHUNK;       /* the zeroes that ended it */
		if (!r && atomic_load_explicit(&w->progress->is_cancelled, memory_order_relaxed))
			r = err_set(err, -ECANCELED, "saving was given up");
	}
	return r;
}

static int rows_find(struct memory_writer *w, struct err *err)
{
	uint64_t off = 0, start, end;
	int r = 0;

	while (!r && gmem_next_data(w->mem, off, &start, &end)) {
		/* Neighbours in one piece, however finely the host keeps the books. */
		off = end;
		uint64_t next, next_end;
		while (end - start < STATE_EXTENT_MAX && gmem_next_data(w->mem, off, &next, &next_end) && next == end)
			off = end = next_end;
		r = rows_of_range(w, start, end, err);
	}
	return r;
}

/* --- the file --- */

int state_write_all(int fd, const void *buf, size_t len, uint64_t at, struct err *err)
{
	const uint8_t *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot write saved state: %s", strerror(errno));
		p += n;
		at += (size_t)n;
		len -= (size_t)n;
	}
	return 0;
}

/* A file in memory (fork) has no cache to bypass. */
static void direct_begin(struct memory_writer *w)
{
	w->flags = fcntl(w->fd, F_GETFL);
	w->is_direct = w->flags >= 0 && fcntl(w->fd, F_GET_SEALS) < 0 && fcntl(w->fd, F_SETFL, w->flags | O_DIRECT) == 0;
}

static void direct_end(struct memory_writer *w)
{
	if (atomic_exchange(&w->is_direct, false))
		fcntl(w->fd, F_SETFL, w->flags);
}

/* Take space on the disk before it is written: file systems let only writes to such go side by side. */
static int file_allocate(struct memory_writer *w, uint64_t at, uint64_t len, struct err *err)
{
	int r = w->is_direct ? fallocate(w->fd, 0, (off_t)at, (off_t)len) : 0;

	if (r < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG))
		return err_set(err, -errno, "cannot write saved state: %s", strerror(errno));
	return 0;                       /* what cannot be had in advance comes with the write */
}

static int file_write(struct memory_writer *w, const uint8_t *p, size_t len, uint64_t at, struct err *err)
{
	struct err why = ERR_INIT;
	int r = state_write_all(w->fd, p, len, at, &why);

	/* The file system has other wishes than multiples of 4 KiB, or the disk is full in the middle of one. */
	if (r == -EINVAL && atomic_load(&w->is_direct)) {
		direct_end(w);
		return state_write_all(w->fd, p, len, at, err);
	}
	return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
}

/* Raw: rows know their places. */
static int file_allocate_rows(struct memory_writer *w, struct err *err)
{
	int r = 0;

	for (size_t i = 0, n; !r && i < w->n_rows; i += n) {
		struct state_extent e = row_get(w, i);
		uint64_t off = le64_get(e.off), end = off + le32_get(e.len);

		for (n = 1; i + n < w->n_rows; n++) {
			e = row_get(w, i + n);
			if (le64_get(e.off) != end)
				break;
			end += le32_get(e.len);
		}
		r = file_allocate(w, STATE_MEMORY_OFF + off, end - off, err);
	}
	return r;
}

/* --- lanes --- */

/* The next rows for a lane: false when there are none, or somebody has failed. */
static bool lane_take(struct memory_writer *w, struct run *run)
{
	pthread_mutex_lock(&w->lock);
	if (!w->result && atomic_load_explicit(&w->progress->is_cancelled, memory_order_relaxed))
		w->result = err_set(&w->err, -ECANCELED, "saving was given up");
	*run = (struct run){ .first = w->taken };
	for (uint64_t end = 0; !w->result && run->n < RUN_ROWS && w->taken < w->n_rows; run->n++, w->taken++) {
		struct state_extent e = row_get(w, w->taken);

		if (w->packing == STATE_RAW && run->n && le64_get(e.off) != end)
			break;
		end = le64_get(e.off) + le32_get(e.len);
		atomic_store_explicit(&w->progress->done, end, memory_order_relaxed);
	}
	pthread_mutex_unlock(&w->lock);
	return run->n;
}

static void lane_fail(struct memory_writer *w, const struct err *why)
{
	pthread_mutex_lock(&w->lock);
	if (!w->result) {
		w->err = *why;
		w->result = why->code;
	}
	pthread_cond_broadcast(&w->turn);
	pthread_mutex_unlock(&w->lock);
}

static int lane_write_raw(struct memory_writer *w, const struct run *run, struct err *err)
{
	uint64_t off = le64_get(row_get(w, run->first).off), len = 0;

	for (size_t i = run->first; i < run->first + run->n; i++) {
		struct state_extent e = row_get(w, i);

		e.crc = le32_of(crc32c(0, w->mem->host + le64_get(e.off), le32_get(e.len)));
		len += le32_get(e.len);
		row_put(w, i, &e);
	}
	return file_write(w, w->mem->host + off, len, STATE_MEMORY_OFF + off, err);
}

/* Pack the rows one behind the other into the lane's buffer: places count from its start. The bytes, or -errno. */
static ssize_t lane_pack(struct lane *l, const struct run *run, struct err *err)
{
	size_t used = 0;

	for (size_t i = run->first; i < run->first + run->n; i++) {
		struct state_extent e = row_get(l->w, i);
		const uint8_t *p = l->w->mem->host + le64_get(e.off);
		size_t n = ZSTD_compressCCtx(l->zstd, l->packed + used, l->cap - used, p, le32_get(e.len), ZSTD_LEVEL);

		if (ZSTD_isError(n))
			return err_set(err, -EIO, "cannot compress guest memory: %s", ZSTD_getErrorName(n));
		e.at = le64_of(used);
		e.stored = le32_of((uint32_t)n);
		e.crc = le32_of(crc32c(0, p, le32_get(e.len)));
		row_put(l->w, i, &e);
		used += n;
	}
	return (ssize_t)used;
}

/* Wait until all rows before have their places; then these get theirs, LEN bytes from *AT on. */
static int lane_place(struct memory_writer *w, const struct run *run, size_t len, uint64_t *at)
{
	int r;

	pthread_mutex_lock(&w->lock);
	while (!w->result && w->placed != run->first)
		pthread_cond_wait(&w->turn, &w->lock);
	r = w->result;
	if (!r && w->at + len > w->allocated) {
		file_allocate(w, w->allocated, ALLOCATE, NULL);         /* less may be enough */
		w->allocated += ALLOCATE;
	}
	*at = w->at;
	w->at += len;
	w->placed += run->n;
	pthread_cond_broadcast(&w->turn);
	pthread_mutex_unlock(&w->lock);
	for (size_t i = run->first; i < run->first + run->n; i++) {
		struct state_extent e = row_get(w, i);

		e.at = le64_of(le64_get(e.at) + *at);
		row_put(w, i, &e);
	}
	return r;
}

static int lane_write_packed(struct lane *l, const struct run *run, struct err *err)
{
	ssize_t used = lane_pack(l, run, err);
	uint64_t at = 0;

	if (used < 0)
		return (int)used;
	/* Full blocks only: what is written past the page cache has to be. */
	size_t len = align_up((size_t)used, GMEM_PAGE_SIZE);
	memset(l->packed + used, 0, len - (size_t)used);
	int r = lane_place(l->w, run, len, &at);

	return r ? r : file_write(l->w, l->packed, len, at, err);
}

static int lane_init(struct lane *l, struct memory_writer *w, struct err *err)
{
	*l = (struct lane){ .w = w };
	if (w->packing != STATE_ZSTD)
		return 0;
	l->cap = align_up(RUN_ROWS * ZSTD_compressBound(STATE_EXTENT_MAX), GMEM_PAGE_SIZE);
	l->packed = aligned_alloc(GMEM_PAGE_SIZE, l->cap);
	l->zstd = ZSTD_createCCtx();
	return l->packed && l->zstd ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static void lane_fini(struct lane *l)
{
	ZSTD_freeCCtx(l->zstd);
	free(l->packed);
}

static void lane_run(struct memory_writer *w)
{
	struct err why = ERR_INIT;
	struct lane l;
	struct run run = { .n = 0 };
	int r = lane_init(&l, w, &why);

	while (!r && lane_take(w, &run))
		r = w->packing == STATE_RAW ? lane_write_raw(w, &run, &why) : lane_write_packed(&l, &run, &why);
	if (r < 0)
		lane_fail(w, &why);
	lane_fini(&l);
}

static void *lane_main(void *arg)
{
	pthread_setname_np(pthread_self(), "save-lane");
	lane_run(arg);
	return NULL;
}

/* As many threads as there is work for; the caller is one of them, and the only one where no other can be had. */
static int lanes_run(struct memory_writer *w, struct err *err)
{
	pthread_t thread[LANES - 1];
	size_t n = 0, runs = (w->n_rows + RUN_ROWS - 1) / RUN_ROWS;

	while (n + 1 < runs && n < ARRAY_LEN(thread) && !pthread_create(&thread[n], NULL, lane_main, w))
		n++;
	lane_run(w);
	for (size_t i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	return w->result < 0 ? err_set(err, w->result, "%s", w->err.msg) : 0;
}

/* --- the whole --- */

int state_memory_write(int fd, const struct gmem *mem, enum state_packing packing, struct state_sections *table,
		       struct state_progress *progress, uint64_t *end, struct err *err)
{
	struct memory_writer w = {
		.fd = fd, .mem = mem, .packing = packing, .progress = progress, .table = table,
		.lock = PTHREAD_MUTEX_INITIALIZER, .turn = PTHREAD_COND_INITIALIZER,
		.at = STATE_MEMORY_OFF, .allocated = STATE_MEMORY_OFF,
	};
	int r = rows_find(&w, err);

	direct_begin(&w);
	if (!r && packing == STATE_RAW)
		r = file_allocate_rows(&w, err);
	if (!r)
		r = lanes_run(&w, err);
	direct_end(&w);
	for (size_t i = 0; i < w.n_rows; i++) {
		struct state_extent e = row_get(&w, i);

		progress->memory += le32_get(e.len);
		progress->file += le32_get(e.stored);
	}
	*end = packing == STATE_RAW ? STATE_MEMORY_OFF + mem->size : w.at;
	if (!r && ftruncate(fd, (off_t)*end) < 0)
		r = err_set(err, -errno, "cannot write saved state: %s", strerror(errno));
	return r;
}

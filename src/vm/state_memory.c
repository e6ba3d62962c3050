/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/state_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_format.h"
#include "vm/state_pack.h"
#include "vm/state_rows.h"
#include "vm/state_seal.h"

enum {
	LANES = 4,              /* threads; with as many writes under way a disk is as fast as it can be */
	RUN_ROWS = 4,           /* rows that are written at once */
	ALLOCATE = 64 << 20,    /* not mapped: space on the disk is taken in pieces of this */
};

struct memory_writer {
	int fd;
	const struct gmem *mem;
	enum state_packing packing;
	const struct state_seal *seal;  /* NULL: none */
	bool is_mapped;                 /* memory lies in the file as it is: raw, not encrypted */
	struct state_progress *progress;
	struct state_rows rows;         /* one is its lane's from when it is taken; OFF and LEN never change */
	int flags;                      /* of the file, when it came */
	_Atomic bool is_direct;         /* writes bypass the page cache */
	pthread_mutex_t lock;           /* of all below */
	pthread_cond_t turn;            /* PLACED or RESULT has changed */
	size_t taken;                   /* rows */
	size_t placed;                  /* not mapped: rows whose place in the file is known */
	uint64_t at;                    /* the same: where the next one goes */
	uint64_t allocated;             /* the same: up to here there is space on the disk */
	int result;
	struct err err;                 /* the first one */
};

/* What a thread has for itself. */
struct lane {
	struct memory_writer *w;
	struct state_packer packer;
	struct state_sealer sealer;
	uint8_t *packed;                /* NULL: it is mapped */
};

/* Rows [FIRST, FIRST + N): to be mapped, neighbours in RAM. */
struct run {
	size_t first, n;
};

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

/* What is to be mapped knows its place. */
static int file_allocate_rows(struct memory_writer *w, struct err *err)
{
	int r = 0;

	for (size_t i = 0, n; !r && i < w->rows.n; i += n) {
		struct state_extent e = state_row_get(&w->rows, i);
		uint64_t off = le64_get(e.off), end = off + le32_get(e.len);

		for (n = 1; i + n < w->rows.n; n++) {
			e = state_row_get(&w->rows, i + n);
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
	for (uint64_t end = 0; !w->result && run->n < RUN_ROWS && w->taken < w->rows.n; run->n++, w->taken++) {
		struct state_extent e = state_row_get(&w->rows, w->taken);

		if (w->is_mapped && run->n && le64_get(e.off) != end)
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

static int lane_write_mapped(struct memory_writer *w, const struct run *run, struct err *err)
{
	uint64_t off = le64_get(state_row_get(&w->rows, run->first).off), len = 0;

	for (size_t i = run->first; i < run->first + run->n; i++) {
		struct state_extent e = state_row_get(&w->rows, i);

		e.crc = le32_of(crc32c(0, w->mem->host + le64_get(e.off), le32_get(e.len)));
		len += le32_get(e.len);
		state_row_put(&w->rows, i, &e);
	}
	return file_write(w, w->mem->host + off, len, STATE_MEMORY_OFF + off, err);
}

/* Row I, packed and sealed, to TO. The bytes there, or -errno. */
static ssize_t lane_pack_row(struct lane *l, size_t i, const struct state_extent *e, uint8_t *to, struct err *err)
{
	const struct memory_writer *w = l->w;
	const uint8_t *p = w->mem->host + le64_get(e->off);
	bool is_raw = w->packing == STATE_RAW;
	ssize_t n = is_raw ? (ssize_t)le32_get(e->len) : state_pack(&l->packer, to, p, le32_get(e->len), err);

	if (n < 0 || !w->seal)
		return n;
	struct state_place place = { e->off, e->len, le32_of(w->packing) };
	int r = state_seal_piece(&l->sealer, STATE_PIECE_MEMORY, i, &place, sizeof(place), to, is_raw ? p : to, (size_t)n, err);

	return r < 0 ? r : n + STATE_SEAL_TAG;
}

/* Pack the rows one behind the other into the lane's buffer: places count from its start. The bytes, or -errno. */
static ssize_t lane_pack(struct lane *l, const struct run *run, struct err *err)
{
	size_t used = 0;

	for (size_t i = run->first; i < run->first + run->n; i++) {
		struct state_extent e = state_row_get(&l->w->rows, i);
		ssize_t n = lane_pack_row(l, i, &e, l->packed + used, err);

		if (n < 0)
			return n;
		e.at = le64_of(used);
		e.stored = le32_of((uint32_t)n);
		e.crc = le32_of(crc32c(0, l->w->mem->host + le64_get(e.off), le32_get(e.len)));
		state_row_put(&l->w->rows, i, &e);
		used += (size_t)n;
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
		struct state_extent e = state_row_get(&w->rows, i);

		e.at = le64_of(le64_get(e.at) + *at);
		state_row_put(&w->rows, i, &e);
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
	*l = (struct lane){ .w = w, .packer.packing = w->packing };
	if (w->is_mapped)
		return 0;
	l->packed = aligned_alloc(GMEM_PAGE_SIZE, align_up(RUN_ROWS * (state_pack_bound() + STATE_SEAL_TAG), GMEM_PAGE_SIZE));
	if (!l->packed)
		return err_set(err, -ENOMEM, "out of memory");
	return w->seal ? state_sealer_init(&l->sealer, w->seal, err) : 0;
}

static void lane_fini(struct lane *l)
{
	state_packer_fini(&l->packer);
	state_sealer_fini(&l->sealer);
	free(l->packed);
}

static void lane_run(struct memory_writer *w)
{
	struct err why = ERR_INIT;
	struct lane l;
	struct run run = { .n = 0 };
	int r = lane_init(&l, w, &why);

	while (!r && lane_take(w, &run))
		r = w->is_mapped ? lane_write_mapped(w, &run, &why) : lane_write_packed(&l, &run, &why);
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
	size_t n = 0, runs = (w->rows.n + RUN_ROWS - 1) / RUN_ROWS;

	while (n + 1 < runs && n < ARRAY_LEN(thread) && !pthread_create(&thread[n], NULL, lane_main, w))
		n++;
	lane_run(w);
	for (size_t i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	return w->result < 0 ? err_set(err, w->result, "%s", w->err.msg) : 0;
}

/* --- the whole --- */

int state_memory_write(int fd, const struct gmem *mem, enum state_packing packing, const struct state_seal *seal,
		       struct state_sections *table, struct state_progress *progress, uint64_t *end, struct err *err)
{
	struct memory_writer w = {
		.fd = fd, .mem = mem, .packing = packing, .seal = seal, .is_mapped = packing == STATE_RAW && !seal, .progress = progress, .rows.table = table,
		.lock = PTHREAD_MUTEX_INITIALIZER, .turn = PTHREAD_COND_INITIALIZER,
		.at = STATE_MEMORY_OFF, .allocated = STATE_MEMORY_OFF,
	};
	int r = state_rows_find(&w.rows, mem, progress, err);

	direct_begin(&w);
	if (!r && w.is_mapped)
		r = file_allocate_rows(&w, err);
	if (!r)
		r = lanes_run(&w, err);
	direct_end(&w);
	for (size_t i = 0; i < w.rows.n; i++) {
		struct state_extent e = state_row_get(&w.rows, i);

		progress->memory += le32_get(e.len);
		progress->file += le32_get(e.stored);
	}
	*end = w.is_mapped ? STATE_MEMORY_OFF + mem->size : w.at;
	if (!r && ftruncate(fd, (off_t)*end) < 0)
		r = err_set(err, -errno, "cannot write saved state: %s", strerror(errno));
	return r;
}

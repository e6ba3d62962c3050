/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the file of a saved machine; state_file.c reads it. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_file.h"
#include "vm/state_format.h"

enum {
	CHUNK = 64 << 10,       /* what is all zero in units of this is not written */
	ZSTD_LEVEL = 1,
};

struct writer {
	int fd;
	const struct gmem *mem;
	enum state_packing packing;
	struct state_progress *progress;
	struct state_sections table;    /* of struct state_extent */
	uint64_t at;                    /* where the next packed piece goes */
	uint8_t *packed;
	size_t packed_cap;
	ZSTD_CCtx *zstd;
};

/* --- sections --- */

void state_sections_fini(struct state_sections *s)
{
	free(s->buf);
	*s = (struct state_sections){ .buf = NULL };
}

/* Room for N more bytes; NULL: the whole is broken. */
static uint8_t *state_sections_grow(struct state_sections *s, size_t n)
{
	if (s->is_broken || n > STATE_SECTIONS_MAX - s->len) {
		s->is_broken = true;
		return NULL;
	}
	if (s->len + n > s->cap) {
		size_t cap = 2 * (s->len + n);
		uint8_t *p = realloc(s->buf, cap);

		s->is_broken = !p;
		if (!p)
			return NULL;
		s->buf = p;
		s->cap = cap;
	}
	s->len += n;
	return s->buf + s->len - n;
}

void state_sections_add(struct state_sections *s, const char *tag, const void *data, size_t len)
{
	size_t n = strlen(tag);
	uint8_t *p = state_sections_grow(s, 1 + n + 4 + len + 4);

	if (!p)
		return;
	p[0] = (uint8_t)n;
	memcpy(p + 1, tag, n);
	put_le32(p + 1 + n, (uint32_t)len);
	if (len)
		memcpy(p + 1 + n + 4, data, len);
	put_le32(p + 1 + n + 4 + len, crc32c(0, p, 1 + n + 4 + len));
}

void state_sections_add_fields(struct state_sections *s, const char *tag, const struct state_desc *d, const void *state)
{
	size_t len = fields_saved_size(d);
	AUTO(free) uint8_t *buf = malloc(len);

	if (!buf || fields_save(d, state, buf, len) < 0)
		s->is_broken = true;
	else
		state_sections_add(s, tag, buf, len);
}

/* --- bytes --- */

static int write_all(int fd, const void *buf, size_t len, uint64_t at, struct err *err)
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

static bool is_zero(const uint8_t *p, size_t len)
{
	uint64_t first;

	memcpy(&first, p, sizeof(first));
	return !first && !memcmp(p, p + sizeof(first), len - sizeof(first));
}

/* --- memory --- */

static int pack_extent(struct writer *w, const uint8_t *p, size_t len, size_t *stored, struct err *err)
{
	if (!w->zstd) {
		w->zstd = ZSTD_createCCtx();
		w->packed_cap = ZSTD_compressBound(STATE_EXTENT_MAX);
		w->packed = malloc(w->packed_cap);
	}
	if (!w->zstd || !w->packed)
		return err_set(err, -ENOMEM, "out of memory");
	*stored = ZSTD_compressCCtx(w->zstd, w->packed, w->packed_cap, p, len, ZSTD_LEVEL);
	if (ZSTD_isError(*stored))
		return err_set(err, -EIO, "cannot compress guest memory: %s", ZSTD_getErrorName(*stored));
	return 0;
}

static int write_extent(struct writer *w, uint64_t off, size_t len, struct err *err)
{
	const uint8_t *p = w->mem->host + off;
	uint64_t at = w->packing == STATE_RAW ? STATE_MEMORY_OFF + off : w->at;
	size_t stored = len;
	int r = w->packing == STATE_RAW ? 0 : pack_extent(w, p, len, &stored, err);

	if (!r)
		r = write_all(w->fd, w->packing == STATE_RAW ? p : w->packed, stored, at, err);
	if (r < 0)
		return r;
	uint8_t *row = state_sections_grow(&w->table, sizeof(struct state_extent));
	if (!row)
		return err_set(err, -ENOMEM, "out of memory for the table of guest memory");
	struct state_extent e = {
		.off = le64_of(off), .at = le64_of(at), .len = le32_of((uint32_t)len), .stored = le32_of((uint32_t)stored),
		.crc = le32_of(crc32c(0, p, len)),
	};
	memcpy(row, &e, sizeof(e));
	w->at = at + stored;
	w->progress->memory += len;
	w->progress->file += stored;
	return 0;
}

/* What is not zero of [OFF, END), in pieces. */
static int write_range(struct writer *w, uint64_t off, uint64_t end, struct err *err)
{
	while (off < end) {
		uint64_t start = off, limit = end - off < STATE_EXTENT_MAX ? end : off + STATE_EXTENT_MAX;

		while (off < limit && !is_zero(w->mem->host + off, limit - off < CHUNK ? limit - off : CHUNK))
			off += limit - off < CHUNK ? limit - off : CHUNK;
		int r = off > start ? write_extent(w, start, off - start, err) : 0;
		if (r < 0)
			return r;
		if (off < limit)
			off += limit - off < CHUNK ? limit - off : CHUNK;       /* the zeroes that ended it */
		atomic_store_explicit(&w->progress->done, off, memory_order_relaxed);
		if (atomic_load_explicit(&w->progress->is_cancelled, memory_order_relaxed))
			return err_set(err, -ECANCELED, "saving was given up");
	}
	return 0;
}

static int write_memory(struct writer *w, struct err *err)
{
	uint64_t off = 0, start, end;
	int r = 0;

	w->at = STATE_MEMORY_OFF;
	while (!r && gmem_next_data(w->mem, off, &start, &end)) {
		/* Neighbours in one piece, however finely the host keeps the books. */
		off = end;
		uint64_t next, next_end;
		while (end - start < STATE_EXTENT_MAX && gmem_next_data(w->mem, off, &next, &next_end) && next == end)
			off = end = next_end;
		r = write_range(w, start, end, err);
	}
	if (w->packing == STATE_RAW)
		w->at = STATE_MEMORY_OFF + w->mem->size;
	return r;
}

/* --- the whole --- */

static int write_ends(struct writer *w, const struct state_sections *s, struct err *err)
{
	uint64_t memory_len = w->at - STATE_MEMORY_OFF, file_len = w->at + s->len + sizeof(struct state_end);
	struct state_header h = {
		.magic = "", .version = le32_of(STATE_VERSION), .file_len = le64_of(file_len),
		.memory_off = le64_of(STATE_MEMORY_OFF), .memory_len = le64_of(memory_len), .ram = le64_of(w->mem->size),
		.sections_off = le64_of(w->at), .sections_len = le32_of((uint32_t)s->len), .packing = le32_of(w->packing),
	};
	memcpy(h.magic, STATE_MAGIC, sizeof(h.magic));
	h.crc = le32_of(crc32c(0, &h, sizeof(h)));
	struct state_end end = { .header_crc = h.crc };
	memcpy(end.magic, STATE_END_MAGIC, sizeof(end.magic));

	int r = write_all(w->fd, s->buf, s->len, w->at, err);
	if (!r)
		r = write_all(w->fd, &end, sizeof(end), w->at + s->len, err);
	if (!r)
		r = write_all(w->fd, &h, sizeof(h), 0, err);
	w->progress->file += s->len + sizeof(end) + sizeof(h);
	return r;
}

int state_write(int fd, const struct gmem *mem, enum state_packing packing, struct state_sections *s,
		struct state_progress *progress, struct err *err)
{
	struct writer w = { .fd = fd, .mem = mem, .packing = packing, .progress = progress };
	int r = write_memory(&w, err);

	if (!r)
		state_sections_add(s, STATE_TABLE_TAG, w.table.buf, w.table.len);
	if (!r && (s->is_broken || w.table.is_broken))
		r = err_set(err, -ENOMEM, "out of memory for saved state");
	if (!r)
		r = write_ends(&w, s, err);
	state_sections_fini(&w.table);
	ZSTD_freeCCtx(w.zstd);
	free(w.packed);
	return r;
}

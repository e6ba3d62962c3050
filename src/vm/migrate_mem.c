/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_mem.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <string.h>
#include <time.h>
#include <zstd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum {
	RUN_PAGES = 64,                 /* of one record */
	RUN_BYTES = RUN_PAGES * GMEM_PAGE_SIZE,
	ZSTD_LEVEL = 1,
	PACE_MS = 10,                   /* longest nap of a sender with a limit */
};
_Static_assert((int)RUN_BYTES <= (int)MIGRATE_PAGES_MAX, "a run is one record");

static bool is_zero(const uint8_t *p, size_t len)
{
	uint64_t first;

	memcpy(&first, p, sizeof(first));
	return !first && !memcmp(p, p + sizeof(first), len - sizeof(first));
}

/* --- sending --- */

static uint64_t sender_pages(const struct migrate_sender *s)
{
	return s->mem->size >> GMEM_PAGE_SHIFT;
}

static uint64_t sender_words(const struct migrate_sender *s)
{
	return (sender_pages(s) + 63) / 64;
}

int migrate_sender_init(struct migrate_sender *s, struct migrate_link *link, struct gmem *mem,
			enum migrate_packing packing, uint64_t bandwidth, struct err *err)
{
	size_t zstd = ZSTD_compressBound(RUN_BYTES), lz4 = (size_t)LZ4_compressBound(RUN_BYTES);

	*s = (struct migrate_sender){ .link = link, .mem = mem, .packing = packing, .bandwidth = bandwidth };
	s->packed_cap = zstd > lz4 ? zstd : lz4;
	s->bitmap = calloc(sender_words(s), sizeof(s->bitmap[0]));
	s->copy = malloc(RUN_BYTES);
	s->packed = malloc(s->packed_cap);
	s->zstd = ZSTD_createCCtx();
	s->pace_ns = loop_now_ns();
	return s->bitmap && s->copy && s->packed && s->zstd ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void migrate_sender_fini(struct migrate_sender *s)
{
	free(s->bitmap);
	free(s->copy);
	free(s->packed);
	ZSTD_freeCCtx(s->zstd);
	s->bitmap = NULL;
	s->copy = s->packed = NULL;
	s->zstd = NULL;
}

static uint64_t sender_count(struct migrate_sender *s)
{
	uint64_t n = 0;

	for (uint64_t w = 0; w < sender_words(s); w++)
		n += (unsigned)__builtin_popcountll(s->bitmap[w]);
	atomic_store_explicit(&s->pages_left, n, memory_order_relaxed);
	return n << GMEM_PAGE_SHIFT;
}

uint64_t migrate_sender_take_all(struct migrate_sender *s)
{
	uint64_t start, end;

	for (uint64_t off = 0; gmem_next_data(s->mem, off, &start, &end); off = end) {
		for (uint64_t p = start >> GMEM_PAGE_SHIFT; p < end >> GMEM_PAGE_SHIFT; p++)
			s->bitmap[p / 64] |= 1ull << (p % 64);
	}
	return sender_count(s);
}

uint64_t migrate_sender_take_dirty(struct migrate_sender *s)
{
	gmem_log_fetch(s->mem, s->bitmap);
	return sender_count(s);
}

/* Sleep until the average since the last start is below the limit. */
static void sender_pace(struct migrate_sender *s)
{
	uint64_t sent = atomic_load_explicit(&s->link->sent, memory_order_relaxed) - s->pace_sent;
	uint64_t due = s->bandwidth ? (uint64_t)((unsigned __int128)sent * 1000000000u / s->bandwidth) : 0;

	while (due && loop_now_ns() - s->pace_ns < due && !atomic_load(&s->link->is_cancelled)) {
		uint64_t wait = due - (loop_now_ns() - s->pace_ns);

		wait = wait < PACE_MS * 1000000u ? wait : PACE_MS * 1000000u;
		nanosleep(&(struct timespec){ .tv_nsec = (long)wait }, NULL);
	}
	/* What it could not use, for a second at most, it may catch up with. */
	if (loop_now_ns() - s->pace_ns > 1000000000u) {
		s->pace_ns = loop_now_ns();
		s->pace_sent += sent;
	}
}

/* N bytes at OFF, a copy of which is at P: packed where that makes them fewer. */
static int sender_send(struct migrate_sender *s, uint64_t off, const uint8_t *p, size_t n, struct err *err)
{
	struct migrate_pages h = { .off = le64_of(off), .len = le32_of((uint32_t)n), .packing = le32_of(MIGRATE_RAW) };
	size_t stored = n;

	if (s->packing == MIGRATE_ZSTD)
		stored = ZSTD_compressCCtx(s->zstd, s->packed, s->packed_cap, p, n, ZSTD_LEVEL);
	else if (s->packing == MIGRATE_LZ4)
		stored = (size_t)LZ4_compress_default((const char *)p, (char *)s->packed, (int)n, (int)s->packed_cap);
	if (s->packing != MIGRATE_RAW && !ZSTD_isError(stored) && stored && stored < n) {
		h.packing = le32_of(s->packing);
		p = s->packed;
	} else {
		stored = n;
	}
	atomic_fetch_add_explicit(&s->pages_sent, n >> GMEM_PAGE_SHIFT, memory_order_relaxed);
	return migrate_send(s->link, MIGRATE_PAGES, &h, sizeof(h), p, stored, err);
}

static int sender_send_zeroes(struct migrate_sender *s, uint64_t off, size_t n, struct err *err)
{
	struct migrate_pages h = { .off = le64_of(off), .len = le32_of((uint32_t)n), .packing = le32_of(MIGRATE_ZERO) };

	return migrate_send(s->link, MIGRATE_PAGES, &h, sizeof(h), NULL, 0, err);
}

/* N pages from page FIRST on: runs of zeroes and runs of others. */
static int sender_run(struct migrate_sender *s, uint64_t first, unsigned n, bool is_first, struct err *err)
{
	uint64_t off = first << GMEM_PAGE_SHIFT;
	int r = 0;

	memcpy(s->copy, s->mem->host + off, (size_t)n << GMEM_PAGE_SHIFT);
	for (unsigned i = 0, k; !r && i < n; i = k) {
		bool zero = is_zero(s->copy + (size_t)i * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);

		for (k = i + 1; k < n && is_zero(s->copy + (size_t)k * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE) == zero;)
			k++;
		uint64_t at = off + (uint64_t)i * GMEM_PAGE_SIZE;
		size_t len = (size_t)(k - i) * GMEM_PAGE_SIZE;
		if (zero)
			atomic_fetch_add_explicit(&s->pages_zero, k - i, memory_order_relaxed);
		if (!zero)
			r = sender_send(s, at, s->copy + (size_t)i * GMEM_PAGE_SIZE, len, err);
		else if (!is_first)
			r = sender_send_zeroes(s, at, len, err);
	}
	atomic_fetch_sub_explicit(&s->pages_left, n, memory_order_relaxed);
	return r;
}

static bool sender_has(const struct migrate_sender *s, uint64_t page)
{
	return s->bitmap[page / 64] >> (page % 64) & 1;
}

int migrate_sender_round(struct migrate_sender *s, bool is_first, struct err *err)
{
	uint64_t pages = sender_pages(s);
	int r = 0;

	for (uint64_t p = 0; !r && p < pages;) {
		unsigned n = 0;

		if (!s->bitmap[p / 64]) {
			p = (p / 64 + 1) * 64;
			continue;
		}
		while (n < RUN_PAGES && p + n < pages && sender_has(s, p + n))
			n++;
		if (n)
			r = sender_run(s, p, n, is_first, err);
		p += n ? n : 1;
		if (n)
			sender_pace(s);
	}
	memset(s->bitmap, 0, sender_words(s) * sizeof(s->bitmap[0]));
	return r;
}

/* --- receiving --- */

void migrate_receiver_fini(struct migrate_receiver *r)
{
	ZSTD_freeDCtx(r->zstd);
	r->zstd = NULL;
}

static bool receiver_unpack(struct migrate_receiver *r, enum migrate_packing packing, uint8_t *to, size_t len,
			    const uint8_t *p, size_t stored)
{
	switch (packing) {
	case MIGRATE_ZERO:
		if (!stored)
			memset(to, 0, len);
		return !stored;
	case MIGRATE_RAW:
		if (stored == len)
			memcpy(to, p, len);
		return stored == len;
	case MIGRATE_ZSTD:
		if (!r->zstd)
			r->zstd = ZSTD_createDCtx();
		return r->zstd && ZSTD_decompressDCtx(r->zstd, to, len, p, stored) == len;
	case MIGRATE_LZ4:
		return LZ4_decompress_safe((const char *)p, (char *)to, (int)stored, (int)len) == (int)len;
	}
	return false;
}

int migrate_receive_pages(struct migrate_receiver *r, const struct migrate_record *rec, struct err *err)
{
	struct migrate_pages h;

	if (rec->len < sizeof(h))
		return err_set(err, -EPROTO, "a piece of guest memory is cut short");
	memcpy(&h, rec->p, sizeof(h));
	uint64_t off = le64_get(h.off);
	uint32_t len = le32_get(h.len);
	if (!len || len > MIGRATE_PAGES_MAX || (off | len) % GMEM_PAGE_SIZE || !range_fits(off, len, r->mem->size))
		return err_set(err, -EPROTO, "a piece of guest memory lies at an impossible place (%" PRIu32 " bytes at 0x%"
			       PRIx64 ")", len, off);
	if (!receiver_unpack(r, (enum migrate_packing)le32_get(h.packing), r->mem->host + off, len, rec->p + sizeof(h),
			     rec->len - sizeof(h)))
		return err_set(err, -EPROTO, "a piece of guest memory cannot be unpacked (at 0x%" PRIx64 ")", off);
	r->bytes += len;
	return 0;
}

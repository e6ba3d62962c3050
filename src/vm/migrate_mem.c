/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/migrate_mem.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <string.h>
#include <time.h>
#include <zstd.h>
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum {
	RUN_PAGES = 64,                 /* of one record */
	RUN_BYTES = RUN_PAGES * GMEM_PAGE_SIZE,
	ZSTD_LEVEL = 1,
	PACE_MS = 10,                   /* longest nap of a sender with a limit */
};
_Static_assert((int)RUN_BYTES <= (int)MIGRATE_PAGES_MAX && RUN_PAGES == 64, "a run is one record, and at most one word");

static bool is_zero(const uint8_t *p, size_t len)
{
	uint64_t first;

	memcpy(&first, p, sizeof(first));
	return !first && !memcmp(p, p + sizeof(first), len - sizeof(first));
}

/* --- what is to be sent --- */

static uint64_t sender_pages(const struct migrate_sender *s)
{
	return s->mem->size >> GMEM_PAGE_SHIFT;
}

static uint64_t sender_words(const struct migrate_sender *s)
{
	return (sender_pages(s) + 63) / 64;
}

int migrate_sender_init(struct migrate_sender *s, struct gmem *mem, enum migrate_packing packing, uint64_t bandwidth,
			struct err *err)
{
	*s = (struct migrate_sender){ .mem = mem, .packing = packing, .bandwidth = bandwidth, .pace_ns = loop_now_ns() };
	pthread_mutex_init(&s->pace_lock, NULL);
	s->bitmap = calloc(sender_words(s), sizeof(s->bitmap[0]));
	return s->bitmap ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void migrate_sender_fini(struct migrate_sender *s)
{
	if (s->mem)
		pthread_mutex_destroy(&s->pace_lock);
	free(s->bitmap);
	s->bitmap = NULL;
	s->mem = NULL;
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

uint64_t migrate_sender_take_more(struct migrate_sender *s)
{
	gmem_log_fetch_more(s->mem, s->bitmap);
	return sender_count(s);
}

/* --- the limit of bandwidth --- */

void migrate_sender_set_bandwidth(struct migrate_sender *s, uint64_t bandwidth)
{
	pthread_mutex_lock(&s->pace_lock);
	s->bandwidth = bandwidth;
	s->paced = 0;
	s->pace_ns = loop_now_ns();
	pthread_mutex_unlock(&s->pace_lock);
}

/* N more bytes have been sent: for how long everybody rests. What could not be used, for a second at most, may be caught
 * up with. */
static uint64_t sender_account(struct migrate_sender *s, uint64_t n)
{
	uint64_t now, due, wait = 0;

	pthread_mutex_lock(&s->pace_lock);
	now = loop_now_ns();
	s->paced += n;
	due = s->bandwidth ? (uint64_t)((unsigned __int128)s->paced * 1000000000u / s->bandwidth) : 0;
	if (due > now - s->pace_ns)
		wait = due - (now - s->pace_ns);
	if (!wait && now - s->pace_ns > 1000000000u) {
		s->pace_ns = now;
		s->paced = 0;
	}
	pthread_mutex_unlock(&s->pace_lock);
	return wait < PACE_MS * 1000000u ? wait : PACE_MS * 1000000u;
}

void migrate_sender_spend(struct migrate_sender *s, uint64_t n)
{
	(void)sender_account(s, n);
}

static bool lane_is_over(const struct migrate_lane *l)
{
	return atomic_load_explicit(&l->sender->is_over, memory_order_relaxed) || atomic_load(&l->link->is_cancelled);
}

/* Sleep until the average of all lanes is below the limit. */
static void lane_pace(struct migrate_lane *l)
{
	uint64_t sent = atomic_load_explicit(&l->link->sent, memory_order_relaxed), wait;

	wait = sender_account(l->sender, sent - l->paced);
	l->paced = sent;
	while (wait && !lane_is_over(l)) {
		nanosleep(&(struct timespec){ .tv_nsec = (long)wait }, NULL);
		wait = sender_account(l->sender, 0);
	}
}

/* --- a lane --- */

int migrate_lane_init(struct migrate_lane *l, struct migrate_sender *s, struct migrate_link *link, unsigned n, unsigned of,
		      struct err *err)
{
	size_t zstd = ZSTD_compressBound(RUN_BYTES), lz4 = (size_t)LZ4_compressBound(RUN_BYTES);

	*l = (struct migrate_lane){ .sender = s, .link = link, .n = n, .of = of, .packed_cap = zstd > lz4 ? zstd : lz4 };
	l->copy = malloc(RUN_BYTES);
	l->packed = malloc(l->packed_cap);
	l->zstd = ZSTD_createCCtx();
	return l->copy && l->packed && l->zstd ? 0 : err_set(err, -ENOMEM, "out of memory");
}

void migrate_lane_fini(struct migrate_lane *l)
{
	free(l->copy);
	free(l->packed);
	ZSTD_freeCCtx(l->zstd);
	l->copy = l->packed = NULL;
	l->zstd = NULL;
}

/* N bytes at OFF, a copy of which is at P: packed where that makes them fewer. */
static int lane_send(struct migrate_lane *l, uint64_t off, const uint8_t *p, size_t n, struct err *err)
{
	struct migrate_pages h = { .off = le64_of(off), .len = le32_of((uint32_t)n), .packing = le32_of(MIGRATE_RAW) };
	enum migrate_packing packing = l->sender->packing;
	size_t stored = n;

	if (packing == MIGRATE_ZSTD)
		stored = ZSTD_compressCCtx(l->zstd, l->packed, l->packed_cap, p, n, ZSTD_LEVEL);
	else if (packing == MIGRATE_LZ4)
		stored = (size_t)LZ4_compress_default((const char *)p, (char *)l->packed, (int)n, (int)l->packed_cap);
	if (packing != MIGRATE_RAW && !ZSTD_isError(stored) && stored && stored < n) {
		h.packing = le32_of(packing);
		p = l->packed;
	} else {
		stored = n;
	}
	atomic_fetch_add_explicit(&l->sender->pages_sent, n >> GMEM_PAGE_SHIFT, memory_order_relaxed);
	return migrate_send(l->link, MIGRATE_PAGES, &h, sizeof(h), p, stored, err);
}

static int lane_send_zeroes(struct migrate_lane *l, uint64_t off, size_t n, struct err *err)
{
	struct migrate_pages h = { .off = le64_of(off), .len = le32_of((uint32_t)n), .packing = le32_of(MIGRATE_ZERO) };

	return migrate_send(l->link, MIGRATE_PAGES, &h, sizeof(h), NULL, 0, err);
}

/* N pages from page FIRST on: runs of zeroes and runs of others. */
static int lane_run(struct migrate_lane *l, uint64_t first, unsigned n, bool is_first, struct err *err)
{
	struct migrate_sender *s = l->sender;
	uint64_t off = first << GMEM_PAGE_SHIFT;
	int r = 0;

	memcpy(l->copy, s->mem->host + off, (size_t)n << GMEM_PAGE_SHIFT);
	for (unsigned i = 0, k; !r && i < n; i = k) {
		bool zero = is_zero(l->copy + (size_t)i * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE);

		for (k = i + 1; k < n && is_zero(l->copy + (size_t)k * GMEM_PAGE_SIZE, GMEM_PAGE_SIZE) == zero;)
			k++;
		uint64_t at = off + (uint64_t)i * GMEM_PAGE_SIZE;
		size_t len = (size_t)(k - i) * GMEM_PAGE_SIZE;
		if (zero)
			atomic_fetch_add_explicit(&s->pages_zero, k - i, memory_order_relaxed);
		if (!zero)
			r = lane_send(l, at, l->copy + (size_t)i * GMEM_PAGE_SIZE, len, err);
		else if (!is_first)
			r = lane_send_zeroes(l, at, len, err);
	}
	atomic_fetch_sub_explicit(&s->pages_left, n, memory_order_relaxed);
	return r;
}

int migrate_lane_send(struct migrate_lane *l, uint64_t first, unsigned n, bool if_paced, struct err *err)
{
	int r = lane_run(l, first, n, false, err);

	if (!r && if_paced)
		lane_pace(l);
	return r;
}

/* The pages of word W of the bitmap. */
static int lane_word(struct migrate_lane *l, uint64_t w, bool is_first, struct err *err)
{
	uint64_t bits = l->sender->bitmap[w];
	int r = 0;

	l->sender->bitmap[w] = 0;
	while (!r && bits) {
		unsigned first = (unsigned)__builtin_ctzll(bits);
		uint64_t rest = ~(bits >> first);
		unsigned n = rest ? (unsigned)__builtin_ctzll(rest) : RUN_PAGES;

		n = n < RUN_PAGES - first ? n : RUN_PAGES - first;
		r = lane_run(l, w * RUN_PAGES + first, n, is_first, err);
		bits &= first + n < RUN_PAGES ? ~0ull << (first + n) : 0;
		lane_pace(l);
	}
	return r;
}

int migrate_lane_round(struct migrate_lane *l, bool is_first, struct err *err)
{
	uint64_t words = sender_words(l->sender);
	int r = 0;

	for (uint64_t w = l->n; !r && w < words; w += l->of) {
		if (lane_is_over(l))
			return err_set(err, -ECANCELED, "the migration was cancelled");
		if (atomic_load_explicit(&l->sender->is_cut, memory_order_relaxed))
			return 0;
		if (l->sender->bitmap[w])
			r = lane_word(l, w, is_first, err);
	}
	return r;
}

/* --- receiving --- */

void migrate_receiver_fini(struct migrate_receiver *r)
{
	ZSTD_freeDCtx(r->zstd);
	free(r->bounce);
	r->zstd = NULL;
	r->bounce = NULL;
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
	if (r->lazy && !r->bounce && !(r->bounce = malloc(MIGRATE_PAGES_MAX)))
		return err_set(err, -ENOMEM, "out of memory");
	uint8_t *to = r->lazy ? r->bounce : r->mem->host + off;
	if (!receiver_unpack(r, (enum migrate_packing)le32_get(h.packing), to, len, rec->p + sizeof(h), rec->len - sizeof(h)))
		return err_set(err, -EPROTO, "a piece of guest memory cannot be unpacked (at 0x%" PRIx64 ")", off);
	r->bytes += len;
	return r->lazy ? lazy_place(r->lazy, off, to, len, err) : 0;
}

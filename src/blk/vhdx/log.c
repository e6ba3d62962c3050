/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - the log, 2.3: changes of metadata, written there before they go to their places.
 *
 * Each entry that we write is a sequence of its own, as what the one before it says is durable in its place when it is
 * written. A log of others is replayed as the format has it. */
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_HEADER_LEN = 64, DESC_LEN = 32, DATA_LEAD = 8, DATA_LEN = 4084, DATA_TRAIL = 4, PAGES_MAX = 120 };

/* --- writing ---------------------------------------------------------------------------------- */

static size_t entry_desc_len(uint64_t n)
{
	return align_up(ENTRY_HEADER_LEN + n * DESC_LEN, VHDX_LOG_SECTOR);
}

static void entry_build(struct vhdx *s, uint8_t *buf, size_t len, const struct bat_write *w, unsigned n)
{
	uint64_t file = s->t.b->file->size, sequence = s->log_sequence;
	uint8_t *data = buf + entry_desc_len(n);

	memcpy(buf, "loge", 4);
	put_le32(buf + 8, (uint32_t)len);
	put_le32(buf + 12, (uint32_t)s->log_at);        /* the sequence begins and ends here */
	put_le64(buf + 16, sequence);
	put_le32(buf + 24, n);
	memcpy(buf + 32, s->header.log_guid, 16);
	put_le64(buf + 48, file / VHDX_MB * VHDX_MB);
	put_le64(buf + 56, align_up(file, VHDX_MB));
	for (unsigned i = 0; i < n; i++, data += VHDX_LOG_SECTOR) {
		uint8_t *d = buf + ENTRY_HEADER_LEN + (size_t)i * DESC_LEN;

		memcpy(d, "desc", 4);
		memcpy(d + 4, w[i].data + DATA_LEAD + DATA_LEN, DATA_TRAIL);
		memcpy(d + 8, w[i].data, DATA_LEAD);
		put_le64(d + 16, w[i].off);
		put_le64(d + 24, sequence);
		memcpy(data, "data", 4);
		put_le32(data + 4, (uint32_t)(sequence >> 32));
		memcpy(data + 8, w[i].data + DATA_LEAD, DATA_LEN);
		put_le32(data + 8 + DATA_LEN, (uint32_t)sequence);
	}
	vhdx_sum(buf, len);
}

static int log_some(struct vhdx *s, const struct bat_write *w, unsigned n)
{
	size_t len = entry_desc_len(n) + (size_t)n * VHDX_LOG_SECTOR;
	AUTO(free) uint8_t *buf = calloc(1, len);
	struct blk *file = s->t.b->file;

	if (!buf)
		return -ENOMEM;
	if (s->log_at + len > le32_get(s->header.log_len))
		s->log_at = 0;
	entry_build(s, buf, len, w, n);
	int r = blk_co_pwrite(file, le64_get(s->header.log_off) + s->log_at, buf, len);

	if (!r)
		r = blk_co_flush(file);
	if (r < 0)
		return r;
	s->log_at += len;
	s->log_sequence++;
	for (unsigned i = 0; !r && i < n; i++)
		r = blk_co_pwrite(file, w[i].off, w[i].data, VHDX_LOG_SECTOR);
	return r;
}

int vhdx_log_write(struct vhdx *s, const struct bat_write *w, unsigned n)
{
	int r = 0;

	for (unsigned i = 0, k; !r && i < n; i += k) {
		k = n - i < PAGES_MAX ? n - i : PAGES_MAX;
		if (i)
			r = blk_co_flush(s->t.b->file);
		if (!r)
			r = log_some(s, w + i, k);
	}
	return r;
}

/* --- replaying -------------------------------------------------------------------------------- */

struct replay { uint8_t *log; uint64_t len; uint8_t guid[16]; };
struct entry { uint64_t at, len, sequence, tail; };

/* Bytes [AT, AT+LEN) of the log, which is a ring, to BUF. */
static void ring_get(const struct replay *p, uint64_t at, uint8_t *buf, uint64_t len)
{
	uint64_t first = p->len - at < len ? p->len - at : len;

	memcpy(buf, p->log + at, first);
	memcpy(buf + first, p->log, len - first);
}

/* The entry at AT; its bytes in *BUF, which the caller frees. False: there is none. */
static bool entry_at(const struct replay *p, uint64_t at, struct entry *e, uint8_t **buf)
{
	const uint8_t *h = p->log + at;

	*buf = NULL;
	if (memcmp(h, "loge", 4) || memcmp(h + 32, p->guid, 16))
		return false;
	*e = (struct entry){ .at = at, .len = get_le32(h + 8), .tail = get_le32(h + 12), .sequence = get_le64(h + 16) };
	if (!e->len || e->len % VHDX_LOG_SECTOR || e->len > p->len || !e->sequence || e->tail % VHDX_LOG_SECTOR ||
	    e->tail >= p->len || entry_desc_len(get_le32(h + 24)) > e->len)
		return false;
	*buf = malloc(e->len);
	if (!*buf)
		return false;
	ring_get(p, at, *buf, e->len);
	if (vhdx_sum_is_good(*buf, e->len))
		return true;
	free(*buf);
	*buf = NULL;
	return false;
}

/* From START on entries that follow each other: the last of them, if its tail is among them. Returns the bytes. */
static uint64_t sequence_at(const struct replay *p, uint64_t start, struct entry *last)
{
	uint64_t total = 0;
	bool has_tail = false;
	struct entry e;
	uint8_t *buf;

	*last = (struct entry){ .sequence = 0 };
	while (total < p->len && entry_at(p, (start + total) % p->len, &e, &buf)) {
		free(buf);
		if (total && e.sequence != last->sequence + 1)
			break;
		*last = e;
		total += e.len;
	}
	if (!total)
		return 0;
	has_tail = (last->tail + p->len - start) % p->len < total;
	if (!has_tail)
		last->sequence = 0;
	return total;
}

/* The sequence that counts: the one with the highest number. */
static bool replay_find(const struct replay *p, struct entry *out)
{
	out->sequence = 0;
	for (uint64_t at = 0, n; at < p->len; at += n ? n : VHDX_LOG_SECTOR) {
		struct entry last;

		n = sequence_at(p, at, &last);
		if (last.sequence > out->sequence)
			*out = last;
		if (!last.sequence)
			n = 0;
	}
	return out->sequence;
}

/* One descriptor of an entry. *DATA: how many sectors of data were used. */
static int replay_desc(struct vhdx *s, const uint8_t *d, const uint8_t *data, const struct entry *e, unsigned *n_data)
{
	struct blk *file = s->t.b->file;
	uint64_t off = get_le64(d + 16);
	uint8_t page[VHDX_LOG_SECTOR];

	if (get_le64(d + 24) != e->sequence || off % VHDX_LOG_SECTOR || off > INT64_MAX)
		return -EINVAL;
	if (!memcmp(d, "zero", 4)) {
		uint64_t len = get_le64(d + 8);

		return len % VHDX_LOG_SECTOR || !range_fits(off, len, align_up(file->size, VHDX_MB)) ? -EINVAL :
		       blk_co_zeroes(file, off, len, false);
	}
	if (memcmp(d, "desc", 4) || !range_fits(off, VHDX_LOG_SECTOR, align_up(file->size, VHDX_MB)))
		return -EINVAL;
	data += (size_t)*n_data * VHDX_LOG_SECTOR;
	++*n_data;
	if (memcmp(data, "data", 4) || get_le32(data + 4) != (uint32_t)(e->sequence >> 32) ||
	    get_le32(data + 8 + DATA_LEN) != (uint32_t)e->sequence)
		return -EINVAL;
	memcpy(page, d + 8, DATA_LEAD);
	memcpy(page + DATA_LEAD, data + 8, DATA_LEN);
	memcpy(page + DATA_LEAD + DATA_LEN, d + 4, DATA_TRAIL);
	return blk_co_pwrite(file, off, page, sizeof(page));
}

static int replay_entry(struct vhdx *s, const struct entry *e, const uint8_t *buf)
{
	uint64_t n = get_le32(buf + 24), flushed = get_le64(buf + 48), last = get_le64(buf + 56);
	size_t room = (e->len - entry_desc_len(n)) / VHDX_LOG_SECTOR;
	struct blk *file = s->t.b->file;
	unsigned n_data = 0;
	int r = 0;

	/* What the entry relies on has been cut off. */
	if (file->size < flushed || last > INT64_MAX)
		return -EINVAL;
	for (uint64_t i = 0; !r && i < n; i++) {
		const uint8_t *d = buf + ENTRY_HEADER_LEN + i * DESC_LEN;

		if (n_data >= room && !memcmp(d, "desc", 4))
			return -EINVAL;
		r = replay_desc(s, d, buf + entry_desc_len(n), e, &n_data);
	}
	if (!r && file->size < last && last - file->size <= VHDX_SIZE_MAX)
		r = blk_co_truncate(file, last, BLK_PREALLOC_OFF, NULL);
	return r;
}

static int replay_run(struct vhdx *s, const struct replay *p)
{
	struct entry head = { .at = 0 }, e;
	uint64_t total = 0;
	int r = 0;

	if (!replay_find(p, &head))
		return 0;
	for (uint64_t at = head.tail; !r && total < p->len; at = (at + e.len) % p->len) {
		uint8_t *buf;

		if (!entry_at(p, at, &e, &buf))
			return -EINVAL;
		r = replay_entry(s, &e, buf);
		free(buf);
		total += e.len;
		if (e.at == head.at)
			break;
	}
	return r ? r : blk_co_flush(s->t.b->file);
}

int vhdx_log_replay(struct vhdx *s, struct err *err)
{
	static const uint8_t none[16];
	struct blk *b = s->t.b;
	uint64_t len = le32_get(s->header.log_len);

	if (!memcmp(s->header.log_guid, none, 16))
		return 0;
	if (b->is_readonly)
		return err_set(err, -EROFS, "'%s' was not closed and its log has to be replayed: open it once for "
			       "writing",
			       b->name);
	if (len > VHDX_LOG_MAX)
		return err_set(err, -EFBIG, "'%s' was not closed and its log of %" PRIu64 " bytes is too large to be "
			       "replayed",
			       b->name, len);
	struct replay p = { .log = malloc(len), .len = len };
	int r = p.log ? blk_co_pread(b->file, le64_get(s->header.log_off), p.log, len) : -ENOMEM;

	memcpy(p.guid, s->header.log_guid, 16);
	if (!r)
		r = replay_run(s, &p);
	free(p.log);
	if (!r) {
		memset(s->header.log_guid, 0, 16);
		r = vhdx_header_update(s);
	}
	s->was_replayed = true;
	return r < 0 ? err_set(err, r, "cannot replay the log of '%s': %s", b->name,
			       r == -EINVAL ? "it is damaged" : strerror(-r)) : 0;
}

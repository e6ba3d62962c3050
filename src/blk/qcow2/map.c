/* SPDX-License-Identifier: Apache-2.0 */
/* map.c - from guest to host: sections "Cluster mapping" and "Extended L2 Entries". */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { MAP_CLUSTERS_MAX = 1 << 16 };    /* that one answer looks at */

/* --- entries ---------------------------------------------------------------------------------- */

static void entry_decode_packed(const struct q2 *s, uint64_t v, struct q2_entry *e)
{
	unsigned x = 62 - (s->cluster_bits - 8);

	e->is_compressed = true;
	e->host = v & ((1ull << x) - 1) & 0x00ffffffffffffffull;
	e->n_sectors = (uint32_t)(v >> x & ((1ull << (62 - x)) - 1)) + 1;
	e->has_host = true;
	e->alloc = q2_all_subs(s);
}

void q2_entry_decode(const struct q2 *s, const uint8_t *p, struct q2_entry *e)
{
	uint64_t v = get_be64(p);

	*e = (struct q2_entry){ 0 };
	if (v & Q2_COMPRESSED) {
		entry_decode_packed(s, v, e);
		return;
	}
	e->host = v & Q2_OFF_MASK;
	e->is_copied = v & Q2_COPIED;
	/* An external data file has guest offset 0 at its offset 0; bit 63 tells that it is there. */
	e->has_host = e->host || (e->is_copied && s->incompatible & Q2_INCOMPAT_DATA_FILE);
	if (s->n_sub == 32) {
		e->alloc = get_be32(p + 12);
		e->zero = get_be32(p + 8);
	} else if (v & Q2_ZERO && s->version > 2) {
		e->zero = 1;
	} else {
		e->alloc = e->has_host;
	}
}

void q2_entry_encode(const struct q2 *s, const struct q2_entry *e, uint8_t *p)
{
	uint64_t v = e->host;

	if (e->is_compressed)
		v |= Q2_COMPRESSED | (uint64_t)(e->n_sectors - 1) << (62 - (s->cluster_bits - 8));
	else if (e->has_host && e->is_copied)
		v |= Q2_COPIED;
	if (s->n_sub == 1 && e->zero)
		v |= Q2_ZERO;
	put_be64(p, v);
	if (s->n_sub == 32) {
		put_be32(p + 8, e->is_compressed ? 0 : e->zero);
		put_be32(p + 12, e->is_compressed ? 0 : e->alloc);
	}
}

/* The same from memory: entries that are read again and again must be cheap to check. */
static bool entry_is_sane(const struct q2 *s, uint64_t guest, const struct q2_entry *e)
{
	if (e->is_compressed)
		return !(s->incompatible & Q2_INCOMPAT_DATA_FILE) && e->host >= s->cluster_size;
	if (e->alloc & e->zero || (e->alloc && !e->has_host))
		return false;
	if (!e->has_host)
		return true;
	if (e->host & (s->cluster_size - 1))
		return false;
	if (s->incompatible & Q2_INCOMPAT_DATA_FILE)
		return e->host == q2_cluster_start(s, guest);
	return q2_host_is_free_for_use(s, e->host, s->cluster_size);
}

int q2_entry_check(struct q2 *s, uint64_t guest, const struct q2_entry *e)
{
	if (entry_is_sane(s, guest, e))
		return 0;
	return q2_corrupt(s, "the cluster of guest offset 0x%" PRIx64 " cannot be at host offset 0x%" PRIx64, guest,
			  e->host);
}

/* Where the L2 entry of GUEST stands: the page's host offset and the place in it. 0: there is no table. */
static uint64_t entry_place(const struct q2 *s, uint64_t guest, uint32_t *in_page)
{
	uint64_t l1 = q2_l1_index(s, guest);
	uint64_t table = l1 < s->l1_size ? s->l1[l1] & Q2_OFF_MASK : 0;
	uint32_t at = q2_l2_index(s, guest) * s->entry_size;

	*in_page = at & (s->page_size - 1);
	return table ? table + (at - *in_page) : 0;
}

/* L2 tables are aligned and do not lie over other tables. */
static int l2_check(struct q2 *s, uint64_t l1_index)
{
	uint64_t v = s->l1[l1_index], off = v & Q2_OFF_MASK;

	if (!(v & Q2_L1_RESERVED) && !(off & (s->cluster_size - 1)) && off >= s->cluster_size &&
	    !range_overlaps(off, s->cluster_size, s->l1_off, (uint64_t)s->l1_size * 8) &&
	    !range_overlaps(off, s->cluster_size, s->rt_off, (uint64_t)s->rt_clusters << s->cluster_bits))
		return 0;
	return q2_corrupt(s, "L1 entry %" PRIu64 " (0x%" PRIx64 ") cannot be", l1_index, v);
}

int q2_entry_get(struct q2 *s, uint64_t guest, struct q2_entry *e)
{
	uint32_t in_page;
	uint64_t off = entry_place(s, guest, &in_page);
	struct q2_page *p;

	*e = (struct q2_entry){ 0 };
	if (!off)
		return 0;
	p = q2_page_peek(s, off);
	if (p && p->kind == Q2_PAGE_L2) {
		q2_entry_decode(s, p->data + in_page, e);
		return q2_entry_check(s, guest, e);
	}
	int r = l2_check(s, q2_l1_index(s, guest));

	if (!r)
		r = q2_page_get(s, off, Q2_PAGE_L2, &p);
	if (r < 0)
		return r;
	q2_entry_decode(s, p->data + in_page, e);
	q2_page_put(p);
	return q2_entry_check(s, guest, e);
}

int q2_entry_set(struct q2 *s, uint64_t guest, const struct q2_entry *e)
{
	uint32_t in_page;
	uint64_t off = entry_place(s, guest, &in_page);
	struct q2_page *p;
	int r = q2_page_get(s, off, Q2_PAGE_L2, &p);

	if (r < 0)
		return r;
	q2_entry_encode(s, e, p->data + in_page);
	q2_page_dirty(s, p);
	q2_page_put(p);
	return 0;
}

/* --- tables ----------------------------------------------------------------------------------- */

/* What a shared L2 table says, at a place of its own. */
static int l2_copy(struct q2 *s, uint64_t from, uint64_t to)
{
	AUTO(free) uint8_t *buf = malloc(s->cluster_size);
	int r = buf ? 0 : -ENOMEM;

	for (uint32_t at = 0; !r && at < s->cluster_size; at += s->page_size) {
		struct q2_page *p;

		r = q2_page_get(s, from + at, Q2_PAGE_L2, &p);
		if (r < 0)
			break;
		memcpy(buf + at, p->data, s->page_size);
		q2_page_put(p);
	}
	return r ? r : blk_co_pwrite(s->b->file, to, buf, s->cluster_size);
}

static int l2_make_locked(struct q2 *s, uint64_t index)
{
	uint64_t old = s->l1[index] & Q2_OFF_MASK, off, got;
	bool is_fresh;
	int r = old ? l2_check(s, index) : 0;

	if (!r)
		r = q2_alloc(s, 1, false, &off, &got, &is_fresh);
	if (r < 0)
		return r;
	if (old)
		r = l2_copy(s, old, off);
	else if (!is_fresh)
		r = blk_co_zeroes(s->b->file, off, s->cluster_size, true);
	if (!r)
		r = q2_meta_add(s, off);
	if (r < 0) {
		q2_free_now(s, off, s->cluster_size);
		return r;
	}
	q2_l1_set(s, index, off | Q2_COPIED);
	if (old)
		q2_meta_remove(s, old);
	return old ? q2_free_later(s, old, s->cluster_size, false) : 0;
}

int q2_l2_make(struct q2 *s, uint64_t guest)
{
	uint64_t index = q2_l1_index(s, guest);
	int r = 0;

	if (index >= s->l1_size)
		return -EFBIG;
	if (s->l1[index] & Q2_COPIED)
		return 0;
	co_mutex_lock(&s->l2_lock);
	if (!(s->l1[index] & Q2_COPIED))
		r = l2_make_locked(s, index);
	co_mutex_unlock(&s->l2_lock);
	return r;
}

/* --- runs ------------------------------------------------------------------------------------- */

static enum q2_kind sub_kind(const struct q2_entry *e, uint32_t bit)
{
	return e->is_compressed ? Q2_PACKED : e->alloc & bit ? Q2_DATA : e->zero & bit ? Q2_ZEROES : Q2_UNALLOCATED;
}

/* What GUEST is, and for how many bytes of its cluster. */
static void entry_run(const struct q2 *s, const struct q2_entry *e, uint64_t guest, struct q2_run *out)
{
	uint64_t in_cluster = guest & (s->cluster_size - 1), end;
	unsigned sub = (unsigned)(in_cluster >> s->sub_bits);

	*out = (struct q2_run){ .kind = sub_kind(e, 1u << sub) };
	if (e->is_compressed) {
		out->packed = *e;
		out->len = s->cluster_size - in_cluster;
		return;
	}
	do {
		sub++;
	} while (sub < s->n_sub && sub_kind(e, 1u << sub) == out->kind);
	end = (uint64_t)sub << s->sub_bits;
	out->len = end - in_cluster;
	if (out->kind == Q2_DATA)
		out->host = e->host + in_cluster;
}

/* Can NEXT be told in one with RUN? */
static bool run_continues(const struct q2_run *run, const struct q2_run *next)
{
	return run->kind == next->kind && run->kind != Q2_PACKED &&
	       (run->kind != Q2_DATA || run->host + run->len == next->host);
}

int q2_map_run(struct q2 *s, uint64_t guest, uint64_t len, struct q2_run *out)
{
	uint64_t per_l2 = 1ull << (s->cluster_bits + s->l2_bits);

	out->len = 0;
	for (unsigned n = 0; n < MAP_CLUSTERS_MAX && out->len < len; n++) {
		uint64_t at = guest + out->len, l1 = q2_l1_index(s, at);
		struct q2_run run = { .kind = Q2_UNALLOCATED, .len = per_l2 - at % per_l2 };
		struct q2_entry e;

		if (l1 < s->l1_size && s->l1[l1] & Q2_OFF_MASK) {
			int r = q2_entry_get(s, at, &e);

			if (r < 0)
				return out->len ? 0 : r;
			entry_run(s, &e, at, &run);
		}
		if (!n)
			*out = run;
		else if (run_continues(out, &run))
			out->len += run.len;
		else
			break;
	}
	if (out->len > len)
		out->len = len;
	return 0;
}

/* --- the fast path ---------------------------------------------------------------------------- */

/* The entry of GUEST if its page is in memory. */
static bool entry_peek(struct q2 *s, uint64_t guest, struct q2_entry *e)
{
	uint32_t in_page;
	uint64_t off = entry_place(s, guest, &in_page);
	struct q2_page *p = off ? q2_page_peek(s, off) : NULL;

	if (!off) {
		*e = (struct q2_entry){ 0 };
		return true;
	}
	if (!p || p->kind != Q2_PAGE_L2)
		return false;
	q2_entry_decode(s, p->data + in_page, e);
	return entry_is_sane(s, guest, e);
}

static bool peek_is_write_in_place(const struct q2 *s, const struct q2_entry *e, uint32_t subs)
{
	return !e->is_compressed && e->is_copied && (e->alloc & subs) == subs;
}

struct blk *q2_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	struct q2 *s = b->priv;
	uint64_t end = off + len, host = 0;
	bool is_backing = false;

	if (op == BLK_FLUSH)
		return q2_is_clean(s) && !b->data && !b->n_extra ? b->file : NULL;
	if ((op != BLK_READ && op != BLK_WRITE) || len > 64ull * s->cluster_size ||
	    (op == BLK_WRITE && (!s->is_prepared || s->is_corrupt)))
		return NULL;
	for (uint64_t at = off, n; at < end; at += n) {
		uint64_t left = s->cluster_size - (at & (s->cluster_size - 1));
		struct q2_entry e;

		n = end - at < left ? end - at : left;
		uint32_t subs = q2_subs_of(s, at, n);

		if (!entry_peek(s, at, &e) || e.is_compressed)
			return NULL;
		if (op == BLK_READ && !((e.alloc | e.zero) & subs) && b->backing && (at == off || is_backing)) {
			is_backing = true;
			continue;
		}
		if (is_backing || (e.alloc & subs) != subs || (op == BLK_WRITE && !peek_is_write_in_place(s, &e, subs)))
			return NULL;
		if (at == off)
			host = e.host + (at & (s->cluster_size - 1));
		else if (e.host != host + (at - off))
			return NULL;
	}
	if (is_backing) {
		*child_off = off;
		return range_fits(off, len, b->backing->size) ? b->backing : NULL;
	}
	if (s->luks)
		return NULL;
	if (op == BLK_WRITE && s->n_bitmaps)
		q2_bitmaps_mark(s, off, len);
	*child_off = host;
	return q2_data(s);
}

int q2_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	struct q2 *s = b->priv;
	struct q2_run run;
	int r = q2_map_run(s, off, len, &run);

	if (r < 0)
		return r;
	out->len = run.len;
	out->flags = 0;
	switch (run.kind) {
	case Q2_UNALLOCATED:
		/* Without a backing image that is a kind of zeroes, but not ours. */
		break;
	case Q2_ZEROES:
		out->flags = BLK_EXT_ZERO | BLK_EXT_ALLOCATED;
		break;
	case Q2_PACKED:
		out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | BLK_EXT_COMPRESSED;
		break;
	case Q2_DATA:
		out->flags = BLK_EXT_DATA | BLK_EXT_ALLOCATED | (s->luks ? 0 : BLK_EXT_HOST);
		out->host = q2_data(s);
		out->host_off = run.host;
	}
	return 0;
}

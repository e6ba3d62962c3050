/* SPDX-License-Identifier: Apache-2.0 */
/* units.c - what of the file is used: found at the first change of a session, so that holes are filled and the end
 * is known; and moving blocks. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

enum { MOVE_CHUNK = 1 << 20, SCAN_BLOCKS_MAX = 1 << 20 };
#define UNITS_MAX (1ull << 31)          /* of the bitmap: 256 MiB */

/* --- the bitmap ------------------------------------------------------------------------------- */

static bool units_test(const struct bat_units *u, uint64_t i)
{
	return u->bits[i / 8] >> i % 8 & 1;
}

void bat_units_set(struct bat_units *u, uint64_t i)
{
	u->used += !units_test(u, i);
	u->bits[i / 8] |= (uint8_t)(1 << i % 8);
}

int bat_units_init(struct bat_units *u, const struct bat *t, struct err *err)
{
	uint64_t end = t->file->size > t->tail ? t->file->size - t->tail : 0;

	u->unit = t->unit;
	u->base = t->data_off;
	if (!t->unit || end <= u->base)
		return 0;
	u->n = (end - u->base + t->unit - 1) / t->unit;
	if (u->n > UNITS_MAX)
		return err_set(err, -EFBIG, "'%s' is too large to be checked", t->b->name);
	u->bits = calloc(1, u->n / 8 + 1);
	if (!u->bits)
		return err_set(err, -ENOMEM, "out of memory");
	for (unsigned k = 0; k < t->n_used; k++)
		for (uint64_t at = t->used[k].off; at < t->used[k].off + t->used[k].len; at += u->unit)
			if (at >= u->base && (at - u->base) / u->unit < u->n)
				bat_units_set(u, (at - u->base) / u->unit);
	return 0;
}

/* Note [OFF, OFF+LEN); true: something had some of it before. */
bool bat_units_take(struct bat_units *u, uint64_t off, uint64_t len)
{
	bool is_taken = false, is_aligned = u->n && !((off - u->base) % u->unit);

	for (uint64_t i = u->n ? (off - u->base) / u->unit : 0; i < u->n && i * u->unit < off - u->base + len; i++) {
		is_taken |= is_aligned && units_test(u, i);
		bat_units_set(u, i);
	}
	return is_taken;
}

/* The first run of N free units before unit BELOW, from *FROM on. */
bool bat_units_find(const struct bat_units *u, uint64_t n, uint64_t below, uint64_t *from)
{
	uint64_t run = 0;

	for (uint64_t i = *from; i < below && i < u->n; i++) {
		run = units_test(u, i) ? 0 : run + 1;
		if (run == n) {
			*from = i + 1 - n;
			return true;
		}
	}
	return false;
}

/* --- moving ----------------------------------------------------------------------------------- */

static int move_copy(struct bat *t, uint64_t from, uint64_t to)
{
	AUTO(free) uint8_t *buf = malloc(MOVE_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t at = 0, len = t->block_size + t->lead, n; !r && at < len; at += n) {
		n = len - at < MOVE_CHUNK ? len - at : MOVE_CHUNK;
		r = blk_co_pread(t->file, from - t->lead + at, buf, n);
		if (!r)
			r = blk_co_pwrite(t->file, to - t->lead + at, buf, n);
	}
	if (!r && t->lead)
		bat_pages_forget_bits(t, to - t->lead, t->lead);
	return r;
}

/* The block of E is at HOST from now on. What it leaves is not used until that is durable. */
int bat_move_block(struct bat *t, uint64_t block, struct bat_entry *e, uint64_t host)
{
	int r = move_copy(t, e->host, host);

	e->host = host;
	if (!r)
		r = bat_entry_set(t, block, e);
	return r ? r : bat_relieve(t);
}

/* What begins before HOST is not free any more. */
static void spare_below(struct bat *t, uint64_t host)
{
	for (unsigned i = 0; i < t->n_spare;)
		if (t->spare[i].host - t->lead < host)
			t->spare[i] = t->spare[--t->n_spare];
		else
			i++;
}

int bat_make_room(struct bat *t, uint64_t host)
{
	int r = bat_prepare(t);

	/* With what is to be given up yet. */
	if (!r)
		r = bat_flush(t);
	spare_below(t, host);
	/* Where the table will be is no place to move to. */
	if (t->alloc_end < host)
		t->alloc_end = host;
	for (uint64_t block = 0; !r && block < t->n_blocks; block++) {
		struct bat_entry e;
		uint64_t to, got;
		bool is_fresh;

		r = bat_entry_get(t, block, &e);
		if (r < 0 || !bat_has_place(&e) || e.host - t->lead >= host)
			continue;
		r = bat_alloc(t, 1, &to, &got, &is_fresh);
		if (!r)
			r = bat_move_block(t, block, &e, to);
	}
	if (!r)
		r = bat_flush(t);
	return r ? r : blk_co_flush(t->file);
}

/* --- what is free ----------------------------------------------------------------------------- */

static int scan_blocks(struct bat *t, struct bat_units *u, uint64_t *top)
{
	*top = t->data_off;
	for (unsigned k = 0; k < t->n_used; k++)
		if (t->used[k].off + t->used[k].len > *top)
			*top = t->used[k].off + t->used[k].len;
	for (uint64_t block = 0; block < t->n_blocks; block++) {
		struct bat_entry e = { .kind = BAT_NONE };
		uint8_t raw[8];
		int r = bat_raw_get(t, bat_slot(t, block), raw);

		if (r < 0)
			return r;
		if (!t->f->decode(t, raw, &e) || !bat_entry_is_sane(t, &e) || !bat_has_place(&e))
			continue;
		bat_units_take(u, e.host - t->lead, t->lead + t->block_size);
		if (e.host + t->block_size > *top)
			*top = e.host + t->block_size;
	}
	return 0;
}

int bat_scan(struct bat *t)
{
	struct bat_units u = { .n = 0 };
	uint64_t top, hole = 0, per_block = t->unit ? t->stride / t->unit : 0;

	/* Of a larger table the holes are left to a check. */
	if (!t->unit || t->n_blocks > SCAN_BLOCKS_MAX || bat_units_init(&u, t, NULL) < 0)
		return 0;
	int r = scan_blocks(t, &u, &top);

	if (!r) {
		t->alloc_end = t->data_off + (top - t->data_off + t->unit - 1) / t->unit * t->unit;
		while (t->n_spare < BAT_FREE_MAX && u.n &&
		       bat_units_find(&u, per_block, (t->alloc_end - t->data_off) / t->unit, &hole)) {
			t->spare[t->n_spare++].host = t->data_off + hole * t->unit + t->lead;
			hole += per_block;
		}
	}
	free(u.bits);
	return r;
}

/* Where a table has grown, blocks do not stand where ours would, and holes between them are on no list: where does the
 * last one end? */
static int trim_scan(struct bat *t)
{
	struct bat_units none = { .n = 0 };
	uint64_t top;

	if (!t->unit || t->n_pending || t->n_blocks > SCAN_BLOCKS_MAX)
		return 0;
	int r = scan_blocks(t, &none, &top);

	if (r < 0)
		return r;
	top = t->data_off + (top - t->data_off + t->unit - 1) / t->unit * t->unit;
	t->alloc_end = top < t->alloc_end ? top : t->alloc_end;
	for (unsigned i = 0; i < t->n_spare;)
		if (t->spare[i].host >= t->alloc_end)
			t->spare[i] = t->spare[--t->n_spare];
		else
			i++;
	return 0;
}

int bat_trim(struct bat *t)
{
	bool is_less = true;

	if (t->is_flat || !t->is_prepared || t->is_damaged)
		return 0;
	while (is_less) {
		is_less = false;
		for (unsigned i = 0; i < t->n_spare; i++) {
			if (t->spare[i].host - t->lead + t->stride != t->alloc_end)
				continue;
			t->alloc_end -= t->stride;
			t->spare[i] = t->spare[--t->n_spare];
			is_less = true;
			break;
		}
	}
	int r = trim_scan(t);

	if (r < 0 || t->file->size <= t->alloc_end + t->tail)
		return r;
	r = blk_co_truncate(t->file, t->alloc_end, BLK_PREALLOC_OFF, NULL);
	if (!r)
		r = t->f->commit ? t->f->commit(t, NULL, 0) : 0;
	return r;
}

void bat_close(struct bat *t, const struct blk *b)
{
	int r = b->is_open && !b->is_readonly ? bat_trim(t) : 0;

	if (r < 0)
		log_error("disk '%s': cannot write back on closing: %s", b->name, strerror(-r));
	bat_fini(t);
}

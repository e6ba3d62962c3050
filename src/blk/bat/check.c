/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - where all entries lead, and what of the file nothing uses; repairing, and moving blocks. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_REPORTS_MAX = 100, CHECK_STEP = 4096 };

void bat_finding(struct blk_check *check, bool is_leak, uint64_t n, bool is_fixed, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (check->report && check->n_errors + check->n_leaks + check->n_errors_fixed + check->n_leaks_fixed <
				     CHECK_REPORTS_MAX) {
		va_start(ap, fmt);
		vsnprintf(line, sizeof(line), fmt, ap);
		va_end(ap);
		check->report(check->report_arg, line);
	}
	if (is_leak)
		*(is_fixed ? &check->n_leaks_fixed : &check->n_leaks) += n;
	else
		*(is_fixed ? &check->n_errors_fixed : &check->n_errors) += n;
}

/* The file ends behind its last block. Where the format has no holes, blocks behind the first as many units as
 * are used go into them before. */
static int check_compact(struct bat *t, struct bat_units *u, struct bat_checking *c)
{
	uint64_t per_block = t->stride / u->unit, hole = 0, end = u->base;
	int r = bat_prepare(t);

	for (uint64_t block = 0; !r && block < t->n_blocks; block++) {
		struct bat_entry e;

		r = bat_entry_get(t, block, &e);
		if (r < 0 || !bat_has_place(&e))
			continue;
		uint64_t at = (e.host - t->lead - u->base) / u->unit;

		if (t->has_no_holes && at + per_block > u->used && bat_units_find(u, per_block, at, &hole)) {
			for (uint64_t i = 0; i < per_block; i++)
				bat_units_set(u, hole + i);
			r = bat_move_block(t, block, &e, u->base + hole * u->unit + t->lead);
		}
		if (e.host + t->block_size > end)
			end = e.host + t->block_size;
	}
	for (unsigned k = 0; k < t->n_used; k++)
		if (t->used[k].off + t->used[k].len > end)
			end = t->used[k].off + t->used[k].len;
	t->alloc_end = end;
	if (!r)
		r = bat_flush(t);
	if (!r)
		r = blk_co_flush(t->file);
	c->top = end;
	if (t->has_no_holes)
		t->n_spare = 0;
	if (!r)
		r = blk_co_truncate(t->file, end, BLK_PREALLOC_OFF, NULL);
	if (!r && t->f->commit)
		r = t->f->commit(t, NULL, 0);
	return r;
}

/* --- the walk --------------------------------------------------------------------------------- */

/* Two entries lead to one block: the second gets a copy. */
static int check_split(struct bat *t, uint64_t block, struct bat_entry *e)
{
	uint64_t to, got;
	bool is_fresh;
	int r = bat_prepare(t);

	if (!r)
		r = bat_alloc(t, 1, &to, &got, &is_fresh);
	return r ? r : bat_move_block(t, block, e, to);
}

static int check_empty(struct bat *t, uint64_t block)
{
	struct bat_entry e = { .kind = BAT_NONE };
	int r = bat_prepare(t);

	return r ? r : bat_entry_set(t, block, &e);
}

static int check_block(struct bat *t, uint64_t block, struct bat_units *u, struct bat_checking *c, uint64_t *last)
{
	bool is_fixing = c->fix & BLK_FIX_ERRORS;
	struct bat_entry e = { .kind = BAT_NONE };
	uint8_t raw[8];
	int r = bat_raw_get(t, bat_slot(t, block), raw);

	if (r < 0)
		return r;
	if (!t->f->decode(t, raw, &e) || !bat_entry_is_sane(t, &e)) {
		bat_finding(c->check, false, 1, is_fixing, "block %" PRIu64 " cannot be at byte %" PRIu64, block,
			    e.host);
		t->is_damaged = t->is_damaged && !is_fixing;
		return is_fixing ? check_empty(t, block) : 0;
	}
	c->check->n_compressed += e.kind == BAT_PACKED;
	c->check->n_allocated += e.kind == BAT_PACKED || bat_has_place(&e);
	if (!bat_has_place(&e))
		return 0;
	c->n_data++;
	c->check->n_fragmented += *last && e.host != *last + t->stride;
	*last = e.host;
	if (u->n && bat_units_take(u, e.host - t->lead, t->lead + t->block_size)) {
		bat_finding(c->check, false, 1, is_fixing, "block %" PRIu64 " shares byte %" PRIu64 " with something "
			    "else",
			    block, e.host);
		if (is_fixing)
			r = check_split(t, block, &e);
	}
	if (e.host + t->block_size > c->top)
		c->top = e.host + t->block_size;
	return r;
}

/* Space behind the last block; where the format has no free space inside, holes as well. What is less than a block is
 * no loss: other makers align their ends. */
static uint64_t check_leaks(const struct bat *t, const struct bat_units *u, const struct bat_checking *c)
{
	uint64_t end = t->file->size > t->tail ? t->file->size - t->tail : 0, top = c->top, bytes;

	for (unsigned k = 0; k < t->n_used; k++)
		if (t->used[k].off + t->used[k].len > top)
			top = t->used[k].off + t->used[k].len;
	top = t->data_off + (top - t->data_off + t->unit - 1) / t->unit * t->unit;
	bytes = t->has_no_holes ? (u->n - u->used) * t->unit : end > top ? end - top : 0;
	return bytes / t->stride;
}

/* BLOCK, or the first one behind it whose page of the table is somewhere. */
static uint64_t check_next(const struct bat *t, uint64_t block)
{
	uint64_t per_page = t->page_size / t->f->entry_size;

	while (t->f->page_at && block < t->n_blocks && !bat_page_place(t, false, bat_page_of(t, bat_slot(t, block))))
		block = (block / per_page + 1) * per_page;
	return block;
}

static int check_run(struct bat *t, struct bat_checking *c, struct bat_units *u)
{
	uint64_t last = 0, leaks;
	int r = t->is_prepared ? bat_flush(t) : 0;

	if (!r)
		r = bat_trim(t);
	for (uint64_t block = check_next(t, 0); !r && block < t->n_blocks; block = check_next(t, block + 1)) {
		if (block % CHECK_STEP == 0)
			r = blk_check_progress(c->check, c->fix, block * t->block_size, t->size);
		if (!r)
			r = check_block(t, block, u, c, &last);
	}
	if (r < 0)
		return r;
	c->check->n_clusters += t->n_blocks;
	leaks = u->n ? check_leaks(t, u, c) : 0;
	if (leaks) {
		bool is_fixing = c->fix & BLK_FIX_LEAKS && !c->check->n_errors;

		if (is_fixing)
			r = check_compact(t, u, c);
		bat_finding(c->check, true, leaks, is_fixing && !r, "%" PRIu64 " blocks of the file are not used",
			    leaks);
	}
	if (!r && c->check->n_errors_fixed)
		r = bat_flush(t);
	if (c->top > c->check->image_end)
		c->check->image_end = c->top;
	return r;
}

int bat_check(struct bat *t, struct bat_checking *c, struct err *err)
{
	struct bat_units u = { .n = 0 };
	struct blk_range range;
	int r = bat_units_init(&u, t, err);

	if (r < 0)
		return r;
	c->top = t->data_off;
	t->is_damaged = false;
	blk_drain_begin(t->b, &range);
	r = check_run(t, c, &u);
	blk_drain_end(t->b, &range);
	free(u.bits);
	return r < 0 ? err_set(err, r, "cannot check '%s': %s", t->b->name, strerror(-r)) : 0;
}

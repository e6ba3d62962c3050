/* SPDX-License-Identifier: Apache-2.0 */
/* commit.c - changed pages to the file.
 *
 * A round takes a picture of all dirty pages at one moment, makes the data that they refer to durable, and
 * writes the picture. Entries that change meanwhile are not in it: their data may not be durable yet. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int bat_commit_grow(struct bat *t)
{
	return t->file->size < t->alloc_end ? blk_co_truncate(t->file, t->alloc_end, BLK_PREALLOC_OFF, NULL) : 0;
}

int bat_commit(struct bat *t, struct bat_write *w, unsigned n)
{
	int r = bat_commit_grow(t);

	if (!r)
		r = blk_co_flush(t->file);
	for (unsigned i = 0; !r && i < n; i++)
		r = blk_co_pwrite(t->file, w[i].off, w[i].data, w[i].len);
	return r;
}

bool bat_is_clean(const struct bat *t)
{
	return !t->n_dirty && !t->is_committing && !t->n_pending;
}

struct round {
	struct bat_page **page;
	struct bat_write *w;
	uint8_t *data;
	unsigned n;
};

/* In the order of the file: one pass of the disk. */
static int round_compare(const void *a, const void *b)
{
	const struct bat_write *x = a, *y = b;

	return x->is_bits != y->is_bits ? (x->is_bits ? -1 : 1) : x->off < y->off ? -1 : x->off > y->off;
}

static int round_take(struct bat *t, struct round *d)
{
	d->page = calloc(t->n_dirty + 1, sizeof(*d->page));
	d->w = calloc(t->n_dirty + 1, sizeof(*d->w));
	d->data = malloc((size_t)(t->n_dirty + 1) * BAT_PAGE_MAX);
	if (!d->page || !d->w || !d->data)
		return -ENOMEM;
	for (struct bat_page *p = t->dirty; p; p = p->dirty_next) {
		struct bat_write *w = &d->w[d->n];

		d->page[d->n] = p;
		p->is_dirty = false;
		p->is_staged = true;
		*w = (struct bat_write){ .off = bat_page_place(t, p->is_bits, p->no), .is_bits = p->is_bits,
					 .len = bat_page_len(t, p->is_bits, p->no), .page = p->no,
					 .data = d->data + (size_t)d->n * BAT_PAGE_MAX };
		memcpy(w->data, p->data, w->len);
		d->n++;
	}
	t->dirty = NULL;
	t->n_dirty = 0;
	qsort(d->w, d->n, sizeof(*d->w), round_compare);
	return 0;
}

static void round_end(struct bat *t, struct round *d, int r)
{
	for (unsigned i = 0; i < d->n; i++) {
		d->page[i]->is_staged = false;
		if (r < 0)
			bat_page_dirty(t, d->page[i]);
	}
	free(d->page);
	free(d->w);
	free(d->data);
}

/* Blocks that were given up before the round: the table without them becomes durable, they can be used. */
static int round_frees(struct bat *t, unsigned n)
{
	int r = blk_co_flush(t->file);

	for (unsigned i = 0; !r && i < n; i++)
		r = blk_co_discard(t->file, t->pending[i].host, t->block_size);
	if (!r)
		bat_frees_durable(t, n);
	return r;
}

static int round_run(struct bat *t)
{
	struct round d = { .n = 0 };
	unsigned n_frees = t->n_pending;
	int r = round_take(t, &d);

	if (!r && d.n)
		r = t->f->commit ? t->f->commit(t, d.w, d.n) : bat_commit(t, d.w, d.n);
	round_end(t, &d, r);
	if (!r && n_frees)
		r = round_frees(t, n_frees);
	return r;
}

int bat_flush(struct bat *t)
{
	int r = 0;

	co_mutex_lock(&t->commit_lock);
	if (t->n_dirty || t->n_pending) {
		t->is_committing = true;
		r = round_run(t);
		t->is_committing = false;
	}
	co_mutex_unlock(&t->commit_lock);
	return r;
}

int bat_relieve(struct bat *t)
{
	return t->n_dirty > t->max_pages / 2 || t->n_pending == BAT_FREE_MAX ? bat_flush(t) : 0;
}

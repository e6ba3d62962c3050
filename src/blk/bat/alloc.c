/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.c - blocks of the file: taken behind the last one, or from those that were given up. */
#include "blk/bat/bat_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int bat_alloc(struct bat *t, uint64_t n, uint64_t *host, uint64_t *got, bool *is_fresh)
{
	*got = 1;
	if (t->n_spare) {
		*host = t->spare[--t->n_spare].host;
		*is_fresh = false;
		return 0;
	}
	uint64_t limit = t->max_end ? t->max_end : INT64_MAX;

	if (t->alloc_end > limit || t->stride > limit - t->alloc_end)
		return -EFBIG;
	if (!t->lead)
		*got = n < (limit - t->alloc_end) / t->stride ? n : (limit - t->alloc_end) / t->stride;
	/* What the lead covers is written anyway: a footer may be there. */
	*is_fresh = t->alloc_end + t->lead >= t->file->size;
	*host = t->alloc_end + t->lead;
	t->alloc_end += *got * t->stride;
	return 0;
}

void bat_free_now(struct bat *t, uint64_t host)
{
	/* The last one goes back to where it came from. */
	if (host - t->lead + t->stride == t->alloc_end)
		t->alloc_end -= t->stride;
	else if (t->n_spare < BAT_FREE_MAX)
		t->spare[t->n_spare++].host = host;
}

int bat_free_later(struct bat *t, uint64_t host)
{
	if (t->n_pending == BAT_FREE_MAX) {
		int r = bat_flush(t);

		if (r < 0)
			return r;
	}
	/* More than that are found by a check only. */
	if (t->n_pending < BAT_FREE_MAX)
		t->pending[t->n_pending++].host = host;
	return 0;
}

void bat_frees_durable(struct bat *t, unsigned n)
{
	for (unsigned i = 0; i < n && t->n_spare < BAT_FREE_MAX; i++)
		t->spare[t->n_spare++] = t->pending[i];
	memmove(t->pending, t->pending + n, (t->n_pending - n) * sizeof(*t->pending));
	t->n_pending -= n;
}

int bat_write_lead(struct bat *t, uint64_t host)
{
	if (!t->lead)
		return 0;
	AUTO(free) uint8_t *ones = malloc(t->lead);

	if (!ones)
		return -ENOMEM;
	memset(ones, 0xff, t->lead);
	bat_pages_forget_bits(t, host - t->lead, t->lead);
	return blk_co_pwrite(t->file, host - t->lead, ones, t->lead);
}

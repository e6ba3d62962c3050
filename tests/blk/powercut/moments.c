/* SPDX-License-Identifier: Apache-2.0 */
/* moments.c - when the power goes. */
#include "cut.h"

#include <stdlib.h>

static void cut_one(struct guest *g, uint64_t cut, struct outcome o)
{
	g->n_cuts++;
	cut_make(g, cut, &o);
	cut_verify(g, cut);
}

void cut_anywhere(struct guest *g)
{
	static const enum mood moods[] = { ALL, NONE, TORN, TORN };

	for (unsigned i = 0; i < g->cuts; i++) {
		uint64_t cut = i ? 1 + rnd(g, recorder.now) : recorder.now;

		cut_one(g, cut, (struct outcome){ .mood = moods[rnd(g, 4)] });
	}
}

/* Are there names that may be the old ones or the new ones? */
static bool folder_is_open(uint64_t cut, const struct durable *d)
{
	for (size_t i = 0; i < recorder.n; i++) {
		const struct event *e = &recorder.v[i];

		if (e->file == FOLDER && e->kind != EV_FLUSH && e->start <= cut && e->done >= d->at[FOLDER])
			return true;
	}
	return false;
}

/* The outcomes of one moment. */
static void cut_at(struct guest *g, uint64_t cut)
{
	static const enum mood moods[] = { ALL, NONE, BUT_ONE, ONE, SOME, TORN };
	struct durable durable;
	unsigned n_open = 0;

	cut_durable(cut, &durable);
	for (size_t i = 0; i < recorder.n; i++)
		n_open += event_is_open(&recorder.v[i], cut, &durable);
	if (n_open < 32 && 1u << n_open <= g->orders && !folder_is_open(cut, &durable)) {
		for (uint64_t set = 0; set < 1u << n_open; set++)
			cut_one(g, cut, (struct outcome){ .mood = SUBSET, .which = set });
		cut_one(g, cut, (struct outcome){ .mood = TORN });
		return;
	}
	for (unsigned i = 0; i < g->orders; i++)
		cut_one(g, cut, (struct outcome){ .mood = moods[i < 6 ? i : 2 + rnd(g, 4)], .which = n_open ? rnd(g, n_open) : 0 });
}

static int time_compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Between two of these moments neither the file can change nor what the guest may rely on. */
void cut_everywhere(struct guest *g)
{
	AUTO(free) uint64_t *when = calloc(recorder.n * 2 + g->n_flushes + 1, sizeof(*when));
	size_t n = 0;

	for (size_t i = 0; i < recorder.n; i++) {
		when[n++] = recorder.v[i].start;
		if (recorder.v[i].kind == EV_FLUSH && recorder.v[i].done != UINT64_MAX)
			when[n++] = recorder.v[i].done;
	}
	for (unsigned i = 0; i < g->n_flushes; i++)
		when[n++] = g->flush[i].done;
	when[n++] = recorder.now;
	qsort(when, n, sizeof(*when), time_compare);
	for (size_t i = 0; i < n; i++)
		if (!i || when[i] != when[i - 1])
			cut_at(g, when[i]);
}

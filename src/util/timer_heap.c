/* SPDX-License-Identifier: Apache-2.0 */
#include "util/timer_heap.h"

static bool timer_is_before(const struct loop_timer *a, const struct loop_timer *b)
{
	return a->deadline_ns != b->deadline_ns ? a->deadline_ns < b->deadline_ns : a->number < b->number;
}

/* One tree of two, which have no siblings; either may be NULL. */
static struct loop_timer *timer_merge(struct loop_timer *a, struct loop_timer *b)
{
	if (!a || !b)
		return a ? a : b;
	struct loop_timer *first = timer_is_before(a, b) ? a : b, *below = first == a ? b : a;

	below->next = first->child;
	if (below->next)
		below->next->at = &below->next;
	below->at = &first->child;
	first->child = below;
	return first;
}

/* One tree of T and its siblings: in pairs first, which is what makes it fast on average. */
static struct loop_timer *timer_merge_all(struct loop_timer *t)
{
	struct loop_timer *pairs = NULL, *all = NULL, *rest;

	for (; t; t = rest) {
		struct loop_timer *second = t->next;

		rest = second ? second->next : NULL;
		t->next = NULL;
		if (second)
			second->next = NULL;
		t = timer_merge(t, second);
		t->next = pairs;
		pairs = t;
	}
	for (; pairs; pairs = rest) {
		rest = pairs->next;
		pairs->next = NULL;
		all = timer_merge(all, pairs);
	}
	return all;
}

static void heap_set(struct timer_heap *h, struct loop_timer *t)
{
	h->first = t;
	if (t)
		t->at = &h->first;
}

void timer_heap_add(struct timer_heap *h, struct loop_timer *t)
{
	t->number = ++h->n_added;
	t->child = t->next = NULL;
	heap_set(h, timer_merge(h->first, t));
}

void timer_heap_remove(struct timer_heap *h, struct loop_timer *t)
{
	struct loop_timer *below = timer_merge_all(t->child);

	*t->at = t->next;
	if (t->next)
		t->next->at = t->at;
	t->child = t->next = NULL;
	t->at = NULL;
	heap_set(h, timer_merge(h->first, below));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* docmap.c - a binary search tree by key that is a heap by priority, which is random: its depth is
 * logarithmic whatever the order of insertion, and bounds the recursion. */
#include "store/docmap.h"

#include <string.h>

struct doc *doc_new(const char *key, const char *value, size_t len, int64_t created, int64_t modified)
{
	size_t key_size = strlen(key) + 1;
	struct doc *d = malloc(sizeof(*d) + key_size + len + 1);

	if (!d)
		return NULL;
	char *k = (char *)(d + 1), *v = k + key_size;

	memcpy(k, key, key_size);
	if (len)
		memcpy(v, value, len);
	v[len] = 0;
	*d = (struct doc){ .d = { k, v, len, created, modified }, .refs = 1 };
	return d;
}

void doc_unref(struct doc *d)
{
	if (d && !--d->refs)
		free(d);
}

/* xorshift64*: only the shape of the tree hangs on it. */
static uint64_t next_priority(struct docmap *m)
{
	if (!m->seed)
		m->seed = 0x9e3779b97f4a7c15;
	m->seed ^= m->seed >> 12;
	m->seed ^= m->seed << 25;
	m->seed ^= m->seed >> 27;
	return m->seed * 0x2545f4914f6cdd1d;
}

static void free_below(struct doc *d)
{
	if (!d)
		return;
	free_below(d->left);
	free_below(d->right);
	doc_unref(d);
}

void docmap_fini(struct docmap *m)
{
	free_below(m->root);
	m->root = NULL;
	m->count = 0;
}

/* Where the document with KEY hangs, or would. */
static struct doc **find(struct docmap *m, const char *key)
{
	struct doc **at = &m->root;
	int c;

	while (*at && (c = strcmp(key, (*at)->d.key)))
		at = c < 0 ? &(*at)->left : &(*at)->right;
	return at;
}

struct doc *docmap_get(const struct docmap *m, const char *key)
{
	return *find((struct docmap *)m, key);
}

struct doc *docmap_after(const struct docmap *m, const char *key, bool is_self)
{
	struct doc *best = NULL;

	for (struct doc *d = m->root; d; ) {
		int c = strcmp(d->d.key, key);

		if (c > 0 || (is_self && !c)) {
			best = d;
			d = d->left;
		} else {
			d = d->right;
		}
	}
	return best;
}

/* Everything of D less than KEY to *LESS, the rest to *MORE. KEY itself is not in D. */
static void split(struct doc *d, const char *key, struct doc **less, struct doc **more)
{
	while (d) {
		if (strcmp(d->d.key, key) < 0) {
			*less = d;
			less = &d->right;
			d = d->right;
		} else {
			*more = d;
			more = &d->left;
			d = d->left;
		}
	}
	*less = *more = NULL;
}

/* All keys of A are less than all of B. */
static struct doc *join(struct doc *a, struct doc *b)
{
	struct doc *root = NULL, **at = &root;

	while (a && b) {
		if (a->priority > b->priority) {
			*at = a;
			at = &a->right;
			a = a->right;
		} else {
			*at = b;
			at = &b->left;
			b = b->left;
		}
	}
	*at = a ? a : b;
	return root;
}

void docmap_put(struct docmap *m, struct doc *d)
{
	struct doc **at = find(m, d->d.key), *old = *at;

	if (old) {
		d->priority = old->priority;
		d->left = old->left;
		d->right = old->right;
		*at = d;
		old->left = old->right = NULL;
		doc_unref(old);
		return;
	}
	d->priority = next_priority(m);
	for (at = &m->root; *at && (*at)->priority >= d->priority; )
		at = strcmp(d->d.key, (*at)->d.key) < 0 ? &(*at)->left : &(*at)->right;
	split(*at, d->d.key, &d->left, &d->right);
	*at = d;
	m->count++;
}

struct doc *docmap_take(struct docmap *m, const char *key)
{
	struct doc **at = find(m, key), *d = *at;

	if (!d)
		return NULL;
	*at = join(d->left, d->right);
	d->left = d->right = NULL;
	m->count--;
	return d;
}

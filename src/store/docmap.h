/* SPDX-License-Identifier: Apache-2.0 */
/* docmap.h - documents in the order of their keys: a treap. Not synchronised. */
#ifndef STORE_DOCMAP_H
#define STORE_DOCMAP_H

#include "store/store.h"

/* A document that several hold; in one map at most, whose node it is. */
struct doc {
	struct store_doc d;             /* first; its strings follow the struct */
	unsigned refs;
	uint64_t priority;              /* the map's, as are LEFT and RIGHT */
	struct doc *left, *right;
};

/* One reference is the caller's. NULL: out of memory. */
struct doc *doc_new(const char *key, const char *value, size_t len, int64_t created, int64_t modified);
static inline struct doc *doc_ref(struct doc *d) { d->refs++; return d; }
void doc_unref(struct doc *d);

struct docmap {
	struct doc *root;
	size_t count;
	uint64_t seed;
};

void docmap_fini(struct docmap *m);
struct doc *docmap_get(const struct docmap *m, const char *key);
/* The first with a key greater than KEY, or not less when IS_SELF counts. */
struct doc *docmap_after(const struct docmap *m, const char *key, bool is_self);
/* Put D in the place of what has its key; takes the caller's reference. */
void docmap_put(struct docmap *m, struct doc *d);
/* Take it out; the map's reference becomes the caller's. NULL: it was not there. */
struct doc *docmap_take(struct docmap *m, const char *key);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* store_ops.h - for implementers of back ends, which keep what store.c holds in memory.
 *
 * A back end works on a thread of its own: it takes commits from begin() in their order, decides and
 * writes them, and hands each back through ended(), in the same order, on the loop thread. */
#ifndef STORE_STORE_OPS_H
#define STORE_STORE_OPS_H

#include "store/docmap.h"
#include "util/err.h"

/* One commit on its way. Owned by the back end between begin() and ended(). */
struct commit {
	struct commit *next;            /* the owner's */
	unsigned n;
	struct store_op *ops;           /* with the keys of what is no put: in the same allocation */
	struct doc *puts[STORE_OPS_MAX];        /* what a put puts, by its op; its revisions are set when it shows */
	store_done_fn done;
	void *arg;
	/* Set by the back end. */
	int64_t revision;
	unsigned failed_op;
	struct err err;                 /* code 0: it is durable */
};

struct store_backend;
struct store_sink {
	void *arg;
	void (*ended)(void *arg, struct commit *c);
};

struct store_ops {
	const char *name;
	/* LOAD takes each document, before open() returns. */
	int (*open)(struct store_backend **out, struct loop *loop, const char *path, const struct store_sink *sink,
		    void (*load)(void *arg, struct doc *d), int64_t *revision, struct err *err);
	void (*begin)(struct store_backend *b, struct commit *c);
	void (*scrub)(struct store_backend *b);
	void (*health)(struct store_backend *b, struct store_health *out);
	/* Finish what was begun, calling ended(). */
	void (*close)(struct store_backend *b);
};
extern const struct store_ops store_sqlite;

#endif

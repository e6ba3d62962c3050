/* SPDX-License-Identifier: Apache-2.0 */
/* rename.h - documents get other keys, and those that speak of them say so, in one commit: a crash leaves the old names or the new ones. Loop
 * thread. */
#ifndef NODE_RENAME_H
#define NODE_RENAME_H

#include <jansson.h>
#include <stdbool.h>
#include "node/doc.h"
#include "node/ops.h"
#include "store/store.h"

struct api_call;
struct err;
struct node;

struct rename {
	struct rename *next, **at;      /* in struct node's 'renames', once it has been announced */
	struct api_call *c;
	struct node *node;
	char project[DOC_NAME_MAX + 1], from[STORE_KEY_MAX + 1], to[STORE_KEY_MAX + 1];
	unsigned tries, speakers;       /* SPEAKERS: other documents that speak of it */
	void (*announced)(struct rename *r);
	struct ops ops;
};

/* For C, about the KIND that its path names; it answers and returns NULL when that cannot be, or when C is answered already. */
struct rename *rename_new(struct api_call *c, const char *kind);
void rename_free(struct rename *r);
/* From now on nobody comes to name FROM: rename_has(). DONE(R) runs when those have been committed that were on their way to naming it, so that
 * whoever names it can be found in the store. */
void rename_announce(struct rename *r, void (*done)(struct rename *r));
/* Is a rename taking the name KEY away just now? A commit that is to name it waits for its end, by failing. */
bool rename_has(const struct node *n, const char *key);
/* DOC, which is under FROM at REVISION, and STATUS (NULL: there is none) go to TO. */
int rename_move_one(struct rename *r, const char *from, const char *to, int64_t revision, json_t *doc, const json_t *status);
/* Answer, and free R. */
void rename_fail(struct rename *r, int code, const struct err *err);
/* Commit what R has, with the record of its Idempotency-Key. */
void rename_commit(struct rename *r, store_done_fn done);
/* After a commit that has ended with RES: answer and free R. True: it has to be tried again, and R is still there. */
bool rename_is_stale(struct rename *r, const struct store_result *res);

#endif

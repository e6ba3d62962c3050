/* SPDX-License-Identifier: Apache-2.0 */
/* controller.h - what all controllers share: an object per document, which takes steps.
 *
 * A controller looks after the documents of one kind. For each there is an object with a struct controlled as its
 * first member. Its step() runs soon after each change of the document and whenever the object has asked for it; it
 * compares what is wanted with what is there, begins at most one thing, and comes back. Steps are repeated after
 * failures and crashes, so each must be one that may be repeated. Loop thread. */
#ifndef NODE_CONTROLLER_H
#define NODE_CONTROLLER_H

#include <jansson.h>
#include <stdbool.h>
#include "node/doc.h"
#include "store/store.h"
#include "util/loop.h"
#include "util/strmap.h"

struct controller;
struct err;
struct node;

struct controlled {
	struct controller *ctl;
	struct node *node;
	struct controlled *next, **at;  /* among all of CTL */
	struct strmap_entry by_key;
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], name[DOC_NAME_MAX + 1], project[DOC_NAME_MAX + 1];      /* PROJECT "": the node's */
	struct loop_timer timer;
	/* the status document */
	char state[16], since[DOC_TIME_LEN + 1], reason[400];
	unsigned failures;              /* in a row */
	uint64_t hold_ns;               /* no step before, unless the document changes */
	bool is_writing, is_dirty, is_lost;     /* LOST: the last try to write it has failed */
	bool is_leaving;                /* that its document goes is on its way to the store, and then it is freed */
	int64_t renaming;               /* its document, at this revision, is on its way to another key; 0: it is not */
};

struct controller_kind {
	const char *kind;               /* "instance" */
	size_t size;                    /* of the object */
	/* A new object, zeroed but for its struct controlled, and its document; STATUS is what was last known, or NULL. */
	int (*init)(struct controlled *c, const json_t *doc, const json_t *status);
	void (*step)(struct controlled *c, const json_t *doc, int64_t revision);
	/* The document is to go, or has gone (DOC NULL). Ends, now or after more steps, in controlled_removed(). */
	void (*step_gone)(struct controlled *c, const json_t *doc);
	/* Members of STATUS beyond state, since, reason and failures. NULL: none. */
	void (*add_status)(const struct controlled *c, json_t *status);
	/* It has another name; its document, which was at revision WAS, is at NOW by that. NULL: that is nothing to it. */
	void (*renamed)(struct controlled *c, int64_t was, int64_t now);
	void (*fini)(struct controlled *c);     /* also of one whose init() has failed */
};

/* Make objects for all documents, and for those to come. K is borrowed. */
int controller_open(struct controller **out, struct node *n, const struct controller_kind *k, struct err *err);
/* No further steps. Before the store closes, which still tells of commits; NULL is fine. */
void controller_stop(struct controller *ctl);
/* After it has. NULL is fine. */
void controller_close(struct controller *ctl);
/* One after the other, in no order; C NULL: the first. */
struct controlled *controller_next(const struct controller *ctl, const struct controlled *c);
/* However many there are. CTL NULL: there is none. */
struct controlled *controller_find(const struct controller *ctl, const char *key);

/* Steps of all objects of CTL (NULL: there are none) whose key begins with PREFIX, in MS at the latest. */
void controller_kick_all(const struct controller *ctl, const char *prefix, unsigned ms);

/* A step soon, or in MS at the latest. */
void controlled_kick(struct controlled *c);
void controlled_later(struct controlled *c, unsigned ms);
/* What is seen from now on: a word, and a sentence or "". */
void controlled_set(struct controlled *c, const char *state, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Something of add_status() has changed. */
void controlled_write(struct controlled *c);
/* A step has failed: state "failed", and again after a pause that grows. */
void controlled_failed(struct controlled *c, const struct err *err);
/* It cannot go yet, for the reason in ERR: looked at again now and then. */
void controlled_blocked(struct controlled *c, const struct err *err);
/* Its document, at REVISION, is about to get another key by a commit of the caller's, in which the new one names the old one as its
 * 'renamed_from'; when that shows, C goes on under the new key. Until then, and until controlled_renamed(), its status is not written, and
 * its documents are not taken away. */
void controlled_rename(struct controlled *c, int64_t revision);
/* That commit has ended, well or not. C NULL: it has gone meanwhile. */
void controlled_renamed(struct controlled *c);
/* Nothing of it is left: take its documents away. C is freed. */
void controlled_removed(struct controlled *c);

#endif

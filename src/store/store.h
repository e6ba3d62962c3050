/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - the state of record: documents by key, every change with a revision.
 *
 * A copy of all documents is held in memory, so reading is a look-up and never waits. Changes go
 * to a back end - SQLite on one node - and show in the copy, in watches and in the caller's DONE
 * once they are durable, in the order of their revisions. Whoever crashes before DONE finds after
 * the restart either all of a commit or nothing of it.
 *
 * Keys are paths of printable ASCII without spaces, at most STORE_KEY_MAX bytes ("instance/default/web");
 * values are bytes, at most STORE_VALUE_MAX. Loop thread only. */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;
struct loop;
struct store;

enum {
	STORE_KEY_MAX = 512,
	STORE_VALUE_MAX = 1 << 20,
	STORE_OPS_MAX = 128,            /* of one commit */
	STORE_HISTORY = 8192,           /* events kept for those who resume a watch */
};

struct store_doc {
	const char *key, *value;        /* both NUL-terminated; VALUE has LEN bytes before its NUL */
	size_t len;
	int64_t created, modified;      /* revisions, from 1 on */
};

/* Open the store in the file PATH, made when it does not exist (mode 0600). It belongs to this process until
 * store_close(). -EBUSY: another process has it; -EPROTO: it is no store, damaged, or of a newer
 * version. */
int store_open(struct store **out, struct loop *loop, const char *path, struct err *err);
/* Waits for commits that were begun; their DONE runs with their result. NULL is fine. */
void store_close(struct store *s);
DEFINE_AUTO(struct store *, store_close)

/* --- reading: what is borrowed lasts until the loop runs other callbacks ------------------------------ */

int64_t store_revision(const struct store *s);          /* of the last change; 0: none ever */
size_t store_count(const struct store *s);
const struct store_doc *store_get(const struct store *s, const char *key);
/* The first document, in byte order of keys, that begins with PREFIX and lies after AFTER (NULL: from
 * the start). NULL: there is none. */
const struct store_doc *store_next(const struct store *s, const char *prefix, const char *after);

/* --- changing ---------------------------------------------------------------------------------------- */

enum store_op_kind { STORE_PUT, STORE_DELETE, STORE_CHECK };
enum { STORE_ANY = -1, STORE_ABSENT = 0 };

struct store_op {
	enum store_op_kind kind;
	const char *key, *value;        /* VALUE of a put */
	size_t len;
	/* Only when the document's `modified` is this; STORE_ABSENT: when there is none; STORE_ANY. */
	int64_t if_modified;
};

struct store_result {
	int code;                       /* 0; -ESTALE: a condition does not hold; -EINVAL; -ENOSPC; -EIO */
	unsigned op;                    /* -ESTALE: the first whose condition does not hold */
	int64_t revision;               /* of the commit; 0 on failure */
	const char *message;            /* a sentence; "" on success */
};
typedef void (*store_done_fn)(void *arg, const struct store_result *r);

/* All of the OPS (copied) or none. DONE(ARG) runs later from the loop, after the watches; NULL: nobody
 * waits. What cannot even be begun ends there too. */
void store_commit(struct store *s, const struct store_op *ops, unsigned n, store_done_fn done, void *arg);

/* What has been overwritten or deleted so far goes from the files, too, soon. */
void store_scrub(struct store *s);

/* How the disk does below the store. Times are those of the monotonic clock. */
struct store_health {
	bool is_failing;                /* the last write has failed, for the REASON; it is tried again each second */
	char reason[512];               /* a sentence; "" */
	uint64_t waiting_ns;            /* so long what is being written has waited already; 0: nothing is */
	uint64_t last_ns, total_ns;     /* what the last write took until it was durable, and all of them */
	uint64_t writes, failures;
};
void store_health(const struct store *s, struct store_health *out);

/* --- watching ------------------------------------------------------------------------------------------ */

struct store_event {
	int64_t revision;
	bool is_delete;
	const struct store_doc *doc;    /* as it is now; of a delete: as it was */
};

/* Embedded in its owner's struct; in place until store_watch_stop(). A callback may stop any watch and
 * commit. */
struct store_watch {
	const char *prefix;             /* borrowed */
	void (*fn)(struct store_watch *w, const struct store_event *e);
	struct store *store;            /* private from here */
	struct store_watch *next, **at;
};

/* Call W->fn for each change of a key with PREFIX. FROM: first, before this returns, for those after
 * revision FROM; STORE_ANY: only for later ones. -ERANGE: that is too long ago or has not been yet; list
 * all and watch from store_revision(). */
int store_watch_start(struct store *s, struct store_watch *w, int64_t from);
void store_watch_stop(struct store_watch *w);           /* not started: nothing happens */

#endif

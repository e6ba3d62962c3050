/* SPDX-License-Identifier: Apache-2.0 */
/* doc.h - the documents of the platform in the store.
 *
 * A thing has up to two documents: what is wanted, under "KIND/PROJECT/NAME", which only the API writes, and
 * what is seen, under "status/KIND/PROJECT/NAME", which only its controller writes. So neither waits for the
 * other, and a revision that a client holds does not go stale because a machine has started. Clients see both
 * as one, with "status" and "revision" (of the first) as members. Loop thread. */
#ifndef NODE_DOC_H
#define NODE_DOC_H

#include <stdint.h>
#include <time.h>
#include "store/store.h"
#include "util/json.h"

struct err;

enum { DOC_UID_LEN = 16, DOC_TIME_LEN = 20, DOC_NAME_MAX = 63 };

/* "KIND/PROJECT/NAME"; names have been checked by their schema. */
void doc_key(char key[STORE_KEY_MAX + 1], const char *kind, const char *project, const char *name);
void doc_status_key(char key[STORE_KEY_MAX + 1], const char *doc_key);

/* The document under KEY, parsed, as a new reference, and its revision (MODIFIED may be NULL). NULL: there is none. */
json_t *doc_get(const struct store *s, const char *key, int64_t *modified);
/* What clients see of the document under KEY: its text with "revision" and "status" in it, from malloc(). It
 * is made of the stored texts as they are, without parsing, but for one that has a secret: 'user_data' is left out, wherever
 * it stands. NULL: out of memory. */
char *doc_view(const struct store *s, const struct store_doc *d, size_t *len);
/* As doc_view(), with its secrets: for who may change it, and asks for this one. */
char *doc_view_whole(const struct store *s, const struct store_doc *d, size_t *len);

/* 16 hexadecimal digits that nobody else has. */
void doc_new_uid(char uid[DOC_UID_LEN + 1]);
/* WHEN, as below. Texts of times compare as the times do. */
void doc_time(char text[DOC_TIME_LEN + 1], time_t when);
/* Now, as RFC 3339 in UTC: "2026-11-21T16:00:00Z". */
void doc_now(char time[DOC_TIME_LEN + 1]);

/* Put DOC (borrowed) under KEY if it is still at IF_MODIFIED (as store.h has it). -ENOMEM: nothing is done, and DONE
 * is not called. */
int doc_put(struct store *s, const char *key, const json_t *doc, int64_t if_modified, store_done_fn done, void *arg);

#endif

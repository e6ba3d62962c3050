/* SPDX-License-Identifier: Apache-2.0 */
/* certificate.h - the certificate that the daemon shows, for as long as it runs: it is looked at every few seconds, as its files
 * may be links to files elsewhere, on file systems that tell nobody of changes; and on SIGHUP at once. What has changed, and
 * then stayed the same for one look, is read, tried out, and shown to who comes from then on. What is damaged, is not that of
 * the key or has expired is refused with a sentence in the log, and the one before stays. The own one is made anew with the
 * same key before it ends. Workers read and write the files. Loop thread. */
#ifndef NODE_CERTIFICATE_H
#define NODE_CERTIFICATE_H

#include <jansson.h>
#include <time.h>
#include "util/cleanup.h"

struct certificate;
struct err;
struct node;

enum {
	CERTIFICATE_LOOK_S = 5,
	CERTIFICATE_WARN_S = 14 * 86400,        /* so long before its end it is a problem */
};

/* With the files CERT and KEY, or, when CERT is NULL, with one that it makes itself for ADDRESS (NULL: none). Fails when it is
 * none; one that has expired is shown all the same, as there is no other. */
int certificate_open(struct certificate **out, struct node *n, const char *cert, const char *key, const char *address,
		     struct err *err);
void certificate_close(struct certificate *c);          /* NULL is fine */
DEFINE_AUTO(struct certificate *, certificate_close)
const char *certificate_file(const struct certificate *c);
const char *certificate_key_file(const struct certificate *c);
/* The server serves: from now on it is seen to. */
void certificate_start(struct certificate *c);

/* Look at the files now, whether they seem changed or not: soon afterwards they are shown, or refused. C may be NULL. */
void certificate_reload(struct certificate *c);
/* For GET /v1/node and /v1/events, a new reference; NULL: there is none, as C is NULL. */
json_t *certificate_view(const struct certificate *c);
const char *certificate_fingerprint(const struct certificate *c);
time_t certificate_ends(const struct certificate *c);
/* What is wrong with it; "" when nothing is. */
const char *certificate_problem(const struct certificate *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* audit.h - who has changed what: a log that nobody can alter in the middle without it showing.
 *
 * A record is a line of JSON in DIR/audit-SEQ.log, SEQ being the number of the file's first record. Each has the SHA-256 of
 * the one before it ("prev") and its own ("hash", over the line without that member). What has been cut off at the end
 * shows by comparing with the head that the store keeps, and with heads that people have written down elsewhere. Lines are
 * with the kernel when audit_write() returns, so a killed daemon loses none, and on the disk soon after.
 *
 * audit_open/close: loop thread. Reading is for workers: it sees what had been written when it began. */
#ifndef NODE_AUDIT_H
#define NODE_AUDIT_H

#include <stdint.h>
#include "node/secret.h"
#include "util/cleanup.h"
#include "util/json.h"

struct audit;
struct err;

enum {
	AUDIT_FILE_MAX = 16 << 20,      /* then the next file begins */
	AUDIT_LINE_MAX = 8 << 10,
};

struct audit_head {
	int64_t seq;                    /* of the last record; 0: there is none */
	char hash[SECRET_HASH_LEN + 1]; /* its hash; 64 times '0' */
};

/* Go on with the log in DIR. What a power cut has left of a last line is taken off. */
int audit_open(struct audit **out, const char *dir, struct err *err);
void audit_close(struct audit *a);              /* NULL is fine */
DEFINE_AUTO(struct audit *, audit_close)
/* RECORD (taken), which has its time, with its number and hashes. -EIO, -ENOSPC, -EROFS: it is not in the log, and the next one may
 * be. Waits for the disk: for one thread beside the loop. */
int audit_write(struct audit *a, json_t *record, struct err *err);
struct audit_head audit_head(struct audit *a);  /* any thread */

struct audit_query {
	const char *dir;
	int64_t before;                 /* records with a smaller number; 0: from the end */
	unsigned limit;                 /* the last so many of them */
	const char *user, *project;     /* only this one's; NULL: all */
};
/* An array in the order of their numbers, as a new reference. */
int audit_read(json_t **out, const struct audit_query *q, struct err *err);

struct audit_check {
	int64_t records, bad;           /* BAD: number of the first that does not fit; 0: all do */
	struct audit_head head;         /* of what is there */
	char why[128];                  /* what is wrong with BAD */
};
/* Follow the chain from the first record on; it must contain KNOWN (SEQ 0: nothing is known) as it was. */
int audit_verify(struct audit_check *out, const char *dir, const struct audit_head *known, struct err *err);

#endif

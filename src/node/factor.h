/* SPDX-License-Identifier: Apache-2.0 */
/* factor.h - what a user shows besides the password: a code of an authenticator (totp.h), or one of the recovery codes
 * that are good once.
 *
 * A user enrols with the own password and gets the authenticator's key, once. It counts from the first code on that is
 * shown, which is answered with recovery codes. Each code lets in once: its step of the time is kept, and no earlier one is
 * taken any more. "secret/totp/_/NAME", which no route shows, has the key (sealed: vault.h), the last step, and SHA-256 of the
 * recovery codes. Administrators take codes away from others, and can neither see nor make them. Loop thread. */
#ifndef NODE_FACTOR_H
#define NODE_FACTOR_H

#include <jansson.h>
#include <stdbool.h>
#include "api/route.h"
#include "store/store.h"

struct err;
struct node;

enum {
	FACTOR_RECOVERY_CODES = 10,
	FACTOR_CODE_MAX = 64,           /* characters of what somebody types */
	FACTOR_FREE = 9,                /* wrong codes of a user that cost no waiting (throttle.h) */
	FACTOR_FRESH_S = 300,           /* so long a session that began with a code need not show one again */
};

/* A code that is right, to be used up. */
struct factor_use {
	char key[STORE_KEY_MAX + 1];
	char *text;                     /* owned */
	struct store_op op;             /* to be committed with what the code allows; refers to the two */
	bool is_recovery;
	unsigned n_left;                /* recovery codes after it */
};

/* Seal what is not sealed with the key of today; what cannot be opened is told in the log. */
int factor_open(struct node *n, struct err *err);

/* May the one whose document is USER, and who has shown the password, come in with CODE (NULL: none was sent)? 1: with
 * USE, which the caller ends with factor_use_end(); 0: yes, that user has no codes. -EACCES: a code is needed; -EPERM: that
 * is none, or has been used. */
int factor_check(struct node *n, const json_t *user, const char *code, struct factor_use *use, struct err *err);
void factor_use_end(struct factor_use *use);
/* What wrong codes of the user NAME count against. */
void factor_who(char *who, size_t cap, const char *name);

extern const struct schema totp_schema, totp_begin_schema, totp_key_schema, totp_confirm_schema, totp_recovery_schema,
	totp_remove_schema;
void factor_show(struct api_call *c);           /* GET /v1/users/{user}/totp */
void factor_begin(struct api_call *c);          /* POST /v1/users/{user}/totp */
void factor_confirm(struct api_call *c);        /* POST /v1/users/{user}/totp/confirm */
void factor_remove(struct api_call *c);         /* POST /v1/users/{user}/totp/remove */

#endif

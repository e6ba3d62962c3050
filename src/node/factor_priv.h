/* SPDX-License-Identifier: Apache-2.0 */
/* factor_priv.h - what the routes of factor_api.c need of factor.c. */
#ifndef NODE_FACTOR_PRIV_H
#define NODE_FACTOR_PRIV_H

#include "node/factor.h"
#include "node/totp.h"

/* What is kept of the one whose document is USER, a new reference, and under which key and since which revision; NULL:
 * nothing, or something of an earlier user of that name. */
json_t *factor_kept(struct node *n, const json_t *user, char key[STORE_KEY_MAX + 1], int64_t *modified);
/* Has it been confirmed? */
bool factor_is_on(const json_t *kept);
/* Use CODE up in KEPT, as the user who asks C; wrong ones count. -EPERM; -EUSERS: that user has to wait. */
int factor_spend(struct api_call *c, json_t *kept, const char *code, struct err *err);
/* KEY of the user UID as it is kept, a new reference. */
json_t *factor_seal(const struct node *n, const uint8_t key[TOTP_KEY_LEN], const char *uid, struct err *err);
/* The key in KEPT. -ENOKEY: that it is sealed with has been lost; -EBADMSG: it is damaged, or another user's. */
int factor_unseal(const struct node *n, const json_t *kept, uint8_t key[TOTP_KEY_LEN]);
/* New recovery codes, a new reference, whose hashes are in KEPT afterwards. */
json_t *factor_make_recovery(json_t *kept);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* vault.h - secrets that the daemon needs as they are, sealed before they go into the store.
 *
 * The keys lie in a file beside the store (or elsewhere), so that a copy of the database tells nothing. It has lines of an
 * identifier and 32 bytes as hexadecimal digits; the first one seals, all of them open. What is sealed is
 * "v1:IDENTIFIER:" and, as base64, 12 random bytes, AES-256-GCM's text and its 16 bytes of authentication, which cover what the secret is
 * BOUND to as well: put elsewhere in the store, it does not open. Loop thread. */
#ifndef NODE_VAULT_H
#define NODE_VAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"

struct err;
struct vault;

enum {
	VAULT_SECRET_MAX = 256,         /* bytes of a secret */
	VAULT_SEALED_MAX = 512,         /* characters of a sealed one, with the NUL */
};

/* With the keys of the file PATH (copied), which is made, for this user alone, when it is not there. ROTATES: a new key is put before
 * those that are there. -EPERM: others may read it; -EBADMSG: it is damaged, and left as it is. */
int vault_open(struct vault **out, const char *path, bool rotates, struct err *err);
void vault_close(struct vault *v);              /* NULL is fine */
DEFINE_AUTO(struct vault *, vault_close)
/* The file with the keys. */
const char *vault_path(const struct vault *v);

/* Seal LEN bytes of SECRET with the first key. -EIO: OpenSSL does not do it. */
int vault_seal(const struct vault *v, char sealed[VAULT_SEALED_MAX], const void *secret, size_t len, const char *bound, struct err *err);
/* The secret of LEN bytes in SEALED. -ENOKEY: its key is not there; -EBADMSG: it is damaged, of another length, or bound to
 * something else. */
int vault_unseal(const struct vault *v, void *secret, size_t len, const char *sealed, const char *bound);
/* Was it sealed with the first key? */
bool vault_is_current(const struct vault *v, const char *sealed);
/* Nothing is sealed with other keys than the first any more: they go from the file, too. */
int vault_forget(struct vault *v, struct err *err);

#endif

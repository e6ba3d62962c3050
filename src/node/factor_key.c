/* SPDX-License-Identifier: Apache-2.0 */
/* factor_key.c - the keys of authenticators, which are kept sealed (vault.h): opened when a code is looked at, and sealed anew when the
 * daemon starts and they are not sealed with the key of today. */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "node/auth_priv.h"
#include "node/factor_priv.h"
#include "node/node.h"
#include "node/vault.h"
#include "util/base64.h"
#include "util/err.h"
#include "util/log.h"

enum { BOUND_MAX = 64, NAMES_MAX = 200 };

static const char prefix[] = "secret/totp/" AUTH_ALL "/";

static void write_bound(char bound[BOUND_MAX], const char *uid)
{
	snprintf(bound, BOUND_MAX, "totp:%s", uid);
}

json_t *factor_seal(const struct node *n, const uint8_t key[TOTP_KEY_LEN], const char *uid, struct err *err)
{
	char sealed[VAULT_SEALED_MAX], bound[BOUND_MAX];

	write_bound(bound, uid);
	return vault_seal(n->vault, sealed, key, TOTP_KEY_LEN, bound, err) < 0 ? NULL : json_string(sealed);
}

/* As stores of earlier versions have it: base64, which has no colon. */
static int decode_open(const char *text, uint8_t key[TOTP_KEY_LEN])
{
	uint8_t raw[BASE64_LEN(TOTP_KEY_LEN)];
	bool ok = strlen(text) == sizeof(raw) && base64_decode(raw, text, sizeof(raw)) == TOTP_KEY_LEN;

	if (ok)
		memcpy(key, raw, TOTP_KEY_LEN);
	OPENSSL_cleanse(raw, sizeof(raw));
	return ok ? 0 : -EBADMSG;
}

int factor_unseal(const struct node *n, const json_t *kept, uint8_t key[TOTP_KEY_LEN])
{
	const char *text = auth_text(kept, NULL, "key");
	char bound[BOUND_MAX];

	write_bound(bound, auth_text(kept, NULL, "user_uid"));
	return strchr(text, ':') ? vault_unseal(n->vault, key, TOTP_KEY_LEN, text, bound) : decode_open(text, key);
}

/* --- when the daemon starts ---------------------------------------------------- */

/* Keys on their way to the store, sealed anew. */
struct resealing {
	struct node *node;
	unsigned pending, failed, done;
};

static void resealed(struct resealing *s)
{
	struct err err = ERR_INIT;

	if (--s->pending)
		return;
	if (s->failed)
		log_warn("%u keys of authenticators are not sealed with the key of today yet; the next start tries again", s->failed);
	else if (vault_forget(s->node->vault, &err) < 0)
		log_warn("%s", err.msg);
	if (s->done) {
		log_info("%u keys of authenticators have been sealed with the key of today", s->done);
		store_scrub(s->node->store);
	}
	free(s);
}

static void is_put(void *arg, const struct store_result *r)
{
	struct resealing *s = arg;

	/* Whoever has changed it meanwhile has sealed it. */
	s->failed += r->code && r->code != -ESTALE;
	s->done += !r->code;
	resealed(s);
}

/* The document KEPT under KEY. False: it does not open. */
static bool reseal(struct resealing *s, const char *key, json_t *kept, int64_t modified)
{
	uint8_t plain[TOTP_KEY_LEN];
	struct err err = ERR_INIT;

	if (factor_unseal(s->node, kept, plain) < 0)
		return false;
	json_t *sealed = factor_seal(s->node, plain, auth_text(kept, NULL, "user_uid"), &err);

	OPENSSL_cleanse(plain, sizeof(plain));
	s->pending++;
	if (!sealed || json_object_set_new(kept, "key", sealed) < 0 || doc_put(s->node->store, key, kept, modified, is_put, s) < 0) {
		s->failed++;
		s->pending--;
	}
	return true;
}

int factor_open(struct node *n, struct err *err)
{
	char key[STORE_KEY_MAX + 1] = "", lost[NAMES_MAX] = "";
	struct resealing *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	*s = (struct resealing){ .node = n, .pending = 1 };
	for (const struct store_doc *d; (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *kept = json_loadb(d->value, d->len, 0, NULL);
		const char *name = strrchr(d->key, '/') + 1;
		size_t len = strlen(lost);

		snprintf(key, sizeof(key), "%s", d->key);
		if (!vault_is_current(n->vault, auth_text(kept, NULL, "key")) && !reseal(s, key, kept, d->modified))
			snprintf(lost + len, sizeof(lost) - len, "%s'%s'", len ? ", " : "", name);
	}
	if (lost[0])
		log_warn("the key that authenticators of %s are sealed with is not in '%s': put its line back and start again; until then recovery codes let "
			 "them in, or an administrator takes the authenticator away (viv totp disable), and they take a new one",
			 lost, vault_path(n->vault));
	resealed(s);
	return 0;
}

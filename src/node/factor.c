/* SPDX-License-Identifier: Apache-2.0 */
#include "node/factor_priv.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "node/auth_priv.h"
#include "node/clock.h"
#include "node/node.h"
#include "node/totp.h"
#include "util/err.h"

enum {
	RECOVERY_BYTES = 10,
	RECOVERY_LEN = 16,              /* characters: 80 random bits, so SHA-256 of them cannot be searched */
};

/* --- what is kept ---------------------------------------------------- */

json_t *factor_kept(struct node *n, const json_t *user, char key[STORE_KEY_MAX + 1], int64_t *modified)
{
	*modified = STORE_ABSENT;
	doc_key(key, "secret/totp", AUTH_ALL, auth_text(user, NULL, "name"));
	AUTO(json_decref) json_t *kept = doc_get(n->store, key, modified);

	return kept && !strcmp(auth_text(kept, NULL, "user_uid"), auth_text(user, NULL, "uid")) ? json_incref(kept) : NULL;
}

bool factor_is_on(const json_t *kept)
{
	return auth_text(kept, NULL, "since")[0] != 0;
}

void factor_who(char *who, size_t cap, const char *name)
{
	snprintf(who, cap, "c:%s", name);
}

/* --- a code that somebody types ---------------------------------------------------- */

/* Without what makes it readable. */
static void plain_code(char out[FACTOR_CODE_MAX + 1], const char *code)
{
	unsigned n = 0;

	for (; *code && n < FACTOR_CODE_MAX; code++)
		if (*code != '-' && !isspace((unsigned char)*code))
			out[n++] = (char)tolower((unsigned char)*code);
	out[n] = 0;
}

/* KEPT without the recovery code CODE. */
static int use_recovery(json_t *kept, const char *code, struct factor_use *use)
{
	json_t *hashes = json_object_get(kept, "recovery"), *hash;
	char mine[SECRET_HASH_LEN + 1];
	size_t i, found = json_array_size(hashes);

	secret_hash(mine, code, strlen(code));
	json_array_foreach(hashes, i, hash)
		if (secret_equal(mine, json_string_value(hash) ? json_string_value(hash) : ""))
			found = i;
	if (json_array_remove(hashes, found) < 0)
		return -EPERM;
	use->is_recovery = true;
	use->n_left = (unsigned)json_array_size(hashes);
	return 0;
}

/* KEPT with CODE used up. */
static int use_code(const struct node *n, json_t *kept, const char *code, struct factor_use *use, struct err *err)
{
	char plain[FACTOR_CODE_MAX + 1];
	uint8_t key[TOTP_KEY_LEN];
	int64_t step = -ENOENT;

	plain_code(plain, code);
	uint64_t now = (uint64_t)time(NULL), when;
	int64_t last = totp_last_step(json_integer_value(json_object_get(kept, "step")), now, CLOCK_DOUBT_S, &when);
	int opened = factor_unseal(n, kept, key);

	if (!opened)
		step = totp_find_step(key, plain, now, last);
	OPENSSL_cleanse(key, sizeof(key));
	if (step == -EALREADY && when) {
		char until[DOC_TIME_LEN + 1];

		doc_time(until, (time_t)when);
		return err_set(err, -EPERM, "the clock of this node has been set back: codes are taken again from %s on; a recovery code lets you in", until);
	}
	if (step == -EALREADY)
		return err_set(err, -EPERM, "that code has been used; wait for the next one");
	if (step > 0)
		return json_object_set_new(kept, "step", json_integer(step)) < 0 ? err_set(err, -EAGAIN, "out of memory") : 0;
	if (strlen(plain) == RECOVERY_LEN && !use_recovery(kept, plain, use))
		return 0;
	if (opened == -ENOKEY)
		return err_set(err, -EPERM, "this node has lost the key that the authenticator's is sealed with: use a recovery code, or have an administrator "
			       "take the authenticator away");
	return err_set(err, -EPERM, "that is not the code; is the clock of the authenticator right?");
}

int factor_spend(struct api_call *c, json_t *kept, const char *code, struct err *err)
{
	struct throttle *t = &((struct node *)c->arg)->auth->throttle;
	struct factor_use use = { .text = NULL };
	uint64_t now = loop_now_ns() / 1000000000;
	char who[DOC_NAME_MAX + 8];

	factor_who(who, sizeof(who), c->user.name);
	if (throttle_wait(t, who, FACTOR_FREE, now))
		return err_set(err, -EUSERS, "too many wrong codes; try again later");
	int r = use_code(c->arg, kept, code, &use, err);

	if (r == -EPERM)
		throttle_fail(t, who, now);
	return r;
}

int factor_check(struct node *n, const json_t *user, const char *code, struct factor_use *use, struct err *err)
{
	int64_t modified;
	int r = 0;

	*use = (struct factor_use){ .text = NULL };
	AUTO(json_decref) json_t *kept = factor_kept(n, user, use->key, &modified);
	/* Who has none now must have none still when the session begins. */
	use->op = (struct store_op){ .kind = STORE_CHECK, .key = use->key, .if_modified = modified };
	if (!factor_is_on(kept))
		return 0;
	if (!code || !code[0])
		return err_set(err, -EACCES, "a code is needed: what the authenticator shows, or a recovery code");
	r = use_code(n, kept, code, use, err);
	if (r < 0)
		return r;
	use->text = json_dumps(kept, JSON_COMPACT);
	if (!use->text)
		return err_set(err, -EAGAIN, "out of memory");
	use->op = (struct store_op){ .kind = STORE_PUT, .key = use->key, .value = use->text, .len = strlen(use->text),
				     .if_modified = modified };
	return 1;
}

void factor_use_end(struct factor_use *use)
{
	if (use->text)
		OPENSSL_cleanse(use->text, strlen(use->text));
	free(use->text);
	use->text = NULL;
}

json_t *factor_make_recovery(json_t *kept)
{
	json_t *codes = json_array(), *hashes = json_array();
	uint8_t bytes[RECOVERY_BYTES];
	char text[RECOVERY_LEN + 1], plain[FACTOR_CODE_MAX + 1], hash[SECRET_HASH_LEN + 1];

	for (int i = 0; i < FACTOR_RECOVERY_CODES; i++) {
		secret_random(bytes, sizeof(bytes));
		totp_base32(text, bytes, sizeof(bytes));
		plain_code(plain, text);
		secret_hash(hash, plain, strlen(plain));
		json_array_append_new(hashes, json_string(hash));
		json_array_append_new(codes, json_sprintf("%.4s-%.4s-%.4s-%.4s", plain, plain + 4, plain + 8, plain + 12));
	}
	OPENSSL_cleanse(bytes, sizeof(bytes));
	OPENSSL_cleanse(text, sizeof(text));
	OPENSSL_cleanse(plain, sizeof(plain));
	json_object_set_new(kept, "recovery", hashes);
	return codes;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "node/files.h"
#include "node/secret.h"
#include "util/base64.h"
#include "util/checked.h"
#include "util/err.h"

enum {
	KEY_LEN = 32, NONCE_LEN = 12, TAG_LEN = 16, ID_LEN = 8,
	LINE_LEN = ID_LEN + 1 + 2 * KEY_LEN + 1,        /* "IDENTIFIER KEY\n" */
	KEYS_MAX = 16,
	FILE_MAX = KEYS_MAX * LINE_LEN,
	PREFIX_LEN = 3 + ID_LEN + 1,                    /* "v1:IDENTIFIER:" */
	RAW_MAX = NONCE_LEN + VAULT_SECRET_MAX + TAG_LEN,
};
_Static_assert(PREFIX_LEN + BASE64_LEN(RAW_MAX) < VAULT_SEALED_MAX, "what is sealed has room");

struct key {
	char id[ID_LEN + 1];
	uint8_t bytes[KEY_LEN];
};

struct vault {
	char *path;
	struct key key[KEYS_MAX];
	unsigned n;
};

DEFINE_AUTO(EVP_CIPHER_CTX *, EVP_CIPHER_CTX_free)

/* --- the file ---------------------------------------------------- */

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line of LINE_LEN characters. */
static bool parse_key(struct key *k, const char *line)
{
	const char *hex = line + ID_LEN + 1;

	memcpy(k->id, line, ID_LEN);
	k->id[ID_LEN] = 0;
	for (unsigned i = 0; i < KEY_LEN; i++) {
		int high = digit(hex[2 * i]), low = digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		k->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return strspn(k->id, "0123456789abcdef") == ID_LEN && line[ID_LEN] == ' ' && line[LINE_LEN - 1] == '\n';
}

/* -ENOENT: there is none. */
static int load(struct vault *v, struct err *err)
{
	char text[FILE_MAX + 1];
	struct stat st;
	AUTO_FD int fd = open(v->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n = fd < 0 || fstat(fd, &st) < 0 ? -1 : read(fd, text, sizeof(text));

	if (n < 0)
		return err_set(err, -errno, "cannot read the keys of secrets in '%s': %s", v->path, strerror(errno));
	if (st.st_mode & 077)
		return err_set(err, -EPERM, "others may read or change the keys of secrets in '%s': chmod 600 it, then have secrets made anew "
			       "that they may have read", v->path);
	bool ok = n && n % LINE_LEN == 0 && n <= FILE_MAX;

	for (ssize_t at = 0; ok && at < n; at += LINE_LEN)
		ok = parse_key(&v->key[v->n++], text + at);
	OPENSSL_cleanse(text, sizeof(text));
	return ok ? 0 : err_set(err, -EBADMSG, "'%s' is not what the keys of secrets were written as; put a copy in its place, or move it aside: "
				"a new one is made then, and users who have an authenticator need a new one, too", v->path);
}

/* Whole or not at all. */
static int save(const struct vault *v, struct err *err)
{
	char tmp[PATH_MAX], text[FILE_MAX + 1], *at = text;

	snprintf(tmp, sizeof(tmp), "%s.tmp", v->path);
	for (unsigned i = 0; i < v->n; i++) {
		at += sprintf(at, "%s ", v->key[i].id);
		for (unsigned k = 0; k < KEY_LEN; k++)
			at += sprintf(at, "%02x", v->key[i].bytes[k]);
		*at++ = '\n';
	}
	(void)unlink(tmp);
	AUTO_FD int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && write(fd, text, (size_t)(at - text)) == at - text && !fsync(fd) && !rename(tmp, v->path);
	int r = ok ? 0 : err_set(err, -errno, "cannot write the keys of secrets in '%s': %s", v->path, strerror(errno));

	OPENSSL_cleanse(text, sizeof(text));
	return r < 0 ? r : files_sync_above(v->path, err);
}

/* A new key before those that are there. */
static int add_key(struct vault *v, struct err *err)
{
	uint8_t id[ID_LEN / 2];

	if (v->n == KEYS_MAX)
		return err_set(err, -ENOSPC, "'%s' has %d keys of secrets already: earlier ones go when all is sealed with the last", v->path,
			       KEYS_MAX);
	memmove(&v->key[1], &v->key[0], v->n * sizeof(v->key[0]));
	v->n++;
	secret_random(v->key[0].bytes, KEY_LEN);
	secret_random(id, sizeof(id));
	for (unsigned i = 0; i < sizeof(id); i++)
		snprintf(v->key[0].id + 2 * i, 3, "%02x", id[i]);
	return save(v, err);
}

int vault_open(struct vault **out, const char *path, bool rotates, struct err *err)
{
	AUTO(vault_close) struct vault *v = calloc(1, sizeof(*v));

	if (v)
		v->path = strdup(path);
	if (!v || !v->path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = load(v, err);
	if (r == -ENOENT || (!r && rotates))
		r = add_key(v, err);
	if (r < 0)
		return r;
	*out = take_ptr(&v);
	return 0;
}

void vault_close(struct vault *v)
{
	if (!v)
		return;
	free(v->path);
	OPENSSL_cleanse(v, sizeof(*v));
	free(v);
}

const char *vault_path(const struct vault *v)
{
	return v->path;
}

int vault_forget(struct vault *v, struct err *err)
{
	unsigned n = v->n;

	if (n == 1)
		return 0;
	v->n = 1;
	int r = save(v, err);
	if (r < 0)
		v->n = n;
	else
		OPENSSL_cleanse(&v->key[1], (KEYS_MAX - 1) * sizeof(v->key[0]));
	return r;
}

/* --- secrets ---------------------------------------------------- */

/* LEN bytes of IN to OUT, and TAG: made (SEALS), or what it must be. */
static bool transform(const struct key *k, bool seals, const uint8_t nonce[NONCE_LEN], const char *bound, uint8_t *out, const uint8_t *in,
		  size_t len, uint8_t tag[TAG_LEN])
{
	AUTO(EVP_CIPHER_CTX_free) EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
	uint8_t rest[16];
	int n;

	if (!x || EVP_CipherInit_ex(x, EVP_aes_256_gcm(), NULL, k->bytes, nonce, seals) != 1 ||
	    EVP_CipherUpdate(x, NULL, &n, (const uint8_t *)bound, (int)strlen(bound)) != 1 ||
	    EVP_CipherUpdate(x, out, &n, in, (int)len) != 1)
		return false;
	if (!seals && EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_GCM_SET_TAG, TAG_LEN, tag) != 1)
		return false;
	return EVP_CipherFinal_ex(x, rest, &n) == 1 && (!seals || EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_GCM_GET_TAG, TAG_LEN, tag) == 1);
}

int vault_seal(const struct vault *v, char sealed[VAULT_SEALED_MAX], const void *secret, size_t len, const char *bound, struct err *err)
{
	uint8_t raw[RAW_MAX];

	if (len > VAULT_SECRET_MAX)
		return err_set(err, -EINVAL, "a secret has %d bytes at most", VAULT_SECRET_MAX);
	secret_random(raw, NONCE_LEN);
	if (!transform(&v->key[0], true, raw, bound, raw + NONCE_LEN, secret, len, raw + NONCE_LEN + len))
		return err_set(err, -EIO, "a secret cannot be sealed");
	int n = sprintf(sealed, "v1:%s:", v->key[0].id);
	base64_encode(sealed + n, raw, NONCE_LEN + len + TAG_LEN);
	return 0;
}

static const struct key *key_of(const struct vault *v, const char *sealed)
{
	if (strncmp(sealed, "v1:", 3) != 0 || strlen(sealed) < PREFIX_LEN || sealed[PREFIX_LEN - 1] != ':')
		return NULL;
	for (unsigned i = 0; i < v->n; i++)
		if (!memcmp(v->key[i].id, sealed + 3, ID_LEN))
			return &v->key[i];
	return NULL;
}

int vault_unseal(const struct vault *v, void *secret, size_t len, const char *sealed, const char *bound)
{
	const struct key *k = key_of(v, sealed);
	uint8_t raw[BASE64_LEN(RAW_MAX)], out[VAULT_SECRET_MAX];
	size_t all = NONCE_LEN + len + TAG_LEN;

	if (!k)
		return -ENOKEY;
	const char *text = sealed + PREFIX_LEN;
	if (len > VAULT_SECRET_MAX || strlen(text) != BASE64_LEN(all) || base64_decode(raw, text, strlen(text)) != (ssize_t)all)
		return -EBADMSG;
	bool ok = transform(k, false, raw, bound, out, raw + NONCE_LEN, len, raw + NONCE_LEN + len);

	if (ok)
		memcpy(secret, out, len);
	OPENSSL_cleanse(out, sizeof(out));
	return ok ? 0 : -EBADMSG;
}

bool vault_is_current(const struct vault *v, const char *sealed)
{
	return key_of(v, sealed) == &v->key[0];
}

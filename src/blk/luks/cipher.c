/* SPDX-License-Identifier: Apache-2.0 */
/* cipher.c - encryption of sectors: AES in XTS or CBC mode, the initial vector made of the sector's number.
 *
 * Names are those of the kernel's dm-crypt: "aes-xts-plain64", "aes-cbc-essiv:sha256". A context of libcrypto
 * serves one thread at a time; those that are free are kept. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

enum { IV_LEN = 16, CONTEXTS_KEPT = 8 };

enum cipher_iv { IV_PLAIN, IV_PLAIN64, IV_PLAIN64BE, IV_ESSIV };

struct cipher_spec {
	const EVP_CIPHER *evp;
	enum cipher_iv iv;
	const EVP_CIPHER *essiv;        /* makes vectors with a key that is the digest of the key */
	char essiv_hash[LUKS_HASH_MAX];
};

struct cipher_ctx { EVP_CIPHER_CTX *way[2], *essiv; };  /* decrypting, encrypting */

struct luks_cipher {
	struct cipher_spec spec;
	unsigned sector_size;
	uint8_t key[LUKS_KEY_MAX], essiv_key[LUKS_DIGEST_MAX];
	pthread_mutex_t lock;           /* KEPT, N_KEPT */
	struct cipher_ctx *kept[CONTEXTS_KEPT];
	unsigned n_kept;
};

/* --- names -------------------------------------------------------------------------------------- */

static const EVP_CIPHER *cipher_aes(const char *mode, size_t key_len)
{
	if (!strcmp(mode, "xts"))
		return key_len == 32 ? EVP_aes_128_xts() : key_len == 64 ? EVP_aes_256_xts() : NULL;
	if (!strcmp(mode, "cbc"))
		return key_len == 16 ? EVP_aes_128_cbc() : key_len == 24 ? EVP_aes_192_cbc() :
		       key_len == 32 ? EVP_aes_256_cbc() : NULL;
	return NULL;
}

static const EVP_CIPHER *cipher_ecb(size_t key_len)
{
	return key_len == 16 ? EVP_aes_128_ecb() : key_len == 24 ? EVP_aes_192_ecb() :
	       key_len == 32 ? EVP_aes_256_ecb() : NULL;
}

static bool cipher_parse_iv(struct cipher_spec *c, const char *iv)
{
	static const char *const names[] = { [IV_PLAIN] = "plain", [IV_PLAIN64] = "plain64",
					     [IV_PLAIN64BE] = "plain64be" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(iv, names[i]))
			continue;
		c->iv = (enum cipher_iv)i;
		return true;
	}
	if (strncmp(iv, "essiv:", 6) || strlen(iv + 6) >= sizeof(c->essiv_hash))
		return false;
	c->iv = IV_ESSIV;
	strcpy(c->essiv_hash, iv + 6);
	c->essiv = cipher_ecb(luks_hash_size(c->essiv_hash));
	return c->essiv;
}

static bool cipher_parse(struct cipher_spec *c, const char *spec, size_t key_len)
{
	char copy[LUKS_SPEC_MAX], *at = copy;

	*c = (struct cipher_spec){ 0 };
	if (strlen(spec) >= sizeof(copy))
		return false;
	strcpy(copy, spec);
	const char *name = strsep(&at, "-"), *mode = strsep(&at, "-");

	if (!mode || !at || strcmp(name, "aes"))
		return false;
	c->evp = cipher_aes(mode, key_len);
	return c->evp && cipher_parse_iv(c, at);
}

int luks_cipher_check(const char *spec, size_t key_len, const char *name, struct err *err)
{
	struct cipher_spec c;

	if (cipher_parse(&c, spec, key_len))
		return 0;
	return err_set(err, -ENOTSUP, "'%s' is encrypted with '%s' and a key of %zu bits; supported is aes in xts mode "
		       "(256 and 512 bits) and in cbc mode (128, 192 and 256)", name, spec, key_len * 8);
}

/* --- contexts ----------------------------------------------------------------------------------- */

static void ctx_free(struct cipher_ctx *x)
{
	if (!x)
		return;
	EVP_CIPHER_CTX_free(x->way[0]);
	EVP_CIPHER_CTX_free(x->way[1]);
	EVP_CIPHER_CTX_free(x->essiv);
	free(x);
}

static struct cipher_ctx *ctx_new(const struct luks_cipher *c)
{
	struct cipher_ctx *x = calloc(1, sizeof(*x));
	bool is_good = x;

	for (int i = 0; is_good && i < 2; i++) {
		x->way[i] = EVP_CIPHER_CTX_new();
		is_good = x->way[i] && EVP_CipherInit_ex(x->way[i], c->spec.evp, NULL, c->key, NULL, i) &&
			  EVP_CIPHER_CTX_set_padding(x->way[i], 0);
	}
	if (is_good && c->spec.essiv) {
		x->essiv = EVP_CIPHER_CTX_new();
		is_good = x->essiv && EVP_EncryptInit_ex(x->essiv, c->spec.essiv, NULL, c->essiv_key, NULL) &&
			  EVP_CIPHER_CTX_set_padding(x->essiv, 0);
	}
	if (is_good)
		return x;
	ctx_free(x);
	return NULL;
}

static struct cipher_ctx *ctx_take(struct luks_cipher *c)
{
	struct cipher_ctx *x = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->n_kept)
		x = c->kept[--c->n_kept];
	pthread_mutex_unlock(&c->lock);
	return x ? x : ctx_new(c);
}

static void ctx_give_back(struct luks_cipher *c, struct cipher_ctx *x)
{
	pthread_mutex_lock(&c->lock);
	if (c->n_kept < CONTEXTS_KEPT) {
		c->kept[c->n_kept++] = x;
		x = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	ctx_free(x);
}

int luks_cipher_new(struct luks_cipher **out, const char *spec, const uint8_t *key, size_t key_len,
		    unsigned sector_size)
{
	struct luks_cipher *c = calloc(1, sizeof(*c));
	int r = c ? 0 : -ENOMEM;

	if (!c)
		return r;
	pthread_mutex_init(&c->lock, NULL);
	c->sector_size = sector_size;
	if (key_len > LUKS_KEY_MAX || !cipher_parse(&c->spec, spec, key_len))
		r = -ENOTSUP;
	if (!r)
		memcpy(c->key, key, key_len);
	if (!r && c->spec.essiv)
		r = luks_hash(c->spec.essiv_hash, key, key_len, "", 0, c->essiv_key);
	/* A key that the library refuses (both halves of XTS the same) shows here. */
	if (!r) {
		c->kept[0] = ctx_new(c);
		c->n_kept = !!c->kept[0];
		r = c->n_kept ? 0 : -EIO;
	}
	if (r < 0)
		luks_cipher_free(c);
	else
		*out = c;
	return r;
}

void luks_cipher_free(struct luks_cipher *c)
{
	if (!c)
		return;
	while (c->n_kept)
		ctx_free(c->kept[--c->n_kept]);
	pthread_mutex_destroy(&c->lock);
	explicit_bzero(c, sizeof(*c));
	free(c);
}

/* --- sectors ------------------------------------------------------------------------------------ */

static bool cipher_iv(const struct luks_cipher *c, const struct cipher_ctx *x, uint64_t sector, uint8_t *iv)
{
	int n = 0;

	memset(iv, 0, IV_LEN);
	switch (c->spec.iv) {
	case IV_PLAIN:
		put_le32(iv, (uint32_t)sector);
		break;
	case IV_PLAIN64:
		put_le64(iv, sector);
		break;
	case IV_PLAIN64BE:
		put_be64(iv + IV_LEN - 8, sector);
		break;
	case IV_ESSIV:
		put_le64(iv, sector);
		return EVP_EncryptUpdate(x->essiv, iv, &n, iv, IV_LEN) && n == IV_LEN;
	}
	return true;
}

int luks_cipher_run(struct luks_cipher *c, bool is_encrypting, uint64_t sector, uint8_t *buf, size_t len)
{
	struct cipher_ctx *x = ctx_take(c);
	bool is_good = x;

	for (size_t at = 0; is_good && at < len; at += c->sector_size) {
		EVP_CIPHER_CTX *way = x->way[is_encrypting];
		uint8_t iv[IV_LEN];
		int n = 0;

		is_good = cipher_iv(c, x, sector + at / BLK_SECTOR, iv) &&
			  EVP_CipherInit_ex(way, NULL, NULL, NULL, iv, is_encrypting) &&
			  EVP_CipherUpdate(way, buf + at, &n, buf + at, (int)c->sector_size) &&
			  n == (int)c->sector_size;
	}
	if (is_good)
		ctx_give_back(c, x);
	else
		ctx_free(x);
	return is_good ? 0 : -EIO;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/secret.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "util/err.h"

/* What OWASP's Password Storage Cheat Sheet asks of Argon2id at least. */
enum { PASSES = 2, MEMORY_KIB = 19456, LANES = 1, SALT_LEN = 16, TAG_LEN = 32, RANDOM_LEN = SECRET_LEN / 2 };

void secret_random(void *out, size_t len)
{
	while (getrandom(out, len, 0) != (ssize_t)len)
		continue;
}

static void hex(char *out, const uint8_t *in, size_t len)
{
	for (size_t i = 0; i < len; i++)
		snprintf(out + 2 * i, 3, "%02x", in[i]);
}

void secret_new(char secret[SECRET_LEN + 1])
{
	uint8_t bytes[RANDOM_LEN];

	secret_random(bytes, sizeof(bytes));
	hex(secret, bytes, sizeof(bytes));
	OPENSSL_cleanse(bytes, sizeof(bytes));
}

void secret_hash(char hash[SECRET_HASH_LEN + 1], const void *data, size_t len)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	SHA256(data, len, digest);
	hex(hash, digest, sizeof(digest));
}

bool secret_equal(const char *a, const char *b)
{
	size_t len = strlen(a);

	return len == strlen(b) && !CRYPTO_memcmp(a, b, len);
}

int secret_of_password(char verifier[SECRET_VERIFIER_LEN], const char *password, struct err *err)
{
	uint8_t salt[SALT_LEN];

	secret_random(salt, sizeof(salt));
	int r = argon2id_hash_encoded(PASSES, MEMORY_KIB, LANES, password, strlen(password), salt, sizeof(salt), TAG_LEN,
				      verifier, SECRET_VERIFIER_LEN);

	return r == ARGON2_OK ? 0 : err_set(err, -ENOMEM, "the password cannot be hashed: %s", argon2_error_message(r));
}

bool secret_is_password(const char *verifier, const char *password)
{
	char nobody[SECRET_VERIFIER_LEN];

	if (verifier)
		return argon2id_verify(verifier, password, strlen(password)) == ARGON2_OK;
	(void)secret_of_password(nobody, password, NULL);
	return false;
}

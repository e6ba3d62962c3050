/* SPDX-License-Identifier: Apache-2.0 */
/* secret.h - passwords, tokens, and what of them may be written down: hashes. Any thread. */
#ifndef NODE_SECRET_H
#define NODE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

struct err;

enum {
	SECRET_LEN = 64,                /* 32 random bytes as hexadecimal digits: a token, the name of a session */
	SECRET_HASH_LEN = 64,           /* SHA-256 as hexadecimal digits */
	SECRET_PASSWORD_MIN = 8, SECRET_PASSWORD_MAX = 1024,
	SECRET_VERIFIER_LEN = 128,      /* of a password, with its NUL */
};

/* LEN bytes that nobody can guess, at most 256. */
void secret_random(void *out, size_t len);
/* A new secret of them. */
void secret_new(char secret[SECRET_LEN + 1]);
/* SHA-256 of LEN bytes. What secret_new() has made is too long to be guessed from it. */
void secret_hash(char hash[SECRET_HASH_LEN + 1], const void *data, size_t len);
/* Takes the same time whatever the difference is. */
bool secret_equal(const char *a, const char *b);

/* What is kept of a password: Argon2id (RFC 9106) with a salt, in the form of the reference implementation. Takes a
 * tenth of a second and 19 MiB: for workers. -ENOMEM. */
int secret_of_password(char verifier[SECRET_VERIFIER_LEN], const char *password, struct err *err);
/* Is it PASSWORD? With a NULL VERIFIER, which nothing fits, it takes as long. */
bool secret_is_password(const char *verifier, const char *password);

#endif

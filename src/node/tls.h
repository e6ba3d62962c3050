/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - certificates of the daemon: reading them with their keys, and the one that it makes when nobody has given it one.
 * Any thread. */
#ifndef NODE_TLS_H
#define NODE_TLS_H

#include <openssl/x509.h>
#include <time.h>
#include "util/cleanup.h"

struct err;

enum {
	TLS_FINGERPRINT_LEN = 64,
	TLS_RENEW_S = 30 * 86400,       /* so long before its end the own certificate is made anew */
};

/* A certificate that belongs to its key. */
struct tls_identity {
	X509 *cert;
	EVP_PKEY *key;
	STACK_OF(X509) *chain;          /* what it was signed by, as far as the file says; may be empty */
	char fingerprint[TLS_FINGERPRINT_LEN + 1];      /* what people compare: SHA-256 of the certificate, hexadecimal */
	time_t begins, ends;
};

/* Read what the files CERT (the certificate first, then its chain) and KEY hold, as PEM. -EINVAL: one of the two is not
 * there, damaged, encrypted, or too weak, or they do not belong together. */
int tls_load(struct tls_identity **out, const char *cert, const char *key, struct err *err);
void tls_identity_free(struct tls_identity *id);        /* NULL is fine */
DEFINE_AUTO(struct tls_identity *, tls_identity_free)
/* Is it good at NOW? -EINVAL: it has expired, or does not hold yet. */
int tls_check_time(const struct tls_identity *id, time_t now, struct err *err);

/* See to it that a certificate that it has signed itself, and its key (P-256), are in CERT and KEY as PEM: for this host's
 * name, localhost and ADDRESS (numeric; NULL: none), from NOW on for ten years. One that ends in TLS_RENEW_S is made anew with
 * the same key, by which clients know the daemon. The key is for this user alone. 1: it has been made; 0: it was there. */
int tls_make_certificate(const char *cert, const char *key, const char *address, time_t now, struct err *err);

#endif

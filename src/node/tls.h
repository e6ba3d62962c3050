/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - the certificate that the daemon shows when nobody has given it one. Any thread. */
#ifndef NODE_TLS_H
#define NODE_TLS_H

struct err;

enum { TLS_FINGERPRINT_LEN = 64 };

/* A certificate that it has signed itself, and its key (P-256), in CERT and KEY as PEM, when they are not there yet: for
 * this host's name, localhost and ADDRESS (numeric; NULL: none), for ten years. The key is for this user alone. */
int tls_make_certificate(const char *cert, const char *key, const char *address, struct err *err);

/* What people compare: SHA-256 of the certificate, as hexadecimal digits. -EINVAL: CERT holds none. */
int tls_fingerprint(const char *cert, char out[TLS_FINGERPRINT_LEN + 1], struct err *err);

#endif

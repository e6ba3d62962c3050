/* SPDX-License-Identifier: Apache-2.0 */
/* signature.h - OpenPGP signatures of what publishers say, by gpgv(1). That reads what strangers have written, so it is a process that may change no file,
 * has no network and, when this one is root, is nobody; what it needs it gets as open files in memory. Main thread: it waits. */
#ifndef CLI_SIGNATURE_H
#define CLI_SIGNATURE_H

#include <stddef.h>

struct err;

enum { SIGNATURE_SIGNER_LEN = 40, SIGNATURE_TEXT_MAX = 32 << 20 };

struct signature {
	const char *keyring;            /* file of keys, each of which is trusted: as 'gpg --export' writes it */
	const char *text;               /* what is signed, with the signature in it or, with DETACHED, without */
	size_t len;
	const char *detached;           /* NULL: it is in TEXT, which is clear-signed (RFC 4880, section 7) */
	size_t detached_len;
};

/* Is S good? Then OUT gets what is signed, from malloc(), with a NUL behind it that OUT_LEN does not count, and SIGNER the fingerprint of the key. -EKEYREJECTED: it is not;
 * -ENOENT: there is no gpgv, or no keyring. */
int signature_check(const struct signature *s, char **out, size_t *out_len, char signer[SIGNATURE_SIGNER_LEN + 1], struct err *err);

#endif

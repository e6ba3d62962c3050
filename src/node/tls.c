/* SPDX-License-Identifier: Apache-2.0 */
#include "node/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
#include "util/cleanup.h"
#include "util/err.h"

enum { DAYS = 3650, NAMES_MAX = 512 };

DEFINE_AUTO(X509 *, X509_free)
DEFINE_AUTO(EVP_PKEY *, EVP_PKEY_free)
DEFINE_AUTO(FILE *, fclose)

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;

	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_add_ext(x, e, -1);

	X509_EXTENSION_free(e);
	return ok;
}

static bool set_serial(X509 *x)
{
	unsigned char bytes[16];

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		return false;
	bytes[0] &= 0x7f;
	BIGNUM *n = BN_bin2bn(bytes, sizeof(bytes), NULL);
	bool ok = n && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x));

	BN_free(n);
	return ok;
}

/* Fill in and sign X with KEY. */
static bool fill(X509 *x, EVP_PKEY *key, const char *address)
{
	char names[NAMES_MAX];
	struct utsname u;

	uname(&u);
	snprintf(names, sizeof(names), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1%s%s", u.nodename, address ? ",IP:" : "",
		 address ? address : "");
	X509_NAME *subject = X509_get_subject_name(x);

	return X509_set_version(x, X509_VERSION_3) && set_serial(x) && X509_gmtime_adj(X509_getm_notBefore(x), -86400) &&
	       X509_gmtime_adj(X509_getm_notAfter(x), 86400L * DAYS) && X509_set_pubkey(x, key) &&
	       X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const unsigned char *)"Vivarium", -1, -1, 0) &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)u.nodename, -1, -1, 0) &&
	       X509_set_issuer_name(x, subject) && add_extension(x, NID_subject_alt_name, names) &&
	       add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(x, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(x, NID_ext_key_usage, "serverAuth") && X509_sign(x, key, EVP_sha256()) > 0;
}

/* PATH for this user alone, whole or not at all. */
static int write_pem(const char *path, X509 *x, EVP_PKEY *key, struct err *err)
{
	char tmp[512];

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	AUTO(fclose) FILE *f = fd < 0 ? NULL : fdopen(fd, "w");

	if (!f)
		return err_set(err, -errno, "cannot make '%s': %s", tmp, strerror(errno));
	bool ok = x ? PEM_write_X509(f, x) : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);

	if (!ok || fflush(f) || fsync(fd) < 0 || rename(tmp, path) < 0)
		return err_set(err, -EIO, "cannot write '%s': %s", path, strerror(errno));
	return 0;
}

int tls_make_certificate(const char *cert, const char *key, const char *address, struct err *err)
{
	if (!access(cert, F_OK) && !access(key, F_OK))
		return 0;
	AUTO(EVP_PKEY_free) EVP_PKEY *k = EVP_EC_gen("P-256");
	AUTO(X509_free) X509 *x = X509_new();

	if (!k || !x || !fill(x, k, address))
		return err_set(err, -EINVAL, "cannot make a certificate%s%s", address ? " for " : "", address ? address : "");
	int r = write_pem(key, NULL, k, err);

	return r < 0 ? r : write_pem(cert, x, NULL, err);
}

int tls_fingerprint(const char *cert, char out[TLS_FINGERPRINT_LEN + 1], struct err *err)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	AUTO(fclose) FILE *f = fopen(cert, "re");
	AUTO(X509_free) X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;

	if (!x || !X509_digest(x, EVP_sha256(), digest, &len))
		return err_set(err, -EINVAL, "'%s' is no certificate in PEM form%s%s", cert, f ? "" : ": ",
			       f ? "" : strerror(errno));
	for (unsigned i = 0; i < len && 2 * i < TLS_FINGERPRINT_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
	return 0;
}

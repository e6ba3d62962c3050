/* SPDX-License-Identifier: Apache-2.0 */
#include "node/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
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
DEFINE_AUTO(SSL_CTX *, SSL_CTX_free)

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
static bool fill(X509 *x, EVP_PKEY *key, const char *address, time_t now)
{
	char names[NAMES_MAX];
	struct utsname u;

	uname(&u);
	snprintf(names, sizeof(names), "DNS:%s,DNS:localhost,IP:127.0.0.1,IP:::1%s%s", u.nodename, address ? ",IP:" : "",
		 address ? address : "");
	X509_NAME *subject = X509_get_subject_name(x);

	return X509_set_version(x, X509_VERSION_3) && set_serial(x) && X509_time_adj_ex(X509_getm_notBefore(x), -1, 0, &now) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), DAYS, 0, &now) && X509_set_pubkey(x, key) &&
	       X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const unsigned char *)"Vivarium", -1, -1, 0) &&
	       X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)u.nodename, -1, -1, 0) &&
	       X509_set_issuer_name(x, subject) && add_extension(x, NID_subject_alt_name, names) &&
	       add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(x, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(x, NID_ext_key_usage, "serverAuth") && X509_sign(x, key, EVP_sha256()) > 0;
}

/* --- reading ---------------------------------------------------- */

static int refuse_password(char *buf, int size, int is_writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)is_writing;
	(void)arg;
	return -1;
}

static int load_key(EVP_PKEY **out, const char *path, struct err *err)
{
	AUTO(fclose) FILE *f = fopen(path, "re");

	if (!f)
		return err_set(err, -EINVAL, "cannot read the key '%s': %s", path, strerror(errno));
	*out = PEM_read_PrivateKey(f, NULL, refuse_password, NULL);
	return *out ? 0 : err_set(err, -EINVAL, "'%s' holds no private key in PEM form that can be read without a password", path);
}

/* The first of the file, and what follows it. */
static int load_certificates(struct tls_identity *id, const char *path, struct err *err)
{
	AUTO(fclose) FILE *f = fopen(path, "re");

	if (!f)
		return err_set(err, -EINVAL, "cannot read the certificate '%s': %s", path, strerror(errno));
	id->cert = PEM_read_X509(f, NULL, NULL, NULL);
	id->chain = sk_X509_new_null();
	if (!id->cert || !id->chain)
		return err_set(err, -EINVAL, "'%s' holds no certificate in PEM form", path);
	for (X509 *x; (x = PEM_read_X509(f, NULL, NULL, NULL));) {
		if (!sk_X509_push(id->chain, x)) {
			X509_free(x);
			return err_set(err, -ENOMEM, "out of memory");
		}
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		return err_set(err, -EINVAL, "what follows the certificate in '%s' is damaged", path);
	return 0;
}

/* What OpenSSL would refuse when somebody comes, it refuses here. */
static int try_out(const struct tls_identity *id, const char *cert, const char *key, struct err *err)
{
	AUTO(SSL_CTX_free) SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	if (!ctx)
		return err_set(err, -ENOMEM, "out of memory");
	if (X509_check_private_key(id->cert, id->key) != 1)
		return err_set(err, -EINVAL, "the key '%s' is not that of the certificate '%s'", key, cert);
	if (SSL_CTX_use_cert_and_key(ctx, id->cert, id->key, id->chain, 1) != 1)
		return err_set(err, -EINVAL, "the certificate '%s' cannot be used: %s", cert,
			       ERR_reason_error_string(ERR_peek_last_error()));
	return 0;
}

static time_t time_of(const ASN1_TIME *t)
{
	struct tm tm = { .tm_year = 0 };

	return t && ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;
}

static void fill_fingerprint(struct tls_identity *id)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	X509_digest(id->cert, EVP_sha256(), digest, &len);
	for (unsigned i = 0; i < len && 2 * i < TLS_FINGERPRINT_LEN; i++)
		snprintf(id->fingerprint + 2 * i, 3, "%02x", digest[i]);
}

int tls_load(struct tls_identity **out, const char *cert, const char *key, struct err *err)
{
	AUTO(tls_identity_free) struct tls_identity *id = calloc(1, sizeof(*id));

	if (!id)
		return err_set(err, -ENOMEM, "out of memory");
	ERR_clear_error();
	int r = load_certificates(id, cert, err);

	if (!r)
		r = load_key(&id->key, key, err);
	if (!r)
		r = try_out(id, cert, key, err);
	ERR_clear_error();
	if (r < 0)
		return r;
	id->begins = time_of(X509_get0_notBefore(id->cert));
	id->ends = time_of(X509_get0_notAfter(id->cert));
	fill_fingerprint(id);
	*out = take_ptr(&id);
	return 0;
}

void tls_identity_free(struct tls_identity *id)
{
	if (!id)
		return;
	X509_free(id->cert);
	EVP_PKEY_free(id->key);
	sk_X509_pop_free(id->chain, X509_free);
	free(id);
}

int tls_check_time(const struct tls_identity *id, time_t now, struct err *err)
{
	char when[32] = "";
	struct tm tm;
	time_t t = now < id->begins ? id->begins : id->ends;

	if (now >= id->begins && now < id->ends)
		return 0;
	strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", gmtime_r(&t, &tm));
	return err_set(err, -EINVAL, now < id->begins ? "the certificate does not hold before %s" : "the certificate has expired at %s",
		       when);
}

/* --- making ---------------------------------------------------- */

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

static bool is_good_for_long(const char *cert, const char *key, time_t now)
{
	AUTO(tls_identity_free) struct tls_identity *id = NULL;

	return !tls_load(&id, cert, key, NULL) && id->begins <= now && id->ends - now >= TLS_RENEW_S;
}

int tls_make_certificate(const char *cert, const char *key, const char *address, time_t now, struct err *err)
{
	int r = 0;

	if (is_good_for_long(cert, key, now))
		return 0;
	bool has_key = !access(key, F_OK);
	AUTO(EVP_PKEY_free) EVP_PKEY *k = NULL;
	AUTO(X509_free) X509 *x = X509_new();

	/* A key that is there is what clients know; one that cannot be read is not replaced behind their back. */
	if (has_key)
		r = load_key(&k, key, err);
	else
		k = EVP_EC_gen("P-256");
	if (r < 0)
		return r;
	if (!k || !x || !fill(x, k, address, now))
		return err_set(err, -EINVAL, "cannot make a certificate%s%s", address ? " for " : "", address ? address : "");
	r = has_key ? 0 : write_pem(key, NULL, k, err);
	if (!r)
		r = write_pem(cert, x, NULL, err);
	return r < 0 ? r : 1;
}

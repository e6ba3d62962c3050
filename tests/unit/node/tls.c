/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates: made, made anew, and refused. */
#include "test.h"

#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/tls.h"
#include "util/err.h"

enum { NOW = 1800000000, DAY = 86400, YEARS = 3650 };

static char dir[64], cert[128], key[128], other_cert[128], other_key[128];

static void begin(void)
{
	strcpy(dir, "/tmp/viv-tls-XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(cert, sizeof(cert), "%s/cert.pem", dir);
	snprintf(key, sizeof(key), "%s/key.pem", dir);
	snprintf(other_cert, sizeof(other_cert), "%s/other.pem", dir);
	snprintf(other_key, sizeof(other_key), "%s/other-key.pem", dir);
}

static void end(void)
{
	const char *const all[] = { cert, key, other_cert, other_key };

	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		unlink(all[i]);
	CHECK(!rmdir(dir));
}

static void write_text(const char *path, const char *text, const char *mode)
{
	FILE *f = fopen(path, mode);

	CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

TEST(a_certificate_is_made_once_and_its_key_is_private)
{
	struct err err = ERR_INIT;
	struct stat st;

	begin();
	CHECK_EQ(tls_make_certificate(cert, key, "192.0.2.1", NOW, &err), 1);
	CHECK(!stat(key, &st) && (st.st_mode & 0777) == 0600);
	AUTO(tls_identity_free) struct tls_identity *one = NULL, *two = NULL;
	CHECK_EQ(tls_load(&one, cert, key, &err), 0);
	CHECK_EQ(strlen(one->fingerprint), TLS_FINGERPRINT_LEN);
	CHECK_EQ(one->begins, NOW - DAY);
	CHECK_EQ(one->ends, NOW + (time_t)YEARS * DAY);
	CHECK_EQ(sk_X509_num(one->chain), 0);
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW + DAY, &err), 0);
	CHECK_EQ(tls_load(&two, cert, key, &err), 0);
	CHECK(!strcmp(one->fingerprint, two->fingerprint));
	end();
}

TEST(one_that_ends_soon_is_made_anew_with_the_same_key)
{
	const time_t ends = NOW + (time_t)YEARS * DAY;
	struct err err = ERR_INIT;

	begin();
	CHECK_EQ(tls_make_certificate(cert, key, "192.0.2.1", NOW, &err), 1);
	AUTO(tls_identity_free) struct tls_identity *before = NULL, *after = NULL;
	CHECK_EQ(tls_load(&before, cert, key, &err), 0);
	CHECK_EQ(tls_make_certificate(cert, key, "192.0.2.1", ends - TLS_RENEW_S, &err), 0);
	CHECK_EQ(tls_make_certificate(cert, key, "192.0.2.1", ends - TLS_RENEW_S + 1, &err), 1);
	CHECK_EQ(tls_load(&after, cert, key, &err), 0);
	CHECK(strcmp(before->fingerprint, after->fingerprint));
	CHECK_EQ(EVP_PKEY_eq(before->key, after->key), 1);
	CHECK_EQ(after->ends, ends - TLS_RENEW_S + 1 + (time_t)YEARS * DAY);
	/* The same when it is damaged, or the clock was wrong when it was made. */
	write_text(cert, "", "w");
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW, &err), 1);
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW - 10 * DAY, &err), 1);
	/* But a key that cannot be read is what clients know: it is not replaced. */
	write_text(key, "", "w");
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW, &err), -EINVAL);
	CHECK(strstr(err.msg, "holds no private key"));
	end();
}

TEST(what_is_no_certificate_of_the_key_is_refused_with_the_reason)
{
	struct err err = ERR_INIT;
	AUTO(tls_identity_free) struct tls_identity *id = NULL;

	begin();
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW, &err), 1);
	CHECK_EQ(tls_make_certificate(other_cert, other_key, NULL, NOW, &err), 1);
	static const struct { const char *cert, *key, *why; } cases[] = {
		{ cert, other_key, "is not that of the certificate" }, { key, key, "holds no certificate" },
		{ cert, cert, "holds no private key" }, { "/nonexistent", key, "cannot read the certificate" },
		{ cert, "/nonexistent", "cannot read the key" },
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		err = (struct err)ERR_INIT;
		CHECK_EQ(tls_load(&id, cases[i].cert, cases[i].key, &err), -EINVAL);
		CHECK(!id && strstr(err.msg, cases[i].why));
	}
	/* A chain is taken whole or not at all. */
	write_text(cert, "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "a");
	err = (struct err)ERR_INIT;
	CHECK_EQ(tls_load(&id, cert, key, &err), -EINVAL);
	CHECK(strstr(err.msg, "is damaged"));
	end();
}

TEST(a_key_with_a_password_is_refused_and_not_asked_for)
{
	struct err err = ERR_INIT;
	AUTO(tls_identity_free) struct tls_identity *id = NULL, *locked = NULL;

	begin();
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW, &err), 1);
	CHECK_EQ(tls_load(&id, cert, key, &err), 0);
	FILE *f = fopen(other_key, "w");
	CHECK(f && PEM_write_PKCS8PrivateKey(f, id->key, EVP_aes_128_cbc(), "word", 4, NULL, NULL) && !fclose(f));
	CHECK_EQ(tls_load(&locked, cert, other_key, &err), -EINVAL);
	CHECK(strstr(err.msg, "without a password"));
	end();
}

TEST(a_certificate_is_good_from_its_begin_to_its_end)
{
	struct err err = ERR_INIT;
	AUTO(tls_identity_free) struct tls_identity *id = NULL;

	begin();
	CHECK_EQ(tls_make_certificate(cert, key, NULL, NOW, &err), 1);
	CHECK_EQ(tls_load(&id, cert, key, &err), 0);
	CHECK_EQ(tls_check_time(id, id->begins, &err), 0);
	CHECK_EQ(tls_check_time(id, id->ends - 1, &err), 0);
	CHECK_EQ(tls_check_time(id, id->ends, &err), -EINVAL);
	CHECK(strstr(err.msg, "has expired at 20"));
	err = (struct err)ERR_INIT;
	CHECK_EQ(tls_check_time(id, id->begins - 1, &err), -EINVAL);
	CHECK(strstr(err.msg, "does not hold before 2027"));
	end();
}

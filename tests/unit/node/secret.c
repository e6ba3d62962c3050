/* SPDX-License-Identifier: Apache-2.0 */
/* Passwords, tokens and where to listen. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/secret.h"
#include "node/serve.h"
#include "util/err.h"

TEST(a_password_is_known_again_and_only_it)
{
	char a[SECRET_VERIFIER_LEN], b[SECRET_VERIFIER_LEN];

	CHECK_EQ(secret_of_password(a, "correct horse", NULL), 0);
	CHECK_EQ(secret_of_password(b, "correct horse", NULL), 0);
	CHECK(!strncmp(a, "$argon2id$", 10));
	CHECK(strcmp(a, b));            /* each has a salt of its own */
	CHECK(secret_is_password(a, "correct horse"));
	CHECK(!secret_is_password(a, "correct horsf"));
	CHECK(!secret_is_password(NULL, "correct horse"));
	CHECK(!secret_is_password("$argon2id$broken", "correct horse"));
}

TEST(secrets_differ_and_their_hashes_are_sha256)
{
	char a[SECRET_LEN + 1], b[SECRET_LEN + 1], hash[SECRET_HASH_LEN + 1];

	secret_new(a);
	secret_new(b);
	CHECK_EQ(strlen(a), SECRET_LEN);
	CHECK(!secret_equal(a, b) && secret_equal(a, a) && !secret_equal(a, ""));
	/* FIPS 180-4, the example of one block. */
	secret_hash(hash, "abc", 3);
	CHECK(!strcmp(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

TEST(places_to_listen_at_are_addresses_and_ports)
{
	static const struct { const char *url, *address; int port; } cases[] = {
		{ "https://127.0.0.1:443", "127.0.0.1", 443 }, { "https://[::1]:1", "::1", 1 }, { "https://*:9", "", 9 },
		{ "https://10.0.0.1", "10.0.0.1", 8443 }, { "https://[fe80::1]", "fe80::1", 8443 }, { "https://*", "", 8443 },
		{ "http://127.0.0.1:1", NULL, 0 }, { "https://host:1", NULL, 0 }, { "https://1.2.3.4:70000", NULL, 0 },
		{ "https://1.2.3.4:", NULL, 0 }, { "https://1.2.3.4:1/x", NULL, 0 }, { "https://[::1", NULL, 0 },
		{ "https://[::1]x", NULL, 0 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char address[64] = "";
		uint16_t port = 0;
		struct err err = ERR_INIT;
		int r = serve_parse(cases[i].url, address, sizeof(address), &port, &err);

		CHECK_EQ(r, cases[i].address ? 0 : -EINVAL);
		CHECK(r || (!strcmp(address, cases[i].address) && port == cases[i].port));
	}
}

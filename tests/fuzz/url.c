/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses of disks: parsed, asked for a parameter, joined with a name. Input: the address, a zero, a name. */
#include "blk/url.h"

#include <ctype.h>
#include "fuzz.h"
#include "util/err.h"

static void check(const struct blk_url *u)
{
	FUZZ_CHECK(u->path && u->plain && !strchr(u->plain, '#') && strlen(u->scheme) > 0);
	for (const char *p = u->path; *p; p++)
		FUZZ_CHECK((unsigned char)*p >= 0x20 && *p != 0x7f);
	for (const char *p = u->host; *p; p++)
		FUZZ_CHECK(isalnum((unsigned char)*p) || strchr("-._~:", *p));
	FUZZ_CHECK(!u->port || u->host[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	AUTO(free) char *text = calloc(1, len + 2), *value = NULL, *joined = NULL;
	struct blk_url u, v;
	struct err err = ERR_INIT;

	FUZZ_CHECK(text);
	if (len)
		memcpy(text, data, len);
	const char *name = text + strlen(text) + 1;
	int r = blk_url_parse(&u, text, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	if (r < 0)
		return 0;
	check(&u);
	/* What it says without options is the same address. */
	FUZZ_CHECK(!blk_url_parse(&v, u.plain, NULL) && !strcmp(u.path, v.path) && u.port == v.port && !v.options);
	blk_url_fini(&v);
	if (blk_url_query(&u, "socket", &value, NULL) == 1)
		FUZZ_CHECK(value);
	/* A name beside it brings no query and no options. */
	if ((size_t)(name - text) <= len && !u.query && !blk_url_join(&joined, u.plain, name, NULL) &&
	    !blk_url_parse(&v, joined, NULL)) {
		FUZZ_CHECK(!v.options && !v.query);
		blk_url_fini(&v);
	}
	blk_url_fini(&u);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/url.h"

#include <errno.h>
#include <string.h>
#include "test.h"
#include "util/err.h"

TEST(an_address_is_taken_apart)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };
	char *value = NULL;

	CHECK_EQ(blk_url_parse(&u, "nbds://me@host.example:123/a%20b/c?x=1&socket=%2Ftmp%2Fs#reconnect=5,y=z", NULL), 0);
	CHECK_STR(u.scheme, "nbds");
	CHECK_STR(u.user, "me");
	CHECK_STR(u.host, "host.example");
	CHECK_EQ(u.port, 123);
	CHECK_STR(u.path, "/a b/c");
	CHECK_STR(u.options, "reconnect=5,y=z");
	CHECK_STR(u.plain, "nbds://me@host.example:123/a%20b/c?x=1&socket=%2Ftmp%2Fs");
	CHECK_EQ(blk_url_query(&u, "socket", &value, NULL), 1);
	CHECK_STR(value, "/tmp/s");
	free(value);
	CHECK_EQ(blk_url_query(&u, "sock", &value, NULL), 0);
}

TEST(addresses_of_ipv6_and_of_no_host)
{
	AUTO(blk_url_fini) struct blk_url u = { 0 };

	CHECK_EQ(blk_url_parse(&u, "nbd://[2001:db8::1]:10/x", NULL), 0);
	CHECK_STR(u.host, "2001:db8::1");
	CHECK_EQ(u.port, 10);
	blk_url_fini(&u);
	CHECK_EQ(blk_url_parse(&u, "nbd+unix:///x?socket=s", NULL), 0);
	CHECK_STR(u.host, "");
	CHECK_STR(u.path, "/x");
	blk_url_fini(&u);
	CHECK_EQ(blk_url_parse(&u, "nbd://host", NULL), 0);
	CHECK_STR(u.path, "");
	CHECK(!u.query && !u.options);
}

TEST(what_is_not_an_address_is_refused_with_a_reason)
{
	static const struct { const char *text, *says; } bad[] = {
		{ "disk.img", "does not begin" },       { "NBD://h/x", "does not begin" },
		{ "aaaaaaaaaaaaaaaaaaaa://h/x", "does not begin" },
		{ "nbd://h:0/x", "port" },              { "nbd://h:65536/x", "port" },
		{ "nbd://h:/x", "port" },               { "nbd://h:1x/x", "port" },
		{ "nbd://:1/x", "no host" },            { "nbd://[::1/x", "IPv6" },
		{ "nbd://[::g]/x", "IPv6" },            { "nbd://[::1]x/y", "port" },
		{ "nbd://a b/x", "host name" },         { "nbd://@h/x", "user name" },
		{ "nbd://u:secret@h/x", "password" },   { "nbd://h/%", "broken '%'" },
		{ "nbd://h/%4", "broken '%'" },         { "nbd://h/%zz", "broken '%'" },
		{ "nbd://h/%00", "broken '%'" },        { "nbd://h/%0a", "control" },
		{ "nbd://h/a b", "space" },             { "nbd://h/\x01", "control" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct blk_url u;
		struct err err = ERR_INIT;

		CHECK_EQ(blk_url_parse(&u, bad[i].text, &err), -EINVAL);
		CHECK_HAS(err.msg, bad[i].says);
		CHECK(!strstr(err.msg, "secret"));
		CHECK(!u.path && !u.plain);
	}
}

TEST(a_name_with_a_colon_is_a_file)
{
	CHECK(!blk_url_is("c:disk"));
	CHECK(!blk_url_is("file:nbd://x"));
	CHECK(!blk_url_is("/nbd://x"));
	CHECK(!blk_url_is("://x"));
	CHECK(!blk_url_is("1nbd://x"));
	CHECK(blk_url_is("nbd+unix://x"));
}

TEST(a_name_beside_an_address_cannot_bring_options_or_a_query)
{
	char *joined = NULL;

	CHECK_EQ(blk_url_join(&joined, "http://h/dir/over.qcow2?x=/y", "a base#cache=/etc?b%", NULL), 0);
	CHECK_STR(joined, "http://h/dir/a%20base%23cache%3D/etc%3Fb%25");
	free(joined);
}

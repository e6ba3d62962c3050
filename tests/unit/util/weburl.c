/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/weburl.h"

TEST(addresses_of_files)
{
	static const char *const good[] = { "https://a.example/x", "HTTPS://a.example", "https://[2001:db8::1]:8443/x?y=1@2#z" };
	static const char *const bad[] = {
		"", "/etc/passwd", "file:///etc/passwd", "ftp://a.example/x", "https:/a.example", "https://", "https:///x", "https://?x",
		"https://me:secret@a.example/x", "https://me@a.example", "https://a.example/x y", "https://a.example/\nx", "https://a.example/\xc3\xa4",
		" https://a.example/",
	};
	char longer[WEBURL_MAX + 2];

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		CHECK_EQ(weburl_check(good[i], true, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(weburl_check(bad[i], false, NULL), -EINVAL);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	memcpy(longer, "https://", 8);
	CHECK_EQ(weburl_check(longer, true, NULL), -EINVAL);
	longer[WEBURL_MAX] = 0;
	CHECK_EQ(weburl_check(longer, true, NULL), 0);
}

TEST(what_is_without_tls_is_known_as_such)
{
	struct err err = ERR_INIT;

	CHECK_EQ(weburl_check("http://a.example/x", false, NULL), 0);
	CHECK_EQ(weburl_check("Http://a.example/x", true, &err), -EINVAL);
	CHECK(strstr(err.msg, "checksum"));
	CHECK(weburl_is_http("HTTP://a") && !weburl_is_https("HTTP://a"));
	CHECK(weburl_is_https("https://a") && !weburl_is_http("https://a"));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the header Host may be. */
#include "test.h"

#include <string.h>
#include "api/host.h"

TEST(a_host_is_a_name_or_an_address_and_may_have_a_port)
{
	static const char *const good[] = {
		"h", "localhost", "node.example.org", "node.example.org.", "Node-1", "127.0.0.1", "127.0.0.1:8443", "h:", "h:0", "h:65535", "h:00080",
		"[::1]", "[::1]:8443", "[2001:db8::2:1]:", "[::ffff:10.0.0.1]", "a_b", "a,b", "%e4", "x%2Fy:1", "~!$&'()*+;=",
	};

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (!http_host_is_valid(good[i]))
			FAIL("'%s' is refused", good[i]);
}

TEST(what_is_none_is_refused)
{
	static const char *const bad[] = {
		"", ":", ":80", "a b", "a\tb", "h/", "h/path", "http://h", "user@h", "h:80:80", "h:x", "h:8x", "h:-1", "h:+1", "h: 80", "h:65536",
		"h:999999", "::1", "[]", "[::1", "::1]", "[::1]x", "[::1%lo]", "[fe80::1%25lo]", "[v1.x]", "[1.2.3.4]", "[:::1]", "h?q", "h#f", "h\\x",
		"\"h\"", "%", "%e", "%zz", "h%", "\303\244", "h, g", "<h>",
		"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]",
	};
	char name[512];

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (http_host_is_valid(bad[i]))
			FAIL("'%s' is accepted", bad[i]);
	memset(name, 'x', sizeof(name));
	name[255] = 0;
	CHECK(http_host_is_valid(name));
	name[255] = 'x';
	name[256] = 0;
	CHECK(!http_host_is_valid(name));
}

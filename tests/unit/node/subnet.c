/* SPDX-License-Identifier: Apache-2.0 */
/* Ranges of addresses. */
#include "test.h"

#include <errno.h>
#include <sys/socket.h>
#include "node/subnet.h"
#include "util/err.h"

static struct subnet of(const char *text)
{
	struct subnet s = { .family = 0 };

	CHECK_EQ(subnet_parse(&s, text, NULL), 0);
	return s;
}

static const char *nth(const char *text, uint32_t n)
{
	static char out[SUBNET_TEXT_LEN];
	struct subnet s = of(text);
	uint8_t addr[16];

	subnet_nth(&s, n, addr);
	CHECK(subnet_has(&s, addr));
	CHECK_EQ(subnet_number(&s, addr), n);
	subnet_address_text(s.family, addr, out);
	return out;
}

TEST(what_is_no_subnet_is_refused)
{
	static const char *const bad[] = { "", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/24", "fd00::/129",
					   "x/24", "10.0.0.0/24 ", "256.0.0.0/8", "10.0.0.0/24/24" };
	struct subnet s;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(subnet_parse(&s, bad[i], NULL), -EINVAL);
	CHECK_EQ(subnet_parse(&s, "10.1.2.3/23", &err), -EINVAL);
	CHECK(strstr(err.msg, "10.1.2.0/23"));
}

TEST(texts_come_back_as_they_were)
{
	static const char *const good[] = { "10.1.2.0/24", "0.0.0.0/0", "192.168.1.1/32", "10.1.2.128/25", "fd00::/64", "fd12:3456::/48" };
	char text[SUBNET_TEXT_LEN];

	for (unsigned i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct subnet s = of(good[i]);

		subnet_text(&s, text);
		CHECK_STR(text, good[i]);
	}
}

TEST(hosts_have_numbers)
{
	struct subnet s = of("10.1.2.0/24"), small = of("10.1.2.8/29"), six = of("fd00:1::/64");
	uint8_t other[16] = { 10, 1, 3, 5 };

	CHECK_STR(nth("10.1.2.0/24", 2), "10.1.2.2");
	CHECK_STR(nth("10.1.0.0/16", 258), "10.1.1.2");
	CHECK_STR(nth("fd00:1::/64", 0x12345), "fd00:1::1:2345");
	CHECK_EQ(subnet_last(&s), 254);
	CHECK_EQ(subnet_last(&small), 6);
	CHECK_EQ(subnet_last(&six), UINT32_MAX - 1);
	CHECK(!subnet_has(&s, other));
}

TEST(ranges_have_addresses_in_common_or_not)
{
	struct subnet a = of("10.1.2.0/24"), wide = of("10.0.0.0/8"), b = of("10.1.3.0/24"), six = of("fd00::/64"), none = { .family = 0 };

	CHECK(subnet_overlaps(&a, &wide) && subnet_overlaps(&wide, &a) && subnet_overlaps(&a, &a));
	CHECK(!subnet_overlaps(&a, &b) && !subnet_overlaps(&a, &six) && !subnet_overlaps(&none, &a) && !subnet_overlaps(&none, &none));
	struct subnet wider = of("172.0.0.0/8"), public = of("8.8.8.0/24"), hundred = of("100.64.3.0/24");
	CHECK(subnet_is_private(&a) && subnet_is_private(&six) && subnet_is_private(&hundred));
	CHECK(!subnet_is_private(&public) && !subnet_is_private(&wider));
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include "cli/fetch_guard.h"
#include "util/checked.h"

static bool admits(struct fetch_guard *g, const char *text)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return fetch_guard_admits(g, (const struct sockaddr *)&v4);
	CHECK_EQ(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return fetch_guard_admits(g, (const struct sockaddr *)&v6);
}

static const char *const inner[] = {
	"0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1", "172.31.255.255",
	"192.168.1.1", "198.19.0.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
	"64:ff9b::a00:1", "64:ff9b::7f00:1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2002:7f00:1::", "2001::1", "2001:db8::1",
};

TEST(only_the_internet_is_admitted)
{
	static const char *const outer[] = {
		"1.1.1.1", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.167.255.255", "223.255.255.255",
		"::ffff:1.1.1.1", "64:ff9b::101:101", "2606:4700::1111", "2a00::1",
	};
	struct fetch_guard g = { .is_public_only = true };

	for (size_t i = 0; i < ARRAY_LEN(inner); i++)
		CHECK(!admits(&g, inner[i]));
	CHECK_STR(g.refused, "2001:db8::1");
	for (size_t i = 0; i < ARRAY_LEN(outer); i++)
		CHECK(admits(&g, outer[i]));
}

TEST(without_the_rule_all_are)
{
	struct fetch_guard g = { .is_public_only = false };

	for (size_t i = 0; i < ARRAY_LEN(inner); i++)
		CHECK(admits(&g, inner[i]));
}

TEST(an_administrator_allows_more)
{
	struct fetch_guard g = { .is_public_only = true };

	CHECK_EQ(fetch_guard_allow(&g, "10.1.0.0/16", NULL), 0);
	CHECK_EQ(fetch_guard_allow(&g, "fd12::/64", NULL), 0);
	CHECK(admits(&g, "10.1.2.3") && admits(&g, "::ffff:10.1.2.3") && admits(&g, "fd12::9"));
	CHECK(!admits(&g, "10.2.0.1") && !admits(&g, "fd12:1::9") && !admits(&g, "127.0.0.1"));
	CHECK_EQ(fetch_guard_allow(&g, "10.1.0.0", NULL), -EINVAL);
	CHECK_EQ(fetch_guard_allow(&g, "10.1.2.3/16", NULL), -EINVAL);
	while (g.n_allowed < FETCH_ALLOWED_MAX)
		CHECK_EQ(fetch_guard_allow(&g, "10.1.0.0/16", NULL), 0);
	CHECK_EQ(fetch_guard_allow(&g, "10.1.0.0/16", NULL), -EINVAL);
}

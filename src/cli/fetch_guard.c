/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/fetch_guard.h"

#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

/* IPv4: what is not of the Internet. IPv6: only 2000::/3 is, without these. */
static const char *const special[] = {
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
	"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
};

struct address { int family; uint8_t bytes[16]; };

int fetch_guard_allow(struct fetch_guard *g, const char *net, struct err *err)
{
	if (g->n_allowed == FETCH_ALLOWED_MAX)
		return err_set(err, -EINVAL, "at most %d networks can be allowed", FETCH_ALLOWED_MAX);
	int r = subnet_parse(&g->allowed[g->n_allowed], net, err);
	g->n_allowed += !r;
	return r;
}

static bool starts(const struct address *a, const char *prefix)
{
	struct subnet s = { .family = 0 };

	return !subnet_parse(&s, prefix, NULL) && s.family == a->family && subnet_has(&s, a->bytes);
}

/* SA's, as IPv4 where it only stands for that (RFC 4291, section 2.5.5.2; RFC 6052, section 2.1). */
static bool address_of(struct address *a, const struct sockaddr *sa)
{
	*a = (struct address){ .family = sa->sa_family };
	if (a->family == AF_INET) {
		memcpy(a->bytes, &((const struct sockaddr_in *)sa)->sin_addr, 4);
		return true;
	}
	if (a->family != AF_INET6)
		return false;
	memcpy(a->bytes, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
	if (starts(a, "::ffff:0:0/96") || starts(a, "64:ff9b::/96")) {
		struct address v4 = { .family = AF_INET };

		memcpy(v4.bytes, a->bytes + 12, 4);
		*a = v4;
	}
	return true;
}

static bool is_special(const struct address *a)
{
	if (a->family == AF_INET6 && !starts(a, "2000::/3"))
		return true;
	for (unsigned i = 0; i < ARRAY_LEN(special); i++)
		if (starts(a, special[i]))
			return true;
	return false;
}

/* When that cannot be found out, it is. */
static bool is_own(const struct address *a)
{
	struct ifaddrs *all = NULL;
	bool is_found = false;

	if (getifaddrs(&all) < 0)
		return true;
	for (const struct ifaddrs *i = all; i && !is_found; i = i->ifa_next) {
		struct address own;

		is_found = i->ifa_addr && address_of(&own, i->ifa_addr) && own.family == a->family &&
			   !memcmp(own.bytes, a->bytes, sizeof(own.bytes));
	}
	freeifaddrs(all);
	return is_found;
}

bool fetch_guard_admits(struct fetch_guard *g, const struct sockaddr *sa)
{
	struct address a;

	if (!g->is_public_only)
		return true;
	bool is_known = address_of(&a, sa);
	for (unsigned i = 0; is_known && i < g->n_allowed; i++)
		if (g->allowed[i].family == a.family && subnet_has(&g->allowed[i], a.bytes))
			return true;
	if (is_known && !is_special(&a) && !is_own(&a))
		return true;
	subnet_address_text(a.family, a.bytes, g->refused);
	return false;
}

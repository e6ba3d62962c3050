/* SPDX-License-Identifier: Apache-2.0 */
#include "node/subnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "util/err.h"
#include "util/str.h"

static unsigned bits_of(int family)
{
	return family == AF_INET ? 32 : 128;
}

/* Do the first LEN bits agree? */
static bool same_bits(const uint8_t *a, const uint8_t *b, unsigned len)
{
	unsigned whole = len / 8, rest = len % 8;

	return !memcmp(a, b, whole) && (!rest || !((a[whole] ^ b[whole]) >> (8 - rest)));
}

int subnet_parse_address(int *family, uint8_t addr[16], const char *text, struct err *err)
{
	uint8_t found[16] = { 0 };
	int wanted = *family;

	if (wanted != AF_INET6 && inet_pton(AF_INET, text, found) == 1)
		*family = AF_INET;
	else if (wanted != AF_INET && inet_pton(AF_INET6, text, found) == 1)
		*family = AF_INET6;
	else
		return err_set(err, -EINVAL, "'%.60s' is no IPv%s address", text, wanted == AF_INET6 ? "6" : "4");
	memcpy(addr, found, sizeof(found));
	return 0;
}

int subnet_parse(struct subnet *s, const char *text, struct err *err)
{
	struct subnet found = { .family = 0 };
	char base[SUBNET_TEXT_LEN];
	const char *slash = strchr(text, '/');
	uint64_t len;

	if (!slash || (size_t)(slash - text) >= sizeof(base) || str_parse_u64(&len, slash + 1, NULL) < 0)
		return err_set(err, -EINVAL, "'%.60s' is no subnet; one is like '10.1.2.0/24' or 'fd12:3456::/64'", text);
	snprintf(base, sizeof(base), "%.*s", (int)(slash - text), text);
	int r = subnet_parse_address(&found.family, found.addr, base, err);
	if (r < 0)
		return r;
	if (len > bits_of(found.family))
		return err_set(err, -EINVAL, "'%.60s': a prefix has at most %u bits", text, bits_of(found.family));
	found.len = (unsigned)len;
	struct subnet first = found;
	for (unsigned i = 0; i < 16; i++)
		first.addr[i] &= (uint8_t)(len >= 8 * (i + 1) ? 0xff : len <= 8 * i ? 0 : 0xff00 >> (len - 8 * i));
	if (memcmp(first.addr, found.addr, 16) != 0) {
		subnet_text(&first, base);
		return err_set(err, -EINVAL, "'%.60s' begins in the middle: perhaps '%s' is meant", text, base);
	}
	*s = found;
	return 0;
}

void subnet_address_text(int family, const uint8_t addr[16], char text[SUBNET_TEXT_LEN])
{
	if (!inet_ntop(family, addr, text, SUBNET_TEXT_LEN))
		text[0] = 0;
}

void subnet_text(const struct subnet *s, char text[SUBNET_TEXT_LEN])
{
	size_t n;

	subnet_address_text(s->family, s->addr, text);
	n = strlen(text);
	snprintf(text + n, SUBNET_TEXT_LEN - n, "/%u", s->len);
}

bool subnet_has(const struct subnet *s, const uint8_t addr[16])
{
	return same_bits(s->addr, addr, s->len);
}

bool subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	return a->family && a->family == b->family && same_bits(a->addr, b->addr, a->len < b->len ? a->len : b->len);
}

void subnet_nth(const struct subnet *s, uint32_t n, uint8_t addr[16])
{
	unsigned last = bits_of(s->family) / 8;

	memcpy(addr, s->addr, 16);
	for (unsigned i = 0; i < 4; i++)
		addr[last - 1 - i] |= (uint8_t)(n >> (8 * i));
}

uint32_t subnet_number(const struct subnet *s, const uint8_t addr[16])
{
	unsigned last = bits_of(s->family) / 8;
	uint32_t n = 0;

	for (unsigned i = 0; i < last - 4; i++)
		if (addr[i] != s->addr[i])
			return UINT32_MAX;
	for (unsigned i = last - 4; i < last; i++)
		n = n << 8 | (uint8_t)(addr[i] ^ s->addr[i]);
	return n;
}

uint32_t subnet_last(const struct subnet *s)
{
	unsigned free_bits = bits_of(s->family) - s->len;

	/* The last one of IPv4 is the broadcast address. */
	return free_bits >= 32 ? UINT32_MAX - 1 : free_bits < 2 ? 0 : (1u << free_bits) - 2;
}

bool subnet_is_private(const struct subnet *s)
{
	static const char *const ranges[] = { "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7" };

	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		struct subnet r;

		if (!subnet_parse(&r, ranges[i], NULL) && subnet_overlaps(&r, s) && s->len >= r.len)
			return true;
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* subnet.h - ranges of IPv4 and IPv6 addresses. Pure functions; any thread. */
#ifndef NODE_SUBNET_H
#define NODE_SUBNET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

enum { SUBNET_TEXT_LEN = 50 };          /* an address, or one with a length, with its NUL */

struct subnet {
	int family;             /* AF_INET, AF_INET6; 0: none */
	uint8_t addr[16];       /* network order; bits behind LEN are zero */
	unsigned len;           /* of the prefix, bits */
};

/* "10.1.2.0/24", "fd12::/64". -EINVAL: no such thing, or with bits set behind the prefix. */
int subnet_parse(struct subnet *s, const char *text, struct err *err);
/* An address of FAMILY (0: any, which is then told), numeric, into 16 bytes. -EINVAL. */
int subnet_parse_address(int *family, uint8_t addr[16], const char *text, struct err *err);
void subnet_text(const struct subnet *s, char text[SUBNET_TEXT_LEN]);
void subnet_address_text(int family, const uint8_t addr[16], char text[SUBNET_TEXT_LEN]);

bool subnet_has(const struct subnet *s, const uint8_t addr[16]);
/* Is there an address in both? */
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);
/* Address number N of S, counted from its first. */
void subnet_nth(const struct subnet *s, uint32_t n, uint8_t addr[16]);
/* The number of ADDR in S, at most UINT32_MAX. */
uint32_t subnet_number(const struct subnet *s, const uint8_t addr[16]);
/* The last number that a host may have; 1 is the node's own. */
uint32_t subnet_last(const struct subnet *s);
/* Is all of S in a range that is nobody's on the Internet: RFC 1918, RFC 6598, RFC 4193? */
bool subnet_is_private(const struct subnet *s);

#endif

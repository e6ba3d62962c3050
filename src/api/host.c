/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define ALPHA "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"
#define HEX DIGIT "abcdefABCDEF"
#define NAME ALPHA DIGIT "-._~!$&'()*+,;="      /* unreserved and sub-delims */

enum { NAME_MAX_LEN = 255, PORT_MAX = 65535, PORT_LEN = 5 };

/* The bytes of a registered name that TEXT begins with. */
static size_t name_length(const char *text)
{
	size_t n = 0;

	for (;;) {
		n += strspn(text + n, NAME);
		if (text[n] != '%' || strspn(text + n + 1, HEX) < 2)
			return n;
		n += 3;
	}
}

/* And of an address in brackets: of version 6, without a zone, which belongs to one host. Of later versions there are none. */
static size_t literal_length(const char *text)
{
	const char *end = text[0] == '[' ? strchr(text, ']') : NULL;
	char address[INET6_ADDRSTRLEN];
	struct in6_addr in;
	size_t n = end ? (size_t)(end - text - 1) : 0;

	if (!n || n >= sizeof(address))
		return 0;
	memcpy(address, text + 1, n);
	address[n] = 0;
	return inet_pton(AF_INET6, address, &in) == 1 ? n + 2 : 0;
}

bool http_host_is_valid(const char *text)
{
	size_t n = text[0] == '[' ? literal_length(text) : name_length(text);

	if (!n || n > NAME_MAX_LEN)
		return false;
	if (!text[n])
		return true;
	const char *port = text + n + 1;
	return text[n] == ':' && strspn(port, DIGIT) == strlen(port) && strlen(port) <= PORT_LEN && strtol(port, NULL, 10) <= PORT_MAX;
}

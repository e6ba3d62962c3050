/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - the header Host of a request (RFC 9110 7.2). Any thread. */
#ifndef API_HOST_H
#define API_HOST_H

#include <stdbool.h>

/* Is TEXT a host as a URI names it, with or without a port (RFC 3986 3.2.2 and 3.2.3): a name, an IPv4 address, or another one in brackets? An
 * empty name is none: a URI of "http" has one (RFC 9110 4.2.1). */
bool http_host_is_valid(const char *text);

#endif

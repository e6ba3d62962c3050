/* SPDX-License-Identifier: Apache-2.0 */
/* weburl.h - addresses of files on web servers: RFC 3986, section 3, as far as "http" and "https" need it. Any thread. */
#ifndef UTIL_WEBURL_H
#define UTIL_WEBURL_H

#include <stdbool.h>

struct err;

enum { WEBURL_MAX = 2000 };     /* characters */

bool weburl_is_https(const char *url);
bool weburl_is_http(const char *url);           /* without TLS */
/* May a file come from URL? -EINVAL: it is no address, or has a password in it, which all that show it would tell; or it is without TLS, and
 * NEEDS_TLS. */
int weburl_check(const char *url, bool needs_tls, struct err *err);

#endif

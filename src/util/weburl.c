/* SPDX-License-Identifier: Apache-2.0 */
#include "util/weburl.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include "util/err.h"

static const char https[] = "https://", http[] = "http://";

bool weburl_is_https(const char *url)
{
	return !strncasecmp(url, https, sizeof(https) - 1);
}

bool weburl_is_http(const char *url)
{
	return !strncasecmp(url, http, sizeof(http) - 1);
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text <= ' ' || *text > '~')
			return false;
	return true;
}

int weburl_check(const char *url, bool needs_tls, struct err *err)
{
	bool is_http = weburl_is_http(url);

	if (!is_http && !weburl_is_https(url))
		return err_set(err, -EINVAL, "'%.100s' is no address of a file: it has to be like https://host.example/disk.qcow2", url);
	const char *host = url + (is_http ? sizeof(http) : sizeof(https)) - 1;
	size_t len = strcspn(host, "/?#");
	if (strlen(url) > WEBURL_MAX || !len || !is_printable(url))
		return err_set(err, -EINVAL, "'%.100s' is no address of a file: it is too long, or has no host, or characters that have to be "
			       "written as %%20 and the like", url);
	if (memchr(host, '@', len))
		return err_set(err, -EINVAL, "an address with a name or password in it is not taken: everybody who sees it would know them");
	if (is_http && needs_tls)
		return err_set(err, -EINVAL, "what comes by http:// may have been changed on its way: use https://, or give its checksum");
	return 0;
}

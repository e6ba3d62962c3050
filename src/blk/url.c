/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/err.h"

enum { URL_MAX = 4096 };

static const char unreserved[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

/* Length of the scheme in front of "://", 0: there is none. */
static size_t url_scheme(const char *text)
{
	size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+");

	return n && text[0] >= 'a' && !strncmp(text + n, "://", 3) ? n : 0;
}

bool blk_url_is(const char *text)
{
	return url_scheme(text) > 0;
}

static int url_bad(const char *text, const char *why, struct err *err)
{
	return err_set(err, -EINVAL, "'%.200s' is no address of a disk: %s; a file of that name is 'file:%.100s'",
		       text, why,
		       text);
}

static int url_hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
	       c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* LEN bytes at FROM, decoded. -EINVAL: broken, or a byte that no name has. */
static int url_decode(char **out, const char *from, size_t len)
{
	char *to = malloc(len + 1);
	size_t n = 0;

	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)from[i];

		if (c == '%') {
			int hi = i + 2 < len ? url_hex(from[i + 1]) : -1;
			int lo = hi < 0 ? -1 : url_hex(from[i + 2]);

			c = lo < 0 ? 0 : hi << 4 | lo;          /* 0: broken */
			i += 2;
		}
		if (c < 0x20 || c == 0x7f) {
			free(to);
			return -EINVAL;
		}
		to[n++] = (char)c;
	}
	to[n] = '\0';
	*out = to;
	return 0;
}

static int url_copy(char *to, size_t cap, const char *from, size_t len)
{
	AUTO(free) char *text = NULL;
	int r = url_decode(&text, from, len);

	if (!r && strlen(text) >= cap)
		r = -EINVAL;
	if (!r)
		strcpy(to, text);
	return r;
}

static int url_port(struct blk_url *u, const char *from, size_t len)
{
	unsigned v = 0;

	if (!len || len > 5 || strspn(from, "0123456789") < len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		v = v * 10 + (unsigned)(from[i] - '0');
	u->port = (uint16_t)v;
	return v && v <= UINT16_MAX ? 0 : -EINVAL;
}

/* "user@host:port", "[2001:db8::1]:port". */
static int url_authority(struct blk_url *u, const char *text, const char *at, size_t len, struct err *err)
{
	const char *end = at + len, *user_end = memchr(at, '@', len), *host_end;

	if (user_end) {
		if (memchr(at, ':', (size_t)(user_end - at)))
			return err_set(err, -EINVAL, "an address of a disk must not have a password in it: other "
				       "users can read "
				       "the command line; give it with the option key-file");
		if (user_end == at || url_copy(u->user, sizeof(u->user), at, (size_t)(user_end - at)) < 0)
			return url_bad(text, "its user name is broken", err);
		at = user_end + 1;
	}
	if (at < end && *at == '[') {
		host_end = memchr(at, ']', (size_t)(end - at));
		if (!host_end || strspn(at + 1, "0123456789abcdefABCDEF:.") != (size_t)(host_end - at - 1) ||
		    url_copy(u->host, sizeof(u->host), at + 1, (size_t)(host_end - at - 1)) < 0)
			return url_bad(text, "its IPv6 address is broken", err);
		host_end++;
	} else {
		host_end = memchr(at, ':', (size_t)(end - at));
		if (!host_end)
			host_end = end;
		if (strspn(at, unreserved) < (size_t)(host_end - at) ||
		    url_copy(u->host, sizeof(u->host), at, (size_t)(host_end - at)) < 0)
			return url_bad(text, "its host name is broken", err);
	}
	if (host_end < end && (*host_end != ':' || url_port(u, host_end + 1, (size_t)(end - host_end - 1)) < 0))
		return url_bad(text, "its port is no number from 1 to 65535", err);
	if (u->port && !u->host[0])
		return url_bad(text, "it has a port and no host", err);
	return 0;
}

static int url_rest(struct blk_url *u, const char *text, const char *path, struct err *err)
{
	const char *options = strchr(path, '#'), *end = options ? options : path + strlen(path);
	const char *query = memchr(path, '?', (size_t)(end - path)), *path_end = query ? query : end;
	int r = url_decode(&u->path, path, (size_t)(path_end - path));

	if (r == -EINVAL)
		return url_bad(text, "its path has a broken '%', or a control character", err);
	u->plain = strndup(text, (size_t)(end - text));
	u->query = query ? strndup(query + 1, (size_t)(end - query - 1)) : NULL;
	u->options = options ? strdup(options + 1) : NULL;
	if (r < 0 || !u->plain || (query && !u->query) || (options && !u->options))
		return err_set(err, -ENOMEM, "out of memory");
	for (const char *p = u->plain; *p; p++)
		if ((unsigned char)*p <= 0x20 || *p == 0x7f)
			return url_bad(text, "it has a space or a control character; write '%20'", err);
	return 0;
}

int blk_url_parse(struct blk_url *u, const char *text, struct err *err)
{
	size_t n = url_scheme(text);

	*u = (struct blk_url){ 0 };
	if (!n || n >= sizeof(u->scheme))
		return url_bad(text, "it does not begin with a protocol", err);
	if (strlen(text) > URL_MAX)
		return url_bad(text, "it is too long", err);
	memcpy(u->scheme, text, n);
	const char *authority = text + n + 3;
	size_t len = strcspn(authority, "/?#");
	int r = url_authority(u, text, authority, len, err);

	if (!r)
		r = url_rest(u, text, authority + len, err);
	if (r < 0)
		blk_url_fini(u);
	return r;
}

void blk_url_fini(struct blk_url *u)
{
	free(u->path);
	free(u->query);
	free(u->options);
	free(u->plain);
	*u = (struct blk_url){ 0 };
}

int blk_url_query(const struct blk_url *u, const char *name, char **out, struct err *err)
{
	size_t n = strlen(name);

	for (const char *at = u->query; at && *at;) {
		size_t len = strcspn(at, "&");

		if (len > n && !strncmp(at, name, n) && at[n] == '=') {
			int r = url_decode(out, at + n + 1, len - n - 1);

			return r < 0 ? url_bad(u->plain, "its query is broken", err) : 1;
		}
		at += len + (at[len] == '&');
	}
	return 0;
}

int blk_url_join(char **out, const char *base, const char *name, struct err *err)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t dir = strcspn(base, "?#"), at;

	while (dir && base[dir - 1] != '/')
		dir--;
	char *text = malloc(dir + 3 * strlen(name) + 1);

	if (!text)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(text, base, dir);
	at = dir;
	for (; *name; name++) {
		if (*name == '/' || strchr(unreserved, *name)) {
			text[at++] = *name;
			continue;
		}
		text[at++] = '%';
		text[at++] = hex[(unsigned char)*name >> 4];
		text[at++] = hex[*name & 15];
	}
	text[at] = '\0';
	*out = text;
	return 0;
}

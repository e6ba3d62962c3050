/* SPDX-License-Identifier: Apache-2.0 */
/* metadata_request.c - requests to the metadata service, and its tokens. */
#include "node/metadata.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "node/secret.h"

enum { BAD_REQUEST = -400, URI_TOO_LONG = -414, HEAD_TOO_LARGE = -431, EXPIRES_DIGITS = 16 };

_Static_assert(METADATA_TOKEN_LEN == EXPIRES_DIGITS + 2 * 32, "when it ends, and SHA-256");

/* --- requests ---------------------------------------------------- */

/* A part of the head. */
struct span {
	const char *at;
	size_t len;
};

static bool span_is(struct span s, const char *text)
{
	return s.len == strlen(text) && !strncasecmp(s.at, text, s.len);
}

/* Split S at the first C: what is before it. False: there is none. */
static bool span_cut(struct span *s, char c, struct span *before)
{
	const char *at = s->len ? memchr(s->at, c, s->len) : NULL;

	if (!at)
		return false;
	*before = (struct span){ s->at, (size_t)(at - s->at) };
	s->at = at + 1;
	s->len -= before->len + 1;
	return true;
}

static struct span span_trim(struct span s)
{
	while (s.len && (s.at[0] == ' ' || s.at[0] == '\t')) {
		s.at++;
		s.len--;
	}
	while (s.len && (s.at[s.len - 1] == ' ' || s.at[s.len - 1] == '\t'))
		s.len--;
	return s;
}

static enum metadata_method method_of(struct span s)
{
	static const char *const names[] = { "GET", "HEAD", "PUT" };
	enum metadata_method m = METADATA_GET;

	while (m < METADATA_OTHER && (s.len != strlen(names[m]) || memcmp(s.at, names[m], s.len) != 0))
		m++;
	return m;
}

/* "/path?query", or the same behind "http://host" (RFC 9112, 3.2.2). */
static int parse_target(struct metadata_request *rq, struct span target)
{
	static const char scheme[] = "http://";
	struct span path;

	if (target.len > strlen(scheme) && !strncasecmp(target.at, scheme, strlen(scheme))) {
		target.at += strlen(scheme);
		target.len -= strlen(scheme);
		while (target.len && target.at[0] != '/') {
			target.at++;
			target.len--;
		}
	}
	path = target;
	(void)span_cut(&target, '?', &path);
	if (!path.len || path.at[0] != '/')
		return BAD_REQUEST;
	if (path.len > METADATA_PATH_MAX)
		return URI_TOO_LONG;
	memcpy(rq->path, path.at, path.len);
	rq->path[path.len] = 0;
	return 0;
}

static int parse_first(struct metadata_request *rq, struct span line)
{
	struct span method, target;

	if (!span_cut(&line, ' ', &method) || !span_cut(&line, ' ', &target) ||
	    (!span_is(line, "HTTP/1.1") && !span_is(line, "HTTP/1.0")))
		return BAD_REQUEST;
	rq->method = method_of(method);
	return parse_target(rq, target);
}

/* Seconds, from 1 on; 0: not such a number. */
static unsigned parse_ttl(struct span s)
{
	unsigned ttl = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] < '0' || s.at[i] > '9')
			return 0;
		ttl = 10 * ttl + (unsigned)(s.at[i] - '0');
		if (ttl > METADATA_TTL_MAX)
			return 0;
	}
	return ttl;
}

static int parse_field(struct metadata_request *rq, struct span line)
{
	struct span name;

	if (!span_cut(&line, ':', &name) || !name.len || name.at[name.len - 1] == ' ' || name.at[name.len - 1] == '\t')
		return BAD_REQUEST;
	line = span_trim(line);
	if (span_is(name, "X-aws-ec2-metadata-token")) {
		/* Of two none holds. */
		bool is_good = !rq->has_token && line.len == METADATA_TOKEN_LEN;

		rq->has_token = true;
		snprintf(rq->token, sizeof(rq->token), "%.*s", is_good ? (int)line.len : 0, line.at);
	} else if (span_is(name, "X-aws-ec2-metadata-token-ttl-seconds")) {
		rq->ttl = rq->has_ttl ? 0 : parse_ttl(line);
		rq->has_ttl = true;
	} else if (span_is(name, "X-Forwarded-For")) {
		rq->is_forwarded = true;
	}
	return 0;
}

/* Nothing but what is shown, spaces and the ends of lines: no byte that others take for one, none that ends a text. */
static bool is_text(const char *head, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char c = head[i];
		bool is_end = (c == '\r' && i + 1 < len && head[i + 1] == '\n') || (c == '\n' && i && head[i - 1] == '\r');

		if (!is_end && c != '\t' && (c < ' ' || c > '~'))
			return false;
	}
	return true;
}

int metadata_parse(struct metadata_request *rq, const char *head, size_t len)
{
	const char *end = len ? memmem(head, len, "\r\n\r\n", 4) : NULL;
	struct span all = { head, end ? (size_t)(end - head) + 2 : 0 }, line;

	*rq = (struct metadata_request){ .method = METADATA_OTHER };
	if (!end)
		return len >= METADATA_HEAD_MAX ? HEAD_TOO_LARGE : 0;
	if (!is_text(all.at, all.len))
		return BAD_REQUEST;
	for (bool is_first = true; span_cut(&all, '\n', &line); is_first = false) {
		line.len--;                             /* the '\r', which is_text() has seen there */
		int r = is_first ? parse_first(rq, line) : parse_field(rq, line);
		if (r < 0)
			return r;
	}
	return 1;
}

/* --- tokens ---------------------------------------------------- */

void metadata_token(char token[METADATA_TOKEN_LEN + 1], const uint8_t key[METADATA_KEY_LEN], const char *uid, uint64_t expires)
{
	char said[DOC_UID_LEN + EXPIRES_DIGITS + 1];
	uint8_t digest[EVP_MAX_MD_SIZE] = { 0 };
	int len = snprintf(said, sizeof(said), "%016llx%.*s", (unsigned long long)expires, DOC_UID_LEN, uid);

	HMAC(EVP_sha256(), key, METADATA_KEY_LEN, (const uint8_t *)said, (size_t)len, digest, NULL);
	snprintf(token, EXPIRES_DIGITS + 1, "%016llx", (unsigned long long)expires);
	for (unsigned i = 0; i < 32; i++)
		snprintf(token + EXPIRES_DIGITS + 2 * (size_t)i, 3, "%02x", digest[i]);
}

bool metadata_token_holds(const char *token, const uint8_t key[METADATA_KEY_LEN], const char *uid, uint64_t now)
{
	char digits[EXPIRES_DIGITS + 1] = "", right[METADATA_TOKEN_LEN + 1];

	if (strlen(token) != METADATA_TOKEN_LEN)
		return false;
	memcpy(digits, token, EXPIRES_DIGITS);
	uint64_t expires = strtoull(digits, NULL, 16);

	metadata_token(right, key, uid, expires);
	return secret_equal(token, right) && now < expires;
}

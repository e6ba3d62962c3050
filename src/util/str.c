/* SPDX-License-Identifier: Apache-2.0 */
#include "util/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "util/checked.h"
#include "util/err.h"

/* Digits at TEXT; *END is the first byte that is none. strtoull() alone would take blanks,
 * signs and octal. */
static int str_digits(uint64_t *out, const char *text, const char **end, struct err *err)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	const char *first = base == 16 ? text + 2 : text;
	char *rest;

	if (!isxdigit((unsigned char)*first) || (base == 10 && !isdigit((unsigned char)*first)))
		return err_set(err, -EINVAL, "'%s' is not a number", text);
	errno = 0;
	*out = strtoull(first, &rest, base);
	*end = rest;
	if (errno == ERANGE)
		return err_set(err, -ERANGE, "'%s' is too large", text);
	return 0;
}

int str_parse_u64(uint64_t *out, const char *text, struct err *err)
{
	uint64_t v = 0;
	const char *end = text;
	int r = str_digits(&v, text, &end, err);

	if (r < 0)
		return r;
	if (*end)
		return err_set(err, -EINVAL, "'%s' is not a number", text);
	*out = v;
	return 0;
}

int str_parse_size(uint64_t *out, const char *text, struct err *err)
{
	static const char suffixes[] = "KMGT";
	uint64_t v = 0;
	const char *end = text;
	int r = str_digits(&v, text, &end, err);

	if (r < 0)
		return r;
	if (*end) {
		const char *s = strchr(suffixes, toupper((unsigned char)*end));

		if (!s || (end[1] && strcasecmp(end + 1, "iB") && strcasecmp(end + 1, "B")))
			return err_set(err, -EINVAL, "'%s' is not a size; write it like 512M or 4G", text);
		if (!u64_mul(v, 1ull << 10 * (s - suffixes + 1), &v))
			return err_set(err, -ERANGE, "'%s' is too large", text);
	}
	*out = v;
	return 0;
}

int str_parse_bool(bool *out, const char *text, struct err *err)
{
	static const struct { const char *word; bool value; } words[] = {
		{ "on", true }, { "off", false }, { "yes", true }, { "no", false },
		{ "true", true }, { "false", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (!strcasecmp(text, words[i].word)) {
			*out = words[i].value;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "'%s' is neither 'on' nor 'off'", text);
}

int str_next_pair(const char **text, char *key, size_t key_cap, char *value, size_t value_cap,
		  bool *has_value, struct err *err)
{
	const char *p = *text;
	size_t n = 0;

	if (!*p)
		return 0;
	while (*p && *p != ',' && *p != '=' && n + 1 < key_cap)
		key[n++] = *p++;
	key[n] = '\0';
	if (!n)
		return err_set(err, -EINVAL, "there is nothing before '%s'", p);
	if (*p && *p != ',' && *p != '=')
		return err_set(err, -EINVAL, "'%s...' is too long", key);
	*has_value = *p == '=';
	if (*has_value)
		p++;
	for (n = 0; *has_value && *p; p++) {
		if (*p == ',' && *++p != ',') {
			p--;
			break;
		}
		if (n + 1 >= value_cap)
			return err_set(err, -EINVAL, "the value of '%s' is too long", key);
		value[n++] = *p;
	}
	value[n] = '\0';
	if (*p == ',' && !*++p)
		return err_set(err, -EINVAL, "there is nothing after the last comma");
	*text = p;
	return 1;
}

/* Damerau-Levenshtein, optimal string alignment, on the three rows it needs. */
unsigned str_distance(const char *a, const char *b)
{
	enum { CAP = 64 };
	unsigned row[3][CAP + 1];
	size_t la = strlen(a), lb = strlen(b);

	if (la > CAP || lb > CAP)
		return STR_MAX_DISTANCE;
	for (size_t j = 0; j <= lb; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		unsigned *cur = row[i % 3], *prev = row[(i + 2) % 3], *prev2 = row[(i + 1) % 3];

		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = prev[j - 1] + (a[i - 1] != b[j - 1]);

			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && prev2[j - 2] + 1 < best)
				best = prev2[j - 2] + 1;
			cur[j] = best;
		}
	}
	return row[la % 3][lb];
}

unsigned str_shown_len(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : *p >= 0xf0 && *p < 0xf5 ? 4 : 0;

	if (len == 1 && (*p < 0x20 || *p == 0x7f))
		return 0;
	for (unsigned i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return len == 2 && *p == 0xc2 && p[1] < 0xa0 ? 0 : len;
}

void str_make_harmless(char *text)
{
	for (unsigned len; *text; text += len ? len : 1) {
		len = str_shown_len(text);
		if (!len)
			*text = '?';
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* catalogue_sums.c - files of checksums, as publishers have them beside images: "SUM  FILE" (SHA256SUMS), "SHA256 (FILE) = SUM" (CHECKSUM), or
 * nothing but the digits (FILE.sha512). */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/catalogue.h"
#include "util/err.h"

struct line { const char *p; size_t n; };

static struct line trimmed(const char *p, size_t n)
{
	while (n && isspace((unsigned char)*p))
		p++, n--;
	while (n && isspace((unsigned char)p[n - 1]))
		n--;
	return (struct line){ p, n };
}

/* How many of N bytes at P are digits of a checksum: 64, 128, or 0. */
static size_t digits(const char *p, size_t n)
{
	size_t k = 0;

	while (k < n && isxdigit((unsigned char)p[k]))
		k++;
	return k == 64 || k == 128 ? k : 0;
}

static bool is_file(const char *p, size_t n, const char *file)
{
	return n == strlen(file) && !memcmp(p, file, n);
}

/* The checksum in L, if it is FILE's; IS_ALONE: if it is anybody's. */
static size_t sum_in(struct line l, const char *file, bool is_alone, const char **at)
{
	size_t n = digits(l.p, l.n);
	const char *open = memchr(l.p, '(', l.n), *equal = NULL;

	*at = l.p;
	if (n && n == l.n)
		return is_alone ? n : 0;
	/* "SUM  FILE", "SUM *FILE", "SUM  ./FILE" */
	if (n && isspace((unsigned char)l.p[n])) {
		struct line name = trimmed(l.p + n, l.n - n);

		if (name.n && name.p[0] == '*')
			name.p++, name.n--;
		if (name.n > 2 && !memcmp(name.p, "./", 2))
			name.p += 2, name.n -= 2;
		return is_file(name.p, name.n, file) ? n : 0;
	}
	/* "SHA256 (FILE) = SUM" */
	if (!open || l.n < 6 || memcmp(l.p, "SHA", 3) != 0)
		return 0;
	for (const char *p = open; p + 4 <= l.p + l.n && !equal; p++)
		equal = !memcmp(p, ") = ", 4) ? p : NULL;
	if (!equal || !is_file(open + 1, (size_t)(equal - open) - 1, file))
		return 0;
	*at = equal + 4;
	n = digits(*at, (size_t)(l.p + l.n - *at));
	return n && *at + n == l.p + l.n ? n : 0;
}

int catalogue_sum(char sum[CATALOGUE_SUM_MAX + 1], const char *text, size_t len, const char *file, struct err *err)
{
	struct line all = trimmed(text, len);
	bool is_alone = !memchr(all.p, '\n', all.n);
	size_t n = 0;

	for (const char *p = text; p < text + len && !n;) {
		const char *end = memchr(p, '\n', (size_t)(text + len - p)), *at;

		end = end ? end : text + len;
		n = sum_in(trimmed(p, (size_t)(end - p)), file, is_alone, &at);
		for (size_t i = 0; i < n; i++)
			sum[i] = (char)tolower((unsigned char)at[i]);
		p = end + 1;
	}
	if (!n)
		return err_set(err, -ENOENT, "there is no checksum of '%.100s' in it", file);
	sum[n] = 0;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "api/range.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* The digits at *P; false: there are none, or too many. */
static bool number(const char **p, uint64_t *out)
{
	const char *begin = *p;

	*out = 0;
	for (; **p >= '0' && **p <= '9'; (*p)++) {
		if (*out > (UINT64_MAX - 9) / 10)
			return false;
		*out = *out * 10 + (uint64_t)(**p - '0');
	}
	return *p > begin;
}

int http_range(const char *text, uint64_t size, uint64_t *off, uint64_t *len)
{
	uint64_t first = 0, last = 0;
	const char *p = text ? text : "";

	*off = 0;
	*len = size;
	if (strncmp(p, "bytes=", 6) != 0)
		return 0;
	p += 6;
	bool has_first = number(&p, &first);
	if (*p++ != '-')
		return 0;
	bool has_last = number(&p, &last);
	if (*p || (!has_first && !has_last) || (has_first && has_last && last < first))
		return 0;
	if (has_first ? first >= size : !last || !size)
		return -ERANGE;
	if (!has_first)
		first = last < size ? size - last : 0;
	*off = first;
	*len = has_first && has_last && last < size ? last - first + 1 : size - first;
	return 1;
}

int http_content_range(const char *text, uint64_t *off, uint64_t *len, uint64_t *size)
{
	uint64_t first, last, all;
	const char *p = text + 6;

	if (strncmp(text, "bytes ", 6) != 0 || !number(&p, &first) || *p++ != '-' || !number(&p, &last) || *p++ != '/' ||
	    !number(&p, &all) || *p || last < first || last >= all)
		return -EINVAL;
	*off = first;
	*len = last - first + 1;
	*size = all;
	return 0;
}

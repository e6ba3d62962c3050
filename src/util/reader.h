/* SPDX-License-Identifier: Apache-2.0 */
/* reader.h - take bytes from the front of a buffer that may end too early. One thread. */
#ifndef UTIL_READER_H
#define UTIL_READER_H

#include <stddef.h>
#include <stdint.h>

struct reader {
	const uint8_t *p;       /* the next byte */
	size_t left;
};

/* The next N bytes, which are then behind; NULL, and nothing moves, when fewer are left. */
static inline const uint8_t *reader_take(struct reader *r, size_t n)
{
	const uint8_t *p = r->p;

	if (n > r->left)
		return NULL;
	r->p += n;
	r->left -= n;
	return p;
}

#endif

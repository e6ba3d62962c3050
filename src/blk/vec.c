/* SPDX-License-Identifier: Apache-2.0 */
/* vec.c - parts of vectors of memory. */
#include "blk/blk_ops.h"

#include <string.h>

struct blk_vec blk_vec_at(struct blk_vec v, uint64_t n)
{
	n += v.skip;
	while (v.n > 0 && n >= v.iov->iov_len) {
		n -= v.iov->iov_len;
		v.iov++;
		v.n--;
	}
	v.skip = n;
	return v;
}

/* The first piece of memory of V, at most LEN bytes; V goes behind it. 0: V is over. */
static size_t vec_piece(struct blk_vec *v, uint64_t len, char **p)
{
	while (v->n > 0 && v->skip >= v->iov->iov_len) {
		v->skip -= v->iov->iov_len;
		v->iov++;
		v->n--;
	}
	if (v->n <= 0)
		return 0;
	size_t n = v->iov->iov_len - v->skip;

	*p = (char *)v->iov->iov_base + v->skip;
	n = n < len ? n : (size_t)len;
	v->skip += n;
	return n;
}

void blk_vec_get(struct blk_vec v, void *buf, size_t len)
{
	char *at = buf, *p;
	size_t n;

	for (; len && (n = vec_piece(&v, len, &p)); at += n, len -= n)
		memcpy(at, p, n);
}

void blk_vec_put(struct blk_vec v, const void *buf, size_t len)
{
	const char *at = buf;
	char *p;
	size_t n;

	for (; len && (n = vec_piece(&v, len, &p)); at += n, len -= n)
		memcpy(p, at, n);
}

void blk_vec_zero(struct blk_vec v, uint64_t len)
{
	char *p;
	size_t n;

	for (; len && (n = vec_piece(&v, len, &p)); len -= n)
		memset(p, 0, n);
}

bool blk_vec_is_zero(struct blk_vec v, uint64_t len)
{
	char *p;
	size_t n;

	for (; len && (n = vec_piece(&v, len, &p)); len -= n)
		if (p[0] || memcmp(p, p + 1, n - 1))
			return false;
	return true;
}

uint8_t *blk_vec_memory(struct blk_vec v, uint64_t len)
{
	return v.n > 0 && v.iov->iov_len > v.skip && v.iov->iov_len - v.skip >= len ?
		(uint8_t *)v.iov->iov_base + v.skip : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* bitmap_edit.c - dirty bitmaps: making, removing, and taking what they have recorded.
 *
 * Of a bitmap that records, the image has the name, marked as in use, until the session ends well: who finds that mark
 * after a crash does not trust the bitmap, and copies all. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct q2_bitmap *bitmap_find(struct q2 *s, const char *name)
{
	for (uint32_t i = 0; i < s->n_bitmaps; i++)
		if (!strcmp(s->bitmaps[i].name, name))
			return &s->bitmaps[i];
	return NULL;
}

static int add_check(struct q2 *s, const char *name, uint64_t granularity, struct err *err)
{
	size_t n = strlen(name);

	if (s->version == 2)
		return err_set(err, -ENOTSUP, "'%s' is version 2 and has no bitmaps; convert it to version 3 (compat=1.1)",
			       s->b->name);
	if (!n || n > Q2_BITMAP_NAME_MAX)
		return err_set(err, -EINVAL, "the name of a bitmap has 1 to %d bytes", Q2_BITMAP_NAME_MAX);
	if (bitmap_find(s, name))
		return err_set(err, -EEXIST, "'%s' has a bitmap '%s' already", s->b->name, name);
	if (!is_pow2(granularity) || granularity < 512 || granularity > 1u << 31)
		return err_set(err, -EINVAL,
			       "a bit of a bitmap stands for a power of 2 from 512 bytes to 2 GiB, not %" PRIu64,
			       granularity);
	if (s->n_bitmaps == Q2_BITMAPS_MAX)
		return err_set(err, -E2BIG, "'%s' has %d bitmaps, which is the most", s->b->name, Q2_BITMAPS_MAX);
	return 0;
}

static void bitmap_fini(struct q2_bitmap *m)
{
	free(m->name);
	free(m->extra);
	free(m->bits);
}

static int add(struct q2 *s, struct q2_bitmap *m, const char *name)
{
	struct q2_bitmap *list = reallocarray(s->bitmaps, s->n_bitmaps + 1ul, sizeof(*list));

	if (list)
		s->bitmaps = list;
	m->n_bytes = q2_bitmap_bytes(m, s->size);
	m->name = strdup(name);
	m->extra = calloc(1, 1);
	m->bits = m->n_bytes <= Q2_BITMAP_BYTES_MAX ? calloc(1, m->n_bytes ? m->n_bytes : 1) : NULL;
	if (!list || !m->name || !m->extra || !m->bits) {
		bitmap_fini(m);
		return m->n_bytes > Q2_BITMAP_BYTES_MAX ? -EFBIG : -ENOMEM;
	}
	s->bitmaps[s->n_bitmaps++] = *m;
	s->autoclear |= Q2_AUTOCLEAR_BITMAPS;
	int r = q2_bitmaps_store(s, false);

	if (r < 0)
		bitmap_fini(&s->bitmaps[--s->n_bitmaps]);
	return r;
}

int q2_co_bitmap_add(struct blk *b, const char *name, uint64_t granularity, struct err *err)
{
	struct q2_bitmap m = { .flags = Q2_BITMAP_IN_USE | Q2_BITMAP_AUTO };
	struct q2 *s = b->priv;
	int r = add_check(s, name, granularity, err);

	if (r < 0)
		return r;
	m.granularity_bits = (uint8_t)__builtin_ctzll(granularity);
	r = q2_prepare(s);
	if (!r)
		r = add(s, &m, name);
	return r < 0 ? err_set(err, r, "cannot add a bitmap to '%s': %s", b->name, strerror(-r)) : 0;
}

int q2_co_bitmap_remove(struct blk *b, const char *name, struct err *err)
{
	struct q2 *s = b->priv;
	struct q2_bitmap *m = bitmap_find(s, name), gone;
	int r = m ? q2_prepare(s) : err_set(err, -ENOENT, "'%s' has no bitmap '%s'", b->name, name);

	if (!m)
		return r;
	if (!r) {
		gone = *m;
		*m = s->bitmaps[--s->n_bitmaps];
		if (!s->n_bitmaps)
			s->autoclear &= ~(uint64_t)Q2_AUTOCLEAR_BITMAPS;
		r = q2_bitmaps_store(s, false);
		if (!r)
			r = q2_bitmap_release(s, &gone);
		bitmap_fini(&gone);
	}
	return r < 0 ? err_set(err, r, "cannot remove bitmap '%s' of '%s': %s", name, b->name, strerror(-r)) : 0;
}

int q2_co_bitmap_take(struct blk *b, const char *name, struct blk_bits *out, struct err *err)
{
	struct q2 *s = b->priv;
	const struct q2_bitmap *m = bitmap_find(s, name);
	int r = m ? q2_prepare(s) : err_set(err, -ENOENT, "'%s' has no bitmap '%s'", b->name, name);

	if (!m)
		return r;
	if (r < 0)
		return err_set(err, r, "cannot read the bitmaps of '%s': %s", b->name, strerror(-r));
	if (!m->bits)
		return err_set(err, -ESTALE,
			       "bitmap '%s' of '%s' does not say what has changed: %s; remove it and make a full "
			       "backup", name, b->name,
				m->flags & Q2_BITMAP_IN_USE ? "the process that recorded last did not end well"
			       : "it does not record");
	out->v = malloc(m->n_bytes ? m->n_bytes : 1);
	if (!out->v)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(out->v, m->bits, m->n_bytes);
	memset(m->bits, 0, m->n_bytes);
	out->n_bytes = m->n_bytes;
	out->granularity_bits = m->granularity_bits;
	return 0;
}

void q2_co_bitmap_give(struct blk *b, const char *name, const struct blk_bits *bits)
{
	const struct q2_bitmap *m = bitmap_find(b->priv, name);

	for (uint64_t i = 0; m && m->bits && i < bits->n_bytes && i < m->n_bytes; i++)
		m->bits[i] |= bits->v[i];
}

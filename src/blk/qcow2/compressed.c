/* SPDX-License-Identifier: Apache-2.0 */
/* compressed.c - reading clusters that are kept compressed: section "Compressed Clusters Descriptor".
 *
 * Unpacking runs on other threads. Those that were written one after the other lie one behind the other: who
 * wants many gets them with one read and in one job. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { UNPACK_RUN_MAX = 16, UNPACK_RUN_BYTES = 1 << 20 };

static void packer_free(struct q2_packer *p)
{
	free(p->raw);
	free(p->packed);
	free(p);
}

void q2_packers_free(struct q2 *s)
{
	struct q2_packer *p;

	while ((p = s->packers)) {
		s->packers = p->next;
		packer_free(p);
	}
	q2_codecs_free(s);
}

struct q2_packer *q2_packer_get(struct q2 *s)
{
	struct q2_packer *p = s->packers;

	if (p) {
		s->packers = p->next;
		return p;
	}
	p = calloc(1, sizeof(*p));
	if (p) {
		p->raw = malloc(s->cluster_size);
		p->packed = malloc((size_t)s->cluster_size * 2 + BLK_SECTOR);
	}
	if (p && (!p->raw || !p->packed)) {
		packer_free(p);
		p = NULL;
	}
	return p;
}

void q2_packer_put(struct q2 *s, struct q2_packer *p)
{
	p->next = s->packers;
	s->packers = p;
}

void q2_packed_range(const struct q2 *s, const struct q2_entry *e, uint64_t *off, uint64_t *len)
{
	*off = e->host & ~511ull;
	*len = (uint64_t)e->n_sectors * 512;
}

/* Clusters that lie one behind the other in the file: what was read of it, and where they go. */
struct unpack_job {
	struct q2 *s;
	const struct q2_entry *e;
	unsigned n;
	const uint8_t *packed;          /* from e->host on */
	uint8_t *out;
};

/* On another thread. */
static int64_t unpack_run(void *arg)
{
	const struct unpack_job *j = arg;
	struct q2 *s = j->s;
	struct q2_codec *k = q2_codec_get(s);
	int r = k ? 0 : -ENOMEM;

	for (unsigned i = 0; !r && i < j->n; i++) {
		const struct q2_entry *e = &j->e[i];
		uint64_t off, len;

		q2_packed_range(s, e, &off, &len);
		r = q2_codec_unpack(s, k, j->packed + (e->host - j->e->host), (size_t)(off + len - e->host),
				    j->out + ((size_t)i << s->cluster_bits));
	}
	if (k)
		q2_codec_put(s, k);
	return r;
}

static int inflate_with(struct q2 *s, struct q2_packer *p, const struct q2_entry *e, uint64_t skip, uint64_t len,
			struct blk_vec v)
{
	uint8_t *direct = !skip && len == s->cluster_size ? blk_vec_memory(v, len) : NULL;
	struct unpack_job j = { .s = s, .e = e, .n = 1, .packed = p->packed, .out = direct ? direct : p->raw };
	int r = blk_co_pread(s->b->file, e->host, p->packed,
			     (size_t)e->n_sectors * BLK_SECTOR - (e->host & (BLK_SECTOR - 1)));

	if (!r)
		r = (int)blk_co_call(s->b, unpack_run, &j);
	if (r < 0 || direct)
		return r;
	blk_vec_put(v, p->raw + skip, len);
	if (len < s->cluster_size) {
		uint8_t *last = s->inflated;

		s->inflated = p->raw;
		s->inflated_host = e->host;
		p->raw = last ? last : malloc(s->cluster_size);
	}
	return 0;
}

int q2_inflate(struct q2 *s, const struct q2_entry *e, uint64_t skip, uint64_t len, struct blk_vec v)
{
	/* The last one again: a guest reads a cluster in small pieces. */
	if (s->inflated_host == e->host && s->inflated) {
		blk_vec_put(v, s->inflated + skip, len);
		return 0;
	}
	struct q2_packer *p = q2_packer_get(s);

	if (!p)
		return -ENOMEM;
	int r = inflate_with(s, p, e, skip, len, v);

	if (p->raw)
		q2_packer_put(s, p);
	else
		packer_free(p);
	return r;
}

/* How many clusters from GUEST on, the first of which is E[0], can be read in one: up to LIMIT. *END: host, of them. */
static int unpack_count(struct q2 *s, uint64_t guest, struct q2_entry *e, unsigned limit, uint64_t *end)
{
	uint64_t off, len;
	unsigned n = 1;

	q2_packed_range(s, e, &off, &len);
	*end = off + len;
	for (; n < limit; n++) {
		int r = q2_entry_get(s, guest + ((uint64_t)n << s->cluster_bits), &e[n]);

		if (r < 0)
			return r;
		q2_packed_range(s, &e[n], &off, &len);
		if (!e[n].is_compressed || e[n].host <= e[n - 1].host || e[n].host > *end || off + len < *end ||
		    off + len - e->host > UNPACK_RUN_BYTES)
			break;
		*end = off + len;
	}
	return (int)n;
}

int q2_inflate_run(struct q2 *s, const struct q2_entry *first, uint64_t guest, uint64_t len, struct blk_vec v,
		   uint64_t *done)
{
	struct q2_entry e[UNPACK_RUN_MAX] = { *first };
	uint64_t limit = len >> s->cluster_bits, end;

	limit = limit < UNPACK_RUN_MAX ? limit : UNPACK_RUN_MAX;
	uint8_t *out = blk_vec_memory(v, limit << s->cluster_bits);
	int n = out && limit ? unpack_count(s, guest, e, (unsigned)limit, &end) : 1;

	if (n < 0)
		return n;
	*done = (uint64_t)n << s->cluster_bits;
	if (n == 1)
		return q2_inflate(s, first, 0, s->cluster_size, v);
	AUTO(free) uint8_t *packed = malloc((size_t)(end - e->host));
	struct unpack_job j = { .s = s, .e = e, .n = (unsigned)n, .packed = packed, .out = out };
	int r = packed ? blk_co_pread(s->b->file, e->host, packed, (size_t)(end - e->host)) : -ENOMEM;

	return r ? r : (int)blk_co_call(s->b, unpack_run, &j);
}

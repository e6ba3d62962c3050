/* SPDX-License-Identifier: Apache-2.0 */
/* header2.c - the header of LUKS2: two copies of a binary part and JSON, each with a checksum over both.
 *
 * Section "On-Disk Format". Of two good copies the one with the higher number counts. Writing goes to the first
 * copy, then to the second, each made durable before the next: a power cut leaves one that is whole. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/log.h"

enum { BIN_LEN = sizeof(struct luks2_header), HDR_MIN = 16 << 10, HDR_MAX = 4 << 20 };

static const uint8_t luks2_magic[2][6] = {
	{ 'L', 'U', 'K', 'S', 0xba, 0xbe }, { 'S', 'K', 'U', 'L', 0xba, 0xbe },
};

/* One copy as it was read. */
struct luks2_copy {
	uint8_t *buf;                   /* BIN_LEN and the JSON area; owned */
	uint64_t size, seqid;
};

/* Does the binary part say that COPY of a header can stand at OFF? Its size, or 0. */
static uint64_t luks2_bin_size(const struct luks2_header *h, unsigned copy, uint64_t off)
{
	uint64_t size = be64_get(h->hdr_size);

	if (memcmp(h->magic, luks2_magic[copy], 6) || be16_get(h->version) != 2 || be64_get(h->hdr_offset) != off)
		return 0;
	if (!is_pow2(size) || size < HDR_MIN || size > HDR_MAX || (copy && size != off))
		return 0;
	if (!memchr(h->checksum_alg, 0, 32) || !memchr(h->uuid, 0, 40) || !luks_hash_size(h->checksum_alg))
		return 0;
	return size;
}

/* Over all of BUF, its own place taken as zeroes; puts them there. */
static int luks2_checksum(uint8_t *buf, uint64_t size, uint8_t *out)
{
	struct luks2_header *h = (struct luks2_header *)buf;

	memset(h->csum, 0, sizeof(h->csum));
	return luks_hash(h->checksum_alg, buf, size, "", 0, out);
}

/* Read COPY at OFF. 0: it is whole; 1: it is not. */
static int luks2_co_read_copy(struct luks *l, unsigned copy, uint64_t off, struct luks2_copy *out)
{
	uint8_t sum[LUKS_DIGEST_MAX], stored[LUKS_DIGEST_MAX];
	AUTO(free) struct luks2_header *h = malloc(BIN_LEN);
	int r = h ? 0 : -ENOMEM;

	if (!range_fits(off, BIN_LEN, l->p.len))
		return 1;
	if (!r)
		r = blk_co_pread(l->p.node, l->p.off + off, h, BIN_LEN);
	uint64_t size = r < 0 ? 0 : luks2_bin_size(h, copy, off);

	if (r < 0 || !size || !range_fits(off, size, l->p.len))
		return r < 0 ? r : 1;
	AUTO(free) uint8_t *buf = malloc(size);

	r = buf ? blk_co_pread(l->p.node, l->p.off + off + BIN_LEN, buf + BIN_LEN, size - BIN_LEN) : -ENOMEM;
	if (r < 0)
		return r;
	memcpy(buf, h, BIN_LEN);
	memcpy(stored, h->csum, sizeof(stored));
	r = luks2_checksum(buf, size, sum);
	if (r < 0 || memcmp(sum, stored, luks_hash_size(h->checksum_alg)))
		return r < 0 ? r : 1;
	out->buf = take_ptr(&buf);
	out->size = size;
	out->seqid = be64_get(h->seqid);
	return 0;
}

/* The second copy stands where the first one ends; without the first, at one of the places that can be. */
static int luks2_co_find_second(struct luks *l, const struct luks2_copy *first, struct luks2_copy *out)
{
	int r = 1;

	if (first->buf)
		return luks2_co_read_copy(l, 1, first->size, out);
	for (uint64_t off = HDR_MIN; r == 1 && off <= HDR_MAX; off *= 2)
		r = luks2_co_read_copy(l, 1, off, out);
	return r;
}

static int luks2_take(struct luks *l, const struct luks2_copy *c, struct err *err)
{
	memcpy(&l->head, c->buf, BIN_LEN);
	l->hdr_size = c->size;
	l->seqid = c->seqid;
	snprintf(l->uuid, sizeof(l->uuid), "%.39s", l->head.uuid);
	return luks2_json_parse(l, (const char *)c->buf + BIN_LEN, c->size - BIN_LEN, err);
}

int luks2_co_read(struct luks *l, struct err *err)
{
	struct luks2_copy c[2] = { 0 };
	int first = luks2_co_read_copy(l, 0, 0, &c[0]),
	    second = first < 0 ? first : luks2_co_find_second(l, &c[0], &c[1]);
	int r = second < 0 ? second : 0;

	l->copy_is_good[0] = !first;
	l->copy_is_good[1] = !second;
	if (r < 0)
		err_set(err, r, "cannot read the LUKS header of '%s': %s", l->p.name, strerror(-r));
	else if (first && second)
		r = err_set(err, -EINVAL, "both copies of the LUKS2 header of '%s' are damaged", l->p.name);
	if (!r) {
		unsigned best = first || (!second && c[1].seqid > c[0].seqid);

		/* One that is older is as good as damaged: it would bring back keys that were removed. */
		if (!first && !second && c[0].seqid != c[1].seqid)
			l->copy_is_good[!best] = false;
		r = luks2_take(l, &c[best], err);
	}
	if (!r && (!l->copy_is_good[0] || !l->copy_is_good[1]))
		log_warn("disk '%s': the %s copy of its LUKS2 header is damaged or old; repair it with: viv disk check "
			 "--repair", l->p.name, l->copy_is_good[0] ? "second" : "first");
	free(c[0].buf);
	free(c[1].buf);
	return r;
}

static int luks2_co_write_copy(struct luks *l, unsigned copy, const char *json, size_t json_len)
{
	AUTO(free) uint8_t *buf = calloc(1, l->hdr_size);
	struct luks2_header *h = (struct luks2_header *)buf;
	uint8_t sum[LUKS_DIGEST_MAX] = { 0 };

	if (!buf)
		return -ENOMEM;
	*h = l->head;
	memcpy(h->magic, luks2_magic[copy], 6);
	h->version = be16_of(2);
	h->hdr_size = be64_of(l->hdr_size);
	h->hdr_offset = be64_of(copy ? l->hdr_size : 0);
	h->seqid = be64_of(l->seqid);
	memcpy(buf + BIN_LEN, json, json_len);
	int r = luks_random(h->salt, sizeof(h->salt));

	if (!r)
		r = luks2_checksum(buf, l->hdr_size, sum);
	memcpy(h->csum, sum, sizeof(h->csum));
	if (!r)
		r = blk_co_pwrite(l->p.node, l->p.off + (copy ? l->hdr_size : 0), buf, l->hdr_size);
	return r ? r : blk_co_flush(l->p.node);
}

int luks2_co_write(struct luks *l)
{
	AUTO(free) char *json = json_dumps(l->json, JSON_COMPACT);
	size_t len = json ? strlen(json) : 0;
	int r = !json ? -ENOMEM : len >= l->hdr_size - BIN_LEN ? -ENOSPC : 0;

	l->seqid++;
	/* What is whole stays so until the other one is. */
	unsigned order = l->copy_is_good[0] && !l->copy_is_good[1];

	for (unsigned i = 0; !r && i < 2; i++) {
		unsigned copy = i ^ order;

		l->copy_is_good[copy] = false;
		r = luks2_co_write_copy(l, copy, json, len);
		l->copy_is_good[copy] = !r;
	}
	return r;
}

int luks2_co_check(struct luks *l, bool is_fixing, struct blk_check *c)
{
	char line[100];

	for (unsigned i = 0; i < 2; i++) {
		if (l->copy_is_good[i])
			continue;
		snprintf(line, sizeof(line), "the %s copy of the LUKS2 header is damaged or old",
			 i ? "second" : "first");
		if (c->report)
			c->report(c->report_arg, line);
		c->n_errors++;
	}
	if (!c->n_errors || !is_fixing)
		return 0;
	int r = luks2_co_write(l);

	if (!r) {
		c->n_errors_fixed += c->n_errors;
		c->n_errors = 0;
	}
	return r;
}

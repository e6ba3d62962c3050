/* SPDX-License-Identifier: Apache-2.0 */
/* crypt.c - LUKS inside qcow2: section "Full disk encryption header pointer".
 *
 * A LUKS1 header has clusters of its own; the data of clusters is encrypted with its key, numbered by their place
 * in the file (so one cluster that moves is encrypted anew). What has no data here, compressed clusters and all
 * tables are not encrypted. */
#include "blk/qcow2/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include "blk/luks/luks.h"

enum { CRYPT_CHUNK = 1 << 20 };

int q2_crypt_open(struct q2 *s, struct err *err)
{
	const struct blk_options *o = s->b->opening;
	struct luks_place p = { .node = s->b->file, .off = s->crypt_off, .len = s->crypt_len, .name = s->b->name };

	if (!s->crypt_method)
		return 0;
	if (!range_fits(s->crypt_off, s->crypt_len, s->b->file->size))
		return err_set(err, -EINVAL, "the encryption header of '%s' lies behind the end of the file",
			       s->b->name);
	int r = luks_co_open(&s->luks, &p, err);

	if (!r && (luks_version(s->luks) != 1 || luks_sector_size(s->luks) != BLK_SECTOR))
		r = err_set(err, -ENOTSUP, "'%s' has LUKS%u inside; qcow2 has LUKS1", s->b->name,
			    luks_version(s->luks));
	s->b->luks = s->luks;
	/* The check looks at no data. */
	if (r < 0 || s->b->is_repairing || o->has_no_key)
		return r;
	return luks_co_unlock_node(s->luks, s->b, -1, err);
}

void q2_crypt_close(struct q2 *s)
{
	luks_leave_node(s->luks, s->b);
}

/* HOST is where the bytes are in the file. */
int q2_data_read(struct q2 *s, uint64_t host, uint64_t len, struct blk_vec v)
{
	if (!s->luks)
		return blk_co_preadv(q2_data(s), host, len, v);
	AUTO(free) uint8_t *buf = aligned_alloc(4096, align_up(len < CRYPT_CHUNK ? len : CRYPT_CHUNK, 4096));
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t n; !r && len; len -= n, host += n, v = blk_vec_at(v, n)) {
		n = len < CRYPT_CHUNK ? len : CRYPT_CHUNK;
		r = blk_co_pread(q2_data(s), host, buf, n);
		if (!r)
			r = luks_co_crypt(s->luks, s->b, false, host, buf, n);
		if (!r)
			blk_vec_put(v, buf, n);
	}
	return r;
}

int q2_data_write(struct q2 *s, uint64_t host, uint64_t len, struct blk_vec v)
{
	if (!s->luks)
		return blk_co_pwritev(q2_data(s), host, len, v);
	AUTO(free) uint8_t *buf = aligned_alloc(4096, align_up(len < CRYPT_CHUNK ? len : CRYPT_CHUNK, 4096));
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t n; !r && len; len -= n, host += n, v = blk_vec_at(v, n)) {
		n = len < CRYPT_CHUNK ? len : CRYPT_CHUNK;
		blk_vec_get(v, buf, n);
		r = luks_co_crypt(s->luks, s->b, true, host, buf, n);
		if (!r)
			r = blk_co_pwrite(q2_data(s), host, buf, n);
	}
	return r;
}

/* --- creating ----------------------------------------------------------------------------------- */

static struct luks_format crypt_format(const struct blk_creating *c)
{
	return (struct luks_format){ .version = 1, .sector_size = BLK_SECTOR, .opts = c->opts, .prefix = "encrypt.",
				     .secret = c->secret, .data_off = 0 };
}

uint64_t q2_crypt_room(const struct blk_creating *c)
{
	struct luks_format f = crypt_format(c);

	return blk_opts_is_set(c->opts, "encrypt.format") ? luks_header_room(&f) : 0;
}

int q2_crypt_create(const struct blk_creating *c, const struct q2 *s, struct err *err)
{
	struct luks_format f = crypt_format(c);
	struct luks_place p = { .node = c->file, .off = s->crypt_off, .len = s->crypt_len, .name = c->args->path };

	if (!s->crypt_method)
		return 0;
	f.data_off = s->crypt_len;      /* QEMU wants the header to say how long it is */
	return luks_co_create(&p, &f, err);
}

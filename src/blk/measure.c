/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "blk/core_priv.h"
#include "blk/luks/luks.h"
#include "blk/opts.h"
#include "blk/qcow2/qcow2.h"
#include "util/checked.h"
#include "util/err.h"

enum { RAW_BLOCK = 4096 };

/* What a format is made of, as far as sizes go. */
struct measure {
	uint64_t size, unit;            /* of the disk; unit of allocation */
	uint64_t n_units;               /* that have data */
	const struct blk_progress *progress;    /* NULL: nobody asks */
};

/* Units of the disk with data in them. */
static int measure_data(struct measure *m, struct blk *src, struct err *err)
{
	uint64_t counted = 0;           /* units before this are */

	for (uint64_t off = 0; src && off < m->size;) {
		struct blk_extent e;
		int r = blk_map(src, off, m->size - off, true, &e);

		if (r < 0)
			return err_set(err, r, "cannot examine '%s' at byte %" PRIu64 ": %s", blk_name(src), off,
				       strerror(-r));
		if (e.flags & BLK_EXT_DATA) {
			uint64_t first = off / m->unit, end = (off + e.len - 1) / m->unit + 1;

			first = first > counted ? first : counted;
			m->n_units += end > first ? end - first : 0;
			counted = end > counted ? end : counted;
		}
		off += e.len;
		r = blk_progress(m->progress, off, m->size);
		if (r < 0)
			return err_set(err, r, "interrupted");
	}
	return 0;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* Bytes of a qcow2 image with N data clusters: header, L1, all L2 tables, the header of its encryption, and reference
 * counts for everything, those of the counts included. */
static uint64_t measure_qcow2(const struct measure *m, const struct blk_opts *o, uint64_t n)
{
	uint64_t cluster = m->unit, entry = blk_opts_num(o, "extended_l2") ? 16 : 8;
	uint64_t l2_tables = div_up(div_up(m->size, cluster), cluster / entry);
	uint64_t fixed = 1 + div_up((l2_tables ? l2_tables : 1) * 8, cluster) + l2_tables + n +
			 div_up(q2_crypt_room(&(struct blk_creating){ .opts = o }), cluster);
	uint64_t per_block = cluster * 8 / blk_opts_num(o, "refcount_bits"), blocks = 1, table = 1;

	for (;;) {
		uint64_t more_blocks = div_up(fixed + blocks + table, per_block),
			more_table = div_up(more_blocks * 8, cluster);

		if (more_blocks <= blocks && more_table <= table)
			return (fixed + blocks + table) * cluster;
		blocks = more_blocks > blocks ? more_blocks : blocks;
		table = more_table > table ? more_table : table;
	}
}

/* What the driver of a format with blocks says. */
static int measure_blocks(struct measure *m, struct blk *src, const struct blk_driver *drv, const struct blk_opts *o,
			  struct blk_measure *out, struct err *err)
{
	struct blk_create args = { .format = drv->name, .size = m->size };
	struct blk_creating c = { .args = &args, .opts = o, .size = m->size };
	struct blk_layout l;

	if (!m->size)
		return err_set(err, -EINVAL, "the size of the disk is missing");
	int r = drv->measure(&c, &l, err);

	if (r < 0)
		return r;
	m->unit = l.unit;
	r = l.each ? measure_data(m, src, err) : 0;
	*out = (struct blk_measure){ l.fixed + m->n_units * l.each, l.fixed + div_up(l.size, l.unit) * l.each };
	return r;
}

static int measure_clusters(struct measure *m, struct blk *src, const struct blk_opts *o, struct blk_measure *out,
			    struct err *err)
{
	m->unit = blk_opts_num(o, "cluster_size");
	if (!is_pow2(m->unit))
		return err_set(err, -EINVAL, "cluster_size is a power of two");
	int r = measure_data(m, src, err);

	*out = (struct blk_measure){ measure_qcow2(m, o, m->n_units), measure_qcow2(m, o, div_up(m->size, m->unit)) };
	return r;
}

static int measure_raw(struct measure *m, struct blk *src, struct blk_measure *out, struct err *err)
{
	int r = measure_data(m, src, err);

	*out = (struct blk_measure){ m->n_units * m->unit < m->size ? m->n_units * m->unit : m->size, m->size };
	return r;
}

int blk_measure(struct blk *src, uint64_t size, const char *format, const struct blk_opts *opts,
		const struct blk_progress *progress, struct blk_measure *out, struct err *err)
{
	const struct blk_driver *drv = blk_format_find(format, err);
	AUTO(blk_opts_fini) struct blk_opts defaults = { 0 };
	struct measure m = { .size = src ? blk_size(src) : align_up(size, BLK_SECTOR), .unit = RAW_BLOCK, .progress = progress };
	int r = drv ? blk_opts_init(&defaults, blk_format_create_opts(format), err) : -EINVAL;

	if (r < 0)
		return r;
	opts = opts ? opts : &defaults;
	if (drv->measure)
		return measure_blocks(&m, src, drv, opts, out, err);
	if (!strcmp(format, "qcow2"))
		return measure_clusters(&m, src, opts, out, err);
	if (!strcmp(format, "raw"))
		return measure_raw(&m, src, out, err);
	if (strcmp(format, "luks"))
		return err_set(err, -ENOTSUP, "how large an image of format '%s' will be is not known before", format);
	/* What an encrypted disk has not got is noise like the rest: all of it is written. */
	out->required = out->fully_allocated = luks_image_room(opts) + m.size;
	return 0;
}

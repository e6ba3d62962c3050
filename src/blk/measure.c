/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "blk/luks/luks.h"
#include "blk/opts.h"
#include "util/checked.h"
#include "util/err.h"

enum { RAW_BLOCK = 4096 };

/* What a format is made of, as far as sizes go. */
struct measure {
	uint64_t size, unit;            /* of the disk; unit of allocation */
	uint64_t n_units;               /* that have data */
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
	}
	return 0;
}

static uint64_t div_up(uint64_t a, uint64_t b)
{
	return a / b + (a % b != 0);
}

/* Bytes of a qcow2 image with N data clusters: header, L1, all L2 tables, and reference counts for everything, those
 * of the counts included. */
static uint64_t measure_qcow2(const struct measure *m, const struct blk_opts *o, uint64_t n)
{
	uint64_t cluster = m->unit, entry = blk_opts_num(o, "extended_l2") ? 16 : 8;
	uint64_t l2_tables = div_up(div_up(m->size, cluster), cluster / entry);
	uint64_t fixed = 1 + div_up((l2_tables ? l2_tables : 1) * 8, cluster) + l2_tables + n;
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

static int measure_check(const struct measure *m, const char *format, struct err *err)
{
	static const char *const known[] = { "raw", "qcow2", "luks" };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (!strcmp(format, known[i]))
			return is_pow2(m->unit) ? 0 : err_set(err, -EINVAL, "cluster_size is a power of two");
	return err_set(err, -ENOTSUP, "how large a %s image will be is not known before; raw, qcow2 and luks can be measured",
		       format);
}

int blk_measure(struct blk *src, uint64_t size, const char *format, const struct blk_opts *opts,
		struct blk_measure *out, struct err *err)
{
	bool is_qcow2 = !strcmp(format, "qcow2"), is_luks = !strcmp(format, "luks");
	AUTO(blk_opts_fini) struct blk_opts defaults = { 0 };
	struct measure m = { .size = src ? blk_size(src) : align_up(size, BLK_SECTOR), .unit = RAW_BLOCK };
	int r = blk_opts_init(&defaults, blk_format_create_opts(format), err);

	if (r < 0)
		return r;
	opts = opts ? opts : &defaults;
	if (is_qcow2)
		m.unit = blk_opts_num(opts, "cluster_size");
	r = measure_check(&m, format, err);
	if (!r && !is_luks)
		r = measure_data(&m, src, err);
	if (r < 0)
		return r;
	uint64_t all = div_up(m.size, m.unit);

	/* What an encrypted disk has not got is noise like the rest: all of it is written. */
	if (is_luks)
		out->required = out->fully_allocated = luks_image_room(opts) + m.size;
	else if (is_qcow2)
		*out = (struct blk_measure){ measure_qcow2(&m, opts, m.n_units), measure_qcow2(&m, opts, all) };
	else
		*out = (struct blk_measure){ m.n_units * m.unit < m.size ? m.n_units * m.unit : m.size, m.size };
	return 0;
}

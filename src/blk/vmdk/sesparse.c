/* SPDX-License-Identifier: Apache-2.0 */
/* sesparse.c - ESXi's space-efficient sparse extents, for reading: a directory and tables of 64-bit entries whose
 * top four bits are a type. VMware has not published the format; it is known from what ESXi writes. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SE_GRAIN = 8 /* sectors */, SE_GT_BYTES = 64 * BLK_SECTOR, SE_REPLAY_AT = 24 };
#define SE_VERSION 0x0000000200000001ull
#define SE_VOLATILE_MAGIC 0xcafecafeull

/* A constant header: le64 fields by number. */
enum se_field {
	SE_F_MAGIC, SE_F_VERSION, SE_F_CAPACITY, SE_F_GRAIN, SE_F_GT_SIZE, SE_F_FLAGS, SE_F_RESERVED1, SE_F_RESERVED2,
	SE_F_RESERVED3, SE_F_RESERVED4, SE_F_VOLATILE_OFF, SE_F_VOLATILE_SIZE, SE_F_JOURNAL_HEADER_OFF,
	SE_F_JOURNAL_HEADER_SIZE, SE_F_JOURNAL_OFF, SE_F_JOURNAL_SIZE, SE_F_GD_OFF, SE_F_GD_SIZE, SE_F_GTS_OFF,
	SE_F_GTS_SIZE, SE_F_FREE_OFF, SE_F_FREE_SIZE, SE_F_BACKMAP_OFF, SE_F_BACKMAP_SIZE, SE_F_GRAINS_OFF,
	SE_F_GRAINS_SIZE, SE_N_FIELDS,
};

static uint64_t se_page_at(const struct bat *t, uint64_t no)
{
	const struct vmdk_extent *x = t->arg;
	uint32_t pages = SE_GT_BYTES / BAT_PAGE_MAX;
	uint64_t i = no / pages, v = i < x->n_gd ? x->se_gd[i] : 0;

	if (!v)
		return 0;
	return x->se_gt_off + (v & UINT32_MAX) * SE_GT_BYTES + no % pages * BAT_PAGE_MAX;
}

/* Type 0: nothing, 1: was unmapped, 2: zeroes, 3: a grain, whose number has its high bits in the low ones. */
static bool se_decode(const struct bat *t, const uint8_t *raw, struct bat_entry *e)
{
	const struct vmdk_extent *x = t->arg;
	uint64_t v = get_le64(raw);

	switch (v >> 60) {
	case 0:
		return !v;
	case 1:
	case 2:
		e->kind = BAT_ZERO;
		return true;
	case 3:
		e->kind = BAT_DATA;
		e->host = x->se_data_off + ((v & 0x0fff000000000000ull) >> 48 | (v & 0x0000ffffffffffffull) << 12) *
			  SE_GRAIN * BLK_SECTOR;
		return e->host >= x->se_data_off;
	default:
		return false;
	}
}

static const struct bat_format se_format = { .entry_size = 8, .has_zero = true, .decode = se_decode,
					     .page_at = se_page_at };

static int se_header_check(struct vmdk *s, struct vmdk_extent *x, const uint64_t *f, struct err *err)
{
	const char *name = x->file->name;

	if (f[SE_F_MAGIC] != VMDK_SE_MAGIC)
		return err_set(err, -EINVAL, "'%s' is not a seSparse extent", name);
	if (f[SE_F_VERSION] != SE_VERSION || f[SE_F_FLAGS] || f[SE_F_GRAIN] != SE_GRAIN ||
	    f[SE_F_GT_SIZE] != SE_GT_BYTES / BLK_SECTOR)
		return err_set(err, -ENOTSUP, "'%s' is a seSparse extent of version 0x%" PRIx64 ", flags 0x%" PRIx64
			       ", grains of %" PRIu64 " sectors, tables of %" PRIu64 ", which is not known", name,
			       f[SE_F_VERSION], f[SE_F_FLAGS], f[SE_F_GRAIN], f[SE_F_GT_SIZE]);
	if (f[SE_F_GD_SIZE] > (uint64_t)VMDK_GD_MAX * 8 / BLK_SECTOR || !f[SE_F_CAPACITY] ||
	    f[SE_F_CAPACITY] > f[SE_F_GD_SIZE] * (BLK_SECTOR / 8) * (SE_GT_BYTES / 8) * SE_GRAIN ||
	    !range_fits(vmdk_bytes(f[SE_F_GD_OFF]), vmdk_bytes(f[SE_F_GD_SIZE]), x->file->size) ||
	    vmdk_bytes(f[SE_F_GTS_OFF]) > x->file->size || vmdk_bytes(f[SE_F_GRAINS_OFF]) > x->file->size)
		return err_set(err, -EINVAL, "the header of '%s' is damaged: %" PRIu64 " sectors, directory of %" PRIu64
			       " at %" PRIu64, name, f[SE_F_CAPACITY], f[SE_F_GD_SIZE], f[SE_F_GD_OFF]);
	return 0;
}

/* What changes: whether its journal has to be replayed. */
static int se_volatile_check(struct vmdk_extent *x, uint64_t off, struct err *err)
{
	uint8_t v[SE_REPLAY_AT + 1];
	int r = blk_co_pread(x->file, off, v, sizeof(v));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", x->file->name, strerror(-r));
	if (get_le64(v) != SE_VOLATILE_MAGIC)
		return err_set(err, -EINVAL, "the second header of '%s' is damaged", x->file->name);
	if (v[SE_REPLAY_AT])
		return err_set(err, -ENOTSUP, "'%s' was not closed: its journal has to be replayed, which is not "
			       "known; let ESXi "
			       "open it once", x->file->name);
	return 0;
}

/* Entries of the directory: 0, or a table's number with type 1. */
static int se_gd_check(struct vmdk_extent *x, struct err *err)
{
	for (uint32_t i = 0; i < x->n_gd; i++) {
		uint64_t v = get_le64(&x->se_gd[i]);

		if (v && (v >> 32 != 0x10000000 ||
			  !range_fits(x->se_gt_off + (v & UINT32_MAX) * SE_GT_BYTES, SE_GT_BYTES, x->file->size)))
			return err_set(err, -EINVAL, "the grain directory of '%s' is damaged: entry %u is 0x%" PRIx64,
				       x->file->name, i, v);
		x->se_gd[i] = v;
	}
	return 0;
}

int vmdk_se_open(struct vmdk *s, struct vmdk_extent *x, struct err *err)
{
	uint8_t raw[SE_N_FIELDS * 8];
	uint64_t f[SE_N_FIELDS];
	int r = blk_co_pread(x->file, 0, raw, sizeof(raw));

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", x->file->name, strerror(-r));
	for (int i = 0; i < SE_N_FIELDS; i++)
		f[i] = get_le64(raw + (size_t)i * 8);
	r = se_header_check(s, x, f, err);
	if (r < 0)
		return r;
	x->kind = VMDK_SE;
	x->n_gd = (uint32_t)(f[SE_F_GD_SIZE] * (BLK_SECTOR / 8));
	x->se_gt_off = vmdk_bytes(f[SE_F_GTS_OFF]);
	x->se_data_off = vmdk_bytes(f[SE_F_GRAINS_OFF]);
	x->gt_bytes = SE_GT_BYTES;
	x->se_gd = calloc(x->n_gd ? x->n_gd : 1, 8);
	r = x->se_gd ? blk_co_pread(x->file, vmdk_bytes(f[SE_F_GD_OFF]), x->se_gd, (size_t)x->n_gd * 8) : -ENOMEM;
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", x->file->name, strerror(-r));
	r = se_gd_check(x, err);
	if (!r)
		r = se_volatile_check(x, vmdk_bytes(f[SE_F_VOLATILE_OFF]), err);
	if (r < 0)
		return r;
	struct bat *t = &x->t;

	t->f = &se_format;
	t->file = x->file;
	t->arg = x;
	t->size = vmdk_bytes(f[SE_F_CAPACITY]);
	t->block_size = SE_GRAIN * BLK_SECTOR;
	t->page_size = BAT_PAGE_MAX;
	t->n_slots = (uint64_t)x->n_gd * (SE_GT_BYTES / 8);
	t->data_off = x->se_data_off;
	t->stride = t->block_size;
	t->cache_bytes = s->cache_bytes;
	return bat_init(t, err);
}

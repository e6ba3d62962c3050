/* SPDX-License-Identifier: Apache-2.0 */
/* format.c - footers and headers of VHD images: checksums, geometry, and which of two sizes is meant. */
#include "blk/vhd/vhd_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>

enum { CHS_CYLINDERS_MAX = 65535, CHS_SECTORS_MAX = 255, CHS_HEADS = 16 };

uint32_t vhd_sum(const void *buf, size_t len, size_t at)
{
	const uint8_t *p = buf;
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i >= at && i < at + 4 ? 0 : p[i];
	return ~sum;
}

bool vhd_footer_is_good(const struct vhd_footer *f)
{
	return !memcmp(f->cookie, "conectix", 8) &&
	       be32_get(f->checksum) == vhd_sum(f, sizeof(*f), offsetof(struct vhd_footer, checksum));
}

void vhd_footer_seal(struct vhd_footer *f)
{
	f->checksum = be32_of(vhd_sum(f, sizeof(*f), offsetof(struct vhd_footer, checksum)));
}

void vhd_header_seal(struct vhd_header *h)
{
	h->checksum = be32_of(vhd_sum(h, sizeof(*h), offsetof(struct vhd_header, checksum)));
}

/* Appendix "CHS Calculation". */
void vhd_geometry(uint64_t sectors, uint16_t *cylinders, uint8_t *heads, uint8_t *per_track)
{
	uint64_t cyl_heads, h, s;

	if (sectors > (uint64_t)CHS_CYLINDERS_MAX * CHS_HEADS * CHS_SECTORS_MAX)
		sectors = (uint64_t)CHS_CYLINDERS_MAX * CHS_HEADS * CHS_SECTORS_MAX;
	if (sectors >= (uint64_t)CHS_CYLINDERS_MAX * CHS_HEADS * 63) {
		s = CHS_SECTORS_MAX;
		h = CHS_HEADS;
		cyl_heads = sectors / s;
	} else {
		s = 17;
		cyl_heads = sectors / s;
		h = (cyl_heads + 1023) / 1024;
		h = h < 4 ? 4 : h;
		if (cyl_heads >= h * 1024 || h > CHS_HEADS) {
			s = 31;
			h = CHS_HEADS;
			cyl_heads = sectors / s;
		}
		if (cyl_heads >= h * 1024) {
			s = 63;
			h = CHS_HEADS;
			cyl_heads = sectors / s;
		}
	}
	*cylinders = (uint16_t)(cyl_heads / h);
	*heads = (uint8_t)h;
	*per_track = (uint8_t)s;
}

/* Virtual PC, and QEMU where it does not say "qem2", mean what cylinders, heads and sectors make; the others mean the
 * size. A geometry that is at its limit says nothing. */
uint64_t vhd_disk_size(const struct vhd_footer *f)
{
	static const char by_size[][4] = { "win ", "qem2", "d2v ", "tap\0", "CTXS", "wa\0\0", "vbox" };
	uint64_t chs = (uint64_t)be16_get(f->cylinders) * f->heads * f->sectors * BLK_SECTOR;
	uint64_t size = be64_get(f->current_size) & ~(uint64_t)(BLK_SECTOR - 1);

	for (size_t i = 0; i < ARRAY_LEN(by_size); i++)
		if (!memcmp(f->creator, by_size[i], 4))
			return size;
	if (!chs || chs == (uint64_t)CHS_CYLINDERS_MAX * CHS_HEADS * CHS_SECTORS_MAX * BLK_SECTOR)
		return size;
	return chs;
}

int vhd_header_check(const struct vhd *s, struct err *err)
{
	const struct vhd_header *h = &s->header;
	const char *name = s->t.b->name;
	uint64_t table = be64_get(h->table_off), size = vhd_disk_size(&s->footer), file = s->t.b->file->size;
	uint32_t block = be32_get(h->block_size), n = be32_get(h->n_entries);

	if (memcmp(h->cookie, "cxsparse", 8) ||
	    be32_get(h->checksum) != vhd_sum(h, sizeof(*h), offsetof(struct vhd_header, checksum)))
		return err_set(err, -EINVAL, "the dynamic header of '%s' is damaged", name);
	if (be32_get(h->version) >> 16 != 1)
		return err_set(err, -ENOTSUP, "'%s' has a dynamic header of version %u.%u; 1.0 is known", name,
			       be32_get(h->version) >> 16, be32_get(h->version) & 0xffff);
	if (!is_pow2(block) || block < 4096 || block > BAT_BLOCK_MAX)
		return err_set(err, -EINVAL, "the dynamic header of '%s' is damaged: blocks of %u bytes", name, block);
	if (n > VHD_ENTRIES_MAX || size > (uint64_t)n * block)
		return err_set(err, -EINVAL, "the dynamic header of '%s' is damaged: %u blocks for a disk of "
			       "%" PRIu64 " bytes",
			       name, n, size);
	if (table % BLK_SECTOR || table < VHD_FOOTER_LEN || table > INT64_MAX || !range_fits(table, (uint64_t)n * 4,
		file))
		return err_set(err, -EINVAL, "the dynamic header of '%s' is damaged: a table at byte %" PRIu64, name,
			       table);
	return 0;
}

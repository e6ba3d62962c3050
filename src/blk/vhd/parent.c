/* SPDX-License-Identifier: Apache-2.0 */
/* parent.c - what a differencing image says about its parent: locators for platforms, and a name. */
#include "blk/vhd/vhd_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Text of a locator that holds UTF-16LE. */
static int locator_read(struct vhd *s, const struct vhd_locator *l, char **name)
{
	uint32_t len = be32_get(l->len);
	AUTO(free) uint8_t *buf = len && len <= VHD_LOCATOR_MAX ? malloc(len) : NULL;
	struct blk *file = s->t.b->file;

	if (!buf || !range_fits(be64_get(l->off), len, file->size))
		return -EINVAL;
	int r = blk_co_pread(file, be64_get(l->off), buf, len);

	if (!r)
		*name = bat_path_of(bat_from_utf16(buf, len / 2, false));
	return r ? r : *name && **name ? 0 : -EINVAL;
}

int vhd_parent_name(struct vhd *s, char **name, struct err *err)
{
	static const char platforms[][5] = { "W2ru", "W2ku" };

	for (size_t k = 0; k < ARRAY_LEN(platforms); k++) {
		for (int i = 0; i < VHD_LOCATORS; i++) {
			const struct vhd_locator *l = &s->header.locator[i];

			if (memcmp(l->platform, platforms[k], 4))
				continue;
			if (!locator_read(s, l, name))
				return 0;
			free(*name);
			*name = NULL;
		}
	}
	*name = bat_path_of(bat_from_utf16((const uint8_t *)s->header.parent_name, VHD_NAME_UNITS, true));
	if (*name && **name)
		return 0;
	free(*name);
	*name = NULL;
	return err_set(err, -EINVAL, "'%s' is a differencing image and does not say of what; say it with backing=",
		       s->t.b->name);
}

int vhd_parent_set(struct vhd_header *h, const struct vhd_footer *parent, const char *name, uint64_t locator_off,
		   uint8_t *locator, uint32_t *locator_len)
{
	const char *slash = strrchr(name, '/');
	uint16_t units[VHD_LOCATOR_MAX / 2];
	int n = bat_to_utf16(slash ? slash + 1 : name, units, VHD_NAME_UNITS - 1);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++)
		h->parent_name[i] = be16_of(units[i]);
	n = bat_to_utf16(name, units, ARRAY_LEN(units) - 2);
	if (n < 0)
		return n;
	/* "W2ru": a path relative to the folder of the image, which begins with ".\". */
	put_le16(locator, '.');
	put_le16(locator + 2, '\\');
	for (int i = 0; i < n; i++)
		put_le16(locator + 4 + (size_t)i * 2, units[i]);
	*locator_len = 4 + (uint32_t)n * 2;
	memcpy(h->parent_uuid, parent->uuid, 16);
	h->parent_timestamp = parent->timestamp;
	h->locator[0] = (struct vhd_locator){ .platform = { 'W', '2', 'r', 'u' }, .space = be32_of(VHD_LOCATOR_MAX),
					      .len = be32_of(*locator_len), .off = be64_of(locator_off) };
	return 0;
}

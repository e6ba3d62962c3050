/* SPDX-License-Identifier: Apache-2.0 */
/* parent.c - what a differencing image says about its parent: locators for platforms, and a name. */
#include "blk/vhd/vhd_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* UTF-16 to UTF-8, backslashes to slashes; ends at a zero. NULL: memory, or it is not UTF-16. */
static char *from_utf16(const uint8_t *p, size_t units, bool is_big)
{
	char *out = malloc(units * 3 + 1), *o = out;

	for (size_t i = 0; out && i < units; i++) {
		uint32_t c = is_big ? get_be16(p + i * 2) : get_le16(p + i * 2);

		if (!c)
			break;
		if (c >= 0xd800 && c < 0xe000) {
			uint32_t low = i + 1 < units ? (is_big ? get_be16(p + i * 2 + 2) : get_le16(p + i * 2 + 2)) : 0;

			if (c >= 0xdc00 || low < 0xdc00 || low >= 0xe000) {
				free(out);
				return NULL;
			}
			c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
			*o++ = (char)(0xf0 | c >> 18);
			*o++ = (char)(0x80 | (c >> 12 & 0x3f));
			*o++ = (char)(0x80 | (c >> 6 & 0x3f));
			*o++ = (char)(0x80 | (c & 0x3f));
			i++;
		} else if (c >= 0x800) {
			*o++ = (char)(0xe0 | c >> 12);
			*o++ = (char)(0x80 | (c >> 6 & 0x3f));
			*o++ = (char)(0x80 | (c & 0x3f));
		} else if (c >= 0x80) {
			*o++ = (char)(0xc0 | c >> 6);
			*o++ = (char)(0x80 | (c & 0x3f));
		} else {
			*o++ = c == '\\' ? '/' : (char)c;
		}
	}
	if (out)
		*o = '\0';
	return out;
}

/* The path of a drive means nothing here: its last part does. "./" goes. */
static char *name_of(char *path)
{
	char *p = path;

	if (!p)
		return NULL;
	if (((p[0] | 0x20) >= 'a' && (p[0] | 0x20) <= 'z' && p[1] == ':') || !strncmp(p, "//", 2))
		p = strrchr(p, '/') ? strrchr(p, '/') + 1 : p;
	while (!strncmp(p, "./", 2))
		p += 2;
	memmove(path, p, strlen(p) + 1);
	return path;
}

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
		*name = name_of(from_utf16(buf, len / 2, false));
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
	*name = name_of(from_utf16((const uint8_t *)s->header.parent_name, VHD_NAME_UNITS, true));
	if (*name && **name)
		return 0;
	free(*name);
	*name = NULL;
	return err_set(err, -EINVAL, "'%s' is a differencing image and does not say of what; say it with backing=",
		       s->t.b->name);
}

/* UTF-8 to UTF-16 units; slashes to backslashes. The number of units, or -EINVAL. */
static int to_utf16(const char *text, uint16_t *out, size_t cap)
{
	const uint8_t *p = (const uint8_t *)text;
	size_t n = 0;

	while (*p) {
		unsigned len = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 :
			       *p >= 0xf0 && *p < 0xf5 ? 4 : 0;
		uint32_t c = len == 1 ? *p : len ? *p & (0xffu >> (len + 1)) : 0;

		for (unsigned i = 1; i < len; i++) {
			if ((p[i] & 0xc0) != 0x80)
				return -EINVAL;
			c = c << 6 | (p[i] & 0x3f);
		}
		if (!len || n + 2 > cap)
			return -EINVAL;
		if (c >= 0x10000) {
			out[n++] = (uint16_t)(0xd800 + ((c - 0x10000) >> 10));
			c = 0xdc00 + ((c - 0x10000) & 0x3ff);
		}
		out[n++] = c == '/' ? '\\' : (uint16_t)c;
		p += len;
	}
	return (int)n;
}

int vhd_parent_set(struct vhd_header *h, const struct vhd_footer *parent, const char *name, uint64_t locator_off,
		   uint8_t *locator, uint32_t *locator_len)
{
	const char *slash = strrchr(name, '/');
	uint16_t units[VHD_LOCATOR_MAX / 2];
	int n = to_utf16(slash ? slash + 1 : name, units, VHD_NAME_UNITS - 1);

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++)
		h->parent_name[i] = be16_of(units[i]);
	n = to_utf16(name, units, ARRAY_LEN(units) - 2);
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

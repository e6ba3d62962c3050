/* SPDX-License-Identifier: Apache-2.0 */
/* meta.c - the metadata region, 2.6: sizes, flags, the parent. */
#include "blk/vhdx/vhdx_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_LEN = 32, ITEM_USER = 1, ITEM_VIRTUAL_DISK = 2, ITEM_REQUIRED = 4 };
enum meta_item { META_PARAMS, META_SIZE, META_DISK_ID, META_SECTOR, META_PHYSICAL, META_PARENT, META_N };
enum { PARAM_LEAVE_BLOCKS = 1, PARAM_HAS_PARENT = 2 };

static const struct meta_kind { uint8_t guid[16]; uint32_t len, flags; const char *what; } meta_kinds[META_N] = {
	/* CAA16737-FA36-4D43-B3B6-33F0AA44E76B */
	[META_PARAMS] = { { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7,
			    0x6b },
			  8, ITEM_REQUIRED, "file parameters" },
	/* 2FA54224-CD1B-4876-B211-5DBED83BF4B8 */
	[META_SIZE] = { { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4,
			  0xb8 },
			8, ITEM_REQUIRED | ITEM_VIRTUAL_DISK, "disk size" },
	/* BECA12AB-B2E6-4523-93EF-C309E000C746 */
	[META_DISK_ID] = { { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7,
			     0x46 },
			   16, ITEM_REQUIRED | ITEM_VIRTUAL_DISK, "disk identity" },
	/* 8141BF1D-A96F-4709-BA47-F233A8FAAB5F */
	[META_SECTOR] = { { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab,
			    0x5f },
			  4, ITEM_REQUIRED | ITEM_VIRTUAL_DISK, "sector size" },
	/* CDA348C7-445D-4471-9CC9-E9885251C556 */
	[META_PHYSICAL] = { { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5,
			      0x56 },
			    4, ITEM_REQUIRED | ITEM_VIRTUAL_DISK, "physical sector size" },
	/* A8D35F2D-B30B-454D-ABF7-D3D84834AB0C */
	[META_PARENT] = { { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab,
			    0x0c },
			  0, ITEM_REQUIRED, "parent locator" },
};
/* B04AEFB7-D19E-4A81-B789-25B8E9445913 */
static const uint8_t guid_locator[16] = { 0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a,
					  0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13 };

struct meta_place { uint32_t off, len; };
enum { GUID_TEXT_LEN = 38 };    /* characters, with its braces */

/* --- the parent ------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* "{xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx}" */
static bool guid_parse(const char *text, uint8_t guid[16])
{
	static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
	unsigned n = 0;

	for (const char *p = text + (*text == '{'); *p && *p != '}' && n < 16; n++) {
		p += *p == '-';
		int hi = hex_digit(p[0]), lo = hi < 0 ? -1 : hex_digit(p[1]);

		if (lo < 0)
			return false;
		guid[order[n]] = (uint8_t)(hi << 4 | lo);
		p += 2;
	}
	return n == 16;
}

/* Of the value of a key: only text as everybody writes it, 38 characters in braces, can be replaced in place. */
static void parent_linkage_place(struct vhdx *s, const char *key, const char *value, uint64_t at, uint32_t len)
{
	if (!strcmp(key, "parent_linkage") && value[0] == '{' && strlen(value) == GUID_TEXT_LEN &&
	    len == GUID_TEXT_LEN * 2)
		s->linkage_at = at;
}

/* A key and its value; both are freed by the caller. */
static void parent_key(struct vhdx *s, const char *key, char *value, unsigned *rank)
{
	static const char *const paths[] = { "relative_path", "absolute_win32_path", "volume_path" };

	if (!strcmp(key, "parent_linkage"))
		guid_parse(value, s->linkage[0]);
	else if (!strcmp(key, "parent_linkage2"))
		guid_parse(value, s->linkage[1]);
	for (unsigned i = 0; i < ARRAY_LEN(paths) && i < *rank; i++) {
		if (strcmp(key, paths[i]))
			continue;
		free(s->parent);
		s->parent = strdup(bat_path_of(value));
		*rank = i;
	}
}

/* P: the locator, which stands at AT in the file. */
static int parent_parse(struct vhdx *s, const uint8_t *p, uint32_t len, uint64_t at, struct err *err)
{
	uint32_t n = len >= 20 ? get_le16(p + 18) : 0;
	unsigned rank = 3;

	if (len < 20 || memcmp(p, guid_locator, 16) || n > VHDX_LOCATOR_KEYS_MAX || len < 20 + n * 12)
		return err_set(err, -EINVAL, "the parent locator of '%s' is damaged or of an unknown kind",
			       s->t.b->name);
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *e = p + 20 + (size_t)i * 12;
		uint32_t k = get_le32(e), v = get_le32(e + 4), k_len = get_le16(e + 8), v_len = get_le16(e + 10);

		if (!range_fits(k, k_len, len) || !range_fits(v, v_len, len))
			return err_set(err, -EINVAL, "the parent locator of '%s' is damaged: key %u", s->t.b->name, i);
		AUTO(free) char *key = bat_from_utf16(p + k, k_len / 2, false);
		AUTO(free) char *value = bat_from_utf16(p + v, v_len / 2, false);

		if (!key || !value)
			continue;
		parent_linkage_place(s, key, value, at + v, v_len);
		parent_key(s, key, value, &rank);
	}
	return 0;
}

static int parent_load(struct vhdx *s, const struct meta_place *at, struct err *err)
{
	if (!at->len || at->len > VHDX_LOCATOR_MAX)
		return err_set(err, -EINVAL, "'%s' has a parent and says nothing of it", s->t.b->name);
	AUTO(free) uint8_t *buf = malloc(at->len);
	int r = buf ? blk_co_pread(s->t.b->file, s->meta_off + at->off, buf, at->len) : -ENOMEM;

	return r < 0 ? err_set(err, r, "cannot read '%s': %s", s->t.b->name, strerror(-r)) :
	       parent_parse(s, buf, at->len, s->meta_off + at->off, err);
}

/* --- the items -------------------------------------------------------------------------------- */

static int meta_take(struct vhdx *s, const uint8_t *e, struct meta_place *at, struct err *err)
{
	uint32_t off = get_le32(e + 16), len = get_le32(e + 20), flags = get_le32(e + 24);
	char text[BAT_UUID_TEXT];

	for (int i = 0; i < META_N; i++) {
		const struct meta_kind *k = &meta_kinds[i];

		if (memcmp(e, k->guid, 16) || flags & ITEM_USER)
			continue;
		if (off < VHDX_META_TABLE_LEN || !range_fits(off, len, s->meta_len) || (k->len && len != k->len))
			return err_set(err, -EINVAL, "the metadata of '%s' is damaged: %s, %u bytes at %u",
				       s->t.b->name,
				       k->what, len, off);
		if (at[i].len)
			return err_set(err, -EINVAL, "'%s' has its %s twice", s->t.b->name, k->what);
		at[i] = (struct meta_place){ off, len };
		return 0;
	}
	return flags & ITEM_REQUIRED ? err_set(err, -ENOTSUP, "'%s' has a metadata item %s, which must be known and "
					       "is not",
					       s->t.b->name, bat_uuid_text(e, text)) : 0;
}

static int meta_values(struct vhdx *s, const struct meta_place *at, struct err *err)
{
	uint8_t raw[META_PARENT][16];
	struct blk *b = s->t.b;
	int r = 0;

	for (int i = 0; !r && i < META_PARENT; i++)
		r = blk_co_pread(b->file, s->meta_off + at[i].off, raw[i], at[i].len);
	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", b->name, strerror(-r));
	uint32_t block = get_le32(raw[META_PARAMS]), flags = get_le32(raw[META_PARAMS] + 4);
	uint64_t size = get_le64(raw[META_SIZE]);

	s->sector_size = get_le32(raw[META_SECTOR]);
	s->physical_size = get_le32(raw[META_PHYSICAL]);
	s->size_item = at[META_SIZE].off;
	memcpy(s->disk_id, raw[META_DISK_ID], 16);
	s->leaves_blocks = flags & PARAM_LEAVE_BLOCKS;
	s->has_parent = flags & PARAM_HAS_PARENT;
	if (!is_pow2(block) || block < VHDX_MB || block > BAT_BLOCK_MAX)
		return err_set(err, -EINVAL, "the metadata of '%s' is damaged: blocks of %u bytes", b->name, block);
	if (s->sector_size != 512 && s->sector_size != 4096)
		return err_set(err, -EINVAL, "the metadata of '%s' is damaged: sectors of %u bytes", b->name,
			       s->sector_size);
	if (s->has_parent && s->sector_size != 512)
		return err_set(err, -ENOTSUP, "'%s' has a parent and sectors of 4096 bytes, which is not known",
			       b->name);
	if (!size || size > VHDX_SIZE_MAX || size % s->sector_size)
		return err_set(err, -EINVAL, "the metadata of '%s' is damaged: a disk of %" PRIu64 " bytes", b->name,
			       size);
	s->chunk = VHDX_CHUNK_SECTORS * s->sector_size / block;
	s->t.block_size = block;
	b->size = size;
	return s->has_parent ? parent_load(s, &at[META_PARENT], err) : 0;
}

int vhdx_meta_load(struct vhdx *s, struct err *err)
{
	AUTO(free) uint8_t *table = malloc(VHDX_META_TABLE_LEN);
	struct meta_place at[META_N] = { { 0, 0 } };
	int r = table ? blk_co_pread(s->t.b->file, s->meta_off, table, VHDX_META_TABLE_LEN) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read '%s': %s", s->t.b->name, strerror(-r));
	uint32_t n = get_le16(table + 10);

	if (memcmp(table, "metadata", 8) || n > VHDX_META_MAX)
		return err_set(err, -EINVAL, "the metadata table of '%s' is damaged", s->t.b->name);
	for (uint32_t i = 0; !r && i < n; i++)
		r = meta_take(s, table + ENTRY_LEN + (size_t)i * ENTRY_LEN, at, err);
	for (int i = 0; !r && i < META_PARENT; i++)
		if (!at[i].len)
			r = err_set(err, -EINVAL, "'%s' has no %s in its metadata", s->t.b->name, meta_kinds[i].what);
	return r ? r : meta_values(s, at, err);
}

/* --- changing --------------------------------------------------------------------------------- */

int vhdx_meta_write(struct vhdx *s, uint64_t at, const void *data, size_t len)
{
	uint64_t page = at / VHDX_LOG_SECTOR * VHDX_LOG_SECTOR;
	AUTO(free) uint8_t *buf = malloc(2 * VHDX_LOG_SECTOR);
	struct bat_write w[2] = { { .off = page, .data = buf }, { .off = page + VHDX_LOG_SECTOR } };
	int r = buf ? blk_co_pread(s->t.file, page, buf, 2 * VHDX_LOG_SECTOR) : -ENOMEM;

	if (r < 0)
		return r;
	w[1].data = buf + VHDX_LOG_SECTOR;
	memcpy(buf + (at - page), data, len);
	/* The log is of one writer at a time: a flush writes to it, too. */
	co_mutex_lock(&s->t.commit_lock);
	r = blk_co_flush(s->t.file);
	if (!r)
		r = vhdx_log_write(s, w, at - page > VHDX_LOG_SECTOR - len ? 2 : 1);
	if (!r)
		r = blk_co_flush(s->t.file);
	co_mutex_unlock(&s->t.commit_lock);
	return r;
}

int vhdx_meta_set_linkage(struct vhdx *s, const uint8_t guid[16])
{
	uint8_t units[GUID_TEXT_LEN * 2];
	char text[BAT_UUID_TEXT + 2] = "{";

	bat_uuid_text(guid, text + 1);
	strcat(text, "}");
	for (unsigned i = 0; i < GUID_TEXT_LEN; i++)
		put_le16(units + 2 * i, (uint16_t)text[i]);
	int r = vhdx_meta_write(s, s->linkage_at, units, sizeof(units));

	if (!r)
		memcpy(s->linkage[0], guid, 16);
	return r;
}

/* --- building --------------------------------------------------------------------------------- */

struct build { uint8_t *region; uint32_t n, at; };

static uint8_t *build_item(struct build *b, enum meta_item item, uint32_t len)
{
	uint8_t *e = b->region + ENTRY_LEN + (size_t)b->n * ENTRY_LEN, *p = b->region + b->at;

	memcpy(e, meta_kinds[item].guid, 16);
	put_le32(e + 16, b->at);
	put_le32(e + 20, len);
	put_le32(e + 24, meta_kinds[item].flags);
	b->at += (uint32_t)align_up(len, 16);
	put_le16(b->region + 10, (uint16_t)++b->n);
	return p;
}

/* Keys and values of the locator; its length, 0: it does not fit. */
static uint32_t build_locator(uint8_t *p, uint32_t cap, const char *parent, const uint8_t *linkage)
{
	char guid[BAT_UUID_TEXT + 2] = "{", path[1100];
	uint32_t at = 20 + 2 * 12;

	bat_uuid_text(linkage, guid + 1);
	strcat(guid, "}");
	if (snprintf(path, sizeof(path), "./%s", parent) >= (int)sizeof(path))
		return 0;
	const char *const texts[4] = { "parent_linkage", guid, "relative_path", path };

	memcpy(p, guid_locator, 16);
	put_le16(p + 18, 2);
	for (int i = 0; i < 4; i++) {
		uint16_t units[1100];
		int n = bat_to_utf16(texts[i], units, ARRAY_LEN(units));
		uint8_t *e = p + 20 + (size_t)(i / 2) * 12;

		if (n < 0 || at + (uint32_t)n * 2 > cap)
			return 0;
		put_le32(e + (i % 2) * 4, at);
		put_le16(e + 8 + (i % 2) * 2, (uint16_t)(n * 2));
		for (int k = 0; k < n; k++, at += 2)
			put_le16(p + at, units[k]);
	}
	return at;
}

size_t vhdx_meta_build(uint8_t *region, uint64_t size, uint32_t block_size, bool is_fixed, const char *parent,
		       const uint8_t *linkage)
{
	struct build b = { .region = region, .at = VHDX_META_TABLE_LEN };

	memcpy(region, "metadata", 8);
	uint8_t *p = build_item(&b, META_PARAMS, 8);

	put_le32(p, block_size);
	put_le32(p + 4, (is_fixed ? PARAM_LEAVE_BLOCKS : 0u) | (parent ? PARAM_HAS_PARENT : 0u));
	put_le64(build_item(&b, META_SIZE, 8), size);
	bat_uuid_make(build_item(&b, META_DISK_ID, 16));
	put_le32(build_item(&b, META_SECTOR, 4), 512);
	put_le32(build_item(&b, META_PHYSICAL, 4), 4096);
	if (parent) {
		uint32_t len = build_locator(region + b.at, VHDX_LOCATOR_MAX, parent, linkage);

		if (!len)
			return 0;
		build_item(&b, META_PARENT, len);
	}
	return b.at;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - a new VDI image, and finding the parent of a differencing one. */
#include "blk/vdi/vdi_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARENT_FILES_MAX = 1024 };

static const char *const create_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
const struct blk_opt vdi_create_opts[] = {
	{ "static", BLK_OPT_BOOL, "off", "fixed: all blocks are there from the beginning", 0, 0, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "with static: off (holes), falloc (space reserved), full (zeroes "
	  "written)",
	  0, 0, create_preallocs },
	{ "block_size", BLK_OPT_SIZE, "1M", "unit of allocation, a power of two; QEMU reads 1M only", 4096, 64 << 20,
	  NULL },
	{ .name = NULL },
};

/* Data begins at a multiple of 1 MiB, as VirtualBox has it: the map can grow up to there. */
static uint64_t create_data_off(uint64_t n_blocks)
{
	return align_up(VDI_HEADER_LEN + n_blocks * 4, 1 << 20);
}

static void create_header(struct vdi_header *h, uint64_t size, uint64_t n_blocks, uint32_t block_size, bool is_static)
{
	*h = (struct vdi_header){
		.text = "<<< Oracle VM VirtualBox Disk Image >>>\n",
		.signature = le32_of(VDI_SIGNATURE), .version = le32_of(VDI_VERSION), .header_size = le32_of(0x190),
		.type = le32_of(is_static ? VDI_FIXED : VDI_DYNAMIC),
		.map_off = le32_of(VDI_HEADER_LEN), .data_off = le32_of((uint32_t)create_data_off(n_blocks)),
		.sector_size = le32_of(BLK_SECTOR), .disk_size = le64_of(size), .block_size = le32_of(block_size),
		.n_blocks = le32_of((uint32_t)n_blocks), .n_allocated = le32_of(is_static ? (uint32_t)n_blocks : 0),
	};
	bat_uuid_make(h->uuid);
	bat_uuid_make(h->uuid_modify);
}

int vdi_create_map(struct blk *file, uint64_t off, uint64_t from, uint64_t to, bool is_static)
{
	AUTO(free) uint8_t *buf = malloc(VDI_MAP_CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t n; !r && from < to; from += n) {
		n = to - from < VDI_MAP_CHUNK / 4 ? to - from : VDI_MAP_CHUNK / 4;
		for (uint64_t i = 0; i < n; i++)
			put_le32(buf + i * 4, is_static ? (uint32_t)(from + i) : VDI_FREE);
		r = blk_co_pwrite(file, off + from * 4, buf, n * 4);
	}
	return r;
}

/* What is asked for can be made; of how many blocks it is. */
static int create_check(const struct blk_creating *c, uint64_t *n_blocks, struct err *err)
{
	uint32_t block = (uint32_t)blk_opts_num(c->opts, "block_size");

	if (!is_pow2(block))
		return err_set(err, -EINVAL, "block_size is a power of two");
	*n_blocks = c->size / block + (c->size % block != 0);
	if (*n_blocks > VDI_BLOCKS_MAX || create_data_off(*n_blocks) > UINT32_MAX)
		return err_set(err, -EFBIG, "a VDI image has at most %u blocks of %u bytes", VDI_BLOCKS_MAX, block);
	if (!blk_opts_num(c->opts, "static") && blk_opts_num(c->opts, "preallocation") >= BLK_PREALLOC_FALLOC)
		return err_set(err, -EINVAL, "preallocation=falloc and full need static=on");
	return 0;
}

int vdi_measure(const struct blk_creating *c, struct blk_layout *out, struct err *err)
{
	uint64_t block = blk_opts_num(c->opts, "block_size"), n_blocks = 0;
	bool is_static = blk_opts_num(c->opts, "static");
	int r = create_check(c, &n_blocks, err);

	*out = (struct blk_layout){ .size = c->size, .unit = block, .each = is_static ? 0 : block,
				    .fixed = create_data_off(n_blocks) + (is_static ? n_blocks * block : 0) };
	return r;
}

int vdi_co_create(struct blk_creating *c, struct err *err)
{
	uint32_t block = (uint32_t)blk_opts_num(c->opts, "block_size");
	bool is_static = blk_opts_num(c->opts, "static");
	enum blk_prealloc p = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	uint64_t n_blocks = 0;
	struct vdi_header h;
	int r = create_check(c, &n_blocks, err);

	if (r < 0)
		return r;
	create_header(&h, c->size, n_blocks, block, is_static);
	r = blk_co_pwrite(c->file, 0, &h, sizeof(h));
	if (!r)
		r = vdi_create_map(c->file, VDI_HEADER_LEN, 0, n_blocks, is_static);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", c->args->path, strerror(-r));
	r = blk_co_truncate(c->file, le32_get(h.data_off), BLK_PREALLOC_OFF, err);
	if (!r && is_static)
		r = blk_co_truncate(c->file, le32_get(h.data_off) + n_blocks * block,
				    p == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : p, err);
	return r;
}

/* --- parents ---------------------------------------------------------------------------------- */

/* Is DIR/NAME a VDI image with this identity? */
static bool parent_is(int dir, const char *name, const uint8_t uuid[16])
{
	struct vdi_header h;
	AUTO_FD int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	return fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h) && le32_get(h.signature) == VDI_SIGNATURE &&
	       !memcmp(h.uuid, uuid, 16);
}

static int parent_in(const char *dir, const char *prefix, const uint8_t uuid[16], char **name)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int r = -ENOENT;

	for (unsigned n = 0; d && r == -ENOENT && n < PARENT_FILES_MAX && (e = readdir(d)); n++) {
		size_t len = strlen(e->d_name);

		if (len < 4 || strcmp(e->d_name + len - 4, ".vdi") || !parent_is(dirfd(d), e->d_name, uuid))
			continue;
		r = asprintf(name, "%s%s", prefix, e->d_name) < 0 ? -ENOMEM : 0;
	}
	if (d)
		closedir(d);
	return r;
}

/* VirtualBox knows images by identity from its registry. Snapshots stand in a folder below that of the machine. */
int vdi_find_parent(struct blk *b, const uint8_t uuid[16], char **name, struct err *err)
{
	const char *slash = strrchr(b->name, '/');
	AUTO(free) char *dir = slash ? strndup(b->name, (size_t)(slash - b->name) + 1) : strdup("./");
	AUTO(free) char *above = NULL;
	char text[BAT_UUID_TEXT];

	if (!dir || asprintf(&above, "%s..", dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	int r = parent_in(dir, "", uuid, name);

	if (r == -ENOENT && !b->opening->is_confined)
		r = parent_in(above, "../", uuid, name);
	return r < 0 ? err_set(err, r, "'%s' needs the VDI image with identity %s, and none of that is beside it; "
			       "say which "
			       "with backing=", b->name, bat_uuid_text(uuid, text)) : 0;
}

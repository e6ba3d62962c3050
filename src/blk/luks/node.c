/* SPDX-License-Identifier: Apache-2.0 */
/* node.c - the driver `luks`: an encrypted disk in a file, behind its header or with the header elsewhere. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { NODE_CHUNK = 1 << 20 };          /* bytes that are read and decrypted in one go */

struct luks_node { struct luks *l; };

static const struct blk_opt luks_open_opts[] = {
	BLK_SECRET_OPTS,
	{ "key-slot", BLK_OPT_NUMBER, NULL, "try this key slot only", 0, LUKS_SLOTS_MAX - 1, NULL },
	{ "header", BLK_OPT_STRING, NULL, "file that holds the header, when it is not before the data", 0, 0, NULL },
	{ .name = NULL },
};

/* --- opening ------------------------------------------------------------------------------------ */

static int node_size(struct blk *b, const struct luks *l, struct err *err)
{
	uint64_t off = luks_data_off(l), have = b->file->size, want = luks_data_size(l);

	if (off > have || want > have - off)
		return err_set(err, -EINVAL,
			       "'%s' ends before its data, which is from byte %" PRIu64 " on; it was cut short",
			       b->name, off);
	b->size = (want ? want : have - off) & ~(uint64_t)(luks_sector_size(l) - 1);
	if (b->size > INT64_MAX)
		return err_set(err, -EFBIG, "the disk of '%s' is too large", b->name);
	if (b->block_size < luks_sector_size(l))
		b->block_size = luks_sector_size(l);
	return 0;
}

static int node_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	const struct blk_options *o = b->opening;
	const char *header = blk_opts_str(opts, "header");
	struct luks_place p = { .node = b->file, .has_data = !header, .name = b->name };
	int slot = blk_opts_is_set(opts, "key-slot") ? (int)blk_opts_num(opts, "key-slot") : -1;
	struct luks_node *n = b->priv;
	int r = header ? blk_co_open_extra(b, header, NULL, &p.node, err) : 0;

	if (r < 0)
		return r;
	p.len = p.node->size;
	r = luks_co_open(&n->l, &p, err);
	if (!r)
		r = node_size(b, n->l, err);
	if (!r && !b->is_repairing && !o->has_no_key)
		r = luks_co_unlock_node(n->l, b, slot, err);
	if (r < 0)
		return r;
	b->luks = n->l;
	b->file->may_grow = false;
	b->can_discard = false;         /* it would tell what of the disk is used */
	return 0;
}

static void node_co_close(struct blk *b)
{
	struct luks_node *n = b->priv;

	luks_leave_node(n->l, b);
}

static int node_probe(const struct blk_probe *p)
{
	static const uint8_t magic[7] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0 };

	return p->head_len >= 8 && !memcmp(p->head, magic, sizeof(magic)) ? 100 : 0;
}

/* --- bytes -------------------------------------------------------------------------------------- */

static int node_co_read(struct blk *b, uint64_t off, uint8_t *buf, size_t len)
{
	struct luks_node *n = b->priv;
	int r = blk_co_pread(b->file, luks_data_off(n->l) + off, buf, len);

	return r ? r : luks_co_crypt(n->l, b, false, off, buf, len);
}

static int node_co_write(struct blk *b, uint64_t off, uint8_t *buf, size_t len)
{
	struct luks_node *n = b->priv;
	int r = luks_co_crypt(n->l, b, true, off, buf, len);

	return r ? r : blk_co_pwrite(b->file, luks_data_off(n->l) + off, buf, len);
}

/* A piece that is read or written in one: [FROM, TO) of [OFF, END), in whole sectors of the encryption. */
struct node_piece { uint64_t from, to, skip, len; };

static struct node_piece node_piece(const struct blk *b, uint64_t off, uint64_t end)
{
	uint64_t mask = luks_sector_size(((const struct luks_node *)b->priv)->l) - 1;
	struct node_piece p = { .from = off & ~mask };
	uint64_t stop = end - p.from < NODE_CHUNK ? end : p.from + NODE_CHUNK;

	p.to = (stop + mask) & ~mask;
	p.skip = off - p.from;
	p.len = stop - off;
	return p;
}

static uint8_t *node_buffer(const struct blk *b, uint64_t off, uint64_t len)
{
	uint64_t mask = luks_sector_size(((const struct luks_node *)b->priv)->l) - 1;
	uint64_t need = ((off + len + mask) & ~mask) - (off & ~mask);

	return aligned_alloc(4096, align_up(need < NODE_CHUNK ? need : NODE_CHUNK, 4096));
}

static int node_read_pieces(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	AUTO(free) uint8_t *buf = node_buffer(b, off, len);
	uint64_t end = off + len;
	int r = buf ? 0 : -ENOMEM;

	while (!r && off < end) {
		struct node_piece p = node_piece(b, off, end);

		r = node_co_read(b, p.from, buf, p.to - p.from);
		if (!r)
			blk_vec_put(v, buf + p.skip, p.len);
		v = blk_vec_at(v, p.len);
		off += p.len;
	}
	return r;
}

/* The sectors at the edges are read before, when only a part of them changes. */
static int node_fill_edges(struct blk *b, const struct node_piece *p, uint8_t *buf)
{
	uint64_t sector = luks_sector_size(((const struct luks_node *)b->priv)->l), last = p->to - sector;
	int r = p->skip ? node_co_read(b, p->from, buf, sector) : 0;

	if (!r && p->from + p->skip + p->len < p->to && (last != p->from || !p->skip))
		r = node_co_read(b, last, buf + (last - p->from), sector);
	return r;
}

static int node_write_pieces(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	AUTO(free) uint8_t *buf = node_buffer(b, off, len);
	uint64_t end = off + len;
	int r = buf ? 0 : -ENOMEM;

	while (!r && off < end) {
		struct node_piece p = node_piece(b, off, end);

		r = node_fill_edges(b, &p, buf);
		if (!r) {
			blk_vec_get(v, buf + p.skip, p.len);
			r = node_co_write(b, p.from, buf, p.to - p.from);
		}
		v = blk_vec_at(v, p.len);
		off += p.len;
	}
	return r;
}

/* Sectors of 512 bytes are what requests are made of, and nothing has to be kept apart. Of larger ones two
 * requests can change the same. */
static int node_locked(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v, bool is_write)
{
	uint64_t sector = luks_sector_size(((const struct luks_node *)b->priv)->l), mask = sector - 1;
	uint64_t from = off & ~mask, to = (off + len + mask) & ~mask;
	bool is_exclusive = is_write && (off & mask || (off + len) & mask);
	struct blk_range range;

	if (!luks_is_unlocked(((const struct luks_node *)b->priv)->l))
		return -ENOKEY;
	if (sector > BLK_SECTOR)
		blk_range_lock(b, &range, from, to - from, is_exclusive);
	int r = is_write ? node_write_pieces(b, off, len, v) : node_read_pieces(b, off, len, v);

	if (sector > BLK_SECTOR)
		blk_range_unlock(b, &range);
	return r;
}

static int node_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return node_locked(b, off, len, v, false);
}

static int node_co_pwritev(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return node_locked(b, off, len, v, true);
}

static struct blk *node_try_map(struct blk *b, enum blk_op op, uint64_t off, uint64_t len, uint64_t *child_off)
{
	*child_off = 0;
	return op == BLK_FLUSH && !b->n_extra ? b->file : NULL;
}

/* --- the image ---------------------------------------------------------------------------------- */

/* New space reads as zeroes: those have to be written, as an empty file decrypts to noise. */
static int node_co_truncate(struct blk *b, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct luks_node *n = b->priv;
	uint64_t before = b->size;

	if (luks_data_size(n->l))
		return err_set(err, -ENOTSUP,
			       "the header of '%s' says how large the disk is: its size cannot be changed", b->name);
	if (size % luks_sector_size(n->l) || size > INT64_MAX - luks_data_off(n->l))
		return err_set(err, -EINVAL, "the size of '%s' is a multiple of %u bytes", b->name,
			       luks_sector_size(n->l));
	if (size > before && !luks_is_unlocked(n->l))
		return err_set(err, -ENOKEY, "making '%s' larger needs its passphrase", b->name);
	int r = blk_co_truncate(b->file, luks_data_off(n->l) + size, prealloc == BLK_PREALLOC_FALLOC ?
				BLK_PREALLOC_FALLOC : BLK_PREALLOC_OFF, err);

	if (r < 0)
		return r;
	b->size = size;
	if (size > before)
		r = blk_co_zeroes(b, before, size - before, false);
	return r < 0 ? err_set(err, r, "cannot write zeroes to the new part of '%s': %s", b->name, strerror(-r)) : 0;
}

static int node_co_check(struct blk *b, unsigned fix, struct blk_check *c, struct err *err)
{
	struct luks_node *n = b->priv;
	int r = luks_version(n->l) == 2 ? luks2_co_check(n->l, fix & BLK_FIX_ERRORS, c) : 0;

	return r < 0 ? err_set(err, r, "cannot write the LUKS header of '%s': %s", b->name, strerror(-r)) : 0;
}

static int node_co_info(struct blk *b, json_t *out, struct err *err)
{
	return luks_co_info(((struct luks_node *)b->priv)->l, out);
}

/* --- creating ----------------------------------------------------------------------------------- */

static const char *const node_versions[] = { "1", "2", NULL };
static const char *const node_preallocs[] = { "off", "metadata", "falloc", "full", NULL };
static const struct blk_opt luks_create_opts[] = {
	BLK_SECRET_OPTS,
	{ "version", BLK_OPT_CHOICE, "2", "1 (what QEMU reads, too) or 2", 0, 0, node_versions },
	LUKS_CREATE_OPTS(""),
	{ "sector_size", BLK_OPT_SIZE, "512", "what is encrypted as one: 512 to 4096 bytes (version 2)", 512, 4096,
	  NULL },
	{ "header", BLK_OPT_STRING, NULL, "put the header into this file of its own", 0, 0, NULL },
	{ "preallocation", BLK_OPT_CHOICE, "off", "off (a hole), falloc (space reserved), full (written)", 0, 0,
	  node_preallocs },
	{ .name = NULL },
};

uint64_t luks_image_room(const struct blk_opts *opts)
{
	const struct luks_format f = {
		.version = blk_opts_num(opts, "version") ? 2 : 1, .opts = opts, .prefix = "",
		.sector_size = (unsigned)blk_opts_num(opts, "sector_size"),
	};

	return blk_opts_str(opts, "header") ? 0 : luks_header_room(&f);
}

static int node_co_create(struct blk_creating *c, struct err *err)
{
	const char *header = blk_opts_str(c->opts, "header");
	struct luks_format f = {
		.version = blk_opts_num(c->opts, "version") ? 2 : 1, .opts = c->opts, .prefix = "", .secret = c->secret,
		.sector_size = (unsigned)blk_opts_num(c->opts, "sector_size"),
	};
	struct luks_place p = { .node = c->file, .has_data = !header, .name = c->args->path };
	enum blk_prealloc prealloc = (enum blk_prealloc)blk_opts_num(c->opts, "preallocation");
	struct blk *own = NULL;
	int r = c->size % f.sector_size ? err_set(err, -EINVAL, "the size of the disk is a multiple of sector_size")
					: 0;

	if (!r && header)
		r = blk_co_create_file(c, header, &own, err);
	if (r < 0)
		return r;
	p.node = own ? own : c->file;
	p.len = luks_header_room(&f);
	r = blk_co_truncate(p.node, p.len, BLK_PREALLOC_OFF, err);
	if (!r)
		r = luks_co_create(&p, &f, err);
	if (!r)
		r = blk_co_truncate(c->file, (header ? 0 : p.len) + c->size,
				    prealloc == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF : prealloc, err);
	blk_co_close(own);
	return r;
}

const struct blk_driver blk_luks = {
	.name = "luks",
	.title = "an encrypted disk, LUKS version 1 and 2",
	.flags = BLK_DRIVER_NOISE | BLK_DRIVER_DEVICE,
	.priv_size = sizeof(struct luks_node),
	.open_opts = luks_open_opts,
	.create_opts = luks_create_opts,
	.probe = node_probe,
	.co_open = node_co_open,
	.co_close = node_co_close,
	.try_map = node_try_map,
	.co_preadv = node_co_preadv,
	.co_pwritev = node_co_pwritev,
	.co_truncate = node_co_truncate,
	.co_check = node_co_check,
	.co_info = node_co_info,
	.co_create = node_co_create,
};

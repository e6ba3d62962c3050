/* SPDX-License-Identifier: Apache-2.0 */
/* node.c - the driver `ova`: a disk inside an archive, read where it lies. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk_ops.h"
#include "blk/ova/ova_priv.h"

struct ova_node {
	struct blk *inner;              /* the image inside; ours to close */
	struct ova_archive *a;
	unsigned chosen;
};

static const struct blk_opt ova_open_opts[] = {
	{ "disk", BLK_OPT_STRING, NULL, "which disk: its number, id or file (default: the only one)", 0, 0, NULL },
	{ "verify", BLK_OPT_BOOL, "off", "compare all of the archive with its manifest before", 0, 0, NULL },
	{ .name = NULL },
};

static int node_read(void *arg, uint64_t off, void *buf, size_t len)
{
	return blk_co_pread(arg, off, buf, len);
}

static int node_choose(struct ova_node *n, const char *name, const char *which, struct err *err)
{
	const struct blk_ova_info *i = &n->a->info;
	char *end;

	if (!i->n_disks)
		return err_set(err, -ENOENT, "there is no disk in '%s'", name);
	if (!which)
		return i->n_disks == 1 ? 0 : err_set(err, -EINVAL, "'%s' has %u disks; choose with disk=1 or disk=%s",
						     name,
						     i->n_disks, i->disks[0].file);
	unsigned long number = strtoul(which, &end, 10);

	for (n->chosen = 0; n->chosen < i->n_disks; n->chosen++)
		if (!strcmp(which, i->disks[n->chosen].id) || !strcmp(which, i->disks[n->chosen].file) ||
		    (!*end && number == n->chosen + 1))
			return 0;
	return err_set(err, -ENOENT, "there is no disk '%s' in '%s'", which, name);
}

static int node_co_open(struct blk *b, const struct blk_opts *opts, struct err *err)
{
	struct ova_source s = { .read = node_read, .arg = b->file, .size = b->file->size, .name = b->name };
	struct ova_node *n = b->priv;
	int r;

	n->a = calloc(1, sizeof(*n->a));
	r = n->a ? ova_open(&s, n->a, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r && blk_opts_num(opts, "verify"))
		r = ova_check(&s, n->a, err);
	if (!r)
		r = node_choose(n, b->name, blk_opts_str(opts, "disk"), err);
	if (r < 0)
		return r;
	const struct blk_ova_disk *d = &n->a->info.disks[n->chosen];

	r = blk_co_open_window(b, d->off, d->len, d->file, &n->inner, err);
	if (r < 0)
		return err_wrap(err, r, "disk '%s' in '%s'", d->file, b->name);
	b->size = n->inner->size;
	b->can_discard = false;
	return 0;
}

static void node_co_close(struct blk *b)
{
	struct ova_node *n = b->priv;

	blk_co_close(n->inner);
	free(n->a);
}

/* The first member is the descriptor (DSP0243 1.1, section 5.3), and the archive is of the POSIX kind. */
static int node_probe(const struct blk_probe *p)
{
	size_t n = p->head_len >= TAR_BLOCK ? strnlen((const char *)p->head, 100) : 0;

	return n > 4 && !memcmp(p->head + 257, "ustar", 5) && !memcmp(p->head + n - 4, ".ovf", 4) ? 100 : 0;
}

static int node_co_preadv(struct blk *b, uint64_t off, uint64_t len, struct blk_vec v)
{
	return blk_co_preadv(((struct ova_node *)b->priv)->inner, off, len, v);
}

static int node_co_map(struct blk *b, uint64_t off, uint64_t len, struct blk_extent *out)
{
	int r = blk_co_map(((struct ova_node *)b->priv)->inner, off, len, true, out);

	out->flags = (out->flags | BLK_EXT_ALLOCATED) & ~(unsigned)BLK_EXT_HOST;
	return r;
}

static int node_co_info(struct blk *b, json_t *out, struct err *err)
{
	const struct ova_node *n = b->priv;
	json_t *disks = json_array();

	for (unsigned i = 0; i < n->a->info.n_disks; i++)
		json_array_append_new(disks, json_string(n->a->info.disks[i].file));
	json_object_set_new(out, "machine", json_string(n->a->info.name));
	json_object_set_new(out, "disk", json_string(n->a->info.disks[n->chosen].file));
	json_object_set_new(out, "disks", disks);
	json_object_set_new(out, "inner-format", json_string(n->inner->drv->name));
	json_object_set_new(out, "manifest", json_boolean(n->a->info.has_manifest));
	return 0;
}

const struct blk_driver blk_ova = {
	.name = "ova",
	.title = "a disk inside an archive of a machine, for reading",
	.flags = BLK_DRIVER_READONLY,
	.priv_size = sizeof(struct ova_node),
	.open_opts = ova_open_opts,
	.probe = node_probe,
	.co_open = node_co_open,
	.co_close = node_co_close,
	.co_preadv = node_co_preadv,
	.co_map = node_co_map,
	.co_info = node_co_info,
};

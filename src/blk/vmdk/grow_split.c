/* SPDX-License-Identifier: Apache-2.0 */
/* grow_split.c - a larger disk of several files.
 *
 * The last extent grows to what an extent has at most, then there are more of them. The descriptor, a file of its own,
 * is what makes the disk the larger one: another one with all lines takes its name when everything that it names is
 * durable. A cut before leaves the old disk, whose last extent may have room for more (vmdk.c takes the descriptor's
 * word for its size), and files that nothing names. */
#include "blk/vmdk/vmdk_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_TRIES = 4096, LINE_MAX_LEN = VMDK_NAME_MAX + 64 };

/* What comes to the disk. */
struct more {
	uint32_t n;
	struct blk **file;              /* in b->extra */
	uint64_t *sectors;
	char *lines;                    /* of the descriptor */
	char base[VMDK_NAME_MAX];       /* of names: all before "-s001.vmdk" */
	unsigned number;                /* of the next name */
	bool is_flat;
};

static struct vmdk_extent *last_of(const struct vmdk *s)
{
	return &s->ext[s->n_ext - 1];
}

/* How large the last extent gets in a disk of SIZE bytes. */
static uint64_t last_size(const struct vmdk *s, uint64_t size)
{
	uint64_t base = last_of(s)->t.base, old = s->b->size - base, most = (uint64_t)VMDK_SPLIT_SECTORS * BLK_SECTOR;

	most = most > old ? most : old;
	return size - base < most ? size - base : most;
}

/* --- more extents ----------------------------------------------------------------------------- */

/* Names go on as the last one's: "disk-s003.vmdk" after "disk-s002.vmdk". */
static int more_names(const struct vmdk *s, struct more *m, struct err *err)
{
	AUTO(free) struct vmdk_line *line = malloc(sizeof(*line));
	const char *at = s->desc, *slash = strrchr(s->b->name, '/'), *own = slash ? slash + 1 : s->b->name;
	int r = line ? 1 : err_set(err, -ENOMEM, "out of memory");

	while (r > 0 && (r = vmdk_desc_extent(s, &at, line, err)) > 0)
		snprintf(m->base, sizeof(m->base), "%s", line->name);
	if (r < 0)
		return r;
	char *end = strrchr(m->base, '-'), kind = '\0', rest[8] = "";

	m->number = s->n_ext + 1;
	if (end && sscanf(end, "-%c%*u%7s", &kind, rest) == 2 && kind == (m->is_flat ? 'f' : 's') && !strcmp(rest, ".vmdk"))
		*end = '\0';
	else if (strlen(own) < sizeof(m->base) && !strpbrk(own, "\"\r\n"))
		snprintf(m->base, sizeof(m->base), "%s", own);
	else
		return err_set(err, -EINVAL, "'%s' cannot be named in a descriptor", own);
	return 0;
}

/* An empty file under the first name that nobody has. */
static int more_file(struct blk *b, struct more *m, char *name, size_t cap, struct err *err)
{
	int r = -EEXIST;

	for (unsigned tries = 0; r == -EEXIST && tries < NAME_TRIES; tries++, m->number++) {
		struct err why = ERR_INIT;

		if (snprintf(name, cap, "%s-%c%03u.vmdk", m->base, m->is_flat ? 'f' : 's', m->number) >= (int)cap)
			return err_set(err, -ENAMETOOLONG, "the names of the extents of '%s' would be too long", b->name);
		r = blk_co_make_extra(b, name, &m->file[m->n], &why);
		if (r < 0 && r != -EEXIST)
			return err_set(err, r, "%s", why.msg);
	}
	return r < 0 ? err_set(err, r, "no name is free for another extent of '%s'", b->name) : 0;
}

static int more_line(struct more *m, uint64_t sectors, const char *name)
{
	char *lines = NULL;

	if (asprintf(&lines, "%sRW %" PRIu64 " %s \"%s\"%s\n", m->lines ? m->lines : "", sectors,
		     m->is_flat ? "FLAT" : "SPARSE", name, m->is_flat ? " 0" : "") < 0)
		return -ENOMEM;
	free(m->lines);
	m->lines = lines;
	return 0;
}

static int more_extent(struct vmdk *s, struct more *m, uint64_t sectors, enum blk_prealloc prealloc, struct err *err)
{
	char name[LINE_MAX_LEN];
	int r = more_file(s->b, m, name, sizeof(name), err);

	if (r < 0)
		return r;
	struct blk *file = m->file[m->n];

	m->sectors[m->n++] = sectors;
	r = m->is_flat ? blk_co_truncate(file, sectors * BLK_SECTOR, prealloc == BLK_PREALLOC_METADATA ? BLK_PREALLOC_OFF :
					 prealloc, err) :
	    vmdk_create_sparse(file, sectors, last_of(s)->flags & VMDK_FLAG_ZERO_GRAIN, err);
	if (r < 0)
		return r;
	r = blk_co_flush(file);
	if (!r)
		r = more_line(m, sectors, name);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", file->name, strerror(-r)) : 0;
}

/* Extents for what is behind the last one. */
static int more_make(struct vmdk *s, struct more *m, uint64_t left, enum blk_prealloc prealloc, struct err *err)
{
	uint64_t n = (left + VMDK_SPLIT_SECTORS - 1) / VMDK_SPLIT_SECTORS;
	int r = n ? more_names(s, m, err) : 0;

	if (r < 0)
		return r;
	m->file = calloc(n + 1, sizeof(struct blk *));
	m->sectors = calloc(n + 1, sizeof(*m->sectors));
	if (!m->file || !m->sectors)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t each; !r && left; left -= each) {
		each = left < VMDK_SPLIT_SECTORS ? left : VMDK_SPLIT_SECTORS;
		r = more_extent(s, m, each, prealloc, err);
	}
	return r;
}

/* The disk did not get larger: files that nothing names go. */
static void more_undo(const struct more *m)
{
	for (uint32_t i = 0; i < m->n; i++)
		unlink(m->file[i]->name);
}

/* --- what the image is then ------------------------------------------------------------------- */

/* In memory as vmdk.c would open it. */
static int extents_append(struct vmdk *s, const struct more *m, struct err *err)
{
	struct vmdk_extent *all = calloc(s->n_ext + m->n, sizeof(*all));
	int r = 0;

	if (!all)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(all, s->ext, s->n_ext * sizeof(*all));
	free(s->ext);
	s->ext = all;
	for (uint32_t i = 0; i < s->n_ext; i++)
		all[i].t.arg = &all[i];
	for (uint32_t i = 0; !r && i < m->n; i++) {
		struct vmdk_extent *before = last_of(s);
		struct vmdk_line line = { .sectors = m->sectors[i], .kind = m->is_flat ? VMDK_FLAT : VMDK_SPARSE };

		r = vmdk_extent_over(s, m->file[i], before->t.base + before->t.size, &line, err);
	}
	return r;
}

/* Another descriptor under the name of the old one. */
static int descriptor_replace(struct vmdk *s, uint64_t last, const struct more *m, bool *is_done, struct err *err)
{
	AUTO(free) char *text = NULL;
	int r = vmdk_desc_grown(s, last / BLK_SECTOR, m->lines ? m->lines : "", &text);

	*is_done = false;
	if (!r && strlen(text) > VMDK_DESC_MAX)
		r = -EFBIG;
	if (r < 0)
		return err_set(err, r, "cannot write another descriptor of '%s': %s", s->b->name, strerror(-r));
	r = blk_co_rewrite_file(s->b, text, strlen(text), is_done, err);
	if (!*is_done)
		return r;
	free(s->desc);
	s->desc_max = strlen(text);
	s->desc = take_ptr(&text);
	return r;
}

static int split_grow(struct vmdk *s, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	struct vmdk_extent *x = last_of(s);
	struct more m = { .is_flat = x->t.is_flat };
	uint64_t last = last_size(s, size), left = size - x->t.base - last;
	bool is_done = false;
	int r = vmdk_last_grow(x, last, prealloc);

	if (r < 0)
		return err_set(err, r, "cannot grow '%s': %s", x->file->name, strerror(-r));
	r = more_make(s, &m, left / BLK_SECTOR, prealloc, err);
	if (!r)
		r = descriptor_replace(s, last, &m, &is_done, err);
	if (is_done) {
		/* The larger disk is what the next opening finds, whatever became of the rest. */
		struct err why = ERR_INIT;
		int other = extents_append(s, &m, &why);

		s->b->size = other ? s->b->size : size;
		r = r ? r : other ? err_set(err, other, "%s", why.msg) : 0;
	} else {
		more_undo(&m);
	}
	free(m.file);
	free(m.sectors);
	free(m.lines);
	return r;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int split_check(const struct vmdk *s, uint64_t size, struct err *err)
{
	uint64_t last = last_size(s, size), left = size - last_of(s)->t.base - last;
	const struct vmdk_extent *x = last_of(s);

	if ((x->kind != VMDK_SPARSE && x->kind != VMDK_FLAT) || x->flags & VMDK_FLAG_COMPRESSED)
		return err_set(err, -ENOTSUP, "the last extent of '%s' is of a kind that cannot grow; convert it",
			       s->b->name);
	if (left / BLK_SECTOR / VMDK_SPLIT_SECTORS + s->n_ext >= VMDK_EXTENTS_MAX)
		return err_set(err, -EFBIG, "a disk of %" PRIu64 " bytes has too many extents", size);
	return 0;
}

int vmdk_split_truncate(struct vmdk *s, uint64_t size, enum blk_prealloc prealloc, struct err *err)
{
	uint64_t old = s->b->size;
	int r = split_check(s, size, err);

	if (!r)
		r = blk_co_can_rewrite(s->b, err);
	if (r < 0 || size == old)
		return r;
	r = bat_prepare(&last_of(s)->t);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", s->b->name, strerror(-r));
	return split_grow(s, size, prealloc, err);
}

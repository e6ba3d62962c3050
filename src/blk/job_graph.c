/* SPDX-License-Identifier: Apache-2.0 */
/* job_graph.c - images of a disk in use: opened by descriptor, opened again for more or less, taken out of the chain.
 *
 * Whoever changes the chain holds the front drained, so that no request of the guest is anywhere below. */
#include "blk/job_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/nbd_socket.h"
#include "util/checked.h"
#include "util/log.h"
#include "util/str.h"

/* --- opening -------------------------------------------------------------------------------------- */

/* The file behind descriptor FD under the name that people know. */
static int open_fd(struct blk **out, struct blk_ctx *c, int fd, const char *name, bool is_readonly, struct err *err)
{
	struct blk_options o = { .fd = fd, .is_readonly = is_readonly };
	char *copy = strdup(name);
	int r = copy ? blk_co_open_protocol(out, c, &o, err) : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(copy);
		return r < 0 ? err_wrap(err, r, "'%s'", name) : r;
	}
	free((*out)->name);
	(*out)->name = copy;
	return 0;
}

/* Make an image of I in its file, as large as the disk. */
static int make_image(struct blk *front, const struct blk_job_image *i, struct err *err)
{
	const struct blk_driver *drv = blk_format_find(i->format, err);
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	const struct blk_create a = { .path = i->path, .format = i->format, .size = front->size, .backing = i->backing,
				      .backing_format = i->backing_format, .is_backing_unchecked = true };
	struct blk_creating c = { .args = &a, .opts = &opts, .size = front->size };
	int r = drv ? blk_create_check(&a, drv, err) : -EINVAL;

	if (!r)
		r = blk_opts_init(&opts, drv->create_opts, err);
	if (!r)
		r = open_fd(&c.file, front->ctx, i->fd, i->path, false, err);
	if (r < 0)
		return r;
	if (c.file->size && !blk_file_is_device(c.file))
		r = err_set(err, -EEXIST, "'%s' is not empty: an image is made in an empty file only", i->path);
	if (!r)
		r = drv->co_create(&c, err);
	if (!r && c.file && (r = blk_co_flush(c.file)) < 0)
		err_set(err, r, "cannot write '%s': %s", i->path, strerror(-r));
	blk_co_close(c.file);
	return r;
}

static int open_image(struct blk **out, struct blk_ctx *c, int fd, const char *path, const char *format,
		      bool is_readonly, const struct luks *unlocked, struct err *err)
{
	struct blk_options o = { .fd = -1, .format = format, .is_readonly = is_readonly, .unlocked = unlocked };
	struct blk *file = NULL;
	int r = open_fd(&file, c, fd, path, is_readonly, err);

	return r < 0 ? r : blk_co_open_image(out, file, &o, err);
}

int blk_co_open_job_image(struct blk **out, struct blk *front, const struct blk_job_image *i, struct err *err)
{
	int r = 0;

	if (i->fd < 0 || !i->path || !i->format)
		return err_set(err, -EINVAL, "the job needs an image: a file and its format");
	if (i->is_socket)
		return err_set(err, -ENOTSUP, "'%s' is a connection to an NBD server, where only a backup and a mirror can "
			       "go", i->path);
	if (i->is_empty)
		r = make_image(front, i, err);
	return r < 0 ? r : open_image(out, front->ctx, i->fd, i->path, i->format, false, NULL, err);
}

int blk_co_open_job_target(struct blk **out, struct blk *front, const struct blk_job_image *i, struct err *err)
{
	struct blk_options o = { .fd = -1, .format = "raw" };
	struct blk *file = NULL;

	if (!i->is_socket)
		return blk_co_open_job_image(out, front, i, err);
	int r = blk_nbd_co_open_socket(&file, front->ctx, i->fd, i->path, err);

	return r < 0 ? r : blk_co_open_image(out, file, &o, err);
}

/* --- opening again -------------------------------------------------------------------------------- */

/* The node that takes the place of OLD; its files are closed by their own rules. */
static void replace_node(struct blk **node, struct blk *new)
{
	struct blk *old = *node;

	new->backing = old->backing;
	old->backing = NULL;
	*node = new;
	blk_co_close(old);
}

/* Less is asked for: while the old node is still there, so that nothing can be lost. */
static int reopen_readonly(struct blk **node, struct err *err)
{
	struct blk *old = *node, *new = NULL;
	int fd = blk_file_fd(old->file), r = blk_co_flush(old);

	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", old->name, strerror(-r));
	/* The descriptor is a duplicate: its lock, exclusive so far, becomes a shared one with this. */
	r = open_image(&new, old->ctx, fd, old->name, old->drv->name, true, old->luks, err);
	if (r < 0) {
		if (blk_lock(fd, old->name, false, NULL) < 0)
			log_warn("disk '%s': cannot lock it for writing again", old->name);
		return r;
	}
	replace_node(node, new);
	return 0;
}

static int reopen_writable(struct blk **node, const struct blk_job_image *again, struct err *err)
{
	struct blk *old = *node, *new = NULL;
	int own = blk_file_fd(old->file), fd = own;

	if ((fcntl(own, F_GETFL) & O_ACCMODE) != O_RDWR) {
		if (!again || again->fd < 0)
			return err_set(err, -EACCES,
				       "'%s' is open for reading only: the request needs it once more, for writing",
				       old->name);
		fd = again->fd;
	}
	if (!blk_fd_is_same(fd, own))
		return err_set(err, -EINVAL, "'%s' is not the file of '%s'", again->path, old->name);
	/* Our own shared lock would stand in the way of another descriptor's exclusive one. */
	if (fd != own)
		blk_unlock(own);
	int r = open_image(&new, old->ctx, fd, old->name, old->drv->name, false, old->luks, err);

	if (r < 0) {
		if (blk_lock(own, old->name, true, NULL) < 0)
			log_warn("disk '%s': cannot lock it for reading again", old->name);
		return r;
	}
	replace_node(node, new);
	return 0;
}

bool blk_may_write_again(const struct blk *b, const struct blk_job_image *again)
{
	return !b->is_readonly || again->fd >= 0 || (fcntl(blk_file_fd(b->file), F_GETFL) & O_ACCMODE) == O_RDWR;
}

int blk_co_reopen(struct blk **node, bool is_readonly, const struct blk_job_image *again, struct err *err)
{
	struct blk *old = *node;

	if (old->is_readonly == is_readonly)
		return 0;
	if (!old->file || blk_file_fd(old->file) < 0 || old->data || old->n_extra || old->has_opts)
		return err_set(err, -ENOTSUP, "'%s' cannot be opened in another way while it is in use", old->name);
	return is_readonly ? reopen_readonly(node, err) : reopen_writable(node, again, err);
}

/* --- the chain ------------------------------------------------------------------------------------ */

struct blk *blk_chain_above(struct blk *front, const struct blk *b)
{
	struct blk *above = front;

	for (struct blk *at = front->file; at && at != b; at = at->backing)
		above = at;
	return above;
}

struct blk **blk_chain_slot(struct blk *above)
{
	return above->is_front ? &above->file : &above->backing;
}

char *blk_absolute_name(const struct blk *b)
{
	AUTO(free) char *cwd = b->name[0] == '/' ? strdup("") : getcwd(NULL, 0);
	char *out = NULL;

	if (!cwd || asprintf(&out, "%s%s%s", cwd, *cwd ? "/" : "", b->name) < 0)
		return NULL;
	return out;
}

static bool name_is(const struct blk *b, const char *name)
{
	AUTO(free) char *absolute = blk_absolute_name(b);

	return !strcmp(b->name, name) || (absolute && !strcmp(absolute, name));
}

struct blk *blk_chain_find(struct blk *top, const char *name, struct err *err)
{
	uint64_t depth = UINT64_MAX, at = 0;

	if (strspn(name, "0123456789") == strlen(name) && str_parse_u64(&depth, name, NULL) < 0)
		depth = UINT64_MAX;
	for (struct blk *b = top; b; b = b->backing, at++)
		if (at == depth || name_is(b, name))
			return b;
	err_set(err, -ENOENT, "'%s' has no image '%s' behind it; 'info' lists its chain", top->name, name);
	return NULL;
}

int blk_co_is_above(struct blk *top, struct blk *base, uint64_t off, uint64_t *len, bool *is_above)
{
	*is_above = false;
	for (struct blk *b = top; b && b != base && !*is_above; b = b->backing) {
		struct blk_extent e;

		/* What is shorter than the disk shows zeroes behind its end: so does an image below. */
		if (off >= b->size) {
			*is_above = true;
			break;
		}
		uint64_t n = *len < b->size - off ? *len : b->size - off;
		int r = blk_co_map(b, off, n, false, &e);

		if (r < 0)
			return r;
		*len = e.len;
		*is_above = e.flags & BLK_EXT_ALLOCATED;
	}
	return 0;
}

int blk_co_cut(struct blk *b, struct blk *backing, const char *name, struct err *err)
{
	AUTO(free) char *absolute = backing && !name ? blk_absolute_name(backing) : NULL;
	struct blk *last = b->backing;

	if (last == backing)
		return 0;
	if (!b->drv->co_change_backing)
		return err_set(err, -ENOTSUP, "'%s' is a %s image: its backing image cannot be changed", b->name,
			       b->drv->name);
	if (backing && !name && !absolute)
		return err_set(err, -ENOMEM, "out of memory");
	/* All that it took over must be there before it stops to name where it came from. */
	int r = blk_co_flush(b);

	if (!r && backing)
		r = blk_co_flush(backing);
	if (r < 0)
		return err_set(err, r, "cannot write '%s': %s", b->name, strerror(-r));
	r = b->drv->co_change_backing(b, backing ? name ? name : absolute : NULL, backing ? backing->drv->name : NULL,
				      err);
	if (r < 0)
		return r;
	while (last && last->backing != backing)
		last = last->backing;
	if (last)
		last->backing = NULL;
	blk_co_close(b->backing);
	b->backing = backing;
	return 0;
}

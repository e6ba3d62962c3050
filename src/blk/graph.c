/* SPDX-License-Identifier: Apache-2.0 */
/* graph.c - opening and closing: nodes, their files, and the chain of backing images.
 *
 * The chain is opened from the top down in a loop, not by recursion: an image may name any other,
 * itself included, and the stack is small. */
#include "blk/core_priv.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/front.h"
#include "blk/proto/proto.h"
#include "blk/luks/luks.h"
#include "blk/secret.h"
#include "blk/url.h"
#include "util/checked.h"
#include "util/log.h"

/* --- nodes ---------------------------------------------------------------------------------- */

int blk_node_new(struct blk **out, struct blk_ctx *c, const struct blk_driver *drv, const char *name,
		 const struct blk_options *o, struct err *err)
{
	struct blk *b = calloc(1, sizeof(*b));

	if (b) {
		b->name = strdup(name);
		b->priv = calloc(1, drv->priv_size ? drv->priv_size : 1);
	}
	if (!b || !b->name || !b->priv) {
		if (b)
			free(b->name);
		free(b);
		return err_set(err, -ENOMEM, "out of memory");
	}
	b->drv = drv;
	b->ctx = c;
	c->n_nodes++;
	b->is_readonly = o->is_readonly;
	b->is_repairing = o->is_repairing;
	*out = b;
	return 0;
}

/* A node that has let go of what is below it. */
static void node_free(struct blk *b)
{
	luks_free(b->kept_luks);
	blk_ctx_put(b->ctx);
	free(b->backing_name);
	free(b->backing_format);
	free(b->extra);
	free(b->priv);
	free(b->name);
	free(b);
}

/* From the top down: an image writes back before its files go. The chain below is a loop, as above. */
void blk_co_close(struct blk *b)
{
	while (b) {
		struct blk *next = b->backing;

		assert(!b->in_flight);
		if (b->is_open && !b->is_readonly && b->drv->co_flush) {
			int r = blk_co_flush(b);

			if (r < 0)
				log_error("disk '%s': cannot write back on closing: %s", b->name, strerror(-r));
		}
		if (b->drv->co_close && (b->is_open || !b->is_inactive))        /* a disk that was handed over is closed */
			b->drv->co_close(b);
		blk_co_close(b->file);
		blk_co_close(b->data);
		for (unsigned i = 0; i < b->n_extra; i++)
			blk_co_close(b->extra[i]);
		node_free(b);
		b = next;
	}
}

static int protocol_open(struct blk **out, struct blk_ctx *c, const struct blk_file_options *fo, struct err *err)
{
	struct blk_options o = { .is_readonly = fo->is_readonly };
	char fd_name[32];
	struct blk *b = NULL;

	snprintf(fd_name, sizeof(fd_name), "file descriptor %d", fo->fd);
	int r = blk_node_new(&b, c, &blk_file, fo->path ? fo->path : fo->name ? fo->name : fd_name, &o, err);

	if (r < 0)
		return r;
	r = blk_file_open(b, fo, err);
	if (r < 0) {
		blk_co_close(b);
		return r;
	}
	b->may_grow = true;
	*out = b;
	return 0;
}

/* "file:NAME" is a file whose name looks like an address. */
static const char *protocol_path(const char *path)
{
	return path && !strncmp(path, "file:", 5) ? path + 5 : path;
}

/* The descriptor of NAME, with O_DIRECT or without, of those that were handed over; NULL: none. */
static const int *handed_find(const struct blk_options *o, const char *name, bool is_direct)
{
	for (unsigned i = 0; name && i < o->n_handed; i++) {
		int flags = fcntl(o->handed[i].fd, F_GETFL);

		if (!strcmp(o->handed[i].name, name) && flags >= 0 && !(flags & O_DIRECT) == !is_direct)
			return &o->handed[i].fd;
	}
	return NULL;
}

int blk_co_open_protocol(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err)
{
	if (o->path && blk_url_is(o->path))
		return blk_proto_co_open(out, c, o, err);
	struct blk_file_options fo = {
		.path = protocol_path(o->path), .fd = o->path ? -1 : o->fd, .name = o->name, .is_readonly = o->is_readonly,
		.is_direct = o->is_direct, .is_unlocked = o->is_unlocked && o->is_readonly, .is_inactive = o->is_inactive,
		.direct_fd = o->is_direct ? handed_find(o, o->path ? o->path : o->name, true) : NULL,
	};

	return protocol_open(out, c, &fo, err);
}

int blk_co_make_protocol(struct blk **out, struct blk_ctx *c, const char *path, bool is_new, struct err *err)
{
	struct blk_file_options fo = { .path = protocol_path(path), .fd = -1, .is_emptied = true, .is_new = is_new };

	if (blk_url_is(path))
		return err_set(err, -ENOTSUP, "images are created as files, not at '%s'; copy one there", path);

	return protocol_open(out, c, &fo, err);
}

/* --- one image ------------------------------------------------------------------------------ */

static int image_check(struct blk *b, const struct blk_options *o, struct err *err)
{
	if (b->drv->flags & BLK_DRIVER_READONLY && !o->is_readonly)
		return err_set(err, -EROFS, "%s images can only be read: open '%s' with readonly=on, or convert it",
			       b->drv->name, b->name);
	return 0;
}

int blk_co_open_format(struct blk *b, const struct blk_options *o, struct err *err)
{
	AUTO(blk_opts_fini) struct blk_opts defaults = { 0 };
	const struct blk_opts *opts = o->opts;
	int r = 0;

	if (!opts) {
		r = blk_opts_init(&defaults, b->drv->open_opts, err);
		opts = &defaults;
	}
	if (!r)
		r = image_check(b, o, err);
	if (r < 0)
		return r;
	b->has_opts = o->opts != NULL;
	b->block_size = b->file->block_size;
	b->can_discard = b->file->can_discard;
	b->opening = o;
	r = b->drv->co_open(b, opts, err);
	b->opening = NULL;
	b->is_open = !r;
	return r < 0 ? r : 0;
}

int blk_co_open_image(struct blk **out, struct blk *file, const struct blk_options *o, struct err *err)
{
	const struct blk_driver *drv = NULL;
	struct blk *b = NULL;
	int r = 0;

	if (o->format)
		drv = blk_format_find(o->format, err);
	else
		r = blk_co_probe(file, &drv, err);
	if (!drv || r < 0 || (r = blk_node_new(&b, file->ctx, drv, file->name, o, err)) < 0) {
		blk_co_close(file);
		return r < 0 ? r : -EINVAL;
	}
	b->is_probed = !o->format;
	b->file = file;
	r = blk_co_open_format(b, o, err);
	if (r < 0)
		blk_co_close(b);
	else
		*out = b;
	return r;
}

/* What NAME, which stands in image B, means. One that stands beside an image elsewhere is elsewhere, too. */
static int child_name(char **out, bool *is_remote, const struct blk *b, const struct blk_options *like,
		      const char *name,
		      struct err *err)
{
	if (like->is_alone)
		return err_set(err, -EACCES, "'%s' needs '%s', which is not inside", b->name, name);
	bool is_beside = blk_url_is(b->name) && !blk_url_is(name) && name[0] != '/';

	*is_remote = blk_url_is(name) || is_beside;
	if (!*is_remote)
		return blk_name_resolve(out, b->name, name, err);
	if (is_beside)
		return blk_url_join(out, b->name, name, err);
	if (!like->has_remote_names || like->is_confined)
		return err_set(err, -EACCES, "'%s' needs '%s', which is not on this host; an image cannot make "
			       "connections unless that is allowed: name it as backing image when opening", b->name,
			       name);
	if (strchr(name, '#'))
		return err_set(err, -EINVAL, "the address '%s' in '%s' has options, which an image cannot set", name,
			       b->name);
	*out = strdup(name);
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int child_co_open(struct blk *b, const struct blk_options *like, const char *name, const char *format,
			 struct blk **out, struct err *err)
{
	struct blk_options o = {
		.fd = -1, .format = format, .is_readonly = like->is_readonly, .is_direct = like->is_direct,
		.is_unlocked = like->is_unlocked, .is_confined = like->is_confined,
		.secrets = like->secrets, .n_secrets = like->n_secrets, .has_no_key = like->has_no_key,
		.has_remote_names = like->has_remote_names, .handed = like->handed, .n_handed = like->n_handed,
	};
	AUTO(free) char *path = NULL;
	struct blk *file = NULL;
	bool is_remote = false;
	int r = child_name(&path, &is_remote, b, like, name, err);
	const int *handed = r < 0 || is_remote ? NULL : handed_find(like, path, false);

	if (handed) {
		o.fd = fcntl(*handed, F_DUPFD_CLOEXEC, 0);
		o.name = path;
		r = o.fd < 0 ? err_set(err, -errno, "cannot duplicate the descriptor of '%s': %s", path, strerror(errno)) : 0;
	} else if (!r && o.is_confined && !is_remote) {
		o.fd = blk_name_open_confined(b->name, name, o.is_readonly, err);
		r = o.fd < 0 ? o.fd : 0;
	} else if (!r) {
		o.path = path;
	}
	if (!r) {
		r = blk_co_open_protocol(&file, b->ctx, &o, err);
		if (o.fd >= 0)
			close(o.fd);
	}
	if (r < 0)
		return r;
	if (o.fd >= 0) {                /* sentences name the file, not the descriptor */
		free(file->name);
		file->name = take_ptr(&path);
	}
	if (!format) {
		*out = file;
		return 0;
	}
	return blk_co_open_image(out, file, &o, err);
}

int blk_co_open_file(struct blk *b, const char *name, const char *format, struct blk **out, struct err *err)
{
	return child_co_open(b, b->opening, name, format, out, err);
}

int blk_co_open_extra(struct blk *b, const char *name, const char *format, struct blk **out, struct err *err)
{
	struct blk **more = reallocarray(b->extra, b->n_extra + 1, sizeof(*more));

	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	b->extra = more;
	int r = child_co_open(b, b->opening, name, format, &b->extra[b->n_extra], err);

	if (r < 0)
		return r;
	*out = b->extra[b->n_extra++];
	return 0;
}

/* --- the chain ------------------------------------------------------------------------------ */

/* B, just opened as the backing of something, is none of those from TOP to its overlay. */
static int chain_check_loop(const struct blk *top, const struct blk *b, struct err *err)
{
	for (const struct blk *n = top; n && n != b; n = n->backing)
		if (blk_file_is_same(n->file, b->file))
			return err_set(err, -ELOOP,
				       "'%s' is behind itself: its chain of backing images comes "
				       "back to it",
				       b->name);
	return 0;
}

/* child_co_open() of the file behind B. A file that is locked because it is in the chain already is a loop. */
static int chain_co_open_file(const struct blk *top, struct blk *b, const struct blk_options *like, const char *name,
			      struct blk **out, struct err *err)
{
	struct blk_options look = *like;
	struct err why = ERR_INIT;
	struct blk *file = NULL;
	int r = child_co_open(b, like, name, NULL, out, &why);

	if (r != -EBUSY)
		return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
	look.is_readonly = look.is_unlocked = true;
	if (!child_co_open(b, &look, name, NULL, &file, NULL))
		for (const struct blk *n = top; n && r != -ELOOP; n = n->backing)
			r = blk_file_is_same(n->file, file) ? -ELOOP : r;
	blk_co_close(file);
	return r == -ELOOP ? err_set(err, r, "'%s' is behind itself: its chain of backing images comes back to it", name) :
	       err_set(err, r, "%s", why.msg);
}

/* What the backing image of B is to be: name and format; the format NULL: by content. */
static int chain_co_open_next(struct blk *top, struct blk *b, const struct blk_options *o, struct err *err)
{
	bool is_first = b == top;
	struct blk_options like = *o;
	const char *name = is_first && o->backing ? o->backing : b->backing_name;
	const char *format = is_first && o->backing_format ? o->backing_format : b->backing_format;
	const struct blk_driver *drv = NULL;
	struct blk *file = NULL, *next = NULL;

	like.is_readonly = !(is_first && o->is_backing_writable);
	like.path = name;
	/* What the user names may be anywhere, with options. */
	int r = is_first && o->backing && blk_url_is(o->backing) ? blk_co_open_protocol(&file, b->ctx, &like, err) :
		chain_co_open_file(top, b, &like, name, &file, err);

	if (r < 0)
		return err_wrap(err, r, "backing image of '%s'", b->name);
	like.format = format;
	like.opts = NULL;
	like.is_repairing = false;
	if (!format) {
		r = blk_co_probe(file, &drv, err);
		if (!r && drv == &blk_raw && !like.is_readonly)
			like.format = "raw";    /* nothing a guest writes goes there unseen */
	}
	if (r < 0)
		blk_co_close(file);
	else
		r = blk_co_open_image(&next, file, &like, err);
	if (r < 0)
		return err_wrap(err, r, "backing image of '%s'", b->name);
	b->backing = next;
	r = chain_check_loop(top, next, err);
	return !r && b->drv->co_meet_backing ? b->drv->co_meet_backing(b, err) : r;
}

static int chain_co_open(struct blk *top, const struct blk_options *o, struct err *err)
{
	unsigned depth = 1;

	if (o->has_no_backing)
		return 0;
	for (struct blk *b = top; b->backing_name || (b == top && o->backing); b = b->backing) {
		if (++depth > BLK_DEPTH_MAX)
			return err_set(err, -ELOOP, "'%s' has more than %d images behind it; merge some", top->name,
				       BLK_DEPTH_MAX - 1);
		int r = chain_co_open_next(top, b, o, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* --- from outside ----------------------------------------------------------------------------- */

int blk_open_in(struct blk **out, struct blk_ctx *c, const struct blk_options *o, struct err *err)
{
	struct blk_options now = *o;
	struct blk *file = NULL, *b = NULL;

	if (o->format && !blk_format_find(o->format, err))
		return -EINVAL;
	now.is_inactive = o->is_inactive && !o->is_readonly;
	now.is_readonly = o->is_readonly || now.is_inactive;
	o = &now;
	int r = blk_co_open_protocol(&file, c, o, err);

	if (r < 0)
		return r;
	r = blk_co_open_image(&b, file, o, err);
	if (!r)
		r = chain_co_open(b, o, err);
	if (!r && now.is_inactive)
		r = blk_co_expect_active(b, err);
	if (r < 0)
		blk_co_close(b);
	else
		*out = b;
	return r;
}

struct graph_open {
	struct blk_ctx *ctx;
	const struct blk_options *o;
	struct blk *b;
	struct err *err;
};

static int graph_co_open(void *arg)
{
	struct graph_open *g = arg;

	return blk_open_in(&g->b, g->ctx, g->o, g->err);
}

/* The passphrases for the chain: what the options say, and those that were given. 0, and *LIST is allocated. */
static int graph_secrets(struct blk_secret *own, const struct blk_options *o, struct blk_secret **list, struct err *err)
{
	int r = blk_secret_from_opts(own, o->opts, err);

	if (r < 0)
		return r;
	*list = calloc(o->n_secrets + 1, sizeof(**list));
	if (!*list)
		return err_set(err, -ENOMEM, "out of memory");
	if (r)
		(*list)[0] = *own;
	for (unsigned i = 0; i < o->n_secrets; i++)
		(*list)[i + (unsigned)r] = o->secrets[i];
	return r;
}

int blk_open_with(struct blk **out, struct loop *loop, const struct blk_options *given,
		  const struct aio_ops *aio, struct err *err)
{
	AUTO(blk_secret_wipe) struct blk_secret own = { 0 };
	AUTO(free) struct blk_secret *list = NULL;
	struct blk_options with = *given, *o = &with;
	struct graph_open g = { .o = o, .err = err };
	int r = graph_secrets(&own, given, &list, err);

	if (r < 0)
		return r;
	with.secrets = list;
	with.n_secrets = given->n_secrets + (unsigned)r;
	r = blk_ctx_new(&g.ctx, loop, aio, err);
	if (r < 0)
		return r;
	r = blk_ctx_run(g.ctx, graph_co_open, &g);
	blk_ctx_put(g.ctx);
	if (r < 0)
		return r;
	if (!o->path)
		close(o->fd);           /* taken: the node has a duplicate */
	*out = g.b;
	return 0;
}

int blk_open(struct blk **out, struct loop *loop, const struct blk_options *o, struct err *err)
{
	const struct aio_ops *aio = o->aio ? blk_aio_find(o->aio, err) : NULL;

	return o->aio && !aio ? -EINVAL : blk_open_with(out, loop, o, aio, err);
}

static int graph_close(void *arg)
{
	blk_co_close(arg);
	return 0;
}

void blk_close(struct blk *b)
{
	if (!b)
		return;
	blk_front_lift(b);
	while (blk_in_flight(b))
		blk_ctx_wait(b->ctx);
	if (blk_ctx_run(b->ctx, graph_close, b) < 0)
		log_error("disk '%s': no memory to close it", b->name);
}

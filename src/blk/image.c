/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - making images, and telling what one is. */
#include "blk/core_priv.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/secret.h"
#include "blk/url.h"
#include "util/checked.h"

/* --- creating ------------------------------------------------------------------------------- */

struct create_run {
	struct blk_ctx *ctx;
	const struct blk_driver *drv;
	struct blk_creating c;
	struct err *err;
};

int blk_create_check(const struct blk_create *a, const struct blk_driver *drv, struct err *err)
{
	if (!drv->co_create)
		return err_set(err, -ENOTSUP, "images of format '%s' cannot be created", drv->name);
	if (a->backing && !(drv->flags & BLK_DRIVER_BACKING))
		return err_set(err, -EINVAL, "a %s image cannot have a backing image", drv->name);
	if (a->backing && !a->backing_format)
		return err_set(err, -EINVAL, "say the format of the backing image '%s': guessing it later would "
			       "leave the guess to whoever can write to it", a->backing);
	if (a->backing && !blk_format_find(a->backing_format, err))
		return -EINVAL;
	if (!a->size && (!a->backing || a->is_backing_unchecked))
		return err_set(err, -EINVAL, "the size of the disk is missing");
	if (a->size > INT64_MAX - BLK_SECTOR)
		return err_set(err, -EFBIG, "the size of the disk is too large");
	return 0;
}

/* Look whether the backing image is there, how large, and that nobody is writing it: what is below must not change. */
static int create_co_look_at_backing(struct create_run *run)
{
	const struct blk_create *a = run->c.args;
	AUTO(free) char *path = NULL;
	struct blk *b = NULL;
	int r = blk_url_is(a->backing) ? 0 : blk_name_resolve(&path, a->path, a->backing, run->err);

	if (r < 0)
		return r;
	struct blk_options o = { .path = path ? path : a->backing, .fd = -1, .format = a->backing_format,
				 .is_readonly = true, .has_no_key = true };

	r = blk_open_in(&b, run->ctx, &o, run->err);
	if (r < 0)
		return err_wrap(run->err, r, "backing image");
	if (!run->c.size)
		run->c.size = b->size;
	blk_co_close(b);
	return 0;
}

/* Of an image that could not be made nothing is left: what is new was made by us. */
static void create_undo(const struct blk_creating *c)
{
	if (!c->args->is_new || blk_url_is(c->args->path))
		return;
	for (unsigned i = 0; i < c->n_made; i++)
		unlink(c->made[i]);
	unlink(c->args->path);
}

static void create_forget(struct blk_creating *c)
{
	for (unsigned i = 0; i < c->n_made; i++)
		free(c->made[i]);
	free(c->made);
}

static int create_run(void *arg)
{
	struct create_run *run = arg;
	const struct blk_create *a = run->c.args;
	int r = 0;

	if (a->backing && !a->is_backing_unchecked)
		r = create_co_look_at_backing(run);
	if (!r)
		r = blk_co_make_protocol(&run->c.file, run->ctx, a->path, a->is_new, run->err);
	if (r < 0)
		return r;
	if (blk_file_is_device(run->c.file) && !(run->drv->flags & BLK_DRIVER_DEVICE))
		r = err_set(run->err, -EINVAL, "'%s' is a block device: raw, qcow2 and luks can be made on it, %s needs a file",
			    a->path, run->drv->name);
	else
		r = run->drv->co_create(&run->c, run->err);
	if (!r && run->c.file) {
		r = blk_co_flush(run->c.file);
		if (r < 0)
			err_set(run->err, r, "cannot write '%s': %s", a->path, strerror(-r));
	}
	blk_co_close(run->c.file);
	if (r < 0)
		create_undo(&run->c);
	create_forget(&run->c);
	return r;
}

int blk_co_open_new(struct blk_creating *c, struct blk **out, struct err *err)
{
	struct blk_options o = { .path = c->args->path, .fd = -1, .format = c->args->format,
				 .secrets = c->secret, .n_secrets = !!c->secret };
	struct blk *file = take_ptr(&c->file);

	return blk_co_open_image(out, file, &o, err);
}

int blk_create(const struct blk_create *a, struct err *err)
{
	const struct blk_driver *drv = blk_format_find(a->format, err);
	AUTO(blk_opts_fini) struct blk_opts defaults = { 0 };
	AUTO(blk_secret_wipe) struct blk_secret secret = { 0 };
	struct create_run run = { .drv = drv, .err = err,
				  .c = { .args = a, .opts = a->opts, .size = align_up(a->size, BLK_SECTOR) } };
	int r = drv ? blk_create_check(a, drv, err) : -EINVAL;

	if (!r && !a->opts) {
		r = blk_opts_init(&defaults, drv->create_opts, err);
		run.c.opts = &defaults;
	}
	if (!r)
		r = blk_secret_from_opts(&secret, run.c.opts, err);
	if (r < 0)
		return r;
	run.c.secret = r ? &secret : a->secret;
	r = blk_ctx_new(&run.ctx, NULL, NULL, err);
	if (r < 0)
		return r;
	r = blk_ctx_run(run.ctx, create_run, &run);
	blk_ctx_put(run.ctx);
	return r;
}

int blk_co_open_beside(struct blk_creating *c, const char *name, const char *format, struct blk **out, struct err *err)
{
	AUTO(free) char *path = NULL;
	struct blk *file = NULL;
	int r = blk_name_resolve(&path, c->args->path, name, err);
	struct blk_options o = { .path = path, .fd = -1, .format = format, .is_readonly = true, .is_unlocked = true,
				 .has_no_backing = true };

	if (!r)
		r = blk_co_open_protocol(&file, c->file->ctx, &o, err);
	return r < 0 ? r : blk_co_open_image(out, file, &o, err);
}

int blk_co_create_file(struct blk_creating *c, const char *name, struct blk **out, struct err *err)
{
	AUTO(free) char *path = NULL;
	int r = blk_name_resolve(&path, c->args->path, name, err);
	char **more = r < 0 ? NULL : realloc(c->made, (c->n_made + 1) * sizeof(*more));

	if (r < 0)
		return r;
	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	c->made = more;
	r = blk_co_make_protocol(out, c->file->ctx, path, c->args->is_new, err);
	if (!r)
		c->made[c->n_made++] = take_ptr(&path);
	return r;
}

/* --- telling -------------------------------------------------------------------------------- */

static json_t *info_snapshot(const struct blk_snapshot *s)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "id", s->id, "name", s->name,
			      "vm-state-size", (json_int_t)s->vm_state_size, "disk-size", (json_int_t)s->disk_size,
			      "date-sec", (json_int_t)s->date_s, "date-nsec", (json_int_t)s->date_ns,
			      "vm-clock-nsec", (json_int_t)s->vm_clock_ns);

	if (o && s->icount != UINT64_MAX)
		json_object_set_new(o, "icount", json_integer((json_int_t)s->icount));
	return o;
}

static int info_co_snapshots(struct blk *b, json_t *out, struct err *err)
{
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = b->drv->co_snapshot_list ? b->drv->co_snapshot_list(b, &list, &n, err) : 0;

	if (r < 0 || !n)
		return r;
	json_t *array = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(array, info_snapshot(&list[i]));
	json_object_set_new(out, "snapshots", array);
	return 0;
}

static void info_string(json_t *o, const char *key, const char *value)
{
	/* Names in images are bytes; JSON is UTF-8. */
	json_t *s = json_string(value);
	char clean[1100];
	size_t n = 0;

	for (; !s && value[n] && n + 1 < sizeof(clean); n++)
		clean[n] = value[n] & 0x80 ? '?' : value[n];
	clean[n] = '\0';
	json_object_set_new(o, key, s ? s : json_string(clean));
}

/* One image. */
static json_t *info_co_image(struct blk *b, struct err *err)
{
	json_t *o = json_object(), *special = json_object();
	int r = 0;

	info_string(o, "filename", b->name);
	info_string(o, "format", b->drv->name);
	json_object_set_new(o, "virtual-size", json_integer((json_int_t)b->size));
	if (b->cluster_size)
		json_object_set_new(o, "cluster-size", json_integer(b->cluster_size));
	if (b->backing_name)
		info_string(o, "backing-filename", b->backing_name);
	if (b->backing_format)
		info_string(o, "backing-format", b->backing_format);
	if (b->file && b->file->drv->co_info)
		r = b->file->drv->co_info(b->file, o, err);
	if (!r && b->drv->co_info)
		r = b->drv->co_info(b, special, err);
	if (!r)
		r = info_co_snapshots(b, o, err);
	if (!r && json_object_size(special))
		json_object_set(o, "format-specific", special);
	json_decref(special);
	if (r < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

struct info_run {
	struct blk *b;
	bool is_chain;
	json_t **out;
	struct err *err;
};

static int info_run(void *arg)
{
	struct info_run *run = arg;
	json_t *top = NULL, *above = NULL;
	struct err err = ERR_INIT;

	for (struct blk *b = run->b; b && (b == run->b || run->is_chain); b = b->backing) {
		json_t *o = info_co_image(b, &err);

		if (!o) {
			json_decref(top);
			return err_set(run->err, err.code ? err.code : -ENOMEM, "%s",
				       err.code ? err.msg : "out of memory");
		}
		if (above)
			json_object_set_new(above, "backing", o);
		else
			top = o;
		above = o;
	}
	*run->out = top;
	return 0;
}

int blk_info(struct blk *b, bool is_chain, struct json_t **out, struct err *err)
{
	struct info_run run = { .b = blk_top(b), .is_chain = is_chain, .out = out, .err = err };

	return blk_run(b, info_run, &run);
}

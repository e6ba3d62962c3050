/* SPDX-License-Identifier: Apache-2.0 */
/* convert_file.c - a disk into a new file, which is there as a whole or not at all. */
#include "blk/convert.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/core_priv.h"
#include "blk/file_priv.h"
#include "blk/secret.h"
#include "util/checked.h"

enum { TARGET_GROW = 64 << 20, TARGET_FILES_MAX = 1024, TARGET_NAMES = 16 };

struct target {
	const struct blk_convert_file *c;
	struct loop *loop;
	char *path;                     /* that it is made under */
	bool is_there;                  /* PATH was made by us: failing, it goes */
	bool is_in_place;               /* a block device */
	int old_fd;                     /* what is to be replaced: locked, so that nobody uses it; -1: nothing */
	struct blk *blk;
	struct blk_secret secret;       /* of the new image */
	bool has_secret;
	char *files[TARGET_FILES_MAX];  /* beside PATH, ours too */
	unsigned n_files;
};

/* --- the name --------------------------------------------------------------------------------- */

/* What is there already may be replaced, and nobody is using it. */
static int target_check(struct target *t, struct err *err)
{
	const char *path = t->c->path;
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot examine '%s': %s", path, strerror(errno));
	if (!t->c->is_forced)
		return err_set(err, -EEXIST, "'%s' exists; choose another name, or overwrite it with --force", path);
	t->is_in_place = S_ISBLK(st.st_mode);
	if (t->is_in_place)
		return strcmp(t->c->format, "raw") ? err_set(err, -EINVAL,
							     "'%s' is a block device: only the format raw can be "
							     "written to it", path) : 0;
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", path);
	t->old_fd = open(path, O_RDWR | O_CLOEXEC);
	if (t->old_fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	return blk_lock(t->old_fd, path, false, err);
}

/* ".disk.qcow2.new-1234", beside what it will be. */
static char *target_name(const char *path, unsigned i)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? (int)(slash - path + 1) : 0;
	char *name = NULL;

	return asprintf(&name, "%.*s.%s.new-%u", folder, path, path + folder, (unsigned)getpid() + i) < 0 ? NULL : name;
}

/* --- making it ------------------------------------------------------------------------------------ */

static int target_create(struct target *t, uint64_t size, struct err *err)
{
	struct blk_create a = { .path = t->path, .format = t->c->format, .size = size, .opts = t->c->opts, .is_new = true,
				.final_path = t->is_in_place ? NULL : t->c->path,
				.secret = t->has_secret ? &t->secret : NULL };
	int r = blk_create(&a, err);

	t->is_there = r != -EEXIST;
	return r;
}

/* Beside the page cache where that works: what is compressed comes in small pieces, for which it is of use. */
static int target_open(struct target *t, struct err *err)
{
	struct blk_options o = { .path = t->path, .fd = -1, .format = t->c->format,
				 .is_direct = !t->c->how.is_compressed && !t->is_in_place };
	struct err why = ERR_INIT;

	if (t->has_secret) {
		o.secrets = &t->secret;
		o.n_secrets = 1;
	}
	int r = blk_open(&t->blk, t->loop, &o, &why);

	if (r < 0 && o.is_direct) {
		o.is_direct = false;
		why.code = 0;
		r = blk_open(&t->blk, t->loop, &o, &why);
	}
	return r < 0 ? err_set(err, r, "%s", why.msg) : 0;
}

static void target_note_file(struct target *t, const struct blk *file)
{
	char *name = file && t->n_files < TARGET_FILES_MAX ? strdup(file->name) : NULL;

	if (name)
		t->files[t->n_files++] = name;
}

static void target_remove(struct target *t)
{
	if (t->blk)
		t->blk->is_readonly = true;     /* nothing more is written to it */
	blk_close(take_ptr(&t->blk));
	for (unsigned i = 0; i < t->n_files; i++) {
		unlink(t->files[i]);
		free(t->files[i]);
	}
	t->n_files = 0;
	if (t->is_there)
		unlink(t->path);
	t->is_there = false;
}

/* The image under a name of its own; when it turns out to have further files, whose names it knows, under the
 * one that it shall have. */
static int target_make(struct target *t, uint64_t size, struct err *err)
{
	int r = -EEXIST;

	for (unsigned i = 0; r == -EEXIST && i < TARGET_NAMES; i++) {
		free(t->path);
		t->path = target_name(t->c->path, i);
		if (!t->path)
			return err_set(err, -ENOMEM, "out of memory");
		struct err why = ERR_INIT;

		r = target_create(t, size, &why);
		if (r < 0 && (r != -EEXIST || i == TARGET_NAMES - 1))
			return err_set(err, r, "%s", why.msg);
	}
	if (!r)
		r = target_open(t, err);
	if (r < 0)
		return r;
	target_note_file(t, t->blk->data);
	if (!t->blk->n_extra)
		return 0;
	for (unsigned i = 0; i < t->blk->n_extra; i++)
		target_note_file(t, t->blk->extra[i]);
	target_remove(t);
	if (t->old_fd >= 0)
		return err_set(err, -EEXIST, "'%s' exists, and an image of several files cannot replace it; remove it "
			       "before",
			       t->c->path);
	free(t->path);
	t->path = strdup(t->c->path);
	r = t->path ? target_create(t, size, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = target_open(t, err);
	for (unsigned i = 0; !r && i < t->blk->n_extra; i++)
		target_note_file(t, t->blk->extra[i]);
	return r;
}

/* --- finishing ------------------------------------------------------------------------------------ */

static int sync_path(const char *path, int flags, struct err *err)
{
	AUTO_FD int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, -errno, "cannot bring '%s' to the disk: %s", path, strerror(errno));
	return 0;
}

static int target_finish(struct target *t, struct err *err)
{
	const char *path = t->c->path, *slash = strrchr(path, '/');
	char folder[4096];
	int r = blk_file_grow_in_steps(t->blk->file, 0);

	if (r < 0)
		return err_set(err, r, "cannot end '%s': %s", t->path, strerror(-r));
	blk_close(take_ptr(&t->blk));
	r = sync_path(t->path, O_RDONLY, err);
	if (r < 0 || t->is_in_place || !strcmp(t->path, path))
		return r;
	if (rename(t->path, path) < 0)
		return err_set(err, -errno, "cannot rename '%s' to '%s': %s", t->path, path, strerror(errno));
	snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	return sync_path(folder, O_RDONLY | O_DIRECTORY, err);
}

/* Where the file system shares blocks between files, a raw disk is there at once. */
static bool target_clone(struct target *t, const struct blk *src)
{
	const struct file *from = src->file ? src->file->priv : NULL;
	struct blk *dst = t->blk;

	return src->drv == &blk_raw && dst->drv == &blk_raw && src->file->drv == &blk_file &&
	       dst->file->drv == &blk_file &&
	       src->size == dst->size && !ioctl(((struct file *)dst->file->priv)->fd, FICLONE, from->fd);
}

static int convert_into(struct target *t, struct blk *src, struct blk_convert_file *c, struct err *err)
{
	int r = 0;

	if (t->is_in_place) {
		t->path = strdup(c->path);
		r = t->path ? target_open(t, err) : err_set(err, -ENOMEM, "out of memory");
	} else {
		r = target_make(t, src->size, err);
	}
	if (r < 0)
		return r;
	c->how.is_target_zero = !t->is_in_place && blk_is_zero_when_new(t->blk);
	if (!target_clone(t, src)) {
		if (t->blk->file->drv == &blk_file && t->blk->drv != &blk_raw)
			blk_file_grow_in_steps(t->blk->file, TARGET_GROW);
		r = blk_convert(src, t->blk, t->loop, &c->how, err);
	}
	return r ? r : target_finish(t, err);
}

/* The passphrase of the new image, if there is one: as its options say comes first, as for other images. */
static int target_secret(struct target *t, struct err *err)
{
	const struct blk_convert_file *c = t->c;
	int r = c->opts ? blk_secret_from_opts(&t->secret, c->opts, err) : 0;

	if (!r && c->secret)
		r = blk_secret_set(&t->secret, c->secret->data, c->secret->len, err) < 0 ? -ENOMEM : 1;
	t->has_secret = r > 0;
	return r > 0 ? 0 : r;
}

int blk_convert_file(struct blk_convert_file *c, struct err *err)
{
	AUTO(loop_free) struct loop *loop = NULL;
	AUTO(blk_close) struct blk *src = NULL;
	struct target t = { .c = c, .old_fd = -1 };
	int r = loop_new(&loop, err);

	if (!r)
		r = blk_open(&src, loop, c->src, err);
	t.loop = loop;
	if (!r && !blk_size(src))
		r = err_set(err, -EINVAL, "'%s' is empty, and a disk has at least %d bytes", blk_name(src), BLK_SECTOR);
	if (!r)
		r = target_check(&t, err);
	if (!r)
		r = target_secret(&t, err);
	if (!r) {
		c->size = blk_size(src);
		r = convert_into(&t, src, c, err);
	}
	if (r < 0)
		target_remove(&t);
	blk_close(t.blk);
	blk_secret_wipe(&t.secret);
	while (t.n_files)
		free(t.files[--t.n_files]);
	if (t.old_fd >= 0)
		close(t.old_fd);
	free(t.path);
	return r;
}

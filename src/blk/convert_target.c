/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/convert_target.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/core_priv.h"
#include "blk/file_priv.h"
#include "blk/measure.h"

enum { TARGET_NAMES = 16, TARGET_HEAD = 64 << 10 };

/* --- names -------------------------------------------------------------------------------------- */

static int names_add(struct target_names *n, const char *name)
{
	char **more = reallocarray(n->v, n->n + 1, sizeof(*more)), *copy = strdup(name);

	if (more)
		n->v = more;
	if (!more || !copy) {
		free(copy);
		return -ENOMEM;
	}
	n->v[n->n++] = copy;
	return 0;
}

static void names_fini(struct target_names *n)
{
	while (n->n)
		free(n->v[--n->n]);
	free(take_ptr(&n->v));
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* ".disk.qcow2.new-1234", beside what it will be. */
static char *name_under_way(const char *path, unsigned i)
{
	const char *base = name_of(path);
	char *name = NULL;

	return asprintf(&name, "%.*s.%s.new-%u", (int)(base - path), path, base, (unsigned)getpid() + i) < 0 ? NULL : name;
}

/* --- what is there ------------------------------------------------------------------------------ */

/* Is FILE, which the image PATH of FORMAT has, called as extents of that image are? Whoever made an image may have written
 * the name of any file into it. */
static bool old_is_extent(const char *format, const char *path, const char *file)
{
	const char *base = name_of(path), *name = name_of(file), *end = strcmp(format, "vmdk") ? ".hds" : ".vmdk";
	size_t stem = strlen(base), len = strlen(name), n_end = strlen(end);

	if (len <= n_end || strcmp(name + len - n_end, end))
		return false;
	if (strcmp(format, "vmdk"))
		return !strcmp(format, "parallels");
	if (stem > n_end && !strcmp(base + stem - n_end, end))
		stem -= n_end;
	return !strncmp(name, base, stem) && name[stem] == '-';
}

/* The extents of the image that will be replaced: nobody needs them any more then. */
static void old_examine(struct target *t)
{
	struct blk_options o = { .path = t->c->path, .fd = -1, .is_readonly = true, .is_unlocked = true, .is_confined = true,
				 .has_no_backing = true, .has_no_key = true };
	AUTO(blk_close) struct blk *b = NULL;

	if (blk_open(&b, NULL, &o, NULL) < 0)
		return;                 /* it is no image, or damaged */
	for (unsigned i = 0; i < b->n_extra; i++)
		if (old_is_extent(b->drv->name, t->c->path, b->extra[i]->name))
			(void)names_add(&t->old, b->extra[i]->name);
}

/* They go, but for what somebody is using: the disk that was converted may be one of them. */
static void old_remove(struct target *t)
{
	for (unsigned i = 0; i < t->old.n; i++) {
		AUTO_FD int fd = open(t->old.v[i], O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		struct stat st;

		if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && !blk_lock(fd, t->old.v[i], false, NULL))
			unlink(t->old.v[i]);
	}
}

static int device_check(struct target *t, struct err *err)
{
	const char *path = t->c->path;
	const struct blk_driver *drv = blk_format_find(t->c->format, err);
	AUTO_FD int fd = drv ? open(path, O_RDONLY | O_EXCL | O_CLOEXEC) : -1;  /* O_EXCL: of this host alone */

	t->is_device = true;
	if (!drv)
		return -EINVAL;
	if (fd < 0 && errno == EBUSY)
		return err_set(err, -EBUSY, "'%s' is in use by this host: it is mounted, or a part of another device", path);
	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &t->device_size) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (!(drv->flags & BLK_DRIVER_DEVICE))
		return err_set(err, -EINVAL, "'%s' is a block device: raw, qcow2 and luks can be written to it, %s needs a "
			       "file", path, drv->name);
	if (t->c->opts && !strcmp(drv->name, "qcow2") && blk_opts_str(t->c->opts, "data_file"))
		return err_set(err, -EINVAL, "'%s' is a block device, and an image there has its data there", path);
	return 0;
}

static int file_check(struct target *t, struct err *err)
{
	const char *path = t->c->path;
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot examine '%s': %s", path, strerror(errno));
	if (!t->c->is_forced)
		return err_set(err, -EEXIST, "'%s' exists; choose another name, or overwrite it with --force", path);
	if (S_ISBLK(st.st_mode))
		return device_check(t, err);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is neither a file nor a block device", path);
	t->old_fd = open(path, O_RDWR | O_CLOEXEC);
	if (t->old_fd < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	int r = blk_lock(t->old_fd, path, false, err);

	if (!r)
		old_examine(t);
	return r;
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

int target_check(struct target *t, struct err *err)
{
	int r = file_check(t, err);

	return r ? r : target_secret(t, err);
}

int target_room(struct target *t, struct blk *src, struct err *err)
{
	const struct blk_convert_file *c = t->c;
	struct blk_measure m = { .required = blk_size(src) };
	int r = 0;

	if (!t->is_device)
		return 0;
	if (strcmp(c->format, "raw"))
		r = blk_measure(c->how.is_compressed ? NULL : src, blk_size(src), c->format, c->opts, &c->how.progress,
				&m, err);
	if (!r && m.required > t->device_size)
		r = err_set(err, -ENOSPC, "'%s' has %" PRIu64 " bytes, and '%s' as %s takes %" PRIu64 "; nothing was written",
			    c->path, t->device_size, blk_name(src), c->format, m.required);
	return r;
}

/* --- making it ------------------------------------------------------------------------------------ */

static int target_create(struct target *t, uint64_t size, unsigned series, struct err *err)
{
	struct blk_create a = { .path = t->path, .format = t->c->format, .size = size, .opts = t->c->opts,
				.is_new = !t->is_device, .final_path = t->is_device ? NULL : t->c->path, .series = series,
				.secret = t->has_secret ? &t->secret : NULL };

	t->is_begun = true;
	int r = blk_create(&a, err);

	t->is_there = r != -EEXIST && !t->is_device;
	return r;
}

/* Beside the page cache where that works: what is compressed comes in small pieces, for which it is of use. */
static int target_open(struct target *t, struct err *err)
{
	struct blk_options o = { .path = t->path, .fd = -1, .format = t->c->format,
				 .is_direct = !t->c->how.is_compressed && !t->is_device };
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

static int device_make(struct target *t, uint64_t size, struct err *err)
{
	t->path = strdup(t->c->path);
	if (!t->path)
		return err_set(err, -ENOMEM, "out of memory");
	int r = strcmp(t->c->format, "raw") ? target_create(t, size, 0, err) : 0;

	return r ? r : target_open(t, err);
}

static int target_note_files(struct target *t, struct err *err)
{
	int r = t->blk->data ? names_add(&t->files, t->blk->data->name) : 0;

	for (unsigned i = 0; !r && i < t->blk->n_extra; i++)
		r = names_add(&t->files, t->blk->extra[i]->name);
	return r < 0 ? err_set(err, r, "out of memory") : 0;
}

int target_make(struct target *t, uint64_t size, struct err *err)
{
	int r = -EEXIST;

	if (t->is_device)
		return device_make(t, size, err);
	for (unsigned i = 0; r == -EEXIST && i < TARGET_NAMES; i++) {
		struct err why = ERR_INIT;

		free(t->path);
		t->path = name_under_way(t->c->path, i);
		if (!t->path)
			return err_set(err, -ENOMEM, "out of memory");
		/* Extents of what is replaced have their names until the end. */
		r = target_create(t, size, t->c->is_forced ? i : 0, &why);
		if (r < 0 && (r != -EEXIST || i == TARGET_NAMES - 1))
			return err_set(err, r, "%s", why.msg);
	}
	if (!r)
		r = target_open(t, err);
	return r ? r : target_note_files(t, err);
}

/* Nobody shall take a part for the whole. */
static void device_wipe(const struct target *t)
{
	AUTO_FD int fd = open(t->path, O_WRONLY | O_CLOEXEC);
	AUTO(free) void *zero = calloc(1, TARGET_HEAD);

	if (fd < 0 || !zero || pwrite(fd, zero, TARGET_HEAD, 0) < 0 || fsync(fd) < 0)
		return;                 /* whoever reads the sentence of what failed knows */
}

void target_remove(struct target *t)
{
	if (t->blk)
		t->blk->is_readonly = true;     /* nothing more is written to it */
	blk_close(take_ptr(&t->blk));
	for (unsigned i = 0; i < t->files.n; i++)
		unlink(t->files.v[i]);
	names_fini(&t->files);
	if (t->is_there)
		unlink(t->path);
	if (t->is_device && t->is_begun)
		device_wipe(t);
	t->is_there = t->is_begun = false;
}

/* --- finishing ------------------------------------------------------------------------------------ */

static int sync_path(const char *path, int flags, struct err *err)
{
	AUTO_FD int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, -errno, "cannot bring '%s' to the disk: %s", path, strerror(errno));
	return 0;
}

static int sync_folder_of(const char *path, struct err *err)
{
	int len = (int)(name_of(path) - path);
	char folder[4096];

	snprintf(folder, sizeof(folder), "%.*s", len ? len : 1, len ? path : ".");
	return sync_path(folder, O_RDONLY | O_DIRECTORY, err);
}

/* The further files are there, and what the image says of them is true, before it has its name. */
static int sync_files(const struct target *t, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < t->files.n; i++)
		r = sync_path(t->files.v[i], O_RDONLY, err);
	if (!r && t->files.n)
		r = sync_folder_of(t->files.v[0], err);
	return r;
}

int target_finish(struct target *t, struct err *err)
{
	const char *path = t->c->path;
	int r = blk_file_grow_in_steps(t->blk->file, 0);

	if (r < 0)
		return err_set(err, r, "cannot end '%s': %s", t->path, strerror(-r));
	blk_close(take_ptr(&t->blk));
	r = sync_files(t, err);
	if (!r)
		r = sync_path(t->path, O_RDONLY, err);
	if (r < 0 || t->is_device)
		return r;
	if (rename(t->path, path) < 0)
		return err_set(err, -errno, "cannot rename '%s' to '%s': %s", t->path, path, strerror(errno));
	/* It is there now: what fails from here on takes nothing away. */
	t->is_there = false;
	names_fini(&t->files);
	r = sync_folder_of(path, err);
	if (!r)
		old_remove(t);
	return r;
}

void target_fini(struct target *t)
{
	blk_close(take_ptr(&t->blk));
	blk_secret_wipe(&t->secret);
	names_fini(&t->files);
	names_fini(&t->old);
	if (t->old_fd >= 0)
		close(t->old_fd);
	free(take_ptr(&t->path));
}

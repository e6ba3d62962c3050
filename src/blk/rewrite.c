/* SPDX-License-Identifier: Apache-2.0 */
/* rewrite.c - files of an image beside each other: one more, and another text in the place of its own one.
 *
 * Both need the folder that the image is in, by its name; a process in a jail, or one that was handed a descriptor, has
 * none and is told so before anything changes. */
#include "blk/core_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/checked.h"

/* The file of B by a name without links; the caller frees *OUT. */
static int own_path(const struct blk *b, char **out, struct err *err)
{
	char *path = realpath(b->name, NULL);
	AUTO_FD int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (fd >= 0 && blk_fd_is_same(fd, blk_file_fd(b->file))) {
		*out = path;
		return 0;
	}
	free(path);
	return err_set(err, -ENOTSUP, "'%s' gets another file beside it, which cannot be made from here; change it while no "
		       "machine uses it", b->name);
}

int blk_co_can_rewrite(struct blk *b, struct err *err)
{
	AUTO(free) char *path = NULL;

	return own_path(b, &path, err);
}

/* What is named in the folder of PATH is there after a power cut. */
static int sync_folder(const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	AUTO(free) char *folder = slash && slash != path ? strndup(path, (size_t)(slash - path)) : strdup(slash ? "/" : ".");
	AUTO_FD int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (fd < 0 || fsync(fd) < 0)
		return err_set(err, -errno, "cannot bring the folder of '%s' to the disk: %s", path, strerror(errno));
	return 0;
}

int blk_co_make_extra(struct blk *b, const char *name, struct blk **out, struct err *err)
{
	struct blk **more = reallocarray(b->extra, b->n_extra + 1, sizeof(*more));
	AUTO(free) char *path = NULL;

	if (!more)
		return err_set(err, -ENOMEM, "out of memory");
	b->extra = more;
	int r = blk_name_resolve(&path, b->name, name, err);

	if (!r)
		r = blk_co_make_protocol(&b->extra[b->n_extra], b->ctx, path, true, err);
	if (r < 0)
		return r;
	*out = b->extra[b->n_extra++];
	return sync_folder(path, err);
}

/* As the old file is, as far as we may. */
static int take_mode(const struct blk *new, const struct blk *old, struct err *err)
{
	struct stat st;

	if (fstat(blk_file_fd(old), &st) < 0 || fchmod(blk_file_fd(new), st.st_mode & 07777) < 0)
		return err_set(err, -errno, "cannot set the mode of '%s': %s", new->name, strerror(errno));
	if (fchown(blk_file_fd(new), st.st_uid, st.st_gid) < 0 && errno != EPERM)
		return err_set(err, -errno, "cannot set the owner of '%s': %s", new->name, strerror(errno));
	return 0;
}

static int write_new(struct blk *new, const struct blk *old, const void *data, size_t len, struct err *err)
{
	int r = take_mode(new, old, err);

	if (r < 0)
		return r;
	r = blk_co_pwrite(new, 0, data, len);
	if (!r)
		r = blk_co_flush(new);
	return r < 0 ? err_set(err, r, "cannot write '%s': %s", new->name, strerror(-r)) : 0;
}

int blk_co_rewrite_file(struct blk *b, const void *data, size_t len, bool *is_done, struct err *err)
{
	AUTO(free) char *path = NULL, *other = NULL, *name = strdup(b->file->name);
	struct blk *new = NULL;
	int r = own_path(b, &path, err);

	*is_done = false;
	if (r < 0)
		return r;
	if (!name || asprintf(&other, "%s.new~", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	r = blk_co_make_protocol(&new, b->ctx, other, false, err);
	if (!r)
		r = write_new(new, b->file, data, len, err);
	if (!r && rename(other, path) < 0)
		r = err_set(err, -errno, "cannot rename '%s' to '%s': %s", other, path, strerror(errno));
	if (r < 0) {
		if (new)
			unlink(other);
		blk_co_close(new);
		return r;
	}
	*is_done = true;
	free(new->name);
	new->name = take_ptr(&name);
	new->may_grow = b->file->may_grow;
	blk_co_close(b->file);
	b->file = new;
	return sync_folder(path, err);
}

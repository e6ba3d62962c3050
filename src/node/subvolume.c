/* SPDX-License-Identifier: Apache-2.0 */
#include "node/subvolume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>
#include "node/files.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/log.h"

enum { FOUND_MAX = 4096 };

/* --- which they are ---------------------------------------------------- */

bool subvolume_can(int fd)
{
	struct statfs s;

	return !fstatfs(fd, &s) && s.f_type == BTRFS_SUPER_MAGIC;
}

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool is_top(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && st.st_ino == BTRFS_FIRST_FREE_OBJECTID && subvolume_can(fd);
}

bool subvolume_is(const char *path)
{
	AUTO_FD int fd = open_dir(path);

	return fd >= 0 && is_top(fd);
}

/* The directory that PATH is in; *NAME is the rest. */
static int open_above(const char *path, const char **name, struct err *err)
{
	AUTO(free) char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;

	if (!slash)
		return err_set(err, -ENOMEM, "out of memory");
	*slash = 0;
	*name = path + (slash - dir) + 1;
	int fd = open_dir(dir[0] ? dir : "/");
	return fd < 0 ? err_set(err, -errno, "cannot open the directory '%s': %s", dir, strerror(errno)) : fd;
}

static int set_name(char *to, size_t cap, const char *name, struct err *err)
{
	return snprintf(to, cap, "%s", name) < (int)cap ? 0 : err_set(err, -ENAMETOOLONG, "the name '%s' is too long", name);
}

/* Directories take "no copy-on-write" (chattr +C) from the one above, subvolumes do not. It is whoever keeps the pool who wants that, never
 * we: files without checksums cannot be told good from bad, nor mended from the other copy. */
static void inherit(int above, const char *path)
{
	AUTO_FD int fd = open_dir(path);
	int flags = 0, own = 0;

	if (fd < 0 || ioctl(above, FS_IOC_GETFLAGS, &flags) < 0 || !(flags & FS_NOCOW_FL) || ioctl(fd, FS_IOC_GETFLAGS, &own) < 0)
		return;
	own |= FS_NOCOW_FL;
	if (ioctl(fd, FS_IOC_SETFLAGS, &own) < 0)
		log_warn("'%s' does not take 'no copy-on-write' from the directory above: %s", path, strerror(errno));
}

/* --- making ---------------------------------------------------- */

int subvolume_make(const char *path, struct err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = { .fd = 0 };
	const char *name;
	AUTO_FD int above = open_above(path, &name, err);
	int r = above < 0 ? above : set_name(args.name, sizeof(args.name), name, err);

	if (r < 0 || subvolume_is(path))
		return r;
	if (ioctl(above, BTRFS_IOC_SUBVOL_CREATE_V2, &args) < 0)
		return err_set(err, -errno, "cannot make the subvolume '%s': %s", path, strerror(errno));
	inherit(above, path);
	/* It belongs to who made it, as a directory does. */
	if (chmod(path, 0700) < 0 || fsync(above) < 0)
		return err_set(err, -errno, "cannot make the subvolume '%s': %s", path, strerror(errno));
	return 0;
}

int subvolume_snapshot(const char *from, const char *to, bool is_readonly, struct err *err)
{
	struct btrfs_ioctl_vol_args_v2 args = { .flags = is_readonly ? BTRFS_SUBVOL_RDONLY : 0 };
	const char *name;
	AUTO_FD int source = open_dir(from);
	AUTO_FD int above = source < 0 ? -1 : open_above(to, &name, err);

	if (source < 0)
		return err_set(err, -errno, "cannot open '%s': %s", from, strerror(errno));
	if (above < 0)
		return err->code;
	args.fd = source;
	int r = set_name(args.name, sizeof(args.name), name, err);
	if (r < 0)
		return r;
	/* The kernel writes back what is dirty in the source, and commits, before it answers. */
	if (ioctl(above, BTRFS_IOC_SNAP_CREATE_V2, &args) < 0)
		return err_set(err, -errno, "cannot make '%s', a snapshot of the subvolume '%s': %s", to, from, strerror(errno));
	return fsync(above) < 0 ? err_set(err, -errno, "cannot write the directory above '%s': %s", to, strerror(errno)) : 0;
}

/* --- removing ---------------------------------------------------- */

/* Whoever owns one may make it writable, and then what is in it goes. */
static int empty(const char *path, int fd, struct err *err)
{
	uint64_t flags = 0;

	if (!ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) && flags & BTRFS_SUBVOL_RDONLY) {
		flags &= ~(uint64_t)BTRFS_SUBVOL_RDONLY;
		if (ioctl(fd, BTRFS_IOC_SUBVOL_SETFLAGS, &flags) < 0)
			return err_set(err, -errno, "cannot remove the subvolume '%s', which is read-only: %s", path, strerror(errno));
	}
	int r = files_remove(path, err);
	if (r != -EPERM && r != -EACCES && r != -ENOTEMPTY)
		return r;
	return err_set(err, r, "cannot remove the subvolume '%s': %s; let root mount it with 'user_subvol_rm_allowed', or remove it ('btrfs "
		       "subvolume delete')", path, strerror(-r));
}

int subvolume_remove(const char *path, struct err *err)
{
	struct btrfs_ioctl_vol_args args = { .fd = 0 };
	const char *name;
	AUTO_FD int fd = open_dir(path);

	if (fd < 0 || !is_top(fd))
		return files_remove(path, err);
	AUTO_FD int above = open_above(path, &name, err);
	int r = above < 0 ? above : set_name(args.name, sizeof(args.name), name, err);
	if (r < 0)
		return r;
	if (!ioctl(above, BTRFS_IOC_SNAP_DESTROY, &args) || errno == ENOENT)
		return 0;
	/* -EPERM: not without that mount option; -ENOTEMPTY: one is in it; others may have their reasons. */
	return empty(path, fd, err);
}

/* --- room ---------------------------------------------------- */

/* What is in the tree of quotas about quota group 0/ID. */
static int find_group(int fd, uint64_t id, struct btrfs_qgroup_info_item *out)
{
	union {
		struct btrfs_ioctl_search_args_v2 args;
		uint8_t room[sizeof(struct btrfs_ioctl_search_args_v2) + FOUND_MAX];
	} u = { .args = { .buf_size = FOUND_MAX, .key = {
		.tree_id = BTRFS_QUOTA_TREE_OBJECTID, .min_type = BTRFS_QGROUP_INFO_KEY, .max_type = BTRFS_QGROUP_INFO_KEY,
		.min_offset = id, .max_offset = id, .max_transid = UINT64_MAX, .nr_items = 1 } } };
	struct btrfs_ioctl_search_header h;

	if (ioctl(fd, BTRFS_IOC_TREE_SEARCH_V2, &u.args) < 0)
		return errno == ENOENT ? -ENODATA : -errno;
	if (!u.args.key.nr_items)
		return -ENODATA;
	memcpy(&h, u.args.buf, sizeof(h));
	if (h.type != BTRFS_QGROUP_INFO_KEY || h.len < sizeof(*out) || sizeof(h) + h.len > FOUND_MAX)
		return -ENODATA;
	memcpy(out, (const uint8_t *)u.args.buf + sizeof(h), sizeof(*out));
	return 0;
}

int subvolume_usage(const char *path, uint64_t *referenced, uint64_t *exclusive)
{
	struct btrfs_ioctl_ino_lookup_args own = { .objectid = BTRFS_FIRST_FREE_OBJECTID };
	struct btrfs_qgroup_info_item item = { .generation = 0 };
	AUTO_FD int fd = open_dir(path);

	if (fd < 0 || !is_top(fd))
		return fd < 0 ? -errno : -ENODATA;
	if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &own) < 0)
		return -errno;
	int r = find_group(fd, own.treeid, &item);
	if (r < 0)
		return r;
	*referenced = get_le64(&item.rfer);
	*exclusive = get_le64(&item.excl);
	return 0;
}

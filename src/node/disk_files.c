/* SPDX-License-Identifier: Apache-2.0 */
#include "node/disk_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/files.h"
#include "node/subvolume.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

#define DISK "volume."          /* what it is called in a subvolume of its own */
#define AT ".at."

static const char *const formats[] = { "raw", "qcow2" };

/* --- names ---------------------------------------------------- */

void disk_files_path(const char *pool, enum pool_driver driver, const char *uid, const char *format, char *path, size_t cap)
{
	snprintf(path, cap, driver == POOL_DRIVER_BTRFS ? "%s/volumes/%s/" DISK "%s" : "%s/volumes/%s.%s", pool, uid, format);
}

bool disk_files_is_raw(const char *path)
{
	const char *end = strrchr(path, '.');

	return end && !strcmp(end, ".raw");
}

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Has it a subvolume of its own? */
static bool has_home(const char *path)
{
	return !strncmp(base_of(path), DISK, strlen(DISK));
}

static void home_of(const char *path, char home[DISK_PATH_MAX])
{
	snprintf(home, DISK_PATH_MAX, "%.*s", (int)(base_of(path) - path - 1), path);
}

/* "POOL/volumes/UID": all that belongs to the disk begins with it. */
static void stem_of(const char *path, char stem[DISK_PATH_MAX])
{
	if (has_home(path))
		home_of(path, stem);
	else
		snprintf(stem, DISK_PATH_MAX, "%.*s", (int)(strrchr(path, '.') - path), path);
}

/* The file of its copy NAME. */
static void copy_of(const char *path, const char *name, char copy[DISK_PATH_MAX])
{
	char stem[DISK_PATH_MAX];

	stem_of(path, stem);
	if (snprintf(copy, DISK_PATH_MAX, has_home(path) ? "%s" AT "%s/" DISK "raw" : "%s" AT "%s.raw", stem, name) >= DISK_PATH_MAX)
		copy[0] = 0;    /* nothing is called so */
}

static int too_long(const char *path, struct err *err)
{
	return err_set(err, -ENAMETOOLONG, "the path '%s' is too long", path);
}

/* --- whole disks ---------------------------------------------------- */

int disk_files_make_dir(const char *path, enum pool_driver driver, struct err *err)
{
	return driver == POOL_DRIVER_BTRFS ? subvolume_make(path, err) : files_make_dir(path, err);
}

int disk_files_make_home(const char *path, struct err *err)
{
	char home[DISK_PATH_MAX];

	if (!has_home(path))
		return 0;
	home_of(path, home);
	return subvolume_make(home, err);
}

/* Is no disk left in the subvolume HOME? */
static bool is_empty(const char *home)
{
	char path[DISK_PATH_MAX + 16];

	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		snprintf(path, sizeof(path), "%s/" DISK "%s", home, formats[i]);
		if (!access(path, F_OK))
			return false;
	}
	return true;
}

int disk_files_remove_one(const char *path, struct err *err)
{
	char home[DISK_PATH_MAX];
	int r = files_remove(path, err);

	if (r < 0 || !has_home(path))
		return r;
	home_of(path, home);
	return is_empty(home) ? subvolume_remove(home, err) : 0;
}

/* WHAT(path) for each entry of DIR whose name begins with PREFIX. */
static int each(const char *dir, const char *prefix, int (*what)(const char *path, void *arg, struct err *err), void *arg, struct err *err)
{
	DIR *d = opendir(dir);
	char path[DISK_PATH_MAX + 272];
	const struct dirent *e;
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : err_set(err, -errno, "cannot read the directory '%s': %s", dir, strerror(errno));
	while (!r && (e = readdir(d)) != NULL) {
		if (strncmp(e->d_name, prefix, strlen(prefix)) != 0 || !strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		r = what(path, arg, err);
	}
	closedir(d);
	return r;
}

static int remove_entry(const char *path, void *arg, struct err *err)
{
	(void)arg;
	return subvolume_remove(path, err);
}

int disk_files_remove(const char *pool, enum pool_driver driver, const char *uid, struct err *err)
{
	char dir[DISK_PATH_MAX];

	(void)driver;           /* what was moved from another pool before it was whole is called the same */
	snprintf(dir, sizeof(dir), "%s/volumes", pool);
	int r = each(dir, uid, remove_entry, NULL, err);
	return r < 0 ? r : 0;
}

/* The file TO, which is durable when it has its name. */
static int share_file(const char *from, const char *to, struct err *err)
{
	char tmp[DISK_PATH_MAX + 8];

	snprintf(tmp, sizeof(tmp), "%s.tmp", to);
	AUTO_FD int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FD int target = source < 0 ? -1 : open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (source < 0 || target < 0)
		return err_set(err, -errno, "cannot copy '%s' to '%s': %s", from, tmp, strerror(errno));
	int r = ioctl(target, FICLONE, source) < 0 || fsync(target) < 0 || rename(tmp, to) < 0 ? -errno : 0;
	if (!r)
		return files_sync_above(to, err);
	(void)unlink(tmp);
	if (r == -EOPNOTSUPP || r == -EXDEV || r == -EINVAL || r == -ENOTTY || r == -ENOSYS)
		return err_set(err, -EOPNOTSUPP, "'%s' and '%s' cannot share blocks: %s", from, to, strerror(-r));
	return err_set(err, r, "cannot copy '%s' to '%s': %s", from, to, strerror(-r));
}

/* Nothing but the file belongs into the subvolume that was made of another's. */
static int keep_only(const char *path, void *arg, struct err *err)
{
	return !strcmp(base_of(path), arg) ? 0 : files_remove(path, err);
}

/* TO's subvolume is a snapshot of FROM's, and appears when it is whole. */
static int share_home(const char *from, const char *to, bool is_readonly, struct err *err)
{
	char source[DISK_PATH_MAX], home[DISK_PATH_MAX], new[DISK_PATH_MAX + 8];

	home_of(from, source);
	home_of(to, home);
	if (snprintf(new, sizeof(new), "%s.new", home) >= DISK_PATH_MAX)
		return too_long(home, err);
	int r = subvolume_remove(new, err);
	if (!r)
		r = subvolume_snapshot(source, new, is_readonly, err);
	if (!r && !is_readonly)
		r = each(new, "", keep_only, (void *)base_of(from), err);
	if (r < 0)
		return r;
	if (rename(new, home) < 0)
		return err_set(err, -errno, "cannot rename '%s': %s", new, strerror(errno));
	return files_sync_above(home, err);
}

static bool is_same_dir(const char *a, const char *b)
{
	char home_a[DISK_PATH_MAX], home_b[DISK_PATH_MAX];

	home_of(a, home_a);
	home_of(b, home_b);
	size_t n = (size_t)(base_of(home_a) - home_a);
	return n == (size_t)(base_of(home_b) - home_b) && !strncmp(home_a, home_b, n);
}

int disk_files_share(const char *from, const char *to, struct err *err)
{
	if (has_home(from) && has_home(to) && is_same_dir(from, to) && !strcmp(base_of(from), base_of(to)))
		return share_home(from, to, false, err);
	int r = disk_files_make_home(to, err);
	return r < 0 ? r : share_file(from, to, err);
}

int disk_files_take(const char *from, const char *to, struct err *err)
{
	int r = disk_files_make_home(to, err);

	if (r < 0)
		return r;
	if (!rename(from, to))
		return files_sync_above(to, err);
	if (errno != EXDEV)
		return err_set(err, -errno, "cannot rename '%s': %s", from, strerror(errno));
	/* From one subvolume to another. */
	return disk_files_copy(from, to, NULL, NULL, err);
}

static int add_allocated(const char *path, void *arg, struct err *err)
{
	char inside[DISK_PATH_MAX + 304];
	struct stat st;

	(void)err;
	snprintf(inside, sizeof(inside), "%s/" DISK "raw", path);
	if (!lstat(path, &st) && (!S_ISDIR(st.st_mode) || !lstat(inside, &st)))
		*(uint64_t *)arg += (uint64_t)st.st_blocks * 512;
	return 0;
}

uint64_t disk_files_allocated(const char *path)
{
	char stem[DISK_PATH_MAX], dir[DISK_PATH_MAX], prefix[DISK_PATH_MAX + 8];
	uint64_t all = 0;
	struct stat st;

	if (!stat(path, &st))
		all = (uint64_t)st.st_blocks * 512;
	stem_of(path, stem);
	home_of(stem, dir);
	snprintf(prefix, sizeof(prefix), "%s" AT, base_of(stem));
	if (disk_files_is_raw(path))
		(void)each(dir, prefix, add_allocated, &all, NULL);
	return all;
}

uint64_t disk_files_exclusive(const char *path)
{
	char home[DISK_PATH_MAX];
	uint64_t referenced, exclusive = 0;

	if (!has_home(path))
		return 0;
	home_of(path, home);
	return subvolume_usage(home, &referenced, &exclusive) < 0 ? 0 : exclusive;
}

/* --- snapshots beside ---------------------------------------------------- */

int disk_copy_make(const char *path, const char *name, struct err *err)
{
	char copy[DISK_PATH_MAX];

	copy_of(path, name, copy);
	if (!copy[0])
		return too_long(path, err);
	if (!access(copy, F_OK))
		return 0;
	int r = has_home(path) ? share_home(path, copy, true, err) : share_file(path, copy, err);
	if (r != -EOPNOTSUPP)
		return r;
	return err_set(err, -ENOTSUP, "the file system of '%s' cannot share blocks between files, and a raw disk has no other snapshots: make it "
		       "qcow2 ('viv volume move NAME POOL --format qcow2'), or move it to a pool on btrfs or XFS", path);
}

bool disk_copy_is_there(const char *path, const char *name)
{
	char copy[DISK_PATH_MAX];

	copy_of(path, name, copy);
	return !access(copy, F_OK);
}

int disk_copy_apply(const char *path, const char *name, struct err *err)
{
	char copy[DISK_PATH_MAX];

	copy_of(path, name, copy);
	if (access(copy, F_OK) < 0)
		return err_set(err, -ENOENT, "there is no snapshot '%s' of '%s'", name, path);
	/* In its subvolume, which stays: whatever is killed, there is one disk in it. */
	return share_file(copy, path, err);
}

int disk_copy_remove(const char *path, const char *name, struct err *err)
{
	char copy[DISK_PATH_MAX], home[DISK_PATH_MAX], half[DISK_PATH_MAX + 8];

	copy_of(path, name, copy);
	home_of(copy, home);
	snprintf(half, sizeof(half), has_home(path) ? "%s.new" : "%s.tmp", has_home(path) ? home : copy);
	int r = subvolume_remove(half, err);
	return r < 0 ? r : subvolume_remove(has_home(path) ? home : copy, err);
}

static int count_one(const char *path, void *arg, struct err *err)
{
	const char *end = strrchr(path, '.');

	(void)err;
	*(int *)arg += strcmp(end, ".tmp") && strcmp(end, ".new");
	return 0;
}

int disk_copy_count(const char *path, struct err *err)
{
	char stem[DISK_PATH_MAX], dir[DISK_PATH_MAX], prefix[DISK_PATH_MAX + 8];
	int n = 0;

	stem_of(path, stem);
	home_of(stem, dir);
	snprintf(prefix, sizeof(prefix), "%s" AT, base_of(stem));
	int r = each(dir, prefix, count_one, &n, err);
	return r < 0 ? r : n;
}

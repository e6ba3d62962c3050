/* SPDX-License-Identifier: Apache-2.0 */
#include "node/bases.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "node/snapshot_disks.h"
#include "util/err.h"

enum { STAMP_MAX = 128 };

/* "POOL/bases/BASE/NAME/USER" down to what is not NULL; from malloc(). */
static char *path_of(const char *pool, const char *base, const char *name, const char *user)
{
	char *out = NULL;

	return asprintf(&out, "%s/bases%s%s%s%s%s%s", pool, base ? "/" : "", base ? base : "", name ? "/" : "", name ? name : "",
			user ? "/" : "", user ? user : "") < 0 ? NULL : out;
}

/* --- who uses it ---------------------------------------------------- */

/* What tells that a disk has been written: the guest's first mount does. */
static int stamp_of(const char *disk, char stamp[STAMP_MAX])
{
	struct stat st;

	if (stat(disk, &st) < 0)
		return -errno;
	snprintf(stamp, STAMP_MAX, "%llu %lld %lld.%09ld\n", (unsigned long long)st.st_ino, (long long)st.st_size,
		 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	return 0;
}

/* USER uses BASE; STAMP is that of its disk, when there is nothing in it yet, or "". */
static int note_user(const char *pool, const char *base, const char *user, const char *stamp, struct err *err)
{
	AUTO(free) char *path = path_of(pool, base, "users", user);
	AUTO_FD int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	if (!path)
		return err_set(err, -ENOMEM, "out of memory");
	if (fd < 0 || write(fd, stamp, strlen(stamp)) < 0 || fsync(fd) < 0)
		return err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno));
	return files_sync_above(path, err);
}

/* 1: USER uses BASE; STAMP gets what was noted. 0: it does not. */
static int find_user(const char *pool, const char *base, const char *user, char stamp[STAMP_MAX])
{
	AUTO(free) char *path = path_of(pool, base, "users", user);
	AUTO_FD int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	ssize_t n = fd < 0 ? -1 : read(fd, stamp, STAMP_MAX - 1);

	if (n >= 0)
		stamp[n] = 0;
	return n >= 0;
}

/* TELL each base of POOL, until it returns other than 0. */
static int each_base(const char *pool, int (*tell)(const char *base, void *arg, struct err *err), void *arg, struct err *err)
{
	AUTO(free) char *all = path_of(pool, NULL, NULL, NULL);
	DIR *d = all ? opendir(all) : NULL;
	const struct dirent *e;
	int r = 0;

	if (!d)
		return all && errno == ENOENT ? 0 : err_set(err, all ? -errno : -ENOMEM, "cannot read the bases of '%s'", pool);
	/* Half-made ones have a dot in their name. */
	while (!r && (e = readdir(d)) != NULL)
		if (!strchr(e->d_name, '.'))
			r = tell(e->d_name, arg, err);
	closedir(d);
	return r;
}

/* --- taking ---------------------------------------------------- */

struct search {
	const struct base_request *q;
	char stamp[STAMP_MAX];          /* of the original's disk now */
	char found[DOC_UID_LEN + 1];
};

static int is_untouched(const char *base, void *arg, struct err *err)
{
	struct search *s = arg;
	char stamp[STAMP_MAX];

	(void)err;
	if (strlen(base) > DOC_UID_LEN || !find_user(s->q->pool, base, s->q->source, stamp) || strcmp(stamp, s->stamp) != 0)
		return 0;
	strcpy(s->found, base);
	return 1;
}

/* What the original is on already is below the new base, or below a copy of its file, too. */
static int note_below(const char *base, void *arg, struct err *err)
{
	const struct base_request *q = arg;
	char stamp[STAMP_MAX];

	return strcmp(base, q->clone) != 0 && find_user(q->pool, base, q->source, stamp) ? note_user(q->pool, base, q->clone, "", err) : 0;
}

static int check_snapshots(const char *root, struct err *err)
{
	int n = snapshot_count(root, err);

	return n <= 0 ? n : err_set(err, -EBUSY, "there are snapshots in its disk, which would stay behind in what the two share; remove "
				    "them first, or make a clone that is not linked");
}

/* Its folder with the two users; it comes under its name at once. */
static int make_folder(const struct base_request *q, struct err *err)
{
	char name[DOC_UID_LEN + 8];

	snprintf(name, sizeof(name), "%s.new", q->clone);
	AUTO(free) char *all = path_of(q->pool, NULL, NULL, NULL), *new = path_of(q->pool, name, NULL, NULL);
	AUTO(free) char *users = path_of(q->pool, name, "users", NULL), *to = path_of(q->pool, q->clone, NULL, NULL);
	if (!all || !new || !users || !to)
		return err_set(err, -ENOMEM, "out of memory");
	if (!access(to, F_OK))
		return 0;
	int r = files_make_dir(all, err);
	if (!r)
		r = files_remove(new, err);
	if (!r)
		r = files_make_dir(new, err);
	if (!r)
		r = files_make_dir(users, err);
	if (!r)
		r = note_user(q->pool, name, q->source, "", err);
	if (!r)
		r = note_user(q->pool, name, q->clone, "", err);
	if (!r && rename(new, to) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", new, strerror(errno));
	return r < 0 ? r : files_sync_above(to, err);
}

/* Is the disk ROOT a layer right above DISK? */
static bool is_on(const char *root, const char *disk)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = root, .fd = -1, .format = "qcow2", .is_readonly = true };

	return !blk_open(&b, NULL, &o, NULL) && blk_backing(b) && !strcmp(blk_name(blk_backing(b)), disk);
}

/* The original's disk gets a second name, as DISK (one in a subvolume of its own: a copy that shares its blocks), and then an empty
 * layer takes its first. What is in DISK is what the original has until then, and nobody else uses DISK before. 1: a daemon before this
 * has come so far, and it may have been written since. */
static int split(const struct base_request *q, const char *disk, struct err *err)
{
	struct stat root, base = { .st_ino = 0 };

	if (stat(q->root, &root) < 0)
		return err_set(err, -errno, "cannot look at '%s': %s", q->root, strerror(errno));
	if (!stat(disk, &base) && (base.st_dev == root.st_dev ? base.st_ino != root.st_ino : is_on(q->root, disk)))
		return 1;
	/* A copy that is not used: what was written since is not in it. */
	if (base.st_ino && base.st_dev != root.st_dev)
		(void)unlink(disk);
	int r = check_snapshots(q->root, err);
	if (!r && link(q->root, disk) < 0 && errno != EEXIST)
		r = errno == EXDEV ? disk_files_copy(q->root, disk, NULL, NULL, err) :
				     err_set(err, -errno, "cannot make '%s': %s", disk, strerror(errno));
	if (!r)
		r = files_sync_above(disk, err);
	if (!r)
		r = base_make_layer(q->root, disk, err);
	if (!r && chmod(disk, 0400) < 0)
		r = err_set(err, -errno, "cannot protect '%s': %s", disk, strerror(errno));
	return r;
}

static int make_base(const struct base_request *q, char **disk, struct err *err)
{
	char stamp[STAMP_MAX];
	AUTO(free) char *to = path_of(q->pool, q->clone, "disk.qcow2", NULL);
	int r = !to ? err_set(err, -ENOMEM, "out of memory") : access(to, F_OK) < 0 ? check_snapshots(q->root, err) : 0;

	if (!r)
		r = make_folder(q, err);
	if (!r)
		r = each_base(q->pool, note_below, (void *)q, err);
	if (!r)
		r = split(q, to, err);
	if (!r && stamp_of(q->root, stamp) == 0)
		r = note_user(q->pool, q->clone, q->source, stamp, err);
	if (r < 0)
		return r;
	*disk = take_ptr(&to);
	return 0;
}

int base_take(const struct base_request *q, char **disk, struct err *err)
{
	struct search s = { .q = q };
	int r = stamp_of(q->root, s.stamp);

	if (r < 0)
		return err_set(err, r, "cannot look at '%s': %s", q->root, strerror(-r));
	r = each_base(q->pool, is_untouched, &s, err);
	if (r <= 0)
		return r < 0 ? r : make_base(q, disk, err);
	r = note_user(q->pool, s.found, q->clone, "", err);
	if (r < 0)
		return r;
	*disk = path_of(q->pool, s.found, "disk.qcow2", NULL);
	return *disk ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* May the disk ROOT be above DISK, somewhere in its chain? */
static bool is_above(const char *root, const char *disk)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = root, .fd = -1, .format = "qcow2", .is_readonly = true, .is_unlocked = true };

	if (access(root, F_OK) < 0)
		return errno != ENOENT;
	if (blk_open(&b, NULL, &o, NULL) < 0)
		return true;
	for (const struct blk *below = blk_backing(b); below; below = blk_backing(below))
		if (!strcmp(blk_name(below), disk))
			return true;
	return false;
}

int base_undo(const struct base_request *q, struct err *err)
{
	AUTO(free) char *disk = path_of(q->pool, q->clone, "disk.qcow2", NULL), *note = path_of(q->pool, q->clone, "users", q->source);

	if (!disk || !note)
		return err_set(err, -ENOMEM, "out of memory");
	if (!access(note, F_OK) && !is_above(q->root, disk) && unlink(note) < 0)
		return err_set(err, -errno, "cannot remove '%s': %s", note, strerror(errno));
	return bases_release(q->pool, q->clone, err);
}

int bases_share(const struct base_request *q, struct err *err)
{
	return each_base(q->pool, note_below, (void *)q, err);
}

int base_make_layer(const char *path, const char *disk, struct err *err)
{
	AUTO(free) char *tmp = NULL;
	struct blk_create c = { .format = "qcow2", .size = BLK_SIZE_OF_BACKING, .backing = disk, .backing_format = "qcow2" };

	if (asprintf(&tmp, "%s.tmp", path) < 0) {
		tmp = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	(void)unlink(tmp);
	c.path = tmp;
	int r = blk_create(&c, err);
	AUTO_FD int fd = r < 0 ? -1 : open(tmp, O_RDONLY | O_CLOEXEC);
	if (!r && (fd < 0 || fsync(fd) < 0 || rename(tmp, path) < 0))
		r = err_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	return r < 0 ? r : files_sync_above(path, err);
}

/* --- releasing ---------------------------------------------------- */

struct release {
	const char *pool, *user;
	char unused[DOC_UID_LEN + 1];   /* one that has no users any more */
};

static int forget_user(const char *base, void *arg, struct err *err)
{
	const struct release *l = arg;
	AUTO(free) char *note = path_of(l->pool, base, "users", l->user);

	if (!note)
		return err_set(err, -ENOMEM, "out of memory");
	return unlink(note) < 0 && errno != ENOENT ? err_set(err, -errno, "cannot remove '%s': %s", note, strerror(errno)) : 0;
}

/* Only a folder that is empty can be removed; from that moment on nobody uses the base, whatever ends in between. */
static int is_unused(const char *base, void *arg, struct err *err)
{
	struct release *l = arg;
	AUTO(free) char *users = path_of(l->pool, base, "users", NULL);

	if (!users)
		return err_set(err, -ENOMEM, "out of memory");
	if (strlen(base) > DOC_UID_LEN || (rmdir(users) < 0 && errno != ENOENT))
		return 0;
	strcpy(l->unused, base);
	return 1;
}

/* What it was on may go next. */
static int remove_base(struct release *l, struct err *err)
{
	struct release own = { .pool = l->pool, .user = l->unused };
	AUTO(free) char *path = path_of(l->pool, l->unused, NULL, NULL);
	int r = path ? each_base(l->pool, forget_user, &own, err) : err_set(err, -ENOMEM, "out of memory");

	return r < 0 ? r : files_remove(path, err);
}

int bases_release(const char *pool, const char *user, struct err *err)
{
	struct release l = { .pool = pool, .user = user };
	AUTO(free) char *half = NULL;
	int r;

	if (asprintf(&half, "%s/bases/%s.new", pool, user) < 0) {
		half = NULL;
		return err_set(err, -ENOMEM, "out of memory");
	}
	r = files_remove(half, err);
	if (!r)
		r = each_base(pool, forget_user, &l, err);
	while (!r && (r = each_base(pool, is_unused, &l, err)) > 0)
		r = remove_base(&l, err);
	return r;
}

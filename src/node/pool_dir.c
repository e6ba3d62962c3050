/* SPDX-License-Identifier: Apache-2.0 */
#include "node/pool_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "node/subvolume.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { MARKER_MAX = 96, POOL_PATH_MAX = 400 };

#define MARKER_WORDS "vivarium pool "
#define DRIVER_WORDS "\ndriver "
#define MARKER_NEW ".viv-pool.new"

static const char *const dirs[] = { "volumes", "instances", "bases" };
static const char *const drivers[] = { [POOL_DRIVER_DIR] = "dir", [POOL_DRIVER_BTRFS] = "btrfs" };

const char *pool_driver_name(enum pool_driver d)
{
	return drivers[d];
}

/* --- paths ---------------------------------------------------- */

int pool_dir_check_path(const char *path, struct err *err)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len < 2)
		return err_set(err, -EINVAL, "'%.200s' cannot be a pool: it is a directory below '/'", path);
	if (len > POOL_PATH_MAX)
		return err_set(err, -EINVAL, "the path of a pool has at most %d bytes", POOL_PATH_MAX);
	for (const char *p = path; *p; p += 1 + strcspn(p + 1, "/")) {
		size_t n = strcspn(p + 1, "/");

		if (!n || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
			return err_set(err, -EINVAL, "'%s' is not written plainly: no '//', no '/' at the end, no '.' or '..'", path);
	}
	return 0;
}

static bool is_within(const char *a, const char *b)
{
	size_t n = strlen(b);

	return !strncmp(a, b, n) && (!a[n] || a[n] == '/');
}

bool pool_dir_overlap(const char *a, const char *b)
{
	return is_within(a, b) || is_within(b, a);
}

/* --- the mount ---------------------------------------------------- */

void pool_dir_mount_type(FILE *mountinfo, uint64_t id, char type[POOL_TYPE_MAX], bool *is_for_others)
{
	char line[4096];

	type[0] = 0;
	*is_for_others = true;
	while (fgets(line, sizeof(line), mountinfo)) {
		unsigned long long its;
		const char *rest = strstr(line, " - ");

		if (!rest || sscanf(line, "%llu", &its) != 1 || its != id)
			continue;
		snprintf(type, POOL_TYPE_MAX, "%.*s", (int)strcspn(rest + 3, " \n"), rest + 3);
		*is_for_others = strncmp(type, "fuse", 4) != 0 || strstr(rest, "allow_other");
	}
}

/* By the mount: what stat() has as the device of a subvolume is not in the list. */
static void find_type(int dir, char type[POOL_TYPE_MAX], bool *is_for_others)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	struct statx st;

	*is_for_others = true;
	if (f && !statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) && st.stx_mask & STATX_MNT_ID)
		pool_dir_mount_type(f, st.stx_mnt_id, type, is_for_others);
	if (f)
		fclose(f);
}

/* Root's machines run as nobody. */
static int check_others(int dir, const char *path, struct err *err)
{
	char type[POOL_TYPE_MAX];
	bool is_for_others;

	find_type(dir, type, &is_for_others);
	if (is_for_others || geteuid())
		return 0;
	return err_set(err, -EPERM, "'%s' is for who has mounted it alone, and machines run as another user: mount it with the option 'allow_other'", path);
}

/* --- the directory ---------------------------------------------------- */

/* No symbolic link on the way: what is checked is what is used. */
static int open_plain(int at, const char *path, int flags)
{
	struct open_how how = { .flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_NO_SYMLINKS };

	return (int)syscall(SYS_openat2, at, path, &how, sizeof(how));
}

static int open_dir(const char *path, struct err *err)
{
	int fd = open_plain(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		return fd;
	if (errno == ELOOP)
		return err_set(err, -EINVAL, "there is a symbolic link in '%s'; name the directory itself", path);
	return err_set(err, -errno, "cannot open the directory '%s': %s", path, strerror(errno));
}

/* Whoever may rename what is in there may put anything in its place. */
static int check_owner(int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot look at '%s': %s", path, strerror(errno));
	if ((st.st_uid != geteuid() && st.st_uid != 0) || (st.st_mode & 022 && !(st.st_mode & S_ISVTX)))
		return err_set(err, -EPERM, "others may change what is in '%s': it must belong to who runs vivd, and nobody else may "
			       "write there (chmod go-w)", path);
	return 0;
}

/* One that says nothing of it is older than drivers are. */
static int find_driver(const char *text, enum pool_driver *driver, struct err *err)
{
	const char *at = strstr(text, DRIVER_WORDS);

	*driver = POOL_DRIVER_DIR;
	if (!at)
		return 0;
	at += strlen(DRIVER_WORDS);
	for (unsigned i = 0; i < ARRAY_LEN(drivers); i++)
		if (strlen(drivers[i]) == strcspn(at, "\n") && !strncmp(at, drivers[i], strlen(drivers[i]))) {
			*driver = (enum pool_driver)i;
			return 0;
		}
	return err_set(err, -ENOTSUP, "the file '" POOL_MARKER "' names a driver that this version does not have");
}

/* The uid in the marker; "": there is none. */
static int read_marker(int dir, char uid[MARKER_MAX], enum pool_driver *driver, struct err *err)
{
	char text[MARKER_MAX + 1] = "";
	AUTO_FD int fd = openat(dir, POOL_MARKER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	uid[0] = 0;
	if (fd < 0 && errno == ENOENT)
		return 0;
	ssize_t n = fd < 0 ? -1 : read(fd, text, MARKER_MAX);
	if (n < 0)
		return err_set(err, -errno, "cannot read the file '" POOL_MARKER "': %s", strerror(errno));
	if (strncmp(text, MARKER_WORDS, strlen(MARKER_WORDS)) != 0)
		return err_set(err, -EBADMSG, "the file '" POOL_MARKER "' is not that of a pool");
	snprintf(uid, MARKER_MAX, "%.*s", (int)strcspn(text + strlen(MARKER_WORDS), "\n"), text + strlen(MARKER_WORDS));
	return find_driver(text, driver, err);
}

/* Under its name it is whole. */
static int write_marker(int dir, const char *uid, enum pool_driver driver, struct err *err)
{
	AUTO_FD int fd = openat(dir, MARKER_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, MARKER_WORDS "%s" DRIVER_WORDS "%s\n", uid, drivers[driver]) < 0 || fsync(fd) < 0 ||
	    renameat(dir, MARKER_NEW, dir, POOL_MARKER) < 0 || fsync(dir) < 0)
		return err_set(err, -errno, "cannot write the file '" POOL_MARKER "': %s", strerror(errno));
	return 0;
}

static int make_dir(int dir, const char *name, struct err *err)
{
	struct stat st;

	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make the directory '%s' in it: %s", name, strerror(errno));
	AUTO_FD int fd = open_plain(dir, name, O_RDONLY | O_DIRECTORY);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open the directory '%s' in it: %s", name, strerror(errno));
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(err, -EPERM, "there is a directory '%s' in it already that others may change", name);
	return 0;
}

/* WANTED, or what fits to the file system. */
static int choose_driver(int dir, const char *wanted, enum pool_driver *out, struct err *err)
{
	bool can = subvolume_can(dir);

	if (!strcmp(wanted, drivers[POOL_DRIVER_BTRFS]) && !can)
		return err_set(err, -EINVAL, "the driver 'btrfs' is for directories of a btrfs; leave 'driver' out");
	*out = can && strcmp(wanted, drivers[POOL_DRIVER_DIR]) != 0 ? POOL_DRIVER_BTRFS : POOL_DRIVER_DIR;
	return 0;
}

static int make_marked(int dir, const char *uid, const char *wanted, struct err *err)
{
	char is[MARKER_MAX];
	enum pool_driver driver;
	int r = read_marker(dir, is, &driver, err);

	if (!r && is[0] && strcmp(is, uid) != 0)
		return err_set(err, -EEXIST, "it is another pool already, with the uid %s; if that pool is no more, remove the file '"
			       POOL_MARKER "' there", is);
	for (unsigned i = 0; !r && i < ARRAY_LEN(dirs); i++)
		r = make_dir(dir, dirs[i], err);
	if (!r && !is[0])
		r = choose_driver(dir, wanted, &driver, err);
	return r || is[0] ? r : write_marker(dir, uid, driver, err);
}

int pool_dir_make(const char *path, const char *uid, const char *driver, struct err *err)
{
	AUTO_FD int dir = open_dir(path, err);
	int r = dir < 0 ? dir : check_owner(dir, path, err);

	if (!r)
		r = check_others(dir, path, err);
	if (!r)
		r = pool_dir_try_locks(dir, err);
	if (!r)
		r = make_marked(dir, uid, driver, err);
	return r < 0 ? err_wrap(err, r, "'%s' cannot be a pool", path) : 0;
}

int pool_dir_open(const char *path, const char *uid, struct err *err)
{
	char is[MARKER_MAX];
	enum pool_driver driver;
	AUTO_FD int dir = uid[0] ? open_dir(path, err) : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return uid[0] ? err_set(err, -ESTALE, "%s", err ? err->msg : "") :
				err_set(err, -ESTALE, "cannot open '%s': %s", path, strerror(errno));
	int r = uid[0] ? read_marker(dir, is, &driver, err) : 0;
	if (r < 0)
		return err_wrap(err, -ESTALE, "'%s'", path);
	if (uid[0] && !is[0])
		return err_set(err, -ESTALE, "'%s' is there, but not the pool: the file '" POOL_MARKER "' is missing; is it mounted?", path);
	if (uid[0] && strcmp(is, uid) != 0)
		return err_set(err, -ESTALE, "at '%s' is another pool, with the uid %s; is the right one mounted?", path, is);
	return take_fd(&dir);
}

int pool_dir_unmake(const char *path, const char *uid, struct err *err)
{
	AUTO_FD int dir = pool_dir_open(path, uid, NULL);

	for (unsigned i = 0; dir >= 0 && i < ARRAY_LEN(dirs); i++)
		if (unlinkat(dir, dirs[i], AT_REMOVEDIR) < 0 && errno != ENOENT)
			return err_set(err, -errno, "'%s/%s' cannot be removed: %s", path, dirs[i], strerror(errno));
	if (dir >= 0)
		(void)unlinkat(dir, POOL_HOST, 0);
	if (dir >= 0 && unlinkat(dir, POOL_MARKER, 0) < 0 && errno != ENOENT)
		return err_set(err, -errno, "'%s/" POOL_MARKER "' cannot be removed: %s", path, strerror(errno));
	return 0;
}

/* --- what it can ---------------------------------------------------- */

/* A file without a name, if that can be had. */
static int open_nameless(int dir, const char *name)
{
	int fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return fd;
	(void)unlinkat(dir, name, 0);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	(void)unlinkat(dir, name, 0);
	return fd;
}

static bool can_share(int dir)
{
	char block[4096] = "a block";
	AUTO_FD int from = open_nameless(dir, POOL_MARKER ".from");
	AUTO_FD int to = open_nameless(dir, POOL_MARKER ".to");

	return from >= 0 && to >= 0 && write(from, block, sizeof(block)) == sizeof(block) && !ioctl(to, FICLONE, from);
}

int pool_dir_facts(int dir, struct pool_facts *out, struct err *err)
{
	struct pool_facts is = { .driver = POOL_DRIVER_DIR };
	char uid[MARKER_MAX];
	bool is_for_others;
	int r = read_marker(dir, uid, &is.driver, err);

	if (r < 0)
		return r;
	is.shares = can_share(dir);
	find_type(dir, is.file_system, &is_for_others);
	*out = is;
	return 0;
}

/* --- room ---------------------------------------------------- */

int pool_dir_space(int dir, struct pool_space *out, struct err *err)
{
	struct statvfs s;

	if (fstatvfs(dir, &s) < 0)
		return err_set(err, -errno, "cannot tell how much room there is: %s", strerror(errno));
	*out = (struct pool_space){ .size = (uint64_t)s.f_blocks * s.f_frsize, .used = (uint64_t)(s.f_blocks - s.f_bfree) * s.f_frsize,
				    .free = (uint64_t)s.f_bavail * s.f_frsize };
	return 0;
}

/* As df counts it: of what is not kept for root. Rounded up. */
unsigned pool_dir_percent(const struct pool_space *s)
{
	double all = (double)s->used + (double)s->free, percent = all > 0 ? 100.0 * (double)s->used / all : 0;

	return (unsigned)percent + (percent > (unsigned)percent);
}

enum pool_level pool_dir_level(const struct pool_space *s, unsigned warn, unsigned limit, enum pool_level was)
{
	unsigned percent = pool_dir_percent(s);

	if (percent >= limit - (was == POOL_FULL))
		return POOL_FULL;
	return percent >= warn - (was >= POOL_TIGHT) ? POOL_TIGHT : POOL_ROOMY;
}

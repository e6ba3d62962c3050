/* SPDX-License-Identifier: Apache-2.0 */
/* disk_kernel.c - a kernel and an initial RAM disk that come in one file with a disk: behind it, as a tar archive. What they are is
 * not looked at: whoever starts a machine with them trusts them no more than any guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/ova/tar.h"
#include "cli/disk.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { MEMBERS_MAX = 2, CHUNK = 1 << 20, PATH_CAP = 4096, NAME_CAP = TAR_NAME_MAX + 8 };

/* Larger ones are no kernels. */
static const uint64_t member_max = (uint64_t)1 << 30;

struct trailer {
	int fd;
	uint64_t at;                    /* where the archive begins */
};

static int read_at(void *arg, uint64_t off, void *buf, size_t len)
{
	const struct trailer *t = arg;

	for (size_t done = 0; done < len;) {
		ssize_t n = pread(t->fd, (char *)buf + done, len - done, (off_t)(t->at + off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int copy(struct trailer *t, const struct tar_member *m, int to)
{
	AUTO(free) char *buf = malloc(CHUNK);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t done = 0; !r && done < m->len;) {
		size_t len = m->len - done < CHUNK ? (size_t)(m->len - done) : CHUNK;
		ssize_t n;

		r = read_at(t, m->off + done, buf, len);
		n = r < 0 ? -1 : write(to, buf, len);
		if (!r && n < 0 && errno != EINTR)
			r = -errno;
		done += n > 0 ? (uint64_t)n : 0;
	}
	return !r && fsync(to) < 0 ? -errno : r;
}

/* M becomes a file in DIR, under its name when it is whole. */
static int take(struct trailer *t, const struct tar_member *m, const char *dir, struct err *err)
{
	char tmp[PATH_CAP + NAME_CAP], path[PATH_CAP + NAME_CAP];

	snprintf(tmp, sizeof(tmp), "%s/%s.tmp", dir, m->name);
	snprintf(path, sizeof(path), "%s/%s", dir, m->name);
	AUTO_FD int to = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = to < 0 ? -errno : copy(t, m, to);
	if (!r && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(tmp);
	return r < 0 ? err_set(err, r, "cannot make '%s': %s", path, strerror(-r)) : 0;
}

static int check(const struct tar_member *m, unsigned n, const char *name, struct err *err)
{
	bool has_kernel = false;

	for (unsigned i = 0; i < n; i++) {
		has_kernel |= !strcmp(m[i].name, "vmlinuz");
		if ((strcmp(m[i].name, "vmlinuz") != 0 && strcmp(m[i].name, "initrd.img") != 0) || m[i].len > member_max)
			return err_set(err, -EINVAL, "what is behind the disk in '%s' is no kernel", name);
	}
	return has_kernel ? 0 : err_set(err, -EINVAL, "there is no 'vmlinuz' behind the disk in '%s'", name);
}

int disk_take_kernel(const char *from, uint64_t at, const char *beside, struct err *err)
{
	struct trailer t = { .at = at };
	struct tar_member members[MEMBERS_MAX];
	char dir[PATH_CAP];
	const char *slash = strrchr(beside, '/');
	unsigned n = 0;
	struct stat st;
	AUTO_FD int fd = open(from, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", from, strerror(errno));
	if (at >= (uint64_t)st.st_size)
		return err_set(err, -EINVAL, "'%s' ends before the kernel that shall be in it", from);
	if (snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - beside) : 1, slash ? beside : ".") >= (int)sizeof(dir))
		return err_set(err, -ENAMETOOLONG, "'%s' is too long", beside);
	t.fd = fd;
	struct ova_source s = { .read = read_at, .arg = &t, .size = (uint64_t)st.st_size - at, .name = from };
	int r = tar_list(&s, members, MEMBERS_MAX, &n, err);
	if (!r)
		r = check(members, n, from, err);
	for (unsigned i = 0; !r && i < n; i++)
		r = take(&t, &members[i], dir, err);
	return r;
}

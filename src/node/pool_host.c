/* SPDX-License-Identifier: Apache-2.0 */
/* pool_host.c - which daemon uses a pool: a file in it has its host and its directory. Locks keep two machines from writing one disk,
 * where the file system tells them to other hosts, and no FUSE file system has to; and nothing but this keeps the daemon of a copied or
 * restored store from removing or growing what is another's by now. It changes hands only by somebody's own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/pool_dir.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { ID_MAX = 64, WHO_MAX = 4608 };

#define HOST_NEW POOL_HOST ".new"

/* Of a host that has none, its name. */
static void find_id(char id[ID_MAX])
{
	AUTO_FD int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, id, ID_MAX - 1);

	id[n > 0 ? n : 0] = 0;
	id[strspn(id, "0123456789abcdef-")] = 0;
	if (!id[0] && gethostname(id, ID_MAX - 1) < 0)
		strcpy(id, "unknown");
	id[ID_MAX - 1] = 0;
}

char *pool_host_name(const char *data_dir)
{
	AUTO(free) char *dir = realpath(data_dir, NULL);
	char id[ID_MAX], host[ID_MAX] = "", *out = NULL;

	find_id(id);
	(void)gethostname(host, sizeof(host) - 1);
	return asprintf(&out, "%s %s %s", id, host[0] ? host : "?", dir ? dir : data_dir) < 0 ? NULL : out;
}

/* The words of WHO but the name of the host, which may change. */
static void split(const char *who, char id[ID_MAX], char host[ID_MAX], const char **dir)
{
	int at = 0;

	id[0] = host[0] = 0;
	if (sscanf(who, "%63s %63s %n", id, host, &at) != 2 || !at)
		at = (int)strlen(who);
	*dir = who + at;
}

static bool is_same(const char *a, const char *b)
{
	char id_a[ID_MAX], id_b[ID_MAX], host[ID_MAX];
	const char *dir_a, *dir_b;

	split(a, id_a, host, &dir_a);
	split(b, id_b, host, &dir_b);
	return !strcmp(id_a, id_b) && !strcmp(dir_a, dir_b);
}

/* "": nobody's. */
static int read_who(int dir, char who[WHO_MAX], struct err *err)
{
	AUTO_FD int fd = openat(dir, POOL_HOST, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? (errno == ENOENT ? 0 : -1) : read(fd, who, WHO_MAX - 1);

	if (n < 0)
		return err_set(err, -errno, "cannot read the file '" POOL_HOST "': %s", strerror(errno));
	who[n] = 0;
	who[strcspn(who, "\n")] = 0;
	return 0;
}

static int check(const char *is, const char *who, struct err *err)
{
	char id[ID_MAX], host[ID_MAX];
	const char *its;

	if (is_same(is, who))
		return 0;
	split(is, id, host, &its);
	return err_set(err, -EBUSY, "the daemon of the host '%s' (%s) with the directory '%.200s' uses it, and two would write the same disks; "
		       "if that one is no more, remove the file '" POOL_HOST "' there", host, id, its);
}

static int take(int dir, const char *who, struct err *err)
{
	AUTO_FD int fd = openat(dir, HOST_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || dprintf(fd, "%s\n", who) < 0 || fsync(fd) < 0 || renameat(dir, HOST_NEW, dir, POOL_HOST) < 0 || fsync(dir) < 0)
		return err_set(err, -errno, "cannot write the file '" POOL_HOST "': %s", strerror(errno));
	return 0;
}

int pool_host_claim(int dir, const char *who, struct err *err)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char is[WHO_MAX];
	int r = read_who(dir, is, err);

	if (r < 0 || is[0])
		return r < 0 ? r : check(is, who, err);
	/* One at a time. */
	AUTO_FD int marker = openat(dir, POOL_MARKER, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (marker < 0 || fcntl(marker, F_OFD_SETLK, &lock) < 0)
		return err_set(err, errno == EACCES ? -EAGAIN : -errno, "cannot lock the file '" POOL_MARKER "': %s", strerror(errno));
	r = read_who(dir, is, err);
	if (r < 0 || is[0])
		return r < 0 ? r : check(is, who, err);
	return take(dir, who, err);
}

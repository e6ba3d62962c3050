/* SPDX-License-Identifier: Apache-2.0 */
#include "node/files.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "util/err.h"

enum { OPEN_DIRS = 16 };

int files_make_dir(const char *path, struct err *err)
{
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s': %s", path, strerror(errno));
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) < 0 && errno != ENOENT ? -errno : 0;
}

int files_remove(const char *path, struct err *err)
{
	int r = nftw(path, remove_one, OPEN_DIRS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);

	if (r == -1)
		r = -errno;
	return r < 0 && r != -ENOENT ? err_set(err, r, "cannot remove '%s': %s", path, strerror(-r)) : 0;
}

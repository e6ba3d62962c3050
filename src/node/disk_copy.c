/* SPDX-License-Identifier: Apache-2.0 */
/* disk_copy.c - whole copies of disks, which take as long as the disk is large where the file system cannot share blocks. What is half
 * copied is called ".tmp", and the next attempt overwrites it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "blk/convert.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/loop.h"

struct telling {
	bool (*tell)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

static int watch(void *arg, uint64_t done, uint64_t total)
{
	const struct telling *t = arg;

	return !t->tell || t->tell(t->arg, done, total) ? 0 : -ECANCELED;
}

static const char *format_of(const char *path)
{
	return disk_files_is_raw(path) ? "raw" : "qcow2";
}

/* What the guest sees of FROM into the new image TMP, which will be called TO. */
static int convert(const char *from, const char *to, const char *tmp, struct telling *t, struct err *err)
{
	AUTO(loop_free) struct loop *loop = NULL;
	AUTO(blk_close) struct blk *src = NULL;
	AUTO(blk_close) struct blk *dst = NULL;
	struct blk_options in = { .path = from, .fd = -1, .format = format_of(from), .is_readonly = true };
	struct blk_options out = { .path = tmp, .fd = -1, .format = format_of(to) };
	struct blk_convert how = { .is_target_zero = true, .progress = { .fn = watch, .arg = t } };
	int r = loop_new(&loop, err);

	(void)unlink(tmp);
	if (!r)
		r = blk_open(&src, loop, &in, err);
	if (r < 0)
		return r;
	struct blk_create c = { .path = tmp, .format = format_of(to), .size = blk_size(src), .final_path = to };
	r = blk_create(&c, err);
	if (!r)
		r = blk_open(&dst, loop, &out, err);
	if (!r)
		r = blk_convert(src, dst, loop, &how, err);
	if (!r && (r = blk_flush(dst)) < 0)
		err_set(err, r, "cannot write '%s': %s", tmp, strerror(-r));
	return r == -ECANCELED ? err_set(err, r, "it was cancelled") : r;
}

static int copy(const char *from, const char *tmp, struct telling *t, struct err *err)
{
	AUTO_FD int source = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FD int target = source < 0 ? -1 : open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (source < 0 || target < 0)
		return err_set(err, -errno, "cannot copy '%s' to '%s': %s", from, tmp, strerror(errno));
	return files_copy(source, target, t->tell, t->arg, err);
}

int disk_files_copy(const char *from, const char *to, bool (*tell)(void *arg, uint64_t done, uint64_t total), void *arg, struct err *err)
{
	struct telling t = { tell, arg };
	char tmp[DISK_PATH_MAX + 8];
	int r = disk_files_make_home(to, err);

	snprintf(tmp, sizeof(tmp), "%s.tmp", to);
	if (!r)
		r = strcmp(format_of(from), format_of(to)) ? convert(from, to, tmp, &t, err) : copy(from, tmp, &t, err);
	if (!r && rename(tmp, to) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", tmp, strerror(errno));
	if (!r)
		return files_sync_above(to, err);
	(void)unlink(tmp);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_copy.c - the file of a volume that nobody uses is copied, snapshots in it included. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/files.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/volume_move_priv.h"
#include "util/err.h"

static bool goes_on(void *arg, uint64_t done, uint64_t total)
{
	struct task *t = arg;

	atomic_store_explicit(&t->done, done, memory_order_relaxed);
	atomic_store_explicit(&t->total, total, memory_order_relaxed);
	return !atomic_load_explicit(&t->stop, memory_order_relaxed) &&
	       !atomic_load_explicit(&t->c.node->is_closing, memory_order_relaxed);
}

static int copy(struct move *m, const char *tmp, struct err *err)
{
	AUTO_FD int from = open(m->from.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	AUTO_FD int to = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (from < 0 || to < 0)
		return err_set(err, -errno, "cannot copy '%s' to '%s': %s", m->from.path, tmp, strerror(errno));
	return files_copy(from, to, goes_on, m->task, err);
}

int move_copy(struct move *m, struct err *err)
{
	char tmp[MOVE_PATH_MAX + 8];
	struct blk_options o = { .path = m->from.path, .fd = -1, .format = "qcow2", .is_readonly = true };
	AUTO_FD int from = pool_dir_open(m->from.pool, m->from.uid, err);
	AUTO_FD int to = from < 0 ? -1 : pool_dir_open(m->to.pool, m->to.uid, err);

	if (from < 0 || to < 0)
		return -EAGAIN;
	snprintf(tmp, sizeof(tmp), "%s.tmp", m->to.path);
	/* Nobody changes it from now on until the document names the new place. */
	int r = m->lock ? 0 : blk_open(&m->lock, NULL, &o, err);
	if (r == -EBUSY || r == -EAGAIN)
		return -EAGAIN;
	if (!r)
		r = copy(m, tmp, err);
	if (!r && rename(tmp, m->to.path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", tmp, strerror(errno));
	if (!r)
		return files_sync_above(m->to.path, err);
	/* One may be there from a daemon that was killed. */
	(void)unlink(tmp);
	(void)unlink(m->to.path);
	return r;
}

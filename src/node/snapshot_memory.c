/* SPDX-License-Identifier: Apache-2.0 */
#include "node/snapshot_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "node/files.h"
#include "node/node.h"
#include "node/machine_talk.h"
#include "util/err.h"
#include "util/json.h"

enum { ANSWER_S = 600 };                /* a slow disk takes its time for the memory of a large machine */

int snapshot_memory_init(struct snapshot_memory *m, struct node *n, char *path, const char *control, const char *snapshot, struct err *err)
{
	snapshot_memory_fini(m);
	m->node = n;
	m->path = path;
	m->control = strdup(control);
	if (!path || !m->control || asprintf(&m->tmp, "%s.tmp", path) < 0) {
		m->tmp = NULL;
		snapshot_memory_fini(m);
		return err_set(err, -ENOMEM, "out of memory");
	}
	snprintf(m->snapshot, sizeof(m->snapshot), "%s", snapshot);
	return 0;
}

void snapshot_memory_fini(struct snapshot_memory *m)
{
	free(m->path);
	free(m->tmp);
	free(m->control);
	m->path = m->tmp = m->control = NULL;
}

bool snapshot_memory_is_there(struct snapshot_memory *m)
{
	struct stat st;

	if (stat(m->path, &st) < 0)
		return false;
	m->size = (uint64_t)st.st_blocks * 512;
	return true;
}

static bool is_ending(void *arg)
{
	return atomic_load_explicit(&((struct snapshot_memory *)arg)->node->is_closing, memory_order_relaxed);
}

/* Is there more room than was too little? */
static int check_room(const struct snapshot_memory *m, struct err *err)
{
	enum { MIB = 1 << 20 };
	AUTO(free) char *folder = strdup(m->path);
	struct statvfs fs;

	if (!m->too_little || !folder || statvfs(dirname(folder), &fs) < 0)
		return 0;
	uint64_t room = (uint64_t)fs.f_bavail * fs.f_frsize;
	return room > m->too_little ? 0 :
		err_set(err, -ENOSPC, "there is room for %" PRIu64 " MiB where the disks of the machine are, and its memory takes more than %" PRIu64
			" MiB; make room, or delete the snapshot", room / MIB, m->too_little / MIB);
}

int snapshot_memory_write(struct snapshot_memory *m, struct talk *k, struct err *err)
{
	struct stat st;

	/* What a daemon before this has begun may still be written to: it is left to that. */
	if (unlink(m->tmp) < 0 && errno != ENOENT)
		return err_set(err, -errno, "cannot remove '%s': %s", m->tmp, strerror(errno));
	if (check_room(m, err) < 0)
		return -ENOSPC;
	AUTO_FD int fd = open(m->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set(err, errno == EEXIST ? -EAGAIN : -errno, "cannot make '%s': %s", m->tmp, strerror(errno));
	int r = talk_ask(k, "save", json_pack("{s:s, s:s*}", "packing", "raw", "snapshot", m->snapshot[0] ? m->snapshot : NULL), &fd,
			     NULL, err);
	if (r < 0 && k->refusal == -ENOSPC && !fstat(fd, &st))
		m->too_little = (uint64_t)st.st_blocks * 512;
	if (r < 0)
		(void)unlink(m->tmp);
	if (r != -EREMOTEIO || k->refusal == -EAGAIN)
		return r;
	err->code = k->refusal;
	return k->refusal;
}

int snapshot_memory_take(struct snapshot_memory *m, struct err *err)
{
	struct talk k = { .fd = -1, .patience_s = ANSWER_S, .is_unwanted = is_ending, .arg = m };

	if (snapshot_memory_is_there(m))
		return 0;
	int r = talk_open(&k, m->control, err);
	if (!r)
		r = snapshot_memory_write(m, &k, err);
	talk_close(&k);
	if (!r && rename(m->tmp, m->path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", m->tmp, strerror(errno));
	if (!r)
		r = files_sync_above(m->path, err);
	return r < 0 || snapshot_memory_is_there(m) ? r : err_set(err, -EAGAIN, "'%s' has gone", m->path);
}

int snapshot_memory_drop(const struct snapshot_memory *m, struct err *err)
{
	int r = files_remove(m->path, err);

	return r < 0 ? r : files_remove(m->tmp, err);
}

/* --- what it fits to ---------------------------------------------------- */

json_t *snapshot_machine(const json_t *spec)
{
	json_t *out = json_pack("{s:[], s:[]}", "disks", "networks");
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, one)
		json_array_append(json_object_get(out, "disks"), json_object_get(one, "volume"));
	json_array_foreach(json_object_get(spec, "networks"), i, one)
		json_array_append_new(json_object_get(out, "networks"), json_pack("{s:O, s:O*}", "kind", json_object_get(one, "kind"), "mac",
										  json_object_get(one, "mac")));
	return out;
}

int snapshot_check_machine(const json_t *was, const json_t *spec, struct err *err)
{
	AUTO(json_decref) json_t *is = snapshot_machine(spec);
	const char *name;
	const json_t *v;

	json_object_foreach((json_t *)was, name, v)
		if (!json_equal(v, json_object_get(is, name)))
			return err_set(err, -EBUSY, "its '%s' are not what they were when its memory was saved, and the machine would not find them; "
				       "make them so again", name);
	return 0;
}

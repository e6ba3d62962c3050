/* SPDX-License-Identifier: Apache-2.0 */
/* instance_memory.c - the memory that a machine goes on from when it is started next, instead of booting: what a snapshot had
 * ("resume.memory"), or that of another machine, of which this one is a copy ("copy.memory").
 *
 * The process is started with the guest standing still, and the file goes before the guest does: from then on the disks are not what
 * that memory knows. A daemon that was killed in between finds the file, and removes it, too; a machine that was killed is started from it once more. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/files.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/work.h"

static const char *const names[] = { [MEMORY_OWN] = "resume.memory", [MEMORY_COPY] = "copy.memory" };

char *instance_memory_path(const struct instance *i, enum instance_memory kind)
{
	return node_path(i->dir, names[kind]);
}

enum instance_memory instance_next_memory(const struct instance *i)
{
	for (enum instance_memory kind = MEMORY_OWN; kind <= MEMORY_COPY; kind++) {
		AUTO(free) char *path = instance_memory_path(i, kind);

		if (path && !access(path, F_OK))
			return kind;
	}
	return MEMORY_NONE;
}

/* --- forgetting it ---------------------------------------------------- */

struct forget_job {
	struct instance *i;
	char *path[MEMORY_COPY + 1];
};

static int forget(void *arg, struct err *err)
{
	struct forget_job *j = arg;
	int r = 0;

	for (enum instance_memory kind = MEMORY_OWN; !r && kind <= MEMORY_COPY; kind++)
		r = files_remove(j->path[kind], err);
	return r < 0 ? r : files_sync_above(j->path[MEMORY_OWN], err);
}

static void job_free(struct forget_job *j)
{
	for (enum instance_memory kind = MEMORY_OWN; kind <= MEMORY_COPY; kind++)
		free(j->path[kind]);
	free(j);
}

static void forgotten(void *arg, int r, const struct err *err)
{
	struct forget_job *j = arg;
	struct instance *i = j->i;

	job_free(j);
	i->is_forgetting = false;
	instance_release(i);
	if (r < 0)
		controlled_failed(&i->c, err);
}

void instance_forget_memory(struct instance *i)
{
	struct forget_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (i->is_forgetting || !j) {
		free(j);
		return;
	}
	j->i = i;
	for (enum instance_memory kind = MEMORY_OWN; kind <= MEMORY_COPY; kind++)
		j->path[kind] = instance_memory_path(i, kind);
	if (j->path[MEMORY_OWN] && j->path[MEMORY_COPY] && !work_start(i->c.node->works, forget, forgotten, j)) {
		i->is_forgetting = true;
		instance_hold(i, false);
		return;
	}
	job_free(j);
	err_set(&err, -ENOMEM, "out of memory");
	controlled_failed(&i->c, &err);
}

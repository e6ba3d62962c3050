/* SPDX-License-Identifier: Apache-2.0 */
/* instance_disk.c - the first disk of an instance, a layer over its image, and the removal of all its files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/files.h"
#include "node/image.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/work.h"

char *instance_root_path(const struct instance *i)
{
	return node_path(i->dir, "root.qcow2");
}

/* What a worker needs; the instance itself belongs to the loop. */
struct disk_job {
	struct instance *i;
	char *dir, *run_dir, *path, *tmp;
	struct image_files image;
	uint64_t size;
};

static void job_free(struct disk_job *j)
{
	free(j->dir);
	free(j->run_dir);
	free(j->path);
	free(j->tmp);
	image_files_free(&j->image);
	free(j);
}

/* Under its name it is whole: a crash leaves a file that the next attempt overwrites. */
static int make_disk(void *arg, struct err *err)
{
	struct disk_job *j = arg;
	struct blk_create c = { .path = j->tmp, .format = "qcow2", .size = j->size, .backing = j->image.disk,
				.backing_format = j->image.format };
	int r = files_make_dir(j->dir, err);

	if (!r)
		r = blk_create(&c, err);
	if (!r && rename(j->tmp, j->path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", j->tmp, strerror(errno));
	return r;
}

static void disk_made(void *arg, int r, const struct err *err)
{
	struct disk_job *j = arg;
	struct instance *i = j->i;

	job_free(j);
	instance_disk_done(i, r, err);
}

int instance_make_disk(struct instance *i, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	struct disk_job *j = calloc(1, sizeof(*j));

	if (!j)
		return err_set(err, -ENOMEM, "out of memory");
	j->i = i;
	j->dir = strdup(i->dir);
	j->path = instance_root_path(i);
	j->tmp = node_path(i->dir, "root.qcow2.tmp");
	j->size = (uint64_t)json_integer_value(json_object_get(spec, "disk_size"));
	int r = image_find(i->c.node, i->c.project, json_string_value(json_object_get(spec, "image")), &j->image, err);
	if (!r && (!j->dir || !j->path || !j->tmp || work_start(i->c.node->works, make_disk, disk_made, j) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		job_free(j);
	return r;
}

static int remove_files(void *arg, struct err *err)
{
	struct disk_job *j = arg;
	int r = files_remove(j->run_dir, err);

	return r < 0 ? r : files_remove(j->dir, err);
}

static void files_removed(void *arg, int r, const struct err *err)
{
	struct disk_job *j = arg;
	struct instance *i = j->i;

	job_free(j);
	instance_removed(i, r, err);
}

int instance_remove_files(struct instance *i, struct err *err)
{
	struct disk_job *j = calloc(1, sizeof(*j));

	if (!j)
		return err_set(err, -ENOMEM, "out of memory");
	j->i = i;
	j->dir = strdup(i->dir);
	j->run_dir = strdup(i->run_dir);
	if (j->dir && j->run_dir && !work_start(i->c.node->works, remove_files, files_removed, j))
		return 0;
	job_free(j);
	return err_set(err, -ENOMEM, "out of memory");
}

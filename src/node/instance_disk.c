/* SPDX-License-Identifier: Apache-2.0 */
/* instance_disk.c - the first disk of an instance, a layer over its image or a copy that shares blocks with it, and the removal of
 * all its files. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/bases.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "node/image.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/pool_dir.h"
#include "node/subvolume.h"
#include "node/work.h"
#include "util/log.h"

enum { LOG_MAX = 4 << 20 };

/* Of its files in its pool; NULL: they are all in I->dir. */
static char *pool_dir_of(const struct instance *i)
{
	const char *path = strcmp(i->pool, POOL_DEFAULT) ? pool_path(i->c.node, i->pool) : NULL;
	AUTO(free) char *all = path ? node_path(path, "instances") : NULL;

	return all ? node_path(all, i->c.uid) : NULL;
}

char *instance_root_path(const struct instance *i)
{
	AUTO(free) char *own = node_path(i->dir, "root.qcow2"), *dir = pool_dir_of(i);

	/* One that was copied from another instance's is here, wherever that one's is. */
	return !dir || (own && !access(own, F_OK)) ? take_ptr(&own) : node_path(dir, "root.qcow2");
}

bool instance_has_disk_here(const struct instance *i, const char *root)
{
	return !strncmp(root, i->dir, strlen(i->dir));
}

/* What a worker needs; the instance itself belongs to the loop. */
struct disk_job {
	struct instance *i;
	char *dir, *run_dir, *pool_dir, *path, *tmp;
	char *pool;                     /* and UID: as pool_dir_open() has it */
	enum pool_driver driver;
	char uid[DOC_UID_LEN + 1];
	struct image_files image;
	struct fork_files fork;
	uint64_t size;
	bool is_cold;                   /* the template could not be copied */
};

static struct disk_job *job_new(struct instance *i, struct err *err)
{
	struct disk_job *j = calloc(1, sizeof(*j));
	struct pool_ref pool;
	/* Of one that has not been made yet there is nothing to be removed from there. */
	int r = pool_find(i->c.node, pool_is_unborn(i->c.node, i->pool) ? NULL : i->pool, &pool, err);

	if (r < 0 || !j) {
		free(j);
		if (!r)
			err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	j->i = i;
	j->dir = strdup(i->dir);
	j->run_dir = strdup(i->run_dir);
	j->pool_dir = pool_dir_of(i);
	j->pool = strdup(pool.path);
	snprintf(j->uid, sizeof(j->uid), "%s", pool.uid);
	j->driver = pool.driver;
	return j;
}

static void job_free(struct disk_job *j)
{
	free(j->dir);
	free(j->run_dir);
	free(j->pool_dir);
	free(j->pool);
	free(j->path);
	free(j->tmp);
	image_files_free(&j->image);
	instance_fork_fini(&j->fork);
	free(j);
}

/* In a pool whose file system shares blocks with the image's: a copy of it. False: it is not like that. */
static bool share_image(const struct disk_job *j)
{
	if (!j->pool_dir || strcmp(j->image.format, "qcow2") != 0)
		return false;
	AUTO_FD int from = open(j->image.disk, O_RDONLY | O_CLOEXEC);
	AUTO_FD int to = open(j->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	return from >= 0 && to >= 0 && !ioctl(to, FICLONE, from) && !fsync(to);
}

static int grow_disk(const struct disk_job *j, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = j->tmp, .fd = -1, .format = "qcow2" };
	int r = blk_open(&b, NULL, &o, err);

	return r < 0 || blk_size(b) >= j->size ? r : blk_resize(b, j->size, BLK_PREALLOC_OFF, err);
}

static int make_layer(const struct disk_job *j, struct err *err)
{
	struct blk_create c = { .path = j->tmp, .format = "qcow2", .size = j->size, .backing = j->image.disk,
				.backing_format = j->image.format };

	(void)unlink(j->tmp);
	return blk_create(&c, err);
}

/* As a template, or what it needs to boot. */
static int make_whole(struct disk_job *j, struct err *err)
{
	if (j->fork.from && !instance_fork_make(&j->fork, j->tmp, err))
		return 0;
	if (j->fork.from)
		log_warn("'%s' boots: %s", j->i->c.name, err->msg);
	j->is_cold = j->fork.from;
	*err = (struct err)ERR_INIT;
	int r = instance_fork_clear(&j->fork, err);
	return r < 0 ? r : share_image(j) ? grow_disk(j, err) : make_layer(j, err);
}

/* Under its name it is whole: a crash leaves a file that the next attempt overwrites. */
static int make_disk(void *arg, struct err *err)
{
	struct disk_job *j = arg;
	AUTO_FD int pool = pool_dir_open(j->pool, j->uid, err);
	int r = pool < 0 ? pool : files_make_dir(j->dir, err);

	/* Nobody has looked. */
	if (!r && j->pool_dir && !access(j->path, F_OK))
		return 0;
	if (!r && j->pool_dir)
		r = disk_files_make_dir(j->pool_dir, j->driver, err);
	if (!r)
		r = make_whole(j, err);
	if (!r && rename(j->tmp, j->path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", j->tmp, strerror(errno));
	return r;
}

static void disk_made(void *arg, int r, const struct err *err)
{
	struct disk_job *j = arg;
	struct instance *i = j->i;

	if (j->is_cold)
		snprintf(i->start_note, sizeof(i->start_note), "it booted: the template of its image could not be copied");
	job_free(j);
	i->has_disk = !r;
	i->is_fork = instance_is_marked(i);
	instance_disk_done(i, r, err);
}

int instance_make_disk(struct instance *i, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	struct disk_job *j = job_new(i, err);

	if (!j)
		return err->code;
	j->path = instance_root_path(i);
	j->tmp = node_path(j->pool_dir ? j->pool_dir : i->dir, "root.qcow2.tmp");
	j->size = (uint64_t)json_integer_value(json_object_get(spec, "disk_size"));
	int r = image_find(i->c.node, i->c.project, json_string_value(json_object_get(spec, "image")), &j->image, err);
	if (!r)
		r = instance_fork_init(&j->fork, i, err);
	if (!r)
		instance_fork_choose(i, doc, &j->fork);
	if (!r && (!j->dir || !j->path || !j->tmp || !j->pool || work_start(pool_works(i->c.node, i->pool), make_disk, disk_made, j) < 0))
		r = err_set(err, -ENOMEM, "out of memory");
	if (r < 0)
		job_free(j);
	return r;
}

/* What the process before said is kept once. The file is made here: whoever opens it then has not to wait for the disk. */
static int prepare(void *arg, struct err *err)
{
	struct disk_job *j = arg;
	char old[PATH_MAX];
	struct stat st;
	int r = files_make_dir(j->dir, err);

	if (r < 0)
		return r;
	snprintf(old, sizeof(old), "%s.1", j->path);
	if (!stat(j->path, &st) && st.st_size > LOG_MAX && rename(j->path, old) < 0)
		log_warn("cannot rename '%s': %s", j->path, strerror(errno));
	AUTO_FD int fd = open(j->path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? err_set(err, -errno, "cannot open '%s': %s", j->path, strerror(errno)) : 0;
}

static void prepared(void *arg, int r, const struct err *err)
{
	struct disk_job *j = arg;
	struct instance *i = j->i;

	job_free(j);
	i->is_prepared = !r;
	instance_disk_done(i, r, err);
}

void instance_prepare(struct instance *i)
{
	struct err err = ERR_INIT;
	struct disk_job *j = job_new(i, &err);

	i->phase = PHASE_DISK;
	if (j) {
		j->path = node_path(i->dir, "vmm.log");
		if (j->dir && j->path && !work_start(i->c.node->works, prepare, prepared, j))
			return;
		job_free(j);
		err_set(&err, -ENOMEM, "out of memory");
	}
	instance_disk_done(i, err.code, &err);
}

static int remove_files(void *arg, struct err *err)
{
	struct disk_job *j = arg;
	AUTO_FD int pool = pool_dir_open(j->pool, j->uid, err);
	int r = pool < 0 ? pool : files_remove(j->run_dir, err);

	if (!r && j->pool_dir)
		r = subvolume_remove(j->pool_dir, err);
	if (!r)
		r = files_remove(j->dir, err);
	return r < 0 ? r : bases_release(j->pool, j->i->c.uid, err);
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
	struct disk_job *j = job_new(i, err);

	if (!j)
		return err->code;
	if (j->dir && j->run_dir && j->pool && !work_start(pool_works(i->c.node, i->pool), remove_files, files_removed, j))
		return 0;
	job_free(j);
	return err_set(err, -ENOMEM, "out of memory");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* volume.c - volumes are qcow2 or raw files in the directory "volumes" of their pools, made, grown and removed by workers. What a client sends
 * for one becomes its file in volume_upload.c. */
#include "node/volume.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/bases.h"
#include "node/controller.h"
#include "node/disk_files.h"
#include "node/instance_hold.h"
#include "node/machine_talk.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/pool_dir.h"
#include "node/task.h"
#include "node/upload.h"
#include "node/volume_move.h"
#include "node/volume_priv.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"

struct volume_job {
	struct volume *v;
	char pool[STORE_KEY_MAX], uid[DOC_UID_LEN + 1];         /* of the pool */
	enum pool_driver driver;
	char volume[DOC_UID_LEN + 1], format[8];
	char path[VOLUME_PATH_MAX];
	char control[VOLUME_PATH_MAX];  /* of the machine that runs with it; "": none does */
	uint64_t size, has;             /* HAS, also after a failure: what was found; 0: nobody looked */
	struct volume_room room;
	bool was_made;
	bool is_linked;                 /* what was found */
	bool is_sent;                   /* made of what a client sends: not here */
};

/* --- what may be ---------------------------------------------------- */

bool volume_is_used(struct node *n, const char *project, const char *volume, char *who, size_t cap)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";

	doc_key(prefix, "instance", project, "");
	for (const struct store_doc *d = store_next(n->store, prefix, NULL); d; d = store_next(n->store, prefix, key)) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const json_t *disk;
		size_t i;

		snprintf(key, sizeof(key), "%s", d->key);
		json_array_foreach(json_object_get(json_object_get(doc, "spec"), "disks"), i, disk) {
			if (strcmp(json_string_value(json_object_get(disk, "volume")), volume) != 0)
				continue;
			snprintf(who, cap, "%s", d->key + strlen(prefix));
			return true;
		}
	}
	return false;
}

int volume_check_delete(struct node *n, const json_t *doc, struct err *err)
{
	const char *project = json_string_value(json_object_get(doc, "project")),
		   *name = json_string_value(json_object_get(doc, "name"));
	char who[DOC_NAME_MAX + 1], task[DOC_NAME_MAX + 1];

	if (volume_is_used(n, project, name, who, sizeof(who)))
		return err_set(err, -EBUSY, "the instance '%s' has it; take it away from there first", who);
	if (task_is_there(n, project, "volume_uid", json_string_value(json_object_get(doc, "uid")), task))
		return err_set(err, -EBUSY, "the task '%s' is at work on it; wait for that, or cancel it", task);
	return 0;
}

static struct volume *find(struct node *n, const char *project, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "volume", project, name);
	return (struct volume *)controller_find(n->volumes, key);
}

int volume_take(struct node *n, const char *project, const char *name, const char *uid, bool is_writer, struct volume **out, struct err *err)
{
	struct volume *v = find(n, project, name);

	if (!v || strcmp(v->c.uid, uid) != 0)
		return err_set(err, -ENOENT, "the volume '%s' has gone", name);
	if (!v->size || v->is_busy || v->c.renaming)
		return err_set(err, -EAGAIN, "it waits until '%s' is ready", name);
	if (v->has_writer || (is_writer && v->n_takers) || volume_move_is_begun(n, project, name))
		return err_set(err, -EAGAIN, "it waits for others who work on '%s'", name);
	v->n_takers++;
	v->has_writer = is_writer;
	*out = v;
	return 0;
}

void volume_give(struct volume *v, bool is_writer)
{
	v->n_takers--;
	/* Its file may be another one now: looked at anew. */
	if (is_writer)
		v->size = 0;
	v->has_writer &= !is_writer;
	controlled_kick(&v->c);
}

bool volume_is_taken(struct node *n, const char *project, const char *name)
{
	const struct volume *v = find(n, project, name);

	return v && v->n_takers;
}

bool volume_is_made(struct node *n, const char *project, const char *name)
{
	const struct volume *v = find(n, project, name);

	return v && v->last_size > 0;
}

char *volume_path(struct node *n, const char *project, const char *name, struct err *err)
{
	char key[STORE_KEY_MAX + 1], path[VOLUME_PATH_MAX];
	struct pool_ref pool;

	doc_key(key, "volume", project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	const char *uid = json_string_value(json_object_get(doc, "uid"));
	const struct volume *v = find(n, project, name);

	if (!uid) {
		err_set(err, -ENOENT, "there is no volume '%s'", name);
		return NULL;
	}
	if (v && v->has_writer) {
		err_set(err, -EAGAIN, "a task works on the volume '%s'", name);
		return NULL;
	}
	if (pool_find(n, pool_of(json_object_get(doc, "spec")), &pool, err) < 0)
		return NULL;
	disk_files_path(pool.path, pool.driver, uid, volume_format(json_object_get(doc, "spec")), path, sizeof(path));
	/* A file system that hangs is not asked from here. */
	if (pool.uid[0] ? !v || !v->size : access(path, F_OK) < 0) {
		err_set(err, -EAGAIN, "the volume '%s' is not ready yet", name);
		return NULL;
	}
	char *copy = strdup(path);
	if (!copy)
		err_set(err, -ENOMEM, "out of memory");
	return copy;
}

/* --- work ---------------------------------------------------- */

static int create(const struct volume_job *j, struct err *err)
{
	char tmp[VOLUME_PATH_MAX + 8];
	struct blk_create c = { .path = tmp, .format = j->format, .size = j->size };

	snprintf(tmp, sizeof(tmp), "%s.tmp", j->path);
	int r = disk_files_make_home(j->path, err);
	if (!r)
		r = blk_create(&c, err);
	if (!r && rename(tmp, j->path) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", tmp, strerror(errno));
	return r;
}

/* The machine that runs with it lets it grow, and tells the guest. */
static int grow_live(const struct volume_job *j, struct err *err)
{
	const char *const paths[] = { j->path };
	struct talk k = { .fd = -1 };
	char disk[TALK_NAME_MAX];
	bool is_running;
	int r = talk_open(&k, j->control, err);

	if (!r)
		r = talk_find_disk(&k, paths, 1, disk, &is_running, err);
	if (!r)
		r = talk_ask(&k, "disk-resize", json_pack("{s:s, s:I}", "disk", disk, "size", (json_int_t)j->size), NULL, NULL, err);
	talk_close(&k);
	return r;
}

/* A machine that is just starting or ending has it locked; then this fails, and is tried again. */
static int grow(const struct volume_job *j, struct err *err)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = j->path, .fd = -1, .format = j->format };

	if (j->control[0])
		return grow_live(j, err);
	int r = blk_open(&b, NULL, &o, err);

	return r < 0 ? r : blk_resize(b, j->size, BLK_PREALLOC_OFF, err);
}

/* Make it, or grow it, or only look. */
static int make(void *arg, struct err *err)
{
	struct volume_job *j = arg;
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = {
		.path = j->path, .fd = -1, .format = j->format, .is_readonly = true, .is_unlocked = true
	};
	AUTO_FD int pool = pool_dir_open(j->pool, j->uid, err);
	int r = pool < 0 ? pool : 0;

	if (!r && j->is_sent && !j->was_made)
		r = volume_take_sent(j->pool, j->volume, j->path, err);
	if (r == -EINPROGRESS) {
		j->has = 0;
		return 0;
	}
	if (!r && access(j->path, F_OK) < 0)
		r = j->was_made ? err_set(err, -ENOENT, "its file '%s' is lost; put it back, or delete the volume", j->path) :
				  create(j, err);

	if (!r)
		r = blk_open(&b, NULL, &o, err);
	if (r < 0)
		return r;
	j->has = blk_size(b);
	j->is_linked = blk_backing(b) != NULL;
	r = j->has < j->size ? grow(j, err) : 0;
	if (!r && j->has < j->size)
		j->has = j->size;
	j->room = (struct volume_room){ .allocated = disk_files_allocated(j->path), .exclusive = disk_files_exclusive(j->path) };
	return r;
}

static void made(void *arg, int r, const struct err *err)
{
	struct volume_job *j = arg;
	struct volume *v = j->v;

	v->is_busy = false;
	v->is_awaited = !r && !j->has;
	v->size = j->has;
	v->is_linked = j->has ? j->is_linked : v->is_linked;
	v->last_size = j->has ? j->has : v->last_size;
	v->room = r < 0 ? v->room : j->room;
	v->up.is_over = v->last_size > 0;
	free(j);
	if (r < 0)
		controlled_failed(&v->c, err);
	else if (v->is_awaited)
		controlled_kick(&v->c);
	if (r < 0 || v->is_awaited)
		return;
	v->c.failures = 0;
	volume_upload_tidy(v);
	controlled_set(&v->c, "ready", "%s", "");
	controlled_write(&v->c);
	controlled_kick(&v->c);
}

static int unmake(void *arg, struct err *err)
{
	struct volume_job *j = arg;
	AUTO_FD int pool = pool_dir_open(j->pool, j->uid, err);

	int r = pool < 0 ? pool : disk_files_remove(j->pool, j->driver, j->volume, err);

	return r < 0 ? r : bases_release(j->pool, j->volume, err);
}

static void unmade(void *arg, int r, const struct err *err)
{
	struct volume_job *j = arg;
	struct volume *v = j->v;

	free(j);
	v->is_busy = false;
	v->is_gone = !r;
	if (r < 0)
		controlled_failed(&v->c, err);
	else
		controlled_removed(&v->c);
}

/* Where to ask the machine that runs with V, if one does. */
static void find_machine(struct volume *v, char *control, size_t cap)
{
	struct node *n = v->c.node;
	char who[DOC_NAME_MAX + 1], key[STORE_KEY_MAX + 1];

	if (!volume_is_used(n, v->c.project, v->c.name, who, sizeof(who)))
		return;
	doc_key(key, "instance", v->c.project, who);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	struct instance *i = instance_find(n, v->c.project, who, json_string_value(json_object_get(doc, "uid")));

	if (i && !instance_is_between(i) && !instance_is_off(i))
		instance_control_path(i, control, cap);
}

static void start(struct volume *v, const struct pool_ref *pool, uint64_t size, int (*run)(void *arg, struct err *err),
		  void (*done)(void *arg, int r, const struct err *err))
{
	struct volume_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (j) {
		j->v = v;
		j->size = size;
		j->was_made = v->last_size > 0;
		j->is_sent = v->up.size > 0;
		snprintf(j->pool, sizeof(j->pool), "%s", pool->path);
		snprintf(j->uid, sizeof(j->uid), "%s", pool->uid);
		j->driver = pool->driver;
		snprintf(j->volume, sizeof(j->volume), "%s", v->c.uid);
		snprintf(j->format, sizeof(j->format), "%s", v->format);
		disk_files_path(pool->path, pool->driver, v->c.uid, v->format, j->path, sizeof(j->path));
		find_machine(v, j->control, sizeof(j->control));
		if (!work_start(pool_works(v->c.node, v->pool), run, done, j)) {
			v->is_busy = true;
			return;
		}
	}
	free(j);
	err_set(&err, -ENOMEM, "out of memory");
	controlled_failed(&v->c, &err);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct volume *v = container_of(c, struct volume, c);
	const json_t *spec = json_object_get(doc, "spec");
	uint64_t size = (uint64_t)json_integer_value(json_object_get(spec, "size"));
	struct pool_ref pool;
	struct err err = ERR_INIT;

	if (v->is_busy || v->n_takers)
		return;
	/* It has been moved: its file is another one. */
	if (strcmp(v->pool, pool_of(spec)) != 0 || strcmp(v->format, volume_format(spec)) != 0)
		v->size = 0;
	snprintf(v->pool, sizeof(v->pool), "%s", pool_of(spec));
	snprintf(v->format, sizeof(v->format), "%s", volume_format(spec));
	/* The pool tells when it is there. */
	if (pool_find(c->node, v->pool, &pool, &err) < 0) {
		v->size = 0;
		if (pool_is_missing(c->node, v->pool))
			controlled_set(c, "unavailable", "%s", err.msg);
		else if (!v->last_size)
			controlled_set(c, "creating", "%s", err.msg);
		if (v->up.stream)
			volume_upload_step(v, doc, revision);
		return;
	}
	if (v->size >= size)
		return;
	if (v->is_awaited) {
		volume_upload_step(v, doc, revision);
		return;
	}
	if (!v->last_size && !v->up.size)
		controlled_set(c, "creating", "%s", "");
	start(v, &pool, size, make, made);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct volume *v = container_of(c, struct volume, c);
	struct pool_ref pool;
	struct err err = ERR_INIT;

	if (v->n_takers)
		return;         /* who has taken it gives it back */
	/* An instance may have got it while the request to delete was on its way. */
	if (!v->is_gone && !volume_upload_stop(v))
		return;
	if (v->is_gone || (!v->is_busy && !v->last_size && pool_is_unborn(c->node, v->pool)))
		controlled_removed(c);
	else if (!v->is_busy && doc && volume_check_delete(c->node, doc, &err) < 0)
		controlled_blocked(c, &err);
	else if (!v->is_busy && pool_find(c->node, v->pool, &pool, &err) < 0)
		controlled_blocked(c, &err);
	else if (!v->is_busy)
		start(v, &pool, 0, unmake, unmade);
}

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct volume *v = container_of(c, struct volume, c);
	json_int_t size = json_integer_value(json_object_get(status, "size"));

	v->last_size = size > 0 ? (uint64_t)size : 0;
	v->is_linked = json_is_true(json_object_get(status, "linked"));
	v->room.allocated = (uint64_t)json_integer_value(json_object_get(status, "allocated"));
	v->room.exclusive = (uint64_t)json_integer_value(json_object_get(status, "exclusive"));
	snprintf(v->pool, sizeof(v->pool), "%s", pool_of(json_object_get(doc, "spec")));
	snprintf(v->format, sizeof(v->format), "%s", volume_format(json_object_get(doc, "spec")));
	volume_upload_init(v, json_object_get(doc, "spec"), status);
	return 0;
}

static void fini(struct controlled *c)
{
	process_forget(&container_of(c, struct volume, c)->im.proc);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct volume *v = container_of(c, struct volume, c);

	json_object_set_new(status, "size", json_integer((json_int_t)v->last_size));
	if (v->is_linked)
		json_object_set_new(status, "linked", json_true());
	if (v->last_size)
		json_object_set_new(status, "allocated", json_integer((json_int_t)v->room.allocated));
	if (v->room.exclusive)
		json_object_set_new(status, "exclusive", json_integer((json_int_t)v->room.exclusive));
	upload_add_status(&v->up, status);
	if (v->im.proc.pid)
		json_object_set_new(status, "progress", import_progress(&v->im));
}

const struct controller_kind volume_kind = {
	.kind = "volume", .size = sizeof(struct volume), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};

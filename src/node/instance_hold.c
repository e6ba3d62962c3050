/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instance_hold.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/volume.h"

struct instance *instance_find(struct node *n, const char *project, const char *name, const char *uid)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", project, name);
	struct controlled *c = controller_find(n->instances, key);

	return c && !strcmp(c->uid, uid) ? (struct instance *)c : NULL;
}

struct instance *instance_find_to_hold(struct node *n, const char *project, const char *name, const char *uid)
{
	struct instance *i = instance_find(n, project, name, uid);

	return i && i->phase != PHASE_REMOVING ? i : NULL;
}

void instance_hold(struct instance *i, bool cuts)
{
	assert(i->phase != PHASE_REMOVING);
	i->n_holds++;
	i->is_cut |= cuts;
	controlled_kick(&i->c);
}

void instance_release(struct instance *i)
{
	i->n_holds--;
	i->is_cut &= i->n_holds > 0;
	controlled_kick(&i->c);
}

bool instance_is_off(const struct instance *i)
{
	return i->phase == PHASE_DOWN && !i->proc.pid;
}

bool instance_is_between(const struct instance *i)
{
	return !instance_is_off(i) && (i->phase != PHASE_UP || i->is_stopping || i->is_fork);
}

void instance_stand_still(struct instance *i)
{
	i->n_freezes++;
}

void instance_let_go(struct instance *i)
{
	i->n_freezes--;
	controlled_kick(&i->c);
}

bool instance_is_still(const struct instance *i)
{
	return i->n_freezes > 0;
}

bool instance_is_asked(const struct instance *i)
{
	return atomic_load(&i->has_asked);
}

void instance_control_path(const struct instance *i, char *path, size_t cap)
{
	snprintf(path, cap, "%s/control", i->run_dir);
}

char *instance_saved_path(const struct instance *i, const char *uid)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s.memory", i->dir, uid) < 0 ? NULL : path;
}

bool instance_take_disks(struct instance *i, bool writes)
{
	if (!instance_is_off(i) || i->is_forgetting || i->has_disk_writer || i->n_disk_moves || (writes && i->n_disk_readers))
		return false;
	if (writes)
		i->has_disk_writer = true;
	else
		i->n_disk_readers++;
	return true;
}

void instance_give_disks(struct instance *i, bool writes)
{
	if (writes)
		i->has_disk_writer = false;
	else
		i->n_disk_readers--;
}

bool instance_begin_move(struct instance *i)
{
	if (i->has_disk_writer || i->n_disk_readers)
		return false;
	i->n_disk_moves++;
	return true;
}

void instance_end_move(struct instance *i)
{
	i->n_disk_moves--;
}

bool instance_has_moves(const struct instance *i)
{
	return i->n_disk_moves > 0;
}

struct vmm *instance_vmm(const struct instance *i)
{
	return i->phase == PHASE_UP && !i->is_fork ? i->vmm : NULL;
}

/* What is in another pool is not looked for from here, as that one's file system may not answer. */
static int add(struct instance_disks *d, const struct node *n, char *path, unsigned number, struct err *err)
{
	if (!path)
		return err->code ? err->code : err_set(err, -ENOMEM, "out of memory");
	bool is_here = !strncmp(path, n->data_dir, strlen(n->data_dir));
	if (d->n == INSTANCE_DISKS_MAX || (is_here && access(path, F_OK) < 0)) {
		int r = err_set(err, -EAGAIN, "the disk '%s' is not made yet", path);

		free(path);
		return r;
	}
	snprintf(d->name[d->n], sizeof(d->name[0]), "disk%u", number % 100);
	d->path[d->n++] = path;
	return 0;
}

int instance_disks(struct instance_disks *out, struct instance *i, const json_t *doc, bool is_partial, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *disk;
	struct err why = ERR_INIT;
	unsigned number = 0;
	size_t at;
	int r = 0;

	*out = (struct instance_disks){ .n = 0 };
	if (json_object_get(spec, "image"))
		r = add(out, i->c.node, instance_root_path(i), number++, &why);
	json_array_foreach(json_object_get(spec, "disks"), at, disk) {
		const char *volume = json_string_value(json_object_get(disk, "volume"));

		if (is_partial && r == -EAGAIN)
			r = 0;
		if (!r && !json_is_true(json_object_get(disk, "readonly")))
			r = add(out, i->c.node, volume_path(i->c.node, i->c.project, volume, &why), number, &why);
		number++;
	}
	if (!r || (is_partial && r == -EAGAIN))
		return 0;
	instance_disks_clear(out);
	return err_set(err, r, "%s", why.msg);
}

struct works *instance_disks_works(const struct instance *i, const json_t *doc)
{
	struct node *n = i->c.node;
	const char *pool = i->pool;
	char key[STORE_KEY_MAX + 1];
	const json_t *disk;
	size_t at;

	json_array_foreach(json_object_get(json_object_get(doc, "spec"), "disks"), at, disk) {
		if (strcmp(pool, POOL_DEFAULT) != 0)
			break;
		doc_key(key, "volume", i->c.project, json_string_value(json_object_get(disk, "volume")));
		AUTO(json_decref) json_t *volume = doc_get(n->store, key, NULL);
		if (strcmp(pool_of(json_object_get(volume, "spec")), POOL_DEFAULT) != 0)
			return pool_works(n, pool_of(json_object_get(volume, "spec")));
	}
	return pool_works(n, pool);
}

void instance_disks_clear(struct instance_disks *d)
{
	while (d->n)
		free(d->path[--d->n]);
}

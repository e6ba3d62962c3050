/* SPDX-License-Identifier: Apache-2.0 */
#include "node/volume_measure.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/controller.h"
#include "node/disk_files.h"
#include "node/node.h"
#include "node/volume_priv.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { TOLD_PARTS = 64 };       /* a status is written anew when it is wrong by more than such a part */

struct item {
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], format[8];
	struct volume_room room;
};

struct measure {
	struct node *n;
	char pool[STORE_KEY_MAX], pool_uid[DOC_UID_LEN + 1];    /* as pool_dir_open() has it */
	enum pool_driver driver;
	void (*done)(void *arg);
	void *arg;
	unsigned n_items;
	struct item item[];
};

static int look(void *arg, struct err *err)
{
	struct measure *m = arg;
	char path[DISK_PATH_MAX];
	AUTO_FD int pool = pool_dir_open(m->pool, m->pool_uid, err);

	for (unsigned i = 0; pool >= 0 && i < m->n_items; i++) {
		struct item *t = &m->item[i];

		disk_files_path(m->pool, m->driver, t->uid, t->format, path, sizeof(path));
		t->room = (struct volume_room){ .allocated = disk_files_allocated(path), .exclusive = disk_files_exclusive(path) };
	}
	return pool < 0 ? pool : 0;
}

static bool is_worth_telling(uint64_t is, uint64_t was)
{
	uint64_t moved = is > was ? is - was : was - is;

	return moved && moved >= was / TOLD_PARTS;
}

static void looked(void *arg, int r, const struct err *err)
{
	struct measure *m = arg;

	(void)err;
	for (unsigned i = 0; !r && i < m->n_items; i++) {
		struct controlled *c = controller_find(m->n->volumes, m->item[i].key);

		/* It may have gone, or become another, meanwhile. */
		if (c && !strcmp(c->uid, m->item[i].uid))
			volume_set_room(container_of(c, struct volume, c), &m->item[i].room);
	}
	if (m->done && r != -ECANCELED)
		m->done(m->arg);
	free(m);
}

void volume_set_room(struct volume *v, const struct volume_room *room)
{
	bool tells = is_worth_telling(room->allocated, v->room.allocated) || is_worth_telling(room->exclusive, v->room.exclusive);

	if (!v->size || !tells)
		return;
	v->room = *room;
	controlled_write(&v->c);
}

int volumes_measure(struct node *n, const char *name, const struct pool_ref *ref, void (*done)(void *arg), void *arg)
{
	unsigned count = 0;

	for (struct controlled *c = controller_next(n->volumes, NULL); c; c = controller_next(n->volumes, c))
		count += !strcmp(container_of(c, struct volume, c)->pool, name);
	struct measure *m = calloc(1, sizeof(*m) + count * sizeof(m->item[0]));
	if (!m)
		return -ENOMEM;
	m->n = n;
	m->driver = ref->driver;
	m->done = done;
	m->arg = arg;
	snprintf(m->pool, sizeof(m->pool), "%s", ref->path);
	snprintf(m->pool_uid, sizeof(m->pool_uid), "%s", ref->uid);
	for (struct controlled *c = controller_next(n->volumes, NULL); c && m->n_items < count; c = controller_next(n->volumes, c)) {
		const struct volume *v = container_of(c, struct volume, c);
		struct item *t = &m->item[m->n_items];

		if (strcmp(v->pool, name) != 0 || !v->size)
			continue;
		m->n_items++;
		snprintf(t->key, sizeof(t->key), "%s", c->key);
		snprintf(t->uid, sizeof(t->uid), "%s", c->uid);
		snprintf(t->format, sizeof(t->format), "%s", v->format);
	}
	int r = work_start(pool_works(n, name), look, looked, m);
	if (r < 0)
		free(m);
	return r;
}

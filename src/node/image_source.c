/* SPDX-License-Identifier: Apache-2.0 */
#include "node/image_source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/controller.h"
#include "node/doc.h"
#include "node/image.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "util/cleanup.h"
#include "util/err.h"

/* The document of the instance, a new reference; NULL: there is none. */
static json_t *find_doc(struct node *n, const char *project, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", project, name);
	return doc_get(n->store, key, NULL);
}

static struct instance *find(struct node *n, const char *project, const char *name, json_t **doc)
{
	const char *uid;

	*doc = find_doc(n, project, name);
	uid = json_string_value(json_object_get(*doc, "uid"));
	return uid ? instance_find(n, project, name, uid) : NULL;
}

int image_source_check(struct node *n, const char *project, const char *name, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct instance *i = find(n, project, name, &doc);

	if (!doc)
		return err_set(err, -EINVAL, "there is no instance '%s'; 'viv ls' lists those that are there", name);
	if (!json_object_get(json_object_get(doc, "spec"), "image"))
		return err_set(err, -EINVAL, "the instance '%s' has no disk of its own: it was made without an image", name);
	if (i && instance_check_named(i, err) < 0)
		return err->code;
	if (!i || !instance_is_off(i))
		return err_set(err, -EBUSY, "'%s' is not off, and its disk changes: stop it first, or clone it and take the clone", name);
	return 0;
}

int image_source_take(struct image_source *s, struct node *n, const char *project, const char *name, struct err *err)
{
	AUTO(json_decref) json_t *doc = NULL;
	struct instance *i = s->held ? s->held : find(n, project, name, &doc);

	if (s->held)
		return 0;
	if (!doc)
		return err_set(err, -ENOENT, "the instance '%s' has gone", name);
	if (!i || !instance_take_disks(i, false))
		return err_set(err, -EBUSY, "'%s' is not off, or others work on its disk", name);
	instance_hold(i, false);
	s->held = i;
	return 0;
}

void image_source_give(struct image_source *s)
{
	if (!s->held)
		return;
	instance_give_disks(s->held, false);
	instance_release(s->held);
	s->held = NULL;
}

int image_source_files(const struct image_source *s, const char *dir, char **path, char **format, struct err *err)
{
	const struct controlled *c = &s->held->c;
	AUTO(json_decref) json_t *doc = doc_get(c->node->store, c->key, NULL);
	struct image_files files = { .disk = NULL };
	int r = image_find_of(c->node, doc, &files, err);

	if (!r)
		r = image_share_boot(&files, dir, err);
	*path = instance_root_path(s->held);
	/* One that has not run yet is what its image is. */
	bool has_run = *path && !access(*path, F_OK);
	if (*path && !has_run) {
		free(*path);
		*path = r || !files.disk ? NULL : strdup(files.disk);
	}
	*format = strdup(has_run || !files.format ? "qcow2" : files.format);
	image_files_free(&files);
	return r < 0 || (*path && *format) ? r : err_set(err, -ENOMEM, "out of memory");
}

uint64_t image_source_size(struct node *n, const char *project, const char *name, uint64_t (*of_image)(struct node *n, const char *project,
													const char *name))
{
	AUTO(json_decref) json_t *doc = find_doc(n, project, name);
	const json_t *spec = json_object_get(doc, "spec"), *size = json_object_get(spec, "disk_size") ?: json_object_get(doc, "alone");
	const char *image = json_string_value(json_object_get(spec, "image"));

	if (size)
		return (uint64_t)json_integer_value(size);
	return image ? of_image(n, project, image) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* image_make.c - the controller of images: they are made by a program of its own, which a restart of the daemon does not disturb:
 * `viv disk convert` (import.h) for a disk that is there, or has been sent (upload.h), or fetched by another (download.h), or is that of an
 * instance (image_source.h), or the builder of a distribution. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "node/catalogue.h"
#include "node/catalogues.h"
#include "node/controller.h"
#include "node/download.h"
#include "node/files.h"
#include "node/image.h"
#include "node/image_priv.h"
#include "node/image_source.h"
#include "node/import.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/template.h"
#include "node/upload.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

enum { ADOPT_MS = 20, FILE_MAX = STORE_KEY_MAX + 32 };

static const uint64_t disk_max = (uint64_t)1 << 46;

struct image {
	struct controlled c;            /* first */
	struct import im;               /* its directory is the image's */
	struct upload up;
	struct image_source source;
	bool is_fetched;                /* from a web server */
	bool is_known;                  /* whether there is a process from before */
	bool is_busy;                   /* a worker removes files of it */
	bool is_gone;
	bool is_tidy;                   /* what was sent is no longer there beside what it has become */
	struct err full;                /* why the process had to end */
	int64_t failed_revision;        /* it failed while the document was at this one: a change tries again */
};

/* --- making ---------------------------------------------------- */

/* "a,b" from a list of names, from malloc(). */
static char *join(const json_t *list)
{
	char *text = strdup("");
	const json_t *e;
	size_t i;

	json_array_foreach(list, i, e) {
		char *longer = NULL;

		if (!text || asprintf(&longer, "%s%s%s", text, i ? "," : "", json_string_value(e)) < 0)
			longer = NULL;
		free(text);
		text = longer;
	}
	return text;
}

static int build(struct image *im, const json_t *source, struct err *err)
{
	struct node *n = im->c.node;
	AUTO(free) char *packages = join(json_object_get(source, "packages"));
	char *argv[] = { n->image_tool, im->im.dir, packages, NULL };

	if (!packages)
		return err_set(err, -ENOMEM, "out of memory");
	if (!n->image_tool)
		return err_set(err, -ENOENT, "the program that builds images is not installed; see --image-tool");
	return import_run(&im->im, n, argv, err);
}

/* The instance that DOC says it is a copy of; NULL: it comes from elsewhere. */
static const char *instance_of(const json_t *doc)
{
	return json_string_value(json_object_get(json_object_get(json_object_get(doc, "spec"), "source"), "instance"));
}

static int copy(struct image *im, const char *instance, struct err *err)
{
	struct controlled *c = &im->c;
	AUTO(free) char *from = NULL, *format = NULL, *to = node_path(im->im.dir, "disk.qcow2");
	int r = image_source_take(&im->source, c->node, c->project, instance, err);

	if (r < 0)
		return r == -EBUSY ? err_set(err, -EAGAIN, "it waits: '%s' is not off, or others work on its disk", instance) : r;
	r = to ? files_make_dir(im->im.dir, err) : err_set(err, -ENOMEM, "out of memory");
	if (!r)
		r = image_source_files(&im->source, im->im.dir, &from, &format, err);
	struct import_source s = { .from = from, .to = to, .format = format, .is_own = true };
	if (!r)
		r = import_start(&im->im, c->node, &s, err);
	if (r < 0)
		image_source_give(&im->source);
	return r;
}

/* Of a source that is fetched first, that, and then the rest. */
static int make(struct image *im, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *source = json_object_get(spec, "source");
	const json_t *upload = upload_of(spec), *download = download_of(spec), *sent = upload ? upload : download;
	bool is_fetched = download_is_wanted(spec);
	const char *path = json_string_value(json_object_get(source, "path"));
	char from[FILE_MAX], to[FILE_MAX];
	struct import_source s = { .from = path ? path : from, .to = to, .is_alone = sent || is_fetched, .size_max = disk_max,
				   .format = json_string_value(json_object_get(sent, "format")),
				   .sha256 = json_string_value(json_object_get(upload, "sha256")),
				   .kernel_at = (uint64_t)json_integer_value(json_object_get(upload, "kernel_at")) };

	if (instance_of(doc))
		return copy(im, instance_of(doc), err);
	snprintf(from, sizeof(from), "%s/" UPLOAD_FILE, im->im.dir);
	snprintf(to, sizeof(to), "%s/disk.qcow2", im->im.dir);
	int r = is_fetched ? download_start(&im->im, im->c.node, spec, err) : 1;
	if (r <= 0)
		return r;
	return path || sent || is_fetched ? import_start(&im->im, im->c.node, &s, err) : build(im, source, err);
}

/* One that has failed is tried again by the next daemon. */
static void tidied(void *arg, int r, const struct err *err)
{
	struct image *im = arg;

	im->is_busy = false;
	im->is_tidy = true;
	if (r < 0)
		log_warn("'%s': %s", im->c.key, err->msg);
	controlled_kick(&im->c);
}

static int remove_sent(void *arg, struct err *err)
{
	const struct image *im = arg;
	char path[FILE_MAX];

	snprintf(path, sizeof(path), "%s/" UPLOAD_FILE, im->im.dir);
	return files_remove(path, err);
}

/* What was sent is not needed any more. */
static void tidy(struct image *im)
{
	if ((im->up.size || im->is_fetched) && !im->is_tidy && !im->is_busy && !work_start(im->c.node->works, remove_sent, tidied, im))
		im->is_busy = true;
}

/* Its process has ended, and there is no disk. */
static void not_made(struct image *im)
{
	char words[300];
	bool has_said = import_words(&im->im, words, sizeof(words));
	int64_t revision = 0;
	struct err err = ERR_INIT;

	if (!has_said && !im->full.code && im->c.failures < IMPORT_TRIES) {
		err_set(&err, -EIO, "it could not be made: %s", words);
		controlled_failed(&im->c, &err);
		return;
	}
	json_decref(doc_get(im->c.node->store, im->c.key, &revision));
	controlled_set(&im->c, "failed", "it could not be made: %s; %s", im->full.code ? im->full.msg : words,
		       im->up.size ? "send it again, or delete it" : "change it in any way to try again");
	if (im->up.size)
		upload_refuse(&im->up);
	else
		im->failed_revision = revision;
}

static void ended(struct process *p)
{
	struct image *im = container_of(p, struct image, im.proc);

	image_source_give(&im->source);
	if (!image_is_made(im->im.dir) && !download_is_whole(&im->im))
		not_made(im);
	im->full = (struct err)ERR_INIT;
	controlled_kick(&im->c);
}

/* How far it is; and whether there is room for more. */
static void look(struct image *im, const json_t *doc)
{
	/* A process from before needs its instance to be off for as long. It has the file open, whatever becomes of that. */
	if (instance_of(doc))
		(void)image_source_take(&im->source, im->c.node, im->c.project, instance_of(doc), NULL);
	if (import_look(&im->im))
		controlled_write(&im->c);
	if (!im->full.code && pool_check_new(im->c.node, POOL_DEFAULT, &im->full) == -ENOSPC)
		process_kill_group(&im->im.proc, SIGTERM);
	controlled_later(&im->c, IMPORT_NOTE_MS);
}

/* What is being made of an image from SOURCE. */
static const char *making_of(const json_t *source)
{
	if (json_object_get(source, "build"))
		return "packages are being fetched and unpacked; this takes minutes";
	if (json_object_get(source, "catalogue"))
		return "it is looked up in the catalogue, downloaded and converted";
	return json_object_get(source, "download") ? "the disk is being downloaded and converted" : "the disk is being copied";
}

static void begin(struct image *im, const json_t *doc)
{
	struct controlled *c = &im->c;
	struct err err = ERR_INIT;
	int r = im->is_known ? 0 : import_find(&im->im, c->node, &err);

	if (r == -EAGAIN) {
		controlled_later(c, ADOPT_MS);
		return;
	}
	im->is_known = true;
	if (r <= 0)
		r = make(im, doc, &err);
	if (r == -EBUSY) {
		controlled_later(c, ADOPT_MS);
	} else if (r == -EAGAIN && instance_of(doc)) {
		controlled_set(c, "making", "%s", err.msg);
		controlled_later(c, IMPORT_NOTE_MS);
	} else if (r < 0) {
		controlled_failed(c, &err);
	} else {
		controlled_set(c, "making", "%s", making_of(json_object_get(json_object_get(doc, "spec"), "source")));
		controlled_later(c, IMPORT_NOTE_MS);
	}
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct image *im = container_of(c, struct image, c);

	if (im->im.proc.pid) {
		look(im, doc);
		return;
	}
	if (im->failed_revision == revision)
		return;
	im->up.is_over = image_is_made(im->im.dir);
	if (im->up.is_over) {
		im->im.seen[0] = 0;
		controlled_set(c, "ready", "%s", "");
		tidy(im);
	} else if (!im->up.size || upload_step(&im->up, revision, image_check_delete)) {
		begin(im, doc);
	}
}

/* --- taking away ---------------------------------------------------- */

static int unmake(void *arg, struct err *err)
{
	const struct image *im = arg;

	return files_remove(im->im.dir, err);
}

static void unmade(void *arg, int r, const struct err *err)
{
	struct image *im = arg;

	im->is_busy = false;
	im->is_gone = !r;
	templates_drop(im->c.node, im->c.uid);
	if (r < 0)
		controlled_failed(&im->c, err);
	else
		controlled_removed(&im->c);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct image *im = container_of(c, struct image, c);
	struct err err = ERR_INIT;

	/* A machine may have been made of it while the request to delete was on its way. */
	if (im->is_gone)
		controlled_removed(c);
	else if (!im->is_busy && doc && image_check_delete(c->node, doc, &err) < 0)
		controlled_blocked(c, &err);
	else if (im->im.proc.pid)
		process_kill_group(&im->im.proc, SIGTERM);
	else if (upload_stop(&im->up) && !im->is_busy && !work_start(c->node->works, unmake, unmade, im))
		im->is_busy = true;
}

/* --- as a kind of document ---------------------------------------------------- */

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct image *im = container_of(c, struct image, c);

	im->im.proc.ended = ended;
	image_dir(c->node, c->uid, im->im.dir, sizeof(im->im.dir));
	im->is_fetched = download_is_wanted(json_object_get(doc, "spec"));
	upload_init(&im->up, c, json_object_get(doc, "spec"), status);
	im->up.is_over = image_is_made(im->im.dir);
	/* Some of them may have gone with the daemon before this one. */
	AUTO(json_decref) json_t *templates = templates_of(c->node, c->uid);
	const json_t *known = json_object_get(status, "templates");
	if (json_array_size(known) != json_array_size(templates) || (json_array_size(known) && !json_equal(known, templates)))
		controlled_write(c);
	return 0;
}

static void fini(struct controlled *c)
{
	process_forget(&container_of(c, struct image, c)->im.proc);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct image *im = container_of(c, struct image, c);
	struct stat st;
	char path[FILE_MAX];

	upload_add_status(&im->up, status);
	if (im->im.proc.pid)
		json_object_set_new(status, "progress", import_progress(&im->im));
	snprintf(path, sizeof(path), "%s/" CATALOGUES_ORIGIN, im->im.dir);
	json_t *origin = im->is_fetched ? catalogue_origin(path) : NULL;
	if (origin)
		json_object_set_new(status, "origin", origin);
	json_object_set_new(status, "boots_directly", json_boolean(image_has_file(im->im.dir, "vmlinuz")));
	snprintf(path, sizeof(path), "%s/%s", im->im.dir, image_has_file(im->im.dir, "disk.qcow2") ? "disk.qcow2" : "root.img");
	json_object_set_new(status, "templates", templates_of(c->node, c->uid));
	if (!stat(path, &st))
		json_object_set_new(status, "bytes", json_integer((json_int_t)st.st_blocks * 512));
}

const struct controller_kind image_kind = {
	.kind = "image",
	.size = sizeof(struct image),
	.init = init,
	.step = step,
	.step_gone = step_gone,
	.add_status = add_status,
	.fini = fini,
};

int image_upload_place(struct node *n, const char *key, struct upload_place *out, struct err *err)
{
	struct image *im = (struct image *)controller_find(n->images, key);

	if (!im)
		return err_set(err, -EAGAIN, "the image is not looked after yet; try again");
	*out = (struct upload_place){ .upload = &im->up, .pool = POOL_DEFAULT };
	snprintf(out->pool_path, sizeof(out->pool_path), "%s", n->data_dir);
	snprintf(out->dir, sizeof(out->dir), "%s", im->im.dir);
	return 0;
}

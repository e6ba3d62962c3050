/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - images are made by a program of their own, which a restart of the daemon does not disturb: `viv disk
 * convert` for a disk that is there, or the builder of a distribution. */
#include "node/image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/controller.h"
#include "node/files.h"
#include "node/node.h"
#include "node/process.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"

enum { ADOPT_MS = 20 };

static const struct schema source_schema = {
	.name = "ImageSource",
	.help = "Where an image comes from: one of these.",
	.fields =
		(const struct schema_field[]){
			{ .name = "path", .type = SCHEMA_PATH, .help = "a disk image on the node, of any format; other files that it names lie in its folder" },
			{ .name = "build",
			  .type = SCHEMA_STRING,
			  .choices = "debian",
			  .help = "made here from a distribution's packages" },
			{ .name = "packages", .type = SCHEMA_LIST, .max = 200, .help = "more of them, with 'build'" },
			{ .name = NULL },
		},
};

static const struct schema spec_schema = {
	.name = "ImageSpec",
	.help = "What the image is.",
	.fields =
		(const struct schema_field[]){
			{ .name = "source",
			  .type = SCHEMA_OBJECT,
			  .sub = &source_schema,
			  .is_required = true,
			  .help = "where it comes from" },
			{ .name = NULL },
		},
};

const struct schema image_schema = RESOURCE_SCHEMA("image", "Image", "What machines begin as.", &spec_schema, NULL);

struct image {
	struct controlled c;            /* first */
	char dir[STORE_KEY_MAX];
	struct process proc;
	bool is_known;                  /* whether there is a process from before */
	bool is_removing, is_gone;
	int64_t failed_revision;        /* it failed while the document was at this one: a change tries again */
};

/* --- what may be ---------------------------------------------------- */

int image_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *source = json_object_get(spec, "source"), *package;
	const char *path = json_string_value(json_object_get(source, "path"));
	size_t i;

	(void)n;
	snprintf(where, cap, "spec.source");
	if (old && !json_equal(json_object_get(json_object_get(old, "spec"), "source"), source))
		return err_set(err, -EINVAL,
			       "what an image comes from cannot be changed: machines stand on it; make another one");
	if (!path == !json_object_get(source, "build"))
		return err_set(err, -EINVAL, "an image comes either from a 'path' or from a 'build'");
	if (path && !old && access(path, R_OK) < 0) {
		snprintf(where, cap, "spec.source.path");
		return err_set(err, -EINVAL, "cannot read '%s': %s", path, strerror(errno));
	}
	json_array_foreach(json_object_get(source, "packages"), i, package) {
		const char *name = json_string_value(package);

		if (name && name[0] && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789+.-")] && name[0] != '-')
			continue;
		snprintf(where, cap, "spec.source.packages[%zu]", i);
		return err_set(err, -EINVAL, "'%.80s' cannot be the name of a package", name ? name : "");
	}
	return 0;
}

int image_check_delete(struct node *n, const json_t *doc, struct err *err)
{
	const char *project = json_string_value(json_object_get(doc, "project")),
		   *name = json_string_value(json_object_get(doc, "name"));
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";

	doc_key(prefix, "instance", project, "");
	for (const struct store_doc *d = store_next(n->store, prefix, NULL); d; d = store_next(n->store, prefix, key)) {
		AUTO(json_decref) json_t *user = json_loadb(d->value, d->len, 0, NULL);
		const char *image = json_string_value(json_object_get(json_object_get(user, "spec"), "image"));

		snprintf(key, sizeof(key), "%s", d->key);
		if (image && !strcmp(image, name))
			return err_set(err, -EBUSY,
				       "the disk of the instance '%s' is a layer over it; delete that first",
				       d->key + strlen(prefix));
	}
	return 0;
}

/* --- files ---------------------------------------------------- */

static void dir_of(const struct node *n, const char *uid, char *dir, size_t cap)
{
	snprintf(dir, cap, "%s/images/%s", n->data_dir, uid);
}

static bool has_file(const char *dir, const char *name)
{
	char path[STORE_KEY_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, R_OK);
}

/* The last file that either program makes. */
static bool is_made(const char *dir)
{
	return has_file(dir, "disk.qcow2") || has_file(dir, "stamp");
}

int image_find(struct node *n, const char *project, const char *name, struct image_files *out, struct err *err)
{
	char key[STORE_KEY_MAX + 1], dir[STORE_KEY_MAX];

	*out = (struct image_files){ .disk = NULL };
	doc_key(key, "image", project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	const char *uid = json_string_value(json_object_get(doc, "uid"));
	if (!uid)
		return err_set(err, -ENOENT, "there is no image '%s'", name);
	dir_of(n, uid, dir, sizeof(dir));
	if (!is_made(dir))
		return err_set(err, -EAGAIN, "the image '%s' is not ready yet", name);
	bool is_qcow2 = has_file(dir, "disk.qcow2");
	out->disk = node_path(dir, is_qcow2 ? "disk.qcow2" : "root.img");
	out->format = strdup(is_qcow2 ? "qcow2" : "raw");
	out->kernel = has_file(dir, "vmlinuz") ? node_path(dir, "vmlinuz") : NULL;
	out->initrd = has_file(dir, "initrd.img") ? node_path(dir, "initrd.img") : NULL;
	if (out->disk && out->format)
		return 0;
	image_files_free(out);
	return err_set(err, -ENOMEM, "out of memory");
}

void image_files_free(struct image_files *f)
{
	free(f->disk);
	free(f->format);
	free(f->kernel);
	free(f->initrd);
	*f = (struct image_files){ .disk = NULL };
}

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

static int make(struct image *im, const json_t *doc, struct err *err)
{
	const json_t *source = json_object_get(json_object_get(doc, "spec"), "source");
	const char *path = json_string_value(json_object_get(source, "path"));
	char lock_path[STORE_KEY_MAX + 32], log_path[STORE_KEY_MAX + 32], to[STORE_KEY_MAX + 32];
	AUTO(free) char *packages = join(json_object_get(source, "packages")), *from = strdup(path ? path : "");
	struct node *n = im->c.node;
	char *convert[] = { n->viv,
			    (char[]){ "disk" },
			    (char[]){ "convert" },
			    (char[]){ "--quiet" },
			    (char[]){ "--force" },
			    /* Machines of others will read all of it. */
			    (char[]){ "--confined" },
			    (char[]){ "--format=qcow2" },
			    (char[]){ "--" },
			    from,
			    to,
			    NULL };
	char *build[] = { n->image_tool, im->dir, packages, NULL };
	struct process_spec spec = { .lock_path = lock_path, .log_path = log_path, .argv = path ? convert : build };

	if (!packages || !from)
		return err_set(err, -ENOMEM, "out of memory");
	if (!spec.argv[0])
		return err_set(err, -ENOENT, path ? "the program 'viv' is not installed beside vivd" :
			       "the program that builds images is not installed; see --image-tool");
	snprintf(lock_path, sizeof(lock_path), "%s/process", im->dir);
	snprintf(log_path, sizeof(log_path), "%s/log", im->dir);
	snprintf(to, sizeof(to), "%s/disk.qcow2", im->dir);
	int r = files_make_dir(im->dir, err);
	if (!r && unlink(log_path) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "cannot remove '%s': %s", log_path, strerror(errno));
	return r < 0 ? r : process_start(&im->proc, n->loop, &spec, err);
}

static void ended(struct process *p)
{
	struct image *im = container_of(p, struct image, proc);
	char words[200];

	if (!is_made(im->dir)) {
		int64_t revision = 0;

		json_decref(doc_get(im->c.node->store, im->c.key, &revision));
		im->failed_revision = revision;
		process_last_words(im->dir, "log", words, sizeof(words));
		controlled_set(&im->c, "failed", "it could not be made: %s; change it in any way to try again",
			       words[0] ? words : "the program has ended without a word");
	}
	controlled_kick(&im->c);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct image *im = container_of(c, struct image, c);
	struct err err = ERR_INIT;

	if (im->proc.pid || im->failed_revision == revision)
		return;
	if (is_made(im->dir)) {
		controlled_set(c, "ready", "%s", "");
		return;
	}
	char lock_path[STORE_KEY_MAX + 32];
	snprintf(lock_path, sizeof(lock_path), "%s/process", im->dir);
	int r = im->is_known ? 0 : process_find(&im->proc, c->node->loop, lock_path, &err);
	if (r == -EAGAIN) {
		controlled_later(c, ADOPT_MS);
		return;
	}
	im->is_known = true;
	if (r <= 0)
		r = make(im, doc, &err);
	if (r == -EBUSY)
		controlled_later(c, ADOPT_MS);
	else if (r < 0)
		controlled_failed(c, &err);
	else
		controlled_set(c, "making", "%s",
			       json_object_get(json_object_get(json_object_get(doc, "spec"), "source"), "path")
				       ? "the disk is being copied"
				       : "packages are being fetched and unpacked; this takes minutes");
}

static int unmake(void *arg, struct err *err)
{
	struct image *im = arg;

	return files_remove(im->dir, err);
}

static void unmade(void *arg, int r, const struct err *err)
{
	struct image *im = arg;

	im->is_removing = false;
	im->is_gone = !r;
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
	else if (!im->is_removing && doc && image_check_delete(c->node, doc, &err) < 0)
		controlled_blocked(c, &err);
	else if (im->proc.pid)
		process_kill_group(&im->proc, SIGTERM);
	else if (!im->is_removing && !work_start(c->node->works, unmake, unmade, im))
		im->is_removing = true;
}

static int init(struct controlled *c, const json_t *status)
{
	struct image *im = container_of(c, struct image, c);

	(void)status;
	im->proc.ended = ended;
	dir_of(c->node, c->uid, im->dir, sizeof(im->dir));
	return 0;
}

static void fini(struct controlled *c)
{
	process_forget(&container_of(c, struct image, c)->proc);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct image *im = container_of(c, struct image, c);
	struct stat st;
	char path[STORE_KEY_MAX + 32];

	json_object_set_new(status, "boots_directly", json_boolean(has_file(im->dir, "vmlinuz")));
	snprintf(path, sizeof(path), "%s/%s", im->dir, has_file(im->dir, "disk.qcow2") ? "disk.qcow2" : "root.img");
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

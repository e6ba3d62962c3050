/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - what the document of an image may say, and where its files are. */
#include "node/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/catalogues.h"
#include "node/doc.h"
#include "node/download.h"
#include "node/image_priv.h"
#include "node/image_source.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/upload.h"
#include "util/cleanup.h"
#include "util/err.h"

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
			{ .name = "instance", .type = SCHEMA_NAME, .help = "a copy of the first disk of that instance, which is off" },
			{ .name = "packages", .type = SCHEMA_LIST, .max = 200, .help = "more of them, with 'build'" },
			{ .name = "upload", .type = SCHEMA_OBJECT, .sub = &upload_schema,
			  .help = "a disk image of any format that is sent: by PUT to its 'content'" },
			{ .name = "download", .type = SCHEMA_OBJECT, .sub = &download_schema, .help = "a disk image of any format on a web server" },
			{ .name = "catalogue", .type = SCHEMA_STRING, .min = 1, .max = 100,
			  .help = "the newest image of that name that a publisher offers: 'ubuntu', 'ubuntu:24.04'; see /v1/catalogues" },
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

/* --- what may be ---------------------------------------------------- */

int image_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *source = json_object_get(spec, "source"), *package;
	const char *path = json_string_value(json_object_get(source, "path")), *instance = json_string_value(json_object_get(source, "instance"));
	size_t i;

	snprintf(where, cap, "spec.source");
	if (old && !json_equal(json_object_get(json_object_get(old, "spec"), "source"), source))
		return err_set(err, -EINVAL,
			       "what an image comes from cannot be changed: machines stand on it; make another one");
	const json_t *download = json_object_get(source, "download");
	const char *catalogue = json_string_value(json_object_get(source, "catalogue"));
	if (!!path + !!json_object_get(source, "build") + !!json_object_get(source, "upload") + !!download + !!catalogue + !!instance != 1)
		return err_set(err, -EINVAL, "an image comes either from a 'path', or from a 'build', or by 'upload', or by 'download', "
			       "or from a 'catalogue', or from an 'instance'");
	int r = old ? 0 : upload_check(n, spec, POOL_DEFAULT, where, cap, err);
	if (!r && !old)
		r = download_check(n, spec, where, cap, err);
	if (r < 0)
		return r;
	if (catalogue && !old) {
		snprintf(where, cap, "spec.source.catalogue");
		r = catalogues_check(n, catalogue, err);
		if (r < 0)
			return r;
	}
	if (instance && !old) {
		snprintf(where, cap, "spec.source.instance");
		r = image_source_check(n, json_string_value(json_object_get(doc, "project")), instance, err);
		if (r < 0)
			return r;
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

json_t *image_uid_of(struct node *n, const char *project, const json_t *spec)
{
	const char *name = json_string_value(json_object_get(spec, "image"));
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "image", project, name ? name : "");
	AUTO(json_decref) json_t *doc = name ? doc_get(n->store, key, NULL) : NULL;
	return json_incref(json_object_get(doc, "uid"));
}

int image_look(const char *path, struct err *err)
{
	return access(path, R_OK) < 0 ? err_set(err, -EINVAL, "cannot read '%s': %s", path, strerror(errno)) : 0;
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
		if (image && !strcmp(image, name) && !json_object_get(user, "alone"))
			return err_set(err, -EBUSY,
				       "the disk of the instance '%s' is a layer over it; delete that, or make it independent ('viv flatten --image'), first",
				       d->key + strlen(prefix));
	}
	return 0;
}

/* --- files ---------------------------------------------------- */

void image_dir(const struct node *n, const char *uid, char *dir, size_t cap)
{
	snprintf(dir, cap, "%s/images/%s", n->data_dir, uid);
}

bool image_has_file(const char *dir, const char *name)
{
	char path[STORE_KEY_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, R_OK);
}

/* The last file that either program makes. */
bool image_is_made(const char *dir)
{
	return image_has_file(dir, "disk.qcow2") || image_has_file(dir, "stamp");
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
	image_dir(n, uid, dir, sizeof(dir));
	if (!image_is_made(dir))
		return err_set(err, -EAGAIN, "the image '%s' is not ready yet", name);
	bool is_qcow2 = image_has_file(dir, "disk.qcow2");
	out->disk = node_path(dir, is_qcow2 ? "disk.qcow2" : "root.img");
	out->format = strdup(is_qcow2 ? "qcow2" : "raw");
	out->kernel = image_has_file(dir, "vmlinuz") ? node_path(dir, "vmlinuz") : NULL;
	out->initrd = image_has_file(dir, "initrd.img") ? node_path(dir, "initrd.img") : NULL;
	if (out->disk && out->format)
		return 0;
	image_files_free(out);
	return err_set(err, -ENOMEM, "out of memory");
}

static char *file_in(const char *dir, const char *name)
{
	return image_has_file(dir, name) ? node_path(dir, name) : NULL;
}

int image_find_of(struct node *n, const json_t *doc, struct image_files *out, struct err *err)
{
	const char *image = json_string_value(json_object_get(json_object_get(doc, "spec"), "image"));
	char dir[STORE_KEY_MAX];

	if (!image)
		return err_set(err, -ENOENT, "it has no image");
	if (!json_object_get(doc, "alone"))
		return image_find(n, json_string_value(json_object_get(doc, "project")), image, out, err);
	snprintf(dir, sizeof(dir), "%s/instances/%s", n->data_dir, json_string_value(json_object_get(doc, "uid")));
	*out = (struct image_files){ .kernel = file_in(dir, "vmlinuz"), .initrd = file_in(dir, "initrd.img") };
	return 0;
}

/* They lie on one file system, and never change: what one has another may have under a name of its own. */
static int share(const char *from, const char *dir, const char *name, struct err *err)
{
	AUTO(free) char *to = node_path(dir, name);

	if (!from)
		return 0;
	if (!to)
		return err_set(err, -ENOMEM, "out of memory");
	if (link(from, to) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make '%s' from '%s': %s", to, from, strerror(errno));
	return 0;
}

int image_share_boot(const struct image_files *files, const char *dir, struct err *err)
{
	int r = share(files->kernel, dir, "vmlinuz", err);

	return r < 0 ? r : share(files->initrd, dir, "initrd.img", err);
}

void image_files_free(struct image_files *f)
{
	free(f->disk);
	free(f->format);
	free(f->kernel);
	free(f->initrd);
	*f = (struct image_files){ .disk = NULL };
}

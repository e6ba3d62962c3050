/* SPDX-License-Identifier: Apache-2.0 */
#include "node/disk_show.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "blk/blk.h"
#include "node/doc.h"
#include "node/image.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/pool_dir.h"
#include "node/resource.h"
#include "node/volume.h"
#include "node/work.h"
#include "util/err.h"

enum { UNIT = 512 /* of st_blocks */ };

static const struct schema part_schema = {
	.name = "DiskFile", .help = "A file that has a part of a disk.",
	.fields = (const struct schema_field[]){
		{ .name = "file", .type = SCHEMA_STRING, .help = "where it is, in its pool or among the daemon's data" },
		{ .name = "format", .type = SCHEMA_STRING, .help = "of it" },
		{ .name = "size", .type = SCHEMA_INT, .help = "bytes of the disk that it shows" },
		{ .name = "allocated", .type = SCHEMA_INT, .help = "bytes that it takes in its file system; blocks that files share count in each" },
		{ .name = NULL },
	},
};

static const struct schema inside_schema = {
	.name = "DiskSnapshot", .help = "A snapshot inside a disk.",
	.fields = (const struct schema_field[]){
		{ .name = "instance", .type = SCHEMA_STRING, .help = "whose snapshot it is a part of" },
		{ .name = "name", .type = SCHEMA_STRING, .help = "of that; or, of one that is nobody's, as it is called in the file" },
		{ .name = "created", .type = SCHEMA_TIME, .help = "when" },
		{ .name = NULL },
	},
};

static const struct schema user_schema = {
	.name = "DiskUser", .help = "Who has a disk.",
	.fields = (const struct schema_field[]){
		{ .name = "instance", .type = SCHEMA_STRING, .help = "its name" },
		{ .name = "readonly", .type = SCHEMA_BOOL, .help = "it cannot write there" },
		{ .name = NULL },
	},
};

const struct schema disk_show_schema = {
	.name = "Disk", .help = "What a disk is made of.",
	.fields = (const struct schema_field[]){
		{ .name = "format", .type = SCHEMA_STRING, .help = "of its file" },
		{ .name = "size", .type = SCHEMA_INT, .help = "bytes that a guest sees" },
		{ .name = "allocated", .type = SCHEMA_INT, .help = "bytes that its own file takes" },
		{ .name = "chain", .type = SCHEMA_LIST, .sub = &part_schema, .help = "its file, and those below it, from the top" },
		{ .name = "snapshots", .type = SCHEMA_LIST, .sub = &inside_schema, .help = "inside its file" },
		{ .name = "used_by", .type = SCHEMA_LIST, .sub = &user_schema, .help = "instances that have it, or began as it" },
		{ .name = NULL },
	},
};

struct show {
	struct api_call *c;
	char *path, *format;
	char pool[STORE_KEY_MAX], pool_uid[DOC_UID_LEN + 1], data[STORE_KEY_MAX];
	json_t *out;                    /* the worker's */
};

static const char *text(const json_t *doc, const char *name)
{
	return json_string_value(json_object_get(doc, name)) ?: "";
}

/* --- the file: workers ---------------------------------------------------- */

/* Where NAME is, without where pools and data are on this host. */
static const char *shown_name(const struct show *s, const char *name)
{
	const char *const dirs[] = { s->pool, s->data };

	for (unsigned i = 0; i < 2; i++) {
		size_t len = strlen(dirs[i]);

		if (len && !strncmp(name, dirs[i], len) && name[len] == '/')
			return name + len + 1;
	}
	const char *slash = strrchr(name, '/');
	return slash ? slash + 1 : name;
}

static json_t *tell_chain(const struct show *s, const struct blk *b)
{
	json_t *chain = json_array();

	for (; b; b = blk_backing(b)) {
		struct stat st = { .st_blocks = 0 };

		(void)blk_fstat(b, &st);
		json_array_append_new(chain, json_pack("{s:s, s:s, s:I, s:I}", "file", shown_name(s, blk_name(b)), "format", blk_format(b), "size",
						       (json_int_t)blk_size(b), "allocated", (json_int_t)st.st_blocks * UNIT));
	}
	return chain;
}

static int tell_snapshots(struct blk *b, json_t *out, struct err *err)
{
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = blk_snapshot_list(b, &list, &n, err);

	/* Not every format has any. */
	if (r == -ENOTSUP)
		n = 0;
	else if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		char when[DOC_TIME_LEN + 1];

		doc_time(when, (time_t)list[i].date_s);
		json_array_append_new(out, json_pack("{s:s, s:s}", "name", list[i].name, "created", when));
	}
	return 0;
}

static int look(void *arg, struct err *err)
{
	struct show *s = arg;
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = s->path, .fd = -1, .format = s->format, .is_readonly = true, .is_unlocked = true, .has_no_key = true };
	AUTO_FD int pool = pool_dir_open(s->pool, s->pool_uid, err);
	int r = pool < 0 ? pool : blk_open(&b, NULL, &o, err);

	if (r < 0)
		return r;
	json_t *chain = tell_chain(s, b), *top = json_array_get(chain, 0);
	s->out = json_pack("{s:O, s:O, s:O, s:o, s:[]}", "format", json_object_get(top, "format"), "size", json_object_get(top, "size"), "allocated",
			   json_object_get(top, "allocated"), "chain", chain, "snapshots");
	if (!s->out)
		return err_set(err, -ENOMEM, "out of memory");
	return tell_snapshots(b, json_object_get(s->out, "snapshots"), err);
}

/* --- what the store knows ---------------------------------------------------- */

/* In a file a snapshot is called by the uid of its document. */
static void name_snapshots(struct node *n, const char *project, json_t *list)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	doc_key(prefix, "snapshot", project, "");
	while (json_array_size(list) && (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		json_t *one;
		size_t i;

		snprintf(key, sizeof(key), "%s", d->key);
		json_array_foreach(list, i, one) {
			if (strcmp(text(one, "name"), text(doc, "uid")) != 0)
				continue;
			json_object_set(one, "instance", json_object_get(doc, "instance"));
			json_object_set(one, "name", json_object_get(doc, "name"));
		}
	}
}

/* Does SPEC, of an instance, have the volume NAME? IS_READONLY: only to read. */
static bool has_volume(const json_t *spec, const char *name, bool *is_readonly)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		if (strcmp(text(disk, "volume"), name) != 0)
			continue;
		*is_readonly = json_is_true(json_object_get(disk, "readonly"));
		return true;
	}
	return false;
}

static json_t *tell_users(struct node *n, const char *project, const char *name, bool is_volume)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;
	json_t *out = json_array();

	doc_key(prefix, "instance", project, "");
	while ((d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		const json_t *spec = json_object_get(doc, "spec");
		bool is_readonly = false, has = is_volume ? has_volume(spec, name, &is_readonly) : !strcmp(text(spec, "image"), name);

		snprintf(key, sizeof(key), "%s", d->key);
		if (has)
			json_array_append_new(out, is_volume ? json_pack("{s:O, s:b}", "instance", json_object_get(doc, "name"), "readonly", is_readonly)
							     : json_pack("{s:O}", "instance", json_object_get(doc, "name")));
	}
	return out;
}

/* --- the requests ---------------------------------------------------- */

static void show_free(struct show *s)
{
	free(s->path);
	free(s->format);
	json_decref(s->out);
	free(s);
}

static void looked(void *arg, int r, const struct err *err)
{
	struct show *s = arg;
	struct api_call *c = s->c;
	struct node *n = c->arg;
	const char *project = resource_project(c);

	if (r < 0) {
		api_fail(c, r == -ENOENT ? -EAGAIN : r, NULL, err);
	} else {
		name_snapshots(n, project, json_object_get(s->out, "snapshots"));
		json_object_set_new(s->out, "used_by", tell_users(n, project, c->param[0], !strcmp(c->route->operation, "getVolumeDisk")));
		api_reply(c, 200, json_incref(s->out));
	}
	show_free(s);
}

/* The file PATH (taken; NULL: for the reason in ERR) of FORMAT in the pool POOL. */
static void show(struct api_call *c, char *path, const char *format, const char *pool, struct err *err)
{
	struct node *n = c->arg;
	struct show *s = path ? calloc(1, sizeof(*s)) : NULL;
	struct pool_ref ref;

	if (s) {
		s->c = c;
		s->path = path;
		s->format = strdup(format);
		snprintf(s->data, sizeof(s->data), "%s", n->data_dir);
		if (!pool_find(n, pool, &ref, err)) {
			snprintf(s->pool, sizeof(s->pool), "%s", ref.path);
			snprintf(s->pool_uid, sizeof(s->pool_uid), "%s", ref.uid);
			if (s->format && !work_start(pool_works(n, pool), look, looked, s))
				return;
		}
		show_free(s);
	} else {
		free(path);
	}
	if (!err->code)
		err_set(err, -EAGAIN, "out of memory");
	api_fail(c, err->code, NULL, err);
}

void volume_disk(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	const json_t *spec = json_object_get(doc, "spec");

	if (doc)
		show(c, volume_path(c->arg, resource_project(c), text(doc, "name"), &err), volume_format(spec), pool_of(spec), &err);
}

void image_disk(struct api_call *c)
{
	char key[STORE_KEY_MAX + 1];
	struct image_files files = { .disk = NULL };
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (!doc)
		return;
	int r = image_find(c->arg, resource_project(c), text(doc, "name"), &files, &err);
	char *path = r < 0 ? NULL : files.disk;
	if (path)
		files.disk = NULL;
	show(c, path, files.format ? files.format : "", POOL_DEFAULT, &err);
	image_files_free(&files);
}

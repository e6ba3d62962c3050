/* SPDX-License-Identifier: Apache-2.0 */
/* pool_schema.c - what the document of a pool may say, and when one may go. */
#include "node/pool.h"
#include "node/profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "node/doc.h"
#include "node/node.h"
#include "node/pool_dir.h"
#include "node/resource.h"
#include "util/err.h"

static const struct schema spec_schema = {
	.name = "PoolSpec", .help = "Where the pool is.",
	.fields = (const struct schema_field[]){
		{ .name = "kind", .type = SCHEMA_STRING, .choices = "dir", .dflt = "\"dir\"",
		  .help = "dir: a directory of any file system that is mounted and has locks" },
		{ .name = "path", .type = SCHEMA_PATH, .help = "the directory, which is there; 'default' has none" },
		{ .name = "driver", .type = SCHEMA_STRING, .choices = "btrfs|dir",
		  .help = "how disks lie there. dir: files in directories; btrfs: each in a subvolume of its own. Unless said, what fits to the "
			  "file system" },
		{ .name = "format", .type = SCHEMA_STRING, .choices = "qcow2|raw", .dflt = "\"qcow2\"",
		  .help = "of new volumes that name none" },
		{ .name = "warn_percent", .type = SCHEMA_INT, .min = 1, .max = 100, .dflt = "90",
		  .help = "its state is 'warning' when so much is taken" },
		{ .name = "limit_percent", .type = SCHEMA_INT, .min = 1, .max = 100, .dflt = "98",
		  .help = "its state is 'full' when so much is taken: nothing new is put there" },
		{ .name = NULL },
	},
};

const struct schema pool_schema = {
	.name = "Pool", .help = "A place where disks live. Its 'status' has 'path', 'size', 'used' and 'free', 'driver', 'file_system', and "
	"'shares_blocks': whether copies take no room of their own.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("pool"),
		{ .name = "spec", .type = SCHEMA_OBJECT, .sub = &spec_schema, .is_required = true, .help = "where it is" },
		{ .name = NULL },
	},
};

/* --- what may be ---------------------------------------------------- */

const char *pool_of(const json_t *spec)
{
	const char *name = json_string_value(json_object_get(spec, "pool"));

	return name ? name : POOL_DEFAULT;
}

const char *pool_format(struct node *n, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "pool", "_", name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	const char *format = json_string_value(json_object_get(json_object_get(doc, "spec"), "format"));

	return format && !strcmp(format, "raw") ? "raw" : "qcow2";
}

static const char *driver_of(const json_t *spec)
{
	const char *driver = json_string_value(json_object_get(spec, "driver"));

	return driver ? driver : "auto";
}

static int check_apart(struct node *n, const char *name, const char *path, struct err *err)
{
	char key[STORE_KEY_MAX + 1] = "";
	AUTO(free) char *own = realpath(n->data_dir, NULL);

	if (own && pool_dir_overlap(path, own))
		return err_set(err, -EINVAL, "'%s' and the daemon's own directory '%s' are one in the other; name another", path, own);
	for (const struct store_doc *d; (d = store_next(n->store, "pool/_/", key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *other = json_loadb(d->value, d->len, 0, NULL);
		const char *its = json_string_value(json_object_get(json_object_get(other, "spec"), "path"));

		snprintf(key, sizeof(key), "%s", d->key);
		if (its && strcmp(json_string_value(json_object_get(other, "name")), name) != 0 && pool_dir_overlap(path, its))
			return err_set(err, -EINVAL, "'%s' and '%s', where the pool '%s' is, are one in the other", path, its,
				       json_string_value(json_object_get(other, "name")));
	}
	return 0;
}

int pool_look(const char *path, struct err *err)
{
	struct stat st;
	int r = pool_dir_check_path(path, err);

	if (!r && (stat(path, &st) < 0 || !S_ISDIR(st.st_mode)))
		r = err_set(err, -EINVAL, "'%s' is no directory that is there; make it, or mount it, first", path);
	return r;
}

int pool_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *was = json_object_get(json_object_get(old, "spec"), "path");
	const char *name = json_string_value(json_object_get(doc, "name")), *path = json_string_value(json_object_get(spec, "path"));

	snprintf(where, cap, "spec.limit_percent");
	if (json_integer_value(json_object_get(spec, "limit_percent")) < json_integer_value(json_object_get(spec, "warn_percent")))
		return err_set(err, -EINVAL, "'limit_percent' is at least 'warn_percent'");
	snprintf(where, cap, "spec.path");
	if (old && !json_equal(was, json_object_get(spec, "path")) && (was || path))
		return err_set(err, -EINVAL, "the path of a pool cannot be changed; make another pool and move what is in this one");
	snprintf(where, cap, "spec.driver");
	if (old && strcmp(driver_of(json_object_get(old, "spec")), driver_of(spec)) != 0)
		return err_set(err, -EINVAL, "the driver of a pool cannot be changed; make another pool and move what is in this one");
	if (old)
		return 0;
	snprintf(where, cap, "spec.path");
	if (!path)
		return err_set(err, -EINVAL, "say by 'path' which directory it is");
	int r = pool_dir_check_path(path, err);
	return r < 0 ? r : check_apart(n, name, path, err);
}

/* Is a document of KIND in the pool NAME? Who it is to WHO. */
static bool is_used_by(struct node *n, const char *kind, const char *name, char *who, size_t cap)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";

	snprintf(prefix, sizeof(prefix), "%s/", kind);
	for (const struct store_doc *d; (d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL;) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);

		snprintf(key, sizeof(key), "%s", d->key);
		if (strcmp(pool_of(json_object_get(doc, "spec")), name) != 0)
			continue;
		snprintf(who, cap, "the %s '%s' of the project '%s'", kind, json_string_value(json_object_get(doc, "name")),
			 json_string_value(json_object_get(doc, "project")));
		return true;
	}
	return false;
}

int pool_check_delete(struct node *n, const json_t *doc, struct err *err)
{
	const char *name = json_string_value(json_object_get(doc, "name"));
	char who[3 * DOC_NAME_MAX];

	if (!strcmp(name, POOL_DEFAULT))
		return err_set(err, -EBUSY, "the pool 'default' has to stay: images are there");
	if (is_used_by(n, "volume", name, who, sizeof(who)) || is_used_by(n, "instance", name, who, sizeof(who)))
		return err_set(err, -EBUSY, "%s is in it; move that, or delete it, first", who);
	char profile[DOC_NAME_MAX + 1];
	profile_naming(n, NULL, "pool", name, profile);
	return profile[0] ? err_set(err, -EBUSY, "the profile '%s' puts disks there; change that first", profile) : 0;
}

int pools_init(struct node *n, struct err *err)
{
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1], now[DOC_TIME_LEN + 1];

	doc_key(key, "pool", "_", POOL_DEFAULT);
	if (store_get(n->store, key))
		return 0;
	doc_new_uid(uid);
	doc_now(now);
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:s, s:s, s:s, s:{}, s:{s:s, s:i, s:i}}", "kind", "pool", "name",
						  POOL_DEFAULT, "uid", uid, "created", now, "labels", "spec", "kind", "dir",
						  "warn_percent", POOL_WARN_PERCENT, "limit_percent", POOL_LIMIT_PERCENT);
	return doc_put(n->store, key, doc, STORE_ABSENT, NULL, NULL) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

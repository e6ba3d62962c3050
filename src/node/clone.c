/* SPDX-License-Identifier: Apache-2.0 */
/* clone.c - another instance like one that is off: its document with another name, and a copy of its disk. The copy shares
 * blocks with the original where the file system can do that, and its holes stay holes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/files.h"
#include "node/idempotency.h"
#include "node/instance_hold.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/quota.h"
#include "node/resource.h"
#include "node/snapshot.h"
#include "node/snapshot_disks.h"
#include "node/task.h"
#include "util/err.h"

enum { CHUNK = 4 << 20 };

const struct schema clone_schema = {
	.name = "Clone", .help = "The instance to be made.",
	.fields = (const struct schema_field[]){
		{ .name = "name", .type = SCHEMA_NAME, .is_required = true, .help = "of the new instance" },
		{ .name = "state", .type = SCHEMA_STRING, .choices = "running|stopped", .dflt = "\"stopped\"",
		  .help = "what it shall do" },
		{ .name = NULL },
	},
};

static const char *text(const json_t *params, const char *name)
{
	const char *s = json_string_value(json_object_get(params, name));

	return s ? s : "";
}

/* --- the request ---------------------------------------------------- */

/* Room for DOC in its project. */
static int claim_room(struct node *n, const json_t *doc, struct quota_claim **out, struct err *err)
{
	char key[STORE_KEY_MAX + 1], where[64];

	doc_key(key, "instance", text(doc, "project"), text(doc, "name"));
	return quota_claim(n, key, "instance", doc, NULL, out, where, sizeof(where), err);
}

static int check(struct node *n, const char *project, const json_t *doc, const char *name, struct err *err)
{
	char key[STORE_KEY_MAX + 1];
	const json_t *spec = json_object_get(doc, "spec");

	doc_key(key, "instance", project, name);
	if (store_get(n->store, key))
		return err_set(err, -EEXIST, "there is an instance '%s' already; choose another name", name);
	if (json_array_size(json_object_get(spec, "disks")))
		return err_set(err, -ENOTSUP, "it has volumes, which only one instance can have; take them away from it first");
	/* Looked at again when it is made, and kept then: now it is for an answer at once. */
	AUTO(json_decref) json_t *like = json_copy((json_t *)doc);
	struct quota_claim *claim = NULL;
	json_object_set_new(like, "name", json_string(name));
	int r = claim_room(n, like, &claim, err);
	quota_release(n, claim);
	return r;
}

void instance_clone(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], uid[DOC_UID_LEN + 1];
	struct err err = ERR_INIT;

	if (idempotency_answered(c))
		return;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = doc ? text(c->body, "name") : "";

	if (!doc)
		return;
	int r = check(n, resource_project(c), doc, name, &err);
	struct instance *i = instance_find(n, resource_project(c), text(doc, "name"), text(doc, "uid"));
	if (!r && (!i || !instance_is_off(i)))
		r = err_set(&err, -EBUSY, "'%s' is not off: its disk changes; stop it first", text(doc, "name"));
	if (r < 0) {
		api_fail(c, r, r == -EEXIST ? "name" : NULL, &err);
		return;
	}
	doc_new_uid(uid);
	task_begin(c, json_pack("{s:O, s:O, s:s, s:s, s:s}", "instance", json_object_get(doc, "name"), "instance_uid",
				json_object_get(doc, "uid"), "name", name, "uid", uid, "state", text(c->body, "state")));
}

/* --- the task ---------------------------------------------------- */

struct clone {
	struct instance *source;
	bool has_disks;                 /* of the source, for reading */
	char *from, *dir, *tmp, *to;
	struct quota_claim *claim;      /* until its document counts itself */
	json_t *doc;                    /* of the new instance */
	bool is_made;                   /* by a daemon that did not live to say so; it may run already */
};

/* What is the same, and what cannot be. */
static json_t *make_doc(const json_t *source, const json_t *params, const char *project)
{
	char now[DOC_TIME_LEN + 1];
	json_t *net;
	size_t i;

	doc_now(now);
	json_t *doc = json_pack("{s:s, s:O, s:s, s:O, s:s, s:O, s:o}", "kind", "instance", "name", json_object_get(params, "name"),
				"project", project, "uid", json_object_get(params, "uid"), "created", now, "labels",
				json_object_get(source, "labels"), "spec",
				json_deep_copy(json_object_get(source, "spec")));
	json_t *spec = json_object_get(doc, "spec");

	json_object_set(spec, "state", json_object_get(params, "state"));
	json_array_foreach(json_object_get(spec, "networks"), i, net) {
		json_object_del(net, "mac");
		json_object_del(net, "address");
		json_object_set_new(net, "forwards", json_array());
	}
	return doc;
}

static int prepare(struct task *t, const json_t *params, struct err *err)
{
	struct node *n = t->c.node;
	struct clone *k = t->data ? t->data : calloc(1, sizeof(*k));
	char key[STORE_KEY_MAX + 1];

	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	t->data = k;
	if (!k->source) {
		k->source = instance_find(n, t->c.project, text(params, "instance"), text(params, "instance_uid"));
		if (!k->source)
			return err_set(err, -ENOENT, "the instance '%s' has gone", text(params, "instance"));
		instance_hold(k->source, false);
	}
	if (!k->has_disks && !instance_take_disks(k->source, false)) {
		err_set(err, -EAGAIN, "it waits for '%s' to be off", text(params, "instance"));
		return 0;
	}
	k->has_disks = true;
	k->is_made = instance_find(n, t->c.project, text(params, "name"), text(params, "uid")) != NULL;
	doc_key(key, "instance", t->c.project, text(params, "instance"));
	AUTO(json_decref) json_t *source = doc_get(n->store, key, NULL);
	AUTO(free) char *all = node_path(n->data_dir, "instances");
	k->doc = make_doc(source, params, t->c.project);
	k->from = instance_root_path(k->source);
	k->dir = all ? node_path(all, text(params, "uid")) : NULL;
	k->tmp = k->dir ? node_path(k->dir, "root.qcow2.tmp") : NULL;
	k->to = k->dir ? node_path(k->dir, "root.qcow2") : NULL;
	if (!k->doc || !k->from || !k->tmp || !k->to)
		return err_set(err, -ENOMEM, "out of memory");
	int r = k->is_made || k->claim ? 0 : claim_room(n, k->doc, &k->claim, err);
	return r < 0 ? r : 1;
}

/* The data of FROM, part by part; what lies between stays a hole. */
static int copy_parts(struct task *t, int from, int to, off_t size, struct err *err)
{
	off_t at = 0;

	while (at < size && (at = lseek(from, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(from, at, SEEK_HOLE), in = at, out = at;

		while (in < end) {
			ssize_t n = copy_file_range(from, &in, to, &out, end - in < CHUNK ? (size_t)(end - in) : CHUNK, 0);

			if (n <= 0 && errno != EINTR)
				return err_set(err, n < 0 ? -errno : -EIO, "cannot copy the disk: %s",
					       n < 0 ? strerror(errno) : "it has become shorter");
			atomic_store_explicit(&t->done, (unsigned long long)in, memory_order_relaxed);
			if (atomic_load_explicit(&t->stop, memory_order_relaxed))
				return -ECANCELED;
		}
		at = end;
	}
	return at < 0 && errno != ENXIO ? err_set(err, -errno, "cannot read the disk: %s", strerror(errno)) : 0;
}

static int copy(struct task *t, const char *from_path, const char *to_path, struct err *err)
{
	struct stat st;
	AUTO_FD int from = open(from_path, O_RDONLY | O_CLOEXEC);
	AUTO_FD int to = open(to_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		return err_set(err, -errno, "cannot copy '%s': %s", from_path, strerror(errno));
	atomic_store_explicit(&t->total, (unsigned long long)st.st_size, memory_order_relaxed);
	if (ioctl(to, FICLONE, from) < 0) {
		if (ftruncate(to, st.st_size) < 0)
			return err_set(err, -errno, "cannot make '%s' long enough: %s", to_path, strerror(errno));
		int r = copy_parts(t, from, to, st.st_size, err);

		if (r < 0)
			return r;
	}
	atomic_store_explicit(&t->done, (unsigned long long)st.st_size, memory_order_relaxed);
	return fsync(to) < 0 ? err_set(err, -errno, "cannot write '%s': %s", to_path, strerror(errno)) : 0;
}

static int run(struct task *t, struct err *err)
{
	const struct clone *k = t->data;

	if (k->is_made || access(k->from, F_OK) < 0)
		return 0;               /* it has not run yet, or has no disk */
	int r = files_make_dir(k->dir, err);
	if (!r)
		r = copy(t, k->from, k->tmp, err);
	/* They came with the file; those of the original are no business of the copy. */
	if (!r)
		r = snapshot_unmake_all(k->tmp, err);
	if (!r && rename(k->tmp, k->to) < 0)
		r = err_set(err, -errno, "cannot rename '%s': %s", k->tmp, strerror(errno));
	return r;
}

/* The instance called as the params say: 1: ours; 0: there is none; -EEXIST: another. */
static int look_up(struct task *t, const json_t *params, struct err *err)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "instance", t->c.project, text(params, "name"));
	AUTO(json_decref) json_t *is = doc_get(t->c.node->store, key, NULL);
	if (is && strcmp(text(is, "uid"), text(params, "uid")) != 0)
		return err_set(err, -EEXIST, "an instance '%s' has come in between", text(params, "name"));
	return is != NULL;
}

static void document_made(void *arg, const struct store_result *res)
{
	struct task *t = arg;
	struct err err = ERR_INIT;

	if (res->code == -ESTALE)
		task_over(t, err_set(&err, -EEXIST, "an instance of that name has come in between"), &err);
	else
		task_over(t, res->code ? err_set(&err, res->code, "%s", res->message) : 0, &err);
}

static int finish(struct task *t, const json_t *params, json_t **result, struct err *err)
{
	struct clone *k = t->data;
	char key[STORE_KEY_MAX + 1];
	int r = look_up(t, params, err);

	if (r < 0)
		return r;
	doc_key(key, "instance", t->c.project, text(params, "name"));
	*result = json_pack("{s:s}", "instance", text(params, "name"));
	if (r)
		return 0;
	if (doc_put(t->c.node->store, key, k->doc, STORE_ABSENT, document_made, t) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return 1;
}

/* Its folder, unless it is that of an instance. */
static char *leftover(struct task *t, const json_t *params)
{
	AUTO(free) char *all = node_path(t->c.node->data_dir, "instances");

	return look_up(t, params, NULL) > 0 || !all || !text(params, "uid")[0] ? NULL : node_path(all, text(params, "uid"));
}

static void release(struct task *t)
{
	struct clone *k = t->data;

	if (!k)
		return;
	if (k->has_disks)
		instance_give_disks(k->source, false);
	if (k->source)
		instance_release(k->source);
	quota_release(t->c.node, k->claim);
	json_decref(k->doc);
	free(k->from);
	free(k->dir);
	free(k->tmp);
	free(k->to);
	free(k);
	t->data = NULL;
}

const struct task_op instance_clone_op = {
	.operation = "cloneInstance", .prepare = prepare, .run = run, .finish = finish, .leftover = leftover,
	.release = release,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* volume_upload.c - volumes that begin as a disk that a client sends. In their pool is the directory UID.sent, with what has come and
 * then with the file that is made of it; in the daemon's own directory uploads/UID, with what belongs to the process that
 * makes it. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/disk_files.h"
#include "node/files.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/volume_priv.h"
#include "util/checked.h"
#include "util/log.h"

enum { ADOPT_MS = 20, STOP_MS = 20 };

#define MADE "made."            /* of what was sent; and its format */

static void sent_dir(const char *pool, const char *uid, char *dir, size_t cap)
{
	snprintf(dir, cap, "%s/volumes/%s.sent", pool, uid);
}

/* --- workers ---------------------------------------------------- */

int volume_take_sent(const char *pool, const char *uid, const char *path, struct err *err)
{
	char dir[VOLUME_PATH_MAX], made[VOLUME_PATH_MAX + 16];

	sent_dir(pool, uid, dir, sizeof(dir));
	snprintf(made, sizeof(made), "%s/" MADE "%s", dir, disk_files_is_raw(path) ? "raw" : "qcow2");
	if (access(path, F_OK) < 0) {
		if (access(made, F_OK) < 0)
			return errno == ENOENT ? -EINPROGRESS : err_set(err, -errno, "cannot look at '%s': %s", made, strerror(errno));
		int r = disk_files_take(made, path, err);
		if (r < 0)
			return r;
	}
	return files_remove(dir, err);
}

/* --- the process ---------------------------------------------------- */

static void not_made(struct volume *v)
{
	char words[300];
	bool has_said = import_words(&v->im, words, sizeof(words));
	struct err err = ERR_INIT;

	if (!has_said && !v->full.code && v->c.failures < IMPORT_TRIES) {
		err_set(&err, -EIO, "it could not be made: %s", words);
		controlled_failed(&v->c, &err);
		return;
	}
	controlled_set(&v->c, "failed", "it could not be made: %s; send it again, change the volume, or delete it",
		       v->full.code ? v->full.msg : words);
	upload_refuse(&v->up);
}

static void ended(struct process *p)
{
	struct volume *v = container_of(p, struct volume, im.proc);
	bool is_child = p->status != -1, is_good = is_child && WIFEXITED(p->status) && !WEXITSTATUS(p->status);

	/* Of one that was not our child nobody knows how it ended: a worker looks. */
	if (is_good || !is_child)
		v->is_awaited = false;
	else
		not_made(v);
	v->full = (struct err)ERR_INIT;
	controlled_kick(&v->c);
}

/* How far it is; and whether there is room for more. */
static void look(struct volume *v)
{
	if (import_look(&v->im))
		controlled_write(&v->c);
	if (!v->full.code && pool_check_new(v->c.node, v->pool, &v->full) == -ENOSPC)
		process_kill_group(&v->im.proc, SIGTERM);
	controlled_later(&v->c, IMPORT_NOTE_MS);
}

static int convert(struct volume *v, const json_t *spec, const struct pool_ref *pool, struct err *err)
{
	const json_t *upload = upload_of(spec);
	char dir[VOLUME_PATH_MAX], from[VOLUME_PATH_MAX + 16], to[VOLUME_PATH_MAX + 16];
	struct import_source s = { .from = from, .to = to, .to_format = v->format, .is_alone = true,
				   .format = json_string_value(json_object_get(upload, "format")),
				   .sha256 = json_string_value(json_object_get(upload, "sha256")),
				   .size_max = (uint64_t)json_integer_value(json_object_get(spec, "size")) };

	sent_dir(pool->path, v->c.uid, dir, sizeof(dir));
	snprintf(from, sizeof(from), "%s/" UPLOAD_FILE, dir);
	snprintf(to, sizeof(to), "%s/" MADE "%s", dir, v->format);
	snprintf(dir, sizeof(dir), "%s/uploads", v->c.node->data_dir);
	int r = files_make_dir(dir, err);
	return r < 0 ? r : import_start(&v->im, v->c.node, &s, err);
}

static void begin(struct volume *v, const json_t *spec)
{
	struct controlled *c = &v->c;
	struct pool_ref pool;
	struct err err = ERR_INIT;
	int r = pool_find(c->node, v->pool, &pool, &err);

	/* The pool tells when it is there. */
	if (r < 0)
		return;
	r = v->is_known ? 0 : import_find(&v->im, c->node, &err);
	v->is_known = r != -EAGAIN;
	if (!r || (r < 0 && r != -EAGAIN))
		r = convert(v, spec, &pool, &err);
	if (r == -EAGAIN || r == -EBUSY) {
		controlled_later(c, ADOPT_MS);
	} else if (r < 0) {
		controlled_failed(c, &err);
	} else {
		controlled_set(c, "making", "%s", "what was sent is being made its disk");
		controlled_later(c, IMPORT_NOTE_MS);
	}
}

/* --- as a part of the controller ---------------------------------------------------- */

void volume_upload_init(struct volume *v, const json_t *spec, const json_t *status)
{
	v->im.proc.ended = ended;
	snprintf(v->im.dir, sizeof(v->im.dir), "%s/uploads/%s", v->c.node->data_dir, v->c.uid);
	upload_init(&v->up, &v->c, spec, status);
	v->up.is_over = v->last_size > 0;
}

void volume_upload_step(struct volume *v, const json_t *doc, int64_t revision)
{
	if (v->im.proc.pid)
		look(v);
	else if (upload_step(&v->up, revision, volume_check_delete))
		begin(v, json_object_get(doc, "spec"));
}

void volume_upload_tidy(struct volume *v)
{
	struct err err = ERR_INIT;

	if (v->up.size && !v->is_tidied && files_remove(v->im.dir, &err) < 0)
		log_warn("'%s': %s", v->c.key, err.msg);
	v->is_tidied = true;
}

bool volume_upload_stop(struct volume *v)
{
	bool is_quiet = upload_stop(&v->up);

	process_kill_group(&v->im.proc, SIGTERM);
	if (!is_quiet || v->im.proc.pid) {
		controlled_later(&v->c, STOP_MS);
		return false;
	}
	volume_upload_tidy(v);
	return true;
}

int volume_upload_place(struct node *n, const char *key, struct upload_place *out, struct err *err)
{
	struct volume *v = (struct volume *)controller_find(n->volumes, key);
	struct pool_ref pool;

	if (!v)
		return err_set(err, -EAGAIN, "the volume is not looked after yet; try again");
	int r = pool_find(n, v->pool, &pool, err);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r;
	*out = (struct upload_place){ .upload = &v->up };
	snprintf(out->pool, sizeof(out->pool), "%s", v->pool);
	snprintf(out->pool_path, sizeof(out->pool_path), "%s", pool.path);
	snprintf(out->pool_uid, sizeof(out->pool_uid), "%s", pool.uid);
	sent_dir(pool.path, v->c.uid, out->dir, sizeof(out->dir));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about block jobs (blk/job.h) and the images that they use. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "blk/front.h"
#include "blk/nbd_socket.h"
#include "util/checked.h"
#include "util/str.h"
#include "virtio/blk.h"
#include "vm/control_agent.h"
#include "vm/control_disk.h"
#include "vm/machine_priv.h"

enum { NAME_CAP = 64 };

static struct machine *call_machine(const struct control_call *call)
{
	return control_machine(call->control);
}

/* --- events --------------------------------------------------------------------------------------- */

static json_t *job_describe(struct machine *m, const struct blk_job_info *i)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:b, s:b, s:s}", "job", i->id, "kind", i->kind, "disk",
			 config_disk_name(m->cfg, machine_disk_of(m, i->front), buf), "done", (json_int_t)i->done,
				"total",
			 (json_int_t)i->total, "speed", (json_int_t)i->speed, "paused", i->is_paused, "ready",
				i->is_ready,
			 "mode", i->is_blocking ? "blocking" : "background");
}

static void job_told(void *arg, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why)
{
	static const char *const status[BLK_N_JOB_EVENTS] = {
		[BLK_JOB_STARTED] = "started", [BLK_JOB_PROGRESS] = "progress", [BLK_JOB_PAUSED] = "paused",
		[BLK_JOB_RESUMED] = "resumed", [BLK_JOB_READY] = "ready", [BLK_JOB_COMPLETED] = "completed",
		[BLK_JOB_CANCELLED] = "cancelled", [BLK_JOB_FAILED] = "failed",
	};
	struct control *c = arg;
	json_t *doc = job_describe(control_machine(c), info);

	if (doc) {
		json_object_set_new(doc, "event", json_string("job"));
		json_object_set_new(doc, "status", json_string(status[ev]));
		if (why)
			json_object_set_new(doc, "reason", json_string(why->msg));
	}
	control_emit(c, doc);
}

void control_watch_jobs(struct control *c)
{
	machine_set_job_observer(control_machine(c), job_told, c);
}

/* --- images --------------------------------------------------------------------------------------- */

static char *copy_param(const json_t *params, const char *name, const char *def, bool *is_broken)
{
	const char *text = control_get_string(params, name, def);
	char *copy = text ? strdup(text) : NULL;

	*is_broken |= text && !copy;
	return copy;
}

/* Is FD a connection? Then it shows a raw disk that is there, at an address. 1; 0: a file. */
static int image_is_socket(const json_t *params, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot look at the image: %s", strerror(errno));
	if (!S_ISSOCK(st.st_mode))
		return 0;
	if (strcmp(control_get_string(params, "format", "raw"), "raw") != 0)
		return err_set(err, -ENOTSUP, "what an NBD server shows is written as it is: the format is raw");
	if (control_get_bool(params, "new", false) || control_get_string(params, "backing", NULL))
		return err_set(err, -EINVAL, "no image is made behind an NBD server: neither 'new' nor 'backing' go with it");
	int r = blk_nbd_socket_check(control_get_string(params, "path", ""), err);

	return r < 0 ? r : 1;
}

int control_image_add(struct control_call *call, struct err *err)
{
	struct machine *m = call_machine(call);
	const char *id = control_get_string(call->params, "id", "");
	struct machine_image *i = calloc(1, sizeof(*i));
	bool is_broken = !i;
	unsigned n = 0;

	for (const struct machine_image *at = m->images; at; at = at->next)
		n++;
	if (n >= CONFIG_DISKS_MAX * 2 || machine_find_image(m, id, NULL) || !*id || strlen(id) >= NAME_CAP) {
		free(i);
		return n >= CONFIG_DISKS_MAX * 2 ? err_set(err, -E2BIG,
							   "too many images wait to be used; see image-drop") :
		       err_set(err, -EEXIST, "'%.64s' is not a new name of 1 to %d characters", id, NAME_CAP - 1);
	}
	int is_socket = image_is_socket(call->params, call->fd[0], err);

	if (is_socket < 0) {
		free(i);
		return is_socket;
	}
	if (!is_broken) {
		i->id = copy_param(call->params, "id", NULL, &is_broken);
		i->path = copy_param(call->params, "path", id, &is_broken);
		i->format = copy_param(call->params, "format", is_socket ? "raw" : "qcow2", &is_broken);
		i->backing = copy_param(call->params, "backing", NULL, &is_broken);
		i->backing_format = copy_param(call->params, "backing-format", NULL, &is_broken);
		i->is_empty = control_get_bool(call->params, "new", false);
		i->is_socket = is_socket;
		i->fd = call->fd[0];
		call->fd[0] = -1;
		i->next = m->images;
		m->images = i;
	}
	if (is_broken && i)
		machine_drop_image(m, i);
	return is_broken ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int control_image_drop(struct control_call *call, struct err *err)
{
	struct machine *m = call_machine(call);
	struct machine_image *i = machine_find_image(m, control_get_string(call->params, "id", ""), err);

	if (!i)
		return -ENOENT;
	machine_drop_image(m, i);
	return 0;
}

/* Several disks with an image each: what a request is about. */
struct targets {
	struct control_call *call;
	unsigned n;
	unsigned disk[BLK_JOBS_AT_ONCE];
	char image[BLK_JOBS_AT_ONCE][NAME_CAP];         /* "": none was named */
	struct blk_job_args a[BLK_JOBS_AT_ONCE];
	char id[BLK_JOBS_AT_ONCE][BLK_JOB_ID_MAX + 2];
	uint64_t size;
};

static int image_use(const struct machine *m, const char *id, char name[NAME_CAP], struct blk_job_image *out,
		     struct err *err)
{
	*out = (struct blk_job_image){ .fd = -1 };
	*name = '\0';
	if (!id)
		return 0;
	const struct machine_image *i = machine_find_image(m, id, err);

	if (!i)
		return -ENOENT;
	snprintf(name, NAME_CAP, "%s", id);
	*out = (struct blk_job_image){ .fd = i->fd, .path = i->path, .format = i->format, .is_empty = i->is_empty,
				       .is_socket = i->is_socket, .backing = i->backing, .backing_format = i->backing_format };
	return 0;
}

/* "root=new1,data=new2". */
static int targets_parse(struct targets *t, const char *text, struct err *err)
{
	const struct machine *m = call_machine(t->call);
	char key[NAME_CAP], value[NAME_CAP];
	bool has_value;
	int r;

	while ((r = str_next_pair(&text, key, sizeof(key), value, sizeof(value), &has_value, err)) > 0) {
		if (t->n == BLK_JOBS_AT_ONCE)
			return err_set(err, -E2BIG, "more than %d disks at once", BLK_JOBS_AT_ONCE);
		int i = machine_find_disk(m, key, err);

		if (i < 0)
			return i;
		for (unsigned k = 0; has_value && k < t->n; k++)
			if (!strcmp(t->image[k], value))
				return err_set(err, -EINVAL, "image '%s' is named for two disks", value);
		t->disk[t->n] = (unsigned)i;
		t->a[t->n] = (struct blk_job_args){ .front = m->blk[i], .overlay.fd = -1 };
		r = image_use(m, has_value ? value : NULL, t->image[t->n], &t->a[t->n].target, err);
		if (r < 0)
			return r;
		t->n++;
	}
	return r < 0 ? r : t->n ? 0 : err_set(err, -EINVAL, "no disk is named");
}

static struct targets *targets_new(struct control_call *call, const char *param, struct err *err)
{
	struct targets *t = calloc(1, sizeof(*t));
	int r = t ? 0 : err_set(err, -ENOMEM, "out of memory");

	if (t)
		t->call = call;
	if (!r)
		r = targets_parse(t, control_get_string(call->params, param, ""), err);
	if (r < 0) {
		free(t);
		return NULL;
	}
	return t;
}

/* Images that jobs have taken are theirs. */
static void targets_begun(void *arg, const struct err *err)
{
	struct targets *t = arg;
	struct machine *m = call_machine(t->call);

	for (unsigned i = 0; !err && i < t->n; i++) {
		struct machine_image *image = machine_find_image(m, t->image[i], NULL);

		if (image)
			machine_drop_image(m, image);
		if (!strcmp(t->a[i].kind, "overlay"))
			machine_disk_moved(m, t->disk[i]);
		if (!strcmp(t->a[i].kind, "resize"))
			virtio_blk_resized(m->disk_dev[t->disk[i]]);
	}
	control_finish(t->call, NULL, err);
	free(t);
}

/* What was said on a connection cannot be said again: it is forgotten here when the request has begun, whatever comes
 * of that. */
static unsigned targets_part_sockets(struct targets *t, struct machine_image *socket[BLK_JOBS_AT_ONCE])
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->n; i++) {
		struct machine_image *image = machine_find_image(call_machine(t->call), t->image[i], NULL);

		if (!image || !image->is_socket)
			continue;
		socket[n++] = image;
		*t->image[i] = '\0';
	}
	return n;
}

/* T is taken. */
static int targets_start(struct targets *t, struct err *err)
{
	struct machine *m = call_machine(t->call);
	struct machine_image *socket[BLK_JOBS_AT_ONCE];
	unsigned n_sockets = targets_part_sockets(t, socket);
	/* Which image is the disk, and what is in it, is being written down or handed over just now. */
	int r = machine_check_unsaved(m, err);

	if (!r)
		r = blk_jobs_start(&m->jobs, t->a, t->n, targets_begun, t, err);
	for (unsigned i = 0; !r && i < n_sockets; i++)
		machine_drop_image(m, socket[i]);
	if (r < 0)
		free(t);
	return r < 0 ? r : 1;
}

/* --- jobs ----------------------------------------------------------------------------------------- */

/* Run the handler, between a freeze of the guest's file systems and their thaw if that is wanted. */
static int maybe_quiesced(struct control_call *call, int (*run)(struct control_call *call, struct err *err), struct err *err)
{
	return control_get_bool(call->params, "quiesce", false) ? control_quiesced(call, run, err) : run(call, err);
}

static int control_snapshot_now(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disks", err);

	for (unsigned i = 0; t && i < t->n; i++) {
		t->a[i].kind = "overlay";
		if (*t->image[i])
			continue;
		free(t);
		return err_set(err, -EINVAL, "each disk needs a new image: disks=NAME=IMAGE[,...]");
	}
	return t ? targets_start(t, err) : err->code;
}

int control_snapshot(struct control_call *call, struct err *err)
{
	return maybe_quiesced(call, control_snapshot_now, err);
}

int control_resize(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disk", err);

	if (!t)
		return err->code;
	t->n = 1;
	t->a[0].kind = "resize";
	t->a[0].size = control_get_size(call->params, "size", 0);
	return targets_start(t, err);
}

/* The id that was asked for; several jobs get the disk's name behind it. */
static void targets_name(struct targets *t, const char *kind)
{
	const char *id = control_get_string(t->call->params, "id", kind);
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < t->n; i++) {
		const char *disk = config_disk_name(call_machine(t->call)->cfg, t->disk[i], buf);

		if (t->n == 1 && control_get_string(t->call->params, "id", NULL))
			snprintf(t->id[i], sizeof(t->id[i]), "%s", id);
		else
			snprintf(t->id[i], sizeof(t->id[i]), "%s.%s", id, disk);
		t->a[i].kind = kind;
		t->a[i].id = t->id[i];
		t->a[i].speed = control_get_size(t->call->params, "speed", 0);
	}
}

int control_stream(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disk", err);

	if (!t)
		return err->code;
	t->n = 1;
	targets_name(t, "stream");
	t->a[0].base = control_get_string(call->params, "base", NULL);
	t->a[0].backing = control_get_string(call->params, "backing", NULL);
	return targets_start(t, err);
}

static enum blk_job_mode job_mode(const char *text)
{
	return !strcmp(text, "blocking") ? BLK_MODE_BLOCKING : !strcmp(text, "background") ? BLK_MODE_BACKGROUND :
		BLK_MODE_AUTO;
}

static void targets_follow(struct blk_job_args *a, const json_t *params)
{
	a->mode = job_mode(control_get_string(params, "mode", "auto"));
	a->stays_ready = control_get_bool(params, "wait", false);
}

int control_commit(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disk", err);
	char overlay[NAME_CAP];

	if (!t)
		return err->code;
	t->n = 1;
	targets_name(t, "commit");
	targets_follow(&t->a[0], call->params);
	t->a[0].base = control_get_string(call->params, "base", NULL);
	t->a[0].top = control_get_string(call->params, "top", NULL);
	t->a[0].backing = control_get_string(call->params, "backing", NULL);
	int r = image_use(call_machine(call), control_get_string(call->params, "base-image", NULL), t->image[0],
			  &t->a[0].target, err);

	if (!r)
		r = image_use(call_machine(call), control_get_string(call->params, "overlay-image", NULL), overlay,
			      &t->a[0].overlay, err);
	if (r < 0) {
		free(t);
		return r;
	}
	return targets_start(t, err);
}

int control_mirror(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disks", err);
	const char *sync = control_get_string(call->params, "sync", "full");

	if (!t)
		return err->code;
	targets_name(t, "mirror");
	for (unsigned i = 0; i < t->n; i++) {
		targets_follow(&t->a[i], call->params);
		t->a[i].keeps_source = control_get_bool(call->params, "stay", false);
		t->a[i].sync = !strcmp(sync, "top") ? BLK_SYNC_TOP : !strcmp(sync, "none") ? BLK_SYNC_NONE :
			BLK_SYNC_FULL;
	}
	return targets_start(t, err);
}

static int control_backup_now(struct control_call *call, struct err *err)
{
	struct targets *t = targets_new(call, "disks", err);

	if (!t)
		return err->code;
	targets_name(t, "backup");
	for (unsigned i = 0; i < t->n; i++)
		t->a[i].bitmap = control_get_string(call->params, "bitmap", NULL);
	return targets_start(t, err);
}

int control_backup(struct control_call *call, struct err *err)
{
	return maybe_quiesced(call, control_backup_now, err);
}

static int control_named(struct control_call *call, const char *kind, struct err *err)
{
	struct targets *t = targets_new(call, "disks", err);

	if (!t)
		return err->code;
	for (unsigned i = 0; i < t->n; i++) {
		t->a[i].kind = kind;
		t->a[i].bitmap = t->a[i].snapshot = control_get_string(call->params, "name", NULL);
		t->a[i].size = control_get_size(call->params, "granularity", 0);
	}
	return targets_start(t, err);
}

int control_bitmap_add(struct control_call *call, struct err *err)
{
	return control_named(call, "bitmap-add", err);
}

int control_bitmap_remove(struct control_call *call, struct err *err)
{
	return control_named(call, "bitmap-remove", err);
}

int control_bitmap_clear(struct control_call *call, struct err *err)
{
	return control_named(call, "bitmap-clear", err);
}

static int control_snapshot_create_now(struct control_call *call, struct err *err)
{
	return control_named(call, "snapshot-create", err);
}

int control_snapshot_create(struct control_call *call, struct err *err)
{
	return maybe_quiesced(call, control_snapshot_create_now, err);
}

int control_snapshot_delete(struct control_call *call, struct err *err)
{
	return control_named(call, "snapshot-delete", err);
}

/* --- jobs that are -------------------------------------------------------------------------------- */

static struct blk_job *call_job(const struct control_call *call, struct err *err)
{
	return blk_job_find(&call_machine(call)->jobs, control_get_string(call->params, "id", ""), err);
}

int control_jobs(struct control_call *call, struct err *err)
{
	struct machine *m = call_machine(call);
	json_t *list = json_array();

	for (const struct blk_job *j = m->jobs.first; j; j = blk_job_next(j)) {
		struct blk_job_info info;

		blk_job_get_info(j, &info);
		json_array_append_new(list, job_describe(m, &info));
	}
	call->result = json_pack("{s:o}", "jobs", list);
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

int control_job_pause(struct control_call *call, struct err *err)
{
	struct blk_job *j = call_job(call, err);

	if (j)
		blk_job_pause(j, true);
	return j ? 0 : -ENOENT;
}

int control_job_resume(struct control_call *call, struct err *err)
{
	struct blk_job *j = call_job(call, err);

	if (j)
		blk_job_pause(j, false);
	return j ? 0 : -ENOENT;
}

int control_job_cancel(struct control_call *call, struct err *err)
{
	struct blk_job *j = call_job(call, err);

	if (j)
		blk_job_cancel(j);
	return j ? 0 : -ENOENT;
}

int control_job_complete(struct control_call *call, struct err *err)
{
	struct blk_job *j = call_job(call, err);

	return j ? blk_job_complete(j, control_get_bool(call->params, "stay", false), err) : -ENOENT;
}

int control_job_set(struct control_call *call, struct err *err)
{
	struct blk_job *j = call_job(call, err);
	const char *mode = control_get_string(call->params, "mode", NULL);
	int r = !j ? -ENOENT : mode ? blk_job_set_mode(j, job_mode(mode), err) : 0;

	if (!r && json_object_get(call->params, "speed"))
		blk_job_set_speed(j, control_get_size(call->params, "speed", 0));
	return r;
}

int control_disk_info(struct control_call *call, struct err *err)
{
	struct machine *m = call_machine(call);
	int i = machine_find_disk(m, control_get_string(call->params, "disk", ""), err);
	json_t *doc = NULL;
	int r = i < 0 ? i : blk_info(m->blk[i], true, &doc, err);

	if (!r)
		call->result = doc;
	return r;
}

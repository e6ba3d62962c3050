/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of forked machines. What a disk is when the memory is saved stays as it is from then on; the machine
 * goes on in a new image on top of it, and each copy gets one of its own. A readonly disk is everybody's. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "blk/blk.h"
#include "blk/limit.h"
#include "vm/ctl_fork.h"

enum {
	NEW_MAX = 1000,                 /* images beside each other that a machine has gone on in */
	POLL_MS = 10,
};

static const char *disk_text(const struct ctl_fork_disks *d, unsigned i, const char *key)
{
	return json_string_value(json_object_get(json_array_get(d->disks, i), key));
}

static bool disk_is_readonly(const struct ctl_fork_disks *d, unsigned i)
{
	return json_is_true(json_object_get(json_array_get(d->disks, i), "readonly"));
}

/* "FOLDER/IMAGE.SUFFIX"; to be freed. */
static char *new_name(const struct ctl_fork_disks *d, const char *image, const char *suffix)
{
	char *out = NULL, *a = strdup(image), *b = strdup(image);

	if (!a || !b || asprintf(&out, "%s/%s.%s", d->folder ? d->folder : dirname(a), basename(b), suffix) < 0)
		out = NULL;
	free(a);
	free(b);
	return out;
}

/* --- the machine's own ---------------------------------------------------------------------------- */

/* An empty file with a name that nobody has; *NAME to be freed. */
static int split_open(const struct ctl_fork_disks *d, unsigned i, char **name, struct err *err)
{
	for (unsigned n = 1; n <= NEW_MAX; n++) {
		char suffix[16];

		snprintf(suffix, sizeof(suffix), "fork%u", n);
		AUTO(free) char *at = new_name(d, d->base[i], suffix);
		int fd = at ? open(at, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

		if (!at)
			return err_set(err, -ENOMEM, "out of memory");
		if (fd < 0 && errno != EEXIST)
			return err_set(err, -errno, "cannot make '%s': %s", at, strerror(errno));
		if (fd < 0)
			continue;
		*name = take_ptr(&at);
		return fd;
	}
	return err_set(err, -EEXIST, "'%s' has been forked %d times; merge some images with disk-commit", d->base[i],
		       NEW_MAX);
}

/* What the image of disk I, and the job that undoes it, are called: others may fork, too, or have left something behind. */
static void split_id(char id[32], unsigned i)
{
	snprintf(id, 32, "fork%d.disk%u", (int)getpid(), i);
}

static int split_hand_over(struct ctl_fork_disks *d, unsigned i, struct err *err)
{
	AUTO(free) char *name = NULL;
	AUTO_FD int fd = split_open(d, i, &name, err);
	char id[32];

	if (fd < 0 || !name)
		return fd;
	d->fresh[i] = realpath(name, NULL);
	if (!d->fresh[i]) {
		unlink(name);
		return err_set(err, -errno, "cannot find '%s': %s", name, strerror(errno));
	}
	split_id(id, i);
	return ctl_ask(d->socket, "image-add", json_pack("{s:s, s:s, s:b}", "id", id, "path", d->fresh[i], "new", 1), fd, NULL, err);
}

/* All at one instant, of disks whose images have been handed over. */
static int split_snapshot(const struct ctl_fork_disks *d, struct err *err)
{
	char list[CONFIG_DISKS_MAX * (CONFIG_DISK_NAME_MAX + 32)] = "", id[32];
	size_t n = 0;

	for (unsigned i = 0; i < json_array_size(d->disks); i++) {
		split_id(id, i);
		if (d->base[i])
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s=%s", n ? "," : "", disk_text(d, i, "name"), id);
	}
	return n ? ctl_ask(d->socket, "disk-snapshot", json_pack("{s:s}", "disks", list), -1, NULL, err) : 0;
}

int ctl_fork_split(struct ctl_fork_disks *d, const struct ctl_guard *g, struct err *err)
{
	int r = json_array_size(d->disks) <= CONFIG_DISKS_MAX ? 0 : err_set(err, -E2BIG,
									    "the machine has too many disks");

	for (unsigned i = 0; !r && i < json_array_size(d->disks); i++) {
		if (disk_is_readonly(d, i))
			continue;
		d->base[i] = realpath(disk_text(d, i, "path"), NULL);
		r = !d->base[i] ? err_set(err, -errno, "cannot find '%s' from here: %s", disk_text(d, i, "path"), strerror(errno)) :
		    ctl_guard_ends(g) ? err_set(err, -ECANCELED, "interrupted") : split_hand_over(d, i, err);
	}
	return r ? r : split_snapshot(d, err);
}

/* --- and back --- */

/* Has nobody written to IMAGE, and does nobody use it? The machine has gone: what was written would be lost. */
static bool unsplit_is_empty(const char *image)
{
	struct blk_options o = { .path = image, .fd = -1, .format = "qcow2", .has_no_backing = true, .has_no_key = true };
	AUTO(blk_close) struct blk *b = NULL;
	struct stat st;

	if (!stat(image, &st) && !st.st_size)
		return true;
	if (blk_open(&b, NULL, &o, NULL) < 0)
		return false;
	for (uint64_t at = 0; at < blk_size(b);) {
		struct blk_extent e;

		if (blk_map(b, at, blk_size(b) - at, false, &e) < 0 || (e.flags & BLK_EXT_ALLOCATED))
			return false;
		at += e.len;
	}
	return true;
}

/* Is there a job called ID? */
static bool unsplit_has_job(const struct ctl_fork_disks *d, const char *id)
{
	json_t *result = NULL, *job;
	bool is_there = false;
	size_t i;

	if (ctl_ask(d->socket, "jobs", NULL, -1, &result, NULL) < 0)
		return false;
	json_array_foreach(json_object_get(result, "jobs"), i, job)
		is_there = is_there || !strcmp(json_string_value(json_object_get(job, "job")), id);
	json_decref(result);
	return is_there;
}

/* Does disk I stand on IMAGE now? 1, 0, or -errno: the machine does not answer. */
static int unsplit_is_used(const struct ctl_fork_disks *d, unsigned i, const char *image)
{
	json_t *info = NULL, *disk;
	size_t k;
	int r = ctl_ask(d->socket, "info", NULL, -1, &info, NULL);

	json_array_foreach(json_object_get(info, "disks"), k, disk) {
		const char *name = json_string_value(json_object_get(disk, "name")), *path = json_string_value(json_object_get(disk, "path"));

		if (name && path && !strcmp(name, disk_text(d, i, "name")))
			r = !strcmp(path, image);
	}
	json_decref(info);
	return r;
}

/* Push what disk I's new image holds into what the disk was. */
static int unsplit_commit(const struct ctl_fork_disks *d, unsigned i, struct err *err)
{
	char id[32];

	split_id(id, i);
	int r = ctl_ask(d->socket, "disk-commit", json_pack("{s:s, s:s, s:s, s:s}", "disk", disk_text(d, i, "name"), "id", id, "base", "1", "mode",
							    "blocking"), -1, NULL, err);

	while (!r && unsplit_has_job(d, id))
		nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000 }, NULL);
	return r;
}

static void unsplit_disk(struct ctl_fork_disks *d, unsigned i, struct err *err)
{
	struct err why = ERR_INIT;
	char id[32], first[sizeof(err->msg)];
	int r = unsplit_is_used(d, i, d->fresh[i]);

	split_id(id, i);
	if (!r)
		(void)ctl_ask(d->socket, "image-drop", json_pack("{s:s}", "id", id), -1, NULL, NULL);
	bool is_merged = r > 0 && !unsplit_commit(d, i, &why) && !unsplit_is_used(d, i, d->fresh[i]);

	if (is_merged || (r <= 0 && unsplit_is_empty(d->fresh[i]))) {
		unlink(d->fresh[i]);
		return;
	}
	memcpy(first, err->msg, sizeof(first));
	err_set(err, err->code, "%.250s; and disk '%s' is in '%s' now%s%s: merge it with disk-commit", first, disk_text(d, i, "name"), d->fresh[i],
		why.code ? ", as " : "", why.msg);
}

void ctl_fork_unsplit(struct ctl_fork_disks *d, struct err *err)
{
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
		if (d->fresh[i])
			unsplit_disk(d, i, err);
}

void ctl_fork_disks_fini(struct ctl_fork_disks *d)
{
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++) {
		free(d->base[i]);
		free(d->fresh[i]);
	}
}

/* --- a copy's ------------------------------------------------------------------------------------- */

static int copy_make(const struct ctl_fork_disks *d, unsigned i, const char *path, struct err *err)
{
	struct blk_create c = {
		.path = path, .format = "qcow2", .backing = d->base[i], .backing_format = disk_text(d, i, "format"),
		.size = (uint64_t)json_integer_value(json_object_get(json_array_get(d->disks, i), "size")),
		.is_backing_unchecked = true, .is_new = true,
	};

	return blk_create(&c, err);
}

void ctl_fork_undisk(const struct ctl_fork_disks *d, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++) {
		AUTO(free) char *path = d->base[i] ? new_name(d, d->base[i], name) : NULL;

		if (path)
			unlink(path);
	}
}

/* TEXT with each comma twice, as a list wants it. */
static void print_value(FILE *to, const char *key, const char *text)
{
	if (!text)
		return;
	fprintf(to, ",%s=", key);
	for (; *text; text++)
		fprintf(to, *text == ',' ? ",," : "%c", *text);
}

static void print_disk(FILE *to, const struct ctl_fork_disks *d, unsigned i, const char *path)
{
	json_t *limits = json_object_get(json_array_get(d->disks, i), "limits"), *v;
	const char *key;

	fprintf(to, "readonly=%s", disk_is_readonly(d, i) ? "on" : "off");
	print_value(to, "path", path);
	print_value(to, "format", d->base[i] ? "qcow2" : disk_text(d, i, "format"));
	print_value(to, "name", disk_text(d, i, "name"));
	print_value(to, "serial", disk_text(d, i, "serial"));
	print_value(to, "key-file", disk_text(d, i, "key_file"));       /* what the image stands on may be encrypted */
	json_object_foreach(limits, key, v)
		fprintf(to, ",%s=%" JSON_INTEGER_FORMAT, key, json_integer_value(v));
}

char *ctl_fork_disk(const struct ctl_fork_disks *d, unsigned i, const char *name, struct err *err)
{
	AUTO(free) char *path = d->base[i] ? new_name(d, d->base[i], name) : strdup(disk_text(d, i, "path"));
	size_t len;
	char *out = NULL;
	int r = path ? 0 : -ENOMEM;

	if (!r && d->base[i])
		r = copy_make(d, i, path, err);
	FILE *to = r < 0 ? NULL : open_memstream(&out, &len);

	if (!to) {
		if (!err->code)
			err_set(err, -ENOMEM, "out of memory");
		return NULL;
	}
	print_disk(to, d, i, path);
	fclose(to);
	return out;
}

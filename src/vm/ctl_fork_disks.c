/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of forked machines. What a disk is when the memory is saved stays as it is from then on; the machine
 * goes on in a new image on top of it, and each copy gets one of its own. A readonly disk is everybody's. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include "blk/blk.h"
#include "blk/limit.h"
#include "vm/ctl_priv.h"

enum { NEW_MAX = 1000 };        /* images beside each other that a machine has gone on in */

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

static int split_hand_over(struct ctl_fork_disks *d, unsigned i, char **name, struct err *err)
{
	AUTO_FD int fd = split_open(d, i, name, err);
	char id[32];

	if (fd < 0)
		return fd;
	AUTO(free) char *path = realpath(*name, NULL);

	snprintf(id, sizeof(id), "fork.disk%u", i);
	return ctl_ask(d->socket, "image-add", json_pack("{s:s, s:s, s:b}", "id", id, "path", path ? path : *name,
							 "new", 1), fd,
		       NULL, err);
}

/* All at one instant, of disks whose images have been handed over. */
static int split_snapshot(const struct ctl_fork_disks *d, struct err *err)
{
	char list[CONFIG_DISKS_MAX * (CONFIG_DISK_NAME_MAX + 16)] = "";
	size_t n = 0;

	for (unsigned i = 0; i < json_array_size(d->disks); i++)
		if (d->base[i])
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s=fork.disk%u", n ? "," : "",
					      disk_text(d, i, "name"), i);
	return n ? ctl_ask(d->socket, "disk-snapshot", json_pack("{s:s}", "disks", list), -1, NULL, err) : 0;
}

static void split_undo(const struct ctl_fork_disks *d, char **name)
{
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++) {
		char id[32];

		if (!name[i])
			continue;
		snprintf(id, sizeof(id), "fork.disk%u", i);
		(void)ctl_ask(d->socket, "image-drop", json_pack("{s:s}", "id", id), -1, NULL, NULL);
		unlink(name[i]);
	}
}

int ctl_fork_split(struct ctl_fork_disks *d, struct err *err)
{
	char *name[CONFIG_DISKS_MAX] = { NULL };
	int r = json_array_size(d->disks) <= CONFIG_DISKS_MAX ? 0 : err_set(err, -E2BIG,
									    "the machine has too many disks");

	for (unsigned i = 0; !r && i < json_array_size(d->disks); i++) {
		if (disk_is_readonly(d, i))
			continue;
		d->base[i] = realpath(disk_text(d, i, "path"), NULL);
		r = d->base[i] ? split_hand_over(d, i, &name[i], err) :
		    err_set(err, -errno, "cannot find '%s' from here: %s", disk_text(d, i, "path"), strerror(errno));
	}
	if (!r)
		r = split_snapshot(d, err);
	if (r < 0)
		split_undo(d, name);
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
		free(name[i]);
	return r;
}

void ctl_fork_disks_fini(struct ctl_fork_disks *d)
{
	for (unsigned i = 0; i < CONFIG_DISKS_MAX; i++)
		free(d->base[i]);
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

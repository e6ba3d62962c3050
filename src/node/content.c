/* SPDX-License-Identifier: Apache-2.0 */
#include "node/content.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/range.h"
#include "api/route.h"
#include "node/disk_files.h"
#include "node/doc.h"
#include "node/image.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/upload.h"
#include "node/volume.h"
#include "node/work.h"
#include "util/endian.h"

enum { ETAG_LEN = 80, QCOW2_BACKING_AT = 8 /* in its header: where the name of its backing file is; 0: it has none */ };

static int open_file(const char *path, struct stat *st, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || fstat(fd, st) < 0)
		return err_set(err, -EAGAIN, "cannot open '%s': %s", path, strerror(errno));
	return take_fd(&fd);
}

static bool is_same(const struct api_call *c, enum http_header h, const char *etag)
{
	const char *text = http_get_header(c->rq, h);

	return text && !strcmp(text, etag);
}

static void set_headers(struct api_call *c, const char *etag, const char *name, const char *format)
{
	char value[128];

	http_set_header(c->rq, "etag", etag);
	http_set_header(c->rq, "accept-ranges", "bytes");
	snprintf(value, sizeof(value), "attachment; filename=\"%s.%s\"", name, format);
	http_set_header(c->rq, "content-disposition", value);
}

/* FD (taken), with the SIZE bytes that ETAG stands for, or the part that is asked for. */
static void send_file(struct api_call *c, int fd, uint64_t size, const char *etag, const char *name, const char *format)
{
	const char *wanted = http_get_header(c->rq, HTTP_RANGE);
	uint64_t off = 0, len = size;
	char value[96];
	struct err err = ERR_INIT;
	AUTO_FD int file = fd;

	if (is_same(c, HTTP_IF_NONE_MATCH, etag)) {
		http_set_header(c->rq, "etag", etag);
		api_reply_bytes(c, 304, NULL, NULL, 0);
		return;
	}
	/* A part of what has changed meanwhile would not fit to what the client has. */
	if (http_get_header(c->rq, HTTP_IF_RANGE) && !is_same(c, HTTP_IF_RANGE, etag))
		wanted = NULL;
	int part = http_range(wanted, size, &off, &len);
	if (part < 0) {
		snprintf(value, sizeof(value), "bytes */%" PRIu64, size);
		http_set_header(c->rq, "content-range", value);
		api_fail(c, err_set(&err, -ERANGE, "there are %" PRIu64 " bytes; '%.80s' is not among them", size, wanted), NULL, &err);
		return;
	}
	set_headers(c, etag, name, format);
	if (part) {
		snprintf(value, sizeof(value), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, off, off + len - 1, size);
		http_set_header(c->rq, "content-range", value);
	}
	api_reply_file(c, part ? 206 : 200, "application/octet-stream", take_fd(&file), off, len);
}

/* What an image consists of; of the disk, file and word are its own. */
enum part { PART_DISK, PART_KERNEL, PART_INITRD };
static const struct { const char *file, *what; } parts[] = {
	[PART_KERNEL] = { "vmlinuz", "kernel" }, [PART_INITRD] = { "initrd.img", "initial RAM disk" },
};

static void send_part(struct api_call *c, enum part part)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1], etag[ETAG_LEN];
	struct image_files files = { .disk = NULL };
	struct err err = ERR_INIT;
	struct stat st;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = json_string_value(json_object_get(doc, "name")), *file = parts[part].file;

	if (!doc)
		return;
	int fd = image_find(n, resource_project(c), name, &files, &err);
	const char *path = part == PART_DISK ? files.disk : part == PART_KERNEL ? files.kernel : files.initrd;
	if (!fd && !path)
		fd = err_set(&err, -ENOENT, "the image '%s' has no %s of its own", name, parts[part].what);
	if (!fd)
		fd = open_file(path, &st, &err);
	/* An image never changes. */
	snprintf(etag, sizeof(etag), "\"%s%s%s\"", json_string_value(json_object_get(doc, "uid")), file ? "-" : "", file ? file : "");
	if (fd < 0)
		api_fail(c, fd, NULL, &err);
	else
		send_file(c, fd, (uint64_t)st.st_size, etag, name, file ? file : files.format);
	image_files_free(&files);
}

void image_content(struct api_call *c)
{
	send_part(c, PART_DISK);
}

void image_kernel(struct api_call *c)
{
	send_part(c, PART_KERNEL);
}

void image_initrd(struct api_call *c)
{
	send_part(c, PART_INITRD);
}

/* While the descriptor is open nobody writes: a machine that starts meanwhile waits. */
static int lock_file(int fd, const char *name, struct err *err)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	return err_set(err, errno == EAGAIN || errno == EACCES ? -EBUSY : -errno, "'%s' is in use: stop the machine that has it first", name);
}

/* A layer alone is not the disk. */
static int check_alone(int fd, const char *name, struct err *err)
{
	uint8_t head[QCOW2_BACKING_AT + 8];

	if (pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) || !get_be64(head + QCOW2_BACKING_AT))
		return 0;
	return err_set(err, -EBUSY, "'%s' is a linked clone, and its file alone is not what is on it: 'viv volume flatten %s' first", name, name);
}

/* A volume's file is opened by a worker: its pool may hang. */
struct opening {
	struct api_call *c;
	char *path;
	char name[DOC_NAME_MAX + 1], uid[DOC_UID_LEN + 1];
	int fd;
	struct stat st;
};

static void opening_free(struct opening *o)
{
	auto_fd(&o->fd);
	free(o->path);
	free(o);
}

static int open_locked(void *arg, struct err *err)
{
	struct opening *o = arg;
	AUTO_FD int fd = open_file(o->path, &o->st, err);
	int r = fd < 0 ? fd : lock_file(fd, o->name, err);

	if (!r && fstat(fd, &o->st) < 0)
		r = err_set(err, -errno, "cannot look at '%s': %s", o->name, strerror(errno));
	if (!r && !disk_files_is_raw(o->path))
		r = check_alone(fd, o->name, err);
	if (!r)
		o->fd = take_fd(&fd);
	return r;
}

static void opened(void *arg, int r, const struct err *err)
{
	struct opening *o = arg;
	char etag[ETAG_LEN];

	snprintf(etag, sizeof(etag), "\"%s-%" PRIx64 "-%" PRIx64 "%08lx\"", o->uid, (uint64_t)o->st.st_size, (uint64_t)o->st.st_mtim.tv_sec,
		 o->st.st_mtim.tv_nsec);
	if (r < 0)
		api_fail(o->c, r, NULL, err);
	else
		send_file(o->c, take_fd(&o->fd), (uint64_t)o->st.st_size, etag, o->name, disk_files_is_raw(o->path) ? "raw" : "qcow2");
	opening_free(o);
}

void volume_content(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = json_string_value(json_object_get(doc, "name")), *uid = json_string_value(json_object_get(doc, "uid"));

	if (!doc)
		return;
	AUTO(free) char *path = volume_path(n, resource_project(c), name, &err);
	struct opening *o = path ? calloc(1, sizeof(*o)) : NULL;
	if (o) {
		*o = (struct opening){ .c = c, .path = take_ptr(&path), .fd = -1 };
		snprintf(o->name, sizeof(o->name), "%s", name);
		snprintf(o->uid, sizeof(o->uid), "%s", uid);
		if (!work_start(pool_works(n, pool_of(json_object_get(doc, "spec"))), open_locked, opened, o))
			return;
		opening_free(o);
	}
	api_fail(c, err.code ? err.code : err_set(&err, -EAGAIN, "out of memory"), NULL, &err);
}

/* --- the other way ---------------------------------------------------- */

static void receive(struct api_call *c, int (*place_of)(struct node *n, const char *key, struct upload_place *out, struct err *err))
{
	char key[STORE_KEY_MAX + 1];
	struct upload_place place;
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);

	if (!doc)
		return;
	int r = json_is_true(json_object_get(doc, "deleting")) ? err_set(&err, -EBUSY, "it is being deleted") : place_of(c->arg, key, &place, &err);
	if (r < 0)
		api_fail(c, r, NULL, &err);
	else
		upload_receive(c, &place);
}

void image_receive(struct api_call *c)
{
	receive(c, image_upload_place);
}

void volume_receive(struct api_call *c)
{
	receive(c, volume_upload_place);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/ova/tar.h"
#include "cli/archive.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/json.h"

enum { SUM_LEN = 64, HEAD_LEN = 32 };

/* While it is being checked. */
struct reading {
	struct archive *a;
	const char *path;
	const struct blk_progress *p;
	struct err *err;
	unsigned n_members;
	struct tar_member members[ARCHIVE_FILES_MAX];
	bool is_listed[ARCHIVE_FILES_MAX];      /* the manifest has it */
	const json_t *sums[ARCHIVE_FILES_MAX];
};

static int damaged(const struct reading *rd, const char *what)
{
	return err_set(rd->err, -EINVAL, "'%s' is no machine that 'viv export' has made, or is damaged: %s", rd->path, what);
}

static int read_at(void *arg, uint64_t off, void *buf, size_t len)
{
	const int *fd = arg;

	for (size_t done = 0; done < len;) {
		ssize_t n = pread(*fd, (char *)buf + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

/* The place of the member NAME; -1: it is not there. */
static int member(const struct reading *rd, const char *name)
{
	for (unsigned i = 0; name && i < rd->n_members; i++)
		if (!strcmp(rd->members[i].name, name))
			return (int)i;
	return -1;
}

/* The document NAME in it, a new reference. */
static int document(struct reading *rd, const char *name, json_t **out)
{
	int at = member(rd, name);

	if (at < 0)
		return damaged(rd, "it has no " ARCHIVE_MANIFEST ", or no " ARCHIVE_MACHINE);
	const struct tar_member *m = &rd->members[at];
	if (m->len > ARCHIVE_TEXT_MAX)
		return damaged(rd, "a document in it is too long");
	AUTO(free) char *text = malloc(m->len + 1);
	int r = text ? read_at(&rd->a->fd, m->off, text, m->len) : -ENOMEM;
	if (r < 0)
		return err_set(rd->err, r, "cannot read '%s': %s", rd->path, strerror(-r));
	*out = json_loadb(text, m->len, JSON_REJECT_DUPLICATES, NULL);
	return json_is_object(*out) ? 0 : damaged(rd, "a document in it is no JSON");
}

/* --- checksums ---------------------------------------------------- */

static int check_sum(struct reading *rd, int at, const char *wanted)
{
	const struct tar_member *m = &rd->members[at];
	char sum[DIGEST_TEXT_MAX];
	int r = digest_part(rd->a->fd, m->off, m->len, sum, rd->p);

	if (r == -EINTR)
		return err_set(rd->err, r, "interrupted");
	if (r < 0)
		return err_set(rd->err, r, "cannot read '%s': %s", rd->path, strerror(-r));
	if (strcmp(sum, wanted) != 0)
		return err_set(rd->err, -EBADMSG, "'%s' is damaged: the checksum of '%s' in it is wrong", rd->path, m->name);
	return 0;
}

static int list_file(struct reading *rd, const json_t *file)
{
	const char *sum = json_string_value(json_object_get(file, "sha256"));
	const json_t *size = json_object_get(file, "size");
	int at = member(rd, json_string_value(json_object_get(file, "name")));

	if (at < 0 || rd->is_listed[at])
		return damaged(rd, "it is not what its manifest says");
	if (!json_is_integer(size) || (uint64_t)json_integer_value(size) != rd->members[at].len)
		return damaged(rd, "a file in it has not the size that its manifest says");
	if (!sum || strlen(sum) != SUM_LEN || sum[strspn(sum, "0123456789abcdef")])
		return damaged(rd, "its manifest has no checksum of a file");
	rd->is_listed[at] = true;
	rd->sums[at] = json_object_get(file, "sha256");
	return 0;
}

/* What is not listed has been put there by somebody else. */
static int check_manifest(struct reading *rd, const json_t *manifest)
{
	const char *format = json_string_value(json_object_get(manifest, "format"));
	const json_t *file, *files = json_object_get(manifest, "files");
	int own = member(rd, ARCHIVE_MANIFEST), r = 0;
	size_t i;

	if (!format || strcmp(format, ARCHIVE_FORMAT) != 0)
		return damaged(rd, "its manifest is of something else");
	json_int_t version = json_integer_value(json_object_get(manifest, "version"));
	if (version < 1 || version > ARCHIVE_VERSION)
		return err_set(rd->err, -ENOTSUP, "'%s' was made by another version, in a form that is not known here", rd->path);
	rd->is_listed[own] = true;
	json_array_foreach(files, i, file) {
		r = list_file(rd, file);
		if (r < 0)
			return r;
	}
	for (unsigned k = 0; !r && k < rd->n_members; k++) {
		if (!rd->is_listed[k])
			return damaged(rd, "it has a file that its manifest does not");
		r = (int)k == own ? 0 : check_sum(rd, (int)k, json_string_value(rd->sums[k]));
	}
	return r < 0 ? r : digest_part(rd->a->fd, rd->members[own].off, rd->members[own].len, rd->a->sum, NULL);
}

/* --- the machine ---------------------------------------------------- */

/* A disk is a qcow2 image of the size that is said, which stands alone. */
static int check_image(struct reading *rd, const struct archive_disk *d)
{
	uint8_t head[HEAD_LEN];
	int r = d->len < sizeof(head) ? -EINVAL : read_at(&rd->a->fd, d->off, head, sizeof(head));

	if (r < 0 || memcmp(head, "QFI\373", 4) != 0 || get_be64(head + 8) || get_be32(head + 16))
		return damaged(rd, "a disk in it is no qcow2 image, or needs another");
	return get_be64(head + 24) == d->size ? 0 : damaged(rd, "a disk in it has another size than is said");
}

static int take_disk(struct reading *rd, const json_t *disk)
{
	struct archive_disk *d = &rd->a->disks[rd->a->n_disks];
	const char *file = json_string_value(json_object_get(disk, "file"));
	int at = member(rd, file);

	if (at < 0 || strlen(file) >= sizeof(d->file) || !rd->sums[at])
		return damaged(rd, "a disk of the machine is not in it");
	for (unsigned i = 0; i < rd->a->n_disks; i++)
		if (!strcmp(rd->a->disks[i].file, file))
			return damaged(rd, "the machine has a disk twice");
	snprintf(d->file, sizeof(d->file), "%s", file);
	snprintf(d->sum, sizeof(d->sum), "%s", json_string_value(rd->sums[at]));
	d->off = rd->members[at].off;
	d->len = rd->members[at].len;
	d->size = (uint64_t)json_integer_value(json_object_get(disk, "size"));
	d->is_readonly = json_is_true(json_object_get(disk, "readonly"));
	rd->a->n_disks++;
	return check_image(rd, d);
}

static uint64_t padded_end(const struct tar_member *m)
{
	return m->off + (m->len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

/* What it is started with follows its first disk, each with its header, so that all of that is sent as it is. */
static int take_kernel(struct reading *rd)
{
	struct archive_disk *d = &rd->a->disks[0];
	int disk = member(rd, d->file), kernel = member(rd, ARCHIVE_KERNEL), initrd = member(rd, ARCHIVE_INITRD);
	int last = initrd >= 0 ? initrd : kernel;

	if (kernel < 0)
		return initrd < 0 ? 0 : damaged(rd, "it has an initial RAM disk for no kernel");
	if (rd->members[kernel].off != padded_end(&rd->members[disk]) + TAR_BLOCK ||
	    (initrd >= 0 && rd->members[initrd].off != padded_end(&rd->members[kernel]) + TAR_BLOCK))
		return damaged(rd, "its kernel does not follow its first disk");
	d->kernel_at = padded_end(&rd->members[disk]) - d->off;
	d->len = padded_end(&rd->members[last]) - d->off;
	int r = digest_part(rd->a->fd, d->off, d->len, d->sum, rd->p);
	return r < 0 ? err_set(rd->err, r, "cannot read '%s': %s", rd->path, r == -EINTR ? "interrupted" : strerror(-r)) : 0;
}

static int check_machine(struct reading *rd)
{
	const json_t *m = rd->a->machine, *disks = json_object_get(m, "disks"), *disk;
	int r = 0;
	size_t i;

	if (!json_is_string(json_object_get(m, "name")) || !json_is_object(json_object_get(m, "labels")) ||
	    !json_is_object(json_object_get(m, "spec")))
		return damaged(rd, "its " ARCHIVE_MACHINE " describes no machine");
	unsigned others = 2 + (member(rd, ARCHIVE_KERNEL) >= 0) + (member(rd, ARCHIVE_INITRD) >= 0);
	if (!json_array_size(disks) || json_array_size(disks) > ARCHIVE_DISKS_MAX || json_array_size(disks) != rd->n_members - others)
		return damaged(rd, "it has other disks than the machine");
	json_array_foreach(disks, i, disk) {
		r = take_disk(rd, disk);
		if (r < 0)
			break;
	}
	return r < 0 ? r : take_kernel(rd);
}

/* --- the whole ---------------------------------------------------- */

static int check(struct reading *rd, uint64_t size)
{
	struct ova_source s = { .read = read_at, .arg = &rd->a->fd, .size = size, .name = rd->path };
	AUTO(json_decref) json_t *manifest = NULL;
	int r = tar_list(&s, rd->members, ARCHIVE_FILES_MAX, &rd->n_members, rd->err);

	if (!r)
		r = document(rd, ARCHIVE_MANIFEST, &manifest);
	if (!r)
		r = check_manifest(rd, manifest);
	if (!r)
		r = document(rd, ARCHIVE_MACHINE, &rd->a->machine);
	return r < 0 ? r : check_machine(rd);
}

int archive_open(struct archive *a, const char *path, const struct blk_progress *p, struct err *err)
{
	AUTO(free) struct reading *rd = calloc(1, sizeof(*rd));
	struct stat st;

	*a = (struct archive){ .fd = open(path, O_RDONLY | O_CLOEXEC) };
	if (!rd)
		return err_set(err, -ENOMEM, "out of memory");
	if (a->fd < 0 || fstat(a->fd, &st) < 0)
		return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "'%s' is no file", path);
	rd->a = a;
	rd->path = path;
	rd->p = p;
	rd->err = err;
	return check(rd, (uint64_t)st.st_size);
}

void archive_close(struct archive *a)
{
	if (a->fd >= 0)
		close(a->fd);
	json_decref(a->machine);
	*a = (struct archive){ .fd = -1 };
}

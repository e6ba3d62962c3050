/* SPDX-License-Identifier: Apache-2.0 */
/* volume_schema.c - what the document of a volume may say. */
#include "node/volume.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "blk/blk.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/upload.h"
#include "util/err.h"

static const struct schema source_schema = {
	.name = "VolumeSource", .help = "Where what is on a volume comes from.",
	.fields = (const struct schema_field[]){
		{ .name = "upload", .type = SCHEMA_OBJECT, .sub = &upload_schema, .is_required = true,
		  .help = "a disk of any format, not larger than the volume, that is sent: by PUT to its 'content'" },
		{ .name = NULL },
	},
};

static const struct schema spec_schema = {
	.name = "VolumeSpec", .help = "What the volume shall be.",
	.fields = (const struct schema_field[]){
		{ .name = "size", .type = SCHEMA_SIZE, .is_required = true, .min = 1 << 20, .max = (int64_t)1 << 46,
		  .help = "bytes that a guest sees; it may grow" },
		{ .name = "pool", .type = SCHEMA_NAME, .dflt = "\"default\"", .help = "where it lives" },
		{ .name = "format", .type = SCHEMA_STRING, .choices = "qcow2|raw",
		  .help = "of its file. qcow2: has snapshots inside on any file system; raw: the bytes that the guest sees, with snapshots where the file "
			  "system can share blocks. Unless said, what its pool says" },
		{ .name = "source", .type = SCHEMA_OBJECT, .sub = &source_schema, .help = "what is on it in the beginning; else nothing" },
		{ .name = NULL },
	},
};

const struct schema volume_schema = RESOURCE_SCHEMA("volume", "Volume", "A disk with a life of its own.", &spec_schema, NULL);

const char *volume_format(const json_t *spec)
{
	const char *format = json_string_value(json_object_get(spec, "format"));

	return format && !strcmp(format, "raw") ? "raw" : "qcow2";
}

int volume_fill(struct api_call *c, json_t *doc, struct err *err)
{
	json_t *spec = json_object_get(doc, "spec");

	if (json_object_get(spec, "format"))
		return 0;
	return json_object_set_new(spec, "format", json_string(pool_format(c->arg, pool_of(spec)))) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int volume_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	json_int_t size = json_integer_value(json_object_get(json_object_get(doc, "spec"), "size"));
	json_int_t was = json_integer_value(json_object_get(json_object_get(old, "spec"), "size"));

	const char *pool = pool_of(json_object_get(doc, "spec"));

	snprintf(where, cap, "spec.pool");
	if (old && strcmp(pool_of(json_object_get(old, "spec")), pool) != 0)
		return err_set(err, -EINVAL, "a volume is moved by a request of its own: 'viv volume move'");
	snprintf(where, cap, "spec.format");
	if (old && strcmp(volume_format(json_object_get(old, "spec")), volume_format(json_object_get(doc, "spec"))) != 0)
		return err_set(err, -EINVAL, "a volume gets another format by a move: 'viv volume move NAME POOL --format FORMAT', also to the pool that "
			       "it is in");
	snprintf(where, cap, "spec.pool");
	int r = old && size <= was ? 0 : pool_check_new(n, pool, err);
	if (r < 0)
		return r == -ENOENT ? err_set(err, -EINVAL, "%s", err->msg) : r;
	snprintf(where, cap, "spec.source");
	const json_t *source = json_object_get(json_object_get(doc, "spec"), "source");
	const json_t *its = json_object_get(json_object_get(old, "spec"), "source");
	if (old && (source || its) && !json_equal(its, source))
		return err_set(err, -EINVAL, "what is on a volume in the beginning cannot be changed later; make another one");
	r = old ? 0 : upload_check(n, json_object_get(doc, "spec"), pool, where, cap, err);
	if (r < 0)
		return r;
	snprintf(where, cap, "spec.source.upload.kernel_at");
	if (json_object_get(upload_of(json_object_get(doc, "spec")), "kernel_at"))
		return err_set(err, -EINVAL, "a volume has no kernel: machines are started with that of an image");
	snprintf(where, cap, "spec.size");
	if (size % BLK_SECTOR)
		return err_set(err, -EINVAL, "a size is a multiple of %d bytes", BLK_SECTOR);
	if (size < was)
		return err_set(err, -EINVAL, "a volume does not shrink: what is at its end would be lost");
	return 0;
}

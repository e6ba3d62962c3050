/* SPDX-License-Identifier: Apache-2.0 */
#include "node/upload.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "blk/blk.h"
#include "node/controller.h"
#include "node/node.h"
#include "node/pool.h"
#include "util/err.h"
#include "util/log.h"

enum { SHA256_LEN = 64, SETTLE_MS = 1, LOOK_S = 60, GRACE_S = 3600, KEEP_MAX_S = 7 * UPLOAD_KEEP_S };

const struct schema upload_schema = {
	.name = "Upload",
	.help = "A file that a client sends, in parts if it likes. 'status.upload' tells how much of it is there.",
	.fields =
		(const struct schema_field[]){
			{ .name = "size", .type = SCHEMA_SIZE, .is_required = true, .min = 1, .max = (int64_t)1 << 46,
			  .help = "bytes of the file" },
			{ .name = "sha256", .type = SCHEMA_STRING, .help = "its SHA-256, 64 hexadecimal digits: what has come is compared with it" },
			{ .name = "format", .type = SCHEMA_STRING, .help = "'raw', 'qcow2' ...: else its content tells" },
			{ .name = "kernel_at", .type = SCHEMA_SIZE, .min = UPLOAD_KERNEL_UNIT, .max = (int64_t)1 << 46,
			  .help = "of an image of the format qcow2: where behind the disk a tar archive begins, with 'vmlinuz' and perhaps "
				  "'initrd.img', which machines of it are started with" },
			{ .name = "keep_seconds", .type = SCHEMA_INT, .min = 1, .max = KEEP_MAX_S, .dflt = "86400",
			  .help = "when no byte has come for so long, what there is of it goes, and the document" },
			{ .name = NULL },
		},
};

const struct schema upload_answer_schema = {
	.name = "UploadAnswer",
	.help = "How much of what is sent is there; the header Upload-Offset says the same, also of a refusal with the code 'offset'.",
	.fields =
		(const struct schema_field[]){
			{ .name = "received", .type = SCHEMA_INT, .help = "bytes that are safe: the next part begins there" },
			{ .name = "size", .type = SCHEMA_INT, .help = "of all" },
			{ .name = NULL },
		},
};

/* --- what may be ---------------------------------------------------- */

const json_t *upload_of(const json_t *spec)
{
	return json_object_get(json_object_get(spec, "source"), "upload");
}

static bool is_format(const char *name)
{
	const char *known;

	for (unsigned i = 0; (known = blk_format_name(i)) != NULL; i++)
		if (!strcmp(known, name))
			return true;
	return false;
}

int upload_check_format(const char *format, struct err *err)
{
	if (format && !is_format(format))
		return err_set(err, -EINVAL, "there is no format '%.40s' of disks; 'viv disk create --help' lists them", format);
	return 0;
}

int upload_check(struct node *n, const json_t *spec, const char *pool, char *where, size_t cap, struct err *err)
{
	const json_t *upload = upload_of(spec);
	const char *sum = json_string_value(json_object_get(upload, "sha256"));

	if (!upload)
		return 0;
	snprintf(where, cap, "spec.source.upload.sha256");
	if (sum && (strlen(sum) != SHA256_LEN || sum[strspn(sum, "0123456789abcdef")]))
		return err_set(err, -EINVAL, "a SHA-256 is %d hexadecimal digits in lower case", SHA256_LEN);
	snprintf(where, cap, "spec.source.upload.format");
	const char *format = json_string_value(json_object_get(upload, "format"));
	if (upload_check_format(format, err) < 0)
		return -EINVAL;
	const json_t *at = json_object_get(upload, "kernel_at");
	snprintf(where, cap, "spec.source.upload.kernel_at");
	if (at && (!format || strcmp(format, "qcow2") != 0 || json_integer_value(at) % UPLOAD_KERNEL_UNIT ||
		   json_integer_value(at) >= json_integer_value(json_object_get(upload, "size"))))
		return err_set(err, -EINVAL, "a kernel lies behind a disk of the format 'qcow2', in the file, at a multiple of %d bytes",
			       UPLOAD_KERNEL_UNIT);
	snprintf(where, cap, "spec.source.upload.size");
	return pool_check_room(n, pool, (uint64_t)json_integer_value(json_object_get(upload, "size")), err);
}

/* --- its life ---------------------------------------------------- */

/* As doc_time() writes it; 0: it is none. */
static time_t time_of(const char *text)
{
	struct tm tm = { 0 };

	return text && strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm) ? timegm(&tm) : 0;
}

static void touch_until(struct upload *u, json_int_t seconds)
{
	u->until_ns = loop_now_ns() + (uint64_t)seconds * 1000000000;
}

static json_int_t left_s(const struct upload *u)
{
	uint64_t now = loop_now_ns();

	return u->until_ns > now ? (json_int_t)((u->until_ns - now + 999999999) / 1000000000) : 0;
}

/* What is left for one that, as the daemon before has written, expires then (0: it is new). The clock may have been wrong then, or be wrong
 * now: a while is left in any case, and never more than all of it. */
static json_int_t left_of(const struct upload *u, time_t expires)
{
	json_int_t left = expires ? (json_int_t)(expires - time(NULL)) : u->keep_s, least = u->keep_s < GRACE_S ? u->keep_s : GRACE_S;

	return left < least ? least : left > u->keep_s ? u->keep_s : left;
}

void upload_init(struct upload *u, struct controlled *c, const json_t *spec, const json_t *status)
{
	const json_t *upload = upload_of(spec), *seen = json_object_get(status, "upload");
	json_int_t size = json_integer_value(json_object_get(upload, "size"));
	json_int_t received = json_integer_value(json_object_get(seen, "received"));

	u->c = c;
	u->is_refused = !strcmp(c->state, "failed");
	u->size = size > 0 ? (uint64_t)size : 0;
	u->received = received > 0 && received <= size ? (uint64_t)received : 0;
	u->keep_s = json_integer_value(json_object_get(upload, "keep_seconds"));
	u->keep_s = u->keep_s > 0 ? u->keep_s : UPLOAD_KEEP_S;
	touch_until(u, left_of(u, time_of(json_string_value(json_object_get(seen, "expires")))));
}

static void touch(struct upload *u)
{
	touch_until(u, u->keep_s);
	controlled_write(u->c);
}

/* Nobody has sent anything for too long: the document is marked as one that somebody has deleted. */
static void expire(struct upload *u, const json_t *doc, int64_t revision)
{
	struct controlled *c = u->c;
	AUTO(json_decref) json_t *gone = json_copy((json_t *)doc);

	log_info("'%s': nothing of it has come for %" JSON_INTEGER_FORMAT " s; it goes", c->key, u->keep_s);
	json_object_set_new(gone, "deleting", json_true());
	/* When the document changes meanwhile, the next step looks again. */
	if (doc_put(c->node->store, c->key, gone, revision, NULL, NULL) < 0)
		log_warn("'%s' cannot be taken away: out of memory", c->key);
}

static void wait_for_more(struct upload *u, int (*check_delete)(struct node *n, const json_t *doc, struct err *err))
{
	struct controlled *c = u->c;
	struct err err = ERR_INIT;
	int64_t revision = 0;
	AUTO(json_decref) json_t *doc = doc_get(c->node->store, c->key, &revision);
	json_int_t left = left_s(u);

	/* What was wrong stays to be read until somebody sends again. */
	if (!u->is_refused)
		controlled_set(c, "waiting", "%s", u->received ? "for the rest of its content" : "for its content");
	if (!u->is_told) {
		u->is_told = true;
		controlled_write(c);
	}
	if (!left && !check_delete(c->node, doc, &err))
		expire(u, doc, revision);
	controlled_later(c, (unsigned)(left && left < LOOK_S ? left : LOOK_S) * 1000);
}

static void note(struct upload *u)
{
	uint64_t safe = upload_stream_safe(u->stream);

	u->received = safe;
	controlled_set(u->c, "uploading", "%s", "its content is being received");
	touch(u);
	controlled_later(u->c, UPLOAD_NOTE_MS);
}

bool upload_step(struct upload *u, int64_t revision, int (*check_delete)(struct node *n, const json_t *doc, struct err *err))
{
	struct controlled *c = u->c;

	if (u->stream && upload_stream_is_over(u->stream)) {
		if (u->received != upload_stream_safe(u->stream)) {
			u->received = upload_stream_safe(u->stream);
			touch(u);
		}
		/* What is answered is known to the disk. */
		if (c->is_writing || c->is_dirty) {
			controlled_later(c, SETTLE_MS);
			return false;
		}
		upload_stream_answer(u->stream);
		u->stream = NULL;
	}
	if (u->stream) {
		note(u);
		return false;
	}
	if (u->refused_at && u->refused_at != revision)
		u->is_refused = false;
	if (u->received == u->size && !u->is_refused)
		return true;
	wait_for_more(u, check_delete);
	return false;
}

void upload_refuse(struct upload *u)
{
	json_decref(doc_get(u->c->node->store, u->c->key, &u->refused_at));
	u->is_refused = true;
	touch(u);
}

bool upload_stop(struct upload *u)
{
	if (u->stream && upload_stream_is_over(u->stream)) {
		upload_stream_answer(u->stream);
		u->stream = NULL;
	} else if (u->stream) {
		upload_stream_stop(u->stream);
	}
	return !u->stream;
}

void upload_add_status(const struct upload *u, json_t *status)
{
	char expires[DOC_TIME_LEN + 1];

	if (!u->size || u->is_over)
		return;
	doc_time(expires, time(NULL) + left_s(u));
	json_object_set_new(status, "upload", json_pack("{s:I, s:I, s:s}", "received", u->is_refused ? 0 : (json_int_t)u->received,
							"size", (json_int_t)u->size, "expires", expires));
	if (u->stream)
		json_object_set_new(status, "progress", json_pack("{s:s, s:I, s:I}", "what", "uploading", "done",
								  (json_int_t)upload_stream_sent(u->stream), "total",
								  (json_int_t)u->size));
}

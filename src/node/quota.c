/* SPDX-License-Identifier: Apache-2.0 */
#include "node/quota.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/auth_priv.h"
#include "node/doc.h"
#include "node/download.h"
#include "node/image.h"
#include "node/image_source.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/upload.h"
#include "util/endian.h"
#include "util/err.h"

enum { INSTANCES, CPUS, MEMORY, DISK, N_QUOTAS };

/* What is counted, as members of 'quota' are called, as people call it, and where it stands in a document. */
static const struct {
	const char *name, *what, *where;
	bool is_size;
} quotas[N_QUOTAS] = {
	[INSTANCES] = { "instances", "instances", "name", false },
	[CPUS] = { "cpus", "processors", "spec.cpus", false },
	[MEMORY] = { "memory", "MiB of memory", "spec.memory", true },
	[DISK] = { "disk", "MiB of disk", "spec.disk_size", true },
};

const struct schema quota_schema = {
	.name = "Quota",
	.help = "How much the project may have; what is left out is not limited.",
	.fields =
		(const struct schema_field[]){
			{ .name = "instances", .type = SCHEMA_INT, .min = 0, .max = 1000000, .help = "whether they run or not" },
			{ .name = "cpus", .type = SCHEMA_INT, .min = 0, .max = 1000000, .help = "processors of all instances" },
			{ .name = "memory", .type = SCHEMA_SIZE, .min = 0, .max = (int64_t)1 << 50, .help = "of all instances" },
			{ .name = "disk", .type = SCHEMA_SIZE, .min = 0, .max = (int64_t)1 << 60,
			  .help = "of all instances and volumes, as large as guests see them, of images that were sent, and of the memory that "
				  "snapshots keep" },
			{ .name = NULL },
		},
};

struct amounts {
	uint64_t of[N_QUOTAS];
};

struct quota_claim {
	struct quota_claim *next, *sibling;     /* among all of the node; among those of one change */
	char key[STORE_KEY_MAX + 1], project[DOC_NAME_MAX + 1];
	struct amounts amounts;
};

static uint64_t number_of(const json_t *object, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(object, name));

	return v > 0 ? (uint64_t)v : 0;
}

/* --- what a document asks for ---------------------------------------------------- */

/* What a guest sees of the disk at PATH: raw, or qcow2, in whose header it stands at byte 24. */
static uint64_t size_of_file(const char *path)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t head[32] = { 0 };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if (pread(fd, head, sizeof(head), 0) == sizeof(head) && !memcmp(head, "QFI\373", 4))
		return get_be64(head + 24);
	return (uint64_t)st.st_size;
}

static uint64_t size_of_image(struct node *n, const char *project, const char *name)
{
	struct image_files files = { .disk = NULL };
	uint64_t size = image_find(n, project, name, &files, NULL) < 0 ? 0 : size_of_file(files.disk);

	image_files_free(&files);
	return size;
}

/* What an image takes that a client sends, or that is a copy of an instance's disk: what it has sent, or what that has become; and one that
 * is downloaded: what it may be at most, and then what it is. Others are the node's. */
static uint64_t size_of_sent(struct node *n, const char *project, const json_t *doc)
{
	const json_t *spec = json_object_get(doc, "spec"), *download = download_of(spec);
	bool is_fetched = download_is_wanted(spec);
	const char *instance = json_string_value(json_object_get(json_object_get(spec, "source"), "instance"));
	uint64_t size = number_of(download ? download : upload_of(spec), "size");
	struct image_files files = { .disk = NULL };
	struct stat st;

	if (!size && !instance && !is_fetched)
		return 0;
	bool is_made = !image_find(n, project, json_string_value(json_object_get(doc, "name")), &files, NULL) && !stat(files.disk, &st);
	if (is_made && (is_fetched || (uint64_t)st.st_blocks * 512 > size))
		size = (uint64_t)st.st_blocks * 512;
	if (!is_made && instance)
		size = image_source_size(n, project, instance, size_of_image);
	image_files_free(&files);
	return size;
}

static struct amounts amounts_of(struct node *n, const char *kind, const char *project, const json_t *doc)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *image = json_string_value(json_object_get(spec, "image"));
	struct amounts a = { .of = { 0 } };

	if (!doc)
		return a;
	if (!strcmp(kind, "volume") || !strcmp(kind, "snapshot")) {
		a.of[DISK] = !strcmp(kind, "volume") ? number_of(spec, "size") : number_of(doc, "memory_size");
		return a;
	}
	if (!strcmp(kind, "image")) {
		a.of[DISK] = size_of_sent(n, project, doc);
		return a;
	}
	a.of[INSTANCES] = 1;
	a.of[CPUS] = number_of(spec, "cpus");
	a.of[MEMORY] = number_of(spec, "memory");
	a.of[DISK] = number_of(spec, "disk_size") ?: number_of(doc, "alone");
	if (image && !a.of[DISK])
		a.of[DISK] = size_of_image(n, project, image);
	return a;
}

static void add(struct amounts *to, const struct amounts *a)
{
	for (unsigned i = 0; i < N_QUOTAS; i++)
		to->of[i] += a->of[i];
}

/* --- what a project has ---------------------------------------------------- */

static const struct quota_claim *find_claim(const struct node *n, const char *key)
{
	const struct quota_claim *q = n->claims;

	while (q && strcmp(q->key, key) != 0)
		q = q->next;
	return q;
}

/* What is on its way to the store counts as it will be. */
static void add_kind(struct node *n, const char *kind, const char *project, const char *except, struct amounts *sum)
{
	char prefix[STORE_KEY_MAX + 1], key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	doc_key(prefix, kind, project, "");
	while ((d = store_next(n->store, prefix, key[0] ? key : NULL)) != NULL) {
		snprintf(key, sizeof(key), "%s", d->key);
		if (!strcmp(key, except) || find_claim(n, key))
			continue;
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		struct amounts a = amounts_of(n, kind, project, doc);
		add(sum, &a);
	}
}

/* What PROJECT has without the document EXCEPT. */
static struct amounts usage_of(struct node *n, const char *project, const char *except)
{
	struct amounts sum = { .of = { 0 } };

	add_kind(n, "instance", project, except, &sum);
	add_kind(n, "volume", project, except, &sum);
	add_kind(n, "image", project, except, &sum);
	add_kind(n, "snapshot", project, except, &sum);
	for (const struct quota_claim *q = n->claims; q; q = q->next)
		if (!strcmp(q->project, project) && strcmp(q->key, except) != 0)
			add(&sum, &q->amounts);
	return sum;
}

/* New reference; NULL: nothing is limited. */
static json_t *limits_of(struct node *n, const char *project)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "project", AUTH_ALL, project);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	const json_t *quota = json_object_get(json_object_get(doc, "spec"), "quota");
	return json_object_size(quota) ? json_deep_copy(quota) : NULL;
}

/* --- admission ---------------------------------------------------- */

static uint64_t shown(unsigned i, uint64_t v)
{
	return quotas[i].is_size ? (v + (1 << 20) - 1) >> 20 : v;
}

/* The field of DOC, of KIND, that asks for what quota I counts. */
static const char *field_of(const char *kind, const json_t *doc, unsigned i)
{
	if (i == DISK && !strcmp(kind, "volume"))
		return "spec.size";
	if (i == DISK && !strcmp(kind, "image"))
		return download_of(json_object_get(doc, "spec")) ? "spec.source.download.size" : "spec.source.upload.size";
	return i == DISK && !strcmp(kind, "snapshot") ? "spec.memory" : quotas[i].where;
}

static int refuse(const char *project, unsigned i, uint64_t limit, uint64_t used, uint64_t wanted, struct err *err)
{
	return err_set(err, -EDQUOT, "the project '%s' may have %" PRIu64 " %s (its quota '%s'): %" PRIu64 " are taken, and this needs %"
		       PRIu64 "; delete what is not needed, or ask an administrator of the node for more", project,
		       quotas[i].is_size ? limit >> 20 : limit, quotas[i].what, quotas[i].name, shown(i, used), shown(i, wanted));
}

/* Which of the LIMITS is exceeded by who has HAD that and has WANTED now, beside USED? N_QUOTAS: none. */
static unsigned exceeded(const json_t *limits, const struct amounts *wanted, const struct amounts *had, const struct amounts *used)
{
	for (unsigned i = 0; i < N_QUOTAS; i++) {
		uint64_t most = number_of(limits, quotas[i].name);

		if (json_is_integer(json_object_get(limits, quotas[i].name)) && wanted->of[i] > had->of[i] &&
		    (used->of[i] > most || wanted->of[i] > most - used->of[i]))
			return i;
	}
	return N_QUOTAS;
}

static int claim(struct node *n, const char *key, const char *project, const struct amounts *wanted, struct quota_claim **claims,
		 struct err *err)
{
	struct quota_claim *q = calloc(1, sizeof(*q));

	if (!q)
		return err_set(err, -ENOMEM, "out of memory");
	snprintf(q->key, sizeof(q->key), "%s", key);
	snprintf(q->project, sizeof(q->project), "%s", project);
	q->amounts = *wanted;
	/* Another change of the same document may be on its way, and either may win. */
	const struct quota_claim *other = find_claim(n, key);
	for (unsigned i = 0; other && i < N_QUOTAS; i++)
		if (other->amounts.of[i] > q->amounts.of[i])
			q->amounts.of[i] = other->amounts.of[i];
	q->next = n->claims;
	n->claims = q;
	q->sibling = *claims;
	*claims = q;
	return 0;
}

int quota_claim(struct node *n, const char *key, const char *kind, const json_t *doc, const json_t *old, struct quota_claim **claims,
		char *where, size_t cap, struct err *err)
{
	const char *project = json_string_value(json_object_get(doc, "project"));
	bool is_counted = !strcmp(kind, "instance") || !strcmp(kind, "volume") || !strcmp(kind, "image") || !strcmp(kind, "snapshot");
	AUTO(json_decref) json_t *limits = is_counted && project ? limits_of(n, project) : NULL;

	if (!limits)
		return 0;
	struct amounts wanted = amounts_of(n, kind, project, doc), had = amounts_of(n, kind, project, old);
	struct amounts used = usage_of(n, project, key);
	unsigned i = exceeded(limits, &wanted, &had, &used);
	if (i == N_QUOTAS)
		return claim(n, key, project, &wanted, claims, err);
	snprintf(where, cap, "%s", field_of(kind, doc, i));
	return refuse(project, i, number_of(limits, quotas[i].name), used.of[i], wanted.of[i], err);
}

int quota_claim_instances(struct node *n, const char *project, const json_t *pairs, struct quota_claim **claims, struct err *err)
{
	AUTO(json_decref) json_t *limits = limits_of(n, project);
	const json_t *pair;
	size_t k;
	int r = 0;

	if (!limits)
		return 0;
	struct amounts used = usage_of(n, project, "");
	json_array_foreach(pairs, k, pair) {
		const json_t *doc = json_array_get(pair, 0);
		const char *name = json_string_value(json_object_get(doc, "name"));
		struct amounts wanted = amounts_of(n, "instance", project, doc);
		struct amounts had = amounts_of(n, "instance", project, json_array_get(pair, 1));
		char key[STORE_KEY_MAX + 1];

		for (unsigned i = 0; i < N_QUOTAS; i++)
			used.of[i] -= used.of[i] < had.of[i] ? used.of[i] : had.of[i];
		unsigned i = exceeded(limits, &wanted, &had, &used);
		doc_key(key, "instance", project, name);
		r = i == N_QUOTAS ? claim(n, key, project, &wanted, claims, err) :
				    refuse(project, i, number_of(limits, quotas[i].name), used.of[i], wanted.of[i], err);
		if (r < 0)
			return err_wrap(err, r, "the instance '%s'", name);
		add(&used, &wanted);
	}
	return r;
}

void quota_release_all(struct node *n, struct quota_claim **claims)
{
	while (*claims) {
		struct quota_claim *q = *claims, **at = &n->claims;

		while (*at != q)
			at = &(*at)->next;
		*at = q->next;
		*claims = q->sibling;
		free(q);
	}
}

/* --- the request ---------------------------------------------------- */

void quota_show_usage(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	const char *name = json_string_value(json_object_get(doc, "name"));
	json_t *out = json_object();

	if (!doc) {
		json_decref(out);
		return;
	}
	AUTO(json_decref) json_t *limits = limits_of(n, name);
	struct amounts used = usage_of(n, name, "");
	for (unsigned i = 0; i < N_QUOTAS; i++)
		json_object_set_new(out, quotas[i].name, json_pack("{s:I, s:O*}", "used", (json_int_t)used.of[i], "limit",
								   json_object_get(limits, quotas[i].name)));
	api_reply(c, 200, out);
}

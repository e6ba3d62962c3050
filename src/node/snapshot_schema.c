/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_schema.c - documents of snapshots: what they look like, and what comes from the server. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/doc.h"
#include "node/instance.h"
#include "node/instance_hold.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/resource.h"
#include "node/snapshot.h"
#include "node/snapshot_memory.h"
#include "node/volume.h"
#include "util/err.h"

const struct schema snapshot_schema = {
	.name = "Snapshot", .help = "What an instance was at an instant: its disks, and perhaps its memory.",
	.fields = (const struct schema_field[]){
		RESOURCE_FIELDS("snapshot"),
		{ .name = "instance", .type = SCHEMA_NAME, .is_readonly = true, .help = "of which it is" },
		{ .name = "instance_uid", .type = SCHEMA_STRING, .is_readonly = true, .help = "that one's" },
		{ .name = "renamed_from", .type = SCHEMA_STRING, .is_readonly = true,
		  .help = "the key that it had before the instance got its name" },
		{ .name = "memory_size", .type = SCHEMA_INT, .is_readonly = true,
		  .help = "of one with memory: bytes that it may have; they count in the quota 'disk'" },
		{ .name = "machine", .type = SCHEMA_ANY, .is_readonly = true,
		  .help = "of one with memory: what the instance must still have to go back to it" },
		{ .name = "spec", .type = SCHEMA_OBJECT, .dflt = "{}", .help = "for people",
		  .sub = &(const struct schema){
			  .name = "SnapshotSpec", .help = "What it is for.",
			  .fields = (const struct schema_field[]){
				  { .name = "about", .type = SCHEMA_STRING, .max = 500, .help = "for people" },
				  { .name = "memory", .type = SCHEMA_BOOL, .dflt = "false",
				    .help = "keep the memory of the machine, which must run, as well: it goes back to that" },
				  { .name = NULL },
			  } } },
		{ .name = NULL },
	},
};

/* What a snapshot of a machine that runs needs to be gone back to. */
static int fill_memory(struct node *n, json_t *doc, const json_t *instance, struct err *err)
{
	const char *name = json_string_value(json_object_get(instance, "name"));
	const json_t *spec = json_object_get(instance, "spec");
	const struct instance *i = instance_find(n, json_string_value(json_object_get(instance, "project")), name,
						 json_string_value(json_object_get(instance, "uid")));

	if (!i || !instance_vmm(i))
		return err_set(err, -EBUSY, "'%s' does not run, and only what runs has a memory; start it, or leave 'memory' out", name);
	json_object_set(doc, "memory_size", json_object_get(spec, "memory"));
	return json_object_set_new(doc, "machine", snapshot_machine(spec)) < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

int snapshot_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	bool is = json_is_true(json_object_get(json_object_get(doc, "spec"), "memory"));
	bool was = json_is_true(json_object_get(json_object_get(old, "spec"), "memory"));

	(void)n;
	if (!old || is == was)
		return 0;
	snprintf(where, cap, "spec.memory");
	return err_set(err, -EINVAL, "a snapshot is with or without memory from the beginning; take another one");
}

/* A raw disk has snapshots where the file system shares blocks only. Where that is not known the controller will see. */
static int check_raw(struct node *n, const char *project, const json_t *spec, struct err *err)
{
	char key[STORE_KEY_MAX + 1];
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		const char *volume = json_string_value(json_object_get(disk, "volume"));

		doc_key(key, "volume", project, volume);
		AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
		const json_t *its = json_object_get(doc, "spec");
		if (json_is_true(json_object_get(disk, "readonly")) || strcmp(volume_format(its), "raw") != 0 || pool_shares(n, pool_of(its)))
			continue;
		return err_set(err, -ENOTSUP, "the volume '%s' is raw, and the file system of the pool '%s' cannot share blocks between files, so there can "
			       "be no snapshot of it: make it qcow2 ('viv volume move %s %s --format qcow2'), or move it to a pool on btrfs or XFS", volume,
			       pool_of(its), volume, pool_of(its));
	}
	return 0;
}

int snapshot_fill(struct api_call *c, json_t *doc, struct err *err)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	const char *name = api_param(c, "instance");

	doc_key(key, "instance", resource_project(c), name);
	AUTO(json_decref) json_t *instance = doc_get(n->store, key, NULL);
	const json_t *spec = json_object_get(instance, "spec");

	if (!instance || json_is_true(json_object_get(instance, "deleting")))
		return err_set(err, -ENOENT, "there is no instance '%s' in the project '%s'", name, resource_project(c));
	struct instance *i = instance_find(n, resource_project(c), name, json_string_value(json_object_get(instance, "uid")));
	int r = i ? instance_check_named(i, err) : 0;
	if (r < 0)
		return r;
	r = check_raw(n, resource_project(c), spec, err);
	if (r < 0)
		return r;
	json_object_set_new(doc, "instance", json_string(name));
	json_object_set(doc, "instance_uid", json_object_get(instance, "uid"));
	if (json_is_true(json_object_get(json_object_get(doc, "spec"), "memory")))
		return fill_memory(n, doc, instance, err);
	if (!json_object_get(spec, "image") && !json_array_size(json_object_get(spec, "disks")))
		return err_set(err, -EINVAL, "'%s' has no disk of which there could be a snapshot", name);
	return 0;
}

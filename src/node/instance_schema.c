/* SPDX-License-Identifier: Apache-2.0 */
/* instance_schema.c - the document of an instance. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/doc.h"
#include "node/instance.h"
#include "node/instance_limits.h"
#include "node/node.h"
#include "node/pool.h"
#include "node/port.h"
#include "node/profile.h"
#include "node/resource.h"
#include "node/seed.h"
#include "util/err.h"

#define SERIAL_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

static const struct schema disk_schema = {
	.name = "InstanceDisk", .help = "A further disk.",
	.fields = (const struct schema_field[]){
		{ .name = "volume", .type = SCHEMA_NAME, .is_required = true, .help = "the volume that it shows" },
		{ .name = "iops", .type = SCHEMA_INT, .min = 1, .max = LIMITS_IOPS_MAX,
		  .help = "requests a second; without it as 'limits' says" },
		{ .name = "bps", .type = SCHEMA_SIZE, .min = 4096, .max = (int64_t)1 << 40, .help = "bytes a second" },
		{ .name = "readonly", .type = SCHEMA_BOOL, .dflt = "false", .help = "the guest cannot write" },
		{ .name = "serial", .type = SCHEMA_STRING, .min = 1, .max = 20,
		  .help = "by what the guest knows it (/dev/disk/by-id/virtio-SERIAL): letters, digits, '.', '_', '-'; without it by the name of the "
			  "volume" },
		{ .name = NULL },
	},
};

#define NETWORK_FIELDS \
	{ .name = "kind", .type = SCHEMA_STRING, .choices = "user|none|network", .dflt = "\"user\"", \
	  .help = "user: out through the host, as any program of it; none: a cable that leads " \
		  "nowhere; network: plugged into a network of the platform" }, \
	{ .name = "network", .type = SCHEMA_NAME, .help = "of kind network: which" }, \
	{ .name = "limit_in", .type = SCHEMA_SIZE, .min = 1000, .max = (int64_t)1 << 40, \
	  .help = "bytes a second to the guest; without it, as its network says" }, \
	{ .name = "limit_out", .type = SCHEMA_SIZE, .min = 1000, .max = (int64_t)1 << 40, \
	  .help = "bytes a second from the guest" }

static const struct schema network_schema = {
	.name = "InstanceNetwork",
	.help = "A network interface.",
	.fields = (const struct schema_field[]){
		NETWORK_FIELDS,
		{ .name = "address", .type = SCHEMA_STRING, .max = 15,
		  .help = "IPv4 address on that network; without it, one that is free" },
		{ .name = "mac", .type = SCHEMA_STRING, .max = 17, .help = "address; without it, derived from the name" },
		{ .name = "forwards", .type = SCHEMA_LIST, .max = 64, .dflt = "[]",
		  .help = "ports of the host: 'tcp:[ADDR:]HOSTPORT:PORT'" },
		{ .name = NULL },
	},
};

/* What profiles may say as well, for all instances that use them (layers.h): not what can only be of one, or is how it begins.
 * D(TEXT): what is so by default, or nothing. */
#define LAYERED_FIELDS(D, networks_, limits_) \
	{ .name = "cpus", .type = SCHEMA_INT, .min = 1, .max = 64, .dflt = D("1"), \
	  .help = "processors" }, \
	{ .name = "memory", .type = SCHEMA_SIZE, .min = 4 << 20, .max = (int64_t)1 << 42, .dflt = D("536870912"), \
	  .help = "of the guest" }, \
	{ .name = "engine", .type = SCHEMA_STRING, .choices = "auto|kvm|bt|interp", .dflt = D("\"auto\""), \
	  .help = "what executes it; auto: the fastest that works here" }, \
	{ .name = "cpu", .type = SCHEMA_STRING, .min = 1, .max = 200, .dflt = D("\"host\""), \
	  .help = "model of the processors, with features: 'x86-64-v3,aes=off'" }, \
	{ .name = "disk_size", .type = SCHEMA_SIZE, .min = 1 << 20, .max = (int64_t)1 << 46, \
	  .help = "of the first disk; without it that of the image" }, \
	{ .name = "pool", .type = SCHEMA_NAME, \
	  .help = "where the first disk lives; without it in 'default'" }, \
	{ .name = "networks", .type = SCHEMA_LIST, .sub = (networks_), .max = 8, .dflt = D("[{\"kind\":\"user\",\"forwards\":[]}]"), \
	  .help = "its interfaces" }, \
	{ .name = "limits", .type = SCHEMA_OBJECT, .sub = (limits_), \
	  .help = "what it may take of its node" }, \
	{ .name = "cmdline", .type = SCHEMA_STRING, .max = 2047, \
	  .help = "of the kernel" }, \
	{ .name = "ssh_keys", .type = SCHEMA_LIST, .max = 64, \
	  .help = "public keys of who may log in as root, as lines of authorized_keys; the guest takes them when " \
	  "it begins" }, \
	{ .name = "user_data", .type = SCHEMA_STRING, .max = SEED_DATA_MAX, \
	  .help = "what the guest shall do when it begins: '#cloud-config' or a script; whoever sees the instance " \
	  "sees it" }, \
	{ .name = "metadata", .type = SCHEMA_STRING, .choices = "any|token|off", .dflt = D("\"any\""), \
	  .help = "what the guest is told about itself at http://169.254.169.254 on networks of kind user, nat " \
	  "and host-only: any: to whoever in it asks; token: to who has fetched a token (IMDSv2); off: nothing" }, \
	{ .name = "start_order", .type = SCHEMA_INT, .min = -1000, .max = 1000, .dflt = D("0"), \
	  .help = "when the node starts, those with a lower one run first; when it ends, those with a higher one " \
	  "end first" }, \
	{ .name = "restart", .type = SCHEMA_STRING, .choices = "never|on-failure|always", .dflt = D("\"on-failure\""), \
	  .help = "what follows when it ends by itself" }, \
	{ .name = "agent", .type = SCHEMA_BOOL, .dflt = D("true"), \
	  .help = "a port for the guest agent, which programs are run and files copied by" }, \
	{ .name = "shutdown_seconds", .type = SCHEMA_INT, .min = 0, .max = 3600, .dflt = D("60"), \
	  .help = "how long the guest has after the power button, before it is cut off" }

static const struct schema spec_schema = {
	.name = "InstanceSpec",
	.help = "What the instance shall be.",
	.fields =
		(const struct schema_field[]){
			{ .name = "state",
			  .type = SCHEMA_STRING,
			  .choices = "running|paused|stopped",
			  .dflt = "\"running\"",
			  .help = "what it shall do" },
			{ .name = "image", .type = SCHEMA_NAME, .help = "what its first disk begins as" },
			{ .name = "profiles", .type = SCHEMA_LIST, .max = PROFILES_MAX, .dflt = "[]",
			  .help = "whose values it has where it says nothing itself, each on top of those before; of a new one without it: 'default', if there is "
				  "a profile of that name" },
			LAYERED_FIELDS(SCHEMA_DEFAULT, &network_schema, &limits_schema),
			{ .name = "disks",
			  .type = SCHEMA_LIST,
			  .sub = &disk_schema,
			  .max = 15,
			  .dflt = "[]",
			  .help = "further disks" },
			{ .name = "kernel", .type = SCHEMA_PATH, .help = "to start instead of the image's" },
			{ .name = "initrd", .type = SCHEMA_PATH, .help = "for that kernel" },
			{ .name = "template",
			  .type = SCHEMA_STRING,
			  .choices = "auto|none",
			  .dflt = "\"none\"",
			  .help = "how it begins: auto: as a template of its image that is kept warm, if there is one that fits, and if not one is made "
				  "for the next; none: it boots" },
			{ .name = NULL },
		},
};

#define LAYER_LABELS(help_) { .name = "labels", .type = SCHEMA_MAP, .max = 64, .help = (help_) }

static const struct schema own_schema = {
	.name = "InstanceOwn",
	.help = "What the instance says itself, on top of its profiles.",
	.fields = (const struct schema_field[]){
		LAYERED_FIELDS(SCHEMA_NO_DEFAULT, &network_schema, &limits_layer_schema),
		LAYER_LABELS("its own labels"),
		{ .name = NULL },
	},
};

/* No addresses and no ports of the host, which only one can have. */
static const struct schema profile_network_schema = {
	.name = "ProfileNetwork",
	.help = "A network interface of each instance.",
	.fields = (const struct schema_field[]){ NETWORK_FIELDS, { .name = NULL } },
};

const struct schema profile_spec_schema = {
	.name = "ProfileSpec",
	.help = "What instances with this profile are where they say nothing themselves.",
	.fields = (const struct schema_field[]){
		LAYERED_FIELDS(SCHEMA_NO_DEFAULT, &profile_network_schema, &limits_layer_schema),
		LAYER_LABELS("labels of the instances"),
		{ .name = NULL },
	},
};

const struct schema *const instance_spec_schema = &spec_schema;

const struct schema instance_schema = {
	.name = "Instance",
	.help = "A machine.",
	.fields =
		(const struct schema_field[]){
			RESOURCE_FIELDS("instance"),
			{ .name = "spec",
			  .type = SCHEMA_OBJECT,
			  .sub = &spec_schema,
			  .dflt = "{}",
			  .help = "what it shall be" },
			{ .name = "own", .type = SCHEMA_OBJECT, .sub = &own_schema,
			  .help = "what it says itself: the rest of 'spec' and 'labels' comes from its profiles, or is so by default" },
			{ .name = "inherited", .type = SCHEMA_ANY, .is_readonly = true,
			  .help = "its profiles as it knows them, and which 'fields' come from which" },
			{ .name = "unchanged_since", .type = SCHEMA_INT, .is_readonly = true,
			  .help = "the revision since which only its profiles have changed it" },
			{ .name = "alone", .type = SCHEMA_INT, .is_readonly = true,
			  .help = "bytes of its first disk, which needs nothing of its image any more" },
			{ .name = "renamed_from", .type = SCHEMA_STRING, .is_readonly = true,
			  .help = "the key that it had before it got its name" },
			{ .name = "restart_of",
			  .type = SCHEMA_INT,
			  .is_readonly = true,
			  .help = "the process that shall end and be followed by another" },
			{ .name = NULL },
		},
};

/* Is KIND NAME there, and going to stay? */
static bool exists(struct node *n, const char *kind, const char *project, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, kind, project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	return doc && !json_is_true(json_object_get(doc, "deleting"));
}

static int check_disks(struct node *n, const json_t *spec, const char *project, char *where, size_t cap,
		       struct err *err)
{
	const json_t *disk;
	size_t i;

	json_array_foreach(json_object_get(spec, "disks"), i, disk) {
		const char *volume = json_string_value(json_object_get(disk, "volume"));

		snprintf(where, cap, "spec.disks[%zu].volume", i);
		if (!exists(n, "volume", project, volume))
			return err_set(err, -EINVAL, "there is no volume '%s'; make it first", volume);
		const char *serial = json_string_value(json_object_get(disk, "serial"));
		snprintf(where, cap, "spec.disks[%zu].serial", i);
		if (serial && serial[strspn(serial, SERIAL_CHARS)])
			return err_set(err, -EINVAL, "a serial number has letters, digits, '.', '_' and '-'");
	}
	where[0] = 0;
	return 0;
}

/* Its disk does not move by that. */
static int check_pool(struct node *n, const json_t *spec, const json_t *was, char *where, size_t cap, struct err *err)
{
	snprintf(where, cap, "spec.pool");
	if (was && strcmp(pool_of(was), pool_of(spec)) != 0)
		return err_set(err, -EINVAL, "the pool of an instance cannot be changed: its disk is there");
	int r = was ? 0 : pool_check_new(n, pool_of(spec), err);

	if (!r)
		where[0] = 0;
	return r == -ENOENT ? err_set(err, -EINVAL, "%s", err->msg) : r;
}

int instance_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec"), *was = json_object_get(old, "spec");
	const char *image = json_string_value(json_object_get(spec, "image"));
	const char *project = json_string_value(json_object_get(doc, "project"));

	if (!image && !json_object_get(spec, "kernel")) {
		snprintf(where, cap, "spec.image");
		return err_set(err, -EINVAL, "an instance needs an image, or a kernel");
	}
	if (was && image && !json_equal(json_object_get(was, "image"), json_object_get(spec, "image"))) {
		snprintf(where, cap, "spec.image");
		return err_set(err, -EINVAL, "the image of an instance cannot be changed: its disk has begun as that one");
	}
	if (was && !json_equal(json_object_get(was, "template"), json_object_get(spec, "template")) && json_object_get(was, "template")) {
		snprintf(where, cap, "spec.template");
		return err_set(err, -EINVAL, "how an instance has begun cannot be changed");
	}
	int r = check_disks(n, spec, project, where, cap, err);

	if (!r)
		r = check_pool(n, spec, was, where, cap, err);
	if (!r)
		r = seed_check(spec, where, cap, err);
	if (!r)
		r = limits_check(spec, where, cap, err);
	if (!r)
		r = ports_check(n, doc, where, cap, err);
	if (r < 0 || was || !image || exists(n, "image", project, image))
		return r;
	/* The last of all: 'viv run' makes the image when nothing else is wrong. */
	snprintf(where, cap, "spec.image");
	return err_set(err, -EINVAL, "there is no image '%s'; 'viv image ls' lists those that are there", image);
}

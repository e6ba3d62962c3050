/* SPDX-License-Identifier: Apache-2.0 */
/* template_fit.c - which instances can begin as a template, and as which. */
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "node/node.h"
#include "node/pool.h"
#include "node/template.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { KEYS_MAX = 6000 };               /* bytes of SSH keys, for which the disk with them has room */

static const char *text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name)) ?: "";
}

static bool is_plain_network(const json_t *spec)
{
	const json_t *nets = json_object_get(spec, "networks"), *net = json_array_get(nets, 0);
	const char *kind = json_string_value(json_object_get(net, "kind"));

	return json_array_size(nets) == 1 && kind && !strcmp(kind, "user") && !json_object_get(net, "mac");
}

static size_t keys_len(const json_t *spec)
{
	const json_t *key;
	size_t i, sum = 0;

	json_array_foreach(json_object_get(spec, "ssh_keys"), i, key)
		sum += json_string_length(key) + 8;
	return sum;
}

int template_check(const json_t *spec, struct err *err)
{
	static const char *const own[] = { "kernel", "initrd", "cmdline", "user_data" };
	const char *data = json_string_value(json_object_get(spec, "user_data")), *bad = NULL;

	for (unsigned k = 0; !bad && k < sizeof(own) / sizeof(own[0]); k++)
		if (json_object_get(spec, own[k]) && (strcmp(own[k], "user_data") || (data && *data)))
			bad = own[k];
	if (!json_object_get(spec, "image"))
		return err_set(err, -ENOTSUP, "it has no image");
	if (bad)
		return err_set(err, -ENOTSUP, "it has a '%s' of its own, which a template has not seen", bad);
	if (json_array_size(json_object_get(spec, "disks")))
		return err_set(err, -ENOTSUP, "it has further disks, and a template has none");
	if (!is_plain_network(spec))
		return err_set(err, -ENOTSUP, "its network is not the one interface of kind 'user' that a template has");
	if (!json_is_true(json_object_get(spec, "agent")))
		return err_set(err, -ENOTSUP, "it has no guest agent, by which it could be told who it is");
	if (strcmp(pool_of(spec), POOL_DEFAULT) != 0)
		return err_set(err, -ENOTSUP, "its disk is in another pool than templates are");
	if (keys_len(spec) > KEYS_MAX)
		return err_set(err, -ENOTSUP, "it has more SSH keys than a template has room for");
	return 0;
}

static json_t *image_doc(struct node *n, const char *project, const json_t *spec)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "image", project, text(spec, "image"));
	return doc_get(n->store, key, NULL);
}

char *template_key(struct node *n, const char *project, const json_t *spec)
{
	AUTO(json_decref) json_t *image = image_doc(n, project, spec);
	/* The disk is as large as its image unless it says otherwise. 'auto' is another engine when KVM comes or goes. */
	AUTO(json_decref) json_t *key = json_pack("{s:O, s:O, s:O, s:O, s:O, s:O*, s:b, s:s}", "image", json_object_get(image, "uid"), "cpus",
						  json_object_get(spec, "cpus"), "memory", json_object_get(spec, "memory"), "engine",
						  json_object_get(spec, "engine"), "cpu", json_object_get(spec, "cpu"), "disk_size",
						  json_object_get(spec, "disk_size"), "kvm", !access("/dev/kvm", R_OK | W_OK), "vmm",
						  templates_program(n->templates));

	return key ? json_dumps(key, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
}

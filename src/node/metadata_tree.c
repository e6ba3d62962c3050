/* SPDX-License-Identifier: Apache-2.0 */
/* metadata_tree.c - what a machine is told about itself, as the tree of texts that EC2 has (Amazon EC2 User Guide, "Instance
 * metadata categories"), as far as there is something to tell. One function says all leaves; a request looks for its path among
 * them, and lists what is below it. */
#include "node/metadata.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "util/cleanup.h"

#define REGION "local-1"
#define ZONE REGION "a"

struct lookup {
	char path[METADATA_PATH_MAX + 1];       /* what is looked for, without '/' at its ends */
	size_t len;
	bool wants_list;                        /* it ended with '/' */
	bool is_found;
	FILE *out;
	char last[DOC_NAME_MAX + 1];            /* entry of the list */
};

/* What is in a directory whose leaf REST has come. Leaves of one come in a row. */
static void list_entry(struct lookup *l, const char *rest)
{
	size_t len = strcspn(rest, "/");
	bool is_dir = rest[len] && l->len;      /* in the root EC2 tells no difference */

	if (len < sizeof(l->last) && strlen(l->last) == len && !strncmp(l->last, rest, len))
		return;
	snprintf(l->last, sizeof(l->last), "%.*s", (int)len, rest);
	fprintf(l->out, "%s", l->is_found ? "\n" : "");
	if (!strcmp(l->path, "meta-data/public-keys"))
		fprintf(l->out, "%s=key-%s", l->last, l->last);
	else
		fprintf(l->out, "%s%s", l->last, is_dir ? "/" : "");
	l->is_found = true;
}

/* The leaf at PATH is VALUE; NULL or "": there is none. */
__attribute__((format(printf, 3, 4)))
static void leaf(struct lookup *l, const char *value, const char *path, ...)
{
	char full[METADATA_PATH_MAX + 1];
	va_list ap;

	if (!value || !*value)
		return;
	va_start(ap, path);
	vsnprintf(full, sizeof(full), path, ap);
	va_end(ap);
	if (!l->wants_list && !strcmp(full, l->path)) {
		fputs(value, l->out);
		l->is_found = true;
	} else if (!l->len) {
		list_entry(l, full);
	} else if (!strncmp(full, l->path, l->len) && full[l->len] == '/') {
		list_entry(l, full + l->len + 1);
	}
}

static void say_keys(struct lookup *l, const json_t *spec)
{
	const json_t *key;
	size_t i;

	json_array_foreach(json_object_get(spec, "ssh_keys"), i, key)
		leaf(l, json_string_value(key), "meta-data/public-keys/%zu/openssh-key", i);
}

static void host_name(char out[2 * DOC_NAME_MAX + 2], const struct metadata_about *a, const struct metadata_port *p)
{
	snprintf(out, 2 * DOC_NAME_MAX + 2, "%s%s%s", a->name, p->domain[0] ? "." : "", p->domain);
}

static void say_port(struct lookup *l, const struct metadata_about *a, const struct metadata_port *p)
{
	static const char macs[] = "meta-data/network/interfaces/macs";
	char number[16], name[2 * DOC_NAME_MAX + 2];

	snprintf(number, sizeof(number), "%u", p->index);
	host_name(name, a, p);
	leaf(l, number, "%s/%s/device-number", macs, p->mac);
	leaf(l, p->six, "%s/%s/ipv6s", macs, p->mac);
	leaf(l, name, "%s/%s/local-hostname", macs, p->mac);
	leaf(l, p->four, "%s/%s/local-ipv4s", macs, p->mac);
	leaf(l, p->mac, "%s/%s/mac", macs, p->mac);
	leaf(l, p->subnet, "%s/%s/subnet-ipv4-cidr-block", macs, p->mac);
	leaf(l, p->subnet6, "%s/%s/subnet-ipv6-cidr-blocks", macs, p->mac);
}

/* Not signed: it tells the machine, and proves nothing to others. */
static void say_document(struct lookup *l, const struct metadata_about *a, const char *id)
{
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:s, s:s, s:s*, s:s, s:s, s:s*, s:s}", "accountId", a->project,
						  "availabilityZone", ZONE, "instanceId", id, "pendingTime", a->created,
						  "privateIp", a->ports[a->here].four, "region", REGION, "imageId",
						  json_string_value(json_object_get(a->spec, "image")), "version", "2017-09-30");
	AUTO(free) char *text = doc ? json_dumps(doc, JSON_INDENT(2)) : NULL;

	leaf(l, text, "dynamic/instance-identity/document");
}

static void say_all(struct lookup *l, const struct metadata_about *a)
{
	const struct metadata_port *here = &a->ports[a->here];
	char id[DOC_UID_LEN + 3], name[2 * DOC_NAME_MAX + 2];

	snprintf(id, sizeof(id), "i-%s", a->uid);
	host_name(name, a, here);
	say_document(l, a, id);
	leaf(l, json_string_value(json_object_get(a->spec, "image")), "meta-data/ami-id");
	leaf(l, "0", "meta-data/ami-launch-index");
	leaf(l, name, "meta-data/hostname");
	leaf(l, "none", "meta-data/instance-action");
	leaf(l, id, "meta-data/instance-id");
	leaf(l, here->six, "meta-data/ipv6");
	leaf(l, name, "meta-data/local-hostname");
	leaf(l, here->four, "meta-data/local-ipv4");
	leaf(l, here->mac, "meta-data/mac");
	for (size_t i = 0; i < a->n_ports; i++)
		say_port(l, a, &a->ports[i]);
	leaf(l, ZONE, "meta-data/placement/availability-zone");
	leaf(l, REGION, "meta-data/placement/region");
	say_keys(l, a->spec);
	leaf(l, json_string_value(json_object_get(a->spec, "user_data")), "user-data");
}

/* "latest", or a day: all that clients know are the same. */
static bool is_version(const char *text, size_t len)
{
	if (len == 6 && !memcmp(text, "latest", 6))
		return true;
	for (size_t i = 0; i < len; i++)
		if (i == 4 || i == 7 ? text[i] != '-' : text[i] < '0' || text[i] > '9')
			return false;
	return len == 10;
}

int metadata_get(const struct metadata_about *a, const char *path, char **out, size_t *len)
{
	AUTO(free) char *text = NULL;
	struct lookup l = { .out = open_memstream(&text, len) };
	size_t version = strcspn(path + 1, "/");

	if (!l.out)
		return -ENOMEM;
	if (!path[1]) {
		fprintf(l.out, "latest");
		l.is_found = true;
	} else if (is_version(path + 1, version)) {
		const char *rest = path + 1 + version;

		rest += *rest == '/';
		l.len = strnlen(rest, METADATA_PATH_MAX);
		l.wants_list = l.len && rest[l.len - 1] == '/';
		l.len -= l.wants_list;
		snprintf(l.path, sizeof(l.path), "%.*s", (int)l.len, rest);
		say_all(&l, a);
	}
	if (fclose(l.out))
		return -ENOMEM;
	if (!l.is_found)
		return -ENOENT;
	*out = take_ptr(&text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* network_schema.c - the document of a network, and what its schema cannot say. */
#include "node/network_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include "node/auth.h"
#include "node/node.h"
#include "node/profile.h"
#include "node/resource.h"
#include "util/err.h"

enum { TRIES = 256, FOUR_LONGEST = 29, FOUR_SHORTEST = 16, SIX_LEN = 64 };

static const struct schema spec_schema = {
	.name = "NetworkSpec",
	.help = "What the network shall be.",
	.fields =
		(const struct schema_field[]){
			{ .name = "kind",
			  .type = SCHEMA_STRING,
			  .choices = "user|nat|host-only|bridge",
			  .dflt = "\"nat\"",
			  .help = "user: each instance alone, out through the host; nat: instances among themselves, and "
				  "out behind the host's address; host-only: without a way out; bridge: on a bridge of "
				  "the host" },
			{ .name = "subnet",
			  .type = SCHEMA_STRING,
			  .max = 18,
			  .help = "addresses of instances, of nat and host-only: '10.1.2.0/24'; chosen where it is left out" },
			{ .name = "subnet6",
			  .type = SCHEMA_STRING,
			  .max = 43,
			  .help = "the same of IPv6, of 64 bits, or 'none'" },
			{ .name = "domain",
			  .type = SCHEMA_NAME,
			  .help = "in which instances have names; that of the network where it is left out" },
			{ .name = "bridge", .type = SCHEMA_STRING, .min = 1, .max = IF_NAMESIZE - 1,
			  .help = "of kind bridge: the host's interface" },
			{ .name = "limit_in",
			  .type = SCHEMA_SIZE,
			  .min = 1000,
			  .max = (int64_t)1 << 40,
			  .help = "bytes a second to each interface that says nothing else" },
			{ .name = "limit_out",
			  .type = SCHEMA_SIZE,
			  .min = 1000,
			  .max = (int64_t)1 << 40,
			  .help = "bytes a second from each" },
			{ .name = NULL },
		},
};

const struct schema network_schema = RESOURCE_SCHEMA("network", "Network", "What instances are plugged into.", &spec_schema, "{}");

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s ? s : "";
}

static enum network_type type_of(const json_t *spec)
{
	static const char *const names[] = { "user", "nat", "host-only", "bridge" };
	const char *kind = text_of(spec, "kind");
	unsigned i = 0;

	while (i < NETWORK_BRIDGE && strcmp(names[i], kind) != 0)
		i++;
	return (enum network_type)i;
}

static bool is_managed(enum network_type t)
{
	return t == NETWORK_NAT || t == NETWORK_HOST_ONLY;
}

char *network_own_prefix(const struct node *n)
{
	char *text = NULL;

	/* What does not fit in an alias is not told apart: two nodes with that long a common path on one host. */
	return asprintf(&text, "vivarium %.200s ", n->data_dir) < 0 ? NULL : text;
}

int network_parse(struct network_conf *conf, struct node *n, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *uid = text_of(doc, "uid"), *six = text_of(spec, "subnet6");
	struct network_conf c = { .type = type_of(spec) };
	AUTO(free) char *prefix = network_own_prefix(n);
	int r = prefix ? 0 : err_set(err, -ENOMEM, "out of memory");

	snprintf(c.table, sizeof(c.table), "viv_%.10s", uid);
	snprintf(c.alias, sizeof(c.alias), "%s%s", prefix ? prefix : "", uid);
	snprintf(c.domain, sizeof(c.domain), "%s", *text_of(spec, "domain") ? text_of(spec, "domain") : text_of(doc, "name"));
	uint64_t number = strtoull(uid, NULL, 16);
	c.mac[0] = 0x06;
	for (unsigned i = 1; i < sizeof(c.mac); i++)
		c.mac[i] = (uint8_t)(number >> (8 * i));
	c.limit_in = (uint64_t)json_integer_value(json_object_get(spec, "limit_in"));
	c.limit_out = (uint64_t)json_integer_value(json_object_get(spec, "limit_out"));
	if (c.type == NETWORK_BRIDGE)
		snprintf(c.bridge, sizeof(c.bridge), "%s", text_of(spec, "bridge"));
	else if (is_managed(c.type))
		snprintf(c.bridge, sizeof(c.bridge), "vb%.10s", uid);
	if (!r && is_managed(c.type))
		r = subnet_parse(&c.four, text_of(spec, "subnet"), err);
	if (!r && is_managed(c.type) && *six && strcmp(six, "none") != 0)
		r = subnet_parse(&c.six, six, err);
	if (!r)
		*conf = c;
	return r;
}

/* --- addresses that are free ---------------------------------------------------- */

static unsigned prefix_len(const struct sockaddr *mask, int family)
{
	const uint8_t *b = family == AF_INET ? (const uint8_t *)&((const struct sockaddr_in *)mask)->sin_addr
					     : (const uint8_t *)&((const struct sockaddr_in6 *)mask)->sin6_addr;
	unsigned n = 0, all = family == AF_INET ? 32 : 128;

	while (n < all && b[n / 8] & (0x80 >> n % 8))
		n++;
	return n;
}

/* Does an interface of the host have an address of S? */
static bool host_has(const struct subnet *s, char *who, size_t cap)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	if (getifaddrs(&all) < 0)
		return false;
	for (const struct ifaddrs *a = all; a && !found; a = a->ifa_next) {
		struct subnet has = { .family = a->ifa_addr ? a->ifa_addr->sa_family : 0 };

		if (has.family != s->family || !a->ifa_netmask)
			continue;
		if (has.family == AF_INET)
			memcpy(has.addr, &((const struct sockaddr_in *)a->ifa_addr)->sin_addr, 4);
		else
			memcpy(has.addr, &((const struct sockaddr_in6 *)a->ifa_addr)->sin6_addr, 16);
		has.len = prefix_len(a->ifa_netmask, has.family);
		found = subnet_overlaps(&has, s);
		if (found)
			snprintf(who, cap, "the host's interface '%s'", a->ifa_name);
	}
	freeifaddrs(all);
	return found;
}

/* Is there a route of the host into S, other than the default one? */
static bool host_routes(const struct subnet *s, char *who, size_t cap)
{
	char line[256], name[IF_NAMESIZE];
	unsigned to, mask;
	bool found = false;
	FILE *f = s->family == AF_INET ? fopen("/proc/net/route", "re") : NULL;

	while (f && !found && fgets(line, sizeof(line), f)) {
		struct subnet has = { .family = AF_INET };

		if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", name, &to, &mask) != 3 || !mask)
			continue;
		memcpy(has.addr, &to, 4);
		has.len = (unsigned)__builtin_popcount(mask);
		found = subnet_overlaps(&has, s);
		if (found)
			snprintf(who, cap, "a route of the host by '%s'", name);
	}
	if (f)
		fclose(f);
	return found;
}

/* Does another network have a part of S? Whatever its project: the host has one table of routes. */
static bool network_has(struct node *n, const struct subnet *s, const char *uid, char *who, size_t cap)
{
	char key[STORE_KEY_MAX + 1] = "";
	const struct store_doc *d;

	while ((d = store_next(n->store, "network/", key[0] ? key : NULL)) != NULL) {
		AUTO(json_decref) json_t *doc = json_loadb(d->value, d->len, 0, NULL);
		struct network_conf c;

		snprintf(key, sizeof(key), "%s", d->key);
		if (!strcmp(text_of(doc, "uid"), uid) || network_parse(&c, n, doc, NULL) < 0 ||
		    (!subnet_overlaps(&c.four, s) && !subnet_overlaps(&c.six, s)))
			continue;
		snprintf(who, cap, "another network of this node");
		return true;
	}
	return false;
}

static bool is_taken(struct node *n, const struct subnet *s, const char *uid, char *who, size_t cap)
{
	return network_has(n, s, uid, who, cap) || host_has(s, who, cap) || host_routes(s, who, cap);
}

/* A subnet out of 10.0.0.0/8 or fd00::/8 that is free, told by the uid, which is random. */
static int choose(struct node *n, json_t *spec, const char *field, const char *uid, bool is_six, struct err *err)
{
	uint64_t v = strtoull(uid, NULL, 16);
	char text[SUBNET_TEXT_LEN], who[64];
	struct subnet s;

	for (unsigned i = 0; i < TRIES; i++, v += 0x9e3779b97f4a7c15u) {
		if (is_six)
			snprintf(text, sizeof(text), "fd%02x:%x:%x::/64", (unsigned)(v & 0xff), (unsigned)(v >> 8 & 0xffff),
				 (unsigned)(v >> 24 & 0xffff));
		else
			snprintf(text, sizeof(text), "10.%u.%u.0/24", (unsigned)(v >> 32 & 0xff), (unsigned)(v >> 40 & 0xff));
		if (!subnet_parse(&s, text, NULL) && !is_taken(n, &s, uid, who, sizeof(who)))
			return json_object_set_new(spec, field, json_string(text));
	}
	return err_set(err, -EEXIST, "no free %s was found; say one by 'spec.%s'", field, field);
}

int network_fill(struct api_call *c, json_t *doc, struct err *err)
{
	json_t *spec = json_object_get(doc, "spec");
	const char *uid = text_of(doc, "uid");
	enum network_type type = type_of(spec);
	int r = 0;

	if (type == NETWORK_BRIDGE && auth_role(c->arg, &c->user, NULL) != API_ADMIN)
		return err_set(err, -EPERM, "'%s' may not use the host's bridges: that needs the role 'admin' on the node",
			       c->user.name);
	if (is_managed(type) && !*text_of(spec, "subnet"))
		r = choose(c->arg, spec, "subnet", uid, false, err);
	if (!r && is_managed(type) && !*text_of(spec, "subnet6"))
		r = choose(c->arg, spec, "subnet6", uid, true, err);
	return r;
}

/* --- what may be ---------------------------------------------------- */

static int check_subnet(struct node *n, const char *text, int family, const char *uid, struct err *err)
{
	struct subnet s;
	char who[64];
	int r = subnet_parse(&s, text, err);

	if (r < 0)
		return r;
	if (s.family != family || (family == AF_INET6 ? s.len != SIX_LEN : s.len < FOUR_SHORTEST || s.len > FOUR_LONGEST))
		return err_set(err, -EINVAL, family == AF_INET6 ? "'%s' is no IPv6 subnet of 64 bits"
								: "'%s' is no IPv4 subnet of 16 to 29 bits", text);
	if (!subnet_is_private(&s))
		return err_set(err, -EINVAL, "'%s' is somebody's on the Internet; choose one of 10.0.0.0/8, 172.16.0.0/12, "
			       "192.168.0.0/16, 100.64.0.0/10 or fc00::/7", text);
	if (is_taken(n, &s, uid, who, sizeof(who)))
		return err_set(err, -EEXIST, "'%s' has addresses in common with %s", text, who);
	return 0;
}

/* What other things depend on, and what the kind does not have. */
static int check_fields(const json_t *spec, const json_t *was, char *where, size_t cap, struct err *err)
{
	static const char *const fixed[] = { "kind", "subnet", "subnet6", "bridge" };
	enum network_type type = type_of(spec);

	for (unsigned i = 0; was && i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		if (strcmp(text_of(spec, fixed[i]), text_of(was, fixed[i])) != 0) {
			snprintf(where, cap, "spec.%s", fixed[i]);
			return err_set(err, -EINVAL, "that of a network cannot be changed; make another one");
		}
	}
	for (unsigned i = 1; i < 3 && !is_managed(type); i++) {
		if (json_object_get(spec, fixed[i])) {
			snprintf(where, cap, "spec.%s", fixed[i]);
			return err_set(err, -EINVAL, "only networks of kind nat and host-only have addresses of their own");
		}
	}
	snprintf(where, cap, "spec.bridge");
	if ((type == NETWORK_BRIDGE) != (json_object_get(spec, "bridge") != NULL))
		return err_set(err, -EINVAL, type == NETWORK_BRIDGE ? "say which bridge of the host it is"
								    : "only a network of kind bridge has one");
	for (const char *p = text_of(spec, "bridge"); *p; p++)
		if (*p == '/' || *p == '"' || *p <= ' ' || *p > '~')
			return err_set(err, -EINVAL, "that cannot be the name of an interface");
	where[0] = 0;
	return 0;
}

int network_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *four = text_of(spec, "subnet"), *six = text_of(spec, "subnet6"), *uid = text_of(doc, "uid");
	int r = check_fields(spec, json_object_get(old, "spec"), where, cap, err);

	if (r < 0 || old)
		return r;
	snprintf(where, cap, "spec.kind");
	if (type_of(spec) != NETWORK_USER && !link_is_permitted())
		return err_set(err, -EPERM, "this daemon may not change the host's network: only root's can have networks of kind "
			       "'%s'; 'user' needs no rights", text_of(spec, "kind"));
	snprintf(where, cap, "spec.subnet");
	if (*four)
		r = check_subnet(n, four, AF_INET, uid, err);
	if (!r && *six && strcmp(six, "none") != 0) {
		snprintf(where, cap, "spec.subnet6");
		r = check_subnet(n, six, AF_INET6, uid, err);
	}
	if (!r)
		where[0] = 0;
	return r;
}

int network_check_delete(struct node *n, const json_t *doc, struct err *err)
{
	const struct port *p = ports_next(n->ports, NULL, text_of(doc, "project"), text_of(doc, "name"));

	char profile[DOC_NAME_MAX + 1];

	if (p)
		return err_set(err, -EBUSY, "the instance '%s' is plugged into it; change that first", p->instance);
	profile_naming(n, text_of(doc, "project"), "network", text_of(doc, "name"), profile);
	return profile[0] ? err_set(err, -EBUSY, "the profile '%s' plugs instances into it; change that first", profile) : 0;
}

/* --- an instance's interface ---------------------------------------------------- */

static int check_address(const struct network_conf *conf, const char *text, struct err *err)
{
	uint8_t addr[16];
	int family = AF_INET, r = subnet_parse_address(&family, addr, text, err);
	char range[SUBNET_TEXT_LEN];

	if (r < 0 || !conf->four.family)
		return r;
	uint32_t number = subnet_number(&conf->four, addr);
	subnet_text(&conf->four, range);
	if (!subnet_has(&conf->four, addr) || number < 2 || number > subnet_last(&conf->four))
		return err_set(err, -EINVAL, "'%s' is none that an instance may have in '%s', whose first is the node's", text, range);
	return 0;
}

/* What only ports of networks have, or only those of the default kind. */
static int check_members(const json_t *net, bool is_tap, bool has_forwards, char *where, size_t cap, struct err *err)
{
	static const char *const of_taps[] = { "address", "limit_in", "limit_out" };

	for (unsigned i = 0; i < sizeof(of_taps) / sizeof(of_taps[0]) && !is_tap; i++) {
		if (json_object_get(net, of_taps[i])) {
			snprintf(where, cap, ".%s", of_taps[i]);
			return err_set(err, -EINVAL, "only an interface on a network of kind nat, host-only or bridge has that");
		}
	}
	if (!has_forwards && json_array_size(json_object_get(net, "forwards"))) {
		snprintf(where, cap, ".forwards");
		return err_set(err, -EINVAL, "ports are forwarded to interfaces of kind user and on networks of kind user and nat");
	}
	return 0;
}

int network_check_port(struct node *n, const char *project, const json_t *net, char *where, size_t cap, struct err *err)
{
	const char *name = text_of(net, "network"), *kind = text_of(net, "kind"), *address = text_of(net, "address");
	struct network_conf conf = { .type = NETWORK_USER };
	char key[STORE_KEY_MAX + 1];
	size_t len = strlen(where);
	int r;

	if (strcmp(kind, "network") != 0) {
		snprintf(where + len, cap - len, ".network");
		if (*name)
			return err_set(err, -EINVAL, "an interface on a network is of kind 'network'");
		where[len] = 0;
		return check_members(net, false, !strcmp(kind, "user"), where + len, cap - len, err);
	}
	doc_key(key, "network", project, name);
	AUTO(json_decref) json_t *doc = doc_get(n->store, key, NULL);
	snprintf(where + len, cap - len, ".network");
	if (!*name || !doc || json_is_true(json_object_get(doc, "deleting")))
		return err_set(err, -EINVAL, *name ? "there is no network '%s'; 'viv network ls' lists those that are there"
						   : "say on which network%s", name);
	r = network_parse(&conf, n, doc, err);
	if (!r)
		r = check_members(net, conf.type != NETWORK_USER, conf.type == NETWORK_USER || conf.type == NETWORK_NAT,
				  where + len, cap - len, err);
	if (!r && *address) {
		snprintf(where + len, cap - len, ".address");
		r = check_address(&conf, address, err);
	}
	if (!r)
		where[len] = 0;
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/port.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "net/net.h"
#include "node/controller.h"
#include "node/instance_hold.h"
#include "node/network.h"
#include "node/node.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

struct ports {
	struct node *node;
	struct port *first;
	struct store_watch watch;
};

/* --- names ---------------------------------------------------- */

void port_ifname(char ifname[IF_NAMESIZE], const char *uid, unsigned index)
{
	snprintf(ifname, IF_NAMESIZE, "vp%.10sn%u", uid, index % 10);
}

/* Of its own when it has none from its owner: from the uid, so that no two machines have the same, clones neither. */
static void make_mac(struct port *p)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (const char *c = p->uid; *c; c++)
		h = (h ^ (uint8_t)*c) * 0x100000001b3u;
	h = (h ^ p->index) * 0x100000001b3u;
	h ^= h >> 29;
	snprintf(p->mac, sizeof(p->mac), "06:%02x:%02x:%02x:%02x:%02x", (unsigned)(h >> 32 & 0xff), (unsigned)(h >> 24 & 0xff),
		 (unsigned)(h >> 16 & 0xff), (unsigned)(h >> 8 & 0xff), (unsigned)(h & 0xff));
}

/* --- the list ---------------------------------------------------- */

static void port_free(struct port *p)
{
	json_decref(p->forwards);
	free(p);
}

static const char *text_of(const json_t *object, const char *name)
{
	const char *s = json_string_value(json_object_get(object, name));

	return s ? s : "";
}

static bool is_plugged(const json_t *net)
{
	return !strcmp(text_of(net, "kind"), "network");
}

static struct port *port_new(const json_t *doc, const json_t *net, unsigned index)
{
	struct port *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	snprintf(p->project, sizeof(p->project), "%s", text_of(doc, "project"));
	snprintf(p->instance, sizeof(p->instance), "%s", text_of(doc, "name"));
	snprintf(p->uid, sizeof(p->uid), "%s", text_of(doc, "uid"));
	snprintf(p->network, sizeof(p->network), "%s", text_of(net, "network"));
	snprintf(p->address, sizeof(p->address), "%s", text_of(net, "address"));
	snprintf(p->mac, sizeof(p->mac), "%s", text_of(net, "mac"));
	p->index = index;
	p->limit_in = (uint64_t)json_integer_value(json_object_get(net, "limit_in"));
	p->limit_out = (uint64_t)json_integer_value(json_object_get(net, "limit_out"));
	p->forwards = json_incref(json_object_get(net, "forwards"));
	p->is_wanted = !json_is_true(json_object_get(doc, "deleting")) &&
		       strcmp(text_of(json_object_get(doc, "spec"), "state"), "stopped") != 0;
	port_ifname(p->ifname, p->uid, index);
	if (!p->mac[0])
		make_mac(p);
	return p;
}

/* The ports of DOC at the front of *AT. */
static void add_ports(struct port **at, const json_t *doc)
{
	const json_t *net;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(doc, "spec"), "networks"), i, net) {
		struct port *p = is_plugged(net) ? port_new(doc, net, (unsigned)i) : NULL;

		if (!p && is_plugged(net))
			log_error("a port of '%s' is not looked after: out of memory", text_of(doc, "name"));
		if (!p)
			continue;
		p->next = *at;
		*at = p;
	}
}

/* Networks look again whenever what is plugged into them changes, or has been unplugged. */
static void forget_ports(struct ports *ps, const char *project, const char *instance)
{
	struct port **at = &ps->first;

	while (*at) {
		struct port *p = *at;

		if (strcmp(p->project, project) || strcmp(p->instance, instance)) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		port_free(p);
	}
}

static void changed(struct store_watch *w, const struct store_event *e)
{
	struct ports *ps = container_of(w, struct ports, watch);
	char project[DOC_NAME_MAX + 1] = "";
	const char *at = strchr(e->doc->key, '/'), *slash = at ? strchr(at + 1, '/') : NULL;

	if (!slash || slash - at > DOC_NAME_MAX)
		return;
	memcpy(project, at + 1, (size_t)(slash - at - 1));
	forget_ports(ps, project, slash + 1);
	if (!e->is_delete) {
		AUTO(json_decref) json_t *doc = doc_get(ps->node->store, e->doc->key, NULL);

		add_ports(&ps->first, doc);
	}
	networks_kick(ps->node, project);
}

/* May D have ports? Most instances are in no network, and looking for the word is much quicker than reading the text. */
static bool may_have_ports(const struct store_doc *d)
{
	return memmem(d->value, d->len, "\"network\"", strlen("\"network\"")) != NULL;
}

int ports_open(struct ports **out, struct node *n, struct err *err)
{
	struct ports *ps = calloc(1, sizeof(*ps));
	char key[STORE_KEY_MAX + 1] = "";

	if (!ps)
		return err_set(err, -ENOMEM, "out of memory");
	ps->node = n;
	ps->watch = (struct store_watch){ .prefix = "instance/", .fn = changed };
	*out = ps;
	for (const struct store_doc *d = store_next(n->store, "instance/", NULL); d; d = store_next(n->store, "instance/", key)) {
		AUTO(json_decref) json_t *doc = may_have_ports(d) ? json_loadb(d->value, d->len, 0, NULL) : NULL;

		snprintf(key, sizeof(key), "%s", d->key);
		add_ports(&ps->first, doc);
	}
	return store_watch_start(n->store, &ps->watch, STORE_ANY);
}

void ports_close(struct ports *ps)
{
	if (!ps)
		return;
	store_watch_stop(&ps->watch);
	while (ps->first) {
		struct port *p = ps->first;

		ps->first = p->next;
		port_free(p);
	}
	free(ps);
}

const struct port *ports_next(const struct ports *ps, const struct port *p, const char *project, const char *network)
{
	for (p = p ? p->next : ps->first; p; p = p->next)
		if (!strcmp(p->project, project) && (!network || !strcmp(p->network, network)))
			return p;
	return NULL;
}

bool port_is_on(struct node *n, const struct port *p)
{
	struct instance *i = instance_find(n, p->project, p->instance, p->uid);

	return p->is_wanted || (i && !instance_is_off(i));
}

/* --- what may be ---------------------------------------------------- */

static int check_mac(const char *mac, struct err *err)
{
	static const char form[] = "xx:xx:xx:xx:xx:xx";

	for (unsigned i = 0; i < sizeof(form); i++) {
		bool is_good = form[i] == 'x' ? mac[i] && strchr("0123456789abcdef", mac[i]) : mac[i] == form[i];

		if (!is_good)
			return err_set(err, -EINVAL, "'%.20s' is no address like '52:54:00:12:34:56', in small letters", mac);
	}
	return strchr("13579bdf", mac[1]) ? err_set(err, -EINVAL, "'%s' is a group address; the second digit must be even", mac) : 0;
}

/* Two that cannot be at the same time. */
static bool collide(const struct net_forward *a, const struct net_forward *b)
{
	return a->is_udp == b->is_udp && a->host_port == b->host_port &&
	       (!a->host_addr[0] || !b->host_addr[0] || !strcmp(a->host_addr, b->host_addr));
}

/* Ports of the host are one another's for all projects. */
static int check_forward(const struct ports *ps, const char *uid, const struct net_forward *f, struct err *err)
{
	const json_t *text;
	size_t i;

	for (const struct port *p = ps->first; p; p = p->next) {
		json_array_foreach(p->forwards, i, text) {
			struct net_forward other;

			if (strcmp(p->uid, uid) && !net_forward_parse(&other, json_string_value(text), NULL) && collide(f, &other))
				return err_set(err, -EEXIST, "port %u of the host is forwarded to the instance '%s' already",
					       f->host_port, p->instance);
		}
	}
	return 0;
}

static int check_forwards(struct node *n, const json_t *net, const char *uid, char *where, size_t cap, struct err *err)
{
	const json_t *text;
	size_t i, len = strlen(where);

	json_array_foreach(json_object_get(net, "forwards"), i, text) {
		struct net_forward f;

		snprintf(where + len, cap - len, ".forwards[%zu]", i);
		int r = net_forward_parse(&f, json_string_value(text), err);
		if (!r && is_plugged(net))
			r = check_forward(n->ports, uid, &f, err);
		if (r < 0)
			return r;
	}
	where[len] = 0;
	return 0;
}

/* Is the address or the MAC another's on the same network? */
static int check_unique(const struct ports *ps, const struct port *mine, char *where, size_t cap, struct err *err)
{
	const struct port *p = NULL;
	size_t len = strlen(where);

	while ((p = ports_next(ps, p, mine->project, mine->network)) != NULL) {
		bool is_address = mine->address[0] && !strcmp(p->address, mine->address);

		if ((!strcmp(p->uid, mine->uid) && p->index == mine->index) || (!is_address && strcmp(p->mac, mine->mac) != 0))
			continue;
		snprintf(where + len, cap - len, is_address ? ".address" : ".mac");
		return err_set(err, -EEXIST, "'%s' is that of the instance '%s' already", is_address ? mine->address : mine->mac,
			       p->instance);
	}
	return 0;
}

static int check_one(struct node *n, const json_t *doc, const json_t *net, unsigned index, char *where, size_t cap,
		     struct err *err)
{
	const char *mac = json_string_value(json_object_get(net, "mac"));
	size_t len = strlen(where);
	int r = mac ? check_mac(mac, err) : 0;

	if (r < 0)
		snprintf(where + len, cap - len, ".mac");
	if (!r)
		r = network_check_port(n, text_of(doc, "project"), net, where, cap, err);
	if (!r)
		r = check_forwards(n, net, text_of(doc, "uid"), where, cap, err);
	if (r < 0 || !is_plugged(net))
		return r;
	struct port *mine = port_new(doc, net, index);
	r = mine ? check_unique(n->ports, mine, where, cap, err) : err_set(err, -ENOMEM, "out of memory");
	if (mine)
		port_free(mine);
	return r;
}

int ports_check(struct node *n, const json_t *doc, char *where, size_t cap, struct err *err)
{
	const json_t *net;
	size_t i;

	json_array_foreach(json_object_get(json_object_get(doc, "spec"), "networks"), i, net) {
		snprintf(where, cap, "spec.networks[%zu]", i);
		int r = check_one(n, doc, net, (unsigned)i, where, cap, err);
		if (r < 0)
			return r;
	}
	where[0] = 0;
	return 0;
}

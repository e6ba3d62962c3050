/* SPDX-License-Identifier: Apache-2.0 */
/* network_metadata.c - the metadata service of a managed network: who asks, and what that machine may know.
 *
 * The address that a request comes from says who asks, as no other port of the network can send from it: those are the rules of
 * the plan that is on the host. While a worker replaces them by those of another plan, only who has that address in both is
 * answered. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/metadata.h"
#include "node/metadata_answer.h"
#include "node/metadata_server.h"
#include "node/network_priv.h"
#include "node/node.h"
#include "node/secret.h"
#include "util/err.h"
#include "util/log.h"

enum { PORTS_MAX = 16, NOT_FOUND = 404, UNAVAILABLE = 503 };

/* --- who asks ---------------------------------------------------- */

static const struct network_port *port_at(const struct network_plan *plan, const char *address)
{
	for (size_t i = 0; plan && i < plan->n_ports; i++)
		if (!strcmp(plan->ports[i].four, address))
			return &plan->ports[i];
	return NULL;
}

/* The machine whose address that is; else NULL, and STATUS says how to refuse it. */
static const struct port *who_is(const struct network *net, struct in_addr from, int *status)
{
	char address[SUBNET_TEXT_LEN];
	const struct port *p = NULL;

	inet_ntop(AF_INET, &from, address, sizeof(address));
	const struct network_port *now = port_at(net->applied, address);
	const struct network_port *next = net->next ? port_at(net->next, address) : now;
	bool is_changing = !net->applied || (!now != !next) || (now && strcmp(now->ifname, next->ifname) != 0);

	*status = is_changing ? UNAVAILABLE : NOT_FOUND;
	if (is_changing || !now)
		return NULL;
	while ((p = ports_next(net->c.node->ports, p, net->c.project, net->c.name)) != NULL)
		if (!strcmp(p->ifname, now->ifname))
			return p;
	return NULL;
}

/* --- what it is told ---------------------------------------------------- */

static bool fill_port(struct metadata_port *out, struct node *n, const struct port *p)
{
	const struct network *net = network_find(n, p->project, p->network);
	const struct network_plan *plan = net ? net->applied : NULL;

	*out = (struct metadata_port){ .index = p->index };
	if (!plan || !network_plan_port(plan, p->ifname))
		return false;
	memcpy(out->mac, p->mac, sizeof(out->mac));
	snprintf(out->domain, sizeof(out->domain), "%s", plan->conf.four.family ? plan->conf.domain : "");
	network_lease_text(&plan->conf, network_find_lease(net, p->uid, p->index), out->four, out->six);
	if (out->four[0])
		subnet_text(&plan->conf.four, out->subnet);
	if (out->six[0])
		subnet_text(&plan->conf.six, out->subnet6);
	return true;
}

/* The interfaces of the machine of HERE that are plugged in. */
static size_t fill_ports(struct metadata_port ports[PORTS_MAX], size_t *here, struct node *n, const struct port *asker)
{
	const struct port *p = NULL;
	size_t count = 0;

	while ((p = ports_next(n->ports, p, asker->project, NULL)) != NULL) {
		if (count == PORTS_MAX || strcmp(p->uid, asker->uid) != 0 || !fill_port(&ports[count], n, p))
			continue;
		if (p == asker)
			*here = count;
		count++;
	}
	return count;
}

/* Who asks, and by which network. */
struct asker {
	const struct network *net;
	const struct port *port;
};

static int get(void *arg, const json_t *doc, const char *path, char **out, size_t *len)
{
	const struct asker *who = arg;
	const struct port *p = who->port;
	struct metadata_port ports[PORTS_MAX];
	struct metadata_about about = { .uid = p->uid, .name = p->instance, .project = p->project, .ports = ports,
					.created = json_string_value(json_object_get(doc, "created")),
					.spec = json_object_get(doc, "spec"), .here = PORTS_MAX };

	about.n_ports = fill_ports(ports, &about.here, who->net->c.node, p);
	return about.here < about.n_ports ? metadata_get(&about, path, out, len) : -ENOENT;
}

static void ask(void *arg, struct in_addr from, const struct metadata_request *rq, struct metadata_reply *reply)
{
	struct network *net = arg;
	const struct port *p = who_is(net, from, &reply->status);
	struct asker who = { .net = net, .port = p };

	if (!p)
		return;
	struct metadata_caller c = { .node = net->c.node, .project = p->project, .instance = p->instance, .uid = p->uid,
				     .key = net->metadata_key, .get = get, .arg = &who };
	metadata_answer(&c, rq, reply);
}

/* --- as a part of the network ---------------------------------------------------- */

int network_metadata_step(struct network *net, const struct network_conf *conf, struct err *err)
{
	struct metadata_server_config c = { .loop = net->c.node->loop, .bridge = conf->bridge, .ask = ask, .arg = net };
	uint8_t address[16];

	if (net->metadata && metadata_server_is_at(net->metadata, conf->bridge))
		return 0;
	network_metadata_stop(net);
	if (!conf->four.family)
		return 0;
	secret_random(net->metadata_key, sizeof(net->metadata_key));
	subnet_nth(&conf->four, 1, address);
	memcpy(&c.address, address, sizeof(c.address));
	return metadata_server_open(&net->metadata, &c, err);
}

void network_metadata_stop(struct network *net)
{
	metadata_server_close(net->metadata);
	net->metadata = NULL;
}

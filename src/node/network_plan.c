/* SPDX-License-Identifier: Apache-2.0 */
/* network_plan.c - from documents and ports to what is to be on the host, addresses included. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/network_priv.h"
#include "node/node.h"
#include "util/err.h"

enum { FIRST_NUMBER = 2 };      /* 1 is the node's */

/* --- addresses ---------------------------------------------------- */

const struct network_lease *network_find_lease(const struct network *net, const char *uid, unsigned index)
{
	for (size_t i = 0; i < net->n_leases; i++)
		if (net->leases[i].index == index && !strcmp(net->leases[i].uid, uid))
			return &net->leases[i];
	return NULL;
}

static bool has_number(const struct network_lease *leases, size_t n, uint32_t number)
{
	for (size_t i = 0; i < n; i++)
		if (leases[i].number == number)
			return true;
	return false;
}

/* The number that the owner has chosen; 0: none. */
static uint32_t chosen_number(const struct network_conf *conf, const struct port *p)
{
	int family = AF_INET;
	uint8_t addr[16];

	if (!p->address[0] || subnet_parse_address(&family, addr, p->address, NULL) < 0 || !subnet_has(&conf->four, addr))
		return 0;
	return subnet_number(&conf->four, addr);
}

/* The lowest one that is free, and has not been chosen by somebody who gets it below. */
static uint32_t free_number(const struct network *net, const struct network_conf *conf, const struct network_lease *leases,
			    size_t n)
{
	for (uint32_t number = FIRST_NUMBER; number <= subnet_last(&conf->four); number++) {
		const struct port *p = NULL;
		bool is_taken = has_number(leases, n, number);

		while (!is_taken && (p = ports_next(net->c.node->ports, p, net->c.project, net->c.name)) != NULL)
			is_taken = p->address[0] && chosen_number(conf, p) == number;
		if (!is_taken)
			return number;
	}
	return 0;
}

/* What P has already, or has chosen, as far as nobody before it has it. */
static uint32_t kept_number(const struct network *net, const struct network_conf *conf, const struct port *p,
			    const struct network_lease *leases, size_t n)
{
	const struct network_lease *had = network_find_lease(net, p->uid, p->index);
	uint32_t number = p->address[0] ? chosen_number(conf, p) : had ? had->number : 0;

	return number && !has_number(leases, n, number) ? number : 0;
}

bool network_lease_all(struct network *net, const struct network_conf *conf)
{
	const struct ports *ps = net->c.node->ports;
	const struct port *p = NULL;
	struct network_lease *leases;
	size_t n = 0, count = 0;

	while ((p = ports_next(ps, p, net->c.project, net->c.name)) != NULL)
		count++;
	leases = calloc(count + 1, sizeof(*leases));
	if (!leases)
		return false;
	/* Who has an address keeps it; the others get what is left. */
	while ((p = ports_next(ps, p, net->c.project, net->c.name)) != NULL) {
		uint32_t number = kept_number(net, conf, p, leases, n);

		snprintf(leases[n].uid, sizeof(leases[n].uid), "%s", p->uid);
		leases[n].index = p->index;
		leases[n++].number = number;
	}
	for (size_t i = 0; i < n && conf->four.family; i++)
		if (!leases[i].number)
			leases[i].number = free_number(net, conf, leases, n);
	bool is_same = n == net->n_leases && (!n || !memcmp(leases, net->leases, n * sizeof(*leases)));
	free(net->leases);
	net->leases = leases;
	net->n_leases = n;
	return !is_same;
}

void network_lease_text(const struct network_conf *conf, const struct network_lease *lease, char four[SUBNET_TEXT_LEN],
			char six[SUBNET_TEXT_LEN])
{
	uint8_t addr[16];

	four[0] = six[0] = 0;
	if (!lease || !lease->number)
		return;
	if (conf->four.family) {
		subnet_nth(&conf->four, lease->number, addr);
		subnet_address_text(AF_INET, addr, four);
	}
	if (conf->six.family) {
		subnet_nth(&conf->six, lease->number, addr);
		subnet_address_text(AF_INET6, addr, six);
	}
}

void network_own_text(const struct network_conf *conf, char text[SUBNET_TEXT_LEN])
{
	uint8_t addr[16];

	subnet_nth(&conf->four, 1, addr);
	subnet_address_text(AF_INET, addr, text);
}

/* --- the plan ---------------------------------------------------- */

static void fill_port(struct network_port *out, const struct network *net, const struct network_conf *conf, const struct port *p)
{
	memcpy(out->ifname, p->ifname, sizeof(out->ifname));
	snprintf(out->instance, sizeof(out->instance), "%s", p->instance);
	snprintf(out->mac, sizeof(out->mac), "%s", p->mac);
	network_lease_text(conf, network_find_lease(net, p->uid, p->index), out->four, out->six);
	if (conf->type == NETWORK_BRIDGE)
		snprintf(out->four, sizeof(out->four), "%s", p->address);
	out->limit_in = p->limit_in ? p->limit_in : conf->limit_in;
	out->limit_out = p->limit_out ? p->limit_out : conf->limit_out;
	out->forwards = conf->type == NETWORK_NAT ? json_deep_copy(p->forwards) : NULL;
}

static int add_ports(struct network_plan *plan, const struct network *net)
{
	struct node *n = net->c.node;
	const struct port *p = NULL;
	size_t count = 0;

	while ((p = ports_next(n->ports, p, net->c.project, NULL)) != NULL)
		count++;
	plan->ports = calloc(count + 1, sizeof(*plan->ports));
	plan->others = calloc(count + 1, sizeof(*plan->others));
	if (!plan->ports || !plan->others)
		return -ENOMEM;
	while ((p = ports_next(n->ports, p, net->c.project, NULL)) != NULL) {
		const struct network_lease *l = network_find_lease(net, p->uid, p->index);

		/* That of a machine which is off, and was plugged in elsewhere before it was set up there, is nobody's. */
		if (!port_is_on(n, p))
			continue;
		if (strcmp(p->network, net->c.name) != 0)
			memcpy(plan->others[plan->n_others++], p->ifname, IF_NAMESIZE);
		else if (l && (l->number || !plan->conf.four.family))
			fill_port(&plan->ports[plan->n_ports++], net, &plan->conf, p);
	}
	return 0;
}

struct network_plan *network_plan_new(struct network *net, const struct network_conf *conf, struct err *err)
{
	struct network_plan *p = calloc(1, sizeof(*p));

	if (p) {
		p->conf = *conf;
		p->own_prefix = network_own_prefix(net->c.node);
		p->dir = strdup(net->dir);
	}
	if (p && p->own_prefix && p->dir && !add_ports(p, net)) {
		p->rules = network_rules(p);
		p->dns = conf->four.family ? network_dns_text(p) : NULL;
	}
	if (p && p->rules && (p->dns || !conf->four.family))
		return p;
	network_plan_free(p);
	err_set(err, -ENOMEM, "out of memory");
	return NULL;
}

void network_plan_free(struct network_plan *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n_ports; i++)
		json_decref(p->ports[i].forwards);
	free(p->ports);
	free(p->others);
	free(p->rules);
	free(p->dns);
	free(p->own_prefix);
	free(p->dir);
	free(p);
}

bool network_plan_equals(const struct network_plan *a, const struct network_plan *b)
{
	/* Rules name every port, what dnsmasq is told every instance; what else there is of a network cannot change. */
	return a && !strcmp(a->rules, b->rules) && !strcmp(a->dns ?: "", b->dns ?: "");
}

bool network_plan_leaves_same(const struct network_plan *a, const struct network_plan *b)
{
	return a->n_others == b->n_others && !memcmp(a->others, b->others, a->n_others * sizeof(*a->others));
}

const struct network_port *network_plan_port(const struct network_plan *p, const char *ifname)
{
	for (size_t i = 0; p && i < p->n_ports; i++)
		if (!strcmp(p->ports[i].ifname, ifname))
			return &p->ports[i];
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* network.c - the controller of networks: leases, plan, worker, dnsmasq. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "node/instance_hold.h"
#include "node/network_priv.h"
#include "node/node.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/checked.h"
#include "util/err.h"

enum { WRITE_MS = 5, SETTLE_MS = 20, LOOK_MS = 10000 };

/* What a worker gets. */
struct network_job {
	struct network *net;
	struct network_plan *plan;      /* NULL: all is to be removed */
	struct network_conf conf;
	char dir[STORE_KEY_MAX];
	bool has_changed;
};

static struct network *network_of(struct controlled *c)
{
	return container_of(c, struct network, c);
}

/* --- workers ---------------------------------------------------- */

static int job_run(void *arg, struct err *err)
{
	const struct network_job *j = arg;

	return j->plan ? network_apply(j->plan, j->has_changed, err) : network_remove(&j->conf, j->dir, err);
}

/* Those who wait for their ports. */
static void kick_instances(struct network *net)
{
	const struct port *p = NULL;
	char key[STORE_KEY_MAX + 1];

	while ((p = ports_next(net->c.node->ports, p, net->c.project, net->c.name)) != NULL) {
		doc_key(key, "instance", p->project, p->instance);
		struct controlled *c = p->is_wanted ? controller_find(net->c.node->instances, key) : NULL;

		if (c)
			controlled_kick(c);
	}
}

static void applied(void *arg, int r, const struct err *err)
{
	struct network_job *j = arg;
	struct network *net = j->net;
	bool was_known = net->applied != NULL;

	net->is_busy = false;
	net->next = NULL;
	if (!r) {
		network_plan_free(net->applied);
		net->applied = take_ptr(&j->plan);
		net->looked_ns = loop_now_ns();
	} else {
		/* What is there now is unknown. */
		network_plan_free(net->applied);
		net->applied = NULL;
	}
	network_plan_free(j->plan);
	free(j);
	if (r < 0) {
		controlled_failed(&net->c, err);
		return;
	}
	/* A daemon that has just begun may have written a status without what is known only now. */
	if (!was_known)
		controlled_write(&net->c);
	kick_instances(net);
	controlled_kick(&net->c);
}

static void removed(void *arg, int r, const struct err *err)
{
	struct network_job *j = arg;
	struct network *net = j->net;

	free(j);
	net->is_busy = false;
	net->is_gone = !r;
	if (r < 0)
		controlled_failed(&net->c, err);
	else
		controlled_removed(&net->c);
}

/* PLAN is taken. */
static void begin(struct network *net, struct network_plan *plan, const struct network_conf *conf, bool has_changed)
{
	struct network_job *j = calloc(1, sizeof(*j));
	struct err err = ERR_INIT;

	if (j) {
		*j = (struct network_job){ .net = net, .plan = plan, .conf = *conf, .has_changed = has_changed };
		snprintf(j->dir, sizeof(j->dir), "%s", net->dir);
		if (!work_start(net->c.node->works, job_run, plan ? applied : removed, j)) {
			net->is_busy = true;
			net->next = plan;
			return;
		}
	}
	free(j);
	network_plan_free(plan);
	err_set(&err, -ENOMEM, "out of memory");
	controlled_failed(&net->c, &err);
}

/* --- steps ---------------------------------------------------- */

/* WHY: of what is not there, and keeps nobody from anything else; or "". */
static void tell_ready(struct network *net, const char *why)
{
	net->c.failures = 0;
	for (size_t i = 0; i < net->n_leases; i++) {
		if (!net->leases[i].number && net->applied->conf.four.family) {
			controlled_set(&net->c, "ready", "it has no address left for some instances");
			return;
		}
	}
	controlled_set(&net->c, "ready", "%s", why);
}

/* The host is as wanted, or a worker makes it so. True: it is. */
static bool step_host(struct network *net, const struct network_conf *conf, struct err *err)
{
	struct network_plan *plan = network_plan_new(net, conf, err);
	bool has_changed = plan && !network_plan_equals(net->applied, plan);

	if (!plan)
		return false;
	/* A tap that was left to another network and that nobody wants any more may still be of this one. */
	bool has_orphans = net->applied && !network_plan_leaves_same(net->applied, plan);

	if (has_changed || has_orphans || loop_now_ns() - net->looked_ns > (uint64_t)LOOK_MS * 1000000u) {
		begin(net, plan, conf, has_changed);
		return false;
	}
	network_plan_free(plan);
	return true;
}

static void step_managed(struct network *net, const struct network_conf *conf)
{
	struct err err = ERR_INIT;

	if (!net->c.state[0])
		controlled_set(&net->c, "creating", "%s", "");
	/* An address is used when it is known for good that it is given. */
	if (network_lease_all(net, conf))
		controlled_write(&net->c);
	if (net->c.is_writing || net->c.is_dirty) {
		controlled_later(&net->c, WRITE_MS);
		return;
	}
	bool is_right = step_host(net, conf, &err) && network_dns_step(net, net->applied->dns, &err);
	if (err.code) {
		controlled_failed(&net->c, &err);
	} else if (is_right) {
		network_metadata_step(net, conf, &err);
		tell_ready(net, err.msg);
	}
	controlled_later(&net->c, LOOK_MS);
}

static void step(struct controlled *c, const json_t *doc, int64_t revision)
{
	struct network *net = network_of(c);
	struct network_conf conf = { .type = NETWORK_USER };
	struct err err = ERR_INIT;

	(void)revision;
	if (net->is_busy)
		return;
	if (network_parse(&conf, c->node, doc, &err) < 0)
		controlled_failed(c, &err);
	else if (conf.type == NETWORK_USER)
		controlled_set(c, "ready", "%s", "");
	else
		step_managed(net, &conf);
}

static void step_gone(struct controlled *c, const json_t *doc)
{
	struct network *net = network_of(c);
	struct network_conf conf = { .type = NETWORK_USER };
	struct err err = ERR_INIT;

	if (net->is_busy)
		return;
	/* An instance may have been plugged in while the request to delete was on its way. */
	if (!net->is_gone && doc && network_check_delete(c->node, doc, &err) < 0) {
		controlled_blocked(c, &err);
		return;
	}
	if (doc && network_parse(&conf, c->node, doc, &err) < 0)
		conf.type = NETWORK_USER;
	if (net->is_gone || (conf.type == NETWORK_USER && !net->applied)) {
		controlled_removed(c);
		return;
	}
	network_metadata_stop(net);
	if (!network_dns_step(net, NULL, &err)) {
		if (err.code)
			controlled_failed(c, &err);
		return;
	}
	if (conf.type == NETWORK_USER)
		conf = net->applied->conf;
	begin(net, NULL, &conf, true);
}

/* --- as a kind of document ---------------------------------------------------- */

static void load_leases(struct network *net, const json_t *status)
{
	const json_t *list = json_object_get(status, "ports"), *p;
	size_t i;

	net->leases = calloc(json_array_size(list) + 1, sizeof(*net->leases));
	json_array_foreach(net->leases ? list : NULL, i, p) {
		const char *uid = json_string_value(json_object_get(p, "uid"));
		struct network_lease *l = &net->leases[net->n_leases++];

		snprintf(l->uid, sizeof(l->uid), "%s", uid ? uid : "");
		l->index = (unsigned)json_integer_value(json_object_get(p, "interface"));
		l->number = (uint32_t)json_integer_value(json_object_get(p, "number"));
	}
}

static int init(struct controlled *c, const json_t *doc, const json_t *status)
{
	struct network *net = network_of(c);

	(void)doc;
	net->dns.ended = network_dns_ended;
	load_leases(net, status);
	snprintf(net->dir, sizeof(net->dir), "%s/n/%s", c->node->run_dir, c->uid);
	return net->leases ? 0 : -ENOMEM;
}

static void fini(struct controlled *c)
{
	struct network *net = network_of(c);

	network_metadata_stop(net);
	process_forget(&net->dns);
	network_plan_free(net->applied);
	free(net->leases);
	free(net->dns_text);
}

static void add_status(const struct controlled *c, json_t *status)
{
	const struct network *net = container_of(c, struct network, c);
	json_t *list = json_array();

	for (size_t i = 0; i < net->n_leases; i++)
		json_array_append_new(list, json_pack("{s:s, s:i, s:I}", "uid", net->leases[i].uid, "interface",
						      (int)net->leases[i].index, "number", (json_int_t)net->leases[i].number));
	json_object_set_new(status, "ports", list);
	if (net->applied && net->applied->conf.bridge[0])
		json_object_set_new(status, "bridge", json_string(net->applied->conf.bridge));
	if (net->dns.pid)
		json_object_set_new(status, "dns_pid", json_integer(net->dns.pid));
}

const struct controller_kind network_kind = {
	.kind = "network", .size = sizeof(struct network), .init = init, .step = step, .step_gone = step_gone,
	.add_status = add_status, .fini = fini,
};

/* --- for others ---------------------------------------------------- */

void networks_kick(struct node *n, const char *project)
{
	char prefix[STORE_KEY_MAX + 1];

	doc_key(prefix, "network", project, "");
	controller_kick_all(n->networks, prefix, SETTLE_MS);
}

struct network *network_find(struct node *n, const char *project, const char *name)
{
	char key[STORE_KEY_MAX + 1];

	doc_key(key, "network", project, name);
	return (struct network *)controller_find(n->networks, key);
}

static json_t *make_user(const json_t *net)
{
	const json_t *forwards = json_object_get(net, "forwards");

	return json_pack("{s:s, s:O*, s:O*}", "kind", "user", "mac", json_object_get(net, "mac"), "hostfwd",
			 json_array_size(forwards) ? forwards : NULL);
}

int network_connect(struct node *n, const char *project, const char *uid, unsigned index, const json_t *net, json_t **out,
		    struct err *err)
{
	const char *name = json_string_value(json_object_get(net, "network"));
	struct network *found = network_find(n, project, name ? name : "");
	AUTO(json_decref) json_t *doc = found ? doc_get(n->store, found->c.key, NULL) : NULL;
	struct network_conf conf;
	char ifname[IF_NAMESIZE];

	if (!doc)
		return err_set(err, -ENOENT, "there is no network '%s'", name ? name : "");
	int r = network_parse(&conf, n, doc, err);
	if (r < 0)
		return r;
	port_ifname(ifname, uid, index);
	const struct network_port *p = network_plan_port(found->applied, ifname);
	const struct network_lease *l = network_find_lease(found, uid, index);
	if (conf.type != NETWORK_USER && conf.four.family && l && !l->number)
		return err_set(err, -ENOSPC, "the network '%s' has no address left; delete instances that are not needed", name);
	if (conf.type != NETWORK_USER && !p)
		return err_set(err, -EAGAIN, "its network '%s' is not ready%s%s", name, found->c.reason[0] ? ": " : "",
			       found->c.reason);
	*out = conf.type == NETWORK_USER ? make_user(net)
					 : json_pack("{s:s, s:s, s:s}", "kind", "tap", "ifname", p->ifname, "mac", p->mac);
	return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static json_t *port_view(struct node *n, const struct port *p)
{
	struct network *net = network_find(n, p->project, p->network);
	const struct network_plan *plan = net ? net->applied : NULL;
	char four[SUBNET_TEXT_LEN] = "", six[SUBNET_TEXT_LEN] = "";
	bool is_up = network_plan_port(plan, p->ifname) != NULL;

	if (plan)
		network_lease_text(&plan->conf, network_find_lease(net, p->uid, p->index), four, six);
	return json_pack("{s:s, s:i, s:s, s:s, s:s*, s:s*, s:s*}", "instance", p->instance, "interface", (int)p->index, "network",
			 p->network, "mac", p->mac, "address", four[0] ? four : p->address[0] ? p->address : NULL, "address6",
			 six[0] ? six : NULL, "tap", is_up ? p->ifname : NULL);
}

void network_add_addresses(struct node *n, const char *project, const char *uid, json_t *out)
{
	const struct port *p = NULL;

	while ((p = ports_next(n->ports, p, project, NULL)) != NULL)
		if (!strcmp(p->uid, uid))
			json_array_append_new(out, port_view(n, p));
}

/* In the order of names, which the list of ports is not. */
static int compare(const void *a, const void *b)
{
	const struct port *x = *(const struct port *const *)a, *y = *(const struct port *const *)b;
	int r = strcmp(x->instance, y->instance);

	return r ? r : (int)x->index - (int)y->index;
}

void network_list_ports(struct api_call *c)
{
	struct node *n = c->arg;
	const char *project = resource_project(c), *network = http_query(c->rq, "network");
	const struct port *p = NULL, **all;
	json_t *items = json_array();
	size_t count = 0, k = 0;

	while ((p = ports_next(n->ports, p, project, network)) != NULL)
		count++;
	all = calloc(count + 1, sizeof(const struct port *));
	while (all && (p = ports_next(n->ports, p, project, network)) != NULL)
		all[k++] = p;
	if (all)
		qsort(all, count, sizeof(const struct port *), compare);
	for (k = 0; all && k < count; k++)
		json_array_append_new(items, port_view(n, all[k]));
	free(all);
	api_reply(c, 200, json_pack("{s:o}", "items", items));
}

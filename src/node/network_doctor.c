/* SPDX-License-Identifier: Apache-2.0 */
/* network_doctor.c - what is wrong with a network: is what the node makes there, and is something of somebody else in the way?
 * It looks only. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "node/network_priv.h"
#include "node/nft_walk.h"
#include "node/node.h"
#include "node/program.h"
#include "node/resource.h"
#include "node/work.h"
#include "util/err.h"

enum { SENTENCE = 400, ANY_PORT = 40000 };

struct doctor {
	struct api_call *call;
	struct network_conf conf;
	char state[16], reason[400];
	bool has_dns, has_forwards;
	char guest[SUBNET_TEXT_LEN], gateway[SUBNET_TEXT_LEN], uplink[IF_NAMESIZE];
	char *nft;
	json_t *rules, *checks;
};

static void say(struct doctor *d, const char *check, bool is_good, const char *fix, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

static void say(struct doctor *d, const char *check, bool is_good, const char *fix, const char *fmt, ...)
{
	char text[SENTENCE];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	json_array_append_new(d->checks, json_pack("{s:s, s:b, s:s, s:s*}", "check", check, "ok", is_good, "message", text, "fix",
						   is_good ? NULL : fix));
}

/* --- what the node makes ---------------------------------------------------- */

static void look_at_host(struct doctor *d)
{
	struct link *links = NULL;
	size_t n = 0;
	const struct link *k = links_read(&links, &n, NULL) < 0 ? NULL : links_find(links, n, d->conf.bridge);

	say(d, "controller", !strcmp(d->state, "ready"), "the sentence says what to do; it is tried again by itself", "%s%s%s",
	    d->state[0] ? d->state : "new", d->reason[0] ? ": " : "", d->reason);
	say(d, "bridge", k && k->is_up, "it is made again by itself within ten seconds, unless something removes it",
	    "the bridge '%s' is %s", d->conf.bridge, k ? k->is_up ? "up" : "down" : "not there");
	if (d->conf.four.family)
		say(d, "dnsmasq", d->has_dns, "see the sentence of 'controller', and whether another program has port 53 or 67",
		    "dnsmasq, which gives addresses and names, %s", d->has_dns ? "runs" : "does not run");
	free(links);
}

static bool reads_one(const char *path)
{
	FILE *f = fopen(path, "re");
	int c = f ? fgetc(f) : 0;

	if (f)
		fclose(f);
	return c == '1';
}

/* The interface of the default route; "" when there is none. */
static void find_uplink(char name[IF_NAMESIZE])
{
	FILE *f = fopen("/proc/net/route", "re");
	char line[256], iface[IF_NAMESIZE];
	unsigned to, mask;

	name[0] = 0;
	while (f && !name[0] && fgets(line, sizeof(line), f))
		if (sscanf(line, "%15s %x %*x %*x %*d %*d %*d %x", iface, &to, &mask) == 3 && !to && !mask)
			memcpy(name, iface, IF_NAMESIZE);
	if (f)
		fclose(f);
}

static void look_at_routes(struct doctor *d)
{
	bool forwards = reads_one("/proc/sys/net/ipv4/ip_forward");

	find_uplink(d->uplink);
	say(d, "forwarding", forwards, "sysctl -w net.ipv4.ip_forward=1, and see what turns it off", "the host %s packets",
	    forwards ? "forwards" : "does not forward");
	say(d, "route", d->uplink[0], "give the host a default route", "the host's default route is %s%s",
	    d->uplink[0] ? "by " : "not there", d->uplink);
}

/* --- what others do ---------------------------------------------------- */

/* The line of rule HANDLE, as nft writes it. */
static void rule_text(const struct doctor *d, const struct nft_block *b, char *text, size_t cap)
{
	char *argv[] = { d->nft, (char[]){ "-a" }, (char[]){ "list" }, (char[]){ "chain" }, (char *)b->family, (char *)b->table,
			 (char *)b->chain, NULL };
	AUTO(free) char *said = NULL;
	char mark[40];
	size_t len;

	text[0] = 0;
	if (program_run(argv, NULL, &said, &len, NULL) < 0)
		return;
	snprintf(mark, sizeof(mark), " # handle %lld\n", (long long)b->handle);
	char *end = strstr(said, mark), *line = end;
	while (line && line > said && line[-1] != '\n')
		line--;
	if (line)
		snprintf(text, cap, "%.*s", (int)(end - line - (long)strspn(line, "\t ")), line + strspn(line, "\t "));
}

static void probe(struct doctor *d, const char *check, const char *what, const struct nft_packet *p)
{
	struct nft_block b;
	char rule[200], fix[SENTENCE];
	bool is_in = !strcmp(p->iif, d->conf.bridge);

	if (!nft_walk(d->rules, "viv_", p, &b)) {
		say(d, check, true, NULL, "no rule of others is in the way of %s", what);
		return;
	}
	snprintf(fix, sizeof(fix), "nft insert rule %s %s %s %s \"%s\" accept", b.family, b.table, b.chain,
		 is_in ? "iifname" : "oifname", d->conf.bridge);
	if (b.handle)
		rule_text(d, &b, rule, sizeof(rule));
	if (b.handle)
		say(d, check, false, fix, "%s %s dropped by rule %lld of chain '%s' in table '%s %s', which is not the node's: %s", what,
		    b.is_certain ? "are" : "may be", (long long)b.handle, b.chain, b.family, b.table, rule);
	else
		say(d, check, false, fix, "%s %s dropped by the policy of chain '%s' in table '%s %s', which is not the node's", what,
		    b.is_certain ? "are" : "may be", b.chain, b.family, b.table);
}

static void look_at_rules(struct doctor *d)
{
	const char *br = d->conf.bridge, *up = d->uplink;
	const struct nft_packet dhcp = { "input", br, NULL, "0.0.0.0", "255.255.255.255", "udp", 68, 67, "new" };
	const struct nft_packet dns = { "input", br, NULL, d->guest, d->gateway, "udp", ANY_PORT, 53, "new" };
	const struct nft_packet metadata = { "input", br, NULL, d->guest, d->gateway, "tcp", ANY_PORT, METADATA_PORT, "new" };
	const struct nft_packet out = { "forward", br, up, d->guest, "198.51.100.1", "tcp", ANY_PORT, 443, "new" };
	const struct nft_packet back = { "forward", up, br, "198.51.100.1", d->guest, "tcp", 443, ANY_PORT, "established" };
	const struct nft_packet in = { "forward", up, br, "198.51.100.1", d->guest, "tcp", ANY_PORT, 80, "new" };
	const struct nft_packet among = { "forward", br, br, d->guest, d->gateway, "tcp", ANY_PORT, 80, "new" };

	if (d->conf.four.family) {
		probe(d, "dhcp", "requests for addresses", &dhcp);
		probe(d, "dns", "questions for names", &dns);
		probe(d, "metadata", "questions of instances about themselves", &metadata);
	}
	if (d->conf.type == NETWORK_NAT && up[0]) {
		probe(d, "out", "packets on their way out", &out);
		probe(d, "back", "answers from outside", &back);
	}
	if (d->has_forwards && up[0])
		probe(d, "forwards", "connections to forwarded ports", &in);
	/* Then what passes on a bridge goes through the rules for what is routed, too. */
	if (reads_one("/proc/sys/net/bridge/bridge-nf-call-iptables"))
		probe(d, "among", "packets from one instance to another", &among);
}

static int load_rules(struct doctor *d, struct err *err)
{
	AUTO(free) char *text = NULL;
	size_t len = 0;
	int r = program_find(&d->nft, "nft", "nftables", err);
	char *argv[] = { d->nft, (char[]){ "-j" }, (char[]){ "list" }, (char[]){ "ruleset" }, NULL };

	if (!r)
		r = program_run(argv, NULL, &text, &len, err);
	if (!r && !(d->rules = json_loadb(text, len, 0, NULL)))
		r = err_set(err, -EPROTO, "what nft says about the host's rules cannot be understood");
	return r;
}

/* --- the request ---------------------------------------------------- */

static int examine(void *arg, struct err *err)
{
	struct doctor *d = arg;
	uint8_t addr[16];

	subnet_nth(&d->conf.four, 2, addr);
	subnet_address_text(AF_INET, addr, d->guest);
	network_own_text(&d->conf, d->gateway);
	int r = load_rules(d, err);
	if (r < 0)
		return r;
	look_at_host(d);
	if (d->conf.type == NETWORK_NAT)
		look_at_routes(d);
	look_at_rules(d);
	return 0;
}

static void answer(void *arg, int r, const struct err *err)
{
	struct doctor *d = arg;
	const json_t *check;
	bool is_healthy = true;
	size_t i;

	json_array_foreach(d->checks, i, check)
		is_healthy &= json_is_true(json_object_get(check, "ok"));
	if (r < 0)
		api_fail(d->call, r, NULL, err);
	else
		api_reply(d->call, 200, json_pack("{s:b, s:O}", "healthy", is_healthy, "checks", d->checks));
	json_decref(d->checks);
	json_decref(d->rules);
	free(d->nft);
	free(d);
}

void network_doctor(struct api_call *c)
{
	struct node *n = c->arg;
	char key[STORE_KEY_MAX + 1];
	struct err err = ERR_INIT;
	AUTO(json_decref) json_t *doc = resource_find(c, key, NULL);
	struct network *net = doc ? (struct network *)controller_find(n->networks, key) : NULL;
	struct doctor *d = net ? calloc(1, sizeof(*d)) : NULL;

	if (!doc)
		return;
	int r = d ? network_parse(&d->conf, n, doc, &err) : err_set(&err, -EAGAIN, "it cannot be looked at now; try again");
	if (!r && d->conf.type == NETWORK_USER) {
		free(d);
		api_reply(c, 200, json_pack("{s:b, s:[]}", "healthy", true, "checks"));
		return;
	}
	if (!r) {
		d->call = c;
		d->has_dns = net->dns.pid != 0;
		d->checks = json_array();
		memcpy(d->state, net->c.state, sizeof(d->state));
		memcpy(d->reason, net->c.reason, sizeof(d->reason));
		for (size_t i = 0; net->applied && i < net->applied->n_ports; i++)
			d->has_forwards |= json_array_size(net->applied->ports[i].forwards) > 0;
		r = work_start(n->works, examine, answer, d);
	}
	if (!r)
		return;
	if (d)
		json_decref(d->checks);
	free(d);
	api_fail(c, r, NULL, &err);
}

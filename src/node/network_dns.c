/* SPDX-License-Identifier: Apache-2.0 */
/* network_dns.c - dnsmasq(8), which gives instances their addresses and names: one per managed network.
 *
 * Every address is decided here and given by MAC; dnsmasq has no pool of its own, and so no state that could be lost: it is
 * started anew whenever what it is to say changes. Instances cannot choose names themselves. Its configuration is written only
 * while it does not run, so the file always says what the one that runs was started with. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "node/network_priv.h"
#include "node/node.h"
#include "node/program.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"

enum { LEASE_HOURS = 1, WAIT_MS = 20, LIVED_MS = 5000, FAILURES_TOLD = 2 };

/* --- what it is told ---------------------------------------------------- */

static void write_ranges(FILE *f, const struct network_conf *c)
{
	struct in_addr mask = { .s_addr = htonl(~(uint32_t)0 << (32 - c->four.len)) };
	char base[SUBNET_TEXT_LEN], dots[INET_ADDRSTRLEN];

	subnet_address_text(AF_INET, c->four.addr, base);
	inet_ntop(AF_INET, &mask, dots, sizeof(dots));
	fprintf(f, "dhcp-range=%s,static,%s,%dh\n", base, dots, LEASE_HOURS);
	if (!c->six.family)
		return;
	subnet_address_text(AF_INET6, c->six.addr, base);
	fprintf(f, "enable-ra\ndhcp-range=%s,static,%u,%dh\n", base, c->six.len, LEASE_HOURS);
}

static void write_host(FILE *f, const struct network_port *p, const char *domain)
{
	bool has_six = p->six[0];

	fprintf(f, "dhcp-host=%s,%s%s%s%s,%s\n", p->mac, p->four, has_six ? ",[" : "", p->six, has_six ? "]" : "", p->instance);
	fprintf(f, "host-record=%s,%s.%s,%s%s%s\n", p->instance, p->instance, domain, p->four, has_six ? "," : "", p->six);
}

/* Without a way out nobody is asked, and nobody is named as the way, but to what the node itself answers (RFC 3442). */
static void write_closed(FILE *f, const struct network_conf *c)
{
	char own[SUBNET_TEXT_LEN];

	network_own_text(c, own);
	fprintf(f, "no-resolv\ndhcp-option=option:router\n"
		   "dhcp-option=option:classless-static-route," METADATA_ADDRESS "/32,%s\n", own);
}

/* In a user namespace of an ordinary user nobody can let go of groups (user_namespaces(7)), and dnsmasq, which sees that it is root, ends over
 * that; it does not try when it is told that somebody debugs it. */
static const char *foreground(void)
{
	char word[8] = "";
	FILE *f = fopen("/proc/self/setgroups", "re");
	bool is_denied = f && fgets(word, sizeof(word), f) && !strncmp(word, "deny", 4);

	if (f)
		fclose(f);
	return is_denied ? "no-daemon" : "keep-in-foreground";
}

char *network_dns_text(const struct network_plan *p)
{
	const struct network_conf *c = &p->conf;
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	fprintf(f,
		"%s\nlog-facility=-\npid-file=\nquiet-dhcp\nquiet-dhcp6\nquiet-ra\n"
		"interface=%s\nexcept-interface=lo\nbind-dynamic\nno-hosts\nno-ping\n"
		"domain-needed\nbogus-priv\ndomain=%s\nlocal=/%s/\n"
		"dhcp-authoritative\ndhcp-ignore-names\ndhcp-leasefile=%s/leases\n",
		foreground(), c->bridge, c->domain, c->domain, p->dir);
	if (c->type == NETWORK_HOST_ONLY)
		write_closed(f, c);
	write_ranges(f, c);
	for (size_t i = 0; i < p->n_ports; i++)
		write_host(f, &p->ports[i], c->domain);
	return fclose(f) ? NULL : text;
}

/* --- its process ---------------------------------------------------- */

static void path_of(const struct network *net, const char *name, char path[STORE_KEY_MAX + 32])
{
	snprintf(path, STORE_KEY_MAX + 32, "%s/%s", net->dir, name);
}

static char *read_text(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;
	size_t cap = 0;

	if (!f)
		return NULL;
	if (getdelim(&text, &cap, 0, f) < 0 && text)
		text[0] = 0;
	fclose(f);
	return text;
}

static int write_text(const char *path, const char *text, struct err *err)
{
	FILE *f = fopen(path, "we");
	bool is_bad = !f || fputs(text, f) < 0;

	if (f && fclose(f))
		is_bad = true;
	return is_bad ? err_set(err, -errno, "cannot write '%s': %s", path, strerror(errno)) : 0;
}

/* One that a daemon before this has left. 0: what there is is known now; -EAGAIN: ask again. */
static int look(struct network *net, struct err *err)
{
	char conf[STORE_KEY_MAX + 32], lock[STORE_KEY_MAX + 32], word[STORE_KEY_MAX + 64];

	path_of(net, "dnsmasq.conf", conf);
	path_of(net, "dnsmasq.lock", lock);
	snprintf(word, sizeof(word), "--conf-file=%s", conf);
	int r = process_find_word(&net->dns, net->c.node->loop, lock, word, err);
	if (r < 0)
		return r;
	net->has_looked = true;
	net->dns_text = r > 0 ? read_text(conf) : NULL;
	return 0;
}

static int start(struct network *net, const char *wanted, struct err *err)
{
	char conf[STORE_KEY_MAX + 32], lock[STORE_KEY_MAX + 32], log[STORE_KEY_MAX + 32], word[STORE_KEY_MAX + 64];
	AUTO(free) char *program = NULL;
	int r = program_find(&program, "dnsmasq", "dnsmasq-base", err);

	path_of(net, "dnsmasq.conf", conf);
	path_of(net, "dnsmasq.lock", lock);
	path_of(net, "dnsmasq.log", log);
	snprintf(word, sizeof(word), "--conf-file=%s", conf);
	char *argv[] = { program, word, NULL };
	struct process_spec s = { .lock_path = lock, .log_path = log, .argv = argv };

	if (!r && remove(log) < 0 && errno != ENOENT)
		r = err_set(err, -errno, "cannot remove '%s': %s", log, strerror(errno));
	if (!r)
		r = write_text(conf, wanted, err);
	if (!r)
		r = process_start(&net->dns, net->c.node->loop, &s, err);
	if (r < 0)
		return r;
	free(net->dns_text);
	net->dns_text = strdup(wanted);
	net->dns_started_ns = loop_now_ns();
	controlled_write(&net->c);
	return 0;
}

void network_dns_ended(struct process *p)
{
	struct network *net = container_of(p, struct network, dns);
	bool has_lived = loop_now_ns() - net->dns_started_ns > (uint64_t)LIVED_MS * 1000000u;

	if (net->dns_text)
		log_warn("'%s': dnsmasq has ended; it is started again", net->c.key);
	net->dns_failures = has_lived || !net->dns_text ? 0 : net->dns_failures + 1;
	controlled_kick(&net->c);
}

static int say_failure(struct network *net, struct err *err)
{
	char words[200];

	process_last_words(net->dir, "dnsmasq.log", words, sizeof(words));
	net->dns_failures = 0;
	return err_set(err, -EIO, "dnsmasq does not stay%s%s", words[0] ? ": " : "", words);
}

bool network_dns_step(struct network *net, const char *wanted, struct err *err)
{
	int r = net->has_looked ? 0 : look(net, err);

	if (!r && net->dns.pid && wanted && net->dns_text && !strcmp(net->dns_text, wanted))
		return true;
	if (!r && net->dns.pid) {
		/* A text that is not there tells network_dns_ended() that the end was wanted. */
		free(net->dns_text);
		net->dns_text = NULL;
		process_kill(&net->dns, SIGKILL);
		return false;
	}
	if (!r && wanted && net->dns_failures > FAILURES_TOLD)
		r = say_failure(net, err);
	else if (!r && wanted)
		r = start(net, wanted, err);
	if (r == -EAGAIN || r == -EBUSY) {
		*err = (struct err)ERR_INIT;
		controlled_later(&net->c, WAIT_MS);
	}
	return !r;
}

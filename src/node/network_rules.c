/* SPDX-License-Identifier: Apache-2.0 */
/* network_rules.c - what nftables is told about a network (nft(8)).
 *
 * Two tables per network, which one transaction replaces, so there is no moment without them. The one of family bridge looks at
 * each frame that comes from a tap: a guest speaks with the addresses that it has been given and no others, is no router and no
 * DHCP server, and no faster than allowed. The one of family inet is the way out (nat) or its absence (host-only). Nothing
 * there can undo what a rule of somebody else drops: for that, see network_doctor.c. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "net/net.h"
#include "node/network_priv.h"
#include "util/cleanup.h"

/* A bucket of what comes in a fifth of a second, but no less than a few large frames. */
static uint64_t burst_of(uint64_t limit)
{
	return limit / 5 > 65536 ? limit / 5 : 65536;
}

static void write_limit(FILE *f, const char *match, uint64_t limit)
{
	if (limit)
		fprintf(f, "\t\t%slimit rate over %llu bytes/second burst %llu bytes drop\n", match, (unsigned long long)limit,
			(unsigned long long)burst_of(limit));
}

/* --- what comes from a guest ---------------------------------------------------- */

/* IPv4 and ARP: its own address, or none while it asks for one. */
static void write_four(FILE *f, const struct network_port *p)
{
	if (!p->four[0])
		return;
	fprintf(f,
		"\t\tether type arp arp saddr ip != { 0.0.0.0, %s } drop\n"
		"\t\tether type ip ip saddr 0.0.0.0 udp dport != 67 drop\n"
		"\t\tether type ip ip saddr 0.0.0.0 ip protocol != udp drop\n"
		"\t\tether type ip ip saddr != { 0.0.0.0, %s } drop\n",
		p->four, p->four);
}

static void write_number(FILE *f, const uint8_t addr[16])
{
	fprintf(f, "0x");
	for (unsigned i = 0; i < 16; i++)
		fprintf(f, "%02x", addr[i]);
}

/* The link-local address that the kernel gives the bridge (RFC 4291, appendix A): the way out, as instances know it. */
static void gateway_of(const struct network_conf *c, uint8_t addr[16])
{
	const uint8_t id[8] = { c->mac[0] ^ 2, c->mac[1], c->mac[2], 0xff, 0xfe, c->mac[3], c->mac[4], c->mac[5] };

	memset(addr, 0, 16);
	addr[0] = 0xfe;
	addr[1] = 0x80;
	memcpy(addr + 8, id, sizeof(id));
}

/* IPv6: its own, link-local ones but for the node's, or none while it looks whether one is taken; and it says of no other that
 * it has it (RFC 4861, 4.4: the target stands behind 8 bytes). */
static void write_six(FILE *f, const struct network_conf *conf, const struct network_port *p)
{
	uint8_t gateway[16], own[16];
	char text[SUBNET_TEXT_LEN];
	int family = AF_INET6;

	if (conf->type == NETWORK_BRIDGE)
		return;
	if (!p->six[0] || subnet_parse_address(&family, own, p->six, NULL) < 0) {
		fprintf(f, "\t\tether type ip6 drop\n");
		return;
	}
	gateway_of(conf, gateway);
	subnet_address_text(AF_INET6, gateway, text);
	fprintf(f, "\t\tether type ip6 ip6 saddr != { ::, fe80::/10, %s } drop\n\t\tip6 saddr %s drop\n", p->six, text);
	fprintf(f, "\t\ticmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa @th,64,128 != ");
	write_number(f, own);
	fprintf(f, " drop\n\t\ticmpv6 type nd-neighbor-advert @th,64,128 ");
	write_number(f, gateway);
	fprintf(f, " drop\n");
}

/* Questions to the metadata service come by its address, and no faster than a machine that begins asks them. */
static void write_metadata_limit(FILE *f, const struct network_conf *c)
{
	char own[SUBNET_TEXT_LEN];

	if (!c->four.family)
		return;
	network_own_text(c, own);
	fprintf(f,
		"\t\tip daddr %s tcp dport %d drop\n"
		"\t\tip daddr " METADATA_ADDRESS " tcp flags & (syn | ack) == syn "
		"limit rate over 50/second burst 200 packets drop\n",
		own, METADATA_PORT);
}

static void write_port(FILE *f, const struct network_conf *conf, const struct network_port *p)
{
	fprintf(f,
		"\tchain from_%s {\n"
		"\t\tether saddr != %s drop\n"
		"\t\tether type != { arp, ip, ip6 } drop\n"
		"\t\tether type arp arp saddr ether != %s drop\n",
		p->ifname, p->mac, p->mac);
	write_four(f, p);
	write_six(f, conf, p);
	if (conf->type != NETWORK_BRIDGE)
		fprintf(f, "\t\ticmpv6 type { nd-router-advert, nd-redirect } drop\n"
			   "\t\tudp sport { 67, 547 } drop\n");
	write_metadata_limit(f, conf);
	write_limit(f, "", p->limit_out);
	fprintf(f, "\t}\n");
}

static void write_bridge_table(FILE *f, const struct network_plan *plan)
{
	fprintf(f, "table bridge %s {\n", plan->conf.table);
	for (size_t i = 0; i < plan->n_ports; i++)
		write_port(f, &plan->conf, &plan->ports[i]);
	fprintf(f, "\tchain from {\n\t\ttype filter hook prerouting priority -300; policy accept;\n");
	for (size_t i = 0; i < plan->n_ports; i++)
		fprintf(f, "\t\tiifname \"%s\" goto from_%s\n", plan->ports[i].ifname, plan->ports[i].ifname);
	fprintf(f, "\t}\n\tchain to {\n\t\ttype filter hook postrouting priority 0; policy accept;\n");
	for (size_t i = 0; i < plan->n_ports; i++) {
		char match[IF_NAMESIZE + 16];

		snprintf(match, sizeof(match), "oifname \"%s\" ", plan->ports[i].ifname);
		write_limit(f, match, plan->ports[i].limit_in);
	}
	fprintf(f, "\t}\n}\n");
}

/* --- the way out, and in ---------------------------------------------------- */

static void write_forward_chain(FILE *f, const struct network_conf *c)
{
	char four[SUBNET_TEXT_LEN], six[SUBNET_TEXT_LEN];

	subnet_text(&c->four, four);
	/* Nothing link-local is passed on (RFC 3927, 7): what answers the host there, as a cloud's metadata, is not for guests. */
	fprintf(f, "\tchain forward {\n\t\ttype filter hook forward priority 0; policy accept;\n"
		   "\t\tiifname \"%s\" oifname \"%s\" accept\n"
		   "\t\tiifname \"%s\" ip daddr 169.254.0.0/16 drop\n", c->bridge, c->bridge, c->bridge);
	if (c->type == NETWORK_NAT) {
		fprintf(f, "\t\tiifname \"%s\" meta nfproto ipv4 ip saddr != %s drop\n", c->bridge, four);
		if (c->six.family) {
			subnet_text(&c->six, six);
			fprintf(f, "\t\tiifname \"%s\" meta nfproto ipv6 ip6 saddr != %s drop\n", c->bridge, six);
		}
		fprintf(f, "\t\toifname \"%s\" ct state established,related accept\n"
			   "\t\toifname \"%s\" ct status dnat accept\n", c->bridge, c->bridge);
	} else {
		fprintf(f, "\t\tiifname \"%s\" drop\n", c->bridge);
	}
	fprintf(f, "\t\toifname \"%s\" drop\n\t}\n", c->bridge);
}

static void write_masquerade(FILE *f, const char *ip, const struct subnet *s, const char *multicast)
{
	char text[SUBNET_TEXT_LEN];

	if (!s->family)
		return;
	subnet_text(s, text);
	/* The first: a guest reaches another by a port that the host forwards; the answer must come back the same way. */
	fprintf(f, "\t\t%s saddr %s %s daddr %s ct status dnat masquerade\n", ip, text, ip, text);
	fprintf(f, "\t\t%s saddr %s %s daddr != %s %s daddr != %s masquerade\n", ip, text, ip, text, ip, multicast);
}

static void write_forward(FILE *f, const struct network_port *p, const struct net_forward *w)
{
	const char *proto = w->is_udp ? "udp" : "tcp";
	bool is_six = strchr(w->host_addr, ':');

	if (is_six && !p->six[0])
		return;
	fprintf(f, "\t\tmeta nfproto %s fib daddr type local ", is_six ? "ipv6" : "ipv4");
	if (w->host_addr[0])
		fprintf(f, "%s daddr %s ", is_six ? "ip6" : "ip", w->host_addr);
	fprintf(f, is_six ? "%s dport %u dnat ip6 to [%s]:%u\n" : "%s dport %u dnat ip to %s:%u\n", proto, w->host_port,
		is_six ? p->six : p->four, w->guest_port);
}

static void write_forwards(FILE *f, const struct network_plan *plan)
{
	for (size_t i = 0; i < plan->n_ports; i++) {
		const json_t *text;
		size_t k;

		json_array_foreach(plan->ports[i].forwards, k, text) {
			struct net_forward w;

			if (!net_forward_parse(&w, json_string_value(text), NULL))
				write_forward(f, &plan->ports[i], &w);
		}
	}
}

static void write_nat_chains(FILE *f, const struct network_plan *plan)
{
	fprintf(f, "\tchain incoming {\n\t\ttype nat hook prerouting priority -100; policy accept;\n");
	write_forwards(f, plan);
	fprintf(f, "\t}\n\tchain local {\n\t\ttype nat hook output priority -100; policy accept;\n"
		   "\t\tip daddr 127.0.0.0/8 accept\n\t\tip6 daddr ::1 accept\n");
	write_forwards(f, plan);
	fprintf(f, "\t}\n\tchain outgoing {\n\t\ttype nat hook postrouting priority 100; policy accept;\n");
	write_masquerade(f, "ip", &plan->conf.four, "224.0.0.0/4");
	write_masquerade(f, "ip6", &plan->conf.six, "ff00::/8");
	fprintf(f, "\t}\n");
}

/* Before other rules that change where something goes. */
static void write_metadata_chain(FILE *f, const struct network_conf *c)
{
	char own[SUBNET_TEXT_LEN];

	network_own_text(c, own);
	fprintf(f,
		"\tchain metadata {\n\t\ttype nat hook prerouting priority -101; policy accept;\n"
		"\t\tiifname \"%s\" ip daddr " METADATA_ADDRESS " tcp dport 80 dnat ip to %s:%d\n\t}\n",
		c->bridge, own, METADATA_PORT);
}

static void write_inet_table(FILE *f, const struct network_plan *plan)
{
	if (!plan->conf.four.family)
		return;
	fprintf(f, "table inet %s {\n", plan->conf.table);
	write_forward_chain(f, &plan->conf);
	write_metadata_chain(f, &plan->conf);
	if (plan->conf.type == NETWORK_NAT)
		write_nat_chains(f, plan);
	fprintf(f, "}\n");
}

/* --- the whole ---------------------------------------------------- */

/* That a table is there before it is deleted makes deleting one that may not be there no error. */
static void write_deletion(FILE *f, const char *table)
{
	fprintf(f, "table inet %s {}\ndelete table inet %s\ntable bridge %s {}\ndelete table bridge %s\n", table, table, table, table);
}

char *network_rules(const struct network_plan *plan)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	write_deletion(f, plan->conf.table);
	write_bridge_table(f, plan);
	write_inet_table(f, plan);
	return fclose(f) ? NULL : text;
}

char *network_no_rules(const struct network_conf *conf)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	write_deletion(f, conf->table);
	return fclose(f) ? NULL : text;
}

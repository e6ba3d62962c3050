/* SPDX-License-Identifier: Apache-2.0 */
/* network_priv.h - one network, as its files share it: network.c decides, network_schema.c says what may be,
 * network_rules.c and network_dns.c write what nft and dnsmasq read, network_apply.c makes it so on a worker, network_metadata.c
 * answers what instances ask about themselves. */
#ifndef NODE_NETWORK_PRIV_H
#define NODE_NETWORK_PRIV_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "node/controller.h"
#include "node/link.h"
#include "node/metadata.h"
#include "node/network.h"
#include "node/port.h"
#include "node/process.h"
#include "node/subnet.h"

enum network_type { NETWORK_USER, NETWORK_NAT, NETWORK_HOST_ONLY, NETWORK_BRIDGE };
enum { NETWORK_TABLE_LEN = 16 };

/* What a document says. */
struct network_conf {
	enum network_type type;
	char bridge[IF_NAMESIZE];       /* "" of user */
	char alias[LINK_ALIAS_LEN];     /* of its interfaces */
	char table[NETWORK_TABLE_LEN];  /* of nftables */
	uint8_t mac[6];                 /* of a bridge of ours */
	struct subnet four, six;        /* family 0: none */
	char domain[DOC_NAME_MAX + 1];
	uint64_t limit_in, limit_out;   /* bytes a second of each port that says nothing else; 0: none */
};

/* An address that a port has for as long as it is there. */
struct network_lease {
	char uid[DOC_UID_LEN + 1];
	unsigned index;
	uint32_t number;                /* in the subnet, and in that of IPv6; 0: there was none left */
};

struct network_port {
	char ifname[IF_NAMESIZE], instance[DOC_NAME_MAX + 1], mac[PORT_MAC_LEN + 1];
	char four[SUBNET_TEXT_LEN], six[SUBNET_TEXT_LEN];       /* "": whatever it says it has */
	uint64_t limit_in, limit_out;
	json_t *forwards;               /* owned */
};

/* All that is to be on the host. A worker reads it, nobody writes. */
struct network_plan {
	struct network_conf conf;
	struct network_port *ports;
	size_t n_ports;
	char (*others)[IF_NAMESIZE];    /* taps that other networks of the project want: not to be removed */
	size_t n_others;
	char *rules, *dns;              /* for nft and dnsmasq; DNS NULL: none */
	char *own_prefix;               /* of aliases of this node */
	char *dir;                      /* RUN/n/UID */
};

struct network {
	struct controlled c;            /* first */
	struct network_lease *leases;
	size_t n_leases;
	struct network_plan *applied;   /* NULL: nothing is known to be there */
	const struct network_plan *next;        /* that a worker makes so; borrowed; NULL: none */
	bool is_busy;                   /* a worker is at it */
	bool is_gone;
	uint64_t looked_ns;             /* when a worker has last seen that all is there */
	struct process dns;
	bool has_looked;                /* for dnsmasq of a daemon before this */
	char *dns_text;                 /* what it was started with; NULL: unknown */
	uint64_t dns_started_ns;
	unsigned dns_failures;
	char dir[STORE_KEY_MAX];        /* RUN/n/UID */
	struct metadata_server *metadata;       /* NULL: it does not listen */
	uint8_t metadata_key[METADATA_KEY_LEN]; /* of its tokens */
};

/* --- network_schema.c --- */

int network_parse(struct network_conf *conf, struct node *n, const json_t *doc, struct err *err);
/* "vivarium DATA ", with which the aliases of a node's interfaces begin. From malloc(). */
char *network_own_prefix(const struct node *n);

/* --- network_plan.c --- */

/* Give each port of NET its address and take back those of ports that are gone. True: something has changed. */
bool network_lease_all(struct network *net, const struct network_conf *conf);
const struct network_lease *network_find_lease(const struct network *net, const char *uid, unsigned index);
/* The address texts of LEASE; "" where there is none. */
void network_lease_text(const struct network_conf *conf, const struct network_lease *lease, char four[SUBNET_TEXT_LEN],
			char six[SUBNET_TEXT_LEN]);
/* The node's address on the bridge, where there are addresses of IPv4. */
void network_own_text(const struct network_conf *conf, char text[SUBNET_TEXT_LEN]);
struct network_plan *network_plan_new(struct network *net, const struct network_conf *conf, struct err *err);
void network_plan_free(struct network_plan *p);         /* NULL is fine */
/* Is there nothing to be done to come from A (NULL: nothing) to B, but for dnsmasq? */
bool network_plan_equals(const struct network_plan *a, const struct network_plan *b);
/* Do both leave the same taps to other networks? */
bool network_plan_leaves_same(const struct network_plan *a, const struct network_plan *b);
const struct network_port *network_plan_port(const struct network_plan *p, const char *ifname);

/* --- network_rules.c --- */

/* A transaction for nft that replaces the tables of P. From malloc(); NULL: out of memory. */
char *network_rules(const struct network_plan *p);
/* One that removes them. */
char *network_no_rules(const struct network_conf *conf);

/* --- network_dns.c --- */

/* The configuration of dnsmasq. From malloc(); NULL: out of memory. */
char *network_dns_text(const struct network_plan *p);
/* One step towards dnsmasq running as WANTED (NULL: not at all). True: it does. */
bool network_dns_step(struct network *net, const char *wanted, struct err *err);
void network_dns_ended(struct process *p);

/* --- network_metadata.c --- */

/* The metadata service of NET, whose plan has been applied, listens; on a network that is not managed there is none. */
int network_metadata_step(struct network *net, const struct network_conf *conf, struct err *err);
void network_metadata_stop(struct network *net);

/* --- network.c --- */

struct network *network_find(struct node *n, const char *project, const char *name);    /* NULL: there is none */

/* --- network_apply.c; worker threads --- */

int network_apply(const struct network_plan *p, bool has_changed, struct err *err);
int network_remove(const struct network_conf *conf, const char *dir, struct err *err);

#endif

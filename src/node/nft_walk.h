/* SPDX-License-Identifier: Apache-2.0 */
/* nft_walk.h - what would the rules of the host do with a packet? Enough of nftables is understood (as nft -j list ruleset writes
 * it, libnftables-json(5)) to find which rule drops what an instance sends or is sent. What is not understood is taken not to
 * match. Pure functions; any thread. */
#ifndef NODE_NFT_WALK_H
#define NODE_NFT_WALK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct nft_packet {
	const char *hook;               /* "input", "forward" */
	const char *iif, *oif;          /* OIF NULL: the packet is for the host */
	const char *saddr, *daddr;      /* IPv4 */
	const char *proto;              /* "tcp", "udp" */
	uint16_t sport, dport;
	const char *ct_state;           /* "new", "established" */
};

/* What drops it. Texts are the ruleset's (borrowed). */
struct nft_block {
	const char *family, *table, *chain;
	json_int_t handle;              /* of the rule; 0: it is the policy of the chain */
	bool is_certain;                /* no rule that was not understood might have let it pass before */
};

/* Would RULESET drop P, in a table whose name does not begin with OWN? False: no, as far as it can be told. */
bool nft_walk(const json_t *ruleset, const char *own, const struct nft_packet *p, struct nft_block *out);

#endif

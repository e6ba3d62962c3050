/* SPDX-License-Identifier: Apache-2.0 */
/* network.h - networks of instances: what their documents look like, and the controller that makes them so.
 *
 *	user       out through the host as any program of it; nothing of the host is touched
 *	nat        a bridge of the node's own with addresses and names (dnsmasq) and a way out behind the node's address
 *	host-only  the same without a way out
 *	bridge     a bridge that the host has
 *
 * All but the first need root. What the node makes is its own: bridges and taps carry its alias, rules stand in tables of
 * nftables of their own, one pair per network. The controller looks at what is wanted (its document and the list of ports),
 * lets a worker make bridge, rules and taps so, looks after dnsmasq, and begins again whenever something has changed or gone.
 * Loop thread. */
#ifndef NODE_NETWORK_H
#define NODE_NETWORK_H

#include <jansson.h>
#include <stddef.h>
#include "api/schema.h"

struct api_call;
struct controller_kind;
struct err;
struct node;

extern const struct schema network_schema;
extern const struct controller_kind network_kind;

/* For struct resource. */
int network_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
int network_check_delete(struct node *n, const json_t *doc, struct err *err);
int network_fill(struct api_call *c, json_t *doc, struct err *err);

/* May NET, an interface in the document of an instance of PROJECT, be? WHERE is its path, to which that of the field is added. */
int network_check_port(struct node *n, const char *project, const json_t *net, char *where, size_t cap, struct err *err);
/* What the machine UID gets as its interface INDEX, NET in the document: a member of 'nets' of its configuration, as a new
 * reference. -EAGAIN: its network is not ready yet; it kicks the instance when it is. */
int network_connect(struct node *n, const char *project, const char *uid, unsigned index, const json_t *net, json_t **out,
		    struct err *err);
/* The addresses of the machine UID, into the array OUT. */
void network_add_addresses(struct node *n, const char *project, const char *uid, json_t *out);
/* Look again at the networks of PROJECT. */
void networks_kick(struct node *n, const char *project);

void network_doctor(struct api_call *c);        /* GET /v1/networks/{name}/doctor */
void network_list_ports(struct api_call *c);    /* GET /v1/ports */

#endif

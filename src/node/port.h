/* SPDX-License-Identifier: Apache-2.0 */
/* port.h - where instances are plugged in: an entry per interface of an instance that is on a network of the platform.
 *
 * The list follows the documents of instances; it says what is wanted. Networks (network.h) make it so: each port is a tap
 * interface of the host with a name of its own, which depends only on the instance and the number of the interface, so
 * moving an instance to another network is like plugging a cable in elsewhere. Loop thread. */
#ifndef NODE_PORT_H
#define NODE_PORT_H

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>
#include "node/doc.h"
#include "util/cleanup.h"

struct err;
struct node;
struct ports;

enum { PORT_MAC_LEN = 17 };

struct port {
	struct port *next;
	char project[DOC_NAME_MAX + 1], instance[DOC_NAME_MAX + 1], uid[DOC_UID_LEN + 1], network[DOC_NAME_MAX + 1];
	unsigned index;                 /* of the interface in the instance's document */
	char ifname[IF_NAMESIZE];       /* of its tap */
	char mac[PORT_MAC_LEN + 1];     /* "06:12:34:56:78:9a" */
	char address[16];               /* IPv4 that was chosen by its owner; "": any */
	uint64_t limit_in, limit_out;   /* bytes a second, to and from the guest; 0: as the network says */
	json_t *forwards;               /* owned */
	bool is_wanted;                 /* the instance shall be on */
};

int ports_open(struct ports **out, struct node *n, struct err *err);
/* Before the store closes. NULL is fine. */
void ports_close(struct ports *ps);
DEFINE_AUTO(struct ports *, ports_close)

/* The port behind P in PROJECT that is on NETWORK (NULL: on any); P NULL: the first. NULL: there is no further one. */
const struct port *ports_next(const struct ports *ps, const struct port *p, const char *project, const char *network);
/* Does the instance of P run, or is it to run? */
bool port_is_on(struct node *n, const struct port *p);

/* The tap of interface INDEX of the instance UID. */
void port_ifname(char ifname[IF_NAMESIZE], const char *uid, unsigned index);
/* Are the addresses and forwarded ports of the document DOC of an instance free? WHERE gets the path of what is not. */
int ports_check(struct node *n, const json_t *doc, char *where, size_t cap, struct err *err);

#endif

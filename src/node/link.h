/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - network interfaces of the host, by rtnetlink(7): bridges, taps, addresses.
 *
 * What this daemon has made is known by its alias (`ip link` shows it), so it is never mistaken for another's. Each call
 * is one exchange with the kernel, which may take milliseconds. Worker threads. */
#ifndef NODE_LINK_H
#define NODE_LINK_H

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct subnet;

enum { LINK_ALIAS_LEN = 256 };

struct link {
	char name[IF_NAMESIZE];
	int index, master;              /* MASTER: of the bridge it is a port of; 0: none */
	bool is_up, is_bridge;
	char alias[LINK_ALIAS_LEN];     /* "": none */
};

/* All interfaces, from malloc(). */
int links_read(struct link **out, size_t *n, struct err *err);
const struct link *links_find(const struct link *links, size_t n, const char *name);

/* -EEXIST: there is an interface of that name. */
int link_add_bridge(const char *name, const uint8_t mac[6], struct err *err);
/* A tap that stays when no process has it open, for frames with the virtio-net header, and with that alias from the beginning. -EPERM;
 * -EEXIST. */
int link_add_tap(const char *name, const char *alias, struct err *err);
/* Bring INDEX up, with this alias and as a port of the bridge MASTER (0: of none). */
int link_set(int index, const char *alias, int master, struct err *err);
/* Nothing happens when it is not there. */
int link_delete(const char *name, struct err *err);
/* Give INDEX the first address of S; that it has it already is fine. */
int link_add_address(int index, const struct subnet *s, struct err *err);

/* May this process do such things at all? */
bool link_is_permitted(void);

#endif

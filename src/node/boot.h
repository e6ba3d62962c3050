/* SPDX-License-Identifier: Apache-2.0 */
/* boot.h - has the host been booted since a daemon last had this run directory? It is on a tmpfs usually, which says it by being empty;
 * where it is not, the kernel's boot ID does. Loop thread, before there are instances. */
#ifndef NODE_BOOT_H
#define NODE_BOOT_H

struct err;
struct node;

/* Sets N->is_same_boot, and notes this boot in the run directory for the next daemon. Without an ID (no /proc) it is another boot. */
int boot_look(struct node *n, struct err *err);

#endif

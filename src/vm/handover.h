/* SPDX-License-Identifier: Apache-2.0 */
/* handover.h - what a process has open that another takes over with its machine, in a live upgrade.
 *
 * Guest memory, taps, the host's ends of consoles, the listeners of the control socket and of the socket device, the janitor's pipe and where
 * messages go, as descriptors beside one record of the migration stream; and the options that belong to a process.
 * Disks are not among them: they are opened by their names, so that their locks say who runs the machine. */
#ifndef VM_HANDOVER_H
#define VM_HANDOVER_H

#include "vm/config.h"

struct err;
struct migrate_link;

enum handed_part { HANDED_IN, HANDED_OUT, HANDED_LISTENER, HANDED_PTY, HANDED_PARTS };

/* Descriptors, -1: none. */
struct handed {
	int memory, control, janitor, log, vsock;
	int net[CONFIG_NETS_MAX];
	int console[CONFIG_CONSOLES_MAX][HANDED_PARTS];  /* as configured; none configured: the first is the default */
	char *options;                  /* JSON, owned; NULL: none */
	bool is_ours;                   /* the machine has started here: what has a name is no longer the other's */
};

void handed_init(struct handed *h);
void handed_fini(struct handed *h);                     /* frees, closes nothing */
void handed_close(struct handed *h);                    /* closes, too */
/* The machine has started here. Its devices have duplicates; these go, or what is unplugged later would stay attached. */
void handed_take(struct handed *h);

/* On the thread that has the connection, which is a Unix socket. The receiver owns what came. */
int handover_send(struct migrate_link *l, const struct handed *h, struct err *err);
int handover_receive(struct migrate_link *l, struct handed *h, struct err *err);

#endif

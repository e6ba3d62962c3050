/* SPDX-License-Identifier: Apache-2.0 */
/* plug_priv.h - for plug.c, where devices come, plug_leave.c, where they go, and plug_single.c, those of which there is one or none.
 * Loop thread. */
#ifndef VM_PLUG_PRIV_H
#define VM_PLUG_PRIV_H

#include <stdbool.h>
#include "vm/config.h"

struct err;
struct machine;
struct machine_line;
struct plug_device;
struct virtio_dev;

enum plug_kind {
	PLUG_DISK, PLUG_CDROM, PLUG_NET, PLUG_CONSOLE,  /* of which there are lists */
	PLUG_HVC, PLUG_RNG, PLUG_BALLOON, PLUG_VSOCK, PLUG_AGENT,       /* of which there is one or none */
	PLUG_KINDS
};

/* A device that is there. */
struct plugged {
	enum plug_kind kind;
	unsigned i;                     /* in its list of the configuration; a console: in m->own */
	struct virtio_dev *dev;
};

unsigned plug_slot(const struct plugged *p);
const char *plug_name(const struct machine *m, const struct plugged *p, char buf[CONFIG_DISK_NAME_MAX + 1]);
/* False: it is not there. */
bool plug_find_slot(const struct machine *m, unsigned slot, struct plugged *out);
bool plug_find_name(const struct machine *m, const char *name, struct plugged *out);
/* -ENOTSUP: the guest does not listen; REMEDY ends the sentence. */
int plug_check_guest(struct machine *m, const char *remedy, struct err *err);

/* --- plug_single.c --- */
bool plug_is_single(enum plug_kind kind);
/* Also what requests call the kind. */
const char *plug_single_name(enum plug_kind kind);
/* The Nth of those that are there. */
bool plug_single_nth(const struct machine *m, unsigned n, struct plugged *out);
/* It is made and put on the bus, and the configuration has it: *OUT; or nothing has changed. -EEXIST. */
int plug_single(struct machine *m, enum plug_kind kind, const struct plug_device *d, struct plugged *out, struct err *err);
/* It is no longer the machine's, but its device is the caller's. Its line, to be freed after that; NULL: it has none. */
struct machine_line *plug_single_leave(struct machine *m, enum plug_kind kind);
/* -ENOTSUP: what NAME means is there, but not as a device. */
int plug_single_check(const struct machine *m, const char *name, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* plug_priv.h - for plug.c, where devices come, and plug_leave.c, where they go. Loop thread. */
#ifndef VM_PLUG_PRIV_H
#define VM_PLUG_PRIV_H

#include <stdbool.h>
#include "vm/config.h"

struct err;
struct machine;
struct virtio_dev;

enum plug_kind { PLUG_DISK, PLUG_CDROM, PLUG_NET, PLUG_CONSOLE };

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

#endif

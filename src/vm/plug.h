/* SPDX-License-Identifier: Apache-2.0 */
/* plug.h - devices that come to and go from a running machine: virtio disks, drives for CDs and DVDs, network interfaces,
 * consoles, and what there is one of: the console device, the source of entropy, the balloon, the socket device and the guest agent's port.
 *
 * They are the machine's from then on as if it had been started with them: the configuration has them, so a saved
 * machine, a fork and a migration know them, and a reset keeps them. docs/design/hotplug.md has how the guest learns
 * of them. Loop thread. */
#ifndef VM_PLUG_H
#define VM_PLUG_H

#include <stdbool.h>
#include <stdint.h>
#include "util/unixsock.h"

struct blk_handed;
struct err;
struct machine;

/* The value of --disk, --cdrom, --net or --console for KIND "disk", "cdrom", "net" or "console" in SETTINGS; "path=PATH,cid=N" for "vsock";
 * "" for "hvc", "rng", "balloon" and "agent". */
struct plug_device {
	const char *kind, *settings;
	const char *path;               /* of a disk's image, a medium, a file or socket, instead of that in SETTINGS; NULL: none */
	int fd;                         /* of the image or backend, borrowed; -1: it is opened by its name */
	const struct blk_handed *files; /* what else its image needs, by name; borrowed */
	unsigned n_files;
};

/* NAME (NAME_CAP bytes) becomes what it is called. -EBUSY: not now; -ENOTSUP: the guest does not listen; -E2BIG. */
int machine_plug(struct machine *m, const struct plug_device *d, char *name, unsigned name_cap, struct err *err);
/* Ask the guest to let go of the device called NAME, or take it away at once. -ENOENT, -EBUSY, -ENOTSUP. */
int machine_unplug(struct machine *m, const char *name, bool is_forced, struct err *err);

/* What SETTINGS of a socket device say. *CID stays without one. */
int plug_parse_vsock(const char *settings, char path[UNIXSOCK_PATH_MAX + 1], uint64_t *cid, struct err *err);

/* N processors shall be there: they come at once, the highest ones are asked to go. -EINVAL, -ENOTSUP. */
int machine_check_cpus(struct machine *m, uint64_t n, struct err *err);
void machine_set_cpus(struct machine *m, unsigned n);
/* How many are there. */
unsigned machine_n_cpus(const struct machine *m);

#endif

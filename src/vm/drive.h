/* SPDX-License-Identifier: Apache-2.0 */
/* drive.h - media that come to and go from the drives of a running machine (--cdrom). The configuration knows what is in
 * them, so a saved machine, a fork and a migration do, too. Loop thread. */
#ifndef VM_DRIVE_H
#define VM_DRIVE_H

#include <stdbool.h>

struct err;
struct machine;

struct machine_medium {
	const char *path;       /* of its image */
	const char *format;     /* NULL: by content */
	int fd;                 /* the image, open for reading, borrowed; -1: it is opened by its name */
};

/* Open the tray of the drive NAME and take out what is in it. -ENOENT; -EBUSY: the guest has locked it, and has been
 * asked to let go, or the machine is being saved. */
int machine_eject(struct machine *m, const char *name, bool is_forced, struct err *err);
/* Put a medium in and close the tray. -EBUSY: there is one in a closed tray. */
int machine_insert(struct machine *m, const char *name, const struct machine_medium *medium, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/scsi.h - the SCSI host (VIRTIO 1.2, 5.6) with one target: a drive for CDs and DVDs, whose medium comes and goes.
 * Loop thread. */
#ifndef VIRTIO_SCSI_H
#define VIRTIO_SCSI_H

#include <stdbool.h>
#include "virtio/virtio.h"

struct blk;

enum { VIRTIO_SCSI_SERIAL_MAX = 31, VIRTIO_SCSI_BLOCK = 2048 };

struct virtio_scsi_config {
	struct blk *medium;     /* borrowed until it is taken out or virtio_free(); NULL: none */
	const char *serial;     /* of the drive, up to 31 bytes, cut to that */
	/* The guest has opened or closed the tray. Called with the device lock held; NULL: nobody cares. */
	void (*tray_moved)(void *arg, bool is_open);
	void *arg;
};

struct virtio_scsi_info {
	bool is_tray_open, is_locked;   /* by the guest, who says that it uses the medium */
};

extern const struct state_desc virtio_scsi_state_desc;

int virtio_scsi_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_scsi_config *cfg, struct err *err);
void virtio_scsi_get(struct virtio_dev *d, struct virtio_scsi_info *out);
/* Open the tray and take out what is in it: it is the caller's again, once no request of it is in flight
 * (blk_in_flight()). NULL: it was empty. The guest's lock goes, too. */
struct blk *virtio_scsi_eject(struct virtio_dev *d);
/* Ask the guest to let go of the medium. */
void virtio_scsi_ask_eject(struct virtio_dev *d);
/* Put MEDIUM (borrowed, of at least VIRTIO_SCSI_BLOCK bytes) into the tray, from which what was there has been taken,
 * and close it. */
void virtio_scsi_insert(struct virtio_dev *d, struct blk *medium);

#endif

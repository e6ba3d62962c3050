/* SPDX-License-Identifier: Apache-2.0 */
/* scsi_priv.h - the SCSI host, for its files: scsi.c is the device and its event queue, scsi_control.c its control
 * queue, scsi_request.c its requests. All guarded by the device lock. */
#ifndef VIRTIO_SCSI_PRIV_H
#define VIRTIO_SCSI_PRIV_H

#include "blk/blk.h"
#include "util/endian.h"
#include "virtio/device.h"
#include "virtio/scsi.h"
#include "virtio/scsi_unit.h"

enum { VSCSI_CONTROL, VSCSI_EVENTS, VSCSI_REQUESTS, VSCSI_QUEUES };

enum {
	VSCSI_QUEUE_SIZE = 128,
	VSCSI_SEG_MAX = 126,
	VSCSI_IOV_MAX = VSCSI_SEG_MAX + 2,
	VSCSI_IN_FLIGHT = 32,
	VSCSI_SENSE_DEFAULT = 96, VSCSI_CDB_DEFAULT = 32,       /* 5.6.4 */
	VSCSI_SENSE_MAX = 4096, VSCSI_CDB_MAX = 256,
	VSCSI_ASYNC_MEDIA = 16,         /* of VIRTIO_SCSI_EVT_ASYNC_* what is supported */
};

enum vscsi_response {                   /* 5.6.6.1, 5.6.6.2 */
	VSCSI_OK = 0, VSCSI_OVERRUN = 1, VSCSI_ABORTED = 2, VSCSI_BAD_TARGET = 3, VSCSI_RESET = 4, VSCSI_FAILURE = 9,
	VSCSI_FUNCTION_SUCCEEDED = 10, VSCSI_FUNCTION_REJECTED = 11, VSCSI_INCORRECT_LUN = 12,
};

struct vscsi_state {
	struct scsi_unit_state unit;
	uint32_t subscribed;            /* asynchronous events that the driver wants, 5.6.6.2 */
	uint8_t has_missed;             /* events, for want of buffers */
};

struct vscsi_request {
	struct virtio_scsi *owner;
	struct vscsi_request *next_free;
	bool is_reading;                /* IO is on its way */
	uint8_t doom;                   /* enum vscsi_response that it gets instead of its own; 0: none */
	uint64_t tag;
	uint32_t sense_room;            /* bytes of the response for sense data, and where what is read begins */
	struct blk_req io;
	struct vq_chain chain;
	struct scsi_cmd cmd;
	struct iovec iov[VSCSI_IOV_MAX], data[VSCSI_IOV_MAX];
};

/* A request of the control queue that waits until those have ended that it is about. */
struct vscsi_task {
	bool is_waiting, is_reset;      /* the unit is to be reset then */
	struct vq_chain chain;
	struct iovec iov[VSCSI_IOV_MAX];
};

struct virtio_scsi {
	struct virtio_dev dev;
	struct virtio_scsi_config cfg;
	struct scsi_unit unit;
	struct vscsi_state s;
	struct vscsi_request *requests; /* VSCSI_IN_FLIGHT */
	struct vscsi_request *free;
	bool is_starved;                /* the request queue waits for a free request */
	struct vscsi_task task;
};

/* What a LUN field (5.6.6.1) stands for. */
enum vscsi_place { VSCSI_NO_TARGET, VSCSI_NO_UNIT, VSCSI_UNIT };
enum vscsi_place vscsi_find(const uint8_t lun[8]);

/* --- scsi_request.c --- */
void vscsi_run_requests(struct virtio_scsi *v);
/* Those that read, all or (IS_ALL false) that of TAG, get the response DOOM; 0: they are only counted. How many. */
unsigned vscsi_doom(struct virtio_scsi *v, bool is_all, uint64_t tag, enum vscsi_response doom);

/* --- scsi_control.c --- */
void vscsi_run_control(struct virtio_scsi *v);
/* A request has ended: who waited for it may go on. */
void vscsi_task_retry(struct virtio_scsi *v);

/* --- scsi.c --- */
/* The guest may have moved the tray: tell. */
void vscsi_tell_tray(struct virtio_scsi *v);

#endif

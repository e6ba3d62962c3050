/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/vsock.h - the socket device (VIRTIO 1.2, 5.10): streams between programs in the guest and Unix sockets of
 * the host. The host's address is 2. Loop thread. */
#ifndef VIRTIO_VSOCK_H
#define VIRTIO_VSOCK_H

#include "virtio/virtio.h"

enum {
	VIRTIO_VSOCK_CID_MIN = 3,       /* below: reserved, and the host */
	VIRTIO_VSOCK_CONNS_MAX = 1024,  /* at a time; further ones are refused */
	VIRTIO_VSOCK_BUF = 128 << 10,   /* bytes that wait for the host's end of one of them */
	VIRTIO_VSOCK_WAITERS_MAX = 1024,
};

/* What the device saves beside virtio_state_desc. */
extern const struct state_desc virtio_vsock_state_desc;

int virtio_vsock_new(struct virtio_dev **out, const struct virtio_env *env, uint32_t guest_cid, struct err *err);

/* Connect FD, a non-blocking stream socket, to PORT of the guest. When that accepts, FD is told "OK PORT\n", PORT being the
 * one that the guest sees at our end; when it refuses FD is closed. FD is taken on success. -ENOTCONN: no driver;
 * -EBUSY: too many connections. */
int virtio_vsock_connect(struct virtio_dev *d, int fd, uint32_t port, struct err *err);
/* FD waits for the guest to connect to PORT of the host; the first that waits gets it, and is told "CONNECTED PORT\n" with the
 * guest's. Taken on success. -EBUSY: too many wait. */
int virtio_vsock_wait(struct virtio_dev *d, int fd, uint32_t port, struct err *err);
unsigned virtio_vsock_count(struct virtio_dev *d);      /* connections */

#endif

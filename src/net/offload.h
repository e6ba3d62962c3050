/* SPDX-License-Identifier: Apache-2.0 */
/* offload.h - what a driver has left to its device, done here: for a network that takes whole Ethernet frames only.
 *
 * A driver that negotiated checksum and segmentation offload with one network keeps using them after it has been
 * restored on another (VIRTIO 1.2, 5.1.6.2). Everything in a frame is the guest's word and is checked. Loop thread. */
#ifndef NET_OFFLOAD_H
#define NET_OFFLOAD_H

#include <stddef.h>
#include <stdint.h>

struct net;

enum {
	NET_SEGMENT_MIN = 48,           /* bytes of payload; Linux's net.ipv4.tcp_min_snd_mss */
};

/* Send FRAME of LEN bytes, which is changed, as HDR (its virtio-net header of 12 bytes) says: complete its checksum, split
 * it into segments. *SENT counts those that have gone: 0 at first; after -EAGAIN the same call goes on there, with FRAME
 * as it was before. -EINVAL: header and frame make no sense together; it is lost. */
int net_offload_send(struct net *n, const uint8_t *hdr, uint8_t *frame, size_t len, unsigned *sent);

#endif

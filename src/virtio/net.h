/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/net.h - the network device (VIRTIO 1.2, 5.1). Loop thread. */
#ifndef VIRTIO_NET_H
#define VIRTIO_NET_H

#include "virtio/virtio.h"

struct net_options;

struct virtio_net_config {
	uint8_t mac[6];
	uint16_t mtu;                           /* told to the driver; 0: nothing is said */
	const struct net_options *backend;      /* borrowed for the call; wants_vnet_hdr is ours to set */
};

/* What the device saves beside virtio_state_desc. */
extern const struct state_desc virtio_net_state_desc;

/* Opens the backend with net_open() and owns it. -EINVAL for a multicast MAC or an MTU below
 * 68; else what net_open() says. */
int virtio_net_new(struct virtio_dev **out, const struct virtio_env *env,
		   const struct virtio_net_config *cfg, struct err *err);
/* net_fd() and net_forget() of its backend. */
int virtio_net_fd(const struct virtio_dev *d);
void virtio_net_forget(struct virtio_dev *d);
/* The guest, just restored, is a copy of one that goes on: the address in configuration space becomes the one that this
 * device was made with, and the cable is pulled for two seconds, upon which a guest asks for its IP addresses anew.
 * A running Linux keeps its MAC address until its driver starts again, or somebody inside sets it. */
void virtio_net_renew(struct virtio_dev *d);
/* net_give_metadata() of its backend. */
int virtio_net_give_metadata(struct virtio_dev *d, int fd);
/* Plug or pull the cable. */
void virtio_net_set_link(struct virtio_dev *d, bool is_up);

#endif

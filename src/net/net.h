/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - Ethernet frames between a device and the outside world.
 *
 * A backend (user: passt; tap; null) sends what the device gives it and hands received frames to
 * the device. Everything runs on the loop thread. Frames are whole Ethernet frames without FCS.
 * With is_vnet_hdr, every frame is preceded by the 12-byte virtio_net_hdr (VIRTIO 1.2, 5.1.6),
 * so that checksum and segmentation offload pass through (tap only). */
#ifndef NET_NET_H
#define NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/cleanup.h"

struct err;
struct loop;
struct net;

enum { NET_FRAME_MAX = 65550 + 12, NET_VNET_HDR = 12 };

/* The device's end. */
struct net_client {
	/* Can a frame be taken now? False stops reception until net_rx_resume(). */
	bool (*can_receive)(struct net_client *c);
	/* A frame arrived; FRAME is borrowed for the call. */
	void (*receive)(struct net_client *c, const uint8_t *frame, size_t len);
	/* net_send() had said -EAGAIN; it may be tried again. */
	void (*writable)(struct net_client *c);
};

struct net_forward {            /* hostfwd=tcp:2222:22 or tcp:127.0.0.1:2222:22 */
	bool is_udp;
	char host_addr[46];     /* numeric; empty: all */
	uint16_t host_port, guest_port;
};

struct net_options {
	const char *kind;               /* "user", "tap", "none" */
	const char *ifname;             /* tap: name of the interface, NULL: made by the kernel */
	int fd;                         /* tap, user: an open descriptor instead (taken), else -1 */
	int keeper;                     /* user: who starts passt again (keeper.h; borrowed for the call), 0 or less: this process */
	const struct net_forward *forward;
	unsigned n_forward;
	bool has_metadata;              /* user: the metadata service is here (service.h), and nowhere behind */
	bool wants_vnet_hdr;            /* the device can use offloads */
};

/* Open a backend for CLIENT (borrowed until net_close). -EPERM when a tap is not permitted,
 * -ENOENT when passt is not installed, -EADDRINUSE for a taken port; sentences say what to do. */
int net_open(struct net **out, struct loop *loop, struct net_client *client,
	     const struct net_options *o, struct err *err);
void net_close(struct net *n);          /* ends helpers; NULL is fine */
DEFINE_AUTO(struct net *, net_close)

bool net_has_vnet_hdr(const struct net *n);
/* Tell a vnet-hdr backend which offloads the guest's driver accepts on reception (TUN_F_*). */
void net_set_offload(struct net *n, unsigned tun_f);
/* The descriptor (borrowed) with which another process can take the backend over by net_options.fd; -ENOENT: it
 * needs none; -ENOTSUP: it cannot be taken over. */
int net_fd(const struct net *n);
/* The client takes nothing now, and another process may go on: no frame stays half sent or half received. */
void net_settle(struct net *n);
/* Another process has taken it over: net_close() ends no helper. */
void net_forget(struct net *n);
/* Send one frame. 0; -EAGAIN: not taken, writable() comes; other errors: frame dropped. */
int net_send(struct net *n, const struct iovec *iov, int n_iov);
/* FD (taken on success), a stream socket, is for one connection to the metadata service. -ENOTSUP: there is none here; -ENOSPC. */
int net_give_metadata(struct net *n, int fd);
void net_rx_resume(struct net *n);      /* can_receive() is true again */

/* A tap interface for net_options.fd of another process; IFNAME NULL: a new one. */
int net_open_tap(const char *ifname, struct err *err);
/* A connection to a passt of its own with these forwards, for the same. It ends when the last such descriptor closes. */
int net_open_user(const struct net_forward *forward, unsigned n_forward, struct err *err);

/* Parse "user,hostfwd=tcp:2222:22" style forward text ("tcp:2222:22"). */
int net_forward_parse(struct net_forward *f, const char *text, struct err *err);

#endif

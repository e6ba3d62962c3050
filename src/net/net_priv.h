/* SPDX-License-Identifier: Apache-2.0 */
/* net_priv.h - what a backend implements. Loop thread, and no call of the client from inside
 * send, rx_resume or set_offload: the client holds its lock there. */
#ifndef NET_NET_PRIV_H
#define NET_NET_PRIV_H

#include "net/net.h"

struct net_ops {
	const char *kind;       /* as in struct net_options */
	int (*open)(struct net **out, struct loop *loop, struct net_client *client,
		    const struct net_options *o, struct err *err);
	int (*send)(struct net *n, const struct iovec *iov, int n_iov);
	void (*rx_resume)(struct net *n);                       /* NULL: nothing is received */
	void (*set_offload)(struct net *n, unsigned tun_f);     /* NULL: no offloads */
	int (*fd)(const struct net *n);                         /* net_fd(); NULL: it has none to hand over */
	void (*settle)(struct net *n);                          /* net_settle(); NULL: nothing to do */
	void (*forget)(struct net *n);                          /* net_forget(); NULL: nothing to do */
	int (*give_metadata)(struct net *n, int fd);            /* net_give_metadata(); NULL: it has no such service */
	void (*close)(struct net *n);                           /* also half-open ones */
};

/* First member of every backend's struct. */
struct net {
	const struct net_ops *ops;
	struct loop *loop;
	struct net_client *client;
	bool has_vnet_hdr;
};

extern const struct net_ops net_user_ops, net_tap_ops, net_null_ops;

#endif

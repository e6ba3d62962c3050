/* SPDX-License-Identifier: Apache-2.0 */
/* tap.c - frames through a tap interface of the host (Linux, Documentation/networking/tuntap).
 *
 * With IFF_VNET_HDR the 12-byte virtio-net header goes in front of each frame, and the host's
 * network stack does checksums and segmentation. Addresses, bridges and bringing the interface
 * up are the business of whoever made it. Runs on the loop thread. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "net/net_priv.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

enum { TAP_FRAMES_PER_ROUND = 64 };

struct tap {
	struct net net;
	struct loop_fd fd;
	bool was_refused;               /* net_send() has said -EAGAIN */
	uint8_t buf[NET_FRAME_MAX];
};

static void tap_watch(struct tap *t, unsigned set, unsigned clear)
{
	loop_fd_mod(&t->fd, (t->fd.events | set) & ~clear);
}

static void tap_receive(struct tap *t)
{
	struct net_client *c = t->net.client;

	for (unsigned i = 0; i < TAP_FRAMES_PER_ROUND; i++) {
		if (!c->can_receive(c)) {
			tap_watch(t, 0, LOOP_IN);
			return;
		}
		ssize_t n = read(t->fd.fd, t->buf, sizeof(t->buf));

		if (n > 0)
			c->receive(c, t->buf, (size_t)n);
		else if (n == 0 || errno != EINTR)
			return;
	}
}

static void tap_event(struct loop_fd *h, unsigned events)
{
	struct tap *t = container_of(h, struct tap, fd);

	if (events & LOOP_OUT) {
		tap_watch(t, 0, LOOP_OUT);
		if (t->was_refused) {
			t->was_refused = false;
			t->net.client->writable(t->net.client);
		}
	}
	if (events & LOOP_IN)
		tap_receive(t);
	else if (events & LOOP_HUP) {
		log_error("the tap interface is gone; the guest's network is down");
		loop_fd_del(&t->fd);
	}
}

static int tap_send(struct net *n, const struct iovec *iov, int n_iov)
{
	struct tap *t = container_of(n, struct tap, net);

	if (!t->fd.loop)
		return -EPIPE;
	for (;;) {
		if (writev(t->fd.fd, iov, n_iov) >= 0)
			return 0;
		if (errno == EAGAIN) {
			t->was_refused = true;
			tap_watch(t, LOOP_OUT, 0);
			return -EAGAIN;
		}
		if (errno != EINTR)
			return -errno;  /* EIO: the interface is down; EINVAL: a header without sense */
	}
}

static void tap_rx_resume(struct net *n)
{
	struct tap *t = container_of(n, struct tap, net);

	if (t->fd.loop)
		tap_watch(t, LOOP_IN, 0);
}

static void tap_set_offload(struct net *n, unsigned tun_f)
{
	struct tap *t = container_of(n, struct tap, net);

	if (ioctl(t->fd.fd, TUNSETOFFLOAD, (unsigned long)tun_f) < 0)
		log_warn("cannot set the offloads of the tap interface: %s", strerror(errno));
}

static void tap_close(struct net *n)
{
	struct tap *t = container_of(n, struct tap, net);
	int fd = t->fd.fd;

	loop_fd_del(&t->fd);
	if (fd >= 0)
		close(fd);
	free(t);
}

static int tap_fd(const struct net *n)
{
	return container_of(n, const struct tap, net)->fd.fd;
}

/* Make or join the interface of that name. */
static int tap_attach(int fd, const struct net_options *o, struct err *err)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };

	if (o->ifname && strlen(o->ifname) >= sizeof(ifr.ifr_name))
		return err_set(err, -EINVAL, "interface name '%s' is longer than 15 bytes", o->ifname);
	if (o->ifname)
		strcpy(ifr.ifr_name, o->ifname);
	if (o->wants_vnet_hdr)
		ifr.ifr_flags |= IFF_VNET_HDR;
	if (ioctl(fd, TUNSETIFF, &ifr) == 0)
		return 0;

	const char *name = o->ifname ? o->ifname : "tap";
	int e = errno;

	if (e == EPERM)
		return err_set(err, -EPERM, "not permitted to use tap interface '%s'; let root make it with "
			       "'ip tuntap add dev %s mode tap user USER', or use net=user", name, name);
	if (e == EBUSY)
		return err_set(err, -EBUSY, "tap interface '%s' is in use by another program", name);
	return err_set(err, -e, "cannot use tap interface '%s': %s", name, strerror(e));
}

static int tap_open_device(struct err *err)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;

	int e = errno;

	if (e == EACCES || e == EPERM)
		return err_set(err, -EPERM, "cannot open '/dev/net/tun': permission denied; run as root or use net=user");
	return err_set(err, -e, "cannot open '/dev/net/tun': %s; is the kernel module 'tun' loaded?", strerror(e));
}

int net_open_tap(const char *ifname, struct err *err)
{
	const struct net_options o = { .ifname = ifname, .wants_vnet_hdr = true };
	AUTO_FD int fd = tap_open_device(err);
	int r = fd < 0 ? fd : tap_attach(fd, &o, err);

	return r < 0 ? r : take_fd(&fd);
}

/* Find out what kind of frames FD carries and set it up for them. */
static int tap_configure(struct tap *t, int fd, struct err *err)
{
	struct ifreq ifr = { 0 };
	int size = NET_VNET_HDR, flags = fcntl(fd, F_GETFL);

	if (ioctl(fd, TUNGETIFF, &ifr) < 0 || (ifr.ifr_flags & (IFF_TAP | IFF_NO_PI)) != (IFF_TAP | IFF_NO_PI))
		return err_set(err, -EINVAL, "the descriptor is not a tap interface without packet information (IFF_NO_PI)");
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_set(err, -errno, "cannot set up tap interface '%s': %s", ifr.ifr_name, strerror(errno));
	t->net.has_vnet_hdr = ifr.ifr_flags & IFF_VNET_HDR;
	if (!t->net.has_vnet_hdr)
		return 0;
	if (ioctl(fd, TUNSETVNETHDRSZ, &size) < 0 || ioctl(fd, TUNSETOFFLOAD, 0ul) < 0)
		return err_set(err, -errno, "tap interface '%s' refuses the virtio-net header: %s", ifr.ifr_name, strerror(errno));
	return 0;
}

static int tap_open(struct net **out, struct loop *loop, struct net_client *client,
		    const struct net_options *o, struct err *err)
{
	AUTO_FD int own = -1;
	int fd = o->fd, r = 0;

	if (fd < 0) {
		fd = own = tap_open_device(err);
		r = fd < 0 ? fd : tap_attach(fd, o, err);
	}
	if (r < 0)
		return r;
	/* NOLINTNEXTLINE(clang-analyzer-unix.MallocSizeof): the rest of the struct follows */
	AUTO(net_close) struct net *n = calloc(1, sizeof(struct tap));

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");

	struct tap *t = container_of(n, struct tap, net);

	*n = (struct net){ .ops = &net_tap_ops, .loop = loop, .client = client };
	t->fd.fd = -1;
	r = tap_configure(t, fd, err);
	if (r < 0)
		return r;
	if (!o->wants_vnet_hdr && n->has_vnet_hdr)
		return err_set(err, -EINVAL, "the tap interface expects virtio-net headers, which this device does not send");
	r = loop_fd_add(loop, &t->fd, fd, LOOP_IN, tap_event);
	if (r < 0) {
		t->fd.fd = -1;
		return err_set(err, r, "cannot watch the tap interface: %s", strerror(-r));
	}
	take_fd(&own);
	*out = take_ptr(&n);
	return 0;
}

const struct net_ops net_tap_ops = {
	.kind = "tap",
	.open = tap_open,
	.send = tap_send,
	.rx_resume = tap_rx_resume,
	.set_offload = tap_set_offload,
	.fd = tap_fd,
	.close = tap_close,
};

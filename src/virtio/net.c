/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/net.c - the network device (VIRTIO 1.2, 5.1) over a frame backend.
 *
 * One pair of queues and a control queue. Offloads are offered when the backend takes frames
 * with the virtio-net header in front (tap); else the header is ours and empty. A restored
 * driver that has them from another backend keeps them: they are done here. A frame that
 * finds no buffers waits here and the backend is held back, so nothing is lost on a busy
 * guest. Left out on purpose: multiple queue pairs, RSS, hash reports, VLAN filtering,
 * UDP fragmentation offload. Runs on the loop thread. */
#include "virtio/net.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <string.h>
#include "net/net.h"
#include "net/offload.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"

enum { /* feature bits, 5.1.3 */
	NET_F_CSUM = 0, NET_F_GUEST_CSUM = 1, NET_F_CTRL_GUEST_OFFLOADS = 2, NET_F_MTU = 3, NET_F_MAC = 5,
	NET_F_GUEST_TSO4 = 7, NET_F_GUEST_TSO6 = 8, NET_F_GUEST_ECN = 9,
	NET_F_HOST_TSO4 = 11, NET_F_HOST_TSO6 = 12, NET_F_HOST_ECN = 13,
	NET_F_MRG_RXBUF = 15, NET_F_STATUS = 16, NET_F_CTRL_VQ = 17, NET_F_CTRL_RX = 18,
	NET_F_CTRL_RX_EXTRA = 20, NET_F_GUEST_ANNOUNCE = 21, NET_F_CTRL_MAC_ADDR = 23,
};
enum { S_LINK_UP = 1, S_ANNOUNCE = 2 };

struct vnet_config {                    /* 5.1.4 */
	uint8_t mac[6];
	le16 status, max_virtqueue_pairs, mtu;
};
_Static_assert(sizeof(struct vnet_config) == 12, "5.1.4");

enum { CONFIG_STATUS = offsetof(struct vnet_config, status) };
enum { HDR_NUM_BUFFERS = 10 };          /* offset in the header, 5.1.6 */
enum { RX = 0, TX = 1, CTRL = 2, N_QUEUES = 3 };
enum {
	VNET_QUEUE_SIZE = 256, VNET_CTRL_SIZE = 64, VNET_IOV_MAX = VNET_QUEUE_SIZE,
	VNET_MERGE_MAX = 64,            /* buffers of one received frame */
	VNET_TABLE_MAX = 64,            /* addresses in the filter; more: everything passes */
	VNET_MTU_MIN = 68,              /* 5.1.4.1 */
};
#define VNET_UNPLUGGED_NS 2000000000u   /* Linux looks at links once a second */

/* The control queue's commands (5.1.6.5). */
enum { CTRL_RX = 0, CTRL_MAC = 1, CTRL_ANNOUNCE = 3, CTRL_OFFLOADS = 5 };
enum { CTRL_OK = 0, CTRL_ERR = 1 };
enum { MODE_PROMISC, MODE_ALLMULTI, MODE_ALLUNI, MODE_NOMULTI, MODE_NOUNI, MODE_NOBCAST, N_MODES };

struct vnet_state {
	uint8_t mac[6];                 /* the one that is filtered for */
	uint8_t mode[N_MODES];
	uint8_t n_uni, n_multi;
	uint8_t uni[VNET_TABLE_MAX * 6], multi[VNET_TABLE_MAX * 6];
	uint64_t guest_offloads;        /* feature bits of what the driver takes on reception */
	uint8_t is_unplugged;           /* for a moment: virtio_net_renew() */
};

static const struct field vnet_fields[] = {
	FIELD_RAW(struct vnet_state, mac, 1),
	FIELD_RAW(struct vnet_state, mode, 1),
	FIELD(struct vnet_state, n_uni, 1),
	FIELD(struct vnet_state, n_multi, 1),
	FIELD_RAW(struct vnet_state, uni, 1),
	FIELD_RAW(struct vnet_state, multi, 1),
	FIELD(struct vnet_state, guest_offloads, 1),
	FIELD(struct vnet_state, is_unplugged, 2),
};
const struct state_desc virtio_net_state_desc = {
	.name = "virtio-net", .version = 2, .size = sizeof(struct vnet_state),
	.n_fields = ARRAY_LEN(vnet_fields), .fields = vnet_fields,
};

struct virtio_net {
	struct virtio_dev dev;
	struct net_client client;
	struct net *backend;
	uint8_t mac[6];                 /* at power-on */
	bool has_hdr;                   /* frames of the backend carry the header */
	struct loop_timer plug;         /* the cable is plugged in again */
	struct vnet_state s;            /* guarded by the device lock, like all below */
	bool is_tx_blocked;             /* the backend said -EAGAIN */
	unsigned n_tx_segments;         /* of the frame at the head of the ring that have gone */
	size_t held_len;                /* a frame that waits for buffers; 0: none */
	uint8_t held[NET_FRAME_MAX + NET_VNET_HDR];     /* header and frame */
	uint8_t sending[NET_FRAME_MAX];                 /* the same, of one that is completed here */
};

static struct log_guest guest_bad_frame = LOG_GUEST("virtio-net: frame of impossible length");
static struct log_guest guest_bad_buffer = LOG_GUEST("virtio-net: receive buffer too small");
static struct log_guest guest_bad_control = LOG_GUEST("virtio-net: control command without room for an answer");

static const struct {
	uint8_t feature, tun_f;
} offloads[] = {
	{ NET_F_GUEST_CSUM, TUN_F_CSUM },
	{ NET_F_GUEST_TSO4, TUN_F_TSO4 },
	{ NET_F_GUEST_TSO6, TUN_F_TSO6 },
	{ NET_F_GUEST_ECN,  TUN_F_TSO_ECN },
};
#define OFFLOAD_FEATURES (VIRTIO_BIT(NET_F_GUEST_CSUM) | VIRTIO_BIT(NET_F_GUEST_TSO4) | \
			  VIRTIO_BIT(NET_F_GUEST_TSO6) | VIRTIO_BIT(NET_F_GUEST_ECN))
#define HDR_FEATURES (OFFLOAD_FEATURES | VIRTIO_BIT(NET_F_CSUM) | VIRTIO_BIT(NET_F_CTRL_GUEST_OFFLOADS) | \
		      VIRTIO_BIT(NET_F_HOST_TSO4) | VIRTIO_BIT(NET_F_HOST_TSO6) | VIRTIO_BIT(NET_F_HOST_ECN))

static struct virtio_net *vnet_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_net, dev);
}

/* ---- transmission ---- */

/* The backend takes plain frames, and the driver leaves checksums and segmentation to us. */
static int vnet_send_completed(struct virtio_net *n, const struct vq_chain *c)
{
	size_t len = vq_chain_read(c, 0, n->sending, c->out_len);
	int r = net_offload_send(n->backend, n->sending, n->sending + NET_VNET_HDR, len - NET_VNET_HDR, &n->n_tx_segments);

	if (r == -EINVAL)
		log_guest(&guest_bad_frame, c->out_len);
	if (r != -EAGAIN)
		n->n_tx_segments = 0;
	return r;
}

/* Hand chain C to the backend; -EAGAIN when it is to come again. */
static int vnet_send(struct virtio_net *n, const struct vq_chain *c)
{
	struct iovec iov[VNET_IOV_MAX];
	size_t skip = n->has_hdr ? 0 : NET_VNET_HDR;
	int used = 0;

	if (c->out_len <= NET_VNET_HDR || c->out_len > NET_FRAME_MAX) {
		log_guest(&guest_bad_frame, c->out_len);
		return -EINVAL;
	}
	if (!n->has_hdr && virtio_has(&n->dev, NET_F_CSUM))
		return vnet_send_completed(n, c);
	for (unsigned i = 0; i < c->n_out; i++) {
		struct iovec v = c->iov[i];

		if (skip >= v.iov_len) {
			skip -= v.iov_len;
			continue;
		}
		iov[used++] = (struct iovec){ (uint8_t *)v.iov_base + skip, v.iov_len - skip };
		skip = 0;
	}
	return net_send(n->backend, iov, used);
}

static void vnet_run_tx(struct virtio_net *n)
{
	struct iovec iov[VNET_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VNET_IOV_MAX };

	while (!n->is_tx_blocked && virtio_pop(&n->dev, TX, &c)) {
		int r = vnet_send(n, &c);

		if (r == -EAGAIN) {
			n->is_tx_blocked = true;
			virtio_unpop(&n->dev, TX, &c);
		} else {
			if (r >= 0)
				virtio_count(&n->dev.stats.from_guest, c.out_len - NET_VNET_HDR);
			virtio_put(&n->dev, TX, &c, 0); /* a frame may be lost, as on any wire */
		}
	}
	virtio_publish(&n->dev, TX);
}

static void vnet_writable(struct net_client *client)
{
	struct virtio_net *n = container_of(client, struct virtio_net, client);

	virtio_lock(&n->dev);
	n->is_tx_blocked = false;
	virtio_kick(&n->dev, TX);
	virtio_unlock(&n->dev);
}

/* ---- reception ---- */

static bool vnet_in_table(const uint8_t *table, unsigned n, const uint8_t *mac)
{
	for (unsigned i = 0; i < n; i++)
		if (!memcmp(table + 6 * i, mac, 6))
			return true;
	return false;
}

/* 5.1.6.5.1: is the frame for this station? */
static bool vnet_wants(const struct virtio_net *n, const uint8_t *dst)
{
	static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const uint8_t *mode = n->s.mode;

	if (mode[MODE_PROMISC])
		return true;
	if (!memcmp(dst, broadcast, 6))
		return !mode[MODE_NOBCAST];
	if (dst[0] & 1)
		return !mode[MODE_NOMULTI] &&
		       (mode[MODE_ALLMULTI] || vnet_in_table(n->s.multi, n->s.n_multi, dst));
	return !mode[MODE_NOUNI] && (mode[MODE_ALLUNI] || !memcmp(n->s.mac, dst, 6) ||
				     vnet_in_table(n->s.uni, n->s.n_uni, dst));
}

/* Put the held frame into as many buffers as it takes. False: the driver has to give more. */
static bool vnet_deliver(struct virtio_net *n)
{
	struct iovec iov[VNET_IOV_MAX];
	struct vq_chain c[VNET_MERGE_MAX];
	unsigned n_chains = 0, n_iov = 0;
	bool may_merge = virtio_has(&n->dev, NET_F_MRG_RXBUF);
	size_t room = 0;

	while (room < n->held_len) {
		if (n_chains == (may_merge ? VNET_MERGE_MAX : 1) || n_iov == VNET_IOV_MAX)
			goto too_small;
		c[n_chains] = (struct vq_chain){ .iov = iov + n_iov, .max = VNET_IOV_MAX - n_iov };
		if (!virtio_pop(&n->dev, RX, &c[n_chains])) {
			while (n_chains)
				virtio_unpop(&n->dev, RX, &c[--n_chains]);
			return false;
		}
		n_iov += c[n_chains].n_out + c[n_chains].n_in;
		room += c[n_chains].in_len;
		n_chains++;
	}
	put_le16(n->held + HDR_NUM_BUFFERS, (uint16_t)n_chains);
	virtio_count(&n->dev.stats.to_guest, n->held_len - NET_VNET_HDR);
	for (size_t i = 0, off = 0; i < n_chains; i++) {
		size_t len = vq_chain_write(&c[i], 0, n->held + off, n->held_len - off);

		virtio_put(&n->dev, RX, &c[i], (uint32_t)len);
		off += len;
	}
	n->held_len = 0;
	return true;

too_small:
	/* Buffers that cannot hold the frame go back empty-handed and the frame is lost. */
	log_guest(&guest_bad_buffer, room);
	while (n_chains)
		virtio_unpop(&n->dev, RX, &c[--n_chains]);
	n->held_len = 0;
	return true;
}

static bool vnet_can_receive(struct net_client *client)
{
	struct virtio_net *n = container_of(client, struct virtio_net, client);

	virtio_lock(&n->dev);
	/* Without a driver frames are taken and thrown away, or the backend would be full of old
	 * ones when it comes. */
	bool can = !n->held_len && !n->dev.is_paused;

	virtio_unlock(&n->dev);
	return can;
}

static void vnet_receive(struct net_client *client, const uint8_t *frame, size_t len)
{
	struct virtio_net *n = container_of(client, struct virtio_net, client);
	size_t hdr = n->has_hdr ? NET_VNET_HDR : 0;

	if (len < hdr + 14 || len > NET_FRAME_MAX)
		return;
	virtio_lock(&n->dev);
	bool is_ready = virtio_is_live(&n->dev) && n->dev.queue[RX].vq.s.is_enabled;

	if (is_ready && !n->held_len && (n->dev.s.config[CONFIG_STATUS] & S_LINK_UP) && vnet_wants(n, frame + hdr)) {
		memset(n->held, 0, NET_VNET_HDR);
		memcpy(n->held + NET_VNET_HDR - hdr, frame, len);
		n->held_len = len + NET_VNET_HDR - hdr;
		vnet_deliver(n);
		virtio_publish(&n->dev, RX);
	}
	virtio_unlock(&n->dev);
}

static void vnet_run_rx(struct virtio_net *n)
{
	if (n->held_len && vnet_deliver(n)) {
		virtio_publish(&n->dev, RX);
		net_rx_resume(n->backend);
	}
}

/* ---- the control queue (5.1.6.5) ---- */

static int vnet_ctrl_rx(struct virtio_net *n, uint8_t cmd, const struct vq_chain *c)
{
	uint8_t on;

	if (cmd >= N_MODES || c->out_len != 3)
		return CTRL_ERR;
	vq_chain_read(c, 2, &on, 1);
	n->s.mode[cmd] = on != 0;
	return CTRL_OK;
}

/* One of the two address lists at OFF: a count, then addresses. Too many for the table: the
 * mode that lets all pass. */
static bool vnet_read_table(const struct vq_chain *c, uint64_t *off, uint8_t *table, uint8_t *n, uint8_t *all)
{
	le32 count;
	uint64_t n_macs;

	if (vq_chain_read(c, *off, &count, sizeof(count)) != sizeof(count))
		return false;
	n_macs = le32_get(count);
	*off += sizeof(count);
	if (!range_fits(*off, n_macs * 6, c->out_len))
		return false;
	*all = n_macs > VNET_TABLE_MAX;
	*n = (uint8_t)(*all ? 0 : n_macs);
	vq_chain_read(c, *off, table, 6u * *n);
	*off += n_macs * 6;
	return true;
}

static int vnet_ctrl_mac(struct virtio_net *n, uint8_t cmd, const struct vq_chain *c)
{
	struct vnet_state s = n->s;
	uint64_t off = 2;

	if (cmd == 1) { /* VIRTIO_NET_CTRL_MAC_ADDR_SET */
		if (c->out_len != 8)
			return CTRL_ERR;
		vq_chain_read(c, 2, n->s.mac, 6);
		memcpy(n->dev.s.config, n->s.mac, 6);
		return CTRL_OK;
	}
	if (cmd != 0) /* VIRTIO_NET_CTRL_MAC_TABLE_SET */
		return CTRL_ERR;
	uint8_t all_uni, all_multi;

	if (!vnet_read_table(c, &off, s.uni, &s.n_uni, &all_uni) ||
	    !vnet_read_table(c, &off, s.multi, &s.n_multi, &all_multi))
		return CTRL_ERR;
	s.mode[MODE_ALLUNI] |= all_uni;
	s.mode[MODE_ALLMULTI] |= all_multi;
	n->s = s;
	return CTRL_OK;
}

/* 5.1.6.5.4: the driver has told its neighbours. */
static int vnet_ctrl_announce(struct virtio_net *n, uint8_t cmd, const struct vq_chain *c)
{
	if (cmd != 0)
		return CTRL_ERR;
	n->dev.s.config[CONFIG_STATUS] &= (uint8_t)~S_ANNOUNCE;
	return CTRL_OK;
}

static void vnet_apply_offloads(struct virtio_net *n)
{
	unsigned tun_f = 0;

	for (unsigned i = 0; i < ARRAY_LEN(offloads); i++)
		if (n->s.guest_offloads & VIRTIO_BIT(offloads[i].feature))
			tun_f |= offloads[i].tun_f;
	if (n->has_hdr)
		net_set_offload(n->backend, tun_f);
}

static int vnet_ctrl_offloads(struct virtio_net *n, uint8_t cmd, const struct vq_chain *c)
{
	le64 wanted;

	if (cmd != 0 || c->out_len != 10)
		return CTRL_ERR;
	vq_chain_read(c, 2, &wanted, sizeof(wanted));
	if (le64_get(wanted) & ~(n->dev.s.driver_features & OFFLOAD_FEATURES))
		return CTRL_ERR;
	n->s.guest_offloads = le64_get(wanted);
	vnet_apply_offloads(n);
	return CTRL_OK;
}

static const struct {
	uint8_t class, feature, feature2;
	int (*run)(struct virtio_net *n, uint8_t cmd, const struct vq_chain *c);
} vnet_commands[] = {
	{ CTRL_RX,       NET_F_CTRL_RX,             NET_F_CTRL_RX,       vnet_ctrl_rx },
	{ CTRL_MAC,      NET_F_CTRL_RX,             NET_F_CTRL_MAC_ADDR, vnet_ctrl_mac },
	{ CTRL_ANNOUNCE, NET_F_GUEST_ANNOUNCE,      NET_F_GUEST_ANNOUNCE, vnet_ctrl_announce },
	{ CTRL_OFFLOADS, NET_F_CTRL_GUEST_OFFLOADS, NET_F_CTRL_GUEST_OFFLOADS, vnet_ctrl_offloads },
};

static int vnet_command(struct virtio_net *n, const struct vq_chain *c)
{
	uint8_t head[2];

	if (vq_chain_read(c, 0, head, sizeof(head)) != sizeof(head))
		return CTRL_ERR;
	for (unsigned i = 0; i < ARRAY_LEN(vnet_commands); i++)
		if (vnet_commands[i].class == head[0] && (virtio_has(&n->dev, vnet_commands[i].feature) ||
							  virtio_has(&n->dev, vnet_commands[i].feature2)))
			return vnet_commands[i].run(n, head[1], c);
	return CTRL_ERR;
}

static void vnet_run_ctrl(struct virtio_net *n)
{
	struct iovec iov[VNET_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VNET_IOV_MAX };

	while (virtio_pop(&n->dev, CTRL, &c)) {
		if (!c.in_len) {
			virtio_unpop(&n->dev, CTRL, &c);
			virtio_break(&n->dev, &guest_bad_control, c.out_len);
			break;
		}
		uint8_t ack = (uint8_t)vnet_command(n, &c);

		vq_chain_write(&c, 0, &ack, 1);
		virtio_put(&n->dev, CTRL, &c, 1);
	}
	virtio_publish(&n->dev, CTRL);
}

/* ---- life cycle ---- */

static void vnet_run(struct virtio_dev *d, unsigned queue)
{
	static void (*const run[N_QUEUES])(struct virtio_net *n) = { vnet_run_rx, vnet_run_tx, vnet_run_ctrl };

	run[queue](vnet_of(d));
}

static void vnet_start(struct virtio_dev *d)
{
	struct virtio_net *n = vnet_of(d);

	/* 5.1.6.5.6: what was negotiated holds until the driver says otherwise; a restored
	 * driver may have. */
	if (!virtio_has(d, NET_F_CTRL_GUEST_OFFLOADS) || n->s.guest_offloads == UINT64_MAX)
		n->s.guest_offloads = d->s.driver_features & OFFLOAD_FEATURES;
	n->is_tx_blocked = false;
	vnet_apply_offloads(n);
	net_rx_resume(n->backend);
}

static void vnet_reset(struct virtio_dev *d)
{
	struct virtio_net *n = vnet_of(d);

	n->s = (struct vnet_state){ .guest_offloads = UINT64_MAX };
	memcpy(n->s.mac, n->mac, 6);
	memcpy(d->s.config, n->mac, 6);
	n->s.mode[MODE_PROMISC] = 1;    /* until the driver sets a filter */
	d->s.config[CONFIG_STATUS] &= (uint8_t)~S_ANNOUNCE;
	n->held_len = 0;
	n->n_tx_segments = 0;
}

static void vnet_stopped(struct virtio_dev *d)
{
	net_rx_resume(vnet_of(d)->backend);
}

static void vnet_paused(struct virtio_dev *d)
{
	net_settle(vnet_of(d)->backend);
}

static void vnet_set_status(struct virtio_net *n, uint8_t set, uint8_t clear)
{
	uint8_t status = (uint8_t)((n->dev.s.config[CONFIG_STATUS] & ~clear) | set);

	virtio_config_set(&n->dev, CONFIG_STATUS, &status, sizeof(status));
}

static void vnet_plug(struct loop_timer *t)
{
	struct virtio_net *n = container_of(t, struct virtio_net, plug);

	virtio_lock(&n->dev);
	n->s.is_unplugged = 0;
	vnet_set_status(n, S_LINK_UP, 0);
	virtio_unlock(&n->dev);
}

static int vnet_restored(struct virtio_dev *d, struct err *err)
{
	struct virtio_net *n = vnet_of(d);

	if (n->s.n_uni > VNET_TABLE_MAX || n->s.n_multi > VNET_TABLE_MAX)
		return err_set(err, -EPROTO, "the saved address filter is longer than %d", VNET_TABLE_MAX);
	n->held_len = 0;
	/* It may be behind another switch now, which has to learn where it is. */
	if (virtio_has(d, NET_F_GUEST_ANNOUNCE))
		vnet_set_status(n, S_ANNOUNCE, 0);
	if (n->s.is_unplugged)
		loop_timer_set(&n->plug, loop_now_ns() + VNET_UNPLUGGED_NS);
	return 0;
}

static void vnet_free(struct virtio_dev *d)
{
	struct virtio_net *n = vnet_of(d);

	loop_timer_cancel(&n->plug);
	net_close(n->backend);
	virtio_fini(d);
	free(n);
}

static const struct virtio_ops vnet_ops = {
	.name = "virtio-net",
	.id = 1,
	.class_code = 0x020000,
	.state = &virtio_net_state_desc,
	.run = vnet_run,
	.start = vnet_start,
	.reset = vnet_reset,
	.stopped = vnet_stopped,
	.paused = vnet_paused,
	.restored = vnet_restored,
	.free = vnet_free,
};

static void vnet_set_config(struct virtio_net *n, const struct virtio_net_config *cfg)
{
	struct vnet_config c = {
		.status = le16_of(S_LINK_UP), .max_virtqueue_pairs = le16_of(1), .mtu = le16_of(cfg->mtu),
	};

	memcpy(c.mac, cfg->mac, 6);
	memcpy(n->mac, cfg->mac, 6);
	memcpy(n->dev.s.config, &c, sizeof(c));
	n->dev.config_len = sizeof(c);
	n->dev.features = VIRTIO_BIT(NET_F_MAC) | VIRTIO_BIT(NET_F_MRG_RXBUF) | VIRTIO_BIT(NET_F_STATUS) |
			  VIRTIO_BIT(NET_F_CTRL_VQ) | VIRTIO_BIT(NET_F_CTRL_RX) |
			  VIRTIO_BIT(NET_F_CTRL_RX_EXTRA) | VIRTIO_BIT(NET_F_CTRL_MAC_ADDR) |
			  VIRTIO_BIT(NET_F_GUEST_ANNOUNCE);
	if (cfg->mtu)
		n->dev.features |= VIRTIO_BIT(NET_F_MTU);
	if (n->has_hdr)
		n->dev.features |= HDR_FEATURES;
	else
		n->dev.features_kept = HDR_FEATURES;
}

int virtio_net_new(struct virtio_dev **out, const struct virtio_env *env,
		   const struct virtio_net_config *cfg, struct err *err)
{
	if (cfg->mac[0] & 1)
		return err_set(err, -EINVAL, "MAC address %02x:%02x:%02x:%02x:%02x:%02x is a group address; "
			       "the first byte must be even", cfg->mac[0], cfg->mac[1], cfg->mac[2],
			       cfg->mac[3], cfg->mac[4], cfg->mac[5]);
	if (cfg->mtu && cfg->mtu < VNET_MTU_MIN)
		return err_set(err, -EINVAL, "an MTU of %u is below %d", cfg->mtu, VNET_MTU_MIN);

	struct virtio_net *n = calloc(1, sizeof(*n));

	if (!n)
		return err_set(err, -ENOMEM, "out of memory");
	struct net_options o = *cfg->backend;

	o.wants_vnet_hdr = true;
	loop_timer_init(env->loop, &n->plug, vnet_plug);
	n->client = (struct net_client){ vnet_can_receive, vnet_receive, vnet_writable };

	int r = net_open(&n->backend, env->loop, &n->client, &o, err);

	if (r < 0) {
		free(n);
		return r;
	}
	n->has_hdr = net_has_vnet_hdr(n->backend);
	n->dev.ops = &vnet_ops;
	n->dev.ops_state = &n->s;
	n->dev.env = *env;
	n->dev.n_queues = N_QUEUES;
	n->dev.queue[RX].vq.size_max = n->dev.queue[TX].vq.size_max = VNET_QUEUE_SIZE;
	n->dev.queue[CTRL].vq.size_max = VNET_CTRL_SIZE;
	vnet_set_config(n, cfg);
	r = virtio_init(&n->dev, err);
	if (r < 0) {
		net_close(n->backend);
		free(n);
		return r;
	}
	*out = &n->dev;
	return 0;
}

int virtio_net_fd(const struct virtio_dev *d)
{
	return net_fd(container_of(d, const struct virtio_net, dev)->backend);
}

void virtio_net_forget(struct virtio_dev *d)
{
	net_forget(vnet_of(d)->backend);
}

int virtio_net_give_metadata(struct virtio_dev *d, int fd)
{
	return net_give_metadata(vnet_of(d)->backend, fd);
}

void virtio_net_set_link(struct virtio_dev *d, bool is_up)
{
	le16 status = le16_of(is_up ? S_LINK_UP : 0);

	virtio_lock(d);
	virtio_config_set(d, offsetof(struct vnet_config, status), &status, sizeof(status));
	virtio_unlock(d);
}

void virtio_net_renew(struct virtio_dev *d)
{
	struct virtio_net *n = vnet_of(d);

	virtio_lock(d);
	virtio_config_set(d, offsetof(struct vnet_config, mac), n->mac, sizeof(n->mac));
	if (d->s.config[CONFIG_STATUS] & S_LINK_UP) {
		n->s.is_unplugged = 1;
		vnet_set_status(n, 0, S_LINK_UP);
		loop_timer_set(&n->plug, loop_now_ns() + VNET_UNPLUGGED_NS);
	}
	virtio_unlock(d);
}

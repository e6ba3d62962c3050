/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/vsock.c - the socket device (VIRTIO 1.2, 5.10): rings and events; vsock_conn.c has the connections.
 *
 * Streams only. What is to be sent is bits of connections and a short list of resets, so that it is bounded; while that list
 * is full nothing is taken from the driver (5.10.6.4 asks for no more). No chain is held: payload goes from the host's
 * socket straight into the driver's buffer and the other way round. Left out on purpose: SEQPACKET. Runs on the loop thread. */
#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "virtio/vsock_priv.h"

enum { VSOCK_QUEUE_SIZE = 128, SENDS_MAX = 2 * VSOCK_QUEUE_SIZE, F_STREAM = 0, EVENT_TRANSPORT_RESET = 0 };

struct vsock_config {                   /* 5.10.4 */
	le64 guest_cid;
};
_Static_assert(sizeof(struct vsock_config) == 8, "5.10.4");

static const struct field vsock_fields[] = {
	FIELD(struct vsock_dev_state, wants_reset, 1),
};
const struct state_desc virtio_vsock_state_desc = {
	.name = "virtio-vsock", .version = 1, .size = sizeof(struct vsock_dev_state),
	.n_fields = ARRAY_LEN(vsock_fields), .fields = vsock_fields,
};

static struct log_guest guest_short = LOG_GUEST("virtio-vsock: packet without a whole header");
static struct log_guest guest_no_room = LOG_GUEST("virtio-vsock: receive buffer without room for a packet");
static struct log_guest guest_bad_event = LOG_GUEST("virtio-vsock: event buffer too small");

/* ---- to the driver ---- */

static bool vsock_pop_rx(struct virtio_vsock *v, struct vq_chain *c)
{
	if (!virtio_pop(&v->dev, RX, c))
		return false;
	if (c->in_len > sizeof(struct vsock_hdr))
		return true;
	virtio_unpop(&v->dev, RX, c);
	virtio_break(&v->dev, &guest_no_room, c->in_len);
	return false;
}

static void vsock_put_packet(struct virtio_vsock *v, const struct vq_chain *c, struct vsock_hdr *h, size_t len)
{
	h->src_cid = le64_of(VSOCK_CID_HOST);
	h->dst_cid = le64_of(v->guest_cid);
	h->len = le32_of((uint32_t)len);
	vq_chain_write(c, 0, h, sizeof(*h));
	virtio_put(&v->dev, RX, c, (uint32_t)(sizeof(*h) + len));
}

static bool vsock_send_reset(struct virtio_vsock *v)
{
	struct iovec iov[VSOCK_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VSOCK_IOV_MAX };

	if (!vsock_pop_rx(v, &c))
		return false;
	const struct vsock_reset *r = &v->resets[--v->n_resets];
	struct vsock_hdr h = {
		.src_port = le32_of(r->host_port), .dst_port = le32_of(r->guest_port), .type = le16_of(r->type), .op = le16_of(OP_RST),
	};
	vsock_put_packet(v, &c, &h, 0);
	return true;
}

/* The chain's writable part behind the header. */
static int vsock_payload(const struct vq_chain *c, struct iovec *to)
{
	size_t skip = sizeof(struct vsock_hdr);
	int n = 0;

	for (unsigned i = c->n_out; i < c->n_out + c->n_in; i++) {
		struct iovec v = c->iov[i];

		if (skip >= v.iov_len) {
			skip -= v.iov_len;
			continue;
		}
		to[n++] = (struct iovec){ (uint8_t *)v.iov_base + skip, v.iov_len - skip };
		skip = 0;
	}
	return n;
}

/* A packet of connection K. False: there are no buffers. */
static bool vsock_send_one(struct virtio_vsock *v, struct vsock_conn *k)
{
	struct iovec iov[VSOCK_IOV_MAX], payload[VSOCK_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VSOCK_IOV_MAX };
	struct vsock_hdr h = { .op = le16_of(0) };

	if (!vsock_pop_rx(v, &c))
		return false;
	int n = vsock_payload(&c, payload);
	ssize_t len = vsock_next_packet(k, &h, payload, n, c.in_len - sizeof(h));
	if (len < 0)
		virtio_unpop(&v->dev, RX, &c);
	else
		vsock_put_packet(v, &c, &h, (size_t)len);
	vsock_settle(k);
	return true;
}

void vsock_send(struct virtio_vsock *v)
{
	bool can = true;

	while (can && v->n_resets)
		can = vsock_send_reset(v);
	/* One packet each in turn. */
	for (unsigned i = 0; can && v->ready && i < SENDS_MAX; i++)
		can = vsock_send_one(v, v->ready);
	if (can && v->ready)
		virtio_kick(&v->dev, RX);
	virtio_publish(&v->dev, RX);
	if (v->is_tx_stopped && v->n_resets < VSOCK_RESETS_MAX) {
		v->is_tx_stopped = false;
		virtio_kick(&v->dev, TX);
	}
}

/* ---- from the driver ---- */

static void vsock_run_tx(struct virtio_vsock *v)
{
	struct iovec iov[VSOCK_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VSOCK_IOV_MAX };
	struct vsock_hdr h;

	for (;;) {
		if (v->n_resets == VSOCK_RESETS_MAX) {
			v->is_tx_stopped = true;
			break;
		}
		if (!virtio_pop(&v->dev, TX, &c))
			break;
		if (vq_chain_read(&c, 0, &h, sizeof(h)) != sizeof(h) || le32_get(h.len) > c.out_len - sizeof(h)) {
			virtio_unpop(&v->dev, TX, &c);
			virtio_break(&v->dev, &guest_short, c.out_len);
			break;
		}
		vsock_take_packet(v, &h, &c);
		virtio_put(&v->dev, TX, &c, 0);
	}
	virtio_publish(&v->dev, TX);
	vsock_send(v);
}

/* 5.10.6.7: connections have gone, and the driver's address may be another. */
static void vsock_run_event(struct virtio_vsock *v)
{
	le32 event = le32_of(EVENT_TRANSPORT_RESET);
	struct iovec iov[VSOCK_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VSOCK_IOV_MAX };

	if (!v->s.wants_reset || !virtio_pop(&v->dev, EVENT, &c))
		return;
	if (c.in_len < sizeof(event)) {
		virtio_unpop(&v->dev, EVENT, &c);
		virtio_break(&v->dev, &guest_bad_event, c.in_len);
		return;
	}
	v->s.wants_reset = 0;
	vq_chain_write(&c, 0, &event, sizeof(event));
	virtio_put(&v->dev, EVENT, &c, sizeof(event));
	virtio_publish(&v->dev, EVENT);
}

static void vsock_run(struct virtio_dev *d, unsigned queue)
{
	static void (*const run[N_QUEUES])(struct virtio_vsock *v) = { vsock_send, vsock_run_tx, vsock_run_event };

	run[queue](vsock_of(d));
}

/* ---- life cycle ---- */

static void vsock_start(struct virtio_dev *d)
{
	vsock_go_on(vsock_of(d));
}

static void vsock_reset(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);

	v->s = (struct vsock_dev_state){ .wants_reset = 0 };
	v->n_resets = 0;
	v->is_tx_stopped = false;
}

/* Connections are closed here, on the loop thread: their descriptors are watched there. */
static void vsock_stopped(struct virtio_dev *d)
{
	vsock_close_all(vsock_of(d));
}

static int vsock_restored(struct virtio_dev *d, struct err *err)
{
	struct virtio_vsock *v = vsock_of(d);
	struct vsock_config c = { .guest_cid = le64_of(v->guest_cid) };

	/* The host's ends are elsewhere, or nowhere. A copy may have an address of its own. */
	v->s.wants_reset = 1;
	memcpy(d->s.config, &c, sizeof(c));
	return 0;
}

static void vsock_free(struct virtio_dev *d)
{
	struct virtio_vsock *v = vsock_of(d);

	vsock_close_all(v);
	vsock_drop_waiters(v);
	loop_timer_cancel(&v->deadlines);
	virtio_fini(d);
	free(v);
}

static const struct virtio_ops vsock_ops = {
	.name = "virtio-vsock",
	.id = 19,
	.class_code = 0x078000,
	.state = &virtio_vsock_state_desc,
	.run = vsock_run,
	.start = vsock_start,
	.reset = vsock_reset,
	.stopped = vsock_stopped,
	.restored = vsock_restored,
	.free = vsock_free,
};

int virtio_vsock_new(struct virtio_dev **out, const struct virtio_env *env, uint32_t guest_cid, struct err *err)
{
	struct vsock_config c = { .guest_cid = le64_of(guest_cid) };

	if (guest_cid < VIRTIO_VSOCK_CID_MIN || guest_cid == UINT32_MAX)
		return err_set(err, -EINVAL, "a guest's socket address is from %d to %u, not %u", VIRTIO_VSOCK_CID_MIN, UINT32_MAX - 1,
			       guest_cid);
	struct virtio_vsock *v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->guest_cid = guest_cid;
	v->dev.ops = &vsock_ops;
	v->dev.ops_state = &v->s;
	v->dev.env = *env;
	v->dev.features = VIRTIO_BIT(F_STREAM);
	v->dev.n_queues = N_QUEUES;
	memcpy(v->dev.s.config, &c, sizeof(c));
	v->dev.config_len = sizeof(c);
	for (unsigned i = 0; i < N_QUEUES; i++)
		v->dev.queue[i].vq.size_max = VSOCK_QUEUE_SIZE;
	loop_timer_init(env->loop, &v->deadlines, vsock_deadlines);
	int r = virtio_init(&v->dev, err);
	if (r < 0) {
		free(v);
		return r;
	}
	*out = &v->dev;
	return 0;
}

unsigned virtio_vsock_count(struct virtio_dev *d)
{
	virtio_lock(d);
	unsigned n = vsock_of(d)->n_conns;

	virtio_unlock(d);
	return n;
}

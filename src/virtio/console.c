/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/console.c - the console device (VIRTIO 1.2, 5.3).
 *
 * One port: queues 0 and 1, the size of the terminal in configuration space. More ports:
 * VIRTIO_CONSOLE_F_MULTIPORT with its control queues. What has to be told to the driver is
 * kept as one bit per port and kind, not as a list of messages, so that it is bounded.
 * Left out on purpose: emergency write. Runs on the loop thread; the host's callbacks are
 * called without the device lock.
 *
 * VIRTIO_CONSOLE_RESIZE carries columns, then rows (5.3.6.2). Linux read it the other way round
 * from 2010 until 6.15 (commit 5326ab737a47 "virtio_console: fix order of fields cols and rows",
 * in the stable series since January 2026: 6.1.160, 6.6.120, 6.12.66); a revert proposed for 6.17
 * was not taken. Older kernels swap the two when there are several ports; with one port the size
 * is in configuration space, which all read alike. */
#include "virtio/console.h"

#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"

enum { CONSOLE_F_SIZE = 0, CONSOLE_F_MULTIPORT = 1 };   /* 5.3.3 */

enum vcon_event {                       /* 5.3.6.2 */
	EV_DEVICE_READY = 0, EV_PORT_ADD = 1, EV_PORT_REMOVE = 2, EV_PORT_READY = 3,
	EV_CONSOLE_PORT = 4, EV_RESIZE = 5, EV_PORT_OPEN = 6, EV_PORT_NAME = 7,
};

struct vcon_config {                    /* 5.3.4 */
	le16 cols, rows;
	le32 max_nr_ports, emerg_wr;
};
_Static_assert(sizeof(struct vcon_config) == 12, "5.3.4");

struct vcon_control {                   /* 5.3.6.2 */
	le32 id;
	le16 event, value;
};
_Static_assert(sizeof(struct vcon_control) == 8, "5.3.6.2");

struct vcon_resize {                    /* 5.3.6.2 */
	le16 cols, rows;
};
_Static_assert(sizeof(struct vcon_resize) == 4, "5.3.6.2");

enum {
	VCON_QUEUE_SIZE = 128, VCON_IOV_MAX = VCON_QUEUE_SIZE, VCON_CHUNK = 4096,
	VCON_CONTROL_RX = 2, VCON_CONTROL_TX = 3,
};
_Static_assert(2 * VIRTIO_CONSOLE_PORTS_MAX + 2 <= VIRTIO_QUEUES_MAX, "5.3.2");

/* Guest-visible state of a port. PENDING has bit 1 << event for what is still to be told. */
struct vcon_port_state {
	uint32_t tx_off;        /* bytes of the chain at the head of the TX queue that are through */
	uint8_t is_ready, is_open, pending;
};

struct vcon_state {
	struct vcon_port_state port[VIRTIO_CONSOLE_PORTS_MAX];
};

static const struct field vcon_port_fields[] = {
	FIELD(struct vcon_port_state, tx_off, 1),
	FIELD(struct vcon_port_state, is_ready, 1),
	FIELD(struct vcon_port_state, is_open, 1),
	FIELD(struct vcon_port_state, pending, 1),
};
static const struct state_desc vcon_port_desc = {
	.name = "port", .version = 1, .size = sizeof(struct vcon_port_state),
	.n_fields = ARRAY_LEN(vcon_port_fields), .fields = vcon_port_fields,
};
static const struct field vcon_fields[] = {
	FIELD_SUBS(struct vcon_state, port, 1, &vcon_port_desc),
};
const struct state_desc virtio_console_state_desc = {
	.name = "virtio-console", .version = 1, .size = sizeof(struct vcon_state),
	.n_fields = ARRAY_LEN(vcon_fields), .fields = vcon_fields,
};

struct vcon_port {
	struct virtio_console_port host;
	char name[VIRTIO_CONSOLE_NAME_MAX + 1];
	bool is_blocked;                /* the host took less than it was given */
	bool wants_readable;            /* the host has input and there was no room */
	bool is_host_open;
	bool is_told_open;              /* what opened() said last */
	uint16_t cols, rows;            /* of the terminal behind a console; 0: not known */
};

struct virtio_console {
	struct virtio_dev dev;
	struct vcon_state s;            /* guarded by the device lock, like all of this */
	struct vcon_port port[VIRTIO_CONSOLE_PORTS_MAX];
	unsigned n_ports;
	unsigned first;                 /* the lowest port that the driver is told of */
};

static struct log_guest guest_bad_control = LOG_GUEST("virtio-console: control message without sense");

static struct virtio_console *vcon_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_console, dev);
}

/* 5.3.2: port 0 has queues 0 and 1, the control queues come next, then the other ports. */
static unsigned vcon_rx_queue(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static unsigned vcon_tx_queue(unsigned port)
{
	return vcon_rx_queue(port) + 1;
}

/* Other ports are byte streams with a name. */
static bool vcon_is_console(const struct virtio_console *v, unsigned port)
{
	return !v->port[port].name[0];
}

static bool vcon_is_multiport(const struct virtio_console *v)
{
	return virtio_has(&v->dev, CONSOLE_F_MULTIPORT);
}

/* ---- control messages ---- */

/* Build the message about EVENT of PORT; its length. */
static size_t vcon_message(const struct virtio_console *v, unsigned port, enum vcon_event event,
			   uint8_t buf[static sizeof(struct vcon_control) + VIRTIO_CONSOLE_NAME_MAX])
{
	struct vcon_control c = { le32_of(port), le16_of(event), le16_of(1) };
	size_t len = sizeof(c);

	if (event == EV_PORT_OPEN)
		c.value = le16_of(v->port[port].is_host_open);
	memcpy(buf, &c, sizeof(c));
	if (event == EV_PORT_NAME) {
		memcpy(buf + len, v->port[port].name, strlen(v->port[port].name));
		len += strlen(v->port[port].name);
	} else if (event == EV_RESIZE) {
		struct vcon_resize size = { le16_of(v->port[port].cols), le16_of(v->port[port].rows) };

		memcpy(buf + len, &size, sizeof(size));
		len += sizeof(size);
	}
	return len;
}

/* Tell the driver what is pending, as far as it has given buffers. */
static void vcon_send_control(struct virtio_console *v)
{
	static const uint8_t order[] = { EV_PORT_ADD, EV_CONSOLE_PORT, EV_PORT_NAME, EV_RESIZE, EV_PORT_OPEN };
	uint8_t buf[sizeof(struct vcon_control) + VIRTIO_CONSOLE_NAME_MAX];
	struct iovec iov[VCON_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VCON_IOV_MAX };

	if (!vcon_is_multiport(v))
		return;
	for (unsigned i = 0; i < v->n_ports * ARRAY_LEN(order); i++) {
		unsigned port = i / ARRAY_LEN(order);
		enum vcon_event event = order[i % ARRAY_LEN(order)];

		if (!(v->s.port[port].pending & 1u << event))
			continue;
		if (!virtio_pop(&v->dev, VCON_CONTROL_RX, &c))
			break;
		size_t len = vcon_message(v, port, event, buf);

		v->s.port[port].pending &= (uint8_t)~(1u << event);
		virtio_put(&v->dev, VCON_CONTROL_RX, &c, (uint32_t)vq_chain_write(&c, 0, buf, len));
	}
	virtio_publish(&v->dev, VCON_CONTROL_RX);
}

static void vcon_tell(struct virtio_console *v, unsigned port, enum vcon_event event)
{
	if (v->s.port[port].is_ready)
		v->s.port[port].pending |= (uint8_t)(1u << event);
}

static void vcon_tell_size(struct virtio_console *v, unsigned port)
{
	if (vcon_is_console(v, port) && v->port[port].cols && virtio_has(&v->dev, CONSOLE_F_SIZE))
		vcon_tell(v, port, EV_RESIZE);
}

/* Tell the host's ends which ports programs in the guest have open. Lock held, but not while
 * the host is called. */
static void vcon_sync_open(struct virtio_console *v)
{
	for (unsigned i = 0; i < v->n_ports; i++) {
		struct vcon_port *p = &v->port[i];
		bool is_open = v->s.port[i].is_open;

		if (is_open == p->is_told_open)
			continue;
		p->is_told_open = is_open;
		if (!p->host.opened)
			continue;
		virtio_unlock(&v->dev);
		p->host.opened(p->host.arg, is_open);
		virtio_lock(&v->dev);
	}
}

static void vcon_control(struct virtio_console *v, const struct vcon_control *m)
{
	uint32_t id = le32_get(m->id);
	uint16_t event = le16_get(m->event), value = le16_get(m->value);

	if (event == EV_DEVICE_READY) {
		for (unsigned i = v->first; value && i < v->n_ports; i++)
			v->s.port[i].pending |= 1u << EV_PORT_ADD;
		return;
	}
	if (id < v->first || id >= v->n_ports) {
		log_guest(&guest_bad_control, id);
		return;
	}
	struct vcon_port_state *p = &v->s.port[id];

	switch (event) {
	case EV_PORT_READY:
		p->is_ready = value == 1;
		if (!p->is_ready)
			break;
		vcon_tell(v, id, vcon_is_console(v, id) ? EV_CONSOLE_PORT : EV_PORT_NAME);
		vcon_tell_size(v, id);
		if (v->port[id].is_host_open)
			vcon_tell(v, id, EV_PORT_OPEN);
		break;
	case EV_PORT_OPEN:
		p->is_open = value == 1;
		break;
	default:
		log_guest(&guest_bad_control, event);
	}
}

static void vcon_run_control(struct virtio_console *v)
{
	struct iovec iov[VCON_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VCON_IOV_MAX };
	struct vcon_control m;

	while (virtio_pop(&v->dev, VCON_CONTROL_TX, &c)) {
		if (vq_chain_read(&c, 0, &m, sizeof(m)) == sizeof(m))
			vcon_control(v, &m);
		else
			log_guest(&guest_bad_control, c.out_len);
		virtio_put(&v->dev, VCON_CONTROL_TX, &c, 0);
	}
	virtio_publish(&v->dev, VCON_CONTROL_TX);
	vcon_send_control(v);
	vcon_sync_open(v);
}

/* ---- bytes ---- */

/* Give the host the bytes of chain C from OFF on; how many are through in all. The lock is
 * open while the host is called: the chain counts as in flight, so a reset waits for it. */
static uint32_t vcon_write(struct virtio_console *v, struct vcon_port *p, const struct vq_chain *c, uint32_t off)
{
	uint8_t buf[VCON_CHUNK];
	size_t n;

	if (!p->host.write)
		return c->out_len;
	while (off < c->out_len && (n = vq_chain_read(c, off, buf, sizeof(buf)))) {
		virtio_unlock(&v->dev);
		size_t taken = p->host.write(p->host.arg, buf, n);

		virtio_lock(&v->dev);
		off += (uint32_t)(taken < n ? taken : n);
		if (taken < n)
			break;
	}
	return off;
}

static void vcon_run_tx(struct virtio_console *v, unsigned port)
{
	struct vcon_port *p = &v->port[port];
	struct vcon_port_state *s = &v->s.port[port];
	unsigned queue = vcon_tx_queue(port);
	struct iovec iov[VCON_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VCON_IOV_MAX };

	while (!p->is_blocked && virtio_pop(&v->dev, queue, &c)) {
		s->tx_off = vcon_write(v, p, &c, s->tx_off);
		if (s->tx_off >= c.out_len) {
			s->tx_off = 0;
			virtio_put(&v->dev, queue, &c, 0);
		} else {
			p->is_blocked = true;
			virtio_unpop(&v->dev, queue, &c);
		}
	}
	virtio_publish(&v->dev, queue);
}

static void vcon_run_rx(struct virtio_console *v, unsigned port)
{
	struct vcon_port *p = &v->port[port];

	if (!p->wants_readable || !vq_has_chain(&v->dev.queue[vcon_rx_queue(port)].vq))
		return;
	p->wants_readable = false;
	if (!p->host.readable)
		return;
	virtio_unlock(&v->dev);
	p->host.readable(p->host.arg);
	virtio_lock(&v->dev);
}

static void vcon_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_console *v = vcon_of(d);

	if (queue == VCON_CONTROL_RX || queue == VCON_CONTROL_TX) {
		vcon_run_control(v);
		return;
	}
	unsigned port = queue < 2 ? 0 : (queue - 2) / 2;

	if (queue % 2)
		vcon_run_tx(v, port);
	else
		vcon_run_rx(v, port);
}

/* ---- the host's side ---- */

/* Port 0 takes input whenever there are buffers: getty may open it late. Others do while a
 * program has them open, because drivers throw away what nobody reads. */
static bool vcon_may_input(const struct virtio_console *v, unsigned port)
{
	return port == 0 || v->s.port[port].is_open;
}

size_t virtio_console_input(struct virtio_dev *d, unsigned port, const uint8_t *buf, size_t len)
{
	struct virtio_console *v = vcon_of(d);
	unsigned queue = vcon_rx_queue(port);
	struct iovec iov[VCON_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VCON_IOV_MAX };
	size_t done = 0;

	virtio_lock(d);
	while (done < len && vcon_may_input(v, port) && virtio_pop(d, queue, &c)) {
		size_t n = vq_chain_write(&c, 0, buf + done, len - done);

		virtio_put(d, queue, &c, (uint32_t)n);
		done += n;
	}
	virtio_publish(d, queue);
	v->port[port].wants_readable = done < len;
	virtio_unlock(d);
	return done;
}

bool virtio_console_can_receive(struct virtio_dev *d, unsigned port)
{
	struct virtio_console *v = vcon_of(d);

	virtio_lock(d);
	bool can = virtio_is_live(d) && vcon_may_input(v, port) && vq_has_chain(&d->queue[vcon_rx_queue(port)].vq);

	if (!can)
		v->port[port].wants_readable = true;
	virtio_unlock(d);
	return can;
}

void virtio_console_writable(struct virtio_dev *d, unsigned port)
{
	virtio_lock(d);
	vcon_of(d)->port[port].is_blocked = false;
	virtio_kick(d, vcon_tx_queue(port));
	virtio_unlock(d);
}

void virtio_console_resize(struct virtio_dev *d, unsigned port, uint16_t cols, uint16_t rows)
{
	struct virtio_console *v = vcon_of(d);
	struct vcon_resize size = { le16_of(cols), le16_of(rows) };

	virtio_lock(d);
	v->port[port].cols = cols;
	v->port[port].rows = rows;
	if (!port)
		virtio_config_set(d, offsetof(struct vcon_config, cols), &size, sizeof(size));
	vcon_tell_size(v, port);
	vcon_send_control(v);
	virtio_unlock(d);
}

void virtio_console_set_open(struct virtio_dev *d, unsigned port, bool is_open)
{
	struct virtio_console *v = vcon_of(d);

	virtio_lock(d);
	if (v->port[port].is_host_open != is_open) {
		v->port[port].is_host_open = is_open;
		vcon_tell(v, port, EV_PORT_OPEN);
		vcon_send_control(v);
	}
	virtio_unlock(d);
}

/* ---- life cycle ---- */

static void vcon_start(struct virtio_dev *d)
{
	struct virtio_console *v = vcon_of(d);

	if (!vcon_is_multiport(v)) {
		v->s.port[0].is_open = 1;
		/* Linux looks at the size when it is told of a change, not before. */
		if (v->port[0].cols && virtio_has(d, CONSOLE_F_SIZE))
			virtio_config_notify(d);
	}
	for (unsigned i = 0; i < v->n_ports; i++)
		v->port[i].is_blocked = false;
	vcon_sync_open(v);
}

static void vcon_reset(struct virtio_dev *d)
{
	memset(&vcon_of(d)->s, 0, sizeof(vcon_of(d)->s));
}

static void vcon_stopped(struct virtio_dev *d)
{
	vcon_sync_open(vcon_of(d));
}

static int vcon_restored(struct virtio_dev *d, struct err *err)
{
	struct virtio_console *v = vcon_of(d);

	for (unsigned i = v->n_ports; i < VIRTIO_CONSOLE_PORTS_MAX; i++)
		if (v->s.port[i].is_ready)
			return err_set(err, -EPROTO, "the saved driver uses port %u of %u", i, v->n_ports);
	for (unsigned i = 0; i < v->n_ports; i++)
		vcon_tell(v, i, EV_PORT_OPEN);          /* the host's end is a new one */
	return 0;
}

static void vcon_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(vcon_of(d));
}

static const struct virtio_ops vcon_ops = {
	.name = "virtio-console",
	.id = 3,
	.class_code = 0x078000,
	.state = &virtio_console_state_desc,
	.run = vcon_run,
	.start = vcon_start,
	.reset = vcon_reset,
	.stopped = vcon_stopped,
	.restored = vcon_restored,
	.free = vcon_free,
};

static int vcon_check(const struct virtio_console_config *cfg, struct err *err)
{
	if (!cfg->n_ports || cfg->n_ports > VIRTIO_CONSOLE_PORTS_MAX)
		return err_set(err, -EINVAL, "a console device has 1 to %d ports, not %u",
			       VIRTIO_CONSOLE_PORTS_MAX, cfg->n_ports);
	/* Drivers without MULTIPORT take port 0 for a console whatever we say. */
	if (cfg->ports[0].name)
		return err_set(err, -EINVAL, "port 0 of a console device is a console: it has no name");
	for (unsigned i = 1; i < cfg->n_ports; i++) {
		const char *name = cfg->ports[i].name;

		if (name && (!*name || strlen(name) > VIRTIO_CONSOLE_NAME_MAX))
			return err_set(err, -EINVAL, "the name of port %u of a console device must have 1 to %d bytes",
				       i, VIRTIO_CONSOLE_NAME_MAX);
	}
	return 0;
}

int virtio_console_new(struct virtio_dev **out, const struct virtio_env *env,
		       const struct virtio_console_config *cfg, struct err *err)
{
	int r = vcon_check(cfg, err);

	if (r < 0)
		return r;
	struct virtio_console *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	struct vcon_config c = {
		.cols = le16_of(cfg->cols), .rows = le16_of(cfg->rows),
		.max_nr_ports = le32_of(cfg->n_ports),
	};

	v->dev.ops = &vcon_ops;
	v->dev.ops_state = &v->s;
	v->dev.env = *env;
	v->dev.features = VIRTIO_BIT(CONSOLE_F_SIZE);
	v->n_ports = cfg->n_ports;
	v->first = cfg->has_no_first;
	v->dev.n_queues = 2;
	if (cfg->n_ports > 1) {
		v->dev.features |= VIRTIO_BIT(CONSOLE_F_MULTIPORT);
		v->dev.n_queues = 2 * cfg->n_ports + 2;
	}
	memcpy(v->dev.s.config, &c, sizeof(c));
	v->dev.config_len = sizeof(c);
	for (unsigned i = 0; i < cfg->n_ports; i++) {
		v->port[i].host = cfg->ports[i];
		v->port[i].host.name = NULL;            /* borrowed for the call only */
		v->port[i].is_host_open = true;
		if (cfg->ports[i].name)
			memcpy(v->port[i].name, cfg->ports[i].name, strlen(cfg->ports[i].name));
	}
	v->port[0].cols = cfg->cols;
	v->port[0].rows = cfg->rows;
	for (unsigned i = 0; i < v->dev.n_queues; i++)
		v->dev.queue[i].vq.size_max = VCON_QUEUE_SIZE;
	r = virtio_init(&v->dev, err);
	if (r < 0) {
		free(v);
		return r;
	}
	*out = &v->dev;
	return 0;
}

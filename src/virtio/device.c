/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/device.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include "util/checked.h"
#include "util/err.h"

static const struct field virtio_fields[] = {
	FIELD(struct virtio_state, driver_features, 1),
	FIELD(struct virtio_state, device_feature_select, 1),
	FIELD(struct virtio_state, driver_feature_select, 1),
	FIELD(struct virtio_state, queue_select, 1),
	FIELD(struct virtio_state, config_vector, 1),
	FIELD(struct virtio_state, status, 1),
	FIELD(struct virtio_state, isr, 1),
	FIELD(struct virtio_state, config_generation, 1),
	FIELD_RAW(struct virtio_state, config, 1),
	FIELD_SUBS(struct virtio_state, queue, 1, &vq_state_desc),
};
const struct state_desc virtio_state_desc = {
	.name = "virtio", .version = 1, .size = sizeof(struct virtio_state),
	.n_fields = ARRAY_LEN(virtio_fields), .fields = virtio_fields,
};

static struct log_guest guest_bad_ring = LOG_GUEST("virtio: driver broke a ring");
static struct log_guest guest_bad_queue = LOG_GUEST("virtio: driver enabled an impossible queue");
static struct log_guest guest_bad_status = LOG_GUEST("virtio: status bit out of order");

void virtio_lock(struct virtio_dev *d)
{
	pthread_mutex_lock(&d->lock);
}

void virtio_unlock(struct virtio_dev *d)
{
	uint64_t vectors = d->pending_vectors;

	d->pending_vectors = 0;
	pthread_mutex_unlock(&d->lock);
	for (; vectors; vectors &= vectors - 1)
		pci_msix_raise(&d->pci, (unsigned)__builtin_ctzll(vectors));
}

static void virtio_interrupt(struct virtio_dev *d, uint8_t isr, uint16_t vector)
{
	d->s.isr |= isr;
	if (vector < d->pci.n_msix)
		d->pending_vectors |= 1ull << vector;
}

/* An eventfd's counter never fills up here, and a lost wake-up cannot happen: failure means
 * that the counter is not zero. */
static void virtio_signal(int fd)
{
	eventfd_write(fd, 1);
}

static void virtio_wake(struct virtio_dev *d)
{
	virtio_signal(d->wake.fd);
}

bool virtio_is_live(const struct virtio_dev *d)
{
	return (d->s.status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET | VIRTIO_FAILED)) == VIRTIO_DRIVER_OK &&
	       !d->is_resetting && !d->is_paused;
}

/* ---- breaking, configuration changes ---- */

void virtio_break(struct virtio_dev *d, struct log_guest *g, uint64_t value)
{
	log_guest(g, value);
	d->stats.misuse++;
	if (d->s.status & VIRTIO_NEEDS_RESET)
		return;
	d->s.status |= VIRTIO_NEEDS_RESET;
	if (d->s.status & VIRTIO_DRIVER_OK)     /* 2.1.2: tell it, but not before DRIVER_OK */
		virtio_interrupt(d, VIRTIO_ISR_CONFIG, d->s.config_vector);
}

void virtio_config_notify(struct virtio_dev *d)
{
	if (d->s.status & VIRTIO_DRIVER_OK)
		virtio_interrupt(d, VIRTIO_ISR_CONFIG, d->s.config_vector);
}

void virtio_config_set(struct virtio_dev *d, unsigned off, const void *bytes, unsigned len)
{
	if (!memcmp(d->s.config + off, bytes, len))
		return;
	memcpy(d->s.config + off, bytes, len);
	d->s.config_generation++;
	virtio_config_notify(d);
}

/* ---- the status state machine (2.1, 3.1.1) ---- */

static bool virtio_is_idle(const struct virtio_dev *d)
{
	for (unsigned i = 0; i < d->n_queues; i++)
		if (d->queue[i].vq.in_flight)
			return false;
	return true;
}

/* Everything the driver has said is forgotten; nothing is in flight. */
static void virtio_finish_reset(struct virtio_dev *d)
{
	d->is_resetting = false;
	d->s.status = 0;
	d->s.isr = 0;
	d->s.driver_features = 0;
	d->s.device_feature_select = d->s.driver_feature_select = 0;
	d->s.queue_select = 0;
	d->s.config_vector = VQ_NO_VECTOR;
	for (unsigned i = 0; i < d->n_queues; i++) {
		vq_reset(&d->queue[i].vq);
		d->queue[i].is_resetting = false;
	}
	if (d->ops->reset)
		d->ops->reset(d);
}

static void virtio_start_reset(struct virtio_dev *d)
{
	d->wants_start = false;
	d->wants_stopped = true;
	d->is_resetting = true;
	d->pending_vectors = 0;
	if (virtio_is_idle(d))
		virtio_finish_reset(d);
	virtio_wake(d);
}

static bool virtio_accept_features(struct virtio_dev *d)
{
	uint64_t f = d->s.driver_features;

	if (f & ~d->features || !(f & VIRTIO_BIT(VIRTIO_F_VERSION_1)))
		return false;
	for (unsigned i = 0; i < d->n_queues; i++) {
		d->queue[i].vq.has_indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
		d->queue[i].vq.has_event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
	}
	return true;
}

static bool virtio_driver_ready(struct virtio_dev *d)
{
	if (d->s.status & VIRTIO_NEEDS_RESET)   /* broken before: now it may be told */
		virtio_interrupt(d, VIRTIO_ISR_CONFIG, d->s.config_vector);
	d->wants_start = true;
	virtio_wake(d);
	return true;
}

/* The driver may set one of these bits once all of NEEDS are up and TRY agrees. In order, so
 * that one write may set several. */
static const struct {
	uint8_t bit, needs;
	bool (*try)(struct virtio_dev *d);
} virtio_edges[] = {
	{ VIRTIO_ACKNOWLEDGE, 0,                                         NULL },
	{ VIRTIO_DRIVER,      VIRTIO_ACKNOWLEDGE,                        NULL },
	{ VIRTIO_FEATURES_OK, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER,        virtio_accept_features },
	{ VIRTIO_DRIVER_OK,   VIRTIO_DRIVER | VIRTIO_FEATURES_OK,        virtio_driver_ready },
	{ VIRTIO_FAILED,      0,                                         NULL },
};

void virtio_set_status(struct virtio_dev *d, uint8_t status)
{
	if (d->is_resetting)
		return;
	if (!status) {
		virtio_start_reset(d);
		return;
	}
	/* Bits only go up: what is missing in STATUS stays (2.1.1: "MUST NOT clear a bit"). */
	for (unsigned i = 0; i < ARRAY_LEN(virtio_edges); i++) {
		uint8_t bit = virtio_edges[i].bit, needs = virtio_edges[i].needs;

		if (!(status & bit) || d->s.status & bit)
			continue;
		if ((d->s.status & needs) != needs)
			log_guest(&guest_bad_status, status);
		else if (!virtio_edges[i].try || virtio_edges[i].try(d))
			d->s.status |= bit;
	}
}

uint8_t virtio_get_status(const struct virtio_dev *d)
{
	return d->s.status;
}

/* ---- queues ---- */

void virtio_queue_enable(struct virtio_dev *d, unsigned queue)
{
	struct virtio_queue *q = &d->queue[queue];

	if (q->vq.s.is_enabled || q->is_resetting || d->is_resetting)
		return;

	int r = vq_enable(&q->vq);

	if (r < 0)
		virtio_break(d, &guest_bad_queue, queue);
	else if (virtio_is_live(d))
		virtio_kick(d, queue);
}

static void virtio_finish_queue_reset(struct virtio_queue *q)
{
	struct vq *vq = &q->vq;

	q->is_resetting = false;
	vq_reset(vq);
	vq->has_indirect = virtio_has(q->dev, VIRTIO_F_INDIRECT_DESC);
	vq->has_event_idx = virtio_has(q->dev, VIRTIO_F_EVENT_IDX);
}

/* 2.6.1: the driver waits until queue_reset reads 0. */
void virtio_queue_reset(struct virtio_dev *d, unsigned queue)
{
	struct virtio_queue *q = &d->queue[queue];

	if (!virtio_has(d, VIRTIO_F_RING_RESET) || q->is_resetting || d->is_resetting)
		return;
	if (q->vq.in_flight) {
		q->is_resetting = true;
		q->vq.s.is_enabled = 0;
	} else {
		virtio_finish_queue_reset(q);
	}
}

bool virtio_pop(struct virtio_dev *d, unsigned queue, struct vq_chain *c)
{
	struct virtio_queue *q = &d->queue[queue];

	if (!virtio_is_live(d) || q->is_resetting)
		return false;
	if (!q->budget) {
		virtio_kick(d, queue);          /* others first: the loop comes back */
		return false;
	}
	int r = vq_pop(&q->vq, c);

	if (r < 0) {
		virtio_break(d, &guest_bad_ring, (uint64_t)queue << 32 | (uint32_t)-r);
		return false;
	}
	if (r > 0) {
		q->budget--;
		d->stats.chains++;
	}
	return r > 0;
}

/* A chain has come back. True when a reset was waiting for it or is still going on. */
static bool virtio_chain_dropped(struct virtio_dev *d, struct virtio_queue *q, const struct vq_chain *c)
{
	if (!d->is_resetting && !q->is_resetting)
		return false;
	vq_drop(&q->vq, c);
	if (d->is_resetting && virtio_is_idle(d))
		virtio_finish_reset(d);
	else if (!d->is_resetting && !q->vq.in_flight)
		virtio_finish_queue_reset(q);
	return true;
}

void virtio_unpop(struct virtio_dev *d, unsigned queue, const struct vq_chain *c)
{
	if (!virtio_chain_dropped(d, &d->queue[queue], c))
		vq_unpop(&d->queue[queue].vq, c);
}

void virtio_put(struct virtio_dev *d, unsigned queue, const struct vq_chain *c, uint32_t len)
{
	if (!virtio_chain_dropped(d, &d->queue[queue], c))
		vq_put(&d->queue[queue].vq, c, len);
}

void virtio_publish(struct virtio_dev *d, unsigned queue)
{
	struct vq *vq = &d->queue[queue].vq;

	if (!vq->s.is_enabled || !vq_publish(vq))
		return;
	d->stats.interrupts++;
	virtio_interrupt(d, VIRTIO_ISR_QUEUE, vq->s.vector);
}

void virtio_ring(struct virtio_dev *d, unsigned queue)
{
	if (queue >= d->n_queues)
		return;

	struct virtio_queue *q = &d->queue[queue];

	/* One system call however often the driver rings before the loop comes by; pairs with
	 * the exchange in virtio_kicked(). */
	if (!atomic_exchange_explicit(&q->is_kicked, true, memory_order_acq_rel))
		virtio_signal(q->kick.fd);
}

void virtio_kick(struct virtio_dev *d, unsigned queue)
{
	virtio_ring(d, queue);
}

static void virtio_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_queue *q = &d->queue[queue];

	if (!virtio_is_live(d) || !q->vq.s.is_enabled)
		return;
	q->budget = 2u * q->vq.size_max;
	d->ops->run(d, queue);
	q->budget = UINT_MAX;           /* outside a run, others are not kept waiting */
}

/* ---- on the loop thread ---- */

/* Also when the loop only looks whether the driver has rung; what is seen then may have its event still to come. */
static void virtio_kicked(struct loop_fd *h, unsigned events)
{
	struct virtio_queue *q = container_of(h, struct virtio_queue, kick);
	struct virtio_dev *d = q->dev;
	eventfd_t n;
	bool has_rung = !eventfd_read(h->fd, &n);

	/* An engine may ring the eventfd alone. */
	has_rung |= atomic_exchange_explicit(&q->is_kicked, false, memory_order_acq_rel);
	if (!has_rung)
		return;
	if (d->ops->before)
		d->ops->before(d);
	virtio_lock(d);
	uint64_t before = d->stats.chains;

	d->stats.kicks++;
	virtio_run(d, (unsigned)(q - d->queue));
	bool has_one = d->stats.chains == before + 1;

	virtio_unlock(d);
	/* A driver with several on the way needs no haste: what it adds meanwhile is done in one go. */
	if (d->ops->after && d->ops->after(d) && has_one)
		loop_linger(h);
}

static void virtio_woken(struct loop_fd *h, unsigned events)
{
	struct virtio_dev *d = container_of(h, struct virtio_dev, wake);
	eventfd_t n;

	eventfd_read(h->fd, &n);
	virtio_lock(d);
	if (d->wants_stopped) {
		d->wants_stopped = false;
		if (d->ops->stopped)
			d->ops->stopped(d);
	}
	if (d->wants_start && virtio_is_live(d)) {
		d->wants_start = false;
		if (d->ops->start)
			d->ops->start(d);
		for (unsigned i = 0; i < d->n_queues; i++)
			virtio_run(d, i);
	}
	virtio_unlock(d);
}

/* ---- life cycle, for the machine ---- */

static int virtio_add_eventfd(struct virtio_dev *d, struct loop_fd *h,
			      void (*fn)(struct loop_fd *h, unsigned events))
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return -errno;
	h->fd = fd;

	int r = loop_fd_add(d->env.loop, h, fd, LOOP_IN, fn);

	h->fd = fd;     /* also when the loop refused, for virtio_fini() */
	return r;
}

int virtio_init(struct virtio_dev *d, struct err *err)
{
	int r;

	pthread_mutex_init(&d->lock, NULL);
	d->features |= VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC) |
		       VIRTIO_BIT(VIRTIO_F_RING_RESET) | (d->env.is_lagging ? 0 : VIRTIO_BIT(VIRTIO_F_EVENT_IDX));
	d->wake.fd = -1;
	for (unsigned i = 0; i < d->n_queues; i++) {
		d->queue[i].dev = d;
		d->queue[i].kick.fd = -1;
		d->queue[i].budget = UINT_MAX;
		d->queue[i].vq.mem = d->env.mem;
		d->queue[i].vq.always_signals = d->env.is_lagging;
	}
	virtio_finish_reset(d);
	r = virtio_add_eventfd(d, &d->wake, virtio_woken);
	for (unsigned i = 0; !r && i < d->n_queues; i++)
		r = virtio_add_eventfd(d, &d->queue[i].kick, virtio_kicked);
	if (r < 0) {
		virtio_fini(d);
		return err_set(err, r, "cannot create the doorbells of a %s: %s", d->ops->name, strerror(-r));
	}
	virtio_pci_init(d);
	return 0;
}

static void virtio_del_eventfd(struct loop_fd *h)
{
	int fd = h->fd;

	loop_fd_del(h);
	if (fd >= 0)
		close(fd);
	h->fd = -1;
}

void virtio_fini(struct virtio_dev *d)
{
	for (unsigned i = 0; i < d->n_queues; i++)
		virtio_del_eventfd(&d->queue[i].kick);
	virtio_del_eventfd(&d->wake);
	pthread_mutex_destroy(&d->lock);
}

void virtio_free(struct virtio_dev *d)
{
	if (d)
		d->ops->free(d);
}

struct pci_dev *virtio_pci_dev(struct virtio_dev *d)
{
	return &d->pci;
}

const char *virtio_name(const struct virtio_dev *d)
{
	return d->ops->name;
}

bool virtio_reset(struct virtio_dev *d)
{
	virtio_lock(d);
	if (!d->is_resetting)
		virtio_start_reset(d);

	bool is_done = !d->is_resetting;

	virtio_unlock(d);
	return is_done;
}

bool virtio_doorbell(struct virtio_dev *d, unsigned queue, int *fd, uint64_t *gpa)
{
	if (queue >= d->n_queues)
		return false;

	uint64_t addr = virtio_pci_doorbell(d, queue);

	if (addr == UINT64_MAX)
		return false;
	*fd = d->queue[queue].kick.fd;
	*gpa = addr;
	return true;
}

void virtio_pause(struct virtio_dev *d)
{
	virtio_lock(d);
	d->is_paused = true;
	if (d->ops->paused)
		d->ops->paused(d);
	virtio_unlock(d);
}

void virtio_resume(struct virtio_dev *d)
{
	virtio_lock(d);
	d->is_paused = false;
	d->wants_start = true;
	virtio_unlock(d);
	virtio_wake(d);
}

unsigned virtio_in_flight(struct virtio_dev *d)
{
	unsigned n = 0;

	virtio_lock(d);
	for (unsigned i = 0; i < d->n_queues; i++)
		n += d->queue[i].vq.in_flight;
	virtio_unlock(d);
	return n;
}

void virtio_get_stats(struct virtio_dev *d, struct virtio_stats *out)
{
	virtio_lock(d);
	*out = d->stats;
	virtio_unlock(d);
}

/* ---- saved state ---- */

unsigned virtio_sections(struct virtio_dev *d, struct virtio_section out[VIRTIO_SECTIONS_MAX])
{
	unsigned n = 0;

	virtio_lock(d);
	for (unsigned i = 0; i < d->n_queues; i++)
		d->s.queue[i] = d->queue[i].vq.s;
	virtio_unlock(d);
	out[n++] = (struct virtio_section){ &pci_state_desc, &d->pci.s };
	out[n++] = (struct virtio_section){ &virtio_state_desc, &d->s };
	if (d->ops->state)
		out[n++] = (struct virtio_section){ d->ops->state, d->ops_state };
	return n;
}

static int virtio_queue_restored(struct virtio_dev *d, unsigned i, struct err *err)
{
	struct vq *vq = &d->queue[i].vq;
	bool is_enabled = d->s.queue[i].is_enabled;

	vq->s = d->s.queue[i];
	vq->s.is_enabled = 0;
	vq->in_flight = 0;
	vq->n_unpublished = 0;
	if (vq->s.size > vq->size_max || !is_pow2(vq->s.size))
		return err_set(err, -EPROTO, "saved queue %u has %u entries, this device offers %u",
			       i, vq->s.size, vq->size_max);
	vq->has_indirect = virtio_has(d, VIRTIO_F_INDIRECT_DESC);
	vq->has_event_idx = virtio_has(d, VIRTIO_F_EVENT_IDX);
	if (is_enabled && vq_enable(vq) < 0)
		return err_set(err, -EPROTO, "saved queue %u does not lie in guest memory", i);
	return 0;
}

int virtio_restored(struct virtio_dev *d, struct err *err)
{
	int r = 0;

	virtio_lock(d);
	uint64_t lacks = d->s.driver_features & ~(d->features | d->features_kept);

	if (lacks)
		r = err_set(err, -EPROTO, "the saved driver uses features 0x%" PRIx64 " that this device lacks", lacks);
	for (unsigned i = 0; !r && i < d->n_queues; i++)
		r = virtio_queue_restored(d, i, err);
	if (!r && d->ops->restored)
		r = d->ops->restored(d, err);
	if (r < 0)
		r = err_wrap(err, r, "%s", d->ops->name);
	d->is_resetting = false;
	d->wants_start = true;
	virtio_unlock(d);
	virtio_wake(d);
	return r;
}

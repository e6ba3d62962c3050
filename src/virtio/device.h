/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/device.h - the device core, for those who implement a virtio device.
 *
 * VIRTIO 1.2, chapter 2 (status, features, reset) and 3.1 (initialisation). A device embeds
 * struct virtio_dev as its first member, fills in ops and sizes, and calls virtio_init().
 * The core owns the status register, feature negotiation, queues, doorbells and interrupts;
 * pci.c shows it to the guest.
 *
 * Lock order: bus_lock, then virtio_dev.lock, then nothing: interrupts are collected while the
 * lock is held and sent by virtio_unlock(). vCPU threads come in with bus_lock held, the loop
 * thread takes the device lock alone. All ops are called with the device lock held. */
#ifndef VIRTIO_DEVICE_H
#define VIRTIO_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "bus/pci.h"
#include "util/log.h"
#include "util/loop.h"
#include "virtio/queue.h"
#include "virtio/virtio.h"

enum {
	VIRTIO_CONFIG_MAX = 256,
};

enum virtio_status {                    /* 2.1 */
	VIRTIO_ACKNOWLEDGE = 1,
	VIRTIO_DRIVER = 2,
	VIRTIO_DRIVER_OK = 4,
	VIRTIO_FEATURES_OK = 8,
	VIRTIO_NEEDS_RESET = 64,
	VIRTIO_FAILED = 128,
};

enum virtio_feature {                   /* bit numbers, chapter 6 */
	VIRTIO_F_INDIRECT_DESC = 28,
	VIRTIO_F_EVENT_IDX = 29,
	VIRTIO_F_VERSION_1 = 32,
	VIRTIO_F_RING_RESET = 40,
};
#define VIRTIO_BIT(n) (1ull << (n))

enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 };

/* What the guest can see and change, of every device. */
struct virtio_state {
	uint64_t driver_features;
	uint32_t device_feature_select, driver_feature_select;
	uint16_t queue_select, config_vector;
	uint8_t status, isr, config_generation;
	uint8_t config[VIRTIO_CONFIG_MAX]; /* device-specific configuration, as the driver reads it */
	struct vq_state queue[VIRTIO_QUEUES_MAX];       /* filled in by virtio_sections() */
};
extern const struct state_desc virtio_state_desc;

struct virtio_ops {
	const char *name;               /* "virtio-blk" */
	uint16_t id;                    /* device type, chapter 5 */
	uint32_t class_code;            /* PCI class, subclass, interface */
	const struct state_desc *state; /* device-specific guest-visible state; NULL: none */
	/* There may be chains in queue QUEUE. Loop thread, the device is live. */
	void (*run)(struct virtio_dev *d, unsigned queue);
	/* Around run() when the driver has rung. Loop thread, lock not held. AFTER tells whether all that was taken has been
	 * answered, so that a driver that waits for it rings again soon. Both or none. */
	void (*before)(struct virtio_dev *d);
	bool (*after)(struct virtio_dev *d);
	/* The driver is ready (DRIVER_OK), or a paused or restored device goes on. Loop thread;
	 * every enabled queue is run afterwards. NULL: nothing to do. */
	void (*start)(struct virtio_dev *d);
	/* Device-specific state back to power-on. Any thread: touches nothing but own fields.
	 * NULL: nothing to do. */
	void (*reset)(struct virtio_dev *d);
	/* The machine stands still, and may go on in another process: backends may be told. NULL: nothing to do. */
	void (*paused)(struct virtio_dev *d);
	/* The reset is seen by the loop thread: backends may be told. NULL: nothing to do. */
	void (*stopped)(struct virtio_dev *d);
	/* Check restored device-specific state. NULL: any value is good. */
	int (*restored)(struct virtio_dev *d, struct err *err);
	/* The driver writes SIZE bytes, VALUE, at OFF of the device-specific configuration. NULL: all of it is read-only. */
	void (*config_write)(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t value);
	/* Free everything after virtio_fini(). Lock not held. */
	void (*free)(struct virtio_dev *d);
};

struct virtio_queue {
	struct vq vq;                   /* guarded by the device lock */
	struct virtio_dev *dev;
	struct loop_fd kick;            /* an eventfd: the doorbell */
	_Atomic bool is_kicked;         /* a doorbell is on its way to the loop */
	bool is_resetting;              /* queue_reset waits for chains in flight */
	unsigned budget;                /* chains that may still be taken in this run */
};

struct virtio_dev {
	struct pci_dev pci;             /* guarded by bus_lock */
	struct virtio_env env;
	const struct virtio_ops *ops;
	void *ops_state;                /* the struct that ops->state describes */
	uint64_t features;              /* offered; set before virtio_init() */
	uint64_t features_kept;         /* not offered, but a restored driver that has them keeps them until its reset */
	unsigned n_queues;
	unsigned config_len;
	unsigned pci_window;            /* offset of the configuration window capability */

	pthread_mutex_t lock;           /* guards the rest, and queue[] */
	struct virtio_state s;
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
	bool is_resetting;              /* status reads non-zero until chains in flight have ended */
	bool is_paused;
	bool wants_start, wants_stopped; /* for the loop thread */
	uint64_t pending_vectors;       /* interrupts to send at virtio_unlock() */
	struct loop_fd wake;            /* an eventfd: state has changed, loop thread look */
	struct virtio_stats stats;
};

/* Make D usable: ops, env, n_queues, config_len, features (besides the transport's own) and
 * queue[].vq.size_max have been set, the rest is zero. virtio_fini() undoes it, also half. */
int virtio_init(struct virtio_dev *d, struct err *err);
void virtio_fini(struct virtio_dev *d);

void virtio_lock(struct virtio_dev *d);
void virtio_unlock(struct virtio_dev *d);       /* sends the interrupts collected meanwhile */

/* All below: lock held. */
static inline bool virtio_has(const struct virtio_dev *d, unsigned feature_bit)
{
	return d->s.driver_features & VIRTIO_BIT(feature_bit);
}
/* The driver is ready and nothing stands in the way of taking chains. */
bool virtio_is_live(const struct virtio_dev *d);

/* Take the next chain of queue QUEUE; false when there is none to take now. A broken rule
 * breaks the device. Loop thread. */
bool virtio_pop(struct virtio_dev *d, unsigned queue, struct vq_chain *c);
void virtio_unpop(struct virtio_dev *d, unsigned queue, const struct vq_chain *c);
/* Hand a chain back. In a reset, which may have begun since the chain was taken, it is only
 * forgotten. */
void virtio_put(struct virtio_dev *d, unsigned queue, const struct vq_chain *c, uint32_t len);
/* Show what was put, with an interrupt if the driver wants one. */
void virtio_publish(struct virtio_dev *d, unsigned queue);
/* Run the queue (again) soon, as if the driver had rung. */
void virtio_kick(struct virtio_dev *d, unsigned queue);

static inline void virtio_count(struct virtio_moved *m, uint64_t bytes)
{
	m->n++;
	m->bytes += bytes;
}

/* The driver broke a rule: NEEDS_RESET, config interrupt, nothing is taken any more. G counts. */
void virtio_break(struct virtio_dev *d, struct log_guest *g, uint64_t value);

/* Device-specific configuration changed by the device: bytes, generation and interrupt. */
void virtio_config_set(struct virtio_dev *d, unsigned off, const void *bytes, unsigned len);
/* The interrupt alone, when the driver is there. */
void virtio_config_notify(struct virtio_dev *d);

/* For pci.c. */
void virtio_set_status(struct virtio_dev *d, uint8_t status);
uint8_t virtio_get_status(const struct virtio_dev *d);
void virtio_queue_enable(struct virtio_dev *d, unsigned queue);
void virtio_queue_reset(struct virtio_dev *d, unsigned queue);
/* The doorbell, without the lock: any thread. */
void virtio_ring(struct virtio_dev *d, unsigned queue);

void virtio_pci_init(struct virtio_dev *d);
uint64_t virtio_pci_doorbell(const struct virtio_dev *d, unsigned queue); /* address or UINT64_MAX */

#endif

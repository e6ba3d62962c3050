/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/queue.h - split virtqueues (VIRTIO 1.2, 2.7), with indirect descriptors and event
 * index; the security boundary of every virtio device.
 *
 * The driver owns every byte of the three rings and may change any of them at any time. Each
 * descriptor is copied once and the copy is checked; a walk is bounded by the room the caller
 * gives, a chain by 4 GiB, an address by guest RAM. Nothing is allocated. A broken rule ends
 * in a negative return, upon which the caller stops the device (virtio_break()).
 * Left out on purpose: packed rings; notification data.
 *
 * No locks here: the device core serialises all calls for one queue. */
#ifndef VIRTIO_QUEUE_H
#define VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "mem/gmem.h"
#include "util/fields.h"

enum { VQ_SIZE_MAX = 1024, VQ_NO_VECTOR = 0xffff };

/* What the guest can see and change. */
struct vq_state {
	uint64_t desc, avail, used;     /* guest addresses of the rings */
	uint16_t size;                  /* entries; power of two */
	uint16_t vector;                /* MSI-X vector or VQ_NO_VECTOR */
	uint16_t avail_idx;             /* next entry of the available ring to take */
	uint16_t used_idx;              /* next entry of the used ring to fill */
	uint16_t signalled_idx;         /* used_idx at the last decision about an interrupt */
	uint8_t is_signalled;           /* signalled_idx means something */
	uint8_t is_enabled;
};
extern const struct state_desc vq_state_desc;

struct vq {
	struct vq_state s;
	struct gmem *mem;               /* borrowed */
	uint16_t size_max;              /* what this device offers; 0: no such queue */
	bool has_indirect, has_event_idx; /* negotiated */
	bool always_signals;            /* whatever the driver says: see virtio_env.is_lagging */
	uint16_t n_unpublished;         /* used entries written after used_idx */
	unsigned in_flight;             /* chains popped and not put back yet */
	/* Host addresses of the rings while enabled: RAM neither moves nor goes away. */
	const uint8_t *desc_host, *avail_host;
	uint8_t *used_host;
};

/* One descriptor chain: IOV[0, n_out) is for reading, the N_IN entries after it for writing.
 * Pointers lead straight into guest RAM. */
struct vq_chain {
	uint16_t head;
	unsigned n_out, n_in;
	uint32_t out_len, in_len;       /* bytes */
	unsigned max;                   /* room in IOV, set by the caller */
	struct iovec *iov;              /* the caller's */
};

/* Power-on values. */
void vq_reset(struct vq *q);
/* Check sizes and addresses and go. 0; -EINVAL for a size or an alignment that the rules
 * forbid, -EFAULT for a ring that is not entirely in RAM. */
int vq_enable(struct vq *q);

/* Take the next chain. 1; 0 when there is none (the driver will ring for the next one);
 * -EPROTO, -EFAULT, -ELOOP, -E2BIG when the driver has broken a rule. */
int vq_pop(struct vq *q, struct vq_chain *c) __attribute__((warn_unused_result));
/* Put the chain taken last back on the available side, as if it had not been taken. */
void vq_unpop(struct vq *q, const struct vq_chain *c);
/* A chain is available. False: the driver will ring for the next one. */
bool vq_has_chain(struct vq *q);

/* Hand a chain back: its first LEN writable bytes were written. The driver sees it after
 * vq_publish(). */
void vq_put(struct vq *q, const struct vq_chain *c, uint32_t len);
/* Forget a chain without handing it back (the queue is being reset). All of its writable part
 * may have been written. */
void vq_drop(struct vq *q, const struct vq_chain *c);
/* Show all put chains to the driver. True: it wants an interrupt. */
bool vq_publish(struct vq *q);

/* Copy from the readable or to the writable part, starting OFF bytes into it. Returns the
 * bytes copied: less than LEN where the part ends. */
size_t vq_chain_read(const struct vq_chain *c, size_t off, void *buf, size_t len);
size_t vq_chain_write(const struct vq_chain *c, size_t off, const void *buf, size_t len);
/* Make DATA, with room for N, the N vectors at IOV without the first SKIP bytes, LEN bytes in all. How many it takes. */
int vq_slice(struct iovec *data, const struct iovec *iov, unsigned n, size_t skip, size_t len);

#endif

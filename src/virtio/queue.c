/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/queue.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"

/* 2.7.5, struct virtq_desc */
struct vq_desc {
	le64 addr;
	le32 len;
	le16 flags, next;
};
_Static_assert(sizeof(struct vq_desc) == 16, "2.7.5");

enum { VQ_F_NEXT = 1, VQ_F_WRITE = 2, VQ_F_INDIRECT = 4 };

/* 2.7.6 and 2.7.8: flags, idx, then the entries, then the other side's event index. */
enum {
	AVAIL_FLAGS = 0, AVAIL_IDX = 2, AVAIL_RING = 4, AVAIL_ENTRY = 2,
	USED_FLAGS = 0, USED_IDX = 2, USED_RING = 4, USED_ENTRY = 8,
	AVAIL_F_NO_INTERRUPT = 1,
};

static const struct field vq_fields[] = {
	FIELD(struct vq_state, desc, 1),
	FIELD(struct vq_state, avail, 1),
	FIELD(struct vq_state, used, 1),
	FIELD(struct vq_state, size, 1),
	FIELD(struct vq_state, vector, 1),
	FIELD(struct vq_state, avail_idx, 1),
	FIELD(struct vq_state, used_idx, 1),
	FIELD(struct vq_state, signalled_idx, 1),
	FIELD(struct vq_state, is_signalled, 1),
	FIELD(struct vq_state, is_enabled, 1),
};
const struct state_desc vq_state_desc = {
	.name = "virtqueue", .version = 1, .size = sizeof(struct vq_state),
	.n_fields = ARRAY_LEN(vq_fields), .fields = vq_fields,
};

/* Shared 16-bit ring fields. Rings are 2-byte aligned in host memory too: guest pages are host
 * pages and vq_enable() has checked the guest's alignment. */
static uint16_t vq_load(const uint8_t *p, memory_order order)
{
	return atomic_load_explicit((const _Atomic uint16_t *)(const void *)p, order);
}

static void vq_store(struct vq *q, uint8_t *p, uint16_t v)
{
	atomic_store_explicit((_Atomic uint16_t *)(void *)p, v, memory_order_release);
	gmem_wrote(q->mem, (uint64_t)(p - q->mem->host), sizeof(v));
}

static const uint8_t *vq_used_event(const struct vq *q)
{
	return q->avail_host + AVAIL_RING + AVAIL_ENTRY * q->s.size;
}

static uint8_t *vq_avail_event(const struct vq *q)
{
	return q->used_host + USED_RING + USED_ENTRY * q->s.size;
}

void vq_reset(struct vq *q)
{
	q->s = (struct vq_state){ .size = q->size_max, .vector = VQ_NO_VECTOR };
	q->has_indirect = q->has_event_idx = false;
	q->n_unpublished = 0;
	q->in_flight = 0;
	q->desc_host = q->avail_host = NULL;
	q->used_host = NULL;
}

int vq_enable(struct vq *q)
{
	const struct vq_state *s = &q->s;

	if (!is_pow2(s->size) || s->size > q->size_max)
		return -EINVAL;
	if (s->desc % 16 || s->avail % 2 || s->used % 4)
		return -EINVAL;
	/* The event index at the end of each ring is there whether negotiated or not: simpler,
	 * and no driver lays out its rings without it. */
	q->desc_host = gmem_ptr(q->mem, s->desc, sizeof(struct vq_desc) * (uint64_t)s->size);
	q->avail_host = gmem_ptr(q->mem, s->avail, AVAIL_RING + AVAIL_ENTRY * (uint64_t)s->size + 2);
	q->used_host = gmem_ptr(q->mem, s->used, USED_RING + USED_ENTRY * (uint64_t)s->size + 2);
	if (!q->desc_host || !q->avail_host || !q->used_host)
		return -EFAULT;
	q->s.is_enabled = 1;
	return 0;
}

/* Copy a descriptor once. The barrier pins the copy: the compiler may not go back to the
 * driver's memory for a field that has been checked. */
static void vq_copy_desc(struct vq_desc *out, const uint8_t *p)
{
	memcpy(out, p, sizeof(*out));
	__asm__ volatile("" : "+m"(*out));
}

/* Add one buffer to the chain. */
static int vq_add_buffer(struct vq *q, struct vq_chain *c, const struct vq_desc *d)
{
	uint32_t len = le32_get(d->len);
	bool is_write = le16_get(d->flags) & VQ_F_WRITE;
	void *host = gmem_ptr(q->mem, le64_get(d->addr), len);

	if (!host)
		return -EFAULT;
	if (!is_write && c->n_in)
		return -EPROTO;                         /* 2.7.4.2: readable ones come first */
	if (!len)
		return 0;
	if ((uint64_t)c->out_len + c->in_len + len > UINT32_MAX)
		return -E2BIG;                          /* 2.7.5: at most 2^32 bytes in all */
	if (c->n_out + c->n_in >= c->max)
		return -E2BIG;
	c->iov[c->n_out + c->n_in] = (struct iovec){ .iov_base = host, .iov_len = len };
	if (is_write) {
		c->n_in++;
		c->in_len += len;
	} else {
		c->n_out++;
		c->out_len += len;
	}
	return 0;
}

/* Walk descriptors from FIRST in a table of N entries at TABLE. When one of them leads to an
 * indirect table, it is returned in *INDIRECT, else *INDIRECT is zero. */
static int vq_walk(struct vq *q, struct vq_chain *c, const uint8_t *table, uint32_t n,
		   uint16_t first, bool may_indirect, struct vq_desc *indirect)
{
	uint32_t i = first;

	*indirect = (struct vq_desc){ 0 };
	/* Empty buffers take no room in the chain, so steps are bounded on their own. */
	for (uint32_t steps = 0; steps < n && steps < VQ_SIZE_MAX; steps++) {
		struct vq_desc d;

		if (i >= n)
			return -EPROTO;
		vq_copy_desc(&d, table + sizeof(d) * i);

		uint16_t flags = le16_get(d.flags);

		if (flags & VQ_F_INDIRECT) {
			/* 2.7.5.3.1: no nesting, nothing after it, only when negotiated */
			if (!may_indirect || flags & (VQ_F_NEXT | VQ_F_WRITE))
				return -EPROTO;
			*indirect = d;
			return 0;
		}
		int r = vq_add_buffer(q, c, &d);

		if (r < 0 || !(flags & VQ_F_NEXT))
			return r;
		i = le16_get(d.next);
	}
	return -ELOOP;
}

static int vq_walk_chain(struct vq *q, struct vq_chain *c)
{
	struct vq_desc ind, none;
	int r = vq_walk(q, c, q->desc_host, q->s.size, c->head, q->has_indirect, &ind);

	if (r < 0 || !(le16_get(ind.flags) & VQ_F_INDIRECT))
		return r;

	uint32_t len = le32_get(ind.len);

	if (!len || len % sizeof(struct vq_desc))
		return -EPROTO;

	const uint8_t *table = gmem_ptr(q->mem, le64_get(ind.addr), len);

	if (!table)
		return -EFAULT;
	return vq_walk(q, c, table, len / sizeof(struct vq_desc), 0, false, &none);
}

/* Entries the driver has made available and we have not taken; more than the ring holds when
 * the driver has broken its index. */
static uint16_t vq_n_available(const struct vq *q)
{
	return (uint16_t)(vq_load(q->avail_host + AVAIL_IDX, memory_order_acquire) - q->s.avail_idx);
}

/* The same; when there is nothing, the driver is asked to ring for the next one. Without event
 * index it always rings. */
static uint16_t vq_poll(struct vq *q)
{
	uint16_t n = vq_n_available(q);

	if (n || !q->has_event_idx)
		return n;
	/* Ask, then look again: the driver may have added one before it could see the request
	 * (2.7.10, pairs with the driver's fence). */
	vq_store(q, vq_avail_event(q), q->s.avail_idx);
	atomic_thread_fence(memory_order_seq_cst);
	return vq_n_available(q);
}

bool vq_has_chain(struct vq *q)
{
	return q->s.is_enabled && vq_poll(q) != 0;
}

int vq_pop(struct vq *q, struct vq_chain *c)
{
	if (!q->s.is_enabled)
		return 0;

	uint16_t n = vq_poll(q);

	if (!n)
		return 0;
	/* The driver cannot offer more than the ring holds, less what we have not returned. */
	if (n > q->s.size || q->in_flight >= q->s.size)
		return -EPROTO;
	c->head = vq_load(q->avail_host + AVAIL_RING + AVAIL_ENTRY * (q->s.avail_idx & (q->s.size - 1)),
			  memory_order_relaxed);
	c->n_out = c->n_in = 0;
	c->out_len = c->in_len = 0;

	int r = vq_walk_chain(q, c);

	if (r < 0)
		return r;
	q->s.avail_idx++;
	q->in_flight++;
	return 1;
}

void vq_unpop(struct vq *q, const struct vq_chain *c)
{
	(void)c;
	q->s.avail_idx--;
	q->in_flight--;
}

/* The device has stored to the first LEN writable bytes. */
static void vq_note_written(struct vq *q, const struct vq_chain *c, uint32_t len)
{
	for (unsigned i = c->n_out; len && i < c->n_out + c->n_in; i++) {
		uint64_t off = (uint64_t)((uint8_t *)c->iov[i].iov_base - q->mem->host);
		uint32_t n = c->iov[i].iov_len < len ? (uint32_t)c->iov[i].iov_len : len;

		gmem_wrote(q->mem, off, n);
		len -= n;
	}
}

void vq_put(struct vq *q, const struct vq_chain *c, uint32_t len)
{
	uint16_t slot = (uint16_t)(q->s.used_idx + q->n_unpublished) & (q->s.size - 1);
	uint8_t *p = q->used_host + USED_RING + USED_ENTRY * slot;

	if (len > c->in_len)
		len = c->in_len;
	vq_note_written(q, c, len);
	put_le32(p, c->head);
	put_le32(p + 4, len);
	gmem_wrote(q->mem, (uint64_t)(p - q->mem->host), USED_ENTRY);
	q->n_unpublished++;
	q->in_flight--;
}

void vq_drop(struct vq *q, const struct vq_chain *c)
{
	vq_note_written(q, c, c->in_len);       /* by how much, nobody says */
	q->in_flight--;
}

bool vq_publish(struct vq *q)
{
	if (!q->n_unpublished)
		return false;
	q->s.used_idx += q->n_unpublished;
	q->n_unpublished = 0;
	vq_store(q, q->used_host + USED_IDX, q->s.used_idx);
	/* Entries and index before we look whether the driver sleeps; pairs with its fence. */
	atomic_thread_fence(memory_order_seq_cst);
	if (q->always_signals)
		return true;
	if (!q->has_event_idx)
		return !(vq_load(q->avail_host + AVAIL_FLAGS, memory_order_relaxed) & AVAIL_F_NO_INTERRUPT);

	uint16_t old = q->s.signalled_idx, now = q->s.used_idx;
	bool was_signalled = q->s.is_signalled;
	uint16_t event = vq_load(vq_used_event(q), memory_order_relaxed);

	q->s.signalled_idx = now;
	q->s.is_signalled = 1;
	/* 2.7.7.2: an interrupt when the index has passed what the driver waits for */
	return !was_signalled || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

size_t vq_chain_read(const struct vq_chain *c, size_t off, void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->n_out && done < len; i++) {
		const struct iovec *v = &c->iov[i];

		if (off >= v->iov_len) {
			off -= v->iov_len;
			continue;
		}
		size_t n = v->iov_len - off < len - done ? v->iov_len - off : len - done;

		memcpy((uint8_t *)buf + done, (const uint8_t *)v->iov_base + off, n);
		done += n;
		off = 0;
	}
	return done;
}

size_t vq_chain_write(const struct vq_chain *c, size_t off, const void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = c->n_out; i < c->n_out + c->n_in && done < len; i++) {
		const struct iovec *v = &c->iov[i];

		if (off >= v->iov_len) {
			off -= v->iov_len;
			continue;
		}
		size_t n = v->iov_len - off < len - done ? v->iov_len - off : len - done;

		memcpy((uint8_t *)v->iov_base + off, (const uint8_t *)buf + done, n);
		done += n;
		off = 0;
	}
	return done;
}

int vq_slice(struct iovec *data, const struct iovec *iov, unsigned n, size_t skip, size_t len)
{
	int used = 0;

	for (unsigned i = 0; i < n && len; i++) {
		size_t have = iov[i].iov_len;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		have -= skip;
		if (have > len)
			have = len;
		data[used++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, have };
		len -= have;
		skip = 0;
	}
	return used;
}

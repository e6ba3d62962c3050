/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include "test.h"
#include "util/endian.h"

unsigned fake_interrupts[PCI_MSIX_MAX];
const struct state_desc pci_state_desc = { .name = "pci", .version = 1, .size = sizeof(struct pci_state) };

/* ---- the fake bus ---- */

void pci_dev_init(struct pci_dev *d)
{
	d->cap_next = 0x40;
}

unsigned pci_cap_add(struct pci_dev *d, uint8_t id, const void *body, unsigned body_len)
{
	unsigned at = d->cap_next;

	d->s.cfg[at] = id;
	memcpy(d->s.cfg + at + 2, body, body_len);
	d->cap_next = (uint8_t)((at + 2 + body_len + 3) & ~3u);
	return at;
}

void pci_msix_raise(struct pci_dev *d, unsigned n)
{
	CHECK(n < d->n_msix);
	fake_interrupts[n]++;
}

uint64_t pci_msix_read(struct pci_dev *d, uint64_t off, unsigned size)
{
	return 0;
}

void pci_msix_write(struct pci_dev *d, uint64_t off, unsigned size, uint64_t val)
{
}

/* ---- the rig ---- */

static void counting_random(struct source *s, void *buf, size_t len)
{
	memset(buf, 0xa5, len);
}

void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	CHECK_EQ(gmem_new(&r->mem, 16 << 20, NULL), 0);
	CHECK_EQ(loop_new(&r->loop, NULL), 0);
	r->source.random = counting_random;
	r->env = (struct virtio_env){ .mem = r->mem, .loop = r->loop, .source = &r->source };
	r->next = 0x10000;
}

gpa_t rig_alloc(struct rig *r, uint64_t len)
{
	gpa_t at = r->next;

	r->next += (len + 4095) & ~4095ull;
	CHECK(r->next <= r->mem->size);
	return at;
}

void *rig_ptr(struct rig *r, gpa_t gpa)
{
	void *p = gmem_ptr(r->mem, gpa, 1);

	CHECK(p != NULL);
	return p;
}

uint64_t rig_read(struct rig *r, unsigned off, unsigned size)
{
	struct bus_region *b = &virtio_pci_dev(r->d)->bar[0].region;

	return b->read(b->dev, 0, off, size);
}

void rig_write(struct rig *r, unsigned off, unsigned size, uint64_t v)
{
	struct bus_region *b = &virtio_pci_dev(r->d)->bar[0].region;

	b->write(b->dev, 0, off, size, v);
}

void rig_spin(struct rig *r)
{
	for (int i = 0; i < 20; i++)
		loop_run_once(r->loop, 0);
}

uint64_t rig_features(struct rig *r)
{
	rig_write(r, R_DFSEL, 4, 0);
	uint64_t f = (uint32_t)rig_read(r, R_DF, 4);

	rig_write(r, R_DFSEL, 4, 1);
	return f | rig_read(r, R_DF, 4) << 32;
}

void rig_up_queue(struct rig *r, unsigned q, unsigned size)
{
	struct ring *g = &r->ring[q];

	rig_write(r, R_QSEL, 2, q);
	if (size)
		rig_write(r, R_QSIZE, 2, size);
	*g = (struct ring){ .size = (uint16_t)rig_read(r, R_QSIZE, 2) };
	g->desc = rig_alloc(r, 16u * g->size);
	g->avail = rig_alloc(r, 6u + 2 * g->size);
	g->used = rig_alloc(r, 6u + 8 * g->size);
	memset(rig_ptr(r, g->avail), 0, 6u + 2 * g->size);
	memset(rig_ptr(r, g->used), 0, 6u + 8 * g->size);
	rig_write(r, R_QDESC, 4, (uint32_t)g->desc);
	rig_write(r, R_QDESC + 4, 4, g->desc >> 32);
	rig_write(r, R_QAVAIL, 8, g->avail);
	rig_write(r, R_QUSED, 4, (uint32_t)g->used);
	rig_write(r, R_QUSED + 4, 4, g->used >> 32);
	rig_write(r, R_QVEC, 2, q + 1);
	rig_write(r, R_QEN, 2, 1);
	CHECK_EQ(rig_read(r, R_QEN, 2), 1);
}

void rig_up(struct rig *r, uint64_t features, unsigned size)
{
	features |= VIRTIO_BIT(VIRTIO_F_VERSION_1);
	rig_write(r, R_STATUS, 1, 0);
	rig_spin(r);
	CHECK_EQ(rig_read(r, R_STATUS, 1), 0);
	rig_write(r, R_STATUS, 1, 1);
	rig_write(r, R_STATUS, 1, 3);
	rig_write(r, R_GFSEL, 4, 0);
	rig_write(r, R_GF, 4, (uint32_t)features);
	rig_write(r, R_GFSEL, 4, 1);
	rig_write(r, R_GF, 4, features >> 32);
	rig_write(r, R_STATUS, 1, 11);
	CHECK_EQ(rig_read(r, R_STATUS, 1), 11);
	rig_write(r, R_CVEC, 2, 0);
	for (unsigned q = 0; q < rig_read(r, R_NQ, 2); q++)
		rig_up_queue(r, q, size);
	rig_write(r, R_STATUS, 1, 15);
	CHECK_EQ(rig_read(r, R_STATUS, 1), 15);
	rig_spin(r);
}

void rig_down(struct rig *r)
{
	virtio_free(r->d);
	rig_spin(r);
	loop_free(r->loop);
	gmem_free(r->mem);
}

void ring_desc(struct rig *r, unsigned q, unsigned i, gpa_t gpa, uint32_t len, uint16_t flags, uint16_t next)
{
	uint8_t *p = (uint8_t *)rig_ptr(r, r->ring[q].desc) + 16 * i;

	put_le64(p, gpa);
	put_le32(p + 8, len);
	put_le16(p + 12, flags);
	put_le16(p + 14, next);
}

void ring_set_idx(struct rig *r, unsigned q, uint16_t idx)
{
	r->ring[q].avail_idx = idx;
	put_le16((uint8_t *)rig_ptr(r, r->ring[q].avail) + 2, idx);
}

void ring_offer(struct rig *r, unsigned q, uint16_t head)
{
	struct ring *g = &r->ring[q];

	put_le16((uint8_t *)rig_ptr(r, g->avail) + 4 + 2 * (g->avail_idx % g->size), head);
	ring_set_idx(r, q, (uint16_t)(g->avail_idx + 1));
}

uint16_t ring_add(struct rig *r, unsigned q, const struct buf *b, unsigned n)
{
	struct ring *g = &r->ring[q];
	uint16_t head = (uint16_t)(g->next_desc % g->size);

	for (unsigned i = 0; i < n; i++) {
		unsigned at = g->next_desc++ % g->size;
		uint16_t flags = (uint16_t)((b[i].is_write ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0));

		ring_desc(r, q, at, b[i].gpa, b[i].len, flags, (uint16_t)((at + 1) % g->size));
	}
	ring_offer(r, q, head);
	return head;
}

uint16_t ring_add_indirect(struct rig *r, unsigned q, const struct buf *b, unsigned n)
{
	struct ring *g = &r->ring[q];
	uint16_t head = (uint16_t)(g->next_desc++ % g->size);
	gpa_t table = rig_alloc(r, 16u * n);
	uint8_t *p = rig_ptr(r, table);

	for (unsigned i = 0; i < n; i++, p += 16) {
		put_le64(p, b[i].gpa);
		put_le32(p + 8, b[i].len);
		put_le16(p + 12, (uint16_t)((b[i].is_write ? DESC_WRITE : 0) | (i + 1 < n ? DESC_NEXT : 0)));
		put_le16(p + 14, (uint16_t)(i + 1));
	}
	ring_desc(r, q, head, table, 16 * n, DESC_INDIRECT, 0);
	ring_offer(r, q, head);
	return head;
}

void ring_kick(struct rig *r, unsigned q)
{
	struct bus_region *b = &virtio_pci_dev(r->d)->bar[2].region;

	b->write(b->dev, 0, q * 4, 2, q);
	rig_spin(r);
}

bool ring_used(struct rig *r, unsigned q, uint32_t *id, uint32_t *len)
{
	struct ring *g = &r->ring[q];
	const uint8_t *p = rig_ptr(r, g->used);

	if (get_le16(p + 2) == g->used_seen)
		return false;
	p += 4 + 8 * (g->used_seen++ % g->size);
	*id = get_le32(p);
	*len = get_le32(p + 4);
	return true;
}

bool rig_is_broken(struct rig *r)
{
	return rig_read(r, R_STATUS, 1) & VIRTIO_NEEDS_RESET;
}

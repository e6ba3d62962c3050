/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio_rig.h"

#include "bus/bus.h"
#include "util/checked.h"
#include "util/endian.h"

#define ECAM_BASE 0xe0000000u
#define BAR32_BASE 0xc0000000u
#define BAR64_BASE 0x100000000u
enum { BAR_CONFIG = 0, BAR_NOTIFY = 2 };

/* Offsets in BAR 0 (VIRTIO 1.2, 4.1.4.3). */
enum {
	R_GFSEL = 8, R_GF = 12, R_CVEC = 16, R_STATUS = 20, R_QSEL = 22, R_QSIZE = 24, R_QVEC = 26, R_QEN = 28,
	R_QDESC = 32, R_QAVAIL = 40, R_QUSED = 48,
};

static struct gmem *rig_mem;    /* kept between inputs, wiped for each */

static void rig_msi(void *arg, uint64_t addr, uint32_t data)
{
	((struct rig *)arg)->n_msi++;
}

static uint64_t rig_bar(const struct rig *r, unsigned bar)
{
	return virtio_pci_dev(r->d)->bar[bar].region.base;
}

static void rig_write(struct rig *r, unsigned bar, unsigned off, unsigned size, uint64_t v)
{
	bus_write(r->bus, BUS_MMIO, 0, rig_bar(r, bar) + off, size, v);
}

static void rig_spin(struct rig *r, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
		loop_run_once(r->loop, 0);
}

/* ---- what a sane driver does, so that inputs get deep quickly ---- */

static gpa_t rig_ring(unsigned q)
{
	return RIG_RINGS + (gpa_t)q * RIG_RING_STRIDE;
}

static void rig_up(struct rig *r, uint64_t features, unsigned size)
{
	static const uint8_t before[] = { 0, 1, 3 };

	for (unsigned i = 0; i < ARRAY_LEN(before); i++)
		rig_write(r, BAR_CONFIG, R_STATUS, 1, before[i]);
	features = (features & r->d->features) | VIRTIO_BIT(VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < 2; i++) {
		rig_write(r, BAR_CONFIG, R_GFSEL, 4, i);
		rig_write(r, BAR_CONFIG, R_GF, 4, features >> (32 * i));
	}
	rig_write(r, BAR_CONFIG, R_STATUS, 1, 11);
	rig_write(r, BAR_CONFIG, R_CVEC, 2, 0);
	for (unsigned q = 0; q < r->d->n_queues; q++) {
		rig_write(r, BAR_CONFIG, R_QSEL, 2, q);
		rig_write(r, BAR_CONFIG, R_QSIZE, 2, size);
		rig_write(r, BAR_CONFIG, R_QDESC, 8, rig_ring(q));
		rig_write(r, BAR_CONFIG, R_QAVAIL, 8, rig_ring(q) + 0x1000);
		rig_write(r, BAR_CONFIG, R_QUSED, 8, rig_ring(q) + 0x2000);
		rig_write(r, BAR_CONFIG, R_QVEC, 2, q % 4 + 1);
		rig_write(r, BAR_CONFIG, R_QEN, 2, 1);
	}
	rig_write(r, BAR_CONFIG, R_STATUS, 1, 15);
}

/* Make the entry after the last of queue Q's available ring HEAD and show it. */
static void rig_offer(struct rig *r, unsigned q, uint16_t head)
{
	const struct vq_state *s = &r->d->queue[q].vq.s;
	uint8_t *avail = gmem_ptr(r->mem, s->avail, 4 + 2 * (uint64_t)s->size);

	if (!avail || !s->size)
		return;
	uint16_t idx = get_le16(avail + 2);

	put_le16(avail + 4 + 2 * (idx % s->size), head);
	put_le16(avail + 2, (uint16_t)(idx + 1));
}

/* A chain of up to 7 buffers: lengths, directions and the first bytes come from the input. */
static void rig_chain(struct rig *r, unsigned q)
{
	const struct vq_state *s = &r->d->queue[q].vq.s;
	unsigned n = fuzz_u8(&r->f) % 7 + 1, first = fuzz_u8(&r->f), at = first;
	uint8_t *desc = gmem_ptr(r->mem, s->desc, 16 * (uint64_t)s->size);

	if (!desc || !s->size)
		return;
	for (unsigned i = 0; i < n; i++) {
		uint8_t what = fuzz_u8(&r->f), bytes[64];
		gpa_t gpa = RIG_DATA + (gpa_t)(what & 0x3f) * 0x1000;
		uint32_t len = fuzz_u8(&r->f);
		uint8_t *p = desc + 16 * (at % s->size);
		size_t got;
		const uint8_t *from = fuzz_take(&r->f, what & 0x80 ? 0 : 17, &got);

		memcpy(bytes, from, got);
		if (gmem_write(r->mem, gpa, bytes, got) < 0)
			gpa = UINT64_MAX - gpa;         /* some point outside of RAM */
		put_le64(p, gpa);
		put_le32(p + 8, what & 0x40 ? len * 0x200 : len);
		put_le16(p + 12, (uint16_t)((what & 0x80 ? 2 : 0) | (i + 1 < n)));
		put_le16(p + 14, (uint16_t)(++at % s->size));
	}
	rig_offer(r, q, (uint16_t)(first % s->size));
}

/* ---- saved state ---- */

static void rig_save_restore(struct rig *r, bool scribble)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];

	virtio_pause(r->d);
	if (!virtio_in_flight(r->d)) {
		unsigned n = virtio_sections(r->d, sec);
		bool good = true;

		FUZZ_CHECK(n <= VIRTIO_SECTIONS_MAX);
		for (unsigned i = 0; i < n && good; i++) {
			size_t cap = fields_saved_size(sec[i].desc);
			uint8_t *buf = malloc(cap);

			FUZZ_CHECK(buf && fields_save(sec[i].desc, sec[i].state, buf, cap) == (long)cap);
			for (unsigned k = 0; scribble && k < 4; k++)
				buf[(size_t)(fuzz_u32(&r->f) % cap)] = fuzz_u8(&r->f);
			long got = fields_load(sec[i].desc, sec[i].state, buf, cap, NULL);

			FUZZ_CHECK(scribble || got == (long)cap);
			free(buf);
		}
		if (virtio_restored(r->d, NULL) < 0)    /* refused: the machine would give up; start anew */
			virtio_reset(r->d);
	}
	virtio_resume(r->d);
}

/* ---- steps ---- */

static void rig_register(struct rig *r, uint8_t op)
{
	unsigned bar = op & 0x40 ? BAR_NOTIFY : BAR_CONFIG, size = fuzz_size(&r->f);
	unsigned off = fuzz_u16(&r->f) & 0x3fff;

	if (op & 0x80)
		off &= 0x3f;    /* the common configuration */
	if (op & 0x20)
		bus_read(r->bus, BUS_MMIO, 0, rig_bar(r, bar) + off, size);
	else
		rig_write(r, bar, off, size, fuzz_num(&r->f, size));
}

static void rig_config_space(struct rig *r, uint8_t op)
{
	unsigned slot = virtio_pci_dev(r->d)->slot, size = fuzz_size(&r->f);
	uint64_t addr = ECAM_BASE + (slot << 15) + (fuzz_u16(&r->f) & (op & 0x80 ? 0xff : 0xfff));

	if (op & 0x20)
		bus_read(r->bus, BUS_MMIO, 0, addr, size);
	else
		bus_write(r->bus, BUS_MMIO, 0, addr, size, fuzz_num(&r->f, size));
}

static void rig_step(struct rig *r, const struct rig_target *t)
{
	uint8_t op = fuzz_u8(&r->f), bytes[64];
	unsigned q = (op >> 4) % r->d->n_queues;
	gpa_t gpa;

	switch (op & 15) {
	case 0: case 1:
		rig_register(r, op);
		break;
	case 2:
		rig_config_space(r, op);
		break;
	case 3:         /* guest memory: a few bytes */
		gpa = fuzz_u32(&r->f) % RIG_RAM;
		fuzz_fill(&r->f, bytes, op >> 4);
		if (gmem_write(r->mem, gpa, bytes, op >> 4) < 0)
			return;
		break;
	case 4:         /* a raw descriptor and its head */
		gpa = r->d->queue[q].vq.s.desc + 16 * (fuzz_u8(&r->f) & 15);
		fuzz_fill(&r->f, bytes, 16);
		if (gmem_write(r->mem, gpa, bytes, 16) < 0)
			return;
		rig_offer(r, q, fuzz_u8(&r->f));
		break;
	case 5: case 6: case 7:
		rig_chain(r, q);
		virtio_kick(r->d, q);
		break;
	case 8:
		rig_write(r, BAR_NOTIFY, 4 * q, 2, q);
		break;
	case 9: case 10:
		rig_spin(r, op >> 4);
		break;
	case 11: case 12:
		t->outside(r);
		break;
	case 13:
		rig_save_restore(r, op & 0x10);
		break;
	case 14:
		virtio_reset(r->d);
		break;
	case 15:
		rig_up(r, fuzz_u64(&r->f), 1u << (op >> 4));
		break;
	}
}

static void rig_check(struct rig *r, const struct rig_target *t)
{
	unsigned sum = 0;

	virtio_lock(r->d);
	for (unsigned q = 0; q < r->d->n_queues; q++) {
		const struct vq *v = &r->d->queue[q].vq;

		FUZZ_CHECK(v->in_flight <= v->size_max);
		FUZZ_CHECK(!v->s.is_enabled || (v->s.size && v->s.size <= v->size_max));
		FUZZ_CHECK(!v->s.is_enabled || (v->desc_host && v->avail_host && v->used_host));
		sum += v->in_flight;
	}
	virtio_unlock(r->d);
	FUZZ_CHECK(virtio_in_flight(r->d) >= sum);
	if (t->check)
		t->check(r);
}

int rig_run(const struct rig_target *t, const uint8_t *data, size_t len)
{
	static const struct pci_layout layout = {
		.ecam_base = ECAM_BASE, .mmio32_base = BAR32_BASE, .mmio32_size = 1 << 20,
		.mmio64_base = BAR64_BASE, .mmio64_size = 1 << 20,
	};
	struct rig r = { .f = { data, len } };
	uint8_t options = fuzz_u8(&r.f);
	uint64_t features = fuzz_u64(&r.f);

	if (!rig_mem)
		FUZZ_CHECK(gmem_new(&rig_mem, RIG_RAM, NULL) == 0);
	r.mem = rig_mem;
	FUZZ_CHECK(gmem_fill(r.mem, 0, 0, RIG_RAM) == 0);
	FUZZ_CHECK(loop_new(&r.loop, NULL) == 0 && bus_new(&r.bus, NULL) == 0);
	bus_lock(r.bus);
	FUZZ_CHECK(pci_root_new(&r.pci, r.bus, &layout, (struct msi_sink){ rig_msi, &r }, NULL) == 0);
	bus_unlock(r.bus);
	fuzz_source_init(&r.source);
	r.env = (struct virtio_env){ .mem = r.mem, .loop = r.loop, .bus = r.bus, .source = &r.source.s };
	r.d = t->make(&r, options);
	bus_lock(r.bus);
	FUZZ_CHECK(pci_add(r.pci, virtio_pci_dev(r.d), -1, NULL) == 0);
	bus_unlock(r.bus);
	if (options & 1)
		rig_up(&r, features, 16);

	for (unsigned i = 0; i < RIG_STEPS && r.f.left; i++) {
		rig_step(&r, t);
		rig_check(&r, t);
	}
	rig_spin(&r, 8);
	rig_check(&r, t);
	/* The end of a machine: nothing new is taken, what is in flight ends, all goes. */
	virtio_pause(r.d);
	if (t->settle)
		t->settle(&r);
	FUZZ_CHECK(!virtio_in_flight(r.d));
	bus_lock(r.bus);
	pci_remove(virtio_pci_dev(r.d));
	bus_unlock(r.bus);
	virtio_free(r.d);
	if (t->drop)
		t->drop(&r);
	bus_lock(r.bus);
	pci_root_free(r.pci);
	bus_unlock(r.bus);
	bus_free(r.bus);
	loop_free(r.loop);
	return 0;
}

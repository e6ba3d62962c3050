/* SPDX-License-Identifier: Apache-2.0 */
/* The device core, the transport and the rings, with the simplest device (entropy). */
#include <errno.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/rng.h"

#define INDIRECT VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC)
#define EVENT_IDX VIRTIO_BIT(VIRTIO_F_EVENT_IDX)
#define RING_RESET VIRTIO_BIT(VIRTIO_F_RING_RESET)

static void rng_up(struct rig *r, uint64_t features)
{
	struct err err = ERR_INIT;

	rig_init(r);
	CHECK_EQ(virtio_rng_new(&r->d, &r->env, &err), 0);
	rig_up(r, features, 8);
}

/* The device is broken, has said so, and a reset mends it. */
static void check_broken_and_mend(struct rig *r)
{
	struct virtio_stats st;

	CHECK(rig_is_broken(r));
	CHECK_EQ(fake_interrupts[0], 1);
	CHECK_EQ(rig_read(r, R_ISR, 1) & VIRTIO_ISR_CONFIG, VIRTIO_ISR_CONFIG);
	CHECK_EQ(rig_read(r, R_ISR, 1), 0);
	virtio_get_stats(r->d, &st);
	CHECK_EQ(st.misuse, 1);
	rig_up(r, INDIRECT, 8);

	struct buf b = { rig_alloc(r, 64), 64, true };
	uint32_t id, len;

	ring_add(r, 0, &b, 1);
	ring_kick(r, 0);
	CHECK(ring_used(r, 0, &id, &len));
	CHECK_EQ(len, 64);
	rig_down(r);
}

TEST(random_bytes_reach_the_guest_with_an_interrupt)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, 0);
	struct buf b[2] = { { rig_alloc(&r, 64), 64, true }, { rig_alloc(&r, 64), 10, true } };
	uint16_t head = ring_add(&r, 0, b, 2);

	CHECK(!ring_used(&r, 0, &id, &len));
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(id, head);
	CHECK_EQ(len, 74);
	CHECK_EQ(fake_interrupts[1], 1);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, b[0].gpa))[63], 0xa5);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, b[1].gpa))[9], 0xa5);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, b[1].gpa))[10], 0);
	CHECK_EQ(rig_read(&r, R_ISR, 1), VIRTIO_ISR_QUEUE);
	rig_down(&r);
}

TEST(a_huge_request_gets_one_chunk)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, 0);
	struct buf b = { rig_alloc(&r, 1 << 20), 1 << 20, true };

	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(len, 1024);
	rig_down(&r);
}

TEST(indices_wrap_around_many_times)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, EVENT_IDX);
	struct buf b = { rig_alloc(&r, 64), 64, true };

	for (unsigned i = 0; i < 70000; i++) {
		ring_add(&r, 0, &b, 1);
		virtio_ring(r.d, 0);
		loop_run_once(r.loop, 0);
		CHECK(ring_used(&r, 0, &id, &len));
		CHECK_EQ(id, i % 8);
	}
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(event_index_holds_interrupts_back_until_the_driver_waits)
{
	struct rig r;

	rng_up(&r, EVENT_IDX);
	struct buf b = { rig_alloc(&r, 64), 16, true };
	uint8_t *used_event = (uint8_t *)rig_ptr(&r, r.ring[0].avail) + 4 + 2 * 8;
	uint8_t *avail_event = (uint8_t *)rig_ptr(&r, r.ring[0].used) + 4 + 8 * 8;

	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK_EQ(fake_interrupts[1], 1);        /* used_event 0: the first one is waited for */
	CHECK_EQ(get_le16(avail_event), 1);     /* and the device waits for the second chain */
	put_le16(used_event, 3);
	for (int i = 0; i < 2; i++) {
		ring_add(&r, 0, &b, 1);
		ring_kick(&r, 0);
	}
	CHECK_EQ(fake_interrupts[1], 1);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK_EQ(fake_interrupts[1], 2);
	rig_down(&r);
}

TEST(the_no_interrupt_flag_is_obeyed)
{
	struct rig r;

	rng_up(&r, 0);
	struct buf b = { rig_alloc(&r, 64), 16, true };

	put_le16(rig_ptr(&r, r.ring[0].avail), 1);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK_EQ(fake_interrupts[1], 0);
	rig_down(&r);
}

/* Where processors see each other's stores late, a driver that goes to sleep and a device that looks whether it does could miss each other,
 * and a request would wait for ever: neither flag nor index counts. */
TEST(over_copies_of_memory_both_sides_always_tell_the_other)
{
	struct err err = ERR_INIT;
	struct rig r;

	rig_init(&r);
	r.env.is_lagging = true;
	CHECK_EQ(virtio_rng_new(&r.d, &r.env, &err), 0);
	CHECK_EQ(rig_features(&r) & EVENT_IDX, 0);
	rig_up(&r, 0, 8);
	struct buf b = { rig_alloc(&r, 64), 64, true };
	uint8_t *used_flags = rig_ptr(&r, r.ring[0].used);

	for (unsigned n = 1; n <= 20; n++) {
		put_le16(rig_ptr(&r, r.ring[0].avail), 1);      /* VIRTQ_AVAIL_F_NO_INTERRUPT */
		ring_add(&r, 0, &b, 1);
		ring_kick(&r, 0);
		CHECK_EQ(fake_interrupts[1], n);
		CHECK_EQ(get_le16(used_flags), 0);              /* and it wants to be kicked */
	}
	rig_down(&r);
}

TEST(indirect_tables_work_and_only_when_negotiated)
{
	struct rig r;
	uint32_t id, len;
	struct buf b[3];

	rng_up(&r, INDIRECT);
	for (int i = 0; i < 3; i++)
		b[i] = (struct buf){ rig_alloc(&r, 64), 20, true };
	ring_add_indirect(&r, 0, b, 3);
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(len, 60);
	rig_up(&r, 0, 8);
	ring_add_indirect(&r, 0, b, 3);
	ring_kick(&r, 0);
	check_broken_and_mend(&r);
}

/* ---- hostile rings: one descriptor 0 as given, then the device must be broken ---- */

struct evil {
	const char *what;
	gpa_t gpa;
	uint32_t len;
	uint16_t flags, next;
};

TEST(evil_descriptors_break_the_device_and_nothing_else)
{
	static const struct evil evils[] = {
		{ "loop onto itself", 0x8000, 16, DESC_WRITE | DESC_NEXT, 0 },
		{ "next beyond the table", 0x8000, 16, DESC_WRITE | DESC_NEXT, 8 },
		{ "next far beyond the table", 0x8000, 16, DESC_WRITE | DESC_NEXT, 0xffff },
		{ "address beyond RAM", 64 << 20, 16, DESC_WRITE, 0 },
		{ "end beyond RAM", (16 << 20) - 8, 16, DESC_WRITE, 0 },
		{ "address in the PCI hole", 0xe0000000, 16, DESC_WRITE, 0 },
		{ "length that wraps", 0x8000, 0xffffffff, DESC_WRITE, 0 },
		{ "address that wraps", 0xfffffffffffffff0, 32, DESC_WRITE, 0 },
		{ "no writable byte", 0x8000, 16, 0, 0 },
		{ "empty buffer", 0x8000, 0, DESC_WRITE, 0 },
		{ "empty buffers in a ring", 0x8000, 0, DESC_WRITE | DESC_NEXT, 0 },
		{ "indirect table of odd length", 0x8000, 24, DESC_INDIRECT, 0 },
		{ "indirect table of no length", 0x8000, 0, DESC_INDIRECT, 0 },
		{ "indirect table outside RAM", 0xe0000000, 32, DESC_INDIRECT, 0 },
		{ "huge indirect table", 0x8000, 0xfffffff0, DESC_INDIRECT, 0 },
		{ "indirect and next", 0x8000, 16, DESC_INDIRECT | DESC_NEXT, 0 },
		{ "indirect and write", 0x8000, 16, DESC_INDIRECT | DESC_WRITE, 0 },
	};

	for (unsigned i = 0; i < sizeof(evils) / sizeof(evils[0]); i++) {
		struct rig r;

		memset(fake_interrupts, 0, sizeof(fake_interrupts));
		rng_up(&r, INDIRECT);
		memset(rig_ptr(&r, 0x8000), 0, 4096);
		ring_desc(&r, 0, 0, evils[i].gpa, evils[i].len, evils[i].flags, evils[i].next);
		ring_offer(&r, 0, 0);
		ring_kick(&r, 0);
		if (!rig_is_broken(&r))
			FAIL("not broken by: %s", evils[i].what);
		check_broken_and_mend(&r);
	}
}

TEST(an_indirect_table_that_points_to_another_or_loops_breaks_the_device)
{
	for (int loops = 0; loops < 2; loops++) {
		struct rig r;

		memset(fake_interrupts, 0, sizeof(fake_interrupts));
		rng_up(&r, INDIRECT);
		uint8_t *t = rig_ptr(&r, 0x8000);

		memset(t, 0, 4096);
		put_le64(t, 0x9000);
		put_le32(t + 8, 16);
		put_le16(t + 12, loops ? DESC_WRITE | DESC_NEXT : DESC_INDIRECT);
		put_le16(t + 14, 0);
		ring_desc(&r, 0, 0, 0x8000, 4096, DESC_INDIRECT, 0);
		ring_offer(&r, 0, 0);
		ring_kick(&r, 0);
		check_broken_and_mend(&r);
	}
}

TEST(readable_after_writable_breaks_the_device)
{
	struct rig r;

	rng_up(&r, 0);
	struct buf b[2] = { { 0x8000, 16, true }, { 0x8000, 16, false } };

	ring_add(&r, 0, b, 2);
	ring_kick(&r, 0);
	check_broken_and_mend(&r);
}

TEST(a_head_beyond_the_table_breaks_the_device)
{
	struct rig r;

	rng_up(&r, 0);
	ring_offer(&r, 0, 8);
	ring_kick(&r, 0);
	check_broken_and_mend(&r);
}

TEST(an_available_index_that_jumps_breaks_the_device)
{
	struct rig r;

	rng_up(&r, 0);
	ring_set_idx(&r, 0, 9);
	ring_kick(&r, 0);
	check_broken_and_mend(&r);
}

TEST(a_broken_device_takes_nothing_more)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, 0);
	ring_set_idx(&r, 0, 1000);
	ring_kick(&r, 0);
	CHECK(rig_is_broken(&r));
	struct buf b = { 0x8000, 16, true };

	ring_set_idx(&r, 0, 0);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(!ring_used(&r, 0, &id, &len));
	rig_down(&r);
}

/* ---- registers ---- */

TEST(rings_outside_ram_or_unaligned_cannot_be_enabled)
{
	static const struct { unsigned reg; uint64_t gpa; } bad[] = {
		{ R_QDESC, 0x8008 }, { R_QAVAIL, 0x8001 }, { R_QUSED, 0x8002 },
		{ R_QDESC, 0xe0000000 }, { R_QAVAIL, (16 << 20) - 4 }, { R_QUSED, 0xfffffffffffffffc },
	};

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct rig r;

		rig_init(&r);
		CHECK_EQ(virtio_rng_new(&r.d, &r.env, NULL), 0);
		rig_write(&r, R_QDESC, 8, 0x8000);
		rig_write(&r, R_QAVAIL, 8, 0x8000);
		rig_write(&r, R_QUSED, 8, 0x8000);
		rig_write(&r, bad[i].reg, 8, bad[i].gpa);
		rig_write(&r, R_QEN, 2, 1);
		CHECK_EQ(rig_read(&r, R_QEN, 2), 0);
		CHECK(rig_is_broken(&r));
		rig_down(&r);
	}
}

TEST(a_device_broken_before_driver_ok_says_so_after_it)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(virtio_rng_new(&r.d, &r.env, NULL), 0);
	rig_write(&r, R_STATUS, 1, 3);
	rig_write(&r, R_GFSEL, 4, 1);
	rig_write(&r, R_GF, 4, 1);
	rig_write(&r, R_STATUS, 1, 11);
	rig_write(&r, R_CVEC, 2, 0);
	rig_write(&r, R_QDESC, 8, 0xe0000000);
	rig_write(&r, R_QEN, 2, 1);
	CHECK(rig_is_broken(&r));
	CHECK_EQ(fake_interrupts[0], 0);
	rig_write(&r, R_STATUS, 1, 15);
	CHECK_EQ(fake_interrupts[0], 1);
	rig_down(&r);
}

TEST(status_bits_out_of_order_are_refused)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(virtio_rng_new(&r.d, &r.env, NULL), 0);
	rig_write(&r, R_STATUS, 1, 4);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	rig_write(&r, R_STATUS, 1, 3);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 3);
	rig_write(&r, R_STATUS, 1, 15);         /* VERSION_1 is not there: FEATURES_OK is refused */
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 3);
	rig_write(&r, R_GFSEL, 4, 1);
	rig_write(&r, R_GF, 4, 1u << 31 | 1);   /* VERSION_1 and one that is not offered */
	rig_write(&r, R_STATUS, 1, 11);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 3);
	rig_write(&r, R_GF, 4, 1);
	rig_write(&r, R_STATUS, 1, 11);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 11);
	rig_write(&r, R_GF, 4, 0);              /* too late */
	CHECK_EQ(rig_read(&r, R_GF, 4), 1);
	rig_write(&r, R_STATUS, 1, 1);          /* bits do not go down */
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 11);
	rig_write(&r, R_STATUS, 1, 0);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	rig_down(&r);
}

TEST(queues_that_are_not_there_read_as_empty)
{
	struct rig r;

	rng_up(&r, 0);
	rig_write(&r, R_QSEL, 2, 1);
	CHECK_EQ(rig_read(&r, R_QSIZE, 2), 0);
	rig_write(&r, R_QEN, 2, 1);
	rig_write(&r, R_QDESC, 8, 0x8000);
	CHECK_EQ(rig_read(&r, R_QEN, 2), 0);
	CHECK_EQ(rig_read(&r, R_QDESC, 8), 0);
	rig_down(&r);
}

TEST(doorbells_of_queues_that_are_not_there_ring_nobody)
{
	struct rig r;

	rng_up(&r, 0);
	for (unsigned q = 1; q < 1024; q++)     /* the last ones lie beyond any device's table */
		ring_kick(&r, q);

	struct virtio_stats st;

	virtio_get_stats(r.d, &st);
	CHECK_EQ(st.misuse, 0);
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(vectors_beyond_the_table_read_back_as_none)
{
	struct rig r;

	rng_up(&r, 0);
	rig_write(&r, R_CVEC, 2, 2);
	CHECK_EQ(rig_read(&r, R_CVEC, 2), VQ_NO_VECTOR);
	rig_write(&r, R_QSEL, 2, 0);
	rig_write(&r, R_QVEC, 2, 77);
	CHECK_EQ(rig_read(&r, R_QVEC, 2), VQ_NO_VECTOR);
	rig_down(&r);
}

TEST(a_queue_can_be_reset_and_used_again)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, RING_RESET);
	struct buf b = { rig_alloc(&r, 64), 16, true };

	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	rig_write(&r, R_QSEL, 2, 0);
	rig_write(&r, R_QRESET, 2, 1);
	CHECK_EQ(rig_read(&r, R_QRESET, 2), 0);
	CHECK_EQ(rig_read(&r, R_QEN, 2), 0);
	rig_up_queue(&r, 0, 4);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(id, 0);
	rig_down(&r);
}

TEST(the_configuration_window_reaches_the_registers)
{
	struct rig r;

	rng_up(&r, 0);
	struct pci_dev *p = virtio_pci_dev(r.d);
	unsigned cap = r.d->pci_window;

	CHECK_EQ(p->s.cfg[cap + 3], 5);
	p->s.cfg[cap + 4] = 0;
	put_le32(p->s.cfg + cap + 8, R_STATUS);
	put_le32(p->s.cfg + cap + 12, 1);
	p->cfg_reading(p, cap + 16, 4);
	CHECK_EQ(p->s.cfg[cap + 16], 15);
	p->s.cfg[cap + 16] = 0;
	p->cfg_written(p, cap + 16, 4);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	for (unsigned i = 0; i < 256; i++) {    /* places that are none */
		p->s.cfg[cap + 4] = (uint8_t)i;
		put_le32(p->s.cfg + cap + 8, 0x3ffe + i * 0x1000003);
		put_le32(p->s.cfg + cap + 12, i);
		p->cfg_reading(p, cap + 16, 4);
		p->cfg_written(p, cap + 16, 4);
	}
	rig_down(&r);
}

TEST(pause_takes_nothing_and_resume_catches_up)
{
	struct rig r;
	uint32_t id, len;

	rng_up(&r, 0);
	struct buf b = { rig_alloc(&r, 64), 16, true };

	virtio_pause(r.d);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(!ring_used(&r, 0, &id, &len));
	CHECK_EQ(virtio_in_flight(r.d), 0);
	virtio_resume(r.d);
	rig_spin(&r);
	CHECK(ring_used(&r, 0, &id, &len));
	rig_down(&r);
}

TEST(saved_state_goes_on_in_another_device)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];
	struct err err = ERR_INIT;
	static uint8_t buf[1 << 16];
	struct virtio_dev *other;
	uint32_t id, len;
	struct rig r;
	long n;

	rng_up(&r, EVENT_IDX);
	struct buf b = { rig_alloc(&r, 64), 16, true };

	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	virtio_pause(r.d);
	CHECK_EQ(virtio_sections(r.d, sec), 2);
	n = fields_save(sec[1].desc, sec[1].state, buf, sizeof(buf));
	CHECK(n > 0);
	CHECK_EQ(virtio_rng_new(&other, &r.env, NULL), 0);
	virtio_free(r.d);
	r.d = other;
	virtio_sections(r.d, sec);
	CHECK_EQ(fields_load(sec[1].desc, sec[1].state, buf, (size_t)n, &err), n);
	CHECK_EQ(virtio_restored(r.d, &err), 0);
	rig_spin(&r);
	ring_add(&r, 0, &b, 1);
	ring_kick(&r, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(id, 1);
	/* a state that no guest could have made */
	virtio_sections(r.d, sec);
	r.d->s.queue[0].used = 0xe0000000;
	CHECK_EQ(virtio_restored(r.d, &err), -EPROTO);
	CHECK_HAS(err.msg, "does not lie in guest memory");
	rig_down(&r);
}

TEST(hammering_every_register_harms_nobody)
{
	uint64_t x = 0x9e3779b97f4a7c15;
	struct rig r;

	rng_up(&r, INDIRECT | EVENT_IDX);
	for (int i = 0; i < 200000; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		unsigned size = 1u << (x >> 60 & 3), off = (unsigned)(x >> 8) % 0x2110;
		uint64_t v = x >> (x & 63);

		if (x >> 40 & 1)
			off %= 64;
		if (x >> 41 & 3)
			rig_write(&r, off, size, v);
		else
			rig_read(&r, off, size);
		if (i % 64 == 0) {
			virtio_ring(r.d, (unsigned)(x >> 50 & 7));
			loop_run_once(r.loop, 0);
		}
	}
	rig_write(&r, R_STATUS, 1, 0);
	rig_spin(&r);
	rig_up(&r, INDIRECT, 8);
	rig_down(&r);
}

TEST(random_rings_harm_nobody)
{
	uint64_t x = 88172645463325252u;
	struct rig r;

	rng_up(&r, INDIRECT);
	for (int i = 0; i < 5000; i++) {
		uint8_t *desc = rig_ptr(&r, r.ring[0].desc);

		for (unsigned k = 0; k < 16 * 8; k += 2) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			put_le16(desc + k, (uint16_t)(x & (k % 16 < 8 && k % 16 > 2 ? 0 : k % 16 < 12 ? 0xffff : 7)));
		}
		ring_offer(&r, 0, (uint16_t)(x >> 40 & 7));
		virtio_ring(r.d, 0);
		loop_run_once(r.loop, 0);
		if (rig_is_broken(&r)) {
			r.next = 0x400000;
			rig_up(&r, INDIRECT, 8);
		}
	}
	rig_down(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Virtqueues that break every rule of VIRTIO 1.2, 2.7, on every queue of every device. */
#include "hostile.h"

enum {
	C_DFSELECT = 0, C_DF = 4, C_GFSELECT = 8, C_GF = 12, C_NUM_QUEUES = 18, C_STATUS = 20, C_SELECT = 22,
	C_SIZE = 24, C_VECTOR = 26, C_ENABLE = 28, C_NOTIFY_OFF = 30, C_DESC = 32, C_AVAIL = 40, C_USED = 48, C_RESET = 58,
	F_NEXT = 1, F_WRITE = 2, F_INDIRECT = 4,
	RING = 256, RAM_TOP = 128 << 20,
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

static struct {
	volatile struct desc desc[RING];
	volatile uint16_t avail[4 + RING] __attribute__((aligned(64)));
	volatile uint16_t used[4 + 4 * RING] __attribute__((aligned(64)));
	volatile struct desc indirect[RING];
	uint8_t data[65536] __attribute__((aligned(4096)));
} q __attribute__((aligned(4096)));

static struct {
	uint64_t common, notify;
	uint32_t multiplier;
	unsigned size, queue;
} d;

/* ---- driver ---- */

static bool device_find(unsigned slot)
{
	uint64_t cfg = ECAM + (slot << 15);
	uint32_t id = get32(cfg);

	if ((id & 0xffff) != 0x1af4 || id >> 16 < 0x1040)
		return false;
	put16(cfg + 4, 0x406);
	d.common = d.notify = 0;
	for (unsigned at = get8(cfg + 0x34), i = 0; at && i < 32; at = get8(cfg + at + 1), i++) {
		if (get8(cfg + at) != 9)
			continue;
		uint64_t where = (get32(cfg + 0x10 + 4 * get8(cfg + at + 4)) & ~0xfu) + get32(cfg + at + 8);

		if (get8(cfg + at + 3) == 1)
			d.common = where;
		if (get8(cfg + at + 3) == 2) {
			d.notify = where;
			d.multiplier = get32(cfg + at + 16);
		}
	}
	return d.common && d.notify;
}

static void device_reset(void)
{
	put8(d.common + C_STATUS, 0);
	for (int i = 0; i < 10000000 && get8(d.common + C_STATUS); i++)
		;
	if (get8(d.common + C_STATUS))
		say("RESET-HANGS\r\n");
}

static void device_negotiate(void)
{
	put8(d.common + C_STATUS, 3);
	for (uint32_t i = 0; i < 2; i++) {
		put32(d.common + C_DFSELECT, i);
		put32(d.common + C_GFSELECT, i);
		put32(d.common + C_GF, get32(d.common + C_DF));
	}
	put8(d.common + C_STATUS, 11);
}

static void queue_place(uint64_t desc, uint64_t avail, uint64_t used)
{
	put16(d.common + C_SELECT, (uint16_t)d.queue);
	put64(d.common + C_DESC, desc);
	put64(d.common + C_AVAIL, avail);
	put64(d.common + C_USED, used);
}

static void ring(void)
{
	put16(d.notify + d.queue * d.multiplier, (uint16_t)d.queue);
}

static void rings_clear(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(q.avail); i++)
		q.avail[i] = 0;
	for (unsigned i = 0; i < ARRAY_LEN(q.used); i++)
		q.used[i] = 0;
	for (unsigned i = 0; i < RING; i++)
		q.desc[i] = q.indirect[i] = (struct desc){ 0 };
}

/* A request that a disk takes; other devices see three buffers. */
static void chain_good(uint32_t type)
{
	volatile uint32_t *header = (volatile uint32_t *)q.data;

	header[0] = type;
	header[1] = header[2] = header[3] = 0;
	q.desc[0] = (struct desc){ (uint64_t)q.data, 16, F_NEXT, 1 };
	q.desc[1] = (struct desc){ (uint64_t)q.data + 4096, 512, (uint16_t)(F_NEXT | (type ? 0 : F_WRITE)), 2 };
	q.desc[2] = (struct desc){ (uint64_t)q.data + 8192, 1, F_WRITE, 0 };
}

/* ---- the attacks: each fills the rings; some set registers ---- */

static void set(unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	q.desc[i] = (struct desc){ addr, len, (uint16_t)flags, (uint16_t)next };
}

#define DATA ((uint64_t)q.data)
static void a_self_loop(void) { set(0, DATA, 16, F_NEXT, 0); }
static void a_loop(void) { set(0, DATA, 16, F_NEXT, 1); set(1, DATA, 16, F_NEXT, 0); }
static void a_empty_loop(void) { set(0, DATA, 0, F_NEXT, 0); }
static void a_write_loop(void) { set(0, DATA, 16, F_NEXT, 1); set(1, DATA, 64, F_NEXT | F_WRITE, 1); }
static void a_huge(void) { set(0, DATA, 16, F_NEXT, 1); set(1, 0, 0xffffffff, F_WRITE, 0); }
static void a_all_ram(void) { set(0, 0x400000, RAM_TOP - 0x400000, 0, 0); }
static void a_outside(void) { set(0, 1ull << 40, 512, 0, 0); }
static void a_wraps(void) { set(0, -16ull, 64, F_WRITE, 0); }
static void a_wraps_to_ram(void) { set(0, -1ull, 2, F_WRITE, 0); }
static void a_mmio(void) { set(0, DATA, 16, F_NEXT, 1); set(1, LAPIC, 512, F_WRITE, 0); }
static void a_ecam(void) { set(0, ECAM, 4096, F_WRITE, 0); }
static void a_own_bar(void) { set(0, d.common, 64, F_WRITE, 0); }
static void a_over_top(void) { set(0, RAM_TOP - 1, 2, F_WRITE, 0); }
static void a_next_outside(void) { set(0, DATA, 16, F_NEXT, 0xffff); }
static void a_next_at_size(void) { set(0, DATA, 16, F_NEXT, d.size); }
static void a_order(void) { set(0, DATA, 16, F_WRITE | F_NEXT, 1); set(1, DATA, 16, 0, 0); }
static void a_empty(void) { set(0, DATA, 0, 0, 0); }
static void a_empty_write(void) { set(0, DATA, 0, F_WRITE, 0); }
static void a_flags(void) { set(0, DATA, 16, 0xfff8, 0); }
static void a_only_in(void) { set(0, DATA, 65536, F_WRITE, 0); }
static void a_only_out(void) { set(0, DATA, 65536, 0, 0); }
static void a_header_split(void) { set(0, DATA, 1, F_NEXT, 1); set(1, DATA, 14, F_NEXT, 2); set(2, DATA, 1, F_WRITE, 0); }
static void a_used_is_data(void) { set(0, DATA, 16, F_NEXT, 1); set(1, (uint64_t)q.used, 512, F_NEXT | F_WRITE, 2);
				   set(2, DATA, 1, F_WRITE, 0); }
static void a_desc_is_data(void) { chain_good(0); q.desc[1].addr = (uint64_t)q.desc; }
static void a_avail_is_data(void) { chain_good(0); q.desc[1].addr = (uint64_t)q.avail; }
static void a_good(void) { chain_good(0); }
static void a_bad_type(void) { chain_good(0x12345); }
static void a_far_sector(void) { chain_good(0); ((volatile uint64_t *)q.data)[1] = -1ull; }
static void a_discard_all(void) { chain_good(11); for (int i = 0; i < 16; i++) q.data[4096 + i] = 0xff; q.desc[1].len = 16; }

static void a_long_chain(void)
{
	for (unsigned i = 0; i < d.size; i++)
		set(i, DATA, 4096, F_NEXT, i + 1);
	set(d.size - 1, DATA, 4096, F_WRITE, 0);
}

static void a_sum_overflow(void)
{
	for (unsigned i = 0; i < d.size; i++)
		set(i, 0, RAM_TOP, (i + 1 < d.size ? F_NEXT : 0) | F_WRITE, i + 1);
}

static void indirect(uint64_t addr, uint32_t len, unsigned flags) { set(0, addr, len, F_INDIRECT | flags, 1); }
static void a_indirect_outside(void) { indirect(1ull << 50, 32, 0); }
static void a_indirect_empty(void) { indirect((uint64_t)q.indirect, 0, 0); }
static void a_indirect_odd(void) { indirect((uint64_t)q.indirect, 17, 0); }
static void a_indirect_huge(void) { indirect(0, 0xfffffff0, 0); }
static void a_indirect_wraps(void) { indirect(-32ull, 64, 0); }
static void a_indirect_next(void) { indirect((uint64_t)q.indirect, 32, F_NEXT); }
static void a_indirect_write(void) { indirect((uint64_t)q.indirect, 32, F_WRITE); }
static void a_indirect_unaligned(void) { indirect((uint64_t)q.indirect + 1, 32, 0); }

static void a_indirect_nested(void)
{
	indirect((uint64_t)q.indirect, 32, 0);
	q.indirect[0] = (struct desc){ (uint64_t)q.indirect, 32, F_INDIRECT, 0 };
}

static void a_indirect_loop(void)
{
	indirect((uint64_t)q.indirect, sizeof(q.indirect), 0);
	for (unsigned i = 0; i < RING; i++)
		q.indirect[i] = (struct desc){ DATA, 0, F_NEXT, (uint16_t)(i ^ 1) };
}

static void a_indirect_next_outside(void)
{
	indirect((uint64_t)q.indirect, 32, 0);
	q.indirect[0] = (struct desc){ DATA, 16, F_NEXT, 2 };
}

static void a_indirect_big(void)        /* 8 million descriptors, all of RAM as the table */
{
	for (unsigned i = 0; i < RING; i++)
		q.indirect[i] = (struct desc){ DATA, 1, F_NEXT, (uint16_t)(i + 1) };
	indirect((uint64_t)q.indirect & ~15ull, 64 << 20, 0);
}

/* after the ring was filled: idx and heads */
static void a_idx_far(void) { chain_good(0); q.avail[1] = 0x8000; }
static void a_idx_over(void) { chain_good(0); q.avail[1] = (uint16_t)(d.size + 1); }
static void a_idx_back(void) { chain_good(0); q.avail[1] = 0xffff; }
static void a_head_outside(void) { q.avail[2] = 0xffff; q.avail[1] = 1; }
static void a_head_at_size(void) { q.avail[2] = (uint16_t)d.size; q.avail[1] = 1; }
static void a_same_head(void) { chain_good(0); for (unsigned i = 0; i < d.size; i++) q.avail[2 + i] = 0; q.avail[1] = (uint16_t)d.size; }

static void a_fuzz(void)
{
	for (unsigned i = 0; i < 16; i++) {
		uint64_t v = rnd();
		uint64_t addr = DATA + (v & 0xffff);

		if (!(v >> 60))
			addr = rnd();
		set(i, addr, (uint32_t)(v >> 16 & 0xfff), v >> 28 & (v >> 32 & 3 ? 3 : 7), v >> 36 & 15);
		q.indirect[i] = (struct desc){ DATA, (uint32_t)(v >> 40 & 0xff), (uint16_t)(v >> 48 & 3), (uint16_t)(v >> 52 & 15) };
		q.avail[2 + i] = v >> 56 & 15;
	}
	q.avail[1] = (uint16_t)(rnd() & 15);
	for (unsigned i = 0; i < 64; i++)
		q.data[i] = (uint8_t)(rnd() & 15);
}

/* Registers, while the queue is enabled. */
static void a_resize_enabled(void)
{
	chain_good(0);
	put16(d.common + C_SELECT, (uint16_t)d.queue);
	put16(d.common + C_SIZE, 4);
	put64(d.common + C_DESC, 1ull << 45);
	put16(d.common + C_ENABLE, 0);
	put16(d.common + C_ENABLE, 1);
}

static void a_queue_reset(void)
{
	chain_good(0);
	q.avail[2] = 0;
	q.avail[1] = 1;
	ring();
	for (int i = 0; i < 50; i++) {
		put16(d.common + C_SELECT, (uint16_t)d.queue);
		put16(d.common + C_RESET, 1);
		put16(d.common + C_ENABLE, 1);
		ring();
	}
}

static void (*const attacks[])(void) = {
	a_self_loop, a_loop, a_empty_loop, a_write_loop, a_huge, a_all_ram, a_outside, a_wraps, a_wraps_to_ram, a_mmio,
	a_ecam, a_own_bar, a_over_top, a_next_outside, a_next_at_size, a_order, a_empty, a_empty_write, a_flags, a_only_in,
	a_only_out, a_header_split, a_used_is_data, a_desc_is_data, a_avail_is_data, a_good, a_bad_type, a_far_sector,
	a_discard_all, a_long_chain, a_sum_overflow, a_indirect_outside, a_indirect_empty, a_indirect_odd, a_indirect_huge,
	a_indirect_wraps, a_indirect_next, a_indirect_write, a_indirect_unaligned, a_indirect_nested, a_indirect_loop,
	a_indirect_next_outside, a_indirect_big, a_idx_far, a_idx_over, a_idx_back, a_head_outside, a_head_at_size,
	a_same_head, a_resize_enabled, a_queue_reset, a_fuzz, a_fuzz, a_fuzz, a_fuzz, a_fuzz, a_fuzz, a_fuzz, a_fuzz,
};

static void device_ready(void)
{
	device_reset();
	device_negotiate();
	put16(d.common + C_SELECT, (uint16_t)d.queue);
	d.size = get16(d.common + C_SIZE);
	if (d.size > RING)
		put16(d.common + C_SIZE, (uint16_t)(d.size = RING));
	rings_clear();
	queue_place((uint64_t)q.desc, (uint64_t)q.avail, (uint64_t)q.used);
	put16(d.common + C_ENABLE, 1);
	put8(d.common + C_STATUS, 15);
}

/* The device has taken the buffer, has given up, or does not care. */
static void settle(void)
{
	for (int i = 0; i < 300 && !(get8(d.common + C_STATUS) & 0x40) && !q.used[1]; i++)
		__asm__ volatile("pause");
}

static void attack_rings(void)
{
	for (unsigned i = 0; i < ARRAY_LEN(attacks); i++) {
		device_ready();
		attacks[i]();
		if (!q.avail[1]) {
			q.avail[2] = 0;
			q.avail[1] = 1;
		}
		ring();
		settle();
	}
}

/* Where the rings themselves lie. */
static void attack_places(void)
{
	static const uint64_t bad[] = {
		0, 1, 8, RAM_TOP - 16, RAM_TOP - 4, RAM_TOP, 0xc0000000, ECAM, LAPIC, 0xfffffff0, 0x100000000, 1ull << 46,
		1ull << 63, -16ull, -4096ull,
	};
	static const uint16_t sizes[] = { 0, 3, 1, 2, 0x8000, 0xffff };

	for (unsigned i = 0; i < ARRAY_LEN(bad) * 3 + ARRAY_LEN(sizes); i++) {
		uint64_t at[3] = { (uint64_t)q.desc, (uint64_t)q.avail, (uint64_t)q.used };

		device_reset();
		device_negotiate();
		rings_clear();
		put16(d.common + C_SELECT, (uint16_t)d.queue);
		if (i < ARRAY_LEN(bad) * 3)
			at[i % 3] = bad[i / 3];
		else
			put16(d.common + C_SIZE, sizes[i - ARRAY_LEN(bad) * 3]);
		queue_place(at[0], at[1], at[2]);
		put16(d.common + C_ENABLE, 1);
		put8(d.common + C_STATUS, 15);
		chain_good(0);
		q.avail[1] = 1;
		ring();
		settle();
	}
}

static void attack_status(void)
{
	for (unsigned i = 0; i < 256; i++) {
		put8(d.common + C_STATUS, (uint8_t)i);
		put32(d.common + C_GF, (uint32_t)rnd());
		put16(d.common + C_SELECT, (uint16_t)rnd());
		put16(d.common + C_ENABLE, 1);
		put16(d.common + C_VECTOR, (uint16_t)rnd());
	}
	for (unsigned i = 0; i < 4096; i += 2)
		put16(d.notify + i, (uint16_t)i);
	/* resets with work under way */
	for (int i = 0; i < 100 * rounds; i++) {
		device_ready();
		chain_good(i & 1 ? 4 : 0);
		q.avail[1] = (uint16_t)d.size;
		ring();
		put8(d.common + C_STATUS, 0);
		put8(d.common + C_STATUS, 15);
		ring();
	}
	device_reset();
}

static void each_queue(void (*fn)(void))
{
	unsigned n_devices = 0;

	for (unsigned slot = 0; slot < 32; slot++) {
		if (!device_find(slot))
			continue;
		n_devices++;
		unsigned n = get16(d.common + C_NUM_QUEUES);

		for (d.queue = 0; d.queue < n; d.queue++)
			fn();
		device_reset();
	}
	say("DEVICES ");
	say_hex(n_devices);
	say("\r\n");
}

static void attack_all(void)
{
	attack_rings();
	attack_places();
	attack_status();
}

void test_virtio(void)
{
	each_queue(attack_all);
}

/* Another processor rewrites descriptors and indices while the device reads them. */
static void race_writer(unsigned n)
{
	uint64_t s = n * 0x9e3779b97f4a7c15;

	for (;;) {
		s = s * 6364136223846793005 + 1442695040888963407;
		unsigned i = s >> 60;

		q.desc[i].addr = s >> 20 & 1 ? (uint64_t)q.data : s >> 21 & 1 ? 1ull << 60 : (uint64_t)q.used;
		q.desc[i].len = s >> 22 & 1 ? 16 : s >> 23 & 1 ? 0xffffffff : 4096;
		q.desc[i].flags = s >> 24 & 7;
		q.desc[i].next = s >> 28 & 15;
		q.indirect[i] = q.desc[i];
		if (s >> 32 & 1)
			q.avail[1]++;
		q.avail[2 + i] = s >> 36 & 15;
	}
}

static void race_queue(void)
{
	for (int i = 0; i < 60 * rounds; i++) {
		device_ready();
		for (int k = 0; k < 10; k++)
			ring();
		settle();
	}
}

void test_race(void)
{
	if (!cpus_running)
		start_cpus(race_writer);
	each_queue(race_queue);
}

/* Reset the machine while disks, the network and the random source have requests. The count
 * is in the CMOS. */
static void start_requests(void)
{
	device_ready();
	chain_good(0);
	for (unsigned i = 0; i < d.size; i++)
		q.avail[2 + i] = 0;
	q.desc[0].flags = F_NEXT;
	q.desc[1].len = 65536 - 8192;
	q.avail[1] = (uint16_t)d.size;
	ring();
}

void test_inflight(void)
{
	outb(0x70, 0x61);

	uint8_t n = inb(0x71);

	if (n >= 20)
		return;
	outb(0x71, (uint8_t)(n + 1));
	for (unsigned slot = 0; slot < 32; slot++) {
		if (device_find(slot)) {
			d.queue = 0;
			start_requests();
		}
	}
	outb(0xcf9, 6);
	for (;;)
		;
}

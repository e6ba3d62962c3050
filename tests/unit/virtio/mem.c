/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/mem.h"
#include <errno.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"

enum { PLUG = 0, UNPLUG = 1, UNPLUG_ALL = 2, STATE = 3, ACK = 0, NACK = 1, ERROR = 3, ALL_PLUGGED = 0, NONE = 1, MIXED = 2 };
#define BLOCK (2ull << 20)
#define BASE GMEM_HIGH_BASE
#define SIZE VIRTIO_MEM_ALIGN

struct memory {
	struct rig r;
	uint64_t reached;
	unsigned n_reached, state;
};

static void reached(void *arg, uint64_t plugged)
{
	struct memory *m = arg;

	m->reached = plugged;
	m->n_reached++;
}

/* RAM below 4 GiB is the rig's; the region is above. */
static void up(struct memory *m)
{
	struct virtio_mem_config cfg = { .addr = BASE, .size = SIZE, .reached = reached, .arg = m };
	struct err err = ERR_INIT;

	memset(m, 0, sizeof(*m));
	rig_init(&m->r);
	uint64_t boot = m->r.mem->size;

	gmem_free(m->r.mem);
	CHECK_EQ(gmem_new(&m->r.mem, boot + SIZE, &err), 0);
	gmem_set_boot_size(m->r.mem, boot, GMEM_LOW_MAX);
	m->r.env.mem = m->r.mem;
	CHECK_EQ(virtio_mem_new(&m->r.d, &m->r.env, &cfg, &err), 0);
	rig_up(&m->r, 0, 8);
}

static unsigned ask(struct memory *m, unsigned type, uint64_t addr, unsigned n)
{
	struct buf b[] = { { rig_alloc(&m->r, 24), 24, false }, { rig_alloc(&m->r, 10), 10, true } };
	uint8_t *req = rig_ptr(&m->r, b[0].gpa), *resp = rig_ptr(&m->r, b[1].gpa);
	uint32_t id, len;

	memset(req, 0, 24);
	put_le16(req, (uint16_t)type);
	put_le64(req + 8, addr);
	put_le16(req + 16, (uint16_t)n);
	ring_add(&m->r, 0, b, 2);
	ring_kick(&m->r, 0);
	CHECK(ring_used(&m->r, 0, &id, &len));
	CHECK_EQ(len, 10);
	m->state = get_le16(resp + 8);
	return get_le16(resp);
}

static uint64_t plugged(struct memory *m)
{
	struct virtio_mem_info i;

	virtio_mem_get(m->r.d, &i);
	CHECK_EQ(rig_read(&m->r, R_CFG + 40, 4), i.plugged);
	return i.plugged;
}

TEST(the_driver_plugs_as_much_as_it_is_asked_to)
{
	struct err err = ERR_INIT;
	struct memory m;

	up(&m);
	CHECK_EQ(rig_read(&m.r, R_CFG, 4), BLOCK);
	CHECK_EQ(rig_read(&m.r, R_CFG + 20, 4), BASE >> 32);
	CHECK_EQ(ask(&m, PLUG, BASE, 1), NACK);
	CHECK_EQ(virtio_mem_check(m.r.d, SIZE + BLOCK, &err), -EINVAL);
	CHECK_EQ(virtio_mem_check(m.r.d, 4096, &err), -EINVAL);
	CHECK_EQ(virtio_mem_check(m.r.d, 4 * BLOCK, &err), 0);
	virtio_mem_set(m.r.d, 4 * BLOCK);
	CHECK_EQ(rig_read(&m.r, R_CFG + 48, 4), 4 * BLOCK);
	CHECK_EQ(ask(&m, PLUG, BASE + BLOCK, 3), ACK);
	CHECK_EQ(m.n_reached, 0);
	CHECK_EQ(ask(&m, PLUG, BASE + 3 * BLOCK, 1), ERROR);
	CHECK_EQ(ask(&m, PLUG, BASE + 8 * BLOCK, 2), NACK);
	CHECK_EQ(ask(&m, PLUG, BASE, 1), ACK);
	CHECK_EQ(m.reached, 4 * BLOCK);
	CHECK_EQ(plugged(&m), 4 * BLOCK);
	CHECK_EQ(ask(&m, STATE, BASE, 4), ACK);
	CHECK_EQ(m.state, ALL_PLUGGED);
	CHECK_EQ(ask(&m, STATE, BASE + 2 * BLOCK, 4), ACK);
	CHECK_EQ(m.state, MIXED);
	CHECK_EQ(ask(&m, STATE, BASE + 60 * BLOCK, 4), ACK);
	CHECK_EQ(m.state, NONE);
	rig_down(&m.r);
}

TEST(what_is_unplugged_is_given_back)
{
	struct memory m;

	up(&m);
	virtio_mem_set(m.r.d, SIZE);
	CHECK_EQ(ask(&m, PLUG, BASE, 64), ACK);
	uint8_t *p = gmem_ptr(m.r.mem, BASE, SIZE);

	CHECK(p);
	p[0] = p[BLOCK] = p[SIZE - 1] = 7;
	CHECK_EQ(ask(&m, UNPLUG, BASE + BLOCK, 1), ACK);
	CHECK(p[0] == 7 && p[BLOCK] == 0 && p[SIZE - 1] == 7);
	CHECK_EQ(ask(&m, UNPLUG, BASE, 2), ERROR);
	CHECK_EQ(p[0], 7);
	CHECK_EQ(ask(&m, UNPLUG_ALL, 0, 0), ACK);
	CHECK(p[0] == 0 && p[SIZE - 1] == 0);
	CHECK_EQ(plugged(&m), 0);
	rig_down(&m.r);
}

TEST(requests_that_make_no_sense_change_nothing)
{
	static const struct { unsigned type; uint64_t addr; unsigned n; } bad[] = {
		{ PLUG, BASE, 0 }, { PLUG, BASE, 65 }, { PLUG, BASE + 64 * BLOCK, 1 }, { PLUG, BASE + 1, 1 }, { PLUG, BASE - BLOCK, 1 },
		{ PLUG, 0, 1 }, { PLUG, UINT64_MAX, 0xffff }, { UNPLUG, BASE, 1 }, { UNPLUG, 0x1000, 1 }, { STATE, BASE, 0 }, { 4, BASE, 1 },
		{ 0xffff, BASE, 1 }, { PLUG, BASE + 63 * BLOCK, 2 },
	};
	struct memory m;

	up(&m);
	virtio_mem_set(m.r.d, SIZE);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(ask(&m, bad[i].type, bad[i].addr, bad[i].n), ERROR);
	CHECK_EQ(plugged(&m), 0);
	/* A request that cannot be answered breaks the device. */
	struct buf b = { rig_alloc(&m.r, 24), 24, false };

	ring_add(&m.r, 0, &b, 1);
	ring_kick(&m.r, 0);
	CHECK(rig_is_broken(&m.r));
	rig_down(&m.r);
}

TEST(saved_blocks_are_checked)
{
	struct virtio_section part[VIRTIO_SECTIONS_MAX];
	struct err err = ERR_INIT;
	struct memory m;

	up(&m);
	virtio_mem_set(m.r.d, 2 * BLOCK);
	CHECK_EQ(ask(&m, PLUG, BASE, 2), ACK);
	CHECK_EQ(virtio_sections(m.r.d, part), 3);
	uint8_t *bits = part[2].state;

	CHECK_EQ(bits[0], 3);
	bits[0] = 1;
	CHECK_EQ(virtio_restored(m.r.d, &err), 0);
	CHECK_EQ(plugged(&m), BLOCK);
	bits[64 / 8] = 1;
	CHECK_EQ(virtio_restored(m.r.d, &err), -EPROTO);
	bits[64 / 8] = 0;
	put_le64(m.r.d->s.config + 48, SIZE * 2);
	CHECK_EQ(virtio_restored(m.r.d, &err), -EPROTO);
	put_le64(m.r.d->s.config + 48, 0);
	put_le64(m.r.d->s.config + 16, 0x1000);         /* a hostile file does not move the region */
	CHECK_EQ(virtio_restored(m.r.d, &err), 0);
	CHECK_EQ(rig_read(&m.r, R_CFG + 16, 4), 0);
	rig_down(&m.r);
}

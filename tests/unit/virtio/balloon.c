/* SPDX-License-Identifier: Apache-2.0 */
#include "virtio/balloon.h"
#include <errno.h>
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"

enum { STATS = 1 << 1, REPORTING = 1 << 5, PAGE = 4096, Q_INFLATE = 0, Q_DEFLATE = 1, Q_STATS = 2, Q_REPORT = 3 };

struct balloon {
	struct rig r;
	uint64_t reached;
	unsigned n_reached;
};

static void reached(void *arg, uint64_t actual)
{
	struct balloon *b = arg;

	b->reached = actual;
	b->n_reached++;
}

static void up(struct balloon *b, uint64_t features)
{
	struct virtio_balloon_config cfg = { .reached = reached, .arg = b };
	struct err err = ERR_INIT;

	memset(b, 0, sizeof(*b));
	rig_init(&b->r);
	CHECK_EQ(virtio_balloon_new(&b->r.d, &b->r.env, &cfg, &err), 0);
	rig_up(&b->r, features, 8);
}

/* A page with something in it; its number. */
static uint32_t full_page(struct rig *r)
{
	gpa_t gpa = rig_alloc(r, PAGE);

	memset(rig_ptr(r, gpa), 0x5a, PAGE);
	return (uint32_t)(gpa / PAGE);
}

static bool is_empty(struct rig *r, uint32_t pfn)
{
	const uint8_t *p = rig_ptr(r, (gpa_t)pfn * PAGE);

	return p[0] == 0 && p[PAGE - 1] == 0;
}

static void send_pages(struct rig *r, unsigned q, const uint32_t *pfn, unsigned n)
{
	struct buf b = { rig_alloc(r, n * 4), n * 4, false };
	uint32_t id, len;

	for (unsigned i = 0; i < n; i++)
		put_le32((uint8_t *)rig_ptr(r, b.gpa) + 4 * i, pfn[i]);
	ring_add(r, q, &b, 1);
	ring_kick(r, q);
	CHECK(ring_used(r, q, &id, &len));
	CHECK_EQ(len, 0);
}

TEST(pages_in_the_balloon_are_given_back)
{
	struct virtio_balloon_info info;
	struct balloon b;

	up(&b, 0);
	uint32_t keep = full_page(&b.r), a = full_page(&b.r), c = full_page(&b.r), last = full_page(&b.r);
	uint32_t pfn[] = { c, a, a };

	send_pages(&b.r, Q_INFLATE, pfn, 3);
	CHECK(is_empty(&b.r, a) && is_empty(&b.r, c));
	CHECK(!is_empty(&b.r, keep) && !is_empty(&b.r, last));
	send_pages(&b.r, Q_DEFLATE, &last, 1);          /* coming out takes nothing */
	CHECK(!is_empty(&b.r, last));
	virtio_balloon_get(b.r.d, &info);
	CHECK_EQ(info.given_back, 2 * PAGE);
	CHECK(info.has_driver);
	rig_down(&b.r);
}

TEST(page_numbers_that_are_no_ram_do_nothing)
{
	struct virtio_balloon_info info;
	struct balloon b;

	up(&b, 0);
	uint32_t last = (uint32_t)(b.r.mem->size / PAGE) - 1, pfn[] = { 0xffffffff, 0x7fffffff, 1u << 20, last + 1, 0xfee00 };
	struct buf odd = { rig_alloc(&b.r, 64), 7, false }, in = { rig_alloc(&b.r, 64), 64, true };

	send_pages(&b.r, Q_INFLATE, pfn, 5);
	virtio_balloon_get(b.r.d, &info);
	CHECK_EQ(info.given_back, 0);
	put_le32(rig_ptr(&b.r, odd.gpa), 0xffffffff);
	ring_add(&b.r, Q_INFLATE, &odd, 1);
	ring_add(&b.r, Q_INFLATE, &in, 1);      /* nothing to read in it */
	ring_kick(&b.r, Q_INFLATE);
	CHECK(!rig_is_broken(&b.r));
	virtio_balloon_get(b.r.d, &info);
	CHECK_EQ(info.given_back, 0);
	rig_down(&b.r);
}

TEST(the_target_is_shown_and_who_asked_hears_when_it_is_reached)
{
	struct err err = ERR_INIT;
	struct balloon b;

	up(&b, 0);
	CHECK_EQ(virtio_balloon_check(b.r.d, b.r.mem->size + PAGE, &err), -EINVAL);
	CHECK_EQ(virtio_balloon_check(b.r.d, 5, &err), -EINVAL);
	CHECK_EQ(virtio_balloon_check(b.r.d, 8 * PAGE, &err), 0);
	unsigned before = fake_interrupts[0];

	virtio_balloon_set(b.r.d, 8 * PAGE);
	CHECK_EQ(fake_interrupts[0], before + 1);
	CHECK_EQ(rig_read(&b.r, R_CFG, 4), 8);
	rig_write(&b.r, R_CFG, 4, 99);                  /* ours alone */
	CHECK_EQ(rig_read(&b.r, R_CFG, 4), 8);
	rig_write(&b.r, R_CFG + 4, 4, 5);
	rig_spin(&b.r);
	CHECK_EQ(b.n_reached, 0);
	rig_write(&b.r, R_CFG + 4, 4, 8);
	rig_spin(&b.r);
	CHECK_EQ(b.n_reached, 1);
	CHECK_EQ(b.reached, 8 * PAGE);
	/* The target outlives a reset, what is in the balloon does not. */
	rig_up(&b.r, 0, 8);
	CHECK_EQ(rig_read(&b.r, R_CFG, 4), 8);
	CHECK_EQ(rig_read(&b.r, R_CFG + 4, 4), 0);
	rig_down(&b.r);
}

static void put_stat(struct rig *r, gpa_t at, uint16_t tag, uint64_t value)
{
	put_le16(rig_ptr(r, at), tag);
	put_le64((uint8_t *)rig_ptr(r, at) + 2, value);
}

TEST(statistics_are_asked_for_again_when_somebody_has_read_them)
{
	struct virtio_balloon_info info;
	struct balloon b;
	uint32_t id, len;

	up(&b, STATS);
	struct buf s = { rig_alloc(&b.r, 64), 30, false };

	put_stat(&b.r, s.gpa, VIRTIO_BALLOON_FREE, 1234);
	put_stat(&b.r, s.gpa + 10, 999, 1);
	put_stat(&b.r, s.gpa + 20, VIRTIO_BALLOON_TOTAL, 5678);
	ring_add(&b.r, Q_STATS, &s, 1);
	ring_kick(&b.r, Q_STATS);
	CHECK(!ring_used(&b.r, Q_STATS, &id, &len));    /* kept until new ones are wanted */
	CHECK_EQ(virtio_in_flight(b.r.d), 0);
	virtio_balloon_get(b.r.d, &info);
	CHECK_EQ(info.stat[VIRTIO_BALLOON_FREE], 1234);
	CHECK_EQ(info.stat[VIRTIO_BALLOON_TOTAL], 5678);
	CHECK_EQ(info.stat[VIRTIO_BALLOON_SWAP_IN], UINT64_MAX);
	rig_spin(&b.r);
	CHECK(ring_used(&b.r, Q_STATS, &id, &len));
	rig_down(&b.r);
}

TEST(free_pages_that_are_reported_are_given_back_whole_pages_only)
{
	struct balloon b;
	uint32_t id, len;

	up(&b, STATS | REPORTING);
	uint32_t a = full_page(&b.r), c = full_page(&b.r), d = full_page(&b.r);
	struct buf pages[] = { { (gpa_t)a * PAGE, 2 * PAGE, true }, { (gpa_t)d * PAGE + 8, PAGE - 8, true } };

	ring_add(&b.r, Q_REPORT, pages, 2);
	ring_kick(&b.r, Q_REPORT);
	CHECK(ring_used(&b.r, Q_REPORT, &id, &len));
	CHECK(is_empty(&b.r, a) && is_empty(&b.r, c));
	CHECK(!is_empty(&b.r, d));
	rig_down(&b.r);
	/* A driver that has not asked for it reports nothing. */
	up(&b, STATS);
	a = full_page(&b.r);
	struct buf one = { (gpa_t)a * PAGE, PAGE, true };

	ring_add(&b.r, Q_REPORT, &one, 1);
	ring_kick(&b.r, Q_REPORT);
	CHECK(!is_empty(&b.r, a));
	rig_down(&b.r);
}

TEST(what_is_given_back_is_in_the_dirty_log)
{
	struct balloon b;

	up(&b, 0);
	uint32_t a = full_page(&b.r);
	uint64_t bitmap[64] = { 0 };

	CHECK(b.r.mem->size / PAGE <= 64 * 64);
	CHECK_EQ(gmem_log_start(b.r.mem, NULL), 0);
	send_pages(&b.r, Q_INFLATE, &a, 1);
	gmem_log_fetch(b.r.mem, bitmap);
	CHECK(bitmap[a / 64] >> (a % 64) & 1);
	rig_down(&b.r);
}

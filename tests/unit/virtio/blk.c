/* SPDX-License-Identifier: Apache-2.0 */
/* The block device over a fake image whose requests end when the test says so. */
#include <errno.h>
#include "blk/blk.h"
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/blk.h"

enum { DISK_SECTORS = 2048, F_FLUSH = 9, F_DISCARD = 13, F_WRITE_ZEROES = 14 };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

/* ---- the fake image ---- */

struct blk {
	uint8_t data[DISK_SECTORS * BLK_SECTOR];
	struct blk_req *waiting[256];
	unsigned n_waiting, n_flushes, n_submitted;
	bool is_readonly, can_discard;
	bool is_at_once;                /* requests are over when the batch ends */
	unsigned n_batches, depth;
	uint64_t size;
};

static void fake_complete(struct blk *b, unsigned i, int result);

uint64_t blk_size(const struct blk *b) { return b->size; }
bool blk_is_readonly(const struct blk *b) { return b->is_readonly; }
unsigned blk_block_size(const struct blk *b) { return 4096; }
bool blk_can_discard(const struct blk *b) { return b->can_discard; }
unsigned blk_in_flight(const struct blk *b) { return b->n_waiting; }

void blk_submit(struct blk *b, struct blk_req *r)
{
	CHECK(b->n_waiting < 256);
	b->n_submitted++;
	b->waiting[b->n_waiting++] = r;
}

void blk_batch_begin(struct blk *b)
{
	CHECK_EQ(b->depth++, 0);
	b->n_batches++;
}

void blk_batch_end(struct blk *b)
{
	while (b->is_at_once && b->n_waiting)
		fake_complete(b, 0, 0);
	CHECK_EQ(--b->depth, 0);
}

static void fake_complete(struct blk *b, unsigned i, int result)
{
	struct blk_req *r = b->waiting[i];
	uint64_t off = r->off;

	memmove(b->waiting + i, b->waiting + i + 1, (--b->n_waiting - i) * sizeof(b->waiting[0]));
	for (int k = 0; k < r->n_iov && !result; k++, off += r->iov[k - 1].iov_len) {
		CHECK(off + r->iov[k].iov_len <= r->off + r->len && r->off + r->len <= b->size);
		if (r->op == BLK_READ)
			memcpy(r->iov[k].iov_base, b->data + off, r->iov[k].iov_len);
		else
			memcpy(b->data + off, r->iov[k].iov_base, r->iov[k].iov_len);
	}
	CHECK(r->n_iov == 0 || result || off == r->off + r->len);
	if (r->op == BLK_ZEROES || r->op == BLK_DISCARD)
		memset(b->data + r->off, 0, r->len);
	b->n_flushes += r->op == BLK_FLUSH;
	r->done(r, result);
}

static void fake_complete_all(struct rig *r, struct blk *b)
{
	while (b->n_waiting)
		fake_complete(b, 0, 0);
	rig_spin(r);
}

/* ---- requests ---- */

static struct blk *disk_new(struct rig *r, uint64_t features, unsigned queues)
{
	static struct blk disk;
	struct blk *b = &disk;

	memset(b, 0, sizeof(*b));
	b->size = sizeof(b->data);
	b->can_discard = true;
	rig_init(r);
	CHECK_EQ(virtio_blk_new(&r->d, &r->env, &(struct virtio_blk_config){
		.backend = b, .serial = "SN-1", .n_queues = queues }, NULL), 0);
	rig_up(r, features, 128);
	return b;
}

static gpa_t header(struct rig *r, uint32_t type, uint64_t sector)
{
	gpa_t at = rig_alloc(r, 16);

	put_le32(rig_ptr(r, at), type);
	put_le64((uint8_t *)rig_ptr(r, at) + 8, sector);
	return at;
}

/* Offer a request of one data buffer without ringing; its status byte starts as 0xee. */
static gpa_t request_silent(struct rig *r, unsigned q, uint32_t type, uint64_t sector, gpa_t data, uint32_t len)
{
	gpa_t status = rig_alloc(r, 1);
	bool is_read = type == IN || type == GET_ID;
	struct buf b[3] = { { header(r, type, sector), 16, false }, { data, len, is_read }, { status, 1, true } };

	if (!len)
		b[1] = b[2];
	*(uint8_t *)rig_ptr(r, status) = 0xee;
	ring_add(r, q, b, len ? 3 : 2);
	return status;
}

static gpa_t request(struct rig *r, unsigned q, uint32_t type, uint64_t sector, gpa_t data, uint32_t len)
{
	gpa_t status = request_silent(r, q, type, sector, data, len);

	ring_kick(r, q);
	return status;
}

static unsigned status_of(struct rig *r, gpa_t status)
{
	return *(uint8_t *)rig_ptr(r, status);
}

TEST(data_goes_both_ways)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 1);
	gpa_t data = rig_alloc(&r, 4096), st;
	uint32_t id, len;

	memset(rig_ptr(&r, data), 0x5a, 4096);
	st = request(&r, 0, OUT, 3, data, 4096);
	CHECK_EQ(status_of(&r, st), 0xee);
	fake_complete_all(&r, b);
	CHECK_EQ(status_of(&r, st), 0);
	CHECK_EQ(b->data[3 * 512], 0x5a);
	CHECK_EQ(b->data[3 * 512 + 4095], 0x5a);
	CHECK_EQ(b->data[3 * 512 + 4096], 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(len, 1);
	memset(rig_ptr(&r, data), 0, 4096);
	st = request(&r, 0, IN, 3, data, 1024);
	fake_complete_all(&r, b);
	CHECK_EQ(status_of(&r, st), 0);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, data))[1023], 0x5a);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, data))[1024], 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(len, 1025);
	CHECK_EQ(fake_interrupts[1], 2);
	rig_down(&r);
}

TEST(what_is_over_at_once_is_answered_before_the_doorbell_is_left)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 1);
	gpa_t data = rig_alloc(&r, 4096), st;
	uint32_t id, len;

	b->is_at_once = true;
	for (unsigned i = 0; i < 300; i++) {
		st = request(&r, 0, i & 1 ? IN : OUT, i, data, 512);
		rig_spin(&r);
		CHECK_EQ(status_of(&r, st), 0);
		CHECK(ring_used(&r, 0, &id, &len));
	}
	CHECK(b->n_batches >= 300);
	CHECK_EQ(b->n_submitted, 300);
	CHECK_EQ(fake_interrupts[1], 300);
	rig_down(&r);
}

TEST(what_one_doorbell_brings_is_answered_with_one_interrupt)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 2);
	gpa_t data = rig_alloc(&r, 4096), st[2][8];
	uint32_t id, len;

	b->is_at_once = true;
	for (unsigned i = 0; i < 8; i++)
		for (unsigned q = 0; q < 2; q++)
			st[q][i] = request_silent(&r, q, IN, i, data, 512);
	ring_kick(&r, 0);
	ring_kick(&r, 1);
	rig_spin(&r);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned q = 0; q < 2; q++) {
			CHECK_EQ(status_of(&r, st[q][i]), 0);
			CHECK(ring_used(&r, q, &id, &len));
		}
	CHECK_EQ(fake_interrupts[1], 1);
	CHECK_EQ(fake_interrupts[2], 1);
	rig_down(&r);
}

TEST(a_request_may_be_cut_into_buffers_anywhere)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 1);
	gpa_t h = header(&r, IN, 0), m = rig_alloc(&r, 4096);
	/* the header in two, data of odd sizes, the status byte at the end of the last data buffer */
	struct buf v[5] = { { h, 7, false }, { h + 7, 9, false }, { m, 100, true }, { m + 100, 411, true },
			    { m + 511, 2, true } };

	for (unsigned i = 0; i < 512; i++)
		b->data[i] = (uint8_t)i;
	ring_add(&r, 0, v, 5);
	ring_kick(&r, 0);
	fake_complete_all(&r, b);
	CHECK_MEM(rig_ptr(&r, m), b->data, 512);
	CHECK_EQ(status_of(&r, m + 512), 0);
	rig_down(&r);
}

TEST(requests_complete_in_any_order_and_are_bounded)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH) | VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC), 1);
	gpa_t st[100];
	uint32_t id, len;
	unsigned n = 0;

	for (unsigned i = 0; i < 100; i++) {
		st[i] = rig_alloc(&r, 1);
		struct buf v[2] = { { header(&r, FLUSH, 0), 16, false }, { st[i], 1, true } };

		ring_add_indirect(&r, 0, v, 2);
	}
	ring_kick(&r, 0);
	CHECK_EQ(b->n_waiting, 64);
	fake_complete(b, 40, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(id, 40);
	rig_spin(&r);
	CHECK_EQ(b->n_waiting, 64);
	for (n = 1; b->n_waiting; n++) {
		fake_complete(b, b->n_waiting - 1, 0);
		rig_spin(&r);
		CHECK(ring_used(&r, 0, &id, &len));
	}
	CHECK_EQ(n, 100);
	CHECK_EQ(virtio_in_flight(r.d), 0);
	rig_down(&r);
}

TEST(bad_requests_fail_and_leave_the_image_alone)
{
	static const struct { uint32_t type; uint64_t sector; uint32_t len; unsigned status; } bad[] = {
		{ IN, DISK_SECTORS, 512, 1 },
		{ IN, DISK_SECTORS - 1, 1024, 1 },
		{ OUT, DISK_SECTORS - 1, 1024, 1 },
		{ IN, UINT64_MAX, 512, 1 },
		{ IN, UINT64_MAX / 512 + 1, 512, 1 },           /* wraps to 0 in bytes */
		{ IN, 0, 100, 1 },
		{ OUT, 0, 513, 1 },
		{ 2, 0, 512, 2 },
		{ 0x80000000, 0, 512, 2 },
		{ DISCARD, 0, 512, 2 },                         /* not negotiated */
	};
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 1);
	gpa_t data = rig_alloc(&r, 4096);

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		gpa_t st = request(&r, 0, bad[i].type, bad[i].sector, data, bad[i].len);

		CHECK_EQ(status_of(&r, st), bad[i].status);
	}
	CHECK_EQ(b->n_submitted, 0);
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(a_request_without_header_or_status_breaks_the_device)
{
	for (int i = 0; i < 2; i++) {
		struct rig r;
		struct blk *b = disk_new(&r, 0, 1);
		struct buf v[2] = { { header(&r, IN, 0), i ? 15 : 16, false }, { rig_alloc(&r, 1), 1, true } };

		ring_add(&r, 0, v, i ? 2 : 1);
		ring_kick(&r, 0);
		CHECK(rig_is_broken(&r));
		CHECK_EQ(b->n_submitted, 0);
		CHECK_EQ(virtio_in_flight(r.d), 0);
		rig_down(&r);
	}
}

TEST(the_host_s_error_becomes_an_io_error)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_FLUSH), 1);
	gpa_t st = request(&r, 0, IN, 0, rig_alloc(&r, 512), 512);

	fake_complete(b, 0, -EIO);
	CHECK_EQ(status_of(&r, st), 1);
	rig_down(&r);
}

TEST(without_flush_each_write_is_followed_by_one)
{
	struct rig r;
	struct blk *b = disk_new(&r, 0, 1);
	gpa_t st = request(&r, 0, OUT, 0, rig_alloc(&r, 512), 512);

	fake_complete(b, 0, 0);
	CHECK_EQ(status_of(&r, st), 0xee);
	CHECK_EQ(b->n_waiting, 1);
	fake_complete(b, 0, 0);
	CHECK_EQ(status_of(&r, st), 0);
	CHECK_EQ(b->n_flushes, 1);
	rig_down(&r);
}

TEST(the_serial_number_is_cut_to_the_buffer)
{
	struct rig r;
	gpa_t data;

	disk_new(&r, 0, 1);
	data = rig_alloc(&r, 64);
	memset(rig_ptr(&r, data), 'x', 64);
	CHECK_EQ(status_of(&r, request(&r, 0, GET_ID, 0, data, 20)), 0);
	CHECK_STR((char *)rig_ptr(&r, data), "SN-1");
	CHECK_EQ(((char *)rig_ptr(&r, data))[20], 'x');
	memset(rig_ptr(&r, data), 'x', 64);
	CHECK_EQ(status_of(&r, request(&r, 0, GET_ID, 0, data, 2)), 0);
	CHECK_MEM(rig_ptr(&r, data), "SNx", 3);
	rig_down(&r);
}

TEST(discard_and_write_zeroes_obey_their_limits)
{
	static const struct { uint32_t type, n, flags; uint64_t sector; unsigned status; } cases[] = {
		{ ZEROES, 8, 0, 0, 0 },
		{ ZEROES, 8, 1, 0, 0 },
		{ ZEROES, 8, 2, 0, 2 },
		{ ZEROES, 0xffffffff, 0, 0, 1 },
		{ ZEROES, 8, 0, DISK_SECTORS - 7, 1 },
		{ ZEROES, 8, 0, UINT64_MAX - 3, 1 },
		{ DISCARD, 8, 0, 0, 0 },
		{ DISCARD, 8, 1, 0, 2 },
		{ DISCARD, 0, 0, 0, 0 },
	};
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(F_DISCARD) | VIRTIO_BIT(F_WRITE_ZEROES), 1);
	gpa_t data = rig_alloc(&r, 512);

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		put_le64(rig_ptr(&r, data), cases[i].sector);
		put_le32((uint8_t *)rig_ptr(&r, data) + 8, cases[i].n);
		put_le32((uint8_t *)rig_ptr(&r, data) + 12, cases[i].flags);
		gpa_t st = request(&r, 0, cases[i].type, 0, data, 16);

		fake_complete_all(&r, b);
		if (status_of(&r, st) != cases[i].status)
			FAIL("case %u: status %u", i, status_of(&r, st));
	}
	CHECK_EQ(status_of(&r, request(&r, 0, DISCARD, 0, data, 32)), 1);       /* two segments */
	rig_down(&r);
}

TEST(a_read_only_image_is_offered_as_such_and_refuses_writes)
{
	static struct blk disk;
	struct blk *b = &disk;
	struct rig r;
	gpa_t st;

	b->size = sizeof(b->data);
	b->is_readonly = true;
	rig_init(&r);
	CHECK_EQ(virtio_blk_new(&r.d, &r.env, &(struct virtio_blk_config){ .backend = b }, NULL), 0);
	CHECK(rig_features(&r) & VIRTIO_BIT(5));
	CHECK(!(rig_features(&r) & (VIRTIO_BIT(F_DISCARD) | VIRTIO_BIT(F_WRITE_ZEROES))));
	rig_up(&r, 0, 128);
	st = request(&r, 0, OUT, 0, rig_alloc(&r, 512), 512);
	CHECK_EQ(status_of(&r, st), 1);
	CHECK_EQ(b->n_submitted, 0);
	rig_down(&r);
}

TEST(a_reset_waits_for_requests_in_flight_and_drops_their_answers)
{
	struct rig r;
	struct blk *b = disk_new(&r, 0, 1);
	uint32_t id, len;

	request(&r, 0, IN, 0, rig_alloc(&r, 512), 512);
	request(&r, 0, IN, 1, rig_alloc(&r, 512), 512);
	rig_write(&r, R_STATUS, 1, 0);
	CHECK(rig_read(&r, R_STATUS, 1) != 0);
	rig_write(&r, R_STATUS, 1, 15);         /* too early: nothing happens */
	rig_spin(&r);
	fake_complete(b, 0, 0);
	CHECK(rig_read(&r, R_STATUS, 1) != 0);
	fake_complete(b, 0, 0);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	CHECK(!ring_used(&r, 0, &id, &len));
	CHECK_EQ(virtio_in_flight(r.d), 0);
	rig_up(&r, 0, 128);
	request(&r, 0, IN, 0, rig_alloc(&r, 512), 512);
	fake_complete_all(&r, b);
	CHECK(ring_used(&r, 0, &id, &len));
	rig_down(&r);
}

TEST(what_the_host_stored_is_in_the_dirty_log_even_after_a_reset)
{
	static uint64_t bitmap[(16 << 20) / 4096 / 64];
	struct rig r;
	struct blk *b = disk_new(&r, 0, 1);
	gpa_t at[2] = { rig_alloc(&r, 4096), rig_alloc(&r, 4096) };

	for (int i = 0; i < 2; i++) {
		request(&r, 0, IN, 0, at[i], 4096);
		CHECK_EQ(gmem_log_start(r.mem, NULL), 0);
		if (i)
			rig_write(&r, R_STATUS, 1, 0);
		fake_complete(b, 0, 0);
		gmem_log_fetch(r.mem, bitmap);
		CHECK_EQ(bitmap[at[i] >> 18] >> (at[i] >> 12 & 63) & 1, 1);
		CHECK_EQ(bitmap[r.ring[0].used >> 18] >> (r.ring[0].used >> 12 & 63) & 1, !i);
		gmem_log_stop(r.mem);
	}
	rig_down(&r);
}

TEST(a_queue_reset_waits_for_its_own_requests_only)
{
	struct rig r;
	struct blk *b = disk_new(&r, VIRTIO_BIT(VIRTIO_F_RING_RESET), 2);
	uint32_t id, len;

	CHECK_EQ(rig_read(&r, R_NQ, 2), 2);
	request(&r, 0, IN, 0, rig_alloc(&r, 512), 512);
	request(&r, 1, IN, 1, rig_alloc(&r, 512), 512);
	rig_write(&r, R_QSEL, 2, 1);
	rig_write(&r, R_QRESET, 2, 1);
	CHECK_EQ(rig_read(&r, R_QRESET, 2), 1);
	rig_write(&r, R_QEN, 2, 1);             /* too early */
	CHECK_EQ(rig_read(&r, R_QEN, 2), 0);
	fake_complete(b, 0, 0);
	CHECK(ring_used(&r, 0, &id, &len));
	CHECK_EQ(rig_read(&r, R_QRESET, 2), 1);
	fake_complete(b, 0, 0);
	CHECK_EQ(rig_read(&r, R_QRESET, 2), 0);
	CHECK(!ring_used(&r, 1, &id, &len));
	rig_up_queue(&r, 1, 16);
	request(&r, 1, IN, 1, rig_alloc(&r, 512), 512);
	fake_complete_all(&r, b);
	CHECK(ring_used(&r, 1, &id, &len));
	rig_down(&r);
}

TEST(a_broken_device_still_ends_what_was_in_flight)
{
	struct rig r;
	struct blk *b = disk_new(&r, 0, 1);

	request(&r, 0, IN, 0, rig_alloc(&r, 512), 512);
	ring_set_idx(&r, 0, 5000);
	ring_kick(&r, 0);
	CHECK(rig_is_broken(&r));
	fake_complete_all(&r, b);
	rig_up(&r, 0, 128);
	rig_down(&r);
}

TEST(configuration_space_describes_the_disk_and_follows_its_size)
{
	struct rig r;
	struct blk *b = disk_new(&r, 0, 4);
	uint64_t gen = rig_read(&r, R_GEN, 1);

	CHECK_EQ(rig_read(&r, R_CFG, 4), DISK_SECTORS);
	CHECK_EQ(rig_read(&r, R_CFG + 12, 4), 126);
	CHECK_EQ(rig_read(&r, R_CFG + 20, 4), 512);
	CHECK_EQ(rig_read(&r, R_CFG + 24, 1), 3);
	CHECK_EQ(rig_read(&r, R_CFG + 34, 2), 4);
	CHECK_EQ(rig_read(&r, R_CFG + 56, 1), 1);
	CHECK_EQ(rig_read(&r, R_CFG + 60, 4), 0);
	b->size /= 2;
	virtio_blk_resized(r.d);
	CHECK_EQ(rig_read(&r, R_CFG, 8), DISK_SECTORS / 2);
	CHECK(rig_read(&r, R_GEN, 1) != gen);
	CHECK_EQ(fake_interrupts[0], 1);
	rig_down(&r);
}

TEST(a_restored_disk_goes_on_and_has_the_size_of_its_image)
{
	struct virtio_section sec[VIRTIO_SECTIONS_MAX];
	struct err err = ERR_INIT;
	static uint8_t buf[16384];
	struct rig r;
	struct blk *b = disk_new(&r, 0, 2);
	unsigned n;

	virtio_pause(r.d);
	n = virtio_sections(r.d, sec);
	b->size /= 2;
	for (unsigned i = 0; i < n; i++) {
		long len = fields_save(sec[i].desc, sec[i].state, buf, sizeof(buf));

		CHECK(len > 0);
		CHECK_EQ(fields_load(sec[i].desc, sec[i].state, buf, (size_t)len, &err), len);
	}
	CHECK_EQ(virtio_restored(r.d, &err), 0);
	virtio_resume(r.d);
	CHECK_EQ(rig_read(&r, R_CFG, 8), DISK_SECTORS / 2);
	rig_spin(&r);
	rig_down(&r);
}

TEST(impossible_configurations_are_refused_with_a_sentence)
{
	struct err err = ERR_INIT;
	struct blk b = { .size = 512 };
	struct virtio_dev *d;
	struct rig r;

	rig_init(&r);
	CHECK_EQ(virtio_blk_new(&d, &r.env, &(struct virtio_blk_config){
		.backend = &b, .serial = "123456789012345678901" }, &err), -EINVAL);
	CHECK_HAS(err.msg, "longer than 20 bytes");
	CHECK_EQ(virtio_blk_new(&d, &r.env, &(struct virtio_blk_config){ .backend = &b, .n_queues = 17 }, &err), -EINVAL);
	CHECK_HAS(err.msg, "at most 16 queues");
	rig_down(&r);
}

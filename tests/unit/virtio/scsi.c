/* SPDX-License-Identifier: Apache-2.0 */
/* The SCSI host with its drive, over fake media whose requests end when the test says so. */
#include <errno.h>
#include "blk/blk.h"
#include "driver.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/scsi.h"

enum { CONTROL, EVENTS, REQUESTS };
enum { HEADER = 19, CDB = 32, RESPONSE = 12, SENSE = 96, BLOCKS = 100, BLOCK = 2048 };
enum { OK = 0, OVERRUN = 1, ABORTED = 2, BAD_TARGET = 3, RESET = 4, FAILURE = 9, SUCCEEDED = 10, REJECTED = 11, WRONG_LUN = 12 };
enum { GOOD = 0, CHECK_CONDITION = 2 };
enum { C_SENSE_SIZE = 20, C_CDB_SIZE = 24 };

/* ---- fake media ---- */

struct blk {
	uint8_t data[BLOCKS * BLOCK];
	struct blk_req *waiting[64];
	unsigned n_waiting;
	uint64_t size;
};

uint64_t blk_size(const struct blk *b) { return b->size; }
unsigned blk_in_flight(const struct blk *b) { return b->n_waiting; }
bool blk_is_readonly(const struct blk *b) { return true; }
unsigned blk_block_size(const struct blk *b) { return 4096; }
bool blk_can_discard(const struct blk *b) { return false; }

void blk_submit(struct blk *b, struct blk_req *r)
{
	CHECK(b->n_waiting < 64);
	CHECK_EQ(r->op, BLK_READ);
	CHECK(r->off + r->len <= b->size);
	b->waiting[b->n_waiting++] = r;
}

static void fake_complete(struct rig *r, struct blk *b, int result)
{
	struct blk_req *q = b->waiting[0];
	uint64_t off = q->off;

	memmove(b->waiting, b->waiting + 1, --b->n_waiting * sizeof(b->waiting[0]));
	for (int k = 0; k < q->n_iov && !result; k++) {
		memcpy(q->iov[k].iov_base, b->data + off, q->iov[k].iov_len);
		off += q->iov[k].iov_len;
	}
	CHECK(result || off == q->off + q->len);
	q->done(q, result);
	rig_spin(r);
}

static struct blk media[2];
static int n_trays, tray;

static void tray_moved(void *arg, bool is_open)
{
	n_trays++;
	tray = is_open;
}

static struct blk *drive_new(struct rig *r, bool has_medium)
{
	for (unsigned i = 0; i < 2; i++) {
		memset(&media[i], 0, sizeof(media[i]));
		media[i].size = sizeof(media[i].data);
		for (unsigned n = 0; n < BLOCKS; n++)
			memset(media[i].data + n * BLOCK, (int)(0x10 * (i + 1) + n % 16), BLOCK);
	}
	n_trays = 0;
	rig_init(r);
	CHECK_EQ(virtio_scsi_new(&r->d, &r->env, &(struct virtio_scsi_config){
		.medium = has_medium ? &media[0] : NULL, .serial = "cd0", .tray_moved = tray_moved }, NULL), 0);
	rig_up(r, 0, 64);
	return &media[0];
}

/* ---- requests ---- */

struct req {
	gpa_t header, answer, data;
	uint32_t room;
};

static struct req send_to(struct rig *r, const uint8_t lun[8], const uint8_t *cdb, unsigned n, uint32_t room)
{
	struct req q = { rig_alloc(r, HEADER + CDB), rig_alloc(r, RESPONSE + SENSE), rig_alloc(r, room ? room : 1), room };
	struct buf b[3] = { { q.header, HEADER + CDB, false }, { q.answer, RESPONSE + SENSE, true }, { q.data, room, true } };
	uint8_t *h = rig_ptr(r, q.header);

	memset(h, 0, HEADER + CDB);
	memcpy(h, lun, 8);
	put_le64(h + 8, 77);
	memcpy(h + HEADER, cdb, n);
	memset(rig_ptr(r, q.answer), 0xee, RESPONSE + SENSE);
	ring_add(r, REQUESTS, b, room ? 3 : 2);
	ring_kick(r, REQUESTS);
	return q;
}

static const uint8_t unit0[8] = { 1, 0, 0x40, 0 };

#define SEND(r, room, ...) send_to(r, unit0, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), room)

static uint8_t *data_of(struct rig *r, struct req q) { return rig_ptr(r, q.data); }
static unsigned response_of(struct rig *r, struct req q) { return ((uint8_t *)rig_ptr(r, q.answer))[11]; }
static unsigned status_of(struct rig *r, struct req q) { return ((uint8_t *)rig_ptr(r, q.answer))[10]; }
static uint32_t residual_of(struct rig *r, struct req q) { return get_le32((uint8_t *)rig_ptr(r, q.answer) + 4); }

/* Key, code and qualifier as one number; 0: it is well. */
static unsigned sense_of(struct rig *r, struct req q)
{
	const uint8_t *a = rig_ptr(r, q.answer);

	CHECK_EQ(response_of(r, q), OK);
	if (status_of(r, q) == GOOD)
		return 0;
	CHECK_EQ(status_of(r, q), CHECK_CONDITION);
	CHECK_EQ(get_le32(a), 18);
	return (unsigned)((a[RESPONSE + 2] & 15) << 16 | a[RESPONSE + 12] << 8 | a[RESPONSE + 13]);
}

static unsigned ready(struct rig *r) { return sense_of(r, SEND(r, 0, 0)); }

/* After a reset there is one thing to tell. */
static void settle(struct rig *r)
{
	CHECK_EQ(ready(r), 0x62900);
}

TEST(a_drive_says_what_it_is)
{
	struct rig r;
	struct req q;

	drive_new(&r, true);
	q = SEND(&r, 96, 0x12, 0, 0, 0, 96);
	CHECK_EQ(sense_of(&r, q), 0);
	CHECK_EQ(data_of(&r, q)[0], 5);
	CHECK_EQ(data_of(&r, q)[1], 0x80);
	CHECK_EQ(residual_of(&r, q), 60);
	CHECK(!memcmp(data_of(&r, q) + 8, "VIVARIUM", 8));
	q = SEND(&r, 96, 0x12, 1, 0x80, 0, 96);
	CHECK(!memcmp(data_of(&r, q) + 4, "cd0", 3));
	CHECK_EQ(residual_of(&r, q), 96 - 7);
	q = SEND(&r, 96, 0x12, 1, 0x83, 0, 96);
	CHECK_EQ(get_be16(data_of(&r, q) + 2), 4 + 8 + 3);
	CHECK_EQ(sense_of(&r, SEND(&r, 96, 0x12, 1, 0xb0, 0, 96)), 0x52400);
	q = SEND(&r, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16);
	CHECK_EQ(get_be32(data_of(&r, q)), 8);
	CHECK_EQ(sense_of(&r, SEND(&r, 16, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15)), 0x52400);
	settle(&r);             /* none of these has told of the reset */
	CHECK_EQ(ready(&r), 0);
	rig_down(&r);
}

TEST(who_is_not_there_does_not_answer)
{
	static const uint8_t target1[8] = { 1, 1, 0x40, 0 }, unit1[8] = { 1, 0, 0x40, 1 }, known[8] = { 0xc1, 1 }, odd[8] = { 2 };
	static const uint8_t inquiry[] = { 0x12, 0, 0, 0, 36 }, test[] = { 0 }, luns[] = { 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16 };
	struct rig r;
	struct req q;

	drive_new(&r, true);
	CHECK_EQ(response_of(&r, send_to(&r, target1, inquiry, 5, 36)), BAD_TARGET);
	CHECK_EQ(response_of(&r, send_to(&r, odd, inquiry, 5, 36)), BAD_TARGET);
	q = send_to(&r, unit1, inquiry, 5, 36);
	CHECK_EQ(data_of(&r, q)[0], 0x7f);
	CHECK_EQ(sense_of(&r, send_to(&r, unit1, test, 1, 0)), 0x52500);
	q = send_to(&r, known, luns, 10, 16);
	CHECK_EQ(sense_of(&r, q), 0);
	CHECK_EQ(get_be32(data_of(&r, q)), 8);
	rig_down(&r);
}

TEST(blocks_are_read_into_place)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);
	uint32_t id, len;
	struct req q;

	settle(&r);
	while (ring_used(&r, REQUESTS, &id, &len))
		;
	q = SEND(&r, 8, 0x25);
	CHECK_EQ(get_be32(data_of(&r, q)), BLOCKS - 1);
	CHECK_EQ(get_be32(data_of(&r, q) + 4), BLOCK);
	CHECK(ring_used(&r, REQUESTS, &id, &len));
	q = SEND(&r, 3 * BLOCK, 0x28, 0, 0, 0, 0, 5, 0, 0, 2);
	CHECK_EQ(response_of(&r, q), 0xee);
	fake_complete(&r, b, 0);
	CHECK_EQ(sense_of(&r, q), 0);
	CHECK_EQ(data_of(&r, q)[0], 0x15);
	CHECK_EQ(data_of(&r, q)[2 * BLOCK - 1], 0x16);
	CHECK_EQ(residual_of(&r, q), BLOCK);
	CHECK(ring_used(&r, REQUESTS, &id, &len));
	CHECK_EQ(len, RESPONSE + SENSE + 2 * BLOCK);
	q = SEND(&r, BLOCK, 0xa8, 0, 0, 0, 0, 99, 0, 0, 0, 1);
	fake_complete(&r, b, 0);
	CHECK_EQ(data_of(&r, q)[0], 0x13);
	q = SEND(&r, BLOCK, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1);
	fake_complete(&r, b, -EIO);
	CHECK_EQ(sense_of(&r, q), 0x31100);
	CHECK_EQ(residual_of(&r, q), BLOCK);
	rig_down(&r);
}

TEST(senseless_reads_are_refused)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);

	settle(&r);
	CHECK_EQ(sense_of(&r, SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, BLOCKS, 0, 0, 1)), 0x52100);
	CHECK_EQ(sense_of(&r, SEND(&r, BLOCK, 0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff)), 0x52100);
	CHECK_EQ(sense_of(&r, SEND(&r, BLOCK, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)), 0x52100);
	CHECK_EQ(response_of(&r, SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 2)), OVERRUN);
	CHECK_EQ(sense_of(&r, SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 0)), 0);       /* of nothing */
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0)), 0x52000);     /* WRITE(10) */
	CHECK_EQ(b->n_waiting, 0);
	CHECK(!rig_is_broken(&r));
	rig_down(&r);
}

TEST(pages_and_features_are_cut_to_the_room_there_is)
{
	struct rig r;
	struct req q;

	drive_new(&r, true);
	settle(&r);
	q = SEND(&r, 64, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(get_be16(data_of(&r, q)), 28);
	CHECK_EQ(data_of(&r, q)[8], 0x2a);
	CHECK_EQ(data_of(&r, q)[14], 0x29);
	q = SEND(&r, 64, 0x1a, 0, 0x3f, 0, 64);
	CHECK_EQ(data_of(&r, q)[0], 4 + 12 + 22 - 1);
	q = SEND(&r, 64, 0x1a, 0, 0x3f, 0, 3);
	CHECK_EQ(residual_of(&r, q), 61);
	CHECK_EQ(sense_of(&r, SEND(&r, 64, 0x1a, 0, 0xff, 0, 64)), 0x53900);
	CHECK_EQ(sense_of(&r, SEND(&r, 64, 0x1a, 0, 0x05, 0, 64)), 0x52400);
	q = SEND(&r, 128, 0x46, 0, 0, 0, 0, 0, 0, 0, 128);
	CHECK_EQ(get_be16(data_of(&r, q) + 6), 8);
	CHECK_EQ(get_be32(data_of(&r, q)) + residual_of(&r, q), 124);
	q = SEND(&r, 128, 0x46, 2, 0, 3, 0, 0, 0, 0, 128);
	CHECK_EQ(get_be32(data_of(&r, q)), 4 + 8);
	CHECK_EQ(data_of(&r, q)[12], 0x29);
	q = SEND(&r, 4, 0x46, 0, 0, 0, 0, 0, 0, 0, 128);
	CHECK_EQ(residual_of(&r, q), 0);
	q = SEND(&r, 64, 0x51, 0, 0, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(get_be16(data_of(&r, q)), 32);
	q = SEND(&r, 64, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(residual_of(&r, q), 56);
	rig_down(&r);
}

TEST(the_table_of_contents_has_one_track)
{
	struct rig r;
	struct req q;

	drive_new(&r, true);
	settle(&r);
	q = SEND(&r, 64, 0x43, 0, 0, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(get_be16(data_of(&r, q)), 18);
	CHECK_EQ(data_of(&r, q)[6], 1);
	CHECK_EQ(data_of(&r, q)[14], 0xaa);
	CHECK_EQ(get_be32(data_of(&r, q) + 16), BLOCKS);
	q = SEND(&r, 64, 0x43, 2, 0, 0, 0, 0, 0xaa, 0, 64);
	CHECK_EQ(get_be32(data_of(&r, q) + 8), 0x000319);       /* 250 frames are 3 seconds and 25 */
	q = SEND(&r, 64, 0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0x40);   /* sessions, asked for in the old way */
	CHECK_EQ(get_be16(data_of(&r, q)), 10);
	q = SEND(&r, 64, 0x43, 0, 2, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(get_be16(data_of(&r, q)), 2 + 44);
	CHECK_EQ(sense_of(&r, SEND(&r, 64, 0x43, 0, 0, 0, 0, 0, 2, 0, 64)), 0x52400);
	CHECK_EQ(sense_of(&r, SEND(&r, 64, 0x43, 0, 5, 0, 0, 0, 0, 0, 64)), 0x52400);
	rig_down(&r);
}

static unsigned media_event(struct rig *r)
{
	struct req q = SEND(r, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8);

	CHECK_EQ(sense_of(r, q), 0);
	CHECK_EQ(data_of(r, q)[2], 4);
	return (unsigned)(data_of(r, q)[4] << 4 | data_of(r, q)[5]);
}

TEST(the_guest_ejects_and_loads)
{
	struct rig r;

	drive_new(&r, true);
	settle(&r);
	CHECK_EQ(media_event(&r), 0x02);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1e, 0, 0, 0, 1)), 0);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 2)), 0x55302);
	CHECK_EQ(n_trays, 0);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1e, 0, 0, 0, 0)), 0);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 2)), 0);
	CHECK(n_trays == 1 && tray == 1);
	CHECK_EQ(ready(&r), 0x23a02);
	CHECK_EQ(sense_of(&r, SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1)), 0x23a02);
	CHECK_EQ(media_event(&r), 0x31);
	CHECK_EQ(media_event(&r), 0x01);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 3)), 0);
	CHECK(n_trays == 2 && tray == 0);
	CHECK_EQ(media_event(&r), 0x22);
	CHECK_EQ(ready(&r), 0x62800);
	CHECK_EQ(ready(&r), 0);
	rig_down(&r);
}

TEST(the_host_ejects_and_inserts)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);
	struct virtio_scsi_info info;
	struct req q;

	settle(&r);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1e, 0, 0, 0, 1)), 0);
	virtio_scsi_get(r.d, &info);
	CHECK(info.is_locked && !info.is_tray_open);
	virtio_scsi_ask_eject(r.d);
	CHECK_EQ(media_event(&r), 0x12);
	q = SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	CHECK(virtio_scsi_eject(r.d) == b);
	CHECK_EQ(blk_in_flight(b), 1);
	CHECK_EQ(ready(&r), 0x23a02);
	fake_complete(&r, b, 0);        /* what was asked before is answered */
	CHECK_EQ(sense_of(&r, q), 0);
	CHECK_EQ(data_of(&r, q)[0], 0x10);
	CHECK(virtio_scsi_eject(r.d) == NULL);
	virtio_scsi_get(r.d, &info);
	CHECK(!info.is_locked && info.is_tray_open);
	virtio_scsi_insert(r.d, &media[1]);
	CHECK_EQ(media_event(&r), 0x22);
	CHECK_EQ(ready(&r), 0x62800);
	q = SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	fake_complete(&r, &media[1], 0);
	CHECK_EQ(data_of(&r, q)[0], 0x20);
	CHECK_EQ(n_trays, 0);           /* the host knows what it has done */
	rig_down(&r);
}

TEST(a_drive_may_be_empty)
{
	struct rig r;
	struct req q;

	drive_new(&r, false);
	settle(&r);
	CHECK_EQ(ready(&r), 0x23a01);
	CHECK_EQ(sense_of(&r, SEND(&r, 8, 0x25)), 0x23a01);
	q = SEND(&r, 64, 0x46, 1, 0, 0, 0, 0, 0, 0, 64);
	CHECK_EQ(get_be16(data_of(&r, q) + 6), 0);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 1)), 0x23a01);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 2)), 0);
	CHECK_EQ(ready(&r), 0x23a02);
	rig_down(&r);
}

/* ---- task management and events ---- */

static gpa_t control(struct rig *r, uint32_t type, uint32_t subtype, const uint8_t *lun, uint64_t tag)
{
	gpa_t h = rig_alloc(r, 24), a = rig_alloc(r, 5);
	bool is_task = type == 0;
	uint8_t *p = rig_ptr(r, h);
	struct buf b[2] = { { h, is_task ? 24 : 16, false }, { a, is_task ? 1 : 5, true } };

	put_le32(p, type);
	if (is_task) {
		put_le32(p + 4, subtype);
		memcpy(p + 8, lun, 8);
		put_le64(p + 16, tag);
	} else {
		memcpy(p + 4, lun, 8);
		put_le32(p + 12, subtype);
	}
	memset(rig_ptr(r, a), 0xee, 5);
	ring_add(r, CONTROL, b, 2);
	ring_kick(r, CONTROL);
	return a;
}

static unsigned byte(struct rig *r, gpa_t at, unsigned i) { return ((uint8_t *)rig_ptr(r, at))[i]; }

TEST(who_aborts_is_answered_when_the_request_has_ended)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);
	gpa_t abort, query;
	struct req q;

	settle(&r);
	q = SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	CHECK_EQ(byte(&r, control(&r, 0, 6, unit0, 77), 0), SUCCEEDED);
	CHECK_EQ(byte(&r, control(&r, 0, 6, unit0, 78), 0), OK);
	CHECK_EQ(byte(&r, control(&r, 0, 0, unit0, 78), 0), OK);        /* there is none */
	abort = control(&r, 0, 0, unit0, 77);
	query = control(&r, 0, 7, unit0, 0);
	CHECK_EQ(byte(&r, abort, 0), 0xee);
	fake_complete(&r, b, 0);
	CHECK_EQ(response_of(&r, q), ABORTED);
	CHECK_EQ(byte(&r, abort, 0), OK);
	CHECK_EQ(byte(&r, query, 0), OK);
	rig_down(&r);
}

TEST(a_unit_is_reset_when_its_requests_have_ended)
{
	static const uint8_t target1[8] = { 1, 1 }, unit1[8] = { 1, 0, 0, 1 };
	struct rig r;
	struct blk *b = drive_new(&r, true);
	gpa_t reset;
	struct req q;

	settle(&r);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 2)), 0);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 3)), 0);
	CHECK_EQ(ready(&r), 0x62800);
	q = SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	CHECK_EQ(sense_of(&r, SEND(&r, 0, 0x1b, 0, 0, 0, 2)), 0);
	reset = control(&r, 0, 5, unit0, 0);
	CHECK_EQ(byte(&r, reset, 0), 0xee);
	fake_complete(&r, b, 0);
	CHECK_EQ(response_of(&r, q), RESET);
	CHECK_EQ(byte(&r, reset, 0), OK);
	CHECK(n_trays == 4 && tray == 0);
	settle(&r);
	CHECK_EQ(ready(&r), 0);
	CHECK_EQ(byte(&r, control(&r, 0, 5, target1, 0), 0), BAD_TARGET);
	CHECK_EQ(byte(&r, control(&r, 0, 5, unit1, 0), 0), WRONG_LUN);
	CHECK_EQ(byte(&r, control(&r, 0, 2, unit0, 0), 0), REJECTED);
	CHECK_EQ(byte(&r, control(&r, 0, 99, unit0, 0), 0), REJECTED);
	CHECK_EQ(byte(&r, control(&r, 99, 0, unit0, 0), 0), REJECTED);
	rig_down(&r);
}

TEST(who_has_subscribed_hears_of_the_medium)
{
	struct rig r;
	uint32_t id, len;
	gpa_t e, a;

	drive_new(&r, true);
	virtio_scsi_eject(r.d);
	virtio_scsi_insert(r.d, &media[0]);
	a = control(&r, 1, 0xff, unit0, 0);
	CHECK_EQ(byte(&r, a, 0), 16);
	a = control(&r, 2, 16, unit0, 0);
	CHECK(byte(&r, a, 0) == 16 && byte(&r, a, 4) == OK);
	virtio_scsi_eject(r.d);         /* no buffer: it is missed */
	e = rig_alloc(&r, 16);
	ring_add(&r, EVENTS, &(struct buf){ e, 16, true }, 1);
	ring_kick(&r, EVENTS);
	CHECK(ring_used(&r, EVENTS, &id, &len) && len == 16);
	CHECK_EQ(get_le32(rig_ptr(&r, e)), 0x80000000u);
	ring_add(&r, EVENTS, &(struct buf){ e, 16, true }, 1);
	ring_kick(&r, EVENTS);
	CHECK(!ring_used(&r, EVENTS, &id, &len));
	virtio_scsi_insert(r.d, &media[1]);
	CHECK(ring_used(&r, EVENTS, &id, &len));
	CHECK_EQ(get_le32(rig_ptr(&r, e)), 2);
	CHECK_EQ(get_le32((uint8_t *)rig_ptr(&r, e) + 12), 16);
	CHECK_EQ(((uint8_t *)rig_ptr(&r, e))[4], 1);
	rig_down(&r);
}

/* ---- what breaks it, and what does not ---- */

TEST(headers_that_are_too_short_break_the_device)
{
	static const struct { unsigned q; uint32_t out, in; } bad[] = {
		{ REQUESTS, HEADER + CDB - 1, RESPONSE + SENSE }, { REQUESTS, HEADER + CDB, RESPONSE + SENSE - 1 }, { REQUESTS, 0, 4096 },
		{ CONTROL, 23, 1 }, { CONTROL, 24, 0 }, { CONTROL, 3, 1 },
	};
	struct rig r;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		drive_new(&r, true);
		gpa_t at = rig_alloc(&r, 8192);
		struct buf b[2] = { { at, bad[i].out, false }, { at + 4096, bad[i].in, true } };

		memset(rig_ptr(&r, at), 0, 8192);
		ring_add(&r, bad[i].q, bad[i].out ? b : b + 1, (bad[i].out != 0) + (bad[i].in != 0));
		ring_kick(&r, bad[i].q);
		CHECK(rig_is_broken(&r));
		rig_down(&r);
	}
}

TEST(the_driver_chooses_the_sizes_of_sense_data_and_commands)
{
	struct rig r;
	struct req q;

	drive_new(&r, true);
	rig_write(&r, R_CFG + C_SENSE_SIZE, 4, 8);
	rig_write(&r, R_CFG + C_CDB_SIZE, 4, 16);
	rig_write(&r, R_CFG, 4, 12345);         /* is not the driver's */
	CHECK_EQ(rig_read(&r, R_CFG, 4), 1);
	q.header = rig_alloc(&r, HEADER + 16);
	q.answer = rig_alloc(&r, RESPONSE + 8);
	memset(rig_ptr(&r, q.header), 0, HEADER + 16);
	memcpy(rig_ptr(&r, q.header), unit0, 8);
	struct buf b[2] = { { q.header, HEADER + 16, false }, { q.answer, RESPONSE + 8, true } };
	ring_add(&r, REQUESTS, b, 2);
	ring_kick(&r, REQUESTS);
	CHECK_EQ(status_of(&r, q), CHECK_CONDITION);
	CHECK_EQ(get_le32(rig_ptr(&r, q.answer)), 8);
	CHECK(!rig_is_broken(&r));
	rig_write(&r, R_CFG + C_CDB_SIZE, 4, 257);
	CHECK(rig_is_broken(&r));
	CHECK_EQ(rig_read(&r, R_CFG + C_CDB_SIZE, 4), 16);
	rig_down(&r);
}

TEST(data_in_both_directions_are_refused)
{
	struct rig r;
	gpa_t h, a;

	drive_new(&r, true);
	h = rig_alloc(&r, HEADER + CDB + 10);
	a = rig_alloc(&r, RESPONSE + SENSE + 10);
	memset(rig_ptr(&r, h), 0, HEADER + CDB + 10);
	memcpy(rig_ptr(&r, h), unit0, 8);
	struct buf b[2] = { { h, HEADER + CDB + 10, false }, { a, RESPONSE + SENSE + 10, true } };
	ring_add(&r, REQUESTS, b, 2);
	ring_kick(&r, REQUESTS);
	CHECK_EQ(byte(&r, a, 11), FAILURE);
	rig_down(&r);
}

TEST(a_reset_ends_when_reads_and_their_aborts_have)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);

	settle(&r);
	SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, 0, 0, 0, 1);
	control(&r, 0, 0, unit0, 77);
	rig_write(&r, R_STATUS, 1, 0);
	CHECK(rig_read(&r, R_STATUS, 1) != 0);
	fake_complete(&r, b, 0);
	CHECK_EQ(rig_read(&r, R_STATUS, 1), 0);
	rig_up(&r, 0, 64);
	settle(&r);
	CHECK_EQ(ready(&r), 0);
	rig_down(&r);
}

TEST(more_requests_than_can_wait_are_served_later)
{
	struct rig r;
	struct blk *b = drive_new(&r, true);
	struct req q[40];

	rig_up(&r, 0, 128);
	settle(&r);
	for (unsigned i = 0; i < 40; i++)
		q[i] = SEND(&r, BLOCK, 0x28, 0, 0, 0, 0, (uint8_t)i, 0, 0, 1);
	CHECK_EQ(b->n_waiting, 32);
	while (b->n_waiting)
		fake_complete(&r, b, 0);
	for (unsigned i = 0; i < 40; i++)
		CHECK_EQ(data_of(&r, q[i])[0], 0x10 + i % 16);
	rig_down(&r);
}

static struct virtio_section section_of(struct virtio_dev *d)
{
	struct virtio_section part[VIRTIO_SECTIONS_MAX];
	unsigned n = virtio_sections(d, part);

	for (unsigned i = 0; i < n; i++)
		if (part[i].desc == &virtio_scsi_state_desc)
			return part[i];
	CHECK(!"the drive has no state");
	return part[0];
}

TEST(what_the_guest_knows_of_the_drive_is_saved_and_checked)
{
	struct rig r;
	uint8_t buf[512];
	struct virtio_scsi_info info;

	drive_new(&r, true);
	settle(&r);
	SEND(&r, 0, 0x1b, 0, 0, 0, 2);
	SEND(&r, 0, 0x1e, 0, 0, 0, 1);
	struct virtio_section s = section_of(r.d);
	long n = fields_save(s.desc, s.state, buf, sizeof(buf));

	CHECK(n > 0);
	SEND(&r, 0, 0x1e, 0, 0, 0, 0);
	SEND(&r, 0, 0x1b, 0, 0, 0, 3);
	CHECK_EQ(fields_load(s.desc, s.state, buf, (size_t)n, NULL), n);
	virtio_scsi_get(r.d, &info);
	CHECK(info.is_tray_open && info.is_locked);
	*(uint8_t *)s.state = 0xff;     /* unit attentions that there are not */
	n = fields_save(s.desc, s.state, buf, sizeof(buf));
	CHECK_EQ(fields_load(s.desc, s.state, buf, (size_t)n, NULL), -EPROTO);
	rig_down(&r);
}

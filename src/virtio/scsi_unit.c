/* SPDX-License-Identifier: Apache-2.0 */
/* Commands that every unit has (SPC-4), sense data, unit attention. */
#include "virtio/scsi_unit.h"

#include <string.h>
#include "blk/blk.h"
#include "util/checked.h"
#include "util/endian.h"

#define VENDOR "VIVARIUM"               /* 8 characters */
#define PRODUCT "VIRTUAL CD/DVD  "      /* 16 */
#define REVISION "1   "

enum {
	TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, INQUIRY = 0x12, GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a,
	REPORT_LUNS = 0xa0,
};
enum { TYPE_CD = 5, TYPE_NONE = 0x7f, REMOVABLE = 0x80, VERSION_SPC3 = 5 };
enum { INQUIRY_LEN = 36, VPD_PAGES = 0x00, VPD_SERIAL = 0x80, VPD_ID = 0x83 };

static void sense_put(uint8_t at[SCSI_SENSE_LEN], uint32_t why)
{
	memset(at, 0, SCSI_SENSE_LEN);
	at[0] = 0x70;
	at[2] = (uint8_t)(why >> 16);
	at[7] = SCSI_SENSE_LEN - 8;
	at[12] = (uint8_t)(why >> 8);
	at[13] = (uint8_t)why;
}

void scsi_fail(struct scsi_cmd *c, enum scsi_sense why)
{
	c->status = SCSI_CHECK_CONDITION;
	c->len = 0;
	c->n_bytes = 0;
	sense_put(c->sense, why);
}

void scsi_reply(struct scsi_cmd *c, uint32_t len, uint32_t room)
{
	c->len = len < room ? len : room;
}

/* --- the unit --- */

bool scsi_unit_is_ready(const struct scsi_unit *u)
{
	return u->medium && !u->s->is_tray_open && blk_size(u->medium) >= SCSI_CD_BLOCK;
}

uint64_t scsi_unit_blocks(const struct scsi_unit *u)
{
	return scsi_unit_is_ready(u) ? blk_size(u->medium) / SCSI_CD_BLOCK : 0;
}

void scsi_unit_move_tray(struct scsi_unit *u, bool is_open)
{
	if (u->s->is_tray_open == is_open)
		return;
	u->s->is_tray_open = is_open;
	u->has_tray_moved = true;
	if (!u->medium)
		return;
	u->s->event = is_open ? SCSI_MEDIA_REMOVAL : SCSI_MEDIA_NEW;
	if (!is_open)
		u->s->attention |= SCSI_ATTENTION_MEDIUM;
}

void scsi_unit_reset(struct scsi_unit *u)
{
	if (u->s->is_tray_open)
		u->has_tray_moved = true;
	*u->s = (struct scsi_unit_state){ .attention = SCSI_ATTENTION_RESET };
}

/* The first unit attention, which is told with this; SCSI_NO_SENSE: there is none. */
static enum scsi_sense take_attention(struct scsi_unit *u)
{
	uint8_t a = u->s->attention, first = a & -a;

	u->s->attention = a & ~first;
	return first == SCSI_ATTENTION_RESET ? SCSI_WAS_RESET : first == SCSI_ATTENTION_MEDIUM ? SCSI_MEDIUM_CHANGED : SCSI_NO_SENSE;
}

/* --- commands; U may be NULL where it says so --- */

/* SPC-4 7.8: pages of vital product data. */
static void inquiry_page(const struct scsi_unit *u, struct scsi_cmd *c, uint32_t room)
{
	static const uint8_t pages[] = { VPD_PAGES, VPD_SERIAL, VPD_ID };
	uint8_t *p = c->reply;
	size_t serial = strlen(u->serial);
	uint32_t n;

	p[0] = TYPE_CD;
	p[1] = c->cdb[2];
	switch (c->cdb[2]) {
	case VPD_PAGES:
		memcpy(p + 4, pages, sizeof(pages));
		n = sizeof(pages);
		break;
	case VPD_SERIAL:
		memcpy(p + 4, u->serial, serial);
		n = (uint32_t)serial;
		break;
	case VPD_ID:            /* one designator: of the unit, by vendor, in ASCII */
		p[4] = 2;
		p[5] = 1;
		p[7] = (uint8_t)(8 + serial);
		memcpy(p + 8, VENDOR, 8);
		memcpy(p + 16, u->serial, serial);
		n = 4u + p[7];
		break;
	default:
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	put_be16(p + 2, (uint16_t)n);
	scsi_reply(c, 4 + n, room);
}

/* U NULL: says that there is none. */
static void do_inquiry(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint32_t room = get_be16(c->cdb + 3);
	uint8_t *p = c->reply;

	if (c->cdb[1] & 1 && u) {
		inquiry_page(u, c, room);
		return;
	}
	if (c->cdb[1] & 3 || c->cdb[2]) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	p[0] = u ? TYPE_CD : TYPE_NONE;
	p[1] = u ? REMOVABLE : 0;
	p[2] = VERSION_SPC3;
	p[3] = 2;               /* the format of this */
	p[4] = INQUIRY_LEN - 5;
	p[7] = 2;               /* command queueing */
	memcpy(p + 8, VENDOR, 8);
	memcpy(p + 16, PRODUCT, 16);
	memcpy(p + 32, REVISION, 4);
	scsi_reply(c, INQUIRY_LEN, room);
}

/* U NULL is fine. A target has one unit, 0, and none that is well known. */
static void do_report_luns(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint32_t room = get_be32(c->cdb + 6);

	if (room < 16 || c->cdb[2] > 2) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	uint32_t n = c->cdb[2] == 1 ? 0 : 8;

	put_be32(c->reply, n);
	scsi_reply(c, 8 + n, room);
}

static void do_request_sense(struct scsi_unit *u, struct scsi_cmd *c)
{
	if (c->cdb[1] & 1) {    /* descriptor format */
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	sense_put(c->reply, u ? take_attention(u) : SCSI_BAD_LUN);
	scsi_reply(c, SCSI_SENSE_LEN, c->cdb[4]);
}

static void do_test_unit_ready(struct scsi_unit *u, struct scsi_cmd *c)
{
	if (!scsi_unit_is_ready(u))
		scsi_fail(c, u->s->is_tray_open ? SCSI_NO_MEDIUM_TRAY_OPEN : SCSI_NO_MEDIUM_TRAY_CLOSED);
}

static const struct {
	uint8_t op;
	bool is_any;            /* also of a unit that is not there */
	void (*fn)(struct scsi_unit *u, struct scsi_cmd *c);
} commands[] = {
	{ TEST_UNIT_READY, false, do_test_unit_ready },
	{ REQUEST_SENSE,   true,  do_request_sense },
	{ INQUIRY,         true,  do_inquiry },
	{ REPORT_LUNS,     true,  do_report_luns },
};

/* SPC-4 5.14, MMC-6 4.1.8: what is done although there is something to tell. */
static bool ignores_attention(uint8_t op)
{
	return op == INQUIRY || op == REPORT_LUNS || op == REQUEST_SENSE || op == GET_CONFIGURATION || op == GET_EVENT_STATUS;
}

void scsi_unit_do(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint8_t op = c->cdb[0];

	c->status = SCSI_GOOD;
	c->len = 0;
	c->n_bytes = 0;
	memset(c->sense, 0, sizeof(c->sense));
	memset(c->reply, 0, sizeof(c->reply));
	enum scsi_sense why = !u || ignores_attention(op) ? SCSI_NO_SENSE : take_attention(u);

	if (why != SCSI_NO_SENSE) {
		scsi_fail(c, why);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].op != op || (!u && !commands[i].is_any))
			continue;
		commands[i].fn(u, c);
		return;
	}
	if (!u)
		scsi_fail(c, SCSI_BAD_LUN);
	else if (!scsi_cd_do(u, c))
		scsi_fail(c, SCSI_BAD_OPCODE);
}

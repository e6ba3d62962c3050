/* SPDX-License-Identifier: Apache-2.0 */
/* scsi_cd.c - a drive for CDs and DVDs (MMC-6), which reads: one track of data in one session, blocks of 2048 bytes.
 *
 * A medium of up to 80 minutes is a CD-ROM, a longer one a DVD-ROM. Left out on purpose: audio, raw sectors (READ CD),
 * the structures of DVDs, everything that writes, changers, MODE SELECT. What the drive says of itself is in scsi_cd_pages.c. */
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "virtio/scsi_unit.h"

enum {
	START_STOP_UNIT = 0x1b, PREVENT_ALLOW = 0x1e, READ_CAPACITY_10 = 0x25, READ_10 = 0x28, SEEK_10 = 0x2b, READ_TOC = 0x43,
	GET_CONFIGURATION = 0x46, GET_EVENT_STATUS = 0x4a, READ_DISC_INFORMATION = 0x51, MODE_SENSE_6 = 0x1a, MODE_SENSE_10 = 0x5a,
	READ_16 = 0x88, SERVICE_ACTION_IN_16 = 0x9e, READ_12 = 0xa8, MECHANISM_STATUS = 0xbd,
};
enum { READ_CAPACITY_16 = 0x10 };
enum { TRACK_DATA = 0x14 /* ADR 1, data, copy prohibited */, LEAD_OUT = 0xaa, LEAD_IN_FRAMES = 150 };

/* --- reading --- */

static void read_blocks(struct scsi_unit *u, struct scsi_cmd *c, uint64_t lba, uint32_t n)
{
	if (!range_fits(lba, n, scsi_unit_blocks(u))) {
		scsi_fail(c, SCSI_BAD_LBA);
		return;
	}
	c->off = lba * SCSI_CD_BLOCK;
	c->n_bytes = (uint64_t)n * SCSI_CD_BLOCK;
}

static void do_read_10(struct scsi_unit *u, struct scsi_cmd *c)
{
	read_blocks(u, c, get_be32(c->cdb + 2), get_be16(c->cdb + 7));
}

static void do_read_12(struct scsi_unit *u, struct scsi_cmd *c)
{
	read_blocks(u, c, get_be32(c->cdb + 2), get_be32(c->cdb + 6));
}

static void do_read_16(struct scsi_unit *u, struct scsi_cmd *c)
{
	read_blocks(u, c, get_be64(c->cdb + 2), get_be32(c->cdb + 10));
}

static void do_seek(struct scsi_unit *u, struct scsi_cmd *c)
{
	if (get_be32(c->cdb + 2) >= scsi_unit_blocks(u))
		scsi_fail(c, SCSI_BAD_LBA);
}

static void do_read_capacity_10(struct scsi_unit *u, struct scsi_cmd *c)
{
	uint64_t last = scsi_unit_blocks(u) - 1;

	put_be32(c->reply, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
	put_be32(c->reply + 4, SCSI_CD_BLOCK);
	scsi_reply(c, 8, 8);
}

static void do_service_action_in(struct scsi_unit *u, struct scsi_cmd *c)
{
	if ((c->cdb[1] & 0x1f) != READ_CAPACITY_16) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	put_be64(c->reply, scsi_unit_blocks(u) - 1);
	put_be32(c->reply + 8, SCSI_CD_BLOCK);
	scsi_reply(c, 32, get_be32(c->cdb + 10));
}

/* --- what is on the medium --- */

/* MMC-6 4.2.3.2: as a block's number or as minutes, seconds and frames. */
static void put_address(uint8_t at[4], uint64_t lba, bool is_msf)
{
	uint64_t f = lba + LEAD_IN_FRAMES;

	if (!is_msf) {
		put_be32(at, lba > UINT32_MAX ? UINT32_MAX : (uint32_t)lba);
		return;
	}
	at[0] = 0;
	at[1] = (uint8_t)(f / (60 * 75) > 255 ? 255 : f / (60 * 75));
	at[2] = (uint8_t)(f / 75 % 60);
	at[3] = (uint8_t)(f % 75);
}

static void toc_entry(uint8_t *p, uint8_t track, uint64_t lba, bool is_msf)
{
	p[1] = TRACK_DATA;
	p[2] = track;
	put_address(p + 4, lba, is_msf);
}

/* MMC-6 6.25.3.2: the tracks from the one that is asked for on. */
static uint32_t toc_tracks(const struct scsi_unit *u, struct scsi_cmd *c, bool is_msf)
{
	uint8_t from = c->cdb[6], *p = c->reply + 4;

	if (from > 1 && from != LEAD_OUT)
		return 0;
	if (from <= 1) {
		toc_entry(p, 1, 0, is_msf);
		p += 8;
	}
	toc_entry(p, LEAD_OUT, scsi_unit_blocks(u), is_msf);
	return (uint32_t)(p + 8 - c->reply);
}

/* 6.25.3.4: points A0, A1 (first and last track), A2 (lead-out), 1; always in minutes. */
static uint32_t toc_full(const struct scsi_unit *u, struct scsi_cmd *c)
{
	static const uint8_t points[] = { 0xa0, 0xa1, 0xa2, 1 };
	uint8_t *p = c->reply + 4, at[4];

	for (unsigned i = 0; i < ARRAY_LEN(points); i++, p += 11) {
		p[0] = 1;       /* session */
		p[1] = TRACK_DATA;
		p[3] = points[i];
		put_address(at, points[i] == 0xa2 ? scsi_unit_blocks(u) : 0, true);
		if (points[i] == 0xa2 || points[i] == 1)
			memcpy(p + 8, at + 1, 3);
		else
			p[8] = 1;
	}
	return (uint32_t)(p - c->reply);
}

static void do_read_toc(struct scsi_unit *u, struct scsi_cmd *c)
{
	/* Before MMC the format stood in the last byte, where it is still asked for. */
	unsigned format = c->cdb[2] & 0xf ? c->cdb[2] & 0xf : c->cdb[9] >> 6;
	bool is_msf = c->cdb[1] & 2;
	uint32_t n = 0;

	if (format == 0)
		n = toc_tracks(u, c, is_msf);
	else if (format == 1) {         /* sessions */
		toc_entry(c->reply + 4, 1, 0, is_msf);
		n = 12;
	} else if (format == 2) {
		n = toc_full(u, c);
	}
	if (!n) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	put_be16(c->reply, (uint16_t)(n - 2));
	c->reply[2] = c->reply[3] = 1;  /* first and last track or session */
	scsi_reply(c, n, get_be16(c->cdb + 7));
}

/* 6.21: one complete session, which cannot be erased. */
static void do_read_disc_information(struct scsi_unit *u, struct scsi_cmd *c)
{
	enum { LEN = 34 };
	uint8_t *p = c->reply;

	if (c->cdb[1] & 7) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	put_be16(p, LEN - 2);
	p[2] = 0x0e;
	p[3] = p[4] = p[5] = p[6] = 1;
	p[7] = 0x20;            /* for any use */
	memset(p + 16, 0xff, 8);
	scsi_reply(c, LEN, get_be16(c->cdb + 7));
}

/* --- the tray --- */

/* MMC-6 6.6: asked for now, of the medium alone. */
static void do_get_event_status(struct scsi_unit *u, struct scsi_cmd *c)
{
	enum { CLASS_MEDIA = 4, NO_EVENT_AVAILABLE = 0x80 };
	uint32_t n = 4;
	uint8_t *p = c->reply;

	if (!(c->cdb[1] & 1)) { /* tell when there is one */
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	p[2] = NO_EVENT_AVAILABLE;
	p[3] = 1 << CLASS_MEDIA;
	if (c->cdb[4] & 1 << CLASS_MEDIA) {
		n = 8;
		p[2] = CLASS_MEDIA;
		p[4] = u->s->event;
		p[5] = (uint8_t)(u->s->is_tray_open | scsi_unit_is_ready(u) << 1);
		if (get_be16(c->cdb + 7) > 4)
			u->s->event = SCSI_MEDIA_NO_EVENT;
	}
	put_be16(p, (uint16_t)(n - 2));
	scsi_reply(c, n, get_be16(c->cdb + 7));
}

static void do_mechanism_status(struct scsi_unit *u, struct scsi_cmd *c)
{
	c->reply[1] = u->s->is_tray_open ? 0x10 : 0;
	scsi_reply(c, 8, get_be16(c->cdb + 8));
}

/* MMC-6 6.46. A drive without a motor needs no starting. */
static void do_start_stop(struct scsi_unit *u, struct scsi_cmd *c)
{
	enum { START = 1, LOAD_EJECT = 2 };
	bool starts = c->cdb[4] & START;

	if (c->cdb[4] >> 4)     /* power conditions */
		return;
	if (!(c->cdb[4] & LOAD_EJECT)) {
		if (starts && !scsi_unit_is_ready(u))
			scsi_fail(c, u->s->is_tray_open ? SCSI_NO_MEDIUM_TRAY_OPEN : SCSI_NO_MEDIUM_TRAY_CLOSED);
		return;
	}
	if (!starts && u->s->is_locked) {
		scsi_fail(c, SCSI_REMOVAL_PREVENTED);
		return;
	}
	scsi_unit_move_tray(u, !starts);
}

static void do_prevent_allow(struct scsi_unit *u, struct scsi_cmd *c)
{
	u->s->is_locked = c->cdb[4] & 1;
}

/* --- all --- */

static const struct {
	uint8_t op;
	bool needs_medium;
	void (*fn)(struct scsi_unit *u, struct scsi_cmd *c);
} commands[] = {
	{ MODE_SENSE_6,          false, scsi_cd_mode_sense_6 },
	{ START_STOP_UNIT,       false, do_start_stop },
	{ PREVENT_ALLOW,         false, do_prevent_allow },
	{ READ_CAPACITY_10,      true,  do_read_capacity_10 },
	{ READ_10,               true,  do_read_10 },
	{ SEEK_10,               true,  do_seek },
	{ READ_TOC,              true,  do_read_toc },
	{ GET_CONFIGURATION,     false, scsi_cd_get_configuration },
	{ GET_EVENT_STATUS,      false, do_get_event_status },
	{ READ_DISC_INFORMATION, true,  do_read_disc_information },
	{ MODE_SENSE_10,         false, scsi_cd_mode_sense_10 },
	{ READ_16,               true,  do_read_16 },
	{ SERVICE_ACTION_IN_16,  true,  do_service_action_in },
	{ READ_12,               true,  do_read_12 },
	{ MECHANISM_STATUS,      false, do_mechanism_status },
};

bool scsi_cd_do(struct scsi_unit *u, struct scsi_cmd *c)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].op != c->cdb[0])
			continue;
		if (commands[i].needs_medium && !scsi_unit_is_ready(u))
			scsi_fail(c, u->s->is_tray_open ? SCSI_NO_MEDIUM_TRAY_OPEN : SCSI_NO_MEDIUM_TRAY_CLOSED);
		else
			commands[i].fn(u, c);
		return true;
	}
	return false;
}

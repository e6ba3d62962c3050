/* SPDX-License-Identifier: Apache-2.0 */
/* What a drive for CDs and DVDs says of itself: features (MMC-6 5.3) and mode pages. */
#include "util/checked.h"
#include "util/endian.h"
#include "virtio/scsi_unit.h"

enum { PROFILE_NONE = 0, PROFILE_CD = 0x08, PROFILE_DVD = 0x10 };
#define CD_BLOCKS_MAX (80u * 60 * 75)

static unsigned profile_now(const struct scsi_unit *u)
{
	uint64_t n = scsi_unit_blocks(u);

	return !n ? PROFILE_NONE : n <= CD_BLOCKS_MAX ? PROFILE_CD : PROFILE_DVD;
}

/* --- features --- */

static uint8_t *feature(uint8_t *p, unsigned code, unsigned flags, unsigned len)
{
	put_be16(p, (uint16_t)code);
	p[2] = (uint8_t)flags;
	p[3] = (uint8_t)len;
	return p + 4;
}

enum feature_flag { F_CURRENT = 1, F_PERSISTENT = 2, F_ALWAYS = 3, F_VERSION_SHIFT = 2 };

static void feature_profiles(uint8_t *p, unsigned profile)
{
	put_be16(p, PROFILE_DVD);
	p[2] = profile == PROFILE_DVD;
	put_be16(p + 4, PROFILE_CD);
	p[6] = profile == PROFILE_CD;
}

static void feature_core(uint8_t *p, unsigned profile)
{
	put_be32(p, 1);         /* SCSI */
}

static void feature_removable(uint8_t *p, unsigned profile)
{
	p[0] = 0x29;            /* a tray, that can eject, and be locked */
}

static void feature_random_read(uint8_t *p, unsigned profile)
{
	put_be32(p, SCSI_CD_BLOCK);
	put_be16(p + 4, profile == PROFILE_DVD ? 16 : 1);
}

/* MMC-6 5.3, ascending. */
static const struct {
	uint16_t code;
	uint8_t flags, len;
	uint8_t of;             /* the profile in which it is current; 0: in any */
	void (*fill)(uint8_t *p, unsigned profile);     /* NULL: all zero */
} features[] = {
	{ 0x0000, F_ALWAYS,                         8, 0,           feature_profiles },
	{ 0x0001, F_ALWAYS | 2 << F_VERSION_SHIFT,  8, 0,           feature_core },
	{ 0x0003, F_ALWAYS,                         4, 0,           feature_removable },
	{ 0x0010, 0,                                8, 0,           feature_random_read },
	{ 0x001e, 2 << F_VERSION_SHIFT,             4, PROFILE_CD,  NULL },
	{ 0x001f, 0,                                4, PROFILE_DVD, NULL },
	{ 0x0100, F_ALWAYS,                         0, 0,           NULL },     /* power management */
	{ 0x0105, F_ALWAYS,                         4, 0,           NULL },     /* timeouts */
};

void scsi_cd_get_configuration(struct scsi_unit *u, struct scsi_cmd *c)
{
	unsigned want = c->cdb[1] & 3, from = get_be16(c->cdb + 2), profile = profile_now(u);
	uint8_t *p = c->reply + 8;

	if (want == 3) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		bool is_current = profile && (!features[i].of || features[i].of == profile);
		unsigned flags = features[i].flags | is_current;

		if (want == 2 ? features[i].code != from : features[i].code < from)
			continue;
		if (want == 1 && !(flags & F_CURRENT))
			continue;
		p = feature(p, features[i].code, flags, features[i].len);
		if (features[i].fill)
			features[i].fill(p, profile);
		p += features[i].len;
	}
	put_be32(c->reply, (uint32_t)(p - c->reply - 4));
	put_be16(c->reply + 6, (uint16_t)profile);
	scsi_reply(c, (uint32_t)(p - c->reply), get_be16(c->cdb + 7));
}

/* --- mode pages --- */

static void page_errors(const struct scsi_unit *u, uint8_t *p) { }

static void page_capabilities(const struct scsi_unit *u, uint8_t *p)
{
	p[2] = 0x0b;            /* reads CD-R, CD-RW, DVD-ROM */
	p[4] = 0x40;            /* more than one session */
	p[6] = (uint8_t)(0x29 | u->s->is_locked << 1);  /* as feature_removable() */
	put_be16(p + 8, 176 * 50);
	put_be16(p + 12, 512);  /* KiB of buffer */
	put_be16(p + 14, 176 * 50);
}

static const struct {
	uint8_t code, len;      /* with the two bytes of the header */
	void (*fill)(const struct scsi_unit *u, uint8_t *p);
} pages[] = {
	{ 0x01, 12, page_errors },
	{ 0x2a, 22, page_capabilities },
};

/* SPC-4 6.11, 6.12. Nothing can be changed. */
static void mode_sense(struct scsi_unit *u, struct scsi_cmd *c, unsigned header, uint32_t room)
{
	enum { ALL = 0x3f, CHANGEABLE = 1, SAVED = 3 };
	unsigned what = c->cdb[2] >> 6, code = c->cdb[2] & ALL;
	uint8_t *p = c->reply + header;

	if (c->cdb[3] && !(code == ALL && c->cdb[3] == 0xff)) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	if (what == SAVED) {
		scsi_fail(c, SCSI_NOT_SAVED);
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		if (code != ALL && code != pages[i].code)
			continue;
		p[0] = pages[i].code;
		p[1] = (uint8_t)(pages[i].len - 2);
		if (what != CHANGEABLE)
			pages[i].fill(u, p);
		p += pages[i].len;
	}
	uint32_t n = (uint32_t)(p - c->reply);

	if (n == header) {
		scsi_fail(c, SCSI_BAD_FIELD);
		return;
	}
	if (header == 4)
		c->reply[0] = (uint8_t)(n - 1);
	else
		put_be16(c->reply, (uint16_t)(n - 2));
	scsi_reply(c, n, room);
}

void scsi_cd_mode_sense_6(struct scsi_unit *u, struct scsi_cmd *c)
{
	mode_sense(u, c, 4, c->cdb[4]);
}

void scsi_cd_mode_sense_10(struct scsi_unit *u, struct scsi_cmd *c)
{
	mode_sense(u, c, 8, get_be16(c->cdb + 7));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* scsi_unit.h - a logical unit: what SCSI commands do, whatever brings them. scsi.c brings them by virtio.
 *
 * SPC-4 (primary commands), SAM-5 (status, unit attention). There is one type of unit, a drive for CDs and DVDs, whose
 * commands are those of MMC-6 (scsi_cd.c). Nothing here waits: a command is answered at once, or says what is to be
 * read of the medium. Every byte of a CDB is the guest's: lengths are compared where they are used.
 *
 * Owner: whoever brings commands; no locks here. */
#ifndef VIRTIO_SCSI_UNIT_H
#define VIRTIO_SCSI_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct blk;

enum {
	SCSI_CDB_MAX = 32,              /* bytes of a command that are looked at; none that we know has more than 16 */
	SCSI_REPLY_MAX = 256,           /* bytes of the longest answer that is not the medium's */
	SCSI_SENSE_LEN = 18,            /* fixed format, SPC-4 4.5.3 */
	SCSI_SERIAL_MAX = 31,
	SCSI_CD_BLOCK = 2048,
};

enum scsi_status { SCSI_GOOD = 0, SCSI_CHECK_CONDITION = 2, SCSI_BUSY = 8 };    /* SAM-5 5.3 */

/* Sense key, additional sense code and its qualifier: SPC-4 annex F. */
#define SCSI_SENSE(key, asc, ascq) ((key) << 16 | (asc) << 8 | (ascq))
enum scsi_sense {
	SCSI_NO_SENSE = 0,
	SCSI_NO_MEDIUM_TRAY_CLOSED = SCSI_SENSE(2, 0x3a, 1),
	SCSI_NO_MEDIUM_TRAY_OPEN = SCSI_SENSE(2, 0x3a, 2),
	SCSI_READ_ERROR = SCSI_SENSE(3, 0x11, 0),
	SCSI_BAD_OPCODE = SCSI_SENSE(5, 0x20, 0),
	SCSI_BAD_LBA = SCSI_SENSE(5, 0x21, 0),
	SCSI_BAD_FIELD = SCSI_SENSE(5, 0x24, 0),
	SCSI_BAD_LUN = SCSI_SENSE(5, 0x25, 0),
	SCSI_NOT_SAVED = SCSI_SENSE(5, 0x39, 0),        /* saving parameters is not supported */
	SCSI_REMOVAL_PREVENTED = SCSI_SENSE(5, 0x53, 2),
	SCSI_MEDIUM_CHANGED = SCSI_SENSE(6, 0x28, 0),
	SCSI_WAS_RESET = SCSI_SENSE(6, 0x29, 0),
};

/* Unit attentions that the guest has not been told of, bits; in the order of telling. */
enum scsi_attention { SCSI_ATTENTION_RESET = 1, SCSI_ATTENTION_MEDIUM = 2, SCSI_ATTENTION_ALL = 3 };
/* Of the medium, MMC-6 table 316: the last that has not been told. */
enum scsi_media_event {
	SCSI_MEDIA_NO_EVENT = 0, SCSI_MEDIA_EJECT_REQUEST = 1, SCSI_MEDIA_NEW = 2, SCSI_MEDIA_REMOVAL = 3, SCSI_MEDIA_N_EVENTS,
};

/* What the guest can see and change. */
struct scsi_unit_state {
	uint8_t attention;              /* enum scsi_attention */
	uint8_t event;                  /* enum scsi_media_event */
	uint8_t is_locked;              /* the guest prevents removal */
	uint8_t is_tray_open;
};

struct scsi_unit {
	struct scsi_unit_state *s;
	struct blk *medium;             /* in the tray, borrowed; NULL: none */
	char serial[SCSI_SERIAL_MAX + 1];
	bool has_tray_moved;            /* by a command: for the owner, who clears it */
};

/* One command and what comes of it. */
struct scsi_cmd {
	uint8_t cdb[SCSI_CDB_MAX];      /* shorter ones end in zeroes */
	uint8_t status;                 /* enum scsi_status */
	uint8_t sense[SCSI_SENSE_LEN];  /* with CHECK CONDITION */
	uint8_t reply[SCSI_REPLY_MAX];
	uint32_t len;                   /* bytes of REPLY that the guest wants */
	uint64_t off, n_bytes;          /* of the medium, to be read instead; N_BYTES 0: nothing */
};

/* Do what CDB says for U; fills all of C but CDB. U NULL: the target has no such unit. */
void scsi_unit_do(struct scsi_unit *u, struct scsi_cmd *c);
/* C fails, with WHY. */
void scsi_fail(struct scsi_cmd *c, enum scsi_sense why);
/* As a reset of the unit leaves it: unlocked, the tray closed. */
void scsi_unit_reset(struct scsi_unit *u);
/* Can commands reach the medium? */
bool scsi_unit_is_ready(const struct scsi_unit *u);
/* Blocks of the medium; 0: there is none, or it is out of reach. */
uint64_t scsi_unit_blocks(const struct scsi_unit *u);
/* The tray opens or closes, with what is in it. */
void scsi_unit_move_tray(struct scsi_unit *u, bool is_open);

/* --- for scsi_cd.c --- */

/* The answer: LEN bytes of C->reply, of which the guest has room for ROOM. */
void scsi_reply(struct scsi_cmd *c, uint32_t len, uint32_t room);
/* Commands of MMC. False: there is no such one. */
bool scsi_cd_do(struct scsi_unit *u, struct scsi_cmd *c);
/* Some of them: scsi_cd_pages.c. */
void scsi_cd_get_configuration(struct scsi_unit *u, struct scsi_cmd *c);
void scsi_cd_mode_sense_6(struct scsi_unit *u, struct scsi_cmd *c);
void scsi_cd_mode_sense_10(struct scsi_unit *u, struct scsi_cmd *c);

#endif

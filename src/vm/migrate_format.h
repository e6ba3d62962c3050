/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_format.h - the bytes of docs/formats/migration.md, for migrate_*.c. */
#ifndef VM_MIGRATE_FORMAT_H
#define VM_MIGRATE_FORMAT_H

#include <stdint.h>
#include "util/endian.h"

#define MIGRATE_MAGIC "VIVMIGRT"

enum {
	MIGRATE_VERSION = 1,
	MIGRATE_PAGES_MAX = 1 << 20,            /* bytes of RAM in one record */
	MIGRATE_SECTIONS_MAX = 64 << 20,
	MIGRATE_HANDS_MAX = 64 << 10,
	MIGRATE_FDS_MAX = 96,                   /* descriptors beside one record */
	MIGRATE_TEXT_MAX = 507,                 /* of a sentence */
	MIGRATE_STREAMS_MAX = 8,                /* connections of one migration that carry memory */
	MIGRATE_DISKS_MAX = 16,                 /* disks of a machine */
	MIGRATE_SOCKETS_MAX = MIGRATE_STREAMS_MAX + MIGRATE_DISKS_MAX,  /* one for each disk that goes along */
	MIGRATE_DISK_NAME_LEN = 32,
	MIGRATE_TOKEN_LEN = 16,
	MIGRATE_PLAN_POSTCOPY = 1,              /* flags of a plan */
	MIGRATE_PLAN_DISKS = 2,
	MIGRATE_JOIN_DISK = 32,                 /* and the disk's number: its connection */
	MIGRATE_DISK_COMES = 1,                 /* flags of a disk */
	MIGRATE_DISK_READONLY = 2,
	MIGRATE_OWED_WORDS = 4096,              /* of one record, at most */
	MIGRATE_REQUEST_PAGES = 64,             /* the same */
};

enum migrate_type {
	MIGRATE_HELLO = 1,      /* both: who speaks */
	MIGRATE_MACHINE,        /* source: what machine it is, as sections */
	MIGRATE_BUILT,          /* destination: it has been built */
	MIGRATE_PAGES,          /* source: some of guest memory */
	MIGRATE_STATE,          /* source: all other state, as sections; memory is complete */
	MIGRATE_READY,          /* destination: it has everything and could run */
	MIGRATE_COMMIT,         /* source: it is yours */
	MIGRATE_DONE,           /* destination: it is mine, disks and all */
	MIGRATE_FAIL,           /* both, before DONE: a sentence; nothing comes of it */
	MIGRATE_HANDS,          /* source, after MACHINE, in an upgrade: descriptors, and what they are */
	MIGRATE_PLAN,           /* source, before MACHINE, if there is more than one connection */
	MIGRATE_JOIN,           /* source, first on each further connection */
	MIGRATE_END,            /* source, last on each further connection */
	MIGRATE_ALIVE,          /* source, among PAGES, when it waits for the further connections */
	MIGRATE_OWED,           /* source, before STATE: pages that come when it runs; and back, after RECOVER */
	MIGRATE_REQUEST,        /* destination, on the second connection: pages that somebody waits for */
	MIGRATE_RECOVER,        /* source, after HELLO on a new connection: here is what you are owed */
	MIGRATE_COMPLETE,       /* destination: it has all memory */
	MIGRATE_DISKS,          /* source, after PLAN: what disks there are, and which come over connections of their own */
	MIGRATE_N_TYPES
};

struct migrate_head {           /* of every record */
	le32 type, len;         /* bytes of payload */
	le32 crc;               /* CRC-32C of head with zeroes here, and payload */
};
_Static_assert(sizeof(struct migrate_head) == 12, "docs/formats/migration.md");

struct migrate_hello {
	char magic[8];
	le32 version;
	le32 pid;               /* of the destination; of the source 0 */
	le64 ram;               /* bytes of guest memory; of the destination 0 */
};
_Static_assert(sizeof(struct migrate_hello) == 24, "docs/formats/migration.md");

struct migrate_plan {
	uint8_t token[MIGRATE_TOKEN_LEN];       /* random: what the further connections say */
	le32 n_streams;         /* connections in all */
	le32 flags;             /* MIGRATE_PLAN_POSTCOPY, MIGRATE_PLAN_DISKS */
};
_Static_assert(sizeof(struct migrate_plan) == 24, "docs/formats/migration.md");

struct migrate_owed {           /* then up to MIGRATE_OWED_WORDS le64, a bit for each page */
	le64 first;             /* of its words, in all of RAM */
};
_Static_assert(sizeof(struct migrate_owed) == 8, "docs/formats/migration.md");

struct migrate_join {
	uint8_t token[MIGRATE_TOKEN_LEN];
	le32 n;                 /* which it is, from 1 on; from MIGRATE_JOIN_DISK on a disk's */
};
_Static_assert(sizeof(struct migrate_join) == 20, "docs/formats/migration.md");

struct migrate_disk_row {       /* of DISKS: one for each disk of the machine, in its order */
	char name[MIGRATE_DISK_NAME_LEN];       /* zeroes behind it, one at least */
	le64 size;              /* bytes */
	le32 flags;             /* MIGRATE_DISK_COMES, MIGRATE_DISK_READONLY */
	le32 reserved;          /* 0 */
};
_Static_assert(sizeof(struct migrate_disk_row) == 48, "docs/formats/migration.md");

enum migrate_packing { MIGRATE_ZERO = 0, MIGRATE_RAW = 1, MIGRATE_ZSTD = 2, MIGRATE_LZ4 = 3 };

struct migrate_pages {          /* then the stored bytes */
	le64 off;               /* in RAM; multiple of 4096 */
	le32 len;               /* bytes of RAM; multiple of 4096 */
	le32 packing;
};
_Static_assert(sizeof(struct migrate_pages) == 16, "docs/formats/migration.md");

#endif

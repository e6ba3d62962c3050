/* SPDX-License-Identifier: Apache-2.0 */
/* state_format.h - the bytes of docs/formats/saved-state.md, for state_write.c and state_file.c. */
#ifndef VM_STATE_FORMAT_H
#define VM_STATE_FORMAT_H

#include <stdint.h>
#include "util/endian.h"

#define STATE_MAGIC "VIVSTATE"
#define STATE_END_MAGIC "VIVSTEND"
#define STATE_TABLE_TAG "memory"
#define STATE_RAM_TAG "ram"             /* of an encrypted file: le64, what state_header.ram is of others */

struct state_header {
	char magic[8];
	le32 version;
	le32 crc;               /* of the header with zeroes here */
	le64 file_len;
	le64 memory_off, memory_len;
	le64 ram;               /* bytes of guest memory */
	le64 sections_off;
	le32 sections_len;
	le32 packing;
};
_Static_assert(sizeof(struct state_header) == 64, "docs/formats/saved-state.md");

enum { STATE_KEY_LEN = 32, STATE_SALT_LEN = 32, STATE_KDF_ARGON2ID = 1 };

struct state_lock {             /* behind the header of an encrypted file */
	le32 kdf;
	le32 memory_kib, passes, lanes;
	uint8_t salt[STATE_SALT_LEN];
	uint8_t key[STATE_KEY_LEN];     /* the file's, encrypted */
	uint8_t key_tag[16];
	le32 crc;               /* of the lock with zeroes here */
	le32 reserved;
};
_Static_assert(sizeof(struct state_lock) == 104, "docs/formats/saved-state.md");

struct state_head {             /* what an encrypted file begins with */
	struct state_header header;
	struct state_lock lock;
};
_Static_assert(sizeof(struct state_head) == 168, "docs/formats/saved-state.md");

struct state_place {            /* what is known of a piece of memory beside its number: additional authenticated data */
	le64 off;
	le32 len;
	le32 packing;
};
_Static_assert(sizeof(struct state_place) == 16, "docs/formats/saved-state.md");

struct state_end {
	char magic[8];
	le32 header_crc;
	le32 reserved;
};
_Static_assert(sizeof(struct state_end) == 16, "docs/formats/saved-state.md");

struct state_extent {           /* of guest memory that is not zero */
	le64 off;               /* in RAM */
	le64 at;                /* in the file */
	le32 len, stored;       /* bytes in RAM, in the file */
	le32 crc;               /* of the bytes in RAM */
	le32 reserved;
};
_Static_assert(sizeof(struct state_extent) == 32, "docs/formats/saved-state.md");

enum {
	STATE_VERSION = 1, STATE_VERSION_SEALED = 2,
	STATE_MEMORY_OFF = 4096,        /* as written here */
	STATE_EXTENT_MAX = 1 << 20,
	STATE_SECTIONS_MAX = 64 << 20,
	STATE_TAG_MAX = 255,
};

#endif

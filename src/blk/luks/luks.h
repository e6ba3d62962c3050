/* SPDX-License-Identifier: Apache-2.0 */
/* luks.h - encryption of disks in the formats LUKS1 and LUKS2.
 *
 * "LUKS On-Disk Format Specification" 1.2.3 and "LUKS2 On-Disk Format Specification" 1.1.1; section names
 * in the code are theirs. The data is encrypted with a random volume key; each key slot holds that key,
 * encrypted with what a passphrase derives. docs/formats/luks.md says what is supported.
 *
 * struct luks is such a header wherever it stands: the driver `luks` puts one in front of a disk, qcow2 into
 * its own clusters. Functions called co run in a coroutine on the loop thread; deriving keys and crypting
 * larger pieces happens on other threads meanwhile. Key material is overwritten when it was used. */
#ifndef BLK_LUKS_LUKS_H
#define BLK_LUKS_LUKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "blk/opts.h"
#include "util/cleanup.h"

struct blk;
struct blk_driver;
struct blk_secret;
struct err;
struct json_t;
struct luks;

extern const struct blk_driver blk_luks;

enum {
	LUKS_SLOTS_MAX = 32,            /* LUKS1 has 8 */
	LUKS_HEADER_MAX = 256 << 20,    /* bytes that a header with its key slots may have */
};

/* --- key slots of an open image, for tools --------------------------------------------------------- */

struct blk_luks_slot {
	unsigned index;
	bool is_bound;                  /* opens this disk; LUKS2 can keep other keys too */
	char cipher[64];                /* that the slot itself is encrypted with: "aes-xts-plain64" */
	char kdf[16], hash[32];         /* "pbkdf2", "argon2i", "argon2id"; of the first only: the hash */
	uint32_t iterations;            /* of argon2: passes */
	uint32_t memory_kib, lanes;     /* argon2 */
};

/* B is an image of format luks, or of qcow2 with LUKS inside; else -ENOTSUP. N of them in SLOTS, which has
 * room for LUKS_SLOTS_MAX. Works without its key, too. */
int blk_luks_slots(struct blk *b, struct blk_luks_slot *slots, unsigned *n, struct err *err);
/* The image must have been opened for writing, with its key. Adding returns the number of the slot. FORMAT: how
 * the new slot is made, options of luks_slot_opts (NULL: defaults). -ENOSPC: no slot is free. */
int blk_luks_add_key(struct blk *b, const struct blk_secret *key, const struct blk_opts *opts, struct err *err);
/* Destroy what is in slot INDEX. The last one goes only with IS_FORCED: nothing opens the disk then, ever. */
int blk_luks_remove_slot(struct blk *b, unsigned index, bool is_forced, struct err *err);
/* The slot that KEY opens: destroyed. -EKEYREJECTED: there is none. */
int blk_luks_remove_key(struct blk *b, const struct blk_secret *key, bool is_forced, struct err *err);
/* NOW takes the place of OLD: a slot is made, then that of OLD is destroyed. Returns the number of the new. */
int blk_luks_change_key(struct blk *b, const struct blk_secret *old, const struct blk_secret *now,
			const struct blk_opts *opts, struct err *err);
/* Which slot does KEY open? -EKEYREJECTED. */
int blk_luks_find_key(struct blk *b, const struct blk_secret *key, struct err *err);
/* Options of a key slot: how long a passphrase takes to try. */
extern const struct blk_opt luks_slot_opts[];

/* --- headers, for drivers ---------------------------------------------------------------------------- */

struct luks_place {
	struct blk *node;               /* borrowed: must outlive the header */
	uint64_t off, len;              /* bytes from OFF on that are the header's */
	bool has_data;                  /* data follows behind the header in NODE (not detached, not qcow2) */
	const char *name;               /* of the image, for sentences; borrowed */
};

/* Read and check a header. */
int luks_co_open(struct luks **out, const struct luks_place *p, struct err *err);
void luks_free(struct luks *l);                 /* NULL is fine; overwrites keys */
DEFINE_AUTO(struct luks *, luks_free)
/* Find a slot that one of N passphrases opens. SLOT < 0: any. -ENOKEY with N of 0, -EKEYREJECTED. */
int luks_co_unlock(struct luks *l, const struct blk_secret *secrets, unsigned n, int slot, struct err *err);
/* The same for image B, which is being opened: with the key that was kept of it, or that another opening of it has, or with
 * the passphrases of its options. */
int luks_co_unlock_node(struct luks *l, const struct blk *b, int slot, struct err *err);
/* B's driver closes: L (taken, NULL is fine) goes, or is kept for the next opening. */
void luks_leave_node(struct luks *l, struct blk *b);
bool luks_is_unlocked(const struct luks *l);
unsigned luks_version(const struct luks *l);
unsigned luks_sector_size(const struct luks *l);        /* what is encrypted as one: 512 to 4096 bytes */
uint64_t luks_data_off(const struct luks *l);           /* where the data starts in its file */
uint64_t luks_data_size(const struct luks *l);          /* 0: all that follows */
/* LEN bytes at byte OFF of what is encrypted, in place; multiples of the sector size. The header must be
 * unlocked. B: of the same disk, whose threads work. 0 or -errno. */
int luks_co_crypt(struct luks *l, struct blk *b, bool is_encrypting, uint64_t off, uint8_t *buf, size_t len);
int luks_co_info(struct luks *l, struct json_t *out);   /* adds to an object */

/* Rows for the tables of create options, and the rows of a slot; PREFIX goes before each name. */
extern const char *const luks_ciphers[], *const luks_modes[], *const luks_hashes[], *const luks_kdfs[];
#define LUKS_SLOT_OPTS(prefix)                                                                          \
	{ prefix "pbkdf", BLK_OPT_CHOICE, NULL, "what makes a key of a passphrase: pbkdf2, argon2i or argon2id", \
	  0, 0, luks_kdfs },                                                                            \
	{ prefix "iter-time", BLK_OPT_NUMBER, "2000", "milliseconds that trying a passphrase takes", 1, 60000, NULL }
#define LUKS_CREATE_OPTS(prefix)                                                                        \
	{ prefix "cipher-alg", BLK_OPT_CHOICE, "aes-256", "aes-128 or aes-256", 0, 0, luks_ciphers },   \
	{ prefix "cipher-mode", BLK_OPT_CHOICE, "xts", "xts (plain64) or cbc (essiv:sha256)", 0, 0, luks_modes }, \
	{ prefix "hash-alg", BLK_OPT_CHOICE, "sha256", "sha1, sha256 or sha512", 0, 0, luks_hashes },   \
	LUKS_SLOT_OPTS(prefix)

struct luks_format {
	unsigned version;               /* 1 or 2 */
	unsigned sector_size;           /* LUKS1: 512 */
	uint64_t data_off;              /* 0: right behind the header, aligned to 1 MiB */
	const struct blk_opts *opts;    /* its table has LUKS_CREATE_OPTS(PREFIX) */
	const char *prefix;
	const struct blk_secret *secret;
};
/* Room that a new header needs, and where data may begin behind it. */
uint64_t luks_header_room(const struct luks_format *f);
/* The same for an image of format luks with these options of creation; 0: its header is in a file of its own. */
uint64_t luks_image_room(const struct blk_opts *opts);
/* Write a new header with one key slot to P. */
int luks_co_create(const struct luks_place *p, const struct luks_format *f, struct err *err);

/* The header of an open image: of the driver luks itself, or set by one that has a header inside. NULL: none. */
struct luks *luks_of(struct blk *b);

#endif

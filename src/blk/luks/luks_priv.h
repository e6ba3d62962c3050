/* SPDX-License-Identifier: Apache-2.0 */
/* luks_priv.h - between the files of LUKS: one model of a header for both versions. Loop thread but for what says
 * otherwise. */
#ifndef BLK_LUKS_LUKS_PRIV_H
#define BLK_LUKS_LUKS_PRIV_H

#include <jansson.h>
#include "blk/blk_ops.h"
#include "blk/luks/luks.h"
#include "blk/secret.h"
#include "util/checked.h"
#include "util/endian.h"

enum {
	LUKS_KEY_MAX = 64,              /* bytes: two keys of 256 bits */
	LUKS_DIGEST_MAX = 64, LUKS_SALT_MAX = 64,
	LUKS_STRIPES = 4000,            /* of the anti-forensic splitter; both formats know no other */
	LUKS1_SLOTS = 8, LUKS1_SALT = 32, LUKS1_DIGEST = 20,
	LUKS_UUID_LEN = 40, LUKS_SPEC_MAX = 64, LUKS_HASH_MAX = 32,
	LUKS_ALIGN = 4096,              /* of key slots that we make */
};

/* --- kdf.c: hashes and what makes keys of passphrases. Any thread. ------------------------------------- */

enum luks_kdf_type { LUKS_PBKDF2, LUKS_ARGON2I, LUKS_ARGON2ID };

struct luks_kdf {
	enum luks_kdf_type type;
	char hash[LUKS_HASH_MAX];       /* PBKDF2 */
	uint32_t iterations;            /* argon2: passes */
	uint32_t memory_kib, lanes;     /* argon2 */
	uint8_t salt[LUKS_SALT_MAX];
	unsigned salt_len;
};

unsigned luks_hash_size(const char *name);      /* bytes of a digest; 0: not known */
/* The digest of two pieces one after the other. 0 or -EIO. */
int luks_hash(const char *name, const void *a, size_t a_len, const void *b, size_t b_len, uint8_t *out);
int luks_random(void *buf, size_t len);
/* Is it known, and inside the bounds that keep a hostile header from taking the machine? */
int luks_kdf_check(const struct luks_kdf *k, const char *name, struct err *err);
/* Slow on purpose. 0, -ENOMEM, -EIO. */
int luks_kdf_derive(const struct luks_kdf *k, const void *pass, size_t pass_len, uint8_t *out, size_t len);
/* Costs that make deriving LEN bytes take about MS on this machine. Takes about that long itself. */
int luks_kdf_tune(struct luks_kdf *k, unsigned ms, size_t len);
const char *luks_kdf_name(enum luks_kdf_type t);

/* --- af.c: the anti-forensic splitter. Any thread. ------------------------------------------------------ */

int luks_af_split(const char *hash, const uint8_t *key, size_t len, unsigned stripes, uint8_t *out);
int luks_af_merge(const char *hash, const uint8_t *in, size_t len, unsigned stripes, uint8_t *key);

/* --- cipher.c: sectors. Any thread. ----------------------------------------------------------------------- */

struct luks_cipher;
/* SPEC: "aes-xts-plain64", "aes-cbc-essiv:sha256" ... 0: known, with keys of KEY_LEN bytes; else -ENOTSUP with a
 * sentence about the image NAME. */
int luks_cipher_check(const char *spec, size_t key_len, const char *name, struct err *err);
int luks_cipher_new(struct luks_cipher **out, const char *spec, const uint8_t *key, size_t key_len,
		    unsigned sector_size);
void luks_cipher_free(struct luks_cipher *c);   /* NULL is fine */
DEFINE_AUTO(struct luks_cipher *, luks_cipher_free)
/* Whole sectors in place; the first has the number SECTOR, in units of 512 bytes. */
int luks_cipher_run(struct luks_cipher *c, bool is_encrypting, uint64_t sector, uint8_t *buf, size_t len);

/* --- the header ------------------------------------------------------------------------------------------- */

struct luks_slot {
	bool is_used;
	bool is_bound;                  /* its key is the volume key */
	bool is_ignored;                /* LUKS2, priority 0: only when it is asked for */
	struct luks_kdf kdf;
	char af_hash[LUKS_HASH_MAX];
	char cipher[LUKS_SPEC_MAX];     /* of the area */
	unsigned area_key_bytes, key_bytes;     /* of the key that it is encrypted with, and that it holds */
	uint64_t off, len;              /* the area: from the start of the header */
};

struct luks_digest {
	char hash[LUKS_HASH_MAX];
	uint32_t iterations;
	uint8_t salt[LUKS_SALT_MAX], value[LUKS_DIGEST_MAX];
	unsigned salt_len, len;
};

struct luks2_header {                           /* section "Binary Header" */
	uint8_t magic[6];
	be16 version;
	be64 hdr_size, seqid;
	char label[48], checksum_alg[32];
	uint8_t salt[64];
	char uuid[40], subsystem[48];
	be64 hdr_offset;
	uint8_t padding[184], csum[64], padding2[7 * 512];
};
_Static_assert(sizeof(struct luks2_header) == 4096, "Binary Header");

struct luks {
	struct luks_place p;
	unsigned version;
	char uuid[LUKS_UUID_LEN + 1];
	/* the volume key and the data */
	unsigned key_bytes;
	char cipher[LUKS_SPEC_MAX];
	unsigned sector_size;
	uint64_t data_off, data_size, iv_tweak;         /* bytes, bytes (0: all), sectors of 512 */
	struct luks_digest digest;
	unsigned n_slots;
	struct luks_slot slots[LUKS_SLOTS_MAX];
	/* LUKS1: the hash of everything */
	char hash[LUKS_HASH_MAX];
	/* LUKS2 */
	struct luks2_header head;       /* of the newer copy */
	uint64_t hdr_size, seqid, keyslots_len;
	json_t *json;                   /* owned */
	char digest_id[4];              /* of the digest that the segment has */
	bool copy_is_good[2];
	/* unlocked */
	int opened_slot;                /* -1: locked */
	uint8_t key[LUKS_KEY_MAX];
	struct luks_cipher *data;
	struct co_mutex lock;           /* changes of key slots: one at a time */
};

/* header1.c, header2.c: BUF is what stands at the start of the place. */
int luks1_parse(struct luks *l, const uint8_t *buf, size_t len, struct err *err);
int luks1_co_write(struct luks *l);     /* and flush */
int luks2_co_read(struct luks *l, struct err *err);
int luks2_co_write(struct luks *l);     /* both copies, one after the other, durable */
int luks2_co_check(struct luks *l, bool is_fixing, struct blk_check *c);

/* json2.c */
int luks2_json_parse(struct luks *l, const char *text, size_t len, struct err *err);
int luks2_json_new(struct luks *l);     /* of a header without slots */
int luks2_json_put_slot(struct luks *l, unsigned i);
int luks2_json_drop_slot(struct luks *l, unsigned i);

/* slot.c: the area of a slot. From coroutines; the calculations run on a thread. */
uint64_t luks_area_len(unsigned key_bytes);     /* bytes of key material, in whole sectors */
/* Do areas lie where they may, and over nothing else? FIRST, END: where they may be. */
int luks_slots_check(const struct luks *l, uint64_t first, uint64_t end, struct err *err);
int luks_co_slot_open(struct luks *l, unsigned i, const struct blk_secret *s, uint8_t *key);    /* -EKEYREJECTED */
int luks_co_slot_write(struct luks *l, unsigned i, const struct blk_secret *s, unsigned ms);
int luks_co_slot_destroy(struct luks *l, unsigned i);
int luks_digest_make(struct luks *l, unsigned ms);
/* Hashes and cipher as the whole image has them. */
void luks_slot_names(struct luks_slot *s, const struct luks *l);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* header1.c - the header of LUKS1: one sector and a bit, big-endian; section "Partition header". */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { SLOT_DEAD = 0x0000dead, SLOT_ACTIVE = 0x00ac71f3 };

struct luks1_slot {
	be32 state, iterations;
	uint8_t salt[LUKS1_SALT];
	be32 offset, stripes;                   /* in sectors of 512 bytes */
};

struct luks1_header {
	uint8_t magic[6];
	be16 version;
	char cipher_name[32], cipher_mode[32], hash[32];
	be32 payload_offset, key_bytes;         /* in sectors; of the volume key */
	uint8_t digest[LUKS1_DIGEST], digest_salt[LUKS1_SALT];
	be32 digest_iterations;
	char uuid[LUKS_UUID_LEN];
	struct luks1_slot slots[LUKS1_SLOTS];
};
_Static_assert(sizeof(struct luks1_header) == 592, "Partition header");

static int luks1_strings(struct luks *l, const struct luks1_header *h, struct err *err)
{
	if (!memchr(h->cipher_name, 0, 32) || !memchr(h->cipher_mode, 0, 32) || !memchr(h->hash, 0, 32) ||
	    !memchr(h->uuid, 0, LUKS_UUID_LEN) || strlen(h->cipher_name) + strlen(h->cipher_mode) + 2 > LUKS_SPEC_MAX)
		return err_set(err, -EINVAL, "a name in the LUKS header of '%s' has no end", l->p.name);
	snprintf(l->cipher, sizeof(l->cipher), "%.31s-%.31s", h->cipher_name, h->cipher_mode);
	snprintf(l->hash, sizeof(l->hash), "%.31s", h->hash);
	snprintf(l->uuid, sizeof(l->uuid), "%.39s", h->uuid);
	if (!luks_hash_size(l->hash))
		return err_set(err, -ENOTSUP, "'%s' uses the hash '%s', which is not supported", l->p.name, l->hash);
	return 0;
}

static int luks1_slot(struct luks *l, unsigned i, const struct luks1_slot *from, struct err *err)
{
	struct luks_slot *s = &l->slots[i];
	uint32_t state = be32_get(from->state);

	if (state != SLOT_ACTIVE && state != SLOT_DEAD)
		return err_set(err, -EINVAL, "key slot %u of '%s' is neither used nor free", i, l->p.name);
	if (be32_get(from->stripes) != LUKS_STRIPES)
		return err_set(err, -EINVAL, "key slot %u of '%s' has %u stripes, not %d", i, l->p.name,
			       be32_get(from->stripes), LUKS_STRIPES);
	*s = (struct luks_slot){
		.is_used = state == SLOT_ACTIVE,
		.is_bound = true,
		.area_key_bytes = l->key_bytes,
		.key_bytes = l->key_bytes,
		.off = (uint64_t)be32_get(from->offset) * BLK_SECTOR,
		.len = luks_area_len(l->key_bytes),
		.kdf = { .type = LUKS_PBKDF2, .iterations = be32_get(from->iterations), .salt_len = LUKS1_SALT },
	};
	memcpy(s->kdf.salt, from->salt, LUKS1_SALT);
	luks_slot_names(s, l);
	return s->is_used ? luks_kdf_check(&s->kdf, l->p.name, err) : 0;
}

int luks1_parse(struct luks *l, const uint8_t *buf, size_t len, struct err *err)
{
	struct luks1_header h;

	if (len < sizeof(h))
		return err_set(err, -EINVAL, "'%s' ends in its LUKS header", l->p.name);
	memcpy(&h, buf, sizeof(h));
	l->n_slots = LUKS1_SLOTS;
	l->sector_size = BLK_SECTOR;
	l->key_bytes = be32_get(h.key_bytes);
	l->data_off = (uint64_t)be32_get(h.payload_offset) * BLK_SECTOR;
	int r = luks1_strings(l, &h, err);

	if (!r)
		r = luks_cipher_check(l->cipher, l->key_bytes, l->p.name, err);
	for (unsigned i = 0; !r && i < LUKS1_SLOTS; i++)
		r = luks1_slot(l, i, &h.slots[i], err);
	if (r < 0)
		return r;
	l->digest.iterations = be32_get(h.digest_iterations);
	l->digest.len = LUKS1_DIGEST;
	l->digest.salt_len = LUKS1_SALT;
	memcpy(l->digest.value, h.digest, LUKS1_DIGEST);
	memcpy(l->digest.salt, h.digest_salt, LUKS1_SALT);
	memcpy(l->digest.hash, l->hash, sizeof(l->digest.hash));
	struct luks_kdf digest = { .type = LUKS_PBKDF2, .iterations = l->digest.iterations, .salt_len = LUKS1_SALT };

	memcpy(digest.hash, l->hash, sizeof(digest.hash));
	r = luks_kdf_check(&digest, l->p.name, err);
	return r ? r : luks_slots_check(l, sizeof(h), l->p.has_data ? l->data_off : l->p.len, err);
}

static void luks1_put_slot(struct luks1_slot *to, const struct luks_slot *s)
{
	*to = (struct luks1_slot){
		.state = be32_of(s->is_used ? SLOT_ACTIVE : SLOT_DEAD),
		.iterations = be32_of(s->is_used ? s->kdf.iterations : 0),
		.offset = be32_of((uint32_t)(s->off / BLK_SECTOR)), .stripes = be32_of(LUKS_STRIPES),
	};
	if (s->is_used)
		memcpy(to->salt, s->kdf.salt, LUKS1_SALT);
}

int luks1_co_write(struct luks *l)
{
	struct luks1_header h = {
		.magic = { 'L', 'U', 'K', 'S', 0xba, 0xbe }, .version = be16_of(1),
		.payload_offset = be32_of((uint32_t)(l->data_off / BLK_SECTOR)), .key_bytes = be32_of(l->key_bytes),
		.digest_iterations = be32_of(l->digest.iterations),
	};
	const char *dash = strchr(l->cipher, '-');

	memcpy(h.cipher_name, l->cipher, (size_t)(dash - l->cipher));
	memcpy(h.cipher_mode, dash + 1, strlen(dash + 1));
	memcpy(h.hash, l->hash, strlen(l->hash));
	memcpy(h.uuid, l->uuid, strlen(l->uuid));
	memcpy(h.digest, l->digest.value, LUKS1_DIGEST);
	memcpy(h.digest_salt, l->digest.salt, LUKS1_SALT);
	for (unsigned i = 0; i < LUKS1_SLOTS; i++)
		luks1_put_slot(&h.slots[i], &l->slots[i]);
	int r = blk_co_pwrite(l->p.node, l->p.off, &h, sizeof(h));

	return r ? r : blk_co_flush(l->p.node);
}

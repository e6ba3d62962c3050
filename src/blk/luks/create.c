/* SPDX-License-Identifier: Apache-2.0 */
/* create.c - a new header: a random volume key, and one slot that opens it. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	LUKS2_HDR_SIZE = 16 << 10, LUKS2_DATA_OFF = 16 << 20, DATA_ALIGN = 1 << 20,
	DIGEST_MS = 125,                /* trying a digest costs little: the volume key is random */
};

const char *const luks_ciphers[] = { "aes-128", "aes-256", NULL };
const char *const luks_modes[] = { "cbc", "xts", NULL };
const char *const luks_hashes[] = { "sha1", "sha256", "sha512", NULL };
const char *const luks_kdfs[] = { "pbkdf2", "argon2i", "argon2id", NULL };      /* enum luks_kdf_type */

static uint64_t format_num(const struct luks_format *f, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "%s%s", f->prefix, name);
	return blk_opts_num(f->opts, full);
}

static bool format_is_set(const struct luks_format *f, const char *name)
{
	char full[64];

	snprintf(full, sizeof(full), "%s%s", f->prefix, name);
	return blk_opts_is_set(f->opts, full);
}

static unsigned format_key_bytes(const struct luks_format *f)
{
	return (format_num(f, "cipher-alg") ? 32 : 16) * (format_num(f, "cipher-mode") ? 2 : 1);
}

uint64_t luks_header_room(const struct luks_format *f)
{
	uint64_t area = align_up(luks_area_len(format_key_bytes(f)), LUKS_ALIGN);

	if (f->version == 2)
		return LUKS2_DATA_OFF;
	return f->data_off ? f->data_off : align_up(LUKS_ALIGN + LUKS1_SLOTS * area, DATA_ALIGN);
}

/* RFC 4122, section 4.4. */
static int create_uuid(struct luks *l)
{
	uint8_t u[16];
	int r = luks_random(u, sizeof(u));

	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	snprintf(l->uuid, sizeof(l->uuid), "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	return r;
}

static void create_slots(struct luks *l, enum luks_kdf_type kdf)
{
	uint64_t area = align_up(luks_area_len(l->key_bytes), LUKS_ALIGN);

	l->n_slots = l->version == 1 ? LUKS1_SLOTS : LUKS_SLOTS_MAX;
	for (unsigned i = 0; i < (l->version == 1 ? LUKS1_SLOTS : 1); i++) {
		struct luks_slot *s = &l->slots[i];

		*s = (struct luks_slot){ .is_bound = true, .kdf.type = kdf, .key_bytes = l->key_bytes,
					 .area_key_bytes = l->key_bytes, .len = area };
		s->off = (l->version == 1 ? LUKS_ALIGN : 2 * LUKS2_HDR_SIZE) + i * area;
		luks_slot_names(s, l);
	}
	l->slots[0].is_used = true;
}

static void create_version2(struct luks *l)
{
	l->hdr_size = LUKS2_HDR_SIZE;
	l->keyslots_len = LUKS2_DATA_OFF - 2 * LUKS2_HDR_SIZE;
	strcpy(l->head.checksum_alg, "sha256");
	memcpy(l->head.uuid, l->uuid, sizeof(l->head.uuid));
}

static int create_fill(struct luks *l, const struct luks_format *f, struct err *err)
{
	enum luks_kdf_type kdf = f->version == 1 ? LUKS_PBKDF2 : LUKS_ARGON2ID;
	bool is_xts = format_num(f, "cipher-mode");

	if (format_is_set(f, "pbkdf"))
		kdf = (enum luks_kdf_type)format_num(f, "pbkdf");
	if (f->version == 1 && (kdf != LUKS_PBKDF2 || f->sector_size != BLK_SECTOR))
		return err_set(err, -EINVAL, "LUKS1 has only pbkdf2 and sectors of 512 bytes");
	if (!is_pow2(f->sector_size) || f->sector_size < BLK_SECTOR || f->sector_size > 4096)
		return err_set(err, -EINVAL, "the size of a sector is 512, 1024, 2048 or 4096 bytes");
	l->version = f->version;
	l->opened_slot = -1;
	l->sector_size = f->sector_size;
	l->key_bytes = format_key_bytes(f);
	l->data_off = l->p.has_data || f->data_off ? luks_header_room(f) : 0;
	snprintf(l->cipher, sizeof(l->cipher), "aes-%s", is_xts ? "xts-plain64" : "cbc-essiv:sha256");
	snprintf(l->hash, sizeof(l->hash), "%s", luks_hashes[format_num(f, "hash-alg")]);
	memcpy(l->digest.hash, l->hash, sizeof(l->digest.hash));
	l->digest.len = l->version == 1 ? LUKS1_DIGEST : luks_hash_size(l->hash);
	int r = create_uuid(l);

	if (!r)
		r = luks_random(l->key, l->key_bytes);
	if (r < 0)
		return err_set(err, r, "there are no random numbers to be had");
	create_slots(l, kdf);
	if (l->version == 2)
		create_version2(l);
	return 0;
}

static int create_write(struct luks *l, const struct luks_format *f)
{
	unsigned ms = (unsigned)format_num(f, "iter-time");
	int r = luks_digest_make(l, ms < DIGEST_MS ? ms : DIGEST_MS);

	if (!r)
		r = luks_co_slot_write(l, 0, f->secret, ms);
	if (!r && l->version == 2) {
		r = luks2_json_new(l);
		if (!r)
			r = luks2_json_put_slot(l, 0);
	}
	return r ? r : l->version == 1 ? luks1_co_write(l) : luks2_co_write(l);
}

int luks_co_create(const struct luks_place *p, const struct luks_format *f, struct err *err)
{
	AUTO(luks_free) struct luks *l = calloc(1, sizeof(*l));

	if (!f->secret || !f->secret->len)
		return err_set(err, -ENOKEY, "an encrypted image needs a passphrase: give key-file=FILE or key-fd=N");
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->p = *p;
	int r = create_fill(l, f, err);

	if (r < 0)
		return r;
	r = create_write(l, f);
	return r < 0 ? err_set(err, r, "cannot write the LUKS header of '%s': %s", p->name, strerror(-r)) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* slot.c - key slots: the volume key, split, encrypted with what a passphrase gives, in an area of its own. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

enum { NOISE_LEN = 256 << 10 };

uint64_t luks_area_len(unsigned key_bytes)
{
	return align_up((uint64_t)key_bytes * LUKS_STRIPES, BLK_SECTOR);
}

int luks_slots_check(const struct luks *l, uint64_t first, uint64_t end, struct err *err)
{
	for (unsigned i = 0; i < l->n_slots; i++) {
		const struct luks_slot *s = &l->slots[i];

		if (l->version == 2 && !s->is_used)
			continue;
		if (s->off < first || !range_fits(s->off, s->len, end < l->p.len ? end : l->p.len))
			return err_set(err, -EINVAL, "key slot %u of '%s' lies at the impossible offset 0x%" PRIx64, i,
				       l->p.name, s->off);
		for (unsigned k = 0; k < i; k++)
			if ((l->version == 1 || l->slots[k].is_used) &&
			    range_overlaps(s->off, s->len, l->slots[k].off, l->slots[k].len))
				return err_set(err, -EINVAL, "key slots %u and %u of '%s' overlap", k, i, l->p.name);
	}
	return 0;
}

/* --- on a thread -------------------------------------------------------------------------------- */

struct slot_job {
	const struct luks *l;
	struct luks_slot *slot;
	const struct blk_secret *secret;
	uint8_t *area;                  /* area_len bytes */
	size_t area_len;
	uint8_t key[LUKS_KEY_MAX];
	unsigned ms;
};

static int slot_digest(const struct luks *l, const uint8_t *key, size_t len, uint8_t *out)
{
	struct luks_kdf k = { .type = LUKS_PBKDF2, .iterations = l->digest.iterations, .salt_len = l->digest.salt_len };

	memcpy(k.hash, l->digest.hash, sizeof(k.hash));
	memcpy(k.salt, l->digest.salt, sizeof(k.salt));
	return luks_kdf_derive(&k, key, len, out, l->digest.len);
}

/* Crypt the area with the key that the passphrase gives. */
static int slot_crypt(struct slot_job *j, bool is_encrypting)
{
	AUTO(luks_cipher_free) struct luks_cipher *c = NULL;
	uint8_t derived[LUKS_KEY_MAX];
	int r = luks_kdf_derive(&j->slot->kdf, j->secret->data, j->secret->len, derived, j->slot->area_key_bytes);

	if (!r)
		r = luks_cipher_new(&c, j->slot->cipher, derived, j->slot->area_key_bytes, BLK_SECTOR);
	explicit_bzero(derived, sizeof(derived));
	return r ? r : luks_cipher_run(c, is_encrypting, 0, j->area, j->area_len);
}

static int64_t slot_open(void *arg)
{
	struct slot_job *j = arg;
	uint8_t digest[LUKS_DIGEST_MAX];
	int r = slot_crypt(j, false);

	if (!r)
		r = luks_af_merge(j->slot->af_hash, j->area, j->slot->key_bytes, LUKS_STRIPES, j->key);
	if (!r && j->slot->is_bound)
		r = slot_digest(j->l, j->key, j->slot->key_bytes, digest);
	if (!r && (!j->slot->is_bound || CRYPTO_memcmp(digest, j->l->digest.value, j->l->digest.len)))
		r = -EKEYREJECTED;
	return r;
}

static int64_t slot_make(void *arg)
{
	struct slot_job *j = arg;
	int r = luks_kdf_tune(&j->slot->kdf, j->ms, j->slot->area_key_bytes);

	if (!r)
		r = luks_af_split(j->slot->af_hash, j->l->key, j->slot->key_bytes, LUKS_STRIPES, j->area);
	return r ? r : slot_crypt(j, true);
}

static int64_t slot_make_digest(void *arg)
{
	struct slot_job *j = arg;
	struct luks *l = (struct luks *)(uintptr_t)j->l;
	struct luks_kdf k = { .type = LUKS_PBKDF2 };

	memcpy(k.hash, l->digest.hash, sizeof(k.hash));
	int r = luks_kdf_tune(&k, j->ms, l->digest.len);

	l->digest.iterations = k.iterations;
	l->digest.salt_len = LUKS1_SALT;
	memcpy(l->digest.salt, k.salt, LUKS1_SALT);
	return r ? r : slot_digest(l, l->key, l->key_bytes, l->digest.value);
}

/* --- from coroutines ---------------------------------------------------------------------------- */

static int slot_job_begin(struct slot_job *j)
{
	j->area_len = luks_area_len(j->slot->key_bytes);
	j->area = calloc(1, j->area_len);
	return j->area ? 0 : -ENOMEM;
}

static void slot_job_end(struct slot_job *j)
{
	if (j->area)
		explicit_bzero(j->area, j->area_len);
	free(j->area);
	explicit_bzero(j->key, sizeof(j->key));
}

int luks_co_slot_open(struct luks *l, unsigned i, const struct blk_secret *s, uint8_t *key)
{
	struct slot_job j = { .l = l, .slot = &l->slots[i], .secret = s };
	int r = slot_job_begin(&j);

	if (!r)
		r = blk_co_pread(l->p.node, l->p.off + j.slot->off, j.area, j.area_len);

	if (!r)
		r = (int)blk_co_call(l->p.node, slot_open, &j);
	if (!r)
		memcpy(key, j.key, j.slot->key_bytes);
	slot_job_end(&j);
	return r;
}

int luks_co_slot_write(struct luks *l, unsigned i, const struct blk_secret *s, unsigned ms)
{
	struct slot_job j = { .l = l, .slot = &l->slots[i], .secret = s, .ms = ms };
	int r = slot_job_begin(&j);

	if (!r)
		r = (int)blk_co_call(l->p.node, slot_make, &j);
	if (!r)
		r = blk_co_pwrite(l->p.node, l->p.off + j.slot->off, j.area, j.area_len);
	if (!r)
		r = blk_co_flush(l->p.node);
	slot_job_end(&j);
	return r;
}

int luks_co_slot_destroy(struct luks *l, unsigned i)
{
	const struct luks_slot *s = &l->slots[i];
	AUTO(free) uint8_t *noise = malloc(NOISE_LEN);
	int r = noise ? 0 : -ENOMEM;

	for (uint64_t at = 0; !r && at < s->len; at += NOISE_LEN) {
		size_t n = s->len - at < NOISE_LEN ? s->len - at : NOISE_LEN;

		r = luks_random(noise, n);
		if (!r)
			r = blk_co_pwrite(l->p.node, l->p.off + s->off + at, noise, n);
	}
	return r ? r : blk_co_flush(l->p.node);
}

int luks_digest_make(struct luks *l, unsigned ms)
{
	struct slot_job j = { .l = l, .ms = ms };

	return (int)blk_co_call(l->p.node, slot_make_digest, &j);
}

void luks_slot_names(struct luks_slot *s, const struct luks *l)
{
	memcpy(s->kdf.hash, l->hash, sizeof(s->kdf.hash));
	memcpy(s->af_hash, l->hash, sizeof(s->af_hash));
	memcpy(s->cipher, l->cipher, sizeof(s->cipher));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* luks.c - a header as a whole: opening, unlocking, telling; and the data, encrypted and decrypted. */
#include "blk/luks/luks_priv.h"

#include <errno.h>
#include <string.h>
#include "blk/front.h"

enum { HEAD_LEN = 4096, CALL_MIN = 128 << 10 /* bytes: what takes some 50 us */ };

static const uint8_t luks_magic[6] = { 'L', 'U', 'K', 'S', 0xba, 0xbe };

static int open_parse(struct luks *l, struct err *err)
{
	size_t len = l->p.len < HEAD_LEN ? (size_t)l->p.len : HEAD_LEN;
	AUTO(free) uint8_t *buf = calloc(1, HEAD_LEN);
	int r = buf ? blk_co_pread(l->p.node, l->p.off, buf, len) : -ENOMEM;

	if (r < 0)
		return err_set(err, r, "cannot read the LUKS header of '%s': %s", l->p.name, strerror(-r));
	l->version = !memcmp(buf, luks_magic, sizeof(luks_magic)) ? get_be16(buf + 6) : 0;
	if (l->version == 1)
		return luks1_parse(l, buf, len, err);
	if (l->version > 2)
		return err_set(err, -ENOTSUP, "'%s' is LUKS version %u; 1 and 2 are supported", l->p.name, l->version);
	bool has_magic = l->version == 2;

	l->version = 2;
	r = luks2_co_read(l, err);
	/* The second copy of a header may be all that is left. */
	if (r < 0 && !has_magic && !l->copy_is_good[1] && r == -EINVAL && err)
		err_set(err, r, "'%s' has no LUKS header", l->p.name);
	return r;
}

int luks_co_open(struct luks **out, const struct luks_place *p, struct err *err)
{
	AUTO(luks_free) struct luks *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->p = *p;
	l->opened_slot = -1;
	if (l->p.len > LUKS_HEADER_MAX)
		l->p.len = LUKS_HEADER_MAX;
	int r = open_parse(l, err);

	if (r < 0)
		return r;
	*out = take_ptr(&l);
	return 0;
}

void luks_free(struct luks *l)
{
	if (!l)
		return;
	luks_cipher_free(l->data);
	json_decref(l->json);
	explicit_bzero(l, sizeof(*l));
	free(l);
}

/* --- unlocking ---------------------------------------------------------------------------------- */

/* -EKEYREJECTED: S opens none. What fails for another reason is told only when no slot opens. */
static int unlock_with(struct luks *l, const struct blk_secret *s, int slot, uint8_t *key)
{
	int failed = -EKEYREJECTED;

	for (unsigned i = 0; i < l->n_slots; i++) {
		const struct luks_slot *k = &l->slots[i];

		if (!k->is_used || !k->is_bound || (slot < 0 ? k->is_ignored : (unsigned)slot != i))
			continue;
		int r = luks_co_slot_open(l, i, s, key);

		if (!r)
			return (int)i;
		if (r != -EKEYREJECTED)
			failed = r;
	}
	return failed;
}

static int unlock_refuse(const struct luks *l, int r, unsigned n, int slot, struct err *err)
{
	if (!n)
		return err_set(err, -ENOKEY, "'%s' is encrypted; give its passphrase with key-file=FILE or key-fd=N",
			       l->p.name);
	if (r == -ENOMEM)
		return err_set(err, r,
			       "there is not enough memory to try the passphrase of '%s': its key slots ask for much",
			       l->p.name);
	if (r != -EKEYREJECTED)
		return err_set(err, r, "cannot read the key slots of '%s': %s", l->p.name, strerror(-r));
	if (slot >= 0)
		return err_set(err, r, "the passphrase does not open key slot %d of '%s'", slot, l->p.name);
	return err_set(err, r, "%s of '%s'; mind that a newline at the end of a key file belongs to it",
		       n > 1 ? "none of the passphrases opens a key slot" : "the passphrase opens no key slot",
		       l->p.name);
}

int luks_co_unlock(struct luks *l, const struct blk_secret *secrets, unsigned n, int slot, struct err *err)
{
	int r = -EKEYREJECTED;

	for (unsigned i = 0; i < n && r < 0; i++)
		r = unlock_with(l, &secrets[i], slot, l->key);
	if (r < 0)
		return unlock_refuse(l, r, n, slot, err);
	int e = luks_cipher_new(&l->data, l->cipher, l->key, l->key_bytes, l->sector_size);

	if (e < 0)
		return err_set(err, e, "the key in slot %d of '%s' cannot be used: %s", r, l->p.name, strerror(-e));
	l->opened_slot = r;
	return 0;
}

/* L is the header of the image that LIKE is of, whose key is known. */
static int unlock_like(struct luks *l, const struct luks *like, struct err *err)
{
	if (!like->data || l->key_bytes != like->key_bytes || strcmp(l->cipher, like->cipher) ||
	    l->digest.len != like->digest.len || memcmp(l->digest.value, like->digest.value, l->digest.len))
		return err_set(err, -EKEYREJECTED, "'%s' has another key than it had; open it anew with its passphrase", l->p.name);
	memcpy(l->key, like->key, l->key_bytes);
	l->opened_slot = like->opened_slot;
	int r = luks_cipher_new(&l->data, l->cipher, l->key, l->key_bytes, l->sector_size);

	return r < 0 ? err_set(err, r, "the key of '%s' cannot be used: %s", l->p.name, strerror(-r)) : 0;
}

int luks_co_unlock_node(struct luks *l, const struct blk *b, int slot, struct err *err)
{
	const struct blk_options *o = b->opening;

	if (b->kept_luks || o->unlocked)
		return unlock_like(l, b->kept_luks ? b->kept_luks : o->unlocked, err);
	return luks_co_unlock(l, o->secrets, o->n_secrets, slot, err);
}

void luks_leave_node(struct luks *l, struct blk *b)
{
	b->luks = NULL;
	if (!b->is_forgetting || !l || !l->data) {
		luks_free(l);
		return;
	}
	luks_free(b->kept_luks);
	b->kept_luks = l;
}

/* --- the data ----------------------------------------------------------------------------------- */

struct crypt_job {
	struct luks_cipher *cipher;
	bool is_encrypting;
	uint64_t sector;
	uint8_t *buf;
	size_t len;
};

static int64_t crypt_run(void *arg)
{
	struct crypt_job *j = arg;

	return luks_cipher_run(j->cipher, j->is_encrypting, j->sector, j->buf, j->len);
}

int luks_co_crypt(struct luks *l, struct blk *b, bool is_encrypting, uint64_t off, uint8_t *buf, size_t len)
{
	struct crypt_job j = { l->data, is_encrypting, l->iv_tweak + off / BLK_SECTOR, buf, len };

	if (!l->data)
		return -ENOKEY;
	return (int)(len < CALL_MIN ? crypt_run(&j) : blk_co_call(b, crypt_run, &j));
}

/* --- telling ------------------------------------------------------------------------------------ */

bool luks_is_unlocked(const struct luks *l) { return l->data; }
unsigned luks_version(const struct luks *l) { return l->version; }
unsigned luks_sector_size(const struct luks *l) { return l->sector_size; }
uint64_t luks_data_off(const struct luks *l) { return l->data_off; }
uint64_t luks_data_size(const struct luks *l) { return l->data_size; }
struct luks *luks_of(struct blk *b) { return blk_front_top(b)->luks; }

static json_t *info_slot(const struct luks_slot *s, unsigned i)
{
	json_t *o = json_pack("{s:i, s:b, s:s, s:s, s:I}", "slot", (int)i, "bound", s->is_bound, "cipher", s->cipher,
			      "pbkdf", luks_kdf_name(s->kdf.type), "iterations", (json_int_t)s->kdf.iterations);

	if (o && s->kdf.type == LUKS_PBKDF2)
		json_object_set_new(o, "hash", json_string(s->kdf.hash));
	if (o && s->kdf.type != LUKS_PBKDF2)
		json_object_set_new(o, "memory-kib", json_integer((json_int_t)s->kdf.memory_kib));
	return o;
}

int luks_co_info(struct luks *l, json_t *out)
{
	json_t *slots = json_array();

	for (unsigned i = 0; i < l->n_slots; i++)
		if (l->slots[i].is_used)
			json_array_append_new(slots, info_slot(&l->slots[i], i));
	json_object_set_new(out, "version", json_integer((json_int_t)l->version));
	json_object_set_new(out, "uuid", json_string(l->uuid));
	json_object_set_new(out, "cipher", json_string(l->cipher));
	json_object_set_new(out, "key-bits", json_integer((json_int_t)l->key_bytes * 8));
	json_object_set_new(out, "sector-size", json_integer((json_int_t)l->sector_size));
	json_object_set_new(out, "payload-offset", json_integer((json_int_t)l->data_off));
	json_object_set_new(out, "unlocked", json_boolean(l->data));
	json_object_set_new(out, "slots", slots);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/state_seal.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/random.h>
#include "blk/secret.h"
#include "util/crc32c.h"
#include "util/err.h"

enum {
	NONCE_LEN = 12,
	/* What we make: the second recommended option of RFC 9106, section 4. */
	KDF_MEMORY = 64 << 10 /* KiB */, KDF_PASSES = 3, KDF_LANES = 4,
	/* What a file may ask for: some seconds of work. */
	KDF_MEMORY_MAX = 1 << 20 /* KiB */, KDF_PASSES_MAX = 64, KDF_LANES_MAX = 16, KDF_WORK_MAX = 4 << 20 /* KiB times passes */,
};

struct state_seal {
	uint8_t key[STATE_KEY_LEN];
	struct state_lock lock;
};

/* --- pieces --- */

static int sealer_begin(struct state_sealer *x, const uint8_t key[STATE_KEY_LEN], struct err *err)
{
	x->ctx = EVP_CIPHER_CTX_new();
	if (x->ctx && EVP_CipherInit_ex(x->ctx, EVP_aes_256_gcm(), NULL, key, NULL, 1))
		return 0;
	state_sealer_fini(x);
	return err_set(err, -EIO, "the cryptographic library does not encrypt");
}

int state_sealer_init(struct state_sealer *x, const struct state_seal *s, struct err *err)
{
	return sealer_begin(x, s->key, err);
}

void state_sealer_fini(struct state_sealer *x)
{
	EVP_CIPHER_CTX_free(x->ctx);
	x->ctx = NULL;
}

/* All but the tag. */
static bool piece_crypt(struct state_sealer *x, bool is_sealing, enum state_piece kind, uint64_t number, const void *aad,
			size_t aad_len, uint8_t *to, const uint8_t *from, size_t len)
{
	uint8_t nonce[NONCE_LEN];
	int n = 0;

	put_le32(nonce, kind);
	put_le64(nonce + 4, number);
	return EVP_CipherInit_ex(x->ctx, NULL, NULL, NULL, nonce, is_sealing) &&
	       (!aad_len || EVP_CipherUpdate(x->ctx, NULL, &n, aad, (int)aad_len)) &&
	       EVP_CipherUpdate(x->ctx, to, &n, from, (int)len) && (size_t)n == len;
}

int state_seal_piece(struct state_sealer *x, enum state_piece kind, uint64_t number, const void *aad, size_t aad_len, uint8_t *to,
		     const uint8_t *from, size_t len, struct err *err)
{
	int n = 0;
	bool is_done = piece_crypt(x, true, kind, number, aad, aad_len, to, from, len) && EVP_CipherFinal_ex(x->ctx, to + len, &n) &&
		       EVP_CIPHER_CTX_ctrl(x->ctx, EVP_CTRL_AEAD_GET_TAG, STATE_SEAL_TAG, to + len);

	return is_done ? 0 : err_set(err, -EIO, "the cryptographic library does not encrypt");
}

bool state_open_piece(struct state_sealer *x, enum state_piece kind, uint64_t number, const void *aad, size_t aad_len, uint8_t *to,
		      const uint8_t *from, size_t len)
{
	uint8_t tag[STATE_SEAL_TAG];
	int n = 0;

	memcpy(tag, from + len, sizeof(tag));
	return piece_crypt(x, false, kind, number, aad, aad_len, to, from, len) &&
	       EVP_CIPHER_CTX_ctrl(x->ctx, EVP_CTRL_AEAD_SET_TAG, sizeof(tag), tag) && EVP_CipherFinal_ex(x->ctx, to + len, &n);
}

/* --- the lock --- */

/* The key that opens L. Slow on purpose. The library's threads end in a way that loads another library, which nobody can in the
 * jail, where machines are saved: there is only this one then. */
static int lock_derive(const struct state_lock *l, const struct blk_secret *secret, bool has_threads, uint8_t key[STATE_KEY_LEN],
		       struct err *err)
{
	argon2_context c = {
		.out = key, .outlen = STATE_KEY_LEN, .pwd = secret->data, .pwdlen = (uint32_t)secret->len,
		.salt = (uint8_t *)(uintptr_t)l->salt, .saltlen = sizeof(l->salt), .t_cost = le32_get(l->passes),
		.m_cost = le32_get(l->memory_kib), .lanes = le32_get(l->lanes), .threads = has_threads ? le32_get(l->lanes) : 1,
		.version = ARGON2_VERSION_13,
	};
	int r = argon2id_ctx(&c);

	return r == ARGON2_OK ? 0 : err_set(err, r == ARGON2_MEMORY_ALLOCATION_ERROR ? -ENOMEM : -EIO,
					    "cannot make a key of the passphrase: %s", argon2_error_message(r));
}

static uint32_t lock_crc(struct state_lock l)
{
	l.crc = le32_of(0);
	return crc32c(0, &l, sizeof(l));
}

static bool lock_is_possible(const struct state_lock *l)
{
	uint32_t memory = le32_get(l->memory_kib), passes = le32_get(l->passes), lanes = le32_get(l->lanes);

	return le32_get(l->kdf) == STATE_KDF_ARGON2ID && lanes && lanes <= KDF_LANES_MAX && memory >= 8 * lanes &&
	       memory <= KDF_MEMORY_MAX && passes && passes <= KDF_PASSES_MAX && (uint64_t)memory * passes <= KDF_WORK_MAX;
}

/* The key in the lock, or out of it; what stands before it in the lock belongs to it. The other key served once: its salt is random. */
static int lock_turn(struct state_seal *s, const struct blk_secret *secret, bool is_sealing, struct err *err)
{
	struct state_lock *l = &s->lock;
	struct state_sealer x = { NULL };
	uint8_t outer[STATE_KEY_LEN];
	size_t aad_len = offsetof(struct state_lock, key);
	int r = lock_derive(l, secret, !is_sealing, outer, err);

	if (!r)
		r = sealer_begin(&x, outer, err);
	explicit_bzero(outer, sizeof(outer));
	if (!r && is_sealing)
		r = state_seal_piece(&x, STATE_PIECE_KEY, 0, l, aad_len, l->key, s->key, STATE_KEY_LEN, err);
	else if (!r && !state_open_piece(&x, STATE_PIECE_KEY, 0, l, aad_len, s->key, l->key, STATE_KEY_LEN))
		r = -EKEYREJECTED;
	state_sealer_fini(&x);
	return r;
}

int state_seal_new(struct state_seal **out, const struct blk_secret *secret, const struct state_kdf *costs, struct err *err)
{
	static const struct state_kdf usual = { KDF_MEMORY, KDF_PASSES, KDF_LANES };
	AUTO(state_seal_free) struct state_seal *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	costs = costs ? costs : &usual;
	s->lock.kdf = le32_of(STATE_KDF_ARGON2ID);
	s->lock.memory_kib = le32_of(costs->memory_kib);
	s->lock.passes = le32_of(costs->passes);
	s->lock.lanes = le32_of(costs->lanes);
	if (getrandom(s->key, sizeof(s->key), 0) != sizeof(s->key) ||
	    getrandom(s->lock.salt, sizeof(s->lock.salt), 0) != sizeof(s->lock.salt))
		return err_set(err, -EIO, "the host gives no random numbers");
	int r = lock_turn(s, secret, true, err);

	s->lock.crc = le32_of(lock_crc(s->lock));
	if (!r)
		*out = take_ptr(&s);
	return r;
}

int state_seal_open(struct state_seal **out, const struct state_lock *lock, const struct blk_secret *secret, const char *name,
		    struct err *err)
{
	AUTO(state_seal_free) struct state_seal *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	bool is_whole = lock_crc(*lock) == le32_get(lock->crc);
	if (!is_whole || !lock_is_possible(lock))
		return err_set(err, -EPROTO, "'%s' is not a whole saved machine: what it says of its key is %s", name,
			       is_whole ? "impossible" : "damaged");
	s->lock = *lock;
	int r = lock_turn(s, secret, false, err);

	if (r == -EKEYREJECTED)
		return err_set(err, r, "the passphrase does not open '%s'", name);
	if (!r)
		*out = take_ptr(&s);
	return r;
}

void state_seal_free(struct state_seal *s)
{
	if (s)
		explicit_bzero(s, sizeof(*s));
	free(s);
}

const struct state_lock *state_seal_lock(const struct state_seal *s)
{
	return &s->lock;
}

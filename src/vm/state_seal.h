/* SPDX-License-Identifier: Apache-2.0 */
/* state_seal.h - encryption of the file of a saved machine (docs/formats/saved-state.md, "Encrypted files").
 *
 * Each file has a random key of its own, which encrypts with AES-256 in Galois/Counter Mode (NIST SP 800-38D). No two pieces
 * of a file have the same nonce: it is made of what the piece is and of its number. The file's key stands in the file,
 * encrypted with what Argon2id (RFC 9106) makes of a passphrase. */
#ifndef VM_STATE_SEAL_H
#define VM_STATE_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "vm/state_format.h"

struct blk_secret;
struct err;
struct state_seal;

enum { STATE_SEAL_TAG = 16 /* bytes that a piece is longer for it */ };

/* What deriving a key costs. */
struct state_kdf {
	uint32_t memory_kib, passes, lanes;
};

/* A new key for one file, and the lock that SECRET opens. COSTS NULL: 64 MiB and some tenths of a second, which pass
 * here. -ENOMEM, -EIO. Any thread. */
int state_seal_new(struct state_seal **out, const struct blk_secret *secret, const struct state_kdf *costs, struct err *err);
/* The key behind LOCK, which is hostile, of the file NAME. -EKEYREJECTED: SECRET does not open it; -EPROTO: it is impossible. */
int state_seal_open(struct state_seal **out, const struct state_lock *lock, const struct blk_secret *secret, const char *name,
		    struct err *err);
void state_seal_free(struct state_seal *s);     /* wipes it. NULL is fine */
DEFINE_AUTO(struct state_seal *, state_seal_free)
const struct state_lock *state_seal_lock(const struct state_seal *s);

/* What a piece is; part of its nonce. */
enum state_piece { STATE_PIECE_KEY = 0, STATE_PIECE_MEMORY = 1, STATE_PIECE_SECTIONS = 2 };

/* What one thread has for it. S is borrowed. */
struct state_sealer {
	void *ctx;              /* private */
};
int state_sealer_init(struct state_sealer *x, const struct state_seal *s, struct err *err);
void state_sealer_fini(struct state_sealer *x);         /* zeroed is fine */

/* Piece NUMBER of KIND, once per key: LEN bytes of FROM to TO (the same, or apart), followed by the tag. AAD is what whoever opens
 * it must know. -EIO. */
int state_seal_piece(struct state_sealer *x, enum state_piece kind, uint64_t number, const void *aad, size_t aad_len, uint8_t *to,
		     const uint8_t *from, size_t len, struct err *err);
/* LEN bytes and their tag. False: it is not what was sealed as that; what is in TO then means nothing. */
bool state_open_piece(struct state_sealer *x, enum state_piece kind, uint64_t number, const void *aad, size_t aad_len, uint8_t *to,
		      const uint8_t *from, size_t len);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* kdf.c - hashes, random numbers, and what makes keys of passphrases. */
#include "blk/luks/luks_priv.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Bounds of what a header may ask for. Memory is as cryptsetup's; the others leave some minutes of work on a
 * slow machine, which is more than any header that was made to be opened needs. */
enum {
	KDF_PBKDF2_MAX = 1 << 28, KDF_MEMORY_MAX = 4 << 20 /* KiB */, KDF_LANES_MAX = 16, KDF_PASSES_MAX = 1 << 12,
	KDF_SALT_MIN = 8,
	/* What we make. */
	KDF_TUNE_MEMORY = 16 << 10, KDF_MEMORY_MIN = 32 << 10, KDF_MEMORY_WANTED = 1 << 20,     /* KiB */
	KDF_LANES_WANTED = 4, KDF_PASSES_MIN = 4,
	KDF_PBKDF2_MIN = 1000,          /* SP 800-132 */
};
#define KDF_WORK_MAX (1ull << 28)       /* KiB times passes */

/* Those that headers of cryptsetup and QEMU can name and libcrypto has. */
static const char *const kdf_hashes[] = { "sha1", "sha224", "sha256", "sha384", "sha512", "ripemd160" };

static const EVP_MD *kdf_md(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(kdf_hashes); i++)
		if (!strcmp(name, kdf_hashes[i]))
			return EVP_get_digestbyname(name);
	return NULL;
}

unsigned luks_hash_size(const char *name)
{
	const EVP_MD *md = kdf_md(name);

	return md ? (unsigned)EVP_MD_get_size(md) : 0;
}

int luks_hash(const char *name, const void *a, size_t a_len, const void *b, size_t b_len, uint8_t *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	const EVP_MD *md = kdf_md(name);
	bool is_done = ctx && md && EVP_DigestInit_ex(ctx, md, NULL) && EVP_DigestUpdate(ctx, a, a_len) &&
		       EVP_DigestUpdate(ctx, b, b_len) && EVP_DigestFinal_ex(ctx, out, NULL);

	EVP_MD_CTX_free(ctx);
	return is_done ? 0 : -EIO;
}

int luks_random(void *buf, size_t len)
{
	return RAND_priv_bytes(buf, (int)len) == 1 ? 0 : -EIO;
}

const char *luks_kdf_name(enum luks_kdf_type t)
{
	return t == LUKS_PBKDF2 ? "pbkdf2" : t == LUKS_ARGON2I ? "argon2i" : "argon2id";
}

int luks_kdf_check(const struct luks_kdf *k, const char *name, struct err *err)
{
	if (k->salt_len < KDF_SALT_MIN || !k->iterations)
		return err_set(err, -EINVAL, "a key slot of '%s' has no salt or no iterations", name);
	if (k->type == LUKS_PBKDF2 && !kdf_md(k->hash))
		return err_set(err, -ENOTSUP, "'%s' uses the hash '%s', which is not supported", name, k->hash);
	if (k->type == LUKS_PBKDF2 && k->iterations > KDF_PBKDF2_MAX)
		return err_set(err, -EINVAL, "a key slot of '%s' wants %u iterations, more than %d", name,
			       k->iterations, KDF_PBKDF2_MAX);
	if (k->type == LUKS_PBKDF2)
		return 0;
	if (!k->lanes || k->lanes > KDF_LANES_MAX || k->memory_kib < 8 * k->lanes)
		return err_set(err, -EINVAL, "a key slot of '%s' wants %u lanes in %u KiB", name, k->lanes,
			       k->memory_kib);
	if (k->memory_kib > KDF_MEMORY_MAX || k->iterations > KDF_PASSES_MAX ||
	    (uint64_t)k->memory_kib * k->iterations > KDF_WORK_MAX)
		return err_set(err, -EINVAL,
			       "a key slot of '%s' wants %u passes over %u KiB of memory, which is too much", name,
			       k->iterations, k->memory_kib);
	return 0;
}

int luks_kdf_derive(const struct luks_kdf *k, const void *pass, size_t pass_len, uint8_t *out, size_t len)
{
	if (k->type == LUKS_PBKDF2)
		return PKCS5_PBKDF2_HMAC(pass, (int)pass_len, k->salt, (int)k->salt_len, (int)k->iterations,
					 kdf_md(k->hash), (int)len, out) == 1
			       ? 0
			       : -EIO;
	int r = argon2_hash(k->iterations, k->memory_kib, k->lanes, pass, pass_len, k->salt, k->salt_len, out, len,
			    NULL, 0, k->type == LUKS_ARGON2I ? Argon2_i : Argon2_id, ARGON2_VERSION_NUMBER);

	return r == ARGON2_OK ? 0 : r == ARGON2_MEMORY_ALLOCATION_ERROR ? -ENOMEM : -EIO;
}

/* --- how much ----------------------------------------------------------------------------------- */

static uint64_t kdf_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int kdf_measure(const struct luks_kdf *k, size_t len, uint64_t *us)
{
	uint8_t out[LUKS_KEY_MAX];
	uint64_t begin = kdf_now_us();
	int r = luks_kdf_derive(k, "measure", 7, out, len);

	*us = kdf_now_us() - begin + 1;
	return r;
}

static int kdf_tune_pbkdf2(struct luks_kdf *k, unsigned ms, size_t len)
{
	uint64_t us = 0, n;
	int r = 0;

	/* Until a run is long enough to be believed. */
	for (k->iterations = KDF_PBKDF2_MIN; !r; k->iterations *= 4) {
		r = kdf_measure(k, len, &us);
		if (us > 30000 || us > ms * 500ull || k->iterations > KDF_PBKDF2_MAX / 8)
			break;
	}
	n = k->iterations * (ms * 1000ull) / us;
	k->iterations = n < KDF_PBKDF2_MIN ? KDF_PBKDF2_MIN : n > KDF_PBKDF2_MAX ? KDF_PBKDF2_MAX : (uint32_t)n;
	return r;
}

/* As much memory as the time allows, up to a GiB or half of what there is, then more passes. */
static int kdf_tune_argon2(struct luks_kdf *k, unsigned ms, size_t len)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	uint64_t have = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 1024 / 2, us = 0;
	uint64_t most = have < KDF_MEMORY_WANTED ? have : KDF_MEMORY_WANTED, want, memory;

	k->lanes = cpus < 1 ? 1 : cpus > KDF_LANES_WANTED ? KDF_LANES_WANTED : (uint32_t)cpus;
	k->iterations = KDF_PASSES_MIN;
	k->memory_kib = KDF_TUNE_MEMORY;
	int r = kdf_measure(k, len, &us);

	want = (uint64_t)KDF_TUNE_MEMORY * KDF_PASSES_MIN * ms * 1000 / us;     /* KiB times passes */
	memory = want / KDF_PASSES_MIN;
	memory = memory > most ? most : memory < KDF_MEMORY_MIN ? KDF_MEMORY_MIN : memory;
	k->memory_kib = (uint32_t)(memory & ~3ull);
	if (want / memory > KDF_PASSES_MIN)
		k->iterations = want / memory > KDF_PASSES_MAX ? KDF_PASSES_MAX : (uint32_t)(want / memory);
	return r;
}

int luks_kdf_tune(struct luks_kdf *k, unsigned ms, size_t len)
{
	k->salt_len = LUKS1_SALT;
	int r = luks_random(k->salt, k->salt_len);

	if (r < 0)
		return r;
	return k->type == LUKS_PBKDF2 ? kdf_tune_pbkdf2(k, ms, len) : kdf_tune_argon2(k, ms, len);
}

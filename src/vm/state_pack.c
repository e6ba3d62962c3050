/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/state_pack.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>
#include "util/checked.h"
#include "util/err.h"
#include "vm/state_format.h"

enum { ZSTD_LEVEL = 1 };

/* --- zstd: one frame --- */

static ssize_t pack_zstd(struct state_packer *p, void *to, const void *from, size_t len, struct err *err)
{
	if (!p->zstd)
		p->zstd = ZSTD_createCCtx();
	if (!p->zstd)
		return err_set(err, -ENOMEM, "out of memory");
	size_t n = ZSTD_compressCCtx(p->zstd, to, state_pack_bound(), from, len, ZSTD_LEVEL);

	return ZSTD_isError(n) ? err_set(err, -EIO, "cannot compress guest memory: %s", ZSTD_getErrorName(n)) : (ssize_t)n;
}

static bool unpack_zstd(struct state_packer *p, void *to, size_t len, const void *from, size_t stored)
{
	if (!p->unzstd)
		p->unzstd = ZSTD_createDCtx();
	return p->unzstd && ZSTD_decompressDCtx(p->unzstd, to, len, from, stored) == len;
}

/* --- lz4: one block (LZ4 block format description) --- */

static ssize_t pack_lz4(struct state_packer *p, void *to, const void *from, size_t len, struct err *err)
{
	int n = LZ4_compress_default(from, to, (int)len, (int)state_pack_bound());

	return n <= 0 ? err_set(err, -EIO, "cannot compress guest memory") : n;
}

static bool unpack_lz4(struct state_packer *p, void *to, size_t len, const void *from, size_t stored)
{
	return LZ4_decompress_safe(from, to, (int)stored, (int)len) == (int)len;
}

/* --- as it is --- */

static ssize_t pack_raw(struct state_packer *p, void *to, const void *from, size_t len, struct err *err)
{
	memcpy(to, from, len);
	return (ssize_t)len;
}

static bool unpack_raw(struct state_packer *p, void *to, size_t len, const void *from, size_t stored)
{
	if (stored == len)
		memcpy(to, from, len);
	return stored == len;
}

/* --- the table --- */

static const struct {
	const char *name;
	ssize_t (*pack)(struct state_packer *p, void *to, const void *from, size_t len, struct err *err);
	bool (*unpack)(struct state_packer *p, void *to, size_t len, const void *from, size_t stored);
} packings[] = {
	[STATE_RAW] = { "raw", pack_raw, unpack_raw },
	[STATE_ZSTD] = { "zstd", pack_zstd, unpack_zstd },
	[STATE_LZ4] = { "lz4", pack_lz4, unpack_lz4 },
};

bool state_packing_is_known(enum state_packing packing)
{
	return packing < ARRAY_LEN(packings) && packings[packing].name;
}

enum state_packing state_packing_of(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(packings); i++) {
		if (packings[i].name && !strcmp(packings[i].name, name))
			return (enum state_packing)i;
	}
	return STATE_NONE;
}

size_t state_pack_bound(void)
{
	size_t zstd = ZSTD_compressBound(STATE_EXTENT_MAX), lz4 = (size_t)LZ4_compressBound(STATE_EXTENT_MAX);

	return zstd > lz4 ? zstd : lz4;
}

ssize_t state_pack(struct state_packer *p, void *to, const void *from, size_t len, struct err *err)
{
	return packings[p->packing].pack(p, to, from, len, err);
}

bool state_unpack(struct state_packer *p, void *to, size_t len, const void *from, size_t stored)
{
	return packings[p->packing].unpack(p, to, len, from, stored);
}

void state_packer_fini(struct state_packer *p)
{
	ZSTD_freeCCtx(p->zstd);
	ZSTD_freeDCtx(p->unzstd);
	p->zstd = p->unzstd = NULL;
}

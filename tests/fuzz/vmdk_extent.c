/* SPDX-License-Identifier: Apache-2.0 */
/* An extent of VMDK that lies in a file of its own, which a descriptor names: sparse, flat, and ESXi's COWD and seSparse.
 * Opened, checked, read here and there; what can be written is. Input: a byte (its low bits: the kind; the highest: the
 * descriptor says another size than the extent), then the extent. Zeroes follow it, so that a short input has tables. */
#include <sys/mman.h>
#include "blk/blk_ops.h"
#include "image_rig.h"
#include "util/endian.h"
#include "util/err.h"

enum { ZEROES = 64 << 10, WRONG_SIZE = 0x80 };

static const struct { const char *type, *kind; unsigned capacity_at, capacity_len; } kinds[] = {
	{ "seSparse", "SESPARSE", 16, 8 },
	{ "vmfsSparse", "VMFSSPARSE", 12, 4 },
	{ "twoGbMaxExtentSparse", "SPARSE", 12, 8 },
	{ "vmfs", "VMFS", 0, 0 },
};

static uint64_t sectors_of(unsigned kind, const uint8_t *data, size_t len)
{
	unsigned at = kinds[kind].capacity_at, n = kinds[kind].capacity_len;

	if (!n || len < at + n)
		return (len + ZEROES) / BLK_SECTOR;
	return n == 8 ? get_le64(data + at) : get_le32(data + at);
}

static struct blk *extent_open(unsigned kind, uint64_t sectors, int extent, bool is_readonly)
{
	struct blk_options o = { .fd = -1, .format = "vmdk", .is_readonly = is_readonly };
	struct err err = ERR_INIT;
	struct blk *b = NULL;
	char text[512];
	int n = snprintf(text, sizeof(text), "# Disk DescriptorFile\nversion=1\nCID=00000001\nparentCID=ffffffff\ncreateType=\"%s\"\n"
			 "RW %llu %s \"/proc/self/fd/%d\"\n", kinds[kind].type, (unsigned long long)sectors, kinds[kind].kind, extent);

	o.fd = rig_image_fd((const uint8_t *)text, (size_t)n);
	int r = blk_open_with(&b, NULL, &o, &rig_now_aio, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0) && (r < 0) == !b);
	if (r < 0)
		close(o.fd);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (!len)
		return 0;
	unsigned kind = data[0] % (sizeof(kinds) / sizeof(kinds[0]));
	uint64_t sectors = sectors_of(kind, data + 1, len - 1) ^ (data[0] & WRONG_SIZE ? 1u : 0u);
	int extent = rig_image_fd(data + 1, len - 1);

	FUZZ_CHECK(!ftruncate(extent, (off_t)(len - 1 + ZEROES)));
	for (int is_writing = 0; is_writing < 2; is_writing++) {
		struct blk *b = extent_open(kind, sectors, extent, !is_writing);

		if (!b)
			continue;
		rig_image_check(b, BLK_FIX_NOTHING);
		rig_image_walk(b, is_writing);
		rig_image_check(b, BLK_FIX_NOTHING);
		blk_close(b);
	}
	close(extent);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A VHDX image whose structures the input changes, with right checksums: headers, regions, metadata, table, log. Input:
 * changes (structure, place, length, bytes). The image is large and its sums keep plain mutation out. */
#include "blk/blk_ops.h"
#include "image_rig.h"
#include "util/crc32c.h"
#include "util/endian.h"

enum { DISK = 8 << 20, CHANGES_MAX = 64, MIB = 1 << 20 };
enum { HEADER = 0x20000, REGIONS = 0x30000, LOG = MIB, META = 2 * MIB, META_ITEMS = META + 0x10000, TABLE = 3 * MIB };

static uint8_t *image;
static size_t image_len;

/* An image in use, with an entry in its log: made once. */
static void template_make(void)
{
	char path[64];
	int fd = rig_image_fd(NULL, 0);
	struct blk_create c = { .format = "vhdx", .size = DISK, .path = path };
	uint8_t buf[512] = { 1 };

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	FUZZ_CHECK(!blk_create(&c, NULL));
	int copy = dup(fd);
	struct blk *b = rig_image_open("vhdx", fd, false, false);

	FUZZ_CHECK(b && !blk_pwrite(b, 0, buf, sizeof(buf)) && !blk_flush(b));
	image_len = 4 * MIB + 4096;
	image = calloc(1, image_len);
	FUZZ_CHECK(image && pread(copy, image, image_len, 0) > 0);
	close(copy);
	blk_close(b);
}

static void seal(uint8_t *p, size_t len)
{
	put_le32(p + 4, 0);
	put_le32(p + 4, crc32c(0, p, len));
}

static void change(struct fuzz *f, uint8_t *p)
{
	static const uint32_t places[] = { HEADER, REGIONS, LOG, META, META_ITEMS, TABLE };
	uint32_t at = places[fuzz_u8(f) % 6] + fuzz_u16(f) % 4096, n = 1 + fuzz_u8(f) % 16;

	fuzz_fill(f, p + at, n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };

	if (!image)
		template_make();
	uint8_t *p = malloc(image_len);

	FUZZ_CHECK(p);
	memcpy(p, image, image_len);
	for (unsigned i = 0; f.left && i < CHANGES_MAX; i++)
		change(&f, p);
	uint32_t entry = get_le32(p + LOG + 8);

	/* The other header is the older one; the entry's length is its own. */
	seal(p + HEADER, 4096);
	memset(p + HEADER - 0x10000, 0, 4096);
	seal(p + REGIONS, 0x10000);
	if (entry <= MIB)
		seal(p + LOG, entry < 64 ? 64 : entry);
	for (int is_repairing = 0; is_repairing < 2; is_repairing++) {
		struct blk *b = rig_image_open("vhdx", rig_image_fd(p, image_len), false, is_repairing);

		if (!b)
			continue;
		rig_image_check(b, is_repairing ? BLK_FIX_ALL : BLK_FIX_NOTHING);
		if (!is_repairing) {
			rig_image_walk(b, true);
			blk_discard(b, 0, blk_size(b) < DISK ? blk_size(b) : DISK);
		}
		blk_close(b);
	}
	free(p);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An image of any format but qcow2, by its content: opened for reading, checked, read here and there; a copy of it
 * repaired; one written to, emptied here and there, grown. Input: the image. */
#include "image_rig.h"

static const char *format_of(const uint8_t *data, size_t len)
{
	int fd = rig_image_fd(data, len);
	const char *format = NULL;

	FUZZ_CHECK(!blk_probe(NULL, fd, &format, NULL));
	close(fd);
	return strcmp(format, "raw") && strcmp(format, "qcow2") ? format : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *format = format_of(data, len);
	struct blk *b = format ? rig_image_open(format, rig_image_fd(data, len), true, false) : NULL;

	if (b) {
		rig_image_check(b, BLK_FIX_NOTHING);
		rig_image_walk(b, false);
		blk_close(b);
	}
	b = format ? rig_image_open(format, rig_image_fd(data, len), false, true) : NULL;
	if (b) {
		rig_image_check(b, BLK_FIX_ALL);
		blk_close(b);
	}
	b = format ? rig_image_open(format, rig_image_fd(data, len), false, false) : NULL;
	if (b) {
		rig_image_walk(b, true);
		blk_discard(b, 0, blk_size(b) < 1 << 20 ? blk_size(b) : 1 << 20);
		blk_zeroes(b, 0, blk_size(b) < 1 << 20 ? blk_size(b) : 1 << 20, true);
		if (blk_size(b) < 1ull << 40)
			blk_resize(b, blk_size(b) + (4 << 20), BLK_PREALLOC_OFF, NULL);
		rig_image_check(b, BLK_FIX_NOTHING);
		blk_close(b);
	}
	return 0;
}

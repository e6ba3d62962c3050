/* SPDX-License-Identifier: Apache-2.0 */
/* A qcow2 image: opened for reading, checked, read here and there; then, a copy of it, opened for repair and
 * repaired; then opened for writing and written to, with a snapshot taken and deleted. Input: the image. */
#include "image_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct blk *b = rig_image_open("qcow2", rig_image_fd(data, len), true, false);

	if (b) {
		rig_image_check(b, BLK_FIX_NOTHING);
		rig_image_walk(b, false);
		blk_close(b);
	}
	b = rig_image_open("qcow2", rig_image_fd(data, len), false, true);
	if (b) {
		rig_image_check(b, BLK_FIX_ALL);
		blk_close(b);
	}
	b = rig_image_open("qcow2", rig_image_fd(data, len), false, false);
	if (b) {
		struct blk_snapshot s = { .name = "fuzz" };

		rig_image_walk(b, true);
		blk_discard(b, 0, blk_size(b) < 1 << 20 ? blk_size(b) : 1 << 20);
		if (!blk_snapshot_create(b, &s, NULL))
			blk_snapshot_delete(b, s.id, NULL);
		blk_close(b);
	}
	return 0;
}

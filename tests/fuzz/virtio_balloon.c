/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon before a hostile driver (virtio_rig.h). */
#include "virtio/balloon.h"

#include "virtio_rig.h"

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_balloon_config cfg = { .reached = NULL };
	struct virtio_dev *d = NULL;

	FUZZ_CHECK(virtio_balloon_new(&d, &r->env, &cfg, NULL) == 0);
	return d;
}

static void outside(struct rig *r)
{
	struct virtio_balloon_info info;
	uint64_t size = (uint64_t)fuzz_u32(&r->f) << 12;

	if (virtio_balloon_check(r->d, size, NULL) == 0)
		virtio_balloon_set(r->d, size);
	virtio_balloon_get(r->d, &info);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside };

	return rig_run(&target, data, len);
}

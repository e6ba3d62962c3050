/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng before a hostile driver (virtio_rig.h). */
#include "virtio/rng.h"

#include "virtio_rig.h"

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_dev *d = NULL;

	FUZZ_CHECK(virtio_rng_new(&d, &r->env, NULL) == 0);
	return d;
}

static void outside(struct rig *r)
{
	r->source.now_ns += fuzz_u32(&r->f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside };

	return rig_run(&target, data, len);
}

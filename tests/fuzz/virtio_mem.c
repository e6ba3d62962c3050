/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mem before a hostile driver (virtio_rig.h). Its region lies beyond the rig's small RAM, as far as the device
 * is concerned: giving back what is not there does nothing. */
#include "virtio/mem.h"

#include "virtio_rig.h"

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_mem_config cfg = { .addr = GMEM_HIGH_BASE, .size = VIRTIO_MEM_ALIGN };
	struct virtio_dev *d = NULL;

	FUZZ_CHECK(virtio_mem_new(&d, &r->env, &cfg, NULL) == 0);
	virtio_mem_set(d, (uint64_t)(options % 64) << 21);
	return d;
}

static void outside(struct rig *r)
{
	uint64_t size = (uint64_t)fuzz_u32(&r->f) << 20;

	if (virtio_mem_check(r->d, size, NULL) == 0)
		virtio_mem_set(r->d, size);
}

static void check(struct rig *r)
{
	struct virtio_mem_info i;

	virtio_mem_get(r->d, &i);
	FUZZ_CHECK(i.plugged <= VIRTIO_MEM_ALIGN && i.plugged % i.block == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside, .check = check };

	return rig_run(&target, data, len);
}

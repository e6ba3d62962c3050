/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/testdev.h"

#include <string.h>
#include "util/endian.h"

static uint64_t testdev_read_none(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return 0;
}

static void testdev_exit_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct testdev *t = dev;

	/* a process has 8 bits of status */
	t->exit_request(t->arg, (int)((val << 1 | 1) & 0xff));
}

static void testdev_line_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct testdev *t = dev;

	irq_set(&t->irq[off], val & 1);
}

/* The bus has checked that OFF + SIZE lies inside the region. */
static uint64_t testdev_load(const uint8_t *from, unsigned size)
{
	uint8_t buf[8] = { 0 };

	memcpy(buf, from, size);
	return get_le64(buf);
}

static void testdev_store(uint8_t *to, unsigned size, uint64_t val)
{
	uint8_t buf[8];

	put_le64(buf, val);
	memcpy(to, buf, size);
}

static uint64_t testdev_latch_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return testdev_load(((const struct testdev *)dev)->latch_data + off, size);
}

static void testdev_latch_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	testdev_store(((struct testdev *)dev)->latch_data + off, size, val);
}

static uint64_t testdev_mmio_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return testdev_load(((const struct testdev *)dev)->mmio_data + off, size);
}

static void testdev_mmio_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	testdev_store(((struct testdev *)dev)->mmio_data + off, size, val);
}

void testdev_init(struct testdev *t, const struct irq_line irq[TESTDEV_LINES],
		  void (*exit_request)(void *arg, int status), void *arg)
{
	*t = (struct testdev){
		.region = { .name = "testdev", .dev = t, .read = testdev_read_none, .write = testdev_exit_write },
		.latch = { .name = "testdev-latch", .dev = t, .read = testdev_latch_read,
			   .write = testdev_latch_write },
		.lines = { .name = "testdev-lines", .dev = t, .read = testdev_read_none,
			   .write = testdev_line_write, .flags = BUS_BYTES },
		.mmio = { .name = "testdev-mmio", .dev = t, .read = testdev_mmio_read,
			  .write = testdev_mmio_write },
		.exit_request = exit_request, .arg = arg,
	};
	memcpy(t->irq, irq, sizeof(t->irq));
}

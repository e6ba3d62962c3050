/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/debugport.h"

enum { DEBUGPORT_PRESENT = 0xe9 };

static uint64_t debugport_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return DEBUGPORT_PRESENT;
}

static void debugport_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct debugport *d = dev;
	uint8_t byte = (uint8_t)val;

	if (d->write)
		d->write(d->arg, &byte, 1);
}

static uint64_t debugport_post_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct debugport *d = dev;

	return d->post_code;
}

static void debugport_post_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct debugport *d = dev;

	d->post_code = (uint8_t)val;
}

void debugport_init(struct debugport *d, void (*write)(void *arg, const uint8_t *buf, size_t len), void *arg)
{
	*d = (struct debugport){
		.debug = { .name = "debug", .dev = d, .read = debugport_read, .write = debugport_write,
			   .flags = BUS_BYTES },
		.post = { .name = "post", .dev = d, .read = debugport_post_read, .write = debugport_post_write,
			  .flags = BUS_BYTES },
		.write = write, .arg = arg,
	};
}

void debugport_reset(struct debugport *d)
{
	d->post_code = 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "bus/bus.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include "test.h"
#include "util/err.h"

static struct bus *bus;
static uint64_t last_off, last_val, answer = 0x1122334455667788;
static unsigned last_size, calls, last_cpu;

static uint64_t on_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	calls++;
	last_cpu = cpu;
	last_off = off;
	last_size = size;
	return answer;
}

static void on_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	calls++;
	last_off = off;
	last_size = size;
	last_val = val;
}

static struct bus_region region(const char *name, unsigned flags)
{
	return (struct bus_region){ .name = name, .read = on_read, .write = on_write, .flags = flags };
}

TEST(device_sees_offset_size_and_cpu_and_value_is_cut_to_the_size)
{
	struct bus_region r = region("a", 0);

	bus_new(&bus, NULL);
	CHECK_EQ(bus_add(bus, BUS_MMIO, &r, 0x1000, 0x100, NULL), 0);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 3, 0x1010, 2), 0x7788);
	CHECK_EQ(last_off, 0x10);
	CHECK_EQ(last_size, 2);
	CHECK_EQ(last_cpu, 3);
	bus_write(bus, BUS_MMIO, 0, 0x10fc, 4, UINT64_MAX);
	CHECK_EQ(last_val, 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0x1010, 2), 0xffff);        /* other space */
	bus_free(bus);
}

TEST(unclaimed_and_straddling_accesses_read_ones)
{
	struct bus_region a = region("a", 0), b = region("b", 0);

	bus_new(&bus, NULL);
	bus_add(bus, BUS_MMIO, &a, 0x1000, 4, NULL);
	bus_add(bus, BUS_MMIO, &b, 0x1004, 4, NULL);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0xfff, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0x1002, 4), 0xffffffff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0x1000, 8), -1);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, UINT64_MAX - 1, 4), 0xffffffff);
	bus_write(bus, BUS_MMIO, 0, 0x1008, 1, 0);
	CHECK_EQ(calls, 0);
	bus_remove(bus, BUS_MMIO, &a);
	bus_remove(bus, BUS_MMIO, &a);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0x1000, 1), 0xff);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0x1004, 1), 0x88);
}

TEST(overlap_empty_and_wrapping_regions_are_refused)
{
	struct bus_region a = region("first", 0), b = region("second", 0);
	struct err err = ERR_INIT;

	bus_new(&bus, NULL);
	CHECK_EQ(bus_add(bus, BUS_PORT, &a, 0x60, 4, NULL), 0);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x63, 1, &err), -EEXIST);
	CHECK_HAS(err.msg, "'second'");
	CHECK_HAS(err.msg, "'first'");
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x5f, 2, NULL), -EEXIST);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x50, 0x100, NULL), -EEXIST);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x50, 0, NULL), -EINVAL);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0xffff, 2, NULL), -EINVAL);
	CHECK_EQ(bus_add(bus, BUS_MMIO, &b, UINT64_MAX - 1, 4, NULL), -EINVAL);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x64, 1, NULL), 0);
	CHECK_EQ(bus_add(bus, BUS_PORT, &b, 0x70, 1, NULL), -EINVAL);   /* mapped already */
}

TEST(byte_devices_get_wide_accesses_in_bytes)
{
	struct bus_region r = region("8bit", BUS_BYTES);

	bus_new(&bus, NULL);
	bus_add(bus, BUS_PORT, &r, 0x40, 4, NULL);
	answer = 0xab;
	CHECK_EQ(bus_read(bus, BUS_PORT, 0, 0x40, 4), 0xabababab);
	CHECK_EQ(calls, 4);
	bus_write(bus, BUS_PORT, 0, 0x42, 2, 0x1234);
	CHECK_EQ(last_off, 3);
	CHECK_EQ(last_size, 1);
	CHECK_EQ(last_val, 0x12);
}

static uint64_t lock_in_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	bus_lock(bus);
	bus_unlock(bus);
	return 7;
}

TEST(unlocked_region_may_take_the_lock_itself)
{
	struct bus_region r = { .name = "lapic", .read = lock_in_read, .write = on_write, .flags = BUS_UNLOCKED };

	bus_new(&bus, NULL);
	bus_add(bus, BUS_MMIO, &r, 0, 16, NULL);
	CHECK_EQ(bus_read(bus, BUS_MMIO, 0, 0, 4), 7);
}

static atomic_bool stop;

static void *reader(void *arg)
{
	while (!stop) {
		uint64_t v = bus_read(bus, BUS_MMIO, 0, 0x2000, 4);

		if (v != 0xffffffff && v != 0x55667788)
			return (void *)1;
	}
	return NULL;
}

TEST(regions_come_and_go_while_others_look)
{
	struct bus_region r[40], moving = region("moving", 0);
	pthread_t t;
	void *bad;

	bus_new(&bus, NULL);
	pthread_create(&t, NULL, reader, NULL);
	for (unsigned i = 0; i < 40; i++)
		r[i] = region("x", 0);
	for (unsigned n = 0; n < 3000; n++) {
		bus_lock(bus);
		CHECK_EQ(bus_add(bus, BUS_MMIO, &moving, 0x2000, 16, NULL), 0);
		CHECK_EQ(bus_add(bus, BUS_MMIO, &r[n % 40], 0x1000 + 16 * (n % 40), 16, NULL), 0);
		bus_unlock(bus);
		bus_lock(bus);
		bus_remove(bus, BUS_MMIO, &moving);
		bus_remove(bus, BUS_MMIO, &r[n % 40]);
		bus_unlock(bus);
	}
	stop = true;
	pthread_join(t, &bad);
	CHECK(!bad);
	bus_free(bus);
}

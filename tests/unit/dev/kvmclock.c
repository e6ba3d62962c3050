/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/kvmclock.h"
#include "fake.h"
#include "test.h"
#include "util/endian.h"

static struct gmem *mem;
static struct kvmclock *k;

static uint64_t offset_of(void *arg, unsigned cpu)
{
	return 1000 * cpu;
}

static void setup(void)
{
	fake_init();
	fake.now_ns = 5000;
	fake.wall_at_0_ns = 1700000000ull * 1000000000 + 42;
	CHECK_EQ(gmem_new(&mem, 1 << 20, NULL), 0);
	CHECK_EQ(kvmclock_new(&k, 2, mem, &fake.source, offset_of, NULL, NULL), 0);
}

/* What a guest computes from the structure at GPA (msr.rst). */
static uint64_t guest_ns(gpa_t gpa, uint64_t tsc)
{
	uint8_t s[32];

	CHECK_EQ(gmem_read(mem, gpa, s, sizeof(s)), 0);
	CHECK_EQ(get_le32(s) % 2, 0);
	uint64_t delta = tsc - get_le64(s + 8);
	int shift = (int8_t)s[28];

	delta = shift < 0 ? delta >> -shift : delta << shift;
	return get_le64(s + 16) + (uint64_t)((unsigned __int128)delta * get_le32(s + 24) >> 32);
}

TEST(system_clock_follows_guest_time_on_every_processor)
{
	uint64_t v;

	setup();
	for (unsigned cpu = 0; cpu < 2; cpu++)
		CHECK_EQ(kvmclock_msr_write(k, cpu, 0x4b564d01, (0x1000 + 64 * cpu) | 1), 0);
	fake.now_ns += 1000000000;
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		uint64_t ns = guest_ns(0x1000 + 64 * cpu, fake.now_ns * 2 + 1000 * cpu);

		CHECK(ns + 2 >= fake.now_ns && ns <= fake.now_ns);
	}
	CHECK_EQ(kvmclock_msr_read(k, 1, 0x12, &v), 0);
	CHECK_EQ(v, 0x1041);
	CHECK_EQ(kvmclock_msr_read(k, 0, 0x13, &v), -1);
}

TEST(resync_makes_a_new_version_and_tells_of_the_stop)
{
	uint8_t a[32], b[32];

	setup();
	kvmclock_msr_write(k, 0, 0x12, 0x2000 | 1);
	CHECK_EQ(gmem_read(mem, 0x2000, a, 32), 0);
	CHECK_EQ(a[29], 1);
	kvmclock_resync(k, true);
	CHECK_EQ(gmem_read(mem, 0x2000, b, 32), 0);
	CHECK(get_le32(b) > get_le32(a) && get_le32(b) % 2 == 0);
	CHECK_EQ(b[29], 3);
}

TEST(wall_clock_is_the_time_at_system_time_0)
{
	uint8_t w[12];

	setup();
	kvmclock_msr_write(k, 0, 0x4b564d00, 0x3000);
	CHECK_EQ(gmem_read(mem, 0x3000, w, 12), 0);
	CHECK_EQ(get_le32(w + 4), 1700000000);
	CHECK_EQ(get_le32(w + 8), 42);
}

TEST(addresses_that_are_not_ram_are_ignored)
{
	setup();
	kvmclock_msr_write(k, 0, 0x12, 0xfffffffffffffff1);
	kvmclock_msr_write(k, 0, 0x12, (1 << 20) - 8 + 1);
	kvmclock_msr_write(k, 0, 0x11, UINT64_MAX);
	kvmclock_resync(k, false);
	kvmclock_free(k);
	gmem_free(mem);
}

TEST(a_clock_that_was_saved_goes_on_where_it_was)
{
	struct kvmclock_base base;
	struct kvmclock_state s;
	struct kvmclock *other;

	setup();
	kvmclock_msr_write(k, 0, 0x12, 0x2000 | 1);
	fake.now_ns += 777777777;
	uint64_t before = guest_ns(0x2000, fake.now_ns * 2);
	kvmclock_base_get(k, &base);
	kvmclock_state_get(k, 0, &s);
	/* Guest time has drifted away from the TSC: what the guest computes is what counts. */
	fake.now_ns -= 1000;
	CHECK_EQ(kvmclock_new(&other, 2, mem, &fake.source, offset_of, NULL, NULL), 0);
	fake.now_ns += 1000;
	kvmclock_base_set(other, &base);
	kvmclock_state_set(other, 0, &s);
	kvmclock_resync(other, true);
	uint64_t after = guest_ns(0x2000, fake.now_ns * 2);
	CHECK(after + 2 >= before && after <= before + 2);
	kvmclock_free(other);
}

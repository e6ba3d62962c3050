/* SPDX-License-Identifier: Apache-2.0 */
/* PIT and RTC. */
#include "dev/pit.h"
#include "dev/rtc.h"
#include "fake.h"
#include "test.h"

static struct pit pit;
static struct rtc rtc;
static struct fake_line line;

static void pit_setup(void)
{
	fake_init();
	pit_init(&pit, fake.bus, fake.loop, &fake.source, fake_line(&line));
}

static void pit_program(unsigned ch, unsigned mode, uint16_t count)
{
	fake_out(&pit.region, 3, (uint8_t)(ch << 6 | 3 << 4 | mode << 1));
	fake_out(&pit.region, ch, (uint8_t)count);
	fake_out(&pit.region, ch, (uint8_t)(count >> 8));
}

static uint16_t pit_latched(unsigned ch)
{
	fake_out(&pit.region, 3, (uint8_t)(ch << 6));
	uint8_t low = fake_in(&pit.region, ch);

	return (uint16_t)(low | fake_in(&pit.region, ch) << 8);
}

TEST(pit_rate_generator_ticks_at_its_rate)
{
	pit_setup();
	pit_program(0, 2, 11932);               /* 100 Hz */
	line.rises = 0;
	fake_advance(1000000000);
	CHECK(line.rises >= 99 && line.rises <= 101);
	fake_out(&pit.region, 3, 0x30);         /* new mode: stops until a count comes */
	line.rises = 0;
	fake_advance(1000000000);
	CHECK_EQ(line.rises, 0);
}

TEST(pit_one_shot_raises_once_at_terminal_count)
{
	pit_setup();
	pit_program(0, 0, 1193);                /* 1 ms */
	CHECK_EQ(line.level, 0);
	fake_advance(900000);
	CHECK_EQ(line.level, 0);
	fake_advance(200000);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(line.rises, 1);
	fake_advance(1000000000);
	CHECK_EQ(line.rises, 1);
}

TEST(pit_late_ticks_are_made_up_for_up_to_a_bound)
{
	pit_setup();
	pit_program(0, 2, 11932);
	line.rises = 0;
	fake.now_ns += 50000000;                /* the host slept for 5 ticks */
	fake_advance(50000000);
	CHECK(line.rises >= 9 && line.rises <= 10);
	line.rises = 0;
	fake.now_ns += 100000000000;
	fake_advance(50000000);
	CHECK(line.rises <= 8);                  /* those of the time, not 10000 */
}

TEST(pit_counter_latch_and_read_back_agree_with_time)
{
	pit_setup();
	pit_program(2, 0, 0);
	CHECK_EQ(pit_latched(2), 0);            /* gate low: stands at 65536 */
	fake_out(&pit.port61, 0, 1);
	fake_advance(10000000);                 /* 11931 ticks */
	CHECK_EQ(pit_latched(2), 65536 - 11931);
	fake_out(&pit.region, 3, 0xc8);         /* count and status of channel 2 */
	fake_advance(10000000);
	uint8_t status = fake_in(&pit.region, 2);

	CHECK_EQ(status, 0x30);                 /* out low, loaded, two bytes, mode 0 */
	uint16_t v = fake_in(&pit.region, 2);

	v |= (uint16_t)(fake_in(&pit.region, 2) << 8);
	CHECK_EQ(v, 65536 - 11931);
	CHECK(!(fake_in(&pit.port61, 0) & 0x20));
	fake_advance(40000000);
	CHECK(fake_in(&pit.port61, 0) & 0x20);
}

TEST(port61_refresh_bit_toggles)
{
	pit_setup();
	uint8_t a = fake_in(&pit.port61, 0), b = fake_in(&pit.port61, 0);

	CHECK_EQ((a ^ b) & 0x10, 0x10);
}

TEST(pit_square_wave_and_bcd)
{
	pit_setup();
	fake_out(&pit.port61, 0, 1);
	fake_out(&pit.region, 3, 0xb7);         /* channel 2, mode 3, BCD */
	fake_out(&pit.region, 2, 0x00);
	fake_out(&pit.region, 2, 0x10);         /* 1000 */
	CHECK(fake_in(&pit.port61, 0) & 0x20);
	fake_advance(600000);                   /* 715 ticks */
	CHECK(!(fake_in(&pit.port61, 0) & 0x20));
	CHECK_EQ(pit_latched(2), 0x0570);       /* 1000 - (2 * 715 - 1000) */
}

TEST(pit_survives_every_value_and_does_not_flood_the_loop)
{
	pit_setup();
	for (unsigned i = 0; i < 300; i++) {
		fake_hammer(&pit.region, 4, 100);
		fake_hammer(&pit.port61, 1, 10);
	}
	pit_program(0, 2, 1);
	fake.wakeups = 0;
	fake_advance(10000000);
	CHECK(fake.wakeups <= 250);
	pit_fini(&pit);
}

static void rtc_setup(void)
{
	fake_init();
	fake.wall_at_0_ns = 1709210096ull * 1000000000;         /* 2024-02-29 12:34:56 UTC */
	rtc_init(&rtc, fake.bus, fake.loop, &fake.source, fake_line(&line), 1 << 30, 0);
}

static uint8_t cmos(uint8_t i)
{
	fake_out(&rtc.region, 0, i);
	return fake_in(&rtc.region, 1);
}

static void cmos_set(uint8_t i, uint8_t v)
{
	fake_out(&rtc.region, 0, i);
	fake_out(&rtc.region, 1, v);
}

TEST(rtc_shows_the_wall_clock_in_every_format)
{
	rtc_setup();
	CHECK_EQ(cmos(0), 0x56);
	CHECK_EQ(cmos(2), 0x34);
	CHECK_EQ(cmos(4), 0x12);
	CHECK_EQ(cmos(6), 0x05);                /* Thursday */
	CHECK_EQ(cmos(7), 0x29);
	CHECK_EQ(cmos(8), 0x02);
	CHECK_EQ(cmos(9), 0x24);
	CHECK_EQ(cmos(0x32), 0x20);
	cmos_set(0xb, 0x04);                    /* binary, 12 hours */
	CHECK_EQ(cmos(0), 56);
	CHECK_EQ(cmos(4), 0x80 | 12);
	fake_advance(12ull * 3600 * 1000000000);
	CHECK_EQ(cmos(4), 12);                  /* half past midnight */
	CHECK_EQ(cmos(7), 1);
	CHECK_EQ(cmos(8), 3);
	CHECK_EQ(cmos(0xd), 0x80);
}

TEST(rtc_time_that_the_guest_sets_goes_on_from_there)
{
	rtc_setup();
	cmos_set(0xb, 0x82);
	static const uint8_t t[][2] = { { 0, 0x58 }, { 2, 0x59 }, { 4, 0x23 }, { 7, 0x31 }, { 8, 0x12 },
					{ 9, 0x99 }, { 0x32, 0x19 } };
	for (unsigned i = 0; i < 7; i++)
		cmos_set(t[i][0], t[i][1]);
	fake_advance(5000000000);
	CHECK_EQ(cmos(0), 0x58);                /* stands still while SET is on */
	cmos_set(0xb, 0x02);
	fake_advance(3000000000);
	CHECK_EQ(cmos(0), 0x01);
	CHECK_EQ(cmos(8), 0x01);
	CHECK_EQ(cmos(9), 0x00);
	CHECK_EQ(cmos(0x32), 0x20);
}

TEST(rtc_periodic_update_and_alarm_interrupts_come)
{
	rtc_setup();
	cmos_set(0xa, 0x26);                    /* 1024 Hz */
	cmos_set(0xb, 0x42);
	fake_advance(1000000);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(cmos(0xc) & 0xc0, 0xc0);
	CHECK_EQ(line.level, 0);
	cmos_set(0xb, 0x12);
	cmos(0xc);
	fake_advance(1000000000);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(cmos(0xc) & 0x90, 0x90);
	cmos_set(1, 0x05);                      /* 12:35:05 */
	cmos_set(3, 0x35);
	cmos_set(5, 0xc0);                      /* any hour */
	cmos_set(0xb, 0x22);
	cmos(0xc);
	fake_advance(6000000000);
	CHECK_EQ(line.level, 0);
	fake_advance(3000000000);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(cmos(0xc) & 0xa0, 0xa0);
}

TEST(rtc_update_in_progress_shows_before_the_second_only)
{
	rtc_setup();
	CHECK_EQ(cmos(0xa) & 0x80, 0);
	fake_advance(999800000);
	CHECK_EQ(cmos(0xa) & 0x80, 0x80);
	fake_advance(300000);
	CHECK_EQ(cmos(0xa) & 0x80, 0);
}

TEST(rtc_memory_sizes_are_in_cmos)
{
	rtc_setup();
	CHECK_EQ(cmos(0x15) | cmos(0x16) << 8, 640);
	CHECK_EQ(cmos(0x34) | cmos(0x35) << 8, (1024 - 16) * 16);
	CHECK_EQ(cmos(0x30) | cmos(0x31) << 8, 0xffff);
}

TEST(rtc_survives_every_value)
{
	rtc_setup();
	for (unsigned i = 0; i < 300; i++) {
		fake_hammer(&rtc.region, 2, 200);
		fake_advance(fake_random() % 5000000000);
	}
	rtc_fini(&rtc);
}

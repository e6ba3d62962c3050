/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/lapic_page.h"

#include "dev/lapic_priv.h"
#include "fake.h"
#include "test.h"
#include "util/endian.h"

enum { ID = 0x20, VERSION = 0x30, ICR = 0x300, ICR_HIGH = 0x310, TIMER = 0x320, INIT = 0x380, COUNT = 0x390, DIV = 0x3e0, IRR = 0x200 };
enum { VECTOR = 0x51, BASE_ON = BASE_ENABLED | BASE_BSP };
#define BASE_ADDR 0xfee00000ull
#define NOW 7000000000ull

static struct lapic_state some_state(void)
{
	struct lapic_state s = {
		.apic_base = BASE_ADDR | BASE_ON, .id = 3, .tpr = 0x20, .ldr = 0x8000000, .dfr = 0xffffffff, .svr = 0x1ff, .esr = 0x80,
		.icr = 0x0200000000004041, .timer_div = 0xb, .timer_start_ns = NOW,
	};

	for (unsigned i = 0; i < LAPIC_N_LVT; i++)
		s.lvt[i] = LVT_MASKED | (0x60 + i);
	for (unsigned i = 0; i < 8; i++) {
		s.irr[i] = i ? 0x11u << i : 0;
		s.isr[i] = i ? 0x100u << i : 0;
		s.tmr[i] = 0x1000u << i;
	}
	return s;
}

/* S as a page and back, AFTER ns later and at another time there. */
static struct lapic_state there_and_back(const struct lapic_state *s, uint64_t after, uint64_t there)
{
	uint8_t page[LAPIC_PAGE_BYTES];
	struct lapic_state out;

	lapic_page_write(page, s, NOW + after);
	lapic_page_read(&out, page, s->apic_base, s->tsc_deadline, there);
	return out;
}

TEST(registers_come_back_as_they_were)
{
	struct lapic_state s = some_state(), back = there_and_back(&s, 0, NOW);

	CHECK(!memcmp(&s, &back, sizeof(s)));
}

TEST(x2apic_is_told_as_the_kernel_tells_it)
{
	struct lapic_state s = some_state();
	uint8_t page[LAPIC_PAGE_BYTES];

	s.apic_base |= BASE_X2APIC;
	s.icr = 0x0000000500004041;
	s.ldr = 1 << 3;
	s.tsc_deadline = 123456789;
	s.lvt[LAPIC_LVT_TIMER] = LVT_TIMER_TSC_DEADLINE | VECTOR;
	lapic_page_write(page, &s, NOW);
	CHECK_EQ(get_le32(page + ID), 3 << 24);
	CHECK_EQ(get_le32(page + VERSION), 0x50014);
	CHECK_EQ(get_le32(page + ICR), 0x4041);
	CHECK_EQ(get_le32(page + ICR_HIGH), 5);
	struct lapic_state back = there_and_back(&s, 0, NOW);
	CHECK(!memcmp(&s, &back, sizeof(s)));
}

TEST(a_periodic_timer_counts_on_where_it_was)
{
	struct lapic_state s = some_state();
	uint8_t page[LAPIC_PAGE_BYTES];

	s.lvt[LAPIC_LVT_TIMER] = LVT_TIMER_PERIODIC | VECTOR;
	s.timer_init = 1000;
	s.timer_div = 0x0;                              /* by 2 */
	lapic_page_write(page, &s, NOW + 700);          /* 350 of them */
	CHECK_EQ(get_le32(page + COUNT), 650);
	CHECK_EQ(get_le32(page + INIT), 1000);
	struct lapic_state back = there_and_back(&s, 700, 5000);
	CHECK_EQ(back.timer_start_ns, 5000 - 700);
	CHECK_EQ(back.timer_done, 0);
	/* What has run out meanwhile is one interrupt, and the next period has begun. */
	lapic_page_write(page, &s, NOW + 4500);
	CHECK_EQ(get_le32(page + COUNT), 750);
	CHECK(get_le32(page + IRR + (VECTOR / 32) * 16) >> VECTOR % 32 & 1);
	/* But not if it is masked. */
	s.lvt[LAPIC_LVT_TIMER] |= LVT_MASKED;
	s.irr[VECTOR / 32] = 0;
	lapic_page_write(page, &s, NOW + 4500);
	CHECK_EQ(get_le32(page + IRR + (VECTOR / 32) * 16), 0);
}

TEST(a_count_that_has_run_out_does_not_begin_again)
{
	struct lapic_state s = some_state();
	uint8_t page[LAPIC_PAGE_BYTES];

	s.lvt[LAPIC_LVT_TIMER] = VECTOR;
	s.timer_init = 1000;
	s.timer_done = 1;
	struct lapic_state back = there_and_back(&s, 0, NOW);
	CHECK_EQ(back.timer_done, 1);
	CHECK_EQ(back.irr[VECTOR / 32], s.irr[VECTOR / 32]);
	/* One that runs out just now says so. */
	s.timer_done = 0;
	lapic_page_write(page, &s, NOW + 1000);
	CHECK_EQ(get_le32(page + COUNT), 0);
	CHECK(get_le32(page + IRR + (VECTOR / 32) * 16) >> VECTOR % 32 & 1);
	back = there_and_back(&s, 1000, NOW);
	CHECK_EQ(back.timer_done, 1);
}

/* Whatever the kernel says: no count is more than where it begins, and no start before the beginning of time. */
TEST(pages_without_sense_do_no_harm)
{
	uint8_t page[LAPIC_PAGE_BYTES];
	struct lapic_state s, t;

	memset(page, 0xff, sizeof(page));
	lapic_page_read(&s, page, ~0ull, ~0ull, 10);
	CHECK(s.timer_start_ns <= 10);
	put_le32(page + TIMER, LVT_TIMER_PERIODIC | VECTOR);
	put_le32(page + COUNT, 1);
	lapic_page_read(&s, page, BASE_ADDR | BASE_ON, 0, 10);
	CHECK_EQ(s.timer_start_ns, 10);                 /* it cannot have begun before */
	lapic_page_write(page, &s, 0);
	lapic_page_read(&t, page, s.apic_base, 0, 0);
	CHECK_EQ(t.timer_init, UINT32_MAX);
}

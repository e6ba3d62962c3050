/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/lapic.h"
#include <pthread.h>
#include <stdatomic.h>
#include "fake.h"
#include "test.h"

enum { CPUS = 4, ID = 0x20, VERSION = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ESR = 0x280,
       ICR = 0x300, ICR_HIGH = 0x310, LVT_TIMER = 0x320, LINT0 = 0x350, LINT1 = 0x360, LVT_ERROR = 0x370,
       COUNT_INIT = 0x380, COUNT = 0x390, DIV = 0x3e0 };
enum { APIC_BASE = 0x1b, TSC_DEADLINE = 0x6e0, X2 = 0x800 };

static struct lapics *l;
static atomic_uint kicks[256];
static unsigned nmis[256], inits[256], sipis[256], eois;
static uint8_t last_sipi, last_eoi;
static int pic_vector = -1;

static void on_interrupt(void *arg, unsigned cpu) { kicks[cpu]++; }
static void on_nmi(void *arg, unsigned cpu) { nmis[cpu]++; }
static void on_init(void *arg, unsigned cpu) { inits[cpu]++; }
static void on_sipi(void *arg, unsigned cpu, uint8_t v) { sipis[cpu]++; last_sipi = v; }
static void on_eoi(void *arg, uint8_t v) { eois++; last_eoi = v; }
static int on_pic_ack(void *arg) { return pic_vector; }

static const struct lapic_cpu_ops ops = {
	.interrupt = on_interrupt, .nmi = on_nmi, .init = on_init, .sipi = on_sipi, .eoi = on_eoi,
	.pic_ack = on_pic_ack,
};

static uint32_t rd(unsigned cpu, unsigned off)
{
	struct bus_region *r = lapics_region(l);

	return (uint32_t)r->read(r->dev, cpu, off, 4);
}

static void wr(unsigned cpu, unsigned off, uint32_t val)
{
	struct bus_region *r = lapics_region(l);

	r->write(r->dev, cpu, off, 4, val);
}

static void setup(unsigned n)
{
	fake_init();
	struct lapics_config cfg = { .n_cpus = n, .ops = &ops, .loop = fake.loop, .source = &fake.source };

	CHECK_EQ(lapics_new(&l, &cfg, NULL), 0);
	for (unsigned i = 0; i < n; i++)
		wr(i, SVR, 0x1ff);
}

static void msi(uint64_t addr, uint32_t data)
{
	struct msi_sink s = lapics_msi_sink(l);

	msi_send(&s, addr, data);
}

TEST(higher_priority_class_interrupts_and_lower_waits_for_eoi)
{
	setup(1);
	msi(0xfee00000, 0x40);
	CHECK(lapics_intr_pending(l, 0));
	CHECK_EQ(kicks[0], 1);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	CHECK_EQ(rd(0, PPR), 0x40);
	msi(0xfee00000, 0x4f);                  /* same class: waits */
	CHECK(!lapics_intr_pending(l, 0));
	msi(0xfee00000, 0x51);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x51);
	CHECK_EQ(lapics_intr_ack(l, 0), -1);
	wr(0, EOI, 0);
	CHECK(!lapics_intr_pending(l, 0));
	wr(0, EOI, 0);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x4f);
}

TEST(tpr_and_cr8_hold_back_their_class_and_below)
{
	setup(1);
	lapics_cr8_write(l, 0, 5);
	CHECK_EQ(rd(0, TPR), 0x50);
	msi(0xfee00000, 0x5f);
	CHECK(!lapics_intr_pending(l, 0));
	unsigned before = kicks[0];
	wr(0, TPR, 0x4f);
	CHECK_EQ(lapics_cr8_read(l, 0), 4);
	CHECK_EQ(kicks[0], before + 1);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x5f);
}

TEST(level_triggered_eoi_is_told_and_edge_is_not)
{
	setup(1);
	msi(0xfee00000, 0x60);
	lapics_intr_ack(l, 0);
	wr(0, EOI, 0);
	CHECK_EQ(eois, 0);
	msi(0xfee00000, 0x61 | 1 << 15 | 1 << 14);
	lapics_intr_ack(l, 0);
	wr(0, EOI, 0);
	CHECK_EQ(eois, 1);
	CHECK_EQ(last_eoi, 0x61);
	wr(0, EOI, 0);                          /* nothing in service */
	CHECK_EQ(eois, 1);
}

TEST(ipis_follow_destination_and_shorthand)
{
	setup(CPUS);
	wr(0, ICR_HIGH, 2u << 24);
	wr(0, ICR, 0x31);
	CHECK(lapics_intr_pending(l, 2) && !lapics_intr_pending(l, 0) && !lapics_intr_pending(l, 1));
	CHECK_EQ(lapics_intr_ack(l, 2), 0x31);
	wr(2, EOI, 0);
	wr(1, ICR, 3 << 18 | 0x32);             /* all but self */
	CHECK(!lapics_intr_pending(l, 1));
	CHECK_EQ(lapics_intr_ack(l, 0), 0x32);
	CHECK_EQ(lapics_intr_ack(l, 3), 0x32);
	wr(1, ICR, 1 << 18 | 0x33);             /* self */
	CHECK_EQ(lapics_intr_ack(l, 1), 0x33);
	wr(1, EOI, 0);
	wr(3, ICR, 2 << 18 | 0x44);             /* all */
	for (unsigned i = 0; i < CPUS; i++)
		CHECK_EQ(lapics_intr_ack(l, i), 0x44);
}

TEST(flat_and_cluster_logical_destinations_match)
{
	setup(CPUS);
	for (unsigned i = 0; i < CPUS; i++)
		wr(i, LDR, 1u << (24 + i));
	wr(0, ICR_HIGH, 0x0au << 24);
	wr(0, ICR, 1 << 11 | 0x50);
	CHECK(!lapics_intr_pending(l, 0) && lapics_intr_pending(l, 1) && !lapics_intr_pending(l, 2) &&
	      lapics_intr_pending(l, 3));
	for (unsigned i = 0; i < CPUS; i++) {
		wr(i, DFR, 0);
		wr(i, LDR, (i / 2) << 28 | 1u << (24 + i % 2));
	}
	wr(0, ICR_HIGH, 0x13u << 24);
	wr(0, ICR, 1 << 11 | 0x60);
	CHECK(!lapics_intr_pending(l, 0));
	CHECK_EQ(lapics_intr_ack(l, 2), 0x60);
	CHECK_EQ(lapics_intr_ack(l, 3), 0x60);
}

TEST(lowest_priority_picks_the_least_busy_and_takes_turns)
{
	setup(CPUS);
	for (unsigned i = 0; i < CPUS; i++) {
		wr(i, LDR, 1u << (24 + i));
		wr(i, TPR, i == 2 ? 0x10 : 0x20);
	}
	msi(0xfee00000 | 0x0f << 12 | 1 << 2 | 1 << 3, 0x71);
	CHECK_EQ(lapics_intr_ack(l, 2), 0x71);
	wr(2, EOI, 0);
	wr(2, TPR, 0x20);
	for (unsigned i = 0; i < CPUS; i++)
		msi(0xfee00000 | 0x0f << 12 | 1 << 2, 1 << 8 | (0x80 + i));
	for (unsigned i = 0; i < CPUS; i++)
		CHECK(lapics_intr_pending(l, i));
}

TEST(nmi_init_and_sipi_reach_the_processor)
{
	setup(CPUS);
	wr(0, ICR_HIGH, 3u << 24);
	wr(0, ICR, 4 << 8);
	CHECK_EQ(nmis[3], 1);
	wr(3, TPR, 0x30);
	wr(0, ICR, 5 << 8 | 1 << 14);
	CHECK_EQ(inits[3], 1);
	CHECK_EQ(rd(3, TPR), 0);
	CHECK_EQ(rd(3, SVR), 0xff);
	wr(0, ICR, 5 << 8 | 1 << 15);           /* de-assert: nothing */
	CHECK_EQ(inits[3], 1);
	wr(0, ICR, 6 << 8 | 0x9a);
	CHECK_EQ(sipis[3], 1);
	CHECK_EQ(last_sipi, 0x9a);
	wr(0, LINT1, 4 << 8);
	lapics_pulse_lint1(l);
	CHECK_EQ(nmis[0], 1);
	CHECK_EQ(nmis[1], 0);
}

TEST(illegal_vectors_are_errors)
{
	setup(2);
	wr(0, LVT_ERROR, 0xfe);
	wr(0, ICR, 1 << 18 | 0x05);
	CHECK_EQ(rd(0, ESR), 0);
	wr(0, ESR, 0);
	CHECK_EQ(rd(0, ESR), 1 << 5);
	CHECK_EQ(lapics_intr_ack(l, 0), 0xfe);
	msi(0xfee00000, 0x0f);
	wr(0, ESR, 0);
	CHECK_EQ(rd(0, ESR), 1 << 6);
	wr(0, ESR, 0);
	CHECK_EQ(rd(0, ESR), 0);
	CHECK_EQ(rd(0, 0x3d0), 0);
	wr(0, ESR, 0);
	CHECK_EQ(rd(0, ESR), 1 << 7);
}

TEST(software_disabled_apic_takes_no_new_interrupts_and_masks_lvts)
{
	setup(1);
	wr(0, LVT_TIMER, 0x40);
	wr(0, SVR, 0xff);
	CHECK_EQ(rd(0, LVT_TIMER), 0x10040);
	wr(0, LVT_TIMER, 0x40);
	CHECK_EQ(rd(0, LVT_TIMER), 0x10040);
	msi(0xfee00000, 0x40);
	CHECK(!lapics_intr_pending(l, 0));
}

TEST(one_shot_and_periodic_timer_fire_on_time)
{
	setup(1);
	wr(0, DIV, 0x3);                        /* 16 */
	wr(0, LVT_TIMER, 0x40);
	wr(0, COUNT_INIT, 1000000);             /* 16 ms */
	fake_advance(8000000);
	CHECK_EQ(rd(0, COUNT), 500000);
	CHECK(!lapics_intr_pending(l, 0));
	fake_advance(8000000);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	CHECK_EQ(rd(0, COUNT), 0);
	wr(0, EOI, 0);
	fake_advance(100000000);
	CHECK(!lapics_intr_pending(l, 0));
	wr(0, DIV, 0xb);                        /* 1 */
	wr(0, LVT_TIMER, 0x20041);
	wr(0, COUNT_INIT, 1000000);
	for (int i = 0; i < 10; i++) {
		fake_advance(1000000);
		CHECK_EQ(lapics_intr_ack(l, 0), 0x41);
		wr(0, EOI, 0);
	}
	wr(0, COUNT_INIT, 0);
	fake_advance(10000000);
	CHECK(!lapics_intr_pending(l, 0));
}

TEST(tiny_period_does_not_flood_the_loop)
{
	setup(1);
	wr(0, DIV, 0xb);
	wr(0, LVT_TIMER, 0x20041);
	wr(0, COUNT_INIT, 1);
	fake_advance(1000000);
	CHECK(fake.wakeups <= 60);
	CHECK(lapics_intr_pending(l, 0));
}

TEST(tsc_deadline_fires_once_and_past_ones_at_once)
{
	uint64_t v;

	setup(1);
	wr(0, LVT_TIMER, 0x40040);
	CHECK_EQ(lapics_msr_write(l, 0, TSC_DEADLINE, 2000000), 0);     /* 1 ms at 2 GHz */
	fake_advance(999000);
	CHECK(!lapics_intr_pending(l, 0));
	fake_advance(1002);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	CHECK_EQ(lapics_msr_read(l, 0, TSC_DEADLINE, &v), 0);
	CHECK_EQ(v, 0);
	wr(0, EOI, 0);
	lapics_msr_write(l, 0, TSC_DEADLINE, 5);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	wr(0, EOI, 0);
	lapics_msr_write(l, 0, TSC_DEADLINE, UINT64_MAX);
	lapics_msr_write(l, 0, TSC_DEADLINE, 0);
	fake_advance(10000000);
	CHECK(!lapics_intr_pending(l, 0));
}

TEST(a_one_shot_that_has_run_out_stays_at_zero_in_periodic_mode)
{
	setup(1);
	wr(0, DIV, 0xb);
	wr(0, LVT_TIMER, 0x10040);
	wr(0, COUNT_INIT, 100000);
	fake_advance(50000);
	wr(0, LVT_TIMER, 0x30040);              /* still counting: goes on, and over */
	CHECK_EQ(rd(0, COUNT), 50000);
	fake_advance(60000);
	CHECK_EQ(rd(0, COUNT), 90000);
	wr(0, LVT_TIMER, 0x10040);
	fake_advance(200000);
	CHECK_EQ(rd(0, COUNT), 0);
	wr(0, LVT_TIMER, 0x30040);
	CHECK_EQ(rd(0, COUNT), 0);
	fake_advance(100);
	CHECK_EQ(rd(0, COUNT), 0);
	wr(0, COUNT_INIT, 100000);
	CHECK_EQ(rd(0, COUNT), 100000);
}

TEST(the_page_moves_to_one_other_address_and_comes_back)
{
	uint64_t base;

	fake_init();
	struct lapics_config cfg = { .n_cpus = 2, .ops = &ops, .loop = fake.loop, .source = &fake.source,
				     .bus = fake.bus, .phys_bits = 40 };

	CHECK_EQ(lapics_new(&l, &cfg, NULL), 0);
	CHECK_EQ(lapics_msr_write(l, 0, APIC_BASE, 0xfed40900), 0);
	CHECK_EQ(rd(0, VERSION), 0xffffffff);
	CHECK_EQ(bus_read(fake.bus, BUS_MMIO, 0, 0xfed40000 + VERSION, 4) & 0xff, 0x14);
	CHECK_EQ(bus_read(fake.bus, BUS_MMIO, 1, 0xfed40000 + VERSION, 4), 0xffffffff);
	CHECK_EQ(rd(1, VERSION) & 0xff, 0x14);
	CHECK_EQ(lapics_msr_write(l, 1, APIC_BASE, 0xfed50800), -1);            /* a third address */
	CHECK_EQ(lapics_msr_write(l, 0, APIC_BASE, 0xfed60900), 0);             /* instead of the second */
	CHECK_EQ(bus_read(fake.bus, BUS_MMIO, 0, 0xfed40000 + VERSION, 4), 0xffffffff);
	CHECK_EQ(lapics_msr_write(l, 0, APIC_BASE, 1ull << 40 | 0x900), -1);
	CHECK_EQ(lapics_msr_write(l, 0, APIC_BASE, 0x900), -1);
	CHECK_EQ(lapics_msr_read(l, 0, APIC_BASE, &base), 0);
	CHECK_EQ(base, 0xfed60900);
	lapics_reset(l);
	CHECK_EQ(bus_read(fake.bus, BUS_MMIO, 0, 0xfed60000 + VERSION, 4), 0xffffffff);
	CHECK_EQ(rd(0, VERSION) & 0xff, 0x14);
	lapics_free(l);
}

TEST(x2apic_registers_fault_where_the_manual_says)
{
	uint64_t v, base;

	setup(18);
	CHECK_EQ(lapics_msr_read(l, 17, X2 + 2, &v), -1);               /* still xAPIC */
	CHECK_EQ(lapics_msr_read(l, 17, APIC_BASE, &base), 0);
	CHECK_EQ(base, 0xfee00800);
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, base | 1 << 10), 0);
	CHECK_EQ(lapics_msr_read(l, 17, X2 + 2, &v), 0);
	CHECK_EQ(v, 17);
	CHECK_EQ(lapics_msr_read(l, 17, X2 + 0xd, &v), 0);
	CHECK_EQ(v, 1 << 16 | 2);
	CHECK_EQ(rd(17, ID), 0xffffffff);                               /* the page is gone */
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0xd, 0), -1);             /* LDR is read-only */
	CHECK_EQ(lapics_msr_read(l, 17, X2 + 0xe, &v), -1);             /* no DFR */
	CHECK_EQ(lapics_msr_read(l, 17, X2 + 0xb, &v), -1);             /* EOI is write-only */
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0xb, 1), -1);
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0x8, 0x100), -1);
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0x3f, 0x77), 0);          /* self IPI */
	CHECK_EQ(lapics_intr_ack(l, 17), 0x77);
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0xb, 0), 0);
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0x30, 5ull << 32 | 0x88), 0);
	CHECK_EQ(lapics_intr_ack(l, 5), 0x88);
	/* logical, cluster 1, from another one in x2APIC mode */
	CHECK_EQ(lapics_msr_write(l, 17, X2 + 0x30, (1ull << 16 | 2) << 32 | 1 << 11 | 0x99), 0);
	CHECK_EQ(lapics_intr_ack(l, 17), 0x99);
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, base), -1);         /* not back directly */
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, base & ~0x800ull), 0);
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, base | 1 << 10), -1);
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, base), 0);
	CHECK_EQ(lapics_msr_write(l, 17, APIC_BASE, 0xfed00800), -1);
}

TEST(pic_interrupt_comes_through_lint0_after_own_interrupts)
{
	setup(2);
	wr(0, LINT0, 7 << 8);
	pic_vector = 0x30;
	lapics_set_lint0(l, 1);
	CHECK_EQ(kicks[0], 1);
	CHECK(lapics_intr_pending(l, 0) && !lapics_intr_pending(l, 1));
	msi(0xfee00000, 0x40);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x30);  /* does not ask the priority */
	wr(0, LINT0, 1 << 16 | 7 << 8);
	CHECK(!lapics_intr_pending(l, 0));
	wr(0, LINT0, 7 << 8);
	CHECK(lapics_intr_pending(l, 0));
	lapics_set_lint0(l, 0);
	CHECK_EQ(lapics_intr_ack(l, 0), -1);
}

TEST(restored_state_goes_on_counting)
{
	struct lapic_state s;

	setup(1);
	wr(0, DIV, 0xb);
	wr(0, LVT_TIMER, 0x40);
	wr(0, COUNT_INIT, 1000000);
	fake_advance(400000);
	lapics_state_get(l, 0, &s);
	lapics_reset(l);
	lapics_state_set(l, 0, &s);
	fake_advance(599000);
	CHECK(!lapics_intr_pending(l, 0));
	fake_advance(1000);
	CHECK(lapics_intr_pending(l, 0));
}

TEST(every_register_survives_every_value)
{
	uint64_t v;

	setup(CPUS);
	fake_hammer(lapics_region(l), 4096, 50000);
	for (unsigned i = 0; i < 50000; i++) {
		unsigned cpu = fake_random() % CPUS;
		uint32_t msr = fake_random() % 16 ? X2 + fake_random() % 256 : APIC_BASE;

		if (i % 1000 == 0) {
			lapics_msr_write(l, cpu, APIC_BASE, 0xfee00000);
			lapics_msr_write(l, cpu, APIC_BASE, 0xfee00800);
			lapics_msr_write(l, cpu, APIC_BASE, 0xfee00c00);
		}
		lapics_msr_write(l, cpu, msr, fake_random() >> (fake_random() % 64));
		lapics_msr_read(l, cpu, msr, &v);
		msi(0xfee00000 | (fake_random() & 0xfffff), (uint32_t)fake_random());
		lapics_intr_ack(l, cpu);
		if (i % 64 == 0)
			fake_advance(100000);
	}
	lapics_free(l);
}

static void *ipi_storm(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < 20000; i++) {
		wr(cpu, ICR_HIGH, ((cpu + 1) % CPUS) << 24);
		wr(cpu, ICR, 0x40 + i % 16);
		wr(cpu, ICR, 3 << 18 | 0x60);
		while (lapics_intr_ack(l, cpu) >= 0)
			wr(cpu, EOI, 0);
	}
	return NULL;
}

TEST(processors_that_interrupt_each_other_do_not_deadlock_or_lose_the_last)
{
	pthread_t t[CPUS];

	setup(CPUS);
	for (uintptr_t i = 0; i < CPUS; i++)
		pthread_create(&t[i], NULL, ipi_storm, (void *)i);
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(t[i], NULL);
	for (unsigned i = 0; i < CPUS; i++) {
		while (lapics_intr_ack(l, i) >= 0)
			wr(i, EOI, 0);
		CHECK(kicks[i] > 0);
		wr(i, ICR, 1 << 18 | 0x41);
		CHECK_EQ(lapics_intr_ack(l, i), 0x41);
	}
}

TEST(processors_that_give_themselves_one_id_both_get_its_interrupts)
{
	setup(3);
	wr(0, ID, 5u << 24);
	wr(2, ID, 5u << 24);
	CHECK_EQ(rd(2, ID), 5u << 24);
	msi(0xfee00000 | 5 << 12, 0x40);
	CHECK_EQ(lapics_intr_ack(l, 0), 0x40);
	CHECK_EQ(lapics_intr_ack(l, 1), -1);
	CHECK_EQ(lapics_intr_ack(l, 2), 0x40);
	lapics_reset(l);
	CHECK_EQ(rd(2, ID), 2u << 24);
}

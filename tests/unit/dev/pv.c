/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/pv.h"
#include "dev/lapic.h"
#include "fake.h"
#include "test.h"
#include "util/endian.h"

enum { MSR_STEAL = 0x4b564d03, MSR_PV_EOI = 0x4b564d04, X2 = 0x800, AT = 0x2040, EOI_AT = 0x3000 };

static struct gmem *mem;
static struct pv *p;
static uint64_t ran_ns;
static unsigned kicked[4], n_kicks;
static uint32_t sent_low;

static uint64_t fake_ran(struct source *s) { return ran_ns; }

static unsigned on_send_ipi(void *arg, const uint64_t mask[2], uint32_t first, uint32_t low)
{
	sent_low = low;
	return first + (unsigned)mask[0] + (unsigned)mask[1];
}

static void on_kick(void *arg, uint32_t apic_id)
{
	kicked[apic_id]++;
	n_kicks++;
}

static const struct pv_ops ops = { .send_ipi = on_send_ipi, .kick = on_kick };

static void setup(void)
{
	fake_init();
	fake.source.thread_ns = fake_ran;
	CHECK_EQ(gmem_new(&mem, 1 << 20, NULL), 0);
	CHECK_EQ(pv_new(&p, 4, mem, &fake.source, &ops, NULL, NULL), 0);
}

static uint64_t steal(void)
{
	uint8_t s[64];

	CHECK_EQ(gmem_read(mem, AT, s, sizeof(s)), 0);
	CHECK_EQ(get_le32(s + 8) % 2, 0);       /* the version is not odd outside of a change */
	return get_le64(s);
}

static uint8_t preempted(void)
{
	uint8_t v;

	CHECK_EQ(gmem_read(mem, AT + 16, &v, 1), 0);
	return v;
}

TEST(steal_time_is_what_passed_while_executing_less_what_the_thread_ran)
{
	setup();
	CHECK_EQ(pv_msr_write(p, 1, MSR_STEAL, AT | 1), 0);
	fake.now_ns += 10000000;
	ran_ns += 7000000;
	pv_tick(p, 1);
	CHECK_EQ(steal(), 3000000);
	fake.now_ns += 500000;                  /* not yet */
	pv_tick(p, 1);
	CHECK_EQ(steal(), 3000000);
	ran_ns += 400000;
	pv_idle(p, 1);
	CHECK_EQ(steal(), 3100000);
	fake.now_ns += 1000000000;              /* sleeping is not stealing */
	pv_busy(p, 1);
	fake.now_ns += 2000000;
	ran_ns += 2000000;
	pv_tick(p, 1);
	CHECK_EQ(steal(), 3100000);
}

TEST(a_sleeping_processor_is_marked_and_flushes_when_asked)
{
	uint8_t v = 3;

	setup();
	CHECK_EQ(pv_msr_write(p, 2, MSR_STEAL, AT | 1), 0);
	CHECK_EQ(preempted(), 0);
	pv_idle(p, 2);
	CHECK_EQ(preempted(), 1);
	CHECK(!pv_busy(p, 2));
	CHECK_EQ(preempted(), 0);
	pv_idle(p, 2);
	CHECK_EQ(gmem_write(mem, AT + 16, &v, 1), 0);
	CHECK(pv_busy(p, 2));
	CHECK_EQ(preempted(), 0);
	/* disabled: memory stays as it is */
	CHECK_EQ(pv_msr_write(p, 2, MSR_STEAL, 0), 0);
	pv_idle(p, 2);
	CHECK_EQ(preempted(), 0);
}

TEST(bad_registers_and_addresses_harm_nobody)
{
	uint64_t v;

	setup();
	CHECK_EQ(pv_msr_write(p, 0, MSR_STEAL, AT | 3), -1);
	CHECK_EQ(pv_msr_write(p, 9, MSR_STEAL, AT | 1), -1);
	CHECK_EQ(pv_msr_write(p, 0, MSR_STEAL, 0xffffffffffffffc0 | 1), 0);
	fake.now_ns += 10000000;
	pv_tick(p, 0);
	pv_idle(p, 0);
	CHECK(!pv_busy(p, 0));
	CHECK_EQ(pv_msr_read(p, 0, MSR_STEAL, &v), 0);
	CHECK_EQ(v, 0xffffffffffffffc1);
	pv_cpu_reset(p, 0);
	CHECK_EQ(pv_msr_read(p, 0, MSR_STEAL, &v), 0);
	CHECK_EQ(v, 0);
}

TEST(hypercalls_reach_the_machine)
{
	setup();
	CHECK_EQ(pv_hypercall(p, 0, 5, (uint64_t[]){ 0, 3, 0, 0 }), 0);
	CHECK_EQ(kicked[3], 1);
	CHECK_EQ(pv_hypercall(p, 0, 5, (uint64_t[]){ 0, 4, 0, 0 }), 0);        /* nobody */
	CHECK_EQ(n_kicks, 1);
	CHECK_EQ(pv_hypercall(p, 0, 10, (uint64_t[]){ 1, 2, 4, 0xfd }), 7);
	CHECK_EQ(sent_low, 0xfd);
	CHECK_EQ(pv_hypercall(p, 0, 11, (uint64_t[]){ 1, 0, 0, 0 }), 0);
	CHECK_EQ(pv_hypercall(p, 0, 9, (uint64_t[4]){ 0 }), -1000);
	CHECK_EQ(pv_hypercall(p, 0, UINT64_MAX, (uint64_t[4]){ 0 }), -1000);
}

TEST(state_survives_saving)
{
	struct pv_state s;

	setup();
	CHECK_EQ(pv_msr_write(p, 1, MSR_STEAL, AT | 1), 0);
	fake.now_ns += 5000000;
	pv_idle(p, 1);
	pv_state_get(p, 1, &s);
	CHECK_EQ(s.steal_ns, 5000000);
	pv_reset(p);
	pv_state_set(p, 1, &s);
	pv_busy(p, 1);
	fake.now_ns += 2000000;
	pv_tick(p, 1);
	CHECK_EQ(steal(), 7000000);
}

/* --- PV EOI --- */

static struct lapics *l;
static unsigned eois, interrupts;

static void on_interrupt(void *arg, unsigned cpu) { interrupts++; }
static void on_event(void *arg, unsigned cpu) { }
static void on_sipi(void *arg, unsigned cpu, uint8_t v) { }
static void on_eoi(void *arg, uint8_t v) { eois++; }
static const struct lapic_cpu_ops lapic_ops = {
	.interrupt = on_interrupt, .nmi = on_event, .init = on_event, .sipi = on_sipi, .eoi = on_eoi,
};

static void setup_lapic(void)
{
	setup();
	CHECK_EQ(lapics_new(&l, &(struct lapics_config){ .n_cpus = 2, .ops = &lapic_ops, .loop = fake.loop,
							  .source = &fake.source, .mem = mem }, NULL), 0);
	CHECK_EQ(lapics_msr_write(l, 1, 0x1b, 0xfee00c00), 0);
	CHECK_EQ(lapics_msr_write(l, 1, X2 + 0x0f, 0x1ff), 0);
	CHECK_EQ(lapics_msr_write(l, 1, MSR_PV_EOI, EOI_AT | 1), 0);
}

static void send(uint32_t data)
{
	struct msi_sink s = lapics_msi_sink(l);

	msi_send(&s, 0xfee01000, data);
}

static uint8_t eoi_bits(void)
{
	uint8_t v;

	CHECK_EQ(gmem_read(mem, EOI_AT, &v, 1), 0);
	return v;
}

/* What a guest's handler does; true: it need not write to the APIC. */
static bool guest_ends_by_memory(void)
{
	uint8_t v = eoi_bits(), none = v & 0xfe;

	CHECK_EQ(gmem_write(mem, EOI_AT, &none, 1), 0);
	return v & 1;
}

TEST(an_edge_that_nothing_waits_behind_ends_by_memory)
{
	uint64_t isr;

	setup_lapic();
	send(0x41);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x41);
	CHECK(guest_ends_by_memory());
	interrupts = 0;
	send(0x42);                             /* of the same class: the processor has to look */
	CHECK_EQ(interrupts, 1);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x42);
	CHECK_EQ(lapics_msr_read(l, 1, X2 + 0x12, &isr), 0);
	CHECK_EQ(isr, 4);                       /* the first is over, the second in service */
}

TEST(an_offer_is_withdrawn_when_something_comes_before_it_is_used)
{
	setup_lapic();
	send(0x41);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x41);
	CHECK_EQ(eoi_bits(), 1);
	send(0x42);
	CHECK_EQ(lapics_intr_ack(l, 1), -1);    /* still in service, and now without the offer */
	CHECK(!guest_ends_by_memory());
	CHECK_EQ(lapics_msr_write(l, 1, X2 + 0x0b, 0), 0);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x42);
}

TEST(levels_and_nested_interrupts_are_not_offered)
{
	setup_lapic();
	send(0x8041);                           /* level */
	CHECK_EQ(lapics_intr_ack(l, 1), 0x41);
	CHECK_EQ(eoi_bits(), 0);
	send(0x51);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x51);
	CHECK_EQ(eoi_bits(), 0);
	CHECK_EQ(lapics_msr_write(l, 1, X2 + 0x0b, 0), 0);
	CHECK_EQ(eois, 0);
	CHECK_EQ(lapics_msr_write(l, 1, X2 + 0x0b, 0), 0);
	CHECK_EQ(eois, 1);
}

TEST(a_mask_of_processors_gets_an_interrupt_each)
{
	setup_lapic();
	CHECK_EQ(lapics_send_mask(l, (uint64_t[]){ 2 | 8, 0 }, 0, 0x61), 1);
	CHECK_EQ(lapics_intr_ack(l, 1), 0x61);
	CHECK_EQ(lapics_send_mask(l, (uint64_t[]){ 1, 0 }, UINT32_MAX, 0x61), 0);
	CHECK_EQ(lapics_send_mask(l, (uint64_t[]){ 2, 0 }, 0, 0x500), 0);       /* INIT is not for this */
	CHECK_EQ(lapics_send_mask(l, (uint64_t[]){ 2, 0 }, 0, 3), 0);
}

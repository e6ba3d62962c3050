/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/lapic_page.h"

#include <string.h>
#include "dev/lapic_priv.h"
#include "util/endian.h"

/* SDM vol. 3 table 11-1 */
enum {
	PAGE_ID = 0x20, PAGE_VERSION = 0x30, PAGE_TPR = 0x80, PAGE_LDR = 0xd0, PAGE_DFR = 0xe0, PAGE_SVR = 0xf0,
	PAGE_ISR = 0x100, PAGE_TMR = 0x180, PAGE_IRR = 0x200, PAGE_ESR = 0x280, PAGE_LVT_CMCI = 0x2f0,
	PAGE_ICR = 0x300, PAGE_ICR_HIGH = 0x310, PAGE_LVT = 0x320, PAGE_TIMER_INIT = 0x380, PAGE_TIMER_COUNT = 0x390,
	PAGE_TIMER_DIV = 0x3e0,
	STEP = 0x10,
	VERSION = 0x14 | (LAPIC_N_LVT - 1) << 16,
};

static uint32_t page_get(const uint8_t *page, unsigned reg)
{
	return get_le32(page + reg);
}

static void page_get_all(const uint8_t *page, unsigned reg, uint32_t *out, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		out[i] = page_get(page, reg + i * STEP);
}

static void page_put_all(uint8_t *page, unsigned reg, const uint32_t *in, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		put_le32(page + reg + i * STEP, in[i]);
}

static bool state_is_x2(const struct lapic_state *s)
{
	return (s->apic_base & (BASE_ENABLED | BASE_X2APIC)) == (BASE_ENABLED | BASE_X2APIC);
}

static bool state_counts(const struct lapic_state *s)
{
	return s->timer_init && !(s->lvt[LAPIC_LVT_TIMER] & LVT_TIMER_TSC_DEADLINE);
}

/* COUNT is what is left of the present period at NOW. */
static void state_set_count(struct lapic_state *s, uint32_t count, uint64_t now)
{
	uint64_t spent = (uint64_t)(s->timer_init - count) * lapic_timer_unit_ns(s);

	s->timer_done = state_counts(s) && !count && !(s->lvt[LAPIC_LVT_TIMER] & LVT_TIMER_PERIODIC);
	s->timer_start_ns = now - (s->timer_done || !state_counts(s) || spent > now ? 0 : spent);
}

void lapic_page_read(struct lapic_state *s, const uint8_t page[LAPIC_PAGE_BYTES], uint64_t apic_base, uint64_t tsc_deadline,
		     uint64_t now_ns)
{
	uint32_t count = page_get(page, PAGE_TIMER_COUNT);

	*s = (struct lapic_state){
		.apic_base = apic_base, .tsc_deadline = tsc_deadline,
		.id = page_get(page, PAGE_ID) >> 24, .tpr = page_get(page, PAGE_TPR) & 0xff, .ldr = page_get(page, PAGE_LDR),
		.dfr = page_get(page, PAGE_DFR), .svr = page_get(page, PAGE_SVR) & 0x1ff, .esr = page_get(page, PAGE_ESR),
		.icr = page_get(page, PAGE_ICR) | (uint64_t)page_get(page, PAGE_ICR_HIGH) << 32,
		.timer_div = page_get(page, PAGE_TIMER_DIV) & 0xb, .timer_init = page_get(page, PAGE_TIMER_INIT),
	};
	page_get_all(page, PAGE_LVT, s->lvt, LAPIC_N_LVT);
	page_get_all(page, PAGE_IRR, s->irr, 8);
	page_get_all(page, PAGE_ISR, s->isr, 8);
	page_get_all(page, PAGE_TMR, s->tmr, 8);
	state_set_count(s, count < s->timer_init ? count : s->timer_init, now_ns);
}

/* What is left of the present period; *IS_DUE: an interrupt that it owes. */
static uint32_t state_count(const struct lapic_state *s, uint64_t now, bool *is_due)
{
	uint64_t unit = lapic_timer_unit_ns(s), period = s->timer_init * unit, spent = now - s->timer_start_ns;

	*is_due = false;
	if (!state_counts(s) || s->timer_done)
		return 0;
	*is_due = spent >= period;
	if (*is_due && !(s->lvt[LAPIC_LVT_TIMER] & LVT_TIMER_PERIODIC))
		return 0;
	return (uint32_t)((period - spent % period + unit - 1) / unit);
}

void lapic_page_write(uint8_t page[LAPIC_PAGE_BYTES], const struct lapic_state *s, uint64_t now_ns)
{
	uint32_t timer = s->lvt[LAPIC_LVT_TIMER], irr[8];
	bool is_due;
	uint32_t count = state_count(s, now_ns, &is_due);

	memset(page, 0, LAPIC_PAGE_BYTES);
	memcpy(irr, s->irr, sizeof(irr));
	if (is_due && !(timer & LVT_MASKED) && (timer & 0xff) >= 16)
		irr[(timer & 0xff) / 32] |= 1u << (timer & 0x1f);
	put_le32(page + PAGE_ID, s->id << 24);
	put_le32(page + PAGE_VERSION, VERSION);
	put_le32(page + PAGE_TPR, s->tpr);
	put_le32(page + PAGE_LDR, s->ldr);
	put_le32(page + PAGE_DFR, state_is_x2(s) ? UINT32_MAX : s->dfr);
	put_le32(page + PAGE_SVR, s->svr);
	put_le32(page + PAGE_ESR, s->esr);
	put_le32(page + PAGE_LVT_CMCI, LVT_MASKED);
	put_le32(page + PAGE_ICR, (uint32_t)s->icr);
	put_le32(page + PAGE_ICR_HIGH, (uint32_t)(s->icr >> 32));
	put_le32(page + PAGE_TIMER_INIT, s->timer_init);
	put_le32(page + PAGE_TIMER_COUNT, count);
	put_le32(page + PAGE_TIMER_DIV, s->timer_div);
	page_put_all(page, PAGE_LVT, s->lvt, LAPIC_N_LVT);
	page_put_all(page, PAGE_IRR, irr, 8);
	page_put_all(page, PAGE_ISR, s->isr, 8);
	page_put_all(page, PAGE_TMR, s->tmr, 8);
}

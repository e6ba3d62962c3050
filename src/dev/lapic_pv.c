/* SPDX-License-Identifier: Apache-2.0 */
/* PV EOI (Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_PV_EOI_EN): with an interrupt that nothing
 * waits behind, the processor gets a bit in its memory set; a handler that finds it set clears it and is
 * done, without touching the APIC. What it did is collected before anyone needs to know: all
 * calls come from the processor's own thread, or while it is stopped. */
#include "dev/lapic_priv.h"

enum { PV_EOI_RESERVED = 2, PV_EOI_PENDING = 1 };

static gpa_t pv_gpa(const struct lapic *a)
{
	return a->s.pv_eoi_msr & ~(uint64_t)(LAPIC_PV_EOI_ENABLED | PV_EOI_RESERVED);
}

bool lapic_pv_collect_locked(struct lapic *a)
{
	uint8_t bits;

	if (!a->s.pv_eoi_offered)
		return false;
	a->s.pv_eoi_offered = 0;
	if (gmem_read(a->l->mem, pv_gpa(a), &bits, sizeof(bits)) < 0)
		return false;
	if (!(bits & PV_EOI_PENDING))
		return true;
	bits &= (uint8_t)~PV_EOI_PENDING;
	/* It was RAM just now. */
	return gmem_write(a->l->mem, pv_gpa(a), &bits, sizeof(bits)) < 0;
}

void lapic_pv_offer_locked(struct lapic *a)
{
	uint8_t bits;

	if (!(a->s.pv_eoi_msr & LAPIC_PV_EOI_ENABLED) || gmem_read(a->l->mem, pv_gpa(a), &bits, sizeof(bits)) < 0)
		return;
	bits |= PV_EOI_PENDING;
	if (gmem_write(a->l->mem, pv_gpa(a), &bits, sizeof(bits)) == 0)
		a->s.pv_eoi_offered = 1;
}

int lapic_pv_write_locked(struct lapic *a, uint64_t val)
{
	if ((val & PV_EOI_RESERVED) || !a->l->mem)
		return -1;
	a->s.pv_eoi_msr = val;
	return 0;
}

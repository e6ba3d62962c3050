/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_lapic.c - what the kernel has of the machine beside processors: their local APICs and the paravirtual interface. */
#include "cpu/kvm/kvm_priv.h"

#include "util/endian.h"

enum {
	MSR_APIC_BASE = 0x1b, MSR_TSC_DEADLINE = 0x6e0,
	MSR_KVM_WALL_CLOCK = 0x4b564d00, MSR_KVM_SYSTEM_TIME = 0x4b564d01, MSR_KVM_STEAL_TIME = 0x4b564d03,
	MSR_KVM_PV_EOI = 0x4b564d04,
	/* SDM vol. 3 table 11-1 */
	APIC_ID = 0x20, APIC_VERSION = 0x30, APIC_DFR = 0xe0, APIC_SVR = 0xf0, APIC_ISR = 0x100,
	APIC_IRR = 0x200, APIC_LVT_CMCI = 0x2f0, APIC_LVT_TIMER = 0x320, APIC_LVT_LINT0 = 0x350,
	APIC_LVT_ERROR = 0x370,
	/* Reserved words of the page that carry the two MSRs beside it (cpu.h, get_lapic). */
	APIC_PAGE_BASE_MSR = 0x000, APIC_PAGE_DEADLINE_MSR = 0x010,
	WALL_CLOCK_BYTES = 12,          /* struct pvclock_wall_clock */
};

/* --- local APICs ------------------------------------------------------------------------- */

/* Undo what taking VECTOR did: of the LAPIC, what is in service becomes requested (SDM vol. 3 11.8.4); else it is the PIC's. */
int kvm_return_interrupt(struct vcpu *v, uint8_t vector)
{
	const struct cpu_host *host = v->vm->cfg.host;
	unsigned at = vector / 32 * 16 + vector % 32 / 8, bit = 1u << vector % 8;
	struct kvm_lapic_state l;
	int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &l);

	if (r < 0)
		return r;
	if (!(l.regs[APIC_ISR + at] & (char)bit)) {
		host->intr_return(host->arg, v->index, vector);
		return 0;
	}
	l.regs[APIC_ISR + at] &= (char)~bit;
	l.regs[APIC_IRR + at] |= (char)bit;
	return kvm_ioctl(v->fd, KVM_SET_LAPIC, &l);
}

int kvm_get_lapic(struct vcpu *v, uint8_t regs[1024], struct err *err)
{
	struct kvm_lapic_state l;
	uint64_t base = 0, deadline = 0;
	int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &l);

	if (!r)
		r = kvm_get_msr(v, MSR_APIC_BASE, &base);
	if (r < 0)
		return err_set(err, r, "KVM does not tell the local APIC: %s", strerror(-r));
	kvm_get_msr(v, MSR_TSC_DEADLINE, &deadline);    /* missing: never armed */
	memcpy(regs, l.regs, sizeof(l.regs));
	memcpy(regs + APIC_PAGE_BASE_MSR, &base, sizeof(base));
	memcpy(regs + APIC_PAGE_DEADLINE_MSR, &deadline, sizeof(deadline));
	return 0;
}

/* Power-on (SDM vol. 3 11.4.7.1), with the PIC connected through LINT0 of the first processor as
 * firmware leaves it: the kernel starts so too, and guests booted without firmware rely on it. */
static int kvm_reset_lapic(struct vcpu *v)
{
	uint64_t base = 0xfee00800 | (v->index ? 0 : 1 << 8);
	struct kvm_lapic_state old, l;
	int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &old);

	if (!r)
		r = kvm_set_msr(v, MSR_APIC_BASE, base & ~0x800ull);    /* x2APIC ends only so */
	if (!r)
		r = kvm_set_msr(v, MSR_APIC_BASE, base);
	memset(&l, 0, sizeof(l));
	memcpy(l.regs + APIC_VERSION, old.regs + APIC_VERSION, 4);
	put_le32(l.regs + APIC_ID, v->index << 24);
	put_le32(l.regs + APIC_DFR, 0xffffffff);
	put_le32(l.regs + APIC_SVR, 0xff);
	put_le32(l.regs + APIC_LVT_CMCI, 0x10000);
	for (unsigned at = APIC_LVT_TIMER; at <= APIC_LVT_ERROR; at += 0x10)
		put_le32(l.regs + at, 0x10000);
	if (v->index == 0)
		put_le32(l.regs + APIC_LVT_LINT0, 0x700);
	if (!r)
		r = kvm_ioctl(v->fd, KVM_SET_LAPIC, &l);
	/* Else the kernel goes on writing the clock into memory that is something else now. A
	 * kernel without the clock has no such MSR. */
	kvm_set_msr(v, MSR_KVM_SYSTEM_TIME, 0);
	kvm_set_msr(v, MSR_TSC_DEADLINE, 0);
	return r;
}

int kvm_set_lapic(struct vcpu *v, const uint8_t regs[1024], struct err *err)
{
	struct kvm_lapic_state l;
	uint64_t base, deadline;
	int r = 0;

	v->is_window_stale = true;
	if (!regs) {
		r = kvm_reset_lapic(v);
		return r < 0 ? err_set(err, r, "KVM does not reset the local APIC: %s", strerror(-r)) : 0;
	}
	memcpy(&base, regs + APIC_PAGE_BASE_MSR, sizeof(base));
	memcpy(&deadline, regs + APIC_PAGE_DEADLINE_MSR, sizeof(deadline));
	memcpy(l.regs, regs, sizeof(l.regs));
	memset(l.regs + APIC_PAGE_BASE_MSR, 0, sizeof(base));
	memset(l.regs + APIC_PAGE_DEADLINE_MSR, 0, sizeof(deadline));
	if (base)       /* first: it decides the layout of the page */
		r = kvm_set_msr(v, MSR_APIC_BASE, base);
	if (!r)
		r = kvm_ioctl(v->fd, KVM_SET_LAPIC, &l);
	if (!r && deadline)
		r = kvm_set_msr(v, MSR_TSC_DEADLINE, deadline);
	return r < 0 ? err_set(err, r, "KVM does not take the local APIC: %s", strerror(-r)) : 0;
}

/* --- the paravirtual interface ----------------------------------------------------------- */

int kvm_get_pv(struct vcpu *v, struct cpu_pv *out, struct err *err)
{
	struct kvm_clock_data clock;
	int r = kvm_ioctl(v->vm->fd, KVM_GET_CLOCK, &clock);

	if (r < 0)
		return err_set(err, r, "KVM does not tell its clock: %s", strerror(-r));
	*out = (struct cpu_pv){ .now_ns = clock.clock };
	/* A guest without them has no such MSRs. */
	kvm_get_msr(v, MSR_KVM_SYSTEM_TIME, &out->system_time_msr);
	kvm_get_msr(v, MSR_KVM_WALL_CLOCK, &out->wall_clock_msr);
	kvm_get_msr(v, MSR_KVM_STEAL_TIME, &out->steal_msr);
	kvm_get_msr(v, MSR_KVM_PV_EOI, &out->pv_eoi_msr);
	return 0;
}

/* The kernel answers this MSR by writing the wall clock there at once. The guest has asked for that long ago, and may have something
 * else there by now. */
static int kvm_set_wall_clock(struct vcpu *v, uint64_t msr)
{
	struct gmem *mem = v->vm->cfg.mem;
	uint8_t before[WALL_CLOCK_BYTES];
	bool is_ram = gmem_read(mem, msr, before, sizeof(before)) == 0;
	int r = kvm_set_msr(v, MSR_KVM_WALL_CLOCK, msr);

	return r < 0 ? r : is_ram ? gmem_write(mem, msr, before, sizeof(before)) : 0;
}

/* 0 needs not be set: it is what there was. */
static int kvm_set_pv_msr(struct vcpu *v, uint32_t msr, uint64_t val)
{
	return val ? kvm_set_msr(v, msr, val) : 0;
}

int kvm_set_pv(struct vcpu *v, const struct cpu_pv *in, struct err *err)
{
	struct kvm_clock_data clock = { .clock = in->now_ns };
	int r = v->index ? 0 : kvm_ioctl(v->vm->fd, KVM_SET_CLOCK, &clock);     /* the machine's */

	if (!r && in->wall_clock_msr)
		r = kvm_set_wall_clock(v, in->wall_clock_msr);
	if (!r)
		r = kvm_set_pv_msr(v, MSR_KVM_SYSTEM_TIME, in->system_time_msr);
	if (!r)
		r = kvm_set_pv_msr(v, MSR_KVM_STEAL_TIME, in->steal_msr);
	if (!r)
		r = kvm_set_pv_msr(v, MSR_KVM_PV_EOI, in->pv_eoi_msr);
	if (r < 0)
		return err_set(err, r, "KVM does not take the paravirtual interface of processor %u: %s", v->index, strerror(-r));
	(void)kvm_ioctl(v->fd, KVM_KVMCLOCK_CTRL, NULL);        /* -EINVAL: the guest has no such clock */
	return 0;
}

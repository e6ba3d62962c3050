/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_state.c - the kernel's view of a processor to and from struct x86_state.
 *
 * An interrupt that the kernel has taken from its LAPIC or was given of the PIC but not yet delivered goes back
 * to where it came from before the state is read. An exception in the same situation needs no care: the
 * instruction runs again and faults again. */
#include "cpu/kvm/kvm_priv.h"

#include <stddef.h>
#include <x86intrin.h>
#include "util/checked.h"
#include "util/log.h"

enum {
	MSR_TSC = 0x10,
};

/* MSRs of struct x86_state (SDM vol. 4). */
static const struct {
	uint32_t index;
	uint32_t n;             /* consecutive, both as MSRs and in the struct */
	size_t offset;
} kvm_msrs[] = {
	{ 0xc0000081, 1, offsetof(struct x86_state, star) },
	{ 0xc0000082, 1, offsetof(struct x86_state, lstar) },
	{ 0xc0000083, 1, offsetof(struct x86_state, cstar) },
	{ 0xc0000084, 1, offsetof(struct x86_state, fmask) },
	{ 0xc0000102, 1, offsetof(struct x86_state, kernel_gs_base) },
	{ 0x174, 1, offsetof(struct x86_state, sysenter_cs) },
	{ 0x175, 1, offsetof(struct x86_state, sysenter_esp) },
	{ 0x176, 1, offsetof(struct x86_state, sysenter_eip) },
	{ 0x277, 1, offsetof(struct x86_state, pat) },
	{ 0xc0000103, 1, offsetof(struct x86_state, tsc_aux) },
	{ 0x1a0, 1, offsetof(struct x86_state, misc_enable) },
	{ 0x48, 1, offsetof(struct x86_state, spec_ctrl) },
	{ 0x17a, 1, offsetof(struct x86_state, mcg_status) },
	{ 0x17b, 1, offsetof(struct x86_state, mcg_ctl) },
	{ 0x3b, 1, offsetof(struct x86_state, tsc_adjust) },
	{ 0x2ff, 1, offsetof(struct x86_state, mtrr.def_type) },
	{ 0x250, 1, offsetof(struct x86_state, mtrr.fixed[0]) },
	{ 0x258, 2, offsetof(struct x86_state, mtrr.fixed[1]) },
	{ 0x268, 8, offsetof(struct x86_state, mtrr.fixed[3]) },
	{ 0x200, 2 * X86_N_MTRR_VAR, offsetof(struct x86_state, mtrr.var[0]) },
};

/* --- MSRs ------------------------------------------------------------------------------- */

/* One MSR through the kernel's array interface; 0, -ENOENT when it is not there. */
static int kvm_msr_ioctl(struct vcpu *v, unsigned long request, struct kvm_msr_entry *e)
{
	_Alignas(struct kvm_msrs) uint8_t buf[sizeof(struct kvm_msrs) + sizeof(*e)] = { 0 };
	struct kvm_msrs *m = (struct kvm_msrs *)(void *)buf;

	m->nmsrs = 1;
	m->entries[0] = *e;
	int r = kvm_ioctl(v->fd, request, m);

	*e = m->entries[0];
	return r < 0 ? r : r == 1 ? 0 : -ENOENT;
}

int kvm_get_msr(struct vcpu *v, uint32_t index, uint64_t *val)
{
	struct kvm_msr_entry e = { .index = index };
	int r = kvm_msr_ioctl(v, KVM_GET_MSRS, &e);

	if (!r)
		*val = e.data;
	return r;
}

int kvm_set_msr(struct vcpu *v, uint32_t index, uint64_t val)
{
	return kvm_msr_ioctl(v, KVM_SET_MSRS, &(struct kvm_msr_entry){ .index = index, .data = val });
}

static int kvm_move_msrs(struct vcpu *v, struct x86_state *s, bool is_set, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(kvm_msrs); i++) {
		uint64_t *val = (uint64_t *)(void *)((char *)s + kvm_msrs[i].offset);

		for (uint32_t k = 0; k < kvm_msrs[i].n; k++) {
			uint32_t index = kvm_msrs[i].index + k;
			int r = is_set ? kvm_set_msr(v, index, val[k]) : kvm_get_msr(v, index, &val[k]);

			/* Not all processors have all of them; one that is missing reads as 0. */
			if (r == -ENOENT && !is_set)
				val[k] = 0;
			else if (r == -ENOENT && val[k])
				log_debug("kvm: MSR 0x%x keeps its value", index);
			else if (r < 0 && r != -ENOENT)
				return err_set(err, r, "KVM does not %s MSR 0x%x: %s", is_set ? "take" : "tell",
					       index, strerror(-r));
		}
	}
	return 0;
}

/* --- TSC -------------------------------------------------------------------------------- */

static int kvm_get_tsc(struct vcpu *v, uint64_t *offset)
{
	uint64_t raw, guest;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&raw,
	};

	if (v->vm->has_tsc_offset && !kvm_ioctl(v->fd, KVM_GET_DEVICE_ATTR, &attr)) {
		*offset = raw - (uint64_t)v->vm->tsc_base;
		return 0;
	}
	int r = kvm_get_msr(v, MSR_TSC, &guest);

	if (!r)
		*offset = guest - (__rdtsc() + (uint64_t)v->vm->tsc_base);
	return r;
}

static int kvm_set_tsc(struct vcpu *v, uint64_t offset)
{
	uint64_t raw = offset + (uint64_t)v->vm->tsc_base, now;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&raw,
	};

	if (v->vm->has_tsc_offset && !kvm_ioctl(v->fd, KVM_SET_DEVICE_ATTR, &attr)) {
		/* A software KVM says yes and does nothing. */
		if (!kvm_get_tsc(v, &now) && now != offset && !v->index)
			log_info("kvm: this KVM cannot move the guest's TSC; it shows the host's");
		return 0;
	}
	return kvm_set_msr(v, MSR_TSC, __rdtsc() + raw);
}

/* --- segments --------------------------------------------------------------------------- */

static struct x86_seg kvm_seg_get(const struct kvm_segment *k)
{
	return (struct x86_seg){
		.base = k->base, .limit = k->limit, .sel = k->selector,
		.attr = (uint32_t)k->type | (k->s ? X86_SEG_S : 0) | (uint32_t)k->dpl << X86_SEG_DPL_SHIFT |
			(k->present ? X86_SEG_P : 0) | (k->avl ? X86_SEG_AVL : 0) | (k->l ? X86_SEG_L : 0) |
			(k->db ? X86_SEG_DB : 0) | (k->g ? X86_SEG_G : 0) | (k->unusable ? X86_SEG_UNUSABLE : 0),
	};
}

static struct kvm_segment kvm_seg_of(const struct x86_seg *x)
{
	uint32_t a = x->attr;

	return (struct kvm_segment){
		.base = x->base, .limit = x->limit, .selector = x->sel,
		.type = a & X86_SEG_TYPE, .s = !!(a & X86_SEG_S), .dpl = a >> X86_SEG_DPL_SHIFT & 3,
		.present = !!(a & X86_SEG_P), .avl = !!(a & X86_SEG_AVL), .l = !!(a & X86_SEG_L),
		.db = !!(a & X86_SEG_DB), .g = !!(a & X86_SEG_G), .unusable = !!(a & X86_SEG_UNUSABLE),
	};
}

/* Hardware enters no guest whose TR is not a busy TSS (SDM vol. 3 26.3.1.2). */
static struct kvm_segment kvm_tr_of(const struct x86_seg *x)
{
	struct kvm_segment k = kvm_seg_of(x);

	if (!k.unusable && k.present)
		return k;
	return (struct kvm_segment){ .base = x->base, .limit = 0xffff, .type = 11, .present = 1 };
}

/* The members that struct kvm_sregs and kvm_sregs2 share, by the same names. */
#define KVM_SREGS_GET(k, s)                                                             \
	do {                                                                            \
		(s)->seg[X86_ES] = kvm_seg_get(&(k)->es);                               \
		(s)->seg[X86_CS] = kvm_seg_get(&(k)->cs);                               \
		(s)->seg[X86_SS] = kvm_seg_get(&(k)->ss);                               \
		(s)->seg[X86_DS] = kvm_seg_get(&(k)->ds);                               \
		(s)->seg[X86_FS] = kvm_seg_get(&(k)->fs);                               \
		(s)->seg[X86_GS] = kvm_seg_get(&(k)->gs);                               \
		(s)->ldtr = kvm_seg_get(&(k)->ldt);                                     \
		(s)->tr = kvm_seg_get(&(k)->tr);                                        \
		(s)->gdtr = (struct x86_dtab){ (k)->gdt.base, (k)->gdt.limit };         \
		(s)->idtr = (struct x86_dtab){ (k)->idt.base, (k)->idt.limit };         \
		(s)->cr0 = (k)->cr0;                                                    \
		(s)->cr2 = (k)->cr2;                                                    \
		(s)->cr3 = (k)->cr3;                                                    \
		(s)->cr4 = (k)->cr4;                                                    \
		(s)->efer = (k)->efer;                                                  \
	} while (0)

#define KVM_SREGS_SET(k, s)                                                             \
	do {                                                                            \
		(k)->es = kvm_seg_of(&(s)->seg[X86_ES]);                                \
		(k)->cs = kvm_seg_of(&(s)->seg[X86_CS]);                                \
		(k)->ss = kvm_seg_of(&(s)->seg[X86_SS]);                                \
		(k)->ds = kvm_seg_of(&(s)->seg[X86_DS]);                                \
		(k)->fs = kvm_seg_of(&(s)->seg[X86_FS]);                                \
		(k)->gs = kvm_seg_of(&(s)->seg[X86_GS]);                                \
		(k)->ldt = kvm_seg_of(&(s)->ldtr);                                      \
		(k)->tr = kvm_tr_of(&(s)->tr);                                          \
		(k)->gdt.base = (s)->gdtr.base;                                         \
		(k)->gdt.limit = (s)->gdtr.limit;                                       \
		(k)->idt.base = (s)->idtr.base;                                         \
		(k)->idt.limit = (s)->idtr.limit;                                       \
		(k)->cr0 = (s)->cr0;                                                    \
		(k)->cr2 = (s)->cr2;                                                    \
		(k)->cr3 = (s)->cr3;                                                    \
		(k)->cr4 = (s)->cr4;                                                    \
		(k)->efer = (s)->efer;                                                  \
	} while (0)

static int kvm_get_sregs(struct vcpu *v, struct x86_state *s)
{
	struct kvm_sregs2 k2;
	struct kvm_sregs k;
	int r;

	if (v->vm->has_sregs2) {
		r = kvm_ioctl(v->fd, KVM_GET_SREGS2, &k2);
		if (!r)
			KVM_SREGS_GET(&k2, s);
		return r;
	}
	r = kvm_ioctl(v->fd, KVM_GET_SREGS, &k);
	if (!r)
		KVM_SREGS_GET(&k, s);
	return r;
}

/* APIC base and CR8 belong to the LAPIC's state: they stay. With SREGS2 the PDPTEs are loaded
 * from memory again (flags 0), as by a write to CR3. */
static int kvm_set_sregs(struct vcpu *v, const struct x86_state *s)
{
	struct kvm_sregs2 k2;
	struct kvm_sregs k;
	int r;

	if (v->vm->has_sregs2) {
		r = kvm_ioctl(v->fd, KVM_GET_SREGS2, &k2);
		if (r < 0)
			return r;
		KVM_SREGS_SET(&k2, s);
		k2.flags = 0;
		return kvm_ioctl(v->fd, KVM_SET_SREGS2, &k2);
	}
	r = kvm_ioctl(v->fd, KVM_GET_SREGS, &k);
	if (r < 0)
		return r;
	KVM_SREGS_SET(&k, s);
	memset(k.interrupt_bitmap, 0, sizeof(k.interrupt_bitmap));
	return kvm_ioctl(v->fd, KVM_SET_SREGS, &k);
}

/* --- general registers, vector state, debug registers ------------------------------------ */

static int kvm_get_regs(struct vcpu *v, struct x86_state *s)
{
	struct kvm_regs k;
	int r = kvm_ioctl(v->fd, KVM_GET_REGS, &k);
	const uint64_t gpr[16] = { k.rax, k.rcx, k.rdx, k.rbx, k.rsp, k.rbp, k.rsi, k.rdi,
				   k.r8, k.r9, k.r10, k.r11, k.r12, k.r13, k.r14, k.r15 };

	if (r < 0)
		return r;
	memcpy(s->gpr, gpr, sizeof(gpr));
	s->rip = k.rip;
	s->rflags = k.rflags;
	return 0;
}

static int kvm_set_regs(struct vcpu *v, const struct x86_state *s)
{
	const uint64_t *g = s->gpr;
	struct kvm_regs k = {
		.rax = g[X86_RAX], .rcx = g[X86_RCX], .rdx = g[X86_RDX], .rbx = g[X86_RBX],
		.rsp = g[X86_RSP], .rbp = g[X86_RBP], .rsi = g[X86_RSI], .rdi = g[X86_RDI],
		.r8 = g[X86_R8], .r9 = g[X86_R9], .r10 = g[X86_R10], .r11 = g[X86_R11],
		.r12 = g[X86_R12], .r13 = g[X86_R13], .r14 = g[X86_R14], .r15 = g[X86_R15],
		.rip = s->rip, .rflags = s->rflags | X86_FLAGS_FIXED,
	};

	return kvm_ioctl(v->fd, KVM_SET_REGS, &k);
}

_Static_assert(X86_XSAVE_SIZE <= sizeof(struct kvm_xsave), "the kernel's area holds ours");

static int kvm_get_xsave(struct vcpu *v, struct x86_state *s)
{
	struct kvm_xcrs xcrs = { 0 };
	struct kvm_xsave x;
	int r = kvm_ioctl(v->fd, KVM_GET_XSAVE, &x);

	if (!r)
		r = kvm_ioctl(v->fd, KVM_GET_XCRS, &xcrs);
	if (r < 0)
		return r;
	memcpy(s->xsave, &x, sizeof(s->xsave));
	s->xcr0 = 1;
	for (unsigned i = 0; i < xcrs.nr_xcrs && i < ARRAY_LEN(xcrs.xcrs); i++)
		if (xcrs.xcrs[i].xcr == 0)
			s->xcr0 = xcrs.xcrs[i].value;
	return 0;
}

static int kvm_set_xsave(struct vcpu *v, const struct x86_state *s)
{
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = s->xcr0 | 1 } };
	struct kvm_xsave x;
	uint64_t bv;

	memset(&x, 0, sizeof(x));
	memcpy(&x, s->xsave, sizeof(s->xsave));
	memcpy(&bv, (char *)&x + X86_XS_BV, sizeof(bv));
	bv |= 3;        /* the legacy area is always live */
	memcpy((char *)&x + X86_XS_BV, &bv, sizeof(bv));
	memset((char *)&x + X86_XS_COMP_BV, 0, 8);
	int r = kvm_ioctl(v->fd, KVM_SET_XCRS, &xcrs);

	return r < 0 ? r : kvm_ioctl(v->fd, KVM_SET_XSAVE, &x);
}

static int kvm_get_debug(struct vcpu *v, struct x86_state *s)
{
	struct kvm_debugregs k;
	int r = kvm_ioctl(v->fd, KVM_GET_DEBUGREGS, &k);

	if (r < 0)
		return r;
	memcpy(s->dr, k.db, sizeof(s->dr));
	s->dr6 = k.dr6;
	s->dr7 = k.dr7;
	return 0;
}

static int kvm_set_debug(struct vcpu *v, const struct x86_state *s)
{
	struct kvm_debugregs k = { .dr6 = s->dr6, .dr7 = s->dr7 };

	memcpy(k.db, s->dr, sizeof(k.db));
	return kvm_ioctl(v->fd, KVM_SET_DEBUGREGS, &k);
}

/* --- events ------------------------------------------------------------------------------ */

static int kvm_get_events(struct vcpu *v, struct x86_state *s)
{
	const struct cpu_host *host = v->vm->cfg.host;
	struct kvm_vcpu_events e;
	struct kvm_mp_state mp;

	if (kvm_given(v) >= 0 && !v->is_returned) {
		host->intr_return(host->arg, v->index, (uint8_t)v->given);
		v->is_returned = true;
	}
	int r = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e);

	if (!r && e.interrupt.injected && !e.interrupt.soft) {
		r = kvm_return_interrupt(v, e.interrupt.nr);
		e.interrupt.injected = 0;
		if (!r)
			r = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e);
	}
	if (!r)
		r = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp);
	if (r < 0)
		return r;
	/* The kernel's KVM_X86_SHADOW_INT_* have the values of int_shadow the other way round. */
	s->int_shadow = (e.interrupt.shadow & KVM_X86_SHADOW_INT_STI ? 1 : 0) |
			(e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2 : 0);
	s->nmi_blocked = e.nmi.masked;
	s->nmi_pending = e.nmi.pending || e.nmi.injected;
	s->sipi_vector = (uint8_t)e.sipi_vector;
	switch (mp.mp_state) {
	case KVM_MP_STATE_HALTED:
		s->mp_state = X86_MP_HALTED;
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
		s->mp_state = X86_MP_WAIT_SIPI;
		break;
	default:
		s->mp_state = X86_MP_RUNNABLE;
	}
	if (v->is_shutdown)
		s->mp_state = X86_MP_SHUTDOWN;
	return 0;
}

static int kvm_set_events(struct vcpu *v, const struct x86_state *s)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu_events e = {
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			 KVM_VCPUEVENT_VALID_SHADOW,
		.interrupt.shadow = (s->int_shadow & 1 ? KVM_X86_SHADOW_INT_STI : 0) |
				    (s->int_shadow & 2 ? KVM_X86_SHADOW_INT_MOV_SS : 0),
		.nmi = { .pending = s->nmi_pending, .masked = s->nmi_blocked },
		.sipi_vector = s->sipi_vector,
	};
	int r = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &e);

	if (s->mp_state == X86_MP_HALTED)
		mp.mp_state = KVM_MP_STATE_HALTED;
	else if (s->mp_state == X86_MP_WAIT_SIPI)
		mp.mp_state = KVM_MP_STATE_INIT_RECEIVED;
	v->is_shutdown = s->mp_state == X86_MP_SHUTDOWN;
	return r < 0 ? r : kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
}

/* --- all of it --------------------------------------------------------------------------- */

int kvm_get_state(struct vcpu *v, struct x86_state *s, struct err *err)
{
	static const struct {
		const char *what;
		int (*get)(struct vcpu *v, struct x86_state *s);
	} parts[] = {
		{ "general registers", kvm_get_regs },
		{ "segment and control registers", kvm_get_sregs },
		{ "vector registers", kvm_get_xsave },
		{ "debug registers", kvm_get_debug },
		{ "pending events", kvm_get_events },
	};
	int r;

	if (v->has_unfinished_io)
		kvm_settle(v);
	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		r = parts[i].get(v, s);
		if (r < 0)
			return err_set(err, r, "KVM does not tell the %s: %s", parts[i].what, strerror(-r));
	}
	r = kvm_move_msrs(v, s, false, err);
	if (r < 0)
		return r;
	r = kvm_get_tsc(v, &s->tsc_offset);
	return r < 0 ? err_set(err, r, "KVM does not tell the TSC: %s", strerror(-r)) : 0;
}

int kvm_set_state(struct vcpu *v, const struct x86_state *s, struct err *err)
{
	/* Control registers first: what may be in the others depends on them. */
	static const struct {
		const char *what;
		int (*set)(struct vcpu *v, const struct x86_state *s);
	} parts[] = {
		{ "segment and control registers", kvm_set_sregs },
		{ "general registers", kvm_set_regs },
		{ "vector registers", kvm_set_xsave },
		{ "debug registers", kvm_set_debug },
		{ "pending events", kvm_set_events },
	};
	int r;

	if (v->has_unfinished_io)
		kvm_settle(v);
	for (unsigned i = 0; i < ARRAY_LEN(parts); i++) {
		r = parts[i].set(v, s);
		if (r < 0)
			return err_set(err, r, "KVM does not take the %s: %s", parts[i].what, strerror(-r));
	}
	v->is_window_stale = true;
	v->given = -1;
	v->is_returned = false;
	r = kvm_move_msrs(v, (struct x86_state *)(uintptr_t)s, true, err);  /* only read */
	if (r < 0)
		return r;
	r = kvm_set_tsc(v, s->tsc_offset);
	return r < 0 ? err_set(err, r, "KVM does not take the TSC: %s", strerror(-r)) : 0;
}

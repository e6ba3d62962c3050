/* SPDX-License-Identifier: Apache-2.0 */
/* sys_iret.c - IRET in every mode (SDM vol. 2, IRET/IRETD/IRETQ; vol. 3 6.14.3, 20.2). */
#include "cpu/interp/sys_priv.h"

/* Flags that any IRET may change; the rest depends on privilege. */
#define IRET_FLAGS (X86_FLAGS_ARITH | X86_TF | X86_DF | X86_NT | X86_RF | X86_AC | X86_ID)

static void iret_real(struct icpu *c, unsigned size)
{
	uint64_t mask = IRET_FLAGS | X86_IF | (c->is_vm86 ? 0 : X86_IOPL);
	struct sys_stack k;

	if (c->is_vm86 && sys_iopl(c) < 3)
		icpu_gp0(c);
	sys_stack_current(c, &k);
	uint64_t rip = sys_stack_pop(c, &k, size);
	uint16_t sel = sys_stack_pop(c, &k, size);
	uint64_t flags = sys_stack_pop(c, &k, size);
	if (rip > c->s.seg[X86_CS].limit)
		icpu_gp0(c);
	sys_stack_commit_sp(c, &k);
	if (c->is_vm86)
		sys_seg_set_vm86(c, X86_CS, sel);
	else
		sys_seg_set_real(c, X86_CS, sel);
	c->next_rip = rip;
	icpu_set_flags(c, flags, size == 2 ? mask & 0xffff : mask);
	icpu_mode_changed(c);
}

/* Back to virtual-8086 mode: six more words, no checks (SDM vol. 3 20.2.2). */
static void iret_to_vm86(struct icpu *c, struct sys_stack *k, uint64_t rip, uint16_t cs, uint64_t flags)
{
	static const uint8_t order[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	uint16_t sel[X86_N_SEGS];

	uint64_t sp = sys_stack_pop(c, k, 4);
	sel[X86_SS] = sys_stack_pop(c, k, 4);
	for (unsigned i = 0; i < sizeof(order); i++)
		sel[order[i]] = sys_stack_pop(c, k, 4);
	sel[X86_CS] = cs;
	rip &= 0xffff;
	for (unsigned seg = 0; seg < X86_N_SEGS; seg++)
		sys_seg_set_vm86(c, seg, sel[seg]);
	c->s.gpr[X86_RSP] = (uint32_t)sp;
	c->next_rip = rip;
	icpu_set_flags(c, flags, IRET_FLAGS | X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP);
	icpu_mode_changed(c);
}

/* NT is set: go back to the task that the TSS links to (SDM vol. 3 7.4). */
static void iret_task(struct icpu *c)
{
	uint16_t sel = sys_read16(c, (uint32_t)c->s.tr.base);
	struct sys_desc d;

	if (sel & 4)
		sys_fault(c, X86_EXC_TS, sel, 0);
	sys_desc_fetch(c, sel, &d, X86_EXC_TS, 0);
	if ((d.attr & X86_SEG_S) || (sys_type(&d) != SYS_TSS_BUSY && sys_type(&d) != SYS_TSS16_BUSY))
		sys_fault(c, X86_EXC_TS, sel, 0);
	sys_task_switch(c, &d, SYS_TASK_IRET, c->next_rip, 0);
}

static uint64_t iret_flags_mask(const struct icpu *c, unsigned size)
{
	uint64_t mask = IRET_FLAGS;

	if (c->cpl <= sys_iopl(c))
		mask |= X86_IF;
	if (c->cpl == 0)
		mask |= X86_IOPL | X86_VIF | X86_VIP;
	return size == 2 ? mask & 0xffff : mask;
}

static void iret_protected(struct icpu *c, unsigned size)
{
	struct sys_stack k, to;
	struct x86_seg ss = c->s.seg[X86_SS];
	struct sys_desc d;

	sys_stack_current(c, &k);
	uint64_t rip = sys_stack_pop(c, &k, size);
	uint16_t sel = sys_stack_pop(c, &k, size);
	uint64_t flags = sys_stack_pop(c, &k, size);
	if (!c->is_long && size == 4 && (flags & X86_VM) && c->cpl == 0) {
		iret_to_vm86(c, &k, rip, sel, flags);
		return;
	}
	if (sys_is_null(sel))
		icpu_gp0(c);
	sys_return_cs_fetch(c, sel, &d);
	unsigned rpl = sel & 3, old_cpl = c->cpl;
	/* 64-bit mode always returns with a stack; other modes only outwards. */
	bool has_stack = rpl != c->cpl || c->mode == X86_MODE_64;
	to = k;
	if (has_stack) {
		uint64_t sp = sys_stack_pop(c, &k, size);
		uint16_t ss_sel = sys_stack_pop(c, &k, size);

		sys_return_ss_load(c, ss_sel, rpl, d.attr, &ss);
		sys_stack_init(c, &to, &ss, sp, rpl);
		if (sys_is_code64(c, d.attr))
			to.mask = ~0ull;
	}
	sys_check_rip(c, d.attr, d.limit, rip, 0);
	sys_desc_touch(c, &d);

	icpu_set_flags(c, flags, iret_flags_mask(c, size));
	c->s.seg[X86_SS] = ss;
	sys_stack_commit_sp(c, &to);
	sys_enter_cs(c, &d, rpl, rip);
	if (rpl != old_cpl)
		sys_drop_segs(c, rpl);
}

void sys_op_iret(struct icpu *c, const struct iop *op)
{
	/* NMIs open up even when the IRET faults (SDM vol. 3 6.7.1). */
	if (c->s.nmi_blocked) {
		c->s.nmi_blocked = 0;
		if (c->s.nmi_pending)
			sys_recheck(c);
	}
	if (c->is_real_or_vm86) {
		iret_real(c, op->x.opsize);
		return;
	}
	if (c->s.rflags & X86_NT) {
		if (c->is_long)
			icpu_gp0(c);
		iret_task(c);
		return;
	}
	iret_protected(c, op->x.opsize);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sys_far.c - far JMP, CALL and RET (SDM vol. 2, the pseudo code of each; vol. 3 5.8). */
#include "cpu/interp/sys_priv.h"

/* What the instruction names: a selector and an offset. */
struct far {
	uint16_t sel;
	uint64_t off;
	unsigned size;          /* operand size */
};

static struct far far_operand(struct icpu *c, const struct iop *op)
{
	struct far f = { .size = op->x.opsize };

	if (op->x.opnd[0].kind == X86_O_MEM) {
		uint64_t la = icpu_ea(c, op, f.size + 2, ICPU_READ);

		f.off = icpu_read(c, la, f.size);
		f.sel = icpu_read16(c, la + f.size);
	} else {
		f.off = op->x.imm & sys_size_mask(f.size);
		f.sel = op->x.imm2;
	}
	return f;
}

void sys_enter_cs(struct icpu *c, struct sys_desc *d, unsigned cpl, uint64_t rip)
{
	sys_seg_from_desc(&c->s.seg[X86_CS], d, (d->sel & ~3) | cpl);
	c->s.rip = c->next_rip = rip;
	icpu_mode_changed(c);
}

static void far_real(struct icpu *c, const struct far *f)
{
	if (f->off > c->s.seg[X86_CS].limit)
		icpu_gp0(c);
	if (c->is_vm86)
		sys_seg_set_vm86(c, X86_CS, f->sel);
	else
		sys_seg_set_real(c, X86_CS, f->sel);
	c->next_rip = f->off;
	icpu_mode_changed(c);
}

/* A code segment that JMP or CALL names directly. */
static void far_check_code(struct icpu *c, const struct sys_desc *d)
{
	bool is_bad = sys_is_conforming(d) ? sys_dpl(d) > c->cpl
					   : (d->sel & 3u) > c->cpl || sys_dpl(d) != c->cpl;

	if (is_bad || (c->is_long && (d->attr & X86_SEG_L) && (d->attr & X86_SEG_DB)))
		sys_fault(c, X86_EXC_GP, d->sel, 0);
	if (!sys_present(d))
		sys_fault(c, X86_EXC_NP, d->sel, 0);
}

/* A call gate, read and checked, and the code segment behind it. */
struct far_gate {
	uint64_t off;
	unsigned size;          /* 2, 4, 8 */
	unsigned n_params;
	struct sys_desc cs;
};

static void far_read_gate(struct icpu *c, const struct sys_desc *gate, bool is_call, struct far_gate *g)
{
	g->size = c->is_long ? 8 : sys_type(gate) == SYS_CALL ? 4 : 2;
	g->off = g->size == 2 ? gate->raw & 0xffff : sys_gate_offset(gate);
	g->n_params = c->is_long ? 0 : (gate->raw >> 32) & 0x1f;
	if (c->is_long)
		g->off |= (uint64_t)sys_desc_high(c, gate, X86_EXC_GP, 0) << 32;
	if (!sys_present(gate))
		sys_fault(c, X86_EXC_NP, gate->sel, 0);

	uint16_t sel = sys_gate_sel(gate);
	if (sys_is_null(sel))
		icpu_gp0(c);
	sys_desc_fetch(c, sel, &g->cs, X86_EXC_GP, 0);
	unsigned dpl = sys_dpl(&g->cs);
	/* A gate lifts privilege for CALL only; JMP must stay where it is. */
	if (!sys_is_code(&g->cs) || dpl > c->cpl || (!is_call && !sys_is_conforming(&g->cs) && dpl != c->cpl))
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (c->is_long && (g->cs.attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_present(&g->cs))
		sys_fault(c, X86_EXC_NP, sel, 0);
}

/* Read the descriptor of a far transfer's selector; system ones get the checks that gates and
 * TSSs share. */
static void far_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d)
{
	if (sys_is_null(sel))
		icpu_gp0(c);
	sys_desc_fetch(c, sel, d, X86_EXC_GP, 0);
	if (sys_is_code(d))
		return;
	unsigned type = sys_type(d);
	bool is_known = c->is_long ? type == SYS_CALL
		: type == SYS_CALL || type == SYS_CALL16 || type == SYS_TASK_GATE || type == SYS_TSS || type == SYS_TSS16;

	if ((d->attr & X86_SEG_S) || !is_known || sys_dpl(d) < c->cpl || sys_dpl(d) < (sel & 3u))
		sys_fault(c, X86_EXC_GP, sel, 0);
}

/* Through a task gate or to a TSS. */
static void far_task(struct icpu *c, struct sys_desc *d, enum sys_task_how how)
{
	struct sys_desc tss = *d;

	if (sys_type(d) == SYS_TASK_GATE) {
		if (!sys_present(d))
			sys_fault(c, X86_EXC_NP, d->sel, 0);
		sys_task_gate(c, d, &tss, 0);
	} else if (d->sel & 4) {
		sys_fault(c, X86_EXC_GP, d->sel, 0);
	}
	sys_task_switch(c, &tss, how, c->next_rip, 0);
}

static bool far_is_call_gate(const struct sys_desc *d)
{
	return !(d->attr & X86_SEG_S) && (sys_type(d) == SYS_CALL || sys_type(d) == SYS_CALL16);
}

void sys_op_jmpf(struct icpu *c, const struct iop *op)
{
	struct far f = far_operand(c, op);
	struct far_gate g;
	struct sys_desc d;

	if (c->is_real_or_vm86) {
		far_real(c, &f);
		return;
	}
	far_fetch(c, f.sel, &d);
	if (sys_is_code(&d)) {
		far_check_code(c, &d);
	} else if (far_is_call_gate(&d)) {
		far_read_gate(c, &d, false, &g);
		f.off = g.off;
		d = g.cs;
	} else {
		far_task(c, &d, SYS_TASK_JMP);
		return;
	}
	sys_check_rip(c, d.attr, d.limit, f.off, 0);
	sys_desc_touch(c, &d);
	sys_enter_cs(c, &d, c->cpl, f.off);
}

/* CALL without change of privilege: push, then go. A call from compatibility to 64-bit mode
 * through a gate pushes on the 64-bit stack. */
static void far_call_same(struct icpu *c, struct sys_desc *d, uint64_t off, unsigned size)
{
	struct sys_stack k;

	sys_check_rip(c, d->attr, d->limit, off, 0);
	sys_stack_current(c, &k);
	if (sys_is_code64(c, d->attr) && size == 8) {
		k.is64 = true;
		k.mask = ~0ull;
		k.sp = c->s.gpr[X86_RSP];
	}
	sys_stack_push(c, &k, size, c->s.seg[X86_CS].sel);
	sys_stack_push(c, &k, size, c->next_rip);
	sys_desc_touch(c, d);
	sys_stack_commit_sp(c, &k);
	sys_enter_cs(c, d, c->cpl, off);
}

/* CALL through a gate to an inner ring: switch stacks, copy parameters (SDM vol. 3 5.8.5). */
static void far_call_inner(struct icpu *c, struct far_gate *g)
{
	unsigned cpl = sys_dpl(&g->cs);
	struct sys_stack old, k;

	sys_stack_current(c, &old);
	sys_stack_inner(c, &k, cpl, 0, 0);
	sys_check_rip(c, g->cs.attr, g->cs.limit, g->off, 0);
	sys_stack_push(c, &k, g->size, c->s.seg[X86_SS].sel);
	sys_stack_push(c, &k, g->size, c->s.gpr[X86_RSP]);
	for (unsigned i = g->n_params; i-- > 0;)
		sys_stack_push(c, &k, g->size, sys_stack_peek(c, &old, (uint64_t)i * g->size, g->size));
	sys_stack_push(c, &k, g->size, c->s.seg[X86_CS].sel);
	sys_stack_push(c, &k, g->size, c->next_rip);
	sys_desc_touch(c, &g->cs);
	c->s.seg[X86_SS] = k.ss;
	sys_stack_commit_sp(c, &k);
	sys_enter_cs(c, &g->cs, cpl, g->off);
}

void sys_op_callf(struct icpu *c, const struct iop *op)
{
	struct far f = far_operand(c, op);
	struct far_gate g;
	struct sys_desc d;

	if (c->is_real_or_vm86) {
		struct sys_stack k;

		if (f.off > c->s.seg[X86_CS].limit)
			icpu_gp0(c);
		sys_stack_current(c, &k);
		sys_stack_push(c, &k, f.size, c->s.seg[X86_CS].sel);
		sys_stack_push(c, &k, f.size, c->next_rip);
		sys_stack_commit_sp(c, &k);
		far_real(c, &f);
		return;
	}
	far_fetch(c, f.sel, &d);
	if (sys_is_code(&d)) {
		far_check_code(c, &d);
		far_call_same(c, &d, f.off, f.size);
	} else if (far_is_call_gate(&d)) {
		far_read_gate(c, &d, true, &g);
		if (!sys_is_conforming(&g.cs) && sys_dpl(&g.cs) < c->cpl)
			far_call_inner(c, &g);
		else
			far_call_same(c, &g.cs, g.off, g.size);
	} else {
		far_task(c, &d, SYS_TASK_CALL);
	}
}

void sys_return_cs_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d)
{
	unsigned rpl = sel & 3;

	sys_desc_fetch(c, sel, d, X86_EXC_GP, 0);
	if (!sys_is_code(d) || rpl < c->cpl ||
	    (sys_is_conforming(d) ? sys_dpl(d) > rpl : sys_dpl(d) != rpl) ||
	    (c->is_long && (d->attr & X86_SEG_L) && (d->attr & X86_SEG_DB)))
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_present(d))
		sys_fault(c, X86_EXC_NP, sel, 0);
}

void sys_return_ss_load(struct icpu *c, uint16_t sel, unsigned rpl, uint32_t cs_attr, struct x86_seg *out)
{
	struct sys_desc d;

	/* 64-bit code of rings 0 to 2 may have a null SS. */
	if (sys_is_null(sel) && sys_is_code64(c, cs_attr) && rpl != 3 && (sel & 3u) == rpl) {
		sys_seg_set_null(out, sel, rpl);
		return;
	}
	sys_ss_fetch(c, sel, rpl, &d, X86_EXC_GP, 0);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(out, &d, sel);
}

void sys_drop_segs(struct icpu *c, unsigned cpl)
{
	static const uint8_t segs[] = { X86_ES, X86_DS, X86_FS, X86_GS };

	for (unsigned i = 0; i < sizeof(segs); i++) {
		struct x86_seg *s = &c->s.seg[segs[i]];
		bool is_conforming = (s->attr & X86_SEG_CODE) && (s->attr & X86_SEG_DC);

		if ((s->attr & X86_SEG_UNUSABLE) || is_conforming || ((s->attr >> X86_SEG_DPL_SHIFT) & 3) >= cpl)
			continue;
		/* The base stays: 64-bit code still reaches memory by FS and GS. */
		s->sel = 0;
		s->attr = X86_SEG_UNUSABLE;
	}
}

static void far_ret_protected(struct icpu *c, unsigned size, unsigned n_drop)
{
	struct sys_stack k, outer;
	struct sys_desc d;
	struct x86_seg ss;

	sys_stack_current(c, &k);
	uint64_t rip = sys_stack_pop(c, &k, size);
	uint16_t sel = sys_stack_pop(c, &k, size);
	if (sys_is_null(sel))
		icpu_gp0(c);
	sys_return_cs_fetch(c, sel, &d);
	unsigned rpl = sel & 3;
	k.sp = (k.sp + n_drop) & k.mask;
	if (rpl == c->cpl) {
		sys_check_rip(c, d.attr, d.limit, rip, 0);
		sys_desc_touch(c, &d);
		sys_stack_commit_sp(c, &k);
		sys_enter_cs(c, &d, rpl, rip);
		return;
	}
	uint64_t sp = sys_stack_pop(c, &k, size);
	uint16_t ss_sel = sys_stack_pop(c, &k, size);
	sys_return_ss_load(c, ss_sel, rpl, d.attr, &ss);
	sys_check_rip(c, d.attr, d.limit, rip, 0);
	sys_desc_touch(c, &d);
	sys_stack_init(c, &outer, &ss, sp + n_drop, rpl);
	if (sys_is_code64(c, d.attr))
		outer.mask = ~0ull;
	c->s.seg[X86_SS] = ss;
	sys_stack_commit_sp(c, &outer);
	sys_enter_cs(c, &d, rpl, rip);
	sys_drop_segs(c, rpl);
}

void sys_op_retf(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize, n_drop = op->x.n_opnds ? op->x.imm & 0xffff : 0;
	struct far f = { .size = size };
	struct sys_stack k;

	if (!c->is_real_or_vm86) {
		far_ret_protected(c, size, n_drop);
		return;
	}
	sys_stack_current(c, &k);
	f.off = sys_stack_pop(c, &k, size);
	f.sel = sys_stack_pop(c, &k, size);
	k.sp += n_drop;
	if (f.off > c->s.seg[X86_CS].limit)
		icpu_gp0(c);
	sys_stack_commit_sp(c, &k);
	far_real(c, &f);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sys_event.c - delivering exceptions and interrupts (SDM vol. 3 chapter 6, 20.1.4, 20.3).
 *
 * CR4.VME and CR4.PVI are not announced, so virtual-8086 interrupts always go through the
 * IDT. Memory below the new stack pointer may have been written when delivery faults; nothing
 * else has changed by then. */
#include "cpu/interp/sys_priv.h"

#define DR7_GD (1u << 13)
#define FLAGS_CLEARED (X86_TF | X86_NT | X86_RF | X86_VM)

/* What the delivery has found out so far. */
struct delivery {
	const struct icpu_event *ev;
	unsigned ext;
	uint64_t rip;           /* to return to */
	uint64_t flags;         /* to push */
	unsigned size;          /* of what is pushed: 2, 4 or 8 */
	unsigned ist;
	bool is_trap;           /* a trap gate leaves IF alone */
	uint16_t cs_sel;
	uint64_t offset;
	struct sys_desc cs;
	unsigned new_cpl;
};

/* Faults push RF so that an instruction breakpoint does not hit again (SDM vol. 3 17.3.1.1). */
static bool event_is_fault(const struct icpu_event *ev)
{
	const uint32_t not_faults = 1u << X86_EXC_DB | 1u << X86_EXC_NMI | 1u << X86_EXC_BP |
				    1u << X86_EXC_OF | 1u << X86_EXC_DF | 1u << X86_EXC_MC;

	return !ev->is_soft && !ev->is_external && ev->vector < 32 && !(not_faults >> ev->vector & 1);
}

/* Side effects of having delivered. */
static void event_done(struct icpu *c, const struct icpu_event *ev)
{
	if (ev->is_soft)
		return;
	if (ev->vector == X86_EXC_NMI)
		c->s.nmi_blocked = 1;
	if (ev->vector == X86_EXC_DB && !ev->is_external)
		c->s.dr7 &= ~(uint64_t)DR7_GD;
}

static void event_deliver_real(struct icpu *c, struct delivery *d)
{
	uint32_t off = d->ev->vector * 4u;
	struct sys_stack k;

	if (off + 3 > c->s.idtr.limit)
		icpu_gp0(c);
	uint32_t vec = sys_read32(c, (uint32_t)(c->s.idtr.base + off));
	sys_stack_current(c, &k);
	sys_stack_push(c, &k, 2, d->flags);
	sys_stack_push(c, &k, 2, c->s.seg[X86_CS].sel);
	sys_stack_push(c, &k, 2, d->rip);
	sys_stack_commit_sp(c, &k);
	icpu_set_flags(c, 0, X86_IF | X86_TF | X86_AC | X86_RF);
	sys_seg_set_real(c, X86_CS, vec >> 16);
	c->s.rip = c->next_rip = vec & 0xffff;
	icpu_mode_changed(c);
}

/* Read and check the gate (SDM vol. 3 6.12, 6.14). False: it was a task gate, and is in *GATE. */
static bool event_read_gate(struct icpu *c, struct delivery *d, struct sys_desc *gate)
{
	unsigned vector = d->ev->vector, width = c->is_long ? 16 : 8;
	uint32_t off = vector * width, code = vector * 8 + 2 + d->ext;
	uint64_t hi = 0;

	if (off + width - 1 > c->s.idtr.limit)
		icpu_raise_code(c, X86_EXC_GP, code);
	uint64_t la = c->is_long ? c->s.idtr.base + off : (uint32_t)(c->s.idtr.base + off);
	sys_desc_decode(gate, sys_read64(c, la), la, 0);
	if (c->is_long)
		hi = sys_read64(c, la + 8);

	unsigned type = sys_type(gate);
	bool is_big = type == SYS_INT || type == SYS_TRAP;
	bool is_legacy = type == SYS_INT16 || type == SYS_TRAP16 || type == SYS_TASK_GATE;
	if ((gate->attr & X86_SEG_S) || !(is_big || (is_legacy && !c->is_long)))
		icpu_raise_code(c, X86_EXC_GP, code);
	if (d->ev->is_soft && sys_dpl(gate) < c->cpl)
		icpu_raise_code(c, X86_EXC_GP, code);
	if (!sys_present(gate))
		icpu_raise_code(c, X86_EXC_NP, code);
	if (type == SYS_TASK_GATE)
		return false;
	d->is_trap = type & 1;
	d->size = c->is_long ? 8 : is_big ? 4 : 2;
	d->ist = c->is_long ? (gate->raw >> 32) & 7 : 0;
	d->cs_sel = sys_gate_sel(gate);
	d->offset = is_big ? sys_gate_offset(gate) | (c->is_long ? hi << 32 : 0) : gate->raw & 0xffff;
	return true;
}

static void event_check_cs(struct icpu *c, struct delivery *d)
{
	if (sys_is_null(d->cs_sel))
		icpu_raise_code(c, X86_EXC_GP, d->ext);
	sys_desc_fetch(c, d->cs_sel, &d->cs, X86_EXC_GP, d->ext);
	if (!sys_is_code(&d->cs) || sys_dpl(&d->cs) > c->cpl)
		sys_fault(c, X86_EXC_GP, d->cs_sel, d->ext);
	/* Long mode handlers are 64-bit code (SDM vol. 3 6.14.1). */
	if (c->is_long && (d->cs.attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
		sys_fault(c, X86_EXC_GP, d->cs_sel, d->ext);
	if (!sys_present(&d->cs))
		sys_fault(c, X86_EXC_NP, d->cs_sel, d->ext);
	d->new_cpl = sys_is_conforming(&d->cs) ? c->cpl : sys_dpl(&d->cs);
	if (c->is_vm86 && d->new_cpl != 0)
		sys_fault(c, X86_EXC_GP, d->cs_sel, d->ext);
}

/* The stack that the handler starts on, before anything is pushed. */
static void event_pick_stack(struct icpu *c, struct delivery *d, struct sys_stack *k)
{
	if (d->new_cpl < c->cpl || d->ist) {
		sys_stack_inner(c, k, d->new_cpl, d->ist, d->ext);
	} else {
		sys_stack_current(c, k);
		if (c->is_long) {       /* compatibility mode has interrupted itself */
			k->is64 = true;
			k->mask = ~0ull;
			k->sp = c->s.gpr[X86_RSP];
		}
		k->code = d->ext;
	}
	if (c->is_long)
		k->sp &= ~0xfull;
}

static void event_push_frame(struct icpu *c, const struct delivery *d, struct sys_stack *k)
{
	const struct x86_seg *seg = c->s.seg;

	if (c->is_vm86) {
		static const uint8_t order[] = { X86_GS, X86_FS, X86_DS, X86_ES };

		for (unsigned i = 0; i < sizeof(order); i++)
			sys_stack_push(c, k, d->size, seg[order[i]].sel);
	}
	if (c->is_long || d->new_cpl < c->cpl) {
		sys_stack_push(c, k, d->size, seg[X86_SS].sel);
		sys_stack_push(c, k, d->size, c->s.gpr[X86_RSP]);
	}
	sys_stack_push(c, k, d->size, d->flags);
	sys_stack_push(c, k, d->size, seg[X86_CS].sel);
	sys_stack_push(c, k, d->size, d->rip);
	if (d->ev->has_code)
		sys_stack_push(c, k, d->size, d->ev->code);
}

static void event_deliver_task(struct icpu *c, struct delivery *d, const struct sys_desc *gate)
{
	struct sys_desc tss;
	struct sys_stack k;

	sys_task_gate(c, gate, &tss, d->ext);
	/* The image of EFLAGS saved in the old TSS carries RF as a pushed one would. */
	c->s.rflags = d->flags;
	sys_task_switch(c, &tss, SYS_TASK_CALL, d->rip, d->ext);
	if (d->ev->has_code) {
		sys_stack_current(c, &k);
		k.code = d->ext;
		sys_stack_push(c, &k, tss.attr & 8 ? 4 : 2, d->ev->code);
		sys_stack_commit_sp(c, &k);
	}
}

static void event_deliver_protected(struct icpu *c, struct delivery *d)
{
	struct sys_desc gate;
	struct sys_stack k;

	if (!event_read_gate(c, d, &gate)) {
		event_deliver_task(c, d, &gate);
		return;
	}
	event_check_cs(c, d);
	sys_check_rip(c, d->cs.attr, d->cs.limit, d->offset, d->ext);
	event_pick_stack(c, d, &k);
	event_push_frame(c, d, &k);
	sys_desc_touch(c, &d->cs);

	/* Nothing faults from here on. */
	bool was_vm86 = c->is_vm86;
	if (d->new_cpl < c->cpl)
		c->s.seg[X86_SS] = k.ss;
	sys_stack_commit_sp(c, &k);
	if (was_vm86)
		for (unsigned seg = 0; seg < X86_N_SEGS; seg++)
			if (seg != X86_CS && seg != X86_SS)
				sys_seg_set_null(&c->s.seg[seg], 0, 0);
	icpu_set_flags(c, 0, FLAGS_CLEARED | (d->is_trap ? 0 : X86_IF));
	sys_enter_cs(c, &d->cs, d->new_cpl, d->offset);
}

static void event_deliver(struct icpu *c, const struct icpu_event *ev, uint64_t rip)
{
	struct delivery d = { .ev = ev, .ext = !ev->is_soft, .rip = rip, .flags = c->s.rflags };

	if (event_is_fault(ev))
		d.flags |= X86_RF;
	if (!(c->s.cr0 & X86_CR0_PE))
		event_deliver_real(c, &d);
	else
		event_deliver_protected(c, &d);
	event_done(c, ev);
}

void icpu_deliver(struct icpu *c, const struct icpu_event *ev)
{
	event_deliver(c, ev, ev->is_soft ? c->next_rip : c->s.rip);
}

/* --- instructions that ask for an event ------------------------------------------------------ */

static void event_soft(struct icpu *c, uint8_t vector)
{
	const struct icpu_event ev = { .vector = vector, .is_soft = true };

	icpu_deliver(c, &ev);
	c->is_traced = false;   /* entering the handler has cleared TF (SDM vol. 3 17.3.1.4) */
}

void sys_op_int(struct icpu *c, const struct iop *op)
{
	/* INT n is IOPL-sensitive in virtual-8086 mode; INT3 and INTO are not. */
	if (c->is_vm86 && sys_iopl(c) < 3)
		icpu_gp0(c);
	event_soft(c, (uint8_t)op->x.imm);
}

void sys_op_int3(struct icpu *c, const struct iop *op)
{
	event_soft(c, X86_EXC_BP);
}

/* A trap like a hardware #DB: no DPL check, and EXT is set (SDM vol. 2, INT1). Data breakpoints
 * that a MOV SS before it has put off are part of it. */
void sys_op_int1(struct icpu *c, const struct iop *op)
{
	const struct icpu_event ev = { .vector = X86_EXC_DB };

	event_deliver(c, &ev, c->next_rip);
	c->s.dr6 = (c->s.dr6 & ~0xfull) | c->watch_hits;
	c->watch_hits = 0;
	c->is_traced = false;
}

void sys_op_into(struct icpu *c, const struct iop *op)
{
	if (c->s.rflags & X86_OF)
		event_soft(c, X86_EXC_OF);
}

void sys_op_bound(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize;
	uint64_t la = icpu_ea(c, op, 2 * size, ICPU_READ);
	uint64_t lo = icpu_read(c, la, size), hi = icpu_read(c, la + size, size);
	uint64_t v = icpu_get(c, op, 0);
	bool is_out = size == 2 ? (int16_t)v < (int16_t)lo || (int16_t)v > (int16_t)hi
				: (int32_t)v < (int32_t)lo || (int32_t)v > (int32_t)hi;

	if (is_out)
		icpu_raise(c, X86_EXC_BR);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sys_task.c - hardware task switches, 32- and 16-bit (SDM vol. 3 chapter 7).
 *
 * Everything about the two TSSs that can fault is done before the first change. After that the
 * new task is current, and what faults (its LDT, its segments) faults inside it, as on hardware. */
#include <stddef.h>
#include "cpu/interp/sys_priv.h"
#include "util/checked.h"

#define DR6_BT (1u << 15)

/* Register image of a TSS, whichever its width. */
struct task {
	uint32_t cr3, eip, eflags, gpr[8];
	uint16_t sel[X86_N_SEGS], ldt;
	bool has_trap;
};

/* Where things lie (SDM vol. 3 figures 7-2 and 7-10). Registers in x86_gpr order follow `eax`,
 * segments in x86_sreg order follow `es`; fs and gs are not in the 16-bit form. */
struct task_layout {
	uint8_t width;          /* of eip, eflags and the registers */
	uint8_t seg_stride, n_segs;
	uint8_t eip, eflags, eax, es, ldt;
	uint8_t len;            /* bytes in all: the limit is at least len - 1 */
};

static const struct task_layout layout16 = { 2, 2, 4, 14, 16, 18, 34, 42, 44 };
static const struct task_layout layout32 = { 4, 4, 6, 32, 36, 40, 72, 96, 104 };
enum { TSS32_CR3 = 28, TSS32_TRAP = 100, TSS_MAX = 104 };

static const struct task_layout *task_layout(uint32_t attr)
{
	return attr & 8 ? &layout32 : &layout16;
}

static uint32_t task_get(const uint8_t *tss, unsigned off, unsigned width)
{
	uint32_t v = 0;

	memcpy(&v, tss + off, width);
	return v;
}

static void task_parse(const struct task_layout *l, const uint8_t *tss, struct task *t)
{
	*t = (struct task){ 0 };
	t->eip = task_get(tss, l->eip, l->width);
	t->eflags = task_get(tss, l->eflags, l->width);
	for (unsigned i = 0; i < 8; i++)
		t->gpr[i] = task_get(tss, l->eax + i * l->width, l->width) | (l->width == 2 ? 0xffff0000 : 0);
	for (unsigned i = 0; i < l->n_segs; i++)
		t->sel[i] = task_get(tss, l->es + i * l->seg_stride, 2);
	t->ldt = task_get(tss, l->ldt, 2);
	if (l == &layout32) {
		t->cr3 = task_get(tss, TSS32_CR3, 4);
		t->has_trap = tss[TSS32_TRAP] & 1;
	}
}

/* Store the outgoing task: EIP up to the last segment register, nothing else. */
static void task_save(struct icpu *c, uint64_t rip, uint64_t eflags)
{
	const struct task_layout *l = task_layout(c->s.tr.attr);
	uint8_t tss[TSS_MAX];
	unsigned end = l->es + l->n_segs * l->seg_stride, len = end - l->eip;
	uint64_t la = (uint32_t)(c->s.tr.base + l->eip);

	/* icpu_read_slow() takes up to 64 bytes at a time. */
	for (unsigned i = 0; i < len; i += 64)
		icpu_read_slow(c, la + i, tss + l->eip + i, len - i < 64 ? len - i : 64, true);
	memcpy(tss + l->eip, &rip, l->width);
	memcpy(tss + l->eflags, &eflags, l->width);
	for (unsigned i = 0; i < 8; i++)
		memcpy(tss + l->eax + i * l->width, &c->s.gpr[i], l->width);
	for (unsigned i = 0; i < l->n_segs; i++)
		memcpy(tss + l->es + i * l->seg_stride, &c->s.seg[i].sel, 2);
	for (unsigned i = 0; i < len; i += 64)
		icpu_write_slow(c, la + i, tss + l->eip + i, len - i < 64 ? len - i : 64, true);
}

static void task_load_ldt(struct icpu *c, uint16_t sel)
{
	struct sys_desc d;

	sys_seg_set_null(&c->s.ldtr, sel, 0);
	if (sys_is_null(sel))
		return;
	if (sel & 4)
		sys_fault(c, X86_EXC_TS, sel, 0);
	sys_desc_fetch(c, sel, &d, X86_EXC_TS, 0);
	if ((d.attr & X86_SEG_S) || sys_type(&d) != SYS_LDT || !sys_present(&d))
		sys_fault(c, X86_EXC_TS, sel, 0);
	sys_seg_from_desc(&c->s.ldtr, &d, sel);
}

static void task_load_cs(struct icpu *c, uint16_t sel)
{
	struct sys_desc d;
	unsigned rpl = sel & 3;

	if (sys_is_null(sel))
		icpu_raise_code(c, X86_EXC_TS, 0);
	sys_desc_fetch(c, sel, &d, X86_EXC_TS, 0);
	if (!sys_is_code(&d) || (sys_is_conforming(&d) ? sys_dpl(&d) > rpl : sys_dpl(&d) != rpl))
		sys_fault(c, X86_EXC_TS, sel, 0);
	if (!sys_present(&d))
		sys_fault(c, X86_EXC_NP, sel, 0);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(&c->s.seg[X86_CS], &d, sel);
}

static void task_load_ss(struct icpu *c, uint16_t sel)
{
	struct sys_desc d;

	sys_ss_fetch(c, sel, c->cpl, &d, X86_EXC_TS, 0);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(&c->s.seg[X86_SS], &d, sel);
}

static void task_load_data(struct icpu *c, enum x86_sreg seg, uint16_t sel)
{
	struct sys_desc d;

	if (sys_is_null(sel))
		return;
	sys_desc_fetch(c, sel, &d, X86_EXC_TS, 0);
	if (!(d.attr & X86_SEG_S) || (sys_is_code(&d) && !(d.attr & X86_SEG_RW)) ||
	    (!sys_is_conforming(&d) && (sys_dpl(&d) < (sel & 3u) || sys_dpl(&d) < c->cpl)))
		sys_fault(c, X86_EXC_TS, sel, 0);
	if (!sys_present(&d))
		sys_fault(c, X86_EXC_NP, sel, 0);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(&c->s.seg[seg], &d, sel);
}

/* The new task's registers and segments. Faults here belong to it. */
static void task_enter(struct icpu *c, const struct task *t, bool has_cr3)
{
	static const uint8_t data_segs[] = { X86_ES, X86_DS, X86_FS, X86_GS };
	unsigned cpl = t->eflags & X86_VM ? 3 : t->sel[X86_CS] & 3;

	if (has_cr3 && (c->s.cr0 & X86_CR0_PG)) {
		c->s.cr3 = t->cr3;
		icpu_space_switch(c, false);
	}
	for (unsigned i = 0; i < 8; i++)
		c->s.gpr[i] = t->gpr[i];
	c->s.rip = c->next_rip = t->eip;
	c->s.cr0 |= X86_CR0_TS;
	c->s.dr7 &= ~0x155ull;          /* local breakpoint enables L0..L3, LE */
	icpu_set_flags(c, t->eflags, ~0ull);
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		sys_seg_set_null(&c->s.seg[i], t->sel[i], i == X86_SS ? cpl : 0);
	icpu_mode_changed(c);
	task_load_ldt(c, t->ldt);
	if (t->eflags & X86_VM) {
		for (unsigned i = 0; i < X86_N_SEGS; i++)
			sys_seg_set_vm86(c, i, t->sel[i]);
		icpu_mode_changed(c);
	} else {
		task_load_cs(c, t->sel[X86_CS]);
		task_load_ss(c, t->sel[X86_SS]);
		icpu_mode_changed(c);
		for (unsigned i = 0; i < sizeof(data_segs); i++)
			task_load_data(c, data_segs[i], t->sel[data_segs[i]]);
	}
	if (t->eip > c->s.seg[X86_CS].limit)
		icpu_gp0(c);
}

void sys_task_gate(struct icpu *c, const struct sys_desc *gate, struct sys_desc *tss, unsigned ext)
{
	uint16_t sel = sys_gate_sel(gate);

	if (sel & 4)
		sys_fault(c, X86_EXC_GP, sel, ext);
	sys_desc_fetch(c, sel, tss, X86_EXC_GP, ext);
	if ((tss->attr & X86_SEG_S) || (sys_type(tss) != SYS_TSS && sys_type(tss) != SYS_TSS16))
		sys_fault(c, X86_EXC_GP, sel, ext);
}

void sys_task_switch(struct icpu *c, struct sys_desc *d, enum sys_task_how how, uint64_t rip, unsigned ext)
{
	const struct task_layout *l = task_layout(d->attr);
	uint64_t base = d->base, old_flags = c->s.rflags;
	uint16_t old_sel = c->s.tr.sel;
	uint8_t image[TSS_MAX];
	struct sys_desc old;
	struct task t;

	if (!sys_present(d))
		sys_fault(c, X86_EXC_NP, d->sel, ext);
	if (d->limit < l->len - 1u)
		sys_fault(c, X86_EXC_TS, d->sel, ext);
	for (unsigned i = 0; i < l->len; i += 4)
		icpu_read_slow(c, (uint32_t)(base + i), image + i, 4, true);
	task_parse(l, image, &t);
	if (how != SYS_TASK_CALL && sys_desc_read(c, old_sel, &old))
		sys_desc_set_busy(c, &old, false);
	if (how == SYS_TASK_IRET)
		old_flags &= ~(uint64_t)X86_NT;
	task_save(c, rip, old_flags);
	if (how == SYS_TASK_CALL) {
		icpu_write_slow(c, (uint32_t)base, &old_sel, 2, true);
		t.eflags |= X86_NT;
	}
	if (how != SYS_TASK_IRET)
		sys_desc_set_busy(c, d, true);

	sys_seg_from_desc(&c->s.tr, d, d->sel);
	c->s.tr.attr |= SYS_BUSY;
	task_enter(c, &t, l == &layout32);
	if (t.has_trap) {
		c->s.dr6 |= DR6_BT;
		icpu_raise(c, X86_EXC_DB);
	}
}

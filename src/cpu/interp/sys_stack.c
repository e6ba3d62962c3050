/* SPDX-License-Identifier: Apache-2.0 */
/* sys_stack.c - stacks that gates, returns and tasks switch to (SDM vol. 3 5.8.5, 6.12, 6.14). */
#include "cpu/interp/sys_priv.h"

void sys_stack_init(const struct icpu *c, struct sys_stack *k, const struct x86_seg *ss, uint64_t sp, unsigned cpl)
{
	*k = (struct sys_stack){ .sp = sp, .super = cpl != 3 };
	if (ss)
		k->ss = *ss;
	else
		sys_seg_set_null(&k->ss, cpl, cpl);
	k->mask = k->ss.attr & X86_SEG_DB ? 0xffffffff : 0xffff;
}

void sys_stack_current(const struct icpu *c, struct sys_stack *k)
{
	sys_stack_init(c, k, &c->s.seg[X86_SS], c->s.gpr[X86_RSP], c->cpl);
	if (c->mode == X86_MODE_64) {
		k->is64 = true;
		k->mask = ~0ull;
	}
	k->sp &= k->mask;
}

/* Linear address of SIZE bytes at offset SP of the stack, or #SS. */
static uint64_t sys_stack_la(struct icpu *c, const struct sys_stack *k, uint64_t sp, unsigned size)
{
	uint64_t last = sp + size - 1;
	bool is_ok;

	if (k->is64) {
		if (!sys_is_canonical(c, sp) || !sys_is_canonical(c, last))
			icpu_raise_code(c, X86_EXC_SS, k->code);
		return sp;
	}
	if (k->ss.attr & X86_SEG_UNUSABLE)
		is_ok = false;
	else if (k->ss.attr & X86_SEG_DC)       /* expand-down: valid above the limit */
		is_ok = sp > k->ss.limit && last <= (k->ss.attr & X86_SEG_DB ? 0xffffffff : 0xffff);
	else
		is_ok = last <= k->ss.limit;
	if (!is_ok)
		icpu_raise_code(c, X86_EXC_SS, k->code);
	return (uint32_t)(k->ss.base + sp);
}

void sys_stack_push(struct icpu *c, struct sys_stack *k, unsigned size, uint64_t v)
{
	uint64_t sp = (k->sp - size) & k->mask;

	icpu_write_slow(c, sys_stack_la(c, k, sp, size), &v, size, k->super);
	k->sp = sp;
}

uint64_t sys_stack_peek(struct icpu *c, const struct sys_stack *k, uint64_t off, unsigned size)
{
	uint64_t v = 0;

	icpu_read_slow(c, sys_stack_la(c, k, (k->sp + off) & k->mask, size), &v, size, k->super);
	return v;
}

uint64_t sys_stack_pop(struct icpu *c, struct sys_stack *k, unsigned size)
{
	uint64_t v = sys_stack_peek(c, k, 0, size);

	k->sp = (k->sp + size) & k->mask;
	return v;
}

void sys_stack_commit_sp(struct icpu *c, const struct sys_stack *k)
{
	uint64_t *rsp = &c->s.gpr[X86_RSP];

	/* A 16-bit stack leaves the upper bits of ESP alone; a 32-bit one clears those of RSP. */
	*rsp = k->mask == 0xffff ? (*rsp & ~0xffffull) | (k->sp & 0xffff) : k->sp & k->mask;
}

uint64_t sys_tss_stack(struct icpu *c, unsigned cpl, uint16_t *ss, unsigned ext)
{
	const struct x86_seg *tr = &c->s.tr;
	bool is_big = tr->attr & 8;     /* 32- or 64-bit TSS */
	uint32_t off = c->is_long || is_big ? 4 + 8 * cpl : 2 + 4 * cpl;
	unsigned len = c->is_long ? 8 : is_big ? 6 : 4;

	if ((tr->attr & X86_SEG_UNUSABLE) || off + len - 1 > tr->limit)
		sys_fault(c, X86_EXC_TS, tr->sel, ext);
	*ss = 0;
	if (c->is_long)
		return sys_read64(c, tr->base + off);
	*ss = sys_read16(c, (uint32_t)(tr->base + off + (is_big ? 4 : 2)));
	return is_big ? sys_read32(c, (uint32_t)(tr->base + off)) : sys_read16(c, (uint32_t)(tr->base + off));
}

/* The stack pointer of interrupt stack table entry IST, 1..7 (SDM vol. 3 8.7). */
static uint64_t sys_tss_ist(struct icpu *c, unsigned ist, unsigned ext)
{
	uint32_t off = 0x24 + 8 * (ist - 1);

	if ((c->s.tr.attr & X86_SEG_UNUSABLE) || off + 7 > c->s.tr.limit)
		sys_fault(c, X86_EXC_TS, c->s.tr.sel, ext);
	return sys_read64(c, c->s.tr.base + off);
}

void sys_stack_inner(struct icpu *c, struct sys_stack *k, unsigned cpl, unsigned ist, unsigned ext)
{
	struct sys_desc d;
	struct x86_seg ss;
	uint16_t sel;

	if (c->is_long) {
		uint64_t sp = ist ? sys_tss_ist(c, ist, ext) : sys_tss_stack(c, cpl, &sel, ext);

		sys_stack_init(c, k, NULL, sp, cpl);
		k->is64 = true;
		k->mask = ~0ull;
		k->code = ext;
		return;
	}
	uint64_t sp = sys_tss_stack(c, cpl, &sel, ext);
	sys_ss_fetch(c, sel, cpl, &d, X86_EXC_TS, ext);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(&ss, &d, sel);
	sys_stack_init(c, k, &ss, sp, cpl);
	k->sp &= k->mask;
	k->code = (sel & 0xfffc) | ext;
}

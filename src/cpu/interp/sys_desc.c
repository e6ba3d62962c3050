/* SPDX-License-Identifier: Apache-2.0 */
/* sys_desc.c - reading, checking and caching segment descriptors (SDM vol. 3 chapters 3 and 5). */
#include "cpu/interp/sys_priv.h"

_Noreturn void sys_fault(struct icpu *c, unsigned vector, uint16_t sel, unsigned ext)
{
	icpu_raise_code(c, vector, (sel & 0xfffc) | ext);
}

void sys_desc_decode(struct sys_desc *d, uint64_t raw, uint64_t la, uint16_t sel)
{
	uint32_t limit = (raw & 0xffff) | ((raw >> 32) & 0xf0000);

	d->raw = raw;
	d->la = la;
	d->sel = sel;
	d->attr = (raw >> 40) & 0xf0ff;
	d->base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & 0xff000000);
	d->limit = d->attr & X86_SEG_G ? limit << 12 | 0xfff : limit;
}

/* Base and limit of the table that SEL points into. False: an LDT that is not there. */
static bool sys_desc_table(const struct icpu *c, uint16_t sel, uint64_t *base, uint32_t *limit)
{
	if (!(sel & 4)) {
		*base = c->s.gdtr.base;
		*limit = c->s.gdtr.limit;
		return true;
	}
	*base = c->s.ldtr.base;
	*limit = c->s.ldtr.limit;
	return !(c->s.ldtr.attr & X86_SEG_UNUSABLE) && (c->s.ldtr.attr & X86_SEG_P);
}

static inline uint64_t sys_table_la(const struct icpu *c, uint64_t base, uint32_t off)
{
	return c->is_long ? base + off : (uint32_t)(base + off);
}

bool sys_desc_read(struct icpu *c, uint16_t sel, struct sys_desc *d)
{
	uint64_t base;
	uint32_t limit;

	if (!sys_desc_table(c, sel, &base, &limit) || (sel | 7u) > limit)
		return false;
	uint64_t la = sys_table_la(c, base, sel & 0xfff8);
	sys_desc_decode(d, sys_read64(c, la), la, sel);
	return true;
}

void sys_desc_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d, unsigned vector, unsigned ext)
{
	if (!sys_desc_read(c, sel, d))
		sys_fault(c, vector, sel, ext);
}

uint32_t sys_desc_high(struct icpu *c, const struct sys_desc *d, unsigned vector, unsigned ext)
{
	uint64_t base;
	uint32_t limit;

	if (!sys_desc_table(c, d->sel, &base, &limit) || (d->sel | 7u) + 8 > limit)
		sys_fault(c, vector, d->sel, ext);
	uint64_t hi = sys_read64(c, d->la + 8);
	/* The type field of the upper half must be 0 (SDM vol. 3 5.8.3.1). */
	if ((hi >> 40) & 0x1f)
		sys_fault(c, vector, d->sel, ext);
	return (uint32_t)hi;
}

void sys_desc_touch(struct icpu *c, struct sys_desc *d)
{
	if (d->attr & X86_SEG_ACCESSED)
		return;
	d->attr |= X86_SEG_ACCESSED;
	d->raw |= (uint64_t)X86_SEG_ACCESSED << 40;
	/* One byte, so that a processor changing another field of it does not lose that. */
	uint8_t type = d->attr & 0xff;
	icpu_write_slow(c, d->la + 5, &type, 1, true);
}

void sys_desc_set_busy(struct icpu *c, const struct sys_desc *d, bool is_busy)
{
	uint8_t type = (d->attr & 0xff & ~SYS_BUSY) | (is_busy ? SYS_BUSY : 0);

	icpu_write_slow(c, d->la + 5, &type, 1, true);
}

void sys_seg_from_desc(struct x86_seg *s, const struct sys_desc *d, uint16_t sel)
{
	*s = (struct x86_seg){ .base = d->base, .limit = d->limit, .attr = d->attr, .sel = sel };
}

void sys_seg_set_null(struct x86_seg *s, uint16_t sel, unsigned dpl)
{
	*s = (struct x86_seg){ .attr = X86_SEG_UNUSABLE | dpl << X86_SEG_DPL_SHIFT, .sel = sel };
}

void sys_seg_set_real(struct icpu *c, enum x86_sreg seg, uint16_t sel)
{
	struct x86_seg *s = &c->s.seg[seg];

	/* Limit, granularity and default size stay: that is what makes "unreal" mode. */
	s->sel = sel;
	s->base = (uint64_t)sel << 4;
	s->attr = (s->attr & (X86_SEG_G | X86_SEG_DB)) | X86_SEG_P | X86_SEG_S | X86_SEG_RW | X86_SEG_ACCESSED |
		  (seg == X86_CS ? X86_SEG_CODE : 0);
}

void sys_seg_set_vm86(struct icpu *c, enum x86_sreg seg, uint16_t sel)
{
	c->s.seg[seg] = (struct x86_seg){ .sel = sel, .base = (uint64_t)sel << 4, .limit = 0xffff,
		.attr = X86_SEG_P | 3 << X86_SEG_DPL_SHIFT | X86_SEG_S | X86_SEG_RW | X86_SEG_ACCESSED };
}

void sys_ss_fetch(struct icpu *c, uint16_t sel, unsigned cpl, struct sys_desc *d, unsigned bad, unsigned ext)
{
	if (sys_is_null(sel))
		icpu_raise_code(c, bad, ext);
	sys_desc_fetch(c, sel, d, bad, ext);
	if ((sel & 3) != cpl || sys_dpl(d) != cpl || !sys_is_writable_data(d))
		sys_fault(c, bad, sel, ext);
	if (!sys_present(d))
		sys_fault(c, X86_EXC_SS, sel, ext);
}

bool sys_is_canonical_base(const struct icpu *c, uint64_t la)
{
	unsigned shift = sys_has(c, X86_W_7_ECX, 16) ? 7 : 16;

	return (uint64_t)((int64_t)(la << shift) >> shift) == la;
}

void sys_check_rip(struct icpu *c, uint32_t attr, uint32_t limit, uint64_t rip, unsigned ext)
{
	if (sys_is_code64(c, attr) ? !sys_is_canonical(c, rip) : rip > limit)
		icpu_raise_code(c, X86_EXC_GP, ext);
}

/* ES, DS, FS, GS (SDM vol. 2, MOV): data or readable code, privilege unless conforming. */
static void sys_data_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d)
{
	sys_desc_fetch(c, sel, d, X86_EXC_GP, 0);
	if (!(d->attr & X86_SEG_S) || (sys_is_code(d) && !(d->attr & X86_SEG_RW)))
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_is_conforming(d) && (sys_dpl(d) < (sel & 3u) || sys_dpl(d) < c->cpl))
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_present(d))
		sys_fault(c, X86_EXC_NP, sel, 0);
}

void icpu_load_sreg(struct icpu *c, enum x86_sreg seg, uint16_t sel)
{
	struct sys_desc d;

	if (c->is_vm86) {
		sys_seg_set_vm86(c, seg, sel);
		return;
	}
	if (c->is_real_or_vm86) {
		sys_seg_set_real(c, seg, sel);
		return;
	}
	if (sys_is_null(sel)) {
		/* A null SS is for 64-bit kernels only (SDM vol. 3 5.4.1.1). */
		if (seg == X86_SS && (c->mode != X86_MODE_64 || c->cpl == 3 || (sel & 3) != c->cpl))
			icpu_gp0(c);
		sys_seg_set_null(&c->s.seg[seg], sel, seg == X86_SS ? c->cpl : 0);
		return;
	}
	if (seg == X86_SS)
		sys_ss_fetch(c, sel, c->cpl, &d, X86_EXC_GP, 0);
	else
		sys_data_fetch(c, sel, &d);
	sys_desc_touch(c, &d);
	sys_seg_from_desc(&c->s.seg[seg], &d, sel);
}

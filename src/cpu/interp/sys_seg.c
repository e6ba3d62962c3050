/* SPDX-License-Identifier: Apache-2.0 */
/* sys_seg.c - instructions on segment registers and descriptor tables (SDM vol. 2; vol. 3
 * 3.5, 5.10). */
#include "cpu/interp/sys_priv.h"

/* int_shadow after MOV SS and POP SS: no interrupt or trap before the next instruction. */
enum { SHADOW_MOV_SS = 2 };

static void seg_load(struct icpu *c, enum x86_sreg seg, uint16_t sel)
{
	icpu_load_sreg(c, seg, sel);
	if (seg == X86_SS) {
		c->s.int_shadow = SHADOW_MOV_SS;
		sys_recheck(c);
		icpu_mode_changed(c);
	}
}

void sys_op_mov_from_sreg(struct icpu *c, const struct iop *op)
{
	icpu_set(c, op, 0, c->s.seg[op->x.opnd[1].reg].sel);
}

void sys_op_mov_to_sreg(struct icpu *c, const struct iop *op)
{
	unsigned seg = op->x.opnd[0].reg;

	if (seg == X86_CS || seg >= X86_N_SEGS)
		icpu_raise(c, X86_EXC_UD);
	seg_load(c, seg, icpu_get(c, op, 1));
}

void sys_op_push_sreg(struct icpu *c, const struct iop *op)
{
	icpu_push(c, op->x.opsize, c->s.seg[op->x.opnd[0].reg].sel);
}

void sys_op_pop_sreg(struct icpu *c, const struct iop *op)
{
	struct sys_stack k;

	/* RSP moves only when the load succeeds. */
	sys_stack_current(c, &k);
	uint16_t sel = sys_stack_pop(c, &k, op->x.opsize);
	seg_load(c, op->x.opnd[0].reg, sel);
	sys_stack_commit_sp(c, &k);
}

/* LDS, LES, LSS, LFS, LGS: a far pointer from memory. */
void sys_op_load_far(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opsize, seg;

	switch (op->x.op) {
	case X86_OP_LDS: seg = X86_DS; break;
	case X86_OP_LES: seg = X86_ES; break;
	case X86_OP_LSS: seg = X86_SS; break;
	case X86_OP_LFS: seg = X86_FS; break;
	default: seg = X86_GS; break;
	}
	uint64_t la = icpu_ea(c, op, size + 2, ICPU_READ);
	uint64_t off = icpu_read(c, la, size);
	uint16_t sel = icpu_read16(c, la + size);
	icpu_load_sreg(c, seg, sel);
	if (seg == X86_SS)
		icpu_mode_changed(c);
	icpu_set(c, op, 0, off);
}

/* --- LDTR and TR --------------------------------------------------------------------------- */

static void seg_need_pmode(struct icpu *c)
{
	if (c->is_real_or_vm86)
		icpu_raise(c, X86_EXC_UD);
}

/* SGDT, SIDT, SLDT, STR, SMSW are privileged under CR4.UMIP. */
static void seg_check_umip(struct icpu *c)
{
	if ((c->s.cr4 & X86_CR4_UMIP) && c->cpl)
		icpu_gp0(c);
}

/* A system descriptor from the GDT; in long mode its base is 64 bits and must be canonical. */
static void seg_fetch_system(struct icpu *c, uint16_t sel, struct sys_desc *d)
{
	if (sel & 4)
		sys_fault(c, X86_EXC_GP, sel, 0);
	sys_desc_fetch(c, sel, d, X86_EXC_GP, 0);
	if (!c->is_long)
		return;
	d->base |= (uint64_t)sys_desc_high(c, d, X86_EXC_GP, 0) << 32;
	if (!sys_is_canonical_base(c, d->base))
		sys_fault(c, X86_EXC_GP, sel, 0);
}

void sys_op_lldt(struct icpu *c, const struct iop *op)
{
	struct sys_desc d;

	seg_need_pmode(c);
	sys_need_cpl0(c);
	uint16_t sel = icpu_get(c, op, 0);
	if (sys_is_null(sel)) {
		sys_seg_set_null(&c->s.ldtr, sel, 0);
		return;
	}
	seg_fetch_system(c, sel, &d);
	if ((d.attr & X86_SEG_S) || sys_type(&d) != SYS_LDT)
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_present(&d))
		sys_fault(c, X86_EXC_NP, sel, 0);
	sys_seg_from_desc(&c->s.ldtr, &d, sel);
}

void sys_op_ltr(struct icpu *c, const struct iop *op)
{
	struct sys_desc d;

	seg_need_pmode(c);
	sys_need_cpl0(c);
	uint16_t sel = icpu_get(c, op, 0);
	if (sys_is_null(sel))
		icpu_gp0(c);
	seg_fetch_system(c, sel, &d);
	if ((d.attr & X86_SEG_S) || !(sys_type(&d) == SYS_TSS || (sys_type(&d) == SYS_TSS16 && !c->is_long)))
		sys_fault(c, X86_EXC_GP, sel, 0);
	if (!sys_present(&d))
		sys_fault(c, X86_EXC_NP, sel, 0);
	sys_desc_set_busy(c, &d, true);
	sys_seg_from_desc(&c->s.tr, &d, sel);
	c->s.tr.attr |= SYS_BUSY;
}

void sys_op_sldt(struct icpu *c, const struct iop *op)
{
	seg_need_pmode(c);
	seg_check_umip(c);
	icpu_set(c, op, 0, c->s.ldtr.sel);
}

void sys_op_str(struct icpu *c, const struct iop *op)
{
	seg_need_pmode(c);
	seg_check_umip(c);
	icpu_set(c, op, 0, c->s.tr.sel);
}

/* --- LAR, LSL, VERR, VERW, ARPL -------------------------------------------------------------- */

static void seg_set_zf(struct icpu *c, bool zf)
{
	icpu_set_flags(c, zf ? X86_ZF : 0, X86_ZF);
}

/* Can the program see the descriptor of SEL? SYSTEM: types of system segments accepted, as a bit
 * mask (SDM vol. 2, LAR and LSL). */
static bool seg_visible(struct icpu *c, uint16_t sel, struct sys_desc *d, uint16_t system)
{
	if (sys_is_null(sel) || !sys_desc_read(c, sel, d))
		return false;
	if (!(d->attr & X86_SEG_S) && !(system >> sys_type(d) & 1))
		return false;
	return sys_is_conforming(d) || (sys_dpl(d) >= c->cpl && sys_dpl(d) >= (sel & 3u));
}

#define TYPE(t) (1u << (t))
#define TYPES_LONG (TYPE(SYS_LDT) | TYPE(SYS_TSS) | TYPE(SYS_TSS_BUSY))
#define TYPES_LEGACY (TYPES_LONG | TYPE(SYS_TSS16) | TYPE(SYS_TSS16_BUSY))

void sys_op_lar(struct icpu *c, const struct iop *op)
{
	uint16_t types = c->is_long ? TYPES_LONG | TYPE(SYS_CALL)
				    : TYPES_LEGACY | TYPE(SYS_CALL) | TYPE(SYS_CALL16) | TYPE(SYS_TASK_GATE);
	struct sys_desc d;

	seg_need_pmode(c);
	bool is_ok = seg_visible(c, icpu_get(c, op, 1), &d, types);
	if (is_ok)
		icpu_set(c, op, 0, (d.raw >> 32) & 0x00ffff00);
	seg_set_zf(c, is_ok);
}

void sys_op_lsl(struct icpu *c, const struct iop *op)
{
	struct sys_desc d;

	seg_need_pmode(c);
	bool is_ok = seg_visible(c, icpu_get(c, op, 1), &d, c->is_long ? TYPES_LONG : TYPES_LEGACY);
	if (is_ok)
		icpu_set(c, op, 0, d.limit);
	seg_set_zf(c, is_ok);
}

void sys_op_verr(struct icpu *c, const struct iop *op)
{
	struct sys_desc d;

	seg_need_pmode(c);
	seg_set_zf(c, seg_visible(c, icpu_get(c, op, 0), &d, 0) && (!sys_is_code(&d) || (d.attr & X86_SEG_RW)));
}

void sys_op_verw(struct icpu *c, const struct iop *op)
{
	struct sys_desc d;

	seg_need_pmode(c);
	seg_set_zf(c, seg_visible(c, icpu_get(c, op, 0), &d, 0) && sys_is_writable_data(&d));
}

void sys_op_arpl(struct icpu *c, const struct iop *op)
{
	seg_need_pmode(c);
	uint16_t dst = icpu_get(c, op, 0), rpl = icpu_get(c, op, 1) & 3;
	bool is_raised = (dst & 3) < rpl;

	/* Written either way: the access must be a write to fault as one. */
	icpu_set(c, op, 0, is_raised ? (dst & ~3) | rpl : dst);
	seg_set_zf(c, is_raised);
}

/* --- GDTR and IDTR --------------------------------------------------------------------------- */

static void seg_load_table(struct icpu *c, const struct iop *op, struct x86_dtab *t)
{
	unsigned width = c->mode == X86_MODE_64 ? 8 : 4;

	sys_need_cpl0(c);
	uint64_t la = icpu_ea(c, op, 2 + width, ICPU_READ);
	uint16_t limit = icpu_read16(c, la);
	uint64_t base = icpu_read(c, la + 2, width);
	if (width == 4 && op->x.opsize == 2)
		base &= 0xffffff;       /* the 286 form */
	if (!sys_is_canonical_base(c, base))
		icpu_gp0(c);
	*t = (struct x86_dtab){ .base = base, .limit = limit };
}

static void seg_store_table(struct icpu *c, const struct iop *op, const struct x86_dtab *t)
{
	unsigned width = c->mode == X86_MODE_64 ? 8 : 4;

	seg_check_umip(c);
	uint64_t la = icpu_ea(c, op, 2 + width, ICPU_WRITE);
	icpu_probe(c, la, 2 + width, ICPU_WRITE);
	icpu_write16(c, la, t->limit);
	icpu_write(c, la + 2, width, t->base);
}

void sys_op_lgdt(struct icpu *c, const struct iop *op) { seg_load_table(c, op, &c->s.gdtr); }
void sys_op_lidt(struct icpu *c, const struct iop *op) { seg_load_table(c, op, &c->s.idtr); }
void sys_op_sgdt(struct icpu *c, const struct iop *op) { seg_store_table(c, op, &c->s.gdtr); }
void sys_op_sidt(struct icpu *c, const struct iop *op) { seg_store_table(c, op, &c->s.idtr); }

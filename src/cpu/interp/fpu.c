/* SPDX-License-Identifier: Apache-2.0 */
/* fpu.c - what vector and x87 instructions have in common: the conditions for running at all
 * (SDM vol. 3 table 2-2 and vol. 2 section 2.4), control and status words, MMX aliasing, SIMD
 * exceptions. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

void fpu_check_nm(struct icpu *c)
{
	if (c->s.cr0 & (X86_CR0_EM | X86_CR0_TS))
		icpu_raise(c, X86_EXC_NM);
}

/* Instructions that do not look at pending x87 exceptions (SDM vol. 1 8.3.12 "non-waiting"). */
static bool fpu_is_nonwaiting(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_FNOP:       /* DB E0, E1, E4: the 8087's FENI, FDISI, FSETPM */
		return x->row->opcode == 0xdb;
	case X86_OP_FNINIT: case X86_OP_FNCLEX: case X86_OP_FNSTSW: case X86_OP_FNSTCW:
	case X86_OP_FNSTENV: case X86_OP_FNSAVE:
		return true;
	default:
		return false;
	}
}

/* CVTPI2PS and CVTPI2PD touch x87 state only when their source is a register, see sse_op.c. */
static bool fpu_touches_x87(const struct iop *op)
{
	if ((op->x.op == X86_OP_CVTPI2PD || op->x.op == X86_OP_CVTPI2PS) && op->x.opnd[1].kind == X86_O_MEM)
		return false;
	return op->x.row->flags & X86_R_MMX;
}

/* Looks at the flags and not at FSW.ES, which a restored state may have wrong: the host computes it
 * anew when it loads the registers, and must never find an error pending. */
static bool x87_is_pending(const struct icpu *c)
{
	return fx_get16(c, X86_FX_FSW) & ~fx_get16(c, X86_FX_FCW) & FSW_FLAGS;
}

void icpu_fpu_check(struct icpu *c, const struct iop *op)
{
	uint32_t class = op->x.row->flags & (X86_R_X87 | X86_R_MMX | X86_R_SSE);

	if (op->x.row->flags & X86_R_AVX) {
		avx_check(c);
		return;
	}
	if (!(class & X86_R_X87)) {
		if (c->s.cr0 & X86_CR0_EM || (class & X86_R_SSE && !(c->s.cr4 & X86_CR4_OSFXSR)))
			icpu_raise(c, X86_EXC_UD);
		if (c->s.cr0 & X86_CR0_TS)
			icpu_raise(c, X86_EXC_NM);
		if (!fpu_touches_x87(op))
			return;
	} else if (op->x.op == X86_OP_WAIT) {
		if ((c->s.cr0 & (X86_CR0_MP | X86_CR0_TS)) == (X86_CR0_MP | X86_CR0_TS))
			icpu_raise(c, X86_EXC_NM);
	} else {
		fpu_check_nm(c);
	}
	/* With CR0.NE = 0 a PC reports the error by FERR# and IRQ 13; no system since the 486 relies
	 * on it, and #MF is what the CPU would do next to that. */
	if (x87_is_pending(c) && !fpu_is_nonwaiting(&op->x))
		icpu_raise(c, X86_EXC_MF);
}

/* Set TOP. Physical registers stay put and ST(i) is stored at place i, so renumber. */
static void x87_set_top(struct icpu *c, unsigned top)
{
	unsigned shift = (top - x87_top(c)) & 7;
	uint8_t old[8 * 16];

	if (!shift)
		return;
	memcpy(old, c->s.xsave + X86_FX_ST, sizeof(old));
	for (unsigned i = 0; i < 8; i++)
		memcpy(c->s.xsave + X86_FX_ST + 16 * i, old + 16 * ((i + shift) & 7), 16);
	fx_set16(c, X86_FX_FSW, (fx_get16(c, X86_FX_FSW) & ~FSW_TOP) | top << FSW_TOP_SHIFT);
}

void x87_set_words(struct icpu *c, uint16_t fcw, uint16_t fsw)
{
	fcw = (fcw & FCW_VALID) | FCW_FIXED;
	fsw &= ~(FSW_ES | FSW_B);
	if (fsw & ~fcw & FSW_FLAGS)
		fsw |= FSW_ES | FSW_B;
	x87_set_top(c, fsw >> FSW_TOP_SHIFT & 7);
	fx_set16(c, X86_FX_FCW, fcw);
	fx_set16(c, X86_FX_FSW, fsw);
}

void x87_init(struct icpu *c)
{
	x87_set_words(c, 0x37f, 0);
	memset(c->s.xsave + X86_FX_FTW, 0, X86_FX_MXCSR - X86_FX_FTW);  /* empty; no pointers */
}

uint64_t mmx_get(const struct icpu *c, unsigned reg)
{
	return get_le64(c->s.xsave + X86_FX_ST + 16 * ((reg - x87_top(c)) & 7));
}

void mmx_enter(struct icpu *c)
{
	x87_set_top(c, 0);
	c->s.xsave[X86_FX_FTW] = 0xff;
}

void mmx_set(struct icpu *c, unsigned reg, uint64_t v)
{
	uint8_t *p = c->s.xsave + X86_FX_ST + 16 * (reg & 7);

	put_le64(p, v);
	put_le16(p + 8, 0xffff);
}

void vec_read_src(struct icpu *c, const struct iop *op, unsigned n, uint8_t buf[16])
{
	const struct x86_opnd *o = &op->x.opnd[n];

	if (o->kind == X86_O_XMM) {
		memcpy(buf, icpu_xmm(c, o->reg), 16);
		return;
	}
	uint64_t la = vec_ea(c, op, o->size, ICPU_READ);
	uint64_t low[2] = { 0, 0 };

	if (o->size == 16)
		vec_read(c, la, low, 16);
	else
		low[0] = icpu_read(c, la, o->size);
	memcpy(buf, low, 16);
}

void avx_read_src(struct icpu *c, const struct iop *op, unsigned n, uint8_t buf[32])
{
	const struct x86_opnd *o = &op->x.opnd[n];

	if (o->kind == X86_O_XMM) {
		ymm_get(c, o->reg, buf);
		return;
	}
	uint64_t la = vec_ea(c, op, o->size, ICPU_READ), low[4] = { 0 };

	if (o->size >= 16)
		vec_read(c, la, low, o->size);
	else
		low[0] = icpu_read(c, la, o->size);
	memcpy(buf, low, 32);
}

bool sse_is_fp(enum x86_op op)
{
	return (op >= X86_OP_ADDPS && op <= X86_OP_SQRTSD) || (op >= X86_OP_CMPPS && op <= X86_OP_UCOMISD) ||
	       (op >= X86_OP_ADDSUBPS && op <= X86_OP_DPPD) || (op >= X86_OP_CVTPI2PS && op <= X86_OP_CVTTPD2DQ) ||
	       (op >= X86_OP_RCPPS && op <= X86_OP_RSQRTSS) || (op >= X86_OP_CVTPH2PS && op <= X86_OP_FNMSUB231SD);
}

/* The flags that hardware would report when exceptions in UNMASKED are enabled, RAISED being
 * those of the masked run from BEFORE (SDM vol. 1 11.5.2.5, 11.5.3.2, 4.9.1.5). */
static uint32_t sse_unmasked_flags(struct vec_frame *before, vec_thunk fn, vec_runner run,
				   uint32_t raised, uint32_t unmasked)
{
	const uint32_t pre = MXCSR_IE | MXCSR_DE | MXCSR_ZE;

	/* Operands are looked at before anything is computed. */
	if (raised & unmasked & pre)
		return raised & pre;
	/* Unmasked underflow is reported for exact tiny results too, which flush-to-zero makes
	 * visible. */
	if (unmasked & MXCSR_UE) {
		before->mxcsr |= MXCSR_FTZ;
		before->is_tiny_probe = true;
		run(before, fn);
		raised |= before->mxcsr & MXCSR_UE;
	}
	return raised;
}

void sse_run_fp(struct icpu *c, struct vec_frame *f, vec_thunk fn, vec_runner run)
{
	uint32_t csr = icpu_mxcsr(c), unmasked = ~csr >> 7 & MXCSR_FLAGS;
	struct vec_frame before;

	f->is_tiny_probe = false;
	f->mxcsr = (csr & (MXCSR_RC | MXCSR_FTZ | MXCSR_DAZ)) | MXCSR_MASKS;
	if (__builtin_expect(unmasked != 0, 0)) {
		if (unmasked & MXCSR_UE)
			f->mxcsr &= ~MXCSR_FTZ;         /* has no effect then */
		before = *f;
	}
	run(f, fn);
	uint32_t raised = f->mxcsr & MXCSR_FLAGS;

	if (__builtin_expect(unmasked != 0, 0))
		raised = sse_unmasked_flags(&before, fn, run, raised, unmasked);
	if (raised & ~csr)
		icpu_set_mxcsr(c, csr | raised);
	if (__builtin_expect(raised & unmasked, 0))
		icpu_raise(c, c->s.cr4 & X86_CR4_OSXMMEXCPT ? X86_EXC_XM : X86_EXC_UD);
}

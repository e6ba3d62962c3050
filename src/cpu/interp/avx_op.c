/* SPDX-License-Identifier: Apache-2.0 */
/* avx_op.c - VEX-encoded vector instructions that compute, run by the host itself. One handler for
 * each shape of operands, as in sse_op.c. The host also clears what VEX clears of a destination,
 * so whole YMM registers go in and come out. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

/* Number of the operand that modrm.rm names in an instruction whose first operand is written. */
static unsigned avx_rm(const struct x86_insn *x)
{
	return x->row->flags & X86_R_NDS && x->row->reg < 0 ? 2 : 1;
}

static void avx_load(struct icpu *c, const struct iop *op, struct vec_frame *f)
{
	const struct x86_insn *x = &op->x;
	unsigned rm = avx_rm(x);

	avx_read_src(c, op, rm, f->src);
	if (rm == 2)
		ymm_get(c, x->opnd[1].reg, f->src1);
	if (x->n_opnds > rm + 1 && x->opnd[rm + 1].kind == X86_O_XMM)
		ymm_get(c, x->opnd[rm + 1].reg, f->xmm0);
	if (x->row->flags & X86_R_READS_DST)
		ymm_get(c, x->opnd[0].reg, f->dst);
}

/* The immediate of the thunk: the register that one names is loaded as register 0, and the source
 * element of INSERTPS does not count with memory. */
static uint8_t avx_imm(const struct x86_insn *x)
{
	const struct x86_opnd *last = &x->opnd[x->n_opnds - 1];

	if (last->kind != X86_O_IMM)
		return 0;
	return x->op == X86_OP_INSERTPS && x->opnd[2].kind == X86_O_MEM ? x->imm & 0x3f : (uint8_t)x->imm;
}

static vec_thunk avx_thunk(const struct x86_insn *x)
{
	return vex_thunk_find(x, avx_imm(x));
}

/* No floating-point exceptions. */
static void avx_op(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	avx_check(c);
	avx_load(c, op, &f);
	vex_run_int(&f, avx_thunk(&op->x));
	ymm_set(c, op->x.opnd[0].reg, f.dst);
}

static void avx_op_fp(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	avx_check(c);
	avx_load(c, op, &f);
	sse_run_fp(c, &f, avx_thunk(&op->x), vex_run);
	ymm_set(c, op->x.opnd[0].reg, f.dst);
}

/* VCOMISx, VUCOMISx, VPTEST, VTESTPx: only flags */
static void avx_op_flags(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	avx_check(c);
	ymm_get(c, op->x.opnd[0].reg, f.dst);
	avx_read_src(c, op, 1, f.src);
	sse_run_fp(c, &f, avx_thunk(&op->x), vex_run);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (f.flags & X86_FLAGS_ARITH);
}

/* r, vector: VCVTxx2SI, VMOVMSKPx, VPMOVMSKB */
static void avx_op_to_gpr(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	avx_check(c);
	avx_read_src(c, op, 1, f.src);
	sse_run_fp(c, &f, avx_thunk(&op->x), vex_run);
	c->s.gpr[op->x.opnd[0].reg] = f.rcx;    /* a 32-bit result came zero-extended */
}

/* VCVTSI2SS, VCVTSI2SD */
static void avx_op_from_gpr(struct icpu *c, const struct iop *op)
{
	struct vec_frame f;

	avx_check(c);
	f.rdx = icpu_get(c, op, 2);
	ymm_get(c, op->x.opnd[1].reg, f.src1);
	sse_run_fp(c, &f, avx_thunk(&op->x), vex_run);
	ymm_set(c, op->x.opnd[0].reg, f.dst);
}

/* VCVTPS2PH does not know flush-to-zero, so exact tiny results are looked for here. */
static void avx_cvtps2ph_run(struct vec_frame *f, vec_thunk fn)
{
	vex_run(f, fn);
	for (unsigned i = 0; f->is_tiny_probe && i < 16; i += 2) {
		uint16_t v = get_le16(f->src + i);

		if (v & 0x3ff && !(v & 0x7c00))         /* denormal */
			f->mxcsr |= MXCSR_UE;
	}
}

/* VCVTPS2PH: modrm.rm is the destination. A store that faults leaves MXCSR alone. */
static void avx_cvtps2ph(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *dst = &op->x.opnd[0];
	struct vec_frame f;

	avx_check(c);
	uint64_t la = 0;

	if (dst->kind == X86_O_MEM) {
		la = icpu_ea(c, op, dst->size, ICPU_WRITE);
		icpu_probe(c, la, dst->size, ICPU_WRITE);
	}
	ymm_get(c, op->x.opnd[1].reg, f.dst);
	sse_run_fp(c, &f, avx_thunk(&op->x), avx_cvtps2ph_run);
	if (dst->kind == X86_O_MEM)
		vec_write(c, la, f.src, dst->size);
	else
		ymm_set(c, dst->reg, f.src);
}

/* VPCMPxSTRx: index to ECX or mask to XMM0, and flags */
static void avx_pcmpstr(struct icpu *c, const struct iop *op)
{
	struct vec_frame f = { .mxcsr = MXCSR_INIT };

	avx_check(c);
	ymm_get(c, op->x.opnd[0].reg, f.dst);
	avx_read_src(c, op, 1, f.src);
	f.rax = pcmpstr_len(op, c->s.gpr[X86_RAX]);
	f.rdx = pcmpstr_len(op, c->s.gpr[X86_RDX]);
	vex_run(&f, avx_thunk(&op->x));
	if (op->x.op == X86_OP_PCMPESTRI || op->x.op == X86_OP_PCMPISTRI)
		c->s.gpr[X86_RCX] = (uint32_t)f.rcx;
	else
		ymm_set_low(c, 0, f.xmm0);
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (f.flags & X86_FLAGS_ARITH);
}

iop_fn avx_op_bind(const struct x86_insn *x)
{
	if (!(x->row->flags & X86_R_AVX))
		return NULL;
	switch (x->op) {
	case X86_OP_COMISS: case X86_OP_COMISD: case X86_OP_UCOMISS: case X86_OP_UCOMISD:
	case X86_OP_PTEST: case X86_OP_TESTPS: case X86_OP_TESTPD:
		return avx_op_flags;
	case X86_OP_CVTSS2SI: case X86_OP_CVTSD2SI: case X86_OP_CVTTSS2SI: case X86_OP_CVTTSD2SI:
	case X86_OP_MOVMSKPS: case X86_OP_MOVMSKPD: case X86_OP_PMOVMSKB:
		return avx_op_to_gpr;
	case X86_OP_CVTSI2SS: case X86_OP_CVTSI2SD:
		return avx_op_from_gpr;
	case X86_OP_CVTPS2PH:
		return avx_cvtps2ph;
	case X86_OP_PCMPESTRM: case X86_OP_PCMPESTRI: case X86_OP_PCMPISTRM: case X86_OP_PCMPISTRI:
		return avx_pcmpstr;
	default:
		return sse_is_fp(x->op) ? avx_op_fp : avx_op;
	}
}

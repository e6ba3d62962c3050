/* SPDX-License-Identifier: Apache-2.0 */
/* accept.c - where processors differ from each other, so that a difference is none of the engine's. Table in
 * docs/devices/cpu.md. What the SDM decides is not here. */
#include <string.h>
#include "cpu/x86/state.h"
#include "diff.h"

static bool is_op_in(const struct diff_case *c, unsigned first, unsigned last)
{
	return c->is_valid && c->insn.op >= first && c->insn.op <= last;
}

/* FXSAVE and its like. */
static bool is_state_image(const struct diff_case *c) { return is_op_in(c, X86_OP_FXSAVE, X86_OP_FRSTOR); }

static bool is_compare_string(const struct diff_case *c)
{
	return c->is_valid && (c->insn.op == X86_OP_CMPS || c->insn.op == X86_OP_SCAS);
}

static bool is_masked_store(const struct diff_case *c)
{
	return c->is_valid && c->insn.op >= X86_OP_MASKMOVPS && c->insn.opnd[0].kind == X86_O_MEM &&
	       (c->insn.op == X86_OP_MASKMOVPS || c->insn.op == X86_OP_MASKMOVPD || c->insn.op == X86_OP_PMASKMOVD ||
		c->insn.op == X86_OP_PMASKMOVQ);
}

static bool has_memory(const struct diff_case *c)
{
	for (unsigned i = 0; c->is_valid && i < c->insn.n_opnds; i++)
		if (c->insn.opnd[i].kind == X86_O_MEM)
			return true;
	return false;
}

/* --- made equal --------------------------------------------------------------------------------- */

static void put_top(uint8_t *fx, unsigned top)
{
	fx[X86_FX_FSW + 1] = (uint8_t)((fx[X86_FX_FSW + 1] & ~0x38) | top << 3);
}

/* An MMX store that faults: some processors have already made ST(0) register 0, as all MMX instructions do.
 * The image has registers from ST(0) on. */
static void accept_mmx_top(const struct diff_result *cpu, struct diff_result *interp)
{
	uint8_t st[8 * 16], *fx = interp->out.fx;
	unsigned top = fx[X86_FX_FSW + 1] >> 3 & 7;

	if (cpu->out.fx[X86_FX_FSW + 1] >> 3 & 7)
		return;
	memcpy(st, fx + X86_FX_ST, sizeof(st));
	for (unsigned i = 0; i < 8; i++)
		memcpy(fx + X86_FX_ST + 16 * i, st + 16 * ((i - top) & 7), 16);
	put_top(fx, 0);
}

/* The mask of a gather that faults, as the SDM has it: elements are all ones or all zeros, above them is nothing. Some
 * processors leave the elements not reached as they were, and the destination's upper half. */
static void accept_gather(const struct diff_case *c, struct diff_result *r)
{
	unsigned size = c->row->flags & X86_R_W1 ? 8 : 4, dst = c->insn.opnd[0].reg, mask = c->insn.opnd[2].reg;

	for (unsigned i = 0; i < 32; i += size) {
		uint8_t *e = (i < 16 ? r->out.fx + X86_FX_XMM : r->out.ymmh - 16) + 16 * mask + i;

		memset(e, e[size - 1] & 0x80 && i < c->insn.vl ? 0xff : 0, size);
	}
	if (c->insn.vl == 16)
		memset(r->out.ymmh + 16 * dst, 0, 16);
}

/* Ten bytes of which the last two are in a bad page: the first eight may have been stored. */
static void accept_ten_bytes(const struct diff_case *c, const struct diff_result *cpu, struct diff_result *interp)
{
	if (c->insn.opnd[0].kind == X86_O_MEM && c->insn.opnd[0].size == 10 && c->ea >= DIFF_DATA && c->ea <= DIFF_DATA + DIFF_RW_LEN - 8)
		memcpy(interp->mem + (c->ea - DIFF_DATA), cpu->mem + (c->ea - DIFF_DATA), 8);
}

static void accept_mxcsr(const struct diff_result *cpu, struct diff_result *interp)
{
	uint8_t *a = interp->out.fx + X86_FX_MXCSR;

	*a = (uint8_t)((*a & ~0x3f) | (cpu->out.fx[X86_FX_MXCSR] & 0x3f));
}

/* Both have raised the same exception. */
static void accept_state_at_fault(const struct diff_case *c, struct diff_result *cpu, struct diff_result *interp)
{
	bool is_dot = c->insn.op == X86_OP_DPPS || c->insn.op == X86_OP_DPPD;

	/* Unmasked overflow and underflow: hardware judges inexactness as if the exponent had no bounds, the masked run
	 * that the interpreter makes judges the bounded result. Dot products stop at the step that faults. */
	if (cpu->vector == X86_EXC_XM && (is_dot || cpu->out.fx[X86_FX_MXCSR] & 0x18))
		accept_mxcsr(cpu, interp);
	/* Has it computed before it stores? */
	if (c->insn.op == X86_OP_CVTPS2PH)
		accept_mxcsr(cpu, interp);
	/* Some processors have popped registers when POPA faults; ESP is the old one either way. */
	if (c->insn.op == X86_OP_POPA)
		memcpy(interp->out.gpr, cpu->out.gpr, sizeof(cpu->out.gpr));
	/* The SDM gives REP CMPS and SCAS that fault the flags they began with; others keep the last comparison's. */
	if (is_compare_string(c) && c->insn.prefixes & (X86_P_REP | X86_P_REPNE))
		interp->out.rflags = (interp->out.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (cpu->out.rflags & X86_FLAGS_ARITH);
	accept_ten_bytes(c, cpu, interp);
	if (c->row->flags & X86_R_MMX)
		accept_mmx_top(cpu, interp);
	if (c->insn.vsib) {
		accept_gather(c, cpu);
		accept_gather(c, interp);
	}
}

/* REP with 32-bit registers and nothing done, as the count is 0 or the first element faults: are their upper halves
 * cleared? */
static void accept_rep_registers(const struct diff_case *c, const struct diff_result *cpu, struct diff_result *interp)
{
	static const uint8_t regs[] = { X86_RCX, X86_RSI, X86_RDI };

	if (!(c->insn.prefixes & (X86_P_REP | X86_P_REPNE)) || c->insn.adsize != 4)
		return;
	for (unsigned i = 0; i < sizeof(regs); i++)
		if (cpu->out.gpr[regs[i]] == (uint32_t)interp->out.gpr[regs[i]])
			interp->out.gpr[regs[i]] = cpu->out.gpr[regs[i]];
}

static void accept_fault(struct diff_result *cpu, struct diff_result *interp)
{
	interp->vector = cpu->vector;
	interp->error = cpu->error;
	interp->cr2 = cpu->cr2;
}

/* PUSH of a segment register in 32-bit code writes 16 bits or 32. */
static void accept_push(const struct diff_case *c, struct diff_result *cpu, struct diff_result *interp)
{
	uint64_t at = interp->out.gpr[X86_RSP] + 2;

	if (c->insn.op == X86_OP_PUSH && c->insn.opnd[0].kind == X86_O_SREG && at >= DIFF_DATA && at <= DIFF_DATA + DIFF_RW_LEN - 2)
		memcpy(interp->mem + (at - DIFF_DATA), cpu->mem + (at - DIFF_DATA), 2);
}

void diff_accept(const struct diff_case *c, struct diff_result *cpu, struct diff_result *interp)
{
	bool is_image = is_state_image(c);

	if (!c->is_valid)
		return;
	if (c->is_32 && cpu->vector == DIFF_NO_VECTOR && interp->vector == DIFF_NO_VECTOR)
		accept_push(c, cpu, interp);
	accept_rep_registers(c, cpu, interp);
	if (cpu->vector == DIFF_NO_VECTOR)
		return;
	/* Which byte of a state image or of a masked store is touched first is the maker's choice, and which operand of CMPS. */
	if ((is_image || is_masked_store(c) || is_compare_string(c)) && cpu->vector == X86_EXC_PF && interp->vector == X86_EXC_PF)
		accept_fault(cpu, interp);
	if (cpu->vector == interp->vector)
		accept_state_at_fault(c, cpu, interp);
	/* Alignment check and page fault have the same priority; a bad header is seen before or after a bad page. */
	if (cpu->vector == X86_EXC_AC && interp->vector == X86_EXC_PF)
		accept_fault(cpu, interp);
	if (is_compare_string(c) && cpu->vector == X86_EXC_PF && interp->vector == X86_EXC_AC)
		accept_fault(cpu, interp);
	if (is_image && cpu->vector == X86_EXC_GP && interp->vector == X86_EXC_PF)
		accept_fault(cpu, interp);
	/* #GP for alignment or #SS for a non-canonical address: both are due. */
	unsigned align = is_image ? 64 : c->insn.vl ? c->insn.vl : 16;

	if ((c->row->flags & X86_R_ALIGN16 || is_image) && c->ea & (align - 1) && c->insn.seg == X86_SS &&
	    cpu->vector == X86_EXC_GP && interp->vector == X86_EXC_SS)
		interp->vector = X86_EXC_GP;
}

/* --- passed over -------------------------------------------------------------------------------- */

static bool is_memory_fault(const struct diff_result *r)
{
	return r->vector == X86_EXC_PF || r->vector == X86_EXC_GP || r->vector == X86_EXC_SS || r->vector == X86_EXC_AC;
}

/* An access across 4 GiB of a flat segment exceeds its limit or goes on at 0 (SDM vol. 3 6.3). */
static bool is_across_4g(const struct diff_case *c, unsigned len)
{
	static const uint8_t implicit[] = { X86_RSP, X86_RBP, X86_RSI, X86_RDI };
	uint64_t last = 0xffffffff - len;

	if (!c->is_32)
		return false;
	if (has_memory(c) && (c->ea > last || c->insn.vsib))
		return true;
	for (unsigned i = 0; i < sizeof(implicit); i++)
		if (c->in.gpr[implicit[i]] > last || c->in.gpr[implicit[i]] < len)
			return true;
	return false;
}

static bool is_57_bits_wide(uint64_t v)
{
	return (uint64_t)((int64_t)(v << 16) >> 16) != v && (uint64_t)((int64_t)(v << 7) >> 7) == v;
}

/* Memory is touched, or an unmasked exception found first that keeps the instruction from touching it. */
static bool is_x87_store(const struct diff_case *c)
{
	switch (c->insn.op) {
	case X86_OP_FST: case X86_OP_FSTP: case X86_OP_FIST: case X86_OP_FISTP: case X86_OP_FISTTP: case X86_OP_FBSTP:
		return has_memory(c);
	default:
		return false;
	}
}

/* Faults of one side, or of both but not the same. */
static bool is_fault_moot(const struct diff_case *c, const struct diff_result *cpu, const struct diff_result *interp)
{
	bool one = cpu->vector == DIFF_NO_VECTOR || interp->vector == DIFF_NO_VECTOR;

	if (is_memory_fault(cpu) && is_memory_fault(interp) && is_across_4g(c, 128))
		return true;
	/* Parts of an image that are not asked for are touched, too, or not; the host's XCR0 has more components. */
	if (is_state_image(c))
		return cpu->vector == DIFF_NO_VECTOR &&
		       (interp->vector == X86_EXC_PF || (interp->vector == X86_EXC_GP && c->insn.op == X86_OP_XRSTOR));
	switch (c->insn.op) {
	case X86_OP_WRFSBASE: case X86_OP_WRGSBASE:     /* does CR4.LA57 count, or only that there is such a bit? */
		return one && is_57_bits_wide(c->in.gpr[c->insn.opnd[0].reg]);
	case X86_OP_BOUND:              /* the second bound is read before the first is judged, or after */
		return cpu->vector == X86_EXC_BR && interp->vector == X86_EXC_PF;
	case X86_OP_PUSH:               /* of a segment register: 16 bits are aligned and in a page where 32 are not */
		return one && c->insn.opnd[0].kind == X86_O_SREG;
	case X86_OP_CVTPS2PH:           /* has it computed before it stores? */
		return cpu->vector == X86_EXC_XM && is_memory_fault(interp);
	case X86_OP_PEXTRD: case X86_OP_PINSRD:         /* VEX.W = 1 in 32-bit code is #UD for AMD */
		return c->is_32 && c->insn.vl && cpu->vector == X86_EXC_UD;
	default:
		return one && is_x87_store(c);
	}
}

bool diff_is_moot(const struct diff_case *c, const struct diff_result *cpu, const struct diff_result *interp)
{
	if (!c->is_valid)               /* AMD ignores VEX.W, which the SDM wants set */
		return c->row->op == X86_OP_PERMQ || c->row->op == X86_OP_PERMPD;
	if (cpu->vector != interp->vector && is_fault_moot(c, cpu, interp))
		return true;
	switch (c->insn.op) {
	case X86_OP_MASKMOVQ: case X86_OP_MASKMOVDQU:   /* may bytes that are masked off fault? */
		return cpu->vector != DIFF_NO_VECTOR;
	case X86_OP_MOVSXD:             /* with 66, AMD reads 4 bytes of which it uses 2 */
		return c->insn.opsize == 2 && cpu->vector != DIFF_NO_VECTOR;
	case X86_OP_CALL:               /* which of two faults comes first: push or target */
		return c->insn.opnd[0].kind != X86_O_REL && cpu->vector != DIFF_NO_VECTOR;
	case X86_OP_PAUSE:              /* with REX.B, AMD's XCHG R8, RAX */
		return cpu->out.gpr[X86_R8] != c->in.gpr[X86_R8];
	case X86_OP_BOUND: case X86_OP_FXSAVE: case X86_OP_FXRSTOR: case X86_OP_XSAVE: case X86_OP_XSAVEOPT:
	case X86_OP_XSAVEC: case X86_OP_XRSTOR: case X86_OP_FNSTENV: case X86_OP_FLDENV: case X86_OP_FNSAVE:
	case X86_OP_FRSTOR:             /* several accesses: checked together or one by one */
	case X86_OP_FLD: case X86_OP_FSTP: case X86_OP_FBLD: case X86_OP_FBSTP:
		return c->is_32 && c->ea > 0xffffffff - DIFF_PATCH_MAX;
	default:                        /* the SDM wants SHA operands aligned, AMD does not */
		return c->row->feature == X86_F_SHA && c->ea & 15;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* sys_bind.c - which handler executes which system operation. */
#include "cpu/interp/sys_priv.h"

#define OP(name, handler) [X86_OP_##name] = sys_op_##handler

static const iop_fn sys_handlers[X86_N_OPS] = {
	/* events */
	OP(INT, int), OP(INT1, int1), OP(INT3, int3), OP(INTO, into), OP(BOUND, bound),
	[X86_OP_UD0] = iop_ud, [X86_OP_UD1] = iop_ud, [X86_OP_UD2] = iop_ud,
	/* far transfers */
	OP(JMPF, jmpf), OP(CALLF, callf), OP(RETF, retf), OP(IRET, iret),
	OP(SYSCALL, syscall), OP(SYSRET, sysret), OP(SYSENTER, sysenter), OP(SYSEXIT, sysexit),
	/* segments and tables */
	OP(LDS, load_far), OP(LES, load_far), OP(LSS, load_far), OP(LFS, load_far), OP(LGS, load_far),
	OP(LGDT, lgdt), OP(LIDT, lidt), OP(SGDT, sgdt), OP(SIDT, sidt),
	OP(LLDT, lldt), OP(LTR, ltr), OP(SLDT, sldt), OP(STR, str),
	OP(LAR, lar), OP(LSL, lsl), OP(VERR, verr), OP(VERW, verw), OP(ARPL, arpl),
	OP(SWAPGS, swapgs), OP(RDFSBASE, rdfsbase), OP(RDGSBASE, rdgsbase),
	OP(WRFSBASE, wrfsbase), OP(WRGSBASE, wrgsbase),
	/* control, debug and model-specific registers */
	OP(MOV_CR, mov_cr), OP(MOV_DR, mov_dr), OP(CLTS, clts), OP(LMSW, lmsw), OP(SMSW, smsw),
	OP(XGETBV, xgetbv), OP(XSETBV, xsetbv), OP(RDMSR, rdmsr), OP(WRMSR, wrmsr),
	OP(INVLPG, invlpg), OP(INVPCID, invpcid), OP(INVD, cache_wb), OP(WBINVD, cache_wb),
	/* ports */
	OP(IN, in), OP(OUT, out), OP(INS, ins), OP(OUTS, outs),
	/* flags */
	OP(PUSHF, pushf), OP(POPF, popf), OP(CLI, cli), OP(STI, sti), OP(CLC, clc), OP(STC, stc),
	OP(CMC, cmc), OP(CLD, cld), OP(STD, std), OP(LAHF, lahf), OP(SAHF, sahf),
	OP(CLAC, clac), OP(STAC, stac),
	/* the rest */
	OP(HLT, hlt), OP(CPUID, cpuid), OP(RDTSC, rdtsc), OP(RDTSCP, rdtscp), OP(RDPID, rdpid),
	OP(RDPMC, rdpmc), OP(RDRAND, rdrand), OP(RDSEED, rdrand),
	OP(CLFLUSH, clflush), OP(CLFLUSHOPT, clflush), OP(CLWB, clflush),
	OP(LFENCE, nop), OP(SFENCE, nop), OP(MFENCE, fence), OP(SERIALIZE, fence),
	OP(NOP, nop), OP(ENDBR, nop), OP(PREFETCH, nop),
	OP(VMCALL, vmcall), OP(VMMCALL, vmcall),
	/* Not announced: no monitor line, no system management mode. */
	[X86_OP_MONITOR] = iop_ud, [X86_OP_MWAIT] = iop_ud, [X86_OP_RSM] = iop_ud,
};

iop_fn interp_bind_system(const struct x86_insn *x)
{
	bool to_sreg = x->n_opnds > 0 && x->opnd[0].kind == X86_O_SREG;
	bool from_sreg = x->n_opnds > 1 && x->opnd[1].kind == X86_O_SREG;

	switch (x->op) {
	case X86_OP_MOV: return to_sreg ? sys_op_mov_to_sreg : from_sreg ? sys_op_mov_from_sreg : NULL;
	case X86_OP_PUSH: return to_sreg ? sys_op_push_sreg : NULL;
	case X86_OP_POP: return to_sreg ? sys_op_pop_sreg : NULL;
	default: return x->op < X86_N_OPS ? sys_handlers[x->op] : NULL;
	}
}

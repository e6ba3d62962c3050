/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h - enum x86_op: one constant per mnemonic of ops.def. */
#ifndef CPU_X86_OPS_H
#define CPU_X86_OPS_H

enum x86_op {
	X86_OP_INVALID,
#define X(name, text) X86_OP_##name,
#include "cpu/x86/ops.def"
#undef X
	X86_N_OPS
};

/* CPUID features a row of the decode table can belong to. */
enum x86_feature {
	X86_F_BASE, X86_F_X87, X86_F_MMX, X86_F_SSE, X86_F_SSE2, X86_F_SSE3, X86_F_SSSE3,
	X86_F_SSE41, X86_F_SSE42, X86_F_POPCNT, X86_F_LZCNT, X86_F_BMI1, X86_F_MOVBE, X86_F_CX16,
	X86_F_FXSR, X86_F_XSAVE, X86_F_XSAVEOPT, X86_F_XSAVEC, X86_F_XSAVES, X86_F_RDRAND, X86_F_RDSEED,
	X86_F_FSGSBASE, X86_F_RDTSCP, X86_F_RDPID, X86_F_INVPCID, X86_F_SMAP, X86_F_ADX, X86_F_CLFLUSHOPT,
	X86_F_CLWB, X86_F_AES, X86_F_PCLMUL, X86_F_SHA, X86_F_LM, X86_F_CET, X86_F_SERIALIZE,
	X86_F_MONITOR, X86_F_VMX, X86_F_SVM, X86_F_AVX, X86_F_AVX2, X86_F_FMA, X86_F_F16C, X86_F_BMI2,
	X86_F_VAES, X86_F_VPCLMUL,
	X86_N_FEATURES
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* insn.h - one decoded x86 instruction, and the decoder that makes it.
 *
 * The decode table (optable.c) is the one description of the instruction set here: the
 * interpreter, the translator, the disassembler and the test generators walk the same rows.
 * Intel SDM vol. 2, chapters 2 (format) and appendix A (opcode maps). Pure functions; any
 * thread. Bytes come from the guest: every length is bounded. */
#ifndef CPU_X86_INSN_H
#define CPU_X86_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cpu/x86/ops.h"        /* enum x86_op */

enum { X86_INSN_MAX = 15, X86_MAX_OPNDS = 4 };

/* Code segment size that bytes are decoded for. */
enum x86_mode { X86_MODE_16, X86_MODE_32, X86_MODE_64 };

enum x86_opnd_kind {
	X86_O_NONE,
	X86_O_REG,      /* general register REG of SIZE; HIGH: AH..BH */
	X86_O_MEM,      /* memory of SIZE bytes at the instruction's effective address */
	X86_O_IMM,      /* insn.imm, sign-extended to 64 bits where the SDM says so */
	X86_O_IMM2,     /* insn.imm2: ENTER's level, far pointers' selector */
	X86_O_REL,      /* insn.imm: branch displacement from the next instruction */
	X86_O_SREG,     /* segment register REG */
	X86_O_CREG, X86_O_DREG,
	X86_O_ST,       /* x87 stack register REG */
	X86_O_MMX,      /* MMX register REG */
	X86_O_XMM,      /* XMM register REG; YMM when SIZE is 32 */
	X86_O_MOFFS,    /* memory at absolute offset insn.disp (MOV A0..A3) */
	X86_O_STR_SI,   /* string source: SEG:[rSI] */
	X86_O_STR_DI,   /* string destination: ES:[rDI] */
};

struct x86_opnd {
	uint8_t kind;           /* enum x86_opnd_kind */
	uint8_t size;           /* bytes: 1, 2, 4, 8, 10, 16, 32; 0: not a data access (LEA, INVLPG) or
				 * described by the instruction (FXSAVE, SGDT, far pointer = 4, 6, 10) */
	uint8_t reg;
	uint8_t high;           /* 1: AH, CH, DH, BH (reg 0..3) */
};

enum x86_prefix {
	X86_P_LOCK = 1, X86_P_REP = 2, X86_P_REPNE = 4, X86_P_OPSIZE = 8, X86_P_ADSIZE = 16,
	X86_P_SEG = 32, X86_P_REX = 64, X86_P_REXW = 128,
};

enum { X86_NO_REG = 0xff, X86_REG_RIP = 0xfe };

struct x86_insn {
	uint16_t op;            /* enum x86_op */
	uint8_t len;            /* 1..15 */
	uint8_t prefixes;       /* enum x86_prefix; a mandatory 66/F2/F3 is not in it */
	uint8_t opsize;         /* effective operand size: 2, 4, 8 (stack operations: their real size) */
	uint8_t adsize;         /* effective address size: 2, 4, 8 */
	uint8_t n_opnds;
	uint8_t modrm;          /* the byte, when the row has one; else 0 */
	struct x86_opnd opnd[X86_MAX_OPNDS];    /* destination first, as Intel writes them */
	/* effective address, when an operand is X86_O_MEM: [base + index * (1 << scale) + disp] */
	uint8_t seg;            /* enum x86_sreg, override applied (in 64-bit mode only FS and GS do) */
	uint8_t base, index, scale;     /* X86_NO_REG: none; base X86_REG_RIP: next instruction */
	uint8_t vsib;           /* not 0: INDEX is a vector register of that many bytes (gathers) */
	uint8_t vl;             /* VEX-encoded: vector length in bytes, 16 or 32 (VEX.L); else 0 */
	int64_t disp;
	int64_t imm;
	int64_t imm2;
	const struct x86_row *row;
};

enum x86_row_flag {
	X86_R_MODRM = 1 << 0,
	X86_R_LOCK = 1 << 1,            /* LOCK allowed when the destination is memory */
	X86_R_NO64 = 1 << 2,            /* #UD in 64-bit mode */
	X86_R_ONLY64 = 1 << 3,
	X86_R_DEF64 = 1 << 4,           /* operand size defaults to 64 in 64-bit mode (stack) */
	X86_R_FORCE64 = 1 << 5,         /* always 64 in 64-bit mode (near branches) */
	X86_R_PRIV = 1 << 6,            /* CPL 0 only: #GP */
	X86_R_IOPL = 1 << 7,            /* IOPL- or I/O-bitmap-sensitive */
	X86_R_BRANCH = 1 << 8,          /* may change RIP other than to the next instruction */
	X86_R_END = 1 << 9,             /* changes modes or state that the block cache depends on */
	X86_R_X87 = 1 << 10,            /* checks CR0.EM/TS and pending x87 errors */
	X86_R_MMX = 1 << 11,
	X86_R_SSE = 1 << 12,            /* checks CR0.EM/TS, CR4.OSFXSR */
	X86_R_ALIGN16 = 1 << 13,        /* vector memory operand must be aligned to its size: #GP */
	X86_R_REP = 1 << 14,            /* REP/REPNE have meaning */
	X86_R_MEMONLY = 1 << 15,        /* register form is #UD */
	X86_R_REGONLY = 1 << 16,        /* memory form is #UD */
	X86_R_READS_DST = 1 << 17,      /* the first operand is read as well as written */
	X86_R_NO_WRITE = 1 << 18,       /* the first operand is not written (CMP, TEST, PUSH) */
	X86_R_UNSAFE = 1 << 19,         /* user mode may execute it, but a random test must not:
					 * system calls, INT, HLT, far transfers */
	X86_R_PMODE = 1 << 20,          /* #UD in real and virtual-8086 mode (LLDT, LAR, ARPL, ...) */
	X86_R_VARIES = 1 << 21,         /* result may differ from run to run: RDTSC, CPUID, RDRAND */
	/* conditions on the encoding that select between rows of one opcode */
	X86_R_W0 = 1 << 22,             /* without REX.W or VEX.W */
	X86_R_W1 = 1 << 23,             /* with REX.W or VEX.W */
	X86_R_B0 = 1 << 24,             /* without REX.B */
	X86_R_NOMOD = 1 << 25,          /* modrm.mod is ignored and taken as 3 (MOV CR, MOV DR) */
	X86_R_L0 = 1 << 26,             /* VEX.L = 0 */
	X86_R_L1 = 1 << 27,             /* VEX.L = 1 */
	/* of VEX rows */
	X86_R_AVX = 1 << 28,            /* checks CR4.OSXSAVE, XCR0, CR0.TS */
	X86_R_NDS = 1 << 29,            /* VEX.vvvv names an operand: the second, or in a group with
					 * modrm.reg the first; else it must be 1111b */
	X86_R_VSIB = 1 << 30,           /* the memory operand's index is a vector */
};

/* Values of x86_row.pfx besides 0 and the mandatory prefix itself. */
enum x86_row_prefix {
	X86_PFX_NONE = 1,               /* neither 66, F2 nor F3 */
	X86_PFX_NOREP = 2,              /* neither F2 nor F3; 66 is the operand size */
};

/* Values of x86_row.map with VEX. */
enum x86_vex_map { X86_MAP_VEX_0F = 4, X86_MAP_VEX_0F38, X86_MAP_VEX_0F3A };

/* One row of the decode table. */
struct x86_row {
	uint16_t op;                    /* enum x86_op */
	uint8_t map;                    /* 0: one byte, 1: 0f, 2: 0f38, 3: 0f3a; enum x86_vex_map */
	uint8_t opcode;
	uint8_t pfx;                    /* mandatory prefix: 0 none of the three needed (and any
					 * ignored), 0x66, 0xf2, 0xf3, enum x86_row_prefix. F2 and F3
					 * win over 66, the last of them counts */
	int8_t reg;                     /* modrm.reg must be this; -1: any */
	int8_t rm;                      /* modrm.rm must be this and mod 3; -1: any */
	uint8_t opnd[X86_MAX_OPNDS];    /* enum x86_spec, private to the decoder */
	uint32_t flags;                 /* enum x86_row_flag */
	uint16_t flags_read;            /* arithmetic EFLAGS (X86_CF ... X86_OF, X86_DF) */
	uint16_t flags_written;         /* defined results */
	uint16_t flags_undefined;       /* left undefined by the SDM */
	uint8_t feature;                /* enum x86_feature: CPUID feature it belongs to */
};

/* All rows, for generators and documentation. */
extern const struct x86_row x86_rows[];
extern const unsigned x86_n_rows;
extern const unsigned x86_first_vex_row;        /* VEX rows are the last */

enum x86_decode_result {
	X86_DECODE_OK,
	X86_DECODE_SHORT,       /* more bytes are needed than LEN (and LEN < 15) */
	X86_DECODE_LONG,        /* longer than 15 bytes: #GP */
	X86_DECODE_UD,          /* no such instruction, or LOCK where it is not allowed: #UD */
};

/* Decode the instruction at BYTES (LEN available, up to 15 are looked at). *OUT is written on
 * X86_DECODE_OK only. */
enum x86_decode_result x86_decode(struct x86_insn *out, const uint8_t *bytes, size_t len, enum x86_mode mode);

/* Name of an operation: "add", "pshufd". */
const char *x86_op_name(enum x86_op op);

/* Intel-syntax text of an instruction at address RIP into BUF; returns the length. */
int x86_format(const struct x86_insn *insn, uint64_t rip, char *buf, size_t cap);

#endif

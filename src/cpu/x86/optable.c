/* SPDX-License-Identifier: Apache-2.0 */
/* The decode table as data. The rows themselves are in optable.def and optable_vex.def, in the
 * order of map and opcode; here stand the words they are written in, the array and its index. */
#include "cpu/x86/insn.h"

#include "cpu/x86/decode_priv.h"
#include "cpu/x86/state.h"

enum { ANY = -1 };

/* Short names of the row flags. */
enum {
	M = X86_R_MODRM, LOCK = X86_R_LOCK, NO64 = X86_R_NO64, ONLY64 = X86_R_ONLY64,
	DEF64 = X86_R_DEF64, FORCE64 = X86_R_FORCE64, PRIV = X86_R_PRIV, IOPL = X86_R_IOPL,
	BRANCH = X86_R_BRANCH, END = X86_R_END, MEM = X86_R_MEMONLY, REG = X86_R_REGONLY,
	REP = X86_R_REP, ALIGN = X86_R_ALIGN16, RW = X86_R_READS_DST, RO = X86_R_NO_WRITE,
	UNSAFE = X86_R_UNSAFE, PMODE = X86_R_PMODE, VARIES = X86_R_VARIES, W0 = X86_R_W0,
	W1 = X86_R_W1, B0 = X86_R_B0, NOMOD = X86_R_NOMOD, MMX = X86_R_MMX, SSE = X86_R_SSE,
	X87 = X86_R_X87, L0 = X86_R_L0, L1 = X86_R_L1, AVX = X86_R_AVX, NDS = X86_R_NDS,
	VSIB = X86_R_VSIB,
};

/* VEX maps. */
enum { V0F = X86_MAP_VEX_0F, V38 = X86_MAP_VEX_0F38, V3A = X86_MAP_VEX_0F3A };

/* Arithmetic flags: read, written, left undefined. "Written" and "undefined" both mean "may be":
 * a shift by 0, a REP string instruction with count 0 and LAR on a bad selector keep them. */
enum {
	CF = X86_CF, PF = X86_PF, AF = X86_AF, ZF = X86_ZF, SF = X86_SF, OF = X86_OF, DF = X86_DF,
	ALL = X86_FLAGS_ARITH,
};
#define FLAGS_NONE 0, 0, 0
#define FLAGS_ARITH 0, ALL, 0
#define FLAGS_CARRY CF, ALL, 0                                  /* ADC, SBB */
#define FLAGS_LOGIC 0, ALL & ~AF, AF
#define FLAGS_INCDEC 0, ALL & ~CF, 0
#define FLAGS_MUL 0, CF | OF, SF | ZF | AF | PF
#define FLAGS_DIV 0, 0, ALL
#define FLAGS_ROT1 0, CF | OF, 0                                /* rotate by 1 */
#define FLAGS_ROT 0, CF, OF                                     /* OF: defined for count 1 */
#define FLAGS_RCX1 CF, CF | OF, 0
#define FLAGS_RCX CF, CF, OF
#define FLAGS_SHIFT1 0, ALL & ~AF, AF
#define FLAGS_SHIFT 0, CF | ZF | SF | PF, AF | OF               /* CF: while count < size */
#define FLAGS_BT 0, CF, OF | SF | AF | PF
#define FLAGS_BSF 0, ZF, CF | OF | SF | AF | PF
#define FLAGS_CNT 0, CF | ZF, OF | SF | AF | PF                 /* LZCNT, TZCNT */
#define FLAGS_BMI 0, ALL & ~(AF | PF), AF | PF                   /* ANDN, BLSR, BZHI */
#define FLAGS_BEXTR 0, ZF | CF | OF, SF | AF | PF
#define FLAGS_DAA CF | AF, ALL & ~OF, OF
#define FLAGS_AAA AF, CF | AF, OF | SF | ZF | PF
#define FLAGS_AAM 0, SF | ZF | PF, OF | AF | CF
#define FLAGS_SET_ZF 0, ZF, 0
#define FLAGS_READ_ZF ZF, 0, 0
#define FLAGS_READ_OF OF, 0, 0
#define FLAGS_READ_CF CF, 0, 0
#define FLAGS_READ_PF PF, 0, 0
#define FLAGS_READ_BE CF | ZF, 0, 0
#define FLAGS_SET_CF 0, CF, 0
#define FLAGS_FLIP_CF CF, CF, 0
#define FLAGS_FLIP_OF OF, OF, 0
#define FLAGS_SET_DF 0, DF, 0
#define FLAGS_SAHF 0, ALL & ~OF, 0
#define FLAGS_LAHF ALL & ~OF, 0, 0
#define FLAGS_SAVE ALL | DF, 0, 0                               /* PUSHF, INT, SYSCALL */
#define FLAGS_RESTORE 0, ALL | DF, 0                            /* POPF, IRET, SYSRET */
#define FLAGS_STRING DF, 0, 0
#define FLAGS_STRCMP DF, ALL, 0
/* conditions, by the low four bits of the opcode */
#define FLAGS_O OF, 0, 0
#define FLAGS_B CF, 0, 0
#define FLAGS_Z ZF, 0, 0
#define FLAGS_BE CF | ZF, 0, 0
#define FLAGS_S SF, 0, 0
#define FLAGS_P PF, 0, 0
#define FLAGS_L SF | OF, 0, 0
#define FLAGS_LE ZF | SF | OF, 0, 0

/* Shorthands. ONE/TWO: the one-byte and 0F maps; _M has a modrm byte, _G fixes modrm.reg. */
#define ONE(opcode, op, opnds, flags, eflags) \
	ROW(0, opcode, 0, ANY, ANY, op, opnds, flags, eflags, BASE)
#define ONE_M(opcode, op, opnds, flags, eflags) \
	ROW(0, opcode, 0, ANY, ANY, op, opnds, M | (flags), eflags, BASE)
#define ONE_G(opcode, reg, op, opnds, flags, eflags) \
	ROW(0, opcode, 0, reg, ANY, op, opnds, M | (flags), eflags, BASE)
#define TWO(opcode, op, opnds, flags, eflags) \
	ROW(1, opcode, 0, ANY, ANY, op, opnds, flags, eflags, BASE)
#define TWO_M(opcode, op, opnds, flags, eflags) \
	ROW(1, opcode, 0, ANY, ANY, op, opnds, M | (flags), eflags, BASE)
#define TWO_G(opcode, reg, op, opnds, flags, eflags) \
	ROW(1, opcode, 0, reg, ANY, op, opnds, M | (flags), eflags, BASE)
/* Eight opcodes with the register in the low three bits. */
#define EIGHT(opcode, op, opnds, flags, eflags)                                         \
	ONE((opcode), op, opnds, flags, eflags) ONE((opcode) + 1, op, opnds, flags, eflags)     \
	ONE((opcode) + 2, op, opnds, flags, eflags) ONE((opcode) + 3, op, opnds, flags, eflags) \
	ONE((opcode) + 4, op, opnds, flags, eflags) ONE((opcode) + 5, op, opnds, flags, eflags) \
	ONE((opcode) + 6, op, opnds, flags, eflags) ONE((opcode) + 7, op, opnds, flags, eflags)
/* Sixteen conditions. */
#define CONDITIONS(map, op, opcode, opnds, flags, feature)                      \
	ROW(map, (opcode), 0, ANY, ANY, op, opnds, flags, O, feature)           \
	ROW(map, (opcode) + 1, 0, ANY, ANY, op, opnds, flags, O, feature)       \
	ROW(map, (opcode) + 2, 0, ANY, ANY, op, opnds, flags, B, feature)       \
	ROW(map, (opcode) + 3, 0, ANY, ANY, op, opnds, flags, B, feature)       \
	ROW(map, (opcode) + 4, 0, ANY, ANY, op, opnds, flags, Z, feature)       \
	ROW(map, (opcode) + 5, 0, ANY, ANY, op, opnds, flags, Z, feature)       \
	ROW(map, (opcode) + 6, 0, ANY, ANY, op, opnds, flags, BE, feature)      \
	ROW(map, (opcode) + 7, 0, ANY, ANY, op, opnds, flags, BE, feature)      \
	ROW(map, (opcode) + 8, 0, ANY, ANY, op, opnds, flags, S, feature)       \
	ROW(map, (opcode) + 9, 0, ANY, ANY, op, opnds, flags, S, feature)       \
	ROW(map, (opcode) + 10, 0, ANY, ANY, op, opnds, flags, P, feature)      \
	ROW(map, (opcode) + 11, 0, ANY, ANY, op, opnds, flags, P, feature)      \
	ROW(map, (opcode) + 12, 0, ANY, ANY, op, opnds, flags, L, feature)      \
	ROW(map, (opcode) + 13, 0, ANY, ANY, op, opnds, flags, L, feature)      \
	ROW(map, (opcode) + 14, 0, ANY, ANY, op, opnds, flags, LE, feature)     \
	ROW(map, (opcode) + 15, 0, ANY, ANY, op, opnds, flags, LE, feature)
/* The six forms of the classic two-operand instructions, and their immediate group. */
#define ALU(opcode, op, flags, flags_mem, eflags)                       \
	ONE_M((opcode), op, (Eb, Gb), flags | flags_mem, eflags)        \
	ONE_M((opcode) + 1, op, (Ev, Gv), flags | flags_mem, eflags)    \
	ONE_M((opcode) + 2, op, (Gb, Eb), flags, eflags)                \
	ONE_M((opcode) + 3, op, (Gv, Ev), flags, eflags)                \
	ONE((opcode) + 4, op, (AL, Ib), flags, eflags)                  \
	ONE((opcode) + 5, op, (rAX, Iz), flags, eflags)
#define ALU_GROUP(opcode, opnds, flags)                         \
	ONE_G(opcode, 0, ADD, opnds, flags | LOCK | RW, ARITH)  \
	ONE_G(opcode, 1, OR, opnds, flags | LOCK | RW, LOGIC)   \
	ONE_G(opcode, 2, ADC, opnds, flags | LOCK | RW, CARRY)  \
	ONE_G(opcode, 3, SBB, opnds, flags | LOCK | RW, CARRY)  \
	ONE_G(opcode, 4, AND, opnds, flags | LOCK | RW, LOGIC)  \
	ONE_G(opcode, 5, SUB, opnds, flags | LOCK | RW, ARITH)  \
	ONE_G(opcode, 6, XOR, opnds, flags | LOCK | RW, LOGIC)  \
	ONE_G(opcode, 7, CMP, opnds, flags | RO, ARITH)
/* Group 2. /6 is another SHL. N: 1 for the forms that shift by one, else empty. */
#define SHIFT_GROUP(opcode, opnds, n)                   \
	ONE_G(opcode, 0, ROL, opnds, RW, ROT##n)        \
	ONE_G(opcode, 1, ROR, opnds, RW, ROT##n)        \
	ONE_G(opcode, 2, RCL, opnds, RW, RCX##n)        \
	ONE_G(opcode, 3, RCR, opnds, RW, RCX##n)        \
	ONE_G(opcode, 4, SHL, opnds, RW, SHIFT##n)      \
	ONE_G(opcode, 5, SHR, opnds, RW, SHIFT##n)      \
	ONE_G(opcode, 6, SHL, opnds, RW, SHIFT##n)      \
	ONE_G(opcode, 7, SAR, opnds, RW, SHIFT##n)
/* Vector rows: no EFLAGS. */
#define VEC(map, opcode, pfx, op, opnds, flags, feature) \
	ROW(map, opcode, pfx, ANY, ANY, op, opnds, M | (flags), NONE, feature)
#define NP X86_PFX_NONE
/* xmm, xmm/m128 with 66; with the MMX form without a prefix beside it. */
#define INT_SSE(map, opcode, op, flags, feature) \
	VEC(map, opcode, 0x66, op, (Vx, Wx), SSE | ALIGN | (flags), feature)
#define INT_BOTH(map, opcode, op, flags, mmx_feature, sse_feature)              \
	VEC(map, opcode, NP, op, (Pq, Qq), MMX | (flags), mmx_feature)          \
	INT_SSE(map, opcode, op, flags, sse_feature)
#define INT_SHIFT(opcode, reg_, op)                                                     \
	ROW(1, opcode, NP, reg_, ANY, op, (Qq, Ib), M | MMX | REG | RW, NONE, MMX)      \
	ROW(1, opcode, 0x66, reg_, ANY, op, (Wx, Ib), M | SSE | REG | RW, NONE, SSE2)
#define FP_PACKED(opcode, op, flags)                                                    \
	VEC(1, opcode, NP, op##PS, (Vx, Wx), SSE | ALIGN | (flags), SSE)                \
	VEC(1, opcode, 0x66, op##PD, (Vx, Wx), SSE | ALIGN | (flags), SSE2)
#define FP_SCALAR_SS(opcode, op) VEC(1, opcode, 0xf3, op##SS, (Vx, Wd), SSE | RW, SSE)
#define FP_SCALAR_SD(opcode, op) VEC(1, opcode, 0xf2, op##SD, (Vx, Wq), SSE | RW, SSE2)
#define FP_ALL(opcode, op, flags) \
	FP_PACKED(opcode, op, flags) FP_SCALAR_SS(opcode, op) FP_SCALAR_SD(opcode, op)
/* x87: memory form by modrm.reg, register form by modrm.reg, register form by the whole byte. */
#define FMEM(opcode, reg, op, opnds, flags) \
	ROW(0, opcode, 0, reg, ANY, op, opnds, M | X87 | MEM | (flags), NONE, X87)
#define FREG(opcode, reg, op, opnds, flags, eflags) \
	ROW(0, opcode, 0, reg, ANY, op, opnds, M | X87 | REG | (flags), eflags, X87)
#define FONE(opcode, modrm, op) \
	ROW(0, opcode, 0, ((modrm) >> 3) & 7, (modrm) & 7, op, (), M | X87 | REG, NONE, X87)
/* 0F 01 with mod 3: the whole byte says it. */
#define SYS(modrm, pfx, op, flags, eflags, feature)                                     \
	ROW(1, 0x01, pfx, ((modrm) >> 3) & 7, (modrm) & 7, op, (), M | REG | (flags), eflags, \
	    feature)

#define OPNDS(...) OPNDS_(__VA_ARGS__, , , , )
#define OPNDS_(a, b, c, d, ...) { X86_S_##a, X86_S_##b, X86_S_##c, X86_S_##d }

const struct x86_row x86_rows[] = {
#define ROW(map, opcode, pfx, reg, rm, op, opnds, flags, eflags, feature)               \
	{ X86_OP_##op, map, opcode, pfx, reg, rm, OPNDS opnds, flags, FLAGS_##eflags,   \
	  X86_F_##feature },
#include "cpu/x86/optable.def"
#include "cpu/x86/optable_vex.def"
#undef ROW
};

enum { N_ROWS = sizeof(x86_rows) / sizeof(x86_rows[0]) };
const unsigned x86_n_rows = N_ROWS;

/* The same rows once more, counted: each initialiser overrides that of the opcode's row before
 * it, and so the last one stays. */
#pragma GCC diagnostic push
#ifdef __clang__
#pragma GCC diagnostic ignored "-Winitializer-overrides"
#else
#pragma GCC diagnostic ignored "-Woverride-init"
#endif
enum { FIRST_COUNT = __COUNTER__ };
const uint16_t x86_last_row[X86_N_MAPS][256] = {
#define ROW(map, opcode, ...) [map][opcode] = __COUNTER__ - FIRST_COUNT,
#include "cpu/x86/optable.def"
#undef ROW
};
enum { N_LEGACY_ROWS = __COUNTER__ - FIRST_COUNT - 1 };
const uint16_t x86_last_vex_row[X86_N_VEX_MAPS][256] = {
#define ROW(map, opcode, ...) [(map) - V0F][opcode] = __COUNTER__ - FIRST_COUNT - 1,
#include "cpu/x86/optable_vex.def"
#undef ROW
};
#pragma GCC diagnostic pop
const unsigned x86_first_vex_row = N_LEGACY_ROWS;

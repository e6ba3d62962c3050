/* SPDX-License-Identifier: Apache-2.0 */
/* decode_priv.h - what optable.c and decode.c share: operand specifiers and the row index. */
#ifndef CPU_X86_DECODE_PRIV_H
#define CPU_X86_DECODE_PRIV_H

#include <stdint.h>
#include "cpu/x86/insn.h"

enum { X86_N_MAPS = 4, X86_N_VEX_MAPS = 3 };    /* values of x86_row.map */

/* Where an operand is encoded. */
enum x86_spec_from {
	X86_FROM_NONE,
	X86_FROM_RM,            /* general register or memory of modrm.rm */
	X86_FROM_REG,           /* general register of modrm.reg */
	X86_FROM_OPCODE,        /* general register of the opcode's low three bits */
	X86_FROM_FIXED,         /* general register ARG */
	X86_FROM_MMX_RM, X86_FROM_MMX_REG,
	X86_FROM_XMM_RM, X86_FROM_XMM_REG,
	X86_FROM_XMM_FIXED,
	X86_FROM_XMM_VVVV,      /* vector register of VEX.vvvv */
	X86_FROM_XMM_IS4,       /* vector register of an immediate's upper four bits */
	X86_FROM_VVVV,          /* general register of VEX.vvvv */
	X86_FROM_ST_RM, X86_FROM_ST_FIXED,
	X86_FROM_SREG_REG, X86_FROM_SREG_FIXED,
	X86_FROM_CREG, X86_FROM_DREG,
	X86_FROM_IMM,           /* zero-extended */
	X86_FROM_SIMM,          /* sign-extended to 64 bits */
	X86_FROM_IMM2,
	X86_FROM_ONE,           /* the constant 1 of D0 and D1 */
	X86_FROM_REL,
	X86_FROM_MOFFS,
	X86_FROM_SI, X86_FROM_DI,
};

/* Sizes that depend on the instruction; any other value is the size in bytes. */
enum x86_spec_size {
	X86_SZ_V = 0x80,        /* operand size */
	X86_SZ_Z,               /* operand size, 4 at most */
	X86_SZ_Y,               /* 8 with REX.W, else 4 */
	X86_SZ_M,               /* 8 in 64-bit mode, else 4 */
	X86_SZ_P,               /* far pointer: operand size + 2 */
	X86_SZ_A,               /* BOUND: twice the operand size */
	X86_SZ_L,               /* vector length */
	X86_SZ_L2, X86_SZ_L4, X86_SZ_L8,        /* a half, quarter, eighth of it; the register is XMM */
};

/* X(name, from, size of a register or immediate, size in memory, arg). The names follow appendix
 * A.2.1 of SDM vol. 2 where it has one: E general register or memory, G register of modrm.reg,
 * Z register in the opcode, P/Q and V/W the MMX and XMM pairs, H and B the vector and general
 * register of VEX.vvvv, L the vector register in an immediate. Pairs such as RdMb say the
 * register's and the memory's size; x and y are 16 and 32 bytes, l the vector length, l2 half
 * of it. */
#define X86_SPECS(X)                                                    \
	X(, NONE, 0, 0, 0)                                              \
	X(Eb, RM, 1, 1, 0)                                              \
	X(Ew, RM, 2, 2, 0)                                              \
	X(Ed, RM, 4, 4, 0)                                              \
	X(Eq, RM, 8, 8, 0)                                              \
	X(Ev, RM, X86_SZ_V, X86_SZ_V, 0)                                \
	X(Ez, RM, X86_SZ_Z, X86_SZ_Z, 0)                                \
	X(Ey, RM, X86_SZ_Y, X86_SZ_Y, 0)                                \
	X(Rm, RM, X86_SZ_M, X86_SZ_M, 0)                                \
	X(RdMb, RM, 4, 1, 0)                                            \
	X(RdMw, RM, 4, 2, 0)                                            \
	X(RvMw, RM, X86_SZ_V, 2, 0)                                     \
	X(RvM, RM, X86_SZ_V, 0, 0)                                      \
	X(M, RM, 0, 0, 0)                                               \
	X(Mt, RM, 10, 10, 0)                                            \
	X(Mx, RM, 16, 16, 0)                                            \
	X(Mp, RM, X86_SZ_P, X86_SZ_P, 0)                                \
	X(Ma, RM, X86_SZ_A, X86_SZ_A, 0)                                \
	X(Gb, REG, 1, 0, 0)                                             \
	X(Gw, REG, 2, 0, 0)                                             \
	X(Gd, REG, 4, 0, 0)                                             \
	X(Gv, REG, X86_SZ_V, 0, 0)                                      \
	X(Gy, REG, X86_SZ_Y, 0, 0)                                      \
	X(Gm, REG, X86_SZ_M, 0, 0)                                      \
	X(Zb, OPCODE, 1, 0, 0)                                          \
	X(Zv, OPCODE, X86_SZ_V, 0, 0)                                   \
	X(Zy, OPCODE, X86_SZ_Y, 0, 0)                                   \
	X(AL, FIXED, 1, 0, 0)                                           \
	X(CL, FIXED, 1, 0, 1)                                           \
	X(AX, FIXED, 2, 0, 0)                                           \
	X(DX, FIXED, 2, 0, 2)                                           \
	X(rAX, FIXED, X86_SZ_V, 0, 0)                                   \
	X(eAX, FIXED, X86_SZ_Z, 0, 0)                                   \
	X(Pq, MMX_REG, 8, 0, 0)                                         \
	X(Qd, MMX_RM, 4, 4, 0)                                          \
	X(Qq, MMX_RM, 8, 8, 0)                                          \
	X(Vx, XMM_REG, 16, 0, 0)                                        \
	X(Ww, XMM_RM, 2, 2, 0)                                          \
	X(Wd, XMM_RM, 4, 4, 0)                                          \
	X(Wq, XMM_RM, 8, 8, 0)                                          \
	X(Wx, XMM_RM, 16, 16, 0)                                        \
	X(XMM0, XMM_FIXED, 16, 0, 0)                                    \
	X(Vy, XMM_REG, 32, 0, 0)                                        \
	X(Vl, XMM_REG, X86_SZ_L, 0, 0)                                  \
	X(Wb, XMM_RM, 1, 1, 0)                                          \
	X(Wy, XMM_RM, 32, 32, 0)                                        \
	X(Wl, XMM_RM, X86_SZ_L, X86_SZ_L, 0)                            \
	X(Wl2, XMM_RM, X86_SZ_L2, X86_SZ_L2, 0)                         \
	X(Wl4, XMM_RM, X86_SZ_L4, X86_SZ_L4, 0)                         \
	X(Wl8, XMM_RM, X86_SZ_L8, X86_SZ_L8, 0)                         \
	X(Hx, XMM_VVVV, 16, 0, 0)                                       \
	X(Hy, XMM_VVVV, 32, 0, 0)                                       \
	X(Hl, XMM_VVVV, X86_SZ_L, 0, 0)                                 \
	X(Ll, XMM_IS4, X86_SZ_L, 0, 0)                                  \
	X(By, VVVV, X86_SZ_Y, 0, 0)                                     \
	X(ST0, ST_FIXED, 10, 0, 0)                                      \
	X(STi, ST_RM, 10, 0, 0)                                         \
	X(Sw, SREG_REG, 2, 0, 0)                                        \
	X(ES, SREG_FIXED, 2, 0, 0)                                      \
	X(CS, SREG_FIXED, 2, 0, 1)                                      \
	X(SS, SREG_FIXED, 2, 0, 2)                                      \
	X(DS, SREG_FIXED, 2, 0, 3)                                      \
	X(FS, SREG_FIXED, 2, 0, 4)                                      \
	X(GS, SREG_FIXED, 2, 0, 5)                                      \
	X(Cm, CREG, X86_SZ_M, 0, 0)                                     \
	X(Dm, DREG, X86_SZ_M, 0, 0)                                     \
	X(Ib, IMM, 1, 0, 0)                                             \
	X(Iw, IMM, 2, 0, 0)                                             \
	X(Av, IMM, X86_SZ_Z, 0, 0)                                      \
	X(Ibs, SIMM, 1, 0, 0)                                           \
	X(Iz, SIMM, X86_SZ_Z, 0, 0)                                     \
	X(Iv, SIMM, X86_SZ_V, 0, 0)                                     \
	X(I2b, IMM2, 1, 0, 0)                                           \
	X(I2w, IMM2, 2, 0, 0)                                           \
	X(I1, ONE, 1, 0, 0)                                             \
	X(Jb, REL, 1, 0, 0)                                             \
	X(Jz, REL, X86_SZ_Z, 0, 0)                                      \
	X(Ob, MOFFS, 0, 1, 0)                                           \
	X(Ov, MOFFS, 0, X86_SZ_V, 0)                                    \
	X(Xb, SI, 0, 1, 0)                                              \
	X(Xv, SI, 0, X86_SZ_V, 0)                                       \
	X(Xz, SI, 0, X86_SZ_Z, 0)                                       \
	X(Yb, DI, 0, 1, 0)                                              \
	X(Yv, DI, 0, X86_SZ_V, 0)                                       \
	X(Yz, DI, 0, X86_SZ_Z, 0)

enum x86_spec {                 /* X86_S_ (no name): no operand */
#define X(name, from, size, mem_size, arg) X86_S_##name,
	X86_SPECS(X)
#undef X
};

/* Number of an opcode's last row plus one; 0: none. Its other rows stand right before it. */
extern const uint16_t x86_last_row[X86_N_MAPS][256];
extern const uint16_t x86_last_vex_row[X86_N_VEX_MAPS][256];

#endif

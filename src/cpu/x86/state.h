/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the architectural state of one x86-64 processor, the same for every engine.
 *
 * Intel SDM vol. 1 chapter 3 and vol. 3 chapter 2. Saved under one engine and restored under
 * another, so nothing here belongs to an engine. The software engines run on it directly. */
#ifndef CPU_X86_STATE_H
#define CPU_X86_STATE_H

#include <stdint.h>
#include "util/fields.h"

enum x86_gpr { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
	       X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15 };

/* The order of the segment field in instructions. */
enum x86_sreg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_N_SEGS };

/* Attributes in the layout of a descriptor's bytes 5-6 (SDM vol. 3 figure 3-8), as VMX's
 * access-rights format (24.4.1) has them. */
enum x86_seg_attr {
	X86_SEG_TYPE = 0xf,
	X86_SEG_ACCESSED = 1 << 0, X86_SEG_RW = 1 << 1, X86_SEG_DC = 1 << 2, X86_SEG_CODE = 1 << 3,
	X86_SEG_S = 1 << 4,             /* code or data, not system */
	X86_SEG_DPL_SHIFT = 5,
	X86_SEG_P = 1 << 7,
	X86_SEG_AVL = 1 << 12,
	X86_SEG_L = 1 << 13,
	X86_SEG_DB = 1 << 14,
	X86_SEG_G = 1 << 15,
	X86_SEG_UNUSABLE = 1 << 16,     /* null selector */
};

struct x86_seg {
	uint64_t base;
	uint32_t limit;         /* in bytes: granularity already applied */
	uint32_t attr;
	uint16_t sel;
};

struct x86_dtab {               /* GDTR, IDTR */
	uint64_t base;
	uint16_t limit;
};

enum x86_eflags {
	X86_CF = 1 << 0, X86_PF = 1 << 2, X86_AF = 1 << 4, X86_ZF = 1 << 6, X86_SF = 1 << 7,
	X86_TF = 1 << 8, X86_IF = 1 << 9, X86_DF = 1 << 10, X86_OF = 1 << 11,
	X86_IOPL = 3 << 12, X86_NT = 1 << 14, X86_RF = 1 << 16, X86_VM = 1 << 17,
	X86_AC = 1 << 18, X86_VIF = 1 << 19, X86_VIP = 1 << 20, X86_ID = 1 << 21,
	X86_FLAGS_FIXED = 1 << 1,
	X86_FLAGS_ARITH = X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF,
};

#define X86_CR0_PE (1u << 0)
#define X86_CR0_MP (1u << 1)
#define X86_CR0_EM (1u << 2)
#define X86_CR0_TS (1u << 3)
#define X86_CR0_ET (1u << 4)
#define X86_CR0_NE (1u << 5)
#define X86_CR0_WP (1u << 16)
#define X86_CR0_AM (1u << 18)
#define X86_CR0_NW (1u << 29)
#define X86_CR0_CD (1u << 30)
#define X86_CR0_PG (1u << 31)

#define X86_CR4_VME (1u << 0)
#define X86_CR4_PVI (1u << 1)
#define X86_CR4_TSD (1u << 2)
#define X86_CR4_DE (1u << 3)
#define X86_CR4_PSE (1u << 4)
#define X86_CR4_PAE (1u << 5)
#define X86_CR4_MCE (1u << 6)
#define X86_CR4_PGE (1u << 7)
#define X86_CR4_PCE (1u << 8)
#define X86_CR4_OSFXSR (1u << 9)
#define X86_CR4_OSXMMEXCPT (1u << 10)
#define X86_CR4_UMIP (1u << 11)
#define X86_CR4_LA57 (1u << 12)
#define X86_CR4_FSGSBASE (1u << 16)
#define X86_CR4_PCIDE (1u << 17)
#define X86_CR4_OSXSAVE (1u << 18)
#define X86_CR4_SMEP (1u << 20)
#define X86_CR4_SMAP (1u << 21)
#define X86_CR4_PKE (1u << 22)

#define X86_EFER_SCE (1u << 0)
#define X86_EFER_LME (1u << 8)
#define X86_EFER_LMA (1u << 10)
#define X86_EFER_NXE (1u << 11)

enum x86_exception {
	X86_EXC_DE = 0, X86_EXC_DB = 1, X86_EXC_NMI = 2, X86_EXC_BP = 3, X86_EXC_OF = 4,
	X86_EXC_BR = 5, X86_EXC_UD = 6, X86_EXC_NM = 7, X86_EXC_DF = 8, X86_EXC_TS = 10,
	X86_EXC_NP = 11, X86_EXC_SS = 12, X86_EXC_GP = 13, X86_EXC_PF = 14, X86_EXC_MF = 16,
	X86_EXC_AC = 17, X86_EXC_MC = 18, X86_EXC_XM = 19,
};

/* Page-fault error code (SDM vol. 3 4.7). */
enum { X86_PF_P = 1, X86_PF_W = 2, X86_PF_U = 4, X86_PF_RSVD = 8, X86_PF_I = 16, X86_PF_PK = 32 };

enum x86_mp_state {
	X86_MP_RUNNABLE,
	X86_MP_HALTED,          /* HLT: an interrupt, NMI, INIT ends it */
	X86_MP_WAIT_SIPI,       /* after INIT of an application processor */
	X86_MP_SHUTDOWN,        /* triple fault */
};

#define X86_N_MTRR_VAR 8
#define X86_XSAVE_SIZE 2816     /* standard format up to AVX-512 and PKRU (2696), rounded up to 64 */

struct x86_mtrr {
	uint64_t def_type;
	uint64_t fixed[11];             /* 0x250, 0x258, 0x259, 0x268..0x26f */
	uint64_t var[2 * X86_N_MTRR_VAR]; /* base, mask pairs from 0x200 */
};

struct x86_state {
	uint64_t gpr[16];
	uint64_t rip;
	uint64_t rflags;                /* bit 1 always set */
	struct x86_seg seg[X86_N_SEGS];
	struct x86_seg ldtr, tr;
	struct x86_dtab gdtr, idtr;
	uint64_t cr0, cr2, cr3, cr4;
	uint64_t efer;
	uint64_t xcr0;
	uint64_t dr[4], dr6, dr7;
	/* model-specific registers that every engine keeps */
	uint64_t star, lstar, cstar, fmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, misc_enable, spec_ctrl, mcg_status, mcg_ctl, tsc_adjust;
	struct x86_mtrr mtrr;
	uint64_t tsc_offset;            /* guest TSC = source_tsc() + tsc_offset */
	/* between instructions */
	uint8_t mp_state;               /* enum x86_mp_state */
	uint8_t int_shadow;             /* 1: STI, 2: MOV SS / POP SS just executed */
	uint8_t nmi_blocked;            /* in an NMI handler until IRET */
	uint8_t nmi_pending;
	uint8_t sipi_vector;            /* valid once a SIPI has arrived */
	uint8_t reserved[3];
	/* x87, MMX, SSE and beyond: the XSAVE standard-format area (SDM vol. 1 13.4). The
	 * legacy 512 bytes are always live; XSTATE_BV at 512 tells which others are. */
	uint8_t xsave[X86_XSAVE_SIZE] __attribute__((aligned(64)));
};
extern const struct state_desc x86_state_desc;

/* Offsets in xsave[] (SDM vol. 1 table 10-2, 13.4.1). */
enum {
	X86_FX_FCW = 0, X86_FX_FSW = 2, X86_FX_FTW = 4 /* abridged, 1 byte */, X86_FX_FOP = 6,
	X86_FX_FIP = 8, X86_FX_FDP = 16, X86_FX_MXCSR = 24, X86_FX_MXCSR_MASK = 28,
	X86_FX_ST = 32 /* 8 x 16 bytes */, X86_FX_XMM = 160 /* 16 x 16 bytes */,
	X86_XS_BV = 512, X86_XS_COMP_BV = 520, X86_XS_AVX = 576,
};

/* Power-up / RESET state (SDM vol. 3 table 9-1): real mode at 0xfffffff0. IS_BSP: the
 * bootstrap processor runs, others wait for SIPI. Keeps tsc_offset. */
void x86_state_reset(struct x86_state *s, int is_bsp);
/* INIT: as reset but the x87/SSE state, MTRRs and most MSRs survive. */
void x86_state_init(struct x86_state *s, int is_bsp);
/* SIPI with VECTOR: CS = vector << 8, RIP 0, runnable. */
void x86_state_sipi(struct x86_state *s, uint8_t vector);

static inline unsigned x86_cpl(const struct x86_state *s)
{
	return (s->seg[X86_SS].attr >> X86_SEG_DPL_SHIFT) & 3;
}

#endif

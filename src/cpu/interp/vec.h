/* SPDX-License-Identifier: Apache-2.0 */
/* vec.h - what the vector and x87 files of the interpreter share (fpu.c, x87*.c, sse*.c, avx*.c,
 * mmx.c, xsave.c).
 *
 * An arithmetic instruction is run by the host itself: its register form exists as a tiny
 * function (a thunk, thunks.S), a trampoline loads the guest's operands into the registers that
 * the thunk names and stores the result back. So results, flags and rounding are those of a
 * real processor, whatever its maker decided where the manual leaves a choice. Moves need no
 * host instruction and are done in C.
 *
 * SIMD exceptions (SDM vol. 1 11.5): the thunk runs with all exceptions masked and the sticky
 * flags clear; an exception that the guest has unmasked is raised before anything is committed.
 * x87 exceptions stay pending in the status word until the next waiting instruction asks.
 *
 * Thread: the vcpu's. */
#ifndef CPU_INTERP_VEC_H
#define CPU_INTERP_VEC_H

#include <stddef.h>
#include "cpu/interp/interp_priv.h"

typedef void (*vec_thunk)(void);

/* Registers that a trampoline loads and stores; thunks.S knows the offsets. */
struct vec_frame {
	uint8_t xmm0[32];       /* in, out; of XMM instructions the low half of these, as of all */
	uint8_t dst[32];        /* xmm1: in, out */
	uint8_t src[32];        /* xmm2: in; out (vex_run) */
	uint8_t src1[32];       /* xmm3, VEX.vvvv: in (vex_run, vex_run_int) */
	uint64_t rax;           /* in */
	uint64_t rcx;           /* in, out; a general destination */
	uint64_t rdx;           /* in; a general source */
	uint64_t flags;         /* out */
	uint32_t mxcsr;         /* in, out */
	uint32_t is_tiny_probe; /* this run only asks for exact tiny results, see fpu.c */
	uint64_t mm_dst;        /* mm1: in, out (vec_run_mixed) */
	uint64_t mm_src;        /* mm2: in (vec_run_mixed) */
};
_Static_assert(offsetof(struct vec_frame, mxcsr) == 160 && offsetof(struct vec_frame, mm_dst) == 168,
	       "thunks.S knows these");

/* thunks.S */
void vec_run_xmm(void *dst, const void *src, const void *xmm0, vec_thunk fn);
void vec_run_mmx(uint64_t *dst, uint64_t src, vec_thunk fn);
void vec_run(struct vec_frame *f, vec_thunk fn);
void vec_run_mixed(struct vec_frame *f, vec_thunk fn);
void vex_run(struct vec_frame *f, vec_thunk fn);
void vex_run_int(struct vec_frame *f, vec_thunk fn);    /* no MXCSR, general registers, flags */
void x87_run(void *fx, vec_thunk fn, void *mem, uint64_t *flags);

/* The thunk of a vector instruction: by prefix, map, opcode and immediate; REX_W picks the
 * 64-bit general register form. thunks.c. */
vec_thunk vec_thunk_find(const struct x86_insn *x, bool rex_w);
vec_thunk vec_thunk_at(unsigned map, unsigned prefix, unsigned opcode);
/* The thunk of a VEX instruction that has a vector operand, with the immediate IMM. */
vec_thunk vex_thunk_find(const struct x86_insn *x, uint8_t imm);
/* The x87 instruction with its ModRM: register form, or memory form on [rdi]. */
vec_thunk x87_thunk_find(const struct x86_insn *x);
/* The thunk takes an immediate. */
bool vec_thunk_has_imm(const struct x86_insn *x);

/* --- state ---------------------------------------------------------------------------------- */

enum {
	MXCSR_FLAGS = 0x3f, MXCSR_IE = 1, MXCSR_DE = 2, MXCSR_ZE = 4, MXCSR_OE = 8, MXCSR_UE = 16,
	MXCSR_PE = 32, MXCSR_DAZ = 1 << 6, MXCSR_MASKS = 0x3f << 7, MXCSR_RC = 3 << 13,
	MXCSR_FTZ = 1 << 15, MXCSR_INIT = 0x1f80,
	MXCSR_VALID = 0xffff,           /* what MXCSR_MASK tells the guest */
};

enum {
	FSW_FLAGS = 0x3f, FSW_IE = 1, FSW_OE = 8, FSW_UE = 16, FSW_ES = 1 << 7, FSW_TOP_SHIFT = 11,
	FSW_TOP = 7 << 11, FSW_B = 1 << 15,
	FCW_FIXED = 0x40, FCW_VALID = 0x1f7f,   /* bit 6 reads as 1, bits 7, 13 to 15 as 0 */
};

static inline uint16_t fx_get16(const struct icpu *c, unsigned off)
{
	uint16_t v;

	memcpy(&v, c->s.xsave + off, sizeof(v));
	return v;
}

static inline void fx_set16(struct icpu *c, unsigned off, uint16_t v)
{
	memcpy(c->s.xsave + off, &v, sizeof(v));
}

static inline uint32_t icpu_mxcsr(const struct icpu *c)
{
	uint32_t v;

	memcpy(&v, c->s.xsave + X86_FX_MXCSR, sizeof(v));
	return v;
}

static inline void icpu_set_mxcsr(struct icpu *c, uint32_t v)
{
	memcpy(c->s.xsave + X86_FX_MXCSR, &v, sizeof(v));
}

static inline unsigned x87_top(const struct icpu *c)
{
	return fx_get16(c, X86_FX_FSW) >> FSW_TOP_SHIFT & 7;
}

/* Set control and status words from memory or an instruction: fixed bits kept, the error
 * summary recomputed (SDM vol. 1 8.1.3.3). */
void x87_set_words(struct icpu *c, uint16_t fcw, uint16_t fsw);
void x87_init(struct icpu *c);          /* FNINIT */

/* MMX register REG, which is physical x87 register REG whatever TOP is. */
uint64_t mmx_get(const struct icpu *c, unsigned reg);
/* What every MMX instruction but EMMS does to the x87 state (SDM vol. 3 12.2): TOP = 0, all
 * registers valid. */
void mmx_enter(struct icpu *c);
/* Write a register after mmx_enter(); exponent and sign become ones. */
void mmx_set(struct icpu *c, unsigned reg, uint64_t v);

/* Run a floating-point thunk on F by RUN (vec_run, vec_run_mixed, vex_run) under the guest's
 * rounding and denormal modes. Returns when the result may be committed, the sticky flags being up to date; else raises #XM (#UD when
 * CR4.OSXMMEXCPT is clear). */
typedef void (*vec_runner)(struct vec_frame *f, vec_thunk fn);
void sse_run_fp(struct icpu *c, struct vec_frame *f, vec_thunk fn, vec_runner run);
/* The operation can raise SIMD floating-point exceptions. */
bool sse_is_fp(enum x86_op op);

/* --- memory operands ------------------------------------------------------------------------ */

/* Linear address of OP's memory operand with the alignment that its row demands. */
static inline uint64_t vec_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	uint64_t la = icpu_ea(c, op, size, acc);

	if (__builtin_expect(size >= 16 && la & (size - 1), 0) && op->x.row->flags & X86_R_ALIGN16)
		icpu_gp0(c);
	return la;
}

static inline void vec_read(struct icpu *c, uint64_t la, void *buf, unsigned size)
{
	const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_READ, size);

	if (e)
		memcpy(buf, e->host + (la & 0xfff), size);
	else
		icpu_read_slow(c, la, buf, size, false);
}

static inline void vec_write(struct icpu *c, uint64_t la, const void *buf, unsigned size)
{
	const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, size);

	if (e) {
		memcpy(e->host + (la & 0xfff), buf, size);
		atomic_signal_fence(memory_order_seq_cst);
		if (__builtin_expect(atomic_load_explicit(e->flags, memory_order_relaxed), 0))
			icpu_stored_flagged(c, e->host + (la & 0xfff), size);
	} else {
		icpu_write_slow(c, la, buf, size, false);
	}
}

/* Read the vector source operand N into BUF: a whole XMM register, or a memory operand of its
 * size with zeros above. */
void vec_read_src(struct icpu *c, const struct iop *op, unsigned n, uint8_t buf[16]);

/* icpu_fpu_check() without the call when an SSE instruction may run. */
static inline void sse_check(struct icpu *c, const struct iop *op)
{
	if (__builtin_expect((c->s.cr0 & (X86_CR0_EM | X86_CR0_TS)) || !(c->s.cr4 & X86_CR4_OSFXSR) ||
			     op->x.row->flags & (X86_R_MMX | X86_R_AVX), 0))
		icpu_fpu_check(c, op);
}
void fpu_check_nm(struct icpu *c);      /* CR0.EM or TS: #NM (FXSAVE, x87 control) */

/* --- YMM registers -------------------------------------------------------------------------------- */

enum { XS_X87 = 1, XS_SSE = 2, XS_AVX = 4 };    /* XCR0, XSTATE_BV */

/* May a VEX instruction with vector operands run? (SDM vol. 2 2.4) */
static inline void avx_check(struct icpu *c)
{
	if (__builtin_expect(c->is_real_or_vm86 || !(c->s.cr4 & X86_CR4_OSXSAVE) ||
			     (~c->s.xcr0 & (XS_SSE | XS_AVX)), 0))
		icpu_raise(c, X86_EXC_UD);
	if (__builtin_expect(c->s.cr0 & X86_CR0_TS, 0))
		icpu_raise(c, X86_EXC_NM);
}

/* The upper half of register REG. */
static inline uint8_t *icpu_ymmh(struct icpu *c, unsigned reg)
{
	return c->s.xsave + X86_XS_AVX + 16 * reg;
}

static inline void ymm_get(struct icpu *c, unsigned reg, uint8_t buf[32])
{
	memcpy(buf, icpu_xmm(c, reg), 16);
	memcpy(buf + 16, icpu_ymmh(c, reg), 16);
}

static inline void ymm_set(struct icpu *c, unsigned reg, const uint8_t buf[32])
{
	memcpy(icpu_xmm(c, reg), buf, 16);
	memcpy(icpu_ymmh(c, reg), buf + 16, 16);
}

/* Write an XMM register as VEX instructions do, which clears the upper half. */
static inline void ymm_set_low(struct icpu *c, unsigned reg, const uint8_t buf[16])
{
	memcpy(icpu_xmm(c, reg), buf, 16);
	memset(icpu_ymmh(c, reg), 0, 16);
}

/* Read the vector source operand N into BUF: a whole register, or a memory operand of its size
 * with zeros above. */
void avx_read_src(struct icpu *c, const struct iop *op, unsigned n, uint8_t buf[32]);

/* A length operand of PCMPESTRx from register value REG. sse_op.c. */
uint64_t pcmpstr_len(const struct iop *op, uint64_t reg);

/* --- binding, one per file ------------------------------------------------------------------ */

iop_fn x87_bind(const struct x86_insn *x);
iop_fn x87_control_bind(const struct x86_insn *x);
iop_fn sse_move_bind(const struct x86_insn *x);
iop_fn sse_lane_bind(const struct x86_insn *x);
iop_fn sse_op_bind(const struct x86_insn *x);
iop_fn avx_move_bind(const struct x86_insn *x);
iop_fn avx_mask_bind(const struct x86_insn *x);
iop_fn avx_op_bind(const struct x86_insn *x);
iop_fn mmx_bind(const struct x86_insn *x);
iop_fn xsave_bind(const struct x86_insn *x);

#endif

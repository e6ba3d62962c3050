/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - memory operands on the hot path: 64-bit address size, RAM, no page crossing; and
 * read-modify-write of any operand. Everything else leaves for operand.c and tlb.c. */
#ifndef CPU_INTERP_MEM_H
#define CPU_INTERP_MEM_H

#include "cpu/interp/interp_priv.h"

static inline uint64_t icpu_word_at(const struct icpu *c, uint16_t off)
{
	return *(const uint64_t *)((const char *)c + off);
}

/* Linear address of an operand with 64-bit address size. Not yet known to be canonical: a TLB hit
 * proves it, the slow paths check. */
static inline uint64_t imem_la(const struct icpu *c, const struct iop *op)
{
	return icpu_word_at(c, op->base_off) + (icpu_word_at(c, op->index_off) << op->scale) +
	       icpu_word_at(c, op->seg_off) + (uint64_t)op->disp;
}

/* Raise #GP(0), or #SS(0) for SS, unless [la, la+size) is canonical. */
void imem_check(struct icpu *c, unsigned seg, uint64_t la, unsigned size);

/* After a miss of the inline path in 64-bit mode: check, then access. */
uint64_t imem_read_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size);
void imem_write_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size, uint64_t v);

#define IMEM_RW(bits)                                                                              \
	static inline uint##bits##_t imem_read##bits(struct icpu *c, unsigned seg, uint64_t la)    \
	{                                                                                          \
		const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_READ, bits / 8);             \
		uint##bits##_t v;                                                                  \
		if (!e)                                                                            \
			return (uint##bits##_t)imem_read_miss(c, seg, la, bits / 8);               \
		memcpy(&v, e->host + (la & 0xfff), sizeof(v));                                     \
		return v;                                                                          \
	}                                                                                          \
	static inline void imem_write##bits(struct icpu *c, unsigned seg, uint64_t la, uint##bits##_t v) \
	{                                                                                          \
		const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, bits / 8);            \
		if (!e) {                                                                          \
			imem_write_miss(c, seg, la, bits / 8, v);                                  \
			return;                                                                    \
		}                                                                                  \
		memcpy(e->host + (la & 0xfff), &v, sizeof(v));                                     \
		atomic_signal_fence(memory_order_seq_cst);                                           \
		if (__builtin_expect(atomic_load_explicit(e->flags, memory_order_relaxed), 0))     \
			icpu_stored_flagged(c, e->host + (la & 0xfff), sizeof(v));                 \
	}
IMEM_RW(8)
IMEM_RW(16)
IMEM_RW(32)
IMEM_RW(64)

/* Host address of a RAM operand that is read and written, or NULL after checking and probing it
 * for writing: then icpu_read() and icpu_write() do the rest. */
uint8_t *imem_rmw_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size);

static inline uint8_t *imem_rmw(struct icpu *c, unsigned seg, uint64_t la, unsigned size)
{
	const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, size);

	return e ? e->host + (la & 0xfff) : imem_rmw_miss(c, seg, la, size);
}

/* Registers by size; the 8-bit ones may be AH..BH. */
#define IREG(bits)                                                                                 	static inline uint##bits##_t ireg_get##bits(const struct icpu *c, const struct x86_opnd *o) 	{                                                                                          		return (uint##bits##_t)icpu_reg_get(c, o->reg, bits / 8, bits == 8 && o->high);    	}                                                                                          	static inline void ireg_set##bits(struct icpu *c, const struct x86_opnd *o, uint##bits##_t v) 	{                                                                                          		icpu_reg_set(c, o->reg, bits / 8, bits == 8 && o->high, v);                        	}
IREG(8)
IREG(16)
IREG(32)
IREG(64)

/* How the operands of a two-operand instruction lie. */
enum iform { IFORM_RR, IFORM_RI, IFORM_RM, IFORM_MR, IFORM_MI, IFORM_M, IFORM_R, IFORM_N, IFORM_OTHER = -1 };

static inline bool iform_is_fast_mem(const struct x86_insn *x)
{
	return x->adsize == 8 && !(x->prefixes & X86_P_LOCK);
}

/* The form for specialised handlers; memory only with 64-bit addresses and no LOCK. */
static inline enum iform iform_of(const struct x86_insn *x)
{
	unsigned a = x->opnd[0].kind, b = x->opnd[1].kind;

	if (a == X86_O_REG)
		return x->n_opnds == 1 ? IFORM_R : b == X86_O_REG ? IFORM_RR : b == X86_O_IMM ? IFORM_RI :
		       b == X86_O_MEM && iform_is_fast_mem(x) ? IFORM_RM : IFORM_OTHER;
	if (a != X86_O_MEM || !iform_is_fast_mem(x))
		return IFORM_OTHER;
	return x->n_opnds == 1 ? IFORM_M : b == X86_O_REG ? IFORM_MR : b == X86_O_IMM ? IFORM_MI : IFORM_OTHER;
}

static inline unsigned isize_log(unsigned size)
{
	return size == 8 ? 3 : size == 4 ? 2 : size == 2 ? 1 : 0;
}

/* A destination that is read, then written: translated for writing before the read, so that a
 * page fault reports the write, and only once. */
struct idst {
	uint64_t la;
	bool is_mem;
};

uint64_t idst_read(struct icpu *c, const struct iop *op, struct idst *d);
void idst_write(struct icpu *c, const struct iop *op, const struct idst *d, uint64_t v);

/* Atomic *la = fn(*la) with the value of FN for flags and register results; ARG is FN's. Locked
 * on the host, or under vm->split_lock when the operand crosses a page or is a device's. FN
 * may run several times and must depend on its arguments only. Returns the old value. */
typedef uint64_t (*iatomic_fn)(uint64_t old, void *arg);
uint64_t iatomic_update(struct icpu *c, uint64_t la, unsigned size, iatomic_fn fn, void *arg);

/* What each of the integer files binds. */
iop_fn interp_bind_alu(const struct x86_insn *x);
iop_fn interp_bind_shift(const struct x86_insn *x);
iop_fn interp_bind_muldiv(const struct x86_insn *x);
iop_fn interp_bind_bit(const struct x86_insn *x);
iop_fn interp_bind_mov(const struct x86_insn *x);
iop_fn interp_bind_xchg(const struct x86_insn *x);
iop_fn interp_bind_branch(const struct x86_insn *x);
iop_fn interp_bind_misc(const struct x86_insn *x);
iop_fn interp_bind_bmi(const struct x86_insn *x);

/* Inline condition test for specialised handlers. */
static inline bool icond(uint64_t rf, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = rf & X86_OF; break;
	case 1: r = rf & X86_CF; break;
	case 2: r = rf & X86_ZF; break;
	case 3: r = rf & (X86_CF | X86_ZF); break;
	case 4: r = rf & X86_SF; break;
	case 5: r = rf & X86_PF; break;
	case 6: r = ((rf >> 7) ^ (rf >> 11)) & 1; break;
	default: r = (rf & X86_ZF) || (((rf >> 7) ^ (rf >> 11)) & 1); break;
	}
	return r ^ (cc & 1);
}

#endif

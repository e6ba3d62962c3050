/* SPDX-License-Identifier: Apache-2.0 */
/* sys_priv.h - what the sys_*.c files share: descriptors, stacks other than the current one, far
 * returns, tasks. Intel SDM vol. 3 chapters 3, 5, 6, 8. The vcpu's thread only.
 *
 * EXT, where a function takes it, is bit 0 of the error codes it raises: 1 while an event that
 * the program did not ask for is being delivered (SDM vol. 3 6.13). */
#ifndef CPU_INTERP_SYS_PRIV_H
#define CPU_INTERP_SYS_PRIV_H

#include "cpu/interp/interp_priv.h"

/* --- small predicates ---------------------------------------------------------------------- */

static inline void sys_need_cpl0(struct icpu *c)
{
	if (c->cpl)
		icpu_gp0(c);
}

static inline unsigned sys_iopl(const struct icpu *c)
{
	return (c->s.rflags >> 12) & 3;
}

static inline bool sys_is_canonical(const struct icpu *c, uint64_t la)
{
	unsigned shift = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(la << shift) >> shift) == la;
}

/* The looser check of what is loaded into bases of segments and tables and into MSRs, and of
 * addresses to invalidate: 57 bits where the processor has them, whatever CR4.LA57 says. */
bool sys_is_canonical_base(const struct icpu *c, uint64_t la);

static inline uint64_t sys_size_mask(unsigned size)
{
	return size == 2 ? 0xffff : size == 4 ? 0xffffffff : ~0ull;
}

static inline uint16_t sys_read16(struct icpu *c, uint64_t la)
{
	uint16_t v;

	icpu_read_slow(c, la, &v, sizeof(v), true);
	return v;
}

static inline uint32_t sys_read32(struct icpu *c, uint64_t la)
{
	uint32_t v;

	icpu_read_slow(c, la, &v, sizeof(v), true);
	return v;
}

static inline uint64_t sys_read64(struct icpu *c, uint64_t la)
{
	uint64_t v;

	icpu_read_slow(c, la, &v, sizeof(v), true);
	return v;
}

/* Let run.c look at interrupts, traps and modes before the next instruction. */
static inline void sys_recheck(struct icpu *c)
{
	atomic_fetch_or_explicit(&c->req, ICPU_REQ_RECHECK, memory_order_relaxed);
}

/* True when the guest's CPUID announces bit BIT of W. */
static inline bool sys_has(const struct icpu *c, enum x86_cpuid_word w, unsigned bit)
{
	return x86_cpuid_has(c->vm->cfg.cpuid, w, bit);
}

/* Physical address bits that the guest was told of (leaf 0x80000008). */
unsigned sys_phys_bits(const struct icpu *c);

/* --- descriptors (sys_desc.c) -------------------------------------------------------------- */

/* System descriptor types (SDM vol. 3 table 3-2). Bit 3 makes the 32- or 64-bit form. */
enum sys_type {
	SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5,
	SYS_INT16 = 6, SYS_TRAP16 = 7, SYS_TSS = 9, SYS_TSS_BUSY = 11, SYS_CALL = 12,
	SYS_INT = 14, SYS_TRAP = 15,
	SYS_BUSY = 2,           /* the bit that tells a busy TSS */
};

/* A descriptor as read from its table. Reading it once makes later checks race-free. */
struct sys_desc {
	uint64_t raw;           /* the first eight bytes */
	uint64_t la;            /* where it lies */
	uint64_t base;          /* of a segment */
	uint32_t limit, attr;   /* of a segment, as struct x86_seg has them */
	uint16_t sel;           /* how it was selected */
};

static inline unsigned sys_type(const struct sys_desc *d) { return d->attr & X86_SEG_TYPE; }
static inline unsigned sys_dpl(const struct sys_desc *d) { return (d->attr >> X86_SEG_DPL_SHIFT) & 3; }
static inline bool sys_present(const struct sys_desc *d) { return d->attr & X86_SEG_P; }
static inline bool sys_is_code(const struct sys_desc *d)
{
	return (d->attr & (X86_SEG_S | X86_SEG_CODE)) == (X86_SEG_S | X86_SEG_CODE);
}
static inline bool sys_is_conforming(const struct sys_desc *d)
{
	return sys_is_code(d) && (d->attr & X86_SEG_DC);
}
static inline bool sys_is_writable_data(const struct sys_desc *d)
{
	return (d->attr & (X86_SEG_S | X86_SEG_CODE | X86_SEG_RW)) == (X86_SEG_S | X86_SEG_RW);
}
static inline bool sys_is_null(uint16_t sel) { return !(sel & ~3); }

/* Fields of a gate (SDM vol. 3 figures 5-8, 6-2); the upper half of the offset is not here. */
static inline uint16_t sys_gate_sel(const struct sys_desc *d) { return d->raw >> 16; }
static inline uint32_t sys_gate_offset(const struct sys_desc *d)
{
	return (d->raw & 0xffff) | (d->raw >> 48) << 16;
}

/* Raise VECTOR with the selector's index and table as error code. */
_Noreturn void sys_fault(struct icpu *c, unsigned vector, uint16_t sel, unsigned ext);

/* Take apart eight bytes read at LA. */
void sys_desc_decode(struct sys_desc *d, uint64_t raw, uint64_t la, uint16_t sel);
/* Read the descriptor of SEL. False when it lies beyond its table. May page-fault. */
bool sys_desc_read(struct icpu *c, uint16_t sel, struct sys_desc *d);
/* The same, or raise VECTOR(sel). */
void sys_desc_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d, unsigned vector, unsigned ext);
/* The second eight bytes of a long-mode system descriptor, or VECTOR(sel) when they are beyond
 * the table or carry a type. Returns the first four of them: bits 63..32 of base or offset. */
uint32_t sys_desc_high(struct icpu *c, const struct sys_desc *d, unsigned vector, unsigned ext);
/* Set the accessed bit in memory and in D. */
void sys_desc_touch(struct icpu *c, struct sys_desc *d);
/* Set or clear the busy bit of the TSS descriptor at D->la. */
void sys_desc_set_busy(struct icpu *c, const struct sys_desc *d, bool is_busy);

void sys_seg_from_desc(struct x86_seg *s, const struct sys_desc *d, uint16_t sel);
void sys_seg_set_null(struct x86_seg *s, uint16_t sel, unsigned dpl);
/* Real-address and virtual-8086 mode loads (SDM vol. 3 20.1.1). */
void sys_seg_set_real(struct icpu *c, enum x86_sreg seg, uint16_t sel);
void sys_seg_set_vm86(struct icpu *c, enum x86_sreg seg, uint16_t sel);

/* Check SEL as a stack segment for privilege CPL and read it. BAD is raised for all but a
 * segment that is not present (#SS). */
void sys_ss_fetch(struct icpu *c, uint16_t sel, unsigned cpl, struct sys_desc *d, unsigned bad, unsigned ext);

/* Would code described by ATTR run in 64-bit mode? */
static inline bool sys_is_code64(const struct icpu *c, uint32_t attr)
{
	return c->is_long && (attr & X86_SEG_L);
}
/* #GP(EXT) unless RIP can be fetched from a code segment with ATTR and LIMIT. */
void sys_check_rip(struct icpu *c, uint32_t attr, uint32_t limit, uint64_t rip, unsigned ext);

/* --- stacks (sys_stack.c) ------------------------------------------------------------------ */

/* A stack being read or written that may not be the current one yet. */
struct sys_stack {
	struct x86_seg ss;
	uint64_t sp;
	uint64_t mask;          /* of sp: 16, 32 or 64 bits */
	bool is64, super;       /* super: accesses have supervisor rights */
	uint32_t code;          /* error code of #SS */
};

/* The stack that SS:RSP names now, and one for SS (NULL: long mode's null) at SP and CPL. */
void sys_stack_current(const struct icpu *c, struct sys_stack *k);
void sys_stack_init(const struct icpu *c, struct sys_stack *k, const struct x86_seg *ss, uint64_t sp, unsigned cpl);
void sys_stack_push(struct icpu *c, struct sys_stack *k, unsigned size, uint64_t v);
uint64_t sys_stack_pop(struct icpu *c, struct sys_stack *k, unsigned size);
/* Value at SP + OFF without moving it. */
uint64_t sys_stack_peek(struct icpu *c, const struct sys_stack *k, uint64_t off, unsigned size);
/* RSP = the stack's pointer, as wide as it is. */
void sys_stack_commit_sp(struct icpu *c, const struct sys_stack *k);

/* The stack for privilege CPL from the TSS: SS (0 in long mode) and stack pointer; #TS. */
uint64_t sys_tss_stack(struct icpu *c, unsigned cpl, uint16_t *ss, unsigned ext);
/* A ready stack for inner privilege CPL: TSS lookup and SS checks. Long mode: entry IST of the
 * interrupt stack table when that is not 0. */
void sys_stack_inner(struct icpu *c, struct sys_stack *k, unsigned cpl, unsigned ist, unsigned ext);

/* --- far transfers (sys_far.c, sys_iret.c, sys_task.c) ------------------------------------- */

/* Make D the code segment at privilege CPL; go to RIP. SS is the caller's. */
void sys_enter_cs(struct icpu *c, struct sys_desc *d, unsigned cpl, uint64_t rip);
/* After a return to an outer ring: forget data segments that it may not use. */
void sys_drop_segs(struct icpu *c, unsigned cpl);
/* What a return (RETF, IRET) to SEL checks about its code segment; SEL is not null. */
void sys_return_cs_fetch(struct icpu *c, uint16_t sel, struct sys_desc *d);
/* What a return to an outer ring RPL checks about the new stack segment. */
void sys_return_ss_load(struct icpu *c, uint16_t sel, unsigned rpl, uint32_t cs_attr, struct x86_seg *out);

enum sys_task_how { SYS_TASK_JMP, SYS_TASK_CALL, SYS_TASK_IRET };
/* Switch to the task whose TSS descriptor is D (type checked by the caller). RIP: where the
 * old task goes on. */
void sys_task_switch(struct icpu *c, struct sys_desc *d, enum sys_task_how how, uint64_t rip, unsigned ext);
/* The TSS that a task gate GATE names, checked. */
void sys_task_gate(struct icpu *c, const struct sys_desc *gate, struct sys_desc *tss, unsigned ext);

/* --- control and model-specific registers (sys_cr.c, sys_misc.c) ----------------------------- */

void sys_set_efer(struct icpu *c, uint64_t v);          /* #GP(0) on reserved or illegal changes */
void sys_set_xcr0(struct icpu *c, uint64_t v);
uint64_t sys_tsc(const struct icpu *c);

/* --- handlers, for sys_bind.c --------------------------------------------------------------- */

#define SYS_HANDLERS(H)                                                                            \
	/* sys_event.c */                                                                          \
	H(int) H(int1) H(int3) H(into) H(bound)                                                    \
	/* sys_far.c, sys_iret.c */                                                                \
	H(jmpf) H(callf) H(retf) H(iret)                                                           \
	/* sys_seg.c */                                                                            \
	H(mov_from_sreg) H(mov_to_sreg) H(push_sreg) H(pop_sreg) H(load_far)                       \
	H(lldt) H(ltr) H(sldt) H(str) H(lar) H(lsl) H(verr) H(verw) H(arpl)                        \
	H(lgdt) H(lidt) H(sgdt) H(sidt)                                                            \
	/* sys_call.c */                                                                           \
	H(syscall) H(sysret) H(sysenter) H(sysexit) H(swapgs)                                      \
	H(rdfsbase) H(rdgsbase) H(wrfsbase) H(wrgsbase) H(vmcall)                                  \
	/* sys_cr.c */                                                                             \
	H(mov_cr) H(mov_dr) H(clts) H(lmsw) H(smsw) H(xgetbv) H(xsetbv)                            \
	H(invlpg) H(invpcid) H(cache_wb)                                                           \
	/* sys_msr.c */                                                                            \
	H(rdmsr) H(wrmsr)                                                                          \
	/* sys_io.c */                                                                             \
	H(in) H(out) H(ins) H(outs)                                                                \
	/* sys_flags.c */                                                                          \
	H(pushf) H(popf) H(cli) H(sti) H(clc) H(stc) H(cmc) H(cld) H(std) H(lahf) H(sahf)          \
	H(clac) H(stac)                                                                            \
	/* sys_misc.c */                                                                           \
	H(hlt) H(cpuid) H(rdtsc) H(rdtscp) H(rdpid) H(rdpmc) H(rdrand) H(clflush) H(fence) H(nop)

#define SYS_DECLARE(name) void sys_op_##name(struct icpu *c, const struct iop *op);
SYS_HANDLERS(SYS_DECLARE)
#undef SYS_DECLARE

#endif

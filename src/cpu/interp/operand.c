/* SPDX-License-Identifier: Apache-2.0 */
/* Operands of integer instructions: addresses with segment checks (SDM vol. 3 chapter 5), values,
 * the stack, and atomic updates. Vcpu thread only. */
#include "cpu/interp/mem.h"

static bool is_canonical(const struct icpu *c, uint64_t la)
{
	unsigned unused = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(la << unused) >> unused) == la;
}

_Noreturn static void segment_fault(struct icpu *c, unsigned seg)
{
	icpu_raise_code(c, seg == X86_SS ? X86_EXC_SS : X86_EXC_GP, 0);
}

void imem_check(struct icpu *c, unsigned seg, uint64_t la, unsigned size)
{
	if (!is_canonical(c, la) || (size > 1 && !is_canonical(c, la + size - 1)))
		segment_fault(c, seg);
}

uint64_t imem_read_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size)
{
	uint64_t v = 0;

	imem_check(c, seg, la, size);
	icpu_read_slow(c, la, &v, size, false);
	return v;
}

void imem_write_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size, uint64_t v)
{
	imem_check(c, seg, la, size);
	icpu_write_slow(c, la, &v, size, false);
}

uint8_t *imem_rmw_miss(struct icpu *c, unsigned seg, uint64_t la, unsigned size)
{
	imem_check(c, seg, la, size);
	icpu_probe(c, la, size, ICPU_WRITE);

	const struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, size);

	return e ? e->host + (la & 0xfff) : NULL;
}

/* Type and limit of a segment outside 64-bit mode (SDM vol. 3 5.3, 5.5). */
static bool segment_allows(const struct icpu *c, const struct x86_seg *s, uint64_t off, unsigned size,
			   enum icpu_access acc)
{
	uint64_t last = off + (size ? size - 1 : 0);
	bool is_code = s->attr & X86_SEG_CODE;

	if (s->attr & X86_SEG_UNUSABLE)
		return false;
	if (!c->is_real_or_vm86) {
		if (acc == ICPU_WRITE && (is_code || !(s->attr & X86_SEG_RW)))
			return false;
		if (acc == ICPU_READ && is_code && !(s->attr & X86_SEG_RW))
			return false;
	}
	if (!is_code && (s->attr & X86_SEG_DC))         /* expand-down */
		return off > s->limit && last <= (s->attr & X86_SEG_DB ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

uint64_t icpu_linear(struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, enum icpu_access acc)
{
	const struct x86_seg *s = &c->s.seg[seg];

	if (c->mode == X86_MODE_64) {
		uint64_t la = seg >= X86_FS ? s->base + off : off;

		imem_check(c, seg, la, size);
		return la;
	}
	if (!segment_allows(c, s, off, size, acc))
		segment_fault(c, seg);
	return (uint32_t)(s->base + off);
}

uint64_t icpu_ea_offset(struct icpu *c, const struct iop *op)
{
	const struct x86_insn *x = &op->x;
	uint64_t off = (uint64_t)x->disp;

	if (x->base == X86_REG_RIP)
		off += c->next_rip;
	else if (x->base != X86_NO_REG)
		off += c->s.gpr[x->base];
	if (x->index != X86_NO_REG)
		off += c->s.gpr[x->index] << x->scale;
	switch (x->adsize) {
	case 2: return (uint16_t)off;
	case 4: return (uint32_t)off;
	default: return off;
	}
}

uint64_t icpu_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	return icpu_linear(c, op->x.seg, icpu_ea_offset(c, op), size, acc);
}

static bool is_memory(const struct x86_opnd *o)
{
	return o->kind == X86_O_MEM || o->kind == X86_O_MOFFS;
}

uint64_t icpu_get(struct icpu *c, const struct iop *op, unsigned n)
{
	const struct x86_opnd *o = &op->x.opnd[n];

	switch (o->kind) {
	case X86_O_REG:
		return icpu_reg_get(c, o->reg, o->size, o->high);
	case X86_O_MEM:
	case X86_O_MOFFS:
		return icpu_read(c, icpu_ea(c, op, o->size, ICPU_READ), o->size);
	case X86_O_IMM2:
		return (uint64_t)op->x.imm2;
	default:
		return (uint64_t)op->x.imm;
	}
}

void icpu_set(struct icpu *c, const struct iop *op, unsigned n, uint64_t v)
{
	const struct x86_opnd *o = &op->x.opnd[n];

	if (is_memory(o))
		icpu_write(c, icpu_ea(c, op, o->size, ICPU_WRITE), o->size, v);
	else
		icpu_reg_set(c, o->reg, o->size, o->high, v);
}

uint64_t idst_read(struct icpu *c, const struct iop *op, struct idst *d)
{
	const struct x86_opnd *o = &op->x.opnd[0];

	d->is_mem = is_memory(o);
	if (!d->is_mem)
		return icpu_reg_get(c, o->reg, o->size, o->high);
	d->la = icpu_ea(c, op, o->size, ICPU_WRITE);
	if (!icpu_tlb_hit(c, d->la, ICPU_WRITE, o->size))
		icpu_probe(c, d->la, o->size, ICPU_WRITE);
	return icpu_read(c, d->la, o->size);
}

void idst_write(struct icpu *c, const struct iop *op, const struct idst *d, uint64_t v)
{
	const struct x86_opnd *o = &op->x.opnd[0];

	if (d->is_mem)
		icpu_write(c, d->la, o->size, v);
	else
		icpu_reg_set(c, o->reg, o->size, o->high, v);
}

/* --- atomic updates --------------------------------------------------------------------- */

/* Compare-exchange that the host locks even across a cache line. */
#define ATOMIC_CAS(bits, sfx)                                                                       \
	static bool atomic_cas##bits(void *p, uint##bits##_t *old, uint##bits##_t v)                \
	{                                                                                           \
		bool ok;                                                                            \
		__asm__ volatile("lock cmpxchg" sfx " %[v], %[m]"                                   \
				 : "=@ccz"(ok), [m] "+m"(*(uint##bits##_t *)p), "+a"(*old)          \
				 : [v] "q"(v) : "memory");                                          \
		return ok;                                                                          \
	}
ATOMIC_CAS(8, "b")
ATOMIC_CAS(16, "w")
ATOMIC_CAS(32, "l")
ATOMIC_CAS(64, "q")

#define ATOMIC_LOOP(bits)                                                       \
	do {                                                                    \
		uint##bits##_t old;                                             \
		memcpy(&old, p, sizeof(old));                                   \
		while (!atomic_cas##bits(p, &old, (uint##bits##_t)fn(old, arg)))\
			;                                                       \
		return old;                                                     \
	} while (0)

static uint64_t atomic_loop(void *p, unsigned size, iatomic_fn fn, void *arg)
{
	switch (size) {
	case 1: ATOMIC_LOOP(8);
	case 2: ATOMIC_LOOP(16);
	case 4: ATOMIC_LOOP(32);
	default: ATOMIC_LOOP(64);
	}
}

uint64_t iatomic_update(struct icpu *c, uint64_t la, unsigned size, iatomic_fn fn, void *arg)
{
	void *p = icpu_atomic_ptr(c, la, size);
	uint64_t old;

	if (p) {
		old = atomic_loop(p, size, fn, arg);
		icpu_atomic_done(c, la, size);
		return old;
	}
	/* icpu_atomic_ptr() has checked both pages: nothing below faults and the lock is always
	 * released. A device's register (one page) needs none. */
	bool is_split = (la & 0xfff) + size > 4096;

	if (is_split)
		pthread_mutex_lock(&c->vm->split_lock);
	old = icpu_read(c, la, size);
	icpu_write(c, la, size, fn(old, arg));
	if (is_split)
		pthread_mutex_unlock(&c->vm->split_lock);
	return old;
}

/* --- stack and conditions -------------------------------------------------------------------- */

static uint64_t stack_mask(const struct icpu *c)
{
	if (c->mode == X86_MODE_64)
		return ~0ull;
	return c->s.seg[X86_SS].attr & X86_SEG_DB ? 0xffffffffull : 0xffffull;
}

void icpu_push(struct icpu *c, unsigned size, uint64_t v)
{
	uint64_t mask = stack_mask(c), sp = (c->s.gpr[X86_RSP] - size) & mask;

	icpu_write(c, icpu_linear(c, X86_SS, sp, size, ICPU_WRITE), size, v);
	c->s.gpr[X86_RSP] = (c->s.gpr[X86_RSP] & ~mask) | sp;
}

uint64_t icpu_pop(struct icpu *c, unsigned size)
{
	uint64_t mask = stack_mask(c), sp = c->s.gpr[X86_RSP];
	uint64_t v = icpu_read(c, icpu_linear(c, X86_SS, sp & mask, size, ICPU_READ), size);

	c->s.gpr[X86_RSP] = (sp & ~mask) | ((sp + size) & mask);
	return v;
}

bool icpu_cond(const struct icpu *c, unsigned cc)
{
	return icond(c->s.rflags, cc & 15);
}

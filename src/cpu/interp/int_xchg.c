/* SPDX-License-Identifier: Apache-2.0 */
/* Exchange: XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B. Intel SDM vol. 2. With a memory operand all of
 * them are done atomically: XCHG must be, for the others it is allowed. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

static void iop_xchg_reg(struct icpu *c, const struct iop *op)
{
	uint64_t a = icpu_get(c, op, 0), b = icpu_get(c, op, 1);

	icpu_set(c, op, 0, b);
	icpu_set(c, op, 1, a);
}

static uint64_t xchg_step(uint64_t old, void *arg)
{
	(void)old;
	return *(uint64_t *)arg;
}

static void iop_xchg_mem(struct icpu *c, const struct iop *op)
{
	unsigned mem = op->x.opnd[0].kind == X86_O_MEM ? 0 : 1, size = op->x.opnd[0].size;
	uint64_t v = icpu_get(c, op, 1 - mem);

	icpu_set(c, op, 1 - mem, iatomic_update(c, icpu_ea(c, op, size, ICPU_WRITE), size, xchg_step, &v));
}

static uint64_t xadd_step(uint64_t old, void *arg)
{
	return old + *(uint64_t *)arg;
}

static void iop_xadd(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;
	uint64_t b = icpu_get(c, op, 1), old;

	if (op->x.opnd[0].kind == X86_O_REG) {
		old = icpu_get(c, op, 0);
		icpu_set(c, op, 1, old);
		icpu_set(c, op, 0, alu_add(&c->s.rflags, old, b, size));
		return;
	}
	old = iatomic_update(c, icpu_ea(c, op, size, ICPU_WRITE), size, xadd_step, &b);
	icpu_set(c, op, 1, old);
	alu_add(&c->s.rflags, old, b, size);
}

struct cmpxchg {
	uint64_t want, put;
};

static uint64_t cmpxchg_step(uint64_t old, void *arg)
{
	const struct cmpxchg *x = arg;

	return old == x->want ? x->put : old;
}

/* The destination is written in any case: it faults as a write does. */
static void iop_cmpxchg(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;
	struct cmpxchg x = {
		.want = icpu_reg_get(c, X86_RAX, size, false),
		.put = icpu_get(c, op, 1),
	};
	bool is_reg = op->x.opnd[0].kind == X86_O_REG;
	uint64_t old = is_reg ? icpu_get(c, op, 0) :
		iatomic_update(c, icpu_ea(c, op, size, ICPU_WRITE), size, cmpxchg_step, &x);

	alu_cmp(&c->s.rflags, x.want, old, size);
	if (old != x.want)
		icpu_reg_set(c, X86_RAX, size, false, old);
	else if (is_reg)
		icpu_set(c, op, 0, x.put);
}

static void set_zf(struct icpu *c, bool on)
{
	c->s.rflags = (c->s.rflags & ~(uint64_t)X86_ZF) | (on ? X86_ZF : 0);
}

static void iop_cmpxchg8b(struct icpu *c, const struct iop *op)
{
	uint64_t *r = c->s.gpr;
	struct cmpxchg x = {
		.want = r[X86_RDX] << 32 | (uint32_t)r[X86_RAX],
		.put = r[X86_RCX] << 32 | (uint32_t)r[X86_RBX],
	};
	uint64_t old = iatomic_update(c, icpu_ea(c, op, 8, ICPU_WRITE), 8, cmpxchg_step, &x);

	set_zf(c, old == x.want);
	if (old != x.want) {
		r[X86_RAX] = (uint32_t)old;
		r[X86_RDX] = old >> 32;
	}
}

static bool cmpxchg16(void *p, uint64_t want[2], const uint64_t put[2])
{
	bool ok;

	__asm__ volatile("lock cmpxchg16b %[m]"
			 : "=@ccz"(ok), [m] "+m"(*(unsigned __int128 *)p), "+a"(want[0]), "+d"(want[1])
			 : "b"(put[0]), "c"(put[1]) : "memory");
	return ok;
}

static void iop_cmpxchg16b(struct icpu *c, const struct iop *op)
{
	uint64_t la = icpu_ea(c, op, 16, ICPU_WRITE), *r = c->s.gpr;
	uint64_t old[2] = { r[X86_RAX], r[X86_RDX] };
	const uint64_t put[2] = { r[X86_RBX], r[X86_RCX] };
	bool ok;

	if (la & 15)
		icpu_gp0(c);
	void *p = icpu_atomic_ptr(c, la, 16);

	if (p) {
		ok = cmpxchg16(p, old, put);
		icpu_atomic_done(c, la, 16);
	} else {                        /* aligned, so a device's: no atomicity to keep */
		uint64_t now[2];

		icpu_read_slow(c, la, now, 16, false);
		ok = now[0] == old[0] && now[1] == old[1];
		icpu_write_slow(c, la, ok ? put : now, 16, false);
		memcpy(old, now, sizeof(old));
	}
	set_zf(c, ok);
	if (!ok) {
		r[X86_RAX] = old[0];
		r[X86_RDX] = old[1];
	}
}

iop_fn interp_bind_xchg(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_XCHG:
		return x->opnd[0].kind == X86_O_MEM || x->opnd[1].kind == X86_O_MEM ? iop_xchg_mem : iop_xchg_reg;
	case X86_OP_XADD: return iop_xadd;
	case X86_OP_CMPXCHG: return iop_cmpxchg;
	case X86_OP_CMPXCHG8B: return iop_cmpxchg8b;
	case X86_OP_CMPXCHG16B: return iop_cmpxchg16b;
	default: return NULL;
	}
}

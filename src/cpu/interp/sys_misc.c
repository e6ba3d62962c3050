/* SPDX-License-Identifier: Apache-2.0 */
/* sys_misc.c - identification, time, randomness, halting and fences (SDM vol. 2). */
#include "cpu/interp/sys_priv.h"

void sys_op_hlt(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
	icpu_halt(c);
}

static bool misc_has_apic(struct icpu *c)
{
	enum { MSR_APIC_BASE = 0x1b, ENABLED = 1 << 11 };
	uint64_t base = ENABLED;

	return c->host->msr_read(c->host->arg, c->index, MSR_APIC_BASE, &base) < 0 || (base & ENABLED);
}

void sys_op_cpuid(struct icpu *c, const struct iop *op)
{
	uint64_t *g = c->s.gpr;
	uint32_t r[4];

	x86_cpuid_get(c->vm->cfg.cpuid, (uint32_t)g[X86_RAX], (uint32_t)g[X86_RCX], c->index,
		      c->s.cr4, c->s.xcr0, r);
	/* A local APIC that is switched off is not announced (SDM vol. 3 11.4.3). */
	if ((uint32_t)g[X86_RAX] == 1 && !misc_has_apic(c))
		r[3] &= ~(1u << 9);
	g[X86_RAX] = r[0];
	g[X86_RBX] = r[1];
	g[X86_RCX] = r[2];
	g[X86_RDX] = r[3];
}

static void misc_check_tsd(struct icpu *c)
{
	if ((c->s.cr4 & X86_CR4_TSD) && c->cpl)
		icpu_gp0(c);
}

void sys_op_rdtsc(struct icpu *c, const struct iop *op)
{
	misc_check_tsd(c);
	uint64_t t = sys_tsc(c);
	c->s.gpr[X86_RAX] = (uint32_t)t;
	c->s.gpr[X86_RDX] = t >> 32;
}

void sys_op_rdtscp(struct icpu *c, const struct iop *op)
{
	sys_op_rdtsc(c, op);
	c->s.gpr[X86_RCX] = (uint32_t)c->s.tsc_aux;
}

void sys_op_rdpid(struct icpu *c, const struct iop *op)
{
	icpu_reg_set(c, op->x.opnd[0].reg, c->mode == X86_MODE_64 ? 8 : 4, false, (uint32_t)c->s.tsc_aux);
}

/* There are no performance counters to read. */
void sys_op_rdpmc(struct icpu *c, const struct iop *op)
{
	icpu_gp0(c);
}

/* RDRAND and RDSEED: always a value, CF says so, the other flags are 0. */
void sys_op_rdrand(struct icpu *c, const struct iop *op)
{
	uint64_t v;

	source_random(c->vm->cfg.source, &v, sizeof(v));
	icpu_set(c, op, 0, v);
	icpu_set_flags(c, X86_CF, X86_FLAGS_ARITH);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: memory is coherent; they fault as a one-byte read does. */
void sys_op_clflush(struct icpu *c, const struct iop *op)
{
	icpu_probe(c, icpu_ea(c, op, 1, ICPU_READ), 1, ICPU_READ);
}

/* Loads and stores of this thread are ordered as x86 orders them; what is left is that earlier
 * stores become visible before later loads. */
void sys_op_fence(struct icpu *c, const struct iop *op)
{
	atomic_thread_fence(memory_order_seq_cst);
}

void sys_op_nop(struct icpu *c, const struct iop *op)
{
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fpu_rig.h"

#include "cpu/x86/cpuid.h"
#include "test.h"
#include "util/endian.h"

/* One case, one process: its processor, and what the fakes below work on. */
static struct icpu rig_cpu;
static struct itlb_table no_translations;
static struct rig *rig_of;

void icpu_raise(struct icpu *c, unsigned vector)
{
	siglongjmp(c->landing, 1 + (int)vector);
}

void icpu_raise_code(struct icpu *c, unsigned vector, uint32_t code)
{
	icpu_raise(c, vector);
}

void icpu_page_fault(struct icpu *c, uint64_t la, uint32_t code)
{
	icpu_raise(c, X86_EXC_PF);
}

void icpu_probe(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc)
{
	if (la < MEM || la > MEM + MEM_LEN - len)
		icpu_page_fault(c, la, 0);
}

void icpu_read_slow(struct icpu *c, uint64_t la, void *buf, unsigned len, bool super)
{
	icpu_probe(c, la, len, ICPU_READ);
	memcpy(buf, rig_of->mem + (la - MEM), len);
}

void icpu_write_slow(struct icpu *c, uint64_t la, const void *buf, unsigned len, bool super)
{
	icpu_probe(c, la, len, ICPU_WRITE);
	memcpy(rig_of->mem + (la - MEM), buf, len);
}

uint64_t icpu_read(struct icpu *c, uint64_t la, unsigned size)
{
	uint64_t v = 0;

	icpu_read_slow(c, la, &v, size, false);
	return v;
}

void icpu_write(struct icpu *c, uint64_t la, unsigned size, uint64_t v)
{
	icpu_write_slow(c, la, &v, size, false);
}

void icpu_stored_flagged(struct icpu *c, const uint8_t *host, unsigned len) {}

/* All operands here are [rdi + disp]. */
uint64_t icpu_ea_offset(struct icpu *c, const struct iop *op)
{
	return c->s.gpr[X86_RDI] + (uint64_t)op->x.disp;
}

uint64_t icpu_ea(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	return icpu_ea_offset(c, op);
}

uint64_t icpu_linear(struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, enum icpu_access acc)
{
	return off;
}

uint64_t icpu_get(struct icpu *c, const struct iop *op, unsigned n)
{
	return icpu_reg_get(c, op->x.opnd[n].reg, op->x.opnd[n].size, false);
}

void iop_ud(struct icpu *c, const struct iop *op)
{
	icpu_raise(c, X86_EXC_UD);
}

void rig_init(struct rig *r)
{
	r->c = &rig_cpu;
	for (unsigned i = 0; i < ICPU_N_PRIV * ICPU_N_ACCESS; i++)
		r->c->table[i / ICPU_N_ACCESS][i % ICPU_N_ACCESS] = &no_translations;
	memset(r->mem, 0, sizeof(r->mem));
	rig_of = r;
	r->c->mode = X86_MODE_64;
	r->c->s.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_NE;
	r->c->s.cr4 = X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
	r->c->s.xcr0 = 7;
	r->c->s.rip = 0x400000;
	r->c->s.gpr[X86_RDI] = MEM;
	x87_init(r->c);
	icpu_set_mxcsr(r->c, MXCSR_INIT);
}

int rig_run(struct rig *r, const char *code, unsigned len)
{
	struct iop op = { 0 };
	int v;

	CHECK_EQ(x86_decode(&op.x, (const uint8_t *)code, len, r->c->mode), X86_DECODE_OK);
	CHECK_EQ(op.x.len, len);
	op.fn = interp_bind_fpu(&op.x);
	CHECK(op.fn);
	v = sigsetjmp(r->c->landing, 0);
	if (v)
		return v - 1;
	op.fn(r->c, &op);
	return NO_FAULT;
}

void set_ps(struct rig *r, unsigned reg, float a, float b, float c, float d)
{
	float v[4] = { a, b, c, d };

	memcpy(icpu_xmm(r->c, reg), v, 16);
}

uint16_t fsw(const struct rig *r)
{
	return fx_get16(r->c, X86_FX_FSW);
}

void need_host(uint64_t features)
{
	if (features & ~x86_host_features())
		SKIP("this host does not have the instructions");
}

void set_ymm(struct rig *r, unsigned reg, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	uint64_t v[4] = { a, b, c, d };

	ymm_set(r->c, reg, (const uint8_t *)v);
}

uint64_t ymm64(struct rig *r, unsigned reg, unsigned i)
{
	uint8_t buf[32];

	ymm_get(r->c, reg, buf);
	return get_le64(buf + 8 * i);
}

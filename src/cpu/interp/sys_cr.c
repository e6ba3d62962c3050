/* SPDX-License-Identifier: Apache-2.0 */
/* sys_cr.c - control and debug registers, and what hangs on them (SDM vol. 3 2.5, 2.6, 4.10.4,
 * 9.8.5, 17.2). */
#include "cpu/interp/sys_priv.h"

#define CR0_KNOWN (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | \
		   X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | X86_CR0_CD | X86_CR0_PG)
#define CR3_NO_FLUSH (1ull << 63)
#define EFER_KNOWN (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)

/* DR6, DR7 (SDM vol. 3 figure 17-1): bits that are always 1, and those that can be written. */
#define DR6_FIXED 0xffff0ff0u
#define DR6_WRITABLE 0xe00fu
#define DR6_BD (1u << 13)
#define DR7_FIXED 0x400u
#define DR7_WRITABLE 0xffff23ffu
#define DR7_GD (1u << 13)

unsigned sys_phys_bits(const struct icpu *c)
{
	uint32_t r[4];

	x86_cpuid_get(c->vm->cfg.cpuid, 0x80000008, 0, c->index, c->s.cr4, c->s.xcr0, r);
	return r[0] & 0xff;
}

void icpu_mode_changed(struct icpu *c)
{
	uint32_t cs = c->s.seg[X86_CS].attr;
	bool is_long = c->s.efer & X86_EFER_LMA, is_pe = c->s.cr0 & X86_CR0_PE;
	bool is_vm86 = is_pe && (c->s.rflags & X86_VM);
	bool is_real_or_vm86 = !is_pe || is_vm86;

	if (c->is_long != is_long || c->is_real_or_vm86 != is_real_or_vm86)
		c->code_epoch++;
	c->is_long = is_long;
	c->is_vm86 = is_vm86;
	c->is_real_or_vm86 = is_real_or_vm86;
	c->mode = is_long && (cs & X86_SEG_L) ? X86_MODE_64 : cs & X86_SEG_DB ? X86_MODE_32 : X86_MODE_16;
	c->rip_mask = c->mode == X86_MODE_64 ? ~0ull : c->mode == X86_MODE_32 ? 0xffffffff : 0xffff;
	c->cpl = x86_cpl(&c->s);
}

/* --- CR0, CR3, CR4, CR8 -------------------------------------------------------------------------- */

/* PG 0 -> 1 with EFER.LME: into IA-32e mode (SDM vol. 3 9.8.5). */
static void cr_check_enter_long(struct icpu *c)
{
	if (!(c->s.cr4 & X86_CR4_PAE) || (c->s.seg[X86_CS].attr & X86_SEG_L))
		icpu_gp0(c);
	if (!(c->s.tr.attr & X86_SEG_UNUSABLE) && !(c->s.tr.attr & 8))  /* a 16-bit TSS */
		icpu_gp0(c);
}

static void cr_set_cr0(struct icpu *c, uint64_t v)
{
	uint64_t old = c->s.cr0;

	if (v >> 32 || ((v & X86_CR0_PG) && !(v & X86_CR0_PE)) || ((v & X86_CR0_NW) && !(v & X86_CR0_CD)))
		icpu_gp0(c);
	v = (v & CR0_KNOWN) | X86_CR0_ET;
	uint64_t diff = v ^ old;
	if (diff & X86_CR0_PG) {
		if (v & X86_CR0_PG) {
			if (c->s.efer & X86_EFER_LME) {
				cr_check_enter_long(c);
				c->s.efer |= X86_EFER_LMA;
			}
		} else {
			if (c->mode == X86_MODE_64 || (c->s.cr4 & X86_CR4_PCIDE))
				icpu_gp0(c);
			c->s.efer &= ~(uint64_t)X86_EFER_LMA;
		}
	}
	/* PAE's four PDPTEs are read at each walk, not loaded and checked here: a reserved bit in
	 * them shows as #PF on use instead of #GP on load. */
	c->s.cr0 = v;
	if (diff & (X86_CR0_PG | X86_CR0_PE | X86_CR0_WP | X86_CR0_AM))
		icpu_tlb_flush(c, false);
	if (diff & (X86_CR0_PG | X86_CR0_PE)) {
		icpu_mode_changed(c);
		sys_recheck(c);
	}
}

static void cr_set_cr3(struct icpu *c, uint64_t v)
{
	bool is_kept = false;

	if (c->is_long) {
		uint64_t no_flush = c->s.cr4 & X86_CR4_PCIDE ? CR3_NO_FLUSH : 0;

		if ((v & ~no_flush) >> sys_phys_bits(c))
			icpu_gp0(c);
		is_kept = v & no_flush;
		v &= ~CR3_NO_FLUSH;
	} else {
		v = (uint32_t)v;
	}
	c->s.cr3 = v;
	icpu_space_switch(c, is_kept);
}

/* CR4 bits and the CPUID feature each belongs to; the rest is reserved. */
static uint64_t cr4_allowed(const struct icpu *c)
{
	static const struct { uint32_t cr4; uint8_t word, bit; } gates[] = {
		{ X86_CR4_VME | X86_CR4_PVI, X86_W_1_EDX, 1 },
		{ X86_CR4_TSD, X86_W_1_EDX, 4 },
		{ X86_CR4_DE, X86_W_1_EDX, 2 },
		{ X86_CR4_PSE, X86_W_1_EDX, 3 },
		{ X86_CR4_PAE, X86_W_1_EDX, 6 },
		{ X86_CR4_MCE, X86_W_1_EDX, 7 },
		{ X86_CR4_PGE, X86_W_1_EDX, 13 },
		{ X86_CR4_OSFXSR, X86_W_1_EDX, 24 },
		{ X86_CR4_OSXMMEXCPT, X86_W_1_EDX, 25 },
		{ X86_CR4_UMIP, X86_W_7_ECX, 2 },
		{ X86_CR4_LA57, X86_W_7_ECX, 16 },
		{ X86_CR4_FSGSBASE, X86_W_7_EBX, 0 },
		{ X86_CR4_PCIDE, X86_W_1_ECX, 17 },
		{ X86_CR4_OSXSAVE, X86_W_1_ECX, 26 },
		{ X86_CR4_SMEP, X86_W_7_EBX, 7 },
		{ X86_CR4_SMAP, X86_W_7_EBX, 20 },
		{ X86_CR4_PKE, X86_W_7_ECX, 3 },
	};
	uint64_t ok = X86_CR4_PCE;

	for (unsigned i = 0; i < sizeof(gates) / sizeof(gates[0]); i++)
		if (sys_has(c, gates[i].word, gates[i].bit))
			ok |= gates[i].cr4;
	return ok;
}

static void cr_set_cr4(struct icpu *c, uint64_t v)
{
	const uint64_t flushing = X86_CR4_PSE | X86_CR4_PAE | X86_CR4_PGE | X86_CR4_SMEP | X86_CR4_SMAP |
				  X86_CR4_LA57 | X86_CR4_PCIDE | X86_CR4_PKE;
	uint64_t diff = v ^ c->s.cr4;

	if (diff & v & ~cr4_allowed(c))
		icpu_gp0(c);
	if (c->is_long && (!(v & X86_CR4_PAE) || (diff & X86_CR4_LA57)))
		icpu_gp0(c);
	if ((diff & v & X86_CR4_PCIDE) && (!c->is_long || (c->s.cr3 & 0xfff)))
		icpu_gp0(c);
	c->s.cr4 = v;
	if (diff & flushing)
		icpu_tlb_flush(c, false);
}

static void cr_set_cr8(struct icpu *c, uint64_t v)
{
	if (v > 15)
		icpu_gp0(c);
	c->host->cr8_write(c->host->arg, c->index, (unsigned)v);
	/* A lower priority may let a waiting interrupt through. */
	icpu_request(c, ICPU_REQ_INTR);
}

void icpu_set_cr(struct icpu *c, unsigned n, uint64_t v)
{
	switch (n) {
	case 0: cr_set_cr0(c, v); break;
	case 2: c->s.cr2 = v; break;
	case 3: cr_set_cr3(c, v); break;
	case 4: cr_set_cr4(c, v); break;
	case 8: cr_set_cr8(c, v); break;
	default: icpu_raise(c, X86_EXC_UD);
	}
}

void sys_set_efer(struct icpu *c, uint64_t v)
{
	uint64_t diff = v ^ c->s.efer;

	if (v & ~(uint64_t)EFER_KNOWN)
		icpu_gp0(c);
	if (((diff & X86_EFER_LME) && (c->s.cr0 & X86_CR0_PG)) ||
	    ((v & X86_EFER_LME) && !sys_has(c, X86_W_80000001_EDX, 29)) ||
	    ((v & X86_EFER_NXE) && !sys_has(c, X86_W_80000001_EDX, 20)))
		icpu_gp0(c);
	/* LMA is read-only: writes of it are ignored. */
	c->s.efer = (v & ~(uint64_t)X86_EFER_LMA) | (c->s.efer & X86_EFER_LMA);
	if (diff & X86_EFER_NXE)
		icpu_tlb_flush(c, false);
}

/* XSETBV's rules (SDM vol. 1 13.3): dependencies between components. */
void sys_set_xcr0(struct icpu *c, uint64_t v)
{
	enum { X87 = 1, SSE = 2, AVX = 4, AVX512 = 0xe0, AMX = 0x60000, MPX = 0x18 };

	if (!(v & X87) || (v & ~x86_cpuid_xcr0(c->vm->cfg.cpuid)) || ((v & AVX) && !(v & SSE)) ||
	    ((v & AVX512) && ((v & AVX512) != AVX512 || !(v & AVX))) ||
	    ((v & AMX) && (v & AMX) != AMX) || ((v & MPX) && (v & MPX) != MPX))
		icpu_gp0(c);
	c->s.xcr0 = v;
}

/* --- handlers -------------------------------------------------------------------------------- */

static uint64_t cr_get(struct icpu *c, unsigned n)
{
	switch (n) {
	case 0: return c->s.cr0;
	case 2: return c->s.cr2;
	case 3: return c->s.cr3;
	case 4: return c->s.cr4;
	case 8: return c->host->cr8_read(c->host->arg, c->index);
	default: icpu_raise(c, X86_EXC_UD);
	}
}

void sys_op_mov_cr(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *o = op->x.opnd;
	unsigned width = c->mode == X86_MODE_64 ? 8 : 4;

	sys_need_cpl0(c);
	if (o[0].kind == X86_O_CREG)
		icpu_set_cr(c, o[0].reg, icpu_reg_get(c, o[1].reg, width, false));
	else
		icpu_reg_set(c, o[0].reg, width, false, cr_get(c, o[1].reg));
}

void sys_op_mov_dr(struct icpu *c, const struct iop *op)
{
	const struct x86_opnd *o = op->x.opnd;
	unsigned width = c->mode == X86_MODE_64 ? 8 : 4;
	bool is_write = o[0].kind == X86_O_DREG;
	unsigned n = o[is_write ? 0 : 1].reg, gpr = o[is_write ? 1 : 0].reg;

	if (n > 7 || ((n == 4 || n == 5) && (c->s.cr4 & X86_CR4_DE)))
		icpu_raise(c, X86_EXC_UD);
	sys_need_cpl0(c);
	if (c->s.dr7 & DR7_GD) {
		c->s.dr6 |= DR6_BD;
		icpu_raise(c, X86_EXC_DB);
	}
	if (n == 4 || n == 5)
		n += 2;
	uint64_t *dr = n == 6 ? &c->s.dr6 : n == 7 ? &c->s.dr7 : &c->s.dr[n & 3];
	if (!is_write) {
		icpu_reg_set(c, gpr, width, false, *dr);
		return;
	}
	uint64_t v = icpu_reg_get(c, gpr, width, false);
	if (n >= 6 && v >> 32)
		icpu_gp0(c);
	if (n < 4)
		*dr = v;
	else
		*dr = n == 6 ? (v & DR6_WRITABLE) | DR6_FIXED : (v & DR7_WRITABLE) | DR7_FIXED;
	sys_recheck(c);
}

void sys_op_clts(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
	c->s.cr0 &= ~(uint64_t)X86_CR0_TS;
}

void sys_op_lmsw(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
	uint64_t v = icpu_get(c, op, 0) & 0xf;

	/* PE can be set this way but not cleared. */
	icpu_set_cr(c, 0, (c->s.cr0 & ~0xeull) | v);
}

void sys_op_smsw(struct icpu *c, const struct iop *op)
{
	if ((c->s.cr4 & X86_CR4_UMIP) && c->cpl)
		icpu_gp0(c);
	icpu_set(c, op, 0, c->s.cr0);
}

static void cr_need_osxsave(struct icpu *c)
{
	if (!(c->s.cr4 & X86_CR4_OSXSAVE))
		icpu_raise(c, X86_EXC_UD);
}

void sys_op_xgetbv(struct icpu *c, const struct iop *op)
{
	uint32_t n = (uint32_t)c->s.gpr[X86_RCX];
	uint64_t v = c->s.xcr0;

	cr_need_osxsave(c);
	if (n > 1 || (n == 1 && !sys_has(c, X86_W_D1_EAX, 2)))
		icpu_gp0(c);
	if (n == 1)
		v &= icpu_xinuse(c);
	c->s.gpr[X86_RAX] = (uint32_t)v;
	c->s.gpr[X86_RDX] = v >> 32;
}

void sys_op_xsetbv(struct icpu *c, const struct iop *op)
{
	cr_need_osxsave(c);
	sys_need_cpl0(c);
	if ((uint32_t)c->s.gpr[X86_RCX] != 0)
		icpu_gp0(c);
	sys_set_xcr0(c, (uint32_t)c->s.gpr[X86_RAX] | c->s.gpr[X86_RDX] << 32);
}

/* --- TLB and caches ---------------------------------------------------------------------------- */

void sys_op_invlpg(struct icpu *c, const struct iop *op)
{
	uint64_t off = icpu_ea_offset(c, op), base = c->s.seg[op->x.seg].base;

	sys_need_cpl0(c);
	/* No limit or canonical check: an address that maps nothing is simply not there. */
	if (c->mode == X86_MODE_64)
		icpu_tlb_flush_page(c, op->x.seg >= X86_FS ? base + off : off);
	else
		icpu_tlb_flush_page(c, (uint32_t)(base + off));
}

void sys_op_invpcid(struct icpu *c, const struct iop *op)
{
	enum { ADDRESS, SINGLE, ALL_GLOBAL, ALL };
	unsigned width = c->mode == X86_MODE_64 ? 8 : 4;

	if (c->is_vm86)
		icpu_gp0(c);
	sys_need_cpl0(c);
	uint64_t type = icpu_reg_get(c, op->x.opnd[0].reg, width, false);
	uint64_t la = icpu_ea(c, op, 16, ICPU_READ);
	uint64_t pcid = icpu_read64(c, la), addr = icpu_read64(c, la + 8);
	if (type > ALL || pcid >> 12)
		icpu_gp0(c);
	if ((type == ADDRESS && !sys_is_canonical_base(c, addr)) ||
	    (type <= SINGLE && pcid && !(c->s.cr4 & X86_CR4_PCIDE)))
		icpu_gp0(c);
	switch (type) {
	case ADDRESS: icpu_tlb_flush_pcid_page(c, (unsigned)pcid, addr); break;
	case SINGLE: icpu_tlb_flush_pcid(c, (unsigned)pcid); break;
	case ALL: icpu_tlb_flush_pcid(c, ICPU_ALL_PCIDS); break;
	default: icpu_tlb_flush(c, false); break;
	}
}

/* WBINVD, INVD: guest memory is coherent. */
void sys_op_cache_wb(struct icpu *c, const struct iop *op)
{
	sys_need_cpl0(c);
}

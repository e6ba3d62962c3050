/* SPDX-License-Identifier: Apache-2.0 */
/* sys_call.c - SYSCALL, SYSENTER and their returns, FS/GS base, hypercalls (SDM vol. 2; vol. 3
 * 5.8.7; AMD APM vol. 3, SYSCALL). As on Intel, SYSCALL and SYSRET exist in 64-bit mode only, unless the
 * processor calls itself AMD's: then in compatibility mode as well. AMD's legacy form is left out. */
#include "cpu/interp/sys_priv.h"

/* What these instructions put into CS and SS without reading a descriptor: flat, accessed. */
#define FLAT_BASE (X86_SEG_G | X86_SEG_P | X86_SEG_S | X86_SEG_RW | X86_SEG_ACCESSED)
#define FLAT_SS (FLAT_BASE | X86_SEG_DB)
#define FLAT_CS32 (FLAT_BASE | X86_SEG_DB | X86_SEG_CODE)
#define FLAT_CS64 (FLAT_BASE | X86_SEG_L | X86_SEG_CODE)

static void call_set_flat(struct icpu *c, enum x86_sreg seg, uint16_t sel, uint32_t attr, unsigned dpl)
{
	c->s.seg[seg] = (struct x86_seg){ .sel = sel, .limit = 0xffffffff, .attr = attr | dpl << X86_SEG_DPL_SHIFT };
}

static void call_need_syscall(struct icpu *c)
{
	bool is_known = c->mode == X86_MODE_64 || (c->is_long && x86_cpuid_is_amd(c->vm->cfg.cpuid));

	if (!is_known || !(c->s.efer & X86_EFER_SCE))
		icpu_raise(c, X86_EXC_UD);
}

/* SYSCALL and SYSRET trap by the TF that they leave, not by the one they found: a program that is
 * stepped traps after its system call, not inside the kernel. */
void sys_op_syscall(struct icpu *c, const struct iop *op)
{
	uint16_t sel = (c->s.star >> 32) & 0xfffc;

	call_need_syscall(c);
	c->s.gpr[X86_RCX] = c->next_rip;
	c->s.gpr[X86_R11] = c->s.rflags & ~(uint64_t)X86_RF;
	call_set_flat(c, X86_CS, sel, FLAT_CS64, 0);
	call_set_flat(c, X86_SS, sel + 8, FLAT_SS, 0);
	icpu_set_flags(c, 0, c->s.fmask | X86_RF);
	c->next_rip = c->mode == X86_MODE_64 ? c->s.lstar : c->s.cstar;
	c->is_traced = c->s.rflags & X86_TF;
	icpu_mode_changed(c);
}

void sys_op_sysret(struct icpu *c, const struct iop *op)
{
	uint16_t sel = c->s.star >> 48;
	bool is_64 = op->x.opsize == 8;
	uint64_t rip = c->s.gpr[X86_RCX];

	call_need_syscall(c);
	sys_need_cpl0(c);
	/* Still in ring 0, with the user's stack: the famous Intel behaviour. */
	if (is_64 && !sys_is_canonical(c, rip))
		icpu_gp0(c);
	call_set_flat(c, X86_CS, (is_64 ? sel + 16 : sel) | 3, is_64 ? FLAT_CS64 : FLAT_CS32, 3);
	call_set_flat(c, X86_SS, (sel + 8) | 3, FLAT_SS, 3);
	icpu_set_flags(c, c->s.gpr[X86_R11], 0x3c7fd7);
	c->next_rip = is_64 ? rip : (uint32_t)rip;
	c->is_traced = c->s.rflags & X86_TF;
	icpu_mode_changed(c);
}

void sys_op_sysenter(struct icpu *c, const struct iop *op)
{
	uint16_t sel = c->s.sysenter_cs & 0xfffc;

	if (!(c->s.cr0 & X86_CR0_PE) || !sel)
		icpu_gp0(c);
	icpu_set_flags(c, 0, X86_VM | X86_IF | X86_RF);
	call_set_flat(c, X86_CS, sel, c->is_long ? FLAT_CS64 : FLAT_CS32, 0);
	call_set_flat(c, X86_SS, sel + 8, FLAT_SS, 0);
	c->s.gpr[X86_RSP] = c->is_long ? c->s.sysenter_esp : (uint32_t)c->s.sysenter_esp;
	c->next_rip = c->is_long ? c->s.sysenter_eip : (uint32_t)c->s.sysenter_eip;
	icpu_mode_changed(c);
}

void sys_op_sysexit(struct icpu *c, const struct iop *op)
{
	uint16_t sel = c->s.sysenter_cs & 0xfffc;
	uint64_t rip = c->s.gpr[X86_RDX], rsp = c->s.gpr[X86_RCX];
	bool is_64 = op->x.opsize == 8;

	if (!(c->s.cr0 & X86_CR0_PE) || !sel || c->cpl)
		icpu_gp0(c);
	if (is_64 && (!sys_is_canonical(c, rip) || !sys_is_canonical(c, rsp)))
		icpu_gp0(c);
	call_set_flat(c, X86_CS, (sel + (is_64 ? 32 : 16)) | 3, is_64 ? FLAT_CS64 : FLAT_CS32, 3);
	call_set_flat(c, X86_SS, (sel + (is_64 ? 40 : 24)) | 3, FLAT_SS, 3);
	c->s.gpr[X86_RSP] = is_64 ? rsp : (uint32_t)rsp;
	c->next_rip = is_64 ? rip : (uint32_t)rip;
	icpu_mode_changed(c);
}

void sys_op_swapgs(struct icpu *c, const struct iop *op)
{
	uint64_t base = c->s.seg[X86_GS].base;

	if (c->mode != X86_MODE_64)
		icpu_raise(c, X86_EXC_UD);
	sys_need_cpl0(c);
	c->s.seg[X86_GS].base = c->s.kernel_gs_base;
	c->s.kernel_gs_base = base;
}

static void call_need_fsgsbase(struct icpu *c)
{
	if (c->mode != X86_MODE_64 || !(c->s.cr4 & X86_CR4_FSGSBASE))
		icpu_raise(c, X86_EXC_UD);
}

static void call_read_base(struct icpu *c, const struct iop *op, enum x86_sreg seg)
{
	call_need_fsgsbase(c);
	icpu_set(c, op, 0, c->s.seg[seg].base);
}

static void call_write_base(struct icpu *c, const struct iop *op, enum x86_sreg seg)
{
	call_need_fsgsbase(c);
	uint64_t base = icpu_get(c, op, 0);
	if (!sys_is_canonical_base(c, base))
		icpu_gp0(c);
	c->s.seg[seg].base = base;
}

void sys_op_rdfsbase(struct icpu *c, const struct iop *op) { call_read_base(c, op, X86_FS); }
void sys_op_rdgsbase(struct icpu *c, const struct iop *op) { call_read_base(c, op, X86_GS); }
void sys_op_wrfsbase(struct icpu *c, const struct iop *op) { call_write_base(c, op, X86_FS); }
void sys_op_wrgsbase(struct icpu *c, const struct iop *op) { call_write_base(c, op, X86_GS); }

/* A KVM hypercall (Linux Documentation/virt/kvm/x86/hypercalls.rst), by either vendor's instruction. */
void sys_op_vmcall(struct icpu *c, const struct iop *op)
{
	enum { KVM_EPERM = 1, KVM_ENOSYS = 1000 };
	static const uint8_t from[] = { X86_RBX, X86_RCX, X86_RDX, X86_RSI };
	uint64_t mask = c->mode == X86_MODE_64 ? ~0ull : 0xffffffff, a[4];
	int64_t ret = c->cpl ? -KVM_EPERM : -KVM_ENOSYS;

	for (unsigned i = 0; i < 4; i++)
		a[i] = c->s.gpr[from[i]] & mask;
	if (!c->cpl && c->host->hypercall)
		ret = c->host->hypercall(c->host->arg, c->index, c->s.gpr[X86_RAX] & mask, a);
	icpu_reg_set(c, X86_RAX, c->mode == X86_MODE_64 ? 8 : 4, false, (uint64_t)ret);
}

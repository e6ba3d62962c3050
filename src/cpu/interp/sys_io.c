/* SPDX-License-Identifier: Apache-2.0 */
/* sys_io.c - IN, OUT, INS, OUTS (SDM vol. 1 chapter 19). */
#include "cpu/interp/sys_priv.h"

enum { TSS_IO_MAP = 102 };      /* where the TSS says where the bitmap is */

/* IOPL first, then the permission bitmap of the TSS: one bit per port, two bytes are always read
 * (SDM vol. 1 19.5.2). */
static void io_check(struct icpu *c, uint16_t port, unsigned size)
{
	const struct x86_seg *tr = &c->s.tr;

	if (!(c->s.cr0 & X86_CR0_PE) || (!c->is_vm86 && c->cpl <= sys_iopl(c)))
		return;
	/* A 16-bit TSS has no bitmap. */
	if ((tr->attr & X86_SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < TSS_IO_MAP + 1)
		icpu_gp0(c);
	uint32_t off = sys_read16(c, tr->base + TSS_IO_MAP) + port / 8u;
	if (off + 1 > tr->limit)
		icpu_gp0(c);
	uint16_t bits = sys_read16(c, tr->base + off) >> (port & 7);
	if (bits & ((1u << size) - 1))
		icpu_gp0(c);
}

static uint32_t io_read(struct icpu *c, uint16_t port, unsigned size)
{
	uint8_t was = icpu_phase_set(c, CPU_PHASE_DEVICE);
	uint32_t v = c->host->pio_read(c->host->arg, c->index, port, size);

	c->stats.exits_pio++;
	icpu_phase_set(c, was);
	return v;
}

static void io_write(struct icpu *c, uint16_t port, unsigned size, uint32_t v)
{
	uint8_t was = icpu_phase_set(c, CPU_PHASE_DEVICE);

	c->stats.exits_pio++;
	c->host->pio_write(c->host->arg, c->index, port, size, v);
	icpu_phase_set(c, was);
}

void sys_op_in(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[0].size;
	uint16_t port = icpu_get(c, op, 1);

	io_check(c, port, size);
	icpu_reg_set(c, X86_RAX, size, false, io_read(c, port, size));
}

void sys_op_out(struct icpu *c, const struct iop *op)
{
	unsigned size = op->x.opnd[1].size;
	uint16_t port = icpu_get(c, op, 0);

	io_check(c, port, size);
	io_write(c, port, size, icpu_reg_get(c, X86_RAX, size, false));
}

/* One element. The memory side is probed before the port is touched: a device read cannot be
 * taken back. */
static void io_string_step(struct icpu *c, const struct iop *op, bool is_in, unsigned size)
{
	unsigned index = is_in ? X86_RDI : X86_RSI;
	enum x86_sreg seg = is_in ? X86_ES : op->x.seg;
	uint64_t off = c->s.gpr[index] & sys_size_mask(op->x.adsize);
	uint16_t port = c->s.gpr[X86_RDX];
	uint64_t la = icpu_linear(c, seg, off, size, is_in ? ICPU_WRITE : ICPU_READ);

	if (is_in) {
		icpu_probe(c, la, size, ICPU_WRITE);
		icpu_write(c, la, size, io_read(c, port, size));
	} else {
		io_write(c, port, size, icpu_read(c, la, size));
	}
	off += c->s.rflags & X86_DF ? -(uint64_t)size : size;
	icpu_reg_set(c, index, op->x.adsize, false, off);
}

/* REP: a bounded number of elements, then again from the same address, so that interrupts get
 * in and every element done is kept when a later one faults. */
static void io_string(struct icpu *c, const struct iop *op, bool is_in)
{
	unsigned size = op->x.opnd[is_in ? 0 : 1].size;
	uint64_t mask = sys_size_mask(op->x.adsize);

	io_check(c, c->s.gpr[X86_RDX], size);
	if (!(op->x.prefixes & (X86_P_REP | X86_P_REPNE))) {
		io_string_step(c, op, is_in, size);
		return;
	}
	for (uint64_t n = 0; c->s.gpr[X86_RCX] & mask; n++) {
		if (n && n >= c->rep_budget) {
			icpu_not_retired(c);
			return;
		}
		io_string_step(c, op, is_in, size);
		icpu_reg_set(c, X86_RCX, op->x.adsize, false, c->s.gpr[X86_RCX] - 1);
	}
}

void sys_op_ins(struct icpu *c, const struct iop *op) { io_string(c, op, true); }
void sys_op_outs(struct icpu *c, const struct iop *op) { io_string(c, op, false); }

/* SPDX-License-Identifier: Apache-2.0 */
/* MOVS CMPS STOS LODS SCAS with and without REP. Intel SDM vol. 2, "REP/REPE/REPZ/REPNE/REPNZ".
 *
 * Registers are brought up to date after every iteration, so a fault leaves them as hardware
 * does: at the element that faulted. Forward REP MOVS and STOS take whole runs inside a page of
 * RAM at once; what a run may not do is skip over bytes that it has itself written, which
 * forward order makes visible when the destination overlaps the source from above. At most
 * rep_budget iterations are done before interrupts get their chance. */
#include "cpu/interp/alu.h"
#include "cpu/interp/mem.h"

static uint64_t addr_mask(const struct iop *op)
{
	return op->x.adsize == 8 ? ~0ull : op->x.adsize == 4 ? 0xffffffff : 0xffff;
}

/* Index and count registers: 32-bit updates clear the upper half, 16-bit ones keep the rest. */
static void string_advance(struct icpu *c, const struct iop *op, unsigned reg, uint64_t by)
{
	icpu_reg_set(c, reg, op->x.adsize, false, c->s.gpr[reg] + by);
}

static uint64_t string_step(const struct icpu *c, unsigned size)
{
	return c->s.rflags & X86_DF ? (uint64_t)0 - size : size;
}

static uint64_t src_la(struct icpu *c, const struct iop *op, unsigned size)
{
	return icpu_linear(c, op->x.seg, c->s.gpr[X86_RSI] & addr_mask(op), size, ICPU_READ);
}

static uint64_t dst_la(struct icpu *c, const struct iop *op, unsigned size, enum icpu_access acc)
{
	return icpu_linear(c, X86_ES, c->s.gpr[X86_RDI] & addr_mask(op), size, acc);
}

/* --- one element ------------------------------------------------------------------------------ */

static void movs_one(struct icpu *c, const struct iop *op, unsigned size)
{
	uint64_t by = string_step(c, size), v = icpu_read(c, src_la(c, op, size), size);

	icpu_write(c, dst_la(c, op, size, ICPU_WRITE), size, v);
	string_advance(c, op, X86_RSI, by);
	string_advance(c, op, X86_RDI, by);
}

static void stos_one(struct icpu *c, const struct iop *op, unsigned size)
{
	icpu_write(c, dst_la(c, op, size, ICPU_WRITE), size, c->s.gpr[X86_RAX]);
	string_advance(c, op, X86_RDI, string_step(c, size));
}

static void lods_one(struct icpu *c, const struct iop *op, unsigned size)
{
	uint64_t v = icpu_read(c, src_la(c, op, size), size);

	icpu_reg_set(c, X86_RAX, size, false, v);
	string_advance(c, op, X86_RSI, string_step(c, size));
}

static void cmps_one(struct icpu *c, const struct iop *op, unsigned size)
{
	uint64_t by = string_step(c, size), a = icpu_read(c, src_la(c, op, size), size);
	uint64_t b = icpu_read(c, dst_la(c, op, size, ICPU_READ), size);

	alu_cmp(&c->s.rflags, a, b, size);
	string_advance(c, op, X86_RSI, by);
	string_advance(c, op, X86_RDI, by);
}

static void scas_one(struct icpu *c, const struct iop *op, unsigned size)
{
	uint64_t v = icpu_read(c, dst_la(c, op, size, ICPU_READ), size);

	alu_cmp(&c->s.rflags, c->s.gpr[X86_RAX], v, size);
	string_advance(c, op, X86_RDI, string_step(c, size));
}

/* --- runs -------------------------------------------------------------------------------------- */

/* How many elements of SIZE fit between LA and the end of its page and of the address space, when
 * the page is RAM for the inline paths; else 0. */
static uint64_t run_room(struct icpu *c, uint64_t off, uint64_t la, unsigned size, enum icpu_access acc, uint64_t mask)
{
	uint64_t room = 4096 - (la & 0xfff), wrap = mask - off;

	if (!icpu_tlb_hit(c, la, acc, size))
		return 0;
	if (wrap < room - 1)
		room = wrap + 1;
	return room / size;
}

/* Segment limits outside 64-bit mode must hold for the whole run. */
static uint64_t run_limit(const struct icpu *c, enum x86_sreg seg, uint64_t off, unsigned size, uint64_t n)
{
	const struct x86_seg *s = &c->s.seg[seg];

	if (c->mode == X86_MODE_64)
		return n;
	if ((s->attr & (X86_SEG_CODE | X86_SEG_DC)) == X86_SEG_DC)
		return 0;               /* expand-down: one at a time */
	uint64_t fit = (s->limit + 1ull - off) / size;

	return n < fit ? n : fit;
}

static uint64_t min3(uint64_t a, uint64_t b, uint64_t d)
{
	uint64_t m = a < b ? a : b;

	return m < d ? m : d;
}

/* Forward copy of whole elements. When the destination starts less than N bytes above the source,
 * the run is cut so that no byte is read that it writes. */
static uint64_t movs_run(struct icpu *c, const struct iop *op, unsigned size, uint64_t n)
{
	uint64_t mask = addr_mask(op), from = c->s.gpr[X86_RSI] & mask, to = c->s.gpr[X86_RDI] & mask;
	uint64_t src = src_la(c, op, size), dst = dst_la(c, op, size, ICPU_WRITE);

	n = min3(n, run_room(c, from, src, size, ICPU_READ, mask), run_room(c, to, dst, size, ICPU_WRITE, mask));
	n = run_limit(c, op->x.seg, from, size, run_limit(c, X86_ES, to, size, n));
	if (!n)
		return 0;
	const uint8_t *s = icpu_tlb_slot(c, icpu_priv(c), ICPU_READ, src)->host + (src & 0xfff);
	uint8_t *d = icpu_tlb_slot(c, icpu_priv(c), ICPU_WRITE, dst)->host + (dst & 0xfff);

	if (d > s && (uint64_t)(d - s) < n * size)
		n = (uint64_t)(d - s) / size;
	if (!n)
		return 0;
	/* The destination may lie below and overlap: memmove keeps forward order's result. */
	memmove(d, s, n * size);
	icpu_stored(c, d, (unsigned)(n * size));
	string_advance(c, op, X86_RSI, n * size);
	string_advance(c, op, X86_RDI, n * size);
	return n;
}

static void fill(uint8_t *d, uint64_t v, unsigned size, uint64_t n)
{
	if (size == 1 || v == (v & 0xff) * 0x0101010101010101ull) {
		memset(d, (int)(v & 0xff), n * size);
		return;
	}
	for (uint64_t i = 0; i < n; i++)
		memcpy(d + i * size, &v, size);
}

static uint64_t stos_run(struct icpu *c, const struct iop *op, unsigned size, uint64_t n)
{
	uint64_t mask = addr_mask(op), to = c->s.gpr[X86_RDI] & mask;
	uint64_t dst = dst_la(c, op, size, ICPU_WRITE), room = run_room(c, to, dst, size, ICPU_WRITE, mask);

	n = run_limit(c, X86_ES, to, size, n < room ? n : room);
	if (!n)
		return 0;
	uint8_t *d = icpu_tlb_slot(c, icpu_priv(c), ICPU_WRITE, dst)->host + (dst & 0xfff);

	fill(d, c->s.gpr[X86_RAX], size, n);
	icpu_stored(c, d, (unsigned)(n * size));
	string_advance(c, op, X86_RDI, n * size);
	return n;
}

/* --- handlers ----------------------------------------------------------------------------------- */

struct string_op {
	void (*one)(struct icpu *c, const struct iop *op, unsigned size);
	uint64_t (*run)(struct icpu *c, const struct iop *op, unsigned size, uint64_t n);  /* or NULL */
	bool is_compare;        /* REPE and REPNE look at ZF */
	uint8_t opnd;           /* that has the element size */
};

static const struct string_op string_ops[] = {  /* in the order of ops.def */
	{ movs_one, movs_run, false, 0 },
	{ cmps_one, NULL, true, 0 },
	{ stos_one, stos_run, false, 0 },
	{ lods_one, NULL, false, 1 },
	{ scas_one, NULL, true, 1 },
};
_Static_assert(X86_OP_SCAS - X86_OP_MOVS + 1 == sizeof(string_ops) / sizeof(string_ops[0]), "order of ops.def");

static void iop_string(struct icpu *c, const struct iop *op)
{
	const struct string_op *so = &string_ops[op->x.op - X86_OP_MOVS];

	so->one(c, op, op->x.opnd[so->opnd].size);
}

static void iop_string_rep(struct icpu *c, const struct iop *op)
{
	const struct string_op *so = &string_ops[op->x.op - X86_OP_MOVS];
	unsigned size = op->x.opnd[so->opnd].size;
	bool want_zf = op->x.prefixes & X86_P_REP;
	uint64_t flags = c->s.rflags;

	for (uint64_t budget = c->rep_budget; budget; ) {
		uint64_t left = icpu_reg_get(c, X86_RCX, op->x.adsize, false), n = 0;

		if (!left)
			return;
		if (so->run && !(c->s.rflags & X86_DF) && budget > 1)
			n = so->run(c, op, size, left < budget ? left : budget);
		if (!n) {
			if (so->is_compare)     /* a fault leaves those that it began with */
				c->s.rflags = flags;
			so->one(c, op, size);
			n = 1;
		}
		budget -= n;
		string_advance(c, op, X86_RCX, (uint64_t)0 - n);
		if (left == n || (so->is_compare && !(c->s.rflags & X86_ZF) == want_zf))
			return;
		if (c->stop_block)      /* it overwrites itself, or a breakpoint was met */
			break;
	}
	icpu_not_retired(c);
}

iop_fn interp_bind_string(const struct x86_insn *x)
{
	if (x->op < X86_OP_MOVS || x->op > X86_OP_SCAS)
		return NULL;
	return x->prefixes & (X86_P_REP | X86_P_REPNE) ? iop_string_rep : iop_string;
}

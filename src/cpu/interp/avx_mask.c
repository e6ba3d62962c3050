/* SPDX-License-Identifier: Apache-2.0 */
/* avx_mask.c - loads and stores of selected elements: VMASKMOVPx, VPMASKMOVx, gathers (SDM vol. 2).
 * An element is selected by the sign bit of its mask; the others touch no memory. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

/* Bytes of an element: rows for quadwords have W = 1, but for VMASKMOVPD. */
static unsigned mask_element(const struct x86_insn *x)
{
	return x->row->flags & X86_R_W1 || x->op == X86_OP_MASKMOVPD ? 8 : 4;
}

static bool mask_is_set(const uint8_t *mask, unsigned at, unsigned size)
{
	return mask[at + size - 1] & 0x80;
}

/* Offset of the first selected element at or after FROM, TO when there is none. */
static unsigned mask_next(const uint8_t *mask, unsigned from, unsigned to, unsigned size)
{
	while (from < to && !mask_is_set(mask, from, size))
		from += size;
	return from;
}

static void mask_load(struct icpu *c, const struct iop *op)
{
	unsigned size = mask_element(&op->x), vl = op->x.vl;
	uint8_t mask[32], buf[32] = { 0 };

	avx_check(c);
	ymm_get(c, op->x.opnd[1].reg, mask);
	uint64_t off = icpu_ea_offset(c, op);

	for (unsigned i = 0; (i = mask_next(mask, i, vl, size)) < vl; i += size) {
		uint64_t v = icpu_read(c, icpu_linear(c, op->x.seg, off + i, size, ICPU_READ), size);

		memcpy(buf + i, &v, size);
	}
	ymm_set(c, op->x.opnd[0].reg, buf);
}

/* Every selected element is probed before the first is written. */
static void mask_store(struct icpu *c, const struct iop *op)
{
	unsigned size = mask_element(&op->x), vl = op->x.vl;
	uint8_t mask[32], buf[32];

	avx_check(c);
	ymm_get(c, op->x.opnd[1].reg, mask);
	ymm_get(c, op->x.opnd[2].reg, buf);
	uint64_t off = icpu_ea_offset(c, op);

	for (unsigned i = 0; (i = mask_next(mask, i, vl, size)) < vl; i += size)
		icpu_probe(c, icpu_linear(c, op->x.seg, off + i, size, ICPU_WRITE), size, ICPU_WRITE);
	for (unsigned i = 0; (i = mask_next(mask, i, vl, size)) < vl; i += size)
		icpu_write(c, icpu_linear(c, op->x.seg, off + i, size, ICPU_WRITE), size,
			   size == 8 ? get_le64(buf + i) : get_le32(buf + i));
}

/* Address of the element whose index stands at AT in the index register. */
static uint64_t gather_address(struct icpu *c, const struct iop *op, const uint8_t *index, unsigned size)
{
	const struct x86_insn *x = &op->x;
	uint64_t off = (uint64_t)x->disp;
	bool is_qword = x->row->opcode & 1;

	off += (is_qword ? get_le64(index) : (uint64_t)(int64_t)(int32_t)get_le32(index)) << x->scale;
	if (x->base != X86_NO_REG)
		off += c->s.gpr[x->base];
	return icpu_linear(c, x->seg, x->adsize == 8 ? off : (uint32_t)off, size, ICPU_READ);
}

/* Bytes from OFF on of a YMM register. */
static uint8_t *ymm_at(struct icpu *c, unsigned reg, unsigned off)
{
	return off < 16 ? icpu_xmm(c, reg) + off : icpu_ymmh(c, reg) + off - 16;
}

/* What happens to the mask before anything is loaded, and stays when an element faults: each of its elements becomes
 * all ones or all zeros, and what the operation does not reach zero. (AMD leaves them as they were.) */
static void gather_extend(struct icpu *c, unsigned mask, unsigned vl, unsigned size)
{
	uint8_t was[32], now[32] = { 0 };

	ymm_get(c, mask, was);
	for (unsigned i = 0; i < vl; i += size)
		if (mask_is_set(was, i, size))
			memset(now + i, 0xff, size);
	ymm_set(c, mask, now);
}

/* What lies above LEN bytes of a YMM register. */
static void ymm_clear_above(struct icpu *c, unsigned reg, unsigned len)
{
	uint8_t v[32];

	ymm_get(c, reg, v);
	memset(v + len, 0, sizeof(v) - len);
	ymm_set(c, reg, v);
}

/* Elements are loaded one by one, and one that is done is no longer selected: after a fault the instruction goes on
 * where it stopped. Loading one clears what is above the operation's length, the end what is above the elements. */
static void avx_gather(struct icpu *c, const struct iop *op)
{
	const struct x86_insn *x = &op->x;
	unsigned size = mask_element(x), step = x->row->opcode & 1 ? 8 : 4;
	unsigned n = x->vl / (size > step ? size : step);
	unsigned dst = x->opnd[0].reg, mask = x->opnd[2].reg;

	avx_check(c);
	gather_extend(c, mask, x->vl, size);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *selects = ymm_at(c, mask, i * size);

		if (mask_is_set(selects, 0, size)) {
			uint64_t v = icpu_read(c, gather_address(c, op, ymm_at(c, x->index, i * step), size), size);

			memcpy(ymm_at(c, dst, i * size), &v, size);
			ymm_clear_above(c, dst, x->vl);
		}
		memset(selects, 0, size);
	}
	ymm_clear_above(c, dst, n * size);
	ymm_clear_above(c, mask, 0);
}

iop_fn avx_mask_bind(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_MASKMOVPS: case X86_OP_MASKMOVPD: case X86_OP_PMASKMOVD: case X86_OP_PMASKMOVQ:
		return x->opnd[0].kind == X86_O_MEM ? mask_store : mask_load;
	default:
		return x->vsib ? avx_gather : NULL;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* xsave.c - FXSAVE, FXRSTOR and the XSAVE family (SDM vol. 1 10.5 and chapter 13).
 *
 * Components: x87 (0), SSE (1) and AVX (2), the ones this engine announces. AVX is the first behind
 * the header in the compacted format as it is in the standard one, so the two differ only in the
 * header. XINUSE is all ones for x87 and SSE - the SDM lets a processor treat a component as in
 * use at any time (13.6) - and tells for AVX whether an upper half is not zero. XSAVES and XRSTORS
 * are not announced and raise #UD. */
#include "cpu/interp/vec.h"
#include "util/endian.h"

enum {
	XS_LEGACY_LEN = 512, XS_HEADER_LEN = 64, XS_LEN = XS_LEGACY_LEN + XS_HEADER_LEN,
	XS_AVX_LEN = 256,
	FX_SAVED_LEN = 416,             /* what FXSAVE writes; the rest is the software's */
};
#define XCOMP_COMPACT (1ull << 63)

/* End of the XMM registers that the mode can see. */
static unsigned xsave_xmm_end(const struct icpu *c)
{
	return X86_FX_XMM + 16 * (c->mode == X86_MODE_64 ? 16 : 8);
}

/* End of their upper halves, in the area as in the state. */
static unsigned xsave_ymm_end(const struct icpu *c)
{
	return X86_XS_AVX + 16 * (c->mode == X86_MODE_64 ? 16 : 8);
}

/* With REX.W the pointers have 64 bits; else 32, and a selector that reads as zero. */
static bool xsave_is_64(const struct icpu *c, const struct iop *op)
{
	return c->mode == X86_MODE_64 && op->x.prefixes & X86_P_REXW;
}

/* The legacy region as it is to be written. */
static void xsave_image(const struct icpu *c, const struct iop *op, uint8_t img[FX_SAVED_LEN])
{
	memcpy(img, c->s.xsave, FX_SAVED_LEN);
	img[X86_FX_FTW + 1] = 0;
	put_le32(img + X86_FX_MXCSR_MASK, MXCSR_VALID);
	if (!xsave_is_64(c, op)) {
		put_le32(img + X86_FX_FIP + 4, 0);
		put_le32(img + X86_FX_FDP + 4, 0);
	}
}

static void xsave_load_x87(struct icpu *c, const struct iop *op, const uint8_t *img)
{
	x87_set_words(c, get_le16(img + X86_FX_FCW), get_le16(img + X86_FX_FSW));
	c->s.xsave[X86_FX_FTW] = img[X86_FX_FTW];
	fx_set16(c, X86_FX_FOP, get_le16(img + X86_FX_FOP) & 0x7ff);
	if (xsave_is_64(c, op)) {
		memcpy(c->s.xsave + X86_FX_FIP, img + X86_FX_FIP, 16);
	} else {
		put_le64(c->s.xsave + X86_FX_FIP, get_le32(img + X86_FX_FIP));
		put_le64(c->s.xsave + X86_FX_FDP, get_le32(img + X86_FX_FDP));
	}
	for (unsigned i = 0; i < 8; i++)        /* the upper 6 bytes of a slot are reserved */
		memcpy(c->s.xsave + X86_FX_ST + 16 * i, img + X86_FX_ST + 16 * i, 10);
}

static void xsave_load_xmm(struct icpu *c, const uint8_t *img)
{
	memcpy(c->s.xsave + X86_FX_XMM, img + X86_FX_XMM, xsave_xmm_end(c) - X86_FX_XMM);
}

/* Bytes [FROM, TO) of an area at LA that has been probed. */
static void xsave_put(struct icpu *c, uint64_t la, const uint8_t *img, unsigned from, unsigned to)
{
	for (unsigned i = from, n; i < to; i += n) {
		n = to - i < 64 ? to - i : 64;
		icpu_write_slow(c, la + i, img + i, n, false);
	}
}

static void xsave_get(struct icpu *c, uint64_t la, uint8_t *img, unsigned from, unsigned to)
{
	for (unsigned i = from, n; i < to; i += n) {
		n = to - i < 64 ? to - i : 64;
		icpu_read_slow(c, la + i, img + i, n, false);
	}
}

static void xsave_fxsave(struct icpu *c, const struct iop *op)
{
	uint8_t img[FX_SAVED_LEN];

	fpu_check_nm(c);
	uint64_t la = icpu_ea(c, op, XS_LEGACY_LEN, ICPU_WRITE);

	if (la & 15)
		icpu_gp0(c);
	icpu_probe(c, la, XS_LEGACY_LEN, ICPU_WRITE);
	xsave_image(c, op, img);
	xsave_put(c, la, img, 0, xsave_xmm_end(c));
}

static void xsave_fxrstor(struct icpu *c, const struct iop *op)
{
	uint8_t img[XS_LEGACY_LEN];

	fpu_check_nm(c);
	uint64_t la = icpu_ea(c, op, XS_LEGACY_LEN, ICPU_READ);

	if (la & 15)
		icpu_gp0(c);
	xsave_get(c, la, img, 0, XS_LEGACY_LEN);
	uint32_t mxcsr = get_le32(img + X86_FX_MXCSR);

	if (mxcsr & ~(uint32_t)MXCSR_VALID)
		icpu_gp0(c);
	xsave_load_x87(c, op, img);
	xsave_load_xmm(c, img);
	icpu_set_mxcsr(c, mxcsr);
}

/* Bytes of an area with the components RFBM. */
static unsigned xsave_len(uint64_t rfbm)
{
	return XS_LEN + (rfbm & XS_AVX ? XS_AVX_LEN : 0);
}

/* Common checks; returns the address of the area. *RFBM: the components asked for. */
static uint64_t xsave_begin(struct icpu *c, const struct iop *op, enum icpu_access acc, uint64_t *rfbm)
{
	if (!(c->s.cr4 & X86_CR4_OSXSAVE))
		icpu_raise(c, X86_EXC_UD);
	if (c->s.cr0 & X86_CR0_TS)
		icpu_raise(c, X86_EXC_NM);
	*rfbm = ((uint32_t)c->s.gpr[X86_RAX] | c->s.gpr[X86_RDX] << 32) & c->s.xcr0;
	uint64_t la = icpu_ea(c, op, xsave_len(*rfbm), acc);

	if (la & 63)
		icpu_gp0(c);
	return la;
}

/* XSAVE, XSAVEOPT, XSAVEC (SDM vol. 1 13.7, 13.9, 13.10). */
static void xsave_save(struct icpu *c, const struct iop *op)
{
	uint8_t img[FX_SAVED_LEN];
	bool is_compact = op->x.op == X86_OP_XSAVEC;
	uint64_t rfbm, la = xsave_begin(c, op, ICPU_WRITE, &rfbm);
	uint64_t in_use = icpu_xinuse(c), bv = rfbm & in_use;

	icpu_probe(c, la, xsave_len(rfbm), ICPU_WRITE);
	/* the standard format keeps XSTATE_BV bits of components that are not saved */
	if (!is_compact)
		bv |= icpu_read64(c, la + X86_XS_BV) & ~rfbm;
	xsave_image(c, op, img);
	if (rfbm & XS_X87) {
		xsave_put(c, la, img, X86_FX_FCW, X86_FX_MXCSR);
		xsave_put(c, la, img, X86_FX_ST, X86_FX_XMM);
	}
	if (rfbm & (is_compact ? XS_SSE : XS_SSE | XS_AVX))
		xsave_put(c, la, img, X86_FX_MXCSR, X86_FX_ST);
	if (rfbm & XS_SSE)
		xsave_put(c, la, img, X86_FX_XMM, xsave_xmm_end(c));
	/* XSAVE writes a component in its initial state too. */
	if (rfbm & (op->x.op == X86_OP_XSAVE ? XS_AVX : in_use & XS_AVX))
		xsave_put(c, la, c->s.xsave, X86_XS_AVX, xsave_ymm_end(c));
	icpu_write64(c, la + X86_XS_BV, bv);
	if (is_compact)
		icpu_write64(c, la + X86_XS_COMP_BV, rfbm | XCOMP_COMPACT);
}

/* Is the header one that XRSTOR accepts? (SDM vol. 1 13.8) */
static bool xsave_header_ok(const struct icpu *c, const uint8_t *header)
{
	uint64_t bv = get_le64(header), comp = get_le64(header + 8);

	if (get_le64(header + 16))
		return false;
	if (!(comp & XCOMP_COMPACT))
		return !comp && !(bv & ~c->s.xcr0);
	for (unsigned i = 24; i < XS_HEADER_LEN; i += 8)
		if (get_le64(header + i))
			return false;
	return !(comp & ~XCOMP_COMPACT & ~c->s.xcr0) && !(bv & ~(comp & ~XCOMP_COMPACT));
}

static void xsave_xrstor(struct icpu *c, const struct iop *op)
{
	/* the initial state of every component (SDM vol. 1 13.6) */
	static const uint8_t initial[XS_LEGACY_LEN] = { 0x7f, 0x03 };
	static const uint8_t no_avx[XS_AVX_LEN];
	uint8_t img[XS_LEN + XS_AVX_LEN];
	uint64_t rfbm, la = xsave_begin(c, op, ICPU_READ, &rfbm);

	xsave_get(c, la, img, 0, XS_LEN);
	if (!xsave_header_ok(c, img + XS_LEGACY_LEN))
		icpu_gp0(c);
	uint64_t bv = get_le64(img + X86_XS_BV);
	bool is_compact = get_le64(img + X86_XS_COMP_BV) & XCOMP_COMPACT;
	uint32_t mxcsr = icpu_mxcsr(c);

	/* The standard format loads MXCSR whatever XSTATE_BV says, the compacted one initialises it. */
	if (rfbm & (is_compact ? XS_SSE : XS_SSE | XS_AVX)) {
		mxcsr = is_compact && !(bv & XS_SSE) ? MXCSR_INIT : get_le32(img + X86_FX_MXCSR);
		if (mxcsr & ~(uint32_t)MXCSR_VALID)
			icpu_gp0(c);
	}
	bool has_avx = rfbm & bv & XS_AVX;

	if (has_avx)
		xsave_get(c, la, img, X86_XS_AVX, xsave_ymm_end(c));
	icpu_set_mxcsr(c, mxcsr);
	if (rfbm & XS_X87)
		xsave_load_x87(c, op, bv & XS_X87 ? img : initial);
	if (rfbm & XS_SSE)
		xsave_load_xmm(c, bv & XS_SSE ? img : initial);
	if (rfbm & XS_AVX)
		memcpy(icpu_ymmh(c, 0), has_avx ? img + X86_XS_AVX : no_avx, xsave_ymm_end(c) - X86_XS_AVX);
}

iop_fn xsave_bind(const struct x86_insn *x)
{
	switch (x->op) {
	case X86_OP_FXSAVE: return xsave_fxsave;
	case X86_OP_FXRSTOR: return xsave_fxrstor;
	case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC: return xsave_save;
	case X86_OP_XRSTOR: return xsave_xrstor;
	case X86_OP_XSAVES: case X86_OP_XRSTORS: return iop_ud;
	default: return NULL;
	}
}

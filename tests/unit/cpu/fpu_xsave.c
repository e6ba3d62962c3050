/* SPDX-License-Identifier: Apache-2.0 */
/* FXSAVE and XSAVE with their counterparts. */
#include "cpu/x86/cpuid.h"
#include "fpu_rig.h"
#include "test.h"
#include "util/endian.h"

/* --- FXSAVE, XSAVE ------------------------------------------------------------------------ */

TEST(fxsave_writes_what_the_mode_can_see)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 512);
	put_le64(r.c->s.xsave + X86_FX_FIP, 0x123456789abcdef0);
	CHECK_EQ(RUN(&r, "\x0f\xae\x07"), NO_FAULT);            /* fxsave */
	CHECK_EQ(get_le64(r.mem + X86_FX_FIP), 0x9abcdef0);
	CHECK_EQ(get_le32(r.mem + X86_FX_MXCSR_MASK), 0xffff);
	CHECK_EQ(r.mem[415], 0);
	CHECK_EQ(r.mem[416], 0xee);
	CHECK_EQ(RUN(&r, "\x48\x0f\xae\x07"), NO_FAULT);        /* fxsave64 */
	CHECK_EQ(get_le64(r.mem + X86_FX_FIP), 0x123456789abcdef0);
	r.c->mode = X86_MODE_32;
	memset(r.mem, 0xee, 512);
	CHECK_EQ(RUN(&r, "\x0f\xae\x07"), NO_FAULT);
	CHECK_EQ(r.mem[287], 0);
	CHECK_EQ(r.mem[288], 0xee);
}

TEST(fxrstor_loads_nothing_from_a_bad_image)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0x55, 512);
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), X86_EXC_GP);          /* MXCSR 0x55555555 */
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 3)), 0);
	put_le32(r.mem + X86_FX_MXCSR, 0x1f80);
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), NO_FAULT);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 3)), 0x5555555555555555);
	r.c->s.gpr[X86_RDI] += 8;
	CHECK_EQ(RUN(&r, "\x0f\xae\x0f"), X86_EXC_GP);
}

static void xsave_area_init(struct rig *r, uint64_t bv, uint64_t comp)
{
	memset(r->mem, 0, 1024);
	put_le16(r->mem + X86_FX_FCW, 0x27f);
	put_le32(r->mem + X86_FX_MXCSR, 0x3f80);
	memset(r->mem + X86_FX_XMM, 0x77, 256);
	put_le64(r->mem + X86_XS_BV, bv);
	put_le64(r->mem + X86_XS_COMP_BV, comp);
	r->c->s.gpr[X86_RAX] = 3;
	r->c->s.gpr[X86_RDX] = 0;
}

TEST(xrstor_refuses_malformed_headers)
{
	static const struct {
		unsigned off;           /* of a 64-bit word in the header */
		uint64_t val, comp;
	} bad[] = {
		{ 0, 8, 0 },                                    /* component not in XCR0 */
		{ 0, 1ull << 63, 0 },
		{ 8, 1, 0 },                                    /* XCOMP_BV without bit 63 */
		{ 16, 1, 0 },
		{ 0, 2, 1ull << 63 | 1 },                       /* not in XCOMP_BV */
		{ 0, 1ull << 63 | 1, 1ull << 63 | 1 },
		{ 8, 1ull << 63 | 15, 1ull << 63 | 15 },        /* XCOMP_BV beyond XCR0 */
		{ 16, 1, 1ull << 63 | 3 },
		{ 24, 1, 1ull << 63 | 3 },
		{ 56, 1ull << 56, 1ull << 63 | 3 },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		xsave_area_init(&r, 0, bad[i].comp);
		put_le64(r.mem + 512 + bad[i].off, bad[i].val);
		CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);
		CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	}
	xsave_area_init(&r, 3, 0);
	put_le64(r.mem + 512 + 24, 1);                          /* not looked at in the standard format */
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	r.c->s.gpr[X86_RDI] += 16;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);          /* 64-byte alignment */
}

TEST(xrstor_initialises_components_that_the_image_leaves_out)
{
	struct rig r;

	rig_init(&r);
	memset(icpu_xmm(r.c, 0), 0x11, 16);
	xsave_area_init(&r, 1, 0);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x27f);
	CHECK_EQ(get_le64(icpu_xmm(r.c, 0)), 0);
	CHECK_EQ(icpu_mxcsr(r.c), 0x3f80);                      /* standard format: always loaded */
	xsave_area_init(&r, 0, 1ull << 63 | 3);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);                  /* compacted: part of component 1 */
}

TEST(xsave_touches_only_what_is_asked_for)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 1024);
	put_le64(r.mem + X86_XS_BV, 2);
	r.c->s.gpr[X86_RAX] = 1;
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), NO_FAULT);            /* xsave [rdi] */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_FX_FCW], 0x7f);
	CHECK_EQ(r.mem[X86_FX_MXCSR], 0xee);
	CHECK_EQ(r.mem[X86_FX_XMM], 0xee);
	CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), 0xeeeeeeeeeeeeeeee);
	r.c->s.gpr[X86_RAX] = 2;
	CHECK_EQ(RUN(&r, "\x0f\xc7\x27"), NO_FAULT);            /* xsavec [rdi] */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 2);
	CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), 1ull << 63 | 2);
	CHECK_EQ(get_le32(r.mem + X86_FX_MXCSR), MXCSR_INIT);
	r.c->s.cr4 &= ~(uint64_t)X86_CR4_OSXSAVE;
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), X86_EXC_UD);
}

/* --- component 2 of XSAVE ----------------------------------------------------------------- */

TEST(xsave_and_xrstor_carry_the_upper_halves_in_both_formats)
{
	static const struct { const char *code; uint64_t comp; } forms[] = {
		{ "\x0f\xae\x27", 0 }, { "\x0f\xc7\x27", 1ull << 63 | 7 },   /* xsave, xsavec [rdi] */
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < 2; i++) {
		memset(r.mem, 0, 1024);
		r.c->s.gpr[X86_RAX] = 7;
		set_ymm(&r, 15, 1, 2, 3, 4);
		CHECK_EQ(rig_run(&r, forms[i].code, 3), NO_FAULT);
		CHECK_EQ(get_le64(r.mem + X86_XS_BV), 7);
		CHECK_EQ(get_le64(r.mem + X86_XS_COMP_BV), forms[i].comp);
		CHECK_EQ(get_le64(r.mem + X86_XS_AVX + 16 * 15 + 8), 4);
		set_ymm(&r, 15, 9, 9, 9, 9);
		CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);  /* xrstor [rdi] */
		CHECK_EQ(ymm64(&r, 15, 0), 1);
		CHECK_EQ(ymm64(&r, 15, 2), 3);
		CHECK_EQ(ymm64(&r, 15, 3), 4);
	}
}

TEST(upper_halves_of_zero_are_saved_as_the_initial_state)
{
	struct rig r;

	rig_init(&r);
	memset(r.mem, 0xee, 1024);
	r.c->s.gpr[X86_RAX] = 7;
	CHECK_EQ(RUN(&r, "\x0f\xc7\x27"), NO_FAULT);            /* xsavec */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_XS_AVX], 0xee);
	memset(r.mem + X86_XS_BV, 0, 64);
	CHECK_EQ(RUN(&r, "\x0f\xae\x27"), NO_FAULT);            /* xsave writes them all the same */
	CHECK_EQ(get_le64(r.mem + X86_XS_BV), 3);
	CHECK_EQ(r.mem[X86_XS_AVX], 0);
	CHECK_EQ(r.mem[X86_XS_AVX + 255], 0);
	CHECK_EQ(r.mem[X86_XS_AVX + 256], 0xee);
	set_ymm(&r, 3, 1, 2, 3, 4);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);            /* xrstor: XSTATE_BV[2] = 0 */
	CHECK_EQ(ymm64(&r, 3, 2) | ymm64(&r, 3, 3), 0);
}

TEST(xrstor_leaves_components_alone_that_are_not_asked_for)
{
	struct rig r;

	rig_init(&r);
	xsave_area_init(&r, 7, 0);
	memset(r.mem + X86_XS_AVX, 0x55, 256);
	set_ymm(&r, 3, 1, 2, 3, 4);
	r.c->s.gpr[X86_RAX] = 3;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 3, 0), 0x7777777777777777);
	CHECK_EQ(ymm64(&r, 3, 3), 4);
	r.c->s.gpr[X86_RAX] = 4;
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 3, 3), 0x5555555555555555);
	r.c->s.xcr0 = 3;
	set_ymm(&r, 3, 1, 2, 3, 4);
	CHECK_EQ(RUN(&r, "\x0f\xae\x2f"), X86_EXC_GP);          /* the area says AVX, XCR0 does not */
	CHECK_EQ(ymm64(&r, 3, 3), 4);
}

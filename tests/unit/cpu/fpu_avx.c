/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions with VEX prefixes where they are special, as fpu.c. */
#include "cpu/x86/cpuid.h"
#include "fpu_rig.h"
#include "test.h"
#include "util/endian.h"

TEST(vex_instructions_need_osxsave_and_both_components)
{
	static const struct {
		uint64_t cr4, xcr0;
		uint32_t cr0;
		bool is_real;
		int fault;
	} rows[] = {
		{ X86_CR4_OSXSAVE, 7, 0, false, NO_FAULT },
		{ X86_CR4_OSXSAVE, 7, X86_CR0_EM, false, NO_FAULT },
		{ 0, 7, 0, false, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 3, 0, false, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 7, 0, true, X86_EXC_UD },
		{ X86_CR4_OSXSAVE, 7, X86_CR0_TS, false, X86_EXC_NM },
		{ 0, 7, X86_CR0_TS, false, X86_EXC_UD },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		r.c->s.cr0 = X86_CR0_PE | X86_CR0_NE | rows[i].cr0;
		r.c->s.cr4 = rows[i].cr4;
		r.c->s.xcr0 = rows[i].xcr0;
		r.c->is_real_or_vm86 = rows[i].is_real;
		CHECK_EQ(RUN(&r, "\xc5\xfc\x28\xc1"), rows[i].fault);    /* vmovaps ymm0, ymm1 */
		CHECK_EQ(RUN(&r, "\xc5\xf8\x77"), rows[i].fault);        /* vzeroupper */
		CHECK_EQ(RUN(&r, "\xc5\xf8\xae\x1f"), rows[i].fault);    /* vstmxcsr [rdi] */
	}
}

TEST(a_vex_128_result_clears_the_upper_half_and_an_sse_result_keeps_it)
{
	struct rig r;

	need_host(X86_F_BIT(AVX));
	rig_init(&r);
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 5, 6, 7, 8);
	CHECK_EQ(RUN(&r, "\x66\x0f\xfe\xc1"), NO_FAULT);        /* paddd xmm0, xmm1 */
	CHECK_EQ(ymm64(&r, 0, 0), 6);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(RUN(&r, "\xc5\xf9\xfe\xc1"), NO_FAULT);        /* vpaddd xmm0, xmm0, xmm1 */
	CHECK_EQ(ymm64(&r, 0, 0), 11);
	CHECK_EQ(ymm64(&r, 0, 2), 0);
	CHECK_EQ(ymm64(&r, 0, 3), 0);
}

TEST(an_unmasked_exception_of_the_upper_half_keeps_the_whole_destination)
{
	float a[8] = { 1, 1, 1, 1, 1, 1, 1, 1 }, b[8] = { 1, 1, 1, 1, 1, 1, 1, 0 };
	struct rig r;

	need_host(X86_F_BIT(AVX));
	rig_init(&r);
	set_ymm(&r, 0, 1, 2, 3, 4);
	ymm_set(r.c, 1, (const uint8_t *)a);
	ymm_set(r.c, 2, (const uint8_t *)b);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	CHECK_EQ(RUN(&r, "\xc5\xf4\x5e\xc2"), X86_EXC_XM);      /* vdivps ymm0, ymm1, ymm2 */
	CHECK_EQ(ymm64(&r, 0, 0), 1);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_ZE);
}

TEST(unmasked_underflow_of_a_half_is_reported_for_an_exact_tiny_result)
{
	struct rig r;

	need_host(X86_F_BIT(F16C));
	rig_init(&r);
	set_ps(&r, 1, 1, 0x1p-20f, 1, 1);
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\xc8\x04"), NO_FAULT);        /* vcvtps2ph xmm0, xmm1, 4 */
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\xc8\x04"), X86_EXC_XM);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_UE);
	r.c->s.gpr[X86_RDI] = END;
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xc4\xe3\x79\x1d\x0f\x04"), X86_EXC_PF);      /* vcvtps2ph [rdi], xmm1, 4 */
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, 0);
}

TEST(only_the_aligned_vex_moves_ask_for_alignment)
{
	struct rig r;

	need_host(X86_F_BIT(AVX) | X86_F_BIT(AVX2));
	rig_init(&r);
	r.c->s.gpr[X86_RDI] = MEM + 16;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x28\x07"), X86_EXC_GP);      /* vmovaps ymm0, [rdi] */
	CHECK_EQ(RUN(&r, "\xc5\xfd\xe7\x07"), X86_EXC_GP);      /* vmovntdq [rdi], ymm0 */
	CHECK_EQ(RUN(&r, "\xc5\xf8\x28\x07"), NO_FAULT);        /* vmovaps xmm0, [rdi] */
	r.c->s.gpr[X86_RDI] = MEM + 1;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x10\x07"), NO_FAULT);        /* vmovups ymm0, [rdi] */
	CHECK_EQ(RUN(&r, "\xc5\xfd\xfe\x07"), NO_FAULT);        /* vpaddd ymm0, ymm0, [rdi] */
}

TEST(vzeroupper_clears_the_registers_that_the_mode_can_see)
{
	struct rig r;

	rig_init(&r);
	set_ymm(&r, 7, 1, 2, 3, 4);
	set_ymm(&r, 8, 5, 6, 7, 8);
	r.c->mode = X86_MODE_32;
	CHECK_EQ(RUN(&r, "\xc5\xfc\x77"), NO_FAULT);            /* vzeroall */
	CHECK_EQ(ymm64(&r, 7, 0) | ymm64(&r, 7, 3), 0);
	CHECK_EQ(ymm64(&r, 8, 0), 5);
	CHECK_EQ(ymm64(&r, 8, 3), 8);
	r.c->mode = X86_MODE_64;
	CHECK_EQ(RUN(&r, "\xc5\xf8\x77"), NO_FAULT);            /* vzeroupper */
	CHECK_EQ(ymm64(&r, 8, 1), 6);
	CHECK_EQ(ymm64(&r, 8, 2), 0);
}

TEST(a_masked_load_touches_only_selected_elements)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem + MEM_LEN - 4, 0x1234);
	r.c->s.gpr[X86_RDI] = END - 8;
	set_ymm(&r, 0, ~0ull, ~0ull, ~0ull, ~0ull);
	set_ymm(&r, 1, 1ull << 63, 0, 0, 0);                    /* element 1: the last in reach */
	CHECK_EQ(RUN(&r, "\xc4\xe2\x75\x2c\x07"), NO_FAULT);    /* vmaskmovps ymm0, ymm1, [rdi] */
	CHECK_EQ(ymm64(&r, 0, 0), 0x1234ull << 32);
	CHECK_EQ(ymm64(&r, 0, 1) | ymm64(&r, 0, 2) | ymm64(&r, 0, 3), 0);
	set_ymm(&r, 0, 9, 9, 9, 9);
	set_ymm(&r, 1, 1ull << 63, 1ull << 31, 0, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x75\x2c\x07"), X86_EXC_PF);
	CHECK_EQ(ymm64(&r, 0, 0), 9);
}

TEST(a_masked_store_that_faults_writes_nothing)
{
	struct rig r;

	rig_init(&r);
	r.c->s.gpr[X86_RDI] = END - 16;
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 1ull << 63, 0, 1ull << 63, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\xf5\x8e\x07"), X86_EXC_PF);  /* vpmaskmovq [rdi], ymm1, ymm0 */
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 16), 0);
	set_ymm(&r, 1, 1ull << 63, 0, 0, 0);
	CHECK_EQ(RUN(&r, "\xc4\xe2\xf5\x8e\x07"), NO_FAULT);
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 16), 1);
	CHECK_EQ(get_le64(r.mem + MEM_LEN - 8), 0);
}

TEST(a_gather_that_faults_keeps_what_it_has_and_goes_on_from_there)
{
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < 8; i++)
		put_le32(r.mem + MEM_LEN - 32 + 4 * i, 100 + i);
	r.c->s.gpr[X86_RDI] = END - 32;
	set_ymm(&r, 0, 1, 2, 3, 4);
	/* vgatherdps ymm0, [rdi + ymm1*4], ymm2: indices 0, 1, 2, 8 (beyond the end), -1, ... */
	set_ymm(&r, 1, 1ull << 32, 8ull << 32 | 2, 4ull << 32 | 3, 6ull << 32 | 5);
	set_ymm(&r, 2, 1ull << 63 | 1ull << 31, 1ull << 63, ~0ull, ~0ull);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x6d\x92\x04\x8f"), X86_EXC_PF);
	CHECK_EQ(ymm64(&r, 0, 0), 101ull << 32 | 100);
	CHECK_EQ(ymm64(&r, 0, 1), 2);
	CHECK_EQ(ymm64(&r, 0, 3), 4);
	CHECK_EQ(ymm64(&r, 2, 0), 0);
	CHECK_EQ(ymm64(&r, 2, 1), 0xffffffffull << 32);         /* by sign: all ones or nothing */
	CHECK_EQ(ymm64(&r, 2, 3), ~0ull);
	r.c->s.gpr[X86_RDI] -= 4;                               /* the page is there now, so to say */
	CHECK_EQ(RUN(&r, "\xc4\xe2\x6d\x92\x04\x8f"), NO_FAULT);
	CHECK_EQ(ymm64(&r, 0, 0), 101ull << 32 | 100);          /* not loaded again */
	CHECK_EQ(ymm64(&r, 0, 1), 107ull << 32 | 2);            /* element 2 was not selected */
	CHECK_EQ(ymm64(&r, 0, 3), 105ull << 32 | 104);
	CHECK_EQ(ymm64(&r, 2, 0) | ymm64(&r, 2, 1) | ymm64(&r, 2, 2) | ymm64(&r, 2, 3), 0);
}

TEST(a_gather_of_few_elements_clears_what_is_above_them)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem + 4, 77);
	put_le32(r.mem, 66);
	set_ymm(&r, 0, 1, 2, 3, 4);
	set_ymm(&r, 1, 0, 1, 0, 0);
	set_ymm(&r, 2, ~0ull, ~0ull, ~0ull, ~0ull);
	CHECK_EQ(RUN(&r, "\xc4\xe2\x69\x93\x04\x8f"), NO_FAULT);        /* vgatherqps xmm0, [rdi+xmm1*4], xmm2 */
	CHECK_EQ(ymm64(&r, 0, 0), 77ull << 32 | 66);
	CHECK_EQ(ymm64(&r, 0, 1) | ymm64(&r, 0, 2) | ymm64(&r, 0, 3), 0);
	CHECK_EQ(ymm64(&r, 2, 1) | ymm64(&r, 2, 3), 0);
}

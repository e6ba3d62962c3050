/* SPDX-License-Identifier: Apache-2.0 */
/* x87, MMX and SSE instructions of the interpreter where they are special: exceptions, memory images,
 * preconditions. Results of arithmetic are cpu_diff's business. */
#include <xmmintrin.h>
#include "fpu_rig.h"
#include "test.h"
#include "util/endian.h"

/* --- SIMD exceptions ---------------------------------------------------------------------- */

TEST(an_unmasked_simd_exception_raises_xm_and_keeps_the_destination)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 2, 3, 4);
	set_ps(&r, 1, 1, 0, 3, 4);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), X86_EXC_XM);          /* divps xmm0, xmm1 */
	CHECK_EQ(get_le32(icpu_xmm(r.c, 0) + 4), 0x40000000);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_ZE);
}

TEST(an_unmasked_simd_exception_without_osxmmexcpt_is_an_invalid_opcode)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 2, 3, 4);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_ZE << 7));
	r.c->s.cr4 &= ~(uint64_t)X86_CR4_OSXMMEXCPT;
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), X86_EXC_UD);
}

TEST(a_masked_simd_exception_sets_its_sticky_flag)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 1, 1, 1, 1);
	set_ps(&r, 1, 3, 1, 1, 1);
	icpu_set_mxcsr(r.c, MXCSR_INIT | MXCSR_ZE);
	CHECK_EQ(RUN(&r, "\x0f\x5e\xc1"), NO_FAULT);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT | MXCSR_ZE | MXCSR_PE);
}

TEST(unmasked_underflow_is_reported_for_an_exact_tiny_result)
{
	struct rig r;

	rig_init(&r);
	set_ps(&r, 0, 0x1p-126f, 0, 0, 0);
	set_ps(&r, 1, 0.5f, 0, 0, 0);
	CHECK_EQ(RUN(&r, "\xf3\x0f\x59\xc1"), NO_FAULT);        /* mulss: exact, so nothing when masked */
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
	set_ps(&r, 0, 0x1p-126f, 0, 0, 0);
	icpu_set_mxcsr(r.c, MXCSR_INIT & ~(MXCSR_UE << 7));
	CHECK_EQ(RUN(&r, "\xf3\x0f\x59\xc1"), X86_EXC_XM);
	CHECK_EQ(icpu_mxcsr(r.c) & MXCSR_FLAGS, MXCSR_UE);
}

TEST(rounding_is_the_guests_and_the_hosts_mxcsr_survives)
{
	struct rig r;
	uint32_t host = _mm_getcsr();

	rig_init(&r);
	set_ps(&r, 1, 1.5f, 0, 0, 0);
	icpu_set_mxcsr(r.c, MXCSR_INIT | 1 << 13);              /* down */
	CHECK_EQ(RUN(&r, "\xf3\x0f\x2d\xc1"), NO_FAULT);        /* cvtss2si eax, xmm1 */
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	icpu_set_mxcsr(r.c, MXCSR_INIT | 2 << 13);              /* up */
	CHECK_EQ(RUN(&r, "\xf3\x0f\x2d\xc1"), NO_FAULT);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 2);
	CHECK_EQ(_mm_getcsr() & ~MXCSR_FLAGS, host & ~MXCSR_FLAGS);
}

TEST(ldmxcsr_refuses_reserved_bits)
{
	struct rig r;

	rig_init(&r);
	put_le32(r.mem, 0x11f80);
	CHECK_EQ(RUN(&r, "\x0f\xae\x17"), X86_EXC_GP);
	CHECK_EQ(icpu_mxcsr(r.c), MXCSR_INIT);
}

TEST(an_aligned_access_to_a_misaligned_address_is_a_protection_fault)
{
	struct rig r;

	rig_init(&r);
	r.c->s.gpr[X86_RDI] = MEM + 8;
	CHECK_EQ(RUN(&r, "\x0f\x28\x07"), X86_EXC_GP);          /* movaps xmm0, [rdi] */
	CHECK_EQ(RUN(&r, "\x0f\x29\x07"), X86_EXC_GP);
	CHECK_EQ(RUN(&r, "\x66\x0f\xfc\x07"), X86_EXC_GP);      /* paddb xmm0, [rdi] */
	CHECK_EQ(RUN(&r, "\x0f\x10\x07"), NO_FAULT);            /* movups xmm0, [rdi] */
}

/* --- preconditions ------------------------------------------------------------------------ */

TEST(control_bits_decide_which_exception_stops_an_instruction)
{
	static const struct {
		uint32_t cr0, cr4;
		int x87, mmx, sse;
	} rows[] = {
		{ 0, X86_CR4_OSFXSR, NO_FAULT, NO_FAULT, NO_FAULT },
		{ 0, 0, NO_FAULT, NO_FAULT, X86_EXC_UD },
		{ X86_CR0_TS, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_NM, X86_EXC_NM },
		{ X86_CR0_EM, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_UD, X86_EXC_UD },
		{ X86_CR0_EM | X86_CR0_TS, X86_CR4_OSFXSR, X86_EXC_NM, X86_EXC_UD, X86_EXC_UD },
		{ X86_CR0_TS, 0, X86_EXC_NM, X86_EXC_NM, X86_EXC_UD },
	};
	struct rig r;

	rig_init(&r);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		r.c->s.cr0 = X86_CR0_PE | X86_CR0_NE | rows[i].cr0;
		r.c->s.cr4 = rows[i].cr4;
		CHECK_EQ(RUN(&r, "\xd9\xe8"), rows[i].x87);             /* fld1 */
		CHECK_EQ(RUN(&r, "\x0f\xef\xc0"), rows[i].mmx);         /* pxor mm0, mm0 */
		CHECK_EQ(RUN(&r, "\x66\x0f\xef\xc0"), rows[i].sse);     /* pxor xmm0, xmm0 */
		CHECK_EQ(RUN(&r, "\x0f\xc3\x07"), NO_FAULT);            /* movnti [rdi], eax */
	}
}

TEST(wait_looks_at_ts_only_with_mp)
{
	struct rig r;

	rig_init(&r);
	r.c->s.cr0 = X86_CR0_PE | X86_CR0_TS;
	CHECK_EQ(RUN(&r, "\x9b"), NO_FAULT);
	r.c->s.cr0 |= X86_CR0_MP;
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_NM);
}

/* --- x87 ---------------------------------------------------------------------------------- */

TEST(an_x87_error_waits_for_the_next_waiting_instruction)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x37f & ~4);                  /* unmask divide by zero */
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 */
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);                /* fldz */
	CHECK_EQ(RUN(&r, "\xd8\xf9"), NO_FAULT);                /* fdivr st0, st1 */
	CHECK(fsw(&r) & FSW_ES);
	CHECK_EQ(RUN(&r, "\xdf\xe0"), NO_FAULT);                /* fnstsw ax */
	CHECK_EQ(r.c->s.gpr[X86_RAX] & 0x80ff, 0x8084);
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\x0f\x77"), X86_EXC_MF);              /* emms */
	CHECK_EQ(RUN(&r, "\x66\x0f\xef\xc0"), NO_FAULT);        /* SSE does not care */
	CHECK_EQ(RUN(&r, "\xdb\xe2"), NO_FAULT);                /* fnclex */
	CHECK_EQ(RUN(&r, "\x9b"), NO_FAULT);
}

TEST(unmasking_a_recorded_error_with_fldcw_makes_it_pending)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);
	CHECK_EQ(RUN(&r, "\xd8\xf0"), NO_FAULT);                /* 0 / 0: invalid, masked */
	CHECK_EQ(fsw(&r) & (FSW_ES | FSW_IE), FSW_IE);
	put_le16(r.mem, 0x37e);
	CHECK_EQ(RUN(&r, "\xd9\x2f"), NO_FAULT);                /* fldcw [rdi] */
	CHECK_EQ(fsw(&r) & (FSW_ES | FSW_IE), FSW_ES | FSW_IE);
	CHECK_EQ(RUN(&r, "\x9b"), X86_EXC_MF);
}

TEST(a_restored_state_with_a_wrong_error_summary_does_not_trap_the_host)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x340);                       /* nothing masked */
	fx_set16(r.c, X86_FX_FSW, FSW_IE);                      /* set, but ES is not */
	CHECK_EQ(RUN(&r, "\xd9\xe8"), X86_EXC_MF);
	CHECK_EQ(RUN(&r, "\xd9\xd0"), X86_EXC_MF);              /* fnop */
	CHECK_EQ(RUN(&r, "\xdb\xe0"), NO_FAULT);                /* feni */
	fx_set16(r.c, X86_FX_FCW, 0x37f);
	fx_set16(r.c, X86_FX_FSW, FSW_ES | FSW_B);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);
}

TEST(a_store_with_unmasked_overflow_leaves_memory_and_stack_alone)
{
	static const uint8_t huge[10] = { 0, 0, 0, 0, 0, 0, 0, 0x80, 0x00, 0x70 };
	struct rig r;

	rig_init(&r);
	memcpy(r.mem, huge, 10);
	CHECK_EQ(RUN(&r, "\xdb\x2f"), NO_FAULT);                /* fld tbyte [rdi] */
	put_le32(r.mem, 0x12345678);
	fx_set16(r.c, X86_FX_FCW, 0x37f & ~8);
	CHECK_EQ(RUN(&r, "\xd9\x1f"), NO_FAULT);                /* fstp dword [rdi] */
	CHECK_EQ(get_le32(r.mem), 0x12345678);
	CHECK_EQ(x87_top(r.c), 7);
	CHECK(fsw(&r) & FSW_ES);
}

TEST(a_store_that_an_unmasked_exception_forbids_does_not_touch_memory)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x37e);
	r.c->s.gpr[X86_RDI] = MEM + MEM_LEN - 4;
	CHECK_EQ(RUN(&r, "\xdd\x1f"), NO_FAULT);                /* fstp qword [rdi]: the stack is empty */
	CHECK(fsw(&r) & FSW_ES);
}

TEST(a_store_that_faults_does_not_pop)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);
	r.c->s.gpr[X86_RDI] = MEM + MEM_LEN - 4;
	CHECK_EQ(RUN(&r, "\xdd\x1f"), X86_EXC_PF);              /* fstp qword [rdi] */
	CHECK_EQ(x87_top(r.c), 7);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0x80);
}

TEST(fnstenv_writes_the_layout_of_mode_and_operand_size_and_masks_all)
{
	struct rig r;

	rig_init(&r);
	fx_set16(r.c, X86_FX_FCW, 0x340);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 at 0x400000 */
	CHECK_EQ(RUN(&r, "\xd9\x37"), NO_FAULT);                /* fnstenv [rdi] */
	CHECK_EQ(get_le32(r.mem), 0xffff0340);
	CHECK_EQ(get_le32(r.mem + 4), 0xffff3800);
	CHECK_EQ(get_le32(r.mem + 8), 0xffff3fff);              /* register 7 valid */
	CHECK_EQ(get_le32(r.mem + 12), 0x400000);
	CHECK_EQ(get_le32(r.mem + 16), 0x1e8 << 16);
	CHECK_EQ(fx_get16(r.c, X86_FX_FCW), 0x37f);

	r.c->mode = X86_MODE_16;
	r.c->is_real_or_vm86 = true;
	put_le64(r.c->s.xsave + X86_FX_FIP, 0x54321);
	memset(r.mem, 0xee, 32);
	CHECK_EQ(RUN(&r, "\xd9\x75\x00"), NO_FAULT);            /* fnstenv [di] */
	CHECK_EQ(get_le16(r.mem + 6), 0x4321);
	CHECK_EQ(get_le16(r.mem + 8), 0x5000 | 0x1e8);
	CHECK_EQ(r.mem[14], 0xee);
}

TEST(fnsave_and_frstor_bring_back_registers_and_tags)
{
	struct rig r;
	uint8_t before[128];

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1 */
	CHECK_EQ(RUN(&r, "\xd9\xee"), NO_FAULT);                /* fldz */
	CHECK_EQ(RUN(&r, "\xd9\xeb"), NO_FAULT);                /* fldpi */
	memcpy(before, r.c->s.xsave + X86_FX_ST, sizeof(before));
	CHECK_EQ(RUN(&r, "\xdd\x37"), NO_FAULT);                /* fnsave [rdi] */
	CHECK_EQ(get_le16(r.mem + 8), 0x13ff);                  /* valid, zero, valid, 5 empty */
	CHECK_EQ(fsw(&r), 0);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0);
	CHECK_EQ(RUN(&r, "\xdd\x27"), NO_FAULT);                /* frstor [rdi] */
	CHECK_EQ(x87_top(r.c), 5);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0xe0);
	CHECK_MEM(before, r.c->s.xsave + X86_FX_ST, sizeof(before));
}

TEST(an_mmx_instruction_renumbers_the_stack_and_validates_all_registers)
{
	struct rig r;

	rig_init(&r);
	CHECK_EQ(RUN(&r, "\xd9\xe8"), NO_FAULT);                /* fld1: physical register 7 */
	r.c->s.gpr[X86_RAX] = 0x1122334455667788;
	CHECK_EQ(RUN(&r, "\x48\x0f\x6e\xd0"), NO_FAULT);        /* movq mm2, rax */
	CHECK_EQ(x87_top(r.c), 0);
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0xff);
	CHECK_EQ(get_le64(r.c->s.xsave + X86_FX_ST + 32), 0x1122334455667788);
	CHECK_EQ(get_le16(r.c->s.xsave + X86_FX_ST + 40), 0xffff);
	CHECK_EQ(RUN(&r, "\x48\x0f\x7e\xf8"), NO_FAULT);        /* movq rax, mm7: the 1.0 */
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1ull << 63);
	CHECK_EQ(RUN(&r, "\x0f\x77"), NO_FAULT);                /* emms */
	CHECK_EQ(r.c->s.xsave[X86_FX_FTW], 0);
}

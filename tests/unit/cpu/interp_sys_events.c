/* SPDX-License-Identifier: Apache-2.0 */
/* The system half of the interpreter, one instruction or event at a time: exceptions, interrupts and IRET. */
#include "interp_sys_fake.h"
#include "test.h"

/* --- events -------------------------------------------------------------------------------------- */

TEST(real_mode_int_and_iret_make_a_round_trip)
{
	fake_setup_real();
	S.idtr = (struct x86_dtab){ .base = 0, .limit = 0x3ff };
	fake_put32(0x21 * 4, 0x12340056);
	S.rflags |= X86_IF | X86_TF;
	CHECK_EQ(EXEC(0xcd, 0x21), FAKE_OK);
	CHECK_EQ(S.seg[X86_CS].base + S.rip, 0x12340 + 0x56);
	CHECK(!(S.rflags & (X86_IF | X86_TF)));
	CHECK_EQ(fake_get16(RSP), 2);
	CHECK_EQ(fake_get16(RSP + 2), AT_CODE >> 4);
	CHECK_EQ(EXEC(0xcf), FAKE_OK);
	CHECK_EQ(S.seg[X86_CS].base + S.rip, AT_CODE + 2);
	CHECK(S.rflags & X86_IF);
	CHECK_EQ(RSP, KSTACK);
}

TEST(a_real_mode_vector_beyond_the_idt_limit_faults)
{
	fake_setup_real();
	S.idtr.limit = 0x21 * 4 + 2;
	CHECK_EQ(EXEC(0xcd, 0x21), X86_EXC_GP);
}

TEST(long_mode_page_fault_from_user_mode_switches_stack_and_pushes_all)
{
	fake_setup_long(3);
	fake_gate(14, SEL_KCODE64, 0x123456789a, GATE_INT, 0);
	RSP = USTACK - 4;
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 14, .has_code = true, .code = 6 }), FAKE_OK);
	CHECK_EQ(S.rip, 0x123456789a);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(S.seg[X86_CS].sel, SEL_KCODE64);
	CHECK_EQ(S.seg[X86_SS].sel, 0);
	CHECK(S.seg[X86_SS].attr & X86_SEG_UNUSABLE);
	CHECK_EQ(RSP, RSP0 - 48);
	CHECK_EQ(fake_get64(RSP), 6);
	CHECK_EQ(fake_get64(RSP + 8), AT_CODE);
	CHECK_EQ(fake_get64(RSP + 16), SEL_UCODE64);
	CHECK_EQ(fake_get64(RSP + 24), X86_FLAGS_FIXED | X86_IF | X86_RF);
	CHECK_EQ(fake_get64(RSP + 32), USTACK - 4);
	CHECK_EQ(fake_get64(RSP + 40), SEL_UDATA);
	CHECK(!(S.rflags & (X86_IF | X86_RF)));
	/* and back */
	RSP += 8;
	CHECK_EQ(EXEC(0x48, 0xcf), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(RSP, USTACK - 4);
	CHECK_EQ(S.rip, AT_CODE);
	CHECK(S.rflags & X86_IF);
}

TEST(ist_is_used_even_without_privilege_change_and_keeps_ss)
{
	fake_setup_long(0);
	fake_gate(2, SEL_KCODE64, 0x5000, GATE_INT, 1);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 2 }), FAKE_OK);
	CHECK_EQ(RSP, IST1 - 40);
	CHECK_EQ(S.seg[X86_SS].sel, SEL_KDATA);
	CHECK_EQ(S.nmi_blocked, 1);
	CHECK_EQ(EXEC(0x48, 0xcf), FAKE_OK);
	CHECK_EQ(S.nmi_blocked, 0);
	CHECK_EQ(RSP, KSTACK);
}

TEST(same_level_delivery_in_long_mode_aligns_the_stack)
{
	fake_setup_long(0);
	fake_gate(32, SEL_KCODE64, 0x5000, GATE_TRAP, 0);
	RSP = KSTACK - 9;
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 32, .is_external = true }), FAKE_OK);
	CHECK_EQ(RSP, KSTACK - 16 - 40);
	CHECK_EQ(fake_get64(RSP + 24), KSTACK - 9);
	CHECK(S.rflags & X86_IF);               /* a trap gate */
	CHECK_EQ(fake_get64(RSP + 16) & X86_RF, 0);
}

TEST(software_interrupts_check_the_gates_dpl_and_others_do_not)
{
	fake_setup_long(3);
	fake_gate(0x80, SEL_KCODE64, 0x5000, GATE_INT, 0);
	CHECK_EQ(EXEC(0xcd, 0x80), X86_EXC_GP);
	CHECK_EQ(fake.code, 0x80 * 8 + 2);
	CHECK_EQ(S.rip, AT_CODE);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x80, .is_external = true }), FAKE_OK);
	fake_setup_long(3);
	fake_gate(0x80, SEL_KCODE64, 0x5000, GATE_INT_USER, 0);
	CHECK_EQ(EXEC(0xcd, 0x80), FAKE_OK);
	CHECK_EQ(fake_get64(RSP), AT_CODE + 2);
	CHECK_EQ(S.rip, 0x5000);
}

TEST(delivery_faults_carry_idt_and_ext_bits)
{
	fake_setup_long(3);
	S.idtr.limit = 0x20 * 16 + 14;
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20, .is_external = true }), X86_EXC_GP);
	CHECK_EQ(fake.code, 0x20 * 8 + 3);
	S.idtr.limit = 0xfff;
	fake_gate(0x20, SEL_KCODE64, 0x5000, 0x0e, 0);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20 }), X86_EXC_NP);
	CHECK_EQ(fake.code, 0x20 * 8 + 3);
	fake_gate(0x20, SEL_KCODE, 0x5000, GATE_INT, 0);        /* 32-bit code in long mode */
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20 }), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_KCODE + 1);
	fake_gate(0x20, 0, 0x5000, GATE_INT, 0);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20 }), X86_EXC_GP);
	CHECK_EQ(fake.code, 1);
	fake_gate(0x20, SEL_KCODE64, 0x5000, GATE_INT, 0);
	S.tr.limit = 0xa;
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20 }), X86_EXC_TS);
	CHECK_EQ(fake.code, SEL_TSS + 1);
	S.tr.limit = 0x67;
	fake_put64(AT_TSS + 4, 1ull << 62);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 0x20 }), X86_EXC_SS);
	CHECK_EQ(fake.code, 1);
	CHECK_EQ(RSP, USTACK);
	CHECK_EQ(fake.c.cpl, 3);
}

TEST(a_stack_that_faults_during_delivery_leaves_the_state_alone)
{
	fake_setup_long(3);
	fake_gate(13, SEL_KCODE64, 0x5000, GATE_INT, 0);
	fake.bad_page = RSP0 - 1;
	struct x86_state before = S;
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 13, .has_code = true }), X86_EXC_PF);
	before.cr2 = S.cr2;
	CHECK_MEM(&before, &S, sizeof(before));
}

TEST(protected_mode_delivery_switches_to_the_tss_stack)
{
	fake_setup_prot(3);
	fake_gate(13, SEL_KCODE, 0x5678, GATE_INT, 0);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 13, .has_code = true, .code = 8 }), FAKE_OK);
	CHECK_EQ(RSP, RSP0 - 24);
	CHECK_EQ(S.seg[X86_SS].sel, SEL_KDATA);
	CHECK_EQ(fake_get32(RSP), 8);
	CHECK_EQ(fake_get32(RSP + 4), AT_CODE);
	CHECK_EQ(fake_get32(RSP + 16), USTACK);
	CHECK_EQ(fake_get32(RSP + 20), SEL_UDATA);
	RSP += 4;
	S.seg[X86_ES] = S.seg[X86_SS];          /* a kernel segment left in ES */
	CHECK_EQ(EXEC(0xcf), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(RSP, USTACK);
	CHECK_EQ(S.seg[X86_ES].sel, 0);
	CHECK(S.seg[X86_ES].attr & X86_SEG_UNUSABLE);
	CHECK_EQ(S.seg[X86_DS].sel, SEL_UDATA);
}

TEST(a_bad_inner_stack_segment_is_an_invalid_tss)
{
	fake_setup_prot(3);
	fake_gate(13, SEL_KCODE, 0x5678, GATE_INT, 0);
	fake_put32(AT_TSS + 8, SEL_UDATA);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 13, .has_code = true }), X86_EXC_TS);
	CHECK_EQ(fake.code, (SEL_UDATA & ~3) | 1);
	fake_put32(AT_TSS + 8, SEL_ABSENT);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 13, .has_code = true }), X86_EXC_SS);
	CHECK_EQ(fake.code, SEL_ABSENT | 1);
}

TEST(virtual_8086_mode_comes_and_goes)
{
	fake_setup_prot(0);
	uint32_t frame[] = { 0x10, 0x2000, X86_VM | X86_IF | 3 << 12, 0x7000, 0x300, 0x111, 0x222, 0x333, 0x444 };
	RSP = KSTACK - sizeof(frame);
	memcpy(fake.mem + RSP, frame, sizeof(frame));
	CHECK_EQ(EXEC(0xcf), FAKE_OK);
	CHECK(fake.c.is_vm86);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(S.seg[X86_CS].base, 0x20000);
	CHECK_EQ(S.seg[X86_GS].sel, 0x444);
	CHECK_EQ(RSP, 0x7000);

	/* to ring 0 through an interrupt gate; a handler elsewhere than in ring 0 is refused */
	fake_gate(0x21, SEL_UCODE, 0x5000, GATE_INT_USER, 0);
	CHECK_EQ(EXEC(0xcd, 0x21), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_UCODE & ~3);
	fake_gate(0x21, SEL_KCODE, 0x5000, GATE_INT_USER, 0);
	CHECK_EQ(EXEC(0xcd, 0x21), FAKE_OK);
	CHECK(!fake.c.is_vm86);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(RSP, RSP0 - 36);
	CHECK_EQ(fake_get32(RSP), 0x12);
	CHECK(fake_get32(RSP + 8) & X86_VM);
	CHECK_EQ(fake_get32(RSP + 32), 0x444);
	CHECK_EQ(S.seg[X86_DS].sel, 0);

	/* IOPL below 3: INT n is for the monitor */
	CHECK_EQ(EXEC(0xcf), FAKE_OK);
	S.rflags &= ~(uint64_t)X86_IOPL;
	CHECK_EQ(EXEC(0xcd, 0x21), X86_EXC_GP);
	CHECK_EQ(fake.code, 0);
	CHECK_EQ(EXEC(0xfa), X86_EXC_GP);
	CHECK_EQ(EXEC(0x9c), X86_EXC_GP);
}

/* --- IRET ------------------------------------------------------------------------------------------ */

static void iret_frame(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t rsp, uint64_t ss)
{
	const uint64_t f[] = { rip, cs, flags, rsp, ss };

	RSP = KSTACK - sizeof(f);
	memcpy(fake.mem + RSP, f, sizeof(f));
}

TEST(iretq_checks_selectors_and_target)
{
	static const struct { uint64_t rip, cs, ss; int vector; uint32_t code; } cases[] = {
		{ 1ull << 47, SEL_UCODE64, SEL_UDATA, X86_EXC_GP, 0 },          /* not canonical */
		{ 0x5000, SEL_UCODE64, 0, X86_EXC_GP, 0 },                      /* ring 3 needs SS */
		{ 0x5000, SEL_UCODE64, SEL_KDATA, X86_EXC_GP, SEL_KDATA },
		{ 0x5000, 0, SEL_UDATA, X86_EXC_GP, 0 },
		{ 0x5000, SEL_UDATA, SEL_UDATA, X86_EXC_GP, SEL_UDATA & ~3 },
		{ 0x5000, SEL_UCODE64 & ~3, SEL_UDATA, X86_EXC_GP, SEL_UCODE64 & ~3 },
		{ 0x5000, 0x400, SEL_UDATA, X86_EXC_GP, 0x400 },                /* beyond the GDT */
		{ 0x5000, SEL_KCODE64, 0, FAKE_OK, 0 },                         /* null SS in ring 0 */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_setup_long(0);
		iret_frame(cases[i].rip, cases[i].cs, 2, 0x8000, cases[i].ss);
		CHECK_EQ(EXEC(0x48, 0xcf), cases[i].vector);
		if (cases[i].vector == FAKE_OK)
			continue;
		CHECK_EQ(fake.code, cases[i].code);
		CHECK_EQ(RSP, KSTACK - 40);
		CHECK_EQ(S.rip, AT_CODE);
	}
}

TEST(iretq_to_compatibility_mode)
{
	fake_setup_long(0);
	iret_frame(0x5000, SEL_UCODE, 2, 0x8000, SEL_UDATA);
	CHECK_EQ(EXEC(0x48, 0xcf), FAKE_OK);
	CHECK_EQ(fake.c.mode, X86_MODE_32);
	CHECK(fake.c.is_long);
	CHECK_EQ(EXEC(0x0f, 0x05), X86_EXC_UD);         /* Intel: no SYSCALL here */
}

TEST(iret_in_user_mode_cannot_touch_iopl_or_if)
{
	fake_setup_long(3);
	iret_frame(0x5000, SEL_UCODE64, X86_IOPL | X86_CF | X86_VM, 0x8000, SEL_UDATA);
	CHECK_EQ(EXEC(0x48, 0xcf), FAKE_OK);
	CHECK_EQ(S.rflags, X86_FLAGS_FIXED | X86_IF | X86_CF);
}

TEST(iret_with_nt_faults_in_long_mode)
{
	fake_setup_long(0);
	iret_frame(0x5000, SEL_KCODE64, 2, 0x8000, 0);
	S.rflags |= X86_NT;
	CHECK_EQ(EXEC(0x48, 0xcf), X86_EXC_GP);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The system half of the interpreter, one instruction or event at a time. */
#include "interp_sys_fake.h"
#include "test.h"

#define S fake.c.s
#define RSP S.gpr[X86_RSP]
#define GATE_INT 0x8e
#define GATE_INT_USER 0xee
#define GATE_TRAP 0x8f

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

/* --- far transfers ---------------------------------------------------------------------------------- */

TEST(real_mode_reaches_long_mode_by_the_book)
{
	fake_setup_real();
	S.seg[X86_CS].base = 0;
	S.seg[X86_CS].sel = 0;
	S.rip = AT_CODE;
	fake_setup_long(0);             /* borrow its GDT, then go back to reset */
	struct x86_dtab gdtr = S.gdtr;
	x86_state_reset(&S, 1);
	S.seg[X86_CS].base = 0;
	S.rip = AT_CODE;
	icpu_mode_changed(&fake.c);
	fake.mem[0x600] = gdtr.limit;
	fake_put32(0x602, AT_GDT);
	CHECK_EQ(EXEC(0x0f, 0x01, 0x16, 0x00, 0x06), FAKE_OK);                  /* lgdt [0x600] */
	CHECK_EQ(S.gdtr.base, AT_GDT);
	S.gpr[X86_RAX] = 0x11;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xc0), FAKE_OK);                              /* mov cr0, eax */
	CHECK(!fake.c.is_real_or_vm86);
	CHECK_EQ(fake.c.mode, X86_MODE_16);
	CHECK_EQ(EXEC(0x66, 0xea, 0x00, 0x50, 0, 0, SEL_KCODE, 0), FAKE_OK);    /* jmp 8:5000 */
	CHECK_EQ(fake.c.mode, X86_MODE_32);
	CHECK_EQ(S.rip, 0x5000);
	S.gpr[X86_RAX] = SEL_KDATA;
	CHECK_EQ(EXEC(0x8e, 0xd0), FAKE_OK);                                    /* mov ss, ax */
	S.gpr[X86_RCX] = 0xc0000080;
	S.gpr[X86_RAX] = X86_EFER_LME;
	S.gpr[X86_RDX] = 0;
	CHECK_EQ(EXEC(0x0f, 0x30), FAKE_OK);                                    /* wrmsr */
	S.gpr[X86_RAX] = 0x80000011;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xc0), X86_EXC_GP);                           /* no PAE yet */
	S.gpr[X86_RAX] = X86_CR4_PAE;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xe0), FAKE_OK);
	S.gpr[X86_RAX] = 0x80000011;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xc0), FAKE_OK);
	CHECK(S.efer & X86_EFER_LMA);
	CHECK_EQ(fake.c.mode, X86_MODE_32);
	CHECK_EQ(EXEC(0xea, 0x00, 0x60, 0, 0, SEL_KCODE64, 0), FAKE_OK);
	CHECK_EQ(fake.c.mode, X86_MODE_64);
	S.gpr[X86_RAX] = 0x11;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xc0), X86_EXC_GP);                           /* PG off in 64-bit mode */
	S.gpr[X86_RAX] = 0;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xe0), X86_EXC_GP);                           /* PAE off */
	S.gpr[X86_RAX] = X86_CR4_PAE | X86_CR4_LA57;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xe0), X86_EXC_GP);                           /* LA57 changes */
	S.gpr[X86_RCX] = 0xc0000080;
	S.gpr[X86_RAX] = S.gpr[X86_RDX] = 0;
	CHECK_EQ(EXEC(0x0f, 0x30), X86_EXC_GP);                                 /* LME while paging */
}

TEST(segment_limits_survive_the_way_back_to_real_mode)
{
	fake_setup_prot(0);
	S.gpr[X86_RAX] = 0x10;
	CHECK_EQ(EXEC(0x0f, 0x22, 0xc0), FAKE_OK);
	S.gpr[X86_RAX] = 0x1234;
	CHECK_EQ(EXEC(0x8e, 0xd8), FAKE_OK);            /* mov ds, ax */
	CHECK_EQ(S.seg[X86_DS].base, 0x12340);
	CHECK_EQ(S.seg[X86_DS].limit, 0xffffffff);
}

/* The call gate in the GDT: SEL:OFF, N parameters. */
static void call_gate(uint16_t sel, uint64_t off, unsigned attr, unsigned n)
{
	fake_put64(AT_GDT + SEL_GATE, (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)n << 32 |
		   (uint64_t)attr << 40 | (off >> 16 & 0xffff) << 48);
	fake_put64(AT_GDT + SEL_GATE + 8, off >> 32);
}

TEST(a_call_gate_lifts_privilege_and_copies_parameters)
{
	fake_setup_prot(3);
	call_gate(SEL_KCODE, 0x5000, 0xec, 2);
	RSP = USTACK - 8;
	fake_put32(RSP, 111);
	fake_put32(RSP + 4, 222);
	CHECK_EQ(EXEC(0x9a, 0, 0, 0, 0, SEL_GATE | 3, 0), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(S.rip, 0x5000);
	CHECK_EQ(RSP, RSP0 - 24);
	CHECK_EQ(fake_get32(RSP), AT_CODE + 7);
	CHECK_EQ(fake_get32(RSP + 4), SEL_UCODE);
	CHECK_EQ(fake_get32(RSP + 8), 111);
	CHECK_EQ(fake_get32(RSP + 12), 222);
	CHECK_EQ(fake_get32(RSP + 16), USTACK - 8);
	CHECK_EQ(fake_get32(RSP + 20), SEL_UDATA);
	CHECK_EQ(EXEC(0xca, 8, 0), FAKE_OK);            /* retf 8 */
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(S.rip, AT_CODE + 7);
	CHECK_EQ(RSP, USTACK);
}

TEST(a_jump_through_a_call_gate_stays_in_its_ring)
{
	fake_setup_prot(3);
	call_gate(SEL_KCODE, 0x5000, 0xec, 0);
	CHECK_EQ(EXEC(0xea, 0, 0, 0, 0, SEL_GATE | 3, 0), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_KCODE);
	call_gate(SEL_CONFORMING, 0x5000, 0xec, 0);
	CHECK_EQ(EXEC(0xea, 0, 0, 0, 0, SEL_GATE | 3, 0), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(S.seg[X86_CS].sel, SEL_CONFORMING | 3);
}

TEST(a_64_bit_call_gate_reads_sixteen_bytes)
{
	fake_setup_long(3);
	call_gate(SEL_KCODE64, 0x1234567890, 0xec, 0);
	fake_put32(0x600, 0);
	fake.mem[0x604] = SEL_GATE | 3;
	CHECK_EQ(EXEC(0xff, 0x1c, 0x25, 0, 6, 0, 0), FAKE_OK);  /* call far [0x600] */
	CHECK_EQ(S.rip, 0x1234567890);
	CHECK_EQ(RSP, RSP0 - 32);
	CHECK_EQ(fake_get64(RSP), AT_CODE + 7);
	CHECK_EQ(fake_get64(RSP + 16), USTACK);
	CHECK_EQ(S.seg[X86_SS].sel, 0);
	CHECK_EQ(EXEC(0x48, 0xcb), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(RSP, USTACK);
	/* a type in the upper half */
	call_gate(SEL_KCODE64, 0x5000, 0xec, 0);
	fake_put32(AT_GDT + SEL_GATE + 12, 0x0500);
	CHECK_EQ(EXEC(0xff, 0x1c, 0x25, 0, 6, 0, 0), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_GATE);
}

TEST(a_far_jump_stays_in_its_ring_and_its_segment)
{
	static const struct { unsigned cpl; uint16_t sel; uint8_t off_high; int vector; uint32_t code; } cases[] = {
		{ 3, SEL_UCODE, 0, FAKE_OK, 0 },
		{ 3, SEL_CONFORMING, 0, FAKE_OK, 0 },
		{ 3, SEL_KCODE, 0, X86_EXC_GP, SEL_KCODE },
		{ 0, SEL_KCODE, 0, FAKE_OK, 0 },
		{ 0, SEL_KCODE | 3, 0, X86_EXC_GP, SEL_KCODE }, /* RPL above CPL */
		{ 0, SEL_UCODE & ~3, 0, X86_EXC_GP, SEL_UCODE & ~3 },
		{ 0, SEL_KDATA, 0, X86_EXC_GP, SEL_KDATA },
		{ 0, 0, 0, X86_EXC_GP, 0 },
		{ 0, SEL_CODE16, 1, X86_EXC_GP, 0 },            /* beyond its 64 KiB */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_setup_prot(cases[i].cpl);
		CHECK_EQ(EXEC(0xea, 0x00, 0x50, cases[i].off_high, 0, cases[i].sel & 0xff, cases[i].sel >> 8), cases[i].vector);
		CHECK_EQ(S.rip, cases[i].vector == FAKE_OK ? 0x5000 : AT_CODE);
		CHECK_EQ(fake.c.cpl, cases[i].cpl);
		if (cases[i].vector != FAKE_OK)
			CHECK_EQ(fake.code, cases[i].code);
	}
}

TEST(a_far_return_inwards_is_refused)
{
	fake_setup_prot(3);
	RSP = USTACK - 8;
	fake_put32(RSP, 0x5000);
	fake_put32(RSP + 4, SEL_KCODE);
	CHECK_EQ(EXEC(0xcb), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_KCODE);
	CHECK_EQ(RSP, USTACK - 8);
}

/* --- tasks -------------------------------------------------------------------------------------------- */

static void second_task(uint32_t eflags)
{
	fake_put32(AT_TSS2 + 32, 0x6000);
	fake_put32(AT_TSS2 + 36, eflags);
	fake_put32(AT_TSS2 + 40, 0xaaaa);
	fake_put32(AT_TSS2 + 56, 0x8800);
	static const uint16_t sels[] = { SEL_KDATA, SEL_KCODE, SEL_KDATA, SEL_KDATA, 0, 0 };
	for (unsigned i = 0; i < 6; i++)
		fake_put32(AT_TSS2 + 72 + 4 * i, sels[i]);
}

TEST(a_task_is_called_and_returns)
{
	fake_setup_prot(0);
	second_task(2);
	S.gpr[X86_RBX] = 0x7777;
	CHECK_EQ(EXEC(0x9a, 0, 0, 0, 0, SEL_TASK_GATE, 0), FAKE_OK);
	CHECK_EQ(S.rip, 0x6000);
	CHECK_EQ(S.gpr[X86_RAX], 0xaaaa);
	CHECK_EQ(RSP, 0x8800);
	CHECK(S.rflags & X86_NT);
	CHECK(S.cr0 & X86_CR0_TS);
	CHECK_EQ(S.tr.sel, SEL_TSS2);
	CHECK_EQ(fake_get16(AT_TSS2), SEL_TSS);
	CHECK_EQ(fake.mem[AT_GDT + SEL_TSS2 + 5] & 0xf, 11);
	CHECK_EQ(fake.mem[AT_GDT + SEL_TSS + 5] & 0xf, 11);
	CHECK_EQ(fake_get32(AT_TSS + 32), AT_CODE + 7);
	CHECK_EQ(fake_get32(AT_TSS + 52), 0x7777);

	S.gpr[X86_RBX] = 0;
	CHECK_EQ(EXEC(0xcf), FAKE_OK);
	CHECK_EQ(S.tr.sel, SEL_TSS);
	CHECK_EQ(S.rip, AT_CODE + 7);
	CHECK_EQ(S.gpr[X86_RBX], 0x7777);
	CHECK(!(S.rflags & X86_NT));
	CHECK_EQ(fake.mem[AT_GDT + SEL_TSS2 + 5] & 0xf, 9);
	CHECK(!(fake_get32(AT_TSS2 + 36) & X86_NT));
}

TEST(an_exception_through_a_task_gate_pushes_its_code_on_the_new_stack)
{
	fake_setup_prot(3);
	second_task(2);
	fake_gate(8, SEL_TSS2, 0, 0x85, 0);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 8, .has_code = true, .code = 0 }), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(RSP, 0x8800 - 4);
	CHECK_EQ(fake_get32(AT_TSS + 32), AT_CODE);
}

TEST(faults_in_the_segments_of_a_new_task_belong_to_it)
{
	fake_setup_prot(0);
	second_task(2);
	fake_put32(AT_TSS2 + 80, SEL_ABSENT);           /* SS */
	CHECK_EQ(EXEC(0xea, 0, 0, 0, 0, SEL_TSS2, 0), X86_EXC_SS);
	CHECK_EQ(fake.code, SEL_ABSENT);
	CHECK_EQ(S.tr.sel, SEL_TSS2);
	CHECK_EQ(S.rip, 0x6000);
}

TEST(a_16_bit_task_state_is_loaded_as_such)
{
	static const uint16_t sels[] = { SEL_KDATA, SEL_KCODE, SEL_KDATA, SEL_KDATA };

	fake_setup_prot(0);
	fake_put32(AT_TSS16 + 14, 0x00026000);          /* ip, flags */
	fake_put32(AT_TSS16 + 18, 0x1111);
	for (unsigned i = 0; i < 4; i++)
		memcpy(fake.mem + AT_TSS16 + 34 + 2 * i, &sels[i], 2);
	CHECK_EQ(EXEC(0xea, 0, 0, 0, 0, SEL_TSS16, 0), FAKE_OK);
	CHECK_EQ(S.rip, 0x6000);
	CHECK_EQ(S.gpr[X86_RAX] & 0xffff, 0x1111);
	CHECK_EQ(S.seg[X86_FS].sel, 0);
	CHECK_EQ(fake.mem[AT_GDT + SEL_TSS + 5] & 0xf, 9);
}

TEST(there_are_no_task_switches_in_long_mode)
{
	fake_setup_long(0);
	fake_put32(0x600, 0);
	fake.mem[0x604] = SEL_TSS2;
	CHECK_EQ(EXEC(0xff, 0x2c, 0x25, 0, 6, 0, 0), X86_EXC_GP);
	CHECK_EQ(fake.code, SEL_TSS2);
}

/* --- segments ------------------------------------------------------------------------------------------ */

TEST(segment_loads_check_type_privilege_and_presence)
{
	static const struct { uint8_t modrm; uint16_t sel; int vector; uint32_t code; } cases[] = {
		{ 0xd8, 0, FAKE_OK, 0 },
		{ 0xd8, SEL_UDATA, FAKE_OK, 0 },
		{ 0xd8, SEL_CONFORMING | 3, FAKE_OK, 0 },
		{ 0xd8, SEL_KDATA | 3, X86_EXC_GP, SEL_KDATA },
		{ 0xd8, SEL_TSS | 3, X86_EXC_GP, SEL_TSS },
		{ 0xd8, 0x104, X86_EXC_GP, 0x104 },             /* no LDT */
		{ 0xd8, 0xa3, X86_EXC_GP, 0xa0 },               /* beyond the limit */
		{ 0xd0, 0, X86_EXC_GP, 0 },                     /* mov ss */
		{ 0xd0, SEL_UCODE, X86_EXC_GP, SEL_UCODE & ~3 },
		{ 0xd0, SEL_UDATA & ~3, X86_EXC_GP, SEL_UDATA & ~3 },
		{ 0xd0, SEL_UDATA, FAKE_OK, 0 },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fake_setup_prot(3);
		S.gpr[X86_RAX] = cases[i].sel;
		S.ldtr.attr = X86_SEG_UNUSABLE;
		CHECK_EQ(EXEC(0x8e, cases[i].modrm), cases[i].vector);
		if (cases[i].vector != FAKE_OK)
			CHECK_EQ(fake.code, cases[i].code);
	}
	fake_setup_prot(0);
	S.gpr[X86_RAX] = SEL_ABSENT;
	CHECK_EQ(EXEC(0x8e, 0xd8), X86_EXC_NP);
	CHECK_EQ(EXEC(0x8e, 0xd0), X86_EXC_SS);
	CHECK_EQ(EXEC(0x8e, 0xc8), X86_EXC_UD);         /* mov cs */
}

TEST(loading_a_segment_marks_it_accessed)
{
	fake_setup_prot(0);
	fake.mem[AT_GDT + SEL_KDATA + 5] &= ~1;
	S.gpr[X86_RAX] = SEL_KDATA;
	CHECK_EQ(EXEC(0x8e, 0xd8), FAKE_OK);
	CHECK_EQ(fake.mem[AT_GDT + SEL_KDATA + 5], 0x93);
	CHECK(S.seg[X86_DS].attr & X86_SEG_ACCESSED);
}

TEST(a_pop_into_a_segment_that_faults_leaves_the_stack_pointer)
{
	fake_setup_prot(0);
	RSP = KSTACK - 4;
	fake_put32(RSP, SEL_ABSENT);
	CHECK_EQ(EXEC(0x1f), X86_EXC_NP);
	CHECK_EQ(RSP, KSTACK - 4);
	fake_put32(RSP, SEL_KDATA);
	CHECK_EQ(EXEC(0x17), FAKE_OK);                  /* pop ss */
	CHECK_EQ(RSP, KSTACK);
	CHECK_EQ(S.int_shadow, 2);
}

TEST(ltr_in_long_mode_takes_a_64_bit_base_and_sets_busy)
{
	fake_setup_long(0);
	fake_put64(AT_GDT + SEL_GATE, fake_desc(0x1000, 0x67, 0x89));
	fake_put64(AT_GDT + SEL_GATE + 8, 0xffff8000);
	S.gpr[X86_RAX] = SEL_GATE;
	CHECK_EQ(EXEC(0x0f, 0x00, 0xd8), FAKE_OK);
	CHECK_EQ(S.tr.base, 0xffff800000001000);
	CHECK_EQ(fake.mem[AT_GDT + SEL_GATE + 5], 0x8b);
	CHECK_EQ(EXEC(0x0f, 0x00, 0xd8), X86_EXC_GP);   /* busy now */
	CHECK_EQ(fake.code, SEL_GATE);
	S.gpr[X86_RAX] = 0;
	CHECK_EQ(EXEC(0x0f, 0x00, 0xd0), FAKE_OK);      /* lldt 0 */
	CHECK(S.ldtr.attr & X86_SEG_UNUSABLE);
}

TEST(lar_lsl_and_verr_see_what_the_ring_may_see)
{
	fake_setup_long(3);
	S.gpr[X86_RCX] = SEL_UDATA;
	CHECK_EQ(EXEC(0x0f, 0x02, 0xc1), FAKE_OK);
	CHECK(S.rflags & X86_ZF);
	CHECK_EQ(S.gpr[X86_RAX], 0x00cff300);
	CHECK_EQ(EXEC(0x0f, 0x03, 0xc1), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], 0xffffffff);
	CHECK_EQ(EXEC(0x0f, 0x00, 0xe9), FAKE_OK);      /* verw cx */
	CHECK(S.rflags & X86_ZF);
	S.gpr[X86_RCX] = SEL_KDATA;
	CHECK_EQ(EXEC(0x0f, 0x02, 0xc1), FAKE_OK);
	CHECK(!(S.rflags & X86_ZF));
	CHECK_EQ(S.gpr[X86_RAX], 0xffffffff);
}

TEST(umip_hides_the_tables_from_user_mode)
{
	fake_setup_long(3);
	S.gpr[X86_RAX] = 0x600;
	CHECK_EQ(EXEC(0x0f, 0x01, 0x00), FAKE_OK);      /* sgdt [rax] */
	CHECK_EQ(fake_get64(0x602), AT_GDT);
	S.cr4 |= X86_CR4_UMIP;
	CHECK_EQ(EXEC(0x0f, 0x01, 0x00), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x00, 0xc0), X86_EXC_GP);   /* sldt */
	CHECK_EQ(EXEC(0x0f, 0x01, 0xe0), X86_EXC_GP);   /* smsw */
}

/* --- system calls -------------------------------------------------------------------------------------- */

TEST(syscall_and_sysret_swap_rings)
{
	fake_setup_long(3);
	S.star = (uint64_t)SEL_KCODE64 << 32 | (uint64_t)0x23 << 48;
	S.lstar = 0x7000;
	S.fmask = X86_IF | X86_DF;
	S.rflags |= X86_DF | X86_CF;
	CHECK_EQ(EXEC(0x0f, 0x05), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(S.rip, 0x7000);
	CHECK_EQ(S.gpr[X86_RCX], AT_CODE + 2);
	CHECK_EQ(S.rflags, X86_FLAGS_FIXED | X86_CF);
	CHECK_EQ(S.seg[X86_SS].sel, SEL_KCODE64 + 8);

	/* not canonical: #GP while still in ring 0 */
	S.gpr[X86_RCX] = 1ull << 47;
	CHECK_EQ(EXEC(0x48, 0x0f, 0x07), X86_EXC_GP);
	CHECK_EQ(fake.c.cpl, 0);
	S.gpr[X86_RCX] = AT_CODE + 2;
	CHECK_EQ(EXEC(0x48, 0x0f, 0x07), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(S.seg[X86_CS].sel, 0x33);
	CHECK_EQ(S.seg[X86_SS].sel, 0x2b);
	CHECK(S.rflags & X86_IF);
	CHECK_EQ(EXEC(0x48, 0x0f, 0x07), X86_EXC_GP);   /* from ring 3 */
	S.efer &= ~(uint64_t)X86_EFER_SCE;
	CHECK_EQ(EXEC(0x0f, 0x05), X86_EXC_UD);
}

TEST(sysenter_needs_its_selector_and_clears_if)
{
	fake_setup_prot(3);
	CHECK_EQ(EXEC(0x0f, 0x34), X86_EXC_GP);
	S.sysenter_cs = SEL_KCODE;
	S.sysenter_eip = 0x7000;
	S.sysenter_esp = 0x8000;
	CHECK_EQ(EXEC(0x0f, 0x34), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 0);
	CHECK_EQ(S.rip, 0x7000);
	CHECK_EQ(RSP, 0x8000);
	CHECK(!(S.rflags & X86_IF));
	S.gpr[X86_RDX] = 0x5000;
	S.gpr[X86_RCX] = USTACK;
	CHECK_EQ(EXEC(0x0f, 0x35), FAKE_OK);
	CHECK_EQ(fake.c.cpl, 3);
	CHECK_EQ(S.seg[X86_CS].sel, SEL_KCODE + 16 + 3);
	CHECK_EQ(RSP, USTACK);
}

TEST(fsgsbase_instructions_need_cr4_and_canonical_values)
{
	fake_setup_long(3);
	CHECK_EQ(EXEC(0xf3, 0x48, 0x0f, 0xae, 0xd0), X86_EXC_UD);
	S.cr4 |= X86_CR4_FSGSBASE;
	S.gpr[X86_RAX] = 1ull << 56;
	CHECK_EQ(EXEC(0xf3, 0x48, 0x0f, 0xae, 0xd0), X86_EXC_GP);
	S.gpr[X86_RAX] = 0x1234;
	CHECK_EQ(EXEC(0xf3, 0x48, 0x0f, 0xae, 0xd0), FAKE_OK);
	CHECK_EQ(S.seg[X86_FS].base, 0x1234);
	CHECK_EQ(EXEC(0x0f, 0x01, 0xf8), X86_EXC_GP);   /* swapgs */
}

/* --- control and model-specific registers ------------------------------------------------------------- */

static int wrmsr(uint32_t msr, uint64_t v)
{
	S.gpr[X86_RCX] = msr;
	S.gpr[X86_RAX] = (uint32_t)v;
	S.gpr[X86_RDX] = v >> 32;
	return EXEC(0x0f, 0x30);
}

static int rdmsr(uint32_t msr, uint64_t *v)
{
	S.gpr[X86_RCX] = msr;
	int r = EXEC(0x0f, 0x32);
	*v = S.gpr[X86_RAX] | S.gpr[X86_RDX] << 32;
	return r;
}

TEST(wrmsr_refuses_values_that_hardware_refuses)
{
	static const struct { uint32_t msr; uint64_t v; int vector; } cases[] = {
		{ 0xc0000080, 1 << 9, X86_EXC_GP },
		{ 0xc0000080, X86_EFER_LME | X86_EFER_NXE | X86_EFER_SCE, FAKE_OK },
		{ 0xc0000082, 1ull << 56, X86_EXC_GP },
		{ 0xc0000082, 1ull << 47, FAKE_OK },            /* 57 bits are announced: without CR4.LA57 too */
		{ 0xc0000082, 0xffffffff81000000, FAKE_OK },
		{ 0xc0000100, 1ull << 63, X86_EXC_GP },
		{ 0xc0000101, 0xffff888000000000, FAKE_OK },
		{ 0xc0000103, 1ull << 32, X86_EXC_GP },
		{ 0x277, 0x0007040600070402, X86_EXC_GP },
		{ 0x277, 0x0407050600070106, FAKE_OK },
		{ 0x2ff, 0xc02, X86_EXC_GP },
		{ 0x2ff, 0xc06, FAKE_OK },
		{ 0x200, 1ull << 40 | 6, X86_EXC_GP },          /* beyond 40 physical bits */
		{ 0x200, 0x80000000, FAKE_OK },
		{ 0x201, 0xff80000800, FAKE_OK },
		{ 0x268, 0x0606060606060603, X86_EXC_GP },
		{ 0xfe, 0, X86_EXC_GP },
		{ 0x48, 1, FAKE_OK },
		{ 0x48, 8, X86_EXC_GP },
		{ 0x49, 1, FAKE_OK },
		{ 0x10a, 0, X86_EXC_GP },
		{ 0x1a0, 0x400c51889, FAKE_OK },                /* as kernels write it to open NX */
		{ 0x1b, 0xfee00900, FAKE_OK },
		{ 0x80a, 0, X86_EXC_GP },                       /* the host says no */
		{ 0x12345678, 0, X86_EXC_GP },
	};

	fake_setup_long(0);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK_EQ(wrmsr(cases[i].msr, cases[i].v), cases[i].vector);
	CHECK_EQ(S.seg[X86_GS].base, 0xffff888000000000);
	CHECK_EQ(fake.host_msr == 0xfee00900 || fake.host_msr == 0, 1);
	fake_setup_long(3);
	CHECK_EQ(wrmsr(0x277, S.pat), X86_EXC_GP);
}

TEST(msrs_that_other_systems_read_without_asking_are_there)
{
	static const uint32_t msrs[] = { 0x0, 0x1, 0x2a, 0x2c, 0x35, 0xcd, 0x11e, 0x1db, 0x1de, 0x606, 0x611, 0x619, 0x639, 0x641,
		0xc0010010, 0xc0010058, 0xc0010112, 0xc0010113, 0xc0010117, 0xc0011023, 0xc001102a, 0xc001102c };
	uint64_t v;

	fake_setup_long(0);
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		CHECK_EQ(rdmsr(msrs[i], &v), FAKE_OK);
	CHECK_EQ(rdmsr(0x35, &v), FAKE_OK);
	CHECK_EQ(v, 0x20002);                           /* cores, threads */
	CHECK_EQ(rdmsr(0x2, &v), X86_EXC_GP);
	CHECK_EQ(rdmsr(0x1df, &v), X86_EXC_GP);
	CHECK_EQ(wrmsr(0x606, 1), X86_EXC_GP);
	CHECK_EQ(wrmsr(0xc0010058, 1), FAKE_OK);        /* dropped */
	CHECK_EQ(rdmsr(0xc0010058, &v), FAKE_OK);
	CHECK_EQ(v, 0);
}

TEST(every_msr_that_linux_reads_early_is_there)
{
	static const uint32_t msrs[] = { 0x10, 0x17, 0x1b, 0x3a, 0x3b, 0x8b, 0xce, 0xfe, 0x10a, 0x174, 0x179, 0x17a, 0x1a0,
		0x200, 0x20f, 0x250, 0x258, 0x259, 0x268, 0x26f, 0x277, 0x2ff, 0xc0000080, 0xc0000081, 0xc0000084,
		0xc0000102, 0xc0000103, 0xc0010010, 0xc0010015, 0xc0010141, 0xc0011029 };
	uint64_t v;

	fake_setup_long(0);
	for (unsigned i = 0; i < sizeof(msrs) / sizeof(msrs[0]); i++)
		CHECK_EQ(rdmsr(msrs[i], &v), FAKE_OK);
	CHECK_EQ(rdmsr(0x210, &v), X86_EXC_GP);
	CHECK_EQ(rdmsr(0x49, &v), X86_EXC_GP);          /* a command */
	CHECK_EQ(rdmsr(0x251, &v), X86_EXC_GP);
	CHECK_EQ(rdmsr(0xc0000085, &v), X86_EXC_GP);
}

TEST(the_announced_apic_follows_its_base_register)
{
	fake_setup_long(0);
	fake.host_msr = 0xfee00900;
	S.gpr[X86_RAX] = 1;
	CHECK_EQ(EXEC(0x0f, 0xa2), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RDX] >> 9 & 1, 1);
	fake.host_msr = 0xfee00100;
	S.gpr[X86_RAX] = 1;
	CHECK_EQ(EXEC(0x0f, 0xa2), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RDX] >> 9 & 1, 0);
}

TEST(tsc_and_tsc_adjust_move_together)
{
	uint64_t v;

	fake_setup_long(0);
	fake.tsc = 1000;
	CHECK_EQ(wrmsr(0x10, 5000), FAKE_OK);
	CHECK_EQ(rdmsr(0x3b, &v), FAKE_OK);
	CHECK_EQ(v, 4000);
	fake.tsc = 1500;
	CHECK_EQ(EXEC(0x0f, 0x31), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], 5500);
	CHECK_EQ(wrmsr(0x3b, 0), FAKE_OK);
	CHECK_EQ(rdmsr(0x10, &v), FAKE_OK);
	CHECK_EQ(v, 1500);
	CHECK_EQ(fake.tsc_changes, 2);          /* the machine was told of each */
	S.cr4 |= X86_CR4_TSD;
	CHECK_EQ(EXEC(0x0f, 0x31), FAKE_OK);
	fake_setup_long(3);
	S.cr4 |= X86_CR4_TSD;
	CHECK_EQ(EXEC(0x0f, 0x31), X86_EXC_GP);
}

static int mov_cr(unsigned n, uint64_t v)
{
	S.gpr[X86_RAX] = v;
	return n == 8 ? EXEC(0x44, 0x0f, 0x22, 0xc0) : EXEC(0x0f, 0x22, 0xc0 | n << 3);
}

TEST(control_registers_refuse_reserved_bits_and_impossible_mixes)
{
	fake_setup_long(0);
	CHECK_EQ(mov_cr(0, 0x80000010), X86_EXC_GP);            /* PG without PE */
	CHECK_EQ(mov_cr(0, 0xa0000011), X86_EXC_GP);            /* NW without CD */
	CHECK_EQ(mov_cr(0, 1ull << 32 | 0x80000011), X86_EXC_GP);
	CHECK_EQ(mov_cr(3, 1ull << 40), X86_EXC_GP);            /* beyond 40 physical bits */
	CHECK_EQ(mov_cr(3, 1ull << 63), X86_EXC_GP);            /* no PCIDs yet */
	CHECK_EQ(mov_cr(3, 0x1000), FAKE_OK);
	CHECK_EQ(mov_cr(4, X86_CR4_PAE | 1 << 13), X86_EXC_GP); /* VMXE */
	CHECK_EQ(mov_cr(3, 0x1005), FAKE_OK);
	CHECK_EQ(mov_cr(4, X86_CR4_PAE | X86_CR4_PCIDE), X86_EXC_GP);   /* CR3[11:0] is not 0 */
	CHECK_EQ(mov_cr(3, 0x1000), FAKE_OK);
	CHECK_EQ(mov_cr(4, X86_CR4_PAE | X86_CR4_PCIDE), FAKE_OK);
	unsigned n = fake.n_flush;
	CHECK_EQ(mov_cr(3, 1ull << 63 | 0x2001), FAKE_OK);
	CHECK_EQ(S.cr3, 0x2001);
	CHECK(fake.n_flush > n);
	CHECK_EQ(mov_cr(8, 16), X86_EXC_GP);
	CHECK_EQ(mov_cr(8, 9), FAKE_OK);
	CHECK_EQ(fake.cr8, 9);
	CHECK_EQ(mov_cr(5, 0), X86_EXC_UD);
}

TEST(lmsw_sets_pe_but_never_clears_it)
{
	fake_setup_prot(0);
	S.gpr[X86_RAX] = 0xe;
	CHECK_EQ(EXEC(0x0f, 0x01, 0xf0), FAKE_OK);
	CHECK_EQ(S.cr0 & 0xf, 0xf);
	CHECK_EQ(EXEC(0x0f, 0x06), FAKE_OK);            /* clts */
	CHECK_EQ(S.cr0 & 0xf, 0x7);
}

TEST(xsetbv_keeps_x87_and_refuses_what_is_not_announced)
{
	fake_setup_long(0);
	S.gpr[X86_RCX] = S.gpr[X86_RDX] = 0;
	S.gpr[X86_RAX] = 3;
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd1), X86_EXC_UD);
	S.cr4 |= X86_CR4_OSXSAVE;
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd1), FAKE_OK);
	S.gpr[X86_RAX] = 2;
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd1), X86_EXC_GP);
	S.gpr[X86_RAX] = 5;                             /* AVX without SSE */
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd1), X86_EXC_GP);
	S.gpr[X86_RAX] = 0xb;
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd1), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x01, 0xd0), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], 3);
}

TEST(debug_registers_alias_and_the_general_detect_trap_fires)
{
	fake_setup_long(0);
	S.gpr[X86_RAX] = 0x401;
	CHECK_EQ(EXEC(0x0f, 0x23, 0xe8), FAKE_OK);              /* mov dr5, rax = dr7 */
	CHECK_EQ(S.dr7, 0x401);
	S.cr4 |= X86_CR4_DE;
	CHECK_EQ(EXEC(0x0f, 0x23, 0xe8), X86_EXC_UD);
	S.gpr[X86_RAX] = 1ull << 32;
	CHECK_EQ(EXEC(0x0f, 0x23, 0xf8), X86_EXC_GP);
	S.dr7 |= 1 << 13;
	CHECK_EQ(EXEC(0x0f, 0x21, 0xc0), X86_EXC_DB);
	CHECK(S.dr6 & 1 << 13);
	fake_gate(1, SEL_KCODE64, 0x5000, GATE_INT, 0);
	CHECK_EQ(fake_deliver((struct icpu_event){ .vector = 1 }), FAKE_OK);
	CHECK(!(S.dr7 & 1 << 13));
}

TEST(invpcid_checks_its_descriptor)
{
	fake_setup_long(0);
	S.gpr[X86_RCX] = 0x600;
	for (uint64_t type = 0; type < 4; type++) {
		S.gpr[X86_RAX] = type;
		CHECK_EQ(EXEC(0x66, 0x0f, 0x38, 0x82, 0x01), FAKE_OK);
	}
	S.gpr[X86_RAX] = 4;
	CHECK_EQ(EXEC(0x66, 0x0f, 0x38, 0x82, 0x01), X86_EXC_GP);
	S.gpr[X86_RAX] = 0;
	fake_put64(0x608, 1ull << 56);
	CHECK_EQ(EXEC(0x66, 0x0f, 0x38, 0x82, 0x01), X86_EXC_GP);
	fake_put64(0x608, 0);
	fake_put64(0x600, 1);                   /* a PCID without CR4.PCIDE */
	CHECK_EQ(EXEC(0x66, 0x0f, 0x38, 0x82, 0x01), X86_EXC_GP);
}

/* --- flags and ports -------------------------------------------------------------------------------------- */

TEST(sti_shadows_one_instruction_only_when_if_was_clear)
{
	fake_setup_long(0);
	CHECK_EQ(EXEC(0xfb), FAKE_OK);
	CHECK_EQ(S.int_shadow, 0);
	CHECK_EQ(EXEC(0xfa), FAKE_OK);
	fake.c.req = 0;
	CHECK_EQ(EXEC(0xfb), FAKE_OK);
	CHECK_EQ(S.int_shadow, 1);
	CHECK(fake.c.req & ICPU_REQ_RECHECK);
	fake_setup_long(3);
	CHECK_EQ(EXEC(0xfb), X86_EXC_GP);
}

TEST(popf_changes_what_its_ring_may_change)
{
	const uint64_t all = 0x3f7fd7;

	fake_setup_long(3);
	RSP = USTACK - 8;
	fake_put64(RSP, all & ~(uint64_t)X86_IF);
	CHECK_EQ(EXEC(0x9d), FAKE_OK);
	CHECK_EQ(S.rflags & (X86_IF | X86_IOPL | X86_VM | X86_VIF | X86_VIP | X86_RF), X86_IF);
	CHECK(S.rflags & X86_AC && S.rflags & X86_ID && S.rflags & X86_NT);
	fake_setup_long(0);
	RSP = KSTACK - 8;
	fake_put64(RSP, all);
	CHECK_EQ(EXEC(0x9d), FAKE_OK);
	CHECK_EQ(S.rflags & X86_IOPL, X86_IOPL);
	CHECK_EQ(EXEC(0x9c), FAKE_OK);
	CHECK_EQ(fake_get64(RSP), S.rflags);
}

TEST(the_io_bitmap_decides_port_by_port)
{
	fake_setup_long(3);
	fake.mem[AT_TSS + 102] = 0x68;
	memset(fake.mem + AT_TSS + 0x68, 0, 0x20);
	fake.mem[AT_TSS + 0x68 + 2] = 0x80;             /* port 0x17 */
	S.gpr[X86_RDX] = 0x16;
	CHECK_EQ(EXEC(0xec), FAKE_OK);                  /* in al, dx */
	CHECK_EQ(EXEC(0x66, 0xed), X86_EXC_GP);         /* in ax, dx: 16, 17 */
	S.gpr[X86_RDX] = 0x17;
	CHECK_EQ(EXEC(0xec), X86_EXC_GP);
	S.gpr[X86_RDX] = 0x14;
	CHECK_EQ(EXEC(0xed), X86_EXC_GP);               /* in eax, dx: 14..17 */
	S.gpr[X86_RDX] = 0x18;
	CHECK_EQ(EXEC(0xed), FAKE_OK);
	S.gpr[X86_RDX] = 0x100;                         /* the byte after it is beyond the limit */
	CHECK_EQ(EXEC(0xec), X86_EXC_GP);
	S.rflags |= X86_IOPL;
	CHECK_EQ(EXEC(0xec), FAKE_OK);
	CHECK_EQ(fake.n_pio, 3);
}

TEST(rep_ins_stops_at_its_budget_and_starts_again)
{
	fake_setup_long(0);
	S.gpr[X86_RDI] = 0x600;
	S.gpr[X86_RCX] = 6;
	fake.pio_value = 0x10;
	CHECK_EQ(EXEC(0xf3, 0x6c), FAKE_OK);
	CHECK_EQ(S.rip, AT_CODE);
	CHECK_EQ(S.gpr[X86_RCX], 2);
	CHECK_EQ(EXEC(0xf3, 0x6c), FAKE_OK);
	CHECK_EQ(S.rip, AT_CODE + 2);
	CHECK_EQ(S.gpr[X86_RCX], 0);
	CHECK_MEM(fake.mem + 0x600, "\x10\x11\x12\x13\x14\x15\0", 7);
}

TEST(ins_asks_memory_before_it_asks_the_device)
{
	fake_setup_long(0);
	S.gpr[X86_RDI] = 0x5ffe;
	S.gpr[X86_RCX] = 4;
	fake.bad_page = 0x6000;
	CHECK_EQ(EXEC(0xf3, 0x6c), X86_EXC_PF);
	CHECK_EQ(fake.n_pio, 2);
	CHECK_EQ(S.gpr[X86_RCX], 2);
	CHECK_EQ(S.gpr[X86_RDI], 0x6000);
}

TEST(privileged_instructions_fault_in_user_mode)
{
	fake_setup_long(3);
	CHECK_EQ(EXEC(0xf4), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x06), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x09), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x20, 0xc0), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x21, 0xc0), X86_EXC_GP);
	CHECK_EQ(EXEC(0x0f, 0x01, 0x38), X86_EXC_GP);   /* invlpg [rax] */
	CHECK_EQ(EXEC(0x0f, 0x01, 0x10), X86_EXC_GP);   /* lgdt [rax] */
	CHECK_EQ(EXEC(0x0f, 0x01, 0xca), X86_EXC_UD);   /* clac */
	CHECK_EQ(EXEC(0x0f, 0x0b), X86_EXC_UD);
	fake_setup_long(0);
	CHECK_EQ(EXEC(0xf4), FAKE_OK);
	CHECK_EQ(fake.n_halt, 1);
}

TEST(hypercalls_are_unknown_but_not_undefined)
{
	fake_setup_long(0);
	CHECK_EQ(EXEC(0x0f, 0x01, 0xc1), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], -1000);
	fake_setup_long(3);
	CHECK_EQ(EXEC(0x0f, 0x01, 0xc1), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], -1);
}

TEST(rdrand_always_succeeds_with_clean_flags)
{
	fake_setup_long(3);
	S.rflags |= X86_OF | X86_ZF;
	CHECK_EQ(EXEC(0x0f, 0xc7, 0xf0), FAKE_OK);
	CHECK_EQ(S.gpr[X86_RAX], 0x5a5a5a5a);
	CHECK_EQ(S.rflags & X86_FLAGS_ARITH, X86_CF);
}

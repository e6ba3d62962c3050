/* SPDX-License-Identifier: Apache-2.0 */
/* The system half of the interpreter, one instruction or event at a time: segments, system calls, flags and ports. */
#include "interp_sys_fake.h"
#include "test.h"

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

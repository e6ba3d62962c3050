/* SPDX-License-Identifier: Apache-2.0 */
/* The system half of the interpreter, one instruction or event at a time: far transfers and tasks. */
#include "interp_sys_fake.h"
#include "test.h"

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

/* SPDX-License-Identifier: Apache-2.0 */
/* The system half of the interpreter, one instruction or event at a time: control, debug and model-specific registers. */
#include "interp_sys_fake.h"
#include "test.h"

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

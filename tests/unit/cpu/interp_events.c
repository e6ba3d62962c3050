/* SPDX-License-Identifier: Apache-2.0 */
/* The system half on the whole interpreter: run loop, paging and blocks included. */
#include "cpu/interp_rig.h"
#include "test.h"

#define S r.c->s

enum { USER_CODE = 0x50000, USER_STACK = 0x60000, HANDLER = 0x70000, REAL_CODE = 0x8000, PROT_CODE = 0x8100 };

static struct rig r;

static void put(gpa_t gpa, const void *p, size_t len)
{
	CHECK_EQ(gmem_write(r.mem, gpa, p, len), 0);
}

static void put64(gpa_t gpa, uint64_t v)
{
	put(gpa, &v, sizeof(v));
}

static uint64_t get64(gpa_t gpa)
{
	uint64_t v;

	CHECK_EQ(gmem_read(r.mem, gpa, &v, sizeof(v)), 0);
	return v;
}

static void setup(void)
{
	const struct x86_cpuid_params p = { .n_vcpus = 1, .engine = &x86_features_interp, .tsc_hz = 1000000000, .phys_bits = 40 };

	rig_init(&r, 1);
	x86_cpuid_build(&r.cpuid, &p);
	put64(RIG_GDT + 0x18, 0x00cf9b000000ffff);      /* 32-bit code and data */
	put64(RIG_GDT + 0x20, 0x00cf93000000ffff);
	put64(RIG_GDT + 0x28, 0x00cff3000000ffff);      /* user data, 64-bit user code */
	put64(RIG_GDT + 0x30, 0x00affb000000ffff);
	put64(RIG_TSS + 4, RIG_STACK + 0x800);
	for (unsigned i = 0; i < 32; i++)               /* the handler of vector N stops at N bytes */
		put(HANDLER + i, "\xf4", 1);
}

TEST(a_contributory_fault_during_another_makes_a_double_fault)
{
	setup();
	rig_gate(&r, X86_EXC_DF, HANDLER + 8);
	RIG_CODE_BYTES(&r, 0x31, 0xc9, 0xf7, 0xf1);     /* xor ecx, ecx; div ecx: no gate for #DE */
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 9);
	CHECK_EQ(get64(S.gpr[X86_RSP]), 0);
	CHECK_EQ(get64(S.gpr[X86_RSP] + 8), RIG_CODE + 2);
	rig_fini(&r);
}

TEST(a_benign_exception_without_a_gate_is_a_general_protection_fault)
{
	setup();
	rig_gate(&r, X86_EXC_GP, HANDLER + 13);
	RIG_CODE_BYTES(&r, 0x0f, 0x0b);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 14);
	CHECK_EQ(get64(S.gpr[X86_RSP]), X86_EXC_UD * 8 + 3);
	rig_fini(&r);
}

TEST(a_triple_fault_shuts_down)
{
	setup();
	RIG_CODE_BYTES(&r, 0x31, 0xc9, 0xf7, 0xf1);
	CHECK_EQ(rig_engine.ops->run(r.v, NULL), CPU_EXIT_SHUTDOWN);
	CHECK_EQ(S.mp_state, X86_MP_SHUTDOWN);
	rig_fini(&r);
}

static void interrupt_at_once(void)
{
	setup();
	rig_gate(&r, 0x20, HANDLER);
	atomic_store(&r.pending, 0x20);
	rig_engine.ops->interrupt(r.v);
	S.gpr[X86_RCX] = 0x10;
}

TEST(an_interrupt_waits_one_instruction_after_sti)
{
	interrupt_at_once();
	RIG_CODE_BYTES(&r, 0xfb, 0xff, 0xc0, 0xff, 0xc3, 0xf4); /* sti; inc eax; inc ebx; hlt */
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 1);
	CHECK_EQ(S.gpr[X86_RAX], 1);
	CHECK_EQ(S.gpr[X86_RBX], 0);
	rig_fini(&r);
}

TEST(an_interrupt_waits_one_instruction_after_mov_ss)
{
	interrupt_at_once();
	/* sti; mov ss, ecx; inc eax; inc ebx; hlt */
	RIG_CODE_BYTES(&r, 0xfb, 0x8e, 0xd1, 0xff, 0xc0, 0xff, 0xc3, 0xf4);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 1);
	CHECK_EQ(S.gpr[X86_RAX], 1);
	CHECK_EQ(S.gpr[X86_RBX], 0);
	rig_fini(&r);
}

TEST(user_mode_is_entered_by_iretq_and_left_by_syscall_and_page_fault)
{
	setup();
	static const uint8_t user[] = { 0x0f, 0x05, 0x48, 0x8b, 0x03 };         /* syscall; mov rax, [rbx] */
	static const uint8_t entry[] = { 0xff, 0xc5, 0x48, 0x0f, 0x07 };        /* inc ebp; sysretq */
	const uint64_t frame[] = { USER_CODE, 0x33, 0x202, USER_STACK, 0x2b };

	put(USER_CODE, user, sizeof(user));
	put(HANDLER + 0x100, entry, sizeof(entry));
	*rig_pte(&r, RIG_DATA) &= ~4ull;                /* supervisor only */
	rig_gate(&r, X86_EXC_PF, HANDLER + 14);
	S.lstar = HANDLER + 0x100;
	S.star = 0x0023000800000000;
	S.gpr[X86_RBX] = RIG_DATA;
	S.gpr[X86_RSP] = RIG_STACK + 0x1000 - sizeof(frame);
	put(S.gpr[X86_RSP], frame, sizeof(frame));
	RIG_CODE_BYTES(&r, 0x48, 0xcf);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 15);
	CHECK_EQ(S.gpr[X86_RBP], 1);
	CHECK_EQ(S.cr2, RIG_DATA);
	CHECK_EQ(S.gpr[X86_RSP], RIG_STACK + 0x800 - 48);
	CHECK_EQ(get64(S.gpr[X86_RSP]), X86_PF_P | X86_PF_U);
	CHECK_EQ(get64(S.gpr[X86_RSP] + 8), USER_CODE + 2);
	CHECK_EQ(get64(S.gpr[X86_RSP] + 16), 0x33);
	rig_fini(&r);
}

/* IRETQ to USER_CODE with FLAGS; SYSCALL enters at HANDLER + 0x100. */
static void enter_user(const void *user, size_t len, uint64_t flags)
{
	const uint64_t frame[] = { USER_CODE, 0x33, flags, USER_STACK, 0x2b };

	put(USER_CODE, user, len);
	S.lstar = HANDLER + 0x100;
	S.star = 0x0023000800000000;
	S.gpr[X86_RSP] = RIG_STACK + 0x1000 - sizeof(frame);
	put(S.gpr[X86_RSP], frame, sizeof(frame));
	RIG_CODE_BYTES(&r, 0x48, 0xcf);
}

TEST(a_stepped_system_call_traps_after_it_and_not_in_the_kernel)
{
	setup();
	static const uint8_t user[] = { 0x0f, 0x05, 0x90 };                     /* syscall; nop */
	static const uint8_t entry[] = { 0xff, 0xc5, 0x48, 0x0f, 0x07 };        /* inc ebp; sysretq */

	put(HANDLER + 0x100, entry, sizeof(entry));
	rig_gate(&r, X86_EXC_DB, HANDLER + 1);
	enter_user(user, sizeof(user), X86_FLAGS_FIXED | X86_TF);
	S.fmask = X86_TF;
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 2);
	CHECK_EQ(S.gpr[X86_RBP], 1);
	CHECK_EQ(get64(S.gpr[X86_RSP]), USER_CODE + 2);
	CHECK_EQ(get64(S.gpr[X86_RSP] + 8), 0x33);
	rig_fini(&r);
}

TEST(a_return_to_user_mode_drops_a_kernel_segment_but_not_its_base)
{
	setup();
	static const uint8_t user[] = { 0x0f, 0x05 };

	enter_user(user, sizeof(user), X86_FLAGS_FIXED);
	put(HANDLER + 0x100, "\xf4", 1);
	S.seg[X86_GS] = S.seg[X86_DS];
	S.seg[X86_GS].attr &= ~(uint32_t)X86_SEG_UNUSABLE;
	S.seg[X86_GS].sel = 0x20;
	S.seg[X86_GS].base = 0x123456789;
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 0x101);
	CHECK_EQ(S.seg[X86_GS].sel, 0);
	CHECK_EQ(S.seg[X86_GS].base, 0x123456789);
	rig_fini(&r);
}

TEST(a_software_interrupt_under_the_trap_flag_does_not_trap_in_its_handler)
{
	setup();
	rig_gate(&r, X86_EXC_DB, HANDLER + 1);
	rig_gate(&r, X86_EXC_BP, HANDLER + 3);
	RIG_CODE_BYTES(&r, 0xcc);
	S.rflags |= X86_TF;
	icpu_debug_changed(r.c);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 4);
	rig_fini(&r);
}

TEST(a_trap_ends_a_halt)
{
	setup();
	rig_gate(&r, X86_EXC_DB, HANDLER + 1);
	RIG_CODE_BYTES(&r, 0xf4);
	S.rflags |= X86_TF;
	icpu_debug_changed(r.c);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, HANDLER + 2);
	CHECK_EQ(get64(S.gpr[X86_RSP]), RIG_CODE + 1);
	rig_fini(&r);
}

TEST(mov_ss_hides_an_instruction_breakpoint_on_what_follows)
{
	setup();
	rig_gate(&r, X86_EXC_DB, HANDLER + 1);
	RIG_CODE_BYTES(&r, 0x8e, 0xd1, 0xff, 0xc0, 0xf4);       /* mov ss, ecx; inc eax; hlt */
	S.dr[0] = RIG_CODE + 2;
	S.dr7 = 1;
	icpu_debug_changed(r.c);
	rig_run_to_halt(&r);
	CHECK_EQ(S.rip, RIG_CODE + 5);
	rig_fini(&r);
}

TEST(two_nmis_before_the_first_is_delivered_are_both_delivered)
{
	setup();
	static const uint8_t handler[] = { 0xff, 0xc0, 0x48, 0xcf };    /* inc eax; iretq */

	put(HANDLER + 0x200, handler, sizeof(handler));
	rig_gate(&r, X86_EXC_NMI, HANDLER + 0x200);
	RIG_CODE_BYTES(&r, 0x90, 0xf4);
	for (unsigned i = 0; i < 3; i++)        /* a third one finds no room */
		rig_engine.ops->nmi(r.v);
	rig_run_to_halt(&r);
	CHECK_EQ(S.gpr[X86_RAX], 2);
	rig_fini(&r);
}

TEST(a_processor_gets_from_reset_to_64_bit_code)
{
	static const uint8_t real[] = {
		0x0f, 0x01, 0x16, 0x00, 0x90,                           /* lgdt [0x9000] */
		0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0,         /* cr0 |= PE */
		0x66, 0xea, 0x00, 0x81, 0x00, 0x00, 0x18, 0x00,         /* jmp 0x18:PROT_CODE */
	};
	static const uint8_t prot[] = {
		0x66, 0xb8, 0x20, 0x00, 0x8e, 0xd8, 0x8e, 0xd0,         /* ds = ss = 0x20 */
		0xb8, 0x00, 0x10, 0x00, 0x00, 0x0f, 0x22, 0xd8,         /* cr3 = RIG_PML4 */
		0xb8, 0x20, 0x00, 0x00, 0x00, 0x0f, 0x22, 0xe0,         /* cr4 = PAE */
		0xb9, 0x80, 0x00, 0x00, 0xc0, 0xb8, 0x00, 0x01, 0x00, 0x00,
		0x31, 0xd2, 0x0f, 0x30,                                 /* EFER = LME */
		0x0f, 0x20, 0xc0, 0x0d, 0x00, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, /* cr0 |= PG */
		0xea, 0x00, 0x00, 0x01, 0x00, 0x08, 0x00,               /* jmp 8:RIG_CODE */
	};
	static const uint8_t table[] = { 0xff, 0x0f, 0x00, 0x10, 0x04, 0x00 };

	setup();
	put(REAL_CODE, real, sizeof(real));
	put(PROT_CODE, prot, sizeof(prot));
	put(0x9000, table, sizeof(table));
	*rig_pte(&r, PROT_CODE) = (PROT_CODE & ~0xfff) | 7;
	RIG_CODE_BYTES(&r, 0x48, 0xb8, 8, 7, 6, 5, 4, 3, 2, 1, 0xf4);   /* mov rax, ...; hlt */
	struct x86_state s;
	CHECK_EQ(rig_engine.ops->get_state(r.v, &s, NULL), 0);
	x86_state_reset(&s, 1);
	s.seg[X86_CS].base = s.seg[X86_CS].sel = 0;
	s.rip = REAL_CODE;
	CHECK_EQ(rig_engine.ops->set_state(r.v, &s, NULL), 0);
	rig_run_to_halt(&r);
	CHECK_EQ(S.gpr[X86_RAX], 0x0102030405060708);
	CHECK_EQ(r.c->mode, X86_MODE_64);
	CHECK_EQ(S.rip, RIG_CODE + 11);
	rig_fini(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The run loop: self-modifying code, page-straddling instructions, events and debug traps. */
#include "cpu/interp_rig.h"

#include <pthread.h>
#include "test.h"

static uint64_t stack64(struct rig *r, unsigned slot)
{
	uint64_t v;

	memcpy(&v, gmem_ptr(r->mem, r->c->s.gpr[X86_RSP] + 8 * slot, 8), 8);
	return v;
}

TEST(code_that_rewrites_its_own_block_runs_the_new_bytes)
{
	struct rig r;

	rig_init(&r, 1);
	/* mov byte [rip+2], 0x44 ; mov eax, 0x11223300 (its low byte is overwritten) ; hlt */
	RIG_CODE_BYTES(&r, 0xc6, 0x05, 1, 0, 0, 0, 0x44, 0xb8, 0x00, 0x33, 0x22, 0x11, 0xf4);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x11223344);
	rig_fini(&r);
}

TEST(a_loop_that_patches_its_immediate_sees_each_value)
{
	struct rig r;

	rig_init(&r, 1);
	/* mov ecx, 50; l: add eax, 0 (imm8 patched); mov [rip-7], cl; dec ecx; jnz l; hlt */
	RIG_CODE_BYTES(&r, 0xb9, 50, 0, 0, 0, 0x83, 0xc0, 0x00, 0x88, 0x0d, 0xf9, 0xff, 0xff, 0xff,
		       0xff, 0xc9, 0x75, 0xf3, 0xf4);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 50 * 51 / 2 - 1); /* 50 + 49 + ... + 2 */
	rig_fini(&r);
}

TEST(code_rewritten_from_outside_is_seen_at_the_next_entry)
{
	struct rig r;
	uint8_t two = 2;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0xb0, 1);            /* mov al, 1 */
	rig_steps(&r, 1);
	CHECK_EQ(gmem_write(r.mem, RIG_CODE + 1, &two, 1), 0);
	r.c->s.rip = RIG_CODE;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 2);
	rig_fini(&r);
}

TEST(data_next_to_code_does_not_decode_again)
{
	struct rig r;

	rig_init(&r, 1);
	/* mov ecx, 1000; l: mov [rip+0x100], ecx; dec ecx; jnz l; hlt */
	RIG_CODE_BYTES(&r, 0xb9, 0xe8, 3, 0, 0, 0x89, 0x0d, 0, 1, 0, 0, 0xff, 0xc9, 0x75, 0xf6, 0xf4);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	CHECK(r.c->stats.blocks_decoded < 20);
	rig_fini(&r);
}

TEST(an_instruction_across_two_pages_takes_bytes_of_both)
{
	static const uint8_t code[] = { 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8 };
	struct rig r;
	uint8_t nine = 9;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0xffb, code, sizeof(code));
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x0807060504030201);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 0x1005);
	CHECK_EQ(gmem_write(r.mem, RIG_CODE + 0x1004, &nine, 1), 0);
	r.c->s.rip = RIG_CODE + 0xffb;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x0907060504030201);
	/* The second page elsewhere, the first unchanged. */
	*rig_pte(&r, RIG_CODE + 0x1000) = (RIG_DATA) | 7;
	icpu_tlb_flush_page(r.c, RIG_CODE + 0x1000);
	r.c->s.rip = RIG_CODE + 0xffb;
	rig_steps(&r, 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x030201);
	rig_fini(&r);
}

TEST(a_missing_second_page_faults_with_its_own_address)
{
	static const uint8_t code[] = { 0x90, 0x48, 0xb8, 1, 2 };
	struct icpu_event ev;
	struct rig r;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0xffb, code, sizeof(code));
	*rig_pte(&r, RIG_CODE + 0x1000) = 0;
	rig_steps(&r, 1);
	ev = rig_fault(&r);
	CHECK_EQ(ev.vector, X86_EXC_PF);
	CHECK_EQ(ev.code, X86_PF_I);
	CHECK_EQ(r.c->s.cr2, RIG_CODE + 0x1000);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 0xffc);
	rig_fini(&r);
}

TEST(sixteen_bytes_are_gp_and_nonsense_is_ud)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90);
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_GP);
	RIG_CODE_BYTES(&r, 0x06);               /* push es: not in 64-bit mode */
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_UD);
	RIG_CODE_BYTES(&r, 0xf0, 0x01, 0xc0);   /* lock add eax, eax */
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_UD);
	rig_fini(&r);
}

TEST(a_fault_is_delivered_with_the_address_of_its_instruction)
{
	struct rig r;
	static const uint8_t hlt = 0xf4;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, &hlt, 1);
	rig_gate(&r, X86_EXC_DE, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0x31, 0xc9, 0x90, 0xf7, 0xf1);       /* xor ecx, ecx; nop; div ecx */
	rig_run_to_halt(&r);
	CHECK_EQ(stack64(&r, 0), RIG_CODE + 3);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 0x801);
	if (rig_engine.counts_insns)
		CHECK_EQ(r.c->stats.insns, 3);
	rig_fini(&r);
}

TEST(a_fault_without_a_gate_becomes_a_double_fault)
{
	struct rig r;
	static const uint8_t hlt = 0xf4;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, &hlt, 1);
	rig_gate(&r, X86_EXC_DF, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0x31, 0xc9, 0xf7, 0xf1);
	rig_run_to_halt(&r);
	CHECK_EQ(stack64(&r, 0), 0);            /* error code */
	CHECK_EQ(stack64(&r, 1), RIG_CODE + 2);
	rig_fini(&r);
}

TEST(a_fault_in_the_double_fault_shuts_down)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x0f, 0x0b);
	CHECK_EQ(rig_engine.ops->run(r.v, NULL), CPU_EXIT_SHUTDOWN);
	CHECK_EQ(r.c->s.mp_state, X86_MP_SHUTDOWN);
	CHECK_EQ(rig_engine.ops->run(r.v, NULL), CPU_EXIT_SHUTDOWN);
	rig_fini(&r);
}

TEST(sti_lets_one_more_instruction_run_before_the_interrupt)
{
	struct rig r;
	static const uint8_t hlt = 0xf4;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, &hlt, 1);
	rig_gate(&r, 0x40, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0x90, 0xfb, 0xff, 0xc0, 0xff, 0xc0, 0xff, 0xc0);     /* nop; sti; inc eax x 3 */
	r.pending = 0x40;
	rig_engine.ops->interrupt(r.v);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	CHECK_EQ(stack64(&r, 0), RIG_CODE + 4);
	rig_fini(&r);
}

static void *interrupt_when_parked(void *arg)
{
	struct rig *r = arg;

	while (!atomic_load(&r->c->is_parked))
		sched_yield();
	r->pending = 0x40;
	rig_engine.ops->interrupt(r->v);
	while (atomic_load(&r->pending) >= 0 || !atomic_load(&r->c->is_parked))
		sched_yield();
	rig_engine.ops->kick(r->v);
	return NULL;
}

TEST(hlt_sleeps_until_an_interrupt_and_resumes_after_itself)
{
	struct rig r;
	pthread_t t;
	static const uint8_t handler[] = { 0xff, 0xc0, 0xf4 };  /* inc eax; hlt with IF clear */

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, handler, sizeof(handler));
	rig_gate(&r, 0x40, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0xfb, 0xf4, 0x90);
	CHECK_EQ(pthread_create(&t, NULL, interrupt_when_parked, &r), 0);
	CHECK_EQ(rig_engine.ops->run(r.v, NULL), CPU_EXIT_KICK);
	pthread_join(t, NULL);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	CHECK_EQ(stack64(&r, 0), RIG_CODE + 2);
	rig_fini(&r);
}

TEST(nmis_do_not_nest_and_come_after_iret)
{
	struct rig r;
	static const uint8_t handler[] = { 0xff, 0xc0, 0x48, 0xcf };    /* inc eax; iretq */

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, handler, sizeof(handler));
	rig_gate(&r, X86_EXC_NMI, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0x90, 0xf4);
	r.c->s.nmi_blocked = 1;
	rig_engine.ops->nmi(r.v);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0);
	CHECK_EQ(r.c->s.nmi_pending, 1);
	r.c->s.nmi_blocked = 0;
	r.c->s.mp_state = X86_MP_RUNNABLE;
	r.c->s.rip = RIG_CODE;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	rig_fini(&r);
}

TEST(the_trap_flag_stops_after_every_instruction)
{
	struct rig r;
	static const uint8_t handler[] = { 0xff, 0xc0, 0x48, 0xcf };

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, handler, sizeof(handler));
	rig_gate(&r, X86_EXC_DB, RIG_CODE + 0x800);
	/* pushf; or byte [rsp+1], 1; popf; then traced: nop; rep stosb (3 elements); pushf;
	 * and byte [rsp+1], ~1; popf; hlt */
	RIG_CODE_BYTES(&r, 0x9c, 0x80, 0x4c, 0x24, 1, 1, 0x9d, 0x90, 0xf3, 0xaa, 0x9c,
		       0x80, 0x64, 0x24, 1, 0xfe, 0x9d, 0xf4);
	r.c->s.gpr[X86_RDI] = RIG_DATA;
	r.c->s.gpr[X86_RCX] = 3;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1 + 3 + 3);       /* popf itself is traced, for TF was set before it */
	CHECK_EQ(r.c->s.dr6 & 1 << 14, 1 << 14);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 3);
	rig_fini(&r);
}

TEST(instruction_breakpoints_hit_before_and_rf_steps_over)
{
	struct rig r;
	static const uint8_t handler[] = { 0xff, 0xc3, 0x48, 0x81, 0x4c, 0x24, 0x10, 0, 0, 1, 0, 0x48, 0xcf };

	rig_init(&r, 1);
	/* inc ebx; or qword [rsp+16], RF; iretq */
	rig_code(&r, RIG_CODE + 0x800, handler, sizeof(handler));
	rig_gate(&r, X86_EXC_DB, RIG_CODE + 0x800);
	RIG_CODE_BYTES(&r, 0x90, 0xff, 0xc0, 0x90, 0xf4);
	r.c->s.dr[1] = RIG_CODE + 1;
	r.c->s.dr7 = 1 << 2;
	icpu_debug_changed(r.c);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	CHECK_EQ(r.c->s.gpr[X86_RBX], 1);
	CHECK_EQ(r.c->s.dr6 & 15, 2);
	rig_fini(&r);
}

TEST(data_breakpoints_trap_after_the_store)
{
	struct rig r;
	static const uint8_t handler[] = { 0xf4 };

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE + 0x800, handler, sizeof(handler));
	rig_gate(&r, X86_EXC_DB, RIG_CODE + 0x800);
	/* mov [rbx+12], eax; mov eax, [rbx+8]; mov [rbx+8], eax; nop */
	RIG_CODE_BYTES(&r, 0x89, 0x43, 12, 0x8b, 0x43, 8, 0x89, 0x43, 8, 0x90, 0x90);
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	r.c->s.dr[0] = RIG_DATA + 8;
	r.c->s.dr7 = 1 | 1 << 16 | 3 << 18;     /* write, 4 bytes */
	icpu_debug_changed(r.c);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.dr6 & 15, 1);
	CHECK_EQ(stack64(&r, 0), RIG_CODE + 9);
	rig_fini(&r);
}

TEST(sipi_starts_a_waiting_processor_in_real_mode)
{
	struct rig r;
	static const uint8_t code[] = { 0xb8, 0x34, 0x12, 0xf4 };       /* mov ax, 0x1234; hlt */

	rig_init(&r, 2);
	CHECK_EQ(gmem_write(r.mem, 0x9000, code, sizeof(code)), 0);
	r.v = rig_engine.ops->vcpu(r.vm, 1);
	r.c = (struct icpu *)r.v;
	rig_engine.ops->init(r.v);
	rig_engine.ops->sipi(r.v, 9);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX] & 0xffff, 0x1234);
	CHECK_EQ(r.c->s.seg[X86_CS].sel, 0x900);
	CHECK_EQ(r.c->s.rip, 4);
	/* The second SIPI that systems send finds it halted: dropped, and it sleeps on. */
	rig_engine.ops->sipi(r.v, 9);
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.rip, 4);
	rig_fini(&r);
}

TEST(an_init_and_a_sipi_that_were_not_looked_at_yet_are_in_the_state)
{
	struct x86_state s;
	struct rig r;

	rig_init(&r, 2);
	struct vcpu *ap = cpu_interp.vcpu(r.vm, 1);
	x86_state_reset(&s, 0);
	cpu_interp.set_state(ap, &s, NULL);
	cpu_interp.sipi(ap, 0x12);
	cpu_interp.get_state(ap, &s, NULL);
	CHECK_EQ(s.mp_state, X86_MP_RUNNABLE);
	CHECK_EQ(s.seg[X86_CS].base, 0x12000);
	cpu_interp.get_state(r.v, &s, NULL);
	s.gpr[X86_RAX] = 5;
	cpu_interp.set_state(r.v, &s, NULL);
	cpu_interp.init(r.v);
	cpu_interp.get_state(r.v, &s, NULL);
	CHECK_EQ(s.gpr[X86_RAX], 0);
	CHECK_EQ(s.rip, 0xfff0);
	rig_fini(&r);
}

TEST(avx_state_enters_and_leaves_by_its_xstate_bit)
{
	struct x86_state s;
	struct rig r;

	rig_init(&r, 1);
	cpu_interp.get_state(r.v, &s, NULL);
	CHECK_EQ(s.xsave[X86_XS_BV] & 7, 3);
	memset(s.xsave + X86_XS_AVX, 0xee, 256);        /* not valid: the bit is clear */
	cpu_interp.set_state(r.v, &s, NULL);
	CHECK_EQ(icpu_xinuse(r.c), 3);
	s.xsave[X86_XS_BV] |= 4;
	cpu_interp.set_state(r.v, &s, NULL);
	CHECK_EQ(icpu_xinuse(r.c), 7);
	memset(&s, 0, sizeof(s));
	cpu_interp.get_state(r.v, &s, NULL);
	CHECK_EQ(s.xsave[X86_XS_BV] & 7, 7);
	CHECK_EQ(s.xsave[X86_XS_AVX + 255], 0xee);
	rig_fini(&r);
}

TEST(what_the_host_cannot_run_is_an_invalid_opcode_but_lzcnt_is_bsr)
{
	struct rig r;

	rig_init(&r, 1);
	r.c->missing = 1ull << X86_F_AVX2 | 1ull << X86_F_BMI2 | 1ull << X86_F_LZCNT;
	RIG_CODE_BYTES(&r, 0xc5, 0xfd, 0xef, 0xc0);             /* vpxor ymm0, ymm0, ymm0 */
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_UD);
	RIG_CODE_BYTES(&r, 0xc4, 0xe3, 0xfb, 0xf0, 0xc1, 7);    /* rorx rax, rcx, 7 */
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_UD);
	RIG_CODE_BYTES(&r, 0xf3, 0x0f, 0xbd, 0xc1);             /* lzcnt eax, ecx */
	rig_steps(&r, 1);
	rig_fini(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* User code in windows and the kernel that it has: faults are delivered, what the handler maps is found, and code goes on. */
#include "cpu/bt/bt.h"

#include "cpu/bt/bt_priv.h"
#include "cpu/bt/window.h"
#include "cpu/rig_on_bt.h"
#include "cpu/window_rig.h"
#include "test.h"

enum {
	HANDLERS = RIG_CODE + 0x2000, AT_PF = HANDLERS, AT_GP = HANDLERS + 0x100,
	FIRST = 0x60000, N_PAGES = 200,         /* missing at first */
};

/* A kernel that gives users pages when they are first accessed, those of even numbers for reading alone until they are written. */
static void set_kernel(struct rig *r)
{
	struct code pf;

	/* User segments, and the stack for what interrupts them. */
	*(uint64_t *)gmem_ptr(r->mem, RIG_GDT + 8 * (WR_USER_CS >> 3), 8) = 0x0020fb0000000000;
	*(uint64_t *)gmem_ptr(r->mem, RIG_GDT + 8 * (WR_USER_SS >> 3), 8) = 0x0000f30000000000;
	memcpy(gmem_ptr(r->mem, RIG_TSS + 4, 8), &(uint64_t){ RIG_STACK + 0xf00 }, 8);
	rig_gate(r, X86_EXC_PF, AT_PF);
	rig_gate(r, X86_EXC_GP, AT_GP);
	ASSEMBLE(&pf, "push rax; push rcx; mov rax, cr2; and rax, -4096; mov rcx, rax; shr rcx, 9; test byte ptr [rsp + 16], 2; jnz 6f\n"
			"test eax, 0x1000; jnz 6f; or rax, 5; jmp 7f; 6: or rax, 7; 7: mov [rcx + 0x204000], rax\n"
			"pop rcx; pop rax; add rsp, 8; inc qword ptr [0x31008]; iretq");
	_Static_assert((2 << 20) + RIG_PT == 0x204000 && RIG_STACK + 0x1008 == 0x31008, "as the handler has it");
	rig_code(r, AT_PF, pf.from, (unsigned)(pf.to - pf.from));
	rig_code(r, AT_GP, "\xf4", 1);
	for (unsigned i = 0; i < N_PAGES; i++)
		*rig_pte(r, FIRST + 4096 * i) = 0;
}

/* CODE, which begins with the first missing page in RBX, runs on both to its end: HLT, of the handler of what HLT does to users. */
static void run_guests(struct window_rig *w, const struct code *code)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = i ? &w->bt : &w->interp;

		set_kernel(r);
		user_set(r, code, FIRST, RIG_STACK + 0x800);
		rig_run_to_halt(r);
		CHECK_EQ(r->c->s.rip, AT_GP + 1);
	}
	window_rig_compare(w, &(struct icpu_event){ .vector = 0 }, &(struct icpu_event){ .vector = 0 }, false, "at the end");
	CHECK_MEM(gmem_ptr(w->bt.mem, FIRST, N_PAGES * 4096), gmem_ptr(w->interp.mem, FIRST, N_PAGES * 4096), N_PAGES * 4096);
	CHECK_MEM(gmem_ptr(w->bt.mem, RIG_STACK + 0x1000, 4096), gmem_ptr(w->interp.mem, RIG_STACK + 0x1000, 4096), 4096);
}

static uint64_t n_page_faults(struct window_rig *w) { return *(uint64_t *)gmem_ptr(w->bt.mem, RIG_STACK + 0x1008, 8); }

TEST(pages_that_a_handler_gives_are_found_and_nothing_is_done_twice)
{
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	ASSEMBLE(&code, "mov rsi, rbx; mov ecx, 200\n6: mov rax, [rbx]; add rdx, rax; add [rbx + 8], rcx; lea rdx, [rdx + rdx * 2 + 1]\n"
			"mov [rbx + 4080], rdx; add rbx, 4096; dec ecx; jnz 6b\n"
			"mov rbx, rsi; mov ecx, 199\n6: xadd [rbx + 4092], rdx; adc rdx, [rbx]; add rbx, 4096; loop 6b");
	run_guests(&w, &code);
	/* Those of odd numbers at once, the others by two. */
	CHECK_EQ(n_page_faults(&w), N_PAGES * 3 / 2);
	CHECK(icpu_window_mapped(w.bt.c->space) >= N_PAGES);
	window_rig_fini(&w);
}

TEST(a_stack_grows_by_pages_that_a_handler_gives)
{
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	/* A function that calls itself, with a frame that is larger than a page. */
	ASSEMBLE(&code, "lea rsp, [rbx + 0xc7ff8]; mov ecx, 150; call 6f; jmp 9f\n"
			"6: push rbp; mov rbp, rsp; sub rsp, 5000; push rcx; mov [rbp - 2500], rcx; dec ecx; jz 7f; call 6b\n"
			"7: pop rcx; add rdx, rcx; add rdx, [rbp - 2500]; leave; ret\n9:");
	run_guests(&w, &code);
	CHECK_EQ(w.bt.c->s.gpr[X86_RDX], w.interp.c->s.gpr[X86_RDX]);
	CHECK(n_page_faults(&w) > 150);
	CHECK(icpu_window_mapped(w.bt.c->space));
	window_rig_fini(&w);
}

TEST(a_window_that_has_too_many_faults_is_closed_and_code_goes_on)
{
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	w.bt.c->space->window.is_busy = true;   /* how many are too many is a matter of time */
	/* Page 0 is never in a window. */
	ASSEMBLE(&code, "mov r8d, 2000\n6: add [8], r8; dec r8d; jnz 6b; mov rdx, [8]");
	run_guests(&w, &code);
	CHECK_EQ(w.bt.c->s.gpr[X86_RDX], 2000 * 2001 / 2 + WR_TARGET);
	CHECK(!w.bt.c->space->window.set);
	CHECK(w.bt.c->stats.window_faults < 10);
	window_rig_fini(&w);
}

TEST(code_that_keeps_meeting_memory_that_is_new_does_without_a_window)
{
	struct window_rig w;
	struct code code;

	window_rig_init(&w);
	bt_of(w.bt.c)->keeps_windows = false;
	/* It is gone on with at the second instruction after each fault of that one. */
	ASSEMBLE(&code, "mov rsi, rbx; mov ecx, 200\n6: mov rax, [rbx]; mov [rbx + 8], rcx; add rdx, rax; add rbx, 4096; dec ecx; jnz 6b\n"
			"mov rbx, rsi; mov ecx, 200\n6: add rdx, [rbx + 8]; add rbx, 4096; loop 6b");
	run_guests(&w, &code);
	CHECK_EQ(n_page_faults(&w), N_PAGES * 3 / 2);
	CHECK(w.bt.c->stats.window_soft);
	CHECK(w.bt.c->stats.window_faults < N_PAGES);
	CHECK(w.bt.c->space->window.set);
	window_rig_fini(&w);
}

TEST(indirect_jumps_of_before_a_window_are_found_anew_once)
{
	struct window_rig w;
	struct code code;
	uint64_t exits[2];

	window_rig_init(&w);
	ASSEMBLE(&code, "lea rax, [rip + 7f]; mov ecx, 3000\n6: call rax; dec ecx; jnz 6b; jmp 9f\n7: inc rdx; ret\n9:");
	for (unsigned has_window = 0; has_window < 2; has_window++) {
		if (has_window) {
			CHECK(bt_window_now(bt_of(w.bt.c)));
		} else {
			icpu_window_close(w.bt.c->space);
			icpu_inline_forget_code(w.bt.c);
		}
		exits[0] = w.bt.c->stats.code_exits[CPU_CODE_EXIT_UNMAPPED];
		user_set(&w.bt, &code, RIG_DATA, RIG_STACK + 0x800);
		w.bt.c->s.gpr[X86_RDX] = 0;
		CHECK_EQ(user_run(&w.bt).vector, X86_EXC_GP);
		CHECK_EQ(w.bt.c->s.gpr[X86_RDX], 3000);
		exits[1] = w.bt.c->stats.code_exits[CPU_CODE_EXIT_UNMAPPED];
		CHECK(exits[1] - exits[0] < 100);
	}
	window_rig_fini(&w);
}

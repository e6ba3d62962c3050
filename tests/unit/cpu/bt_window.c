/* SPDX-License-Identifier: Apache-2.0 */
/* User code in windows: each kind of instruction that accesses memory, where that is not to be had as it wants it, ends as it
 * does on the interpreter. */
#include "cpu/bt/bt.h"

#include "cpu/bt/bt_priv.h"
#include "cpu/rig_on_bt.h"
#include "cpu/window_rig.h"
#include "test.h"

static const uint64_t good = RIG_DATA + 0x800, good_stack = RIG_STACK + 0x800;

static const uint64_t places[] = {
	/* Present, and aligned in several ways; across pages. */
	RIG_DATA + 0x100, RIG_DATA + 0x108, RIG_DATA + 0x10c, RIG_DATA + 0x103, RIG_DATA + 0xff8, RIG_DATA + 0xffc,
	/* Not to be written; from or to there. */
	WR_READ_ONLY, WR_READ_ONLY + 0x808, WR_READ_ONLY - 8, WR_READ_ONLY - 4, WR_READ_ONLY + 0x1000 - 4, WR_READ_ONLY_2 - 1,
	/* Missing. */
	WR_MISSING, WR_MISSING + 0x804, WR_MISSING - 16, WR_MISSING - 12, WR_MISSING - 8, WR_MISSING - 4, WR_MISSING - 1, WR_MISSING + 0x1000 - 4,
	WR_MISSING + 0x1000, WR_MISSING + 0x1008,
	/* The supervisor's. */
	WR_SUPER + 0x20, WR_SUPER - 4, WR_SUPER + 0x1000 - 8,
	/* Page 0, and before it. */
	0, 8, 0x10, 0xff8, 4, (uint64_t)-8, (uint64_t)-16,
	/* Elsewhere: with a region; with none as there are too many; with nothing at all. */
	3 * TIB + RIG_DATA, 3 * TIB + WR_MISSING - 4, 127 * TIB + RIG_DATA + 0xffc, 10 * TIB + RIG_DATA, 11 * TIB + RIG_DATA + 0xffc,
	12 * TIB + WR_MISSING, 13 * TIB + WR_READ_ONLY, 14 * TIB + RIG_DATA + 4, 9 * TIB, 9 * TIB + RIG_DATA, 2 * TIB - 8,
	/* Where a region ends, and the lower half. */
	4 * TIB - 8, 4 * TIB - 4, 4 * TIB - 16, 4 * TIB, 4 * TIB + 4, 4 * TIB + 8, 4 * TIB - 4096, 5 * TIB - 4,
	0x7ffffffffff0, 0x7ffffffffff8, 0x7ffffffffffc, 0x7fffffffffff,
	/* The upper half: mapped for users, or not at all. */
	0xffff800000000000 + RIG_DATA, 0xffff800000000000 + WR_MISSING - 4, 0xffffffff80000000, 0xffff800000000000,
	/* Not canonical. */
	0x800000000000, 0x0001000000000000 + RIG_DATA, 0x0100000000000000 + RIG_DATA, 0x8000000000000000 + RIG_DATA, 0xfffe000000000000 + RIG_DATA,
	0xffff000000000000 + RIG_DATA, 0x4000000000000000, 0xbfff000000000000 + 3 * TIB + RIG_DATA, 0xff00000000000000 + 127 * TIB + RIG_DATA,
};

/* How instructions come to their memory: in the window; there, but what they store may have begun when they fault, as on a
 * processor (x87 of more than 8 bytes), or is the return address of a CALL that leads nowhere; or otherwise. */
enum how { WINDOW, LOOSE, SOFT };

static void run_both(struct window_rig *w, enum how how, const char *text, const struct code *code, uint64_t rbx, uint64_t rsp, bool is_warm)
{
	struct icpu_event ev[2];
	char what[200];

	snprintf(what, sizeof(what), "%s; rbx %" PRIx64 ", rsp %" PRIx64 "%s", text, rbx, rsp, is_warm ? ", again" : "");
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = i ? &w->bt : &w->interp;

		if (!is_warm)
			icpu_tlb_flush(r->c, false);
		user_set(r, code, rbx, rsp);
		ev[i] = user_run(r);
	}
	window_rig_compare(w, &ev[0], &ev[1], how == LOOSE, what);
	CHECK(!is_warm || rig_window_frags(&w->bt));
}

/* TEXT with each of the places for its memory operand, its stack, or both. */
static void run_case(struct window_rig *w, enum how how, const char *text, const struct code *code)
{
	for (unsigned is_warm = 0; is_warm < 2; is_warm++)
		for (unsigned i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
			run_both(w, how, text, code, good, good_stack, is_warm);
			run_both(w, how, text, code, places[i], good_stack, is_warm);
			run_both(w, how, text, code, good, places[i], is_warm);
			run_both(w, how, text, code, places[i], places[i] - 16, is_warm);
		}
	if (how == WINDOW && !icpu_window_mapped(w->bt.c->space))
		FAIL("%s: nothing is mapped in the window", text);
}

/* Between instructions that change registers, those that code does not keep in the host's own, too. */
#define CASE(w, how, text)                                                                                                        \
	do {                                                                                                                    \
		struct code code_;                                                                                              \
		ASSEMBLE(&code_, "add r10, 1; mov r11, r10; add rax, 5; " text "; add rcx, 1; lea r10, [r10 + r11]");           \
		run_case(w, how, text, &code_);                                                                                   \
	} while (0)

TEST_SLOW(moves_and_arithmetic_end_as_on_the_interpreter)
{
	struct window_rig w;

	window_rig_init(&w);
	CASE(&w, WINDOW, "mov rax, [rbx]");
	CASE(&w, WINDOW, "mov [rbx], r10");
	CASE(&w, WINDOW, "mov byte ptr [rbx + 3], 7");
	CASE(&w, WINDOW, "movzx r11d, word ptr [rbx]");
	CASE(&w, WINDOW, "movsxd rdx, dword ptr [rbx]");
	CASE(&w, WINDOW, "mov rbx, [rbx]");
	CASE(&w, WINDOW, "mov dword ptr [rbx + 64], 0x1234567");
	CASE(&w, WINDOW, "add [rbx], rax");
	CASE(&w, WINDOW, "sbb rdx, [rbx + 8]");
	CASE(&w, WINDOW, "adc byte ptr [rbx], 3");
	CASE(&w, WINDOW, "inc qword ptr [rbx]");
	CASE(&w, WINDOW, "neg dword ptr [rbx]");
	CASE(&w, WINDOW, "xadd [rbx], rdx");
	CASE(&w, WINDOW, "lock xadd [rbx], eax");
	CASE(&w, WINDOW, "xchg [rbx], r11");
	CASE(&w, WINDOW, "cmpxchg [rbx], rdx");
	CASE(&w, WINDOW, "lock cmpxchg [rbx], r10");
	CASE(&w, WINDOW, "lock cmpxchg8b [rbx]");
	CASE(&w, SOFT, "lock cmpxchg16b [rbx]");
	CASE(&w, WINDOW, "lock inc word ptr [rbx]");
	CASE(&w, WINDOW, "shl qword ptr [rbx], cl");
	CASE(&w, WINDOW, "shld [rbx], rdx, 3");
	CASE(&w, WINDOW, "imul rdx, [rbx], 77");
	CASE(&w, WINDOW, "mul qword ptr [rbx]");
	CASE(&w, SOFT, "div qword ptr [rbx]");
	CASE(&w, SOFT, "idiv dword ptr [rbx]");
	CASE(&w, SOFT, "div byte ptr [rbx]");
	CASE(&w, WINDOW, "sete byte ptr [rbx]");
	CASE(&w, WINDOW, "cmovne rdx, [rbx]");
	CASE(&w, SOFT, "bt [rbx], rcx");
	CASE(&w, SOFT, "lock bts [rbx], rdx");
	CASE(&w, WINDOW, "bt dword ptr [rbx], 5");
	CASE(&w, WINDOW, "movbe rdx, [rbx]");
	CASE(&w, WINDOW, "popcnt rdx, [rbx]");
	CASE(&w, WINDOW, "andn rdx, rax, [rbx]");
	CASE(&w, SOFT, "mov rax, fs:[0]");
	CASE(&w, SOFT, "mov gs:[8], r11");
	CASE(&w, SOFT, "add fs:[rcx - 0x11113], rdx");
	CASE(&w, SOFT, "mov eax, [ebx]");
	CASE(&w, WINDOW, "movabs rax, [0x20100]");
	CASE(&w, SOFT, "movabs [0x24000], eax");
	window_rig_fini(&w);
}

TEST_SLOW(groups_of_accesses_end_as_on_the_interpreter)
{
	struct window_rig w;

	window_rig_init(&w);
	CASE(&w, WINDOW, "mov rdx, [rbx]; mov [rbx + 8], rdx; add rdx, [rbx + 16]; mov [rbx - 8], rdx");
	CASE(&w, WINDOW, "lea r8, [rbx + 24]; mov rdx, [rbx - 16]; xor [r8 - 8], rdx; push rdx; mov r9, [r8 - 40]; pop rdx");
	CASE(&w, WINDOW, "push rax; push rcx; push r10; mov rdx, [rsp + 8]; pop r9; pop r8; pop r11");
	CASE(&w, WINDOW, "and ecx, 15; mov rdx, [rbx + rcx * 8]; mov [rbx + rcx * 8 + 4], rdx; mov r8d, [rbx + rcx * 4]");
	CASE(&w, WINDOW, "cmp rax, rdx; mov r9, [rbx + rcx]; mov r8, [rbx + 4]; adc r8, r9; setc byte ptr [rbx]");
	CASE(&w, WINDOW, "mov rdx, [rsp]; mov r8, [rbp + 8]; add rsp, 8; mov [rsp], r8; lea rsp, [rsp - 24]; mov r9, [rsp + 32]");
	CASE(&w, WINDOW, "mov edx, 5; 8: mov r8, [rbx]; add [rbx + 8], r8; add rbx, 4; dec edx; jnz 8b");
	CASE(&w, WINDOW, "mov edx, 70; 8: mov r8, [rbx + rdx * 8 - 520]; add r9, r8; mov [rbx + rdx * 8 - 512], r9; dec edx; jnz 8b");
	window_rig_fini(&w);
}

TEST_SLOW(stacks_and_jumps_end_as_on_the_interpreter)
{
	struct window_rig w;

	window_rig_init(&w);
	CASE(&w, WINDOW, "push rax");
	CASE(&w, WINDOW, "push r10");
	CASE(&w, WINDOW, "push rsp");
	CASE(&w, WINDOW, "push 0x77");
	CASE(&w, WINDOW, "push 0x12345678");
	CASE(&w, SOFT, ".byte 0x66, 0x6a, 0x77");
	CASE(&w, SOFT, "push ax");
	CASE(&w, SOFT, "push qword ptr [rbx]");
	CASE(&w, SOFT, "push qword ptr [rsp + 8]");
	CASE(&w, SOFT, "push fs");
	CASE(&w, WINDOW, "pop rdx");
	CASE(&w, WINDOW, "pop r11");
	CASE(&w, WINDOW, "pop rsp");
	CASE(&w, SOFT, "pop dx");
	CASE(&w, SOFT, "pop qword ptr [rbx]");
	CASE(&w, SOFT, "pop qword ptr [rsp + 8]");
	CASE(&w, WINDOW, "leave");
	CASE(&w, SOFT, "enter 32, 0");
	CASE(&w, SOFT, "enter 16, 3");
	CASE(&w, WINDOW, "pushf");
	CASE(&w, WINDOW, "popf");
	CASE(&w, WINDOW, "call 8f; add rdx, 3; 8: lea r8, [r8 + 1]");
	CASE(&w, WINDOW, "lea rdx, [rip + 8f]; call rdx; 8: lea r8, [r8 + 1]");
	CASE(&w, LOOSE, "call [rbx]");
	CASE(&w, LOOSE, "call [rsp]");
	CASE(&w, WINDOW, "jmp [rbx]");
	CASE(&w, WINDOW, "jmp [rsp + 8]");
	CASE(&w, SOFT, "mov rdx, 0x123456789abcdef0; jmp rdx");
	CASE(&w, LOOSE, "mov rdx, 0x8000000000000000; call rdx");
	CASE(&w, WINDOW, "ret");
	CASE(&w, WINDOW, "ret 24");
	CASE(&w, SOFT, "iretq");
	CASE(&w, SOFT, ".byte 0x48, 0xcb");
	CASE(&w, SOFT, "fldcw [rbx]");
	window_rig_fini(&w);
}

TEST_SLOW(strings_vectors_and_x87_end_as_on_the_interpreter)
{
	struct window_rig w;

	window_rig_init(&w);
	CASE(&w, SOFT, "movsb");
	CASE(&w, SOFT, "movsq");
	CASE(&w, SOFT, "mov ecx, 5; rep movsq");
	CASE(&w, SOFT, "mov ecx, 33; rep movsb");
	CASE(&w, SOFT, "mov ecx, 9; rep stosd");
	CASE(&w, SOFT, "stosb");
	CASE(&w, SOFT, "lodsq");
	CASE(&w, SOFT, "scasd");
	CASE(&w, SOFT, "mov ecx, 9; repe cmpsw");
	CASE(&w, SOFT, "mov ecx, 7; std; rep movsd; cld");
	CASE(&w, WINDOW, "movaps xmm3, [rbx]");
	CASE(&w, WINDOW, "movaps [rbx], xmm3");
	CASE(&w, WINDOW, "movups xmm3, [rbx]; movups [rbx + 16], xmm3");
	CASE(&w, WINDOW, "movdqa xmm1, [rbx]; paddq xmm1, [rbx + 16]; movdqa [rbx + 32], xmm1");
	CASE(&w, WINDOW, "paddb xmm2, [rbx]");
	CASE(&w, WINDOW, "movq xmm2, qword ptr [rbx]; movlps [rbx + 4], xmm2");
	CASE(&w, WINDOW, "cvtsi2sd xmm2, qword ptr [rbx]; addsd xmm2, [rbx]");
	CASE(&w, WINDOW, "movnti [rbx], rax");
	CASE(&w, WINDOW, "movntdq [rbx], xmm4");
	CASE(&w, WINDOW, "vmovdqu ymm2, [rbx]; vpaddd ymm3, ymm2, [rbx + 32]; vmovdqu [rbx + 64], ymm3");
	CASE(&w, WINDOW, "vmovdqa ymm2, [rbx]");
	CASE(&w, WINDOW, "vmovdqa [rbx], ymm2");
	CASE(&w, SOFT, "vmaskmovps [rbx], ymm2, ymm3");
	CASE(&w, WINDOW, "vpbroadcastd ymm4, [rbx]");
	CASE(&w, WINDOW, "fld qword ptr [rbx]; fstp qword ptr [rbx + 8]");
	CASE(&w, WINDOW, "fild dword ptr [rbx]; fistp qword ptr [rbx]");
	CASE(&w, LOOSE, "fld1; fstp tbyte ptr [rbx]");
	CASE(&w, WINDOW, "fld tbyte ptr [rbx]; fadd dword ptr [rbx + 12]; fstp dword ptr [rbx]");
	CASE(&w, WINDOW, "fnstcw [rbx]; fnstsw [rbx + 2]");
	CASE(&w, LOOSE, "fxsave [rbx]");
	CASE(&w, LOOSE, "fnstenv [rbx]");
	CASE(&w, WINDOW, "stmxcsr [rbx]");
	CASE(&w, WINDOW, "pinsrw xmm1, [rbx], 3; pextrd [rbx], xmm1, 1");
	CASE(&w, SOFT, "prefetcht0 [rbx]; clflush [rbx]");
	window_rig_fini(&w);
}

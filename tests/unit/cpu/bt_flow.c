/* SPDX-License-Identifier: Apache-2.0 */
/* Where the translator's fragments begin and end, and what happens when their groups of accesses do not hold. */
#include "cpu/bt/bt.h"

#include "cpu/bt/bt_priv.h"
#include "cpu/interp_rig.h"
#include "test.h"

/* Everything is translated at once. */
static struct bt_cpu *start(struct rig *r)
{
	rig_init(r, 1);
	memset(bt_of(r->c)->seen, 0xff, sizeof(bt_of(r->c)->seen));
	return bt_of(r->c);
}

/* By whatever but jumps. */
static uint64_t n_other_exits(const struct bt_cpu *b)
{
	uint64_t n = 0;

	for (unsigned why = CPU_CODE_EXIT_UNMAPPED; why < CPU_N_CODE_EXITS; why++)
		n += b->i.stats.code_exits[why];
	return n;
}

static uint64_t n_call_outs(const struct bt_cpu *b)
{
	uint64_t n = 0;

	for (unsigned op = 0; op < X86_N_OPS; op++)
		n += b->n_call_outs[op];
	return n;
}

/* Sums up R15 .. 1 twice through two words at RBX, which are in one group. */
static const uint8_t sum_loop[] = {
	0x4c, 0x89, 0x3b,               /* l: mov [rbx], r15 */
	0x4c, 0x89, 0x7b, 0x08,         /* mov [rbx + 8], r15 */
	0x48, 0x03, 0x03,               /* add rax, [rbx] */
	0x48, 0x03, 0x43, 0x08,         /* add rax, [rbx + 8] */
	0x49, 0xff, 0xcf,               /* dec r15 */
	0x75, 0xed,                     /* jnz l */
	0xf4,                           /* hlt */
};

static void sum_up(struct rig *r, uint64_t at)
{
	rig_code(r, RIG_CODE, sum_loop, sizeof(sum_loop));
	r->c->s.gpr[X86_RAX] = 0;
	r->c->s.gpr[X86_RBX] = at;
	r->c->s.gpr[X86_R15] = 1000;
	rig_run_to_halt(r);
	CHECK_EQ(r->c->s.gpr[X86_RAX], 1001000);
	CHECK_EQ(r->c->s.gpr[X86_R15], 0);
}

TEST(a_group_across_two_pages_stays_in_code)
{
	struct rig r;
	struct bt_cpu *b = start(&r);

	sum_up(&r, RIG_DATA + 0xff8);
	CHECK(n_call_outs(b) < 5);
	CHECK(n_other_exits(b) < 5);
	rig_fini(&r);
}

TEST(a_word_of_a_group_across_two_pages_is_exact)
{
	struct rig r;

	start(&r);
	sum_up(&r, RIG_DATA + 0xffc);           /* the first word itself */
	CHECK_EQ(*(uint32_t *)gmem_ptr(r.mem, RIG_DATA + 0xffc, 4), 1);
	CHECK_EQ(*(uint32_t *)gmem_ptr(r.mem, RIG_DATA + 0x1000, 4), 0);
	CHECK_EQ(*(uint32_t *)gmem_ptr(r.mem, RIG_DATA + 0x1004, 4), 1);
	rig_fini(&r);
}

TEST(a_fault_in_the_second_page_of_a_group_is_exact)
{
	struct rig r;

	start(&r);
	rig_gate(&r, X86_EXC_PF, RIG_CODE + 0x100);
	rig_code(&r, RIG_CODE + 0x100, "\xf4", 1);
	*rig_pte(&r, RIG_DATA + 0x1000) = 0;
	rig_code(&r, RIG_CODE, sum_loop, sizeof(sum_loop));
	r.c->s.gpr[X86_RAX] = 0;
	r.c->s.gpr[X86_RBX] = RIG_DATA + 0xff8;
	r.c->s.gpr[X86_R15] = 7;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.cr2, RIG_DATA + 0x1000);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0);
	CHECK_EQ(*(uint64_t *)gmem_ptr(r.mem, RIG_DATA + 0xff8, 8), 7);
	rig_fini(&r);
}

TEST(a_fragment_ends_where_a_jump_leads)
{
	struct rig r;
	struct bt_cpu *b = start(&r);
	const struct bt_frag *f;

	/* test eax, eax; jz m; inc ecx; inc ecx; m: inc edx; inc edx; hlt */
	RIG_CODE_BYTES(&r, 0x85, 0xc0, 0x74, 0x04, 0xff, 0xc1, 0xff, 0xc1, 0xff, 0xc2, 0xff, 0xc2, 0xf4);
	r.c->s.gpr[X86_RAX] = 1;
	r.c->s.gpr[X86_RCX] = r.c->s.gpr[X86_RDX] = 0;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 2);
	CHECK_EQ(r.c->s.gpr[X86_RDX], 2);
	f = bt_frag_at(b, RIG_CODE);
	CHECK(f && f->n_bytes == 8);
	f = bt_frag_at(b, RIG_CODE + 8);
	CHECK(f && f->n_bytes == 5);
	rig_fini(&r);
}

/* Both are found at once, and where they return to: functions 64 KiB apart are not in each other's way. */
TEST(functions_that_agree_in_their_lowest_bits_are_both_found_by_indirect_calls)
{
	enum { ONE = 0x60000, OTHER = ONE + 0x10000, BACK = RIG_CODE + 2 };
	static const uint8_t function[] = { 0x48, 0xff, 0xc6, 0xc3 };           /* inc rsi; ret */
	struct rig r;

	rig_init(&r, 1);
	const struct bt_cpu *b = bt_of(r.c);

	rig_code(&r, ONE, function, sizeof(function));
	rig_code(&r, OTHER, function, sizeof(function));
	/* call rax; xchg rax, rbx; dec rcx; jnz back; hlt */
	RIG_CODE_BYTES(&r, 0xff, 0xd0, 0x48, 0x93, 0x48, 0xff, 0xc9, 0x75, 0xf7, 0xf4);
	r.c->s.gpr[X86_RAX] = ONE;
	r.c->s.gpr[X86_RBX] = OTHER;
	r.c->s.gpr[X86_RCX] = 100;
	r.c->s.gpr[X86_RSI] = 0;
	r.c->s.gpr[X86_RSP] = RIG_STACK + 0x800;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RSI], 100);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t va = i == 0 ? ONE : i == 1 ? OTHER : BACK;
		const struct bt_frag *f = bt_frag_at(b, va);

		CHECK(f && b->ind[f->page->key][bt_indirect_index(va, va == BACK)] == b->cache->rx + f->ientry);
	}
	rig_fini(&r);
}

TEST(each_way_out_of_code_is_counted_by_its_reason)
{
	struct rig r;
	struct bt_cpu *b = start(&r);
	const uint64_t *n = b->i.stats.code_exits;

	/* dec ecx; jnz l; jmp rax; nop; l: jmp start; (at 0x20) hlt */
	RIG_CODE_BYTES(&r, 0xff, 0xc9, 0x75, 0x03, 0xff, 0xe0, 0x90, 0xeb, 0xf7);
	*(uint8_t *)gmem_ptr(r.mem, RIG_CODE + 0x20, 1) = 0xf4;
	r.c->s.gpr[X86_RCX] = 100;
	r.c->s.gpr[X86_RAX] = RIG_CODE + 0x20;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	CHECK(n[CPU_CODE_EXIT_LINK] > 0 && n[CPU_CODE_EXIT_LINK] < 5);
	CHECK_EQ(n[CPU_CODE_EXIT_INDIRECT], 1);
	CHECK_EQ(n[CPU_CODE_EXIT_END], 1);      /* hlt */
	CHECK_EQ(n[CPU_CODE_EXIT_UNMAPPED] + n[CPU_CODE_EXIT_AWAY] + n[CPU_CODE_EXIT_OTHER], 0);
	rig_fini(&r);
}

TEST(each_reason_to_leave_code_has_a_name_of_its_own)
{
	for (unsigned a = 0; a < CPU_N_CODE_EXITS; a++)
		for (unsigned b = 0; b < a; b++)
			CHECK(strcmp(cpu_code_exit_name(a), cpu_code_exit_name(b)));
}

/* A fault in the second instruction, whose handler goes on behind it. */
TEST(no_fragment_ends_where_the_guest_came_back_from_a_fault)
{
	/* inc ecx; mov [rbx], ecx; inc edx; inc edx; hlt */
	static const uint8_t code[] = { 0xff, 0xc1, 0x89, 0x0b, 0xff, 0xc2, 0xff, 0xc2, 0xf4 };
	/* add qword [rsp + 8], 2; add rsp, 8; iretq */
	static const uint8_t handler[] = { 0x48, 0x83, 0x44, 0x24, 0x08, 0x02, 0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf };
	struct rig r;
	struct bt_cpu *b = start(&r);
	const struct bt_frag *f;

	rig_gate(&r, X86_EXC_PF, RIG_CODE + 0x100);
	rig_code(&r, RIG_CODE + 0x100, handler, sizeof(handler));
	*rig_pte(&r, RIG_DATA) = 0;
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.rip = RIG_CODE + 2;
	rig_run_to_halt(&r);
	CHECK(bt_frag_at(b, RIG_CODE + 4));
	r.c->s.rip = RIG_CODE;
	r.c->s.mp_state = X86_MP_RUNNABLE;
	rig_run_to_halt(&r);
	f = bt_frag_at(b, RIG_CODE);
	CHECK(f && f->n_bytes == sizeof(code));
	rig_fini(&r);
}

TEST(memory_that_is_written_for_the_first_time_stays_checked_for_writing)
{
	/* l: mov rax, [rbx]; add rax, 1; mov [rbx], rax; add rbx, 4096; dec r15; jnz l; hlt */
	static const uint8_t code[] = { 0x48, 0x8b, 0x03, 0x48, 0x83, 0xc0, 0x01, 0x48, 0x89, 0x03,
					0x48, 0x81, 0xc3, 0x00, 0x10, 0, 0, 0x49, 0xff, 0xcf, 0x75, 0xea, 0xf4 };
	/* mov rdx, cr2; shr rdx, 12; or byte [rdx * 8 + 2 MiB + RIG_PT], 2; add rsp, 8; iretq */
	static const uint8_t handler[] = { 0x0f, 0x20, 0xd2, 0x48, 0xc1, 0xea, 0x0c, 0x80, 0x0c, 0xd5, 0, RIG_PT >> 8, 0x20, 0, 0x02,
					   0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf };
	enum { PAGES = 15 };
	struct rig r;
	struct bt_cpu *b = start(&r);
	const struct bt_frag *f;

	r.c->s.cr0 |= X86_CR0_WP;
	rig_gate(&r, X86_EXC_PF, RIG_CODE + 0x100);
	rig_code(&r, RIG_CODE + 0x100, handler, sizeof(handler));
	for (unsigned n = 0; n < PAGES; n++)
		*rig_pte(&r, RIG_DATA + n * 4096) &= ~2ull;
	r.c->s.gpr[X86_RBX] = RIG_DATA;
	r.c->s.gpr[X86_R15] = PAGES;
	rig_code(&r, RIG_CODE, code, sizeof(code));
	rig_run_to_halt(&r);
	for (unsigned n = 0; n < PAGES; n++)
		CHECK_EQ(*(uint64_t *)gmem_ptr(r.mem, RIG_DATA + n * 4096, 8), 1);
	f = bt_frag_at(b, RIG_CODE);
	CHECK(f && !f->page->less[BT_LESS_WRITES]);
	rig_fini(&r);
}

static uint64_t run_data(struct rig *r)
{
	r->c->s.gpr[X86_RAX] = ~0ull;
	r->c->s.rip = RIG_DATA;
	r->c->s.mp_state = X86_MP_RUNNABLE;
	rig_run_to_halt(r);
	return r->c->s.gpr[X86_RAX];
}

/* More entries lead to a page than are noted side by side: when it begins to hold code, all of them have to go. */
TEST(a_page_with_code_is_written_unseen_through_none_of_many_addresses)
{
	/* l: mov [rbx], r8; add rbx, 4096; dec r15; jnz l; hlt */
	static const uint8_t fill[] = { 0x4c, 0x89, 0x03, 0x48, 0x81, 0xc3, 0x00, 0x10, 0, 0, 0x49, 0xff, 0xcf, 0x75, 0xf1, 0xf4 };
	enum { ALIASES = 3 * ICPU_WRITER_WAYS, AT = RIG_DATA + 0x20000 };
	const uint64_t mov_eax_hlt = 0xf400000000b8;    /* mov eax, 0; hlt */
	struct rig r;

	start(&r);
	for (unsigned n = 0; n < ALIASES; n++)
		*rig_pte(&r, AT + n * 4096) = *rig_pte(&r, RIG_DATA);
	for (unsigned n = 0; n <= ALIASES; n++) {
		/* First through all, then through each. */
		r.c->s.gpr[X86_R8] = mov_eax_hlt | (uint64_t)n << 8;
		r.c->s.gpr[X86_RBX] = n ? AT + (n - 1) * 4096 : AT;
		r.c->s.gpr[X86_R15] = n ? 1 : ALIASES;
		r.c->s.mp_state = X86_MP_RUNNABLE;
		rig_code(&r, RIG_CODE, fill, sizeof(fill));
		rig_run_to_halt(&r);
		CHECK_EQ(run_data(&r), n);
	}
	CHECK(bt_frag_at(bt_of(r.c), RIG_DATA));
	rig_fini(&r);
}

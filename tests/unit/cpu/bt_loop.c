/* SPDX-License-Identifier: Apache-2.0 */
/* Loops that the translator unrolls: when, and that nobody sees it. */
#include "cpu/bt/bt.h"

#include "cpu/bt/bt_priv.h"
#include "cpu/interp_rig.h"
#include "test.h"

/* Everything is translated at once, and the first loop that turns is unrolled. */
static struct bt_cpu *start(struct rig *r)
{
	rig_init(r, 1);
	memset(bt_of(r->c)->seen, 0xff, sizeof(bt_of(r->c)->seen));
	return bt_of(r->c);
}

/* Adds R15 bytes from RBX on to RAX. */
static const uint8_t add_bytes[] = {
	0x0f, 0xb6, 0x0b,               /* l: movzx ecx, byte [rbx] */
	0x48, 0x01, 0xc8,               /* add rax, rcx */
	0x48, 0xff, 0xc3,               /* inc rbx */
	0x49, 0xff, 0xcf,               /* dec r15 */
	0x75, 0xf2,                     /* jnz l */
	0xf4,                           /* hlt */
};

static void set_up(struct rig *r, uint64_t at, uint64_t turns)
{
	struct x86_state *s = &r->c->s;

	rig_code(r, RIG_CODE, add_bytes, sizeof(add_bytes));
	for (unsigned i = 0; i < 4096; i++)
		for (unsigned page = 0; page < 4; page++)
			*(uint8_t *)gmem_ptr(r->mem, RIG_DATA + 4096 * page + i, 1) = (uint8_t)(i * 7 + page);
	s->gpr[X86_RAX] = 0;
	s->gpr[X86_RBX] = at;
	s->gpr[X86_R15] = turns;
	s->rip = RIG_CODE;
	s->mp_state = X86_MP_RUNNABLE;
}

static uint64_t sum(struct rig *r, uint64_t at, uint64_t n)
{
	uint64_t all = 0;

	while (n--)
		all += *(uint8_t *)gmem_ptr(r->mem, at++, 1);
	return all;
}

TEST(a_loop_along_memory_is_unrolled_and_ends_after_any_number_of_turns)
{
	struct rig r;
	struct bt_cpu *b = start(&r);

	for (unsigned turns = 1; turns < 60; turns++) {
		set_up(&r, RIG_DATA + 0xfe0, turns);
		rig_run_to_halt(&r);
		CHECK_EQ(r.c->s.gpr[X86_RAX], sum(&r, RIG_DATA + 0xfe0, turns));
		CHECK_EQ(r.c->s.gpr[X86_RBX], RIG_DATA + 0xfe0 + turns);
		CHECK_EQ(r.c->s.gpr[X86_R15], 0);
	}
	const struct bt_frag *f = bt_frag_at(b, RIG_CODE);

	CHECK(f && f->is_loop && !f->may_loop);
	CHECK_EQ(f->n_bytes, sizeof(add_bytes) - 1);
	rig_fini(&r);
}

TEST(a_loop_that_turns_seldom_stays_as_it_is)
{
	struct rig r;
	struct bt_cpu *b = start(&r);

	b->loop_turns = 1000;
	set_up(&r, RIG_DATA, 900);
	rig_run_to_halt(&r);
	const struct bt_frag *f = bt_frag_at(b, RIG_CODE);

	CHECK(f && f->may_loop && !f->is_loop);
	CHECK(b->loop_turns < 200);
	rig_fini(&r);
}

TEST(a_fault_in_an_unrolled_loop_is_exact)
{
	struct rig r;
	struct bt_cpu *b = start(&r);

	rig_gate(&r, X86_EXC_PF, RIG_CODE + 0x100);
	rig_code(&r, RIG_CODE + 0x100, "\xf4", 1);
	set_up(&r, RIG_DATA + 3, 10000);
	*rig_pte(&r, RIG_DATA + 0x2000) = 0;
	rig_run_to_halt(&r);
	CHECK(bt_frag_at(b, RIG_CODE)->is_loop);
	CHECK_EQ(r.c->s.cr2, RIG_DATA + 0x2000);
	CHECK_EQ(r.c->s.gpr[X86_RBX], RIG_DATA + 0x2000);
	CHECK_EQ(r.c->s.gpr[X86_R15], 10000 - 0x1ffd);
	CHECK_EQ(r.c->s.gpr[X86_RAX], sum(&r, RIG_DATA + 3, 0x1ffd));
	rig_fini(&r);
}

TEST(pages_that_end_cost_an_unrolled_loop_no_way_out_of_code)
{
	struct rig r;
	struct bt_cpu *b = start(&r);

	for (unsigned i = 0; i < 2; i++) {
		uint64_t before = 0, after = 0;

		for (unsigned why = 0; why < CPU_N_CODE_EXITS; why++)
			before += b->i.stats.code_exits[why];
		set_up(&r, RIG_DATA, 0x3800);
		rig_run_to_halt(&r);
		CHECK_EQ(r.c->s.gpr[X86_RAX], sum(&r, RIG_DATA, 0x3800));
		for (unsigned why = 0; why < CPU_N_CODE_EXITS; why++)
			after += b->i.stats.code_exits[why];
		CHECK(!i || after - before < 10);
	}
	rig_fini(&r);
}

/* It always begins five words before its page ends, which is less than what is checked ahead. */
TEST(a_loop_whose_checks_fail_each_time_is_not_unrolled_for_long)
{
	enum { TIMES = 1000000 };
	/* m: mov rbx, rdx; mov ecx, 5; l: add rax, [rbx]; add rbx, 8; dec ecx; jnz l; dec r15; jnz m; hlt */
	static const uint8_t code[] = { 0x48, 0x89, 0xd3, 0xb9, 5, 0, 0, 0, 0x48, 0x03, 0x03, 0x48, 0x83, 0xc3, 0x08, 0xff, 0xc9,
					0x75, 0xf5, 0x49, 0xff, 0xcf, 0x75, 0xe8, 0xf4 };
	struct rig r;
	struct bt_cpu *b = start(&r);

	set_up(&r, 0, TIMES);
	rig_code(&r, RIG_CODE, code, sizeof(code));
	for (unsigned i = 0; i < 5; i++)
		*(uint64_t *)gmem_ptr(r.mem, RIG_DATA + 0xfd8 + 8 * i, 8) = i;
	r.c->s.gpr[X86_RDX] = RIG_DATA + 0xfd8;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 10ull * TIMES);
	const struct bt_frag *f = bt_frag_at(b, RIG_CODE + 8);

	CHECK(f && !f->is_loop && !f->may_loop);
	CHECK(f->page->less[BT_LESS_LOOPS]);
	rig_fini(&r);
}

/* CF of an addition lives on past an access that nobody can check ahead, and is read behind the loop. */
TEST(flags_outlive_an_unrolled_loop)
{
	/* l: add al, [rbx]; mov rcx, [rdx + rcx]; lea rbx, [rbx + 1]; dec r15; jnz l; setc cl; hlt */
	static const uint8_t code[] = { 0x02, 0x03, 0x48, 0x8b, 0x0c, 0x0a, 0x48, 0x8d, 0x5b, 0x01, 0x49, 0xff, 0xcf, 0x75, 0xf1,
					0x0f, 0x92, 0xc1, 0xf4 };
	struct rig r;
	struct bt_cpu *b = start(&r);

	for (unsigned turns = 1; turns < 40; turns++) {
		unsigned al = 0;

		set_up(&r, RIG_DATA + 5, turns);
		rig_code(&r, RIG_CODE, code, sizeof(code));
		memset(gmem_ptr(r.mem, RIG_DATA + 0x3000, 64), 0, 64);
		r.c->s.gpr[X86_RCX] = 0;
		r.c->s.gpr[X86_RDX] = RIG_DATA + 0x3000;
		rig_run_to_halt(&r);
		for (unsigned i = 0; i < turns; i++)
			al = (al & 0xff) + *(uint8_t *)gmem_ptr(r.mem, RIG_DATA + 5 + i, 1);
		CHECK_EQ(r.c->s.gpr[X86_RAX], al & 0xff);
		CHECK_EQ(r.c->s.gpr[X86_RCX], al >> 8);
	}
	CHECK(bt_frag_at(b, RIG_CODE)->is_loop);
	rig_fini(&r);
}

/* The loop writes into its own code, far ahead at first: what it has written is what runs. */
TEST(an_unrolled_loop_that_reaches_its_own_page_writes_what_runs_next)
{
	/* l: mov [rbx], al; inc rbx; dec r15; jnz l; (0x0b:) nop ... hlt */
	static const uint8_t code[] = { 0x88, 0x03, 0x48, 0xff, 0xc3, 0x49, 0xff, 0xcf, 0x75, 0xf6, 0x90, 0x90, 0x90, 0x90, 0xf4 };
	struct rig r;

	start(&r);
	set_up(&r, RIG_CODE + 0x800, 0x600);
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.gpr[X86_RAX] = 0x90;
	rig_run_to_halt(&r);
	/* Once more, beginning in the page before, up to its own second instruction but one: which becomes HLT. */
	r.c->s.gpr[X86_RAX] = 0xf4;
	r.c->s.gpr[X86_RBX] = RIG_CODE + 10;
	r.c->s.gpr[X86_R15] = 4;
	r.c->s.rip = RIG_CODE;
	r.c->s.mp_state = X86_MP_RUNNABLE;
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 11);
	CHECK_EQ(r.c->s.gpr[X86_R15], 0);
	rig_fini(&r);
}

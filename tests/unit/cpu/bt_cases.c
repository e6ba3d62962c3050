/* SPDX-License-Identifier: Apache-2.0 */
/* Short programs on the translator and on the interpreter that once ended differently, or that go where random
 * ones seldom do: groups across pages, flags that are missed later, a cache that is too small. */
#include "cpu/bt/bt.h"

#include <string.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/bt_prog.h"
#include "test.h"

/* CODE on the interpreter, and on the translator in B, whom the caller ends: with the same result, halted. IS_ODD: with a page of RIG_DATA
 * that lies elsewhere. */
static void run_on_both(struct rig *b, const uint8_t *code, size_t len, bool is_odd)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct prog p = { .n = (unsigned)len };
	struct rig a;

	memcpy(p.code, code, len);
	rig_init_on(&a, &interp, 1);
	rig_init(b, 1);
	if (is_odd) {
		prog_map_odd(&a);
		prog_map_odd(b);
	}
	prog_run(&a, &p);
	prog_run(b, &p);
	prog_compare(&a, b, &p);
	CHECK_EQ(a.c->s.mp_state, X86_MP_HALTED);
	rig_fini(&a);
}

/* Both stores need a low register for the address and find but RDX, which MUL writes in between. */
TEST(a_register_lent_to_a_store_of_a_high_byte_keeps_what_mul_writes_to_it)
{
	/* mov edi, RIG_DATA; xor esi, esi; mov [rdi + rsi], bh; mul edi; mov [rdi + rsi], bh; hlt */
	static const uint8_t code[] = { 0xbf, 0, 0, 2, 0, 0x31, 0xf6, 0x88, 0x3c, 0x37, 0xf7, 0xe7, 0x88, 0x3c, 0x37, 0xf4 };
	struct rig b;

	run_on_both(&b, code, sizeof(code), false);
	rig_fini(&b);
}

/* A group in the last bytes before OFF + 4096 of RIG_DATA and in the page after that, in a loop. Returns how often
 * the interpreter was asked. */
static uint64_t run_group_in_two_pages(uint32_t off)
{
	uint8_t code[] = {
		0x41, 0xbf, 0xe8, 3, 0, 0, 0x4c, 0x8d, 0x83, 0, 0, 0, 0,        /* mov r15d, 1000; lea r8, [rbx + off] */
		0x49, 0x03, 0x00, 0x49, 0x33, 0x40, 8, 0x49, 0x03, 0x40, 16,    /* loop: add rax, [r8]; xor ...; add ... */
		0x49, 0x89, 0x40, 4, 0x41, 0xff, 0xcf, 0x75, 0xec, 0xf4,        /* mov [r8 + 4], rax; dec r15d; jnz loop; hlt */
	};
	struct cpu_stats stats = { 0 };
	struct rig b;

	off += 0xff0;
	memcpy(code + 9, &off, 4);
	run_on_both(&b, code, sizeof(code), true);
	b.engine->ops->stats(b.v, &stats);
	rig_fini(&b);
	return stats.call_outs;
}

TEST(a_group_in_two_pages_is_found_in_both_or_given_up)
{
	CHECK(run_group_in_two_pages(0) < 500);
	CHECK(run_group_in_two_pages(PROG_ODD) < 500);
}

/* What a jump leads to overwrites the flags, so nobody keeps them; then it is rewritten and reads them. */
TEST(flags_are_kept_for_code_that_reads_them_only_after_it_has_been_rewritten)
{
	enum { LOOP = 15, T = LOOP + 6 };
	static const uint8_t code[] = {
		0xbe, 5, 0, 0, 0, 0xb9, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0,   /* mov esi, 5; mov ecx, 1; mov edi, 1 */
		0x39, 0xf9, 0x8b, 0x03, 0xeb, 0,                        /* loop: cmp ecx, edi; mov eax, [rbx]; jmp t */
		0x83, 0xe2, 0,                                          /* t: and edx, 0, later sete dl */
		0x83, 0xfe, 3, 0x75, 18,                                /* in the third round: */
		0x66, 0xc7, 0x04, 0x25, (RIG_CODE + T) & 0xff, (RIG_CODE + T) >> 8 & 0xff, RIG_CODE >> 16, 0, 0x0f, 0x94,
		0xc6, 0x04, 0x25, (RIG_CODE + T + 2) & 0xff, (RIG_CODE + T) >> 8 & 0xff, RIG_CODE >> 16, 0, 0xc2,
		0xff, 0xce, 0x75, 0xdc, 0xf4,                           /* dec esi; jnz loop; hlt */
	};
	struct rig b;

	run_on_both(&b, code, sizeof(code), false);
	CHECK_EQ(b.c->s.gpr[X86_RDX] & 0xff, 1);
	rig_fini(&b);
}

/* A chain of direct and indirect jumps through many pages, run three times with a cache of BYTES. Returns how much
 * of that has been given large pages. */
static uint32_t run_much_code(size_t bytes)
{
	enum { FIRST = 0x60000, STEP = 64, N = (0x1e0000 - FIRST) / STEP, ROUNDS = 3 };
	uint64_t want = 1;
	struct rig r;

	rig_init_cached(&r, &rig_engine, 1, bytes);
	for (unsigned i = 0; i < N; i++) {
		/* add rax, i; rol rax, 1; lea rdx, [rip + STEP - ...]; jmp rdx or jmp to it */
		uint8_t c[] = { 0x48, 0x05, 0, 0, 0, 0, 0x48, 0xd1, 0xc0, 0x48, 0x8d, 0x15, 0, 0, 0, 0, 0xff, 0xe2, 0, 0, 0 };
		/* the last: dec rcx; jz +5; jmp to the first; hlt */
		uint8_t last[] = { 0x48, 0xff, 0xc9, 0x74, 5, 0xe9, 0, 0, 0, 0, 0xf4 };
		uint32_t at = FIRST + i * STEP, by = STEP - 16;

		memcpy(c + 2, &i, 4);
		memcpy(c + 12, &by, 4);
		if (i % 4) {
			by = STEP - 21;
			c[16] = 0xe9;
			memcpy(c + 17, &by, 4);
		}
		rig_code(&r, at, c, sizeof(c));
		by = (uint32_t)(FIRST - (int32_t)(at + STEP + 10));
		memcpy(last + 6, &by, 4);
		if (i == N - 1)
			rig_code(&r, at + STEP, last, sizeof(last));
	}
	for (unsigned i = 0; i < N * ROUNDS; i++)
		want = (want + i % N) << 1 | (want + i % N) >> 63;
	rig_code(&r, RIG_CODE, (const uint8_t[]){ 0xff, 0xe3 }, 2);     /* jmp rbx */
	r.c->s.gpr[X86_RBX] = FIRST;
	r.c->s.gpr[X86_RAX] = 1;
	r.c->s.gpr[X86_RCX] = ROUNDS;
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	struct icpu_event ev;

	CHECK_EQ(bt_run_to_fault(r.v, &ev), 0);
	CHECK_EQ(r.c->s.mp_state, X86_MP_HALTED);
	CHECK_EQ(r.c->s.gpr[X86_RAX], want);
	CHECK(r.c->stats.blocks_decoded > N + N / 2);
	uint32_t n_large = bt_of(r.c)->cache->n_large;

	rig_fini(&r);
	return n_large;
}

/* So that what has been dropped is jumped to again from what has not. */
TEST(code_that_does_not_fit_is_dropped_by_parts_and_made_again)
{
	CHECK_EQ(run_much_code(1), 0);
}

TEST(code_moves_to_large_pages_while_it_runs)
{
	CHECK_EQ(run_much_code(6 << 20), BT_LARGE_PAGE);
}

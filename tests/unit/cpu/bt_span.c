/* SPDX-License-Identifier: Apache-2.0 */
/* An instruction that begins in one page and ends in the next, in a loop, on the translator: it is not the
 * interpreter's, and what is in the next page may change. */
#include "cpu/bt/bt.h"

#include <string.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/interp_rig.h"
#include "test.h"

enum {
	ROUNDS = 1000,
	NEXT = RIG_CODE + 4096, LOOP = NEXT - 3, OTHER = 0x50000,
	PTE = (2 << 20) + RIG_PT + 8 * (NEXT >> 12),          /* by the large page */
};

#define LE32(v) (v) & 0xff, (v) >> 8 & 0xff, (v) >> 16 & 0xff, (v) >> 24 & 0xff

/* loop: add rax, 1, three bytes of it in each page; dec rcx; jnz loop. Then BETWEEN of N bytes; mov ecx, ROUNDS; dec
 * esi; jnz loop; hlt. */
static void load(struct rig *r, const uint8_t *between, unsigned n)
{
	static const uint8_t loop[] = { 0x48, 0x05, LE32(1), 0x48, 0xff, 0xc9, 0x75, 0xf5 };
	const uint8_t end[] = { 0xb9, LE32(ROUNDS), 0xff, 0xce, 0x75, (uint8_t)-(int)(sizeof(loop) + n + 9), 0xf4 };

	rig_code(r, LOOP + sizeof(loop) + n, end, sizeof(end));
	rig_code(r, LOOP + sizeof(loop), between, n);
	rig_code(r, LOOP, loop, sizeof(loop));
	r->c->s.gpr[X86_RAX] = 0;
	r->c->s.gpr[X86_RCX] = ROUNDS;
	r->c->s.gpr[X86_RSI] = 2;
}

static void run(struct rig *r)
{
	struct icpu_event ev;

	r->engine->ops->set_state(r->v, &r->c->s, NULL);
	CHECK_EQ(bt_run_to_fault(r->v, &ev), 0);
	CHECK_EQ(r->c->s.mp_state, X86_MP_HALTED);
}

TEST(an_instruction_in_two_pages_is_translated)
{
	struct rig r;

	rig_init(&r, 1);
	load(&r, (const uint8_t[]){ 0x90 }, 1);
	run(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 2 * ROUNDS);
	CHECK(bt_frag_at(bt_of(r.c), LOOP)->is_spanning);
	CHECK(r.c->stats.insns < 50);
	rig_fini(&r);
}

TEST(its_second_half_may_be_rewritten)
{
	/* mov byte [the second of its immediate], 1 */
	static const uint8_t between[] = { 0xc6, 0x04, 0x25, LE32(NEXT), 1 };
	struct rig r;

	rig_init(&r, 1);
	load(&r, between, sizeof(between));
	run(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], ROUNDS + ROUNDS * 0x101);
	CHECK(r.c->stats.insns < 100);
	rig_fini(&r);
}

TEST(its_second_half_may_be_another_page)
{
	/* mov [PTE], rdi; invlpg [NEXT] */
	static const uint8_t between[] = { 0x48, 0x89, 0x3c, 0x25, LE32(PTE), 0x0f, 0x01, 0x3c, 0x25, LE32(NEXT) };
	struct rig r;

	rig_init(&r, 1);
	load(&r, between, sizeof(between));
	memcpy(gmem_ptr(r.mem, OTHER, 4096), gmem_ptr(r.mem, NEXT, 4096), 4096);
	*(uint8_t *)gmem_ptr(r.mem, OTHER, 1) = 2;
	r.c->s.gpr[X86_RDI] = (*rig_pte(&r, NEXT) & 0xfff) | OTHER;
	run(&r);
	CHECK_EQ(r.c->s.gpr[X86_RAX], ROUNDS + ROUNDS * 0x201);
	CHECK(r.c->stats.insns < 100);
	rig_fini(&r);
}

TEST(its_second_half_may_be_missing)
{
	/* mov [PTE], rdi; invlpg [NEXT]; jmp back to the loop */
	static const uint8_t between[] = { 0x48, 0x89, 0x3c, 0x25, LE32(PTE), 0x0f, 0x01, 0x3c, 0x25, LE32(NEXT) };
	struct icpu_event ev;
	struct rig r;

	rig_init(&r, 1);
	load(&r, between, sizeof(between));
	/* What comes after that is where the page is not needed: mov ecx, 1; jmp loop */
	static const uint8_t away[] = { 0xb9, LE32(1), 0xe9, LE32((uint32_t)(LOOP - (RIG_DATA + sizeof(between) + 10))) };

	rig_code(&r, RIG_DATA, between, sizeof(between));
	rig_code(&r, RIG_DATA + sizeof(between), away, sizeof(away));
	const uint8_t there[] = { 0xe9, LE32((uint32_t)(RIG_DATA - (LOOP + 11 + 5))) };

	rig_code(&r, LOOP + 11, there, sizeof(there));
	r.c->s.rip = LOOP;
	r.c->s.gpr[X86_RDI] = 0;
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	CHECK_EQ(bt_run_to_fault(r.v, &ev), 1);
	CHECK_EQ(ev.vector, X86_EXC_PF);
	CHECK_EQ(r.c->s.cr2, NEXT);
	CHECK_EQ(r.c->s.rip, LOOP);
	CHECK_EQ(r.c->s.gpr[X86_RAX], ROUNDS);
	rig_fini(&r);
}

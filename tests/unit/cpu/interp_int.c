/* SPDX-License-Identifier: Apache-2.0 */
/* Integer instructions of the interpreter: what is easy to get wrong. */
#include "cpu/interp_rig.h"

#include "test.h"

#define FL(x) ((x) & (X86_CF | X86_OF | X86_ZF | X86_SF))

/* Run CODE with RAX, RCX, flags; compare RAX and (masked) flags. */
struct int_case {
	uint8_t code[8];
	uint64_t rax, rcx, flags;
	uint64_t want, want_flags, mask;
};

static void run_cases(const struct int_case *t, unsigned n)
{
	struct rig r;

	rig_init(&r, 1);
	for (unsigned i = 0; i < n; i++) {
		rig_code(&r, RIG_CODE, t[i].code, sizeof(t[i].code));
		r.c->s.gpr[X86_RAX] = t[i].rax;
		r.c->s.gpr[X86_RCX] = t[i].rcx;
		r.c->s.rflags = X86_FLAGS_FIXED | t[i].flags;
		rig_steps(&r, 1);
		if (r.c->s.gpr[X86_RAX] != t[i].want || (r.c->s.rflags & t[i].mask) != t[i].want_flags)
			FAIL("case %u: rax %#" PRIx64 " flags %#" PRIx64, i, r.c->s.gpr[X86_RAX], r.c->s.rflags);
	}
	rig_fini(&r);
}

enum { ALL = X86_FLAGS_ARITH, CF = X86_CF, OF = X86_OF, ZF = X86_ZF, SF = X86_SF };

TEST(shift_counts_are_masked_and_zero_leaves_flags_alone)
{
	static const struct int_case t[] = {
		/* shl eax, cl */
		{ { 0xd3, 0xe0 }, 0xffffffff80000001, 0, ALL, 0x80000001, ALL, ALL },
		{ { 0xd3, 0xe0 }, 0xffffffff80000001, 32, ALL, 0x80000001, ALL, ALL },
		{ { 0xd3, 0xe0 }, 0x80000001, 1, 0, 2, CF | OF, CF | OF },
		{ { 0xd3, 0xe0 }, 1, 31, 0, 0x80000000, 0, CF },
		/* shl rax, cl: 63 of 6 bits */
		{ { 0x48, 0xd3, 0xe0 }, 3, 63, 0, 1ull << 63, CF, CF },
		{ { 0x48, 0xd3, 0xe0 }, 3, 64, ALL, 3, ALL, ALL },
		/* shr al, cl with counts beyond 8 */
		{ { 0xd2, 0xe8 }, 0x1ff, 8, 0, 0x100, CF | ZF, CF | ZF },
		{ { 0xd2, 0xe8 }, 0x1ff, 9, CF, 0x100, ZF, CF | ZF },
		/* sar ax, cl beyond 16 */
		{ { 0x66, 0xd3, 0xf8 }, 0x8000, 20, 0, 0xffff, CF | SF, CF | SF | ZF },
		/* rcl al, cl: modulo 9 within masked 31 */
		{ { 0xd2, 0xd0 }, 0x80, 9, CF, 0x80, CF, CF },
		{ { 0xd2, 0xd0 }, 0x80, 1, CF, 0x01, CF | OF, CF | OF },
		/* rcr rax, 1 */
		{ { 0x48, 0xd1, 0xd8 }, 1, 0, CF, 1ull << 63, CF | OF, CF | OF },
		/* ror ax, cl: 16 rotates fully and sets CF from bit 15 */
		{ { 0x66, 0xd3, 0xc8 }, 0x8001, 16, 0, 0x8001, CF, CF },
		/* rol leaves ZF and SF */
		{ { 0xc0, 0xc0, 8 }, 0, 0, ZF | SF, 0, ZF | SF, ZF | SF | CF },
		/* shld eax, ecx, 32 masked to 0 */
		{ { 0x0f, 0xa4, 0xc8, 32 }, 0x123456789, 5, ALL, 0x23456789, ALL, ALL },
		{ { 0x0f, 0xac, 0xc8, 4 }, 0x18, 0x5, 0, 0x50000001, CF, CF },
	};

	run_cases(t, sizeof(t) / sizeof(t[0]));
}

TEST(inc_and_dec_keep_the_carry)
{
	static const struct int_case t[] = {
		{ { 0xff, 0xc0 }, 0xffffffff, 0, CF, 0, CF | ZF, CF | ZF },
		{ { 0xff, 0xc8 }, 0x80000000, 0, CF, 0x7fffffff, CF | OF, CF | OF },
		{ { 0xfe, 0xc0 }, 0x17f, 0, 0, 0x180, OF | SF, CF | OF | SF },
		{ { 0xf6, 0xdc }, 0x8000, 0, 0, 0x8000, CF | OF | SF, CF | OF | SF },   /* neg ah */
		{ { 0xf7, 0xd0 }, 0, 0, ALL, 0xffffffff, ALL, ALL },                    /* not */
		{ { 0x11, 0xc8 }, 0xffffffff, 0, CF, 0, CF | ZF, CF | ZF },             /* adc */
		{ { 0x19, 0xc8 }, 0, 0xffffffff, CF, 0, CF | ZF, CF | ZF },             /* sbb */
		{ { 0x83, 0xc0, 0xff }, 1, 0, 0, 0, CF | ZF, CF | ZF },                 /* add eax, -1 */
		{ { 0x48, 0x83, 0xc0, 0xff }, 1, 0, 0, 0, CF | ZF, CF | ZF },
		{ { 0x66, 0x83, 0xe8, 0x80 }, 0, 0, 0, 0x80, CF, CF },                  /* sub ax, -128 */
	};

	run_cases(t, sizeof(t) / sizeof(t[0]));
}

TEST(bits_scans_and_extensions)
{
	static const struct int_case t[] = {
		{ { 0x0f, 0xa3, 0xc8 }, 0x80000000, 63, 0, 0x80000000, CF, CF },        /* bt eax, ecx */
		{ { 0x48, 0x0f, 0xba, 0xf8, 63 }, 0, 0, CF, 1ull << 63, 0, CF },        /* btc rax, 63 */
		{ { 0x0f, 0xbc, 0xc1 }, 77, 0x50, 0, 4, 0, ZF },                        /* bsf eax, ecx */
		{ { 0x48, 0x0f, 0xbc, 0xc1 }, 77, 0, 0, 77, ZF, ZF },                   /* source 0 */
		{ { 0x48, 0x0f, 0xbd, 0xc1 }, 0, 1ull << 40, ZF, 40, 0, ZF },
		{ { 0xf3, 0x0f, 0xb8, 0xc1 }, 0, 0xff0f, 0, 12, 0, ZF | CF },           /* popcnt */
		{ { 0x0f, 0xbe, 0xc4 }, 0x8000, 0, 0, 0xffffff80, 0, 0 },               /* movsx eax, ah */
		{ { 0x48, 0x63, 0xc1 }, 0, 0x80000000, 0, 0xffffffff80000000, 0, 0 },
		{ { 0x0f, 0x44, 0xc1 }, 0x1234567890, 9, 0, 0x34567890, 0, 0 },         /* cmovz, not taken */
		{ { 0x0f, 0xc8 }, 0xff11223344, 0, 0, 0x44332211, 0, 0 },
		{ { 0x86, 0xc4 }, 0x1234, 0, 0, 0x3412, 0, 0 },                         /* xchg ah, al */
		{ { 0x0f, 0xc1, 0xc0 }, 7, 0, 0, 14, 0, 0 },                            /* xadd eax, eax */
		{ { 0xd4, 10 }, 0, 0, 0, 0, 0, 0 },
	};

	run_cases(t, sizeof(t) / sizeof(t[0]) - 1);     /* AAM is not in 64-bit mode */
}

static void check_div(struct rig *r, const uint8_t code[3], uint64_t rdx, uint64_t rax, uint64_t rcx, bool fits)
{
	struct icpu_event ev;

	rig_code(r, RIG_CODE, code, 3);
	r->c->s.gpr[X86_RAX] = rax;
	r->c->s.gpr[X86_RDX] = rdx;
	r->c->s.gpr[X86_RCX] = rcx;
	int faulted = rig_engine.step(r->v, &ev);

	CHECK_EQ(faulted, !fits);
	if (faulted) {
		CHECK_EQ(ev.vector, X86_EXC_DE);
		CHECK_EQ(r->c->s.gpr[X86_RAX], rax);
		CHECK_EQ(r->c->s.gpr[X86_RDX], rdx);
	}
}

TEST(division_overflows_exactly_at_the_limits)
{
	static const uint8_t idiv64[3] = { 0x48, 0xf7, 0xf9 }, idiv32[3] = { 0xf7, 0xf9 }, idiv8[3] = { 0xf6, 0xf9 };
	static const uint8_t div64[3] = { 0x48, 0xf7, 0xf1 }, div8[3] = { 0xf6, 0xf1 };
	const uint64_t min = 1ull << 63;
	struct rig r;

	rig_init(&r, 1);
	check_div(&r, idiv64, ~0ull, min, ~0ull, false);        /* INT64_MIN / -1 */
	check_div(&r, idiv64, ~0ull, min + 1, ~0ull, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], INT64_MAX);
	check_div(&r, idiv64, ~0ull, min, 1, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], min);
	check_div(&r, idiv64, min, 0, ~0ull, false);            /* INT128_MIN / -1 */
	check_div(&r, idiv64, 0, 1, 0, false);
	check_div(&r, idiv32, 0xffffffff, 0x80000000, 0xffffffff, false);
	check_div(&r, idiv32, 0xffffffff, 0xfffffff9, 2, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0xfffffffd);
	CHECK_EQ(r.c->s.gpr[X86_RDX], 0xffffffff);
	check_div(&r, idiv8, 5, 0xff80, 0xff, false);
	check_div(&r, idiv8, 5, 0xff80, 1, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x0080);
	check_div(&r, div64, 5, 0, 5, false);
	check_div(&r, div64, 4, ~0ull, 5, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], ~0ull);
	CHECK_EQ(r.c->s.gpr[X86_RDX], 4);
	check_div(&r, div8, 0, 0x0103, 2, true);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 0x0181);
	rig_fini(&r);
}

TEST(bit_strings_reach_in_front_of_their_address)
{
	struct rig r;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x48, 0x0f, 0xab, 0x0b);     /* bts [rbx], rcx */
	r.c->s.gpr[X86_RBX] = RIG_DATA + 0x100;
	r.c->s.gpr[X86_RCX] = (uint64_t)-65;
	rig_steps(&r, 1);
	CHECK_EQ(*(uint8_t *)gmem_ptr(r.mem, RIG_DATA + 0x100 - 9, 1), 0x80);
	rig_fini(&r);
}

TEST(repeated_comparisons_that_fault_have_the_flags_that_they_began_with)
{
	const uint64_t flags = X86_CF | X86_ZF | X86_PF;
	struct rig r;

	rig_init(&r, 1);
	*rig_pte(&r, RIG_DATA + 0x1000) = 0;
	RIG_CODE_BYTES(&r, 0xf2, 0xae);                         /* repne scasb */
	r.c->s.gpr[X86_RAX] = 0x81;
	r.c->s.gpr[X86_RCX] = 100;
	r.c->s.gpr[X86_RDI] = RIG_DATA + 0x1000 - 6;
	CHECK_EQ(gmem_fill(r.mem, RIG_DATA + 0x1000 - 6, 0, 6), 0);
	r.c->s.rflags = X86_FLAGS_FIXED | flags;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_PF);
	CHECK_EQ(r.c->s.rflags & X86_FLAGS_ARITH, flags);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 94);
	CHECK_EQ(r.c->s.gpr[X86_RDI], RIG_DATA + 0x1000);
	rig_fini(&r);
}

TEST(pop_to_memory_uses_the_incremented_stack_pointer_and_restores_it_on_a_fault)
{
	struct rig r;
	uint64_t v = 0x55, got;

	rig_init(&r, 1);
	RIG_CODE_BYTES(&r, 0x8f, 0x04, 0x24, 0x8f, 0x03);       /* pop [rsp]; pop [rbx] */
	r.c->s.gpr[X86_RSP] = RIG_STACK;
	CHECK_EQ(gmem_write(r.mem, RIG_STACK, &v, 8), 0);
	rig_steps(&r, 1);
	CHECK_EQ(gmem_read(r.mem, RIG_STACK + 8, &got, 8), 0);
	CHECK_EQ(got, 0x55);
	CHECK_EQ(r.c->s.gpr[X86_RSP], RIG_STACK + 8);
	r.c->s.gpr[X86_RBX] = 0x5000;
	CHECK_EQ(rig_fault(&r).vector, X86_EXC_PF);
	CHECK_EQ(r.c->s.gpr[X86_RSP], RIG_STACK + 8);
	rig_fini(&r);
}

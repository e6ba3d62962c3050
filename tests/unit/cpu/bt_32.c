/* SPDX-License-Identifier: Apache-2.0 */
/* Random programs of 32-bit code, in compatibility mode, on the translator and on the interpreter. EBX points to
 * data, EDI counts the rounds; GS has a base. Single instructions are compared with a real processor by
 * tests/cpu_diff. */
#include "cpu/bt/bt.h"
#include "cpu/rig_on_bt.h"
#include "cpu/x86/cpuid.h"
#include "test.h"

enum { N_PROGRAMS = 3000, N_PIECES = 40, CODE_MAX = 1500, GS_BASE = RIG_DATA + 0x400 };

struct prog {
	uint64_t seed;
	uint8_t code[CODE_MAX];
	unsigned n;
};

static uint32_t rnd(struct prog *p, uint32_t below)
{
	p->seed = p->seed * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(p->seed >> 33) % below;
}

static void put(struct prog *p, unsigned byte) { p->code[p->n++] = (uint8_t)byte; }

static void put32(struct prog *p, uint32_t v)
{
	memcpy(p->code + p->n, &v, 4);
	p->n += 4;
}

/* EAX, ECX, EDX, EBP, ESI: they may be written. */
static unsigned any_reg(struct prog *p)
{
	static const uint8_t regs[] = { 0, 1, 2, 5, 6 };

	return regs[rnd(p, sizeof(regs))];
}

/* Where an access goes: [ebx + disp], [esp + disp], [disp] or gs:[disp], sometimes across the end of the page. */
static void put_mem(struct prog *p, unsigned reg, unsigned what)
{
	uint32_t disp = rnd(p, 20) ? 4 * rnd(p, 200) : 0xff0 + 4 * rnd(p, 4);

	switch (what) {
	case 0: put(p, 0x80 | reg << 3 | 3); break;
	case 1: put(p, 0x80 | reg << 3 | 4); put(p, 0x24); disp &= 0x1fc; break;
	case 2: put(p, reg << 3 | 5); disp += RIG_DATA; break;
	default: put(p, reg << 3 | 5); disp &= 0x3fc; break;
	}
	put32(p, disp);
}

static void put_op(struct prog *p, unsigned esc, unsigned op, unsigned reg)
{
	unsigned what = rnd(p, 6);

	if (!rnd(p, 8))
		put(p, 0x66);
	if (what == 3)
		put(p, 0x65);
	if (esc)
		put(p, 0x0f);
	put(p, op);
	if (what > 3)
		put(p, 0xc0 | reg << 3 | any_reg(p));
	else
		put_mem(p, reg, what);
}

static void put_integer(struct prog *p)
{
	static const uint8_t one[] = { 0x01, 0x03, 0x11, 0x13, 0x19, 0x21, 0x29, 0x2b, 0x31, 0x39, 0x3b, 0x85, 0x89, 0x8b };
	static const uint8_t two[] = { 0xb6, 0xb7, 0xbe, 0xbf, 0xaf, 0xb1, 0xc1, 0x44, 0x4f, 0xbc };

	if (rnd(p, 3))
		put_op(p, 0, one[rnd(p, sizeof(one))], any_reg(p));
	else
		put_op(p, 1, two[rnd(p, sizeof(two))], any_reg(p));
}

static void put_short(struct prog *p)
{
	switch (rnd(p, 9)) {
	case 7: put(p, 0x82); put(p, 0xc0 | rnd(p, 8) << 3 | any_reg(p)); put(p, rnd(p, 256)); break;      /* as 80 */
	case 0: case 1:                                         /* INC, DEC: REX prefixes elsewhere */
		if (!rnd(p, 4))
			put(p, 0x66);
		put(p, 0x40 | rnd(p, 2) << 3 | any_reg(p));
		break;
	case 2:                                                 /* MOV and an absolute address */
		if (!rnd(p, 3))
			put(p, 0x65), put(p, 0xa0 | rnd(p, 4)), put32(p, 4 * rnd(p, 200));
		else
			put(p, 0xa0 | rnd(p, 4)), put32(p, RIG_DATA + 4 * rnd(p, 500));
		break;
	case 3: put(p, 0x8d); put(p, any_reg(p) << 3 | 5); put32(p, rnd(p, 1u << 31) * 2); break;   /* LEA r, [disp] */
	case 4: put(p, 0x8d); put(p, 0x44 | any_reg(p) << 3); put(p, 0x43); put(p, rnd(p, 256)); break;
	case 5: put(p, 0x99); break;
	case 6: put(p, 0xc1); put(p, 0xc0 | rnd(p, 8) << 3 | any_reg(p)); put(p, rnd(p, 40)); break;
	default: put(p, 0xf7); put(p, 0xc0 | (2 + rnd(p, 4)) << 3 | any_reg(p)); break;
	}
}

/* What leaves ESP as it was. */
static void put_stack(struct prog *p)
{
	switch (rnd(p, 5)) {
	case 0: put(p, 0x50 | any_reg(p)); put(p, 0x58 | any_reg(p)); break;
	case 1: put(p, 0x68); put32(p, rnd(p, 1u << 31) * 2); put(p, 0x58 | any_reg(p)); break;
	case 2: put(p, 0xff); put_mem(p, 6, rnd(p, 3)); put(p, 0x83); put(p, 0xc4); put(p, 4); break;
	case 3: put(p, 0x54); put(p, 0x58 | any_reg(p)); break;
	default:                                                /* push ebp; mov ebp, esp; sub esp, 8; leave */
		put(p, 0x55); put(p, 0x89); put(p, 0xe5); put(p, 0x83); put(p, 0xec); put(p, 8);
		put_short(p);
		put(p, 0xc9);
		break;
	}
}

static void put_jump(struct prog *p)
{
	unsigned at, skip;

	switch (rnd(p, 5)) {
	case 0: case 1:
		put(p, 0x70 | rnd(p, 16));
		break;
	case 2:                                                 /* call over, then back by RET */
		put(p, 0xe8); put32(p, 2); put(p, 0xeb); put(p, 1); put(p, 0xc3);
		return;
	case 3:                                                 /* mov eax, next; jmp eax */
		put(p, 0xb8); put32(p, RIG_CODE + p->n + 4 + 2 + 1); put(p, 0xff); put(p, 0xe0); put(p, 0xf4);
		return;
	default:                                                /* mov eax, next; push eax; call [esp]; 2 pops */
		put(p, 0xb8); put32(p, RIG_CODE + p->n + 4 + 1 + 3); put(p, 0x50); put(p, 0xff); put(p, 0x14); put(p, 0x24);
		put(p, 0x58); put(p, 0x5a);
		return;
	}
	at = p->n;
	put(p, 0);
	for (skip = 1 + rnd(p, 3); skip; skip--)
		put_short(p);
	p->code[at] = (uint8_t)(p->n - at - 1);
}

static void put_fp(struct prog *p)
{
	static const uint8_t ops[] = { 0xfe, 0xef, 0xd4, 0x58, 0x59, 0x14, 0xdb };
	unsigned op = ops[rnd(p, sizeof(ops))];

	if (!rnd(p, 3)) {                                       /* fld qword [m]; fadd st, st0; fstp qword [m] */
		put(p, 0xdd); put_mem(p, 0, rnd(p, 3));
		put(p, 0xd8); put(p, 0xc0);
		put(p, 0xdd); put_mem(p, 3, rnd(p, 3));
		return;
	}
	put(p, op == 0x58 || op == 0x59 ? 0xf2 : 0x66);
	put(p, 0x0f);
	put(p, op);
	put(p, 0xc0 | rnd(p, 8) << 3 | rnd(p, 8));
}

/* PAUSE, STI, control registers. The rig has no TSC. */
static void put_system(struct prog *p)
{
	static const uint8_t cr[] = { 0, 2, 3, 4 };

	switch (rnd(p, 3)) {
	case 0: put(p, 0xf3); put(p, 0x90); break;
	case 1: put(p, 0xfb); break;
	default: put(p, 0x0f); put(p, 0x20); put(p, 0xc0 | cr[rnd(p, 4)] << 3 | any_reg(p)); break;
	}
}

/* A loop along memory, which is unrolled: ECX counts, ESI goes on. Sometimes EBP is added, mostly beyond 4 GiB. */
static void put_loop(struct prog *p)
{
	static const uint8_t ops[] = { 0x01, 0x03, 0x89, 0x8b, 0x39, 0x33, 0x88, 0x8a }, strides[] = { 1, 4, 4, 8, 0xfc, 0 };
	bool is_indexed = rnd(p, 2);
	unsigned begin;

	if (is_indexed) {               /* mov ebp, imm; lea esi, [ebx + disp - imm] */
		uint32_t by = rnd(p, 1u << 31) * 2;

		put(p, 0xbd); put32(p, by);
		put(p, 0x8d); put(p, 0xb3); put32(p, 4 * rnd(p, rnd(p, 2) ? 1000 : 200) - by);
	} else {                        /* lea esi, [ebx + disp] */
		put(p, 0x8d); put(p, 0xb3); put32(p, 0xf80 + rnd(p, 100));
	}
	put(p, 0xb9); put32(p, 1 + rnd(p, 50));
	begin = p->n;
	for (unsigned n = 1 + rnd(p, 3); n; n--) {
		put(p, ops[rnd(p, sizeof(ops))]);
		put(p, 0x40 | rnd(p, 2) << 4 | (is_indexed ? 4 : 6));
		if (is_indexed)
			put(p, 5 << 3 | 6);
		put(p, 4 * rnd(p, 8));
	}
	put(p, 0x83); put(p, 0xc6); put(p, strides[rnd(p, sizeof(strides))]);
	put(p, 0x49);                                           /* dec ecx; jnz */
	put(p, 0x75); put(p, begin - p->n - 1);
}

static void put_piece(struct prog *p)
{
	switch (rnd(p, 14)) {
	case 13: put_loop(p); break;
	case 12: put_system(p); break;
	case 0: case 1: put_stack(p); break;
	case 2: case 3: put_jump(p); break;
	case 4: put_fp(p); break;
	case 5: case 6: case 7: put_short(p); break;
	case 8: put(p, 0x9c); put(p, 0x58 | any_reg(p)); break; /* PUSHF: all flags count */
	default: put_integer(p); break;
	}
}

static void make_prog(struct prog *p, uint64_t seed)
{
	*p = (struct prog){ .seed = seed * 77 + 1 };
	for (unsigned i = 0; i < N_PIECES; i++)
		put_piece(p);
	put(p, 0x4f);                                           /* dec edi; jnz start; hlt */
	put(p, 0x0f); put(p, 0x85); put32(p, 0u - (p->n + 4));
	put(p, 0xf4);
}

static void run_prog(struct rig *r, const struct prog *p)
{
	struct icpu *c = r->c;
	uint8_t *data = gmem_ptr(r->mem, RIG_DATA, 4096);

	rig_code(r, RIG_CODE, p->code, p->n);
	if (r->engine == &rig_engine)
		rig_forget_places(r);
	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = i < 8 ? (uint32_t)(i * 0x12345678u ^ p->seed) : i * 0x123456789abull;
	c->s.gpr[X86_RBX] = RIG_DATA;
	c->s.gpr[X86_RSP] = RIG_STACK + 0x800;
	c->s.gpr[X86_RDI] = 3;
	c->s.rflags = X86_FLAGS_FIXED;
	c->s.cr2 = 0x123456789a;
	c->s.mp_state = X86_MP_RUNNABLE;
	c->s.seg[X86_CS].attr = 0xc09b;                         /* 32-bit, flat */
	c->s.seg[X86_GS].base = GS_BASE;
	for (unsigned i = 0; i < 4096; i++)
		data[i] = (uint8_t)(i * 7 + p->seed);
	memset(gmem_ptr(r->mem, RIG_STACK, 4096), 0x5a, 4096);
	memset(c->s.xsave + X86_FX_XMM, 0x41, 256);
	r->engine->ops->set_state(r->v, &c->s, NULL);
	CHECK_EQ(c->mode, X86_MODE_32);
	for (unsigned i = 0; i < 100000 && c->s.mp_state == X86_MP_RUNNABLE; i++) {
		struct icpu_event ev;

		if (r->engine == &rig_engine ? bt_run_to_fault(r->v, &ev) : r->engine->step(r->v, &ev))
			return;
	}
}

static void compare_page(struct rig *a, struct rig *b, const struct prog *p, gpa_t gpa)
{
	const uint8_t *x = gmem_ptr(a->mem, gpa, 4096), *y = gmem_ptr(b->mem, gpa, 4096);

	for (unsigned i = 0; i < 4096; i++)
		if (x[i] != y[i])
			FAIL("program %" PRIx64 ": byte %#x of page %#" PRIx64 " is %x, not %x", p->seed, i, gpa, y[i], x[i]);
}

static void compare(struct rig *a, struct rig *b, const struct prog *p)
{
	const struct x86_state *x = &a->c->s, *y = &b->c->s;

	for (unsigned i = 0; i < 16; i++)
		if (x->gpr[i] != y->gpr[i])
			FAIL("program %" PRIx64 ": register %u is %" PRIx64 ", not %" PRIx64 "; rip %" PRIx64 ", not %" PRIx64,
			     p->seed, i, y->gpr[i], x->gpr[i], y->rip, x->rip);
	CHECK_EQ(y->rip, x->rip);
	if (x->mp_state == X86_MP_HALTED)
		CHECK_EQ(y->rflags, x->rflags);
	CHECK_EQ(y->cr2, x->cr2);
	CHECK_EQ(memcmp(x->xsave, y->xsave, 416), 0);
	compare_page(a, b, p, RIG_DATA);
	compare_page(a, b, p, RIG_STACK);
}

static const struct rig_engine interp = { &cpu_interp, interp_step, true };

TEST(random_32_bit_programs_end_as_they_do_on_the_interpreter)
{
	struct rig a, b;
	unsigned n_halted = 0;

	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	for (unsigned i = 0; i < N_PROGRAMS; i++) {
		struct prog p;

		make_prog(&p, i);
		run_prog(&a, &p);
		run_prog(&b, &p);
		compare(&a, &b, &p);
		n_halted += a.c->s.mp_state == X86_MP_HALTED;
	}
	CHECK(n_halted > N_PROGRAMS / 4);
	CHECK(b.c->stats.blocks_decoded > N_PROGRAMS);
	rig_fini(&a);
	rig_fini(&b);
}

/* Code was translated for a flat DS; then DS is loaded with one that has a limit. */
TEST(a_segment_that_is_not_flat_any_more_is_noticed)
{
	struct rig r;
	static const uint8_t code[] = {
		0xa1, 0x00, 0x00, 0x02, 0x00,           /* mov eax, [RIG_DATA] */
		0x8e, 0xd9,                             /* mov ds, ecx */
		0x8b, 0x0d, 0x00, 0x00, 0x02, 0x00,     /* mov ecx, [RIG_DATA]: beyond the limit */
		0xf4,
	};
	struct icpu_event ev;

	rig_init(&r, 1);
	uint64_t small = 0x00409300000000ffull;         /* data, base 0, limit 0xff */

	CHECK_EQ(gmem_write(r.mem, RIG_GDT + 32, &small, 8), 0);
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.seg[X86_CS].attr = 0xc09b;
	r.c->s.gpr[X86_RCX] = 32;
	r.c->s.mp_state = X86_MP_RUNNABLE;
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	CHECK(bt_run_to_fault(r.v, &ev));
	CHECK_EQ(ev.vector, X86_EXC_GP);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 7);
	rig_fini(&r);
}

TEST(a_store_through_cs_faults)
{
	static const uint8_t code[] = {
		0xa3, 0x00, 0x00, 0x02, 0x00,           /* mov [RIG_DATA], eax: the page may be written */
		0x2e, 0xa3, 0x00, 0x00, 0x02, 0x00,     /* mov cs:[RIG_DATA], eax */
		0xf4,
	};
	struct icpu_event ev;
	struct rig r;

	rig_init(&r, 1);
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.seg[X86_CS].attr = 0xc09b;
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	CHECK(bt_run_to_fault(r.v, &ev));
	CHECK_EQ(ev.vector, X86_EXC_GP);
	CHECK_EQ(r.c->s.rip, RIG_CODE + 5);
	rig_fini(&r);
}

TEST(vmovd_of_32_bit_code_stores_4_bytes_whatever_vex_w_says)
{
	/* vmovd [RIG_DATA], xmm1, twice: the second finds the page in the table */
	static const uint8_t code[] = {
		0xc4, 0xe1, 0xf9, 0x7e, 0x0d, 0x00, 0x00, 0x02, 0x00,
		0xc4, 0xe1, 0xf9, 0x7e, 0x0d, 0x00, 0x00, 0x02, 0x00,
		0xf4,
	};
	const uint16_t fcw = 0x37f;
	struct icpu_event ev;
	struct rig r;

	rig_init(&r, 1);
	if (!(x86_host_features() >> X86_F_AVX & 1))
		SKIP("this processor has no AVX");
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.seg[X86_CS].attr = 0xc09b;
	r.c->s.cr4 |= X86_CR4_OSXSAVE;
	r.c->s.xcr0 = 7;
	memcpy(r.c->s.xsave + X86_FX_FCW, &fcw, sizeof(fcw));
	memset(r.c->s.xsave + X86_FX_XMM, 0x41, 256);
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	CHECK_EQ(bt_run_to_fault(r.v, &ev), 0);
	CHECK_EQ(*(uint64_t *)gmem_ptr(r.mem, RIG_DATA, 8), 0x41414141);
	rig_fini(&r);
}

TEST(vzeroall_in_32_bit_code_leaves_the_registers_that_it_cannot_see)
{
	static const uint8_t code[] = { 0xc5, 0xfc, 0x77, 0xf4 };       /* vzeroall; hlt */
	const uint16_t fcw = 0x37f;             /* AVX is native only then */
	const uint8_t *xmm, *high;
	struct icpu_event ev;
	struct rig r;

	rig_init(&r, 1);
	if (!(x86_host_features() >> X86_F_AVX & 1))
		SKIP("this processor has no AVX");
	xmm = r.c->s.xsave + X86_FX_XMM;
	high = r.c->s.xsave + X86_XS_AVX;
	rig_code(&r, RIG_CODE, code, sizeof(code));
	r.c->s.seg[X86_CS].attr = 0xc09b;
	r.c->s.cr4 |= X86_CR4_OSXSAVE;
	r.c->s.xcr0 = 7;
	r.c->s.xsave[X86_XS_BV] |= 4;
	memcpy(r.c->s.xsave + X86_FX_FCW, &fcw, sizeof(fcw));
	memset(r.c->s.xsave + X86_FX_XMM, 0x41, 256);
	memset(r.c->s.xsave + X86_XS_AVX, 0x42, 256);
	r.engine->ops->set_state(r.v, &r.c->s, NULL);
	CHECK_EQ(bt_run_to_fault(r.v, &ev), 0);
	for (unsigned i = 0; i < 256; i++) {
		CHECK_EQ(xmm[i], i < 128 ? 0 : 0x41);
		CHECK_EQ(high[i], i < 128 ? 0 : 0x42);
	}
	rig_fini(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog_run.c - a program on an engine, and two engines compared. */
#include "cpu/bt_prog.h"

#include <string.h>
#include "cpu/bt/bt.h"
#include "cpu/rig_on_bt.h"
#include "test.h"

/* x87 registers 1.5, -3.0, 6.0 and so on; the usual control words. */
static void init_fx(uint8_t *fx)
{
	const uint64_t man = 0xc000000000000000;
	const uint32_t mxcsr = 0x1f80;
	const uint16_t fcw = 0x37f;

	memset(fx, 0, X86_FX_MXCSR_MASK);
	memcpy(fx + X86_FX_MXCSR, &mxcsr, 4);
	memcpy(fx + X86_FX_FCW, &fcw, 2);
	fx[X86_FX_FTW] = 0xf0;
	for (unsigned i = 0; i < 8; i++) {
		uint16_t exp = (uint16_t)((i & 1) << 15 | (0x3fff + i));

		memcpy(fx + X86_FX_ST + 16 * i, &man, 8);
		memcpy(fx + X86_FX_ST + 16 * i + 8, &exp, 2);
	}
}

/* Every fourth program lies in two pages, its parts divided anywhere, in an instruction mostly. */
static uint64_t prog_at(const struct prog *p)
{
	return RIG_CODE + (p->seed % 4 == 1 && p->n ? 4095 - p->seed / 4 % p->n : 0);
}

uint64_t prog_end(const struct prog *p) { return prog_at(p) + p->n - 1; }

static void set_privilege(struct x86_state *s, const struct prog *p)
{
	unsigned cpl = p->is_user ? 3 : 0;

	s->seg[X86_CS].sel = (uint16_t)(8 | cpl);
	s->seg[X86_CS].attr = 0xa09b | cpl << 5;
	s->seg[X86_SS].sel = (uint16_t)(16 | cpl);
	s->seg[X86_SS].attr = 0xc093 | cpl << 5;
	if (p->is_user && p->seed & 2)
		s->rflags |= X86_IOPL;          /* CLI and STI are not privileged */
}

/* Where the data and the stack of P are, of a user. */
static void set_places(struct x86_state *s, const struct prog *p)
{
	uint64_t rbx = s->gpr[X86_RBX];

	switch (p->is_user ? p->seed / 16 % 4 : 0) {
	case 1: s->gpr[X86_RBX] = rbx + (3ull << 40); break;
	case 2: s->gpr[X86_RBX] = rbx + (3ull << 40); s->gpr[X86_RSP] += 127ull << 40; break;
	case 3: s->gpr[X86_RBX] = rbx - RIG_DATA + (4ull << 40) - 4096; break;
	default: break;
	}
}

/* The entry of page N of RIG_DATA from 4 TiB less a page on. */
static uint64_t *far_pte(struct rig *r, unsigned n)
{
	return gmem_ptr(r->mem, PROG_FAR_TABLES + (n ? 5 * 4096 + (n - 1) * 8u : 2 * 4096 + 511 * 8u), 8);
}

/* Accessed and dirty bits of what a program accesses are as if it had not been yet; now and then. */
static void set_marks(struct rig *r, const struct prog *p)
{
	static const uint64_t first[] = { RIG_DATA, RIG_DATA + PROG_ODD, RIG_STACK };
	uint64_t cleared = p->seed & 4 ? 0x60 : p->seed & 8 ? 0x40 : 0;

	for (unsigned i = 0; p->is_user && i < 3; i++)
		for (unsigned n = 0; n < 4; n++)
			*rig_pte(r, first[i] + 4096 * n) &= ~cleared;
	for (unsigned n = 0; p->is_user && n < 16; n++)
		*far_pte(r, n) &= ~cleared;
}

/* R is at the beginning of P. */
void prog_set(struct rig *r, const struct prog *p)
{
	struct icpu *c = r->c;

	rig_code(r, prog_at(p), p->code, p->n);
	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = (i * 0x123456789abull) ^ p->seed >> (i & 7);
	/* Now and then not aligned, or not for 32 bytes. */
	c->s.gpr[X86_RBX] = RIG_DATA + (p->seed % 16 == 5 ? 16 : p->seed % 16 == 9 ? 8 : 0);
	c->s.gpr[X86_RSP] = RIG_STACK + 0x800;
	/* Often enough now and then for groups to be given up that lie in two pages. */
	c->s.gpr[X86_R15] = p->seed % 8 ? 3 : 60;
	c->s.rflags = X86_FLAGS_FIXED;
	c->s.cr2 = 0;
	c->s.cr4 |= X86_CR4_FSGSBASE;
	c->s.seg[X86_GS].base = p->seed;
	c->s.kernel_gs_base = 0x1234;
	c->s.tsc_aux = 0x56789abcdefull;
	c->s.mp_state = X86_MP_RUNNABLE;
	uint8_t *data = gmem_ptr(r->mem, RIG_DATA, 4096);

	for (unsigned i = 0; i < 4096; i++)
		data[i] = (uint8_t)(i * 7 + p->seed);
	memset(gmem_ptr(r->mem, RIG_STACK, 4096), 0x5a, 4096);
	memset(gmem_ptr(r->mem, PROG_ODD_PAGE, 4096), 0x77, 4096);
	memset(c->s.xsave + X86_FX_XMM, 0x41, 256);
	memset(c->s.xsave + X86_XS_AVX, p->seed & 1 ? 0x42 : 0, 256);
	c->s.xsave[X86_XS_BV] |= 4;
	c->s.cr4 |= X86_CR4_OSXSAVE;
	c->s.xcr0 = 7;
	init_fx(c->s.xsave);
	set_privilege(&c->s, p);
	set_places(&c->s, p);
	set_marks(r, p);
	/* Halted, or a triple fault: there is no IDT. A kick is ready for the former. */
	r->engine->ops->set_state(r->v, &c->s, NULL);
	c->intr_maybe = false;          /* nobody asks for interrupts here: IF may rise without a look */
}

void prog_run(struct rig *r, const struct prog *p)
{
	const struct icpu *c = r->c;

	prog_set(r, p);
	if (r->engine == &rig_engine)
		rig_forget_places(r);
	for (unsigned i = 0; i < 400000 && c->s.mp_state == X86_MP_RUNNABLE; i++) {
		struct icpu_event ev;

		if (r->engine == &rig_engine && i == 0) {
			/* All at once; a fault ends it as it does a step. */
			if (bt_run_to_fault(r->v, &ev))
				return;
			continue;
		}
		if (r->engine->step(r->v, &ev))
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

/* C gets its own floating-point environment back, whatever the program was doing. */
void prog_check_host_fp(void)
{
	uint32_t mxcsr;
	uint16_t env[14];

	__asm__ volatile("stmxcsr %0; fnstenv %1; fldenv %1" : "=m"(mxcsr), "=m"(env));
	CHECK_EQ(mxcsr & ~0x3fu, 0x1f80);
	CHECK_EQ(env[0], 0x37f);
	CHECK_EQ(env[4], 0xffff);               /* all empty */
}

void prog_compare(struct rig *a, struct rig *b, const struct prog *p)
{
	const struct x86_state *x = &a->c->s, *y = &b->c->s;
	bool has_halted = x->mp_state == X86_MP_HALTED;

	for (unsigned i = 0; i < 16; i++)
		if (x->gpr[i] != y->gpr[i])
			FAIL("program %" PRIx64 ": register %u is %" PRIx64 ", not %" PRIx64 "; rip %" PRIx64 ", not %" PRIx64,
			     p->seed, i, y->gpr[i], x->gpr[i], y->rip, x->rip);
	CHECK_EQ(y->rip, x->rip);
	/* At a fault, flags that nobody reads any more may be older ones. */
	if (has_halted)
		CHECK_EQ(y->rflags, x->rflags);
	CHECK_EQ(y->cr2, x->cr2);
	CHECK_EQ(y->seg[X86_GS].base, x->seg[X86_GS].base);
	CHECK_EQ(y->kernel_gs_base, x->kernel_gs_base);
	CHECK_EQ(memcmp(x->xsave, y->xsave, 416), 0);
	CHECK_EQ(memcmp(x->xsave + X86_XS_AVX, y->xsave + X86_XS_AVX, 256), 0);
	for (unsigned i = 0; i < 3; i++)
		compare_page(a, b, p, RIG_DATA + 4096 * i);
	for (unsigned i = 0; p->is_user && i < N_PROG_FAR_TABLES; i++)
		compare_page(a, b, p, PROG_FAR_TABLES + 4096 * i);
	if (p->is_user)
		compare_page(a, b, p, RIG_PT);
	compare_page(a, b, p, RIG_DATA + PROG_ODD);
	compare_page(a, b, p, PROG_ODD_PAGE);
	compare_page(a, b, p, RIG_STACK);
}

void prog_map_odd(struct rig *r)
{
	*rig_pte(r, RIG_DATA + PROG_ODD + 4096) = PROG_ODD_PAGE | 0x67;
	*rig_pte(r, RIG_DATA + PROG_ODD + 8192) = 0;
}

void prog_map_far(struct rig *r)
{
	uint64_t *pml4 = gmem_ptr(r->mem, RIG_PML4, 4096);

	pml4[6] = pml4[254] = RIG_PDPT | 7;
	/* Three tables for the last page before 4 TiB, three for what follows. */
	for (unsigned i = 0; i < 2; i++) {
		uint64_t table = PROG_FAR_TABLES + 3 * 4096 * i;
		unsigned at = i ? 0 : 511;

		pml4[7 + i] = table | 7;
		for (unsigned level = 0; level < 2; level++, table += 4096)
			*(uint64_t *)gmem_ptr(r->mem, table + 8 * at, 8) = (table + 4096) | 7;
	}
	for (unsigned n = 0; n < 16; n++)
		*far_pte(r, n) = *rig_pte(r, RIG_DATA + 4096 * n);
}

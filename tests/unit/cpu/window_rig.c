/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/window_rig.h"

#include "cpu/bt/bt.h"
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/window.h"
#include "cpu/rig_on_bt.h"
#include "test.h"
#include "util/fatal.h"

static void map_pages(struct rig *r)
{
	uint64_t *pml4 = gmem_ptr(r->mem, RIG_PML4, 4096);
	static const uint8_t places[] = { 3, 10, 11, 12, 13, 14, 127 };

	for (unsigned i = 0; i < sizeof(places); i++)
		pml4[2 * places[i]] = RIG_PDPT | 7;
	pml4[256] = RIG_PDPT | 7;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t table = WR_TABLES + 3 * 4096 * i;
		unsigned at = i ? 0 : 511;

		pml4[7 + i] = table | 7;
		for (unsigned level = 0; level < 2; level++, table += 4096)
			*(uint64_t *)gmem_ptr(r->mem, table + 8 * at, 8) = (table + 4096) | 7;
		for (unsigned n = 0; n < (i ? WR_PAGES - 1 : 1); n++)
			*(uint64_t *)gmem_ptr(r->mem, table + 8 * (at + n), 8) = (RIG_DATA + 4096 * (n + i)) | 7;
	}
	pml4[255] = pml4[7];
	*rig_pte(r, 0) = (RIG_DATA + 0x9000) | 7;
	*rig_pte(r, WR_READ_ONLY) &= ~2ull;
	*rig_pte(r, WR_READ_ONLY_2) &= ~2ull;
	*rig_pte(r, WR_SUPER) &= ~4ull;
	*rig_pte(r, WR_MISSING) = 0;
}

static void set_cpl(struct icpu *c, unsigned cpl)
{
	c->s.seg[X86_CS].sel = cpl ? WR_USER_CS : 8;
	c->s.seg[X86_CS].attr = 0xa09b | cpl << 5;
	c->s.seg[X86_SS].sel = cpl ? WR_USER_SS : 16;
	c->s.seg[X86_SS].attr = 0xc093 | cpl << 5;
}

static void put_code(struct rig *r, uint64_t at, const struct code *code)
{
	rig_code(r, at + (uint64_t)(code->to - code->from), "\xf4", 1);
	rig_code(r, at, code->from, (unsigned)(code->to - code->from));
}

void user_set(struct rig *r, const struct code *code, uint64_t rbx, uint64_t rsp)
{
	struct icpu *c = r->c;
	uint64_t *data = gmem_ptr(r->mem, RIG_DATA - 4096, (WR_PAGES + 1) * 4096);

	for (unsigned i = 0; i < (WR_PAGES + 1) * 512; i++)
		data[i] = WR_TARGET;
	for (unsigned i = 0; i < 512; i++)
		((uint64_t *)gmem_ptr(r->mem, RIG_STACK, 4096))[i] = WR_TARGET;
	for (unsigned i = 0; i < 16; i++)
		c->s.gpr[i] = i * 0x11111 + 2;
	c->s.gpr[X86_RBX] = c->s.gpr[X86_RSI] = c->s.gpr[X86_R13] = c->s.seg[X86_FS].base = rbx;
	c->s.gpr[X86_RSP] = c->s.gpr[X86_RDI] = c->s.gpr[X86_RBP] = c->s.seg[X86_GS].base = rsp;
	c->s.cr2 = 0;
	c->s.rflags = X86_FLAGS_FIXED;
	rig_code(r, WR_TARGET, "\xf4", 1);
	put_code(r, RIG_CODE, code);
	memset(c->s.xsave + X86_FX_XMM, 0x41, 256);
	const uint32_t mxcsr = 0x1f80;
	const uint16_t fcw = 0x37f;

	memcpy(c->s.xsave + X86_FX_MXCSR, &mxcsr, 4);
	memcpy(c->s.xsave + X86_FX_FCW, &fcw, 2);
	c->s.mp_state = X86_MP_RUNNABLE;
}

struct icpu_event user_run(struct rig *r)
{
	struct icpu_event ev = { .vector = 0 };
	int has_faulted = 0;

	if (r->engine == &rig_engine)
		has_faulted = bt_run_to_fault(r->v, &ev);
	while (r->engine != &rig_engine && !has_faulted && r->c->s.mp_state == X86_MP_RUNNABLE)
		has_faulted = r->engine->step(r->v, &ev);
	CHECK(has_faulted || r->c->s.mp_state == X86_MP_HALTED);
	return ev;
}

void kernel_run(struct rig *r, const struct code *code)
{
	struct icpu *c = r->c;
	struct x86_state was = c->s;

	set_cpl(c, 0);
	icpu_mode_changed(c);
	put_code(r, RIG_CODE + 0x1000, code);
	user_run(r);
	CHECK_EQ(c->s.mp_state, X86_MP_HALTED);
	memcpy(c->s.gpr, was.gpr, sizeof(was.gpr));
	c->s.rip = was.rip;
	c->s.rflags = was.rflags;
	c->s.mp_state = X86_MP_RUNNABLE;
	set_cpl(c, 3);
	icpu_mode_changed(c);
}

void user_start(struct rig *r)
{
	set_cpl(r->c, 3);
	r->c->s.cr4 |= X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;
	r->c->s.xcr0 = 7;
	r->engine->ops->set_state(r->v, &r->c->s, NULL);
}

void window_rig_init(struct window_rig *w) { window_rig_init_with(w, 1); }

void window_rig_init_with(struct window_rig *w, unsigned n_vcpus)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct code touch;

	w->stack = fatal_stack_new();
	rig_init_on(&w->interp, &interp, n_vcpus);
	rig_init(&w->bt, n_vcpus);
	ASSEMBLE(&touch, "mov rax, [rbx]");
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = i ? &w->bt : &w->interp;

		map_pages(r);
		user_start(r);
		user_set(r, &touch, RIG_DATA, RIG_STACK + 0x800);
		user_run(r);
	}
	CHECK(bt_window_now(bt_of(w->bt.c)));
}

void window_rig_fini(struct window_rig *w)
{
	rig_fini(&w->interp);
	rig_fini(&w->bt);
	fatal_stack_free(w->stack);
}

static void compare_pages(struct window_rig *w, uint64_t at, unsigned n, const char *what)
{
	const uint8_t *x = gmem_ptr(w->interp.mem, at, n * 4096), *y = gmem_ptr(w->bt.mem, at, n * 4096);

	for (unsigned i = 0; i < n * 4096; i++)
		if (x[i] != y[i])
			FAIL("%s: byte %#" PRIx64 " of memory is %x, not %x", what, at + i, y[i], x[i]);
}

void window_rig_compare(struct window_rig *w, const struct icpu_event *ea, const struct icpu_event *eb, bool is_loose, const char *what)
{
	const struct x86_state *x = &w->interp.c->s, *y = &w->bt.c->s;

	if (ea->vector != eb->vector || ea->code != eb->code || x->rip != y->rip || x->cr2 != y->cr2)
		FAIL("%s: exception %u, code %x, cr2 %" PRIx64 " at %" PRIx64 "; not %u, %x, %" PRIx64 " at %" PRIx64, what,
		     eb->vector, eb->code, y->cr2, y->rip, ea->vector, ea->code, x->cr2, x->rip);
	for (unsigned i = 0; i < 16; i++)
		if (x->gpr[i] != y->gpr[i])
			FAIL("%s: register %u is %" PRIx64 ", not %" PRIx64, what, i, y->gpr[i], x->gpr[i]);
	if (memcmp(x->xsave, y->xsave, 416) || memcmp(x->xsave + X86_XS_AVX, y->xsave + X86_XS_AVX, 256))
		FAIL("%s: x87 or vector registers differ", what);
	if (is_loose && *(const uint8_t *)gmem_ptr(w->interp.mem, x->rip & (RIG_RAM - 1), 1) != 0xf4)
		return;
	compare_pages(w, RIG_DATA - 4096, WR_PAGES + 1, what);
	compare_pages(w, RIG_STACK, 1, what);
	compare_pages(w, RIG_PT, 1, what);
	compare_pages(w, WR_TABLES, WR_N_TABLES, what);
}

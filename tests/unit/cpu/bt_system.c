/* SPDX-License-Identifier: Apache-2.0 */
/* System instructions in fragments: every case runs on the interpreter and on the translator, which
 * must end in the same state. Whole fragments run, not single instructions: that is where system
 * calls go from one to the next and interrupts find their place. */
#include "cpu/bt/bt.h"

#include <pthread.h>
#include <unistd.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/interp_rig.h"
#include "cpu/x86/cpuid.h"
#include "test.h"

enum {
	USER_CODE = 0x50000, KERNEL_CODE = 0x70000, STOP = 0x78000,
	USER_DATA = 0x60000, KERNEL_DATA = 0x61000,
};

/* One case: what user or kernel code does, what SYSCALL finds, and how the machine is set up. */
struct scene {
	const char *user, *kernel;      /* bytes */
	unsigned n_user, n_kernel;
	bool starts_in_kernel;
	uint64_t rflags, cr4_clear, cr4_set, fmask, lstar, star, rcx, r11;
	bool has_no_sce, has_interrupt;
	unsigned rounds;                /* R15; 0: 1 */
};

#define BYTES(s) s, sizeof(s) - 1
#define USER(s) .user = s, .n_user = sizeof(s) - 1
#define KERNEL(s) .kernel = s, .n_kernel = sizeof(s) - 1

static const struct rig_engine interp = { &cpu_interp, interp_step, true };

static void scene_set(struct rig *r, const struct scene *sc)
{
	const struct x86_cpuid_params p = { .n_vcpus = 1, .engine = &x86_features_bt, .tsc_hz = 1000000000, .phys_bits = 40 };
	struct x86_state *s = &r->c->s;

	source_host_init(&r->source, 0);
	x86_cpuid_build(&r->cpuid, &p);
	rig_code(r, USER_CODE, sc->user, sc->n_user);
	rig_code(r, KERNEL_CODE, sc->kernel, sc->n_kernel);
	for (unsigned i = 0; i < 256; i++) {
		rig_code(r, STOP + 16 * i, "\xf4", 1);
		rig_gate(r, i, STOP + 16 * i);
	}
	static const uint32_t supervisor[] = { KERNEL_DATA, RIG_STACK, RIG_IDT, RIG_GDT, RIG_TSS };

	for (unsigned i = 0; i < sizeof(supervisor) / sizeof(supervisor[0]); i++)
		if (i == 0 || sc->cr4_set & X86_CR4_SMAP)
			*rig_pte(r, supervisor[i]) &= ~4ull;
	memcpy(gmem_ptr(r->mem, RIG_TSS + 4, 8), &(uint64_t){ RIG_STACK + 0x800 }, 8);
	s->star = sc->star ? sc->star : 0x0023000800000000;
	s->lstar = sc->lstar ? sc->lstar : KERNEL_CODE;
	s->fmask = sc->fmask;
	s->efer &= sc->has_no_sce ? ~(uint64_t)X86_EFER_SCE : ~0ull;
	s->cr4 = (s->cr4 | X86_CR4_FSGSBASE | sc->cr4_set) & ~sc->cr4_clear;
	for (unsigned i = 0; i < 16; i++)
		s->gpr[i] = 0x1111111111111111ull * i;
	s->gpr[X86_RSP] = RIG_STACK + 0x700;
	s->gpr[X86_RBX] = USER_DATA;
	s->gpr[X86_RBP] = KERNEL_DATA;
	s->gpr[X86_RCX] = sc->rcx;
	s->gpr[X86_R11] = sc->r11;
	s->gpr[X86_R15] = sc->rounds ? sc->rounds : 1;
	s->seg[X86_GS].base = USER_DATA;
	s->kernel_gs_base = KERNEL_DATA;
	s->tsc_aux = 0x123456789;
	s->rflags = sc->rflags | X86_FLAGS_FIXED;
	s->rip = sc->starts_in_kernel ? KERNEL_CODE : USER_CODE;
	if (!sc->starts_in_kernel) {
		s->seg[X86_CS].sel = 0x33;
		s->seg[X86_CS].attr = 0xa0fb;
		s->seg[X86_SS].sel = 0x2b;
		s->seg[X86_SS].attr = 0xc0f3;
	}
	r->engine->ops->set_state(r->v, s, NULL);
	if (r->engine == &rig_engine)           /* translated at once */
		memset(bt_of(r->c)->seen, 0xff, sizeof(bt_of(r->c)->seen));
	if (sc->has_interrupt) {
		r->pending = 0x40;
		r->engine->ops->interrupt(r->v);
	} else {
		r->c->intr_maybe = false;       /* set_state() supposes one */
	}
}

static void scene_play(const struct scene *sc, struct rig *bt)
{
	struct rig a;

	rig_init_on(&a, &interp, 1);
	rig_init(bt, 1);
	scene_set(&a, sc);
	scene_set(bt, sc);
	rig_run_to_halt(&a);
	rig_run_to_halt(bt);
	const struct x86_state *x = &a.c->s, *y = &bt->c->s;

	for (unsigned i = 0; i < 16; i++)
		if (x->gpr[i] != y->gpr[i])
			FAIL("register %u is %" PRIx64 ", not %" PRIx64, i, y->gpr[i], x->gpr[i]);
	CHECK_EQ(y->rip, x->rip);
	CHECK_EQ(y->rflags, x->rflags);
	CHECK_EQ(y->cr2, x->cr2);
	CHECK_EQ(y->kernel_gs_base, x->kernel_gs_base);
	CHECK_EQ(y->int_shadow, x->int_shadow);
	CHECK_EQ(bt->c->cpl, a.c->cpl);
	for (unsigned i = 0; i < X86_N_SEGS; i++) {
		CHECK_EQ(y->seg[i].sel, x->seg[i].sel);
		CHECK_EQ(y->seg[i].base, x->seg[i].base);
		CHECK_EQ(y->seg[i].limit, x->seg[i].limit);
		CHECK_EQ(y->seg[i].attr, x->seg[i].attr);
	}
	CHECK_EQ(memcmp(gmem_ptr(a.mem, RIG_STACK, 4096), gmem_ptr(bt->mem, RIG_STACK, 4096), 4096), 0);
	rig_fini(&a);
}

/* Plays it and forgets; the state that both have ended in is returned. */
static struct x86_state scene_end(const struct scene *sc)
{
	struct x86_state s;
	struct rig bt;

	scene_play(sc, &bt);
	s = bt.c->s;
	rig_fini(&bt);
	return s;
}

/* l: syscall; dec r15d; jnz l; mov [rbp], eax (#PF: the kernel's page); pushf */
#define USER_LOOP "\x0f\x05\x41\xff\xcf\x75\xf9\x89\x45\x00\x9c"
/* swapgs; add qword gs:[8], 1; mov rax, cr3; swapgs; sysretq */
#define KERNEL_CALL "\x0f\x01\xf8\x65\x48\x83\x04\x25\x08\x00\x00\x00\x01\x0f\x20\xd8\x0f\x01\xf8\x48\x0f\x07"

TEST(system_calls_enter_and_return)
{
	struct scene sc = { USER(USER_LOOP), KERNEL(KERNEL_CALL),
			    .rflags = X86_IF | X86_CF | X86_OF | X86_SF, .fmask = 0x257fd5, .rounds = 100 };
	struct x86_state s = scene_end(&sc);

	CHECK_EQ(s.rip, STOP + 16 * X86_EXC_PF + 1);
	CHECK_EQ(s.cr2, KERNEL_DATA);
}

TEST(syscall_clears_the_flags_that_the_mask_names)
{
	/* pushf; pop rdx; hlt */
	static const uint64_t masks[] = { 0, X86_CF, X86_OF | X86_PF, 0x257fd5, X86_IF | X86_DF, X86_AC };

	for (unsigned i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		/* std; xor eax, eax; stc; syscall */
		struct scene sc = { USER("\xfd\x31\xc0\xf9\x0f\x05"), KERNEL("\x9c\x5a\xf4"),
				    .rflags = X86_IF, .fmask = masks[i] };
		struct x86_state s = scene_end(&sc);

		CHECK_EQ(s.gpr[X86_R11], X86_IF | X86_DF | X86_CF | X86_PF | X86_ZF | X86_FLAGS_FIXED);
		CHECK_EQ(s.gpr[X86_RDX], s.gpr[X86_R11] & ~masks[i]);
		CHECK_EQ(s.gpr[X86_RCX], USER_CODE + 6);
	}
}

TEST(syscall_and_sysret_are_invalid_without_sce)
{
	struct scene user = { USER("\x0f\x05"), KERNEL("\xf4"), .has_no_sce = true };
	struct scene kernel = { USER("\xf4"), KERNEL("\x48\x0f\x07"), .has_no_sce = true,
				.starts_in_kernel = true };

	CHECK_EQ(scene_end(&user).rip, STOP + 16 * X86_EXC_UD + 1);
	CHECK_EQ(scene_end(&kernel).rip, STOP + 16 * X86_EXC_UD + 1);
}

TEST(sysret_brings_flags_and_faults_in_the_kernel)
{
	static const struct { uint64_t rcx, r11; unsigned stop; } cases[] = {
		{ USER_CODE, X86_IF | X86_CF, X86_EXC_GP },             /* hlt in user mode */
		{ USER_CODE, X86_DF | X86_OF | X86_ID, X86_EXC_GP },
		{ USER_CODE, X86_AC | X86_IOPL, X86_EXC_GP },
		{ USER_CODE, X86_TF, X86_EXC_DB },
		{ USER_CODE, ~0ull & ~(uint64_t)X86_TF, X86_EXC_GP },
		{ 0x0000800000000000, X86_IF, X86_EXC_GP },             /* not canonical: still ring 0 */
		{ 0xffff7fffffffffff, X86_IF, X86_EXC_GP },
		{ 0xffff800000000000, X86_IF, X86_EXC_PF },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* nop; pushf; pop rdx; mov ecx, [rbx]; hlt */
		struct scene sc = { USER("\x90\x9c\x5a\x8b\x0b\xf4"), KERNEL("\x48\x0f\x07"),
				    .starts_in_kernel = true, .rcx = cases[i].rcx, .r11 = cases[i].r11 };

		CHECK_EQ(scene_end(&sc).rip, STOP + 16 * cases[i].stop + 1);
	}
}

TEST(a_system_call_to_nowhere_faults_there)
{
	struct scene sc = { USER("\x0f\x05"), KERNEL("\xf4"), .lstar = 0x5ead00000000 };

	CHECK_EQ(scene_end(&sc).cr2, 0x5ead00000000);
	sc.lstar = 0x1234567812345678;          /* WRMSR would have refused */
	CHECK_EQ(scene_end(&sc).rip, STOP + 16 * X86_EXC_GP + 1);
}

/* An interrupt has been waiting since before; it comes at the first place that it may. */
TEST(a_waiting_interrupt_comes_as_soon_as_if_rises)
{
	struct scene sti = { USER("\xf4"), KERNEL("\x90\xfb\xff\xc0\xff\xc0\xff\xc0\xf4"), .starts_in_kernel = true,
			     .has_interrupt = true };
	struct scene popf = { USER("\xf4"), KERNEL("\x68\x02\x02\x00\x00\x9d\xff\xc0\xff\xc0\xf4"),
			      .starts_in_kernel = true, .has_interrupt = true };
	struct scene sysret = { USER("\xff\xc0\xff\xc0\xf4"), KERNEL("\x48\x0f\x07"), .starts_in_kernel = true,
				.rcx = USER_CODE, .r11 = X86_IF, .has_interrupt = true };
	struct scene sti_hlt = { USER("\xf4"), KERNEL("\x90\xfb\xf4\xff\xc0\xf4"), .starts_in_kernel = true,
				 .has_interrupt = true };

	CHECK_EQ(scene_end(&sti).gpr[X86_RAX], 1);
	CHECK_EQ(scene_end(&popf).gpr[X86_RAX], 0);
	CHECK_EQ(scene_end(&sysret).gpr[X86_RAX], 0);
	CHECK_EQ(scene_end(&sti_hlt).rip, STOP + 16 * 0x40 + 1);
}

static void *interrupt_later(void *arg)
{
	struct rig *r = arg;

	usleep(20000);
	r->pending = 0x40;
	r->engine->ops->interrupt(r->v);
	return NULL;
}

/* It comes while a loop opens and shuts the window again and again, one instruction wide. */
TEST(an_interrupt_finds_a_narrow_window)
{
	/* l: cli; inc rax; sti; nop; jmp l */
	struct scene sc = { USER("\xf4"), KERNEL("\xfa\x48\xff\xc0\xfb\x90\xeb\xf8"), .starts_in_kernel = true };
	struct rig r;
	pthread_t t;

	rig_init(&r, 1);
	scene_set(&r, &sc);
	CHECK_EQ(pthread_create(&t, NULL, interrupt_later, &r), 0);
	rig_run_to_halt(&r);
	pthread_join(t, NULL);
	CHECK_EQ(r.c->s.rip, STOP + 16 * 0x40 + 1);
	CHECK(r.c->s.gpr[X86_RAX] > 1000);
	rig_fini(&r);
}

static void interrupt_now(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	struct rig *r = arg;

	r->pending = 0x40;
	r->engine->ops->interrupt(r->v);
}

/* The interrupt comes after the fragment has been entered; STI ends the page. */
TEST(an_instruction_follows_sti_across_the_end_of_a_page)
{
	enum { AT = KERNEL_CODE + 0x1000 - 4 };
	/* mov [rsi], edi; nop; sti; inc rax; inc rax; hlt */
	static const uint8_t code[] = { 0x89, 0x3e, 0x90, 0xfb, 0x48, 0xff, 0xc0, 0x48, 0xff, 0xc0, 0xf4 };
	struct scene sc = { USER("\xf4"), KERNEL("\xf4"), .starts_in_kernel = true };
	struct rig r;

	rig_init(&r, 1);
	r.host.mmio_write = interrupt_now;
	scene_set(&r, &sc);
	r.c->s.gpr[X86_RSI] = RIG_MMIO;
	rig_code(&r, AT, code, sizeof(code));
	rig_run_to_halt(&r);
	CHECK_EQ(r.c->s.rip, STOP + 16 * 0x40 + 1);
	CHECK_EQ(r.c->s.gpr[X86_RAX], 1);
	rig_fini(&r);
}

TEST(privileged_instructions_fault_in_user_mode)
{
	static const struct { const char *code; unsigned n, vector; } cases[] = {
		{ BYTES("\xfa"), X86_EXC_GP }, { BYTES("\xfb"), X86_EXC_GP }, { BYTES("\x0f\x01\xf8"), X86_EXC_GP },
		{ BYTES("\x0f\x20\xd8"), X86_EXC_GP }, { BYTES("\x0f\x22\xd0"), X86_EXC_GP },
		{ BYTES("\x48\x0f\x07"), X86_EXC_GP }, { BYTES("\x0f\x01\xcb"), X86_EXC_UD }, { BYTES("\x0f\x01\xca"), X86_EXC_UD },
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scene sc = { .user = cases[i].code, .n_user = cases[i].n, KERNEL("\xf4"), .rflags = X86_ZF };

		CHECK_EQ(scene_end(&sc).rip, STOP + 16 * cases[i].vector + 1);
	}
}

TEST(control_register_4_decides_over_time_and_bases)
{
	/* rdtsc; rdtscp; hlt */
	struct scene tsc = { USER("\x0f\x31\x31\xc0\x31\xd2\x0f\x01\xf9\xf4"), KERNEL("\xf4"),
			     .cr4_set = X86_CR4_TSD };
	/* rdfsbase rax; wrgsbase rbx; rdgsbase edx; hlt */
	struct scene base = { USER("\xf3\x48\x0f\xae\xc0\xf3\x48\x0f\xae\xdb\xf3\x0f\xae\xca\xf4"), .kernel = "\xf4",
			      .n_kernel = 1 };
	/* wrfsbase rsi, which is not canonical */
	struct scene bad = { USER("\x48\xbe\x00\x00\x00\x00\x00\x80\x00\x00\xf3\x48\x0f\xae\xd6\xf4"), .kernel = "\xf4",
			     .n_kernel = 1 };

	CHECK_EQ(scene_end(&tsc).rip, STOP + 16 * X86_EXC_GP + 1);
	CHECK_EQ(scene_end(&base).gpr[X86_RDX], USER_DATA);
	base.cr4_clear = X86_CR4_FSGSBASE;
	CHECK_EQ(scene_end(&base).rip, STOP + 16 * X86_EXC_UD + 1);
	CHECK_EQ(scene_end(&bad).rip, STOP + 16 * X86_EXC_GP + 1);
}

TEST(accesses_that_are_checked_together_fault_where_the_address_is_not_canonical)
{
	/* mov rdi, rbx; loop: mov [rdi], rax; mov rcx, [rdi + 8]; btc rdi, 60; jmp loop */
	struct scene data = { USER("\xf4"), KERNEL("\x48\x89\xdf\x48\x89\x07\x48\x8b\x4f\x08\x48\x0f\xba\xff\x3c\xeb\xf2"),
			      .starts_in_kernel = true };
	/* the same with rbp */
	struct scene stack = { USER("\xf4"),
			       KERNEL("\x48\x89\xdd\x48\x89\x45\x00\x48\x8b\x4d\x08\x48\x0f\xba\xfd\x3c\xeb\xf1"),
			       .starts_in_kernel = true };

	CHECK_EQ(scene_end(&data).rip, STOP + 16 * X86_EXC_GP + 1);
	CHECK_EQ(scene_end(&stack).rip, STOP + 16 * X86_EXC_SS + 1);
}

TEST(the_time_stamp_is_the_sources_plus_the_offset)
{
	/* rdtsc; mov esi, eax; mov edi, edx; rdtscp; hlt */
	struct scene sc = { USER("\xf4"), KERNEL("\x0f\x31\x89\xc6\x89\xd7\x0f\x01\xf9\xf4"), .starts_in_kernel = true };
	struct rig r;

	rig_init(&r, 1);
	scene_set(&r, &sc);
	r.c->s.tsc_offset = 0x123456789abcdull;
	uint64_t before = source_tsc(&r.source.s);

	rig_run_to_halt(&r);
	uint64_t after = source_tsc(&r.source.s), *g = r.c->s.gpr;
	uint64_t first = (g[X86_RSI] | g[X86_RDI] << 32) - r.c->s.tsc_offset;
	uint64_t second = (g[X86_RAX] | g[X86_RDX] << 32) - r.c->s.tsc_offset;

	CHECK(before < first && first < second && second < after);
	CHECK_EQ(g[X86_RAX] >> 32, 0);
	CHECK_EQ(g[X86_RDX] >> 32, 0);
	CHECK_EQ(g[X86_RCX], 0x23456789);
	rig_fini(&r);
}

TEST(smap_is_lifted_by_stac_and_back_by_clac)
{
	/* stac; mov [rbx], eax; call +1; hlt; clac; clac; mov [rbp], eax; mov [rbx], eax (#PF); pushf */
	struct scene sc = { USER("\xf4"),
			    KERNEL("\x0f\x01\xcb\x89\x03\xe8\x01\x00\x00\x00\xf4\x0f\x01\xca\x0f\x01\xca\x89\x45\x00\x89\x03\x9c"),
			    .starts_in_kernel = true, .cr4_set = X86_CR4_SMAP, .rflags = X86_CF };
	struct x86_state s = scene_end(&sc);

	CHECK_EQ(s.rip, STOP + 16 * X86_EXC_PF + 1);
	CHECK_EQ(s.cr2, USER_DATA);
}

TEST(user_flags_change_as_far_as_user_mode_may)
{
	static const uint32_t flags[] = { 0x2, 0x202, 0x8d7, 0x3202, 0x40002, 0x200002, 0x402, 0x4002, 0x100002 };

	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		for (unsigned iopl = 0; iopl < 2; iopl++) {
			char code[] = "\x68____\x9d\x9c\x5a\xf4";       /* push imm; popf; pushf; pop rdx; hlt */
			struct scene sc = { USER(code), KERNEL("\xf4"),
					    .rflags = X86_IF | (iopl ? X86_IOPL : 0) };

			memcpy(code + 1, &flags[i], 4);
			scene_end(&sc);
		}
}

TEST(strings_of_many_pages_stay_in_code)
{
	enum { FROM = 0x80003, TO = 0x90805, N = 0x2801, FILL = 0xa0008, N_FILL = 0x600, ROUNDS = 50 };
	/* l: mov esi, FROM; mov edi, TO; mov ecx, N; rep movsb; mov edi, FILL; mov ecx, N_FILL; rep stosq; dec r15d; jnz l; hlt */
	struct scene sc = { KERNEL("\xbe\x03\x00\x08\x00\xbf\x05\x08\x09\x00\xb9\x01\x28\x00\x00\xf3\xa4"
				   "\xbf\x08\x00\x0a\x00\xb9\x00\x06\x00\x00\xf3\x48\xab\x41\xff\xcf\x75\xdd\xf4"),
			    USER("\xf4"), .starts_in_kernel = true, .rounds = ROUNDS };
	struct rig r;

	rig_init(&r, 1);
	scene_set(&r, &sc);
	uint8_t *from = gmem_ptr(r.mem, FROM, N), *fill = gmem_ptr(r.mem, FILL, 8 * N_FILL + 8);

	for (unsigned i = 0; i < N; i++)
		from[i] = (uint8_t)(i * 5 + (i >> 8));
	memset(fill, 0xaa, 8 * N_FILL + 8);
	rig_run_to_halt(&r);
	CHECK_MEM(gmem_ptr(r.mem, TO, N), from, N);
	CHECK_EQ(*(uint8_t *)gmem_ptr(r.mem, TO + N, 1), 0);
	for (unsigned i = 0; i < 8 * N_FILL + 8; i++)
		CHECK_EQ(fill[i], i < 8 * N_FILL ? 0 : 0xaa);
	CHECK_EQ(r.c->s.gpr[X86_RDI], FILL + 8 * N_FILL);
	CHECK_EQ(r.c->s.gpr[X86_RCX], 0);
	/* But for the first round, which sets the accessed and dirty bits. */
	CHECK(bt_of(r.c)->n_call_outs[X86_OP_MOVS] < ROUNDS / 2);
	CHECK(bt_of(r.c)->n_call_outs[X86_OP_STOS] < ROUNDS / 2);
	rig_fini(&r);
}

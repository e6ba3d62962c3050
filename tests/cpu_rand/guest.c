/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - programs on an engine: one vcpu in 64-bit mode at CPL 3, whose page tables give it the address space
 * of rand.h. The translator also runs stopped at random polls and begun again, as interrupts do. */
#include <stdlib.h>
#include <string.h>
#include "../../src/cpu/bt/bt_priv.h"
#include "cpu/bt/bt.h"
#include "cpu/interp/interp.h"
#include "rand.h"

enum {
	GPA_PML4 = 0x1000, GPA_PDPT = 0x2000, GPA_PD = 0x3000, GPA_PT = 0x4000 /* three */, GPA_CODE = 0x10000,
	GPA_DATA = 0x20000, GPA_STACK = 0x30000, GUEST_RAM = 4 << 20,
	PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_TABLE = PTE_P | PTE_W | PTE_U, MAX_STEPS = 200000, MAX_FUEL = 12,
};
#define PTE_NX (1ull << 63)

struct rand_guest {
	enum rand_engine engine;
	const struct cpu_ops *ops;
	struct gmem *mem;
	struct x86_cpuid cpuid;
	struct cpu_host host;
	struct cpu_vm *vm;
	struct vcpu *v;
	struct icpu *c;
	struct x86_state clean;         /* of a process that has not run */
	uint64_t random;
	uint8_t pattern[DIFF_DATA_LEN];
};

static void guest_pte(struct rand_guest *g, gpa_t table, uint64_t index, uint64_t entry)
{
	memcpy(gmem_ptr(g->mem, table + 8 * index, 8), &entry, 8);
}

static void guest_map(struct rand_guest *g, unsigned n, uint64_t la, gpa_t gpa, uint64_t len, uint64_t rights)
{
	guest_pte(g, GPA_PD, la >> 21, (GPA_PT + 0x1000u * n) | PTE_TABLE);
	for (uint64_t i = 0; i < len >> 12; i++)
		guest_pte(g, GPA_PT + 0x1000u * n, (la >> 12 & 511) + i, (gpa + 0x1000 * i) | PTE_P | PTE_U | rights);
}

static void guest_make_state(struct rand_guest *g)
{
	const uint32_t user = X86_SEG_S | X86_SEG_P | 3 << X86_SEG_DPL_SHIFT | X86_SEG_ACCESSED | X86_SEG_RW | X86_SEG_G;
	struct x86_state *s = &g->clean;

	x86_state_reset(s, 1);
	s->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
	s->cr3 = GPA_PML4;
	s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_OSXSAVE;
	s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s->xcr0 = x86_cpuid_xcr0(&g->cpuid);
	s->seg[X86_CS] = (struct x86_seg){ 0, 0xffffffff, user | X86_SEG_CODE | X86_SEG_L, 0x33 };
	s->seg[X86_SS] = s->seg[X86_DS] = s->seg[X86_ES] = (struct x86_seg){ 0, 0xffffffff, user | X86_SEG_DB, 0x2b };
	s->seg[X86_FS] = s->seg[X86_GS] = (struct x86_seg){ 0, 0, X86_SEG_UNUSABLE, 0 };
	s->xsave[X86_XS_BV] = 7;
}

static bool guest_init(struct rand_guest *g)
{
	const struct x86_cpuid_params params = {
		.n_vcpus = 1, .engine = g->ops->features, .tsc_hz = 1000000000, .phys_bits = 40,
	};
	struct cpu_config cfg = { .n_vcpus = 1, .cpuid = &g->cpuid, .host = &g->host };

	if (gmem_new(&g->mem, GUEST_RAM, NULL) < 0)
		return false;
	x86_cpuid_build(&g->cpuid, &params);
	cfg.mem = g->mem;
	if (g->ops->vm_new(&g->vm, &cfg, NULL) < 0)
		return false;
	g->v = g->ops->vcpu(g->vm, 0);
	g->c = (struct icpu *)g->v;
	if (g->engine == RAND_BT_STOPPED)
		bt_of(g->c)->is_checked = true;
	guest_pte(g, GPA_PML4, 0, GPA_PDPT | PTE_TABLE);
	guest_pte(g, GPA_PDPT, 0, GPA_PD | PTE_TABLE);
	guest_map(g, 0, RAND_CODE, GPA_CODE, RAND_CODE_LEN, PTE_W);
	guest_map(g, 1, DIFF_DATA, GPA_DATA, DIFF_RW_LEN, PTE_W | PTE_NX);
	guest_pte(g, GPA_PT + 0x1000, DIFF_RW_LEN >> 12, (GPA_DATA + DIFF_RW_LEN) | PTE_P | PTE_U | PTE_NX);
	guest_map(g, 2, RAND_STACK, GPA_STACK, RAND_STACK_LEN, PTE_W | PTE_NX);
	gen_pattern(g->pattern);
	guest_make_state(g);
	return gmem_write(g->mem, GPA_DATA, g->pattern, DIFF_DATA_LEN) == 0 && g->ops->set_state(g->v, &g->clean, NULL) == 0;
}

struct rand_guest *rand_guest_new(enum rand_engine engine)
{
	struct rand_guest *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->engine = engine;
	g->ops = engine == RAND_INTERP ? &cpu_interp : &cpu_bt;
	if (guest_init(g))
		return g;
	rand_guest_free(g);
	return NULL;
}

void rand_guest_free(struct rand_guest *g)
{
	if (!g)
		return;
	if (g->vm)
		g->ops->vm_free(g->vm);
	gmem_free(g->mem);
	free(g);
}

static bool guest_load(struct rand_guest *g, const struct rand_prog *p)
{
	struct x86_state s = g->clean;

	memcpy(s.gpr, p->in.gpr, sizeof(s.gpr));
	s.rip = p->in.rip;
	s.rflags = p->in.rflags;
	s.seg[X86_FS].base = p->in.fs_base;
	s.seg[X86_GS].base = p->in.gs_base;
	memcpy(s.xsave, p->in.fx, DIFF_FX_LEN);
	memcpy(s.xsave + X86_XS_AVX, p->in.ymmh, DIFF_YMMH_LEN);
	/* Privilege and paging are what they were: set_state(), which flushes, is for the first time. */
	g->c->s = s;
	g->random = p->seed;
	return gmem_write(g->mem, GPA_CODE, p->code, RAND_CODE_LEN) == 0 &&
	       gmem_write(g->mem, GPA_DATA, g->pattern, DIFF_RW_LEN) == 0 &&
	       gmem_fill(g->mem, GPA_STACK, 0x5a, RAND_STACK_LEN) == 0;
}

static void bt_until_stopped(struct icpu *c)
{
	atomic_exchange(&c->req, 0);
	c->code_maybe = true;
	bt_execute(c);
}

static int guest_go(struct rand_guest *g, struct icpu_event *fault)
{
	int r = 0;

	if (g->engine == RAND_BT)
		return bt_run_to_fault(g->v, fault);
	for (unsigned n = 0; n < MAX_STEPS && !r; n++) {
		if (g->engine == RAND_INTERP) {
			r = icpu_step(g->c, icpu_run_block, fault);
			continue;
		}
		g->random = g->random * 6364136223846793005u + 1442695040888963407u;
		bt_of(g->c)->fuel = 1 + (int32_t)((g->random >> 33) % MAX_FUEL);
		r = bt_step_until(g->v, bt_until_stopped, fault);
	}
	return r;
}

static void guest_save(struct rand_guest *g, struct rand_result *r)
{
	const struct x86_state *s = &g->c->s;

	memcpy(r->out.gpr, s->gpr, sizeof(r->out.gpr));
	r->out.rip = s->rip;
	r->out.rflags = s->rflags;
	memcpy(r->out.fx, s->xsave, DIFF_FX_LEN);
	memcpy(r->out.ymmh, s->xsave + X86_XS_AVX, DIFF_YMMH_LEN);
	memcpy(r->code, gmem_ptr(g->mem, GPA_CODE, RAND_CODE_LEN), RAND_CODE_LEN);
	memcpy(r->data, gmem_ptr(g->mem, GPA_DATA, DIFF_RW_LEN), DIFF_RW_LEN);
	memcpy(r->stack, gmem_ptr(g->mem, GPA_STACK, RAND_STACK_LEN), RAND_STACK_LEN);
}

void rand_guest_run(struct rand_guest *g, const struct rand_prog *p, struct rand_result *r)
{
	struct icpu_event fault = { 0 };
	uint64_t before = g->c->stats.insns, to;

	r->n_events = 0;
	r->has_run = guest_load(g, p);
	do {
		if (!r->has_run || guest_go(g, &fault) != 1) {
			r->has_run = false;
			return;
		}
		struct rand_event *e = &r->event[r->n_events++];

		*e = (struct rand_event){ fault.vector, fault.has_code ? fault.code : 0, 0, g->c->s.rip, { 0 } };
		e->cr2 = fault.vector == X86_EXC_PF ? g->c->s.cr2 : 0;
		memcpy(e->gpr, g->c->s.gpr, sizeof(e->gpr));
		to = rand_resume(p, e->rip);
		if (to && r->n_events < RAND_EVENTS) {
			g->c->s.rip = to;
			g->c->s.rflags = X86_FLAGS_FIXED | X86_IF;
		}
	} while (to && r->n_events < RAND_EVENTS);
	guest_save(g, r);
	r->n_insns = g->c->stats.insns - before;
}

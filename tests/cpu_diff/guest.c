/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c - run cases on the engine: one vcpu in long mode at CPL 3, with page tables that
 * give it the address space of diff.h, stepped by one instruction. */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/bt/bt.h"
#include "cpu/interp/interp.h"
#include "cpu/interp/interp_priv.h"
#include "diff.h"

/* Guest-physical layout. */
enum {
	GPA_PML4 = 0x1000, GPA_PDPT = 0x2000, GPA_PD = 0x3000, GPA_PT_CODE = 0x4000, GPA_PT_DATA = 0x5000,
	GPA_CODE = 0x10000, GPA_DATA = 0x20000, GUEST_RAM = 4 << 20,
	PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 32, PTE_D = 64, PTE_TABLE = PTE_P | PTE_W | PTE_U | PTE_A,
};
#define PTE_NX (1ull << 63)

struct guest {
	struct gmem *mem;
	struct x86_cpuid cpuid;
	struct cpu_host host;
	struct cpu_vm *vm;
	const struct cpu_ops *ops;
	int (*step)(struct vcpu *v, struct icpu_event *fault);
	struct vcpu *v;
	struct icpu *c;                 /* the same vcpu */
	bool is_32;                     /* its code segment now */
	uint8_t pattern[DIFF_DATA_LEN];
};

static void guest_pte(struct guest *g, gpa_t table, unsigned index, uint64_t entry)
{
	memcpy(gmem_ptr(g->mem, table + 8ull * index, 8), &entry, 8);
}

static void guest_map(struct guest *g)
{
	guest_pte(g, GPA_PML4, 0, GPA_PDPT | PTE_TABLE);
	guest_pte(g, GPA_PDPT, 0, GPA_PD | PTE_TABLE);
	guest_pte(g, GPA_PD, DIFF_CODE >> 21, GPA_PT_CODE | PTE_TABLE);
	guest_pte(g, GPA_PD, DIFF_DATA >> 21, GPA_PT_DATA | PTE_TABLE);
	guest_pte(g, GPA_PT_CODE, 0, GPA_CODE | PTE_P | PTE_U | PTE_A);
	for (unsigned i = 0; i < DIFF_DATA_LEN / 4096; i++) {
		uint64_t w = i < DIFF_RW_LEN / 4096 ? PTE_W | PTE_D : 0;

		guest_pte(g, GPA_PT_DATA, i, (GPA_DATA + 4096u * i) | PTE_P | PTE_U | PTE_A | PTE_NX | w);
	}
	memset(gmem_ptr(g->mem, GPA_CODE, 4096), 0xcc, 4096);
	gen_pattern(g->pattern);
	memcpy(gmem_ptr(g->mem, GPA_DATA, DIFF_DATA_LEN), g->pattern, DIFF_DATA_LEN);
}

/* The state of a Linux process, selectors included. */
static int guest_enter(struct guest *g, bool is_32)
{
	const uint32_t user = X86_SEG_S | X86_SEG_P | 3 << X86_SEG_DPL_SHIFT | X86_SEG_ACCESSED | X86_SEG_RW | X86_SEG_G;
	struct x86_state s;

	memset(&s, 0, sizeof(s));
	x86_state_reset(&s, 1);
	s.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
	s.cr3 = GPA_PML4;
	s.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_OSXSAVE;
	s.efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
	s.xcr0 = x86_cpuid_xcr0(&g->cpuid);
	s.seg[X86_CS] = (struct x86_seg){ 0, 0xffffffff, user | X86_SEG_CODE | (is_32 ? X86_SEG_DB : X86_SEG_L),
					  is_32 ? 0x23 : 0x33 };
	s.seg[X86_SS] = s.seg[X86_DS] = s.seg[X86_ES] =
		(struct x86_seg){ 0, 0xffffffff, user | X86_SEG_DB, 0x2b };
	s.seg[X86_FS] = s.seg[X86_GS] = (struct x86_seg){ 0, 0, X86_SEG_UNUSABLE, 0 };
	g->is_32 = is_32;
	return g->ops->set_state(g->v, &s, NULL);
}

/* The interpreter's features, but with LA57 only where the host has it: the width of linear
 * addresses decides which bases WRFSBASE and WRGSBASE take, whatever CR4.LA57 says. */
static struct x86_features guest_features(void)
{
	enum { LA57 = 1 << 16 };
	struct x86_features f = x86_features_interp;
	unsigned a, b, c = 0, d;

	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c & LA57))
		f.word[X86_W_7_ECX] &= ~(uint32_t)LA57;
	return f;
}

static bool guest_init(struct guest *g)
{
	const struct x86_features features = guest_features();
	const struct x86_cpuid_params params = {
		.n_vcpus = 1, .engine = &features, .tsc_hz = 1000000000, .phys_bits = 40,
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
	guest_map(g);
	return guest_enter(g, false) >= 0;
}

struct guest *guest_new(bool use_bt)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (g) {
		g->ops = use_bt ? &cpu_bt : &cpu_interp;
		g->step = use_bt ? bt_step : interp_step;
	}
	if (g && guest_init(g))
		return g;
	guest_free(g);
	return NULL;
}

void guest_free(struct guest *g)
{
	if (!g)
		return;
	if (g->vm)
		g->ops->vm_free(g->vm);
	gmem_free(g->mem);
	free(g);
}

/* Memory and registers before the case. False when the engine refuses the state. */
static bool guest_load(struct guest *g, const struct diff_case *c)
{
	uint8_t code[X86_INSN_MAX];
	struct x86_state *s = &g->c->s;

	memset(code, 0xcc, sizeof(code));
	memcpy(code, c->code, c->len);
	if (gmem_write(g->mem, GPA_CODE + (DIFF_START - DIFF_CODE), code, sizeof(code)) < 0)
		return false;
	memcpy(gmem_ptr(g->mem, GPA_DATA, DIFF_RW_LEN), g->pattern, DIFF_RW_LEN);
	if (c->patch_len)
		memcpy(gmem_ptr(g->mem, GPA_DATA + (c->patch_addr - DIFF_DATA), c->patch_len), c->patch, c->patch_len);
	if (g->is_32 != c->is_32 && guest_enter(g, c->is_32) < 0)
		return false;
	memcpy(s->gpr, c->in.gpr, sizeof(s->gpr));
	s->rip = c->in.rip;
	s->rflags = c->in.rflags;
	s->seg[X86_FS].base = c->in.fs_base;
	s->seg[X86_GS].base = c->in.gs_base;
	s->cr2 = 0;
	memcpy(s->xsave, c->in.fx, DIFF_FX_LEN);
	memcpy(s->xsave + X86_XS_AVX, c->in.ymmh, DIFF_YMMH_LEN);
	return true;
}

void guest_run(struct guest *g, const struct diff_case *c, struct diff_result *r)
{
	const struct x86_state *s = &g->c->s;
	struct icpu_event fault = { 0 };

	r->has_run = guest_load(g, c);
	r->vector = DIFF_NO_VECTOR;
	r->error = 0;
	r->cr2 = 0;
	if (r->has_run && g->step(g->v, &fault)) {
		r->vector = fault.vector;
		r->error = fault.has_code ? fault.code : 0;
		r->cr2 = fault.vector == X86_EXC_PF ? s->cr2 : 0;
	}
	memcpy(r->out.gpr, s->gpr, sizeof(r->out.gpr));
	r->out.rip = s->rip;
	r->out.rflags = s->rflags;
	r->out.fs_base = s->seg[X86_FS].base;
	r->out.gs_base = s->seg[X86_GS].base;
	memcpy(r->out.fx, s->xsave, DIFF_FX_LEN);
	memcpy(r->out.ymmh, s->xsave + X86_XS_AVX, DIFF_YMMH_LEN);
	memcpy(r->mem, gmem_ptr(g->mem, GPA_DATA, DIFF_RW_LEN), DIFF_RW_LEN);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/interp_rig.h"

#include <pthread.h>
#include "test.h"
#include "util/err.h"

static uint32_t rig_pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size) { return ~0u; }
static void rig_pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val) {}

static uint64_t rig_mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	struct rig *r = arg;

	r->n_mmio++;
	return r->mmio_value >> (8 * (gpa & 7));
}

static void rig_mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	struct rig *r = arg;

	r->n_mmio++;
	r->mmio_gpa = gpa;
	r->mmio_last = val;
	r->mmio_size = size;
}

static int rig_msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val) { return -1; }
static int rig_msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val) { return -1; }

static int rig_intr_ack(void *arg, unsigned cpu)
{
	return atomic_exchange(&((struct rig *)arg)->pending, -1);
}

static bool rig_intr_pending(void *arg, unsigned cpu)
{
	return atomic_load(&((struct rig *)arg)->pending) >= 0;
}

static unsigned rig_cr8_read(void *arg, unsigned cpu) { return 0; }
static void rig_cr8_write(void *arg, unsigned cpu, unsigned val) {}

static void put64(struct rig *r, gpa_t gpa, uint64_t v)
{
	if (gmem_write(r->mem, gpa, &v, 8) < 0)
		FAIL("no RAM at %#" PRIx64, gpa);
}

static void rig_tables(struct rig *r)
{
	put64(r, RIG_PML4, RIG_PDPT | 7);
	put64(r, RIG_PDPT, RIG_PD | 7);
	put64(r, RIG_PD, RIG_PT | 7);
	put64(r, RIG_PD + 8, 0x87);                     /* 2 MiB page onto 0 */
	for (uint64_t la = 0x10000; la < RIG_MMIO; la += 4096)
		put64(r, RIG_PT + la / 4096 * 8, la | 7);
	put64(r, RIG_PT + RIG_MMIO / 4096 * 8, RIG_MMIO_GPA | 7);
	put64(r, RIG_GDT + 8, 0x00209b0000000000);      /* 64-bit code */
	put64(r, RIG_GDT + 16, 0x0000930000000000);     /* data */
}

static void rig_state(struct rig *r, unsigned n)
{
	struct vcpu *v = r->engine->ops->vcpu(r->vm, n);
	struct x86_state s;

	r->engine->ops->get_state(v, &s, NULL);
	for (unsigned i = 0; i < X86_N_SEGS; i++)
		s.seg[i] = (struct x86_seg){ .limit = 0xffffffff, .attr = 0xc093, .sel = 16 };
	s.seg[X86_CS].attr = 0xa09b;
	s.seg[X86_CS].sel = 8;
	s.tr = (struct x86_seg){ .base = RIG_TSS, .limit = 0x67, .attr = 0x8b, .sel = 24 };
	s.gdtr = (struct x86_dtab){ .base = RIG_GDT, .limit = 0xfff };
	s.idtr = (struct x86_dtab){ .base = RIG_IDT, .limit = 0xfff };
	s.cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_WP | X86_CR0_NE | X86_CR0_ET;
	s.cr3 = RIG_PML4;
	s.cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR;
	s.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | X86_EFER_SCE;
	s.rip = RIG_CODE;
	s.rflags = X86_FLAGS_FIXED;
	s.mp_state = X86_MP_RUNNABLE;
	memset(s.gpr, 0, sizeof(s.gpr));
	s.gpr[X86_RSP] = RIG_STACK + 0x1000 - 256 * n;
	r->engine->ops->set_state(v, &s, NULL);
}

void rig_init_cached(struct rig *r, const struct rig_engine *engine, unsigned n_vcpus, size_t code_cache)
{
	struct err err = ERR_INIT;

	*r = (struct rig){ .engine = engine, .pending = -1 };
	r->host = (struct cpu_host){
		.arg = r,
		.pio_read = rig_pio_read, .pio_write = rig_pio_write,
		.mmio_read = rig_mmio_read, .mmio_write = rig_mmio_write,
		.msr_read = rig_msr_read, .msr_write = rig_msr_write,
		.intr_ack = rig_intr_ack, .intr_pending = rig_intr_pending,
		.cr8_read = rig_cr8_read, .cr8_write = rig_cr8_write,
	};
	if (gmem_new(&r->mem, RIG_RAM, &err) < 0)
		FAIL("%s", err.msg);
	rig_tables(r);
	x86_cpuid_build(&r->cpuid, &(struct x86_cpuid_params){
		.n_vcpus = n_vcpus, .engine = &x86_features_interp, .tsc_hz = 1000000000, .phys_bits = 46 });
	struct cpu_config cfg = { .n_vcpus = n_vcpus, .mem = r->mem, .cpuid = &r->cpuid, .host = &r->host,
				  .source = &r->source.s, .code_cache = code_cache, .windows = true };

	if (r->engine->ops->vm_new(&r->vm, &cfg, &err) < 0)
		FAIL("%s", err.msg);
	for (unsigned i = 0; i < n_vcpus; i++)
		rig_state(r, i);
	r->v = r->engine->ops->vcpu(r->vm, 0);
	r->c = (struct icpu *)r->v;
}

void rig_init_on(struct rig *r, const struct rig_engine *engine, unsigned n_vcpus)
{
	rig_init_cached(r, engine, n_vcpus, 0);
}

void rig_init(struct rig *r, unsigned n_vcpus)
{
	rig_init_on(r, &rig_engine, n_vcpus);
}

void rig_fini(struct rig *r)
{
	r->engine->ops->vm_free(r->vm);
	gmem_free(r->mem);
}

uint64_t *rig_pte(struct rig *r, uint64_t la)
{
	return gmem_ptr(r->mem, RIG_PT + (la >> 12) * 8, 8);
}

void rig_code(struct rig *r, uint64_t la, const void *code, unsigned len)
{
	if (gmem_write(r->mem, la, code, len) < 0)
		FAIL("no RAM for code");
	r->c->s.rip = la;
}

void rig_steps(struct rig *r, unsigned n)
{
	struct icpu_event ev;

	while (n--)
		if (r->engine->step(r->v, &ev))
			FAIL("exception %u (code %#x, cr2 %#" PRIx64 ") at %#" PRIx64, ev.vector, ev.code,
			     r->c->s.cr2, r->c->s.rip);
}

struct icpu_event rig_fault(struct rig *r)
{
	struct icpu_event ev;

	if (!r->engine->step(r->v, &ev))
		FAIL("no exception: now at %#" PRIx64, r->c->s.rip);
	return ev;
}

void rig_gate(struct rig *r, unsigned vector, uint64_t la)
{
	put64(r, RIG_IDT + 16 * vector, (la & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (la >> 16 & 0xffff) << 48);
	put64(r, RIG_IDT + 16 * vector + 8, la >> 32);
}

static void *rig_watch(void *arg)
{
	struct rig *r = arg;

	while (!atomic_load(&r->c->is_parked))
		sched_yield();
	r->engine->ops->kick(r->v);
	return NULL;
}

void rig_run_to_halt(struct rig *r)
{
	pthread_t t;

	CHECK_EQ(pthread_create(&t, NULL, rig_watch, r), 0);
	CHECK_EQ(r->engine->ops->run(r->v, NULL), CPU_EXIT_KICK);
	pthread_join(t, NULL);
	CHECK_EQ(r->c->s.mp_state, X86_MP_HALTED);
}

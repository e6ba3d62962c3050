/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter as an engine: life cycle, requests from other threads, state in and out. */
#include "cpu/interp/interp.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "cpu/interp/core.h"
#include "cpu/interp/vec.h"
#include "cpu/x86/cpuid.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"

enum { DEFAULT_PHYS_BITS = 46 };

/* Memory for decoded blocks. A translator interprets code a few times at most. */
enum { BLOCK_BYTES = 16 << 20, BLOCK_BYTES_BESIDE_CODE = 1 << 20 };

static struct icpu *icpu_of(struct vcpu *v)
{
	return (struct icpu *)v;
}

/* Address bits beyond MAXPHYADDR (CPUID leaf 0x80000008). */
static uint64_t engine_rsvd_phys(const struct x86_cpuid *t)
{
	unsigned bits = DEFAULT_PHYS_BITS;

	for (unsigned i = 0; t && i < t->n; i++)
		if (t->leaf[i].leaf == 0x80000008)
			bits = t->leaf[i].eax & 0xff;
	if (bits < 32 || bits > 52)
		bits = DEFAULT_PHYS_BITS;
	return ((1ull << 52) - 1) & ~((1ull << bits) - 1);
}

void *icpu_cache_map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	madvise(p, size, MADV_DONTDUMP);
	return p;
}

void icpu_cache_unmap(void *p, size_t size)
{
	if (p)
		munmap(p, size);
}

size_t icpu_resident(const void *p, size_t size)
{
	enum { AT_ONCE = 4096 };
	uintptr_t at = (uintptr_t)p & ~(uintptr_t)4095, end = align_up((uintptr_t)p + size, 4096);
	unsigned char is_here[AT_ONCE];
	size_t n_pages = 0;

	while (at < end) {
		size_t n = (end - at) / 4096 < AT_ONCE ? (end - at) / 4096 : AT_ONCE;

		if (mincore((void *)at, n * 4096, is_here) < 0)
			break;
		for (size_t i = 0; i < n; i++)
			n_pages += is_here[i] & 1;
		at += n * 4096;
	}
	return n_pages * 4096;
}

size_t icpu_file_resident(int fd)
{
	enum { BLOCK = 512 };
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (size_t)st.st_blocks * BLOCK;
}

static void icpu_free(struct icpu *c)
{
	if (!c)
		return;
	iblock_cache_free(c->blocks);
	icpu_profile_free(c->profile);
	icpu_unmap(c, c->vm->cpu_size);
}

static struct icpu *icpu_new(struct cpu_vm *vm, unsigned index, bool has_views)
{
	struct icpu *c = icpu_map(vm->cpu_size, has_views);

	if (!c)
		return NULL;
	c->vm = vm;
	c->index = index;
	c->host = vm->cfg.host;
	c->mem = vm->cfg.mem;
	c->code_epoch = 1;
	c->rsvd_phys = engine_rsvd_phys(vm->cfg.cpuid);
	c->missing = (X86_F_BORROWED & ~x86_host_features()) | (vm->cfg.cpuid ? x86_cpuid_lacks(vm->cfg.cpuid) : 0);
	c->block_page[0] = c->block_page[1] = UINT64_MAX;
	c->blocks = iblock_cache_new(has_views ? BLOCK_BYTES_BESIDE_CODE : BLOCK_BYTES);
	c->profile = vm->cfg.wants_profile ? icpu_profile_new() : NULL;
	if (!c->blocks || (vm->cfg.wants_profile && !c->profile)) {
		icpu_free(c);
		return NULL;
	}
	x86_state_reset(&c->s, index == 0);
	icpu_mode_changed(c);
	atomic_store(&c->req, ICPU_REQ_RECHECK);
	return c;
}

static void interp_vm_free(struct cpu_vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; vm->cpu && i < vm->n; i++)
		icpu_free(vm->cpu[i]);
	free(vm->cpu);
	pthread_mutex_destroy(&vm->split_lock);
	free(vm);
}

static unsigned engine_host_cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) < 0 ? 1 : (unsigned)CPU_COUNT(&set);
}

int icpu_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, size_t cpu_size, bool has_views, struct err *err)
{
	struct cpu_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return err_set(err, -ENOMEM, "out of memory");
	vm->cfg = *cfg;
	vm->n = cfg->n_vcpus;
	vm->cpu_size = cpu_size;
	vm->n_host_cpus = engine_host_cpus();
	pthread_mutex_init(&vm->split_lock, NULL);
	vm->cpu = calloc(vm->n, sizeof(vm->cpu[0]));
	for (unsigned i = 0; vm->cpu && i < vm->n; i++) {
		vm->cpu[i] = icpu_new(vm, i, has_views);
		if (!vm->cpu[i])
			break;
	}
	if (!vm->cpu || (vm->n && !vm->cpu[vm->n - 1])) {
		interp_vm_free(vm);
		return err_set(err, -ENOMEM, "out of memory for %u virtual processors", cfg->n_vcpus);
	}
	*out = vm;
	return 0;
}

static int interp_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, struct err *err)
{
	return icpu_vm_new(out, cfg, sizeof(struct icpu), false, err);
}

static int interp_probe(bool is_explicit, struct err *err)
{
	(void)is_explicit;
	(void)err;
	return 0;
}

static struct vcpu *interp_vcpu(struct cpu_vm *vm, unsigned n)
{
	return (struct vcpu *)vm->cpu[n];
}

static void interp_kick(struct vcpu *v) { icpu_request(icpu_of(v), ICPU_REQ_KICK); }
static void interp_interrupt(struct vcpu *v) { icpu_request(icpu_of(v), ICPU_REQ_INTR); }
/* One NMI runs and one waits: two that come before the first is delivered are both due. */
static void interp_nmi(struct vcpu *v)
{
	struct icpu *c = icpu_of(v);

	if (icpu_request(c, ICPU_REQ_NMI) & ICPU_REQ_NMI)
		icpu_request(c, ICPU_REQ_NMI_AGAIN);
}

static void interp_init(struct vcpu *v) { icpu_request(icpu_of(v), ICPU_REQ_INIT); }

static void interp_unhalt(struct vcpu *v) { icpu_request(icpu_of(v), ICPU_REQ_UNHALT); }

static void interp_sipi(struct vcpu *v, uint8_t vector)
{
	atomic_store(&icpu_of(v)->sipi_vector, vector);
	icpu_request(icpu_of(v), ICPU_REQ_SIPI);
}

static int interp_get_state(struct vcpu *v, struct x86_state *s, struct err *err)
{
	struct icpu *c = icpu_of(v);
	uint32_t req = atomic_load(&c->req);

	(void)err;
	*s = c->s;
	/* What has come and was not looked at yet, in the order of the run loop. */
	if (req & ICPU_REQ_INIT)
		x86_state_init(s, c->index == 0);
	if (req & ICPU_REQ_SIPI && s->mp_state == X86_MP_WAIT_SIPI)
		x86_state_sipi(s, atomic_load(&c->sipi_vector));
	put_le64(s->xsave + X86_XS_BV, (get_le64(s->xsave + X86_XS_BV) & ~7ull) | icpu_xinuse(c));
	if (s->mp_state == X86_MP_HALTED && (c->is_unhalted || (req & ICPU_REQ_UNHALT)))
		s->mp_state = X86_MP_RUNNABLE;
	s->nmi_pending |= (req & ICPU_REQ_NMI) != 0;
	return 0;
}

static int interp_set_state(struct vcpu *v, const struct x86_state *s, struct err *err)
{
	struct icpu *c = icpu_of(v);

	(void)err;
	c->s = *s;
	c->s.rflags |= X86_FLAGS_FIXED;
	/* Bits of FCW that no processor can have otherwise; the host's x87 would make them so behind our back. */
	x87_set_words(c, get_le16(c->s.xsave + X86_FX_FCW), get_le16(c->s.xsave + X86_FX_FSW));
	if (!(get_le64(c->s.xsave + X86_XS_BV) & 4))    /* AVX: in its initial state */
		memset(c->s.xsave + X86_XS_AVX, 0, 256);
	c->intr_maybe = true;
	c->is_unhalted = false;
	c->watch_hits = 0;
	c->is_traced = false;
	icpu_mode_changed(c);
	icpu_debug_changed(c);
	icpu_tlb_flush(c, false);
	atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_NMI | ICPU_REQ_UNHALT));
	icpu_request(c, ICPU_REQ_RECHECK);
	return 0;
}

static void interp_stats(struct vcpu *v, struct cpu_stats *out)
{
	struct icpu *c = icpu_of(v);

	*out = c->stats;
	out->memory = icpu_map_resident(c, c->vm->cpu_size) + iblock_cache_resident(c->blocks);
}

static void interp_sample(struct vcpu *v) { icpu_sample(icpu_of(v)); }
static void interp_profile(struct vcpu *v, struct cpu_profile *out) { icpu_profile(icpu_of(v), out); }

static uint64_t interp_tsc_offset(struct vcpu *v)
{
	return __atomic_load_n(&icpu_of(v)->s.tsc_offset, __ATOMIC_RELAXED);
}

const struct cpu_ops cpu_interp = {
	.name = "interp",
	.summary = "interpreter in software: runs everywhere, exactly, slowly",
	.features = &x86_features_interp,
	.probe = interp_probe,
	.vm_new = interp_vm_new,
	.vm_free = interp_vm_free,
	.vcpu = interp_vcpu,
	.run = interp_run,
	.kick = interp_kick,
	.interrupt = interp_interrupt,
	.nmi = interp_nmi,
	.init = interp_init,
	.sipi = interp_sipi,
	.unhalt = interp_unhalt,
	.get_state = interp_get_state,
	.set_state = interp_set_state,
	.stats = interp_stats,
	.sample = interp_sample,
	.profile = interp_profile,
	.tsc_offset = interp_tsc_offset,
};

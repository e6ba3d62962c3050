/* SPDX-License-Identifier: Apache-2.0 */
/* kvm.c - the virtual machine: memory, interrupt routes, processors.
 *
 * The local APICs are the kernel's (split irqchip); I/O APIC, PIC and PIT are ours. Messages
 * go in through KVM_SIGNAL_MSI, the PIC's interrupts through KVM_INTERRUPT (kvm_run.c). NMI,
 * INIT and SIPI are sent as messages too: unlike the vcpu ioctls they do not wait for the
 * processor to leave the guest. */
#include "cpu/kvm/kvm_priv.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>
#include "util/checked.h"
#include "util/log.h"

/* Three pages for the TSS and one for the identity map that processors without unrestricted
 * guest need in real mode; just above the message area of the LAPICs, where no RAM is. */
#define KVM_IDENTITY_MAP 0xfeffc000u
#define KVM_TSS 0xfeffd000u

/* --- memory ----------------------------------------------------------------------------- */

static int kvm_set_slot(struct cpu_vm *vm, unsigned n, uint32_t flags, struct err *err)
{
	const struct kvm_slot *s = &vm->slot[n];
	struct kvm_userspace_memory_region r = {
		.slot = n, .flags = flags, .guest_phys_addr = s->gpa, .memory_size = s->size,
		.userspace_addr = (uintptr_t)(vm->cfg.mem->host + s->off),
	};
	int e = s->size ? kvm_ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &r) : 0;

	if (e < 0)
		return err_set(err, e, "KVM does not take the guest's memory: %s", strerror(-e));
	return 0;
}

static int kvm_map_memory(struct cpu_vm *vm, struct err *err)
{
	const struct gmem *m = vm->cfg.mem;

	vm->slot[0] = (struct kvm_slot){ .size = m->low_size };
	vm->slot[1] = (struct kvm_slot){ GMEM_HIGH_BASE, m->low_size, m->size - m->low_size };
	int r = kvm_set_slot(vm, 0, 0, err);

	return r < 0 ? r : kvm_set_slot(vm, 1, 0, err);
}

static void kvm_log_stop(struct cpu_vm *vm)
{
	for (unsigned i = 0; i < KVM_N_SLOTS; i++)
		kvm_set_slot(vm, i, 0, NULL);
	if (vm->dirty)
		munmap(vm->dirty, vm->dirty_size);
	vm->dirty = NULL;
}

static int kvm_log_start(struct cpu_vm *vm, struct err *err)
{
	const struct gmem *m = vm->cfg.mem;
	uint64_t largest = m->low_size > m->size - m->low_size ? m->low_size : m->size - m->low_size;
	void *p;

	vm->dirty_size = align_up(largest / GMEM_PAGE_SIZE, 64) / 8;
	p = mmap(NULL, vm->dirty_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_set(err, -ENOMEM, "out of memory for the log of written guest pages");
	vm->dirty = p;
	for (unsigned i = 0; i < KVM_N_SLOTS; i++) {
		int r = kvm_set_slot(vm, i, KVM_MEM_LOG_DIRTY_PAGES, err);

		if (r < 0) {
			kvm_log_stop(vm);
			return r;
		}
	}
	return 0;
}

static int kvm_log_fetch(struct cpu_vm *vm, uint64_t *bitmap, struct err *err)
{
	for (unsigned i = 0; i < KVM_N_SLOTS; i++) {
		const struct kvm_slot *s = &vm->slot[i];
		struct kvm_dirty_log log = { .slot = i, .dirty_bitmap = vm->dirty };
		/* A second slot exists only above a first one of 3 GiB: whole words. */
		uint64_t *out = bitmap + s->off / GMEM_PAGE_SIZE / 64;

		if (!s->size)
			continue;
		int r = kvm_ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log);

		if (r < 0)
			return err_set(err, r, "KVM does not tell which pages were written: %s", strerror(-r));
		for (uint64_t w = 0; w < align_up(s->size / GMEM_PAGE_SIZE, 64) / 64; w++)
			out[w] |= vm->dirty[w];
	}
	return 0;
}

/* --- interrupts and doorbells ----------------------------------------------------------- */

static void kvm_msi(struct cpu_vm *vm, uint64_t addr, uint32_t data)
{
	struct kvm_msi msi = {
		.address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data,
	};
	static struct log_guest refused = LOG_GUEST("kvm: message interrupt to an address that is none");

	/* 0: blocked by the guest; that is its business. */
	if (kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &msi) < 0)
		log_guest(&refused, addr);
}

/* Delivery modes of a message (SDM vol. 3 11.11.2). */
enum { MSI_NMI = 4 << 8, MSI_INIT = 5 << 8, MSI_SIPI = 6 << 8, MSI_ASSERT = 1 << 14, MSI_LEVEL = 1 << 15 };
#define MSI_ADDR 0xfee00000ull

static void kvm_send(struct vcpu *v, uint32_t data)
{
	kvm_msi(v->vm, MSI_ADDR | (uint64_t)v->index << 12, data);
}

static void kvm_nmi(struct vcpu *v) { kvm_send(v, MSI_NMI); }
static void kvm_init(struct vcpu *v) { kvm_send(v, MSI_INIT); }
static void kvm_sipi(struct vcpu *v, uint8_t vector) { kvm_send(v, MSI_SIPI | vector); }

/* The kernel reports the end of an interrupt (KVM_EXIT_IOAPIC_EOI) for a vector that a level
 * route of the first KVM_N_PINS inputs names. So give it one such route per vector, to every
 * processor; no input is ever raised through them. The inputs after those belong to irqfds. */
static int kvm_set_routes_locked(struct cpu_vm *vm)
{
	_Alignas(struct kvm_irq_routing) uint8_t buf[sizeof(struct kvm_irq_routing) +
		(KVM_N_PINS + KVM_IRQFDS_MAX) * sizeof(struct kvm_irq_routing_entry)] = { 0 };
	struct kvm_irq_routing *routes = (struct kvm_irq_routing *)(void *)buf;

	for (unsigned vec = 0; vec < 256 && routes->nr < KVM_N_PINS; vec++) {
		if (!(vm->eoi_bitmap[vec / 64] >> (vec % 64) & 1))
			continue;
		routes->entries[routes->nr] = (struct kvm_irq_routing_entry){
			.gsi = routes->nr, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = MSI_ADDR | 0xff << 12, .data = vec | MSI_ASSERT | MSI_LEVEL },
		};
		routes->nr++;
	}
	for (unsigned i = 0; i < KVM_IRQFDS_MAX; i++) {
		const struct kvm_message *msg = &vm->irqfd[i];

		if (!msg->is_used)
			continue;
		routes->entries[routes->nr++] = (struct kvm_irq_routing_entry){
			.gsi = KVM_N_PINS + i, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = (uint32_t)msg->addr, .address_hi = (uint32_t)(msg->addr >> 32),
				   .data = msg->data },
		};
	}
	return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, routes);
}

static void kvm_eoi_exits(struct cpu_vm *vm, const uint64_t bitmap[4])
{
	pthread_mutex_lock(&vm->route_lock);
	if (memcmp(vm->eoi_bitmap, bitmap, sizeof(vm->eoi_bitmap))) {
		memcpy(vm->eoi_bitmap, bitmap, sizeof(vm->eoi_bitmap));
		int r = kvm_set_routes_locked(vm);

		if (r < 0)
			log_error("kvm: cannot set the interrupt routes: %s", strerror(-r));
	}
	pthread_mutex_unlock(&vm->route_lock);
}

/* The slot of FD, or with FD -1 a free one; NULL: none. */
static struct kvm_message *kvm_irqfd_find(struct cpu_vm *vm, int fd)
{
	for (unsigned i = 0; i < KVM_IRQFDS_MAX; i++) {
		struct kvm_message *msg = &vm->irqfd[i];

		if (fd < 0 ? !msg->is_used : msg->is_used && msg->fd == fd)
			return msg;
	}
	return NULL;
}

static int kvm_irqfd_bind(struct cpu_vm *vm, const struct kvm_message *msg, bool add)
{
	struct kvm_irqfd k = {
		.fd = (uint32_t)msg->fd, .gsi = (uint32_t)(KVM_N_PINS + (msg - vm->irqfd)),
		.flags = add ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return kvm_ioctl(vm->fd, KVM_IRQFD, &k);
}

/* The route is there before the descriptor is bound to it, and goes after. */
static int kvm_irqfd_add_locked(struct cpu_vm *vm, int fd, uint64_t addr, uint32_t data)
{
	struct kvm_message *msg = kvm_irqfd_find(vm, fd);
	bool is_new = !msg;

	if (is_new)
		msg = kvm_irqfd_find(vm, -1);
	if (!msg)
		return -ENOSPC;
	struct kvm_message old = *msg;

	*msg = (struct kvm_message){ .is_used = true, .fd = fd, .addr = addr, .data = data };
	int r = kvm_set_routes_locked(vm);

	if (!r && is_new)
		r = kvm_irqfd_bind(vm, msg, true);
	if (r < 0)
		*msg = old;
	return r;
}

static int kvm_irqfd_remove_locked(struct cpu_vm *vm, int fd)
{
	struct kvm_message *msg = kvm_irqfd_find(vm, fd);

	if (!msg)
		return -ENOENT;
	int r = kvm_irqfd_bind(vm, msg, false);

	msg->is_used = false;
	return r < 0 ? r : kvm_set_routes_locked(vm);
}

static int kvm_irqfd(struct cpu_vm *vm, bool add, int fd, uint64_t addr, uint32_t data, struct err *err)
{
	if (fd < 0)
		return err_set(err, -EBADF, "an interrupt needs an open event descriptor");
	pthread_mutex_lock(&vm->route_lock);
	int r = add ? kvm_irqfd_add_locked(vm, fd, addr, data) : kvm_irqfd_remove_locked(vm, fd);
	pthread_mutex_unlock(&vm->route_lock);
	if (r < 0)
		return err_set(err, r, "KVM %s event descriptor %d for an interrupt: %s",
			       add ? "does not take" : "does not know", fd, strerror(-r));
	return 0;
}

static int kvm_ioeventfd(struct cpu_vm *vm, bool add, gpa_t gpa, unsigned size, int fd, struct err *err)
{
	struct kvm_ioeventfd e = {
		.addr = gpa, .len = size, .fd = fd, .flags = add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};
	int r = kvm_ioctl(vm->fd, KVM_IOEVENTFD, &e);

	if (r < 0)
		return err_set(err, r, "KVM %s the doorbell at 0x%llx: %s", add ? "does not take" : "does not know",
			       (unsigned long long)gpa, strerror(-r));
	return 0;
}

/* --- what other threads may do to a vcpu ------------------------------------------------- */

static void kvm_signal(struct vcpu *v, uint32_t bit)
{
	atomic_fetch_or(&v->req, bit);
	/* Ends a KVM_RUN that begins from now on; the signal ends one that has begun. */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	int tid = atomic_load(&v->tid);

	if (tid)
		syscall(SYS_tgkill, getpid(), tid, SIGRTMIN);
}

static void kvm_kick(struct vcpu *v) { kvm_signal(v, KVM_REQ_KICK); }
static void kvm_interrupt(struct vcpu *v) { kvm_signal(v, KVM_REQ_INTR); }

static void kvm_on_signal(int signo)
{
	/* Its arrival is all that matters: it ends KVM_RUN. */
}

static void kvm_stats(struct vcpu *v, struct cpu_stats *out)
{
	*out = v->stats;
}

/* --- MSRs ------------------------------------------------------------------------------- */

/* MSRs that KVM would serve but the machine does not have: CPUID does not announce them and no
 * saved state carries them. The guest gets what the machine says, that is #GP. */
static const struct {
	uint32_t base, n;
} kvm_msrs_denied[] = {
	{ 0xc1, 8 }, { 0x186, 8 }, { 0x309, 3 }, { 0x38d, 4 },  /* performance counters */
	{ 0x4b564d02, 1 }, { 0x4b564d05, 4 },                   /* asynchronous page faults, poll control */
	{ 0x40000000, 0x100 },          /* Hyper-V */
	{ 0xc0010000, 8 }, { 0xc0010200, 12 },                  /* performance counters of AMD */
};

/* Of the paravirtual interface, what only a machine has that has begun with another engine. */
static const struct {
	uint32_t msr;
	unsigned bit;                   /* of CPUID 0x40000001 EAX */
} kvm_msrs_announced[] = { { 0x4b564d03, 5 } /* steal time */, { 0x4b564d04, 6 } /* PV EOI */ };

static void kvm_deny(struct kvm_msr_filter *f, unsigned *n, uint32_t base, uint32_t n_msrs)
{
	static const uint8_t none[0x100 / 8];

	f->ranges[(*n)++] = (struct kvm_msr_filter_range){
		.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = base, .nmsrs = n_msrs,
		.bitmap = (uint8_t *)(uintptr_t)none,
	};
}

static int kvm_filter_msrs(struct cpu_vm *vm, struct err *err)
{
	uint32_t pv[4];
	unsigned n = 0;

	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = { KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER },
	};
	struct kvm_msr_filter f = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
	int r = kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &cap);

	_Static_assert(ARRAY_LEN(kvm_msrs_denied) + ARRAY_LEN(kvm_msrs_announced) <= KVM_MSR_FILTER_MAX_RANGES,
		       "as many as the kernel takes");
	for (unsigned i = 0; i < ARRAY_LEN(kvm_msrs_denied); i++)
		kvm_deny(&f, &n, kvm_msrs_denied[i].base, kvm_msrs_denied[i].n);
	x86_cpuid_get(vm->cfg.cpuid, 0x40000001, 0, 0, 0, 1, pv);
	for (unsigned i = 0; i < ARRAY_LEN(kvm_msrs_announced); i++)
		if (!(pv[0] >> kvm_msrs_announced[i].bit & 1))
			kvm_deny(&f, &n, kvm_msrs_announced[i].msr, 1);
	if (!r)
		r = kvm_ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &f);
	if (r < 0)
		return err_set(err, r, "KVM does not hand MSRs to user space: %s", strerror(-r));
	return 0;
}

/* --- making and freeing ----------------------------------------------------------------- */

static void kvm_vcpu_free(struct vcpu *v)
{
	if (!v)
		return;
	if (v->run)
		munmap(v->run, v->vm->run_size);
	if (v->fd >= 0)
		close(v->fd);
	free(v);
}
DEFINE_AUTO(struct vcpu *, kvm_vcpu_free)

static int kvm_vcpu_new(struct cpu_vm *vm, unsigned index, struct err *err)
{
	AUTO(kvm_vcpu_free) struct vcpu *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->vm = vm;
	v->index = index;
	v->is_window_stale = true;
	v->given = -1;
	v->fd = kvm_ioctl(vm->fd, KVM_CREATE_VCPU, (void *)(uintptr_t)index);
	if (v->fd < 0)
		return err_set(err, v->fd, "KVM cannot make processor %u: %s", index, strerror(-v->fd));
	void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);

	if (run == MAP_FAILED)
		return err_set(err, -ENOMEM, "cannot map processor %u: %s", index, strerror(errno));
	v->run = run;
	int r = kvm_set_cpuid(v, err);

	if (r < 0)
		return r;
	vm->cpu[vm->n++] = take_ptr(&v);
	return 0;
}

static void kvm_vm_free(struct cpu_vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->n; i++)
		kvm_vcpu_free(vm->cpu[i]);
	free(vm->cpu);
	if (vm->dirty)
		munmap(vm->dirty, vm->dirty_size);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->sys_fd >= 0)
		close(vm->sys_fd);
	pthread_mutex_destroy(&vm->route_lock);
	free(vm);
}
DEFINE_AUTO(struct cpu_vm *, kvm_vm_free)

/* Whatever the machine's TSC counts, all processors use one distance from the host's: the
 * closest of a few readings. */
static int64_t kvm_tsc_base(struct source *src)
{
	uint64_t best_gap = UINT64_MAX;
	int64_t base = 0;

	for (int i = 0; i < 5; i++) {
		uint64_t before = __rdtsc(), guest = source_tsc(src), after = __rdtsc();

		if (after - before < best_gap) {
			best_gap = after - before;
			base = (int64_t)(guest - (before + best_gap / 2));
		}
	}
	return base;
}

static void kvm_source_moved(struct cpu_vm *vm)
{
	vm->tsc_base = kvm_tsc_base(vm->cfg.source);
}

static int kvm_create(struct cpu_vm *vm, struct err *err)
{
	struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { KVM_N_PINS } };
	uint64_t identity = KVM_IDENTITY_MAP;

	vm->fd = kvm_ioctl(vm->sys_fd, KVM_CREATE_VM, NULL);
	if (vm->fd < 0)
		return err_set(err, vm->fd, "KVM cannot make a virtual machine: %s", strerror(-vm->fd));
	int r = kvm_ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);

	if (!r)
		r = kvm_ioctl(vm->fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)KVM_TSS);
	if (r < 0)
		return err_set(err, r, "KVM does not take the real-mode pages: %s", strerror(-r));
	r = kvm_ioctl(vm->fd, KVM_ENABLE_CAP, &split);
	if (r < 0)
		return err_set(err, r, "KVM does not split the interrupt controllers: %s", strerror(-r));
	return kvm_filter_msrs(vm, err);
}

/* Guests see the source's frequency. The kernel can scale only with hardware help. */
static int kvm_match_tsc(struct vcpu *v, struct err *err)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): kvm_vcpu_new() made it */
	int64_t host_khz = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	int64_t khz = (int64_t)(v->vm->cfg.source->tsc_hz / 1000);

	/* Clocks are calibrated to some 100 ppm: closer than 250 ppm is the same, as for KVM. */
	if (host_khz <= 0 || !khz || llabs(host_khz - khz) <= khz / 4000)
		return 0;
	int r = kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)(uintptr_t)khz);

	if (r < 0)
		return err_set(err, r, "KVM cannot run the guest's TSC at %lld kHz on a host with %lld kHz",
			       (long long)khz, (long long)host_khz);
	return 0;
}

/* The kernel's map from APIC ids to processors lacks the one that was made last until some LAPIC
 * is written. */
static int kvm_refresh_apic_map(struct vcpu *v, struct err *err)
{
	struct kvm_lapic_state l;
	int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &l);

	if (!r)
		r = kvm_ioctl(v->fd, KVM_SET_LAPIC, &l);
	return r < 0 ? err_set(err, r, "KVM does not take the local APIC: %s", strerror(-r)) : 0;
}

static int kvm_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, struct err *err)
{
	AUTO(kvm_vm_free) struct cpu_vm *vm = calloc(1, sizeof(*vm));
	struct sigaction sa = { .sa_handler = kvm_on_signal };

	if (!vm)
		return err_set(err, -ENOMEM, "out of memory");
	pthread_mutex_init(&vm->route_lock, NULL);
	vm->cfg = *cfg;
	vm->fd = vm->sys_fd = -1;
	vm->cpu = calloc(cfg->n_vcpus, sizeof(vm->cpu[0]));
	if (!vm->cpu)
		return err_set(err, -ENOMEM, "out of memory");
	sigaction(SIGRTMIN, &sa, NULL);
	vm->sys_fd = kvm_open(err);
	int r = vm->sys_fd < 0 ? vm->sys_fd : kvm_check_caps(vm->sys_fd, err);

	if (r >= 0)
		r = kvm_create(vm, err);
	if (r >= 0)
		r = kvm_map_memory(vm, err);
	if (r < 0)
		return r;
	r = kvm_ioctl(vm->sys_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (r < (int)sizeof(struct kvm_run))
		return err_set(err, -EIO, "KVM tells no size of a processor");
	vm->run_size = (size_t)r;
	vm->has_tsc_offset = kvm_ioctl(vm->sys_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_VCPU_ATTRIBUTES) > 0;
	vm->has_sregs2 = kvm_ioctl(vm->sys_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_SREGS2) > 0;
	vm->tsc_base = kvm_tsc_base(cfg->source);
	for (unsigned i = 0; i < cfg->n_vcpus; i++) {
		r = kvm_vcpu_new(vm, i, err);
		if (!r)
			r = kvm_match_tsc(vm->cpu[i], err);
		if (!r)
			r = kvm_refresh_apic_map(vm->cpu[i], err);
		if (r < 0)
			return r;
	}
	*out = take_ptr(&vm);
	return 0;
}

static struct vcpu *kvm_vcpu(struct cpu_vm *vm, unsigned n)
{
	return n < vm->n ? vm->cpu[n] : NULL;
}

const struct cpu_ops cpu_kvm = {
	.name = "kvm",
	.summary = "the host's processor, through /dev/kvm",
	.has_lapic = true,
	.features = &x86_features_allowed,
	.probe = kvm_probe,
	.fit_cpuid = kvm_fit_cpuid,
	.vm_new = kvm_vm_new,
	.vm_free = kvm_vm_free,
	.vcpu = kvm_vcpu,
	.run = kvm_run,
	.kick = kvm_kick,
	.interrupt = kvm_interrupt,
	.nmi = kvm_nmi,
	.init = kvm_init,
	.sipi = kvm_sipi,
	.msi = kvm_msi,
	.get_state = kvm_get_state,
	.set_state = kvm_set_state,
	.stats = kvm_stats,
	.ioeventfd = kvm_ioeventfd,
	.irqfd = kvm_irqfd,
	.get_lapic = kvm_get_lapic,
	.set_lapic = kvm_set_lapic,
	.get_pv = kvm_get_pv,
	.set_pv = kvm_set_pv,
	.source_moved = kvm_source_moved,
	.log_start = kvm_log_start,
	.log_fetch = kvm_log_fetch,
	.log_stop = kvm_log_stop,
	.eoi_exits = kvm_eoi_exits,
};

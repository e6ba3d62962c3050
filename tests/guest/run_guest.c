/* SPDX-License-Identifier: Apache-2.0 */
/* run_guest.c - run the assembly guests of this folder on every engine and compare what they say.
 *
 * A guest writes characters to port 0xe9 and ends by writing to port 0xf4. What it has to say
 * stands in the table below and follows from the manual (SDM), not from an engine. The board is
 * the least that a guest needs: memory, these ports, local APICs where the engine has none.
 *
 * A software KVM (one that executes guest kernels by emulation, see kvm_probe.c) may not know an
 * instruction: then the engine reports an emulation failure and the case is skipped with it. What
 * such a KVM does wrong stands in `misdone`, with the reason; everything else is a failure. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>
#include "cpu/bt/bt.h"
#include "cpu/bt/lockstep.h"
#include "cpu/interp/interp.h"
#include "cpu/kvm/kvm.h"
#include "dev/lapic.h"
#include "dev/pv.h"
#include "test.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum { MEM_SIZE = 4 << 20, LOAD_AT = 0x1000, MAX_CPUS = 2, OUT_MAX = 2048, GUEST_SECONDS = 8 };

struct rig {
	const struct cpu_ops *ops;
	struct gmem *mem;
	struct cpu_vm *vm;
	struct lapics *lapics;          /* NULL: the engine has its own */
	struct pv *pv;                  /* the same */
	struct loop *loop;
	struct loop_timer timer;        /* the guest's time is up */
	struct source_host source;
	struct x86_cpuid cpuid;
	unsigned n_cpus;
	pthread_mutex_t lock;           /* out, n_out, verdict */
	char out[OUT_MAX];
	unsigned n_out;
	char verdict[512];              /* "": ended by itself */
	_Atomic bool is_over;
};

/* --- the board --------------------------------------------------------------------------- */

static void rig_end(struct rig *g, const char *verdict)
{
	pthread_mutex_lock(&g->lock);
	if (!atomic_exchange(&g->is_over, true))
		snprintf(g->verdict, sizeof(g->verdict), "%s", verdict);
	pthread_mutex_unlock(&g->lock);
	for (unsigned i = 0; i < g->n_cpus; i++)
		g->ops->kick(g->ops->vcpu(g->vm, i));
	loop_stop(g->loop, 0);
}

static uint32_t rig_pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	return UINT32_MAX;
}

static void rig_pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	struct rig *g = arg;

	if (port == 0xf4) {
		rig_end(g, val ? "ended with an error" : "");
		return;
	}
	pthread_mutex_lock(&g->lock);
	if (port == 0xe9 && g->n_out < OUT_MAX - 1 && !atomic_load(&g->is_over))
		g->out[g->n_out++] = (char)val;
	pthread_mutex_unlock(&g->lock);
}

static struct bus_region *rig_apic_page(struct rig *g, gpa_t gpa)
{
	return g->lapics && gpa >= 0xfee00000 && gpa < 0xfee01000 ? lapics_region(g->lapics) : NULL;
}

static uint64_t rig_mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	struct bus_region *r = rig_apic_page(arg, gpa);

	return r ? r->read(r->dev, cpu, gpa & 0xfff, size) : UINT64_MAX;
}

static void rig_mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	struct bus_region *r = rig_apic_page(arg, gpa);

	if (r)
		r->write(r->dev, cpu, gpa & 0xfff, size, val);
}

static int rig_msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	struct rig *g = arg;

	if (g->pv && pv_has_msr(msr))
		return pv_msr_read(g->pv, cpu, msr, val);
	return g->lapics && lapics_has_msr(msr) ? lapics_msr_read(g->lapics, cpu, msr, val) : -1;
}

static int rig_msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val)
{
	struct rig *g = arg;

	if (g->pv && pv_has_msr(msr))
		return pv_msr_write(g->pv, cpu, msr, val);
	return g->lapics && lapics_has_msr(msr) ? lapics_msr_write(g->lapics, cpu, msr, val) : -1;
}

static int rig_intr_ack(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	return g->lapics ? lapics_intr_ack(g->lapics, cpu) : -1;
}

static bool rig_intr_pending(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	return g->lapics && lapics_intr_pending(g->lapics, cpu);
}

static unsigned rig_cr8_read(void *arg, unsigned cpu)
{
	return lapics_cr8_read(((struct rig *)arg)->lapics, cpu);
}

static void rig_cr8_write(void *arg, unsigned cpu, unsigned val)
{
	lapics_cr8_write(((struct rig *)arg)->lapics, cpu, val);
}

static void rig_eoi(void *arg, uint8_t vector)
{
}

static struct vcpu *rig_cpu(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	return g->ops->vcpu(g->vm, cpu);
}

static void rig_interrupt(void *arg, unsigned cpu) { cpu_interp.interrupt(rig_cpu(arg, cpu)); }
static void rig_nmi(void *arg, unsigned cpu) { cpu_interp.nmi(rig_cpu(arg, cpu)); }
static void rig_init(void *arg, unsigned cpu) { cpu_interp.init(rig_cpu(arg, cpu)); }
static void rig_sipi(void *arg, unsigned cpu, uint8_t vector) { cpu_interp.sipi(rig_cpu(arg, cpu), vector); }

static const struct lapic_cpu_ops rig_lapic_ops = {
	.interrupt = rig_interrupt, .nmi = rig_nmi, .init = rig_init, .sipi = rig_sipi, .eoi = rig_eoi,
};

static void rig_idle(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	if (g->pv)
		pv_idle(g->pv, cpu);
}

static bool rig_busy(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	return g->pv && pv_busy(g->pv, cpu);
}

static void rig_was_reset(void *arg, unsigned cpu)
{
	struct rig *g = arg;

	if (g->pv)
		pv_cpu_reset(g->pv, cpu);
}

static int64_t rig_hypercall(void *arg, unsigned cpu, uint64_t nr, const uint64_t a[4])
{
	return pv_hypercall(((struct rig *)arg)->pv, cpu, nr, a);
}

static unsigned rig_send_ipi(void *arg, const uint64_t mask[2], uint32_t first, uint32_t low)
{
	return lapics_send_mask(((struct rig *)arg)->lapics, mask, first, low);
}

static void rig_unhalt(void *arg, uint32_t apic_id) { cpu_interp.unhalt(rig_cpu(arg, apic_id)); }

static const struct pv_ops rig_pv_ops = { .send_ipi = rig_send_ipi, .kick = rig_unhalt };

/* --- running ----------------------------------------------------------------------------- */

struct rig_thread {
	struct rig *g;
	unsigned index;
	pthread_t thread;
};

static void *rig_run_cpu(void *arg)
{
	struct rig_thread *t = arg;
	struct rig *g = t->g;
	struct err err = ERR_INIT;
	enum cpu_exit_reason r;

	do {
		r = g->ops->run(g->ops->vcpu(g->vm, t->index), &err);
	} while (r == CPU_EXIT_KICK && !atomic_load(&g->is_over));
	if (r == CPU_EXIT_SHUTDOWN)
		rig_end(g, "triple fault");
	else if (r == CPU_EXIT_ERROR)
		rig_end(g, err.msg);
	return NULL;
}

static void rig_load(struct rig *g, const char *name)
{
	char path[512], image[0x6000];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s.bin", GUEST_DIR, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	n = fd < 0 ? -1 : read(fd, image, sizeof(image));
	if (n <= 0)
		FAIL("cannot read guest '%s'", path);
	close(fd);
	CHECK_EQ(gmem_write(g->mem, LOAD_AT, image, (size_t)n), 0);
}

static void rig_set_start(struct rig *g)
{
	static struct x86_state s;
	struct err err = ERR_INIT;

	for (unsigned i = 0; i < g->n_cpus; i++) {
		x86_state_reset(&s, i == 0);
		if (i == 0) {
			s.seg[X86_CS].sel = 0;
			s.seg[X86_CS].base = 0;
			s.rip = LOAD_AT;
		}
		if (g->ops->set_state(g->ops->vcpu(g->vm, i), &s, &err) < 0)
			FAIL("%s", err.msg);
	}
}

static void rig_time_out(struct loop_timer *t)
{
	rig_end(container_of(t, struct rig, timer), "did not end in time");
}

static void rig_init_board(struct rig *g, const struct cpu_host *host)
{
	struct err err = ERR_INIT;
	struct cpu_config cfg = {
		.n_vcpus = g->n_cpus, .mem = g->mem, .cpuid = &g->cpuid, .host = host, .source = &g->source.s,
	};

	source_host_init(&g->source, 0);
	x86_cpuid_build(&g->cpuid, &(struct x86_cpuid_params){
		.n_vcpus = g->n_cpus, .engine = g->ops->features, .tsc_hz = g->source.s.tsc_hz, .phys_bits = 40 });
	if (loop_new(&g->loop, &err) < 0 || gmem_new(&g->mem, MEM_SIZE, &err) < 0)
		FAIL("%s", err.msg);
	cfg.mem = g->mem;
	struct lapics_config lc = { .n_cpus = g->n_cpus, .ops = &rig_lapic_ops, .ops_arg = g, .loop = g->loop,
				    .source = &g->source.s, .mem = g->mem };
	if (!g->ops->has_lapic && lapics_new(&g->lapics, &lc, &err) < 0)
		FAIL("%s", err.msg);
	if (!g->ops->has_lapic && pv_new(&g->pv, g->n_cpus, g->mem, &g->source.s, &rig_pv_ops, g, &err) < 0)
		FAIL("%s", err.msg);
	if (g->ops->vm_new(&g->vm, &cfg, &err) < 0)
		FAIL("%s", err.msg);
}

/* All of this happens inside the host's kernel, between two exits to the engine. */
static const struct {
	const char *guest, *why;
} misdone[] = {
	{ "paging", "the software KVM keeps the first half of a store that faults in its second page" },
	{ "debug", "the software KVM does not honour data breakpoints in emulated code" },
	{ "x2apic", "the software KVM does not look for interrupts between STI, NOP and CLI" },
};

static void skip_what_software_kvm_lacks(const char *name, const char *verdict, const char *text)
{
	char why[1100];

	for (unsigned i = 0; i < ARRAY_LEN(misdone); i++)
		if (!strcmp(misdone[i].guest, name))
			SKIP(misdone[i].why);
	if (!strstr(verdict, "cannot emulate"))
		return;
	snprintf(why, sizeof(why), "kvm cannot execute this here: %s", text);
	SKIP(why);
}

static void run_guest(const struct cpu_ops *ops, const char *name, unsigned n_cpus, const char *expected)
{
	static struct rig rig = { .lock = PTHREAD_MUTEX_INITIALIZER };
	struct rig *g = &rig;
	struct rig_thread t[MAX_CPUS];
	char text[1024];
	struct err err = ERR_INIT;
	const struct cpu_host host = {
		.arg = g, .pio_read = rig_pio_read, .pio_write = rig_pio_write, .mmio_read = rig_mmio_read,
		.mmio_write = rig_mmio_write, .msr_read = rig_msr_read, .msr_write = rig_msr_write,
		.intr_ack = rig_intr_ack, .intr_pending = rig_intr_pending, .cr8_read = rig_cr8_read,
		.cr8_write = rig_cr8_write, .eoi = rig_eoi, .idle = rig_idle, .busy = rig_busy,
		.was_reset = rig_was_reset, .hypercall = rig_hypercall,
	};

	g->ops = ops;
	g->n_cpus = n_cpus;
	if (ops->probe(true, &err) < 0)
		SKIP(err.msg);
	if (!strcmp(name, "avx") && !(x86_host_features() >> X86_F_AVX2 & 1))
		SKIP("this processor has no AVX2, which the engines borrow");
	rig_init_board(g, &host);
	rig_load(g, name);
	rig_set_start(g);
	loop_timer_init(g->loop, &g->timer, rig_time_out);
	loop_timer_set(&g->timer, loop_now_ns() + GUEST_SECONDS * 1000000000ull);
	for (unsigned i = 0; i < n_cpus; i++) {
		t[i] = (struct rig_thread){ .g = g, .index = i };
		CHECK_EQ(pthread_create(&t[i].thread, NULL, rig_run_cpu, &t[i]), 0);
	}
	loop_run(g->loop);
	for (unsigned i = 0; i < n_cpus; i++)
		pthread_join(t[i].thread, NULL);
	loop_timer_cancel(&g->timer);
	bool is_same = !g->verdict[0] && !strcmp(g->out, expected);

	snprintf(text, sizeof(text), "%.400s%s'%.160s'", g->verdict[0] ? g->verdict : "said", ": ", g->out);
	ops->vm_free(g->vm);
	pv_free(g->pv);
	lapics_free(g->lapics);
	gmem_free(g->mem);
	loop_free(g->loop);
	if (is_same)
		return;
	if (ops == &cpu_kvm && ops->probe(false, &err) < 0)
		skip_what_software_kvm_lacks(name, g->verdict, text);
	FAIL("guest '%s' on '%s' %s, not '%s'", name, ops->name, text, expected);
}

#define GUEST_IN_SOFTWARE(name, n_cpus, expected)                                               \
	TEST(name##_on_interp) { run_guest(&cpu_interp, #name, n_cpus, expected); }             \
	TEST(name##_on_bt) { run_guest(&cpu_bt, #name, n_cpus, expected); }
#define GUEST(name, n_cpus, expected)                                                           \
	GUEST_IN_SOFTWARE(name, n_cpus, expected)                                               \
	TEST(name##_on_kvm) { run_guest(&cpu_kvm, #name, n_cpus, expected); }
/* With one processor: also compared instruction by instruction. */
#define GUEST_1(name, expected)                                                                 \
	GUEST(name, 1, expected)                                                                \
	TEST(name##_on_lockstep) { run_guest(&cpu_lockstep, #name, 1, expected); }

GUEST_1(real, "1 201 /d!u64636261 fr1234 ")
GUEST_1(protected, "d 58 d 1000 d 8 b 58 c 58 d 0 6 0 d 18a 20 0 3 0 "
		    "d 0 d 102 21 0 d 10 d 0 beef 8 6ffc d 0 d 112 ")
GUEST_1(paging, "e 0 100000 e 2 21 e 3 23 63 e 11 e 9 61 e 2 101000 11111111 abcd a7 d 0 "
		 "e 5 e 7 e 4 e 15 ")
GUEST_1(long, "67d8 8000 0 400 3b 20 1111 0 400 33 20 0 1 0 1 0 1 0 1 0 e")
GUEST_1(smc, "ABCab11223344 55555544 55556644 ")
GUEST(apic, 2, "tpshTaw")
GUEST_1(debug, "affff0ff1 ffff0ff2 1 ffff4ff0 ffff4ff0 ffff4ff0 ffff4ff0 e")
GUEST_1(task, "77 40 4000 33 0 8b 89 1000 58 8 ")
GUEST_1(fpu, "3000037f c0 12345678 40490fdb 12345678 7 0 7 0 6 0 6 0 41 d 0 ")
GUEST_1(vm86, "cafe 100 100 20200 200 77dc 0 cafe 200 ")
GUEST_1(x2apic, "900 0 1 0 30 1 3 d 0 ")
GUEST_IN_SOFTWARE(pv, 2, "1 0 0 2 1 2 d 0 d 0 fffffc18 0 1 3 1 ")
GUEST_1(avx, "6 0 6 0 7 0 64 32 12c 12c 6400 3200 12c00 12c00 4 0 2 e 2 e 0 1 2 2 0 d 0 ")

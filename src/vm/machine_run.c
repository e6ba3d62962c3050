/* SPDX-License-Identifier: Apache-2.0 */
/* The machine in motion: what the engine asks of the board, what the board asks of the
 * processors, reset and power-off.
 *
 * Requests of the guest arrive on a vCPU thread with bus_lock held; they only set a bit and
 * queue a call to the loop thread, which pauses the processors and does the work. */
#include "vm/machine.h"

#include <assert.h>
#include <cpuid.h>
#include <errno.h>
#include <string.h>
#include "blk/front.h"
#include "mem/lazy.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/vsock_host.h"

enum { RESET_RETRY_NS = 1000 * 1000 };

static struct vcpu *machine_vcpu(const struct machine *m, unsigned cpu)
{
	return m->ops->vcpu(m->vm, cpu);
}

int machine_map(struct machine *m, enum bus_space space, struct bus_region *r, uint64_t base, uint64_t size,
		struct err *err)
{
	bus_lock(m->bus);
	int ret = bus_add(m->bus, space, r, base, size, err);
	bus_unlock(m->bus);
	return ret;
}

/* The host's, as hardware engines cannot have more; at most 46, as 5-level hosts may say 52. */
unsigned machine_phys_bits(void)
{
	enum { MIN = 36, MAX = 46 };
	unsigned a = 0, b, c, d;

	if (!__get_cpuid(0x80000008, &a, &b, &c, &d) || (a & 0xff) < MIN)
		return MIN;
	return (a & 0xff) > MAX ? MAX : a & 0xff;
}

/* --- engine -> board --- */

static uint32_t host_pio_read(void *arg, unsigned cpu, uint16_t port, unsigned size)
{
	return (uint32_t)bus_read(((struct machine *)arg)->bus, BUS_PORT, cpu, port, size);
}

static void host_pio_write(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val)
{
	bus_write(((struct machine *)arg)->bus, BUS_PORT, cpu, port, size, val);
}

static uint64_t host_mmio_read(void *arg, unsigned cpu, gpa_t gpa, unsigned size)
{
	return bus_read(((struct machine *)arg)->bus, BUS_MMIO, cpu, gpa, size);
}

static void host_mmio_write(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val)
{
	bus_write(((struct machine *)arg)->bus, BUS_MMIO, cpu, gpa, size, val);
}

static int host_msr_read(void *arg, unsigned cpu, uint32_t msr, uint64_t *val)
{
	struct machine *m = arg;

	if (m->lapics && lapics_has_msr(msr))
		return lapics_msr_read(m->lapics, cpu, msr, val);
	if (m->kvmclock && kvmclock_has_msr(msr))
		return kvmclock_msr_read(m->kvmclock, cpu, msr, val);
	if (m->pv && pv_has_msr(msr))
		return pv_msr_read(m->pv, cpu, msr, val);
	return -1;
}

static int host_msr_write(void *arg, unsigned cpu, uint32_t msr, uint64_t val)
{
	struct machine *m = arg;

	if (m->lapics && lapics_has_msr(msr))
		return lapics_msr_write(m->lapics, cpu, msr, val);
	if (m->kvmclock && kvmclock_has_msr(msr))
		return kvmclock_msr_write(m->kvmclock, cpu, msr, val);
	if (m->pv && pv_has_msr(msr))
		return pv_msr_write(m->pv, cpu, msr, val);
	return -1;
}

static int host_intr_ack(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	if (m->pv)
		pv_tick(m->pv, cpu);
	return m->lapics ? lapics_intr_ack(m->lapics, cpu) : pic_ack(&m->pic);
}

static bool host_intr_pending(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	return m->lapics ? lapics_intr_pending(m->lapics, cpu) : pic_intr(&m->pic);
}

static void host_intr_return(void *arg, unsigned cpu, uint8_t vector)
{
	pic_return(&((struct machine *)arg)->pic, vector);
}

static unsigned host_cr8_read(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	return m->lapics ? lapics_cr8_read(m->lapics, cpu) : 0;
}

static void host_cr8_write(void *arg, unsigned cpu, unsigned val)
{
	struct machine *m = arg;

	if (m->lapics)
		lapics_cr8_write(m->lapics, cpu, val);
}

static void host_eoi(void *arg, uint8_t vector)
{
	ioapic_eoi(&((struct machine *)arg)->ioapic, vector);
}

/* A deadline that the guest has set is a value of its TSC, and so is its clock's base. */
static void host_tsc_changed(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	if (m->lapics)
		lapics_tsc_changed(m->lapics, cpu);
	if (m->kvmclock)
		kvmclock_tsc_changed(m->kvmclock, cpu);
}

static void host_idle(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	if (m->pv)
		pv_idle(m->pv, cpu);
}

static bool host_busy(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	return m->pv && pv_busy(m->pv, cpu);
}

static void host_was_reset(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	if (m->pv)
		pv_cpu_reset(m->pv, cpu);
}

static int64_t host_hypercall(void *arg, unsigned cpu, uint64_t nr, const uint64_t a[4])
{
	return pv_hypercall(((struct machine *)arg)->pv, cpu, nr, a);
}

void machine_fill_host(struct machine *m)
{
	m->host = (struct cpu_host){
		.arg = m,
		.pio_read = host_pio_read, .pio_write = host_pio_write,
		.mmio_read = host_mmio_read, .mmio_write = host_mmio_write,
		.msr_read = host_msr_read, .msr_write = host_msr_write,
		.intr_ack = host_intr_ack, .intr_pending = host_intr_pending, .intr_return = host_intr_return,
		.cr8_read = host_cr8_read, .cr8_write = host_cr8_write,
		.eoi = host_eoi, .tsc_changed = host_tsc_changed,
		.idle = host_idle, .busy = host_busy, .was_reset = host_was_reset,
		.hypercall = m->pv ? host_hypercall : NULL,
	};
}

/* --- board -> processors --- */

static void lapic_interrupt(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	m->ops->interrupt(machine_vcpu(m, cpu));
}

static void lapic_nmi(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	m->ops->nmi(machine_vcpu(m, cpu));
}

static void lapic_init(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	m->ops->init(machine_vcpu(m, cpu));
}

static void lapic_sipi(void *arg, unsigned cpu, uint8_t vector)
{
	struct machine *m = arg;

	if (atomic_load_explicit(&m->cpus_present, memory_order_acquire) >> cpu & 1)
		m->ops->sipi(machine_vcpu(m, cpu), vector);
}

static int lapic_pic_ack(void *arg)
{
	return pic_ack(&((struct machine *)arg)->pic);
}

uint64_t machine_tsc_offset(void *arg, unsigned cpu)
{
	struct machine *m = arg;

	return m->vm ? m->ops->tsc_offset(machine_vcpu(m, cpu)) : 0;
}

const struct lapic_cpu_ops machine_lapic_ops = {
	.interrupt = lapic_interrupt, .nmi = lapic_nmi, .init = lapic_init, .sipi = lapic_sipi,
	.tsc_offset = machine_tsc_offset, .eoi = host_eoi, .pic_ack = lapic_pic_ack,
};

static unsigned pv_send_ipi(void *arg, const uint64_t mask[2], uint32_t first, uint32_t low)
{
	return lapics_send_mask(((struct machine *)arg)->lapics, mask, first, low);
}

static void pv_kick(void *arg, uint32_t apic_id)
{
	struct machine *m = arg;

	m->ops->unhalt(machine_vcpu(m, apic_id));
}

const struct pv_ops machine_pv_ops = { .send_ipi = pv_send_ipi, .kick = pv_kick };

void machine_pic_output(void *arg, int n, int level)
{
	struct machine *m = arg;

	if (m->lapics)
		lapics_set_lint0(m->lapics, level);
	else if (level && m->vm)
		m->ops->interrupt(machine_vcpu(m, 0));
}

static void machine_engine_msi(void *arg, uint64_t addr, uint32_t data)
{
	struct machine *m = arg;

	if (m->vm)
		m->ops->msi(m->vm, addr, data);
}

struct msi_sink machine_msi_sink(struct machine *m)
{
	return m->lapics ? lapics_msi_sink(m->lapics) : (struct msi_sink){ machine_engine_msi, m };
}

void machine_level_vectors(void *arg, const uint64_t bitmap[4])
{
	struct machine *m = arg;

	if (m->vm)
		m->ops->eoi_exits(m->vm, bitmap);
}

/* --- states --- */

static const char *const state_names[MACHINE_N_STATES] = { "stopped", "running", "paused", "resetting", "ended" };

bool machine_is_handed_over(const struct machine *m)
{
	return m->is_handed_over;
}

enum machine_state machine_get_state(const struct machine *m)
{
	return m->state;
}

const char *machine_state_name(enum machine_state s)
{
	return state_names[s];
}

static void machine_set_state(struct machine *m, enum machine_state to)
{
	static const uint8_t edges[MACHINE_N_STATES] = {
		[MACHINE_STOPPED] = 1 << MACHINE_RUNNING | 1 << MACHINE_PAUSED | 1 << MACHINE_ENDED,
		[MACHINE_RUNNING] = 1 << MACHINE_STOPPED | 1 << MACHINE_PAUSED | 1 << MACHINE_RESETTING | 1 << MACHINE_ENDED,
		[MACHINE_PAUSED] = 1 << MACHINE_STOPPED | 1 << MACHINE_RUNNING | 1 << MACHINE_RESETTING | 1 << MACHINE_ENDED,
		[MACHINE_RESETTING] = 1 << MACHINE_RUNNING | 1 << MACHINE_PAUSED | 1 << MACHINE_STOPPED | 1 << MACHINE_ENDED,
		[MACHINE_ENDED] = 1 << MACHINE_STOPPED,
	};

	assert(edges[m->state] >> to & 1);
	log_info("machine '%s': %s -> %s", m->cfg->name, state_names[m->state], state_names[to]);
	m->state = to;
}

void machine_set_observer(struct machine *m, machine_event_fn fn, void *arg)
{
	m->observer = fn;
	m->observer_arg = arg;
}

void machine_set_ready_observer(struct machine *m, void (*fn)(void *arg), void *arg)
{
	m->ready_observer = fn;
	m->ready_observer_arg = arg;
}

void machine_tell_ready(struct machine *m)
{
	if (m->ready_observer)
		m->ready_observer(m->ready_observer_arg);
}

void machine_tell(struct machine *m, enum machine_event event, const char *detail)
{
	if (m->observer)
		m->observer(m->observer_arg, event, detail);
}

static void machine_end(struct machine *m, int status, const char *reason)
{
	if (m->state == MACHINE_ENDED)
		return;
	if (!m->lazy || !lazy_left(m->lazy))    /* else they may wait for memory that never comes; main.c ends the process */
		vcpus_pause(m->vcpus);
	machine_set_state(m, MACHINE_ENDED);
	m->end_reason = reason;
	machine_tell(m, MACHINE_EV_STOPPED, reason);
	loop_stop(m->loop, status);
}

const char *machine_end_reason(const struct machine *m)
{
	return m->end_reason;
}

void machine_quit(struct machine *m, const char *reason)
{
	machine_end(m, 0, reason);
}

void machine_give_up(struct machine *m, const char *reason)
{
	machine_end(m, 1, reason);
}

/* The processors do not run: neither shall devices take requests, nor guest time pass. An engine
 * with its own local APICs counts on by the host's clocks. */
void machine_stand_still(struct machine *m)
{
	if (m->is_still)
		return;
	m->is_still = true;
	for (unsigned i = 0; i < m->n_virtio; i++)
		virtio_pause(m->virtio[i]);
	/* What a limit keeps waiting is in flight, and nothing new comes. */
	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		blk_front_lift(m->blk[i]);
	if (m->lapics)
		source_host_stop(&m->source);
}

static void machine_go_on(struct machine *m)
{
	source_host_go(&m->source);
	for (unsigned i = 0; m->is_still && i < m->n_virtio; i++)
		virtio_resume(m->virtio[i]);
	m->is_still = false;
	vcpus_resume(m->vcpus);
}

/* The processors do not run: go on, unless somebody holds the machine. */
static void machine_settle(struct machine *m)
{
	if (m->holds)
		machine_stand_still(m);
	machine_set_state(m, m->holds ? MACHINE_PAUSED : MACHINE_RUNNING);
	if (!m->holds)
		machine_go_on(m);
}

void machine_start(struct machine *m)
{
	machine_start_consoles(m);
	vsock_host_start(m->vsock);
	machine_settle(m);
	machine_tell(m, MACHINE_EV_STARTED, NULL);
}

void machine_stop(struct machine *m)
{
	vcpus_pause(m->vcpus);
	loop_timer_cancel(&m->reset_retry);
	if (m->state != MACHINE_STOPPED)
		machine_set_state(m, MACHINE_STOPPED);
}

void machine_hold(struct machine *m, enum machine_hold why)
{
	m->holds |= why;
	if (m->state != MACHINE_RUNNING)
		return;
	vcpus_pause(m->vcpus);
	machine_stand_still(m);
	machine_set_state(m, MACHINE_PAUSED);
	machine_tell(m, MACHINE_EV_PAUSED, NULL);
}

void machine_release(struct machine *m, enum machine_hold why)
{
	bool was_held = m->holds;

	m->holds &= ~(unsigned)why;
	if (!was_held || m->holds || m->state != MACHINE_PAUSED)
		return;
	machine_settle(m);
	machine_tell(m, MACHINE_EV_RESUMED, NULL);
}

bool machine_is_at_rest(struct machine *m)
{
	if (m->state != MACHINE_PAUSED || m->leaving || atomic_load_explicit(&m->requests, memory_order_acquire))
		return false;
	for (unsigned i = 0; i < m->n_virtio; i++) {
		if (virtio_in_flight(m->virtio[i]))
			return false;
	}
	return true;
}

/* --- reset --- */

static void machine_reset_devices_locked(struct machine *m)
{
	for (unsigned i = 0; i < m->n_virtio; i++)
		pci_dev_reset(virtio_pci_dev(m->virtio[i]));
	pci_dev_reset(pci_root_bridge(m->pci));
	pci_dev_reset(&m->lpc.pci);
	for (unsigned i = 0; i < m->n_uarts; i++)
		uart_reset(&m->uart[i]);
	acpi_reset(&m->acpi);
	hotplug_reset(&m->hotplug);
	machine_cpus_changed_locked(m);
	rtc_reset(&m->rtc);
	pit_reset(&m->pit);
	i8042_reset(&m->i8042);
	debugport_reset(&m->debugport);
	fwcfg_reset(&m->fwcfg);
	ioapic_reset(&m->ioapic);
	pic_reset(&m->pic);
}

/* Disks may have requests in flight that will still write to guest memory: the kernel is
 * loaded again only when all of them have ended. */
static void machine_reset_step(struct machine *m)
{
	struct err err = ERR_INIT;
	bool all_done = !m->leaving;

	for (unsigned i = 0; i < m->n_virtio; i++)
		all_done &= virtio_reset(m->virtio[i]);
	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		blk_front_lift(m->blk[i]);
	if (!all_done) {
		loop_timer_set(&m->reset_retry, loop_now_ns() + RESET_RETRY_NS);
		return;
	}
	machine_reset_unplug(m);
	bus_lock(m->bus);
	machine_reset_devices_locked(m);
	bus_unlock(m->bus);
	if (m->lapics)
		lapics_reset(m->lapics);
	if (m->kvmclock)
		kvmclock_reset(m->kvmclock);
	if (m->pv)
		pv_reset(m->pv);
	if (machine_load(m, &err) < 0) {
		log_error("cannot start the guest again: %s", err.msg);
		machine_end(m, 1, "error");
		return;
	}
	machine_settle(m);
	machine_tell_ready(m);
}

void machine_reset_retry(struct loop_timer *t)
{
	machine_reset_step(container_of(t, struct machine, reset_retry));
}

static void machine_begin_reset(struct machine *m)
{
	vcpus_pause(m->vcpus);
	machine_set_state(m, MACHINE_RESETTING);
	machine_tell(m, MACHINE_EV_RESET, NULL);
	machine_reset_step(m);
}

/* --- requests --- */

static void machine_crash(struct machine *m)
{
	static struct log_guest again = LOG_GUEST("triple fault; it starts again, processor");
	unsigned cpu = atomic_load_explicit(&m->stuck_cpu, memory_order_relaxed);

	machine_tell(m, MACHINE_EV_CRASHED, "triple fault");
	if (m->cfg->is_no_reboot) {
		log_error("the guest crashed: triple fault on processor %u", cpu);
		machine_end(m, 1, "crash");
		return;
	}
	log_guest(&again, cpu);
	machine_begin_reset(m);
}

static void machine_fail(struct machine *m)
{
	log_error("processor %u cannot go on: %s", atomic_load_explicit(&m->stuck_cpu, memory_order_relaxed),
		  m->stuck_err.msg);
	machine_tell(m, MACHINE_EV_CRASHED, m->stuck_err.msg);
	machine_end(m, 1, "error");
}

/* On the loop thread. The processors stand still before the requests are taken: what they ask
 * for twice is done once, and nothing that one asked for outlives the reset that follows. */
static void machine_do_requests(void *arg)
{
	struct machine *m = arg;

	if (m->is_frozen)
		return; /* machine_thaw() calls again */
	vcpus_pause(m->vcpus);
	unsigned req = atomic_exchange_explicit(&m->requests, 0, memory_order_acquire);

	if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
		return;
	if (req & MACHINE_REQ_FAIL)
		machine_fail(m);
	else if (req & MACHINE_REQ_EXIT)
		machine_end(m, m->exit_status, "exit port");
	else if (req & MACHINE_REQ_POWEROFF)
		machine_end(m, 0, "power off");
	else if (req & MACHINE_REQ_CRASH)
		machine_crash(m);
	else if (req & MACHINE_REQ_RESET && m->cfg->is_no_reboot)
		machine_end(m, 0, "reset");
	else
		machine_begin_reset(m);
}

/* What cannot be told may have been written. */
static void machine_fetch_log(void *arg, uint64_t *bitmap)
{
	struct machine *m = arg;
	struct err err = ERR_INIT;
	uint64_t pages = m->mem->size >> GMEM_PAGE_SHIFT;

	if (m->ops->log_fetch(m->vm, bitmap, &err) == 0)
		return;
	log_warn("%s; all of memory is taken for written", err.msg);
	for (uint64_t p = 0; p < pages; p++)
		bitmap[p / 64] |= 1ull << (p % 64);
}

static int machine_start_logs(struct machine *m, struct err *err)
{
	int r = gmem_log_start(m->mem, err);

	if (r < 0 || !m->ops->log_start)
		return r;
	r = m->ops->log_start(m->vm, err);
	if (r < 0)
		gmem_log_stop(m->mem);
	else
		gmem_log_join(m->mem, machine_fetch_log, m);
	return r;
}

int machine_log_start(struct machine *m, struct err *err)
{
	vcpus_pause(m->vcpus);
	int r = machine_start_logs(m, err);
	if (m->state == MACHINE_RUNNING)
		vcpus_resume(m->vcpus);
	return r;
}

void machine_log_stop(struct machine *m)
{
	vcpus_pause(m->vcpus);
	gmem_log_join(m->mem, NULL, NULL);
	if (m->ops->log_stop)
		m->ops->log_stop(m->vm);
	gmem_log_stop(m->mem);
	if (m->state == MACHINE_RUNNING)
		vcpus_resume(m->vcpus);
}

void machine_freeze(struct machine *m)
{
	m->is_frozen = true;
}

void machine_thaw(struct machine *m)
{
	m->is_frozen = false;
	if (atomic_load_explicit(&m->requests, memory_order_acquire))
		machine_do_requests(m);
}

void machine_press_power_button(struct machine *m)
{
	bus_lock(m->bus);
	acpi_press_power_button(&m->acpi);
	bus_unlock(m->bus);
}

/* Any thread. One call is under way at most, however often a guest asks. Pairs with the
 * exchange in machine_do_requests(). */
static void machine_request(struct machine *m, unsigned req)
{
	if (atomic_fetch_or_explicit(&m->requests, req, memory_order_acq_rel))
		return;
	if (loop_call(m->loop, machine_do_requests, m) < 0) {
		log_error("out of memory: the machine ends");
		loop_stop(m->loop, 1);
	}
}

void machine_request_reset(void *arg)
{
	machine_request(arg, MACHINE_REQ_RESET);
}

void machine_request_poweroff(void *arg)
{
	machine_request(arg, MACHINE_REQ_POWEROFF);
}

/* The first status counts: another processor may write one before this one stops. */
void machine_request_exit(void *arg, int status)
{
	struct machine *m = arg;

	if (atomic_load_explicit(&m->requests, memory_order_relaxed) & MACHINE_REQ_EXIT)
		return;
	m->exit_status = status;
	machine_request(m, MACHINE_REQ_EXIT);
}

/* On the processor's thread. */
void machine_cpu_stuck(void *arg, unsigned cpu, enum cpu_exit_reason why, const struct err *err)
{
	struct machine *m = arg;

	atomic_store_explicit(&m->stuck_cpu, cpu, memory_order_relaxed);
	if (why == CPU_EXIT_ERROR) {
		bus_lock(m->bus);       /* two processors may fail at once */
		if (!m->stuck_err.code)
			m->stuck_err = *err;
		bus_unlock(m->bus);
	}
	machine_request(m, why == CPU_EXIT_ERROR ? MACHINE_REQ_FAIL : MACHINE_REQ_CRASH);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_run.c - one processor: enter the guest, serve its exits, leave when asked. */
#include "cpu/kvm/kvm_priv.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "util/checked.h"

enum { RUN_ON = -1 };   /* what an exit's handler says beside enum cpu_exit_reason */

/* --- interrupts of the PIC --------------------------------------------------------------- */

void kvm_settle(struct vcpu *v)
{
	/* Ends with EINTR before the guest runs, but after the pending access was completed. */
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	ioctl(v->fd, KVM_RUN, NULL);
	v->has_unfinished_io = false;
	v->is_window_stale = false;
	/* This may hide a request that came meanwhile: kvm_run_once() looks at REQ again. */
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
}

/* It was given when interrupts were on and nothing stood in its way: they are still on, and it does not take another. */
int kvm_given(struct vcpu *v)
{
	if (v->given >= 0 && v->is_window_stale)
		kvm_settle(v);
	if (v->given >= 0 && !(v->run->if_flag && !v->run->ready_for_interrupt_injection))
		v->given = -1;
	return v->given;
}

/* Whoever read the state has seen it in the PIC: it is the kernel's to deliver again. Another one that is more important by now
 * waits for its turn. */
static void kvm_take_again(struct vcpu *v)
{
	const struct cpu_host *host = v->vm->cfg.host;
	int vector = host->intr_ack(host->arg, v->index);

	v->is_returned = false;
	if (vector >= 0 && vector != v->given)
		host->intr_return(host->arg, v->index, (uint8_t)vector);
}

/* The kernel's LAPIC takes the PIC's interrupts (ExtINT) one by one when the processor can
 * have one; until then, ask to be told. */
static int kvm_offer_interrupt(struct vcpu *v, struct err *err)
{
	const struct cpu_host *host = v->vm->cfg.host;

	v->run->request_interrupt_window = 0;
	if (v->is_returned)
		kvm_take_again(v);
	if (!host->intr_pending(host->arg, v->index))
		return 0;
	/* The kernel says whether there is a window only on the way out, and a halted processor
	 * would sleep on without telling. */
	if (v->is_window_stale)
		kvm_settle(v);
	if (!v->run->ready_for_interrupt_injection || !v->run->if_flag) {
		v->run->request_interrupt_window = 1;
		return 0;
	}
	int vector = host->intr_ack(host->arg, v->index);

	if (vector < 0)
		return 0;
	struct kvm_interrupt irq = { .irq = (uint32_t)vector };
	int r = kvm_ioctl(v->fd, KVM_INTERRUPT, &irq);

	if (r < 0)
		return err_set(err, r, "KVM refuses interrupt %d: %s", vector, strerror(-r));
	v->run->ready_for_interrupt_injection = 0;
	v->given = vector;
	v->stats.irqs++;
	if (host->intr_pending(host->arg, v->index))
		v->run->request_interrupt_window = 1;
	return 0;
}

/* --- exits ------------------------------------------------------------------------------- */

static void kvm_exit_io(struct vcpu *v)
{
	const struct cpu_host *host = v->vm->cfg.host;
	struct kvm_run *run = v->run;
	uint8_t *p = (uint8_t *)run + run->io.data_offset;
	unsigned size = run->io.size;

	v->stats.exits_pio++;
	for (uint32_t i = 0; i < run->io.count; i++, p += size) {
		uint32_t val = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&val, p, size);
			host->pio_write(host->arg, v->index, run->io.port, size, val);
		} else {
			val = host->pio_read(host->arg, v->index, run->io.port, size);
			memcpy(p, &val, size);
		}
	}
}

/* Devices see accesses of 1, 2, 4 and 8 bytes; what an instruction that crosses a page leaves
 * can be any other number. */
static void kvm_exit_mmio(struct vcpu *v)
{
	const struct cpu_host *host = v->vm->cfg.host;
	struct kvm_run *run = v->run;
	unsigned len = run->mmio.len > 8 ? 8 : run->mmio.len;
	unsigned size = is_pow2(len) ? len : 1;

	v->stats.exits_mmio++;
	for (unsigned at = 0; at < len; at += size) {
		uint64_t val = 0;

		if (run->mmio.is_write) {
			memcpy(&val, run->mmio.data + at, size);
			host->mmio_write(host->arg, v->index, run->mmio.phys_addr + at, size, val);
		} else {
			val = host->mmio_read(host->arg, v->index, run->mmio.phys_addr + at, size);
			memcpy(run->mmio.data + at, &val, size);
		}
	}
}

static void kvm_exit_msr(struct vcpu *v)
{
	const struct cpu_host *host = v->vm->cfg.host;
	struct kvm_run *run = v->run;
	uint64_t val = run->msr.data;
	int r;

	if (run->exit_reason == KVM_EXIT_X86_RDMSR) {
		r = host->msr_read(host->arg, v->index, run->msr.index, &val);
		run->msr.data = val;
	} else {
		r = host->msr_write(host->arg, v->index, run->msr.index, val);
	}
	run->msr.error = r < 0;
}

/* The instruction at RIP as text, "48 0f c7 0e"; "unknown" when it cannot be read. */
static void kvm_insn_text(struct vcpu *v, const struct kvm_regs *regs, const struct kvm_sregs *sregs,
			  char *text, size_t len)
{
	struct kvm_translation tr = { .linear_address = sregs->cs.base + regs->rip };
	uint8_t bytes[15];
	unsigned n = 0;

	snprintf(text, len, "unknown");
	if (v->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	    v->run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && v->run->internal.ndata >= 4 &&
	    v->run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
		n = v->run->emulation_failure.insn_size;
		n = n > sizeof(bytes) ? sizeof(bytes) : n;
		memcpy(bytes, v->run->emulation_failure.insn_bytes, n);
	}
	if (!n && !kvm_ioctl(v->fd, KVM_TRANSLATE, &tr) && tr.valid) {
		uint64_t left = GMEM_PAGE_SIZE - tr.physical_address % GMEM_PAGE_SIZE;

		n = left < sizeof(bytes) ? (unsigned)left : sizeof(bytes);
		if (gmem_read(v->vm->cfg.mem, tr.physical_address, bytes, n) < 0)
			n = 0;
	}
	for (unsigned i = 0; i < n && 3 * i + 3 < len; i++)
		snprintf(text + 3 * i, len - 3 * i, "%02x%s", bytes[i], i + 1 < n ? " " : "");
}

static enum cpu_exit_reason kvm_exit_error(struct vcpu *v, int code, struct err *err)
{
	struct kvm_run *run = v->run;
	struct kvm_sregs sregs = { 0 };
	struct kvm_regs regs = { 0 };
	char insn[64];

	kvm_ioctl(v->fd, KVM_GET_REGS, &regs);
	kvm_ioctl(v->fd, KVM_GET_SREGS, &sregs);
	kvm_insn_text(v, &regs, &sregs, insn, sizeof(insn));
	if (code < 0)
		err_set(err, code, "KVM failed to run processor %u at %04x:%" PRIx64 ": %s (instruction bytes %s)",
			v->index, sregs.cs.selector, (uint64_t)regs.rip, strerror(-code), insn);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
		 run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION)
		err_set(err, -EOPNOTSUPP, "the KVM of this host cannot emulate the instruction at %04x:%" PRIx64
			", bytes %s; choose the software CPU engine", sregs.cs.selector, (uint64_t)regs.rip, insn);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		err_set(err, -EIO, "KVM reports internal error %u on processor %u at %04x:%" PRIx64 " (instruction "
			"bytes %s)", run->internal.suberror, v->index, sregs.cs.selector, (uint64_t)regs.rip, insn);
	else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		err_set(err, -EIO, "the host's processor refuses to enter the guest: reason 0x%llx at %04x:%" PRIx64,
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason, sregs.cs.selector,
			(uint64_t)regs.rip);
	else
		err_set(err, -EIO, "KVM left the guest for a reason this program does not know: %u at %04x:%" PRIx64,
			run->exit_reason, sregs.cs.selector, (uint64_t)regs.rip);
	return CPU_EXIT_ERROR;
}

static int kvm_serve_exit(struct vcpu *v, struct err *err)
{
	const struct cpu_host *host = v->vm->cfg.host;

	switch (v->run->exit_reason) {
	case KVM_EXIT_IO:
		v->has_unfinished_io = true;
		kvm_exit_io(v);
		return RUN_ON;
	case KVM_EXIT_MMIO:
		v->has_unfinished_io = true;
		kvm_exit_mmio(v);
		return RUN_ON;
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		v->has_unfinished_io = true;
		kvm_exit_msr(v);
		return RUN_ON;
	case KVM_EXIT_IOAPIC_EOI:
		host->eoi(host->arg, v->run->eoi.vector);
		return RUN_ON;
	case KVM_EXIT_IRQ_WINDOW_OPEN:
	case KVM_EXIT_INTR:
		return RUN_ON;
	case KVM_EXIT_HLT:
		v->stats.exits_hlt++;
		return RUN_ON;
	case KVM_EXIT_SHUTDOWN:
		v->is_shutdown = true;
		return CPU_EXIT_SHUTDOWN;
	default:
		return (int)kvm_exit_error(v, 0, err);
	}
}

/* --- the loop ---------------------------------------------------------------------------- */

/* Take the kick signal in this thread, whatever mask it was started with. */
static void kvm_enter_thread(struct vcpu *v)
{
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SIGRTMIN);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	atomic_store(&v->tid, (int)syscall(SYS_gettid));
}

static int kvm_run_once(struct vcpu *v, struct err *err)
{
	/* Down before looking: who asks after this look raises it again. */
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	if (atomic_exchange(&v->req, 0) & KVM_REQ_KICK) {
		if (v->has_unfinished_io)
			kvm_settle(v);
		return CPU_EXIT_KICK;
	}
	if (v->is_shutdown)
		return CPU_EXIT_SHUTDOWN;
	if (kvm_offer_interrupt(v, err) < 0)
		return CPU_EXIT_ERROR;
	if (atomic_load(&v->req))
		return RUN_ON;
	int r = ioctl(v->fd, KVM_RUN, NULL) < 0 ? -errno : 0;

	v->has_unfinished_io = false;
	v->is_window_stale = false;
	/* EAGAIN: a processor that waited for its start got it. */
	if (r == -EINTR || r == -EAGAIN)
		return RUN_ON;
	return r < 0 ? (int)kvm_exit_error(v, r, err) : kvm_serve_exit(v, err);
}

enum cpu_exit_reason kvm_run(struct vcpu *v, struct err *err)
{
	int r;

	kvm_enter_thread(v);
	do {
		r = kvm_run_once(v, err);
	} while (r == RUN_ON);
	atomic_store(&v->tid, 0);
	return (enum cpu_exit_reason)r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* kvm.h - the engine that lets the host's processor run the guest, through /dev/kvm.
 *
 * Beyond struct cpu_ops there is what only a kernel engine needs: the log of pages that the
 * processor wrote (stores by devices are in gmem's own log), and the kernel's paravirtual
 * clock. Linux Documentation/virt/kvm/api.rst. */
#ifndef CPU_KVM_KVM_H
#define CPU_KVM_KVM_H

#include "cpu/cpu.h"

extern const struct cpu_ops cpu_kvm;

/* Log of pages that guest instructions wrote. To move memory: kvm_dirty_start() after
 * gmem_log_start(); each round gmem_log_fetch() into a bitmap, then kvm_dirty_fetch() adds
 * ("or") the kernel's pages to the same bitmap and clears its log. One caller at a time. */
int kvm_dirty_start(struct cpu_vm *vm, struct err *err);
int kvm_dirty_fetch(struct cpu_vm *vm, uint64_t *bitmap, struct err *err);
void kvm_dirty_stop(struct cpu_vm *vm);

/* The paravirtual clock that the kernel keeps for one processor, for saved state: the two
 * MSRs as the guest wrote them and the machine's clock in nanoseconds. Vcpus stopped. */
struct kvm_clock_state {
	uint64_t system_time_msr, wall_clock_msr;
	uint64_t now_ns;
};
int kvm_clock_get(struct vcpu *v, struct kvm_clock_state *out, struct err *err);
int kvm_clock_set(struct vcpu *v, const struct kvm_clock_state *in, struct err *err);

#endif

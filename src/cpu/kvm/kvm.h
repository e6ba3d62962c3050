/* SPDX-License-Identifier: Apache-2.0 */
/* kvm.h - the engine that lets the host's processor run the guest, through /dev/kvm (Linux Documentation/virt/kvm/api.rst). */
#ifndef CPU_KVM_KVM_H
#define CPU_KVM_KVM_H

#include "cpu/cpu.h"

extern const struct cpu_ops cpu_kvm;

#endif

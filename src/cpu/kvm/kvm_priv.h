/* SPDX-License-Identifier: Apache-2.0 */
/* kvm_priv.h - what the files of the KVM engine share. */
#ifndef CPU_KVM_KVM_PRIV_H
#define CPU_KVM_KVM_PRIV_H

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include "cpu/kvm/kvm.h"
#include "util/err.h"

enum { KVM_N_SLOTS = 2, KVM_N_PINS = 24 };

struct kvm_slot {
	uint64_t gpa, off, size;        /* OFF: in the memfd; SIZE 0: not there */
};

enum { KVM_IRQFDS_MAX = 64 };

/* What an eventfd stands for; free while is_used is false. */
struct kvm_message {
	bool is_used;
	int fd;
	uint64_t addr;
	uint32_t data;
};

struct cpu_vm {                         /* of this engine */
	struct cpu_config cfg;
	int sys_fd, fd;
	unsigned n;                     /* vcpus made so far */
	struct vcpu **cpu;
	size_t run_size;
	struct kvm_slot slot[KVM_N_SLOTS];
	uint64_t *dirty;                /* one slot's bitmap while logging */
	size_t dirty_size;              /* bytes */
	int64_t tsc_base;               /* source_tsc() - host TSC */
	bool has_tsc_offset;            /* KVM_VCPU_TSC_OFFSET */
	bool has_sregs2;
	pthread_mutex_t route_lock;     /* eoi_bitmap, irqfd */
	uint64_t eoi_bitmap[4];
	struct kvm_message irqfd[KVM_IRQFDS_MAX];       /* input KVM_N_PINS + index */
};

enum kvm_req { KVM_REQ_KICK = 1, KVM_REQ_INTR = 2 };

/* Owner: the vcpu's thread; any thread: req, tid, run->immediate_exit. */
struct vcpu {
	struct cpu_vm *vm;
	unsigned index;                 /* = APIC id */
	int fd;
	struct kvm_run *run;
	_Atomic uint32_t req;           /* enum kvm_req; set before immediate_exit and the signal */
	_Atomic int tid;                /* thread inside cpu_run(), else 0 */
	bool has_unfinished_io;         /* the kernel completes the last exit at the next KVM_RUN */
	bool is_window_stale;           /* run->ready_for_interrupt_injection is of an older state */
	bool is_shutdown;               /* after a triple fault until set_state() */
	int given;                      /* vector of the PIC that the kernel has taken last, and may not have delivered; -1: none */
	bool is_returned;               /* the PIC has it again, for whoever reads the machine's state; so has the kernel */
	struct cpu_stats stats;
};

/* ioctl() that survives signals. 0 or positive, or -errno. */
int kvm_ioctl(int fd, unsigned long request, void *arg);

/* kvm_probe.c */
int kvm_open(struct err *err);
int kvm_check_caps(int sys_fd, struct err *err);
int kvm_probe(bool is_explicit, struct err *err);

/* kvm_cpuid.c */
int kvm_fit_cpuid(struct x86_cpuid *t, struct err *err);
int kvm_set_cpuid(struct vcpu *v, struct err *err);

/* kvm_run.c */
enum cpu_exit_reason kvm_run(struct vcpu *v, struct err *err);
/* Let the kernel finish the access of the last exit and look at the interrupt window. */
void kvm_settle(struct vcpu *v);
/* The vector of the PIC that the kernel was given and has not begun to deliver, which it tells nobody; -1: none. */
int kvm_given(struct vcpu *v);

/* kvm_state.c */
int kvm_get_state(struct vcpu *v, struct x86_state *s, struct err *err);
int kvm_set_state(struct vcpu *v, const struct x86_state *s, struct err *err);
int kvm_get_msr(struct vcpu *v, uint32_t index, uint64_t *val);         /* -ENOENT: not there */
int kvm_set_msr(struct vcpu *v, uint32_t index, uint64_t val);

/* kvm_lapic.c */
int kvm_return_interrupt(struct vcpu *v, uint8_t vector);
int kvm_get_pv(struct vcpu *v, struct cpu_pv *out, struct err *err);
int kvm_set_pv(struct vcpu *v, const struct cpu_pv *in, struct err *err);
int kvm_get_lapic(struct vcpu *v, uint8_t regs[1024], struct err *err);
int kvm_set_lapic(struct vcpu *v, const uint8_t regs[1024], struct err *err);

#endif

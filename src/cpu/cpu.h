/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h - the whole contract between the machine and an engine.
 *
 * An engine executes guest instructions: `kvm`, `bt`, `interp`. One cpu_vm per machine,
 * one vcpu per processor, one host thread per vcpu; that thread alone calls cpu_run(),
 * cpu_get_state() and cpu_set_state() (or anyone while the vcpu is known to be stopped).
 * cpu_kick(), cpu_interrupt(), cpu_nmi(), cpu_init_sipi() and cpu_msi() may come from any
 * thread. The engine calls back into the machine through `struct cpu_host`, on the vcpu's
 * thread and with no lock held. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <stdbool.h>
#include <stdint.h>
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "mem/gmem.h"
#include "util/source.h"

struct err;
struct cpu_vm;
struct vcpu;

/* What the machine offers to an engine. All required unless marked. */
struct cpu_host {
	void *arg;
	uint32_t (*pio_read)(void *arg, unsigned cpu, uint16_t port, unsigned size);
	void (*pio_write)(void *arg, unsigned cpu, uint16_t port, unsigned size, uint32_t val);
	uint64_t (*mmio_read)(void *arg, unsigned cpu, gpa_t gpa, unsigned size);
	void (*mmio_write)(void *arg, unsigned cpu, gpa_t gpa, unsigned size, uint64_t val);
	/* MSRs that belong to the platform, not to the engine: APIC base, TSC deadline,
	 * x2APIC, paravirtual ones. 0, or -1: the guest gets #GP. */
	int (*msr_read)(void *arg, unsigned cpu, uint32_t msr, uint64_t *val);
	int (*msr_write)(void *arg, unsigned cpu, uint32_t msr, uint64_t val);
	/* Interrupt acknowledge: the vector to deliver now, -1 when there is none that the
	 * priority (TPR) allows. Software engines: LAPIC first, then PIC. Engines with their
	 * own LAPIC: the PIC's (ExtINT). */
	int (*intr_ack)(void *arg, unsigned cpu);
	/* Would intr_ack() give a vector? No side effect. */
	bool (*intr_pending)(void *arg, unsigned cpu);
	/* VECTOR, the last one that intr_ack() gave, was not delivered: who gave it has it again. Engines with their own LAPIC
	 * only, while their state is read. */
	void (*intr_return)(void *arg, unsigned cpu, uint8_t vector);
	/* CR8, the priority class of the LAPIC's TPR. Software engines only. */
	unsigned (*cr8_read)(void *arg, unsigned cpu);
	void (*cr8_write)(void *arg, unsigned cpu, unsigned val);
	/* End of interrupt for a level-triggered VECTOR from an engine with its own LAPIC. */
	void (*eoi)(void *arg, uint8_t vector);
	/* The guest has moved its TSC: tsc_offset() is another one. Software engines only;
	 * NULL: nobody cares. */
	void (*tsc_changed)(void *arg, unsigned cpu);
	/* The processor's thread leaves the guest to sleep, and is about to execute (again); true: the
	 * guest wants its TLB flushed before. Software engines only; NULL: nobody cares. */
	void (*idle)(void *arg, unsigned cpu);
	bool (*busy)(void *arg, unsigned cpu);
	/* An INIT has reset the processor. NULL: nobody cares. */
	void (*was_reset)(void *arg, unsigned cpu);
	/* VMCALL or VMMCALL at CPL 0: number and arguments; what RAX gets. Software engines only; NULL: none
	 * is known. */
	int64_t (*hypercall)(void *arg, unsigned cpu, uint64_t nr, const uint64_t a[4]);
};

struct cpu_config {
	unsigned n_vcpus;
	struct gmem *mem;
	const struct x86_cpuid *cpuid;
	const struct cpu_host *host;
	struct source *source;
	size_t code_cache;      /* engine `bt`: bytes per vcpu for translations of code and addresses; 0: the default */
	bool windows;           /* engine `bt`: user code may find its memory by the host's MMU */
	/* For the person who looks at speed; engines may ignore them. */
	bool wants_profile;     /* sample() and profile() are going to be called; count instructions */
	bool wants_perf_map;    /* write /tmp/perf-PID.map: what generated code stands for */
};

/* What an engine with its own LAPIC serves of the paravirtual interface, as the guest has set it: address and flags, 0: off. What
 * lies in guest memory is up to date while the processor stands still. */
struct cpu_pv {
	uint64_t system_time_msr, wall_clock_msr, steal_msr, pv_eoi_msr;
	uint64_t now_ns;        /* the machine's paravirtual clock; the same for all processors */
};

enum cpu_exit_reason {
	CPU_EXIT_KICK,          /* cpu_kick() */
	CPU_EXIT_SHUTDOWN,      /* triple fault: a PC resets */
	CPU_EXIT_ERROR,         /* the engine cannot go on; err says why */
};

enum { CPU_TOP_CALL_OUTS = 8 };

/* Why generated code was left for the dispatcher. Names: cpu_code_exit_name(). */
enum cpu_code_exit {
	CPU_CODE_EXIT_LINK,     /* a jump that had not been made direct yet */
	CPU_CODE_EXIT_INDIRECT, /* an indirect jump whose target is not in the table */
	CPU_CODE_EXIT_UNMAPPED, /* a page of code has no entry in the table of the present address space any more */
	CPU_CODE_EXIT_END,      /* an instruction of the interpreter's after which code ends: iret, mov cr ... */
	CPU_CODE_EXIT_AWAY,     /* an instruction of the interpreter's that went elsewhere, or ran without its group's check */
	CPU_CODE_EXIT_CHANGED,  /* a request: translated code, or what it may write, has changed */
	CPU_CODE_EXIT_REQUEST,  /* another request: interrupts, kicks, samples of a profile */
	CPU_CODE_EXIT_OTHER,
	CPU_N_CODE_EXITS,
};
const char *cpu_code_exit_name(enum cpu_code_exit why);  /* "link" */

/* Counters of one vcpu since its creation. */
struct cpu_stats {
	uint64_t insns;         /* guest instructions executed; 0 when the engine cannot know */
	uint64_t exits_pio, exits_mmio, exits_hlt, irqs, exceptions;
	uint64_t tlb_misses, blocks_decoded, code_invalidations;
	uint64_t tlb_trims;     /* translations of an address space were dropped for want of memory */
	uint64_t window_faults, window_exits;   /* faults of the host in windows, and those of them that the interpreter went on from */
	uint64_t window_soft;           /* fragments that gave their window up because of those */
	/* Engines that generate code. */
	uint64_t code_exits[CPU_N_CODE_EXITS];  /* by enum cpu_code_exit */
	uint64_t call_outs;     /* instructions that code has handed to the interpreter */
	uint64_t code_bytes;    /* generated */
	uint64_t cache_flushes; /* the cache of code was full */
	uint64_t memory;        /* bytes in use now for translations, of code and of addresses, and what serves them; 0: not known */
	struct { const char *name; uint64_t n; } top_call_outs[CPU_TOP_CALL_OUTS];     /* by operation; n 0: none */
};

/* Where the time of a vcpu goes, by samples. */
enum cpu_phase {
	CPU_PHASE_CODE,         /* guest code, translated or (engine `interp`) interpreted */
	CPU_PHASE_CALL_OUT,     /* instructions that translated code hands to the interpreter */
	CPU_PHASE_TRANSLATE,
	CPU_PHASE_DEVICE,
	CPU_PHASE_HALTED,
	CPU_N_PHASES,
};

struct cpu_profile_place {
	uint64_t rip;           /* linear address */
	uint64_t n;             /* samples; 0: no place */
	uint8_t cpl;
};

struct cpu_profile {
	uint64_t phase[CPU_N_PHASES];           /* samples */
	uint64_t n_lost;                        /* of samples of places: the table was full */
	const struct cpu_profile_place *place;  /* in no order; BORROWED from the vcpu */
	unsigned n_places;
};

struct cpu_ops {
	const char *name;       /* "interp" */
	const char *summary;    /* one line for --help */
	bool has_lapic;         /* brings its own LAPIC: the machine must not emulate one */
	/* Processors have memory of their own, which is made the same as the machine's now and then: who stores
	 * one thing and then loads another does not see what a device has done in between, fence or not. */
	bool has_own_memory;
	const struct x86_features *features;    /* what it announces at most */
	/* What it can execute for a saved machine that announces more. NULL: the same. */
	const struct x86_features *executes;
	/* Can this host run it? 0, or -errno with the reason. EXPLICIT: the user asked for this
	 * engine by name, so a slow one is accepted. */
	int (*probe)(bool is_explicit, struct err *err);
	/* Take out of T what this host does not let the engine announce, before vm_new(). NULL: nothing. -ENOTSUP: T requires it, or a guest
	 * has seen it. */
	int (*fit_cpuid)(struct x86_cpuid *t, struct err *err);
	int (*vm_new)(struct cpu_vm **out, const struct cpu_config *cfg, struct err *err);
	void (*vm_free)(struct cpu_vm *vm);
	struct vcpu *(*vcpu)(struct cpu_vm *vm, unsigned n);
	enum cpu_exit_reason (*run)(struct vcpu *v, struct err *err);
	void (*kick)(struct vcpu *v);
	void (*interrupt)(struct vcpu *v);      /* intr_pending() may have become true */
	void (*nmi)(struct vcpu *v);
	void (*init)(struct vcpu *v);           /* INIT IPI */
	void (*sipi)(struct vcpu *v, uint8_t vector);
	/* The processor leaves HLT without an interrupt, this one or the next. NULL: the engine does not call
	 * idle(), busy() and hypercall() either, so that the machine must not announce what needs them. */
	void (*unhalt)(struct vcpu *v);
	void (*msi)(struct cpu_vm *vm, uint64_t addr, uint32_t data);   /* has_lapic only */
	int (*get_state)(struct vcpu *v, struct x86_state *s, struct err *err);
	int (*set_state)(struct vcpu *v, const struct x86_state *s, struct err *err);
	void (*stats)(struct vcpu *v, struct cpu_stats *out);
	/* Optional, with cpu_config.wants_profile: take a sample (one thread, at regular times); what there is of
	 * them (the vcpu is stopped). */
	void (*sample)(struct vcpu *v);
	void (*profile)(struct vcpu *v, struct cpu_profile *out);
	/* Guest TSC less source_tsc(), as in struct x86_state. Any thread. Engines without a
	 * LAPIC of their own. */
	uint64_t (*tsc_offset)(struct vcpu *v);
	/* has_lapic only, optional: let the kernel do port/MMIO doorbells and MSI by itself. */
	int (*ioeventfd)(struct cpu_vm *vm, bool add, gpa_t gpa, unsigned size, int fd, struct err *err);
	/* has_lapic only, optional: send the message ADDR/DATA each time the eventfd FD (borrowed until
	 * removed) is signalled, without waking this process: for devices in other processes. An FD that is
	 * known already gets another message. -ENOSPC when there are too many. */
	int (*irqfd)(struct cpu_vm *vm, bool add, int fd, uint64_t addr, uint32_t data, struct err *err);
	/* has_lapic only: the 1 KiB LAPIC register page, for saved state. Two MSRs ride in its
	 * reserved words, 8 bytes each: IA32_APIC_BASE at 0x000 (0 on set: keep the one that is
	 * there) and IA32_TSC_DEADLINE at 0x010. Set with NULL: power-on state, and the
	 * engine's paravirtual clock off. */
	int (*get_lapic)(struct vcpu *v, uint8_t regs[1024], struct err *err);
	int (*set_lapic)(struct vcpu *v, const uint8_t regs[1024], struct err *err);
	/* has_lapic only: the same for the paravirtual interface, processors stopped; setting tells the guest that it was stopped. What
	 * the guest's CPUID does not announce reads as 0 and cannot be set. */
	int (*get_pv)(struct vcpu *v, struct cpu_pv *out, struct err *err);
	int (*set_pv)(struct vcpu *v, const struct cpu_pv *in, struct err *err);
	/* has_lapic only, processors stopped: the source of the configuration has been set to another time. set_state() of
	 * each of them has to follow. */
	void (*source_moved)(struct cpu_vm *vm);
	/* Engines whose guests write memory past gmem's log: the log of those pages, beside gmem's. FETCH adds ("or") to BITMAP what was
	 * written since the last time, as gmem_log_fetch_more(). Start and stop with processors stopped; fetch by one thread. */
	int (*log_start)(struct cpu_vm *vm, struct err *err);
	int (*log_fetch)(struct cpu_vm *vm, uint64_t *bitmap, struct err *err);
	void (*log_stop)(struct cpu_vm *vm);
	/* has_lapic only: the I/O APIC's pins changed; level-triggered VECTORs need eoi().
	 * BITMAP of 256 bits. */
	void (*eoi_exits)(struct cpu_vm *vm, const uint64_t bitmap[4]);
};

/* Engines in order of preference, NULL-terminated. */
extern const struct cpu_ops *const cpu_engines[];

/* The engine called NAME, or for "auto" the first whose probe succeeds; WHY (of WHY_LEN
 * bytes) gets one line that explains the choice, for the log. */
int cpu_engine_pick(const struct cpu_ops **out, const char *name, char *why, unsigned why_len, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* interp_rig.h - a machine of RAM and one or more processors of an engine in software in 64-bit mode, for tests.
 *
 * Linear memory: RIG_CODE, RIG_DATA and RIG_STACK are 4 KiB pages mapped one to one through
 * tables at RIG_PML4; rig_pte() is the page-table entry of an address below 2 MiB. Address 2 MiB
 * to 4 MiB is a large page onto the same 2 MiB. RIG_MMIO is a device page that records what
 * reaches it. */
#ifndef TESTS_UNIT_CPU_INTERP_RIG_H
#define TESTS_UNIT_CPU_INTERP_RIG_H

#include "cpu/interp/interp.h"
#include "cpu/interp/interp_priv.h"

enum {
	RIG_PML4 = 0x1000, RIG_PDPT = 0x2000, RIG_PD = 0x3000, RIG_PT = 0x4000,
	RIG_CODE = 0x10000, RIG_DATA = 0x20000, RIG_STACK = 0x30000, RIG_IDT = 0x40000,
	RIG_GDT = 0x41000, RIG_TSS = 0x42000, RIG_MMIO = 0x1f0000, RIG_MMIO_GPA = 0xd0000000,
	RIG_RAM = 4 << 20,
};

/* Which engine the test program is about: rig_on_interp.c or rig_on_bt.c. */
struct rig_engine {
	const struct cpu_ops *ops;
	int (*step)(struct vcpu *v, struct icpu_event *fault);
	bool counts_insns;
};
extern const struct rig_engine rig_engine;

struct rig {
	const struct rig_engine *engine;
	struct gmem *mem;
	struct cpu_host host;
	struct x86_cpuid cpuid;
	struct source_host source;
	struct cpu_vm *vm;
	struct vcpu *v;
	struct icpu *c;
	uint64_t mmio_value;            /* what MMIO reads give, byte by byte */
	uint64_t mmio_last, mmio_gpa;   /* of the last write */
	unsigned mmio_size, n_mmio;
	_Atomic int pending;            /* vector that intr_ack() gives once; -1: none */
};

void rig_init(struct rig *r, unsigned n_vcpus);
void rig_init_on(struct rig *r, const struct rig_engine *engine, unsigned n_vcpus);
/* With so many bytes for translated code; 0: as usual. */
void rig_init_cached(struct rig *r, const struct rig_engine *engine, unsigned n_vcpus, size_t code_cache);
void rig_fini(struct rig *r);
uint64_t *rig_pte(struct rig *r, uint64_t la);
/* Put code at LA and make it what comes next. */
void rig_code(struct rig *r, uint64_t la, const void *code, unsigned len);
/* N instructions one by one; they must not fault. */
void rig_steps(struct rig *r, unsigned n);
/* One instruction that must fault. */
struct icpu_event rig_fault(struct rig *r);
/* An interrupt gate for VECTOR to a handler at LA. */
void rig_gate(struct rig *r, unsigned vector, uint64_t la);
/* cpu_run() until HLT; returns when the vcpu has parked. */
void rig_run_to_halt(struct rig *r);

#define RIG_CODE_BYTES(r, ...)                                                  \
	do {                                                                    \
		static const uint8_t bytes_[] = { __VA_ARGS__ };                \
		rig_code(r, RIG_CODE, bytes_, sizeof(bytes_));                  \
	} while (0)

#endif

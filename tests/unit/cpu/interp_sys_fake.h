/* SPDX-License-Identifier: Apache-2.0 */
/* interp_sys_fake.h - a processor without paging, blocks or run loop, to try the system half of
 * the interpreter alone: flat memory, one instruction at a time, faults caught and reported. */
#ifndef TESTS_UNIT_CPU_INTERP_SYS_FAKE_H
#define TESTS_UNIT_CPU_INTERP_SYS_FAKE_H

#include "cpu/interp/sys_priv.h"

enum { FAKE_MEM = 0x40000, FAKE_OK = -1 };

/* Where the tests keep things. */
enum {
	AT_GDT = 0x1000, AT_IDT = 0x2000, AT_TSS = 0x3000, AT_TSS2 = 0x3800, AT_LDT = 0x3c00, AT_TSS16 = 0x3e00,
	AT_CODE = 0x4000, KSTACK = 0x9000, USTACK = 0xb000, RSP0 = 0xd000, IST1 = 0xf000,
};

/* Selectors of the GDT that fake_setup_*() builds. */
enum {
	SEL_KCODE = 0x08, SEL_KDATA = 0x10, SEL_UCODE = 0x1b, SEL_UDATA = 0x23, SEL_KCODE64 = 0x28, SEL_UCODE64 = 0x33,
	SEL_TSS = 0x38, SEL_GATE = 0x48, SEL_TSS2 = 0x58, SEL_CODE16 = 0x60, SEL_TASK_GATE = 0x68, SEL_LDT = 0x70,
	SEL_CONFORMING = 0x80, SEL_ABSENT = 0x88, SEL_TSS16 = 0x90, GDT_LIMIT = 0x9f,
};

struct fake {
	struct icpu c;
	uint8_t mem[FAKE_MEM];
	struct cpu_vm vm;
	struct x86_cpuid cpuid;
	struct cpu_host host;
	struct source source;
	uint64_t bad_page;              /* reading or writing it page-faults; 0: none */
	/* what happened */
	uint32_t code;                  /* of the last fault */
	unsigned n_flush, n_flush_page, n_halt, n_pio;
	unsigned tsc_changes;
	uint64_t cr8, host_msr;
	uint64_t tsc;
	uint32_t pio_value, pio_out;
};
extern struct fake fake;

#define S fake.c.s
#define RSP S.gpr[X86_RSP]
#define GATE_INT 0x8e
#define GATE_INT_USER 0xee
#define GATE_TRAP 0x8f

/* Real mode after reset; 32-bit protected mode or 64-bit mode at CPL. */
void fake_setup_real(void);
void fake_setup_prot(unsigned cpl);
void fake_setup_long(unsigned cpl);

uint64_t fake_desc(uint32_t base, uint32_t limit, uint32_t attr);
void fake_put64(uint64_t la, uint64_t v);
void fake_put32(uint64_t la, uint32_t v);
uint64_t fake_get64(uint64_t la);
uint32_t fake_get32(uint64_t la);
uint16_t fake_get16(uint64_t la);
/* A gate of VECTOR in the IDT: 16 bytes in long mode, else 8. */
void fake_gate(unsigned vector, uint16_t sel, uint64_t off, unsigned attr, unsigned ist);

/* Execute the bytes at the current RIP. FAKE_OK, or the vector that was raised. */
int fake_exec_bytes(const uint8_t *bytes, unsigned len);
#define EXEC(...) fake_exec_bytes((const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))
int fake_deliver(struct icpu_event ev);

#endif

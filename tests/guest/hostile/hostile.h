/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - what the parts of the hostile guest share.
 *
 * A freestanding 64-bit program that treats the machine as badly as it can. The word
 * "test=NAME" on its command line chooses what it does; it prints "BEGIN", "HALF" and "END"
 * on COM1 around the work, so that the test can measure in between, and ends through the exit
 * port. All addresses below 512 GiB are mapped to themselves, writable and executable. */
#ifndef HOSTILE_H
#define HOSTILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUT(suffix, type)                                                               \
	static inline void out##suffix(uint16_t port, type v)                           \
	{                                                                               \
		__asm__ volatile("out" #suffix " %0, %1" : : "a"(v), "Nd"(port));       \
	}                                                                               \
	static inline type in##suffix(uint16_t port)                                    \
	{                                                                               \
		type v;                                                                 \
		__asm__ volatile("in" #suffix " %1, %0" : "=a"(v) : "Nd"(port));        \
		return v;                                                               \
	}
OUT(b, uint8_t)
OUT(w, uint16_t)
OUT(l, uint32_t)

#define MMIO(bits)                                                                      \
	static inline void put##bits(uint64_t addr, uint##bits##_t v)                   \
	{                                                                               \
		*(volatile uint##bits##_t *)addr = v;                                   \
	}                                                                               \
	static inline uint##bits##_t get##bits(uint64_t addr)                           \
	{                                                                               \
		return *(volatile uint##bits##_t *)addr;                                \
	}
MMIO(8)
MMIO(16)
MMIO(32)
MMIO(64)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ECAM 0xe0000000ull
#define LAPIC 0xfee00000ull
#define IOAPIC 0xfec00000ull

static inline uint64_t rdtsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}

/* main.c; the first two are called by compilers, too */
void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int c, size_t n);
extern int rounds;                      /* how much work: "rounds=N", 1 if not given */
uint64_t rnd(void);
void say(const char *text);
void say_hex(uint64_t v);
void pause_tsc(uint64_t ticks);
/* Called for every interrupt and exception; NULL: they are counted and forgotten. Faults come
 * back to the next call of skip(), set up by CATCH(). */
extern void (*volatile on_fault)(unsigned vector);
extern volatile uint64_t n_vectors;
void idt_load(void);
void start_cpus(void (*fn)(unsigned n));        /* all other processors; returns when they run */
extern volatile unsigned cpus_running;

/* start.S */
void restart(void (*fn)(void), void *stack) __attribute__((noreturn));
extern char boot_pml4[];

/* The tests. */
void test_ports(void);
void test_mmio(void);
void test_virtio(void);
void test_race(void);
void test_triple(void);
void test_reboots(void);
void test_random(void);
void test_console(void);
void test_storm(void);
void test_paging(void);
void test_msrs(void);
void test_poweroff(void);
void test_inflight(void);
void test_ticks(void);          /* for ever */

#endif

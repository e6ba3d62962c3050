/* SPDX-License-Identifier: Apache-2.0 */
/* Not hostile: all sources of interrupts and time tick at once, and registers that nobody touches keep their values, whatever is done
 * to the machine meanwhile. Processor 0: PIT through the PIC, its APIC's periodic timer; processor 1: x2APIC, TSC deadline. */
#include "hostile.h"

enum {
	V_PIT = 0x30, V_PERIODIC = 0x51, V_DEADLINE = 0x52,
	PIT_COUNT = 11932,              /* 100 Hz */
	PERIOD = 10 * 1000 * 1000,      /* ns: the APIC's bus has 1 GHz */
	LINE_NS = 100 * 1000 * 1000,
	MSR_APIC_BASE = 0x1b, MSR_DEADLINE = 0x6e0, MSR_PAT = 0x277, MSR_KERNEL_GS = 0xc0000102, MSR_CLOCK = 0x4b564d01,
	X2_EOI = 0x80b, X2_SVR = 0x80f, X2_LVT_TIMER = 0x832,
};
#define DEADLINE_TICKS 30000000ull
#define PATTERN 0x0000112233445566ull   /* canonical */
#define PAT 0x0007040600070405ull       /* two entries other than at power-on */

/* struct pvclock_vcpu_time_info */
static volatile struct {
	uint32_t version, pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
} clock __attribute__((aligned(64)));

static volatile uint64_t ticks[256];

static uint64_t rdmsr(uint32_t msr)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (uint64_t)hi << 32 | lo;
}

static void on_tick(unsigned vector)
{
	ticks[vector]++;
	if (vector == V_PIT)
		outb(0x20, 0x20);
	if (vector == V_DEADLINE) {
		wrmsr(MSR_DEADLINE, rdtsc() + DEADLINE_TICKS);
		wrmsr(X2_EOI, 0);
	}
	if (vector < 32) {
		say("BAD fault ");
		say_hex(vector);
		say("\r\n");
		outb(0xf4, 0x11);
	}
}

static uint64_t clock_ns(void)
{
	uint32_t version;
	uint64_t ns;

	do {
		version = clock.version;
		__asm__ volatile("" : : : "memory");
		uint64_t passed = rdtsc() - clock.tsc;

		passed = clock.shift < 0 ? passed >> -clock.shift : passed << clock.shift;
		ns = clock.ns + (uint64_t)((unsigned __int128)passed * clock.mul >> 32);
		__asm__ volatile("" : : : "memory");
	} while (version & 1 || version != clock.version);
	return ns;
}

static void start_pit(void)
{
	static const uint8_t init[][2] = {
		{ 0x20, 0x11 }, { 0x21, V_PIT }, { 0x21, 4 }, { 0x21, 1 },
		{ 0xa0, 0x11 }, { 0xa1, V_PIT + 8 }, { 0xa1, 2 }, { 0xa1, 1 }, { 0x21, 0xfe }, { 0xa1, 0xff },
		{ 0x43, 0x34 }, { 0x40, PIT_COUNT & 0xff }, { 0x40, PIT_COUNT >> 8 },
	};

	for (unsigned i = 0; i < ARRAY_LEN(init); i++)
		outb(init[i][0], init[i][1]);
}

/* By the two instructions for it that every engine knows: pi is in ST0, the pattern in XMM7. */
static uint8_t fpu[512] __attribute__((aligned(16)));
enum { FPU_CW = 0, FPU_TAGS = 4, FPU_MXCSR = 24, FPU_ST0 = 32, FPU_XMM7 = 160 + 7 * 16 };
#define PI_MANTISSA 0xc90fdaa22168c235ull

static void put_fpu(void)
{
	memset(fpu, 0, sizeof(fpu));
	put16((uint64_t)fpu + FPU_CW, 0x37f);
	put8((uint64_t)fpu + FPU_TAGS, 0x80);   /* the top of the stack, register 7, is in use: the status word says so */
	put16((uint64_t)fpu + 2, 7 << 11);      /* status word */
	put32((uint64_t)fpu + FPU_MXCSR, 0x1f80);
	put64((uint64_t)fpu + FPU_ST0, PI_MANTISSA);
	put16((uint64_t)fpu + FPU_ST0 + 8, 0x4000);
	put64((uint64_t)fpu + FPU_XMM7, PATTERN);
	__asm__ volatile("fxrstor %0" : : "m"(fpu));
}

static bool is_fpu(void)
{
	memset(fpu, 0, sizeof(fpu));
	__asm__ volatile("fxsave %0" : "+m"(fpu));
	return get64((uint64_t)fpu + FPU_ST0) == PI_MANTISSA && get64((uint64_t)fpu + FPU_XMM7) == PATTERN;
}

static void put_patterns(void)
{
	wrmsr(MSR_KERNEL_GS, PATTERN);
	wrmsr(MSR_PAT, PAT);
	__asm__ volatile("mov %0, %%dr1" : : "r"(PATTERN & 0xffffffff));
	put_fpu();
}

static bool are_patterns(void)
{
	uint64_t dr;

	__asm__ volatile("mov %%dr1, %0" : "=r"(dr));
	return rdmsr(MSR_KERNEL_GS) == PATTERN && rdmsr(MSR_PAT) == PAT && dr == (PATTERN & 0xffffffff) && is_fpu();
}

static void second(unsigned n)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | 0x400);
	wrmsr(X2_SVR, 0x1ff);
	wrmsr(X2_LVT_TIMER, 0x40000 | V_DEADLINE);
	wrmsr(MSR_DEADLINE, rdtsc() + DEADLINE_TICKS);
	for (;;)
		__asm__ volatile("sti; hlt");
}

static void line(uint64_t now)
{
	say("TICKS ");
	say_hex(now);
	say(" ");
	say_hex(ticks[V_PIT]);
	say(" ");
	say_hex(ticks[V_PERIODIC]);
	say(" ");
	say_hex(ticks[V_DEADLINE]);
	say("\r\n");
}

void test_ticks(void)
{
	uint64_t last = 0, told = 0;

	on_fault = on_tick;
	wrmsr(MSR_CLOCK, (uint64_t)&clock | 1);
	put_patterns();
	put32(LAPIC + 0xf0, 0x1ff);
	put32(LAPIC + 0x350, 0x700);            /* LINT0: the PIC */
	start_pit();
	put32(LAPIC + 0x3e0, 0xb);              /* divide by 1 */
	put32(LAPIC + 0x320, 0x20000 | V_PERIODIC);
	put32(LAPIC + 0x380, PERIOD);
	start_cpus(second);
	for (;;) {
		__asm__ volatile("sti; hlt; cli");
		uint64_t now = clock_ns();

		if (now < last)
			say("BAD clock\r\n");
		if (!are_patterns()) {
			say("BAD registers\r\n");
			put_patterns();
		}
		last = now;
		if (now - told > LINE_NS) {
			told = now;
			line(now);
		}
	}
}

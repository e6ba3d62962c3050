/* SPDX-License-Identifier: Apache-2.0 */
/* Triple faults, random code, page tables without sense, interrupt storms, MSRs. */
#include "hostile.h"

static uint8_t arena[1 << 20] __attribute__((aligned(4096)));
static char spare_stack[16384] __attribute__((aligned(16)));
static volatile int step;

static void triple_fault(void)
{
	static const char nothing[10];

	__asm__ volatile("lidt %0; ud2" : : "m"(nothing));
	__builtin_unreachable();
}

void test_triple(void)
{
	triple_fault();
}

/* Resets of all kinds, one after the other; the byte that counts them is in the CMOS. */
void test_reboots(void)
{
	outb(0x70, 0x60);

	uint8_t n = inb(0x71);

	if (n >= 40)
		return;
	outb(0x71, (uint8_t)(n + 1));
	switch (n % 4) {
	case 0: triple_fault(); break;
	case 1: outb(0xcf9, 6); break;
	case 2: outb(0x64, 0xfe); break;
	default:
		for (int i = 0; i < 1000; i++)  /* asked for a thousand times: once is enough */
			outb(0xcf9, 6);
		break;
	}
	for (;;)
		__asm__ volatile("pause");
}

/* ---- random bytes ---- */

static void random_again(void);

static void random_fault(unsigned vector)
{
	restart(random_again, spare_stack + sizeof(spare_stack));
}

static void random_again(void)
{
	/* Back to sane control registers; IDT and GDT may have been replaced. */
	__asm__ volatile("mov %0, %%cr3; mov %1, %%cr4; mov %2, %%cr0" : :
			 "r"(boot_pml4), "r"(0x620ull), "r"(0x80000033ull) : "memory");
	idt_load();
	for (;;) {
		uint8_t *at = arena + rnd() % (sizeof(arena) - 256);

		for (int i = 0; i < 128; i++)
			at[i] = (uint8_t)((rnd() ^ rdtsc() * 0x9e3779b97f4a7c15) >> 56);
		if (rnd() & 1)          /* more of what is two bytes long */
			at[0] = 0x0f;
		((void (*)(void))at)();
	}
}

/* A processor that went to sleep for good, or runs in circles, is woken by NMI from another
 * one; and as random code spoils more and more of this program, it begins anew now and then. */
static void random_watchdog(unsigned n)
{
	for (int i = 0; i < 200; i++) {
		pause_tsc(2000000);
		put32(LAPIC + 0x310, 0);
		put32(LAPIC + 0x300, 0x4400);
	}
	outb(0xcf9, 6);
	for (;;)
		;
}

/* Ends by the test's own time limit. */
void test_random(void)
{
	for (uint64_t n = rdtsc() & 0xff; n; n--)
		rnd();
	on_fault = random_fault;
	start_cpus(random_watchdog);
	random_again();
}

/* ---- page tables ---- */

static void paging_next(void);

static void paging_fault(unsigned vector)
{
	restart(paging_next, spare_stack + sizeof(spare_stack));
}

static void load_cr3(uint64_t v)
{
	__asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}

/* Each step breaks one thing and touches what depends on it; most end in a fault, which comes
 * back here by paging_fault(). */
static void paging_next(void)
{
	volatile uint64_t *top = (volatile uint64_t *)boot_pml4, *t = (volatile uint64_t *)arena;
	static const uint64_t entries[] = {
		0x7ff0000000000003, 0x8000000000000001, 0x000fffffffffe003, 0x0000fffffffff003, 0xe0000003, 0xfee00003,
		0xffffffffffffffff, 0x00000000fffff083, 0x1ff083, 1, 0x40000000003,
	};
	static const uint64_t cr4s[] = { 0, 0x20, 0x1020, 0x1000, 0xffffffff, 0x620, 0x3ff0620, 0x20020, 0x220, 0x30 };

	load_cr3((uint64_t)boot_pml4);
	for (unsigned i = 1; i < 512; i++)
		top[i] = 0;
	for (;;) {
		int n = step++;

		if (n < 400) {
			/* an entry of each level, in a window of its own: 512 GiB up */
			unsigned level = (unsigned)n % 4;
			uint64_t e = entries[n / 4 % ARRAY_LEN(entries)] ^ (n > 50 ? rnd() & rnd() & rnd() : 0);

			for (unsigned i = 0; i < 4 * 512; i++)
				t[i] = 0;
			for (unsigned i = 0; i < 3; i++)
				t[512 * i] = (uint64_t)(t + 512 * (i + 1)) | 7;
			t[512 * 3] = 0x1003;
			if (level < 3)
				t[512 * level] = e;
			else
				t[512 * 3] = e;
			top[1] = level ? (uint64_t)(t + 512) | 3 : e;
			load_cr3((uint64_t)boot_pml4);
			get64(0x8000000000 + (uint64_t)(n & 3) * 8);
			if (n & 4)
				put64(0x8000000ff8, 1);
			get64(0x8000000ffd);            /* across the page's end */
		} else if (n < 500) {
			uint64_t v = cr4s[n % ARRAY_LEN(cr4s)] ^ (n >= 420 ? 1ull << (n - 420) % 64 : 0);

			__asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
			__asm__ volatile("mov %0, %%cr4" : : "r"(0x620ull) : "memory");
		} else if (n < 570) {
			/* where the tables are stays; PWT, PCD, ignored and reserved bits */
			load_cr3((uint64_t)boot_pml4 | 1ull << ((n & 1) ? (n - 500) % 12 : 52 + (n - 500) % 12));
		} else if (n < 640) {
			__asm__ volatile("mov %0, %%cr0" : : "r"(0x80000033ull ^ 1ull << (n - 570)) : "memory");
			__asm__ volatile("mov %0, %%cr0" : : "r"(0x80000033ull) : "memory");
		} else if (n < 700) {
			get8(1ull << (n - 640 + 3)); /* not canonical from bit 47 on */
			get8(-(1ull << (n - 640 + 3)));
		} else {
			break;
		}
	}
	say("PAGING-DONE\r\n");
	step = 0;
	on_fault = NULL;
	load_cr3((uint64_t)boot_pml4);
	outb(0xf4, 0x10);
}

/* CR4 and CR3 as they were is what each step needs, so faults do not return. */
void test_paging(void)
{
	on_fault = paging_fault;
	paging_next();
}

/* ---- MSRs ---- */

static void msrs_next(void);
static volatile unsigned msr_at;

static void msrs_fault(unsigned vector)
{
	restart(msrs_next, spare_stack + sizeof(spare_stack));
}

static void msrs_next(void)
{
	static const struct {
		uint32_t base, len;
	} ranges[] = {
		{ 0, 0x1000 }, { 0x11, 2 }, { 0x4b564d00, 16 }, { 0x40000000, 0x200 }, { 0xc0000080, 0x80 }, { 0xc0010000, 0x200 },
	};
	static const uint64_t values[] = { 0, ~0ull, 0xfee00c00, 0x123456789abcdef0, 1 };

	for (;;) {
		unsigned n = msr_at++, v = n % 5;

		n /= 5;
		for (unsigned i = 0; i < ARRAY_LEN(ranges); i++) {
			if (n >= ranges[i].len) {
				n -= ranges[i].len;
				if (i + 1 < ARRAY_LEN(ranges))
					continue;
				say("MSRS-DONE\r\n");
				outb(0xf4, 0x10);
			}
			uint32_t msr = ranges[i].base + n, lo, hi;

			/* EFER, FS/GS are needed to go on; APIC base all ones switches modes */
			if (msr == 0xc0000080)
				break;
			__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
			wrmsr(msr, values[v]);
			break;
		}
	}
}

void test_msrs(void)
{
	on_fault = msrs_fault;
	msrs_next();
}

/* ---- interrupts ---- */

static void storm_one(unsigned n)
{
	__asm__ volatile("sti");
	put32(LAPIC + 0x3e0, 0xb);              /* divide by 1 */
	put32(LAPIC + 0x320, 0x20000 | 0x40);   /* periodic, vector 0x40 */
	put32(LAPIC + 0x380, 1);                /* as fast as it goes */
	for (int i = 0; i < 20000 * rounds; i++) {
		uint64_t v = rnd();
		uint32_t target = (uint32_t)(v >> 8 & 3), kind = v & 15;

		put32(LAPIC + 0x310, target << 24);
		if (kind == 0)
			put32(LAPIC + 0x300, 0x4400);                   /* NMI */
		else if (kind < 3)
			put32(LAPIC + 0x300, 0xc4000 | (v >> 16 & 0xff)); /* any vector, all others */
		else if (kind == 3)
			put32(LAPIC + 0x300, 0x4600 | (v >> 16 & 0xff)); /* SIPI to one that runs: ignored */
		else if (kind == 4)
			put64(LAPIC + 0x300, v);                        /* no such access */
		else
			put32(LAPIC + 0x300, 0x4000 | (32 + (v >> 16) % 224));
		if (kind == 5)
			put32(LAPIC + 0x80, (uint32_t)(v >> 32) & 0xff);
		if (kind == 6)
			put32(LAPIC + 0x80, 0);
	}
	put32(LAPIC + 0x320, 0x10000);
	put32(LAPIC + 0x80, 0);
}

static void storm_ap(unsigned n)
{
	for (;;)
		storm_one(n);
}

static void storm_count(unsigned vector)
{
	/* counted already; exceptions of vectors below 32 sent as IPI are none */
}

void test_storm(void)
{
	on_fault = storm_count;
	if (!cpus_running)
		start_cpus(storm_ap);
	storm_one(0);
	say("CPUS ");
	say_hex(cpus_running);
	say(" VECTORS ");
	say_hex(n_vectors);
	say("\r\n");
}

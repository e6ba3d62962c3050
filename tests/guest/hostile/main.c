/* SPDX-License-Identifier: Apache-2.0 */
/* Start-up, output, interrupts and the table of tests. */
#include "hostile.h"

enum { COM1 = 0x3f8, COM1_LSR = 0x3fd, EXIT_PORT = 0xf4, EXIT_GOOD = 0x10, EXIT_UNKNOWN = 0x11 };

struct gate {
	uint16_t off0, sel, type, off1;
	uint32_t off2, zero;
};
static struct gate idt[256];
int rounds = 1;
static int n_cpus = 1;
void (*volatile on_fault)(unsigned vector);
volatile uint64_t n_vectors;
volatile unsigned cpus_running;
static void (*ap_fn)(unsigned n);
extern char vector_stubs[], ap_begin[], ap_end[];
void on_vector(uint64_t vector, uint64_t *frame);
void ap_main(void);
void hostile_main(const char *cmdline);

/* What the compiler may call. */
void *memcpy(void *to, const void *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile char *)to)[i] = ((const char *)from)[i];
	return to;
}

void *memset(void *to, int c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((volatile char *)to)[i] = (char)c;
	return to;
}

uint64_t rnd(void)
{
	static uint64_t s = 0x9e3779b97f4a7c15;

	s ^= s << 13;
	s ^= s >> 7;
	s ^= s << 17;
	return s;
}

void say(const char *text)
{
	for (; *text; text++) {
		while (!(inb(COM1_LSR) & 0x20))
			;
		outb(COM1, (uint8_t)*text);
	}
}

void say_hex(uint64_t v)
{
	char buf[17] = { 0 };

	for (int i = 0; i < 16; i++)
		buf[i] = "0123456789abcdef"[v >> (60 - 4 * i) & 15];
	say(buf);
}

void pause_tsc(uint64_t ticks)
{
	uint64_t begin = rdtsc();

	while (rdtsc() - begin < ticks)
		__asm__ volatile("pause");
}

/* On the stack of whatever was interrupted. */
void on_vector(uint64_t vector, uint64_t *frame)
{
	static const uint32_t has_code = 0x60227d00; /* 8, 10 to 14, 17, 21, 29, 30 */

	n_vectors++;
	if (on_fault)
		on_fault((unsigned)vector);
	if (vector < 32 && vector != 2 && !on_fault) {
		say("\r\nFAULT vector ");
		say_hex(vector);
		say(" rip ");
		say_hex(frame[has_code >> vector & 1]);
		say("\r\n");
		outb(EXIT_PORT, EXIT_UNKNOWN);
	}
	put32(LAPIC + 0xb0, 0);
}

void idt_load(void)
{
	struct __attribute__((packed)) {
		uint16_t limit;
		uint64_t base;
	} reg = { sizeof(idt) - 1, (uint64_t)idt };

	for (unsigned i = 0; i < 256; i++) {
		uint64_t at = (uint64_t)vector_stubs + 16 * i;

		idt[i] = (struct gate){ (uint16_t)at, 8, 0x8e00, (uint16_t)(at >> 16), (uint32_t)(at >> 32), 0 };
	}
	__asm__ volatile("lidt %0" : : "m"(reg));
}

/* 512 GiB by pages of 1 GiB would need a feature; 2 MiB pages map the first 64. */
static void map_all(void)
{
	static uint64_t pdpt[512] __attribute__((aligned(4096)));
	static uint64_t pd[64][512] __attribute__((aligned(4096)));

	for (uint64_t i = 0; i < 64; i++) {
		for (uint64_t k = 0; k < 512; k++)
			pd[i][k] = i << 30 | k << 21 | 0x83;
		pdpt[i] = (uint64_t)pd[i] | 3;
	}
	((volatile uint64_t *)boot_pml4)[0] = (uint64_t)pdpt | 3;
	__asm__ volatile("mov %0, %%cr3" : : "r"(boot_pml4) : "memory");
}

void ap_main(void)
{
	/* What one sends must not meet another that has no IDT yet: so it comes before the count. */
	idt_load();
	put32(LAPIC + 0xf0, 0x1ff);
	unsigned n = __atomic_add_fetch(&cpus_running, 1, __ATOMIC_SEQ_CST);

	while ((int)cpus_running < n_cpus - 1)
		__asm__ volatile("pause");
	ap_fn(n);
}

void start_cpus(void (*fn)(unsigned n))
{
	ap_fn = fn;
	memcpy((void *)0x8000, ap_begin, (size_t)(ap_end - ap_begin));
	put32(LAPIC + 0xf0, 0x1ff);
	put32(LAPIC + 0x300, 0xc4500);  /* INIT, all but self */
	pause_tsc(20000000);
	put32(LAPIC + 0x300, 0xc4608);  /* SIPI 0x08 */
	while ((int)cpus_running < n_cpus - 1)
		__asm__ volatile("pause");
}

static bool word_begins(const char *at, const char *word)
{
	while (*word && *at == *word)
		at++, word++;
	return !*word;
}

static int number(const char *at)
{
	int n = 0;

	for (; *at >= '0' && *at <= '9'; at++)
		n = 10 * n + (*at - '0');
	return n;
}

static const struct {
	const char *name;
	void (*run)(void);
} tests[] = {
	{ "ports", test_ports }, { "mmio", test_mmio }, { "virtio", test_virtio }, { "race", test_race },
	{ "triple", test_triple }, { "reboots", test_reboots }, { "random", test_random },
	{ "console", test_console }, { "storm", test_storm }, { "paging", test_paging },
	{ "msrs", test_msrs }, { "poweroff", test_poweroff }, { "inflight", test_inflight },
	{ "ticks", test_ticks },
};

void hostile_main(const char *cmdline)
{
	const char *want = NULL;

	map_all();
	idt_load();
	for (const char *p = cmdline; *p; p++) {
		if (word_begins(p, "test="))
			want = p + 5;
		if (word_begins(p, "rounds="))
			rounds = number(p + 7);
		if (word_begins(p, "cpus="))
			n_cpus = number(p + 5);
	}
	for (size_t i = 0; want && i < ARRAY_LEN(tests); i++) {
		if (!word_begins(want, tests[i].name))
			continue;
		say("BEGIN\r\n");
		tests[i].run();
		say("HALF\r\n");
		tests[i].run();
		say("END\r\n");
		pause_tsc(300000000);
		outb(EXIT_PORT, EXIT_GOOD);
		outb(EXIT_PORT, EXIT_UNKNOWN);  /* too late: the first one counts */
		return;
	}
	outb(EXIT_PORT, EXIT_UNKNOWN);
}

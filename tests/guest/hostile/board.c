/* SPDX-License-Identifier: Apache-2.0 */
/* Every port, every register, every configuration byte. */
#include "hostile.h"

static const uint32_t patterns[] = { 0, 0xffffffff, 0xaaaaaaaa, 0x55555555, 0x01010101, 0x80808080, 0x00ff00ff };

/* Ports whose written value may end or reset the machine, by design. */
static bool port_is_fatal(unsigned port)
{
	return (port >= 0xf1 && port <= 0xf7) ||        /* the exit port */
	       (port >= 0x601 && port <= 0x607) ||      /* ACPI power control, and words that reach it */
	       (port >= 0x61 && port <= 0x64) || port == 0x60 || /* i8042: output port and command 0xfe */
	       (port >= 0xcf6 && port <= 0xcf9) ||      /* reset control */
	       (port >= 0x3f5 && port <= 0x3ff);        /* COM1: the test reads it */
}

void test_ports(void)
{
	/* The PIC, PIT and RTC get values that make them shoot; nobody listens: IF is 0. */
	for (unsigned port = 0; port < 0x10000; port++) {
		bool is_interesting = port < 0x1000;

		if (port_is_fatal(port))
			continue;
		for (unsigned i = 0; i < (is_interesting ? ARRAY_LEN(patterns) : 1); i++) {
			outb((uint16_t)port, (uint8_t)patterns[i]);
			outw((uint16_t)port, (uint16_t)patterns[i]);
			outl((uint16_t)port, patterns[i]);
			inb((uint16_t)port);
			inw((uint16_t)port);
			inl((uint16_t)port);
		}
	}
	for (int i = 0; i < 20000 * rounds; i++) {
		uint64_t v = rnd();
		uint16_t port = v & 0x3ff;

		if (!port_is_fatal(port))
			v & 1 << 16 ? outb(port, (uint8_t)(v >> 32)) : (void)inl(port);
	}
	/* configuration space through the ports, with holes and odd widths */
	for (int i = 0; i < 20000 * rounds; i++) {
		uint64_t v = rnd();

		outl(0xcf8, 0x80000000 | (v & 0xfffc) | (v >> 20 & 0x1ff) << 11);
		uint16_t data = 0xcfc + (v >> 16 & 3);

		if (v >> 40 & 1)
			outb(data, (uint8_t)(v >> 48));
		else
			inl(data);
	}
}

static void hammer(uint64_t base, uint64_t len, uint64_t step)
{
	for (uint64_t off = 0; off < len; off += step) {
		for (unsigned i = 0; i < 3; i++) {
			put8(base + off + i, (uint8_t)patterns[i]);
			put16(base + off + i, (uint16_t)patterns[i]);
			put32(base + off, patterns[i]);
			put64(base + off, patterns[i] | (uint64_t)patterns[i] << 32);
			get8(base + off + i);
			get16(base + off + i);
			get32(base + off);
			get64(base + off);
		}
	}
}

/* The LAPIC's own interrupt command register can reset this very processor. */
static void hammer_lapic(void)
{
	for (uint64_t off = 0; off < 0x1000; off += 4) {
		if (off == 0x300 || off == 0x310)
			continue;
		for (unsigned i = 0; i < ARRAY_LEN(patterns); i++) {
			put32(LAPIC + off, patterns[i]);
			get32(LAPIC + off);
			get64(LAPIC + off);
			put8(LAPIC + off + 1, (uint8_t)patterns[i]);
		}
	}
	put32(LAPIC + 0xf0, 0x1ff);
}

static void random_accesses(uint64_t base, uint64_t len, int n)
{
	for (int i = 0; i < n; i++) {
		uint64_t v = rnd(), at = base + rnd() % (len - 8);

		switch (v & 7) {
		case 0: put8(at, (uint8_t)(v >> 8)); break;
		case 1: put16(at, (uint16_t)(v >> 8)); break;
		case 2: put32(at & ~3ull, (uint32_t)(v >> 8)); break;
		case 3: put64(at & ~7ull, v >> 8); break;
		case 4: put32(at, (uint32_t)(v >> 8)); break;
		case 5: get8(at); break;
		case 6: get32(at); break;
		default: get64(at); break;
		}
	}
}

void test_mmio(void)
{
	uint64_t bar[32][6];
	uint32_t header[32][16];

	hammer_lapic();
	hammer(IOAPIC, 0x1000, 4);
	for (unsigned s = 0; s < 32; s++) {
		for (unsigned i = 0; i < 16; i++)
			header[s][i] = get32(ECAM + (s << 15) + 4 * i);
		for (unsigned b = 0; b < 6; b++)
			bar[s][b] = header[s][4 + b] & ~0xfu;
	}
	for (unsigned s = 0; s < 32; s++) {
		if (header[s][0] == 0xffffffff)
			continue;
		put16(ECAM + (s << 15) + 4, 0x406);
		for (unsigned b = 0; b < 6; b++) {
			if (!bar[s][b])
				continue;
			hammer(bar[s][b], 0x1000, 2);
			random_accesses(bar[s][b], 0x4000, 4000 * rounds);
		}
	}
	/* Configuration space last: BARs land anywhere, over RAM, each other, LAPIC, ECAM. */
	for (unsigned s = 0; s < 32; s++)
		hammer(ECAM + (s << 15), header[s][0] == 0xffffffff ? 0x100 : 0x1000, 4);
	for (int i = 0; i < 3000 * rounds; i++) {
		static const uint32_t places[] = { 0, 0x100000, 0xc0000000, 0xc0004000, 0xe0000000, 0xfec00000,
						   0xfee00000, 0xfffff000, 0xffffc000, 0xfee01000 };
		uint64_t v = rnd(), dev = ECAM + ((v & 31) << 15);

		put32(dev + 0x10 + (v >> 8 & 7) % 6 * 4, places[(v >> 16) % ARRAY_LEN(places)]);
		put16(dev + 4, (uint16_t)(v >> 40));
		get32(0xc0000000 + (v >> 20 & 0xfffc));
	}
	random_accesses(ECAM, 0x100000, 20000 * rounds);
	/* and back, so that it can be done again */
	for (unsigned s = 0; s < 32; s++) {
		if (header[s][0] == 0xffffffff)
			continue;
		put16(ECAM + (s << 15) + 4, 0);
		for (unsigned b = 0; b < 6; b++)
			put32(ECAM + (s << 15) + 0x10 + 4 * b, header[s][4 + b]);
	}
	/* the rest of the address space: nobody is there */
	for (uint64_t at = 0x20000000; at < 0x1000000000; at += 0x7ffff8) {
		if (at >= ECAM && at < 0x100000000)
			continue;
		put64(at, at);
		get32(at + 2);
	}
}

void test_console(void)
{
	for (int i = 0; i < 100000 * rounds; i++)
		outb(0x3f8, (uint8_t)('a' + i % 26));
	for (int i = 0; i < 20000 * rounds; i++)
		outb(0xe9, (uint8_t)rnd());
	say("\r\n");
}

/* S5 with the type that the DSDT names: 5 (dev/acpi.h). */
void test_poweroff(void)
{
	for (unsigned type = 0; type < 8; type++)
		outw(0x604, (uint16_t)(1 << 13 | type << 10));
	for (;;)
		__asm__ volatile("hlt");
}

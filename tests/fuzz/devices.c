/* SPDX-License-Identifier: Apache-2.0 */
/* The platform devices, wired as on the board: local APICs of three processors, I/O APIC, PICs, PIT,
 * RTC, UART, i8042, ACPI, debug and test ports, kvmclock. Input: steps, see step(). */
#include "dev/acpi.h"
#include "dev/hotplug.h"
#include "dev/board.h"
#include "dev/debugport.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/isa_irq.h"
#include "dev/kvmclock.h"
#include "dev/lapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "fake_loop.h"
#include "fuzz.h"
#include "mem/gmem.h"
#include "util/checked.h"

enum { CPUS = 3, STEPS = 1000 };

struct board {
	struct fuzz f;
	struct fuzz_source source;
	struct loop *loop;
	struct bus *bus;
	struct lapics *lapics;
	struct kvmclock *kvmclock;
	struct pic pic;
	struct ioapic ioapic;
	struct isa_irq isa;
	struct pit pit;
	struct rtc rtc;
	struct uart uart;
	struct i8042 i8042;
	struct acpi acpi;
	struct hotplug hotplug;
	struct debugport debugport;
	struct testdev testdev;
	unsigned n_out;
};

static struct gmem *mem;        /* only kvmclock writes to it */

/* ---- wiring ---- */

static void cpu_event(void *arg, unsigned cpu) { FUZZ_CHECK(cpu < CPUS); }
static void cpu_sipi(void *arg, unsigned cpu, uint8_t vector) { FUZZ_CHECK(cpu < CPUS); }
static void cpu_eoi(void *arg, uint8_t vector) { ioapic_eoi(&((struct board *)arg)->ioapic, vector); }
static int cpu_pic_ack(void *arg) { return pic_ack(&((struct board *)arg)->pic); }
static void pic_output(void *arg, int n, int level) { lapics_set_lint0(((struct board *)arg)->lapics, level); }
static void request(void *arg) {}
static void ejected(void *arg, unsigned slot) { hotplug_pci_gone(&((struct board *)arg)->hotplug, slot); }
static void exit_request(void *arg, int status) { FUZZ_CHECK(status & 1); }

static void bytes_out(void *arg, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		((struct board *)arg)->n_out += buf[i];
}

static const struct lapic_cpu_ops cpu_ops = {
	.interrupt = cpu_event, .nmi = cpu_event, .init = cpu_event, .sipi = cpu_sipi,
	.eoi = cpu_eoi, .pic_ack = cpu_pic_ack,
};

/* Where the ports are; also what steps choose from. */
static const struct {
	size_t region;          /* offset of the struct bus_region in struct board */
	uint16_t base, len;
} ports[] = {
	{ offsetof(struct board, pic.region[0]), BOARD_PIC0_PORT, BOARD_PIC_LEN },
	{ offsetof(struct board, pic.region[1]), BOARD_PIC1_PORT, BOARD_PIC_LEN },
	{ offsetof(struct board, pic.elcr_region), BOARD_ELCR_PORT, BOARD_ELCR_LEN },
	{ offsetof(struct board, pit.region), BOARD_PIT_PORT, BOARD_PIT_LEN },
	{ offsetof(struct board, pit.port61), BOARD_PORT61_PORT, BOARD_PORT61_LEN },
	{ offsetof(struct board, i8042.data), BOARD_I8042_DATA_PORT, BOARD_I8042_LEN },
	{ offsetof(struct board, i8042.command), BOARD_I8042_CMD_PORT, BOARD_I8042_LEN },
	{ offsetof(struct board, rtc.region), BOARD_RTC_PORT, BOARD_RTC_LEN },
	{ offsetof(struct board, debugport.post), BOARD_POST_PORT, BOARD_POST_LEN },
	{ offsetof(struct board, debugport.debug), BOARD_DEBUG_PORT, BOARD_DEBUG_LEN },
	{ offsetof(struct board, uart.region), BOARD_COM1_PORT, BOARD_UART_LEN },
	{ offsetof(struct board, acpi.pm), BOARD_PM_PORT, BOARD_PM_LEN },
	{ offsetof(struct board, acpi.gpe), BOARD_GPE_PORT, BOARD_GPE_LEN },
	{ offsetof(struct board, acpi.reset), BOARD_RESET_PORT, 1 },
	{ offsetof(struct board, hotplug.region), BOARD_HOTPLUG_PORT, BOARD_HOTPLUG_LEN },
	{ offsetof(struct board, testdev.region), BOARD_TESTDEV_PORT, BOARD_TESTDEV_LEN },
	{ offsetof(struct board, testdev.latch), BOARD_TESTDEV_LATCH_PORT, TESTDEV_LATCH_LEN },
	{ offsetof(struct board, testdev.lines), BOARD_TESTDEV_LINES_PORT, TESTDEV_LINES },
};

static void map(struct board *b, enum bus_space space, struct bus_region *r, uint64_t base, uint64_t len)
{
	bus_lock(b->bus);
	FUZZ_CHECK(bus_add(b->bus, space, r, base, len, NULL) == 0);
	bus_unlock(b->bus);
}

static void board_init(struct board *b)
{
	struct source *src = &b->source.s;

	fuzz_source_init(&b->source);
	fake_loop_reset();
	FUZZ_CHECK(loop_new(&b->loop, NULL) == 0 && bus_new(&b->bus, NULL) == 0);
	struct lapics_config lc = {
		.n_cpus = CPUS, .ops = &cpu_ops, .ops_arg = b, .loop = b->loop, .source = src,
	};
	FUZZ_CHECK(lapics_new(&b->lapics, &lc, NULL) == 0);
	FUZZ_CHECK(kvmclock_new(&b->kvmclock, CPUS, mem, src, NULL, NULL, NULL) == 0);
	pic_init(&b->pic, b->bus, (struct irq_line){ pic_output, b, 0 });
	ioapic_init(&b->ioapic, b->bus, lapics_msi_sink(b->lapics), NULL, NULL);
	b->isa = (struct isa_irq){ &b->pic, &b->ioapic };
	pit_init(&b->pit, b->bus, b->loop, src, isa_irq_line(&b->isa, 0));
	rtc_init(&b->rtc, b->bus, b->loop, src, isa_irq_line(&b->isa, BOARD_GSI_RTC), 1 << 30, 0);
	i8042_init(&b->i8042, request, b);
	acpi_init(&b->acpi, b->bus, b->loop, src, &(struct acpi_config){
		.sci = isa_irq_line(&b->isa, BOARD_GSI_SCI), .reset_request = request,
		.poweroff_request = request, .arg = b });
	hotplug_init(&b->hotplug, &b->acpi, &(struct hotplug_config){
		.n_cpus = CPUS, .cpus_present = 1, .eject = ejected, .cpus_changed = request, .arg = b });
	hotplug_cpu_up(&b->hotplug, CPUS - 1);
	hotplug_pci_up(&b->hotplug, 5);
	hotplug_pci_down(&b->hotplug, 31);
	uart_init(&b->uart, b->bus, b->loop, src, &(struct uart_config){
		.name = "com1", .irq = isa_irq_line(&b->isa, BOARD_GSI_COM1), .write = bytes_out, .arg = b });
	debugport_init(&b->debugport, bytes_out, b);
	struct irq_line lines[TESTDEV_LINES];

	for (int i = 0; i < TESTDEV_LINES; i++)
		lines[i] = isa_irq_line(&b->isa, i);
	testdev_init(&b->testdev, lines, exit_request, b);
	for (size_t i = 0; i < ARRAY_LEN(ports); i++)
		map(b, BUS_PORT, (struct bus_region *)((char *)b + ports[i].region), ports[i].base, ports[i].len);
	map(b, BUS_MMIO, &b->testdev.mmio, BOARD_TESTDEV_BASE, TESTDEV_MMIO_LEN);
	map(b, BUS_MMIO, &b->ioapic.region, BOARD_IOAPIC_BASE, BOARD_IOAPIC_LEN);
	map(b, BUS_MMIO, lapics_region(b->lapics), BOARD_LAPIC_BASE, BOARD_LAPIC_LEN);
}

static void board_fini(struct board *b)
{
	loop_run_once(b->loop, 0);
	uart_fini(&b->uart);
	acpi_fini(&b->acpi);
	rtc_fini(&b->rtc);
	pit_fini(&b->pit);
	kvmclock_free(b->kvmclock);
	lapics_free(b->lapics);
	bus_free(b->bus);
	loop_free(b->loop);
}

/* ---- steps ---- */

static void advance(struct board *b, uint64_t ns)
{
	b->source.now_ns += ns;
	fake_loop_advance(ns);
	loop_run_once(b->loop, 0);
}

static void port_access(struct board *b, uint8_t op)
{
	unsigned which = fuzz_u8(&b->f), size = 1u << (op >> 6) % 3;
	uint16_t port = (uint16_t)(ports[which % ARRAY_LEN(ports)].base +
				   (which / ARRAY_LEN(ports)) % ports[which % ARRAY_LEN(ports)].len);

	if (op & 0x20)
		bus_read(b->bus, BUS_PORT, (op >> 4) % CPUS, port, size);
	else
		bus_write(b->bus, BUS_PORT, (op >> 4) % CPUS, port, size, fuzz_num(&b->f, size));
}

static void mmio_access(struct board *b, uint8_t op, uint64_t base)
{
	unsigned where = fuzz_u16(&b->f), size = op & 0x80 ? fuzz_size(&b->f) : 4;
	uint64_t at = base + (op & 0x80 ? where & 0xfff : where & 0xff0);

	if (op & 0x20)
		bus_read(b->bus, BUS_MMIO, where >> 12 & 1, at, size);
	else
		bus_write(b->bus, BUS_MMIO, where >> 12 & 1, at, size, fuzz_num(&b->f, size));
}

static void msr_access(struct board *b, uint8_t op)
{
	static const uint32_t base[] = { 0x1b, 0x6e0, 0x800, 0x808, 0x830, 0x4b564d00, 0x11 };
	unsigned cpu = (op >> 4) % CPUS, what = fuzz_u8(&b->f);
	uint32_t msr = base[what % ARRAY_LEN(base)] + (what / ARRAY_LEN(base)) % 16;
	uint64_t v = fuzz_u64(&b->f), back;

	if (lapics_has_msr(msr)) {
		lapics_msr_write(b->lapics, cpu, msr, v);
		lapics_msr_read(b->lapics, cpu, msr, &back);
	}
	if (kvmclock_has_msr(msr)) {
		kvmclock_msr_write(b->kvmclock, cpu, msr, v);
		kvmclock_msr_read(b->kvmclock, cpu, msr, &back);
	}
}

/* The states of all devices, written and read back, are the same devices. */
static void save_restore(struct board *b)
{
	const struct { const struct state_desc *d; void *s; } all[] = {
		{ &pic_state_desc, &b->pic.s }, { &ioapic_state_desc, &b->ioapic.s }, { &pit_state_desc, &b->pit.s },
		{ &rtc_state_desc, &b->rtc.s }, { &uart_state_desc, &b->uart.s }, { &i8042_state_desc, &b->i8042.s },
		{ &acpi_state_desc, &b->acpi.s }, { &hotplug_state_desc, &b->hotplug.s },
	};
	uint8_t buf[4096];
	struct lapic_state ls;

	bus_lock(b->bus);
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		long n = fields_save(all[i].d, all[i].s, buf, sizeof(buf));

		FUZZ_CHECK(n > 0 && fields_load(all[i].d, all[i].s, buf, (size_t)n, NULL) == n);
	}
	pic_restored(&b->pic);
	ioapic_restored(&b->ioapic);
	pit_restored(&b->pit);
	rtc_restored(&b->rtc);
	uart_restored(&b->uart);
	acpi_restored(&b->acpi);
	bus_unlock(b->bus);
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		lapics_state_get(b->lapics, cpu, &ls);
		long n = fields_save(&lapic_state_desc, &ls, buf, sizeof(buf));

		FUZZ_CHECK(n > 0 && fields_load(&lapic_state_desc, &ls, buf, (size_t)n, NULL) == n);
		lapics_state_set(b->lapics, cpu, &ls);
	}
}

static void reset_one(struct board *b, unsigned which)
{
	bus_lock(b->bus);
	switch (which & 7) {
	case 0: pic_reset(&b->pic); break;
	case 1: ioapic_reset(&b->ioapic); break;
	case 2: pit_reset(&b->pit); break;
	case 3: rtc_reset(&b->rtc); break;
	case 4: uart_reset(&b->uart); break;
	case 5: i8042_reset(&b->i8042); break;
	case 6: acpi_reset(&b->acpi); break;
	default: debugport_reset(&b->debugport); break;
	}
	bus_unlock(b->bus);
	if (which & 8) {
		lapics_reset(b->lapics);
		kvmclock_reset(b->kvmclock);
	}
}

static void inputs(struct board *b, uint8_t op)
{
	uint8_t buf[32];

	bus_lock(b->bus);
	switch (op >> 4 & 3) {
	case 0:
		fuzz_fill(&b->f, buf, sizeof(buf) / 2);
		uart_receive(&b->uart, buf, op & 0x80 ? sizeof(buf) / 2 : uart_can_receive(&b->uart) % sizeof(buf));
		break;
	case 1: uart_receive_break(&b->uart); break;
	case 2:
		if (op & 0x40)
			acpi_raise_gpe(&b->acpi, (enum acpi_gpe)(op & 15));
		else
			acpi_press_power_button(&b->acpi);
		break;
	default: {
		struct irq_line l = isa_irq_line(&b->isa, fuzz_u8(&b->f) % BOARD_N_GSI);

		irq_set(&l, op >> 7);
		break;
	}
	}
	bus_unlock(b->bus);
}

static void step(struct board *b)
{
	uint8_t op = fuzz_u8(&b->f);
	unsigned cpu = (op >> 4) % CPUS;
	struct msi_sink msi = lapics_msi_sink(b->lapics);
	int v;

	switch (op & 15) {
	case 0: case 1: case 2: case 3: port_access(b, op); break;
	case 4: case 5: mmio_access(b, op, BOARD_LAPIC_BASE); break;
	case 6: mmio_access(b, op & 0x7f, BOARD_IOAPIC_BASE); break;
	case 7: msr_access(b, op); break;
	case 8: msi_send(&msi, 0xfee00000u | (fuzz_u32(&b->f) & 0xfffff), fuzz_u32(&b->f)); break;
	case 9: case 10:
		v = lapics_intr_ack(b->lapics, cpu);
		FUZZ_CHECK(v >= -1 && v < 256);
		lapics_intr_pending(b->lapics, cpu);
		break;
	case 11:
		lapics_cr8_write(b->lapics, cpu, fuzz_u8(&b->f) & 15);
		FUZZ_CHECK(lapics_cr8_read(b->lapics, cpu) < 16);
		break;
	case 12: advance(b, fuzz_u32(&b->f) >> (op & 0x10 ? 16 : 0)); break;
	case 13: inputs(b, op); break;
	case 14:
		if (op & 0x80)
			kvmclock_resync(b->kvmclock, op & 0x40);
		else
			advance(b, (uint64_t)fuzz_u32(&b->f) << (op >> 4 & 7) * 3);
		break;
	case 15:
		if (op & 0x80)
			reset_one(b, op >> 3);
		else
			save_restore(b);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct board b;

	if (!mem)
		FUZZ_CHECK(gmem_new(&mem, 1 << 20, NULL) == 0);
	FUZZ_CHECK(gmem_fill(mem, 0, 0, 1 << 20) == 0);
	memset(&b, 0, sizeof(b));
	b.f = (struct fuzz){ data, len };
	board_init(&b);
	for (unsigned i = 0; i < STEPS && b.f.left; i++)
		step(&b);
	board_fini(&b);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* UART, keyboard controller, ACPI registers, debug ports. */
#include "dev/acpi.h"
#include "dev/hotplug.h"
#include "dev/debugport.h"
#include "dev/i8042.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/vmgenid.h"
#include "fake.h"
#include "test.h"

static struct uart uart;
static struct i8042 kbd;
static struct acpi acpi;
static struct fake_line line;
static uint8_t out[65536];
static size_t out_len;
static unsigned spaces, resets, poweroffs;
static int status = -1;

static void on_write(void *arg, const uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[out_len++ % sizeof(out)] = buf[i];
}
static void on_space(void *arg) { spaces++; }
static void on_reset(void *arg) { resets++; }
static void on_poweroff(void *arg) { poweroffs++; }
static void on_exit_request(void *arg, int s) { status = s; }

static void uart_setup(void)
{
	static const struct uart_config cfg = { .name = "com1", .write = on_write, .rx_space = on_space };
	struct uart_config c = cfg;

	fake_init();
	c.irq = fake_line(&line);
	uart_init(&uart, fake.bus, fake.loop, &fake.source, &c);
}

static void put(uint64_t off, uint8_t v) { fake_out(&uart.region, off, v); }
static uint8_t get(uint64_t off) { return fake_in(&uart.region, off); }

TEST(uart_sends_at_once_and_says_it_is_empty)
{
	uart_setup();
	CHECK_EQ(get(5), 0x60);
	put(0, 'A');
	CHECK_EQ(out_len, 1);
	CHECK_EQ(out[0], 'A');
	CHECK_EQ(get(5), 0x60);
	put(1, 2);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(get(2), 0x02);
	CHECK_EQ(line.level, 0);                /* reading IIR took it back */
	CHECK_EQ(get(2), 0x01);
	put(0, 'B');
	CHECK_EQ(line.level, 1);
}

TEST(uart_fifo_interrupts_at_trigger_or_after_silence)
{
	uart_setup();
	put(2, 0xc7);                           /* FIFO, trigger 14 */
	put(1, 1);
	uart_receive(&uart, (const uint8_t *)"hello", 5);
	CHECK_EQ(line.level, 0);
	fake_advance(400000);                   /* more than 4 characters at 115200 */
	CHECK_EQ(line.level, 1);
	CHECK_EQ(get(2), 0xcc);
	CHECK_EQ(get(0), 'h');
	CHECK_EQ(line.level, 0);
	uart_receive(&uart, (const uint8_t *)"0123456789", 10);
	CHECK_EQ(get(2), 0xc4);
	for (int i = 0; i < 14; i++)
		get(0);
	CHECK_EQ(get(5), 0x60);
	CHECK_EQ(line.level, 0);
}

TEST(uart_says_how_much_fits_and_reports_overrun)
{
	uint8_t buf[20] = "abcdefghijklmnopqrs";

	uart_setup();
	CHECK_EQ(uart_can_receive(&uart), 1);
	put(2, 1);
	CHECK_EQ(uart_can_receive(&uart), 16);
	put(1, 5);
	uart_receive(&uart, buf, 17);
	CHECK_EQ(uart_can_receive(&uart), 0);
	CHECK_EQ(get(2), 0xc6);                 /* line status goes first */
	CHECK_EQ(get(5), 0x63);
	CHECK_EQ(get(5), 0x61);
	CHECK_EQ(spaces, 0);
	CHECK_EQ(get(0), 'a');
	CHECK_EQ(spaces, 1);
	put(2, 3);                              /* clear receiver */
	CHECK_EQ(get(5), 0x60);
	CHECK_EQ(uart_can_receive(&uart), 16);
}

TEST(uart_loopback_connects_data_and_modem_lines)
{
	uart_setup();
	CHECK_EQ(get(6), 0xb0);
	put(4, 0x1a);
	CHECK_EQ(get(6) & 0xf0, 0x90);          /* RTS and OUT2: what Linux looks for */
	put(0, 0x55);
	CHECK_EQ(out_len, 0);
	CHECK_EQ(get(0), 0x55);
	CHECK_EQ(uart_can_receive(&uart), 0);
	put(4, 0x1e);
	put(4, 0x1a);
	CHECK_EQ(get(6) & 0x04, 0x04);          /* RI went away */
	put(7, 0xa5);
	CHECK_EQ(get(7), 0xa5);
	put(3, 0x83);
	put(0, 0x0c);
	CHECK_EQ(get(0), 0x0c);
	CHECK_EQ(out_len, 0);
}

TEST(keyboard_controller_tests_itself_and_has_nothing_plugged_in)
{
	i8042_init(&kbd, on_reset, NULL);
	fake_out(&kbd.command, 0, 0xaa);
	CHECK_EQ(fake_in(&kbd.command, 0) & 1, 1);
	CHECK_EQ(fake_in(&kbd.data, 0), 0x55);
	CHECK_EQ(fake_in(&kbd.command, 0) & 1, 0);
	fake_out(&kbd.command, 0, 0x60);
	fake_out(&kbd.data, 0, 0x47);
	fake_out(&kbd.command, 0, 0x20);
	CHECK_EQ(fake_in(&kbd.data, 0), 0x47);
	fake_out(&kbd.command, 0, 0xd3);
	fake_out(&kbd.data, 0, 0x5a);
	CHECK_EQ(fake_in(&kbd.command, 0) & 0x21, 0x01);        /* not from a second port */
	fake_out(&kbd.command, 0, 0xa9);
	CHECK(fake_in(&kbd.data, 0) != 0);
	CHECK_EQ(resets, 0);
	fake_out(&kbd.command, 0, 0xfe);
	CHECK_EQ(resets, 1);
	fake_out(&kbd.command, 0, 0xd1);
	fake_out(&kbd.data, 0, 0x02);
	CHECK_EQ(resets, 2);
}

static void acpi_setup(void)
{
	fake_init();
	struct acpi_config cfg = { .sci = fake_line(&line), .reset_request = on_reset,
				   .poweroff_request = on_poweroff };

	acpi_init(&acpi, fake.bus, fake.loop, &fake.source, &cfg);
}

static uint32_t pm_in(uint64_t off, unsigned size) { return (uint32_t)acpi.pm.read(&acpi, 0, off, size); }
static void pm_out(uint64_t off, unsigned size, uint32_t v) { acpi.pm.write(&acpi, 0, off, size, v); }

TEST(power_button_raises_sci_until_status_is_cleared)
{
	acpi_setup();
	CHECK_EQ(pm_in(4, 2) & 1, 1);           /* ACPI mode */
	acpi_press_power_button(&acpi);
	CHECK_EQ(line.level, 0);
	pm_out(2, 2, 0x100);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(pm_in(0, 2) & 0x100, 0x100);
	pm_out(0, 2, 0x1);
	CHECK_EQ(line.level, 1);
	pm_out(1, 1, 0x1);                      /* bytes work too */
	CHECK_EQ(line.level, 0);
	CHECK_EQ(pm_in(0, 4), 0x01000000);
}

TEST(a_general_purpose_event_interrupts_while_it_is_enabled_and_set)
{
	acpi_setup();
	acpi.gpe.write(&acpi, 0, 2, 1, 1 << ACPI_GPE_VMGENID);
	CHECK_EQ(line.level, 0);
	acpi_raise_gpe(&acpi, ACPI_GPE_VMGENID);
	CHECK_EQ(line.level, 1);
	CHECK_EQ(acpi.gpe.read(&acpi, 0, 0, 4), 0x00010001);
	acpi.gpe.write(&acpi, 0, 2, 2, 0);
	CHECK_EQ(line.level, 0);
	acpi.gpe.write(&acpi, 0, 0, 4, 0x80020000);
	CHECK_EQ(acpi.gpe.read(&acpi, 0, 0, 4), 0x00020001);   /* event 15 is nobody's */
	acpi.gpe.write(&acpi, 0, 0, 1, 1);
	CHECK_EQ(acpi.gpe.read(&acpi, 0, 0, 2) & 0xffff, 0);
	acpi_raise_gpe(&acpi, ACPI_GPE_PCI);
	CHECK_EQ(line.level, 1);
	acpi_reset(&acpi);
	CHECK_EQ(line.level, 0);
	acpi_fini(&acpi);
}

static void source_of_ones(struct source *s, void *to, size_t len)
{
	memset(to, 1, len);
}

TEST(a_generation_changes_in_memory_and_the_guest_is_told)
{
	struct vmgenid v;
	uint8_t first[VMGENID_LEN], now[VMGENID_LEN];
	struct gmem *mem;

	acpi_setup();
	CHECK_EQ(gmem_new(&mem, 1 << 20, NULL), 0);
	fake.source.random = source_of_ones;
	vmgenid_init(&v, mem, &fake.source, &acpi, 0x1000);
	CHECK_EQ(vmgenid_place(&v), 0);
	memcpy(first, v.s.id, sizeof(first));
	CHECK_EQ(gmem_read(mem, 0x1000, now, sizeof(now)), 0);
	CHECK_MEM(now, first, sizeof(now));
	CHECK_EQ(acpi.s.gpe_sts, 0);
	v.s.id[0] ^= 1;         /* whatever the source makes, it is written */
	vmgenid_renew(&v);
	CHECK_EQ(gmem_read(mem, 0x1000, now, sizeof(now)), 0);
	CHECK_MEM(now, v.s.id, sizeof(now));
	CHECK_EQ(acpi.s.gpe_sts, 1 << ACPI_GPE_VMGENID);
	acpi.s.gpe_sts = 0;
	v.s.gpa = 1ull << 40;   /* as a hostile saved state may say */
	vmgenid_renew(&v);
	CHECK_EQ(acpi.s.gpe_sts, 0);
	gmem_free(mem);
	acpi_fini(&acpi);
}

TEST(pm_timer_counts_and_its_carry_interrupts)
{
	acpi_setup();
	fake_advance(1000000000);
	CHECK_EQ(pm_in(8, 4), 3579545);
	pm_out(2, 2, 1);
	fake_advance(600000000000);             /* 2^31 ticks are 600 s */
	CHECK_EQ(line.level, 1);
	pm_out(0, 2, 1);
	CHECK_EQ(line.level, 0);
}

/* ---- hot-plug ---- */

static struct hotplug hotplug;
static unsigned ejected[40], n_ejected;

static void on_eject(void *arg, unsigned slot)
{
	ejected[n_ejected++] = slot;
}

static unsigned n_changed;

static void on_cpus(void *arg)
{
	n_changed++;
}

static uint32_t gpe_in(uint64_t off, unsigned size) { return (uint32_t)acpi.gpe.read(&acpi, 0, off, size); }
static void gpe_out(uint64_t off, unsigned size, uint32_t v) { acpi.gpe.write(&acpi, 0, off, size, v); }
static uint32_t plug_in(uint64_t off) { return (uint32_t)hotplug.region.read(&hotplug, 0, off, 4); }
static void plug_out(uint64_t off, uint32_t v) { hotplug.region.write(&hotplug, 0, off, 4, v); }

static void hotplug_setup(void)
{
	acpi_setup();
	n_ejected = 0;
	n_changed = 0;
	hotplug_init(&hotplug, &acpi, &(struct hotplug_config){
		.n_cpus = 4, .cpus_present = 3, .eject = on_eject, .cpus_changed = on_cpus });
}

TEST(a_device_that_comes_interrupts_a_guest_that_has_enabled_the_event)
{
	hotplug_setup();
	CHECK(!acpi_hears_gpe(&acpi, ACPI_GPE_PCI));
	hotplug_pci_up(&hotplug, 7);
	CHECK_EQ(line.level, 0);
	CHECK_EQ(gpe_in(0, 1), 1 << ACPI_GPE_PCI);
	gpe_out(2, 1, 0xff);
	CHECK_EQ(gpe_in(2, 1), 1 << ACPI_GPE_VMGENID | 1 << ACPI_GPE_PCI | 1 << ACPI_GPE_CPU);
	CHECK(acpi_hears_gpe(&acpi, ACPI_GPE_PCI));
	CHECK_EQ(line.level, 1);
	gpe_out(2, 1, 0);                       /* while it deals with it */
	CHECK_EQ(line.level, 0);
	CHECK(acpi_hears_gpe(&acpi, ACPI_GPE_PCI));
	gpe_out(0, 1, 1 << ACPI_GPE_PCI);
	gpe_out(2, 2, 1 << ACPI_GPE_PCI);
	CHECK_EQ(line.level, 0);
	CHECK_EQ(plug_in(HOTPLUG_PCI_UP), 1 << 7);
	plug_out(HOTPLUG_PCI_UP, 1 << 6);
	CHECK_EQ(plug_in(HOTPLUG_PCI_UP), 1 << 7);
	plug_out(HOTPLUG_PCI_UP, 1 << 7);
	CHECK_EQ(plug_in(HOTPLUG_PCI_UP), 0);
}

TEST(a_device_that_is_to_go_is_asked_for_until_it_has_gone)
{
	hotplug_setup();
	hotplug_pci_down(&hotplug, 31);
	CHECK_EQ(plug_in(HOTPLUG_PCI_DOWN), 1u << 31);
	plug_out(HOTPLUG_PCI_DOWN, 1u << 31);
	CHECK_EQ(plug_in(HOTPLUG_PCI_DOWN), 0);
	CHECK_EQ(hotplug.s.pci_asked, 1u << 31);
	plug_out(HOTPLUG_PCI_EJECT, 1u << 31 | 1u << 3);
	CHECK_EQ(n_ejected, 2);
	CHECK_EQ(ejected[0], 3);
	CHECK_EQ(ejected[1], 31);
	CHECK_EQ(plug_in(HOTPLUG_PCI_EJECT), 0);
	hotplug_pci_gone(&hotplug, 31);
	CHECK_EQ(hotplug.s.pci_asked, 0);
	hotplug.region.write(&hotplug, 0, HOTPLUG_PCI_EJECT, 1, 0xff);  /* no byte registers */
	CHECK_EQ(n_ejected, 2);
}

static uint32_t cpu_flags(unsigned n)
{
	plug_out(HOTPLUG_CPU_SELECT, n);
	return plug_in(HOTPLUG_CPU_FLAGS);
}

TEST(processors_come_and_are_ejected_but_for_the_first)
{
	hotplug_setup();
	CHECK_EQ(cpu_flags(1), HOTPLUG_CPU_PRESENT);
	CHECK_EQ(cpu_flags(2), 0);
	CHECK_EQ(cpu_flags(64), 0);
	hotplug_cpu_up(&hotplug, 2);
	CHECK_EQ(gpe_in(0, 1), 1 << ACPI_GPE_CPU);
	CHECK_EQ(cpu_flags(2), HOTPLUG_CPU_PRESENT | HOTPLUG_CPU_UP);
	plug_out(HOTPLUG_CPU_FLAGS, HOTPLUG_CPU_UP);
	CHECK_EQ(cpu_flags(2), HOTPLUG_CPU_PRESENT);
	hotplug_cpu_down(&hotplug, 2);
	hotplug_cpu_down(&hotplug, 1);
	CHECK_EQ(cpu_flags(2), HOTPLUG_CPU_PRESENT | HOTPLUG_CPU_DOWN);
	plug_out(HOTPLUG_CPU_FLAGS, HOTPLUG_CPU_DOWN | HOTPLUG_CPU_EJECT);
	CHECK_EQ(cpu_flags(2), 0);
	CHECK_EQ(n_changed, 1);
	cpu_flags(0);
	plug_out(HOTPLUG_CPU_FLAGS, HOTPLUG_CPU_EJECT);
	cpu_flags(3);
	plug_out(HOTPLUG_CPU_FLAGS, HOTPLUG_CPU_EJECT);
	cpu_flags(0xffffffff);
	plug_out(HOTPLUG_CPU_FLAGS, 0xffffffff);
	CHECK_EQ(n_changed, 1);
	CHECK_EQ(cpu_flags(0), HOTPLUG_CPU_PRESENT);
	hotplug_reset(&hotplug);                /* what was asked to go has gone */
	CHECK_EQ(cpu_flags(1), 0);
	hotplug.s.cpu_present = 0xf0;           /* a hostile file */
	hotplug_restored(&hotplug);
	CHECK_EQ(hotplug.s.cpu_present, 1);
}

TEST(sleep_types_5_and_0_power_off_and_port_cf9_resets)
{
	acpi_setup();
	pm_out(4, 2, 3 << 10 | 1 << 13);
	CHECK_EQ(poweroffs, 0);
	pm_out(4, 2, 5 << 10);
	CHECK_EQ(poweroffs, 0);
	pm_out(5, 1, (5 << 10 | 1 << 13) >> 8);
	CHECK_EQ(poweroffs, 1);
	pm_out(4, 2, 1 << 13);
	CHECK_EQ(poweroffs, 2);
	fake_out(&acpi.reset, 0, 0x02);
	CHECK_EQ(resets, 0);
	fake_out(&acpi.reset, 0, 0x06);
	CHECK_EQ(resets, 1);
}

TEST(debug_ports_and_exit_port_answer)
{
	struct debugport d;
	static struct testdev t;
	static const struct irq_line no_lines[TESTDEV_LINES];

	debugport_init(&d, on_write, NULL);
	CHECK_EQ(fake_in(&d.debug, 0), 0xe9);
	fake_out(&d.debug, 0, 'x');
	CHECK_EQ(out[0], 'x');
	fake_out(&d.post, 0, 0x12);
	testdev_init(&t, no_lines, on_exit_request, NULL);
	fake_out(&t.region, 0, 3);
	CHECK_EQ(status, 7);
}

TEST(test_device_remembers_writes_and_drives_lines)
{
	struct irq_line lines[TESTDEV_LINES] = { 0 };
	static struct testdev t;

	lines[5] = fake_line(&line);
	testdev_init(&t, lines, on_exit_request, NULL);
	t.latch.write(&t, 0, 0, 4, 0x11223344);
	t.latch.write(&t, 0, 1, 1, 0xaa);
	CHECK_EQ(t.latch.read(&t, 0, 0, 4), 0x1122aa44u);
	CHECK_EQ(t.latch.read(&t, 0, 2, 2), 0x1122u);
	t.mmio.write(&t, 0, TESTDEV_MMIO_LEN - 8, 8, 0x8877665544332211);
	CHECK_EQ(t.mmio.read(&t, 0, TESTDEV_MMIO_LEN - 1, 1), 0x88u);
	CHECK_EQ(t.mmio.read(&t, 0, TESTDEV_MMIO_LEN - 8, 8), 0x8877665544332211u);
	CHECK_EQ(t.mmio.read(&t, 0, 0, 8), 0u);
	fake_out(&t.lines, 5, 1);
	CHECK_EQ(line.level, 1);
	fake_out(&t.lines, 5, 0);
	CHECK_EQ(line.level, 0);
	fake_out(&t.lines, TESTDEV_LINES - 1, 1);       /* not connected */
}

TEST(every_register_survives_every_value)
{
	uart_setup();
	for (unsigned i = 0; i < 500; i++) {
		uint8_t buf[40] = { 0 };

		fake_hammer(&uart.region, 8, 100);
		uart_receive(&uart, buf, fake_random() % sizeof(buf));
		uart_receive_break(&uart);
		CHECK(uart_can_receive(&uart) <= 16);
	}
	acpi_setup();
	fake_hammer(&acpi.pm, 16, 20000);
	fake_hammer(&acpi.gpe, 4, 5000);
	fake_hammer(&acpi.reset, 1, 100);
	fake_hammer(&acpi.gpe, 4, 2000);
	i8042_init(&kbd, on_reset, NULL);
	for (unsigned i = 0; i < 20000; i++) {
		fake_out(fake_random() & 1 ? &kbd.data : &kbd.command, 0, (uint8_t)fake_random());
		fake_in(fake_random() & 1 ? &kbd.data : &kbd.command, 0);
	}
}

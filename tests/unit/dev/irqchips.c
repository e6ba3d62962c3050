/* SPDX-License-Identifier: Apache-2.0 */
/* I/O APIC, PIC, and the wires between. */
#include "dev/ioapic.h"
#include "dev/isa_irq.h"
#include "dev/pic.h"
#include "fake.h"
#include "test.h"

static struct ioapic io;
static struct pic pic;
static struct fake_line intr;
static struct isa_irq wires = { &pic, &io };
static unsigned sent, changes;
static uint64_t sent_addr, bitmap[4];
static uint32_t sent_data;

static void on_msi(void *arg, uint64_t addr, uint32_t data)
{
	sent++;
	sent_addr = addr;
	sent_data = data;
}

static void on_vectors(void *arg, const uint64_t b[4])
{
	changes++;
	memcpy(bitmap, b, sizeof(bitmap));
}

static void setup(void)
{
	fake_init();
	pic_init(&pic, fake.bus, fake_line(&intr));
	ioapic_init(&io, fake.bus, (struct msi_sink){ .send = on_msi }, on_vectors, NULL);
}

static void redir(unsigned pin, uint64_t e)
{
	io.region.write(&io, 0, 0, 4, 0x10 + 2 * pin + 1);
	io.region.write(&io, 0, 0x10, 4, e >> 32);
	io.region.write(&io, 0, 0, 4, 0x10 + 2 * pin);
	io.region.write(&io, 0, 0x10, 4, e & 0xffffffff);
}

static uint32_t redir_low(unsigned pin)
{
	io.region.write(&io, 0, 0, 4, 0x10 + 2 * pin);
	return (uint32_t)io.region.read(&io, 0, 0x10, 4);
}

/* The initialisation that every PC operating system does. */
static void pic_program(uint8_t icw4, uint8_t mask0, uint8_t mask1)
{
	static const uint8_t base[2] = { 0x20, 0x28 }, icw3[2] = { 4, 2 };

	for (unsigned i = 0; i < 2; i++) {
		fake_out(&pic.region[i], 0, 0x11);
		fake_out(&pic.region[i], 1, base[i]);
		fake_out(&pic.region[i], 1, icw3[i]);
		fake_out(&pic.region[i], 1, icw4);
		fake_out(&pic.region[i], 1, i ? mask1 : mask0);
	}
}

TEST(ioapic_edge_is_sent_once_per_rise_and_lost_while_masked)
{
	setup();
	CHECK_EQ(redir_low(4), 0x10000);
	ioapic_set_irq(&io, 4, 1);
	CHECK_EQ(sent, 0);
	redir(4, 3ull << 56 | 0x34);
	CHECK_EQ(sent, 0);
	ioapic_set_irq(&io, 4, 1);
	CHECK_EQ(sent, 0);
	ioapic_set_irq(&io, 4, 0);
	ioapic_set_irq(&io, 4, 1);
	CHECK_EQ(sent, 1);
	CHECK_EQ(sent_addr, 0xfee03000);
	CHECK_EQ(sent_data, 0x34);
}

TEST(ioapic_level_waits_for_eoi_and_repeats_while_asserted)
{
	setup();
	redir(9, 1 << 15 | 0x45);
	CHECK_EQ(bitmap[1], 1ull << 5);
	ioapic_set_irq(&io, 9, 1);
	CHECK_EQ(sent, 1);
	CHECK_EQ(sent_data, 0x45 | 1 << 15 | 1 << 14);
	CHECK(redir_low(9) & 1 << 14);
	ioapic_set_irq(&io, 9, 0);
	ioapic_set_irq(&io, 9, 1);
	CHECK_EQ(sent, 1);
	ioapic_eoi(&io, 0x44);
	CHECK_EQ(sent, 1);
	ioapic_eoi(&io, 0x45);
	CHECK_EQ(sent, 2);
	ioapic_set_irq(&io, 9, 0);
	io.region.write(&io, 0, 0x40, 4, 0x45);         /* EOI register */
	CHECK_EQ(sent, 2);
	CHECK(!(redir_low(9) & 1 << 14));
	redir(9, 1 << 16 | 1 << 15 | 0x45);
	CHECK_EQ(bitmap[1], 0);
}

TEST(ioapic_message_carries_logical_and_lowest_priority)
{
	setup();
	redir(1, 0x0full << 56 | 1 << 11 | 1 << 8 | 0x50);
	ioapic_set_irq(&io, 1, 1);
	CHECK_EQ(sent_addr, 0xfee0f00c);
	CHECK_EQ(sent_data, 0x150);
	redir(2, 7 << 8 | 0x50);                        /* ExtINT: dropped */
	ioapic_set_irq(&io, 2, 1);
	CHECK_EQ(sent, 1);
	ioapic_set_irq(&io, 24, 1);
	ioapic_set_irq(&io, -1, 1);
}

TEST(pic_gives_vectors_by_priority_and_cascades)
{
	setup();
	pic_program(1, 0, 0);
	pic_set_irq(&pic, 10, 1);
	pic_set_irq(&pic, 4, 1);
	CHECK_EQ(intr.level, 1);
	CHECK_EQ(pic_ack(&pic), 0x2a);                  /* 10 comes in at input 2 */
	CHECK_EQ(pic_ack(&pic), -1);                    /* 4 is less important */
	pic_set_irq(&pic, 8, 1);
	CHECK_EQ(intr.level, 0);                        /* master still serves its input 2 */
	fake_out(&pic.region[1], 0, 0x20);
	fake_out(&pic.region[0], 0, 0x20);
	CHECK_EQ(pic_ack(&pic), 0x28);
	fake_out(&pic.region[1], 0, 0x20);
	fake_out(&pic.region[0], 0, 0x20);
	CHECK_EQ(pic_ack(&pic), 0x24);
	fake_out(&pic.region[0], 0, 0x0b);              /* read ISR */
	CHECK_EQ(fake_in(&pic.region[0], 0), 1 << 4);
	fake_out(&pic.region[0], 0, 0x64);              /* specific EOI 4 */
	CHECK_EQ(fake_in(&pic.region[0], 0), 0);
	CHECK_EQ(pic_ack(&pic), -1);
}

TEST(pic_masks_and_remembers_edges)
{
	setup();
	pic_program(1, 0xff, 0xff);
	pic_set_irq(&pic, 3, 1);
	pic_set_irq(&pic, 3, 0);
	CHECK_EQ(intr.level, 0);
	fake_out(&pic.region[0], 0, 0x0a);
	CHECK_EQ(fake_in(&pic.region[0], 0), 1 << 3);
	fake_out(&pic.region[0], 1, 0xf7);
	CHECK_EQ(fake_in(&pic.region[0], 1), 0xf7);
	CHECK_EQ(pic_ack(&pic), 0x23);
}

TEST(pic_level_input_follows_its_line)
{
	setup();
	pic_program(1, 0, 0);
	fake_out(&pic.elcr_region, 0, 0xff);
	CHECK_EQ(fake_in(&pic.elcr_region, 0), 0xf8);
	pic_set_irq(&pic, 5, 1);
	pic_set_irq(&pic, 5, 0);
	CHECK_EQ(pic_ack(&pic), -1);
	pic_set_irq(&pic, 5, 1);
	CHECK_EQ(pic_ack(&pic), 0x25);
	fake_out(&pic.region[0], 0, 0x20);
	CHECK_EQ(pic_ack(&pic), 0x25);                  /* still asserted */
}

TEST(pic_automatic_eoi_rotation_and_poll)
{
	setup();
	pic_program(3, 0, 0);
	pic_set_irq(&pic, 3, 1);
	CHECK_EQ(pic_ack(&pic), 0x23);
	pic_set_irq(&pic, 3, 0);
	pic_set_irq(&pic, 3, 1);
	CHECK_EQ(pic_ack(&pic), 0x23);                  /* no EOI was needed */
	pic_program(1, 0, 0);
	fake_out(&pic.region[0], 0, 0xc0 | 3);          /* 3 is lowest, so 4 is highest */
	pic_set_irq(&pic, 1, 1);
	pic_set_irq(&pic, 4, 1);
	CHECK_EQ(pic_ack(&pic), 0x24);
	fake_out(&pic.region[0], 0, 0x20);
	fake_out(&pic.region[0], 0, 0x0c);
	CHECK_EQ(fake_in(&pic.region[0], 0), 0x81);
	fake_out(&pic.region[0], 0, 0x20);
	fake_out(&pic.region[0], 0, 0x0c);
	CHECK_EQ(fake_in(&pic.region[0], 0), 0);
}

TEST(pic_takes_back_what_was_not_delivered)
{
	setup();
	pic_program(1, 0, 0);
	pic_set_irq(&pic, 3, 1);
	pic_set_irq(&pic, 3, 0);
	int vector = pic_ack(&pic);
	CHECK(vector >= 0 && !pic_intr(&pic));
	pic_return(&pic, (uint8_t)vector);
	CHECK(pic_intr(&pic));
	CHECK_EQ(pic.s.chip[0].isr, 0);
	CHECK_EQ(pic_ack(&pic), vector);
	CHECK_EQ(pic_ack(&pic), -1);
}

TEST(pic_takes_back_a_level_of_the_slave_as_long_as_it_lasts)
{
	setup();
	pic_program(1, 0, 0);
	pic.s.chip[1].elcr = 1 << 2;
	pic_set_irq(&pic, 10, 1);
	/* It is out of service in both. */
	int vector = pic_ack(&pic);
	CHECK_EQ(pic.s.chip[0].isr, 1 << 2);
	pic_return(&pic, (uint8_t)vector);
	CHECK_EQ(pic.s.chip[0].isr | pic.s.chip[1].isr, 0);
	CHECK_EQ(pic_ack(&pic), vector);
	pic_return(&pic, (uint8_t)vector);
	pic_set_irq(&pic, 10, 0);
	CHECK_EQ(pic_ack(&pic), -1);
	/* What is none of its vectors changes nothing. */
	struct pic_state before = pic.s;
	pic_return(&pic, 0xee);
	CHECK(!memcmp(&before, &pic.s, sizeof(before)));
}

TEST(pit_wire_is_input_0_of_the_pic_and_pin_2_of_the_ioapic)
{
	setup();
	pic_program(1, 0, 0);
	redir(2, 0x60);
	struct irq_line l = isa_irq_line(&wires, 0);

	irq_set(&l, 1);
	CHECK_EQ(sent_data, 0x60);
	CHECK_EQ(pic_ack(&pic), 0x20);
	l = isa_irq_line(&wires, 20);
	redir(20, 0x61);
	irq_set(&l, 1);
	CHECK_EQ(sent_data, 0x61);
}

TEST(every_register_survives_every_value)
{
	setup();
	for (unsigned i = 0; i < 200; i++) {
		fake_hammer(&io.region, 4096, 100);
		fake_hammer(&pic.region[0], 2, 50);
		fake_hammer(&pic.region[1], 2, 50);
		fake_hammer(&pic.elcr_region, 2, 10);
		pic_set_irq(&pic, (int)(fake_random() % 16), fake_random() & 1);
		ioapic_set_irq(&io, (int)(fake_random() % 24), fake_random() & 1);
		pic_ack(&pic);
		ioapic_eoi(&io, (uint8_t)fake_random());
	}
	pic_reset(&pic);
	ioapic_reset(&io);
	CHECK_EQ(redir_low(0), 0x10000);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state of every device: what is saved comes back, whatever it was. */
#include <stdlib.h>
#include "dev/acpi.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/kvmclock.h"
#include "dev/lapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "dev/vmgenid.h"
#include "bus/pci.h"
#include "fake.h"
#include "test.h"
#include "util/checked.h"

static const struct state_desc *const descs[] = {
	&acpi_state_desc, &i8042_state_desc, &ioapic_state_desc, &kvmclock_state_desc, &lapic_state_desc,
	&pic_state_desc, &pit_state_desc, &rtc_state_desc, &uart_state_desc, &pci_state_desc, &vmgenid_state_desc,
};

TEST(saved_state_loads_back_to_the_same_bytes)
{
	for (unsigned i = 0; i < ARRAY_LEN(descs); i++) {
		const struct state_desc *d = descs[i];
		size_t len = fields_saved_size(d);
		uint8_t *state = calloc(2, d->size), *saved = malloc(2 * len);

		for (uint32_t n = 0; n < d->size; n++)
			state[n] = (uint8_t)fake_random();
		if (d == &lapic_state_desc) {   /* it refuses what cannot be */
			struct lapic_state *s = (void *)state;

			s->apic_base = 0xfee00900;
			s->irr[0] = s->isr[0] = 0;
			s->tpr &= 0xff;
			s->svr &= 0x1ff;
			s->timer_div &= 0xb;
		}
		CHECK_EQ(fields_save(d, state, saved, len), (long)len);
		CHECK_EQ(fields_load(d, state + d->size, saved, len, NULL), (long)len);
		CHECK_EQ(fields_save(d, state + d->size, saved + len, len), (long)len);
		CHECK_MEM(saved, saved + len, len);
		free(state);
		free(saved);
	}
}

/* A hostile file gives random state; restoring it and going on must be safe. */
TEST(random_restored_state_is_survived)
{
	struct fake_line line;
	struct irq_line l = fake_line(&line);
	struct uart u;
	struct pit p;
	struct rtc r;
	struct pic pic;
	struct ioapic io;
	struct acpi a;
	struct uart_config ucfg = { .name = "com1", .irq = l };
	struct acpi_config acfg = { .sci = l };

	fake_init();
	fake.now_ns = 1000000000;
	uart_init(&u, fake.bus, fake.loop, &fake.source, &ucfg);
	pit_init(&p, fake.bus, fake.loop, &fake.source, l);
	rtc_init(&r, fake.bus, fake.loop, &fake.source, l, 1 << 20, 0);
	pic_init(&pic, fake.bus, l);
	ioapic_init(&io, fake.bus, (struct msi_sink){ .send = NULL }, NULL, NULL);
	acpi_init(&a, fake.bus, fake.loop, &fake.source, &acfg);
	for (unsigned n = 0; n < 500; n++) {
		struct { void *s; size_t len; } all[] = {
			{ &u.s, sizeof(u.s) }, { &p.s, sizeof(p.s) }, { &r.s, sizeof(r.s) },
			{ &pic.s, sizeof(pic.s) }, { &io.s, sizeof(io.s) }, { &a.s, sizeof(a.s) },
		};

		for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
			for (size_t k = 0; k < all[i].len; k++)
				((uint8_t *)all[i].s)[k] = (uint8_t)fake_random();
		}
		uart_restored(&u);
		pit_restored(&p);
		rtc_restored(&r);
		pic_restored(&pic);
		ioapic_restored(&io);
		acpi_restored(&a);
		fake_advance(3000000);
		for (unsigned off = 0; off < 8; off++) {
			if (off)
				fake_in(&u.region, off);
			fake_in(&p.region, off % 4);
			fake_in(&r.region, off % 2);
			fake_in(&pic.region[off % 2], off / 4);
		}
		fake_in(&p.port61, 0);
		pic_ack(&pic);
	}
}

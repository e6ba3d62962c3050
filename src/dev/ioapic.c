/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/ioapic.h"

#include <stdbool.h>
#include <string.h>
#include "util/checked.h"

enum {
	IOREGSEL = 0x00, IOWIN = 0x10, IOEOI = 0x40,    /* offsets in the page */
	REG_ID = 0, REG_VER = 1, REG_ARB = 2, REG_REDIR = 0x10,
	IOAPIC_VERSION = 0x20 | (IOAPIC_PINS - 1) << 16,        /* 0x20: has the EOI register */
	DELIVERY_FIXED = 0, DELIVERY_LOWEST = 1, DELIVERY_NMI = 4, DELIVERY_INIT = 5,
};

/* Redirection entry (82093AA, 3.2.4). */
#define REDIR_LEVEL (1ull << 15)
#define REDIR_MASKED (1ull << 16)
#define REDIR_REMOTE_IRR (1ull << 14)
#define REDIR_LOGICAL (1ull << 11)
#define REDIR_WRITABLE (0xff0000000001ffffull & ~(REDIR_REMOTE_IRR | 1ull << 12))

static const struct field ioapic_fields[] = {
	FIELD(struct ioapic_state, id, 1),
	FIELD(struct ioapic_state, index, 1),
	FIELD_ARRAY(struct ioapic_state, redir, 1),
	FIELD(struct ioapic_state, level, 1),
};
const struct state_desc ioapic_state_desc = {
	.name = "ioapic", .version = 1, .size = sizeof(struct ioapic_state),
	.n_fields = ARRAY_LEN(ioapic_fields), .fields = ioapic_fields,
};

static unsigned redir_delivery(uint64_t e)
{
	return e >> 8 & 7;
}

/* Level triggering exists for fixed and lowest priority only; others are edges. */
static bool redir_is_level(uint64_t e)
{
	return (e & REDIR_LEVEL) && redir_delivery(e) <= DELIVERY_LOWEST;
}

/* The entry as a message (SDM vol. 3 11.11): the same fields in other places. */
static void ioapic_send(struct ioapic *io, uint64_t e)
{
	unsigned mode = redir_delivery(e);
	uint64_t addr = 0xfee00000 | (e >> 56) << 12;
	uint32_t data = (uint32_t)(e & 0xff) | mode << 8;

	if (mode != DELIVERY_FIXED && mode != DELIVERY_LOWEST && mode != DELIVERY_NMI && mode != DELIVERY_INIT)
		return;
	if (e & REDIR_LOGICAL)
		addr |= 1 << 2;
	if (mode == DELIVERY_LOWEST)
		addr |= 1 << 3;                 /* redirection hint */
	if (redir_is_level(e))
		data |= 1 << 15 | 1 << 14;      /* level, asserted */
	msi_send(&io->msi, addr, data);
}

/* Send PIN's interrupt if it is level-triggered, asserted, open and not in service. */
static void ioapic_service_level(struct ioapic *io, unsigned pin)
{
	uint64_t *e = &io->s.redir[pin];

	if (!redir_is_level(*e) || !(io->s.level >> pin & 1) || (*e & (REDIR_MASKED | REDIR_REMOTE_IRR)))
		return;
	*e |= REDIR_REMOTE_IRR;
	ioapic_send(io, *e);
}

void ioapic_set_irq(void *ioapic, int pin, int level)
{
	struct ioapic *io = ioapic;

	if (pin < 0 || pin >= IOAPIC_PINS)
		return;
	bool was = io->s.level >> pin & 1;
	uint64_t e = io->s.redir[pin];

	if (level)
		io->s.level |= 1u << pin;
	else
		io->s.level &= ~(1u << pin);
	if (redir_is_level(e))
		ioapic_service_level(io, (unsigned)pin);
	else if (level && !was && !(e & REDIR_MASKED))
		ioapic_send(io, e);     /* an edge seen while masked is lost (82093AA 3.2.4) */
}

void ioapic_level_vectors(const struct ioapic *io, uint64_t bitmap[4])
{
	memset(bitmap, 0, 4 * sizeof(*bitmap));
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t e = io->s.redir[pin];
		uint8_t v = (uint8_t)e;

		if (redir_is_level(e) && (!(e & REDIR_MASKED) || (e & REDIR_REMOTE_IRR)))
			bitmap[v / 64] |= 1ull << (v % 64);
	}
}

static void ioapic_vectors_update(struct ioapic *io)
{
	uint64_t now[4];

	ioapic_level_vectors(io, now);
	if (!memcmp(now, io->level_vectors, sizeof(now)))
		return;
	memcpy(io->level_vectors, now, sizeof(now));
	if (io->vectors_changed)
		io->vectors_changed(io->arg, now);
}

static void ioapic_eoi_locked(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *e = &io->s.redir[pin];

		if ((uint8_t)*e != vector || !(*e & REDIR_REMOTE_IRR))
			continue;
		*e &= ~REDIR_REMOTE_IRR;
		ioapic_service_level(io, pin);
	}
	ioapic_vectors_update(io);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	bus_lock(io->bus);
	ioapic_eoi_locked(io, vector);
	bus_unlock(io->bus);
}

static uint32_t ioapic_reg_read(const struct ioapic *io)
{
	unsigned n = io->s.index - REG_REDIR;

	switch (io->s.index) {
	case REG_ID:
	case REG_ARB:
		return io->s.id;
	case REG_VER:
		return IOAPIC_VERSION;
	}
	if (io->s.index < REG_REDIR || n / 2 >= IOAPIC_PINS)
		return 0;
	return (uint32_t)(io->s.redir[n / 2] >> (n & 1 ? 32 : 0));
}

static void ioapic_redir_write(struct ioapic *io, unsigned pin, bool is_high, uint32_t val)
{
	uint64_t *e = &io->s.redir[pin], old = *e;
	uint64_t wanted = is_high ? (old & 0xffffffff) | (uint64_t)val << 32
				  : (old & ~0xffffffffull) | val;

	*e = (wanted & REDIR_WRITABLE) | (old & REDIR_REMOTE_IRR);
	/* going to edge mode ends the level interrupt: guests use this as an EOI */
	if (!redir_is_level(*e))
		*e &= ~REDIR_REMOTE_IRR;
	ioapic_vectors_update(io);
	ioapic_service_level(io, pin);
}

static void ioapic_reg_write(struct ioapic *io, uint32_t val)
{
	unsigned n = io->s.index - REG_REDIR;

	if (io->s.index == REG_ID)
		io->s.id = val & 0x0f000000;
	else if (io->s.index >= REG_REDIR && n / 2 < IOAPIC_PINS)
		ioapic_redir_write(io, n / 2, n & 1, val);
}

/* Registers are 32 bits wide at multiples of 16; bytes and words reach the low part. */
static uint64_t ioapic_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct ioapic *io = dev;

	switch (off) {
	case IOREGSEL:
		return io->s.index;
	case IOWIN:
		return ioapic_reg_read(io);
	}
	return 0;
}

static void ioapic_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct ioapic *io = dev;

	switch (off) {
	case IOREGSEL:
		io->s.index = val & 0xff;
		break;
	case IOWIN:
		ioapic_reg_write(io, (uint32_t)val);
		break;
	case IOEOI:
		ioapic_eoi_locked(io, (uint8_t)val);
		break;
	}
}

void ioapic_init(struct ioapic *io, struct bus *bus, struct msi_sink msi,
		 void (*vectors_changed)(void *arg, const uint64_t bitmap[4]), void *arg)
{
	*io = (struct ioapic){
		.region = { .name = "ioapic", .dev = io, .read = ioapic_read, .write = ioapic_write },
		.bus = bus, .msi = msi, .vectors_changed = vectors_changed, .arg = arg,
	};
	ioapic_reset(io);
}

void ioapic_reset(struct ioapic *io)
{
	uint32_t level = io->s.level;   /* what the devices drive does not change */

	io->s = (struct ioapic_state){ .level = level };
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->s.redir[pin] = REDIR_MASKED;
	ioapic_vectors_update(io);
}

void ioapic_restored(struct ioapic *io)
{
	io->s.index &= 0xff;
	io->s.level &= (1u << IOAPIC_PINS) - 1;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		io->s.redir[pin] &= REDIR_WRITABLE | REDIR_REMOTE_IRR;
	ioapic_vectors_update(io);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/pic.h"

#include "util/checked.h"

enum {
	MASTER, SLAVE,
	CASCADE = 2,                    /* master's input that the slave drives */
	ICW1 = 1 << 4, ICW1_IC4 = 1 << 0, ICW1_SINGLE = 1 << 1,
	ICW4_AEOI = 1 << 1, ICW4_SFNM = 1 << 4,
	OCW3 = 1 << 3, OCW3_READ = 1 << 1, OCW3_RIS = 1 << 0, OCW3_POLL = 1 << 2,
	OCW3_ESMM = 1 << 6, OCW3_SMM = 1 << 5,
};

/* OCW2, bits 5-7. */
enum pic_ocw2 {
	OCW2_ROTATE_AEOI_OFF, OCW2_EOI, OCW2_NOP, OCW2_EOI_SPECIFIC,
	OCW2_ROTATE_AEOI_ON, OCW2_ROTATE_EOI, OCW2_SET_PRIORITY, OCW2_ROTATE_EOI_SPECIFIC,
};

/* Inputs 0, 1, 2 (timer, keyboard, cascade), 8 (RTC) and 13 (FPU) are edge-triggered for ever. */
static const uint8_t pic_elcr_mask[2] = { 0xf8, 0xde };

static const struct field pic_chip_fields[] = {
	FIELD(struct pic_chip_state, irr, 1),
	FIELD(struct pic_chip_state, imr, 1),
	FIELD(struct pic_chip_state, isr, 1),
	FIELD(struct pic_chip_state, level, 1),
	FIELD(struct pic_chip_state, elcr, 1),
	FIELD(struct pic_chip_state, vector_base, 1),
	FIELD(struct pic_chip_state, icw1, 1),
	FIELD(struct pic_chip_state, icw3, 1),
	FIELD(struct pic_chip_state, icw4, 1),
	FIELD(struct pic_chip_state, init_step, 1),
	FIELD(struct pic_chip_state, lowest, 1),
	FIELD(struct pic_chip_state, read_isr, 1),
	FIELD(struct pic_chip_state, poll, 1),
	FIELD(struct pic_chip_state, special_mask, 1),
	FIELD(struct pic_chip_state, rotate_on_aeoi, 1),
};
static const struct state_desc pic_chip_desc = {
	.name = "chip", .version = 1, .size = sizeof(struct pic_chip_state),
	.n_fields = ARRAY_LEN(pic_chip_fields), .fields = pic_chip_fields,
};
static const struct field pic_fields[] = {
	FIELD_SUBS(struct pic_state, chip, 1, &pic_chip_desc),
};
const struct state_desc pic_state_desc = {
	.name = "pic", .version = 1, .size = sizeof(struct pic_state),
	.n_fields = ARRAY_LEN(pic_fields), .fields = pic_fields,
};

/* Rank of the most important bit in MASK: 0 is the highest priority, 8: no bit. */
static unsigned pic_rank(const struct pic_chip_state *c, uint8_t mask)
{
	for (unsigned rank = 0; rank < 8; rank++) {
		if (mask >> ((c->lowest + 1 + rank) & 7) & 1)
			return rank;
	}
	return 8;
}

/* The input that asks for service now, or -1. */
static int pic_request(const struct pic_chip_state *c, bool is_master)
{
	uint8_t in_service = c->isr;
	unsigned rank = pic_rank(c, c->irr & ~c->imr);

	if (c->special_mask)
		in_service &= ~c->imr;
	/* special fully nested: the slave may interrupt its own service */
	if (is_master && (c->icw4 & ICW4_SFNM))
		in_service &= ~(1 << CASCADE);
	if (c->init_step || rank == 8 || rank >= pic_rank(c, in_service))
		return -1;
	return (c->lowest + 1 + rank) & 7;
}

/* Recompute the wires: slave into master, master to the processors. The cascade input follows
 * the slave's output, so that no request is lost between two edges. */
static void pic_update(struct pic *p)
{
	struct pic_chip_state *m = &p->s.chip[MASTER];

	if (pic_request(&p->s.chip[SLAVE], false) >= 0)
		m->irr |= 1 << CASCADE;
	else
		m->irr &= ~(1 << CASCADE);

	bool out = pic_request(m, true) >= 0;

	if (atomic_exchange(&p->intr, out) != out)
		irq_set(&p->out, out);
}

static void pic_input(struct pic_chip_state *c, unsigned n, bool level)
{
	uint8_t bit = (uint8_t)(1u << n);
	bool was = c->level & bit;

	c->level = level ? c->level | bit : c->level & ~bit;
	if (c->elcr & bit)
		c->irr = level ? c->irr | bit : c->irr & ~bit;
	else if (level && !was)
		c->irr |= bit;
}

void pic_set_irq(void *pic, int n, int level)
{
	struct pic *p = pic;

	if (n < 0 || n > 15 || n == CASCADE)
		return;
	pic_input(&p->s.chip[n >> 3], (unsigned)n & 7, level);
	pic_update(p);
}

/* Take input N into service. */
static void pic_chip_ack(struct pic_chip_state *c, unsigned n)
{
	uint8_t bit = (uint8_t)(1u << n);

	if (!(c->elcr & bit))
		c->irr &= ~bit;
	if (!(c->icw4 & ICW4_AEOI))
		c->isr |= bit;
	else if (c->rotate_on_aeoi)
		c->lowest = (uint8_t)n;
}

static int pic_ack_locked(struct pic *p)
{
	struct pic_chip_state *m = &p->s.chip[MASTER], *s = &p->s.chip[SLAVE];
	int n = pic_request(m, true), vector;

	if (n < 0)
		return -1;
	pic_chip_ack(m, (unsigned)n);
	vector = m->vector_base + n;
	if (n == CASCADE) {
		n = pic_request(s, false);
		if (n < 0)
			n = 7;          /* not reached while the cascade follows the slave */
		else
			pic_chip_ack(s, (unsigned)n);
		vector = s->vector_base + n;
	}
	pic_update(p);
	return vector;
}

int pic_ack(struct pic *p)
{
	bus_lock(p->bus);
	int vector = pic_ack_locked(p);

	bus_unlock(p->bus);
	return vector;
}

/* Take back what pic_chip_ack() did. */
static void pic_chip_return(struct pic_chip_state *c, unsigned n)
{
	uint8_t bit = (uint8_t)(1u << n);

	c->isr &= (uint8_t)~bit;
	if (!(c->elcr & bit))
		c->irr |= bit;
}

void pic_return(struct pic *p, uint8_t vector)
{
	struct pic_chip_state *m = &p->s.chip[MASTER], *s = &p->s.chip[SLAVE];

	bus_lock(p->bus);
	unsigned in_master = (uint8_t)(vector - m->vector_base), in_slave = (uint8_t)(vector - s->vector_base);

	if (in_master < 8) {
		pic_chip_return(m, in_master);
	} else if (in_slave < 8) {
		pic_chip_return(s, in_slave);
		m->isr &= (uint8_t)~(1 << CASCADE);
	}
	pic_update(p);
	bus_unlock(p->bus);
}

bool pic_intr(const struct pic *p)
{
	return atomic_load(&p->intr);
}

static void pic_ocw2(struct pic_chip_state *c, uint8_t val)
{
	enum pic_ocw2 op = val >> 5;
	unsigned n = val & 7, rank;

	switch (op) {
	case OCW2_ROTATE_AEOI_OFF:
	case OCW2_ROTATE_AEOI_ON:
		c->rotate_on_aeoi = op == OCW2_ROTATE_AEOI_ON;
		break;
	case OCW2_EOI:
	case OCW2_ROTATE_EOI:
		/* in special mask mode, masked services are not ended by this */
		rank = pic_rank(c, c->special_mask ? c->isr & ~c->imr : c->isr);
		if (rank == 8)
			break;
		n = (c->lowest + 1 + rank) & 7;
		c->isr &= ~(1 << n);
		if (op == OCW2_ROTATE_EOI)
			c->lowest = (uint8_t)n;
		break;
	case OCW2_EOI_SPECIFIC:
	case OCW2_ROTATE_EOI_SPECIFIC:
		c->isr &= ~(1 << n);
		if (op == OCW2_ROTATE_EOI_SPECIFIC)
			c->lowest = (uint8_t)n;
		break;
	case OCW2_SET_PRIORITY:
		c->lowest = (uint8_t)n;
		break;
	case OCW2_NOP:
		break;
	}
}

static void pic_ocw3(struct pic_chip_state *c, uint8_t val)
{
	if (val & OCW3_READ)
		c->read_isr = val & OCW3_RIS;
	if (val & OCW3_ESMM)
		c->special_mask = (val & OCW3_SMM) != 0;
	c->poll = (val & OCW3_POLL) != 0;
}

static void pic_icw1(struct pic_chip_state *c, uint8_t val)
{
	*c = (struct pic_chip_state){
		.level = c->level, .elcr = c->elcr, .vector_base = c->vector_base, .icw3 = c->icw3,
		.irr = c->level & c->elcr, .lowest = 7, .icw1 = val, .init_step = 2,
	};
}

/* The odd port: ICW2-4 while they are expected, else the mask. */
static void pic_data_write(struct pic_chip_state *c, uint8_t val)
{
	switch (c->init_step) {
	case 2:
		c->vector_base = val & 0xf8;
		c->init_step = !(c->icw1 & ICW1_SINGLE) ? 3 : c->icw1 & ICW1_IC4 ? 4 : 0;
		break;
	case 3:
		c->icw3 = val;
		c->init_step = c->icw1 & ICW1_IC4 ? 4 : 0;
		break;
	case 4:
		c->icw4 = val & 0x1f;
		c->init_step = 0;
		break;
	default:
		c->imr = val;
		break;
	}
}

/* Poll: reading acknowledges, bit 7 tells whether there was something (8259A, "Poll Command"). */
static uint8_t pic_poll(struct pic *p, unsigned which)
{
	struct pic_chip_state *c = &p->s.chip[which];
	int n = pic_request(c, which == MASTER);

	c->poll = 0;
	if (n < 0)
		return 0;
	pic_chip_ack(c, (unsigned)n);
	pic_update(p);
	return (uint8_t)(0x80 | n);
}

static uint64_t pic_chip_read(struct pic *p, unsigned which, uint64_t off)
{
	const struct pic_chip_state *c = &p->s.chip[which];

	if (c->poll)
		return pic_poll(p, which);
	if (off)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static void pic_chip_write(struct pic *p, unsigned which, uint64_t off, uint8_t val)
{
	struct pic_chip_state *c = &p->s.chip[which];

	if (off)
		pic_data_write(c, val);
	else if (val & ICW1)
		pic_icw1(c, val);
	else if (val & OCW3)
		pic_ocw3(c, val);
	else
		pic_ocw2(c, val);
	pic_update(p);
}

static uint64_t pic_master_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return pic_chip_read(dev, MASTER, off);
}

static void pic_master_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	pic_chip_write(dev, MASTER, off, (uint8_t)val);
}

static uint64_t pic_slave_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return pic_chip_read(dev, SLAVE, off);
}

static void pic_slave_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	pic_chip_write(dev, SLAVE, off, (uint8_t)val);
}

static uint64_t pic_elcr_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct pic *p = dev;

	return p->s.chip[off & 1].elcr;
}

static void pic_elcr_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct pic *p = dev;
	struct pic_chip_state *c = &p->s.chip[off & 1];

	c->elcr = (uint8_t)val & pic_elcr_mask[off & 1];
	c->irr = (c->irr & ~c->elcr) | (c->level & c->elcr);
	pic_update(p);
}

void pic_init(struct pic *p, struct bus *bus, struct irq_line out)
{
	*p = (struct pic){
		.region[MASTER] = { .name = "pic0", .dev = p, .read = pic_master_read,
				    .write = pic_master_write, .flags = BUS_BYTES },
		.region[SLAVE] = { .name = "pic1", .dev = p, .read = pic_slave_read,
				   .write = pic_slave_write, .flags = BUS_BYTES },
		.elcr_region = { .name = "pic-elcr", .dev = p, .read = pic_elcr_read,
				 .write = pic_elcr_write, .flags = BUS_BYTES },
		.bus = bus, .out = out,
	};
	pic_reset(p);
}

void pic_reset(struct pic *p)
{
	for (unsigned i = 0; i < 2; i++)
		p->s.chip[i] = (struct pic_chip_state){ .level = p->s.chip[i].level, .lowest = 7, .imr = 0xff };
	pic_update(p);
}

void pic_restored(struct pic *p)
{
	for (unsigned i = 0; i < 2; i++) {
		struct pic_chip_state *c = &p->s.chip[i];

		c->elcr &= pic_elcr_mask[i];
		c->vector_base &= 0xf8;
		c->lowest &= 7;
	}
	atomic_store(&p->intr, false);
	irq_set(&p->out, 0);
	pic_update(p);
}

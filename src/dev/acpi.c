/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/acpi.h"

#include "util/checked.h"

enum {
	/* PM1 status and enable (ACPI 6.4 tables 4.13, 4.14) */
	PM1_TMR = 1 << 0, PM1_GBL = 1 << 5, PM1_PWRBTN = 1 << 8, PM1_RTC = 1 << 10, PM1_WAK = 1 << 15,
	PM1_STS_CLEARABLE = PM1_TMR | 1 << 4 | PM1_GBL | PM1_PWRBTN | 1 << 9 | PM1_RTC | PM1_WAK,
	PM1_EN_WRITABLE = PM1_TMR | PM1_GBL | PM1_PWRBTN | PM1_RTC,
	/* PM1 control (table 4.15) */
	CNT_SCI_EN = 1 << 0, CNT_SLP_TYP_SHIFT = 10, CNT_SLP_TYP = 7 << 10, CNT_SLP_EN = 1 << 13,
	CNT_WRITABLE = 1 << 1 | CNT_SLP_TYP,
	GPE_EVENTS = 1 << ACPI_GPE_VMGENID | 1 << ACPI_GPE_PCI | 1 << ACPI_GPE_CPU,
	RESET_CPU = 1 << 2, RESET_WRITABLE = 0x0a,
};
#define ACPI_CARRY (1ull << 31)         /* TMR_STS is set whenever this bit changes */

static const struct field acpi_fields[] = {
	FIELD(struct acpi_state, pm1_sts, 1),
	FIELD(struct acpi_state, pm1_en, 1),
	FIELD(struct acpi_state, pm1_cnt, 1),
	FIELD(struct acpi_state, reset_reg, 1),
	FIELD(struct acpi_state, timer_ns, 1),
	FIELD(struct acpi_state, gpe_sts, 2),
	FIELD(struct acpi_state, gpe_en, 2),
	FIELD(struct acpi_state, gpe_used, 2),
};
const struct state_desc acpi_state_desc = {
	.name = "acpi", .version = 2, .size = sizeof(struct acpi_state),
	.n_fields = ARRAY_LEN(acpi_fields), .fields = acpi_fields,
};

static uint64_t acpi_ticks(uint64_t ns)
{
	return (uint64_t)((unsigned __int128)ns * ACPI_PM_TMR_HZ / 1000000000u);
}

/* Notice timer carries up to now, set the SCI from status and enable, wait for the next carry
 * when somebody wants it. */
static void acpi_update(struct acpi *a)
{
	uint64_t now = source_now_ns(a->source), t = acpi_ticks(now);

	if (t / ACPI_CARRY != acpi_ticks(a->s.timer_ns) / ACPI_CARRY)
		a->s.pm1_sts |= PM1_TMR;
	a->s.timer_ns = now;
	irq_set(&a->cfg.sci, (a->s.pm1_sts & a->s.pm1_en & PM1_EN_WRITABLE) || (a->s.gpe_sts & a->s.gpe_en));
	if (a->s.pm1_en & PM1_TMR) {
		uint64_t next = (t / ACPI_CARRY + 1) * ACPI_CARRY;

		dev_timer_set(&a->timer, (uint64_t)((unsigned __int128)next * 1000000000u / ACPI_PM_TMR_HZ) + 1);
	} else {
		dev_timer_cancel(&a->timer);
	}
}

static void acpi_due(void *arg)
{
	acpi_update(arg);
}

void acpi_press_power_button(struct acpi *a)
{
	a->s.pm1_sts |= PM1_PWRBTN;
	acpi_update(a);
}

static void acpi_cnt_write(struct acpi *a, uint16_t val)
{
	unsigned type = (val & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT;

	a->s.pm1_cnt = val & CNT_WRITABLE;
	if ((val & CNT_SLP_EN) && (type == ACPI_S5_TYPE || type == ACPI_S5_TYPE_UEFI))
		a->cfg.poweroff_request(a->cfg.arg);
}

/* The block as four words of 32 bits. */
static uint32_t acpi_word_read(const struct acpi *a, uint64_t off)
{
	switch (off) {
	case ACPI_PM1_EVT:
		return a->s.pm1_sts | (uint32_t)a->s.pm1_en << 16;
	case ACPI_PM1_CNT:
		return a->s.pm1_cnt | CNT_SCI_EN;
	case ACPI_PM_TMR:
		return (uint32_t)acpi_ticks(source_now_ns(a->source));
	}
	return 0;
}

/* MASK has ones in the bytes that are written. */
static void acpi_word_write(struct acpi *a, uint64_t off, uint32_t val, uint32_t mask)
{
	if (off == ACPI_PM1_EVT) {
		uint16_t en = (uint16_t)(mask >> 16);

		a->s.pm1_sts &= (uint16_t)~(val & mask & PM1_STS_CLEARABLE);
		a->s.pm1_en = (uint16_t)((a->s.pm1_en & ~en) | ((val >> 16) & en & PM1_EN_WRITABLE));
	} else if (off == ACPI_PM1_CNT && (mask & 0xffff)) {
		uint16_t keep = (uint16_t)~mask;

		acpi_cnt_write(a, (uint16_t)((a->s.pm1_cnt & keep) | (val & mask)));
	}
}

static uint64_t acpi_pm_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	struct acpi *a = dev;

	acpi_update(a);
	return acpi_word_read(a, off & ~3ull) >> (8 * (off & 3));
}

static void acpi_pm_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct acpi *a = dev;
	unsigned shift = 8 * (unsigned)(off & 3);
	uint32_t ones = size >= 4 ? 0xffffffff : (1u << (8 * size)) - 1;

	acpi_update(a);
	acpi_word_write(a, off & ~3ull, (uint32_t)val << shift, ones << shift);
	acpi_update(a);
}

/* ---- general-purpose events (4.8.4.1): status, a bit goes down by a 1, and enable ---- */

void acpi_raise_gpe(struct acpi *a, enum acpi_gpe n)
{
	a->s.gpe_sts |= (uint16_t)(1u << n);
	acpi_update(a);
}

bool acpi_hears_gpe(const struct acpi *a, enum acpi_gpe n)
{
	return a->s.gpe_used >> n & 1;
}

static uint64_t acpi_gpe_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct acpi *a = dev;

	return (a->s.gpe_sts | (uint32_t)a->s.gpe_en << 16) >> (8 * off);
}

static void acpi_gpe_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct acpi *a = dev;
	uint32_t ones = (size >= 4 ? 0xffffffff : (1u << (8 * size)) - 1) << (8 * off);
	uint32_t v = (uint32_t)val << (8 * off), en = ones >> 16;

	a->s.gpe_sts &= (uint16_t)~(v & ones);
	a->s.gpe_en = (uint16_t)((a->s.gpe_en & ~en) | (v >> 16 & en & GPE_EVENTS));
	a->s.gpe_used |= a->s.gpe_en;
	acpi_update(a);
}

static uint64_t acpi_reset_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct acpi *a = dev;

	return a->s.reset_reg;
}

static void acpi_reset_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct acpi *a = dev;

	a->s.reset_reg = val & RESET_WRITABLE;
	if (val & RESET_CPU)
		a->cfg.reset_request(a->cfg.arg);
}

void acpi_init(struct acpi *a, struct bus *bus, struct loop *loop, struct source *source,
	       const struct acpi_config *cfg)
{
	*a = (struct acpi){
		.pm = { .name = "acpi-pm", .dev = a, .read = acpi_pm_read, .write = acpi_pm_write },
		.gpe = { .name = "acpi-gpe", .dev = a, .read = acpi_gpe_read, .write = acpi_gpe_write },
		.reset = { .name = "reset", .dev = a, .read = acpi_reset_read, .write = acpi_reset_write,
			   .flags = BUS_BYTES },
		.cfg = *cfg, .source = source,
	};
	dev_timer_init(&a->timer, loop, source, bus, acpi_due, a);
	acpi_reset(a);
}

void acpi_fini(struct acpi *a)
{
	dev_timer_fini(&a->timer);
}

void acpi_reset(struct acpi *a)
{
	a->s = (struct acpi_state){ .timer_ns = source_now_ns(a->source) };
	acpi_update(a);
}

void acpi_restored(struct acpi *a)
{
	a->s.pm1_en &= PM1_EN_WRITABLE;
	a->s.pm1_cnt &= CNT_WRITABLE;
	a->s.gpe_en &= GPE_EVENTS;
	a->s.gpe_sts &= GPE_EVENTS;
	a->s.gpe_used &= GPE_EVENTS;
	acpi_update(a);
}

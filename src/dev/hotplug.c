/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/hotplug.h"

#include "dev/acpi.h"
#include "util/checked.h"

static const struct field hotplug_fields[] = {
	FIELD(struct hotplug_state, pci_up, 1),
	FIELD(struct hotplug_state, pci_down, 1),
	FIELD(struct hotplug_state, pci_asked, 1),
	FIELD(struct hotplug_state, pci_ejected, 1),
	FIELD(struct hotplug_state, cpu_select, 2),
	FIELD(struct hotplug_state, cpu_present, 2),
	FIELD(struct hotplug_state, cpu_up, 2),
	FIELD(struct hotplug_state, cpu_down, 2),
	FIELD(struct hotplug_state, cpu_asked, 2),
};
const struct state_desc hotplug_state_desc = {
	.name = "hotplug", .version = 2, .size = sizeof(struct hotplug_state),
	.n_fields = ARRAY_LEN(hotplug_fields), .fields = hotplug_fields,
};

/* ---- processors ---- */

static uint32_t cpu_flags(const struct hotplug *h)
{
	unsigned n = h->s.cpu_select;

	if (n >= h->cfg.n_cpus)
		return 0;
	return (h->s.cpu_present >> n & 1 ? HOTPLUG_CPU_PRESENT : 0) | (h->s.cpu_up >> n & 1 ? HOTPLUG_CPU_UP : 0) |
	       (h->s.cpu_down >> n & 1 ? HOTPLUG_CPU_DOWN : 0);
}

static void cpu_eject(struct hotplug *h, uint64_t bit)
{
	if (!(h->s.cpu_present & bit & ~1ull))
		return;                 /* the first one stays */
	h->s.cpu_present &= ~bit;
	h->s.cpu_up &= ~bit;
	h->s.cpu_asked &= ~bit;
	h->cfg.cpus_changed(h->cfg.arg);
}

static void cpu_flags_write(struct hotplug *h, uint32_t val)
{
	uint64_t bit = h->s.cpu_select < h->cfg.n_cpus ? 1ull << h->s.cpu_select : 0;

	if (val & HOTPLUG_CPU_UP)
		h->s.cpu_up &= ~bit;
	if (val & HOTPLUG_CPU_DOWN)
		h->s.cpu_down &= ~bit;
	if (val & HOTPLUG_CPU_EJECT)
		cpu_eject(h, bit);
}

void hotplug_cpu_up(struct hotplug *h, unsigned cpu)
{
	h->s.cpu_present |= 1ull << cpu;
	h->s.cpu_up |= 1ull << cpu;
	h->s.cpu_down &= ~(1ull << cpu);
	h->s.cpu_asked &= ~(1ull << cpu);
	acpi_raise_gpe(h->acpi, ACPI_GPE_CPU);
}

void hotplug_cpu_down(struct hotplug *h, unsigned cpu)
{
	h->s.cpu_down |= 1ull << cpu;
	h->s.cpu_asked |= 1ull << cpu;
	acpi_raise_gpe(h->acpi, ACPI_GPE_CPU);
}

/* ---- registers ---- */

static uint64_t hotplug_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct hotplug *h = dev;

	if (size != 4)
		return 0;
	switch (off) {
	case HOTPLUG_PCI_UP:
		return h->s.pci_up;
	case HOTPLUG_PCI_DOWN:
		return h->s.pci_down;
	case HOTPLUG_CPU_SELECT:
		return h->s.cpu_select;
	case HOTPLUG_CPU_FLAGS:
		return cpu_flags(h);
	}
	return 0;
}

static void hotplug_eject(struct hotplug *h, uint32_t slots)
{
	for (; slots; slots &= slots - 1)
		h->cfg.eject(h->cfg.arg, (unsigned)__builtin_ctz(slots));
}

static void hotplug_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	struct hotplug *h = dev;

	if (size != 4)
		return;
	switch (off) {
	case HOTPLUG_PCI_UP:
		h->s.pci_up &= ~(uint32_t)val;
		break;
	case HOTPLUG_PCI_DOWN:
		h->s.pci_down &= ~(uint32_t)val;
		break;
	case HOTPLUG_PCI_EJECT:
		hotplug_eject(h, (uint32_t)val);
		break;
	case HOTPLUG_CPU_SELECT:
		h->s.cpu_select = (uint32_t)val;
		break;
	case HOTPLUG_CPU_FLAGS:
		cpu_flags_write(h, (uint32_t)val);
		break;
	}
}

void hotplug_init(struct hotplug *h, struct acpi *acpi, const struct hotplug_config *cfg)
{
	*h = (struct hotplug){
		.region = { .name = "hotplug", .dev = h, .read = hotplug_read, .write = hotplug_write },
		.acpi = acpi, .cfg = *cfg, .s.cpu_present = cfg->cpus_present,
	};
}

void hotplug_reset(struct hotplug *h)
{
	uint64_t present = h->s.cpu_present & ~h->s.cpu_asked;

	h->s = (struct hotplug_state){ .cpu_present = present };
}

void hotplug_restored(struct hotplug *h)
{
	uint64_t can = h->cfg.n_cpus < HOTPLUG_CPUS_MAX ? (1ull << h->cfg.n_cpus) - 1 : UINT64_MAX;

	/* A machine that was saved before processors could come and go has all of them. */
	h->s.cpu_present = h->s.cpu_present ? (h->s.cpu_present & can) | 1 : h->cfg.cpus_present;
	h->s.cpu_up &= can;
	h->s.cpu_down &= can & ~1ull;
	h->s.cpu_asked &= can & ~1ull;
}

void hotplug_pci_up(struct hotplug *h, unsigned slot)
{
	h->s.pci_up |= 1u << slot;
	acpi_raise_gpe(h->acpi, ACPI_GPE_PCI);
}

void hotplug_pci_down(struct hotplug *h, unsigned slot)
{
	h->s.pci_down |= 1u << slot;
	h->s.pci_asked |= 1u << slot;
	acpi_raise_gpe(h->acpi, ACPI_GPE_PCI);
}

void hotplug_pci_gone(struct hotplug *h, unsigned slot)
{
	uint32_t others = ~(1u << slot);

	h->s.pci_up &= others;
	h->s.pci_down &= others;
	h->s.pci_asked &= others;
	h->s.pci_ejected &= others;
}

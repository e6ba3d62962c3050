/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/hotplug.h"

#include "dev/acpi.h"
#include "util/checked.h"

static const struct field hotplug_fields[] = {
	FIELD(struct hotplug_state, pci_up, 1),
	FIELD(struct hotplug_state, pci_down, 1),
	FIELD(struct hotplug_state, pci_asked, 1),
	FIELD(struct hotplug_state, pci_ejected, 1),
};
const struct state_desc hotplug_state_desc = {
	.name = "hotplug", .version = 1, .size = sizeof(struct hotplug_state),
	.n_fields = ARRAY_LEN(hotplug_fields), .fields = hotplug_fields,
};

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
	}
	return 0;
}

static void hotplug_eject(struct hotplug *h, uint32_t slots)
{
	for (; slots; slots &= slots - 1)
		h->eject(h->arg, (unsigned)__builtin_ctz(slots));
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
	}
}

void hotplug_init(struct hotplug *h, struct acpi *acpi, void (*eject)(void *arg, unsigned slot), void *arg)
{
	*h = (struct hotplug){
		.region = { .name = "hotplug", .dev = h, .read = hotplug_read, .write = hotplug_write },
		.acpi = acpi, .eject = eject, .arg = arg,
	};
}

void hotplug_reset(struct hotplug *h)
{
	h->s = (struct hotplug_state){ 0 };
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

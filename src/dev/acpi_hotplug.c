/* SPDX-License-Identifier: Apache-2.0 */
/* In ASL:
 *
 *	Device (S01) {
 *		Name (_ADR, 0x00010000)
 *		Name (_SUN, 1)
 *		Method (_EJ0, 1) { PEJ = 1 << 1 }
 *	}
 *	Method (PSCN, 0, Serialized) {
 *		Local0 = PUP
 *		Local1 = PDN
 *		PUP = Local0
 *		PDN = Local1
 *		If (Local0 & (1 << 1)) { Notify (S01, 1) }
 *		If (Local1 & (1 << 1)) { Notify (S01, 3) }
 *	}
 *
 * and so on for each slot. A slot has no _STA: whether something is there is what its configuration space says. */
#include "dev/acpi_hotplug.h"

#include <stdio.h>
#include "bus/pci.h"
#include "dev/acpi.h"
#include "dev/aml.h"
#include "dev/board.h"
#include "dev/hotplug.h"

enum { NOTIFY_DEVICE_CHECK = 1, NOTIFY_EJECT_REQUEST = 3, NAME_CAP = 5 };

static const char *slot_name(char buf[NAME_CAP], unsigned slot)
{
	snprintf(buf, NAME_CAP, "S%02u", slot % 100);
	return buf;
}

static void put_slot(struct aml *a, unsigned slot)
{
	char name[NAME_CAP];

	aml_device_begin(a, slot_name(name, slot));
	aml_name_int(a, "_ADR", (uint64_t)slot << 16);
	aml_name_int(a, "_SUN", slot);
	aml_method_begin(a, "_EJ0", 1, false);
	aml_op(a, AML_STORE);
	aml_int(a, 1u << slot);
	aml_ref(a, "PEJ");
	aml_end(a);
	aml_end(a);
}

static void put_copy(struct aml *a, unsigned local, const char *reg, bool is_read)
{
	aml_op(a, AML_STORE);
	if (is_read)
		aml_ref(a, reg);
	aml_local(a, local);
	if (!is_read)
		aml_ref(a, reg);
}

static void put_notify(struct aml *a, unsigned local, unsigned slot, unsigned code)
{
	char name[NAME_CAP];

	aml_if_begin(a);
	aml_op(a, AML_AND);
	aml_local(a, local);
	aml_int(a, 1u << slot);
	aml_no_target(a);
	aml_op(a, AML_NOTIFY);
	aml_ref(a, slot_name(name, slot));
	aml_int(a, code);
	aml_end(a);
}

void acpi_hotplug_pci(struct aml *a)
{
	aml_port_region(a, "PHPR", BOARD_HOTPLUG_PORT + HOTPLUG_PCI_UP, 12);
	aml_field_begin(a, "PHPR", 4);
	aml_field_unit(a, "PUP", 32);
	aml_field_unit(a, "PDN", 32);
	aml_field_unit(a, "PEJ", 32);
	aml_end(a);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++)       /* 0: the host bridge */
		put_slot(a, slot);
	aml_method_begin(a, "PSCN", 0, true);
	put_copy(a, 0, "PUP", true);
	put_copy(a, 1, "PDN", true);
	put_copy(a, 0, "PUP", false);
	put_copy(a, 1, "PDN", false);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
		put_notify(a, 0, slot, NOTIFY_DEVICE_CHECK);
		put_notify(a, 1, slot, NOTIFY_EJECT_REQUEST);
	}
	aml_end(a);
}

void acpi_hotplug_events(struct aml *a)
{
	_Static_assert(ACPI_GPE_PCI == 1, "as in the method's name");
	aml_scope_begin(a, "\\_GPE");
	aml_method_begin(a, "_E01", 0, false);
	aml_ref(a, "\\_SB.PCI0.PSCN");
	aml_end(a);
	aml_end(a);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Slots, in ASL:
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

/* --- processors ---
 *
 *	Method (CSTA, 1) { Acquire (CLCK); CSEL = Arg0; Local0 = CFLG & 1; Release (CLCK); Return (Local0 * 15) }
 *	Method (CEJT, 1) { the same with CFLG = 8 }
 *	Method (CTFY, 2) { If (Arg0 == 1) { Notify (C001, Arg1) } ... }
 *	Method (CSCN) { for each: CSEL = Local0; Local1 = CFLG; If (Local1 & 2) { CFLG = 2; CTFY (Local0, 1) } the same with 4 and 3 } */

static const char *cpu_name(char buf[NAME_CAP], unsigned n)
{
	snprintf(buf, NAME_CAP, "C%03X", n & 0xfff);
	return buf;
}

static void put_store_int(struct aml *a, uint64_t v, const char *to)
{
	aml_op(a, AML_STORE);
	aml_int(a, v);
	aml_ref(a, to);
}

static void put_status_method(struct aml *a)
{
	aml_method_begin(a, "CSTA", 1, true);
	aml_acquire(a, "CLCK");
	aml_op(a, AML_STORE);
	aml_arg(a, 0);
	aml_ref(a, "CSEL");
	put_copy(a, 0, "CFLG", true);
	aml_release(a, "CLCK");
	aml_if_begin(a);
	aml_op(a, AML_AND);
	aml_local(a, 0);
	aml_int(a, HOTPLUG_CPU_PRESENT);
	aml_no_target(a);
	aml_op(a, AML_RETURN);
	aml_int(a, 0x0f);               /* present, enabled, shown, working */
	aml_end(a);
	aml_op(a, AML_RETURN);
	aml_int(a, 0);
	aml_end(a);
}

static void put_eject_method(struct aml *a)
{
	aml_method_begin(a, "CEJT", 1, true);
	aml_acquire(a, "CLCK");
	aml_op(a, AML_STORE);
	aml_arg(a, 0);
	aml_ref(a, "CSEL");
	put_store_int(a, HOTPLUG_CPU_EJECT, "CFLG");
	aml_release(a, "CLCK");
	aml_end(a);
}

static void put_notify_method(struct aml *a, unsigned n_cpus)
{
	char name[NAME_CAP];

	aml_method_begin(a, "CTFY", 2, false);
	for (unsigned i = 1; i < n_cpus; i++) {
		aml_if_begin(a);
		aml_op(a, AML_LEQUAL);
		aml_arg(a, 0);
		aml_int(a, i);
		aml_op(a, AML_NOTIFY);
		aml_ref(a, cpu_name(name, i));
		aml_arg(a, 1);
		aml_end(a);
	}
	aml_end(a);
}

/* If (Local1 & FLAG) { CFLG = FLAG; CTFY (Local0, CODE) } */
static void put_cpu_event(struct aml *a, unsigned flag, unsigned code)
{
	aml_if_begin(a);
	aml_op(a, AML_AND);
	aml_local(a, 1);
	aml_int(a, flag);
	aml_no_target(a);
	put_store_int(a, flag, "CFLG");
	aml_ref(a, "CTFY");
	aml_local(a, 0);
	aml_int(a, code);
	aml_end(a);
}

static void put_scan_method(struct aml *a, unsigned n_cpus)
{
	aml_method_begin(a, "CSCN", 0, true);
	aml_acquire(a, "CLCK");
	aml_op(a, AML_STORE);
	aml_int(a, 0);
	aml_local(a, 0);
	aml_while_begin(a);
	aml_op(a, AML_LLESS);
	aml_local(a, 0);
	aml_int(a, n_cpus);
	put_copy(a, 0, "CSEL", false);
	put_copy(a, 1, "CFLG", true);
	put_cpu_event(a, HOTPLUG_CPU_UP, NOTIFY_DEVICE_CHECK);
	put_cpu_event(a, HOTPLUG_CPU_DOWN, NOTIFY_EJECT_REQUEST);
	aml_op(a, AML_INCREMENT);
	aml_local(a, 0);
	aml_end(a);
	aml_release(a, "CLCK");
	aml_end(a);
}

void acpi_hotplug_cpus(struct aml *a, unsigned n_cpus)
{
	aml_mutex(a, "CLCK");
	aml_port_region(a, "CHPR", BOARD_HOTPLUG_PORT + HOTPLUG_CPU_SELECT, 8);
	aml_field_begin(a, "CHPR", 4);
	aml_field_unit(a, "CSEL", 32);
	aml_field_unit(a, "CFLG", 32);
	aml_end(a);
	put_status_method(a);
	put_eject_method(a);
	put_notify_method(a, n_cpus);
	put_scan_method(a, n_cpus);
}

void acpi_hotplug_cpu(struct aml *a, unsigned n)
{
	/* MADT entry (5.2.12.2): local APIC, 8 bytes, ids, enabled */
	const uint8_t mat[] = { 0, 8, (uint8_t)n, (uint8_t)n, 1, 0, 0, 0 };

	aml_method_begin(a, "_STA", 0, true);
	aml_op(a, AML_RETURN);
	aml_ref(a, "CSTA");
	aml_int(a, n);
	aml_end(a);
	aml_name(a, "_MAT");
	aml_buffer(a, mat, sizeof(mat));
	if (!n)
		return;                 /* the first one stays */
	aml_method_begin(a, "_EJ0", 1, true);
	aml_ref(a, "CEJT");
	aml_int(a, n);
	aml_end(a);
}

void acpi_hotplug_events(struct aml *a, bool has_pci, bool has_cpus)
{
	_Static_assert(ACPI_GPE_PCI == 1 && ACPI_GPE_CPU == 2, "as in the methods' names");
	aml_scope_begin(a, "\\_GPE");
	if (has_pci) {
		aml_method_begin(a, "_E01", 0, false);
		aml_ref(a, "\\_SB.PCI0.PSCN");
		aml_end(a);
	}
	if (has_cpus) {
		aml_method_begin(a, "_E02", 0, false);
		aml_ref(a, "\\_SB.CSCN");
		aml_end(a);
	}
	aml_end(a);
}

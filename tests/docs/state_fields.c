/* SPDX-License-Identifier: Apache-2.0 */
/* state_fields - print docs/devices/state-fields.md: every field that saved state can hold, by
 * walking the tables that save it (util/fields.h). */
#include <stdio.h>
#include <string.h>
#include "bus/pci.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/model.h"
#include "cpu/x86/state.h"
#include "dev/acpi.h"
#include "dev/hotplug.h"
#include "dev/fwcfg.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/kvmclock.h"
#include "dev/lapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pv.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "dev/vmgenid.h"
#include "util/checked.h"
#include "util/fields.h"
#include "virtio/console.h"
#include "virtio/device.h"
#include "virtio/mem.h"
#include "virtio/net.h"
#include "virtio/scsi.h"
#include "virtio/vsock.h"
#include "vm/machine_priv.h"
#include "vm/migrate_priv.h"

enum { SUBS_MAX = 8 };

static const struct {
	const struct state_desc *desc;
	const char *what;
} sections[] = {
	{ &machine_state_desc, "The machine as a whole" },
	{ &x86_cpuid_desc, "What CPUID tells the guest" },
	{ &x86_state_desc, "One processor, whatever engine runs it" },
	{ &x86_model_desc, "What all processors announce" },
	{ &lapic_state_desc, "Local APIC of one processor; engines with their own use get_lapic()" },
	{ &kvmclock_state_desc, "Paravirtual clock of one processor" },
	{ &pv_state_desc, "Steal time of one processor" },
	{ &kvmclock_base_desc, "What the paravirtual clocks share" },
	{ &ioapic_state_desc, "I/O APIC" },
	{ &pic_state_desc, "Both 8259A" },
	{ &pit_state_desc, "8254 and port 0x61" },
	{ &rtc_state_desc, "Real-time clock and CMOS memory" },
	{ &uart_state_desc, "16550A" },
	{ &i8042_state_desc, "Keyboard controller" },
	{ &fwcfg_state_desc, "Firmware configuration, where it is" },
	{ &acpi_state_desc, "ACPI fixed hardware and general-purpose events" },
	{ &vmgenid_state_desc, "The generation of the machine, and where the guest finds it" },
	{ &acpi_state_desc, "ACPI fixed hardware" },
	{ &hotplug_state_desc, "hot-plug registers" },
	{ &pci_root_state_desc, "The root bus" },
	{ &pci_state_desc, "One PCI function: configuration space, MSI-X" },
	{ &virtio_mem_state_desc, "virtio-mem" },
	{ &virtio_state_desc, "What all virtio devices have; blk, rng and balloon have no more" },
	{ &virtio_net_state_desc, "Receive filter and offloads" },
	{ &virtio_console_state_desc, "Ports" },
	{ &virtio_scsi_state_desc, "A drive for CDs and DVDs" },
	{ &virtio_vsock_state_desc, "Connections are not saved" },
	{ &machine_disk_desc, "The image behind a disk, or in a drive" },
	{ &migrate_saved_desc, "Only in a migration" },
};

static const char *const kinds[] = {
	[FIELD_U8] = "u8", [FIELD_U16] = "u16", [FIELD_U32] = "u32", [FIELD_U64] = "u64",
	[FIELD_BYTES] = "bytes", [FIELD_STRUCT] = "section",
};

static void print_section(const char *level, const struct state_desc *d, const char *what)
{
	const struct state_desc *subs[SUBS_MAX];
	unsigned n_subs = 0;

	printf("\n%s %s\n\n%s%sVersion %u, %zu bytes saved.\n\n| field | kind | count | since |\n|---|---|---|---|\n",
	       level, d->name, what, *what ? ". " : "", d->version, fields_saved_size(d));
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct field *f = &d->fields[i];
		bool is_new = f->kind == FIELD_STRUCT && n_subs < SUBS_MAX;

		printf("| `%s` | %s%s%s | %u | %u |\n", f->name, kinds[f->kind], f->sub ? " " : "",
		       f->sub ? f->sub->name : "", f->count, f->since);
		for (unsigned k = 0; k < n_subs; k++)
			is_new &= subs[k] != f->sub;
		if (is_new)
			subs[n_subs++] = f->sub;
	}
	for (unsigned k = 0; k < n_subs; k++)
		print_section("###", subs[k], "");
}

int main(void)
{
	printf("# Fields of saved state\n\n"
	       "Printed by `build/tests/docs/state_fields`; `tests/run docs` fails when this page is old.\n"
	       "[The encoding](../formats/state.md) says what stands around the fields. The sections that\n"
	       "follow a section with `###` are those that its fields contain.\n");
	for (size_t i = 0; i < ARRAY_LEN(sections); i++)
		print_section("##", sections[i].desc, sections[i].what);
	return 0;
}

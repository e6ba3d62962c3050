/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/acpi_tables.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "dev/acpi.h"
#include "dev/acpi_hotplug.h"
#include "dev/aml.h"
#include "dev/board.h"
#include "dev/ioapic.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"

enum {
	HEADER_LEN = 36, HEADER_CHECKSUM = 9,
	RSDP_LEN = 36, RSDP_V1_LEN = 20,
	FACS_LEN = 64, FADT_LEN = 276, MCFG_LEN = 60,
	TABLES_MAX = 4,                 /* that the XSDT can name */

	/* FADT (5.2.9): boot architecture and feature flags */
	BOOT_LEGACY = 1 << 0, BOOT_8042 = 1 << 1, BOOT_NO_VGA = 1 << 2, BOOT_NO_RTC = 1 << 5,
	FADT_WBINVD = 1 << 0, FADT_PROC_C1 = 1 << 2, FADT_NO_SLP_BUTTON = 1 << 5, FADT_NO_RTC_WAKE = 1 << 6,
	FADT_TMR_32BIT = 1 << 8, FADT_RESET = 1 << 10,
	GAS_IO = 1,

	/* MADT (5.2.12) */
	MADT_PCAT = 1, MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9,
	MADT_X2APIC_NMI = 10, MADT_ENABLED = 1, MADT_ONLINE_CAPABLE = 2, MADT_HIGH_LEVEL = 0x0d, MADT_XAPIC_MAX = 254,
};

/* All tables one after the other; addresses are GPA + offset. */
struct acpi_builder {
	uint8_t *buf;
	size_t cap, len;
	uint64_t gpa;
	bool is_full;
	unsigned n_tables;
	uint64_t table[TABLES_MAX];     /* addresses for the XSDT */
};

/* LEN zeroed bytes at a multiple of ALIGN; NULL when there is no room. */
static uint8_t *acpi_take(struct acpi_builder *b, size_t len, size_t align)
{
	size_t at = align_up(b->len, align);

	if (b->is_full || !range_fits(at, len, b->cap)) {
		b->is_full = true;
		return NULL;
	}
	memset(b->buf + b->len, 0, at + len - b->len);
	b->len = at + len;
	return b->buf + at;
}

static uint64_t acpi_addr(const struct acpi_builder *b, const uint8_t *p)
{
	return b->gpa + (uint64_t)(p - b->buf);
}

static uint8_t acpi_sum(const uint8_t *p, size_t len)
{
	uint8_t sum = 0;

	while (len--)
		sum += *p++;
	return sum;
}

/* Fill in the common header (5.2.6); the contents are there already. */
static void acpi_header(uint8_t *t, const char *sig, uint8_t revision, size_t len)
{
	memcpy(t, sig, 4);
	put_le32(t + 4, (uint32_t)len);
	t[8] = revision;
	memcpy(t + 10, "VIVARI", 6);
	memcpy(t + 16, "VIVARIUM", 8);
	put_le32(t + 24, 1);
	memcpy(t + 28, "VIV ", 4);
	put_le32(t + 32, 1);
	t[HEADER_CHECKSUM] = 0;
	t[HEADER_CHECKSUM] = (uint8_t)-acpi_sum(t, len);
}

static void acpi_list(struct acpi_builder *b, const uint8_t *t)
{
	if (t && b->n_tables < TABLES_MAX)
		b->table[b->n_tables++] = acpi_addr(b, t);
}

/* ---- DSDT ---- */

static void acpi_dsdt_pci(struct aml *a, const struct pci_layout *l)
{
	uint8_t buf[256];
	struct aml res;

	aml_init(&res, buf, sizeof(buf));
	aml_res_bus_window(&res, 0, 1);
	aml_res_io(&res, BOARD_PCI_CFG_PORT, BOARD_PCI_CFG_LEN);
	aml_res_io_window(&res, 0, BOARD_PCI_CFG_PORT);
	aml_res_io_window(&res, BOARD_PCI_CFG_PORT + BOARD_PCI_CFG_LEN,
			  0x10000 - BOARD_PCI_CFG_PORT - BOARD_PCI_CFG_LEN);
	if (l->mmio32_size)
		aml_res_memory32_window(&res, (uint32_t)l->mmio32_base, (uint32_t)l->mmio32_size);
	if (l->mmio64_size)
		aml_res_memory64_window(&res, l->mmio64_base, l->mmio64_size);

	aml_device_begin(a, "PCI0");
	aml_name_eisa_id(a, "_HID", "PNP0A08");
	aml_name_eisa_id(a, "_CID", "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	aml_name(a, "_CRS");
	aml_resources(a, &res);
	acpi_hotplug_pci(a);
	aml_end(a);

	/* the board's own registers: nobody may put anything there; a kernel uses ECAM only
	 * where it finds it reserved like this */
	aml_init(&res, buf, sizeof(buf));
	aml_res_memory32(&res, (uint32_t)l->ecam_base, PCI_SLOTS * 8 * PCI_CFG_SIZE);
	aml_res_io(&res, BOARD_PM_PORT, BOARD_PM_LEN);
	aml_res_io(&res, BOARD_GPE_PORT, BOARD_GPE_LEN);
	aml_res_io(&res, BOARD_HOTPLUG_PORT, BOARD_HOTPLUG_LEN);
	aml_device_begin(a, "MBRD");
	aml_name_eisa_id(a, "_HID", "PNP0C02");
	aml_name_int(a, "_UID", 0);
	aml_name(a, "_CRS");
	aml_resources(a, &res);
	aml_end(a);
}

/* A device with ports and an interrupt, as old as the PC. */
struct acpi_isa_dev {
	const char *name, *hid;
	uint16_t port[2];               /* 0: none */
	uint8_t len;
	uint8_t irq, uid;
};

static void acpi_dsdt_isa(struct aml *a, const struct acpi_isa_dev *d)
{
	uint8_t buf[64];
	struct aml res;

	aml_init(&res, buf, sizeof(buf));
	for (unsigned i = 0; i < 2; i++) {
		if (d->port[i])
			aml_res_io(&res, d->port[i], d->len);
	}
	aml_res_irq(&res, d->irq);
	aml_device_begin(a, d->name);
	aml_name_eisa_id(a, "_HID", d->hid);
	aml_name_int(a, "_UID", d->uid);
	aml_name(a, "_CRS");
	aml_resources(a, &res);
	aml_end(a);
}

static void acpi_dsdt_devices(struct aml *a, const struct acpi_tables_params *p)
{
	const struct {
		bool is_there;
		struct acpi_isa_dev d;
	} isa[] = {
		{ p->has_com1, { "COM1", "PNP0501", { BOARD_COM1_PORT }, BOARD_UART_LEN, BOARD_GSI_COM1, 1 } },
		{ p->has_com2, { "COM2", "PNP0501", { BOARD_COM2_PORT }, BOARD_UART_LEN, BOARD_GSI_COM2, 2 } },
		{ p->has_rtc, { "RTC", "PNP0B00", { BOARD_RTC_PORT }, BOARD_RTC_LEN, BOARD_GSI_RTC, 0 } },
		{ p->has_i8042,
		  { "KBD", "PNP0303", { BOARD_I8042_DATA_PORT, BOARD_I8042_CMD_PORT }, BOARD_I8042_LEN, 1, 0 } },
	};

	for (unsigned i = 0; i < ARRAY_LEN(isa); i++) {
		if (isa[i].is_there)
			acpi_dsdt_isa(a, &isa[i].d);
	}
}

/* Virtual Machine Generation ID: a package with the low and the high half of the address. */
static void acpi_dsdt_vmgenid(struct aml *a, uint64_t gpa)
{
	aml_device_begin(a, "VGEN");
	aml_name(a, "_HID");
	aml_string(a, "VIVA0001");
	aml_name(a, "_CID");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "_DDN");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "ADDR");
	aml_package_begin(a, 2);
	aml_int(a, (uint32_t)gpa);
	aml_int(a, gpa >> 32);
	aml_end(a);
	aml_end(a);
}

/* What an event means: _Exx handles general-purpose event xx, edge. */
static void acpi_dsdt_gpe(struct aml *a, const struct acpi_tables_params *p)
{
	_Static_assert(ACPI_GPE_VMGENID == 0, "_E00");

	aml_scope_begin(a, "\\_GPE");
	if (p->vmgenid) {
		aml_method_begin(a, "_E00", 0, false);
		aml_op(a, AML_NOTIFY);
		aml_ref(a, "\\_SB.VGEN");
		aml_int(a, 0x80);
		aml_end(a);
	}
	aml_end(a);
}

static void acpi_dsdt_body(struct aml *a, const struct acpi_tables_params *p)
{
	aml_scope_begin(a, "\\");
	aml_name(a, "_S5");
	aml_package_begin(a, 4);
	aml_int(a, ACPI_S5_TYPE);
	aml_int(a, ACPI_S5_TYPE);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
	aml_end(a);

	aml_scope_begin(a, "\\_SB");
	if (p->has_pci)
		acpi_dsdt_pci(a, &p->pci);
	acpi_dsdt_devices(a, p);
	if (p->vmgenid)
		acpi_dsdt_vmgenid(a, p->vmgenid);
	if (p->has_cpu_hotplug)
		acpi_hotplug_cpus(a, p->n_cpus);
	for (unsigned i = 0; i < p->n_cpus; i++) {
		char name[5];

		snprintf(name, sizeof(name), "C%03X", i & 0xfff);
		aml_device_begin(a, name);
		aml_name(a, "_HID");
		aml_string(a, "ACPI0007");
		aml_name_int(a, "_UID", i);
		if (p->has_cpu_hotplug)
			acpi_hotplug_cpu(a, i);
		aml_end(a);
	}
	aml_end(a);
	acpi_dsdt_gpe(a, p);
	if (p->has_pci || p->has_cpu_hotplug)
		acpi_hotplug_events(a, p->has_pci, p->has_cpu_hotplug);
}

static const uint8_t *acpi_dsdt(struct acpi_builder *b, const struct acpi_tables_params *p)
{
	uint8_t *t = acpi_take(b, HEADER_LEN, 16);
	struct aml a;

	if (!t)
		return NULL;
	aml_init(&a, b->buf + b->len, b->cap - b->len);
	acpi_dsdt_body(&a, p);

	long len = aml_finish(&a);

	if (len < 0) {
		b->is_full = true;
		return NULL;
	}
	b->len += (size_t)len;
	acpi_header(t, "DSDT", 2, HEADER_LEN + (size_t)len);    /* 2: integers have 64 bits */
	return t;
}

/* ---- FADT ---- */

/* Generic address (5.2.3.2) of an I/O port of BYTES bytes. */
static void acpi_put_gas(uint8_t *p, uint64_t port, unsigned bytes)
{
	p[0] = GAS_IO;
	p[1] = (uint8_t)(8 * bytes);
	p[2] = 0;
	p[3] = bytes == 1 ? 1 : bytes == 2 ? 2 : 3;     /* access size: byte, word, dword */
	put_le64(p + 4, port);
}

static void acpi_fadt(struct acpi_builder *b, const struct acpi_tables_params *p, uint64_t facs, uint64_t dsdt)
{
	uint8_t *t = acpi_take(b, FADT_LEN, 16);
	unsigned boot = BOOT_NO_VGA;

	if (!t)
		return;
	if (p->has_com1 || p->has_com2 || p->has_i8042)
		boot |= BOOT_LEGACY;
	if (p->has_i8042)
		boot |= BOOT_8042;
	if (!p->has_rtc)
		boot |= BOOT_NO_RTC;

	put_le32(t + 36, (uint32_t)facs);
	put_le32(t + 40, (uint32_t)dsdt);
	put_le16(t + 46, BOARD_GSI_SCI);
	/* 48: no SMI command port, so the machine is in ACPI mode for good */
	put_le32(t + 56, BOARD_PM_PORT + ACPI_PM1_EVT);
	put_le32(t + 64, BOARD_PM_PORT + ACPI_PM1_CNT);
	put_le32(t + 76, BOARD_PM_PORT + ACPI_PM_TMR);
	t[88] = 4;                              /* PM1_EVT_LEN */
	t[89] = 2;                              /* PM1_CNT_LEN */
	put_le32(t + 80, BOARD_GPE_PORT);
	t[91] = 4;                              /* PM_TMR_LEN */
	t[92] = BOARD_GPE_LEN;                  /* GPE0_BLK_LEN: status and enable */
	put_le16(t + 96, 0xfff);                /* no C2 */
	put_le16(t + 98, 0xfff);                /* no C3 */
	t[108] = p->has_rtc ? 0x32 : 0;         /* century byte of the RTC */
	put_le16(t + 109, (uint16_t)boot);
	put_le32(t + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLP_BUTTON | FADT_NO_RTC_WAKE | FADT_TMR_32BIT |
				  FADT_RESET);
	acpi_put_gas(t + 116, BOARD_RESET_PORT, 1);
	t[128] = ACPI_RESET_VALUE;
	t[131] = 4;                             /* minor version: 6.4 */
	put_le64(t + 140, dsdt);
	acpi_put_gas(t + 148, BOARD_PM_PORT + ACPI_PM1_EVT, 4);
	t[148 + 3] = 2;                         /* status and enable are words */
	acpi_put_gas(t + 172, BOARD_PM_PORT + ACPI_PM1_CNT, 2);
	acpi_put_gas(t + 208, BOARD_PM_PORT + ACPI_PM_TMR, 4);
	acpi_put_gas(t + 220, BOARD_GPE_PORT, BOARD_GPE_LEN);
	t[220 + 3] = 1;                         /* accessed by bytes */
	memcpy(t + 268, "VIVARIUM", 8);
	acpi_header(t, "FACP", 6, FADT_LEN);
	acpi_list(b, t);
}

static uint64_t acpi_facs(struct acpi_builder *b)
{
	uint8_t *t = acpi_take(b, FACS_LEN, 64);

	if (!t)
		return 0;
	memcpy(t, "FACS", 4);
	put_le32(t + 4, FACS_LEN);
	t[32] = 2;                              /* version */
	return acpi_addr(b, t);
}

/* ---- MADT ---- */

static void acpi_madt_cpu(struct acpi_builder *b, unsigned n, uint32_t flags)
{
	bool is_x2 = n > MADT_XAPIC_MAX;
	uint8_t *e = acpi_take(b, is_x2 ? 16 : 8, 1);

	if (!e)
		return;
	if (is_x2) {
		e[0] = MADT_X2APIC;
		e[1] = 16;
		put_le32(e + 4, n);
		put_le32(e + 8, flags);
		put_le32(e + 12, n);
	} else {
		e[0] = MADT_LAPIC;
		e[1] = 8;
		e[2] = e[3] = (uint8_t)n;
		put_le32(e + 4, flags);
	}
}

static bool acpi_cpu_is_present(const struct acpi_tables_params *p, unsigned n)
{
	return !p->has_cpu_hotplug || (n < 64 && p->cpus_present >> n & 1);
}

static void acpi_madt_override(struct acpi_builder *b, uint8_t irq, uint32_t gsi, uint16_t flags)
{
	uint8_t *e = acpi_take(b, 10, 1);

	if (!e)
		return;
	e[0] = MADT_OVERRIDE;
	e[1] = 10;
	e[3] = irq;                             /* bus 0: ISA */
	put_le32(e + 4, gsi);
	put_le16(e + 8, flags);
}

/* LINT1 of all processors is NMI. */
static void acpi_madt_nmi(struct acpi_builder *b, bool has_x2)
{
	uint8_t *e = acpi_take(b, 6, 1);

	if (!e)
		return;
	e[0] = MADT_LAPIC_NMI;
	e[1] = 6;
	e[2] = 0xff;
	e[5] = 1;
	if (!has_x2)
		return;
	e = acpi_take(b, 12, 1);
	if (!e)
		return;
	e[0] = MADT_X2APIC_NMI;
	e[1] = 12;
	put_le32(e + 4, 0xffffffff);
	e[8] = 1;
}

static void acpi_madt(struct acpi_builder *b, const struct acpi_tables_params *p)
{
	uint8_t *t = acpi_take(b, HEADER_LEN + 8, 16), *e;

	if (!t)
		return;
	put_le32(t + 36, BOARD_LAPIC_BASE);
	put_le32(t + 40, MADT_PCAT);            /* there is a pair of 8259As */
	for (unsigned i = 0; i < p->n_cpus; i++)
		acpi_madt_cpu(b, i, acpi_cpu_is_present(p, i) ? MADT_ENABLED : MADT_ONLINE_CAPABLE);
	e = acpi_take(b, 12, 1);
	if (!e)
		return;
	e[0] = MADT_IOAPIC;
	e[1] = 12;
	put_le32(e + 4, BOARD_IOAPIC_BASE);
	acpi_madt_override(b, 0, BOARD_GSI_PIT, 0);
	acpi_madt_override(b, BOARD_GSI_SCI, BOARD_GSI_SCI, MADT_HIGH_LEVEL);
	acpi_madt_nmi(b, p->n_cpus > MADT_XAPIC_MAX + 1);
	if (b->is_full)
		return;
	acpi_header(t, "APIC", 5, (size_t)(b->buf + b->len - t));
	acpi_list(b, t);
}

/* ---- the rest ---- */

static void acpi_mcfg(struct acpi_builder *b, uint64_t ecam)
{
	uint8_t *t = acpi_take(b, MCFG_LEN, 16);

	if (!t)
		return;
	put_le64(t + 44, ecam);                 /* segment 0, buses 0 to 0 */
	acpi_header(t, "MCFG", 1, MCFG_LEN);
	acpi_list(b, t);
}

static uint64_t acpi_xsdt(struct acpi_builder *b)
{
	size_t len = HEADER_LEN + 8 * b->n_tables;
	uint8_t *t = acpi_take(b, len, 16);

	if (!t)
		return 0;
	for (unsigned i = 0; i < b->n_tables; i++)
		put_le64(t + HEADER_LEN + 8 * i, b->table[i]);
	acpi_header(t, "XSDT", 1, len);
	return acpi_addr(b, t);
}

static void acpi_rsdp(uint8_t *t, uint64_t xsdt)
{
	memcpy(t, "RSD PTR ", 8);
	memcpy(t + 9, "VIVARI", 6);
	t[15] = 2;                              /* revision; no RSDT: every guest reads the XSDT */
	put_le32(t + 20, RSDP_LEN);
	put_le64(t + 24, xsdt);
	t[8] = (uint8_t)-acpi_sum(t, RSDP_V1_LEN);
	t[32] = (uint8_t)-acpi_sum(t, RSDP_LEN);
}

long acpi_tables_build(uint8_t *buf, size_t cap, uint64_t gpa, const struct acpi_tables_params *p,
		       struct err *err)
{
	struct acpi_builder b = { .buf = buf, .cap = cap, .gpa = gpa };

	if (!p->n_cpus || p->n_cpus > ACPI_CPUS_MAX)
		return err_set(err, -EINVAL, "ACPI tables for %u processors: from 1 to %d are possible", p->n_cpus,
			       ACPI_CPUS_MAX);
	if (gpa % 64 || !range_fits(gpa, cap, 1ull << 32))
		return err_set(err, -EINVAL, "ACPI tables cannot be at 0x%llx", (unsigned long long)gpa);

	uint8_t *rsdp = acpi_take(&b, RSDP_LEN, 16);
	uint64_t facs = acpi_facs(&b);
	const uint8_t *dsdt = acpi_dsdt(&b, p);

	if (dsdt)
		acpi_fadt(&b, p, facs, acpi_addr(&b, dsdt));
	acpi_madt(&b, p);
	if (p->has_pci)
		acpi_mcfg(&b, p->pci.ecam_base);

	uint64_t xsdt = acpi_xsdt(&b);

	if (b.is_full)
		return err_set(err, -ENOSPC, "ACPI tables do not fit in %zu bytes", cap);
	acpi_rsdp(rsdp, xsdt);
	return (long)b.len;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The script by which firmware places ACPI tables: carried out here as firmware does it. */
#include <string.h>
#include "dev/acpi_tables.h"
#include "test.h"
#include "util/endian.h"
#include "vm/firmware_loader.h"

#define PLACE 0x1fb00000u

static const struct acpi_tables_params params = {
	.vmgenid = 0xff000, .n_cpus = 4, .has_pci = true, .has_com1 = true, .has_rtc = true,
	.pci = { .ecam_base = 0xb0000000, .mmio32_base = 0xc0000000, .mmio32_size = 0x20000000,
		 .mmio64_base = 1ull << 38, .mmio64_size = 1ull << 36 },
};
static uint8_t script[FIRMWARE_LOADER_MAX], tables[ACPI_TABLES_MAX], rsdp[36], want[ACPI_TABLES_MAX];
static unsigned n_allocated;

static uint8_t *file(const uint8_t *name, size_t *len)
{
	bool is_rsdp = !strcmp((const char *)name, FIRMWARE_RSDP_FILE);

	CHECK(is_rsdp || !strcmp((const char *)name, FIRMWARE_TABLES_FILE));
	*len = is_rsdp ? sizeof(rsdp) : sizeof(tables);
	return is_rsdp ? rsdp : tables;
}

static void run_pointer(const uint8_t *e)
{
	size_t len;
	uint8_t *to = file(e, &len);
	uint32_t at = get_le32(e + 112);
	unsigned size = e[116];

	CHECK(!strcmp((const char *)e + 56, FIRMWARE_TABLES_FILE));
	CHECK((size == 4 || size == 8) && at + size <= len);
	if (size == 4)
		put_le32(to + at, get_le32(to + at) + PLACE);
	else
		put_le64(to + at, get_le64(to + at) + PLACE);
}

static void run_checksum(const uint8_t *e)
{
	size_t len;
	uint8_t *to = file(e, &len), sum = 0;
	uint32_t at = get_le32(e + 56), start = get_le32(e + 60), n = get_le32(e + 64);

	CHECK(start + n <= len && at >= start && at < start + n);
	for (uint32_t i = 0; i < n; i++)
		sum += to[start + i];
	to[at] = (uint8_t)(to[at] - sum);
}

static void run(size_t len)
{
	CHECK(len && len % FIRMWARE_LOADER_ENTRY == 0);
	n_allocated = 0;
	for (size_t i = 0; i < len; i += FIRMWARE_LOADER_ENTRY) {
		switch (get_le32(script + i)) {
		case 1: n_allocated++; break;
		case 2: run_pointer(script + i + 4); break;
		case 3: run_checksum(script + i + 4); break;
		default: FAIL("command %u", get_le32(script + i));
		}
	}
}

TEST(tables_that_firmware_places_are_those_built_for_that_place)
{
	long len = acpi_tables_build(tables, sizeof(tables), 0, &params, NULL);

	CHECK(len > 0);
	CHECK_EQ(acpi_tables_build(want, sizeof(want), PLACE, &params, NULL), len);
	size_t script_len = firmware_loader_for_tables(script, tables, (size_t)len);

	memcpy(rsdp, tables, sizeof(rsdp));
	run(script_len);
	CHECK_EQ(n_allocated, 2);
	CHECK(!memcmp(rsdp, want, sizeof(rsdp)));
	CHECK(!memcmp(tables + sizeof(rsdp), want + sizeof(rsdp), (size_t)len - sizeof(rsdp)));
}

TEST(the_script_for_tables_in_memory_places_the_root_pointer)
{
	run(firmware_loader_for_rsdp(script));
	CHECK_EQ(n_allocated, 1);
	CHECK(!strcmp((const char *)script + 4, FIRMWARE_RSDP_FILE));
	CHECK_EQ(script[64], 2);        /* where it is searched */
}

TEST(what_are_no_tables_gives_no_script)
{
	long len = acpi_tables_build(tables, sizeof(tables), 0, &params, NULL);

	CHECK(len > 0);
	CHECK_EQ(firmware_loader_for_tables(script, tables, 20), 0);
	CHECK_EQ(firmware_loader_for_tables(script, tables, (size_t)len - 1), 0);
	put_le64(tables + 24, UINT64_MAX - 3);
	CHECK_EQ(firmware_loader_for_tables(script, tables, (size_t)len), 0);
}

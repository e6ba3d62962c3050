/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/firmware_loader.h"

#include <stdbool.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"

enum {
	CMD_ALLOCATE = 1, CMD_ADD_POINTER = 2, CMD_ADD_CHECKSUM = 3,
	NAME_LEN = 56, ZONE_HIGH = 1, ZONE_FSEG = 2,
	/* ACPI 6.4 chapter 5 */
	RSDP_SUM = 8, RSDP_V1_LEN = 20, RSDP_XSDT = 24, RSDP_SUM_ALL = 32, RSDP_LEN = 36,
	TABLE_LEN_AT = 4, TABLE_SUM = 9, TABLE_HEADER = 36,
	FADT_FACS = 36, FADT_DSDT = 40, FADT_X_DSDT = 140, FADT_LEN_MIN = 148,
};

struct script {
	uint8_t *out;
	size_t len;
};

/* The next entry, or NULL when there is no room. */
static uint8_t *script_entry(struct script *s, uint32_t command)
{
	uint8_t *e = s->out + s->len;

	if (s->len + FIRMWARE_LOADER_ENTRY > FIRMWARE_LOADER_MAX)
		return NULL;
	memset(e, 0, FIRMWARE_LOADER_ENTRY);
	put_le32(e, command);
	s->len += FIRMWARE_LOADER_ENTRY;
	return e + 4;
}

static bool script_allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
	uint8_t *e = script_entry(s, CMD_ALLOCATE);

	if (!e)
		return false;
	strcpy((char *)e, file);
	put_le32(e + NAME_LEN, align);
	e[NAME_LEN + 4] = zone;
	return true;
}

/* SIZE bytes at AT of FILE get the address of the tables added. */
static bool script_pointer(struct script *s, const char *file, uint32_t at, uint8_t size)
{
	uint8_t *e = script_entry(s, CMD_ADD_POINTER);

	if (!e)
		return false;
	strcpy((char *)e, file);
	strcpy((char *)e + NAME_LEN, FIRMWARE_TABLES_FILE);
	put_le32(e + 2 * NAME_LEN, at);
	e[2 * NAME_LEN + 4] = size;
	return true;
}

/* The byte at AT becomes such that [START, START + LEN) of FILE, in which it lies, add up to 0. */
static bool script_checksum(struct script *s, const char *file, uint32_t at, uint32_t start, uint32_t len)
{
	uint8_t *e = script_entry(s, CMD_ADD_CHECKSUM);

	if (!e)
		return false;
	strcpy((char *)e, file);
	put_le32(e + NAME_LEN, at);
	put_le32(e + NAME_LEN + 4, start);
	put_le32(e + NAME_LEN + 8, len);
	return true;
}

/* The length of the table at AT, or 0 when none fits there. */
static uint32_t table_len(const uint8_t *tables, size_t len, uint64_t at)
{
	uint32_t n = range_fits(at, TABLE_HEADER, len) ? get_le32(tables + at + TABLE_LEN_AT) : 0;

	return n >= TABLE_HEADER && range_fits(at, n, len) ? n : 0;
}

static bool script_fadt(struct script *s, uint8_t *tables, uint32_t at, uint32_t len)
{
	if (len < FADT_LEN_MIN)
		return false;
	tables[at + TABLE_SUM] = 0;
	return script_pointer(s, FIRMWARE_TABLES_FILE, at + FADT_FACS, 4) &&
	       script_pointer(s, FIRMWARE_TABLES_FILE, at + FADT_DSDT, 4) &&
	       script_pointer(s, FIRMWARE_TABLES_FILE, at + FADT_X_DSDT, 8) &&
	       script_checksum(s, FIRMWARE_TABLES_FILE, at + TABLE_SUM, at, len);
}

/* The XSDT, and what it points to. */
static bool script_xsdt(struct script *s, uint8_t *tables, size_t tables_len, uint32_t at, uint32_t len)
{
	for (uint32_t i = TABLE_HEADER; i + 8 <= len; i += 8) {
		uint64_t table = get_le64(tables + at + i);
		uint32_t n = table_len(tables, tables_len, table);

		if (!n || !script_pointer(s, FIRMWARE_TABLES_FILE, at + i, 8))
			return false;
		if (!memcmp(tables + table, "FACP", 4) && !script_fadt(s, tables, (uint32_t)table, n))
			return false;
	}
	tables[at + TABLE_SUM] = 0;
	return script_checksum(s, FIRMWARE_TABLES_FILE, at + TABLE_SUM, at, len);
}

size_t firmware_loader_for_rsdp(uint8_t script[FIRMWARE_LOADER_MAX])
{
	struct script s = { .out = script };

	script_allocate(&s, FIRMWARE_RSDP_FILE, 16, ZONE_FSEG);
	return s.len;
}

size_t firmware_loader_for_tables(uint8_t script[FIRMWARE_LOADER_MAX], uint8_t *tables, size_t len)
{
	struct script s = { .out = script };
	uint64_t xsdt = len >= RSDP_LEN ? get_le64(tables + RSDP_XSDT) : 0;
	uint32_t n = table_len(tables, len, xsdt);

	if (!n || !script_allocate(&s, FIRMWARE_RSDP_FILE, 16, ZONE_FSEG) ||
	    !script_allocate(&s, FIRMWARE_TABLES_FILE, 64, ZONE_HIGH) || !script_xsdt(&s, tables, len, (uint32_t)xsdt, n))
		return 0;
	tables[RSDP_SUM] = tables[RSDP_SUM_ALL] = 0;
	if (!script_pointer(&s, FIRMWARE_RSDP_FILE, RSDP_XSDT, 8) ||
	    !script_checksum(&s, FIRMWARE_RSDP_FILE, RSDP_SUM, 0, RSDP_V1_LEN) ||
	    !script_checksum(&s, FIRMWARE_RSDP_FILE, RSDP_SUM_ALL, 0, RSDP_LEN))
		return 0;
	return s.len;
}

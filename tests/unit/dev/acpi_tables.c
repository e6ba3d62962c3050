/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/acpi_tables.h"
#include <stdlib.h>
#include <unistd.h>
#include "test.h"
#include "util/endian.h"
#include "util/err.h"

#define GPA 0xe0000

static uint8_t buf[ACPI_TABLES_MAX];

static const struct acpi_tables_params params = {
	.vmgenid = 0xff000, .n_cpus = 4, .has_pci = true, .has_com1 = true, .has_rtc = true, .has_i8042 = true,
	.pci = { .ecam_base = 0xe0000000, .mmio32_base = 0xc0000000, .mmio32_size = 0x20000000,
		 .mmio64_base = 1ull << 38, .mmio64_size = 1ull << 36 },
};

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	while (n--)
		s += *p++;
	return s;
}

/* The table called SIG, found as a guest does, checksum and bounds checked. */
static const uint8_t *find(long len, const char *sig, uint32_t *out_len)
{
	uint64_t xsdt = get_le64(buf + 24) - GPA;

	CHECK(!memcmp(buf, "RSD PTR ", 8) && sum(buf, 20) == 0 && sum(buf, 36) == 0);
	CHECK(xsdt + 36 <= (uint64_t)len);
	const uint8_t *x = buf + xsdt;
	uint32_t n = (get_le32(x + 4) - 36) / 8;

	CHECK_EQ(sum(x, get_le32(x + 4)), 0);
	for (uint32_t i = 0; i < n; i++) {
		const uint8_t *t = buf + (get_le64(x + 36 + 8 * i) - GPA);

		*out_len = get_le32(t + 4);
		CHECK(t + *out_len <= buf + len);
		CHECK_EQ(sum(t, *out_len), 0);
		if (!memcmp(t, sig, 4))
			return t;
	}
	return NULL;
}

TEST(tables_are_reached_from_the_root_and_sum_to_zero)
{
	long len = acpi_tables_build(buf, sizeof(buf), GPA, &params, NULL);
	uint32_t n;

	CHECK(len > 0);
	const uint8_t *fadt = find(len, "FACP", &n);

	CHECK(fadt && n == 276);
	const uint8_t *dsdt = buf + (get_le32(fadt + 40) - GPA), *facs = buf + (get_le32(fadt + 36) - GPA);

	CHECK(!memcmp(dsdt, "DSDT", 4) && !memcmp(facs, "FACS", 4));
	CHECK_EQ(sum(dsdt, get_le32(dsdt + 4)), 0);
	CHECK_EQ((facs - buf) % 64, 0);
	CHECK_EQ(get_le64(fadt + 140), get_le32(fadt + 40));
	CHECK(find(len, "MCFG", &n));
	CHECK(find(len, "APIC", &n));
}

TEST(the_generation_of_the_machine_has_a_device_and_an_event)
{
	long len = acpi_tables_build(buf, sizeof(buf), GPA, &params, NULL);
	static const uint8_t method[] = { '_', 'E', '0', '0', 0, 0x86, '\\', 0x2e, '_', 'S', 'B', '_', 'V', 'G', 'E', 'N', 0x0a, 0x80 };
	static const uint8_t addr[] = { 'A', 'D', 'D', 'R', 0x12, 8, 2, 0x0c, 0, 0xf0, 0x0f, 0, 0 };
	struct acpi_tables_params none = params;
	uint32_t n;

	CHECK(memmem(buf, (size_t)len, method, sizeof(method)));
	CHECK(memmem(buf, (size_t)len, addr, sizeof(addr)));
	const uint8_t *fadt = find(len, "FACP", &n);
	CHECK_EQ(get_le32(fadt + 80), 0x610);
	CHECK_EQ(fadt[92], 4);
	none.vmgenid = 0;
	len = acpi_tables_build(buf, sizeof(buf), GPA, &none, NULL);
	CHECK(!memmem(buf, (size_t)len, "VGEN", 4));
}

TEST(madt_names_every_processor_once_with_x2apic_entries_above_254)
{
	struct acpi_tables_params p = params;
	unsigned lapics = 0, x2 = 0, ioapics = 0, overrides = 0;
	uint32_t n;

	p.n_cpus = 300;
	long len = acpi_tables_build(buf, sizeof(buf), GPA, &p, NULL);
	CHECK(len > 0);
	const uint8_t *m = find(len, "APIC", &n);

	for (uint32_t at = 44; at < n; at += m[at + 1]) {
		CHECK(m[at + 1] >= 6);
		lapics += m[at] == 0;
		x2 += m[at] == 9;
		ioapics += m[at] == 1;
		overrides += m[at] == 2;
	}
	CHECK_EQ(lapics, 255);
	CHECK_EQ(x2, 45);
	CHECK_EQ(ioapics, 1);
	CHECK_EQ(overrides, 2);
}

TEST(too_little_room_is_an_error_at_every_size)
{
	struct err err = ERR_INIT;
	long len = acpi_tables_build(buf, sizeof(buf), GPA, &params, NULL);

	for (long cap = 0; cap < len; cap += 7) {
		uint8_t *small = malloc((size_t)cap + 1);

		CHECK(acpi_tables_build(small, (size_t)cap, GPA, &params, &err) < 0);
		free(small);
	}
	CHECK_HAS(err.msg, "do not fit");
	CHECK(acpi_tables_build(buf, sizeof(buf), 0xe0001, &params, NULL) < 0);
}

static void dump(const char *path, const uint8_t *t, size_t n)
{
	FILE *f = fopen(path, "wb");

	CHECK(f);
	CHECK_EQ(fwrite(t, 1, n, f), n);
	fclose(f);
}

TEST_SLOW(the_acpi_compiler_understands_every_table)
{
	static const char *const sigs[] = { "FACP", "APIC", "MCFG", "DSDT" };
	char dir[] = "/tmp/viv-acpi-XXXXXX", path[128], cmd[600];

	if (system("command -v iasl >/dev/null 2>&1"))
		SKIP("iasl (package acpica-tools) is not installed");
	CHECK(mkdtemp(dir));
	struct acpi_tables_params all = params;

	all.has_cpu_hotplug = true;
	all.cpus_present = 1;
	long len = acpi_tables_build(buf, sizeof(buf), GPA, &all, NULL);

	for (unsigned i = 0; i < 4; i++) {
		uint32_t n;
		const uint8_t *t = find(len, i == 3 ? "FACP" : sigs[i], &n);

		if (i == 3) {
			t = buf + (get_le32(t + 40) - GPA);
			n = get_le32(t + 4);
		}
		snprintf(path, sizeof(path), "%s/%s.dat", dir, sigs[i]);
		dump(path, t, n);
		/* take it apart; the DSDT must also compile again */
		snprintf(cmd, sizeof(cmd), "cd %s && iasl -d %s.dat >%s.log 2>&1 && test -s %s.dsl && "
			 "! grep -iE 'invalid|error[^s_ ]*:|warning' %s.log", dir, sigs[i], sigs[i], sigs[i], sigs[i]);
		CHECK_EQ(system(cmd), 0);
	}
	snprintf(cmd, sizeof(cmd), "cd %s && iasl -ve -oa DSDT.dsl >c.log 2>&1 && grep -q PNP0A08 DSDT.dsl && "
		 "grep -q _S5 DSDT.dsl && grep -q _E01 DSDT.dsl && grep -q _E02 DSDT.dsl && grep -q S31 DSDT.dsl && "
		 "grep -q C003 DSDT.dsl", dir);
	CHECK_EQ(system(cmd), 0);
	snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
	CHECK_EQ(system(cmd), 0);
}

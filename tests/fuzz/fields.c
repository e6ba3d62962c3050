/* SPDX-License-Identifier: Apache-2.0 */
/* Restoring saved state, which is hostile: a section with every kind of field, and those of real
 * devices with their checks. Input: which section; with bit 7 of that, changes to a good section (offset,
 * byte), else the section's bytes. */
#include "bus/pci.h"
#include "cpu/x86/state.h"
#include "dev/acpi.h"
#include "dev/hotplug.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/kvmclock.h"
#include "dev/lapic.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/rtc.h"
#include "dev/uart.h"
#include "fuzz.h"
#include "util/checked.h"
#include "util/err.h"
#include "virtio/device.h"

struct point { uint16_t x, y; };
struct all {
	uint8_t u8;
	uint16_t u16;
	uint32_t u32, array[3];
	uint64_t u64, later;
	uint8_t raw[5];
	struct point one, many[2];
};

static const struct field point_fields[] = { FIELD(struct point, x, 1), FIELD(struct point, y, 1) };
static const struct state_desc point_desc = {
	.name = "point", .version = 1, .size = sizeof(struct point), .n_fields = 2, .fields = point_fields,
};
static const struct field all_fields[] = {
	FIELD(struct all, u8, 1), FIELD(struct all, u16, 1), FIELD(struct all, u32, 1),
	FIELD_ARRAY(struct all, array, 1), FIELD(struct all, u64, 1), FIELD_RAW(struct all, raw, 1),
	FIELD_SUB(struct all, one, 1, &point_desc), FIELD_SUBS(struct all, many, 2, &point_desc),
	FIELD(struct all, later, 3),
};

static int all_check(void *state, struct err *err)
{
	return ((struct all *)state)->u8 == 0xff ? err_set(err, -22, "255 is impossible") : 0;
}

static const struct state_desc all_desc = {
	.name = "all", .version = 3, .size = sizeof(struct all), .n_fields = ARRAY_LEN(all_fields),
	.fields = all_fields, .check = all_check,
};

static const struct state_desc *const descs[] = {
	&all_desc, &lapic_state_desc, &ioapic_state_desc, &pic_state_desc, &pit_state_desc, &rtc_state_desc,
	&uart_state_desc, &i8042_state_desc, &acpi_state_desc, &hotplug_state_desc, &kvmclock_state_desc, &pci_state_desc,
	&virtio_state_desc, &vq_state_desc, &x86_state_desc,
};

static void count_line(void *arg, const char *line)
{
	*(size_t *)arg += strlen(line);
}

/* The section of STATE with the changes that the input wants; the caller frees it. */
static uint8_t *changed_section(struct fuzz *f, const struct state_desc *d, const void *state, size_t *len)
{
	uint8_t *buf;

	*len = fields_saved_size(d);
	buf = malloc(*len);
	FUZZ_CHECK(buf && fields_save(d, state, buf, *len) == (long)*len);
	while (f->left) {
		size_t at = fuzz_u16(f) % *len;

		buf[at] = fuzz_u8(f);
	}
	return buf;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	uint8_t which = fuzz_u8(&f), *changed = NULL;
	const struct state_desc *d = descs[(which & 0x7f) % ARRAY_LEN(descs)];
	size_t size = (d->size + 63u) & ~63u, chars = 0;
	uint8_t *s = aligned_alloc(64, size), *before = aligned_alloc(64, size);
	struct err err = ERR_INIT;

	FUZZ_CHECK(s && before);
	memset(s, which & 0x80 ? 0 : 0x5a, size);
	memcpy(before, s, size);
	if (which & 0x80) {
		changed = changed_section(&f, d, s, &len);
		f = (struct fuzz){ changed, len };
	}

	long n = fields_load(d, s, f.at, f.left, &err);

	if (n < 0) {
		FUZZ_CHECK(!memcmp(s, before, size));   /* all or nothing */
		FUZZ_CHECK(err.msg[0]);
	} else {
		size_t cap = fields_saved_size(d);
		uint8_t *out = malloc(cap);

		FUZZ_CHECK((size_t)n <= f.left && out);
		FUZZ_CHECK(fields_save(d, s, out, cap) == (long)cap);
		FUZZ_CHECK(fields_load(d, s, out, cap, NULL) == (long)cap);
		FUZZ_CHECK(cap == 0 || fields_save(d, s, out, cap - 1) < 0);
		fields_print(d, s, count_line, &chars);
		free(out);
	}
	free(changed);
	free(s);
	free(before);
	return 0;
}

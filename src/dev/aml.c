/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/aml.h"

#include <errno.h>
#include <string.h>
#include "util/endian.h"

/* Opcodes (ACPI 6.4 table 20.3) and resource tags (6.4.2, 6.4.3). */
enum {
	AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_DWORD = 0x0c,
	AML_STRING = 0x0d, AML_QWORD = 0x0e, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12,
	AML_METHOD = 0x14, AML_DUAL_NAME = 0x2e, AML_MULTI_NAME = 0x2f, AML_LOCAL0 = 0x60, AML_ARG0 = 0x68,
	AML_IF = 0xa0, AML_WHILE = 0xa2,
	AML_EXT = 0x5b, AML_EXT_MUTEX = 0x01, AML_EXT_ACQUIRE = 0x23, AML_EXT_RELEASE = 0x27, AML_EXT_REGION = 0x80,
	AML_EXT_FIELD = 0x81, AML_EXT_DEVICE = 0x82,
	METHOD_SERIALIZED = 1 << 3,
	REGION_IO = 1, FIELD_ZEROES = 2 << 5, ACQUIRE_FOREVER = 0xffff,

	RES_IRQ = 0x22, RES_IO = 0x47, RES_END = 0x79, RES_MEMORY32 = 0x86, RES_DWORD = 0x87,
	RES_WORD = 0x88, RES_QWORD = 0x8a,
	RES_TYPE_MEMORY = 0, RES_TYPE_IO = 1, RES_TYPE_BUS = 2,
	RES_FIXED_PRODUCER = 0x0c,      /* minimum and maximum fixed, positive decode, producer */
	RES_IO_ENTIRE = 3,              /* ISA and non-ISA ranges */
	RES_MEM_WRITABLE = 1, RES_MEM_PREFETCH = 3 << 1,
};

void aml_init(struct aml *a, uint8_t *buf, size_t cap)
{
	*a = (struct aml){ .buf = buf, .cap = cap };
}

long aml_finish(const struct aml *a)
{
	return a->is_broken || a->depth ? -ENOSPC : (long)a->len;
}

static void aml_bytes(struct aml *a, const void *p, size_t n)
{
	if (a->is_broken || n > a->cap - a->len) {
		a->is_broken = true;
		return;
	}
	memcpy(a->buf + a->len, p, n);
	a->len += n;
}

static void aml_le(struct aml *a, uint64_t v, unsigned n)
{
	uint8_t b[8];

	put_le64(b, v);
	aml_bytes(a, b, n);
}

static void aml_u8(struct aml *a, uint8_t v)
{
	aml_bytes(a, &v, 1);
}

/* One segment, filled up with '_'. */
static void aml_segment(struct aml *a, const char *name, size_t len)
{
	char seg[4] = { '_', '_', '_', '_' };

	a->is_broken |= !len || len > sizeof(seg);
	memcpy(seg, name, len < sizeof(seg) ? len : sizeof(seg));
	aml_bytes(a, seg, sizeof(seg));
}

/* An optional root character, how many segments there are unless it is one, and they. */
static void aml_path(struct aml *a, const char *name)
{
	unsigned n = 1;

	if (*name == '\\')
		aml_u8(a, (uint8_t)*name++);
	if (!*name) {
		aml_u8(a, 0);           /* the root itself */
		return;
	}
	for (const char *p = name; *p; p++)
		n += *p == '.';
	if (n == 2) {
		aml_u8(a, AML_DUAL_NAME);
	} else if (n > 2) {
		aml_u8(a, AML_MULTI_NAME);
		aml_u8(a, (uint8_t)n);
	}
	for (;;) {
		size_t len = strcspn(name, ".");

		aml_segment(a, name, len);
		if (!name[len])
			return;
		name += len + 1;
	}
}

static void aml_open(struct aml *a)
{
	if (a->depth == AML_DEPTH_MAX) {
		a->is_broken = true;
		return;
	}
	a->open[a->depth++] = a->len;
}

/* A length of TOTAL in N bytes (20.2.4). */
static void aml_encode_length(uint8_t enc[4], size_t total, size_t n)
{
	if (n == 1) {
		enc[0] = (uint8_t)total;
		return;
	}
	enc[0] = (uint8_t)((n - 1) << 6 | (total & 15));
	for (size_t i = 1; i < n; i++)
		enc[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
}

/* Insert the length before the body: it counts itself, in 1 to 4 bytes. */
void aml_end(struct aml *a)
{
	uint8_t enc[4];
	size_t n;

	if (a->is_broken || !a->depth) {
		a->is_broken = true;
		return;
	}
	size_t start = a->open[--a->depth], body = a->len - start;

	if (body + 1 < 1 << 6)
		n = 1;
	else
		n = body + 2 < 1 << 12 ? 2 : body + 3 < 1 << 20 ? 3 : 4;
	if (n > a->cap - a->len) {
		a->is_broken = true;
		return;
	}
	aml_encode_length(enc, body + n, n);
	memmove(a->buf + start + n, a->buf + start, body);
	memcpy(a->buf + start, enc, n);
	a->len += n;
}

void aml_scope_begin(struct aml *a, const char *name)
{
	aml_u8(a, AML_SCOPE);
	aml_open(a);
	aml_path(a, name);
}

void aml_device_begin(struct aml *a, const char *name)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_DEVICE);
	aml_open(a);
	aml_path(a, name);
}

void aml_package_begin(struct aml *a, uint8_t n_elements)
{
	aml_u8(a, AML_PACKAGE);
	aml_open(a);
	aml_u8(a, n_elements);
}

void aml_method_begin(struct aml *a, const char *name, unsigned n_args, bool is_serialized)
{
	aml_u8(a, AML_METHOD);
	aml_open(a);
	aml_path(a, name);
	aml_u8(a, (uint8_t)((n_args & 7) | (is_serialized ? METHOD_SERIALIZED : 0)));
}

/* ---- terms ---- */

void aml_op(struct aml *a, enum aml_op op)
{
	aml_u8(a, (uint8_t)op);
}

void aml_no_target(struct aml *a)
{
	aml_u8(a, 0);
}

void aml_local(struct aml *a, unsigned n)
{
	aml_u8(a, (uint8_t)(AML_LOCAL0 + n));
}

void aml_arg(struct aml *a, unsigned n)
{
	aml_u8(a, (uint8_t)(AML_ARG0 + n));
}

void aml_ref(struct aml *a, const char *name)
{
	aml_path(a, name);
}

void aml_if_begin(struct aml *a)
{
	aml_u8(a, AML_IF);
	aml_open(a);
}

void aml_while_begin(struct aml *a)
{
	aml_u8(a, AML_WHILE);
	aml_open(a);
}

void aml_mutex(struct aml *a, const char *name)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_MUTEX);
	aml_path(a, name);
	aml_u8(a, 0);                   /* level */
}

void aml_acquire(struct aml *a, const char *name)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_ACQUIRE);
	aml_path(a, name);
	aml_le(a, ACQUIRE_FOREVER, 2);
}

void aml_release(struct aml *a, const char *name)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_RELEASE);
	aml_path(a, name);
}

/* ---- fields ---- */

void aml_port_region(struct aml *a, const char *name, uint16_t base, uint8_t len)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_REGION);
	aml_path(a, name);
	aml_u8(a, REGION_IO);
	aml_int(a, base);
	aml_int(a, len);
}

void aml_field_begin(struct aml *a, const char *region, unsigned access)
{
	aml_u8(a, AML_EXT);
	aml_u8(a, AML_EXT_FIELD);
	aml_open(a);
	aml_path(a, region);
	/* access type: 1 byte, 2 word, 3 double word */
	aml_u8(a, (uint8_t)(FIELD_ZEROES | (access == 1 ? 1 : access == 2 ? 2 : 3)));
}

/* The length of a unit is in bits and does not count itself. */
static void aml_field_bits(struct aml *a, unsigned bits)
{
	size_t n = bits < 1 << 6 ? 1 : 2;
	uint8_t enc[4];

	aml_encode_length(enc, bits, n);
	aml_bytes(a, enc, n);
}

void aml_field_unit(struct aml *a, const char *name, unsigned bits)
{
	aml_segment(a, name, strlen(name));
	aml_field_bits(a, bits);
}

void aml_field_skip(struct aml *a, unsigned bits)
{
	aml_u8(a, 0);
	aml_field_bits(a, bits);
}

/* ---- objects ---- */

void aml_name(struct aml *a, const char *name)
{
	aml_u8(a, AML_NAME);
	aml_path(a, name);
}

void aml_int(struct aml *a, uint64_t v)
{
	if (v <= 1) {
		aml_u8(a, v ? AML_ONE : AML_ZERO);
	} else if (v <= 0xff) {
		aml_u8(a, AML_BYTE);
		aml_le(a, v, 1);
	} else if (v <= 0xffff) {
		aml_u8(a, AML_WORD);
		aml_le(a, v, 2);
	} else if (v <= 0xffffffff) {
		aml_u8(a, AML_DWORD);
		aml_le(a, v, 4);
	} else {
		aml_u8(a, AML_QWORD);
		aml_le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_u8(a, AML_STRING);
	aml_bytes(a, s, strlen(s) + 1);
}

static uint32_t aml_hex_digit(char c)
{
	return (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10) & 15;
}

/* Three letters of 5 bits and four hex digits, most significant first (EISA 3.1, 4.1). */
void aml_eisa_id(struct aml *a, const char *id)
{
	uint32_t v = 0;
	uint8_t b[4];

	if (strlen(id) != 7) {
		a->is_broken = true;
		return;
	}
	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | ((uint32_t)id[i] & 0x1f);
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | aml_hex_digit(id[i]);
	put_be32(b, v);
	aml_u8(a, AML_DWORD);
	aml_bytes(a, b, sizeof(b));
}

void aml_buffer(struct aml *a, const void *bytes, size_t len)
{
	aml_u8(a, AML_BUFFER);
	aml_open(a);
	aml_int(a, len);
	aml_bytes(a, bytes, len);
	aml_end(a);
}

void aml_resources(struct aml *a, const struct aml *res)
{
	if (res->is_broken)
		a->is_broken = true;
	aml_u8(a, AML_BUFFER);
	aml_open(a);
	aml_int(a, res->len + 2);
	aml_bytes(a, res->buf, res->len);
	aml_u8(a, RES_END);
	aml_u8(a, 0);                   /* checksum 0: not used */
	aml_end(a);
}

void aml_name_int(struct aml *a, const char *name, uint64_t v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_name_eisa_id(struct aml *a, const char *name, const char *id)
{
	aml_name(a, name);
	aml_eisa_id(a, id);
}

void aml_res_io(struct aml *a, uint16_t base, uint8_t len)
{
	aml_u8(a, RES_IO);
	aml_u8(a, 1);                   /* decodes 16 bits */
	aml_le(a, base, 2);
	aml_le(a, base, 2);
	aml_u8(a, 1);
	aml_u8(a, len);
}

void aml_res_irq(struct aml *a, unsigned irq)
{
	aml_u8(a, RES_IRQ);
	aml_le(a, 1u << irq, 2);
}

void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len)
{
	aml_u8(a, RES_MEMORY32);
	aml_le(a, 9, 2);
	aml_u8(a, RES_MEM_WRITABLE);
	aml_le(a, base, 4);
	aml_le(a, len, 4);
}

/* Address space descriptor with fields of WIDTH bytes: granularity 0, minimum, maximum,
 * translation 0, length. */
static void aml_res_window(struct aml *a, uint8_t tag, unsigned width, uint8_t type, uint8_t flags,
			   uint64_t base, uint64_t len)
{
	aml_u8(a, tag);
	aml_le(a, 3 + 5 * width, 2);
	aml_u8(a, type);
	aml_u8(a, RES_FIXED_PRODUCER);
	aml_u8(a, flags);
	aml_le(a, 0, width);
	aml_le(a, base, width);
	aml_le(a, base + len - 1, width);
	aml_le(a, 0, width);
	aml_le(a, len, width);
}

void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t len)
{
	aml_res_window(a, RES_WORD, 2, RES_TYPE_BUS, 0, first, len);
}

void aml_res_io_window(struct aml *a, uint16_t base, uint32_t len)
{
	aml_res_window(a, RES_WORD, 2, RES_TYPE_IO, RES_IO_ENTIRE, base, len);
}

void aml_res_memory32_window(struct aml *a, uint32_t base, uint32_t len)
{
	aml_res_window(a, RES_DWORD, 4, RES_TYPE_MEMORY, RES_MEM_WRITABLE, base, len);
}

void aml_res_memory64_window(struct aml *a, uint64_t base, uint64_t len)
{
	aml_res_window(a, RES_QWORD, 8, RES_TYPE_MEMORY, RES_MEM_WRITABLE | RES_MEM_PREFETCH, base, len);
}

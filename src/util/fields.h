/* SPDX-License-Identifier: Apache-2.0 */
/* fields.h - the guest-visible state of a device, described once by a table.
 *
 * Every device keeps what the guest can see in one plain struct (no pointers) and describes
 * it by a `struct state_desc`. Saving, restoring, printing and the device page of the manual
 * all walk that table, so they cannot drift apart. Wiring (backends, threads, irq lines) is
 * never described: it is rebuilt.
 *
 * Encoding (docs/formats/state.md): a section is {name, version, fields...}; a field is
 * {name, since, kind, count, little-endian elements}. A restore accepts any version up to
 * its own; fields newer than the saved version keep their reset value; unknown fields are
 * refused. Any thread; the caller owns the struct and stops its users. */
#ifndef UTIL_FIELDS_H
#define UTIL_FIELDS_H

#include <stddef.h>
#include <stdint.h>

struct err;

enum field_kind {
	FIELD_U8 = 1,   /* the values are part of the saved format */
	FIELD_U16,
	FIELD_U32,
	FIELD_U64,
	FIELD_BYTES,    /* opaque bytes of fixed length */
	FIELD_STRUCT,   /* COUNT elements of ELEM_SIZE bytes each, described by SUB */
};

struct state_desc;

struct field {
	const char *name;
	uint32_t offset;        /* in the struct */
	uint32_t count;         /* elements; 1 for a scalar; bytes for FIELD_BYTES */
	uint16_t since;         /* first version that has it */
	uint16_t kind;          /* enum field_kind */
	uint32_t elem_size;     /* FIELD_STRUCT only */
	const struct state_desc *sub;
};

struct state_desc {
	const char *name;       /* section name, also the field group's title in the manual */
	uint32_t version;       /* of this table; 1 at first */
	uint32_t size;          /* sizeof the struct */
	uint32_t n_fields;
	const struct field *fields;
	/* After a restore: refuse values that the guest could never have produced, recompute
	 * what is derived. NULL: nothing to check. */
	int (*check)(void *state, struct err *err);
};

#define FIELD_SIZE_(T, m) sizeof(((T *)0)->m)
#define FIELD_KIND_(T, m) (FIELD_SIZE_(T, m) == 1 ? FIELD_U8 : FIELD_SIZE_(T, m) == 2 ? FIELD_U16 : \
			   FIELD_SIZE_(T, m) == 4 ? FIELD_U32 : FIELD_U64)

/* A scalar, an array of scalars, opaque bytes, an embedded struct or array of structs. */
#define FIELD(T, m, since_) \
	{ #m, offsetof(T, m), 1, since_, FIELD_KIND_(T, m), 0, NULL }
#define FIELD_ARRAY(T, m, since_) \
	{ #m, offsetof(T, m), FIELD_SIZE_(T, m) / FIELD_SIZE_(T, m[0]), since_, FIELD_KIND_(T, m[0]), 0, NULL }
#define FIELD_RAW(T, m, since_) \
	{ #m, offsetof(T, m), FIELD_SIZE_(T, m), since_, FIELD_BYTES, 0, NULL }
#define FIELD_SUB(T, m, since_, sub_) \
	{ #m, offsetof(T, m), 1, since_, FIELD_STRUCT, FIELD_SIZE_(T, m), sub_ }
#define FIELD_SUBS(T, m, since_, sub_) \
	{ #m, offsetof(T, m), FIELD_SIZE_(T, m) / FIELD_SIZE_(T, m[0]), since_, FIELD_STRUCT, FIELD_SIZE_(T, m[0]), sub_ }

/* Bytes that fields_save() will write. */
size_t fields_saved_size(const struct state_desc *d);

/* Write STATE into BUF of CAP bytes. Returns the bytes written or -ENOSPC. */
long fields_save(const struct state_desc *d, const void *state, uint8_t *buf, size_t cap);

/* Read one section from BUF; STATE is changed only when the whole section is good. Returns
 * the bytes consumed or -EPROTO with a sentence. BUF is hostile. */
long fields_load(const struct state_desc *d, void *state, const uint8_t *buf, size_t len, struct err *err);

/* Print "name: value" lines for people through EMIT. */
void fields_print(const struct state_desc *d, const void *state,
		  void (*emit)(void *arg, const char *line), void *arg);

#endif

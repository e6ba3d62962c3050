/* SPDX-License-Identifier: Apache-2.0 */
/* aml.h - writes ACPI machine language (ACPI 6.4 chapter 20) and resource templates (6.4).
 *
 * Objects are written in order into the caller's buffer; what has a length is opened with a
 * _begin and closed with aml_end(). Running out of room is remembered and told by
 * aml_finish(), so that nothing needs a check in between. Names are segments of up to four
 * characters with '.' between them, after an optional '\'. One thread. */
#ifndef DEV_AML_H
#define DEV_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AML_DEPTH_MAX = 8 };

struct aml {
	uint8_t *buf;
	size_t cap, len;
	bool is_broken;                 /* out of room, or nested too deeply */
	unsigned depth;
	size_t open[AML_DEPTH_MAX];     /* where the length of each open object belongs */
};

void aml_init(struct aml *a, uint8_t *buf, size_t cap);
/* Bytes written, or -ENOSPC. Everything must be closed. */
long aml_finish(const struct aml *a);

void aml_scope_begin(struct aml *a, const char *name);
void aml_device_begin(struct aml *a, const char *name);
void aml_package_begin(struct aml *a, uint8_t n_elements);
void aml_method_begin(struct aml *a, const char *name, unsigned n_args, bool is_serialized);
void aml_end(struct aml *a);

/* Terms of methods. An operator is followed by its operands, each written by one of the calls here; a TARGET of
 * an operator is a local, a name, or aml_no_target(). */
enum aml_op {
	AML_STORE = 0x70,               /* source, target */
	AML_ADD = 0x72, AML_SUBTRACT = 0x74, AML_SHIFT_LEFT = 0x79, AML_AND = 0x7b, AML_OR = 0x7d, /* a, b, target */
	AML_INCREMENT = 0x75,           /* a local or a name */
	AML_NOTIFY = 0x86,              /* object, number */
	AML_LNOT = 0x92,                /* a */
	AML_LEQUAL = 0x93, AML_LLESS = 0x95, AML_LGREATER = 0x94, /* a, b */
	AML_RETURN = 0xa4,              /* value */
};
void aml_op(struct aml *a, enum aml_op op);
void aml_no_target(struct aml *a);
void aml_local(struct aml *a, unsigned n);              /* 0..7 */
void aml_arg(struct aml *a, unsigned n);                /* 0..6 */
/* A named object, or a call of the method of that name, whose arguments follow. */
void aml_ref(struct aml *a, const char *name);
void aml_if_begin(struct aml *a);                       /* the condition follows, then what is done */
void aml_while_begin(struct aml *a);                    /* the same */
/* A lock of methods; acquired for as long as it takes. */
void aml_mutex(struct aml *a, const char *name);
void aml_acquire(struct aml *a, const char *name);
void aml_release(struct aml *a, const char *name);

/* I/O ports as fields: a region, then aml_field_begin(REGION, bytes of an access) with its units in order of their
 * places. What a write does not name is written as zeroes. */
void aml_port_region(struct aml *a, const char *name, uint16_t base, uint8_t len);
void aml_field_begin(struct aml *a, const char *region, unsigned access);
void aml_field_unit(struct aml *a, const char *name, unsigned bits);
void aml_field_skip(struct aml *a, unsigned bits);

/* Name(NAME, ...): the value follows as the next object. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);          /* ASCII */
void aml_eisa_id(struct aml *a, const char *id);        /* "PNP0A08" */
void aml_buffer(struct aml *a, const void *bytes, size_t len);
/* A resource template, built with the calls below in its own struct aml, as a buffer. */
void aml_resources(struct aml *a, const struct aml *res);

void aml_name_int(struct aml *a, const char *name, uint64_t v);
void aml_name_eisa_id(struct aml *a, const char *name, const char *id);

/* Resource descriptors. */
void aml_res_io(struct aml *a, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *a, unsigned irq);          /* edge, active high, exclusive; 0..15 */
void aml_res_memory32(struct aml *a, uint32_t base, uint32_t len);
/* Windows that a bridge hands on; LEN > 0. */
void aml_res_bus_window(struct aml *a, uint16_t first, uint16_t len);
void aml_res_io_window(struct aml *a, uint16_t base, uint32_t len);
void aml_res_memory32_window(struct aml *a, uint32_t base, uint32_t len);
void aml_res_memory64_window(struct aml *a, uint64_t base, uint64_t len);

#endif

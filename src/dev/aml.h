/* SPDX-License-Identifier: Apache-2.0 */
/* aml.h - writes ACPI machine language (ACPI 6.4 chapter 20) and resource templates (6.4).
 *
 * Objects are written in order into the caller's buffer; what has a length is opened with a
 * _begin and closed with aml_end(). Running out of room is remembered and told by
 * aml_finish(), so that nothing needs a check in between. A path is segments of up to four characters
 * with '.' between them, after '\' or not. One thread. */
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
void aml_method_begin(struct aml *a, const char *name, uint8_t n_args);      /* not serialised; 0..7 arguments */
void aml_end(struct aml *a);

/* Name(NAME, ...): the value follows as the next object. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, uint64_t v);
void aml_string(struct aml *a, const char *s);          /* ASCII */
void aml_eisa_id(struct aml *a, const char *id);        /* "PNP0A08" */
/* In a method: Notify(PATH, VALUE). */
void aml_notify(struct aml *a, const char *path, uint8_t value);
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

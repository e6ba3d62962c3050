/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of a section, all little-endian:
 *
 *	u8 name length, name, u32 version, u32 length of what follows, fields
 *	field: u8 name length, name, u16 since, u8 kind, u32 count, elements
 *
 * Elements are integers of their width, raw bytes, or (FIELD_STRUCT) whole sections. Fields
 * stand in the order of the table; a reader that knows a newer table skips in its own table
 * what the saved version did not have. */
#include "util/fields.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/reader.h"

enum { MAX_DEPTH = 4, STATE_ALIGN = 64, LINE_LEN = 256, PATH_LEN = 128, BYTES_PER_LINE = 32 };

static const uint8_t elem_width[] = {
	[FIELD_U8] = 1, [FIELD_U16] = 2, [FIELD_U32] = 4, [FIELD_U64] = 8, [FIELD_BYTES] = 1,
};

static size_t fields_head_size(const char *name, size_t fixed)
{
	return 1 + strlen(name) + fixed;
}

static size_t fields_body_size(const struct state_desc *d)
{
	size_t n = 0;

	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct field *f = &d->fields[i];

		n += fields_head_size(f->name, 2 + 1 + 4);
		n += f->count * (f->kind == FIELD_STRUCT ? fields_saved_size(f->sub) : elem_width[f->kind]);
	}
	return n;
}

size_t fields_saved_size(const struct state_desc *d)
{
	return fields_head_size(d->name, 4 + 4) + fields_body_size(d);
}

static uint8_t *fields_put_name(uint8_t *p, const char *name)
{
	size_t n = strlen(name);

	*p++ = (uint8_t)n;
	memcpy(p, name, n);
	return p + n;
}

/* The host is little-endian (util/endian.h), so elements are their own encoding. */
static uint8_t *fields_put(const struct state_desc *d, const uint8_t *state, uint8_t *p)
{
	p = fields_put_name(p, d->name);
	put_le32(p, d->version);
	put_le32(p + 4, (uint32_t)fields_body_size(d));
	p += 8;
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct field *f = &d->fields[i];

		p = fields_put_name(p, f->name);
		put_le16(p, f->since);
		p[2] = (uint8_t)f->kind;
		put_le32(p + 3, f->count);
		p += 7;
		if (f->kind == FIELD_STRUCT) {
			for (uint32_t e = 0; e < f->count; e++)
				p = fields_put(f->sub, state + f->offset + (size_t)e * f->elem_size, p);
			continue;
		}
		size_t len = (size_t)f->count * elem_width[f->kind];
		memcpy(p, state + f->offset, len);
		p += len;
	}
	return p;
}

long fields_save(const struct state_desc *d, const void *state, uint8_t *buf, size_t cap)
{
	if (fields_saved_size(d) > cap)
		return -ENOSPC;
	return fields_put(d, state, buf) - buf;
}

/* --- reading: the buffer is hostile --- */

/* The next name is NAME. */
static int reader_expect_name(struct reader *r, const char *what, const char *name, struct err *err)
{
	const uint8_t *len = reader_take(r, 1);
	const uint8_t *s = len ? reader_take(r, *len) : NULL;

	if (!s)
		return err_set(err, -EPROTO, "saved state ends before %s '%s'", what, name);
	if (*len == strlen(name) && !memcmp(s, name, *len))
		return 0;
	char shown[64];
	size_t n = *len < sizeof(shown) - 1 ? *len : sizeof(shown) - 1;
	for (size_t i = 0; i < n; i++)
		shown[i] = s[i] >= 0x20 && s[i] < 0x7f ? (char)s[i] : '?';
	shown[n] = '\0';
	return err_set(err, -EPROTO, "saved state has '%s' where %s '%s' belongs", shown, what, name);
}

static int fields_get(const struct state_desc *d, uint8_t *state, struct reader *r, int depth, struct err *err);

static int fields_get_field(const struct field *f, uint8_t *state, struct reader *r, int depth, struct err *err)
{
	int ret = reader_expect_name(r, "field", f->name, err);
	const uint8_t *h;

	if (ret < 0)
		return ret;
	h = reader_take(r, 7);
	if (!h)
		return err_set(err, -EPROTO, "saved state ends in the header of field '%s'", f->name);
	if (get_le16(h) != f->since || h[2] != f->kind || get_le32(h + 3) != f->count)
		return err_set(err, -EPROTO, "field '%s' was saved with another shape (kind %u, %" PRIu32 " elements)",
			       f->name, h[2], get_le32(h + 3));
	if (f->kind == FIELD_STRUCT) {
		for (uint32_t e = 0; e < f->count; e++) {
			ret = fields_get(f->sub, state + f->offset + (size_t)e * f->elem_size, r, depth + 1, err);
			if (ret < 0)
				return err_wrap(err, ret, "%s[%" PRIu32 "]", f->name, e);
		}
		return 0;
	}
	size_t len = (size_t)f->count * elem_width[f->kind];
	const uint8_t *p = reader_take(r, len);
	if (!p)
		return err_set(err, -EPROTO, "saved state ends in field '%s'", f->name);
	memcpy(state + f->offset, p, len);
	return 0;
}

static int fields_get(const struct state_desc *d, uint8_t *state, struct reader *r, int depth, struct err *err)
{
	int ret = reader_expect_name(r, "section", d->name, err);
	const uint8_t *h;

	if (ret < 0)
		return ret;
	h = reader_take(r, 8);
	if (!h)
		return err_set(err, -EPROTO, "saved state ends in the header of section '%s'", d->name);
	uint32_t version = get_le32(h), len = get_le32(h + 4);
	if (depth > MAX_DEPTH)
		return err_set(err, -EPROTO, "saved state is nested too deep");
	if (!version || version > d->version)
		return err_set(err, -EPROTO, "section '%s' has version %" PRIu32 ", this program knows 1 to %" PRIu32,
			       d->name, version, d->version);
	struct reader body = { reader_take(r, len), len };
	if (!body.p)
		return err_set(err, -EPROTO, "saved state ends in section '%s'", d->name);
	for (uint32_t i = 0; i < d->n_fields; i++) {
		if (d->fields[i].since > version)
			continue;
		ret = fields_get_field(&d->fields[i], state, &body, depth, err);
		if (ret < 0)
			return err_wrap(err, ret, "section '%s'", d->name);
	}
	if (body.left)
		return err_set(err, -EPROTO, "section '%s' has %zu bytes too many", d->name, body.left);
	return d->check ? d->check(state, err) : 0;
}

long fields_load(const struct state_desc *d, void *state, const uint8_t *buf, size_t len, struct err *err)
{
	struct reader r = { buf, len };
	AUTO(free) uint8_t *copy = aligned_alloc(STATE_ALIGN, align_up(d->size, STATE_ALIGN));

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	memcpy(copy, state, d->size);
	int ret = fields_get(d, copy, &r, 0, err);
	if (ret < 0)
		return ret;
	memcpy(state, copy, d->size);
	return (long)(len - r.left);
}

/* --- printing --- */

struct printer {
	void (*emit)(void *arg, const char *line);
	void *arg;
};

static uint64_t fields_elem(const uint8_t *p, unsigned width)
{
	uint64_t v = 0;

	memcpy(&v, p, width);
	return v;
}

static void fields_print_values(const struct printer *pr, const char *path, const struct field *f,
				const uint8_t *p)
{
	unsigned width = elem_width[f->kind];
	bool is_bytes = f->kind == FIELD_BYTES;
	uint32_t per_line = is_bytes ? BYTES_PER_LINE : BYTES_PER_LINE / 4;
	char line[LINE_LEN];

	if (f->count == 1) {
		snprintf(line, sizeof(line), "%s: 0x%" PRIx64, path, fields_elem(p, width));
		pr->emit(pr->arg, line);
		return;
	}
	for (uint32_t i = 0; i < f->count; i += per_line) {
		int n = snprintf(line, sizeof(line), "%s[%" PRIu32 "]:", path, i);

		for (uint32_t e = i; e < f->count && e < i + per_line && n < (int)sizeof(line); e++) {
			n += snprintf(line + n, sizeof(line) - (size_t)n, is_bytes ? " %02" PRIx64 : " 0x%" PRIx64,
				      fields_elem(p + (size_t)e * width, width));
		}
		pr->emit(pr->arg, line);
	}
}

static void fields_print_at(const struct printer *pr, const char *prefix, const struct state_desc *d,
			    const uint8_t *state)
{
	for (uint32_t i = 0; i < d->n_fields; i++) {
		const struct field *f = &d->fields[i];
		char path[PATH_LEN];

		if (f->kind != FIELD_STRUCT) {
			snprintf(path, sizeof(path), "%s%s", prefix, f->name);
			fields_print_values(pr, path, f, state + f->offset);
			continue;
		}
		for (uint32_t e = 0; e < f->count; e++) {
			if (f->count == 1)
				snprintf(path, sizeof(path), "%s%s.", prefix, f->name);
			else
				snprintf(path, sizeof(path), "%s%s[%" PRIu32 "].", prefix, f->name, e);
			fields_print_at(pr, path, f->sub, state + f->offset + (size_t)e * f->elem_size);
		}
	}
}

void fields_print(const struct state_desc *d, const void *state,
		  void (*emit)(void *arg, const char *line), void *arg)
{
	struct printer pr = { emit, arg };

	fields_print_at(&pr, "", d, state);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the file of a saved machine; state_file.c reads it. */
#include <errno.h>
#include <string.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_file.h"
#include "vm/state_format.h"
#include "vm/state_memory.h"
#include "vm/state_rows.h"

struct writer {
	int fd;
	uint64_t ram;
	enum state_packing packing;
	struct state_progress *progress;
	uint64_t at;                    /* behind guest memory */
};

/* --- sections --- */

void state_sections_fini(struct state_sections *s)
{
	free(s->buf);
	*s = (struct state_sections){ .buf = NULL };
}

uint8_t *state_sections_grow(struct state_sections *s, size_t n)
{
	if (s->is_broken || n > STATE_SECTIONS_MAX - s->len) {
		s->is_broken = true;
		return NULL;
	}
	if (s->len + n > s->cap) {
		size_t cap = 2 * (s->len + n);
		uint8_t *p = realloc(s->buf, cap);

		s->is_broken = !p;
		if (!p)
			return NULL;
		s->buf = p;
		s->cap = cap;
	}
	s->len += n;
	return s->buf + s->len - n;
}

void state_sections_add(struct state_sections *s, const char *tag, const void *data, size_t len)
{
	size_t n = strlen(tag);
	uint8_t *p = state_sections_grow(s, 1 + n + 4 + len + 4);

	if (!p)
		return;
	p[0] = (uint8_t)n;
	memcpy(p + 1, tag, n);
	put_le32(p + 1 + n, (uint32_t)len);
	if (len)
		memcpy(p + 1 + n + 4, data, len);
	put_le32(p + 1 + n + 4 + len, crc32c(0, p, 1 + n + 4 + len));
}

void state_sections_add_fields(struct state_sections *s, const char *tag, const struct state_desc *d, const void *state)
{
	size_t len = fields_saved_size(d);
	AUTO(free) uint8_t *buf = malloc(len);

	if (!buf || fields_save(d, state, buf, len) < 0)
		s->is_broken = true;
	else
		state_sections_add(s, tag, buf, len);
}

/* --- the whole --- */

static int write_ends(struct writer *w, const struct state_sections *s, struct err *err)
{
	uint64_t memory_len = w->at - STATE_MEMORY_OFF, file_len = w->at + s->len + sizeof(struct state_end);
	struct state_header h = {
		.magic = "", .version = le32_of(STATE_VERSION), .file_len = le64_of(file_len),
		.memory_off = le64_of(STATE_MEMORY_OFF), .memory_len = le64_of(memory_len), .ram = le64_of(w->ram),
		.sections_off = le64_of(w->at), .sections_len = le32_of((uint32_t)s->len), .packing = le32_of(w->packing),
	};
	memcpy(h.magic, STATE_MAGIC, sizeof(h.magic));
	h.crc = le32_of(crc32c(0, &h, sizeof(h)));
	struct state_end end = { .header_crc = h.crc };
	memcpy(end.magic, STATE_END_MAGIC, sizeof(end.magic));

	int r = state_write_all(w->fd, s->buf, s->len, w->at, err);
	if (!r)
		r = state_write_all(w->fd, &end, sizeof(end), w->at + s->len, err);
	if (!r)
		r = state_write_all(w->fd, &h, sizeof(h), 0, err);
	w->progress->file += s->len + sizeof(end) + sizeof(h);
	return r;
}

int state_write(int fd, const struct gmem *mem, enum state_packing packing, struct state_sections *s,
		struct state_progress *progress, struct err *err)
{
	struct writer w = { .fd = fd, .ram = mem->size, .packing = packing, .progress = progress };
	struct state_sections table = { .buf = NULL };
	int r = state_memory_write(fd, mem, packing, &table, progress, &w.at, err);

	if (!r)
		state_sections_add(s, STATE_TABLE_TAG, table.buf, table.len);
	if (!r && (s->is_broken || table.is_broken))
		r = err_set(err, -ENOMEM, "out of memory for saved state");
	if (!r)
		r = write_ends(&w, s, err);
	state_sections_fini(&table);
	return r;
}

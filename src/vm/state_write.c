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
#include "vm/state_seal.h"

struct writer {
	int fd;
	uint64_t ram;
	enum state_packing packing;
	const struct state_seal *seal;
	struct state_progress *progress;
	uint64_t at;                    /* behind guest memory */
};

/* --- sections --- */

void state_sections_fini(struct state_sections *s)
{
	free(s->buf);
	*s = (struct state_sections){ .buf = NULL };
}

static bool sections_resize(struct state_sections *s, size_t cap)
{
	uint8_t *p = realloc(s->buf, cap);

	if (!p)
		return false;
	s->buf = p;
	s->cap = cap;
	return true;
}

void state_sections_reserve(struct state_sections *s, size_t len)
{
	if (len > s->cap - s->len && sections_resize(s, s->len + len))
		memset(s->buf + s->len, 0, len);        /* the host's memory, too */
}

uint8_t *state_sections_grow(struct state_sections *s, size_t n)
{
	if (s->is_broken || n > STATE_SECTIONS_MAX - s->len) {
		s->is_broken = true;
		return NULL;
	}
	if (s->len + n > s->cap && !sections_resize(s, 2 * (s->len + n))) {
		s->is_broken = true;
		return NULL;
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

/* What stands at the beginning of the file, without its checksum. */
static struct state_head make_head(const struct writer *w, size_t sections_len)
{
	struct state_head head = { .header = {
		.version = le32_of(w->seal ? STATE_VERSION_SEALED : STATE_VERSION),
		.file_len = le64_of(w->at + sections_len + sizeof(struct state_end)),
		.memory_off = le64_of(STATE_MEMORY_OFF), .memory_len = le64_of(w->at - STATE_MEMORY_OFF),
		.ram = le64_of(w->seal ? 0 : w->ram),
		.sections_off = le64_of(w->at), .sections_len = le32_of((uint32_t)sections_len), .packing = le32_of(w->packing),
	} };

	memcpy(head.header.magic, STATE_MAGIC, sizeof(head.header.magic));
	if (w->seal)
		head.lock = *state_seal_lock(w->seal);
	return head;
}

/* Encrypt what is in S, in its place; HEAD belongs to it. */
static int seal_sections(const struct writer *w, struct state_sections *s, const struct state_head *head, struct err *err)
{
	struct state_sealer x = { NULL };
	size_t len = s->len;

	if (!state_sections_grow(s, STATE_SEAL_TAG))
		return err_set(err, -ENOMEM, "out of memory for saved state");
	int r = state_sealer_init(&x, w->seal, err);

	if (!r)
		r = state_seal_piece(&x, STATE_PIECE_SECTIONS, 0, head, sizeof(*head), s->buf, s->buf, len, err);
	state_sealer_fini(&x);
	return r;
}

static int write_ends(struct writer *w, struct state_sections *s, struct err *err)
{
	size_t head_len = w->seal ? sizeof(struct state_head) : sizeof(struct state_header);
	struct state_head head = make_head(w, s->len + (w->seal ? STATE_SEAL_TAG : 0));

	head.header.crc = le32_of(crc32c(0, &head.header, sizeof(head.header)));
	struct state_end end = { .header_crc = head.header.crc };
	memcpy(end.magic, STATE_END_MAGIC, sizeof(end.magic));

	int r = w->seal ? seal_sections(w, s, &head, err) : 0;
	if (!r)
		r = state_write_all(w->fd, s->buf, s->len, w->at, err);
	if (!r)
		r = state_write_all(w->fd, &end, sizeof(end), w->at + s->len, err);
	if (!r)
		r = state_write_all(w->fd, &head, head_len, 0, err);
	w->progress->file += s->len + sizeof(end) + head_len;
	return r;
}

int state_write(int fd, const struct gmem *mem, enum state_packing packing, const struct state_seal *seal, struct state_sections *s,
		struct state_progress *progress, struct err *err)
{
	struct writer w = { .fd = fd, .ram = mem->size, .packing = packing, .seal = seal, .progress = progress };
	le64 ram = le64_of(mem->size);
	struct state_sections table = { .buf = NULL };
	int r = state_memory_write(fd, mem, packing, seal, &table, progress, &w.at, err);

	if (!r && seal)
		state_sections_add(s, STATE_RAM_TAG, &ram, sizeof(ram));
	if (!r)
		state_sections_add(s, STATE_TABLE_TAG, table.buf, table.len);
	if (!r && (s->is_broken || table.is_broken))
		r = err_set(err, -ENOMEM, "out of memory for saved state");
	if (!r)
		r = write_ends(&w, s, err);
	state_sections_fini(&table);
	return r;
}

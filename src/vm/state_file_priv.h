/* SPDX-License-Identifier: Apache-2.0 */
/* state_file_priv.h - between the files that read a saved machine: state_file.c (header and sections) and state_unpack.c
 * (guest memory). */
#ifndef VM_STATE_FILE_PRIV_H
#define VM_STATE_FILE_PRIV_H

#include <string.h>
#include "vm/state_file.h"
#include "vm/state_format.h"

enum { TAGS_MAX = 1024 };

struct state_tag {
	const char *name;               /* not ended by a NUL */
	size_t name_len;
	const uint8_t *data;
	size_t len;
	bool is_used;
};

struct state_file {
	int fd;
	char *name;
	uint64_t file_len, memory_off, memory_len, ram;
	enum state_packing packing;
	struct state_seal *seal;        /* NULL: not encrypted */
	uint8_t *sections;
	struct state_tag tag[TAGS_MAX];
	unsigned n_tags;
	const uint8_t *table;           /* of struct state_extent, within sections */
	size_t n_extents;
};

/* -EPROTO and the sentence that F is no whole saved machine, for WHY. */
int state_file_bad(const struct state_file *f, struct err *err, const char *why);
/* LEN bytes at AT of the file. Any thread. */
int state_file_read(const struct state_file *f, void *buf, size_t len, uint64_t at, struct err *err);

/* Is guest memory something to map? */
static inline bool state_file_is_mapped(const struct state_file *f)
{
	return f->packing == STATE_RAW && !f->seal;
}

/* Row I of the table of guest memory. */
static inline struct state_extent state_file_row(const struct state_file *f, size_t i)
{
	struct state_extent e;

	memcpy(&e, f->table + i * sizeof(e), sizeof(e));
	return e;
}

#endif

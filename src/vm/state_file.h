/* SPDX-License-Identifier: Apache-2.0 */
/* state_file.h - the file of a saved machine: sections, and guest memory that can be mapped.
 *
 * docs/formats/saved-state.md fixes the bytes. Writing: sections are collected in memory, then all is
 * written at once; the header goes last, so that a file which was cut short has none. Reading: the file is
 * hostile; everything but guest memory is read and checked by state_file_open(). Any thread, one at a time. */
#ifndef VM_STATE_FILE_H
#define VM_STATE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "util/fields.h"

struct blk_secret;
struct err;
struct gmem;
struct state_file;
struct state_seal;

enum state_packing {
	STATE_NONE = 0,         /* memory is not there: sections that came over a connection */
	STATE_RAW = 1,          /* pages lie in the file as in RAM, at a multiple of 4 KiB: it can be mapped */
	STATE_ZSTD = 2,         /* pieces of up to 1 MiB, compressed */
	STATE_LZ4 = 3,          /* the same: larger, and faster */
};

/* --- writing --- */

struct state_sections {
	uint8_t *buf;
	size_t len, cap;
	bool is_broken;         /* out of memory: state_write() will say so */
};
void state_sections_fini(struct state_sections *s);     /* zeroed is fine */
/* Have memory for LEN bytes at hand, so that adding them takes no time for that. */
void state_sections_reserve(struct state_sections *s, size_t len);
/* TAG: up to 255 characters, once per file. */
void state_sections_add(struct state_sections *s, const char *tag, const void *data, size_t len);
void state_sections_add_fields(struct state_sections *s, const char *tag, const struct state_desc *d, const void *state);

struct state_progress {
	_Atomic bool is_cancelled;      /* set by anybody */
	_Atomic uint64_t done;          /* bytes of guest memory looked at */
	uint64_t memory, file;          /* at the end: bytes of memory that are not zero, bytes written */
};

/* Write a whole saved machine to FD, an empty regular file open for reading and writing. SEAL, which was made for this one file,
 * encrypts it; NULL: nothing does. Nobody may write to MEM meanwhile; S is not to be used again. Not durable yet: fsync() is
 * the caller's. -ECANCELED; -errno. */
int state_write(int fd, const struct gmem *mem, enum state_packing packing, const struct state_seal *seal, struct state_sections *s,
		struct state_progress *progress, struct err *err);

/* --- reading --- */

/* Take the file FD (also on failure); NAME is for sentences. SECRET opens an encrypted file, and is refused with one that is not,
 * which may have been put in its place; NULL: none. -EPROTO: it is not what state_write() writes; -ENOKEY, -EKEYREJECTED. */
int state_file_open(struct state_file **out, int fd, const struct blk_secret *secret, const char *name, struct err *err);
/* The same for LEN bytes of sections (borrowed) that have come in another way, of a machine with RAM bytes of
 * memory: the memory is new and zero. */
int state_file_of_sections(struct state_file **out, const uint8_t *sections, size_t len, uint64_t ram, const char *name,
			   struct err *err);
void state_file_close(struct state_file *f);            /* memory that is mapped stays. NULL is fine */
DEFINE_AUTO(struct state_file *, state_file_close)

uint64_t state_file_ram(const struct state_file *f);    /* bytes of guest memory */
enum state_packing state_file_packing(const struct state_file *f);
/* The section TAG (borrowed); NULL: there is none. */
const uint8_t *state_file_get(struct state_file *f, const char *tag, size_t *len);
/* Load STATE from the section TAG. -EPROTO. */
int state_file_load(struct state_file *f, const char *tag, const struct state_desc *d, void *state, struct err *err);
/* Do both have the same bytes in the section TAG? */
bool state_file_same(struct state_file *a, struct state_file *b, const char *tag);
/* Has every section been asked for? -EPROTO names one that has not: what it means is not known here. */
int state_file_all_used(const struct state_file *f, struct err *err);
/* Guest memory: mapped if it is raw and not encrypted, so that only what is touched is read. Else all of it has been read, compared
 * and, if it was encrypted, authenticated. */
int state_file_memory(struct state_file *f, struct gmem **out, struct err *err);
/* Read all of guest memory and compare checksums, which a mapped restore does not. */
int state_file_verify(struct state_file *f, struct err *err);

#endif

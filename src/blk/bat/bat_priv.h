/* SPDX-License-Identifier: Apache-2.0 */
/* bat_priv.h - between the files of the block allocation tables. */
#ifndef BLK_BAT_BAT_PRIV_H
#define BLK_BAT_BAT_PRIV_H

#include "blk/bat/bat.h"
#include "util/checked.h"
#include "util/endian.h"

enum { BAT_FREE_MAX = 4096 };   /* blocks that wait, and blocks that can be used again */

/* A page of the table, or of sector bitmaps. */
struct bat_page {
	uint64_t no;            /* of the table; of bitmaps: place in the file / bits_page */
	struct bat_page *hash_next, *dirty_next;
	struct co_queue waiting;
	unsigned n_pins, slot;
	bool is_bits, is_dirty, is_loading, is_used, is_staged, is_hashed;
	uint8_t *data;          /* BAT_PAGE_MAX bytes */
};

/* pages.c */
int bat_cache_init(struct bat *t);
void bat_cache_fini(struct bat *t);
struct bat_page *bat_page_peek(struct bat *t, bool is_bits, uint64_t no);       /* NULL: not in memory */
int bat_page_get(struct bat *t, bool is_bits, uint64_t no, struct bat_page **out);      /* pinned */
void bat_page_put(struct bat_page *p);
void bat_page_dirty(struct bat *t, struct bat_page *p);
void bat_pages_forget_bits(struct bat *t, uint64_t off, uint64_t len);
uint64_t bat_page_place(const struct bat *t, bool is_bits, uint64_t no);
uint32_t bat_page_len(const struct bat *t, bool is_bits, uint64_t no);

/* entry.c */
bool bat_entry_is_sane(const struct bat *t, const struct bat_entry *e);
static inline uint64_t bat_slot(const struct bat *t, uint64_t block)
{
	return t->f->slot ? t->f->slot(t, block) : block;
}
static inline uint64_t bat_page_of(const struct bat *t, uint64_t slot)
{
	return slot / (t->page_size / t->f->entry_size);
}
/* Bytes of block BLOCK that are of the disk. */
static inline uint32_t bat_block_len(const struct bat *t, uint64_t block)
{
	uint64_t left = t->size - block * t->block_size;

	return left < t->block_size ? (uint32_t)left : t->block_size;
}
static inline bool bat_has_place(const struct bat_entry *e)
{
	return e->kind == BAT_DATA || e->kind == BAT_PARTIAL;
}

/* bits.c: sectors [FIRST, FIRST+N) of a block whose bitmap is at OFF. RUN: how many are alike from FIRST on. */
bool bat_bits_peek(struct bat *t, uint64_t off, uint32_t first, uint32_t n);    /* all set, and in memory */
int bat_bits_run(struct bat *t, uint64_t off, uint32_t first, uint32_t n, bool *is_set, uint32_t *run);
int bat_bits_set(struct bat *t, uint64_t off, uint32_t first, uint32_t n);
int bat_bits_of(struct bat *t, uint64_t block, const struct bat_entry *e, uint64_t *off);

/* map.c: what AT is, for how long; PARTIAL is told apart into DATA and NONE. */
struct bat_run { enum bat_kind kind; uint64_t len, host; };
int bat_map_run(struct bat *t, uint64_t at, uint64_t len, struct bat_run *out);

/* alloc.c */
int bat_alloc(struct bat *t, uint64_t n, uint64_t *host, uint64_t *got, bool *is_fresh);        /* never yields */
void bat_free_now(struct bat *t, uint64_t host);        /* never was referred to */
int bat_free_later(struct bat *t, uint64_t host);       /* the reference is gone in memory */
void bat_frees_durable(struct bat *t, unsigned n);      /* the first N of those */
int bat_write_lead(struct bat *t, uint64_t host);

/* units.c: which units of the file, from data_off on, something uses. */
struct bat_units { uint8_t *bits; uint64_t n, used, unit, base; };
int bat_units_init(struct bat_units *u, const struct bat *t, struct err *err);
void bat_units_set(struct bat_units *u, uint64_t i);
/* Note [OFF, OFF+LEN); true: something had some of it before. */
bool bat_units_take(struct bat_units *u, uint64_t off, uint64_t len);
/* The first run of N free units before unit BELOW, from *FROM on. */
bool bat_units_find(const struct bat_units *u, uint64_t n, uint64_t below, uint64_t *from);
int bat_move_block(struct bat *t, uint64_t block, struct bat_entry *e, uint64_t host);
int bat_scan(struct bat *t);            /* holes and the end, as the table has them */

/* commit.c */
int bat_relieve(struct bat *t);         /* write back if much waits */
#endif

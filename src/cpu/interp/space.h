/* SPDX-License-Identifier: Apache-2.0 */
/* space.h - where translations are kept: tables, and the address spaces that they belong to.
 *
 * A *table* holds translations for one kind of access at one privilege. Those of the supervisor without
 * EFLAGS.AC, and of all execution by it, exist once per processor: with SMAP a kernel has there what is
 * global. The others exist once per *address space*, which is what one CR3 and PCID lead to. A processor keeps
 * ICPU_N_SPACES of them and lets go of the one that it has not used for longest. Owner: the vcpu's thread.
 *
 * Memory of tables comes into use by *chunks*, groups of slots that lie side by side, and is counted by them. When all
 * spaces together use more than icpu.max_chunks, those that were not used for longest lose their translations and give their
 * memory back (icpu_space_trim()). The tables of the supervisor are small beside it and stay.
 *
 * A *view* is how translated code sees a processor: its structure, and behind it the tables of one space. Views of
 * all spaces are the same memory for the former, so switching means to load GS with another address and no
 * code has to know. The first view is the structure as C sees it. */
#ifndef CPU_INTERP_SPACE_H
#define CPU_INTERP_SPACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cpu/interp/window.h"

enum icpu_access { ICPU_READ, ICPU_WRITE, ICPU_EXEC, ICPU_N_ACCESS };

/* Privileges of an access. AC matters to supervisor (SMAP) and user (alignment checks), so
 * translations made with it are kept apart. */
enum { ICPU_SUPER, ICPU_USER, ICPU_SUPER_AC, ICPU_USER_AC, ICPU_N_PRIV };

enum { ICPU_TLB_BITS = 14, ICPU_TLB_SIZE = 1 << ICPU_TLB_BITS };

enum {
	ICPU_N_SPACES = 8,              /* Linux uses six PCIDs per processor */
	ICPU_SHARED_TABLES = 4,         /* supervisor: read, write, execute; and execute with AC */
	ICPU_SPACE_TABLES = ICPU_N_PRIV * ICPU_N_ACCESS - ICPU_SHARED_TABLES,
	ICPU_UPPER = 256,               /* paging-structure entries above the last level that a space notes */
	ICPU_PENDING = 8,
	ICPU_LARGE_BITS = 5 << 10,
	ICPU_WRITER_SETS = 1 << 13, ICPU_WRITER_WAYS = 8,
	ICPU_CHUNK_SLOTS = ICPU_TLB_SIZE / 64,  /* so that a table has a word of bits for its chunks */
};

/* A translation of one 4 KiB page for one kind of access at one privilege. */
struct itlb_entry {
	uint64_t tag;                   /* linear page address | enum itlb_tag; 0: empty */
	uint8_t *host;                  /* host address of the page; NULL: MMIO */
	_Atomic uint8_t *flags;         /* gmem page flags byte to look at after a store */
	uint64_t gpa;                   /* of the page | enum itlb_attr */
};

enum itlb_tag {
	ITLB_FAST = 1,          /* RAM that the inline paths may touch */
	ITLB_SLOW = 3,          /* MMIO, a page with a data breakpoint, alignment checks on */
};

enum itlb_attr {
	ITLB_GLOBAL = 1,
	ITLB_LISTED = 2,        /* the slot is in icpu_space.list[0] */
	ITLB_LISTED_GLOBAL = 16,        /* in list[1] */
	ITLB_2M = 4, ITLB_1G = 8,       /* cut out of a large page (4 MiB counts as two of 2 MiB) */
};

/* What translated code looks at instead of an itlb_entry; there is one beside each, made and dropped
 * with it. READ, WRITE: the linear page address and its host address, present only when neither
 * a page flag nor the dirty log wants to hear of stores. EXEC: TAG names the translated code of the
 * page (odd). An entry that is not present holds the address of a page that belongs elsewhere. */
struct itlb_inline {
	uint64_t tag;
	uint8_t *host;
};

/* An 8-byte entry of the guest's paging structures, and what it was when it was used. NULL: not known. */
struct itlb_seen {
	const _Atomic uint64_t *pte;
	uint64_t val;
};

/* By (LA >> 12) % ICPU_TLB_SIZE. `seen` is what the translation was read from; not kept for shared tables. */
struct itlb_table {
	struct itlb_inline inl[ICPU_TLB_SIZE];
	struct itlb_entry entry[ICPU_TLB_SIZE];
	struct itlb_seen seen[ICPU_TLB_SIZE];
	/* For execution: the one of the same privilege with AC, which has inl[] alone: there is one entry whatever AC,
	 * but two numbers of code. Else NULL. */
	struct itlb_table *twin;
	uint64_t unused[511];           /* so that equal slots of two tables are in different sets of the caches */
};

/* What a chunk takes in memory at most: its slots in a table, and their places in both lists. */
enum {
	ICPU_CHUNK_BYTES = ICPU_CHUNK_SLOTS * (sizeof(struct itlb_inline) + sizeof(struct itlb_entry) + sizeof(struct itlb_seen) +
					       2 * sizeof(uint32_t)),
};

struct icpu_space {
	/* What it is the translation of. PCID is 0 while CR4.PCIDE is. */
	uint64_t root;
	uint16_t pcid;
	bool is_used;
	bool must_check;                /* it was flushed: what has changed in memory since has to go */
	bool is_opaque;                 /* what changed cannot be told: all has to go */
	bool must_drop_global;          /* pending[] was too short */
	uint8_t n_pending;
	uint16_t n_upper;
	uint64_t used_at;               /* space_clock */
	uint8_t *view;                  /* see above; NULL: no code looks */
	struct itlb_table *table;       /* ICPU_SPACE_TABLES of them, or ICPU_SHARED_TABLES */
	uint64_t pending[ICPU_PENDING]; /* addresses whose global pages were flushed since */
	uint64_t large_seen[ICPU_LARGE_BITS / 64];      /* hashed: large pages that entries come from */
	struct itlb_seen upper[ICPU_UPPER];     /* hashed by place; n_upper are in use */
	/* Slots that have held an entry since the last flush of such, not global and global: table << ICPU_TLB_BITS | slot. There
	 * is room for all slots. */
	uint32_t listed[2];
	uint32_t *list[2];
	uint64_t chunks[ICPU_SPACE_TABLES];     /* bits: in use; of the shared ones none is counted */
	uint32_t n_chunks;
	struct icpu_window window;
};

/* What a space has behind its view: tables and lists, and then the table of its window. */
enum {
	ICPU_SPACE_LIST = ICPU_SPACE_TABLES * ICPU_TLB_SIZE,    /* entries of each list */
	ICPU_SPACE_BYTES = ICPU_SPACE_TABLES * sizeof(struct itlb_table) + 2 * ICPU_SPACE_LIST * sizeof(uint32_t),
};

/* The number of the table for PRIV and ACC among those of a space, or of the shared ones. */
static inline bool itlb_is_shared(unsigned priv, enum icpu_access acc)
{
	return priv == ICPU_SUPER || (priv == ICPU_SUPER_AC && acc == ICPU_EXEC);
}

static inline unsigned itlb_table_number(unsigned priv, enum icpu_access acc)
{
	static const uint8_t number[ICPU_N_PRIV][ICPU_N_ACCESS] = { { 0, 1, 2 }, { 0, 1, 2 }, { 3, 4, 3 }, { 5, 6, 7 } };

	return number[priv][acc];
}

/* Is the table of this number for writing? */
static inline bool itlb_is_write(unsigned number, bool is_shared)
{
	return number == 1 || (!is_shared && (number == 4 || number == 6));
}

#endif

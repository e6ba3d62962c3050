/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - guest memory where translated user code finds it by adding a constant: the host's MMU checks.
 *
 * A *window* belongs to one address space of one processor. It consists of *regions* of the host's addresses, each for 1 TiB of
 * the guest's: of those there may be few, as programs have their memory in few places. A table in the view of the space tells by
 * bits 40 to 47 of an address what to add to it. Where there is no region that is a number which leads out of the host's
 * addresses, so whatever code computes is in a region of its own or faults.
 *
 * In a region is mapped what the guest's tables say of user accesses, on demand, by the rules of struct itlb_inline: for writing
 * only when the dirty bit is set and neither a page flag nor the dirty log wants to hear of stores. What is mapped is kept in a
 * set, and goes when a flush finds that the tables say something else, when a flag of its page is raised, or when there is too much.
 *
 * Vcpu thread only. window.c is compiled for general registers alone and calls nobody but the kernel and tlb.c, as pages may have
 * to go while the guest's vector registers are in the host's. */
#ifndef CPU_INTERP_WINDOW_H
#define CPU_INTERP_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct icpu;
struct icpu_space;
struct window_set;

enum {
	ICPU_WINDOW_SHIFT = 40,         /* a region */
	ICPU_WINDOW_SLOTS = 256,        /* of the table: bits 40 to 47, of which the highest is never up in user addresses */
	ICPU_WINDOW_REGIONS = 6,
	ICPU_WINDOW_PAGES = 6144,       /* mapped at once */
	/* The same of all windows of all processors, in equal shares: each page may make two areas of one for the host, which allows a
	 * process 65530 unless told otherwise, and others need some, too. */
	ICPU_WINDOW_ALL_PAGES = 24576, ICPU_WINDOW_LEAST_PAGES = 256,
	ICPU_WINDOW_REST = 500,         /* polls with something to do, most of them for the guest's timer, before it is opened again */
	ICPU_WINDOW_AROUND = 16,        /* mapped together, if they follow each other in memory, too; a power of two */
};

/* What LA may be in: a page of 4 KiB, of 4 MiB or less, of 1 GiB. */
enum icpu_window_size { ICPU_WINDOW_PAGE, ICPU_WINDOW_4M, ICPU_WINDOW_1G };

struct icpu_window {
	uint64_t *add;                  /* the table */
	struct window_set *set;         /* what is mapped; NULL: it is closed */
	uint32_t n_regions;
	/* cpu/bt/window.c's: while it is closed, how often user code was met; faults, when every so manieth was, and whether they come
	 * too often. */
	int32_t polls;
	uint32_t n_faults;
	uint64_t faults_since;
	bool is_busy;
	struct { uint8_t *host; uint8_t at; } region[ICPU_WINDOW_REGIONS];
};

/* Is LA in a region? */
static inline bool icpu_window_has(const struct icpu_window *w, uint64_t la)
{
	for (unsigned i = 0; i < w->n_regions; i++)
		if (la >> ICPU_WINDOW_SHIFT == w->region[i].at)
			return true;
	return false;
}

/* S, which has its view, gets a window that is closed. */
void icpu_window_init(struct icpu_space *s);
/* Open the window of the present space, or open it for more: regions for all places where its tables have entries. False: the
 * host has no room, or its memory is not to be mapped twice. */
bool icpu_window_open(struct icpu *c);
/* S: nothing is mapped any more, and there are no regions. Nothing if it is closed. */
void icpu_window_close(struct icpu_space *s);
/* Nothing is mapped any more. */
void icpu_window_wipe(struct icpu_space *s);
/* The guest's address for AT, an address of the host in a region of the present space. False: it is in none. */
bool icpu_window_find(const struct icpu *c, const void *at, uint64_t *la);
/* Map the page of LA, which is in a region, and what lies around it alike. False: the guest's tables do not permit it, something
 * else has to be done, too, or the host refuses. */
bool icpu_window_map(struct icpu *c, uint64_t la, bool is_write);
/* How many pages of the guest's are mapped in the window of S. */
unsigned icpu_window_mapped(const struct icpu_space *s);
/* S: the page of LA goes, and all of the large page that it may be cut out of. */
void icpu_window_drop(struct icpu_space *s, uint64_t la, enum icpu_window_size size);
/* S has been flushed: what the tables of the guest do not say any more goes. IS_SAME_ABOVE: nothing but entries of the last level
 * can have changed; else, when most goes, S is that of another program by now, as when processes are made one after the other: its
 * window is closed for a while. Then no code of S may be in its tables. S is the present space, or becomes that: CR3 is its. */
void icpu_window_check(struct icpu *c, struct icpu_space *s, bool is_same_above);
/* A flag of PAGE (of the memfd; UINT64_MAX: of any) has been raised: of all spaces of C what may be written goes, and is noted as
 * written. */
void icpu_window_recheck(struct icpu *c, uint64_t page);

#endif

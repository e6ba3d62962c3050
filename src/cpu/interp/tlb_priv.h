/* SPDX-License-Identifier: Apache-2.0 */
/* tlb_priv.h - what tlb.c, which makes translations, and space.c, which drops them, share. Vcpu thread only. */
#ifndef CPU_INTERP_TLB_PRIV_H
#define CPU_INTERP_TLB_PRIV_H

#include "cpu/interp/core.h"

/* Entries of paging structures (SDM vol. 3 4.5). */
enum {
	PTE_P = 1 << 0, PTE_W = 1 << 1, PTE_U = 1 << 2, PTE_A = 1 << 5, PTE_D = 1 << 6,
	PTE_PS = 1 << 7, PTE_G = 1 << 8,
};
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

/* What a translation depends on: of an entry above the last level, of the last. The dirty bit matters only to those
 * for writing. An accessed bit that has been cleared does: it has to be set by the next access. */
#define PTE_UPPER_MATTERS (PTE_P | PTE_W | PTE_U | PTE_A | PTE_PS | PTE_ADDR | PTE_NX)
#define PTE_LEAF_MATTERS (PTE_UPPER_MATTERS | PTE_G)

static inline unsigned tlb_slot(uint64_t la)
{
	return la >> 12 & (ICPU_TLB_SIZE - 1);
}

/* Is there an entry for reading or writing? */
static inline bool tlb_inline_is_here(const struct itlb_inline *n, unsigned slot)
{
	return (n->tag >> 12) % ICPU_TLB_SIZE == slot;
}

static inline void tlb_inline_drop(struct itlb_table *t, unsigned slot)
{
	t->inl[slot].tag = (uint64_t)(slot ^ 1) << 12;
	if (t->twin && t->twin->inl[slot].tag & 1)      /* seldom; and what was never written takes no memory */
		t->twin->inl[slot].tag = (uint64_t)(slot ^ 1) << 12;
}

/* Is the entry that a translation was read from not what it was, in a way that matters to it? */
static inline bool tlb_leaf_has_changed(const struct itlb_seen *seen, bool is_write)
{
	uint64_t matters = PTE_LEAF_MATTERS | (is_write ? PTE_D : 0);

	return !seen->pte || (atomic_load_explicit(seen->pte, memory_order_relaxed) ^ seen->val) & matters;
}

/* A page of the present space that user code may access without anybody else: it is RAM, not global, its accessed bits and, if it
 * is to be written, its dirty bit are set, and no flag, log or breakpoint wants to hear of it. */
struct itlb_found {
	uint64_t off;           /* in the memfd */
	struct itlb_seen leaf;
};

/* LA's page for ACC; nothing is changed but notes of what has been looked at. False: it is none. */
bool icpu_tlb_find(struct icpu *c, uint64_t la, enum icpu_access acc, struct itlb_found *out);

/* The bit of icpu_space.large_seen for the large page of LA: first 4096 for those of 2 and 4 MiB, then 1024 for those of 1 GiB, of both
 * half for the upper half of addresses. Kernels have many there, and a program whose pages seemed to be of 1 GiB for the sake of one
 * of those would wait some 60 us for each INVLPG. */
static inline unsigned tlb_large_bit(uint64_t la, bool is_1g)
{
	uint64_t half = la >> 63, hash = (la >> (is_1g ? 30 : 21)) * 0x9e3779b97f4a7c15ull;

	return (unsigned)(is_1g ? 4096 + half * 512 + (hash >> 55) : half * 2048 + (hash >> 53));
}
_Static_assert(ICPU_LARGE_BITS == 4096 + 1024, "2 * 2048 and 2 * 512");

/* The entry SLOT of T, of the present address space or shared by all, is new: by it a page may be written. Some other
 * such entry may go for it. writers.c. */
void icpu_writer_note(struct icpu *c, const struct itlb_table *t, unsigned slot);

#endif

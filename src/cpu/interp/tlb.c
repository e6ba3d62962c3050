/* SPDX-License-Identifier: Apache-2.0 */
/* Paging and linear memory: Intel SDM vol. 3 chapter 4. Vcpu thread only.
 *
 * Every miss walks the guest's tables; nothing but final translations is cached. Accessed and
 * dirty bits are set by compare-exchange after all checks have passed, and the walk starts over
 * when another processor changed an entry meanwhile. Left out: protection keys (not announced).
 * What becomes of translations when the guest flushes them is space.c's. */
#include "cpu/interp/tlb_priv.h"

#include "util/checked.h"

enum { PTE_LEVELS = 5 };

struct walk_step {
	_Atomic uint64_t *p64;  /* the entry in guest RAM; NULL: not RAM, or 32-bit */
	_Atomic uint32_t *p32;
	uint64_t val;
};

struct walk {
	struct walk_step step[PTE_LEVELS];
	unsigned n;
	uint64_t page;          /* guest address of the 4 KiB page */
	uint64_t perm;          /* PTE_W, PTE_U of all levels, PTE_NX of any */
	unsigned attr;          /* enum itlb_attr */
	bool is_mapped, is_rsvd;
	bool has_ad;            /* the first step (a PAE PDPTE) has no accessed bit */
};

/* --- walking --------------------------------------------------------------------------- */

static uint64_t walk_read64(struct icpu *c, struct walk *w, gpa_t gpa)
{
	struct walk_step *s = &w->step[w->n++];

	s->p32 = NULL;
	s->p64 = gmem_ptr(c->mem, gpa, 8);
	/* Tables outside RAM read as all ones, which trips over the reserved bits. */
	s->val = s->p64 ? atomic_load_explicit(s->p64, memory_order_acquire) : ~0ull;
	return s->val;
}

static uint32_t walk_read32(struct icpu *c, struct walk *w, gpa_t gpa)
{
	struct walk_step *s = &w->step[w->n++];

	s->p64 = NULL;
	s->p32 = gmem_ptr(c->mem, gpa, 4);
	s->val = s->p32 ? atomic_load_explicit(s->p32, memory_order_acquire) : ~0u;
	return (uint32_t)s->val;
}

static void walk_set_leaf(struct walk *w, uint64_t la, uint64_t frame, unsigned shift, uint64_t pte)
{
	uint64_t mask = (1ull << shift) - 1;

	w->page = ((frame & ~mask) | (la & mask)) & ~0xfffull;
	w->is_mapped = true;
	if (pte & PTE_G)
		w->attr |= ITLB_GLOBAL;
	if (shift > 12)
		w->attr |= shift == 30 ? ITLB_1G : ITLB_2M;
}

/* Reserved bits of an entry that is a page of 1 << SHIFT bytes, or refers to a table (4.5.4). */
static bool walk_is_rsvd(const struct icpu *c, uint64_t pte, bool is_leaf, unsigned shift)
{
	uint64_t rsvd = c->rsvd_phys;

	if (!(c->s.efer & X86_EFER_NXE))
		rsvd |= PTE_NX;
	if (!c->is_long)
		rsvd |= 0x7ff0000000000000ull;          /* PAE: 62:52 */
	if (is_leaf && shift > 12)
		rsvd |= ((1ull << shift) - 1) & ~0x1fffull;     /* bit 12 is PAT */
	if (!is_leaf && shift > 30)
		rsvd |= PTE_PS;
	return pte & rsvd;
}

/* 8-byte entries: PAE (three levels), 4-level and 5-level paging. */
static void walk_tables64(struct icpu *c, struct walk *w, uint64_t la, unsigned level)
{
	uint64_t table = c->s.cr3 & PTE_ADDR;

	if (!c->is_long) {
		table = c->s.cr3 & 0xffffffe0;
		uint64_t pdpte = walk_read64(c, w, table + (la >> 30 & 3) * 8);

		w->has_ad = false;
		if (!(pdpte & PTE_P))
			return;
		table = pdpte & PTE_ADDR & ~c->rsvd_phys;       /* reserved bits: checked by CR3 loads */
		level = 2;
	}
	for (;; level--) {
		unsigned shift = 12 + 9 * (level - 1);
		uint64_t pte = walk_read64(c, w, table + (la >> shift & 511) * 8);
		bool is_leaf = level == 1 || (level <= 3 && (pte & PTE_PS));

		if (!(pte & PTE_P))
			return;
		if (walk_is_rsvd(c, pte, is_leaf, shift)) {
			w->is_rsvd = true;
			return;
		}
		w->perm = (w->perm & (pte | ~(uint64_t)(PTE_W | PTE_U))) | (pte & PTE_NX);
		if (is_leaf) {
			walk_set_leaf(w, la, pte & PTE_ADDR, shift, pte);
			return;
		}
		table = pte & PTE_ADDR;
	}
}

/* 4-byte entries (4.3), 4 MiB pages with 40-bit addresses (PSE-36). */
static void walk_tables32(struct icpu *c, struct walk *w, uint64_t la)
{
	uint32_t pde = walk_read32(c, w, (c->s.cr3 & 0xfffff000) + (la >> 22 & 1023) * 4);

	if (!(pde & PTE_P))
		return;
	w->perm &= pde | ~(uint64_t)(PTE_W | PTE_U);
	if ((pde & PTE_PS) && (c->s.cr4 & X86_CR4_PSE)) {
		if (pde & 1u << 21)
			w->is_rsvd = true;
		else
			walk_set_leaf(w, la, (pde & 0xffc00000) | (uint64_t)(pde >> 13 & 0xff) << 32, 22, pde);
		return;
	}
	uint32_t pte = walk_read32(c, w, (pde & 0xfffff000) + (la >> 12 & 1023) * 4);

	if (!(pte & PTE_P))
		return;
	w->perm &= pte | ~(uint64_t)(PTE_W | PTE_U);
	walk_set_leaf(w, la, pte & 0xfffff000, 12, pte);
}

static void walk_tables(struct icpu *c, struct walk *w, uint64_t la)
{
	/* Field by field: icpu_tlb_refill() may call nobody, not even memset(). */
	w->n = 0;
	w->page = 0;
	w->perm = PTE_W | PTE_U;
	w->attr = 0;
	w->is_mapped = w->is_rsvd = false;
	w->has_ad = true;
	if (!(c->s.cr0 & X86_CR0_PG)) {
		w->has_ad = false;
		walk_set_leaf(w, la, la & ~0xfffull, 12, 0);
	} else if (c->s.cr4 & X86_CR4_PAE) {
		walk_tables64(c, w, la, c->s.cr4 & X86_CR4_LA57 ? 5 : 4);
	} else {
		walk_tables32(c, w, la & 0xffffffff);
	}
	if (!(c->s.cr4 & X86_CR4_PGE))
		w->attr &= ~(unsigned)ITLB_GLOBAL;
}

static void walk_marked(struct icpu *c, const uint8_t *entry, unsigned len)
{
	uint64_t off = (uint64_t)(entry - c->mem->host);

	gmem_wrote(c->mem, off, len);
	if (c->vm->marked)
		c->vm->marked(c, off);
}

/* Set accessed bits on the way and the dirty bit at the leaf. False: an entry has changed. */
static bool walk_mark(struct icpu *c, struct walk *w, bool is_write)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct walk_step *s = &w->step[i];
		uint64_t set = PTE_A | (is_write && i == w->n - 1 ? PTE_D : 0);
		uint64_t want = s->val | set;

		if ((i == 0 && !w->has_ad) || want == s->val)
			continue;
		if (s->p64) {
			if (!atomic_compare_exchange_strong(s->p64, &s->val, want))
				return false;
			s->val = want;
			walk_marked(c, (uint8_t *)s->p64, 8);
		} else if (s->p32) {
			uint32_t old = (uint32_t)s->val;

			if (!atomic_compare_exchange_strong(s->p32, &old, (uint32_t)want))
				return false;
			walk_marked(c, (uint8_t *)s->p32, 4);
		}
	}
	return true;
}

/* Are they set already? */
static bool walk_is_marked(const struct walk *w, bool is_write)
{
	for (unsigned i = w->has_ad ? 0 : 1; i < w->n; i++) {
		uint64_t set = PTE_A | (is_write && i == w->n - 1 ? PTE_D : 0);

		if ((w->step[i].val & set) != set)
			return false;
	}
	return true;
}

/* May the access be made (4.6)? PRIV as in icpu_priv(). */
static bool walk_permits(const struct icpu *c, const struct walk *w, enum icpu_access acc, unsigned priv)
{
	bool is_user = priv & ICPU_USER, is_upage = w->perm & PTE_U;

	if (!(c->s.cr0 & X86_CR0_PG))
		return true;
	if (is_user && !is_upage)
		return false;
	if (acc == ICPU_EXEC)
		return !(w->perm & PTE_NX) && (is_user || !is_upage || !(c->s.cr4 & X86_CR4_SMEP));
	if (!is_user && is_upage && (c->s.cr4 & X86_CR4_SMAP) && priv != ICPU_SUPER_AC)
		return false;
	return acc == ICPU_READ || (w->perm & PTE_W) || (!is_user && !(c->s.cr0 & X86_CR0_WP));
}

static uint32_t walk_error(const struct icpu *c, const struct walk *w, enum icpu_access acc, unsigned priv)
{
	uint32_t code = priv & ICPU_USER ? X86_PF_U : 0;

	if (w->is_mapped || w->is_rsvd)
		code |= X86_PF_P;
	if (w->is_rsvd)
		code |= X86_PF_RSVD;
	if (acc == ICPU_WRITE)
		code |= X86_PF_W;
	if (acc == ICPU_EXEC && ((c->s.cr4 & X86_CR4_SMEP) ||
				 ((c->s.cr4 & X86_CR4_PAE) && (c->s.efer & X86_EFER_NXE))))
		code |= X86_PF_I;
	return code;
}

/* --- filling -------------------------------------------------------------------------------- */

/* A data breakpoint lies in the page of LA: its accesses must come by the slow path. */
static bool tlb_is_watched(const struct icpu *c, uint64_t la)
{
	if (!c->is_watching)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if ((c->s.dr7 >> (2 * i) & 3) && !((c->s.dr[i] ^ la) & ~0xfffull))
			return true;
	return false;
}

/* The entry of T's SLOT is new. Stores are seen by nobody, so the page must have no flag, now and for as long as
 * the entry stays: who raises one calls icpu_inline_recheck(). */
static void tlb_inline_set(struct icpu *c, struct itlb_table *t, unsigned slot, enum icpu_access acc)
{
	const struct itlb_entry *e = &t->entry[slot];

	if (!c->has_inline)
		return;
	tlb_inline_drop(t, slot);
	if (acc == ICPU_EXEC || (e->tag & ITLB_SLOW) != ITLB_FAST)
		return;
	if (acc == ICPU_WRITE && (atomic_load(e->flags) || atomic_load(&c->mem->is_logging)))
		return;
	t->inl[slot] = (struct itlb_inline){ e->tag & ~0xfffull, e->host };
	if (acc == ICPU_WRITE)
		icpu_writer_note(c, t, slot);
}

/* S has used the entry STEP of a table above the last level. */
static void tlb_note_upper(struct icpu_space *s, const struct walk_step *step)
{
	unsigned at = (unsigned)((uintptr_t)step->p64 / 8 * 0x9e3779b1u >> 16) % ICPU_UPPER;

	for (unsigned i = 0; i < ICPU_UPPER; i++, at = (at + 1) % ICPU_UPPER) {
		struct itlb_seen *u = &s->upper[at];

		if (u->pte == step->p64) {
			s->is_opaque |= (u->val ^ step->val) & PTE_UPPER_MATTERS;
			return;
		}
		if (!u->pte)
			break;
	}
	if (s->n_upper == ICPU_UPPER * 3 / 4) {
		s->is_opaque = true;
		return;
	}
	s->upper[at] = (struct itlb_seen){ step->p64, step->val };
	s->n_upper++;
}

/* S has a translation of LA with ATTR. */
static void tlb_note_large(struct icpu_space *s, uint64_t la, unsigned attr)
{
	unsigned bit = tlb_large_bit(la, attr & ITLB_1G);

	if (attr & (ITLB_2M | ITLB_1G))
		s->large_seen[bit / 64] |= 1ull << (bit % 64);
}

/* What the translation in T's SLOT was read from. */
static void tlb_note_seen(struct icpu_space *s, struct itlb_table *t, unsigned slot, const struct walk *w)
{
	const struct walk_step *leaf = w->n ? &w->step[w->n - 1] : NULL;

	t->seen[slot].pte = leaf ? leaf->p64 : NULL;
	t->seen[slot].val = leaf ? leaf->val : 0;
	for (unsigned i = 0; i + 1 < w->n; i++) {
		if (w->step[i].p64)
			tlb_note_upper(s, &w->step[i]);
		else
			s->is_opaque = true;
	}
}

/* The slot of LA is going to hold an entry: note it in the list of S. Returns what itlb_entry.gpa has to say of it. */
static uint64_t tlb_list(struct icpu_space *s, unsigned number, const struct itlb_entry *e, unsigned slot, bool is_global)
{
	uint64_t listed = is_global ? ITLB_LISTED_GLOBAL : ITLB_LISTED;

	if (!(e->gpa & listed))
		s->list[is_global][s->listed[is_global]++] = number << ICPU_TLB_BITS | slot;
	return (e->gpa & (ITLB_LISTED | ITLB_LISTED_GLOBAL)) | listed;
}

/* The slot of LA is going to be in use in table NUMBER of S: count its memory. Too much of that is for the thread to
 * look at as soon as no code runs. */
static void tlb_count(struct icpu *c, struct icpu_space *s, unsigned number, unsigned slot)
{
	uint64_t bit = 1ull << slot / ICPU_CHUNK_SLOTS;

	if (s->chunks[number] & bit)
		return;
	s->chunks[number] |= bit;
	s->n_chunks++;
	if (++c->n_chunks > c->max_chunks) {
		c->must_trim = true;
		atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
	}
}

/* The entry for what the walk W from LA has found. */
static struct itlb_entry *tlb_install(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned priv, const struct walk *w)
{
	bool is_shared = itlb_is_shared(priv, acc), is_global = w->attr & ITLB_GLOBAL;
	struct icpu_space *s = is_shared ? &c->shared : c->space;
	struct itlb_table *t = c->table[priv][acc];
	unsigned slot = tlb_slot(la);
	struct itlb_entry *e = &t->entry[slot];
	uint64_t off = acc == ICPU_WRITE ? gmem_offset(c->mem, w->page, GMEM_PAGE_SIZE) :
		       gmem_offset_to_read(c->mem, w->page, GMEM_PAGE_SIZE);
	bool is_ram = off != UINT64_MAX;        /* or ROM that is read */
	bool is_slow = !is_ram || tlb_is_watched(c, la) ||
		       (priv == ICPU_USER_AC && (c->s.cr0 & X86_CR0_AM));
	uint64_t listed = tlb_list(s, itlb_table_number(priv, acc), e, slot, is_global);

	tlb_note_large(s, la, w->attr);
	if (!is_shared) {
		tlb_count(c, s, itlb_table_number(priv, acc), slot);
		tlb_note_seen(s, t, slot, w);
	}
	*e = (struct itlb_entry){
		.tag = (la & ~0xfffull) | (is_slow ? ITLB_SLOW : ITLB_FAST),
		.host = is_ram ? c->mem->host + off : NULL,
		.flags = is_ram ? &c->mem->page_flags[off >> GMEM_PAGE_SHIFT] : NULL,
		.gpa = w->page | w->attr | listed,
	};
	tlb_inline_set(c, t, slot, acc);
	return e;
}

static struct itlb_entry *tlb_fill(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned priv)
{
	struct walk w;

	c->stats.tlb_misses++;
	do {
		walk_tables(c, &w, la);
		if (!w.is_mapped || !walk_permits(c, &w, acc, priv))
			icpu_page_fault(c, la, walk_error(c, &w, acc, priv));
	} while (!walk_mark(c, &w, acc == ICPU_WRITE));
	return tlb_install(c, la, acc, priv, &w);
}

static bool tlb_is_canonical(const struct icpu *c, uint64_t la)
{
	unsigned shift = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

	return (uint64_t)((int64_t)(la << shift) >> shift) == la;
}

bool icpu_tlb_refill(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned priv)
{
	struct itlb_table *t = c->table[priv][acc];
	unsigned slot = tlb_slot(la);
	const struct itlb_entry *e = &t->entry[slot];
	const struct itlb_inline *n = &t->inl[slot];
	uint64_t page = la & ~0xfffull;
	struct walk w;

	if (n->tag == page || e->tag == (page | ITLB_SLOW) || !tlb_is_canonical(c, la))
		return false;
	if (e->tag == (page | ITLB_FAST)) {     /* its page may have no flag any more */
		tlb_inline_set(c, t, slot, acc);
		return n->tag == page;
	}
	walk_tables(c, &w, la);
	if (!w.is_mapped || !walk_permits(c, &w, acc, priv) || !walk_is_marked(&w, acc == ICPU_WRITE))
		return false;
	c->stats.tlb_misses++;
	tlb_install(c, la, acc, priv, &w);
	return n->tag == page;
}

bool icpu_tlb_find(struct icpu *c, uint64_t la, enum icpu_access acc, struct itlb_found *out)
{
	bool is_write = acc == ICPU_WRITE;
	struct walk w;

	walk_tables(c, &w, la);
	if (!w.is_mapped || !walk_permits(c, &w, acc, ICPU_USER) || !walk_is_marked(&w, is_write) || w.attr & ITLB_GLOBAL ||
	    tlb_is_watched(c, la) || !w.n || !w.step[w.n - 1].p64)
		return false;
	out->off = gmem_offset(c->mem, w.page, GMEM_PAGE_SIZE);
	if (out->off == UINT64_MAX ||
	    (is_write && (atomic_load(&c->mem->page_flags[out->off >> GMEM_PAGE_SHIFT]) || atomic_load(&c->mem->is_logging))))
		return false;
	out->leaf.pte = w.step[w.n - 1].p64;
	out->leaf.val = w.step[w.n - 1].val;
	tlb_note_large(c->space, la, w.attr);
	for (unsigned i = 0; i + 1 < w.n; i++)
		tlb_note_upper(c->space, &w.step[i]);
	return true;
}

/* The translation of LA's page. Faults. Valid until the next fill of the same slot. */
static struct itlb_entry *tlb_get(struct icpu *c, uint64_t la, enum icpu_access acc, unsigned priv)
{
	struct itlb_entry *e = icpu_tlb_slot(c, priv, acc, la);

	return (e->tag | ITLB_SLOW) == ((la & ~0xfffull) | ITLB_SLOW) && e->tag ? e : tlb_fill(c, la, acc, priv);
}

bool icpu_inline_has(const struct icpu *c, uint64_t la, enum icpu_access acc)
{
	return c->table[icpu_priv(c)][acc]->inl[tlb_slot(la)].tag == (la & ~0xfffull);
}

void icpu_touch(struct icpu *c, uint64_t la, enum icpu_access acc, bool and_write)
{
	unsigned priv = icpu_priv(c);
	struct walk w;

	if (!tlb_is_canonical(c, la))
		return;
	tlb_get(c, la, acc, priv);
	if (!and_write || acc == ICPU_WRITE || icpu_inline_has(c, la, ICPU_WRITE))
		return;
	walk_tables(c, &w, la);
	uint64_t leaf = w.n ? w.step[w.n - 1].val : 0;

	if (w.is_mapped && (leaf & PTE_A) && (leaf & PTE_D) && walk_permits(c, &w, ICPU_WRITE, priv))
		tlb_install(c, la, ICPU_WRITE, priv, &w);
}

bool icpu_translate(struct icpu *c, uint64_t la, gpa_t *gpa)
{
	struct walk w;

	walk_tables(c, &w, la);
	if (!w.is_mapped)
		return false;
	*gpa = w.page | (la & 0xfff);
	return true;
}

const struct itlb_entry *icpu_exec_page(struct icpu *c, uint64_t la)
{
	return tlb_get(c, la, ICPU_EXEC, c->cpl == 3 ? ICPU_USER : ICPU_SUPER);
}

/* --- accesses ---------------------------------------------------------------------------- */

/* Devices see naturally aligned pieces of at most 8 bytes. */
static unsigned mmio_piece(gpa_t gpa, unsigned len)
{
	unsigned n = 8;

	while (n > len || gpa % n)
		n /= 2;
	return n;
}

static void mmio_read(struct icpu *c, gpa_t gpa, uint8_t *buf, unsigned len)
{
	uint8_t was = icpu_phase_set(c, CPU_PHASE_DEVICE);

	for (unsigned n; len; len -= n, gpa += n, buf += n) {
		n = mmio_piece(gpa, len);
		uint64_t v = c->host->mmio_read(c->host->arg, c->index, gpa, n);

		c->stats.exits_mmio++;
		memcpy(buf, &v, n);
	}
	icpu_phase_set(c, was);
}

static void mmio_write(struct icpu *c, gpa_t gpa, const uint8_t *buf, unsigned len)
{
	uint8_t was = icpu_phase_set(c, CPU_PHASE_DEVICE);

	for (unsigned n; len; len -= n, gpa += n, buf += n) {
		uint64_t v = 0;

		n = mmio_piece(gpa, len);
		memcpy(&v, buf, n);
		c->stats.exits_mmio++;
		c->host->mmio_write(c->host->arg, c->index, gpa, n, v);
	}
	icpu_phase_set(c, was);
}

/* Copy; scalars in one access of their size, so that an aligned one is never torn. */
static void ram_copy(void *dst, const void *src, unsigned len)
{
	switch (len) {
	case 1: memcpy(dst, src, 1); break;
	case 2: memcpy(dst, src, 2); break;
	case 4: memcpy(dst, src, 4); break;
	case 8: memcpy(dst, src, 8); break;
	case 16: memcpy(dst, src, 16); break;
	default: memcpy(dst, src, len); break;
	}
}

/* The linear address of the page after LA's; it wraps at 4 GiB outside 64-bit mode. */
static uint64_t next_page(const struct icpu *c, uint64_t la)
{
	uint64_t next = (la | 0xfff) + 1;

	return c->is_long ? next : (uint32_t)next;
}

/* Data breakpoints that [la, la+len) touches (SDM vol. 3 17.2.4): noted, trapped afterwards. */
static void watch_access(struct icpu *c, uint64_t la, unsigned len, bool is_write)
{
	static const uint8_t bytes[4] = { 1, 2, 8, 4 };

	for (unsigned i = 0; i < 4; i++) {
		unsigned rw = c->s.dr7 >> (16 + 4 * i) & 3, n = bytes[c->s.dr7 >> (18 + 4 * i) & 3];
		uint64_t at = c->s.dr[i] & ~(uint64_t)(n - 1);

		if (!(c->s.dr7 >> (2 * i) & 3) || !(rw & 1) || (rw == 1 && !is_write) ||
		    !range_overlaps(la, len, at, n))
			continue;
		c->watch_hits |= (uint8_t)(1 << i);
		c->stop_block = true;
		atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
	}
}

/* Both pages of an access, checked before either is touched. */
struct span {
	uint8_t *host[2];
	gpa_t gpa[2];
	unsigned len[2];        /* len[1] 0: one page */
};

static void span_get(struct icpu *c, struct span *s, uint64_t la, unsigned len, enum icpu_access acc, bool super)
{
	unsigned priv = super ? ICPU_SUPER : icpu_priv(c), first = 4096 - (unsigned)(la & 0xfff);
	const struct itlb_entry *e = tlb_get(c, la, acc, priv);

	s->len[0] = len < first ? len : first;
	s->len[1] = len - s->len[0];
	s->host[0] = e->host ? e->host + (la & 0xfff) : NULL;
	s->gpa[0] = (e->gpa & ~0xfffull) | (la & 0xfff);
	if (s->len[1]) {
		e = tlb_get(c, next_page(c, la), acc, priv);
		s->host[1] = e->host;
		s->gpa[1] = e->gpa & ~0xfffull;
	}
	if (priv == ICPU_USER_AC && (c->s.cr0 & X86_CR0_AM) && len <= 8 && is_pow2(len) && la % len)
		icpu_raise_code(c, X86_EXC_AC, 0);
	if (c->is_watching)
		watch_access(c, la, len, acc == ICPU_WRITE);
}

/* For those who come here with descriptors, stacks and tables, which mostly lie where they did. */
static struct itlb_entry *span_hit(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc, bool super)
{
	struct itlb_entry *e = icpu_tlb_slot(c, super ? ICPU_SUPER : icpu_priv(c), acc, la);

	return ((la & ~0xfffull) | ITLB_FAST) == e->tag && (la & 0xfff) + len <= GMEM_PAGE_SIZE ? e : NULL;
}

void icpu_read_slow(struct icpu *c, uint64_t la, void *buf, unsigned len, bool super)
{
	const struct itlb_entry *e = span_hit(c, la, len, ICPU_READ, super);
	uint8_t *p = buf;
	struct span s;

	if (e) {
		ram_copy(p, e->host + (la & 0xfff), len);
		return;
	}
	span_get(c, &s, la, len, ICPU_READ, super);
	for (unsigned i = 0; i < 2 && s.len[i]; p += s.len[i++]) {
		if (s.host[i])
			ram_copy(p, s.host[i], s.len[i]);
		else
			mmio_read(c, s.gpa[i], p, s.len[i]);
	}
}

void icpu_write_slow(struct icpu *c, uint64_t la, const void *buf, unsigned len, bool super)
{
	const struct itlb_entry *e = span_hit(c, la, len, ICPU_WRITE, super);
	const uint8_t *p = buf;
	struct span s;

	if (e) {
		ram_copy(e->host + (la & 0xfff), p, len);
		icpu_stored(c, e->host + (la & 0xfff), len);
		return;
	}
	span_get(c, &s, la, len, ICPU_WRITE, super);
	for (unsigned i = 0; i < 2 && s.len[i]; p += s.len[i++]) {
		if (s.host[i]) {
			ram_copy(s.host[i], p, s.len[i]);
			icpu_stored(c, s.host[i], s.len[i]);
		} else {
			mmio_write(c, s.gpa[i], p, s.len[i]);
		}
	}
}

void icpu_probe(struct icpu *c, uint64_t la, unsigned len, enum icpu_access acc)
{
	struct span s;
	uint8_t hits = c->watch_hits;

	span_get(c, &s, la, len ? len : 1, acc, false);
	c->watch_hits = hits;           /* the access itself comes later and is noted then */
}

void *icpu_atomic_ptr(struct icpu *c, uint64_t la, unsigned len)
{
	struct itlb_entry *e = icpu_tlb_hit(c, la, ICPU_WRITE, len);
	struct span s;

	if (e)
		return e->host + (la & 0xfff);
	span_get(c, &s, la, len, ICPU_WRITE, false);
	return s.len[1] ? NULL : s.host[0];
}

void icpu_atomic_done(struct icpu *c, uint64_t la, unsigned len)
{
	const struct itlb_entry *e = tlb_get(c, la, ICPU_WRITE, icpu_priv(c));

	icpu_stored(c, e->host + (la & 0xfff), len);
}

void icpu_stored_flagged(struct icpu *c, const uint8_t *host, unsigned len)
{
	uint64_t page = (uint64_t)(host - c->mem->host) >> GMEM_PAGE_SHIFT;

	gmem_note_write(c->mem, page);
	if (c->vm->stored)
		c->vm->stored(c, (uint64_t)(host - c->mem->host), len);
	if (page == c->block_page[0] || page == c->block_page[1])
		c->stop_block = true;
	c->stats.code_invalidations += (atomic_load_explicit(&c->mem->page_flags[page], memory_order_relaxed) &
					GMEM_PAGE_CODE) != 0;
}

uint64_t icpu_read(struct icpu *c, uint64_t la, unsigned size)
{
	switch (size) {
	case 1: return icpu_read8(c, la);
	case 2: return icpu_read16(c, la);
	case 4: return icpu_read32(c, la);
	default: return icpu_read64(c, la);
	}
}

void icpu_write(struct icpu *c, uint64_t la, unsigned size, uint64_t v)
{
	switch (size) {
	case 1: icpu_write8(c, la, (uint8_t)v); break;
	case 2: icpu_write16(c, la, (uint16_t)v); break;
	case 4: icpu_write32(c, la, (uint32_t)v); break;
	default: icpu_write64(c, la, v); break;
	}
}

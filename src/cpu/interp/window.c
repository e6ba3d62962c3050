/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/interp/window.h"

#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include "cpu/interp/tlb_priv.h"

#define REGION_BYTES (1ull << ICPU_WINDOW_SHIFT)
/* What is behind a region and never mapped: an access may begin in it and end beyond, and groups of accesses reach further. */
#define REGION_GUARD (2ull << 20)
/* What is added where there is no region: not canonical, whatever user address it is added to. */
#define NOWHERE (1ull << 62)

enum { BUCKETS = 4096 };

/* A page that is mapped. By number in window_set.page, from 1 on; 0: none. */
struct window_page {
	uint64_t la;                    /* 0: it is free, and NEXT_LA the next such. Nothing is mapped at address 0 */
	struct itlb_seen seen;          /* the entry of the last level */
	uint32_t page;                  /* of the memfd */
	uint16_t next_la, next_page;    /* in their buckets; by page only those that may be written */
	bool is_write;
};

struct window_set {
	unsigned n;                     /* mapped */
	uint16_t by_la[BUCKETS], by_page[BUCKETS];
	uint16_t n_used, free;          /* of PAGE: so many have been in use; the first that is free again */
	struct window_page page[ICPU_WINDOW_PAGES + 1];
};

/* --- the host's kernel --------------------------------------------------------------------------- */

static long window_syscall(long number, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}

static void *window_mmap(const void *at, uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	long r = window_syscall(SYS_mmap, (long)(uintptr_t)at, (long)len, prot, flags, fd, (long)off);

	return r < 0 && r > -4096 ? NULL : (void *)(uintptr_t)r;
}

static bool window_munmap(void *at, uint64_t len)
{
	return window_syscall(SYS_munmap, (long)(uintptr_t)at, (long)len, 0, 0, 0, 0) == 0;
}

/* LEN bytes at AT (NULL: anywhere) of nothing. NULL: there is no room. */
static uint8_t *reserve(const uint8_t *at, uint64_t len)
{
	return window_mmap(at, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (at ? MAP_FIXED : 0), -1, 0);
}

/* --- the set -------------------------------------------------------------------------------------- */

static unsigned la_bucket(uint64_t la) { return (unsigned)((la >> 12) * 0x9e3779b97f4a7c15ull >> 52); }
static unsigned page_bucket(uint64_t page) { return (unsigned)(page * 0x9e3779b97f4a7c15ull >> 52); }
_Static_assert(BUCKETS == 1 << 12 && ICPU_WINDOW_PAGES < UINT16_MAX, "12 bits, 16 bits");

static unsigned set_find(const struct window_set *w, uint64_t la)
{
	unsigned i = w->by_la[la_bucket(la)];

	while (i && w->page[i].la != la)
		i = w->page[i].next_la;
	return i;
}

/* There is room, and LA is not in the set. */
static void set_add(struct window_set *w, uint64_t la, const struct itlb_found *found, bool is_write)
{
	unsigned i = w->free ? w->free : ++w->n_used;
	struct window_page *p = &w->page[i];
	uint16_t *head = &w->by_la[la_bucket(la)];

	if (w->free)
		w->free = p->next_la;
	p->la = la;
	p->seen = found->leaf;
	p->page = (uint32_t)(found->off >> GMEM_PAGE_SHIFT);
	p->is_write = is_write;
	p->next_la = *head;
	*head = (uint16_t)i;
	if (is_write) {
		head = &w->by_page[page_bucket(p->page)];
		p->next_page = *head;
		*head = (uint16_t)i;
	}
	w->n++;
}

static void set_remove(struct window_set *w, unsigned i)
{
	struct window_page *p = &w->page[i];
	uint16_t *at = &w->by_la[la_bucket(p->la)];

	while (*at != i)
		at = &w->page[*at].next_la;
	*at = p->next_la;
	if (p->is_write) {
		at = &w->by_page[page_bucket(p->page)];
		while (*at != i)
			at = &w->page[*at].next_page;
		*at = p->next_page;
	}
	p->la = 0;
	p->next_la = w->free;
	w->free = (uint16_t)i;
	w->n--;
}

/* Where the window of S has LA, which is in a region. */
static uint8_t *window_host(const struct icpu_space *s, uint64_t la)
{
	return (uint8_t *)(uintptr_t)(la + s->window.add[la >> ICPU_WINDOW_SHIFT]);
}

/* Nothing is mapped in the region at HOST any more, which stays taken. The kernel maps nothing when there are too many areas
 * already, but unmaps them; unless this made two of one, which is that of nothing then. */
static void region_unmap(uint8_t *host)
{
	const uint64_t len = REGION_BYTES + REGION_GUARD;

	if (reserve(host, len) || !window_munmap(host, len))
		return;
	/* Somebody else may have been quicker. */
	if (!window_mmap(host, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0))
		__builtin_trap();
}

/* Nothing is mapped in LEN bytes at AT any more, which stay taken. The kernel may have no room for the areas that this makes of
 * one; then all of the region goes, which makes one of many. */
static void unmap(const struct icpu_window *w, uint8_t *at, uint64_t len)
{
	if (reserve(at, len))
		return;
	for (unsigned i = 0; i < w->n_regions; i++)
		if ((uint64_t)(at - w->region[i].host) < REGION_BYTES)
			region_unmap(w->region[i].host);
}

static void page_unmap(struct icpu_space *s, unsigned i)
{
	unmap(&s->window, window_host(s, s->window.set->page[i].la), 4096);
	set_remove(s->window.set, i);
}

/* --- opening -------------------------------------------------------------------------------------- */

void icpu_window_init(struct icpu_space *s)
{
	for (unsigned i = 0; i < ICPU_WINDOW_SLOTS; i++)
		s->window.add[i] = NOWHERE;
}

static bool region_add(struct icpu_window *w, unsigned at)
{
	if (w->add[at] != NOWHERE)
		return true;
	if (w->n_regions == ICPU_WINDOW_REGIONS)
		return false;
	uint8_t *host = reserve(NULL, REGION_BYTES + REGION_GUARD);

	if (!host)
		return false;
	w->region[w->n_regions].host = host;
	w->region[w->n_regions++].at = (uint8_t)at;
	w->add[at] = (uint64_t)(uintptr_t)host - ((uint64_t)at << ICPU_WINDOW_SHIFT);
	return true;
}

/* The share of C, all its windows together. */
static unsigned share(const struct icpu *c)
{
	return ICPU_WINDOW_ALL_PAGES / c->vm->n;
}

bool icpu_window_open(struct icpu *c)
{
	struct icpu_space *s = c->space;
	struct icpu_window *w = &s->window;

	if (!c->has_inline || c->mem->fd < 0 || atomic_load(&c->mem->is_lazy) || share(c) < ICPU_WINDOW_LEAST_PAGES)
		return false;
	for (unsigned list = 0; list < 2; list++)
		for (unsigned i = 0; i < s->listed[list]; i++) {
			unsigned id = s->list[list][i], number = id >> ICPU_TLB_BITS;
			uint64_t la = s->table[number].entry[id % ICPU_TLB_SIZE].tag;

			if (la && number <= itlb_table_number(ICPU_USER, ICPU_WRITE) && !(la >> 47))
				region_add(w, (unsigned)(la >> ICPU_WINDOW_SHIFT));
		}
	if (!w->set && w->n_regions)
		w->set = window_mmap(NULL, sizeof(*w->set), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return w->set;
}

void icpu_window_wipe(struct icpu_space *s)
{
	struct icpu_window *w = &s->window;

	if (!w->set || !w->set->n)
		return;
	for (unsigned i = 0; i < w->n_regions; i++)
		unmap(w, w->region[i].host, REGION_BYTES);
	for (unsigned i = 0; i < BUCKETS; i++)
		w->set->by_la[i] = w->set->by_page[i] = 0;
	w->set->n = 0;
	w->set->n_used = w->set->free = 0;
}

void icpu_window_close(struct icpu_space *s)
{
	struct icpu_window *w = &s->window;

	w->polls = 0;
	while (w->n_regions) {
		unsigned i = --w->n_regions;

		w->add[w->region[i].at] = NOWHERE;
		window_munmap(w->region[i].host, REGION_BYTES + REGION_GUARD);
	}
	if (w->set)
		window_munmap(w->set, sizeof(*w->set));
	w->set = NULL;
}

/* --- faults ---------------------------------------------------------------------------------------- */

bool icpu_window_find(const struct icpu *c, const void *at, uint64_t *la)
{
	const struct icpu_window *w = &c->space->window;

	for (unsigned i = 0; i < w->n_regions; i++) {
		uint64_t off = (uint64_t)((const uint8_t *)at - w->region[i].host);

		*la = ((uint64_t)w->region[i].at << ICPU_WINDOW_SHIFT) + off;
		if (off < REGION_BYTES)
			return true;
	}
	return false;
}

/* What may be mapped at LA: for writing if that is possible. */
static bool find(struct icpu *c, uint64_t la, bool *is_write, struct itlb_found *found)
{
	*is_write = icpu_tlb_find(c, la, ICPU_WRITE, found);
	return *is_write || icpu_tlb_find(c, la, ICPU_READ, found);
}

/* Would the page of LA follow FIRST, which has been found for FIRST_LA, and is it new to the window? */
static bool is_alike(struct icpu *c, uint64_t la, uint64_t first_la, const struct itlb_found *first, bool is_write, struct itlb_found *found)
{
	bool may_write;

	return !set_find(c->space->window.set, la) && find(c, la, &may_write, found) && may_write == is_write &&
	       found->off - first->off == la - first_la;
}

/* See to it that what is mapped together finds room in the present window, at the cost of others, or of itself. */
static void make_room(struct icpu *c)
{
	unsigned n = c->space->window.set->n + ICPU_WINDOW_AROUND, all = n, max = share(c);

	if (n > ICPU_WINDOW_PAGES || n > max) {
		icpu_window_wipe(c->space);
		return;
	}
	for (unsigned i = 0; i < ICPU_N_SPACES; i++)
		if (&c->spaces[i] != c->space)
			all += icpu_window_mapped(&c->spaces[i]);
	for (unsigned i = 0; all > max && i < ICPU_N_SPACES; i++)
		if (&c->spaces[i] != c->space)
			icpu_window_wipe(&c->spaces[i]);
}

bool icpu_window_map(struct icpu *c, uint64_t la, bool is_write)
{
	struct icpu_space *s = c->space;
	struct window_set *w = s->window.set;
	struct itlb_found first, found;
	uint64_t page = la & ~0xfffull, from = page, to = page + 4096;
	uint64_t block = page & ~(uint64_t)(ICPU_WINDOW_AROUND * 4096 - 1);
	unsigned old;
	bool may_write;

	if (!page || !find(c, page, &may_write, &first) || (is_write && !may_write))
		return false;
	make_room(c);
	old = set_find(w, page);
	if (old)
		set_remove(w, old);
	set_add(w, page, &first, may_write);
	while (to < block + ICPU_WINDOW_AROUND * 4096 && is_alike(c, to, page, &first, may_write, &found)) {
		set_add(w, to, &found, may_write);
		to += 4096;
	}
	while (from > block && from > 4096 && is_alike(c, from - 4096, page, &first, may_write, &found)) {
		from -= 4096;
		set_add(w, from, &found, may_write);
	}
	if (window_mmap(window_host(s, from), to - from, PROT_READ | (may_write ? PROT_WRITE : 0), MAP_SHARED | MAP_FIXED | MAP_POPULATE,
			c->mem->fd, first.off - (page - from)))
		return true;
	icpu_window_wipe(s);            /* too many areas, for one; the interpreter goes on */
	return false;
}

unsigned icpu_window_mapped(const struct icpu_space *s)
{
	return s->window.set ? s->window.set->n : 0;
}

/* --- dropping -------------------------------------------------------------------------------------- */

/* The pages of LEN bytes from LA on, which are in one region, go. */
static void drop_range(struct icpu_space *s, uint64_t la, uint64_t len)
{
	struct window_set *w = s->window.set;
	unsigned n = 0;

	for (uint64_t at = la; at < la + len; at += 4096) {
		unsigned i = set_find(w, at);

		if (i) {
			set_remove(w, i);
			n++;
		}
	}
	if (n)
		unmap(&s->window, window_host(s, la), len);
}

void icpu_window_drop(struct icpu_space *s, uint64_t la, enum icpu_window_size size)
{
	struct window_set *w = s->window.set;
	unsigned i;

	if (!w || !w->n || !icpu_window_has(&s->window, la))
		return;
	switch (size) {
	case ICPU_WINDOW_PAGE:
		i = set_find(w, la & ~0xfffull);
		if (i)
			page_unmap(s, i);
		break;
	case ICPU_WINDOW_4M:
		drop_range(s, la & ~((4ull << 20) - 1), 4ull << 20);
		break;
	default:
		icpu_window_wipe(s);
	}
}

/* Pages that follow each other in a region, and go together. */
struct run { uint64_t from, to; };

static void run_unmap(struct icpu_space *s, const struct run *r)
{
	if (r->from != r->to)
		unmap(&s->window, window_host(s, r->from), r->to - r->from);
}

static void run_add(struct icpu_space *s, struct run *r, uint64_t la)
{
	bool is_near = la >> ICPU_WINDOW_SHIFT == r->from >> ICPU_WINDOW_SHIFT;

	if (is_near && la == r->to) {
		r->to += 4096;
	} else if (is_near && la + 4096 == r->from) {
		r->from = la;
	} else {
		run_unmap(s, r);
		*r = (struct run){ la, la + 4096 };
	}
}

void icpu_window_check(struct icpu *c, struct icpu_space *s, bool is_same_above)
{
	struct window_set *w = s->window.set;
	struct run run = { 0, 0 };
	unsigned n_gone = 0;
	struct itlb_found found;

	if (!w || !w->n)
		return;
	for (unsigned i = 1; i <= w->n_used; i++) {
		struct window_page *p = &w->page[i];

		if (!p->la)
			continue;
		bool is_same = is_same_above ? !tlb_leaf_has_changed(&p->seen, p->is_write) :
			icpu_tlb_find(c, p->la, p->is_write ? ICPU_WRITE : ICPU_READ, &found) && found.off >> GMEM_PAGE_SHIFT == p->page;

		if (is_same && !is_same_above)
			p->seen = found.leaf;   /* another table may say the same now */
		if (is_same)
			continue;
		run_add(s, &run, p->la);
		set_remove(w, i);
		n_gone++;
	}
	if (!is_same_above && n_gone > w->n) {
		icpu_window_close(s);
		s->window.polls = -ICPU_WINDOW_REST / 16;      /* or it is a program that stays */
	} else {
		run_unmap(s, &run);
	}
}

/* Page I of S is for writing: it goes when its page wants to hear of stores by now. */
static void page_recheck(struct icpu *c, struct icpu_space *s, unsigned i)
{
	uint64_t page = s->window.set->page[i].page;

	if (!atomic_load(&c->mem->page_flags[page]) && !atomic_load(&c->mem->is_logging))
		return;
	page_unmap(s, i);
	gmem_note_write(c->mem, page);
}

static void space_recheck(struct icpu *c, struct icpu_space *s, uint64_t page)
{
	const struct window_set *w = s->window.set;

	if (!w || !w->n)
		return;
	for (unsigned i = w->by_page[page_bucket(page)], next; page != UINT64_MAX && i; i = next) {
		next = w->page[i].next_page;
		if (w->page[i].page == page)
			page_recheck(c, s, i);
	}
	for (unsigned i = 1; page == UINT64_MAX && i <= w->n_used; i++)
		if (w->page[i].la && w->page[i].is_write)
			page_recheck(c, s, i);
}

void icpu_window_recheck(struct icpu *c, uint64_t page)
{
	for (unsigned i = 0; i < ICPU_N_SPACES; i++)
		space_recheck(c, &c->spaces[i], page);
}

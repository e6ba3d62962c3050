/* SPDX-License-Identifier: Apache-2.0 */
/* space.c - address spaces: keeping translations over changes of CR3, and dropping what the guest says
 * (Intel SDM vol. 3 4.10). Vcpu thread only.
 *
 * A flush of a space drops nothing at once. Before the space is used again, every translation is compared with the
 * paging-structure entries that it was read from, and goes when one has changed in a way that matters to it: so
 * the next access finds what memory says, as the flush demands, and what did not change stays. It costs a few
 * loads per translation, and never more than dropping and one load each. */
#include <asm/prctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "cpu/interp/tlb_priv.h"
#include "util/checked.h"

/* More translations than this are dropped unseen: who has that many and flushes has changed a lot. */
enum { MAX_COMPARED = 4096 };

/* For the tables of all address spaces. A compiler's run uses some 2 MiB per process. */
enum { TABLE_BYTES = 8 << 20 };

enum { SPACE_LIST = ICPU_SPACE_LIST, SPACE_BYTES = ICPU_SPACE_BYTES };
enum { WINDOW_BYTES = 4096 };           /* the table of a window; it stays when what is before it gives its memory back */
_Static_assert(sizeof(struct itlb_table) % 4096 == 0 && SPACE_BYTES % 4096 == 0, "whole pages are given back");

#define HWCAP2_FSGSBASE 2ul            /* the host's kernel lets us: asm/hwcap2.h */

/* --- memory ---------------------------------------------------------------------------------------- */

static size_t view_size(size_t cpu_size)
{
	return align_up(cpu_size, 4096) + SPACE_BYTES + WINDOW_BYTES;
}

/* A view: SHARED, or memory of its own when that is -1, and behind it tables and lists. NULL: no memory. */
static uint8_t *view_map(size_t cpu_size, int shared)
{
	size_t size = view_size(cpu_size), head = align_up(cpu_size, 4096);
	uint8_t *p = icpu_cache_map(size);

	if (!p)
		return NULL;
	madvise(p + head, SPACE_BYTES, MADV_NOHUGEPAGE);        /* it is used here and there, and counted */
	if (shared < 0)
		return p;
	if (mmap(p, head, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, shared, 0) == MAP_FAILED) {
		icpu_cache_unmap(p, size);
		return NULL;
	}
	madvise(p, head, MADV_DONTDUMP);
	return p;
}

/* N tables of zeroes become empty ones. Only in slot 0 do zeroes look like an entry, for page 0. */
static void tables_init(struct itlb_table *table, unsigned n, unsigned exec, unsigned twin)
{
	table[exec].twin = &table[twin];
	for (unsigned i = 0; i < n; i++)
		table[i].inl[0].tag = 1 << 12;
}

static void space_tables_init(const struct icpu_space *s)
{
	tables_init(s->table, ICPU_SPACE_TABLES, 2, 7);
}

static void space_init(struct icpu_space *s, uint8_t *memory)
{
	s->table = (struct itlb_table *)memory;
	s->list[0] = (uint32_t *)(memory + ICPU_SPACE_TABLES * sizeof(struct itlb_table));
	s->list[1] = s->list[0] + SPACE_LIST;
	s->window.add = (uint64_t *)(memory + SPACE_BYTES);
	space_tables_init(s);
	icpu_window_init(s);
}

static void shared_init(struct icpu *c)
{
	c->shared.table = c->shared_table;
	c->shared.list[0] = c->shared_list[0];
	c->shared.list[1] = c->shared_list[1];
	tables_init(c->shared_table, ICPU_SHARED_TABLES, 2, 3);
}

void icpu_view_enter(const struct icpu *c)
{
	const uint8_t *view = c->space->view;

	/* What AT_HWCAP2 says does not change, and reading it takes less than the system call. */
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
		__asm__ volatile("wrgsbase %0" :: "r"(view) : "memory");
	else
		syscall(SYS_arch_prctl, ARCH_SET_GS, view);
}

static void use(struct icpu *c, struct icpu_space *s)
{
	c->space = s;
	s->used_at = ++c->space_clock;
	for (unsigned p = 0; p < ICPU_N_PRIV; p++)
		for (unsigned a = 0; a < ICPU_N_ACCESS; a++)
			c->table[p][a] = &(itlb_is_shared(p, a) ? &c->shared : s)->table[itlb_table_number(p, a)];
	if (c->has_inline)
		icpu_view_enter(c);
}

struct icpu *icpu_map(size_t cpu_size, bool has_views)
{
	size_t head = align_up(cpu_size, 4096);
	int fd = has_views ? memfd_create("vcpu", MFD_CLOEXEC) : -1;
	struct icpu *c = NULL;

	if (fd >= 0 && ftruncate(fd, (off_t)head) == 0)
		c = (struct icpu *)view_map(cpu_size, fd);
	else if (!has_views)
		c = (struct icpu *)view_map(cpu_size, -1);
	if (c)
		c->view_fd = fd;        /* icpu_unmap() closes it */
	else if (fd >= 0)
		close(fd);
	for (unsigned i = 0; c && i < ICPU_N_SPACES; i++) {
		struct icpu_space *s = &c->spaces[i];
		uint8_t *view = i == 0 ? (uint8_t *)c : has_views ? view_map(cpu_size, fd) : view_map(0, -1);

		if (!view) {
			icpu_unmap(c, cpu_size);
			c = NULL;
			break;
		}
		s->view = view;
		space_init(s, view + (i == 0 || has_views ? head : 0));
	}
	if (!c)
		return NULL;
	shared_init(c);
	icpu_space_limit(c, 0);
	use(c, &c->spaces[0]);
	c->has_inline = has_views;
	return c;
}

void icpu_unmap(struct icpu *c, size_t cpu_size)
{
	if (!c)
		return;
	bool has_views = c->spaces[1].table != (struct itlb_table *)c->spaces[1].view;
	int fd = c->view_fd;

	for (unsigned i = 0; i < ICPU_N_SPACES; i++)
		icpu_window_close(&c->spaces[i]);
	for (unsigned i = ICPU_N_SPACES; i-- > 0; )
		icpu_cache_unmap(c->spaces[i].view, view_size(i == 0 || has_views ? cpu_size : 0));
	if (fd >= 0)
		close(fd);
}

size_t icpu_map_resident(const struct icpu *c, size_t cpu_size)
{
	size_t n = c->view_fd >= 0 ? icpu_file_resident(c->view_fd) : icpu_resident(c, cpu_size);

	for (unsigned i = 0; i < ICPU_N_SPACES; i++)
		n += icpu_resident(c->spaces[i].table, SPACE_BYTES);
	return n;
}

/* --- dropping ---------------------------------------------------------------------------------------- */

static void drop(const struct icpu *c, struct itlb_table *t, unsigned slot)
{
	t->entry[slot].tag = 0;
	if (c->has_inline)
		tlb_inline_drop(t, slot);
}

/* All global entries of S, or all that are not. */
static void drop_listed(const struct icpu *c, struct icpu_space *s, bool is_global)
{
	for (unsigned i = 0; i < s->listed[is_global]; i++) {
		unsigned id = s->list[is_global][i], slot = id % ICPU_TLB_SIZE;
		struct itlb_table *t = &s->table[id / ICPU_TLB_SIZE];

		if (!(t->entry[slot].gpa & ITLB_GLOBAL) == !is_global)
			drop(c, t, slot);
		t->entry[slot].gpa &= ~(uint64_t)(is_global ? ITLB_LISTED_GLOBAL : ITLB_LISTED);
	}
	s->listed[is_global] = 0;
}

static void forget_upper(struct icpu_space *s)
{
	if (s->n_upper)
		memset(s->upper, 0, sizeof(s->upper));
	s->n_upper = 0;
	s->is_opaque = s->must_check = false;
}

static void drop_local(const struct icpu *c, struct icpu_space *s)
{
	drop_listed(c, s, false);
	forget_upper(s);
}

static void drop_all(const struct icpu *c, struct icpu_space *s)
{
	drop_local(c, s);
	drop_listed(c, s, true);
	memset(s->large_seen, 0, sizeof(s->large_seen));
	s->n_pending = 0;
	s->must_drop_global = false;
}

/* --- giving memory back ------------------------------------------------------------------------------- */

void icpu_space_limit(struct icpu *c, size_t bytes)
{
	size_t n = (bytes ? bytes : TABLE_BYTES) / ICPU_CHUNK_BYTES;

	c->max_chunks = n < ICPU_SPACE_TABLES ? ICPU_SPACE_TABLES : n > UINT16_MAX ? UINT16_MAX : (unsigned)n;
}

/* S has no translations from here on, and its tables no memory. */
static void release(struct icpu *c, struct icpu_space *s)
{
	icpu_window_close(s);
	drop_all(c, s);
	madvise(s->table, SPACE_BYTES, MADV_DONTNEED);  /* or it stays, and is empty */
	space_tables_init(s);
	memset(s->chunks, 0, sizeof(s->chunks));
	c->n_chunks -= s->n_chunks;
	s->n_chunks = 0;
	c->stats.tlb_trims++;
}

/* The one that was not used for longest, of those that have memory and are not in use; or NULL. */
static struct icpu_space *least_used(struct icpu *c)
{
	struct icpu_space *oldest = NULL;

	for (unsigned i = 0; i < ICPU_N_SPACES; i++) {
		struct icpu_space *s = &c->spaces[i];

		if (s != c->space && s->n_chunks && (!oldest || s->used_at < oldest->used_at))
			oldest = s;
	}
	return oldest;
}

void icpu_space_trim(struct icpu *c)
{
	/* Some more than needed, so that it is not due again at once. */
	unsigned enough = c->max_chunks - c->max_chunks / 4;
	struct icpu_space *s;

	c->must_trim = false;
	while (c->n_chunks > enough && (s = least_used(c)) != NULL)
		release(c, s);
	if (c->n_chunks > c->max_chunks) {
		c->code_epoch++;
		release(c, c->space);
	}
}

/* --- comparing ---------------------------------------------------------------------------------------- */

static bool upper_has_changed(const struct icpu_space *s)
{
	for (unsigned i = 0, n = 0; n < s->n_upper; i++) {
		const struct itlb_seen *u = &s->upper[i];

		if (!u->pte)
			continue;
		n++;
		if ((atomic_load_explicit(u->pte, memory_order_relaxed) ^ u->val) & PTE_UPPER_MATTERS)
			return true;
	}
	return false;
}

/* S was flushed: what is not global goes unless memory still says the same. */
static void check(struct icpu *c, struct icpu_space *s)
{
	unsigned n = 0;

	if (s->is_opaque || s->listed[0] > MAX_COMPARED || upper_has_changed(s)) {
		drop_local(c, s);
		icpu_window_check(c, s, false);
		return;
	}
	icpu_window_check(c, s, true);
	for (unsigned i = 0; i < s->listed[0]; i++) {
		unsigned id = s->list[0][i], slot = id % ICPU_TLB_SIZE, number = id / ICPU_TLB_SIZE;
		struct itlb_table *t = &s->table[number];
		struct itlb_entry *e = &t->entry[slot];

		if (e->tag && !(e->gpa & ITLB_GLOBAL) && !tlb_leaf_has_changed(&t->seen[slot], itlb_is_write(number, false))) {
			s->list[0][n++] = id;
			continue;
		}
		if (!(e->gpa & ITLB_GLOBAL))
			drop(c, t, slot);
		e->gpa &= ~(uint64_t)ITLB_LISTED;
	}
	s->listed[0] = n;
	s->must_check = false;
}

/* --- pages ---------------------------------------------------------------------------------------------- */

/* Entries of 4 KiB that were cut out of the large page around LA go with it (4.10.4.1). Those of a 4 MiB page,
 * and needlessly of the neighbour of a 2 MiB one, lie in SLOTS_4M slots side by side. */
enum { SLOTS_4M = 1024 };
_Static_assert(ICPU_TLB_SIZE % SLOTS_4M == 0, "a 4 MiB page does not wrap around");

static bool large_is_seen(const struct icpu_space *s, uint64_t la, bool is_1g)
{
	unsigned bit = tlb_large_bit(la, is_1g);

	return s->large_seen[bit / 64] >> (bit % 64) & 1;
}

static void drop_large(const struct icpu *c, struct itlb_table *t, uint64_t la, bool is_1g, uint64_t gpa_must)
{
	unsigned first = is_1g ? 0 : tlb_slot(la) / SLOTS_4M * SLOTS_4M, n = is_1g ? ICPU_TLB_SIZE : SLOTS_4M;

	for (unsigned slot = first; slot < first + n; slot++) {
		const struct itlb_entry *e = &t->entry[slot];

		if ((e->gpa & gpa_must) == gpa_must && (((e->gpa & ITLB_2M) && e->tag >> 22 == la >> 22) ||
							((e->gpa & ITLB_1G) && e->tag >> 30 == la >> 30)))
			drop(c, t, slot);
	}
}

/* LA's page, if its entry has the bits GPA_MUST. */
static void drop_page(const struct icpu *c, struct icpu_space *s, uint64_t la, uint64_t gpa_must)
{
	unsigned n = s == &c->shared ? ICPU_SHARED_TABLES : ICPU_SPACE_TABLES, slot = tlb_slot(la);
	bool is_1g = large_is_seen(s, la, true);
	bool is_large = is_1g || large_is_seen(s, la, false) || large_is_seen(s, la ^ 1 << 21, false);

	for (unsigned i = 0; i < n; i++) {
		struct itlb_table *t = &s->table[i];

		if (t->entry[slot].tag && !((t->entry[slot].tag ^ la) & ~0xfffull) && (t->entry[slot].gpa & gpa_must) == gpa_must)
			drop(c, t, slot);
		if (is_large)
			drop_large(c, t, la, is_1g, gpa_must);
	}
	icpu_window_drop(s, la, is_1g ? ICPU_WINDOW_1G : is_large ? ICPU_WINDOW_4M : ICPU_WINDOW_PAGE);
}

/* S, which is not in use, hears of it later. */
static void page_flushed_elsewhere(struct icpu_space *s, uint64_t la)
{
	if (!s->listed[1])
		return;
	if (s->n_pending == ICPU_PENDING)
		s->must_drop_global = true;
	else
		s->pending[s->n_pending++] = la;
}

/* What was flushed while S was not in use. */
static void catch_up(struct icpu *c, struct icpu_space *s)
{
	if (s->must_drop_global)
		drop_listed(c, s, true);
	for (unsigned i = 0; i < s->n_pending && !s->must_drop_global; i++)
		drop_page(c, s, s->pending[i], ITLB_GLOBAL);
	s->n_pending = 0;
	s->must_drop_global = false;
	if (s->must_check)
		check(c, s);
}

/* --- what the guest asks for --------------------------------------------------------------------------- */

static uint64_t root_now(const struct icpu *c)
{
	return c->s.cr3 & (c->s.efer & X86_EFER_LMA ? PTE_ADDR : 0xffffffe0);
}

static uint16_t pcid_now(const struct icpu *c)
{
	return c->s.cr4 & X86_CR4_PCIDE ? c->s.cr3 & 0xfff : 0;
}

void icpu_tlb_flush(struct icpu *c, bool keep_global)
{
	c->code_epoch++;
	for (unsigned i = 0; i <= ICPU_N_SPACES; i++) {
		struct icpu_space *s = i < ICPU_N_SPACES ? &c->spaces[i] : &c->shared;

		icpu_window_wipe(s);
		if (keep_global)
			drop_local(c, s);
		else
			drop_all(c, s);
		if (!keep_global && s != c->space)
			s->is_used = false;
	}
	c->space->root = root_now(c);
	c->space->pcid = pcid_now(c);
	c->space->is_used = true;
}

void icpu_tlb_flush_page(struct icpu *c, uint64_t la)
{
	c->code_epoch++;
	drop_page(c, &c->shared, la, 0);
	drop_page(c, c->space, la, 0);
	for (unsigned i = 0; i < ICPU_N_SPACES; i++) {
		struct icpu_space *s = &c->spaces[i];

		if (s == c->space || !s->is_used)
			continue;
		page_flushed_elsewhere(s, la);
		s->must_check |= s->pcid == c->space->pcid;
	}
}

void icpu_tlb_flush_pcid(struct icpu *c, unsigned pcid)
{
	bool is_mine = pcid == ICPU_ALL_PCIDS || pcid == c->space->pcid;

	for (unsigned i = 0; i < ICPU_N_SPACES; i++)
		c->spaces[i].must_check |= pcid == ICPU_ALL_PCIDS || c->spaces[i].pcid == pcid;
	if (!is_mine)
		return;
	c->code_epoch++;
	drop_listed(c, &c->shared, false);
	check(c, c->space);
}

void icpu_tlb_flush_pcid_page(struct icpu *c, unsigned pcid, uint64_t la)
{
	if (pcid == c->space->pcid)
		icpu_tlb_flush_page(c, la);
	else
		icpu_tlb_flush_pcid(c, pcid);
}

/* The space for CR3 as it is now. One that is going to be compared with memory may have been another PCID's. */
static struct icpu_space *space_get(struct icpu *c, bool is_flushed)
{
	uint64_t root = root_now(c);
	uint16_t pcid = pcid_now(c);
	struct icpu_space *oldest = NULL, *other = NULL;

	for (unsigned i = 0; i < ICPU_N_SPACES; i++) {
		struct icpu_space *s = &c->spaces[i];

		if (s->is_used && s->root == root && s->pcid == pcid)
			return s;
		if (s->is_used && s->root == root)
			other = s;
		if (!oldest || !s->is_used || (oldest->is_used && s->used_at < oldest->used_at))
			oldest = s;
	}
	if (is_flushed && other) {
		other->pcid = pcid;
		other->must_check = true;
		return other;
	}
	icpu_window_close(oldest);
	drop_all(c, oldest);
	oldest->root = root;
	oldest->pcid = pcid;
	oldest->is_used = true;
	return oldest;
}

void icpu_space_switch(struct icpu *c, bool is_kept)
{
	uint16_t pcid = pcid_now(c);
	struct icpu_space *s = space_get(c, !is_kept);

	c->code_epoch++;
	for (unsigned i = 0; !is_kept && i < ICPU_N_SPACES; i++)
		c->spaces[i].must_check |= c->spaces[i].pcid == pcid;
	drop_listed(c, &c->shared, false);
	if (s != c->space)
		use(c, s);
	catch_up(c, s);
	if (c->must_trim)
		icpu_space_trim(c);
}

/* --- for translated code ---------------------------------------------------------------------------------- */

void icpu_inline_forget_code(struct icpu *c)
{
	for (unsigned n = 0; n <= ICPU_N_SPACES; n++) {
		struct icpu_space *s = n < ICPU_N_SPACES ? &c->spaces[n] : &c->shared;

		for (unsigned list = 0; list < 2; list++)
			for (unsigned i = 0; i < s->listed[list]; i++) {
				struct itlb_table *t = &s->table[s->list[list][i] / ICPU_TLB_SIZE];

				if (t->twin)
					tlb_inline_drop(t, s->list[list][i] % ICPU_TLB_SIZE);
			}
	}
}

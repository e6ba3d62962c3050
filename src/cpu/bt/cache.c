/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - fragments: memory, finding, linking, invalidation. Vcpu thread only, but for the queue.
 *
 * Code lives in a memfd that is mapped twice, once to be executed and once to be written. What
 * describes it (fragments, links, sites) lies in an arena; evict.c makes room in both. A fragment
 * dies earlier when its bytes are overwritten: its links are undone, its memory stays. */
#include "cpu/bt/bt_priv.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/err.h"

enum { MAX_LOSSES = 16 };

/* For tables of fixed size: of indirect jumps, of the supervisor's translations, of decoded blocks, for finding
 * fragments. With less than twice that altogether they come on top. */
enum { FIXED_BYTES = 10 << 20 };

/* What becomes of the rest of a processor's memory, as it turned out to be used. TABLES: of address spaces. */
enum { PART_CODE = 51, PART_ARENA = 43, PART_PAGES = 6, PART_TABLES = 12, PARTS = 112 };

/* --- memory ---------------------------------------------------------------------------------- */

/* SIZE bytes of addresses at which a large page can begin, with nothing there yet. NULL: no memory. */
static uint8_t *cache_reserve_large(size_t size)
{
	uint8_t *p = icpu_cache_map(size + BT_LARGE_PAGE), *at = (uint8_t *)align_up((uintptr_t)p, BT_LARGE_PAGE);

	if (!p)
		return NULL;
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + align_up(size, 4096), (size_t)(p + BT_LARGE_PAGE - at));
	return at;
}

/* SIZE bytes in large pages, if the host has any: what describes code is looked up here and there all the time. */
static void *cache_map_large(size_t size)
{
	uint8_t *at = cache_reserve_large(size);

	if (at)
		madvise(at, size, MADV_HUGEPAGE);
	return at;
}

/* The memfd, mapped once more; NULL: it could not be. */
static uint8_t *cache_map_code(const struct bt_cache *k, int prot)
{
	uint8_t *at = cache_reserve_large(k->code_bytes);

	if (!at || mmap(at, k->code_bytes, prot, MAP_SHARED | MAP_FIXED, k->fd, 0) != MAP_FAILED)
		return at;
	munmap(at, k->code_bytes);
	return NULL;
}

static int cache_map(struct bt_cache *k, struct err *err)
{
	k->fd = memfd_create("guest-code", MFD_CLOEXEC);
	if (k->fd < 0 || ftruncate(k->fd, k->code_bytes) < 0)
		return err_set(err, -errno, "cannot create the cache of translated code: %s", strerror(errno));
	k->rw = cache_map_code(k, PROT_READ | PROT_WRITE);
	k->rx = cache_map_code(k, PROT_READ | PROT_EXEC);
	if (!k->rw || !k->rx)
		return err_set(err, -ENOMEM, "cannot map the cache of translated code: %s", strerror(errno));
	return 0;
}

/* A part, of all that a processor may use. */
static size_t part_size(size_t bytes)
{
	if (!bytes)
		bytes = BT_CACHE_BYTES;
	else if (bytes < BT_CACHE_MIN)
		bytes = BT_CACHE_MIN;
	else if (bytes > BT_CACHE_MAX)
		bytes = BT_CACHE_MAX;
	if (bytes >= 2 * FIXED_BYTES)
		bytes -= FIXED_BYTES;
	else if (bytes > FIXED_BYTES)
		bytes = FIXED_BYTES;
	return bytes / PARTS;
}

/* A cache without code: itself, its pages and its arena, one after the other. NULL: no memory. */
static struct bt_cache *cache_alloc(size_t part)
{
	const size_t unit = 64 << 10, n_pages = part * PART_PAGES / sizeof(struct bt_page);
	size_t code = align_up(part * PART_CODE, unit), arena = align_up(part * PART_ARENA, unit);
	size_t blocks = (code >> BT_BLOCK_SHIFT) * sizeof(uint32_t);
	size_t before = align_up(sizeof(struct bt_cache) + n_pages * sizeof(struct bt_page) + blocks, 64);
	struct bt_cache *k = cache_map_large(before + arena);

	if (!k)
		return NULL;
	k->size = before + arena;
	k->fd = -1;
	k->code_bytes = (uint32_t)code;
	k->arena_bytes = (uint32_t)arena;
	k->max_pages = (unsigned)n_pages;
	k->pages = (struct bt_page *)(k + 1);
	k->in_block = (uint32_t *)(k->pages + n_pages);
	k->arena = (uint8_t *)k + before;
	k->n_regions = k->code_bytes / BT_REGION_BYTES;
	if (k->n_regions < BT_MIN_REGIONS)
		k->n_regions = BT_MIN_REGIONS;
	if (k->n_regions > BT_MAX_REGIONS)
		k->n_regions = BT_MAX_REGIONS;
	return k;
}

int bt_cache_new(struct bt_cpu *b, size_t bytes, struct err *err)
{
	size_t part = part_size(bytes);
	struct bt_cache *k = cache_alloc(part);

	if (!k)
		return err_set(err, -ENOMEM, "cannot map the cache of translated code: %s", strerror(ENOMEM));
	b->cache = k;
	icpu_space_limit(&b->i, part * PART_TABLES);
	int r = cache_map(k, err);

	if (r < 0)
		return r;
	k->next_id = 1;
	k->e = (struct emit){ k->rw, k->rw + k->code_bytes };
	k->has_avx = !(b->i.missing & X86_F_BIT(AVX));
	bt_thunks_emit(k);
	k->code_start = k->e.p;
	bt_cache_clear(b);
	return 0;
}

void bt_cache_free(struct bt_cpu *b)
{
	struct bt_cache *k = b->cache;

	if (!k)
		return;
	bt_perf_map_close(k);
	if (k->rw)
		munmap(k->rw, k->code_bytes);
	if (k->rx)
		munmap(k->rx, k->code_bytes);
	if (k->fd >= 0)
		close(k->fd);
	icpu_cache_unmap(k, k->size);
	b->cache = NULL;
}

size_t bt_cache_resident(const struct bt_cpu *b)
{
	const struct bt_cache *k = b->cache;

	return icpu_resident(k, k->size) + icpu_file_resident(k->fd);
}

void *bt_arena_alloc(struct bt_cache *k, size_t size)
{
	void *p = k->arena + k->arena_used;

	k->arena_used += (uint32_t)align_up(size, 8);
	return memset(p, 0, size);
}

/* --- links ------------------------------------------------------------------------------------- */

void bt_indirect_need(struct bt_cpu *b, unsigned key)
{
	const uint8_t *miss = b->cache->rx + b->cache->thunk.miss;

	if (b->ind_used[key])
		return;
	for (unsigned i = 0; i < 1 << BT_IND_BITS; i++)
		b->ind[key][i] = miss;
	b->ind_used[key] = true;
}

void bt_frag_forget(struct bt_cpu *b, struct bt_frag *f)
{
	struct bt_cache *k = b->cache;
	uint32_t *at = bt_frag_bucket(k, f->va, f->page->id), off = bt_arena_off(k, f);

	while (*at != off)
		at = &bt_frag_of(k, *at)->next_hash;
	*at = f->next_hash;
	bt_indirect_forget(b, f);
	if (b->split == f)
		b->split = NULL;
	f->is_gone = true;
}

/* Take F out of everything that leads to it. */
static void frag_kill(struct bt_cpu *b, struct bt_frag *f)
{
	struct bt_cache *k = b->cache;

	for (struct bt_link *l = bt_link_of(k, f->in), *next; l; l = next) {
		next = bt_link_of(k, l->next_in);
		bt_link_undo(k, l);
	}
	f->in = 0;
	b->i.stats.code_invalidations++;
	bt_frag_forget(b, f);
}

static void frag_drop(struct bt_cpu *b, struct bt_frag *f)
{
	uint32_t *at = &f->page->frags, off = bt_arena_off(b->cache, f);

	while (*at != off)
		at = &bt_frag_of(b->cache, *at)->next_page;
	*at = f->next_page;
	frag_kill(b, f);
}

/* By 64ths of the page: where code of F is. */
static uint64_t frag_parts(const struct bt_frag *f)
{
	unsigned off = f->va & 0xfff, last = off + f->n_bytes - 1;

	return (last > 0xfff ? UINT64_MAX : UINT64_MAX >> (63 - (last >> 6))) & UINT64_MAX << (off >> 6);
}

/* Code in all parts of its page where F has some does without a window: it goes on after a fault with another fragment. */
static void split_window(struct bt_cpu *b, struct bt_frag *f)
{
	struct bt_page *p = f->page;
	uint64_t here = frag_parts(f);

	p->less[BT_LESS_WINDOW] |= here;
	for (struct bt_frag *next, *at = bt_frag_of(b->cache, p->frags); at; at = next) {
		next = bt_frag_of(b->cache, at->next_page);
		if (!at->is_soft && here >> (at->va >> 6 & 63) & 1)
			frag_drop(b, at);
	}
}

void bt_split(struct bt_cpu *b)
{
	struct bt_frag *f = b->split;

	b->split = NULL;
	if (b->split_how == BT_LESS_WINDOW) {
		split_window(b, f);
		return;
	}
	if (b->split_how < BT_N_LESS)
		f->page->less[b->split_how] |= 1ull << (f->va >> 6 & 63);
	frag_drop(b, f);
}

/* --- pages and finding --------------------------------------------------------------------------- */

struct bt_page **bt_page_by_va(struct bt_cache *k, uint64_t va)
{
	return &k->by_va[bt_hash(va) >> 52];
}

struct bt_page **bt_page_by_page(struct bt_cache *k, uint64_t page)
{
	return &k->by_page[bt_hash(page) >> 52];
}

const struct bt_page *bt_page_now(const struct bt_cpu *b, uint64_t va, unsigned key)
{
	const struct itlb_inline *n = &b->i.table[key & BT_KEY_PRIV][ICPU_EXEC]->inl[va >> GMEM_PAGE_SHIFT & (ICPU_TLB_SIZE - 1)];
	const struct bt_page *p = *bt_page_by_va(b->cache, va);

	while (p && (p->va != va || p->id != n->tag || p->key != key))
		p = p->next_va;
	return p;
}

/* NULL: none. */
static struct bt_page *page_find(struct bt_cache *k, uint64_t va, uint64_t page, unsigned key, enum bt_policy policy)
{
	struct bt_page *p = *bt_page_by_va(k, va);

	while (p && (p->va != va || p->page != page || p->key != key || p->policy != policy))
		p = p->next_va;
	return p;
}

/* There is room, see bt_cache_reserve(). */
static struct bt_page *page_new(struct bt_cpu *b, uint64_t va, uint64_t page, unsigned key, enum bt_policy policy)
{
	struct bt_cache *k = b->cache;
	struct bt_page **va_head = bt_page_by_va(k, va), **page_head = bt_page_by_page(k, page), *p = k->free_pages;

	if (p)
		k->free_pages = p->next_va;
	else
		p = &k->pages[k->n_pages++];
	*p = (struct bt_page){ .va = va, .page = page, .key = (uint8_t)key, .policy = (uint8_t)policy, .id = k->next_id,
			       .gen = atomic_load_explicit(&b->i.mem->page_gen[page], memory_order_acquire),
			       .next_va = *va_head, .next_page = *page_head };
	k->next_id += 2;
	*va_head = *page_head = p;
	return p;
}

static void check_canonical(struct icpu *c, uint64_t la)
{
	unsigned unused = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

	if ((uint64_t)((int64_t)(la << unused) >> unused) != la)
		icpu_gp0(c);
}

/* Most code runs once or twice, and translating it costs more than interpreting it. */
static bool is_unfamiliar(struct bt_cpu *b, uint64_t page, uint64_t rip)
{
	uint8_t *seen = &b->seen[bt_hash(page << GMEM_PAGE_SHIFT | (rip & 0xfff)) >> (64 - BT_SEEN_BITS)];

	if (*seen >= b->patience)
		return false;
	++*seen;
	return true;
}

const struct bt_frag *bt_frag_at(const struct bt_cpu *b, uint64_t va)
{
	struct bt_cache *k = b->cache;
	unsigned key = bt_key_now(&b->i);

	for (const struct bt_page *p = *bt_page_by_va(k, va & ~0xfffull); p; p = p->next_va) {
		if (p->va != (va & ~0xfffull) || p->key != key)
			continue;
		for (const struct bt_frag *f = bt_frag_of(k, p->frags); f; f = bt_frag_of(k, f->next_page))
			if (f->va == va)
				return f;
	}
	return NULL;
}

/* What is at VA in P, translated and entered where it is found; NULL: not even one instruction. */
static struct bt_frag *frag_new(struct bt_cpu *b, struct bt_page *p, uint64_t va, bool is_split, bool wants_head)
{
	struct bt_cache *k = b->cache;
	uint32_t *bucket = bt_frag_bucket(k, va, p->id);
	uint32_t start = bt_code_off(k, k->e.p), cold = bt_code_off(k, k->cold.p);
	uint8_t was = icpu_phase_set(&b->i, CPU_PHASE_TRANSLATE);
	struct bt_frag *f = bt_translate(b, p, va, is_split, !is_split && (wants_head || bt_head_noted(p, va)));

	icpu_phase_set(&b->i, was);
	if (!f)
		return NULL;
	b->i.stats.blocks_decoded++;
	b->i.stats.code_bytes += bt_code_off(k, k->e.p) - start + bt_code_off(k, k->cold.p) - cold;
	if (k->perf_map)
		bt_perf_map_add(k, f, bt_code_off(k, k->e.p));
	f->next_hash = *bucket;
	f->next_page = p->frags;
	f->older = k->newest[k->region];
	*bucket = p->frags = k->newest[k->region] = k->in_block[f->ientry >> BT_BLOCK_SHIFT] = bt_arena_off(k, f);
	return f;
}

struct bt_frag *bt_find_split(struct bt_cpu *b, struct bt_page *page, uint64_t va)
{
	uint32_t id = page->id;

	for (struct bt_frag *f = bt_frag_first(b->cache, va, id); f; f = bt_frag_next(b->cache, f))
		if (f->va == va && f->page == page && f->is_split)
			return f;
	bt_cache_reserve(b);
	return page->id == id ? frag_new(b, page, va, true, false) : NULL;
}

/* F is to be entered as it cannot be: it is made anew. */
static struct bt_frag *frag_with_head(struct bt_cpu *b, struct bt_frag *f)
{
	struct bt_page *p = f->page;
	uint64_t va = f->va;

	bt_head_note(p, va);
	frag_drop(b, f);
	bt_cache_reserve(b);
	return bt_find(b, va, true);
}

struct bt_frag *bt_find(struct bt_cpu *b, uint64_t rip, bool wants_head)
{
	struct bt_cache *k = b->cache;
	struct icpu *c = &b->i;
	unsigned key = bt_key_now(c), priv = key & BT_KEY_PRIV;
	struct itlb_inline *n = &c->table[priv][ICPU_EXEC]->inl[rip >> 12 & (ICPU_TLB_SIZE - 1)];

	if (key == BT_NO_KEY)
		return NULL;
	struct bt_frag *f = n->tag & 1 ? bt_frag_find(k, rip, (uint32_t)n->tag) : NULL;

	if (f && f->page->key == key)
		return wants_head && !f->has_head ? frag_with_head(b, f) : f;
	if (!(key & BT_KEY_32))
		check_canonical(c, rip);
	const struct itlb_entry *e = icpu_exec_page(c, rip);

	if (!e->host)
		return NULL;
	bt_cache_reserve(b);
	uint64_t page = (uint64_t)(e->host - c->mem->host) >> GMEM_PAGE_SHIFT, va = rip & ~0xfffull;
	enum bt_policy policy = bt_policy_now(c, key);
	struct bt_page *p = page_find(k, va, page, key, policy);

	if (p) {
		n->tag = p->id;
		f = bt_frag_find(k, rip, p->id);
		if (f)
			return wants_head && !f->has_head ? frag_with_head(b, f) : f;
	}
	if (is_unfamiliar(b, page, rip))
		return NULL;
	if (!p)
		p = page_new(b, va, page, key, policy);
	n->tag = p->id;
	return frag_new(b, p, rip, false, wants_head);
}

/* --- invalidation ---------------------------------------------------------------------------------- */

static void queue_add(struct bt_cpu *b, uint64_t page, bool is_new)
{
	struct bt_queue *q = &b->queue;

	pthread_mutex_lock(&q->lock);
	bool is_known = q->n && q->item[q->n - 1].page == page && q->item[q->n - 1].is_new == is_new;

	if (is_known)
		;
	else if (q->n < BT_QUEUE) {
		q->item[q->n].page = page;
		q->item[q->n++].is_new = is_new;
	} else {
		q->is_full = true;
	}
	pthread_mutex_unlock(&q->lock);
	icpu_request(&b->i, ICPU_REQ_CODE);
}

void bt_code_written(void *arg, uint64_t page)
{
	struct cpu_vm *vm = arg;

	for (unsigned i = 0; i < vm->n; i++)
		queue_add(bt_of(vm->cpu[i]), page, false);
}

/* From here on stores to PAGE must be noticed. The others may still hold an entry to write it unseen,
 * until they look at their queue; they then report it as written. */
void bt_page_flagged(struct icpu *c, uint64_t page)
{
	icpu_inline_recheck(c, page);
	for (unsigned i = 0; i < c->vm->n; i++)
		if (c->vm->cpu[i] != c)
			queue_add(bt_of(c->vm->cpu[i]), page, true);
}

static void page_written(struct bt_cpu *b, uint64_t page)
{
	struct bt_cache *k = b->cache;
	const uint8_t *host = b->i.mem->host + (page << GMEM_PAGE_SHIFT);

	for (struct bt_page *p = *bt_page_by_page(k, page); p; p = p->next_page) {
		if (p->page != page)
			continue;
		/* The flag goes down now and then, and is raised again for what is still the same: data next
		 * to code. After MAX_LOSSES of them, all go: code that is in use comes back by itself. */
		uint32_t gen = atomic_load_explicit(&b->i.mem->page_gen[page], memory_order_acquire);
		bool is_lost = gen / (GMEM_CODE_PATIENCE * MAX_LOSSES) != p->gen / (GMEM_CODE_PATIENCE * MAX_LOSSES);

		p->gen = p->frags && !is_lost ? icpu_watch_code(&b->i, page) : gen;
		for (uint32_t *at = &p->frags; *at; ) {
			struct bt_frag *f = bt_frag_of(k, *at);

			if (!is_lost && bt_frag_is_same(f, host)) {
				at = &f->next_page;
				continue;
			}
			*at = f->next_page;
			frag_kill(b, f);
		}
	}
}

static bool is_outdated(const struct bt_cpu *b, const struct bt_page *p)
{
	return p->gen != atomic_load_explicit(&b->i.mem->page_gen[p->page], memory_order_acquire);
}

void bt_code_changed(struct bt_cpu *b)
{
	struct bt_queue *q = &b->queue, now;
	struct bt_cache *k = b->cache;

	b->i.code_maybe = false;
	pthread_mutex_lock(&q->lock);
	now = *q;
	q->n = 0;
	q->is_full = false;
	pthread_mutex_unlock(&q->lock);
	if (now.is_full) {
		for (unsigned i = 0; i < k->n_pages; i++)
			if (k->pages[i].id && is_outdated(b, &k->pages[i]))
				page_written(b, k->pages[i].page);
		icpu_inline_recheck(&b->i, UINT64_MAX);
		return;
	}
	for (unsigned i = 0; i < now.n; i++) {
		if (!now.item[i].is_new)
			page_written(b, now.item[i].page);
		else
			icpu_inline_recheck(&b->i, now.item[i].page);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The decoded-block cache. Vcpu thread only; each vcpu has its own.
 *
 * Blocks lie one after the other in an arena and are found by the place of their first byte in
 * guest RAM and the decoding mode. The page's CODE flag goes up before its generation is read
 * and the bytes after that, so whatever is stored later makes the generation differ. A block
 * whose generation is out of date is compared with the bytes that are there now: data next to
 * code costs a comparison, not a decoding. When the arena is full, all blocks go. */
#include "cpu/interp/core.h"

#include <stddef.h>
#include <stdlib.h>
#include "util/checked.h"

enum {
	HASH_BITS = 15,
	BLOCK_ROOM = sizeof(struct iblock) + IBLOCK_MAX * sizeof(struct iop) + IBLOCK_MAX * X86_INSN_MAX + 16,
};

struct iblock_cache {
	uint32_t head[1 << HASH_BITS];          /* arena offsets; 0: none */
	uint32_t used;                          /* of the arena; the first bytes are never a block */
	uint32_t size;                          /* of the arena */
	_Atomic uint32_t no_gen;                /* generation of what is not RAM */
	_Alignas(16) uint8_t scratch[BLOCK_ROOM];       /* the block outside RAM, decoded each time */
	_Alignas(16) uint8_t arena[];
};

struct iblock_cache *iblock_cache_new(size_t bytes)
{
	struct iblock_cache *bc = icpu_cache_map(sizeof(*bc) + bytes);

	if (bc) {
		bc->size = (uint32_t)bytes;
		bc->used = 16;
	}
	return bc;
}

void iblock_cache_free(struct iblock_cache *bc)
{
	if (bc)
		icpu_cache_unmap(bc, sizeof(*bc) + bc->size);
}

size_t iblock_cache_resident(const struct iblock_cache *bc)
{
	return icpu_resident(bc, sizeof(*bc) + bc->size);
}

static uint32_t *block_bucket(struct iblock_cache *bc, uint64_t off, unsigned mode)
{
	return &bc->head[(off * 4 + mode) * 0x9e3779b97f4a7c15ull >> (64 - HASH_BITS)];
}

/* The code bytes that a block was made from follow its instructions. */
static uint8_t *block_bytes(struct iblock *b)
{
	return (uint8_t *)&b->ops[b->n];
}

static uint32_t block_size(const struct iblock *b)
{
	return (uint32_t)align_up(sizeof(*b) + b->n * sizeof(struct iop) + b->n_bytes, 16);
}

/* --- binding ------------------------------------------------------------------------------ */

static void iop_gp(struct icpu *c, const struct iop *op)
{
	(void)op;
	icpu_gp0(c);
}

/* Vector and bit instructions run by the host's own, so it must know them. LZCNT and TZCNT are BSR
 * and BSF on a processor without, the host's as the guest's. */
static bool block_can_run(const struct icpu *c, const struct x86_insn *x)
{
	return !(c->missing >> x->row->feature & 1) || x->op == X86_OP_LZCNT || x->op == X86_OP_TZCNT;
}

static iop_fn block_bind(const struct icpu *c, const struct x86_insn *x)
{
	static iop_fn (*const binds[])(const struct x86_insn *) = {
		interp_bind_integer, interp_bind_string, interp_bind_system, interp_bind_fpu,
	};

	for (unsigned i = 0; block_can_run(c, x) && i < ARRAY_LEN(binds); i++) {
		iop_fn fn = binds[i](x);

		if (fn)
			return fn;
	}
	return iop_ud;
}

/* The address in the form of mem.h. */
static void block_bind_address(struct iop *op)
{
	const struct x86_insn *x = &op->x;
	uint16_t none = offsetof(struct icpu, zero);

	op->disp = x->disp;
	op->scale = x->scale;
	op->base_off = op->index_off = op->seg_off = none;
	if (x->base == X86_REG_RIP) {
		op->base_off = offsetof(struct icpu, s.rip);
		op->disp += x->len;
	} else if (x->base != X86_NO_REG) {
		op->base_off = (uint16_t)(offsetof(struct icpu, s.gpr) + 8u * x->base);
	}
	if (x->index != X86_NO_REG)
		op->index_off = (uint16_t)(offsetof(struct icpu, s.gpr) + 8u * x->index);
	if (x->seg == X86_FS || x->seg == X86_GS)
		op->seg_off = (uint16_t)(offsetof(struct icpu, s.seg) + x->seg * sizeof(struct x86_seg) +
					 offsetof(struct x86_seg, base));
}
_Static_assert(offsetof(struct icpu, zero) < 65536, "16-bit offsets reach it");

/* --- decoding ------------------------------------------------------------------------------- */

/* Where code bytes come from: the page of the first byte, then the next one when it is needed. */
struct fetch {
	const uint8_t *page;            /* host address */
	unsigned at;                    /* in the page */
	unsigned limit;                 /* bytes from here to the end of the page or of CS */
};

static bool block_is_last(const struct x86_insn *x)
{
	if (x->row->flags & (X86_R_BRANCH | X86_R_END))
		return true;
	return (x->row->flags & X86_R_REP) && (x->prefixes & (X86_P_REP | X86_P_REPNE));
}

static void block_add(struct iblock *b, const struct x86_insn *x, iop_fn fn)
{
	struct iop *op = &b->ops[b->n++];

	op->x = *x;
	op->fn = fn;
	block_bind_address(op);
}

void iop_init(const struct icpu *c, struct iop *op, const struct x86_insn *x)
{
	op->x = *x;
	op->fn = block_bind(c, x);
	block_bind_address(op);
}

/* An instruction that cannot be decoded becomes one whose handler raises the fault. */
static void block_add_fault(struct iblock *b, iop_fn fn)
{
	struct x86_insn x = { .len = 1, .base = X86_NO_REG, .index = X86_NO_REG };

	block_add(b, &x, fn);
}

uint32_t icpu_watch_code(struct icpu *c, uint64_t page)
{
	_Atomic uint8_t *flags = &c->mem->page_flags[page];
	uint32_t gen;

	/* Many stores take the flag down before they bump the generation: seen up after the generation
	 * was read, it will not go down without changing that. */
	do {
		if (!(atomic_load_explicit(flags, memory_order_acquire) & GMEM_PAGE_CODE)) {
			gmem_flag_set(c->mem, page, GMEM_PAGE_CODE);
			if (c->vm->page_flagged)
				c->vm->page_flagged(c, page);
		}
		gen = atomic_load_explicit(&c->mem->page_gen[page], memory_order_acquire);
	} while (!(atomic_load_explicit(flags, memory_order_acquire) & GMEM_PAGE_CODE));
	return gen;
}

/* LEN bytes at GPA in one page that is not RAM, in naturally aligned pieces. */
static void block_fetch_mmio(struct icpu *c, gpa_t gpa, uint8_t *to, unsigned len)
{
	while (len) {
		unsigned skip = gpa % 8, n = 8 - skip < len ? 8 - skip : len;
		uint64_t v = c->host->mmio_read(c->host->arg, c->index, gpa - skip, 8);

		memcpy(to, (uint8_t *)&v + skip, n);
		gpa += n;
		to += n;
		len -= n;
	}
}

/* The first instruction reaches into the next page: a block of its own. Fetching the rest may
 * fault, with the address where the next page starts. */
static void block_decode_straddling(struct icpu *c, struct iblock *b, struct fetch *f, uint64_t la)
{
	const struct itlb_entry *e = icpu_exec_page(c, (la | 0xfff) + 1);
	unsigned n = 4096 - f->at;
	uint8_t buf[X86_INSN_MAX];
	struct x86_insn x;

	memcpy(buf, f->page + f->at, n);
	if (e->host) {
		uint64_t page = (uint64_t)(e->host - c->mem->host) >> GMEM_PAGE_SHIFT;

		b->gen[1] = icpu_watch_code(c, page);
		b->page[1] = page;
		b->gen_now[1] = &c->mem->page_gen[page];
		memcpy(buf + n, e->host, X86_INSN_MAX - n);
	} else {
		block_fetch_mmio(c, e->gpa & ~0xfffull, buf + n, X86_INSN_MAX - n);
	}
	switch (x86_decode(&x, buf, X86_INSN_MAX, c->mode)) {
	case X86_DECODE_OK: block_add(b, &x, block_bind(c, &x)); break;
	case X86_DECODE_UD: block_add_fault(b, iop_ud); break;
	default: block_add_fault(b, iop_gp); break;
	}
	b->n_bytes = 0;         /* compared with nothing: always decoded again */
	b->is_end = true;
}

static void block_decode(struct icpu *c, struct iblock *b, struct fetch *f, uint64_t la)
{
	unsigned start = f->at;

	while (b->n < IBLOCK_MAX && f->limit) {
		struct x86_insn x;
		enum x86_decode_result r = x86_decode(&x, f->page + f->at, f->limit, c->mode);

		if (r == X86_DECODE_SHORT) {
			bool is_page_end = f->at + f->limit == 4096;

			if (b->n)
				break;
			if (is_page_end)
				block_decode_straddling(c, b, f, la);
			else
				block_add_fault(b, iop_gp);     /* beyond the CS limit */
			return;
		}
		if (r != X86_DECODE_OK) {
			if (!b->n)
				block_add_fault(b, r == X86_DECODE_LONG ? iop_gp : iop_ud);
			break;
		}
		block_add(b, &x, block_bind(c, &x));
		f->at += x.len;
		f->limit -= x.len;
		if (block_is_last(&x)) {
			b->is_end = x.row->flags & X86_R_END;
			break;
		}
	}
	b->n_bytes = (uint16_t)(f->at - start);
	memcpy(block_bytes(b), f->page + start, b->n_bytes);
}

/* The same, from the next page on, where LEN bytes are to come from; it may be RAM. Faults. */
static void block_fetch_next(struct icpu *c, uint64_t la, uint8_t *to, unsigned len)
{
	const struct itlb_entry *e = icpu_exec_page(c, (la | 0xfff) + 1);

	if (e->host)
		memcpy(to, e->host, len);
	else
		block_fetch_mmio(c, e->gpa & ~0xfffull, to, len);
}

/* Code outside RAM (a ROM that is a device): one instruction, never kept. */
static struct iblock *block_decode_mmio(struct icpu *c, uint64_t la, gpa_t gpa)
{
	struct iblock *b = (struct iblock *)c->blocks->scratch;
	unsigned left = 4096 - (la & 0xfff), n = left < X86_INSN_MAX ? left : X86_INSN_MAX;
	uint8_t bytes[X86_INSN_MAX];
	struct x86_insn x;

	*b = (struct iblock){ .off = UINT64_MAX, .page = { UINT64_MAX, UINT64_MAX }, .mode = c->mode, .is_end = true,
			      .gen_now = { &c->blocks->no_gen, &c->blocks->no_gen } };
	block_fetch_mmio(c, gpa, bytes, n);
	enum x86_decode_result r = x86_decode(&x, bytes, n, c->mode);

	if (r == X86_DECODE_SHORT && n < X86_INSN_MAX) {
		block_fetch_next(c, la, bytes + n, X86_INSN_MAX - n);
		r = x86_decode(&x, bytes, X86_INSN_MAX, c->mode);
	}
	switch (r) {
	case X86_DECODE_OK: block_add(b, &x, block_bind(c, &x)); break;
	case X86_DECODE_UD: block_add_fault(b, iop_ud); break;
	default: block_add_fault(b, iop_gp); break;
	}
	return b;
}

static void block_flush_all(struct icpu *c)
{
	struct iblock_cache *bc = c->blocks;

	memset(bc->head, 0, sizeof(bc->head));
	bc->used = 16;
	c->code_epoch++;
}

static struct iblock *block_new(struct icpu *c, uint64_t la, uint64_t off)
{
	struct iblock_cache *bc = c->blocks;
	uint64_t page = off >> GMEM_PAGE_SHIFT;

	if (bc->used + BLOCK_ROOM > bc->size)
		block_flush_all(c);

	uint32_t gen = icpu_watch_code(c, page);
	struct iblock *b = (struct iblock *)&bc->arena[bc->used];
	struct fetch f = {
		.page = c->mem->host + (page << GMEM_PAGE_SHIFT),
		.at = off & 0xfff,
		.limit = 4096 - (off & 0xfff),
	};

	*b = (struct iblock){ .off = off, .page = { page, UINT64_MAX }, .mode = c->mode,
			      .gen_now = { &c->mem->page_gen[page], &c->mem->page_gen[page] } };
	b->gen[0] = b->gen[1] = gen;
	if (c->mode != X86_MODE_64) {
		uint64_t left = c->s.seg[X86_CS].limit - c->s.rip + 1ull;

		if (left < f.limit)
			f.limit = (unsigned)left;
	}
	block_decode(c, b, &f, la);
	c->stats.blocks_decoded++;

	uint32_t *head = block_bucket(bc, off, c->mode);

	b->next = *head;
	*head = bc->used;
	bc->used += block_size(b);
	return b;
}

/* --- finding -------------------------------------------------------------------------------- */

/* The second page may be mapped elsewhere by now. */
static bool block_is_same_place(struct icpu *c, const struct iblock *b, uint64_t la)
{
	if (b->page[1] == UINT64_MAX)
		return true;
	const struct itlb_entry *e = icpu_exec_page(c, (la | 0xfff) + 1);

	return e->host && (uint64_t)(e->host - c->mem->host) >> GMEM_PAGE_SHIFT == b->page[1];
}

/* Written since it was decoded: are the bytes still the same? */
static bool block_revalidate(struct icpu *c, struct iblock *b)
{
	if (!b->n_bytes)
		return false;
	uint32_t gen = icpu_watch_code(c, b->page[0]);

	if (memcmp(block_bytes(b), c->mem->host + b->off, b->n_bytes))
		return false;
	b->gen[0] = b->gen[1] = gen;
	return true;
}

static struct iblock *block_lookup(struct icpu *c, uint64_t la, uint64_t off)
{
	struct iblock_cache *bc = c->blocks;

	for (uint32_t *at = block_bucket(bc, off, c->mode); *at; ) {
		struct iblock *b = (struct iblock *)&bc->arena[*at];

		if (b->off == off && b->mode == c->mode) {
			if (iblock_is_current(b) ? block_is_same_place(c, b, la) : block_revalidate(c, b))
				return b;
			*at = b->next;          /* dead: its room comes back with the next flush */
			continue;
		}
		at = &b->next;
	}
	return NULL;
}

struct iblock *iblock_find_slow(struct icpu *c, uint64_t la)
{
	if (c->mode == X86_MODE_64) {
		unsigned unused = c->s.cr4 & X86_CR4_LA57 ? 7 : 16;

		if ((uint64_t)((int64_t)(la << unused) >> unused) != la)
			icpu_gp0(c);
	} else if (c->s.rip > c->s.seg[X86_CS].limit) {
		icpu_gp0(c);
	}
	const struct itlb_entry *e = icpu_exec_page(c, la);

	if (!e->host)
		return block_decode_mmio(c, la, (e->gpa & ~0xfffull) | (la & 0xfff));

	uint64_t off = (uint64_t)(e->host - c->mem->host) + (la & 0xfff);
	struct iblock *b = block_lookup(c, la, off);

	if (!b)
		b = block_new(c, la, off);

	/* A block that depends on what a fetch of the next page does is looked up each time. */
	if (b->n_bytes || b->page[1] != UINT64_MAX) {
		*iblock_jump_slot(c, la) = (struct iblock_jump){ .la = la, .key = iblock_key(c), .b = b };
	}
	return b;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* translate.c - from guest instructions to a fragment. Vcpu thread only.
 *
 * Three passes: decode up to the end of the fragment; go backward to find which flags are live
 * after each instruction; go forward and emit.
 *
 * Every instruction has at most one commit point, and before it nothing of the guest has changed:
 * any check may give up by jumping to the cold path, which hands the whole instruction to the
 * interpreter. Cold paths are emitted after the fragment. */
#include "cpu/bt/translate.h"

/* --- decoding -------------------------------------------------------------------------------- */

bool tr_ends_fragment(const struct tr_insn *i)
{
	if (i->fx.kind >= BT_JMP)
		return true;
	if (i->fx.kind != BT_CALL_OUT)
		return false;
	switch (i->x.op) {
	case X86_OP_LDMXCSR: case X86_OP_FXRSTOR: case X86_OP_XRSTOR: case X86_OP_XRSTORS:
	case X86_OP_FLDCW: case X86_OP_FLDENV: case X86_OP_FRSTOR: case X86_OP_FNINIT: case X86_OP_FNSAVE: case X86_OP_FNSTENV:
		return true;            /* the key may change */
	default:
		return i->x.row->flags & (X86_R_BRANCH | X86_R_END);
	}
}

static bool is_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

uint64_t tr_branch_target(const struct tr_insn *i)
{
	uint64_t to = i->va + i->x.len + (uint64_t)i->x.imm;

	return i->x.opsize == 4 ? (uint32_t)to : to;
}

uint64_t tr_next(const struct tr *t, const struct tr_insn *i)
{
	uint64_t next = i->va + i->x.len;

	return t->key & BT_KEY_32 ? (uint32_t)next : next;
}

/* What I wants to find in the host. */
static void tr_note_vec(struct tr *t, const struct tr_insn *i)
{
	uint32_t flags = i->x.row->flags;

	if (i->fx.kind == BT_CALL_OUT || i->fx.kind == BT_NOTHING)
		return;
	t->uses_x87 |= (flags & (X86_R_X87 | X86_R_MMX)) != 0;
	t->uses_vec |= t->uses_x87 || flags & (X86_R_SSE | X86_R_AVX);
}

bool tr_decode_one(struct tr *t, struct tr_insn *i, uint64_t va, const uint8_t *p, unsigned n)
{
	const struct bt_effects call_out = { .kind = BT_CALL_OUT, .fl_reads = X86_FLAGS_ARITH };
	enum x86_decode_result r = x86_decode(&i->x, p, n, t->key & BT_KEY_32 ? X86_MODE_32 : X86_MODE_64);

	t->is_short = r == X86_DECODE_SHORT;
	if (r != X86_DECODE_OK)
		return false;
	i->group = NULL;
	i->index = X86_NO_REG;
	i->scale = 0;
	i->va = va;
	i->bytes = p;
	bt_effects(&i->fx, &i->x, t->key);
	if (t->b->i.missing >> i->x.row->feature & 1 ||         /* the host would not know it either */
	    !bt_system_is_offered(t->b, &i->x))
		i->fx = call_out;
	if (t->key & BT_KEY_32 && i->x.row->map >= X86_MAP_VEX_0F && !tr_vex_is_same_32(&i->x, i->bytes))
		i->fx = call_out;
	if ((i->fx.kind == BT_JMP || i->fx.kind == BT_CALL || i->fx.kind == BT_JCC) && !is_canonical(tr_branch_target(i)))
		i->fx = call_out;
	return true;
}

/* Where a fragment begins, others end: code of the guest is translated once, not once per way that leads there. */
static bool is_start(const struct bt_page *p, uint64_t va)
{
	return p->starts[va >> 6 & 63] >> (va & 63) & 1;
}

/* If I is a jump in its page, a fragment will begin where it goes; with its whole head when it goes backward. */
static void tr_note_target(struct tr *t, const struct tr_insn *i)
{
	uint64_t to;

	if (t->is_look || (i->fx.kind != BT_JCC && i->fx.kind != BT_JMP))
		return;
	to = tr_branch_target(i);
	if ((to ^ i->va) & ~0xfffull)
		return;
	bt_start_note(t->page, to);
	if (to <= i->va)
		bt_head_note(t->page, to);
	t->has_head |= to == t->insn[0].va && !t->is_split;
}

static void tr_decode(struct tr *t, uint64_t va)
{
	const struct bt_effects call_out = { .kind = BT_CALL_OUT, .fl_reads = X86_FLAGS_ARITH };
	unsigned at = 0, max = t->b->frag_max;

	while (t->n < max && at < t->n_code && !(t->n && !t->is_look && is_start(t->page, va + at))) {
		struct tr_insn *i = &t->insn[t->n];

		if (!tr_decode_one(t, i, va + at, t->code + at, t->n_code - at))
			break;
		tr_note_vec(t, i);
		tr_note_target(t, i);
		t->n++;
		at += i->x.len;
		if (tr_ends_fragment(i) || (t->is_loop && tr_is_turn(t, i)) || (t->n >= BT_FRAG_JUMPS && i->fx.kind == BT_JCC))
			break;
	}
	/* Interrupts are looked for between fragments, and not after STI. */
	if (t->n && t->insn[t->n - 1].x.op == X86_OP_STI)
		t->insn[t->n - 1].fx = call_out;
	if (!t->n && t->is_short && tr_span(t, va)) {
		tr_note_vec(t, &t->insn[0]);
		tr_note_target(t, &t->insn[0]);
		t->n = 1;
		at = t->n_code;
	} else if (!t->n && t->is_short) {
		t->insn[0] = (struct tr_insn){ .va = va, .bytes = t->code, .fx = call_out };
		t->is_crossing = true;
		t->n = 1;
		at = t->n_code;
	}
	t->end = va + at;
}

/* Flags that are live before instruction I. */
uint16_t tr_live_before(const struct tr_insn *i)
{
	return (i->live & ~i->fx.fl_kills) | i->fx.fl_reads;
}

/* Could the flags that are live after instruction N change how any up to N is translated? Only if between what
 * overwrites them all and N something needs the host's for itself. Mostly a comparison comes just before a jump. */
static bool is_look_worthwhile(const struct tr *t, unsigned n)
{
	bool is_jcc = t->insn[n].fx.kind == BT_JCC, is_lost = t->insn[n].fx.kind == BT_CALL;

	for (unsigned k = n + (n + 1 == t->n && !tr_ends_fragment(&t->insn[n])); k-- > 0; ) {
		const struct bt_effects *fx = &t->insn[k].fx;

		if (!(X86_FLAGS_ARITH & ~fx->fl_kills))
			return is_lost;
		is_lost |= fx->mem_size || (fx->kind != BT_COPY && fx->kind != BT_NOTHING && fx->kind != BT_JCC);
	}
	return is_lost || !is_jcc;
}

static uint16_t tr_look_from(struct tr *t, unsigned n, uint64_t va)
{
	return !t->is_spanning && is_look_worthwhile(t, n) ? tr_live_at(t, va) : X86_FLAGS_ARITH;
}

/* Direct jumps read what is live where they go. */
static void tr_look_ahead(struct tr *t, unsigned n)
{
	struct tr_insn *i = &t->insn[n];

	if (i->fx.kind == BT_JCC || i->fx.kind == BT_JMP || i->fx.kind == BT_CALL)
		i->fx.fl_reads = (i->x.row->flags_read & X86_FLAGS_ARITH) | tr_look_from(t, n, tr_branch_target(i));
}

static void tr_liveness(struct tr *t)
{
	const struct tr_insn *last = &t->insn[t->n - 1];
	uint16_t live = X86_FLAGS_ARITH;

	if (!t->is_crossing && !tr_ends_fragment(last))
		live = tr_look_from(t, t->n - 1, tr_next(t, last));
	else if (last->fx.kind == BT_JMP || last->fx.kind == BT_CALL)
		live = 0;               /* but for what it reads itself */
	for (unsigned n = t->n; n-- > 0; ) {
		tr_look_ahead(t, n);
		t->insn[n].live = live;
		live = tr_live_before(&t->insn[n]);
	}
}

/* --- all instructions ------------------------------------------------------------------------- */

/* Instructions up to I, the present one, and itself are counted. Before they leave, and flags stay. */
static void tr_count(struct tr *t, const struct tr_insn *i)
{
	uint16_t avoid = i->fx.reads;
	unsigned n = t->now + 1 - t->counted, s;

	if (!t->b->is_counting || t->is_crossing || !n)
		return;
	s = tr_scratch(t, &avoid, false);
	emit_load(&t->e, s, BT_OFF(n_insns));
	emit_lea(&t->e, true, s, s, EMIT_NONE, 0, (int32_t)n);
	emit_store(&t->e, s, BT_OFF(n_insns));
	t->counted += n;
}

/* Kinds that keep what registers hold of groups as tr_keep_groups() wants it. */
static bool is_careful(const struct tr_insn *i)
{
	switch (i->fx.kind) {
	case BT_COPY: case BT_NOTHING: case BT_LEA_RIP: case BT_PUSH: case BT_POP: case BT_LEAVE:
	case BT_JCC: case BT_JMP: case BT_CALL: case BT_RET:
		return true;
	default:
		return false;
	}
}

static void tr_one(struct tr *t, const struct tr_insn *i)
{
	tr_settle_sp(t, i);
	if (is_careful(i))
		tr_keep_groups(t, i->fx.writes, t->now + 1);
	else
		tr_keep_groups(t, 0xffff, t->now);
	if (i->fx.kind >= BT_JCC)
		tr_count(t, i);
	switch (i->fx.kind) {
	case BT_COPY: tr_copy(t, i); break;
	case BT_NOTHING: break;
	case BT_LEA_RIP: tr_lea_rip(t, i); break;
	case BT_PUSH: tr_push(t, i); break;
	case BT_POP: tr_pop(t, i, i->x.opnd[0].reg, RSP); break;
	case BT_LEAVE: tr_pop(t, i, RBP, RBP); break;
	case BT_CLEAR_RFLAG: tr_clear_rflag(t, i); break;
	case BT_DIV: i->x.op == X86_OP_DIV ? tr_div(t, i) : tr_idiv(t, i); break;
	case BT_X87: tr_x87(t, i); break;
	case BT_LOAD_CONTROL: tr_load_control(t, i); break;
	case BT_SYSTEM: tr_system(t, i); break;
	case BT_STRING: tr_string(t, i); break;
	case BT_BIT_STRING: tr_bit_string(t, i); break;
	case BT_SYSTEM_END: tr_system_end(t, i); break;
	case BT_JCC: tr_jcc(t, i); break;
	case BT_JMP: tr_boundary(t); tr_link(t, i, emit_jmp(&t->e, NULL), tr_branch_target(i)); break;
	case BT_CALL: tr_call(t, i); break;
	case BT_RET: tr_ret(t, i); break;
	case BT_JMP_IND: case BT_CALL_IND: tr_jump_indirect(t, i); break;
	default: t->is_crossing ? tr_crossing(t, i) : tr_call_out(t, i); break;
	}
}

/* --- all of it ---------------------------------------------------------------------------------------- */

/* At most this many direct jumps lead out of T. */
static unsigned max_links(const struct tr *t)
{
	const struct tr_insn *last = &t->insn[t->n - 1];
	enum bt_kind kind = last->fx.kind;
	unsigned n = !t->is_crossing && (!tr_ends_fragment(last) || kind == BT_JMP || kind == BT_CALL || kind == BT_SYSTEM_END);

	for (unsigned k = 0; k < t->n; k++)
		n += t->insn[k].fx.kind == BT_JCC;
	return n;
}

/* T's fragment, its links before it. */
static struct bt_frag *tr_alloc(struct tr *t, uint64_t va)
{
	unsigned n = max_links(t);

	t->links = bt_arena_alloc(t->k, n * sizeof(t->links[0]));
	t->frag = bt_arena_alloc(t->k, offsetof(struct bt_frag, bytes) + (t->end - va) + tr_looks_size(t) + tr_tail_size(t));
	t->frag->n_links = (uint8_t)n;
	return t->frag;
}

/* T's key, code and emitter are set. NULL: not even one instruction. */
static struct bt_frag *tr_all(struct tr *t, uint64_t va)
{
	tr_decode(t, va);
	if (!t->n)
		return NULL;
	tr_liveness(t);
	t->may_loop |= !t->is_look && !t->is_loop && tr_may_loop(t);
	t->is_loop = t->is_loop && tr_unroll(t);
	if (!t->is_loop)
		tr_make_groups(t);
	struct bt_frag *f = tr_alloc(t, va);

	f->va = va;
	f->page = t->page;
	f->is_split = t->is_split;
	f->has_head = t->has_head;
	f->may_loop = t->may_loop;
	f->is_loop = t->is_loop;
	f->is_soft = t->is_soft;
	f->n_bytes = (uint16_t)(t->end - va);
	f->live_flags = tr_live_before(&t->insn[0]) | (t->is_loop ? tr_live_before(&t->insn[t->alone]) : 0);
	f->needs_flags = f->live_flags;
	memcpy(f->bytes, t->code, f->n_bytes);
	tr_looks_store(t, f);
	tr_tail_store(t, f);
	tr_head(t);
	tr_check_tail(t);
	for (t->now = 0; t->now < t->n; t->now++) {
		if (t->is_loop && t->now == t->alone)
			tr_loop_alone(t);
		tr_track_insn(t, &t->insn[t->now]);
		if (t->is_loop && t->now == 0)
			tr_loop_start(t);
		tr_one(t, &t->insn[t->now]);
	}
	const struct tr_insn *last = &t->insn[t->n - 1];

	if (!t->is_crossing && !tr_ends_fragment(last)) {
		t->now = t->n - 1;
		tr_track_insn(t, NULL);
		tr_settle_sp(t, NULL);
		tr_count(t, last);
		tr_boundary(t);
		tr_link(t, last, emit_jmp(&t->e, NULL), tr_next(t, last));
	}
	tr_track_end(t);
	t->k->e.p = t->e.p;
	t->e = t->k->cold;
	tr_emit_cold(t);
	tr_emit_exits(t);
	tr_head_cold(t);
	t->k->cold.p = t->e.p;
	return f;
}

static void tr_begin(struct tr *t, struct bt_cpu *b, struct bt_cache *k, struct bt_page *page)
{
	memset(t, 0, offsetof(struct tr, code));
	t->b = b;
	t->k = k;
	t->e = k->e;
	t->page = page;
	t->key = page->key;
	t->word = t->key & BT_KEY_32 ? 4 : 8;
}

/* What is at VA in T's page. */
static void tr_take(struct tr *t, uint64_t va)
{
	t->page_bytes = t->b->i.mem->host + (t->page->page << GMEM_PAGE_SHIFT);
	t->n_code = 4096 - (va & 0xfff) < sizeof(t->code) ? 4096 - (va & 0xfff) : sizeof(t->code);
	memcpy(t->code, t->page_bytes + (va & 0xfff), t->n_code);
}

uint16_t bt_live_flags(struct bt_cpu *b, struct bt_page *page, uint64_t va)
{
	struct tr t;

	tr_begin(&t, b, b->cache, page);
	t.is_look = true;
	tr_take(&t, va);
	tr_decode(&t, va);
	if (!t.n)
		return X86_FLAGS_ARITH;
	tr_liveness(&t);
	return tr_live_before(&t.insn[0]);
}

struct bt_frag *bt_translate(struct bt_cpu *b, struct bt_page *page, uint64_t va, bool is_split, bool has_head)
{
	struct tr t;

	if (!bt_policy_is_offered(page->policy))
		return NULL;
	tr_begin(&t, b, b->cache, page);
	t.is_split = is_split;
	t.has_head = has_head;
	t.is_soft = page->less[BT_LESS_WINDOW] >> (va >> 6 & 63) & 1;
	t.is_loop = !is_split && tr_is_wanted_loop(&t, va);
	icpu_watch_code(&b->i, page->page);
	tr_take(&t, va);
	struct bt_frag *f = tr_all(&t, va);

	if (!f)
		return NULL;
	for (unsigned n = 0; n < BT_N_LESS; n++)
		f->less |= (uint8_t)((page->less[n] >> (va >> 6 & 63) & 1) << n) & 15;
	if (t.crossing[0] | t.crossing[1]) {
		void *crossing = bt_arena_alloc(t.k, sizeof(t.crossing));

		memcpy(crossing, t.crossing, sizeof(t.crossing));
		f->crossing = bt_arena_off(t.k, crossing);
	}
	return f;
}

void bt_translate_again(struct bt_cpu *b, struct bt_cache *k, const struct bt_frag *f, struct tr_track *track)
{
	struct bt_page page = *f->page;
	uint8_t seen[4096];
	struct tr t;

	bt_frag_seen(f, seen);
	for (unsigned n = 0; n < BT_N_LESS; n++)
		page.less[n] = f->less >> n & 1 ? UINT64_MAX : 0;
	tr_begin(&t, b, k, &page);
	t.track = track;
	t.is_look = true;
	t.is_split = f->is_split;
	t.has_head = f->has_head;
	t.may_loop = f->may_loop;
	t.is_loop = f->is_loop;
	t.is_soft = f->is_soft;
	t.page_bytes = seen;
	if (f->crossing)
		memcpy(t.crossing, bt_arena_at(b->cache, f->crossing), sizeof(t.crossing));
	t.n_code = f->n_bytes;
	memcpy(t.code, f->bytes, f->n_bytes);
	tr_tail_load(&t, f);
	tr_all(&t, f->va);
	track->last = bt_code_off(k, k->e.p);
}

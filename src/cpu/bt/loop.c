/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - a fragment that jumps to its own beginning, unrolled: several turns whose memory accesses are checked
 * together. Vcpu thread only.
 *
 *	head: poll; checks ahead, if one fails goto alone;
 *	turn; if not (again) leave; ... turn; if (again) goto head; leave;
 *	alone: turn; if (again) goto head; leave;
 *
 * The turn that stands alone is what any fragment is, with checks of its own. Those of the others are grouped over all turns,
 * and where addresses depend on nothing but registers as they are at the head, they are checked there: nothing of the guest
 * has changed yet, so when a page ends before the turns do, or an entry is not in the table, the turn that stands alone is
 * next, and sees to everything. Such checks may concern accesses that are never made, and have no effect.
 *
 * Most loops are not worth that: the heads of those that could be unrolled count turns, all of them together, and every so
 * many it is done to the one that happens to count. Checks ahead that fail are counted likewise. */
#include "cpu/bt/translate.h"

enum { MIN_TURNS = 3, MAX_TURNS = 9 };

/* --- which ------------------------------------------------------------------------------------- */

/* So many failures one after the other within so many of the host's cycles each: a loop that gains nothing. What goes along
 * memory fails a few times in each page, hundreds of cycles apart. */
enum { FAILURES = 256, FAILURE_CYCLES = 40 };

bool bt_loop_news(struct bt_cpu *b, struct bt_frag *f)
{
	bool has_turned = b->loop_turns < 0, has_failed = b->loop_failures < 0;
	uint64_t now = has_failed ? __builtin_ia32_rdtsc() : 0;
	bool is_failing = has_failed && now - b->failing_since < FAILURES * FAILURE_CYCLES;

	if (has_turned || is_failing) {
		b->split = f;
		b->split_how = is_failing ? BT_LESS_LOOPS : BT_N_LESS;
	}
	if (has_turned) {
		b->loop_turns = b->loop_patience;
		b->loop_va = f->va;
		b->loop_id = f->page->id;
	}
	if (has_failed) {
		b->loop_failures = FAILURES;
		b->failing_since = now;
	}
	return has_turned || has_failed;
}

bool tr_is_wanted_loop(const struct tr *t, uint64_t va)
{
	struct bt_cpu *b = t->b;
	bool is_wanted = va == b->loop_va && t->page->id == b->loop_id;

	if (is_wanted)
		b->loop_id = 0;
	return is_wanted;
}

bool tr_is_turn(const struct tr *t, const struct tr_insn *i)
{
	return i->fx.kind == BT_JCC && tr_branch_target(i) == t->insn[0].va;
}

/* Kinds of which several turns are no more than one after the other. */
static bool is_plain(const struct tr_insn *i)
{
	return i->fx.kind == BT_COPY || i->fx.kind == BT_NOTHING || i->fx.kind == BT_LEA_RIP || i->fx.kind == BT_JCC;
}

bool tr_may_loop(const struct tr *t)
{
	uint64_t here = 1ull << (t->insn[0].va >> 6 & 63);
	bool has_mem = false;
	unsigned n = 0;

	if (t->is_split || (t->page->less[BT_LESS_LOOPS] | t->page->less[BT_LESS_GROUPS]) & here)
		return false;
	for (; n < t->n && !tr_is_turn(t, &t->insn[n]); n++) {
		if (!is_plain(&t->insn[n]))
			return false;
		has_mem |= t->insn[n].fx.mem_size;
	}
	return n < t->n && has_mem && (n + 1) * MIN_TURNS <= t->b->frag_max;
}

/* --- unrolling --------------------------------------------------------------------------------- */

/* What is live after each, LIVE after the last. */
static void live_again(struct tr *t, uint16_t live)
{
	for (unsigned n = t->n; n-- > 0; ) {
		t->insn[n].live = live;
		live = tr_live_before(&t->insn[n]);
	}
}

bool tr_unroll(struct tr *t)
{
	unsigned n = t->n, turns = t->b->frag_max / n;
	struct tr_insn *turn = &t->insn[n - 1];
	uint16_t live = turn->live, reads = turn->fx.fl_reads;
	bool gains = false;

	if (!tr_is_turn(t, turn))
		return false;
	turn->fx.fl_reads |= live;      /* some of them leave */
	t->n = n * (turns < MAX_TURNS ? turns : MAX_TURNS);
	t->n_turn = n;
	t->alone = t->n - n;
	for (unsigned k = n; k < t->n; k++)
		t->insn[k] = t->insn[k - n];
	live_again(t, live);
	tr_make_groups(t);
	for (unsigned k = 0; k < t->n_groups; k++)
		gains |= t->groups[k].is_ahead;
	if (gains)
		return true;
	turn->fx.fl_reads = reads;
	t->n = n;
	t->n_turn = t->alone = t->n_groups = 0;
	for (unsigned k = 0; k < n; k++)
		t->insn[k].group = NULL;
	live_again(t, live);
	return false;
}

/* --- code -------------------------------------------------------------------------------------- */

void tr_loop_start(struct tr *t)
{
	for (unsigned k = 0; k < t->n_groups; k++)
		if (t->groups[k].is_ahead)
			tr_group_ahead(t, &t->groups[k]);
}

void tr_loop_alone(struct tr *t)
{
	tr_track_insn(t, NULL);
	tr_link(t, &t->insn[t->now - 1], emit_jmp(&t->e, NULL), tr_next(t, &t->insn[t->now - 1]));
	/* Checks ahead lead here, which have moved nothing. */
	t->alone_at = t->e.p;
	tr_at_boundary(t);
}

void tr_turn(struct tr *t, const struct tr_insn *i)
{
	const struct bt_frag *f = t->frag;
	unsigned cc = i->x.row->opcode & 15;

	if (t->now + 1 == t->alone || t->now + 1 == t->n)
		emit_jcc(&t->e, cc, t->k->rw + f->ientry + (f->needs_flags ? f->xentry : f->entry));
	else
		tr_link(t, i, emit_jcc(&t->e, cc ^ 1, NULL), tr_next(t, i));
}

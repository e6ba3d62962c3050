/* SPDX-License-Identifier: Apache-2.0 */
/* regs.c - where guest registers and flags are while a fragment is being made. Vcpu thread only. */
#include "cpu/bt/translate.h"

/* --- registers -------------------------------------------------------------------------------- */

void tr_keep_groups(struct tr *t, uint16_t regs, unsigned from)
{
	for (; regs; regs &= (uint16_t)(regs - 1)) {
		unsigned r = (unsigned)__builtin_ctz(regs), g = t->holds[r] - 1u;

		if (!t->holds[r] || t->stored >> g & 1 || t->groups[g].last < from)
			continue;
		emit_store(&t->e, r, BT_OFF(group) + 8u * g);
		t->stored |= 1ull << g;
	}
}

void tr_need(struct tr *t, uint16_t regs)
{
	tr_keep_groups(t, regs & ~t->in_host, t->now);
	for (unsigned r = 0; r < 16; r++)
		if ((regs & ~t->in_host) >> r & 1) {
			emit_load(&t->e, r, BT_GPR(r));
			t->in_host |= (uint16_t)(1u << r);
			t->holds[r] = 0;
			tr_track(t);
		}
}

void tr_wrote(struct tr *t, uint16_t regs)
{
	t->in_host |= regs;
	t->in_mem &= (uint16_t)~regs;
	for (unsigned r = 0; r < 16; r++)
		if (regs >> r & 1)
			t->holds[r] = 0;
	tr_track_begun(t);
}

/* The guest's register R goes to memory, the host's may be used. */
void tr_free(struct tr *t, unsigned r)
{
	if (!(t->in_mem >> r & 1)) {
		emit_store(&t->e, r, BT_GPR(r));
		t->in_mem |= (uint16_t)(1u << r);
	}
	t->in_host &= (uint16_t)~(1u << r);
	tr_keep_groups(t, (uint16_t)(1u << r), t->now);
	t->holds[r] = 0;
	tr_track(t);
}

/* What taking R as scratch costs. */
static unsigned scratch_cost(const struct tr *t, unsigned r)
{
	bool is_home = BOUNDARY_HOST >> r & 1;          /* it has to be loaded again before long */

	if (t->in_host >> r & 1)
		return (t->in_mem >> r & 1 ? 1 : 3) + (is_home ? 2 : 0);
	return t->holds[r] && t->groups[t->holds[r] - 1].last > t->now ? 2 : 0;
}

/* A host register to use freely, not of AVOID, which grows by it. There are enough for three beside
 * three operands, and all of them can be a base without special encoding. IS_LOW: usable without
 * REX; it may be one of IMPLICIT, which the caller puts back. */
unsigned tr_scratch(struct tr *t, uint16_t *avoid, bool is_low)
{
	static const uint8_t order[] = { R11, R10, R9, R8, R15, R14, RDI, RSI, RBX, RDX, RCX };
	unsigned from = is_low ? 6 : 0, to = is_low ? 11 : 8, best = EMIT_NONE;

	for (unsigned i = from; i < to; i++) {
		unsigned r = order[i];

		if (*avoid >> r & 1)
			continue;
		if (best == EMIT_NONE || scratch_cost(t, r) < scratch_cost(t, best))
			best = r;
	}
	tr_free(t, best);
	*avoid |= (uint16_t)(1u << best);
	return best;
}

/* To where they are between fragments, given where they are. Flags stay. */
void tr_emit_boundary(struct emit *e, uint16_t in_host, uint16_t in_mem)
{
	for (unsigned r = 0; r < 16; r++) {
		if ((BOUNDARY_HOST & ~in_host) >> r & 1)
			emit_load(e, r, BT_GPR(r));
		if ((BOUNDARY_MEM & ~in_mem) >> r & 1)
			emit_store(e, r, BT_GPR(r));
	}
}

void tr_boundary(struct tr *t)
{
	tr_keep_groups(t, BOUNDARY_HOST & ~t->in_host, t->now);
	tr_emit_boundary(&t->e, t->in_host, t->in_mem);
	for (unsigned r = 0; r < 16; r++)
		if (BOUNDARY_HOST >> r & 1)
			t->holds[r] = 0;
	t->in_host |= BOUNDARY_HOST;
	t->in_mem |= BOUNDARY_MEM;
}

/* --- flags ------------------------------------------------------------------------------------ */

/* Into flags_ax; TMP is free. */
void tr_save_flags(struct tr *t, unsigned tmp)
{
	if (t->fl_slot)
		return;
	emit_mov_rr(&t->e, tmp, RAX);
	tr_track_rax(t, tmp);
	emit8(&t->e, 0x9f);                                             /* lahf */
	emit8(&t->e, 0x0f); emit8(&t->e, 0x90); emit8(&t->e, 0xc0);     /* seto al */
	emit_store32(&t->e, RAX, BT_OFF(flags_ax));
	emit_mov_rr(&t->e, RAX, tmp);
	t->fl_slot = true;
	tr_track_rax(t, RAX);
}

void tr_restore_flags(struct tr *t, unsigned tmp)
{
	if (t->fl_host)
		return;
	emit_mov_rr(&t->e, tmp, RAX);
	tr_track_rax(t, tmp);
	emit_load32(&t->e, RAX, BT_OFF(flags_ax));
	emit8(&t->e, 0x04); emit8(&t->e, 0x7f);                         /* add al, 127 */
	emit8(&t->e, 0x9e);                                             /* sahf */
	emit_mov_rr(&t->e, RAX, tmp);
	t->fl_host = true;
	tr_track_rax(t, RAX);
}

/* The host's flags are about to be lost; TMP is free. */
void tr_give_flags(struct tr *t, const struct tr_insn *i, unsigned tmp)
{
	if (tr_live_before(i))
		tr_save_flags(t, tmp);
	t->fl_host = false;
	tr_track(t);
}

/* Does I have to find the flags in the host? Because it reads them, or keeps some that live on. */
bool tr_needs_host_flags(const struct tr_insn *i)
{
	return i->fx.fl_reads || (i->fx.fl_writes && (i->live & ~i->fx.fl_kills));
}

void tr_restore_for(struct tr *t, const struct tr_insn *i, unsigned tmp)
{
	if (tr_needs_host_flags(i))
		tr_restore_flags(t, tmp);
}

void tr_flags_after(struct tr *t, const struct tr_insn *i)
{
	if (!i->fx.fl_writes)
		return;
	t->fl_host = true;
	t->fl_slot = false;
}

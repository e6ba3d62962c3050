/* SPDX-License-Identifier: Apache-2.0 */
/* describe.c - where the guest is while translated code runs (describe.h). Vcpu thread only.
 *
 * The translator knows at each moment where the guest's registers and flags are, so it is run again, with a
 * scratch cache in place of the real one, and what it knew when it emitted the address is the answer. Between two
 * notes host instructions change only what is nobody's. An instruction that takes several steps to change the guest
 * is not described between them; it is a few host instructions long, after which all is exact again. */
#include <errno.h>
#include "cpu/bt/translate.h"

/* What a fragment is emitted into when it is not to be kept. */
struct bt_scratch {
	struct bt_cache k;
	uint8_t code[BT_FRAG_CODE_ROOM], cold[BT_FRAG_CODE_ROOM];
	uint8_t arena[BT_FRAG_ARENA_ROOM + 2 * BT_ARENA_FIRST];
};

int bt_describe_new(struct bt_cpu *b)
{
	b->describing = icpu_cache_map(sizeof(*b->describing));
	return b->describing ? 0 : -ENOMEM;
}

void bt_describe_free(struct bt_cpu *b)
{
	icpu_cache_unmap(b->describing, sizeof(*b->describing));
	b->describing = NULL;
}

/* --- while translating ------------------------------------------------------------------------------ */

void tr_note_place(struct tr *t)
{
	struct tr_track *k = t->track;
	uint32_t at = bt_code_off(t->k, t->e.p);

	if (at > k->target)
		return;
	k->place.is_exact = !k->has_begun;
	k->place.in_host = t->in_host;
	k->place.rax_at = (uint8_t)t->rax_at;
	k->place.fl_host = t->fl_host;
	k->place.fl_slot = t->fl_slot;
	k->place.rsp_delta = (uint64_t)(int64_t)t->sp_owed;
}

void tr_note_access(struct tr *t)
{
	uint32_t at = bt_code_off(t->k, t->e.p);

	if (at > t->track->target)
		return;
	tr_note_place(t);
	t->track->access = at;
}

/* Kinds that change the guest by one host instruction, or say when they begin to. */
static bool is_fine(const struct tr_insn *i)
{
	switch (i->fx.kind) {
	case BT_COPY: case BT_NOTHING: case BT_LEA_RIP: case BT_PUSH: case BT_POP: case BT_LEAVE: case BT_JCC: case BT_JMP:
		return true;
	default:
		return false;
	}
}

void tr_note_insn(struct tr *t, const struct tr_insn *i)
{
	struct tr_track *k = t->track;
	uint32_t at = bt_code_off(t->k, t->e.p);

	if (at > k->target) {
		if (!k->place.next)
			k->place.next = at;
		return;
	}
	k->has_begun = false;
	k->is_coarse = i && !is_fine(i);
	k->start = at;
	k->place.rip = i ? i->va : tr_next(t, &t->insn[t->n - 1]);
	k->place.live_flags = i ? tr_live_before(i) : t->insn[t->n - 1].live;
	tr_note_place(t);
}

/* --- asking ------------------------------------------------------------------------------------------- */

/* The fragment whose code AT may be in: that which begins last before it. It may be long. */
static const struct bt_frag *frag_before(const struct bt_cache *k, uint32_t at)
{
	const struct bt_frag *f = NULL;

	for (uint32_t block = at >> BT_BLOCK_SHIFT, n = 0; !f && n <= BT_FRAG_CODE_ROOM >> BT_BLOCK_SHIFT; n++) {
		f = bt_frag_of(k, k->in_block[block]);
		if (block-- == 0)
			break;
	}
	while (f && f->ientry > at)
		f = bt_frag_of(k, f->older);
	return f && !f->is_gone ? f : NULL;
}

/* Code of F, which is between fragments in all that is described before its first instruction. */
static void head_place(const struct bt_frag *f, uint32_t at, struct bt_place *p)
{
	*p = (struct bt_place){ .frag = f, .rip = f->va, .in_host = BOUNDARY_HOST, .rax_at = RAX, .live_flags = f->live_flags,
				.fl_slot = true, .is_exact = at >= f->ientry + f->lentry, .next = bt_body(f) };
}

bool bt_describe(struct bt_cpu *b, const void *pc, struct bt_place *out)
{
	const struct bt_cache *k = b->cache;
	uint64_t at = (uint64_t)((const uint8_t *)pc - k->rx);
	const struct bt_frag *f = at < k->code_bytes ? frag_before(k, (uint32_t)at) : NULL;
	struct bt_scratch *s = b->describing;

	if (!f)
		return false;
	/* The same offsets in the same order, in other memory. */
	s->k.rw = s->code - f->ientry;
	s->k.rx = k->rx;
	s->k.thunk = k->thunk;
	s->k.has_avx = k->has_avx;
	s->k.arena = s->arena;
	s->k.arena_used = BT_ARENA_FIRST;
	s->k.arena_end = sizeof(s->arena);
	s->k.e = (struct emit){ s->code, s->code + sizeof(s->code) };
	s->k.cold = (struct emit){ s->cold, s->cold + sizeof(s->cold) };
	struct tr_track track = { .target = (uint32_t)at };

	head_place(f, (uint32_t)at, &track.place);
	bt_translate_again(b, &s->k, f, &track);
	*out = track.place;
	if (at >= track.end) {
		out->is_exact = false;
		out->next = 0;
	} else if (track.is_coarse && track.start != at && track.access != at) {
		out->is_exact = false;
	}
	return at < track.last;
}

void bt_place_registers(const struct bt_cpu *b, const struct bt_place *p, const uint64_t host[16], uint64_t host_flags,
			uint64_t gpr[16], uint64_t *flags)
{
	uint32_t ax = b->flags_ax;

	for (unsigned r = 0; r < 16; r++)
		gpr[r] = !(p->in_host >> r & 1) ? b->i.s.gpr[r] : host[r == RAX ? p->rax_at : r];
	gpr[RSP] += p->rsp_delta;
	*flags = p->fl_slot ? (ax >> 8 & 0xd5) | (ax & 1) << 11 : host_flags & X86_FLAGS_ARITH;
}

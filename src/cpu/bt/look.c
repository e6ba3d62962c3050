/* SPDX-License-Identifier: Apache-2.0 */
/* look.c - a look ahead: which flags are live where a fragment goes on. Vcpu thread only.
 *
 * Compilers let flags live for a few instructions, but nothing tells so at a jump. So some of the instructions
 * there are decoded, in the same page only: what has been seen belongs to the fragment as its own bytes do,
 * and when it changes the fragment is made anew (bt_frag_is_same()). Of calls, returns and indirect jumps to
 * elsewhere nothing is known: all flags are live. */
#include "cpu/bt/translate.h"

enum { LOOK_INSNS = 12, LOOK_SEGMENTS = 3 };

/* Is all of LOOK among T's own bytes? */
static bool look_is_own(const struct tr *t, const struct tr_look *look)
{
	uint64_t va = t->page->va + look->at;

	return va >= t->insn[0].va && va + look->n <= t->end && !memcmp(look->bytes, t->code + (va - t->insn[0].va), look->n);
}

/* Does anything in OPEN live at VA? What is overwritten first leaves OPEN. Returns where to look on, or
 * 0; *LIVE grows. What comes out depends on the code there alone, not on T: it has to be found again when
 * that code is translated (lockstep compares what is live). */
static uint64_t look_along(struct tr *t, uint64_t va, uint16_t *open, uint16_t *live)
{
	struct tr_look *look = &t->looks[t->n_looks];
	unsigned n, at = 0;
	uint64_t next = 0;
	struct tr_insn i;

	if ((va ^ t->page->va) & ~0xfffull || t->n_looks == N_LOOKS)
		return 0;
	look->at = (uint16_t)(va & 0xfff);
	n = 4096u - look->at < sizeof(look->bytes) ? 4096u - look->at : sizeof(look->bytes);
	memcpy(look->bytes, t->page_bytes + look->at, n);
	for (unsigned k = 0; k < LOOK_INSNS && *open && !next; k++) {
		if (!tr_decode_one(t, &i, va + at, look->bytes + at, n - at) || i.x.op == X86_OP_STI)
			break;
		at += i.x.len;
		if (i.fx.kind == BT_JMP || i.fx.kind == BT_CALL) {
			next = tr_branch_target(&i);
			break;
		}
		*live |= i.fx.fl_reads & *open;
		*open &= (uint16_t)~(i.fx.fl_kills | i.fx.fl_reads);
	}
	look->n = (uint8_t)at;
	t->n_looks += at && !look_is_own(t, look);
	return next;
}

uint16_t tr_live_at(struct tr *t, uint64_t va)
{
	uint16_t live = 0, open = X86_FLAGS_ARITH;

	for (unsigned k = 0; k < LOOK_SEGMENTS && va && open; k++)
		va = look_along(t, va, &open, &live);
	return live | open;
}

/* --- what has been seen ------------------------------------------------------------------------ */

/* After the fragment's own bytes: offset in the page (2 bytes), length (1), bytes; for each. */
size_t tr_looks_size(const struct tr *t)
{
	size_t size = 0;

	for (unsigned k = 0; k < t->n_looks; k++)
		size += 3u + t->looks[k].n;
	return size;
}

void tr_looks_store(const struct tr *t, struct bt_frag *f)
{
	uint8_t *p = f->bytes + f->n_bytes;

	f->n_looks = (uint8_t)t->n_looks;
	for (unsigned k = 0; k < t->n_looks; k++) {
		const struct tr_look *l = &t->looks[k];

		memcpy(p, &l->at, 2);
		p[2] = l->n;
		memcpy(p + 3, l->bytes, l->n);
		p += 3 + l->n;
	}
}

bool bt_frag_is_same(const struct bt_frag *f, const uint8_t *page)
{
	const uint8_t *p = f->bytes + f->n_bytes;

	if (memcmp(f->bytes, page + (f->va & 0xfff), f->n_bytes))
		return false;
	for (unsigned k = 0; k < f->n_looks; k++, p += 3 + p[2]) {
		uint16_t at;

		memcpy(&at, p, 2);
		if (memcmp(p + 3, page + at, p[2]))
			return false;
	}
	return true;
}

void bt_frag_seen(const struct bt_frag *f, uint8_t page[4096])
{
	const uint8_t *p = f->bytes + f->n_bytes;

	/* FF FF is no instruction: what was not seen because the look ended there ends it again. */
	memset(page, 0xff, 4096);
	memcpy(page + (f->va & 0xfff), f->bytes, f->n_bytes);
	for (unsigned k = 0; k < f->n_looks; k++, p += 3 + p[2]) {
		uint16_t at;

		memcpy(&at, p, 2);
		memcpy(page + at, p + 3, p[2]);
	}
}

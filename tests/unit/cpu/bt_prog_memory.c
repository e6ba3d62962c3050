/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog_memory.c - parts of random programs: strings, bit strings, and accesses that lie beside each other or in tables. */
#include "cpu/bt_prog.h"

/* lea reg, [rbx + disp]. */
static void put_pointer(struct prog *p, unsigned reg)
{
	prog_put(p, 0x48); prog_put(p, 0x8d); prog_put(p, 0x83 | reg << 3);
	prog_put32(p, prog_rnd(p, 12) ? prog_rnd(p, 0xe00) : 0xfc0 + prog_rnd(p, 64));
}

/* A string instruction of any size, repeated or not, short or beyond the page, seldom downwards. */
void prog_put_string(struct prog *p)
{
	static const uint8_t ops[] = { 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf };
	bool is_down = !prog_rnd(p, 8);
	unsigned rep = prog_rnd(p, 3), size = prog_rnd(p, 4);

	put_pointer(p, 6);
	put_pointer(p, 7);
	prog_put(p, 0xb9);                   /* mov ecx, imm32 */
	prog_put32(p, prog_rnd(p, 10) ? prog_rnd(p, 24) : prog_rnd(p, 2000));
	if (is_down)
		prog_put(p, 0xfd);
	if (!prog_rnd(p, 8))
		prog_put(p, 0x3e);
	if (size == 0)
		prog_put(p, 0x66);
	if (rep)
		prog_put(p, 0xf1 + rep);
	if (size == 1)
		prog_put(p, 0x48);
	prog_put(p, ops[prog_rnd(p, sizeof(ops))]);
	if (is_down)
		prog_put(p, 0xfc);
}

/* and r, 0x3fff; sometimes neg r; bt, bts, btr or btc [rbx + disp], r. */
void prog_put_bit_string(struct prog *p)
{
	unsigned r = prog_any_reg(p), op = prog_rnd(p, 4), size = prog_rnd(p, 3);

	prog_put(p, 0x40 | r >> 3); prog_put(p, 0x81); prog_put(p, 0xe0 | (r & 7)); prog_put32(p, 0x3fff);
	if (!prog_rnd(p, 4)) {
		prog_put(p, 0x48 | r >> 3); prog_put(p, 0xf7); prog_put(p, 0xd8 | (r & 7));
	}
	if (op && !prog_rnd(p, 3))
		prog_put(p, 0xf0);
	if (!size)
		prog_put(p, 0x66);
	prog_put(p, 0x40 | (size == 2) << 3 | (r & 8) >> 1);
	prog_put(p, 0x0f); prog_put(p, 0xa3 + 8 * op);
	prog_put(p, 0x83 | (r & 7) << 3);
	prog_put32(p, 0x800 + prog_rnd(p, 64));
}

/* Opcode with a register and [t + 8 * n], where t has just become RBX plus a constant; or the same with an
 * index. All these are one group, and the loop's jumps lie between them. */
void prog_put_derived(struct prog *p)
{
	static const uint8_t ops[] = { 0x01, 0x03, 0x89, 0x8b, 0x8b, 0x39, 0x33 };
	unsigned t = 8 + prog_rnd(p, 2), r = prog_any_reg(p), is_indexed = prog_rnd(p, 2);

	if (r == 8 || r == 9 || r == 14)
		r = 10;
	if (is_indexed) {               /* movzx r14d, r14b; mov t, rbx */
		prog_put(p, 0x45); prog_put(p, 0x0f); prog_put(p, 0xb6); prog_put(p, 0xf6);
		prog_put(p, 0x49); prog_put(p, 0x89); prog_put(p, 0xd8 | (t & 7));
	} else {                        /* lea t, [rbx + disp] */
		prog_put(p, 0x4c); prog_put(p, 0x8d); prog_put(p, 0x83 | (t & 7) << 3); prog_put32(p, 8 * prog_rnd(p, prog_rnd(p, 4) ? 300 : 512));
	}
	for (unsigned n = 2 + prog_rnd(p, 4); n-- > 0; ) {
		prog_put(p, 0x49 | (r & 8) >> 1 | (is_indexed ? 2 : 0));
		prog_put(p, ops[prog_rnd(p, sizeof(ops))]);
		prog_put(p, 0x40 | (r & 7) << 3 | (is_indexed ? 4 : t & 7));
		if (is_indexed)
			prog_put(p, 3 << 6 | 6 << 3 | (t & 7));      /* r14 * 8 */
		prog_put(p, 8 * prog_rnd(p, 16));
		if (!prog_rnd(p, 3)) {       /* jcc +3; add t, 16 */
			prog_put(p, 0x70 | prog_rnd(p, 16)); prog_put(p, prog_rnd(p, 2) ? 0 : 4);
			prog_put(p, 0x49); prog_put(p, 0x83); prog_put(p, 0xc0 | (t & 7)); prog_put(p, 16);
		}
	}
}

/* r14d = a byte, 7 bits, or the upper 5 to 8 of 32. */
static void put_index(struct prog *p)
{
	unsigned r = prog_any_reg(p);

	switch (prog_rnd(p, 3)) {
	case 0:                         /* movzx r14d, r */
		prog_put(p, 0x44 | r >> 3); prog_put(p, 0x0f); prog_put(p, 0xb6); prog_put(p, 0xc0 | 6 << 3 | (r & 7));
		break;
	case 1:                         /* and r14d, 0x7f */
		prog_put(p, 0x41); prog_put(p, 0x83); prog_put(p, 0xe6); prog_put(p, 0x7f);
		break;
	default:                        /* shr r14d, 24 to 27 */
		prog_put(p, 0x41); prog_put(p, 0xc1); prog_put(p, 0xee); prog_put(p, 24 + prog_rnd(p, 4));
		break;
	}
}

/* Opcode with a register and an entry of a table in which a small number counts: in one page or two, which
 * follow each other in memory or do not, or of which the second is missing. */
void prog_put_table(struct prog *p)
{
	static const uint8_t ops[] = { 0x03, 0x8b, 0x33, 0x3b, 0x23, 0x8b, 0x2b, 0x89, 0x01, 0x8a };
	unsigned t = 8 + prog_rnd(p, 2), scale = prog_rnd(p, 4), where = prog_rnd(p, 8);
	uint32_t at = where < 4 ? 8 * prog_rnd(p, 256) : where < 7 ? 0x800 + 8 * prog_rnd(p, 256) : PROG_ODD + 8 * prog_rnd(p, 512);

	if (prog_rnd(p, 5)) {                /* lea t, [rbx + at] */
		prog_put(p, 0x4c); prog_put(p, 0x8d); prog_put(p, 0x83 | (t & 7) << 3); prog_put32(p, at);
	} else {                        /* mov t, RIG_DATA + at */
		prog_put(p, 0x41); prog_put(p, 0xb8 | (t & 7)); prog_put32(p, RIG_DATA + at);
	}
	for (unsigned n = 2 + prog_rnd(p, 4); n-- > 0; ) {
		unsigned r = prog_any_reg(p), op = ops[prog_rnd(p, sizeof(ops) - (prog_rnd(p, 4) ? 3 : 0))];
		bool is_sse = !prog_rnd(p, 8), is_turned = !scale && prog_rnd(p, 2);

		put_index(p);
		if (r == 8 || r == 9 || r == 14)
			r = 10;
		if (is_sse)             /* movd */
			prog_put(p, 0x66);
		prog_put(p, 0x43 | (r & 8) >> 1 | (prog_rnd(p, 2) && !is_sse ? 8 : 0));
		if (is_sse)
			prog_put(p, 0x0f);
		prog_put(p, is_sse ? 0x6e : op);
		prog_put(p, 0x40 | (r & 7) << 3 | 4);
		prog_put(p, is_turned ? (t & 7) << 3 | 6 : scale << 6 | 6 << 3 | (t & 7));
		prog_put(p, 8 * prog_rnd(p, 3));
	}
}

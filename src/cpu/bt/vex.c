/* SPDX-License-Identifier: Apache-2.0 */
/* vex.c - instructions with a VEX prefix (SDM vol. 2 2.3). They run as they are: those on general
 * registers always, those on vectors when the key says that AVX may. The interpreter keeps gathers, which
 * have an address per element, and MASKMOVDQU. A masked move is checked as if it
 * moved everything: what the mask would have hidden is then no fault, and else the cold path knows. */
#include "cpu/bt/translate.h"

enum bt_kind bt_vex_kind(const struct x86_insn *x, unsigned key)
{
	if (x->row->flags & X86_R_AVX && (key & BT_KEY_FP) < BT_KEY_AVX)
		return BT_CALL_OUT;
	switch (x->op) {
	case X86_OP_MASKMOVDQU:
		return BT_CALL_OUT;
	case X86_OP_ZEROUPPER: case X86_OP_ZEROALL:     /* 32-bit code leaves registers 8 to 15 alone */
		return key & BT_KEY_32 ? BT_CALL_OUT : BT_COPY;
	case X86_OP_LDMXCSR:
		return BT_LOAD_CONTROL;
	default:
		return x->vsib ? BT_CALL_OUT : BT_COPY;
	}
}

bool bt_vex_writes_high(const struct x86_insn *x)
{
	return x->vl == 32 && x->opnd[0].kind == X86_O_XMM && !(x->row->flags & X86_R_NO_WRITE);
}

bool bt_vex_zeroes_high(const struct x86_insn *x)
{
	return x->op == X86_OP_ZEROUPPER || x->op == X86_OP_ZEROALL;
}

void tr_vex_before(struct tr *t, const struct tr_insn *i)
{
	if (!bt_vex_writes_high(&i->x) || t->is_ymm_noted)
		return;
	emit_set_byte(&t->e, BT_OFF(ymm_host), 1);
	t->is_ymm_noted = true;
}

void tr_vex_after(struct tr *t, const struct tr_insn *i)
{
	if (!bt_vex_zeroes_high(&i->x))
		return;
	emit_set_byte(&t->e, BT_OFF(ymm_host), 0);
	t->is_ymm_noted = false;
}

/* The bits that 32-bit code ignores, and 64-bit code does not, are as if they were not there. */
bool tr_vex_is_same_32(const struct x86_insn *x, const uint8_t *p)
{
	const uint8_t *last = p + x->len - 1;

	while (*p != 0xc4 && *p != 0xc5)
		p++;
	if (x->n_opnds == 4 && x->opnd[3].kind == X86_O_XMM && *last & 0x80)
		return false;
	if (*p == 0xc5)
		return p[1] & 0x40;
	/* VEX.W would widen general operands, memory too, unless the row demands it. */
	return p[1] & 0x20 && p[2] & 0x40 && (!(p[2] & 0x80) || x->row->flags & X86_R_W1);
}

/* VEX.R, X, B and vvvv are inverted. Two bytes do for the first map without W, X and B. */
const uint8_t *tr_vex_prefix(struct emit *e, const uint8_t *p, unsigned base, unsigned index)
{
	bool is_short = *p == 0xc5, is_high_index = index != X86_NO_REG && index >= 8;
	unsigned r = p[1] & 0x80, map = is_short ? 1 : p[1] & 0x1f, rest = is_short ? p[1] & 0x7f : p[2];

	if (map == 1 && !(rest & 0x80) && base < 8 && !is_high_index) {
		emit8(e, 0xc5);
		emit8(e, r | rest);
	} else {
		emit8(e, 0xc4);
		emit8(e, r | (is_high_index ? 0 : 0x40) | (base < 8 ? 0x20 : 0) | map);
		emit8(e, rest);
	}
	return p + (is_short ? 2 : 3);
}

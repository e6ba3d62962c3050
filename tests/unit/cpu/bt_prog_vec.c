/* SPDX-License-Identifier: Apache-2.0 */
/* bt_prog_vec.c - parts of random programs: any x87, MMX, SSE or VEX instruction that the host has. */
#include "cpu/bt_prog.h"

#include <string.h>
#include "cpu/x86/insn.h"
#include "cpu/x86/state.h"

/* Is X one that a program may contain? It must leave RBX, RSP and R15 alone, and load no control word from
 * anywhere. */
static bool is_fit(const struct x86_insn *x)
{
	for (unsigned i = 0; i < x->n_opnds; i++) {
		unsigned r = x->opnd[i].kind == X86_O_REG ? x->opnd[i].reg : 0;

		if (r == X86_RBX || r == X86_RSP || r == X86_R15)
			return false;
	}
	switch (x->op) {
	case X86_OP_LDMXCSR: case X86_OP_FLDCW: case X86_OP_FLDENV: case X86_OP_FRSTOR: case X86_OP_MASKMOVQ:
	case X86_OP_MASKMOVDQU:
		return false;
	default:
		return !x->vsib;
	}
}

/* If the host has it. */
static void put_fit(struct prog *p, const struct x86_row *row, const uint8_t *b, unsigned n)
{
	struct x86_insn x;

	if (!(p->features >> row->feature & 1) || x86_decode(&x, b, n, X86_MODE_64) != X86_DECODE_OK || !is_fit(&x))
		return;
	for (unsigned i = 0; i < x.len; i++)
		prog_put(p, b[i]);
}

/* Where a memory operand is: relative to RBX, in the page or across its end; to RSP; at a fixed address. */
enum place { NO_MEM, BY_RBX, BY_RSP, FIXED };

static enum place pick_place(struct prog *p, const struct x86_row *row)
{
	static const enum place places[] = { BY_RBX, BY_RBX, BY_RBX, BY_RSP, FIXED };
	bool has_mem = row->flags & X86_R_MODRM && row->rm < 0 && !(row->flags & X86_R_REGONLY);

	return has_mem && (row->flags & X86_R_MEMONLY || prog_rnd(p, 2)) ? places[prog_rnd(p, 5)] : NO_MEM;
}

static int32_t pick_disp(struct prog *p, const struct x86_row *row, enum place place)
{
	switch (place) {
	case BY_RSP: return 32 * (int32_t)prog_rnd(p, 16);
	case FIXED: return RIG_DATA + 32 * (int32_t)prog_rnd(p, 120) + (prog_rnd(p, 40) ? 0 : 8);
	default: break;
	}
	return prog_rnd(p, 20) || row->flags & X86_R_ALIGN16 ? 32 * (int32_t)prog_rnd(p, 120) : 0xfe8 + 4 * (int32_t)prog_rnd(p, 6);
}

/* The modrm of ROW and what follows, with a byte for an immediate. */
static unsigned make_modrm(struct prog *p, const struct x86_row *row, enum place place, uint8_t *b)
{
	static const uint8_t mod_rm[] = { 0xc0, 0x83, 0x84, 0x04 }, sib[] = { 0, 0, 0x24, 0x25 };
	unsigned reg = row->reg >= 0 ? (unsigned)row->reg : prog_rnd(p, 8), n = 0;
	int32_t disp = pick_disp(p, row, place);

	if (row->flags & X86_R_MODRM)
		b[n++] = (uint8_t)(mod_rm[place] | reg << 3 |
				   (row->rm >= 0 ? (unsigned)row->rm : place == NO_MEM ? prog_rnd(p, 8) : 0));
	if (sib[place])
		b[n++] = sib[place];
	if (place != NO_MEM)
		memcpy(b + n, &disp, 4), n += 4;
	b[n++] = (uint8_t)prog_rnd(p, 256);
	return n;
}

/* Any x87, MMX or SSE instruction. */
void prog_put_fp(struct prog *p)
{
	static const uint32_t kinds[] = { X86_R_X87, X86_R_X87, X86_R_MMX, X86_R_SSE };
	uint32_t kind = kinds[prog_rnd(p, 4)];
	const struct x86_row *row;
	uint8_t b[2 * X86_INSN_MAX];
	unsigned n = 0;

	do
		row = &x86_rows[prog_rnd(p, x86_first_vex_row)];
	while (!(row->flags & kind));
	enum place place = pick_place(p, row);

	if (place != NO_MEM && !prog_rnd(p, 8))
		b[n++] = prog_rnd(p, 2) ? 0x64 : 0x67;
	if (row->pfx > X86_PFX_NOREP)
		b[n++] = row->pfx;
	if (prog_rnd(p, 2) || row->flags & X86_R_W1)
		b[n++] = (uint8_t)(0x40 | (row->flags & X86_R_W1 ? 1 : row->flags & X86_R_W0 ? 0 : prog_rnd(p, 2)) << 3 |
				   prog_rnd(p, 2) << 2 | (place != NO_MEM ? 0 : prog_rnd(p, 2)));
	if (row->map)
		b[n++] = 0x0f;
	if (row->map > 1)
		b[n++] = row->map == 2 ? 0x38 : 0x3a;
	b[n++] = row->opcode;
	put_fit(p, row, b, n + make_modrm(p, row, place, b + n));
}

/* mov dword [rbx + 64], a control word; ldmxcsr or fldcw from there. Few unmask an exception. */
void prog_put_control(struct prog *p)
{
	static const uint16_t mxcsr[] = { 0x1f80, 0x9fc0, 0x7f80, 0x3fbf, 0x1fa0, 0x1f80, 0x0f80 };
	static const uint16_t fcw[] = { 0x37f, 0x27f, 0xf7f, 0x7f, 0xb7f, 0x37f, 0x35f };
	bool is_fcw = prog_rnd(p, 2);
	unsigned i = prog_rnd(p, prog_rnd(p, 6) ? 6 : 7);

	prog_put(p, 0xc7); prog_put(p, 0x43); prog_put(p, 64); prog_put32(p, is_fcw ? fcw[i] : mxcsr[i]);
	if (is_fcw) {
		prog_put(p, 0xd9); prog_put(p, 0x6b); prog_put(p, 64);
	} else {
		prog_put(p, 0x0f); prog_put(p, 0xae); prog_put(p, 0x53); prog_put(p, 64);
	}
}

static unsigned make_vex(struct prog *p, const struct x86_row *row, uint8_t *b)
{
	unsigned pp = row->pfx == 0x66 ? 1 : row->pfx == 0xf3 ? 2 : row->pfx == 0xf2 ? 3 : 0, n = 0;
	unsigned l = row->flags & X86_R_L1 ? 1 : row->flags & X86_R_L0 ? 0 : prog_rnd(p, 2);
	unsigned w = row->flags & X86_R_W1 ? 1 : row->flags & X86_R_W0 ? 0 : prog_rnd(p, 2);
	unsigned vvvv = row->flags & X86_R_NDS ? prog_rnd(p, 16) : 0;
	enum place place = pick_place(p, row);

	if (place != NO_MEM && !prog_rnd(p, 8))
		b[n++] = prog_rnd(p, 2) ? 0x64 : 0x67;
	b[n++] = 0xc4;
	b[n++] = (uint8_t)(prog_rnd(p, 2) << 7 | 0x40 | (place != NO_MEM ? 1 : prog_rnd(p, 2)) << 5 | (row->map - X86_MAP_VEX_0F + 1));
	b[n++] = (uint8_t)(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
	if (row->map == X86_MAP_VEX_0F && !w && (b[n - 2] & 0x60) == 0x60 && prog_rnd(p, 2)) {
		b[n - 2] = (uint8_t)((b[n - 2] & 0x80) | (b[n - 1] & 0x7f));
		b[n - 3] = 0xc5;
		n--;
	}
	b[n++] = row->opcode;
	return n + make_modrm(p, row, place, b + n);
}

/* Any VEX instruction; often one on general registers, or what clears upper halves. */
void prog_put_vex(struct prog *p)
{
	const struct x86_row *row;
	uint8_t b[2 * X86_INSN_MAX];
	bool is_bmi = !prog_rnd(p, 3);

	if (!prog_rnd(p, 12)) {
		prog_put(p, 0xc5); prog_put(p, prog_rnd(p, 4) ? 0xf8 : 0xfc); prog_put(p, 0x77);
		return;
	}
	do
		row = &x86_rows[x86_first_vex_row + prog_rnd(p, x86_n_rows - x86_first_vex_row)];
	while (is_bmi && row->flags & X86_R_AVX);
	put_fit(p, row, b, make_vex(p, row, b));
}

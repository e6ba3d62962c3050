/* SPDX-License-Identifier: Apache-2.0 */
/* thunks.c - find the thunk (thunks.S) of a decoded instruction. */
#include "cpu/interp/vec.h"

/* 8-byte slots of code; thunks.S says how they are laid out. */
extern const uint8_t vec_thunks[3][4][256][8] __attribute__((visibility("hidden")));
extern const uint8_t vec_imm_thunks[][256][8] __attribute__((visibility("hidden")));
extern const uint8_t vex_thunks[] __attribute__((visibility("hidden")));
extern const uint32_t vex_thunk_offsets[][2] __attribute__((visibility("hidden")));
extern const uint8_t x87_reg_thunks[8][64][4] __attribute__((visibility("hidden")));
extern const uint8_t x87_mem_thunks[8][8][4] __attribute__((visibility("hidden")));

enum {
#define X(map, prefix, opcode) IMM_##map##_##prefix##_##opcode,
#include "cpu/interp/thunks_imm.def"
#undef X
};

/* Row of vec_imm_thunks plus 1, 0: none. Map 0 is 0F, 1 is 0F3A. */
static const uint8_t imm_rows[2][4][256] = {
#define X(map, prefix, opcode) [map][prefix][opcode] = IMM_##map##_##prefix##_##opcode + 1,
#include "cpu/interp/thunks_imm.def"
#undef X
};

static vec_thunk thunk_fn(const uint8_t *code)
{
	return (vec_thunk)(uintptr_t)code;
}

static unsigned thunk_prefix(const struct x86_row *row)
{
	switch (row->pfx) {
	case 0x66: return 1;
	case 0xf3: return 2;
	case 0xf2: return 3;
	default: return 0;
	}
}

static unsigned thunk_imm_row(const struct x86_row *row)
{
	return row->map == 1 || row->map == 3 ? imm_rows[row->map == 3][thunk_prefix(row)][row->opcode] : 0;
}

bool vec_thunk_has_imm(const struct x86_insn *x)
{
	return thunk_imm_row(x->row);
}

vec_thunk vec_thunk_find(const struct x86_insn *x, bool rex_w)
{
	unsigned prefix = thunk_prefix(x->row), imm = thunk_imm_row(x->row);

	if (imm)
		return thunk_fn(vec_imm_thunks[imm - 1][(uint8_t)x->imm]);
	return thunk_fn(vec_thunks[rex_w ? 2 : x->row->map - 1][prefix][x->row->opcode]);
}

vec_thunk vec_thunk_at(unsigned map, unsigned prefix, unsigned opcode)
{
	return thunk_fn(vec_thunks[map - 1][prefix][opcode]);
}

vec_thunk vex_thunk_find(const struct x86_insn *x, uint8_t imm)
{
	uint32_t at = vex_thunk_offsets[x->row - x86_rows - x86_first_vex_row][x->vl == 32];

	return thunk_fn(vex_thunks + at + 8 * imm);
}

vec_thunk x87_thunk_find(const struct x86_insn *x)
{
	if (x->modrm >= 0xc0)
		return thunk_fn(x87_reg_thunks[x->row->opcode & 7][x->modrm & 0x3f]);
	return thunk_fn(x87_mem_thunks[x->row->opcode & 7][x->modrm >> 3 & 7]);
}

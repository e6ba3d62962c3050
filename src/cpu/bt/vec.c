/* SPDX-License-Identifier: Apache-2.0 */
/* vec.c - the guest's vector and x87 registers between struct icpu and the host's.
 *
 * The lower halves and MXCSR are in the host while `vec_live` says so. The upper halves go with them,
 * but what is known to be zero is neither loaded nor stored, and is zero in the host too, in the state
 * that VZEROUPPER leaves: SSE code beside dirty upper halves is slow on some processors. Two bytes
 * tell, both valid while `vec_live`:
 *
 *	ymm_host   an upper half in the host may be other than zero
 *	ymm_mem    one in memory is
 *
 * Loading finds out by looking at all of them, so whoever else writes them (the interpreter, XRSTOR,
 * a restored state) need not say so. Fragments set ymm_host before they write one.
 *
 * x87 and MMX registers are in the host while `x87_live`, and then the others are too: FXSAVE and FXRSTOR
 * know no less. Instruction and data pointers stay in memory (x87.c); what the host has of them, which
 * not every processor keeps, is of its own code. */
#include "cpu/bt/bt_priv.h"

enum { N_VEC = 16, FX = offsetof(struct bt_cpu, i.s.xsave), LOW = FX + X86_FX_XMM, HIGH = FX + X86_XS_AVX };

enum { VEX_128 = 0, VEX_256 = 4 };

/* A VEX instruction with [BASE + DISP]; LPP: VEX.L and VEX.pp. */
static void vec_vex(struct emit *e, unsigned map, unsigned lpp, unsigned opcode, unsigned reg, unsigned vvvv,
		    unsigned base, uint32_t disp)
{
	emit8(e, 0xc4);
	emit8(e, (reg & 8 ? 0 : 0x80) | 0x40 | (base & 8 ? 0 : 0x20) | map);
	emit8(e, (~vvvv & 15) << 3 | lpp);
	emit8(e, opcode);
	emit_modrm_mem(e, reg, base, EMIT_NONE, 0, (int32_t)disp);
}

static void vec_zeroupper(struct emit *e)
{
	emit8(e, 0xc5); emit8(e, 0xf8); emit8(e, 0x77);
}

/* MOVAPS between XMM registers and the guest's area: 0x28 to load, 0x29 to store. BASE holds struct
 * bt_cpu. */
static void vec_low(struct emit *e, unsigned opcode, unsigned base, bool has_avx)
{
	for (unsigned i = 0; i < N_VEC; i++) {
		if (has_avx) {
			vec_vex(e, 1, VEX_128, opcode, i, 0, base, LOW + 16 * i);
			continue;
		}
		emit_rex(e, false, i, 0, base);
		emit8(e, 0x0f);
		emit8(e, opcode);
		emit_modrm_mem(e, i, base, EMIT_NONE, 0, (int32_t)(LOW + 16 * i));
	}
}

/* STMXCSR (/3) and LDMXCSR (/2) gs:[off]. */
static void vec_mxcsr(struct emit *e, unsigned reg, uint32_t off)
{
	emit8(e, 0x65);
	emit8(e, 0x0f);
	emit8(e, 0xae);
	emit8(e, reg << 3 | 4);
	emit8(e, 0x25);
	emit32(e, off);
}

/* SETNE gs:[off]. */
static void vec_setne(struct emit *e, uint32_t off)
{
	emit8(e, 0x65);
	emit8(e, 0x0f);
	emit8(e, 0x95);
	emit8(e, 4);
	emit8(e, 0x25);
	emit32(e, off);
}

/* Upper halves to memory, or zeros when those of the host are and those in memory are not. */
static void vec_save_high(struct emit *e, unsigned base)
{
	uint8_t *clean = emit_jump_if_byte_zero(e, BT_OFF(ymm_host));

	for (unsigned i = 0; i < N_VEC; i++) {
		vec_vex(e, 3, VEX_256 | 1, 0x19, i, 0, base, HIGH + 16 * i);    /* vextractf128 */
		emit8(e, 1);
	}
	vec_zeroupper(e);
	uint8_t *done = emit_jmp(e, NULL);

	emit_patch(clean, e->p);
	uint8_t *same = emit_jump_if_byte_zero(e, BT_OFF(ymm_mem));

	emit8(e, 0x0f); emit8(e, 0x57); emit8(e, 0xc0);                         /* xorps xmm0, xmm0 */
	for (unsigned i = 0; i < N_VEC; i++)
		vec_vex(e, 1, VEX_128, 0x29, 0, 0, base, HIGH + 16 * i);
	emit_patch(same, e->p);
	emit_patch(done, e->p);
}

/* Lower halves from memory; upper halves when one is not zero, else they become zero. */
static void vec_load_all(struct emit *e, unsigned base)
{
	vec_vex(e, 1, VEX_256, 0x28, 0, 0, base, HIGH);
	for (unsigned i = 2; i < N_VEC; i += 2)
		vec_vex(e, 1, VEX_256, 0x56, 0, 0, base, HIGH + 16 * i);        /* vorps */
	emit8(e, 0xc4); emit8(e, 0xe2); emit8(e, 0x7d); emit8(e, 0x17); emit8(e, 0xc0);
	vec_setne(e, BT_OFF(ymm_host));                                         /* vptest ymm0, ymm0 */
	vec_setne(e, BT_OFF(ymm_mem));
	vec_zeroupper(e);
	vec_low(e, 0x28, base, true);
	uint8_t *clean = emit_jcc(e, EMIT_E, NULL);

	for (unsigned i = 0; i < N_VEC; i++) {
		vec_vex(e, 3, VEX_256 | 1, 0x18, i, i, base, HIGH + 16 * i);    /* vinsertf128 */
		emit8(e, 1);
	}
	emit_patch(clean, e->p);
}

/* FXSAVE64 (/0) and FXRSTOR64 (/1). */
static void vec_fx(struct emit *e, unsigned reg, unsigned base)
{
	emit_rex(e, true, 0, 0, base);
	emit8(e, 0x0f);
	emit8(e, 0xae);
	emit_modrm_mem(e, reg, base, EMIT_NONE, 0, FX);
}

/* Pointers between memory and RCX (FIP), RDX (FDP), SI (FOP): 0x8b to load, 0x89 to store. RAX holds
 * struct bt_cpu. */
static void vec_pointers(struct emit *e, unsigned opcode)
{
	emit_mem(e, true, opcode, EMIT_RCX, EMIT_RAX, EMIT_NONE, 0, FX + X86_FX_FIP);
	emit_mem(e, true, opcode, EMIT_RDX, EMIT_RAX, EMIT_NONE, 0, FX + X86_FX_FDP);
	emit8(e, 0x66);
	emit_mem(e, false, opcode, EMIT_RSI, EMIT_RAX, EMIT_NONE, 0, FX + X86_FX_FOP);
}

/* All but upper halves. RAX holds struct bt_cpu. C finds the x87 registers empty and its control word the
 * usual one. */
static void vec_save_fx(struct emit *e, bool has_avx)
{
	uint8_t *without = emit_jump_if_byte_zero(e, BT_OFF(x87_live));

	vec_pointers(e, 0x8b);
	vec_fx(e, 0, EMIT_RAX);
	vec_pointers(e, 0x89);
	emit_mem(e, false, 0xc7, 0, EMIT_RAX, EMIT_NONE, 0, FX + X86_FX_MXCSR_MASK);
	emit32(e, 0xffff);
	emit8(e, 0xdb); emit8(e, 0xe3);                                         /* fninit */
	emit_set_byte(e, BT_OFF(x87_live), 0);
	uint8_t *done = emit_jmp(e, NULL);

	emit_patch(without, e->p);
	vec_low(e, 0x29, EMIT_RAX, has_avx);
	vec_mxcsr(e, 3, FX + X86_FX_MXCSR);
	emit_patch(done, e->p);
}

void bt_vec_emit_save(struct emit *e, bool has_avx)
{
	uint8_t *skip = emit_jump_if_byte_zero(e, BT_OFF(vec_live));

	emit_load(e, EMIT_RAX, BT_OFF(self));
	vec_save_fx(e, has_avx);
	if (has_avx)
		vec_save_high(e, EMIT_RAX);
	vec_mxcsr(e, 2, BT_OFF(host_mxcsr));
	emit_set_byte(e, BT_OFF(vec_live), 0);
	emit_patch(skip, e->p);
}

void bt_vec_emit_load(struct emit *e, unsigned base, bool has_avx)
{
	emit_load(e, base, BT_OFF(self));
	if (has_avx)
		vec_load_all(e, base);
	else
		vec_low(e, 0x28, base, false);
	vec_mxcsr(e, 2, FX + X86_FX_MXCSR);
	emit_set_byte(e, BT_OFF(vec_live), 1);
}

void bt_x87_emit_load(struct emit *e, unsigned base, bool has_avx)
{
	uint8_t *without = emit_jump_if_byte_zero(e, BT_OFF(vec_live));

	emit_load(e, base, BT_OFF(self));
	vec_low(e, 0x29, base, has_avx);
	vec_mxcsr(e, 3, FX + X86_FX_MXCSR);
	uint8_t *have = emit_jmp(e, NULL);

	emit_patch(without, e->p);
	bt_vec_emit_load(e, base, has_avx);
	emit_patch(have, e->p);
	vec_fx(e, 1, base);
	emit_set_byte(e, BT_OFF(x87_live), 1);
}

void bt_vec_emit_resume(struct emit *e, bool has_avx)
{
	uint8_t *skip = emit_jump_if_byte_zero(e, BT_OFF(want_vec));

	bt_vec_emit_load(e, EMIT_RAX, has_avx);
	emit_gs(e, false, 0xf6, 0, BT_OFF(want_vec));                           /* test */
	emit8(e, BT_VEC_X87);
	uint8_t *without = emit_jcc(e, EMIT_E, NULL);

	vec_fx(e, 1, EMIT_RAX);
	emit_set_byte(e, BT_OFF(x87_live), 1);
	emit_patch(without, e->p);
	emit_gs(e, false, 0x8a, EMIT_RAX, BT_OFF(want_vec));
	emit8(e, 0x24); emit8(e, BT_VEC_YMM);                                   /* and al, BT_VEC_YMM */
	emit_gs(e, false, 0x08, EMIT_RAX, BT_OFF(ymm_host));                    /* or */
	emit_patch(skip, e->p);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* emit.h - writing host instructions: the few forms that the translator makes up itself. Intel SDM
 * vol. 2 chapter 2. Code is written through the writable mapping of the cache and runs at another
 * address in the executable one; the difference is the emitter's business only where a relative
 * address leaves the cache, which none does. */
#ifndef CPU_BT_EMIT_H
#define CPU_BT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct emit {
	uint8_t *p, *end;       /* in the writable mapping; the caller sees to it that END is far */
};

enum { EMIT_RAX, EMIT_RCX, EMIT_RDX, EMIT_RBX, EMIT_RSP, EMIT_RBP, EMIT_RSI, EMIT_RDI, EMIT_NONE = 0xff };

/* Conditions of Jcc and CMOVcc. */
enum { EMIT_AE = 3, EMIT_E = 4, EMIT_NE = 5, EMIT_BE = 6, EMIT_A = 7, EMIT_S = 8, EMIT_NS = 9, EMIT_L = 12 };

/* Bytes 81 /n and the like: add, or, and, sub, cmp. */
enum { EMIT_ADD = 0, EMIT_OR = 1, EMIT_AND = 4, EMIT_SUB = 5, EMIT_XOR = 6, EMIT_CMP = 7 };

/* Bytes c1 /n. */
enum { EMIT_SHL = 4, EMIT_SHR = 5, EMIT_SAR = 7 };

static inline void emit8(struct emit *e, unsigned v) { *e->p++ = (uint8_t)v; }
static inline void emit32(struct emit *e, uint32_t v) { memcpy(e->p, &v, 4); e->p += 4; }
static inline void emit64(struct emit *e, uint64_t v) { memcpy(e->p, &v, 8); e->p += 8; }

static inline void emit_rex(struct emit *e, bool w, unsigned reg, unsigned index, unsigned base)
{
	unsigned rex = (w ? 8 : 0) | (reg & 8) >> 1 | (index & 8) >> 2 | (base & 8) >> 3;

	if (rex)
		emit8(e, 0x40 | rex);
}

/* The same even if no bit of it is up: byte registers are the low ones then. */
static inline void emit_rex_always(struct emit *e, unsigned reg, unsigned base)
{
	emit8(e, 0x40 | (reg & 8) >> 1 | (base & 8) >> 3);
}

/* OP reg, rm between registers. */
static inline void emit_rr(struct emit *e, bool w, unsigned op, unsigned reg, unsigned rm)
{
	emit_rex(e, w, reg, 0, rm);
	emit8(e, op);
	emit8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

/* ALU operation on registers: DST op= SRC. */
static inline void emit_alu_rr(struct emit *e, bool w, unsigned alu, unsigned dst, unsigned src)
{
	emit_rr(e, w, alu << 3 | 1, src, dst);
}

static inline void emit_shift_ri(struct emit *e, bool w, unsigned shift, unsigned reg, unsigned by)
{
	emit_rr(e, w, 0xc1, shift, reg);
	emit8(e, by);
}

/* if CC, 64 bits of DST = SRC. */
static inline void emit_cmov(struct emit *e, unsigned cc, unsigned dst, unsigned src)
{
	emit_rex(e, true, dst, 0, src);
	emit8(e, 0x0f);
	emit8(e, 0x40 | cc);
	emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}

/* test reg, imm. */
static inline void emit_test_ri(struct emit *e, bool w, unsigned reg, uint32_t imm)
{
	emit_rr(e, w, 0xf7, 0, reg);
	emit32(e, imm);
}

/* rorx dst, src, by: a rotation of 64 bits that leaves the flags alone. */
static inline void emit_rorx(struct emit *e, unsigned dst, unsigned src, unsigned by)
{
	emit8(e, 0xc4);
	emit8(e, (dst & 8 ? 0 : 0x80) | 0x40 | (src & 8 ? 0 : 0x20) | 3);
	emit8(e, 0xfb);
	emit8(e, 0xf0);
	emit8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
	emit8(e, by);
}

static inline void emit_mov_rr(struct emit *e, unsigned dst, unsigned src) { emit_rr(e, true, 0x89, src, dst); }

/* OP reg, gs:[disp]: the absolute form through SIB. */
static inline void emit_gs(struct emit *e, bool w, unsigned op, unsigned reg, uint32_t disp)
{
	emit8(e, 0x65);
	emit_rex(e, w, reg, 0, 0);
	emit8(e, op);
	emit8(e, (reg & 7) << 3 | 4);
	emit8(e, 0x25);
	emit32(e, disp);
}

/* OP reg, gs:[index + disp]. */
static inline void emit_gs_base(struct emit *e, bool w, unsigned op, unsigned reg, unsigned base, uint32_t disp)
{
	emit8(e, 0x65);
	emit_rex(e, w, reg, 0, base);
	emit8(e, op);
	emit8(e, 0x80 | (reg & 7) << 3 | (base & 7));
	if ((base & 7) == EMIT_RSP)
		emit8(e, 0x24);
	emit32(e, disp);
}

/* OP reg, gs:[index * 8 + disp], 64 bits. */
static inline void emit_gs_scaled(struct emit *e, unsigned op, unsigned reg, unsigned index, uint32_t disp)
{
	emit8(e, 0x65);
	emit_rex(e, true, reg, index, 0);
	emit8(e, op);
	emit8(e, (reg & 7) << 3 | 4);
	emit8(e, 3 << 6 | (index & 7) << 3 | 5);
	emit32(e, disp);
}

static inline void emit_load(struct emit *e, unsigned reg, uint32_t off) { emit_gs(e, true, 0x8b, reg, off); }
static inline void emit_store(struct emit *e, unsigned reg, uint32_t off) { emit_gs(e, true, 0x89, reg, off); }
static inline void emit_load32(struct emit *e, unsigned reg, uint32_t off) { emit_gs(e, false, 0x8b, reg, off); }
static inline void emit_store32(struct emit *e, unsigned reg, uint32_t off) { emit_gs(e, false, 0x89, reg, off); }

/* 0F OP reg, gs:[disp]. */
static inline void emit_gs_0f(struct emit *e, unsigned op, unsigned reg, uint32_t disp)
{
	emit8(e, 0x65);
	emit_rex(e, false, reg, 0, 0);
	emit8(e, 0x0f);
	emit8(e, op);
	emit8(e, (reg & 7) << 3 | 4);
	emit8(e, 0x25);
	emit32(e, disp);
}

/* Zero-extended from memory, and the low half stored. */
static inline void emit_load8(struct emit *e, unsigned reg, uint32_t off) { emit_gs_0f(e, 0xb6, reg, off); }
static inline void emit_load16(struct emit *e, unsigned reg, uint32_t off) { emit_gs_0f(e, 0xb7, reg, off); }
static inline void emit_store16(struct emit *e, unsigned reg, uint32_t off)
{
	emit8(e, 0x66);
	emit_gs(e, false, 0x89, reg, off);
}

/* cmp byte gs:[off], V. */
static inline void emit_cmp8_imm(struct emit *e, uint32_t off, unsigned v)
{
	emit_gs(e, false, 0x80, EMIT_CMP, off);
	emit8(e, v);
}

/* test dword gs:[off], imm. */
static inline void emit_test_gs_i(struct emit *e, uint32_t off, uint32_t imm)
{
	emit_gs(e, false, 0xf7, 0, off);
	emit32(e, imm);
}

/* dword gs:[off] = V. */
static inline void emit_store32_imm(struct emit *e, uint32_t off, uint32_t v)
{
	emit_gs(e, false, 0xc7, 0, off);
	emit32(e, v);
}

/* ALU operation on a register with an immediate. */
static inline void emit_alu_ri(struct emit *e, bool w, unsigned alu, unsigned reg, int32_t imm)
{
	emit_rex(e, w, 0, 0, reg);
	emit8(e, imm == (int8_t)imm ? 0x83 : 0x81);
	emit8(e, 0xc0 | alu << 3 | (reg & 7));
	if (imm == (int8_t)imm)
		emit8(e, (uint8_t)imm);
	else
		emit32(e, (uint32_t)imm);
}

/* ALU operation on dword gs:[disp] with an immediate. */
static inline void emit_alu_gs_i(struct emit *e, unsigned alu, uint32_t disp, uint32_t imm)
{
	emit_gs(e, false, 0x81, alu, disp);
	emit32(e, imm);
}

/* cmp dword gs:[disp], 0. */
static inline void emit_cmp_gs_0(struct emit *e, uint32_t disp)
{
	emit_gs(e, false, 0x83, EMIT_CMP, disp);
	emit8(e, 0);
}

/* byte gs:[off] = V. Flags stay. */
static inline void emit_set_byte(struct emit *e, uint32_t off, unsigned v)
{
	emit_gs(e, false, 0xc6, 0, off);
	emit8(e, v);
}

/* The shortest way to put V into REG. Flags stay. */
static inline void emit_mov_ri(struct emit *e, unsigned reg, uint64_t v)
{
	if (v >> 32 == 0) {
		emit_rex(e, false, 0, 0, reg);
		emit8(e, 0xb8 | (reg & 7));
		emit32(e, (uint32_t)v);
	} else if ((uint64_t)(int32_t)v == v) {
		emit_rex(e, true, 0, 0, reg);
		emit8(e, 0xc7);
		emit8(e, 0xc0 | (reg & 7));
		emit32(e, (uint32_t)v);
	} else {
		emit_rex(e, true, 0, 0, reg);
		emit8(e, 0xb8 | (reg & 7));
		emit64(e, v);
	}
}

/* qword gs:[off] = V, which is 32 bits sign-extended or goes through the TMP register. */
static inline void emit_store_imm(struct emit *e, uint32_t off, uint64_t v, unsigned tmp)
{
	if ((uint64_t)(int32_t)v == v) {
		emit_gs(e, true, 0xc7, 0, off);
		emit32(e, (uint32_t)v);
	} else {
		emit_mov_ri(e, tmp, v);
		emit_store(e, tmp, off);
	}
}

/* ModRM, SIB and displacement of [base + index << scale + disp]; REG goes into modrm.reg. */
static inline void emit_modrm_mem(struct emit *e, unsigned reg, unsigned base, unsigned index, unsigned scale,
				  int32_t disp)
{
	bool has_sib = index != EMIT_NONE || base == EMIT_NONE || (base & 7) == EMIT_RSP;
	unsigned mod = base == EMIT_NONE ? 0 : !disp && (base & 7) != EMIT_RBP ? 0 : disp == (int8_t)disp ? 1 : 2;

	emit8(e, mod << 6 | (reg & 7) << 3 | (has_sib ? 4 : base & 7));
	if (has_sib)
		emit8(e, scale << 6 | (index == EMIT_NONE ? 4 : index & 7) << 3 | (base == EMIT_NONE ? 5 : base & 7));
	if (mod == 1)
		emit8(e, (uint8_t)disp);
	else if (mod == 2 || base == EMIT_NONE)
		emit32(e, (uint32_t)disp);
}

/* OP reg, [base + index << scale + disp] with a one-byte opcode. */
static inline void emit_mem(struct emit *e, bool w, unsigned op, unsigned reg, unsigned base, unsigned index,
			    unsigned scale, int32_t disp)
{
	emit_rex(e, w, reg, index == EMIT_NONE ? 0 : index, base == EMIT_NONE ? 0 : base);
	emit8(e, op);
	emit_modrm_mem(e, reg, base, index, scale, disp);
}

/* What is only a move is emitted as one: it takes no time where registers are renamed. Flags stay. */
static inline void emit_lea(struct emit *e, bool w, unsigned reg, unsigned base, unsigned index, unsigned scale,
			    int32_t disp)
{
	if (base != EMIT_NONE && index == EMIT_NONE && !disp)
		emit_rr(e, w, 0x89, base, reg);
	else
		emit_mem(e, w, 0x8d, reg, base, index, scale, disp);
}

/* Jumps with a 32-bit displacement; they return where it is, for emit_patch(). TO may be NULL. */
static inline void emit_patch(uint8_t *at, const uint8_t *to)
{
	int32_t rel = (int32_t)(to - (at + 4));

	memcpy(at, &rel, 4);
}

static inline uint8_t *emit_jcc(struct emit *e, unsigned cc, const uint8_t *to)
{
	emit8(e, 0x0f);
	emit8(e, 0x80 | cc);
	emit32(e, 0);
	if (to)
		emit_patch(e->p - 4, to);
	return e->p - 4;
}

static inline uint8_t *emit_jmp(struct emit *e, const uint8_t *to)
{
	emit8(e, 0xe9);
	emit32(e, 0);
	if (to)
		emit_patch(e->p - 4, to);
	return e->p - 4;
}

/* Jump to what is patched in later when byte gs:[off] is 0. */
static inline uint8_t *emit_jump_if_byte_zero(struct emit *e, uint32_t off)
{
	emit_gs(e, false, 0x80, EMIT_CMP, off);
	emit8(e, 0);
	return emit_jcc(e, EMIT_E, NULL);
}

/* jmp gs:[disp]. */
static inline void emit_jmp_gs(struct emit *e, uint32_t disp) { emit_gs(e, false, 0xff, 4, disp); }

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* alu.h - arithmetic by the host's own instructions, so that results and flags, the undefined
 * ones too, are those of a real processor.
 *
 * Flags travel in AX: AH holds SF ZF AF PF CF as LAHF and SAHF have them, AL holds OF as 0 or 1.
 * `addb $127, %al` turns AL back into OF without touching AH. Every function takes the RFLAGS
 * to update; the ones named IN need some of the old flags and load them first. */
#ifndef CPU_INTERP_ALU_H
#define CPU_INTERP_ALU_H

#include <stdint.h>
#include "cpu/x86/state.h"

#define ALU_GET "seto %%al\n\tlahf\n\t"
#define ALU_SET "addb $127, %%al\n\tsahf\n\t"

static inline void alu_flags_put(uint64_t *rf, uint16_t ax)
{
	*rf = (*rf & ~(uint64_t)X86_FLAGS_ARITH) | ax >> 8 | (uint64_t)(ax & 1) << 11;
}

static inline uint16_t alu_flags_ax(uint64_t rf)
{
	return (uint16_t)((rf & 0xff) << 8 | (rf >> 11 & 1));
}

/* a OP b, all flags written, none read. */
#define ALU_2(name, insn, sfx, bits)                                                               \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		uint16_t ax;                                                                       \
		__asm__(insn sfx " %[b], %[a]\n\t" ALU_GET                                         \
			: [a] "+q"(a), "=&a"(ax) : [b] "q"(b) : "cc");                             \
		alu_flags_put(rf, ax);                                                             \
		return a;                                                                          \
	}
/* a OP b with the old flags loaded. */
#define ALU_2_IN(name, insn, sfx, bits)                                                            \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		uint16_t ax = alu_flags_ax(*rf);                                                   \
		__asm__(ALU_SET insn sfx " %[b], %[a]\n\t" ALU_GET                                 \
			: [a] "+&q"(a), "+&a"(ax) : [b] "q"(b) : "cc");                            \
		alu_flags_put(rf, ax);                                                             \
		return a;                                                                          \
	}
/* OP a with the old flags loaded; b is ignored, so that all share one shape. */
#define ALU_1_IN(name, insn, sfx, bits)                                                            \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		uint16_t ax = alu_flags_ax(*rf);                                                   \
		__asm__(ALU_SET insn sfx " %[a]\n\t" ALU_GET : [a] "+&q"(a), "+&a"(ax) : : "cc");  \
		alu_flags_put(rf, ax);                                                             \
		(void)b;                                                                           \
		return a;                                                                          \
	}
/* OP %cl, a: shifts and rotates leave flags alone when the masked count is 0. */
#define ALU_CL_IN(name, insn, sfx, bits)                                                           \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		uint16_t ax = alu_flags_ax(*rf);                                                   \
		__asm__(ALU_SET insn sfx " %%cl, %[a]\n\t" ALU_GET                                 \
			: [a] "+&q"(a), "+&a"(ax) : "c"((uint8_t)b) : "cc");                       \
		alu_flags_put(rf, ax);                                                             \
		return a;                                                                          \
	}
#define ALU_NOFLAGS(name, expr, bits)                                                              \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		(void)rf;                                                                          \
		(void)b;                                                                           \
		return (uint##bits##_t)(expr);                                                     \
	}
/* CMP and TEST keep a. */
#define ALU_KEEP(name, insn, sfx, bits)                                                            \
	static inline uint##bits##_t alu_##name##bits(uint64_t *rf, uint##bits##_t a, uint##bits##_t b) \
	{                                                                                          \
		uint16_t ax;                                                                       \
		__asm__(insn sfx " %[b], %[a]\n\t" ALU_GET                                         \
			: "=&a"(ax) : [a] "q"(a), [b] "q"(b) : "cc");                              \
		alu_flags_put(rf, ax);                                                             \
		return a;                                                                          \
	}

#define ALU_SIZE(sfx, bits)                     \
	ALU_2(add, "add", sfx, bits)            \
	ALU_2(or, "or", sfx, bits)              \
	ALU_2_IN(adc, "adc", sfx, bits)         \
	ALU_2_IN(sbb, "sbb", sfx, bits)         \
	ALU_2(and, "and", sfx, bits)            \
	ALU_2(sub, "sub", sfx, bits)            \
	ALU_2(xor, "xor", sfx, bits)            \
	ALU_KEEP(cmp, "cmp", sfx, bits)         \
	ALU_KEEP(test, "test", sfx, bits)       \
	ALU_1_IN(inc, "inc", sfx, bits)         \
	ALU_1_IN(dec, "dec", sfx, bits)         \
	ALU_1_IN(neg, "neg", sfx, bits)         \
	ALU_NOFLAGS(not, ~a, bits)              \
	ALU_CL_IN(rol, "rol", sfx, bits)        \
	ALU_CL_IN(ror, "ror", sfx, bits)        \
	ALU_CL_IN(rcl, "rcl", sfx, bits)        \
	ALU_CL_IN(rcr, "rcr", sfx, bits)        \
	ALU_CL_IN(shl, "shl", sfx, bits)        \
	ALU_CL_IN(shr, "shr", sfx, bits)        \
	ALU_CL_IN(sar, "sar", sfx, bits)
ALU_SIZE("b", 8)
ALU_SIZE("w", 16)
ALU_SIZE("l", 32)
ALU_SIZE("q", 64)

/* Any operation of the families above by size in bytes, for the paths that are not specialised. */
typedef uint64_t (*alu_fn)(uint64_t *rf, uint64_t a, uint64_t b, unsigned size);

#define ALU_ANY(name)                                                                           \
	static inline uint64_t alu_##name(uint64_t *rf, uint64_t a, uint64_t b, unsigned size)  \
	{                                                                                       \
		switch (size) {                                                                 \
		case 1: return alu_##name##8(rf, (uint8_t)a, (uint8_t)b);                       \
		case 2: return alu_##name##16(rf, (uint16_t)a, (uint16_t)b);                    \
		case 4: return alu_##name##32(rf, (uint32_t)a, (uint32_t)b);                    \
		default: return alu_##name##64(rf, a, b);                                       \
		}                                                                               \
	}
ALU_ANY(add)
ALU_ANY(or)
ALU_ANY(adc)
ALU_ANY(sbb)
ALU_ANY(and)
ALU_ANY(sub)
ALU_ANY(xor)
ALU_ANY(cmp)
ALU_ANY(test)
ALU_ANY(inc)
ALU_ANY(dec)
ALU_ANY(neg)
ALU_ANY(not)
ALU_ANY(rol)
ALU_ANY(ror)
ALU_ANY(rcl)
ALU_ANY(rcr)
ALU_ANY(shl)
ALU_ANY(shr)
ALU_ANY(sar)

#endif

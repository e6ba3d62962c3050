/* SPDX-License-Identifier: Apache-2.0 */
/* thunks.S - the host's own vector and x87 instructions as functions of a fixed size, and the
 * trampolines that load the guest's operands, call one and store the result (see vec.h).
 *
 * Vector thunks have ModRM CA: the reg field names register 1 (the destination: xmm1, mm1 or
 * ecx), the rm field register 2 (the source: xmm2, mm2 or edx). Register 0 stays free for the
 * implicit operand of PBLENDVB, BLENDVPx and SHA256RNDS2. Entries for opcodes that are no vector
 * instruction are never called: thunks.c and fpu_bind.c only look up bound operations. */
	.text

/* One prefix byte for index \p: none, 66, F3, F2. */
.macro	PREFIX p
	.if (\p) == 1
	.byte 0x66
	.elseif (\p) == 2
	.byte 0xf3
	.elseif (\p) == 3
	.byte 0xf2
	.endif
.endm

/* 256 opcodes of one map (0: 0F, 1: 0F38) with one prefix, REX.W when \w. 8 bytes each. */
.macro	VEC_MAP map, p, w
	.set opc, 0
	.rept 256
	.balign 8, 0xcc
	PREFIX \p
	.if \w
	.byte 0x48
	.endif
	.byte 0x0f
	.if \map
	.byte 0x38
	.endif
	.byte opc, 0xca, 0xc3
	.set opc, opc + 1
	.endr
.endm

/* vec_thunks[2 maps, then map 0 with REX.W][4 prefixes][256 opcodes] */
	.balign 64
	.globl vec_thunks
	.hidden vec_thunks
	.type vec_thunks, @object
vec_thunks:
	.irp p, 0, 1, 2, 3
	VEC_MAP 0, \p, 0
	.endr
	.irp p, 0, 1, 2, 3
	VEC_MAP 1, \p, 0
	.endr
	.irp p, 0, 1, 2, 3
	VEC_MAP 0, \p, 1
	.endr
	.balign 8, 0xcc
	.size vec_thunks, . - vec_thunks

/* vec_imm_thunks[rows of thunks_imm.def][256 immediates], 8 bytes each */
.macro	VEC_IMM map, p, opcode
	.set imm, 0
	.rept 256
	.balign 8, 0xcc
	PREFIX \p
	.byte 0x0f
	.if \map
	.byte 0x3a
	.endif
	.byte \opcode, 0xca, imm, 0xc3
	.set imm, imm + 1
	.endr
.endm

	.balign 64
	.globl vec_imm_thunks
	.hidden vec_imm_thunks
	.type vec_imm_thunks, @object
vec_imm_thunks:
#define X(map, p, opcode) VEC_IMM map, p, opcode
#include "cpu/interp/thunks_imm.def"
#undef X
	.balign 8, 0xcc
	.size vec_imm_thunks, . - vec_imm_thunks

/* vex_thunks: for each row of optable_vex.def with a vector register, one function per vector
 * length that it takes, or 256 when it has an immediate; 8 bytes each. Register 1 is modrm.reg, 2
 * modrm.rm, 3 VEX.vvvv, 0 the one of an immediate; in the groups with modrm.reg, 1 is vvvv.
 * vex_thunk_offsets[row][VEX.L]: where they start, from vex_thunks. The flags of the rows: */
	.set V0F, 4
	.set V38, 5
	.set V3A, 6
	.set NP, 1
	.set ANY, -1
	.set L0, 1
	.set L1, 2
	.set W1, 4
	.set NDS, 8
	.set AVX, 16
	.irp name, M, PMODE, MEM, REG, ALIGN, RW, RO, VSIB, W0, ONLY64
	.set \name, 0
	.endr

.macro	VEX_CODE map, opcode, pfx, reg, flags, l
	.balign 8, 0xcc
	.set vex_pp, (((\pfx) == 0x66) & 1) | (((\pfx) == 0xf3) & 2) | (((\pfx) == 0xf2) & 3)
	.set vex_w, ((((\flags) & W1) / W1) << 7)
	.if ((\flags) & NDS) == 0
	.set vex_nvvvv, 15
	.elseif (\reg) < 0
	.set vex_nvvvv, 15 - 3
	.else
	.set vex_nvvvv, 15 - 1
	.endif
	.byte 0xc4, 0xe0 | ((\map) - 3), vex_w | (vex_nvvvv << 3) | (\l << 2) | vex_pp, \opcode
	.if (\reg) < 0
	.byte 0xca
	.else
	.byte 0xc2 | ((\reg) << 3)
	.endif
.endm

/* Immediates: all of 0F3A, and in 0F the opcodes 70 to 73, C2 and C4 to C6. */
.macro	VEX_LENGTH map, opcode, pfx, reg, flags, l
	.balign 8, 0xcc
88:
	.pushsection .rodata
	.long 88b - vex_thunks
	.popsection
	.if \map == V3A || (\map == V0F && (((\opcode) & 0xfc) == 0x70 || (\opcode) == 0xc2 || ((\opcode) & 0xfc) == 0xc4))
	.set imm, 0
	.rept 256
	VEX_CODE \map, \opcode, \pfx, \reg, \flags, \l
	.byte imm, 0xc3
	.set imm, imm + 1
	.endr
	.else
	VEX_CODE \map, \opcode, \pfx, \reg, \flags, \l
	.byte 0xc3
	.endif
.endm

.macro	VEX_ROW map, opcode, pfx, reg, flags
	.if (\flags) & AVX && !((\flags) & L1)
	VEX_LENGTH \map, \opcode, \pfx, \reg, "\flags", 0
	.else
	.pushsection .rodata
	.long 0
	.popsection
	.endif
	.if (\flags) & AVX && !((\flags) & L0)
	VEX_LENGTH \map, \opcode, \pfx, \reg, "\flags", 1
	.else
	.pushsection .rodata
	.long 0
	.popsection
	.endif
.endm

	.section .rodata
	.balign 8
	.globl vex_thunk_offsets
	.hidden vex_thunk_offsets
	.type vex_thunk_offsets, @object
vex_thunk_offsets:
	.text
	.balign 64
	.globl vex_thunks
	.hidden vex_thunks
	.type vex_thunks, @object
vex_thunks:
#define ROW(map, opcode, pfx, reg, rm, op, opnds, flags, eflags, feature) \
	VEX_ROW map, #opcode, pfx, reg, #flags;
#include "cpu/x86/optable_vex.def"
#undef ROW
	.balign 8, 0xcc
	.size vex_thunks, . - vex_thunks
	.section .rodata
	.size vex_thunk_offsets, . - vex_thunk_offsets
	.text

/* x87_reg_thunks[D8..DF][C0..FF], 4 bytes each; x87_mem_thunks[D8..DF][modrm.reg], on [rdi] */
	.balign 64
	.globl x87_reg_thunks
	.hidden x87_reg_thunks
	.type x87_reg_thunks, @object
x87_reg_thunks:
	.set esc, 0xd8
	.rept 8
	.set modrm, 0xc0
	.rept 64
	.byte esc, modrm, 0xc3, 0xcc
	.set modrm, modrm + 1
	.endr
	.set esc, esc + 1
	.endr
	.size x87_reg_thunks, . - x87_reg_thunks

	.globl x87_mem_thunks
	.hidden x87_mem_thunks
	.type x87_mem_thunks, @object
x87_mem_thunks:
	.set esc, 0xd8
	.rept 8
	.set modrm, 0x07
	.rept 8
	.byte esc, modrm, 0xc3, 0xcc
	.set modrm, modrm + 8
	.endr
	.set esc, esc + 1
	.endr
	.size x87_mem_thunks, . - x87_mem_thunks

.macro	FUNC name
	.balign 16
	.globl \name
	.hidden \name
	.type \name, @function
\name:
	.cfi_startproc
.endm
.macro	END name
	.cfi_endproc
	.size \name, . - \name
.endm

/* void vec_run_xmm(void *dst, const void *src, const void *xmm0, vec_thunk fn) */
FUNC vec_run_xmm
	movups (%rdx), %xmm0
	movups (%rdi), %xmm1
	movups (%rsi), %xmm2
	call *%rcx
	movups %xmm1, (%rdi)
	ret
END vec_run_xmm

/* void vec_run_mmx(uint64_t *dst, uint64_t src, vec_thunk fn) */
FUNC vec_run_mmx
	movq (%rdi), %mm1
	movq %rsi, %mm2
	call *%rdx
	movq %mm1, (%rdi)
	emms
	ret
END vec_run_mmx

/* void vec_run(struct vec_frame *f, vec_thunk fn) */
FUNC vec_run
	push %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbx, -16
	sub $16, %rsp
	.cfi_adjust_cfa_offset 16
	mov %rdi, %rbx
	stmxcsr (%rsp)
	ldmxcsr 160(%rbx)
	movups (%rbx), %xmm0
	movups 32(%rbx), %xmm1
	movups 64(%rbx), %xmm2
	mov 128(%rbx), %rax
	mov 136(%rbx), %rcx
	mov 144(%rbx), %rdx
	call *%rsi
	movups %xmm0, (%rbx)
	movups %xmm1, 32(%rbx)
	mov %rcx, 136(%rbx)
	pushfq
	.cfi_adjust_cfa_offset 8
	popq 152(%rbx)
	.cfi_adjust_cfa_offset -8
	stmxcsr 160(%rbx)
	ldmxcsr (%rsp)
	add $16, %rsp
	.cfi_adjust_cfa_offset -16
	pop %rbx
	.cfi_adjust_cfa_offset -8
	ret
END vec_run

/* void vec_run_mixed(struct vec_frame *f, vec_thunk fn): as vec_run, with mm1 and mm2 */
FUNC vec_run_mixed
	push %rdi
	.cfi_adjust_cfa_offset 8
	movq 168(%rdi), %mm1
	movq 176(%rdi), %mm2
	call vec_run
	pop %rdi
	.cfi_adjust_cfa_offset -8
	movq %mm1, 168(%rdi)
	emms
	ret
END vec_run_mixed

.macro	VEX_LOAD frame
	vmovups (\frame), %ymm0
	vmovups 32(\frame), %ymm1
	vmovups 64(\frame), %ymm2
	vmovups 96(\frame), %ymm3
.endm

/* void vex_run_int(struct vec_frame *f, vec_thunk fn): without MXCSR and general registers; only
 * register 1 comes back. The upper halves are clear afterwards: the C code around uses SSE. */
FUNC vex_run_int
	VEX_LOAD %rdi
	call *%rsi
	vmovups %ymm1, 32(%rdi)
	vzeroupper
	ret
END vex_run_int

/* void vex_run(struct vec_frame *f, vec_thunk fn) */
FUNC vex_run
	push %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbx, -16
	sub $16, %rsp
	.cfi_adjust_cfa_offset 16
	mov %rdi, %rbx
	stmxcsr (%rsp)
	ldmxcsr 160(%rbx)
	VEX_LOAD %rbx
	mov 128(%rbx), %rax
	mov 136(%rbx), %rcx
	mov 144(%rbx), %rdx
	call *%rsi
	vmovups %ymm0, (%rbx)
	vmovups %ymm1, 32(%rbx)
	vmovups %ymm2, 64(%rbx)
	mov %rcx, 136(%rbx)
	pushfq
	.cfi_adjust_cfa_offset 8
	popq 152(%rbx)
	.cfi_adjust_cfa_offset -8
	stmxcsr 160(%rbx)
	vzeroupper
	ldmxcsr (%rsp)
	add $16, %rsp
	.cfi_adjust_cfa_offset -16
	pop %rbx
	.cfi_adjust_cfa_offset -8
	ret
END vex_run

/* void x87_run(void *fx, vec_thunk fn, void *mem, uint64_t *flags): FXRSTOR from FX, load the
 * arithmetic flags, run FN with rdi = MEM, store flags and state. Nothing here waits for a
 * pending exception, so an unmasked one that FN raises never reaches the host. */
FUNC x87_run
	push %rbx
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbx, -16
	push %rbp
	.cfi_adjust_cfa_offset 8
	.cfi_offset %rbp, -24
	sub $24, %rsp
	.cfi_adjust_cfa_offset 24
	mov %rdi, %rbx
	mov %rcx, %rbp
	mov %rdx, %rdi
	stmxcsr (%rsp)
	fnstcw 4(%rsp)
	fxrstor64 (%rbx)
	pushq (%rbp)
	.cfi_adjust_cfa_offset 8
	popfq
	.cfi_adjust_cfa_offset -8
	call *%rsi
	pushfq
	.cfi_adjust_cfa_offset 8
	popq (%rbp)
	.cfi_adjust_cfa_offset -8
	fxsave64 (%rbx)
	fninit
	fldcw 4(%rsp)
	ldmxcsr (%rsp)
	add $24, %rsp
	.cfi_adjust_cfa_offset -24
	pop %rbp
	.cfi_adjust_cfa_offset -8
	pop %rbx
	.cfi_adjust_cfa_offset -8
	ret
END x87_run

	.section .note.GNU-stack, "", @progbits

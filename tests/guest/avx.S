/* SPDX-License-Identifier: Apache-2.0 */
/* AVX: when it may run, upper halves across context switches by XSAVE and XRSTOR and beside SSE, what
 * is in use, accesses of 32 bytes that cross a page or fault in the middle of it. */
#include "guest.inc"
	.set TASK_A, 0x20000
	.set TASK_B, 0x20800
	.set EDGE, 0x31000              /* a page boundary; what follows comes and goes */
	.set EDGE_PTE, PAGES + 0x3000 + 8 * (EDGE >> 12)
	.set ONES, 0x22000
	.set MASK, 0x22040              /* the lower 16 bytes */

	.macro FAULTS_AT_NEXT
	movl $1f, resume
	.endm

	ENTER64
	fninit                          /* the translator runs AVX itself only if nothing can raise an exception */
	FAULTS_AT_NEXT
	vpaddd %xmm0, %xmm1, %xmm2      /* no OSXSAVE: 6 0 */
1:	mov %cr4, %rax
	bts $18, %rax
	mov %rax, %cr4
	mov $3, %eax
	call set_xcr0
	FAULTS_AT_NEXT
	vpaddd %ymm0, %ymm1, %ymm2      /* not in XCR0: 6 0 */
1:	mov $7, %eax
	call set_xcr0
	mov %cr0, %rax
	or $8, %eax
	mov %rax, %cr0
	FAULTS_AT_NEXT
	vzeroupper                      /* TS: 7 0 */
1:	clts

	/* Two tasks count in both halves of YMM5 and YMM12, one by 1 and the other by 256. */
	mov $1, %eax
	vmovd %eax, %xmm0
	vpbroadcastd %xmm0, %ymm0
	vmovdqu %ymm0, ONES
	vpslld $8, %ymm0, %ymm1
	vzeroall
	xor %edx, %edx
	mov $7, %eax
	vmovdqu ONES, %ymm0
	xsave TASK_A
	vpslld $8, %ymm0, %ymm0
	xsave TASK_B
	mov $50, %ebx
round:	mov $TASK_A, %edi
	call task
	mov $TASK_B, %edi
	call task
	dec %ebx
	jnz round
	mov $7, %eax
	xrstor TASK_A
	call put_counts                 /* 64 32 12c 12c */
	mov $7, %eax
	xrstor TASK_B
	call put_counts                 /* 6400 3200 12c00 12c00 */

	/* XSTATE_BV tells of upper halves */
	mov $7, %eax
	xsave TASK_A
	mov TASK_A + 512, %eax
	and $4, %eax
	call puthex64                   /* 4 */
	vzeroupper
	xor %edx, %edx
	mov $7, %eax
	xsave TASK_A
	mov TASK_A + 512, %eax
	and $4, %eax
	call puthex64                   /* 0 */

	/* the edge of a page: all of it, nothing of it, what a mask leaves of it */
	mov $EDGE, %esi
	vmovdqu ONES, %ymm0
	vmovdqu %ymm0, -16(%rsi)
	vpaddd -16(%rsi), %ymm0, %ymm1
	vextracti128 $1, %ymm1, %xmm2
	vmovd %xmm2, %eax
	call puthex64                   /* 2 */
	andl $~1, EDGE_PTE
	invlpg (%rsi)
	FAULTS_AT_NEXT
	vmovdqu %ymm1, -16(%rsi)        /* e 2 */
1:	FAULTS_AT_NEXT
	vpaddd -16(%rsi), %ymm0, %ymm1  /* e 0 */
1:	mov -16(%rsi), %eax
	call puthex64                   /* 1: nothing was written */
	vmovd %xmm1, %eax
	call puthex64                   /* 2: nor that */
	movq $-1, MASK
	movq $-1, MASK + 8
	vmovdqu MASK, %ymm3
	movl $0, resume
	vpmaskmovd %ymm1, %ymm3, -16(%rsi)
	vpmaskmovd -16(%rsi), %ymm3, %ymm4
	vpxor %xmm5, %xmm5, %xmm5       /* a mask that selects nothing, at an address that is not there */
	mov $40, %ecx
1:	vpmaskmovd EDGE, %ymm5, %ymm6
	vpmaskmovd %ymm1, %ymm5, EDGE
	dec %ecx
	jnz 1b
	vmovd %xmm4, %eax
	call puthex64                   /* 2 */
	vextracti128 $1, %ymm4, %xmm4
	vmovd %xmm4, %eax
	call puthex64                   /* 0 */
	FAULTS_AT_NEXT
	vmovdqa -24(%rsi), %ymm0        /* d 0 */
1:	orl $1, EDGE_PTE
	EXIT

set_xcr0:
	xor %edx, %edx
	xor %ecx, %ecx
	xsetbv
	ret

/* A turn of the task at %rdi: YMM5 and YMM12 step by YMM0. SSE adds to the lower halves alone. */
task:	xor %edx, %edx
	mov $7, %eax
	xrstor (%rdi)
	vpaddd %ymm0, %ymm5, %ymm5
	paddd %xmm0, %xmm5
	mov $3, %ecx
1:	vpaddd %ymm0, %ymm12, %ymm12
	vmovdqu %ymm12, 0x21000
	vpaddd 0x21000, %ymm0, %ymm12
	dec %ecx
	jnz 1b
	mov $7, %eax
	xsave (%rdi)
	vpxor %xmm5, %xmm5, %xmm5
	vzeroall
	ret

put_counts:
	vmovd %xmm5, %eax
	call puthex64
	vextracti128 $1, %ymm5, %xmm6
	vmovd %xmm6, %eax
	call puthex64
	vmovd %xmm12, %eax
	call puthex64
	vextracti128 $1, %ymm12, %xmm6
	vpextrd $3, %xmm6, %eax
	call puthex64
	xor %edx, %edx
	ret
	HANDLER64
	TABLES

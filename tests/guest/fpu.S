/* SPDX-License-Identifier: Apache-2.0 */
/* x87 and SSE state: FXSAVE and FXRSTOR, lazy #NM, #UD without OSFXSR, XSAVE of what is used. */
#include "guest.inc"
	.set AREA, 0x20000
	ENTER64
	fninit
	fld1
	fldpi
	mov $0x12345678, %eax
	movd %eax, %xmm3
	pshufd $0, %xmm3, %xmm3
	fxsave AREA
	fninit
	pxor %xmm3, %xmm3
	mov AREA, %eax
	call puthex64                   /* 3000037f: TOP 6 */
	movzbl AREA + 4, %eax
	call puthex64                   /* c0 */
	mov AREA + 160 + 3 * 16 + 12, %eax
	call puthex64                   /* 12345678 */
	fxrstor AREA
	fstps AREA + 0x400
	mov AREA + 0x400, %eax
	call puthex64                   /* 40490fdb */
	movd %xmm3, %eax
	call puthex64                   /* 12345678 */
	mov %cr0, %rax
	or $8, %eax
	mov %rax, %cr0                  /* TS */
	movl $1f, resume
	fld1                            /* 7 0 */
1:	movl $1f, resume
	paddd %xmm0, %xmm1              /* 7 0 */
1:	clts
	mov %cr4, %rax
	btr $9, %rax
	mov %rax, %cr4
	movl $1f, resume
	paddd %xmm0, %xmm1              /* 6 0 */
1:	bts $9, %rax
	mov %rax, %cr4
	movl $1f, resume
	xgetbv                          /* no OSXSAVE: 6 0 */
1:	mov $1, %eax
	cpuid
	bt $26, %ecx
	jnc 2f
	mov %cr4, %rax
	bts $18, %rax
	mov %rax, %cr4
	mov $3, %eax
	xor %edx, %edx
	xor %ecx, %ecx
	xsetbv
	mov $0x41, %eax
	movd %eax, %xmm0
	mov $3, %eax
	xor %edx, %edx
	xsave AREA + 0x800
	pxor %xmm0, %xmm0
	mov $3, %eax
	xrstor AREA + 0x800
	movd %xmm0, %eax
	call puthex64                   /* 41 */
	movl $1f, resume
	mov $2, %eax                    /* XCR0 without x87: d 0 */
	xor %edx, %edx
	xor %ecx, %ecx
	xsetbv
1:	EXIT
2:	PUT '-'
	EXIT
	HANDLER64
	TABLES

/* SPDX-License-Identifier: Apache-2.0 */
/* Code that changes itself: the next instruction, another page, an instruction across pages. */
#include "guest.inc"
	ENTER64
	mov $3, %ebx
1:	movb $'A', 2f + 1               /* patches the instruction right behind it */
2:	mov $'x', %al
	out %al, $0xe9
	incb 1b + 7                     /* the patch changes too: A B C */
	movb $'x', 2b + 1
	dec %ebx
	jnz 1b
	/* a routine in another page, called, rewritten, called again */
	movl $0x90c3e9e6, 0x20000       /* out %al,$0xe9; ret */
	mov $0x20000, %edi
	mov $'a', %al
	call *%rdi
	movb $0x90, 0x20000
	movb $0x90, 0x20001             /* nothing but RET now */
	call *%rdi
	movw $0xe9e6, 0x20000
	mov $'b', %al
	call *%rdi
	/* mov $imm32,%eax across a page end; the second page is rewritten by REP STOSB */
	movb $0xb8, 0x20ffe
	movb $0x44, 0x20fff
	movl $0xc3112233, 0x21000
	mov $0x20ffe, %ebp
	call *%rbp
	call puthex64                   /* 11223344 */
	mov $0x21000, %edi
	mov $0x55, %al
	mov $3, %ecx
	rep stosb
	call *%rbp
	call puthex64                   /* 55555544 */
	/* through another mapping of the same page: entry 0x1f0 of the PT */
	movl $0x21007, PAGES + 0x3000 + 8 * 0x1f0
	invlpg 0x1f0000
	movb $0x66, 0x1f0000
	call *%rbp
	call puthex64                   /* 55556644 */
	EXIT
	HANDLER64
	TABLES

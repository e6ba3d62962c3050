/* SPDX-License-Identifier: Apache-2.0 */
/* Page faults with every bit of the error code, accessed and dirty bits, INVLPG, huge pages. */
#include "guest.inc"
	.set PT, PAGES + 0x3000
	.set VA, 0x100000               /* entry 0x100 of the PT */
	.set PTE, PT + 8 * 0x100
	.macro FLUSH
	invlpg VA
	.endm
	.macro TRY insn:vararg
	movl $1f, resume
	\insn
1:
	.endm
	ENTER64
	movl $0, PTE
	FLUSH
	TRY mov VA, %eax                /* e 0 */
	mov %cr2, %rax
	call puthex64                   /* 100000 */
	TRY mov %eax, VA + 8            /* e 2 */
	movl $VA + 1, PTE               /* read-only, supervisor */
	FLUSH
	TRY mov VA, %eax
	mov PTE, %eax
	and $0xfff, %eax
	call puthex64                   /* 21: accessed */
	TRY mov %eax, VA                /* e 3 */
	movl $VA + 3, PTE
	FLUSH
	mov VA, %eax
	mov PTE, %eax
	and $0xfff, %eax
	call puthex64                   /* 23 */
	mov %eax, VA
	mov PTE, %eax
	and $0xfff, %eax
	call puthex64                   /* 63: dirty */
	movl $0x80000000, PTE + 4       /* no execution */
	FLUSH
	mov $VA, %eax
	movl $1f, resume
	jmp *%rax                       /* e 11 */
1:	movl $0x00080000, PTE + 4       /* reserved: beyond the physical address */
	FLUSH
	TRY mov VA, %eax                /* e 9 */
	movl $0, PTE + 4
	/* WP off: ring 0 writes read-only pages */
	movl $VA + 1, PTE
	FLUSH
	mov %cr0, %rax
	btr $16, %rax
	mov %rax, %cr0
	mov %eax, VA
	bts $16, %rax
	mov %rax, %cr0
	mov PTE, %eax
	and $0xfff, %eax
	call puthex64                   /* 61 */
	/* an access across two pages faults on the second and changes nothing */
	movl $VA + 3, PTE
	movl $0, PTE + 8
	invlpg VA
	invlpg VA + 0x1000
	movl $0x11111111, VA + 0xffc
	TRY movq $-1, VA + 0xffc        /* e 2 */
	mov %cr2, %rax
	call puthex64                   /* 101000 */
	mov VA + 0xffc, %eax
	call puthex64                   /* 11111111 */
	/* a 2 MiB page at 0x200000 shows the first 2 MiB again */
	movl $0x87, PAGES + 0x2008
	movl $0xabcd, 0x6000
	mov 0x206000, %eax
	call puthex64                   /* abcd */
	mov PAGES + 0x2008, %eax
	call puthex64                   /* a7 */
	mov $0x8000, %eax
	shl $32, %rax
	TRY mov (%rax), %ecx            /* not canonical: d 0 */
	/* the same from ring 3 */
	movb $0xee, IDT + 0x21 * 16 + 5
	movl $VA + 1, PTE
	FLUSH
	pushq $UDATA
	pushq $USER_STACK
	pushq $2
	pushq $UCODE64
	pushq $user
	iretq
user:	TRY mov VA, %eax                /* e 5 */
	TRY mov %eax, VA                /* e 7 */
	TRY mov 0x400000, %eax          /* e 4 */
	movl $1f, resume
	mov $VA, %eax
	jmp *%rax                       /* NXE is on: e 15 */
1:	movw $finish, IDT + 0x21 * 16
	int $0x21
finish:	EXIT
	HANDLER64
	TABLES

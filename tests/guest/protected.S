/* SPDX-License-Identifier: Apache-2.0 */
/* Protected mode: descriptor checks, privilege changes by gates, call gate, selector errors. */
#include "guest.inc"
	ENTER32
	IDT32
	movl $1f, resume
	mov $0x58, %eax                 /* a descriptor that is zero */
	mov %eax, %ds                   /* d 58 */
1:	movl $1f, resume
	mov $0x1000, %eax               /* beyond the table */
	mov %eax, %es                   /* d 1000 */
1:	movl $1f, resume
	mov $CODE32, %eax
	mov %eax, %ss                   /* code is no stack: d 8 */
1:	movl $1f, resume
	movl $0x0000ffff, gdt + 0x58    /* data, writable, not present */
	movl $0x00cf1300, gdt + 0x5c
	mov $0x58, %eax
	mov %eax, %ds                   /* b 58 */
1:	movl $1f, resume
	mov %eax, %ss                   /* c 58 */
1:	movl $0x00000003, gdt + 0x58    /* present, limit 3 bytes */
	movl $0x00409300, gdt + 0x5c
	mov %eax, %fs
	mov %fs:0, %ecx
	movl $1f, resume
	mov %fs:1, %ecx                 /* d 0 */
1:	movl $1f, resume
	ud2                             /* 6 0 */
1:	movl $1f, resume
	int $0x31                       /* an empty gate: d 18a */
1:	movl $0, resume
	int $0x20                       /* 20 0 */
	movl $1f, resume
	int $3                          /* 3 0 */
1:	/* call gate with one parameter to ring 0, DPL 3 */
	movw $gate, gdt + 0x50
	movw $CODE32, gdt + 0x52
	movw $0xec01, gdt + 0x54
	movb $0xee, IDT + 0x21 * 8 + 5  /* int 0x21 for users */
	pushl $UDATA
	pushl $USER_STACK
	pushl $0x202
	pushl $UCODE32
	pushl $user
	iret
user:	movl $1f, %ss:resume
	mov $UDATA, %eax
	mov %eax, %ds
	mov %eax, %es
	movl $1f, resume
	cli                             /* d 0 */
1:	movl $1f, resume
	int $0x20                       /* gate of ring 0: d 102 */
1:	movl $0, resume
	int $0x21                       /* 21 0 */
	movl $1f, resume
	mov $DATA32, %eax
	mov %eax, %ds                   /* d 10 */
1:	movl $1f, resume
	in $0x60, %al                   /* IOPL 0, no I/O map: d 0 */
1:	pushl $0xbeef
	lcall $GATE_SEL | 3, $0         /* beef */
	/* back in ring 3 with the parameter gone */
	cmp $USER_STACK, %esp
	jne 2f
	movl $done, resume
2:	hlt                             /* d 0 */
gate:	mov 8(%esp), %eax
	call puthex32
	mov %cs, %eax
	call puthex32                   /* 8 */
	mov 12(%esp), %eax
	call puthex32                   /* user stack: 6ffc */
	lret $4
done:	movl $1f, resume                /* ring 3 still */
	int $0x22                       /* d 112 */
1:	movb $0xee, %ss:IDT + 0x22 * 8 + 5
	movw $finish, IDT + 0x22 * 8
	int $0x22
finish:	EXIT
	HANDLER32
	TABLES

/* SPDX-License-Identifier: Apache-2.0 */
/* 32-bit task switches: by far jump, by call and return, by a task gate for a fault. */
#include "guest.inc"
	.set TSS2, 0x9800
	ENTER32
	IDT32
	movl $0x98000067, gdt + 0x58    /* TSS at 0x9800 */
	movl $0x00008900, gdt + 0x5c
	movl $task, TSS2 + 32
	movl $2, TSS2 + 36
	movl $USER_STACK, TSS2 + 56
	movl $0x77, TSS2 + 40           /* EAX */
	movl $DATA32, TSS2 + 72         /* ES, CS, SS, DS, FS, GS */
	movl $CODE32, TSS2 + 76
	movl $DATA32, TSS2 + 80
	movl $DATA32, TSS2 + 84
	movw $104, TSS2 + 102
	mov $0x33, %ebx
	lcall $0x58, $0                 /* 77 40 4000: back link, NT */
	mov %ebx, %eax
	call puthex32                   /* 33: registers came back */
	pushf
	pop %eax
	and $0x4000, %eax
	call puthex32                   /* 0 */
	movb gdt + 0x45, %al            /* busy again */
	movzx %al, %eax
	call puthex32                   /* 8b */
	movb gdt + 0x5d, %al
	movzx %al, %eax
	call puthex32                   /* 89 */
	/* #GP through a task gate: the code is on the new task's stack */
	movw $0x58, IDT + 13 * 8 + 2
	movw $0x8500, IDT + 13 * 8 + 4
	movl $on_fault, TSS2 + 32
	movl $USER_STACK, TSS2 + 56
	movl $2, TSS2 + 36
	mov $0x1000, %eax
	mov %eax, %gs
	hlt
task:	call puthex32
	movzwl TSS2, %eax
	call puthex32
	pushf
	pop %eax
	and $0x4000, %eax
	call puthex32
	iret
on_fault:
	pop %eax
	call puthex32                   /* 1000 */
	str %eax
	call puthex32                   /* 58 */
	mov %cr0, %eax
	and $8, %eax
	call puthex32                   /* 8: TS */
	EXIT
	HANDLER32
	TABLES

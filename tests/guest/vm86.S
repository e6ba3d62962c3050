/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual-8086 mode: entry by IRET, real-mode segments, the frame of an interrupt that leaves
 * it, IOPL-sensitive instructions. */
#include "guest.inc"
	ENTER32
	IDT32
	movw $on_breakpoint, IDT + 3 * 8
	movb $0xee, IDT + 3 * 8 + 5
	movw $on_fault, IDT + 13 * 8
	movl $0xcafe, 0x2000
	pushl $0                        /* GS, FS, DS, ES, SS, ESP, EFLAGS, CS, EIP */
	pushl $0
	pushl $0x200
	pushl $0
	pushl $0
	pushl $USER_STACK
	pushl $0x20202                  /* VM, IF, IOPL 0 */
	pushl $0x100
	pushl $task - 0x1000
	iret
	.code16
task:	mov 0, %bx                      /* DS is 0x200: cafe */
	mov %cs, %cx
	int3
	push %ds
	pop %es
	mov %es:0, %si
	pushf                           /* IOPL 0: d 0 */
	.code32
on_breakpoint:
	mov $DATA32, %eax               /* data segments are null on the way in */
	mov %eax, %ds
	push %ecx
	movzwl %bx, %eax
	call puthex32
	pop %eax
	movzwl %ax, %eax
	call puthex32                   /* 100 */
	mov 4(%esp), %eax
	call puthex32                   /* 100 */
	mov 8(%esp), %eax
	and $0x20200, %eax
	call puthex32                   /* 20200 */
	mov 24(%esp), %eax
	call puthex32                   /* DS: 200 */
	mov %esp, %eax
	call puthex32                   /* 0x7800 - 9 * 4: 77dc */
	iret
on_fault:
	mov $DATA32, %eax
	mov %eax, %ds
	pop %eax
	call puthex32                   /* 0 */
	movzwl %si, %eax
	call puthex32                   /* cafe */
	mov 20(%esp), %eax
	call puthex32                   /* ES: 200 */
	EXIT
	HANDLER32
	TABLES

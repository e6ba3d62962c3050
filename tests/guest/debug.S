/* SPDX-License-Identifier: Apache-2.0 */
/* Debug exceptions: breakpoints on execution, data and single steps; DR6 tells which. */
#include "guest.inc"
	ENTER64
	movw $on_debug, IDT + 1 * 16
	mov $target, %eax
	mov %rax, %dr0
	mov $data, %eax
	mov %rax, %dr1
	mov $0xd0000a, %eax             /* DR0: execute (global), DR1: write 4 bytes (global) */
	mov %rax, %dr7
	xor %esi, %esi
	PUT 'a'
target:	inc %esi                        /* before it: ffff0ff1 */
	mov data, %eax                  /* reads do not count */
	movl $5, data                   /* after it: ffff0ff2 */
	mov %esi, %eax
	call puthex64                   /* 1: executed once */
	xor %eax, %eax
	mov %rax, %dr7
	pushfq
	orq $0x100, (%rsp)
	popfq
	nop                             /* ffff4ff0 */
	pushfq                          /* ffff4ff0 */
	andq $~0x100, (%rsp)            /* ffff4ff0 */
	popfq                           /* ffff4ff0 */
	PUT 'e'
	EXIT
on_debug:
	push %rax
	push %rcx
	push %rdx
	mov %dr6, %rax
	call puthex64
	mov $0xffff0ff0, %eax
	mov %rax, %dr6
	orq $0x10000, 40(%rsp)          /* RF */
	pop %rdx
	pop %rcx
	pop %rax
	iretq
	HANDLER64
	TABLES
	.p2align 3
data:	.long 0

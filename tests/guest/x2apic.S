/* SPDX-License-Identifier: Apache-2.0 */
/* x2APIC registers, TSC deadline, CR8, and an interrupt behind STI; HLT waits for each. */
#include "guest.inc"
	.macro SET_MSR index:req, low:req
	mov $\index, %ecx
	xor %edx, %edx
	mov $\low, %eax
	wrmsr
	.endm
	ENTER64
	movw $on_timer, IDT + 0x28 * 16
	movw $on_self, IDT + 0x29 * 16
	mov $0x1b, %ecx
	rdmsr
	and $0x900, %eax
	call puthex64                   /* 900: enabled, first processor */
	mov $0x1b, %ecx
	rdmsr
	or $0x400, %eax
	wrmsr
	mov $0x802, %ecx
	rdmsr
	call puthex64                   /* 0 */
	SET_MSR 0x80f, 0x1ff
	SET_MSR 0x832, 0x40028          /* TSC deadline */
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	add $3000000, %rax
	mov %rax, %r15
	mov %rax, %rdx
	shr $32, %rdx
	mov $0x6e0, %ecx
	wrmsr
	xor %ebx, %ebx
	sti                             /* nothing is taken between STI and HLT */
	hlt
	cli
	mov %ebx, %eax
	call puthex64                   /* 1 */
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	cmp %r15, %rax
	jae 1f
	PUT '<'
1:	mov $0x6e0, %ecx
	rdmsr
	call puthex64                   /* 0: disarmed */
	mov $3, %eax
	mov %rax, %cr8
	SET_MSR 0x83f, 0x29             /* to myself: class 2 waits */
	sti
	nop
	nop
	cli
	mov $0x808, %ecx
	rdmsr
	call puthex64                   /* TPR: 30 */
	mov %ebx, %eax
	call puthex64                   /* 1 */
	xor %eax, %eax
	mov %rax, %cr8
	sti
	nop
	cli
	mov %ebx, %eax
	call puthex64                   /* 3 */
	movl $1f, resume
	mov $0x80c, %ecx                /* not a register: d 0 */
	rdmsr
1:	EXIT
on_timer:
	inc %ebx
	jmp 1f
on_self:
	add $2, %ebx
1:	push %rax
	push %rcx
	push %rdx
	SET_MSR 0x80b, 0
	pop %rdx
	pop %rcx
	pop %rax
	iretq
	HANDLER64
	TABLES

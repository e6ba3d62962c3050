/* SPDX-License-Identifier: Apache-2.0 */
/* Paravirtual help of the engines in software (dev/pv.h): end of interrupt by memory, hypercalls that send
 * interrupts and wake a halted processor, the mark of one that is halted. The second processor starts at
 * 0x14000 in real mode. */
#include "guest.inc"
	.set EOI_WORD, 0x6000           /* bit 0: no write to the APIC needed */
	.set STEAL, 0x6040              /* the second processor's structure; + 16: preempted */
	.set AP, 0x14000
	.set HC_KICK, 5
	.set HC_SEND_IPI, 10
	.macro SET_MSR index:req, low:req
	mov $\index, %ecx
	xor %edx, %edx
	mov $\low, %eax
	wrmsr
	.endm
	.macro SAY value:req
	mov \value, %eax
	call puthex64
	.endm
	/* Wait until the word AT has the value. */
	.macro WAIT at:req, value:req
1:	pause
	cmpl $\value, \at
	jne 1b
	.endm
	ENTER64
	movw $on_ipi, IDT + 0x29 * 16
	movw $on_ipi, IDT + 0x2a * 16
	mov $0x1b, %ecx
	rdmsr
	or $0x400, %eax
	wrmsr
	SET_MSR 0x80f, 0x1ff
	SET_MSR 0x4b564d04, EOI_WORD + 1
	SET_MSR 0x83f, 0x29             /* to myself: nothing waits behind it */
	sti
	nop
	cli
	SAY by_memory                   /* 1 */
	SAY by_msr                      /* 0 */
	mov $0x811, %ecx
	rdmsr
	call puthex64                   /* in service: 0 */
	SET_MSR 0x83f, 0x29             /* two: the first must be ended properly, or the second never comes */
	SET_MSR 0x83f, 0x2a
	sti
	nop
	nop
	cli
	SAY by_memory                   /* 2 */
	SAY by_msr                      /* 1 */
	SET_MSR 0x4b564d04, 0
	SET_MSR 0x83f, 0x29
	sti
	nop
	cli
	SAY by_msr                      /* 2: not offered any more */
	movl $1f, resume
	SET_MSR 0x4b564d04, 2           /* reserved: d 0 */
1:	movl $1f, resume
	SET_MSR 0x4b564d03, 0x6021      /* not aligned: d 0 */
1:	mov $99, %eax
	vmcall
	call puthex64                   /* -1000 */
	mov $ap, %esi
	mov $AP, %edi
	mov $ap_end - ap, %ecx
	rep movsb
	mov $0x830, %ecx
	mov $1, %edx
	mov $0x4500, %eax               /* INIT */
	wrmsr
	mov $0x4614, %eax               /* SIPI */
	wrmsr
	WAIT mailbox, 1
	WAIT STEAL + 16, 1              /* it is halted */
	movb $3, STEAL + 16             /* flush your TLB when you go on */
	mov $HC_KICK, %eax
	xor %ebx, %ebx
	mov $1, %ecx
	vmcall                          /* wakes it although it takes no interrupts */
	call puthex64                   /* 0 */
	WAIT mailbox, 2
	movzbl STEAL + 16, %ecx
	WAIT STEAL + 16, 1              /* halted again, now with interrupts on */
	mov $HC_SEND_IPI, %eax
	mov $2, %ebx                    /* processor 1 and one that does not exist */
	mov $4, %ecx
	xor %edx, %edx
	mov $0x29, %esi
	vmmcall
	call puthex64                   /* 1 was there */
	WAIT mailbox, 3
	SAY mailbox
	SAY seen
	EXIT

on_ipi:	push %rax
	push %rcx
	push %rdx
	lock btrl $0, EOI_WORD
	jc 1f
	incl by_msr
	SET_MSR 0x80b, 0
	jmp 2f
1:	incl by_memory
2:	pop %rdx
	pop %rcx
	pop %rax
	iretq

	.code16
ap:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %ss
	mov $USER_STACK, %sp
	mov $0x1b, %ecx
	rdmsr
	or $0x400, %eax
	wrmsr
	SET_MSR 0x80f, 0x1ff
	SET_MSR 0x4b564d03, STEAL + 1
	movw $on_ap - ap, 0x29 * 4
	movw $AP >> 4, 0x29 * 4 + 2
	movb $1, mailbox
	cli
	hlt
	movb STEAL + 16, %al            /* executing: 0 */
	incb %al
	movb %al, seen
	movb $2, mailbox
	sti
1:	hlt
	jmp 1b
on_ap:	movb $3, mailbox
	SET_MSR 0x80b, 0
	iretw
ap_end:
	.code64
	HANDLER64
	TABLES
by_memory: .long 0
by_msr:	.long 0
mailbox: .long 0
seen:	.long 0

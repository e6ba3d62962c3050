/* SPDX-License-Identifier: Apache-2.0 */
/* Local APIC: timer, HLT and wake-up, IPIs between two processors, INIT and SIPI. 32-bit code;
 * the second processor starts at 0x2000 in real mode. */
#include "guest.inc"
	.set APIC, 0xfee00000
	ENTER32
	IDT32
	movw $timer, IDT + 0x28 * 8
	movw $ipi, IDT + 0x29 * 8
	movl $0x1ff, APIC + 0xf0
	movl $0xb, APIC + 0x3e0         /* divide by 1 */
	movl $0x28, APIC + 0x320        /* one shot */
	movl $100000, APIC + 0x380
	sti
1:	hlt                             /* the only thing that wakes it is the timer */
	cmpl $1, ticks
	jne 1b
	PUT 't'
	movl $0x20028, APIC + 0x320     /* periodic */
	movl $100000, APIC + 0x380
1:	hlt
	cmpl $4, ticks
	jb 1b
	movl $0x10000, APIC + 0x320     /* masked */
	PUT 'p'
	movl $0x40029, APIC + 0x300     /* to myself */
1:	cmpl $1, ipis
	jne 1b
	PUT 's'
	cli                             /* priority: TPR holds class 2 back */
	movl $0x20, APIC + 0x80
	sti
	movl $0x40029, APIC + 0x300
	nop
	nop
	cmpl $1, ipis
	jne 2f
	PUT 'h'
2:	movl $0, APIC + 0x80
1:	cmpl $2, ipis
	jne 1b
	PUT 'T'
	mov $ap, %esi                   /* the other processor */
	mov $0x2000 + 0x10000, %edi
	mov $ap_end - ap, %ecx
	rep movsb
	movl $0x1000000, APIC + 0x310
	movl $0x4500, APIC + 0x300      /* INIT */
	movl $0x1000000, APIC + 0x310
	movl $0x4612, APIC + 0x300      /* SIPI: 0x12000 */
1:	cmpl $1, alive
	jne 1b
	PUT 'a'
	movl $0x1000000, APIC + 0x310
	movl $0x4029, APIC + 0x300      /* wakes it from HLT */
1:	cmpl $2, alive
	jne 1b
	PUT 'w'
	EXIT
timer:	incl ticks
	movl $0, APIC + 0xb0
	iret
ipi:	incl ipis
	movl $0, APIC + 0xb0
	iret
	.code16
ap:	xor %ax, %ax
	mov %ax, %ds
	cli
	lgdt gdtr
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmpl $CODE32, $ap32
ap_end:
	.code32
ap32:	mov $DATA32, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $USER_STACK, %esp
	lidt idtr
	movl $0x1ff, APIC + 0xf0
	lock incl alive
	sti
1:	hlt
	cmpl $3, ipis
	jne 1b
	lock incl alive
1:	hlt
	jmp 1b
	HANDLER32
	TABLES
ticks:	.long 0
ipis:	.long 0
alive:	.long 0

/* SPDX-License-Identifier: Apache-2.0 */
/* Long mode: IST, SYSCALL and SYSRET, SWAPGS, and the shadow behind MOV SS. */
#include "guest.inc"
	.macro SET_MSR index:req, high:req, low:req
	mov $\index, %ecx
	mov $\high, %edx
	mov $\low, %eax
	wrmsr
	.endm
	ENTER64
	movl $0x6800, TSS + 36          /* IST1 */
	movb $1, IDT + 3 * 16 + 4
	movw $on_ist, IDT + 3 * 16
	int3                            /* 67d8: 0x6800 - 40 */
	mov %rsp, %rax
	call puthex64                   /* 8000 */
	SET_MSR 0xc0000082, 0, entry                      /* LSTAR */
	SET_MSR 0xc0000081, (CODE64 | UCODE32 << 16), 0   /* STAR */
	SET_MSR 0xc0000084, 0, 0x600                      /* FMASK: IF, DF */
	SET_MSR 0xc0000102, 0, 0x1111                     /* KERNEL_GS_BASE */
	xor %ebp, %ebp
	mov $user, %ecx
	mov $0x402, %r11d               /* DF */
	mov $USER_STACK, %esp
	sysretq
user:	mov %cs, %ebx
	syscall
after:	mov %ss, %ebx
	syscall
entry:	mov %rsp, %r13
	mov $STACK, %esp
	mov %rcx, %r15
	mov %r11, %r14
	pushfq
	pop %rax
	and $0x600, %eax
	call puthex64                   /* 0: masked */
	mov %r14, %rax
	and $0x600, %eax
	call puthex64                   /* 400: DF was on */
	mov %ebx, %eax
	call puthex64                   /* 3b, then 33 */
	mov %ss, %eax
	call puthex64                   /* 20 */
	swapgs
	mov $0xc0000101, %ecx
	rdmsr
	call puthex64                   /* 1111, then 0: swapped back */
	inc %ebp
	cmp $2, %ebp
	je 1f
	cmp $after, %r15
	jne 2f
	mov %r15, %rcx
	mov %r14, %r11
	mov %r13, %rsp
	sysretq
2:	PUT '?'
1:	cld
	movl $0, resume
	pushfq
	orq $0x100, (%rsp)
	mov %ss, %ebx
	popfq
	mov %ebx, %ss                   /* no trap behind it, but one behind the NOP: 1 0 */
	nop
	pushfq                          /* 1 0 */
	andq $~0x100, (%rsp)            /* 1 0 */
	popfq                           /* 1 0 */
	PUT 'e'
	EXIT
on_ist:	mov %rsp, %rax
	call puthex64
	iretq
	HANDLER64
	TABLES

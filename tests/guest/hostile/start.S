/* SPDX-License-Identifier: Apache-2.0 */
/* Entry of the hostile guest (64-bit Linux boot protocol: long mode, %rsi = boot parameters),
 * its interrupt stubs and the way other processors take from SIPI into C. */
	.set BOOT_CMDLINE_PTR, 0x228    /* boot_params.hdr.cmd_line_ptr */

	.section .start, "ax"
	.globl _start
_start:
	cli
	mov $boot_stack_end, %rsp
	mov BOOT_CMDLINE_PTR(%rsi), %edi
	lgdt gdt_reg
	push $8
	push $1f
	lretq
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov %cr0, %rax                  /* SSE, without which compilers may not live */
	and $~4, %rax
	or $2, %rax
	mov %rax, %cr0
	mov %cr4, %rax
	or $0x600, %rax
	mov %rax, %cr4
	call hostile_main
2:	hlt
	jmp 2b

/* void restart(void (*fn)(void), void *stack): begin anew, whatever state the processor is in. */
	.globl restart
restart:
	cli
	mov %rsi, %rsp
	lgdt gdt_reg
	push $8
	push $1f
	lretq
1:	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	cld
	xor %ebp, %ebp
	call *%rdi
2:	hlt
	jmp 2b

/* One stub of 16 bytes per vector: number on the stack, then the common part. */
	.globl vector_stubs
	.balign 16
vector_stubs:
	.set n, 0
	.rept 256
	.balign 16
	push $n
	jmp vector_common
	.set n, n + 1
	.endr

vector_common:
	cld
	push %rax
	push %rcx
	push %rdx
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	mov 72(%rsp), %rdi              /* vector */
	lea 80(%rsp), %rsi              /* error code or RIP */
	sub $8, %rsp
	call on_vector
	add $8, %rsp
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rdx
	pop %rcx
	pop %rax
	add $8, %rsp
	iretq

/* Copied to 0x8000. The other processors come here in real mode. */
	.globl ap_begin, ap_end
	.code16
ap_begin:
	cli
	xor %ax, %ax
	mov %ax, %ds
	lgdtl ap_gdt_reg - ap_begin + 0x8000
	mov $0x20, %eax
	mov %eax, %cr4
	mov $boot_pml4, %eax
	mov %eax, %cr3
	mov $0xc0000080, %ecx
	mov $0x100, %eax
	xor %edx, %edx
	wrmsr
	mov $0x80000011, %eax
	mov %eax, %cr0
	ljmpl $8, $ap_long
	.balign 8
ap_gdt_reg:
	.word gdt_end - gdt - 1
	.long gdt
ap_end:
	.code64
ap_long:
	mov $16, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $1, %eax
	lock xadd %eax, ap_count
	shl $14, %eax
	lea ap_stacks + 0x4000(%rax), %rsp
	call ap_main
1:	hlt
	jmp 1b

	.data
	.balign 8
	.globl gdt_reg
gdt:	.quad 0
	.quad 0x00af9b000000ffff
	.quad 0x00cf93000000ffff
gdt_end:
gdt_reg:
	.word gdt_end - gdt - 1
	.quad gdt
	.globl ap_count
ap_count:
	.long 0

	.bss
	.balign 4096
	.globl boot_pml4
boot_pml4:
	.skip 4096
	.skip 0x8000
boot_stack_end:
	.globl ap_stacks
ap_stacks:
	.skip 0x4000 * 16

	.section .note.GNU-stack, "", @progbits

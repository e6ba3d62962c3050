/* SPDX-License-Identifier: Apache-2.0 */
/* kut-boot.S - a boot sector for tests of kvm-unit-tests that need what a BIOS leaves behind: reads what lies behind it on
 * the disk to where the test belongs, enters protected mode and starts it as a multiboot kernel. scripts/run-kut assembles
 * it with TO, SECTORS and ENTRY defined; what is read must lie between this sector and 640 KiB. */
	.code16
	.globl _start
_start:
	xorw	%ax, %ax
	movw	%ax, %ds
	movw	%ax, %ss
	movw	$_start, %sp
	movw	$0x2401, %ax		/* A20 on */
	int	$0x15
	movb	$0x42, %ah		/* read; DL is the disk */
	movw	$packet, %si
	int	$0x13
	jc	.
	cli
	lgdtw	gdtr
	movl	%cr0, %eax
	orb	$1, %al
	movl	%eax, %cr0
	ljmpl	$8, $protected
	.code32
protected:
	movw	$16, %ax
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	$0x2badb002, %eax
	movl	$information, %ebx
	movl	$ENTRY, %ecx
	jmp	*%ecx

	.balign	8
gdt:	.quad	0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	gdtr - gdt - 1
	.long	gdt
packet:	.byte	16, 0
	.word	SECTORS, TO & 15, TO >> 4
	.quad	1
information:
	.fill	88, 1, 0		/* nothing is told */
	.org	_start + 510
	.word	0xaa55

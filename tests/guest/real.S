/* SPDX-License-Identifier: Apache-2.0 */
/* Real mode: vectors, INT, IRET, faults, string instructions, far calls. */
#include "guest.inc"
	.code16
	xor %ax, %ax
	mov %ax, %ds
	mov $STACK, %sp
	movw $int40, 0x40 * 4
	movw $0, 0x40 * 4 + 2
	movw $divide, 0
	movw $0, 2
	movw $undefined, 6 * 4
	movw $0, 6 * 4 + 2

	sti
	stc
	int $0x40                       /* clears IF inside, gives it back */
	pushf
	pop %ax
	and $0x201, %eax
	call puthex                     /* 201 */

	xor %cx, %cx
	mov $7, %ax
	xor %dx, %dx
	div %cl                         /* the fault's IP is the DIV's own */
	PUT 'd'
	ud2
	PUT 'u'

	mov $0x2000, %ax                /* strings through segments, downwards */
	mov %ax, %es
	mov $text_end - 1, %si
	mov $3, %di
	mov $4, %cx
	std
	rep movsb
	cld
	mov %es:0, %eax
	call puthex                     /* 64636261 */
	lcall $0x100, $far - 0x1000     /* another name of the same place */
	PUT 'r'
	mov $0xffff, %ax                /* HMA, A20 is on: 0x100000 */
	mov %ax, %fs
	movl $0x1234, %fs:0x10
	mov %fs:0x10, %eax
	call puthex                     /* 1234 */
	EXIT
int40:	pushf
	pop %ax
	and $0x201, %eax
	call puthex                     /* 1 */
	iret
divide:	PUT '/'
	mov %sp, %bp
	addw $2, (%bp)                  /* skip the 2 bytes of DIV */
	iret
undefined:
	PUT '!'
	mov %sp, %bp
	addw $2, (%bp)
	iret
far:	PUT 'f'
	lret
text:	.ascii "abcd"
text_end:
	DEF_PUTHEX puthex

/* SPDX-License-Identifier: Apache-2.0 */
/* co_switch.h - from one stack to another; for co.c alone.
 *
 * The System V ABI for x86-64 (3.2.1) has six registers that a function leaves as they were, so a
 * switch is: push them, exchange the stack pointers, pop them. The modes of the x87 and SSE units
 * are the thread's and stay. Sanitizers are told of every switch, as their books are by stack. */
#ifndef UTIL_CO_SWITCH_H
#define UTIL_CO_SWITCH_H

#include <stddef.h>
#include <stdint.h>

#if defined(__has_feature)
#define CO_HAS(x) __has_feature(x)
#else
#define CO_HAS(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || CO_HAS(address_sanitizer)
#define CO_ASAN 1
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__) || CO_HAS(thread_sanitizer)
#define CO_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif

/* Where a suspended stack goes on. */
struct co_context {
	void *sp;
	const void *stack;      /* lowest address and size, for the sanitizers */
	size_t size;
	void *fake;             /* ASan: its shadow of this stack's locals */
	void *fiber;            /* TSan */
};

/* Save the six registers and the stack pointer in *SAVE, continue at LOAD. */
void co_switch_stacks(void **save, void *load);

__asm__(
	".pushsection .text\n"
	".local co_switch_stacks\n"
	".type co_switch_stacks, @function\n"
	".p2align 4\n"
	"co_switch_stacks:\n"
	"	endbr64\n"
	"	pushq %rbp\n"
	"	pushq %rbx\n"
	"	pushq %r12\n"
	"	pushq %r13\n"
	"	pushq %r14\n"
	"	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n"
	"	popq %r14\n"
	"	popq %r13\n"
	"	popq %r12\n"
	"	popq %rbx\n"
	"	popq %rbp\n"
	"	ret\n"
	".size co_switch_stacks, . - co_switch_stacks\n"
	".popsection\n");

/* A context that starts ENTRY, which never returns, on the stack C describes. */
static inline void co_context_make(struct co_context *c, void (*entry)(void))
{
	/* As after a call: 8 modulo 16; above the address of ENTRY a null return address ends backtraces. */
	void **sp = (void **)((uintptr_t)((const char *)c->stack + c->size) & ~(uintptr_t)15);

	*--sp = NULL;
	*--sp = (void *)(uintptr_t)entry;
	for (int i = 0; i < 6; i++)
		*--sp = NULL;
	c->sp = sp;
#ifdef CO_TSAN
	c->fiber = __tsan_create_fiber(0);
#endif
}

static inline void co_context_free(struct co_context *c)
{
#ifdef CO_TSAN
	__tsan_destroy_fiber(c->fiber);
#endif
	(void)c;
}

/* First thing after a switch to HERE. */
static inline void co_context_arrived(struct co_context *here)
{
#ifdef CO_ASAN
	__sanitizer_finish_switch_fiber(here->fake, NULL, NULL);
#endif
	(void)here;
}

/* Leave FROM for TO; returns when somebody switches back. */
static inline void co_context_leave(struct co_context *from, struct co_context *to)
{
#ifdef CO_ASAN
	__sanitizer_start_switch_fiber(&from->fake, to->stack, to->size);
#endif
#ifdef CO_TSAN
	if (!from->fiber)
		from->fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(to->fiber, 0);
#endif
	co_switch_stacks(&from->sp, to->sp);
}

#endif

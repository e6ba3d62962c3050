/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu/bt_stepper.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>
#include "cpu/bt/bt.h"
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/describe.h"
#include "test.h"

/* The handler interprets. */
enum { STACK_SIZE = 1 << 20, FAR = 200, TF = 1 << 8, INT3 = 0xcc, ENTRY = 0, RETURN = 1 };

static struct stepper *stepping;

/* C is not stepped through: breakpoints wait where it comes back to code. */
static struct planted {
	uint8_t *at;                    /* in the writable mapping; NULL: none */
	uint8_t was;
} planted[2];

static void plant(struct planted *p, uint8_t *at)
{
	*p = (struct planted){ at, *at };
	*at = INT3;
}

static void unplant(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (planted[i].at) {
			*planted[i].at = planted[i].was;
			planted[i].at = NULL;
		}
}

static uint8_t *stepper_writable(const struct bt_cache *k, uint64_t pc)
{
	uint64_t off = pc - (uint64_t)(uintptr_t)k->rx;

	return off < k->code_bytes ? k->rw + off : NULL;
}

/* True: PC is in C, or has just left it. */
static bool stepper_skips_c(const struct bt_cache *k, greg_t *g)
{
	uint8_t *at = stepper_writable(k, (uint64_t)g[REG_RIP] - 1);

	if (at && (at == planted[ENTRY].at || at == planted[RETURN].at)) {
		unplant();
		g[REG_RIP]--;
		g[REG_EFL] |= TF;
		return true;
	}
	if (stepper_writable(k, (uint64_t)g[REG_RIP]))
		return false;
	uint8_t *back = stepper_writable(k, *(const uint64_t *)g[REG_RSP]);

	plant(&planted[ENTRY], stepper_writable(k, (uint64_t)(uintptr_t)k->thunk.enter));
	if (back)
		plant(&planted[RETURN], back);
	g[REG_EFL] &= ~TF;
	return true;
}

/* Does the interpreter's processor look as PLACE says? Empty, or how not. */
static void stepper_differs(struct stepper *s, const struct bt_place *place, const uint64_t *gpr, uint64_t flags)
{
	const struct x86_state *x = &s->ref->c->s;

	s->wrong[0] = '\0';
	if (x->rip != place->rip)
		snprintf(s->wrong, sizeof(s->wrong), "rip is %" PRIx64 ", should be %" PRIx64, place->rip, x->rip);
	for (unsigned r = 0; r < 16 && !s->wrong[0]; r++)
		if (gpr[r] != x->gpr[r])
			snprintf(s->wrong, sizeof(s->wrong), "register %u at %" PRIx64 " is %" PRIx64 ", should be %" PRIx64, r,
				 place->rip, gpr[r], x->gpr[r]);
	if (s->wants_flags && !s->wrong[0] && (flags ^ x->rflags) & place->live_flags)
		snprintf(s->wrong, sizeof(s->wrong), "flags at %" PRIx64 " are %" PRIx64 ", should be %" PRIx64 " where %x",
			 place->rip, flags, x->rflags, place->live_flags);
}

/* PLACE is exact: the interpreter comes there too, from where it was last time. */
static void stepper_compare(struct stepper *s, const struct bt_place *place, const greg_t *g)
{
	static const uint8_t number[] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
					  REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	uint64_t host[16], gpr[16], flags;
	struct icpu_event ev;

	for (unsigned r = 0; r < 16; r++)
		host[r] = (uint64_t)g[number[r]];
	bt_place_registers((const struct bt_cpu *)s->bt->c, place, host, (uint64_t)g[REG_EFL], gpr, &flags);
	stepper_differs(s, place, gpr, flags);
	/* A loop may come by here again; what was wrong the first time is what is told. */
	for (unsigned i = 0; s->wrong[0] && i < FAR; i++) {
		char first[sizeof(s->wrong)] = "";

		if (s->ref->c->s.rip == place->rip)
			memcpy(first, s->wrong, sizeof(first));
		if (s->ref->engine->step(s->ref->v, &ev))
			return;
		stepper_differs(s, place, gpr, flags);
		if (s->wrong[0] && first[0]) {
			memcpy(s->wrong, first, sizeof(first));
			return;
		}
	}
}

static void stepper_trap(int sig, siginfo_t *info, void *context)
{
	greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	struct stepper *s = stepping;
	struct bt_cpu *b = (struct bt_cpu *)s->bt->c;
	const uint8_t *pc = (const uint8_t *)g[REG_RIP];
	struct bt_place place;

	if (stepper_skips_c(b->cache, g) || s->wrong[0] || pc < b->cache->rx + bt_code_off(b->cache, b->cache->code_start) ||
	    !bt_describe(b, pc, &place))
		return;
	if (place.is_exact) {
		s->n_exact++;
		stepper_compare(s, &place, g);
	} else {
		s->n_between++;
		if (s->next && s->next == (uint32_t)(pc - b->cache->rx))
			snprintf(s->wrong, sizeof(s->wrong), "not exact at %" PRIx64 ", where it was to be", place.rip);
	}
	s->next = place.next;
}

int stepper_run(struct stepper *s, struct icpu_event *fault)
{
	stack_t stack = { .ss_sp = malloc(STACK_SIZE), .ss_size = STACK_SIZE }, old_stack;
	struct sigaction act = { .sa_sigaction = stepper_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK }, old;

	CHECK(stack.ss_sp);
	stepping = s;
	sigaltstack(&stack, &old_stack);
	sigaction(SIGTRAP, &act, &old);
	const struct bt_cache *k = ((const struct bt_cpu *)s->bt->c)->cache;

	plant(&planted[ENTRY], stepper_writable(k, (uint64_t)(uintptr_t)k->thunk.enter));
	int r = bt_run_to_fault(s->bt->v, fault);

	unplant();
	sigaction(SIGTRAP, &old, NULL);
	sigaltstack(&old_stack, NULL);
	free(stack.ss_sp);
	return r;
}

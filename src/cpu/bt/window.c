/* SPDX-License-Identifier: Apache-2.0 */
/* window.c - user code that finds its memory by the host's MMU (cpu/interp/window.h): when to, and what becomes of its faults.
 *
 * Fragments of such code have no checks. What they access and is not mapped faults in the host, and the handler, which runs on a
 * stack of its own in the vcpu's thread, maps it if the guest's tables allow and nothing else is to be done; the access begins
 * again. Else the guest is where bt_describe() says: its registers go to memory, code is left, and the interpreter runs the
 * instruction, with all that it does. Faults that are no matter of pages, as of misaligned vectors, come the same way.
 *
 * A fault of the host costs some 10 us where a check costs a nanosecond: a window pays where a program stays in its memory. It is
 * opened for a program that has run for some time, and closed for a while when faults come too often. */
#include "cpu/bt/window.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <ucontext.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/describe.h"

enum {
	/* Polls with something to do, at which user code has to be met first. */
	OPEN_AFTER = 4,
	/* So many faults in so short a time are too many. */
	FAULTS = 512, FAULTS_NS = 45000000,
	/* So many in one fragment that it had to be left for, in so many of the host's cycles, are too many for it. */
	LEAVES = 5, LEAVES_SHIFT = 16, LEAVES_TIME = 1024,
};

static __thread struct bt_cpu *mine;    /* whose code this thread runs; NULL: none */
static struct sigaction before;

static const uint8_t gregs[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				   REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Another fault in the present window. */
static void count(struct bt_cpu *b)
{
	struct icpu_window *w = &b->i.space->window;

	b->i.stats.window_faults++;
	if (++w->n_faults % FAULTS)
		return;
	uint64_t now = now_ns();

	w->is_busy |= now - w->faults_since < FAULTS_NS && !b->keeps_windows;
	w->faults_since = now;
}

/* F has been left for the interpreter. Memory that is new to the guest, or has code beside it, is met at few places; they check
 * their accesses from then on, as code does that has no window. */
static void note_leave(struct bt_cpu *b, struct bt_frag *f)
{
	uint32_t now = (uint32_t)(__builtin_ia32_rdtsc() >> LEAVES_SHIFT);

	if (f->is_spanning || b->keeps_windows)
		return;
	if (!f->n_failures++) {
		f->failing_since = now;
	} else if (f->n_failures == LEAVES) {
		f->n_failures = 0;
		if (now - f->failing_since < LEAVES_TIME) {
			b->split = f;
			b->split_how = BT_LESS_WINDOW;
			b->i.stats.window_soft++;
		}
	}
}

/* Code leaves where the guest is: its registers to memory, and on to the thunk that stores what it finds in the host's once more. */
static bool leave(struct bt_cpu *b, ucontext_t *u)
{
	greg_t *g = u->uc_mcontext.gregs;
	uint64_t host[16], gpr[16], flags;
	struct bt_place at;

	if (!bt_describe(b, (const void *)(uintptr_t)g[REG_RIP], &at) || !at.is_exact)
		return false;
	for (unsigned r = 0; r < 16; r++)
		host[r] = (uint64_t)g[gregs[r]];
	bt_place_registers(b, &at, host, (uint64_t)g[REG_EFL], gpr, &flags);
	for (unsigned r = 0; r < 16; r++) {
		b->i.s.gpr[r] = gpr[r];
		g[gregs[r]] = (greg_t)gpr[r];
	}
	b->flags_ax = (uint32_t)(flags & 0xd5) << 8 | (flags >> 11 & 1);
	b->i.s.rip = at.rip;
	g[REG_RIP] = (greg_t)(uintptr_t)(b->cache->rx + b->cache->thunk.exit_slot);
	note_leave(b, bt_frag_of(b->cache, bt_arena_off(b->cache, at.frag)));
	return true;
}

static bool is_in_code(const struct bt_cpu *b, const ucontext_t *u)
{
	return (uint64_t)u->uc_mcontext.gregs[REG_RIP] - (uintptr_t)b->cache->rx < b->cache->code_bytes;
}

/* False: it is no fault of the guest's. */
static bool handle(struct bt_cpu *b, const siginfo_t *info, ucontext_t *u)
{
	/* Any other cause, as of an address that is not canonical, comes without an address. */
	bool is_write = u->uc_mcontext.gregs[REG_ERR] & 2, has_addr = info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR;
	uint64_t la = 0;

	count(b);
	bool is_known = has_addr && icpu_window_find(&b->i, info->si_addr, &la);

	if (is_known && icpu_window_map(&b->i, la, is_write))
		return true;
	if (!leave(b, u))
		return false;
	b->i.stats.window_exits++;
	b->fault = is_known ? BT_FAULT_PAGE : BT_FAULT_ELSEWHERE;
	b->fault_la = la;
	b->fault_is_write = is_write;
	return true;
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	struct bt_cpu *b = mine;
	ucontext_t *u = context;

	if (b && info->si_code > 0 && is_in_code(b, u) && handle(b, info, u))
		return;
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(signo, info, context);
	else
		signal(signo, before.sa_handler);       /* it comes again */
}

void bt_window_begin(struct bt_cpu *b)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static bool is_caught;

	mine = b;
	if (!b->has_windows)
		return;
	pthread_mutex_lock(&lock);
	if (!is_caught) {
		struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };

		sigfillset(&sa.sa_mask);
		is_caught = sigaction(SIGSEGV, &sa, &before) == 0;
	}
	pthread_mutex_unlock(&lock);
}

static bool is_user(const struct icpu *c)
{
	return icpu_priv(c) == ICPU_USER && c->mode == X86_MODE_64;
}

bool bt_window_now(struct bt_cpu *b)
{
	if (!b->has_windows || b->is_checked || !icpu_window_open(&b->i))
		return false;
	icpu_inline_forget_code(&b->i);
	return true;
}

static void give_up(struct bt_cpu *b)
{
	struct icpu_window *w = &b->i.space->window;

	icpu_window_close(b->i.space);
	w->is_busy = false;
	w->polls = -ICPU_WINDOW_REST;
	icpu_inline_forget_code(&b->i);
}

bool bt_window_polled(struct bt_cpu *b)
{
	struct icpu_window *w = &b->i.space->window;

	if (!b->has_windows || !is_user(&b->i))
		return false;
	if (w->set && w->is_busy) {
		give_up(b);
		return true;
	}
	if (w->set || ++w->polls < OPEN_AFTER)
		return false;
	bool is_open = bt_window_now(b);

	if (!is_open)
		w->polls = -ICPU_WINDOW_REST;
	return is_open;
}

void bt_window_fault(struct bt_cpu *b)
{
	struct icpu *c = &b->i;
	enum bt_fault fault = b->fault;

	b->fault = BT_FAULT_NONE;
	b->fault_rip = c->s.rip;
	if (c->space->window.is_busy)
		give_up(b);
	icpu_run_insn(c);
	b->fault_la = 0;                /* it has been done */
	if (fault == BT_FAULT_ELSEWHERE && c->space->window.set)
		icpu_window_open(c);    /* there is an entry by now where the window may lack a region */
}

void bt_window_return(struct bt_cpu *b)
{
	struct icpu *c = &b->i;

	if (c->s.rip != b->fault_rip || !is_user(c))
		return;
	uint64_t la = b->fault_la;

	b->fault_la = 0;
	if (c->space->window.set && icpu_window_has(&c->space->window, la))
		icpu_window_map(c, la, b->fault_is_write);
}

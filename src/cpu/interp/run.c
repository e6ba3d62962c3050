/* SPDX-License-Identifier: Apache-2.0 */
/* The execution loop: blocks, events between instructions, HLT, and the landing point of faults.
 * Intel SDM vol. 3 6.9 (priorities), 6.15 (double fault), 17.3 (debug exceptions).
 *
 * Normally blocks run one after the other and `req` is looked at before each. Single-stepping,
 * interrupt shadows, RF and breakpoints switch to one instruction at a time: whoever turns one
 * of these on sets ICPU_REQ_RECHECK, and run_events() keeps it set for as long as they last. */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "cpu/interp/core.h"
#include "cpu/interp/interp.h"
#include "util/checked.h"
#include "util/err.h"

enum { REP_CHUNK = 1 << 16 };

/* --- raising ------------------------------------------------------------------------------- */

_Noreturn static void land(struct icpu *c)
{
	siglongjmp(c->landing, 1);
}

void icpu_raise(struct icpu *c, unsigned vector)
{
	c->fault = (struct icpu_event){ .vector = (uint8_t)vector };
	land(c);
}

void icpu_raise_code(struct icpu *c, unsigned vector, uint32_t code)
{
	c->fault = (struct icpu_event){ .vector = (uint8_t)vector, .has_code = true, .code = code };
	land(c);
}

void icpu_page_fault(struct icpu *c, uint64_t la, uint32_t code)
{
	c->s.cr2 = la;
	icpu_raise_code(c, X86_EXC_PF, code);
}

void iop_ud(struct icpu *c, const struct iop *op)
{
	(void)op;
	icpu_raise(c, X86_EXC_UD);
}

uint32_t icpu_request(struct icpu *c, uint32_t bits)
{
	/* Pairs with run_park(): either it sees the bits or we see is_parked. Whoever made them something else than 0 has
	 * woken it. */
	uint32_t old = atomic_fetch_or(&c->req, bits);

	if (!old && atomic_load(&c->is_parked))
		syscall(SYS_futex, &c->req, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	return old;
}

void icpu_halt(struct icpu *c)
{
	c->s.mp_state = X86_MP_HALTED;
	c->stats.exits_hlt++;
	c->stop_block = true;
	atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
}

/* The thread stops executing, or begins again, with everything that others may have asked for meanwhile. */
static void run_leave(struct icpu *c)
{
	atomic_fetch_sub_explicit(&c->vm->n_awake, 1, memory_order_relaxed);
	if (c->host->idle)
		c->host->idle(c->host->arg, c->index);
}

static void run_enter(struct icpu *c)
{
	atomic_fetch_add_explicit(&c->vm->n_awake, 1, memory_order_relaxed);
	if (c->host->busy && c->host->busy(c->host->arg, c->index))
		icpu_tlb_flush(c, false);
}

static void run_park(struct icpu *c)
{
	run_leave(c);
	atomic_store(&c->is_parked, true);
	while (!atomic_load(&c->req))
		syscall(SYS_futex, &c->req, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	atomic_store(&c->is_parked, false);
	run_enter(c);
}

/* --- delivering ------------------------------------------------------------------------------ */

/* Run icpu_deliver() as an instruction without length at s.rip. */
static void run_deliver(struct icpu *c, const struct icpu_event *ev)
{
	c->block = NULL;
	c->next_rip = c->s.rip;
	c->in_delivery = true;
	c->delivery_vector = ev->is_external ? 0xff : ev->vector;
	icpu_deliver(c, ev);
	c->in_delivery = false;
	c->s.rip = c->next_rip;
	c->s.int_shadow = 0;
	/* Long mode's gates raise neither IF nor TF. */
	if (!c->is_long || c->intr_maybe || c->s.nmi_pending || c->s.mp_state != X86_MP_RUNNABLE)
		atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
}

/* Contributory exceptions (SDM vol. 3 table 6-4). */
static bool is_contributory(unsigned vector)
{
	return vector == X86_EXC_DE || (vector >= X86_EXC_TS && vector <= X86_EXC_GP);
}

/* A fault has come while another event was being delivered (table 6-5). False: shutdown. */
static bool run_combine(struct icpu *c)
{
	unsigned first = c->delivery_vector, second = c->fault.vector;

	if (first == X86_EXC_DF)
		return false;
	if ((is_contributory(first) && is_contributory(second)) ||
	    (first == X86_EXC_PF && (is_contributory(second) || second == X86_EXC_PF)))
		c->fault = (struct icpu_event){ .vector = X86_EXC_DF, .has_code = true };
	return true;
}

/* Count the instructions of the block that retired before the one at s.rip. */
static void run_count_until_fault(struct icpu *c)
{
	const struct iblock *b = c->block;
	uint64_t at = c->block_rip;

	if (!b)
		return;
	for (unsigned i = 0; i < b->n && at != c->s.rip; i++) {
		at = (at + b->ops[i].x.len) & c->rip_mask;
		c->stats.insns++;
	}
	c->block = NULL;
}

/* At the landing point, with c->fault set. */
static void run_fault(struct icpu *c)
{
	bool is_nested = c->in_delivery;

	run_count_until_fault(c);
	icpu_phase_set(c, CPU_PHASE_CODE);
	c->stats.exceptions++;
	c->stop_block = false;
	c->watch_hits = 0;
	c->is_traced = false;
	c->in_delivery = false;
	if (is_nested && !run_combine(c)) {
		c->s.mp_state = X86_MP_SHUTDOWN;
		atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
		return;
	}
	struct icpu_event ev = c->fault;

	run_deliver(c, &ev);
}

/* --- debug ---------------------------------------------------------------------------------- */

void icpu_debug_changed(struct icpu *c)
{
	bool was_watching = c->is_watching;

	c->is_watching = c->is_code_watched = false;
	for (unsigned i = 0; i < 4; i++) {
		unsigned rw = c->s.dr7 >> (16 + 4 * i) & 3;

		c->dr_seen[i] = c->s.dr[i];
		if (!(c->s.dr7 >> (2 * i) & 3))
			continue;
		if (rw == 0)
			c->is_code_watched = true;
		else
			c->is_watching = true;
	}
	c->dr_seen[4] = c->s.dr7;
	if (c->is_watching || was_watching)
		icpu_tlb_flush(c, false);
	atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
}

static bool debug_has_changed(const struct icpu *c)
{
	return c->dr_seen[4] != c->s.dr7 || ((c->is_watching || c->is_code_watched) &&
					     memcmp(c->dr_seen, c->s.dr, sizeof(c->s.dr)));
}

/* DR6 bits of the instruction breakpoints at s.rip (SDM vol. 3 17.3.1.1). */
static unsigned run_code_breakpoints(const struct icpu *c)
{
	uint64_t la = icpu_linear_rip(c, c->s.rip);
	unsigned hits = 0;

	/* MOV SS hides those of the instruction after it, as it does traps. */
	if (!c->is_code_watched || (c->s.rflags & X86_RF) || c->s.int_shadow == 2)
		return 0;
	for (unsigned i = 0; i < 4; i++)
		if ((c->s.dr7 >> (2 * i) & 3) && !(c->s.dr7 >> (16 + 4 * i) & 3) && c->s.dr[i] == la)
			hits |= 1u << i;
	return hits;
}

static void run_debug_exception(struct icpu *c, uint64_t dr6_bits)
{
	struct icpu_event ev = { .vector = X86_EXC_DB };

	c->s.dr6 = (c->s.dr6 & ~0xfull) | dr6_bits;
	c->s.mp_state = X86_MP_RUNNABLE;        /* a trap on HLT ends it (SDM vol. 2, HLT) */
	c->stats.exceptions++;
	run_deliver(c, &ev);
}

/* --- executing ------------------------------------------------------------------------------- */

static inline struct iblock *run_find(struct icpu *c)
{
	uint64_t la = icpu_linear_rip(c, c->s.rip);
	struct iblock_jump *j = iblock_jump_slot(c, la);

	if (__builtin_expect(j->la == la && j->key == iblock_key(c) && iblock_is_current(j->b), 1))
		return j->b;
	return iblock_find_slow(c, la);
}

/* Execute the first N instructions of B. */
static inline void run_block(struct icpu *c, const struct iblock *b, unsigned n)
{
	uint64_t rip = c->s.rip, mask = c->rip_mask;
	const struct iop *op = b->ops, *end = op + n;

	c->block = b;
	c->block_rip = rip;
	c->block_page[0] = b->page[0];
	c->block_page[1] = b->page[1];
	do {
		c->s.rip = rip;
		rip = c->next_rip = (rip + op->x.len) & mask;
		op->fn(c, op);
	} while (++op < end && !c->stop_block);
	c->s.rip = c->next_rip;
	c->stop_block = false;
	c->stats.insns += (uint64_t)(op - b->ops);
	c->block = NULL;
	if (__builtin_expect(b->is_end, 0) && debug_has_changed(c))
		icpu_debug_changed(c);
}

/* The traps that the last instruction has earned. */
static void run_traps(struct icpu *c)
{
	uint64_t dr6 = c->watch_hits | (c->is_traced ? 1u << 14 : 0);

	c->watch_hits = 0;
	c->is_traced = false;
	if (dr6)
		run_debug_exception(c, dr6);
}

/* One instruction with everything that can accompany it. */
static void run_one(struct icpu *c)
{
	bool had_rf = c->s.rflags & X86_RF;
	unsigned shadow = c->s.int_shadow, hits = run_code_breakpoints(c);

	if (hits) {
		run_debug_exception(c, hits);
		return;
	}
	c->is_traced = c->s.rflags & X86_TF;
	c->rep_budget = c->is_traced || c->is_watching ? 1 : REP_CHUNK;
	uint64_t rip = c->s.rip;

	c->s.int_shadow = 0;
	run_block(c, run_find(c), 1);
	c->rep_budget = REP_CHUNK;
	if (had_rf && c->s.rip != rip)
		c->s.rflags &= ~(uint64_t)X86_RF;
	/* A second STI in a row does not prolong the shadow of the first. */
	if (shadow == 1 && c->s.int_shadow == 1)
		c->s.int_shadow = 0;
	if (c->s.int_shadow == 2) {
		c->is_traced = false;
		return;                 /* MOV SS: data breakpoints wait for the next instruction */
	}
	run_traps(c);
}

/* --- events between instructions --------------------------------------------------------------- */

static void run_init(struct icpu *c)
{
	x86_state_init(&c->s, c->index == 0);
	c->intr_maybe = c->is_unhalted = false;
	if (c->host->was_reset)
		c->host->was_reset(c->host->arg, c->index);
	icpu_mode_changed(c);
	icpu_debug_changed(c);
	icpu_tlb_flush(c, false);
}

/* Interrupts at this boundary. True: one was delivered. */
static bool run_interrupts(struct icpu *c, uint32_t req)
{
	if (c->s.int_shadow)
		return false;
	if ((req & ICPU_REQ_NMI) && !c->s.nmi_blocked) {
		struct icpu_event ev = { .vector = X86_EXC_NMI, .is_external = true };

		req = atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_NMI | ICPU_REQ_NMI_AGAIN));
		c->s.nmi_pending |= (req & ICPU_REQ_NMI_AGAIN) != 0;
		c->s.mp_state = X86_MP_RUNNABLE;
		run_deliver(c, &ev);
		c->s.nmi_blocked = 1;
		return true;
	}
	if (!c->intr_maybe || !(c->s.rflags & X86_IF))
		return false;
	int vector = c->host->intr_ack(c->host->arg, c->index);

	if (vector < 0) {
		c->intr_maybe = false;
		return false;
	}
	struct icpu_event ev = { .vector = (uint8_t)vector, .is_external = true };

	c->s.mp_state = X86_MP_RUNNABLE;
	c->stats.irqs++;
	run_deliver(c, &ev);
	return true;
}

/* Nothing to execute: wait for what can change that. */
static void run_idle(struct icpu *c, uint32_t req)
{
	if (c->s.mp_state == X86_MP_WAIT_SIPI) {
		if (req & ICPU_REQ_SIPI) {
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_SIPI);
			x86_state_sipi(&c->s, atomic_load(&c->sipi_vector));
			icpu_mode_changed(c);
			return;
		}
		/* NMIs and interrupts stay pending; they must not keep the thread awake. */
		c->intr_maybe |= (req & ICPU_REQ_INTR) != 0;
		c->s.nmi_pending |= (req & ICPU_REQ_NMI) != 0;
		atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_INTR | ICPU_REQ_NMI | ICPU_REQ_NMI_AGAIN));
	} else if (req & ICPU_REQ_NMI) {
		/* Blocked until an IRET that never comes: a halted handler. Remember it. */
		c->s.nmi_pending = 1;
		atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_NMI | ICPU_REQ_NMI_AGAIN));
	}
	run_park(c);
}

enum run_next { RUN_BLOCK, RUN_STEP, RUN_EXIT };

/* Look at everything that req may stand for. */
static enum run_next run_events(struct icpu *c, enum cpu_exit_reason *reason)
{
	for (;;) {
		uint32_t req = atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_RECHECK | ICPU_REQ_INTR | ICPU_REQ_CODE |
									 ICPU_REQ_SAMPLE));

		c->intr_maybe |= (req & ICPU_REQ_INTR) != 0;
		c->code_maybe |= (req & ICPU_REQ_CODE) != 0;
		if (c->must_trim)
			icpu_space_trim(c);
		if (req & ICPU_REQ_SAMPLE)
			icpu_note_place(c);
		if (req & ICPU_REQ_UNHALT) {
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_UNHALT);
			c->is_unhalted = true;
		}
		if (req & ICPU_REQ_KICK) {
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_KICK);
			atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
			*reason = CPU_EXIT_KICK;
			return RUN_EXIT;
		}
		if (c->s.mp_state == X86_MP_SHUTDOWN) {
			atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
			*reason = CPU_EXIT_SHUTDOWN;
			return RUN_EXIT;
		}
		if (req & ICPU_REQ_INIT) {
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_INIT);
			run_init(c);
			continue;
		}
		if (c->is_traced)       /* SYSRET has set TF outside of run_one(); traps go before interrupts */
			run_traps(c);
		if ((req & (ICPU_REQ_NMI | ICPU_REQ_NMI_AGAIN)) == ICPU_REQ_NMI_AGAIN) {
			/* The first one has been delivered since. */
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_NMI_AGAIN);
			c->s.nmi_pending = 1;
		}
		if (c->s.nmi_pending && !c->s.nmi_blocked && c->s.mp_state != X86_MP_WAIT_SIPI) {
			c->s.nmi_pending = 0;
			atomic_fetch_or(&c->req, ICPU_REQ_NMI);
			req |= ICPU_REQ_NMI;
		}
		if (c->s.mp_state == X86_MP_WAIT_SIPI) {
			run_idle(c, req);
			continue;
		}
		if (req & ICPU_REQ_SIPI)        /* not waiting for one: dropped */
			atomic_fetch_and(&c->req, ~(uint32_t)ICPU_REQ_SIPI);
		if (run_interrupts(c, req))
			continue;
		if (c->s.mp_state == X86_MP_HALTED) {
			if (c->s.int_shadow) {  /* STI; HLT: the shadow ends with HLT */
				c->s.int_shadow = 0;
				atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
				continue;
			}
			if (c->is_unhalted) {
				c->is_unhalted = false;
				c->s.mp_state = X86_MP_RUNNABLE;
				continue;
			}
			run_idle(c, req);
			continue;
		}
		break;
	}
	/* A blocked NMI waits in nmi_pending; IRET unblocks and sets RECHECK. */
	if (atomic_load(&c->req) & ICPU_REQ_NMI && c->s.nmi_blocked) {
		c->s.nmi_pending = 1;
		atomic_fetch_and(&c->req, ~(uint32_t)(ICPU_REQ_NMI | ICPU_REQ_NMI_AGAIN));
	}
	/* RF concerns instruction breakpoints alone; it goes with the instruction that comes now. */
	if (!c->is_code_watched)
		c->s.rflags &= ~(uint64_t)X86_RF;
	if (!c->s.int_shadow && !(c->s.rflags & (X86_TF | X86_RF)) && !c->is_watching && !c->is_code_watched)
		return RUN_BLOCK;
	atomic_fetch_or(&c->req, ICPU_REQ_RECHECK);
	return RUN_STEP;
}

void icpu_run_block(struct icpu *c)
{
	const struct iblock *b = run_find(c);

	run_block(c, b, b->n);
}

static inline __attribute__((always_inline)) enum cpu_exit_reason run_loop(struct icpu *c, icpu_execute_fn execute)
{
	enum cpu_exit_reason reason;

	for (;;) {
		if (__builtin_expect(atomic_load_explicit(&c->req, memory_order_relaxed), 0)) {
			enum run_next next = run_events(c, &reason);

			if (next == RUN_EXIT)
				return reason;
			if (next == RUN_STEP) {
				run_one(c);
				continue;
			}
		}
		execute(c);
	}
}

/* Not part of interp_run(): a function that calls sigsetjmp() keeps its variables in memory. */
static __attribute__((noinline)) enum cpu_exit_reason run_blocks(struct icpu *c)
{
	return run_loop(c, icpu_run_block);
}

enum cpu_exit_reason interp_run(struct vcpu *v, struct err *err)
{
	struct icpu *c = (struct icpu *)v;

	(void)err;
	enum cpu_exit_reason reason;

	c->rep_budget = REP_CHUNK;
	run_enter(c);
	/* Faults land here. The handler's own faults do too, so this is a loop of its own. */
	if (sigsetjmp(c->landing, 0))
		run_fault(c);
	reason = run_blocks(c);
	run_leave(c);
	return reason;
}

enum cpu_exit_reason icpu_run(struct icpu *c, icpu_execute_fn execute)
{
	/* Across the landing, only what is read back from memory is sure to be right. */
	icpu_execute_fn volatile fn = execute;

	enum cpu_exit_reason reason;

	c->rep_budget = REP_CHUNK;
	run_enter(c);
	if (sigsetjmp(c->landing, 0))
		run_fault(c);
	reason = run_loop(c, fn);
	run_leave(c);
	return reason;
}

void icpu_end_of_block(struct icpu *c)
{
	if (debug_has_changed(c))
		icpu_debug_changed(c);
}

int icpu_step(struct icpu *c, icpu_execute_fn execute, struct icpu_event *fault)
{
	icpu_execute_fn volatile fn = execute;

	c->rep_budget = REP_CHUNK;
	if (sigsetjmp(c->landing, 0)) {
		run_count_until_fault(c);
		c->stop_block = false;
		*fault = c->fault;
		return 1;
	}
	fn(c);
	return 0;
}

void icpu_run_insn(struct icpu *c)
{
	run_block(c, run_find(c), 1);
}

void icpu_run_some(struct icpu *c, uint64_t n)
{
	const struct iblock *b = run_find(c);

	run_block(c, b, n < b->n ? (unsigned)n : b->n);
}

int interp_step(struct vcpu *v, struct icpu_event *fault)
{
	return icpu_step((struct icpu *)v, icpu_run_insn, fault);
}

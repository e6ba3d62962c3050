/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep.c - the engine: steps of the translator that the interpreter repeats. Vcpu thread.
 *
 * A *step*: the follower runs translated code, fragments chained as ever, until its fuel (a random number of
 * polls) is out, something is requested, it faults, or it wants to reach outside. It counts instructions.
 * Then the leader runs as many, and the two must be the same. An instruction that reaches outside
 * begins the next step: there the leader goes first.
 *
 * Between steps the leader takes interrupts, single-steps and executes what a shadow or a breakpoint keeps
 * from execute(). The follower gets the result: that code is the same in both engines. */
#include "cpu/bt/lockstep_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include "cpu/bt/bt.h"
#include "cpu/interp/interp.h"
#include "util/err.h"
#include "util/log.h"

enum { RECORD_BUDGET = 256, SYNC_EVERY = 64, MAX_IDLE_TRIES = 100 };

/* --- running one of the two ------------------------------------------------------------------- */

struct lockstep_stop lockstep_go(struct icpu *c, icpu_execute_fn execute)
{
	struct lockstep_stop stop = { .has_faulted = false };
	sigjmp_buf outer;

	/* The leader has a landing already, that of the run loop. */
	memcpy(&outer, &c->landing, sizeof(outer));
	stop.has_faulted = icpu_step(c, execute, &stop.fault);
	memcpy(&c->landing, &outer, sizeof(outer));
	stop.is_unwound = stop.has_faulted && stop.fault.vector == LOCKSTEP_UNWOUND;
	stop.has_faulted &= !stop.is_unwound;
	return stop;
}

/* One instruction, and a bounded number of iterations if it is a string instruction. */
static void lead_one(struct icpu *c)
{
	c->rep_budget = RECORD_BUDGET;
	icpu_run_insn(c);
}

/* To the goal. The shadow of STI lasts for one instruction; translated code knows none. */
static void lead_follow(struct icpu *c)
{
	struct lockstep *l = lockstep_of(c);

	c->rep_budget = UINT64_MAX;
	while (c->stats.insns < l->goal && !l->is_full && c->s.mp_state == X86_MP_RUNNABLE) {
		uint8_t shadow = c->s.int_shadow;

		c->s.int_shadow = 0;
		icpu_run_some(c, shadow ? 1 : l->goal - c->stats.insns);
		if (shadow == 1 && c->s.int_shadow == 1)
			c->s.int_shadow = 0;
	}
}

/* The follower has stopped inside a string instruction. */
static void lead_iterate(struct icpu *c)
{
	c->rep_budget = c->s.gpr[X86_RCX] - lockstep_of(c)->bt->i.s.gpr[X86_RCX];
	icpu_run_insn(c);
}

static bool is_same_fault(const struct lockstep_stop *a, const struct lockstep_stop *b)
{
	return a->fault.vector == b->fault.vector && a->fault.has_code == b->fault.has_code && a->fault.code == b->fault.code;
}

bool lockstep_catch_up(struct lockstep *l, uint64_t n, struct lockstep_stop *lead, const struct lockstep_stop *bt)
{
	const struct x86_state *a = &l->lead->s, *b = &l->bt->i.s;

	l->goal = l->start_insns + n;
	l->lead_door.mode = LOCKSTEP_HOLD;
	if (!lead->has_faulted)
		*lead = lockstep_go(l->lead, lead_follow);
	if (!lead->has_faulted && !bt->has_faulted && a->rip == b->rip && a->gpr[X86_RCX] != b->gpr[X86_RCX])
		*lead = lockstep_go(l->lead, lead_iterate);
	if (!lead->has_faulted && bt->has_faulted)
		*lead = lockstep_go(l->lead, icpu_run_insn);
	l->lead_door.mode = LOCKSTEP_FREE;
	if (lead->is_unwound || lead->has_faulted != bt->has_faulted || (bt->has_faulted && !is_same_fault(lead, bt)))
		return false;
	return lockstep_state_is_same(l, bt->has_faulted || bt->is_unwound) && lockstep_mem_compare(l, false) == UINT64_MAX;
}

struct lockstep_stop lockstep_bt_go(struct lockstep *l, icpu_execute_fn execute, uint64_t *n)
{
	struct bt_cpu *b = l->bt;
	uint64_t before = bt_insns(b);
	struct lockstep_stop stop = lockstep_go(&b->i, execute);

	*n = bt_insns(b) - before;
	return stop;
}

static int32_t next_fuel(struct lockstep *l)
{
	/* When something is requested, the next poll is the last. */
	if (atomic_load(&l->lead->req))
		return 1;
	l->random = l->random * 1664525 + 1013904223;
	return (int32_t)(1 + (l->random >> 16) % LOCKSTEP_FUEL);
}

/* A string instruction is done at once: the leader could not stop inside at the same place. */
static void bt_follow(struct icpu *c)
{
	c->rep_budget = UINT64_MAX;
	bt_execute(c);
}

/* At least one instruction of the follower. */
static struct lockstep_stop bt_step_on(struct lockstep *l, uint64_t *n)
{
	struct bt_cpu *b = l->bt;
	struct lockstep_stop stop;

	l->bt_door.at = 0;
	for (unsigned tries = 0; ; tries++) {
		b->i.code_maybe |= (atomic_exchange(&b->i.req, 0) & ICPU_REQ_CODE) != 0;
		/* Code asks whether an interrupt waits for IF. */
		b->i.intr_maybe = l->lead->intr_maybe || atomic_load(&l->lead->req) & ICPU_REQ_INTR;
		b->fuel = next_fuel(l);
		stop = lockstep_bt_go(l, bt_follow, n);
		if (*n || stop.has_faulted || stop.is_unwound || tries == MAX_IDLE_TRIES)
			return stop;
	}
}

/* --- steps -------------------------------------------------------------------------------------- */

void lockstep_copy_state(struct lockstep *l)
{
	struct icpu *b = &l->bt->i;
	bool has_debug_changed = memcmp(b->s.dr, l->lead->s.dr, sizeof(b->s.dr)) || b->s.dr7 != l->lead->s.dr7;

	b->s = l->lead->s;
	icpu_mode_changed(b);
	if (has_debug_changed)
		icpu_debug_changed(b);
	if (l->lead_epoch != l->lead->code_epoch)
		icpu_tlb_flush(b, false);
	l->lead_epoch = l->lead->code_epoch;
}

/* Both are to be the same, and what devices have stored is to be seen. */
static void step_begin(struct lockstep *l)
{
	if (l->n_stores || l->lead_epoch != l->lead->code_epoch || !lockstep_state_is_untouched(l)) {
		lockstep_give_stores(l);
		lockstep_copy_state(l);
		l->n_synced++;
		l->wants_sync = true;
		l->is_waiting = false;
	}
	if (l->wants_sync || l->n_steps % SYNC_EVERY == 0)
		lockstep_sync(l);
	l->start = l->lead->s;
	l->start_insns = l->lead->stats.insns;
	l->n_accesses = 0;
}

/* The instruction at hand reaches outside: the leader executes it, once and for all. */
static struct lockstep_stop step_record(struct lockstep *l)
{
	l->lead_door.mode = LOCKSTEP_RECORD;
	struct lockstep_stop stop = lockstep_go(l->lead, lead_one);

	l->lead_door.mode = LOCKSTEP_FREE;
	lockstep_flush(l);
	if (l->wants_sync)
		lockstep_sync(l);
	l->n_recorded++;
	return stop;
}

static void step_end(struct lockstep *l, const struct lockstep_stop *stop)
{
	lockstep_flush(l);
	lockstep_forget_stores(l);
	l->lead_epoch = l->lead->code_epoch;
	l->n_steps++;
	if (l->left && !--l->left)
		icpu_request(l->lead, ICPU_REQ_KICK);
	if (stop->has_faulted && stop->fault.has_code)
		icpu_raise_code(l->lead, stop->fault.vector, stop->fault.code);
	if (stop->has_faulted)
		icpu_raise(l->lead, stop->fault.vector);
}

static void lockstep_execute(struct icpu *c)
{
	struct lockstep *l = lockstep_of(c);
	struct lockstep_stop lead = { .has_faulted = false }, bt = { .has_faulted = false };
	uint64_t n;

	step_begin(l);
	if (l->is_waiting)
		lead = step_record(l);
	l->is_waiting = false;
	if (!l->is_full) {
		bt = bt_step_on(l, &n);
		if (!lockstep_catch_up(l, n, &lead, &bt)) {
			lockstep_fail(l, &lead, &bt);
			icpu_request(c, ICPU_REQ_KICK);
			return;
		}
		l->is_waiting = bt.is_unwound;
	} else {                        /* more than can be written down: taken as it is */
		lockstep_give_stores(l);
		lockstep_copy_state(l);
	}
	step_end(l, &lead);
}

static enum cpu_exit_reason lockstep_run(struct vcpu *v, struct err *err)
{
	struct lockstep *l = lockstep_of((struct icpu *)v);
	sigset_t before;

	if (bt_begin(l->bt, &before, err) < 0)
		return CPU_EXIT_ERROR;
	l->bt->patience = 0;            /* what is interpreted needs no check */
	l->bt->loop_patience = 64;
	l->err = err;
	l->wants_sync = true;
	enum cpu_exit_reason r = icpu_run(l->lead, lockstep_execute);

	if (!l->has_failed) {
		lockstep_give_stores(l);
		uint64_t bad = lockstep_mem_compare(l, true);

		l->has_failed = bad != UINT64_MAX;
		if (l->has_failed)
			err_set(err, -EIO, "the engines bt and interp differ: memory at 0x%" PRIx64 " at the end of a run", bad);
	}
	bt_end(&before);
	return l->has_failed ? CPU_EXIT_ERROR : r;
}

enum cpu_exit_reason lockstep_run_some(struct vcpu *v, unsigned n, struct err *err)
{
	lockstep_of((struct icpu *)v)->left = n;
	return lockstep_run(v, err);
}

/* --- life cycle ------------------------------------------------------------------------------------ */

static int lockstep_probe(bool is_explicit, struct err *err)
{
	if (!is_explicit)
		return err_set(err, -ENODEV, "for tests of the engine bt, which it compares with interp; only when it is named");
	return cpu_bt.probe(true, err);
}

static void lockstep_free(struct lockstep *l)
{
	if (!l)
		return;
	if (l->n_steps)
		log_info("lockstep: %" PRIu64 " instructions compared in %" PRIu64 " steps, %" PRIu64 " of them with devices; "
			 "%" PRIu64 " times taken over", l->lead->stats.insns, l->n_steps, l->n_recorded, l->n_synced);
	if (l->bt_vm)
		cpu_bt.vm_free(l->bt_vm);
	cpu_interp.vm_free(l->lead_vm);
	lockstep_mem_free(l);
	free(l);
}

static void lockstep_vm_free(struct cpu_vm *vm)
{
	if (vm)
		lockstep_free(lockstep_of(vm->cpu[0]));
}

static int lockstep_make(struct lockstep *l, const struct cpu_config *cfg, struct err *err)
{
	struct cpu_config lead = *cfg, bt = *cfg;
	int r = lockstep_mem_new(l, err);

	if (r < 0)
		return r;
	lead.mem = l->lead_mem;
	lead.host = &l->lead_door.host;
	lead.source = &l->lead_door.source;
	bt.mem = l->bt_mem;
	bt.host = &l->bt_door.host;
	bt.source = &l->bt_door.source;
	r = icpu_vm_new(&l->lead_vm, &lead, sizeof(struct lockstep_cpu), false, err);
	if (r >= 0)
		r = cpu_bt.vm_new(&l->bt_vm, &bt, err);
	if (r < 0)
		return r;
	l->lead = l->lead_vm->cpu[0];
	((struct lockstep_cpu *)l->lead)->l = l;
	l->lead_vm->stored = lockstep_stored;
	l->lead_vm->marked = lockstep_marked_lead;
	l->bt_vm->marked = lockstep_marked_bt;
	l->bt = bt_of(l->bt_vm->cpu[0]);
	l->bt->is_checked = l->bt->is_counting = true;
	return 0;
}

static int lockstep_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, struct err *err)
{
	if (cfg->n_vcpus != 1)
		return err_set(err, -EINVAL, "the engine lockstep compares one processor only, not %u", cfg->n_vcpus);
	struct lockstep *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->real = cfg->mem;
	l->host = cfg->host;
	l->source = cfg->source;
	l->random = 1;
	lockstep_door_init(&l->lead_door, l);
	lockstep_door_init(&l->bt_door, l);
	l->bt_door.mode = LOCKSTEP_REPLAY;
	int r = lockstep_make(l, cfg, err);

	if (r < 0) {
		lockstep_free(l);
		return r;
	}
	*out = l->lead_vm;
	return 0;
}

/* The leader is the processor that the machine knows; the follower shall look up soon. */
static void lockstep_rouse(struct vcpu *v)
{
	icpu_request(&lockstep_of((struct icpu *)v)->bt->i, ICPU_REQ_RECHECK);
}

static void lockstep_kick(struct vcpu *v) { cpu_interp.kick(v); lockstep_rouse(v); }
static void lockstep_interrupt(struct vcpu *v) { cpu_interp.interrupt(v); lockstep_rouse(v); }
static void lockstep_nmi(struct vcpu *v) { cpu_interp.nmi(v); lockstep_rouse(v); }
static void lockstep_init(struct vcpu *v) { cpu_interp.init(v); lockstep_rouse(v); }
static void lockstep_sipi(struct vcpu *v, uint8_t vector) { cpu_interp.sipi(v, vector); lockstep_rouse(v); }
static struct vcpu *lockstep_vcpu(struct cpu_vm *vm, unsigned n) { return cpu_interp.vcpu(vm, n); }
static uint64_t lockstep_tsc_offset(struct vcpu *v) { return cpu_interp.tsc_offset(v); }
static void lockstep_stats(struct vcpu *v, struct cpu_stats *out) { cpu_interp.stats(v, out); }

static int lockstep_get_state(struct vcpu *v, struct x86_state *s, struct err *err)
{
	return cpu_interp.get_state(v, s, err);
}

static int lockstep_set_state(struct vcpu *v, const struct x86_state *s, struct err *err)
{
	return cpu_interp.set_state(v, s, err);
}

const struct cpu_ops cpu_lockstep = {
	.name = "lockstep",
	.summary = "for tests: bt and interp side by side, stops at the first difference",
	.has_own_memory = true,
	.features = &x86_features_bt,
	.probe = lockstep_probe,
	.vm_new = lockstep_vm_new,
	.vm_free = lockstep_vm_free,
	.vcpu = lockstep_vcpu,
	.run = lockstep_run,
	.kick = lockstep_kick,
	.interrupt = lockstep_interrupt,
	.nmi = lockstep_nmi,
	.init = lockstep_init,
	.sipi = lockstep_sipi,
	.get_state = lockstep_get_state,
	.set_state = lockstep_set_state,
	.stats = lockstep_stats,
	.tsc_offset = lockstep_tsc_offset,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* engine.c - the translator as an engine. It is the interpreter's processor with another way to
 * execute 64-bit code; events, faults and everything that is not 64-bit mode stay with run.c and
 * the interpreter's blocks. */
#include "cpu/bt/bt.h"
#include "cpu/bt/window.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/describe.h"
#include "cpu/interp/interp.h"
#include "util/err.h"
#include "util/fatal.h"

/* --- between C and code ------------------------------------------------------------------------ */

static void flags_to_rflags(struct bt_cpu *b)
{
	uint32_t ax = b->flags_ax;

	b->i.s.rflags = (b->i.s.rflags & ~(uint64_t)X86_FLAGS_ARITH) | (ax >> 8 & 0xd5) | (ax & 1) << 11;
}

static void flags_from_rflags(struct bt_cpu *b)
{
	uint64_t rf = b->i.s.rflags;

	b->flags_ax = (uint32_t)((rf & 0xff) << 8 | (rf >> 11 & 1));
}

enum { MAX_FAILURES = 8, FAILURE_CYCLES = 4000 };

/* A check of a group of S has failed for good: it lies in two pages, or may be read but not written; HOW
 * would have helped. That costs some hundred cycles, which must not happen too often. */
static void note_failure(struct bt_cpu *b, const struct bt_site *s, enum bt_less how)
{
	struct bt_frag *f = bt_site_frag(b->cache, s);
	uint32_t now = (uint32_t)(__builtin_ia32_rdtsc() / FAILURE_CYCLES);

	if (!f->n_failures++) {
		f->failing_since = now;
	} else if (f->n_failures > MAX_FAILURES) {
		f->n_failures = 0;
		if (now - f->failing_since < MAX_FAILURES) {
			b->split = f;
			b->split_how = how;
		}
	}
}

/* The page of LA may be read but not written. Is it the first time that this matters? Memory that is new to the
 * guest is like that until it has been written once, which will be now: that is not what costs time. */
static bool is_news(struct bt_cpu *b, uint64_t la)
{
	uint64_t page = la >> GMEM_PAGE_SHIFT, *at = &b->unwritten[page % BT_UNWRITTEN], was = *at;

	*at = page;
	return was != page;
}

/* S has checked a group of accesses and failed. Can it go on now that the page has been looked up? Faults
 * as the instruction's own access would. */
static bool group_is_ready(struct bt_cpu *b, const struct bt_site *s)
{
	struct icpu *c = &b->i;
	const struct bt_page *page = bt_site_frag(b->cache, s)->page;
	uint64_t index = s->index < 16 ? c->s.gpr[s->index] << s->scale : 0;
	uint64_t base = s->is_abs ? page->va : s->base < 16 ? c->s.gpr[s->base] : 0;
	uint64_t la = base + index + (uint64_t)(int64_t)s->lo;

	if (page->key & BT_KEY_32)
		la = (uint32_t)la;
	uint64_t own = la + s->mine + (s->mine_index < 16 ? c->s.gpr[s->mine_index] << s->mine_scale : 0);

	if ((la & 0xfff) + s->span > 4096 && !s->is_double) {
		note_failure(b, s, s->is_ranged ? BT_LESS_TABLES : s->may_double ? BT_LESS_PAGES : BT_LESS_GROUPS);
		return false;
	}
	if (!s->is_aligned)
		icpu_touch(c, own, s->is_write ? ICPU_WRITE : ICPU_READ, s->wants_write);
	if (s->is_double && bt_refill_two(b, la, la + s->span - 1, s->wants_write ? ICPU_WRITE : ICPU_READ))
		return true;
	if (s->is_double) {
		note_failure(b, s, s->is_ranged ? BT_LESS_TABLES : BT_LESS_GROUPS);
		return false;
	}
	if (icpu_inline_has(c, la, s->wants_write ? ICPU_WRITE : ICPU_READ))
		return true;
	if (s->wants_write && !s->is_write && icpu_inline_has(c, la, ICPU_READ) && !is_news(b, la))
		note_failure(b, s, BT_LESS_WRITES);
	return false;
}

/* The instruction of S for the interpreter, which is told where it is. */
static const struct iop *take_over(struct bt_cpu *b, struct bt_site *s)
{
	struct icpu *c = &b->i;
	const struct bt_frag *f = bt_site_frag(b->cache, s);
	struct iop *op = s->op ? bt_arena_at(b->cache, s->op) : NULL;

	c->next_rip = c->s.rip + s->len;
	if (op)
		return op;
	struct x86_insn x;

	x86_decode(&x, f->bytes + s->off, s->len, f->page->key & BT_KEY_32 ? X86_MODE_32 : X86_MODE_64);
	if (bt_arena_has(b->cache, sizeof(*op))) {
		op = bt_arena_alloc(b->cache, sizeof(*op));
		s->op = bt_arena_off(b->cache, op);
	} else {
		op = &b->spare_op;
	}
	iop_init(c, op, &x);
	return op;
}

/* Has F, of an instruction that goes on in the next page, to be made anew? Because that is known by now, or another. */
static bool is_tail_news(const struct bt_cpu *b, struct bt_frag *f)
{
	enum { PATIENCE = 16 };         /* where processes differ in the page, or it is written again and again */
	uint64_t next = (f->va & ~0xfffull) + 4096;

	if (f->is_spanning)
		return ++f->n_failures == PATIENCE - 1;
	return bt_page_now(b, f->page->key & BT_KEY_32 ? (uint32_t)next : next, f->page->key);
}

/* An instruction that goes on in the next page, whose bytes and place the interpreter looks up each time. */
static const uint8_t *run_crossing(struct bt_cpu *b, const struct bt_site *s)
{
	struct icpu *c = &b->i;
	struct bt_frag *f = bt_site_frag(b->cache, s);

	flags_to_rflags(b);
	c->s.rip = f->va;
	icpu_run_insn(c);
	flags_from_rflags(b);
	if (is_tail_news(b, f)) {
		b->split = f;
		b->split_how = BT_N_LESS;
	}
	b->exit_why = CPU_CODE_EXIT_AWAY;
	if (f->is_spanning || b->split == f || atomic_load_explicit(&c->req, memory_order_relaxed) || bt_key_now(c) != f->page->key)
		return NULL;
	b->want_vec = s->vec;
	return b->cache->rx + s->resume;
}

const uint8_t *bt_call_out(struct bt_cpu *b)
{
	struct icpu *c = &b->i;
	struct bt_site *s = bt_arena_at(b->cache, b->site);
	const struct bt_frag *f = bt_site_frag(b->cache, s);

	bt_x87_settle(b);
	if (!s->len)
		return run_crossing(b, s);
	flags_to_rflags(b);
	c->s.rip = f->va + s->off;
	b->want_vec = s->vec;
	b->n_insns += (uint64_t)(int64_t)s->behind;
	if (s->span && group_is_ready(b, s)) {
		b->n_insns -= (uint64_t)(int64_t)s->behind;
		return b->cache->rx + s->resume;
	}
	if (s->span && !s->is_abs && bt_page_has_room(b->cache)) {
		f = bt_find_split(b, f->page, c->s.rip);
		b->want_vec |= f ? f->vec : 0;
		return f ? b->cache->rx + bt_body(f) : NULL;
	}
	if (s->is_misaligned)
		note_failure(b, s, BT_LESS_GROUPS);
	const struct iop *op = take_over(b, s);
	uint64_t next = c->next_rip;

	c->block_page[0] = f->page->page;
	c->block_page[1] = UINT64_MAX;
	b->n_call_outs[op->x.op]++;
	icpu_phase_set(c, CPU_PHASE_CALL_OUT);
	op->fn(c, op);
	icpu_phase_set(c, CPU_PHASE_CODE);
	c->s.rip = c->next_rip;
	flags_from_rflags(b);
	if (__builtin_expect(c->next_rip != next || c->stop_block || s->span || !s->resume, 0)) {
		b->exit_why = c->next_rip != next || s->span ? CPU_CODE_EXIT_AWAY : CPU_CODE_EXIT_END;
		c->stop_block = false;
		b->n_insns++;
		if (op->x.row->flags & X86_R_END)
			icpu_end_of_block(c);
		return NULL;
	}
	b->n_insns -= (uint64_t)(int64_t)s->behind;
	return b->cache->rx + s->resume;
}

/* The last indirect jump went to an address that is not canonical: undo it and let the interpreter
 * raise the fault. The return address that a CALL has stored stays. */
static void bt_undo_indirect(struct bt_cpu *b)
{
	struct icpu *c = &b->i;
	struct bt_site *s = bt_arena_at(b->cache, b->site);

	c->s.rip = bt_site_frag(b->cache, s)->va + s->off;
	const struct iop *op = take_over(b, s);
	const struct x86_insn *x = &op->x;

	if (x->op == X86_OP_SYSCALL || x->op == X86_OP_SYSRET)
		return;         /* they do not look at it: the fault is the target's */
	b->n_insns += (uint64_t)(int64_t)s->behind;
	if (x->op == X86_OP_RET)
		c->s.gpr[X86_RSP] -= 8 + (x->n_opnds ? (uint64_t)x->imm : 0);
	else if (x->op == X86_OP_CALL)
		c->s.gpr[X86_RSP] += 8;
	op->fn(c, op);
	c->s.rip = c->next_rip;
}

static bool is_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

/* Code has left, by LINK or (NULL) otherwise: count why. */
static void note_exit(struct bt_cpu *b, const struct bt_link *link)
{
	unsigned req = atomic_load_explicit(&b->i.req, memory_order_relaxed);
	enum cpu_code_exit why = b->exit_why;

	if (link)
		why = CPU_CODE_EXIT_LINK;
	else if (b->exit_indirect)
		why = CPU_CODE_EXIT_INDIRECT;
	else if (b->fault)
		why = CPU_CODE_EXIT_AWAY;
	else if (req && why == CPU_CODE_EXIT_OTHER)
		why = req & ICPU_REQ_CODE ? CPU_CODE_EXIT_CHANGED : CPU_CODE_EXIT_REQUEST;
	else if (b->exit_frag && why == CPU_CODE_EXIT_OTHER)
		why = CPU_CODE_EXIT_UNMAPPED;
	b->i.stats.code_exits[why]++;
}

/* Run from AT in the cache, which counts on VEC (enum bt_vec flags), until code leaves. Returns the link by which it
 * did, or NULL. */
static struct bt_link *bt_enter(struct bt_cpu *b, uint32_t at, unsigned vec)
{
	b->exit_link = b->exit_frag = 0;
	b->exit_indirect = false;
	b->exit_why = CPU_CODE_EXIT_OTHER;
	b->want_vec = (uint8_t)vec;
	b->target = b->cache->rx + at;
	flags_from_rflags(b);
	b->cache->thunk.enter(b);
	flags_to_rflags(b);
	bt_x87_settle(b);
	if (b->exit_indirect && !is_canonical(b->i.s.rip))
		bt_undo_indirect(b);
	if (b->exit_frag) {
		struct bt_frag *f = bt_arena_at(b->cache, b->exit_frag);

		b->i.s.rip = f->va;
		if (bt_loop_news(b, f))
			b->exit_why = CPU_CODE_EXIT_AWAY;
		/* The table of indirect jumps would go on leading to code of before a window. */
		else if (f->page->policy != bt_policy_now(&b->i, f->page->key))
			bt_indirect_forget(b, f);
	}
	if (!b->exit_link)
		return NULL;
	struct bt_link *l = bt_arena_at(b->cache, b->exit_link);

	b->i.s.rip = l->va;
	return l;
}

/* --- executing --------------------------------------------------------------------------------- */

void bt_execute(struct icpu *c)
{
	struct bt_cpu *b = bt_of(c);
	struct bt_link *link = NULL;

	c->block = NULL;
	b->exit_indirect = false;
	do {
		if (b->split && !link)
			bt_split(b);
		if (c->code_maybe)
			bt_code_changed(b);
		bool is_indirect = b->exit_indirect, is_return = is_indirect && bt_indirect_is_return(b);
		uint64_t n_flushes = b->cache->n_flushes;
		struct bt_frag *f = bt_find(b, c->s.rip, is_indirect || (link && link->kind != BT_LINK_FORWARD));

		if (!f) {
			icpu_run_block(c);
			return;
		}
		if (link || is_indirect)
			bt_start_note(f->page, f->va);
		if (link && n_flushes == b->cache->n_flushes)
			bt_link_make(b->cache, link, f);
		else if (is_indirect)
			bt_indirect_set(b, f, is_return);
		if (__builtin_expect(b->fault_la != 0, 0))
			bt_window_return(b);
		link = bt_enter(b, f->ientry + f->lentry, BT_VEC_NONE);
		note_exit(b, link);
		if (b->fault)
			bt_window_fault(b);
		else if (atomic_load_explicit(&c->req, memory_order_relaxed) && bt_window_polled(b))
			link = NULL;            /* what it leads to is of another policy now */
	} while (!atomic_load_explicit(&c->req, memory_order_relaxed) && b->fuel >= 0);
}

/* Code runs on the guest's stack pointer. */
int bt_begin(struct bt_cpu *b, sigset_t *before, struct err *err)
{
	sigset_t all;

	(void)err;
	icpu_view_enter(&b->i);
	/* The dirty log is switched while processors are stopped. */
	icpu_inline_recheck(&b->i, UINT64_MAX);
	sigfillset(&all);
	fatal_unblock(&all);    /* their handler has a stack of its own */
	pthread_sigmask(SIG_BLOCK, &all, before);
	bt_window_begin(b);
	b->frag_max = BT_FRAG_MAX;
	b->patience = BT_PATIENCE;
	b->loop_patience = BT_LOOP_PATIENCE;
	return 0;
}

void bt_end(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

static enum cpu_exit_reason bt_run(struct vcpu *v, struct err *err)
{
	struct icpu *c = (struct icpu *)v;
	sigset_t before;

	if (bt_begin(bt_of(c), &before, err) < 0)
		return CPU_EXIT_ERROR;
	enum cpu_exit_reason r = icpu_run(c, bt_execute);

	bt_end(&before);
	return r;
}

void bt_execute_one(struct icpu *c)
{
	struct bt_cpu *b = bt_of(c);
	struct bt_frag *f;

	if (c->code_maybe || atomic_load(&c->req) & ICPU_REQ_CODE)
		bt_code_changed(b);
	c->block = NULL;
	f = bt_find(b, c->s.rip, false);
	if (f)
		bt_enter(b, bt_body(f), f->vec);
	else
		icpu_run_insn(c);
}

static int bt_step_with(struct icpu *c, icpu_execute_fn execute, unsigned frag_max, struct icpu_event *fault)
{
	icpu_view_enter(c);
	bt_window_begin(bt_of(c));
	bt_of(c)->frag_max = frag_max;
	bt_of(c)->patience = 0;
	bt_of(c)->keeps_windows = true;
	bt_of(c)->loop_patience = 2;
	return icpu_step(c, execute, fault);
}

int bt_step(struct vcpu *v, struct icpu_event *fault)
{
	return bt_step_with((struct icpu *)v, bt_execute_one, 1, fault);
}

static void bt_execute_to_halt(struct icpu *c)
{
	while (c->s.mp_state == X86_MP_RUNNABLE) {
		c->code_maybe |= (atomic_exchange(&c->req, 0) & ICPU_REQ_CODE) != 0;
		bt_execute(c);
	}
}

int bt_step_until(struct vcpu *v, icpu_execute_fn execute, struct icpu_event *fault)
{
	return bt_step_with((struct icpu *)v, execute, BT_FRAG_MAX, fault);
}

int bt_run_to_fault(struct vcpu *v, struct icpu_event *fault)
{
	return bt_step_with((struct icpu *)v, bt_execute_to_halt, BT_FRAG_MAX, fault);
}

/* --- life cycle ----------------------------------------------------------------------------------- */

static int bt_probe(bool is_explicit, struct err *err)
{
	unsigned a, b, c, d;

	(void)is_explicit;
	if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 8 & 1))
		return err_set(err, -ENODEV, "this processor has no BMI2, which translated code uses");
	return 0;
}

static void bt_vm_free(struct cpu_vm *vm)
{
	if (!vm)
		return;
	vm->cfg.mem->code_written = NULL;
	for (unsigned i = 0; i < vm->n; i++) {
		bt_cache_free(bt_of(vm->cpu[i]));
		bt_describe_free(bt_of(vm->cpu[i]));
		pthread_mutex_destroy(&bt_of(vm->cpu[i])->queue.lock);
	}
	cpu_interp.vm_free(vm);
}

static int bt_cpu_init(struct bt_cpu *b, struct err *err)
{
	b->self = b;
	b->frag_max = BT_FRAG_MAX;
	b->host_mxcsr = 0x1f80;
	b->is_counting = b->i.vm->cfg.wants_profile;
	b->has_windows = b->i.vm->cfg.windows && !b->is_counting;
	int r = bt_cache_new(b, b->i.vm->cfg.code_cache, err);

	if (r >= 0 && bt_describe_new(b) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	return r >= 0 && b->i.vm->cfg.wants_perf_map ? bt_perf_map_open(b->cache, err) : r;
}

static int bt_vm_new(struct cpu_vm **out, const struct cpu_config *cfg, struct err *err)
{
	struct cpu_vm *vm;
	int r = icpu_vm_new(&vm, cfg, sizeof(struct bt_cpu), true, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < vm->n; i++) {
		pthread_mutex_init(&bt_of(vm->cpu[i])->queue.lock, NULL);
	}
	for (unsigned i = 0; i < vm->n && r >= 0; i++)
		r = bt_cpu_init(bt_of(vm->cpu[i]), err);
	if (r < 0) {
		bt_vm_free(vm);
		return r;
	}
	vm->page_flagged = bt_page_flagged;
	cfg->mem->code_written_arg = vm;
	cfg->mem->code_written = bt_code_written;
	*out = vm;
	return 0;
}

/* Everything between instructions is the interpreter's. */
static struct vcpu *bt_vcpu(struct cpu_vm *vm, unsigned n) { return cpu_interp.vcpu(vm, n); }
static void bt_kick(struct vcpu *v) { cpu_interp.kick(v); }
static void bt_interrupt(struct vcpu *v) { cpu_interp.interrupt(v); }
static void bt_nmi(struct vcpu *v) { cpu_interp.nmi(v); }
static void bt_init(struct vcpu *v) { cpu_interp.init(v); }
static void bt_sipi(struct vcpu *v, uint8_t vector) { cpu_interp.sipi(v, vector); }
static void bt_unhalt(struct vcpu *v) { cpu_interp.unhalt(v); }
static void bt_sample(struct vcpu *v) { cpu_interp.sample(v); }
static void bt_profile(struct vcpu *v, struct cpu_profile *out) { cpu_interp.profile(v, out); }

/* The operations that are handed to the interpreter most, in order. */
static void bt_top_call_outs(const struct bt_cpu *b, struct cpu_stats *out)
{
	for (unsigned op = 0; op < X86_N_OPS; op++) {
		uint64_t n = b->n_call_outs[op];
		unsigned at = CPU_TOP_CALL_OUTS;

		out->call_outs += n;
		for (; at && out->top_call_outs[at - 1].n < n; at--)
			if (at < CPU_TOP_CALL_OUTS)
				out->top_call_outs[at] = out->top_call_outs[at - 1];
		if (at < CPU_TOP_CALL_OUTS && n) {
			out->top_call_outs[at].name = op == X86_OP_MOV_CR ? "mov-cr" : x86_op_name((enum x86_op)op);
			out->top_call_outs[at].n = n;
		}
	}
}

static void bt_stats(struct vcpu *v, struct cpu_stats *out)
{
	const struct bt_cpu *b = bt_of((struct icpu *)v);

	cpu_interp.stats(v, out);
	out->insns = b->is_counting ? bt_insns(b) : 0;
	out->cache_flushes = b->cache->n_flushes;
	out->memory += bt_cache_resident(b);
	bt_top_call_outs(b, out);
}

static uint64_t bt_tsc_offset(struct vcpu *v) { return cpu_interp.tsc_offset(v); }

static int bt_get_state(struct vcpu *v, struct x86_state *s, struct err *err)
{
	return cpu_interp.get_state(v, s, err);
}

static int bt_set_state(struct vcpu *v, const struct x86_state *s, struct err *err)
{
	return cpu_interp.set_state(v, s, err);
}

const struct cpu_ops cpu_bt = {
	.name = "bt",
	.summary = "binary translator in software: needs no VT-x or AMD-V",
	.features = &x86_features_bt,
	.executes = &x86_features_interp,
	.probe = bt_probe,
	.vm_new = bt_vm_new,
	.vm_free = bt_vm_free,
	.vcpu = bt_vcpu,
	.run = bt_run,
	.kick = bt_kick,
	.interrupt = bt_interrupt,
	.nmi = bt_nmi,
	.init = bt_init,
	.sipi = bt_sipi,
	.unhalt = bt_unhalt,
	.get_state = bt_get_state,
	.set_state = bt_set_state,
	.stats = bt_stats,
	.sample = bt_sample,
	.profile = bt_profile,
	.tsc_offset = bt_tsc_offset,
};

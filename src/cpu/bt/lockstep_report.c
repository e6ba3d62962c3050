/* SPDX-License-Identifier: Apache-2.0 */
/* lockstep_report.c - after a difference: where does it begin? The step is repeated from its beginning, first one
 * fragment at a time, then one instruction at a time. Vcpu thread.
 *
 * A difference that does not come again lies between fragments - links, the table of indirect jumps, what is
 * left in registers and flags from one to the next - or in what the caches held. */
#include "cpu/bt/lockstep_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include "util/err.h"
#include "util/log.h"

enum { MAX_REPEATS = 100000, MAX_CODE = 256, TRACE = 24 };

static void print_stop(const char *who, const struct icpu *c, const struct lockstep_stop *s)
{
	if (s->has_faulted)
		log_error("  %s: exception %u, error code %x, cr2 %" PRIx64 " at %" PRIx64, who, s->fault.vector, s->fault.code,
			  c->s.cr2, c->s.rip);
	else
		log_error("  %s: %s at %" PRIx64, who, s->is_unwound ? "reaches a device, clock or MSR" :
			  c->s.mp_state != X86_MP_RUNNABLE ? "halted" : "goes on", c->s.rip);
}

/* Up to LEN bytes of guest code at RIP; what is there. */
static unsigned read_code(struct lockstep *l, uint64_t rip, uint8_t *buf, unsigned len)
{
	uint64_t la = icpu_linear_rip(l->lead, rip);

	for (unsigned n = 0; n < len; n++) {
		gpa_t gpa;

		if (!icpu_translate(l->lead, la + n, &gpa) || gmem_read(l->lead_mem, gpa, buf + n, 1) < 0)
			return n;
	}
	return len;
}

static void print_code(struct lockstep *l, uint64_t rip, unsigned n_insns)
{
	uint8_t code[MAX_CODE];
	unsigned len = read_code(l, rip, code, sizeof(code)), at = 0;

	for (; n_insns; n_insns--) {
		struct x86_insn x;
		char text[128], bytes[3 * X86_INSN_MAX + 1] = "";

		if (x86_decode(&x, code + at, len - at, l->lead->mode) != X86_DECODE_OK)
			return;
		x86_format(&x, rip + at, text, sizeof(text));
		for (unsigned i = 0; i < x.len; i++)
			snprintf(bytes + 3 * i, 4, "%02x ", code[at + i]);
		log_error("    %016" PRIx64 "  %-24s %s", rip + at, bytes, text);
		at += x.len;
	}
}

static void print_memory(struct lockstep *l, uint64_t bad)
{
	uint64_t a, b;

	if (bad == UINT64_MAX)
		return;
	bad &= ~7ull;
	memcpy(&a, l->lead_mem->host + bad, 8);
	memcpy(&b, l->bt_mem->host + bad, 8);
	log_error("  memory at guest-physical %" PRIx64 " is %016" PRIx64 ", should be %016" PRIx64, gmem_gpa(l->real, bad), b, a);
}

static void print_difference(struct lockstep *l)
{
	lockstep_state_print(l);
	print_memory(l, lockstep_mem_compare(l, true));
	log_error("  what follows at %" PRIx64 ":", l->lead->s.rip);
	print_code(l, l->lead->s.rip, 4);
}

/* --- repeating ------------------------------------------------------------------------------------ */

/* Both as at the beginning of the step, with nothing in any cache. */
static void rewind_step(struct lockstep *l)
{
	l->lead->s = l->bt->i.s = l->start;
	lockstep_mem_rewind(l);
	icpu_mode_changed(l->lead);
	icpu_mode_changed(&l->bt->i);
	icpu_tlb_flush(l->lead, false);
	icpu_tlb_flush(&l->bt->i, false);
	bt_cache_clear(l->bt);
	l->lead_door.mode = LOCKSTEP_REPLAY;
	l->lead_door.at = l->bt_door.at = 0;
}

struct repeat {
	uint64_t rip;                   /* of the part that differs */
	uint64_t trace[TRACE];          /* where parts began, the last first */
	unsigned n_insns, n_trace;
	bool has_found;
};

/* The follower by parts of at most FRAG_MAX instructions, the leader after it. */
static void repeat_step(struct lockstep *l, unsigned frag_max, uint64_t n_insns, struct repeat *out)
{
	*out = (struct repeat){ .has_found = false };
	rewind_step(l);
	l->bt->frag_max = frag_max;
	uint64_t end = l->lead->stats.insns + n_insns;

	for (unsigned n = 0; n < MAX_REPEATS && l->lead->stats.insns < end && !out->has_found; n++) {
		struct lockstep_stop lead = { .has_faulted = false }, bt;
		uint64_t n_now;

		memmove(out->trace + 1, out->trace, sizeof(out->trace) - sizeof(out->trace[0]));
		out->trace[0] = out->rip = l->lead->s.rip;
		out->n_trace += out->n_trace < TRACE;
		atomic_fetch_and(&l->bt->i.req, (uint32_t)ICPU_REQ_CODE);
		l->start_insns = l->lead->stats.insns;
		bt = lockstep_bt_go(l, bt_execute_one, &n_now);
		out->has_found = !lockstep_catch_up(l, n_now, &lead, &bt);
		out->n_insns = (unsigned)n_now + bt.has_faulted;
		if (bt.has_faulted || bt.is_unwound || lead.has_faulted)
			break;
	}
	l->bt->frag_max = BT_FRAG_MAX;
}

static void print_repeat(struct lockstep *l, const char *how, const struct repeat *r)
{
	if (!r->has_found) {
		log_error("repeated %s: no difference", how);
		return;
	}
	log_error("repeated %s: the difference comes at %" PRIx64 ", CPL %u:", how, r->rip, l->lead->cpl);
	print_code(l, r->rip, r->n_insns && r->n_insns < BT_FRAG_MAX ? r->n_insns : 8);
	print_difference(l);
}

static void print_way(const struct repeat *r)
{
	char text[17 * TRACE + 1] = "";

	for (unsigned i = r->n_trace, at = 0; i-- > 0; )
		at += (unsigned)snprintf(text + at, sizeof(text) - at, " %" PRIx64, r->trace[i]);
	log_error("  by way of%s", text);
}

void lockstep_fail(struct lockstep *l, const struct lockstep_stop *lead, const struct lockstep_stop *bt)
{
	uint64_t n = l->lead->stats.insns - l->start_insns;
	struct repeat r;

	l->has_failed = true;
	log_error("lockstep: bt differs from interp after %" PRIu64 " instructions, in a step of %" PRIu64 " from %" PRIx64,
		  l->start_insns, n, l->start.rip);
	print_stop("interp", l->lead, lead);
	print_stop("bt", &l->bt->i, bt);
	print_difference(l);
	if (l->is_full)
		log_error("too much was written to repeat the step");
	repeat_step(l, BT_FRAG_MAX, n, &r);
	print_repeat(l, "fragment by fragment", &r);
	if (!r.has_found)
		print_way(&r);
	repeat_step(l, 1, n, &r);
	print_repeat(l, "instruction by instruction", &r);
	err_set(l->err, -EIO, "the engines bt and interp differ near 0x%" PRIx64 ", after %" PRIu64 " instructions",
		r.has_found ? r.rip : l->start.rip, l->start_insns);
}

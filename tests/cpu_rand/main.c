/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - compare the engines with the real CPU on random programs (rand.h).
 *
 *	cpu_rand [--count PROGRAMS] [--seed S] [--seconds N] [--one] [--verbose]
 *
 * At the first difference it takes out of the program what is not needed for it, prints what is left and the
 * options that replay it, and exits with 1. --one: only the program of SEED. --seconds: until then. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include "cpu/x86/state.h"
#include "rand.h"

enum { HWCAP2_FSGSBASE = 2, FLAGS_SEEN = X86_FLAGS_ARITH | X86_DF };

static const char *const engine_name[RAND_N_ENGINES] = { "interp", "bt", "bt, stopped at random polls" };
static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

struct run {
	struct diff_gen gen;
	struct rand_prog *progs;
	struct rand_result *native;     /* shared with the child */
	struct rand_result *result;     /* of the engines */
	struct rand_guest *guest[RAND_N_ENGINES];
	uint64_t n_progs, n_generated, n_executed, n_events;
	bool is_verbose;
};

/* --- comparing ---------------------------------------------------------------------------------- */

/* What the real CPU reports through Linux, and bytes of the FXSAVE image that stand for nothing. */
static void normalise(struct rand_result *r, bool is_whole)
{
	uint8_t *fx = r->out.fx;

	for (unsigned i = 0; i < r->n_events; i++)
		if (r->event[i].vector == X86_EXC_PF && r->event[i].cr2 >> 47)
			r->event[i].error |= X86_PF_P;
	/* At an exception in the middle, bt may have older arithmetic flags. */
	r->out.rflags &= is_whole ? FLAGS_SEEN : X86_DF;
	fx[X86_FX_FTW + 1] = 0;
	memset(fx + X86_FX_FOP, 0, X86_FX_MXCSR - X86_FX_FOP);
	memset(fx + X86_FX_MXCSR_MASK, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		memset(fx + X86_FX_ST + 16 * i + 10, 0, 6);
}

static bool same_event(const struct rand_event *a, const struct rand_event *b)
{
	return a->vector == b->vector && a->error == b->error && a->cr2 == b->cr2 && a->rip == b->rip &&
	       !memcmp(a->gpr, b->gpr, sizeof(a->gpr));
}

static bool same_out(const struct rand_result *a, const struct rand_result *b)
{
	return !memcmp(a->out.gpr, b->out.gpr, sizeof(a->out.gpr)) && a->out.rflags == b->out.rflags && a->out.rip == b->out.rip &&
	       !memcmp(a->out.fx, b->out.fx, DIFF_FX_LEN) && !memcmp(a->out.ymmh, b->out.ymmh, DIFF_YMMH_LEN) &&
	       !memcmp(a->code, b->code, RAND_CODE_LEN) && !memcmp(a->data, b->data, DIFF_RW_LEN) &&
	       !memcmp(a->stack, b->stack, RAND_STACK_LEN);
}

static bool same(const struct rand_result *a, const struct rand_result *b)
{
	if (a->has_run != b->has_run || a->n_events != b->n_events)
		return false;
	for (unsigned i = 0; i < a->n_events; i++)
		if (!same_event(&a->event[i], &b->event[i]))
			return false;
	return same_out(a, b);
}

static bool ends_whole(const struct rand_prog *p, const struct rand_result *r)
{
	return r->has_run && r->n_events && r->event[r->n_events - 1].rip == RAND_CODE + p->end;
}

/* The engine that differs from NATIVE, or -1. */
static int compare(struct run *run, const struct rand_prog *p, struct rand_result *native)
{
	bool is_whole = ends_whole(p, native);

	normalise(native, is_whole);
	for (int e = 0; e < RAND_N_ENGINES; e++) {
		rand_guest_run(run->guest[e], p, run->result);
		normalise(run->result, is_whole);
		if (!same(native, run->result))
			return e;
		if (e == RAND_INTERP)
			run->n_executed += run->result->n_insns;
	}
	return -1;
}

/* --- telling ------------------------------------------------------------------------------------- */

static void print_program(const struct rand_prog *p)
{
	for (unsigned i = 0; i < RAND_PIECES; i++) {
		const struct rand_piece *q = &p->piece[i];

		for (unsigned at = q->at; at < (unsigned)q->at + q->len; ) {
			char text[128];
			struct x86_insn x;

			if (x86_decode(&x, p->code + at, X86_INSN_MAX, X86_MODE_64) != X86_DECODE_OK)
				break;
			x86_format(&x, RAND_CODE + at, text, sizeof(text));
			printf("  %2u  %08" PRIx64 "  ", i, (uint64_t)RAND_CODE + at);
			for (unsigned b = 0; b < x.len; b++)
				printf("%02x ", p->code[at + b]);
			printf("%*s%s\n", x.len < 11 ? 33 - 3 * x.len : 1, "", text);
			at += x.len;
		}
	}
}

static void print_gprs(const uint64_t *a, const uint64_t *b)
{
	for (unsigned i = 0; i < 16; i++)
		if (a[i] != b[i])
			printf("    %s: cpu %016" PRIx64 ", engine %016" PRIx64 "\n", gpr_name[i], a[i], b[i]);
}

static void print_bytes(const char *what, uint64_t at, const uint8_t *a, const uint8_t *b, unsigned len)
{
	for (unsigned i = 0, n = 0; i < len && n < 8; i += 8) {
		uint64_t x, y;

		memcpy(&x, a + i, 8);
		memcpy(&y, b + i, 8);
		if (x == y)
			continue;
		printf("    %s %" PRIx64 ": cpu %016" PRIx64 ", engine %016" PRIx64 "\n", what, at + i, x, y);
		n++;
	}
}

static void print_event(const char *who, const struct rand_event *e)
{
	printf("    %s: exception %u, error %x, cr2 %" PRIx64 " at %" PRIx64 "\n", who, e->vector, e->error, e->cr2, e->rip);
}

static void print_difference(const struct rand_result *a, const struct rand_result *b)
{
	if (!a->has_run || !b->has_run)
		printf("  %s did not end\n", a->has_run ? "the engine" : "the CPU");
	for (unsigned i = 0; i < a->n_events && i < b->n_events; i++)
		if (!same_event(&a->event[i], &b->event[i])) {
			printf("  exception %u of %u and %u:\n", i, a->n_events, b->n_events);
			print_event("cpu", &a->event[i]);
			print_event("engine", &b->event[i]);
			print_gprs(a->event[i].gpr, b->event[i].gpr);
			return;
		}
	printf("  at the end, after %u and %u exceptions:\n", a->n_events, b->n_events);
	print_gprs(a->out.gpr, b->out.gpr);
	if (a->out.rip != b->out.rip || a->out.rflags != b->out.rflags)
		printf("    rip %" PRIx64 ", flags %" PRIx64 "; engine %" PRIx64 ", %" PRIx64 "\n", a->out.rip, a->out.rflags,
		       b->out.rip, b->out.rflags);
	print_bytes("fx", 0, a->out.fx, b->out.fx, DIFF_FX_LEN);
	print_bytes("ymm high", 0, a->out.ymmh, b->out.ymmh, DIFF_YMMH_LEN);
	print_bytes("code", RAND_CODE, a->code, b->code, RAND_CODE_LEN);
	print_bytes("data", DIFF_DATA, a->data, b->data, DIFF_RW_LEN);
	print_bytes("stack", RAND_STACK, a->stack, b->stack, RAND_STACK_LEN);
}

/* --- shrinking ---------------------------------------------------------------------------------- */

/* Does the program, as it is now, differ? On the same engine, so that the report is of one fault. */
static bool differs(struct run *run, struct rand_prog *p, int engine)
{
	rand_lay_out(p);
	return rand_native_run(p, run->native, 1) >= 0 && compare(run, p, run->native) == engine;
}

static void shrink(struct run *run, struct rand_prog *p, int engine)
{
	bool has_shrunk = true;

	while (has_shrunk) {
		has_shrunk = false;
		for (unsigned n = 16; n; n /= 2)
			for (unsigned i = 0; i + n <= RAND_PIECES; i += n) {
				struct rand_prog before = *p;
				unsigned removed = 0;

				for (unsigned k = i; k < i + n; k++)
					if (p->piece[k].kind < RAND_KIND_KEPT && !p->piece[k].is_removed)
						p->piece[k].is_removed = true, removed++;
				if (removed && differs(run, p, engine))
					has_shrunk = true;
				else
					*p = before;
			}
	}
	differs(run, p, engine);
}

static void report(struct run *run, const struct rand_prog *orig, int engine)
{
	struct rand_prog p = *orig;

	printf("program %" PRIu64 " differs on %s; replay: --seed %" PRIu64 " --one\n", p.seed, engine_name[engine], p.seed);
	if (differs(run, &p, engine))
		shrink(run, &p, engine);
	else
		printf("it does not when it is run alone\n");
	print_program(&p);
	for (unsigned i = 0; i < 16; i++)
		printf("  %-4s%016" PRIx64 "%s", gpr_name[i], p.in.gpr[i], i % 4 == 3 ? "\n" : "");
	print_difference(run->native, run->result);
}

/* --- running -------------------------------------------------------------------------------------- */

static bool run_batch(struct run *run, uint64_t seed, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rand_make(&run->progs[i], &run->gen, seed + i);
	int r = rand_native_run(run->progs, run->native, n);

	if (r < 0)
		printf("the child with programs %" PRIu64 " to %" PRIu64 " broke down: %s\n", seed, seed + n - 1, strerror(-r));
	for (unsigned i = 0; i < n; i++) {
		struct rand_prog p = run->progs[i];
		int engine = compare(run, &p, &run->native[i]);

		if (run->is_verbose)
			print_program(&p);
		if (engine >= 0) {
			report(run, &p, engine);
			return false;
		}
		run->n_progs++;
		run->n_generated += p.n_insns;
		run->n_events += run->native[i].n_events;
	}
	return r >= 0;
}

struct options {
	uint64_t count, seed, seconds;
	bool is_one, is_verbose;
};

static bool parse_options(struct options *o, int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "count", required_argument, NULL, 'c' }, { "seed", required_argument, NULL, 's' },
		{ "seconds", required_argument, NULL, 't' }, { "one", no_argument, NULL, '1' },
		{ "verbose", no_argument, NULL, 'v' }, { NULL, 0, NULL, 0 },
	};

	for (int opt; (opt = getopt_long(argc, argv, "", long_options, NULL)) != -1; ) {
		switch (opt) {
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 't': o->seconds = strtoull(optarg, NULL, 0); o->count = UINT64_MAX; break;
		case '1': o->is_one = true; break;
		case 'v': o->is_verbose = true; break;
		default: return false;
		}
	}
	if (o->is_one)
		o->count = 1;
	return optind == argc;
}

static bool run_init(struct run *run)
{
	size_t shared = RAND_BATCH * sizeof(*run->native);

	run->progs = calloc(RAND_BATCH, sizeof(*run->progs));
	run->result = calloc(1, sizeof(*run->result));
	run->native = mmap(NULL, shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned e = 0; e < RAND_N_ENGINES; e++)
		if (!(run->guest[e] = rand_guest_new((enum rand_engine)e)))
			return false;
	return run->progs && run->result && run->native != MAP_FAILED && gen_init(&run->gen, NULL) >= 0;
}

int main(int argc, char **argv)
{
	struct options o = { .count = 3000, .seed = 1 };
	struct run run = { .is_verbose = false };
	bool is_good = true;

	if (!parse_options(&o, argc, argv)) {
		fprintf(stderr, "usage: cpu_rand [--count PROGRAMS] [--seed S] [--seconds N] [--one] [--verbose]\n");
		return 2;
	}
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
		printf("this host does not let user mode set FS and GS bases (FSGSBASE)\n");
		return 77;
	}
	run.is_verbose = o.is_verbose;
	if (!run_init(&run)) {
		fprintf(stderr, "cpu_rand: cannot set up: out of memory\n");
		return 2;
	}
	for (time_t begin = time(NULL); is_good && run.n_progs < o.count && (!o.seconds || time(NULL) < begin + (time_t)o.seconds); ) {
		uint64_t left = o.count - run.n_progs;

		is_good = run_batch(&run, o.seed + run.n_progs, left < RAND_BATCH ? (unsigned)left : RAND_BATCH);
	}
	printf("programs %" PRIu64 " to %" PRIu64 ": %" PRIu64 " instructions generated, %" PRIu64 " executed on each engine, %" PRIu64
	       " exceptions, %s\n", o.seed, o.seed + run.n_progs - 1, run.n_generated, run.n_executed, run.n_events,
	       is_good ? "no difference" : "a difference");
	for (unsigned e = 0; e < RAND_N_ENGINES; e++)
		rand_guest_free(run.guest[e]);
	gen_fini(&run.gen);
	free(run.progs);
	free(run.result);
	munmap(run.native, RAND_BATCH * sizeof(*run.native));
	return is_good ? 0 : 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - compare the interpreter (or the translator) with the real CPU on random instructions (diff.h).
 *
 *	cpu_diff [--count N] [--seed S] [--row NAME] [--strict] [--keep-going] [--verbose] [--engine bt]
 *
 * Exits with 1 at the first difference, after printing the instruction, its inputs, what both
 * sides made of it and the options that replay it. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include "cpu/x86/state.h"
#include "diff.h"

enum { HWCAP2_FSGSBASE = 2 };

struct options {
	uint64_t count, seed;
	const char *row;
	bool is_strict;         /* flags that the SDM leaves undefined count too */
	bool keep_going;        /* report each row once */
	bool is_verbose;
	bool use_bt;            /* the translator instead of the interpreter */
};

/* Flags that a user-mode instruction can change and both sides report. */
enum { FLAGS_SEEN = X86_FLAGS_ARITH | X86_DF | X86_NT | X86_AC | X86_ID };

static const char *const gpr_name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					  "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

/* --- comparison --------------------------------------------------------------------------------- */

/* Bytes of a memory operand that differ by design: last instruction and operand pointers, which
 * some hosts do not keep, and MXCSR_MASK. */
static void diff_blank_pointers(const struct diff_case *c, struct diff_result *r)
{
	unsigned from = 0, to = 0;
	bool is_fx = false;

	switch (c->insn.op) {
	case X86_OP_FXSAVE: case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC:
		from = X86_FX_FTW + 1;
		to = X86_FX_MXCSR;
		is_fx = true;
		break;
	case X86_OP_FNSTENV: case X86_OP_FNSAVE:
		from = c->insn.opsize == 2 ? 6 : 12;
		to = c->insn.opsize == 2 ? 14 : 28;
		break;
	default:
		return;
	}
	if (c->ea < DIFF_DATA || c->ea > DIFF_DATA + DIFF_RW_LEN - 512)
		return;
	uint8_t *p = r->mem + (c->ea - DIFF_DATA);

	memset(p + from, 0, to - from);
	if (is_fx)
		memset(p + X86_FX_MXCSR_MASK, 0, 4);
}

/* Only what an FXSAVE image defines, without pointers. */
static void diff_blank_fx(uint8_t *fx)
{
	fx[X86_FX_FTW + 1] = 0;
	memset(fx + X86_FX_FOP, 0, X86_FX_MXCSR - X86_FX_FOP);
	memset(fx + X86_FX_MXCSR_MASK, 0, 4);
	for (unsigned i = 0; i < 8; i++)
		memset(fx + X86_FX_ST + 16 * i + 10, 0, 6);
}

static void diff_normalise(const struct options *o, const struct diff_case *c, struct diff_result *r)
{
	uint64_t seen = FLAGS_SEEN;

	if (c->is_valid && !o->is_strict && r->vector == DIFF_NO_VECTOR)
		seen &= ~(uint64_t)c->row->flags_undefined;
	r->out.rflags &= seen;
	/* Linux reports every user fault above its half as a protection fault. */
	if (r->vector == X86_EXC_PF && r->cr2 >> 47)
		r->error |= X86_PF_P;
	for (unsigned i = 8; c->is_32 && i < 16; i++)
		r->out.gpr[i] = 0;
	diff_blank_fx(r->out.fx);
	diff_blank_pointers(c, r);
}

static bool diff_same(const struct diff_result *a, const struct diff_result *b)
{
	return a->vector == b->vector && a->error == b->error && a->cr2 == b->cr2 &&
	       !memcmp(&a->out, &b->out, sizeof(a->out)) && !memcmp(a->mem, b->mem, DIFF_RW_LEN);
}

/* --- report --------------------------------------------------------------------------------- */

static void print_hex(const uint8_t *p, unsigned n)
{
	while (n--)
		printf("%02x", p[n]);
}

static void print_case(const struct options *o, const struct diff_case *c)
{
	char text[128] = "(does not decode)";

	if (c->is_valid)
		x86_format(&c->insn, DIFF_START, text, sizeof(text));
	printf("%s-bit  ", c->is_32 ? "32" : "64");
	for (unsigned i = 0; i < c->len; i++)
		printf("%02x ", c->code[i]);
	printf(" %s\n", text);
	if (c->ea)
		printf("  operand at %" PRIx64 "\n", c->ea);
	printf("  replay: --seed %" PRIu64 " --count 1%s%s%s%s\n", c->seed, o->row ? " --row " : "", o->row ? o->row : "",
	       o->is_strict ? " --strict" : "", o->use_bt ? " --engine bt" : "");
}

static void print_regs_diff(const struct diff_regs *in, const struct diff_regs *a, const struct diff_regs *b)
{
	for (unsigned i = 0; i < 16; i++)
		if (a->gpr[i] != b->gpr[i])
			printf("  %-7s %016" PRIx64 " -> cpu %016" PRIx64 " interp %016" PRIx64 "\n", gpr_name[i], in->gpr[i],
			       a->gpr[i], b->gpr[i]);
	if (a->rip != b->rip)
		printf("  rip     cpu %" PRIx64 " interp %" PRIx64 "\n", a->rip, b->rip);
	if (a->rflags != b->rflags)
		printf("  rflags  %" PRIx64 " -> cpu %" PRIx64 " interp %" PRIx64 "\n", in->rflags, a->rflags, b->rflags);
	if (a->fs_base != b->fs_base || a->gs_base != b->gs_base)
		printf("  fs/gs   cpu %" PRIx64 " %" PRIx64 " interp %" PRIx64 " %" PRIx64 "\n", a->fs_base, a->gs_base,
		       b->fs_base, b->gs_base);
	for (unsigned i = 0; i < DIFF_FX_LEN; i += i < 32 ? 4 : 16) {
		unsigned n = i < 32 ? 4 : 16;

		if (!memcmp(a->fx + i, b->fx + i, n))
			continue;
		printf("  fx+%-4u ", i);
		print_hex(in->fx + i, n);
		printf(" -> cpu ");
		print_hex(a->fx + i, n);
		printf(" interp ");
		print_hex(b->fx + i, n);
		printf("\n");
	}
}

static void print_ymm_diff(const struct diff_regs *in, const struct diff_regs *a, const struct diff_regs *b)
{
	for (unsigned i = 0; i < 16; i++) {
		if (!memcmp(a->ymmh + 16 * i, b->ymmh + 16 * i, 16))
			continue;
		printf("  ymm%u high ", i);
		print_hex(in->ymmh + 16 * i, 16);
		printf(" -> cpu ");
		print_hex(a->ymmh + 16 * i, 16);
		printf(" interp ");
		print_hex(b->ymmh + 16 * i, 16);
		printf("\n");
	}
}

static void print_mem_diff(const struct diff_result *a, const struct diff_result *b)
{
	unsigned shown = 0;

	for (unsigned i = 0; i < DIFF_RW_LEN && shown < 8; i += 8) {
		if (!memcmp(a->mem + i, b->mem + i, 8))
			continue;
		printf("  [%" PRIx64 "] cpu ", (uint64_t)(DIFF_DATA + i));
		print_hex(a->mem + i, 8);
		printf(" interp ");
		print_hex(b->mem + i, 8);
		printf("\n");
		shown++;
	}
}

static void print_inputs(const struct diff_case *c)
{
	for (unsigned i = 0; i < 16; i++)
		printf("  %-4s%016" PRIx64 "%s", gpr_name[i], c->in.gpr[i], i % 4 == 3 ? "\n" : "");
	printf("  rflags %" PRIx64 " fcw,fsw,ftw ", c->in.rflags);
	print_hex(c->in.fx, 5);
	printf(" mxcsr ");
	print_hex(c->in.fx + X86_FX_MXCSR, 4);
	printf("\n");
	for (unsigned i = 0; i < c->insn.n_opnds; i++) {
		const struct x86_opnd *op = &c->insn.opnd[i];

		if (op->kind != X86_O_XMM && op->kind != X86_O_ST && op->kind != X86_O_MMX)
			continue;
		printf("  operand %u ", i);
		print_hex(c->in.fx + (op->kind == X86_O_XMM ? X86_FX_XMM : X86_FX_ST) + 16 * op->reg, 16);
		if (op->kind == X86_O_XMM) {
			printf(" ");
			print_hex(c->in.ymmh + 16 * op->reg, 16);
		}
		printf("\n");
	}
	if (c->patch_len) {
		printf("  memory ");
		print_hex(c->patch, 16);
		printf("\n");
	}
}

static void print_mismatch(const struct options *o, const struct diff_case *c, const struct diff_result *cpu,
			   const struct diff_result *interp)
{
	print_case(o, c);
	print_inputs(c);
	if (cpu->vector != interp->vector || cpu->error != interp->error || cpu->cr2 != interp->cr2)
		printf("  fault   cpu %d error %x cr2 %" PRIx64 "  interp %d error %x cr2 %" PRIx64 "\n", (int8_t)cpu->vector,
		       cpu->error, cpu->cr2, (int8_t)interp->vector, interp->error, interp->cr2);
	print_regs_diff(&c->in, &cpu->out, &interp->out);
	print_ymm_diff(&c->in, &cpu->out, &interp->out);
	print_mem_diff(cpu, interp);
	fflush(stdout);
}

/* --- run ------------------------------------------------------------------------------------ */

struct run {
	const struct options *o;
	struct diff_gen gen;
	struct guest *guest;
	struct diff_case *cases;
	struct diff_result *native;     /* shared with the child */
	struct diff_result interp;
	uint8_t *is_reported;           /* per row, with keep_going */
	uint64_t mismatches, faults;
};

static bool run_one(struct run *run, const struct diff_case *c, struct diff_result *cpu)
{
	unsigned row = (unsigned)(c->row - x86_rows);

	guest_run(run->guest, c, &run->interp);
	run->faults += cpu->vector != DIFF_NO_VECTOR;
	diff_normalise(run->o, c, cpu);
	diff_normalise(run->o, c, &run->interp);
	if (run->o->is_verbose)
		print_case(run->o, c);
	diff_accept(c, cpu, &run->interp);
	if (diff_is_moot(c, cpu, &run->interp) || diff_same(cpu, &run->interp))
		return true;
	run->mismatches++;
	if (!run->is_reported[row])
		print_mismatch(run->o, c, cpu, &run->interp);
	run->is_reported[row] = 1;
	return false;
}

/* One batch. False: stop. */
static bool run_batch(struct run *run, uint64_t seed, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		gen_case(&run->gen, &run->cases[i], seed + i);
	int r = native_run(run->cases, run->native, n);

	for (unsigned i = 0; i < n; i++) {
		if (!run->native[i].has_run) {
			printf("the native run broke down (%d) at:\n", r);
			print_case(run->o, &run->cases[i]);
			run->mismatches++;
			return run->o->keep_going;
		}
		if (!run_one(run, &run->cases[i], &run->native[i]) && !run->o->keep_going)
			return false;
	}
	return true;
}

static bool parse_options(struct options *o, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "count", required_argument, NULL, 'c' }, { "seed", required_argument, NULL, 's' },
		{ "row", required_argument, NULL, 'r' }, { "strict", no_argument, NULL, 'S' },
		{ "keep-going", no_argument, NULL, 'k' }, { "verbose", no_argument, NULL, 'v' },
		{ "engine", required_argument, NULL, 'e' },
		{ NULL, 0, NULL, 0 },
	};

	for (int opt; (opt = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		switch (opt) {
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'r': o->row = optarg; break;
		case 'S': o->is_strict = true; break;
		case 'k': o->keep_going = true; break;
		case 'v': o->is_verbose = true; break;
		case 'e':
			o->use_bt = !strcmp(optarg, "bt");
			if (!o->use_bt && strcmp(optarg, "interp"))
				return false;
			break;
		default: return false;
		}
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	struct options o = { .count = 60000, .seed = 1 };
	struct run run = { .o = &o };
	struct timespec t0, t1;
	uint64_t done = 0;

	if (!parse_options(&o, argc, argv)) {
		fprintf(stderr, "usage: cpu_diff [--count N] [--seed S] [--row NAME] [--strict] [--keep-going] [--verbose] "
			"[--engine interp|bt]\n");
		return 2;
	}
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)) {
		printf("this host does not let user mode set FS and GS bases (FSGSBASE)\n");
		return 77;
	}
	if (gen_init(&run.gen, o.row) < 0) {
		fprintf(stderr, "cpu_diff: no testable row is called '%s'\n", o.row);
		return 2;
	}
	run.cases = calloc(DIFF_BATCH, sizeof(*run.cases));
	run.is_reported = calloc(x86_n_rows, 1);
	run.native = mmap(NULL, DIFF_BATCH * sizeof(*run.native), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	run.guest = guest_new(o.use_bt);
	if (!run.cases || !run.is_reported || run.native == MAP_FAILED || !run.guest) {
		fprintf(stderr, "cpu_diff: cannot set up: out of memory\n");
		return 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (done < o.count) {
		unsigned n = o.count - done < DIFF_BATCH ? o.count - done : DIFF_BATCH;

		if (!run_batch(&run, o.seed + done, n))
			break;
		done += n;
	}
	clock_gettime(CLOCK_MONOTONIC, &t1);
	double s = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;

	printf("%" PRIu64 " cases of %u rows, %" PRIu64 " faults, %" PRIu64 " differences, %.0f cases/s\n", done,
	       run.gen.n_rows, run.faults, run.mismatches, (double)done / s);
	guest_free(run.guest);
	gen_fini(&run.gen);
	munmap(run.native, DIFF_BATCH * sizeof(*run.native));
	free(run.is_reported);
	free(run.cases);
	return run.mismatches ? 1 : 0;
}

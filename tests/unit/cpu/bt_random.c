/* SPDX-License-Identifier: Apache-2.0 */
/* Random programs on the translator and on the interpreter: registers, flags, x87, YMM and memory must be
 * the same at the end. Single instructions are compared with a real processor by tests/cpu_diff;
 * this is about what lies between them: where registers and flags are kept, jumps, calls, the cold
 * paths. VIV_PROGRAMS=FIRST,COUNT runs others than the usual ones (with VIV_TEST_TIMEOUT, which many take). */
#include <stdlib.h>
#include <string.h>
#include "cpu/bt/bt_priv.h"
#include "cpu/bt/window.h"
#include "cpu/bt_prog.h"
#include "cpu/bt_stepper.h"
#include "cpu/rig_on_bt.h"
#include "cpu/x86/cpuid.h"
#include "test.h"
#include "util/fatal.h"

enum { N_PROGRAMS = 4000, N_STEPPED = 6 };

static void which_programs(uint64_t *first, uint64_t *count)
{
	const char *which = getenv("VIV_PROGRAMS");
	const char *comma = which ? strchr(which, ',') : NULL;

	*first = which ? strtoull(which, NULL, 0) : 0;
	*count = comma ? strtoull(comma + 1, NULL, 0) : N_PROGRAMS;
}

TEST_SLOW(random_programs_end_as_they_do_on_the_interpreter)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct rig a, b;
	uint64_t features = x86_host_features(), first, count, n_halted = 0;

	which_programs(&first, &count);
	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	prog_map_odd(&a);
	prog_map_odd(&b);
	for (uint64_t i = first; i < first + count; i++) {
		struct prog p;

		prog_make(&p, i, features);
		prog_run(&a, &p);
		prog_run(&b, &p);
		prog_check_host_fp();
		prog_compare(&a, &b, &p);
		n_halted += a.c->s.mp_state == X86_MP_HALTED;
	}
	CHECK(n_halted > count / 4);
	rig_fini(&a);
	rig_fini(&b);
}

/* The same for user code, in windows: what there is of it ends at HLT with #GP. */
TEST_SLOW(random_programs_of_users_end_in_windows_as_they_do_on_the_interpreter)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct rig a, b;
	uint64_t features = x86_host_features(), first, count, n_ended = 0, n_in_window = 0;
	void *stack = fatal_stack_new();

	which_programs(&first, &count);
	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	prog_map_odd(&a);
	prog_map_odd(&b);
	prog_map_far(&a);
	prog_map_far(&b);
	for (uint64_t i = first; i < first + count; i++) {
		struct prog p;

		prog_make_user(&p, i, features);
		prog_run(&a, &p);
		prog_run(&b, &p);
		prog_check_host_fp();
		prog_compare(&a, &b, &p);
		n_ended += a.c->s.rip == prog_end(&p);
		n_in_window += rig_window_frags(&b) && icpu_window_mapped(b.c->space);
		/* Then there is something that it can be opened for. */
		CHECK(i != first || bt_window_now(bt_of(b.c)));
	}
	CHECK(n_ended > count / 2);
	/* Some end at once. */
	CHECK(n_in_window > count - count / 8);
	/* 0, 3 and 4 to 5, 127. */
	CHECK_EQ(b.c->space->window.n_regions, 4);
	rig_fini(&a);
	rig_fini(&b);
	fatal_stack_free(stack);
}

/* Once without, so that code is there and what is stepped through is code. */
static void step_through(struct rig *a, struct rig *b, const struct prog *p, struct stepper *s)
{
	struct icpu_event ev;

	prog_run(b, p);
	for (unsigned n = 0; n < 16; n++)       /* what it has left there */
		memcpy(gmem_ptr(a->mem, RIG_DATA + 4096 * n, 4096), gmem_ptr(b->mem, RIG_DATA + 4096 * n, 4096), 4096);
	prog_set(a, p);
	prog_set(b, p);
	*s = (struct stepper){ .ref = a, .bt = b, .wants_flags = p->style <= STYLE_VEX, .n_exact = s->n_exact, .n_between = s->n_between };
	stepper_run(s, &ev);
}

static void step_through_programs(unsigned n, bool is_user)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	uint64_t features = x86_host_features();
	struct stepper s = { .next = 0 };
	struct rig a, b;

	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	prog_map_odd(&a);
	prog_map_odd(&b);
	prog_map_far(&a);
	prog_map_far(&b);
	for (unsigned i = 0; i < n; i++) {
		struct prog p;

		(is_user ? prog_make_user : prog_make)(&p, i * 97, features);
		if (is_user && !i) {
			prog_run(&b, &p);
			CHECK(bt_window_now(bt_of(b.c)));
		}
		step_through(&a, &b, &p, &s);
		CHECK(!is_user || rig_window_frags(&b));
		if (s.wrong[0])
			FAIL("program %u: %s", i * 97, s.wrong);
	}
	/* Most of them are. */
	CHECK(s.n_exact > s.n_between);
	rig_fini(&a);
	rig_fini(&b);
}

TEST_SLOW(each_host_instruction_is_described_as_the_interpreter_is_there)
{
	step_through_programs(N_STEPPED, false);
}

TEST_SLOW(each_host_instruction_in_a_window_is_described_as_the_interpreter_is_there)
{
	void *stack = fatal_stack_new();

	step_through_programs(N_STEPPED, true);
	fatal_stack_free(stack);
}

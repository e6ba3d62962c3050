/* SPDX-License-Identifier: Apache-2.0 */
/* Random programs on the translator and on the interpreter: registers, flags, x87, YMM and memory must be
 * the same at the end. Single instructions are compared with a real processor by tests/cpu_diff;
 * this is about what lies between them: where registers and flags are kept, jumps, calls, the cold
 * paths. VIV_PROGRAMS=FIRST,COUNT runs others than the usual ones (with VIV_TEST_TIMEOUT, which many take). */
#include <stdlib.h>
#include <string.h>
#include "cpu/bt_prog.h"
#include "cpu/bt_stepper.h"
#include "cpu/x86/cpuid.h"
#include "test.h"

enum { N_PROGRAMS = 4000, N_STEPPED = 6 };

TEST_SLOW(random_programs_end_as_they_do_on_the_interpreter)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	struct rig a, b;
	uint64_t features = x86_host_features();
	const char *which = getenv("VIV_PROGRAMS");
	uint64_t first = which ? strtoull(which, NULL, 0) : 0, n_halted = 0;
	const char *comma = which ? strchr(which, ',') : NULL;
	uint64_t count = comma ? strtoull(comma + 1, NULL, 0) : N_PROGRAMS;

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

/* Once without, so that code is there and what is stepped through is code. */
TEST_SLOW(each_host_instruction_is_described_as_the_interpreter_is_there)
{
	static const struct rig_engine interp = { &cpu_interp, interp_step, true };
	uint64_t features = x86_host_features();
	struct stepper s = { .next = 0 };
	struct rig a, b;

	rig_init_on(&a, &interp, 1);
	rig_init(&b, 1);
	prog_map_odd(&a);
	prog_map_odd(&b);
	for (unsigned i = 0; i < N_STEPPED; i++) {
		struct icpu_event ev;
		struct prog p;

		prog_make(&p, i * 97, features);
		prog_run(&b, &p);
		for (unsigned n = 0; n < 16; n++)       /* what it has left there */
			memcpy(gmem_ptr(a.mem, RIG_DATA + 4096 * n, 4096), gmem_ptr(b.mem, RIG_DATA + 4096 * n, 4096), 4096);
		prog_set(&a, &p);
		prog_set(&b, &p);
		s = (struct stepper){ .ref = &a, .bt = &b, .wants_flags = p.style <= STYLE_VEX, .n_exact = s.n_exact, .n_between = s.n_between };
		stepper_run(&s, &ev);
		if (s.wrong[0])
			FAIL("program %u: %s", i * 97, s.wrong);
	}
	/* Most of them are. */
	CHECK(s.n_exact > s.n_between);
	rig_fini(&a);
	rig_fini(&b);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* bt_stepper.h - stop translated code at each of its host instructions and compare what bt_describe() says of the
 * guest there with the interpreter, which is taken along. The calling thread's SIGTRAP and signal stack are used. */
#ifndef TESTS_UNIT_CPU_BT_STEPPER_H
#define TESTS_UNIT_CPU_BT_STEPPER_H

#include "cpu/interp_rig.h"

struct stepper {
	struct rig *ref, *bt;           /* the same program at its beginning; REF on the interpreter */
	/* Compare flags too. After a control word that unmasks something, flags that were dead in the fragment that it
	 * leaves may count as live in the next, and be older ones. */
	bool wants_flags;
	unsigned n_exact, n_between;    /* host instructions where the guest's state was exact, and where not */
	uint32_t next;                  /* where it was said to be exact again; 0: nowhere */
	char wrong[160];                /* what differed first; empty: nothing */
};

/* As bt_run_to_fault(S->bt). */
int stepper_run(struct stepper *s, struct icpu_event *fault);

#endif

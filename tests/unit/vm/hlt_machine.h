/* SPDX-License-Identifier: Apache-2.0 */
/* hlt_machine.h - a whole machine for tests: the interpreter runs a kernel of a few bytes. */
#ifndef TESTS_UNIT_VM_HLT_MACHINE_H
#define TESTS_UNIT_VM_HLT_MACHINE_H

#include "vm/config.h"
#include "vm/machine.h"

struct loop;

struct hlt_machine {
	char dir[32];                   /* of the kernel; free for the test's own files */
	struct config cfg;
	struct loop *loop;
	struct machine *m;
};

/* A kernel that adds 1 to RAM at HLT_COUNTER and writes to the debug port, for ever. */
#define HLT_COUNTER 0x200000u

/* Make the kernel and the configuration: 16 MiB, one processor. Change cfg, then build. */
void hlt_machine_init(struct hlt_machine *h);
void hlt_machine_build(struct hlt_machine *h);
void hlt_machine_fini(struct hlt_machine *h);   /* removes the folder if the test has emptied it */
/* Run the loop until FN(ARG) is true; the case fails after 5 s. */
void hlt_machine_run_until(struct hlt_machine *h, bool (*fn)(void *arg), void *arg);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu.h - the threads that run processors: start, pause, resume, end.
 *
 * States and edges are drawn in docs/design/threads.md. All calls come from one controlling
 * thread (the loop's), which holds no lock that a guest access may need. */
#ifndef VM_VCPU_H
#define VM_VCPU_H

#include <stdbool.h>
#include <stdint.h>
#include "cpu/cpu.h"
#include "util/cleanup.h"
#include "util/err.h"

struct vcpus;

struct vcpus_config {
	unsigned n;
	const struct cpu_ops *ops;
	struct cpu_vm *vm;              /* borrowed */
	/* On each thread before it runs for the first time; what fails is CPU_EXIT_ERROR. NULL: nothing to do. */
	int (*begin)(struct err *err);
	/* Processor CPU cannot go on: CPU_EXIT_SHUTDOWN, or CPU_EXIT_ERROR with its sentence. On
	 * the vcpu's thread, which then waits for vcpus_resume() or the end. */
	void (*stuck)(void *arg, unsigned cpu, enum cpu_exit_reason why, const struct err *err);
	void *arg;
};

/* Create the threads, paused. */
int vcpus_new(struct vcpus **out, const struct vcpus_config *cfg, struct err *err);
void vcpus_free(struct vcpus *v);               /* ends and joins the threads; NULL is fine */
DEFINE_AUTO(struct vcpus *, vcpus_free)

/* While paused, and if wished: the threads do now what else comes before they first enter the engine (BEGIN). Does not wait for it. */
void vcpus_get_ready(struct vcpus *v);
/* Returns when no processor executes. Already paused: nothing happens. */
void vcpus_pause(struct vcpus *v);
void vcpus_resume(struct vcpus *v);

/* Why processors that may run do not for a while, whoever pauses and resumes them meanwhile; bits. */
enum vcpus_rest { VCPUS_REST_MIGRATION = 1, VCPUS_REST_LIMIT = 2 };
/* Returns when none executes, if ON. They go on when nothing makes them rest. */
void vcpus_rest(struct vcpus *v, enum vcpus_rest why, bool on);
/* Each asks for short turns of the host's processors while ON, from the next time on that it enters the engine: thread_be_prompt(). So
 * one that is to stop does soon. */
void vcpus_be_prompt(struct vcpus *v, bool on);
/* Host time that the threads have used so far. */
uint64_t vcpus_cpu_ns(const struct vcpus *v);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* vcpu.h - the threads that run processors: start, pause, resume, end.
 *
 * States and edges are drawn in docs/design/threads.md. All calls come from one controlling
 * thread (the loop's), which holds no lock that a guest access may need. */
#ifndef VM_VCPU_H
#define VM_VCPU_H

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

/* Returns when no processor executes. Already paused: nothing happens. */
void vcpus_pause(struct vcpus *v);
void vcpus_resume(struct vcpus *v);

#endif

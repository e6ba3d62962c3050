/* SPDX-License-Identifier: Apache-2.0 */
/* work.h - jobs that take long or wait for disks, on threads beside the loop: a few at a time, the rest in line. */
#ifndef NODE_WORK_H
#define NODE_WORK_H

#include <stdbool.h>
#include "util/cleanup.h"
#include "util/err.h"

struct loop;
struct works;

enum { WORK_THREADS = 4 };      /* at most */

/* With THREADS of them. With one, jobs are done in the order in which they were begun. */
int works_new(struct works **out, struct loop *l, unsigned threads, struct err *err);
/* Waits for those that run; those in line are not begun, and their DONE is called with -ECANCELED. NULL is fine. */
void works_free(struct works *ws);
DEFINE_AUTO(struct works *, works_free)

/* Nothing more is begun. False: some still run after so long, as what they wait for does not answer: then the works and all that jobs use
 * have to stay until the process ends. NULL is fine: true. */
bool works_stop(struct works *ws, unsigned patience_ms);

/* Waits until all jobs have ended, those in line and those that their DONE begins included. NULL is fine. */
void works_drain(struct works *ws);

/* RUN(ARG) on another thread, then DONE(ARG, what it returned, its sentence) on the loop thread. Between the two ARG
 * belongs to RUN. -ENOMEM, -ECANCELED (the daemon ends): neither is called. */
int work_start(struct works *ws, int (*run)(void *arg, struct err *err),
	       void (*done)(void *arg, int r, const struct err *err), void *arg);

#endif

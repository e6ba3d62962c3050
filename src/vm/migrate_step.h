/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_step.h - a thread that talks to the other side of a migration has work done on the loop thread, and waits
 * for it. */
#ifndef VM_MIGRATE_STEP_H
#define VM_MIGRATE_STEP_H

#include <pthread.h>
#include <stdbool.h>
#include "util/err.h"

struct loop;

struct migrate_steps {
	struct loop *loop;
	pthread_mutex_t lock;           /* guards the rest */
	pthread_cond_t changed;
	bool is_done, is_over;
	struct err err;                 /* of the step; code 0: it succeeded */
	void (*fn)(void *arg);
	void *arg;
};

void migrate_steps_init(struct migrate_steps *s, struct loop *loop);
void migrate_steps_fini(struct migrate_steps *s);
/* On the thread: FN(ARG) on the loop thread, which ends in migrate_step_done(), at once or later. -ECANCELED after
 * migrate_steps_end(). */
int migrate_step(struct migrate_steps *s, void (*fn)(void *arg), void *arg, struct err *err);
/* On the loop thread; ERR NULL: it succeeded. */
void migrate_step_done(struct migrate_steps *s, const struct err *err);
/* On the loop thread: whoever waits waits no more. */
void migrate_steps_end(struct migrate_steps *s);

#endif

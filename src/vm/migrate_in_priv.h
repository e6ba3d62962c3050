/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_in_priv.h - the destination of a migration, for migrate_in.c (the protocol), migrate_in_steps.c (what is done to the machine) and
 * migrate_in_again.c (post-copy, over as many connections as it takes). */
#ifndef VM_MIGRATE_IN_PRIV_H
#define VM_MIGRATE_IN_PRIV_H

#include "util/err.h"
#include "vm/migrate.h"
#include "vm/migrate_link.h"
#include "vm/migrate_mem.h"
#include "vm/migrate_post.h"
#include "vm/migrate_sides.h"
#include "vm/migrate_step.h"

enum { INCOMING_HELLO_MS = 5000 };

struct incoming {
	struct migrate_link link;       /* the thread's, once there is one */
	struct migrate_sides sides;     /* the same */
	uint64_t ram;                   /* as announced */
	struct machine *m;
	pid_t helper;                   /* who speaks TLS; 0: nobody has to */
	struct migrate_steps steps;
	struct migrate_receiver receiver;
	struct state_file *state;       /* has come; NULL: not yet */
	struct nbd_server *disk[MIGRATE_DISKS_MAX];     /* that come along, until they have; the loop thread's */
	int life;                       /* the end of a pipe that no other process has; the source has the other */
	int listener, uffd;             /* post-copy: for new connections, for migrate_fill_init(); else -1 */
	struct migrate_fill fill;       /* zeroed: no memory comes later */
	pthread_mutex_t swap_lock;      /* held while link is replaced; guards is_cancelled */
	bool is_cancelled;
	bool runs;                      /* the loop thread's, or after a step */
	pthread_t thread;
	bool has_steps, has_thread;
	struct err err;                 /* how it ended; code 0: well */
};

/* --- migrate_in_steps.c: the loop thread, ARG is the incoming --- */
/* The machine is there: what comes of its disks may come. */
void incoming_step_serve(void *arg);
/* Take the state. Unless memory is owed, READY is said, and if the source answers at once incoming_step_run() is done as well: then RUNS is
 * true afterwards. */
void incoming_step_load(void *arg);
/* After COMMIT: take the disks, say DONE, run. */
void incoming_step_run(void *arg);
/* The thread has no more to say. */
void incoming_step_end(void *arg);

/* --- migrate_in_again.c: the thread --- */
/* It runs. Until all of its memory is here, over as many connections as that takes. */
int incoming_fill(struct incoming *in, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_sides.h - the further connections of a destination, which carry guest memory only, each with a thread, and those of disks.
 *
 * They are accepted before there is a machine, by the thread that talks to the source, which all calls here are made by. The
 * peers are hostile: who does not say the token that the source has sent over the first connection is turned away. */
#ifndef VM_MIGRATE_SIDES_H
#define VM_MIGRATE_SIDES_H

#include <pthread.h>
#include "util/err.h"
#include "vm/migrate_mem.h"

struct migrate_side {
	struct migrate_link link;
	struct migrate_receiver receiver;
	struct migrate_link *first;     /* borrowed: who waits there is woken when this one fails */
	struct err err;                 /* how it ended; the thread's until it is joined */
	pthread_t thread;
	bool has_thread;
};

struct migrate_sides {
	struct migrate_plan plan;
	unsigned n;                     /* further connections */
	struct migrate_side side[MIGRATE_STREAMS_MAX - 1];
	unsigned n_disks;               /* of the machine, if any come; else 0 */
	struct migrate_disk_row disk[MIGRATE_DISKS_MAX];
	int disk_fd[MIGRATE_DISKS_MAX]; /* connection of each that comes, owned; else -1 */
};

void migrate_sides_init(struct migrate_sides *s);
/* What a record PLAN has. -EPROTO. */
int migrate_sides_plan(struct migrate_sides *s, const struct migrate_record *rec, struct err *err);
/* What a record DISKS has. -EPROTO. */
int migrate_sides_disks(struct migrate_sides *s, const struct migrate_record *rec, struct err *err);
/* Take them from LISTENER, which is owned by the caller, and all of which the source has made already. -ETIMEDOUT. */
int migrate_sides_accept(struct migrate_sides *s, int listener, struct err *err);
/* Forget the connections: as many as post-copy needs will come again, with the same token. */
void migrate_sides_again(struct migrate_sides *s);
/* Put what comes into MEM. FIRST is the first connection: when a further one fails, nothing comes there any more. */
int migrate_sides_start(struct migrate_sides *s, struct gmem *mem, struct migrate_link *first, struct err *err);
/* Wait until all have said END, or one has failed: why. */
int migrate_sides_wait(struct migrate_sides *s, struct err *err);
/* Any thread: all calls fail from now on. */
void migrate_sides_cancel(struct migrate_sides *s);
void migrate_sides_fini(struct migrate_sides *s);       /* ends the threads */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_disks.h - disks that go along with a machine: each is mirrored (blk/job.h) to its image at the destination, which is an NBD
 * server for it, over a connection of its own.
 *
 * At the source a thread talks to the other side, jobs are the loop thread's. A disk is the source's until the destination runs;
 * until then nothing is written there that the guest has not written. */
#ifndef VM_MIGRATE_DISKS_H
#define VM_MIGRATE_DISKS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include "blk/job.h"
#include "util/err.h"
#include "vm/migrate_format.h"
#include "vm/migrate_link.h"

struct config;
struct machine;
struct migrate_lanes;
struct nbd_server;

/* --- source --- */

enum migrate_disk_state { MIGRATE_DISK_NONE, MIGRATE_DISK_COPIES, MIGRATE_DISK_READY, MIGRATE_DISK_ENDED };

struct migrate_disks {
	struct machine *m;
	unsigned n;                     /* that go along; 0: all are shared, and the rest is unused */
	unsigned disk[MIGRATE_DISKS_MAX];       /* which */
	struct migrate_link link[MIGRATE_DISKS_MAX];    /* their connections */
	_Atomic uint64_t done, total;   /* bytes, of all */
	/* loop thread */
	enum migrate_disk_state state[MIGRATE_DISKS_MAX];
	uint64_t disk_done[MIGRATE_DISKS_MAX], disk_total[MIGRATE_DISKS_MAX];
	bool is_completing;             /* a job that completes does so because we want it */
	pthread_mutex_t lock;           /* guards the rest */
	pthread_cond_t changed;
	unsigned n_ready, n_live;       /* jobs */
	bool is_cancelled, is_over;     /* by the user; because the machine is about to go */
	struct err err;                 /* of the first that failed */
};

/* NAMES as in the options of a migration, or NULL. -ENOENT, -EROFS, -EINVAL. */
int migrate_disks_init(struct migrate_disks *d, struct machine *m, const char *names, struct err *err);
void migrate_disks_fini(struct migrate_disks *d);       /* zeroed is fine */
/* How many disks NAMES names. */
unsigned migrate_disks_count(const char *names);
/* Does disk I of the machine go along? */
bool migrate_disks_has(const struct migrate_disks *d, unsigned i);
/* FD: their connections, taken. */
void migrate_disks_take(struct migrate_disks *d, const int *fd);
/* The thread, after PLAN: say over FIRST what disks there are, and JOIN on each connection. */
int migrate_disks_announce(struct migrate_disks *d, const struct migrate_lanes *lanes, struct migrate_link *first, struct err *err);
/* The loop thread: begin to copy; DONE(ARG, ERR) once, perhaps from inside, and not at all when the machine ends before: ERR NULL when it has begun. */
void migrate_disks_start(struct migrate_disks *d, uint64_t bandwidth, void (*done)(void *arg, const struct err *err), void *arg);
/* The loop thread: all together are to take BANDWIDTH, 0: no limit. */
void migrate_disks_set_bandwidth(struct migrate_disks *d, uint64_t bandwidth);
/* The loop thread, when all are ready: the guest's writes end when the destination has them, too. */
void migrate_disks_follow(struct migrate_disks *d);
/* The loop thread, when the guest stands still: bring over the rest, and end. */
int migrate_disks_complete(struct migrate_disks *d, struct err *err);
/* The loop thread: end, whatever is missing. */
void migrate_disks_stop(struct migrate_disks *d);
/* The thread: wait until all are ready, or have ended, while the other side is told over FIRST that we are here. Fails when one
 * has failed, or the other side says something. */
int migrate_disks_wait_ready(struct migrate_disks *d, struct migrate_link *first, struct err *err);
int migrate_disks_wait_complete(struct migrate_disks *d, struct migrate_link *first, struct err *err);
/* The thread, after migrate_disks_stop(): until none is left. */
void migrate_disks_wait_gone(struct migrate_disks *d);
/* Any thread: who waits waits no more, and no connection is of use. */
void migrate_disks_cancel(struct migrate_disks *d);
/* The same, and jobs have been ended without a word: nobody waits for them. */
void migrate_disks_abandon(struct migrate_disks *d);
/* The loop thread: of one of them? *MORE: bytes that have been copied since. */
bool migrate_disks_told(struct migrate_disks *d, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why,
			uint64_t *more);
/* Why one failed; code 0: none has. Any thread. */
struct err migrate_disks_why(struct migrate_disks *d);

/* --- destination --- */

/* Rows of what comes, N of them, against the machine's configuration; see incoming_take_disks(). */
int migrate_disks_match(struct config *c, const struct migrate_disk_row *row, unsigned n, struct err *err);
/* The loop thread: serve what comes over the connections FD, which are taken. SERVER: MIGRATE_DISKS_MAX, zeroed. */
int migrate_disks_serve(struct nbd_server **server, struct machine *m, const struct migrate_disk_row *row, unsigned n, int *fd,
			struct err *err);
/* The loop thread: no more comes; all is on its disk. */
int migrate_disks_settle(struct nbd_server **server, struct machine *m, struct err *err);
/* The loop thread: the same, and nobody minds. */
void migrate_disks_drop(struct nbd_server **server);

#endif

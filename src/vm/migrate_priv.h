/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_priv.h - the source of a migration, for migrate_out.c (the protocol) and migrate_end.c (how it ends). */
#ifndef VM_MIGRATE_PRIV_H
#define VM_MIGRATE_PRIV_H

#include "vm/machine_priv.h"
#include "vm/migrate.h"
#include "vm/migrate_disks.h"
#include "vm/migrate_link.h"
#include "vm/migrate_lanes.h"
#include "vm/migrate_step.h"
#include "vm/quiesce.h"
#include "vm/state_file.h"
#include "vm/throttle.h"

/* What goes along with the state and no saved machine has. */
#define MIGRATE_TAG "migration"
struct migrate_saved {
	uint8_t is_paused;              /* by its user */
};
extern const struct state_desc migrate_saved_desc;

enum migration_phase {
	MIGRATION_CONNECTING, MIGRATION_DISKS, MIGRATION_MEMORY, MIGRATION_HANDOVER, MIGRATION_IN_DOUBT,
	MIGRATION_POSTCOPY,             /* it runs there, some of its memory is still here */
	MIGRATION_CUT,                  /* the same, and the connection broke */
	MIGRATION_N_PHASES
};

/* Is the guest still to be had back? Decided once, by whoever is first. */
enum migration_fate {
	MIGRATION_OPEN,
	MIGRATION_CANCELLED,
	MIGRATION_COMMITTED,            /* COMMIT may have been sent: the other side may run */
};

/* The parts of the pause end at these; quiesce.start_ns is where it begins, done_ns where it ends. */
enum migration_moment { MOMENT_STOPPED, MOMENT_SAVED, MOMENT_SENT, MOMENT_READY, MIGRATION_MOMENTS };

/* Of a disk, when the guest had stopped writing. */
struct migrate_disk {
	int64_t size, mtime_s, mtime_ns;
};

struct migration {
	struct machine *m;
	struct migrate_options o;
	pthread_t thread;
	bool has_thread;
	struct migrate_steps steps;
	struct migrate_link link;       /* the thread's */
	struct migrate_lanes lanes;
	struct migrate_disks disks;     /* that go along */
	struct err err;                 /* how talking ended; code 0: well */
	_Atomic enum migration_phase phase;
	_Atomic unsigned rounds;
	_Atomic uint64_t bandwidth, pause_ns;   /* o's, which the user may change meanwhile, and the next two */
	_Atomic unsigned throttle_max;
	_Atomic bool may_throttle;
	/* post-copy */
	_Atomic bool wants_post;        /* the user does, now */
	_Atomic uint64_t *owed, n_owed; /* a bit for each page that only we have, while the machine runs there */
	_Atomic uint64_t done_ns;       /* when the other side said that it runs; 0: it has not */
	pthread_t server;
	bool has_server;                /* the thread's */
	struct err server_err;
	uint64_t sent_before;           /* bytes over connections that broke */
	int life;                       /* a pipe that closes when the process at the other side ends, or gives up; -1: not known */
	/* the loop thread's, or while it waits for a step */
	struct state_sections identity, sections;
	struct quiesce quiesce;
	struct throttle throttle;
	unsigned throttle_wanted;       /* the thread's */
	uint64_t moment_ns[MIGRATION_MOMENTS];  /* whoever is there sets it; 0: not yet */
	uint64_t pages_in_pause;        /* sent in it */
	struct migrate_disk disk[CONFIG_DISKS_MAX];
	bool is_logging;
	bool has_locks;                 /* of disks, which are to be released with COMMIT */
	_Atomic enum migration_fate fate;
	uint64_t start_ns;
};

void migration_free(struct migration *g);
DEFINE_AUTO(struct migration *, migration_free)

/* Any thread: make it TO, MIGRATION_CANCELLED or MIGRATION_COMMITTED. False: it is the other. */
bool migration_decide(struct migration *g, enum migration_fate to);
bool migration_is_committed(const struct migration *g);

/* --- migrate_rounds.c: the thread --- */
/* Send memory until what is left fits into the pause: 0. 1: it is to go when it runs there. */
int migrate_rounds(struct migration *g, struct err *err);

/* --- migrate_end.c --- */
/* On the loop thread, when the thread has no more to say. */
void migrate_ended(void *migration);
/* Whoever talks to the other side talks no more. Any thread. */
void migrate_cut(struct migration *g);
/* Tell who asked for progress; loop thread. */
void migrate_report(struct migration *g);
/* Are there locks of disks that the other side will want? */
bool migrate_has_locks(const struct migration *g);
/* Remember what the disks are like now. */
void migrate_note_disks(struct migration *g);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* migrate.h - a running machine goes to another process, here or on another host.
 *
 * docs/formats/migration.md has the protocol, and why at every moment at most one of the two runs. A thread
 * talks to the other side; everything declared here is the loop thread's, except what says otherwise. */
#ifndef VM_MIGRATE_H
#define VM_MIGRATE_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/job.h"
#include "util/cleanup.h"
#include "vm/migrate_format.h"

struct err;
struct handed;
struct loop;
struct machine;
struct state_file;

/* --- addresses: "tcp:HOST:PORT", "unix:PATH", "fd:N" --- */

/* A connected socket. */
int migrate_connect(const char *address, struct err *err);
/* A listening socket; *IS_CONNECTED: it is "fd:N", which need not be listened on. What it is called goes with
 * migrate_unlisten(). */
int migrate_listen(const char *address, bool *is_connected, struct err *err);
void migrate_unlisten(const char *address);
/* Wait for one that connects, or comes from what migrate_tls_listen() gave. */
int migrate_accept(int listener, struct err *err);

/* The host of "tcp:HOST:PORT", to be freed. NULL: ADDRESS names none, or is none. */
char *migrate_host(const char *address, struct err *err);

/* --- source --- */

/* What a pause was spent with, in this order; nanoseconds by the source's clock. */
struct migrate_pause {
	uint64_t stop_ns;       /* processors leave the guest, requests of devices end, disks are written back and their copies end */
	uint64_t state_ns;      /* the state of devices and processors is put together */
	uint64_t memory_ns;     /* it is sent, behind the rest of memory */
	uint64_t load_ns;       /* until the other side says that it has taken all in */
	uint64_t start_ns;      /* the locks of disks change hands; until the other side says that it runs */
	uint64_t memory;        /* bytes of RAM that were sent in it */
};

struct migrate_result {
	uint64_t total_ns, pause_ns;    /* of all; that the guest stood still, as the source knows it */
	struct migrate_pause pause;     /* what the second is made of; zeroes while it is under way, or where it did not get to */
	uint64_t sent;                  /* bytes over the connection */
	uint64_t pages, zero_pages;     /* of 4 KiB; those that were nothing but zeroes */
	unsigned rounds;
};

enum { MIGRATE_PAUSE_MS = 100, MIGRATE_PAUSE_MAX_MS = 60000 };

struct migrate_options {
	int fd[MIGRATE_SOCKETS_MAX];    /* connected stream sockets to one place; taken on success */
	unsigned n_fds;                 /* at least 1, and one for each of DISKS, the last ones */
	const char *disks;              /* "NAME,NAME": writable disks that go along; borrowed; NULL: none */
	enum migrate_packing packing;
	uint64_t bandwidth;             /* bytes per second while the guest runs; 0: as much as there is */
	uint64_t pause_ns;              /* the longest that the guest is to stand still */
	struct handed *hands;           /* an upgrade: what else goes along, descriptors borrowed; owned on success; NULL:
					 * nothing */
	bool may_throttle;              /* slow the guest down when it writes faster than the connection takes */
	unsigned throttle_max;          /* percent of the time that processors rest, at most; to THROTTLE_MAX */
	bool may_postcopy;              /* it may run there before all of its memory is there; needs two connections */
	unsigned postcopy_after;        /* rounds; 0: only after migration_start_postcopy() */
	/* Once. ERR NULL: it runs at the other side, and this machine ends. -EINPROGRESS: nobody knows; it stands still
	 * here until migration_resume(). Else it goes on here. */
	void (*done)(void *arg, const struct migrate_result *result, const struct err *err);
	void (*progress)(void *arg);    /* what migration_get_progress() tells has changed, before DONE; NULL: nobody asks */
	void *arg;
};

/* -EBUSY: it is being saved or migrated already; -ENOTSUP: this machine cannot be. */
int migration_start(struct machine *m, const struct migrate_options *o, struct err *err);
/* What may be changed while it is under way. -EALREADY: it has been handed over; -ENOENT. */
struct migrate_changes {
	bool has_bandwidth, has_pause, has_throttle, has_throttle_max;
	uint64_t bandwidth, pause_ns;   /* as in the options */
	bool may_throttle;
	unsigned throttle_max;
};
int migration_change(struct machine *m, const struct migrate_changes *c, struct err *err);
/* Let it run there at once, whatever memory is still here. -ENOTSUP: that was not allowed for; -EALREADY, -ENOENT. */
int migration_start_postcopy(struct machine *m, struct err *err);
/* A connection broke while memory was still here, and DONE of the options was told -EINPROGRESS: go on over the two connections FD to the
 * same destination, taken on success. DONE and the rest as in the options. -ENOENT: nothing is cut off. */
int migration_recover(struct machine *m, const struct migrate_options *o, struct err *err);
/* The machine goes on here. -EALREADY: too late; -ENOENT: there is none. */
int migration_cancel(struct machine *m, struct err *err);
/* After -EINPROGRESS: the user knows that it does not run at the other side. 0, also when there is nothing to do. */
int migration_resume(struct machine *m, struct err *err);

struct migrate_progress {
	const char *phase;              /* "none", "connecting", "disks", "memory", "handover", "in doubt", "post-copy", "cut off" */
	struct migrate_result so_far;
	uint64_t left;                  /* bytes of RAM of this round, or that are not at the other side yet */
	uint64_t bandwidth, pause_ns;   /* the limits as they are */
	unsigned streams;
	unsigned throttle;              /* percent of the time that processors rest */
	unsigned n_disks;               /* that go along */
	uint64_t disks_done, disks_total;       /* bytes of them that have been copied, that there are to copy so far */
};
void migration_get_progress(const struct machine *m, struct migrate_progress *out);
/* Something of a job of the machine's: has the migration started it? */
bool migration_job_told(struct machine *m, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why);
/* Is there one, whose end can be waited for? One that is in doubt, or whose machine runs at the other side, ends when somebody decides. */
bool migration_will_end(const struct machine *m);
/* The machine is about to go. */
void migration_abandon(struct machine *m);

/* --- destination --- */

struct incoming;

/* Wait at ADDRESS for a source and learn what machine comes: *MACHINE (owned) is its identity, for config_take().
 * TLS: how it is to be greeted; NULL: not at all. *IS_OWN: the source is this user's process on this host. */
struct migrate_tls;
int incoming_open(struct incoming **out, const char *address, const struct migrate_tls *tls, struct state_file **machine,
		  bool *is_own, struct err *err);
/* In the process that the machine will be in, before its jail: it may not be the one that has waited, and watches its own memory only. */
int incoming_settle(struct incoming *in, struct err *err);
/* The number of the process that speaks TLS for it; 0: there is none. */
pid_t incoming_helper(const struct incoming *in);
/* After incoming_open(), in an upgrade: what else comes. The descriptors are the caller's. */
int incoming_take_hands(struct incoming *in, struct handed *h, struct err *err);
/* Does it listen until all of the machine's memory is there, for post-copy? */
bool incoming_listens(const struct incoming *in);
/* C is the machine that comes, as it is to be here: are its disks those of the source? Those that come are marked, and made if
 * they are to be and are not there. */
struct config;
int incoming_take_disks(const struct incoming *in, struct config *c, struct err *err);
/* Tell the source, if it waits, why nothing comes of it. */
void incoming_refuse(struct incoming *in, const struct err *err);
/* M has been built. A thread takes memory and state; then M starts, or gives up. */
int incoming_start(struct incoming *in, struct machine *m, struct loop *loop, struct err *err);
/* The machine is about to go: the thread ends. NULL is fine, here and below. */
void incoming_cancel(struct incoming *in);
/* After that: the machine runs without all of its memory, for which its processors may be waiting. It cannot be stopped, only ended. */
bool incoming_is_owed(const struct incoming *in);
void incoming_close(struct incoming *in);
DEFINE_AUTO(struct incoming *, incoming_close)

#endif

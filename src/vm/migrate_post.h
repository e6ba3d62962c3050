/* SPDX-License-Identifier: Apache-2.0 */
/* migrate_post.h - post-copy: the guest runs at the destination before all of its memory is there. */
#ifndef VM_MIGRATE_POST_H
#define VM_MIGRATE_POST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/err.h"
#include "vm/migrate_link.h"
#include "vm/migrate_mem.h"

struct huge;
struct lazy;
struct migration;

/* Both sides: say which of N words of 64 pages have bits set. */
int migrate_post_tell(struct migrate_link *l, uint64_t (*word)(const void *arg, uint64_t n), const void *arg, uint64_t n,
		      struct err *err);

/* --- source: the migration's thread, but for the guest that stands still here --- */

/* What has not been sent is owed from now on. */
int migrate_post_take(struct migration *g, struct err *err);
/* Before STATE: say what, ... */
int migrate_post_announce(struct migration *g, struct err *err);
/* ... and begin to answer requests. migrate_post_end() undoes it. */
int migrate_post_serve(struct migration *g, struct err *err);
void migrate_post_end(struct migration *g);
/* After DONE: send it, until the other side says that it has all. */
int migrate_post_push(struct migration *g, struct err *err);
/* Loop thread, ARG is the migration: it runs there. */
void migrate_step_post(void *arg);
/* Over new connections: learn what the other side is owed, and begin to answer. */
int migrate_post_again(struct migration *g, struct err *err);

/* --- destination: the thread that talks, except what says otherwise --- */

struct migrate_fill {
	struct lazy *lazy;              /* owned */
	struct migrate_receiver first, second;  /* of the two connections */
	pthread_t asker, taker;         /* who asks for pages, who takes those that were asked for */
	bool has_asker, has_taker;
	pthread_mutex_t lock;           /* guards the rest */
	pthread_cond_t changed;
	struct migrate_link *pages;     /* the second connection, borrowed; NULL: it is broken */
	struct migrate_link *talk;      /* the first, borrowed */
	bool asks_again;                /* for all that was asked for and has not come */
	bool is_ending;
	bool is_loading;                /* the machine takes its state: nobody else can give it up */
	bool is_given_up;               /* because WHY came meanwhile */
	struct err why;                 /* the second connection has ended */
};

/* FD: of lazy_open(); taken, also on failure. */
int migrate_fill_init(struct migrate_fill *f, struct gmem *mem, struct huge *huge, int fd, struct err *err);
void migrate_fill_fini(struct migrate_fill *f);         /* zeroed is fine */
/* What a record OWED says. */
int migrate_fill_owe(struct migrate_fill *f, const struct migrate_record *rec, struct err *err);
/* All memory that comes before has come: from now on who touches what is owed waits for it. */
int migrate_fill_start(struct migrate_fill *f, struct err *err);
/* Ask and take over the connection PAGES, until migrate_fill_run() returns or migrate_fill_disconnect() is called. */
int migrate_fill_connect(struct migrate_fill *f, struct migrate_link *talk, struct migrate_link *pages, struct err *err);
void migrate_fill_disconnect(struct migrate_fill *f);
/* Before the machine takes its state, and after: what it needs for that may be owed, and it must not wait for a source that has gone. Then
 * the memory is zeroes, and migrate_fill_loaded() says why it must not run. */
void migrate_fill_load(struct migrate_fill *f);
int migrate_fill_loaded(struct migrate_fill *f, struct err *err);
/* Take what comes over the first connection until all is there; else why it broke. */
int migrate_fill_run(struct migrate_fill *f, struct err *err);
/* Any thread: calls under way fail, and threads end. */
void migrate_fill_cancel(struct migrate_fill *f);
/* Say what is owed. While disconnected. */
int migrate_fill_tell(struct migrate_fill *f, struct migrate_link *l, struct err *err);

#endif

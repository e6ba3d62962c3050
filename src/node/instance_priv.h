/* SPDX-License-Identifier: Apache-2.0 */
/* instance_priv.h - one instance, as its files share it: instance.c decides, instance_run.c starts and talks to
 * the machine, instance_disk.c makes and removes its files. */
#ifndef NODE_INSTANCE_PRIV_H
#define NODE_INSTANCE_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "node/console_hub.h"
#include "node/controller.h"
#include "node/doc.h"
#include "node/instance.h"
#include "node/node.h"
#include "node/process.h"
#include "node/usage.h"
#include "node/vmm.h"
#include "util/err.h"
#include "util/loop.h"

/* Where the machine is, as far as the daemon has seen. */
enum phase {
	PHASE_UNKNOWN,          /* a process may be there from before */
	PHASE_DOWN,             /* there is none */
	PHASE_DISK,             /* its disk is being made, or its directory prepared, by a worker */
	PHASE_STARTING,         /* a process, which does not answer yet */
	PHASE_UP,               /* it answers */
	PHASE_REMOVING,         /* its files are being removed, by a worker, or have been */
};

/* What the next start of a machine is. */
enum instance_memory {
	MEMORY_NONE,            /* it boots */
	MEMORY_OWN,             /* it goes back to its own memory */
	MEMORY_COPY,            /* it goes on from the memory of another, as a copy */
};

struct instance {
	struct controlled c;            /* first */
	char *dir, *run_dir;            /* DATA/instances/UID and RUN/i/UID */
	char pool[DOC_NAME_MAX + 1];    /* of its first disk */
	enum phase phase;
	struct process proc;
	struct vmm *vmm;
	struct instance_metadata *metadata;     /* on networks of its own; NULL: not now */
	struct console_hub *console;
	bool is_prepared;               /* for the next start */
	bool has_disk;                  /* a worker has seen it, of one in another pool than the daemon's own */
	bool has_answered;              /* this process has, on its control socket */
	bool is_paused;                 /* the machine */
	_Atomic bool has_asked;         /* pause, resume: the answer has not come. Workers look, too */
	bool is_stopping;               /* the power button was pressed */
	bool wants_restart;             /* end it, then start it again */
	uint64_t press_ns, cut_off_ns;  /* with IS_STOPPING: the button is pressed (again), the power goes */
	char stop_reason[64];           /* from the machine's last words; "" */
	uint64_t started_ns;
	char engine[16];
	struct meter meter;
	int start_order;                /* as its document says, with IS_NOTED */
	bool is_wanted, is_noted;       /* it shall run */
	struct room taken;              /* of the node, while there is a process */
	int64_t limits_revision;        /* of the document whose limits hold; 0: none of this process yet */
	char limits_reason[200];        /* why one of them does not; "" */
	unsigned n_holds;               /* others work on its disks: it stays off */
	bool is_cut;                    /* and one of them wants the power to go */
	bool has_disk_writer;           /* one of them changes the disks */
	unsigned n_disk_readers;        /* or some read them */
	unsigned n_disk_moves;          /* of further ones, to other pools */
	bool is_forgetting;             /* the memory that it goes on from: a worker removes it */
	bool is_removed;                /* its files have been; its document is next */
	unsigned n_freezes;             /* it stands still for others, who let it go on */
	bool is_fork;                   /* it began as a template, and does not know yet who it is */
	bool is_telling;                /* just now */
	bool is_cold;                   /* it boots, whatever templates there are */
	uint64_t tell_until_ns;
	char start_note[300];           /* how it has begun, for people; "" */
	bool was_up;                    /* the last daemon saw it run */
	json_t *started;                /* what its process was started with, as far as that is known; NULL: there is none */
	int64_t ended_revision;         /* it ended by itself while the document was at this one; 0: it did not */
};

/* --- instance_run.c --- */

/* Write the machine's configuration and start its process. */
int instance_start(struct instance *i, const json_t *doc, struct err *err);
/* Is there a process from before? Fills PROC. As process_find(). DOC NULL: it is to go. */
int instance_adopt(struct instance *i, const json_t *doc, struct err *err);
/* Connect to the control socket; tries again by itself until the machine answers or ends. */
void instance_connect(struct instance *i);
void instance_disconnect(struct instance *i);
/* It answers: its state, as it is seen. */
void instance_seen(struct instance *i);
/* There is no process, but there was one when nobody looked, of this boot of the host and asked for by nobody to end: what it said is in
 * 'stop_reason'. */
bool instance_has_ended_unseen(struct instance *i, const json_t *doc);
/* PROC has gone: what that means, as a sentence; was it what somebody wanted, or at least no failure? */
bool instance_ended_well(const struct instance *i, char *why, size_t cap);

/* --- instance_disk.c --- */

/* Make what the machine needs on disk, if it is not there yet; then instance_disk_done(). */
int instance_make_disk(struct instance *i, const json_t *doc, struct err *err);
/* Its directory and the file for what its process says, before each start; then instance_disk_done(). */
void instance_prepare(struct instance *i);
void instance_disk_done(struct instance *i, int r, const struct err *err);
/* Remove all its files; then instance_removed(). */
int instance_remove_files(struct instance *i, struct err *err);
void instance_removed(struct instance *i, int r, const struct err *err);
char *instance_root_path(const struct instance *i);
/* Is ROOT, its disk, in the daemon's own directory, so that one may look for it at once? */
bool instance_has_disk_here(const struct instance *i, const char *root);

/* --- instance_memory.c --- */

enum instance_memory instance_next_memory(const struct instance *i);
/* Of the file; KIND is not MEMORY_NONE. From malloc(); NULL: out of memory. */
char *instance_memory_path(const struct instance *i, enum instance_memory kind);
/* It has gone on from it, or shall not: away with it. While that goes on the instance is held; then a step. */
void instance_forget_memory(struct instance *i);

/* --- instance_fork.c --- */

struct template;

/* For the worker that makes its disk. */
struct fork_files {
	char *mark, *memory;            /* of the instance */
	char *from;                     /* the directory of TEMPLATE; NULL: it boots */
	struct template *template;
};

int instance_fork_init(struct fork_files *f, const struct instance *i, struct err *err);
void instance_fork_fini(struct fork_files *f);
/* Is there a template for it? Notes why not. */
void instance_fork_choose(struct instance *i, const json_t *doc, struct fork_files *f);
/* For workers: copy the template, its disk to DISK; and take away what an attempt has left. */
int instance_fork_make(const struct fork_files *f, const char *disk, struct err *err);
int instance_fork_clear(const struct fork_files *f, struct err *err);
/* What STATUS (NULL: there is none) and its files tell of that. */
void instance_fork_known(struct instance *i, const json_t *status);
/* Does its disk come from a template, without that it has been told who it is? */
bool instance_is_marked(const struct instance *i);
/* Its guest runs: tell it. Until it has listened the instance is starting. */
void instance_fork_tell(struct instance *i);
/* It is off, and was never told: away with its disk; then instance_disk_done(). */
void instance_fork_discard(struct instance *i);

/* --- instance_pending.c --- */

/* Its process is about to be started with SPEC; IS_SAVED: it goes on from memory, which knows most of that itself. */
void instance_note_start(struct instance *i, const json_t *spec, bool is_saved);
/* It answers with INFO; it may have been started by a daemon before this. */
void instance_know_start(struct instance *i, const json_t *info);
void instance_forget_start(struct instance *i);
/* What SPEC says, and only the next start will bring: an array of {field, now, then}. New reference. */
json_t *instance_pending(const struct instance *i, const json_t *spec);

/* --- instance_rename.c --- */

/* 'ended_revision' of STATUS, which is that of C. */
int64_t instance_ended_revision(const struct controlled *c, const json_t *status);
/* struct controller_kind */
void instance_renamed(struct controlled *c, int64_t was, int64_t now);

/* --- instance_metadata.c --- */

/* It runs: what it asks about itself on interfaces of kind 'user' is answered; NETS are its interfaces, as it says. */
void instance_metadata_start(struct instance *i, const json_t *nets);
void instance_metadata_stop(struct instance *i);

/* --- instance_api.c --- */

struct api_call;
/* The running one that C names; answers and returns NULL when there is none. */
struct instance *instance_running(struct api_call *c);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* clone_priv.h - one clone, as clone.c (which decides), clone_volumes.c (what of it are volumes) and clone_copy.c (the workers) share it. */
#ifndef NODE_CLONE_PRIV_H
#define NODE_CLONE_PRIV_H

#include "api/schema.h"
#include "node/disk_place.h"
#include "node/image.h"
#include "node/instance_hold.h"
#include "node/snapshot_memory.h"
#include "node/task.h"

struct blk;
struct quota_claim;
struct volume;

/* A disk of the original, and what it becomes, in the same pool. */
struct clone_disk {
	struct disk_place from, to;
	/* the worker's, during one attempt */
	int dir;                        /* of the pool; -1 */
	struct blk *lock;               /* of FROM, if the machine that is copied has it not */
	bool is_absent;                 /* the original has not run yet, and has none */
};

struct clone {
	struct task *task;
	struct instance *source;        /* held */
	bool has_disks, is_writer;      /* of the source, which is off: taken, for writing */
	bool is_live;                   /* it runs, and stands still while it is copied */
	bool is_linked;
	bool is_made;                   /* by a daemon that did not live to say so; it may run already */
	bool has_memory;                /* the copy goes on where the source is */
	char *dir;                      /* the clone's files */
	struct image_files boot;        /* what the source is started with, if it stands alone */
	char *disk_dir;                 /* its first disk is there; the same but in another pool */
	struct clone_disk disks[INSTANCE_DISKS_MAX + 1];        /* the first one, and volumes */
	unsigned n_disks;
	uint64_t done, total;           /* bytes of all files, for progress */
	struct snapshot_memory memory;  /* of the clone's next start */
	struct volume *volumes[INSTANCE_DISKS_MAX];     /* of the source: taken, for writing when it IS_LINKED */
	unsigned n_volumes;
	struct quota_claim *claims;     /* until the documents count themselves */
	json_t *doc;                    /* of the new instance */
	json_t *volume_docs;            /* and of its volumes */
};

/* What an attempt may have left. */
struct clone_left {
	char dir[STORE_KEY_MAX], disk_dir[STORE_KEY_MAX];
	struct clone_disk of[INSTANCE_DISKS_MAX + 1];   /* the first disk, in DISK_DIR, and volumes; FROM without a path: not known any more */
	unsigned n;
};

/* --- clone_volumes.c --- */

extern const struct schema clone_volume_schema;

/* What shall become of the volumes of DOC, an instance, as BODY asks: for the params of the task, new reference. NULL with the sentence in ERR,
 * and the field in WHERE. */
json_t *clone_volumes_plan(struct node *n, const json_t *doc, const json_t *body, char *where, size_t cap, struct err *err);
/* Documents of the volumes to be as PLAN says, of which none must be there yet: new reference. */
json_t *clone_volumes_docs(struct node *n, const char *project, const json_t *plan, struct err *err);
/* SPEC, of the original, becomes that of the clone. -ESTALE: it has other volumes than PLAN knows. */
int clone_volumes_change(json_t *spec, const json_t *plan, struct err *err);
/* DOC, an instance, without those disks that show one of VOLUMES, which are only being made; and CHECKED with the disks of DOC. New references, NULL:
 * out of memory. */
json_t *clone_volumes_leave_out(const json_t *doc, const json_t *volumes);
json_t *clone_volumes_put_in(const json_t *checked, const json_t *doc);
/* Take all that are copied, and add them to K's disks. -EAGAIN: not yet. */
int clone_volumes_take(struct clone *k, const json_t *plan, struct err *err);
void clone_volumes_give(struct clone *k);
/* The volumes of PLAN, unless they are there. */
void clone_volumes_leftover(struct node *n, const char *project, const json_t *plan, struct clone_left *l);

/* --- clone_copy.c --- */

/* Make its files. -EAGAIN: the machine has gone meanwhile, or the daemon ends: prepare anew. */
int clone_copy(struct clone *k, struct err *err);
int clone_tidy(void *left, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* clone_priv.h - one clone, as clone.c (which decides) and clone_copy.c (the workers) share it. */
#ifndef NODE_CLONE_PRIV_H
#define NODE_CLONE_PRIV_H

#include "node/bases.h"
#include "node/pool_dir.h"
#include "node/snapshot_memory.h"
#include "node/task.h"

struct instance;
struct quota_claim;

struct clone {
	struct task *task;
	struct instance *source;        /* held */
	bool has_disks, is_writer;      /* of the source, which is off: taken, for writing */
	bool is_live;                   /* it runs, and stands still while it is copied */
	bool is_linked;
	bool is_made;                   /* by a daemon that did not live to say so; it may run already */
	bool has_memory;                /* the copy goes on where the source is */
	char *pool;                     /* and POOL_UID: as pool_dir_open() has it */
	char pool_uid[DOC_UID_LEN + 1];
	enum pool_driver driver;
	char source_uid[DOC_UID_LEN + 1], uid[DOC_UID_LEN + 1];
	char *from;                     /* the source's disk */
	char *dir;                      /* the clone's files */
	char *disk_dir;                 /* its disk is there; the same but in another pool */
	struct snapshot_memory memory;  /* of the clone's next start */
	struct quota_claim *claim;      /* until its document counts itself */
	json_t *doc;                    /* of the new instance */
};

/* Make its files. -EAGAIN: the machine has gone meanwhile, or the daemon ends: prepare anew. */
int clone_copy(struct clone *k, struct err *err);

/* What an attempt may have left. */
struct clone_left {
	char dir[STORE_KEY_MAX], disk_dir[STORE_KEY_MAX], pool[STORE_KEY_MAX];
	char pool_uid[DOC_UID_LEN + 1], uid[DOC_UID_LEN + 1];
};

int clone_tidy(void *left, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* volume_clone_priv.h - one clone of a volume, as volume_clone.c (which decides) and the worker share it. */
#ifndef NODE_VOLUME_CLONE_PRIV_H
#define NODE_VOLUME_CLONE_PRIV_H

#include "blk/blk.h"
#include "node/disk_place.h"
#include "node/task.h"

struct instance;
struct volume;
struct quota_claim;

struct volume_clone {
	struct task *task;
	struct instance *held;          /* who has the original; NULL: nobody */
	struct volume *taken;           /* the original; NULL: not now */
	bool is_live;                   /* its machine runs */
	bool is_still;                  /* and stands still for as long as sharing blocks takes */
	bool is_made;                   /* by a daemon that did not live to say so */
	struct disk_place from, to;
	char control[STORE_KEY_MAX];    /* socket of the machine */
	struct quota_claim *claim;      /* until its document counts itself */
	json_t *doc;                    /* of the new volume */
};

/* Make its file. -EAGAIN: the machine has begun or ended meanwhile, or the daemon ends: prepare anew. */
int volume_clone_copy(struct volume_clone *k, struct err *err);

#endif

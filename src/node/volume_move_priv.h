/* SPDX-License-Identifier: Apache-2.0 */
/* volume_move_priv.h - one move, as volume_move.c (which decides) and the workers share it. */
#ifndef NODE_VOLUME_MOVE_PRIV_H
#define NODE_VOLUME_MOVE_PRIV_H

#include <stdatomic.h>
#include "blk/blk.h"
#include "node/doc.h"
#include "node/task.h"
#include "util/loop.h"

struct instance;

enum { MOVE_PATH_MAX = STORE_KEY_MAX + 64 };

enum move_phase {
	MOVE_UNKNOWN,           /* nobody has looked yet: the machine may have changed over for a daemon before this */
	MOVE_COPYING,
	MOVE_CHANGING,          /* the machine is paused */
	MOVE_DONE,              /* the document says so */
};

struct move_place {
	char pool[STORE_KEY_MAX], uid[DOC_UID_LEN + 1];         /* as pool_dir_open() has it */
	char path[MOVE_PATH_MAX], format[8], volume[DOC_UID_LEN + 1];   /* of the file; and whose it is */
};

struct move {
	struct task *task;
	struct instance *held;
	bool is_live, is_changed;       /* its machine runs; the document names the new pool already */
	struct move_place from, to;
	char control[MOVE_PATH_MAX];    /* socket of the machine */
	_Atomic enum move_phase phase;
	struct blk *lock;               /* of the old file, while the machine is off */
	struct loop_timer again;
};

/* Workers. -EBUSY: the disk at the old place has snapshots, which would stay behind. */
int move_check_snapshots(const struct move *m, struct err *err);
/* Both leave nothing behind at the new place when they fail for good; -EAGAIN: look again and start over. */
int move_copy(struct move *m, struct err *err);
int move_mirror(struct move *m, struct err *err);

#endif

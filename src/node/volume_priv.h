/* SPDX-License-Identifier: Apache-2.0 */
/* volume_priv.h - a volume, as volume.c and volume_upload.c know it. */
#ifndef NODE_VOLUME_PRIV_H
#define NODE_VOLUME_PRIV_H

#include <jansson.h>
#include "node/controller.h"
#include "node/import.h"
#include "node/upload.h"
#include "node/volume.h"
#include "util/err.h"

enum { VOLUME_PATH_MAX = STORE_KEY_MAX + 64 };

/* What it takes in its pool, bytes. */
struct volume_room {
	uint64_t allocated;             /* by its file and the snapshots beside it: blocks that are shared count for each */
	uint64_t exclusive;             /* of them its own alone, as quota groups of btrfs have it; 0: not known */
};

struct volume {
	struct controlled c;            /* first */
	uint64_t size;                  /* as it is; 0: not made yet, or not looked at */
	bool is_busy;                   /* a worker has it */
	bool is_gone;
	bool is_linked;                 /* its file is a layer over what linked clones share (bases.h) */
	unsigned n_takers;              /* others work on its file, and it stays as it is: volume_take() */
	bool has_writer;                /* one of them changes it */
	char pool[DOC_NAME_MAX + 1];
	char format[8];                 /* as its document has it */
	struct volume_room room;        /* as it was when that was last looked at */
	uint64_t last_size;             /* not 0: it was made, so a file that is missing is lost, and not made anew */
	struct upload up;
	struct import im;               /* what was sent becomes its file */
	bool is_awaited;                /* a worker has found that it waits for what is sent */
	bool is_known;                  /* whether there is a process from before */
	bool is_tidied;                 /* what only the process needed is gone */
	struct err full;                /* why the process had to end */
};

/* --- volume_measure.c --- */

/* Its status tells, if that is much different. */
void volume_set_room(struct volume *v, const struct volume_room *room);

/* --- volume_upload.c --- */

void volume_upload_init(struct volume *v, const json_t *spec, const json_t *status);
/* A step of one that has no file yet, because a client sends what shall be on it. */
void volume_upload_step(struct volume *v, const json_t *doc, int64_t revision);
/* What only the process needed goes. */
void volume_upload_tidy(struct volume *v);
/* It goes. True: nobody sends, and no process runs. */
bool volume_upload_stop(struct volume *v);
/* Workers: make what was sent, if it is converted, the file PATH of the volume UID in POOL, unless that is there. -EINPROGRESS: it is not
 * yet. */
int volume_take_sent(const char *pool, const char *uid, const char *path, struct err *err);

#endif

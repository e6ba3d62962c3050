/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_memory.h - the memory of a machine in a file beside its disk, of the same instant as snapshots inside its disks.
 *
 *	DATA/instances/UID/SNAPSHOT.memory      of a snapshot; whole under that name
 *	                   SNAPSHOT.memory.tmp  what is being written, or was
 *
 * The machine writes it itself (docs/formats/saved-state.md) into a file that it is handed. */
#ifndef NODE_SNAPSHOT_MEMORY_H
#define NODE_SNAPSHOT_MEMORY_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "node/doc.h"

struct err;
struct node;
struct talk;

/* For workers; strings from malloc(). */
struct snapshot_memory {
	struct node *node;
	char *path;                     /* NULL: nothing here is used */
	char *tmp;
	char *control;                  /* the machine's socket */
	char snapshot[DOC_UID_LEN + 1]; /* taken inside its disks; "": of none */
	uint64_t size;                  /* bytes that it takes on the disk, once it is there */
	uint64_t too_little;            /* so much room was not enough for an attempt; 0: none has failed so */
};

/* -ENOMEM. Loop thread. */
int snapshot_memory_init(struct snapshot_memory *m, struct node *n, char *path, const char *control, const char *snapshot, struct err *err);
void snapshot_memory_fini(struct snapshot_memory *m);   /* SIZE and TOO_LITTLE stay */

/* Is it there? Then SIZE says how large. */
bool snapshot_memory_is_there(struct snapshot_memory *m);
/* Make it, if it is not there. -EEXIST: a disk has that snapshot already; -EBUSY: the machine does something else that does not go
 * along with it; -EAGAIN: it has gone, or the daemon ends. */
int snapshot_memory_take(struct snapshot_memory *m, struct err *err);
/* The same by K, which is connected; the file is durable, but still called TMP. -ENOSPC: there is no room, or, without asking the machine, no more than
 * was too little before: or each attempt would fill the disk for all who write to it. */
int snapshot_memory_write(struct snapshot_memory *m, struct talk *k, struct err *err);
/* Remove it, and what an attempt has left. Not there: fine. */
int snapshot_memory_drop(const struct snapshot_memory *m, struct err *err);

/* What of an instance's SPEC must be as it was for its machine to go back: new reference; NULL: out of memory. */
json_t *snapshot_machine(const json_t *spec);
/* Is that so? -EBUSY with what differs. */
int snapshot_check_machine(const json_t *was, const json_t *spec, struct err *err);

#endif

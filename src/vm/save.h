/* SPDX-License-Identifier: Apache-2.0 */
/* save.h - write a running machine to a file and let it go on, or end it.
 *
 * A passphrase is made a key of first, which takes a moment, while the guest runs. Then the machine is paused until all requests in flight have ended, disks are flushed and guest memory is
 * written; making the file durable happens while the guest runs again. A thread writes; everything else
 * here is the loop thread's. docs/formats/saved-state.md has the file. */
#ifndef VM_SAVE_H
#define VM_SAVE_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/secret.h"
#include "vm/state_file.h"

struct err;
struct machine;
struct save;

struct save_result {
	uint64_t memory;        /* bytes of guest memory that are not zero */
	uint64_t file;          /* bytes written */
	uint64_t pause_ns;      /* how long the guest stood still; with ends_machine: until all was written */
};

struct save_options {
	int fd;                 /* an empty regular file, open for reading and writing; taken on success */
	enum state_packing packing;
	struct blk_secret secret;       /* what encrypts it, taken on success; zeroed: nothing does */
	bool ends_machine;      /* when the file is durable */
	const char *snapshot;   /* of this name, inside each writable disk, at the same instant; NULL: none. Borrowed until DONE */
	/* Once: ERR is NULL when the file is whole and durable. */
	void (*done)(void *arg, const struct save_result *result, const struct err *err);
	void *arg;
};

/* Begin. -EBUSY: another save is under way; -ENOTSUP: this machine cannot be saved. */
int save_start(struct machine *m, const struct save_options *o, struct err *err);
/* The machine is about to go: stop writing, call nobody. NULL is fine. */
void save_abandon(struct save *s);

#endif

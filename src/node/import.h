/* SPDX-License-Identifier: Apache-2.0 */
/* import.h - a disk of any format becomes one of ours: by `viv disk convert`, a process of its own, so that what strangers have made is
 * not read by the daemon, and a restart of that does not disturb it. Its lock, its messages and how far it is are in a directory of
 * the owner's. Loop thread. */
#ifndef NODE_IMPORT_H
#define NODE_IMPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "node/process.h"
#include "store/store.h"

struct err;
struct node;

enum { IMPORT_NOTE_MS = 1000 };         /* between two looks at how far it is */

/* Embedded in its owner's struct, which sets PROC.ended and DIR. */
struct import {
	struct process proc;
	char dir[STORE_KEY_MAX];
	char seen[80];                  /* how far it was when that was last looked at */
};

struct import_source {
	const char *from, *to;          /* TO appears when it is whole */
	const char *to_format;          /* "raw"; NULL: "qcow2" */
	const char *format;             /* of FROM; NULL: its content tells */
	const char *sha256;             /* FROM has to have that; NULL: any */
	uint64_t size_max;              /* of the disk */
	uint64_t kernel_at;             /* in FROM: an archive with what is put beside TO; 0: there is none */
	bool is_alone;                  /* no other file, wherever, is read */
	bool is_own;                    /* the daemon has made FROM, and what that names may lie anywhere */
};

/* Convert. -EBUSY: one that began before is still there. */
int import_start(struct import *im, struct node *n, const struct import_source *s, struct err *err);
/* Any other program instead: it gets a lock and a log as import_start() has. */
int import_run(struct import *im, struct node *n, char *const *argv, struct err *err);
/* The process of an earlier daemon: as process_find(). */
int import_find(struct import *im, struct node *n, struct err *err);
/* Look how far it is. True: further than before. */
bool import_look(struct import *im);
/* 'progress' as a status has it; a new reference. NULL: nothing is known. */
json_t *import_progress(const struct import *im);
/* The last sentence of a process that has ended; without one it was killed, or has crashed: false, and BUF says so. */
bool import_words(const struct import *im, char *buf, size_t cap);

/* One that was killed is begun again, at most so often. */
enum { IMPORT_TRIES = 5 };

#endif

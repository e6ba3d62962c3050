/* SPDX-License-Identifier: Apache-2.0 */
/* pool.h - where disks live: directories of file systems that are mounted, which may go and come back. Each has a marker with its
 * pool's uid in it (pool_dir.h), so that an empty mount point is not taken for it. 'default' is the daemon's own directory. Loop
 * thread. */
#ifndef NODE_POOL_H
#define NODE_POOL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "api/schema.h"
#include "node/pool_dir.h"

struct controller_kind;
struct err;
struct node;
struct works;

#define POOL_DEFAULT "default"

enum { POOL_WARN_PERCENT = 90, POOL_LIMIT_PERCENT = 98 };      /* unless the document says others */

extern const struct schema pool_schema;
extern const struct controller_kind pool_kind;

int pool_check(struct node *n, const json_t *doc, const json_t *old, char *where, size_t cap, struct err *err);
/* Can a new one be in the directory PATH? On another thread. */
int pool_look(const char *path, struct err *err);
/* -EBUSY: there are disks in it. */
int pool_check_delete(struct node *n, const json_t *doc, struct err *err);
/* 'default' is there from the first start on. */
int pools_init(struct node *n, struct err *err);

/* A pool as workers need it: pool_dir_open(path, uid) is its directory. */
struct pool_ref {
	const char *path, *uid;         /* borrowed from the pool; UID "": it has no marker */
	enum pool_driver driver;
};
/* NAME (NULL: 'default'), when it can be used. -ENOENT: there is none; -EAGAIN: it is not there now, or not looked at yet. OUT may
 * be NULL. */
int pool_find(struct node *n, const char *name, struct pool_ref *out, struct err *err);
/* Has it been looked for, and not found? */
bool pool_is_missing(struct node *n, const char *name);
/* Is it, so far, a document only? Then nothing can be in it. */
bool pool_is_unborn(struct node *n, const char *name);
/* Who waits for its file system: threads of its own, so that one that does not answer holds up nothing else. */
struct works *pool_works(struct node *n, const char *name);
/* The daemon ends: no more jobs. False: some hang, and what they use has to stay (works_stop()). */
bool pools_stop(struct node *n);
/* Can files there share blocks? 1, 0; -1: it has not been looked at. */
int pool_shares(struct node *n, const char *name);
/* Its directory, whether it is there or not; NULL: there is no such pool. */
const char *pool_path(struct node *n, const char *name);
/* May something new be put into NAME? -ENOENT, -EINVAL (it is being deleted), -ENOSPC: beyond its limit. */
int pool_check_new(struct node *n, const char *name, struct err *err);
/* The same of SIZE bytes, which will be written: -ENOSPC also when there is less room. */
int pool_check_room(struct node *n, const char *name, uint64_t size, struct err *err);
/* From how many percent on nothing new is put there. */
unsigned pool_limit(const struct node *n, const char *name);
/* The format of new volumes in NAME that name none. */
const char *pool_format(struct node *n, const char *name);
/* The member 'pool' of SPEC, or "default". */
const char *pool_of(const json_t *spec);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* bases.h - what the disks of linked clones share: an image below them that nobody writes any more, kept for as long as a disk is on it.
 *
 *	POOL/bases/BASE/disk.qcow2
 *	POOL/bases/BASE/users/UID       whose disk is on it: an instance, or another base
 *
 * The first linked clone turns the disk of the original into a base: that goes on in an empty layer of its own, and the clone
 * gets another. As long as nobody has written to the original's layer, further clones use the same base. Calls wait for
 * the file system, and may be repeated after a crash anywhere. For workers that have the pool's directory open. */
#ifndef NODE_BASES_H
#define NODE_BASES_H

#include "node/doc.h"

struct err;

struct base_request {
	const char *pool;               /* the directory; borrowed, as all here */
	const char *root;               /* the original's disk, which nobody has open */
	const char *source, *clone;     /* uids */
};

/* A base of ROOT, noted to be used by SOURCE and CLONE; its file goes to *DISK, from malloc(). -EBUSY: there are snapshots in ROOT,
 * which would stay behind. */
int base_take(const struct base_request *q, char **disk, struct err *err);
/* There will be no CLONE: what base_take() has made for it goes, unless ROOT is on that already. */
int base_undo(const struct base_request *q, struct err *err);
/* ROOT is going to be copied as a file for CLONE: that is on the bases that SOURCE is on. To be said before, and SOURCE stays meanwhile. */
int bases_share(const struct base_request *q, struct err *err);
/* The empty image PATH on top of DISK; under its name it is whole. */
int base_make_layer(const char *path, const char *disk, struct err *err);
/* The disk of USER has gone: bases that were there only for it, too. None: fine. */
int bases_release(const char *pool, const char *user, struct err *err);

#endif

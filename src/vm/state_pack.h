/* SPDX-License-Identifier: Apache-2.0 */
/* state_pack.h - the ways in which pieces of guest memory are packed in the file of a saved machine. */
#ifndef VM_STATE_PACK_H
#define VM_STATE_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include "vm/state_file.h"

struct err;

/* What one thread has for it. */
struct state_packer {
	enum state_packing packing;     /* set by the caller; the rest is zeroed then, and private */
	void *zstd, *unzstd;
};
void state_packer_fini(struct state_packer *p);         /* zeroed is fine */

/* The packing called NAME, or STATE_NONE. */
enum state_packing state_packing_of(const char *name);
/* Is it one that a file can have? */
bool state_packing_is_known(enum state_packing packing);
/* Room for whatever STATE_EXTENT_MAX bytes are packed to, by any packing. */
size_t state_pack_bound(void);

/* LEN bytes, at most STATE_EXTENT_MAX, to TO, which has room for state_pack_bound(). The bytes there; -EIO, -ENOMEM. */
ssize_t state_pack(struct state_packer *p, void *to, const void *from, size_t len, struct err *err);
/* STORED bytes, hostile, to TO. False: they are not LEN bytes, packed. */
bool state_unpack(struct state_packer *p, void *to, size_t len, const void *from, size_t stored);

#endif

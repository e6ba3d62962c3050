/* SPDX-License-Identifier: Apache-2.0 */
/* guest.h - the guest of a power cut: its disk, its random work, and what it may find in each sector afterwards. */
#ifndef POWERCUT_GUEST_H
#define POWERCUT_GUEST_H

#include <stdbool.h>
#include <stdint.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "blk/secret.h"

enum { SECTOR = BLK_SECTOR, KEPT = 3 /* snapshots */, RUN = 16 /* sectors */ };

/* What a sector was given: a stamp, zeroes (0), or it was discarded. */
struct version { uint64_t stamp, start, done; bool is_discard; };
struct history { struct version *v; unsigned n, cap; };
struct flush { uint64_t start, done; };

struct guest {
	uint64_t seed, rng, size, n_stamps;
	uint64_t first_size, size_now;  /* SIZE is what the guest uses in the end */
	uint64_t spread, to;
	uint64_t grow_start, grow_end;  /* times */
	unsigned steps, cuts, orders;
	uint64_t n_cuts;
	const char *format, *options, *dir, *cache;
	const char *raw;                /* a file of the image that is the disk as it is; NULL: none */
	struct blk_opts opts;           /* for opening */
	char folder[256], path[300], cut_folder[256], cut[300], backing[256];
	bool has_backing, has_qemu, is_exhaustive, is_tight;
	struct blk *b;
	struct history *sector;
	struct flush *flush;
	unsigned n_flushes;
	struct { char id[128]; uint64_t *stamps; bool *is_known; } kept[KEPT];
};

/* Of images that the options make encrypted ones. */
extern const struct blk_secret passphrase;

/* Say what is wrong and how to do it again, and end. */
_Noreturn void fail(const struct guest *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
uint64_t rnd(struct guest *g, uint64_t below);
/* Where the guest's sector is on the disk, in bytes. */
uint64_t place(const struct guest *g, uint64_t sector);
/* What the disk has when the guest uses SIZE bytes of it. */
uint64_t disk_size(const struct guest *g, uint64_t size);
/* What a sector with that stamp holds; 0: zeroes. */
void sector_fill(uint8_t *p, uint64_t sector, uint64_t stamp);

/* Some requests at once; all of them are over. */
void guest_batch(struct guest *g);
/* Make a snapshot, go back to one, or delete one. */
void guest_snapshot(struct guest *g);
/* The disk gets the size that it has in the end. */
void guest_grow(struct guest *g);

/* The image in g->folder, its backing image, and the note of what files it has (image.c). */
void images_make(struct guest *g);
/* Remove all files of a folder. */
void folder_empty(const char *path);

#endif

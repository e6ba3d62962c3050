/* SPDX-License-Identifier: Apache-2.0 */
/* verify.c - what a power cut has left. */
#include "cut.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk_ops.h"
#include "util/endian.h"

static bool version_allows(const struct history *h, unsigned i, uint64_t sector,
			   const uint8_t *found, const uint8_t *initial)
{
	uint8_t want[SECTOR];

	if (!i)
		return !memcmp(found, initial, SECTOR);
	const struct version *v = &h->v[i - 1];

	sector_fill(want, sector, v->stamp);
	return !memcmp(found, want, SECTOR) || (v->is_discard && version_allows(h, i - 1, sector, found, initial));
}

static void cut_verify_sector(struct guest *g, uint64_t cut, uint64_t s, const uint8_t *found)
{
	const struct history *h = &g->sector[s];
	uint64_t flushed = 0;
	uint8_t initial[SECTOR];
	unsigned base = 0;

	sector_fill(initial, s, g->has_backing ? UINT64_MAX : 0);
	for (unsigned i = 0; i < g->n_flushes; i++)
		if (g->flush[i].done <= cut && g->flush[i].start > flushed)
			flushed = g->flush[i].start;
	for (unsigned i = 0; i < h->n; i++)
		if (h->v[i].done < flushed)
			base = i + 1;
	for (unsigned i = base; i <= h->n; i++)
		if ((!i || h->v[i - 1].start <= cut) && version_allows(h, i, s, found, initial))
			return;
	fail(g, "cut at %" PRIu64 ": sector %" PRIu64 " has stamp %" PRIu64 "; flushed was version %u (stamp %" PRIu64
	     ") of %u", cut, s, get_le64(found + 8), base, base ? h->v[base - 1].stamp : 0, h->n);
}

static void check_report(void *arg, const char *line)
{
	fprintf(stderr, "check: %s\n", line);
}

static void cut_check(struct guest *g, struct blk *b, unsigned fix, bool may_leak)
{
	struct blk_check c = { .report = NULL };
	struct err err = ERR_INIT;
	int r = blk_check(b, fix, &c, &err);

	if (r < 0 && r != -ENOTSUP)
		fail(g, "%s", err.msg);
	if (!r && (c.n_errors || c.n_errors_fixed || (c.n_leaks && !may_leak))) {
		struct blk_check again = { .report = check_report };

		blk_check(b, 0, &again, &err);
		fail(g, "%" PRIu64 " errors, %" PRIu64 " leaks after the cut",
		     c.n_errors + c.n_errors_fixed, c.n_leaks);
	}
}

/* All that the guest uses of B, as sectors in a row. */
static void guest_read(struct guest *g, struct blk *b, uint64_t cut, uint64_t bytes, uint8_t *all)
{
	uint64_t step = g->spread ? RUN * SECTOR : bytes;

	for (uint64_t at = 0; at < bytes; at += step)
		if (blk_pread(b, place(g, at / SECTOR), all + at, bytes - at < step ? bytes - at : step) < 0)
			fail(g, "cut at %" PRIu64 ": the disk cannot be read", cut);
}

static void sectors_verify(struct guest *g, struct blk *b, uint64_t cut, uint64_t size, uint8_t *all)
{
	guest_read(g, b, cut, size, all);
	for (uint64_t s = 0; s < size / SECTOR; s++)
		cut_verify_sector(g, cut, s, all + s * SECTOR);
}

/* The file that is the disk as it is, read without the image. */
static void raw_verify(struct guest *g, uint64_t cut, uint64_t size, uint8_t *all)
{
	char path[600];
	struct blk_options o = { .path = path, .fd = -1, .format = "raw", .is_readonly = true, .is_unlocked = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	snprintf(path, sizeof(path), "%s/%s", g->cut_folder, g->raw);
	if (blk_open_with(&b, NULL, &o, &aio_threads, &err) < 0)
		fail(g, "cut at %" PRIu64 ": %s", cut, err.msg);
	if (blk_size(b) < size)
		fail(g, "cut at %" PRIu64 ": '%s' has %" PRIu64 " bytes, the disk %" PRIu64, cut, g->raw, blk_size(b), size);
	sectors_verify(g, b, cut, size, all);
	blk_close(b);
}

void cut_verify(struct guest *g, uint64_t cut)
{
	struct blk_options o = { .path = g->cut, .fd = -1, .format = g->format, .opts = g->cache ? &g->opts : NULL,
				 .secrets = &passphrase, .n_secrets = 1 };
	AUTO(free) uint8_t *all = malloc(g->size);
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open_with(&b, NULL, &o, &aio_threads, &err) < 0)
		fail(g, "cut at %" PRIu64 ": %s", cut, err.msg);
	bool is_first = blk_size(b) == disk_size(g, g->first_size);
	uint64_t size = is_first ? g->first_size : g->size;

	if (!(is_first && cut < g->grow_end) && !(blk_size(b) == disk_size(g, g->size) && cut > g->grow_start))
		fail(g, "cut at %" PRIu64 ": the disk has %" PRIu64 " bytes", cut, blk_size(b));
	cut_check(g, b, 0, true);
	if (g->raw)
		raw_verify(g, cut, size, all);
	sectors_verify(g, b, cut, size, all);
	/* It goes on from there. */
	for (int i = 0; i < 8; i++) {
		uint64_t s = rnd(g, size / SECTOR);

		sector_fill(all + s * SECTOR, s, UINT64_MAX - 1);
		if (blk_pwrite(b, place(g, s), all + s * SECTOR, SECTOR) < 0)
			fail(g, "cut at %" PRIu64 ": the disk cannot be written", cut);
	}
	cut_check(g, b, BLK_FIX_LEAKS, false);
	blk_close(b);
	if (g->has_qemu) {
		char command[600];

		snprintf(command, sizeof(command), "qemu-img check -q -f %s '%s'", g->format, g->cut);
		if (system(command))
			fail(g, "cut at %" PRIu64 ": qemu-img finds damage", cut);
	}
}

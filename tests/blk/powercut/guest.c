/* SPDX-License-Identifier: Apache-2.0 */
#include "guest.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "recorder.h"
#include "util/err.h"

enum { BATCH = 8 };

const struct blk_secret passphrase = { (uint8_t *)"powercut", 8 };

_Noreturn void fail(const struct guest *g, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "powercut: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr,
		"\nagain: --seed %" PRIu64
		" --steps %u --cuts %u --format %s --options '%s' --size %" PRIu64 " --grow %" PRIu64 " --spread %" PRIu64
		" --to %" PRIu64 "%s%s%s%s%s%s%s (cut %" PRIu64 ", image: %s)\n",
		g->seed, g->steps, g->cuts, g->format, g->options, g->size, g->first_size, g->spread, g->to,
		g->has_backing ? " --backing" : "", g->is_exhaustive ? " --exhaustive" : "", g->is_tight ? " --tight" : "",
		g->cache ? " --cache " : "", g->cache ? g->cache : "", g->raw ? " --raw " : "", g->raw ? g->raw : "", g->n_cuts, g->cut);
	exit(1);
}

uint64_t rnd(struct guest *g, uint64_t below)
{
	g->rng ^= g->rng >> 12;
	g->rng ^= g->rng << 25;
	g->rng ^= g->rng >> 27;
	return (g->rng * 2685821657736338717ull >> 11) % below;
}

/* Where the guest's sector is on the disk, in bytes. */
uint64_t place(const struct guest *g, uint64_t sector)
{
	return g->spread ? sector / RUN * g->spread + sector % RUN * SECTOR : sector * SECTOR;
}

/* What the disk has when the guest uses SIZE bytes of it. */
uint64_t disk_size(const struct guest *g, uint64_t size)
{
	if (g->to && size == g->size)
		return g->to;
	return g->spread ? (size + RUN * SECTOR - 1) / (RUN * SECTOR) * g->spread : size;
}

void sector_fill(uint8_t *p, uint64_t sector, uint64_t stamp)
{
	memset(p, 0, SECTOR);
	if (!stamp)
		return;
	for (int i = 0; i < SECTOR; i += 16) {
		memcpy(p + i, &sector, 8);
		memcpy(p + i + 8, &stamp, 8);
	}
}

static struct version *sector_push(struct guest *g, uint64_t sector, uint64_t stamp, bool is_discard)
{
	struct history *h = &g->sector[sector];

	if (h->n == h->cap) {
		h->cap = h->cap ? h->cap * 2 : 4;
		h->v = realloc(h->v, h->cap * sizeof(*h->v));
	}
	h->v[h->n] = (struct version){ .stamp = stamp,
				       .start = ++recorder.now,
				       .done = UINT64_MAX,
				       .is_discard = is_discard };
	return &h->v[h->n++];
}

struct work {
	struct blk_req r;
	struct iovec iov;
	struct guest *g;
	uint64_t start, first, n;       /* sectors of the guest */
	int result;
	bool is_over;
};

static void work_done(struct blk_req *r, int result)
{
	struct work *w = r->arg;
	uint64_t now = ++recorder.now;

	w->result = result;
	w->is_over = true;
	if (r->op == BLK_FLUSH) {
		w->g->flush = realloc(w->g->flush, (w->g->n_flushes + 1) * sizeof(*w->g->flush));
		w->g->flush[w->g->n_flushes++] = (struct flush){ .start = w->start, .done = now };
		return;
	}
	for (uint64_t s = w->first; r->op != BLK_READ && s < w->first + w->n; s++)
		w->g->sector[s].v[w->g->sector[s].n - 1].done = now;
}

static void work_start(struct guest *g, struct work *w, uint64_t first, uint64_t sectors)
{
	static const enum blk_op ops[] = { BLK_WRITE, BLK_WRITE,  BLK_WRITE,   BLK_WRITE,
					   BLK_WRITE, BLK_ZEROES, BLK_DISCARD, BLK_FLUSH };
	enum blk_op op = ops[rnd(g, 8)];
	uint64_t s = first + rnd(g, sectors), most = first + sectors - s;

	if (g->spread && most > RUN - s % RUN)
		most = RUN - s % RUN;
	uint64_t n = 1 + rnd(g, rnd(g, 4) ? most < 9 ? most : 9 : most);
	uint64_t stamp = op == BLK_WRITE ? ++g->n_stamps : 0;

	w->is_over = false;
	w->g = g;
	w->first = s;
	w->n = n;
	w->iov = (struct iovec){ malloc(n * SECTOR), n * SECTOR };
	w->r = (struct blk_req){ .op = op, .off = place(g, s), .len = n * SECTOR, .iov = &w->iov, .n_iov = 1, .arg = w,
				 .done = work_done, .may_unmap = rnd(g, 2) };
	for (uint64_t i = 0; i < n && op != BLK_FLUSH; i++) {
		sector_fill((uint8_t *)w->iov.iov_base + i * SECTOR, s + i, stamp);
		sector_push(g, s + i, stamp, op == BLK_DISCARD);
	}
	w->start = ++recorder.now;
	blk_submit(g->b, &w->r);
}

void guest_batch(struct guest *g)
{
	struct work w[BATCH];
	unsigned n = 1 + (unsigned)rnd(g, BATCH);
	uint64_t each = g->size_now / SECTOR / n;

	for (unsigned i = 0; i < n; i++)
		work_start(g, &w[i], i * each, each);
	while (blk_in_flight(g->b))
		blk_wait(g->b);
	for (unsigned i = 0; i < n; i++) {
		if (w[i].result < 0)
			fail(g, "a request failed: %s", strerror(-w[i].result));
		free(w[i].iov.iov_base);
	}
}

/* The stamps as they are now; after a discard they are not known. */
static void snapshot_keep(struct guest *g, int k)
{
	uint64_t n = g->size / SECTOR;

	g->kept[k].stamps = calloc(n, sizeof(uint64_t));
	g->kept[k].is_known = calloc(n, sizeof(bool));
	for (uint64_t s = 0; s < n; s++) {
		const struct history *h = &g->sector[s];

		g->kept[k].is_known[s] = h->n && !h->v[h->n - 1].is_discard;
		g->kept[k].stamps[s] = h->n ? h->v[h->n - 1].stamp : 0;
	}
}

static void snapshot_apply(struct guest *g, int k)
{
	struct err err = ERR_INIT;

	/* A sector whose value is not known may be anything from now on: as if discarded and more. */
	for (uint64_t s = 0; s < g->size / SECTOR; s++) {
		if (!g->kept[k].is_known[s])
			return;
		sector_push(g, s, g->kept[k].stamps[s], false);
	}
	if (blk_snapshot_apply(g->b, g->kept[k].id, &err) < 0)
		fail(g, "%s", err.msg);
	for (uint64_t s = 0; s < g->size / SECTOR; s++)
		g->sector[s].v[g->sector[s].n - 1].done = recorder.now + 1;
	recorder.now++;
}

void guest_snapshot(struct guest *g)
{
	struct blk_snapshot sn = { .name = "" };
	struct err err = ERR_INIT;
	int k = (int)rnd(g, KEPT);

	if (!g->kept[k].stamps) {
		int r = blk_snapshot_create(g->b, &sn, &err);

		if (r == -ENOTSUP)
			return;
		if (r < 0)
			fail(g, "%s", err.msg);
		snprintf(g->kept[k].id, sizeof(g->kept[k].id), "%s", sn.id);
		snapshot_keep(g, k);
	} else if (rnd(g, 3) == 0) {
		snapshot_apply(g, k);
	} else {
		if (blk_snapshot_delete(g->b, g->kept[k].id, &err) < 0)
			fail(g, "%s", err.msg);
		free(g->kept[k].stamps);
		free(g->kept[k].is_known);
		g->kept[k].stamps = NULL;
	}
}

void guest_grow(struct guest *g)
{
	struct err err = ERR_INIT;

	g->grow_start = recorder.now;
	if (blk_resize(g->b, disk_size(g, g->size), BLK_PREALLOC_OFF, &err) < 0)
		fail(g, "%s", err.msg);
	if (blk_flush(g->b) < 0)
		fail(g, "the larger disk cannot be flushed");
	g->grow_end = ++recorder.now;
	g->size_now = g->size;
}

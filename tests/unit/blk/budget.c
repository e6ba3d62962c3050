/* SPDX-License-Identifier: Apache-2.0 */
/* budget.c - what the metadata of a qcow2 image takes in memory stays within cache_size, whatever is done with it. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "blk/qcow2/qcow2_priv.h"
#include "in_dir.h"
#include "test.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { IN_FLIGHT = 64, BLOCK = 512 };

/* A disk, and places on it that all have metadata of their own. */
struct rig {
	const char *cache, *cluster;
	uint64_t size, budget, stride;
	unsigned n_places;
	struct blk *b;
	uint8_t block[BLOCK];
	unsigned n_done, n_failed;
};

static void rig_create(const struct rig *g)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	struct blk_create c = { .path = in_dir("disk"), .format = "qcow2", .size = g->size, .opts = &opts };

	unlink(c.path);
	if (blk_opts_init(&opts, blk_format_create_opts("qcow2"), &err) < 0 ||
	    blk_opts_set(&opts, "cluster_size", g->cluster, &err) < 0 || blk_create(&c, &err) < 0)
		FAIL("%s", err.msg);
}

static void rig_open(struct rig *g)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct blk_options o = { .path = in_dir("disk"), .fd = -1, .format = "qcow2", .opts = &opts };
	struct err err = ERR_INIT;

	if (blk_opts_init(&opts, blk_format_open_opts("qcow2"), &err) < 0 ||
	    (g->cache && blk_opts_set(&opts, "cache_size", g->cache, &err) < 0) || blk_open(&g->b, NULL, &o, &err) < 0)
		FAIL("%s", err.msg);
}

/* It was used, and all that it was ever allowed. */
static void rig_check_peak(const struct rig *g, const char *after)
{
	uint64_t peak = q2_cache_peak(g->b->priv);

	if (peak > g->budget || peak < g->budget / 4)
		FAIL("after %s: %" PRIu64 " bytes at most, of %" PRIu64, after, peak, g->budget);
}

static void on_done(struct blk_req *r, int result)
{
	struct rig *g = r->arg;

	g->n_done++;
	g->n_failed += result < 0;
}

/* The same to all places, many at a time. */
static void rig_touch(struct rig *g, enum blk_op op)
{
	static struct blk_req reqs[IN_FLIGHT];
	static struct iovec iov[IN_FLIGHT];

	g->n_done = g->n_failed = 0;
	for (unsigned i = 0; i < g->n_places; i += IN_FLIGHT) {
		for (unsigned k = 0; k < IN_FLIGHT; k++) {
			/* Not in order: 5 has no factor with the number of places. */
			uint64_t place = (uint64_t)(i + k) * 5 % g->n_places;

			iov[k] = (struct iovec){ g->block, sizeof(g->block) };
			reqs[k] = (struct blk_req){ .op = op, .off = place * g->stride, .len = BLOCK, .iov = &iov[k], .n_iov = 1,
						    .done = on_done, .arg = g };
			blk_submit(g->b, &reqs[k]);
		}
		while (blk_in_flight(g->b))
			blk_wait(g->b);
	}
	CHECK_EQ(g->n_done, g->n_places);
	CHECK_EQ(g->n_failed, 0);
}

static void rig_check_image(struct rig *g)
{
	struct blk_check found = { 0 };
	struct err err = ERR_INIT;

	if (blk_check(g->b, 0, &found, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(found.n_errors, 0);
	CHECK_EQ(found.n_leaks, 0);
}

static void rig_snapshots(struct rig *g)
{
	struct blk_snapshot sn = { .name = "one" };
	struct err err = ERR_INIT;

	if (blk_snapshot_create(g->b, &sn, &err) < 0)
		FAIL("%s", err.msg);
	rig_check_peak(g, "a snapshot");
	rig_touch(g, BLK_WRITE);
	rig_check_peak(g, "writing beside a snapshot");
	if (blk_snapshot_apply(g->b, "one", &err) < 0 || blk_snapshot_delete(g->b, "one", &err) < 0)
		FAIL("%s", err.msg);
	rig_check_peak(g, "going back");
}

static void run(struct rig g)
{
	memset(g.block, 0x5a, sizeof(g.block));
	rig_create(&g);
	rig_open(&g);
	rig_touch(&g, BLK_WRITE);
	rig_check_peak(&g, "writing");
	rig_snapshots(&g);
	rig_touch(&g, BLK_READ);
	CHECK_EQ(g.block[BLOCK - 1], 0x5a);
	rig_check_image(&g);
	rig_check_peak(&g, "reading and checking");
	CHECK_EQ(blk_discard(g.b, 0, g.size), 0);
	rig_check_peak(&g, "discarding");
	rig_check_image(&g);
	blk_close(g.b);
}

TEST_SLOW(the_default_budget_holds_for_a_disk_of_1_TiB)
{
	run((struct rig){ .cluster = "4K", .size = 1ull << 40, .budget = 32 << 20, .stride = 2 << 20, .n_places = 1 << 13 });
}

TEST_SLOW(a_small_budget_holds)
{
	run((struct rig){ .cluster = "64K", .size = 1ull << 40, .cache = "1M", .budget = 1 << 20, .stride = 32 << 20,
			  .n_places = 1 << 10 });
}

TEST_SLOW(a_budget_of_pages_of_512_bytes_holds)
{
	run((struct rig){ .cluster = "512", .size = 256 << 20, .cache = "256K", .budget = 256 << 10, .stride = 32 << 10,
			  .n_places = 1 << 10 });
}

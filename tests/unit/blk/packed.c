/* SPDX-License-Identifier: Apache-2.0 */
/* packed.c - disks into compressed images and back: what packs, what does not, zeroes, an end within a cluster, and
 * clusters that are there already. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/convert.h"
#include "blk/opts.h"
#include "in_dir.h"
#include "test.h"
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "util/loop.h"

enum { SIZE = (5 << 20) + 7 * BLK_SECTOR, STRETCH = 24 << 10 };

static void create(const char *name, const char *format, const char *options)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	struct blk_create c = { .path = in_dir(name), .format = format, .size = SIZE, .opts = &opts };

	if (blk_opts_init(&opts, blk_format_create_opts(format), &err) < 0 ||
	    blk_opts_parse(&opts, options, &err) < 0 || blk_create(&c, &err) < 0)
		FAIL("%s", err.msg);
}

static struct blk *open_image(const char *name, const char *format, struct loop *loop)
{
	struct blk_options o = { .path = in_dir(name), .fd = -1, .format = format };
	struct err err = ERR_INIT;
	struct blk *b = NULL;

	if (blk_open(&b, loop, &o, &err) < 0)
		FAIL("%s", err.msg);
	return b;
}

/* In stretches: zeroes, noise, text, and all of these in small pieces. */
static uint8_t *make_bytes(void)
{
	uint8_t *v = calloc(1, SIZE);
	uint64_t x = 88172645463325252ull;

	CHECK(v);
	for (size_t i = 0; i < SIZE; i++) {
		size_t kind = i / STRETCH % 5;

		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		kind = kind == 4 ? i / 700 % 3 : kind;
		v[i] = kind == 1 ? (uint8_t)(x >> 32) : kind == 2 ? (uint8_t)"the same words again and again"[x % 30] :
		       kind == 3 ? (uint8_t)(i / 100) : 0;
	}
	return v;
}

static void check_image(struct blk *b, const uint8_t *want)
{
	AUTO(free) uint8_t *got = malloc(SIZE);
	struct blk_check c = { 0 };
	struct err err = ERR_INIT;
	uint64_t x = 1;

	CHECK(got);
	CHECK_EQ(blk_pread(b, 0, got, SIZE), 0);
	CHECK(!memcmp(got, want, SIZE));
	for (int i = 0; i < 200; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t off = (x >> 33) % SIZE / BLK_SECTOR * BLK_SECTOR, len = ((x >> 20) % 600 + 1) * BLK_SECTOR;

		len = len < SIZE - off ? len : SIZE - off;
		CHECK_EQ(blk_pread(b, off, got, len), 0);
		CHECK(!memcmp(got, want + off, len));
	}
	if (blk_check(b, 0, &c, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(c.n_errors, 0);
	CHECK_EQ(c.n_leaks, 0);
}

static void try_options(const char *options, bool is_used)
{
	AUTO(free) uint8_t *want = make_bytes();
	AUTO(loop_free) struct loop *loop = NULL;
	struct blk_convert how = { .is_compressed = true, .is_target_zero = !is_used };
	struct err err = ERR_INIT;

	CHECK_EQ(loop_new(&loop, &err), 0);
	create("in.raw", "raw", "");
	create("out.qcow2", "qcow2", options);
	struct blk *src = open_image("in.raw", "raw", loop), *dst = open_image("out.qcow2", "qcow2", loop);

	CHECK_EQ(blk_pwrite(src, 0, want, SIZE), 0);
	if (is_used) {                  /* what is there is written to, as it is not to be compressed */
		CHECK_EQ(blk_pwrite(dst, 300 << 10, want, 200 << 10), 0);
		CHECK_EQ(blk_pwrite(dst, 3 << 20, want, 100 << 10), 0);
	}
	if (blk_convert(src, dst, loop, &how, &err) < 0)
		FAIL("%s: %s", options, err.msg);
	check_image(dst, want);
	blk_close(dst);
	dst = open_image("out.qcow2", "qcow2", NULL);
	check_image(dst, want);
	blk_close(dst);
	blk_close(src);
}

static const char *const all_options[] = {
	"compression_type=zlib", "compression_type=zstd", "compression_type=zlib,cluster_size=512",
	"compression_type=zstd,cluster_size=4k", "compression_type=zlib,cluster_size=2M",
	"compression_type=zstd,cluster_size=2M", "compression_type=zlib,extended_l2=on,cluster_size=32k",
	"compression_type=zstd,refcount_bits=1",
};

TEST_SLOW(a_disk_is_packed_and_reads_the_same)
{
	for (size_t i = 0; i < ARRAY_LEN(all_options); i++)
		try_options(all_options[i], false);
}

TEST_SLOW(clusters_that_are_there_take_what_is_packed_as_it_is)
{
	for (size_t i = 0; i < ARRAY_LEN(all_options); i++)
		try_options(all_options[i], true);
}

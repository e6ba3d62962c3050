/* SPDX-License-Identifier: Apache-2.0 */
/* powercut - what an image is when the power goes at any moment.
 *
 *	powercut [--seed N] [--steps N] [--cuts N] [--format F] [--options LIST] [--backing] [--size BYTES]
 *		 [--dir DIR] [--qemu] [--exhaustive] [--orders N] [--grow BYTES] [--to BYTES] [--spread BYTES]
 *		 [--cache BYTES] [--tight] [--raw NAME]
 *
 * A back end below the library records every write, hole, new length and flush of the image's files while a
 * guest's random work goes on, and the files that are made and renamed; requests end in random order. Then, for many moments: what was done before
 * a flush that had ended is in the file; of what was started after, any sectors are or are not. The image
 * made so must open, pass a check (leaks are allowed), hold in each sector a value that the guest may find
 * there - what it flushed, or something newer that it wrote - and go on working.
 *
 * The moments are --cuts random ones; with --exhaustive all at which something began or was flushed, each with
 * up to --orders different outcomes: all subsets of what may be missing where there are no more than that, else
 * nothing, everything, all but one, one alone, and random ones. Prints how many cuts that were.
 *
 * With --grow the disk begins with BYTES and is resized on the way: after a cut it has either size, and once that was
 * flushed the new one; with --to that is more than the guest uses. With --spread what the guest uses are pieces of 8 KiB,
 * one in each so many bytes of the disk. --cache is the memory for metadata, so that it is written back on the way, too.
 * --tight, of vdi: blocks begin right behind the map, as QEMU has it. --raw: the file NAME of the image is the disk as it is,
 * and must show that without the image, too (data_file_raw). */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk_ops.h"
#include "cut.h"
#include "util/log.h"

static void powercut(struct guest *g)
{
	struct err err = ERR_INIT;
	struct blk_options o = { .path = g->path, .fd = -1, .format = g->format, .opts = g->cache ? &g->opts : NULL,
				 .secrets = &passphrase, .n_secrets = 1 };

	g->rng = recorder.rng = g->seed * 0x9e3779b97f4a7c15ull + 1;
	snprintf(g->folder, sizeof(g->folder), "%.200s/powercut-%d", g->dir, getpid());
	snprintf(g->cut_folder, sizeof(g->cut_folder), "%.200s/powercut-%d.cut", g->dir, getpid());
	snprintf(g->path, sizeof(g->path), "%s/disk.img", g->folder);
	snprintf(g->cut, sizeof(g->cut), "%s/disk.img", g->cut_folder);
	if (mkdir(g->folder, 0700) < 0 || mkdir(g->cut_folder, 0700) < 0)
		fail(g, "cannot make '%s'", g->folder);
	if (g->cache && (blk_opts_init(&g->opts, blk_format_open_opts(g->format), &err) < 0 ||
			 blk_opts_set(&g->opts, "cache_size", g->cache, &err) < 0))
		fail(g, "%s", err.msg);
	snprintf(g->backing, sizeof(g->backing), "%.200s/powercut-%d.base", g->dir, getpid());
	g->sector = calloc(g->size / SECTOR, sizeof(*g->sector));
	images_make(g);
	recorder.is_on = true;
	if (blk_open_with(&g->b, NULL, &o, &recorder_aio, &err) < 0)
		fail(g, "%s", err.msg);
	for (unsigned i = 0; i < g->steps; i++) {
		if (i == g->steps / 2 && g->size_now != g->size)
			guest_grow(g);
		else if (rnd(g, 12) == 0 && strcmp(g->format, "raw"))
			guest_snapshot(g);
		else
			guest_batch(g);
	}
	blk_close(g->b);
	recorder.is_on = false;
	if (g->is_exhaustive)
		cut_everywhere(g);
	else
		cut_anywhere(g);
	printf("%" PRIu64 " cuts of %zu writes and flushes\n", g->n_cuts, recorder.n);
	folder_empty(g->folder);
	folder_empty(g->cut_folder);
	rmdir(g->folder);
	rmdir(g->cut_folder);
	unlink(g->backing);
	blk_opts_fini(&g->opts);
}

int main(int argc, char **argv)
{
	static const struct option long_options[] = {
		{ "seed", 1, NULL, 's' },    { "steps", 1, NULL, 'n' },
		{ "cuts", 1, NULL, 'c' },    { "format", 1, NULL, 'f' },
		{ "options", 1, NULL, 'o' }, { "backing", 0, NULL, 'b' },
		{ "dir", 1, NULL, 'd' },     { "qemu", 0, NULL, 'q' },
		{ "size", 1, NULL, 'z' },    { "exhaustive", 0, NULL, 'e' },
		{ "orders", 1, NULL, 'O' },  { "grow", 1, NULL, 'g' },
		{ "to", 1, NULL, 't' },      { "spread", 1, NULL, 'p' },
		{ "cache", 1, NULL, 'k' },   { "tight", 0, NULL, 'T' },
		{ "raw", 1, NULL, 'r' },      { NULL, 0, NULL, 0 },
	};
	static struct guest g = { .seed = 1, .steps = 60, .cuts = 60, .orders = 16, .format = "qcow2",
				  .dir = "/tmp", .size = 1 << 20 };
	int c;

	log_set_level(LOG_ERROR);
	while ((c = getopt_long(argc, argv, "", long_options, NULL)) >= 0) {
		switch (c) {
		case 's': g.seed = strtoull(optarg, NULL, 0); break;
		case 'n': g.steps = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'c': g.cuts = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'f': g.format = optarg; break;
		case 'o': g.options = optarg; break;
		case 'b': g.has_backing = true; break;
		case 'd': g.dir = optarg; break;
		case 'z': g.size = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'q': g.has_qemu = true; break;
		case 'e': g.is_exhaustive = true; break;
		case 'O': g.orders = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'g': g.first_size = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 't': g.to = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'p': g.spread = strtoull(optarg, NULL, 0) / SECTOR * SECTOR; break;
		case 'k': g.cache = optarg; break;
		case 'T': g.is_tight = true; break;
		case 'r': g.raw = optarg; break;
		default: return 2;
		}
	}
	if (!g.options)
		g.options = strcmp(g.format, "qcow2") ? "" : "cluster_size=4k";
	g.first_size = g.first_size && g.first_size < g.size && !g.has_backing ? g.first_size : g.size;
	g.size_now = g.first_size;
	g.grow_end = g.first_size == g.size ? 0 : UINT64_MAX;
	powercut(&g);
	return 0;
}

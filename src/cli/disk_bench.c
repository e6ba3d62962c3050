/* SPDX-License-Identifier: Apache-2.0 */
/* viv disk bench: a queue of requests kept full for some seconds. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/disk.h"
#include "cli/output.h"
#include "util/checked.h"
#include "util/loop.h"

enum { BENCH_DEPTH_MAX = 1024, BENCH_LEN_MAX = 16 << 20, BENCH_BUCKETS = 64 * 8 };

struct bench;
struct bench_slot {
	struct blk_req r;
	struct iovec iov;
	struct bench *b;
	uint64_t begin_ns;
};

struct bench {
	struct loop *loop;
	struct blk *blk;
	bool is_random;
	uint64_t len, n_places, next, seed;
	uint64_t n_done, end_ns, last_ns;
	unsigned in_flight;
	int error;
	uint64_t latency[BENCH_BUCKETS];        /* how many took so long: eight buckets for each power of two of ns */
	struct bench_slot *slots;
};

static unsigned bench_bucket(uint64_t ns)
{
	unsigned log = ns < 8 ? 3 : 63 - (unsigned)__builtin_clzll(ns);

	return log * 8 + (unsigned)(ns >> (log - 3) & 7);
}

/* The time within which PERMILLE of all were over. */
static double bench_latency_us(const struct bench *b, unsigned permille)
{
	uint64_t n = 0;
	unsigned i = 0;

	for (; i < BENCH_BUCKETS && n * 1000 < b->n_done * permille; i++)
		n += b->latency[i];
	return i ? (double)(8 + (i - 1) % 8 + 1) * (double)(1ull << ((i - 1) / 8)) / 8 / 1e3 : 0;
}

/* xorshift64: as good as needed to spread offsets. */
static uint64_t bench_random(struct bench *b)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return b->seed;
}

static void bench_submit(struct bench *b, struct bench_slot *s)
{
	s->r.off = (b->is_random ? bench_random(b) : b->next++) % b->n_places * b->len;
	s->begin_ns = loop_now_ns();
	b->in_flight++;
	blk_submit(b->blk, &s->r);
}

static void bench_done(struct blk_req *r, int result)
{
	struct bench_slot *s = r->arg;
	struct bench *b = s->b;
	uint64_t now = loop_now_ns();

	b->in_flight--;
	b->n_done++;
	b->latency[bench_bucket(now - s->begin_ns)]++;
	if (result < 0 && !b->error)
		b->error = result;
	if (!b->error && now < b->end_ns && !progress_is_interrupted()) {
		bench_submit(b, s);
	} else if (!b->in_flight) {
		b->last_ns = now;
		loop_stop(b->loop, 0);
	}
}

static int bench_report(const struct cli *c, const struct bench *b, uint64_t begin_ns, struct err *err)
{
	double sec = (double)(b->last_ns - begin_ns) / 1e9, rate = (double)b->n_done / sec;
	char bytes[OUTPUT_SIZE_LEN];

	if (c->is_json)
		return output_json(json_pack("{s:f, s:f, s:f, s:f, s:I}", "requests-per-second", rate,
					     "bytes-per-second",
					     rate * (double)b->len, "latency-median-us", bench_latency_us(b, 500),
					     "latency-99-us", bench_latency_us(b, 990), "requests",
						     (json_int_t)b->n_done), err);
	printf("%.0f requests/s, %s/s; half of them within %.0f us, 99 of 100 within %.0f us\n", rate,
	       output_size(bytes, (uint64_t)(rate * (double)b->len)), bench_latency_us(b, 500),
		       bench_latency_us(b, 990));
	return 0;
}

static int bench_start(struct bench *b, enum blk_op op, unsigned depth, uint8_t *mem)
{
	for (unsigned i = 0; i < depth; i++) {
		struct bench_slot *s = &b->slots[i];

		s->b = b;
		s->iov = (struct iovec){ mem + i * b->len, b->len };
		s->r = (struct blk_req){ .op = op, .len = b->len, .iov = &s->iov, .n_iov = 1, .done = bench_done,
					 .arg = s };
		bench_submit(b, s);
	}
	return loop_run(b->loop);
}

static int bench_measure(const struct cli *c, struct bench *b, struct err *err)
{
	unsigned depth = (unsigned)cli_num(c, "--depth");
	AUTO(free) struct bench_slot *slots = calloc(depth, sizeof(*slots));
	AUTO(free) uint8_t *mem = aligned_alloc(4096, align_up(depth * b->len, 4096));
	struct progress progress;

	if (!slots || !mem)
		return err_set(err, -ENOMEM, "out of memory");
	memset(mem, 0x5a, depth * b->len);
	b->slots = slots;
	progress_start(&progress, c, "measuring");
	uint64_t begin = loop_now_ns();

	b->end_ns = begin + cli_num(c, "--seconds") * 1000000000;
	int r = bench_start(b, cli_flag(c, "--write") ? BLK_WRITE : BLK_READ, depth, mem);

	progress_end(&progress);
	r = r < 0 ? r : b->error;
	if (r < 0)
		return err_set(err, r, "a request to '%s' failed: %s", blk_name(b->blk), strerror(-r));
	return bench_report(c, b, begin, err);
}

static int bench_open(struct blk_options *o, void *arg, struct err *err)
{
	struct bench *b = arg;

	return blk_open(&b->blk, b->loop, o, err);
}

static int bench_check(const struct cli *c, struct bench *b, struct err *err)
{
	uint64_t depth = cli_num(c, "--depth"), seconds = cli_num(c, "--seconds");

	b->len = cli_num(c, "--size");
	if (!depth || depth > BENCH_DEPTH_MAX)
		return err_set(err, -EINVAL, "--depth is from 1 to %d", BENCH_DEPTH_MAX);
	if (!b->len || b->len % BLK_SECTOR || b->len > BENCH_LEN_MAX)
		return err_set(err, -EINVAL, "--size is a multiple of 512 bytes, and at most 16M");
	if (!seconds || seconds > 3600)
		return err_set(err, -EINVAL, "--seconds is from 1 to 3600");
	return 0;
}

static int bench_run(struct cli *c, struct err *err)
{
	AUTO(free) struct bench *b = calloc(1, sizeof(*b));
	AUTO(loop_free) struct loop *loop = NULL;
	struct blk_options o = { .path = cli_arg(c, 0), .fd = -1, .format = cli_str(c, "--format"),
				 .is_readonly = !cli_flag(c, "--write"), .is_direct = cli_flag(c, "--direct") };
	int r = b ? bench_check(c, b, err) : err_set(err, -ENOMEM, "out of memory");

	if (!r)
		r = loop_new(&loop, err);
	if (r < 0)
		return r;
	b->loop = loop;
	b->is_random = !cli_flag(c, "--sequential");
	b->seed = 0x9e3779b97f4a7c15ull;
	r = disk_with_keys(c, &o, bench_open, b, err);
	if (r < 0)
		return r;
	b->n_places = blk_size(b->blk) / b->len;
	r = b->n_places ? bench_measure(c, b, err) :
	    err_set(err, -EINVAL, "'%s' is smaller than one request", blk_name(b->blk));
	blk_close(b->blk);
	return r;
}

const struct cli_command disk_bench = {
	.path = "disk bench",
	.summary = "measure how fast an image is",
	.about = "Keeps some requests under way for a few seconds and tells how many were done and how long they "
		 "took. Reading "
		 "changes nothing; writing overwrites the disk.",
	.args = (const struct cli_arg[]){ { "FILE", .help = "the image" }, { .name = NULL } },
	.options = (const struct cli_option[]){
		DISK_OPTION_FORMAT,
		{ "--write", 'w', CLI_FLAG, .help = "write: WHAT IS ON THE DISK IS LOST" },
		{ "--sequential", 's', CLI_FLAG, .help = "one place after the other, not at random" },
		{ "--size", 0, CLI_SIZE, .metavar = "SIZE", .def = "4K", .help = "of a request" },
		{ "--depth", 'd', CLI_UINT, .metavar = "N", .def = "32", .help = "requests under way" },
		{ "--seconds", 0, CLI_UINT, .metavar = "N", .def = "3", .help = "how long" },
		{ "--direct", 0, CLI_FLAG, .help = "bypass the page cache" },
		{ .name = NULL },
	},
	.examples = (const struct cli_example[]){
		{ "disk bench root.qcow2", "random reads of 4 KiB" },
		{ "disk bench scratch.qcow2 --write --sequential --size 1M --depth 4 --direct",
		  "how fast the storage takes data" },
		{ .line = NULL },
	},
	.run = bench_run,
};

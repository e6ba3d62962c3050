/* SPDX-License-Identifier: Apache-2.0 */
/* blk_raw - what the block layer itself moves, without a guest: a queue of requests kept full on
 * one image for some seconds.
 *
 *	blk_raw FILE read|write random|sequential BYTES DEPTH SECONDS direct|cached
 *
 * Prints operations and bytes per second. Writing overwrites FILE. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk.h"
#include "util/err.h"
#include "util/loop.h"

enum { MAX_DEPTH = 256, MAX_BYTES = 16 << 20, ALIGN = 4096 };

struct bench;

struct slot {
	struct blk_req req;
	struct iovec iov;
	struct bench *b;
};

struct bench {
	struct loop *loop;
	struct blk *blk;
	enum blk_op op;
	bool is_random;
	uint64_t bytes, blocks;         /* per request; how many fit in the image */
	uint64_t next, seed;
	uint64_t n_done, deadline_ns, end_ns;
	unsigned in_flight;
	int error;
	struct slot slot[MAX_DEPTH];
};

/* xorshift64: as good as needed to spread offsets. */
static uint64_t bench_random(struct bench *b)
{
	b->seed ^= b->seed << 13;
	b->seed ^= b->seed >> 7;
	b->seed ^= b->seed << 17;
	return b->seed;
}

static void bench_submit(struct bench *b, struct slot *s)
{
	uint64_t block = b->is_random ? bench_random(b) % b->blocks : b->next++ % b->blocks;

	s->req.off = block * b->bytes;
	b->in_flight++;
	blk_submit(b->blk, &s->req);
}

static void bench_done(struct blk_req *r, int result)
{
	struct slot *s = r->arg;
	struct bench *b = s->b;

	b->in_flight--;
	b->n_done++;
	if (result < 0 && !b->error)
		b->error = result;
	uint64_t now = loop_now_ns();

	if (!b->error && now < b->deadline_ns) {
		bench_submit(b, s);
	} else if (!b->in_flight) {
		b->end_ns = now;
		loop_stop(b->loop, 0);
	}
}

static int bench_run(struct bench *b, unsigned depth, double seconds)
{
	uint64_t start = loop_now_ns();

	b->deadline_ns = start + (uint64_t)(seconds * 1e9);
	for (unsigned i = 0; i < depth; i++) {
		struct slot *s = &b->slot[i];

		s->b = b;
		s->iov = (struct iovec){ aligned_alloc(ALIGN, b->bytes), b->bytes };
		if (!s->iov.iov_base)
			return -ENOMEM;
		memset(s->iov.iov_base, 0x5a, b->bytes);
		s->req = (struct blk_req){ .op = b->op, .len = b->bytes, .iov = &s->iov, .n_iov = 1,
					   .done = bench_done, .arg = s };
		bench_submit(b, s);
	}
	int r = loop_run(b->loop);

	for (unsigned i = 0; i < depth; i++)
		free(b->slot[i].iov.iov_base);
	double sec = (double)(b->end_ns - start) / 1e9;

	if (!r && !b->error)
		printf("%.0f ops/s %.1f MiB/s\n", (double)b->n_done / sec,
		       (double)b->n_done * (double)b->bytes / sec / (1 << 20));
	return r < 0 ? r : b->error;
}

int main(int argc, char **argv)
{
	struct err err = ERR_INIT;
	AUTO(loop_free) struct loop *loop = NULL;
	AUTO(blk_close) struct blk *blk = NULL;

	if (argc != 8) {
		fprintf(stderr, "usage: blk_raw FILE read|write random|sequential BYTES DEPTH SECONDS direct|cached\n");
		return 2;
	}
	struct blk_options o = { .path = argv[1], .fd = -1, .is_direct = !strcmp(argv[7], "direct") };
	AUTO(free) struct bench *b = calloc(1, sizeof(*b));
	unsigned depth = (unsigned)strtoul(argv[5], NULL, 10);

	if (!b || loop_new(&loop, &err) < 0 || blk_open(&blk, loop, &o, &err) < 0) {
		fprintf(stderr, "blk_raw: %s\n", b ? err.msg : "out of memory");
		return 1;
	}
	*b = (struct bench){
		.loop = loop, .blk = blk, .op = !strcmp(argv[2], "write") ? BLK_WRITE : BLK_READ,
		.is_random = !strcmp(argv[3], "random"), .bytes = strtoull(argv[4], NULL, 10),
		.seed = 0x9e3779b97f4a7c15ull,
	};
	if (!depth || depth > MAX_DEPTH || !b->bytes || b->bytes > MAX_BYTES || b->bytes % ALIGN ||
	    b->bytes > blk_size(blk)) {
		fprintf(stderr, "blk_raw: bytes must be a multiple of %d that fits the file, depth 1 to %d\n", ALIGN, MAX_DEPTH);
		return 2;
	}
	b->blocks = blk_size(blk) / b->bytes;
	int r = bench_run(b, depth, strtod(argv[6], NULL));

	if (r < 0)
		fprintf(stderr, "blk_raw: %s\n", strerror(-r));
	return r < 0;
}

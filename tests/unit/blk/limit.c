/* SPDX-License-Identifier: Apache-2.0 */
/* Limits: the arithmetic on a made-up clock, then a front over a real image and loop. */
#include "blk/limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "blk/front.h"
#include "test.h"
#include "util/err.h"
#include "util/loop.h"

#define SECOND 1000000000ull

/* Requests of BYTES, each begun as soon as it may, LATE ns after that; how many begin in SECONDS. */
static uint64_t count(struct blk_limiter *l, bool is_write, uint64_t bytes, uint64_t *now, double seconds, uint64_t late)
{
	uint64_t end = *now + (uint64_t)(seconds * 1e9), n = 0;

	while (*now < end) {
		uint64_t wait = blk_limiter_wait_ns(l, is_write, *now);

		if (wait) {
			*now += wait + late;
			continue;
		}
		blk_limiter_take(l, is_write, bytes, *now);
		n++;
	}
	return n;
}

static void check_near(uint64_t n, double want, double percent)
{
	if ((double)n < want * (1 - percent / 100) || (double)n > want * (1 + percent / 100))
		FAIL("%" PRIu64 " instead of %.0f", n, want);
}

static void limit(struct blk_limiter *l, enum blk_limit_kind k, struct blk_rate rate, uint64_t now)
{
	struct blk_limits limits = l->limits;

	limits.v[k] = rate;
	blk_limiter_set(l, &limits, now);
}

TEST(rates_are_exact_whatever_the_size_and_the_lateness)
{
	static const uint64_t rates[] = { 7, 100, 12345, 1000000 }, lates[] = { 0, 1000, 70000, 9000000 };

	for (unsigned i = 0; i < 4; i++)
		for (unsigned k = 0; k < 4; k++) {
			struct blk_limiter l = { 0 };
			uint64_t now = 5;
			unsigned seconds = rates[i] < 100000 ? 20 : 6;  /* some million requests are enough */

			limit(&l, BLK_LIMIT_IOPS, (struct blk_rate){ .rate = rates[i] }, now);
			check_near(count(&l, k & 1, 4096, &now, seconds, lates[k]), (double)rates[i] * seconds, 1);
		}
	/* Requests that are larger than a second's worth. */
	struct blk_limiter l = { 0 };
	uint64_t now = 77;

	limit(&l, BLK_LIMIT_BPS, (struct blk_rate){ .rate = 1 << 20 }, now);
	check_near(count(&l, true, 3 << 20, &now, 600, 0), 200, 1);
	now = 77;
	l = (struct blk_limiter){ 0 };
	limit(&l, BLK_LIMIT_BPS, (struct blk_rate){ .rate = 10000000000ull }, now);
	check_near(count(&l, true, 65536, &now, 10, 0), 1525879, 1);
}

TEST(a_burst_lasts_as_long_as_it_says_and_comes_back)
{
	struct blk_limiter l = { 0 };
	uint64_t now = SECOND;

	limit(&l, BLK_LIMIT_IOPS, (struct blk_rate){ .rate = 100, .burst = 2000, .burst_s = 3 }, now);
	check_near(count(&l, true, 512, &now, 3, 10000), 6000, 2.5);
	check_near(count(&l, true, 512, &now, 10, 10000), 1000, 2.5);
	now += 57 * SECOND + SECOND / 2;        /* idle: of a bucket of 5700, 5750 leak away */
	check_near(count(&l, true, 512, &now, 3, 10000), 6000, 2.5);
}

TEST(directions_have_limits_of_their_own_and_a_common_one)
{
	struct blk_limiter l = { 0 };
	uint64_t now = SECOND, again = SECOND;

	limit(&l, BLK_LIMIT_IOPS_WRITE, (struct blk_rate){ .rate = 10 }, now);
	check_near(count(&l, true, 512, &now, 10, 0), 100, 2);
	CHECK_EQ(blk_limiter_wait_ns(&l, false, now), 0);
	limit(&l, BLK_LIMIT_BPS, (struct blk_rate){ .rate = 51200 }, now);
	again = now;
	check_near(count(&l, false, 512, &again, 10, 0), 1000, 2);
	blk_limiter_take(&l, true, 1 << 20, again);
	CHECK(blk_limiter_wait_ns(&l, false, again) > SECOND);
	/* None again: nothing waits. */
	blk_limiter_set(&l, &(struct blk_limits){ 0 }, again);
	CHECK_EQ(blk_limiter_wait_ns(&l, true, again), 0);
}

TEST(impossible_limits_are_refused)
{
	struct err err = ERR_INIT;
	struct blk_limits l = { .v[BLK_LIMIT_IOPS] = { .burst = 100 } };

	CHECK_EQ(blk_limits_check(&l, &err), -EINVAL);
	CHECK_HAS(err.msg, "iops-burst: must be above iops");
	l.v[BLK_LIMIT_IOPS] = (struct blk_rate){ .rate = 100, .burst = 100 };
	CHECK_EQ(blk_limits_check(&l, NULL), -EINVAL);
	l.v[BLK_LIMIT_IOPS] = (struct blk_rate){ .rate = 100, .burst_s = 2 };
	CHECK_EQ(blk_limits_check(&l, NULL), -EINVAL);
	l.v[BLK_LIMIT_IOPS] = (struct blk_rate){ .rate = UINT64_MAX };
	CHECK_EQ(blk_limits_check(&l, NULL), -EINVAL);
	l.v[BLK_LIMIT_IOPS] = (struct blk_rate){ .rate = 100, .burst = 101, .burst_s = 2 };
	CHECK_EQ(blk_limits_check(&l, NULL), 0);
}

/* --- a front ------------------------------------------------------------------------------------- */

enum { DISK = 1 << 20, DEPTH = 16 };

struct stream {
	struct blk *b;
	enum blk_op op;
	struct blk_req r[DEPTH];
	struct iovec iov;
	uint64_t n_done;
	bool must_end;
	unsigned n_flying;
};

static uint8_t buffer[4096];

static void stream_done(struct blk_req *r, int result);

static void stream_send(struct stream *s, struct blk_req *r)
{
	s->iov = (struct iovec){ buffer, sizeof(buffer) };
	*r = (struct blk_req){ .op = s->op, .len = sizeof(buffer), .iov = &s->iov, .n_iov = 1,
			       .done = stream_done, .arg = s };
	s->n_flying++;
	blk_submit(s->b, r);
}

static void stream_done(struct blk_req *r, int result)
{
	struct stream *s = r->arg;

	CHECK_EQ(result, 0);
	s->n_flying--;
	s->n_done++;
	if (!s->must_end)
		stream_send(s, r);
}

static struct blk *open_front(struct loop *loop, char *path)
{
	struct err err = ERR_INIT;
	struct blk *top = NULL, *b = NULL;
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	CHECK_EQ(ftruncate(fd, DISK), 0);
	close(fd);
	struct blk_options o = { .path = path, .fd = -1, .format = "raw" };

	if (blk_open(&top, loop, &o, &err) < 0 || blk_front_new(&b, top, &err) < 0)
		FAIL("%s", err.msg);
	unlink(path);
	return b;
}

static void run_for(struct loop *loop, uint64_t ns)
{
	uint64_t end = loop_now_ns() + ns;

	while (loop_now_ns() < end)
		loop_run_once(loop, 5);
}

TEST(a_front_keeps_to_its_limits_and_leaves_others_alone)
{
	char slow_path[] = "/tmp/viv-limit-XXXXXX", fast_path[] = "/tmp/viv-limit-XXXXXX";
	struct loop *loop = NULL;

	CHECK_EQ(loop_new(&loop, NULL), 0);
	struct blk *slow = open_front(loop, slow_path), *fast = open_front(loop, fast_path);
	struct stream reads = { .b = slow, .op = BLK_READ }, writes = { .b = slow, .op = BLK_WRITE },
		      other = { .b = fast, .op = BLK_READ };
	struct blk_limits l = { .v[BLK_LIMIT_IOPS] = { .rate = 400 } };

	CHECK_EQ(blk_front_set_limits(slow, &l, NULL), 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		stream_send(&reads, &reads.r[i]);
		stream_send(&writes, &writes.r[i]);
	}
	stream_send(&other, &other.r[0]);
	uint64_t begin = loop_now_ns();

	run_for(loop, 2 * SECOND);
	double seconds = (double)(loop_now_ns() - begin) / 1e9, want = seconds * 400 + 20;
	uint64_t n = reads.n_done + writes.n_done;

	/* More is a mistake, less a busy host. */
	CHECK((double)n <= want * 1.02);
	CHECK((double)n >= want * 0.05);
	CHECK(reads.n_done <= writes.n_done + 2 * DEPTH && writes.n_done <= reads.n_done + 2 * DEPTH);
	CHECK(other.n_done > 4 * n);
	/* Another limit holds at once: no request waits for the old one. */
	l.v[BLK_LIMIT_IOPS].rate = 1000000;
	CHECK_EQ(blk_front_set_limits(slow, &l, NULL), 0);
	n = reads.n_done + writes.n_done;
	run_for(loop, SECOND / 4);
	CHECK(reads.n_done + writes.n_done > n + 200);
	/* Closing does not wait for anybody's turn. */
	l.v[BLK_LIMIT_IOPS].rate = 1;
	CHECK_EQ(blk_front_set_limits(slow, &l, NULL), 0);
	run_for(loop, SECOND / 10);
	reads.must_end = writes.must_end = other.must_end = true;
	CHECK_EQ(blk_in_flight(slow), 2 * DEPTH);
	begin = loop_now_ns();
	blk_close(slow);
	CHECK(loop_now_ns() - begin < 5 * SECOND);
	CHECK_EQ(reads.n_flying + writes.n_flying, 0);
	blk_close(fast);
	loop_free(loop);
}

struct drain { struct blk *b; bool is_drained, must_end, is_over; struct co *co; };

static void drain_run(void *arg)
{
	struct drain *d = arg;

	blk_front_drain_begin(d->b);
	d->is_drained = true;
	d->co = co_self();
	while (!d->must_end)
		co_yield();
	blk_front_drain_end(d->b);
	d->is_over = true;
}

TEST(a_drained_front_keeps_requests_and_lets_them_go)
{
	char path[] = "/tmp/viv-limit-XXXXXX";
	struct loop *loop = NULL;

	CHECK_EQ(loop_new(&loop, NULL), 0);
	struct blk *b = open_front(loop, path);
	struct stream s = { .b = b, .op = BLK_WRITE };
	struct drain d = { .b = b };
	struct blk_limits l = { .v[BLK_LIMIT_BPS] = { .rate = 1 } };

	CHECK_EQ(blk_front_set_limits(b, &l, NULL), 0);
	for (unsigned i = 0; i < DEPTH; i++)
		stream_send(&s, &s.r[i]);
	CHECK_EQ(co_start(drain_run, &d), 0);
	for (int i = 0; i < 1000 && !d.is_drained; i++)
		loop_run_once(loop, 5);
	CHECK(d.is_drained);
	/* Those that waited for their turn have gone; each sent one more, which is kept. */
	CHECK_EQ(s.n_done, DEPTH);
	CHECK_EQ(blk_in_flight(b), DEPTH);
	run_for(loop, SECOND / 20);
	CHECK_EQ(s.n_done, DEPTH);
	s.must_end = true;
	d.must_end = true;
	blk_front_set_limits(b, &(struct blk_limits){ 0 }, NULL);
	co_wake(d.co);
	CHECK(d.is_over);
	run_for(loop, SECOND / 20);
	CHECK_EQ(s.n_done, 2 * DEPTH);
	blk_close(b);
	loop_free(loop);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <unistd.h>
#include "util/source.h"

TEST(the_tsc_runs_at_its_stated_frequency)
{
	struct source_host h;

	source_host_init(&h, 0);
	CHECK(h.s.tsc_hz > 100000000 && h.s.tsc_hz < 10000000000);
	CHECK(source_now_ns(&h.s) < 5000000000);
	uint64_t ns = source_now_ns(&h.s), tsc = source_tsc(&h.s);
	usleep(50000);
	ns = source_now_ns(&h.s) - ns;
	tsc = source_tsc(&h.s) - tsc;
	double hz = (double)tsc * 1e9 / (double)ns;
	CHECK(hz > 0.98 * (double)h.s.tsc_hz && hz < 1.02 * (double)h.s.tsc_hz);
}

TEST(random_bytes_differ)
{
	struct source_host h;
	uint8_t a[600] = { 0 }, b[600] = { 0 };

	source_host_init(&h, 0);
	source_random(&h.s, a, sizeof(a));
	source_random(&h.s, b, sizeof(b));
	CHECK(memcmp(a, b, 16) && memcmp(a + 584, b + 584, 16));
}

TEST(time_stands_still_while_stopped_and_goes_on_without_a_gap)
{
	struct source_host h;

	source_host_init(&h, 0);
	usleep(2000);
	source_host_stop(&h);
	uint64_t ns = source_now_ns(&h.s), tsc = source_tsc(&h.s);
	CHECK(ns >= 2000000);
	usleep(2000);
	CHECK(source_now_ns(&h.s) == ns && source_tsc(&h.s) == tsc);
	source_host_stop(&h);
	CHECK(source_now_ns(&h.s) == ns);
	source_host_go(&h);
	CHECK(source_now_ns(&h.s) - ns < 1000000000 && source_tsc(&h.s) - tsc < h.s.tsc_hz);
	usleep(2000);
	CHECK(source_now_ns(&h.s) - ns >= 2000000 && source_tsc(&h.s) > tsc);
}

TEST(time_continues_from_what_is_set_at_the_speed_that_is_set)
{
	struct source_host h;

	source_host_init(&h, 0);
	uint64_t hz = h.s.tsc_hz;
	source_host_set(&h, 5000000000, 1000, hz + hz / 10000);
	CHECK(!h.is_scaled);
	source_host_set(&h, 5000000000, 1000, 2 * hz);
	uint64_t ns = source_now_ns(&h.s), tsc = source_tsc(&h.s);
	CHECK(ns >= 5000000000 && ns < 6000000000 && tsc >= 1000);
	usleep(50000);
	double passed = (double)(source_tsc(&h.s) - tsc) * 1e9 / (double)(source_now_ns(&h.s) - ns);
	CHECK(passed > 1.95 * (double)hz && passed < 2.05 * (double)hz);
}

TEST(what_engines_add_to_the_tsc_gives_the_sources_tsc)
{
	struct source_host h;

	source_host_init(&h, 0);
	if (!h.has_tsc)
		SKIP("this processor has no invariant TSC");
	for (int i = 0; i < 3; i++) {
		uint64_t before = source_tsc(&h.s), by_hand = __builtin_ia32_rdtsc() + *h.s.tsc_add, after = source_tsc(&h.s);

		CHECK(before <= by_hand && by_hand <= after);
		source_host_stop(&h);
		usleep(1000);
		source_host_go(&h);
	}
	source_host_set(&h, 0, 5, 3 * h.s.tsc_hz);
	CHECK(!h.s.tsc_add);
}

TEST(an_expected_frequency_is_taken_when_it_is_right_and_only_then)
{
	struct source_host h, again, wrong;

	source_host_init(&h, 0);
	source_host_init(&again, h.s.tsc_hz);
	source_host_init(&wrong, 2 * h.s.tsc_hz);
	CHECK(again.s.tsc_hz > h.s.tsc_hz / 1000 * 999 && again.s.tsc_hz < h.s.tsc_hz / 1000 * 1001);
	CHECK(wrong.s.tsc_hz > h.s.tsc_hz / 100 * 99 && wrong.s.tsc_hz < h.s.tsc_hz / 100 * 101);
}

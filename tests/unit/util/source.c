/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <unistd.h>
#include "util/source.h"

TEST(the_tsc_runs_at_its_stated_frequency)
{
	struct source_host h;

	source_host_init(&h);
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

	source_host_init(&h);
	source_random(&h.s, a, sizeof(a));
	source_random(&h.s, b, sizeof(b));
	CHECK(memcmp(a, b, 16) && memcmp(a + 584, b + 584, 16));
}

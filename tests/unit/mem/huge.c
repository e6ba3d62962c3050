/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "mem/huge.h"
#include "util/err.h"

enum { PARTS = 8 };

static uint64_t bytes_used(const struct gmem *m)
{
	struct stat st;

	CHECK_EQ(fstat(m->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static struct gmem *ram(void)
{
	struct gmem *m = NULL;

	CHECK_EQ(gmem_new(&m, (uint64_t)PARTS * HUGE_SIZE, NULL), 0);
	return m;
}

/* All but HOLES pages of part N, each page with its own number. */
static void fill(struct gmem *m, uint64_t n, unsigned holes)
{
	for (uint64_t page = holes; page < HUGE_SIZE / GMEM_PAGE_SIZE; page++)
		memset(m->host + n * HUGE_SIZE + page * GMEM_PAGE_SIZE, (int)(page + n) | 1, GMEM_PAGE_SIZE);
}

static void check_filled(const struct gmem *m, uint64_t n, unsigned holes)
{
	for (uint64_t page = 0; page < HUGE_SIZE / GMEM_PAGE_SIZE; page++)
		for (uint64_t at = 0; at < GMEM_PAGE_SIZE; at += 512)
			CHECK_EQ(m->host[n * HUGE_SIZE + page * GMEM_PAGE_SIZE + at], page < holes ? 0 : (uint8_t)(page + n) | 1);
}

/* Until a pass finds nothing more: how many parts have been collapsed. */
static uint64_t run(struct huge *h)
{
	for (unsigned ms = 1, n = 0; ms && ms < 2000 && n < 100; n++)
		ms = huge_step(h);
	return huge_count(h);
}

TEST(memory_begins_where_large_pages_can)
{
	AUTO(gmem_free) struct gmem *m = ram();

	CHECK_EQ((uintptr_t)m->host % HUGE_SIZE, 0);
}

TEST(what_is_full_is_collapsed_and_keeps_its_bytes)
{
	AUTO(gmem_free) struct gmem *m = ram();
	AUTO(huge_free) struct huge *h = NULL;

	CHECK_EQ(huge_new(&h, m, NULL), 0);
	fill(m, 1, 0);
	fill(m, 4, HUGE_MAX_HOLES);
	fill(m, 5, 0);
	if (!run(h))
		SKIP("this kernel makes no large pages of a memfd");
	CHECK_EQ(huge_count(h), 3);
	CHECK_EQ(bytes_used(m), 3ull * HUGE_SIZE);
	check_filled(m, 1, 0);
	check_filled(m, 4, HUGE_MAX_HOLES);
	check_filled(m, 5, 0);
	fill(m, 7, 0);
	CHECK_EQ(run(h), 4);
	check_filled(m, 7, 0);
}

TEST(what_has_more_than_a_few_holes_does_not_grow)
{
	AUTO(gmem_free) struct gmem *m = ram();
	AUTO(huge_free) struct huge *h = NULL;

	CHECK_EQ(huge_new(&h, m, NULL), 0);
	fill(m, 0, HUGE_MAX_HOLES + 1);
	fill(m, 3, 511);
	uint64_t before = bytes_used(m);

	CHECK_EQ(run(h), 0);
	CHECK_EQ(bytes_used(m), before);
}

TEST(every_part_is_collapsed_once)
{
	AUTO(gmem_free) struct gmem *m = ram();
	AUTO(huge_free) struct huge *h = NULL;

	CHECK_EQ(huge_new(&h, m, NULL), 0);
	fill(m, 2, 0);
	if (!run(h))
		SKIP("this kernel makes no large pages of a memfd");
	for (unsigned n = 0; n < 8; n++)
		CHECK_EQ(run(h), 1);
}

TEST(memory_that_is_private_to_this_process_is_left_alone)
{
	AUTO(gmem_free) struct gmem *m = ram(), *mine = NULL;
	AUTO(huge_free) struct huge *h = NULL;

	fill(m, 0, 0);
	CHECK_EQ(gmem_new_mapped(&mine, m->size, m->fd, 0, NULL), 0);
	CHECK_EQ(huge_new(&h, mine, NULL), 0);
	CHECK_EQ(huge_step(h), 0);
	CHECK_EQ(huge_count(h), 0);
}

TEST(the_thread_ends_when_asked_to)
{
	AUTO(gmem_free) struct gmem *m = ram();

	for (unsigned n = 0; n < 4; n++) {
		AUTO(huge_free) struct huge *h = NULL;

		CHECK_EQ(huge_new(&h, m, NULL), 0);
		CHECK_EQ(huge_start(h, NULL), 0);
	}
}

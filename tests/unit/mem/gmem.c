/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "mem/gmem.h"
#include "util/endian.h"
#include "util/err.h"

static struct gmem *ram(uint64_t size)
{
	struct err err = ERR_INIT;
	struct gmem *m = NULL;

	if (gmem_new(&m, size, &err) < 0)
		FAIL("%s", err.msg);
	return m;
}

TEST(sizes_out_of_bounds_are_refused_with_a_sentence)
{
	const uint64_t bad[] = { 0, 4096, GMEM_MIN_SIZE + 1, GMEM_MAX_SIZE + 4096, UINT64_MAX };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct gmem *m = NULL;
		struct err err = ERR_INIT;

		CHECK_EQ(gmem_new(&m, bad[i], &err), -EINVAL);
		CHECK(!m);
		CHECK_HAS(err.msg, "4 KiB");
	}
	gmem_free(NULL);
}

TEST(ranges_that_leave_ram_are_refused_whole)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	uint8_t b[16] = { 1, 2, 3 };

	CHECK_EQ(gmem_write(m, GMEM_MIN_SIZE - 16, b, 16), 0);
	CHECK_EQ(gmem_write(m, GMEM_MIN_SIZE - 15, b, 16), -EFAULT);
	CHECK_EQ(m->host[GMEM_MIN_SIZE - 15], 2);
	CHECK_EQ(gmem_read(m, GMEM_MIN_SIZE, b, 1), -EFAULT);
	CHECK_EQ(gmem_read(m, UINT64_MAX, b, 1), -EFAULT);
	CHECK_EQ(gmem_read(m, UINT64_MAX - 7, b, 16), -EFAULT);
	CHECK(!gmem_ptr(m, 0, UINT64_MAX));
	CHECK_EQ(gmem_fill(m, 0, 0, GMEM_MIN_SIZE + 1), -EFAULT);
}

TEST(ram_above_3_gib_moves_to_4_gib_and_the_hole_is_not_ram)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_LOW_MAX + (1 << 20));
	uint8_t b = 0x5a;

	CHECK_EQ(gmem_write(m, GMEM_HIGH_BASE, &b, 1), 0);
	CHECK_EQ(m->host[GMEM_LOW_MAX], 0x5a);
	CHECK_EQ(gmem_offset(m, GMEM_HIGH_BASE + (1 << 20), 1), UINT64_MAX);
	CHECK_EQ(gmem_offset(m, GMEM_LOW_MAX, 1), UINT64_MAX);
	CHECK_EQ(gmem_offset(m, GMEM_LOW_MAX - 1, 2), UINT64_MAX);
	CHECK_EQ(gmem_offset(m, GMEM_HIGH_BASE - 1, 2), UINT64_MAX);
	CHECK_EQ(gmem_gpa(m, GMEM_LOW_MAX), GMEM_HIGH_BASE);
	CHECK_EQ(gmem_gpa(m, GMEM_LOW_MAX - 1), GMEM_LOW_MAX - 1);
}

TEST(a_write_to_a_code_page_bumps_its_generation_and_no_other)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	uint8_t b[2] = { 0 };

	gmem_flag_set(m, 2, GMEM_PAGE_CODE);
	CHECK_EQ(gmem_write(m, 0x1fff, b, 1), 0);
	CHECK_EQ(m->page_gen[2], 0);
	CHECK_EQ(gmem_write(m, 0x1fff, b, 2), 0);
	CHECK_EQ(m->page_gen[2], 1);
	CHECK_EQ(gmem_write(m, 0x2fff, b, 0), 0);
	CHECK_EQ(m->page_gen[2], 1);
	CHECK_EQ(m->page_gen[1], 0);
}

TEST(a_code_page_that_is_written_again_and_again_loses_its_flag)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	uint8_t b = 0;

	gmem_flag_set(m, 2, GMEM_PAGE_CODE);
	for (unsigned i = 1; i < GMEM_CODE_PATIENCE; i++)
		CHECK_EQ(gmem_write(m, 0x2000, &b, 1), 0);
	CHECK_EQ(m->page_flags[2], GMEM_PAGE_CODE);
	CHECK_EQ(gmem_write(m, 0x2000, &b, 1), 0);
	CHECK_EQ(m->page_flags[2], 0);
	CHECK_EQ(m->page_gen[2], GMEM_CODE_PATIENCE);
	CHECK_EQ(gmem_write(m, 0x2000, &b, 1), 0);
	CHECK_EQ(m->page_gen[2], GMEM_CODE_PATIENCE);
}

TEST(the_dirty_log_names_each_written_page_once_per_fetch)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	uint64_t map[4];
	uint8_t b = 1;

	CHECK_EQ(gmem_write(m, 0x3000, &b, 1), 0);
	CHECK_EQ(gmem_log_start(m, NULL), 0);
	CHECK_EQ(gmem_fill(m, 0x40fff, 1, 2), 0);
	CHECK_EQ(gmem_fill(m, 0x40fff, 2, 2), 0);
	gmem_log_fetch(m, map);
	CHECK_EQ(map[0], 0);
	CHECK_EQ(map[1], 3);
	gmem_log_fetch(m, map);
	CHECK_EQ(map[1], 0);
	CHECK_EQ(gmem_write(m, 0x41000, &b, 1), 0);
	gmem_log_fetch(m, map);
	CHECK_EQ(map[1], 2);
	gmem_log_stop(m);
	CHECK_EQ(gmem_write(m, 0x41000, &b, 1), 0);
	CHECK_EQ(gmem_log_start(m, NULL), 0);
	gmem_log_fetch(m, map);
	CHECK_EQ(map[1], 0);
}

struct writer {
	struct gmem *m;
	_Atomic bool is_done;
};

enum { N_WRITES = 300000 };

static void *write_counter(void *arg)
{
	struct writer *w = arg;

	for (uint64_t n = 1; n <= N_WRITES; n++)
		if (gmem_write(w->m, 0x5000 + 8 * (n % 512), &n, 8) < 0)
			break;
	atomic_store(&w->is_done, true);
	return NULL;
}

TEST(copying_what_the_log_names_never_loses_a_store)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	struct writer w = { .m = m };
	static uint8_t copy[4096];
	uint64_t map[4];
	pthread_t t;

	CHECK_EQ(gmem_log_start(m, NULL), 0);
	CHECK_EQ(pthread_create(&t, NULL, write_counter, &w), 0);
	while (!atomic_load(&w.is_done)) {
		gmem_log_fetch(m, map);
		if (map[0] & 1 << 5)
			memcpy(copy, m->host + 0x5000, sizeof(copy));
	}
	pthread_join(t, NULL);
	gmem_log_fetch(m, map);
	if (map[0] & 1 << 5)
		memcpy(copy, m->host + 0x5000, sizeof(copy));
	CHECK_MEM(copy, m->host + 0x5000, sizeof(copy));
	CHECK_EQ(get_le64(copy + 8 * (N_WRITES % 512)), N_WRITES);
}

/* Ranges that may hold data, as "start-end " in pages. */
static void data_is(const struct gmem *m, const char *want)
{
	char got[256] = "";
	uint64_t at = 0, start, end;

	while (gmem_next_data(m, at, &start, &end)) {
		CHECK(start >= at && end > start && end <= m->size && !(start % GMEM_PAGE_SIZE) && !(end % GMEM_PAGE_SIZE));
		/* the host may give more than was asked for at once, and neighbours in one piece or in two */
		for (uint64_t p = start; p < end; p += GMEM_PAGE_SIZE) {
			if (m->host[p])
				snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u ", (unsigned)(p / GMEM_PAGE_SIZE));
		}
		at = end;
	}
	CHECK_STR(got, want);
}

TEST(data_is_found_in_new_memory_and_in_memory_that_is_mapped)
{
	AUTO(gmem_free) struct gmem *m = ram(8 << 20), *mapped = NULL;

	data_is(m, "");
	m->host[3 * GMEM_PAGE_SIZE] = 1;
	m->host[2047 * GMEM_PAGE_SIZE] = 1;
	data_is(m, "3 2047 ");
	/* From the second page on; page 3 becomes 2. */
	CHECK_EQ(gmem_new_mapped(&mapped, 4 << 20, m->fd, GMEM_PAGE_SIZE, NULL), 0);
	CHECK_EQ(mapped->fd, -1);
	data_is(mapped, "2 ");
	mapped->host[1000 * GMEM_PAGE_SIZE] = 1;
	mapped->host[1023 * GMEM_PAGE_SIZE] = 1;
	data_is(mapped, "2 1000 1023 ");
	mapped->host[2 * GMEM_PAGE_SIZE] = 0;
	data_is(mapped, "1000 1023 ");
	data_is(m, "3 2047 ");          /* what is written stays private */
}

/* Does the host read the mapping at P page by page? ("rr", Linux Documentation/filesystems/proc.rst) */
static bool is_read_singly(const void *p)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	char line[512];
	bool is_here = false, is_single = false;

	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long start, end;

		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_here = (uintptr_t)p >= start && (uintptr_t)p < end;
		if (is_here && !strncmp(line, "VmFlags:", 8))
			is_single = strstr(line, " rr ");
	}
	fclose(f);
	return is_single;
}

TEST(memory_of_a_file_is_read_page_by_page_until_it_shall_be_read_ahead)
{
	AUTO(gmem_free) struct gmem *m = ram(4 << 20), *mapped = NULL;

	CHECK_EQ(gmem_new_mapped(&mapped, 4 << 20, m->fd, 0, NULL), 0);
	CHECK(is_read_singly(mapped->host));
	gmem_read_ahead(mapped);
	CHECK(!is_read_singly(mapped->host));
	gmem_read_ahead(m);             /* nothing happens */
	CHECK(!is_read_singly(m->host));
}

TEST(a_rom_is_there_for_readers_only)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	const uint64_t base = GMEM_HIGH_BASE - 2 * GMEM_PAGE_SIZE;
	uint8_t rom[2 * GMEM_PAGE_SIZE] = { 0xaa }, b = 0;

	rom[sizeof(rom) - 1] = 0xbb;
	CHECK_EQ(gmem_offset_to_read(m, base, 1), UINT64_MAX);
	CHECK_EQ(gmem_set_rom(m, base, rom, sizeof(rom), NULL), 0);
	CHECK_EQ(gmem_offset_to_read(m, base, sizeof(rom)), m->size);
	CHECK_EQ(m->host[m->size], 0xaa);
	CHECK_EQ(m->host[gmem_offset_to_read(m, GMEM_HIGH_BASE - 1, 1)], 0xbb);
	CHECK_EQ(gmem_gpa(m, m->size + GMEM_PAGE_SIZE), base + GMEM_PAGE_SIZE);
	CHECK_EQ(gmem_offset_to_read(m, base - 1, 2), UINT64_MAX);
	CHECK_EQ(gmem_offset_to_read(m, base, sizeof(rom) + 1), UINT64_MAX);
	CHECK_EQ(gmem_offset_to_read(m, 16, 16), 16);
	CHECK(!gmem_ptr(m, base, 1));
	CHECK_EQ(gmem_read(m, base, &b, 1), -EFAULT);
	CHECK_EQ(gmem_write(m, base, &b, 1), -EFAULT);
}

TEST(a_rom_that_does_not_fit_is_refused)
{
	AUTO(gmem_free) struct gmem *m = ram(GMEM_MIN_SIZE);
	AUTO(free) uint8_t *rom = calloc(1, GMEM_ROM_MAX + GMEM_PAGE_SIZE);
	const struct { uint64_t base, len; } bad[] = {
		{ 0, GMEM_PAGE_SIZE },                                          /* RAM is there */
		{ GMEM_MIN_SIZE - GMEM_PAGE_SIZE, 2 * GMEM_PAGE_SIZE },
		{ 0xff000000, 0 },
		{ 0xff000000, 100 },
		{ 0xff000800, GMEM_PAGE_SIZE },
		{ 0xf0000000, GMEM_ROM_MAX + GMEM_PAGE_SIZE },
		{ -(uint64_t)GMEM_PAGE_SIZE, 2 * GMEM_PAGE_SIZE },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err err = ERR_INIT;

		CHECK_EQ(gmem_set_rom(m, bad[i].base, rom, bad[i].len, &err), -EINVAL);
		CHECK_HAS(err.msg, "does not fit");
		CHECK_EQ(m->rom_size, 0);
	}
}

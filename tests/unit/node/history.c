/* SPDX-License-Identifier: Apache-2.0 */
/* What was used, in rings of a file. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/history.h"
#include "util/cleanup.h"
#include "util/err.h"

enum { BEGIN = 1800000000 };    /* a multiple of 900 */

static char path[] = "/tmp/viv-history-XXXXXX";

static void fresh(void)
{
	snprintf(path, sizeof(path), "/tmp/viv-history-XXXXXX");
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	close(fd);
}

static void add(int64_t now, double cpu)
{
	struct usage u = { .v = { [USAGE_CPU] = cpu, [USAGE_MEMORY] = 1 << 20 } };

	CHECK_EQ(history_add(path, now, 5, &u, NULL), 0);
}

static const json_t *cpus_of(const json_t *history)
{
	return json_object_get(json_object_get(history, "fields"), "cpu");
}

static json_t *history(int64_t now, unsigned span, unsigned points)
{
	json_t *out = NULL;

	CHECK_EQ(history_read(&out, path, now, span, points, NULL), 0);
	return out;
}

TEST(values_come_back_in_order_with_gaps)
{
	fresh();
	add(BEGIN, 1);
	add(BEGIN + 5, 2);
	add(BEGIN + 15, 4);
	AUTO(json_decref) json_t *h = history(BEGIN + 15, 20, 100);
	CHECK_EQ(json_integer_value(json_object_get(h, "from")), BEGIN);
	CHECK_EQ(json_integer_value(json_object_get(h, "step")), 5);
	CHECK_EQ(json_array_size(cpus_of(h)), 4);
	CHECK(json_real_value(json_array_get(cpus_of(h), 0)) == 1);
	CHECK(json_real_value(json_array_get(cpus_of(h), 1)) == 2);
	CHECK(json_is_null(json_array_get(cpus_of(h), 2)));
	CHECK(json_real_value(json_array_get(cpus_of(h), 3)) == 4);
	unlink(path);
}

TEST(longer_times_are_averages_of_what_was_measured)
{
	fresh();
	for (unsigned i = 0; i < 24; i++)
		add(BEGIN + 5 * i, i < 12 ? 1 : 3);
	AUTO(json_decref) json_t *day = history(BEGIN + 119, 86400, 1440);
	CHECK_EQ(json_integer_value(json_object_get(day, "step")), 60);
	CHECK(json_real_value(json_array_get(cpus_of(day), 1438)) == 1);
	CHECK(json_real_value(json_array_get(cpus_of(day), 1439)) == 3);
	AUTO(json_decref) json_t *month = history(BEGIN + 119, HISTORY_SPAN_MAX_S, HISTORY_POINTS_MAX);
	CHECK_EQ(json_integer_value(json_object_get(month, "step")), 900);
	CHECK(json_real_value(json_array_get(cpus_of(month), 2975)) == 2);
	/* And fewer points are averages of averages. */
	AUTO(json_decref) json_t *few = history(BEGIN + 119, 3600, 30);
	CHECK_EQ(json_integer_value(json_object_get(few, "step")), 120);
	CHECK(json_real_value(json_array_get(cpus_of(few), 29)) == 2);
	CHECK(json_is_null(json_array_get(cpus_of(few), 28)));
	unlink(path);
}

TEST(what_an_earlier_round_left_does_not_show_and_the_file_does_not_grow)
{
	struct stat before, after;

	fresh();
	for (unsigned i = 0; i < 720; i++)
		add(BEGIN + 5 * i, 1);
	CHECK_EQ(stat(path, &before), 0);
	add(BEGIN + 40 * 86400, 7);
	AUTO(json_decref) json_t *h = history(BEGIN + 40 * 86400, 3600, 720);
	for (unsigned i = 0; i < 719; i++)
		CHECK(json_is_null(json_array_get(cpus_of(h), i)));
	CHECK(json_real_value(json_array_get(cpus_of(h), 719)) == 7);
	for (unsigned i = 0; i < 3000; i++)
		add(BEGIN + 41 * 86400 + 900 * i, 1);
	CHECK_EQ(stat(path, &after), 0);
	CHECK(after.st_size < 200 << 10);
	unlink(path);
}

TEST(a_clock_that_goes_back_and_damage_cost_no_more_than_their_values)
{
	fresh();
	add(BEGIN + 3600, 9);
	add(BEGIN, 1);
	add(BEGIN, 2);
	add(BEGIN, 3);          /* more than the step has */
	AUTO(json_decref) json_t *h = history(BEGIN, 5, 1);
	CHECK(json_real_value(json_array_get(cpus_of(h), 0)) == 3);
	FILE *f = fopen(path, "r+");
	CHECK(f != NULL);
	for (unsigned i = 0; i < 1000; i++)
		putc(0xff, f);
	fclose(f);
	AUTO(json_decref) json_t *none = history(BEGIN, 5, 1);
	CHECK(json_is_null(json_array_get(cpus_of(none), 0)));
	add(BEGIN, 4);
	AUTO(json_decref) json_t *again = history(BEGIN, 5, 1);
	CHECK(json_real_value(json_array_get(cpus_of(again), 0)) == 4);
	unlink(path);
}

/* Values that are known of the 31 days before NOW, of 2976. */
static unsigned known(int64_t now)
{
	AUTO(json_decref) json_t *month = history(now, HISTORY_SPAN_MAX_S, 4096);
	unsigned n = 0;
	size_t i;
	json_t *v;

	json_array_foreach(cpus_of(month), i, v)
		n += !json_is_null(v);
	return n;
}

TEST(a_clock_that_is_years_wrong_for_an_hour_costs_a_month_an_hour)
{
	enum { MONTH = HISTORY_SPAN_MAX_S, YEARS = 10 * 365 * 86400 };
	static const int64_t wrong[] = { (int64_t)BEGIN + MONTH + YEARS, 86400, BEGIN + MONTH - 3600, (int64_t)1 << 34 };
	struct stat st;

	fresh();
	for (int64_t at = BEGIN; at < BEGIN + MONTH; at += 900)
		add(at, 1);
	unsigned all = known(BEGIN + MONTH - 1);
	CHECK(all >= 2975);
	for (unsigned k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
		for (unsigned i = 0; i < 3600; i += 5)
			add(wrong[k] + i, 2);
		CHECK(known(BEGIN + MONTH - 1) + 5 * (k + 1) >= all);
	}
	CHECK(!stat(path, &st) && st.st_size < 200 << 10);
	unlink(path);
}

TEST(no_file_is_nothing_known_and_bounds_are_told)
{
	json_t *out = NULL;
	struct err err = ERR_INIT;

	CHECK_EQ(history_read(&out, "/nonexistent/history", BEGIN, 60, 12, &err), 0);
	CHECK_EQ(json_array_size(cpus_of(out)), 12);
	json_decref(out);
	CHECK_EQ(history_read(&out, path, BEGIN, 1, 12, &err), -EINVAL);
	CHECK_EQ(history_read(&out, path, BEGIN, 60, 0, &err), -EINVAL);
	CHECK_EQ(history_read(&out, path, BEGIN, HISTORY_SPAN_MAX_S + 1, 1, &err), -EINVAL);
	CHECK_EQ(history_read(&out, path, BEGIN, 60, HISTORY_POINTS_MAX + 1, &err), -EINVAL);
	struct usage u = { .v = { 0 } };
	CHECK(history_add("/nonexistent/history", BEGIN, 5, &u, &err) < 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Block jobs on a disk that a guest writes all the time. */
#include "job_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "test.h"

/* base <- mid <- top, each with something of its own. */
static void chain(struct rig *r, const char *base_format)
{
	rig_add_image(r, "base", base_format, NULL, 60);
	rig_add_image(r, "mid", "qcow2", "base", 40);
	rig_add_image(r, "top", "qcow2", "mid", 20);
	rig_open(r, NULL);
}

static unsigned chain_len(const struct rig *r)
{
	unsigned n = 0;

	for (struct blk *b = blk_front_top(r->front); b; b = blk_backing(b))
		n++;
	return n;
}

static void finish(struct rig *r)
{
	char top[200], format[16];

	rig_verify(r);
	strcpy(top, blk_name(r->front));
	strcpy(format, blk_format(r->front));
	rig_close(r);
	rig_verify_image(r, top, format, true);
	rig_fini(r);
}

TEST(a_snapshot_takes_all_later_writes_and_the_old_top_stays)
{
	struct rig r;

	for (int i = 0; i < 2; i++) {
		rig_init(&r, 1 + (uint64_t)i);
		rig_add_image(&r, "one", i ? "raw" : "qcow2", NULL, 40);
		rig_open(&r, NULL);
		rig_until(&r, &r.n_completed, 0, 50);
		for (int k = 0; k < 3; k++) {
			char name[16];

			snprintf(name, sizeof(name), "over%d", k);
			struct blk_job_args a = { .kind = "overlay", .front = r.front, .target = rig_new_file(&r, name, "qcow2") };

			a.overlay.fd = -1;
			rig_start(&r, &a, 1);
			close(a.target.fd);
			CHECK_STR(blk_name(r.front), rig_path(&r, name));
			CHECK(blk_is_readonly(blk_backing(r.front)));
			rig_until(&r, &r.n_completed, 0, 50);
		}
		CHECK_EQ(chain_len(&r), 4);
		finish(&r);
	}
}

TEST(a_stream_pulls_in_what_is_behind)
{
	static const struct { const char *base; unsigned left; } cases[] = { { NULL, 1 }, { "2", 2 } };
	struct rig r;

	for (size_t i = 0; i < 2; i++) {
		rig_init(&r, 10 + i);
		chain(&r, i ? "raw" : "qcow2");
		struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .base = cases[i].base,
					  .target.fd = -1, .overlay.fd = -1, .speed = 20 << 20 };

		rig_start(&r, &a, 1);
		CHECK_HAS(rig_start_fails(&r, &a), "there is a job 's' already");
		a.id = "t";
		CHECK_HAS(rig_start_fails(&r, &a), "has a job, 's'");
		rig_until(&r, &r.n_completed, 1, 100);
		CHECK_EQ(chain_len(&r), cases[i].left);
		finish(&r);
	}
}

TEST(a_job_is_paused_slowed_and_cancelled)
{
	struct rig r;
	struct blk_job_info info;

	rig_init(&r, 20);
	chain(&r, "qcow2");
	struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .target.fd = -1, .overlay.fd = -1, .speed = 1 << 20 };

	rig_start(&r, &a, 1);
	rig_until(&r, &r.n_completed, 0, 50);
	struct blk_job *j = blk_job_find(&r.jobs, "s", NULL);

	CHECK(j);
	CHECK_EQ(blk_job_complete(j, false, NULL), -ENOTSUP);
	blk_job_pause(j, true);
	for (int i = 0; i < 50; i++)
		rig_turn(&r);
	blk_job_get_info(j, &info);
	uint64_t done = info.done;

	CHECK(info.is_paused && info.total == RIG_SIZE && done < info.total);
	rig_until(&r, &r.n_completed, 0, 100);
	blk_job_get_info(j, &info);
	CHECK_EQ(info.done, done);
	blk_job_pause(j, false);
	blk_job_cancel(j);
	rig_until(&r, &r.n_cancelled, 1, 0);
	CHECK(!blk_job_find(&r.jobs, "s", NULL));
	CHECK_EQ(chain_len(&r), 3);
	a.id = "again";
	rig_start(&r, &a, 1);
	blk_job_set_speed(blk_job_find(&r.jobs, "again", NULL), 0);
	rig_until(&r, &r.n_completed, 1, 0);
	finish(&r);
}

TEST(closing_ends_a_job_in_the_middle)
{
	struct rig r;

	rig_init(&r, 30);
	chain(&r, "qcow2");
	struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .target.fd = -1, .overlay.fd = -1, .speed = 1000 };

	rig_start(&r, &a, 1);
	rig_until(&r, &r.n_completed, 0, 50);
	rig_close(&r);
	CHECK_EQ(r.n_cancelled, 0);     /* nobody is told any more */
	rig_verify_image(&r, "top", "qcow2", true);
	rig_fini(&r);
}

TEST(a_disk_grows_while_it_is_written)
{
	struct rig r;

	for (int i = 0; i < 2; i++) {
		rig_init(&r, 40);
		rig_add_image(&r, "one", i ? "raw" : "qcow2", NULL, 40);
		rig_open(&r, NULL);
		struct blk_job_args a = { .kind = "resize", .front = r.front, .size = RIG_SIZE + (8 << 20), .target.fd = -1,
					  .overlay.fd = -1 };

		rig_until(&r, &r.n_completed, 0, 20);
		rig_start(&r, &a, 1);
		CHECK_EQ(blk_size(r.front), RIG_SIZE + (8 << 20));
		uint8_t buf[512];

		CHECK_EQ(blk_pread(r.front, RIG_SIZE + (8 << 20) - 512, buf, 512), 0);
		CHECK(!buf[0] && !memcmp(buf, buf + 1, 511));
		a.size = RIG_SIZE;
		CHECK_HAS(rig_start_fails(&r, &a), "cannot become smaller");
		a.size = RIG_SIZE + (9 << 20) + 1;
		CHECK_HAS(rig_start_fails(&r, &a), "multiple of 512");
		finish(&r);
	}
}

TEST(what_cannot_be_is_refused_and_changes_nothing)
{
	struct rig r;

	rig_init(&r, 50);
	chain(&r, "qcow2");
	struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .target.fd = -1, .overlay.fd = -1 };

	a.base = "nonsense";
	CHECK_HAS(rig_start_fails(&r, &a), "no image 'nonsense' behind it");
	a.base = "0";
	CHECK_HAS(rig_start_fails(&r, &a), "is the top image");
	a.base = NULL;
	a.id = "a b";
	CHECK_HAS(rig_start_fails(&r, &a), "no space");
	a.id = "s";
	a.kind = "dance";
	CHECK_HAS(rig_start_fails(&r, &a), "no kind of job 'dance'");
	struct blk_job_args o = { .kind = "overlay", .front = r.front, .target = rig_open_file(&r, "full", "qcow2"), .overlay.fd = -1 };

	CHECK_EQ(write(o.target.fd, "x", 1), 1);
	CHECK_HAS(rig_start_fails(&r, &o), "is not empty");
	o.target.format = "raw";
	CHECK_HAS(rig_start_fails(&r, &o), "cannot have a backing image");
	close(o.target.fd);
	o.target.fd = -1;
	CHECK_HAS(rig_start_fails(&r, &o), "needs an image");
	CHECK_EQ(chain_len(&r), 3);
	finish(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Block jobs on a disk that a guest writes all the time. */
#include "job_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"

/* base <- mid <- top, each with something of its own. Every second time with a host that answers in any order. */
static void chain_on(struct rig *r, const char *base_format, const struct aio_ops *aio)
{
	rig_add_image(r, "base", base_format, NULL, 60);
	rig_add_image(r, "mid", "qcow2", "base", 40);
	rig_add_image(r, "top", "qcow2", "mid", 20);
	rig_open(r, aio);
}

static void chain(struct rig *r, const char *base_format)
{
	chain_on(r, base_format, r->rng & 1 ? &rig_random_aio : NULL);
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
			struct blk_job_args a = { .kind = "overlay", .front = r.front, .target = rig_new_file(&r,
													      name,
				"qcow2") };

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

	for (size_t i = 0; i < 6; i++) {
		rig_init(&r, 10 + i);
		chain_on(&r, i % 2 ? "raw" : "qcow2", i < 5 ? &rig_random_aio : NULL);
		struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .base = cases[i % 2].base,
					  .target.fd = -1, .overlay.fd = -1, .speed = i < 4 ? 0 : 20 << 20 };

		rig_start(&r, &a, 1);
		if (i >= 4) {
			CHECK_HAS(rig_start_fails(&r, &a), "there is a job 's' already");
			a.id = "t";
			CHECK_HAS(rig_start_fails(&r, &a), "has a job, 's'");
		}
		rig_until(&r, &r.n_completed, 1, 100);
		CHECK_EQ(chain_len(&r), cases[i % 2].left);
		finish(&r);
	}
}

TEST(a_job_is_paused_slowed_and_cancelled)
{
	struct rig r;
	struct blk_job_info info;

	rig_init(&r, 20);
	chain(&r, "qcow2");
	struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .target.fd = -1, .overlay.fd = -1,
				 .speed = 1 << 20 };

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
	struct blk_job_args a = { .kind = "stream", .id = "s", .front = r.front, .target.fd = -1, .overlay.fd = -1,
				 .speed = 1000 };

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
		struct blk_job_args a = { .kind = "resize", .front = r.front, .size = RIG_SIZE + (8 << 20),
					 .target.fd = -1,
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
	struct blk_job_args o = { .kind = "overlay", .front = r.front, .target = rig_open_file(&r, "full", "qcow2"),
				 .overlay.fd = -1 };

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

/* --- mirror --------------------------------------------------------------------------------------- */

static struct blk_job_args mirror(struct rig *r, const char *format, enum blk_job_sync sync)
{
	struct blk_job_args a = { .kind = "mirror", .id = "m", .front = r->front, .sync = sync, .overlay.fd = -1,
				  .target = rig_new_file(r, "target", format) };

	return a;
}

TEST(a_mirror_takes_over_while_the_guest_writes)
{
	static const char *const formats[] = { "raw", "qcow2", "qcow2" };
	struct rig r;

	for (size_t i = 0; i < 3; i++) {
		rig_init(&r, 100 + i);
		chain(&r, "qcow2");
		struct blk_job_args a = mirror(&r, formats[i], BLK_SYNC_FULL);

		a.mode = i == 2 ? BLK_MODE_BLOCKING : BLK_MODE_AUTO;
		a.stays_ready = i != 0;
		a.speed = i == 1 ? 50 << 20 : 0;
		rig_start(&r, &a, 1);
		close(a.target.fd);
		if (a.stays_ready) {
			rig_until(&r, &r.n_ready, 1, 100);
			CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "m", NULL), false, NULL), 0);
		}
		rig_until(&r, &r.n_completed, 1, 100);
		CHECK_STR(blk_name(r.front), rig_path(&r, "target"));
		CHECK_EQ(chain_len(&r), 1);
		finish(&r);
	}
}

TEST(a_mirror_that_stays_is_the_disk_of_that_moment)
{
	struct rig r;

	rig_init(&r, 110);
	chain(&r, "raw");
	struct blk_job_args a = mirror(&r, "raw", BLK_SYNC_FULL);

	a.stays_ready = true;
	a.mode = BLK_MODE_BLOCKING;
	rig_start(&r, &a, 1);
	close(a.target.fd);
	CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "m", NULL), true, NULL), -EAGAIN);
	rig_until(&r, &r.n_ready, 1, 300);
	rig_settle(&r);
	CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "m", NULL), true, NULL), 0);
	rig_until(&r, &r.n_completed, 1, 0);
	CHECK_STR(blk_name(r.front), rig_path(&r, "top"));
	rig_verify_image(&r, "target", "raw", true);
	r.is_quiet = false;
	rig_until(&r, &r.n_completed, 1, 50);
	finish(&r);
}

TEST(a_blocking_mirror_gets_ready_however_much_is_written)
{
	struct rig r;
	struct blk_job_info info;

	rig_init(&r, 120);
	chain(&r, "qcow2");
	struct blk_job_args a = mirror(&r, "raw", BLK_SYNC_FULL);

	a.stays_ready = true;
	a.speed = 8 << 20;
	rig_start(&r, &a, 1);
	close(a.target.fd);
	CHECK_EQ(blk_job_set_mode(blk_job_find(&r.jobs, "m", NULL), BLK_MODE_BLOCKING, NULL), 0);
	rig_until(&r, &r.n_ready, 1, 0);
	blk_job_get_info(blk_job_find(&r.jobs, "m", NULL), &info);
	CHECK(info.is_blocking && info.is_ready);
	blk_job_cancel(blk_job_find(&r.jobs, "m", NULL));
	rig_until(&r, &r.n_cancelled, 1, 20);
	CHECK_STR(blk_name(r.front), rig_path(&r, "top"));
	finish(&r);
}

TEST(a_mirror_of_the_top_keeps_what_is_behind)
{
	struct rig r;

	for (int i = 0; i < 2; i++) {
		rig_init(&r, 130 + (uint64_t)i);
		chain(&r, "qcow2");
		struct blk_job_args a = mirror(&r, "qcow2", i ? BLK_SYNC_NONE : BLK_SYNC_TOP);

		a.mode = i ? BLK_MODE_BLOCKING : BLK_MODE_AUTO;
		CHECK_HAS(rig_start_fails(&r, &a), "needs a backing image");
		CHECK_EQ(ftruncate(a.target.fd, 0), 0);
		a.target.backing = i ? "top" : "mid";
		a.target.backing_format = "qcow2";
		a.stays_ready = true;
		rig_start(&r, &a, 1);
		close(a.target.fd);
		rig_until(&r, &r.n_ready, 1, 100);
		CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "m", NULL), false, NULL), 0);
		rig_until(&r, &r.n_completed, 1, 100);
		CHECK_STR(blk_name(r.front), rig_path(&r, "target"));
		CHECK_EQ(chain_len(&r), i ? 4 : 3);
		finish(&r);
	}
}

TEST(a_target_that_does_not_fit_is_refused)
{
	struct rig r;

	rig_init(&r, 140);
	chain(&r, "qcow2");
	struct blk_job_args a = mirror(&r, "raw", BLK_SYNC_FULL);

	a.target.is_empty = false;
	CHECK_EQ(ftruncate(a.target.fd, RIG_SIZE - 512), 0);
	CHECK_HAS(rig_start_fails(&r, &a), "a mirror needs the same");
	close(a.target.fd);
	a.target = rig_open_file(&r, "top", "qcow2");
	CHECK_HAS(rig_start_fails(&r, &a), "open twice");
	close(a.target.fd);
	rig_until(&r, &r.n_completed, 0, 10);
	finish(&r);
}

/* --- commit --------------------------------------------------------------------------------------- */

TEST(an_image_in_the_middle_is_committed)
{
	struct rig r;

	for (int i = 0; i < 2; i++) {
		rig_init(&r, 200 + (uint64_t)i);
		chain(&r, i ? "raw" : "qcow2");
		struct blk_job_args a = { .kind = "commit", .id = "c", .front = r.front, .top = "1", .target.fd = -1,
					 .overlay.fd = -1 };

		CHECK_HAS(rig_start_fails(&r, &a), "open for reading only");
		a.target = rig_open_file(&r, "mid", "qcow2");
		CHECK_HAS(rig_start_fails(&r, &a), "is not the file of");
		close(a.target.fd);
		a.target = rig_open_file(&r, "base", i ? "raw" : "qcow2");
		rig_start(&r, &a, 1);
		rig_until(&r, &r.n_completed, 1, 100);
		close(a.target.fd);
		CHECK_EQ(chain_len(&r), 2);
		CHECK(blk_is_readonly(blk_backing(r.front)));
		CHECK_STR(blk_name(blk_backing(r.front)), rig_path(&r, "base"));
		finish(&r);
	}
}

TEST(the_top_is_committed_while_it_is_written)
{
	struct rig r;

	for (int i = 0; i < 3; i++) {
		rig_init(&r, 210 + (uint64_t)i);
		chain(&r, i == 1 ? "raw" : "qcow2");
		struct blk_job_args a = { .kind = "commit", .id = "c", .front = r.front,
					 .mode = i == 2 ? BLK_MODE_BLOCKING : BLK_MODE_AUTO, .stays_ready = i > 0,
					  .base = i ? NULL : "1", .overlay.fd = -1 };

		a.target = rig_open_file(&r, i ? "base" : "mid", i == 1 ? "raw" : "qcow2");
		rig_start(&r, &a, 1);
		if (a.stays_ready) {
			rig_until(&r, &r.n_ready, 1, 100);
			CHECK_EQ(blk_job_complete(blk_job_find(&r.jobs, "c", NULL), false, NULL), 0);
		}
		rig_until(&r, &r.n_completed, 1, 100);
		close(a.target.fd);
		CHECK_EQ(chain_len(&r), i ? 1 : 2);
		CHECK(!blk_is_readonly(r.front));
		finish(&r);
	}
}

TEST(a_snapshot_is_taken_and_committed_again_without_another_descriptor)
{
	struct rig r;

	rig_init(&r, 220);
	rig_add_image(&r, "one", "qcow2", NULL, 40);
	rig_open(&r, NULL);
	for (int i = 0; i < 3; i++) {
		char name[8] = { 'o', (char)('0' + i) };
		struct blk_job_args a = { .kind = "overlay", .front = r.front, .target = rig_new_file(&r, name,
												      "qcow2"),
					  .overlay.fd = -1 };

		rig_start(&r, &a, 1);
		close(a.target.fd);
		rig_until(&r, &r.n_completed, 0, 60);
	}
	/* o1 and o0 into one, then o2 as well. */
	struct blk_job_args c = { .kind = "commit", .id = "c", .front = r.front, .top = "1", .target.fd = -1,
				 .overlay.fd = -1 };

	rig_start(&r, &c, 1);
	rig_until(&r, &r.n_completed, 1, 60);
	CHECK_EQ(chain_len(&r), 2);
	c.top = NULL;
	rig_start(&r, &c, 1);
	rig_until(&r, &r.n_completed, 2, 60);
	CHECK_EQ(chain_len(&r), 1);
	CHECK_STR(blk_name(r.front), rig_path(&r, "one"));
	finish(&r);
}

TEST(a_commit_that_is_cancelled_leaves_the_chain_as_it_was)
{
	struct rig r;

	rig_init(&r, 230);
	chain(&r, "qcow2");
	struct blk_job_args a = { .kind = "commit", .id = "c", .front = r.front, .overlay.fd = -1, .speed = 1 << 20,
				  .target = rig_open_file(&r, "base", "qcow2") };

	rig_start(&r, &a, 1);
	rig_until(&r, &r.n_ready, 0, 60);
	blk_job_cancel(blk_job_find(&r.jobs, "c", NULL));
	rig_until(&r, &r.n_cancelled, 1, 30);
	close(a.target.fd);
	CHECK_EQ(chain_len(&r), 3);
	CHECK(blk_is_readonly(blk_backing(blk_backing(r.front))));
	finish(&r);
}

/* --- backup --------------------------------------------------------------------------------------- */

/* What the disk is now, by the model. */
static struct rig_model *model_copy(const struct rig *r)
{
	struct rig_model *m = malloc(sizeof(*m));

	*m = *r->m;
	return m;
}

static void verify_backup(struct rig *r, struct rig_model *then, const char *name, const char *format)
{
	struct rig_model *now = r->m;

	r->m = then;
	rig_verify_image(r, name, format, true);
	r->m = now;
	free(then);
}

static void go_on(struct rig *r, uint64_t n_writes)
{
	r->is_quiet = false;
	rig_until(r, &r->n_completed, 0, n_writes);
}

TEST(a_backup_is_the_disk_of_the_instant_it_began)
{
	static const char *const formats[] = { "raw", "qcow2" };
	struct rig r;

	for (size_t i = 0; i < 2; i++) {
		rig_init(&r, 300 + i);
		chain(&r, "qcow2");
		rig_until(&r, &r.n_completed, 0, 60);
		rig_settle(&r);
		struct blk_job_args a = { .kind = "backup", .id = "b", .front = r.front, .speed = 10 << 20,
					 .overlay.fd = -1,
					  .target = rig_new_file(&r, "copy", formats[i]) };
		struct rig_model *then = model_copy(&r);

		rig_start(&r, &a, 1);
		close(a.target.fd);
		go_on(&r, 200);
		rig_until(&r, &r.n_completed, 1, 0);
		verify_backup(&r, then, "copy", formats[i]);
		finish(&r);
	}
}

static void bitmap(struct rig *r, const char *kind, const char *name)
{
	struct blk_job_args a = { .kind = kind, .front = r->front, .bitmap = name, .target.fd = -1, .overlay.fd = -1 };

	rig_start(r, &a, 1);
}

static void backup(struct rig *r, const char *name, const char *backing, const char *by)
{
	struct blk_job_args a = { .kind = "backup", .id = name, .front = r->front, .overlay.fd = -1, .bitmap = by,
				  .target = rig_new_file(r, name, "qcow2") };

	a.target.backing = backing;
	a.target.backing_format = backing ? "qcow2" : NULL;
	rig_start(r, &a, 1);
	close(a.target.fd);
}

TEST(an_incremental_backup_on_a_full_one_is_the_disk)
{
	struct rig r;
	unsigned n = 0;

	rig_init(&r, 310);
	rig_add_image(&r, "top", "qcow2", NULL, 60);
	rig_open(&r, NULL);
	rig_settle(&r);
	bitmap(&r, "bitmap-add", "day");
	backup(&r, "full", NULL, NULL);
	go_on(&r, 20);
	rig_until(&r, &r.n_completed, ++n, 0);
	for (int i = 0; i < 3; i++) {
		char name[8] = { 'i', (char)('0' + i) }, last[8] = { 'i', (char)('0' + i - 1) };

		go_on(&r, 15);
		if (i == 1) {           /* over another process's lifetime */
			rig_close(&r);
			rig_open(&r, NULL);
			go_on(&r, 10);
		}
		rig_settle(&r);
		struct rig_model *then = model_copy(&r);

		backup(&r, name, i ? last : "full", "day");
		go_on(&r, 30);
		rig_until(&r, &r.n_completed, ++n, 0);
		verify_backup(&r, then, name, "qcow2");
	}
	bitmap(&r, "bitmap-remove", "day");
	finish(&r);
}

TEST(a_backup_that_fails_or_is_cancelled_keeps_the_bitmap)
{
	struct rig r;

	rig_init(&r, 320);
	rig_add_image(&r, "top", "qcow2", NULL, 60);
	rig_open(&r, NULL);
	rig_settle(&r);
	backup(&r, "full", NULL, NULL);
	rig_until(&r, &r.n_completed, 1, 0);
	bitmap(&r, "bitmap-add", "day");
	go_on(&r, 20);
	struct blk_job_args a = { .kind = "backup", .id = "b", .front = r.front, .overlay.fd = -1, .bitmap = "day",
				 .speed = 1 << 20,
				  .target = rig_new_file(&r, "lost", "raw") };

	rig_start(&r, &a, 1);
	go_on(&r, 20);
	blk_job_cancel(blk_job_find(&r.jobs, "b", NULL));
	rig_until(&r, &r.n_cancelled, 1, 20);
	close(a.target.fd);
	rig_settle(&r);
	struct rig_model *then = model_copy(&r);

	backup(&r, "next", "full", "day");
	rig_until(&r, &r.n_completed, 2, 0);
	verify_backup(&r, then, "next", "qcow2");
	/* Emptied: nothing has changed, and a backup has nothing. */
	bitmap(&r, "bitmap-clear", "day");
	struct blk_job_args no = { .kind = "backup", .id = "b", .front = r.front, .overlay.fd = -1, .bitmap = "night",
				  .target.fd = -1 };

	no.target = rig_new_file(&r, "none", "raw");
	CHECK_HAS(rig_start_fails(&r, &no), "has no bitmap 'night'");
	close(no.target.fd);
	go_on(&r, 20);
	finish(&r);
}

TEST(bitmaps_are_listed_checked_and_refused)
{
	struct rig r;
	struct blk_job_args a = { .kind = "bitmap-add", .bitmap = "x", .target.fd = -1, .overlay.fd = -1,
				 .size = 1000 };

	rig_init(&r, 330);
	rig_add_image(&r, "top", "qcow2", NULL, 10);
	rig_open(&r, NULL);
	a.front = r.front;
	CHECK_HAS(rig_start_fails(&r, &a), "power of 2");
	a.size = 4096;
	rig_start(&r, &a, 1);
	CHECK_HAS(rig_start_fails(&r, &a), "has a bitmap 'x' already");
	bitmap(&r, "bitmap-add", "y");
	bitmap(&r, "bitmap-remove", "x");
	a.kind = "bitmap-remove";
	CHECK_HAS(rig_start_fails(&r, &a), "has no bitmap 'x'");
	go_on(&r, 20);
	rig_close(&r);
	rig_check_image(rig_path(&r, "top"), "qcow2");
	rig_open(&r, NULL);
	a.front = r.front;
	a.bitmap = "y";
	rig_start(&r, &a, 1);
	finish(&r);
	rig_init(&r, 331);
	rig_add_image(&r, "top", "raw", NULL, 10);
	rig_open(&r, NULL);
	a.front = r.front;
	CHECK_HAS(rig_start_fails(&r, &a), "keeps no dirty bitmaps");
	finish(&r);
}

/* --- what goes wrong ------------------------------------------------------------------------------ */

static uint64_t inode(int fd)
{
	struct stat st;

	CHECK_EQ(fstat(fd, &st), 0);
	return st.st_ino;
}

TEST(a_target_without_room_fails_the_job_and_not_the_guest)
{
	static const struct { const char *kind; enum blk_job_mode mode; } kinds[] = {
		{ "backup", BLK_MODE_AUTO }, { "mirror", BLK_MODE_BACKGROUND }, { "mirror", BLK_MODE_BLOCKING }, { "commit", 0 },
	};
	struct rig r;

	for (size_t i = 0; i < 4; i++) {
		bool is_commit = !strcmp(kinds[i].kind, "commit");

		rig_init(&r, 400 + i);
		chain_on(&r, "qcow2", &rig_random_aio);
		struct blk_job_args a = { .kind = kinds[i].kind, .id = "x", .front = r.front, .mode = kinds[i].mode,
					  .stays_ready = true, .overlay.fd = -1, .speed = is_commit ? 8 << 20 : 0,
					  .target = is_commit ? rig_open_file(&r, "base", "qcow2") : rig_new_file(&r, "t", "raw") };

		rig_start(&r, &a, 1);
		if (i == 2)
			rig_until(&r, &r.n_ready, 1, 0);
		rig_full_inode = inode(a.target.fd);
		rig_until(&r, &r.n_failed, 1, 50);
		CHECK_HAS(r.why, "No space left");
		rig_full_inode = 0;
		close(a.target.fd);
		r.n_failed = 0;
		CHECK_EQ(chain_len(&r), 3);
		rig_until(&r, &r.n_completed, 0, 30);
		finish(&r);
	}
}

static void ignore(void *arg, const struct err *err) { }

TEST(jobs_of_two_disks_begin_at_one_instant_and_end_with_the_process)
{
	struct blk_job_args a[2];
	struct rig r[2];

	for (int i = 0; i < 2; i++) {
		rig_init(&r[i], 500 + (uint64_t)i);
		chain_on(&r[i], "qcow2", &rig_random_aio);
		rig_until(&r[i], &r[i].n_completed, 0, 20);
		a[i] = (struct blk_job_args){ .kind = "backup", .id = i ? "b" : "a", .front = r[i].front, .overlay.fd = -1,
					      .target = rig_new_file(&r[i], "copy", "qcow2"), .speed = 1 << 20 };
	}
	/* Not begun yet, the images are being made. */
	CHECK_EQ(blk_jobs_start(&r[0].jobs, a, 2, ignore, NULL, NULL), 0);
	CHECK(blk_job_find(&r[0].jobs, "a", NULL) && blk_job_find(&r[0].jobs, "b", NULL));
	blk_jobs_end(&r[0].jobs);
	CHECK(!r[0].jobs.first);
	CHECK_EQ(blk_job_check_idle(r[1].front, NULL), 0);
	for (int i = 0; i < 2; i++) {
		close(a[i].target.fd);
		finish(&r[i]);
	}
}

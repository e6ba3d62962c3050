/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots inside the disks of an instance: in all or in none, also after attempts that were interrupted. */
#include "disk_byte.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/snapshot_disks.h"
#include "util/err.h"

struct rig {
	char dir[64], path[2][96];
	struct instance_disks all, first;
};

static void setup(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	strcpy(r->dir, "/tmp/viv-snapshots-XXXXXX");
	CHECK(mkdtemp(r->dir));
	for (unsigned i = 0; i < 2; i++) {
		snprintf(r->path[i], sizeof(r->path[i]), "%s/%u.qcow2", r->dir, i);
		struct blk_create c = { .path = r->path[i], .format = "qcow2", .size = 1 << 20 };

		CHECK_EQ(blk_create(&c, NULL), 0);
		r->all.path[i] = r->path[i];
	}
	r->all.n = 2;
	r->first = r->all;
	r->first.n = 1;
}

static void teardown(struct rig *r)
{
	for (unsigned i = 0; i < 2; i++)
		unlink(r->path[i]);
	CHECK(!rmdir(r->dir));
}

/* How many snapshots the disk has. */
static unsigned count(const char *path)
{
	AUTO(blk_close) struct blk *b = disk_open(path);
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;

	CHECK_EQ(blk_snapshot_list(b, &list, &n, NULL), 0);
	return n;
}

TEST(one_that_is_there_already_is_not_made_again)
{
	struct rig r;

	setup(&r);
	disk_write_byte(r.path[0], 1);
	CHECK_EQ(snapshot_make(&r.all, "s", NULL), 0);
	disk_write_byte(r.path[0], 2);
	CHECK_EQ(snapshot_make(&r.all, "s", NULL), 0);
	CHECK_EQ(count(r.path[0]), 1);
	CHECK_EQ(count(r.path[1]), 1);
	CHECK_EQ(snapshot_apply(&r.all, "s", NULL), 0);
	CHECK_EQ(disk_read_byte(r.path[0]), 1);
	teardown(&r);
}

TEST(one_that_only_some_disks_have_is_made_anew_of_all_at_one_instant)
{
	struct rig r;

	setup(&r);
	disk_write_byte(r.path[0], 1);
	CHECK_EQ(snapshot_make(&r.first, "s", NULL), 0);
	disk_write_byte(r.path[0], 2);
	disk_write_byte(r.path[1], 2);
	CHECK_EQ(snapshot_make(&r.all, "s", NULL), 0);
	disk_write_byte(r.path[0], 3);
	disk_write_byte(r.path[1], 3);
	CHECK_EQ(snapshot_apply(&r.all, "s", NULL), 0);
	CHECK_EQ(disk_read_byte(r.path[0]), 2);
	CHECK_EQ(disk_read_byte(r.path[1]), 2);
	CHECK_EQ(count(r.path[0]), 1);
	teardown(&r);
}

TEST(a_disk_without_it_keeps_all_from_being_changed)
{
	struct rig r;

	setup(&r);
	CHECK_EQ(snapshot_make(&r.first, "s", NULL), 0);
	disk_write_byte(r.path[0], 2);
	CHECK_EQ(snapshot_apply(&r.all, "s", NULL), -ENOENT);
	CHECK_EQ(disk_read_byte(r.path[0]), 2);
	CHECK_EQ(snapshot_unmake(&r.all, "s", NULL), 0);
	CHECK_EQ(count(r.path[0]), 0);
	teardown(&r);
}

TEST(a_copy_of_a_disk_is_freed_from_all_of_them)
{
	struct rig r;

	setup(&r);
	disk_write_byte(r.path[0], 1);
	for (const char *name = "abc"; *name; name++)
		CHECK_EQ(snapshot_make(&r.first, name, NULL), 0);
	CHECK_EQ(count(r.path[0]), 3);
	CHECK_EQ(snapshot_unmake_all(r.path[0], NULL), 0);
	CHECK_EQ(count(r.path[0]), 0);
	CHECK_EQ(disk_read_byte(r.path[0]), 1);
	teardown(&r);
}

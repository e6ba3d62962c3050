/* SPDX-License-Identifier: Apache-2.0 */
/* What linked clones share: kept for its users, gone with the last, whole after attempts that were cut off. */
#include "disk_byte.h"
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/bases.h"
#include "node/files.h"
#include "util/err.h"

struct rig {
	char pool[64], root[96];
};

static void setup(struct rig *r)
{
	strcpy(r->pool, "/tmp/viv-bases-XXXXXX");
	CHECK(mkdtemp(r->pool));
	snprintf(r->root, sizeof(r->root), "%s/a.qcow2", r->pool);
	struct blk_create c = { .path = r->root, .format = "qcow2", .size = 1 << 20 };
	CHECK_EQ(blk_create(&c, NULL), 0);
}

static void teardown(struct rig *r)
{
	CHECK_EQ(files_remove(r->pool, NULL), 0);
}

/* A linked clone of the disk SOURCE.qcow2, as CLONE.qcow2; the base's name goes to BASE. */
static void clone_it(const struct rig *r, const char *source, const char *clone, char base[64])
{
	char from[96], to[96];
	AUTO(free) char *disk = NULL;
	struct base_request q = { .pool = r->pool, .root = from, .source = source, .clone = clone };

	snprintf(from, sizeof(from), "%s/%s.qcow2", r->pool, source);
	snprintf(to, sizeof(to), "%s/%s.qcow2", r->pool, clone);
	CHECK_EQ(base_take(&q, &disk, NULL), 0);
	CHECK_EQ(base_make_layer(to, disk, NULL), 0);
	CHECK_EQ(sscanf(disk + strlen(r->pool), "/bases/%63[^/]", base), 1);
}

static bool has_base(const struct rig *r, const char *base)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/bases/%s/disk.qcow2", r->pool, base);
	return !access(path, R_OK);
}

static char *disk_of(const struct rig *r, const char *name, char path[96])
{
	snprintf(path, 96, "%s/%s.qcow2", r->pool, name);
	return path;
}

TEST(clones_of_what_nobody_has_written_share_one_base)
{
	struct rig r;
	char first[64], second[64], third[64], path[96];

	setup(&r);
	disk_write_byte(r.root, 1);
	clone_it(&r, "a", "b", first);
	clone_it(&r, "a", "c", second);
	CHECK(!strcmp(first, second));
	disk_write_byte(r.root, 2);
	disk_write_byte(disk_of(&r, "b", path), 3);
	clone_it(&r, "a", "d", third);
	CHECK(strcmp(first, third) != 0);
	CHECK_EQ(disk_read_byte(r.root), 2);
	CHECK_EQ(disk_read_byte(disk_of(&r, "b", path)), 3);
	CHECK_EQ(disk_read_byte(disk_of(&r, "c", path)), 1);
	CHECK_EQ(disk_read_byte(disk_of(&r, "d", path)), 2);
	teardown(&r);
}

TEST(a_base_goes_with_its_last_user_and_what_is_below_with_it)
{
	struct rig r;
	char first[64], second[64];

	setup(&r);
	clone_it(&r, "a", "b", first);
	disk_write_byte(r.root, 2);
	clone_it(&r, "a", "c", second);
	CHECK_EQ(bases_release(r.pool, "a", NULL), 0);
	CHECK_EQ(bases_release(r.pool, "b", NULL), 0);
	CHECK(has_base(&r, first));             /* the second is on it */
	CHECK(has_base(&r, second));
	CHECK_EQ(bases_release(r.pool, "c", NULL), 0);
	CHECK(!has_base(&r, first) && !has_base(&r, second));
	CHECK_EQ(bases_release(r.pool, "c", NULL), 0);
	teardown(&r);
}

TEST(a_copy_of_the_file_of_one_that_is_linked_is_on_its_base)
{
	struct rig r;
	char first[64];
	struct base_request q = { .pool = r.pool, .source = "b", .clone = "copy" };

	setup(&r);
	CHECK_EQ(bases_share(&q, NULL), 0);     /* there are none */
	clone_it(&r, "a", "b", first);
	CHECK_EQ(bases_share(&q, NULL), 0);
	CHECK_EQ(bases_share(&q, NULL), 0);
	CHECK_EQ(bases_release(r.pool, "a", NULL), 0);
	CHECK_EQ(bases_release(r.pool, "b", NULL), 0);
	CHECK(has_base(&r, first));
	CHECK_EQ(bases_release(r.pool, "copy", NULL), 0);
	CHECK(!has_base(&r, first));
	teardown(&r);
}

TEST(attempts_that_were_cut_off_are_gone_on_with)
{
	struct rig r;
	char path[160], link_path[200], name[64];
	AUTO(free) char *disk = NULL;
	struct base_request q = { .pool = r.pool, .root = r.root, .source = "a", .clone = "b" };

	/* In the folder's making, and when the disk had its second name. */
	setup(&r);
	disk_write_byte(r.root, 1);
	snprintf(path, sizeof(path), "%s/bases", r.pool);
	CHECK(!mkdir(path, 0700));
	snprintf(path, sizeof(path), "%s/bases/b.new", r.pool);
	CHECK(!mkdir(path, 0700));
	CHECK_EQ(base_take(&q, &disk, NULL), 0);
	CHECK(access(path, F_OK) < 0);
	snprintf(path, sizeof(path), "%s/bases/c", r.pool);
	snprintf(link_path, sizeof(link_path), "%s/users", path);
	disk_write_byte(r.root, 2);
	CHECK(!mkdir(path, 0700) && !mkdir(link_path, 0700));
	snprintf(link_path, sizeof(link_path), "%s/disk.qcow2", path);
	CHECK(!link(r.root, link_path));
	clone_it(&r, "a", "c", name);
	CHECK(!strcmp(name, "c"));
	CHECK_EQ(disk_read_byte(r.root), 2);
	/* When all was done but the clone's own layer, and the original has gone on since: the base is what it was. */
	disk_write_byte(r.root, 3);
	clone_it(&r, "a", "c", name);
	snprintf(path, sizeof(path), "%s/c.qcow2", r.pool);
	CHECK_EQ(disk_read_byte(path), 2);
	clone_it(&r, "a", "d", name);
	snprintf(path, sizeof(path), "%s/d.qcow2", r.pool);
	CHECK_EQ(disk_read_byte(path), 3);
	teardown(&r);
}

TEST(a_disk_with_snapshots_is_refused)
{
	struct rig r;
	struct err err = ERR_INIT;
	char *disk = NULL;
	struct base_request q = { .pool = r.pool, .root = r.root, .source = "a", .clone = "b" };
	struct blk_snapshot s = { .icount = UINT64_MAX, .name = "s" };

	setup(&r);
	struct blk *b = disk_open(r.root);
	CHECK_EQ(blk_snapshot_create(b, &s, NULL), 0);
	blk_close(b);
	CHECK_EQ(base_take(&q, &disk, &err), -EBUSY);
	CHECK(strstr(err.msg, "snapshots"));
	CHECK_EQ(bases_release(r.pool, "b", NULL), 0);
	CHECK_EQ(bases_release(r.pool, "a", NULL), 0);
	teardown(&r);
}

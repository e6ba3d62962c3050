/* SPDX-License-Identifier: Apache-2.0 */
/* Files of disks in a pool: their names, copies into either format, and what goes with them. Snapshots that share blocks need a file system
 * for that: tests/e2e/test_raw_volume.py. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "util/cleanup.h"
#include "util/err.h"

#define UID "aaaaaaaaaaaaaaaa"

static char dir[64];
static struct err err;

static void begin(void)
{
	char volumes[96];

	snprintf(dir, sizeof(dir), "/tmp/viv-disks-XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(volumes, sizeof(volumes), "%s/volumes", dir);
	CHECK_EQ(mkdir(volumes, 0700), 0);
	err = (struct err)ERR_INIT;
}

static void end(void)
{
	CHECK_EQ(files_remove(dir, NULL), 0);
}

static void make(const char *path, const char *format)
{
	struct blk_create c = { .path = path, .format = format, .size = 1 << 20 };

	CHECK_EQ(blk_create(&c, &err), 0);
}

/* The byte at the beginning; BYTE 0: it is read only. */
static int first_byte(const char *path, const char *format, int byte)
{
	AUTO(blk_close) struct blk *b = NULL;
	struct blk_options o = { .path = path, .fd = -1, .format = format };
	uint8_t sector[BLK_SECTOR];

	CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
	memset(sector, byte, sizeof(sector));
	CHECK_EQ(byte ? blk_pwrite(b, 0, sector, sizeof(sector)) : blk_pread(b, 0, sector, sizeof(sector)), 0);
	return sector[0];
}

TEST(what_a_disk_is_tells_its_name)
{
	char path[DISK_PATH_MAX];

	disk_files_path("/p", POOL_DRIVER_DIR, UID, "qcow2", path, sizeof(path));
	CHECK_STR(path, "/p/volumes/" UID ".qcow2");
	CHECK(!disk_files_is_raw(path));
	disk_files_path("/p", POOL_DRIVER_BTRFS, UID, "raw", path, sizeof(path));
	CHECK_STR(path, "/p/volumes/" UID "/volume.raw");
	CHECK(disk_files_is_raw(path));
}

static bool refuse(void *arg, uint64_t done, uint64_t total)
{
	return !++*(int *)arg;
}

TEST(copies_are_whole_in_either_format_or_not_there)
{
	static const char *const formats[] = { "raw", "qcow2" };
	char from[DISK_PATH_MAX], to[DISK_PATH_MAX], tmp[DISK_PATH_MAX + 8];

	for (unsigned i = 0; i < 4; i++) {
		const char *of = formats[i % 2], *as = formats[i / 2];
		int asked = 0;

		begin();
		disk_files_path(dir, POOL_DRIVER_DIR, UID, of, from, sizeof(from));
		disk_files_path(dir, POOL_DRIVER_DIR, "bbbbbbbbbbbbbbbb", as, to, sizeof(to));
		snprintf(tmp, sizeof(tmp), "%s.tmp", to);
		make(from, of);
		CHECK_EQ(first_byte(from, of, 7), 7);
		CHECK_EQ(disk_files_copy(from, to, refuse, &asked, &err), -ECANCELED);
		CHECK(asked && access(to, F_OK) < 0 && access(tmp, F_OK) < 0);
		/* Another attempt was killed. */
		make(tmp, as);
		CHECK_EQ(disk_files_copy(from, to, NULL, NULL, &err), 0);
		CHECK_EQ(first_byte(to, as, 0), 7);
		CHECK(access(tmp, F_OK) < 0);
		CHECK(disk_files_allocated(to) > 0);
		end();
	}
}

TEST(a_disk_goes_with_all_that_belongs_to_it)
{
	char path[DISK_PATH_MAX], copy[DISK_PATH_MAX], sent[DISK_PATH_MAX], other[DISK_PATH_MAX];

	begin();
	disk_files_path(dir, POOL_DRIVER_DIR, UID, "raw", path, sizeof(path));
	disk_files_path(dir, POOL_DRIVER_DIR, "bbbbbbbbbbbbbbbb", "raw", other, sizeof(other));
	snprintf(copy, sizeof(copy), "%s/volumes/" UID ".at.s1.raw", dir);
	snprintf(sent, sizeof(sent), "%s/volumes/" UID ".sent", dir);
	make(path, "raw");
	make(other, "raw");
	CHECK_EQ(disk_copy_count(path, &err), 0);
	make(copy, "raw");
	CHECK_EQ(mkdir(sent, 0700), 0);
	CHECK_EQ(disk_copy_count(path, &err), 1);
	CHECK(disk_copy_is_there(path, "s1") && !disk_copy_is_there(path, "s2"));
	CHECK_EQ(disk_copy_apply(path, "s2", &err), -ENOENT);
	CHECK_EQ(disk_copy_remove(path, "s1", &err), 0);
	CHECK_EQ(disk_copy_remove(path, "s1", &err), 0);
	CHECK_EQ(disk_copy_count(path, &err), 0);
	make(copy, "raw");
	CHECK_EQ(disk_files_remove(dir, POOL_DRIVER_DIR, UID, &err), 0);
	CHECK_EQ(disk_files_remove(dir, POOL_DRIVER_DIR, UID, &err), 0);
	CHECK(access(path, F_OK) < 0 && access(copy, F_OK) < 0 && access(sent, F_OK) < 0 && !access(other, F_OK));
	end();
}

TEST(where_blocks_are_not_shared_a_snapshot_says_what_helps)
{
	char path[DISK_PATH_MAX];

	begin();
	disk_files_path(dir, POOL_DRIVER_DIR, UID, "raw", path, sizeof(path));
	make(path, "raw");
	int r = disk_copy_make(path, "s", &err);
	if (!r)
		SKIP("the file system of /tmp shares blocks");
	CHECK_EQ(r, -ENOTSUP);
	CHECK(strstr(err.msg, "--format qcow2"));
	CHECK_EQ(disk_copy_count(path, &err), 0);
	end();
}

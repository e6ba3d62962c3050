/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of files: what is in them, their holes, and being told to end. */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "node/files.h"
#include "util/cleanup.h"

enum { MIB = 1 << 20, PARTS = 5 };

struct teller { unsigned calls, limit; uint64_t done, total; };

static bool tell(void *arg, uint64_t done, uint64_t total)
{
	struct teller *t = arg;

	t->done = done;
	t->total = total;
	return t->calls++ < t->limit;
}

/* A file with data at 1 and 3 MiB of 5, holes between. */
static int make_file(char path[], char *block)
{
	int fd = mkstemp(path);

	for (unsigned i = 0; i < MIB; i++)
		block[i] = (char)(i * 7 + (i >> 8));
	CHECK_EQ(pwrite(fd, block, MIB, MIB), MIB);
	CHECK_EQ(pwrite(fd, block, MIB, 3 * MIB), MIB);
	CHECK_EQ(ftruncate(fd, PARTS * MIB), 0);
	return fd;
}

static void check_same(int a, int b)
{
	AUTO(free) char *x = malloc(PARTS * MIB), *y = malloc(PARTS * MIB);

	CHECK_EQ(pread(a, x, PARTS * MIB, 0), PARTS * MIB);
	CHECK_EQ(pread(b, y, PARTS * MIB, 0), PARTS * MIB);
	CHECK_EQ(lseek(b, 0, SEEK_END), PARTS * MIB);
	CHECK_MEM(x, y, PARTS * MIB);
}

TEST(a_copy_has_the_same_in_it_and_the_same_holes)
{
	char from_path[] = "/tmp/viv-files-XXXXXX", to_path[] = "/tmp/viv-files-XXXXXX";
	AUTO(free) char *block = malloc(MIB);
	AUTO_FD int from = make_file(from_path, block);
	AUTO_FD int to = mkstemp(to_path);
	struct teller t = { .limit = 100 };
	struct stat a, b;

	CHECK_EQ(files_copy(from, to, tell, &t, NULL), 0);
	check_same(from, to);
	CHECK_EQ(t.total, PARTS * MIB);
	CHECK(!fstat(from, &a) && !fstat(to, &b) && b.st_blocks <= a.st_blocks + 64);
	CHECK_EQ(unlink(from_path) + unlink(to_path), 0);
}

TEST(a_copy_to_another_file_system_is_the_same)
{
	char from_path[] = "/tmp/viv-files-XXXXXX";
	AUTO(free) char *block = malloc(MIB);
	AUTO_FD int from = make_file(from_path, block);
	AUTO_FD int to = memfd_create("to", MFD_CLOEXEC);
	struct teller t = { .limit = 100 };

	CHECK_EQ(files_copy(from, to, tell, &t, NULL), 0);
	check_same(from, to);
	CHECK_EQ(unlink(from_path), 0);
}

TEST(a_copy_ends_when_it_is_told_to)
{
	char from_path[] = "/tmp/viv-files-XXXXXX";
	AUTO(free) char *block = malloc(MIB);
	AUTO_FD int from = make_file(from_path, block);
	AUTO_FD int to = memfd_create("to", MFD_CLOEXEC);

	for (unsigned limit = 0; limit < 2; limit++) {
		struct teller t = { .limit = limit };

		CHECK_EQ(files_copy(from, to, tell, &t, NULL), -ECANCELED);
		CHECK_EQ(t.calls, limit + 1);
	}
	CHECK_EQ(unlink(from_path), 0);
}

TEST(a_name_is_made_durable_where_it_is)
{
	CHECK_EQ(files_sync_above("/tmp/anything", NULL), 0);
	CHECK_EQ(files_sync_above("/nowhere/at/all", NULL), -ENOENT);
}

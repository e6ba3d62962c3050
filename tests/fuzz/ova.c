/* SPDX-License-Identifier: Apache-2.0 */
/* An archive of a machine: read, checked against its manifest, its first disk opened and read. Input: a byte, even: the
 * rest is the archive; odd: the rest is its descriptor, and the disk is a megabyte of zeroes. */
#include "blk/ova/ova.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "fuzz.h"
#include "util/err.h"

enum { BLOCK = 512, DISK = 1 << 20 };

static void put_member(int fd, const char *name, const uint8_t *data, size_t len)
{
	char h[BLOCK] = "";
	unsigned sum = 0;

	snprintf(h, 100, "%s", name);
	snprintf(h + 124, 12, "%011zo", len);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (int i = 0; i < BLOCK; i++)
		sum += (uint8_t)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	FUZZ_CHECK(write(fd, h, BLOCK) == BLOCK && (!data || write(fd, data, len) == (ssize_t)len));
	off_t end = lseek(fd, data ? 0 : (off_t)len, SEEK_CUR);

	end = (end + BLOCK - 1) / BLOCK * BLOCK;
	FUZZ_CHECK(!ftruncate(fd, end) && lseek(fd, end, SEEK_SET) == end);
}

static int archive(const uint8_t *data, size_t len)
{
	int fd = memfd_create("ova", MFD_CLOEXEC);

	FUZZ_CHECK(fd >= 0);
	if (data[0] & 1) {
		put_member(fd, "m.ovf", data + 1, len - 1);
		put_member(fd, "one", NULL, DISK);
	} else {
		FUZZ_CHECK(write(fd, data + 1, len - 1) == (ssize_t)len - 1);
	}
	return fd;
}

static void check(const struct blk_ova_info *i, uint64_t size)
{
	FUZZ_CHECK(i->n_disks <= BLK_OVA_DISKS_MAX);
	for (unsigned k = 0; k < i->n_disks; k++) {
		FUZZ_CHECK(i->disks[k].off <= size && i->disks[k].len <= size - i->disks[k].off);
		FUZZ_CHECK(i->disks[k].file[0] && !strchr(i->disks[k].file, '/'));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct blk_ova_info info;
	struct err err = ERR_INIT;
	struct blk *b = NULL;
	struct blk_opts opts;
	uint8_t sector[512];
	char path[32];

	if (!len)
		return 0;
	int fd = archive(data, len);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int r = blk_ova_read(path, &info, &err);

	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	if (!r) {
		check(&info, (uint64_t)lseek(fd, 0, SEEK_END));
		blk_ova_verify(path, NULL);
	}
	FUZZ_CHECK(!blk_opts_init(&opts, blk_format_open_opts("ova"), NULL) && !blk_opts_set(&opts, "disk", "1", NULL));
	struct blk_options o = { .fd = fd, .format = "ova", .is_readonly = true, .opts = &opts, .aio = "threads" };

	err = (struct err)ERR_INIT;
	r = blk_open(&b, NULL, &o, &err);
	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	if (!r && blk_size(b))
		blk_pread(b, 0, sector, sizeof(sector));
	blk_close(b);
	if (r < 0)
		close(fd);
	blk_opts_fini(&opts);
	return 0;
}

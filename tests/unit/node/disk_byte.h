/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the node do to disks: open them, and write and read their first byte. */
#ifndef TEST_NODE_DISK_BYTE_H
#define TEST_NODE_DISK_BYTE_H

#include <string.h>
#include "blk/blk.h"
#include "test.h"

static inline struct blk *disk_open(const char *path)
{
	struct blk_options o = { .path = path, .fd = -1, .format = "qcow2" };
	struct blk *b = NULL;

	CHECK_EQ(blk_open(&b, NULL, &o, NULL), 0);
	return b;
}

static inline void disk_write_byte(const char *path, int byte)
{
	AUTO(blk_close) struct blk *b = disk_open(path);
	uint8_t sector[BLK_SECTOR];

	memset(sector, byte, sizeof(sector));
	CHECK_EQ(blk_pwrite(b, 0, sector, sizeof(sector)), 0);
}

static inline int disk_read_byte(const char *path)
{
	AUTO(blk_close) struct blk *b = disk_open(path);
	uint8_t sector[BLK_SECTOR];

	CHECK_EQ(blk_pread(b, 0, sector, sizeof(sector)), 0);
	return sector[0];
}

#endif

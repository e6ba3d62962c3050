/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - the image before the guest's work. */
#include "guest.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "recorder.h"
#include "util/endian.h"
#include "util/err.h"

enum { VDI_DATA_AT = 0x158, VDI_BLOCKS_AT = 0x180 };

static void create(struct guest *g, const char *path, const char *options, const char *backing)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	struct blk_create c = { .path = path, .format = backing || !g->has_backing ? g->format : "raw", .size = disk_size(g, g->first_size),
				.backing = backing, .backing_format = backing ? "raw" : NULL, .opts = &opts,
				.secret = &passphrase };

	if (blk_opts_init(&opts, blk_format_create_opts(c.format), &err) < 0 ||
	    blk_opts_parse(&opts, options, &err) < 0 || blk_create(&c, &err) < 0)
		fail(g, "%s", err.msg);
}

/* A VDI image without room between map and blocks. */
static void make_tight(struct guest *g)
{
	uint8_t h[SECTOR];
	int fd = open(g->path, O_RDWR);

	if (fd < 0 || pread(fd, h, sizeof(h), 0) != sizeof(h))
		fail(g, "cannot read '%s'", g->path);
	uint32_t data = (SECTOR + get_le32(h + VDI_BLOCKS_AT) * 4 + SECTOR - 1) / SECTOR * SECTOR;

	put_le32(h + VDI_DATA_AT, data);
	if (pwrite(fd, h, sizeof(h), 0) != sizeof(h) || syscall(SYS_ftruncate, fd, data) < 0)
		fail(g, "cannot write '%s'", g->path);
	close(fd);
}

/* What the image consists of before the guest's work. */
static void note_files(struct guest *g)
{
	DIR *d = opendir(g->folder);
	char path[600];
	struct stat st;

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(path, sizeof(path), "%s/%s", g->folder, e->d_name);
		int fd = e->d_name[0] == '.' ? -1 : open(path, O_RDONLY);

		if (fd < 0)
			continue;
		struct rec_file *f = &recorder.file[recorder_file(fd)];

		if (fstat(fd, &st) < 0)
			fail(g, "cannot read '%s'", path);
		f->size = st.st_size;
		for (off_t at = 0; (at = lseek(fd, at, SEEK_DATA)) >= 0; f->len = (size_t)at)
			at = lseek(fd, at, SEEK_HOLE);
		f->base = calloc(1, f->len + 1);
		if (!f->base || pread(fd, f->base, f->len, 0) != (ssize_t)f->len)
			fail(g, "cannot read '%s'", path);
		close(fd);
	}
	if (d)
		closedir(d);
}

void images_make(struct guest *g)
{
	uint8_t sector[SECTOR];

	if (g->has_backing) {
		create(g, g->backing, "", NULL);
		int fd = open(g->backing, O_WRONLY);

		for (uint64_t s = 0; s < g->size / SECTOR; s++) {
			sector_fill(sector, s, UINT64_MAX);
			if (pwrite(fd, sector, SECTOR, (off_t)place(g, s)) < 0)
				fail(g, "cannot fill the backing image");
		}
		close(fd);
	}
	create(g, g->path, g->options, g->has_backing ? g->backing : NULL);
	if (g->is_tight)
		make_tight(g);
	note_files(g);
}

void folder_empty(const char *path)
{
	DIR *d = opendir(path);
	char name[600];

	for (struct dirent *e; d && (e = readdir(d));) {
		snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
		if (e->d_name[0] != '.')
			unlink(name);
	}
	if (d)
		closedir(d);
}

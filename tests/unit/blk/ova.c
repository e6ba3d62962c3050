/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/ova/ova.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "in_dir.h"
#include "test.h"
#include "util/err.h"

enum { DISK = 1 << 20 };

static char command[400];

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "wb");

	CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

/* A disk of a repeated byte, in FORMAT. */
static void make_disk(const char *name, const char *format, const char *options, uint8_t byte)
{
	static uint8_t data[DISK];
	struct blk_opts opts;
	struct err err = ERR_INIT;
	struct blk_options o = { .path = in_dir(name), .fd = -1, .format = format };
	struct blk *b = NULL;

	CHECK_EQ(blk_opts_init(&opts, blk_format_create_opts(format), &err), 0);
	CHECK_EQ(blk_opts_parse(&opts, options, &err), 0);
	struct blk_create c = { .path = in_dir(name), .format = format, .size = DISK, .opts = &opts };

	CHECK_EQ(blk_create(&c, &err), 0);
	blk_opts_fini(&opts);
	memset(data, byte, sizeof(data));
	CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
	if (strstr(options, "streamOptimized"))
		for (uint64_t off = 0; off < DISK; off += blk_cluster_size(b))
			CHECK_EQ(blk_pwrite_compressed(b, off, data, blk_cluster_size(b)), 0);
	else
		CHECK_EQ(blk_pwrite(b, 0, data, sizeof(data)), 0);
	blk_close(b);
}

static int write_ova(unsigned n, struct err *err)
{
	const struct blk_ova_member disks[] = {
		{ .path = in_dir("one"), .name = "one.vmdk", .capacity = DISK },
		{ .path = in_dir("two"), .name = "two.vmdk", .capacity = DISK },
	};
	struct blk_ova_make m = { .path = in_dir("m.ova"), .name = "web & db", .cpus = 2, .memory = 1ull << 30,
				  .disks = disks, .n_disks = n, .is_replacing = true };

	*err = (struct err)ERR_INIT;
	return blk_ova_write(&m, err);
}

static int try_open(struct blk **b, const char *disk, bool is_verifying, struct err *err)
{
	struct blk_opts opts;
	struct blk_options o = { .path = in_dir("m.ova"), .fd = -1, .format = "ova", .is_readonly = true,
				.opts = &opts };

	*err = (struct err)ERR_INIT;
	*b = NULL;
	CHECK_EQ(blk_opts_init(&opts, blk_format_open_opts("ova"), err), 0);
	if (disk)
		CHECK_EQ(blk_opts_set(&opts, "disk", disk, err), 0);
	if (is_verifying)
		CHECK_EQ(blk_opts_set(&opts, "verify", "on", err), 0);
	int r = blk_open(b, NULL, &o, err);

	blk_opts_fini(&opts);
	return r;
}

static void disk_is(const char *disk, uint8_t byte)
{
	struct blk *b;
	struct err err;
	uint8_t at[3];

	if (try_open(&b, disk, false, &err) < 0)
		FAIL("%s", err.msg);
	CHECK_EQ(blk_size(b), DISK);
	CHECK_EQ(blk_pread(b, 0, at, 1) | blk_pread(b, DISK / 2 + 77, at + 1, 1) | blk_pread(b, DISK - 1, at + 2, 1),
		 0);
	CHECK(at[0] == byte && at[1] == byte && at[2] == byte);
	blk_close(b);
}

TEST(disks_that_were_packed_are_read_in_place)
{
	struct blk_ova_info info;
	struct blk *b;
	struct err err;

	make_disk("one", "vmdk", "subformat=streamOptimized", 1);
	make_disk("two", "qcow2", "", 2);
	CHECK_EQ(write_ova(2, &err), 0);
	CHECK_EQ(blk_ova_read(in_dir("m.ova"), &info, &err), 0);
	CHECK_STR(info.name, "web & db");
	CHECK_EQ(info.cpus, 2);
	CHECK_EQ(info.memory, 1ull << 30);
	CHECK_EQ(info.n_disks, 2);
	CHECK_EQ(info.disks[1].capacity, DISK);
	CHECK(info.has_manifest);
	CHECK_EQ(blk_ova_verify(in_dir("m.ova"), &err), 0);
	snprintf(command, sizeof(command), "cd %.60s && tar -xOf m.ova two.vmdk | cmp -s - two && "
		 "tar -xOf m.ova 'web & db.mf' | grep -q \"$(sha256sum <one | cut -d' ' -f1)\"", in_dir("."));
	CHECK_EQ(system(command), 0);
	disk_is("1", 1);
	disk_is("one.vmdk", 1);
	disk_is("two.vmdk", 2);
	disk_is("disk2", 2);
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	CHECK_HAS(err.msg, "2 disks");
	CHECK_EQ(try_open(&b, "3", false, &err), -ENOENT);
	CHECK_EQ(write_ova(1, &err), 0);
	disk_is(NULL, 1);
	const char *format = NULL;

	CHECK_EQ(blk_probe(in_dir("m.ova"), -1, &format, &err), 0);
	CHECK_STR(format, "ova");
}

TEST(an_archive_is_for_reading_and_does_not_replace_a_file_unasked)
{
	struct blk_options o = { .path = in_dir("m.ova"), .fd = -1 };
	struct blk_ova_member d = { .path = in_dir("one"), .name = "one.vmdk" };
	struct blk_ova_make m = { .path = in_dir("m.ova"), .name = "m", .disks = &d, .n_disks = 1 };
	struct err err;
	struct blk *b;

	make_disk("one", "qcow2", "", 1);
	CHECK_EQ(write_ova(1, &err), 0);
	o.path = m.path = in_dir("m.ova");
	d.path = in_dir("one");
	CHECK_EQ(blk_open(&b, NULL, &o, &err), -EROFS);
	err = (struct err)ERR_INIT;
	CHECK_EQ(blk_ova_write(&m, &err), -EEXIST);
	d.name = "../one";
	err = (struct err)ERR_INIT;
	m.is_replacing = true;
	CHECK_EQ(blk_ova_write(&m, &err), -EINVAL);
}

TEST(what_differs_from_the_manifest_is_found)
{
	struct blk_ova_info info;
	struct err err;
	struct blk *b;
	int fd;

	make_disk("one", "qcow2", "", 1);
	CHECK_EQ(write_ova(1, &err), 0);
	CHECK_EQ(blk_ova_read(in_dir("m.ova"), &info, &err), 0);
	fd = open(in_dir("m.ova"), O_WRONLY);
	CHECK_EQ(pwrite(fd, "x", 1, (off_t)(info.disks[0].off + info.disks[0].len - 1)), 1);
	CHECK_EQ(blk_ova_verify(in_dir("m.ova"), &err), -EBADMSG);
	CHECK_HAS(err.msg, "one.vmdk");
	CHECK_EQ(try_open(&b, NULL, true, &err), -EBADMSG);
	CHECK_EQ(try_open(&b, NULL, false, &err), 0);
	blk_close(b);
	/* The descriptor is looked at always. */
	CHECK_EQ(pwrite(fd, " ", 1, 512 + 60), 1);
	CHECK_EQ(try_open(&b, NULL, false, &err), -EBADMSG);
	CHECK_HAS(err.msg, ".ovf");
	close(fd);
}

static void tar(const char *members)
{
	snprintf(command, sizeof(command), "cd %.60s && tar --format=ustar -cf m.ova %.250s", in_dir("."), members);
	CHECK_EQ(system(command), 0);
}

#define ENVELOPE "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\" xmlns:o=\"http://schemas.dmtf.org/ovf/envelope/1\">"
#define FILE_1 "<References><File o:id=\"f\" o:href=\"one\"/></References>"
#define DISK_1 "<DiskSection><Disk o:diskId=\"d\" o:fileRef=\"f\" o:capacity=\"1\"/></DiskSection>"

TEST(a_descriptor_that_cannot_be_is_refused_with_a_reason)
{
	static const struct { const char *text; int code; const char *says; } bad[] = {
		{ "", -EINVAL, "no XML" },
		{ "<a>", -EINVAL, "no OVF envelope" },
		{ "<Envelope/>", -EINVAL, "no OVF envelope" },
		{ ENVELOPE "</Envelope>", -ENOENT, "no disk" },
		{ "<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>" ENVELOPE "&x;</Envelope>", -EINVAL,
		 "document type" },
		{ ENVELOPE "&nbsp;</Envelope>", -EINVAL, "no XML" },
		{ ENVELOPE "<References><File o:id=\"f\" o:href=\"../one\"/></References></Envelope>", -EACCES,
		 "not in the archive" },
		{ ENVELOPE "<References><File o:id=\"f\" o:href=\"http://h/x\"/></References></Envelope>", -EACCES,
		 "not in" },
		{ ENVELOPE "<References><File o:id=\"f\"/></References></Envelope>", -EINVAL, "no name" },
		{ ENVELOPE "<References><File o:id=\"f\" o:href=\"gone\"/></References>" DISK_1 "</Envelope>",
		 -EINVAL, "not there" },
		{ ENVELOPE DISK_1 "</Envelope>", -EINVAL, "not named" },
		{ ENVELOPE "<References><File o:id=\"f\" o:href=\"one\" o:compression=\"gzip\"/></References>" DISK_1 "</Envelope>",
		  -ENOTSUP, "compressed" },
		{ ENVELOPE FILE_1 "<DiskSection><Disk o:diskId=\"d\" o:fileRef=\"f\" o:parentRef=\"e\"/></DiskSection></Envelope>",
		  -ENOTSUP, "behind" },
	};
	struct blk *b;
	struct err err;

	make_disk("one", "qcow2", "", 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put("m.ovf", bad[i].text);
		tar("m.ovf one");
		CHECK_EQ(try_open(&b, NULL, false, &err), bad[i].code);
		CHECK_HAS(err.msg, bad[i].says);
	}
	put("m.ovf", ENVELOPE FILE_1 DISK_1 "</Envelope>");
	tar("m.ovf one");
	disk_is(NULL, 1);
}

TEST(an_archive_that_cannot_be_is_refused_with_a_reason)
{
	struct blk *b;
	struct err err;

	make_disk("one", "qcow2", "", 1);
	put("m.ovf", ENVELOPE FILE_1 DISK_1 "</Envelope>");
	tar("one");
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	CHECK_HAS(err.msg, "no descriptor");
	tar("m.ovf one m.ovf");
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	snprintf(command, sizeof(command), "cd %.60s && mkdir -p sub && cp one sub/ && ln -sf one link", in_dir("."));
	CHECK_EQ(system(command), 0);
	tar("m.ovf sub/one");
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	CHECK_HAS(err.msg, "folder");
	tar("m.ovf link");
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	CHECK_HAS(err.msg, "type '2'");
	tar("m.ovf one");
	CHECK_EQ(truncate(in_dir("m.ova"), 4096), 0);
	CHECK_EQ(try_open(&b, NULL, false, &err), -EINVAL);
	CHECK_HAS(err.msg, "ends in");
}

TEST(a_disk_inside_needs_no_file_outside)
{
	struct blk_create c = { .path = in_dir("one"), .format = "vmdk", .size = DISK };
	struct blk_opts opts;
	struct err err = ERR_INIT;
	struct blk *b;

	/* An extent of its own: the descriptor inside names a file of the host. */
	CHECK_EQ(blk_opts_init(&opts, blk_format_create_opts("vmdk"), &err), 0);
	CHECK_EQ(blk_opts_set(&opts, "subformat", "monolithicFlat", &err), 0);
	c.opts = &opts;
	CHECK_EQ(blk_create(&c, &err), 0);
	blk_opts_fini(&opts);
	put("m.ovf", ENVELOPE FILE_1 DISK_1 "</Envelope>");
	tar("m.ovf one");
	CHECK_EQ(try_open(&b, NULL, false, &err), -EACCES);
	CHECK_HAS(err.msg, "not inside");
	/* An archive in an archive. */
	make_disk("one", "qcow2", "", 1);
	tar("m.ovf one");
	snprintf(command, sizeof(command), "cd %.60s && mv m.ova one && tar --format=ustar -cf m.ova m.ovf one", in_dir("."));
	CHECK_EQ(system(command), 0);
	CHECK_EQ(try_open(&b, NULL, false, &err), -ENOTSUP);
	CHECK_HAS(err.msg, "itself");
}

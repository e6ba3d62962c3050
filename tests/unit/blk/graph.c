/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/opts.h"
#include "in_dir.h"
#include "test.h"
#include "util/err.h"


static void make(const char *name, const char *format, uint64_t size, const char *options, const char *backing,
		 const char *backing_format)
{
	struct blk_opts opts;
	struct err err = ERR_INIT;

	CHECK_EQ(blk_opts_init(&opts, blk_format_create_opts(format), &err), 0);
	CHECK_EQ(blk_opts_parse(&opts, options, &err), 0);
	struct blk_create c = { .path = in_dir(name), .format = format, .size = size, .backing = backing,
				.backing_format = backing_format, .opts = &opts, .is_backing_unchecked = !!size };

	if (blk_create(&c, &err) < 0)
		FAIL("%s", err.msg);
	blk_opts_fini(&opts);
}

static int try_open(struct blk **b, struct blk_options o, const char *name, struct err *err)
{
	o.path = in_dir(name);
	o.fd = -1;
	*err = (struct err)ERR_INIT;
	*b = NULL;
	return blk_open(b, NULL, &o, err);
}

static struct blk *must_open(struct blk_options o, const char *name)
{
	struct blk *b;
	struct err err;

	if (try_open(&b, o, name, &err) < 0)
		FAIL("%s", err.msg);
	return b;
}

TEST(the_content_decides_the_format_and_not_the_name)
{
	const char *format = NULL;

	make("disk.raw", "qcow2", 1 << 20, "", NULL, NULL);
	CHECK_EQ(blk_probe(in_dir("disk.raw"), -1, &format, NULL), 0);
	CHECK_STR(format, "qcow2");
	struct blk *b = must_open((struct blk_options){ 0 }, "disk.raw");

	CHECK_STR(blk_format(b), "qcow2");
	CHECK_EQ(blk_size(b), 1 << 20);
	blk_close(b);
	make("disk.qcow2", "raw", 1 << 20, "", NULL, NULL);
	CHECK_EQ(blk_probe(in_dir("disk.qcow2"), -1, &format, NULL), 0);
	CHECK_STR(format, "raw");
}

TEST(a_disk_that_was_taken_for_raw_cannot_be_made_to_look_like_something_else)
{
	uint8_t header[512] = "QFI\xfb\0\0\0\3", zero[512] = { 0 };

	make("d", "raw", 1 << 20, "", NULL, NULL);
	struct blk *b = must_open((struct blk_options){ 0 }, "d");

	CHECK_EQ(blk_pwrite(b, 0, header, 512), -EPERM);
	CHECK_EQ(blk_pwrite(b, 0, zero, 512), 0);
	CHECK_EQ(blk_pwrite(b, 512, header, 512), 0);           /* means nothing there */
	CHECK_EQ(blk_pwrite(b, 0, header, 3), 0);
	CHECK_EQ(blk_pwrite(b, 3, header + 3, 5), -EPERM);      /* nor piece by piece */
	blk_close(b);
	b = must_open((struct blk_options){ .format = "raw" }, "d");
	CHECK_EQ(blk_pwrite(b, 0, header, 512), 0);
	blk_close(b);
}

TEST(a_chain_shows_the_nearest_image_that_has_something)
{
	uint8_t buf[512], one[512], two[512];

	memset(one, 1, 512);
	memset(two, 2, 512);
	make("base", "raw", 1 << 20, "", NULL, NULL);
	struct blk *b = must_open((struct blk_options){ .format = "raw" }, "base");

	CHECK_EQ(blk_pwrite(b, 0, one, 512), 0);
	CHECK_EQ(blk_pwrite(b, 65536, one, 512), 0);
	blk_close(b);
	make("mid", "qcow2", 0, "", "base", "raw");
	make("top", "qcow2", 2 << 20, "", "mid", "qcow2");
	b = must_open((struct blk_options){ 0 }, "mid");
	CHECK_EQ(blk_pwrite(b, 0, two, 512), 0);
	blk_close(b);
	b = must_open((struct blk_options){ 0 }, "top");
	CHECK_EQ(blk_pread(b, 0, buf, 512), 0);
	CHECK_MEM(buf, two, 512);
	CHECK_EQ(blk_pread(b, 65536, buf, 512), 0);
	CHECK_MEM(buf, one, 512);
	CHECK_EQ(blk_pread(b, (2 << 20) - 512, buf, 512), 0);   /* behind the end of both */
	CHECK_EQ(buf[0], 0);

	struct blk_extent e;
	json_t *info = NULL;

	CHECK_EQ(blk_map(b, 0, 1 << 20, true, &e), 0);
	CHECK_EQ(e.depth, 1);
	CHECK(e.flags & BLK_EXT_DATA);
	CHECK_EQ(blk_map(b, 65536, 1 << 20, true, &e), 0);
	CHECK_EQ(e.depth, 2);
	CHECK_EQ(blk_map(b, 0, 2 << 20, false, &e), 0);
	CHECK_EQ(e.flags & BLK_EXT_ALLOCATED, 0);
	CHECK_EQ(e.len, 2 << 20);
	CHECK_EQ(blk_info(b, true, &info, NULL), 0);
	CHECK_STR(json_string_value(json_object_get(json_object_get(info, "backing"), "format")), "qcow2");
	json_decref(info);
	blk_close(b);
}

TEST(a_chain_that_comes_back_to_itself_is_refused)
{
	struct blk *b;
	struct err err;

	make("a", "qcow2", 1 << 20, "", "b", "qcow2");
	make("b", "qcow2", 1 << 20, "", "a", "qcow2");
	CHECK_EQ(try_open(&b, (struct blk_options){ .is_readonly = true }, "a", &err), -ELOOP);
	CHECK_HAS(err.msg, "behind itself");
	make("c", "qcow2", 1 << 20, "", "c", "qcow2");
	CHECK_EQ(try_open(&b, (struct blk_options){ .is_readonly = true }, "c", &err), -ELOOP);
}

TEST_SLOW(a_chain_has_up_to_128_images)
{
	struct blk *b;
	struct err err;
	char name[16], below[16] = "";
	uint8_t buf[512];

	for (int i = 0; i <= BLK_DEPTH_MAX; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		make(name, "qcow2", 1 << 20, "", i ? below : NULL, i ? "qcow2" : NULL);
		memcpy(below, name, sizeof(below));
	}
	snprintf(name, sizeof(name), "n%d", BLK_DEPTH_MAX - 1);
	b = must_open((struct blk_options){ 0 }, name);
	CHECK_EQ(blk_pread(b, 4096, buf, 512), 0);
	blk_close(b);
	CHECK_EQ(try_open(&b, (struct blk_options){ .is_readonly = true }, below, &err), -ELOOP);
	CHECK_HAS(err.msg, "merge some");
}

TEST(what_an_image_names_is_looked_for_beside_it_and_if_confined_nowhere_else)
{
	struct blk *b;
	struct err err;

	mkdir(in_dir("sub"), 0700);
	make("base", "raw", 1 << 20, "", NULL, NULL);
	make("sub/base", "raw", 2 << 20, "", NULL, NULL);
	make("sub/near", "qcow2", 0, "", "base", "raw");
	make("sub/far", "qcow2", 0, "", "../base", "raw");
	b = must_open((struct blk_options){ .is_confined = true }, "sub/near");
	CHECK_EQ(blk_size(b), 2 << 20);
	blk_close(b);
	b = must_open((struct blk_options){ 0 }, "sub/far");
	CHECK_EQ(blk_size(b), 1 << 20);
	blk_close(b);
	CHECK_EQ(try_open(&b, (struct blk_options){ .is_confined = true }, "sub/far", &err), -EACCES);
	CHECK_HAS(err.msg, "not below its own directory");
	make("gone", "qcow2", 1 << 20, "", "nothing-here", "raw");
	CHECK_EQ(try_open(&b, (struct blk_options){ 0 }, "gone", &err), -ENOENT);
	CHECK_HAS(err.msg, "nothing-here");
	make("net", "qcow2", 1 << 20, "", "gopher://host/x", "raw");
	CHECK_EQ(try_open(&b, (struct blk_options){ 0 }, "net", &err), -EACCES);
	CHECK_HAS(err.msg, "cannot make connections");
	CHECK_EQ(try_open(&b, (struct blk_options){ .has_remote_names = true }, "net", &err), -ENOTSUP);
	CHECK_HAS(err.msg, "'gopher'");
	make("sly", "qcow2", 1 << 20, "", "http://h/x#cache=/etc", "raw");
	CHECK_EQ(try_open(&b, (struct blk_options){ .has_remote_names = true }, "sly", &err), -EINVAL);
	CHECK_HAS(err.msg, "options");
}

TEST(a_backing_image_is_shared_and_kept_from_writers)
{
	struct blk *top, *b;
	struct err err;

	make("base", "raw", 1 << 20, "", NULL, NULL);
	make("one", "qcow2", 0, "", "base", "raw");
	make("two", "qcow2", 0, "", "base", "raw");
	top = must_open((struct blk_options){ 0 }, "one");
	b = must_open((struct blk_options){ 0 }, "two");
	blk_close(b);
	CHECK_EQ(try_open(&b, (struct blk_options){ .format = "raw" }, "base", &err), -EBUSY);
	blk_close(top);
}

static void patch(const char *name, uint64_t off, const void *bytes, size_t len)
{
	AUTO_FD int fd = open(in_dir(name), O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && pwrite(fd, bytes, len, (off_t)off) == (ssize_t)len);
}

TEST(a_qcow2_header_that_cannot_be_is_refused_with_the_reason)
{
	static const struct { uint64_t off; uint8_t len, bytes[8]; int code; const char *why; } cases[] = {
		{ 4, 4, { 0, 0, 0, 9 }, -ENOTSUP, "version 9" },
		{ 20, 4, { 0, 0, 0, 40 }, -ENOTSUP, "clusters of 2^40" },
		{ 32, 4, { 0, 0, 0, 1 }, -ENOTSUP, "AES" },
		{ 32, 4, { 0, 0, 0, 2 }, -EINVAL, "encryption header" },
		{ 36, 4, { 0, 0, 0, 0 }, -EINVAL, "the disk needs 1" },
		{ 40, 8, { 0, 0, 0, 0, 0, 0, 1, 1 }, -EINVAL, "L1 table" },
		{ 56, 4, { 0xff, 0, 0, 0 }, -EFBIG, "refcount table" },
		{ 72, 8, { 0x80, 0, 0, 0, 0, 0, 0, 0 }, -ENOTSUP, "bit 63" },
		{ 72, 8, { 0, 0, 0, 0, 0, 0, 0, 2 }, -EROFS, "marked as corrupt" },
		{ 96, 4, { 0, 0, 0, 7 }, -EINVAL, "reference counts of 2^7" },
		{ 100, 4, { 0, 0, 0, 13 }, -EINVAL, "length 13" },
		{ 104, 1, { 1 }, -ENOTSUP, "compression type 1" },
	};
	struct blk *b;
	struct err err;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		make("bad", "qcow2", 1 << 20, "", NULL, NULL);
		patch("bad", cases[i].off, cases[i].bytes, cases[i].len);
		CHECK_EQ(try_open(&b, (struct blk_options){ .format = "qcow2" }, "bad", &err), cases[i].code);
		CHECK_HAS(err.msg, cases[i].why);
	}
}

TEST(damage_that_shows_while_working_stops_writing_and_is_marked)
{
	static const uint8_t entry[8] = { 0x80, 0, 0, 0, 0, 1, 0, 0 };        /* the refcount table */
	uint8_t buf[512] = { 1 }, l1[8];
	struct blk *b;
	struct err err;

	make("d", "qcow2", 1 << 20, "", NULL, NULL);
	b = must_open((struct blk_options){ 0 }, "d");
	CHECK_EQ(blk_pwrite(b, 0, buf, 512), 0);
	blk_close(b);
	AUTO_FD int fd = open(in_dir("d"), O_RDWR | O_CLOEXEC);

	CHECK_EQ(pread(fd, l1, 8, 3 * 65536), 8);
	l1[0] &= 0x7f;
	uint64_t l2 = 0;

	for (int i = 0; i < 8; i++)
		l2 = l2 << 8 | l1[i];
	patch("d", l2 + 8, entry, 8);
	b = must_open((struct blk_options){ 0 }, "d");
	CHECK_EQ(blk_pwrite(b, 65536, buf, 512), -EIO);
	CHECK_EQ(blk_pwrite(b, 1 << 19, buf, 512), -EIO);
	CHECK_EQ(blk_pread(b, 0, buf, 512), 0);
	blk_close(b);
	CHECK_EQ(try_open(&b, (struct blk_options){ 0 }, "d", &err), -EROFS);
	CHECK_HAS(err.msg, "marked as corrupt");
	struct blk_check c = { .report = NULL };

	b = must_open((struct blk_options){ .is_repairing = true }, "d");
	CHECK_EQ(blk_check(b, BLK_FIX_ALL, &c, &err), 0);
	CHECK(c.n_errors_fixed > 0);
	blk_close(b);
	b = must_open((struct blk_options){ 0 }, "d");
	CHECK_EQ(blk_pwrite(b, 65536, buf, 512), 0);
	blk_close(b);
}

TEST(options_come_from_tables_and_mistakes_are_explained)
{
	struct blk_opts o;
	struct err err = ERR_INIT;

	CHECK_EQ(blk_opts_init(&o, blk_format_create_opts("qcow2"), NULL), 0);
	CHECK_EQ(blk_opts_num(&o, "cluster_size"), 65536);
	CHECK(!blk_opts_is_set(&o, "cluster_size"));
	CHECK_EQ(blk_opts_parse(&o, "cluster_size=4K,lazy_refcounts", &err), 0);
	CHECK_EQ(blk_opts_num(&o, "cluster_size"), 4096);
	CHECK_EQ(blk_opts_num(&o, "lazy_refcounts"), 1);
	CHECK_EQ(blk_opts_parse(&o, "cluster_sise=4K", &err), -EINVAL);
	CHECK_HAS(err.msg, "did you mean 'cluster_size'");
	CHECK_EQ(blk_opts_parse(&o, "compat=2", &err), -EINVAL);
	CHECK_HAS(err.msg, "0.10, 1.1");
	CHECK_EQ(blk_opts_parse(&o, "cluster_size=4M", &err), -ERANGE);
	CHECK_EQ(blk_opts_parse(&o, "cluster_size", &err), -EINVAL);
	blk_opts_fini(&o);
}

/* --- from one process to another ------------------------------------------------------------- */

static void hand_over(const char *format)
{
	struct blk_options o = { .format = format };
	struct blk_options later = { .format = format, .is_inactive = true };
	uint8_t out[4096], in[4096];
	struct blk *other = NULL;
	struct err err;

	make("handed", format, 1 << 20, "", NULL, NULL);
	struct blk *b = must_open(o, "handed");
	CHECK_EQ(try_open(&other, o, "handed", &err), -EBUSY);
	other = must_open(later, "handed");
	CHECK(!blk_is_readonly(other));
	CHECK_EQ(blk_size(other), 1 << 20);
	CHECK_EQ(blk_can_discard(other), blk_can_discard(b));
	CHECK_EQ(blk_activate(other, &err), -EBUSY);
	memset(out, 0x5a, sizeof(out));
	CHECK_EQ(blk_pwrite(b, 65536, out, sizeof(out)), 0);
	CHECK_EQ(blk_deactivate(b, &err), 0);
	CHECK_EQ(blk_deactivate(b, &err), 0);
	CHECK_EQ(blk_activate(other, &err), -EBUSY);    /* written back, but not let go */
	blk_release(b);
	CHECK_EQ(blk_activate(other, &err), 0);
	CHECK_EQ(blk_activate(other, &err), 0);
	CHECK_EQ(blk_pread(other, 65536, in, sizeof(in)), 0);
	CHECK(!memcmp(in, out, sizeof(in)));
	CHECK_EQ(blk_activate(b, &err), -EBUSY);
	memset(out, 0xa5, sizeof(out));
	CHECK_EQ(blk_pwrite(other, 131072, out, sizeof(out)), 0);
	CHECK_EQ(blk_deactivate(other, &err), 0);
	blk_release(other);
	CHECK_EQ(blk_activate(b, &err), 0);             /* and back */
	CHECK_EQ(blk_pread(b, 131072, in, sizeof(in)), 0);
	CHECK(!memcmp(in, out, sizeof(in)));
	blk_close(other);
	blk_close(b);
	CHECK_EQ(try_open(&b, o, "handed", &err), 0);
	blk_close(b);
}

TEST(a_raw_disk_is_handed_over_and_back)
{
	hand_over("raw");
}

TEST(a_qcow2_disk_is_handed_over_and_back)
{
	hand_over("qcow2");
}

TEST(an_inactive_disk_is_not_written)
{
	struct err err;

	make("still", "raw", 1 << 20, "", NULL, NULL);
	struct blk *b = must_open((struct blk_options){ .format = "raw", .is_inactive = true }, "still");

	CHECK(blk_pwrite(b, 0, "x", 1) < 0);
	CHECK_EQ(blk_activate(b, &err), 0);
	CHECK_EQ(blk_pwrite(b, 0, "x", 1), 0);
	blk_close(b);
}

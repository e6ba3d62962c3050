/* SPDX-License-Identifier: Apache-2.0 */
/* formats.c - what the drivers of foreign formats do with each field that cannot be: a sentence, no image. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/opts.h"
#include "in_dir.h"
#include "test.h"
#include "util/checked.h"
#include "util/crc32c.h"
#include "util/endian.h"
#include "util/err.h"

enum { SIZE = 8 << 20 };

static void create(const char *name, const char *format, const char *options, uint64_t size, const char *backing)
{
	AUTO(blk_opts_fini) struct blk_opts opts = { 0 };
	struct err err = ERR_INIT;
	struct blk_create c = { .path = in_dir(name), .format = format, .size = size, .opts = &opts, .backing = backing,
				.backing_format = backing ? format : NULL };

	if (blk_opts_init(&opts, blk_format_create_opts(format), &err) < 0 ||
	    blk_opts_parse(&opts, options, &err) < 0 || blk_create(&c, &err) < 0)
		FAIL("%s", err.msg);
}

static int try_open(const char *name, const char *format, bool is_readonly, struct blk **b, struct err *err)
{
	struct blk_options o = { .path = in_dir(name), .fd = -1, .format = format, .is_readonly = is_readonly };

	*err = (struct err)ERR_INIT;
	*b = NULL;
	return blk_open(b, NULL, &o, err);
}

static struct blk *must_open(const char *name, const char *format)
{
	struct err err;
	struct blk *b;

	if (try_open(name, format, false, &b, &err) < 0)
		FAIL("%s", err.msg);
	return b;
}

/* OFF below 0: from the end. */
static void patch(const char *name, int64_t off, const void *bytes, size_t len)
{
	AUTO_FD int fd = open(in_dir(name), O_RDWR);
	struct stat st;

	CHECK(fd >= 0 && !fstat(fd, &st));
	CHECK_EQ(pwrite(fd, bytes, len, off < 0 ? st.st_size + off : off), (ssize_t)len);
}

static void peek(const char *name, int64_t off, void *bytes, size_t len)
{
	AUTO_FD int fd = open(in_dir(name), O_RDONLY);
	struct stat st;

	CHECK(fd >= 0 && !fstat(fd, &st));
	CHECK_EQ(pread(fd, bytes, len, off < 0 ? st.st_size + off : off), (ssize_t)len);
}

/* --- checksums, so that a changed field is looked at -------------------------------------------- */

static void sum_vhd(const char *name, int64_t off, size_t len, size_t at)
{
	uint8_t buf[1024], raw[4];
	uint32_t sum = 0;

	peek(name, off, buf, len);
	for (size_t i = 0; i < len; i++)
		sum += i >= at && i < at + 4 ? 0 : buf[i];
	put_be32(raw, ~sum);
	patch(name, off + (int64_t)at, raw, 4);
}

enum sum { NONE, VHD_FOOTERS, VHD_END, VHD_HEADER, VHDX_HEADERS, VHDX_REGIONS };

static void sum_vhdx(const char *name, int64_t off, size_t len)
{
	uint8_t *buf = malloc(len);

	CHECK(buf);
	peek(name, off, buf, len);
	put_le32(buf + 4, 0);
	put_le32(buf + 4, crc32c(0, buf, len));
	patch(name, off, buf, len);
	free(buf);
}

struct bad {
	const char *format, *options;
	int64_t off;
	unsigned len;           /* of VALUE, big-endian for VHD, else little-endian */
	uint64_t value;
	enum sum sum;
	const char *sentence;
};

static const struct bad bads[] = {
	{ "vdi", "", 0x44, 4, 0x10000, NONE, "version 1.0" },
	{ "vdi", "", 0x4c, 4, 3, NONE, "undo" },
	{ "vdi", "", 0x4c, 4, 77, NONE, "type 77" },
	{ "vdi", "", 0x154, 4, 0x101, NONE, "block map" },
	{ "vdi", "", 0x154, 4, 0xfffffe00, NONE, "block map" },
	{ "vdi", "", 0x158, 4, 0x200, NONE, "lies over" },
	{ "vdi", "", 0x158, 4, 0x100001, NONE, "lies over" },
	{ "vdi", "", 0x170, 8, UINT64_MAX, NONE, "blocks for a disk" },
	{ "vdi", "", 0x170, 8, SIZE * 2ull, NONE, "blocks for a disk" },
	{ "vdi", "", 0x178, 4, 0, NONE, "blocks of 0 bytes" },
	{ "vdi", "", 0x178, 4, 0x100001, NONE, "blocks of 1048577 bytes" },
	{ "vdi", "", 0x178, 4, 0x80000000, NONE, "blocks of" },
	{ "vdi", "", 0x17c, 4, 512, NONE, "extra bytes" },
	{ "vdi", "", 0x180, 4, 0xffffffff, NONE, "4294967295 blocks" },
	{ "vdi", "", 0x180, 4, 0x3fffffff, NONE, "block map" },
	{ "vmdk", "", 4, 4, 4, NONE, "version 4" },
	{ "vmdk", "", 4, 4, 3, NONE, "readonly=on" },
	{ "vmdk", "", 8, 4, 0x80000003, NONE, "0x80000000" },
	{ "vmdk", "", 8, 4, 0x10003, NONE, "algorithm 0" },
	{ "vmdk", "", 12, 8, UINT64_MAX, NONE, "sectors" },
	{ "vmdk", "", 12, 8, 0, NONE, "0 sectors" },
	{ "vmdk", "", 20, 8, 127, NONE, "grains of 127" },
	{ "vmdk", "", 20, 8, 1ull << 40, NONE, "grains of" },
	{ "vmdk", "", 28, 8, 0, NONE, "part of a VMDK image" },
	{ "vmdk", "", 28, 8, 1ull << 60, NONE, "descriptor" },
	{ "vmdk", "", 36, 8, 1 << 20, NONE, "descriptor" },
	{ "vmdk", "", 44, 4, 0, NONE, "0 entries per grain table" },
	{ "vmdk", "", 44, 4, 0x80000000, NONE, "entries per grain table" },
	{ "vmdk", "", 48, 8, 1ull << 61, NONE, "grain directory" },
	{ "vmdk", "", 56, 8, 1ull << 61, NONE, "grain directory" },
	{ "vmdk", "", 73, 4, 0x0a0d0a20, NONE, "copied as text" },
	{ "vmdk", "", 512, 1, 'x', NONE, NULL },                /* its first line is a comment: nobody needs it */
	{ "vmdk", "subformat=streamOptimized", 56, 8, UINT64_MAX, NONE, "readonly=on" },
	{ "vpc", "", 12, 4, 0x20000, VHD_FOOTERS, "version 2.0" },
	{ "vpc", "", 16, 8, 513, VHD_FOOTERS, "header at byte 513" },
	{ "vpc", "", 16, 8, 1ull << 50, VHD_FOOTERS, "header at byte" },
	{ "vpc", "", 48, 8, 0, VHD_FOOTERS, "disk of 0 bytes" },
	{ "vpc", "", 48, 8, 1ull << 60, VHD_FOOTERS, "disk of" },
	{ "vpc", "", 60, 4, 7, VHD_FOOTERS, "type 7" },
	{ "vpc", "", 60, 4, 4, VHD_FOOTERS, "does not say of what" },
	{ "vpc", "", 512, 1, 'x', NONE, "dynamic header" },
	{ "vpc", "", 512 + 16, 8, 3 * 512 + 1, VHD_HEADER, "table at byte 1537" },
	{ "vpc", "", 512 + 16, 8, UINT64_MAX, VHD_HEADER, "table at byte" },
	{ "vpc", "", 512 + 24, 4, 0x20000, VHD_HEADER, "version 2.0" },
	{ "vpc", "", 512 + 28, 4, 1, VHD_HEADER, "1 blocks for a disk" },
	{ "vpc", "", 512 + 28, 4, 0xffffffff, VHD_HEADER, "4294967295 blocks" },
	{ "vpc", "", 512 + 32, 4, 0, VHD_HEADER, "blocks of 0" },
	{ "vpc", "", 512 + 32, 4, 0x80000000, VHD_HEADER, "blocks of" },
	{ "vpc", "subformat=fixed", -512 + 48, 8, SIZE + 512, VHD_END, "its file has" },
	{ "vpc", "subformat=fixed", -512, 1, 'x', NONE, "not a VHD image" },
	{ "vhdx", "", 0, 1, 'x', NONE, "not a VHDX image" },
	{ "vhdx", "", 0x20000 + 66, 2, 2, VHDX_HEADERS, "version 2" },
	{ "vhdx", "", 0x20000 + 64, 2, 1, VHDX_HEADERS, "log of version 1" },
	{ "vhdx", "", 0x20000 + 68, 4, 4096, VHDX_HEADERS, "a log of 4096" },
	{ "vhdx", "", 0x20000 + 72, 8, 1ull << 60, VHDX_HEADERS, "a log of" },
	{ "vhdx", "", 0x20000 + 72, 8, 0, VHDX_HEADERS, "a log of" },
	{ "vhdx", "", 0x20000 + 72, 8, 0x300000, VHDX_HEADERS, "region" },
	{ "vhdx", "", 0x30000 + 8, 4, 2048, VHDX_REGIONS, "region tables" },
	{ "vhdx", "", 0x30000 + 8, 4, 1, VHDX_REGIONS, "no region for metadata" },
	{ "vhdx", "", 0x30000 + 16, 4, 1, VHDX_REGIONS, "must be known" },
	{ "vhdx", "", 0x30000 + 32, 8, 0x200000, VHDX_REGIONS, "over each other" },
	{ "vhdx", "", 0x30000 + 32, 8, 1ull << 50, VHDX_REGIONS, "region of" },
	{ "vhdx", "", 0x30000 + 40, 4, 0, VHDX_REGIONS, "0 bytes at" },
	{ "vhdx", "", 0x30000 + 64, 8, 0x300000, VHDX_REGIONS, "over each other" },
	{ "vhdx", "", 0x200000, 1, 'x', NONE, "metadata table" },
	{ "vhdx", "", 0x200000 + 10, 2, 2048, NONE, "metadata table" },
	{ "vhdx", "", 0x200000 + 10, 2, 4, NONE, "no physical sector size" },
	{ "vhdx", "", 0x200000 + 32, 4, 1, NONE, "must be known" },
	{ "vhdx", "", 0x200000 + 48, 4, 12, NONE, "file parameters" },
	{ "vhdx", "", 0x200000 + 48, 4, 0xfffffff0, NONE, "file parameters" },
	{ "vhdx", "", 0x200000 + 52, 4, 9, NONE, "file parameters" },
	{ "vhdx", "", 0x210000, 4, 0, NONE, "blocks of 0 bytes" },
	{ "vhdx", "", 0x210000, 4, 0x80000000, NONE, "blocks of" },
	{ "vhdx", "", 0x210004, 4, 2, NONE, "parent" },
	{ "vhdx", "", 0x210010, 8, 0, NONE, "disk of 0 bytes" },
	{ "vhdx", "", 0x210010, 8, 1ull << 50, NONE, "disk of" },
	{ "vhdx", "", 0x210010, 8, 1ull << 45, NONE, "not enough for a disk" },
	{ "vhdx", "", 0x210030, 4, 520, NONE, "sectors of 520" },
	{ "parallels", "", 0, 1, 'x', NONE, "not a Parallels image" },
	{ "parallels", "", 16, 4, 3, NONE, "version 3" },
	{ "parallels", "", 28, 4, 0, NONE, "clusters of 0 sectors" },
	{ "parallels", "", 28, 4, 0xffffffff, NONE, "clusters of" },
	{ "parallels", "", 32, 4, 1, NONE, "1 clusters for a disk" },
	{ "parallels", "", 32, 4, 0xffffffff, NONE, "4294967295 clusters" },
	{ "parallels", "", 36, 8, UINT64_MAX, NONE, "clusters for a disk" },
	{ "parallels", "", 48, 4, 1, NONE, "data at byte 512" },
	{ "parallels", "", 56, 8, 1ull << 40, NONE, "extension at sector" },
	{ "parallels", "", 56, 8, 2048, NONE, "extension" },
};

static void seal(const struct bad *x)
{
	uint8_t footer[512];

	if (x->sum == VHD_FOOTERS) {
		sum_vhd("bad", 0, 512, 64);
		peek("bad", 0, footer, sizeof(footer));
		patch("bad", -512, footer, sizeof(footer));
	} else if (x->sum == VHD_END) {
		sum_vhd("bad", -512, 512, 64);
	} else if (x->sum == VHD_HEADER) {
		sum_vhd("bad", 512, 1024, 36);
	} else if (x->sum == VHDX_HEADERS) {
		sum_vhdx("bad", 0x20000, 4096);
	} else if (x->sum == VHDX_REGIONS) {
		sum_vhdx("bad", 0x30000, 65536);
	}
}

TEST_SLOW(every_field_that_cannot_be_is_refused_with_a_sentence)
{
	for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
		const struct bad *x = &bads[i];
		bool is_big = !strcmp(x->format, "vpc");
		uint8_t raw[8];
		struct err err;
		struct blk *b;

		create("bad", x->format, x->options, SIZE, NULL);
		for (unsigned k = 0; k < x->len; k++)
			raw[k] = (uint8_t)(x->value >> 8 * (is_big ? x->len - 1 - k : k));
		patch("bad", x->off, raw, x->len);
		seal(x);
		int r = try_open("bad", x->format, false, &b, &err);

		if ((r < 0) != !!x->sentence || (r < 0 && !strstr(err.msg, x->sentence)))
			FAIL("%s, %" PRId64 " = 0x%" PRIx64 ": %d '%s', not '%s'", x->format, x->off, x->value, r,
			     err.msg,
			     x->sentence ? x->sentence : "");
		blk_close(b);
	}
}

/* --- entries ------------------------------------------------------------------------------------ */

TEST(an_entry_that_leads_out_of_the_file_is_an_error_and_stops_writing)
{
	static const struct { const char *format, *options; int64_t off; bool is_big; } at[] = {
		{ "vdi", "", 512, false }, { "vpc", "", 1536, true },
		{ "parallels", "", 64, false }, { "vhdx", "", 0x300000, false },
		{ "vmdk", "", (21 + 5 + 1) * 512, false },
		     /* header, descriptor, second directory and tables, directory */
	};
	uint8_t buf[512] = { 1 }, raw[4];

	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		create("bad", at[i].format, at[i].options, SIZE, NULL);
		put_le32(raw, 0x01234567);
		if (at[i].is_big)
			put_be32(raw, 0x01234567);
		patch("bad", at[i].off, raw, 4);
		struct blk *b = must_open("bad", at[i].format);
		struct blk_check c = { .report = NULL };

		CHECK_EQ(blk_pread(b, 0, buf, sizeof(buf)), -EIO);
		CHECK_EQ(blk_pwrite(b, SIZE / 2, buf, sizeof(buf)), -EIO);
		CHECK_EQ(blk_check(b, 0, &c, NULL), 0);
		CHECK_EQ(c.n_errors, 1);
		blk_close(b);
	}
}

/* --- names -------------------------------------------------------------------------------------- */

static void write_text(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "w");

	CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

#define DESC "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n"

TEST(a_descriptor_is_read_strictly)
{
	static const struct { const char *text, *sentence; } texts[] = {
		{ "# Disk DescriptorFile\nCID=1\n", "no createType" },
		{ "# Disk DescriptorFile\ncreateType=\"fullDevice\"\n", "type 'fullDevice'" },
		{ "# Disk DescriptorFile\nCID=xyz\n", "CID 'xyz'" },
		{ "# Disk DescriptorFile\nparentCID=123456789\n", "parentCID '123456789'" },
		{ DESC, "no extents" },
		{ DESC "RW 0 FLAT \"flat\" 0\n", "'0' sectors" },
		{ DESC "RW -8 FLAT \"flat\" 0\n", "'-8' sectors" },
		{ DESC "RW 99999999999999999999 FLAT \"flat\" 0\n", "sectors" },
		{ DESC "RW 8 FLAT flat 0\n", "without a name" },
		{ DESC "RW 8 FLAT \"\" 0\n", "without a name" },
		{ DESC "RW 8 FLAT \"flat\n", "without a name" },
		{ DESC "RW 8 FLAT \"flat\" here\n", "at 'here'" },
		{ DESC "RW 8 FLAT \"flat\" 9\n", "wants 4096 at 4608" },
		{ DESC "RW 8 VMFSRDM \"flat\" 0\n", "type 'VMFSRDM'" },
		{ DESC "NOACCESS 8 FLAT \"flat\" 0\n", "NOACCESS" },
		{ DESC "RDONLY 8 FLAT \"flat\" 0\n", "readonly=on" },
		{ DESC "RW 8 ZERO\n", "readonly=on" },
		{ DESC "RW 8 SPARSE \"flat\"\n", "not a sparse one" },
		{ DESC "RW 8 FLAT \"missing\" 0\n", "No such file" },
		{ DESC "RW 8 FLAT \"flat\" 0\nRW 8 FLAT \"flat\" 8\n", "open twice" },
		{ DESC "RW 8 FLAT \"nbd://host/x\" 0\n", "nbd" },
	};
	uint8_t zero[8192] = { 0 };
	struct err err;
	struct blk *b;

	write_text("flat", "");
	patch("flat", 0, zero, sizeof(zero));
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		write_text("bad", texts[i].text);
		CHECK(try_open("bad", "vmdk", false, &b, &err) < 0);
		CHECK_HAS(err.msg, texts[i].sentence);
	}
	write_text("good", DESC "RW 8 FLAT \"flat\" 8\n");
	b = must_open("good", NULL);
	CHECK_EQ(blk_size(b), 4096);
	CHECK_STR(blk_format(b), "vmdk");
	blk_close(b);
}

TEST(extents_of_a_confined_image_lie_below_its_folder)
{
	struct blk *b = NULL;
	struct err err = ERR_INIT;
	struct blk_options o = { .fd = -1, .format = "vmdk", .is_confined = true };

	write_text("bad", DESC "RW 8 FLAT \"/etc/passwd\" 0\n");
	o.path = in_dir("bad");
	CHECK_EQ(blk_open(&b, NULL, &o, &err), -EACCES);
	CHECK_HAS(err.msg, "not below its own directory");
	write_text("bad", DESC "RW 8 FLAT \"../x\" 0\n");
	err = (struct err)ERR_INIT;
	CHECK_EQ(blk_open(&b, NULL, &o, &err), -EACCES);
}

/* --- probing ------------------------------------------------------------------------------------ */

TEST(a_guest_cannot_choose_what_a_fixed_vhd_is_taken_for)
{
	uint8_t header[512] = { 'Q', 'F', 'I', 0xfb, 0, 0, 0, 3 };
	struct blk *b;

	create("fixed", "vpc", "subformat=fixed", SIZE, NULL);
	b = must_open("fixed", NULL);
	CHECK_STR(blk_format(b), "vpc");
	CHECK_EQ(blk_pwrite(b, 0, header, sizeof(header)), 0);
	blk_close(b);
	b = must_open("fixed", NULL);
	CHECK_STR(blk_format(b), "vpc");
	blk_close(b);
}

/* --- parents ------------------------------------------------------------------------------------ */

TEST(a_parent_that_has_changed_is_refused)
{
	uint8_t buf[512] = { 7 };
	struct err err;
	struct blk *b;

	create("base.vmdk", "vmdk", "", SIZE, NULL);
	create("over.vmdk", "vmdk", "", 0, "base.vmdk");
	b = must_open("over.vmdk", NULL);
	CHECK_EQ(blk_size(b), SIZE);
	blk_close(b);
	b = must_open("base.vmdk", "vmdk");
	CHECK_EQ(blk_pwrite(b, 0, buf, sizeof(buf)), 0);
	blk_close(b);
	CHECK_EQ(try_open("over.vmdk", "vmdk", false, &b, &err), -EINVAL);
	CHECK_HAS(err.msg, "has been changed since");
	create("base.vhd", "vpc", "", SIZE, NULL);
	create("over.vhd", "vpc", "", 0, "base.vhd");
	b = must_open("over.vhd", NULL);
	CHECK_EQ(blk_size(b), SIZE);
	blk_close(b);
	create("base.vhdx", "vhdx", "", SIZE, NULL);
	create("over.vhdx", "vhdx", "", 0, "base.vhdx");
	b = must_open("over.vhdx", NULL);
	CHECK_EQ(blk_size(b), SIZE);
	blk_close(b);
	b = must_open("base.vhdx", "vhdx");
	CHECK_EQ(blk_pwrite(b, 0, buf, sizeof(buf)), 0);
	blk_close(b);
	CHECK_EQ(try_open("over.vhdx", "vhdx", false, &b, &err), -EINVAL);
	CHECK_HAS(err.msg, "has been changed since");
	create("base.vhd", "vpc", "", SIZE, NULL);
	CHECK_EQ(try_open("over.vhd", "vpc", false, &b, &err), -EINVAL);
	CHECK_HAS(err.msg, "was made over the image");
}

/* --- bundles ------------------------------------------------------------------------------------ */

#define XML "<?xml version=\"1.0\"?>\n<Parallels_disk_image Version=\"1.0\"><Disk_Parameters>" \
	    "<Disk_size>16384</Disk_size></Disk_Parameters><StorageData><Storage>"
#define XML_END "</Storage></StorageData></Parallels_disk_image>\n"
#define XML_IMAGE "<Image><GUID>{0}</GUID><Type>Compressed</Type><File>a&amp;b.hds</File></Image>"

TEST(a_bundle_is_read_strictly)
{
	static const struct { const char *text, *sentence; } texts[] = {
		{ XML XML_END, "0 images" },
		{ XML XML_IMAGE XML_IMAGE XML_END, "2 images" },
		{ XML XML_IMAGE, "not the XML" },
		{ XML XML_IMAGE "</Image>" XML_END, "not the XML" },
		{ XML "<!DOCTYPE x>" XML_IMAGE XML_END, "not the XML" },
		{ XML "<Image><Type>Sparse</Type><File>x</File></Image>" XML_END, "type 'Sparse'" },
		{ XML "<Image><Type>Plain</Type><File></File></Image>" XML_END, "does not name" },
		{ XML "<Image><Type>Plain</Type><File>&x;</File></Image>" XML_END, "not the XML" },
		{ XML "<Image><Type>Plain</Type><File>missing</File></Image>" XML_END, "missing" },
	};
	struct err err;
	struct blk *b;

	create("a&b.hds", "parallels", "", SIZE, NULL);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		write_text("bad", texts[i].text);
		CHECK(try_open("bad", "parallels", true, &b, &err) < 0);
		CHECK_HAS(err.msg, texts[i].sentence);
	}
	write_text("good", XML "<!-- <x> -->" XML_IMAGE XML_END);
	CHECK_EQ(try_open("good", NULL, true, &b, &err), 0);
	CHECK_EQ(blk_size(b), SIZE);
	blk_close(b);
	CHECK_EQ(try_open("good", NULL, false, &b, &err), 0);
	CHECK_EQ(blk_resize(b, 2 * SIZE, BLK_PREALLOC_OFF, &err), -ENOTSUP);
	blk_close(b);
}

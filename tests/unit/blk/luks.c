/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/luks/luks.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "blk/blk.h"
#include "blk/secret.h"
#include "in_dir.h"
#include "test.h"
#include "util/endian.h"
#include "util/err.h"
#include "util/log.h"

enum { MIB = 1 << 20, DISK = 2 * MIB, LUKS1_DATA = 2 * MIB, HDR2 = 16 << 10 };

static const struct blk_secret first = { (uint8_t *)"first", 5 }, second = { (uint8_t *)"second", 6 },
			       wrong = { (uint8_t *)"wrong", 5 };

static int try_make(const char *format, const char *options, const struct blk_secret *s, struct err *err)
{
	struct blk_opts opts;

	*err = (struct err)ERR_INIT;
	CHECK_EQ(blk_opts_init(&opts, blk_format_create_opts(format), err), 0);
	int r = blk_opts_parse(&opts, options, err);
	struct blk_create c = { .path = in_dir("disk"), .format = format, .size = DISK, .opts = &opts, .secret = s };

	if (!r)
		r = blk_create(&c, err);
	blk_opts_fini(&opts);
	return r;
}

static void make(const char *format, const char *options)
{
	struct err err;

	if (try_make(format, options, &first, &err) < 0)
		FAIL("%s", err.msg);
}

static int try_open(struct blk **b, const char *format, const struct blk_secret *s, unsigned n, struct err *err)
{
	struct blk_options o = { .path = in_dir("disk"), .fd = -1, .format = format, .secrets = s, .n_secrets = n };

	*err = (struct err)ERR_INIT;
	*b = NULL;
	return blk_open(b, NULL, &o, err);
}

static struct blk *must_open(const char *format, const struct blk_secret *s)
{
	struct blk *b;
	struct err err;

	if (try_open(&b, format, s, 1, &err) < 0)
		FAIL("%s", err.msg);
	return b;
}

/* Change LEN bytes at OFF of the image behind its back. */
static void poke(uint64_t off, const void *bytes, size_t len)
{
	int fd = open(in_dir("disk"), O_WRONLY);

	CHECK(fd >= 0 && pwrite(fd, bytes, len, (off_t)off) == (ssize_t)len);
	close(fd);
}

static void peek(uint64_t off, void *bytes, size_t len)
{
	int fd = open(in_dir("disk"), O_RDONLY);

	CHECK(fd >= 0 && pread(fd, bytes, len, (off_t)off) == (ssize_t)len);
	close(fd);
}

static void refused(const char *says, int code)
{
	struct blk *b;
	struct err err;
	int r = try_open(&b, "luks", &first, 1, &err);

	CHECK_EQ(r, code);
	CHECK_HAS(err.msg, says);
}

/* --- the passphrase ------------------------------------------------------------------------------- */

TEST(without_a_passphrase_and_with_a_wrong_one_there_is_an_error_for_each)
{
	struct blk *b;
	struct err err;

	make("luks", "version=1,iter-time=1");
	CHECK_EQ(try_open(&b, "luks", NULL, 0, &err), -ENOKEY);
	CHECK_HAS(err.msg, "key-file");
	CHECK_EQ(try_open(&b, "luks", &wrong, 1, &err), -EKEYREJECTED);
	CHECK_HAS(err.msg, "newline");
	CHECK_EQ(try_open(&b, NULL, &wrong, 1, &err), -EKEYREJECTED);   /* found by content */
	struct blk_secret ring[] = { wrong, first };

	CHECK_EQ(try_open(&b, NULL, ring, 2, &err), 0);
	blk_close(b);
}

TEST(a_key_file_is_taken_byte_for_byte_and_a_descriptor_too)
{
	struct blk_secret s = { 0 };
	struct err err = ERR_INIT;
	FILE *f = fopen(in_dir("key"), "w");

	log_set_level(LOG_ERROR);
	CHECK(f && fputs("word\n", f) >= 0 && !fclose(f));
	CHECK_EQ(blk_secret_read_file(&s, in_dir("key"), &err), 0);
	CHECK_EQ(s.len, 5);
	CHECK_MEM(s.data, "word\n", 5);
	blk_secret_wipe(&s);
	CHECK(!s.data && !s.len);
	int fd = open(in_dir("key"), O_RDONLY);

	CHECK_EQ(lseek(fd, 1, SEEK_SET), 1);
	CHECK_EQ(blk_secret_read_fd(&s, fd, &err), 0);
	CHECK_EQ(s.len, 4);
	blk_secret_wipe(&s);
	CHECK_EQ(blk_secret_read_fd(&s, fd, &err), -ENOKEY);            /* nothing is left */
	CHECK_EQ(blk_secret_read_file(&s, in_dir("none"), &err), -ENOENT);
	close(fd);
	CHECK_EQ(truncate(in_dir("key"), BLK_SECRET_MAX + 1), 0);
	CHECK_EQ(blk_secret_read_file(&s, in_dir("key"), &err), -EFBIG);
}

TEST(creating_needs_a_passphrase)
{
	struct err err;

	CHECK_EQ(try_make("luks", "version=1", NULL, &err), -ENOKEY);
	CHECK_EQ(try_make("qcow2", "encrypt.format=luks", NULL, &err), -ENOKEY);
}

TEST(what_cannot_be_is_refused_on_creation)
{
	struct err err;

	CHECK_EQ(try_make("luks", "version=1,pbkdf=argon2id,iter-time=1", &first, &err), -EINVAL);
	CHECK_HAS(err.msg, "pbkdf2");
	CHECK_EQ(try_make("luks", "version=1,sector_size=4096,iter-time=1", &first, &err), -EINVAL);
	CHECK_EQ(try_make("luks", "version=2,sector_size=1536,iter-time=1", &first, &err), -EINVAL);
	CHECK_EQ(try_make("qcow2", "encrypt.format=luks,preallocation=full", &first, &err), -EINVAL);
	CHECK_HAS(err.msg, "preallocation");
}

/* --- the data ------------------------------------------------------------------------------------- */

static void write_and_read_back(const char *format, const char *options)
{
	static uint8_t out[DISK], back[DISK];
	struct blk *b;

	make(format, options);
	b = must_open(format, &first);
	CHECK_EQ(blk_size(b), DISK);
	CHECK(blk_is_encrypted(b));
	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i >> 9);
	CHECK_EQ(blk_pwrite(b, 0, out, DISK), 0);
	memset(out + 1000 * 512, 0x77, 512);                    /* a part of a larger sector */
	CHECK_EQ(blk_pwrite(b, 1000 * 512, out + 1000 * 512, 512), 0);
	memset(out + 1234567, 0x11, 99999);
	CHECK_EQ(blk_pwrite(b, 1234567, out + 1234567, 99999), 0);
	blk_close(b);
	b = must_open(NULL, &first);
	CHECK_EQ(blk_pread(b, 0, back, DISK), 0);
	CHECK_MEM(out, back, DISK);
	blk_close(b);
}

TEST_SLOW(data_comes_back_for_each_cipher_and_sector_size)
{
	static const char *const options[] = {
		"version=1,iter-time=1",
		"version=1,iter-time=1,cipher-mode=cbc",
		"version=1,iter-time=1,cipher-alg=aes-128",
		"version=1,iter-time=1,hash-alg=sha512",
		"version=2,iter-time=1",
		"version=2,iter-time=1,sector_size=4096",
		"version=2,iter-time=1,sector_size=1024,cipher-mode=cbc",
		"version=2,pbkdf=pbkdf2,iter-time=1,hash-alg=sha1",
		"version=2,pbkdf=argon2i,iter-time=1",
	};

	for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++)
		write_and_read_back("luks", options[i]);
	write_and_read_back("qcow2", "encrypt.format=luks,encrypt.iter-time=1");
	write_and_read_back("qcow2", "encrypt.format=luks,encrypt.iter-time=1,extended_l2=on,encrypt.cipher-mode=cbc");
}

static bool file_has(const char *text)
{
	static uint8_t all[32 * MIB];
	FILE *f = fopen(in_dir("disk"), "rb");
	size_t n = f ? fread(all, 1, sizeof(all), f) : 0;

	CHECK(n);
	fclose(f);
	return memmem(all, n, text, strlen(text));
}

TEST(nothing_that_is_written_stands_readable_in_the_file)
{
	static const char *const formats[][2] = {
		{ "luks", "version=1,iter-time=1" }, { "luks", "version=2,iter-time=1,pbkdf=pbkdf2" },
		{ "qcow2", "encrypt.format=luks,encrypt.iter-time=1" },
	};
	static char data[4096] = "A TEXT THAT ONLY THE OWNER MAY READ";

	for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
		make(formats[i][0], formats[i][1]);
		struct blk *b = must_open(formats[i][0], &first);

		CHECK_EQ(blk_pwrite(b, 65536, data, sizeof(data)), 0);
		CHECK_EQ(blk_pwrite(b, 65536 + 512, data, 600), 0);
		blk_close(b);
		CHECK(!file_has("ONLY THE OWNER"));
		CHECK(!file_has("first"));
	}
}

TEST(a_new_part_of_a_larger_disk_reads_as_zeroes)
{
	static uint8_t back[MIB], zero[MIB];
	struct err err = ERR_INIT;

	make("luks", "version=2,iter-time=1");
	struct blk *b = must_open("luks", &first);

	CHECK(!blk_is_zero_when_new(b));
	CHECK_EQ(blk_resize(b, DISK + MIB, BLK_PREALLOC_OFF, &err), 0);
	CHECK_EQ(blk_pread(b, DISK, back, MIB), 0);
	CHECK_MEM(back, zero, MIB);
	blk_close(b);
}

/* --- key slots ------------------------------------------------------------------------------------- */

static struct blk_opts fast;

static const struct blk_opts *quickly(void)
{
	CHECK_EQ(blk_opts_init(&fast, luks_slot_opts, NULL), 0);
	CHECK_EQ(blk_opts_set(&fast, "iter-time", "1", NULL), 0);
	return &fast;
}

static void keys_come_and_go(const char *format, const char *options)
{
	struct blk_luks_slot slots[LUKS_SLOTS_MAX];
	struct err err = ERR_INIT;
	unsigned n = 0;

	make(format, options);
	struct blk *b = must_open(format, &first);

	CHECK_EQ(blk_luks_add_key(b, &second, quickly(), &err), 1);
	CHECK_EQ(blk_luks_slots(b, slots, &n, &err), 0);
	CHECK_EQ(n, 2);
	CHECK_EQ(slots[1].index, 1);
	CHECK_EQ(blk_luks_find_key(b, &second, &err), 1);
	CHECK_EQ(blk_luks_find_key(b, &wrong, &err), -EKEYREJECTED);
	CHECK_EQ(blk_luks_remove_key(b, &first, false, &err), 0);
	CHECK_EQ(blk_luks_remove_key(b, &second, false, &err), -EPERM);
	CHECK_HAS(err.msg, "last");
	CHECK_EQ(blk_luks_change_key(b, &second, &wrong, quickly(), &err), 0);
	blk_close(b);
	CHECK_EQ(try_open(&b, format, &first, 1, &err), -EKEYREJECTED);
	CHECK_EQ(try_open(&b, format, &second, 1, &err), -EKEYREJECTED);
	b = must_open(format, &wrong);
	CHECK_EQ(blk_luks_remove_slot(b, 5, false, &err), -ENOENT);
	CHECK_EQ(blk_luks_remove_slot(b, 0, true, &err), 0);
	blk_close(b);
	CHECK_EQ(try_open(&b, format, &wrong, 1, &err), -EKEYREJECTED);
}

TEST_SLOW(keys_are_added_changed_and_removed_in_each_format)
{
	keys_come_and_go("luks", "version=1,iter-time=1");
	keys_come_and_go("luks", "version=2,iter-time=1");
	keys_come_and_go("qcow2", "encrypt.format=luks,encrypt.iter-time=1");
}

TEST(a_header_has_as_many_slots_as_fit)
{
	struct err err = ERR_INIT;

	make("luks", "version=1,iter-time=1");
	struct blk *b = must_open("luks", &first);

	for (int i = 1; i < 8; i++)
		CHECK_EQ(blk_luks_add_key(b, &second, quickly(), &err), i);
	CHECK_EQ(blk_luks_add_key(b, &second, quickly(), &err), -ENOSPC);
	CHECK_HAS(err.msg, "all 8");
	blk_close(b);
}

TEST(key_material_of_a_removed_slot_is_overwritten)
{
	uint8_t before[4096], after[4096];
	struct err err = ERR_INIT;

	make("luks", "version=1,iter-time=1");
	struct blk *b = must_open("luks", &first);

	peek(4096, before, sizeof(before));
	CHECK_EQ(blk_luks_add_key(b, &second, quickly(), &err), 1);
	CHECK_EQ(blk_luks_remove_slot(b, 0, false, &err), 0);
	blk_close(b);
	peek(4096, after, sizeof(after));
	CHECK(memcmp(before, after, sizeof(before)) != 0);
}

TEST(an_image_can_be_looked_at_without_its_key)
{
	struct blk_options o = { .path = in_dir("disk"), .fd = -1, .has_no_key = true };
	struct err err = ERR_INIT;
	struct blk *b = NULL;
	uint8_t sector[512];
	json_t *info = NULL;

	make("luks", "version=2,iter-time=1");
	o.path = in_dir("disk");
	CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
	CHECK_EQ(blk_size(b), DISK);
	CHECK_EQ(blk_pread(b, 0, sector, 512), -ENOKEY);
	CHECK_EQ(blk_pwrite(b, 0, sector, 512), -ENOKEY);
	CHECK_EQ(blk_luks_add_key(b, &second, NULL, &err), -ENOKEY);
	CHECK_EQ(blk_info(b, false, &info, &err), 0);
	json_t *special = json_object_get(info, "format-specific");

	CHECK_EQ(json_integer_value(json_object_get(special, "version")), 2);
	CHECK(json_is_false(json_object_get(special, "unlocked")));
	json_decref(info);
	blk_close(b);
}

TEST(the_header_can_be_a_file_of_its_own)
{
	struct blk_opts opts;
	struct err err = ERR_INIT;
	struct stat st;
	struct blk *b = NULL;
	char word[512] = "apart", back[512];

	make("luks", "version=2,iter-time=1,header=head");
	CHECK_EQ(stat(in_dir("disk"), &st), 0);
	CHECK_EQ(st.st_size, DISK);
	CHECK_EQ(blk_opts_init(&opts, blk_format_open_opts("luks"), &err), 0);
	CHECK_EQ(blk_opts_set(&opts, "header", "head", &err), 0);
	for (int i = 0; i < 2; i++) {
		struct blk_options o = { .path = in_dir("disk"), .fd = -1, .format = "luks", .opts = &opts,
					 .secrets = &first, .n_secrets = 1 };

		CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
		CHECK_EQ(i ? blk_pread(b, 512, back, 512) : blk_pwrite(b, 512, word, 512), 0);
		blk_close(b);
	}
	CHECK_STR(back, "apart");
	blk_opts_fini(&opts);
	CHECK_EQ(try_open(&b, "luks", &first, 1, &err), -EINVAL);
	CHECK_HAS(err.msg, "no LUKS header");
}

/* --- damage ------------------------------------------------------------------------------------------ */

TEST(a_damaged_luks1_header_is_refused_with_a_reason)
{
	static const struct { uint64_t off; uint32_t v; int code; const char *says; } bad[] = {
		{ 4, 0xbabe0003, -ENOTSUP, "version 3" }, { 8, 0x73657270, -ENOTSUP, "serp" },
		{ 72, 0x6d643500, -ENOTSUP, "md5" },      { 108, 63, -ENOTSUP, "504 bits" },
		{ 108, 0xffffffff, -ENOTSUP, "bits" },    { 104, 0x7fffffff, -EINVAL, "cut short" },
		{ 164, 0, -EINVAL, "iterations" },        { 164, 0xffffffff, -EINVAL, "iterations" },
		{ 208, 0x12345678, -EINVAL, "neither" },  { 212, 0xffffffff, -EINVAL, "iterations" },
		{ 248, 0, -EINVAL, "offset" },            { 248, 0xffffffff, -EINVAL, "offset" },
		{ 252, 1, -EINVAL, "stripes" },           { 248 + 48, 8, -EINVAL, "overlap" },
	};

	make("luks", "version=1,iter-time=1");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		be32 v = be32_of(bad[i].v), before;

		peek(bad[i].off, &before, 4);
		poke(bad[i].off, &v, 4);
		refused(bad[i].says, bad[i].code);
		poke(bad[i].off, &before, 4);
	}
	CHECK_EQ(truncate(in_dir("disk"), 300), 0);
	refused("ends in", -EINVAL);
}

TEST(of_two_copies_of_a_luks2_header_one_is_enough_and_a_check_makes_two_again)
{
	static const uint64_t places[] = { 200, 5000, HDR2 + 200, HDR2 + 5000 };
	struct blk_options o = { .fd = -1, .format = "luks", .is_repairing = true };
	struct blk_check c = { .report = NULL };
	struct err err = ERR_INIT;
	struct blk *b;

	log_set_level(LOG_ERROR);
	make("luks", "version=2,iter-time=1,pbkdf=pbkdf2");
	for (size_t i = 0; i < 4; i++) {
		poke(places[i], "x", 1);
		blk_close(must_open("luks", &first));
		o.path = in_dir("disk");
		CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
		CHECK_EQ(blk_check(b, BLK_FIX_NOTHING, &c, &err), 0);
		CHECK_EQ(c.n_errors, 1);
		CHECK_EQ(blk_check(b, BLK_FIX_ALL, &c, &err), 0);
		CHECK_EQ(c.n_errors_fixed, 1);
		blk_close(b);
		poke(places[(i + 2) % 4], "x", 1);              /* now the other one */
		o.path = in_dir("disk");
		CHECK_EQ(blk_open(&b, NULL, &o, &err), 0);
		CHECK_EQ(blk_check(b, BLK_FIX_ALL, &c, &err), 0);
		CHECK_EQ(c.n_errors_fixed, 1);
		blk_close(b);
		blk_close(must_open("luks", &first));
	}
	poke(300, "x", 1);
	poke(HDR2 + 300, "x", 1);
	refused("both copies", -EINVAL);
}

/* Replace the JSON of the first copy, with a good checksum; the second copy is destroyed. */
static void put_json(const char *from, const char *to)
{
	static uint8_t good[HDR2], head[HDR2];
	unsigned n = 32;

	if (!good[0]) {
		make("luks", "version=2,iter-time=1,pbkdf=pbkdf2");
		peek(0, good, sizeof(good));
	}
	memcpy(head, good, sizeof(head));
	char *json = (char *)head + 4096, *at = strstr(json, from);

	CHECK(at);
	snprintf(at, HDR2 - 4096 - (size_t)(at - json), "%s%s", to,
		 (char *)good + 4096 + (at - json) + strlen(from));
	memset(json + strlen(json), 0, HDR2 - 4096 - strlen(json));
	memset(head + 448, 0, 64);
	CHECK(EVP_Digest(head, sizeof(head), head + 448, &n, EVP_sha256(), NULL));
	poke(0, head, sizeof(head));
	poke(HDR2, "x", 1);
}

TEST(luks2_metadata_that_cannot_be_is_refused_with_a_reason)
{
	static const struct { const char *from, *to; int code; const char *says;
	} bad[] = {
		{ "\"type\":\"crypt\"", "\"type\":\"linear\"", -EINVAL, "segment" },
		{ "\"sector_size\":512", "\"sector_size\":8192", -EINVAL, "sizes" },
		{ "\"iv_tweak\":\"0\"", "\"iv_tweak\":\"-1\"", -EINVAL, "segment" },
		{ "\"offset\":\"16777216\"", "\"offset\":\"4096\"", -EINVAL, "over the header" },
		{ "\"offset\":\"32768\"", "\"offset\":\"4096\"", -EINVAL, "offset" },
		{ "\"offset\":\"32768\"", "\"offset\":\"18446744073709547520\"", -EINVAL, "offset" },
		{ "\"size\":\"258048\"", "\"size\":\"512\"", -EINVAL, "sizes" },
		{ "\"stripes\":4000", "\"stripes\":4001", -EINVAL, "sizes" },
		{ "\"key_size\":64", "\"key_size\":65", -EINVAL, "sizes" },
		{ "\"json_size\":\"12288\"", "\"json_size\":\"12289\"", -EINVAL, "sizes" },
		{ "\"tokens\":{}", "\"tokens\":[]", -EINVAL, "part" },
		{ "\"tokens\":{},", "", -EINVAL, "part" },
		{ "\"tokens\":{}", "\"tokens\":{},\"tokens\":{}", -EINVAL, "JSON" },
		{ "\"tokens\":{}",
		  "\"tokens\":{\"0\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}", -EINVAL,
		  "nested" },
		{ "\"segments\":[\"0\"]", "\"segments\":[]", -EINVAL, "no digest" },
		{ "\"keyslots\":[\"0\"]", "\"keyslots\":[\"7\"]", -EINVAL, "not there" },
		{ "\"type\":\"luks2\"", "\"type\":\"reencrypt\"", -ENOTSUP, "reencrypt" },
		{ "\"config\":{", "\"config\":{\"requirements\":{\"mandatory\":[\"magic\"]},", -ENOTSUP, "magic" },
		{ "aes-xts-plain64", "aes-xts-random", -ENOTSUP, "aes-xts-random" },
	};

	log_set_level(LOG_ERROR);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		put_json(bad[i].from, bad[i].to);
		refused(bad[i].says, bad[i].code);
	}
	put_json("\"tokens\":{}", "\"tokens\":{\"0\":{\"type\":\"unknown\",\"keyslots\":[\"0\"]}}");
	blk_close(must_open("luks", &first));
}

TEST(objects_that_are_not_known_survive_a_change_of_keys)
{
	struct err err = ERR_INIT;

	log_set_level(LOG_ERROR);
	put_json("\"tokens\":{}", "\"tokens\":{\"0\":{\"type\":\"theirs\",\"keyslots\":[\"0\"],\"x\":1}}");
	struct blk *b = must_open("luks", &first);

	CHECK_EQ(blk_luks_add_key(b, &second, quickly(), &err), 1);
	blk_close(b);
	CHECK(file_has("\"theirs\""));
	blk_close(must_open("luks", &second));
}

TEST(qcow2_with_the_old_encryption_or_a_broken_header_pointer_is_refused)
{
	be32 one = be32_of(1);
	struct blk *b;
	struct err err;

	make("qcow2", "encrypt.format=luks,encrypt.iter-time=1");
	poke(32, &one, 4);
	CHECK_EQ(try_open(&b, "qcow2", &first, 1, &err), -ENOTSUP);
	CHECK_HAS(err.msg, "AES");
	make("qcow2", "");
	be32 two = be32_of(2);

	poke(32, &two, 4);
	CHECK_EQ(try_open(&b, "qcow2", &first, 1, &err), -EINVAL);
	CHECK_HAS(err.msg, "encryption header");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Encrypted files of saved machines: what is changed in one, in whatever way, is told. */
#include "test.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "blk/secret.h"
#include "mem/gmem.h"
#include "old_states.h"
#include "saved_file.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/state_format.h"
#include "vm/state_seal.h"

static const struct blk_secret horse = { (uint8_t *)"correct horse", 13 }, other = { (uint8_t *)"correct horse\n", 14 };
static const struct state_kdf cheap = { .memory_kib = 8, .passes = 1, .lanes = 1 };

static struct state_seal *new_seal(void)
{
	struct state_seal *seal = NULL;

	CHECK_EQ(state_seal_new(&seal, &horse, &cheap, NULL), 0);
	return seal;
}

static void make(struct saved *s, enum state_packing packing)
{
	AUTO(state_seal_free) struct state_seal *seal = new_seal();

	saved_make(s, packing, seal);
}

static uint8_t *map(const struct saved *s)
{
	uint8_t *p = mmap(NULL, s->len, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, 0);

	CHECK(p != MAP_FAILED);
	return p;
}

/* Make all checksums right, as somebody does who means harm and has no key. */
static void fix_checksums(uint8_t *p, uint64_t len)
{
	struct state_head *head = (struct state_head *)p;

	head->header.crc = head->lock.crc = le32_of(0);
	head->header.crc = le32_of(crc32c(0, &head->header, sizeof(head->header)));
	head->lock.crc = le32_of(crc32c(0, &head->lock, sizeof(head->lock)));
	put_le32(p + len - sizeof(struct state_end) + offsetof(struct state_end, header_crc), le32_get(head->header.crc));
}

/* Is the file read, all of its memory included? If not, E says why. */
static bool is_taken(const struct saved *s, struct err *e)
{
	struct state_file *f = saved_open(s->fd, &horse, e);
	bool is_good = f && state_file_verify(f, e) == 0;

	CHECK(is_good || e->msg[0]);
	state_file_close(f);
	return is_good;
}

TEST(what_is_encrypted_comes_back_in_every_packing)
{
	for (int packing = STATE_RAW; packing <= STATE_LZ4; packing++) {
		struct err e = ERR_INIT;
		struct gmem *mem = NULL;
		struct saved s;

		make(&s, (enum state_packing)packing);
		struct state_file *f = saved_open(s.fd, &horse, &e);
		if (!f)
			FAIL("%s", e.msg);
		CHECK_EQ(state_file_ram(f), SAVED_RAM);
		saved_check_sections(f);
		CHECK_EQ(state_file_verify(f, &e), 0);
		CHECK_EQ(state_file_memory(f, &mem, &e), 0);
		CHECK_MEM(mem->host, s.mem->host, SAVED_RAM);
		state_file_close(f);
		gmem_free(mem);
		saved_fini(&s);
	}
}

TEST(nothing_of_the_machine_is_in_the_file)
{
	struct saved s, again;

	make(&s, STATE_RAW);
	make(&again, STATE_RAW);
	uint8_t *p = map(&s), *q = map(&again);
	uint64_t sections = get_le64(p + offsetof(struct state_header, sections_off)), same = 0;

	CHECK_EQ(s.len, again.len);
	CHECK_EQ(get_le64(p + offsetof(struct state_header, ram)), 0);
	CHECK(!memmem(p, s.len, "hello", 5) && !memmem(p, s.len, "empty", 5) && !memmem(p, s.len, "\1\1\1\1\1", 5));
	CHECK(!memmem(p, s.len, "\2\2\2\2\2", 5) && !memmem(p, s.len, horse.data, horse.len));
	/* The same machine and the same passphrase: two files that have nothing in common. */
	for (uint64_t i = 0; i < 60000; i++)
		same += p[STATE_MEMORY_OFF + i] == q[STATE_MEMORY_OFF + i];
	CHECK(same < 600);
	CHECK(memcmp(p + sections, q + sections, 64));
	CHECK(memcmp(p + sizeof(struct state_header) + 16, q + sizeof(struct state_header) + 16, STATE_SALT_LEN));
	saved_fini(&s);
	saved_fini(&again);
}

TEST(only_the_passphrase_opens_it)
{
	static const struct blk_secret none = { NULL, 0 };
	struct err e = ERR_INIT;
	struct saved s, plain;
	struct state_file *f = NULL;

	make(&s, STATE_ZSTD);
	CHECK_EQ(state_file_open(&f, dup(s.fd), &other, "it", &e), -EKEYREJECTED);
	CHECK_STR(e.msg, "the passphrase does not open 'it'");
	CHECK_EQ(state_file_open(&f, dup(s.fd), &none, "it", &e), -ENOKEY);
	CHECK_HAS(e.msg, "'it' is encrypted; give its passphrase with --restore-key-file");
	CHECK_EQ(state_file_open(&f, dup(s.fd), NULL, "it", &e), -ENOKEY);
	saved_make(&plain, STATE_ZSTD, NULL);
	CHECK_EQ(state_file_open(&f, dup(plain.fd), &horse, "it", &e), -EINVAL);
	CHECK_HAS(e.msg, "'it' is not encrypted");
	saved_fini(&s);
	saved_fini(&plain);
}

/* Is what stands AT looked at by nobody? */
static bool means_nothing(const struct saved *s, const uint8_t *p, uint64_t at)
{
	uint64_t sections = get_le64(p + offsetof(struct state_header, sections_off)), end = sections;

	while (end > STATE_MEMORY_OFF && !p[end - 1])
		end--;
	return (at >= sizeof(struct state_head) && at < STATE_MEMORY_OFF) || (at >= end && at < sections) || at >= s->len - 4;
}

/* Each byte of a file, as damage, and with checksums that have been made right. */
static void flip_all(bool is_fixed)
{
	struct saved s;

	make(&s, STATE_ZSTD);
	uint8_t *p = map(&s), *good = malloc(s.len);
	memcpy(good, p, s.len);
	for (uint64_t at = 0; at < s.len; at++) {
		struct err e = ERR_INIT;

		if (means_nothing(&s, good, at))
			continue;
		p[at] ^= (uint8_t)(1 << at % 8);
		if (is_fixed)
			fix_checksums(p, s.len);
		/* a checksum alone, made right, is no change */
		if (memcmp(p, good, s.len) && is_taken(&s, &e))
			FAIL("byte %" PRIu64 " is not missed", at);
		memcpy(p, good, s.len);
	}
	free(good);
	saved_fini(&s);
}

TEST_SLOW(a_flipped_bit_is_told_wherever_it_is) { flip_all(false); }
TEST_SLOW(a_flipped_bit_is_told_although_checksums_are_right) { flip_all(true); }

TEST(a_file_that_is_cut_is_refused_wherever_it_is_cut)
{
	struct saved s;

	make(&s, STATE_LZ4);
	uint8_t *p = map(&s);
	for (uint64_t len = s.len - 1; len < s.len; len -= len > 5000 ? 997 : len > 200 ? 101 : 1) {
		struct err e = ERR_INIT;

		CHECK_EQ(ftruncate(s.fd, (off_t)len), 0);
		CHECK(!is_taken(&s, &e));
		/* the same by somebody who says so in the header */
		if (len >= sizeof(struct state_head) + sizeof(struct state_end)) {
			uint8_t was[sizeof(struct state_header)];

			memcpy(was, p, sizeof(was));
			put_le64(p + offsetof(struct state_header, file_len), len);
			memcpy(p + len - sizeof(struct state_end), STATE_END_MAGIC, 8);
			fix_checksums(p, len);
			CHECK(!is_taken(&s, &e));
			memcpy(p, was, sizeof(was));
		}
	}
	saved_fini(&s);
}

/* Where a piece of memory lies: raw, one after the other, in runs that fill whole blocks. Several threads write: which
 * of the pieces is the first in a file is chance. */
enum { FIRST = STATE_MEMORY_OFF, PIECE = (64 << 10) + STATE_SEAL_TAG };

TEST(pieces_that_change_places_are_told)
{
	struct err e = ERR_INIT;
	struct saved s, again;
	uint8_t piece[PIECE];

	make(&s, STATE_RAW);
	make(&again, STATE_RAW);
	uint8_t *p = map(&s), *q = map(&again), *last = p + get_le64(p + offsetof(struct state_header, sections_off)) - 4096;

	CHECK(is_taken(&s, &e));
	/* The first and the last piece are as long as each other; the last one ends in the last block. */
	while (last[4095] == 0 && last[0] == 0)
		last -= 4096;
	uint8_t *end = last + 4096;
	while (!end[-1])
		end--;
	uint8_t *tail = end - PIECE;
	memcpy(piece, p + FIRST, PIECE);
	memcpy(p + FIRST, tail, PIECE);
	CHECK(!is_taken(&s, &e));
	CHECK_HAS(e.msg, "is not what was encrypted");
	memcpy(tail, piece, PIECE);
	CHECK(!is_taken(&s, &e));
	memcpy(tail, p + FIRST, PIECE);
	memcpy(p + FIRST, q + FIRST, PIECE);            /* of another file of the same machine and passphrase */
	CHECK(!is_taken(&s, &e));
	CHECK_HAS(e.msg, "guest memory at offset 0x");  /* whichever piece was written first */
	CHECK_HAS(e.msg, "is not what was encrypted");
	memcpy(p + FIRST, piece, PIECE);
	memcpy(p, q, sizeof(struct state_head));        /* the head, with that file's key, which the passphrase opens */
	memcpy(p + s.len - sizeof(struct state_end), q + s.len - sizeof(struct state_end), sizeof(struct state_end));
	CHECK(!is_taken(&s, &e));
	CHECK_HAS(e.msg, "its header or its sections are not what was encrypted");
	saved_fini(&s);
	saved_fini(&again);
}

TEST(locks_that_lie_are_refused_before_they_cost_anything)
{
	static const struct { unsigned off; uint32_t val; } lies[] = {
		{ offsetof(struct state_lock, kdf), 2 }, { offsetof(struct state_lock, memory_kib), 0 },
		{ offsetof(struct state_lock, memory_kib), 7 }, { offsetof(struct state_lock, memory_kib), UINT32_MAX },
		{ offsetof(struct state_lock, memory_kib), (1 << 20) + 1 }, { offsetof(struct state_lock, passes), 0 },
		{ offsetof(struct state_lock, passes), 65 }, { offsetof(struct state_lock, lanes), 0 },
		{ offsetof(struct state_lock, lanes), 17 }, { offsetof(struct state_lock, lanes), UINT32_MAX },
	};
	struct saved s;

	make(&s, STATE_RAW);
	uint8_t *p = map(&s);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint8_t *at = p + sizeof(struct state_header) + lies[i].off;
		uint32_t was = get_le32(at);
		struct err e = ERR_INIT;

		put_le32(at, lies[i].val);
		CHECK(!is_taken(&s, &e));
		CHECK_HAS(e.msg, "what it says of its key is damaged");
		fix_checksums(p, s.len);
		CHECK(!is_taken(&s, &e));
		CHECK_HAS(e.msg, "what it says of its key is impossible");
		put_le32(at, was);
		fix_checksums(p, s.len);
	}
	saved_fini(&s);
}

TEST(a_piece_opens_as_what_it_was_sealed_only)
{
	AUTO(state_seal_free) struct state_seal *seal = new_seal(), *strange = new_seal();
	struct state_sealer x = { NULL }, y = { NULL };
	uint8_t out[5 + STATE_SEAL_TAG], back[5];

	CHECK_EQ(state_sealer_init(&x, seal, NULL), 0);
	CHECK_EQ(state_sealer_init(&y, strange, NULL), 0);
	CHECK_EQ(state_seal_piece(&x, STATE_PIECE_MEMORY, 7, "aad", 3, out, (const uint8_t *)"hello", 5, NULL), 0);
	CHECK(state_open_piece(&x, STATE_PIECE_MEMORY, 7, "aad", 3, back, out, 5) && !memcmp(back, "hello", 5));
	CHECK(!state_open_piece(&x, STATE_PIECE_SECTIONS, 7, "aad", 3, back, out, 5));
	CHECK(!state_open_piece(&x, STATE_PIECE_MEMORY, 8, "aad", 3, back, out, 5));
	CHECK(!state_open_piece(&x, STATE_PIECE_MEMORY, 7ull + (1ull << 32), "aad", 3, back, out, 5));
	CHECK(!state_open_piece(&x, STATE_PIECE_MEMORY, 7, "add", 3, back, out, 5));
	CHECK(!state_open_piece(&x, STATE_PIECE_MEMORY, 7, "aad", 2, back, out, 5));
	CHECK(!state_open_piece(&y, STATE_PIECE_MEMORY, 7, "aad", 3, back, out, 5));
	CHECK(state_open_piece(&x, STATE_PIECE_MEMORY, 7, "aad", 3, back, out, 5));
	state_sealer_fini(&x);
	state_sealer_fini(&y);
}

TEST(files_of_old_are_read)
{
	for (const struct old_state *o = old_states; o->name; o++) {
		struct err e = ERR_INIT;
		struct gmem *mem = NULL;
		int fd = saved_new_file();

		CHECK_EQ(ftruncate(fd, (off_t)o->len), 0);
		for (const struct old_piece *c = o->pieces; c->len; c++)
			CHECK_EQ(pwrite(fd, c->bytes, c->len, (off_t)c->at), c->len);
		struct state_file *f = saved_open(fd, o->is_encrypted ? &horse : NULL, &e);
		if (!f || state_file_memory(f, &mem, &e) < 0 || state_file_verify(f, &e) < 0)
			FAIL("%s: %s", o->name, e.msg);
		saved_check_sections(f);
		CHECK_EQ(mem->size, 1 << 20);
		CHECK_MEM(mem->host + 8192, "the guest's word", 16);
		CHECK(mem->host[8191] == 0 && mem->host[8192 + 16] == 0);
		state_file_close(f);
		gmem_free(mem);
		close(fd);
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a saved machine, which is hostile. Input: one byte; with bit 0 the bytes of the file follow, else
 * changes (offset, byte) to a good file, whose checksums are made right again with bit 1. With bit 2 that is packed with lz4, with bit 3
 * it is encrypted, and with bit 4 the changes are made by somebody who has the key. */
#include <sys/mman.h>
#include <unistd.h>
#include "fuzz.h"
#include "blk/secret.h"
#include "mem/gmem.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/config.h"
#include "vm/state_file.h"
#include "vm/state_format.h"
#include "vm/state_seal.h"

enum { FILE_MAX = 4 << 20 };

static int new_file(void)
{
	int fd = memfd_create("state", 0);

	FUZZ_CHECK(fd >= 0);
	return fd;
}

enum { RIGHT_SUMS = 2, LZ4 = 4, SEALED = 8, WITH_KEY = 16, WAYS = 4 };

static const struct blk_secret secret = { (uint8_t *)"key", 3 };
static struct state_seal *seal;
static uint8_t good[WAYS][FILE_MAX];    /* by HOW / LZ4 */
static size_t good_len[WAYS];

static void make_good(unsigned way)
{
	static const char config[] = "{\"kernel\":\"k\",\"memory\":1048576}";
	static const struct state_kdf cheap = { .memory_kib = 8, .passes = 1, .lanes = 1 };
	struct state_sections s = { .buf = NULL };
	struct state_progress progress = { .done = 0 };
	AUTO(gmem_free) struct gmem *mem = NULL;
	bool is_sealed = way * LZ4 & SEALED;
	int fd = new_file();

	if (!seal)
		FUZZ_CHECK(!state_seal_new(&seal, &secret, &cheap, NULL));
	FUZZ_CHECK(!gmem_new(&mem, GMEM_MIN_SIZE, NULL));
	memset(mem->host + 8192, 7, 70000);
	state_sections_add(&s, "config", config, sizeof(config) - 1);
	state_sections_add(&s, "pic", "x", 1);
	FUZZ_CHECK(!state_write(fd, mem, way * LZ4 & LZ4 ? STATE_LZ4 : STATE_ZSTD, is_sealed ? seal : NULL, &s, &progress, NULL));
	ssize_t n = pread(fd, good[way], sizeof(good[way]), 0);
	FUZZ_CHECK(n > 0);
	good_len[way] = (size_t)n;
	state_sections_fini(&s);
	close(fd);
}

/* The sections of the file P, encrypted or not, in their place, as they are; it is as it was written otherwise. */
static void turn_sections(uint8_t *p, const uint8_t *as_written, bool is_sealing)
{
	const struct state_head *was = (const struct state_head *)as_written;
	uint8_t *at = p + le64_get(was->header.sections_off);
	size_t len = le32_get(was->header.sections_len) - STATE_SEAL_TAG;
	struct state_sealer x = { NULL };

	FUZZ_CHECK(!state_sealer_init(&x, seal, NULL));
	if (is_sealing)
		FUZZ_CHECK(!state_seal_piece(&x, STATE_PIECE_SECTIONS, 0, p, sizeof(struct state_head), at, at, len, NULL));
	else
		FUZZ_CHECK(state_open_piece(&x, STATE_PIECE_SECTIONS, 0, p, sizeof(struct state_head), at, at, len));
	state_sealer_fini(&x);
}

/* Deriving a key must not be what takes all the time. */
static void limit_costs(uint8_t *p)
{
	enum { MUCH = 4096 /* KiB times passes */ };
	struct state_lock *l = &((struct state_head *)p)->lock;

	if ((uint64_t)le32_get(l->memory_kib) * le32_get(l->passes) > MUCH)
		*l = *state_seal_lock(seal);
}

/* Header, sections and end as a program would write them that means harm. */
static void fix_checksums(uint8_t *p, size_t len, bool is_sealed)
{
	struct state_header *h = (struct state_header *)p;
	struct state_lock *l = &((struct state_head *)p)->lock;
	uint64_t at = le64_get(h->sections_off), end, last = len - sizeof(struct state_end);

	if (len < sizeof(struct state_head) + STATE_SEAL_TAG + sizeof(struct state_end))
		return;
	end = is_sealed ? last - STATE_SEAL_TAG : last;
	while (at < end && end - at > 1u + p[at] + 4) {
		uint64_t head = 1u + p[at] + 4, n = get_le32(p + at + 1 + p[at]);

		if (n > end - at - head || end - at - head - n < 4)
			break;
		put_le32(p + at + head + n, crc32c(0, p + at, head + n));
		at += head + n + 4;
	}
	h->crc = le32_of(0);
	h->crc = le32_of(crc32c(0, h, sizeof(*h)));
	put_le32(p + last + 8, le32_get(h->crc));
	if (is_sealed) {
		l->crc = le32_of(0);
		l->crc = le32_of(crc32c(0, l, sizeof(*l)));
	}
}

static void read_state(int fd, bool is_sealed)
{
	static int key = -1;
	struct err err = ERR_INIT;
	struct state_file *f = NULL;
	struct config c = { 0 };
	char name[32];

	snprintf(name, sizeof(name), "fd:%d", fd);
	if (key < 0)
		FUZZ_CHECK(pwrite(key = new_file(), secret.data, secret.len, 0) == (ssize_t)secret.len);
	FUZZ_CHECK(!config_init(&c, NULL) && lseek(key, 0, SEEK_SET) == 0);
	if (is_sealed)
		FUZZ_CHECK(asprintf(&c.restore_key, "fd:%d", key) > 0);
	int r = config_load_saved(&c, name, &err);
	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	config_fini(&c);
	if (state_file_open(&f, fd, is_sealed ? &secret : NULL, "it", &err) < 0)
		return;
	AUTO(gmem_free) struct gmem *mem = NULL;
	FUZZ_CHECK(state_file_ram(f) >= GMEM_MIN_SIZE);
	if (state_file_ram(f) <= FILE_MAX && state_file_memory(f, &mem, &err) == 0)
		FUZZ_CHECK(mem->size == state_file_ram(f));
	state_file_verify(f, &err);
	state_file_all_used(f, &err);
	state_file_close(f);
}

/* What HOW says, with the changes that F has, to FILE; its length. */
static size_t change_good(struct fuzz *f, unsigned how, uint8_t *file)
{
	unsigned way = how / LZ4 % WAYS;
	size_t head = how & SEALED ? sizeof(struct state_head) : sizeof(struct state_header), n;
	bool has_key = how & SEALED && how & WITH_KEY;

	if (!good_len[way])
		make_good(way);
	n = good_len[way];
	memcpy(file, good[way], n);
	if (has_key)
		turn_sections(file, good[way], false);
	while (f->left) {
		/* the page of zeroes behind the header is not worth changes */
		size_t at = fuzz_u16(f) % (n - STATE_MEMORY_OFF + head);

		file[at < head ? at : at - head + STATE_MEMORY_OFF] = fuzz_u8(f);
	}
	if (how & SEALED)
		limit_costs(file);
	if (how & RIGHT_SUMS)
		fix_checksums(file, n, how & SEALED);
	if (has_key)
		turn_sections(file, good[way], true);
	return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	unsigned how = fuzz_u8(&f);
	static uint8_t file[FILE_MAX];
	size_t n = 0;

	if (how & 1) {
		const uint8_t *p = fuzz_take(&f, sizeof(file), &n);

		memcpy(file, p, n);
		if (how & RIGHT_SUMS)
			fix_checksums(file, n, false);
	} else {
		n = change_good(&f, how, file);
	}
	int fd = new_file();
	FUZZ_CHECK(pwrite(fd, file, n, 0) == (ssize_t)n);
	read_state(fd, !(how & 1) && how & SEALED);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a saved machine, which is hostile. Input: one byte; with bit 0 the bytes of the file follow, else
 * changes (offset, byte) to a good file, whose checksums are made right again with bit 1. */
#include <sys/mman.h>
#include <unistd.h>
#include "fuzz.h"
#include "mem/gmem.h"
#include "util/crc32c.h"
#include "util/err.h"
#include "vm/config.h"
#include "vm/state_file.h"
#include "vm/state_format.h"

enum { FILE_MAX = 4 << 20 };

static int new_file(void)
{
	int fd = memfd_create("state", 0);

	FUZZ_CHECK(fd >= 0);
	return fd;
}

static uint8_t good[FILE_MAX];
static size_t good_len;

static void make_good(void)
{
	static const char config[] = "{\"kernel\":\"k\",\"memory\":1048576}";
	struct state_sections s = { .buf = NULL };
	struct state_progress progress = { .done = 0 };
	AUTO(gmem_free) struct gmem *mem = NULL;
	int fd = new_file();

	FUZZ_CHECK(!gmem_new(&mem, GMEM_MIN_SIZE, NULL));
	memset(mem->host + 8192, 7, 70000);
	state_sections_add(&s, "config", config, sizeof(config) - 1);
	state_sections_add(&s, "pic", "x", 1);
	FUZZ_CHECK(!state_write(fd, mem, STATE_ZSTD, &s, &progress, NULL));
	ssize_t n = pread(fd, good, sizeof(good), 0);
	FUZZ_CHECK(n > 0);
	good_len = (size_t)n;
	state_sections_fini(&s);
	close(fd);
}

/* Header, sections and end as a program would write them that means harm. */
static void fix_checksums(uint8_t *p, size_t len)
{
	struct state_header *h = (struct state_header *)p;
	uint64_t at = le64_get(h->sections_off), end;

	if (len < sizeof(*h) + sizeof(struct state_end))
		return;
	end = len - sizeof(struct state_end);
	while (at < end && end - at > 1u + p[at] + 4) {
		uint64_t head = 1u + p[at] + 4, n = get_le32(p + at + 1 + p[at]);

		if (n > end - at - head || end - at - head - n < 4)
			break;
		put_le32(p + at + head + n, crc32c(0, p + at, head + n));
		at += head + n + 4;
	}
	h->crc = le32_of(0);
	h->crc = le32_of(crc32c(0, h, sizeof(*h)));
	put_le32(p + end + 8, le32_get(h->crc));
}

static void read_state(int fd)
{
	struct err err = ERR_INIT;
	struct state_file *f = NULL;
	struct config c = { 0 };
	char name[32];

	snprintf(name, sizeof(name), "fd:%d", fd);
	FUZZ_CHECK(!config_init(&c, NULL));
	int r = config_load_saved(&c, name, &err);
	FUZZ_CHECK((r < 0) == (err.msg[0] != 0));
	config_fini(&c);
	if (state_file_open(&f, fd, "it", &err) < 0)
		return;
	AUTO(gmem_free) struct gmem *mem = NULL;
	FUZZ_CHECK(state_file_ram(f) >= GMEM_MIN_SIZE);
	if (state_file_ram(f) <= FILE_MAX && state_file_memory(f, &mem, &err) == 0)
		FUZZ_CHECK(mem->size == state_file_ram(f));
	state_file_verify(f, &err);
	state_file_all_used(f, &err);
	state_file_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct fuzz f = { data, len };
	unsigned how = fuzz_u8(&f);
	static uint8_t file[FILE_MAX];
	size_t n = 0;

	if (!good_len)
		make_good();
	if (how & 1) {
		const uint8_t *p = fuzz_take(&f, sizeof(file), &n);

		memcpy(file, p, n);
	} else {
		memcpy(file, good, good_len);
		n = good_len;
		while (f.left) {
			/* the page of zeroes behind the header is not worth changes */
			size_t at = fuzz_u16(&f) % (n - STATE_MEMORY_OFF + sizeof(struct state_header));

			file[at < sizeof(struct state_header) ? at : at - sizeof(struct state_header) + STATE_MEMORY_OFF] = fuzz_u8(&f);
		}
	}
	if (how & 2)
		fix_checksums(file, n);
	int fd = new_file();
	FUZZ_CHECK(pwrite(fd, file, n, 0) == (ssize_t)n);
	read_state(fd);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "saved_file.h"
#include "util/crc32c.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/state_file.h"
#include "vm/state_format.h"

TEST(what_is_written_comes_back_in_every_packing)
{
	for (int packing = STATE_RAW; packing <= STATE_LZ4; packing++) {
		struct err e = ERR_INIT;
		struct gmem *mem = NULL;
		struct saved s;

		saved_make(&s, (enum state_packing)packing, NULL);
		struct state_file *f = saved_open(s.fd, NULL, &e);
		if (!f)
			FAIL("%s", e.msg);
		CHECK_EQ(state_file_ram(f), SAVED_RAM);
		saved_check_sections(f);
		CHECK_EQ(state_file_verify(f, &e), 0);
		CHECK_EQ(state_file_memory(f, &mem, &e), 0);
		state_file_close(f);    /* mapped memory stays */
		close(s.fd);
		CHECK_MEM(mem->host, s.mem->host, SAVED_RAM);
		mem->host[7] = 9;
		CHECK_EQ(s.mem->host[7], 1);
		gmem_free(mem);
		gmem_free(s.mem);
	}
}

TEST(restored_memory_that_is_saved_again_is_all_there)
{
	struct state_sections none = { .buf = NULL };
	struct state_progress progress = { .done = 0 };
	struct err e = ERR_INIT;
	struct gmem *mem = NULL, *third = NULL;
	struct saved s;

	saved_make(&s, STATE_RAW, NULL);
	struct state_file *f = saved_open(s.fd, NULL, &e);
	CHECK_EQ(state_file_memory(f, &mem, &e), 0);
	state_file_close(f);
	mem->host[3 << 20] = 7;                         /* in a hole of the first file */
	memset(mem->host, 0, 4096);                     /* no more data */
	int fd = saved_new_file();
	CHECK_EQ(state_write(fd, mem, STATE_RAW, NULL, &none, &progress, &e), 0);
	state_sections_fini(&none);
	f = saved_open(fd, NULL, &e);
	CHECK_EQ(state_file_memory(f, &third, &e), 0);
	CHECK_MEM(third->host, mem->host, SAVED_RAM);
	CHECK(progress.memory < SAVED_RAM / 4);
	state_file_close(f);
	gmem_free(third);
	gmem_free(mem);
	gmem_free(s.mem);
}

/* A file on a disk, with no name any more. */
static int new_disk_file(void)
{
	char name[] = "/var/tmp/viv-state-XXXXXX";
	int fd = mkstemp(name);

	CHECK(fd >= 0);
	unlink(name);
	return fd;
}

/* Memory that keeps several threads busy: what packs well, what does not, zeroes, and ends of all sizes. */
static struct gmem *mixed_memory(uint64_t size)
{
	struct gmem *mem = NULL;
	uint32_t x = 1;

	CHECK_EQ(gmem_new(&mem, size, NULL), 0);
	for (uint64_t off = 0; off < size; off += 4096 * (1 + off / 4096 % 3)) {
		uint64_t kind = off / 3000000 % 4;

		for (unsigned i = 0; kind < 2 && i < 4096; i += 4)
			put_le32(mem->host + off + i, x = kind ? x * 1664525 + 1013904223 : (uint32_t)off);
		if (kind == 2)
			memset(mem->host + off, 0, 4096);       /* there, but zero; the fourth is not there at all */
	}
	mem->host[size - 1] = 3;
	return mem;
}

TEST(several_threads_write_what_several_read)
{
	enum { SIZE = 24 << 20 };
	struct gmem *mem = mixed_memory(SIZE);

	for (int i = 2 * STATE_RAW; i <= 2 * STATE_LZ4 + 1; i++) {
		struct state_sections none = { .buf = NULL };
		struct state_progress progress = { .done = 0 };
		struct gmem *back = NULL;
		struct err e = ERR_INIT;
		int fd = i & 1 ? new_disk_file() : saved_new_file(), flags = fcntl(fd, F_GETFL);
		enum state_packing packing = (enum state_packing)(i / 2);

		if (state_write(fd, mem, packing, NULL, &none, &progress, &e) < 0)
			FAIL("%s", e.msg);
		state_sections_fini(&none);
		CHECK_EQ(fcntl(fd, F_GETFL), flags);
		CHECK_EQ(progress.done, SIZE);
		CHECK(progress.memory > SIZE / 4 && progress.memory < SIZE * 3 / 4);
		CHECK(progress.file > (packing == STATE_RAW ? progress.memory : 0));
		struct state_file *f = saved_open(fd, NULL, &e);
		if (!f || state_file_verify(f, &e) < 0 || state_file_memory(f, &back, &e) < 0)
			FAIL("%s", e.msg);
		CHECK_MEM(back->host, mem->host, SIZE);
		state_file_close(f);
		gmem_free(back);
		close(fd);
	}
	gmem_free(mem);
}

TEST(a_file_that_takes_no_more_ends_all_threads)
{
	struct gmem *mem = mixed_memory(24 << 20);

	for (int packing = STATE_RAW; packing <= STATE_LZ4; packing++) {
		struct state_sections none = { .buf = NULL };
		struct state_progress progress = { .done = 0 };
		struct err e = ERR_INIT;
		int fd = memfd_create("state", MFD_ALLOW_SEALING);

		CHECK(!ftruncate(fd, 2 << 20) && !fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
		CHECK_EQ(state_write(fd, mem, (enum state_packing)packing, NULL, &none, &progress, &e), -EPERM);
		CHECK_HAS(e.msg, "cannot write saved state: ");
		close(fd);
	}
	gmem_free(mem);
}

TEST(a_file_that_is_cut_is_refused_wherever_it_is_cut)
{
	struct saved s;

	saved_make(&s, STATE_ZSTD, NULL);
	for (uint64_t len = s.len - 1; len < s.len; len -= len > 5000 ? 97 : len > 200 ? 31 : 1) {
		struct err e = ERR_INIT;

		CHECK_EQ(ftruncate(s.fd, (off_t)len), 0);
		CHECK(!saved_open(s.fd, NULL, &e));
		CHECK_HAS(e.msg, "'it' is not a whole saved machine");
	}
	gmem_free(s.mem);
}

TEST(a_flipped_bit_is_told_wherever_it_is)
{
	struct saved s;

	saved_make(&s, STATE_ZSTD, NULL);
	uint8_t *p = mmap(NULL, s.len, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
	uint64_t sections_off = get_le64(p + 48);
	CHECK(p != MAP_FAILED);
	for (uint64_t at = 0; at < s.len; at += at == sizeof(struct state_header) ? STATE_MEMORY_OFF - at : 1) {
		struct err e = ERR_INIT;

		/* the four bytes of the end that mean nothing, and what fills the last block of packed memory */
		if (at >= s.len - 4 || at == sizeof(struct state_header) || (at >= STATE_MEMORY_OFF && at < sections_off && !p[at]))
			continue;
		p[at] ^= (uint8_t)(1 << at % 8);
		struct state_file *f = saved_open(s.fd, NULL, &e);
		/* zstd has bits that mean nothing; then the contents are what they were. */
		bool is_intact = f && state_file_verify(f, &e) == 0;

		CHECK(!is_intact || (at >= STATE_MEMORY_OFF && at < sections_off));
		if (!is_intact)
			CHECK_HAS(e.msg, "'it'");
		state_file_close(f);
		p[at] ^= (uint8_t)(1 << at % 8);
	}
	gmem_free(s.mem);
}

/* Change a field of the header and make its checksums right again. */
static int refused_header(struct saved *s, unsigned off, uint64_t val, unsigned size, const char *says)
{
	struct state_header h, bad;
	struct state_end end;
	struct err e = ERR_INIT;
	uint8_t bytes[8];

	CHECK_EQ(pread(s->fd, &h, sizeof(h), 0), sizeof(h));
	CHECK_EQ(pread(s->fd, &end, sizeof(end), (off_t)(s->len - sizeof(end))), sizeof(end));
	bad = h;
	put_le64(bytes, val);
	memcpy((uint8_t *)&bad + off, bytes, size);
	bad.crc = le32_of(0);
	bad.crc = le32_of(crc32c(0, &bad, sizeof(bad)));
	end.header_crc = bad.crc;
	CHECK_EQ(pwrite(s->fd, &bad, sizeof(bad), 0), sizeof(bad));
	CHECK_EQ(pwrite(s->fd, &end, sizeof(end), (off_t)(s->len - sizeof(end))), sizeof(end));
	struct state_file *f = saved_open(s->fd, NULL, &e);
	CHECK_EQ(pwrite(s->fd, &h, sizeof(h), 0), sizeof(h));
	if (f || !strstr(e.msg, says))
		FAIL("offset %u value %" PRIx64 ": %s", off, val, f ? "accepted" : e.msg);
	return 0;
}

TEST(headers_that_lie_are_refused)
{
	static const struct { unsigned off, size; uint64_t val; const char *says; } lies[] = {
		{ 8, 4, STATE_VERSION_SEALED + 1, "format version 3" },
		{ 8, 4, STATE_VERSION_SEALED, "impossible" },
		{ 16, 8, 1, "length is not the one" },
		{ 24, 8, 64, "impossible" },
		{ 24, 8, UINT64_MAX - 4095, "impossible" },
		{ 32, 8, UINT64_MAX - 4096, "impossible" },
		{ 32, 8, 4096, "impossible" },
		{ 40, 8, 0, "impossible" },
		{ 40, 8, 1ull << 50, "impossible" },
		{ 40, 8, (2 << 20) + 1, "impossible" },
		{ 48, 8, UINT64_MAX, "impossible" },
		{ 56, 4, UINT32_MAX, "impossible" },
		{ 60, 4, 7, "unknown way" },
		{ 60, 4, STATE_ZSTD, "" },
	};
	struct saved s;

	saved_make(&s, STATE_RAW, NULL);
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]) - 1; i++)
		refused_header(&s, lies[i].off, lies[i].val, lies[i].size, lies[i].says);
	gmem_free(s.mem);
}

TEST(saving_stops_when_it_is_cancelled)
{
	struct state_sections none = { .buf = NULL };
	struct state_progress progress = { .is_cancelled = true };
	struct err e = ERR_INIT;
	struct saved s;

	saved_make(&s, STATE_RAW, NULL);
	CHECK_EQ(state_write(saved_new_file(), s.mem, STATE_RAW, NULL, &none, &progress, &e), -ECANCELED);
	gmem_free(s.mem);
}

TEST(checksums_are_the_published_ones)
{
	uint8_t zeroes[32] = { 0 };

	CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283);
	CHECK_EQ(crc32c(0, zeroes, 32), 0x8a9136aa);    /* RFC 3720 B.4 */
	CHECK_EQ(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

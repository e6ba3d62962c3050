/* SPDX-License-Identifier: Apache-2.0 */
#include "dev/fwcfg.h"
#include "fake.h"
#include "test.h"
#include "util/endian.h"

enum { SELECT = 0, DATA = 1, ACCESS = 0x1000, TO = 0x2000 };
enum { ERROR = 1, READ = 2, SKIP_ = 4, SELECT_ = 8, WRITE = 16 };

static struct gmem *mem;
static struct fwcfg f;
static const uint8_t text[] = "abcdefgh";

static void setup(void)
{
	fake_init();
	CHECK_EQ(gmem_new(&mem, 1 << 20, NULL), 0);
	fwcfg_init(&f, mem);
	fwcfg_add_number(&f, FWCFG_NB_CPUS, 3, 2);
	fwcfg_add_file(&f, "etc/one", text, 8);
	fwcfg_add_file(&f, "etc/two", text, 4);
}

static void select_item(unsigned key)
{
	f.ports.write(&f, 0, SELECT, 2, key);
}

static uint8_t next(void)
{
	return (uint8_t)f.ports.read(&f, 0, DATA, 1);
}

/* Start a transfer; what the guest finds in its control word. */
static uint32_t dma(uint32_t control, uint32_t len, uint64_t to)
{
	uint8_t a[16];

	put_be32(a, control);
	put_be32(a + 4, len);
	put_be64(a + 8, to);
	CHECK_EQ(gmem_write(mem, ACCESS, a, sizeof(a)), 0);
	f.dma.write(&f, 0, 0, 4, 0);
	f.dma.write(&f, 0, 4, 4, __builtin_bswap32(ACCESS));
	CHECK_EQ(gmem_read(mem, ACCESS, a, 4), 0);
	return get_be32(a);
}

TEST(ports_give_the_selected_item_and_then_zeros)
{
	setup();
	select_item(FWCFG_SIGNATURE);
	CHECK_EQ(next(), 'Q');
	CHECK_EQ(next(), 'E');
	CHECK_EQ(next(), 'M');
	CHECK_EQ(next(), 'U');
	CHECK_EQ(next(), 0);
	select_item(FWCFG_NB_CPUS);
	CHECK_EQ(next(), 3);
	CHECK_EQ(next(), 0);
	select_item(0x7777);
	CHECK_EQ(next(), 0);
	CHECK_EQ(f.dma.read(&f, 0, 0, 4), 0x554d4551);  /* "QEMU" in memory's order */
}

TEST(the_directory_tells_name_size_and_number)
{
	uint8_t dir[4 + 2 * 64];

	setup();
	select_item(FWCFG_FILE_DIR);
	for (unsigned i = 0; i < sizeof(dir); i++)
		dir[i] = next();
	CHECK_EQ(get_be32(dir), 2);
	CHECK_EQ(get_be32(dir + 4), 8);
	CHECK_EQ(get_be16(dir + 8), FWCFG_FILE_FIRST);
	CHECK_STR((char *)dir + 12, "etc/one");
	CHECK_STR((char *)dir + 64 + 12, "etc/two");
	select_item(get_be16(dir + 64 + 8));
	CHECK_EQ(next(), 'a');
}

TEST(dma_selects_reads_skips_and_fills_up)
{
	uint8_t got[8];

	setup();
	CHECK_EQ(dma(SELECT_ | READ | (FWCFG_FILE_FIRST + 1) << 16, 8, TO), 0);
	CHECK_EQ(gmem_read(mem, TO, got, 8), 0);
	CHECK_MEM(got, "abcd\0\0\0\0", 8);
	CHECK_EQ(dma(SELECT_ | SKIP_ | FWCFG_FILE_FIRST << 16, 3, 0), 0);
	CHECK_EQ(dma(READ, 2, TO), 0);
	CHECK_EQ(gmem_read(mem, TO, got, 2), 0);
	CHECK_MEM(got, "de", 2);
	CHECK_EQ(next(), 'f');
}

TEST(what_dma_cannot_do_is_an_error_and_nothing_else)
{
	setup();
	CHECK_EQ(dma(SELECT_ | WRITE | FWCFG_FILE_FIRST << 16, 1, TO), ERROR);
	CHECK_EQ(dma(READ, 4, 0xffffffff0000), ERROR);
	CHECK_EQ(dma(READ, UINT32_MAX, TO), ERROR);
	CHECK_EQ(dma(READ, 0, 0xffffffff0000), 0);
	CHECK_EQ(dma(SKIP_, FWCFG_DMA_MAX, 0), 0);
	CHECK_EQ(next(), 0);
	f.dma.write(&f, 0, 0, 4, 0xffffffff);           /* the request itself is nowhere */
	f.dma.write(&f, 0, 4, 4, 0xffffffff);
	fake_hammer(&f.ports, FWCFG_PORTS, 20000);
	fake_hammer(&f.dma, FWCFG_DMA_PORTS, 20000);
}

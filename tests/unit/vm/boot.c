/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels are made here byte by byte, so that every header field can be damaged. */
#include "test.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>
#include "cpu/x86/state.h"
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/boot.h"

enum { ELF_LEN = 0x1100, CODE_AT = 0x1000, LOAD_AT = 0x100000, MEM = 16 << 20, SETUP = 1024 };

static const uint8_t code[] = { 0xf4, 0x90, 0xcc };
static uint8_t elf[ELF_LEN];

static Elf64_Ehdr *ehdr(void) { return (Elf64_Ehdr *)elf; }
static Elf64_Phdr *phdr(int i) { return (Elf64_Phdr *)(elf + sizeof(Elf64_Ehdr)) + i; }

static void make_elf(void)
{
	memset(elf, 0, sizeof(elf));
	*ehdr() = (Elf64_Ehdr){
		.e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1 }, .e_type = ET_EXEC,
		.e_machine = EM_X86_64, .e_entry = LOAD_AT, .e_phoff = sizeof(Elf64_Ehdr),
		.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1,
	};
	*phdr(0) = (Elf64_Phdr){
		.p_type = PT_LOAD, .p_offset = CODE_AT, .p_vaddr = 0xffffffff81000000, .p_paddr = LOAD_AT,
		.p_filesz = sizeof(code), .p_memsz = 0x2000,
	};
	memcpy(elf + CODE_AT, code, sizeof(code));
}

static char path[] = "/tmp/viv-test-XXXXXX";

static const char *put_file(const void *data, size_t len)
{
	static char name[sizeof(path)];

	memcpy(name, path, sizeof(path));
	int fd = mkstemp(name);
	CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
	close(fd);
	return name;
}

static struct x86_state state;
static struct gmem *mem;

static int load_with(const void *data, size_t len, const char *initrd, const char *cmdline, struct err *e)
{
	struct boot *b = NULL;
	const char *kernel = put_file(data, len);
	int r = boot_open(&b, &(struct boot_files){ kernel, initrd, cmdline }, e);

	gmem_free(mem);
	mem = NULL;
	CHECK_EQ(gmem_new(&mem, MEM, NULL), 0);
	x86_state_reset(&state, 1);
	if (!r)
		r = boot_load(b, mem, 0xe0000, &state, e);
	boot_free(b);
	unlink(kernel);
	return r;
}

static int load(const void *data, size_t len, struct err *e)
{
	*e = (struct err)ERR_INIT;
	return load_with(data, len, NULL, "hello", e);
}

static void refused(const void *data, size_t len, const char *says)
{
	struct err e;

	CHECK(load(data, len, &e) < 0);
	CHECK_HAS(e.msg, says);
}

/* A bzImage around DATA, gzip-packed. The result is the caller's to free. */
static uint8_t *make_bzimage(const void *data, size_t len, size_t *out_len)
{
	uint8_t *img = calloc(1, SETUP + len + 4096);
	z_stream z = { 0 };

	CHECK_EQ(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, 0), Z_OK);
	z.next_in = (Bytef *)data;
	z.avail_in = (uInt)len;
	z.next_out = img + SETUP;
	z.avail_out = (uInt)len + 4096;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	size_t packed = z.total_out, padded = align_up(packed, 16);
	deflateEnd(&z);
	img[0x1f1] = 1;
	put_le32(img + 0x1f4, (uint32_t)(padded / 16));
	put_le16(img + 0x1fe, 0xaa55);
	img[0x200] = 0xeb;
	img[0x201] = 0x6a;
	memcpy(img + 0x202, "HdrS", 4);
	put_le16(img + 0x206, 0x020f);
	img[0x211] = 1;
	put_le32(img + 0x22c, 0x7fffffff);
	put_le16(img + 0x236, 1);
	put_le32(img + 0x238, 2047);
	put_le32(img + 0x24c, (uint32_t)packed);
	put_le64(img + 0x258, LOAD_AT);
	put_le32(img + 0x260, 0x10000);
	*out_len = SETUP + padded;
	return img;
}

TEST(a_bzimage_is_unpacked_and_entered_in_long_mode)
{
	struct err e;
	uint8_t got[4];
	size_t len;

	make_elf();
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	CHECK_EQ(load(img, len, &e), 0);
	CHECK_EQ(state.rip, LOAD_AT);
	CHECK(state.cr0 & X86_CR0_PG && state.efer & X86_EFER_LMA && state.seg[X86_CS].attr & X86_SEG_L);
	CHECK_EQ(gmem_read(mem, LOAD_AT, got, sizeof(code)), 0);
	CHECK_MEM(got, code, sizeof(code));
	/* The zero page: header copied, command line, RSDP, memory map. */
	uint64_t zp = state.gpr[X86_RSI];
	CHECK_EQ(gmem_read(mem, zp + 0x202, got, 4), 0);
	CHECK_MEM(got, "HdrS", 4);
	uint8_t page[4096];
	CHECK_EQ(gmem_read(mem, zp, page, sizeof(page)), 0);
	char cmdline[6];
	CHECK_EQ(gmem_read(mem, get_le32(page + 0x228), cmdline, 6), 0);
	CHECK_STR(cmdline, "hello");
	CHECK_EQ(get_le64(page + 0x70), 0xe0000);
	uint64_t ram = 0;
	for (int i = 0; i < page[0x1e8]; i++) {
		if (get_le32(page + 0x2d0 + 20 * i + 16) == 1)
			ram += get_le64(page + 0x2d0 + 20 * i + 8);
	}
	CHECK_EQ(ram, MEM - 0x100000 + 0x9fc00);
	/* Page tables map the first 4 GiB to themselves. */
	uint8_t entry[8];
	CHECK_EQ(gmem_read(mem, state.cr3, entry, 8), 0);
	CHECK_EQ(gmem_read(mem, get_le64(entry) & ~0xfffull, entry, 8), 0);
	CHECK_EQ(gmem_read(mem, (get_le64(entry) & ~0xfffull) + 8, entry, 8), 0);
	CHECK_EQ(get_le64(entry), 0x200000 | 0x83);
	free(img);
}

TEST(a_bzimage_of_32_bits_is_entered_as_it_is_in_protected_mode)
{
	struct err e;
	size_t len;

	make_elf();
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	size_t start = (size_t)(img[0x1f1] + 1) * 512;

	put_le16(img + 0x236, 0);
	CHECK_EQ(load(img, len, &e), 0);
	uint64_t at = get_le64(img + 0x258);
	uint8_t got[16];

	CHECK_EQ(gmem_read(mem, at, got, sizeof(got)), 0);
	CHECK_MEM(got, img + start, sizeof(got));
	CHECK_EQ(state.rip, at);
	CHECK_EQ(state.gpr[X86_RSI], 0x7000);
	CHECK_EQ(state.gpr[X86_RBX] | state.gpr[X86_RBP] | state.gpr[X86_RDI], 0);
	CHECK_EQ(state.cr0 & (X86_CR0_PE | X86_CR0_PG), X86_CR0_PE);
	CHECK_EQ(state.efer, 0);
	CHECK_EQ(state.seg[X86_CS].attr & (X86_SEG_L | X86_SEG_DB), X86_SEG_DB);
	free(img);
}

TEST(every_truncation_of_a_bzimage_is_refused_with_a_sentence)
{
	size_t len;
	struct err e;

	make_elf();
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	for (size_t n = 0; n < len; n += n < 0x1f0 || n > SETUP ? 13 : 1) {
		CHECK(load(img, n, &e) < 0);
		CHECK(strlen(e.msg) > 20);
	}
	free(img);
}

TEST(damaged_fields_of_a_bzimage_are_refused)
{
	static const struct { size_t at; unsigned width; uint64_t value; const char *says; } bad[] = {
		{ 0x1fe, 2, 0, "is no kernel" },
		{ 0x1f1, 1, 255, "cut short" },
		{ 0x1f4, 4, 0xffffffff, "cut short" },
		{ 0x201, 1, 0x10, "damaged setup header" },
		{ 0x201, 1, 0xff, "damaged setup header" },
		{ 0x206, 2, 0x0209, "boot protocol 2.09" },
		{ 0x211, 1, 0, "is a zImage" },
		{ 0x22c, 4, 0, NULL },
		{ 0x238, 4, 4, "command line of at most 4" },
		{ 0x248, 4, 0xffffffff, "damaged setup header" },
		{ 0x248, 4, 3, "no compression format" },
		{ 0x24c, 4, 0xffffffff, "damaged setup header" },
		{ 0x24c, 4, 3, "compression" },
		{ 0x24c, 4, 40, NULL },
		{ 0x258, 8, 0xfffffffffffff000, "needs memory" },
		{ 0x258, 8, 0xc00000000, "needs memory" },
		{ 0x260, 4, 0xffffffff, "needs memory" },
		{ SETUP, 4, 0xffff8b1f, "damaged" },
		{ SETUP, 4, 0x00685a42, "bzip2" },
		{ SETUP, 4, 0x184c2102, "damaged" },
		{ SETUP, 4, 0xfd2fb528, "damaged" },
		{ SETUP, 4, 0x5a4c894f, "no compression format" },
	};
	size_t len;
	struct err e;

	make_elf();
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint8_t *img = make_bzimage(elf, sizeof(elf), &len), v[8];

		put_le64(v, bad[i].value);
		memcpy(img + bad[i].at, v, bad[i].width);
		int r = load(img, len, &e);
		if (bad[i].says) {
			CHECK(r < 0);
			CHECK(!strstr(e.msg, "damaged") || strlen(e.msg) > 30);
			if (strcmp(bad[i].says, "damaged"))
				CHECK_HAS(e.msg, bad[i].says);
		}
		free(img);
	}
}

TEST(a_payload_that_claims_too_much_is_refused_before_it_is_unpacked)
{
	size_t len;

	make_elf();
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	size_t packed = get_le32(img + 0x24c);
	put_le32(img + SETUP + packed - 4, 0xfff00000);
	refused(img, len, "unpacks to 4095 MiB");
	put_le32(img + SETUP + packed - 4, ELF_LEN - 1);
	refused(img, len, "damaged or cut short");
	free(img);
}

TEST(a_payload_for_another_processor_is_refused)
{
	size_t len;

	make_elf();
	ehdr()->e_machine = EM_AARCH64;
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	refused(img, len, "the vmlinux inside: is an ELF file for another processor (machine 183)");
	free(img);
	memcpy(elf, "#!/bin/sh\n", 10);
	img = make_bzimage(elf, sizeof(elf), &len);
	refused(img, len, "payload that is no ELF file");
	free(img);
}

TEST(a_plain_elf_is_entered_at_its_physical_address)
{
	struct err e;
	uint8_t b = 1;

	make_elf();
	CHECK_EQ(load(elf, sizeof(elf), &e), 0);
	CHECK_EQ(state.rip, LOAD_AT);
	CHECK_EQ(gmem_read(mem, LOAD_AT + 0x1fff, &b, 1), 0);
	CHECK_EQ(b, 0);
	ehdr()->e_entry = 0xffffffff81000001;
	CHECK_EQ(load(elf, sizeof(elf), &e), 0);
	CHECK_EQ(state.rip, LOAD_AT + 1);
}

TEST(a_pvh_note_gives_a_32_bit_entry)
{
	struct err e;
	uint8_t info[56];

	make_elf();
	ehdr()->e_phnum = 2;
	*phdr(1) = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = 0x800, .p_filesz = 40 };
	put_le32(elf + 0x800, 4);
	put_le32(elf + 0x804, 4);
	put_le32(elf + 0x808, 18);
	memcpy(elf + 0x80c, "Xen", 4);
	put_le32(elf + 0x810, LOAD_AT + 2);
	CHECK_EQ(load(elf, sizeof(elf), &e), 0);
	CHECK_EQ(state.rip, LOAD_AT + 2);
	CHECK_EQ(state.cr0 & X86_CR0_PG, 0);
	CHECK(state.seg[X86_CS].attr & X86_SEG_DB);
	CHECK_EQ(gmem_read(mem, state.gpr[X86_RBX], info, sizeof(info)), 0);
	CHECK_EQ(get_le32(info), 0x336ec578);
	CHECK_EQ(get_le64(info + 32), 0xe0000);
	/* Damaged notes are no notes: sizes that leave the segment, or wrap. */
	put_le32(elf + 0x804, 0xfffffff0);
	CHECK_EQ(load(elf, sizeof(elf), &e), 0);
	CHECK_EQ(state.rip, LOAD_AT);
	put_le32(elf + 0x800, 0xffffffff);
	CHECK_EQ(load(elf, sizeof(elf), &e), 0);
}

TEST(damaged_elf_headers_are_refused)
{
	make_elf();
	elf[EI_CLASS] = 7;
	refused(elf, sizeof(elf), "class 7");
	make_elf();
	elf[EI_DATA] = ELFDATA2MSB;
	refused(elf, sizeof(elf), "big-endian");
	make_elf();
	ehdr()->e_machine = EM_386;
	refused(elf, sizeof(elf), "another processor");
	make_elf();
	ehdr()->e_type = ET_REL;
	refused(elf, sizeof(elf), "not an executable");
	make_elf();
	ehdr()->e_phnum = 0;
	refused(elf, sizeof(elf), "0 program headers");
	make_elf();
	ehdr()->e_phnum = 65535;
	refused(elf, sizeof(elf), "65535 program headers");
	make_elf();
	ehdr()->e_phentsize = 8;
	refused(elf, sizeof(elf), "program headers of 8 bytes");
	make_elf();
	ehdr()->e_phoff = UINT64_MAX - 8;
	refused(elf, sizeof(elf), "ends before its ELF program headers");
	make_elf();
	phdr(0)->p_filesz = UINT64_MAX;
	refused(elf, sizeof(elf), "cut short: segment 0");
	make_elf();
	phdr(0)->p_offset = UINT64_MAX;
	refused(elf, sizeof(elf), "cut short: segment 0");
	make_elf();
	phdr(0)->p_memsz = 1;
	refused(elf, sizeof(elf), "damaged ELF program header");
	make_elf();
	phdr(0)->p_paddr = UINT64_MAX - 10;
	refused(elf, sizeof(elf), "damaged ELF program header");
	make_elf();
	phdr(0)->p_memsz = MEM;
	refused(elf, sizeof(elf), "needs memory");
	make_elf();
	phdr(0)->p_paddr = 0x1000;
	refused(elf, sizeof(elf), "below the first MiB");
	make_elf();
	phdr(0)->p_type = PT_NULL;
	refused(elf, sizeof(elf), "nothing to load");
	make_elf();
	ehdr()->e_entry = 0x10;
	refused(elf, sizeof(elf), "outside of what it loads");
	make_elf();
	for (size_t n = 1; n < 200; n++) {
		struct err e;

		CHECK(load(elf, n, &e) < 0);
	}
}

TEST(what_is_no_kernel_is_called_by_its_name)
{
	static uint8_t file[100000];

	memcpy(file + 56, "ARM\x64", 4);
	refused(file, sizeof(file), "for arm64");
	memcpy(file + 56, "RSC\x05", 4);
	refused(file, sizeof(file), "RISC-V");
	memset(file, 0, sizeof(file));
	memcpy(file, "\x1f\x8b", 2);
	refused(file, sizeof(file), "its gzip payload is damaged or cut short");
	for (size_t i = 0; i < sizeof(file); i++)
		file[i] = (uint8_t)(i * 2654435761u >> 13);
	refused(file, sizeof(file), "is no kernel");
	refused(file, 10, "too short");
	refused(file, 0, "is empty");
}

TEST(files_that_cannot_be_opened_are_named)
{
	struct boot *b = NULL;
	struct err e = ERR_INIT;

	CHECK_EQ(boot_open(&b, &(struct boot_files){ "/nonexistent", NULL, NULL }, &e), -ENOENT);
	CHECK_HAS(e.msg, "kernel '/nonexistent'");
	CHECK_EQ(boot_open(&b, &(struct boot_files){ "/tmp", NULL, NULL }, &e), -EISDIR);
	CHECK_EQ(boot_open(&b, &(struct boot_files){ "/dev/null", NULL, NULL }, &e), -EINVAL);
	CHECK_EQ(boot_open(&b, &(struct boot_files){ "/proc/self/exe", "/nonexistent", NULL }, &e), -ENOENT);
	CHECK_HAS(e.msg, "initrd '/nonexistent'");
}

TEST(an_initrd_lies_at_the_top_or_is_refused)
{
	enum { BIG = 15 << 20 };
	static uint8_t data[BIG];
	struct err e = ERR_INIT;
	uint8_t zp[4096], b[4];
	char name[64];
	size_t len;

	make_elf();
	uint8_t *img = make_bzimage(elf, sizeof(elf), &len);
	memset(data, 0x5a, sizeof(data));
	snprintf(name, sizeof(name), "%s", put_file(data, 5000));
	CHECK_EQ(load_with(img, len, name, "", &e), 0);
	CHECK_EQ(gmem_read(mem, state.gpr[X86_RSI], zp, sizeof(zp)), 0);
	CHECK_EQ(get_le32(zp + 0x218), MEM - 8192);
	CHECK_EQ(get_le32(zp + 0x21c), 5000);
	CHECK_EQ(gmem_read(mem, MEM - 8192 + 4999, b, 2), 0);
	CHECK_EQ(b[0], 0x5a);
	CHECK_EQ(b[1], 0);
	/* The kernel may forbid the top. */
	put_le32(img + 0x22c, 0x7fffff);
	CHECK_EQ(load_with(img, len, name, "", &e), 0);
	CHECK_EQ(gmem_read(mem, state.gpr[X86_RSI], zp, sizeof(zp)), 0);
	CHECK_EQ(get_le32(zp + 0x218), 0x800000 - 8192);
	put_le32(img + 0x22c, 0);
	CHECK(load_with(img, len, name, "", &e) < 0);
	unlink(name);
	put_le32(img + 0x22c, 0x7fffffff);
	snprintf(name, sizeof(name), "%s", put_file(data, BIG));
	CHECK(load_with(img, len, name, "", &e) < 0);
	CHECK_HAS(e.msg, "of 15 MiB does not fit beside it in 16 MiB");
	unlink(name);
	snprintf(name, sizeof(name), "%s", put_file(data, 0));
	CHECK(load_with(img, len, name, "", &e) < 0);
	CHECK_HAS(e.msg, "is empty");
	unlink(name);
	free(img);
}

/* A multiboot kernel with addresses in its header, at the start of the file. */
static void make_multiboot(uint8_t f[4096], uint32_t flags)
{
	memset(f, 0, 4096);
	put_le32(f, 0x1badb002);
	put_le32(f + 4, flags);
	put_le32(f + 8, 0u - 0x1badb002u - flags);
	put_le32(f + 12, LOAD_AT);
	put_le32(f + 16, LOAD_AT);
	put_le32(f + 24, LOAD_AT + 0x3000);
	put_le32(f + 28, LOAD_AT + 0x20);
}

TEST(a_multiboot_kernel_gets_its_information)
{
	uint8_t f[4096], info[128];
	struct err e;

	make_multiboot(f, 0x10003);
	CHECK_EQ(load(f, sizeof(f), &e), 0);
	CHECK_EQ(state.gpr[X86_RAX], 0x2badb002);
	CHECK_EQ(state.rip, LOAD_AT + 0x20);
	CHECK_EQ(gmem_read(mem, state.gpr[X86_RBX], info, sizeof(info)), 0);
	CHECK_EQ(get_le32(info + 8), (MEM >> 10) - 1024);
	char cmdline[6];
	CHECK_EQ(gmem_read(mem, get_le32(info + 16), cmdline, 6), 0);
	CHECK_STR(cmdline, "hello");
}

static void make_low_multiboot(uint8_t f[4096], uint32_t at)
{
	make_multiboot(f, 0x10000);
	put_le32(f + 12, at);
	put_le32(f + 16, at);
	put_le32(f + 24, at + 0x3000);
	put_le32(f + 28, at + 0x20);
}

TEST(a_multiboot_kernel_may_lie_low_but_not_over_the_loaders_tables)
{
	uint8_t f[4096];
	struct err e;

	make_low_multiboot(f, 0x8000);
	CHECK_EQ(load(f, sizeof(f), &e), 0);
	CHECK_EQ(state.rip, 0x8020);
	make_low_multiboot(f, 0x7000);
	refused(f, sizeof(f), "wrong load addresses");
	make_low_multiboot(f, 0x1d000);
	CHECK_EQ(load(f, sizeof(f), &e), 0);
	make_low_multiboot(f, 0x1d001);
	refused(f, sizeof(f), "wrong load addresses");
}

TEST(damaged_multiboot_headers_are_refused)
{
	uint8_t f[4096];

	make_multiboot(f, 0x10004);
	refused(f, sizeof(f), "multiboot features");
	make_multiboot(f, 0x10000);
	refused(f, 20, "cut short");
	make_multiboot(f, 0);
	refused(f, sizeof(f), "without addresses");
	make_multiboot(f, 0x10000);
	put_le32(f + 16, LOAD_AT + 4);
	refused(f, sizeof(f), "wrong load addresses");
	make_multiboot(f, 0x10000);
	put_le32(f + 16, LOAD_AT - 0x1000);
	refused(f, sizeof(f), "wrong load addresses");
	make_multiboot(f, 0x10000);
	put_le32(f + 20, LOAD_AT + 5000);
	refused(f, sizeof(f), "wrong load addresses");
	make_multiboot(f, 0x10000);
	put_le32(f + 20, LOAD_AT - 1);
	refused(f, sizeof(f), "wrong load addresses");
	make_multiboot(f, 0x10000);
	put_le32(f + 24, 0xffffffff);
	refused(f, sizeof(f), "needs memory");
}

TEST(a_bzimage_without_payload_is_entered_as_it_is)
{
	enum { CODE_LEN = 0x300 - 8 };          /* the last unit of 16 bytes is not whole */
	size_t len;
	struct err e;

	make_elf();
	uint8_t *img = realloc(make_bzimage(elf, sizeof(elf), &len), SETUP + 0x1000);
	size_t start = (size_t)(img[0x1f1] + 1) * 512;

	CHECK(img && start + CODE_LEN <= SETUP + 0x1000);
	memset(img + start, 0x5a, CODE_LEN);
	put_le32(img + 0x1f4, (CODE_LEN + 15) / 16);
	put_le32(img + 0x24c, 0);
	CHECK_EQ(load(img, start + CODE_LEN, &e), 0);
	uint64_t at = get_le64(img + 0x258);
	uint8_t got[CODE_LEN];

	CHECK_EQ(gmem_read(mem, at, got, sizeof(got)), 0);
	CHECK_MEM(got, img + start, sizeof(got));
	CHECK_EQ(state.rip, at + 0x200);
	CHECK_EQ(state.gpr[X86_RSI], 0x7000);
	put_le32(img + 0x1f4, 0);
	CHECK(load(img, start, &e) < 0);
	CHECK_HAS(e.msg, "nothing after its setup code");
	free(img);
}

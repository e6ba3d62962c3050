/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/boot_priv.h"
#include "vm/unpack.h"

#define KERNEL_FILE_MAX (1ull << 30)

struct boot {
	char *kernel, *initrd, *cmdline;        /* initrd: NULL when there is none */
	int kernel_fd, initrd_fd;
};

/* --- files --- */

static int boot_open_file(int *out, const char *what, const char *path, struct err *err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot open %s '%s': %s", what, path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "cannot open %s '%s': it is a directory", what, path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "cannot use %s '%s': it is not a regular file", what, path);
	*out = take_fd(&fd);
	return 0;
}

static int boot_file_size(int fd, const char *what, const char *path, uint64_t *size, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot read %s '%s': %s", what, path, strerror(errno));
	if (!st.st_size)
		return err_set(err, -EINVAL, "%s '%s' is empty", what, path);
	*size = (uint64_t)st.st_size;
	return 0;
}

static int boot_read_file(int fd, const char *what, const char *path, uint8_t *buf, uint64_t len, struct err *err)
{
	for (uint64_t done = 0; done < len;) {
		ssize_t n = pread(fd, buf + done, len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "cannot read %s '%s': %s", what, path, strerror(errno));
		if (!n)
			return err_set(err, -EIO, "%s '%s' became shorter while it was read", what, path);
		done += (uint64_t)n;
	}
	return 0;
}

int boot_open(struct boot **out, const struct boot_files *files, struct err *err)
{
	AUTO(boot_free) struct boot *b = calloc(1, sizeof(*b));
	int r;

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	b->kernel_fd = b->initrd_fd = -1;
	b->kernel = strdup(files->kernel);
	b->initrd = files->initrd ? strdup(files->initrd) : NULL;
	b->cmdline = strdup(files->cmdline ? files->cmdline : "");
	if (!b->kernel || (files->initrd && !b->initrd) || !b->cmdline)
		return err_set(err, -ENOMEM, "out of memory");
	r = boot_open_file(&b->kernel_fd, "kernel", b->kernel, err);
	if (!r && b->initrd)
		r = boot_open_file(&b->initrd_fd, "initrd", b->initrd, err);
	if (r < 0)
		return r;
	*out = take_ptr(&b);
	return 0;
}

void boot_free(struct boot *b)
{
	if (!b)
		return;
	auto_fd(&b->kernel_fd);
	auto_fd(&b->initrd_fd);
	free(b->kernel);
	free(b->initrd);
	free(b->cmdline);
	free(b);
}

/* --- pieces that loaders share --- */

unsigned boot_memory_map(const struct gmem *mem, struct boot_range out[BOOT_MAP_MAX])
{
	unsigned n = 0;

	out[n++] = (struct boot_range){ 0, BOOT_LOW_RAM_END, BOOT_RAM };
	out[n++] = (struct boot_range){ BOOT_LOW_RAM_END, 0xa0000 - BOOT_LOW_RAM_END, BOOT_RESERVED };
	out[n++] = (struct boot_range){ MAP_ACPI_BASE, MAP_ACPI_SIZE, BOOT_RESERVED };
	out[n++] = (struct boot_range){ BOOT_KERNEL_MIN, mem->low_size - BOOT_KERNEL_MIN, BOOT_RAM };
	out[n++] = (struct boot_range){ MAP_ECAM_BASE, MAP_ECAM_SIZE, BOOT_RESERVED };
	if (mem->boot_size > mem->low_size)
		out[n++] = (struct boot_range){ GMEM_HIGH_BASE, mem->boot_size - mem->low_size, BOOT_RAM };
	return n;
}

void boot_populate(struct gmem *mem, uint64_t addr, uint64_t len)
{
	uint64_t start = align_up(addr, GMEM_PAGE_SIZE), end = (addr + len) & ~(uint64_t)(GMEM_PAGE_SIZE - 1);
	void *p = start < end ? gmem_ptr(mem, start, end - start) : NULL;

	if (p)
		madvise(p, end - start, MADV_POPULATE_WRITE);   /* refused: the stores fault one by one */
}

int boot_put(const struct boot_job *j, uint64_t addr, const void *data, size_t len, struct err *err)
{
	int r = gmem_write(j->mem, addr, data, len);

	return r < 0 ? err_set(err, r, "guest memory ends before 0x%" PRIx64, addr + len) : 0;
}

int boot_put_cmdline(const struct boot_job *j, size_t max, struct err *err)
{
	size_t len = strlen(j->cmdline);

	if (len > max)
		return err_set(err, -E2BIG, "takes a command line of at most %zu characters; this one has %zu", max, len);
	return boot_put(j, BOOT_CMDLINE, j->cmdline, len + 1, err);
}

int boot_put_initrd(const struct boot_job *j, uint64_t top, uint64_t kernel_end, struct boot_initrd *out,
		    struct err *err)
{
	uint64_t size = j->initrd_size;

	if (j->initrd_fd < 0)
		return 0;
	if (top > j->mem->low_size)
		top = j->mem->low_size;
	top &= ~(uint64_t)(GMEM_PAGE_SIZE - 1);
	uint64_t room = top > kernel_end ? top - kernel_end : 0;
	uint64_t addr = size <= room ? (top - size) & ~(uint64_t)(GMEM_PAGE_SIZE - 1) : 0;
	uint8_t *to = addr >= kernel_end ? gmem_ptr(j->mem, addr, size) : NULL;
	if (!to)
		return err_set(err, -ENOSPC, "initrd '%s' of %" PRIu64 " MiB does not fit beside it in %" PRIu64
			       " MiB of memory; give the guest more with --memory", j->initrd_path,
			       (size + (1 << 20) - 1) >> 20, j->mem->size >> 20);
	boot_populate(j->mem, addr, size);
	int r = boot_read_file(j->initrd_fd, "initrd", j->initrd_path, to, size, err);
	if (r < 0)
		return r;
	gmem_wrote(j->mem, gmem_offset(j->mem, addr, size), size);
	*out = (struct boot_initrd){ addr, size };
	return 0;
}

/* --- the processor --- */

enum { SEL_CODE = 0x10, SEL_DATA = 0x18, SEL_TSS = 0x20, GDT_LEN = 5 * 8 };

static struct x86_seg boot_seg(uint16_t sel, uint32_t extra)
{
	return (struct x86_seg){
		.limit = 0xffffffff, .sel = sel,
		.attr = X86_SEG_ACCESSED | X86_SEG_RW | X86_SEG_S | X86_SEG_P | X86_SEG_G | extra,
	};
}

/* The 8 bytes of a flat descriptor (SDM vol. 3 figure 3-8). */
static uint64_t boot_descriptor(const struct x86_seg *s)
{
	return 0x000f00000000ffffull | (uint64_t)(s->attr & 0xf0ff) << 40;
}

static int boot_flat_segments(const struct boot_job *j, uint32_t code_size_bit, struct err *err)
{
	struct x86_state *s = j->bsp;
	struct x86_seg code = boot_seg(SEL_CODE, X86_SEG_CODE | code_size_bit);
	struct x86_seg data = boot_seg(SEL_DATA, X86_SEG_DB);
	uint8_t gdt[GDT_LEN] = { 0 };

	put_le64(gdt + SEL_CODE, boot_descriptor(&code));
	put_le64(gdt + SEL_DATA, boot_descriptor(&data));
	put_le64(gdt + SEL_TSS, 0x00008b0000000067ull); /* busy 32-bit TSS at 0 */
	for (int i = 0; i < X86_N_SEGS; i++)
		s->seg[i] = i == X86_CS ? code : data;
	s->tr = (struct x86_seg){ .limit = 0x67, .sel = SEL_TSS, .attr = 0xb | X86_SEG_P };
	s->ldtr = (struct x86_seg){ .attr = X86_SEG_UNUSABLE };
	s->gdtr = (struct x86_dtab){ BOOT_GDT, GDT_LEN - 1 };
	s->idtr = (struct x86_dtab){ 0, 0 };
	s->rflags = X86_FLAGS_FIXED;
	return boot_put(j, BOOT_GDT, gdt, sizeof(gdt), err);
}

int boot_enter_flat(const struct boot_job *j, uint32_t eip, uint32_t eax, uint32_t ebx, struct err *err)
{
	struct x86_state *s = j->bsp;
	int r = boot_flat_segments(j, X86_SEG_DB, err);

	s->cr0 = X86_CR0_PE | X86_CR0_ET;
	s->cr4 = 0;
	s->efer = 0;
	s->rip = eip;
	s->gpr[X86_RAX] = eax;
	s->gpr[X86_RBX] = ebx;
	return r;
}

/* The first 4 GiB mapped to themselves by 2 MiB pages: PML4, PDPT, four page directories. */
static int boot_page_tables(const struct boot_job *j, struct err *err)
{
	enum { ENTRIES = 512, TABLES = 6, PRESENT_WRITABLE = 3, LARGE = 0x80 };
	static uint8_t const zero[GMEM_PAGE_SIZE];
	uint8_t t[GMEM_PAGE_SIZE];
	int r = 0;

	for (unsigned n = 0; !r && n < TABLES; n++) {
		memcpy(t, zero, sizeof(t));
		if (n == 0)
			put_le64(t, (BOOT_PAGE_TABLES + GMEM_PAGE_SIZE) | PRESENT_WRITABLE);
		for (unsigned i = 0; n == 1 && i < 4; i++)
			put_le64(t + 8 * i, (BOOT_PAGE_TABLES + (2 + i) * GMEM_PAGE_SIZE) | PRESENT_WRITABLE);
		for (uint64_t i = 0; n >= 2 && i < ENTRIES; i++)
			put_le64(t + 8 * i, ((n - 2) * ENTRIES + i) << 21 | PRESENT_WRITABLE | LARGE);
		r = boot_put(j, BOOT_PAGE_TABLES + n * GMEM_PAGE_SIZE, t, sizeof(t), err);
	}
	return r;
}

int boot_enter_long(const struct boot_job *j, uint64_t rip, uint64_t rsi, struct err *err)
{
	struct x86_state *s = j->bsp;
	int r = boot_flat_segments(j, X86_SEG_L, err);

	if (!r)
		r = boot_page_tables(j, err);
	s->cr3 = BOOT_PAGE_TABLES;
	s->cr4 = X86_CR4_PAE;
	s->efer = X86_EFER_LME | X86_EFER_LMA;
	s->cr0 = X86_CR0_PE | X86_CR0_ET | X86_CR0_PG;
	s->rip = rip;
	s->gpr[X86_RSI] = rsi;
	return r;
}

/* --- choosing the loader --- */

static int boot_refuse(struct boot_image image, struct err *err)
{
	enum { ARM64_MAGIC_AT = 56, RISCV_MAGIC_AT = 56 };
	const char *packed = unpack_format(image.data, image.len);

	if (image.len >= ARM64_MAGIC_AT + 4 && !memcmp(image.data + ARM64_MAGIC_AT, "ARM\x64", 4))
		return err_set(err, -EINVAL, "is a Linux kernel for arm64; an x86-64 kernel is needed");
	if (image.len >= RISCV_MAGIC_AT + 4 && !memcmp(image.data + RISCV_MAGIC_AT, "RSC\x05", 4))
		return err_set(err, -EINVAL, "is a Linux kernel for RISC-V; an x86-64 kernel is needed");
	if (packed)
		return err_set(err, -EINVAL, "is a file packed with %s; unpack it first", packed);
	if (image.len < 1024)
		return err_set(err, -EINVAL, "is too short for a kernel: it has %zu bytes", image.len);
	return err_set(err, -EINVAL, "is no kernel: neither a Linux bzImage, nor an ELF file, nor multiboot");
}

static int boot_dispatch(const struct boot_job *j, struct err *err);

/* A kernel in a gzip file, as Xen's is: it ends with its size, like the payload of a bzImage. One level. */
static int boot_packed(const struct boot_job *j, struct err *err)
{
	AUTO(free) uint8_t *data = NULL;
	struct boot_job inner = *j;
	int r = unpack_payload(&data, &inner.image.len, j->image.data, j->image.len, KERNEL_FILE_MAX, err);

	if (r < 0)
		return r;
	inner.image.data = data;
	if (unpack_format(data, inner.image.len) && !boot_is_elf(inner.image))
		return boot_refuse(inner.image, err);
	return boot_dispatch(&inner, err);
}

static int boot_dispatch(const struct boot_job *j, struct err *err)
{
	struct boot_elf e = { 0 };
	const char *packed = unpack_format(j->image.data, j->image.len);

	if (packed && !strcmp(packed, "gzip"))
		return boot_packed(j, err);

	if (boot_is_bzimage(j->image))
		return boot_linux_bzimage(j, err);
	if (boot_is_elf(j->image)) {
		int r = boot_elf_parse(&e, j->image, err);

		if (r < 0)
			return r;
		if (e.has_pvh)
			return boot_pvh(j, &e, err);
	}
	if (boot_is_multiboot(j->image))
		return boot_multiboot(j, err);
	if (!boot_is_elf(j->image))
		return boot_refuse(j->image, err);
	if (!e.is_64)
		return err_set(err, -EINVAL, "is a 32-bit ELF file with neither a PVH note nor a multiboot header");
	return boot_linux_elf(j, &e, err);
}

int boot_load(struct boot *b, struct gmem *mem, uint64_t rsdp, struct x86_state *bsp, struct err *err)
{
	struct boot_job j = {
		.mem = mem, .cmdline = b->cmdline, .rsdp = rsdp, .bsp = bsp,
		.initrd_fd = b->initrd_fd, .initrd_path = b->initrd,
	};
	AUTO(free) uint8_t *data = NULL;
	uint64_t len = 0;
	int r = boot_file_size(b->kernel_fd, "kernel", b->kernel, &len, err);

	if (!r && b->initrd_fd >= 0)
		r = boot_file_size(b->initrd_fd, "initrd", b->initrd, &j.initrd_size, err);
	if (r < 0)
		return r;
	if (len > KERNEL_FILE_MAX)
		return err_set(err, -EFBIG, "kernel '%s' has %" PRIu64 " MiB; no kernel is that large", b->kernel, len >> 20);
	data = unpack_buffer(len);
	if (!data)
		return err_set(err, -ENOMEM, "out of memory");
	r = boot_read_file(b->kernel_fd, "kernel", b->kernel, data, len, err);
	if (r < 0)
		return r;
	j.image = (struct boot_image){ data, len };
	r = boot_dispatch(&j, err);
	return r < 0 ? err_wrap(err, r, "kernel '%s'", b->kernel) : 0;
}

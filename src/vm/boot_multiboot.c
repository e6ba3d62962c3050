/* SPDX-License-Identifier: Apache-2.0 */
/* Multiboot Specification version 0.6.96: ELF32 kernels and flat ones with load addresses in
 * the header. No video mode, drives, BIOS tables or symbols. An initrd is the only module. */
#include "vm/boot_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"

enum {
	MB_SEARCH = 8192,
	MB_HEADER_MAGIC = 0x1badb002,
	MB_LOADER_MAGIC = 0x2badb002,
	MB_FLAG_ADDRESSES = 1 << 16,
	MB_FLAGS_REQUIRED = 0xffff,     /* a loader that does not know one of these must refuse */
	MB_FLAGS_KNOWN = 3,             /* page-aligned modules, memory information */
	MB_ADDRESSES_END = 32,

	/* information structure (3.3) */
	MB_HAS_MEM = 1 << 0, MB_HAS_CMDLINE = 1 << 2, MB_HAS_MODS = 1 << 3, MB_HAS_MAP = 1 << 6,
	MB_HAS_NAME = 1 << 9,
	MB_INFO_LEN = 128,
	MB_MODULE = 0x80,
	MB_NAME = 0xa0,
	MB_MAP = 0x100,
	MB_MAP_ENTRY = 24,
	MB_PAGE_LEN = MB_MAP + BOOT_MAP_MAX * MB_MAP_ENTRY,
};

/* Offset of the header, or -1. */
static long mb_find(struct boot_image image)
{
	for (size_t i = 0; i + 12 <= image.len && i + 12 <= MB_SEARCH; i += 4) {
		const uint8_t *p = image.data + i;

		if (get_le32(p) == MB_HEADER_MAGIC && !(get_le32(p) + get_le32(p + 4) + get_le32(p + 8)))
			return (long)i;
	}
	return -1;
}

bool boot_is_multiboot(struct boot_image image)
{
	return mb_find(image) >= 0;
}

/* Load by the addresses in the header at OFF (3.1.3). */
static int mb_load_flat(const struct boot_job *j, size_t off, uint32_t *entry, uint64_t *end, struct err *err)
{
	const uint8_t *h = j->image.data + off;

	if (!range_fits(off, MB_ADDRESSES_END, j->image.len))
		return err_set(err, -EINVAL, "is cut short inside its multiboot header");
	uint32_t header = get_le32(h + 12), load = get_le32(h + 16), load_end = get_le32(h + 20),
		 bss_end = get_le32(h + 24);
	*entry = get_le32(h + 28);
	if (load > header || header - load > off)
		return err_set(err, -EINVAL, "has wrong load addresses in its multiboot header");
	uint64_t start = off - (header - load);
	uint64_t len = load_end ? (uint64_t)load_end - load : j->image.len - start;
	if ((load_end && load_end < load) || !range_fits(start, len, j->image.len))
		return err_set(err, -EINVAL, "has wrong load addresses in its multiboot header");
	uint64_t total = bss_end > load && bss_end - load > len ? bss_end - load : len;
	if (!boot_is_kernel_place(load, total, true))
		return err_set(err, -EINVAL, "has wrong load addresses in its multiboot header");
	if (!gmem_ptr(j->mem, load, total))
		return err_set(err, -ENOSPC, "needs memory from 0x%" PRIx32 " to 0x%" PRIx64 "; give the guest more with --memory",
			       load, load + total);
	int r = boot_put(j, load, j->image.data + start, len, err);
	if (!r && gmem_fill(j->mem, load + len, 0, total - len) < 0)
		r = err_set(err, -EFAULT, "its zeroed part is not in guest memory");
	*end = load + total;
	return r;
}

static int mb_load(const struct boot_job *j, uint32_t *entry, uint64_t *end, struct err *err)
{
	size_t off = (size_t)mb_find(j->image);
	uint32_t flags = get_le32(j->image.data + off + 4);
	struct boot_elf e = { 0 };

	if (flags & MB_FLAGS_REQUIRED & ~MB_FLAGS_KNOWN)
		return err_set(err, -ENOTSUP, "asks for multiboot features that do not exist here (flags 0x%" PRIx32 ")", flags);
	if (flags & MB_FLAG_ADDRESSES)
		return mb_load_flat(j, off, entry, end, err);
	if (!boot_is_elf(j->image))
		return err_set(err, -EINVAL, "has a multiboot header without addresses and is no ELF file");
	int r = boot_elf_parse(&e, j->image, err);
	if (!r)
		r = boot_elf_load(&e, j->image, j->mem, true, err);
	if (r < 0)
		return r;
	if (e.entry > UINT32_MAX)
		return err_set(err, -EINVAL, "has its entry above 4 GiB, where multiboot cannot go");
	*entry = (uint32_t)e.entry;
	*end = e.end;
	return 0;
}

static void mb_fill_map(uint8_t *p, const struct boot_range *map, unsigned n)
{
	for (unsigned i = 0; i < n; i++, p += MB_MAP_ENTRY) {
		put_le32(p, MB_MAP_ENTRY - 4);  /* size of the rest */
		put_le64(p + 4, map[i].addr);
		put_le64(p + 12, map[i].size);
		put_le32(p + 20, map[i].type);
	}
}

/* Two words of the BIOS data area, which such kernels (Xen) trust more than the loader: the segment of the
 * extended data area, and the KiB of memory below it. */
static int mb_put_bios_data(const struct boot_job *j, struct err *err)
{
	enum { EBDA_SEGMENT = 0x40e, BASE_MEMORY = 0x413 };
	uint8_t ebda[2], base[2];

	put_le16(ebda, BOOT_LOW_RAM_END >> 4);
	put_le16(base, BOOT_LOW_RAM_END >> 10);
	int r = boot_put(j, EBDA_SEGMENT, ebda, sizeof(ebda), err);
	return r < 0 ? r : boot_put(j, BASE_MEMORY, base, sizeof(base), err);
}

int boot_multiboot(const struct boot_job *j, struct err *err)
{
	uint8_t info[MB_PAGE_LEN] = { 0 };
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(j->mem, map);
	struct boot_initrd rd = { 0 };
	uint32_t entry = 0;
	uint64_t end = 0;
	int r = mb_load(j, &entry, &end, err);

	if (!r)
		r = mb_put_bios_data(j, err);
	if (!r)
		r = boot_put_cmdline(j, 4095, err);
	if (!r)
		r = boot_put_initrd(j, BOOT_INITRD_MAX + 1ull, end, &rd, err);
	if (r < 0)
		return r;
	put_le32(info, MB_HAS_MEM | MB_HAS_CMDLINE | MB_HAS_MODS | MB_HAS_MAP | MB_HAS_NAME);
	put_le32(info + 4, BOOT_LOW_RAM_END >> 10);
	put_le32(info + 8, (uint32_t)((j->mem->low_size - BOOT_KERNEL_MIN) >> 10));
	put_le32(info + 16, BOOT_CMDLINE);
	put_le32(info + 20, rd.size ? 1 : 0);
	put_le32(info + 24, BOOT_INFO + MB_MODULE);
	put_le32(info + 44, n * MB_MAP_ENTRY);
	put_le32(info + 48, BOOT_INFO + MB_MAP);
	put_le32(info + 64, BOOT_INFO + MB_NAME);
	put_le32(info + MB_MODULE, (uint32_t)rd.addr);
	put_le32(info + MB_MODULE + 4, (uint32_t)(rd.addr + rd.size));
	put_le32(info + MB_MODULE + 8, BOOT_INFO + MB_NAME);    /* the module's string */
	memcpy(info + MB_NAME, "vivarium", sizeof("vivarium"));
	mb_fill_map(info + MB_MAP, map, n);
	r = boot_put(j, BOOT_INFO, info, sizeof(info), err);
	return r < 0 ? r : boot_enter_flat(j, entry, MB_LOADER_MAGIC, BOOT_INFO, err);
}

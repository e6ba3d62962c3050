/* SPDX-License-Identifier: Apache-2.0 */
/* Linux: Documentation/arch/x86/boot.rst. The bzImage's setup code and decompressor are not
 * run: its payload is unpacked here and the vmlinux inside entered at startup_64 with the
 * state that the 64-bit boot protocol asks for. What follows the protocol without being Linux
 * (memtest86+) has no payload: its protected-mode part is entered as it is. So are 32-bit kernels, by the 32-bit
 * protocol: they unpack and move themselves. */
#include "vm/boot_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/cleanup.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/unpack.h"

/* Offsets in a bzImage and in the zero page (struct boot_params): the setup header has the
 * same place in both. boot.rst "Details of Header Fields", zero-page.rst. */
enum {
	ZP_ACPI_RSDP = 0x070,
	ZP_E820_COUNT = 0x1e8,
	HDR_START = 0x1f1,
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,            /* the part after setup, in units of 16 bytes */
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP = 0x200,               /* second byte: length of the header beyond 0x202 */
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PAYLOAD_OFFSET = 0x248,
	HDR_PAYLOAD_LENGTH = 0x24c,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END_MIN = 0x264,            /* protocol 2.10 */
	HDR_END_MAX = 0x290,
	ZP_E820 = 0x2d0,
	E820_ENTRY = 20,
	ZERO_PAGE_LEN = 4096,

	BOOT_FLAG = 0xaa55,
	MAGIC_HDRS = 0x53726448,        /* "HdrS" */
	VERSION_MIN = 0x020a,           /* 2.10 (Linux 2.6.31): payload, init_size, pref_address */
	VERSION_XLOADFLAGS = 0x020c,
	LOADED_HIGH = 1,
	XLF_KERNEL_64 = 1,
	LOADER_UNDEFINED = 0xff,
};

/* What of the header matters here, copied out and checked once. */
struct setup {
	uint64_t payload, payload_len;  /* in the file */
	uint64_t pref_address, init_size;
	uint32_t initrd_max, cmdline_size;
	size_t header_end;
	uint64_t image_at;              /* in the file: what comes after the setup code */
	bool is_32;
};

bool boot_is_bzimage(struct boot_image image)
{
	return image.len >= HDR_MAGIC + 4 && get_le32(image.data + HDR_MAGIC) == MAGIC_HDRS &&
	       get_le16(image.data + HDR_BOOT_FLAG) == BOOT_FLAG;
}

static int linux_setup(struct setup *s, struct boot_image image, struct err *err)
{
	const uint8_t *d = image.data;

	if (image.len < HDR_END_MAX)
		return err_set(err, -EINVAL, "is cut short inside its setup header");
	unsigned version = get_le16(d + HDR_VERSION), sects = d[HDR_SETUP_SECTS] ? d[HDR_SETUP_SECTS] : 4;
	uint64_t whole = (uint64_t)(sects + 1) * 512 + (uint64_t)get_le32(d + HDR_SYSSIZE) * 16;
	if (version < VERSION_MIN)
		return err_set(err, -EINVAL, "speaks Linux boot protocol %u.%02u; 2.10 (Linux 2.6.31) is the oldest that works",
			       version >> 8, version & 0xff);
	if (!(d[HDR_LOADFLAGS] & LOADED_HIGH))
		return err_set(err, -EINVAL, "is a zImage, which loads below 1 MiB; only bzImage works");
	s->is_32 = version >= VERSION_XLOADFLAGS && !(get_le16(d + HDR_XLOADFLAGS) & XLF_KERNEL_64);
	s->header_end = HDR_MAGIC + (size_t)d[HDR_JUMP + 1];
	if (s->header_end < HDR_END_MIN || s->header_end > HDR_END_MAX)
		return err_set(err, -EINVAL, "has a damaged setup header: it ends at 0x%zx", s->header_end);
	s->payload_len = get_le32(d + HDR_PAYLOAD_LENGTH);
	/* The unit is 16 bytes; memtest86+ does not fill the last one. */
	if (whole > image.len + (s->payload_len ? 0 : 15))
		return err_set(err, -EINVAL, "is cut short: it has %zu of %" PRIu64 " bytes", image.len, whole);
	s->payload = (uint64_t)(sects + 1) * 512 + get_le32(d + HDR_PAYLOAD_OFFSET);
	s->image_at = (uint64_t)(sects + 1) * 512;
	if (s->image_at >= image.len)
		return err_set(err, -EINVAL, "has nothing after its setup code");
	if (s->payload_len && !range_fits(s->payload, s->payload_len, image.len))
		return err_set(err, -EINVAL, "has a damaged setup header: its payload of %" PRIu64 " bytes ends beyond the file", s->payload_len);
	s->pref_address = get_le64(d + HDR_PREF_ADDRESS);
	s->init_size = get_le32(d + HDR_INIT_SIZE);
	s->initrd_max = get_le32(d + HDR_INITRD_ADDR_MAX);
	s->cmdline_size = get_le32(d + HDR_CMDLINE_SIZE);
	return 0;
}

static void linux_zero_page(uint8_t zp[ZERO_PAGE_LEN], const struct boot_job *j, const struct boot_initrd *rd)
{
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(j->mem, map);

	zp[HDR_TYPE_OF_LOADER] = LOADER_UNDEFINED;
	zp[HDR_LOADFLAGS] |= LOADED_HIGH;
	put_le64(zp + ZP_ACPI_RSDP, j->rsdp);
	put_le32(zp + HDR_CMD_LINE_PTR, BOOT_CMDLINE);
	put_le32(zp + HDR_RAMDISK_IMAGE, (uint32_t)rd->addr); /* both below 2 GiB: boot_put_initrd() */
	put_le32(zp + HDR_RAMDISK_SIZE, (uint32_t)rd->size);
	zp[ZP_E820_COUNT] = (uint8_t)n;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *e = zp + ZP_E820 + i * E820_ENTRY;

		put_le64(e, map[i].addr);
		put_le64(e + 8, map[i].size);
		put_le32(e + 16, map[i].type);
	}
}

/* Everything around the loaded vmlinux: initrd, command line, zero page, processor. */
static int linux_finish(const struct boot_job *j, uint8_t zp[ZERO_PAGE_LEN], const struct setup *s,
			uint64_t kernel_end, uint64_t entry, struct err *err)
{
	uint64_t top = (uint64_t)s->initrd_max + 1;
	struct boot_initrd rd = { 0 };
	int r = boot_put_cmdline(j, s->cmdline_size, err);

	if (!r)
		r = boot_put_initrd(j, top, kernel_end, &rd, err);
	if (r < 0)
		return r;
	linux_zero_page(zp, j, &rd);
	r = boot_put(j, BOOT_ZERO_PAGE, zp, ZERO_PAGE_LEN, err);
	if (r < 0)
		return r;
	if (!s->is_32)
		return boot_enter_long(j, entry, BOOT_ZERO_PAGE, err);
	r = boot_enter_flat(j, (uint32_t)entry, 0, 0, err);
	j->bsp->gpr[X86_RSI] = BOOT_ZERO_PAGE;
	return r;
}

/* A bzImage without a payload, or of 32 bits. It is entered 0x200 bytes behind its beginning in 64-bit mode, at it in
 * 32-bit mode. */
static int linux_plain(const struct boot_job *j, const struct setup *s, uint64_t end, struct err *err)
{
	enum { ENTRY_64 = 0x200 };
	uint8_t zp[ZERO_PAGE_LEN] = { 0 };
	uint64_t len = j->image.len - s->image_at;

	if (!boot_is_kernel_place(s->pref_address, len, false) || len > s->init_size || (s->is_32 && end > UINT32_MAX))
		return err_set(err, -EINVAL, "has a damaged setup header: %" PRIu64 " bytes do not belong at 0x%" PRIx64, len,
			       s->pref_address);
	int r = boot_put(j, s->pref_address, j->image.data + s->image_at, len, err);
	if (r < 0)
		return r;
	memcpy(zp + HDR_START, j->image.data + HDR_START, s->header_end - HDR_START);
	return linux_finish(j, zp, s, end, s->pref_address + (s->is_32 ? 0 : ENTRY_64), err);
}

int boot_linux_bzimage(const struct boot_job *j, struct err *err)
{
	uint8_t zp[ZERO_PAGE_LEN] = { 0 };
	AUTO(free) uint8_t *vmlinux = NULL;
	struct boot_image inner = { 0 };
	struct setup s = { 0 };
	struct boot_elf e = { 0 };
	uint64_t end;
	int r = linux_setup(&s, j->image, err);

	if (r < 0)
		return r;
	/* The kernel uses init_size bytes from where it is before it reads the memory map. */
	if (!u64_add(s.pref_address, s.init_size, &end) || !gmem_ptr(j->mem, s.pref_address, s.init_size))
		return err_set(err, -ENOSPC, "needs memory from 0x%" PRIx64 " to 0x%" PRIx64 ", but the guest has only %"
			       PRIu64 " MiB; give it more with --memory", s.pref_address, s.pref_address + s.init_size,
			       j->mem->size >> 20);
	if (!s.payload_len || s.is_32)
		return linux_plain(j, &s, end, err);
	r = unpack_payload(&vmlinux, &inner.len, j->image.data + s.payload, s.payload_len, j->mem->size, err);
	if (r < 0)
		return r;
	inner.data = vmlinux;
	if (!boot_is_elf(inner))
		return err_set(err, -EINVAL, "has a payload that is no ELF file");
	r = boot_elf_parse(&e, inner, err);
	if (!r && !e.is_64) {           /* from the time before headers said so */
		s.is_32 = true;
		return linux_plain(j, &s, end, err);
	}
	if (!r)
		r = boot_elf_load(&e, inner, j->mem, false, err);
	if (r < 0)
		return err_wrap(err, r, "the vmlinux inside");
	memcpy(zp + HDR_START, j->image.data + HDR_START, s.header_end - HDR_START);
	return linux_finish(j, zp, &s, e.end > end ? e.end : end, e.entry, err);
}

int boot_linux_elf(const struct boot_job *j, const struct boot_elf *e, struct err *err)
{
	enum { VERSION = 0x020f, CMDLINE_SIZE = 2047 };
	uint8_t zp[ZERO_PAGE_LEN] = { 0 };
	struct setup s = { .initrd_max = BOOT_INITRD_MAX, .cmdline_size = CMDLINE_SIZE };
	int r = boot_elf_load(e, j->image, j->mem, false, err);

	if (r < 0)
		return r;
	/* A vmlinux has no setup header; these are the fields that the kernel looks at. */
	put_le16(zp + HDR_BOOT_FLAG, BOOT_FLAG);
	put_le32(zp + HDR_MAGIC, MAGIC_HDRS);
	put_le16(zp + HDR_VERSION, VERSION);
	return linux_finish(j, zp, &s, e->end, e->entry, err);
}

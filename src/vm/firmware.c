/* SPDX-License-Identifier: Apache-2.0 */
/* What SeaBIOS looks for is told by QEMU docs/specs/fw_cfg.rst and by its own documentation: the memory
 * map (etc/e820), ACPI tables by a table loader (firmware_loader.h: here one command, which
 * puts the root pointer where it is searched; the tables lie at the end of low RAM, reserved), a boot menu and its
 * console on the first serial port. */
#include "vm/firmware.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "vm/firmware_loader.h"
#include "vm/map.h"

enum {
	ROM_MIN = 64 << 10, ROM_MAX = GMEM_ROM_MAX,
	SHADOW_MAX = 256 << 10, SHADOW_END = 1 << 20,
	DEBUG_PRESENT = 0xe9,           /* what reading the debug port gives */
	E820_ENTRY = 20, E820_RAM = 1, E820_RESERVED = 2, E820_MAX = 4,
	RSDP_LEN = 36,
	FV_SIGNATURE_AT = 40,           /* UEFI PI, volume 3, 3.2.1: EFI_FIRMWARE_VOLUME_HEADER */
};

struct firmware {
	uint8_t *rom;
	uint64_t rom_len;
	struct bus_region region, debug;
	int log_fd;                     /* -1: none */
	uint8_t e820[E820_MAX * E820_ENTRY];
	uint8_t loader[FIRMWARE_LOADER_MAX];
	size_t loader_len;
	uint8_t *tables;                /* ACPI, to be copied to tables_at, or for UEFI to be placed by the firmware */
	uint64_t tables_at;
	size_t tables_len;
};

static uint64_t rom_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	const struct firmware *f = dev;
	uint64_t v = 0;

	for (unsigned i = 0; i < size && off + i < f->rom_len; i++)
		v |= (uint64_t)f->rom[off + i] << 8 * i;
	return v;
}

static void rom_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
}

static uint64_t debug_read(void *dev, unsigned cpu, uint64_t off, unsigned size)
{
	return DEBUG_PRESENT;
}

/* A log that cannot be written loses text; firmware goes on. */
static void debug_write(void *dev, unsigned cpu, uint64_t off, unsigned size, uint64_t val)
{
	const struct firmware *f = dev;
	char c = (char)val;
	ssize_t n = f->log_fd >= 0 ? write(f->log_fd, &c, 1) : 0;

	(void)n;
}

struct bus_region *firmware_rom(struct firmware *f) { return &f->region; }
struct bus_region *firmware_debug_port(struct firmware *f) { return &f->debug; }
uint64_t firmware_rom_base(const struct firmware *f) { return GMEM_HIGH_BASE - f->rom_len; }

int firmware_place_rom(const struct firmware *f, struct gmem *mem, struct err *err)
{
	return gmem_set_rom(mem, firmware_rom_base(f), f->rom, f->rom_len, err);
}

bool firmware_is_uefi(const struct firmware *f)
{
	return !memcmp(f->rom + FV_SIGNATURE_AT, "_FVH", 4);
}

static int firmware_read(struct firmware *f, int fd, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "cannot read firmware '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) || st.st_size < ROM_MIN || st.st_size > ROM_MAX || st.st_size % GMEM_PAGE_SIZE)
		return err_set(err, -EINVAL, "firmware '%s' is no ROM image: it has %jd bytes, not %d KiB to %d MiB in pages of 4 KiB",
			       path, (intmax_t)st.st_size, ROM_MIN >> 10, ROM_MAX >> 20);
	f->rom_len = (uint64_t)st.st_size;
	f->rom = malloc(f->rom_len);
	if (!f->rom)
		return err_set(err, -ENOMEM, "out of memory");
	for (uint64_t done = 0; done < f->rom_len;) {
		ssize_t n = pread(fd, f->rom + done, f->rom_len - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, n ? -errno : -EIO, "cannot read firmware '%s': %s", path,
				       n ? strerror(errno) : "it became shorter");
		done += (uint64_t)n;
	}
	return 0;
}

int firmware_open(struct firmware **out, const char *path, const char *log_path, struct err *err)
{
	AUTO(firmware_free) struct firmware *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(err, -ENOMEM, "out of memory");
	f->log_fd = -1;
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -errno, "cannot open firmware '%s': %s", path, strerror(errno));
	int r = firmware_read(f, fd, path, err);
	if (r < 0)
		return r;
	if (log_path)
		f->log_fd = open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (log_path && f->log_fd < 0)
		return err_set(err, -errno, "cannot open firmware log '%s': %s", log_path, strerror(errno));
	f->region = (struct bus_region){ .name = "rom", .dev = f, .read = rom_read, .write = rom_write, .flags = BUS_UNLOCKED };
	f->debug = (struct bus_region){ .name = "firmware-debug", .dev = f, .read = debug_read, .write = debug_write,
					.flags = BUS_BYTES };
	*out = take_ptr(&f);
	return 0;
}

void firmware_free(struct firmware *f)
{
	if (!f)
		return;
	auto_fd(&f->log_fd);
	free(f->rom);
	free(f->tables);
	free(f);
}

/* --- what it is told --- */

static uint32_t firmware_make_e820(struct firmware *f, const struct gmem *mem)
{
	const struct { uint64_t addr, size; uint32_t type; } map[E820_MAX] = {
		{ 0, f->tables_at, E820_RAM },
		{ f->tables_at, mem->low_size - f->tables_at, E820_RESERVED },
		{ MAP_ECAM_BASE, MAP_ECAM_SIZE, E820_RESERVED },
		{ GMEM_HIGH_BASE, mem->boot_size - mem->low_size, E820_RAM },
	};
	uint32_t n = 0;

	for (unsigned i = 0; i < E820_MAX; i++) {
		if (!map[i].size)
			continue;
		put_le64(f->e820 + n, map[i].addr);
		put_le64(f->e820 + n + 8, map[i].size);
		put_le32(f->e820 + n + 16, map[i].type);
		n += E820_ENTRY;
	}
	return n;
}

static int firmware_make_tables(struct firmware *f, const struct acpi_tables_params *acpi, struct err *err)
{
	f->tables = calloc(1, ACPI_TABLES_MAX);
	if (!f->tables)
		return err_set(err, -ENOMEM, "out of memory");
	long n = acpi_tables_build(f->tables, ACPI_TABLES_MAX - GMEM_PAGE_SIZE, firmware_is_uefi(f) ? 0 : f->tables_at, acpi, err);
	if (n < 0)
		return (int)n;
	f->tables_len = (size_t)n;
	f->loader_len = firmware_is_uefi(f) ? firmware_loader_for_tables(f->loader, f->tables, f->tables_len) :
			firmware_loader_for_rsdp(f->loader);
	return f->loader_len ? 0 : err_set(err, -EINVAL, "firmware cannot be told of these ACPI tables");
}

uint64_t firmware_vmgenid(const struct gmem *mem)
{
	return mem->low_size - GMEM_PAGE_SIZE;
}

int firmware_describe(struct firmware *f, struct fwcfg *cfg, const struct gmem *mem,
		      const struct acpi_tables_params *acpi, struct err *err)
{
	f->tables_at = mem->low_size - ACPI_TABLES_MAX;
	int r = firmware_make_tables(f, acpi, err);
	if (r < 0)
		return r;
	fwcfg_add_number(cfg, FWCFG_NOGRAPHIC, 1, 2);           /* its console is the serial port */
	fwcfg_add_number(cfg, FWCFG_BOOT_MENU, 1, 2);
	fwcfg_add_file(cfg, "etc/e820", f->e820, firmware_make_e820(f, mem));
	fwcfg_add_file(cfg, FIRMWARE_RSDP_FILE, f->tables, RSDP_LEN);
	if (firmware_is_uefi(f))
		fwcfg_add_file(cfg, FIRMWARE_TABLES_FILE, f->tables, (uint32_t)f->tables_len);
	fwcfg_add_file(cfg, "etc/table-loader", f->loader, (uint32_t)f->loader_len);
	return 0;
}

int firmware_load(struct firmware *f, struct gmem *mem, struct err *err)
{
	uint64_t n = f->rom_len < SHADOW_MAX ? f->rom_len : SHADOW_MAX;

	if (gmem_write(mem, SHADOW_END - n, f->rom + f->rom_len - n, n) < 0 ||
	    (!firmware_is_uefi(f) && gmem_write(mem, f->tables_at, f->tables, f->tables_len) < 0))
		return err_set(err, -ENOSPC, "guest memory has no room for firmware");
	return 0;
}

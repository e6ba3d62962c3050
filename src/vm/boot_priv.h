/* SPDX-License-Identifier: Apache-2.0 */
/* boot_priv.h - what the kernel loaders share. */
#ifndef VM_BOOT_PRIV_H
#define VM_BOOT_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "cpu/x86/state.h"
#include "mem/gmem.h"
#include "vm/map.h"

struct err;

/* Low memory, used before the kernel has its own (all below 640 KiB, announced as RAM). */
enum {
	BOOT_GDT = 0x1000,
	BOOT_INFO = 0x6000,             /* PVH start info or multiboot information, up to 4 KiB */
	BOOT_ZERO_PAGE = 0x7000,        /* struct boot_params */
	BOOT_PAGE_TABLES = 0x8000,      /* 6 pages */
	BOOT_FREE = BOOT_PAGE_TABLES,   /* where a multiboot kernel may lie: it gets no page tables */
	BOOT_CMDLINE = 0x20000,
	BOOT_FREE_END = BOOT_CMDLINE,
	BOOT_LOW_RAM_END = 0x9fc00,
	BOOT_KERNEL_MIN = 0x100000,     /* other kernels stay above this */
};
#define BOOT_INITRD_MAX 0x7fffffffu     /* highest address of an initrd when the kernel names none */

struct boot_image {                     /* the kernel file's bytes */
	const uint8_t *data;
	size_t len;
};

struct boot_initrd {
	uint64_t addr, size;            /* 0, 0: none */
};

/* What one loader works on. */
struct boot_job {
	struct boot_image image;
	struct gmem *mem;
	const char *cmdline;
	uint64_t rsdp;
	struct x86_state *bsp;
	int initrd_fd;                  /* -1: none */
	const char *initrd_path;
	uint64_t initrd_size;
};

/* RAM and holes as guests are told: types as in E820. */
enum { BOOT_RAM = 1, BOOT_RESERVED = 2, BOOT_MAP_MAX = 8 };
struct boot_range {
	uint64_t addr, size;
	uint32_t type;
};
unsigned boot_memory_map(const struct gmem *mem, struct boot_range out[BOOT_MAP_MAX]);

int boot_put_cmdline(const struct boot_job *j, size_t max, struct err *err);
/* Read the initrd to the highest place that ends below TOP (exclusive) and above KERNEL_END. */
int boot_put_initrd(const struct boot_job *j, uint64_t top, uint64_t kernel_end, struct boot_initrd *out,
		    struct err *err);
/* True when a kernel may use LEN bytes at ADDR, as far as the loader's own tables go. */
static inline bool boot_is_kernel_place(uint64_t addr, uint64_t len, bool may_be_low)
{
	return addr >= BOOT_KERNEL_MIN ||
	       (may_be_low && addr >= BOOT_FREE && addr < BOOT_FREE_END && len <= BOOT_FREE_END - addr);
}
/* Have the host give the whole pages of [ADDR, ADDR+LEN) at once. For what is written in full
 * right afterwards; a range that is not RAM is left alone. */
void boot_populate(struct gmem *mem, uint64_t addr, uint64_t len);
/* Copy LEN bytes to ADDR, which the loader knows or has checked to be RAM. */
int boot_put(const struct boot_job *j, uint64_t addr, const void *data, size_t len, struct err *err);

/* Entry states: 64-bit with identity page tables, 32-bit protected flat. */
int boot_enter_long(const struct boot_job *j, uint64_t rip, uint64_t rsi, struct err *err);
int boot_enter_flat(const struct boot_job *j, uint32_t eip, uint32_t eax, uint32_t ebx, struct err *err);

/* --- boot_elf.c --- */
struct boot_elf {
	bool is_64;
	uint64_t entry;                 /* physical */
	uint64_t end;                   /* end of the highest loaded segment */
	bool has_pvh;
	uint32_t pvh_entry;
};
bool boot_is_elf(struct boot_image image);
/* Check the headers for an x86 kernel and find entry points; loads nothing. */
int boot_elf_parse(struct boot_elf *out, struct boot_image image, struct err *err);
/* Copy the PT_LOAD segments to their physical addresses: above BOOT_KERNEL_MIN, or, with
 * MAY_BE_LOW, also between BOOT_FREE and BOOT_FREE_END. */
int boot_elf_load(const struct boot_elf *e, struct boot_image image, struct gmem *mem, bool may_be_low,
		  struct err *err);

/* --- boot_linux.c --- */
bool boot_is_bzimage(struct boot_image image);
int boot_linux_bzimage(const struct boot_job *j, struct err *err);
int boot_linux_elf(const struct boot_job *j, const struct boot_elf *e, struct err *err);

/* --- boot_pvh.c --- */
int boot_pvh(const struct boot_job *j, const struct boot_elf *e, struct err *err);

/* --- boot_multiboot.c --- */
bool boot_is_multiboot(struct boot_image image);
int boot_multiboot(const struct boot_job *j, struct err *err);

#endif

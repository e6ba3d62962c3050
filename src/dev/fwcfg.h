/* SPDX-License-Identifier: Apache-2.0 */
/* fwcfg.h - the firmware configuration device: named pieces of data that firmware reads by ports.
 *
 * QEMU docs/specs/fw_cfg.rst: selector and data at two ports, and a DMA register. Read only; writes and
 * the memory-mapped form are left out. All calls hold bus_lock, fwcfg_add*() come before guests run. */
#ifndef DEV_FWCFG_H
#define DEV_FWCFG_H

#include <stddef.h>
#include <stdint.h>
#include "bus/bus.h"
#include "mem/gmem.h"
#include "util/fields.h"

enum {
	FWCFG_PORTS = 2, FWCFG_DMA_PORTS = 8,
	FWCFG_ITEMS_MAX = 32, FWCFG_NAME_MAX = 56,
	FWCFG_DMA_MAX = 16 << 20,       /* bytes of one transfer */
};

/* Items that have a number instead of a name. */
enum fwcfg_key {
	FWCFG_SIGNATURE = 0x00, FWCFG_ID = 0x01, FWCFG_RAM_SIZE = 0x03, FWCFG_NOGRAPHIC = 0x04, FWCFG_NB_CPUS = 0x05,
	FWCFG_BOOT_MENU = 0x0e, FWCFG_MAX_CPUS = 0x0f, FWCFG_FILE_DIR = 0x19, FWCFG_FILE_FIRST = 0x20,
};

struct fwcfg_item {
	uint16_t key;
	const uint8_t *data;            /* borrowed */
	uint32_t len;
};

/* What the guest can see besides the items. */
struct fwcfg_state {
	uint16_t selected;
	uint16_t reserved;
	uint32_t offset;                /* of the next byte */
	uint8_t dma[FWCFG_DMA_PORTS];   /* address register, big-endian */
};
extern const struct state_desc fwcfg_state_desc;

struct fwcfg {
	struct bus_region ports, dma;
	struct gmem *mem;
	struct fwcfg_state s;
	struct fwcfg_item item[FWCFG_ITEMS_MAX];
	unsigned n;
	uint16_t next_file;
	uint8_t dir[4 + 64 * FWCFG_ITEMS_MAX];  /* the directory of files as the guest reads it */
	uint8_t small[FWCFG_ITEMS_MAX][8];      /* data of numbers */
};

void fwcfg_init(struct fwcfg *f, struct gmem *mem);
void fwcfg_reset(struct fwcfg *f);
/* DATA (borrowed) of LEN bytes as item KEY, or as a file called NAME. More than FWCFG_ITEMS_MAX are a mistake
 * of ours. */
void fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, uint32_t len);
void fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, uint32_t len);
/* A number of SIZE bytes (1..8), little-endian. */
void fwcfg_add_number(struct fwcfg *f, uint16_t key, uint64_t value, unsigned size);

#endif

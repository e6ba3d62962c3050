/* SPDX-License-Identifier: Apache-2.0 */
/* The x86/HVM direct boot ABI ("PVH"): Xen docs/misc/pvh.pandoc and
 * xen/include/public/arch-x86/hvm/start_info.h. 32-bit entry, EBX = start info. */
#include "vm/boot_priv.h"

#include <string.h>
#include "util/endian.h"
#include "util/err.h"

enum {
	PVH_MAGIC = 0x336ec578,
	PVH_VERSION = 1,
	PVH_MODULE = 0x100,             /* offsets in the information page */
	PVH_MAP = 0x200,
	PVH_MAP_ENTRY = 24,
	PVH_INFO_LEN = PVH_MAP + BOOT_MAP_MAX * PVH_MAP_ENTRY,
};

int boot_pvh(const struct boot_job *j, const struct boot_elf *e, struct err *err)
{
	uint8_t info[PVH_INFO_LEN] = { 0 };
	struct boot_range map[BOOT_MAP_MAX];
	unsigned n = boot_memory_map(j->mem, map);
	struct boot_initrd rd = { 0 };
	int r = boot_elf_load(e, j->image, j->mem, false, err);

	if (!r)
		r = boot_put_cmdline(j, 4095, err);
	if (!r)
		r = boot_put_initrd(j, BOOT_INITRD_MAX + 1ull, e->end, &rd, err);
	if (r < 0)
		return r;
	put_le32(info, PVH_MAGIC);
	put_le32(info + 4, PVH_VERSION);
	put_le32(info + 12, rd.size ? 1 : 0);                   /* modules */
	put_le64(info + 16, rd.size ? BOOT_INFO + PVH_MODULE : 0);
	put_le64(info + 24, BOOT_CMDLINE);
	put_le64(info + 32, j->rsdp);
	put_le64(info + 40, BOOT_INFO + PVH_MAP);
	put_le32(info + 48, n);
	put_le64(info + PVH_MODULE, rd.addr);
	put_le64(info + PVH_MODULE + 8, rd.size);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *m = info + PVH_MAP + i * PVH_MAP_ENTRY;

		put_le64(m, map[i].addr);
		put_le64(m + 8, map[i].size);
		put_le32(m + 16, map[i].type);
	}
	r = boot_put(j, BOOT_INFO, info, sizeof(info), err);
	return r < 0 ? r : boot_enter_flat(j, e->pvh_entry, 0, BOOT_INFO, err);
}

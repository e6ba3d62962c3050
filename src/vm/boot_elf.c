/* SPDX-License-Identifier: Apache-2.0 */
/* ELF kernels: System V ABI, chapter 4 and 5; the PVH note as in Xen's
 * docs/misc/pvh.pandoc (XEN_ELFNOTE_PHYS32_ENTRY). */
#include "vm/boot_priv.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"

enum { MAX_PHDRS = 64, MAX_NOTES = 256, XEN_ELFNOTE_PHYS32_ENTRY = 18 };

/* A program header of either class. */
struct phdr {
	uint32_t type;
	uint64_t offset, vaddr, paddr, filesz, memsz;
};

struct layout {
	uint64_t phoff, entry;
	uint16_t type, machine, phentsize, phnum;
};

bool boot_is_elf(struct boot_image image)
{
	return image.len >= EI_NIDENT && !memcmp(image.data, ELFMAG, SELFMAG);
}

static int elf_layout(struct layout *l, struct boot_image image, bool is_64, struct err *err)
{
	if (is_64) {
		Elf64_Ehdr h;

		if (image.len < sizeof(h))
			return err_set(err, -EINVAL, "ends inside its ELF header");
		memcpy(&h, image.data, sizeof(h));
		*l = (struct layout){ h.e_phoff, h.e_entry, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum };
	} else {
		Elf32_Ehdr h;

		if (image.len < sizeof(h))
			return err_set(err, -EINVAL, "ends inside its ELF header");
		memcpy(&h, image.data, sizeof(h));
		*l = (struct layout){ h.e_phoff, h.e_entry, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum };
	}
	return 0;
}

/* The header table has been checked to lie inside the file. */
static struct phdr elf_phdr(const struct layout *l, struct boot_image image, bool is_64, unsigned i)
{
	const uint8_t *p = image.data + l->phoff + (size_t)i * l->phentsize;

	if (is_64) {
		Elf64_Phdr h;

		memcpy(&h, p, sizeof(h));
		return (struct phdr){ h.p_type, h.p_offset, h.p_vaddr, h.p_paddr, h.p_filesz, h.p_memsz };
	}
	Elf32_Phdr h;
	memcpy(&h, p, sizeof(h));
	return (struct phdr){ h.p_type, h.p_offset, h.p_vaddr, h.p_paddr, h.p_filesz, h.p_memsz };
}

static int elf_check_header(const struct layout *l, struct boot_image image, bool is_64, struct err *err)
{
	size_t want = is_64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (image.data[EI_DATA] != ELFDATA2LSB)
		return err_set(err, -EINVAL, "is a big-endian ELF file, not an x86 kernel");
	if (l->machine != (is_64 ? EM_X86_64 : EM_386))
		return err_set(err, -EINVAL, "is an ELF file for another processor (machine %u), not for x86-64", l->machine);
	if (l->type != ET_EXEC && l->type != ET_DYN)
		return err_set(err, -EINVAL, "is an ELF file of type %u, not an executable", l->type);
	if (!l->phnum || l->phnum > MAX_PHDRS || l->phentsize < want)
		return err_set(err, -EINVAL, "has a damaged ELF header: %u program headers of %u bytes", l->phnum, l->phentsize);
	if (!range_fits(l->phoff, (uint64_t)l->phnum * l->phentsize, image.len))
		return err_set(err, -EINVAL, "ends before its ELF program headers");
	return 0;
}

/* Look for the PVH entry among the notes of one segment; damaged notes are no notes. */
static void elf_scan_notes(struct boot_elf *e, struct boot_image image, const struct phdr *ph)
{
	uint64_t at = ph->offset, end = ph->offset + ph->filesz;
	Elf64_Nhdr n; /* same layout in both classes */

	for (int i = 0; i < MAX_NOTES && range_fits(at, sizeof(n), end); i++) {
		memcpy(&n, image.data + at, sizeof(n));
		uint64_t name = at + sizeof(n), desc = name + align_up(n.n_namesz, 4);

		if (!range_fits(desc, n.n_descsz, end))
			return;
		if (n.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
		    !memcmp(image.data + name, "Xen", 4) && n.n_descsz >= 4) {
			e->has_pvh = true;
			memcpy(&e->pvh_entry, image.data + desc, 4); /* 8 bytes long in 64-bit files */
			return;
		}
		at = desc + align_up(n.n_descsz, 4);
	}
}

static int elf_refuse_low(const struct phdr *ph, struct err *err)
{
	return err_set(err, -EINVAL, "wants to be loaded at 0x%" PRIx64 ", below the first MiB's end, "
		       "which is the loader's", ph->paddr);
}

static int elf_check_segment(const struct phdr *ph, unsigned i, struct boot_image image, uint64_t *end, struct err *err)
{
	if (!range_fits(ph->offset, ph->filesz, image.len))
		return err_set(err, -EINVAL, "is cut short: segment %u ends beyond the file", i);
	if (ph->type != PT_LOAD)
		return 0;
	if (ph->filesz > ph->memsz || !u64_add(ph->paddr, ph->memsz, end))
		return err_set(err, -EINVAL, "has a damaged ELF program header %u", i);
	if (ph->memsz && !boot_is_kernel_place(ph->paddr, ph->memsz, true))
		return elf_refuse_low(ph, err);
	return 0;
}

int boot_elf_parse(struct boot_elf *out, struct boot_image image, struct err *err)
{
	struct boot_elf e = { .is_64 = image.data[EI_CLASS] == ELFCLASS64 };
	bool has_load = false, has_entry = false;
	struct layout l = { 0 };

	if (!e.is_64 && image.data[EI_CLASS] != ELFCLASS32)
		return err_set(err, -EINVAL, "has a damaged ELF header: class %u", image.data[EI_CLASS]);
	int r = elf_layout(&l, image, e.is_64, err);
	if (!r)
		r = elf_check_header(&l, image, e.is_64, err);
	for (unsigned i = 0; !r && i < l.phnum; i++) {
		struct phdr ph = elf_phdr(&l, image, e.is_64, i);
		uint64_t end = 0;

		r = elf_check_segment(&ph, i, image, &end, err);
		if (r < 0)
			return r;
		if (ph.type == PT_NOTE)
			elf_scan_notes(&e, image, &ph);
		if (ph.type != PT_LOAD || !ph.memsz)
			continue;
		has_load = true;
		if (end > e.end)
			e.end = end;
		/* Linux' entry is physical already; others may give a virtual one. */
		if (l.entry >= ph.paddr && l.entry < end) {
			e.entry = l.entry;
			has_entry = true;
		} else if (!has_entry && l.entry >= ph.vaddr && l.entry - ph.vaddr < ph.memsz) {
			e.entry = ph.paddr + (l.entry - ph.vaddr);
			has_entry = true;
		}
	}
	if (r < 0)
		return r;
	if (!has_load)
		return err_set(err, -EINVAL, "has nothing to load: no PT_LOAD segment");
	if (!has_entry && !e.has_pvh)
		return err_set(err, -EINVAL, "has its entry point at 0x%" PRIx64 ", outside of what it loads", l.entry);
	*out = e;
	return 0;
}

int boot_elf_load(const struct boot_elf *e, struct boot_image image, struct gmem *mem, bool may_be_low,
		  struct err *err)
{
	struct layout l = { 0 };
	int r = elf_layout(&l, image, e->is_64, err);

	for (unsigned i = 0; !r && i < l.phnum; i++) {
		struct phdr ph = elf_phdr(&l, image, e->is_64, i);

		if (ph.type != PT_LOAD || !ph.memsz)
			continue;
		if (!boot_is_kernel_place(ph.paddr, ph.memsz, may_be_low))
			return elf_refuse_low(&ph, err);
		if (!gmem_ptr(mem, ph.paddr, ph.memsz))
			return err_set(err, -ENOSPC, "needs memory from 0x%" PRIx64 " to 0x%" PRIx64
				       ", but the guest has only %" PRIu64 " MiB; give it more with --memory",
				       ph.paddr, ph.paddr + ph.memsz, mem->size >> 20);
		boot_populate(mem, ph.paddr, ph.filesz);
		r = gmem_write(mem, ph.paddr, image.data + ph.offset, ph.filesz);
		if (!r)
			r = gmem_fill(mem, ph.paddr + ph.filesz, 0, ph.memsz - ph.filesz);
		if (r < 0)
			return err_set(err, r, "segment %u does not fit in guest memory", i);
	}
	return r;
}

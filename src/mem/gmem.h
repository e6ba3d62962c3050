/* SPDX-License-Identifier: Apache-2.0 */
/* gmem.h - the guest's physical memory, and the only way from a guest address to bytes.
 *
 * All RAM is one memfd, mapped once: guest RAM below the PCI hole first, the rest at 4 GiB. The RAM of
 * a restored machine may be a private mapping of the saved file instead, so that it need not be read
 * before the guest runs; then no other process can share it.
 * Any thread may translate and copy at any time; the guest is running and may rewrite every
 * byte under the reader. Copy once, validate the copy, use the copy.
 *
 * A ROM may lie elsewhere in the guest's addresses. Engines read and execute it as they do RAM, by an offset behind
 * RAM's; for everybody else it is none: it is neither written, nor saved, nor counted in SIZE.
 *
 * Page flags. Each 4 KiB page has one byte of flags that writers look at *after* they have
 * stored: if it is not 0, they call gmem_note_write(). A flag is raised by gmem_flag_set(),
 * which orders all threads (membarrier), so that a store either is visible to whoever raised
 * the flag or sees the flag. That makes the common store cost one byte load and no fence. */
#ifndef MEM_GMEM_H
#define MEM_GMEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include "util/cleanup.h"

struct err;

typedef uint64_t gpa_t;         /* guest-physical address */

enum {
	GMEM_PAGE_SHIFT = 12,
	GMEM_PAGE_SIZE = 1 << GMEM_PAGE_SHIFT,
};

#define GMEM_LOW_MAX (3ull << 30)       /* RAM below the hole ends here at the latest */
#define GMEM_HIGH_BASE (4ull << 30)     /* RAM above the hole starts here */
#define GMEM_MIN_SIZE (1ull << 20)
#define GMEM_MAX_SIZE (1ull << 40)
#define GMEM_ROM_MAX (8ull << 20)

enum { GMEM_CODE_PATIENCE = 16 };

enum gmem_page_flag {
	GMEM_PAGE_CODE = 1,     /* an engine holds decoded instructions of this page; goes down by
				 * itself at every GMEM_CODE_PATIENCEth store (page_gen) */
	GMEM_PAGE_CLEAN = 2,    /* the dirty log is on and this page has not been written since */
	GMEM_PAGE_WATCHED = 4,  /* stays up: an engine wants to see each of its stores (gmem_watch()) */
};

struct gmem {
	uint8_t *host;                  /* start of the mapping of all RAM */
	uint64_t size;                  /* bytes of RAM; multiple of GMEM_PAGE_SIZE */
	uint64_t low_size;              /* bytes of it at guest address 0 */
	uint64_t boot_size;             /* bytes of it, the first, that a guest is told of when it starts; usually all */
	uint64_t rom_base, rom_size;    /* guest address and bytes of a ROM; 0 bytes: none */
	int fd;                         /* the memfd; -1: RAM is a private mapping of a file */
	int base_fd, pagemap_fd;        /* of such: the file, /proc/self/pagemap; else -1 */
	uint64_t base_off;              /* where RAM begins in the file */
	_Atomic uint8_t *page_flags;    /* one per page of RAM, then of ROM; index = offset >> 12 */
	_Atomic uint32_t *page_gen;     /* bumped whenever a GMEM_PAGE_CODE page is written */
	_Atomic bool is_logging;        /* the dirty log is on */
	_Atomic bool is_lazy;           /* lazy.h: pages are owed, and nothing but the mapping at HOST may be used */
	/* Called after page_gen was bumped, by the writer's thread; NULL or set before guests run. */
	void (*code_written)(void *arg, uint64_t page);
	void *code_written_arg;
	_Atomic uint64_t *dirty;        /* bitmap of written pages while logging, else NULL */
	void (*more_dirty)(void *arg, uint64_t *bitmap);        /* another log: gmem_log_join(); NULL: none */
	void *more_dirty_arg;
};

/* Create SIZE bytes of zeroed guest RAM. -EINVAL for a size that is zero, not a multiple of
 * 4 KiB or out of bounds; -ENOMEM when the host refuses. */
int gmem_new(struct gmem **out, uint64_t size, struct err *err);
/* RAM that another process has made: its memfd FD (borrowed) of SIZE bytes. Both see what either writes. */
int gmem_new_shared(struct gmem **out, uint64_t size, int fd, struct err *err);
/* RAM whose contents are SIZE bytes at OFF (multiple of 4 KiB) of the file FD (borrowed), read when they
 * are touched; holes are zeroes. What is written stays here. The file must neither shrink nor change. */
int gmem_new_mapped(struct gmem **out, uint64_t size, int fd, uint64_t off, struct err *err);
/* The host reads such memory page by page at first, as a machine that has just been continued needs a few here and there
 * and waits for each. From here on it reads ahead, as it does with files. For other memory nothing. */
void gmem_read_ahead(const struct gmem *m);
/* Before anything runs in M: only the first BOOT bytes are for the start, and RAM below the hole is of them; the rest lies
 * above 4 GiB behind what does not fit there, or not below LOW_MAX, which is at most GMEM_LOW_MAX. */
void gmem_set_boot_size(struct gmem *m, uint64_t boot, uint64_t low_max);
/* Before anything runs in M, once: LEN bytes of DATA, copied, are what the guest finds at BASE. Both are multiples of 4 KiB, LEN is
 * at most GMEM_ROM_MAX, and no RAM is there. */
int gmem_set_rom(struct gmem *m, gpa_t base, const void *data, uint64_t len, struct err *err);
void gmem_free(struct gmem *m);         /* NULL is fine */
DEFINE_AUTO(struct gmem *, gmem_free)

/* Offset in the memfd of guest address GPA when [gpa, gpa+len) is RAM without a gap, else
 * UINT64_MAX. */
static inline uint64_t gmem_offset(const struct gmem *m, gpa_t gpa, uint64_t len)
{
	if (gpa < m->low_size && len <= m->low_size - gpa)
		return gpa;
	if (gpa >= GMEM_HIGH_BASE) {
		uint64_t off = gpa - GMEM_HIGH_BASE, high = m->size - m->low_size;

		if (off < high && len <= high - off)
			return m->low_size + off;
	}
	return UINT64_MAX;
}

/* The same for who only reads: [gpa, gpa+len) may be ROM as well, whose offsets begin at SIZE. */
static inline uint64_t gmem_offset_to_read(const struct gmem *m, gpa_t gpa, uint64_t len)
{
	uint64_t off = gpa - m->rom_base;

	if (gpa >= m->rom_base && off < m->rom_size && len <= m->rom_size - off)
		return m->size + off;
	return gmem_offset(m, gpa, len);
}

/* Guest address of an offset. */
static inline gpa_t gmem_gpa(const struct gmem *m, uint64_t off)
{
	if (off >= m->size)
		return m->rom_base + (off - m->size);
	return off < m->low_size ? off : GMEM_HIGH_BASE + (off - m->low_size);
}

/* Host address of [gpa, gpa+len), or NULL unless all of it is RAM. Who stores through it
 * calls gmem_wrote() afterwards. */
static inline void *gmem_ptr(const struct gmem *m, gpa_t gpa, uint64_t len)
{
	uint64_t off = gmem_offset(m, gpa, len);

	return off == UINT64_MAX ? NULL : m->host + off;
}

/* Copy; all or nothing. 0, or -EFAULT when any byte is not RAM. */
int gmem_read(const struct gmem *m, gpa_t gpa, void *buf, size_t len) __attribute__((warn_unused_result));
int gmem_write(struct gmem *m, gpa_t gpa, const void *buf, size_t len) __attribute__((warn_unused_result));
int gmem_fill(struct gmem *m, gpa_t gpa, uint8_t byte, uint64_t len) __attribute__((warn_unused_result));

/* The first range at or after offset FROM that may hold something else than zeroes: true, and [*START, *END),
 * multiples of 4 KiB. False: there is none. Nothing is touched by asking. No guest runs. */
bool gmem_next_data(const struct gmem *m, uint64_t from, uint64_t *start, uint64_t *end);

/* Give [off, off+len) of the memfd, multiples of 4 KiB, back to the host: the guest does not need what is in there, which
 * may be anything afterwards, zeroes for one, and takes no memory until it is touched. */
void gmem_discard(struct gmem *m, uint64_t off, uint64_t len);

/* After a store to [off, off+len) of the memfd by any means: tell the engines and the log. */
void gmem_wrote(struct gmem *m, uint64_t off, uint64_t len);

/* The slow half of gmem_wrote() for one page whose flags were seen not to be 0. */
void gmem_note_write(struct gmem *m, uint64_t page);

/* Raise FLAG on PAGE. On return every later store by any thread sees it, and every earlier
 * store is visible to this thread. Cheap when it is up already. */
void gmem_flag_set(struct gmem *m, uint64_t page, enum gmem_page_flag flag);

/* Dirty log: on (all pages clean), fetch-and-clear into BITMAP (one bit per page, LE words,
 * size/4096 bits) with pages clean again, off. One caller at a time. */
int gmem_log_start(struct gmem *m, struct err *err);
void gmem_log_fetch(struct gmem *m, uint64_t *bitmap);
void gmem_log_fetch_more(struct gmem *m, uint64_t *bitmap);     /* what is in BITMAP stays */
void gmem_log_stop(struct gmem *m);
/* Another log of the same memory, of an engine whose guest's stores are not seen here: FETCH adds ("or") what is in it to BITMAP and
 * empties it, and each fetch from here calls it. NULL: none (any more). While nothing is fetched. */
void gmem_log_join(struct gmem *m, void (*fetch)(void *arg, uint64_t *bitmap), void *arg);
/* Has nothing been written since the last fetch, for now? While logging. */
bool gmem_log_is_empty(const struct gmem *m);

/* Raise GMEM_PAGE_WATCHED on all pages, before anything runs in M. */
void gmem_watch(struct gmem *m);

#endif

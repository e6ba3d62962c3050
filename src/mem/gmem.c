/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/gmem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/membarrier.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include "mem/huge.h"
#include "util/err.h"

/* Order all threads of this process: what each has stored is visible to the caller, and what
 * the caller has stored is seen by their next loads. It pairs with the flag load that every
 * writer does after its store, which therefore needs no fence of its own. */
static void gmem_order_threads(void)
{
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

static void *gmem_map_table(uint64_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static uint64_t gmem_pages(const struct gmem *m)
{
	return m->size >> GMEM_PAGE_SHIFT;
}

/* Of the tables: RAM and the largest ROM. */
static uint64_t gmem_table_pages(const struct gmem *m)
{
	return gmem_pages(m) + (GMEM_ROM_MAX >> GMEM_PAGE_SHIFT);
}

static uint64_t gmem_log_words(const struct gmem *m)
{
	return (gmem_pages(m) + 63) / 64;
}

/* Addresses for RAM, at which large pages of the host are possible (huge.h), and a ROM behind it. */
static int gmem_reserve(struct gmem *m, struct err *err)
{
	uint64_t size = m->size + GMEM_ROM_MAX;
	uint8_t *p = mmap(NULL, size + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip = -(uintptr_t)p % HUGE_SIZE;

	if (p == MAP_FAILED)
		return err_set(err, -ENOMEM, "no room in this process for %" PRIu64 " MiB of guest memory: %s", m->size >> 20,
			       strerror(errno));
	if (skip)
		munmap(p, skip);
	if (skip < HUGE_SIZE)
		munmap(p + skip + size, HUGE_SIZE - skip);
	m->host = p + skip;
	return 0;
}

static int gmem_map_fd(struct gmem *m, struct err *err)
{
	if (mmap(m->host, m->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, m->fd, 0) == MAP_FAILED)
		return err_set(err, -ENOMEM, "cannot map %" PRIu64 " MiB of guest memory: %s",
			       m->size >> 20, strerror(errno));
	madvise(m->host, m->size, MADV_HUGEPAGE);       /* a hint: refusal costs only speed */
	return 0;
}

static int gmem_map_ram(struct gmem *m, struct err *err)
{
	m->fd = memfd_create("guest-ram", MFD_CLOEXEC);
	if (m->fd < 0)
		return err_set(err, -errno, "cannot create guest memory: %s", strerror(errno));
	if (ftruncate(m->fd, (off_t)m->size) < 0)
		return err_set(err, -ENOMEM, "cannot size guest memory to %" PRIu64 " MiB: %s",
			       m->size >> 20, strerror(errno));
	return gmem_map_fd(m, err);
}

static int gmem_map_shared(struct gmem *m, int fd, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->size)
		return err_set(err, -EINVAL, "what was handed over is not %" PRIu64 " MiB of guest memory", m->size >> 20);
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (m->fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	return gmem_map_fd(m, err);
}

static int gmem_map_file(struct gmem *m, int fd, uint64_t off, struct err *err)
{
	m->base_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	m->base_off = off;
	m->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC); /* -1: all pages count as touched */
	if (m->base_fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	if (mmap(m->host, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, m->base_fd,
		 (off_t)off) == MAP_FAILED)
		return err_set(err, -ENOMEM, "cannot map %" PRIu64 " MiB of saved guest memory: %s",
			       m->size >> 20, strerror(errno));
	madvise(m->host, m->size, MADV_RANDOM);         /* until gmem_read_ahead() */
	return 0;
}

void gmem_read_ahead(const struct gmem *m)
{
	if (m->base_fd >= 0)
		madvise(m->host, m->size, MADV_NORMAL);
}

void gmem_set_boot_size(struct gmem *m, uint64_t boot, uint64_t low_max)
{
	m->boot_size = boot;
	m->low_size = boot < low_max ? boot : low_max;
}

/* FD -1: new memory; OFF UINT64_MAX: FD is the memory itself. */
static int gmem_make(struct gmem **out, uint64_t size, int fd, uint64_t off, struct err *err)
{
	if (size < GMEM_MIN_SIZE || size > GMEM_MAX_SIZE || size % GMEM_PAGE_SIZE)
		return err_set(err, -EINVAL, "guest memory of %" PRIu64 " bytes is not a multiple of 4 KiB "
			       "from 1 MiB to 1 TiB", size);
	AUTO(gmem_free) struct gmem *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->fd = m->base_fd = m->pagemap_fd = -1;
	m->size = size;
	gmem_set_boot_size(m, size, GMEM_LOW_MAX);
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) < 0)
		return err_set(err, -errno, "the host kernel refuses membarrier(): %s", strerror(errno));
	int r = gmem_reserve(m, err);

	if (r >= 0)
		r = fd < 0 ? gmem_map_ram(m, err) : off == UINT64_MAX ? gmem_map_shared(m, fd, err) : gmem_map_file(m, fd, off, err);
	if (r < 0)
		return r;
	m->page_flags = gmem_map_table(gmem_table_pages(m));
	m->page_gen = gmem_map_table(gmem_table_pages(m) * sizeof(m->page_gen[0]));
	if (!m->page_flags || !m->page_gen)
		return err_set(err, -ENOMEM, "out of memory for the page table of guest memory");
	*out = take_ptr(&m);
	return 0;
}

int gmem_new(struct gmem **out, uint64_t size, struct err *err)
{
	return gmem_make(out, size, -1, 0, err);
}

int gmem_new_shared(struct gmem **out, uint64_t size, int fd, struct err *err)
{
	return gmem_make(out, size, fd, UINT64_MAX, err);
}

int gmem_new_mapped(struct gmem **out, uint64_t size, int fd, uint64_t off, struct err *err)
{
	return gmem_make(out, size, fd, off, err);
}

int gmem_set_rom(struct gmem *m, gpa_t base, const void *data, uint64_t len, struct err *err)
{
	uint8_t *p = m->host + m->size;

	if (!len || len > GMEM_ROM_MAX || (len | base) % GMEM_PAGE_SIZE || base + len < base || gmem_ptr(m, base, 1) ||
	    gmem_ptr(m, base + len - 1, 1))
		return err_set(err, -EINVAL, "a ROM of %" PRIu64 " bytes does not fit at address %" PRIx64, len, base);
	if (mmap(p, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return err_set(err, -ENOMEM, "no memory for a ROM: %s", strerror(errno));
	memcpy(p, data, len);
	mprotect(p, len, PROT_READ);    /* what writes to it nevertheless is wrong, and shall be seen */
	m->rom_base = base;
	m->rom_size = len;
	return 0;
}

void gmem_free(struct gmem *m)
{
	if (!m)
		return;
	if (m->host)
		munmap(m->host, m->size + GMEM_ROM_MAX);
	if (m->page_flags)
		munmap((void *)m->page_flags, gmem_table_pages(m));
	if (m->page_gen)
		munmap((void *)m->page_gen, gmem_table_pages(m) * sizeof(m->page_gen[0]));
	if (m->dirty)
		munmap((void *)m->dirty, gmem_log_words(m) * 8);
	auto_fd(&m->fd);
	auto_fd(&m->base_fd);
	auto_fd(&m->pagemap_fd);
	free(m);
}

/* --- what is not zero --- */

/* The first data of FD at or after offset AT, below LIMIT: *START, *END. A file system that cannot tell
 * says that all is data. False: none. */
static bool gmem_file_data(int fd, uint64_t at, uint64_t limit, uint64_t *start, uint64_t *end)
{
	off_t data = at < limit ? lseek(fd, (off_t)at, SEEK_DATA) : -1;

	if (data < 0 && (at >= limit || errno == ENXIO))
		return false;
	off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	*start = data < 0 ? at : (uint64_t)data;
	*end = hole < 0 || (uint64_t)hole > limit ? limit : (uint64_t)hole;
	return *start < limit;
}

/* The first page at or after FROM, below LIMIT, that this process has touched; LIMIT: none. */
static uint64_t gmem_next_touched(const struct gmem *m, uint64_t from, uint64_t limit)
{
	enum { BATCH = 512 };
	static const uint64_t present_or_swapped = 3ull << 62;  /* Linux Documentation/admin-guide/mm/pagemap.rst */
	uint64_t map[BATCH], page = (uintptr_t)m->host >> GMEM_PAGE_SHIFT;

	while (from < limit) {
		uint64_t left = (limit - from) >> GMEM_PAGE_SHIFT, n = left < BATCH ? left : BATCH;
		off_t at = (off_t)((page + (from >> GMEM_PAGE_SHIFT)) * sizeof(map[0]));

		if (m->pagemap_fd < 0 || pread(m->pagemap_fd, map, n * sizeof(map[0]), at) != (ssize_t)(n * sizeof(map[0])))
			return from;
		for (uint64_t i = 0; i < n; i++) {
			if (map[i] & present_or_swapped)
				return from + (i << GMEM_PAGE_SHIFT);
		}
		from += n << GMEM_PAGE_SHIFT;
	}
	return limit;
}

bool gmem_next_data(const struct gmem *m, uint64_t from, uint64_t *start, uint64_t *end)
{
	int fd = m->fd >= 0 ? m->fd : m->base_fd;
	uint64_t limit = m->base_off + m->size, s = limit, e = limit;
	bool found = gmem_file_data(fd, m->base_off + from, limit, &s, &e);

	s = (s - m->base_off) & ~(uint64_t)(GMEM_PAGE_SIZE - 1);
	e = (e - m->base_off + GMEM_PAGE_SIZE - 1) & ~(uint64_t)(GMEM_PAGE_SIZE - 1);
	if (s < from)
		s = from;
	if (m->fd < 0) {
		uint64_t touched = gmem_next_touched(m, from, s);

		if (touched < s) {
			s = touched;
			e = touched + GMEM_PAGE_SIZE;
			found = true;
		}
	}
	if (!found || s >= m->size)
		return false;
	*start = s;
	*end = e;
	return true;
}

int gmem_read(const struct gmem *m, gpa_t gpa, void *buf, size_t len)
{
	const void *p = gmem_ptr(m, gpa, len);

	if (!p)
		return -EFAULT;
	memcpy(buf, p, len);
	return 0;
}

int gmem_write(struct gmem *m, gpa_t gpa, const void *buf, size_t len)
{
	uint64_t off = gmem_offset(m, gpa, len);

	if (off == UINT64_MAX)
		return -EFAULT;
	memcpy(m->host + off, buf, len);
	gmem_wrote(m, off, len);
	return 0;
}

int gmem_fill(struct gmem *m, gpa_t gpa, uint8_t byte, uint64_t len)
{
	uint64_t off = gmem_offset(m, gpa, len);

	if (off == UINT64_MAX)
		return -EFAULT;
	memset(m->host + off, byte, len);
	gmem_wrote(m, off, len);
	return 0;
}

void gmem_discard(struct gmem *m, uint64_t off, uint64_t len)
{
	/* What fails has no effect: the memory stays where it is. A private mapping shows the file again. */
	if (m->fd >= 0)
		(void)fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
	else
		(void)madvise(m->host + off, len, MADV_DONTNEED);
	gmem_wrote(m, off, len);
}

void gmem_wrote(struct gmem *m, uint64_t off, uint64_t len)
{
	if (!len)
		return;
	/* The compiler must not move the flag loads before the caller's store; the processor
	 * may, and gmem_order_threads() makes up for that. */
	atomic_signal_fence(memory_order_seq_cst);
	for (uint64_t p = off >> GMEM_PAGE_SHIFT; p <= (off + len - 1) >> GMEM_PAGE_SHIFT; p++)
		if (atomic_load_explicit(&m->page_flags[p], memory_order_relaxed))
			gmem_note_write(m, p);
}

void gmem_note_write(struct gmem *m, uint64_t page)
{
	uint8_t flags = atomic_load_explicit(&m->page_flags[page], memory_order_acquire);

	if (flags & GMEM_PAGE_CODE) {
		/* What is stored to again and again is no longer code, or not only: its flag goes down,
		 * and who wants to hear of stores raises it again. Down before the generation: see
		 * icpu_watch_code(). */
		uint32_t next = atomic_load_explicit(&m->page_gen[page], memory_order_relaxed) + 1;

		if (next % GMEM_CODE_PATIENCE == 0)
			atomic_fetch_and(&m->page_flags[page], (uint8_t)~GMEM_PAGE_CODE);
		atomic_fetch_add_explicit(&m->page_gen[page], 1, memory_order_release);
		if (m->code_written)
			m->code_written(m->code_written_arg, page);
	}
	if (flags & GMEM_PAGE_CLEAN) {
		/* Flag down before bit up: a fetch in between leaves a page that is not clean and
		 * whose bit the next fetch finds. The other order could lose the page. */
		atomic_fetch_and(&m->page_flags[page], (uint8_t)~GMEM_PAGE_CLEAN);
		atomic_fetch_or(&m->dirty[page / 64], 1ull << (page % 64));
	}
}

void gmem_flag_set(struct gmem *m, uint64_t page, enum gmem_page_flag flag)
{
	if (atomic_load_explicit(&m->page_flags[page], memory_order_acquire) & flag)
		return;
	atomic_fetch_or(&m->page_flags[page], (uint8_t)flag);
	gmem_order_threads();
}

int gmem_log_start(struct gmem *m, struct err *err)
{
	/* Allocated once and kept: a late writer may still hold the pointer after a stop. */
	if (!m->dirty)
		m->dirty = gmem_map_table(gmem_log_words(m) * 8);
	if (!m->dirty)
		return err_set(err, -ENOMEM, "out of memory for the log of written guest pages");
	for (uint64_t w = 0; w < gmem_log_words(m); w++)
		atomic_store_explicit(&m->dirty[w], 0, memory_order_relaxed);
	for (uint64_t p = 0; p < gmem_pages(m); p++)
		atomic_fetch_or(&m->page_flags[p], GMEM_PAGE_CLEAN);
	atomic_store(&m->is_logging, true);
	gmem_order_threads();
	return 0;
}

void gmem_log_fetch_more(struct gmem *m, uint64_t *bitmap)
{
	for (uint64_t w = 0; w < gmem_log_words(m); w++) {
		uint64_t bits = atomic_load_explicit(&m->dirty[w], memory_order_relaxed) ?
				atomic_exchange(&m->dirty[w], 0) : 0;

		bitmap[w] |= bits;
		for (; bits; bits &= bits - 1)
			atomic_fetch_or(&m->page_flags[w * 64 + (unsigned)__builtin_ctzll(bits)], GMEM_PAGE_CLEAN);
	}
	if (m->more_dirty)
		m->more_dirty(m->more_dirty_arg, bitmap);
	/* Stores that saw no flag are visible from here on, to whoever copies these pages. */
	gmem_order_threads();
}

void gmem_log_join(struct gmem *m, void (*fetch)(void *arg, uint64_t *bitmap), void *arg)
{
	m->more_dirty = fetch;
	m->more_dirty_arg = arg;
}

void gmem_log_fetch(struct gmem *m, uint64_t *bitmap)
{
	memset(bitmap, 0, gmem_log_words(m) * sizeof(bitmap[0]));
	gmem_log_fetch_more(m, bitmap);
}

void gmem_log_stop(struct gmem *m)
{
	atomic_store(&m->is_logging, false);
	for (uint64_t p = 0; p < gmem_pages(m); p++)
		atomic_fetch_and(&m->page_flags[p], (uint8_t)~GMEM_PAGE_CLEAN);
}

bool gmem_log_is_empty(const struct gmem *m)
{
	for (uint64_t w = 0; w < gmem_log_words(m); w++)
		if (atomic_load_explicit(&m->dirty[w], memory_order_relaxed))
			return false;
	return true;
}

void gmem_watch(struct gmem *m)
{
	for (uint64_t p = 0; p < gmem_pages(m); p++)
		atomic_fetch_or(&m->page_flags[p], GMEM_PAGE_WATCHED);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "mem/lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "mem/gmem.h"
#include "mem/huge.h"
#include "util/err.h"

struct lazy {
	struct gmem *m;
	struct huge *huge;
	int fd;
	bool is_started;
	_Atomic uint64_t *owed;         /* a bit per page; goes down when it is in its place */
	_Atomic uint64_t left;
	uint64_t *told;                 /* by lazy_next() */
};

static uint64_t lazy_words(const struct lazy *l)
{
	return ((l->m->size >> GMEM_PAGE_SHIFT) + 63) / 64;
}

int lazy_open(struct err *err)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	AUTO_FD int dev = fd < 0 ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC) : -1;

	if (dev >= 0)
		fd = ioctl(dev, _IO(0xaa, 0) /* USERFAULTFD_IOC_NEW */, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_set(err, -EPERM, "this host does not let user %u take memory that comes later; give it /dev/userfaultfd, or set "
			       "vm.unprivileged_userfaultfd", geteuid());
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MISSING_SHMEM };
	if (ioctl(fd, UFFDIO_API, &api) < 0) {
		close(fd);
		return err_set(err, -ENOSYS, "this host's kernel cannot fill memory later");
	}
	return fd;
}

int lazy_new(struct lazy **out, struct gmem *m, struct huge *h, int fd, struct err *err)
{
	AUTO_FD int owned = fd;
	AUTO(lazy_free) struct lazy *l = calloc(1, sizeof(*l));

	if (m->fd < 0)
		return err_set(err, -ENOTSUP, "memory that is a file's cannot come later");
	if (!l)
		return err_set(err, -ENOMEM, "out of memory");
	l->m = m;
	l->huge = h;
	l->fd = take_fd(&owned);
	l->owed = calloc(lazy_words(l), sizeof(l->owed[0]));
	l->told = calloc(lazy_words(l), sizeof(l->told[0]));
	if (!l->owed || !l->told)
		return err_set(err, -ENOMEM, "out of memory");
	*out = take_ptr(&l);
	return 0;
}

void lazy_free(struct lazy *l)
{
	if (!l)
		return;
	auto_fd(&l->fd);        /* unregisters, and wakes who waits */
	if (l->is_started && l->huge)
		huge_hold(l->huge, false);
	if (l->is_started)
		atomic_store(&l->m->is_lazy, false);
	free((void *)l->owed);
	free(l->told);
	free(l);
}

void lazy_give_up(struct lazy *l)
{
	struct uffdio_range r = { (uintptr_t)l->m->host, l->m->size };

	(void)ioctl(l->fd, UFFDIO_UNREGISTER, &r);      /* wakes who waits */
}

int lazy_owe(struct lazy *l, uint64_t first, const uint64_t *words, uint64_t n)
{
	uint64_t pages = l->m->size >> GMEM_PAGE_SHIFT;

	if (first >= lazy_words(l) || n > lazy_words(l) - first)
		return -ERANGE;
	for (uint64_t w = 0; w < n; w++) {
		uint64_t have = atomic_load(&l->owed[first + w]), more = words[w] & ~have, room = pages - (first + w) * 64;

		if (room < 64 && more >> room)
			return -ERANGE;
		atomic_store(&l->owed[first + w], have | more);
		atomic_fetch_add(&l->left, (uint64_t)__builtin_popcountll(more));
	}
	return 0;
}

static bool lazy_owes(const struct lazy *l, uint64_t page)
{
	return atomic_load(&l->owed[page / 64]) >> (page % 64) & 1;
}

int lazy_start(struct lazy *l, struct err *err)
{
	struct uffdio_register r = {
		.range = { (uintptr_t)l->m->host, l->m->size }, .mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	uint64_t pages = l->m->size >> GMEM_PAGE_SHIFT;

	if (l->huge)
		huge_hold(l->huge, true);
	l->is_started = true;
	atomic_store(&l->m->is_lazy, true);
	for (uint64_t p = 0, n; p < pages; p += n ? n : 1) {
		for (n = 0; p + n < pages && lazy_owes(l, p + n);)
			n++;
		if (n && fallocate(l->m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(p << GMEM_PAGE_SHIFT),
				   (off_t)(n << GMEM_PAGE_SHIFT)) < 0)
			return err_set(err, -errno, "cannot make room for memory that comes later: %s", strerror(errno));
	}
	return ioctl(l->fd, UFFDIO_REGISTER, &r) < 0 ?
		err_set(err, -errno, "cannot watch for memory that comes later: %s", strerror(errno)) : 0;
}

/* --- who waits --- */

static void lazy_wake(const struct lazy *l, uint64_t page)
{
	struct uffdio_range r = { (uintptr_t)l->m->host + (page << GMEM_PAGE_SHIFT), GMEM_PAGE_SIZE };

	(void)ioctl(l->fd, UFFDIO_WAKE, &r);
}

static void lazy_give_zero(const struct lazy *l, uint64_t page)
{
	struct uffdio_zeropage z = { .range = { (uintptr_t)l->m->host + (page << GMEM_PAGE_SHIFT), GMEM_PAGE_SIZE } };

	if (ioctl(l->fd, UFFDIO_ZEROPAGE, &z) < 0)
		lazy_wake(l, page);     /* it is there, or is tried again */
}

int lazy_next(struct lazy *l, unsigned ms, uint64_t *page)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };
	struct uffd_msg msg;

	if (poll(&p, 1, (int)ms) <= 0 || read(l->fd, &msg, sizeof(msg)) != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
		return 0;
	uint64_t n = (msg.arg.pagefault.address - (uintptr_t)l->m->host) >> GMEM_PAGE_SHIFT;
	if (n >= l->m->size >> GMEM_PAGE_SHIFT)
		return 0;
	if (!lazy_owes(l, n)) {
		lazy_give_zero(l, n);
		return 0;
	}
	if (l->told[n / 64] >> (n % 64) & 1)
		return 0;
	l->told[n / 64] |= 1ull << (n % 64);
	*page = n;
	return 1;
}

uint64_t lazy_waited(const struct lazy *l, uint64_t from)
{
	uint64_t pages = l->m->size >> GMEM_PAGE_SHIFT;

	for (uint64_t p = from; p < pages; p++) {
		if (l->told[p / 64] >> (p % 64) & 1 && lazy_owes(l, p))
			return p;
	}
	return UINT64_MAX;
}

/* --- what comes --- */

/* One page, which is owed. */
static int lazy_place_page(struct lazy *l, uint64_t page, const uint8_t *p)
{
	struct uffdio_copy c = {
		.dst = (uintptr_t)l->m->host + (page << GMEM_PAGE_SHIFT), .src = (uintptr_t)p, .len = GMEM_PAGE_SIZE,
	};
	int r;

	do
		r = ioctl(l->fd, UFFDIO_COPY, &c) < 0 ? -errno : 0;
	while (r == -EAGAIN || r == -EINTR);
	if (r < 0 && r != -EEXIST)
		return r;
	uint64_t bit = 1ull << (page % 64);
	if (atomic_fetch_and(&l->owed[page / 64], ~bit) & bit)
		atomic_fetch_sub(&l->left, 1);
	if (r == -EEXIST)
		lazy_wake(l, page);
	return 0;
}

int lazy_place(struct lazy *l, uint64_t off, const uint8_t *p, size_t len, struct err *err)
{
	for (size_t at = 0; at < len; at += GMEM_PAGE_SIZE) {
		uint64_t page = (off + at) >> GMEM_PAGE_SHIFT;
		int r = lazy_owes(l, page) ? lazy_place_page(l, page, p + at) : 0;

		if (r < 0)
			return err_set(err, r, "cannot put guest memory in its place: %s", strerror(-r));
	}
	return 0;
}

uint64_t lazy_left(const struct lazy *l)
{
	return atomic_load(&l->left);
}

uint64_t lazy_word(const struct lazy *l, uint64_t n)
{
	return n < lazy_words(l) ? atomic_load(&l->owed[n]) : 0;
}

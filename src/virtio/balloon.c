/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/balloon.c - the memory balloon (VIRTIO 1.2, 5.5): pages that the driver has put into the balloon, and free pages
 * that it reports, are given back to the host. Runs on the loop thread.
 *
 * A page comes back as soon as the driver touches it again, whether it has said so or not: giving pages back is
 * all that is done, so nothing that a driver says wrongly can do more than lose its own data. Left out on purpose: free
 * page hints (migration sends what is free as it is, and reported pages are holes), poison values (a Linux that
 * poisons pages does not report them then). */
#include "virtio/balloon.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"

enum {
	F_STATS_VQ = 1, F_DEFLATE_ON_OOM = 2, F_PAGE_REPORTING = 5,
	Q_INFLATE = 0, Q_DEFLATE = 1, Q_STATS = 2, N_QUEUES = 5,
	QUEUE_SIZE = 128, IOV_MAX_HERE = 64,
	PFNS_MAX = 4096,                /* of one request; the rest of a longer one is not given back */
	STAT_LEN = 10,                  /* le16 tag, le64 value */
	CONFIG_TARGET = 0, CONFIG_ACTUAL = 4, CONFIG_LEN = 8,   /* 5.5.4; in pages of 4 KiB */
	PAGE = GMEM_PAGE_SIZE,
};

struct virtio_balloon {
	struct virtio_dev dev;
	struct virtio_balloon_config cfg;
	uint64_t stat[VIRTIO_BALLOON_N_STATS];
	uint64_t given_back;
	bool is_stale;                  /* somebody waits for new figures */
	bool wants_told;                /* ACTUAL has been written */
	uint32_t pfn[PFNS_MAX];
};

static struct log_guest guest_bad_page = LOG_GUEST("virtio-balloon: a page that is no RAM");

static const char *const stat_names[VIRTIO_BALLOON_N_STATS] = {
	"swap_in", "swap_out", "major_faults", "minor_faults", "free", "total", "available", "caches", "huge_allocs",
	"huge_failures",
};

const char *virtio_balloon_stat_name(enum virtio_balloon_stat s)
{
	return stat_names[s];
}

static struct virtio_balloon *balloon_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_balloon, dev);
}

static uint64_t balloon_config(const struct virtio_balloon *b, unsigned off)
{
	return (uint64_t)get_le32(b->dev.s.config + off) * PAGE;
}

static void balloon_discard(struct virtio_balloon *b, uint64_t off, uint64_t len)
{
	gmem_discard(b->dev.env.mem, off, len);
	b->given_back += len;
}

/* ---- inflate (5.5.6) ---- */

static int compare_pfns(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* N page numbers in B->pfn: one system call for each run of them. */
static void balloon_discard_pages(struct virtio_balloon *b, unsigned n)
{
	qsort(b->pfn, n, sizeof(b->pfn[0]), compare_pfns);
	for (unsigned i = 0; i < n;) {
		unsigned run = 1;

		while (i + run < n && b->pfn[i + run] - b->pfn[i] <= run)
			run++;
		uint64_t len = ((uint64_t)b->pfn[i + run - 1] - b->pfn[i] + 1) * PAGE;
		uint64_t off = gmem_offset(b->dev.env.mem, (gpa_t)b->pfn[i] * PAGE, len);

		if (off != UINT64_MAX)
			balloon_discard(b, off, len);
		else
			log_guest(&guest_bad_page, b->pfn[i]);
		i += run;
	}
}

static void balloon_inflate(struct virtio_balloon *b, const struct vq_chain *c)
{
	unsigned n = (unsigned)(vq_chain_read(c, 0, b->pfn, sizeof(b->pfn)) / sizeof(b->pfn[0]));

	for (unsigned i = 0; i < n; i++)
		b->pfn[i] = get_le32((const uint8_t *)&b->pfn[i]);
	balloon_discard_pages(b, n);
}

/* ---- free pages that are reported (5.5.6.7): the buffers are the pages ---- */

static void balloon_report(struct virtio_balloon *b, const struct vq_chain *c)
{
	const struct gmem *mem = b->dev.env.mem;

	for (unsigned i = c->n_out; i < c->n_out + c->n_in; i++) {
		/* Queue.c has made the pointer: it lies in RAM. */
		uint64_t off = (uint64_t)((uint8_t *)c->iov[i].iov_base - mem->host), end = off + c->iov[i].iov_len;

		off = align_up(off, PAGE);
		end &= ~(uint64_t)(PAGE - 1);
		if (off < end)
			balloon_discard(b, off, end - off);
	}
}

/* ---- statistics (5.5.6.3): the driver's buffer stays on its ring; it is handed back when new figures are wanted ---- */

static void balloon_read_stats(struct virtio_balloon *b, const struct vq_chain *c)
{
	for (unsigned i = 0; i < 2 * VIRTIO_BALLOON_N_STATS; i++) {
		uint8_t s[STAT_LEN];

		if (vq_chain_read(c, (size_t)i * STAT_LEN, s, STAT_LEN) < STAT_LEN)
			return;
		if (get_le16(s) < VIRTIO_BALLOON_N_STATS)
			b->stat[get_le16(s)] = get_le64(s + 2);
	}
}

static void balloon_run_stats(struct virtio_balloon *b)
{
	struct iovec iov[IOV_MAX_HERE];
	struct vq_chain c = { .iov = iov, .max = IOV_MAX_HERE };

	if (!virtio_pop(&b->dev, Q_STATS, &c))
		return;
	balloon_read_stats(b, &c);
	if (!b->is_stale) {
		virtio_unpop(&b->dev, Q_STATS, &c);
		return;
	}
	b->is_stale = false;
	virtio_put(&b->dev, Q_STATS, &c, 0);
	virtio_publish(&b->dev, Q_STATS);
}

/* ---- the device ---- */

/* Which queue is which depends on what the driver has taken: the specification numbers them by feature, drivers and
 * other devices without gaps. Without statistics, and without the hints that are not offered, both are understood. */
static bool balloon_is_report_queue(const struct virtio_dev *d, unsigned queue)
{
	return queue >= Q_STATS && virtio_has(d, F_PAGE_REPORTING) && (queue > Q_STATS || !virtio_has(d, F_STATS_VQ));
}

static void balloon_tell(struct virtio_balloon *b)
{
	uint64_t actual = balloon_config(b, CONFIG_ACTUAL);

	if (b->wants_told && b->cfg.reached && actual == balloon_config(b, CONFIG_TARGET))
		b->cfg.reached(b->cfg.arg, actual);
	b->wants_told = false;
}

static void balloon_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_balloon *b = balloon_of(d);
	struct iovec iov[IOV_MAX_HERE];
	struct vq_chain c = { .iov = iov, .max = IOV_MAX_HERE };

	balloon_tell(b);
	if (queue == Q_STATS && virtio_has(d, F_STATS_VQ)) {
		balloon_run_stats(b);
		return;
	}
	while (virtio_pop(d, queue, &c)) {
		if (queue == Q_INFLATE)
			balloon_inflate(b, &c);
		else if (balloon_is_report_queue(d, queue))
			balloon_report(b, &c);
		virtio_put(d, queue, &c, 0);
	}
	virtio_publish(d, queue);
}

static void balloon_config_write(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t value)
{
	uint8_t bytes[8];

	if (off < CONFIG_ACTUAL || size > 4)
		return;                 /* the target is ours */
	put_le64(bytes, value);
	memcpy(d->s.config + off, bytes, size);
	balloon_of(d)->wants_told = true;
	virtio_kick(d, Q_INFLATE);      /* the loop tells whoever wants to know */
}

static void balloon_forget_stats(struct virtio_balloon *b)
{
	memset(b->stat, 0xff, sizeof(b->stat));
	b->is_stale = false;
}

static void balloon_reset(struct virtio_dev *d)
{
	put_le32(d->s.config + CONFIG_ACTUAL, 0);
	balloon_forget_stats(balloon_of(d));
}

static void balloon_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(balloon_of(d));
}

static const struct virtio_ops balloon_ops = {
	.name = "virtio-balloon",
	.id = 5,
	.class_code = 0x00ff00,
	.run = balloon_run,
	.reset = balloon_reset,
	.config_write = balloon_config_write,
	.free = balloon_free,
};

int virtio_balloon_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_balloon_config *cfg,
		       struct err *err)
{
	struct virtio_balloon *b = calloc(1, sizeof(*b));

	if (!b)
		return err_set(err, -ENOMEM, "out of memory");
	b->cfg = *cfg;
	b->dev.ops = &balloon_ops;
	b->dev.env = *env;
	b->dev.features = VIRTIO_BIT(F_STATS_VQ) | VIRTIO_BIT(F_DEFLATE_ON_OOM) | VIRTIO_BIT(F_PAGE_REPORTING);
	b->dev.n_queues = N_QUEUES;
	b->dev.config_len = CONFIG_LEN;
	for (unsigned i = 0; i < N_QUEUES; i++)
		b->dev.queue[i].vq.size_max = QUEUE_SIZE;
	int r = virtio_init(&b->dev, err);

	if (r < 0) {
		free(b);
		return r;
	}
	*out = &b->dev;
	return 0;
}

int virtio_balloon_check(const struct virtio_dev *d, uint64_t size, struct err *err)
{
	if (size % PAGE)
		return err_set(err, -EINVAL, "the balloon's size must be a multiple of 4 KiB");
	if (size > d->env.mem->size)
		return err_set(err, -EINVAL, "the balloon cannot have more than the guest's %llu MiB",
			       (unsigned long long)(d->env.mem->size >> 20));
	return 0;
}

void virtio_balloon_set(struct virtio_dev *d, uint64_t size)
{
	uint8_t pages[4];

	put_le32(pages, (uint32_t)(size / PAGE));
	virtio_lock(d);
	virtio_config_set(d, CONFIG_TARGET, pages, sizeof(pages));
	virtio_unlock(d);
}

void virtio_balloon_get(struct virtio_dev *d, struct virtio_balloon_info *out)
{
	struct virtio_balloon *b = balloon_of(d);

	virtio_lock(d);
	*out = (struct virtio_balloon_info){
		.target = balloon_config(b, CONFIG_TARGET), .actual = balloon_config(b, CONFIG_ACTUAL),
		.given_back = b->given_back, .has_driver = d->s.status & VIRTIO_DRIVER_OK,
	};
	memcpy(out->stat, b->stat, sizeof(out->stat));
	b->is_stale = out->has_driver && virtio_has(d, F_STATS_VQ);
	if (b->is_stale)
		virtio_kick(d, Q_STATS);
	virtio_unlock(d);
}

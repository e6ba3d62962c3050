/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/blk.c - the block device (VIRTIO 1.2, 5.2) over a disk image.
 *
 * Requests go to the image with the driver's own buffers as I/O vectors, many at a time and
 * in any order. Without VIRTIO_BLK_F_FLUSH every write is followed by a flush (5.2.6.2).
 * Left out on purpose: SCSI passthrough, geometry, the writeback switch, secure erase, zones,
 * lifetime; more than one segment per discard. Runs on the loop thread. */
#include "virtio/blk.h"

#include <errno.h>
#include <string.h>
#include "blk/blk.h"
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"

enum { /* feature bits, 5.2.3 */
	BLK_F_SEG_MAX = 2, BLK_F_RO = 5, BLK_F_BLK_SIZE = 6, BLK_F_FLUSH = 9, BLK_F_TOPOLOGY = 10,
	BLK_F_MQ = 12, BLK_F_DISCARD = 13, BLK_F_WRITE_ZEROES = 14,
};

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2, S_PENDING = 0x100 /* ours: DONE will say */ };

struct blk_header { /* 5.2.6 */
	le32 type, reserved;
	le64 sector;
};
_Static_assert(sizeof(struct blk_header) == 16, "5.2.6");

struct blk_segment { /* struct virtio_blk_discard_write_zeroes */
	le64 sector;
	le32 n_sectors, flags;
};
_Static_assert(sizeof(struct blk_segment) == 16, "5.2.6");
enum { SEG_F_UNMAP = 1 };

struct blk_config { /* 5.2.4 */
	le64 capacity;
	le32 size_max, seg_max;
	uint8_t geometry[4];
	le32 blk_size;
	uint8_t physical_block_exp, alignment_offset;
	le16 min_io_size;
	le32 opt_io_size;
	uint8_t writeback, unused0;
	le16 num_queues;
	le32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
	le32 max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct blk_config) == 60, "5.2.4");

enum {
	BLK_QUEUE_SIZE = 256,
	BLK_SEG_MAX = 126,              /* data buffers of one request */
	BLK_IOV_MAX = BLK_SEG_MAX + 2,  /* and its header and status */
	BLK_REQUESTS = 64,              /* in flight per queue */
	BLK_DISCARD_SECTORS_MAX = 1 << 21, /* 1 GiB */
	BLK_ZEROES_SECTORS_MAX = 1 << 16,  /* 32 MiB: may have to be written out */
};

struct vblk_request {
	struct virtio_blk *owner;
	struct vblk_request *next_free;
	unsigned queue;
	struct blk_req io;
	struct vq_chain chain;
	uint8_t *status;                /* in guest memory */
	struct iovec iov[BLK_IOV_MAX];  /* the chain */
	struct iovec data[BLK_IOV_MAX]; /* what is moved: the chain without header and status */
};

struct virtio_blk {
	struct virtio_dev dev;
	struct blk *backend;
	char serial[VIRTIO_BLK_SERIAL_MAX];     /* padded with NUL */
	struct vblk_request *requests;          /* BLK_REQUESTS for each queue */
	struct vblk_request *free[VIRTIO_BLK_QUEUES_MAX];
	bool is_starved[VIRTIO_BLK_QUEUES_MAX]; /* the queue waits for a free request */
	bool is_in_batch;                       /* answers are shown at its end, in one go */
	bool has_answers[VIRTIO_BLK_QUEUES_MAX]; /* that are not yet shown */
};

static struct log_guest guest_bad_request = LOG_GUEST("virtio-blk: request without room for header and status");

static void vblk_done(struct blk_req *io, int result);

static int vblk_submit(struct vblk_request *r, enum blk_op op, uint64_t sector, uint64_t len)
{
	uint64_t size = blk_size(r->owner->backend), off;

	if (!u64_mul(sector, BLK_SECTOR, &off) || len % BLK_SECTOR || !range_fits(off, len, size))
		return S_IOERR;
	if (op != BLK_READ && op != BLK_FLUSH && blk_is_readonly(r->owner->backend))
		return S_IOERR;
	if (!len && op != BLK_FLUSH)
		return S_OK;
	r->io.op = op;
	r->io.off = off;
	r->io.len = len;
	blk_submit(r->owner->backend, &r->io);
	return S_PENDING;
}

static int vblk_read(struct vblk_request *r, uint64_t sector)
{
	const struct vq_chain *c = &r->chain;
	uint64_t len = c->in_len - 1u;

	r->io.n_iov = vq_slice(r->data, c->iov + c->n_out, c->n_in, 0, len);
	return vblk_submit(r, BLK_READ, sector, len);
}

static int vblk_write(struct vblk_request *r, uint64_t sector)
{
	const struct vq_chain *c = &r->chain;
	uint64_t len = c->out_len - sizeof(struct blk_header);

	r->io.n_iov = vq_slice(r->data, c->iov, c->n_out, sizeof(struct blk_header), len);
	return vblk_submit(r, BLK_WRITE, sector, len);
}

static int vblk_flush(struct vblk_request *r, uint64_t sector)
{
	return vblk_submit(r, BLK_FLUSH, 0, 0);
}

static int vblk_get_id(struct vblk_request *r, uint64_t sector)
{
	size_t room = r->chain.in_len - 1u;

	vq_chain_write(&r->chain, 0, r->owner->serial, room < VIRTIO_BLK_SERIAL_MAX ? room : VIRTIO_BLK_SERIAL_MAX);
	return S_OK;
}

/* Discard and write zeroes share a format: one segment, as the configuration space says. */
static int vblk_segment(struct vblk_request *r, enum blk_op op, uint32_t max_sectors, uint32_t allowed)
{
	struct blk_segment seg;

	if (r->chain.out_len != sizeof(struct blk_header) + sizeof(seg))
		return S_IOERR;
	vq_chain_read(&r->chain, sizeof(struct blk_header), &seg, sizeof(seg));

	uint32_t n = le32_get(seg.n_sectors), flags = le32_get(seg.flags);

	if (flags & ~allowed)
		return S_UNSUPP;
	if (n > max_sectors)
		return S_IOERR;
	r->io.may_unmap = flags & SEG_F_UNMAP;
	return vblk_submit(r, op, le64_get(seg.sector), (uint64_t)n * BLK_SECTOR);
}

static int vblk_discard(struct vblk_request *r, uint64_t sector)
{
	return vblk_segment(r, BLK_DISCARD, BLK_DISCARD_SECTORS_MAX, 0);
}

static int vblk_zeroes(struct vblk_request *r, uint64_t sector)
{
	return vblk_segment(r, BLK_ZEROES, BLK_ZEROES_SECTORS_MAX, SEG_F_UNMAP);
}

static const struct {
	uint32_t type;
	int feature;                    /* must be negotiated; -1: always there */
	int (*start)(struct vblk_request *r, uint64_t sector);  /* the status byte or S_PENDING */
} vblk_types[] = {
	{ T_IN,           -1,                 vblk_read },
	{ T_OUT,          -1,                 vblk_write },
	{ T_FLUSH,        -1,                 vblk_flush },
	{ T_GET_ID,       -1,                 vblk_get_id },
	{ T_DISCARD,      BLK_F_DISCARD,      vblk_discard },
	{ T_WRITE_ZEROES, BLK_F_WRITE_ZEROES, vblk_zeroes },
};

/* Begin the request whose chain is in R. */
static int vblk_start(struct vblk_request *r)
{
	struct blk_header h;

	vq_chain_read(&r->chain, 0, &h, sizeof(h));
	r->io = (struct blk_req){ .iov = r->data, .done = vblk_done, .arg = r };
	for (unsigned i = 0; i < ARRAY_LEN(vblk_types); i++) {
		if (vblk_types[i].type != le32_get(h.type))
			continue;
		if (vblk_types[i].feature >= 0 && !virtio_has(&r->owner->dev, (unsigned)vblk_types[i].feature))
			return S_UNSUPP;
		return vblk_types[i].start(r, le64_get(h.sector));
	}
	return S_UNSUPP;
}

/* The request goes back to the driver and to the free list. */
static void vblk_finish(struct vblk_request *r, uint8_t status)
{
	struct virtio_blk *b = r->owner;

	*r->status = status;
	virtio_put(&b->dev, r->queue, &r->chain, r->chain.in_len);
	r->next_free = b->free[r->queue];
	b->free[r->queue] = r;
}

static void vblk_show(struct virtio_blk *b)
{
	for (unsigned i = 0; i < b->dev.n_queues; i++) {
		if (b->has_answers[i])
			virtio_publish(&b->dev, i);
		b->has_answers[i] = false;
	}
}

/* The image has done its part. Loop thread, no locks held. */
static void vblk_done(struct blk_req *io, int result)
{
	struct vblk_request *r = io->arg;
	struct virtio_blk *b = r->owner;
	unsigned queue = r->queue;

	virtio_lock(&b->dev);
	if (!result && (io->op == BLK_READ || io->op == BLK_WRITE))
		virtio_count(io->op == BLK_READ ? &b->dev.stats.to_guest : &b->dev.stats.from_guest, io->len);
	if (!result && io->op == BLK_WRITE && !virtio_has(&b->dev, BLK_F_FLUSH)) {
		r->io = (struct blk_req){ .op = BLK_FLUSH, .done = vblk_done, .arg = r };
		blk_submit(b->backend, &r->io);
	} else {
		vblk_finish(r, result ? S_IOERR : S_OK);
		b->has_answers[queue] = true;
		if (!b->is_in_batch)
			vblk_show(b);
		if (b->is_starved[queue]) {
			b->is_starved[queue] = false;
			virtio_kick(&b->dev, queue);
		}
	}
	virtio_unlock(&b->dev);
}

static void vblk_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);
	struct vblk_request *r;

	b->is_starved[queue] = false;
	while ((r = b->free[queue])) {
		r->chain.iov = r->iov;
		r->chain.max = BLK_IOV_MAX;
		if (!virtio_pop(d, queue, &r->chain))
			break;
		if (r->chain.out_len < sizeof(struct blk_header) || !r->chain.in_len) {
			virtio_unpop(d, queue, &r->chain);
			virtio_break(d, &guest_bad_request, queue);
			break;
		}
		const struct iovec *last = &r->chain.iov[r->chain.n_out + r->chain.n_in - 1];

		r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
		b->free[queue] = r->next_free;

		int status = vblk_start(r);

		if (status != S_PENDING)
			vblk_finish(r, (uint8_t)status);
	}
	b->is_starved[queue] = !r;
	virtio_publish(d, queue);
}

/* What the page cache of the host answers is over when the doorbell has been served. */
static void vblk_before(struct virtio_dev *d)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);

	b->is_in_batch = true;
	blk_batch_begin(b->backend);
}

static bool vblk_after(struct virtio_dev *d)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);

	blk_batch_end(b->backend);
	b->is_in_batch = false;
	virtio_lock(d);
	vblk_show(b);
	virtio_unlock(d);
	return !blk_in_flight(b->backend);
}

static void vblk_reset(struct virtio_dev *d)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);

	memset(b->is_starved, 0, sizeof(b->is_starved));
}

/* Device lock held. */
static void vblk_tell_size(struct virtio_dev *d)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);
	le64 capacity = le64_of(blk_size(b->backend) / BLK_SECTOR);

	virtio_config_set(d, offsetof(struct blk_config, capacity), &capacity, sizeof(capacity));
}

static int vblk_restored(struct virtio_dev *d, struct err *err)
{
	vblk_tell_size(d);
	return 0;
}

static void vblk_free(struct virtio_dev *d)
{
	struct virtio_blk *b = container_of(d, struct virtio_blk, dev);

	virtio_fini(d);
	free(b->requests);
	free(b);
}

static const struct virtio_ops vblk_ops = {
	.name = "virtio-blk",
	.id = 2,
	.class_code = 0x010000,         /* mass storage, SCSI: what other implementations say */
	.run = vblk_run,
	.before = vblk_before,
	.after = vblk_after,
	.reset = vblk_reset,
	.restored = vblk_restored,
	.free = vblk_free,
};

static void vblk_set_config(struct virtio_blk *b)
{
	bool can_write = !blk_is_readonly(b->backend);
	bool can_discard = can_write && blk_can_discard(b->backend);
	unsigned block = blk_block_size(b->backend);
	struct blk_config c = {
		.capacity = le64_of(blk_size(b->backend) / BLK_SECTOR),
		.seg_max = le32_of(BLK_SEG_MAX),
		.blk_size = le32_of(BLK_SECTOR),
		.num_queues = le16_of((uint16_t)b->dev.n_queues),
	};

	if (is_pow2(block) && block > BLK_SECTOR && block <= 1u << 20) {
		c.physical_block_exp = (uint8_t)(__builtin_ctz(block) - 9);
		c.min_io_size = le16_of((uint16_t)(block / BLK_SECTOR));
	}
	b->dev.features = VIRTIO_BIT(BLK_F_SEG_MAX) | VIRTIO_BIT(BLK_F_BLK_SIZE) |
			  VIRTIO_BIT(BLK_F_FLUSH) | VIRTIO_BIT(BLK_F_TOPOLOGY);
	if (b->dev.n_queues > 1)
		b->dev.features |= VIRTIO_BIT(BLK_F_MQ);
	if (!can_write)
		b->dev.features |= VIRTIO_BIT(BLK_F_RO);
	if (can_write) {
		c.max_write_zeroes_sectors = le32_of(BLK_ZEROES_SECTORS_MAX);
		c.max_write_zeroes_seg = le32_of(1);
		c.write_zeroes_may_unmap = can_discard;
		b->dev.features |= VIRTIO_BIT(BLK_F_WRITE_ZEROES);
	}
	if (can_discard) {
		c.max_discard_sectors = le32_of(BLK_DISCARD_SECTORS_MAX);
		c.max_discard_seg = le32_of(1);
		c.discard_sector_alignment = le32_of(block >= BLK_SECTOR ? block / BLK_SECTOR : 1);
		b->dev.features |= VIRTIO_BIT(BLK_F_DISCARD);
	}
	memcpy(b->dev.s.config, &c, sizeof(c));
	b->dev.config_len = sizeof(c);
}

int virtio_blk_new(struct virtio_dev **out, const struct virtio_env *env,
		   const struct virtio_blk_config *cfg, struct err *err)
{
	unsigned n = cfg->n_queues ? cfg->n_queues : 1;
	size_t serial_len = cfg->serial ? strlen(cfg->serial) : 0;

	if (n > VIRTIO_BLK_QUEUES_MAX)
		return err_set(err, -EINVAL, "a disk has at most %d queues, not %u", VIRTIO_BLK_QUEUES_MAX, n);
	if (serial_len > VIRTIO_BLK_SERIAL_MAX)
		return err_set(err, -EINVAL, "serial number '%s' is longer than %d bytes", cfg->serial,
			       VIRTIO_BLK_SERIAL_MAX);

	struct virtio_blk *b = calloc(1, sizeof(*b));

	if (b)
		b->requests = calloc((size_t)n * BLK_REQUESTS, sizeof(b->requests[0]));
	if (!b || !b->requests) {
		free(b);
		return err_set(err, -ENOMEM, "out of memory");
	}
	b->dev.ops = &vblk_ops;
	b->dev.env = *env;
	b->dev.n_queues = n;
	b->backend = cfg->backend;
	if (serial_len)
		memcpy(b->serial, cfg->serial, serial_len);
	for (unsigned i = 0; i < n * BLK_REQUESTS; i++) {
		struct vblk_request *r = &b->requests[i];

		r->owner = b;
		r->queue = i / BLK_REQUESTS;
		r->next_free = b->free[r->queue];
		b->free[r->queue] = r;
	}
	for (unsigned i = 0; i < n; i++)
		b->dev.queue[i].vq.size_max = BLK_QUEUE_SIZE;
	vblk_set_config(b);

	int r = virtio_init(&b->dev, err);

	if (r < 0) {
		free(b->requests);
		free(b);
		return r;
	}
	*out = &b->dev;
	return 0;
}

void virtio_blk_resized(struct virtio_dev *d)
{
	virtio_lock(d);
	vblk_tell_size(d);
	virtio_unlock(d);
}

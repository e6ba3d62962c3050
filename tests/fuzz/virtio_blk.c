/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk before a hostile driver (virtio_rig.h), over a fake image whose requests end in the
 * order and with the result that the input wants. */
#include "virtio/blk.h"

#include <errno.h>
#include "blk/blk.h"
#include "virtio_rig.h"

enum { DISK_SIZE = 64 << 10, WAITING_MAX = 4096 };

struct blk {
	uint8_t data[DISK_SIZE];
	struct blk_req *waiting[WAITING_MAX];
	unsigned n;
	bool is_readonly, is_in_batch;
};
static struct blk image;

uint64_t blk_size(const struct blk *b) { return DISK_SIZE; }
bool blk_is_readonly(const struct blk *b) { return b->is_readonly; }
unsigned blk_block_size(const struct blk *b) { return 4096; }
bool blk_can_discard(const struct blk *b) { return !b->is_readonly; }
unsigned blk_in_flight(const struct blk *b) { return b->n; }

void blk_batch_begin(struct blk *b)
{
	FUZZ_CHECK(!b->is_in_batch);
	b->is_in_batch = true;
}

void blk_batch_end(struct blk *b)
{
	FUZZ_CHECK(b->is_in_batch);
	b->is_in_batch = false;
}

void blk_submit(struct blk *b, struct blk_req *r)
{
	uint64_t sum = 0;

	FUZZ_CHECK(b->n < WAITING_MAX);
	FUZZ_CHECK(r->op == BLK_FLUSH || (r->off <= DISK_SIZE && r->len <= DISK_SIZE - r->off && r->off % 512 == 0));
	if (r->op == BLK_READ || r->op == BLK_WRITE) {
		for (int i = 0; i < r->n_iov; i++)
			sum += r->iov[i].iov_len;
		FUZZ_CHECK(sum == r->len);
	}
	b->waiting[b->n++] = r;
}

static void complete(struct blk *b, unsigned i, int result)
{
	struct blk_req *r = b->waiting[i];
	uint64_t off = r->off;

	b->waiting[i] = b->waiting[--b->n];
	for (int k = 0; k < r->n_iov && !result && (r->op == BLK_READ || r->op == BLK_WRITE); k++) {
		if (r->op == BLK_READ)
			memcpy(r->iov[k].iov_base, b->data + off, r->iov[k].iov_len);
		else
			memcpy(b->data + off, r->iov[k].iov_base, r->iov[k].iov_len);
		off += r->iov[k].iov_len;
	}
	r->done(r, result);
}

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_blk_config cfg = { .backend = &image, .serial = "SN", .n_queues = 1 + (options >> 1 & 3) };
	struct virtio_dev *d = NULL;

	image = (struct blk){ .is_readonly = options & 0x80 };
	FUZZ_CHECK(virtio_blk_new(&d, &r->env, &cfg, NULL) == 0);
	return d;
}

static void outside(struct rig *r)
{
	uint8_t what = fuzz_u8(&r->f);

	if (what == 0xff)
		virtio_blk_resized(r->d);
	else if (image.n)
		complete(&image, what % image.n, what & 0x80 ? -EIO : 0);
}

static void settle(struct rig *r)
{
	for (unsigned i = 0; i < WAITING_MAX && image.n; i++)
		complete(&image, 0, 0);
	FUZZ_CHECK(!image.n);   /* a paused device starts nothing, but for the flush after a write */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside, .settle = settle };

	return rig_run(&target, data, len);
}

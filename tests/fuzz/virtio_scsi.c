/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-scsi before a hostile driver (virtio_rig.h), with two fake media that the outside takes out and puts in, and
 * whose requests end in the order and with the result that the input wants. */
#include "virtio/scsi.h"

#include <errno.h>
#include "blk/blk.h"
#include "virtio_rig.h"

enum { MEDIUM_SIZE = 64 << 10, WAITING_MAX = 256 };

struct blk {
	uint8_t data[MEDIUM_SIZE];
	struct blk_req *waiting[WAITING_MAX];
	unsigned n;
};
static struct blk media[2];
static struct blk *in_drive;

uint64_t blk_size(const struct blk *b) { return MEDIUM_SIZE; }
bool blk_is_readonly(const struct blk *b) { return true; }
unsigned blk_block_size(const struct blk *b) { return 4096; }
bool blk_can_discard(const struct blk *b) { return false; }
unsigned blk_in_flight(const struct blk *b) { return b->n; }

void blk_submit(struct blk *b, struct blk_req *r)
{
	uint64_t sum = 0;

	FUZZ_CHECK(b == in_drive && b->n < WAITING_MAX && r->op == BLK_READ && r->len);
	FUZZ_CHECK(r->off <= MEDIUM_SIZE && r->len <= MEDIUM_SIZE - r->off && r->off % 2048 == 0);
	for (int i = 0; i < r->n_iov; i++)
		sum += r->iov[i].iov_len;
	FUZZ_CHECK(sum == r->len);
	b->waiting[b->n++] = r;
}

static void complete(struct blk *b, unsigned i, int result)
{
	struct blk_req *r = b->waiting[i];
	uint64_t off = r->off;

	b->waiting[i] = b->waiting[--b->n];
	for (int k = 0; k < r->n_iov && !result; k++) {
		memcpy(r->iov[k].iov_base, b->data + off, r->iov[k].iov_len);
		off += r->iov[k].iov_len;
	}
	r->done(r, result);
}

static struct virtio_dev *make(struct rig *r, uint8_t options)
{
	struct virtio_scsi_config cfg = { .medium = options & 0x80 ? NULL : &media[0], .serial = "cd" };
	struct virtio_dev *d = NULL;

	media[0].n = media[1].n = 0;
	in_drive = cfg.medium;
	FUZZ_CHECK(virtio_scsi_new(&d, &r->env, &cfg, NULL) == 0);
	return d;
}

static void outside(struct rig *r)
{
	uint8_t what = fuzz_u8(&r->f);
	struct blk *b = &media[what & 1];

	switch (what >> 5) {
	case 7:
		FUZZ_CHECK(virtio_scsi_eject(r->d) == in_drive);
		in_drive = NULL;
		return;
	case 6:
		FUZZ_CHECK(virtio_scsi_eject(r->d) == in_drive);
		in_drive = b;
		virtio_scsi_insert(r->d, b);
		return;
	case 5:
		virtio_scsi_ask_eject(r->d);
		return;
	}
	if (b->n)
		complete(b, (what >> 1) % b->n, what & 0x80 ? -EIO : 0);
}

static void settle(struct rig *r)
{
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < WAITING_MAX && media[k].n; i++)
			complete(&media[k], 0, 0);
	FUZZ_CHECK(!media[0].n && !media[1].n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static const struct rig_target target = { .make = make, .outside = outside, .settle = settle };

	return rig_run(&target, data, len);
}

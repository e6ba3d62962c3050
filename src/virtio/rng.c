/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/rng.c - the entropy device (VIRTIO 1.2, 5.4). One request gets at most RNG_CHUNK
 * bytes, however large its buffer, so that a guest cannot keep the loop thread busy with one
 * descriptor; the driver asks again. Runs on the loop thread. */
#include "virtio/rng.h"

#include <errno.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/source.h"
#include "virtio/device.h"

enum { RNG_QUEUE_SIZE = 64, RNG_CHUNK = 1024, RNG_IOV_MAX = RNG_QUEUE_SIZE };

struct virtio_rng {
	struct virtio_dev dev;
};

static struct log_guest guest_no_room = LOG_GUEST("virtio-rng: request without a writable buffer");

static void vrng_run(struct virtio_dev *d, unsigned queue)
{
	struct iovec iov[RNG_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = RNG_IOV_MAX };
	uint8_t buf[RNG_CHUNK];

	while (virtio_pop(d, queue, &c)) {
		uint32_t len = c.in_len < RNG_CHUNK ? c.in_len : RNG_CHUNK;

		if (!len) {
			virtio_unpop(d, queue, &c);
			virtio_break(d, &guest_no_room, c.out_len);
			break;
		}
		source_random(d->env.source, buf, len);
		vq_chain_write(&c, 0, buf, len);
		virtio_put(d, queue, &c, len);
	}
	virtio_publish(d, queue);
}

static void vrng_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(container_of(d, struct virtio_rng, dev));
}

static const struct virtio_ops vrng_ops = {
	.name = "virtio-rng",
	.id = 4,
	.class_code = 0x00ff00,
	.run = vrng_run,
	.free = vrng_free,
};

int virtio_rng_new(struct virtio_dev **out, const struct virtio_env *env, struct err *err)
{
	struct virtio_rng *g = calloc(1, sizeof(*g));

	if (!g)
		return err_set(err, -ENOMEM, "out of memory");
	g->dev.ops = &vrng_ops;
	g->dev.env = *env;
	g->dev.n_queues = 1;
	g->dev.queue[0].vq.size_max = RNG_QUEUE_SIZE;

	int r = virtio_init(&g->dev, err);

	if (r < 0) {
		free(g);
		return r;
	}
	*out = &g->dev;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/mem.c - memory that comes and goes in blocks (VIRTIO 1.2, 5.15). The device says how much the driver is to have of a
 * region of guest addresses; the driver plugs and unplugs blocks until it has that. Runs on the loop thread.
 *
 * The whole region is RAM to the engines from the start, so that no memory map changes while processors run; what is not
 * plugged takes no memory of the host, and what is unplugged is given back. A guest that touches blocks
 * without plugging them gets memory all the same: up to the region's size, never more. Left out on purpose: proximity domains
 * (the board has one), the feature UNPLUGGED_INACCESSIBLE. */
#include "virtio/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/endian.h"
#include "util/err.h"
#include "virtio/device.h"

enum {
	QUEUE_SIZE = 64, IOV_MAX_HERE = 8,
	BLOCKS_MAX = 65536, BITMAP_LEN = BLOCKS_MAX / 8,
	REQ_LEN = 24, RESP_LEN = 10,
	/* 5.15.4 */
	CONFIG_BLOCK = 0, CONFIG_ADDR = 16, CONFIG_REGION = 24, CONFIG_USABLE = 32, CONFIG_PLUGGED = 40,
	CONFIG_REQUESTED = 48, CONFIG_LEN = 56,
	/* 5.15.6 */
	REQ_PLUG = 0, REQ_UNPLUG = 1, REQ_UNPLUG_ALL = 2, REQ_STATE = 3,
	RESP_ACK = 0, RESP_NACK = 1, RESP_ERROR = 3,
	STATE_PLUGGED = 0, STATE_UNPLUGGED = 1, STATE_MIXED = 2,
};
#define BLOCK_MIN (2ull << 20)

struct mem_state {
	uint8_t plugged[BITMAP_LEN];    /* a bit per block, lowest address first */
};

static const struct field mem_fields[] = { FIELD_RAW(struct mem_state, plugged, 1) };
const struct state_desc virtio_mem_state_desc = {
	.name = "virtio-mem", .version = 1, .size = sizeof(struct mem_state),
	.n_fields = ARRAY_LEN(mem_fields), .fields = mem_fields,
};

struct virtio_mem {
	struct virtio_dev dev;
	struct virtio_mem_config cfg;
	struct mem_state s;
	uint64_t block;                 /* bytes */
	unsigned n_blocks, n_plugged;
};

static struct log_guest guest_no_room = LOG_GUEST("virtio-mem: request without room for its answer");

static struct virtio_mem *mem_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_mem, dev);
}

static uint64_t mem_requested(const struct virtio_mem *v)
{
	return get_le64(v->dev.s.config + CONFIG_REQUESTED);
}

static bool mem_is_plugged(const struct virtio_mem *v, unsigned block)
{
	return v->s.plugged[block / 8] >> (block % 8) & 1;
}

/* How many of N blocks from FIRST on are plugged. */
static unsigned mem_count(const struct virtio_mem *v, unsigned first, unsigned n)
{
	unsigned sum = 0;

	for (unsigned i = first; i < first + n; i++)
		sum += mem_is_plugged(v, i);
	return sum;
}

static void mem_show_plugged(struct virtio_mem *v)
{
	put_le64(v->dev.s.config + CONFIG_PLUGGED, v->n_plugged * v->block);
}

static void mem_mark(struct virtio_mem *v, unsigned first, unsigned n, bool is_plugged)
{
	for (unsigned i = first; i < first + n; i++) {
		uint8_t bit = (uint8_t)(1u << (i % 8));

		v->n_plugged += is_plugged ? !(v->s.plugged[i / 8] & bit) : -(unsigned)!!(v->s.plugged[i / 8] & bit);
		v->s.plugged[i / 8] = (uint8_t)(is_plugged ? v->s.plugged[i / 8] | bit : v->s.plugged[i / 8] & ~bit);
	}
	mem_show_plugged(v);
}

static void mem_discard(struct virtio_mem *v, unsigned first, unsigned n)
{
	uint64_t off = gmem_offset(v->dev.env.mem, v->cfg.addr + first * v->block, n * v->block);

	if (off != UINT64_MAX)
		gmem_discard(v->dev.env.mem, off, n * v->block);
}

/* ---- requests (5.15.6) ---- */

struct mem_range {
	unsigned first, n;
};

/* Is what the request names a range of blocks? */
static bool mem_parse_range(const struct virtio_mem *v, const uint8_t req[REQ_LEN], struct mem_range *out)
{
	uint64_t addr = get_le64(req + 8), off = addr - v->cfg.addr, n = get_le16(req + 16);

	if (addr < v->cfg.addr || off % v->block || !n || off / v->block >= v->n_blocks || n > v->n_blocks - off / v->block)
		return false;
	*out = (struct mem_range){ (unsigned)(off / v->block), (unsigned)n };
	return true;
}

static unsigned mem_plug(struct virtio_mem *v, const struct mem_range *r)
{
	if (mem_count(v, r->first, r->n))
		return RESP_ERROR;
	if ((v->n_plugged + r->n) * v->block > mem_requested(v))
		return RESP_NACK;
	mem_mark(v, r->first, r->n, true);
	return RESP_ACK;
}

static unsigned mem_unplug(struct virtio_mem *v, const struct mem_range *r)
{
	if (mem_count(v, r->first, r->n) != r->n)
		return RESP_ERROR;
	mem_discard(v, r->first, r->n);
	mem_mark(v, r->first, r->n, false);
	return RESP_ACK;
}

static unsigned mem_unplug_all(struct virtio_mem *v)
{
	mem_discard(v, 0, v->n_blocks);
	mem_mark(v, 0, v->n_blocks, false);
	return RESP_ACK;
}

static unsigned mem_tell_state(const struct virtio_mem *v, const struct mem_range *r)
{
	unsigned n = mem_count(v, r->first, r->n);

	return n == r->n ? STATE_PLUGGED : n ? STATE_MIXED : STATE_UNPLUGGED;
}

static void mem_answer(struct virtio_mem *v, const uint8_t req[REQ_LEN], uint8_t resp[RESP_LEN])
{
	unsigned type = get_le16(req), answer = RESP_ERROR;
	struct mem_range r;
	bool has_range = mem_parse_range(v, req, &r);

	memset(resp, 0, RESP_LEN);
	if (type == REQ_UNPLUG_ALL) {
		answer = mem_unplug_all(v);
	} else if (has_range && type == REQ_PLUG) {
		answer = mem_plug(v, &r);
	} else if (has_range && type == REQ_UNPLUG) {
		answer = mem_unplug(v, &r);
	} else if (has_range && type == REQ_STATE) {
		answer = RESP_ACK;
		put_le16(resp + 8, (uint16_t)mem_tell_state(v, &r));
	}
	put_le16(resp, (uint16_t)answer);
}

static void mem_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_mem *v = mem_of(d);
	struct iovec iov[IOV_MAX_HERE];
	struct vq_chain c = { .iov = iov, .max = IOV_MAX_HERE };
	unsigned before = v->n_plugged;

	while (virtio_pop(d, queue, &c)) {
		uint8_t req[REQ_LEN] = { 0 }, resp[RESP_LEN];

		if (c.in_len < RESP_LEN) {
			virtio_unpop(d, queue, &c);
			virtio_break(d, &guest_no_room, c.in_len);
			break;
		}
		(void)vq_chain_read(&c, 0, req, sizeof(req));   /* what is missing is zero */
		mem_answer(v, req, resp);
		vq_chain_write(&c, 0, resp, sizeof(resp));
		virtio_put(d, queue, &c, sizeof(resp));
	}
	virtio_publish(d, queue);
	if (v->n_plugged != before && v->cfg.reached && v->n_plugged * v->block == mem_requested(v))
		v->cfg.reached(v->cfg.arg, mem_requested(v));
}

/* ---- the device ---- */

/* All but what the user asks for follows from what it is. */
static void mem_fill_config(struct virtio_mem *v)
{
	uint8_t *c = v->dev.s.config;

	put_le64(c + CONFIG_BLOCK, v->block);
	put_le64(c + CONFIG_BLOCK + 8, 0);
	put_le64(c + CONFIG_ADDR, v->cfg.addr);
	put_le64(c + CONFIG_REGION, v->cfg.size);
	put_le64(c + CONFIG_USABLE, v->cfg.size);
	mem_show_plugged(v);
}

static int mem_restored(struct virtio_dev *d, struct err *err)
{
	struct virtio_mem *v = mem_of(d);
	uint64_t requested = mem_requested(v);

	v->n_plugged = mem_count(v, 0, v->n_blocks);
	mem_fill_config(v);
	if (requested > v->cfg.size || requested % v->block)
		return err_set(err, -EPROTO, "the saved driver is to have %" PRIu64 " bytes of a region of %" PRIu64, requested,
			       v->cfg.size);
	for (unsigned i = v->n_blocks; i < BLOCKS_MAX; i++)
		if (mem_is_plugged(v, i))
			return err_set(err, -EPROTO, "saved block %u lies outside the region", i);
	return 0;
}

static void mem_free(struct virtio_dev *d)
{
	virtio_fini(d);
	free(mem_of(d));
}

static const struct virtio_ops mem_ops = {
	.name = "virtio-mem",
	.id = 24,
	.class_code = 0x050000,
	.state = &virtio_mem_state_desc,
	.run = mem_run,
	.restored = mem_restored,
	.free = mem_free,
};

int virtio_mem_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_mem_config *cfg, struct err *err)
{
	struct virtio_mem *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(err, -ENOMEM, "out of memory");
	v->cfg = *cfg;
	v->block = BLOCK_MIN;
	while (v->cfg.size / v->block > BLOCKS_MAX)
		v->block *= 2;
	v->n_blocks = (unsigned)(v->cfg.size / v->block);
	v->dev.ops = &mem_ops;
	v->dev.ops_state = &v->s;
	v->dev.env = *env;
	v->dev.n_queues = 1;
	v->dev.config_len = CONFIG_LEN;
	v->dev.queue[0].vq.size_max = QUEUE_SIZE;
	int r = virtio_init(&v->dev, err);

	if (r < 0) {
		free(v);
		return r;
	}
	mem_fill_config(v);
	*out = &v->dev;
	return 0;
}

int virtio_mem_check(const struct virtio_dev *d, uint64_t size, struct err *err)
{
	const struct virtio_mem *v = container_of(d, const struct virtio_mem, dev);

	if (size > v->cfg.size)
		return err_set(err, -EINVAL, "at most %" PRIu64 " MiB can be added", v->cfg.size >> 20);
	if (size % v->block)
		return err_set(err, -EINVAL, "what is added must be a multiple of %" PRIu64 " MiB", v->block >> 20);
	return 0;
}

void virtio_mem_set(struct virtio_dev *d, uint64_t size)
{
	uint8_t bytes[8];

	put_le64(bytes, size);
	virtio_lock(d);
	virtio_config_set(d, CONFIG_REQUESTED, bytes, sizeof(bytes));
	virtio_unlock(d);
}

void virtio_mem_get(struct virtio_dev *d, struct virtio_mem_info *out)
{
	struct virtio_mem *v = mem_of(d);

	virtio_lock(d);
	*out = (struct virtio_mem_info){ v->block, mem_requested(v), v->n_plugged * v->block };
	virtio_unlock(d);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests (VIRTIO 1.2, 5.6.6.1): a command comes, is done by the unit, and answered at once or when the medium has
 * been read, straight into the driver's buffers. */
#include <errno.h>
#include <string.h>
#include "util/checked.h"
#include "virtio/scsi_priv.h"

struct request_header {
	uint8_t lun[8];
	le64 tag;
	uint8_t task_attr, prio, crn;
};
_Static_assert(sizeof(struct request_header) == 19, "5.6.6.1; the command follows");

struct response_header {
	le32 sense_len, residual;
	le16 status_qualifier;
	uint8_t status, response;
};
_Static_assert(sizeof(struct response_header) == 12, "5.6.6.1; sense data follow");

static struct log_guest guest_bad_request = LOG_GUEST("virtio-scsi: request without room for its headers");

enum { SENSE_SIZE_AT = 20, CDB_SIZE_AT = 24 };  /* in the configuration */

/* Where data begin in the writable part, and how many bytes there are. */
static uint32_t data_at(const struct vscsi_request *r)
{
	return (uint32_t)sizeof(struct response_header) + r->sense_room;
}

static uint32_t data_room(const struct vscsi_request *r)
{
	return r->chain.in_len - data_at(r);
}

/* The request goes back, with MOVED bytes of data in its buffers. A read that has failed may have written there, too. */
static void request_finish(struct vscsi_request *r, enum vscsi_response response, uint32_t moved)
{
	struct virtio_scsi *v = r->owner;
	const struct scsi_cmd *c = &r->cmd;
	bool has_sense = response == VSCSI_OK && c->status == SCSI_CHECK_CONDITION;
	uint32_t sense = !has_sense ? 0 : r->sense_room < SCSI_SENSE_LEN ? r->sense_room : SCSI_SENSE_LEN;
	uint32_t touched = r->is_reading ? (uint32_t)r->io.len : moved;
	struct response_header h = {
		.sense_len = le32_of(sense), .residual = le32_of(data_room(r) - moved),
		.status = response == VSCSI_OK ? c->status : 0, .response = (uint8_t)response,
	};

	vq_chain_write(&r->chain, 0, &h, sizeof(h));
	vq_chain_write(&r->chain, sizeof(h), c->sense, sense);
	r->is_reading = false;
	r->next_free = v->free;
	v->free = r;
	virtio_put(&v->dev, VSCSI_REQUESTS, &r->chain, touched ? data_at(r) + touched : (uint32_t)sizeof(h) + sense);
}

/* The medium has done its part. Loop thread, no locks held. */
static void request_done(struct blk_req *io, int result)
{
	struct vscsi_request *r = io->arg;
	struct virtio_scsi *v = r->owner;
	uint64_t n = io->len;

	virtio_lock(&v->dev);
	if (result) {
		scsi_fail(&r->cmd, SCSI_READ_ERROR);
		n = 0;
	} else {
		virtio_count(&v->dev.stats.to_guest, n);
	}
	/* What was read lies in the driver's memory, aborted or not. */
	request_finish(r, r->doom ? (enum vscsi_response)r->doom : VSCSI_OK, (uint32_t)n);
	vscsi_task_retry(v);
	virtio_publish(&v->dev, VSCSI_REQUESTS);
	if (v->is_starved) {
		v->is_starved = false;
		virtio_kick(&v->dev, VSCSI_REQUESTS);
	}
	virtio_unlock(&v->dev);
}

static void request_read(struct vscsi_request *r)
{
	const struct vq_chain *c = &r->chain;
	struct blk *medium = r->owner->unit.medium;

	r->is_reading = true;
	r->io = (struct blk_req){ .op = BLK_READ, .off = r->cmd.off, .len = r->cmd.n_bytes, .iov = r->data, .done = request_done, .arg = r };
	r->io.n_iov = vq_slice(r->data, c->iov + c->n_out, c->n_in, data_at(r), r->cmd.n_bytes);
	blk_submit(medium, &r->io);
}

static void request_start(struct vscsi_request *r)
{
	struct virtio_scsi *v = r->owner;
	struct scsi_cmd *c = &r->cmd;
	struct request_header h;
	uint32_t cdb = get_le32(v->dev.s.config + CDB_SIZE_AT), out = r->chain.out_len - (uint32_t)sizeof(h) - cdb;

	vq_chain_read(&r->chain, 0, &h, sizeof(h));
	memset(c->cdb, 0, sizeof(c->cdb));
	vq_chain_read(&r->chain, sizeof(h), c->cdb, cdb < SCSI_CDB_MAX ? cdb : SCSI_CDB_MAX);
	r->tag = le64_get(h.tag);
	r->doom = 0;
	enum vscsi_place place = vscsi_find(h.lun);

	/* VIRTIO_SCSI_F_INOUT is not offered. */
	if (place == VSCSI_NO_TARGET || (out && data_room(r))) {
		request_finish(r, place == VSCSI_NO_TARGET ? VSCSI_BAD_TARGET : VSCSI_FAILURE, 0);
		return;
	}
	scsi_unit_do(place == VSCSI_UNIT ? &v->unit : NULL, c);
	vscsi_tell_tray(v);
	if (c->n_bytes > data_room(r)) {
		request_finish(r, VSCSI_OVERRUN, 0);
	} else if (c->n_bytes) {
		request_read(r);
	} else {
		uint32_t n = c->len < data_room(r) ? c->len : data_room(r);

		vq_chain_write(&r->chain, data_at(r), c->reply, n);
		request_finish(r, VSCSI_OK, n);
	}
}

void vscsi_run_requests(struct virtio_scsi *v)
{
	struct vscsi_request *r;

	v->is_starved = false;
	while ((r = v->free)) {
		r->chain.iov = r->iov;
		r->chain.max = VSCSI_IOV_MAX;
		if (!virtio_pop(&v->dev, VSCSI_REQUESTS, &r->chain))
			break;
		r->sense_room = get_le32(v->dev.s.config + SENSE_SIZE_AT);
		if (r->chain.in_len < data_at(r) ||
		    r->chain.out_len < sizeof(struct request_header) + get_le32(v->dev.s.config + CDB_SIZE_AT)) {
			virtio_unpop(&v->dev, VSCSI_REQUESTS, &r->chain);
			virtio_break(&v->dev, &guest_bad_request, r->chain.in_len);
			break;
		}
		v->free = r->next_free;
		request_start(r);
	}
	v->is_starved = !r;
	virtio_publish(&v->dev, VSCSI_REQUESTS);
}

unsigned vscsi_doom(struct virtio_scsi *v, bool is_all, uint64_t tag, enum vscsi_response doom)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VSCSI_IN_FLIGHT; i++) {
		struct vscsi_request *r = &v->requests[i];

		if (!r->is_reading || (!is_all && r->tag != tag))
			continue;
		n++;
		if (doom)
			r->doom = (uint8_t)doom;
	}
	return n;
}

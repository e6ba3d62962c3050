/* SPDX-License-Identifier: Apache-2.0 */
/* virtio/scsi.c - the SCSI host (VIRTIO 1.2, 5.6): configuration, event queue, and the medium's coming and going. Target 0
 * has one logical unit, 0: scsi_unit.h. Requests are in scsi_request.c, the control queue is in scsi_control.c.
 *
 * Left out on purpose: more request queues, targets that come and go (the device
 * does), T10 protection, bidirectional commands, priorities. Runs on the loop thread. */
#include "virtio/scsi.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "virtio/scsi_priv.h"

struct scsi_config { /* 5.6.4 */
	le32 num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size, sense_size, cdb_size;
	le16 max_channel, max_target;
	le32 max_lun;
};
_Static_assert(sizeof(struct scsi_config) == 36, "5.6.4");

struct scsi_event { /* 5.6.6.3 */
	le32 event;
	uint8_t lun[8];
	le32 reason;
};
_Static_assert(sizeof(struct scsi_event) == 16, "5.6.6.3");

enum { EVENT_LEN = 16 };
enum { E_NONE = 0, E_ASYNC = 2 };
#define E_MISSED 0x80000000u

static struct log_guest guest_bad_event = LOG_GUEST("virtio-scsi: event buffer that is too short, length");
static struct log_guest guest_bad_config = LOG_GUEST("virtio-scsi: impossible length of sense data or commands");

static const struct field unit_fields[] = {
	FIELD(struct scsi_unit_state, attention, 1),
	FIELD(struct scsi_unit_state, event, 1),
	FIELD(struct scsi_unit_state, is_locked, 1),
	FIELD(struct scsi_unit_state, is_tray_open, 1),
};
static const struct state_desc unit_desc = {
	.name = "unit", .version = 1, .size = sizeof(struct scsi_unit_state), .n_fields = ARRAY_LEN(unit_fields), .fields = unit_fields,
};

static const struct field vscsi_fields[] = {
	FIELD_SUB(struct vscsi_state, unit, 1, &unit_desc),
	FIELD(struct vscsi_state, subscribed, 1),
	FIELD(struct vscsi_state, has_missed, 1),
};

static int vscsi_check(void *state, struct err *err)
{
	const struct vscsi_state *s = state;

	if (s->unit.attention > SCSI_ATTENTION_ALL || s->unit.event >= SCSI_MEDIA_N_EVENTS || s->unit.is_locked > 1 ||
	    s->unit.is_tray_open > 1 || s->has_missed > 1 || s->subscribed & ~(uint32_t)VSCSI_ASYNC_MEDIA)
		return err_set(err, -EPROTO, "a drive is in an impossible state");
	return 0;
}

const struct state_desc virtio_scsi_state_desc = {
	.name = "virtio-scsi", .version = 1, .size = sizeof(struct vscsi_state), .n_fields = ARRAY_LEN(vscsi_fields),
	.fields = vscsi_fields, .check = vscsi_check,
};

static struct virtio_scsi *vscsi_of(struct virtio_dev *d)
{
	return container_of(d, struct virtio_scsi, dev);
}

enum vscsi_place vscsi_find(const uint8_t lun[8])
{
	static const uint8_t report_luns[8] = { 0xc1, 0x01 };

	/* The well-known unit of this number knows REPORT LUNS, as any that is not there does. */
	if (!memcmp(lun, report_luns, sizeof(report_luns)))
		return VSCSI_NO_UNIT;
	if (lun[0] != 1 || lun[1] != 0)
		return VSCSI_NO_TARGET;
	/* One level: 0x40 and 0x00 both stand for a number below 16384. */
	return lun[2] & ~0x40 || lun[3] || lun[4] || lun[5] || lun[6] || lun[7] ? VSCSI_NO_UNIT : VSCSI_UNIT;
}

/* --- events --- */

/* Tell the driver EVENT and REASON of the unit, or that it has missed something. */
static void vscsi_send_event(struct virtio_scsi *v, uint32_t event, uint32_t reason)
{
	struct iovec iov[VSCSI_IOV_MAX];
	struct vq_chain c = { .iov = iov, .max = VSCSI_IOV_MAX };
	struct scsi_event e = { .event = le32_of(event | (v->s.has_missed ? E_MISSED : 0)), .lun = { 1 }, .reason = le32_of(reason) };

	if (!v->dev.queue[VSCSI_EVENTS].vq.s.is_enabled || !virtio_pop(&v->dev, VSCSI_EVENTS, &c)) {
		v->s.has_missed = event != E_NONE || v->s.has_missed;
		return;
	}
	if (c.in_len < EVENT_LEN) {
		virtio_unpop(&v->dev, VSCSI_EVENTS, &c);
		virtio_break(&v->dev, &guest_bad_event, c.in_len);
		return;
	}
	v->s.has_missed = 0;
	vq_chain_write(&c, 0, &e, sizeof(e));
	virtio_put(&v->dev, VSCSI_EVENTS, &c, sizeof(e));
	virtio_publish(&v->dev, VSCSI_EVENTS);
}

static void vscsi_media_event(struct virtio_scsi *v)
{
	if (v->s.subscribed & VSCSI_ASYNC_MEDIA)
		vscsi_send_event(v, E_ASYNC, VSCSI_ASYNC_MEDIA);
}

void vscsi_tell_tray(struct virtio_scsi *v)
{
	if (!v->unit.has_tray_moved)
		return;
	v->unit.has_tray_moved = false;
	vscsi_media_event(v);
	if (v->cfg.tray_moved)
		v->cfg.tray_moved(v->cfg.arg, v->s.unit.is_tray_open);
}

/* --- the medium --- */

void virtio_scsi_get(struct virtio_dev *d, struct virtio_scsi_info *out)
{
	virtio_lock(d);
	*out = (struct virtio_scsi_info){ vscsi_of(d)->s.unit.is_tray_open, vscsi_of(d)->s.unit.is_locked };
	virtio_unlock(d);
}

struct blk *virtio_scsi_eject(struct virtio_dev *d)
{
	struct virtio_scsi *v = vscsi_of(d);

	virtio_lock(d);
	struct blk *medium = v->unit.medium;

	scsi_unit_move_tray(&v->unit, true);
	v->unit.medium = NULL;
	v->unit.has_tray_moved = false;
	v->s.unit.is_locked = 0;
	vscsi_media_event(v);
	virtio_unlock(d);
	return medium;
}

void virtio_scsi_ask_eject(struct virtio_dev *d)
{
	struct virtio_scsi *v = vscsi_of(d);

	virtio_lock(d);
	v->s.unit.event = SCSI_MEDIA_EJECT_REQUEST;
	vscsi_media_event(v);
	virtio_unlock(d);
}

void virtio_scsi_insert(struct virtio_dev *d, struct blk *medium)
{
	struct virtio_scsi *v = vscsi_of(d);

	virtio_lock(d);
	v->unit.medium = medium;
	v->s.unit.is_tray_open = true;  /* as it was, or as it had to be */
	scsi_unit_move_tray(&v->unit, false);
	v->unit.has_tray_moved = false;
	vscsi_media_event(v);
	virtio_unlock(d);
}

/* --- the device --- */

static void vscsi_run(struct virtio_dev *d, unsigned queue)
{
	struct virtio_scsi *v = vscsi_of(d);

	if (queue == VSCSI_CONTROL)
		vscsi_run_control(v);
	else if (queue == VSCSI_EVENTS && v->s.has_missed)
		vscsi_send_event(v, E_NONE, 0);
	else if (queue == VSCSI_REQUESTS)
		vscsi_run_requests(v);
}

static void vscsi_fill_config(struct virtio_dev *d)
{
	struct scsi_config c = {
		.num_queues = le32_of(1), .seg_max = le32_of(VSCSI_SEG_MAX), .max_sectors = le32_of(2048),
		.cmd_per_lun = le32_of(VSCSI_IN_FLIGHT), .event_info_size = le32_of(EVENT_LEN),
		.sense_size = le32_of(VSCSI_SENSE_DEFAULT), .cdb_size = le32_of(VSCSI_CDB_DEFAULT),
	};

	memcpy(d->s.config, &c, sizeof(c));
	d->config_len = sizeof(c);
}

static void vscsi_reset(struct virtio_dev *d)
{
	struct virtio_scsi *v = vscsi_of(d);

	v->s.subscribed = 0;
	v->s.has_missed = 0;
	v->is_starved = false;
	scsi_unit_reset(&v->unit);
	vscsi_fill_config(d);
}

/* A reset has closed the tray. */
static void vscsi_stopped(struct virtio_dev *d)
{
	vscsi_tell_tray(vscsi_of(d));
}

static bool vscsi_config_is_good(const struct virtio_dev *d)
{
	return get_le32(d->s.config + offsetof(struct scsi_config, sense_size)) <= VSCSI_SENSE_MAX &&
	       get_le32(d->s.config + offsetof(struct scsi_config, cdb_size)) <= VSCSI_CDB_MAX;
}

/* 5.6.4: the driver may say how long sense data and commands are, in whole fields. */
static void vscsi_config_write(struct virtio_dev *d, uint64_t off, unsigned size, uint64_t value)
{
	if (size != 4 || (off != offsetof(struct scsi_config, sense_size) && off != offsetof(struct scsi_config, cdb_size)))
		return;
	uint32_t before = get_le32(d->s.config + off);

	put_le32(d->s.config + off, (uint32_t)value);
	if (vscsi_config_is_good(d))
		return;
	put_le32(d->s.config + off, before);
	virtio_break(d, &guest_bad_config, value);
}

static int vscsi_restored(struct virtio_dev *d, struct err *err)
{
	struct virtio_scsi *v = vscsi_of(d);

	v->unit.has_tray_moved = false;
	return vscsi_config_is_good(d) ? 0 : err_set(err, -EPROTO, "a SCSI host is in an impossible state");
}

static void vscsi_free(struct virtio_dev *d)
{
	struct virtio_scsi *v = vscsi_of(d);

	virtio_fini(d);
	free(v->requests);
	free(v);
}

static const struct virtio_ops vscsi_ops = {
	.name = "virtio-scsi",
	.id = 8,
	.class_code = 0x010000,         /* mass storage, SCSI */
	.state = &virtio_scsi_state_desc,
	.run = vscsi_run,
	.reset = vscsi_reset,
	.stopped = vscsi_stopped,
	.restored = vscsi_restored,
	.config_write = vscsi_config_write,
	.free = vscsi_free,
};

int virtio_scsi_new(struct virtio_dev **out, const struct virtio_env *env, const struct virtio_scsi_config *cfg, struct err *err)
{
	struct virtio_scsi *v = calloc(1, sizeof(*v));

	if (v)
		v->requests = calloc(VSCSI_IN_FLIGHT, sizeof(v->requests[0]));
	if (!v || !v->requests) {
		free(v);
		return err_set(err, -ENOMEM, "out of memory");
	}
	v->cfg = *cfg;
	v->dev.ops = &vscsi_ops;
	v->dev.ops_state = &v->s;
	v->dev.env = *env;
	v->dev.n_queues = VSCSI_QUEUES;
	v->unit.s = &v->s.unit;
	v->unit.medium = cfg->medium;
	snprintf(v->unit.serial, sizeof(v->unit.serial), "%s", cfg->serial ? cfg->serial : "");
	for (unsigned i = 0; i < VSCSI_QUEUES; i++)
		v->dev.queue[i].vq.size_max = VSCSI_QUEUE_SIZE;
	for (unsigned i = 0; i < VSCSI_IN_FLIGHT; i++) {
		v->requests[i].owner = v;
		v->requests[i].next_free = v->free;
		v->free = &v->requests[i];
	}
	vscsi_fill_config(&v->dev);
	int r = virtio_init(&v->dev, err);

	if (r < 0) {
		free(v->requests);
		free(v);
		return r;
	}
	*out = &v->dev;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The control queue (VIRTIO 1.2, 5.6.6.2): task management, and which events the driver wants.
 *
 * Task management knows what has been taken from the request queue. A request that is being read cannot be called back: who
 * aborts it is answered when it has ended, and no other control request is looked at meanwhile. */
#include "util/checked.h"
#include "virtio/scsi_priv.h"

struct task_header { /* struct virtio_scsi_ctrl_tmf, _an */
	le32 type;
	union {
		struct { le32 subtype; uint8_t lun[8]; le64 tag; } task;
		struct { uint8_t lun[8]; le32 wanted; } events;
	};
};
_Static_assert(sizeof(struct task_header) == 24, "5.6.6.2");

enum { T_TASK = 0, T_QUERY = 1, T_SUBSCRIBE = 2 };
enum { TASK_LEN = 24, QUERY_LEN = 16, QUERY_ANSWER_LEN = 5 };
enum {
	ABORT_TASK = 0, ABORT_TASK_SET = 1, CLEAR_ACA = 2, CLEAR_TASK_SET = 3, NEXUS_RESET = 4, UNIT_RESET = 5, QUERY_TASK = 6,
	QUERY_TASK_SET = 7,
};

static struct log_guest guest_bad_task = LOG_GUEST("virtio-scsi: control request that is too short, length");

static void task_answer(struct virtio_scsi *v, const struct vq_chain *c, enum vscsi_response response)
{
	uint8_t b = (uint8_t)response;

	vq_chain_write(c, 0, &b, 1);
	virtio_put(&v->dev, VSCSI_CONTROL, c, 1);
}

void vscsi_task_retry(struct virtio_scsi *v)
{
	if (!v->task.is_waiting)
		return;
	for (unsigned i = 0; i < VSCSI_IN_FLIGHT; i++)
		if (v->requests[i].is_reading && v->requests[i].doom)
			return;
	v->task.is_waiting = false;
	if (v->task.is_reset)
		scsi_unit_reset(&v->unit);
	vscsi_tell_tray(v);
	task_answer(v, &v->task.chain, VSCSI_OK);
	virtio_publish(&v->dev, VSCSI_CONTROL);
	virtio_kick(&v->dev, VSCSI_CONTROL);
}

/* 5.6.6.2. The chain is v->task's, which may be left waiting. */
static void task_manage(struct virtio_scsi *v, const struct task_header *h)
{
	uint32_t what = le32_get(h->task.subtype);
	uint64_t tag = le64_get(h->task.tag);
	enum vscsi_place place = vscsi_find(h->task.lun);
	enum vscsi_response response = VSCSI_OK;

	if (place == VSCSI_NO_TARGET || (place == VSCSI_NO_UNIT && what != NEXUS_RESET)) {
		task_answer(v, &v->task.chain, place == VSCSI_NO_TARGET ? VSCSI_BAD_TARGET : VSCSI_INCORRECT_LUN);
		return;
	}
	switch (what) {
	case ABORT_TASK:
	case ABORT_TASK_SET:
	case CLEAR_TASK_SET:
		v->task.is_reset = false;
		vscsi_doom(v, what != ABORT_TASK, tag, VSCSI_ABORTED);
		v->task.is_waiting = true;
		break;
	case NEXUS_RESET:
	case UNIT_RESET:
		v->task.is_reset = true;
		vscsi_doom(v, true, 0, VSCSI_RESET);
		v->task.is_waiting = true;
		break;
	case QUERY_TASK:
	case QUERY_TASK_SET:
		response = vscsi_doom(v, what == QUERY_TASK_SET, tag, VSCSI_OK) ? VSCSI_FUNCTION_SUCCEEDED : VSCSI_OK;
		break;
	default:
		response = VSCSI_FUNCTION_REJECTED;
	}
	if (v->task.is_waiting)
		vscsi_task_retry(v);
	else
		task_answer(v, &v->task.chain, response);
}

static void task_events(struct virtio_scsi *v, const struct task_header *h)
{
	enum vscsi_place place = vscsi_find(h->events.lun);
	uint32_t actual = place == VSCSI_UNIT ? le32_get(h->events.wanted) & VSCSI_ASYNC_MEDIA : 0;
	uint8_t answer[QUERY_ANSWER_LEN];

	if (place == VSCSI_UNIT && le32_get(h->type) == T_SUBSCRIBE)
		v->s.subscribed = actual;
	put_le32(answer, actual);
	answer[4] = place == VSCSI_UNIT ? VSCSI_OK : place == VSCSI_NO_UNIT ? VSCSI_INCORRECT_LUN : VSCSI_BAD_TARGET;
	vq_chain_write(&v->task.chain, 0, answer, sizeof(answer));
	virtio_put(&v->dev, VSCSI_CONTROL, &v->task.chain, sizeof(answer));
}

/* False: it is too short. */
static bool task_start(struct virtio_scsi *v)
{
	const struct vq_chain *c = &v->task.chain;
	struct task_header h = { 0 };

	vq_chain_read(c, 0, &h, sizeof(h));
	uint32_t type = le32_get(h.type);
	bool is_task = type == T_TASK, is_query = type == T_QUERY || type == T_SUBSCRIBE;

	if (c->out_len < sizeof(h.type) || !c->in_len || (is_task && c->out_len < TASK_LEN) ||
	    (is_query && (c->out_len < QUERY_LEN || c->in_len < QUERY_ANSWER_LEN)))
		return false;
	if (is_task)
		task_manage(v, &h);
	else if (is_query)
		task_events(v, &h);
	else
		task_answer(v, c, VSCSI_FUNCTION_REJECTED);
	return true;
}

void vscsi_run_control(struct virtio_scsi *v)
{
	while (!v->task.is_waiting) {
		v->task.chain.iov = v->task.iov;
		v->task.chain.max = VSCSI_IOV_MAX;
		if (!virtio_pop(&v->dev, VSCSI_CONTROL, &v->task.chain))
			break;
		if (!task_start(v)) {
			virtio_unpop(&v->dev, VSCSI_CONTROL, &v->task.chain);
			virtio_break(&v->dev, &guest_bad_task, v->task.chain.out_len);
			break;
		}
	}
	virtio_publish(&v->dev, VSCSI_CONTROL);
}

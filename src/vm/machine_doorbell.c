/* SPDX-License-Identifier: Apache-2.0 */
/* Doorbells of virtio queues that the engine rings by itself (KVM: ioeventfd), so that a kick
 * does not leave the kernel. They follow the BARs that the guest moves. Where the engine
 * refuses one, the kick comes as any other MMIO write. All under bus_lock. */
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"

enum { DOORBELL_SIZE = 2 };             /* VIRTIO 1.2, 4.1.5.2 */

/* Take a bell away from where it was. Its eventfd is needed for that, wherever the BAR is. */
static void doorbell_remove(struct machine *m, struct machine_doorbell *b)
{
	struct err err = ERR_INIT;

	if (m->ops->ioeventfd(m->vm, false, b->gpa, DOORBELL_SIZE, b->fd, &err) < 0)
		log_debug("doorbell: %s", err.msg);
	*b = (struct machine_doorbell){ 0 };
}

static void doorbell_add(struct machine *m, struct machine_doorbell *b, uint64_t gpa, int fd)
{
	struct err err = ERR_INIT;

	if (m->ops->ioeventfd(m->vm, true, gpa, DOORBELL_SIZE, fd, &err) < 0)
		log_debug("doorbell: %s", err.msg);
	else
		*b = (struct machine_doorbell){ gpa, fd };
}

/* Two passes: one bell may take the place that another leaves. */
void machine_update_doorbells_locked(void *arg)
{
	enum { REMOVE, ADD, N_PASSES };
	struct machine *m = arg;

	if (!m->vm || !m->ops->ioeventfd)
		return;
	for (unsigned i = 0; i < N_PASSES * m->n_virtio * VIRTIO_QUEUES_MAX; i++) {
		unsigned pass = i / (m->n_virtio * VIRTIO_QUEUES_MAX);
		unsigned d = i / VIRTIO_QUEUES_MAX % m->n_virtio, q = i % VIRTIO_QUEUES_MAX;
		struct machine_doorbell *b = &m->doorbell[d][q];
		uint64_t gpa = 0;
		int fd = -1;

		if (!virtio_doorbell(m->virtio[d], q, &fd, &gpa))
			gpa = 0;
		if (pass == REMOVE && b->gpa && b->gpa != gpa)
			doorbell_remove(m, b);
		else if (pass == ADD && gpa && !b->gpa)
			doorbell_add(m, b, gpa, fd);
	}
}

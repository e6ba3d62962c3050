/* SPDX-License-Identifier: Apache-2.0 */
/* Devices of which a machine has one or none: the console device, the source of entropy, the socket device, the balloon, memory that comes and goes, and
 * the guest agent's port. All but memory come and go while it runs (plug_single.c). */
#include <inttypes.h>
#include <stdio.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "util/err.h"
#include "virtio/balloon.h"
#include "virtio/mem.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/vsock_host.h"

/* Onto the bus, in the order in which a machine that is restored makes them. AT: where the machine has it. */
static int single_take(struct machine *m, struct virtio_dev *const *at, struct err *err)
{
	struct virtio_dev *const *const order[] = { &m->hvc, &m->rng, &m->vsock_dev, &m->balloon, &m->added, &m->agent_dev };
	unsigned place = m->cfg->n_disks + m->cfg->n_nets + m->cfg->n_cdroms;

	for (size_t i = 0; order[i] != at; i++)
		place += *order[i] != NULL;
	return machine_take(m, *at, place, err);
}

int machine_make_hvc(struct machine *m, struct err *err)
{
	int r = machine_new_hvc(m, err);

	return r ? r : single_take(m, &m->hvc, err);
}

int machine_make_rng(struct machine *m, struct err *err)
{
	int r = virtio_rng_new(&m->rng, &m->env, err);

	return r ? r : single_take(m, &m->rng, err);
}

int machine_make_vsock(struct machine *m, int listener, struct err *err)
{
	int r = virtio_vsock_new(&m->vsock_dev, &m->env, (uint32_t)m->cfg->vsock_cid, err);

	if (!r)
		r = single_take(m, &m->vsock_dev, err);
	return r ? r : vsock_host_open(&m->vsock, m->loop, m->vsock_dev, m->cfg->vsock, listener, err);
}

/* On the loop thread. */
static void machine_balloon_reached(void *arg, uint64_t actual)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, actual);
	machine_tell(arg, MACHINE_EV_BALLOON, text);
}

int machine_make_balloon(struct machine *m, struct err *err)
{
	struct virtio_balloon_config bc = { .reached = machine_balloon_reached, .arg = m };
	int r = virtio_balloon_new(&m->balloon, &m->env, &bc, err);

	return r ? r : single_take(m, &m->balloon, err);
}

static void machine_memory_reached(void *arg, uint64_t plugged)
{
	struct machine *m = arg;
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, m->cfg->memory + plugged);
	machine_tell(m, MACHINE_EV_MEMORY, text);
}

/* Memory that can come lies behind the rest above 4 GiB. */
static int machine_make_added(struct machine *m, struct err *err)
{
	struct virtio_mem_config mc = { .reached = machine_memory_reached, .arg = m };
	uint64_t at, size = config_memory(m->cfg, &at);

	if (size == at)
		return 0;
	mc.addr = GMEM_HIGH_BASE + at - m->mem->low_size;
	mc.size = size - at;
	int r = virtio_mem_new(&m->added, &m->env, &mc, err);

	return r ? r : single_take(m, &m->added, err);
}

int machine_make_agent(struct machine *m, struct err *err)
{
	int r = machine_new_agent(m, err);

	return r ? r : single_take(m, &m->agent_dev, err);
}

int machine_make_singles(struct machine *m, struct err *err)
{
	const struct config *c = m->cfg;
	int r = c->has_hvc ? machine_make_hvc(m, err) : 0;

	if (!r && c->has_rng)
		r = machine_make_rng(m, err);
	if (!r && c->vsock)
		r = machine_make_vsock(m, c->handed ? c->handed->vsock : -1, err);
	if (!r && c->has_balloon)
		r = machine_make_balloon(m, err);
	if (!r)
		r = machine_make_added(m, err);
	return r || !c->has_agent || !c->has_agent_device ? r : machine_make_agent(m, err);
}

void machine_forget_singles(struct machine *m)
{
	m->hvc = m->rng = m->vsock_dev = m->balloon = m->added = m->agent_dev = NULL;
}

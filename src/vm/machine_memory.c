/* SPDX-License-Identifier: Apache-2.0 */
/* The machine's memory: new, handed over, or a saved machine's. */
#include "mem/gmem.h"
#include "util/checked.h"
#include "vm/firmware.h"
#include "vm/handover.h"
#include "vm/machine_priv.h"
#include "vm/map.h"
#include "vm/state_file.h"

#define ALONE_NS 1000000000u            /* how long pages of a saved machine are read one by one */

static int machine_find_memory(struct machine *m, uint64_t size, struct err *err)
{
	if (!m->cfg->saved) {
		source_host_init(&m->source, 0);
		return gmem_new(&m->mem, size, err);
	}
	const struct handed *h = m->cfg->handed;
	int r = machine_load_clock(m, m->cfg->saved, err);

	if (!r && h && h->memory >= 0)
		return gmem_new_shared(&m->mem, size, h->memory, err);
	return r ? r : state_file_memory(m->cfg->saved, &m->mem, err);
}

bool machine_has_q35(const struct machine *m)
{
	return m->firmware && firmware_is_uefi(m->firmware);
}

static void machine_read_ahead(struct loop_timer *t)
{
	gmem_read_ahead(container_of(t, struct machine, read_ahead)->mem);
}

int machine_make_memory(struct machine *m, struct err *err)
{
	int r = machine_find_memory(m, config_memory(m->cfg, NULL), err);

	if (r)
		return r;
	gmem_set_boot_size(m->mem, m->cfg->memory, machine_has_q35(m) ? MAP_UEFI_LOW_MAX : GMEM_LOW_MAX);
	loop_timer_init(m->loop, &m->read_ahead, machine_read_ahead);
	if (m->cfg->saved)
		loop_timer_set(&m->read_ahead, loop_now_ns() + ALONE_NS);
	return m->firmware ? firmware_place_rom(m->firmware, m->mem, err) : 0;
}

void machine_drop_memory(struct machine *m)
{
	if (m->mem)
		loop_timer_cancel(&m->read_ahead);
	gmem_free(m->mem);
	m->mem = NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a machine: images behind fronts, and their names. */
#include <errno.h>
#include <string.h>
#include "blk/front.h"
#include "util/err.h"
#include "vm/machine_priv.h"

int machine_open_disk(struct machine *m, unsigned i, const struct blk_options *o, struct err *err)
{
	AUTO(blk_close) struct blk *top = NULL;
	struct blk *front = NULL;
	int r = blk_open(&top, m->loop, o, err);

	if (!r)
		r = blk_front_new(&front, top, err);
	if (r < 0)
		return r;
	take_ptr(&top);
	m->blk[i] = front;
	return blk_front_set_limits(front, &m->cfg->disks[i].limits, err);
}

int machine_find_disk(const struct machine *m, const char *name, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		if (!strcmp(config_disk_name(m->cfg, i, buf), name))
			return (int)i;
	return err_set(err, -ENOENT, "there is no disk '%.64s'; 'info' lists them", name);
}

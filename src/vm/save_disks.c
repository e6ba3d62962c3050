/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots inside a machine's disks that belong to its saved memory: taken while it stands still for the save,
 * named in the saved state, and what --restore --revert-disks goes back to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "blk/blk.h"
#include "util/err.h"
#include "util/log.h"
#include "virtio/blk.h"
#include "vm/machine_priv.h"

int machine_check_snapshot(const struct machine *m, const char *name, struct err *err)
{
	unsigned n = 0;

	if (!*name || strlen(name) >= MACHINE_SNAPSHOT_NAME)
		return err_set(err, -EINVAL, "snapshot: the name has 1 to %d bytes", MACHINE_SNAPSHOT_NAME - 1);
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		if (blk_is_readonly(m->blk[i]))
			continue;
		n++;
		if (strcmp(blk_format(m->blk[i]), "qcow2"))
			return err_set(err, -ENOTSUP,
				       "disk '%s' is a %s image, which takes no snapshots inside; put a qcow2 on top of it "
				       "with disk-snapshot, or save without one", blk_name(m->blk[i]),
					blk_format(m->blk[i]));
	}
	return n ? 0 : err_set(err, -EINVAL, "snapshot: the machine has no disk that it could change");
}

int machine_snapshot_disks(struct machine *m, const char *name, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++) {
		struct blk_snapshot *s = &m->disk_snapshot[i];

		*s = (struct blk_snapshot){ .icount = UINT64_MAX, .vm_clock_ns = source_now_ns(&m->source.s) };
		if (blk_is_readonly(m->blk[i]))
			continue;
		strcpy(s->name, name);
		r = blk_snapshot_create(m->blk[i], s, err);
		if (r < 0)
			s->id[0] = '\0';
	}
	if (r < 0)
		machine_drop_snapshots(m);
	return r;
}

void machine_drop_snapshots(struct machine *m)
{
	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		struct err err = ERR_INIT;

		if (m->disk_snapshot[i].id[0] && blk_snapshot_delete(m->blk[i], m->disk_snapshot[i].id, &err) < 0)
			log_warn("%s", err.msg);
	}
	machine_forget_snapshots(m);
}

void machine_forget_snapshots(struct machine *m)
{
	memset(m->disk_snapshot, 0, sizeof(m->disk_snapshot));
}

/* --- going back ----------------------------------------------------------------------------------- */

int machine_find_snapshot(struct machine *m, unsigned i, const struct blk_snapshot *wanted, struct err *err)
{
	AUTO(free) struct blk_snapshot *list = NULL;
	unsigned n = 0;
	int r = blk_snapshot_list(m->blk[i], &list, &n, err);

	for (unsigned k = 0; !r && k < n; k++) {
		/* One that was made later under the same name is another. */
		if (strcmp(list[k].id, wanted->id) || strcmp(list[k].name,
							     wanted->name) || list[k].date_s != wanted->date_s ||
		    list[k].date_ns != wanted->date_ns)
			continue;
		m->disk_snapshot[i] = list[k];
		return 0;
	}
	return r < 0 ? r : err_set(err, -ENOENT,
				   "disk '%s' has the snapshot '%s' no more that was taken with the saved machine",
				   blk_name(m->blk[i]), wanted->name);
}

int machine_revert_disks(struct machine *m, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++) {
		uint64_t size = blk_size(m->blk[i]);

		if (!m->disk_snapshot[i].id[0])
			continue;
		r = blk_snapshot_apply(m->blk[i], m->disk_snapshot[i].id, err);
		if (!r && blk_size(m->blk[i]) != size)
			virtio_blk_resized(m->disk_dev[i]);
	}
	machine_forget_snapshots(m);
	return r;
}

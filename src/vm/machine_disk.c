/* SPDX-License-Identifier: Apache-2.0 */
/* The disks of a machine: images behind fronts, and their names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blk/front.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"

int machine_find_disk(const struct machine *m, const char *name, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		if (!strcmp(config_disk_name(m->cfg, i, buf), name))
			return (int)i;
	return err_set(err, -ENOENT, "there is no disk '%.64s'; 'info' lists them", name);
}

unsigned machine_disk_of(const struct machine *m, const struct blk *front)
{
	unsigned i = 0;

	while (m->blk[i] != front)
		i++;
	return i;
}

void machine_disk_moved(struct machine *m, unsigned i)
{
	struct config_disk *c = &m->cfg->disks[i];
	char *path = strdup(blk_name(m->blk[i])), *format = strdup(blk_format(m->blk[i]));

	if (!path || !format) {
		log_error("disk '%s': out of memory; a saved machine will not find its image", blk_name(m->blk[i]));
		free(path);
		free(format);
		return;
	}
	free(c->path);
	free(c->format);
	c->path = path;
	c->format = format;
}

static void machine_job_told(void *arg, const struct blk_job_info *info, enum blk_job_event ev, const struct err *why)
{
	struct machine *m = arg;

	/* The disk stays where it is when a copy goes to where the machine does. */
	if (!migration_job_told(m, info, ev, why) && ev == BLK_JOB_COMPLETED)
		machine_disk_moved(m, machine_disk_of(m, info->front));
	if (ev == BLK_JOB_FAILED)
		log_error("job '%s' failed: %s", info->id, why->msg);
	if (m->job_observer)
		m->job_observer(m->job_observer_arg, info, ev, why);
}

int machine_open_disk(struct machine *m, unsigned i, struct blk_options *o, struct err *err)
{
	AUTO(blk_close) struct blk *top = NULL;
	struct blk *front = NULL;
	int r = blk_open(&top, m->loop, o, err);

	if (!r)
		o->fd = -1;
	if (!r)
		r = blk_front_new(&front, top, err);
	if (r < 0)
		return r;
	take_ptr(&top);
	m->blk[i] = front;
	m->jobs.tell = machine_job_told;
	m->jobs.arg = m;
	return blk_front_set_limits(front, &m->cfg->disks[i].limits, err);
}

void machine_end_jobs(struct machine *m)
{
	blk_jobs_end(&m->jobs);
	while (m->images)
		machine_drop_image(m, m->images);
}

/* --- images that have been handed over --- */

struct machine_image *machine_find_image(const struct machine *m, const char *id, struct err *err)
{
	for (struct machine_image *i = m->images; i; i = i->next)
		if (!strcmp(i->id, id))
			return i;
	err_set(err, -ENOENT, "there is no image '%.64s'; hand it over with 'image-add'", id);
	return NULL;
}

void machine_drop_image(struct machine *m, struct machine_image *i)
{
	struct machine_image **at = &m->images;

	while (*at != i)
		at = &(*at)->next;
	*at = i->next;
	close(i->fd);
	free(i->id);
	free(i->path);
	free(i->format);
	free(i->backing);
	free(i->backing_format);
	free(i);
}

void machine_set_job_observer(struct machine *m, blk_job_fn fn, void *arg)
{
	m->job_observer = fn;
	m->job_observer_arg = arg;
}

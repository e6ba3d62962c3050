/* SPDX-License-Identifier: Apache-2.0 */
/* The drives of a machine: each is a virtio SCSI host with one target, over an image that is only read. */
#include "vm/drive.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "util/err.h"
#include "util/log.h"
#include "virtio/scsi.h"
#include "vm/machine_priv.h"

/* Its number; that of all drives when it has left the machine. */
static unsigned drive_index(const struct machine_drive *d)
{
	unsigned i = 0;

	while (i < d->machine->cfg->n_cdroms && d->machine->drive[i] != d)
		i++;
	return i;
}

/* On the loop thread; the device is locked. */
static void drive_tray_moved(void *arg, bool is_open)
{
	struct machine_drive *d = arg;
	struct machine *m = d->machine;
	unsigned i = drive_index(d);
	char buf[CONFIG_DISK_NAME_MAX + 1];

	if (i < m->cfg->n_cdroms)
		machine_tell(m, is_open ? MACHINE_EV_TRAY_OPENED : MACHINE_EV_TRAY_CLOSED, config_cdrom_name(m->cfg, i, buf));
}

static int drive_open(struct blk **out, struct machine *m, const struct machine_medium *medium, struct err *err)
{
	struct blk_options o = {
		.path = medium->fd < 0 ? medium->path : NULL, .name = medium->path, .fd = -1, .is_readonly = true,
		.format = medium->format && strcmp(medium->format, "auto") ? medium->format : NULL,
	};
	AUTO(blk_close) struct blk *b = NULL;

	if (medium->fd >= 0 && (o.fd = fcntl(medium->fd, F_DUPFD_CLOEXEC, 0)) < 0)
		return err_set(err, -errno, "cannot take over '%s': %s", medium->path, strerror(errno));
	int r = blk_open(&b, m->loop, &o, err);

	if (r < 0) {
		auto_fd(&o.fd);
		return r;
	}
	if (blk_size(b) < VIRTIO_SCSI_BLOCK)
		return err_set(err, -EINVAL, "'%s' has %" PRIu64 " bytes, less than a block of a CD", medium->path, blk_size(b));
	*out = take_ptr(&b);
	return 0;
}

int machine_make_drive(struct machine *m, unsigned i, int fd, struct err *err)
{
	const struct config_cdrom *c = &m->cfg->cdroms[i];
	struct machine_medium medium = { .path = c->path, .format = c->format, .fd = fd };
	char buf[CONFIG_DISK_NAME_MAX + 1];
	struct machine_drive *d = calloc(1, sizeof(*d));

	m->drive[i] = d;
	if (!d)
		return err_set(err, -ENOMEM, "out of memory");
	d->machine = m;
	int r = c->path ? drive_open(&d->medium, m, &medium, err) : 0;
	struct virtio_scsi_config sc = {
		.medium = d->medium, .serial = config_cdrom_name(m->cfg, i, buf), .tray_moved = drive_tray_moved, .arg = d,
	};

	if (!r)
		r = virtio_scsi_new(&d->dev, &m->env, &sc, err);
	return r < 0 ? err_wrap(err, r, "cdroms[%u]", i) :
	       machine_take(m, d->dev, m->cfg->n_disks + m->cfg->n_nets + i, err);
}

struct machine_drive *machine_remove_drive(struct machine *m, unsigned i)
{
	struct machine_drive *d = m->drive[i];
	unsigned n = m->cfg->n_cdroms - 1 - i;

	memmove(&m->drive[i], &m->drive[i + 1], n * sizeof(m->drive[0]));
	m->drive[i + n] = NULL;
	config_remove(m->cfg, "--cdrom", i);
	return d;
}

void machine_close_media(struct machine *m)
{
	for (unsigned i = 0; i < CONFIG_CDROMS_MAX && m->drive[i]; i++) {
		blk_close(m->drive[i]->medium);
		m->drive[i]->medium = NULL;
	}
}

void machine_free_drives(struct machine *m)
{
	for (unsigned i = 0; i < CONFIG_CDROMS_MAX; i++) {
		free(m->drive[i]);
		m->drive[i] = NULL;
	}
}

static struct machine_drive *drive_find(struct machine *m, const char *name, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < m->cfg->n_cdroms; i++)
		if (!strcmp(config_cdrom_name(m->cfg, i, buf), name))
			return m->drive[i];
	err_set(err, -ENOENT, "there is no drive '%.64s'; 'info' lists them", name);
	return NULL;
}

/* Open the tray; what is in it goes, and the configuration knows it no more. */
static int drive_empty(struct machine_drive *d, struct err *err)
{
	struct machine *m = d->machine;
	unsigned i = drive_index(d);
	char buf[CONFIG_DISK_NAME_MAX + 1];
	struct machine_leaving *l = d->medium ? machine_new_leaving(config_cdrom_name(m->cfg, i, buf)) : NULL;

	if (d->medium && !l)
		return err_set(err, -ENOMEM, "out of memory");
	struct blk *medium = virtio_scsi_eject(d->dev);

	d->medium = NULL;
	free(m->cfg->cdroms[i].path);
	m->cfg->cdroms[i].path = NULL;
	if (medium)
		machine_leave_medium(m, l, medium);
	return 0;
}

int machine_eject(struct machine *m, const char *name, bool is_forced, struct err *err)
{
	struct machine_drive *d = drive_find(m, name, err);
	struct virtio_scsi_info drive;
	int r = d ? machine_check_unsaved(m, err) : -ENOENT;

	if (r < 0)
		return r;
	virtio_scsi_get(d->dev, &drive);
	if (drive.is_locked && d->medium && !is_forced) {
		virtio_scsi_ask_eject(d->dev);
		return err_set(err, -EBUSY, "the guest uses the medium of '%s' and has locked the drive; it has been asked to let go. "
			       "--force takes the medium out all the same", name);
	}
	return drive_empty(d, err);
}

int machine_insert(struct machine *m, const char *name, const struct machine_medium *medium, struct err *err)
{
	struct machine_drive *d = drive_find(m, name, err);
	struct blk *b = NULL;
	struct virtio_scsi_info drive;
	int r = d ? machine_check_unsaved(m, err) : -ENOENT;

	if (r < 0)
		return r;
	virtio_scsi_get(d->dev, &drive);
	if (d->medium && !drive.is_tray_open)
		return err_set(err, -EBUSY, "there is a medium in '%s' already; eject it first", name);
	struct config_cdrom *c = &m->cfg->cdroms[drive_index(d)];
	r = drive_open(&b, m, medium, err);
	if (r < 0)
		return r;
	AUTO(free) char *path = strdup(medium->path), *format = strdup(blk_format(b));

	r = path && format ? drive_empty(d, err) : err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		blk_close(b);
		return r;
	}
	free(c->format);
	c->path = take_ptr(&path);
	c->format = take_ptr(&format);
	d->medium = b;
	virtio_scsi_insert(d->dev, b);
	log_info("'%s' is in drive '%s'", c->path, name);
	machine_tell(m, MACHINE_EV_INSERTED, name);
	return 0;
}

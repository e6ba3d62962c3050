/* SPDX-License-Identifier: Apache-2.0 */
/* A device comes: it is built and put on the bus, then the guest is told. */
#include "vm/plug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/migrate.h"
#include "vm/plug_priv.h"

/* What requests call a kind, its option, the start of the names that are made up, where its list has its length. */
static const struct {
	const char *word, *arg, *prefix;
	size_t count;
} kinds[] = {
	[PLUG_DISK] = { "disk", "--disk", "disk", offsetof(struct config, n_disks) },
	[PLUG_CDROM] = { "cdrom", "--cdrom", "cdrom", offsetof(struct config, n_cdroms) },
	[PLUG_NET] = { "net", "--net", "net", offsetof(struct config, n_nets) },
	[PLUG_CONSOLE] = { "console", "--console", "console", offsetof(struct config, n_consoles) },
};

unsigned plug_slot(const struct plugged *p)
{
	return virtio_pci_dev(p->dev)->slot;
}

const char *plug_name(const struct machine *m, const struct plugged *p, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	switch (p->kind) {
	case PLUG_DISK:
		return config_disk_name(m->cfg, p->i, buf);
	case PLUG_CDROM:
		return config_cdrom_name(m->cfg, p->i, buf);
	case PLUG_NET:
		return config_net_name(m->cfg, p->i, buf);
	case PLUG_CONSOLE:
		return m->own[p->i]->cfg->id;
	default:
		return plug_single_name(p->kind);
	}
}

/* The Nth of all that can be unplugged. */
static bool plug_nth(const struct machine *m, unsigned n, struct plugged *out)
{
	unsigned disks = m->cfg->n_disks, nets = m->cfg->n_nets, drives = m->cfg->n_cdroms;

	if (n < disks)
		*out = (struct plugged){ PLUG_DISK, n, m->disk_dev[n] };
	else if ((n -= disks) < nets)
		*out = (struct plugged){ PLUG_NET, n, m->net_dev[n] };
	else if ((n -= nets) < drives)
		*out = (struct plugged){ PLUG_CDROM, n, m->drive[n]->dev };
	else if ((n -= drives) < m->n_own)
		*out = (struct plugged){ PLUG_CONSOLE, n, m->own[n]->dev };
	else
		return plug_single_nth(m, n - m->n_own, out);
	return true;
}

bool plug_find_slot(const struct machine *m, unsigned slot, struct plugged *out)
{
	for (unsigned n = 0; plug_nth(m, n, out); n++)
		if (plug_slot(out) == slot)
			return true;
	return false;
}

bool plug_find_name(const struct machine *m, const char *name, struct plugged *out)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned n = 0; plug_nth(m, n, out); n++)
		if (!strcmp(plug_name(m, out, buf), name))
			return true;
	return false;
}

int machine_check_unsaved(const struct machine *m, struct err *err)
{
	if (m->migration && !migration_will_end(m))
		return err_set(err, -EBUSY, "the machine has been handed over to the other side; see 'migration'");
	return m->save || m->migration ? err_set(err, -EBUSY, "the machine is being %s", m->save ? "saved" : "migrated") : 0;
}

int plug_check_guest(struct machine *m, const char *remedy, struct err *err)
{
	bus_lock(m->bus);
	bool hears = acpi_hears_gpe(&m->acpi, ACPI_GPE_PCI);
	bus_unlock(m->bus);
	return hears ? 0 : err_set(err, -ENOTSUP, "the guest does not listen for devices that come and go: it has not enabled ACPI "
				   "hot-plug (yet)%s", remedy);
}

/* --- a device comes --- */

static unsigned *plug_count(struct config *c, enum plug_kind kind)
{
	return (unsigned *)((char *)c + kinds[kind].count);
}

/* Where the configuration has the name of device I. */
static char **plug_name_of(struct config *c, enum plug_kind kind, unsigned i)
{
	switch (kind) {
	case PLUG_DISK:
		return &c->disks[i].name;
	case PLUG_CDROM:
		return &c->cdroms[i].name;
	case PLUG_NET:
		return &c->nets[i].name;
	default:
		return &c->consoles[i].id;
	}
}

/* The last of its list, which is new, gets the first of "disk0", "disk1", ... that nobody has. */
static int plug_choose_name(struct config *c, enum plug_kind kind, struct err *err)
{
	unsigned *count = plug_count(c, kind), last = *count - 1;
	char **to = plug_name_of(c, kind, last);
	char name[24];
	bool is_taken = true;

	if (*to)
		return 0;
	--*count;               /* it has no name of its own yet */
	for (unsigned n = 0; is_taken; n++) {
		snprintf(name, sizeof(name), "%s%u", kinds[kind].prefix, n);
		is_taken = config_has_device(c, name);
	}
	++*count;
	*to = strdup(name);
	return *to ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* An address that follows from its name, so that the same interface plugged again has the same one. */
static int plug_choose_mac(struct config *c, struct err *err)
{
	struct config_net *n = &c->nets[c->n_nets - 1];
	uint8_t mac[6];
	char *text = NULL;

	if (n->mac)
		return 0;
	for (unsigned number = c->n_nets - 1; number < 256; number++) {
		bool is_taken = false;
		uint8_t other[6];

		config_net_mac_of(c, number, mac);
		for (unsigned i = 0; i + 1 < c->n_nets; i++) {
			config_net_mac(c, i, other);
			is_taken |= !memcmp(mac, other, sizeof(mac));
		}
		if (!is_taken)
			break;
	}
	if (asprintf(&text, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	n->mac = text;
	return 0;
}

/* What the new device's image, file or socket is called for whoever opens it after a restore. */
static int plug_set_path(struct config *c, enum plug_kind kind, const char *path, struct err *err)
{
	char **to = kind == PLUG_DISK ? &c->disks[c->n_disks - 1].path :
		    kind == PLUG_CDROM ? &c->cdroms[c->n_cdroms - 1].path : &c->consoles[c->n_consoles - 1].target;
	char *copy = NULL;

	if (kind == PLUG_NET)
		return err_set(err, -EINVAL, "an interface has no image-path");
	const char *colon = kind == PLUG_CONSOLE ? strchr(*to, ':') : NULL;
	if (asprintf(&copy, "%.*s%s", colon ? (int)(colon + 1 - *to) : 0, colon ? *to : "", path) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	free(*to);
	*to = copy;
	return 0;
}

/* A port of the device that is there from the start cannot come: a console is a virtio device. */
static int plug_set_device(struct config *c, struct err *err)
{
	struct config_console *n = &c->consoles[c->n_consoles - 1];
	char *device = n->target ? strdup("virtio") : NULL;

	if (!n->target)
		return err_set(err, -EINVAL, "a console that is plugged leads to a file:, a socket: or none; say which, as in file:/tmp/log");
	if (!device)
		return err_set(err, -ENOMEM, "out of memory");
	free(n->device);
	n->device = device;
	return strcmp(n->target, "stdio") && strcmp(n->target, "pty") ? 0 :
	       err_set(err, -EINVAL, "a console that is plugged leads to a file:, a socket: or none; '%s' belongs to the process", n->target);
}

/* The configuration gets one more device of the kind, and is a machine's that can be. */
static int plug_configure(struct config *c, const struct plug_device *d, enum plug_kind kind, struct err *err)
{
	unsigned *n = plug_count(c, kind), before = *n;
	int r = config_set(c, kinds[kind].arg, d->settings, err);

	if (!r && kind == PLUG_CONSOLE)
		r = plug_set_device(c, err);
	if (!r && d->path)
		r = plug_set_path(c, kind, d->path, err);
	if (!r)
		r = plug_choose_name(c, kind, err);
	if (!r && kind == PLUG_NET)
		r = plug_choose_mac(c, err);
	if (!r)
		r = config_validate(c, err);
	if (r < 0 && *n > before)
		config_remove(c, kinds[kind].arg, before);
	return r;
}

/* What plug_make() has left half-made, the last of its list. */
static void plug_undo(struct machine *m, enum plug_kind kind)
{
	unsigned i = *plug_count(m->cfg, kind) - 1;
	struct virtio_dev *dev = NULL;
	struct machine_line *line = NULL;
	struct machine_drive *drive = kind == PLUG_CDROM ? machine_remove_drive(m, i) : NULL;

	if (drive) {
		dev = drive->dev;
	} else if (kind == PLUG_CONSOLE && m->n_own && m->own[m->n_own - 1]->cfg == &m->cfg->consoles[i]) {
		dev = m->own[m->n_own - 1]->dev;
		line = machine_remove_own_line(m, m->n_own - 1);        /* the configuration, too */
	} else {
		dev = kind == PLUG_DISK ? m->disk_dev[i] : kind == PLUG_NET ? m->net_dev[i] : NULL;
		config_remove(m->cfg, kinds[kind].arg, i);
	}
	bus_lock(m->bus);
	if (machine_virtio_index(m, dev) < m->n_virtio)
		pci_remove(virtio_pci_dev(dev));
	machine_forget_virtio_locked(m, dev);
	bus_unlock(m->bus);
	if (kind == PLUG_DISK) {
		blk_close(m->blk[i]);
		m->blk[i] = NULL;
		m->disk_dev[i] = NULL;
	} else if (kind == PLUG_NET) {
		m->net_dev[i] = NULL;
	}
	blk_close(drive ? drive->medium : NULL);
	virtio_free(dev);
	free(drive);
	machine_free_line(line);
}

/* Number I of its list. */
static int plug_make(struct machine *m, enum plug_kind kind, unsigned i, const struct plug_device *d, struct err *err)
{
	int r;

	switch (kind) {
	case PLUG_DISK:
		m->blk[i] = NULL;
		m->disk_dev[i] = NULL;
		return machine_make_disk(m, i, d, err);
	case PLUG_NET:
		m->net_dev[i] = NULL;
		return machine_make_net(m, i, d->fd, err);
	case PLUG_CDROM:
		return machine_make_drive(m, i, d->fd, err);
	case PLUG_CONSOLE:
		r = machine_add_own_line(m, err);
		if (!r)
			r = machine_make_console(m, m->n_own - 1, err);
		return r ? r : machine_open_own_console(m, m->n_own - 1, d->fd, err);
	default:
		return -EINVAL;
	}
}

static int plug_find_kind(const char *word, struct err *err)
{
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++)
		if (!strcmp(kinds[k].word, word))
			return (int)k;
	for (unsigned k = 0; k < PLUG_KINDS; k++)
		if (plug_is_single((enum plug_kind)k) && !strcmp(plug_single_name((enum plug_kind)k), word))
			return (int)k;
	return err_set(err, -EINVAL, "there is no kind of device '%.32s'", word);
}

/* The device that plug_make() has made. */
static struct virtio_dev *plug_dev(const struct machine *m, enum plug_kind kind, unsigned i)
{
	switch (kind) {
	case PLUG_DISK:
		return m->disk_dev[i];
	case PLUG_CDROM:
		return m->drive[i]->dev;
	case PLUG_NET:
		return m->net_dev[i];
	default:
		return m->own[m->n_own - 1]->dev;
	}
}

static void plug_announce(struct machine *m, struct virtio_dev *dev, const char *name)
{
	if (m->is_still)
		virtio_pause(dev);
	bus_lock(m->bus);
	hotplug_pci_up(&m->hotplug, virtio_pci_dev(dev)->slot);
	bus_unlock(m->bus);
	log_info("device '%s' is plugged into PCI slot %u", name, virtio_pci_dev(dev)->slot);
	machine_tell(m, MACHINE_EV_PLUGGED, name);
}

/* One more of a list; *OUT is what has been made. */
static int plug_listed(struct machine *m, enum plug_kind kind, const struct plug_device *d, struct plugged *out, struct err *err)
{
	int r = config_settle(m->cfg, err);

	if (!r && kind == PLUG_CONSOLE)
		r = machine_settle_consoles(m, err);
	if (!r)
		r = plug_configure(m->cfg, d, kind, err);
	if (r < 0)
		return r;
	memset(m->slots, 0, sizeof(m->slots));
	unsigned i = *plug_count(m->cfg, kind) - 1;

	r = plug_make(m, kind, i, d, err);
	if (r < 0)
		plug_undo(m, kind);
	else
		*out = (struct plugged){ kind, kind == PLUG_CONSOLE ? m->n_own - 1 : i, plug_dev(m, kind, i) };
	return r;
}

int machine_plug(struct machine *m, const struct plug_device *d, char *name, unsigned name_cap, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];
	struct plugged p;
	int kind = plug_find_kind(d->kind, err), r = kind < 0 ? kind : machine_check_unsaved(m, err);

	if (!r)
		r = plug_check_guest(m, "", err);
	if (r < 0)
		return r;
	if (plug_is_single((enum plug_kind)kind)) {
		r = plug_single(m, (enum plug_kind)kind, d, &p, err);
	} else {
		r = plug_listed(m, (enum plug_kind)kind, d, &p, err);
	}
	if (r < 0)
		return r;
	snprintf(name, name_cap, "%s", plug_name(m, &p, buf));
	plug_announce(m, p.dev, name);
	return 0;
}

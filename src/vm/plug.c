/* SPDX-License-Identifier: Apache-2.0 */
/* A device comes: it is built and put on the bus, then the guest is told. It goes: the guest is asked; when it has
 * ejected the slot, or at a reset, or by force, the device leaves the bus at once and is freed when what it was doing
 * has ended. */
#include "vm/plug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/front.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"

#define RETRY_NS 1000000u               /* until requests in flight have ended */
#define BUSY_RETRY_NS 20000000u         /* until a save or migration has */

static struct log_guest guest_odd_eject = LOG_GUEST("hot-plug: the guest ejects what cannot be ejected, slot");

/* Off the bus and out of the machine. */
struct machine_leaving {
	struct machine_leaving *next;
	struct virtio_dev *dev;
	struct blk *disk;               /* its front; NULL: it is no disk */
	char name[CONFIG_DISK_NAME_MAX + 1];
};

/* A disk or interface that is there. */
struct plugged {
	bool is_disk;
	unsigned i;                     /* in its list of the configuration */
	struct virtio_dev *dev;
};

static bool plug_has_job(const struct machine *m, const struct plugged *p)
{
	return p->is_disk && blk_job_check_idle(m->blk[p->i], NULL) < 0;
}

static unsigned plug_slot(const struct plugged *p)
{
	return virtio_pci_dev(p->dev)->slot;
}

static const char *plug_name(const struct machine *m, const struct plugged *p, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	return p->is_disk ? config_disk_name(m->cfg, p->i, buf) : config_net_name(m->cfg, p->i, buf);
}

/* The Nth of all that can be unplugged. */
static bool plug_nth(const struct machine *m, unsigned n, struct plugged *out)
{
	if (n < m->cfg->n_disks)
		*out = (struct plugged){ true, n, m->disk_dev[n] };
	else if (n - m->cfg->n_disks < m->cfg->n_nets)
		*out = (struct plugged){ false, n - m->cfg->n_disks, m->net_dev[n - m->cfg->n_disks] };
	else
		return false;
	return true;
}

static bool plug_find_slot(const struct machine *m, unsigned slot, struct plugged *out)
{
	for (unsigned n = 0; plug_nth(m, n, out); n++)
		if (plug_slot(out) == slot)
			return true;
	return false;
}

static bool plug_find_name(const struct machine *m, const char *name, struct plugged *out)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned n = 0; plug_nth(m, n, out); n++)
		if (!strcmp(plug_name(m, out, buf), name))
			return true;
	return false;
}

/* What is being written to a file, or has been announced to another process, must not change. */
static int plug_check_idle(const struct machine *m, struct err *err)
{
	return m->save || m->migration ? err_set(err, -EBUSY, "the machine is being %s", m->save ? "saved" : "migrated") : 0;
}

static int plug_check_guest(struct machine *m, const char *remedy, struct err *err)
{
	bus_lock(m->bus);
	bool hears = acpi_hears_gpe(&m->acpi, ACPI_GPE_PCI);
	bus_unlock(m->bus);
	return hears ? 0 : err_set(err, -ENOTSUP, "the guest does not listen for devices that come and go: it has not enabled ACPI "
				   "hot-plug (yet)%s", remedy);
}

/* --- a device comes --- */

/* The first "disk0", "disk1", ... that nobody has. */
static int plug_choose_name(struct config *c, bool is_disk, struct err *err)
{
	char **to = is_disk ? &c->disks[c->n_disks - 1].name : &c->nets[c->n_nets - 1].name;
	char buf[CONFIG_DISK_NAME_MAX + 1], name[16];
	unsigned others = is_disk ? c->n_disks - 1 : c->n_nets - 1;

	for (unsigned n = 0; !*to && n <= others; n++) {
		bool is_taken = false;

		snprintf(name, sizeof(name), "%s%u", is_disk ? "disk" : "net", n);
		for (unsigned i = 0; i < others; i++)
			is_taken |= !strcmp(is_disk ? config_disk_name(c, i, buf) : config_net_name(c, i, buf), name);
		if (!is_taken) {
			*to = strdup(name);
			return *to ? 0 : err_set(err, -ENOMEM, "out of memory");
		}
	}
	return 0;
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

static int plug_set_path(struct config *c, const char *path, struct err *err)
{
	char **to = &c->disks[c->n_disks - 1].path;
	char *copy = strdup(path);

	if (!copy)
		return err_set(err, -ENOMEM, "out of memory");
	free(*to);
	*to = copy;
	return 0;
}

/* The configuration gets one more disk or interface, and is a machine's that can be. */
static int plug_configure(struct config *c, const struct plug_device *d, bool is_disk, struct err *err)
{
	unsigned *n = is_disk ? &c->n_disks : &c->n_nets, before = *n;
	const char *arg = is_disk ? "--disk" : "--net";
	int r = config_set(c, arg, d->settings, err);

	if (!r && is_disk && d->path)
		r = plug_set_path(c, d->path, err);
	if (!r)
		r = plug_choose_name(c, is_disk, err);
	if (!r && !is_disk)
		r = plug_choose_mac(c, err);
	if (!r)
		r = config_validate(c, err);
	if (r < 0 && *n > before)
		config_remove(c, arg, before);
	return r;
}

/* What machine_make_disk() or machine_make_net() has left half-made, the last of its list. */
static void plug_undo(struct machine *m, bool is_disk)
{
	unsigned i = is_disk ? m->cfg->n_disks - 1 : m->cfg->n_nets - 1;
	struct virtio_dev **dev = is_disk ? &m->disk_dev[i] : &m->net_dev[i];
	unsigned at = is_disk ? i : m->cfg->n_disks + i;

	bus_lock(m->bus);
	if (*dev && at < m->n_virtio && m->virtio[at] == *dev) {
		m->n_virtio--;
		memmove(&m->virtio[at], &m->virtio[at + 1], (m->n_virtio - at) * sizeof(m->virtio[0]));
		memmove(&m->doorbell[at], &m->doorbell[at + 1], (m->n_virtio - at) * sizeof(m->doorbell[0]));
		memset(&m->doorbell[m->n_virtio], 0, sizeof(m->doorbell[0]));
	}
	bus_unlock(m->bus);
	if (is_disk) {
		blk_close(m->blk[i]);
		m->blk[i] = NULL;
	}
	virtio_free(*dev);
	*dev = NULL;
	config_remove(m->cfg, is_disk ? "--disk" : "--net", i);
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

int machine_plug(struct machine *m, const struct plug_device *d, char *name, unsigned name_cap, struct err *err)
{
	bool is_disk = !strcmp(d->kind, "disk");
	char buf[CONFIG_DISK_NAME_MAX + 1];
	int r = plug_check_idle(m, err);

	if (!r)
		r = plug_check_guest(m, "", err);
	if (!r)
		r = config_settle(m->cfg, err);
	if (!r)
		r = plug_configure(m->cfg, d, is_disk, err);
	if (r < 0)
		return r;
	memset(m->slots, 0, sizeof(m->slots));
	unsigned i = is_disk ? m->cfg->n_disks - 1 : m->cfg->n_nets - 1;

	m->blk[i] = is_disk ? NULL : m->blk[i];
	*(is_disk ? &m->disk_dev[i] : &m->net_dev[i]) = NULL;
	r = is_disk ? machine_make_disk(m, i, d->fd, err) : machine_make_net(m, i, d->fd, err);
	if (r < 0) {
		plug_undo(m, is_disk);
		return r;
	}
	struct plugged p = { is_disk, i, is_disk ? m->disk_dev[i] : m->net_dev[i] };

	snprintf(name, name_cap, "%s", plug_name(m, &p, buf));
	plug_announce(m, p.dev, name);
	return 0;
}

/* --- a device goes --- */

/* The lists of disks close up behind number I. */
static void plug_close_disks(struct machine *m, unsigned i)
{
	unsigned n = m->cfg->n_disks - 1 - i;

	memmove(&m->blk[i], &m->blk[i + 1], n * sizeof(m->blk[0]));
	memmove(&m->disk_dev[i], &m->disk_dev[i + 1], n * sizeof(m->disk_dev[0]));
	memmove(&m->disk_snapshot[i], &m->disk_snapshot[i + 1], n * sizeof(m->disk_snapshot[0]));
	m->blk[i + n] = NULL;
	m->disk_dev[i + n] = NULL;
	memset(&m->disk_snapshot[i + n], 0, sizeof(m->disk_snapshot[0]));
	config_remove(m->cfg, "--disk", i);
}

static void plug_close_nets(struct machine *m, unsigned i)
{
	unsigned n = m->cfg->n_nets - 1 - i;

	memmove(&m->net_dev[i], &m->net_dev[i + 1], n * sizeof(m->net_dev[0]));
	m->net_dev[i + n] = NULL;
	config_remove(m->cfg, "--net", i);
}

/* No processor runs. */
static void plug_take_off_bus(struct machine *m, const struct plugged *p)
{
	unsigned at = p->is_disk ? p->i : m->cfg->n_disks + p->i, slot = plug_slot(p);

	bus_lock(m->bus);
	pci_remove(virtio_pci_dev(p->dev));     /* its doorbells go, too */
	virtio_pci_dev(p->dev)->is_ejected = false;
	hotplug_pci_gone(&m->hotplug, slot);
	m->n_virtio--;
	memmove(&m->virtio[at], &m->virtio[at + 1], (m->n_virtio - at) * sizeof(m->virtio[0]));
	memmove(&m->doorbell[at], &m->doorbell[at + 1], (m->n_virtio - at) * sizeof(m->doorbell[0]));
	memset(&m->doorbell[m->n_virtio], 0, sizeof(m->doorbell[0]));
	bus_unlock(m->bus);
}

/* Free all that have nothing in flight any more. True: none is left. */
static bool plug_finish_leaving(struct machine *m)
{
	for (struct machine_leaving **at = &m->leaving; *at;) {
		struct machine_leaving *l = *at;

		if (l->disk)
			blk_front_lift(l->disk);        /* what a limit keeps waiting */
		if (!virtio_reset(l->dev)) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		blk_close(l->disk);
		virtio_free(l->dev);
		log_info("device '%s' is unplugged", l->name);
		machine_tell(m, MACHINE_EV_UNPLUGGED, l->name);
		free(l);
	}
	return !m->leaving;
}

static int plug_remove(struct machine *m, const struct plugged *p, struct err *err)
{
	struct machine_leaving *l = calloc(1, sizeof(*l));
	char buf[CONFIG_DISK_NAME_MAX + 1];
	int r = l ? config_settle(m->cfg, err) : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(l);
		return r;
	}
	snprintf(l->name, sizeof(l->name), "%s", plug_name(m, p, buf));
	l->dev = p->dev;
	l->disk = p->is_disk ? m->blk[p->i] : NULL;
	vcpus_pause(m->vcpus);
	plug_take_off_bus(m, p);
	if (p->is_disk)
		plug_close_disks(m, p->i);
	else
		plug_close_nets(m, p->i);
	l->next = m->leaving;
	m->leaving = l;
	if (m->state == MACHINE_RUNNING)
		vcpus_resume(m->vcpus);
	return 0;
}

void machine_leave_retry(struct loop_timer *t)
{
	struct machine *m = container_of(t, struct machine, leave_retry);
	uint64_t again = 0;
	struct plugged p;

	bus_lock(m->bus);
	uint32_t ejected = m->hotplug.s.pci_ejected;
	bus_unlock(m->bus);
	for (; ejected; ejected &= ejected - 1) {
		bool is_there = plug_find_slot(m, (unsigned)__builtin_ctz(ejected), &p);

		if (is_there && (m->is_frozen || m->save || m->migration || plug_has_job(m, &p) ||
				 plug_remove(m, &p, NULL) < 0))
			again = BUSY_RETRY_NS;
	}
	if (!plug_finish_leaving(m))
		again = RETRY_NS;
	if (again)
		loop_timer_set(t, loop_now_ns() + again);
}

static void plug_do_ejects(void *arg)
{
	struct machine *m = arg;

	machine_leave_retry(&m->leave_retry);
}

void machine_ejected_locked(void *arg, unsigned slot)
{
	struct machine *m = arg;
	struct plugged p;

	if (!plug_find_slot(m, slot, &p)) {
		log_guest(&guest_odd_eject, slot);
		return;
	}
	if (m->hotplug.s.pci_ejected >> slot & 1)
		return;
	/* The guest sees an empty slot from now on; the loop does the rest. */
	virtio_pci_dev(p.dev)->is_ejected = true;
	m->hotplug.s.pci_ejected |= 1u << slot;
	if (loop_call(m->loop, plug_do_ejects, m) < 0)
		log_error("out of memory: the device in PCI slot %u stays open", slot);
}

void machine_continue_ejects(struct machine *m)
{
	struct plugged p;

	bus_lock(m->bus);
	for (uint32_t left = m->hotplug.s.pci_ejected; left; left &= left - 1) {
		unsigned slot = (unsigned)__builtin_ctz(left);

		if (plug_find_slot(m, slot, &p))
			virtio_pci_dev(p.dev)->is_ejected = true;
		else
			hotplug_pci_gone(&m->hotplug, slot);
	}
	bool is_needed = m->hotplug.s.pci_ejected;
	bus_unlock(m->bus);
	if (is_needed)
		loop_timer_set(&m->leave_retry, loop_now_ns() + BUSY_RETRY_NS);
}

void machine_reset_unplug(struct machine *m)
{
	bus_lock(m->bus);
	uint32_t going = m->hotplug.s.pci_asked | m->hotplug.s.pci_ejected;
	bus_unlock(m->bus);
	for (; going; going &= going - 1) {
		struct plugged p;

		if (plug_find_slot(m, (unsigned)__builtin_ctz(going), &p) && !plug_has_job(m, &p))
			(void)plug_remove(m, &p, NULL);
	}
	(void)plug_finish_leaving(m);   /* nothing is in flight: they have been reset */
}

void machine_drop_leaving(struct machine *m)
{
	while (m->leaving) {
		struct machine_leaving *l = m->leaving;

		m->leaving = l->next;
		blk_close(l->disk);
		virtio_free(l->dev);
		free(l);
	}
}

int machine_unplug(struct machine *m, const char *name, bool is_forced, struct err *err)
{
	struct plugged p;

	if (!plug_find_name(m, name, &p))
		return err_set(err, -ENOENT, "there is no disk or interface '%.64s'; 'info' lists them", name);
	int r = plug_check_idle(m, err);

	if (!r)
		r = p.is_disk ? blk_job_check_idle(m->blk[p.i], err) : 0;
	if (!r && !is_forced)
		r = plug_check_guest(m, "; --force takes the device away without asking it", err);
	if (r < 0)
		return r;
	if (is_forced) {
		r = plug_remove(m, &p, err);
		if (!r)
			machine_leave_retry(&m->leave_retry);
		return r;
	}
	bus_lock(m->bus);
	hotplug_pci_down(&m->hotplug, plug_slot(&p));
	bus_unlock(m->bus);
	return 0;
}

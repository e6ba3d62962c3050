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
	struct blk *medium;             /* of a drive, and there is no DEV; else NULL */
	struct machine_line *line;      /* NULL: it is no console */
	char name[CONFIG_DISK_NAME_MAX + 1];
};

enum plug_kind { PLUG_DISK, PLUG_NET, PLUG_CONSOLE };

/* What requests call a kind, its option, the start of the names that are made up, where its list has its length. */
static const struct {
	const char *word, *arg, *prefix;
	size_t count;
} kinds[] = {
	[PLUG_DISK] = { "disk", "--disk", "disk", offsetof(struct config, n_disks) },
	[PLUG_NET] = { "net", "--net", "net", offsetof(struct config, n_nets) },
	[PLUG_CONSOLE] = { "console", "--console", "console", offsetof(struct config, n_consoles) },
};

/* A device that is there. */
struct plugged {
	enum plug_kind kind;
	unsigned i;                     /* in its list of the configuration; a console: in m->own */
	struct virtio_dev *dev;
};

static bool plug_has_job(const struct machine *m, const struct plugged *p)
{
	return p->kind == PLUG_DISK && blk_job_check_idle(m->blk[p->i], NULL) < 0;
}

static unsigned plug_slot(const struct plugged *p)
{
	return virtio_pci_dev(p->dev)->slot;
}

static const char *plug_name(const struct machine *m, const struct plugged *p, char buf[CONFIG_DISK_NAME_MAX + 1])
{
	switch (p->kind) {
	case PLUG_DISK:
		return config_disk_name(m->cfg, p->i, buf);
	case PLUG_NET:
		return config_net_name(m->cfg, p->i, buf);
	case PLUG_CONSOLE:
		return m->own[p->i]->cfg->id;
	}
	return "";
}

/* The Nth of all that can be unplugged. */
static bool plug_nth(const struct machine *m, unsigned n, struct plugged *out)
{
	unsigned disks = m->cfg->n_disks, nets = m->cfg->n_nets;

	if (n < disks)
		*out = (struct plugged){ PLUG_DISK, n, m->disk_dev[n] };
	else if (n - disks < nets)
		*out = (struct plugged){ PLUG_NET, n - disks, m->net_dev[n - disks] };
	else if (n - disks - nets < m->n_own)
		*out = (struct plugged){ PLUG_CONSOLE, n - disks - nets, m->own[n - disks - nets]->dev };
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

int machine_check_unsaved(const struct machine *m, struct err *err)
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

static unsigned *plug_count(struct config *c, enum plug_kind kind)
{
	return (unsigned *)((char *)c + kinds[kind].count);
}

/* The last of its list, which is new, gets the first of "disk0", "disk1", ... that nobody has. */
static int plug_choose_name(struct config *c, enum plug_kind kind, struct err *err)
{
	unsigned *count = plug_count(c, kind), last = *count - 1;
	char **to = kind == PLUG_DISK ? &c->disks[last].name : kind == PLUG_NET ? &c->nets[last].name : &c->consoles[last].id;
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
	char **to = kind == PLUG_DISK ? &c->disks[c->n_disks - 1].path : &c->consoles[c->n_consoles - 1].target;
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
	char *device = strdup("virtio");

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

	if (kind == PLUG_CONSOLE && m->n_own && m->own[m->n_own - 1]->cfg == &m->cfg->consoles[i]) {
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
	virtio_free(dev);
	machine_free_line(line);
}

/* Number I of its list. */
static int plug_make(struct machine *m, enum plug_kind kind, unsigned i, int fd, struct err *err)
{
	int r;

	switch (kind) {
	case PLUG_DISK:
		m->blk[i] = NULL;
		m->disk_dev[i] = NULL;
		return machine_make_disk(m, i, fd, err);
	case PLUG_NET:
		m->net_dev[i] = NULL;
		return machine_make_net(m, i, fd, err);
	case PLUG_CONSOLE:
		r = machine_add_own_line(m, err);
		if (!r)
			r = machine_make_console(m, m->n_own - 1, err);
		return r ? r : machine_open_own_console(m, m->n_own - 1, fd, err);
	}
	return -EINVAL;
}

static int plug_find_kind(const char *word, struct err *err)
{
	for (unsigned k = 0; k < ARRAY_LEN(kinds); k++)
		if (!strcmp(kinds[k].word, word))
			return (int)k;
	return err_set(err, -EINVAL, "there is no kind of device '%.32s'", word);
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
	char buf[CONFIG_DISK_NAME_MAX + 1];
	int kind = plug_find_kind(d->kind, err), r = kind < 0 ? kind : machine_check_unsaved(m, err);

	if (!r)
		r = plug_check_guest(m, "", err);
	if (!r)
		r = config_settle(m->cfg, err);
	if (!r && kind == PLUG_CONSOLE)
		r = machine_settle_consoles(m, err);
	if (!r)
		r = plug_configure(m->cfg, d, kind, err);
	if (r < 0)
		return r;
	memset(m->slots, 0, sizeof(m->slots));
	unsigned i = *plug_count(m->cfg, kind) - 1;

	r = plug_make(m, kind, i, d->fd, err);
	if (r < 0) {
		plug_undo(m, kind);
		return r;
	}
	struct plugged p = {
		kind, kind == PLUG_CONSOLE ? m->n_own - 1 : i,
		kind == PLUG_DISK ? m->disk_dev[i] : kind == PLUG_NET ? m->net_dev[i] : m->own[m->n_own - 1]->dev,
	};

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
	unsigned slot = plug_slot(p);

	bus_lock(m->bus);
	pci_remove(virtio_pci_dev(p->dev));     /* its doorbells go, too */
	virtio_pci_dev(p->dev)->is_ejected = false;
	hotplug_pci_gone(&m->hotplug, slot);
	machine_forget_virtio_locked(m, p->dev);
	bus_unlock(m->bus);
}

static bool leaving_is_idle(struct machine_leaving *l)
{
	if (l->disk)
		blk_front_lift(l->disk);        /* what a limit keeps waiting */
	return l->medium ? !blk_in_flight(l->medium) : virtio_reset(l->dev);
}

/* Free all that have nothing in flight any more. True: none is left. */
static bool plug_finish_leaving(struct machine *m)
{
	for (struct machine_leaving **at = &m->leaving; *at;) {
		struct machine_leaving *l = *at;

		if (!leaving_is_idle(l)) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		blk_close(l->disk);
		blk_close(l->medium);
		virtio_free(l->dev);
		machine_free_line(l->line);
		log_info(l->medium ? "the medium of '%s' is closed" : "device '%s' is unplugged", l->name);
		machine_tell(m, l->medium ? MACHINE_EV_EJECTED : MACHINE_EV_UNPLUGGED, l->name);
		free(l);
	}
	return !m->leaving;
}

static int plug_remove(struct machine *m, const struct plugged *p, struct err *err)
{
	char buf[CONFIG_DISK_NAME_MAX + 1];
	struct machine_leaving *l = machine_new_leaving(plug_name(m, p, buf));
	int r = l ? config_settle(m->cfg, err) : err_set(err, -ENOMEM, "out of memory");

	if (r < 0) {
		free(l);
		return r;
	}
	l->dev = p->dev;
	l->disk = p->kind == PLUG_DISK ? m->blk[p->i] : NULL;
	vcpus_pause(m->vcpus);
	plug_take_off_bus(m, p);
	if (p->kind == PLUG_DISK)
		plug_close_disks(m, p->i);
	else if (p->kind == PLUG_NET)
		plug_close_nets(m, p->i);
	else
		l->line = machine_remove_own_line(m, p->i);
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
		blk_close(l->medium);
		virtio_free(l->dev);
		free(l);
	}
}

struct machine_leaving *machine_new_leaving(const char *name)
{
	struct machine_leaving *l = calloc(1, sizeof(*l));

	if (l)
		snprintf(l->name, sizeof(l->name), "%s", name);
	return l;
}

void machine_leave_medium(struct machine *m, struct machine_leaving *l, struct blk *medium)
{
	l->medium = medium;
	l->next = m->leaving;
	m->leaving = l;
	machine_leave_retry(&m->leave_retry);
}

int machine_unplug(struct machine *m, const char *name, bool is_forced, struct err *err)
{
	struct plugged p;

	if (!plug_find_name(m, name, &p))
		return err_set(err, -ENOENT, "there is no disk, interface or console '%.64s' to unplug; 'info' lists them", name);
	int r = machine_check_unsaved(m, err);

	if (!r)
		r = p.kind == PLUG_DISK ? blk_job_check_idle(m->blk[p.i], err) : 0;
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

/* SPDX-License-Identifier: Apache-2.0 */
/* A device goes: the guest is asked; when it has ejected the slot, or at a reset, or by force, the device leaves the bus
 * at once and is freed when what it was doing has ended. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "blk/front.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "vm/machine_priv.h"
#include "vm/plug.h"
#include "vm/plug_priv.h"

#define RETRY_NS 1000000u               /* until requests in flight have ended */
#define BUSY_RETRY_NS 20000000u         /* until a save or migration has */

static struct log_guest guest_odd_eject = LOG_GUEST("hot-plug: the guest ejects what cannot be ejected, slot");

/* Off the bus and out of the machine. */
struct machine_leaving {
	struct machine_leaving *next;
	struct virtio_dev *dev;
	struct blk *disk;               /* its front, or a drive's medium; NULL: none */
	struct blk *medium;             /* of a drive that stays, and there is no DEV; else NULL */
	struct machine_drive *drive;    /* NULL: it is none */
	struct machine_line *line;      /* NULL: it is no console */
	char name[CONFIG_DISK_NAME_MAX + 1];
};

static bool plug_has_job(const struct machine *m, const struct plugged *p)
{
	return p->kind == PLUG_DISK && blk_job_check_idle(m->blk[p->i], NULL) < 0;
}

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
		free(l->drive);
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
	l->disk = p->kind == PLUG_DISK ? m->blk[p->i] : p->kind == PLUG_CDROM ? m->drive[p->i]->medium : NULL;
	vcpus_pause(m->vcpus);
	plug_take_off_bus(m, p);
	if (p->kind == PLUG_DISK)
		plug_close_disks(m, p->i);
	else if (p->kind == PLUG_NET)
		plug_close_nets(m, p->i);
	else if (p->kind == PLUG_CDROM)
		l->drive = machine_remove_drive(m, p->i);
	else if (p->kind == PLUG_CONSOLE)
		l->line = machine_remove_own_line(m, p->i);
	else
		l->line = plug_single_leave(m, p->kind);
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
		free(l->drive);
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
		return plug_single_check(m, name, err) < 0 ? -ENOTSUP :
			err_set(err, -ENOENT, "there is no device '%.64s' to unplug; 'info' lists them", name);
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

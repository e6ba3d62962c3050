/* SPDX-License-Identifier: Apache-2.0 */
/* Devices come to and go from a whole machine; the test plays the guest's ACPI. */
#include "vm/plug.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
#include "hlt_machine.h"
#include "util/err.h"
#include "util/loop.h"
#include "vm/drive.h"
#include "vm/machine_priv.h"
#include "vm/map.h"

enum { CPU = 0, PCI_COMMAND = 4 };

struct rig {
	struct hlt_machine h;
	char image[64], told[64];
	unsigned n_told;
};

static void rig_told(void *arg, enum machine_event event, const char *detail)
{
	struct rig *r = arg;

	if (event != MACHINE_EV_PLUGGED && event != MACHINE_EV_UNPLUGGED)
		return;
	snprintf(r->told, sizeof(r->told), "%c%s", event == MACHINE_EV_PLUGGED ? '+' : '-', detail);
	r->n_told++;
}

static void rig_init(struct rig *r)
{
	memset(r, 0, sizeof(*r));
	hlt_machine_init(&r->h);
	snprintf(r->image, sizeof(r->image), "%s/image", r->h.dir);
	int fd = open(r->image, O_RDWR | O_CREAT, 0600);

	CHECK(fd >= 0 && !ftruncate(fd, 1 << 20) && !close(fd));
	hlt_machine_build(&r->h);
	machine_set_observer(r->h.m, rig_told, r);
	machine_start(r->h.m);
}

static void rig_fini(struct rig *r)
{
	machine_stop(r->h.m);
	(void)loop_run_once(r->h.loop, 0);      /* what was unplugged is freed by a call */
	unlink(r->image);
	hlt_machine_fini(&r->h);
}

static void guest_out(struct rig *r, uint16_t port, unsigned size, uint32_t v)
{
	bus_write(r->h.m->bus, BUS_PORT, CPU, port, size, v);
}

static void guest_listen(struct rig *r)
{
	guest_out(r, BOARD_GPE_PORT + ACPI_GPE_BYTES, 1, 1 << ACPI_GPE_PCI);
}

/* Vendor and device of SLOT, as the guest sees it. */
static uint32_t guest_id(struct rig *r, unsigned slot)
{
	return (uint32_t)bus_read(r->h.m->bus, BUS_MMIO, CPU, MAP_ECAM_BASE + ((uint64_t)slot << 15), 4);
}

static int plug(struct rig *r, const char *kind, const char *settings, struct err *e)
{
	struct plug_device d = { .kind = kind, .settings = settings, .fd = -1 };
	char name[CONFIG_DISK_NAME_MAX + 1];

	return machine_plug(r->h.m, &d, name, sizeof(name), e);
}

static bool was_told(void *arg)
{
	return ((struct rig *)arg)->n_told;
}

static const char *rig_event(struct rig *r)
{
	hlt_machine_run_until(&r->h, was_told, r);
	r->n_told = 0;
	return r->told;
}

static const char *disk_settings(struct rig *r, const char *more)
{
	static char text[128];

	snprintf(text, sizeof(text), "path=%s%s", r->image, more);
	return text;
}

TEST(a_disk_is_there_after_plug_and_gone_after_the_guest_has_ejected_it)
{
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	guest_listen(&r);
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ""), &e), 0);
	CHECK_STR(rig_event(&r), "+disk0");
	unsigned slot = virtio_pci_dev(r.h.m->disk_dev[0])->slot;

	CHECK_EQ(guest_id(&r, slot), 0x10421af4);
	CHECK_EQ(bus_read(r.h.m->bus, BUS_PORT, CPU, BOARD_HOTPLUG_PORT, 4), 1u << slot);
	CHECK_EQ(machine_unplug(r.h.m, "disk0", false, &e), 0);
	CHECK_EQ(bus_read(r.h.m->bus, BUS_PORT, CPU, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_DOWN, 4), 1u << slot);
	guest_out(&r, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_EJECT, 4, 1u << slot);
	CHECK_EQ(guest_id(&r, slot), 0xffffffff);       /* at once */
	CHECK_STR(rig_event(&r), "-disk0");
	CHECK_EQ(r.h.cfg.n_disks, 0);
	CHECK_EQ(r.h.m->hotplug.s.pci_asked, 0);
	/* Its lock is gone with it. */
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ""), &e), 0);
	rig_fini(&r);
}

TEST(consoles_come_and_go_and_the_one_that_was_there_stays)
{
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	struct machine *m = r.h.m;
	const char *first = m->com[0].cfg ? m->com[0].cfg->target : NULL;

	guest_listen(&r);
	CHECK_EQ(plug(&r, "console", "none", &e), 0);
	CHECK_STR(rig_event(&r), "+console0");
	CHECK_EQ(plug(&r, "console", "none,name=log,id=log", &e), 0);
	CHECK_STR(rig_event(&r), "+log");
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ",name=log"), &e), -EINVAL);
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ""), &e), 0);
	CHECK_STR(rig_event(&r), "+disk0");
	CHECK_EQ(m->n_own, 2);
	CHECK_EQ(m->own[0]->n + 10 * m->own[1]->n, 10);
	unsigned slot = virtio_pci_dev(m->own[0]->dev)->slot;

	CHECK_EQ(guest_id(&r, slot), 0x10431af4);
	CHECK_EQ(machine_unplug(m, "console0", false, &e), 0);
	guest_out(&r, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_EJECT, 4, 1u << slot);
	CHECK_EQ(guest_id(&r, slot), 0xffffffff);
	CHECK_STR(rig_event(&r), "-console0");
	CHECK_EQ(m->n_own, 1);
	CHECK_STR(m->own[0]->cfg->id, "log");
	CHECK(m->own[0]->cfg == &m->cfg->consoles[m->cfg->n_consoles - 1]);
	CHECK_STR(m->com[0].cfg ? m->com[0].cfg->target : "", first ? first : "");
	for (unsigned i = 1; i < CONFIG_OWN_CONSOLES_MAX; i++)
		CHECK_EQ(plug(&r, "console", "none", &e), 0);
	CHECK_EQ(plug(&r, "console", "none", &e), -E2BIG);
	CHECK_EQ(machine_unplug(m, "log", true, &e), 0);
	CHECK_EQ(plug(&r, "console", "none", &e), 0);
	rig_fini(&r);
}

TEST(drives_come_and_go_with_and_without_a_medium)
{
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	guest_listen(&r);
	struct machine *m = r.h.m;
	struct machine_medium medium = { .path = r.image, .format = "raw", .fd = -1 };

	CHECK_EQ(plug(&r, "net", "none", &e), 0);
	CHECK_STR(rig_event(&r), "+net0");
	CHECK_EQ(plug(&r, "cdrom", "none", &e), 0);
	CHECK_STR(rig_event(&r), "+cdrom0");
	CHECK_EQ(plug(&r, "cdrom", disk_settings(&r, ",format=raw,name=cd"), &e), 0);
	CHECK_STR(rig_event(&r), "+cd");
	unsigned slot = virtio_pci_dev(m->drive[1]->dev)->slot;

	CHECK(m->virtio[1] == m->drive[0]->dev && m->virtio[2] == m->drive[1]->dev);
	CHECK_EQ(guest_id(&r, slot), 0x10481af4);
	CHECK_EQ(machine_unplug(m, "cdrom0", true, &e), 0);
	CHECK_STR(rig_event(&r), "-cdrom0");
	CHECK_EQ(r.h.cfg.n_cdroms, 1);
	/* The other one is what it was, in its slot. */
	CHECK_EQ(virtio_pci_dev(m->drive[0]->dev)->slot, slot);
	CHECK_EQ(machine_eject(m, "cd", false, &e), 0);
	CHECK(!m->drive[0]->medium && !r.h.cfg.cdroms[0].path);
	CHECK_EQ(machine_insert(m, "cd", &medium, &e), 0);
	CHECK_STR(r.h.cfg.cdroms[0].path, r.image);
	CHECK_EQ(machine_unplug(m, "cd", false, &e), 0);
	guest_out(&r, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_EJECT, 4, 1u << slot);
	CHECK_EQ(guest_id(&r, slot), 0xffffffff);
	CHECK_STR(rig_event(&r), "-cd");
	CHECK_EQ(r.h.cfg.n_cdroms, 0);
	CHECK_EQ(machine_eject(m, "cd", false, &e), -ENOENT);
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ""), &e), 0);       /* the medium is closed */
	CHECK_STR(rig_event(&r), "+disk0");
	rig_fini(&r);
}

TEST(names_and_addresses_stay_with_devices_when_others_go)
{
	struct err e = ERR_INIT;
	uint8_t before[6], after[6];
	struct rig r;

	rig_init(&r);
	guest_listen(&r);
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(plug(&r, "net", "none", &e), 0);
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ",name=data"), &e), 0);
	config_net_mac(&r.h.cfg, 2, before);
	unsigned slot = virtio_pci_dev(r.h.m->net_dev[2])->slot;

	CHECK_EQ(machine_unplug(r.h.m, "net0", true, &e), 0);
	config_net_mac(&r.h.cfg, 1, after);
	CHECK(!memcmp(before, after, sizeof(before)));
	CHECK_STR(r.h.cfg.nets[1].name, "net2");
	CHECK_EQ(virtio_pci_dev(r.h.m->net_dev[1])->slot, slot);
	CHECK(r.h.m->virtio[0] == r.h.m->disk_dev[0] && r.h.m->virtio[1] == r.h.m->net_dev[0]);
	CHECK_EQ(plug(&r, "net", "none", &e), 0);       /* the first name that is free, an address that nobody has */
	CHECK_STR(r.h.cfg.nets[2].name, "net0");
	rig_fini(&r);
}

TEST(what_is_refused_says_why_and_leaves_nothing_behind)
{
	static const struct { const char *kind, *settings, *says; } bad[] = {
		{ "net", "none", "does not listen" },
		{ "disk", "path=/nowhere/image", "cannot open" },
		{ "disk", "readonly=on", "path: missing" },
		{ "disk", "path=x,speed=9", "unknown key 'speed'" },
		{ "net", "none,name=two words", "not 1 to 31" },
		{ "net", "tap,mac=1", "not an address" },
		{ "console", "stdio", "belongs to the process" },
		{ "console", "", "a file:, a socket: or none; say which" },
		{ "console", "id=c", "a file:, a socket: or none; say which" },
		{ "console", "none,id=two words", "not 1 to 31" },
		{ "console", "none,name=a/b", "printable ASCII" },
		{ "console", "file:/nowhere/log", "cannot open" },
		{ "cdrom", "/nowhere/cd.iso", "cannot open" },
		{ "cdrom", "none,name=two words", "not 1 to 31" },
		{ "floppy", "x", "no kind of device 'floppy'" },
	};
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	unsigned n = r.h.m->n_virtio;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		e = (struct err)ERR_INIT;
		CHECK(plug(&r, bad[i].kind, bad[i].settings, &e) < 0);
		if (!strstr(e.msg, bad[i].says))
			FAIL("'%s' does not say '%s'", e.msg, bad[i].says);
		CHECK(r.h.m->n_virtio == n && !r.h.cfg.n_disks && !r.h.cfg.n_nets && !r.h.cfg.n_cdroms);
		guest_listen(&r);
	}
	e = (struct err)ERR_INIT;
	CHECK_EQ(machine_unplug(r.h.m, "disk0", false, &e), -ENOENT);
	for (unsigned i = 0; i < CONFIG_NETS_MAX; i++)
		CHECK_EQ(plug(&r, "net", "none", NULL), 0);
	CHECK(plug(&r, "net", "none", &e) < 0);
	/* The bridge stays, whatever the guest ejects. */
	n = r.h.m->n_virtio;
	guest_out(&r, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_EJECT, 4, 1);
	CHECK(guest_id(&r, 0) != 0xffffffff);
	CHECK_EQ(r.h.m->n_virtio, n);
	rig_fini(&r);
}

TEST(a_reset_finishes_what_the_guest_has_not_done)
{
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	guest_listen(&r);
	CHECK_EQ(plug(&r, "disk", disk_settings(&r, ""), &e), 0);
	CHECK_STR(rig_event(&r), "+disk0");
	CHECK_EQ(machine_unplug(r.h.m, "disk0", false, &e), 0);
	machine_request_reset(r.h.m);
	CHECK_STR(rig_event(&r), "-disk0");
	CHECK_EQ(r.h.m->disk_dev[0], NULL);
	rig_fini(&r);
}

/* --- what there is one of --- */

/* The guest ejects the device called NAME, which is D. */
static void eject(struct rig *r, const char *name, const struct virtio_dev *d)
{
	struct err e = ERR_INIT;
	char told[16];
	unsigned slot = virtio_pci_dev((struct virtio_dev *)(uintptr_t)d)->slot;

	CHECK_EQ(machine_unplug(r->h.m, name, false, &e), 0);
	guest_out(r, BOARD_HOTPLUG_PORT + HOTPLUG_PCI_EJECT, 4, 1u << slot);
	CHECK_EQ(guest_id(r, slot), 0xffffffff);
	snprintf(told, sizeof(told), "-%s", name);
	CHECK_STR(rig_event(r), told);
}

TEST(what_there_is_one_of_goes_and_comes_back_to_its_place)
{
	static const struct { const char *name; uint32_t id; } all[] = {
		{ "hvc", 0x10431af4 }, { "rng", 0x10441af4 }, { "balloon", 0x10451af4 }, { "vsock", 0x10531af4 }, { "agent", 0x10431af4 },
	};
	struct err e = ERR_INIT;
	struct rig r;
	char settings[80], told[16];

	rig_init(&r);
	guest_listen(&r);
	struct machine *m = r.h.m;
	struct virtio_dev *const *dev[] = { &m->hvc, &m->rng, &m->balloon, &m->vsock_dev, &m->agent_dev };

	CHECK_EQ(plug(&r, "console", "none,id=last", &e), 0);
	CHECK_STR(rig_event(&r), "+last");
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 5; i++) {
			snprintf(told, sizeof(told), "+%s", all[i].name);
			snprintf(settings, sizeof(settings), "path=%s/vsock,cid=%u", r.h.dir, 70 + round);
			if (!*dev[i])
				CHECK_EQ(plug(&r, all[i].name, i == 3 ? settings : "", &e), 0);
			if (round || i > 1)
				CHECK_STR(rig_event(&r), told);
			CHECK_EQ(guest_id(&r, virtio_pci_dev(*dev[i])->slot), all[i].id);
			CHECK_EQ(plug(&r, all[i].name, i == 3 ? settings : "", &e), -EEXIST);
		}
		/* As a machine that is restored makes them. */
		const struct virtio_dev *const order[] = { m->hvc, m->rng, m->vsock_dev, m->balloon, m->agent_dev, m->own[0]->dev };

		CHECK_EQ(m->n_virtio, 6);
		for (unsigned i = 0; i < 6; i++)
			CHECK(m->virtio[i] == order[i]);
		CHECK(r.h.cfg.has_hvc && r.h.cfg.has_rng && r.h.cfg.has_balloon && r.h.cfg.has_agent && r.h.cfg.vsock);
		CHECK_EQ(r.h.cfg.vsock_cid, 70 + round);
		for (unsigned i = 0; i < 5; i++)
			eject(&r, all[i].name, *dev[i]);
		CHECK_EQ(m->n_virtio, 1);
		CHECK(!r.h.cfg.has_hvc && !r.h.cfg.has_rng && !r.h.cfg.has_balloon && !r.h.cfg.has_agent && !r.h.cfg.vsock);
		CHECK_EQ(machine_unplug(m, "rng", false, &e), -ENOENT);
		snprintf(settings, sizeof(settings), "%s/vsock", r.h.dir);
		CHECK_EQ(unlink(settings), 0);  /* whoever made it takes it away */
	}
	rig_fini(&r);
}

TEST(what_cannot_be_plugged_of_them_is_refused_and_leaves_nothing)
{
	struct err e = ERR_INIT;
	struct rig r;

	rig_init(&r);
	guest_listen(&r);
	struct machine *m = r.h.m;
	unsigned n = m->n_virtio;

	CHECK_EQ(plug(&r, "balloon", "size=1G", &e), -EINVAL);
	CHECK_HAS(e.msg, "nothing to set");
	CHECK_EQ(plug(&r, "vsock", "", &e), -EINVAL);
	CHECK_EQ(plug(&r, "vsock", "path=/nowhere/at/all,cid=9", &e), -ENOENT);
	CHECK_EQ(plug(&r, "vsock", "path=/tmp/x,cid=2", &e), -EINVAL);
	CHECK_EQ(plug(&r, "vsock", "path=/tmp/x,cid=two", &e), -EINVAL);
	CHECK_EQ(plug(&r, "vsock", "path=/tmp/x,port=2", &e), -EINVAL);
	CHECK(!m->vsock_dev && !m->balloon && !r.h.cfg.vsock && !r.h.cfg.has_balloon);
	CHECK_EQ(m->n_virtio, n);
	CHECK_EQ(r.n_told, 0);
	rig_fini(&r);
}

TEST(the_console_device_takes_its_ports_with_it_and_an_agents_of_older_machines)
{
	struct err e = ERR_INIT;
	struct rig r = { .n_told = 0 };
	static const char *const consoles[] = { "none,device=virtio", "none,device=virtio,name=log", "none,device=uart", "none,device=virtio,id=own" };

	hlt_machine_init(&r.h);
	r.h.cfg.has_agent = true;
	r.h.cfg.has_agent_device = false;
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(config_set(&r.h.cfg, "--console", consoles[i], &e), 0);
	hlt_machine_build(&r.h);
	machine_set_observer(r.h.m, rig_told, &r);
	machine_start(r.h.m);
	guest_listen(&r);
	struct machine *m = r.h.m;

	CHECK(!m->agent_dev && m->agent_line == &m->port[2]);
	CHECK_EQ(machine_unplug(m, "agent", false, &e), -ENOTSUP);
	CHECK_HAS(e.msg, "unplug 'hvc'");
	eject(&r, "hvc", m->hvc);
	CHECK(!r.h.cfg.has_agent && !m->agent_line);
	CHECK_EQ(r.h.cfg.n_consoles, 3);        /* the test's own is one of them */
	CHECK_STR(m->com[0].cfg->device, "uart");
	CHECK_STR(m->own[0]->cfg->id, "own");
	CHECK_EQ(plug(&r, "agent", "", &e), 0);
	CHECK_STR(rig_event(&r), "+agent");
	CHECK(m->agent_dev && m->agent_line && r.h.cfg.has_agent_device);
	CHECK_EQ(config_set(&r.h.cfg, "--console", consoles[0], &e), 0);
	CHECK_EQ(config_validate(&r.h.cfg, &e), -EINVAL);       /* a port of what is not there */
	CHECK_HAS(e.msg, "needs an id");
	config_remove(&r.h.cfg, "--console", 3);
	/* The agent's device and whoever asks it stay as they are when the console device comes back. */
	const struct machine_line *line = m->agent_line;
	const struct agent *agent = m->agent;
	CHECK_EQ(plug(&r, "hvc", "", &e), 0);
	CHECK_STR(rig_event(&r), "+hvc");
	CHECK(m->hvc && m->agent_line == line && line == &m->agent_own && m->agent == agent && m->bus);
	rig_fini(&r);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A machine's state as sections of a file, both ways: platform devices by one table, then processors with their local APICs and
 * clocks (machine_cpu.c), and virtio devices. Guest memory is the file's own business. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "blk/blk.h"
#include "mem/gmem.h"
#include "mem/lazy.h"
#include "util/checked.h"
#include "util/err.h"
#include "vm/machine_priv.h"
#include "vm/state_file.h"

enum { TAG_LEN = 64, SLOTS_MAX = 64 };
_Static_assert((int)SLOTS_MAX >= (int)MACHINE_VIRTIO_MAX, "a slot for each device");

/* --- the machine itself --- */

struct machine_saved {
	uint64_t memory;
	uint32_t cpus;
	uint32_t virtio;                /* devices */
	uint64_t now_ns, tsc, tsc_hz;   /* guest time and TSC at the moment of saving */
	uint8_t slots[SLOTS_MAX];       /* PCI slots of the virtio devices, in their order; 0: the first that was free */
};

static const struct field machine_fields[] = {
	FIELD(struct machine_saved, memory, 1),
	FIELD(struct machine_saved, cpus, 1),
	FIELD(struct machine_saved, virtio, 1),
	FIELD(struct machine_saved, now_ns, 1),
	FIELD(struct machine_saved, tsc, 1),
	FIELD(struct machine_saved, tsc_hz, 1),
	FIELD_RAW(struct machine_saved, slots, 2),
};

#define TSC_HZ_MIN 1000000u
#define TSC_HZ_MAX 100000000000u

static int machine_saved_check(void *state, struct err *err)
{
	const struct machine_saved *s = state;

	if (s->tsc_hz < TSC_HZ_MIN || s->tsc_hz > TSC_HZ_MAX || s->now_ns > INT64_MAX)
		return err_set(err, -EPROTO, "a clock of %" PRIu64 " Hz at %" PRIu64 " ns is impossible", s->tsc_hz, s->now_ns);
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		if (s->slots[i] >= PCI_SLOTS)
			return err_set(err, -EPROTO, "there is no PCI slot %u", s->slots[i]);
	return 0;
}

const struct state_desc machine_state_desc = {
	.name = "machine", .version = 2, .size = sizeof(struct machine_saved),
	.n_fields = ARRAY_LEN(machine_fields), .fields = machine_fields, .check = machine_saved_check,
};

/* --- platform devices: bus_lock guards them --- */

#define DEVICE(field, tag, desc) { tag, &desc, offsetof(struct machine, field.s), restored_##field, false }

static void restored_pic(struct machine *m) { pic_restored(&m->pic); }
static void restored_ioapic(struct machine *m) { ioapic_restored(&m->ioapic); }
static void restored_pit(struct machine *m) { pit_restored(&m->pit); }
static void restored_rtc(struct machine *m) { rtc_restored(&m->rtc); }
static void restored_acpi(struct machine *m) { acpi_restored(&m->acpi); }

/* States are loaded first, all of them; then RESTORED in this order: when a device raises its line, the
 * interrupt controllers know it as raised already and make no new interrupt of it. */
static const struct {
	const char *tag;
	const struct state_desc *desc;
	size_t offset;                  /* of the state in struct machine */
	void (*restored)(struct machine *m);    /* NULL: nothing to do */
	bool is_later;                  /* machines saved before there was any do not have it */
} devices[] = {
	DEVICE(ioapic, "ioapic", ioapic_state_desc),
	DEVICE(pic, "pic", pic_state_desc),
	DEVICE(pit, "pit", pit_state_desc),
	DEVICE(rtc, "rtc", rtc_state_desc),
	DEVICE(acpi, "acpi", acpi_state_desc),
	{ "i8042", &i8042_state_desc, offsetof(struct machine, i8042.s), NULL, false },
	/* Its page was reserved before, too. */
	{ "vmgenid", &vmgenid_state_desc, offsetof(struct machine, vmgenid.s), NULL, true },
};

/* The firmware configuration device is there for firmware and test kernels only. */
static bool has_fwcfg(const struct machine *m)
{
	return m->firmware || m->cfg->has_test_device;
}

static const char *const com_tags[CONFIG_UARTS_MAX] = { "com1", "com2" };

static void save_platform(struct machine *m, struct state_sections *s)
{
	bus_lock(m->bus);
	for (size_t i = 0; i < ARRAY_LEN(devices); i++)
		state_sections_add_fields(s, devices[i].tag, devices[i].desc, (const char *)m + devices[i].offset);
	for (unsigned i = 0; i < m->n_uarts; i++)
		state_sections_add_fields(s, com_tags[i], &uart_state_desc, &m->uart[i].s);
	if (has_fwcfg(m))
		state_sections_add_fields(s, "fwcfg", &fwcfg_state_desc, &m->fwcfg.s);
	state_sections_add_fields(s, "hotplug", &hotplug_state_desc, &m->hotplug.s);
	struct pci_root_state root;
	pci_root_get_state(m->pci, &root);
	state_sections_add_fields(s, "pci", &pci_root_state_desc, &root);
	state_sections_add_fields(s, "pci/bridge", &pci_state_desc, &pci_root_bridge(m->pci)->s);
	if (m->pci_layout.is_q35)
		state_sections_add_fields(s, "pci/lpc", &pci_state_desc, &m->lpc.pci.s);
	bus_unlock(m->bus);
}

static int load_pci_locked(struct machine *m, struct state_file *f, struct err *err)
{
	struct pci_dev *bridge = pci_root_bridge(m->pci);
	struct pci_root_state root = { 0 };
	int r = state_file_load(f, "pci", &pci_root_state_desc, &root, err);

	if (!r)
		r = state_file_load(f, "pci/bridge", &pci_state_desc, &bridge->s, err);
	if (r < 0)
		return r;
	pci_root_set_state(m->pci, &root);
	r = pci_dev_restored(bridge, err);
	if (r < 0 || !m->pci_layout.is_q35)
		return r;
	r = state_file_load(f, "pci/lpc", &pci_state_desc, &m->lpc.pci.s, err);
	return r < 0 ? r : pci_dev_restored(&m->lpc.pci, err);
}

static int load_platform_locked(struct machine *m, struct state_file *f, struct err *err)
{
	size_t len;
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_LEN(devices); i++)
		if (!devices[i].is_later || state_file_get(f, devices[i].tag, &len))
			r = state_file_load(f, devices[i].tag, devices[i].desc, (char *)m + devices[i].offset, err);
	for (unsigned i = 0; !r && i < m->n_uarts; i++)
		r = state_file_load(f, com_tags[i], &uart_state_desc, &m->uart[i].s, err);
	if (!r && has_fwcfg(m))
		r = state_file_load(f, "fwcfg", &fwcfg_state_desc, &m->fwcfg.s, err);
	if (!r && state_file_get(f, "hotplug", &len))   /* as IS_LATER says */
		r = state_file_load(f, "hotplug", &hotplug_state_desc, &m->hotplug.s, err);
	hotplug_restored(&m->hotplug);
	machine_cpus_changed_locked(m);
	for (size_t i = 0; !r && i < ARRAY_LEN(devices); i++) {
		if (devices[i].restored)
			devices[i].restored(m);
	}
	for (unsigned i = 0; !r && i < m->n_uarts; i++)
		uart_restored(&m->uart[i]);
	return r ? r : load_pci_locked(m, f, err);
}

static int load_platform(struct machine *m, struct state_file *f, struct err *err)
{
	bus_lock(m->bus);
	int r = load_platform_locked(m, f, err);
	bus_unlock(m->bus);
	return r;
}

/* "disk/0" */
static const char *numbered_tag(char *buf, const char *what, unsigned n)
{
	snprintf(buf, TAG_LEN, "%s/%u", what, n);
	return buf;
}

/* --- virtio --- */

/* "virtio/0/virtio-blk/pci": place, kind of device, kind of state. */
static const char *virtio_tag(char *buf, struct machine *m, unsigned i, const struct virtio_section *s)
{
	snprintf(buf, TAG_LEN, "virtio/%u/%s/%s", i, virtio_name(m->virtio[i]), s->desc->name);
	return buf;
}

static void save_virtio(struct machine *m, struct state_sections *s)
{
	struct virtio_section part[VIRTIO_SECTIONS_MAX];
	char tag[TAG_LEN];

	for (unsigned i = 0; i < m->n_virtio; i++) {
		unsigned n = virtio_sections(m->virtio[i], part);

		for (unsigned k = 0; k < n; k++)
			state_sections_add_fields(s, virtio_tag(tag, m, i, &part[k]), part[k].desc, part[k].state);
	}
}

static int load_virtio_one(struct machine *m, struct state_file *f, unsigned i, struct err *err)
{
	struct virtio_section part[VIRTIO_SECTIONS_MAX];
	unsigned n = virtio_sections(m->virtio[i], part);
	char tag[TAG_LEN];
	int r = 0;

	for (unsigned k = 0; !r && k < n; k++)
		r = state_file_load(f, virtio_tag(tag, m, i, &part[k]), part[k].desc, part[k].state, err);
	if (r < 0)
		return r;
	bus_lock(m->bus);
	r = pci_dev_restored(virtio_pci_dev(m->virtio[i]), err);
	bus_unlock(m->bus);
	return r ? r : virtio_restored(m->virtio[i], err);
}

static int load_virtio(struct machine *m, struct state_file *f, struct err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < m->n_virtio; i++)
		r = load_virtio_one(m, f, i, err);
	return r;
}

/* --- disks: they stay where they are, but must be what they were --- */

struct disk_saved {
	uint64_t size;
	uint64_t mtime_ns;              /* of a file; 0: a block device */
	/* Of a snapshot inside, taken at the same instant; id "": none. */
	uint8_t snapshot_id[MACHINE_SNAPSHOT_ID], snapshot_name[MACHINE_SNAPSHOT_NAME];
	uint64_t snapshot_date_s;
	uint32_t snapshot_date_ns;
};

static const struct field disk_fields[] = {
	FIELD(struct disk_saved, size, 1),
	FIELD(struct disk_saved, mtime_ns, 1),
	FIELD_RAW(struct disk_saved, snapshot_id, 2),
	FIELD_RAW(struct disk_saved, snapshot_name, 2),
	FIELD(struct disk_saved, snapshot_date_s, 2),
	FIELD(struct disk_saved, snapshot_date_ns, 2),
};

static int disk_saved_check(void *state, struct err *err)
{
	const struct disk_saved *d = state;

	if (!memchr(d->snapshot_id, '\0', sizeof(d->snapshot_id)) || !memchr(d->snapshot_name, '\0', sizeof(d->snapshot_name)))
		return err_set(err, -EPROTO, "the name of a snapshot has no end");
	return 0;
}

const struct state_desc machine_disk_desc = {
	.name = "disk", .version = 2, .size = sizeof(struct disk_saved),
	.n_fields = ARRAY_LEN(disk_fields), .fields = disk_fields, .check = disk_saved_check,
};

static int disk_look(struct disk_saved *out, const struct blk *b, struct err *err)
{
	struct stat st;

	int r = blk_fstat(b, &st);

	if (r < 0 && r != -ENOTSUP)
		return err_set(err, r, "cannot look at disk '%s': %s", blk_name(b), strerror(-r));
	*out = (struct disk_saved){ .size = blk_size(b) };
	if (!r && S_ISREG(st.st_mode))
		out->mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	return 0;
}

static void disk_note_snapshot(struct disk_saved *d, const struct blk_snapshot *s)
{
	size_t id = strlen(s->id), name = strlen(s->name);

	/* What we made has a number for an id, and a name that was checked. */
	if (!id || id >= sizeof(d->snapshot_id) || name >= sizeof(d->snapshot_name))
		return;
	memcpy(d->snapshot_id, s->id, id);
	memcpy(d->snapshot_name, s->name, name);
	d->snapshot_date_s = s->date_s;
	d->snapshot_date_ns = s->date_ns;
}

/* The disk has changed since, and can go back. */
static int disk_go_back(struct machine *m, unsigned i, const struct disk_saved *d, struct err *err)
{
	struct blk_snapshot s = { .date_s = d->snapshot_date_s, .date_ns = d->snapshot_date_ns };

	memcpy(s.id, d->snapshot_id, sizeof(d->snapshot_id));
	memcpy(s.name, d->snapshot_name, sizeof(d->snapshot_name));
	return machine_find_snapshot(m, i, &s, err);
}

static int disk_stale(const struct machine *m, unsigned i, const struct disk_saved *d, struct err *err)
{
	const char *path = m->cfg->disks[i].path;

	if (*d->snapshot_id)
		return err_set(err, -ESTALE, "disk '%s' has changed since the machine was saved; go back to its snapshot '%s' of that "
			       "instant with --revert-disks, which forgets what was written since", path,
			       (const char *)d->snapshot_name);
	if (m->cfg->reverts_disks)
		return err_set(err, -ENOENT, "disk '%s' has changed since the machine was saved, and no snapshot of it was taken then",
			       path);
	return err_set(err, -ESTALE, "disk '%s' has changed since the machine was saved; the guest would destroy "
		       "what is on it. Bring back its contents of then, or insist with --changed-disks", path);
}

static int save_disks(struct machine *m, struct state_sections *s, struct err *err)
{
	char tag[TAG_LEN];

	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		struct disk_saved d;
		int r = disk_look(&d, m->blk[i], err);

		if (r < 0)
			return r;
		disk_note_snapshot(&d, &m->disk_snapshot[i]);
		state_sections_add_fields(s, numbered_tag(tag, "disk", i), &machine_disk_desc, &d);
	}
	return 0;
}

static int load_disks(struct machine *m, struct state_file *f, struct err *err)
{
	char tag[TAG_LEN];

	for (unsigned i = 0; i < m->cfg->n_disks; i++) {
		const char *path = m->cfg->disks[i].path;
		struct disk_saved d = { 0 }, now;
		int r = state_file_load(f, numbered_tag(tag, "disk", i), &machine_disk_desc, &d, err);

		if (!r)
			r = disk_look(&now, m->blk[i], err);
		if (r < 0)
			return r;
		if (*d.snapshot_id && m->cfg->reverts_disks && !blk_is_readonly(m->blk[i])) {
			r = disk_go_back(m, i, &d, err);
			if (r < 0)
				return r;
			continue;
		}
		if (d.size != now.size)
			return err_set(err, -EINVAL, "disk '%s' has %" PRIu64 " bytes, and had %" PRIu64 " when the machine was saved",
				       path, now.size, d.size);
		if (d.mtime_ns && now.mtime_ns != d.mtime_ns && !m->cfg->takes_changed_disks && !m->cfg->disks[i].is_other)
			return disk_stale(m, i, &d, err);
	}
	return 0;
}

/* --- media of drives: the same; size 0 stands for none --- */

static int save_media(struct machine *m, struct state_sections *s, struct err *err)
{
	char tag[TAG_LEN];

	for (unsigned i = 0; i < m->cfg->n_cdroms; i++) {
		struct disk_saved d = { 0 };
		int r = m->drive[i]->medium ? disk_look(&d, m->drive[i]->medium, err) : 0;

		if (r < 0)
			return r;
		state_sections_add_fields(s, numbered_tag(tag, "cdrom", i), &machine_disk_desc, &d);
	}
	return 0;
}

static int load_media(struct machine *m, struct state_file *f, struct err *err)
{
	char tag[TAG_LEN], buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < m->cfg->n_cdroms; i++) {
		const char *name = config_cdrom_name(m->cfg, i, buf);
		struct disk_saved d = { 0 }, now = { 0 };
		int r = state_file_load(f, numbered_tag(tag, "cdrom", i), &machine_disk_desc, &d, err);

		if (!r && m->drive[i]->medium)
			r = disk_look(&now, m->drive[i]->medium, err);
		if (r < 0)
			return r;
		if (d.size != now.size)
			return err_set(err, -EINVAL, "drive '%s' has a medium of %" PRIu64 " bytes, and had one of %" PRIu64 " when the machine was "
				       "saved (0: none)", name, now.size, d.size);
		if (d.mtime_ns && now.mtime_ns != d.mtime_ns && !m->cfg->takes_changed_disks)
			return err_set(err, -ESTALE, "the medium of drive '%s' has changed since the machine was saved. Bring back its contents of then, "
				       "or insist with --changed-disks", name);
	}
	return 0;
}

/* --- the whole --- */

int machine_can_save(const struct machine *m, struct err *err)
{
	if (m->lazy)
		return err_set(err, -EBUSY, "some of the machine's memory is still to come (%" PRIu64 " MiB); see 'migration'",
			       lazy_left(m->lazy) >> (20 - GMEM_PAGE_SHIFT));
	return 0;
}

int machine_save_identity(struct machine *m, struct state_sections *s, struct err *err)
{
	struct x86_cpuid_saved cpuid;
	struct machine_saved saved = {
		.memory = m->cfg->memory, .cpus = config_cpus(m->cfg), .virtio = m->n_virtio,
		.now_ns = source_now_ns(&m->source.s), .tsc = source_tsc(&m->source.s), .tsc_hz = m->source.s.tsc_hz,
	};
	m->saved_ns = saved.now_ns;
	m->saved_tsc = saved.tsc;
	for (unsigned i = 0; i < m->n_virtio; i++)
		saved.slots[i] = (uint8_t)virtio_pci_dev(m->virtio[i])->slot;
	AUTO(free) char *config = config_to_json(m->cfg);
	if (!config)
		return err_set(err, -ENOMEM, "out of memory");
	state_sections_add(s, "config", config, strlen(config));
	state_sections_add_fields(s, "machine", &machine_state_desc, &saved);
	x86_cpuid_save(&cpuid, &m->cpuid);
	state_sections_add_fields(s, "cpuid", &x86_cpuid_desc, &cpuid);
	return 0;
}

int machine_save_state(struct machine *m, struct state_sections *s, struct err *err)
{
	int r = machine_save_identity(m, s, err);

	if (r < 0)
		return r;
	r = machine_save_cpus(m, s, err);       /* before the PIC */
	if (r < 0)
		return r;
	save_platform(m, s);
	save_virtio(m, s);
	r = save_disks(m, s, err);
	return r ? r : save_media(m, s, err);
}

static int check_size(const struct machine *m, struct state_file *f, struct machine_saved *s, struct err *err)
{
	int r = state_file_load(f, "machine", &machine_state_desc, s, err);

	if (r < 0)
		return r;
	if (s->memory != m->cfg->memory)
		return err_set(err, -EINVAL, "memory: the saved machine has %" PRIu64 " MiB, not %" PRIu64, s->memory >> 20,
			       m->cfg->memory >> 20);
	if (state_file_ram(f) != config_memory(m->cfg, NULL))
		return err_set(err, -EINVAL, "memory: with all that can be added the saved machine has %" PRIu64 " MiB, not %" PRIu64,
			       state_file_ram(f) >> 20, config_memory(m->cfg, NULL) >> 20);
	if (s->cpus != config_cpus(m->cfg))
		return err_set(err, -EINVAL, "cpus: the saved machine has %u, not %u", s->cpus, config_cpus(m->cfg));
	return 0;
}

int machine_load_clock(struct machine *m, struct state_file *f, struct err *err)
{
	struct machine_saved s = { 0 };
	int r = check_size(m, f, &s, err);

	if (r < 0)
		return r;
	memcpy(m->slots, s.slots, sizeof(m->slots));
	source_host_init(&m->source, s.tsc_hz);
	source_host_set(&m->source, s.now_ns, s.tsc, s.tsc_hz);
	source_host_stop(&m->source);
	return 0;
}

int machine_load_late(struct machine *m, struct state_file *f, struct err *err)
{
	struct machine_saved s = { 0 };
	int r = check_size(m, f, &s, err);

	if (r < 0)
		return r;
	if (!state_file_same(f, m->cfg->saved, "config") || !state_file_same(f, m->cfg->saved, "cpuid") ||
	    s.tsc_hz != m->source.s.tsc_hz)
		return err_set(err, -EPROTO, "the machine whose state comes is not the one that was announced");
	source_host_go(&m->source);
	source_host_set(&m->source, s.now_ns, s.tsc, s.tsc_hz);
	machine_stand_still(m); /* what devices find in memory is not ours yet */
	return machine_load_state(m, f, err);
}

int machine_load_cpuid(struct machine *m, struct state_file *f, struct err *err)
{
	struct x86_cpuid_saved saved = { 0 };
	struct x86_features can;
	int r = state_file_load(f, "cpuid", &x86_cpuid_desc, &saved, err);

	if (r < 0)
		return r;
	x86_features_usable(&can, m->ops->executes ? m->ops->executes : m->ops->features);
	x86_cpuid_load(&m->cpuid, &saved);
	r = x86_cpuid_check(&m->cpuid, &can, err);
	return r || !m->ops->fit_cpuid ? r : m->ops->fit_cpuid(&m->cpuid, err);
}

int machine_load_state(struct machine *m, struct state_file *f, struct err *err)
{
	struct machine_saved s = { 0 };
	size_t len;
	int r = state_file_load(f, "machine", &machine_state_desc, &s, err);

	(void)state_file_get(f, "config", &len);        /* read when the options were */
	if (!r && s.virtio != m->n_virtio)
		r = err_set(err, -EINVAL, "the saved machine has %u virtio devices, this one %u", s.virtio, m->n_virtio);
	if (!r)
		r = load_disks(m, f, err);
	if (!r)
		r = load_media(m, f, err);
	if (!r)
		r = load_platform(m, f, err);
	if (!r)
		r = machine_load_cpus(m, f, err);
	if (!r)
		r = load_virtio(m, f, err);
	if (!r)
		machine_continue_ejects(m);
	return r ? r : state_file_all_used(f, err);
}

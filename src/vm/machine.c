/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the board are listed once, in parts[]: building walks the list forward, release
 * backward. Ports are in ports[]. */
#include "vm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include "dev/acpi_tables.h"
#include "mem/huge.h"
#include "net/keeper.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/pid.h"
#include "virtio/blk.h"
#include "virtio/net.h"
#include "net/net.h"
#include "blk/blk.h"
#include "blk/secret.h"
#include "vm/handover.h"
#include "vm/jail.h"
#include "vm/machine_priv.h"
#include "vm/pidns.h"
#include "vm/plug.h"
#include "vm/map.h"
#include "vm/migrate.h"
#include "vm/save.h"
#include "vm/state_file.h"
#include "vm/vsock_host.h"

/* --- engine --- */

static int machine_pick_engine(struct machine *m, struct err *err)
{
	char why[256] = "";
	int r = cpu_engine_pick(&m->ops, m->cfg->engine, why, sizeof(why), err);

	if (r < 0)
		return r;
	log_info("engine %s: %s", m->ops->name, why);
	if (m->cfg->saved)
		return machine_load_cpuid(m, m->cfg->saved, err);
	r = x86_model_make(&m->model, m->cfg->cpu, m->ops->features, m->ops->name, err);
	if (r < 0)
		return err_wrap(err, r, "cpu");
	x86_cpuid_build(&m->cpuid, &(struct x86_cpuid_params){
		.n_vcpus = config_cpus(m->cfg), .engine = m->ops->features, .model = &m->model,
		.tsc_hz = m->source.s.tsc_hz, .phys_bits = machine_phys_bits(), .has_kvmclock = true,
		.has_pv = m->ops->unhalt != NULL,
	});
	return m->ops->fit_cpuid ? m->ops->fit_cpuid(&m->cpuid, err) : 0;
}

static int machine_make_bus(struct machine *m, struct err *err)
{
	return bus_new(&m->bus, err);
}

static void machine_drop_bus(struct machine *m)
{
	bus_free(m->bus);
	m->bus = NULL;
}

static int machine_make_cpus(struct machine *m, struct err *err)
{
	struct cpu_config cfg = {
		.n_vcpus = config_cpus(m->cfg), .mem = m->mem, .cpuid = &m->cpuid,
		.host = &m->host, .source = &m->source.s,
		.code_cache = m->cfg->code_cache, .windows = m->cfg->windows, .wants_profile = m->cfg->wants_profile, .wants_perf_map = m->cfg->wants_perf_map,
	};
	machine_fill_host(m);
	int r = m->ops->vm_new(&m->vm, &cfg, err);
	bus_lock(m->bus);
	machine_update_doorbells_locked(m);
	bus_unlock(m->bus);
	if (r >= 0 && m->cfg->wants_profile)
		r = profile_new(&m->profile, m->loop, m->ops, m->vm, cfg.n_vcpus, m->cfg->profile_symbols, err);
	return r;
}

static void machine_drop_cpus(struct machine *m)
{
	profile_free(m->profile);
	m->profile = NULL;
	if (m->vm)
		m->ops->vm_free(m->vm);
	m->vm = NULL;
}

/* --- interrupt controllers --- */

static int machine_make_lapics(struct machine *m, struct err *err)
{
	if (m->ops->has_lapic)
		return 0;
	struct lapics_config cfg = {
		.n_cpus = config_cpus(m->cfg), .ops = &machine_lapic_ops, .ops_arg = m,
		.loop = m->loop, .source = &m->source.s, .bus = m->bus, .phys_bits = machine_phys_bits(),
		.mem = m->ops->unhalt ? m->mem : NULL,
	};
	int r = lapics_new(&m->lapics, &cfg, err);
	if (!r)
		r = kvmclock_new(&m->kvmclock, cfg.n_cpus, m->mem, &m->source.s, machine_tsc_offset, m, err);
	if (!r && m->ops->unhalt)
		r = pv_new(&m->pv, cfg.n_cpus, m->mem, &m->source.s, &machine_pv_ops, m, err);
	if (r < 0)
		return r;
	return machine_map(m, BUS_MMIO, lapics_region(m->lapics), BOARD_LAPIC_BASE, BOARD_LAPIC_LEN, err);
}

static void machine_drop_lapics(struct machine *m)
{
	pv_free(m->pv);
	kvmclock_free(m->kvmclock);
	m->pv = NULL;
	lapics_free(m->lapics);
	m->kvmclock = NULL;
	m->lapics = NULL;
}

static int machine_make_irqs(struct machine *m, struct err *err)
{
	pic_init(&m->pic, m->bus, (struct irq_line){ machine_pic_output, m, 0 });
	ioapic_init(&m->ioapic, m->bus, machine_msi_sink(m),
		    m->ops->has_lapic && m->ops->eoi_exits ? machine_level_vectors : NULL, m);
	m->isa = (struct isa_irq){ &m->pic, &m->ioapic };
	return machine_map(m, BUS_MMIO, &m->ioapic.region, BOARD_IOAPIC_BASE, BOARD_IOAPIC_LEN, err);
}

/* --- platform devices --- */

static int machine_make_platform(struct machine *m, struct err *err)
{
	struct source *src = &m->source.s;
	struct irq_line lines[TESTDEV_LINES];

	pit_init(&m->pit, m->bus, m->loop, src, isa_irq_line(&m->isa, 0));
	rtc_init(&m->rtc, m->bus, m->loop, src, isa_irq_line(&m->isa, BOARD_GSI_RTC), m->mem->low_size,
		 m->mem->boot_size - m->mem->low_size);
	i8042_init(&m->i8042, machine_request_reset, m);
	acpi_init(&m->acpi, m->bus, m->loop, src, &(struct acpi_config){
		.sci = isa_irq_line(&m->isa, BOARD_GSI_SCI), .reset_request = machine_request_reset,
		.poweroff_request = machine_request_poweroff, .arg = m,
	});
	vmgenid_init(&m->vmgenid, m->mem, src, &m->acpi, m->firmware ? firmware_vmgenid(m->mem) : MAP_VMGENID);
	hotplug_init(&m->hotplug, &m->acpi, &(struct hotplug_config){
		.n_cpus = config_cpus(m->cfg), .cpus_present = UINT64_MAX >> (64 - m->cfg->cpus),
		.eject = machine_ejected_locked, .cpus_changed = machine_cpus_changed_locked, .arg = m,
	});
	machine_cpus_changed_locked(m);
	machine_init_uarts(m);
	debugport_init(&m->debugport, machine_debug_write, m);
	for (int i = 0; i < TESTDEV_LINES; i++)
		lines[i] = isa_irq_line(&m->isa, i);
	testdev_init(&m->testdev, lines, machine_request_exit, m);
	m->has_platform = true;
	return 0;
}

static void machine_drop_platform(struct machine *m)
{
	if (!m->has_platform)
		return;
	for (unsigned i = 0; i < m->n_uarts; i++)
		uart_fini(&m->uart[i]);
	acpi_fini(&m->acpi);
	rtc_fini(&m->rtc);
	pit_fini(&m->pit);
	m->has_platform = false;
}

/* Which port belongs to which device. */
static const struct {
	size_t region;          /* offset of the struct bus_region in struct machine */
	uint16_t base, len;
} ports[] = {
	{ offsetof(struct machine, pic.region[0]), BOARD_PIC0_PORT, BOARD_PIC_LEN },
	{ offsetof(struct machine, pic.region[1]), BOARD_PIC1_PORT, BOARD_PIC_LEN },
	{ offsetof(struct machine, pic.elcr_region), BOARD_ELCR_PORT, BOARD_ELCR_LEN },
	{ offsetof(struct machine, pit.region), BOARD_PIT_PORT, BOARD_PIT_LEN },
	{ offsetof(struct machine, pit.port61), BOARD_PORT61_PORT, BOARD_PORT61_LEN },
	{ offsetof(struct machine, i8042.data), BOARD_I8042_DATA_PORT, BOARD_I8042_LEN },
	{ offsetof(struct machine, i8042.command), BOARD_I8042_CMD_PORT, BOARD_I8042_LEN },
	{ offsetof(struct machine, rtc.region), BOARD_RTC_PORT, BOARD_RTC_LEN },
	{ offsetof(struct machine, debugport.post), BOARD_POST_PORT, BOARD_POST_LEN },
	{ offsetof(struct machine, debugport.debug), BOARD_DEBUG_PORT, BOARD_DEBUG_LEN },
	{ offsetof(struct machine, acpi.pm), BOARD_PM_PORT, BOARD_PM_LEN },
	{ offsetof(struct machine, acpi.gpe), BOARD_GPE_PORT, BOARD_GPE_LEN },
	{ offsetof(struct machine, hotplug.region), BOARD_HOTPLUG_PORT, BOARD_HOTPLUG_LEN },
};

static int machine_map_test_device(struct machine *m, struct err *err)
{
	struct testdev *t = &m->testdev;

	if (!m->cfg->has_test_device)
		return 0;
	int r = machine_map(m, BUS_PORT, &t->latch, BOARD_TESTDEV_LATCH_PORT, TESTDEV_LATCH_LEN, err);
	if (!r)
		r = machine_map(m, BUS_PORT, &t->lines, BOARD_TESTDEV_LINES_PORT, TESTDEV_LINES, err);
	if (!r)
		r = machine_map(m, BUS_MMIO, &t->mmio, BOARD_TESTDEV_BASE, TESTDEV_MMIO_LEN, err);
	return r;
}

static int machine_map_ports(struct machine *m, struct err *err)
{
	static const uint16_t com[CONFIG_UARTS_MAX] = { BOARD_COM1_PORT, BOARD_COM2_PORT };
	int r = 0;

	for (size_t i = 0; !r && i < ARRAY_LEN(ports); i++) {
		struct bus_region *region = (struct bus_region *)((char *)m + ports[i].region);

		r = machine_map(m, BUS_PORT, region, ports[i].base, ports[i].len, err);
	}
	for (unsigned i = 0; !r && i < m->n_uarts; i++)
		r = machine_map(m, BUS_PORT, &m->uart[i].region, com[i], BOARD_UART_LEN, err);
	if (!r && m->cfg->has_exit_port)
		r = machine_map(m, BUS_PORT, &m->testdev.region, BOARD_TESTDEV_PORT, BOARD_TESTDEV_LEN, err);
	return r ? r : machine_map_test_device(m, err);
}

/* --- PCI and virtio --- */

static int machine_make_pci(struct machine *m, struct err *err)
{
	uint64_t ram_end = m->mem->size > m->mem->low_size ? GMEM_HIGH_BASE + m->mem->size - m->mem->low_size
							   : GMEM_HIGH_BASE;
	m->pci_layout = (struct pci_layout){
		.ecam_base = machine_has_q35(m) ? MAP_UEFI_LOW_MAX : MAP_ECAM_BASE, .is_q35 = machine_has_q35(m),
		.mmio32_base = MAP_MMIO32_BASE, .mmio32_size = MAP_MMIO32_SIZE,
		.mmio64_base = align_up(ram_end, MAP_MMIO64_ALIGN), .mmio64_size = MAP_MMIO64_SIZE,
	};
	if (m->pci_layout.mmio64_base + MAP_MMIO64_SIZE > 1ull << machine_phys_bits())
		return err_set(err, -EINVAL, "memory: this processor's %u address bits have no room for %" PRIu64 "G of RAM",
			       machine_phys_bits(), m->mem->size >> 30);
	bus_lock(m->bus);
	int r = pci_root_new(&m->pci, m->bus, &m->pci_layout, machine_msi_sink(m), err);
	if (!r)
		pci_root_set_reset_port(m->pci, &m->acpi.reset);
	if (!r)
		pci_root_set_moved(m->pci, machine_update_doorbells_locked, m);
	bus_unlock(m->bus);
	return r;
}

static void machine_drop_pci(struct machine *m)
{
	if (!m->pci)
		return;
	bus_lock(m->bus);
	pci_root_free(m->pci);
	bus_unlock(m->bus);
	m->pci = NULL;
}

int machine_take(struct machine *m, struct virtio_dev *d, unsigned at, struct err *err)
{
	int slot = m->slots[m->n_virtio] ? m->slots[m->n_virtio] : -1;

	bus_lock(m->bus);
	memmove(&m->virtio[at + 1], &m->virtio[at], (m->n_virtio - at) * sizeof(m->virtio[0]));
	memmove(&m->doorbell[at + 1], &m->doorbell[at], (m->n_virtio - at) * sizeof(m->doorbell[0]));
	memset(&m->doorbell[at], 0, sizeof(m->doorbell[0]));
	m->virtio[at] = d;
	m->n_virtio++;
	int r = pci_add(m->pci, virtio_pci_dev(d), slot, err);
	bus_unlock(m->bus);
	return r;
}

unsigned machine_virtio_index(const struct machine *m, const struct virtio_dev *d)
{
	unsigned i = 0;

	while (i < m->n_virtio && m->virtio[i] != d)
		i++;
	return i;
}

void machine_forget_virtio_locked(struct machine *m, const struct virtio_dev *d)
{
	unsigned at = machine_virtio_index(m, d);

	if (at == m->n_virtio)
		return;
	m->n_virtio--;
	memmove(&m->virtio[at], &m->virtio[at + 1], (m->n_virtio - at) * sizeof(m->virtio[0]));
	memmove(&m->doorbell[at], &m->doorbell[at + 1], (m->n_virtio - at) * sizeof(m->doorbell[0]));
	memset(&m->doorbell[m->n_virtio], 0, sizeof(m->doorbell[0]));
}

static int machine_read_key(struct blk_secret *key, const struct blk_options *o, const char *path, struct err *err)
{
	for (unsigned i = 0; i < o->n_handed; i++)
		if (!strcmp(o->handed[i].name, path))
			return blk_secret_read_fd(key, o->handed[i].fd, err);
	return blk_secret_read_file(key, path, err);
}

/* The order of m->virtio: disks, interfaces, drives, what there is one of (machine_single.c), consoles that are devices of their own. */
int machine_make_disk(struct machine *m, unsigned i, const struct plug_device *handed, struct err *err)
{
	int fd = handed ? handed->fd : -1;
	const struct config_disk *c = &m->cfg->disks[i];
	struct blk_options o = {
		.path = fd < 0 ? c->path : NULL, .fd = -1, .name = c->path,
		.format = c->format && strcmp(c->format, "auto") ? c->format : NULL,
		.is_readonly = c->is_readonly, .is_direct = c->is_direct,
		.is_inactive = m->cfg->is_incoming && m->state == MACHINE_STOPPED && !c->comes,
		.handed = handed ? handed->files : NULL, .n_handed = handed ? handed->n_files : 0,
	};
	AUTO(blk_secret_wipe) struct blk_secret key = { 0 };
	struct virtio_dev *d = NULL;
	int r = c->key_file ? machine_read_key(&key, &o, c->key_file, err) : 0;

	o.secrets = &key;
	o.n_secrets = !!key.len;
	o.fd = !r && fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (!r)
		r = machine_open_disk(m, i, &o, err);
	auto_fd(&o.fd);

	if (!r) {
		struct virtio_blk_config bc = { .backend = m->blk[i], .serial = c->serial };

		r = virtio_blk_new(&d, &m->env, &bc, err);
		m->disk_dev[i] = d;
	}
	return r < 0 ? err_wrap(err, r, "disks[%u]", i) : machine_take(m, d, i, err);
}

/* HANDED: the descriptor of its backend, borrowed, or -1. */
int machine_make_net(struct machine *m, unsigned i, int handed, struct err *err)
{
	const struct config_net *c = &m->cfg->nets[i];
	struct net_forward forward[CONFIG_FORWARDS_MAX];
	struct net_options o = {
		.kind = c->kind, .ifname = c->ifname, .fd = handed < 0 ? -1 : fcntl(handed, F_DUPFD_CLOEXEC, 0), .forward = forward,
	};
	struct virtio_net_config nc = { .backend = &o };
	struct virtio_dev *d = NULL;
	AUTO_FD int keeper = m->cfg->keeper ? take_fd(&m->cfg->keeper->fd[i]) : -1;
	int r = config_net_forwards(c, forward, err);

	o.keeper = keeper;
	if (r >= 0 && m->cfg->is_inside && keeper >= 0 && o.fd < 0) {
		o.fd = net_keeper_get(keeper, err);
		r = o.fd < 0 ? o.fd : r;
	}
	o.has_metadata = c->has_metadata;
	o.n_forward = r < 0 ? 0 : (unsigned)r;
	config_net_mac(m->cfg, i, nc.mac);
	if (r >= 0)
		r = virtio_net_new(&d, &m->env, &nc, err);
	m->net_dev[i] = d;
	/* Until the machine is ours, frames are for whoever has it. */
	if (!r && m->cfg->is_incoming && m->state == MACHINE_STOPPED)
		virtio_pause(d);
	return r < 0 ? err_wrap(err, r, "nets[%u]", i) : machine_take(m, d, m->cfg->n_disks + i, err);
}

static int machine_make_virtio(struct machine *m, struct err *err)
{
	int r = 0;

	m->env = (struct virtio_env){ .mem = m->mem, .loop = m->loop, .bus = m->bus, .source = &m->source.s,
				      .is_lagging = m->ops->has_own_memory };
	for (unsigned i = 0; !r && i < m->cfg->n_disks; i++)
		r = machine_make_disk(m, i, NULL, err);
	for (unsigned i = 0; !r && i < m->cfg->n_nets; i++)
		r = machine_make_net(m, i, m->cfg->handed ? m->cfg->handed->net[i] : -1, err);
	for (unsigned i = 0; !r && i < m->cfg->n_cdroms; i++)
		r = machine_make_drive(m, i, -1, err);
	if (!r)
		r = machine_make_singles(m, err);
	for (unsigned i = 0; !r && i < m->n_own; i++)
		r = machine_make_console(m, i, err);
	return r;
}

static void machine_drop_virtio(struct machine *m)
{
	machine_drop_leaving(m);
	for (unsigned i = 0; m->is_handed_over && i < m->cfg->n_nets; i++)
		virtio_net_forget(m->net_dev[i]);
	for (unsigned i = 0; i < m->n_virtio; i++) {
		bus_lock(m->bus);
		pci_remove(virtio_pci_dev(m->virtio[i]));
		bus_unlock(m->bus);
	}
	for (unsigned i = 0; i < ARRAY_LEN(m->blk); i++) {
		blk_close(m->blk[i]);
		m->blk[i] = NULL;
	}
	machine_close_media(m);
	machine_drop_agent(m);
	vsock_host_close(m->vsock, m->is_handed_over);
	m->vsock = NULL;
	while (m->n_virtio)
		virtio_free(m->virtio[--m->n_virtio]);
	machine_free_drives(m);
	machine_forget_singles(m);
}

/* --- kernel --- */

static int machine_open_kernel(struct machine *m, struct err *err)
{
	if (m->cfg->firmware)
		return firmware_open(&m->firmware, m->cfg->firmware, m->cfg->firmware_log, err);
	struct boot_files f = { .kernel = m->cfg->kernel, .initrd = m->cfg->initrd, .cmdline = m->cfg->cmdline };

	struct err why = ERR_INIT;
	int r = boot_open(&m->boot, &f, m->cfg->saved ? &why : err);

	if (r < 0 && m->cfg->saved) {
		/* It has booted long ago. A reset will say the same again. */
		log_warn("%s: the machine goes on, but cannot start again", why.msg);
		return 0;
	}
	return r;
}

static void machine_drop_kernel(struct machine *m)
{
	boot_free(m->boot);
	firmware_free(m->firmware);
	m->boot = NULL;
	m->firmware = NULL;
}

static struct acpi_tables_params machine_acpi_params(const struct machine *m)
{
	/* The keyboard controller is there for its reset line only. Announced, Linux waits 0.8 s for a
	 * keyboard that does not answer. */
	return (struct acpi_tables_params){
		.n_cpus = config_cpus(m->cfg), .pci = m->pci_layout, .has_pci = true,
		.has_com1 = true, .has_com2 = m->n_uarts > 1, .has_rtc = true, .vmgenid = m->vmgenid.s.gpa,
		.has_cpu_hotplug = config_cpus(m->cfg) > 1 && m->cfg->cpus_max, .cpus_present = m->hotplug.s.cpu_present,
	};
}

static int machine_make_lpc(struct machine *m, struct err *err)
{
	bus_lock(m->bus);
	lpc_init(&m->lpc);
	int r = pci_add(m->pci, &m->lpc.pci, LPC_SLOT, err);
	bus_unlock(m->bus);
	return r;
}

static void machine_drop_firmware(struct machine *m)
{
	if (!m->bus)
		return;
	bus_lock(m->bus);
	pci_remove(&m->lpc.pci);
	bus_unlock(m->bus);
}

/* What firmware reads by ports, and its ROM. Test kernels read the first part, too. */
static int machine_make_firmware(struct machine *m, struct err *err)
{
	struct acpi_tables_params acpi = machine_acpi_params(m);
	int r = 0;

	fwcfg_init(&m->fwcfg, m->mem);
	fwcfg_add_number(&m->fwcfg, FWCFG_RAM_SIZE, m->mem->low_size, 8);
	fwcfg_add_number(&m->fwcfg, FWCFG_NB_CPUS, m->cfg->cpus, 2);
	fwcfg_add_number(&m->fwcfg, FWCFG_MAX_CPUS, config_cpus(m->cfg), 2);
	if (m->firmware || m->cfg->has_test_device)
		r = machine_map(m, BUS_PORT, &m->fwcfg.ports, BOARD_FWCFG_PORT, FWCFG_PORTS, err);
	if (!r && (m->firmware || m->cfg->has_test_device))
		r = machine_map(m, BUS_PORT, &m->fwcfg.dma, BOARD_FWCFG_DMA_PORT, FWCFG_DMA_PORTS, err);
	if (r || !m->firmware)
		return r;
	r = machine_map(m, BUS_PORT, firmware_debug_port(m->firmware), BOARD_FIRMWARE_DEBUG_PORT,
			BOARD_FIRMWARE_DEBUG_LEN, err);
	if (!r)
		r = machine_map(m, BUS_MMIO, firmware_rom(m->firmware), firmware_rom_base(m->firmware),
				GMEM_HIGH_BASE - firmware_rom_base(m->firmware), err);
	if (!r && m->pci_layout.is_q35)
		r = machine_make_lpc(m, err);
	return r ? r : firmware_describe(m->firmware, &m->fwcfg, m->mem, &acpi, err);
}

static int machine_put_acpi(struct machine *m, struct err *err)
{
	struct acpi_tables_params p = machine_acpi_params(m);
	AUTO(free) uint8_t *buf = calloc(1, MAP_ACPI_SIZE);

	if (!buf)
		return err_set(err, -ENOMEM, "out of memory");
	long n = acpi_tables_build(buf, MAP_VMGENID - MAP_ACPI_BASE, MAP_ACPI_BASE, &p, err);
	if (n < 0)
		return (int)n;
	int r = gmem_write(m->mem, MAP_ACPI_BASE, buf, (size_t)n);
	return r < 0 ? err_set(err, r, "guest memory has no room for ACPI tables") : 0;
}

int machine_load(struct machine *m, struct err *err)
{
	if (!m->boot && !m->firmware)
		return err_set(err, -ENOENT, "the kernel '%s' could not be opened when the machine was restored", m->cfg->kernel);
	int r = m->firmware ? firmware_load(m->firmware, m->mem, err) : machine_put_acpi(m, err);

	if (!r && vmgenid_place(&m->vmgenid) < 0)
		r = err_set(err, -EFAULT, "guest memory has no room for the generation of the machine");

	for (unsigned i = 0; !r && i < config_cpus(m->cfg); i++) {
		struct vcpu *v = m->ops->vcpu(m->vm, i);
		struct x86_state s;

		if (m->ops->set_lapic)
			r = m->ops->set_lapic(v, NULL, err);
		if (!r)
			r = m->ops->get_state(v, &s, err); /* the TSC offset survives a reset */
		if (r < 0)
			return r;
		x86_state_reset(&s, i == 0);
		if (i == 0 && m->boot)
			r = boot_load(m->boot, m->mem, MAP_ACPI_BASE, &s, err);
		if (!r)
			r = m->ops->set_state(v, &s, err);
	}
	return r;
}

/* Nothing can know whether it is the first to be continued from this state. */
static void machine_is_a_copy(struct machine *m)
{
	bus_lock(m->bus);
	vmgenid_renew(&m->vmgenid);
	bus_unlock(m->bus);
	for (unsigned i = 0; m->cfg->is_copy && i < m->cfg->n_nets; i++)
		virtio_net_renew(m->net_dev[i]);
}

static int machine_load_or_restore(struct machine *m, struct err *err)
{
	if (m->cfg->is_incoming)
		return 0;       /* state comes later */
	if (!m->cfg->saved)
		return machine_load(m, err);
	int r = machine_load_state(m, m->cfg->saved, err);
	if (r < 0)
		return err_wrap(err, r, "cannot take over the saved machine");
	machine_is_a_copy(m);
	return 0;
}

/* Namespaces and Landlock are for the thread that enters them, and those that it starts from then on. */
static void machine_rest_threads(struct machine *m)
{
	for (unsigned i = 0; i < m->cfg->n_disks; i++)
		blk_rest(m->blk[i]);
	for (unsigned i = 0; i < m->cfg->n_cdroms; i++)
		blk_rest(m->drive[i]->medium);
}

static int machine_make_jail(struct machine *m, struct err *err)
{
	if (m->cfg->has_jail) {
		machine_rest_threads(m);
		int r = jail_enter(err);

		if (!r && (r = pidns_stay_bound()) < 0)
			err_set(err, r, "the process in front of the machine has ended: %s", strerror(-r));
		return r;
	}
	log_warn("the jail is off: a guest that takes over this process has all rights of user %u", geteuid());
	return 0;
}

static int machine_make_threads(struct machine *m, struct err *err)
{
	struct vcpus_config cfg = {
		.n = config_cpus(m->cfg), .ops = m->ops, .vm = m->vm, .stuck = machine_cpu_stuck, .arg = m,
		.begin = m->cfg->has_jail ? jail_filter_vcpu : NULL,
	};
	unsigned limit = 0;
	int r = huge_new(&m->huge, m->mem, err);

	if (!r)
		r = huge_start(m->huge, err);
	if (!r)
		r = vcpus_new(&m->vcpus, &cfg, err);
	if (!r && m->cfg->cpu_limit)
		r = cpu_limit_parse(&limit, m->cfg->cpu_limit, err);
	if (!r)
		cpu_limit_set(&m->cpu_limit, limit);
	return r;
}

static void machine_drop_threads(struct machine *m)
{
	cpu_limit_fini(&m->cpu_limit);
	vcpus_free(m->vcpus);
	m->vcpus = NULL;
	huge_free(m->huge);
	m->huge = NULL;
}

/* --- the whole --- */

static const struct {
	int (*make)(struct machine *m, struct err *err);
	void (*drop)(struct machine *m);        /* NULL: nothing to release; half-made is fine */
} parts[] = {
	{ machine_plan_lines, NULL },
	{ machine_open_kernel, machine_drop_kernel },
	{ machine_make_memory, machine_drop_memory },
	{ machine_pick_engine, NULL },
	{ machine_make_bus, machine_drop_bus },
	{ machine_make_lapics, machine_drop_lapics },
	{ machine_make_irqs, NULL },
	{ machine_make_platform, machine_drop_platform },
	{ machine_map_ports, NULL },
	{ machine_make_pci, machine_drop_pci },
	{ machine_make_firmware, machine_drop_firmware },
	{ machine_make_virtio, machine_drop_virtio },
	{ machine_open_consoles, machine_close_consoles },
	{ machine_make_cpus, machine_drop_cpus },
	{ machine_load_or_restore, NULL },
	{ machine_make_jail, NULL },    /* everything is open; threads inherit it */
	{ machine_make_threads, machine_drop_threads },
};

int machine_new(struct machine **out, struct config *cfg, struct loop *loop, struct err *err)
{
	AUTO(machine_free) struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->cfg = cfg;
	m->loop = loop;
	m->user = geteuid();
	m->pid = pid_of_self();
	loop_timer_init(loop, &m->reset_retry, machine_reset_retry);
	loop_timer_init(loop, &m->leave_retry, machine_leave_retry);
	cpu_limit_init(&m->cpu_limit, m);
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		int r = parts[i].make(m, err);

		if (r < 0)
			return r;
	}
	*out = take_ptr(&m);
	return 0;
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	save_abandon(m->save);
	machine_end_jobs(m);
	migration_abandon(m);
	for (size_t i = ARRAY_LEN(parts); i-- > 0;) {
		if (parts[i].drop)
			parts[i].drop(m);
	}
	loop_timer_cancel(&m->reset_retry);
	loop_timer_cancel(&m->leave_retry);
	free(m);
}

/* What only engines in software, and those that generate code, count. */
static void print_code_stats(FILE *to, unsigned cpu, const struct cpu_stats *s)
{
	if (s->memory)
		fprintf(to, "cpu %u: %.1f MiB in use for translations, %" PRIu64 " address spaces dropped for want of memory\n", cpu,
			(double)s->memory / (1 << 20), s->tlb_trims);
	if (!s->code_bytes)
		return;
	fprintf(to, "cpu %u: %" PRIu64 " bytes of code, %" PRIu64 " times dropped; %" PRIu64 " call-outs:", cpu, s->code_bytes, s->cache_flushes,
		s->call_outs);
	for (unsigned i = 0; i < ARRAY_LEN(s->top_call_outs) && s->top_call_outs[i].n; i++)
		fprintf(to, " %s %" PRIu64, s->top_call_outs[i].name, s->top_call_outs[i].n);
	fprintf(to, "\ncpu %u: exits from code:", cpu);
	for (unsigned why = 0; why < CPU_N_CODE_EXITS; why++)
		fprintf(to, " %" PRIu64 " %s", s->code_exits[why], cpu_code_exit_name(why));
	fprintf(to, "\n");
	if (s->window_faults)
		fprintf(to, "cpu %u: %" PRIu64 " faults in windows, after %" PRIu64 " of which the interpreter went on; %" PRIu64
			" fragments do without\n", cpu, s->window_faults, s->window_exits, s->window_soft);
}

void machine_print_stats(struct machine *m, FILE *to)
{
	double seconds = (double)source_now_ns(&m->source.s) / 1e9;

	for (unsigned i = 0; i < config_cpus(m->cfg); i++) {
		struct cpu_stats s = { 0 };

		m->ops->stats(m->ops->vcpu(m->vm, i), &s);
		fprintf(to, "cpu %u: %" PRIu64 " instructions (%.1f M/s), %" PRIu64 " interrupts, %" PRIu64 " exceptions, "
			"exits: %" PRIu64 " pio %" PRIu64 " mmio %" PRIu64 " hlt; %" PRIu64 " tlb misses, %" PRIu64
			" blocks, %" PRIu64 " code invalidations\n", i, s.insns, (double)s.insns / seconds / 1e6, s.irqs,
			s.exceptions, s.exits_pio, s.exits_mmio, s.exits_hlt, s.tlb_misses, s.blocks_decoded,
			s.code_invalidations);
		print_code_stats(to, i, &s);
	}
	for (unsigned i = 0; i < m->n_virtio; i++) {
		struct virtio_stats s = { 0 };

		virtio_get_stats(m->virtio[i], &s);
		fprintf(to, "%s: %" PRIu64 " kicks, %" PRIu64 " chains, %" PRIu64 " interrupts, %" PRIu64 " misuses\n",
			virtio_name(m->virtio[i]), s.kicks, s.chains, s.interrupts, s.misuse);
	}
	fprintf(to, "engine %s, %.1f s\n", m->ops->name, seconds);
	if (m->profile)
		profile_print(m->profile, to);
}

static void machine_log_region(void *arg, const struct bus_region *r)
{
	log_debug("%s %08" PRIx64 "-%08" PRIx64 " %s", (const char *)arg, r->base, r->base + r->size - 1, r->name);
}

void machine_log_map(struct machine *m)
{
	bus_each(m->bus, BUS_PORT, machine_log_region, "port");
	bus_each(m->bus, BUS_MMIO, machine_log_region, "mmio");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* machine_priv.h - the machine's struct and the functions that its files share:
 * machine.c builds, machine_run.c runs (reset, power, engine callbacks), machine_console.c
 * connects serial devices to the host. */
#ifndef VM_MACHINE_PRIV_H
#define VM_MACHINE_PRIV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>
#include "blk/blk.h"
#include "blk/job.h"
#include "bus/bus.h"
#include "bus/pci.h"
#include "cpu/cpu.h"
#include "cpu/x86/model.h"
#include "dev/acpi.h"
#include "dev/board.h"
#include "dev/debugport.h"
#include "dev/fwcfg.h"
#include "dev/hotplug.h"
#include "dev/i8042.h"
#include "dev/ioapic.h"
#include "dev/isa_irq.h"
#include "dev/kvmclock.h"
#include "dev/lapic.h"
#include "dev/lpc.h"
#include "dev/pic.h"
#include "dev/pit.h"
#include "dev/pv.h"
#include "dev/rtc.h"
#include "dev/testdev.h"
#include "dev/uart.h"
#include "dev/vmgenid.h"
#include "util/loop.h"
#include "virtio/virtio.h"
#include "vm/boot.h"
#include "vm/config.h"
#include "vm/console.h"
#include "vm/cpu_limit.h"
#include "vm/firmware.h"
#include "vm/machine.h"
#include "vm/profile.h"
#include "vm/vcpu.h"

struct blk;

enum { /* and console, rng, vsock, balloon, memory, agent */
	MACHINE_VIRTIO_MAX = CONFIG_DISKS_MAX + CONFIG_CDROMS_MAX + CONFIG_NETS_MAX + 6 + CONFIG_OWN_CONSOLES_MAX,
};

/* A serial line: a UART or a port of the virtio console, and the host's end. */
struct machine_line {
	struct machine *machine;
	const struct config_console *cfg;       /* NULL: nobody listens, or the device has been unplugged */
	struct console *host;                   /* NULL: the same, or not yet open */
	unsigned n;                             /* which UART, or port of DEV */
	struct virtio_dev *dev;                 /* NULL: a UART, or not yet there */
	bool is_stream;                         /* a named port: programs in the guest see who is at the host's end */
};

/* A drive for CDs and DVDs. */
struct machine_drive {
	struct machine *machine;
	struct virtio_dev *dev;
	struct blk *medium;                     /* in its tray; NULL: none */
};

/* What the guest, or a processor that cannot go on, wants of the loop thread; bits. */
enum machine_request {
	MACHINE_REQ_RESET = 1, MACHINE_REQ_POWEROFF = 2, MACHINE_REQ_EXIT = 4,
	MACHINE_REQ_CRASH = 8,          /* triple fault */
	MACHINE_REQ_FAIL = 16,          /* the engine gave up; stuck_err says why */
};

/* A queue's doorbell that the engine rings by itself. */
struct machine_doorbell {
	uint64_t gpa;                   /* 0: the engine does not know it */
	int fd;                         /* the queue's eventfd, borrowed */
};

/* Owner: the loop thread, except what says otherwise. Devices are guarded by bus_lock. */
struct machine {
	struct config *cfg;             /* main's; the lists of disks and interfaces change with plug.c */
	struct loop *loop;
	uid_t user;                     /* who this process was before it went into its jail */
	pid_t pid;                      /* what the host knows it by */
	struct source_host source;
	enum machine_state state;
	unsigned holds;                 /* of enum machine_hold: who keeps it paused */
	uint64_t saved_ns, saved_tsc;   /* guest time and TSC that machine_save_identity() has told last */
	bool is_still;                  /* devices take no requests, guest time does not pass */
	struct loop_timer reset_retry;
	struct loop_timer read_ahead;   /* memory of a saved machine: from then on in larger pieces */
	machine_event_fn observer;      /* NULL: nobody */
	void *observer_arg;
	void (*ready_observer)(void *arg);      /* the same */
	void *ready_observer_arg;
	struct save *save;              /* under way; NULL: none */
	struct migration *migration;    /* to another process, the same */
	bool is_handed_over;            /* with all that is open: names in the file system belong to that process */
	bool is_frozen;                 /* memory is being written out: even a reset has to wait */

	struct gmem *mem;
	struct huge *huge;
	const struct lazy *lazy;        /* some of memory is still to come, borrowed; NULL: none */
	_Atomic bool is_cut_off;        /* and the connection has broken over which it would */
	struct boot *boot;              /* NULL: firmware starts */
	struct firmware *firmware;      /* NULL: a kernel does */
	const struct cpu_ops *ops;
	struct x86_model model;         /* what the processors announce */
	struct x86_cpuid cpuid;
	struct cpu_host host;
	struct cpu_vm *vm;
	struct profile *profile;        /* NULL: nobody wants one */
	struct vcpus *vcpus;

	struct bus *bus;
	struct pci_root *pci;
	struct pci_layout pci_layout;
	struct lapics *lapics;          /* NULL: the engine has its own */
	struct kvmclock *kvmclock;      /* the same */
	struct pv *pv;                  /* NULL: the engine does not help (no unhalt) */
	struct pic pic;
	struct ioapic ioapic;
	struct isa_irq isa;
	bool has_platform;              /* the following have been initialised */
	struct pit pit;
	struct rtc rtc;
	struct uart uart[CONFIG_UARTS_MAX];     /* COM1, COM2 */
	unsigned n_uarts;
	struct i8042 i8042;
	struct acpi acpi;
	struct vmgenid vmgenid;
	struct hotplug hotplug;
	struct debugport debugport;
	struct testdev testdev;
	struct lpc lpc;                 /* on the bus with firmware for UEFI only */
	struct fwcfg fwcfg;             /* mapped with firmware or the test device only */

	struct virtio_env env;
	struct virtio_dev *virtio[MACHINE_VIRTIO_MAX];
	unsigned n_virtio;
	uint8_t slots[MACHINE_VIRTIO_MAX];      /* where a saved machine had them, in the same order; 0: the first free one */
	struct virtio_dev *hvc;         /* one of them: the console device that port[] are ports of; NULL: there is none */
	struct virtio_dev *rng, *vsock_dev, *balloon;   /* the same */
	struct vsock_host *vsock;       /* the host's side of vsock_dev */
	struct virtio_dev *added;       /* the same: memory that comes and goes */
	struct virtio_dev *agent_dev;   /* the same, if the guest agent's port is a device of its own */
	struct cpu_limit cpu_limit;
	_Atomic uint64_t cpus_present;  /* a copy of what hotplug has, for any thread */
	struct machine_doorbell doorbell[MACHINE_VIRTIO_MAX][VIRTIO_QUEUES_MAX];
	struct blk *blk[CONFIG_DISKS_MAX];      /* fronts: what is behind them may change */
	struct virtio_dev *disk_dev[CONFIG_DISKS_MAX], *net_dev[CONFIG_NETS_MAX];
	struct machine_drive *drive[CONFIG_CDROMS_MAX];
	struct blk_jobs jobs;
	blk_job_fn job_observer;        /* NULL: nobody */
	void *job_observer_arg;
	struct machine_image *images;   /* that clients have handed over */
	struct blk_snapshot disk_snapshot[CONFIG_DISKS_MAX];    /* of the save, or to go back to; id "": none */

	struct machine_leaving *leaving;        /* devices that are off the bus, with requests in flight */
	struct loop_timer leave_retry;

	struct machine_line com[CONFIG_UARTS_MAX];
	struct machine_line port[CONFIG_PORTS_MAX];     /* of hvc, which always has port 0; free without a machine */
	unsigned n_ports;
	struct machine_line agent_own;  /* the guest agent's port of agent_dev; free without a machine */
	struct machine_line *agent_line;        /* that, or one of port[]; NULL: there is none */
	struct machine_line own_line[CONFIG_OWN_CONSOLES_MAX];  /* of devices of their own; a free one has no machine */
	struct machine_line *own[CONFIG_OWN_CONSOLES_MAX];      /* those that are there, in the configuration's order */
	unsigned n_own;
	struct agent *agent;            /* at its other end; NULL: none */
	char debug_line[128];           /* port 0xe9, under bus_lock */
	unsigned debug_len;
	_Atomic unsigned requests;      /* of enum machine_request; any thread sets, the loop takes */
	const char *end_reason;         /* NULL: it has not ended */
	int exit_status;                /* what the test port asked for; under bus_lock until REQ_EXIT */
	_Atomic unsigned stuck_cpu;
	struct err stuck_err;           /* written before the call that reads it is queued */
};

/* --- machine.c --- */
int machine_load(struct machine *m, struct err *err);
/* Make what the configuration has as number I, in its place and on the bus. */
struct plug_device;
/* HANDED: what is open already; NULL: nothing. */
int machine_make_disk(struct machine *m, unsigned i, const struct plug_device *handed, struct err *err);
int machine_make_net(struct machine *m, unsigned i, int handed, struct err *err);
/* Takes D, which has been made just now, into the machine as its number AT and onto the bus. A saved machine says
 * where there. */
int machine_take(struct machine *m, struct virtio_dev *d, unsigned at, struct err *err);
/* The number of D in m->virtio. */
unsigned machine_virtio_index(const struct machine *m, const struct virtio_dev *d);
/* D is no longer the machine's; bus_lock held. */
void machine_forget_virtio_locked(struct machine *m, const struct virtio_dev *d);

/* --- machine_single.c --- */
/* Those that the configuration has, in their places and on the bus. */
int machine_make_singles(struct machine *m, struct err *err);
/* One that the configuration has from now on. LISTENER: of the host's end, borrowed; -1: it is made. */
int machine_make_hvc(struct machine *m, struct err *err);
int machine_make_rng(struct machine *m, struct err *err);
int machine_make_vsock(struct machine *m, int listener, struct err *err);
int machine_make_balloon(struct machine *m, struct err *err);
int machine_make_agent(struct machine *m, struct err *err);
/* They have been freed. */
void machine_forget_singles(struct machine *m);

/* --- plug.c, plug_leave.c --- */
void machine_ejected_locked(void *machine, unsigned slot);      /* vCPU thread, bus_lock held */
void machine_cpus_changed_locked(void *machine);                /* any thread, bus_lock held or nothing runs */
/* The machine has been restored: go on with what it was ejecting. */
void machine_continue_ejects(struct machine *m);
/* All devices have been reset: those that were to go, go. */
void machine_reset_unplug(struct machine *m);
void machine_leave_retry(struct loop_timer *t);
void machine_drop_leaving(struct machine *m);

/* MEDIUM, which the drive NAME has no more, is closed when nothing of it is in flight. LEAVING: from
 * machine_new_leaving() (NULL: out of memory), taken. */
struct machine_leaving *machine_new_leaving(const char *name);
void machine_leave_medium(struct machine *m, struct machine_leaving *leaving, struct blk *medium);
/* What is being written to a file, or has been announced to another process, must not change: -EBUSY. */
int machine_check_unsaved(const struct machine *m, struct err *err);

/* --- drive.c --- */
/* The drive that the configuration has as number I, in its place and on the bus. FD: of its medium, borrowed, or -1. */
int machine_make_drive(struct machine *m, unsigned i, int fd, struct err *err);
/* Drive I is no longer the machine's; the list closes up. It is the caller's with its device and its medium, and is freed with
 * free() after the device. */
struct machine_drive *machine_remove_drive(struct machine *m, unsigned i);
void machine_close_media(struct machine *m);
/* After their devices. */
void machine_free_drives(struct machine *m);

/* --- machine_disk.c --- */
struct blk_options;
/* Open disk I as O says, behind a front (blk/front.h) with its limits. A descriptor in O that has been taken is -1 then. */
int machine_open_disk(struct machine *m, unsigned i, struct blk_options *o, struct err *err);
/* The number of the disk called NAME, or -ENOENT. */
int machine_find_disk(const struct machine *m, const char *name, struct err *err);
/* The disk behind FRONT. */
unsigned machine_disk_of(const struct machine *m, const struct blk *front);
/* Its image is another than before: what is saved must name that. */
void machine_disk_moved(struct machine *m, unsigned i);
void machine_set_job_observer(struct machine *m, blk_job_fn fn, void *arg);
/* Before the disks go: end jobs, forget images. */
void machine_end_jobs(struct machine *m);

/* An image that waits to be used; see the request image-add. */
struct machine_image {
	struct machine_image *next;
	char *id, *path, *format, *backing, *backing_format;
	int fd;
	bool is_empty;
	bool is_socket;         /* to an NBD server, or to who connects there; used once */
};
struct machine_image *machine_find_image(const struct machine *m, const char *id, struct err *err);
void machine_drop_image(struct machine *m, struct machine_image *i);

/* --- save_disks.c: snapshots inside disks, of the instant of a save --- */
enum { MACHINE_SNAPSHOT_ID = 32, MACHINE_SNAPSHOT_NAME = 64 };
/* Could all writable disks take one called NAME? */
int machine_check_snapshot(const struct machine *m, const char *name, struct err *err);
/* At rest and flushed: take them, all or none. They stand in m->disk_snapshot, for the saved state. */
int machine_snapshot_disks(struct machine *m, const char *name, struct err *err);
void machine_drop_snapshots(struct machine *m);         /* the save has failed: delete them */
void machine_forget_snapshots(struct machine *m);
/* Disk I is to be what it was at WANTED, which must be there. Nothing changes before machine_revert_disks(). */
int machine_find_snapshot(struct machine *m, unsigned i, const struct blk_snapshot *wanted, struct err *err);

/* --- machine_memory.c --- */
int machine_make_memory(struct machine *m, struct err *err);
void machine_drop_memory(struct machine *m);
/* Is RAM below the hole as on a Q35, where the configuration space comes early? */
bool machine_has_q35(const struct machine *m);

/* --- machine_state.c --- */
struct state_file;
struct state_sections;
extern const struct state_desc machine_state_desc, machine_disk_desc;
/* -ENOTSUP: the engine keeps state that nobody reads. */
int machine_can_save(const struct machine *m, struct err *err);
/* What a machine must know to be built: configuration, clock, CPUID. */
/* machine_cpu.c: processors stopped. The PIC has back what was not delivered when the former returns. */
int machine_save_cpus(struct machine *m, struct state_sections *s, struct err *err);
int machine_load_cpus(struct machine *m, struct state_file *f, struct err *err);
int machine_save_identity(struct machine *m, struct state_sections *s, struct err *err);
/* At rest: all but guest memory, identity included. */
int machine_save_state(struct machine *m, struct state_sections *s, struct err *err);
/* While the machine is built, in this order: time, processor's features, the rest. */
int machine_load_clock(struct machine *m, struct state_file *f, struct err *err);
int machine_load_cpuid(struct machine *m, struct state_file *f, struct err *err);
int machine_load_state(struct machine *m, struct state_file *f, struct err *err);
/* Of a machine that was built from an identity (cfg->is_incoming) and has not run: the same state, which has come
 * now. */
int machine_load_late(struct machine *m, struct state_file *f, struct err *err);

/* --- machine_run.c --- */
/* Devices take no requests and guest time does not pass, until the machine goes on. No processor runs. */
void machine_stand_still(struct machine *m);
/* The dirty log on and off; processors stop for a moment. */
int machine_log_start(struct machine *m, struct err *err);
void machine_log_stop(struct machine *m);
/* Between these, memory and state stand as they are whatever the guest had asked for. At rest. */
void machine_freeze(struct machine *m);
void machine_thaw(struct machine *m);
int machine_map(struct machine *m, enum bus_space space, struct bus_region *r, uint64_t base, uint64_t size,
		struct err *err);
unsigned machine_phys_bits(void);
void machine_fill_host(struct machine *m);
extern const struct lapic_cpu_ops machine_lapic_ops;
extern const struct pv_ops machine_pv_ops;
uint64_t machine_tsc_offset(void *arg, unsigned cpu);
void machine_pic_output(void *arg, int n, int level);
struct msi_sink machine_msi_sink(struct machine *m);
void machine_level_vectors(void *arg, const uint64_t bitmap[4]);
/* From vCPU threads, bus_lock held. */
void machine_request_poweroff(void *arg);
void machine_request_exit(void *arg, int status);
void machine_cpu_stuck(void *arg, unsigned cpu, enum cpu_exit_reason why, const struct err *err);
void machine_tell(struct machine *m, enum machine_event event, const char *detail);
void machine_tell_ready(struct machine *m);
void machine_reset_retry(struct loop_timer *t);

/* --- machine_doorbell.c --- */
/* Attach, move and detach what has changed; bus_lock held. */
void machine_update_doorbells_locked(void *machine);

/* --- machine_console.c --- */
/* Which console of the configuration goes to which UART or port. First of all. */
int machine_plan_lines(struct machine *m, struct err *err);
void machine_init_uarts(struct machine *m);
int machine_new_hvc(struct machine *m, struct err *err);
/* Before it comes again: port 0, with nobody at the host's end. -EBUSY: the one before is still in use. */
int machine_plan_hvc(struct machine *m, struct err *err);
/* Its consoles leave the configuration, their host's ends are closed; port[0] is the device's until that is freed. */
void machine_remove_ports(struct machine *m);
/* The device of own[I], at the end of m->virtio. */
int machine_make_console(struct machine *m, unsigned i, struct err *err);
/* Before the list of consoles changes: the one that is there without being named is named. */
int machine_settle_consoles(struct machine *m, struct err *err);
/* The configuration's last console is one more device of its own: a line, with its number in own[]. -E2BIG: none is free. */
int machine_add_own_line(struct machine *m, struct err *err);
/* FD: what its target is, open already, borrowed; -1: it is opened by name. */
int machine_open_own_console(struct machine *m, unsigned i, int fd, struct err *err);
/* own[I] leaves the list and the configuration, its host's end is closed; the line is the device's until that is freed. */
struct machine_line *machine_remove_own_line(struct machine *m, unsigned i);
void machine_free_line(struct machine_line *l);
int machine_open_consoles(struct machine *m, struct err *err);
void machine_close_consoles(struct machine *m);
struct handed;
int machine_hand_over_consoles(const struct machine *m, struct handed *h, struct err *err);
void machine_start_consoles(struct machine *m);
/* m->agent_dev, not on the bus yet, and who speaks there. */
int machine_new_agent(struct machine *m, struct err *err);
void machine_drop_agent(struct machine *m);
void machine_debug_write(void *arg, const uint8_t *buf, size_t len);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The table of requests and their handlers. A handler runs on the loop thread and must not wait. */
#include <errno.h>
#include <string.h>
#include "blk/blk.h"
#include "util/checked.h"
#include "vm/control_agent.h"
#include "virtio/balloon.h"
#include "virtio/mem.h"
#include "vm/control_disk.h"
#include "vm/control_migrate.h"
#include "vm/control_net.h"
#include "vm/migrate.h"
#include "vm/pidns.h"
#include "virtio/scsi.h"
#include "vm/control_plug.h"
#include "vm/control_priv.h"
#include "vm/control_set.h"
#include "vm/machine_priv.h"
#include "vm/plug.h"
#include "vm/control_save.h"

const struct control_event control_events[MACHINE_N_EVENTS] = {
	[MACHINE_EV_STARTED] = { "started", "the machine runs, or is built and paused", NULL },
	[MACHINE_EV_STOPPED] = { "stopped", "the end; `reason`: `power off`, `reset` (with --no-reboot), `crash`, `error`, "
				 "`exit port`, `quit`, `signal`, `saved`, or `migrated`", NULL },
	[MACHINE_EV_PAUSED] = { "paused", "processors, devices and guest time stand still", NULL },
	[MACHINE_EV_RESUMED] = { "resumed", "they go on", NULL },
	[MACHINE_EV_RESET] = { "reset", "the machine starts again from its kernel", NULL },
	[MACHINE_EV_CRASHED] = { "crashed", "a processor cannot go on; `reason` says why. `reset` or `stopped` follows", NULL },
	[MACHINE_EV_PLUGGED] = { "device-plugged", "a device has come; `device`: its name", "device" },
	[MACHINE_EV_UNPLUGGED] = { "device-unplugged", "a device has gone and its backend is closed; `device`: its name", "device" },
	[MACHINE_EV_BALLOON] = { "balloon", "the balloon has the size that was asked for; `actual`: bytes, in digits", "actual" },
	[MACHINE_EV_CPUS] = { "vcpus", "the guest has let go of processors; `vcpus`: how many there are, in digits", "vcpus" },
	[MACHINE_EV_TRAY_OPENED] = { "tray-opened", "the guest has opened the tray of a drive; `device`: its name", "device" },
	[MACHINE_EV_TRAY_CLOSED] = { "tray-closed", "the guest, or a reset, has closed it; `device`", "device" },
	[MACHINE_EV_EJECTED] = { "medium-ejected", "what was in a drive has been taken out on request, and its image is closed; `device`", "device" },
	[MACHINE_EV_INSERTED] = { "medium-inserted", "a medium has been put into a drive on request; `device`", "device" },
	[MACHINE_EV_MEMORY] = { "memory", "the guest has the memory that was asked for; `memory`: bytes, in digits", "memory" },
};

enum {
	S_RUNNING = 1 << MACHINE_RUNNING, S_PAUSED = 1 << MACHINE_PAUSED,
	S_ALIVE = S_RUNNING | S_PAUSED | 1 << MACHINE_RESETTING,
	S_ANY = (1 << MACHINE_N_STATES) - 1,
};

static struct machine *call_machine(const struct control_call *call)
{
	return control_machine(call->control);
}

/* --- what it is, what it has done --- */

static json_t *info_disks(const struct config *cfg, const struct machine *m)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < cfg->n_disks; i++) {
		char buf[CONFIG_DISK_NAME_MAX + 1];

		json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:I, s:b, s:s*, s:s*, s:o}", "name", config_disk_name(cfg, i, buf),
						      "path", blk_name(m->blk[i]), "format", blk_format(m->blk[i]),
						      "size", (json_int_t)blk_size(m->blk[i]), "readonly",
						      cfg->disks[i].is_readonly, "serial", cfg->disks[i].serial, "key_file", cfg->disks[i].key_file,
						      "limits", control_disk_limits(m->blk[i])));
	}
	return list;
}

static json_t *info_cdroms(const struct config *cfg, const struct machine *m)
{
	json_t *list = json_array();
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < cfg->n_cdroms; i++) {
		const struct blk *medium = m->drive[i]->medium;
		struct virtio_scsi_info drive;

		virtio_scsi_get(m->drive[i]->dev, &drive);
		json_t *one = json_pack("{s:s, s:s, s:b}", "name", config_cdrom_name(cfg, i, buf), "tray",
					drive.is_tray_open ? "open" : "closed", "locked", drive.is_locked);
		if (one && medium)
			json_object_update_new(one, json_pack("{s:s, s:s, s:I}", "path", blk_name(medium), "format", blk_format(medium),
							      "size", (json_int_t)blk_size(medium)));
		json_array_append_new(list, one);
	}
	return list;
}

static json_t *info_nets(const struct config *cfg)
{
	json_t *list = json_array();
	char buf[CONFIG_DISK_NAME_MAX + 1];

	for (unsigned i = 0; i < cfg->n_nets; i++) {
		uint8_t mac[6];
		char text[18];

		config_net_mac(cfg, i, mac);
		snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
		json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", config_net_name(cfg, i, buf), "kind", cfg->nets[i].kind,
						      "mac", text));
	}
	return list;
}

static json_t *info_consoles(const struct config *cfg)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < cfg->n_consoles; i++)
		json_array_append_new(list, json_pack("{s:s, s:s, s:s*, s:s*}", "target", cfg->consoles[i].target,
						      "device", cfg->consoles[i].device, "name", cfg->consoles[i].name,
						      "id", cfg->consoles[i].id));
	return list;
}

static json_t *info_vsock(const struct config *cfg)
{
	return cfg->vsock ? json_pack("{s:s, s:I}", "path", cfg->vsock, "cid", (json_int_t)cfg->vsock_cid) : NULL;
}

/* What there is now. */
static uint64_t info_memory(struct machine *m)
{
	struct virtio_mem_info i = { 0 };

	if (m->added)
		virtio_mem_get(m->added, &i);
	return m->cfg->memory + i.plugged;
}

static json_t *info_front(void)
{
	return pidns_front_number() ? json_integer(pidns_front_number()) : NULL;
}

static int request_info(struct control_call *call, struct err *err)
{
	const struct config *cfg = control_get_config(call->control);
	struct machine *m = call_machine(call);

	call->result = json_pack("{s:s, s:s, s:i, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:s*, s:I, s:o, s:o, s:o, s:o, s:b, s:b, s:b, s:b, s:o*, s:o*, s:o*}",
		"name", cfg->name, "version", VIV_VERSION, "protocol", CONTROL_PROTOCOL,
		"state", machine_state_name(m->state), "pid", (int)m->pid, "engine", m->ops->name,
		"cpus", (json_int_t)machine_n_cpus(m), "cpus_max", (json_int_t)config_cpus(cfg), "memory", (json_int_t)info_memory(m),
		"memory_max", (json_int_t)(cfg->memory_max ? cfg->memory_max : cfg->memory), "cpu_limit", cfg->cpu_limit,
		"guest_time_ns", (json_int_t)source_now_ns(&m->source.s),
		"disks", info_disks(cfg, m), "cdroms", info_cdroms(cfg, m), "nets", info_nets(cfg), "consoles", info_consoles(cfg), "hvc", cfg->has_hvc, "rng", cfg->has_rng,
		"balloon", cfg->has_balloon, "agent", cfg->has_agent, "vsock", info_vsock(cfg),
		"migration", control_migration_now(m), "front", info_front());
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* What only engines in software count. */
static json_t *stats_translation(const struct cpu_stats *s)
{
	json_t *top = json_array(), *exits = json_object();
	uint64_t n_exits = 0;

	for (unsigned why = 0; why < CPU_N_CODE_EXITS; why++) {
		n_exits += s->code_exits[why];
		json_object_set_new(exits, cpu_code_exit_name(why), json_integer((json_int_t)s->code_exits[why]));
	}
	uint64_t link = s->code_exits[CPU_CODE_EXIT_LINK], indirect = s->code_exits[CPU_CODE_EXIT_INDIRECT];

	for (unsigned i = 0; i < ARRAY_LEN(s->top_call_outs) && s->top_call_outs[i].n; i++)
		json_array_append_new(top, json_pack("{s:s, s:I}", "operation", s->top_call_outs[i].name,
						     "count", (json_int_t)s->top_call_outs[i].n));
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:I, s:o}",
		"memory", (json_int_t)s->memory, "code_bytes", (json_int_t)s->code_bytes,
		"code_evictions", (json_int_t)s->cache_flushes, "tlb_evictions", (json_int_t)s->tlb_trims,
		"exits_link", (json_int_t)link, "exits_indirect", (json_int_t)indirect,
		"exits_other", (json_int_t)(n_exits - link - indirect), "exits", exits, "call_outs", (json_int_t)s->call_outs, "top_call_outs", top);
}

static json_t *stats_cpus(struct machine *m)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < config_cpus(m->cfg); i++) {
		struct cpu_stats s = { 0 };

		m->ops->stats(m->ops->vcpu(m->vm, i), &s);
		json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o*}",
			"instructions", (json_int_t)s.insns, "interrupts", (json_int_t)s.irqs,
			"exceptions", (json_int_t)s.exceptions, "exits_pio", (json_int_t)s.exits_pio,
			"exits_mmio", (json_int_t)s.exits_mmio, "exits_hlt", (json_int_t)s.exits_hlt,
			"tlb_misses", (json_int_t)s.tlb_misses, "blocks", (json_int_t)s.blocks_decoded,
			"code_invalidations", (json_int_t)s.code_invalidations,
			"translation", s.memory ? stats_translation(&s) : NULL));
	}
	return list;
}

static json_t *stats_devices(struct machine *m)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < m->n_virtio; i++) {
		struct virtio_stats s = { 0 };

		virtio_get_stats(m->virtio[i], &s);
		json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}",
			"device", virtio_name(m->virtio[i]), "kicks", (json_int_t)s.kicks, "chains", (json_int_t)s.chains,
			"interrupts", (json_int_t)s.interrupts, "misuses", (json_int_t)s.misuse,
			"in_flight", (json_int_t)virtio_in_flight(m->virtio[i]),
			"to_guest", (json_int_t)s.to_guest.n, "to_guest_bytes", (json_int_t)s.to_guest.bytes,
			"from_guest", (json_int_t)s.from_guest.n, "from_guest_bytes", (json_int_t)s.from_guest.bytes));
	}
	return list;
}

static json_t *stats_balloon(struct machine *m)
{
	struct virtio_balloon_info i;
	json_t *o, *guest = json_object();

	if (!m->balloon || !guest) {
		json_decref(guest);
		return NULL;
	}
	virtio_balloon_get(m->balloon, &i);
	for (unsigned s = 0; s < VIRTIO_BALLOON_N_STATS; s++)
		if (i.stat[s] != UINT64_MAX)
			json_object_set_new(guest, virtio_balloon_stat_name((enum virtio_balloon_stat)s),
					    json_integer((json_int_t)i.stat[s]));
	o = json_pack("{s:I, s:I, s:I, s:b, s:o}", "target", (json_int_t)i.target, "actual", (json_int_t)i.actual, "given_back",
		      (json_int_t)i.given_back, "driver", i.has_driver, "guest", guest);
	return o;
}

static int request_stats(struct control_call *call, struct err *err)
{
	struct machine *m = call_machine(call);

	call->result = json_pack("{s:o, s:o, s:o*, s:I, s:I}", "cpus", stats_cpus(m), "devices", stats_devices(m), "balloon",
				 stats_balloon(m), "host_cpu_ns", (json_int_t)vcpus_cpu_ns(m->vcpus),
				 "guest_time_ns", (json_int_t)source_now_ns(&m->source.s));
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int request_describe(struct control_call *call, struct err *err)
{
	call->result = json_pack("{s:i, s:o}", "protocol", CONTROL_PROTOCOL, "requests", control_describe());
	return call->result ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int request_events(struct control_call *call, struct err *err)
{
	control_set_events(call->client, control_get_bool(call->params, "on", true));
	return 0;
}

/* --- power --- */

/* Processors that wait for memory of elsewhere cannot be stopped. */
static int request_can_stop(const struct machine *m, struct err *err)
{
	return m->lazy && atomic_load(&m->is_cut_off) ?
		err_set(err, -EBUSY, "the machine waits for memory that is still at its source; see 'migration'") : 0;
}

static int request_pause(struct control_call *call, struct err *err)
{
	int r = request_can_stop(call_machine(call), err);

	if (r < 0)
		return r;
	machine_hold(call_machine(call), MACHINE_HOLD_USER);
	return 0;
}

static int request_resume(struct control_call *call, struct err *err)
{
	int r = migration_resume(call_machine(call), err);

	if (r < 0)
		return r;
	machine_release(call_machine(call), MACHINE_HOLD_USER);
	return 0;
}

static int request_powerdown(struct control_call *call, struct err *err)
{
	machine_press_power_button(call_machine(call));
	return 0;
}

static int request_reset(struct control_call *call, struct err *err)
{
	int r = request_can_stop(call_machine(call), err);

	if (r < 0)
		return r;
	machine_request_reset(call_machine(call));
	return 0;
}

static int request_quit(struct control_call *call, struct err *err)
{
	machine_quit(call_machine(call), "quit");
	return 0;
}

/* --- the table --- */

static const struct control_param events_params[] = {
	{ "on", CONTROL_BOOL, false, "on|off", "send events to this client; on unless given", NULL },
	{ .name = NULL },
};

#define S_HERE (S_RUNNING | S_PAUSED)
#define AGENT_MORE "The machine has been started with `--agent on`, or the agent's port was plugged, and qemu-guest-agent runs in the guest. A request to it ends after ten " \
	"seconds without an answer, unless it says another time. What the agent refuses has the code EREMOTEIO."
#define JOB_RESULT "The reply comes when the job has begun; events `job` tell the rest."

const struct control_request control_requests[] = {
	{ "info", "what this machine is", NULL,
	  "`name`, `version` (of Vivarium), `protocol`, `state` (`stopped`, `running`, `paused`, `resetting` or `ended`), "
	  "`pid`, `front` (the process that waits in front of it, if there is one), `engine`, `cpus`, `cpus_max`, `memory` and `memory_max` (bytes), `cpu_limit` if there is one, `guest_time_ns` (since power on, pauses not counted), "
	  "`disks`, `cdroms` (`name`, `tray`: `open` or `closed`, `locked` by the guest; of the medium `path`, `format`, `size`), `nets`, `consoles`, `hvc`, `rng`, `balloon` and `agent` (is there one?), `vsock` (`path`, `cid`) if there is one, `migration` (as the request of this name says) while there is one", NULL, S_ANY, request_info },
	{ "stats", "counters of processors and devices", "All count from the start of the process. Processors of engines in "
	  "software have `translation`: bytes of memory that translations take now (`memory`), bytes of code made (`code_bytes`), how "
	  "often some was dropped for want of room (`code_evictions`), and the tables of an address space (`tlb_evictions`), why "
	  "code was left - a jump not made direct yet (`exits_link`), an indirect jump that its table did not know "
	  "(`exits_indirect`), the rest (`exits_other`) - and, in `exits`, by reason: `link` and `indirect` as before; `unmapped` "
	  "(the page of code is not in the table of the present address space), `end` (an instruction of the interpreter's after which code "
	  "ends, as iret), `away` (one that went elsewhere, or did without its group's check), `changed` (translated code has changed), "
	  "`request` (interrupts, kicks, samples of a profile), `other` - and the instructions that it handed to the interpreter "
	  "(`call_outs`; `top_call_outs` by operation).",
	  "`cpus`, `devices` (arrays of objects; of disks and network cards `to_guest` and `from_guest` are the requests that read and "
	  "wrote, or the frames, and `to_guest_bytes` and `from_guest_bytes` what was in them), `host_cpu_ns` (what the processors' threads have used), `guest_time_ns`; with a balloon "
	  "`balloon`: `target` and `actual` (bytes in it), `given_back` (bytes to the host so far, with free pages that the guest reported), "
	  "`driver`, `guest` (what the guest's driver last said, in bytes or counts; it is asked anew each time)", NULL, S_ANY, request_stats },
	{ "events", "send events on this connection",
	  "Events that happened before are not sent again. The client stays connected until either side closes.",
	  NULL, events_params, S_ANY, request_events },
	{ "pause", "stop processors, devices and guest time",
	  "The reply comes when no processor runs. A machine that is resetting pauses when it is done. Twice is once.",
	  NULL, NULL, S_ALIVE, request_pause },
	{ "resume", "go on after `pause`", "The guest sees no time pass in between, but for its wall clock.",
	  NULL, NULL, S_ALIVE, request_resume },
	{ "powerdown", "press the power button",
	  "What follows is up to the guest. While paused, it sees the button when it goes on.",
	  NULL, NULL, S_ALIVE, request_powerdown },
	{ "reset", "reset, as the button on a PC does",
	  "The guest is not asked. With `--no-reboot` the process ends instead.",
	  NULL, NULL, S_ALIVE, request_reset },
	{ "save", "write the machine to a file, from which --restore continues it",
	  "The machine is paused until its disks have answered what it asked of them and its memory is in the file, then goes "
	  "on; the reply comes when the file is durable. `viv-vmm ctl` writes FILE.tmp and renames it when the save has succeeded. A disk that "
	  "the guest writes afterwards does not fit to the saved machine any more, unless there is a snapshot of it to go back to.",
	  "`memory` (bytes of guest memory that are not zero), `file` (bytes written), `pause_ns`", control_save_params,
	  S_RUNNING | S_PAUSED, control_save },
	{ "set", "change a setting while the machine runs",
	  "All of them or, when one is refused, none. Requests of a disk that wait by an old limit go by the new one at once. The balloon "
	  "takes as long as the guest does; the event `balloon` tells when it has the size. Limits of disks and the share of processors wait in line for a "
	  "migration only, the number of processors for a save, too, sizes of memory for nothing.", NULL,
	  control_set_params, S_ALIVE, control_set },
	{ "net-metadata", "hand over a connection for the metadata service of an interface",
	  "One stream socket carries one connection of the guest to port 80 of 169.254.169.254: what the guest says comes as it is; of what goes back the "
	  "first byte is the time to live of the packets. An interface of kind `user` with `metadata` has up to 8 that wait; each is used "
	  "once.", NULL, control_metadata_params, S_HERE, control_net_metadata },
	{ "disk-info", "the images of a disk, from the top down", NULL, "the top image: `filename`, `format`, `virtual-size`, "
	  "`format-specific` and others; `backing` is the one behind it", control_disk_params, S_HERE, control_disk_info },
	{ "image-add", "hand over an image file, for a request that follows",
	  "The machine cannot open files or make connections by itself. The request that uses the image takes it; one that nobody uses is "
	  "kept until image-drop. A connection to an NBD server is a target for disk-backup and disk-mirror: what the "
	  "export holds is written over, and it must have the disk's size (for a backup, at least). It serves one request, whether that "
	  "succeeds or not. When it breaks, or the server says nothing for 30 seconds, the job fails; the disk is what it was. What is handed "
	  "over may also be a socket (SOCK_SEQPACKET) to a process that makes such connections, as `viv-vmm ctl` does: only then can a mirror "
	  "end without `stay`; requests of a disk that has moved wait up to 30 seconds while a lost connection is made anew. A server "
	  "without TLS only, as no keys are handed over; what other protocols reach is served by `viv disk serve --nbd`.", NULL, control_image_params, S_HERE, control_image_add },
	{ "image-drop", "forget an image that was handed over", NULL, NULL, control_image_id_params, S_HERE, control_image_drop },
	{ "disk-snapshot", "put new, empty images on top of disks: an external snapshot",
	  "Of several disks at the same instant, or of none. What was the top is only read from then on. Each image must be new, of a "
	  "format that has backing images; it names the top's path as its backing image unless image-add said another. Whenever the "
	  "process dies, an image that has a header shows the disk.", NULL, control_snapshot_params, S_HERE, control_snapshot },
	{ "disk-resize", "make a disk larger; the guest is told", NULL, NULL, control_resize_params, S_HERE, control_resize },
	{ "disk-stream", "pull what backing images hold into the top image, and let go of them",
	  JOB_RESULT, NULL, control_stream_params, S_HERE, control_stream },
	{ "disk-commit", "push what an image holds into one below it, and let go of those between",
	  "For the top of the disk this is a mirror into the base, which becomes the disk: the guest goes on writing, and `mode` and "
	  "`wait` mean what they mean there. " JOB_RESULT, NULL, control_commit_params, S_HERE, control_commit },
	{ "disk-mirror", "copy disks to other images, follow what is written, and change over",
	  "The target is as large as the disk. With sync=top or none it needs a backing image that has the rest. " JOB_RESULT, NULL,
	  control_mirror_params, S_HERE, control_mirror },
	{ "disk-backup", "copy disks as they are at this instant to other images",
	  "With a bitmap only what has changed goes there, to an image whose backing image is the backup before; the bitmap is emptied at "
	  "the instant and, when the backup fails or is cancelled, gets back what it had. " JOB_RESULT, NULL, control_backup_params,
	  S_HERE, control_backup },
	{ "bitmap-add", "make a dirty bitmap in the top images of disks: it records what is written from now on",
	  "It lasts until it is removed, also when the machine ends well. After a crash it is not trusted.", NULL,
	  control_bitmap_params, S_HERE, control_bitmap_add },
	{ "bitmap-remove", "remove dirty bitmaps", NULL, NULL, control_bitmap_name_params, S_HERE, control_bitmap_remove },
	{ "bitmap-clear", "empty dirty bitmaps", NULL, NULL, control_bitmap_name_params, S_HERE, control_bitmap_clear },
	{ "snapshot-create", "take snapshots inside the top images of disks, at the same instant",
	  "Without memory: what a disk would be after a power failure. `disk-info` lists them.", NULL, control_inside_params, S_HERE,
	  control_snapshot_create },
	{ "snapshot-delete", "delete snapshots inside disks", NULL, NULL, control_inside_delete_params, S_HERE, control_snapshot_delete },
	{ "jobs", "the jobs that are", NULL,
	  "`jobs`: an array with `job` (the id), `kind`, `disk`, `done` and `total` (bytes; the total grows when what was copied is "
	  "written again), `speed`, `paused`, `ready`, `mode`", NULL, S_ANY, control_jobs },
	{ "job-pause", "let a job rest", NULL, NULL, control_job_params, S_HERE, control_job_pause },
	{ "job-resume", "let it go on", NULL, NULL, control_job_params, S_HERE, control_job_resume },
	{ "job-cancel", "end a job without its result", "The disk is what it was. An event tells when the job is gone.", NULL,
	  control_job_params, S_HERE, control_job_cancel },
	{ "job-complete", "let a job that is ready change over", NULL, NULL, control_job_complete_params, S_HERE,
	  control_job_complete },
	{ "job-set", "change a job's speed or mode", NULL, NULL, control_job_set_params, S_HERE, control_job_set },
	{ "agent-ping", "does the guest agent answer?", AGENT_MORE, NULL, NULL, S_RUNNING, control_agent_ping },
	{ "agent-info", "what agent and what system it is", NULL, "`version` and `commands` of the agent, `os` (`id`, `pretty-name`, "
	  "`version-id`, `kernel-release`, `machine`), `host_name`", NULL, S_RUNNING, control_agent_info },
	{ "agent-addresses", "the guest's network addresses", NULL, "`interfaces`: an array with `name`, `mac`, `addresses` (as `10.0.0.2/24`)",
	  NULL, S_RUNNING, control_agent_addresses },
	{ "agent-shutdown", "ask the guest to shut itself down",
	  "The reply says that the agent has not refused within two seconds; `stopped` or `reset` tells when it is done.", NULL,
	  control_agent_shutdown_params, S_RUNNING, control_agent_shutdown },
	{ "agent-set-time", "set the guest's clock to this host's", "After a restore, when it is behind.", NULL, NULL, S_RUNNING,
	  control_agent_set_time },
	{ "agent-exec", "run a program in the guest and wait for its end", "Of what it writes, half a megabyte or so fits into the reply.",
	  "`exit` (status) or `signal`, `out` and `err` (what it wrote, base64), `truncated`", control_agent_exec_params, S_RUNNING,
	  control_agent_exec },
	{ "agent-read", "read a piece of a file in the guest", NULL, "`data` (base64), `count` (bytes), `eof`", control_agent_read_params,
	  S_RUNNING, control_agent_read },
	{ "agent-write", "write to a file in the guest", NULL, "`count` (bytes)", control_agent_write_params, S_RUNNING,
	  control_agent_write },
	{ "agent-freeze", "write out and freeze the guest's file systems", "Until agent-thaw: programs in the guest that write wait. "
	  "Snapshots and backups with `quiesce` do both themselves.", "`file_systems` (how many)", NULL, S_RUNNING, control_agent_freeze },
	{ "agent-thaw", "let the guest's file systems go on", NULL, "`file_systems` (how many)", NULL, S_RUNNING, control_agent_thaw },
	{ "migrate", "send the running machine to another viv-vmm, which goes on with it",
	  "The other one has been started with `--incoming`. The reply comes when it runs there, and this one ends. When that fails "
	  "at any point the machine goes on here; only when nobody can know whether the other side has begun, it stands still with "
	  "the error EINPROGRESS, until `resume` or `quit`. [migration.md](../formats/migration.md) has the protocol. Disks must be "
	  "the same files at both sides, but for those that go along (`with-disks`): what is in them is copied, to images that the other one has been "
	  "started with, while the guest runs, and is here, too, when the migration fails.",
	  "`total_ns`, `pause_ns` (the guest stood still, as seen from here), `sent` (bytes), `pages` and `zero_pages` (of 4 KiB), "
	  "`rounds`, and `pause`, what the time from the stop to the other side's word that it runs was spent with: `stop_ns` (processors, requests of "
	  "devices, disks), `state_ns`, `memory_ns` (sending the last `memory` bytes and the state), `load_ns` (the other side takes it in), `start_ns` "
	  "(it takes the disks)", control_migrate_params, S_RUNNING | S_PAUSED, control_migrate },
	{ "migrate-start-postcopy", "let a `migrate` with postcopy=on hand the machine over now", "The guest runs at the other side, and waits there for "
	  "memory that it touches and that is still here. From then on both processes are needed until all of it is there: who ends one of them loses "
	  "the machine.", NULL, NULL, S_ALIVE, control_migrate_postcopy },
	{ "migrate-recover", "go on with a `migrate` that was cut off in post-copy",
	  "The other side still waits at its address. The reply comes when it has all memory; code EINPROGRESS: it was cut off again.",
	  "as of `migrate`", control_migrate_recover_params, S_HERE, control_migrate_recover },
	{ "upgrade", "another viv-vmm of this host takes the running machine over, with all that this one has open",
	  "As `migrate`, but guest memory is shared instead of copied, and networks, consoles and this socket are handed over; other clients "
	  "connect again. `viv-vmm ctl SOCKET upgrade [BINARY]` starts the other one and waits. Connections through a tap or passt go on. "
	  "A terminal cannot be handed over.",
	  "as of `migrate`", control_upgrade_params, S_RUNNING | S_PAUSED, control_upgrade },
	{ "migration", "how far `migrate` is", NULL,
	  "`phase` (`none`, `connecting`, `disks`, `memory`, `handover`, `in doubt`, `post-copy` or `cut off`, the last two also at the other side), `left` (bytes of this round, or that are still to come), `throttle` (percent of the "
	  "time that processors rest), `bandwidth` and `pause_ms` (the limits), `streams`, `so_far` (as the result of `migrate`), and if disks go along `disks` (`n`, "
	  "and `done` and `total` bytes of them; what is written again counts again). The event "
	  "`migration` says the same when a phase or a round begins, and as disks are copied", NULL, S_ANY, control_migration },
	{ "migrate-set", "change the limits of a `migrate` that is under way", "They count from the next round on, the bandwidth at once. What is "
	  "not given stays.", NULL, control_migrate_set_params, S_ALIVE, control_migrate_set },
	{ "migrate-cancel", "give `migrate` up", "The machine goes on here. Too late once it has been handed over.", NULL, NULL,
	  S_ALIVE, control_migrate_cancel },
	{ "plug", "add a device to the running machine",
	  "The guest is told by ACPI and finds it by itself. From then on it is the machine's as if it had been started with it. The machine "
	  "may not open files: `viv-vmm ctl` opens the image, the tap, or the console's file or socket, or starts passt, and hands it "
	  "over. A console that comes is a virtio device of its own; it leads to `file:PATH`, `socket:PATH` or `none`, "
	  "and is called as `id` says. Of `hvc` (the console device that consoles without an id are ports of; it comes without any), `rng`, `balloon`, `vsock` and `agent` there is "
	  "one or none, called so.", "`device`: its name", control_plug_params, S_HERE, control_plug },
	{ "unplug", "take a device out of the running machine",
	  "The guest is asked to let go of it. The reply comes at once, the event `device-unplugged` when the guest has done so and the "
	  "image, interface or console is closed; a guest that never does loses it at its next reset. With `--force` it goes at once, as if it had been pulled out: "
	  "what was not written is lost. With `hvc` all go that are its ports.", NULL, control_unplug_params, S_HERE, control_unplug },
	{ "eject", "open the tray of a drive and take out the medium",
	  "A guest that uses the medium has locked the drive: then this is refused with EBUSY, and the guest is asked to let go of it. "
	  "With `--force` it is taken out all the same. The event `medium-ejected` tells when the image is closed. An empty drive is left with an open "
	  "tray, too.", NULL, control_eject_params, S_HERE, control_eject },
	{ "insert", "put a medium into a drive and close the tray",
	  "What the guest has ejected is taken out before; what is in a closed tray has to be ejected by `eject` first. The machine may not open files: "
	  "`viv-vmm ctl` opens the image for reading and hands it over. The guest learns that the medium has changed.", NULL,
	  control_insert_params, S_HERE, control_insert },
	{ "waiting", "the requests that wait in line", NULL, "`waiting`: an array with `number`, `request`, `for` (`a save`, `a migration`, which may be an "
	  "upgrade, `post-copy`, `a reset`, or `another` that was before it in line) and `since_ns` (CLOCK_MONOTONIC), in their order", NULL, S_ANY, control_waiting },
	{ "waiting-cancel", "take a request out of the line", "Whoever sent it is answered with ECANCELED, and nothing has been done.", NULL,
	  control_waiting_cancel_params, S_ANY, control_waiting_cancel },
	{ "quit", "end the process at once", "As pulling the plug: the guest is not asked.",
	  NULL, NULL, S_ANY, request_quit },
	{ "describe", "this list, for programs", NULL,
	  "`protocol`, `requests`: an array with `name`, `help`, `params`, `states` and `waits` (it waits in line) of each", NULL, S_ANY,
	  request_describe },
	{ .name = NULL },
};

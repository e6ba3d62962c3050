/* SPDX-License-Identifier: Apache-2.0 */
/* instance_run.c - the machine's process: its configuration, its start, its last words. */
#include "node/instance_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "node/cgroup.h"
#include "node/disk_files.h"
#include "node/files.h"
#include "node/image.h"
#include "node/network.h"
#include "node/node.h"
#include "node/seed.h"
#include "node/volume.h"
#include "util/checked.h"
#include "util/log.h"

enum { CONNECT_MS = 20 };

/* --- configuration ---------------------------------------------------- */

/* The format is never left to what a guest has written. */
static int add_disk(json_t *config, const char *path, const char *format, bool is_readonly, const char *serial)
{
	json_t *disks = json_object_get(config, "disks");

	return json_array_append_new(disks, json_pack("{s:s, s:s, s:b, s:s%}", "path", path, "format", format, "readonly", is_readonly,
						      "serial", serial, strnlen(serial, 20)));
}

static void seed_path(const struct instance *i, char path[STORE_KEY_MAX])
{
	snprintf(path, STORE_KEY_MAX, "%s/seed.iso", i->run_dir);
}

static int add_seed(const struct instance *i, json_t *config, const json_t *spec, struct err *err)
{
	char path[STORE_KEY_MAX];

	if (!seed_is_wanted(spec))
		return 0;
	seed_path(i, path);
	return add_disk(config, path, "raw", true, "cidata") < 0 ? err_set(err, -ENOMEM, "out of memory") : 0;
}

static int write_seed(const struct instance *i, const json_t *spec, struct err *err)
{
	char path[STORE_KEY_MAX];

	seed_path(i, path);
	return seed_is_wanted(spec) ? seed_write(path, i->c.name, i->c.uid, spec, err) : 0;
}

static int add_disks(struct instance *i, json_t *config, const json_t *spec, const char *project, struct err *err)
{
	const json_t *disk;
	size_t n;

	if (json_object_get(spec, "image")) {
		AUTO(free) char *root = instance_root_path(i);

		if (!root || add_disk(config, root, "qcow2", false, "root") < 0)
			return err_set(err, -ENOMEM, "out of memory");
	}
	json_array_foreach(json_object_get(spec, "disks"), n, disk) {
		const char *name = json_string_value(json_object_get(disk, "volume"));
		AUTO(free) char *path = volume_path(i->c.node, project, name, err);

		if (!path)
			return err->code;
		if (add_disk(config, path, disk_files_is_raw(path) ? "raw" : "qcow2", json_is_true(json_object_get(disk, "readonly")),
			     json_string_value(json_object_get(disk, "serial")) ?: name) < 0)
			return err_set(err, -ENOMEM, "out of memory");
	}
	return add_seed(i, config, spec, err);
}

static int add_networks(struct instance *i, json_t *config, const json_t *spec, struct err *err)
{
	const json_t *net;
	size_t n;

	json_array_foreach(json_object_get(spec, "networks"), n, net) {
		const json_t *kind = json_object_get(net, "kind"), *forwards = json_object_get(net, "forwards");
		json_t *made = NULL;
		int r = 0;

		if (!strcmp(json_string_value(kind), "network"))
			r = network_connect(i->c.node, i->c.project, i->c.uid, (unsigned)n, net, &made, err);
		else
			made = json_pack("{s:O, s:O*, s:O*, s:o*}", "kind", kind, "mac", json_object_get(net, "mac"), "hostfwd",
					 json_array_size(forwards) ? forwards : NULL, "metadata",
					 !strcmp(json_string_value(kind), "user") ? json_true() : NULL);
		if (r < 0)
			return r;
		json_array_append_new(json_object_get(config, "nets"), made);
	}
	return 0;
}

/* The kernel says on the console what is wrong, and systemd what it starts; the rest is in dmesg. What the kernel has tested of its cryptography
 * when it was built and released it needs not test in each boot, which takes a quarter of the time where processors are emulated. */
static const char bare_cmdline[] = "console=ttyS0", image_cmdline[] = "console=ttyS0 root=/dev/vda rw loglevel=4 cryptomgr.notests";

/* What is started: the document's kernel, that of the image, or firmware, which looks for a boot loader. */
static int add_boot(struct instance *i, json_t *config, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	const json_t *kernel = json_object_get(spec, "kernel"), *cmdline = json_object_get(spec, "cmdline");
	const char *image = json_string_value(json_object_get(spec, "image"));
	struct image_files files = { .disk = NULL };
	int r = 0;

	if (kernel) {
		json_object_set(config, "kernel", (json_t *)kernel);
		if (json_object_get(spec, "initrd"))
			json_object_set(config, "initrd", json_object_get(spec, "initrd"));
	} else {
		r = image_find_of(i->c.node, doc, &files, err);
		if (!r && files.kernel) {
			json_object_set_new(config, "kernel", json_string(files.kernel));
			if (files.initrd)
				json_object_set_new(config, "initrd", json_string(files.initrd));
		} else if (!r) {
			json_object_set_new(config, "firmware", json_string("/usr/share/seabios/bios-256k.bin"));
		}
	}
	if (cmdline)
		json_object_set(config, "cmdline", (json_t *)cmdline);
	else if (json_object_get(config, "kernel"))
		json_object_set_new(config, "cmdline", json_string(image ? image_cmdline : bare_cmdline));
	image_files_free(&files);
	return r;
}

static json_t *make_config(struct instance *i, const json_t *doc, struct err *err)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *project = json_string_value(json_object_get(doc, "project"));
	char control[STORE_KEY_MAX], console[STORE_KEY_MAX + 8], end[STORE_KEY_MAX];

	snprintf(control, sizeof(control), "%s/control", i->run_dir);
	snprintf(end, sizeof(end), "%s/end", i->run_dir);
	snprintf(console, sizeof(console), "socket:%s/console", i->run_dir);
	json_t *config =
		json_pack("{s:O, s:O, s:O, s:O, s:O, s:[], s:[], s:[{s:s}], s:s, s:s, s:s, s:b}", "name",
			  json_object_get(doc, "name"), "engine", json_object_get(spec, "engine"), "cpu",
			  json_object_get(spec, "cpu"), "memory", json_object_get(spec, "memory"), "cpus",
			  json_object_get(spec, "cpus"), "disks", "nets", "consoles", "target", console, "control",
			  control, "end_file", end, "pid_namespace", geteuid() ? "off" : "detached", "paused", !strcmp(json_string_value(json_object_get(spec, "state")), "paused"));

	if (!config) {
		err_set(err, -EINVAL, "its document is not whole");
		return NULL;
	}
	if (json_is_true(json_object_get(spec, "agent")))
		json_object_set_new(config, "agent", json_true());
	json_object_set_new(config, "balloon", json_true());
	if (add_networks(i, config, spec, err) < 0 || add_disks(i, config, spec, project, err) < 0 ||
	    add_boot(i, config, doc, err) < 0) {
		json_decref(config);
		return NULL;
	}
	return config;
}

/* Of a machine that goes on from saved memory only what belongs to this process is said; the rest is in there. */
static json_t *keep_process(json_t *config, bool is_copy)
{
	static const char *const machine[] = { "cpu", "memory", "cpus", "agent", "balloon", "kernel", "initrd", "firmware", "cmdline" };

	for (unsigned k = 0; config && k < ARRAY_LEN(machine); k++)
		json_object_del(config, machine[k]);
	json_object_set_new(config, "paused", json_true());
	/* They are what they were when it was saved: nobody has run with them since. */
	json_object_set_new(config, "changed_disks", json_true());
	json_object_set_new(config, "copy", json_boolean(is_copy));
	return config;
}

/* --- start ---------------------------------------------------- */

/* Threads that its processes have at most: of each processor, of each disk (those of its pool, and of io_uring four for each of the host's
 * processors), and with much room those that come for a while - saving, moving, what is plugged in - and the helpers'. */
static unsigned tasks_of(const json_t *spec)
{
	enum { ROOM = 1024, POOL = 64, KERNELS = 4, DISKS_OF_OWN = 2 };
	size_t disks = json_array_size(json_object_get(spec, "disks")) + DISKS_OF_OWN;

	return (unsigned)(ROOM + (size_t)json_integer_value(json_object_get(spec, "cpus")) +
			  disks * (POOL + KERNELS * (size_t)sysconf(_SC_NPROCESSORS_ONLN)));
}

/* Nothing of its last process is there: not it, nor its helpers, which have a group with it. */
static bool has_gone(const struct instance *i, const char *lock_path)
{
	return !process_is_there(lock_path) && cgroup_end(i->c.node->cgroups, i->c.uid);
}

static int start_process(struct instance *i, const json_t *spec, struct process_spec *s, struct err *err)
{
	AUTO(cgroup_entry_close) struct cgroup_entry entry = { .n = 0 };
	int r = cgroup_make(i->c.node->cgroups, i->c.uid, tasks_of(spec), &entry, err);

	s->groups = entry.fd;
	s->n_groups = entry.n;
	if (!r)
		r = process_start(&i->proc, i->c.node->loop, s, err);
	if (r < 0)
		(void)cgroup_end(i->c.node->cgroups, i->c.uid);
	return r;
}

int instance_start(struct instance *i, const json_t *doc, struct err *err)
{
	char config_path[STORE_KEY_MAX], lock_path[STORE_KEY_MAX], log_path[STORE_KEY_MAX], end_path[STORE_KEY_MAX];
	enum instance_memory memory = instance_next_memory(i);
	AUTO(free) char *memory_path = memory != MEMORY_NONE ? instance_memory_path(i, memory) : NULL;

	snprintf(lock_path, sizeof(lock_path), "%s/lock", i->run_dir);
	if (!has_gone(i, lock_path))
		return err_set(err, -EBUSY, "its last process has not quite gone yet");
	json_t *config = make_config(i, doc, err);
	if (memory_path && config)
		config = keep_process(config, memory == MEMORY_COPY);
	int r = config ? files_make_dir(i->run_dir, err) : err->code;

	snprintf(config_path, sizeof(config_path), "%s/config.json", i->run_dir);
	snprintf(log_path, sizeof(log_path), "%s/vmm.log", i->dir);
	snprintf(end_path, sizeof(end_path), "%s/end", i->run_dir);
	(void)unlink(end_path);         /* of the process before */
	if (!r && json_dump_file(config, config_path, JSON_INDENT(1)) < 0)
		r = err_set(err, -EIO, "cannot write '%s'", config_path);
	json_decref(config);
	if (!r)
		r = write_seed(i, json_object_get(doc, "spec"), err);
	if (r < 0)
		return r;
	char *booting[] = { i->c.node->vmm, (char[]){ "--config" }, config_path, NULL };
	char *going_on[] = { i->c.node->vmm, (char[]){ "--restore" }, memory_path, (char[]){ "--config" }, config_path, NULL };
	struct process_spec spec = { .lock_path = lock_path, .log_path = log_path, .argv = memory_path ? going_on : booting };

	i->stop_reason[0] = 0;
	i->is_stopping = i->has_answered = false;
	i->limits_revision = 0;
	instance_note_start(i, json_object_get(doc, "spec"), memory_path != NULL);
	r = start_process(i, json_object_get(doc, "spec"), &spec, err);
	if (r < 0)
		instance_forget_start(i);
	i->is_prepared = r < 0;
	return r;
}

int instance_adopt(struct instance *i, const json_t *doc, struct err *err)
{
	char lock_path[STORE_KEY_MAX];

	snprintf(lock_path, sizeof(lock_path), "%s/lock", i->run_dir);
	int r = process_find(&i->proc, i->c.node->loop, lock_path, err);
	if (r > 0)
		cgroup_bound(i->c.node->cgroups, i->c.uid, tasks_of(json_object_get(doc, "spec")));
	else if (!r)
		(void)cgroup_end(i->c.node->cgroups, i->c.uid);
	return r;
}

bool instance_has_ended_unseen(struct instance *i, const json_t *doc)
{
	char number[16];

	if (!i->was_up || !i->c.node->is_same_boot)
		return false;
	process_last_words(i->run_dir, "lock", number, sizeof(number));
	if (!number[0] || json_integer_value(json_object_get(doc, "restart_of")) == strtol(number, NULL, 10))
		return false;
	process_last_words(i->run_dir, "end", i->stop_reason, sizeof(i->stop_reason));
	return true;
}

/* --- the control socket ---------------------------------------------------- */

void instance_seen(struct instance *i)
{
	if (i->is_fork)
		controlled_set(&i->c, "starting", "it is becoming a machine of its own");
	else
		controlled_set(&i->c, i->is_paused ? "paused" : "running", "%s", "");
}

static void on_event(void *arg, const char *name, const json_t *event)
{
	struct instance *i = arg;
	const char *reason = json_string_value(json_object_get(event, "reason"));

	if (!strcmp(name, "stopped"))
		snprintf(i->stop_reason, sizeof(i->stop_reason), "%s", reason ? reason : "");
	else if (!strcmp(name, "paused"))
		i->is_paused = true;
	else if (!strcmp(name, "resumed"))
		i->is_paused = false;
	else if (!strcmp(name, "crashed"))
		log_warn("'%s': the guest has crashed: %s", i->c.key, reason ? reason : "for no stated reason");
	else
		return;
	if (i->phase == PHASE_UP && !i->is_stopping && strcmp(name, "stopped") != 0)
		instance_seen(i);
	controlled_kick(&i->c);
}

static void on_gone(void *arg)
{
	struct instance *i = arg;

	instance_disconnect(i);
	if (i->phase == PHASE_UP)
		i->phase = PHASE_STARTING;
	/* Most likely the process ends, which its pidfd tells. */
	controlled_later(&i->c, CONNECT_MS);
}

static void on_info(void *arg, int r, const json_t *result, const struct err *err)
{
	struct instance *i = arg;
	const char *state = json_string_value(json_object_get(result, "state"));
	const char *engine = json_string_value(json_object_get(result, "engine"));

	(void)err;
	if (r < 0)
		return;
	i->is_paused = state && (!strcmp(state, "paused") || !strcmp(state, "stopped"));
	snprintf(i->engine, sizeof(i->engine), "%s", engine ? engine : "");
	i->phase = PHASE_UP;
	instance_know_start(i, result);
	meter_start(&i->meter, i);
	instance_metadata_start(i, json_object_get(result, "nets"));
	i->has_answered = true;
	char socket_path[STORE_KEY_MAX];
	snprintf(socket_path, sizeof(socket_path), "%s/console", i->run_dir);
	console_hub_attach(i->console, socket_path);
	instance_seen(i);
	controlled_kick(&i->c);
}

void instance_connect(struct instance *i)
{
	static const struct vmm_ops ops = { .event = on_event, .gone = on_gone };
	char path[STORE_KEY_MAX];
	struct err err = ERR_INIT;

	if (i->vmm || !i->proc.pid)
		return;
	if (!process_is_settled(&i->proc)) {
		controlled_later(&i->c, CONNECT_MS);
		return;
	}
	snprintf(path, sizeof(path), "%s/control", i->run_dir);
	if (vmm_open(&i->vmm, i->c.node->loop, path, &ops, i, &err) < 0) {
		controlled_later(&i->c, CONNECT_MS);
		return;
	}
	vmm_request(i->vmm, "info", NULL, on_info, i);
}

void instance_disconnect(struct instance *i)
{
	struct vmm *v = i->vmm;

	meter_stop(&i->meter);
	instance_metadata_stop(i);
	i->vmm = NULL;
	vmm_close(v);
	console_hub_detach(i->console);
	i->has_asked = false;
}

/* --- the end ---------------------------------------------------- */

bool instance_ended_well(const struct instance *i, char *why, size_t cap)
{
	static const char *const well[] = { "power off", "reset", "quit", "saved", "cut off" };
	char words[200];

	for (unsigned k = 0; k < sizeof(well) / sizeof(well[0]); k++) {
		if (!strcmp(i->stop_reason, well[k])) {
			snprintf(why, cap, "%s", i->stop_reason);
			return true;
		}
	}
	process_last_words(i->dir, "vmm.log", words, sizeof(words));
	if (i->stop_reason[0])
		snprintf(why, cap, "%s: %s", i->stop_reason, words);
	else if (i->proc.status >= 0 && WIFSIGNALED(i->proc.status))
		snprintf(why, cap, "its process was killed by signal %d (%s)", WTERMSIG(i->proc.status),
			 strsignal(WTERMSIG(i->proc.status)));
	else if (i->proc.status >= 0 && !WEXITSTATUS(i->proc.status))
		snprintf(why, cap, "power off");
	else
		snprintf(why, cap, "its process has ended%s%s", words[0] ? ": " : "", words);
	return i->proc.status >= 0 && WIFEXITED(i->proc.status) && !WEXITSTATUS(i->proc.status);
}

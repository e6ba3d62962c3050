/* SPDX-License-Identifier: Apache-2.0 */
/* config.h - what a machine is to be: one structure, one table of options, one validator.
 *
 * The command line, the JSON document and later the control socket all fill `struct config`
 * by the table in options.c, which also prints --help and the manual page. config_validate()
 * is the only place that judges values. Main thread; the machine only reads it. */
#ifndef VM_CONFIG_H
#define VM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include "blk/limit.h"
#include "util/log.h"

struct err;
struct handed;
struct net_forward;
struct net_keeper;
struct state_file;

enum {
	CONFIG_CPUS_MAX = 64,
	CONFIG_DISKS_MAX = 16,
	CONFIG_CDROMS_MAX = 4,
	CONFIG_NETS_MAX = 8,
	CONFIG_FORWARDS_MAX = 16,
	CONFIG_UARTS_MAX = 2,           /* COM1, COM2 */
	CONFIG_PORTS_MAX = 16,          /* of the virtio console */
	CONFIG_OWN_CONSOLES_MAX = 8,    /* virtio consoles that are devices of their own */
	CONFIG_CONSOLES_MAX = CONFIG_UARTS_MAX + CONFIG_PORTS_MAX + CONFIG_OWN_CONSOLES_MAX,
	CONFIG_PORT_NAME_MAX = 63,
	CONFIG_CMDLINE_MAX = 2047,      /* what Linux takes on x86 (COMMAND_LINE_SIZE) less the NUL */
};
#define CONFIG_MEMORY_MIN (4ull << 20)
#define CONFIG_CODE_CACHE_MIN (1ull << 20)
#define CONFIG_CODE_CACHE_MAX (1ull << 30)

struct config_disk {
	char *path;
	char *format;           /* "raw", "qcow2", ...; "auto": by content */
	char *serial;           /* NULL: none */
	char *key_file;         /* of an encrypted image; NULL: none */
	char *name;             /* NULL: "disk" and its number */
	bool is_readonly, is_direct;
	bool is_created;        /* with a machine that comes: made, if it is not there; off when that has been done */
	bool comes, is_other;   /* private: what is in it comes with the machine; it is another file than where that comes from */
	struct blk_limits limits;
};

struct config_cdrom {
	char *path;             /* of the medium; NULL: none */
	char *format;           /* as of a disk */
	char *name;             /* NULL: "cdrom" and its number */
};

struct config_strings {
	char *v[CONFIG_FORWARDS_MAX];
	unsigned n;
};

struct config_net {
	char *kind;             /* "user", "tap", "none" */
	char *ifname;           /* tap; NULL: the kernel chooses */
	char *mac;              /* NULL: derived from the machine's name and the interface's number */
	char *name;             /* NULL: "net" and its number */
	struct config_strings hostfwd;
	bool has_metadata;      /* user: what is asked at 169.254.169.254 is answered here */
};

struct config_console {
	char *target;           /* "stdio", "none", "pty", "file:PATH", "socket:PATH" */
	char *device;           /* "uart", "virtio" */
	char *name;             /* virtio: a named port; NULL: a console */
	char *id;               /* virtio: a device of its own, called so; NULL: a port of the one that is always there */
};

struct config {
	char *name;
	char *engine;
	char *cpu;              /* CPU model and changes: cpu/x86/model.h */
	uint64_t memory, memory_max;    /* bytes: at the start, that there can be; 0: as many */
	bool windows;           /* engine `bt`: see cpu.h */
	uint64_t code_cache;    /* bytes per processor, CONFIG_CODE_CACHE_MIN to CONFIG_CODE_CACHE_MAX */
	uint64_t cpus, cpus_max;        /* at the start, that there can be; 0: as many */
	char *kernel, *initrd, *cmdline;
	char *firmware;         /* instead of a kernel: a ROM image */
	char *firmware_log;     /* what it writes to its debug port; NULL: dropped */
	struct config_disk disks[CONFIG_DISKS_MAX];
	struct config_net nets[CONFIG_NETS_MAX];
	struct config_console consoles[CONFIG_CONSOLES_MAX];
	unsigned n_disks, n_nets, n_consoles;
	struct config_cdrom cdroms[CONFIG_CDROMS_MAX];
	unsigned n_cdroms;
	bool has_rng, has_balloon;
	bool has_hvc;           /* the console device that consoles without an id are ports of */
	bool has_agent;         /* a port for the guest agent */
	bool has_agent_device;  /* it is a device of its own; machines saved by older versions have it on the console device */
	char *vsock;            /* path of the socket device's host's end; NULL: no such device */
	uint64_t vsock_cid;     /* the guest's address */
	char *cpu_limit;        /* see cpu_limit.h; NULL: none */
	bool is_no_reboot;      /* end instead of resetting */
	bool wants_stats;
	bool wants_profile, wants_perf_map;
	char *profile_symbols;  /* a System.map, or NULL */
	bool has_exit_port;     /* isa-debug-exit, for test kernels */
	bool has_test_device;   /* the rest of dev/testdev.h */
	char *log_level;
	char *control;          /* path of the control socket; NULL: none */
	char *end_file;         /* where the reason of the end is written; NULL: nowhere */
	bool starts_paused;
	bool has_jail;
	char *pid_namespace;    /* "auto", "off", "front", "detached": pidns.h */
	char *cgroup;           /* "auto", "off": group.h */
	bool is_inside;         /* this process is the first of one; passt is outside */
	bool is_copy;           /* of a machine that may go on: addresses of its own */
	bool takes_changed_disks;       /* restore although a disk is not what it was */
	bool reverts_disks;             /* restore disks, too: their snapshots of the saved instant */
	char *restore_key;              /* file with the passphrase of an encrypted saved machine, "fd:N"; NULL: none */
	struct state_file *saved;       /* the machine to continue, owned; NULL: boot */
	char *incoming;                 /* where another process sends it; NULL: nobody does */
	char *incoming_tls;             /* folder of certificates, by which it shows who it is; NULL: it need not */
	struct handed *handed;          /* what the other process had open, borrowed; NULL: nothing */
	struct net_keeper *keeper;      /* who starts passt again, borrowed; NULL: this process */
	bool is_takeover;               /* of a process of this host, with all that it has open */
	bool keeps_incoming;            /* the source may have to connect there again: what it is called stays */
	bool is_incoming;               /* SAVED is all that has come so far: its identity */
	char *saved_cpu;                /* private: the model of the saved machine, or of the one that comes */
	unsigned saved_lists;           /* private: lists (by place in the table) that are still the saved machine's */
};

/* What the command line asks for besides a machine. */
enum config_action { CONFIG_RUN, CONFIG_HELP, CONFIG_VERSION, CONFIG_LIST_ENGINES, CONFIG_LIST_CPUS, CONFIG_CHECK, CONFIG_MAN,
		     CONFIG_API };

/* The forwards of an interface, into F, which has room for CONFIG_FORWARDS_MAX; their number. */
int config_net_forwards(const struct config_net *n, struct net_forward *f, struct err *err);

/* Defaults. -ENOMEM. */
int config_init(struct config *c, struct err *err);
void config_fini(struct config *c);             /* zeroed or half filled is fine */

/* Read the command line into C (initialised) and tell what to do. */
int config_parse_args(struct config *c, enum config_action *action, int argc, char **argv, struct err *err);
/* Read a JSON document from PATH into C; what it does not name stays. */
int config_load_file(struct config *c, const char *path, struct err *err);
/* Read the configuration of the machine that has been saved to PATH ("fd:N": an open descriptor); lists
 * that are given afterwards replace the saved ones. C owns the open file then. */
int config_load_saved(struct config *c, const char *path, struct err *err);
/* The same for a machine that comes over a connection: F (taken, also on failure) is its identity. The command line
 * is read again: C is initialised anew, and --incoming stands for the machine. */
int config_parse_incoming(struct config *c, int argc, char **argv, struct state_file *f, struct handed *handed,
			  struct err *err);
/* C has been made by config_parse_incoming() from what somebody said who is not trusted: what it names on this
 * host must have been said by MINE, the command line alone. Files that it does not name are forgotten, lists that it
 * does not name are refused. */
int config_distrust(struct config *c, const struct config *mine, struct err *err);

/* What the machine is, without what belongs to this process, as config_load_text() reads it. To be freed; NULL:
 * out of memory. */
char *config_to_json(const struct config *c);
/* The options that belong to a process, and that another takes over with the machine. The same. */
char *config_process_to_json(const struct config *c);
int config_load_text(struct config *c, const char *text, size_t len, struct err *err);
/* What config_to_json() has made, perhaps on another host, perhaps not: options of a process are left out, whoever says them. */
int config_load_machine(struct config *c, const char *text, size_t len, struct err *err);

/* All that is guest memory, in the order of struct gmem: what there is at the start, a gap that is never used, what
 * can come. The last begins at *ADDED (or NULL) of it; none: the size. */
uint64_t config_memory(const struct config *c, uint64_t *added);
/* Processors that there can be. */
unsigned config_cpus(const struct config *c);

/* Is this a machine that can be built? Looks at no file. The sentence names the value's path. */
int config_validate(const struct config *c, struct err *err);

/* One option as on the command line, ARG "--disk" for one. What it adds to a list stands at the list's end, also on failure;
 * a saved machine's lists are this one's own from then on. */
int config_set(struct config *c, const char *arg, const char *value, struct err *err);
/* Take element I out of the list of ARG; those behind it move up. */
void config_remove(struct config *c, const char *arg, unsigned i);
/* Before a list changes: what follows from a disk's or an interface's number - name, address - stays with it. */
int config_settle(struct config *c, struct err *err);

void config_print_help(FILE *to);
void config_print_man(FILE *to);

/* "52:54:00:12:34:56". -EINVAL also for multicast and all-zero addresses. */
int config_parse_mac(uint8_t mac[6], const char *text, struct err *err);
/* The address of interface I: as configured or derived from the name (locally administered). */
void config_net_mac(const struct config *c, unsigned i, uint8_t mac[6]);
/* What is derived for NUMBER. */
void config_net_mac_of(const struct config *c, unsigned number, uint8_t mac[6]);
/* Is NAME that of a disk, a drive, an interface, or a console that is a device of its own? */
bool config_has_device(const struct config *c, const char *name);
/* The name of disk or interface I, in BUF if it has none of its own. */
enum { CONFIG_DISK_NAME_MAX = 31 };
const char *config_disk_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1]);
const char *config_net_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1]);
const char *config_cdrom_name(const struct config *c, unsigned i, char buf[CONFIG_DISK_NAME_MAX + 1]);
/* The number of a valid log level's name. */
enum log_level config_log_level(const struct config *c);

#endif

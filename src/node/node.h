/* SPDX-License-Identifier: Apache-2.0 */
/* node.h - what the parts of the daemon share: one node, its store, its directories, its controllers.
 *
 *	run      /run/viv or $XDG_RUNTIME_DIR/viv: sockets and what only holds while the host is up
 *	data     /var/lib/viv or ~/.local/share/viv: the store, images, disks
 *
 * Loop thread. */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "util/cleanup.h"
#include "util/loop.h"

struct api_config;
struct auth;
struct auth_config;
struct certificate;
struct cgroups;
struct clock_watch;
struct controller;
struct err;
struct health;
struct http_server;
struct stream;
struct ports;
struct profile_users;
struct quota_claim;
struct rename;
struct store;
struct templates;
struct ui;
struct usage_node;
struct vault;
struct works;

enum { NODE_LISTEN_MAX = 8, NODE_FETCH_MAX = 16 };

struct node_config {
	const char *listen[NODE_LISTEN_MAX];    /* "https://ADDRESS:PORT", besides the Unix socket */
	unsigned n_listen;
	const char *cert, *key;         /* PEM files; NULL: a certificate that it makes itself */
	const char *secrets_key;        /* file with the keys of secrets (vault.h); NULL: DATA/secrets.key */
	bool rotates_secrets;           /* with a new one */
	const char *group;              /* and its role: see struct auth_config */
	const char *group_role;
	const char *data_dir, *run_dir; /* NULL: as above */
	const char *vmm;                /* path of viv-vmm; NULL: beside this program, then as PATH says */
	const char *image_tool;         /* path of the program that makes images from packages; NULL: installed one */
	const char *catalogues;         /* folder of descriptions of catalogues; NULL: the installed one */
	const char *ui_dir;             /* files of the web console; NULL: the installed ones */
	const char *fetch_ca;           /* PEM file of authorities that servers of images may have, besides the system's; NULL: none */
	const char *fetch_from[NODE_FETCH_MAX]; /* networks that images may come from, besides the Internet: "10.1.0.0/16" */
	unsigned n_fetch_from;
	double overcommit_memory, overcommit_cpus;      /* so many times what the host has is promised to machines; 0: any */
	unsigned idle_seconds;          /* after which a machine that does nothing is called idle */
	unsigned templates;             /* that are kept at most (template.h) */
	uint64_t templates_size;        /* bytes of all of them */
};

/* What instances that run have been promised of the node. */
struct room {
	uint64_t memory, cpus;          /* bytes, processors of guests */
	unsigned machines;
};

/* instance_order.c's: whose turn it is. */
struct node_order {
	bool has_started;               /* all that shall run have had their turn */
	int turn;                       /* 'start_order' of those that may start, or end */
	uint64_t looked_ns, turn_ns, told_ns;
	void (*drained)(void *arg);     /* set: all end */
	void *arg;
	struct loop_timer timer;
};

struct node {
	struct loop *loop;
	struct store *store;
	struct auth *auth;
	struct vault *vault;            /* keys of secrets in the store */
	struct http_server *http;
	struct api_config *api;
	struct ui *ui;                  /* NULL: there is no web console */
	struct works *works;
	struct works *lookers;          /* for path_look() */
	struct works *writer;           /* one thread that writes what nobody waits for: histories, consoles' logs */
	struct usage_node *usage;
	struct clock_watch *clock;
	struct cgroups *cgroups;        /* of machines */
	struct health *health;          /* of the disk */
	struct templates *templates;
	uint64_t answers[6];            /* of the API so far, by the first digit of their status */
	struct controller *instances, *images, *volumes, *snapshots, *tasks, *networks, *pools, *profiles;
	struct ports *ports;            /* what instances want to be plugged into */
	struct profile_users *profile_users;
	struct quota_claim *claims;     /* on their way to the store */
	struct rename *renames;         /* names that are being taken away (rename.h) */
	unsigned n_uploads;             /* under way */
	bool is_same_boot;              /* the host has not been booted since the last daemon (boot.h) */
	bool is_refreshing;             /* a task looks what a catalogue has */
	atomic_bool is_closing;         /* the daemon ends: for workers */
	struct stream *streams;        /* open WebSockets of events */
	char *data_dir, *run_dir;       /* absolute */
	struct certificate *certificate;        /* that is shown; NULL: no TLS */
	char *listen[NODE_LISTEN_MAX];  /* as given */
	unsigned n_listen;
	char *vmm, *viv, *image_tool;   /* programs; NULL: not there */
	char *catalogues;               /* folder of descriptions; NULL: not there */
	char *fetch_ca;                 /* as in the configuration, absolute */
	char *fetch_from[NODE_FETCH_MAX];
	unsigned n_fetch_from;
	int listener;                   /* the Unix socket of the API, which systemd has made; 0: it is our own */
	double overcommit_memory, overcommit_cpus;      /* as in the configuration */
	unsigned idle_seconds;
	struct room taken;              /* of all instances that run */
	struct node_order order;
};

/* Open the store, serve the API, take over what runs. -EBUSY: another daemon has the store. */
int node_open(struct node **out, struct loop *loop, const struct node_config *c, struct err *err);
/* Stops serving. Machines go on. NULL is fine. */
void node_close(struct node *n);
/* The same; false: threads hang in a file system that does not answer, so that what they use is still there, and the process ends by
 * _exit(). All that was said is durable. */
bool node_end(struct node *n);
DEFINE_AUTO(struct node *, node_close)

/* "DIR/NAME" from malloc(); NULL: out of memory. */
char *node_path(const char *dir, const char *name);

#endif

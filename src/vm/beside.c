/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/beside.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "net/net.h"
#include "util/cleanup.h"
#include "util/err.h"
#include "vm/config.h"
#include "vm/handover.h"
#include "vm/jail.h"
#include "vm/migrate.h"

/* Who starts passt again when this process is in its jail. */
static int start_keeper(struct net_keeper *k, struct config *c, struct err *err)
{
	struct net_forward forward[CONFIG_NETS_MAX][CONFIG_FORWARDS_MAX];
	const struct net_forward *list[CONFIG_NETS_MAX] = { 0 };
	unsigned n[CONFIG_NETS_MAX] = { 0 };

	_Static_assert((int)CONFIG_NETS_MAX <= (int)NET_KEEPER_MAX, "all of them");
	for (unsigned i = 0; i < c->n_nets; i++) {
		if (!c->nets[i].kind || strcmp(c->nets[i].kind, "user"))
			continue;
		int r = config_net_forwards(&c->nets[i], forward[i], err);
		if (r < 0)
			return err_wrap(err, r, "nets[%u]", i);
		list[i] = forward[i];
		n[i] = (unsigned)r;
	}
	c->keeper = k;
	return net_keeper_start(k, list, n, c->n_nets, jail_enter_keeper, err);
}

enum pidns_mode beside_pidns_mode(const struct config *c)
{
	const char *name = c->pid_namespace;

	if (!strcmp(name, "auto"))
		return c->has_jail && !geteuid() ? PIDNS_FRONT : PIDNS_OFF;
	return !strcmp(name, "front") ? PIDNS_FRONT : !strcmp(name, "detached") ? PIDNS_DETACHED : PIDNS_OFF;
}

static bool wants_group(const struct config *c)
{
	return strcmp(c->cgroup, "off") != 0 && c->has_jail && !geteuid() && beside_pidns_mode(c) != PIDNS_DETACHED;
}

static int start_janitors(const struct config *c, struct beside *b, struct err *err)
{
	int r = 0;

	if (c->handed) {
		r = janitor_adopt(&b->janitor, c->handed->janitor);
		return r ? r : janitor_start(&b->group_janitor, NULL, &b->group, err);
	}
	if (c->has_jail || c->end_file)
		r = janitor_start(&b->janitor, c, &b->group, err);
	return r;
}

static int start_helpers(struct config *c, struct beside *b, struct err *err)
{
	int r = c->has_jail ? start_keeper(&b->keeper, c, err) : 0;

	if (wants_group(c))
		group_make(&b->group);
	if (!r)
		r = start_janitors(c, b, err);
	if (r < 0)
		group_remove(&b->group);
	else if (b->keeper.pid)         /* before it starts passt, which is to be in there with it */
		group_add(&b->group, b->keeper.pid);
	return r;
}

/* 1: the machine is another process, a child of this one's parent. 0: it is this one. */
static int detach(char **argv, struct beside *b, struct err *err)
{
	struct pidns p = { .janitor = b->janitor.fd, .beside = { b->janitor.pid, b->keeper.pid } };

	memcpy(p.keeper, b->keeper.fd, sizeof(p.keeper));
	int r = pidns_detach(&p, argv, err);
	if (r > 0) {
		b->janitor.fd = -1;
		net_keeper_init(&b->keeper);
	}
	return r;
}

struct moving {
	const struct group *group;
	pid_t helper;                   /* 0: none */
};

/* What PID has started before it was moved: who connects to a disk's server again. */
static void move_children(const struct group *g, pid_t pid)
{
	char path[64], text[4096], *end;
	int len = snprintf(path, sizeof(path), "/proc/%d/task/%d", (int)pid, (int)pid);

	if (len <= 0 || !g->n)
		return;
	cgroup_read(path, "children", text, sizeof(text));
	for (char *at = text; *at; at = end + (*end == ' ')) {
		pid_t child = (pid_t)strtol(at, &end, 10);

		if (end == at || child <= 0)
			return;
		group_add(g, child);
	}
}

static void move_into_group(void *arg, pid_t pid)
{
	const struct moving *m = arg;

	group_add(m->group, pid);
	if (pid)
		move_children(m->group, pid);
	if (m->helper)
		group_add(m->group, m->helper);
}

/* Into a PID namespace and a control group, as far as it is to be one. 1: the machine is another process, and this one ends. The kernel
 * takes some ten milliseconds to move a process between groups (a grace period of RCU): the one in front does it, and the machine's does not wait. */
static int leave_home(struct config *c, const struct incoming *in, char **argv, struct beside *b, struct err *err)
{
	struct moving m = { .group = &b->group, .helper = in ? incoming_helper(in) : 0 };
	enum pidns_mode mode = beside_pidns_mode(c);

	if (mode == PIDNS_DETACHED)
		return detach(argv, b, err);
	int r = mode == PIDNS_FRONT ? pidns_front(c->has_jail, move_into_group, &m, err) : 0;
	c->is_inside = r > 0;
	if (!r)
		move_into_group(&m, 0);
	return r < 0 ? r : 0;
}

void beside_init(struct beside *b)
{
	*b = (struct beside){ .janitor.fd = -1, .group_janitor.fd = -1 };
	net_keeper_init(&b->keeper);
}

int beside_start(struct beside *b, struct config *c, const struct incoming *in, struct pidns *outside, char **argv, struct err *err)
{
	c->is_inside = outside->is_inside;
	if (!c->is_inside) {
		int r = start_helpers(c, b, err);

		return r ? r : leave_home(c, in, argv, b, err);
	}
	b->janitor.fd = take_fd(&outside->janitor);
	memcpy(b->keeper.fd, outside->keeper, sizeof(b->keeper.fd));
	c->keeper = &b->keeper;
	return 0;
}

void beside_end(struct beside *b, struct config *c)
{
	if (c->handed && !c->handed->is_ours)
		janitor_forget(&b->janitor);    /* the sockets are the other process's */
	janitor_finish(&b->janitor);
	janitor_finish(&b->group_janitor);
	c->keeper = NULL;
	net_keeper_fini(&b->keeper);
}

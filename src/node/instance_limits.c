/* SPDX-License-Identifier: Apache-2.0 */
/* instance_limits.c - limits of an instance that runs, and what of the node those that run have been promised: a sum that is kept, so
 * asking costs nothing however many there are. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "node/instance_limits.h"
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/vmm.h"
#include "util/err.h"

static uint64_t host_memory(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct room room_of(const json_t *spec)
{
	return (struct room){ .memory = (uint64_t)json_integer_value(json_object_get(spec, "memory")),
			      .cpus = (uint64_t)json_integer_value(json_object_get(spec, "cpus")) };
}

int limits_admit(const struct instance *i, const json_t *spec, struct err *err)
{
	const struct node *n = i->c.node;
	struct room asked = room_of(spec);
	double memory = (double)host_memory(), cpus = (double)sysconf(_SC_NPROCESSORS_ONLN);

	if (n->overcommit_memory > 0 && (double)asked.memory > memory)
		return err_set(err, -ENOSPC, "its %.0f MiB of memory are more than the host has (%.0f MiB)", (double)asked.memory / (1 << 20),
			       memory / (1 << 20));
	if (n->overcommit_memory > 0 && (double)(n->taken.memory + asked.memory) > memory * n->overcommit_memory)
		return err_set(err, -ENOSPC, "the node has no room for its %.0f MiB of memory: machines that run have %.0f MiB, and %.3g times the "
			       "host's %.0f MiB are given; stop another, or see --overcommit-memory of vivd", (double)asked.memory / (1 << 20),
			       (double)n->taken.memory / (1 << 20), n->overcommit_memory, memory / (1 << 20));
	if (n->overcommit_cpus > 0 && (double)(n->taken.cpus + asked.cpus) > cpus * n->overcommit_cpus)
		return err_set(err, -ENOSPC, "the node has no room for its %llu processors: machines that run have %llu, and %.3g times the host's "
			       "%.0f are given; stop another, or see --overcommit-cpus of vivd", (unsigned long long)asked.cpus,
			       (unsigned long long)n->taken.cpus, n->overcommit_cpus, cpus);
	return 0;
}

void limits_give_back(struct instance *i)
{
	i->c.node->taken.memory -= i->taken.memory;
	i->c.node->taken.cpus -= i->taken.cpus;
	i->c.node->taken.machines -= i->taken.machines;
	i->taken = (struct room){ .memory = 0 };
}

void limits_take(struct instance *i, const json_t *spec)
{
	limits_give_back(i);
	i->taken = room_of(spec);
	i->taken.machines = 1;
	i->c.node->taken.memory += i->taken.memory;
	i->c.node->taken.cpus += i->taken.cpus;
	i->c.node->taken.machines++;
}

/* --- live ---------------------------------------------------- */

static void limits_set(void *arg, int r, const json_t *result, const struct err *err)
{
	struct instance *i = arg;

	(void)result;
	if (r < 0 && r != -ECONNRESET && r != -ECANCELED && !i->limits_reason[0]) {
		snprintf(i->limits_reason, sizeof(i->limits_reason), "%.199s", err->msg);
		controlled_write(&i->c);
	}
}

void instance_set_limits(struct instance *i, const json_t *doc, int64_t revision)
{
	const json_t *spec = json_object_get(doc, "spec");
	AUTO(free) char *settings = limits_settings(spec);
	struct err err = ERR_INIT;

	i->limits_revision = revision;
	(void)limits_apply(&i->proc, spec, &err);
	snprintf(i->limits_reason, sizeof(i->limits_reason), "%.199s", err.msg);
	controlled_write(&i->c);
	if (settings)
		vmm_request(i->vmm, "set", json_pack("{s:s}", "setting", settings), limits_set, i);
}

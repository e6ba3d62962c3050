/* SPDX-License-Identifier: Apache-2.0 */
/* meter.c - what one instance uses: its machine is asked for its counters every few seconds. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "node/instance_priv.h"
#include "node/node.h"
#include "node/pool.h"
#include "util/checked.h"

enum { CHILDREN_MAX = 64, DEPTH = 3 };

/* --- counters ---------------------------------------------------- */

static double number(const json_t *o, const char *name)
{
	return (double)json_integer_value(json_object_get(o, name));
}

static void read_totals(struct usage_totals *t, const json_t *stats)
{
	const json_t *d;
	size_t i;

	*t = (struct usage_totals){ .cpu = number(stats, "host_cpu_ns") / 1e9 };
	json_array_foreach(json_object_get(stats, "devices"), i, d) {
		const char *device = json_string_value(json_object_get(d, "device"));

		if (device && !strcmp(device, "virtio-blk")) {
			t->reads += number(d, "to_guest");
			t->read += number(d, "to_guest_bytes");
			t->writes += number(d, "from_guest");
			t->written += number(d, "from_guest_bytes");
		} else if (device && !strcmp(device, "virtio-net")) {
			t->frames_in += number(d, "to_guest");
			t->received += number(d, "to_guest_bytes");
			t->frames_out += number(d, "from_guest");
			t->sent += number(d, "from_guest_bytes");
		}
	}
}

/* Counters begin anew with each process of the machine. */
static double rate(double now, double before, double seconds)
{
	return (now >= before ? now - before : now) / seconds;
}

/* --- memory and storage ---------------------------------------------------- */

static double resident(pid_t pid)
{
	char path[64];
	long long pages = 0;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%*s %lld", &pages) != 1)
		pages = 0;
	fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* PID and what it has started: the machine in its jail, its helpers. */
static double resident_all(pid_t pid, unsigned depth)
{
	char path[64];
	double sum = resident(pid);
	int child;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	FILE *f = depth ? fopen(path, "re") : NULL;
	for (unsigned i = 0; f && i < CHILDREN_MAX && fscanf(f, "%d", &child) == 1; i++)
		sum += resident_all(child, depth - 1);
	if (f)
		fclose(f);
	return sum;
}

static double resident_of(const struct process *p)
{
	double sum = resident_all(p->pid, DEPTH);

	for (unsigned i = 0; i < PROCESS_BESIDE; i++) {
		pid_t beside = process_beside(p, i);

		sum += beside ? resident_all(beside, DEPTH) : 0;
	}
	return sum;
}

/* --- every few seconds ---------------------------------------------------- */

/* SECONDS 0: only the storage is looked at. */
static void keep(struct meter *m, double seconds)
{
	AUTO(free) char *root = instance_root_path(m->owner);
	AUTO(free) char *history = seconds > 0 ? node_path(m->owner->dir, "history") : NULL;

	bool is_here = !strcmp(m->owner->pool, POOL_DEFAULT);

	sampler_take(&m->sampler, is_here ? NULL : pool_works(m->owner->c.node, m->owner->pool), root, history, seconds, &m->now);
}

/* What a guest does that waits: its timers, a frame now and then. */
static bool does_nothing(const struct usage *u)
{
	return u->v[USAGE_CPU] < 0.02 && u->v[USAGE_READ] + u->v[USAGE_WRITTEN] < 16384 && u->v[USAGE_RECEIVED] + u->v[USAGE_SENT] < 2048;
}

static void watch_idleness(struct meter *m, uint64_t now)
{
	unsigned wanted = m->owner->c.node->idle_seconds;
	uint64_t seconds;

	if (!m->busy_ns || !does_nothing(&m->now))
		m->busy_ns = now;
	seconds = (now - m->busy_ns) / 1000000000u;
	if ((seconds >= wanted) == (m->idle_since != 0))
		return;
	m->idle_since = m->idle_since ? 0 : time(NULL) - (time_t)seconds;
	controlled_write(&m->owner->c);
}

static void measured(void *arg, int r, const json_t *result, const struct err *err)
{
	struct meter *m = arg;
	struct usage_totals t;
	uint64_t now = loop_now_ns();
	double seconds = (double)(now - m->at_ns) / 1e9;

	(void)err;
	if (r < 0)
		return; /* it ends, or the next try tells */
	read_totals(&t, result);
	if (m->at_ns && seconds > 0) {
		m->now.v[USAGE_CPU] = rate(t.cpu, m->totals.cpu, seconds);
		m->now.v[USAGE_READ] = rate(t.read, m->totals.read, seconds);
		m->now.v[USAGE_WRITTEN] = rate(t.written, m->totals.written, seconds);
		m->now.v[USAGE_RECEIVED] = rate(t.received, m->totals.received, seconds);
		m->now.v[USAGE_SENT] = rate(t.sent, m->totals.sent, seconds);
		m->now.v[USAGE_MEMORY] = resident_of(&m->owner->proc);
		m->now.v[USAGE_STORAGE] = m->sampler.storage;
		m->is_known = true;
		keep(m, seconds);
		watch_idleness(m, now);
	}
	m->totals = t;
	m->at_ns = now;
}

static void tick(struct loop_timer *timer)
{
	struct meter *m = container_of(timer, struct meter, timer);

	loop_timer_set(timer, loop_after_ms(USAGE_MS));
	vmm_request(m->owner->vmm, "stats", NULL, measured, m);
}

void meter_start(struct meter *m, struct instance *owner)
{
	*m = (struct meter){ .owner = owner };
	sampler_init(&m->sampler, owner->c.node, false);
	keep(m, 0);
	loop_timer_init(owner->c.node->loop, &m->timer, tick);
	tick(&m->timer);
	/* Machines that are adopted together are not asked together for ever. */
	loop_timer_set(&m->timer, loop_after_ms(USAGE_MS / 5 + strtoull(owner->c.uid, NULL, 16) % (USAGE_MS * 4 / 5)));
}

void meter_stop(struct meter *m)
{
	if (m->owner)
		loop_timer_cancel(&m->timer);
	sampler_stop(&m->sampler);
	m->owner = NULL;
	m->is_known = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "node/instance_order.h"

#include <limits.h>
#include <string.h>
#include "node/instance_priv.h"
#include "node/node.h"
#include "util/checked.h"
#include "util/loop.h"
#include "util/sd.h"

enum { LOOK_MS = 100, PATIENCE_MS = 120000, TELL_MS = 5000 };

void instance_order_note(struct instance *i, const json_t *doc)
{
	const json_t *spec = json_object_get(doc, "spec");
	const char *wanted = json_string_value(json_object_get(spec, "state"));

	i->start_order = (int)json_integer_value(json_object_get(spec, "start_order"));
	i->is_wanted = wanted && strcmp(wanted, "stopped") != 0;
	i->is_noted = true;
}

/* It shall run, does not yet, and nothing is known against it. */
static bool is_pending(const struct instance *i)
{
	return !i->is_noted || (i->is_wanted && i->phase != PHASE_UP && !i->ended_revision && !i->c.failures && !i->n_holds);
}

/* The lowest order of those that have not started yet; INT_MAX: all have. */
static int lowest_pending(const struct node *n)
{
	int lowest = INT_MAX;

	for (const struct controlled *c = controller_next(n->instances, NULL); c; c = controller_next(n->instances, c)) {
		const struct instance *i = (const struct instance *)c;

		if (is_pending(i) && (i->is_noted ? i->start_order : INT_MIN) < lowest)
			lowest = i->is_noted ? i->start_order : INT_MIN;
	}
	return lowest;
}

static int highest_running(const struct node *n)
{
	int highest = INT_MIN;

	for (const struct controlled *c = controller_next(n->instances, NULL); c; c = controller_next(n->instances, c)) {
		const struct instance *i = (const struct instance *)c;

		if (i->proc.pid && i->start_order > highest)
			highest = i->start_order;
	}
	return highest;
}

/* One walk for all who ask within a moment. */
static void look(struct node *n)
{
	struct node_order *o = &n->order;
	uint64_t now = loop_now_ns();

	if (o->looked_ns && now - o->looked_ns < LOOK_MS * 1000000ull)
		return;
	o->looked_ns = now;
	if (o->drained) {
		o->turn = highest_running(n);
		return;
	}
	int lowest = lowest_pending(n);

	if (lowest != o->turn || !o->turn_ns)
		o->turn_ns = now;
	o->turn = lowest;
	if (lowest == INT_MAX)
		o->has_started = true;
	else if (now - o->turn_ns > PATIENCE_MS * 1000000ull)
		o->has_started = true; /* they will not */
}

bool instance_order_may_start(struct instance *i)
{
	struct node *n = i->c.node;

	if (n->order.drained)
		return false;
	if (n->order.has_started)
		return true;
	look(n);
	return n->order.has_started || i->start_order <= n->order.turn;
}

bool instance_order_may_stop(struct instance *i)
{
	look(i->c.node);
	return i->start_order >= i->c.node->order.turn;
}

/* --- the end of all ---------------------------------------------------- */

/* A daemon that is told to end when it has only just begun may not know yet what runs. */
static bool all_are_known(const struct node *n)
{
	for (const struct controlled *c = controller_next(n->instances, NULL); c; c = controller_next(n->instances, c))
		if (((const struct instance *)c)->phase == PHASE_UNKNOWN)
			return false;
	return true;
}

static void tick(struct loop_timer *t)
{
	struct node_order *o = container_of(t, struct node_order, timer);
	struct node *n = container_of(o, struct node, order);
	uint64_t now = loop_now_ns();

	if (!n->taken.machines && all_are_known(n)) {
		o->drained(o->arg);
		return;
	}
	if (now - o->told_ns > TELL_MS * 1000000ull) {
		o->told_ns = now;
		sd_tell("EXTEND_TIMEOUT_USEC=20000000");
	}
	controller_kick_all(n->instances, "instance/", 1);
	loop_timer_set(t, loop_after_ms(LOOK_MS));
}

void node_drain(struct node *n, void (*done)(void *arg), void *arg)
{
	if (n->order.drained)
		return;
	n->order.drained = done;
	n->order.arg = arg;
	n->order.looked_ns = 0;
	loop_timer_init(n->loop, &n->order.timer, tick);
	tick(&n->order.timer);
}

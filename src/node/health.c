/* SPDX-License-Identifier: Apache-2.0 */
#include "node/health.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "node/doc.h"
#include "node/node.h"
#include "store/store.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

enum state { OK, SLOW, FAILING };
enum { LOOK_MS = 500, BETTER_MS = 5000 };       /* a disk that was slow must be quick for so long */

static const char *const names[] = { [OK] = "ok", [SLOW] = "slow", [FAILING] = "failing" };

struct health {
	struct node *node;
	struct loop_timer timer;
	enum state state;
	char since[DOC_TIME_LEN + 1], reason[640];
	uint64_t writes;                /* that have been looked at */
	uint64_t slow_ns;               /* when the disk was slow last */
};

/* How slow the disk is now, or was since the last look, in seconds. */
static double slowness(struct health *h, const struct store_health *s)
{
	uint64_t ns = s->waiting_ns;

	if (s->writes != h->writes && s->last_ns > ns)
		ns = s->last_ns;
	h->writes = s->writes;
	return (double)ns / 1e9;
}

static void set_state(struct health *h, enum state state)
{
	if (state == h->state)
		return;
	h->state = state;
	doc_now(h->since);
	if (state == OK)
		log_info("the disk of '%s' is well again", h->node->data_dir);
	else
		log_warn("%s", h->reason);
}

static void look(struct health *h)
{
	uint64_t now = loop_now_ns();
	struct store_health s;

	store_health(h->node->store, &s);
	double seconds = slowness(h, &s);
	bool is_slow = seconds * 1000 >= HEALTH_SLOW_MS;

	if (is_slow)
		h->slow_ns = now;
	if (s.is_failing) {
		snprintf(h->reason, sizeof(h->reason), "%s: nothing can be changed until it can be written again", s.reason);
		set_state(h, FAILING);
	} else if (is_slow) {
		snprintf(h->reason, sizeof(h->reason), "the disk of '%s' is slow: a change was not durable after %.1f s, and is not acknowledged before",
			 h->node->data_dir, seconds);
		set_state(h, SLOW);
	} else if (h->state == FAILING || now - h->slow_ns >= BETTER_MS * 1000000ull) {
		h->reason[0] = 0;
		set_state(h, OK);
	}
}

static void tick(struct loop_timer *t)
{
	struct health *h = container_of(t, struct health, timer);

	loop_timer_set(t, loop_after_ms(LOOK_MS));
	look(h);
}

int health_open(struct health **out, struct node *n, struct err *err)
{
	struct health *h = calloc(1, sizeof(*h));

	if (!h)
		return err_set(err, -ENOMEM, "out of memory");
	h->node = n;
	doc_now(h->since);
	loop_timer_init(n->loop, &h->timer, tick);
	tick(&h->timer);
	*out = h;
	return 0;
}

void health_close(struct health *h)
{
	if (!h)
		return;
	loop_timer_cancel(&h->timer);
	free(h);
}

json_t *health_view(const struct health *h)
{
	struct store_health s;

	store_health(h->node->store, &s);
	return json_pack("{s:s, s:s, s:s, s:f}", "state", names[h->state], "reason", h->reason, "since", h->since, "sync_seconds",
			 (double)s.last_ns / 1e9);
}

const char *health_problem(const struct health *h)
{
	return h->reason;
}

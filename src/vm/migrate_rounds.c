/* SPDX-License-Identifier: Apache-2.0 */
/* When the guest is to stand still: rounds of pre-copy, until what is left of memory fits into the pause, and then some more
 * while that makes it shorter. A guest that writes too fast is slowed down. */
#include <errno.h>
#include "mem/gmem.h"
#include "util/checked.h"
#include "vm/migrate_priv.h"

enum {
	THROTTLE_FIRST = 20, THROTTLE_STEP = 15,        /* percent */
	ROUNDS_MAX = 200,               /* of one who may not slow the guest down */
	FITS_ALWAYS = 512 << 10,        /* bytes of RAM that are sent without a thought */
	LEFT_SMALL = 64 << 10,          /* bytes of RAM that are worth no further round */
	MORE_ROUNDS = 64,               /* at most, once it would fit ... */
	MORE_MS = 250,                  /* ... and for so long ... */
	STUCK_MS = 50,                  /* ... or until none has halved what is left for so long */
	RATE_PAGES = 256,               /* a round of fewer tells nothing of the connection's speed */
	NS_PER_MS = 1000000,
	SECTIONS_ROOM = 128 << 10, SECTIONS_ROOM_CPU = 16 << 10,        /* bytes of state, usually; else it grows */
};

struct rounds {
	struct migration *g;
	uint64_t begin_ns, pages;       /* of this round; what had been sent before it */
	uint64_t rate;                  /* bytes of RAM per second; 0: not known yet */
	uint64_t left, before;          /* bytes of RAM now, and before this round */
	uint64_t fits_ns, shrunk_ns;    /* since when it fits (0: it does not yet); when a round last halved what was left */
	unsigned n_more;                /* since then */
	bool did_fit;                   /* the last time */
};

static void step_round(void *arg)
{
	struct migration *g = arg;

	throttle_set(&g->throttle, g->throttle_wanted);
	migrate_report(g);
	migrate_step_done(&g->steps, NULL);
}

static void prepared(struct quiesce *q, int code, const char *why)
{
	struct migration *g = container_of(q, struct migration, quiesce);

	migrate_step_done(&g->steps, NULL);
}

/* It will stand still soon: what can be done before is. */
static void step_prepare(void *arg)
{
	struct migration *g = arg;

	vcpus_be_prompt(g->m->vcpus, true);
	migrate_report(g);
	state_sections_reserve(&g->sections, SECTIONS_ROOM + config_cpus(g->m->cfg) * SECTIONS_ROOM_CPU);
	g->quiesce.done = prepared;
	quiesce_prepare(&g->quiesce, g->m);
}

static void rounds_learn_rate(struct rounds *r)
{
	uint64_t ns = loop_now_ns() - r->begin_ns, n = atomic_load(&r->g->lanes.sender.pages_sent) - r->pages;

	if (n >= RATE_PAGES || !r->rate)
		r->rate = (uint64_t)((unsigned __int128)(n << GMEM_PAGE_SHIFT) * 1000000000u / (ns ? ns : 1));
}

/* Can what is left be sent within what the budget leaves, when the rest of the handover takes its part? */
static bool rounds_fit(const struct rounds *r)
{
	uint64_t budget = atomic_load(&r->g->pause_ns) / 2;

	return r->left <= FITS_ALWAYS || (r->rate && (unsigned __int128)r->left * 1000000000u / r->rate <= budget);
}

/* It would fit. Does one round more make the pause shorter? It costs the guest nothing. One that writes now and then has moments
 * when next to nothing is left: these are waited for. */
static bool rounds_are_worth_it(struct rounds *r)
{
	uint64_t now = loop_now_ns();

	if (r->left <= r->before / 2)
		r->shrunk_ns = now;
	return r->left > LEFT_SMALL && r->n_more++ < MORE_ROUNDS && now - r->fits_ns < (uint64_t)MORE_MS * NS_PER_MS &&
	       now - r->shrunk_ns < (uint64_t)STUCK_MS * NS_PER_MS;
}

/* The guest writes faster than the connection takes: it gets less time. */
static int rounds_slow_down(struct migration *g, struct err *err)
{
	unsigned now = g->throttle_wanted, max = atomic_load(&g->throttle_max);
	bool may = atomic_load(&g->may_throttle);

	if (!may || now >= max) {
		g->throttle_wanted = may ? max : 0;
		return atomic_load(&g->rounds) < ROUNDS_MAX ? 0 :
		       err_set(err, -ETIMEDOUT, "the guest writes to its memory faster than the connection takes it; allow it to be "
			       "slowed down (more), or a longer pause");
	}
	now = now ? now + THROTTLE_STEP : THROTTLE_FIRST;
	g->throttle_wanted = now < max ? now : max;
	return 0;
}

static bool rounds_want_post(const struct migration *g)
{
	return atomic_load(&g->wants_post) ||
	       (g->o.may_postcopy && g->o.postcopy_after && atomic_load(&g->rounds) >= g->o.postcopy_after);
}

/* Send what is left, and learn what has been written meanwhile. 1: it was cut short for post-copy. */
static int rounds_one(struct rounds *r, bool is_first, struct err *err)
{
	struct migrate_sender *s = &r->g->lanes.sender;

	r->begin_ns = loop_now_ns();
	r->pages = atomic_load(&s->pages_sent);
	int ret = migrate_lanes_round(&r->g->lanes, is_first, err);

	if (ret < 0)
		return ret;
	rounds_learn_rate(r);
	if (atomic_load(&s->is_cut))
		return 1;
	r->before = r->left;
	r->left = migrate_sender_take_dirty(s);
	return 0;
}

int migrate_rounds(struct migration *g, struct err *err)
{
	struct rounds r = { .g = g };

	r.left = migrate_sender_take_all(&g->lanes.sender);
	for (;;) {
		unsigned n = atomic_fetch_add(&g->rounds, 1);
		int ret = rounds_one(&r, !n, err);

		if (ret)
			return ret;
		bool fits = rounds_fit(&r), is_too_fast = !fits && !r.did_fit && n > 1 && r.left > r.before / 2;
		if (fits && r.fits_ns && !rounds_are_worth_it(&r))
			return 0;
		if (!fits && rounds_want_post(g))
			return 1;
		if (is_too_fast)
			ret = rounds_slow_down(g, err);
		if (!ret && (!fits || !r.fits_ns))
			ret = migrate_step(&g->steps, fits ? step_prepare : step_round, g, err);
		if (ret < 0)
			return ret;
		r.did_fit = fits;
		if (fits && !r.fits_ns)
			r.fits_ns = r.shrunk_ns = loop_now_ns();
	}
}

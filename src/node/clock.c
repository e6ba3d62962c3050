/* SPDX-License-Identifier: Apache-2.0 */
#include "node/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "node/doc.h"
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

enum { LOOK_MS = 1000, JUMP_S = 5 };    /* who sets a clock right by and by does not jump */

struct clock_watch {
	struct loop_timer timer;
	int64_t ahead_s;                /* the time of day, of the time since the host began */
	int64_t last_s;
	unsigned jumps;
};

/* Of the clock that goes on while the host sleeps. */
static int64_t ahead(void)
{
	struct timespec up;

	clock_gettime(CLOCK_BOOTTIME, &up);
	return (int64_t)time(NULL) - (int64_t)up.tv_sec;
}

static void look(struct loop_timer *t)
{
	struct clock_watch *w = container_of(t, struct clock_watch, timer);
	int64_t now = ahead(), by = now - w->ahead_s;
	char text[DOC_TIME_LEN + 1];

	loop_timer_set(t, loop_after_ms(LOOK_MS));
	w->ahead_s = now;
	if (by >= -JUMP_S && by <= JUMP_S)
		return;
	w->last_s = by;
	w->jumps++;
	doc_now(text);
	log_warn("the clock of this host has been set %s by %lld s, to %s: what expires, codes of authenticators and certificates are judged by it",
		 by < 0 ? "back" : "forward", (long long)llabs(by), text);
}

int clock_watch_open(struct clock_watch **out, struct loop *l, struct err *err)
{
	struct clock_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->ahead_s = ahead();
	loop_timer_init(l, &w->timer, look);
	look(&w->timer);
	*out = w;
	return 0;
}

void clock_watch_close(struct clock_watch *w)
{
	if (!w)
		return;
	loop_timer_cancel(&w->timer);
	free(w);
}

unsigned clock_watch_jumps(const struct clock_watch *w, int64_t *last_s)
{
	*last_s = w->last_s;
	return w->jumps;
}

bool clock_is_good_until(const char *expires, time_t now, unsigned seconds)
{
	char from[DOC_TIME_LEN + 1], to[DOC_TIME_LEN + 1];

	doc_time(from, now);
	doc_time(to, now + seconds + CLOCK_DOUBT_S);
	return strcmp(expires, from) > 0 && strcmp(expires, to) <= 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h - what the host's time of day does. It is set by somebody, and may jump: what only measures how long something lasts goes by the
 * monotonic clock, what has to outlive a restart is written with the time of day and judged with doubt. Loop thread. */
#ifndef NODE_CLOCK_H
#define NODE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "util/cleanup.h"

struct clock_watch;
struct err;
struct loop;

enum { CLOCK_DOUBT_S = 86400 };         /* a time that lies further ahead than it may, by more than this, is of a clock that was wrong */

/* Tell of jumps in the log. */
int clock_watch_open(struct clock_watch **out, struct loop *l, struct err *err);
void clock_watch_close(struct clock_watch *w);          /* NULL is fine */
DEFINE_AUTO(struct clock_watch *, clock_watch_close)
/* How many there have been, and of how many seconds the last was (negative: back). */
unsigned clock_watch_jumps(const struct clock_watch *w, int64_t *last_s);

/* Is EXPIRES, as doc_time() writes it, of something that is good for at most SECONDS from its beginning on, still to come, and not so
 * far ahead that it must have been written by a clock that was wrong? */
bool clock_is_good_until(const char *expires, time_t now, unsigned seconds);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - a client library with one socket of its own, which it exchanges when it connects anew: watch that, call the
 * library when something comes and now and then besides, and wake who waited. Loop thread. */
#ifndef BLK_PROTO_EVENTS_H
#define BLK_PROTO_EVENTS_H

#include "blk/proto/proto.h"

/* In its owner's struct, in place from proto_poll_start() to proto_poll_stop(). */
struct proto_poll {
	int (*get_fd)(void *lib);       /* -1: none now */
	int (*get_events)(void *lib);   /* POLLIN and POLLOUT, as it wants them */
	void (*serve)(void *lib, int revents);  /* 0: only time has passed */
	void *lib;
	struct proto_ready *ready;      /* of those that the library's callbacks end */
	struct blk *b;                  /* private from here */
	struct blk_watch watch, timer;
	bool is_watched, has_timer;
};

/* From here on, with a call every TICK_S at least: libraries look at their timeouts only when they are called. */
int proto_poll_start(struct proto_poll *p, struct blk *b, unsigned tick_s);
/* After every other call of the library: it may want something else now. */
void proto_poll_update(struct proto_poll *p);
void proto_poll_stop(struct proto_poll *p);     /* not started: nothing happens */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "blk/proto/events.h"

#include <errno.h>
#include <poll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include "util/checked.h"

static void poll_event(struct loop_fd *h, unsigned events);

void proto_poll_update(struct proto_poll *p)
{
	int fd = p->get_fd(p->lib), want = p->get_events(p->lib);
	unsigned events = (want & POLLIN ? LOOP_IN : 0u) | (want & POLLOUT ? LOOP_OUT : 0u);

	if (p->is_watched && (p->watch.h.fd != fd || !events)) {
		blk_watch_del(p->b, &p->watch);
		p->is_watched = false;
	}
	if (!p->is_watched && fd >= 0 && events)
		p->is_watched = !blk_watch_add(p->b, &p->watch, fd, events, poll_event);
	else if (p->is_watched && events != p->watch.h.events)
		blk_watch_mod(p->b, &p->watch, events);
}

static void poll_serve(struct proto_poll *p, int revents)
{
	p->serve(p->lib, revents);      /* what fails is told to the callbacks */
	proto_poll_update(p);
	proto_wake(p->ready);
}

static void poll_event(struct loop_fd *h, unsigned events)
{
	struct proto_poll *p = container_of(container_of(h, struct blk_watch, h), struct proto_poll, watch);
	int revents = events & LOOP_IN ? POLLIN : 0;

	revents |= events & LOOP_OUT ? POLLOUT : 0;
	revents |= events & LOOP_HUP ? POLLHUP : 0;
	poll_serve(p, revents);
}

static void poll_tick(struct loop_fd *h, unsigned events)
{
	struct proto_poll *p = container_of(container_of(h, struct blk_watch, h), struct proto_poll, timer);
	uint64_t count;

	(void)events;
	if (read(h->fd, &count, sizeof(count)) == sizeof(count))
		poll_serve(p, 0);
}

int proto_poll_start(struct proto_poll *p, struct blk *b, unsigned tick_s)
{
	struct itimerspec t = { { (time_t)tick_s, 0 }, { (time_t)tick_s, 0 } };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int r = fd < 0 ? -errno : 0;

	p->b = b;
	if (!r && timerfd_settime(fd, 0, &t, NULL) < 0)
		r = -errno;
	if (!r)
		r = blk_watch_add(b, &p->timer, fd, LOOP_IN, poll_tick);
	p->has_timer = !r;
	if (r < 0 && fd >= 0)
		close(fd);
	if (!r)
		proto_poll_update(p);
	return r;
}

void proto_poll_stop(struct proto_poll *p)
{
	if (p->is_watched)
		blk_watch_del(p->b, &p->watch);
	if (p->has_timer) {
		blk_watch_del(p->b, &p->timer);
		close(p->timer.h.fd);
	}
	p->is_watched = p->has_timer = false;
}

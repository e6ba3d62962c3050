/* SPDX-License-Identifier: Apache-2.0 */
/* nbd_socket_mend.c - connections of nbd_socket.c: the first one, and others in the place of those that were lost.
 *
 * Who mends holds SENDING, so no request is being sent; those that were under way have ended as lost with the
 * connection and are sent again by their own coroutines. */
#include "blk/nbd_socket_priv.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "blk/proto/dial.h"
#include "util/checked.h"
#include "util/log.h"

enum { DIAL_MS = 5000, PAUSE_MS = 500, GIVEN_UP_S = 5 };
#define NS_PER_S 1000000000ull

void nbd_socket_part(struct nbd_socket *n)
{
	if (n->is_watched)
		blk_watch_del(n->b, &n->watch);
	n->is_watched = false;
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

/* On a thread of its own: a connection, tried for until UNTIL_NS. */
struct dialing {
	int dialer;
	bool must_pause;                /* another one has just failed */
	uint64_t until_ns;
};

static int64_t dial(void *arg)
{
	const struct dialing *d = arg;
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000l };
	int r = -EAGAIN;

	for (bool must_pause = d->must_pause; r < 0; must_pause = true) {
		if (must_pause)
			nanosleep(&pause, NULL);
		r = blk_dialer_ask(d->dialer, DIAL_MS);
		if (r == -EPIPE || loop_now_ns() >= d->until_ns)
			break;
	}
	return r;
}

/* The process that connects is gone, or shut off by who ends the job: nobody waits for the server then. */
static void dialer_event(struct loop_fd *h, unsigned events)
{
	nbd_socket_lose(container_of(container_of(h, struct blk_watch, h), struct nbd_socket, dialer_watch), -EPIPE);
}

void nbd_socket_forget_dialer(struct nbd_socket *n)
{
	if (n->is_dialer_watched)
		blk_watch_del(n->b, &n->dialer_watch);
	n->is_dialer_watched = false;
}

/* A connection, if there is none, and what is agreed with the server. */
static int co_greet(struct nbd_socket *n, struct dialing *d, struct err *err)
{
	const char *address = n->b->name;
	int r = n->fd >= 0 ? 0 : (int)blk_co_call(n->b, dial, d);

	if (r < 0)
		return err_set(err, r, "cannot connect to '%s': %s", address, strerror(-r));
	n->fd = n->fd >= 0 ? n->fd : r;
	n->head_len = 0;
	n->filling = NULL;
	n->error = 0;
	r = blk_watch_add(n->b, &n->watch, n->fd, LOOP_IN, nbd_socket_event);
	if (r < 0)
		return err_set(err, r, "cannot watch the connection to '%s': %s", address, strerror(-r));
	n->is_watched = true;
	r = nbd_socket_co_handshake(n, address, err);
	loop_timer_cancel(&n->silence);
	return r;
}

int nbd_socket_co_connect(struct nbd_socket *n, struct err *err)
{
	struct dialing d = { .dialer = n->dialer };
	int r = 0;

	if (n->dialer >= 0) {
		r = n->fd = (int)blk_co_call(n->b, dial, &d);
		if (r < 0)
			return err_set(err, r, "cannot connect to '%s': %s", n->b->name, strerror(-r));
		r = blk_watch_add(n->b, &n->dialer_watch, n->dialer, LOOP_IN, dialer_event);
		n->is_dialer_watched = !r;
	}
	if (!r)
		r = co_greet(n, &d, err);
	n->is_open = n->b->is_open = !r;
	return r;
}

/* --- anew ----------------------------------------------------------------------------------------- */

/* The same disk once more: what was found out about it when it was opened stays. */
static int co_greet_again(struct nbd_socket *n, struct dialing *d, struct err *err)
{
	struct blk *b = n->b;
	uint64_t size = b->size, io_max = b->io_max;
	unsigned io_align = b->io_align, block_size = b->block_size;
	bool can_discard = b->can_discard;
	uint16_t flags = n->flags;

	n->is_open = false;
	int r = co_greet(n, d, err);

	if (!r && (b->size != size || b->io_align > io_align || b->io_max < io_max || (flags & ~n->flags)))
		r = err_set(err, -ESTALE, "the server of '%s' shows another disk now", b->name);
	b->size = size;
	b->io_max = io_max;
	b->io_align = io_align;
	b->block_size = block_size;
	b->can_discard = can_discard;
	n->flags = flags;
	n->is_open = !r;
	if (r < 0) {
		nbd_socket_part(n);
		n->error = r;
	}
	return r;
}

/* Requests that came meanwhile wait for SENDING; they find the error. */
static int co_mend_locked(struct nbd_socket *n)
{
	struct dialing d = { .dialer = n->dialer, .until_ns = loop_now_ns() + NBD_SOCKET_MEND_S * NS_PER_S };
	struct err err = ERR_INIT;
	int r;

	log_warn("disk '%s': the connection is lost (%s); trying for %d s to make it anew", n->b->name, strerror(-n->error),
		 NBD_SOCKET_MEND_S);
	nbd_socket_part(n);
	while ((r = co_greet_again(n, &d, &err)) < 0 && r != -EPIPE && r != -ESTALE && loop_now_ns() < d.until_ns)
		d.must_pause = true;
	if (r < 0) {
		log_error("disk '%s': cannot connect anew: %s", n->b->name, err.msg);
		n->given_up_ns = loop_now_ns() + GIVEN_UP_S * NS_PER_S;
		n->error = r;
		return -EIO;
	}
	log_warn("disk '%s' is connected again%s", n->b->name, n->has_unflushed ?
		 "; if the server's machine has crashed, what it had not flushed is lost" : "");
	return 0;
}

int nbd_socket_co_mend(struct nbd_socket *n)
{
	int r = 0;

	if (!n->is_kept)
		return n->error;
	co_mutex_lock(&n->sending);
	if (n->error)
		r = n->given_up_ns > loop_now_ns() ? -EIO : co_mend_locked(n);
	co_mutex_unlock(&n->sending);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* ctx.c - what the nodes of one disk share: back end, event, deferred completions. */
#include "blk/core_priv.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "util/checked.h"
#include "util/log.h"

/* In order of preference. */
static const struct aio_ops *const blk_aios[] = { &aio_uring, &aio_threads };

const struct aio_ops *blk_aio_find(const char *name, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(blk_aios); i++)
		if (!strcmp(name, blk_aios[i]->name))
			return blk_aios[i];
	err_set(err, -EINVAL, "unknown kind of asynchronous I/O '%s'; use io_uring or threads", name);
	return NULL;
}

/* Rounds of requests that are over at once, and of jobs that are, before others have their turn. */
enum { CTX_ROUNDS = 32, CTX_NOW_MAX = 64 };

/* --- watches -------------------------------------------------------------------------------- */

static int ctx_watch(struct blk_ctx *c, struct blk_watch *w, int fd, unsigned events,
		     void (*fn)(struct loop_fd *h, unsigned events))
{
	w->h = (struct loop_fd){ .fd = fd, .fn = fn, .events = events };
	int r = c->loop ? loop_fd_add(c->loop, &w->h, fd, events, fn) : 0;

	if (!r) {
		w->next = c->watches;
		c->watches = w;
	}
	return r;
}

int blk_watch_add(struct blk *b, struct blk_watch *w, int fd, unsigned events,
		  void (*fn)(struct loop_fd *h, unsigned events))
{
	return ctx_watch(b->ctx, w, fd, events, fn);
}

int blk_watch_mod(struct blk *b, struct blk_watch *w, unsigned events)
{
	if (b->ctx->loop)
		return loop_fd_mod(&w->h, events);
	w->h.events = events;
	return 0;
}

static void ctx_unwatch(struct blk_ctx *c, struct blk_watch *w)
{
	for (struct blk_watch **at = &c->watches; *at; at = &(*at)->next) {
		if (*at == w) {
			*at = w->next;
			break;
		}
	}
	if (c->loop)
		loop_fd_del(&w->h);
}

void blk_watch_del(struct blk *b, struct blk_watch *w)
{
	ctx_unwatch(b->ctx, w);
}

/* --- events --------------------------------------------------------------------------------- */

/* Those that are deferred now: what DONE defers waits for the next event. */
static void ctx_run_deferred(struct blk_ctx *c)
{
	struct blk_req *r = c->deferred;

	c->deferred = NULL;
	c->deferred_tail = &c->deferred;
	while (r) {
		struct blk_req *next = r->later;

		blk_finish(r->at, r, r->result);
		r = next;
	}
}

static void ctx_signal(struct blk_ctx *c)
{
	uint64_t one = 1;

	if (write(c->event.h.fd, &one, sizeof(one)) < 0)
		log_error("disk: cannot write its event: %s", strerror(errno));
}

static void ctx_finish(struct blk_ctx *c)
{
	for (unsigned round = 0; round < CTX_ROUNDS && c->deferred; round++) {
		c->n_now = 0;
		ctx_run_deferred(c);
	}
	c->depth--;
	if (c->deferred && !c->depth)
		ctx_signal(c);
	blk_ctx_put(c);
}

static void ctx_event(struct loop_fd *h, unsigned events)
{
	struct blk_ctx *c = container_of(container_of(h, struct blk_watch, h), struct blk_ctx, event);
	uint64_t count;

	if (read(h->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		log_error("disk: cannot read its event: %s", strerror(errno));
	c->n_nodes++;                   /* a completion may close the disk */
	c->n_now = 0;
	c->depth++;
	c->aio_ops->reap(c->aio);
	if (c->threads)
		aio_threads.reap(c->threads);
	ctx_finish(c);
}

void blk_batch_begin(struct blk *b)
{
	b->ctx->depth++;
	b->ctx->n_nodes++;              /* a completion may close the disk */
	b->ctx->n_now = 0;
}

void blk_batch_end(struct blk *b)
{
	ctx_finish(b->ctx);
}

void blk_finish_later(struct blk *at, struct blk_req *r, int result)
{
	struct blk_ctx *c = at->ctx;

	r->at = at;
	r->result = result;
	r->later = NULL;
	if (!c->deferred && !c->depth)  /* else ctx_event() looks */
		ctx_signal(c);
	*c->deferred_tail = r;
	c->deferred_tail = &r->later;
}

/* For those without a loop, and those who stand in the way of it. */
void blk_ctx_poll(struct blk_ctx *c, int timeout_ms)
{
	enum { MAX = 32 };
	struct pollfd p[MAX];
	struct blk_watch *w[MAX];
	nfds_t n = 0;

	/* In a completion: the back end may be collecting what to submit, and waits for us. */
	if (c->depth)
		c->aio_ops->reap(c->aio);
	if (c->depth && c->threads)
		aio_threads.reap(c->threads);
	if (c->depth && c->deferred)
		ctx_signal(c);
	for (struct blk_watch *at = c->watches; at && n < MAX; at = at->next) {
		short events = (short)((at->h.events & LOOP_IN ? POLLIN : 0) | (at->h.events & LOOP_OUT ? POLLOUT : 0));

		w[n] = at;
		p[n++] = (struct pollfd){ .fd = at->h.fd, .events = events };
	}
	if (poll(p, n, timeout_ms) <= 0)
		return;
	for (nfds_t i = 0; i < n; i++) {
		unsigned events = (p[i].revents & POLLIN ? LOOP_IN : 0u) | (p[i].revents & POLLOUT ? LOOP_OUT : 0u) |
				  (p[i].revents & (POLLHUP | POLLERR) ? LOOP_HUP : 0u);

		/* One per round: a handler may take others away. */
		if (events) {
			w[i]->h.fn(&w[i]->h, events);
			return;
		}
	}
}

void blk_ctx_wait(struct blk_ctx *c)
{
	blk_ctx_poll(c, -1);
}

void blk_submit_job(struct blk *b, struct aio_job *j)
{
	struct blk_ctx *c = b->ctx;
	bool needs_threads = j->op == AIO_BLKDISCARD || j->op == AIO_CALL;

	if (!needs_threads || c->aio_ops->has_threads) {
		c->aio_ops->submit(c->aio, j);
	} else if (c->threads || !aio_threads.open(&c->threads, c->event.h.fd, NULL)) {
		aio_threads.submit(c->threads, j);
	} else {
		/* No thread to be had: punching a hole asks the device for much the same. */
		assert(j->op == AIO_BLKDISCARD);
		j->op = AIO_FALLOCATE;
		c->aio_ops->submit(c->aio, j);
	}
}

int64_t blk_job_now(struct blk *b, const struct aio_job *j)
{
	struct blk_ctx *c = b->ctx;

	if (!c->aio_ops->now || c->n_now >= CTX_NOW_MAX)
		return -EAGAIN;
	c->n_now++;
	return c->aio_ops->now(c->aio, j);
}

/* --- life ----------------------------------------------------------------------------------- */

static int ctx_open_aio(struct blk_ctx *c, const struct aio_ops *aio, struct err *err)
{
	if (aio) {
		c->aio_ops = aio;
		return aio->open(&c->aio, c->event.h.fd, err);
	}
	for (unsigned i = 0; i < ARRAY_LEN(blk_aios); i++) {
		struct err why = ERR_INIT;

		/* Whether the host has it shows only in trying. */
		c->aio_ops = blk_aios[i];
		int r = c->aio_ops->open(&c->aio, c->event.h.fd, &why);

		if (!r)
			return 0;
		c->aio = NULL;
		if (i == ARRAY_LEN(blk_aios) - 1)
			return err_set(err, r, "%s", why.msg);
		log_debug("%s", why.msg);
	}
	return -ENOSYS;
}

int blk_ctx_new(struct blk_ctx **out, struct loop *loop, const struct aio_ops *aio, struct err *err)
{
	struct blk_ctx *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->loop = loop;
	c->n_nodes = 1;
	c->deferred_tail = &c->deferred;
	c->event.h.fd = -1;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int r = fd < 0 ? err_set(err, -errno, "cannot create an event: %s", strerror(errno)) : 0;

	if (!r) {
		r = ctx_watch(c, &c->event, fd, LOOP_IN, ctx_event);
		if (r < 0)
			err_set(err, r, "cannot watch an event: %s", strerror(-r));
	}
	if (!r)
		r = ctx_open_aio(c, aio, err);
	if (r < 0) {
		c->event.h.fd = fd;
		blk_ctx_put(c);
		return r;
	}
	*out = c;
	return 0;
}

void blk_rest(struct blk *b)
{
	struct blk_ctx *c = b ? b->ctx : NULL;

	if (c && c->threads)
		aio_threads_rest(c->threads);
	if (c && c->aio_ops == &aio_threads)
		aio_threads_rest(c->aio);
}

void blk_ctx_put(struct blk_ctx *c)
{
	if (!c || --c->n_nodes)
		return;
	if (c->aio)
		c->aio_ops->close(c->aio);
	aio_threads.close(c->threads);
	ctx_unwatch(c, &c->event);
	if (c->event.h.fd >= 0)
		close(c->event.h.fd);
	free(c);
}

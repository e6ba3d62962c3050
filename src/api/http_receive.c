/* SPDX-License-Identifier: Apache-2.0 */
/* http_receive.c - long bodies on their way to a sink, which may wait for a disk: a thread per body writes, so that neither the loop
 * nor the other connections wait with it. What waits for the sink is bounded: the connection is not read while there is more. */
#include "api/http_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "util/loop.h"

enum { QUEUE_LOW = HTTP_RECEIVE_MAX / 2, RETRY_US = 1000 };

struct part {
	struct part *next;
	size_t len;
	char data[];
};

struct http_receiver {
	struct http_post resume;        /* first: to the service thread, when there is room again */
	struct http_request *rq;
	const struct http_sink *sink;
	void *arg;
	pthread_t thread;
	bool is_begun;                  /* service thread: parts are taken */
	bool is_paused;                 /* service thread: the connection is not read */
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* guarded by the lock: */
	struct part *first, **last;
	size_t queued;                  /* bytes in them */
	bool is_over;                   /* nothing comes any more, */
	int why;                        /* because: 0: it is whole */
	bool is_deaf;                   /* the sink takes no more: what comes is thrown away */
	/* the thread, then the loop: */
	int result;
	uint64_t received;
};

/* --- the sink's thread ---------------------------------------------------------------------- */

/* Loop thread. */
static void tell(void *arg)
{
	struct http_receiver *r = arg;

	pthread_join(r->thread, NULL);
	r->sink->done(r->arg, r->rq, r->result < 0 ? r->result : (int64_t)r->received);
}

/* The next part; NULL: there is none any more. */
static struct part *take(struct http_receiver *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->first && !r->is_over)
		pthread_cond_wait(&r->more, &r->lock);
	struct part *p = r->first;
	bool was_full = r->queued > QUEUE_LOW;
	if (p) {
		r->first = p->next;
		if (!r->first)
			r->last = &r->first;
		r->queued -= p->len;
	}
	bool has_room = was_full && r->queued <= QUEUE_LOW;
	pthread_mutex_unlock(&r->lock);
	if (has_room)
		http_post(r->rq->s, &r->resume);
	return p;
}

/* Nothing more is kept: the sink has failed, or been told to stop. */
static void go_deaf(struct http_receiver *r)
{
	pthread_mutex_lock(&r->lock);
	r->is_deaf = true;
	while (r->first) {
		struct part *p = r->first;

		r->first = p->next;
		free(p);
	}
	r->last = &r->first;
	r->queued = 0;
	pthread_mutex_unlock(&r->lock);
}

static void *receive_thread(void *arg)
{
	struct http_receiver *r = arg;
	struct part *p;

	while (!r->result && (p = take(r)) != NULL) {
		r->result = r->sink->write(r->arg, p->data, p->len);
		r->received += r->result ? 0 : p->len;
		free(p);
	}
	go_deaf(r);
	if (!r->result)
		r->result = r->why;
	int bad = r->sink->end(r->arg);

	r->result = r->result < 0 ? r->result : bad;
	/* Without memory for the call there is nobody to tell; try until there is. */
	while (loop_call(r->rq->s->loop, tell, r) < 0)
		usleep(RETRY_US);
	return NULL;
}

/* --- service thread -------------------------------------------------------------------------- */

static void resume(struct http_post *p)
{
	struct http_receiver *r = (struct http_receiver *)p;

	if (!r->is_paused || !r->rq->wsi)
		return;
	r->is_paused = false;
	lws_set_timeout(r->rq->wsi, PENDING_TIMEOUT_HTTP_CONTENT, HTTP_IDLE_SECONDS);
	lws_rx_flow_control(r->rq->wsi, 1);
}

/* No time runs against a client that waits for us. */
static void pause_reading(struct http_receiver *r)
{
	r->is_paused = true;
	lws_rx_flow_control(r->rq->wsi, 0);
	lws_set_timeout(r->rq->wsi, NO_PENDING_TIMEOUT, 0);
}

bool http_receiver_push(struct http_receiver *r, const void *data, size_t len)
{
	struct part *p = len ? malloc(sizeof(*p) + len) : NULL;

	if (!p)
		return !len;
	p->next = NULL;
	p->len = len;
	memcpy(p->data, data, len);
	pthread_mutex_lock(&r->lock);
	bool is_deaf = r->is_deaf;
	if (!is_deaf) {
		*r->last = p;
		r->last = &p->next;
		r->queued += len;
		pthread_cond_signal(&r->more);
	}
	bool is_full = r->queued > HTTP_RECEIVE_MAX;
	pthread_mutex_unlock(&r->lock);
	if (is_deaf)
		free(p);
	if (is_full && !r->is_paused && r->rq->wsi)
		pause_reading(r);
	return true;
}

/* Any thread. */
static void end(struct http_receiver *r, int why)
{
	pthread_mutex_lock(&r->lock);
	if (!r->is_over) {
		r->is_over = true;
		r->why = why;
	}
	pthread_cond_signal(&r->more);
	pthread_mutex_unlock(&r->lock);
}

void http_receiver_end(struct http_receiver *r, int why)
{
	if (r->rq->wsi)
		lws_set_timeout(r->rq->wsi, NO_PENDING_TIMEOUT, 0);
	end(r, why);
}

bool http_receiver_begin(struct http_receiver *r)
{
	struct http_request *rq = r->rq;

	if (r->is_begun)
		return false;
	r->is_begun = true;
	bool ok = http_receiver_push(r, rq->body, rq->body_len);

	rq->body_len = 0;
	if (!rq->wsi || !ok)
		http_receiver_end(r, rq->wsi ? -ENOMEM : -ECONNRESET);
	else if (!rq->is_long)
		http_receiver_end(r, 0);
	else if (!r->is_paused)
		lws_rx_flow_control(rq->wsi, 1);
	return true;
}

void http_receiver_free(struct http_receiver *r)
{
	if (!r)
		return;
	pthread_cond_destroy(&r->more);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

/* --- loop thread -------------------------------------------------------------------------------- */

int http_receive(struct http_request *rq, const struct http_sink *sink, void *arg)
{
	struct http_receiver *r = calloc(1, sizeof(*r));
	sigset_t all, before;

	if (!r)
		return -EAGAIN;
	r->resume.run = resume;
	r->rq = rq;
	r->sink = sink;
	r->arg = arg;
	r->last = &r->first;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->more, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int bad = pthread_create(&r->thread, NULL, receive_thread, r);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (bad) {
		http_receiver_free(r);
		return -EAGAIN;
	}
	rq->receiver = r;
	http_post(rq->s, &rq->post);
	return 0;
}

void http_receive_stop(struct http_request *rq)
{
	end(rq->receiver, -ECANCELED);
}

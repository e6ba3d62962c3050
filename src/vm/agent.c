/* SPDX-License-Identifier: Apache-2.0 */
/* One call at a time goes through
 *
 *	idle -> syncing: 0xff, guest-sync-delimited and a number have been sent; all is dropped until 0xff and that number
 *	     -> waiting: the command has been sent; the next line is its answer
 *	     -> idle
 *
 * What comes is kept by agent_receive() and looked at by a timer that is due at once, because the port may not be
 * written from inside its callback. */
#include "vm/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/loop.h"

enum { SENTINEL = 0xff, SAID_MAX = 300 };

enum agent_state { AGENT_IDLE, AGENT_SYNCING, AGENT_WAITING };

struct waiting_call {
	struct agent_call c;
	uint64_t due_ns;
	struct waiting_call *next;
};

struct agent {
	struct loop *loop;
	agent_send_fn send;
	void *arg;
	enum agent_state state;
	bool is_open;
	struct waiting_call *first;     /* being worked on unless idle; owned, with those behind it */
	unsigned n_calls;
	json_int_t sync;                /* the last number */
	struct loop_timer work;         /* something has come, or is to be sent */
	struct loop_timer deadline;
	char *tx;                       /* to be sent; owned */
	size_t tx_len, tx_done;
	char *rx;                       /* AGENT_LINE_MAX + 1 bytes: a line so far */
	size_t rx_len;
	bool is_skipping;               /* until the sentinel */
	bool is_too_long;               /* the line is; its end is waited for */
};

static void agent_wake(struct agent *a)
{
	loop_timer_set(&a->work, loop_now_ns());
}

/* --- the end of a call --- */

static void waiting_free(struct waiting_call *w)
{
	json_decref(w->c.arguments);
	free(w);
}

static void agent_finish(struct agent *a, json_t *result, const struct err *err)
{
	struct waiting_call *w = a->first;

	a->first = w->next;
	a->n_calls--;
	a->state = AGENT_IDLE;
	a->is_skipping = true;
	loop_timer_cancel(&a->deadline);
	free(a->tx);
	a->tx = NULL;
	agent_wake(a);
	w->c.done(w->c.arg, result, err);
	waiting_free(w);
}

static void agent_fail(struct agent *a, int code, const char *what)
{
	struct err err = ERR_INIT;

	err_set(&err, code, "%s", what);
	agent_finish(a, NULL, &err);
}

void agent_cancel(struct agent *a)
{
	while (a && a->first)
		agent_fail(a, -ECANCELED, "the machine has ended");
}

/* --- sending --- */

static void agent_flush(struct agent *a)
{
	if (!a->tx)
		return;
	a->tx_done += a->send(a->arg, (const uint8_t *)a->tx + a->tx_done, a->tx_len - a->tx_done);
	if (a->tx_done < a->tx_len)
		return;
	free(a->tx);
	a->tx = NULL;
}

/* A command as a line, after the sentinel if IS_SYNC: that ends a line which the agent may have got half of. */
static bool agent_put(struct agent *a, bool is_sync, const char *command, json_t *arguments)
{
	AUTO(json_decref) json_t *doc = json_pack("{s:s, s:O*}", "execute", command, "arguments", arguments);
	AUTO(free) char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

	if (!text)
		return false;
	size_t len = strlen(text);
	char *line = malloc(len + 2);
	if (!line)
		return false;
	line[0] = (char)SENTINEL;
	memcpy(line + is_sync, text, len);
	line[len + is_sync] = '\n';
	free(a->tx);
	a->tx = line;
	a->tx_len = len + is_sync + 1;
	a->tx_done = 0;
	agent_flush(a);
	return true;
}

/* The first that is due comes to the front. False: none is, yet. */
static bool agent_pick(struct agent *a)
{
	uint64_t now = loop_now_ns(), next = UINT64_MAX;

	for (struct waiting_call **at = &a->first, *w; (w = *at); at = &w->next) {
		if (w->due_ns <= now) {
			*at = w->next;
			w->next = a->first;
			a->first = w;
			return true;
		}
		next = w->due_ns < next ? w->due_ns : next;
	}
	if (a->first)
		loop_timer_set(&a->work, next);
	return false;
}

static void agent_begin(struct agent *a)
{
	AUTO(json_decref) json_t *id = json_pack("{s:I}", "id", ++a->sync);

	a->state = AGENT_SYNCING;
	a->is_skipping = true;
	a->is_too_long = false;
	a->rx_len = 0;
	loop_timer_set(&a->deadline, loop_now_ns() + AGENT_TIMEOUT_MS * 1000000ull);
	if (!id || !agent_put(a, true, "guest-sync-delimited", id))
		agent_fail(a, -ENOMEM, "out of memory");
}

static void agent_ask(struct agent *a)
{
	const struct agent_call *c = &a->first->c;
	unsigned ms = c->timeout_ms ? c->timeout_ms : AGENT_TIMEOUT_MS;

	a->state = AGENT_WAITING;
	loop_timer_set(&a->deadline, loop_now_ns() + ms * 1000000ull);
	if (!agent_put(a, false, c->command, c->arguments))
		agent_fail(a, -ENOMEM, "out of memory");
}

/* --- answers --- */

/* What the agent says for people; its bytes are a stranger's. */
static int agent_refused(const json_t *error, struct err *err)
{
	const char *desc = json_string_value(json_object_get(error, "desc"));
	char text[SAID_MAX + 1];
	size_t n = 0;

	for (const char *p = desc; p && *p && n < SAID_MAX; p++)
		text[n++] = (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x7f ? *p : '?';
	text[n] = '\0';
	return err_set(err, -EREMOTEIO, "the guest agent says: %s", n ? text : "(nothing)");
}

static void agent_line(struct agent *a, const char *line, size_t len)
{
	AUTO(json_decref) json_t *doc = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	json_t *result = json_object_get(doc, "return"), *error = json_object_get(doc, "error");
	struct err err = ERR_INIT;

	if (a->state == AGENT_SYNCING) {
		if (json_is_integer(result) && json_integer_value(result) == a->sync)
			agent_ask(a);
		else
			a->is_skipping = true;  /* the answer to an older one */
		return;
	}
	if (a->state != AGENT_WAITING)
		return;
	if (error)
		(void)agent_refused(error, &err);
	else if (!result)
		err_set(&err, -EPROTO, "the guest agent's answer is not understood");
	agent_finish(a, result, err.code ? &err : NULL);
}

/* The first line of what has come. False: there is no whole one. */
static bool agent_next(struct agent *a)
{
	char *end;

	if (a->is_skipping) {
		char *from = memchr(a->rx, SENTINEL, a->rx_len);
		size_t skip = from ? (size_t)(from - a->rx) + 1 : a->rx_len;

		memmove(a->rx, a->rx + skip, a->rx_len - skip);
		a->rx_len -= skip;
		a->is_too_long = false;
		if (!from)
			return false;
		a->is_skipping = false;
	}
	end = memchr(a->rx, '\n', a->rx_len);
	if (!end)
		return false;
	size_t len = (size_t)(end - a->rx);
	AUTO(free) char *line = malloc(len + 1);
	if (line)
		memcpy(line, a->rx, len);
	memmove(a->rx, end + 1, a->rx_len - len - 1);
	a->rx_len -= len + 1;
	if (!line && a->first)
		agent_fail(a, -ENOMEM, "out of memory");
	else
		agent_line(a, line, len);
	return true;
}

void agent_receive(struct agent *a, const uint8_t *buf, size_t len)
{
	if (!a || a->state == AGENT_IDLE)
		return;
	if (a->is_too_long)
		return;
	if (len > AGENT_LINE_MAX - a->rx_len) {
		a->is_too_long = true;
		a->rx_len = 0;
	} else {
		memcpy(a->rx + a->rx_len, buf, len);
		a->rx_len += len;
	}
	agent_wake(a);
}

/* --- timers --- */

static void agent_work(struct loop_timer *t)
{
	struct agent *a = container_of(t, struct agent, work);

	agent_flush(a);
	if (a->first && !a->is_open)
		agent_fail(a, -ENOTCONN, "the guest agent has gone");
	else if (a->first && a->state == AGENT_WAITING && a->is_too_long)
		agent_fail(a, -EMSGSIZE, "the guest agent's answer is longer than a megabyte");
	while (a->state != AGENT_IDLE && agent_next(a))
		;
	if (a->state == AGENT_IDLE && agent_pick(a))
		agent_begin(a);
}

static void agent_late(struct loop_timer *t)
{
	struct agent *a = container_of(t, struct agent, deadline);

	if (a->state == AGENT_WAITING && a->first->c.has_no_answer) {
		agent_finish(a, NULL, NULL);
		return;
	}
	agent_fail(a, -ETIMEDOUT, a->state == AGENT_SYNCING ? "the guest agent does not answer" :
		   "the guest agent has not answered in time; whether it did what it was asked is not known");
}

/* --- from outside --- */

void agent_go_on(struct agent *a)
{
	if (a)
		agent_wake(a);
}

void agent_set_open(struct agent *a, bool is_open)
{
	if (!a)
		return;
	a->is_open = is_open;
	agent_wake(a);
}

int agent_call(struct agent *a, const struct agent_call *c, struct err *err)
{
	AUTO(json_decref) json_t *arguments = c->arguments;
	struct waiting_call *w, **at;

	if (!a)
		return err_set(err, -ENOTSUP, "the machine has no port for a guest agent; start it with --agent on, or 'plug agent'");
	if (!a->is_open)
		return err_set(err, -ENOTCONN, "no guest agent runs in the guest: it still starts, or qemu-guest-agent is to be installed there");
	if (a->n_calls == AGENT_CALLS_MAX)
		return err_set(err, -EBUSY, "too much waits for the guest agent already");
	w = calloc(1, sizeof(*w));
	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->c = *c;
	w->c.arguments = take_ptr(&arguments);
	w->due_ns = loop_now_ns() + c->after_ms * 1000000ull;
	for (at = &a->first; *at;)
		at = &(*at)->next;
	*at = w;
	a->n_calls++;
	agent_wake(a);
	return 0;
}

int agent_new(struct agent **out, struct loop *loop, agent_send_fn send, void *arg, struct err *err)
{
	AUTO(agent_free) struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(err, -ENOMEM, "out of memory");
	a->loop = loop;
	a->send = send;
	a->arg = arg;
	a->sync = (json_int_t)(loop_now_ns() >> 20);    /* not what another process's calls had */
	a->is_skipping = true;
	loop_timer_init(loop, &a->work, agent_work);
	loop_timer_init(loop, &a->deadline, agent_late);
	a->rx = malloc(AGENT_LINE_MAX);
	if (!a->rx)
		return err_set(err, -ENOMEM, "out of memory");
	*out = take_ptr(&a);
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	loop_timer_cancel(&a->work);
	loop_timer_cancel(&a->deadline);
	for (struct waiting_call *w = a->first, *next; w; w = next) {
		next = w->next;
		waiting_free(w);
	}
	free(a->tx);
	free(a->rx);
	free(a);
}

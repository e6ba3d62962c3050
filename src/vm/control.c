/* SPDX-License-Identifier: Apache-2.0 */
/* Connections: who may come, what waits for whom, which request goes to which handler. */
#include "vm/control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include "util/checked.h"
#include "util/frames.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/unixsock.h"
#include "vm/control_priv.h"
#include "vm/machine_priv.h"

enum {
	CLIENTS_MAX = 16,
	BACKLOG = 16,
	OUT_SOFT = 64 << 10,            /* beyond this, a client's next requests wait until it has read */
};

struct control_client {
	struct control *control;
	struct loop_fd h;
	struct frames frames;
	pid_t pid;                      /* 0: not known */
	bool wants_events;
	bool is_dead;                   /* closed; the memory goes when nothing can look at it any more */
};

struct control {
	struct control_config cfg;
	struct machine *machine;        /* NULL: not there yet */
	uid_t owner;
	struct loop_fd listener;
	int listen_fd;
	char *path;
	bool is_handed;                 /* the listener is another process's until the machine starts */
	struct control_client *client[CLIENTS_MAX];     /* NULL: free */
	struct control_calls calls;
	bool reap_queued;
};

static void control_client_ready(struct loop_fd *h, unsigned events);
static int control_watch(struct control *c);

struct machine *control_machine(const struct control *c)
{
	return c->machine;
}

struct control_calls *control_get_calls(struct control *c)
{
	return &c->calls;
}

const struct config *control_get_config(const struct control *c)
{
	return c->cfg.cfg;
}

void control_set_events(struct control_client *client, bool on)
{
	client->wants_events = on;
}

/* --- the end of a client --- */

static void control_client_free(struct control_client *cl)
{
	frames_fini(&cl->frames);
	free(cl);
}

static void control_reap(void *arg)
{
	struct control *c = arg;

	c->reap_queued = false;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		if (!c->client[i] || !c->client[i]->is_dead)
			continue;
		control_client_free(c->client[i]);
		c->client[i] = NULL;
	}
}

static void control_drop(struct control_client *cl)
{
	struct control *c = cl->control;
	int fd = cl->frames.fd;

	if (cl->is_dead)
		return;
	cl->is_dead = true;
	loop_fd_del(&cl->h);
	close(fd);
	control_calls_forget(c, cl);
	if (!c->reap_queued)
		c->reap_queued = !loop_call(c->cfg.loop, control_reap, c);
}

static void control_drop_why(struct control_client *cl, const char *why)
{
	log_warn("control socket: the client with process number %d is dropped: %s", (int)cl->pid, why);
	control_drop(cl);
}

/* --- to a client --- */

static void control_flush(struct control_client *cl)
{
	int r = frames_flush(&cl->frames);

	if (r < 0)
		control_drop(cl);
	else
		(void)loop_fd_mod(&cl->h, r ? LOOP_IN : cl->frames.out_len > OUT_SOFT ? LOOP_OUT : LOOP_IN | LOOP_OUT);
}

/* DOC is taken; NULL: out of memory. */
static void control_send(struct control_client *cl, json_t *doc)
{
	AUTO(free) char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

	json_decref(doc);
	if (cl->is_dead)
		return;
	if (!text) {
		control_drop_why(cl, "out of memory");
		return;
	}
	int r = frames_queue(&cl->frames, text, strlen(text));
	if (r == -ENOBUFS)
		control_drop_why(cl, "it does not read what it is sent");
	else if (r < 0)
		control_drop_why(cl, "out of memory");
	else
		control_flush(cl);
}

static json_t *control_error(const struct err *err)
{
	const char *code = strerrorname_np(-err->code);

	return json_pack("{s:s, s:s}", "code", code ? code : "EIO", "message", err->msg);
}

void control_reply(struct control_client *cl, json_t *id, json_t *result, const struct err *err)
{
	json_t *doc = err ? json_pack("{s:o}", "error", control_error(err))
			  : json_pack("{s:o}", "result", result ? result : json_object());

	if (err)
		json_decref(result);
	if (doc && id)
		json_object_set_new(doc, "id", id);
	else
		json_decref(id);
	control_send(cl, doc);
}

void control_emit(struct control *c, json_t *event)
{
	if (event)
		json_object_set_new(event, "time_ns", json_integer((json_int_t)loop_now_ns()));
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct control_client *cl = c->client[i];

		if (cl && !cl->is_dead && cl->wants_events)
			control_send(cl, json_incref(event));
	}
	json_decref(event);
}

static void control_tell(void *arg, enum machine_event event, const char *detail)
{
	struct control *c = arg;

	if (event == MACHINE_EV_STARTED && c->is_handed) {      /* nobody else accepts any more */
		c->is_handed = false;
		if (control_watch(c) < 0)
			log_error("cannot watch the control socket");
	}
	if (event == MACHINE_EV_STOPPED)
		control_calls_end(c, detail);
	const struct control_event *e = &control_events[event];

	control_emit(arg, json_pack("{s:s, s:s*}", "event", e->name, e->detail ? e->detail : "reason", detail));
}

/* --- requests --- */

/* FDS are taken. */
static void control_handle(struct control_client *cl, const uint8_t *msg, size_t len, int *fds, unsigned n_fds)
{
	AUTO(json_decref) json_t *doc = json_loadb((const char *)msg, len, JSON_REJECT_DUPLICATES, NULL);
	struct control *c = cl->control;
	struct control_call *call = calloc(1, sizeof(*call));
	struct err err = ERR_INIT;
	int r = 0;

	if (!call)
		r = err_set(&err, -ENOMEM, "out of memory");
	if (!r) {
		*call = (struct control_call){ .control = c, .client = cl, .n_fds = n_fds };
		memset(call->fd, -1, sizeof(call->fd));         /* none */
		r = control_check(doc, machine_get_state(c->machine), n_fds, &call->request, &call->params, &err);
	}
	for (unsigned i = 0; i < n_fds; i++) {
		if (!r && i < CONTROL_FDS_MAX)
			call->fd[i] = fds[i];
		else
			close(fds[i]);
	}
	json_t *id = json_object_get(doc, "id");
	if (r < 0) {
		control_reply(cl, json_incref(id), NULL, &err);
		free(call);
		return;
	}
	call->id = json_incref(id);
	control_calls_begin(call);
}

/* All requests that have come, as long as the client reads the answers. */
static void control_pump(struct control_client *cl)
{
	int fds[FRAMES_FDS_MAX], r = 1;
	const uint8_t *msg;
	unsigned n_fds;
	size_t len;

	while (r > 0 && !cl->is_dead && cl->frames.out_len <= OUT_SOFT) {
		r = frames_next(&cl->frames, &msg, &len, fds, &n_fds);
		if (r > 0)
			control_handle(cl, msg, len, fds, n_fds);
	}
	if (r < 0 && !cl->is_dead)
		control_drop_why(cl, "a request is longer than 64 KiB");
}

static void control_client_ready(struct loop_fd *h, unsigned events)
{
	struct control_client *cl = container_of(h, struct control_client, h);

	if (events & LOOP_OUT) {
		control_flush(cl);
		control_pump(cl);       /* what waited for room */
	}
	if (cl->is_dead || !(events & (LOOP_IN | LOOP_HUP)))
		return;
	int r = frames_read(&cl->frames);

	if (r == -EMFILE)
		control_drop_why(cl, "it sent too many descriptors");
	else if (r < 0)
		control_drop(cl);
	else
		control_pump(cl);
}

/* --- clients --- */

static int control_check_peer(const struct control *c, int fd, pid_t *pid, struct err *err)
{
	struct ucred peer = { 0 };
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return err_set(err, -errno, "cannot tell whose the client is: %s", strerror(errno));
	if (peer.uid != c->owner && peer.uid)
		return err_set(err, -EPERM, "user %u may not control a machine of user %u", peer.uid, c->owner);
	*pid = peer.pid;
	return 0;
}

/* A new connection has room for a sentence: nobody is waited for. */
static int control_turn_away(int fd, struct err *err)
{
	struct err why = ERR_INIT;
	int r = err_set(&why, -EAGAIN, "the machine has %d clients already; wait until one of them has gone", CLIENTS_MAX);
	AUTO(json_decref) json_t *doc = json_pack("{s:o}", "error", control_error(&why));
	AUTO(free) char *text = doc ? json_dumps(doc, JSON_COMPACT) : NULL;

	if (text)
		(void)frames_send(fd, text, strlen(text), NULL, 0);
	return err_set(err, r, "%s", why.msg);
}

int control_add_client(struct control *c, int fd, struct err *err)
{
	AUTO_FD int owned = fd;
	unsigned i = 0;
	pid_t pid = 0;
	int r = control_check_peer(c, fd, &pid, err);

	if (r < 0)
		return r;
	while (i < CLIENTS_MAX && c->client[i])
		i++;
	if (i == CLIENTS_MAX)
		return control_turn_away(fd, err);
	AUTO(free) struct control_client *cl = calloc(1, sizeof(*cl));
	if (!cl)
		return err_set(err, -ENOMEM, "out of memory");
	cl->control = c;
	cl->pid = pid;
	r = frames_init(&cl->frames, fd, CONTROL_REQUEST_MAX, CONTROL_REPLY_MAX);
	if (!r)
		r = loop_fd_add(c->cfg.loop, &cl->h, fd, LOOP_IN, control_client_ready);
	if (r < 0) {
		frames_fini(&cl->frames);
		return err_set(err, r, "cannot watch a client: %s", strerror(-r));
	}
	take_fd(&owned);
	c->client[i] = take_ptr(&cl);
	return 0;
}

static void control_accept(struct loop_fd *h, unsigned events)
{
	struct control *c = container_of(h, struct control, listener);
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct err err = ERR_INIT;

	if (fd >= 0 && control_add_client(c, fd, &err) < 0)
		log_warn("control socket: a client is turned away: %s", err.msg);
}

int control_open(struct control **out, const struct control_config *cfg, struct err *err)
{
	AUTO(control_close) struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->cfg = *cfg;
	c->owner = geteuid();
	c->listen_fd = -1;
	c->path = cfg->path ? strdup(cfg->path) : NULL;
	c->cfg.path = NULL;     /* was borrowed for the call */
	if (c->path && cfg->listen_fd >= 0) {
		c->listen_fd = fcntl(cfg->listen_fd, F_DUPFD_CLOEXEC, 0);
		c->is_handed = true;
		if (c->listen_fd < 0)
			return err_set(err, -errno, "control: cannot duplicate a descriptor: %s", strerror(errno));
	} else if (c->path) {
		c->listen_fd = unixsock_listen(c->path, 0600, BACKLOG, err);
		if (c->listen_fd < 0) {
			free(take_ptr(&c->path));       /* not ours to unlink */
			return err_wrap(err, c->listen_fd, "control");
		}
	}
	*out = take_ptr(&c);
	return 0;
}

static int control_watch(struct control *c)
{
	return c->listen_fd < 0 ? 0 : loop_fd_add(c->cfg.loop, &c->listener, c->listen_fd, LOOP_IN, control_accept);
}

int control_serve(struct control *c, struct machine *m, struct err *err)
{
	int r = c->is_handed ? 0 : control_watch(c);

	if (r < 0)
		return err_set(err, r, "cannot watch the control socket: %s", strerror(-r));
	c->machine = m;
	machine_set_observer(m, control_tell, c);
	machine_set_ready_observer(m, control_calls_go_on, c);
	control_watch_jobs(c);
	return 0;
}

int control_listen_fd(const struct control *c)
{
	return c->listen_fd;
}

int control_janitor_fd(const struct control *c)
{
	return c->cfg.janitor_fd;
}

void control_forget_name(struct control *c)
{
	free(c->path);
	c->path = NULL;
}

void control_close(struct control *c)
{
	if (!c)
		return;
	if (c->machine)
		machine_set_observer(c->machine, NULL, NULL);
	if (c->machine)
		machine_set_ready_observer(c->machine, NULL, NULL);
	if (c->machine)
		machine_set_job_observer(c->machine, NULL, NULL);
	/* Calls that are under way are freed after that. */
	if (c->machine)
		machine_end_jobs(c->machine);
	if (c->machine)
		machine_end_agent(c->machine);
	control_calls_drop(c);
	loop_fd_del(&c->listener);
	auto_fd(&c->listen_fd);
	if (c->path && !c->is_handed)
		(void)unlink(c->path);  /* in a jail the janitor does it */
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		struct control_client *cl = c->client[i];

		if (!cl)
			continue;
		if (!cl->is_dead) {
			loop_fd_del(&cl->h);
			close(cl->frames.fd);
		}
		control_client_free(cl);
	}
	free(c->path);
	free(c);
}

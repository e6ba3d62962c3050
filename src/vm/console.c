/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/unixsock.h"
#include "vm/handover.h"

enum {
	OUT_MAX = 1 << 20,
	OUT_CHUNK = 4096,       /* a pipe that polls writable takes as much without blocking */
	OUT_ROUND = 64,         /* chunks written before others on the loop get their turn */
	IN_MAX = 4096,
	CTRL_A = 1,
};

struct console {
	struct console_config cfg;
	struct loop *loop;
	int in_fd, out_fd;              /* -1: none now; both ends may be the same */
	bool owns_fds;
	bool is_terminal;               /* of a person: escape keys work */
	bool in_escape;                 /* Ctrl-a was the last key */
	int listen_fd;                  /* socket: */
	char *socket_path;
	int pty_slave_fd;               /* kept open, or the master reports a hang-up all the time */
	struct loop_fd in, out, listener;
	bool can_watch_in, can_watch_out; /* false: a file, always ready */
	bool is_fresh_file;             /* opened, neither emptied nor written yet */
	bool is_handed;                 /* by another process, which may still use it */
	bool in_eof;

	uint8_t in_buf[IN_MAX];
	size_t in_len;

	pthread_mutex_t lock;           /* guards the fields below */
	uint8_t *out_buf;               /* ring of OUT_MAX bytes */
	size_t out_pos, out_len;
	bool flush_queued, was_full, input_queued;
};

static void console_in_ready(struct loop_fd *h, unsigned events);
static void console_out_ready(struct loop_fd *h, unsigned events);

/* --- output --- */

static void console_flush_call(void *arg)
{
	struct console *c = arg;

	console_out_ready(&c->out, LOOP_OUT);
}

/* The loop cannot be asked: the next write tries again. */
static void console_give_up_flush(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	c->flush_queued = false;
	pthread_mutex_unlock(&c->lock);
}

size_t console_write(struct console *c, const uint8_t *buf, size_t len)
{
	pthread_mutex_lock(&c->lock);
	size_t n = len < OUT_MAX - c->out_len ? len : OUT_MAX - c->out_len;
	size_t at = (c->out_pos + c->out_len) % OUT_MAX, first = n < OUT_MAX - at ? n : OUT_MAX - at;

	memcpy(c->out_buf + at, buf, first);
	memcpy(c->out_buf, buf + first, n - first);
	c->out_len += n;
	c->was_full |= n < len;
	bool must_queue = n && !c->flush_queued;
	c->flush_queued |= must_queue;
	pthread_mutex_unlock(&c->lock);
	if (must_queue && loop_call(c->loop, console_flush_call, c) < 0)
		console_give_up_flush(c);
	return n;
}

/* Copy the oldest bytes out, so that write() runs without the lock. */
static size_t console_peek(struct console *c, uint8_t chunk[OUT_CHUNK])
{
	pthread_mutex_lock(&c->lock);
	size_t n = c->out_len < OUT_CHUNK ? c->out_len : OUT_CHUNK;
	size_t first = n < OUT_MAX - c->out_pos ? n : OUT_MAX - c->out_pos;

	memcpy(chunk, c->out_buf + c->out_pos, first);
	memcpy(chunk + first, c->out_buf, n - first);
	if (!n)
		c->flush_queued = false;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void console_consume(struct console *c, size_t n)
{
	pthread_mutex_lock(&c->lock);
	c->out_pos = (c->out_pos + n) % OUT_MAX;
	c->out_len -= n;
	bool tell = c->was_full;
	c->was_full = false;
	pthread_mutex_unlock(&c->lock);
	if (tell && c->cfg.guest.writable)
		c->cfg.guest.writable(c->cfg.guest.arg);
}

/* Write one chunk. 1: more may be possible; 0: nothing left or nobody listens; -EAGAIN. */
static int console_write_chunk(struct console *c)
{
	uint8_t chunk[OUT_CHUNK];
	size_t n = console_peek(c, chunk);

	if (!n)
		return 0;
	struct pollfd p = { .fd = c->out_fd, .events = POLLOUT };
	if (c->out_fd >= 0 && c->can_watch_out && poll(&p, 1, 0) == 0)
		return -EAGAIN;
	ssize_t r = c->out_fd < 0 ? (ssize_t)n : write(c->out_fd, chunk, n);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (r < 0)
		r = (ssize_t)n; /* nobody is there any more: as with an unplugged cable */
	console_consume(c, (size_t)r);
	return 1;
}

static void console_out_ready(struct loop_fd *h, unsigned events)
{
	struct console *c = container_of(h, struct console, out);
	int r = 1;

	for (int n = 0; r > 0 && n < OUT_ROUND; n++)
		r = console_write_chunk(c);
	if (r > 0 && !h->loop && loop_call(c->loop, console_flush_call, c) < 0)
		console_give_up_flush(c);
	if (r == -EAGAIN && !h->loop && c->can_watch_out)
		(void)loop_fd_add(c->loop, h, c->out_fd, LOOP_OUT, console_out_ready);
	else if (r == 0)
		loop_fd_del(h);
}

/* --- input --- */

static void console_help(struct console *c)
{
	static const char text[] = "\r\nCtrl-a x  end the machine\r\nCtrl-a a  send Ctrl-a\r\nCtrl-a h  this help\r\n";

	console_write(c, (const uint8_t *)text, sizeof(text) - 1);
}

/* Take the escape keys out of what was typed; returns what remains. */
static size_t console_filter(struct console *c, uint8_t *buf, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (!c->in_escape && buf[i] == CTRL_A) {
			c->in_escape = true;
			continue;
		}
		if (!c->in_escape) {
			buf[n++] = buf[i];
			continue;
		}
		c->in_escape = false;
		if (buf[i] == 'x' || buf[i] == 'X')
			c->cfg.quit(c->cfg.quit_arg);
		else if (buf[i] == 'a' || buf[i] == CTRL_A)
			buf[n++] = CTRL_A;
		else if (buf[i] == 'h')
			console_help(c);
	}
	return n;
}

static void console_deliver(struct console *c)
{
	if (!c->in_len)
		return;
	size_t n = c->cfg.guest.input(c->cfg.guest.arg, c->in_buf, c->in_len);

	memmove(c->in_buf, c->in_buf + n, c->in_len - n);
	c->in_len -= n;
}

static void console_tell_connected(struct console *c, bool is_connected)
{
	if (c->cfg.guest.connected)
		c->cfg.guest.connected(c->cfg.guest.arg, is_connected);
}

static void console_hang_up(struct console *c)
{
	loop_fd_del(&c->in);
	if (c->listen_fd < 0) {
		c->in_eof = true; /* the machine goes on without input */
		return;
	}
	loop_fd_del(&c->out);
	auto_fd(&c->in_fd);
	auto_fd(&c->out_fd);
	c->in_fd = c->out_fd = -1;
	console_tell_connected(c, false);
	(void)loop_fd_mod(&c->listener, LOOP_IN);
	/* Output that waited for this client to read: nothing watches for room any more. */
	if (loop_call(c->loop, console_flush_call, c) < 0)
		console_give_up_flush(c);
}

/* Read what is there. 1: some; 0: nothing more now. */
static int console_read(struct console *c)
{
	size_t room = IN_MAX - c->in_len;
	uint8_t buf[IN_MAX];

	/* A terminal's keys are read even when the guest takes nothing, for the escape keys;
	 * what has no room is lost as on a real line. */
	if (c->in_fd < 0 || c->in_eof || (!room && !c->is_terminal))
		return 0;
	ssize_t n = read(c->in_fd, buf, c->is_terminal ? sizeof(buf) : room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		console_hang_up(c);
		return 0;
	}
	size_t len = c->is_terminal ? console_filter(c, buf, (size_t)n) : (size_t)n;
	if (len > room)
		len = room;
	memcpy(c->in_buf + c->in_len, buf, len);
	c->in_len += len;
	console_deliver(c);
	return 1;
}

/* Input that cannot be watched is read as long as the guest takes it. */
static void console_pump_input(struct console *c)
{
	console_deliver(c);
	if (!c->can_watch_in) {
		while (!c->in_len && console_read(c))
			;
	} else if (c->in.loop && c->in_len < IN_MAX) {
		(void)loop_fd_mod(&c->in, LOOP_IN);
	}
}

static void console_in_ready(struct loop_fd *h, unsigned events)
{
	struct console *c = container_of(h, struct console, in);

	if (!console_read(c) && events & LOOP_HUP && !(events & LOOP_IN) && h->loop)
		console_hang_up(c);
	else if (h->loop && c->in_len == IN_MAX && !c->is_terminal)
		(void)loop_fd_mod(h, 0);
}

static void console_begin_handed(struct console *c);

void console_start(struct console *c, bool keeps_file)
{
	if (c->is_handed)
		console_begin_handed(c);
	/* A pipe or a device that was named as a file has no length: fine. */
	if (c->is_fresh_file && keeps_file)
		(void)lseek(c->out_fd, 0, SEEK_END);
	else if (c->is_fresh_file && ftruncate(c->out_fd, 0) < 0)
		log_debug("console: cannot empty the file: %s", strerror(errno));
	c->is_fresh_file = false;
	console_kick_input(c);
}

static void console_input_call(void *arg)
{
	struct console *c = arg;

	pthread_mutex_lock(&c->lock);
	c->input_queued = false;
	pthread_mutex_unlock(&c->lock);
	console_pump_input(c);
}

void console_kick_input(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	bool must_queue = !c->input_queued;
	c->input_queued = true;
	pthread_mutex_unlock(&c->lock);
	if (must_queue && loop_call(c->loop, console_input_call, c) < 0) {
		pthread_mutex_lock(&c->lock);
		c->input_queued = false;
		pthread_mutex_unlock(&c->lock);
	}
}

/* --- the kinds of host ends --- */

/* Watch the descriptors; a file says -EPERM and is taken as always ready. Both ends have their
 * own number, because epoll takes each one once. */
static int console_watch(struct console *c, struct err *err)
{
	struct loop_fd probe;
	int r = c->in_fd >= 0 ? loop_fd_add(c->loop, &c->in, c->in_fd, LOOP_IN, console_in_ready) : -EPERM;

	c->can_watch_in = r == 0;
	if (r < 0 && r != -EPERM)
		return err_set(err, r, "cannot watch the console's input: %s", strerror(-r));
	r = c->out_fd >= 0 ? loop_fd_add(c->loop, &probe, c->out_fd, 0, console_out_ready) : -EPERM;
	c->can_watch_out = r == 0;
	if (r == 0)
		loop_fd_del(&probe);
	return 0;
}

/* FD, non-blocking, is both ends. */
static int console_take_duplex(struct console *c, int fd, struct err *err)
{
	c->in_fd = fd;
	c->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (c->out_fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	return console_watch(c, err);
}

int console_own_output(int fd)
{
	char path[32];
	int own = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (isatty(fd))
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static int console_open_stdio(struct console *c, struct err *err)
{
	c->owns_fds = true;
	c->in_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0);
	c->out_fd = console_own_output(STDOUT_FILENO);
	if (c->in_fd < 0 || c->out_fd < 0)
		return err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	c->is_terminal = isatty(STDIN_FILENO);
	return console_watch(c, err);
}

static int console_open_file(struct console *c, const char *path, struct err *err)
{
	c->out_fd = c->cfg.fd < 0 ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666) : fcntl(c->cfg.fd, F_DUPFD_CLOEXEC, 0);
	c->owns_fds = true;
	c->is_fresh_file = true;
	if (c->out_fd < 0)
		return err_set(err, -errno, "cannot open console file '%s': %s", path, strerror(errno));
	return console_watch(c, err);
}

static int console_open_pty(struct console *c, struct err *err)
{
	char name[64];
	int master, slave;

	if (openpty(&master, &slave, NULL, NULL, NULL) < 0)
		return err_set(err, -errno, "cannot make a pseudo-terminal: %s", strerror(errno));
	c->pty_slave_fd = slave;
	c->owns_fds = true;
	(void)fcntl(master, F_SETFD, FD_CLOEXEC);
	(void)fcntl(slave, F_SETFD, FD_CLOEXEC);
	(void)fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK);
	if (!ptsname_r(master, name, sizeof(name)))
		fprintf(stderr, "viv-vmm: the console is at %s\n", name);
	return console_take_duplex(c, master, err);
}

static void console_accept(struct loop_fd *h, unsigned events)
{
	struct console *c = container_of(h, struct console, listener);
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	(void)loop_fd_mod(h, 0); /* one at a time: others wait in the queue */
	if (console_take_duplex(c, fd, NULL) < 0)
		console_hang_up(c);
	else
		console_tell_connected(c, true);
}

static int console_open_socket(struct console *c, const char *path, struct err *err)
{
	c->listen_fd = c->cfg.fd < 0 ? unixsock_listen(path, 0, 1, err) : fcntl(c->cfg.fd, F_DUPFD_CLOEXEC, 0);
	if (c->listen_fd < 0)
		return c->cfg.fd < 0 ? c->listen_fd : err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	c->socket_path = strdup(path);
	c->owns_fds = true;
	int r = loop_fd_add(c->loop, &c->listener, c->listen_fd, LOOP_IN, console_accept);
	if (!r)
		console_tell_connected(c, false);
	return r < 0 ? err_set(err, r, "cannot watch '%s': %s", path, strerror(-r)) : 0;
}

/* --- from one process to another --- */

int console_hand_over(const struct console *c, int fds[4], struct err *err)
{
	const int all[HANDED_PARTS] = {
		[HANDED_IN] = c->in_fd, [HANDED_OUT] = c->out_fd, [HANDED_LISTENER] = c->listen_fd, [HANDED_PTY] = c->pty_slave_fd,
	};

	if (c->is_terminal)
		return err_set(err, -ENOTSUP, "a console is the terminal that viv-vmm was started on, which cannot be handed over");
	memcpy(fds, all, sizeof(all));
	return 0;
}

void console_forget_name(struct console *c)
{
	free(c->socket_path);
	c->socket_path = NULL;
}

static int console_take_handed(struct console *c, const char *t, const int *handed, struct err *err)
{
	int *const at[HANDED_PARTS] = { &c->in_fd, &c->out_fd, &c->listen_fd, &c->pty_slave_fd };

	c->owns_fds = c->is_handed = true;
	for (unsigned i = 0; i < HANDED_PARTS; i++) {
		*at[i] = handed[i] < 0 ? -1 : fcntl(handed[i], F_DUPFD_CLOEXEC, 0);
		if (handed[i] >= 0 && *at[i] < 0)
			return err_set(err, -errno, "cannot duplicate a descriptor: %s", strerror(errno));
	}
	if (!strncmp(t, "socket:", 7) && !(c->socket_path = strdup(t + 7)))
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

/* It is ours alone from now on. */
static void console_begin_handed(struct console *c)
{
	bool has_client = c->in_fd >= 0;
	struct err err = ERR_INIT;
	int r = console_watch(c, &err);

	c->is_handed = false;
	if (!r && c->listen_fd >= 0)
		r = loop_fd_add(c->loop, &c->listener, c->listen_fd, has_client ? 0 : LOOP_IN, console_accept);
	if (r < 0)
		log_error("the console that was taken over is dead: %s", err.code ? err.msg : strerror(-r));
	if (c->listen_fd >= 0)
		console_tell_connected(c, has_client);
}

static int console_open_target(struct console *c, const char *t, struct err *err)
{
	const int *handed = c->cfg.handed;

	c->cfg.handed = NULL;   /* was borrowed for the call */
	if (c->cfg.fd >= 0 && strncmp(t, "file:", 5) && strncmp(t, "socket:", 7))
		return err_set(err, -EINVAL, "a console with the target '%s' takes no descriptor", t);
	if (!strcmp(t, "none"))
		return 0;
	if (handed && strncmp(t, "file:", 5))
		return console_take_handed(c, t, handed, err);
	if (!strcmp(t, "stdio"))
		return console_open_stdio(c, err);
	if (!strcmp(t, "pty"))
		return console_open_pty(c, err);
	if (!strncmp(t, "file:", 5))
		return console_open_file(c, t + 5, err);
	if (!strncmp(t, "socket:", 7))
		return console_open_socket(c, t + 7, err);
	return err_set(err, -EINVAL, "unknown console '%s'", t);
}

int console_open(struct console **out, struct loop *loop, const struct console_config *cfg, struct err *err)
{
	AUTO(console_close) struct console *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "out of memory");
	c->cfg = *cfg;
	c->loop = loop;
	c->in_fd = c->out_fd = c->listen_fd = c->pty_slave_fd = -1;
	pthread_mutex_init(&c->lock, NULL);
	c->out_buf = malloc(OUT_MAX);
	if (!c->out_buf)
		return err_set(err, -ENOMEM, "out of memory");
	int r = console_open_target(c, cfg->target, err);
	if (r < 0)
		return r;
	c->cfg.target = NULL; /* was borrowed for the call */
	*out = take_ptr(&c);
	return 0;
}

/* Nothing leads out of this process any more. */
static void console_shut(struct console *c)
{
	c->cfg.guest.writable = NULL;
	while (c->out_buf && c->out_len && console_write_chunk(c) > 0)
		;
	loop_fd_del(&c->in);
	loop_fd_del(&c->out);
	loop_fd_del(&c->listener);
	if (c->owns_fds) {
		auto_fd(&c->out_fd);
		auto_fd(&c->in_fd);
		auto_fd(&c->listen_fd);
		auto_fd(&c->pty_slave_fd);
	}
	if (c->socket_path && !c->is_handed)
		unlink(c->socket_path);
}

void console_close(struct console *c)
{
	if (!c)
		return;
	console_shut(c);
	free(c->socket_path);
	pthread_mutex_destroy(&c->lock);
	free(c->out_buf);
	free(c);
}

static void console_close_call(void *arg)
{
	console_close(arg);
}

void console_retire(struct console *c)
{
	if (!c)
		return;
	console_shut(c);
	console_forget_name(c);
	c->in_fd = c->out_fd = c->listen_fd = c->pty_slave_fd = -1;
	c->in_len = c->out_len = 0;
	/* Calls that are queued already find nothing to do, and come first. */
	if (loop_call(c->loop, console_close_call, c) < 0)
		log_error("out of memory: what a console used is not given back");
}

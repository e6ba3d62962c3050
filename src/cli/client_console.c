/* SPDX-License-Identifier: Apache-2.0 */
/* client_console.c - a console on this terminal: a WebSocket, whose thread is the main one; keys are read by a thread of their own. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/client_socket.h"

enum { CHUNK = 4096, TYPED_MAX = 64 << 10, KEY_ESCAPE = 1 /* Ctrl-a */, LINGER_MS = 1000 };

struct console {
	struct client_socket *socket;
	bool is_terminal;
	pthread_mutex_t lock;
	char typed[TYPED_MAX];          /* guarded by the lock */
	size_t typed_len;
	unsigned char sent[CLIENT_SOCKET_PRE + CHUNK];  /* of the thread that serves */
	atomic_bool wants_end;
	int stop;                       /* an eventfd: who waits for keys need not any more */
	bool was_escape;                /* of the thread that reads keys */
};

/* --- keys ---------------------------------------------------- */

/* What of KEYS goes to the guest, in place: Ctrl-a x ends, Ctrl-a a is Ctrl-a. */
static size_t filter_keys(struct console *k, char *keys, size_t n)
{
	size_t kept = 0;

	for (size_t i = 0; i < n; i++) {
		if (k->was_escape) {
			k->was_escape = false;
			if (keys[i] == 'x')
				atomic_store(&k->wants_end, true);
			if (keys[i] != 'a' && keys[i] != KEY_ESCAPE)
				continue;
			keys[kept++] = KEY_ESCAPE;
		} else if (keys[i] == KEY_ESCAPE) {
			k->was_escape = true;
		} else {
			keys[kept++] = keys[i];
		}
	}
	return kept;
}

/* What is typed next, as read(2) has it; 0 also when nobody wants it any more. */
static ssize_t wait_keys(const struct console *k, char keys[CHUNK])
{
	struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = k->stop, .events = POLLIN } };

	while (poll(p, 2, -1) < 0 && errno == EINTR)
		continue;
	return p[1].revents ? 0 : read(STDIN_FILENO, keys, CHUNK);
}

static void *read_keys(void *arg)
{
	struct console *k = arg;
	char keys[CHUNK];
	ssize_t n;

	while (!atomic_load(&k->wants_end) && (n = wait_keys(k, keys)) > 0) {
		size_t len = k->is_terminal ? filter_keys(k, keys, (size_t)n) : (size_t)n, done = 0;

		while (done < len && !atomic_load(&k->wants_end)) {
			pthread_mutex_lock(&k->lock);
			size_t room = TYPED_MAX - k->typed_len, now = len - done < room ? len - done : room;

			memcpy(k->typed + k->typed_len, keys + done, now);
			k->typed_len += now;
			pthread_mutex_unlock(&k->lock);
			done += now;
			client_socket_wake(k->socket);
			if (done < len)
				usleep(1000);
		}
		client_socket_wake(k->socket);
	}
	/* The end of a file or pipe: what the guest says to the last of it is shown still. */
	struct pollfd p = { .fd = k->stop, .events = POLLIN };
	(void)poll(&p, 1, LINGER_MS);
	atomic_store(&k->wants_end, true);
	client_socket_wake(k->socket);
	return NULL;
}

/* --- the socket ---------------------------------------------------- */

static size_t writable(void *arg, unsigned char **out)
{
	struct console *k = arg;

	pthread_mutex_lock(&k->lock);
	size_t n = k->typed_len < CHUNK ? k->typed_len : CHUNK;

	memcpy(k->sent + CLIENT_SOCKET_PRE, k->typed, n);
	k->typed_len -= n;
	memmove(k->typed, k->typed + n, k->typed_len);
	if (k->typed_len)
		client_socket_want_write(k->socket);
	pthread_mutex_unlock(&k->lock);
	*out = k->sent + CLIENT_SOCKET_PRE;
	return n;
}

static void show(void *arg, const char *data, size_t len, bool is_last)
{
	(void)arg;
	(void)is_last;
	while (len) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n <= 0 && errno != EINTR)
			return;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

static int serve(struct console *k, const char *name, struct err *err)
{
	AUTO_FD int stop = k->stop = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;
	int r = stop < 0 ? errno : pthread_create(&thread, NULL, read_keys, k);

	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	while (!atomic_load(&k->wants_end) && client_socket_serve(k->socket))
		continue;
	/* It may be waiting for a key: the terminal is given up without it. */
	atomic_store(&k->wants_end, true);
	(void)eventfd_write(k->stop, 1);
	pthread_join(thread, NULL);
	const char *why = client_socket_why(k->socket);

	if (why[0] && client_socket_was_open(k->socket) && k->is_terminal)
		fprintf(stderr, "\r\n%s\r\n", why);
	if (why[0] && !client_socket_was_open(k->socket))
		return err_set(err, -ECONNREFUSED, "the console of '%s' cannot be opened: %s", name, why);
	return 0;
}

int client_console(struct client *cl, const char *name, struct err *err)
{
	static const struct client_socket_ops ops = { .data = show, .writable = writable };
	struct termios before, raw;
	char path[512];

	AUTO(free) struct console *k = calloc(1, sizeof(*k));
	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	AUTO(client_socket_free) struct client_socket *socket = NULL;

	snprintf(path, sizeof(path), "/v1/instances/%s/console?project=%s", name, cl->project);
	pthread_mutex_init(&k->lock, NULL);
	k->is_terminal = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);
	int r = client_socket_open(&socket, cl, path, &ops, k, err);

	if (!r) {
		k->socket = socket;
		if (k->is_terminal) {
			fprintf(stderr, "connected to '%s'; Ctrl-a x leaves\n", name);
			raw = before;
			cfmakeraw(&raw);
			tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
		}
		r = serve(k, name, err);
		if (k->is_terminal)
			tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		if (!r && k->is_terminal)
			fprintf(stderr, "\nleft '%s'\n", name);
	}
	pthread_mutex_destroy(&k->lock);
	return r;
}

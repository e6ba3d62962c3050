/* SPDX-License-Identifier: Apache-2.0 */
/* client_console.c - a console on this terminal: a WebSocket on libwebsockets, whose thread is the main one; keys are
 * read by a thread of their own. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "cli/client.h"
#include "cli/client_priv.h"
#include "cli/hosts.h"

enum { CHUNK = 4096, TYPED_MAX = 64 << 10, KEY_ESCAPE = 1 /* Ctrl-a */, LINGER_MS = 1000 };

/* The library: its callbacks have nothing else to know it by. */
static struct late_lws lws;

struct console {
	struct lws_context *lws;
	struct lws *wsi;
	bool is_open, is_over, is_terminal;
	char why[200];                  /* it could not be opened, or was closed; "" */
	pthread_mutex_t lock;
	char typed[LWS_PRE + TYPED_MAX];        /* guarded by the lock, from LWS_PRE on */
	size_t typed_len;
	atomic_bool wants_end;
	const struct client *client;
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

static void *read_keys(void *arg)
{
	struct console *k = arg;
	char keys[CHUNK];
	ssize_t n;

	while (!atomic_load(&k->wants_end) && (n = read(STDIN_FILENO, keys, sizeof(keys))) > 0) {
		size_t len = k->is_terminal ? filter_keys(k, keys, (size_t)n) : (size_t)n, done = 0;

		while (done < len && !atomic_load(&k->wants_end)) {
			pthread_mutex_lock(&k->lock);
			size_t room = TYPED_MAX - k->typed_len, now = len - done < room ? len - done : room;

			memcpy(k->typed + LWS_PRE + k->typed_len, keys + done, now);
			k->typed_len += now;
			pthread_mutex_unlock(&k->lock);
			done += now;
			lws.cancel_service(k->lws);
			if (done < len)
				usleep(1000);
		}
		lws.cancel_service(k->lws);
	}
	/* The end of a file or pipe: what the guest says to the last of it is shown still. */
	usleep(LINGER_MS * 1000);
	atomic_store(&k->wants_end, true);
	lws.cancel_service(k->lws);
	return NULL;
}

/* --- the socket ---------------------------------------------------- */

static int send_keys(struct console *k, struct lws *wsi)
{
	pthread_mutex_lock(&k->lock);
	size_t n = k->typed_len < CHUNK ? k->typed_len : CHUNK;
	int sent = n ? lws.write(wsi, (unsigned char *)k->typed + LWS_PRE, n, LWS_WRITE_BINARY) : 0;

	if (sent >= 0) {
		k->typed_len -= n;
		memmove(k->typed + LWS_PRE, k->typed + LWS_PRE + n, k->typed_len);
	}
	size_t left = k->typed_len;
	pthread_mutex_unlock(&k->lock);
	if (sent >= 0 && left)
		lws.callback_on_writable(wsi);
	return sent < 0 ? -1 : 0;
}

static void show(const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, data, len);

		if (n <= 0 && errno != EINTR)
			return;
		data += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
}

/* Before anything secret goes out: is it the daemon that was here before? Then, who one is. */
static int introduce(const struct console *k, struct lws *wsi, unsigned char **at, unsigned char *end)
{
	const char *pin = json_string_value(json_object_get(k->client->known, "pin"));
	char shown[HOSTS_PIN_LEN] = "";
	AUTO(free) char *value = NULL;

	if (!k->client->url)
		return 0;
	X509 *cert = lws.peer_certificate(lws.get_ssl(wsi));
	bool is_known = !pin || (cert && hosts_pin_of(cert, shown) && !strcmp(shown, pin));

	X509_free(cert);
	if (!is_known || (k->client->token && asprintf(&value, "Bearer %s", k->client->token) < 0))
		return -1;
	return value && lws.add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, (unsigned char *)value,
						     (int)strlen(value), at, end) ? -1 : 0;
}

static int on_socket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct console *k = lws.context_user(lws.get_context(wsi));

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return introduce(k, wsi, in, *(unsigned char **)in + len);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		k->is_open = true;
		lws.callback_on_writable(wsi);
		break;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		show(in, len);
		break;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return send_keys(k, wsi);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		if (len > 2)
			snprintf(k->why, sizeof(k->why), "%.*s", (int)len - 2, (char *)in + 2);
		break;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		snprintf(k->why, sizeof(k->why), "%.*s", in ? (int)len : 7, in ? (char *)in : "refused");
		k->is_over = true;
		break;
	case LWS_CALLBACK_CLIENT_CLOSED:
		k->is_over = true;
		break;
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
		if (k->is_open && !k->is_over)
			lws.callback_on_writable(k->wsi);
		break;
	default:
		break;
	}
	return 0;
}

/* Where the daemon is, for libwebsockets: ADDRESS and I's port and way. */
static void fill_place(struct lws_client_connect_info *i, const struct client *cl, char *address, size_t cap)
{
	const char *host = cl->url ? cl->url + 8 : NULL, *port = host ? strrchr(host, ':') : NULL;

	i->address = i->host = i->origin = address;
	if (!host) {
		snprintf(address, cap, "+%s", cl->socket);
		i->host = i->origin = "viv";
		i->port = 80;
		return;
	}
	bool is_bracketed = host[0] == '[';

	snprintf(address, cap, "%.*s", (int)(port - host) - 2 * is_bracketed, host + is_bracketed);
	i->port = atoi(port + 1);
	i->ssl_connection = LCCSCF_USE_SSL;
	if (json_object_get(cl->known, "pin"))
		i->ssl_connection |= LCCSCF_ALLOW_SELFSIGNED | LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK | LCCSCF_ALLOW_EXPIRED |
				     LCCSCF_ALLOW_INSECURE;
}

static int serve(struct console *k, struct client *cl, const char *name, struct err *err)
{
	char address[256], path[512];
	pthread_t thread;

	snprintf(path, sizeof(path), "/v1/instances/%s/console?project=%s", name, cl->project);
	struct lws_client_connect_info i = { .context = k->lws,
					     .path = path,
					     .protocol = NULL,
					     .local_protocol_name = "console",
					     .pwsi = &k->wsi };

	fill_place(&i, cl, address, sizeof(address));
	if (!lws.client_connect_via_info(&i) && !k->is_over)
		return err_set(err, -ECONNREFUSED, "cannot reach '%s'", cl->url ? cl->url : cl->socket);
	int r = pthread_create(&thread, NULL, read_keys, k);
	if (r)
		return err_set(err, -r, "cannot start a thread: %s", strerror(r));
	while (!k->is_over && !atomic_load(&k->wants_end) && lws.service(k->lws, 0) >= 0)
		continue;
	/* It may be waiting for a key: the terminal is given up without it. */
	atomic_store(&k->wants_end, true);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	if (k->why[0] && k->is_open && k->is_terminal)
		fprintf(stderr, "\r\n%s\r\n", k->why);
	if (k->why[0] && !k->is_open)
		return err_set(err, -ECONNREFUSED, "the console of '%s' cannot be opened: %s", name, k->why);
	return 0;
}

int client_console(struct client *cl, const char *name, struct err *err)
{
	static const struct lws_protocols protocols[] = { { .name = "console", .callback = on_socket },
							  { .name = NULL } };
	struct termios before, raw;
	int r = late_lws_load(&lws, err);

	if (r < 0)
		return r;
	struct console *k = calloc(1, sizeof(*k));
	if (!k)
		return err_set(err, -ENOMEM, "out of memory");
	lws.set_log_level(0, NULL);
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .user = k, .gid = -1, .uid = -1,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
	};

	k->client = cl;
	pthread_mutex_init(&k->lock, NULL);
	k->lws = lws.create_context(&info);
	k->is_terminal = isatty(STDIN_FILENO) && !tcgetattr(STDIN_FILENO, &before);
	if (!k->lws) {
		r = err_set(err, -ENOMEM, "cannot set up libwebsockets");
	} else {
		if (k->is_terminal) {
			fprintf(stderr, "connected to '%s'; Ctrl-a x leaves\n", name);
			raw = before;
			cfmakeraw(&raw);
			tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
		}
		r = serve(k, cl, name, err);
		lws.context_destroy(k->lws);
		if (k->is_terminal)
			tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
		if (!r && k->is_terminal)
			fprintf(stderr, "\nleft '%s'\n", name);
	}
	pthread_mutex_destroy(&k->lock);
	free(k);
	return r;
}

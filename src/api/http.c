/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - the server: listening, the service thread, and receiving requests. */
#include "api/http_priv.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "util/checked.h"
#include "util/err.h"
#include "util/log.h"
#include "util/loop.h"

/* --- between the threads ------------------------------------------------------------------------------ */

bool http_post(struct http_server *s, struct http_post *p)
{
	pthread_mutex_lock(&s->lock);
	bool is_new = !p->is_queued;

	if (is_new) {
		p->is_queued = true;
		p->next = NULL;
		*s->posts_end = p;
		s->posts_end = &p->next;
	}
	pthread_mutex_unlock(&s->lock);
	if (s->lws)
		lws_cancel_service(s->lws);
	return is_new;
}

static struct http_post *take_post(struct http_server *s)
{
	pthread_mutex_lock(&s->lock);
	struct http_post *p = s->posts;

	if (p) {
		s->posts = p->next;
		if (!s->posts)
			s->posts_end = &s->posts;
		p->is_queued = false;
	}
	pthread_mutex_unlock(&s->lock);
	return p;
}

static void run_posts(struct http_server *s)
{
	for (struct http_post *p; (p = take_post(s));)
		p->run(p);
}

void http_alive(struct http_server *s, int by)
{
	pthread_mutex_lock(&s->lock);
	s->n_alive = (unsigned)((int)s->n_alive + by);
	pthread_mutex_unlock(&s->lock);
}

/* --- libwebsockets' callback: service thread ------------------------------------------------------------------- */

static bool begin_socket(struct http_conn *c, struct http_server *s, struct lws *wsi)
{
	struct http_request *rq = http_request_new(s, wsi);

	if (!rq)
		return false;
	rq->wants_socket = true;
	c->ws = http_socket_new(rq);
	if (c->ws)
		return true;
	http_request_free(rq);
	return false;
}

/* Strangers can make connections by TCP alone. With many of them they keep out each other, and not who comes by the Unix socket. */
static bool is_tcp(const struct http_server *s, struct lws *wsi)
{
	const struct lws_vhost *v = lws_get_vhost(wsi);

	for (unsigned i = 0; i < s->n_vhosts; i++)
		if (s->vhosts[i] == v)
			return s->names[i] && !strncmp(s->names[i], "tcp", 3);
	return false;
}

static int service(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct http_conn *c = user;
	struct http_server *s = lws_context_user(lws_get_context(wsi));
	bool ok = true;

	switch (reason) {
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
		run_posts(s);
		break;
	case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS:
		/* A listener is being made, before the thread is started: what its connections will be made from. */
		if (s->n_tls < s->n_listen)
			s->tls[s->n_tls++] = user;
		break;
	case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
		ok = !is_tcp(s, wsi) || s->n_tcp < HTTP_TCP_MAX;
		break;
	case LWS_CALLBACK_WSI_CREATE:
		s->n_tcp += is_tcp(s, wsi);
		break;
	case LWS_CALLBACK_WSI_DESTROY:
		s->n_tcp -= s->n_tcp && is_tcp(s, wsi);
		break;
	case LWS_CALLBACK_HTTP:
		ok = http_begin_request(c, s, wsi);
		break;
	case LWS_CALLBACK_HTTP_BODY:
		ok = http_body_part(c->rq, in, len);
		break;
	case LWS_CALLBACK_HTTP_BODY_COMPLETION:
		ok = http_body_end(c->rq);
		break;
	case LWS_CALLBACK_HTTP_WRITEABLE:
		ok = !http_reply_write(c, wsi);
		break;
	case LWS_CALLBACK_CLOSED_HTTP:
	case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
		if (c)
			http_client_gone(c);
		break;
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
		ok = begin_socket(c, s, wsi);
		break;
	case LWS_CALLBACK_ESTABLISHED:
		lws_callback_on_writable(wsi);
		break;
	case LWS_CALLBACK_RECEIVE:
		ok = c->ws && http_socket_received(c->ws, wsi, in, len);
		break;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		ok = c->ws && http_socket_write(c->ws, wsi);
		break;
	case LWS_CALLBACK_CLOSED:
	case LWS_CALLBACK_WS_SERVER_DROP_PROTOCOL:
		if (c && c->ws)
			http_socket_gone(c->ws);
		if (c)
			c->ws = NULL;
		break;
	default:
		return lws_callback_http_dummy(wsi, reason, user, in, len);
	}
	return ok ? 0 : -1;
}

/* --- the server: loop thread -------------------------------------------------------------------------------------- */

static void *service_thread(void *arg)
{
	struct http_server *s = arg;
	bool is_closing = false;

	while (!is_closing && lws_service(s->lws, 0) >= 0) {
		pthread_mutex_lock(&s->lock);
		is_closing = s->is_closing;
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

static void emit_log(int level, const char *line)
{
	log_debug("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

static const struct lws_protocols protocols[] = {
	{ .name = "viv", .callback = service, .per_session_data_size = sizeof(struct http_conn), .rx_buffer_size = HTTP_CHUNK },
	{ .name = NULL },
};

enum { STALE_TRIES = 100, STALE_WAIT_US = 20000 };

/* A socket file that nobody listens on any more. */
static void remove_stale(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct stat st;
	AUTO_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || lstat(path, &st) < 0 || !S_ISSOCK(st.st_mode) || strlen(path) >= sizeof(sa.sun_path))
		return;
	strcpy(sa.sun_path, path);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 && errno == ECONNREFUSED)
		unlink(path);
}

static int listen_unix(struct http_server *s, const struct http_listen *l, struct err *err)
{
	struct lws_context_creation_info info = { .options = LWS_SERVER_OPTION_UNIX_SOCK, .protocols = protocols };
	struct sockaddr_un sa;

	if (l->fd > 0) {
		int r = http_adopt_listener(s, l->fd, protocols, err);

		s->vhosts[s->n_vhosts] = s->adopting;
		s->n_vhosts += r >= 0;
		return r;
	}
	if (strlen(l->unix_path) >= sizeof(sa.sun_path))
		return err_set(err, -EINVAL, "the socket path '%s' is too long: at most %zu bytes", l->unix_path,
			       sizeof(sa.sun_path) - 1);
	/* A process that a server which was killed was just starting has the socket until it becomes its own program. */
	for (unsigned i = 0; i < STALE_TRIES; i++) {
		remove_stale(l->unix_path);
		if (access(l->unix_path, F_OK) < 0)
			break;
		usleep(STALE_WAIT_US);
	}
	if (!access(l->unix_path, F_OK))
		return err_set(err, -EADDRINUSE, "'%s' is in use by another process", l->unix_path);
	info.iface = info.vhost_name = s->names[s->n_vhosts] = strdup(l->unix_path);
	if (!info.iface)
		return err_set(err, -ENOMEM, "out of memory");
	/* The mode must hold from the first moment on. */
	mode_t mask = umask(0777 & ~l->mode);

	s->vhosts[s->n_vhosts] = lws_create_vhost(s->lws, &info);
	umask(mask);
	if (!s->vhosts[s->n_vhosts] || chmod(l->unix_path, l->mode) < 0)
		return err_set(err, -EACCES, "cannot listen on '%s': %s", l->unix_path, strerror(errno));
	s->unix_paths[s->n_vhosts++] = strdup(l->unix_path);
	return 0;
}

static int listen_tcp(struct http_server *s, const struct http_listen *l, struct err *err)
{
	unsigned n = s->n_vhosts;

	s->addresses[n] = l->address ? strdup(l->address) : NULL;
	if (asprintf(&s->names[n], "tcp%u", n) < 0 || (l->address && !s->addresses[n]))
		return err_set(err, -ENOMEM, "out of memory");
	struct lws_context_creation_info info = {
		.port = l->port, .iface = s->addresses[n], .protocols = protocols, .vhost_name = s->names[n],
		.options = LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND,
		/* libwebsockets 4.1 drops headers that it does not know, ours among them, when they come by HTTP/2. */
		.alpn = "http/1.1",
	};

	if (!l->address || !strchr(l->address, ':'))
		info.options |= LWS_SERVER_OPTION_DISABLE_IPV6;

	if (l->cert) {
		if (access(l->cert, R_OK) < 0 || access(l->key, R_OK) < 0)
			return err_set(err, -EINVAL, "cannot read the certificate '%s' or its key '%s': %s", l->cert, l->key,
				       strerror(errno));
		info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
		info.ssl_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_RENEGOTIATION;
		info.ssl_cert_filepath = l->cert;
		info.ssl_private_key_filepath = l->key;
	}
	s->vhosts[s->n_vhosts] = lws_create_vhost(s->lws, &info);
	if (!s->vhosts[s->n_vhosts])
		return err_set(err, -EADDRINUSE, "cannot listen on port %u%s: it is in use, not permitted, or the certificate '%s' "
			       "is not valid", l->port, l->address ? " of that address" : "", l->cert ? l->cert : "(none)");
	s->n_vhosts++;
	return 0;
}

/* What is longer is cut off there, and refused by http_request.c: without this the connection would end without an answer. */
static void limit_tokens(struct lws_token_limits *limits)
{
	static const enum lws_token_indexes targets[] = {
		WSI_TOKEN_GET_URI, WSI_TOKEN_POST_URI, WSI_TOKEN_OPTIONS_URI, WSI_TOKEN_PATCH_URI, WSI_TOKEN_PUT_URI, WSI_TOKEN_DELETE_URI,
		WSI_TOKEN_HEAD_URI, WSI_TOKEN_HTTP_URI_ARGS,
	};

	for (unsigned i = 0; i < ARRAY_LEN(limits->token_limit); i++)
		limits->token_limit[i] = HTTP_HEADERS_MAX;
	for (unsigned i = 0; i < ARRAY_LEN(targets); i++)
		limits->token_limit[targets[i]] = HTTP_TARGET_MAX;
}

static int make_context(struct http_server *s, struct err *err)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN, .user = s, .gid = (gid_t)-1, .uid = (uid_t)-1,
		.max_http_header_data = HTTP_HEADERS_TAKEN, .token_limits = &s->limits, .max_http_header_pool = HTTP_CONNECTIONS_MAX,
		.fd_limit_per_thread = HTTP_CONNECTIONS_MAX, .timeout_secs = HTTP_IDLE_SECONDS,
		.keepalive_timeout = HTTP_IDLE_SECONDS, .ka_time = 60, .ka_probes = 3, .ka_interval = 10,
		.pt_serv_buf_size = HTTP_CHUNK,
		.options = LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
	};

	limit_tokens(&s->limits);
	lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
	s->lws = lws_create_context(&info);
	return s->lws ? 0 : err_set(err, -ENOMEM, "cannot set up the HTTP server");
}

int http_open(struct http_server **out, const struct http_config *c, struct err *err)
{
	struct http_server *fresh = calloc(1, sizeof(*fresh));

	if (!fresh)
		return err_set(err, -ENOMEM, "out of memory");
	fresh->loop = c->loop;
	fresh->arg = c->arg;
	fresh->request = c->request;
	fresh->posts_end = &fresh->posts;
	pthread_mutex_init(&fresh->lock, NULL);
	AUTO(http_close) struct http_server *s = fresh;

	s->n_listen = c->n_listen;
	s->vhosts = calloc(c->n_listen, sizeof(struct lws_vhost *));
	s->tls = calloc(c->n_listen, sizeof(SSL_CTX *));
	s->unix_paths = calloc(c->n_listen, sizeof(char *));
	s->names = calloc(c->n_listen, sizeof(char *));
	s->addresses = calloc(c->n_listen, sizeof(char *));
	if (!s->vhosts || !s->tls || !s->unix_paths || !s->names || !s->addresses)
		return err_set(err, -ENOMEM, "out of memory");
	int r = make_context(s, err);

	for (unsigned i = 0; i < c->n_listen && r >= 0; i++)
		r = c->listen[i].unix_path ? listen_unix(s, &c->listen[i], err) : listen_tcp(s, &c->listen[i], err);
	if (r < 0)
		return r;
	r = pthread_create(&s->thread, NULL, service_thread, s);
	if (r)
		return err_set(err, -r, "cannot start the HTTP thread: %s", strerror(r));
	s->has_thread = true;
	*out = take_ptr(&s);
	return 0;
}

uint16_t http_port(const struct http_server *s, unsigned n)
{
	return n < s->n_vhosts ? (uint16_t)lws_get_vhost_listen_port(s->vhosts[n]) : 0;
}

void http_close(struct http_server *s)
{
	if (!s)
		return;
	loop_fd_del(&s->adopted);
	if (s->adopting)
		loop_timer_cancel(&s->adopt_again);
	if (s->has_thread) {
		pthread_mutex_lock(&s->lock);
		s->is_closing = true;
		pthread_mutex_unlock(&s->lock);
		lws_cancel_service(s->lws);
		pthread_join(s->thread, NULL);
	}
	/* From here on this thread is both. Destroying drops all connections; what they had at the loop comes
	 * back through the posts. */
	if (s->lws)
		lws_context_destroy(s->lws);
	s->lws = NULL;
	while (s->n_alive) {
		run_posts(s);
		if (s->n_alive)
			loop_run_once(s->loop, 20);
	}
	for (unsigned i = 0; i < s->n_vhosts; i++) {
		if (s->unix_paths[i])
			unlink(s->unix_paths[i]);
		free(s->unix_paths[i]);
	}
	for (unsigned i = 0; i < s->n_listen && s->names && s->addresses; i++) {
		free(s->names[i]);
		free(s->addresses[i]);
	}
	free(s->names);
	free(s->addresses);
	free(s->unix_paths);
	free(s->vhosts);
	free(s->tls);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

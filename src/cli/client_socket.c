/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/client_priv.h"
#include "cli/hosts.h"
#include "util/err.h"

/* The library: its callbacks have nothing else to know it by. */
static struct late_lws lws;

struct client_socket {
	struct lws_context *lws;
	struct lws *wsi;
	const struct client *client;
	const struct client_socket_ops *ops;
	void *arg;
	bool is_open, is_over;
	unsigned code;                  /* that it was closed with; 0 */
	char why[200];                  /* it could not be opened, or was closed; "" */
};

/* Before anything secret goes out: is it the daemon that was here before? Then, who one is. */
static int introduce(const struct client_socket *s, struct lws *wsi, unsigned char **at, unsigned char *end)
{
	const char *pin = json_string_value(json_object_get(s->client->known, "pin"));
	char shown[HOSTS_PIN_LEN] = "";
	AUTO(free) char *value = NULL;

	if (!s->client->url)
		return 0;
	X509 *cert = lws.peer_certificate(lws.get_ssl(wsi));
	bool is_known = !pin || (cert && hosts_pin_of(cert, shown) && !strcmp(shown, pin));

	X509_free(cert);
	if (!is_known || (s->client->token && asprintf(&value, "Bearer %s", s->client->token) < 0))
		return -1;
	return value && lws.add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, (unsigned char *)value,
						     (int)strlen(value), at, end) ? -1 : 0;
}

static int write_some(struct client_socket *s, struct lws *wsi)
{
	unsigned char *data = NULL;
	size_t n = s->ops->writable ? s->ops->writable(s->arg, &data) : 0;

	return n && lws.write(wsi, data, n, LWS_WRITE_BINARY) < 0 ? -1 : 0;
}

static int on_socket(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct client_socket *s = lws.context_user(lws.get_context(wsi));

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return introduce(s, wsi, in, *(unsigned char **)in + len);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		s->is_open = true;
		lws.callback_on_writable(wsi);
		break;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		s->ops->data(s->arg, in, len, lws.is_final_fragment(wsi));
		break;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return write_some(s, wsi);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		if (len >= 2)
			s->code = (unsigned)((unsigned char *)in)[0] << 8 | ((unsigned char *)in)[1];
		if (len > 2)
			snprintf(s->why, sizeof(s->why), "%.*s", (int)len - 2, (char *)in + 2);
		break;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		snprintf(s->why, sizeof(s->why), "%.*s", in ? (int)len : 7, in ? (char *)in : "refused");
		s->is_over = true;
		break;
	case LWS_CALLBACK_CLIENT_CLOSED:
		s->is_over = true;
		break;
	case LWS_CALLBACK_EVENT_WAIT_CANCELLED:
		if (s->is_open && !s->is_over)
			lws.callback_on_writable(s->wsi);
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

int client_socket_open(struct client_socket **out, const struct client *cl, const char *path, const struct client_socket_ops *ops,
		       void *arg, struct err *err)
{
	static const struct lws_protocols protocols[] = { { .name = "viv", .callback = on_socket }, { .name = NULL } };
	int r = late_lws_load(&lws, err);

	if (r < 0)
		return r;
	AUTO(client_socket_free) struct client_socket *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	lws.set_log_level(0, NULL);
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .user = s, .gid = -1, .uid = -1,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
	};

	s->client = cl;
	s->ops = ops;
	s->arg = arg;
	s->lws = lws.create_context(&info);
	if (!s->lws)
		return err_set(err, -ENOMEM, "cannot set up libwebsockets");
	char address[256];
	struct lws_client_connect_info i = { .context = s->lws, .path = path, .local_protocol_name = "viv", .pwsi = &s->wsi };

	fill_place(&i, cl, address, sizeof(address));
	if (!lws.client_connect_via_info(&i) && !s->is_over)
		return err_set(err, -ECONNREFUSED, "cannot reach '%s'", cl->url ? cl->url : cl->socket);
	*out = take_ptr(&s);
	return 0;
}

void client_socket_free(struct client_socket *s)
{
	if (s && s->lws)
		lws.context_destroy(s->lws);
	free(s);
}

bool client_socket_serve(struct client_socket *s)
{
	return !s->is_over && lws.service(s->lws, 0) >= 0 && !s->is_over;
}

void client_socket_wake(struct client_socket *s)
{
	lws.cancel_service(s->lws);
}

void client_socket_want_write(struct client_socket *s)
{
	lws.callback_on_writable(s->wsi);
}

bool client_socket_was_open(const struct client_socket *s)
{
	return s->is_open;
}

unsigned client_socket_code(const struct client_socket *s)
{
	return s->code;
}

const char *client_socket_why(const struct client_socket *s)
{
	return s->why;
}

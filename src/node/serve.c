/* SPDX-License-Identifier: Apache-2.0 */
#include "node/serve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "api/http.h"
#include "api/route.h"
#include "node/auth.h"
#include "node/certificate.h"
#include "node/node.h"
#include "node/routes.h"
#include "node/ui.h"
#include "util/err.h"
#include "util/log.h"
#include "util/str.h"

enum { PORT = 8443, ADDRESS_LEN = 64 };

static bool is_address(const char *text)
{
	unsigned char bin[sizeof(struct in6_addr)];

	return !text[0] || inet_pton(AF_INET, text, bin) == 1 || inet_pton(AF_INET6, text, bin) == 1;
}

int serve_parse(const char *url, char *address, size_t cap, uint16_t *port, struct err *err)
{
	const char *at = url + 8;
	uint64_t number = PORT;

	if (strncmp(url, "https://", 8) != 0)
		return err_set(err, -EINVAL, "'%s' is no place to listen at: it has to be like https://127.0.0.1:8443", url);
	bool is_bracketed = *at == '[';
	size_t len = is_bracketed ? strcspn(++at, "]") : strcspn(at, ":");
	const char *rest = at + len + (is_bracketed && at[len] == ']');

	snprintf(address, cap, "%.*s", !strncmp(at, "*", len) ? 0 : (int)len, at);
	if (len >= cap || !is_address(address) || (is_bracketed && at[len] != ']'))
		return err_set(err, -EINVAL, "'%.*s' is no address; it has to be numeric, or '*' for all", (int)len, at);
	if ((*rest && *rest != ':') || (*rest && (str_parse_u64(&number, rest + 1, NULL) < 0 || number > UINT16_MAX)))
		return err_set(err, -EINVAL, "'%s' has no valid port", url);
	*port = (uint16_t)number;
	return 0;
}

/* The Unix socket is this user's, or also the group's. */
static int share_socket(struct node *n, const char *path, struct err *err)
{
	int gid = auth_socket_group(n->auth);

	if (gid < 0)
		return 0;
	if (chown(n->run_dir, (uid_t)-1, (gid_t)gid) < 0 || chmod(n->run_dir, 0710) < 0 ||
	    chown(path, (uid_t)-1, (gid_t)gid) < 0 || chmod(path, 0660) < 0)
		return err_set(err, -errno, "cannot share '%s' with group %d: %s", path, gid, strerror(errno));
	return 0;
}

/* Pages of the web console, and the API. */
static void on_request(void *arg, struct http_request *rq)
{
	struct node *n = arg;

	if (!ui_answer(n->ui, rq))
		api_request(n->api, rq);
}

int serve_open(struct node *n, const struct node_config *c, struct err *err)
{
	AUTO(free) char *path = node_path(n->run_dir, "api.sock");
	char address[NODE_LISTEN_MAX][ADDRESS_LEN];
	struct http_listen listen[NODE_LISTEN_MAX + 1] = { { .unix_path = path, .mode = 0600, .fd = n->listener } };
	int r = 0;

	n->api = calloc(1, sizeof(*n->api));
	if (!path || !n->api)
		return err_set(err, -ENOMEM, "out of memory");
	*n->api = node_api;
	n->api->arg = n;
	for (unsigned i = 0; !r && i < c->n_listen; i++) {
		struct http_listen *l = &listen[i + 1];

		r = serve_parse(c->listen[i], address[i], ADDRESS_LEN, &l->port, err);
		if (!r && !n->certificate)
			r = certificate_open(&n->certificate, n, c->cert, c->key, address[i][0] ? address[i] : NULL, err);
		if (!r)
			*l = (struct http_listen){ .address = address[i][0] ? address[i] : NULL, .port = l->port,
						   .cert = certificate_file(n->certificate),
						   .key = certificate_key_file(n->certificate) };
		n->listen[i] = strdup(c->listen[i]);
	}
	if (r < 0)
		return r;
	struct http_config h = { .loop = n->loop, .listen = listen, .n_listen = c->n_listen + 1, .arg = n,
				 .request = on_request };
	n->n_listen = c->n_listen;
	r = http_open(&n->http, &h, err);
	if (!r && n->certificate)
		certificate_start(n->certificate);
	return r < 0 ? r : share_socket(n, path, err);
}

const char *serve_url(const struct node *n, unsigned i, char *buf, size_t cap)
{
	char address[ADDRESS_LEN];
	uint16_t port;

	if (i >= n->n_listen || serve_parse(n->listen[i], address, sizeof(address), &port, NULL) < 0)
		return NULL;
	bool is_six = strchr(address, ':') != NULL;

	snprintf(buf, cap, "https://%s%s%s:%u", is_six ? "[" : "", address[0] ? address : "0.0.0.0", is_six ? "]" : "",
		 http_port(n->http, i + 1));
	return buf;
}
